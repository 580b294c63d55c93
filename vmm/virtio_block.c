#include "vmm/virtio_block.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/digest.h"
#include "base/require.h"
#include "vmm/rate_gate.h"

#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PCI_CLASS_STORAGE 0x018000u

/* 5.2.6: request types and status. */
enum {
    BLK_IN = 0,
    BLK_OUT = 1,
    BLK_FLUSH = 4,
    BLK_GET_ID = 8,
    BLK_DISCARD = 11,
    BLK_WRITE_ZEROES = 13,
};
enum { STATUS_OK = 0, STATUS_IOERR = 1, STATUS_UNSUPP = 2 };
#define FLAG_UNMAP 1u

#define SEGMENTS_MAX       (VIRTIO_QUEUE_SIZE_MAX - 2) /* header and status beside them */
#define PIECES_MAX         (VIRTIO_QUEUE_SIZE_MAX + GUEST_MEMORY_REGIONS_MAX)
#define DISCARD_SECTORS    (1u << 22)
#define ZERO_SECTORS       (1u << 17)
#define BLOCK_BYTES        512u
#define SERIAL_PREFIX      11 /* with a dash and eight digits: VIRTIO_BLOCK_SERIAL_SIZE */
#define PHYSICAL_BLOCK_LOG 3u /* 4 KiB: what the overlay likes */

struct block_header {
    uint32_t type;
    uint32_t reserved;
    uint64_t sector;
};

/* 5.2.6: what discard and write zeroes carry. */
struct block_segment {
    uint64_t sector;
    uint32_t sector_count;
    uint32_t flags;
};

/* 5.2.4 */
struct block_config {
    uint64_t capacity;
    uint32_t size_max;
    uint32_t seg_max;
    uint8_t geometry[4];
    uint32_t blk_size;
    uint8_t physical_block_exp;
    uint8_t alignment_offset;
    uint16_t min_io_size;
    uint32_t opt_io_size;
    uint8_t writeback;
    uint8_t unused;
    uint16_t num_queues;
    uint32_t max_discard_sectors;
    uint32_t max_discard_seg;
    uint32_t discard_sector_alignment;
    uint32_t max_write_zeroes_sectors;
    uint32_t max_write_zeroes_seg;
    uint8_t write_zeroes_may_unmap;
    uint8_t unused_end[3];
};
_Static_assert(sizeof(struct block_config) == 64, "60 bytes and padding");

struct block;

/* A request in flight. */
struct slot {
    struct disk_request request;
    struct slot *next; /* of those that are free, or kept */
    struct block *block;
    unsigned queue;
    enum block_kind kind;
    uint64_t begun_ns;
    uint64_t filled_bytes; /* written into the guest when it succeeds */
    struct virtio_chain chain;
    struct iovec pieces[PIECES_MAX];
};

/* The flush of a device that leaves, or whose machine ends. */
struct last_flush {
    struct disk_request request;
    struct block *block;
    struct virtio_synced synced;
};

struct block {
    struct virtio_device device;
    struct virtual_disk *disk;
    struct disk_queue *disk_queue;
    struct rate_gate gate;
    struct block_stats stats;
    struct block_config config;
    char serial[VIRTIO_BLOCK_SERIAL_SIZE + 1];
    int event_watch;
    struct virtio_block_listener listener;
    struct slot *kept;      /* until the device starts again, in order */
    struct slot **kept_end; /* of that list */
    bool dropping;          /* a reset drains: nobody waits for the answers */
    struct slot *slots;     /* queue size of each queue: no more can be in flight */
    unsigned slot_count;
    unsigned slots_touched; /* those from here on have never been used */
    struct slot *free_slots;
    struct last_flush last;
};

static struct block *block_of(struct virtio_device *device)
{
    return (struct block *)device;
}

/* ---- answers ---- */

/* The status is the last writable byte (5.2.6.2). */
static void answer(struct block *block,
                   unsigned queue,
                   const struct virtio_chain *chain,
                   uint8_t status,
                   uint64_t filled_bytes)
{
    (void)virtio_chain_write(chain, block->device.place.memory, chain->writable_bytes - 1,
                             &status, sizeof(status));
    virtio_device_give(&block->device, queue, chain->head, (uint32_t)(filled_bytes + 1));
}

/* One that is warm, or else the next one whose pages nobody has touched yet. */
static struct slot *slot_take(struct block *block)
{
    struct slot *slot = block->free_slots;
    if (slot != NULL) {
        block->free_slots = slot->next;
    } else {
        REQUIRE(block->slots_touched < block->slot_count); /* the queues bound it */
        slot = &block->slots[block->slots_touched++];
        slot->block = block;
    }
    return slot;
}

static void slot_free(struct slot *slot)
{
    slot->next = slot->block->free_slots;
    slot->block->free_slots = slot;
}

/* Tells of what the disk could not do; true: the request is kept. What the guest got
 * wrong never comes to the disk (the prepare functions): each code is of the host's. A
 * device that leaves is not started again, so it keeps nothing. */
static bool fault_take(struct block *block, struct slot *slot)
{
    const bool is_change = slot->request.operation != DISK_READ;
    const bool leaves = block->device.leaving;
    const struct virtio_block_fault fault = {
        .operation = slot->request.operation,
        .code = slot->request.result,
        .is_kept = is_change && !leaves && disk_has_no_room(slot->request.result),
        .is_last = is_change && leaves};
    if (block->listener.faulted == NULL || block->dropping) {
        return false;
    }
    if (fault.is_kept) {
        slot->next = NULL;
        *block->kept_end = slot;
        block->kept_end = &slot->next;
    }
    block->listener.faulted(block->listener.context, &fault);
    return fault.is_kept;
}

static void kept_clear(struct block *block)
{
    block->kept = NULL;
    block->kept_end = &block->kept;
}

/* They end without an answer; of those of a device that leaves its owner has to know. */
static void kept_drop(struct block *block)
{
    struct slot *slot = block->kept;
    kept_clear(block);
    if (slot != NULL && block->device.leaving && block->listener.faulted != NULL) {
        const struct virtio_block_fault fault = {.operation = slot->request.operation,
                                                 .code = slot->request.result,
                                                 .is_last = true};
        block->listener.faulted(block->listener.context, &fault);
    }
    while (slot != NULL) {
        struct slot *next = slot->next;
        guest_memory_iovec_end(block->device.place.memory, slot->request.pieces,
                               slot->request.piece_count);
        block_stats_dropped(&block->stats);
        slot_free(slot);
        slot = next;
    }
}

static void on_done(struct disk_request *request)
{
    struct slot *slot = (struct slot *)request;
    struct block *block = slot->block;
    const bool good = request->result == 0;
    if (!good && fault_take(block, slot)) {
        return;
    }
    /* Also after an error: a part may be there. */
    virtio_chain_mark(&slot->chain, block->device.place.memory, slot->filled_bytes);
    guest_memory_iovec_end(block->device.place.memory, request->pieces,
                           request->piece_count);
    const struct block_done done = {.kind = slot->kind,
                                    .is_good = good,
                                    .offset = request->range.offset,
                                    .size = request->range.size,
                                    .begun_ns = slot->begun_ns,
                                    .done_ns = request->done_ns};
    block_stats_done(&block->stats, &done);
    answer(block, slot->queue, &slot->chain, good ? STATUS_OK : STATUS_IOERR,
           good ? slot->filled_bytes : 0);
    slot_free(slot);
}

/* After each turn. */
static void signal_all(struct block *block)
{
    counter_set(&block->stats.by_ring, disk_queue_by_ring(block->disk_queue));
    for (unsigned i = 0; i < block->device.queue_count; i++) {
        virtio_device_signal(&block->device, i);
    }
}

/* ---- requests: each type says what the disk has to do; 0, or the status ---- */

/* Whether the disk has all of it. */
static bool is_inside(const struct block *block, uint64_t sector, uint64_t size)
{
    const uint64_t sectors = block->disk->size_bytes / DISK_SECTOR_BYTES;
    return sector <= sectors && size / DISK_SECTOR_BYTES <= sectors - sector;
}

/* The range of a read or write of `size` bytes, and where its bytes are. */
static uint8_t data_prepare(struct slot *slot,
                            const struct block_header *header,
                            bool writable,
                            uint64_t skip,
                            uint64_t size)
{
    if (size == 0 || size % DISK_SECTOR_BYTES != 0 || size > VIRTIO_BLOCK_REQUEST_MAX ||
        !is_inside(slot->block, header->sector, size)) {
        return STATUS_IOERR;
    }
    const int count = virtio_chain_iovec(&slot->chain, slot->block->device.place.memory,
                                         writable, skip, size, slot->pieces, PIECES_MAX);
    if (count < 0) {
        return STATUS_IOERR;
    }
    slot->request.range = (struct disk_range){header->sector * DISK_SECTOR_BYTES, size};
    slot->request.pieces = slot->pieces;
    slot->request.piece_count = (unsigned)count;
    return STATUS_OK;
}

static uint8_t prepare_in(struct slot *slot, const struct block_header *header)
{
    const uint64_t size = slot->chain.writable_bytes - 1;
    slot->filled_bytes = size;
    return data_prepare(slot, header, true, 0, size);
}

static uint8_t prepare_out(struct slot *slot, const struct block_header *header)
{
    if (slot->block->disk->read_only) {
        return STATUS_IOERR;
    }
    if (!virtio_device_has(&slot->block->device, VIRTIO_BLK_F_FLUSH)) {
        slot->request.operation = DISK_WRITE_THROUGH; /* 5.2.6.2 */
    }
    return data_prepare(slot, header, false, sizeof(*header),
                        slot->chain.readable_bytes - sizeof(*header));
}

static uint8_t prepare_flush(struct slot *slot, const struct block_header *header)
{
    (void)slot;
    (void)header;
    return STATUS_OK;
}

/* Exactly one segment, as the configuration says. */
static uint8_t
segment_prepare(struct slot *slot, uint32_t flags_known, uint32_t sectors_max)
{
    struct block_segment segment;
    const uint64_t size = slot->chain.readable_bytes - sizeof(struct block_header);
    if (size != sizeof(segment) ||
        virtio_chain_read(&slot->chain, slot->block->device.place.memory,
                          sizeof(struct block_header), &segment,
                          sizeof(segment)) != sizeof(segment)) {
        return STATUS_IOERR;
    }
    if ((segment.flags & ~flags_known) != 0) {
        return STATUS_UNSUPP;
    }
    if (segment.sector_count > sectors_max ||
        !is_inside(slot->block, segment.sector,
                   segment.sector_count * DISK_SECTOR_BYTES)) {
        return STATUS_IOERR;
    }
    slot->request.range = (struct disk_range){segment.sector * DISK_SECTOR_BYTES,
                                              segment.sector_count * DISK_SECTOR_BYTES};
    return STATUS_OK;
}

static uint8_t prepare_discard(struct slot *slot, const struct block_header *header)
{
    (void)header;
    return segment_prepare(slot, 0, DISCARD_SECTORS);
}

static uint8_t prepare_zeroes(struct slot *slot, const struct block_header *header)
{
    (void)header;
    if (!virtio_device_has(&slot->block->device, VIRTIO_BLK_F_FLUSH)) {
        slot->request.operation = DISK_ZERO_THROUGH; /* zeros are written */
    }
    return segment_prepare(slot, FLAG_UNMAP, ZERO_SECTORS);
}

static const struct type_row {
    uint32_t type;
    enum disk_operation operation;
    enum block_kind kind;
    uint64_t feature; /* without it the type does not exist */
    uint8_t (*prepare)(struct slot *slot, const struct block_header *header);
} types[] = {
    {BLK_IN, DISK_READ, BLOCK_READ, 0, prepare_in},
    {BLK_OUT, DISK_WRITE, BLOCK_WRITE, 0, prepare_out},
    {BLK_FLUSH, DISK_FLUSH, BLOCK_FLUSH, 0, prepare_flush},
    {BLK_DISCARD, DISK_DISCARD, BLOCK_UNMAP, VIRTIO_BLK_F_DISCARD, prepare_discard},
    {BLK_WRITE_ZEROES, DISK_ZERO, BLOCK_WRITE, VIRTIO_BLK_F_WRITE_ZEROES, prepare_zeroes},
};

static const struct type_row *type_of(const struct block *block, uint32_t type)
{
    for (size_t i = 0; i < ARRAY_COUNT(types); i++) {
        if (types[i].type == type &&
            virtio_device_has(&block->device, types[i].feature)) {
            return &types[i];
        }
    }
    return NULL;
}

/* Up to 20 bytes, padded with zeros; the serial number has no end mark of its own. */
static void
answer_id(struct block *block, unsigned queue, const struct virtio_chain *chain)
{
    const uint64_t room = chain->writable_bytes - 1;
    const size_t size =
        room < VIRTIO_BLOCK_SERIAL_SIZE ? (size_t)room : VIRTIO_BLOCK_SERIAL_SIZE;
    const size_t written =
        virtio_chain_write(chain, block->device.place.memory, 0, block->serial, size);
    answer(block, queue, chain, STATUS_OK, written);
}

static void submit(struct block *block,
                   unsigned queue,
                   const struct virtio_chain *chain,
                   const struct type_row *row,
                   const struct block_header *header)
{
    struct slot *slot = slot_take(block);
    slot->queue = queue;
    slot->kind = row->kind;
    slot->begun_ns = clock_now_ns(clock_system());
    slot->filled_bytes = 0;
    slot->chain = *chain;
    slot->request = (struct disk_request){.operation = row->operation, .done = on_done};
    const uint8_t status = row->prepare(slot, header);
    if (status != STATUS_OK) {
        block_stats_invalid(&block->stats, row->kind);
        answer(block, queue, chain, status, 0);
        slot_free(slot);
        return;
    }
    block_stats_begin(&block->stats);
    disk_queue_submit(block->disk_queue, &slot->request);
}

static enum virtio_handled
handle(struct virtio_device *device, unsigned queue, struct virtio_chain *chain)
{
    struct block *block = block_of(device);
    struct block_header header;
    if (chain->writable_bytes == 0) {
        virtio_device_fail(device, "a block request without a place for its status");
        virtio_device_give(device, queue, chain->head, 0);
        return VIRTIO_TAKEN;
    }
    if (!rate_gate_pass(&block->gate, chain->readable_bytes + chain->writable_bytes)) {
        counter_add(&block->stats.held, 1);
        return VIRTIO_WAIT;
    }
    if (virtio_chain_read(chain, device->place.memory, 0, &header, sizeof(header)) !=
        sizeof(header)) {
        counter_add(&block->stats.other, 1);
        answer(block, queue, chain, STATUS_IOERR, 0);
        return VIRTIO_TAKEN;
    }
    if (header.type == BLK_GET_ID) {
        counter_add(&block->stats.other, 1);
        answer_id(block, queue, chain);
        return VIRTIO_TAKEN;
    }
    const struct type_row *row = type_of(block, header.type);
    if (row == NULL) {
        counter_add(&block->stats.other, 1);
        answer(block, queue, chain, STATUS_UNSUPP, 0);
        return VIRTIO_TAKEN;
    }
    submit(block, queue, chain, row, &header);
    return VIRTIO_TAKEN;
}

/* ---- callbacks ---- */

/* The end of a reset that the driver waits for, and of a stop. */
static void idle_tell(struct block *block)
{
    if (!disk_queue_is_idle(block->disk_queue)) {
        return;
    }
    if (block->dropping) {
        block->dropping = false;
        virtio_device_reset_end(&block->device);
    }
    virtio_device_stop_end(&block->device);
}

static void on_disk_event(void *context, uint64_t token, unsigned events)
{
    struct block *block = context;
    (void)token;
    (void)events;
    virtio_device_enter(&block->device);
    disk_queue_reap(block->disk_queue);
    signal_all(block);
    idle_tell(block);
    virtio_device_leave(&block->device);
}

static void serve_all(struct block *block)
{
    for (unsigned i = 0; i < block->device.queue_count; i++) {
        virtio_device_notify(&block->device, i);
    }
}

static void on_limit_due(void *context, uint64_t token, unsigned events)
{
    struct block *block = context;
    (void)token;
    (void)events;
    virtio_device_enter(&block->device);
    rate_gate_due(&block->gate);
    serve_all(block);
    virtio_device_leave(&block->device);
}

/* ---- the verbs ---- */

static int block_init(struct virtio_device *device, struct err *err)
{
    struct block *block = block_of(device);
    block->event_watch =
        poller_add(device->place.poller, disk_queue_fd(block->disk_queue),
                   POLLER_READABLE, on_disk_event, block, 0);
    if (block->event_watch < 0) {
        return err_sys(err, block->event_watch, "watch the disk");
    }
    const int r =
        rate_gate_init(&block->gate, device->place.poller, on_limit_due, block, 0);
    return r < 0 ? err_sys(err, r, "make the rate limit's timer") : 0;
}

static void block_notify(struct virtio_device *device, unsigned queue)
{
    struct block *block = block_of(device);
    virtio_device_serve(device, queue, handle);
    disk_queue_push(block->disk_queue);
    signal_all(block);
}

static void block_reset(struct virtio_device *device)
{
    struct block *block = block_of(device);
    block->dropping = true;
    disk_queue_drain(block->disk_queue); /* nothing touches the guest later */
    block->dropping = false;
    kept_drop(block);
}

/* A disk may take its time: whoever needs the lock meanwhile, the thread of all devices
 * before all, does not wait for it. */
static bool block_reset_begin(struct virtio_device *device)
{
    struct block *block = block_of(device);
    kept_drop(block);
    block->dropping = !disk_queue_is_idle(block->disk_queue);
    return block->dropping;
}

/* There may be room by now. */
static void block_start(struct virtio_device *device)
{
    struct block *block = block_of(device);
    struct slot *slot = block->kept;
    kept_clear(block);
    while (slot != NULL) {
        struct slot *next = slot->next;
        disk_queue_submit(block->disk_queue, &slot->request);
        slot = next;
    }
}

static void block_stop(struct virtio_device *device)
{
    struct block *block = block_of(device);
    disk_queue_drain(block->disk_queue);
    signal_all(block);
    idle_tell(block);
}

static bool block_stop_begin(struct virtio_device *device)
{
    return !disk_queue_is_idle(block_of(device)->disk_queue);
}

/* No state holds a request that was taken and not answered. */
static int block_may_save(struct virtio_device *device, struct err *err)
{
    return block_of(device)->kept == NULL
               ? 0
               : err_set(err, BERTH_EPHASE,
                         "writes of the guest wait for room on the host's disk: a "
                         "machine is saved when they are done");
}

/* What the guest has written and not flushed is in its own memory no more: a machine that
 * comes back from its saved state has to find it. */
static int block_sync(struct virtio_device *device, struct err *err)
{
    const int r = disk_flush(block_of(device)->disk);
    return r < 0 ? err_sys(err, r, "flush the disk") : 0;
}

static void on_last_flush(struct disk_request *request)
{
    const struct last_flush *last = (const struct last_flush *)request;
    const struct block *block = last->block;
    const struct virtio_block_fault fault = {
        .operation = DISK_FLUSH, .code = request->result, .is_last = true};
    if (request->result < 0 && block->listener.faulted != NULL) {
        block->listener.faulted(block->listener.context, &fault);
    }
    last->synced.done(last->synced.context, request->result);
}

static bool block_sync_last(struct virtio_device *device,
                            const struct virtio_synced *synced)
{
    struct block *block = block_of(device);
    if (block->disk->read_only) {
        return false;
    }
    block->last =
        (struct last_flush){.request = {.operation = DISK_FLUSH, .done = on_last_flush},
                            .block = block,
                            .synced = *synced};
    disk_queue_submit(block->disk_queue, &block->last.request);
    return true;
}

static void block_save(struct virtio_device *device, struct bytes_writer *writer)
{
    bytes_write_u64(writer, block_of(device)->disk->size_bytes);
    rate_limit_save(&block_of(device)->gate.limit, writer);
}

static int block_restore(struct virtio_device *device,
                         uint16_t version,
                         struct bytes_reader *reader,
                         struct err *err)
{
    (void)version; /* the same in both */
    const uint64_t size_bytes = bytes_read_u64(reader);
    if (reader->error == 0 && size_bytes != block_of(device)->disk->size_bytes) {
        return err_set(err, BERTH_EINVALID,
                       "the disk has %" PRIu64 " bytes, and had %" PRIu64
                       " when the machine was saved",
                       block_of(device)->disk->size_bytes, size_bytes);
    }
    rate_limit_restore(&block_of(device)->gate.limit, reader,
                       clock_now_ns(clock_system()));
    return reader->error != 0 ? err_set(err, BERTH_ECORRUPT, "the limits are cut short")
                              : 0;
}

static void block_free(struct virtio_device *device)
{
    struct block *block = block_of(device);
    if (block->event_watch >= 0) {
        poller_remove(device->place.poller, block->event_watch);
    }
    rate_gate_fini(&block->gate);
    kept_drop(block);
    if (block->disk_queue != NULL) {
        disk_queue_drain(block->disk_queue); /* the last flush may be on its way */
    }
    disk_queue_free(block->disk_queue);
    disk_free(block->disk);
    free(block->slots);
    free(block);
}

static void block_config_read(struct virtio_device *device,
                              uint64_t offset,
                              void *ret_data,
                              unsigned size)
{
    const struct block *block = block_of(device);
    virtio_config_read(&block->config, sizeof(block->config), offset, ret_data, size);
}

/* What QEMU has no words for, beside query-blockstats. */
static const struct counter_row block_counters[] = {
    {"in_flight", offsetof(struct block, stats.in_flight)},
    {"other_operations", offsetof(struct block, stats.other)},
    {"held_operations", offsetof(struct block, stats.held)},
    {"ring_operations", offsetof(struct block, stats.by_ring)},
};

static const struct virtio_ops block_ops = {
    .kind = "virtio-block",
    .type = VIRTIO_TYPE_BLOCK,
    .pci_class = PCI_CLASS_STORAGE,
    .counters = block_counters,
    .counter_count = ARRAY_COUNT(block_counters),
    .init = block_init,
    .notify = block_notify,
    .reset = block_reset,
    .reset_begin = block_reset_begin,
    .start = block_start,
    .stop = block_stop,
    .stop_begin = block_stop_begin,
    .may_save = block_may_save,
    .sync = block_sync,
    .sync_last = block_sync_last,
    .save = block_save,
    .restore = block_restore,
    .free = block_free,
    .config_read = block_config_read,
};

static void config_fill(struct block *block)
{
    block->config = (struct block_config){
        .capacity = block->disk->size_bytes / DISK_SECTOR_BYTES,
        .seg_max = SEGMENTS_MAX,
        .blk_size = BLOCK_BYTES,
        .physical_block_exp = PHYSICAL_BLOCK_LOG,
        .min_io_size = 1u << PHYSICAL_BLOCK_LOG,
        .num_queues = (uint16_t)block->device.queue_count,
        .max_discard_sectors = DISCARD_SECTORS,
        .max_discard_seg = 1,
        .discard_sector_alignment = 1u << PHYSICAL_BLOCK_LOG,
        .max_write_zeroes_sectors = ZERO_SECTORS,
        .max_write_zeroes_seg = 1,
        .write_zeroes_may_unmap = 1,
    };
}

static uint64_t features_of(const struct virtio_block_spec *spec,
                            const struct virtual_disk *disk)
{
    uint64_t features = VIRTIO_BLK_F_SEG_MAX | VIRTIO_BLK_F_BLK_SIZE |
                        VIRTIO_BLK_F_TOPOLOGY | VIRTIO_BLK_F_FLUSH;
    features |= spec->queue_count > 1 ? VIRTIO_BLK_F_MQ : 0;
    return features |
           (disk->read_only ? VIRTIO_BLK_F_RO
                            : VIRTIO_BLK_F_DISCARD | VIRTIO_BLK_F_WRITE_ZEROES);
}

void virtio_block_serial(const char *name, char ret_serial[VIRTIO_BLOCK_SERIAL_SIZE + 1])
{
    const size_t size = strlen(name);
    if (size <= VIRTIO_BLOCK_SERIAL_SIZE) {
        memcpy(ret_serial, name, size + 1);
        return;
    }
    (void)snprintf(ret_serial, VIRTIO_BLOCK_SERIAL_SIZE + 1, "%.*s-%08" PRIx32,
                   SERIAL_PREFIX, name, crc32c(0, name, size));
}

int virtio_block_new(const struct virtio_place *place,
                     const struct virtio_block_spec *spec,
                     struct virtual_disk *take_disk,
                     struct virtio_device **ret_device,
                     struct err *err)
{
    REQUIRE(spec->queue_count > 0 && spec->queue_count <= VIRTIO_BLOCK_QUEUES_MAX);
    struct block *block = calloc(1, sizeof(*block));
    if (block == NULL) {
        return err_sys(err, -ENOMEM, "make a block device");
    }
    virtio_device_setup(&block->device, &block_ops, place, features_of(spec, take_disk),
                        spec->queue_count, VIRTIO_QUEUE_SIZE_MAX);
    block->event_watch = -1;
    kept_clear(block);
    rate_gate_setup(&block->gate, &spec->operations, &spec->bytes);
    block->slot_count = spec->queue_count * VIRTIO_QUEUE_SIZE_MAX;
    block->slots = calloc(block->slot_count, sizeof(*block->slots));
    int r = block->slots == NULL ? err_sys(err, -ENOMEM, "make a block device") : 0;
    if (r == 0) {
        r = disk_queue_new(take_disk, &spec->threads, &block->disk_queue, err);
    }
    if (r < 0) {
        block_free(&block->device); /* the disk is still the caller's */
        return r;
    }
    block->disk = take_disk;
    (void)snprintf(block->serial, sizeof(block->serial), "%s", spec->serial);
    config_fill(block);
    *ret_device = &block->device;
    return 0;
}

bool virtio_block_has_ring(struct virtio_device *device)
{
    REQUIRE(device->ops == &block_ops);
    return disk_queue_has_ring(block_of(device)->disk_queue);
}

const struct block_stats *virtio_block_stats(const struct virtio_device *device)
{
    REQUIRE(device->ops == &block_ops);
    return &((const struct block *)(const void *)device)->stats;
}

const struct virtual_disk *virtio_block_disk(const struct virtio_device *device)
{
    REQUIRE(device->ops == &block_ops);
    return ((const struct block *)(const void *)device)->disk;
}

void virtio_block_limit(struct virtio_device *device,
                        const struct rate_spec *operations,
                        const struct rate_spec *bytes)
{
    struct block *block = block_of(device);
    REQUIRE(device->ops == &block_ops);
    virtio_device_enter(device);
    rate_gate_change(&block->gate, operations, bytes);
    serve_all(block);
    virtio_device_leave(device);
}

void virtio_block_listen(struct virtio_device *device,
                         const struct virtio_block_listener *listener)
{
    REQUIRE(device->ops == &block_ops);
    block_of(device)->listener = *listener;
}

bool virtio_block_waits(struct virtio_device *device)
{
    REQUIRE(device->ops == &block_ops);
    virtio_device_enter(device);
    const bool waits = block_of(device)->kept != NULL;
    virtio_device_leave(device);
    return waits;
}
