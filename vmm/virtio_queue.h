/* One split virtqueue (virtio 1.2, 2.7), from the device's side, with a guest that lies.
 *
 * Shapes: three areas in guest memory: the descriptor table, the available ring (the
 * driver's) and the used ring (ours). `struct virtio_chain` is one request: the head that
 * names it and its buffers, readable ones first. It is a private copy: each descriptor is
 * read once, checked, and never looked at again.
 *
 * Rules: virtio_queue_next hands out only what is sound. The available index may not run
 * ahead by more than the queue's size; a head may not be in flight twice; a chain has at
 * most `size` descriptors, no loop, no readable buffer after a writable one, only buffers
 * in RAM, and at least one byte. Anything else breaks the queue: it stays silent until
 * virtio_queue_reset, and `fault` says why. Nothing else breaks.
 *
 * Units: bytes; indexes wrap at 16 bits. Threads: none of its own, the device's lock.
 * Limits: VIRTIO_QUEUE_SIZE_MAX; with the rules above no more requests are in flight.
 */
#pragma once

#include "base/bytes.h"
#include "base/err.h"
#include "vmm/guest_memory.h"

#include <stdbool.h>
#include <stdint.h>

/* What QEMU offers by default too; a chain then fits in a page. */
#define VIRTIO_QUEUE_SIZE_MAX 256u

struct virtio_buffer {
    uint64_t address;
    uint32_t size_bytes; /* never 0 */
};

struct virtio_chain {
    uint16_t head;
    uint16_t readable_count; /* buffers[0 .. readable_count) */
    uint16_t writable_count; /* and the rest */
    uint64_t readable_bytes;
    uint64_t writable_bytes;
    struct virtio_buffer buffers[VIRTIO_QUEUE_SIZE_MAX];
};

struct virtio_queue {
    /* Set by the transport before the queue is enabled, then left alone. */
    uint16_t size_max;
    uint16_t size;
    bool enabled;
    bool event_index; /* VIRTIO_F_EVENT_IDX was negotiated */
    bool indirect;    /* VIRTIO_F_INDIRECT_DESC was negotiated */
    uint64_t descriptors;
    uint64_t available;
    uint64_t used;
    /* private */
    uint16_t next_available; /* index of the next entry that we take */
    uint16_t next_used;      /* index of the next entry that we fill */
    uint16_t signalled;      /* next_used when the driver was last told */
    const char *fault;       /* why it is broken, or NULL */
    uint16_t in_flight_count;
    uint64_t in_flight[VIRTIO_QUEUE_SIZE_MAX / 64]; /* by head */
};

/* As after power-on; size_max is kept. */
void virtio_queue_reset(struct virtio_queue *queue);
/* Whether size, alignment and place of the areas allow the queue to be used (2.7): 0 or
 * BERTH_EINVALID. */
int virtio_queue_check(const struct virtio_queue *queue,
                       const struct guest_memory *memory);
/* Takes the next request: 1; 0 when there is none; BERTH_EPROTO when the queue is or has
 * just been broken. A queue that is not enabled has none. */
int virtio_queue_next(struct virtio_queue *queue,
                      const struct guest_memory *memory,
                      struct virtio_chain *ret_chain);
/* Puts the request taken last back, as if it had not been seen; it may have been written
 * to, but nothing has been given since. Several go back in reverse order. */
void virtio_queue_unget(struct virtio_queue *queue, uint16_t head);
/* Hands a request back with the number of bytes written into its writable buffers. */
void virtio_queue_give(struct virtio_queue *queue,
                       struct guest_memory *memory,
                       uint16_t head,
                       uint32_t written_bytes);
/* The same in two steps, for requests that must be seen together: the driver sees what
 * was staged when it is published. */
void virtio_queue_stage(struct virtio_queue *queue,
                        struct guest_memory *memory,
                        uint16_t head,
                        uint32_t written_bytes);
void virtio_queue_publish(struct virtio_queue *queue, struct guest_memory *memory);
/* Whether the driver wants an interrupt for what was given since the last time (2.7.7);
 * the answer counts as telling it. */
bool virtio_queue_must_signal(struct virtio_queue *queue,
                              const struct guest_memory *memory);
/* Asks the driver to notify from now on (2.7.10). True when requests came in before it
 * could know: go on taking. */
bool virtio_queue_arm(struct virtio_queue *queue, struct guest_memory *memory);
/* Tells the driver that notifications are not needed. A hint; it may notify anyway. */
void virtio_queue_disarm(struct virtio_queue *queue, struct guest_memory *memory);

/* Copies between private memory and the chain's readable or writable bytes, `offset`
 * bytes in. Reads beyond the end stop there. The number of bytes copied. */
size_t virtio_chain_read(const struct virtio_chain *chain,
                         const struct guest_memory *memory,
                         uint64_t offset,
                         void *ret_data,
                         size_t size);
size_t virtio_chain_write(const struct virtio_chain *chain,
                          struct guest_memory *memory,
                          uint64_t offset,
                          const void *data,
                          size_t size);
/* The pieces of the readable (or writable) bytes from offset on, `size` of them: their
 * number, or BERTH_ETOOLARGE when there are more than capacity, BERTH_EINVALID when the
 * chain has fewer bytes. They are given back by guest_memory_iovec_end, before the chain
 * is: what the driver has back it may unplug. */
int virtio_chain_iovec(const struct virtio_chain *chain,
                       const struct guest_memory *memory,
                       bool writable,
                       uint64_t offset,
                       uint64_t size,
                       struct iovec *ret_pieces,
                       unsigned capacity);
/* Marks the first `size` writable bytes in the dirty log, after the kernel wrote them. */
void virtio_chain_mark(const struct virtio_chain *chain,
                       struct guest_memory *memory,
                       uint64_t size);

/* Another served the queue, and its next request is this one; none is in flight. */
void virtio_queue_go_on(struct virtio_queue *queue, uint16_t next_available);

/* State: only with no request in flight (the device has drained). */
void virtio_queue_save(const struct virtio_queue *queue, struct bytes_writer *writer);
/* Takes what virtio_queue_save wrote; an enabled queue must pass virtio_queue_check,
 * but for blocks that are not plugged: what plugs them may be restored later, and each
 * use asks. 0 or BERTH_ECORRUPT with the queue reset. */
int virtio_queue_restore(struct virtio_queue *queue,
                         const struct guest_memory *memory,
                         struct bytes_reader *reader);
