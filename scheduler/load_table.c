#include "scheduler/load_table.h"

#include "base/clock.h"
#include "base/u64_map.h"

#include <stdlib.h>
#include <string.h>

#define SECOND_NS NS_PER_S
#define MINUTE_NS (60 * NS_PER_S)
#define PRUNE_MAX 256 /* per call; the rest next time */
#define NO_MEAN   UINT16_MAX

/* The slot that runs, and the means of the LOAD_BUCKETS before it. */
struct ring {
    uint64_t slot; /* which second (or minute) since the clock's start runs */
    uint32_t sum;  /* of its samples, permille */
    uint32_t count;
    uint16_t means[LOAD_BUCKETS]; /* by slot % LOAD_BUCKETS; NO_MEAN: no sample */
};

struct load {
    struct ring seconds;
    struct ring minutes;
    uint64_t ready_ns; /* of its first ready sample */
    bool ready;        /* at the last sample */
};

struct load_table {
    struct u64_map *loads; /* vm uid -> struct load */
};

struct load_table *load_table_new(void)
{
    struct load_table *table = calloc(1, sizeof(*table));
    if (table != NULL && (table->loads = u64_map_new()) == NULL) {
        free(table);
        table = NULL;
    }
    return table;
}

struct load_table *load_table_free(struct load_table *table)
{
    size_t cursor = 0;
    uint64_t vm;
    void *load;
    if (table == NULL) {
        return NULL;
    }
    while (u64_map_next(table->loads, &cursor, &vm, &load)) {
        free(load);
    }
    u64_map_free(table->loads);
    free(table);
    return NULL;
}

static void ring_init(struct ring *ring, uint64_t slot)
{
    *ring = (struct ring){.slot = slot};
    memset(ring->means, 0xff, sizeof(ring->means)); /* NO_MEAN */
}

static uint16_t ring_running(const struct ring *ring)
{
    return (uint16_t)(ring->count > 0 ? ring->sum / ring->count : NO_MEAN);
}

/* The mean of a slot, or NO_MEAN. */
static uint16_t ring_at(const struct ring *ring, uint64_t slot)
{
    if (slot == ring->slot) {
        return ring_running(ring);
    }
    bool held = slot < ring->slot && ring->slot - slot <= LOAD_BUCKETS;
    return held ? ring->means[slot % LOAD_BUCKETS] : NO_MEAN;
}

static void ring_add(struct ring *ring, uint64_t slot, uint32_t permille)
{
    if (slot > ring->slot) {
        ring->means[ring->slot % LOAD_BUCKETS] = ring_running(ring);
        if (slot - ring->slot > LOAD_BUCKETS) {
            ring_init(ring, slot);
        }
        while (++ring->slot < slot) {
            ring->means[ring->slot % LOAD_BUCKETS] = NO_MEAN;
        }
        ring->slot = slot;
        ring->sum = 0;
        ring->count = 0;
    }
    ring->sum += permille;
    ring->count++;
}

static void load_init(struct load *load, bool ready, uint64_t now_ns)
{
    ring_init(&load->seconds, now_ns / SECOND_NS);
    ring_init(&load->minutes, now_ns / MINUTE_NS);
    load->ready = ready;
    load->ready_ns = now_ns;
}

void load_table_add(struct load_table *table,
                    uint64_t vm,
                    uint32_t permille,
                    bool ready,
                    uint64_t now_ns)
{
    struct load *load = u64_map_get(table->loads, vm);
    if (load == NULL) {
        load = calloc(1, sizeof(*load));
        if (load == NULL || u64_map_put(table->loads, vm, load) < 0) {
            free(load);
            return;
        }
        load_init(load, false, now_ns);
    }
    if (ready && !load->ready) {
        load_init(load, true, now_ns);
        return;
    }
    load->ready = ready;
    permille = permille > 1000 ? 1000 : permille;
    ring_add(&load->seconds, now_ns / SECOND_NS, permille);
    ring_add(&load->minutes, now_ns / MINUTE_NS, permille);
}

/* Each slot counts for the part of it that lies between from and now. */
static int
ring_mean(const struct ring *ring, uint64_t slot_ns, uint64_t from_ns, uint64_t now_ns)
{
    uint64_t sum = 0;
    uint64_t weights = 0;
    for (uint64_t slot = from_ns / slot_ns; slot <= now_ns / slot_ns; slot++) {
        uint64_t start_ns = slot * slot_ns > from_ns ? slot * slot_ns : from_ns;
        uint64_t end_ns = (slot + 1) * slot_ns < now_ns ? (slot + 1) * slot_ns : now_ns;
        uint16_t mean = ring_at(ring, slot);
        if (mean != NO_MEAN) {
            uint64_t weight =
                end_ns - start_ns + 1; /* a slot that begins now counts too */
            sum += mean * weight;
            weights += weight;
        }
    }
    return weights > 0 ? (int)((sum + weights / 2) / weights) : -1;
}

int load_table_mean(const struct load_table *table,
                    uint64_t vm,
                    uint64_t window_ns,
                    uint64_t now_ns)
{
    const struct load *load = u64_map_get(table->loads, vm);
    if (load == NULL) {
        return -1;
    }
    window_ns = window_ns < LOAD_WINDOW_MAX_NS ? window_ns : LOAD_WINDOW_MAX_NS;
    uint64_t from_ns = now_ns > window_ns ? now_ns - window_ns : 0;
    return window_ns <= LOAD_BUCKETS * SECOND_NS
               ? ring_mean(&load->seconds, SECOND_NS, from_ns, now_ns)
               : ring_mean(&load->minutes, MINUTE_NS, from_ns, now_ns);
}

bool load_table_warm(const struct load_table *table,
                     uint64_t vm,
                     uint64_t window_ns,
                     uint64_t now_ns)
{
    const struct load *load = u64_map_get(table->loads, vm);
    uint64_t enough_ns = window_ns < LOAD_WARM_MAX_NS ? window_ns : LOAD_WARM_MAX_NS;
    return load != NULL && load->ready && now_ns >= load->ready_ns + enough_ns;
}

void load_table_prune(struct load_table *table, const struct state *state)
{
    uint64_t gone[PRUNE_MAX];
    unsigned count = 0;
    size_t cursor = 0;
    uint64_t vm;
    void *load;
    while (count < PRUNE_MAX && u64_map_next(table->loads, &cursor, &vm, &load)) {
        if (state_vm(state, vm) == NULL) {
            gone[count++] = vm;
        }
    }
    for (unsigned i = 0; i < count; i++) {
        free(u64_map_remove(table->loads, gone[i]));
    }
}
