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
                                        "down --vms --state ", "down --state "};
    CLEANUP_FREE char *missing = temp_dir_path(&folder, "missing");
    CLEANUP_FREE char *empty = temp_dir_path(&folder, "empty");
    const char *const folders[] = {missing, empty};
    char line[512];
    ck_assert_int_eq(mkdir(empty, 0700), 0);
    for (unsigned i = 0; i < 6; i++) {
        (void)snprintf(line, sizeof(line), "%s%s", lines[i % 3], folders[i / 3]);
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

/* Its berthd, too, was killed before it had noted more than its key. */
START_TEST(a_join_that_was_cut_off_founds_no_cluster)
{
    static const char *const lines[] = {"up --state ", "up --foreground --state "};
    CLEANUP_FREE char *state = temp_dir_path(&folder, "cut");
    char line[512];
    ck_assert_int_eq(mkdir(state, 0700), 0);
    temp_dir_write(&folder, "cut/host.key", "key");
    temp_dir_write(&folder, "cut/up.json", "{\"join\": true}");
    (void)snprintf(line, sizeof(line), "%s%s", lines[_i], state);
    int code = berth(line);
    ck_assert_msg(code == 4, "%d: %s%s", code, ran.out, ran.err);
    ck_assert_contains(ran.err,
                       "this host was to join a cluster, and was not let in yet: "
                       "nothing was started\nhint: berth join TOKEN goes on");
}
END_TEST

/* A berthd that does what this says and ends as one does that is not let in. The real
 * berth finds it beside itself. */
static void refused_berthd(const char *does)
{
    char text[2048];
    CLEANUP_FREE char *bin = temp_dir_path(&folder, "bin");
    CLEANUP_FREE char *path = temp_dir_path(&folder, "bin/berthd");
    ck_assert_int_eq(mkdir(bin, 0700), 0);
    (void)snprintf(text, sizeof(text),
                   "#!/bin/bash\ncd \"$2\"\n%s\n"
                   "echo 'x error berthd: no why=\"the token was used\"' >&2\nexit 3\n",
                   does);
    temp_dir_write(&folder, "bin/berthd", text);
    ck_assert_int_eq(chmod(path, 0700), 0);
    (void)snprintf(text, sizeof(text), "/bin/cp " BERTH_BINARY_DIR "/berth %s", bin);
    char *args[ARGS_MAX];
    (void)split(text, args, 0);
    struct child child = child_start(args, NULL);
    child_wait(&child);
    ck_assert_msg(ran.code == 0, "%s", ran.err);
}

static void berth_beside(const char *command)
{
    char line[1024];
    char *args[ARGS_MAX];
    (void)snprintf(line, sizeof(line), "%s/bin/berth %s", folder.path, command);
    (void)split(line, args, 0);
    struct child child = child_start(args, NULL);
    child_wait(&child);
}

/* It may be the only place where they are, whether or not it waits for its host. */
START_TEST(who_forgets_a_host_is_told_of_stopped_vms_with_their_disks)
{
    char command[512];
    refused_berthd("echo '[{\"tenant\":\"shop\",\"name\":\"db\",\"uid\":9,\"epoch\":7,"
                   "\"runs\":false,\"waits\":false,\"keeps\":true}]'; exit 0");
    temp_dir_write(&folder, "host.key", "key");
    (void)snprintf(command, sizeof(command), "down --forget --state %s", folder.path);

    berth_beside(command);

    ck_assert_msg(ran.code == 2, "%d: %s", ran.code, ran.err);
    ck_assert_contains(ran.err,
                       "  shop/vm/db does not run, epoch 7, was stopped and keeps "
                       "its disks here: nothing else has them\n");
}
END_TEST

static void join_refused(const char *state)
{
    static const char token[] =
        "berth-join-AQpjAAsdEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
        "AAAAAAAAAAAAAAAAAAAAAAAAA";
    char command[512];
    (void)snprintf(command, sizeof(command), "join %s --state %s/%s", token, folder.path,
                   state);
    berth_beside(command);
    ck_assert_msg(ran.code == 6, "%d: %s", ran.code, ran.err);
}

static bool is_there(const char *name)
{
    char *path = temp_dir_path(&folder, name);
    bool there = access(path, F_OK) == 0;
    free(path);
    return there;
}

START_TEST(a_refused_join_leaves_what_others_put_there)
{
    refused_berthd("echo x >host.key; echo {} >host.json; echo theirs >book; "
                   "echo theirs >../note");

    join_refused("srv/berth");

    ck_assert_ptr_nonnull(strstr(ran.err, "nothing of this is left here"));
    ck_assert(is_there("srv/berth/book") && is_there("srv/note"));
    ck_assert(!is_there("srv/berth/host.key") && !is_there("srv/berth/berthd.log"));
    ck_assert(!is_there("srv/berth/lock"));
}
END_TEST

/* Of an earlier host there. */
START_TEST(a_refused_join_is_not_gone_on_with)
{
    CLEANUP_FREE char *state = temp_dir_path(&folder, "before");
    ck_assert_int_eq(mkdir(state, 0700), 0);
    temp_dir_write(&folder, "before/host.key", "key");
    temp_dir_write(&folder, "before/up.json", _i == 0 ? "{}" : "{\"join\": true}");
    refused_berthd("grep -q '\"join\": *true' up.json && echo x >heard");

    join_refused("before");

    ck_assert(is_there("before/heard"));
    CLEANUP_FREE char *flags = temp_dir_read(&folder, "before/up.json");
    ck_assert_int_eq(strstr(flags, "join") != NULL, _i == 1);
}
END_TEST

/* Whose berthd had not begun when it was cut off: nobody has heard of that host. */
START_TEST(a_join_that_had_not_begun_is_in_nobodys_way)
{
    CLEANUP_FREE char *state = temp_dir_path(&folder, "bare");
    char line[512];
    ck_assert_int_eq(mkdir(state, 0700), 0);
    temp_dir_write(&folder, "bare/up.json", "{\"join\": true}");
    refused_berthd("echo x >heard");
    (void)snprintf(line, sizeof(line), "up --state %s", state);
    berth_beside(line);
    ck_assert(is_there("bare/heard"));
    ck_assert_ptr_null(strstr(ran.err, "was to join"));
}
END_TEST

/* Another one that was started there, after the first had ended and before what that one
 * made was removed. */
START_TEST(a_refused_join_removes_nothing_of_a_berthd_that_came_since)
{
    refused_berthd("echo x >host.key; echo {} >host.json\n"
                   "exec 9>lock; flock 9; sleep 1000 >&9 2>&9 & echo $! >theirs");

    join_refused("berth");

    char *pid = temp_dir_read(&folder, "berth/theirs");
    ck_assert_ptr_nonnull(pid);
    ck_assert_int_eq(kill((pid_t)strtol(pid, NULL, 10), SIGKILL), 0);
    free(pid);
    ck_assert_msg(strstr(ran.err, "another berthd runs in ") != NULL, "%s", ran.err);
    ck_assert(is_there("berth/host.key") && is_there("berth/host.json"));
    ck_assert(is_there("berth/lock") && is_there("berth/berthd.log"));
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
    tcase_add_loop_test(tests, a_join_that_was_cut_off_founds_no_cluster, 0, 2);
    tcase_add_test(tests, who_forgets_a_host_is_told_of_stopped_vms_with_their_disks);
    tcase_add_test(tests, a_refused_join_leaves_what_others_put_there);
    tcase_add_loop_test(tests, a_refused_join_is_not_gone_on_with, 0, 2);
    tcase_add_test(tests, a_join_that_had_not_begun_is_in_nobodys_way);
    tcase_add_test(tests, a_refused_join_removes_nothing_of_a_berthd_that_came_since);
    tcase_set_timeout(tests, 300);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
