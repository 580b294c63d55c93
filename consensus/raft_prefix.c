#include "consensus/raft_prefix.h"

#include "consensus/raft_library.h"

#include <string.h>

/* Entries of one batch stand together; it lives as long as one of them. */
static void leave_out(struct raft_append_entries *args, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        if (i + 1 == args->n_entries ||
            args->entries[i + 1].batch != args->entries[i].batch) {
            raft_free(args->entries[i].batch);
        }
    }
    args->n_entries -= count;
    if (args->n_entries > 0) {
        memmove(args->entries, &args->entries[count],
                args->n_entries * sizeof(*args->entries));
    } else {
        raft_free(args->entries);
        args->entries = NULL;
    }
}

bool raft_prefix_skip(const struct raft *raft, struct raft_append_entries *args)
{
    const raft_library_log *log = raft_library_log_of(raft);
    const uint64_t prev = args->prev_log_index;
    const uint64_t held = log->snapshot.last_index;
    if (args->term < raft->current_term || args->n_entries == 0 || prev >= held ||
        raft_library_term_of(raft, prev != 0 ? prev : 1) != 0) {
        return true;
    }
    const uint64_t skipped = held - prev;
    if (skipped > args->n_entries ||
        args->entries[skipped - 1].term != log->snapshot.last_term) {
        return prev != 0;
    }
    leave_out(args, (unsigned)skipped);
    args->prev_log_index = held;
    args->prev_log_term = log->snapshot.last_term;
    return true;
}
