#include "scheduler/load_table.h"

#include "base/clock.h"
#include "base/u64_map.h"

#include <stdlib.h>

#define SECOND_NS NS_PER_S
#define MINUTE_NS (60 * NS_PER_S)
#define PRUNE_MAX 256 /* per call; the rest next time */

struct bucket {
    uint32_t slot; /* which second (or minute) since the clock's start it holds */
    uint16_t count;
    uint16_t mean; /* of its samples, permille */
};

struct load {
    struct bucket seconds[LOAD_BUCKETS];
    struct bucket minutes[LOAD_BUCKETS];
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

static void bucket_add(struct bucket *ring, uint64_t slot, uint32_t permille)
{
    struct bucket *bucket = &ring[slot % LOAD_BUCKETS];
    if (bucket->slot != (uint32_t)slot || bucket->count == 0) {
        *bucket = (struct bucket){.slot = (uint32_t)slot};
    }
    if (bucket->count < UINT16_MAX) {
        uint32_t sum = (uint32_t)bucket->mean * bucket->count + permille;
        bucket->count++;
        bucket->mean = (uint16_t)(sum / bucket->count);
    }
}

void load_table_add(struct load_table *table,
                    uint64_t vm,
                    uint32_t permille,
                    uint64_t now_ns)
{
    struct load *load = u64_map_get(table->loads, vm);
    if (load == NULL) {
        load = calloc(1, sizeof(*load));
        if (load == NULL || u64_map_put(table->loads, vm, load) < 0) {
            free(load);
            return;
        }
    }
    permille = permille > 1000 ? 1000 : permille;
    bucket_add(load->seconds, now_ns / SECOND_NS, permille);
    bucket_add(load->minutes, now_ns / MINUTE_NS, permille);
}

/* Mean of the buckets whose slot lies in the last `slots`, the running one included. */
static int ring_mean(const struct bucket *ring, uint64_t slot, uint64_t slots)
{
    uint32_t sum = 0;
    uint32_t count = 0;
    for (uint64_t back = 0; back < slots && back < LOAD_BUCKETS && back <= slot; back++) {
        const struct bucket *bucket = &ring[(slot - back) % LOAD_BUCKETS];
        if (bucket->count > 0 && bucket->slot == (uint32_t)(slot - back)) {
            sum += bucket->mean;
            count++;
        }
    }
    return count > 0 ? (int)(sum / count) : -1;
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
    uint64_t seconds = (window_ns + SECOND_NS - 1) / SECOND_NS;
    if (seconds < LOAD_BUCKETS) {
        return ring_mean(load->seconds, now_ns / SECOND_NS, seconds + 1);
    }
    return ring_mean(load->minutes, now_ns / MINUTE_NS, window_ns / MINUTE_NS + 1);
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
