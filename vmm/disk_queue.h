/* Carries disk requests out, by a ring of the kernel's or on a few threads of its own,
 * and tells when they are done.
 *
 * Shapes: a request is the caller's memory; it goes in by disk_queue_submit, begins with
 * disk_queue_push at the latest, and comes back, with its result, through its `done`
 * callback. Callbacks fire only inside disk_queue_push, disk_queue_reap and
 * disk_queue_drain, on the thread that calls them and with whatever lock it holds. When
 * something can be reaped, the queue's event (disk_queue_fd) becomes readable. Requests
 * may overtake each other: what must be durable first is flushed and waited for first.
 *
 * Reads that are one of a single file go into the ring (io_ring.h), where the kernel
 * gives us one; all else, what is large (256 KiB; 4 MiB at a time), what came back from
 * the ring short or with an error (not in memory, say), and everything where there is
 * none, is done by the threads, which say how it ended. A disk on files that cannot be
 * read without waiting gives its ring up at the first read.
 *
 * Threads: submit, push, reap and drain under the caller's one lock; `began` is each
 * worker's first act, on it, and a worker that it refuses never touches the disk.
 * Ownership: the disk is borrowed. Limits: DISK_QUEUE_THREADS_MAX; as many requests as
 * the caller has.
 */
#pragma once

#include "vmm/disk.h"

#define DISK_QUEUE_THREADS_MAX 16u

enum disk_operation {
    DISK_READ = 0,
    DISK_WRITE,
    DISK_WRITE_THROUGH, /* a write that is durable when it is done */
    DISK_FLUSH,
    DISK_DISCARD,
    DISK_ZERO,
    DISK_ZERO_THROUGH, /* the same of zeros */
    DISK_OPERATION_COUNT,
};

struct disk_range {
    uint64_t offset;
    uint64_t size;
};

struct disk_request {
    enum disk_operation operation;
    struct disk_range range;
    struct iovec *pieces; /* of a read or write, `range.size` bytes */
    unsigned piece_count;
    void (*done)(struct disk_request *request);
    int result;                /* 0 or a negative code, when done */
    uint64_t done_ns;          /* when, on clock_system: one time for all of a batch */
    struct disk_request *next; /* private */
};

struct disk_queue;

struct disk_queue_threads {
    unsigned count; /* 1..DISK_QUEUE_THREADS_MAX */
    /* 0, or why there is no queue; NULL: nothing. */
    int (*began)(void *context, struct err *err);
    void *context;
    bool has_no_ring; /* threads alone, even where the kernel would do more */
};

int disk_queue_new(struct virtual_disk *disk,
                   const struct disk_queue_threads *threads,
                   struct disk_queue **ret_queue,
                   struct err *err);
/* Nothing may be in flight; NULL is fine. */
void disk_queue_free(struct disk_queue *queue);
int disk_queue_fd(const struct disk_queue *queue);
/* Whether there is a ring of use: who pushes, drains or reaps needs the right to enter
 * it. */
bool disk_queue_has_ring(const struct disk_queue *queue);
/* How many requests the ring has done. */
uint64_t disk_queue_by_ring(const struct disk_queue *queue);
void disk_queue_submit(struct disk_queue *queue, struct disk_request *request);
/* Begins what was submitted, and fires the callbacks of what is done: after each batch.
 */
void disk_queue_push(struct disk_queue *queue);
/* Fires the callbacks of what is done. */
void disk_queue_reap(struct disk_queue *queue);
/* Whether nothing is in flight, and nothing done waits for its callback. */
bool disk_queue_is_idle(struct disk_queue *queue);
/* Reaps until nothing is in flight, nor submitted by a callback. */
void disk_queue_drain(struct disk_queue *queue);
