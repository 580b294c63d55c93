/* Goal: after an upgrade bytes pass both ways as they are, until either side ends it. */
#include "http_fixture.h"

#define CONSOLE                                                            \
    "GET /v1/tenants/default/vms/vm-00000/console HTTP/1.1\r\nHost: x\r\n" \
    "Connection: Upgrade\r\nUpgrade: berth-console\r\n"

static void tunnel_start(void)
{
    fixture_start();
    served_vms(served, "vm", 1);
}

static int console_open(const char *more)
{
    int fd = connect_local();
    ck_assert(say(fd, CONSOLE));
    ck_assert(say(fd, more));
    return fd;
}

START_TEST(bytes_pass_both_ways_and_the_end_ends_it)
{
    int fd = console_open("\r\n");
    char *text = hear(fd, "login: ");
    ck_assert_contains(text, "HTTP/1.1 101 ");
    ck_assert_contains(text, "Upgrade: berth-console");
    free(text);
    ck_assert(say(fd, "root"));
    text = hear(fd, "<root>");
    ck_assert_str_eq(text, "<root>"); /* nothing but the bytes */
    free(text);
    ck_assert(say_bytes(fd, "\0\xff\r\n", 4));
    free(hear(fd, "<"));
    ck_assert(say(fd, "\004")); /* this console ends at a Ctrl-D */
    free(hear(fd, NULL));
    (void)close(fd);
}
END_TEST

START_TEST(what_comes_with_the_request_is_not_lost)
{
    int fd = console_open("\r\nearly bird");
    free(hear(fd, "<early bird>"));
    (void)close(fd);
}
END_TEST

START_TEST(without_an_upgrade_there_is_the_text)
{
    ck_assert_int_eq(get("/v1/tenants/default/vms/vm-00000/console"), 200);
    ck_assert_str_eq(reply.body, "boot\r\nlogin: ");
    ck_assert_int_eq(ask("GET", "/v1/tenants/default/vms/vm-00000/console",
                         "Connection: Upgrade\r\nUpgrade: websocket\r\n", NULL),
                     200);
    ck_assert_int_eq(get("/v1/tenants/default/vms/none/console"), 404);
    ck_assert_int_eq(ask("HEAD", "/v1/tenants/default/vms/vm-00000/console", "", NULL),
                     405);
}
END_TEST

START_TEST(an_upgrade_of_something_else_is_an_ordinary_answer)
{
    int fd = connect_local();
    ck_assert(say(fd, "GET /v1/hosts/h1 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n"
                      "Upgrade: berth-console\r\n\r\n"));
    char *text = hear(fd, "\"h1\"");
    ck_assert_contains(text, "HTTP/1.1 200 ");
    free(text);
    (void)close(fd);
}
END_TEST

START_TEST(a_client_that_leaves_ends_the_other_side)
{
    for (unsigned i = 0; i < 20; i++) {
        int fd = console_open("\r\n");
        if (i % 2 == 0) {
            free(hear(fd, "login: "));
            ck_assert(say(fd, "x"));
        }
        (void)close(fd);
    }
    int fd = console_open("\r\n");
    free(hear(fd, "login: "));
    (void)close(fd);
    ck_assert_int_eq(get("/healthz"), 200);
}
END_TEST

/* A console whose client writes on and never reads what it is answered. */
static int console_stalled(void)
{
    static char block[16384];
    int fd = console_open("\r\n");
    struct timeval patience = {.tv_sec = 1};
    memset(block, 'x', sizeof(block));
    free(hear(fd, "login: "));
    ck_assert_int_eq(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)),
                     0);
    for (unsigned i = 0; i < 400; i++) {
        if (send(fd, block, sizeof(block), MSG_NOSIGNAL) < 0) {
            break;
        }
    }
    return fd;
}

START_TEST(a_client_that_only_writes_is_held_no_more_than_the_queue)
{
    int fd = console_stalled();
    ck_assert_int_eq(get("/healthz"), 200);
    (void)close(fd);
}
END_TEST

START_TEST(a_client_that_does_not_read_does_not_keep_the_server_from_ending)
{
    int fd = console_stalled();
    fixture_stop(); /* does not return while the tunnel lives */
    (void)close(fd);
    fixture_start();
}
END_TEST

START_TEST(a_tunnel_crosses_to_another_host)
{
    fixture_stop();
    fixture_start_with(&(struct served_config){.front = true});
    served_vms(served, "vm", 1);
    int fd = console_open("\r\n");
    free(hear(fd, "login: "));
    ck_assert(say(fd, "far"));
    free(hear(fd, "<far>"));
    (void)close(fd);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("http_tunnel");
    TCase *tests = tcase_create("http_tunnel");
    tcase_add_checked_fixture(tests, tunnel_start, fixture_stop);
    tcase_add_test(tests, bytes_pass_both_ways_and_the_end_ends_it);
    tcase_add_test(tests, what_comes_with_the_request_is_not_lost);
    tcase_add_test(tests, without_an_upgrade_there_is_the_text);
    tcase_add_test(tests, an_upgrade_of_something_else_is_an_ordinary_answer);
    tcase_add_test(tests, a_client_that_leaves_ends_the_other_side);
    tcase_add_test(tests, a_client_that_only_writes_is_held_no_more_than_the_queue);
    tcase_add_test(tests,
                   a_client_that_does_not_read_does_not_keep_the_server_from_ending);
    tcase_add_test(tests, a_tunnel_crosses_to_another_host);
    tcase_set_timeout(tests, 300);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
