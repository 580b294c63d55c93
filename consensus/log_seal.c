#include "consensus/log_seal.h"

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/digest.h"
#include "base/require.h"
#include "base/where.h"
#include "consensus/log_check.h"
#include "consensus/seal_file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SLOT_SIZE  ((size_t)SEAL_FILE_BLOCK)
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
    int r = seal_file_read(seal->file, SLOT_SIZE * SLOT_COUNT, &data, &size, err);
    if (r <= 0) {
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
        return err_set(err, BERTH_ECORRUPT, "%s: neither half is intact",
                       seal_file_path(seal->file));
    }
    return 0;
}

/* The other slot than the newest one. On any thread. */
static int write_next(const struct log_seal *seal,
                      const struct log_seal_state *state,
                      struct err *err)
{
    uint8_t block[SLOT_SIZE];
    uint64_t sequence = seal->sequence + 1;
    WHERE("write the seal of the log");
    slot_write(block, sequence, state);
    return seal_file_write(seal->file, sequence % SLOT_COUNT, block, err);
}

static int written(struct log_seal *seal, const struct log_seal_state *state, int r)
{
    if (r == 0) {
        seal->sequence++;
        seal->state = *state;
    }
    return r;
}

/* ---- a write under way ---- */

static void write_run(struct work_job *job)
{
    struct log_seal *seal = LIST_ITEM(job, struct log_seal, job);
    seal->write_err = (struct err){0};
    (void)write_next(seal, &seal->next, &seal->write_err); /* told by its err */
}

static void write_done(struct work_job *job, int code)
{
    struct log_seal *seal = LIST_ITEM(job, struct log_seal, job);
    (void)work_job_make_up(job, code); /* nobody cancels it */
    seal->pool = NULL;
    (void)written(seal, &seal->next, seal->write_err.code);
    if (seal->write_err.code < 0 && seal->failed != NULL) {
        seal->failed(seal->failed_context, &seal->write_err);
    }
}

/* 0, or why the write that was under way did not work. */
static int wait_for_write(struct log_seal *seal, struct err *err)
{
    if (seal->pool == NULL) {
        return 0;
    }
    seal->failed = NULL;
    WHERE("wait for the seal, which a thread writes");
    work_pool_drain(seal->pool);
    if (seal->write_err.code < 0 && err != NULL) {
        *err = seal->write_err;
    }
    return seal->write_err.code;
}

/* ---- opening ---- */

int log_seal_open(struct log_seal *seal,
                  const char *folder,
                  uint64_t node_id,
                  uint64_t cluster_id,
                  struct err *err)
{
    *seal = (struct log_seal){0};
    int r = seal_file_open(folder, LOG_SEAL_FILE, &seal->file, err);
    if (r == 0) {
        r = read_slots(seal, err);
    }
    if (r == 0 && seal->present &&
        (seal->state.node_id != node_id || seal->state.cluster_id != cluster_id)) {
        r = err_set(
            err, BERTH_ECONFLICT, "%s is of node %llu in cluster %llx, not of node %llu",
            seal_file_path(seal->file), (unsigned long long)seal->state.node_id,
            (unsigned long long)seal->state.cluster_id, (unsigned long long)node_id);
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
    (void)wait_for_write(seal, NULL); /* what is not there is not promised */
    seal_file_close(seal->file);
    *seal = (struct log_seal){0};
}

static bool is_pair(uint64_t term, uint64_t vote, uint64_t want_term, uint64_t want_vote)
{
    return term == want_term && vote == want_vote;
}

int log_seal_check(struct log_seal *seal,
                   uint64_t term,
                   uint64_t vote,
                   uint64_t last_index,
                   uint64_t term_at_sealed_index,
                   struct err *err)
{
    struct log_seal_state *state = &seal->state;
    if (!seal->present) {
        if (term == 0 && last_index == 0) {
            return 0;
        }
        return err_set(err, BERTH_ECORRUPT,
                       "%s is missing beside a log at term %llu, index %llu",
                       seal_file_path(seal->file), (unsigned long long)term,
                       (unsigned long long)last_index);
    }
    if (!is_pair(term, vote, state->term, state->vote) &&
        !is_pair(term, vote, state->old_term, state->old_vote)) {
        return err_set(
            err, BERTH_ECORRUPT,
            "metadata1/metadata2 say term %llu vote %llu, %s says term %llu vote %llu",
            (unsigned long long)term, (unsigned long long)vote,
            seal_file_path(seal->file), (unsigned long long)state->term,
            (unsigned long long)state->vote);
    }
    if (last_index < state->index) {
        return err_set(
            err, BERTH_ECORRUPT,
            "the log ends at index %llu, but index %llu had been stored: entries were "
            "lost; " LOG_CHECK_HELP,
            (unsigned long long)last_index, (unsigned long long)state->index);
    }
    if (term_at_sealed_index != 0 && term_at_sealed_index != state->index_term) {
        return err_set(
            err, BERTH_ECORRUPT,
            "the log's entry %llu is of term %llu, but term %llu had been stored",
            (unsigned long long)state->index, (unsigned long long)term_at_sealed_index,
            (unsigned long long)state->index_term);
    }
    state->term = term; /* a change that was only intended did not happen */
    state->vote = vote;
    return 0;
}

static int
create(struct log_seal *seal, const struct log_seal_state *state, struct err *err)
{
    CLEANUP_FREE uint8_t *data = calloc(SLOT_COUNT, SLOT_SIZE);
    if (data == NULL) {
        return err_sys(err, -ENOMEM, "create %s", seal_file_path(seal->file));
    }
    for (size_t i = 0; i < SLOT_COUNT; i++) {
        slot_write(data + (1 + i) % SLOT_COUNT * SLOT_SIZE, 1 + i, state);
    }
    int r = seal_file_create(seal->file, data, SLOT_SIZE * SLOT_COUNT, err);
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
    return seal->present ? written(seal, state, write_next(seal, state, err))
                         : create(seal, state, err);
}

/* ---- promises ---- */

int log_seal_intend(struct log_seal *seal, uint64_t term, uint64_t vote, struct err *err)
{
    int r = wait_for_write(seal, err);
    struct log_seal_state state = seal->state;
    if (r < 0) {
        return r;
    }
    state.old_term = seal->state.term;
    state.old_vote = seal->state.vote;
    state.term = term;
    state.vote = vote;
    return store(seal, &state, err);
}

/* False: the seal says so already. */
static bool settled(const struct log_seal *seal,
                    uint64_t index,
                    uint64_t index_term,
                    struct log_seal_state *ret_state)
{
    struct log_seal_state state = seal->state;
    state.old_term = state.term;
    state.old_vote = state.vote;
    state.index = index;
    state.index_term = index_term;
    *ret_state = state;
    return !seal->present || memcmp(&state, &seal->state, sizeof(state)) != 0;
}

int log_seal_settle(struct log_seal *seal,
                    uint64_t index,
                    uint64_t index_term,
                    struct err *err)
{
    struct log_seal_state state;
    int r = wait_for_write(seal, err);
    return r == 0 && settled(seal, index, index_term, &state) ? store(seal, &state, err)
                                                              : r;
}

void log_seal_settle_later(struct log_seal *seal,
                           struct work_pool *pool,
                           uint64_t index,
                           uint64_t index_term,
                           void (*failed)(void *context, const struct err *err),
                           void *context)
{
    REQUIRE(seal->present);
    if (seal->pool != NULL || !settled(seal, index, index_term, &seal->next)) {
        return;
    }
    seal->pool = pool;
    seal->failed = failed;
    seal->failed_context = context;
    work_pool_submit(pool, &seal->job, write_run, write_done);
}

int log_seal_lower(struct log_seal *seal,
                   uint64_t index,
                   uint64_t index_term,
                   struct err *err)
{
    int r = wait_for_write(seal, err);
    if (r < 0 || !seal->present || seal->state.index <= index) {
        return r;
    }
    struct log_seal_state state = seal->state;
    state.index = index;
    state.index_term = index_term;
    return store(seal, &state, err);
}
