#include "model/request_memory.h"

#include "base/require.h"
#include "base/u64_map.h"
#include "model/content_hash.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct request_memory {
    struct remembered_request *ring; /* entry n lives at n % limit */
    uint32_t *owners;                /* likewise, whose it is: a walk that is short */
    uint32_t *by_id; /* place in the ring + 1, at the id's home or after it; 0: none */
    uint32_t places_mask; /* of by_id, a power of two that is twice the limit or more */
    struct u64_map *held; /* owner + 1 -> how many are its, as a pointer */
    uint32_t limit;
    uint32_t count;
    uint64_t sequence; /* of the next entry */
    uint64_t hash;
    uint64_t forgotten[REQUEST_OWNER_SETS]; /* the highest revision, by set of owners */
};

static uint32_t places_for(uint32_t limit)
{
    uint32_t places = 2;
    REQUIRE(limit <= UINT32_MAX / 4);
    while (places < 2 * limit) {
        places *= 2;
    }
    return places;
}

struct request_memory *request_memory_new(uint32_t limit)
{
    REQUIRE(limit > 0);
    struct request_memory *memory = calloc(1, sizeof(*memory));
    if (memory == NULL) {
        return NULL;
    }
    memory->limit = limit;
    /* What is not held is not read: a megabyte that need not be touched. */
    memory->ring = reallocarray(NULL, limit, sizeof(*memory->ring));
    memory->owners = reallocarray(NULL, limit, sizeof(*memory->owners));
    memory->places_mask = places_for(limit) - 1;
    memory->by_id = calloc((size_t)memory->places_mask + 1, sizeof(*memory->by_id));
    memory->held = u64_map_new();
    if (memory->ring == NULL || memory->owners == NULL || memory->by_id == NULL ||
        memory->held == NULL) {
        return request_memory_free(memory);
    }
    return memory;
}

struct request_memory *request_memory_free(struct request_memory *memory)
{
    if (memory != NULL) {
        free(memory->by_id);
        u64_map_free(memory->held);
        free(memory->owners);
        free(memory->ring);
        free(memory);
    }
    return NULL;
}

bool request_id_is_zero(const uint8_t id[REQUEST_ID_SIZE])
{
    static const uint8_t zero[REQUEST_ID_SIZE];
    return memcmp(id, zero, sizeof(zero)) == 0;
}

/* ---- by id ---- */

static uint32_t home_of(const struct request_memory *memory, const uint8_t *id)
{
    return (uint32_t)content_hash(0, id, REQUEST_ID_SIZE) & memory->places_mask;
}

/* Where the id is, or the free place on its way; half of them are free. */
static uint32_t place_of(const struct request_memory *memory, const uint8_t *id)
{
    uint32_t place = home_of(memory, id);
    while (memory->by_id[place] != 0 &&
           memcmp(memory->ring[memory->by_id[place] - 1].id, id, REQUEST_ID_SIZE) != 0) {
        place = (place + 1) & memory->places_mask;
    }
    return place;
}

/* Each follower whose way from home passes the hole moves into it. */
static void place_clear(struct request_memory *memory, uint32_t hole)
{
    const uint32_t mask = memory->places_mask;
    for (uint32_t i = (hole + 1) & mask; memory->by_id[i] != 0; i = (i + 1) & mask) {
        uint32_t home = home_of(memory, memory->ring[memory->by_id[i] - 1].id);
        if (((i - home) & mask) >= ((i - hole) & mask)) {
            memory->by_id[hole] = memory->by_id[i];
            hole = i;
        }
    }
    memory->by_id[hole] = 0;
}

const struct remembered_request *request_memory_find(const struct request_memory *memory,
                                                     const uint8_t id[REQUEST_ID_SIZE])
{
    const uint32_t at = memory->by_id[place_of(memory, id)];
    return at != 0 ? &memory->ring[at - 1] : NULL;
}

static uint64_t entry_hash(uint64_t sequence, const struct remembered_request *request)
{
    const struct apply_result *result = &request->result;
    uint64_t hash = content_hash(sequence, request->id, sizeof(request->id));
    hash = content_hash(hash, request->asked.bytes, sizeof(request->asked.bytes));
    hash = content_hash(hash, result->text, strlen(result->text));
    const uint64_t numbers[] = {(uint64_t)(int64_t)result->code, result->revision,
                                result->uid};
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        hash = content_hash(hash ^ numbers[i], NULL, 0);
    }
    return hash;
}

/* ---- whose entries they are ---- */

static uint32_t owner_of(const uint8_t id[REQUEST_ID_SIZE])
{
    uint32_t owner = 0;
    for (size_t i = 0; i < REQUEST_OWNER_SIZE; i++) {
        owner = owner << 8 | id[i];
    }
    return owner;
}

static uint32_t held_by(const struct request_memory *memory, uint32_t owner)
{
    return (uint32_t)(uintptr_t)u64_map_get(memory->held, (uint64_t)owner + 1);
}

/* -ENOMEM at the first one only. */
static int hold(struct request_memory *memory, uint32_t owner)
{
    uintptr_t count = held_by(memory, owner) + (uintptr_t)1;
    return u64_map_put(memory->held, (uint64_t)owner + 1, (void *)count);
}

static void let_go(struct request_memory *memory, uint32_t owner)
{
    uintptr_t count = held_by(memory, owner);
    REQUIRE(count > 0);
    if (count == 1) {
        (void)u64_map_remove(memory->held, (uint64_t)owner + 1);
    } else { /* it is there: nothing is allocated */
        (void)u64_map_put(memory->held, (uint64_t)owner + 1, (void *)(count - 1));
    }
}

/* Of an owner that has some. */
static uint64_t oldest_of(const struct request_memory *memory, uint32_t owner)
{
    uint64_t entry = memory->sequence - memory->count;
    uint64_t at = entry % memory->limit;
    while (memory->owners[at] != owner) {
        REQUIRE(++entry < memory->sequence);
        at = at + 1 < memory->limit ? at + 1 : 0;
    }
    return entry;
}

/* ---- forgetting ---- */

static uint64_t *forgotten_of(struct request_memory *memory, uint32_t owner)
{
    return &memory->forgotten[owner % REQUEST_OWNER_SETS];
}

uint64_t request_memory_forgotten(const struct request_memory *memory,
                                  const uint8_t id[REQUEST_ID_SIZE])
{
    return memory->forgotten[owner_of(id) % REQUEST_OWNER_SETS];
}

static void forget_oldest(struct request_memory *memory)
{
    uint64_t oldest = memory->sequence - memory->count;
    struct remembered_request *request = &memory->ring[oldest % memory->limit];
    const uint32_t place = place_of(memory, request->id);
    REQUIRE(memory->by_id[place] == oldest % memory->limit + 1);
    place_clear(memory, place);
    memory->hash -= entry_hash(oldest, request);
    memory->count--;
    uint64_t *forgotten = forgotten_of(memory, memory->owners[oldest % memory->limit]);
    *forgotten =
        request->result.revision > *forgotten ? request->result.revision : *forgotten;
    let_go(memory, memory->owners[oldest % memory->limit]);
}

/* Forgets one of the middle: the oldest of all takes its place, for entries have no gaps.
 */
static void forget(struct request_memory *memory, uint64_t entry)
{
    uint64_t oldest = memory->sequence - memory->count;
    if (entry != oldest) {
        struct remembered_request *from = &memory->ring[oldest % memory->limit];
        struct remembered_request *to = &memory->ring[entry % memory->limit];
        const struct remembered_request gone = *to;
        const uint32_t from_place = place_of(memory, from->id);
        const uint32_t to_place = place_of(memory, to->id);
        const uint32_t from_at = memory->by_id[from_place];
        memory->by_id[from_place] = memory->by_id[to_place];
        memory->by_id[to_place] = from_at;
        memory->hash += entry_hash(entry, from) - entry_hash(entry, to) +
                        entry_hash(oldest, to) - entry_hash(oldest, from);
        *to = *from;
        *from = gone;
        memory->owners[entry % memory->limit] = owner_of(to->id);
        memory->owners[oldest % memory->limit] = owner_of(from->id);
    }
    forget_oldest(memory);
}

int request_memory_add(struct request_memory *memory,
                       const struct remembered_request *request,
                       bool shares)
{
    REQUIRE(!request_id_is_zero(request->id));
    REQUIRE(request_memory_find(memory, request->id) == NULL);
    const uint32_t owner = owner_of(request->id);
    while (shares && held_by(memory, owner) >= memory->limit / REQUEST_SHARES) {
        forget(memory, oldest_of(memory, owner));
    }
    if (memory->count == memory->limit) {
        forget_oldest(memory);
    }
    struct remembered_request *slot = &memory->ring[memory->sequence % memory->limit];
    int r = hold(memory, owner);
    if (r < 0) {
        return r;
    }
    const uint32_t place = place_of(memory, request->id);
    REQUIRE(memory->by_id[place] == 0);
    memory->by_id[place] = (uint32_t)(memory->sequence % memory->limit) + 1;
    *slot = *request;
    memory->owners[memory->sequence % memory->limit] = owner;
    memory->hash += entry_hash(memory->sequence, slot);
    memory->sequence++;
    memory->count++;
    return 0;
}

uint32_t request_memory_count(const struct request_memory *memory)
{
    return memory->count;
}

const struct remembered_request *request_memory_at(const struct request_memory *memory,
                                                   uint32_t index)
{
    REQUIRE(index < memory->count);
    return &memory->ring[(memory->sequence - memory->count + index) % memory->limit];
}

uint64_t request_memory_sequence(const struct request_memory *memory)
{
    return memory->sequence;
}

void request_memory_start(struct request_memory *memory,
                          uint64_t sequence,
                          uint64_t revision)
{
    REQUIRE(memory->count == 0);
    memory->sequence = sequence;
    for (size_t i = 0; i < REQUEST_OWNER_SETS; i++) {
        memory->forgotten[i] = sequence > 0 ? revision : 0;
    }
}

uint64_t request_memory_hash(const struct request_memory *memory)
{
    return content_hash(memory->hash ^ memory->sequence, NULL, 0) + memory->count;
}
