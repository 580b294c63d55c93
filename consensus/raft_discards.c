#include "consensus/raft_discards.h"

#include <raft.h>

void raft_discards_message(struct raft_message *message)
{
    if (message->type == RAFT_IO_APPEND_ENTRIES) {
        if (message->append_entries.n_entries > 0) {
            raft_free(message->append_entries.entries[0].batch);
        }
        raft_free(message->append_entries.entries);
    } else if (message->type == RAFT_IO_INSTALL_SNAPSHOT) {
        raft_free(message->install_snapshot.data.base);
        raft_configuration_close(&message->install_snapshot.conf);
    }
}

void raft_discards_loaded(struct raft_snapshot *take_snapshot,
                          struct raft_entry *take_entries,
                          size_t count)
{
    void *batch = NULL;
    for (size_t i = 0; i < count; i++) {
        if (take_entries[i].batch != batch) {
            batch = take_entries[i].batch;
            raft_free(batch);
        }
    }
    raft_free(take_entries);
    if (take_snapshot != NULL) {
        raft_configuration_close(&take_snapshot->configuration);
        for (unsigned i = 0; i < take_snapshot->n_bufs; i++) {
            raft_free(take_snapshot->bufs[i].base);
        }
        raft_free(take_snapshot->bufs);
        raft_free(take_snapshot);
    }
}
