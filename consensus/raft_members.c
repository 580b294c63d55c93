#include "consensus/raft_members.h"

#include "base/bytes.h"
#include "base/err.h"
#include "consensus/consensus.h"

#include <errno.h>
#include <string.h>

#define MEMBERS_FORMAT 1

void raft_members_init(struct raft_members *members)
{
    *members = (struct raft_members){0};
    raft_configuration_init(&members->base);
}

void raft_members_fini(struct raft_members *members)
{
    raft_configuration_close(&members->base);
}

static int copy(const struct raft_configuration *from, struct raft_configuration *ret)
{
    raft_configuration_init(ret);
    for (unsigned i = 0; i < from->n; i++) {
        const struct raft_server *server = &from->servers[i];
        if (raft_configuration_add(ret, server->id, server->address, server->role) != 0) {
            raft_configuration_close(ret);
            return -ENOMEM;
        }
    }
    return 0;
}

static void replace(struct raft_configuration *members, struct raft_configuration by)
{
    raft_configuration_close(members);
    *members = by;
}

int raft_members_decode(const struct raft_buffer *entry,
                        struct raft_configuration *ret_members)
{
    struct bytes_reader reader;
    bytes_reader_init(&reader, entry->base, entry->len);
    uint8_t format = bytes_read_u8(&reader);
    uint64_t left = bytes_read_u64(&reader);
    if (format != MEMBERS_FORMAT || left > CONSENSUS_MEMBERS_MAX) {
        return BERTH_ECORRUPT;
    }
    raft_configuration_init(ret_members);
    int r = 0;
    for (; left > 0 && reader.error == 0 && r == 0; left--) {
        uint64_t id = bytes_read_u64(&reader);
        size_t rest = bytes_reader_left(&reader);
        const char *address = (const char *)entry->base + (entry->len - rest);
        size_t length = strnlen(address, rest);
        (void)bytes_read_view(&reader, length + 1); /* with its 0 */
        uint8_t role = bytes_read_u8(&reader);
        if (length >= CONSENSUS_ADDRESS_SIZE) {
            r = BERTH_ECORRUPT;
        } else if (reader.error == 0) {
            r = raft_configuration_add(ret_members, id, address, role);
        }
    }
    if (r != 0 || reader.error != 0) {
        raft_configuration_close(ret_members);
        return r == RAFT_NOMEM ? -ENOMEM : BERTH_ECORRUPT;
    }
    return 0;
}

int raft_members_load(struct raft_members *members,
                      const struct raft_snapshot *snapshot,
                      uint64_t start,
                      const struct raft_entry *entries,
                      size_t count)
{
    /* The first entry of all logs is the same, and committed. */
    uint64_t committed = snapshot != NULL ? snapshot->index : 1;
    members->open = 0;
    for (size_t i = count; i > 0 && start + i - 1 > committed; i--) {
        if (entries[i - 1].type == RAFT_CHANGE) {
            members->open = start + i - 1;
            break;
        }
    }
    members->base_index = snapshot != NULL ? snapshot->configuration_index : 1;
    struct raft_configuration base;
    raft_configuration_init(&base);
    int r = snapshot != NULL ? copy(&snapshot->configuration, &base) : 0;
    if (r == 0) {
        replace(&members->base, base);
    }
    return r;
}

void raft_members_start(const struct raft_members *members, struct raft *raft)
{
    if (members->open != 0) {
        raft_library_members_are_open(raft, members->base_index, members->open);
    }
}

/* Those that count for a log that ends at index. */
static int members_at(const struct raft_members *members,
                      const struct raft *raft,
                      uint64_t index,
                      struct raft_configuration *ret)
{
    for (const struct raft_entry *entry = raft_library_entry(raft, index); entry != NULL;
         entry = raft_library_entry(raft, --index)) {
        if (entry->type == RAFT_CHANGE) {
            return raft_members_decode(&entry->buf, ret);
        }
    }
    return members->base.n > 0 ? copy(&members->base, ret) : BERTH_EBUG;
}

int raft_members_snapshot(struct raft_members *members,
                          const struct raft *raft,
                          const struct raft_snapshot *snapshot,
                          bool received)
{
    struct raft_configuration base;
    int r = received ? copy(&snapshot->configuration, &base)
                     : members_at(members, raft, snapshot->index, &base);
    if (r == 0) {
        replace(&members->base, base);
        members->base_index = snapshot->configuration_index;
    }
    return r;
}

uint64_t raft_members_conflict(const struct raft *raft,
                               const struct raft_append_entries *args)
{
    for (unsigned i = 0; i < args->n_entries; i++) {
        uint64_t index = args->prev_log_index + 1 + i;
        uint64_t term = raft_library_term_of(raft, index);
        if (term == 0) {
            return 0;
        }
        if (term != args->entries[i].term) {
            return index;
        }
    }
    return 0;
}

int raft_members_roll_back(const struct raft_members *members,
                           struct raft *raft,
                           uint64_t conflict)
{
    struct raft_configuration before;
    const uint64_t change = raft->configuration_uncommitted_index;
    if (change == 0 || conflict == 0 || change < conflict) {
        return 0;
    }
    int r = members_at(members, raft, conflict - 1, &before);
    if (r < 0) {
        return r;
    }
    replace(&raft->configuration, before);
    raft->configuration_uncommitted_index = 0;
    return 1;
}

bool raft_members_are_awaited(const struct raft *raft)
{
    uint64_t index = raft->last_stored + 1;
    const struct raft_entry *entry = raft_library_entry(raft, index);
    while (entry != NULL && entry->type != RAFT_CHANGE) {
        entry = raft_library_entry(raft, ++index);
    }
    return entry != NULL;
}

void raft_members_settle(struct raft *raft)
{
    if (raft->configuration_uncommitted_index <= raft->last_applied) {
        raft->configuration_uncommitted_index = 0;
    }
}
