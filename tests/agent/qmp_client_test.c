/* Goal: a client that no peer can confuse, hang or exhaust. Method: a scripted peer at
 * the other end of a real socket, and a real QEMU without a machine. */
#include "agent/qmp_client.h"
#include "agent/vm_process.h"
#include "base/fd.h"
#include "base/loop.h"
#include "support/temp_dir.h"
#include "support/test_main.h"

#include <check.h>

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define GREETING "{\"QMP\": {\"version\": {}, \"capabilities\": []}}\r\n"
#define AGREED   "{\"return\": {}, \"id\": 1}\r\n"

struct bench {
    struct temp_dir dir;
    char *path;
    uv_loop_t loop;
    struct loop_timer *deadline;
    int listener;
    int peer;
    struct qmp_client *client;
    unsigned ready, closed, replies, events;
    int code; /* of the last reply */
    char text[ERR_TEXT_SIZE];
    char event[64];
    int64_t number; /* "n" in the last result or event data */
    struct err reason;
    bool close_in_callback;
};

static void on_deadline(void *context)
{
    (void)context;
    ck_abort_msg("the loop waited too long");
}

static void maybe_close(struct bench *bench)
{
    if (bench->close_in_callback) {
        bench->client = qmp_client_close(bench->client);
    }
}

static void on_ready(void *context)
{
    struct bench *bench = context;
    bench->ready++;
    maybe_close(bench);
}

static void on_event(void *context, const char *name, const json_t *data)
{
    struct bench *bench = context;
    bench->events++;
    (void)snprintf(bench->event, sizeof(bench->event), "%s", name);
    bench->number = (int64_t)json_member_u64(data, "n", 0);
    maybe_close(bench);
}

static void on_closed(void *context, const struct err *reason)
{
    struct bench *bench = context;
    bench->closed++;
    bench->reason = *reason;
    maybe_close(bench);
}

static void
on_reply(void *context, int code, const json_t *result, const struct err *error)
{
    struct bench *bench = context;
    bench->replies++;
    bench->code = code;
    bench->number = (int64_t)json_member_u64(result, "n", 0);
    (void)snprintf(bench->text, sizeof(bench->text), "%s",
                   error == NULL ? "" : error->text);
    maybe_close(bench);
}

static const struct qmp_handlers handlers = {on_ready, on_event, on_closed};

static void bench_init(struct bench *bench)
{
    memset(bench, 0, sizeof(*bench));
    signal(SIGPIPE, SIG_IGN); /* as the daemon does */
    temp_dir_init(&bench->dir);
    bench->path = temp_dir_path(&bench->dir, "qmp.sock");
    ck_assert_int_eq(uv_loop_init(&bench->loop), 0);
    bench->deadline = loop_timer_new(&bench->loop, 200000, 0, on_deadline, NULL);
    bench->listener = -1;
    bench->peer = -1;
}

static void bench_listen(struct bench *bench)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memcpy(address.sun_path, bench->path, strlen(bench->path) + 1);
    bench->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(
        bind(bench->listener, (struct sockaddr *)(void *)&address, sizeof(address)), 0);
    ck_assert_int_eq(listen(bench->listener, 1), 0);
}

static void open_client(struct bench *bench, uint64_t timeout_ms)
{
    struct err err = {0};
    bench->client =
        qmp_client_open(&bench->loop, bench->path, timeout_ms, &handlers, bench, &err);
    ck_assert_msg(bench->client != NULL, "%s", err.text);
}

static void bench_accept(struct bench *bench)
{
    struct pollfd poll_fd = {.fd = bench->listener, .events = POLLIN};
    while (poll(&poll_fd, 1, 0) == 0) {
        uv_run(&bench->loop, UV_RUN_ONCE);
    }
    bench->peer = accept(bench->listener, NULL, NULL);
    ck_assert_int_ge(bench->peer, 0);
}

static void say(struct bench *bench, const char *text)
{
    ck_assert_int_eq(fd_write_full(bench->peer, text, strlen(text)), 0);
}

static void run_until(struct bench *bench, const unsigned *counter, unsigned want)
{
    while (*counter < want) {
        uv_run(&bench->loop, UV_RUN_ONCE);
    }
}

static void bench_connect(struct bench *bench)
{
    bench_init(bench);
    bench_listen(bench);
    open_client(bench, 20000);
    bench_accept(bench);
    say(bench, GREETING AGREED);
    run_until(bench, &bench->ready, 1);
}

static void bench_fini(struct bench *bench)
{
    bench->client = qmp_client_close(bench->client);
    bench->deadline = loop_timer_close(bench->deadline);
    uv_run(&bench->loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(uv_loop_close(&bench->loop), 0);
    fd_close(&bench->listener);
    fd_close(&bench->peer);
    free(bench->path);
    temp_dir_fini(&bench->dir);
}

static int ask(struct bench *bench, const char *command, uint64_t timeout_ms)
{
    return qmp_client_execute(bench->client, command, NULL, timeout_ms, on_reply, bench,
                              NULL);
}

/* What the peer has received so far, until it holds `want`. */
static void peer_hears(struct bench *bench, const char *want)
{
    static char heard[65536];
    size_t used = 0;
    heard[0] = '\0';
    while (strstr(heard, want) == NULL) {
        struct pollfd poll_fd = {.fd = bench->peer, .events = POLLIN};
        if (poll(&poll_fd, 1, 0) == 0) {
            uv_run(&bench->loop, UV_RUN_ONCE);
            continue;
        }
        ssize_t count = read(bench->peer, heard + used, sizeof(heard) - 1 - used);
        ck_assert_int_gt((int)count, 0);
        used += (size_t)count;
        heard[used] = '\0';
    }
}

START_TEST(a_command_goes_out_and_its_answer_comes_back)
{
    struct bench bench;
    bench_connect(&bench);

    ck_assert_int_eq(qmp_client_execute(bench.client, "blockdev-add",
                                        json_pack("{s:i}", "size", 5), 5000, on_reply,
                                        &bench, NULL),
                     0);
    ck_assert_uint_eq(bench.replies, 0);
    peer_hears(&bench,
               "{\"execute\":\"blockdev-add\",\"id\":2,\"arguments\":{\"size\":5}}\n");
    say(&bench, "{\"return\": {\"n\": 42}, \"id\": 2}\r\n");
    run_until(&bench, &bench.replies, 1);

    ck_assert_int_eq(bench.code, 0);
    ck_assert_int_eq((int)bench.number, 42);
    bench_fini(&bench);
}
END_TEST

START_TEST(a_descriptor_goes_along_with_its_command)
{
    struct bench bench;
    char text[256] = "";
    struct iovec part = {text, sizeof(text) - 1};
    union {
        struct cmsghdr head;
        char space[CMSG_SPACE(sizeof(int))];
    } control;
    struct msghdr header = {.msg_iov = &part,
                            .msg_iovlen = 1,
                            .msg_control = &control,
                            .msg_controllen = sizeof(control)};
    int got = -1;
    int ends[2];
    bench_connect(&bench);
    ck_assert_int_eq(pipe(ends), 0);

    ck_assert_int_eq(qmp_client_execute_fd(bench.client, "getfd",
                                           json_pack("{s:s}", "fdname", "x"), ends[1],
                                           5000, on_reply, &bench, NULL),
                     0);

    ck_assert_int_gt((int)recvmsg(bench.peer, &header, 0), 0);
    ck_assert_ptr_nonnull(strstr(
        text, "{\"execute\":\"getfd\",\"id\":2,\"arguments\":{\"fdname\":\"x\"}}\n"));
    ck_assert_ptr_nonnull(CMSG_FIRSTHDR(&header));
    memcpy(&got, CMSG_DATA(CMSG_FIRSTHDR(&header)), sizeof(got));
    ck_assert_int_eq((int)write(got, "!", 1), 1);
    ck_assert_int_eq((int)read(ends[0], text, 1), 1); /* it is that pipe */
    say(&bench, "{\"return\": {\"n\": 7}, \"id\": 2}\n");
    run_until(&bench, &bench.replies, 1);
    ck_assert_int_eq((int)bench.number, 7);
    close(got);
    close(ends[0]);
    close(ends[1]);
    bench_fini(&bench);
}
END_TEST

START_TEST(answers_may_come_in_any_order_and_with_events_between)
{
    struct bench bench;
    bench_connect(&bench);
    ck_assert_int_eq(ask(&bench, "first", 5000), 0);
    ck_assert_int_eq(ask(&bench, "second", 5000), 0);

    say(&bench, "{\"return\": {\"n\": 3}, \"id\": 3}\n");
    run_until(&bench, &bench.replies, 1);
    ck_assert_int_eq((int)bench.number, 3);
    say(&bench, "{\"event\": \"STOP\", \"data\": {\"n\": 9}}\n");
    run_until(&bench, &bench.events, 1);
    ck_assert_str_eq(bench.event, "STOP");
    ck_assert_int_eq((int)bench.number, 9);
    say(&bench, "{\"return\": {\"n\": 2}, \"id\": 2}\n");
    run_until(&bench, &bench.replies, 2);

    ck_assert_int_eq((int)bench.number, 2);
    bench_fini(&bench);
}
END_TEST

START_TEST(messages_may_come_byte_by_byte)
{
    struct bench bench;
    bench_init(&bench);
    bench_listen(&bench);
    open_client(&bench, 20000);
    bench_accept(&bench);
    static const char script[] =
        GREETING AGREED "\r\n\n{\"event\": \"RESUME\"}\r\n{\"event\":\"LAST\"}\n";

    for (const char *at = script; *at != '\0'; at++) {
        ck_assert_int_eq(fd_write_full(bench.peer, at, 1), 0);
        uv_run(&bench.loop, UV_RUN_NOWAIT);
    }
    run_until(&bench, &bench.events, 2);

    ck_assert_uint_eq(bench.ready, 1);
    ck_assert_str_eq(bench.event, "LAST");
    ck_assert_uint_eq(bench.closed, 0);
    bench_fini(&bench);
}
END_TEST

START_TEST(an_error_answer_carries_the_peers_words)
{
    struct bench bench;
    bench_connect(&bench);
    ck_assert_int_eq(ask(&bench, "cont", 5000), 0);

    say(&bench, "{\"error\": {\"class\": \"GenericError\", \"desc\": \"no way\"},"
                " \"id\": 2}\n");
    run_until(&bench, &bench.replies, 1);

    ck_assert_int_eq(bench.code, BERTH_ECHILD);
    ck_assert_str_eq(bench.text, "cont: GenericError: no way");
    bench_fini(&bench);
}
END_TEST

START_TEST(an_unanswered_command_ends_at_its_deadline_and_its_late_answer_is_nothing)
{
    struct bench bench;
    bench_connect(&bench);

    ck_assert_int_eq(ask(&bench, "query-status", 20), 0);
    run_until(&bench, &bench.replies, 1);
    ck_assert_int_eq(bench.code, BERTH_ETIMEOUT);
    ck_assert_ptr_nonnull(strstr(bench.text, "query-status"));
    say(&bench, "{\"return\": {}, \"id\": 2}\n{\"event\": \"AFTER\"}\n");
    run_until(&bench, &bench.events, 1);

    ck_assert_uint_eq(bench.replies, 1);
    ck_assert_uint_eq(bench.closed, 0);
    bench_fini(&bench);
}
END_TEST

static const char *const garbage[] = {
    "not json at all",
    "{\"return\": {}",
    "[1, 2, 3]",
    "\"text\"",
    "{}",
    "{\"event\": 7}",
    "{\"return\": {}, \"id\": 99}",
    "{\"return\": {}, \"id\": \"two\"}",
    "{\"error\": {\"class\": \"GenericError\"}}",
    "{\"QMP\": {}}",
    "{\"a\": 1, \"a\": 2}",
    "\x01\xff\xfe\x80",
};

START_TEST(a_little_garbage_is_tolerated_and_much_of_it_is_not)
{
    struct bench bench;
    bench_connect(&bench);
    ck_assert_int_eq(ask(&bench, "query-status", 20000), 0);

    for (unsigned i = 0; i < QMP_GARBAGE_MAX; i++) {
        say(&bench, garbage[_i]);
        say(&bench, "\n");
    }
    say(&bench, "{\"return\": {\"n\": 1}, \"id\": 2}\n");
    run_until(&bench, &bench.replies, 1);
    ck_assert_int_eq(bench.code, 0);
    ck_assert_uint_eq(bench.closed, 0);
    say(&bench, garbage[_i]);
    say(&bench, "\n");
    run_until(&bench, &bench.closed, 1);

    ck_assert_int_eq(bench.reason.code, BERTH_EPROTO);
    bench_fini(&bench);
}
END_TEST

START_TEST(a_message_without_end_is_cut_off)
{
    struct bench bench;
    bench_connect(&bench);
    ck_assert_int_eq(ask(&bench, "query-status", 20000), 0);
    static char flood[65536];
    memset(flood, '{', sizeof(flood));

    while (bench.closed == 0) {
        (void)send(bench.peer, flood, sizeof(flood), MSG_DONTWAIT | MSG_NOSIGNAL);
        uv_run(&bench.loop, UV_RUN_NOWAIT);
    }

    ck_assert_int_eq(bench.reason.code, BERTH_EPROTO);
    ck_assert_uint_eq(bench.replies, 1);
    ck_assert_int_eq(bench.code, BERTH_ECLOSED);
    bench_fini(&bench);
}
END_TEST

START_TEST(a_large_message_below_the_limit_is_read)
{
    struct bench bench;
    bench_connect(&bench);
    size_t size = QMP_MESSAGE_MAX - 1;
    char *text = malloc(size + 2);
    memset(text, ' ', size);
    memcpy(text, "{\"event\": \"BIG\"}", 16);
    text[size] = '\n';
    size_t at = 0;

    while (bench.events == 0) {
        ssize_t count = at <= size ? send(bench.peer, text + at, size + 1 - at,
                                          MSG_DONTWAIT | MSG_NOSIGNAL)
                                   : 0;
        at += count > 0 ? (size_t)count : 0;
        uv_run(&bench.loop, UV_RUN_NOWAIT);
        ck_assert_uint_eq(bench.closed, 0);
    }

    ck_assert_str_eq(bench.event, "BIG");
    free(text);
    bench_fini(&bench);
}
END_TEST

static const char *const broken_offs[] = {
    "",
    "{\"QM",
    GREETING,
    GREETING "{\"ret",
    GREETING AGREED,
    GREETING AGREED "{\"event\": \"A\"}\n{\"ev",
};

START_TEST(a_peer_that_goes_away_at_any_point_is_told_once)
{
    struct bench bench;
    bench_init(&bench);
    bench_listen(&bench);
    open_client(&bench, 20000);
    bench_accept(&bench);
    say(&bench, broken_offs[_i]);

    fd_close(&bench.peer);
    run_until(&bench, &bench.closed, 1);
    for (unsigned i = 0; i < 5; i++) {
        uv_run(&bench.loop, UV_RUN_NOWAIT);
    }

    ck_assert_uint_eq(bench.closed, 1);
    ck_assert_int_eq(bench.reason.code, BERTH_ECLOSED);
    ck_assert_int_eq(ask(&bench, "cont", 100), BERTH_ECLOSED);
    bench_fini(&bench);
}
END_TEST

START_TEST(a_peer_that_goes_away_answers_every_open_command)
{
    struct bench bench;
    bench_connect(&bench);
    for (unsigned i = 0; i < 3; i++) {
        ck_assert_int_eq(ask(&bench, "query-status", 20000), 0);
    }

    fd_close(&bench.peer);
    run_until(&bench, &bench.closed, 1);

    ck_assert_uint_eq(bench.replies, 3);
    ck_assert_int_eq(bench.code, BERTH_ECLOSED);
    bench_fini(&bench);
}
END_TEST

/* Row 0: nobody even listens; 1: who listens says nothing; 2: says no more than hello.
 * Whether it was given up for that, and not for what comes before. */
static bool given_up_for(int row, uint64_t timeout_ms)
{
    static const char *const words[] = {"cannot connect", "no greeting",
                                        "qmp_capabilities"};
    struct bench bench;
    bench_init(&bench);
    if (row > 0) {
        bench_listen(&bench);
    }
    open_client(&bench, timeout_ms);
    struct pollfd called = {.fd = bench.listener, .events = POLLIN};
    while (row > 0 && bench.closed == 0 && poll(&called, 1, 0) == 0) {
        uv_run(&bench.loop, UV_RUN_ONCE);
    }
    if (row > 0 && bench.closed == 0) {
        bench.peer = accept(bench.listener, NULL, NULL);
        ck_assert_int_ge(bench.peer, 0);
    }
    if (row == 2 && bench.peer >= 0) {
        (void)send(bench.peer, GREETING, strlen(GREETING), MSG_NOSIGNAL);
    }
    run_until(&bench, &bench.closed, 1);
    ck_assert_int_eq(bench.reason.code, BERTH_ETIMEOUT);
    bool so = strstr(bench.reason.text, words[row]) != NULL;
    bench_fini(&bench);
    return so;
}

/* A machine may be too busy to get as far as that in time: then with more of it. */
START_TEST(a_peer_that_never_speaks_is_given_up)
{
    uint64_t timeout_ms = 50;
    while (!given_up_for(_i, timeout_ms)) {
        timeout_ms *= 4;
    }
}
END_TEST

START_TEST(a_peer_that_comes_late_is_found)
{
    struct bench bench;
    bench_init(&bench);
    open_client(&bench, 20000);
    for (unsigned i = 0; i < 4; i++) {
        uv_run(&bench.loop, UV_RUN_ONCE);
    }

    bench_listen(&bench);
    bench_accept(&bench);
    say(&bench, GREETING AGREED);
    run_until(&bench, &bench.ready, 1);

    ck_assert(qmp_client_is_ready(bench.client));
    bench_fini(&bench);
}
END_TEST

START_TEST(commands_have_a_limit)
{
    struct bench bench;
    bench_connect(&bench);
    for (unsigned i = 0; i < QMP_COMMANDS_MAX; i++) {
        ck_assert_int_eq(ask(&bench, "query-status", 20000), 0);
    }

    ck_assert_int_eq(ask(&bench, "query-status", 20000), BERTH_EFULL);

    bench_fini(&bench);
    ck_assert_uint_eq(bench.replies, 0); /* closed by us: silence */
}
END_TEST

START_TEST(a_command_before_the_peer_is_ready_is_refused)
{
    struct bench bench;
    bench_init(&bench);
    open_client(&bench, 20000);

    ck_assert_int_eq(qmp_client_execute(bench.client, "cont", json_object(), 100,
                                        on_reply, &bench, NULL),
                     BERTH_EBUSY);
    bench_fini(&bench);
}
END_TEST

static const char *const scripts_to_callbacks[] = {
    GREETING AGREED,
    GREETING AGREED "{\"event\": \"A\"}\n{\"event\": \"B\"}\n",
    GREETING "{\"error\": {}, \"id\": 1}\n",
};

START_TEST(the_client_may_be_closed_in_any_callback)
{
    struct bench bench;
    bench_init(&bench);
    bench_listen(&bench);
    open_client(&bench, 20000);
    bench_accept(&bench);
    bench.close_in_callback = _i != 1;
    say(&bench, scripts_to_callbacks[_i]);
    if (_i == 1) { /* from an event: not from ready before it */
        run_until(&bench, &bench.ready, 1);
    } else {
        while (bench.client != NULL) {
            uv_run(&bench.loop, UV_RUN_ONCE);
        }
    }

    bench_fini(&bench);

    ck_assert_uint_le(bench.ready + bench.closed, 1);
}
END_TEST

START_TEST(the_client_may_be_closed_by_a_reply_to_a_dead_peer)
{
    struct bench bench;
    bench_connect(&bench);
    ck_assert_int_eq(ask(&bench, "one", 20000), 0);
    ck_assert_int_eq(ask(&bench, "two", 20000), 0);
    bench.close_in_callback = true;

    fd_close(&bench.peer);
    run_until(&bench, &bench.replies, 1);

    ck_assert_uint_eq(bench.closed, 0);
    bench_fini(&bench);
    ck_assert_uint_eq(bench.replies, 1);
}
END_TEST

/* ---- the real thing ---- */

static void on_end(void *context, const struct vm_process_end *end)
{
    unsigned *ended = context;
    ck_assert_int_eq(end->exit_status, 0);
    (*ended)++;
}

START_TEST(a_real_qemu_is_asked_told_and_ended)
{
    struct bench bench;
    bench_init(&bench);
    char *log = temp_dir_path(&bench.dir, "log");
    char *socket_option = NULL;
    ck_assert_int_gt(asprintf(&socket_option, "unix:%s,server=on,wait=off", bench.path),
                     0);
    const char *const argv[] = {"qemu-system-x86_64", "-M",       "none", "-nodefaults",
                                "-no-user-config",    "-display", "none", "-qmp",
                                socket_option,        NULL};
    struct vm_process_spec spec = {
        .argv = argv, .folder = bench.dir.path, .log_path = log};
    unsigned ended = 0;
    struct vm_process *process =
        vm_process_spawn(&bench.loop, &spec, on_end, &ended, NULL);
    ck_assert_ptr_nonnull(process);
    ck_assert_int_eq(vm_process_release(process, NULL), 0);

    open_client(&bench, 20000);
    run_until(&bench, &bench.ready, 1);
    ck_assert_int_eq(ask(&bench, "query-version", 5000), 0);
    run_until(&bench, &bench.replies, 1);
    ck_assert_int_eq(bench.code, 0);
    ck_assert_int_eq(ask(&bench, "no-such-command", 5000), 0);
    run_until(&bench, &bench.replies, 2);
    ck_assert_int_eq(bench.code, BERTH_ECHILD);
    ck_assert_ptr_nonnull(strstr(bench.text, "CommandNotFound"));
    ck_assert_int_eq(ask(&bench, "quit", 5000), 0);
    run_until(&bench, &bench.closed, 1);
    run_until(&bench, &ended, 1);

    ck_assert_str_eq(bench.event, "SHUTDOWN");
    vm_process_close(process);
    free(socket_option);
    free(log);
    bench_fini(&bench);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("qmp_client");
    TCase *tests = tcase_create("scripted peer");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, a_command_goes_out_and_its_answer_comes_back);
    tcase_add_test(tests, a_descriptor_goes_along_with_its_command);
    tcase_add_test(tests, answers_may_come_in_any_order_and_with_events_between);
    tcase_add_test(tests, messages_may_come_byte_by_byte);
    tcase_add_test(tests, an_error_answer_carries_the_peers_words);
    tcase_add_test(
        tests, an_unanswered_command_ends_at_its_deadline_and_its_late_answer_is_nothing);
    tcase_add_loop_test(tests, a_little_garbage_is_tolerated_and_much_of_it_is_not, 0,
                        sizeof(garbage) / sizeof(garbage[0]));
    tcase_add_test(tests, a_message_without_end_is_cut_off);
    tcase_add_test(tests, a_large_message_below_the_limit_is_read);
    tcase_add_loop_test(tests, a_peer_that_goes_away_at_any_point_is_told_once, 0,
                        sizeof(broken_offs) / sizeof(broken_offs[0]));
    tcase_add_test(tests, a_peer_that_goes_away_answers_every_open_command);
    tcase_add_loop_test(tests, a_peer_that_never_speaks_is_given_up, 0, 3);
    tcase_add_test(tests, a_peer_that_comes_late_is_found);
    tcase_add_test(tests, commands_have_a_limit);
    tcase_add_test(tests, a_command_before_the_peer_is_ready_is_refused);
    tcase_add_loop_test(tests, the_client_may_be_closed_in_any_callback, 0, 3);
    tcase_add_test(tests, the_client_may_be_closed_by_a_reply_to_a_dead_peer);
    suite_add_tcase(suite, tests);
    if (system("command -v qemu-system-x86_64 >/dev/null") == 0) {
        TCase *real = tcase_create("qemu");
        tcase_set_timeout(real, 60);
        tcase_add_test(real, a_real_qemu_is_asked_told_and_ended);
        suite_add_tcase(suite, real);
    }
    return test_main_run(suite);
}
