/* Reads of a few files by a ring shared with the kernel (io_uring): a request costs no
 * thread of ours, and what is in memory already is there when the call returns.
 *
 * Shapes: a ring is made for some descriptors and can reach nothing else, nor do anything
 * but read them: the kernel holds it to that (restrictions), and a kernel that cannot
 * gets no ring. io_ring_put fills an entry, io_ring_push hands all of them over in one
 * call, io_ring_take brings back what is done. What is done later than the push makes the
 * event descriptor readable; what the push itself has done does not, so that take comes
 * after each push.
 *
 * No read waits for storage: what is not in memory comes back at once with -EAGAIN, or
 * with less, and what a file cannot read this way with -EOPNOTSUPP. The kernel would
 * otherwise give it to threads that belong to whoever pushed, and that all rings pushed
 * by one thread share: a storage that hangs would stall the disks beside it.
 *
 * Units: results are bytes, or -errno; fewer bytes than asked for are no error here.
 * Threads: any, under the caller's one lock; a thread that pushed must not end while its
 * requests are in flight. Ownership: descriptors are borrowed while the ring lives;
 * pieces and what they point to are the kernel's until the request came back. Errors:
 * io_ring_new alone has some, and then there is another way (disk_queue.h). Limits:
 * IO_RING_ENTRIES before a push, twice as many in flight, IO_RING_FILES_MAX,
 * IO_RING_WORKERS threads of the kernel's own for a thread that pushes entries which
 * another hand than ours made.
 */
#pragma once

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#define IO_RING_ENTRIES 256u /* a queue of a device */
#define IO_RING_BYTES_MAX \
    (UINT64_C(64) << 10)     /* twice what a kernel may count as locked */
#define IO_RING_FILES_MAX 2u /* an overlay and its base */
#define IO_RING_WORKERS   1u /* the fewest; our own entries need none */

struct io_ring;

struct io_ring_request {
    unsigned file; /* index of a descriptor */
    uint64_t offset;
    const struct iovec *pieces;
    unsigned piece_count;
    void *context; /* comes back with the result */
};

int io_ring_new(const int *fds,
                unsigned fd_count,
                int event_fd,
                struct io_ring **ret_ring,
                struct err *err);
/* Nothing may be in flight; NULL is fine. */
void io_ring_free(struct io_ring *ring);
/* False: there is no room before some came back. */
bool io_ring_put(struct io_ring *ring, const struct io_ring_request *request);
void io_ring_push(struct io_ring *ring);
/* The next one that is done, or that the kernel would not take (-EAGAIN, only after a
 * push): its context, or NULL. */
void *io_ring_take(struct io_ring *ring, int *ret_result);
/* Pushes, and waits until there is one to take; something must be in flight. */
void io_ring_wait(struct io_ring *ring);
