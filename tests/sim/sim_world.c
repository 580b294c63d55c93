#include "sim_world.h"

#include "base/clock.h"
#include "base/require.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct world_event {
    uint64_t at_ns;
    uint64_t order;
    struct world_owner *owner;
    uint64_t life;
    world_fn *fn;
    void *context;
    uint64_t argument;
};

void world_init(struct world *world, uint64_t seed, bool telling)
{
    *world = (struct world){.telling = telling};
    random_seed(&world->random, seed);
    if (telling) {
        world->lines = calloc(WORLD_LINES_MAX, sizeof(*world->lines));
        REQUIRE(world->lines != NULL);
    }
}

void world_fini(struct world *world)
{
    free(world->heap);
    free(world->lines);
    *world = (struct world){0};
}

void world_note(struct world *world, uint64_t number)
{
    const uint64_t odd = UINT64_C(0x9e3779b97f4a7c15);
    world->trace = (world->trace << 5 | world->trace >> 59) ^ number;
    world->trace *= odd;
}

/* ---- the queue ---- */

static bool is_before(const struct world_event *a, const struct world_event *b)
{
    return a->at_ns != b->at_ns ? a->at_ns < b->at_ns : a->order < b->order;
}

static void push(struct world *world, struct world_event event)
{
    if (world->count == world->capacity) {
        world->capacity = world->capacity == 0 ? 1024 : world->capacity * 2;
        world->heap = realloc(world->heap, world->capacity * sizeof(*world->heap));
        REQUIRE(world->heap != NULL);
    }
    size_t at = world->count++;
    while (at > 0 && is_before(&event, &world->heap[(at - 1) / 2])) {
        world->heap[at] = world->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    world->heap[at] = event;
}

static struct world_event pop(struct world *world)
{
    struct world_event first = world->heap[0];
    struct world_event last = world->heap[--world->count];
    size_t at = 0;
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= world->count) {
            break;
        }
        if (child + 1 < world->count &&
            is_before(&world->heap[child + 1], &world->heap[child])) {
            child++;
        }
        if (!is_before(&world->heap[child], &last)) {
            break;
        }
        world->heap[at] = world->heap[child];
        at = child;
    }
    if (world->count > 0) {
        world->heap[at] = last;
    }
    return first;
}

void world_at(struct world *world,
              uint64_t at_ns,
              struct world_owner *owner,
              world_fn *fn,
              void *context,
              uint64_t argument)
{
    push(world,
         (struct world_event){.at_ns = at_ns > world->now_ns ? at_ns : world->now_ns,
                              .order = world->order++,
                              .owner = owner,
                              .life = owner != NULL ? owner->life : 0,
                              .fn = fn,
                              .context = context,
                              .argument = argument});
}

bool world_step(struct world *world, uint64_t until_ns)
{
    while (!world->failed && world->count > 0 && world->heap[0].at_ns <= until_ns) {
        struct world_event event = pop(world);
        struct world_owner *owner = event.owner;
        world->now_ns = event.at_ns;
        if (owner != NULL && owner->life != event.life) {
            continue;
        }
        if (owner != NULL && owner->paused_until_ns > world->now_ns) {
            event.at_ns = owner->paused_until_ns; /* keeps its place among the others */
            push(world, event);
            continue;
        }
        world->events_run++;
        world_note(world, event.at_ns);
        world_note(world, event.argument);
        event.fn(event.context, event.argument);
        if (owner != NULL && owner->after != NULL && owner->life == event.life) {
            owner->after(owner->context);
        }
        return true;
    }
    if (!world->failed) {
        world->now_ns = until_ns;
    }
    return false;
}

/* ---- chance ---- */

uint64_t world_between(struct world *world, uint64_t low, uint64_t high)
{
    return low + random_below(&world->random, high - low + 1);
}

bool world_chance(struct world *world, unsigned permille)
{
    return permille > 0 && random_below(&world->random, 1000) < permille;
}

/* ---- words ---- */

__attribute__((format(printf, 2, 0))) static void
say(struct world *world, const char *format, va_list arguments)
{
    char *line = world->lines[world->line_count++ % WORLD_LINES_MAX];
    int used =
        snprintf(line, WORLD_LINE_MAX, "%10.4f  ", (double)(world->now_ns / 1000) / 1e6);
    vsnprintf(line + used, (size_t)(WORLD_LINE_MAX - used), format, arguments);
}

void world_say(struct world *world, const char *format, ...)
{
    va_list arguments;
    if (world->telling) {
        va_start(arguments, format);
        say(world, format, arguments);
        va_end(arguments);
    }
}

void world_fail(struct world *world, const char *format, ...)
{
    va_list arguments;
    if (world->failed) {
        return;
    }
    world->failed = true;
    world->failed_ns = world->now_ns;
    va_start(arguments, format);
    vsnprintf(world->failure, sizeof(world->failure), format, arguments);
    va_end(arguments);
    world_say(world, "VIOLATION: %s", world->failure);
}

void world_print(const struct world *world, unsigned max)
{
    uint64_t held =
        world->line_count < WORLD_LINES_MAX ? world->line_count : WORLD_LINES_MAX;
    uint64_t shown = held < max ? held : max;
    for (uint64_t i = world->line_count - shown; i < world->line_count; i++) {
        printf("%s\n", world->lines[i % WORLD_LINES_MAX]);
    }
}
