/* Goal: a console lives no longer than the right to it. Method: upgraded connections to
 * the real server, whose tokens and roles are taken away. */
#include "http_fixture.h"

#include <poll.h>

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

static void hold(struct served *server, void *context)
{
    (void)context;
    served_knobs(server)->hold_consoles = true;
}

/* Its host has not answered yet, and never will: its handler was told to stop. */
static void assert_refused_unopened(void)
{
    served_token(served, "ana", "ana", ROLE_OPERATOR, "default", 0);
    served_do(served, hold, NULL);
    int ana = console_open("Authorization: Bearer ana\r\nConnection: close\r\n");
    await_counted(served_held_consoles, 1);
    ck_assert_int_eq(ask("DELETE", "/v1/tokens/ana", "", NULL), 200);
    char *text = hear(ana, "taken away");
    ck_assert_contains(text, "HTTP/1.1 401 ");
    free(text);
    (void)close(ana);
}

START_TEST(a_console_that_was_not_opened_yet_is_refused_with_its_token)
{
    assert_refused_unopened();
}
END_TEST

/* It may write, and read nothing of what it is answered. */
START_TEST(a_console_that_is_not_read_ends_with_its_token)
{
    static char block[16384];
    struct pollfd end = {.events = 0}; /* only that the other side has gone */
    served_token(served, "ana", "ana", ROLE_OPERATOR, "default", 0);
    int ana = console_shown("Authorization: Bearer ana\r\n");
    memset(block, 'x', sizeof(block));
    for (unsigned i = 0; i < 64; i++) { /* more comes back than the sockets hold */
        ck_assert(say_bytes(ana, block, sizeof(block)));
    }
    ck_assert_int_eq(ask("DELETE", "/v1/tokens/ana", "", NULL), 200);
    end.fd = ana;
    ck_assert_int_eq(poll(&end, 1, REPLY_MS), 1);
    (void)close(ana);
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

START_TEST(one_that_another_host_asks_for_is_refused_likewise)
{
    assert_refused_unopened();
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
    tcase_add_test(tests, a_console_that_was_not_opened_yet_is_refused_with_its_token);
    tcase_add_test(tests, a_console_that_is_not_read_ends_with_its_token);
    tcase_add_test(tests, one_token_cannot_open_every_console);
    tcase_set_timeout(tests, 300);
    suite_add_tcase(suite, tests);
    tcase_add_checked_fixture(front, front_start, fixture_stop);
    tcase_add_test(front, a_console_through_another_host_ends_with_its_token);
    tcase_add_test(front, one_that_another_host_asks_for_is_refused_likewise);
    tcase_set_timeout(front, 300);
    suite_add_tcase(suite, front);
    return test_main_run(suite);
}
