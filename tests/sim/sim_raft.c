/* consensus/raft_backing.h and consensus/seal_file.h on a simulated disk and network. */
#include "base/bytes.h"
#include "base/require.h"
#include "consensus/log_seal.h"
#include "consensus/raft_backing.h"
#include "consensus/seal_file.h"
#include "sim.h"

#include <raft.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OPEN_TAIL 512 /* entries in the open segment: a bad one there ends the log */

struct raft_backing {
    struct raft_io io; /* first: the guard knows us by it */
    struct sim_process *process;
    raft_io_tick_cb tick;
    raft_io_recv_cb recv;
    uint64_t tick_ms;
    uint64_t ids;
    uint64_t next_index;
    struct list sends;                /* struct pending_send */
    struct list appends;              /* struct pending_append */
    struct raft_io_snapshot_put *put; /* NULL: none */
    int put_status;
    struct list gets; /* struct pending_get */
    bool closed;
};

struct pending_get {
    struct list link;
    uint64_t id;
    struct raft_io_snapshot_get *request;
};

struct pending_send {
    struct list link;
    uint64_t id;
    struct raft_io_send *request;
    raft_io_send_cb done;
};

struct pending_append {
    struct list link;
    uint64_t id;
    struct raft_io_append *request;
    unsigned count;
    int status;
};

static struct raft_backing *backing_of(struct raft_io *io)
{
    return (struct raft_backing *)(void *)io;
}

static struct sim_machine *machine_of(const struct raft_backing *backing)
{
    return backing->process->machine;
}

static struct world *world_of(const struct raft_backing *backing)
{
    return &machine_of(backing)->sim->world;
}

static bool is_dead(const struct raft_backing *backing)
{
    return backing->closed || backing->process->doomed;
}

static void say_why(struct raft_backing *backing, const char *why)
{
    (void)snprintf(backing->io.errmsg, sizeof(backing->io.errmsg), "%s", why);
}

/* ---- members as bytes ---- */

static struct sim_blob *members_encode(const struct raft_configuration *members)
{
    struct raft_buffer buf;
    REQUIRE(raft_configuration_encode(members, &buf) == 0);
    struct sim_blob *blob = sim_blob_new(buf.base, buf.len);
    raft_free(buf.base);
    return blob;
}

/* The library exports no decoder: format u8, count u64; each id u64, address, role u8. */
static void members_decode(const struct sim_blob *blob,
                           struct raft_configuration *ret_members)
{
    struct bytes_reader reader;
    bytes_reader_init(&reader, blob->data, blob->size);
    (void)bytes_read_u8(&reader);
    uint64_t count = bytes_read_u64(&reader);
    raft_configuration_init(ret_members);
    for (uint64_t i = 0; i < count; i++) {
        uint64_t id = bytes_read_u64(&reader);
        size_t left = bytes_reader_left(&reader);
        const char *address = (const char *)blob->data + (blob->size - left);
        (void)bytes_read_view(&reader, strnlen(address, left) + 1);
        uint8_t role = bytes_read_u8(&reader);
        REQUIRE(reader.error == 0);
        REQUIRE(raft_configuration_add(ret_members, id, address, role) == 0);
    }
}

/* ---- loading ---- */

static struct raft_snapshot *load_snapshot(const struct sim_snapshot *from)
{
    struct raft_snapshot *snapshot = raft_calloc(1, sizeof(*snapshot));
    REQUIRE(snapshot != NULL);
    snapshot->index = from->index;
    snapshot->term = from->term;
    snapshot->configuration_index = from->members_index;
    members_decode(from->members, &snapshot->configuration);
    snapshot->bufs = raft_calloc(1, sizeof(*snapshot->bufs));
    REQUIRE(snapshot->bufs != NULL);
    snapshot->n_bufs = 1;
    snapshot->bufs[0].len = from->data->size;
    snapshot->bufs[0].base = raft_malloc(from->data->size);
    REQUIRE(snapshot->bufs[0].base != NULL);
    memcpy(snapshot->bufs[0].base, from->data->data, from->data->size);
    return snapshot;
}

/* How many entries a loader finds: a bad one in the open segment looks like a torn write;
 * elsewhere it is noticed. */
static int count_sound(struct sim_disk *disk)
{
    for (size_t i = 0; i < disk->count; i++) {
        if (disk->log[i].rotten) {
            if (i + OPEN_TAIL < disk->count) {
                return RAFT_CORRUPT;
            }
            sim_disk_lose_tail(disk, disk->start + i);
            break;
        }
    }
    return 0;
}

static int io_load(struct raft_io *io,
                   raft_term *ret_term,
                   raft_id *ret_vote,
                   struct raft_snapshot **ret_snapshot,
                   raft_index *ret_start,
                   struct raft_entry **ret_entries,
                   size_t *ret_count)
{
    struct raft_backing *backing = backing_of(io);
    struct sim_disk *disk = &machine_of(backing)->disk;
    if (count_sound(disk) != 0 || disk->snapshot.rotten) {
        say_why(backing, "a segment's or snapshot's checksum is wrong");
        return RAFT_CORRUPT;
    }
    struct raft_entry *entries = NULL;
    if (disk->count > 0) {
        entries = raft_calloc(disk->count, sizeof(*entries));
        REQUIRE(entries != NULL);
    }
    for (size_t i = 0; i < disk->count; i++) {
        const struct sim_entry *from = &disk->log[i];
        entries[i].term = from->term;
        entries[i].type = from->type;
        entries[i].buf.len = from->data->size;
        entries[i].buf.base = raft_malloc(from->data->size);
        REQUIRE(entries[i].buf.base != NULL);
        memcpy(entries[i].buf.base, from->data->data, from->data->size);
        entries[i].batch = entries[i].buf.base;
    }
    *ret_term = disk->term;
    *ret_vote = disk->vote;
    *ret_snapshot = disk->snapshot.index != 0 ? load_snapshot(&disk->snapshot) : NULL;
    *ret_start = disk->start;
    *ret_entries = entries;
    *ret_count = disk->count;
    return 0;
}

/* ---- ticks, time, chance ---- */

static void on_tick(void *context, uint64_t argument)
{
    struct raft_backing *backing = context;
    (void)argument;
    world_at(world_of(backing),
             world_of(backing)->now_ns +
                 sim_machine_true_ns(machine_of(backing), backing->tick_ms * NS_PER_MS),
             &backing->process->machine->berthd, on_tick, backing, 0);
    backing->tick(&backing->io);
}

static int io_start(struct raft_io *io,
                    unsigned interval_ms,
                    raft_io_tick_cb tick,
                    raft_io_recv_cb recv)
{
    struct raft_backing *backing = backing_of(io);
    backing->tick = tick;
    backing->recv = recv;
    backing->tick_ms = interval_ms;
    world_at(world_of(backing),
             world_of(backing)->now_ns + world_between(world_of(backing), 0, NS_PER_MS),
             &backing->process->machine->berthd, on_tick, backing, 0);
    return 0;
}

static raft_time io_time(struct raft_io *io)
{
    return sim_machine_clock_ns(machine_of(backing_of(io))) / NS_PER_MS;
}

static int io_random(struct raft_io *io, int min, int max)
{
    return (int)world_between(world_of(backing_of(io)), (uint64_t)min, (uint64_t)max);
}

static int io_init(struct raft_io *io, raft_id id, const char *address)
{
    (void)io;
    (void)id;
    (void)address;
    return 0;
}

static int io_members_not_here(struct raft_io *io,
                               const struct raft_configuration *members)
{
    (void)members;
    say_why(backing_of(io), "the disk was formatted with its members");
    return RAFT_CANTBOOTSTRAP;
}

/* ---- term and vote ---- */

/* A slow disk holds the whole loop up here. */
static int write_now(struct raft_backing *backing)
{
    if (backing == NULL) {
        return 0; /* formatting */
    }
    struct sim_disk *disk = &machine_of(backing)->disk;
    struct world *world = world_of(backing);
    bool alive = true;
    if (is_dead(backing)) {
        return RAFT_IOERR;
    }
    if (disk->fail_writes > 0) {
        disk->fail_writes--;
        say_why(backing, "injected");
        return disk->fail_status;
    }
    if (disk->slow_ns > 0) {
        uint64_t until = world->now_ns + world_between(world, 0, disk->slow_ns);
        struct world_owner *owner = &backing->process->machine->berthd;
        owner->paused_until_ns =
            until > owner->paused_until_ns ? until : owner->paused_until_ns;
    }
    bool written = sim_disk_write_now(disk, &alive);
    return written ? 0 : RAFT_IOERR;
}

static int io_set_term(struct raft_io *io, raft_term term)
{
    struct raft_backing *backing = backing_of(io);
    struct sim_disk *disk = &machine_of(backing)->disk;
    int r = write_now(backing);
    if (r == 0) {
        disk->term = term;
        disk->vote = 0;
    }
    return r;
}

static int io_set_vote(struct raft_io *io, raft_id id)
{
    struct raft_backing *backing = backing_of(io);
    int r = write_now(backing);
    if (r == 0) {
        machine_of(backing)->disk.vote = id;
    }
    return r;
}

/* ---- the log ---- */

static void on_append_heard(void *context, uint64_t id)
{
    struct raft_backing *backing = context;
    LIST_EACH (link, &backing->appends) {
        struct pending_append *pending = LIST_ITEM(link, struct pending_append, link);
        if (pending->id != id) {
            continue;
        }
        struct raft_io_append *request = pending->request;
        int status = pending->status;
        if (status != 0) { /* only now: what was asked meanwhile stood behind it */
            say_why(backing, "injected");
            backing->next_index -= pending->count;
        }
        list_remove(link);
        free(pending);
        request->cb(request, status);
        return;
    }
}

/* The disk is done; the loop hears of it when it gets there. */
static void on_appended(void *context, void *request, int status)
{
    struct raft_backing *backing = context;
    struct pending_append *pending = request;
    pending->status = status;
    world_at(world_of(backing), world_of(backing)->now_ns,
             &backing->process->machine->berthd, on_append_heard, backing, pending->id);
}

static struct sim_entry *copy_entries(const struct raft_entry *entries, unsigned count)
{
    struct sim_entry *copies = calloc(count, sizeof(*copies));
    REQUIRE(copies != NULL);
    for (unsigned i = 0; i < count; i++) {
        REQUIRE(entries[i].buf.len % 8 == 0);
        copies[i].term = entries[i].term;
        copies[i].type = entries[i].type;
        copies[i].data = sim_blob_new(entries[i].buf.base, entries[i].buf.len);
    }
    return copies;
}

static struct sim_write *write_new(struct raft_backing *backing, enum sim_write_kind kind)
{
    struct sim_write *write = calloc(1, sizeof(*write));
    REQUIRE(write != NULL);
    list_init(&write->link);
    write->kind = kind;
    write->context = backing;
    return write;
}

static int io_append(struct raft_io *io,
                     struct raft_io_append *request,
                     const struct raft_entry entries[],
                     unsigned count,
                     raft_io_append_cb done)
{
    struct raft_backing *backing = backing_of(io);
    struct pending_append *pending = calloc(1, sizeof(*pending));
    REQUIRE(pending != NULL);
    request->cb = done;
    *pending =
        (struct pending_append){.id = ++backing->ids, .request = request, .count = count};
    list_push_back(&backing->appends, &pending->link);
    if (is_dead(backing)) {
        return 0; /* answered at the end */
    }
    struct sim_write *write = write_new(backing, SIM_WRITE_APPEND);
    write->index = backing->next_index;
    write->entries = copy_entries(entries, count);
    write->count = count;
    write->done = on_appended;
    write->request = pending;
    backing->next_index += count;
    sim_disk_write(&machine_of(backing)->disk, write);
    return 0;
}

static int io_truncate(struct raft_io *io, raft_index index)
{
    struct raft_backing *backing = backing_of(io);
    if (is_dead(backing)) {
        return RAFT_IOERR;
    }
    struct sim_write *write = write_new(backing, SIM_WRITE_TRUNCATE);
    write->index = index;
    backing->next_index = index;
    sim_disk_write(&machine_of(backing)->disk, write);
    return 0;
}

/* ---- snapshots ---- */

static void on_put_heard(void *context, uint64_t argument)
{
    struct raft_backing *backing = context;
    struct raft_io_snapshot_put *put = backing->put;
    (void)argument;
    backing->put = NULL;
    if (put != NULL) {
        put->cb(put, backing->put_status);
    }
}

static void on_put(void *context, void *request, int status)
{
    struct raft_backing *backing = context;
    (void)request;
    backing->put_status = status;
    world_at(world_of(backing), world_of(backing)->now_ns,
             &backing->process->machine->berthd, on_put_heard, backing, 0);
}

static struct sim_blob *join_bufs(const struct raft_buffer *bufs, unsigned count)
{
    size_t size = 0;
    for (unsigned i = 0; i < count; i++) {
        size += bufs[i].len;
    }
    struct sim_blob *blob = sim_blob_new(NULL, 0);
    blob = realloc(blob, sizeof(*blob) + size);
    REQUIRE(blob != NULL);
    for (unsigned i = 0; i < count; i++) {
        memcpy(blob->data + blob->size, bufs[i].base, bufs[i].len);
        blob->size += bufs[i].len;
    }
    return blob;
}

static int io_snapshot_put(struct raft_io *io,
                           unsigned trailing,
                           struct raft_io_snapshot_put *request,
                           const struct raft_snapshot *snapshot,
                           raft_io_snapshot_put_cb done)
{
    struct raft_backing *backing = backing_of(io);
    request->cb = done;
    backing->put = request;
    if (is_dead(backing)) {
        return 0; /* answered at the end */
    }
    struct sim_write *write = write_new(backing, SIM_WRITE_SNAPSHOT);
    write->snapshot =
        (struct sim_snapshot){.index = snapshot->index,
                              .term = snapshot->term,
                              .members_index = snapshot->configuration_index,
                              .members = members_encode(&snapshot->configuration),
                              .data = join_bufs(snapshot->bufs, snapshot->n_bufs)};
    write->trailing = trailing;
    write->done = on_put;
    if (trailing == 0) {
        backing->next_index = snapshot->index + 1;
    }
    world_say(world_of(backing), "m%u snapshot at %llu%s", machine_of(backing)->index,
              (unsigned long long)snapshot->index, trailing == 0 ? ", received" : "");
    sim_disk_write(&machine_of(backing)->disk, write);
    return 0;
}

static void on_get(void *context, uint64_t id)
{
    struct raft_backing *backing = context;
    const struct sim_snapshot *held = &machine_of(backing)->disk.snapshot;
    LIST_EACH (link, &backing->gets) {
        struct pending_get *pending = LIST_ITEM(link, struct pending_get, link);
        if (pending->id != id) {
            continue;
        }
        struct raft_io_snapshot_get *request = pending->request;
        bool there = held->index != 0;
        list_remove(link);
        free(pending);
        request->cb(request, there ? load_snapshot(held) : NULL,
                    there ? 0 : RAFT_NOTFOUND);
        return;
    }
}

static int io_snapshot_get(struct raft_io *io,
                           struct raft_io_snapshot_get *request,
                           raft_io_snapshot_get_cb done)
{
    struct raft_backing *backing = backing_of(io);
    struct pending_get *pending = calloc(1, sizeof(*pending));
    REQUIRE(pending != NULL);
    request->cb = done;
    *pending = (struct pending_get){.id = ++backing->ids, .request = request};
    list_push_back(&backing->gets, &pending->link);
    world_at(world_of(backing), world_of(backing)->now_ns + NS_PER_MS,
             &backing->process->machine->berthd, on_get, backing, pending->id);
    return 0;
}

/* ---- messages ---- */

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
    members_decode(copy->members, &args->conf);
    args->data.len = copy->data->size;
    args->data.base = raft_malloc(copy->data->size);
    REQUIRE(args->data.base != NULL);
    memcpy(args->data.base, copy->data->data, copy->data->size);
}

static void address_of(unsigned machine, char address[CONSENSUS_ADDRESS_SIZE])
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
    if (backing == NULL || backing->recv == NULL || is_dead(backing)) {
        return;
    }
    address_of(packet->from, address);
    message.server_id = copy->from_id;
    message.server_address = address;
    if (message.type == RAFT_IO_APPEND_ENTRIES && message.append_entries.n_entries > 0) {
        unpack_entries(copy, &message.append_entries);
    } else if (message.type == RAFT_IO_INSTALL_SNAPSHOT) {
        unpack_snapshot(copy, &message.install_snapshot);
    }
    backing->recv(&backing->io, &message);
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
        copy->entries = copy_entries(message->append_entries.entries,
                                     message->append_entries.n_entries);
    } else if (message->type == RAFT_IO_INSTALL_SNAPSHOT) {
        copy->members = members_encode(&message->install_snapshot.conf);
        copy->data = join_bufs(&message->install_snapshot.data, 1);
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

static int io_send(struct raft_io *io,
                   struct raft_io_send *request,
                   const struct raft_message *message,
                   raft_io_send_cb done)
{
    struct raft_backing *backing = backing_of(io);
    struct sim *sim = machine_of(backing)->sim;
    struct sim_machine *to = sim_machine_of_raft(sim, message->server_id);
    struct pending_send *pending = calloc(1, sizeof(*pending));
    REQUIRE(pending != NULL);
    *pending =
        (struct pending_send){.id = ++backing->ids, .request = request, .done = done};
    list_push_back(&backing->sends, &pending->link);
    world_at(world_of(backing), world_of(backing)->now_ns,
             &backing->process->machine->berthd, on_sent, backing, pending->id);
    bool muted = machine_of(backing)->muted && message->type == RAFT_IO_REQUEST_VOTE;
    if (to != NULL && !muted && !is_dead(backing)) {
        struct raft_packet *copy = pack(message);
        copy->from_id = machine_of(backing)->raft_id;
        copy->packet.from = machine_of(backing)->index;
        copy->packet.to = to->index;
        sim_net_send(sim, &copy->packet);
    }
    return 0;
}

/* ---- the end ---- */

static void io_close(struct raft_io *io, raft_io_close_cb done)
{
    struct raft_backing *backing = backing_of(io);
    backing->closed = true;
    sim_disk_orphan(&machine_of(backing)->disk);
    while (!list_empty(&backing->appends)) {
        struct pending_append *pending =
            LIST_ITEM(backing->appends.next, struct pending_append, link);
        struct raft_io_append *request = pending->request;
        list_remove(&pending->link);
        free(pending);
        request->cb(request, RAFT_CANCELED);
    }
    while (!list_empty(&backing->sends)) {
        struct pending_send *pending =
            LIST_ITEM(backing->sends.next, struct pending_send, link);
        struct raft_io_send *request = pending->request;
        raft_io_send_cb sent = pending->done;
        list_remove(&pending->link);
        free(pending);
        if (sent != NULL) {
            sent(request, RAFT_CANCELED);
        }
    }
    if (backing->put != NULL) {
        struct raft_io_snapshot_put *put = backing->put;
        backing->put = NULL;
        put->cb(put, RAFT_CANCELED);
    }
    while (!list_empty(&backing->gets)) {
        struct pending_get *pending =
            LIST_ITEM(backing->gets.next, struct pending_get, link);
        struct raft_io_snapshot_get *request = pending->request;
        list_remove(&pending->link);
        free(pending);
        request->cb(request, NULL, RAFT_CANCELED);
    }
    done(io);
}

/* ---- what consensus asks for ---- */

int raft_backing_open(const struct consensus_config *config,
                      uv_loop_t *loop,
                      struct raft_backing **ret_backing,
                      struct err *err)
{
    struct sim_process *process = (struct sim_process *)(void *)loop;
    struct raft_backing *backing = calloc(1, sizeof(*backing));
    (void)config;
    (void)err;
    REQUIRE(backing != NULL);
    backing->process = process;
    backing->next_index = sim_disk_last_index(&process->machine->disk) + 1;
    list_init(&backing->sends);
    list_init(&backing->appends);
    list_init(&backing->gets);
    backing->io = (struct raft_io){.version = 1,
                                   .impl = backing,
                                   .init = io_init,
                                   .close = io_close,
                                   .load = io_load,
                                   .start = io_start,
                                   .bootstrap = io_members_not_here,
                                   .recover = io_members_not_here,
                                   .set_term = io_set_term,
                                   .set_vote = io_set_vote,
                                   .send = io_send,
                                   .append = io_append,
                                   .truncate = io_truncate,
                                   .snapshot_put = io_snapshot_put,
                                   .snapshot_get = io_snapshot_get,
                                   .time = io_time,
                                   .random = io_random};
    process->backing = backing;
    *ret_backing = backing;
    return 0;
}

struct raft_io *raft_backing_io(struct raft_backing *backing)
{
    return &backing->io;
}

uint64_t raft_backing_free_bytes(const struct raft_backing *backing)
{
    return machine_of(backing)->disk.free_bytes;
}

const struct channel_counters *raft_backing_channels(const struct raft_backing *backing)
{
    static const struct channel_counters none;
    (void)backing;
    return &none;
}

void raft_backing_drop_peer(struct raft_backing *backing, uint64_t id)
{
    (void)backing;
    (void)id;
}

void raft_backing_abandon(struct raft_backing *backing,
                          void (*done)(void *context),
                          void *context)
{
    (void)backing;
    done(context);
}

struct raft_backing *raft_backing_free(struct raft_backing *backing)
{
    if (backing != NULL) {
        backing->process->backing = NULL;
        free(backing);
    }
    return NULL;
}

/* ---- the seal's file ---- */

struct seal_file {
    struct sim_process *process;
};

int seal_file_open(const char *folder,
                   const char *name,
                   struct seal_file **ret_file,
                   struct err *err)
{
    struct seal_file *file = calloc(1, sizeof(*file));
    (void)folder;
    (void)name;
    (void)err;
    REQUIRE(file != NULL);
    file->process = sim_current()->running;
    *ret_file = file;
    return 0;
}

struct seal_file *seal_file_close(struct seal_file *file)
{
    free(file);
    return NULL;
}

const char *seal_file_path(const struct seal_file *file)
{
    (void)file;
    return "berth-seal";
}

int seal_file_read(struct seal_file *file,
                   size_t size_max,
                   uint8_t **ret_data,
                   size_t *ret_size,
                   struct err *err)
{
    const struct sim_disk *disk = &file->process->machine->disk;
    (void)err;
    REQUIRE(size_max >= SIM_SEAL_SIZE);
    if (!disk->has_seal) {
        return 0;
    }
    *ret_data = malloc(SIM_SEAL_SIZE);
    REQUIRE(*ret_data != NULL);
    memcpy(*ret_data, disk->seal, SIM_SEAL_SIZE);
    *ret_size = SIM_SEAL_SIZE;
    return 1;
}

int seal_file_create(struct seal_file *file,
                     const uint8_t *data,
                     size_t size,
                     struct err *err)
{
    struct sim_disk *disk = &file->process->machine->disk;
    int r = write_now(file->process->backing);
    REQUIRE(size == SIM_SEAL_SIZE);
    if (r != 0) {
        return err_set(err, -EIO, "create the seal: injected");
    }
    memcpy(disk->seal, data, size);
    disk->has_seal = true;
    return 0;
}

/* When the process dies in the middle half a block is there. */
int seal_file_write(struct seal_file *file,
                    uint64_t index,
                    const uint8_t block[SEAL_FILE_BLOCK],
                    struct err *err)
{
    struct sim_process *process = file->process;
    struct sim_disk *disk = &process->machine->disk;
    bool was_doomed = process->doomed;
    int r = write_now(process->backing);
    uint8_t *at = disk->seal + index * SEAL_FILE_BLOCK;
    if (r == 0) {
        memcpy(at, block, SEAL_FILE_BLOCK);
        return 0;
    }
    if (process->doomed && !was_doomed && world_chance(disk->world, 500)) {
        memcpy(at, block, 40);
    }
    return err_set(err, -EIO, "write the seal: injected");
}

/* ---- a first log ---- */

uint64_t sim_raft_sealed_index(struct sim_machine *machine)
{
    struct sim_process process = {.machine = machine};
    struct sim_process *before = machine->sim->running;
    struct log_seal seal;
    uint64_t index = 0;
    machine->sim->running = &process;
    if (log_seal_open(&seal, "raft", machine->raft_id, SIM_CLUSTER_ID, NULL) == 0) {
        index = seal.state.index;
        log_seal_close(&seal);
    }
    machine->sim->running = before;
    return index;
}

static void format_seal(struct sim_machine *machine)
{
    struct sim_process process = {.machine = machine};
    struct log_seal seal;
    machine->sim->running = &process;
    REQUIRE(log_seal_open(&seal, "raft", machine->raft_id, SIM_CLUSTER_ID, NULL) == 0);
    REQUIRE(log_seal_intend(&seal, 1, 0, NULL) == 0);
    REQUIRE(log_seal_settle(&seal, 0, 0, NULL) == 0);
    log_seal_close(&seal);
    machine->sim->running = NULL;
}

void sim_raft_format(struct sim *sim)
{
    struct raft_configuration members;
    struct raft_buffer buf;
    raft_configuration_init(&members);
    for (unsigned i = 0; i < sim->config.voters; i++) {
        char address[CONSENSUS_ADDRESS_SIZE];
        address_of(i, address);
        REQUIRE(raft_configuration_add(&members, sim->machines[i].raft_id, address,
                                       RAFT_VOTER) == 0);
    }
    REQUIRE(raft_configuration_encode(&members, &buf) == 0);
    for (unsigned i = 0; i < sim->config.voters; i++) {
        struct sim_disk *disk = &sim->machines[i].disk;
        disk->term = 1;
        format_seal(&sim->machines[i]);
        sim_disk_format_entry(disk, 1, RAFT_CHANGE, buf.base, buf.len);
    }
    raft_free(buf.base);
    raft_configuration_close(&members);
}

void sim_raft_format_command(struct sim *sim, const void *frame, size_t size)
{
    for (unsigned i = 0; i < sim->config.voters; i++) {
        sim_disk_format_entry(&sim->machines[i].disk, 1, RAFT_COMMAND, frame, size);
    }
}

/* ---- eyes ---- */

uint64_t sim_raft_term(const struct sim_process *process)
{
    return process != NULL && process->raft != NULL ? process->raft->current_term : 0;
}

uint64_t sim_raft_leader_term(const struct sim_process *process)
{
    const struct raft *raft = process->raft;
    return raft != NULL && raft->state == RAFT_LEADER ? raft->current_term : 0;
}

uint64_t sim_raft_commit(const struct sim_process *process)
{
    return process != NULL && process->raft != NULL ? process->raft->commit_index : 0;
}

uint64_t sim_raft_applied(const struct sim_process *process)
{
    return process != NULL && process->raft != NULL ? process->raft->last_applied : 0;
}

uint64_t sim_raft_last_index(const struct sim_process *process)
{
    return process != NULL && process->raft != NULL ? raft_last_index(process->raft) : 0;
}
