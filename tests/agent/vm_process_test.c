/* Goal: a process runs only after it could be written down, outlives us, and is never
 * mistaken for another. Method: real shells and sleeps. */
#include "agent/vm_process.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/loop.h"
#include "support/temp_dir.h"
#include "support/test_main.h"

#include <check.h>

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

struct bench {
    struct temp_dir dir;
    char *log;
    uv_loop_t loop;
    struct loop_timer *deadline;
    unsigned ended;
    struct vm_process_end end;
};

static void on_deadline(void *context)
{
    (void)context;
    ck_abort_msg("the loop waited too long");
}

static void on_end(void *context, const struct vm_process_end *end)
{
    struct bench *bench = context;
    bench->ended++;
    bench->end = *end;
}

static void bench_init(struct bench *bench)
{
    memset(bench, 0, sizeof(*bench));
    signal(SIGPIPE, SIG_IGN); /* as the daemon does */
    temp_dir_init_guarded(&bench->dir);
    bench->log = temp_dir_path(&bench->dir, "log");
    ck_assert_int_eq(uv_loop_init(&bench->loop), 0);
    bench->deadline = loop_timer_new(&bench->loop, 200000, 0, on_deadline, NULL);
}

static void bench_fini(struct bench *bench)
{
    bench->deadline = loop_timer_close(bench->deadline);
    uv_run(&bench->loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(uv_loop_close(&bench->loop), 0);
    free(bench->log);
    temp_dir_fini(&bench->dir);
}

static struct vm_process *spawn_as(struct bench *bench, const char *script, bool own_pids)
{
    const char *const argv[] = {"sh", "-c", script, NULL};
    struct vm_process_spec spec = {
        .argv = argv,
        .folder = bench->dir.path,
        .log_path = bench->log,
        .oom_score_adj = 300,
        .own_pids = own_pids,
    };
    struct err err = {0};
    struct vm_process *process =
        vm_process_spawn(&bench->loop, &spec, on_end, bench, &err);
    ck_assert_msg(process != NULL, "%s", err.text);
    return process;
}

static struct vm_process *spawn(struct bench *bench, const char *script)
{
    return spawn_as(bench, script, false);
}

static void run_to_end(struct bench *bench)
{
    while (bench->ended == 0) {
        uv_run(&bench->loop, UV_RUN_ONCE);
    }
}

START_TEST(nothing_runs_before_the_gate_opens)
{
    struct bench bench;
    bench_init(&bench);
    struct vm_process *process = spawn(&bench, "echo ran > file; exit 3");

    ck_assert_int_eq(vm_process_verify(vm_process_identity(process)), 0);
    ck_assert_ptr_null(temp_dir_read(&bench.dir, "file"));
    ck_assert_int_eq(vm_process_release(process, NULL), 0);
    run_to_end(&bench);

    char *text = temp_dir_read(&bench.dir, "file");
    ck_assert_str_eq(text, "ran\n");
    free(text);
    ck_assert_int_eq(bench.end.exit_status, 3);
    ck_assert_int_eq(bench.end.signal_number, -1);
    ck_assert_int_eq(vm_process_verify(vm_process_identity(process)), BERTH_ENOTFOUND);
    ck_assert_int_eq(vm_process_signal(process, SIGKILL), -ESRCH);
    vm_process_close(process);
    bench_fini(&bench);
}
END_TEST

START_TEST(what_is_given_has_its_number_and_nothing_else_is_open)
{
    struct bench bench;
    bench_init(&bench);
    /* The two change places with what the daemon has at their numbers. */
    char *first = temp_dir_path(&bench.dir, "first");
    int files[2];
    for (unsigned i = 0; i < 2; i++) {
        files[i] = open(first, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        ck_assert_int_ge(files[i], 0);
    }
    const int given[] = {files[1], files[0], files[1]};
    const char *const argv[] = {
        "sh", "-c", "echo one >&5; echo two >&7; (ls /proc/$$/fd >fds); :", NULL};
    const struct vm_process_spec spec = {.argv = argv,
                                         .folder = bench.dir.path,
                                         .log_path = bench.log,
                                         .given = given,
                                         .given_count = 3};
    struct vm_process *process =
        vm_process_spawn(&bench.loop, &spec, on_end, &bench, NULL);
    ck_assert_ptr_nonnull(process);
    (void)close(files[0]);
    (void)close(files[1]);

    ck_assert_int_eq(vm_process_release(process, NULL), 0);
    run_to_end(&bench);

    char *text = temp_dir_read(&bench.dir, "first");
    ck_assert_str_eq(text, "one\ntwo\n"); /* 5 and 7 are one open file */
    free(text);
    text = temp_dir_read(&bench.dir, "fds");
    ck_assert_msg(strcmp(text, "0\n1\n2\n5\n6\n7\n") == 0, "%s", text);
    free(text);
    free(first);
    vm_process_close(process);
    bench_fini(&bench);
}
END_TEST

START_TEST(a_process_given_up_at_the_gate_is_gone)
{
    struct bench bench;
    bench_init(&bench);
    struct vm_process *process = spawn(&bench, "echo ran > file");
    struct vm_process_identity identity = *vm_process_identity(process);

    vm_process_close(process);

    ck_assert_int_eq(kill(identity.pid, 0), -1); /* not even a zombie */
    ck_assert_int_eq(vm_process_verify(&identity), BERTH_ENOTFOUND);
    ck_assert_ptr_null(temp_dir_read(&bench.dir, "file"));
    bench_fini(&bench);
    ck_assert_uint_eq(bench.ended, 0);
}
END_TEST

START_TEST(the_daemons_death_at_the_gate_ends_the_process_without_running_it)
{
    struct bench bench;
    bench_init(&bench);
    int pipe_fds[2];
    ck_assert_int_eq(pipe(pipe_fds), 0);
    pid_t starter = fork();
    if (starter == 0) {
        uv_loop_init(&bench.loop);
        struct vm_process *process = spawn(&bench, "echo ran > file");
        (void)!write(pipe_fds[1], vm_process_identity(process),
                     sizeof(struct vm_process_identity));
        pause();
    }
    struct vm_process_identity identity;
    ck_assert_int_eq((int)read(pipe_fds[0], &identity, sizeof(identity)),
                     (int)sizeof(identity));
    struct vm_process *process =
        vm_process_adopt(&bench.loop, &identity, on_end, &bench, NULL);
    ck_assert_ptr_nonnull(process);

    ck_assert_int_eq(kill(starter, SIGKILL), 0);
    run_to_end(&bench);

    ck_assert_ptr_null(temp_dir_read(&bench.dir, "file"));
    ck_assert_int_eq(waitpid(starter, NULL, 0), starter);
    vm_process_close(process);
    close(pipe_fds[0]);
    close(pipe_fds[1]);
    bench_fini(&bench);
}
END_TEST

START_TEST(the_process_has_a_session_and_nothing_of_ours)
{
    struct bench bench;
    bench_init(&bench);
    int leak = open("/dev/null", O_RDONLY); /* inheritable: without O_CLOEXEC */
    ck_assert_int_ge(leak, 0);
    signal(SIGUSR1, SIG_IGN);
    struct vm_process *process =
        spawn(&bench, "ls /proc/self/fd | wc -l; cut -d' ' -f1,6 /proc/$$/stat;"
                      "cat /proc/$$/oom_score_adj; grep SigIgn /proc/$$/status; pwd");
    pid_t pid = vm_process_identity(process)->pid;

    ck_assert_int_eq(vm_process_release(process, NULL), 0);
    run_to_end(&bench);

    char want[512];
    char *text = temp_dir_read(&bench.dir, "log");
    (void)snprintf(want, sizeof(want), "4\n%d %d\n300\nSigIgn:\t0000000000000000\n%s\n",
                   (int)pid, (int)pid, bench.dir.path);
    ck_assert_str_eq(text, want); /* 4: stdin, out, err, and ls's own of the folder */
    free(text);
    close(leak);
    vm_process_close(process);
    bench_fini(&bench);
}
END_TEST

START_TEST(a_process_is_the_first_of_a_namespace_and_ours_all_the_same)
{
    struct bench bench;
    if (geteuid() != 0) {
        return; /* who has no rights to begin with has no namespaces */
    }
    bench_init(&bench);
    /* $PPID of what it starts is 1, and there is nothing above. */
    struct vm_process *process = spawn_as(
        &bench, "echo $$ $PPID > file; sh -c 'echo $PPID' >> file; exit 3", true);
    const pid_t pid = vm_process_identity(process)->pid;
    ck_assert_int_gt(pid, 1);
    ck_assert_int_eq(vm_process_verify(vm_process_identity(process)), 0);
    ck_assert_int_eq(kill(pid, 0), 0);

    ck_assert_int_eq(vm_process_release(process, NULL), 0);
    run_to_end(&bench);

    char *text = temp_dir_read(&bench.dir, "file");
    ck_assert_str_eq(text, "1 0\n1\n");
    free(text);
    ck_assert_int_eq(bench.end.exit_status, 3);
    vm_process_close(process);
    bench_fini(&bench);
}
END_TEST

START_TEST(signals_reach_it_at_once_and_are_told_at_the_end)
{
    struct bench bench;
    bench_init(&bench);
    struct vm_process *process = spawn_as(&bench, "exec sleep 100", _i == 1);
    ck_assert_int_eq(vm_process_release(process, NULL), 0);

    ck_assert_int_eq(vm_process_signal(process, SIGSTOP), 0);
    while (!vm_process_is_stopped(process)) {
        sched_yield();
    }
    ck_assert_uint_eq(bench.ended, 0);
    ck_assert_int_eq(vm_process_signal(process, SIGCONT), 0);
    while (vm_process_is_stopped(process)) {
        sched_yield();
    }
    ck_assert_int_eq(vm_process_signal(process, SIGKILL), 0);
    run_to_end(&bench);

    ck_assert_int_eq(bench.end.signal_number, SIGKILL);
    ck_assert_int_eq(bench.end.exit_status, -1);
    vm_process_close(process);
    bench_fini(&bench);
}
END_TEST

START_TEST(a_program_that_does_not_exist_is_refused_by_name)
{
    struct bench bench;
    bench_init(&bench);
    const char *const argv[] = {"no-such-program-at-all", NULL};
    struct vm_process_spec spec = {
        .argv = argv, .folder = bench.dir.path, .log_path = bench.log};
    struct err err = {0};

    ck_assert_ptr_null(vm_process_spawn(&bench.loop, &spec, on_end, &bench, &err));

    ck_assert_int_eq(err.code, -ENOENT);
    ck_assert_ptr_nonnull(strstr(err.text, "no-such-program-at-all"));
    bench_fini(&bench);
}
END_TEST

START_TEST(a_program_that_cannot_be_executed_leaves_a_word_in_the_log)
{
    struct bench bench;
    bench_init(&bench);
    const char *const argv[] = {bench.dir.path, NULL}; /* a folder */
    struct vm_process_spec spec = {
        .argv = argv, .folder = bench.dir.path, .log_path = bench.log};
    struct vm_process *process =
        vm_process_spawn(&bench.loop, &spec, on_end, &bench, NULL);
    ck_assert_int_eq(vm_process_release(process, NULL), 0);
    run_to_end(&bench);

    char line[64];
    vm_process_log_last_line(bench.log, line, sizeof(line));
    ck_assert_int_eq(bench.end.exit_status, 127);
    ck_assert_ptr_nonnull(strstr(line, "cannot execute"));
    vm_process_close(process);
    bench_fini(&bench);
}
END_TEST

/* The starter is another process that is killed; the VM process lives on and is taken
 * over by us, who are not its parent. */
START_TEST(a_process_outlives_who_started_it_and_is_adopted)
{
    struct bench bench;
    bench_init(&bench);
    int pipe_fds[2];
    ck_assert_int_eq(pipe(pipe_fds), 0);
    pid_t starter = fork();
    if (starter == 0) {
        struct bench inner = bench;
        uv_loop_init(&inner.loop);
        struct vm_process *process = spawn_as(&inner, "exec sleep 100", _i == 1);
        (void)vm_process_release(process, NULL);
        (void)!write(pipe_fds[1], vm_process_identity(process),
                     sizeof(struct vm_process_identity));
        pause();
    }
    struct vm_process_identity identity;
    ck_assert_int_eq((int)read(pipe_fds[0], &identity, sizeof(identity)),
                     (int)sizeof(identity));
    ck_assert_int_eq(kill(starter, SIGKILL), 0);
    ck_assert_int_eq(waitpid(starter, NULL, 0), starter);

    struct err err = {0};
    struct vm_process *process =
        vm_process_adopt(&bench.loop, &identity, on_end, &bench, &err);
    ck_assert_msg(process != NULL, "%s", err.text);
    uv_run(&bench.loop, UV_RUN_NOWAIT);
    ck_assert_uint_eq(bench.ended, 0);
    ck_assert_int_eq(vm_process_signal(process, SIGKILL), 0);
    run_to_end(&bench);

    ck_assert_int_eq(bench.end.signal_number, -1); /* not our child: not known */
    vm_process_close(process);
    close(pipe_fds[0]);
    close(pipe_fds[1]);
    bench_fini(&bench);
}
END_TEST

START_TEST(a_recycled_pid_is_not_adopted)
{
    struct bench bench;
    bench_init(&bench);
    struct vm_process_identity real;
    ck_assert_int_eq(vm_process_identify(getpid(), &real), 0);
    ck_assert_int_eq(vm_process_verify(&real), 0);
    struct vm_process_identity later = real;
    later.start_ticks++;
    struct vm_process_identity other_boot = real;
    other_boot.boot[0] = other_boot.boot[0] == '0' ? '1' : '0';
    struct vm_process_identity none = {0};
    struct err err = {0};

    ck_assert_ptr_null(vm_process_adopt(&bench.loop, &later, on_end, &bench, &err));
    ck_assert_int_eq(err.code, BERTH_ENOTFOUND);
    ck_assert_ptr_null(vm_process_adopt(&bench.loop, &other_boot, on_end, &bench, &err));
    ck_assert_ptr_null(vm_process_adopt(&bench.loop, &none, on_end, &bench, &err));
    bench_fini(&bench);
}
END_TEST

START_TEST(a_zombie_does_not_count_as_living)
{
    pid_t pid = fork();
    if (pid == 0) {
        pause();
    }
    struct vm_process_identity identity;
    ck_assert_int_eq(vm_process_identify(pid, &identity), 0);
    ck_assert_int_eq(vm_process_verify(&identity), 0);
    ck_assert_int_eq(kill(pid, SIGKILL), 0);
    siginfo_t info;
    ck_assert_int_eq(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);

    ck_assert_int_eq(vm_process_verify(&identity), BERTH_ENOTFOUND);
    (void)waitpid(pid, NULL, 0);
}
END_TEST

START_TEST(the_log_is_cut_to_its_tail_and_its_last_line_is_read)
{
    struct bench bench;
    bench_init(&bench);
    int fd = open(bench.log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    char line[64];
    for (unsigned i = 0; i < 40000; i++) {
        (void)snprintf(line, sizeof(line), "warning %08u of the guest's making\n", i);
        ck_assert_int_eq(fd_write_full(fd, line, strlen(line)), 0);
    }

    vm_process_log_trim(bench.log);
    ck_assert_int_eq(fd_write_full(fd, "and \x1b more\n\n", 12), 0);

    char *text = temp_dir_read(&bench.dir, "log");
    ck_assert_uint_eq(strlen(text), VM_PROCESS_LOG_KEEP + 12);
    ck_assert_ptr_nonnull(strstr(text, "warning 00039999"));
    free(text);
    vm_process_log_last_line(bench.log, line, sizeof(line));
    ck_assert_str_eq(line, "and ? more");
    vm_process_log_last_line("/no/such/log", line, sizeof(line));
    ck_assert_str_eq(line, "");
    vm_process_log_begin(bench.log); /* from here on it is another run's */
    vm_process_log_last_line(bench.log, line, sizeof(line));
    ck_assert_str_eq(line, "");
    ck_assert_int_eq(fd_write_full(fd, "its own\n", 8), 0);
    vm_process_log_last_line(bench.log, line, sizeof(line));
    ck_assert_str_eq(line, "its own");
    close(fd);
    bench_fini(&bench);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("vm_process");
    TCase *tests = tcase_create("vm_process");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, nothing_runs_before_the_gate_opens);
    tcase_add_test(tests, what_is_given_has_its_number_and_nothing_else_is_open);
    tcase_add_test(tests, a_process_given_up_at_the_gate_is_gone);
    tcase_add_test(tests,
                   the_daemons_death_at_the_gate_ends_the_process_without_running_it);
    tcase_add_test(tests, the_process_has_a_session_and_nothing_of_ours);
    tcase_add_test(tests, a_process_is_the_first_of_a_namespace_and_ours_all_the_same);
    tcase_add_loop_test(tests, signals_reach_it_at_once_and_are_told_at_the_end, 0, 2);
    tcase_add_test(tests, a_program_that_does_not_exist_is_refused_by_name);
    tcase_add_test(tests, a_program_that_cannot_be_executed_leaves_a_word_in_the_log);
    tcase_add_loop_test(tests, a_process_outlives_who_started_it_and_is_adopted, 0, 2);
    tcase_add_test(tests, a_recycled_pid_is_not_adopted);
    tcase_add_test(tests, a_zombie_does_not_count_as_living);
    tcase_add_test(tests, the_log_is_cut_to_its_tail_and_its_last_line_is_read);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
