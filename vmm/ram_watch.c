#include "vmm/ram_watch.h"

#include "base/clock.h"
#include "base/require.h"

#include <errno.h>
#include <time.h>

/* Time that is put forward or back shortens no wait. */
static void condition_init(pthread_cond_t *condition)
{
    pthread_condattr_t attributes;
    (void)pthread_condattr_init(&attributes); /* none of the four can fail with this */
    (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    (void)pthread_cond_init(condition, &attributes);
    (void)pthread_condattr_destroy(&attributes);
}

void ram_watch_setup(struct ram_watch *watch,
                     pthread_mutex_t *lock,
                     unsigned patience_ms,
                     const struct ram_watch_events *events)
{
    REQUIRE(patience_ms > 0);
    *watch =
        (struct ram_watch){.events = *events, .lock = lock, .patience_ms = patience_ms};
    condition_init(&watch->ended);
}

/* As its condition counts time. */
static struct timespec after_ms(uint64_t ms)
{
    struct timespec now = {0};
    (void)clock_gettime(CLOCK_MONOTONIC, &now); /* cannot fail */
    const uint64_t ns = (uint64_t)now.tv_nsec + ms * NS_PER_MS;
    return (struct timespec){.tv_sec = now.tv_sec + (time_t)(ns / NS_PER_S),
                             .tv_nsec = (long)(ns % NS_PER_S)};
}

static void turn_take(struct ram_watch *watch)
{
    watch->turn++;
    watch->still_turns = watch->has_moved ? 0 : watch->still_turns + 1;
    watch->has_moved = false;
    watch->events.turned(watch->events.context, watch->still_turns >= RAM_WATCH_TURNS ||
                                                    (watch->hurry_turn != 0 &&
                                                     watch->turn >= watch->hurry_turn));
}

static void *watch_thread(void *context)
{
    struct ram_watch *watch = context;
    const uint64_t turn_ms = (watch->patience_ms - 1) / RAM_WATCH_TURNS + 1;
    watch->events.began(watch->events.context);
    pthread_mutex_lock(watch->lock);
    while (!watch->is_over) {
        const struct timespec late = after_ms(turn_ms);
        if (pthread_cond_timedwait(&watch->ended, watch->lock, &late) == ETIMEDOUT) {
            turn_take(watch);
        }
    }
    pthread_mutex_unlock(watch->lock);
    return NULL;
}

int ram_watch_start(struct ram_watch *watch)
{
    const int r = -pthread_create(&watch->thread, NULL, watch_thread, watch);
    watch->runs = r == 0;
    return r;
}

uint64_t ram_watch_patience_end(const struct ram_watch *watch)
{
    return watch->turn + RAM_WATCH_TURNS;
}

bool ram_watch_is_over(const struct ram_watch *watch, uint64_t until_turn)
{
    return watch->turn >= until_turn;
}

bool ram_watch_is_long(const struct ram_watch *watch, uint64_t until_turn)
{
    return until_turn - watch->turn < RAM_WATCH_TURNS - 1;
}

void ram_watch_moved(struct ram_watch *watch)
{
    watch->has_moved = true;
}

void ram_watch_hurry(struct ram_watch *watch, bool is_wanted)
{
    watch->hurry_turn = is_wanted ? ram_watch_patience_end(watch) : 0;
}

void ram_watch_end(struct ram_watch *watch)
{
    watch->is_over = true;
    pthread_cond_signal(&watch->ended);
}

void ram_watch_join(struct ram_watch *watch)
{
    if (watch->runs) {
        (void)pthread_join(watch->thread, NULL);
        watch->runs = false;
    }
}

void ram_watch_fini(struct ram_watch *watch)
{
    REQUIRE(!watch->runs);
    (void)pthread_cond_destroy(&watch->ended);
}
