#include "base/loop_watch.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/require.h"
#include "base/where.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ROOM        "loop"
#define KERNEL_SIZE 64

struct loop_watch {
    struct where where;
    uv_timer_t turn; /* of the loop */
    uint64_t long_ms;
    pid_t looked_at; /* the loop's thread */
    pthread_t thread;
    pthread_mutex_t lock; /* guards ending */
    pthread_cond_t end;
    bool ending;
};

/* ---- the decision ---- */

enum loop_watch_news loop_watch_judge(struct loop_watch_seen *seen,
                                      uint64_t long_ms,
                                      uint64_t progress,
                                      uint64_t now_ns,
                                      uint64_t *ret_ms)
{
    const uint64_t look_ns = long_ms * NS_PER_MS / LOOP_WATCH_LOOKS;
    const uint64_t gap_ns = now_ns - seen->looked_ns;
    const uint64_t late_ns = gap_ns > 2 * look_ns ? gap_ns - look_ns : 0;
    const bool came_on = progress != seen->progress;
    const bool over = came_on && seen->told;
    seen->looked_ns = now_ns;
    seen->since_ns += late_ns; /* we did not run, so perhaps nothing did */
    const uint64_t stood_ms = (now_ns - seen->since_ns) / NS_PER_MS;
    if (came_on) {
        seen->progress = progress;
        seen->since_ns = now_ns;
        seen->told = false;
    }
    if (over) {
        *ret_ms = stood_ms;
        return LOOP_WATCH_OVER;
    }
    if (late_ns >= long_ms * NS_PER_MS) {
        *ret_ms = late_ns / NS_PER_MS;
        return LOOP_WATCH_STILL;
    }
    if (!came_on && !seen->told && stood_ms >= long_ms) {
        seen->told = true;
        *ret_ms = stood_ms;
        return LOOP_WATCH_LONG;
    }
    return LOOP_WATCH_NOTHING;
}

/* ---- the thread ---- */

/* First word of a file about the loop's thread; empty when there is none. */
static void
read_word(const struct loop_watch *watch, const char *file, char ret_word[KERNEL_SIZE])
{
    char path[64];
    (void)snprintf(path, sizeof(path), "/proc/self/task/%d/%s", (int)watch->looked_at,
                   file); /* fits */
    CLEANUP_FD int fd = fd_open_at(AT_FDCWD, path, O_RDONLY, 0, NULL);
    ssize_t size = fd < 0 ? -1 : fd_read_full(fd, ret_word, KERNEL_SIZE - 1);
    ret_word[size > 0 ? size : 0] = '\0';
    ret_word[strcspn(ret_word, " \n")] = '\0';
}

/* wchan is the function of the kernel that it sleeps in, "0" for none; syscall is that
 * call's number, or "running". */
static void tell_long(const struct loop_watch *watch, uint64_t ms)
{
    char function[KERNEL_SIZE];
    char call[KERNEL_SIZE];
    const char *at = atomic_load_explicit(&watch->where.at, memory_order_relaxed);
    read_word(watch, "wchan", function);
    read_word(watch, "syscall", call);
    log_warn(ROOM, "this daemon has been at one thing for long, and does nothing else",
             KV_STR("at", at != NULL ? at : "what has no name"), KV_U64("ms", ms),
             KV_STR("syscall", call), KV_STR("wchan", function));
}

static void tell(const struct loop_watch *watch, enum loop_watch_news news, uint64_t ms)
{
    switch (news) {
    case LOOP_WATCH_LONG:
        tell_long(watch, ms);
        return;
    case LOOP_WATCH_OVER:
        log_warn(ROOM, "this daemon goes on", KV_U64("stood_ms", ms));
        return;
    case LOOP_WATCH_STILL:
        log_warn(ROOM,
                 "this process stood still as a whole: it was stopped, or its "
                 "machine did not come to it",
                 KV_U64("ms", ms));
        return;
    case LOOP_WATCH_NOTHING:
    default:
        return;
    }
}

/* Under the lock: waits for the next look, or the end. */
static void wait_for_look(struct loop_watch *watch)
{
    const uint64_t look_ns = watch->long_ms * NS_PER_MS / LOOP_WATCH_LOOKS;
    struct timespec until;
    (void)clock_gettime(CLOCK_MONOTONIC, &until); /* cannot fail */
    uint64_t at_ns = (uint64_t)until.tv_nsec + look_ns;
    until.tv_sec += (time_t)(at_ns / NS_PER_S);
    until.tv_nsec = (long)(at_ns % NS_PER_S);
    (void)pthread_cond_timedwait(&watch->end, &watch->lock, &until); /* looked at again */
}

static void *look(void *context)
{
    struct loop_watch *watch = context;
    const uint64_t begin_ns = clock_now_ns(clock_system());
    struct loop_watch_seen seen = {.since_ns = begin_ns, .looked_ns = begin_ns};
    pthread_mutex_lock(&watch->lock);
    while (!watch->ending) {
        uint64_t ms = 0;
        wait_for_look(watch);
        pthread_mutex_unlock(&watch->lock);
        enum loop_watch_news news = loop_watch_judge(
            &seen, watch->long_ms,
            atomic_load_explicit(&watch->where.progress, memory_order_relaxed),
            clock_now_ns(clock_system()), &ms);
        tell(watch, news, ms);
        pthread_mutex_lock(&watch->lock);
    }
    pthread_mutex_unlock(&watch->lock);
    return NULL;
}

/* ---- the loop's side ---- */

static void on_turn(uv_timer_t *timer)
{
    (void)timer;
    where_turned();
}

/* Signals are the loop's. */
static int thread_start(struct loop_watch *watch)
{
    sigset_t all;
    sigset_t before;
    (void)sigfillset(&all); /* cannot fail */
    int r = -pthread_sigmask(SIG_SETMASK, &all, &before);
    if (r == 0) {
        r = -pthread_create(&watch->thread, NULL, look, watch);
        (void)pthread_sigmask(SIG_SETMASK, &before, NULL); /* as it was */
    }
    return r;
}

struct loop_watch *loop_watch_open(uv_loop_t *loop, uint64_t long_ms)
{
    struct loop_watch *watch = calloc(1, sizeof(*watch));
    pthread_condattr_t attributes;
    if (watch == NULL) {
        return NULL;
    }
    watch->long_ms = long_ms != 0 ? long_ms : LOOP_WATCH_LONG_MS;
    watch->looked_at = gettid();
    (void)pthread_condattr_init(&attributes); /* these cannot fail */
    (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    (void)pthread_mutex_init(&watch->lock, NULL);
    (void)pthread_cond_init(&watch->end, &attributes);
    (void)pthread_condattr_destroy(&attributes);
    if (thread_start(watch) < 0) {
        free(watch);
        return NULL;
    }
    where_watch(&watch->where);
    const uint64_t turn_ms = watch->long_ms / LOOP_WATCH_LOOKS;
    (void)uv_timer_init(loop, &watch->turn); /* these cannot fail */
    watch->turn.data = watch;
    (void)uv_timer_start(&watch->turn, on_turn, turn_ms, turn_ms);
    uv_unref((uv_handle_t *)&watch->turn);
    return watch;
}

static void on_closed(uv_handle_t *handle)
{
    free(handle->data);
}

struct loop_watch *loop_watch_close(struct loop_watch *watch)
{
    if (watch == NULL) {
        return NULL;
    }
    REQUIRE(!watch->ending);
    where_watch(NULL);
    pthread_mutex_lock(&watch->lock);
    watch->ending = true;
    (void)pthread_cond_signal(&watch->end); /* cannot fail */
    pthread_mutex_unlock(&watch->lock);
    (void)pthread_join(watch->thread, NULL); /* it looks at its end */
    (void)pthread_cond_destroy(&watch->end);
    (void)pthread_mutex_destroy(&watch->lock);
    uv_close((uv_handle_t *)&watch->turn, on_closed);
    return NULL;
}
