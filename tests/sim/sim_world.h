/* Virtual time: a queue of events, one random stream, a timeline that people read.
 *
 * Shapes: `struct world` is the whole of it; an event is a function with a context and a
 * number, due at an instant. Events of one instant run in the order in which they were
 * made. An owner is something that can be paused (its events wait) and can die (they are
 * dropped). Units: nanoseconds of true time since the run began. Threads: one per world.
 * Ownership: events own nothing. Errors: world_fail notes the first violation and ends
 * the run; out of memory aborts.
 */
#pragma once

#include "base/random.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WORLD_LINE_MAX    200
#define WORLD_LINES_MAX   20000 /* of the timeline; the newest are kept */
#define WORLD_FAILURE_MAX 512
#define WORLD_NEVER       UINT64_MAX

struct world_owner {
    uint64_t life;                /* events of another life are dropped */
    uint64_t paused_until_ns;     /* 0: not paused */
    void (*after)(void *context); /* runs after each of its events; may be NULL */
    void *context;
};

typedef void world_fn(void *context, uint64_t argument);

struct world_event;
struct world_key;

struct world { /* fields private, but for reading */
    uint64_t now_ns;
    uint64_t events_run;
    uint64_t trace; /* of all events so far: when, and with what */
    struct random random;
    bool failed;
    uint64_t failed_ns;
    char failure[WORLD_FAILURE_MAX];
    bool telling;           /* keep a timeline */
    struct world_key *keys; /* of those due, a heap */
    struct world_event *events;
    uint32_t *places; /* those from count on are free */
    size_t count;
    size_t capacity;
    uint64_t order;
    char (*lines)[WORLD_LINE_MAX];
    uint64_t line_count;
};

void world_init(struct world *world, uint64_t seed, bool telling);
void world_fini(struct world *world);

/* owner may be NULL. */
void world_at(struct world *world,
              uint64_t at_ns,
              struct world_owner *owner,
              world_fn *fn,
              void *context,
              uint64_t argument);
/* Runs the next event if it is due by then; false when there is none, or after a failure.
 * When false, time stands at until_ns. */
bool world_step(struct world *world, uint64_t until_ns);

/* What else tells two runs apart goes into the trace. */
void world_note(struct world *world, uint64_t number);

/* A random number in [low, high]. */
uint64_t world_between(struct world *world, uint64_t low, uint64_t high);
/* True so many times in a thousand. */
bool world_chance(struct world *world, unsigned permille);

/* One line of the timeline, with the time before it. */
void world_say(struct world *world, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void world_fail(struct world *world, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* The newest `max` lines, oldest first, on stdout. */
void world_print(const struct world *world, unsigned max);
