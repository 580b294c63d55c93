#include "vmm/virtio_queue.h"

#include "base/require.h"
#include "vmm/planted_fault.h"

#include <string.h>

/* 2.7.5: struct virtq_desc. */
#define DESCRIPTOR_BYTES 16u
enum { DESC_NEXT = 1, DESC_WRITE = 2, DESC_INDIRECT = 4 };

struct descriptor {
    uint64_t address;
    uint32_t size_bytes;
    uint16_t flags;
    uint16_t next;
};
_Static_assert(sizeof(struct descriptor) == DESCRIPTOR_BYTES, "as in the guest");

/* 2.7.6 and 2.7.8: flags, idx, then the ring, then the other side's event index. */
#define RING_FLAGS_AT        0u
#define RING_INDEX_AT        2u
#define RING_ENTRIES_AT      4u
#define AVAILABLE_ENTRY      2u
#define USED_ENTRY           8u
#define AVAIL_NO_INTERRUPT   1u
#define USED_NO_NOTIFY       1u
#define DESCRIPTOR_ALIGNMENT 16u
#define AVAILABLE_ALIGNMENT  2u
#define USED_ALIGNMENT       4u

static uint64_t available_entry_at(const struct virtio_queue *queue, uint16_t index)
{
    return queue->available + RING_ENTRIES_AT +
           (uint64_t)AVAILABLE_ENTRY * (index % queue->size);
}

static uint64_t used_entry_at(const struct virtio_queue *queue, uint16_t index)
{
    return queue->used + RING_ENTRIES_AT + (uint64_t)USED_ENTRY * (index % queue->size);
}

/* Where the driver says at which used index it wants to hear (2.7.7). */
static uint64_t used_event_at(const struct virtio_queue *queue)
{
    return queue->available + RING_ENTRIES_AT + (uint64_t)AVAILABLE_ENTRY * queue->size;
}

/* Where we say at which available index we want to hear (2.7.10). */
static uint64_t available_event_at(const struct virtio_queue *queue)
{
    return queue->used + RING_ENTRIES_AT + (uint64_t)USED_ENTRY * queue->size;
}

static bool usable(const struct virtio_queue *queue)
{
    return queue->enabled && queue->fault == NULL;
}

static int queue_break(struct virtio_queue *queue, const char *fault)
{
    queue->fault = fault;
    return BERTH_EPROTO;
}

void virtio_queue_reset(struct virtio_queue *queue)
{
    const uint16_t size_max = queue->size_max;
    *queue = (struct virtio_queue){.size_max = size_max, .size = size_max};
}

static int check_areas(const struct virtio_queue *queue,
                       const struct guest_memory *memory,
                       bool (*holds)(const struct guest_memory *memory,
                                     uint64_t address,
                                     uint64_t size))
{
    const uint64_t size = queue->size;
    const struct {
        uint64_t address;
        uint64_t alignment;
        uint64_t size_bytes;
    } areas[] = {
        {queue->descriptors, DESCRIPTOR_ALIGNMENT, DESCRIPTOR_BYTES * size},
        {queue->available, AVAILABLE_ALIGNMENT,
         RING_ENTRIES_AT + AVAILABLE_ENTRY * size + sizeof(uint16_t)},
        {queue->used, USED_ALIGNMENT,
         RING_ENTRIES_AT + USED_ENTRY * size + sizeof(uint16_t)},
    };
    if (size == 0 || size > queue->size_max || (size & (size - 1)) != 0) {
        return BERTH_EINVALID;
    }
    for (size_t i = 0; i < sizeof(areas) / sizeof(areas[0]); i++) {
        if (areas[i].address % areas[i].alignment != 0 ||
            !holds(memory, areas[i].address, areas[i].size_bytes)) {
            return BERTH_EINVALID;
        }
    }
    return 0;
}

int virtio_queue_check(const struct virtio_queue *queue,
                       const struct guest_memory *memory)
{
    return check_areas(queue, memory, guest_memory_holds);
}

/* ---- taking a request ---- */

/* Where the walk through one chain stands. */
struct walk {
    uint64_t table;    /* of descriptors: the queue's, or an indirect one */
    uint16_t count;    /* entries in it */
    bool indirect;     /* in an indirect table already */
    unsigned left;     /* descriptors that the chain may still have */
    const char *fault; /* set when it ends badly */
};

/* 2.7.5.3: the descriptor stands for a table of others. */
static void walk_into_table(struct walk *walk,
                            const struct virtio_queue *queue,
                            const struct descriptor *descriptor)
{
    const uint32_t count = descriptor->size_bytes / DESCRIPTOR_BYTES;
    if (!queue->indirect) {
        walk->fault = "an indirect descriptor that was not negotiated";
    } else if (walk->indirect) {
        walk->fault = "an indirect descriptor in an indirect table";
    } else if (descriptor->flags & DESC_NEXT) {
        walk->fault = "an indirect descriptor with a next";
    } else if (count == 0 || descriptor->size_bytes % DESCRIPTOR_BYTES != 0 ||
               count > queue->size) {
        walk->fault = "an indirect table of a wrong size";
    } else {
        walk->table = descriptor->address;
        walk->count = (uint16_t)count;
        walk->indirect = true;
    }
}

static const char *chain_add(struct virtio_chain *chain,
                             const struct guest_memory *memory,
                             const struct descriptor *descriptor)
{
    const bool writable = (descriptor->flags & DESC_WRITE) != 0;
    if (descriptor->size_bytes == 0) {
        return NULL; /* carries nothing, harms nobody */
    }
    if (!writable && chain->writable_count > 0) {
        return "a readable buffer after a writable one"; /* 2.7.4.2 */
    }
    if (!guest_memory_holds(memory, descriptor->address, descriptor->size_bytes)) {
        return "a buffer outside RAM";
    }
    REQUIRE(chain->readable_count + chain->writable_count < VIRTIO_QUEUE_SIZE_MAX);
    chain->buffers[chain->readable_count + chain->writable_count] =
        (struct virtio_buffer){descriptor->address, descriptor->size_bytes};
    if (writable) {
        chain->writable_count++;
        chain->writable_bytes += descriptor->size_bytes;
    } else {
        chain->readable_count++;
        chain->readable_bytes += descriptor->size_bytes;
    }
    return NULL;
}

/* Reads one descriptor, once, and acts on the copy. False at the end of the chain or at a
 * fault; else *index is the next one. */
static bool walk_step(struct walk *walk,
                      const struct virtio_queue *queue,
                      const struct guest_memory *memory,
                      struct virtio_chain *chain,
                      uint16_t *index)
{
    struct descriptor descriptor;
    if (*index >= walk->count) {
        walk->fault = "a descriptor index beyond its table";
        return false;
    }
    if (walk->left-- == 0) {
        walk->fault = "a chain longer than the queue, or a loop";
        return false;
    }
    if (guest_memory_read(memory, walk->table + (uint64_t)DESCRIPTOR_BYTES * *index,
                          &descriptor, sizeof(descriptor)) < 0) {
        walk->fault = "a descriptor table outside RAM";
        return false;
    }
    if (descriptor.flags & DESC_INDIRECT) {
        walk_into_table(walk, queue, &descriptor);
        walk->left++; /* 2.7.5.3.1: the table counts, not what stands for it */
        *index = 0;
        return walk->fault == NULL;
    }
    walk->fault = chain_add(chain, memory, &descriptor);
    *index = descriptor.next;
    return walk->fault == NULL && (descriptor.flags & DESC_NEXT) != 0;
}

static const char *chain_read(const struct virtio_queue *queue,
                              const struct guest_memory *memory,
                              uint16_t head,
                              struct virtio_chain *ret_chain)
{
    struct walk walk = {
        .table = queue->descriptors, .count = queue->size, .left = queue->size};
    uint16_t index = head;
    ret_chain->head = head;
    ret_chain->readable_count = 0;
    ret_chain->writable_count = 0;
    ret_chain->readable_bytes = 0;
    ret_chain->writable_bytes = 0;
    while (walk_step(&walk, queue, memory, ret_chain, &index)) {
    }
    if (walk.fault == NULL &&
        ret_chain->readable_count + ret_chain->writable_count == 0) {
        return "a chain without a byte";
    }
    return walk.fault;
}

static bool in_flight(const struct virtio_queue *queue, uint16_t head)
{
    return (queue->in_flight[head / 64] >> (head % 64)) & 1;
}

static void in_flight_set(struct virtio_queue *queue, uint16_t head, bool on)
{
    const uint64_t bit = UINT64_C(1) << (head % 64);
    REQUIRE(in_flight(queue, head) != on);
    queue->in_flight[head / 64] ^= bit;
    queue->in_flight_count = (uint16_t)(queue->in_flight_count + (on ? 1 : -1));
}

int virtio_queue_next(struct virtio_queue *queue,
                      const struct guest_memory *memory,
                      struct virtio_chain *ret_chain)
{
    uint16_t index;
    uint16_t head;
    if (queue->fault != NULL) {
        return BERTH_EPROTO;
    }
    if (!queue->enabled) {
        return 0;
    }
    /* Acquires: the entries up to idx were written before it (2.7.13.3). */
    if (guest_memory_load_u16(memory, queue->available + RING_INDEX_AT, &index) < 0) {
        return queue_break(queue, "an available ring outside RAM");
    }
    const uint16_t waiting = (uint16_t)(index - queue->next_available);
    if (waiting == 0) {
        return 0;
    }
    if (waiting > queue->size) {
        return queue_break(queue, "an available index that jumped");
    }
    if (guest_memory_load_u16(memory, available_entry_at(queue, queue->next_available),
                              &head) < 0) {
        return queue_break(queue, "an available ring outside RAM");
    }
    if (head >= queue->size) {
        return queue_break(queue, "a head beyond the descriptor table");
    }
    if (in_flight(queue, head) && !PLANTED(PLANTED_HEAD_TWICE)) {
        return queue_break(queue, "a head that is in flight already");
    }
    const char *fault = chain_read(queue, memory, head, ret_chain);
    if (fault != NULL) {
        return queue_break(queue, fault);
    }
    in_flight_set(queue, head, true);
    queue->next_available++;
    return 1;
}

void virtio_queue_unget(struct virtio_queue *queue, uint16_t head)
{
    in_flight_set(queue, head, false);
    queue->next_available--;
}

/* ---- giving it back ---- */

void virtio_queue_stage(struct virtio_queue *queue,
                        struct guest_memory *memory,
                        uint16_t head,
                        uint32_t written_bytes)
{
    const uint32_t entry[2] = {head, written_bytes}; /* 2.7.8: id, len */
    in_flight_set(queue, head, false);
    if (!usable(queue)) {
        return;
    }
    if (guest_memory_write(memory, used_entry_at(queue, queue->next_used), entry,
                           sizeof(entry)) < 0) {
        (void)queue_break(queue, "a used ring outside RAM");
        return;
    }
    queue->next_used++;
}

void virtio_queue_publish(struct virtio_queue *queue, struct guest_memory *memory)
{
    /* The store releases: the driver sees the entries before it (2.7.8.2). */
    if (usable(queue) && guest_memory_store_u16(memory, queue->used + RING_INDEX_AT,
                                                queue->next_used) < 0) {
        (void)queue_break(queue, "a used ring outside RAM");
    }
}

void virtio_queue_give(struct virtio_queue *queue,
                       struct guest_memory *memory,
                       uint16_t head,
                       uint32_t written_bytes)
{
    virtio_queue_stage(queue, memory, head, written_bytes);
    virtio_queue_publish(queue, memory);
}

bool virtio_queue_must_signal(struct virtio_queue *queue,
                              const struct guest_memory *memory)
{
    uint16_t flags;
    uint16_t event;
    if (!usable(queue)) {
        return false;
    }
    const uint16_t before = queue->signalled;
    const uint16_t now = queue->next_used;
    if (before == now) {
        return false;
    }
    queue->signalled = now;
    /* Our idx must be seen before we look at theirs, or both sides fall asleep. */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (!queue->event_index) {
        return guest_memory_load_u16(memory, queue->available + RING_FLAGS_AT, &flags) ==
                   0 &&
               (flags & AVAIL_NO_INTERRUPT) == 0;
    }
    if (guest_memory_load_u16(memory, used_event_at(queue), &event) < 0) {
        return false;
    }
    /* 2.7.10.1: did idx pass the entry that the driver waits for? */
    return (uint16_t)(now - event - 1) < (uint16_t)(now - before);
}

bool virtio_queue_arm(struct virtio_queue *queue, struct guest_memory *memory)
{
    uint16_t index;
    if (!usable(queue)) {
        return false;
    }
    if (queue->event_index) {
        /* Beyond what is there now, which may be more than nothing: a request that was
         * put back must not hide the next one. The place was checked when it was enabled.
         */
        if (guest_memory_load_u16(memory, queue->available + RING_INDEX_AT, &index) ==
            0) {
            (void)guest_memory_store_u16(memory, available_event_at(queue), index);
        }
    } else {
        (void)guest_memory_store_u16(memory, queue->used + RING_FLAGS_AT, 0);
    }
    __atomic_thread_fence(__ATOMIC_SEQ_CST); /* theirs after ours, as above */
    return guest_memory_load_u16(memory, queue->available + RING_INDEX_AT, &index) == 0 &&
           index != queue->next_available;
}

void virtio_queue_disarm(struct virtio_queue *queue, struct guest_memory *memory)
{
    if (usable(queue) && !queue->event_index) {
        (void)guest_memory_store_u16(memory, queue->used + RING_FLAGS_AT, USED_NO_NOTIFY);
    }
}

/* ---- the bytes of a chain ---- */

/* Walks the pieces of the readable or writable buffers. */
struct span {
    const struct virtio_buffer *buffer;
    unsigned left;
    uint64_t offset; /* into the current buffer */
};

static struct span
span_at(const struct virtio_chain *chain, bool writable, uint64_t offset)
{
    struct span span = {
        .buffer = chain->buffers + (writable ? chain->readable_count : 0),
        .left = writable ? chain->writable_count : chain->readable_count,
        .offset = offset,
    };
    while (span.left > 0 && span.offset >= span.buffer->size_bytes) {
        span.offset -= span.buffer->size_bytes;
        span.buffer++;
        span.left--;
    }
    return span;
}

/* The next piece, at most `wanted` bytes: its size, 0 at the end. */
static size_t span_next(struct span *span, uint64_t wanted, uint64_t *ret_address)
{
    if (span->left == 0 || wanted == 0) {
        return 0;
    }
    const uint64_t there = span->buffer->size_bytes - span->offset;
    const uint64_t size = there < wanted ? there : wanted;
    *ret_address = span->buffer->address + span->offset;
    span->offset += size;
    if (span->offset == span->buffer->size_bytes) {
        span->offset = 0;
        span->buffer++;
        span->left--;
    }
    return (size_t)size;
}

size_t virtio_chain_read(const struct virtio_chain *chain,
                         const struct guest_memory *memory,
                         uint64_t offset,
                         void *ret_data,
                         size_t size)
{
    struct span span = span_at(chain, false, offset);
    uint64_t address;
    size_t done = 0;
    size_t piece;
    while ((piece = span_next(&span, size - done, &address)) > 0) {
        if (guest_memory_read(memory, address, (uint8_t *)ret_data + done, piece) < 0) {
            break;
        }
        done += piece;
    }
    return done;
}

size_t virtio_chain_write(const struct virtio_chain *chain,
                          struct guest_memory *memory,
                          uint64_t offset,
                          const void *data,
                          size_t size)
{
    struct span span = span_at(chain, true, offset);
    uint64_t address;
    size_t done = 0;
    size_t piece;
    while ((piece = span_next(&span, size - done, &address)) > 0) {
        if (guest_memory_write(memory, address, (const uint8_t *)data + done, piece) <
            0) {
            break;
        }
        done += piece;
    }
    return done;
}

int virtio_chain_iovec(const struct virtio_chain *chain,
                       const struct guest_memory *memory,
                       bool writable,
                       uint64_t offset,
                       uint64_t size,
                       struct iovec *ret_pieces,
                       unsigned capacity)
{
    struct span span = span_at(chain, writable, offset);
    uint64_t address;
    unsigned count = 0;
    while (size > 0) {
        const size_t piece = span_next(&span, size, &address);
        const int r = piece == 0
                          ? BERTH_EINVALID
                          : guest_memory_iovec(memory, address, piece, ret_pieces + count,
                                               capacity - count);
        if (r < 0) {
            guest_memory_iovec_end(memory, ret_pieces, count);
            return r;
        }
        count += (unsigned)r;
        size -= piece;
    }
    return (int)count;
}

void virtio_chain_mark(const struct virtio_chain *chain,
                       struct guest_memory *memory,
                       uint64_t size)
{
    struct span span = span_at(chain, true, 0);
    uint64_t address;
    size_t piece;
    while ((piece = span_next(&span, size, &address)) > 0) {
        guest_memory_mark(memory, address, piece);
        size -= piece;
    }
}

/* ---- state ---- */

void virtio_queue_go_on(struct virtio_queue *queue, uint16_t next_available)
{
    REQUIRE(queue->in_flight_count == 0);
    queue->next_available = next_available;
    queue->next_used = next_available; /* what was taken was given */
    queue->signalled = next_available;
}

void virtio_queue_save(const struct virtio_queue *queue, struct bytes_writer *writer)
{
    REQUIRE(queue->in_flight_count == 0);
    bytes_write_u16(writer, queue->size);
    bytes_write_u8(writer, queue->enabled);
    bytes_write_u8(writer, queue->event_index);
    bytes_write_u8(writer, queue->indirect);
    bytes_write_u64(writer, queue->descriptors);
    bytes_write_u64(writer, queue->available);
    bytes_write_u64(writer, queue->used);
    bytes_write_u16(writer, queue->next_available);
    bytes_write_u16(writer, queue->next_used);
    bytes_write_u16(writer, queue->signalled);
    bytes_write_u8(writer, queue->fault != NULL);
}

int virtio_queue_restore(struct virtio_queue *queue,
                         const struct guest_memory *memory,
                         struct bytes_reader *reader)
{
    virtio_queue_reset(queue);
    queue->size = bytes_read_u16(reader);
    queue->enabled = bytes_read_u8(reader) != 0;
    queue->event_index = bytes_read_u8(reader) != 0;
    queue->indirect = bytes_read_u8(reader) != 0;
    queue->descriptors = bytes_read_u64(reader);
    queue->available = bytes_read_u64(reader);
    queue->used = bytes_read_u64(reader);
    queue->next_available = bytes_read_u16(reader);
    queue->next_used = bytes_read_u16(reader);
    queue->signalled = bytes_read_u16(reader);
    queue->fault = bytes_read_u8(reader) != 0 ? "broken before it was saved" : NULL;
    if (reader->error != 0 || queue->size > queue->size_max ||
        (queue->enabled && check_areas(queue, memory, guest_memory_may_hold) < 0)) {
        virtio_queue_reset(queue);
        return BERTH_ECORRUPT;
    }
    return 0;
}
