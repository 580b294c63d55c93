#include "sim_disk.h"

#include "base/clock.h"
#include "base/require.h"

#include <raft.h>

#include <stdlib.h>
#include <string.h>

#define WRITE_MIN_NS        (80 * UINT64_C(1000)) /* a direct write of a good disk */
#define WRITE_MAX_NS        (900 * UINT64_C(1000))
#define WRITE_TAIL_PERMILLE 10 /* so many take up to ten milliseconds */
#define WRITE_TAIL_NS       (10 * NS_PER_MS)

struct sim_blob *sim_blob_new(const void *data, size_t size)
{
    struct sim_blob *blob = malloc(sizeof(*blob) + size);
    REQUIRE(blob != NULL);
    blob->refs = 1;
    blob->size = size;
    if (size > 0) {
        memcpy(blob->data, data, size);
    }
    return blob;
}

struct sim_blob *sim_blob_ref(struct sim_blob *blob)
{
    if (blob != NULL) {
        blob->refs++;
    }
    return blob;
}

void sim_blob_unref(struct sim_blob *blob)
{
    if (blob != NULL && --blob->refs == 0) {
        free(blob);
    }
}

void sim_snapshot_fini(struct sim_snapshot *snapshot)
{
    sim_blob_unref(snapshot->members);
    sim_blob_unref(snapshot->data);
    *snapshot = (struct sim_snapshot){0};
}

void sim_disk_init(struct sim_disk *disk, struct world *world)
{
    *disk = (struct sim_disk){.world = world, .start = 1, .free_bytes = UINT64_MAX};
    list_init(&disk->queue);
}

static void write_free(struct sim_write *write)
{
    list_remove(&write->link);
    for (unsigned i = 0; i < write->count; i++) {
        sim_blob_unref(write->entries[i].data);
    }
    free(write->entries);
    sim_snapshot_fini(&write->snapshot);
    free(write);
}

static void log_cut(struct sim_disk *disk, uint64_t from)
{
    while (disk->count > 0 && disk->start + disk->count > from) {
        sim_blob_unref(disk->log[--disk->count].data);
    }
}

static void drop_queue(struct sim_disk *disk)
{
    LIST_EACH_SAFE (link, &disk->queue) {
        write_free(LIST_ITEM(link, struct sim_write, link));
    }
    disk->busy = false;
    disk->life++;
}

void sim_disk_fini(struct sim_disk *disk)
{
    drop_queue(disk);
    log_cut(disk, 0);
    free(disk->log);
    sim_snapshot_fini(&disk->snapshot);
}

uint64_t sim_disk_last_index(const struct sim_disk *disk)
{
    return disk->start + disk->count - 1;
}

/* ---- what a write does ---- */

static void log_push(struct sim_disk *disk, const struct sim_entry *entry)
{
    if (disk->count == disk->capacity) {
        disk->capacity = disk->capacity == 0 ? 256 : disk->capacity * 2;
        disk->log = realloc(disk->log, disk->capacity * sizeof(*disk->log));
        REQUIRE(disk->log != NULL);
    }
    disk->log[disk->count] = *entry;
    disk->log[disk->count++].data = sim_blob_ref(entry->data);
}

static void
put_entries(struct sim_disk *disk, const struct sim_write *write, unsigned count)
{
    uint64_t index = write->index;
    disk->torn = 0; /* written over */
    if (disk->count == 0 && index > disk->start) {
        disk->start = index; /* behind a snapshot */
    }
    log_cut(disk, index);
    REQUIRE(index == disk->start + disk->count);
    for (unsigned i = 0; i < count; i++) {
        log_push(disk, &write->entries[i]);
    }
}

/* Keeps `trailing` entries before the snapshot's index; 0: the snapshot replaces all. */
static void put_snapshot(struct sim_disk *disk, struct sim_write *write)
{
    sim_snapshot_fini(&disk->snapshot);
    disk->snapshot = write->snapshot;
    write->snapshot = (struct sim_snapshot){0};
    uint64_t index = disk->snapshot.index;
    if (write->trailing == 0) {
        log_cut(disk, 0);
        disk->start = index + 1;
        return;
    }
    uint64_t first = index > write->trailing ? index - write->trailing + 1 : 1;
    if (first <= disk->start) {
        return;
    }
    size_t gone = (size_t)(first - disk->start);
    if (gone > disk->count) { /* a disk that lied has less than the library believes */
        log_cut(disk, 0);
        disk->start = index + 1;
        return;
    }
    for (size_t i = 0; i < gone; i++) {
        sim_blob_unref(disk->log[i].data);
    }
    memmove(disk->log, disk->log + gone, (disk->count - gone) * sizeof(*disk->log));
    disk->count -= gone;
    disk->start = first;
}

/* After a failed write the ones behind it have nothing to stand on. */
static bool fits(const struct sim_disk *disk, const struct sim_write *write)
{
    return write->kind != SIM_WRITE_APPEND || disk->count == 0 ||
           write->index <= disk->start + disk->count;
}

static void carry_out(struct sim_disk *disk, struct sim_write *write)
{
    switch (write->kind) {
    case SIM_WRITE_APPEND:
        put_entries(disk, write, write->count);
        break;
    case SIM_WRITE_TRUNCATE:
        log_cut(disk, write->index);
        break;
    default:
        put_snapshot(disk, write);
        break;
    }
}

/* ---- the queue ---- */

static bool dies_here(struct sim_disk *disk)
{
    disk->writes++;
    return disk->death_in > 0 && --disk->death_in == 0;
}

uint64_t sim_disk_duration_ns(struct sim_disk *disk)
{
    uint64_t ns = world_between(disk->world, WRITE_MIN_NS, WRITE_MAX_NS);
    if (world_chance(disk->world, WRITE_TAIL_PERMILLE)) {
        ns += world_between(disk->world, 0, WRITE_TAIL_NS);
    }
    return ns + (disk->slow_ns > 0 ? world_between(disk->world, 0, disk->slow_ns) : 0);
}

static void begin_next(struct sim_disk *disk);

static void tell(struct sim_write *write)
{
    void (*done)(void *context, void *request, int status) = write->done;
    write->done = NULL;
    if (done != NULL) {
        done(write->context, write->request, write->status);
    }
}

static void on_written(void *context, uint64_t life)
{
    struct sim_disk *disk = context;
    if (life != disk->life) {
        return;
    }
    struct sim_write *write = LIST_ITEM(disk->queue.next, struct sim_write, link);
    disk->busy = false;
    bool dies = dies_here(disk);
    if (dies && disk->death == SIM_DEATH_BEFORE) {
        disk->die(disk->die_context);
        return;
    }
    if (!fits(disk, write)) {
        write->status = RAFT_IOERR;
    } else if (disk->fail_writes > 0 && write->kind != SIM_WRITE_TRUNCATE) {
        disk->fail_writes--;
        write->status = disk->fail_status;
        if (write->kind == SIM_WRITE_APPEND) { /* part of it may be there */
            put_entries(disk, write,
                        (unsigned)world_between(disk->world, 0, write->count));
        }
    } else {
        carry_out(disk, write);
    }
    if (dies) {
        write_free(write);
        disk->die(disk->die_context);
        return;
    }
    tell(write);
    write_free(write);
    begin_next(disk);
}

static void begin_next(struct sim_disk *disk)
{
    if (disk->busy || list_empty(&disk->queue)) {
        return;
    }
    disk->busy = true;
    world_at(disk->world, disk->world->now_ns + sim_disk_duration_ns(disk), NULL,
             on_written, disk, disk->life);
}

static void on_lied(void *context, uint64_t life)
{
    struct sim_disk *disk = context;
    if (life != disk->life) {
        return;
    }
    LIST_EACH_SAFE (link, &disk->queue) {
        tell(LIST_ITEM(link, struct sim_write, link));
    }
}

void sim_disk_write(struct sim_disk *disk, struct sim_write *take_write)
{
    list_push_back(&disk->queue, &take_write->link);
    if (disk->lies) {
        world_at(disk->world, disk->world->now_ns + WRITE_MIN_NS, NULL, on_lied, disk,
                 disk->life);
    }
    begin_next(disk);
}

bool sim_disk_write_now(struct sim_disk *disk, bool *ret_alive)
{
    bool dies = dies_here(disk);
    *ret_alive = !dies;
    if (dies) {
        disk->die(disk->die_context);
    }
    return !dies || disk->death == SIM_DEATH_AFTER;
}

void sim_disk_orphan(struct sim_disk *disk)
{
    LIST_EACH (link, &disk->queue) {
        LIST_ITEM(link, struct sim_write, link)->done = NULL;
    }
}

void sim_disk_crash(struct sim_disk *disk)
{
    unsigned waiting = 0;
    LIST_EACH (link, &disk->queue) {
        waiting++;
    }
    unsigned made = (unsigned)world_between(disk->world, 0, waiting);
    LIST_EACH_SAFE (link, &disk->queue) {
        struct sim_write *write = LIST_ITEM(link, struct sim_write, link);
        if (!fits(disk, write)) {
            break;
        }
        if (made > 0) {
            made--;
            carry_out(disk, write);
        } else if (write->kind == SIM_WRITE_APPEND) { /* up to a torn entry */
            put_entries(disk, write,
                        (unsigned)world_between(disk->world, 0, write->count));
            disk->torn = world_between(disk->world, 1, UINT32_MAX);
            break;
        } else {
            break;
        }
    }
    drop_queue(disk);
    disk->death_in = 0;
    disk->fail_writes = 0;
}

void sim_disk_lose_tail(struct sim_disk *disk, uint64_t from)
{
    log_cut(disk, from);
}

void sim_disk_format_entry(struct sim_disk *disk,
                           uint64_t term,
                           unsigned short type,
                           const void *data,
                           size_t size)
{
    struct sim_entry entry = {
        .term = term, .type = type, .data = sim_blob_new(data, size)};
    log_push(disk, &entry);
    sim_blob_unref(entry.data);
}
