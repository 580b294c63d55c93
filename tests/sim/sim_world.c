#include "sim_world.h"

#include "base/clock.h"
#include "base/require.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct world_event {
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
    free(world->keys);
    free(world->events);
    free(world->places);
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

/* A heap of four branches; what an event is stays where it is while its key moves. Orders
 * differ, so that there is one next event. */
struct world_key {
    uint64_t at_ns;
    uint64_t order;
    uint32_t place; /* in events */
};

#define BRANCHES 4

static bool is_before(const struct world_key *a, const struct world_key *b)
{
    return a->at_ns != b->at_ns ? a->at_ns < b->at_ns : a->order < b->order;
}

static void grow(struct world *world)
{
    size_t capacity = world->capacity == 0 ? 1024 : world->capacity * 2;
    world->keys = reallocarray(world->keys, capacity, sizeof(*world->keys));
    world->events = reallocarray(world->events, capacity, sizeof(*world->events));
    world->places = reallocarray(world->places, capacity, sizeof(*world->places));
    REQUIRE(world->keys != NULL && world->events != NULL && world->places != NULL);
    for (size_t i = world->capacity; i < capacity; i++) {
        world->places[i] = (uint32_t)i;
    }
    world->capacity = capacity;
}

static void sift_up(struct world *world, size_t at, struct world_key key)
{
    while (at > 0 && is_before(&key, &world->keys[(at - 1) / BRANCHES])) {
        world->keys[at] = world->keys[(at - 1) / BRANCHES];
        at = (at - 1) / BRANCHES;
    }
    world->keys[at] = key;
}

static void push(struct world *world, uint64_t at_ns, const struct world_event *event)
{
    if (world->count == world->capacity) {
        grow(world);
    }
    uint32_t place = world->places[world->count];
    world->events[place] = *event;
    sift_up(world, world->count++,
            (struct world_key){.at_ns = at_ns, .order = event->order, .place = place});
}

static struct world_event pop(struct world *world)
{
    const struct world_key first = world->keys[0];
    const struct world_key last = world->keys[--world->count];
    size_t at = 0;
    world->places[world->count] = first.place; /* free again */
    for (size_t child; (child = BRANCHES * at + 1) < world->count;) {
        size_t end = child + BRANCHES < world->count ? child + BRANCHES : world->count;
        size_t least = child;
        for (size_t i = child + 1; i < end; i++) {
            least = is_before(&world->keys[i], &world->keys[least]) ? i : least;
        }
        if (!is_before(&world->keys[least], &last)) {
            break;
        }
        world->keys[at] = world->keys[least];
        at = least;
    }
    world->keys[at] = last;
    return world->events[first.place];
}

void world_at(struct world *world,
              uint64_t at_ns,
              struct world_owner *owner,
              world_fn *fn,
              void *context,
              uint64_t argument)
{
    push(world, at_ns > world->now_ns ? at_ns : world->now_ns,
         &(struct world_event){.order = world->order++,
                               .owner = owner,
                               .life = owner != NULL ? owner->life : 0,
                               .fn = fn,
                               .context = context,
                               .argument = argument});
}

bool world_step(struct world *world, uint64_t until_ns)
{
    while (!world->failed && world->count > 0 && world->keys[0].at_ns <= until_ns) {
        world->now_ns = world->keys[0].at_ns;
        const struct world_event event = pop(world);
        struct world_owner *owner = event.owner;
        if (owner != NULL && owner->life != event.life) {
            continue;
        }
        if (owner != NULL && owner->paused_until_ns > world->now_ns) {
            push(world, owner->paused_until_ns, &event); /* keeps its order */
            continue;
        }
        world->events_run++;
        world_note(world, world->now_ns);
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
