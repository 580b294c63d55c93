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

void raft_prefix_skip(const struct raft *raft, struct raft_append_entries *args)
{
    const raft_library_log *log = raft_library_log_of(raft);
    const uint64_t held = log->snapshot.last_index;
    if (args->term < raft->current_term || args->prev_log_index >= held) {
        return;
    }
    const uint64_t known = held - args->prev_log_index;
    if (args->n_entries > 0) {
        leave_out(args, known < args->n_entries ? (unsigned)known : args->n_entries);
    }
    args->prev_log_index = held;
    args->prev_log_term = log->snapshot.last_term;
}
