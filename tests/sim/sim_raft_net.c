/* Messages of the log between simulated machines: a packet holds a copy of each. */
#include "base/require.h"
#include "consensus/raft_library.h"
#include "sim_raft.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct raft_packet {
    struct sim_packet packet;
    uint64_t from_id;
    struct raft_message message; /* with no pointers of its own */
    struct sim_entry *entries;
    struct sim_blob *members;
    struct sim_blob *data;
};

static void raft_packet_fini(struct sim_packet *packet)
{
    struct raft_packet *copy = (struct raft_packet *)packet;
    for (unsigned i = 0;
         copy->entries != NULL && i < copy->message.append_entries.n_entries; i++) {
        sim_blob_unref(copy->entries[i].data);
    }
    free(copy->entries);
    sim_blob_unref(copy->members);
    sim_blob_unref(copy->data);
    free(copy);
}

/* As the real decoder: one batch of memory for all entries of a message. */
static void unpack_entries(const struct raft_packet *copy,
                           struct raft_append_entries *args)
{
    size_t size = 0;
    for (unsigned i = 0; i < args->n_entries; i++) {
        size += copy->entries[i].data->size;
    }
    uint8_t *batch = raft_malloc(size);
    args->entries = raft_calloc(args->n_entries, sizeof(*args->entries));
    REQUIRE(batch != NULL && args->entries != NULL);
    uint8_t *at = batch;
    for (unsigned i = 0; i < args->n_entries; i++) {
        const struct sim_entry *entry = &copy->entries[i];
        memcpy(at, entry->data->data, entry->data->size);
        args->entries[i] =
            (struct raft_entry){.term = entry->term,
                                .type = entry->type,
                                .buf = {.base = at, .len = entry->data->size},
                                .batch = batch};
        at += entry->data->size;
    }
}

static void unpack_snapshot(const struct raft_packet *copy,
                            struct raft_install_snapshot *args)
{
    sim_raft_members_decode(copy->members, &args->conf);
    args->data.len = copy->data->size;
    args->data.base = raft_malloc(copy->data->size);
    REQUIRE(args->data.base != NULL);
    memcpy(args->data.base, copy->data->data, copy->data->size);
}

/* ---- channels: between processes that let each other in when they were opened ---- */

static bool is_open(const struct sim_process *from, const struct sim_machine *to)
{
    return to->process != NULL && from->channels[to->index] == to->berthd.life;
}

static bool is_open_from(const struct sim_process *to, unsigned from)
{
    const struct sim_process *process = to->machine->sim->machines[from].process;
    return from == to->machine->index ||
           (process != NULL && is_open(process, to->machine));
}

/* As libraft's: a channel that has ended is found so by the message that is lost with it,
 * and made anew for the next. */
static bool has_ended(struct sim_process *from, const struct sim_machine *to)
{
    bool ended = from->channels[to->index] != 0 && !is_open(from, to);
    if (ended) {
        from->channels[to->index] = 0;
    }
    return ended;
}

/* The caller has to know the other one's key, that one has to take the caller's for a
 * member's. */
static bool open_channel(struct sim_process *from, const struct sim_machine *to)
{
    const struct consensus_config *ours = &from->backing->config;
    uint8_t key[CONSENSUS_KEY_SIZE];
    uint64_t id = 0;
    if (to->index == from->machine->index || is_open(from, to)) {
        return true;
    }
    if (to->process == NULL || to->process->backing == NULL || to->process->doomed) {
        return false;
    }
    const struct consensus_config *theirs = &to->process->backing->config;
    if (!ours->key_of(ours->key_context, to->raft_id, key) ||
        memcmp(key, to->key.bytes, sizeof(key)) != 0 ||
        !theirs->peer_of(theirs->key_context, from->machine->key.bytes, &id) ||
        id != from->machine->raft_id) {
        return false;
    }
    from->channels[to->index] = to->berthd.life;
    return true;
}

/* The mistake is a leader that does not look whether who has something may vote: it
 * counts it, and the voter that has least with it. */
static bool is_mistaken_for_voter(const struct sim_process *process,
                                  struct raft_message *message)
{
    const struct raft *raft = process->raft;
    const struct raft_configuration *members = &raft->configuration;
    uint64_t least = UINT64_MAX;
    raft_id voter = 0;
    if (process->machine->sim->config.bug != SIM_BUG_STANDBY_COUNTS ||
        raft->state != RAFT_LEADER) {
        return false;
    }
    for (unsigned i = 0; i < members->n; i++) {
        const raft_library_progress *progress = raft_library_progress_of(raft, i);
        bool votes = members->servers[i].role == RAFT_VOTER;
        if (votes && members->servers[i].id == message->server_id) {
            return false;
        }
        if (votes && progress != NULL && members->servers[i].id != raft->id &&
            progress->match_index < least) {
            least = progress->match_index;
            voter = members->servers[i].id;
        }
    }
    message->server_id = voter;
    return voter != 0;
}

static void raft_packet_arrive(struct sim_packet *packet, struct sim_process *process)
{
    const struct raft_packet *copy = (const struct raft_packet *)packet;
    struct raft_backing *backing = process->backing;
    struct raft_message message = copy->message;
    if (backing == NULL || backing->recv == NULL || sim_backing_is_dead(backing) ||
        !is_open_from(process, packet->from)) {
        return;
    }
    message.server_id = copy->from_id;
    message.server_address = packet->sim->machines[packet->from].address;
    if (message.type == RAFT_IO_APPEND_ENTRIES && message.append_entries.n_entries > 0) {
        unpack_entries(copy, &message.append_entries);
    } else if (message.type == RAFT_IO_INSTALL_SNAPSHOT) {
        unpack_snapshot(copy, &message.install_snapshot);
    }
    backing->recv(&backing->io, &message);
    if (message.type == RAFT_IO_APPEND_ENTRIES_RESULT &&
        is_mistaken_for_voter(process, &message)) {
        backing->recv(&backing->io, &message);
    }
    sim_members_committed(process);
    sim_members_agree(process);
    if (copy->message.type == RAFT_IO_APPEND_ENTRIES) {
        sim_backing_heard(backing);
    }
}

static struct raft_packet *pack(const struct raft_message *message)
{
    struct raft_packet *copy = calloc(1, sizeof(*copy));
    REQUIRE(copy != NULL);
    copy->message = *message;
    copy->packet.arrive = raft_packet_arrive;
    copy->packet.fini = raft_packet_fini;
    if (message->type == RAFT_IO_APPEND_ENTRIES &&
        message->append_entries.n_entries > 0) {
        copy->entries = sim_raft_copy_entries(message->append_entries.entries,
                                              message->append_entries.n_entries);
    } else if (message->type == RAFT_IO_INSTALL_SNAPSHOT) {
        copy->members = sim_raft_members_encode(&message->install_snapshot.conf);
        copy->data = sim_raft_join_bufs(&message->install_snapshot.data, 1);
    }
    return copy;
}

static void on_sent(void *context, uint64_t id)
{
    struct raft_backing *backing = context;
    LIST_EACH (link, &backing->sends) {
        struct pending_send *pending = LIST_ITEM(link, struct pending_send, link);
        if (pending->id != id) {
            continue;
        }
        struct raft_io_send *request = pending->request;
        raft_io_send_cb done = pending->done;
        const int status = pending->status;
        list_remove(link);
        free(pending);
        if (done != NULL) {
            done(request, status);
        }
        return;
    }
}

int sim_raft_send(struct raft_io *io,
                  struct raft_io_send *request,
                  const struct raft_message *message,
                  raft_io_send_cb done)
{
    struct raft_backing *backing = sim_backing_of(io);
    struct sim *sim = sim_backing_machine(backing)->sim;
    REQUIRE(message->server_id != 0);
    struct sim_machine *to = sim_machine_of_raft(sim, message->server_id);
    if (message->type == RAFT_IO_REQUEST_VOTE && message->request_vote.pre_vote &&
        message->request_vote.term > backing->asked_term) { /* not an old one once more */
        backing->asked_term = message->request_vote.term;
    }
    struct pending_send *pending = calloc(1, sizeof(*pending));
    REQUIRE(pending != NULL);
    *pending =
        (struct pending_send){.id = ++backing->ids, .request = request, .done = done};
    list_push_back(&backing->sends, &pending->link);
    world_at(sim_backing_world(backing), sim_backing_world(backing)->now_ns,
             &backing->process->machine->berthd, on_sent, backing, pending->id);
    if (to != NULL && has_ended(backing->process, to)) {
        pending->status = RAFT_IOERR;
        return 0;
    }
    bool muted =
        sim_backing_machine(backing)->muted && message->type == RAFT_IO_REQUEST_VOTE;
    if (to != NULL && !muted && !sim_backing_is_dead(backing) &&
        open_channel(backing->process, to)) {
        struct raft_packet *copy = pack(message);
        copy->from_id = sim_backing_machine(backing)->raft_id;
        copy->packet.from = sim_backing_machine(backing)->index;
        copy->packet.to = to->index;
        sim_net_send(sim, &copy->packet);
    }
    return 0;
}
