/* Goal: what a program says of its guest is learnt even when an answer is lost. Method: a
 * process that stands for the program, and a scripted peer at its control socket. */
#include "agent/engine_qmp.h"
#include "base/fd.h"
#include "base/loop.h"
#include "support/temp_dir.h"
#include "support/test_main.h"

#include <check.h>

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define GREETING "{\"QMP\": {\"version\": {}, \"capabilities\": []}}\r\n"

static struct temp_dir dir;
static uv_loop_t loop;
static struct loop_timer *tick;
static struct engine_host host;
static struct console_ring *console;
static struct engine_run *run;
static pid_t child;
static int listener, peer;
static unsigned exits;
static enum engine_end end;

static void on_tick(void *context)
{
    (void)context;
}

static void ignore(void *context)
{
    (void)context;
}

static void on_exited(void *context, const struct engine_exit *exit)
{
    (void)context;
    exits++;
    end = exit->end;
}

static const struct engine_events events = {.held = ignore,
                                            .running = ignore,
                                            .paused = ignore,
                                            .exited = on_exited};
static const struct engine_ops ops = {.name = "scripted"};
static const struct engine_qmp_kind kind = {.ops = &ops,
                                            .title = "the peer",
                                            .run_bytes = sizeof(struct engine_qmp_run)};

static void peer_listen(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char *path = temp_dir_path(&dir, "qmp.sock");
    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    free(path);
    peer = -1;
    listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(listener, (struct sockaddr *)(void *)&address, sizeof(address)),
                     0);
    ck_assert_int_eq(listen(listener, 1), 0);
}

static void setup(void)
{
    struct engine_vm vm = {.uid = 7, .epoch = 1, .name = "web-1"};
    struct vm_process_identity identity;
    struct err err = {0};
    signal(SIGPIPE, SIG_IGN); /* as the daemon does */
    temp_dir_init(&dir);
    exits = 0;
    child = fork();
    if (child == 0) {
        (void)signal(SIGTERM, SIG_DFL); /* Check's own handler ends the whole test */
        for (;;) {
            pause();
        }
    }
    ck_assert_int_eq(vm_process_identify(child, &identity), 0);
    peer_listen();
    ck_assert_int_eq(uv_loop_init(&loop), 0);
    tick = loop_timer_new(&loop, 5, 5, on_tick, NULL);
    host = (struct engine_host){.loop = &loop, .clock = clock_system()};
    console = console_ring_new();
    (void)snprintf(vm.folder, sizeof(vm.folder), "%.90s", dir.path);
    run = engine_qmp_adopt(&kind, &host, &vm, &identity, console, &events, NULL, &err);
    ck_assert_msg(run != NULL, "%s", err.text);
}

static void teardown(void)
{
    run = engine_qmp_close(run);
    (void)kill(child, SIGKILL);
    (void)waitpid(child, NULL, 0);
    console = console_ring_free(console);
    tick = loop_timer_close(tick);
    ck_assert_int_eq(uv_run(&loop, UV_RUN_DEFAULT), 0);
    ck_assert_int_eq(uv_loop_close(&loop), 0);
    fd_close(&listener);
    fd_close(&peer);
    temp_dir_fini(&dir);
}

static void turn_until_readable(int fd)
{
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    while (poll(&poll_fd, 1, 0) == 0) {
        uv_run(&loop, UV_RUN_ONCE);
    }
}

/* Waits for a command of this name, and answers it. */
static void answer(const char *name, const char *key, const char *value)
{
    char heard[4096];
    char text[512];
    size_t used = 0;
    heard[0] = '\0';
    while (strstr(heard, name) == NULL || strchr(heard, '\n') == NULL) {
        turn_until_readable(peer);
        ssize_t count = read(peer, heard + used, sizeof(heard) - 1 - used);
        ck_assert_int_gt((int)count, 0);
        used += (size_t)count;
        heard[used] = '\0';
    }
    const char *id = strstr(heard, "\"id\"");
    ck_assert_ptr_nonnull(id);
    int length = snprintf(text, sizeof(text), "{\"%s\": %s, \"id\": %ld}\r\n", key, value,
                          strtol(strchr(id, ':') + 1, NULL, 10));
    ck_assert_int_eq(fd_write_full(peer, text, (size_t)length), 0);
}

START_TEST(a_status_that_was_not_told_is_asked_again)
{
    turn_until_readable(listener);
    peer = accept(listener, NULL, NULL);
    ck_assert_int_eq(fd_write_full(peer, GREETING, strlen(GREETING)), 0);
    answer("qmp_capabilities", "return", "{}");

    answer("query-status", "error", "{\"class\": \"GenericError\", \"desc\": \"busy\"}");
    answer("query-status", "return", "{\"status\": \"shutdown\"}");

    while (exits == 0) {
        uv_run(&loop, UV_RUN_ONCE);
    }
    ck_assert_int_eq(end, ENGINE_END_GUEST_SHUTDOWN);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("engine_qmp");
    TCase *tests = tcase_create("engine_qmp");
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, a_status_that_was_not_told_is_asked_again);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
