/* A fence in a child process, a client, and processes to watch.
 *
 * Leases are long and granted in the past where a phase is wanted: nothing waits for time
 * to pass, and a busy machine changes nothing. Waiting is for facts, with the test's own
 * timeout as its end. */
#pragma once

#include "base/clock.h"
#include "base/err.h"
#include "base/fd.h"
#include "base/proc_stat.h"
#include "fence/fence_loop.h"
#include "fence/fence_socket.h"
#include "support/temp_dir.h"

#include <check.h>

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* A lease whose end no test lives to see. */
#define LONG_NS     bench_long_ns()
#define LONG_MAX_NS (UINT64_C(1000) * NS_PER_S)
#define EVENT_KINDS (FENCE_EVENT_OVERDUE + 1)

struct bench {
    struct temp_dir dir;
    struct fence_config config;
    pid_t fence;
    int client;
    uint32_t tag;
    unsigned events[EVENT_KINDS]; /* VMs told of so far, by kind */
};

static inline uint64_t bench_now(void)
{
    return clock_now_ns(clock_system());
}

/* As long as the machine is up, for it may be granted in the past. */
static inline uint64_t bench_long_ns(void)
{
    static uint64_t long_ns;
    if (long_ns == 0) {
        long_ns = bench_now() < LONG_MAX_NS ? bench_now() : LONG_MAX_NS;
    }
    return long_ns;
}

/* Between two looks at a fact. */
static inline void bench_breathe(void)
{
    const struct timespec pause = {.tv_nsec = NS_PER_MS};
    (void)nanosleep(&pause, NULL);
}

static inline int bench_connect(struct bench *bench)
{
    pid_t pid;
    int fd;
    while ((fd = fence_socket_connect(bench->dir.path, &pid, NULL)) < 0) {
        ck_assert(fd == -ENOENT || fd == -ECONNREFUSED);
        ck_assert_int_eq(waitpid(bench->fence, NULL, WNOHANG), 0); /* it stands */
        bench_breathe();
    }
    return fd;
}

/* A fence that nobody is connected to yet. */
static inline void bench_fence_fork(struct bench *bench)
{
    bench->config.folder = bench->dir.path;
    bench->fence = fork();
    if (bench->fence == 0) {
        struct err err = {0};
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        _exit(fence_loop_run(&bench->config, &err) == 0 ? 0 : 1);
    }
    ck_assert_int_gt(bench->fence, 0);
}

static inline void bench_fence_start(struct bench *bench)
{
    bench_fence_fork(bench);
    bench->client = bench_connect(bench);
}

static inline void bench_init(struct bench *bench, uint64_t length_ns)
{
    memset(bench, 0, sizeof(*bench));
    temp_dir_init(&bench->dir);
    bench->config.rules = fence_rules_default(length_ns);
    bench->config.watchdog.fd = -1;
    bench->config.idle_ms = FENCE_IDLE_MS;
    bench_fence_start(bench);
}

/* Its exit status. */
static inline int bench_fence_end(struct bench *bench, int signal_number)
{
    int status = -1;
    if (signal_number != 0) {
        ck_assert_int_eq(kill(bench->fence, signal_number), 0);
    }
    ck_assert_int_eq(waitpid(bench->fence, &status, 0), bench->fence);
    bench->fence = 0;
    return status;
}

static inline void bench_fini(struct bench *bench)
{
    if (bench->fence > 0) {
        ck_assert_int_eq(bench_fence_end(bench, SIGTERM), 0);
    }
    fd_close(&bench->client);
    temp_dir_fini(&bench->dir);
}

/* ---- talking ---- */

/* The next message; events are counted. */
static inline int bench_receive(struct bench *bench, struct fence_message *ret_message)
{
    int fds[FENCE_FDS_MAX];
    struct pollfd wait = {.fd = bench->client, .events = POLLIN};
    ck_assert_int_eq(poll(&wait, 1, -1), 1);
    int r = fence_socket_receive(bench->client, ret_message, fds);
    if (r == 0 && ret_message->type == FENCE_EVENT) {
        const struct fence_event *event = &ret_message->body.event;
        ck_assert_uint_lt(event->kind, EVENT_KINDS);
        bench->events[event->kind] += event->count;
    }
    return r;
}

static inline void
bench_wait_event(struct bench *bench, enum fence_event_kind kind, unsigned count)
{
    struct fence_message message;
    while (bench->events[kind] < count) {
        ck_assert_int_eq(bench_receive(bench, &message), 0);
    }
}

/* Sends, and waits for the answer to it. */
static inline struct fence_message bench_ask(struct bench *bench,
                                             struct fence_message request,
                                             const int *fds,
                                             unsigned fd_count)
{
    struct fence_message message;
    request.tag = ++bench->tag;
    ck_assert_int_eq(fence_socket_send(bench->client, &request, fds, fd_count), 0);
    do {
        ck_assert_int_eq(bench_receive(bench, &message), 0);
    } while (message.type == FENCE_EVENT);
    ck_assert_uint_eq(message.tag, request.tag);
    return message;
}

static inline int bench_reply(struct bench *bench, struct fence_message request)
{
    struct fence_message message = bench_ask(bench, request, NULL, 0);
    ck_assert_int_eq(message.type, FENCE_REPLY);
    return -(int)message.body.reply.code;
}

/* A lease that was granted so long ago. */
static inline int bench_lease(struct bench *bench, uint64_t age_ns)
{
    return bench_reply(bench, (struct fence_message){
                                  .type = FENCE_LEASE,
                                  .body.lease = {.granted_ns = bench_now() - age_ns}});
}

static inline struct fence_state bench_state(struct bench *bench)
{
    struct fence_message message =
        bench_ask(bench, (struct fence_message){.type = FENCE_HELLO}, NULL, 0);
    ck_assert_int_eq(message.type, FENCE_STATE);
    return message.body.state;
}

static inline struct fence_page bench_page(struct bench *bench, uint32_t slot)
{
    struct fence_message message = bench_ask(
        bench, (struct fence_message){.type = FENCE_LIST, .body.list = {slot}}, NULL, 0);
    ck_assert_int_eq(message.type, FENCE_PAGE);
    return message.body.page;
}

/* ---- processes to watch ---- */

/* Ends with the test, if nobody ends it before. */
static inline pid_t bench_child(void)
{
    pid_t pid = fork();
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (;;) {
            (void)pause();
        }
    }
    ck_assert_int_gt(pid, 0);
    return pid;
}

static inline struct fence_watch bench_watch_of(uint64_t uid, uint64_t epoch, pid_t pid)
{
    struct proc_stat stat;
    ck_assert_int_eq(proc_stat_read(pid, &stat), 0);
    return (struct fence_watch){.uid = uid,
                                .epoch = epoch,
                                .pid = (uint32_t)pid,
                                .start_ticks = stat.start_ticks};
}

static inline int
bench_watch(struct bench *bench, uint64_t uid, uint64_t epoch, pid_t pid)
{
    struct fence_message request = {.type = FENCE_WATCH,
                                    .body.watch = bench_watch_of(uid, epoch, pid)};
    int pidfd = pidfd_open(pid, 0);
    ck_assert_int_ge(pidfd, 0);
    struct fence_message message = bench_ask(bench, request, &pidfd, 1);
    ck_assert_int_eq(close(pidfd), 0);
    return -(int)message.body.reply.code;
}

static inline void bench_wait_state(pid_t pid, char state)
{
    struct proc_stat stat;
    while (proc_stat_read(pid, &stat) == 0 && stat.state != state) {
        ck_assert(!proc_stat_is_dead(&stat));
        bench_breathe();
    }
    ck_assert_int_eq(stat.state, state);
}

static inline bool bench_lives(pid_t pid)
{
    struct proc_stat stat;
    return proc_stat_read(pid, &stat) == 0 && !proc_stat_is_dead(&stat);
}

/* Waits for its end: the signal that it died of, 0 for an exit. */
static inline int bench_reap(pid_t pid)
{
    int status = 0;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static inline void bench_kill(pid_t pid)
{
    ck_assert_int_eq(kill(pid, SIGKILL), 0);
    ck_assert_int_eq(bench_reap(pid), SIGKILL);
}
