/* Goal: settings that a running berthd does not go by are named, those that it does are
 * not. Method: host.json by hand, and a process with a command line as berthd's. */
#include "cli/daemon_flags.h"
#include "cli_fixture.h"
#include "support/temp_dir.h"

#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define HOST                                                                            \
    "{\"name\":\"h1\",\"uid\":7,\"address\":\"10.0.0.4\",\"apiPort\":7443,\"labels\":{" \
    "\"rack\":\"r1\"}}"

static struct temp_dir dir;
static pid_t running;

static void host_start(void)
{
    int ready[2];
    char byte;
    cli_fresh();
    temp_dir_init(&dir);
    temp_dir_write(&dir, "host.json", HOST);
    ck_assert_int_eq(pipe(ready), 0);
    running = fork();
    ck_assert_int_ge(running, 0);
    if (running == 0) {
        (void)(dup2(ready[1], 1) >= 0);
        (void)execl("/bin/sh", "sh", "-c", "echo x; kill -STOP $$", "berthd", "--state",
                    "/x", "--backup-every", "1h", "--image-cache", "2GiB", (char *)NULL);
        _exit(127);
    }
    (void)close(ready[1]);
    ck_assert_int_eq(read(ready[0], &byte, 1), 1); /* it has its command line */
    (void)close(ready[0]);
}

static void host_stop(void)
{
    (void)kill(running, SIGKILL);
    ck_assert_int_eq(waitpid(running, NULL, 0), running);
    temp_dir_fini(&dir);
    cli_stop();
}

static const char *told(const char *line, pid_t pid)
{
    ck_assert_int_eq(cli_given(line), EXIT_OK);
    daemon_flags_tell(&cli, dir.path, pid);
    return cli_err();
}

START_TEST(what_it_goes_by_is_not_told)
{
    ck_assert_str_eq(told("up", running), "");
    ck_assert_str_eq(told("up --name h1 --address 10.0.0.4 --api-port 7443 --label "
                          "rack=r1 --backup-every 1h --image-cache 2GiB",
                          running),
                     "");
    ck_assert_str_eq(told("up --address 10.0.0.5 --backup-every 2h", 0), "");
}
END_TEST

START_TEST(what_it_does_not_go_by_is_told_with_how_to_set_it)
{
    const char *text = told("up --address 10.0.0.5 --api-port 7443 --backup-every 2GiB "
                            "--image-cache 2GiB --backup-keep 3",
                            running);
    ck_assert_contains(text, "does not take: --address 10.0.0.5, --backup-every 2GiB, "
                             "--backup-keep 3\nhint: berth down, then berth up");
    ck_assert_ptr_null(strstr(text, "labels"));
}
END_TEST

START_TEST(a_name_and_labels_are_those_of_the_first_start)
{
    const char *text = told("up --name h2 --label rack=r2 --label zone=a", running);
    ck_assert_contains(text, "berth: not taken: --name h2, --label rack=r2, --label "
                             "zone=a\nhint: labels are changed by berth host label");
    ck_assert_ptr_null(strstr(text, "does not take"));
    ck_assert_contains(told("up --label rack=r", 0), "not taken: --label rack=r\n");
}
END_TEST

START_TEST(another_name_or_label_is_refused_before_a_start)
{
    ck_assert_int_eq(cli_given("up --name h1 --label rack=r1"), EXIT_OK);
    ck_assert_int_eq(daemon_flags_check(&cli, dir.path), EXIT_OK);
    ck_assert_str_eq(cli_err(), "");
    ck_assert_int_eq(cli_given("up --name h2 --label zone=a"), EXIT_OK);
    ck_assert_int_eq(daemon_flags_check(&cli, dir.path), EXIT_CONFLICT);
    ck_assert_contains(cli_err(), "nothing was started: --name h2, --label zone=a cannot "
                                  "be changed by a start\nhint: ");
}
END_TEST

static const char *remembered(const char *line)
{
    ck_assert_int_eq(cli_given(line), EXIT_OK);
    daemon_flags_remember(&cli, dir.path, strncmp(line, "join", 4) == 0);
    return cli_err();
}

START_TEST(what_the_last_start_had_and_this_one_has_not_is_told)
{
    static const char before[] =
        "up --address 10.0.0.5 --reserve-memory 10GiB --backup-keep 3";
    ck_assert_str_eq(remembered(before), "");
    ck_assert_str_eq(remembered(before), "");
    char *path = temp_dir_path(&dir, "up.json");
    struct stat status;
    ck_assert_int_eq(stat(path, &status), 0);
    ck_assert_uint_eq(status.st_mode & 0777, 0600);
    free(path);
    const char *text = remembered("up --backup-keep 4");
    ck_assert_contains(text,
                       "last time it ran with --reserve-memory 10GiB, --backup-keep "
                       "3: settings are given at every start\nhint: berth down");
    ck_assert_str_eq(remembered("up --backup-keep 4"), ""); /* told once */
    temp_dir_write(&dir, "up.json", "[nonsense");
    ck_assert_str_eq(remembered("up"), "");
}
END_TEST

START_TEST(a_join_is_remembered_until_it_is_over)
{
    ck_assert(!daemon_flags_joins(dir.path));
    ck_assert_str_eq(remembered("join x --backup-keep 4"), "");
    ck_assert(daemon_flags_joins(dir.path));
    daemon_flags_join_over(dir.path);
    ck_assert(!daemon_flags_joins(dir.path));
    ck_assert_str_eq(remembered("join x --backup-keep 4"), ""); /* the flags stay */
    ck_assert_str_eq(remembered("up --backup-keep 4"), "");
    ck_assert(!daemon_flags_joins(dir.path));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("daemon_flags");
    TCase *tests = tcase_create("daemon_flags");
    tcase_add_checked_fixture(tests, host_start, host_stop);
    tcase_add_test(tests, what_it_goes_by_is_not_told);
    tcase_add_test(tests, what_it_does_not_go_by_is_told_with_how_to_set_it);
    tcase_add_test(tests, a_name_and_labels_are_those_of_the_first_start);
    tcase_add_test(tests, another_name_or_label_is_refused_before_a_start);
    tcase_add_test(tests, what_the_last_start_had_and_this_one_has_not_is_told);
    tcase_add_test(tests, a_join_is_remembered_until_it_is_over);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
