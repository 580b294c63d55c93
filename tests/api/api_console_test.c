/* Goal: a console lives no longer than the right to it. Method: upgraded connections to
 * the real server, whose tokens and roles are taken away. */
#include "http_fixture.h"

#define CONSOLE                                                            \
    "GET /v1/tenants/default/vms/vm-00000/console HTTP/1.1\r\nHost: x\r\n" \
    "Connection: Upgrade\r\nUpgrade: berth-console\r\n"

static void console_start(void)
{
    fixture_start();
    served_vms(served, "vm", 1);
}

static void front_start(void)
{
    fixture_start_with(&(struct served_config){.front = true});
    served_vms(served, "vm", 1);
}

static int console_open(const char *authorization)
{
    int fd = connect_local();
    ck_assert(say(fd, CONSOLE));
    ck_assert(say(fd, authorization));
    ck_assert(say(fd, "\r\n"));
    return fd;
}

static int console_shown(const char *authorization)
{
    int fd = console_open(authorization);
    free(hear(fd, "login: "));
    return fd;
}

static void end_heard(int fd)
{
    free(hear(fd, NULL)); /* fails when the end does not come */
    (void)close(fd);
}

START_TEST(a_console_ends_with_its_token_and_others_go_on)
{
    served_token(served, "ana", "ana", ROLE_OPERATOR, "default", 0);
    served_token(served, "bob", "bob", ROLE_OPERATOR, "default", 0);
    int ana = console_shown("Authorization: Bearer ana\r\n");
    int bob = console_shown("Authorization: Bearer bob\r\n");
    int root = console_shown("");

    ck_assert_int_eq(ask("DELETE", "/v1/tokens/ana", "", NULL), 200);
    end_heard(ana);
    ck_assert(say(bob, "still"));
    free(hear(bob, "<still>"));
    ck_assert(say(root, "still"));
    free(hear(root, "<still>"));
    (void)close(bob);
    (void)close(root);
}
END_TEST

START_TEST(a_console_ends_with_the_role_that_opened_it)
{
    ck_assert_int_eq(ask("PUT", "/v1/tenants/shop", "",
                         "{\"apiVersion\":\"berth/v1\",\"kind\":\"Tenant\",\"metadata\":"
                         "{\"name\":\"shop\"}}"),
                     200);
    served_token(served, "ana", "ana", ROLE_OPERATOR, "shop", 0);
    ck_assert_int_eq(
        ask("PUT", "/v1/tenants/default", "",
            "{\"apiVersion\":\"berth/v1\",\"kind\":\"Tenant\",\"metadata\":{\"name\":"
            "\"default\"},\"spec\":{\"members\":[{\"subject\":\"token:ana\",\"role\":"
            "\"operator\"}]}}"),
        200);
    int ana = console_shown("Authorization: Bearer ana\r\n");

    ck_assert_int_eq(ask("PUT", "/v1/tenants/default", "",
                         "{\"apiVersion\":\"berth/v1\",\"kind\":\"Tenant\",\"metadata\":"
                         "{\"name\":\"default\"}}"),
                     200);
    end_heard(ana);
}
END_TEST

START_TEST(one_token_cannot_open_every_console)
{
    enum { SHARE = 64 };
    int fds[SHARE];
    served_token(served, "ana", "ana", ROLE_OPERATOR, "default", 0);
    for (unsigned i = 0; i < SHARE; i++) {
        fds[i] = console_shown("Authorization: Bearer ana\r\n");
    }
    int more = console_open("Authorization: Bearer ana\r\n");
    char *text = hear(more, "64 consoles");
    ck_assert_contains(text, "HTTP/1.1 429 ");
    ck_assert_contains(text, "Retry-After: ");
    free(text);
    (void)close(more);
    (void)close(console_shown("")); /* others may */
    for (unsigned i = 0; i < SHARE; i++) {
        (void)close(fds[i]);
    }
}
END_TEST

START_TEST(a_console_through_another_host_ends_with_its_token)
{
    served_token(served, "ana", "ana", ROLE_OPERATOR, "default", 0);
    int ana = console_shown("Authorization: Bearer ana\r\n");

    ck_assert_int_eq(ask("DELETE", "/v1/tokens/ana", "", NULL), 200);
    end_heard(ana);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("api_console");
    TCase *tests = tcase_create("api_console");
    TCase *front = tcase_create("front");
    tcase_add_checked_fixture(tests, console_start, fixture_stop);
    tcase_add_test(tests, a_console_ends_with_its_token_and_others_go_on);
    tcase_add_test(tests, a_console_ends_with_the_role_that_opened_it);
    tcase_add_test(tests, one_token_cannot_open_every_console);
    tcase_set_timeout(tests, 300);
    suite_add_tcase(suite, tests);
    tcase_add_checked_fixture(front, front_start, fixture_stop);
    tcase_add_test(front, a_console_through_another_host_ends_with_its_token);
    tcase_set_timeout(front, 300);
    suite_add_tcase(suite, front);
    return test_main_run(suite);
}
