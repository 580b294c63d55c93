/* What libraft wants appended to the log, handed to its disk one write at a time, each
 * write one batch.
 *
 * What is asked for while a write is under way waits, and goes with the next one: it
 * would anyway, but as several batches of one write. Of those a torn write may leave a
 * later one whole behind an earlier one that is not, as damage does; of one it cannot, so
 * that at the next start a crash is told from damage (log_check.h).
 *
 * Private to the room. Shapes: one request of libraft is a part of the batch it goes
 * with. Units: bytes, libraft's codes. Threads: the loop's. Ownership: entries and
 * requests are libraft's until they are answered; the rest is ours. Errors: a write that
 * fails answers nobody: `failed` runs, and all that is left waits for
 * raft_appends_cancel. Limits: a batch takes no further part beyond
 * RAFT_APPENDS_BYTES_MAX.
 */
#pragma once

#include "base/list.h"

#include <stdbool.h>

#define RAFT_APPENDS_BYTES_MAX (1u << 20) /* of a disk that is far behind */

struct raft_io;
struct raft_io_append;
struct raft_entry;

struct raft_appends {
    struct raft_io *io; /* borrowed */
    void *context;
    bool (*goes_on)(void *context); /* false: nothing is written or answered any more */
    void (*failed)(void *context, int status);
    void (*answered)(void *context); /* after libraft has heard of each */
    /* private below */
    struct list writes;  /* struct append_write, oldest first */
    struct list waiting; /* struct append_part, likewise */
};

void raft_appends_init(struct raft_appends *appends,
                       struct raft_io *io,
                       void *context,
                       bool (*goes_on)(void *context),
                       void (*failed)(void *context, int status),
                       void (*answered)(void *context));
/* Takes the request on: 0 or RAFT_NOMEM. It is written by one of the next two. */
int raft_appends_add(struct raft_appends *appends,
                     struct raft_io_append *request,
                     const struct raft_entry *entries,
                     unsigned count,
                     void (*done)(struct raft_io_append *request, int status));
/* Begins to write what waits, unless a write is under way. */
void raft_appends_begin(struct raft_appends *appends);
/* Before the disk is asked for something else, which has to come behind all of them. */
void raft_appends_flush(struct raft_appends *appends);
/* Answers all that is left with RAFT_CANCELED, the newest first: told that an append has
 * failed, a leader cuts its log there, and reads beyond the end of it when an older
 * answer has cut more already. */
void raft_appends_cancel(struct raft_appends *appends);
