/* A snapshot from elsewhere: it is refused, or it is a state that encodes to the same
 * content and goes on working. Checksums are repaired first, or no input would get past
 * them: an input is a snapshot whose CRCs and hash do not matter. */
#include "base/require.h"
#include "model/state_internal.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define HEADER_SIZE 28u
#define HASH_OFFSET 16u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint32_t load_u32(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 |
           (uint32_t)bytes[3] << 24;
}

static void store(uint8_t *bytes, uint64_t value, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        bytes[i] = (uint8_t)(value >> (8 * i));
    }
}

static void repair_header(uint8_t *snapshot)
{
    store(snapshot + HEADER_SIZE - 4, crc32c(0, snapshot, HEADER_SIZE - 4), 4);
}

static void repair_sections(uint8_t *snapshot, size_t size)
{
    size_t at = HEADER_SIZE;
    while (size - at >= 12) {
        size_t length = load_u32(snapshot + at + 4);
        if (length > size - at - 12) {
            return;
        }
        store(snapshot + at + 8 + length, crc32c(0, snapshot + at, 8 + length), 4);
        at += 12 + length;
    }
}

/* A state that was accepted must stand every command; a few that walk all tables. */
static void use(struct state *state)
{
    struct apply_result result;
    for (unsigned kind = KIND_NONE + 1; kind < KIND_COUNT; kind++) {
        const void **objects = NULL;
        size_t count = 0;
        REQUIRE(state_list(state, kind, NULL, &objects, &count) == 0);
        for (size_t i = 0; i < count; i++) {
            REQUIRE(state_get(state, kind, object_meta(objects[i])->tenant,
                              object_meta(objects[i])->name) == objects[i]);
        }
        free(objects);
    }
    size_t cursor = 0;
    const struct host *host = state_next(state, KIND_HOST, &cursor);
    if (host != NULL) {
        struct command lose;
        command_init(&lose, COMMAND_HOST_PHASE);
        lose.body.host_phase.host = host->meta.uid;
        lose.body.host_phase.phase = HOST_PHASE_LOST;
        state_apply(state, &lose, &result);
        lose.body.host_phase.phase = HOST_PHASE_REMOVED;
        state_apply(state, &lose, &result);
        command_fini(&lose);
    }
    cursor = 0;
    const struct vm *vm = state_next(state, KIND_VM, &cursor);
    if (vm != NULL) {
        struct command evict;
        command_init(&evict, COMMAND_EVICT_VM);
        evict.body.evict_vm.vm = vm->meta.uid;
        evict.body.evict_vm.epoch = vm->status.epoch;
        evict.body.evict_vm.intent = STOP_INTENT_DELETE;
        state_apply(state, &evict, &result);
        command_fini(&evict);
    }
}

static void check_again(const struct state *state)
{
    uint8_t *data = NULL;
    size_t size = 0;
    REQUIRE(state_encode(state, &data, &size) == 0);
    struct state *copy = state_new(NULL, NULL);
    REQUIRE(copy != NULL);
    REQUIRE(state_decode(copy, data, size, NULL) == 0);
    REQUIRE(state_hash(copy) == state_hash(state));
    state_free(copy);
    free(data);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct state *state = state_new(NULL, NULL);
    REQUIRE(state != NULL);
    struct err err = {0};
    int r = state_decode(state, data, size, &err);
    REQUIRE(r == 0 || err.text[0] != '\0');
    if (size >= HEADER_SIZE) {
        uint8_t *snapshot = malloc(size);
        REQUIRE(snapshot != NULL);
        memcpy(snapshot, data, size);
        repair_sections(snapshot, size);
        uint64_t hash = 0;
        repair_header(snapshot);
        r = state_snapshot_hash(snapshot, size, &hash);
        if (r == 0) {
            store(snapshot + HASH_OFFSET, hash, 8);
            repair_header(snapshot);
            REQUIRE(state_decode(state, snapshot, size, &err) == 0);
            check_again(state);
            use(state);
            check_again(state);
        }
        free(snapshot);
    }
    state_free(state);
    return 0;
}
