#include "consensus/raft_members.h"

#include "base/err.h"

#include <errno.h>

void raft_members_init(struct raft_members *members)
{
    raft_configuration_init(&members->committed);
    members->index = 0;
}

void raft_members_fini(struct raft_members *members)
{
    raft_configuration_close(&members->committed);
}

static int copy(const struct raft_configuration *from, struct raft_configuration *to)
{
    struct raft_configuration made;
    raft_configuration_init(&made);
    for (unsigned i = 0; i < from->n; i++) {
        const struct raft_server *server = &from->servers[i];
        int r = raft_configuration_add(&made, server->id, server->address, server->role);
        if (r != 0) {
            raft_configuration_close(&made);
            return r;
        }
    }
    raft_configuration_close(to);
    *to = made;
    return 0;
}

int raft_members_remember(struct raft_members *members, const struct raft *raft)
{
    const uint64_t index = raft_library_members_index(raft);
    if (raft->configuration_uncommitted_index != 0 || index == members->index) {
        return 0;
    }
    if (copy(&raft->configuration, &members->committed) != 0) {
        return -ENOMEM;
    }
    members->index = index;
    return 0;
}

int raft_members_roll_back(const struct raft_members *members,
                           struct raft *raft,
                           uint64_t conflict)
{
    const uint64_t index = raft_library_members_index(raft);
    const uint64_t change = raft->configuration_uncommitted_index;
    if (change == 0 || conflict == 0 || change < conflict ||
        raft_library_entry(raft, index) != NULL) {
        return 0;
    }
    if (members->index != index || copy(&members->committed, &raft->configuration) != 0) {
        return BERTH_EBUG;
    }
    raft->configuration_uncommitted_index = 0;
    return 1;
}
