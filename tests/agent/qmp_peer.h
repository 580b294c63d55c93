/* A VM's program that the test plays: a process that stands for it, and a scripted peer
 * at its control socket, under the real engine_qmp. */
#pragma once

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

#define HEARD_SIZE 4096

#define GREETING "{\"QMP\": {\"version\": {}, \"capabilities\": []}}\r\n"

static struct temp_dir dir;
static uv_loop_t loop;
static struct loop_timer *tick;
static struct engine_host host;
static struct console_ring *console;
static struct engine_run *run;
static pid_t child;
static int listener, peer;
static unsigned spawns, helds, exits, notes, waits, pauses, runs, plugged;
static uint32_t cpus;
static char note[256], missing[256];
static enum engine_end end;
static bool unwritten;
static char why[ENGINE_REASON_SIZE];
static bool unwritten;

static inline void on_tick(void *context)
{
    (void)context;
}

static inline int on_spawned(void *context, const struct vm_process_identity *identity)
{
    (void)context;
    (void)identity;
    spawns++;
    return ENGINE_AT_GATE;
}

static inline void on_held(void *context)
{
    (void)context;
    helds++;
}

static inline void on_running(void *context)
{
    (void)context;
    runs++;
}

static inline void on_paused(void *context)
{
    (void)context;
    pauses++;
}

static inline void on_waiting(void *context, const char *what)
{
    (void)context;
    (void)what;
    waits++;
}

static inline void on_exited(void *context, const struct engine_exit *exit)
{
    (void)context;
    exits++;
    end = exit->end;
    unwritten = exit->unwritten;
    (void)snprintf(why, sizeof(why), "%s", exit->reason);
}

static inline void on_noted(void *context, const char *what)
{
    (void)context;
    notes++;
    (void)snprintf(note, sizeof(note), "%s", what);
}

static inline void on_plugged(void *context, uint32_t cpu_count, const char *what)
{
    (void)context;
    plugged++;
    cpus = cpu_count;
    (void)snprintf(missing, sizeof(missing), "%s", what == NULL ? "" : what);
}

static const struct engine_events events = {.spawned = on_spawned,
                                            .held = on_held,
                                            .running = on_running,
                                            .paused = on_paused,
                                            .waiting = on_waiting,
                                            .noted = on_noted,
                                            .plugged = on_plugged,
                                            .exited = on_exited};

/* A program that makes a file when it is let through, and sleeps. */
static inline struct vm_process *
spawn(struct engine_qmp_run *base, struct vm_process_spec *spec, struct err *err)
{
    static const char *const argv[] = {"sh", "-c", "touch through; exec sleep 600", NULL};
    spec->argv = argv;
    spec->program = "/bin/sh";
    return engine_qmp_spawn(base, spec, err);
}

static const struct engine_ops ops = {.name = "scripted"};
static const struct engine_qmp_kind kind = {.ops = &ops,
                                            .title = "the peer",
                                            .run_bytes = sizeof(struct engine_qmp_run),
                                            .prepare = engine_qmp_prepared,
                                            .spawn = spawn};

static inline void peer_listen(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char *path = temp_dir_path(&dir, "qmp.sock");
    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    free(path);
    listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(listener, (struct sockaddr *)(void *)&address, sizeof(address)),
                     0);
    ck_assert_int_eq(listen(listener, 1), 0);
}

static struct engine_vm vm;

static inline void setup(void)
{
    signal(SIGPIPE, SIG_IGN); /* as the daemon does */
    temp_dir_init(&dir);
    spawns = helds = exits = notes = waits = pauses = runs = plugged = 0;
    child = 0;
    listener = peer = -1;
    ck_assert_int_eq(uv_loop_init(&loop), 0);
    tick = loop_timer_new(&loop, 5, 5, on_tick, NULL);
    host = (struct engine_host){.loop = &loop,
                                .clock = clock_system(),
                                .stats_ms = 3600000}; /* nothing is asked meanwhile */
    console = console_ring_new();
    vm = (struct engine_vm){.uid = 7, .epoch = 1, .name = "web-1"};
    (void)snprintf(vm.folder, sizeof(vm.folder), "%.90s", dir.path);
}

static inline void adopt_kind(const struct engine_qmp_kind *of_kind)
{
    struct vm_process_identity identity;
    struct err err = {0};
    (void)signal(SIGTERM, SIG_DFL); /* Check's own handler would end the whole test */
    child = fork();
    if (child == 0) {
        for (;;) {
            pause();
        }
    }
    ck_assert_int_eq(vm_process_identify(child, &identity), 0);
    peer_listen();
    run = engine_qmp_adopt(of_kind, &host, &vm, &identity, console, &events, NULL, &err);
    ck_assert_msg(run != NULL, "%s", err.text);
}

static inline void adopt(void)
{
    adopt_kind(&kind);
}

static inline void teardown(void)
{
    run = engine_qmp_close(run);
    if (child > 0) {
        (void)kill(child, SIGKILL);
        (void)waitpid(child, NULL, 0);
    }
    console = console_ring_free(console);
    tick = loop_timer_close(tick);
    ck_assert_int_eq(uv_run(&loop, UV_RUN_DEFAULT), 0);
    ck_assert_int_eq(uv_loop_close(&loop), 0);
    fd_close(&listener);
    fd_close(&peer);
    temp_dir_fini(&dir);
}

static inline void turn_until(const unsigned *counter)
{
    while (*counter == 0) {
        uv_run(&loop, UV_RUN_ONCE);
    }
}

static inline void turn_until_readable(int fd)
{
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    while (poll(&poll_fd, 1, 0) == 0) {
        uv_run(&loop, UV_RUN_ONCE);
    }
}

/* Waits for the next command: its text, and its id. */
static inline long hear_line(char heard[HEARD_SIZE])
{
    size_t used = 0;
    do {
        turn_until_readable(peer);
        ck_assert_int_eq((int)read(peer, heard + used, 1), 1);
    } while (heard[used++] != '\n' && used < HEARD_SIZE - 1);
    heard[used] = '\0';
    const char *id = strstr(heard, "\"id\": ");
    id = id != NULL ? id : strstr(heard, "\"id\":");
    ck_assert_ptr_nonnull(id);
    return strtol(strchr(id, ':') + 1, NULL, 10);
}

/* It has to have these words. */
static inline long hear(const char *words)
{
    char heard[HEARD_SIZE];
    const long id = hear_line(heard);
    ck_assert_msg(strstr(heard, words) != NULL, "not %s: %s", words, heard);
    return id;
}

/* To the peer, for so long. */
static inline void ck_nothing_is_said(uint64_t for_ms)
{
    struct pollfd poll_fd = {.fd = peer, .events = POLLIN};
    const uint64_t end_ms = uv_now(&loop) + for_ms;
    while (uv_now(&loop) < end_ms) {
        uv_run(&loop, UV_RUN_ONCE);
    }
    ck_assert_int_eq(poll(&poll_fd, 1, 0), 0);
}

static inline void answer_to(long id, const char *key, const char *value)
{
    char text[512];
    int length =
        snprintf(text, sizeof(text), "{\"%s\": %s, \"id\": %ld}\r\n", key, value, id);
    ck_assert_int_eq(fd_write_full(peer, text, (size_t)length), 0);
}

static inline void answer(const char *words, const char *key, const char *value)
{
    answer_to(hear(words), key, value);
}

static inline void say_event(const char *name)
{
    char text[64];
    int length = snprintf(text, sizeof(text), "{\"event\": \"%s\"}\r\n", name);
    ck_assert_int_eq(fd_write_full(peer, text, (size_t)length), 0);
}

static inline void greet(void)
{
    turn_until_readable(listener);
    peer = accept(listener, NULL, NULL);
    ck_assert_int_eq(fd_write_full(peer, GREETING, strlen(GREETING)), 0);
    answer("qmp_capabilities", "return", "{}");
}
