/* Goal: the berthd of a state folder is found when it lives and only then, is started
 * apart from its starter, and its end is waited for. Method: /bin/sh stands where berthd
 * would; processes, files and signals are real. */
#include "cli/daemon.h"
#include "support/temp_dir.h"
#include "support/test_main.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define FOREVER_MS 1000000

static struct temp_dir dir;
static char *log_path;
static pid_t child; /* to be ended and reaped; 0: none */

static void setup(void)
{
    temp_dir_init_guarded(&dir);
    log_path = temp_dir_path(&dir, "berthd.log");
    child = 0;
}

static void teardown(void)
{
    if (child > 0) {
        (void)kill(child, SIGKILL);
        (void)waitpid(child, NULL, 0);
    }
    free(log_path);
    temp_dir_fini(&dir);
}

static pid_t start_shell(const char *script, const char *input)
{
    const char *arguments[] = {"/bin/sh", "-c", script, dir.path, NULL};
    struct err err = {0};
    child = daemon_start(arguments, log_path, input, &err);
    ck_assert_msg(child > 0, "%s", err.text);
    return child;
}

static int exit_code(void)
{
    int status = 0;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    child = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static uint64_t start_of(pid_t pid)
{
    char path[64];
    char text[1024];
    (void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "re");
    ck_assert_ptr_nonnull(file);
    size_t size = fread(text, 1, sizeof(text) - 1, file);
    (void)fclose(file);
    text[size] = '\0';
    return daemon_parse_start(text);
}

static void write_pid(pid_t pid, uint64_t start)
{
    char text[64];
    (void)snprintf(text, sizeof(text), "%d %" PRIu64 "\n", (int)pid, start);
    temp_dir_write(&dir, "berthd.pid", text);
}

/* ---- who runs ---- */

START_TEST(a_pid_file_holds_a_pid_and_when_it_began)
{
    pid_t pid = 0;
    uint64_t start = 0;
    static const char *const bad[] = {"",       "12",    "12 ",   "x 5",
                                      "12 x",   "1 5",   "-3 5",  "99999999999 5",
                                      "12\t34", "0 344", "12  x", NULL};

    ck_assert(daemon_parse_pid("1234 567890\n", &pid, &start));
    ck_assert_int_eq(pid, 1234);
    ck_assert_uint_eq(start, 567890);
    for (unsigned i = 0; bad[i] != NULL; i++) {
        ck_assert_msg(!daemon_parse_pid(bad[i], &pid, &start), "\"%s\"", bad[i]);
    }
}
END_TEST

START_TEST(a_name_with_blanks_and_brackets_does_not_shift_the_fields)
{
    ck_assert_uint_eq(daemon_parse_start("7 (a) b (c) S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 "
                                         "0 20 0 1 0 4711 2 3"),
                      4711);
    ck_assert_uint_eq(daemon_parse_start("7 (cut) S 1 7"), 0);
    ck_assert_uint_eq(daemon_parse_start(""), 0);
}
END_TEST

START_TEST(a_living_one_is_found_a_dead_one_or_another_is_not)
{
    ck_assert_int_eq(daemon_find(dir.path), 0); /* no file */
    temp_dir_write(&dir, "berthd.pid", "nonsense");
    ck_assert_int_eq(daemon_find(dir.path), 0);

    pid_t pid = start_shell("read line", NULL);
    start_shell("exec sleep 1000", NULL);
    uint64_t start = start_of(child);
    write_pid(child, start);
    ck_assert_int_eq(daemon_find(dir.path), child);
    write_pid(child, start + 1); /* the pid was given to another process */
    ck_assert_int_eq(daemon_find(dir.path), 0);

    write_pid(child, start);
    ck_assert_int_eq(kill(child, SIGKILL), 0);
    siginfo_t info;
    ck_assert_int_eq(waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT), 0);
    ck_assert_int_eq(daemon_find(dir.path), 0); /* a zombie */
    (void)exit_code();
    ck_assert_int_eq(daemon_find(dir.path), 0); /* gone */
    ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
}
END_TEST

START_TEST(the_program_is_the_one_beside_this_one_else_the_paths)
{
    char path[4096];
    char small[4];

    daemon_program(path, sizeof(path));
    ck_assert_str_eq(path, "berthd"); /* tests have none beside them */
    daemon_program(small, sizeof(small));
    ck_assert_uint_eq(strlen(small), sizeof(small) - 1);
}
END_TEST

/* ---- starting ---- */

START_TEST(it_runs_in_a_session_of_its_own_and_writes_to_its_log)
{
    temp_dir_write(&dir, "berthd.log", "before\n");
    start_shell("echo out; echo err >&2; pwd; cut -d' ' -f6 /proc/$$/stat", NULL);
    pid_t pid = child;
    char want[64];

    ck_assert_int_eq(exit_code(), 0);

    char *text = temp_dir_read(&dir, "berthd.log");
    (void)snprintf(want, sizeof(want), "before\nout\nerr\n/\n%d\n", (int)pid);
    ck_assert_str_eq(text, want);
    free(text);
}
END_TEST

START_TEST(its_input_is_what_was_given_and_then_ends)
{
    start_shell("read line; echo \"got $line\"; read line || echo end", "secret\n");
    ck_assert_int_eq(exit_code(), 0);
    start_shell("read line || echo nothing", NULL);
    ck_assert_int_eq(exit_code(), 0);

    char *text = temp_dir_read(&dir, "berthd.log");
    ck_assert_str_eq(text, "got secret\nend\nnothing\n");
    free(text);
}
END_TEST

START_TEST(a_program_that_is_not_there_is_said_in_the_log)
{
    const char *arguments[] = {"/no/such/berthd", NULL};
    struct err err = {0};

    child = daemon_start(arguments, log_path, NULL, &err);
    ck_assert_int_gt(child, 0);
    ck_assert_int_eq(exit_code(), 127);
    char *text = temp_dir_read(&dir, "berthd.log");
    ck_assert_ptr_nonnull(
        strstr(text, "/no/such/berthd cannot be started: No such file"));
    free(text);

    ck_assert_int_lt(daemon_start(arguments, "/no/such/folder/log", NULL, &err), 0);
    ck_assert_ptr_nonnull(strstr(err.text, "/no/such/folder/log"));
}
END_TEST

/* ---- stopping ---- */

/* Until the script has begun: before, the child is a copy of the test, with Check's
 * handlers for signals. */
static void start_ready(const char *script)
{
    char *text = NULL;
    start_shell(script, NULL);
    while (text == NULL || strcmp(text, "ready\n") != 0) {
        free(text);
        text = temp_dir_read(&dir, "berthd.log");
    }
    free(text);
}

START_TEST(its_end_is_waited_for)
{
    start_ready("echo ready; exec sleep 1000");

    ck_assert_int_eq(daemon_stop(child, FOREVER_MS), 0);
    ck_assert_int_eq(exit_code(), -SIGTERM);
}
END_TEST

START_TEST(one_that_does_not_end_is_said_and_not_killed)
{
    start_ready("trap '' TERM; echo ready; exec sleep 1000");

    ck_assert_int_eq(daemon_stop(child, 0), BERTH_ETIMEOUT);
    ck_assert_int_eq(kill(child, 0), 0);
}
END_TEST

START_TEST(one_that_is_not_there_cannot_be_stopped)
{
    start_shell("exit 0", NULL);
    pid_t gone = child;
    (void)exit_code();

    ck_assert_int_eq(daemon_stop(gone, 0), -ESRCH);
}
END_TEST

/* ---- the log ---- */

START_TEST(the_tail_is_the_last_lines_since_the_start)
{
    static const struct {
        off_t from;
        unsigned lines;
        const char *tail; /* NULL: nothing */
    } rows[] = {
        {0, 10, "  one\n  two\n  three\n"},
        {0, 2, "  two\n  three\n"},
        {0, 1, "  three\n"},
        {4, 10, "  two\n  three\n"},
        {15, 10, NULL},
        {1000, 10, NULL},
    };
    temp_dir_write(&dir, "berthd.log", "one\ntwo\nthree\n\n");

    char *tail = daemon_log_tail(log_path, rows[_i].from, rows[_i].lines);

    if (rows[_i].tail == NULL) {
        ck_assert_ptr_null(tail);
    } else {
        ck_assert_ptr_nonnull(tail);
        ck_assert_str_eq(tail, rows[_i].tail);
    }
    free(tail);
}
END_TEST

static void assert_why(const char *line, const char *wanted)
{
    temp_dir_write(&dir, "berthd.log", line);
    char *why = daemon_log_why(log_path, 0);
    ck_assert_msg((why == NULL) == (wanted == NULL), "%s: %s", line, why);
    if (wanted != NULL) {
        ck_assert_str_eq(why, wanted);
    }
    free(why);
}

START_TEST(why_it_ended_is_what_its_last_error_says)
{
    assert_why("2026-01-01T00:00:00.000Z warn a: b why=\"not this\"\n"
               "2026-01-01T00:00:00.000Z error a: b host=h3 why=\"a \\\"name\\\" is "
               "taken: c:\\\\d\" more=1\n",
               "a \"name\" is taken: c:\\d");
    assert_why("2026-01-01T00:00:00.000Z error a: b why=short more=1\n", "short");
    assert_why("2026-01-01T00:00:00.000Z error a: b why=\"cut", "cut");
    assert_why("2026-01-01T00:00:00.000Z error a: b host=h3\n", NULL);
    assert_why("2026-01-01T00:00:00.000Z error a: b why=x\n"
               "2026-01-01T00:00:00.000Z info a: b why=y\n",
               NULL);
    assert_why("", NULL);
}
END_TEST

START_TEST(there_is_no_tail_of_a_log_that_is_not_there)
{
    ck_assert_ptr_null(daemon_log_tail(log_path, 0, 5));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("daemon");
    TCase *tests = tcase_create("daemon");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, a_pid_file_holds_a_pid_and_when_it_began);
    tcase_add_test(tests, a_name_with_blanks_and_brackets_does_not_shift_the_fields);
    tcase_add_test(tests, a_living_one_is_found_a_dead_one_or_another_is_not);
    tcase_add_test(tests, the_program_is_the_one_beside_this_one_else_the_paths);
    tcase_add_test(tests, it_runs_in_a_session_of_its_own_and_writes_to_its_log);
    tcase_add_test(tests, its_input_is_what_was_given_and_then_ends);
    tcase_add_test(tests, a_program_that_is_not_there_is_said_in_the_log);
    tcase_add_test(tests, its_end_is_waited_for);
    tcase_add_test(tests, one_that_does_not_end_is_said_and_not_killed);
    tcase_add_test(tests, one_that_is_not_there_cannot_be_stopped);
    tcase_add_loop_test(tests, the_tail_is_the_last_lines_since_the_start, 0, 6);
    tcase_add_test(tests, why_it_ended_is_what_its_last_error_says);
    tcase_add_test(tests, there_is_no_tail_of_a_log_that_is_not_there);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
