/* Counts for those who wait for RAM how long that may still take: nobody waits for ever.
 *
 *     made --start--> counts --end--> ended --fini
 *
 * Shapes: `struct ram_watch`, a thread that takes a turn after the other, of which
 * RAM_WATCH_TURNS are the patience. What is stopped as a whole (its host sleeps, its
 * group is frozen) takes a turn at most for it. A turn is late when nothing has come in
 * for the whole patience, or when whoever hurries has waited for so long.
 *
 * Threads: the lock is its owner's, who holds it for everything but setup, start, join
 * and fini; `turned` comes on the watch's thread under it, `began` without. Ownership:
 * memory is the caller's. Errors: -errno of start.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#define RAM_WATCH_TURNS 30u

struct ram_watch_events {
    void (*began)(void *context);                /* the thread's first act */
    void (*turned)(void *context, bool is_late); /* a turn is over */
    void *context;
};

/* Fields private below. */
struct ram_watch {
    struct ram_watch_events events;
    pthread_mutex_t *lock;
    pthread_cond_t ended;
    pthread_t thread;
    bool runs;
    unsigned patience_ms;
    /* under the lock */
    uint64_t turn;
    unsigned still_turns; /* since something has come in */
    uint64_t hurry_turn;  /* until when who is to stand still may wait; 0: nobody is */
    bool has_moved;       /* something came in during this turn */
    bool is_over;
};

void ram_watch_setup(struct ram_watch *watch,
                     pthread_mutex_t *lock,
                     unsigned patience_ms,
                     const struct ram_watch_events *events);
int ram_watch_start(struct ram_watch *watch);
/* The last turn whoever begins to wait now may wait for; and whether that has come. */
uint64_t ram_watch_patience_end(const struct ram_watch *watch);
bool ram_watch_is_over(const struct ram_watch *watch, uint64_t until_turn);
/* Whether who waits until then has waited for more than a turn. */
bool ram_watch_is_long(const struct ram_watch *watch, uint64_t until_turn);
/* Something has come in. */
void ram_watch_moved(struct ram_watch *watch);
/* From now on, or not any more, somebody may wait for the patience at most. */
void ram_watch_hurry(struct ram_watch *watch, bool is_wanted);
/* It takes no more turns. */
void ram_watch_end(struct ram_watch *watch);
/* Waits for the end of a thread that was told to. */
void ram_watch_join(struct ram_watch *watch);
void ram_watch_fini(struct ram_watch *watch);
