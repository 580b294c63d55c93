/* The log of a simulated machine: entries and snapshots on its simulated disk. */
#include "base/bytes.h"
#include "base/require.h"
#include "consensus/raft_members.h"
#include "sim_raft.h"

#include <stdlib.h>
#include <string.h>

#define OPEN_TAIL 512 /* entries in the open segment: a bad one there ends the log */

/* ---- members as bytes ---- */

struct sim_blob *sim_raft_members_encode(const struct raft_configuration *members)
{
    struct raft_buffer buf;
    REQUIRE(raft_configuration_encode(members, &buf) == 0);
    struct sim_blob *blob = sim_blob_new(buf.base, buf.len);
    raft_free(buf.base);
    return blob;
}

void sim_raft_members_decode(const struct sim_blob *blob,
                             struct raft_configuration *ret_members)
{
    const struct raft_buffer entry = {.base = (void *)(uintptr_t)blob->data,
                                      .len = blob->size};
    REQUIRE(raft_members_decode(&entry, ret_members) == 0);
}

/* ---- loading ---- */

static struct raft_snapshot *load_snapshot(const struct sim_snapshot *from)
{
    struct raft_snapshot *snapshot = raft_calloc(1, sizeof(*snapshot));
    REQUIRE(snapshot != NULL);
    snapshot->index = from->index;
    snapshot->term = from->term;
    snapshot->configuration_index = from->members_index;
    sim_raft_members_decode(from->members, &snapshot->configuration);
    snapshot->bufs = raft_calloc(1, sizeof(*snapshot->bufs));
    REQUIRE(snapshot->bufs != NULL);
    snapshot->n_bufs = 1;
    snapshot->bufs[0].len = from->data->size;
    snapshot->bufs[0].base = raft_malloc(from->data->size);
    REQUIRE(snapshot->bufs[0].base != NULL);
    memcpy(snapshot->bufs[0].base, from->data->data, from->data->size);
    return snapshot;
}

/* A bad entry in the open segment looks like a torn write to the library's loader;
 * elsewhere it is noticed. What stands in front of the loader looks closer, and has to
 * find all that had been stored, but nothing that a crash has left. */
static int count_sound(struct sim_machine *machine)
{
    struct sim_disk *disk = &machine->disk;
    bool blind = machine->sim->config.bug == SIM_BUG_DAMAGE_AS_TORN;
    size_t rotten = 0;
    while (rotten < disk->count && disk->log[rotten].rotten == 0) {
        rotten++;
    }
    bool closed = rotten + OPEN_TAIL < disk->count;
    bool looked = rotten < disk->count || disk->torn != 0;
    if (closed || (looked && !blind && sim_raft_is_lost(disk, rotten))) {
        return RAFT_CORRUPT;
    }
    disk->torn = 0;
    if (rotten < disk->count) {
        uint64_t index = disk->start + rotten;
        if (index > sim_raft_sealed_index(machine)) {
            world_fail(&machine->sim->world,
                       "m%u drops entry %llu, which it had stored, without a word",
                       machine->index, (unsigned long long)index);
        }
        sim_disk_lose_tail(disk, index);
    }
    return 0;
}

int sim_raft_load(struct raft_io *io,
                  raft_term *ret_term,
                  raft_id *ret_vote,
                  struct raft_snapshot **ret_snapshot,
                  raft_index *ret_start,
                  struct raft_entry **ret_entries,
                  size_t *ret_count)
{
    struct raft_backing *backing = sim_backing_of(io);
    struct sim_disk *disk = &sim_backing_machine(backing)->disk;
    if (count_sound(sim_backing_machine(backing)) != 0) {
        sim_backing_say_why(backing, "a segment's checksum is wrong");
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
            sim_backing_say_why(backing, "injected");
            backing->next_index -= pending->count;
        }
        struct sim_process *process = backing->process;
        list_remove(link);
        free(pending);
        request->cb(request, status);
        sim_members_committed(process);
        sim_members_agree(process);
        return;
    }
}

/* The disk is done; the loop hears of it when it gets there. */
static void on_appended(void *context, void *request, int status)
{
    struct raft_backing *backing = context;
    struct pending_append *pending = request;
    pending->status = status;
    world_at(sim_backing_world(backing), sim_backing_world(backing)->now_ns,
             &backing->process->machine->berthd, on_append_heard, backing, pending->id);
}

struct sim_entry *sim_raft_copy_entries(const struct raft_entry *entries, unsigned count)
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

int sim_raft_append(struct raft_io *io,
                    struct raft_io_append *request,
                    const struct raft_entry entries[],
                    unsigned count,
                    raft_io_append_cb done)
{
    struct raft_backing *backing = sim_backing_of(io);
    struct pending_append *pending = calloc(1, sizeof(*pending));
    REQUIRE(pending != NULL);
    request->cb = done;
    *pending =
        (struct pending_append){.id = ++backing->ids, .request = request, .count = count};
    list_push_back(&backing->appends, &pending->link);
    if (sim_backing_is_dead(backing)) {
        return 0; /* answered at the end */
    }
    struct sim_write *write = write_new(backing, SIM_WRITE_APPEND);
    write->index = backing->next_index;
    write->entries = sim_raft_copy_entries(entries, count);
    write->count = count;
    write->done = on_appended;
    write->request = pending;
    backing->next_index += count;
    sim_disk_write(&sim_backing_machine(backing)->disk, write);
    return 0;
}

int sim_raft_truncate(struct raft_io *io, raft_index index)
{
    struct raft_backing *backing = sim_backing_of(io);
    if (sim_backing_is_dead(backing)) {
        return RAFT_IOERR;
    }
    struct sim_write *write = write_new(backing, SIM_WRITE_TRUNCATE);
    write->index = index;
    backing->next_index = index;
    sim_disk_write(&sim_backing_machine(backing)->disk, write);
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
    world_at(sim_backing_world(backing), sim_backing_world(backing)->now_ns,
             &backing->process->machine->berthd, on_put_heard, backing, 0);
}

struct sim_blob *sim_raft_join_bufs(const struct raft_buffer *bufs, unsigned count)
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

int sim_raft_snapshot_put(struct raft_io *io,
                          unsigned trailing,
                          struct raft_io_snapshot_put *request,
                          const struct raft_snapshot *snapshot,
                          raft_io_snapshot_put_cb done)
{
    struct raft_backing *backing = sim_backing_of(io);
    request->cb = done;
    backing->put = request;
    if (sim_backing_is_dead(backing)) {
        return 0; /* answered at the end */
    }
    struct sim_write *write = write_new(backing, SIM_WRITE_SNAPSHOT);
    write->snapshot = (struct sim_snapshot){
        .index = snapshot->index,
        .term = snapshot->term,
        .members_index = snapshot->configuration_index,
        .members = sim_raft_members_encode(&snapshot->configuration),
        .data = sim_raft_join_bufs(snapshot->bufs, snapshot->n_bufs)};
    write->trailing = trailing;
    write->done = on_put;
    if (trailing == 0) {
        backing->next_index = snapshot->index + 1;
    }
    world_say(sim_backing_world(backing), "m%u snapshot at %llu%s",
              sim_backing_machine(backing)->index, (unsigned long long)snapshot->index,
              trailing == 0 ? ", received" : "");
    sim_disk_write(&sim_backing_machine(backing)->disk, write);
    return 0;
}

static void on_get(void *context, uint64_t id)
{
    struct raft_backing *backing = context;
    const struct sim_snapshot *held = &sim_backing_machine(backing)->disk.snapshot;
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

int sim_raft_snapshot_get(struct raft_io *io,
                          struct raft_io_snapshot_get *request,
                          raft_io_snapshot_get_cb done)
{
    struct raft_backing *backing = sim_backing_of(io);
    struct pending_get *pending = calloc(1, sizeof(*pending));
    REQUIRE(pending != NULL);
    request->cb = done;
    *pending = (struct pending_get){.id = ++backing->ids, .request = request};
    list_push_back(&backing->gets, &pending->link);
    world_at(sim_backing_world(backing), sim_backing_world(backing)->now_ns + NS_PER_MS,
             &backing->process->machine->berthd, on_get, backing, pending->id);
    return 0;
}
