/* Messages of the log between simulated machines: a packet holds a copy of each. */
#include "base/require.h"
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

void sim_raft_address(unsigned machine, char address[CONSENSUS_ADDRESS_SIZE])
{
    (void)snprintf(address, CONSENSUS_ADDRESS_SIZE, "10.0.0.%u:%d", machine + 1,
                   SIM_PORT_RAFT);
}

static void raft_packet_arrive(struct sim_packet *packet, struct sim_process *process)
{
    const struct raft_packet *copy = (const struct raft_packet *)packet;
    struct raft_backing *backing = process->backing;
    struct raft_message message = copy->message;
    char address[CONSENSUS_ADDRESS_SIZE];
    if (backing == NULL || backing->recv == NULL || sim_backing_is_dead(backing)) {
        return;
    }
    sim_raft_address(packet->from, address);
    message.server_id = copy->from_id;
    message.server_address = address;
    if (message.type == RAFT_IO_APPEND_ENTRIES && message.append_entries.n_entries > 0) {
        unpack_entries(copy, &message.append_entries);
    } else if (message.type == RAFT_IO_INSTALL_SNAPSHOT) {
        unpack_snapshot(copy, &message.install_snapshot);
    }
    backing->recv(&backing->io, &message);
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
        list_remove(link);
        free(pending);
        if (done != NULL) {
            done(request, 0);
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
    struct sim_machine *to = sim_machine_of_raft(sim, message->server_id);
    struct pending_send *pending = calloc(1, sizeof(*pending));
    REQUIRE(pending != NULL);
    *pending =
        (struct pending_send){.id = ++backing->ids, .request = request, .done = done};
    list_push_back(&backing->sends, &pending->link);
    world_at(sim_backing_world(backing), sim_backing_world(backing)->now_ns,
             &backing->process->machine->berthd, on_sent, backing, pending->id);
    bool muted =
        sim_backing_machine(backing)->muted && message->type == RAFT_IO_REQUEST_VOTE;
    if (to != NULL && !muted && !sim_backing_is_dead(backing)) {
        struct raft_packet *copy = pack(message);
        copy->from_id = sim_backing_machine(backing)->raft_id;
        copy->packet.from = sim_backing_machine(backing)->index;
        copy->packet.to = to->index;
        sim_net_send(sim, &copy->packet);
    }
    return 0;
}
