#include "consensus/log_seal.h"

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/digest.h"
#include "base/fd.h"
#include "base/file_atomic.h"
#include "base/require.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SLOT_SIZE  ((size_t)4096) /* a direct write's unit */
#define SLOT_COUNT ((size_t)2)
#define SLOT_MAGIC UINT64_C(0x314c414553524542) /* "BERSEAL1" */
#define SLOT_USED                                                        \
    ((size_t)8 * 10) /* magic, sequence, eight fields; then the checksum \
                      */

static void
slot_write(uint8_t *block, uint64_t sequence, const struct log_seal_state *state)
{
    const uint64_t fields[] = {SLOT_MAGIC,        sequence,        state->node_id,
                               state->cluster_id, state->old_term, state->old_vote,
                               state->term,       state->vote,     state->index,
                               state->index_term};
    _Static_assert(sizeof(fields) == SLOT_USED, "all fields");
    memset(block, 0, SLOT_SIZE);
    for (size_t i = 0; i < ARRAY_COUNT(fields); i++) {
        for (unsigned b = 0; b < 8; b++) {
            block[8 * i + b] = (uint8_t)(fields[i] >> (8 * b));
        }
    }
    uint32_t sum = crc32c(0, block, SLOT_USED);
    for (unsigned b = 0; b < 4; b++) {
        block[SLOT_USED + b] = (uint8_t)(sum >> (8 * b));
    }
}

static bool
slot_read(const uint8_t *block, uint64_t *ret_sequence, struct log_seal_state *ret_state)
{
    struct bytes_reader reader;
    bytes_reader_init(&reader, block, SLOT_SIZE);
    uint64_t magic = bytes_read_u64(&reader);
    uint64_t sequence = bytes_read_u64(&reader);
    struct log_seal_state state = {0};
    state.node_id = bytes_read_u64(&reader);
    state.cluster_id = bytes_read_u64(&reader);
    state.old_term = bytes_read_u64(&reader);
    state.old_vote = bytes_read_u64(&reader);
    state.term = bytes_read_u64(&reader);
    state.vote = bytes_read_u64(&reader);
    state.index = bytes_read_u64(&reader);
    state.index_term = bytes_read_u64(&reader);
    if (magic != SLOT_MAGIC || bytes_read_u32(&reader) != crc32c(0, block, SLOT_USED)) {
        return false;
    }
    *ret_sequence = sequence;
    *ret_state = state;
    return true;
}

static int read_slots(struct log_seal *seal, struct err *err)
{
    CLEANUP_FREE uint8_t *data = NULL;
    size_t size = 0;
    int r = fd_read_file(AT_FDCWD, seal->path, SLOT_SIZE * SLOT_COUNT, &data, &size, err);
    if (r == -ENOENT) {
        if (err != NULL) {
            *err = (struct err){0};
        }
        return 0;
    }
    if (r < 0) {
        return r;
    }
    for (size_t at = 0; at + SLOT_SIZE <= size; at += SLOT_SIZE) {
        uint64_t sequence = 0;
        struct log_seal_state state;
        if (slot_read(data + at, &sequence, &state) && sequence > seal->sequence) {
            seal->sequence = sequence;
            seal->state = state;
            seal->present = true;
        }
    }
    if (!seal->present) {
        return err_set(err, BERTH_ECORRUPT, "%s: neither half is intact", seal->path);
    }
    return 0;
}

static int open_for_writing(struct log_seal *seal, struct err *err)
{
    seal->fd = openat(AT_FDCWD, seal->path,
                      O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_DSYNC | O_DIRECT);
    if (seal->fd < 0 && errno == EINVAL) { /* tmpfs has no direct writes */
        seal->fd =
            openat(AT_FDCWD, seal->path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_DSYNC);
    }
    return seal->fd < 0 ? err_sys(err, -errno, "open %s", seal->path) : 0;
}

int log_seal_open(struct log_seal *seal,
                  const char *folder,
                  uint64_t node_id,
                  uint64_t cluster_id,
                  struct err *err)
{
    *seal = (struct log_seal){.fd = -1};
    if (asprintf(&seal->path, "%s/%s", folder, LOG_SEAL_FILE) < 0) {
        seal->path = NULL;
        return err_sys(err, -ENOMEM, "open the seal in %s", folder);
    }
    seal->scratch = aligned_alloc(SLOT_SIZE, SLOT_SIZE);
    int r = seal->scratch == NULL ? err_sys(err, -ENOMEM, "open %s", seal->path)
                                  : read_slots(seal, err);
    if (r == 0 && seal->present &&
        (seal->state.node_id != node_id || seal->state.cluster_id != cluster_id)) {
        r = err_set(
            err, BERTH_ECONFLICT, "%s is of node %llu in cluster %llx, not of node %llu",
            seal->path, (unsigned long long)seal->state.node_id,
            (unsigned long long)seal->state.cluster_id, (unsigned long long)node_id);
    }
    if (r == 0 && seal->present) {
        r = open_for_writing(seal, err);
    }
    if (r < 0) {
        log_seal_close(seal);
        return r;
    }
    seal->state.node_id = node_id;
    seal->state.cluster_id = cluster_id;
    return 0;
}

void log_seal_close(struct log_seal *seal)
{
    fd_close(&seal->fd);
    free(seal->path);
    free(seal->scratch);
    *seal = (struct log_seal){.fd = -1};
}

static bool is_pair(uint64_t term, uint64_t vote, uint64_t want_term, uint64_t want_vote)
{
    return term == want_term && vote == want_vote;
}

int log_seal_check(const struct log_seal *seal,
                   uint64_t term,
                   uint64_t vote,
                   uint64_t last_index,
                   uint64_t term_at_sealed_index,
                   struct err *err)
{
    const struct log_seal_state *state = &seal->state;
    if (!seal->present) {
        if (term == 0 && last_index == 0) {
            return 0;
        }
        return err_set(err, BERTH_ECORRUPT,
                       "%s is missing beside a log at term %llu, index %llu", seal->path,
                       (unsigned long long)term, (unsigned long long)last_index);
    }
    if (!is_pair(term, vote, state->term, state->vote) &&
        !is_pair(term, vote, state->old_term, state->old_vote)) {
        return err_set(
            err, BERTH_ECORRUPT,
            "metadata1/metadata2 say term %llu vote %llu, %s says term %llu vote %llu",
            (unsigned long long)term, (unsigned long long)vote, seal->path,
            (unsigned long long)state->term, (unsigned long long)state->vote);
    }
    if (last_index < state->index) {
        return err_set(
            err, BERTH_ECORRUPT,
            "the log ends at index %llu, but index %llu had been stored: entries were "
            "lost; wipe the folder and join under a new id",
            (unsigned long long)last_index, (unsigned long long)state->index);
    }
    if (term_at_sealed_index != 0 && term_at_sealed_index != state->index_term) {
        return err_set(
            err, BERTH_ECORRUPT,
            "the log's entry %llu is of term %llu, but term %llu had been stored",
            (unsigned long long)state->index, (unsigned long long)term_at_sealed_index,
            (unsigned long long)state->index_term);
    }
    return 0;
}

static int
create(struct log_seal *seal, const struct log_seal_state *state, struct err *err)
{
    CLEANUP_FREE uint8_t *data = calloc(SLOT_COUNT, SLOT_SIZE);
    if (data == NULL) {
        return err_sys(err, -ENOMEM, "create %s", seal->path);
    }
    for (size_t i = 0; i < SLOT_COUNT; i++) {
        slot_write(data + (1 + i) % SLOT_COUNT * SLOT_SIZE, 1 + i, state);
    }
    int r = file_atomic_write(seal->path, data, SLOT_SIZE * SLOT_COUNT, 0600, err);
    if (r < 0) {
        return r;
    }
    r = open_for_writing(seal, err);
    if (r < 0) {
        return r;
    }
    seal->sequence = SLOT_COUNT;
    seal->present = true;
    seal->state = *state;
    return 0;
}

static int
store(struct log_seal *seal, const struct log_seal_state *state, struct err *err)
{
    if (!seal->present) {
        return create(seal, state, err);
    }
    uint64_t sequence = seal->sequence + 1;
    off_t at = (off_t)(sequence % SLOT_COUNT * SLOT_SIZE);
    slot_write(seal->scratch, sequence, state);
    ssize_t written = pwrite(seal->fd, seal->scratch, SLOT_SIZE, at);
    if (written != (ssize_t)SLOT_SIZE) {
        return err_sys(err, written < 0 ? -errno : -EIO, "write %s", seal->path);
    }
    seal->sequence = sequence;
    seal->state = *state;
    return 0;
}

int log_seal_intend(struct log_seal *seal, uint64_t term, uint64_t vote, struct err *err)
{
    struct log_seal_state state = seal->state;
    state.old_term = seal->state.term;
    state.old_vote = seal->state.vote;
    state.term = term;
    state.vote = vote;
    return store(seal, &state, err);
}

int log_seal_settle(struct log_seal *seal,
                    uint64_t index,
                    uint64_t index_term,
                    struct err *err)
{
    struct log_seal_state state = seal->state;
    state.old_term = state.term;
    state.old_vote = state.vote;
    state.index = index;
    state.index_term = index_term;
    if (seal->present && memcmp(&state, &seal->state, sizeof(state)) == 0) {
        return 0;
    }
    return store(seal, &state, err);
}

int log_seal_lower(struct log_seal *seal,
                   uint64_t index,
                   uint64_t index_term,
                   struct err *err)
{
    if (!seal->present || seal->state.index <= index) {
        return 0;
    }
    struct log_seal_state state = seal->state;
    state.index = index;
    state.index_term = index_term;
    return store(seal, &state, err);
}
