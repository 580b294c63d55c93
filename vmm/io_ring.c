#include "vmm/io_ring.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/require.h"

#include <errno.h>
#include <linux/io_uring.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* One mapping of the kernel's. */
struct area {
    void *bytes;
    size_t size;
};

/* The kernel reads our tail and writes our head of entries to do, and the other way round
 * for those that are done. Between two pushes nobody but us touches the first. */
struct io_ring {
    int fd;
    struct area rings;
    struct area entries;
    uint32_t *todo_head;
    uint32_t *todo_tail;
    uint32_t todo_mask;
    struct io_uring_sqe *todo;
    uint32_t *done_head;
    uint32_t *done_tail;
    uint32_t done_mask;
    uint32_t *done_flags; /* ours; the kernel looks */
    const struct io_uring_cqe *done;
    unsigned in_flight_max;
    unsigned in_flight;
    bool refused; /* the last push left some behind: they are to be taken back */
};

static uint32_t load(const uint32_t *at)
{
    return __atomic_load_n(at, __ATOMIC_ACQUIRE);
}

static void store(uint32_t *at, uint32_t value)
{
    __atomic_store_n(at, value, __ATOMIC_RELEASE);
}

/* ---- making ---- */

static int ring_register(int fd, unsigned what, const void *argument, unsigned count)
{
    return syscall(SYS_io_uring_register, fd, what, argument, count) < 0 ? -errno : 0;
}

/* The walls come last: they forbid every call of this kind. */
static int ring_limit(int fd, const int *fds, unsigned fd_count, int event_fd)
{
    static const struct io_uring_restriction walls[] = {
        {.opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_READV},
        {.opcode = IORING_RESTRICTION_SQE_FLAGS_REQUIRED, .sqe_flags = IOSQE_FIXED_FILE},
    };
    const unsigned workers[2] = {IO_RING_WORKERS, 1};
    const struct {
        unsigned what;
        const void *argument;
        unsigned count;
    } calls[] = {
        {IORING_REGISTER_FILES, fds, fd_count},
        {IORING_REGISTER_EVENTFD, &event_fd, 1},
        {IORING_REGISTER_IOWQ_MAX_WORKERS, workers, 2},
        {IORING_REGISTER_RESTRICTIONS, walls, ARRAY_COUNT(walls)},
        {IORING_REGISTER_ENABLE_RINGS, NULL, 0},
    };
    int r = 0;
    for (unsigned i = 0; r == 0 && i < ARRAY_COUNT(calls); i++) {
        r = ring_register(fd, calls[i].what, calls[i].argument, calls[i].count);
    }
    return r;
}

static int area_map(struct area *area, int fd, size_t size, off_t offset)
{
    void *bytes =
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, offset);
    if (bytes == MAP_FAILED) {
        return -errno;
    }
    *area = (struct area){bytes, size};
    return 0;
}

static int ring_map(struct io_ring *ring, const struct io_uring_params *params)
{
    const struct io_sqring_offsets *todo = &params->sq_off;
    const struct io_cqring_offsets *done = &params->cq_off;
    const size_t todo_size = todo->array + params->sq_entries * sizeof(uint32_t);
    const size_t done_size =
        done->cqes + params->cq_entries * sizeof(struct io_uring_cqe);
    int r = area_map(&ring->rings, ring->fd,
                     todo_size > done_size ? todo_size : done_size, IORING_OFF_SQ_RING);
    if (r == 0) {
        r = area_map(&ring->entries, ring->fd,
                     params->sq_entries * sizeof(struct io_uring_sqe), IORING_OFF_SQES);
    }
    if (r < 0) {
        return r;
    }
    uint8_t *at = ring->rings.bytes;
    ring->todo_head = (uint32_t *)(void *)(at + todo->head);
    ring->todo_tail = (uint32_t *)(void *)(at + todo->tail);
    ring->todo_mask = params->sq_entries - 1;
    ring->todo = ring->entries.bytes;
    ring->done_head = (uint32_t *)(void *)(at + done->head);
    ring->done_tail = (uint32_t *)(void *)(at + done->tail);
    ring->done_mask = params->cq_entries - 1;
    ring->done_flags = (uint32_t *)(void *)(at + done->flags);
    ring->done = (const struct io_uring_cqe *)(const void *)(at + done->cqes);
    ring->in_flight_max = params->cq_entries;
    uint32_t *order = (uint32_t *)(void *)(at + todo->array);
    for (uint32_t i = 0; i < params->sq_entries; i++) {
        order[i] = i; /* entry i is at place i, for good */
    }
    return 0;
}

static int
ring_open(struct io_ring *ring, const int *fds, unsigned fd_count, int event_fd)
{
    struct io_uring_params params = {.flags = IORING_SETUP_R_DISABLED};
    ring->fd = (int)syscall(SYS_io_uring_setup, IO_RING_ENTRIES, &params);
    if (ring->fd < 0) {
        return -errno;
    }
    if ((params.features & IORING_FEAT_SINGLE_MMAP) == 0) {
        return -EOPNOTSUPP; /* older than what the walls need */
    }
    const int r = ring_map(ring, &params);
    return r < 0 ? r : ring_limit(ring->fd, fds, fd_count, event_fd);
}

int io_ring_new(const int *fds,
                unsigned fd_count,
                int event_fd,
                struct io_ring **ret_ring,
                struct err *err)
{
    REQUIRE(fd_count > 0 && fd_count <= IO_RING_FILES_MAX);
    struct io_ring *ring = calloc(1, sizeof(*ring));
    if (ring == NULL) {
        return err_sys(err, -ENOMEM, "make a ring");
    }
    const int r = ring_open(ring, fds, fd_count, event_fd);
    if (r < 0) {
        io_ring_free(ring);
        return err_sys(err, r, "make a ring");
    }
    *ret_ring = ring;
    return 0;
}

void io_ring_free(struct io_ring *ring)
{
    if (ring == NULL) {
        return;
    }
    REQUIRE(ring->in_flight == 0);
    if (ring->rings.bytes != NULL) {
        (void)munmap(ring->rings.bytes, ring->rings.size);
    }
    if (ring->entries.bytes != NULL) {
        (void)munmap(ring->entries.bytes, ring->entries.size);
    }
    fd_close(&ring->fd);
    free(ring);
}

/* ---- working ---- */

static unsigned todo_count(const struct io_ring *ring)
{
    return *ring->todo_tail - load(ring->todo_head);
}

bool io_ring_put(struct io_ring *ring, const struct io_ring_request *request)
{
    if (ring->in_flight == ring->in_flight_max) {
        return false;
    }
    if (todo_count(ring) > ring->todo_mask) {
        io_ring_push(ring);
    }
    if (todo_count(ring) > ring->todo_mask) {
        return false;
    }
    struct io_uring_sqe *entry = &ring->todo[*ring->todo_tail & ring->todo_mask];
    memset(entry, 0, sizeof(*entry));
    entry->opcode = IORING_OP_READV;
    entry->rw_flags = RWF_NOWAIT;
    entry->flags = IOSQE_FIXED_FILE;
    entry->fd = (int)request->file;
    entry->off = request->offset;
    entry->addr = (uint64_t)(uintptr_t)request->pieces;
    entry->len = request->piece_count;
    entry->user_data = (uint64_t)(uintptr_t)request->context;
    store(ring->todo_tail, *ring->todo_tail + 1);
    ring->in_flight++;
    return true;
}

static int enter(const struct io_ring *ring, unsigned push, unsigned await)
{
    const unsigned flags = await > 0 ? IORING_ENTER_GETEVENTS : 0;
    const long r =
        syscall(SYS_io_uring_enter, ring->fd, push, await, flags, NULL, (size_t)0);
    return r < 0 ? -errno : (int)r;
}

/* Who pushes looks itself at what is done when the call returns: nobody is to be woken
 * for that. */
void io_ring_push(struct io_ring *ring)
{
    store(ring->done_flags, IORING_CQ_EVENTFD_DISABLED);
    for (unsigned count = todo_count(ring); count > 0; count = todo_count(ring)) {
        const int r = enter(ring, count, 0);
        if (r <= 0 && r != -EINTR) {
            ring->refused = true; /* no memory, say: whoever asked has another way */
            break;
        }
    }
    store(ring->done_flags, 0);
    __atomic_thread_fence(__ATOMIC_SEQ_CST); /* before the look: what comes later tells */
}

/* The entry put last, which the kernel has not seen. */
static void *take_back(struct io_ring *ring)
{
    if (todo_count(ring) == 0) {
        ring->refused = false;
        return NULL;
    }
    const uint32_t last = *ring->todo_tail - 1;
    store(ring->todo_tail, last);
    return (void *)(uintptr_t)ring->todo[last & ring->todo_mask].user_data;
}

void *io_ring_take(struct io_ring *ring, int *ret_result)
{
    void *context = NULL;
    const uint32_t head = *ring->done_head;
    if (head != load(ring->done_tail)) {
        const struct io_uring_cqe *event = &ring->done[head & ring->done_mask];
        context = (void *)(uintptr_t)event->user_data;
        *ret_result = event->res;
        store(ring->done_head, head + 1);
    } else if (ring->refused) {
        context = take_back(ring);
        *ret_result = -EAGAIN;
    }
    if (context != NULL) {
        REQUIRE(ring->in_flight > 0);
        ring->in_flight--;
    }
    return context;
}

void io_ring_wait(struct io_ring *ring)
{
    REQUIRE(ring->in_flight > 0);
    io_ring_push(ring);
    while (*ring->done_head == load(ring->done_tail) && !ring->refused) {
        const int r = enter(ring, 0, 1);
        REQUIRE(r >= 0 || r == -EINTR || r == -EAGAIN || r == -EBUSY);
    }
}
