/* Goal: what `berth up` says when berthd does not come up, and every command when it does
 * not answer. Method: a process that stands for berthd, and answers written by hand. How
 * real ones are started is in tests/system/rack_test.sh. */
#include "answers.h"
#include "base/cleanup.h"

#define ANSWER_PROBLEM(status, body)                                                \
    "HTTP/1.1 " status "\r\nContent-Type: application/problem+json\r\nConnection: " \
    "close\r\n\r\n" body

static pid_t stand_in;

static void host_start(void)
{
    folder_start();
    stand_in = fork();
    ck_assert_int_ge(stand_in, 0);
    if (stand_in == 0) {
        (void)execl("/bin/sleep", "sleep", "1000", (char *)NULL);
        _exit(127);
    }
    member_write(stand_in);
}

static void host_stop(void)
{
    (void)kill(stand_in, SIGKILL);
    ck_assert_int_eq(waitpid(stand_in, NULL, 0), stand_in);
    folder_stop();
}

START_TEST(up_on_a_host_that_was_removed_says_so_and_ends)
{
    static const struct route table[] = {
        {"GET /healthz",
         "HTTP/1.1 503 X\r\nContent-Type: application/json\r\nConnection: "
         "close\r\n\r\n{\"status\":\"no leader\",\"host\":\"h1\"}"},
        {"GET /v1/self",
         ANSWER_PROBLEM("403 X",
                        "{\"status\":403,\"code\":\"BERTH_EFORBIDDEN\",\"detail\":"
                        "\"h2 turns this host's key away\",\"hint\":\"it was "
                        "removed: berth down --forget here\"}")},
        {NULL, NULL}};
    answers_start(NULL, table);
    int code = berth("up --timeout 200s");
    answers_stop();
    ck_assert_msg(code == 6, "%d: %s", code, ran.err);
    assert_like(ran.err, "berthd runs (pid *) and goes on trying, but it is not let in\n"
                         "berth: h2 turns this host's key away\n"
                         "hint: it was removed: berth down --forget here\n");
}
END_TEST

/* The kernel takes connections for one that is stopped. */
START_TEST(a_stopped_berthd_is_told_of_and_given_up)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int status = 0;
    snprintf(address.sun_path, sizeof(address.sun_path), "%.80s/berthd.sock",
             folder.path);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)(void *)&address, sizeof(address)), 0);
    ck_assert_int_eq(listen(fd, 16), 0);
    ck_assert_int_eq(kill(stand_in, SIGSTOP), 0);
    ck_assert_int_eq(waitpid(stand_in, &status, WUNTRACED), stand_in);
    int code = berth("ls");
    (void)close(fd);
    ck_assert_msg(code == 9, "%d: %s", code, ran.err);
    assert_like(ran.err, "berthd (pid *, stopped by a signal) does not answer; waiting\n"
                         "berth: * is stopped by a signal (pid *) and answers nothing\n"
                         "hint: kill -CONT * lets it go on*");
}
END_TEST

/* As when its disk is not mounted. */
START_TEST(down_ends_nothing_where_no_host_is_and_makes_nothing)
{
    static const char *const lines[] = {"down --forget --yes --state ",
                                        "down --vms --state "};
    CLEANUP_FREE char *missing = temp_dir_path(&folder, "missing");
    CLEANUP_FREE char *empty = temp_dir_path(&folder, "empty");
    const char *const folders[] = {missing, empty};
    char line[512];
    ck_assert_int_eq(mkdir(empty, 0700), 0);
    for (unsigned i = 0; i < 4; i++) {
        (void)snprintf(line, sizeof(line), "%s%s", lines[i % 2], folders[i / 2]);
        int code = berth(line);
        ck_assert_msg(code == 3, "%d: %s%s", code, ran.out, ran.err);
        assert_like(ran.err,
                    "berth: * is no host's state folder, so nothing was ended\n"
                    "hint: is the path right (--state), and its disk mounted?\n");
    }
    ck_assert_int_eq(access(missing, F_OK), -1);
    ck_assert_int_eq(rmdir(empty), 0); /* nothing is in it */
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("run_daemon");
    TCase *tests = tcase_create("run_daemon");
    tcase_add_checked_fixture(tests, host_start, host_stop);
    tcase_add_test(tests, up_on_a_host_that_was_removed_says_so_and_ends);
    tcase_add_test(tests, a_stopped_berthd_is_told_of_and_given_up);
    tcase_add_test(tests, down_ends_nothing_where_no_host_is_and_makes_nothing);
    tcase_set_timeout(tests, 300);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
