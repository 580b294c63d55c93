/* What lies between a block device and its file: the same requests by disk_queue.h, as a
 * device makes them, and by plain calls of one thread, which is what the host can do.
 *
 *     vmm_disk_bench FILE MIB MILLISECONDS ROUNDS
 *
 * Makes FILE, fills it, so that it is in memory, and takes each case of io_cases.h by
 * each way in turn. Whoever prints the table takes the median of the rounds. */
#include "base/require.h"
#include "io_cases.h"
#include "vmm/disk_queue.h"
#include "vmm/disk_raw.h"

#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

static _Alignas(4096) uint8_t data[IO_DEPTH_MAX][IO_SIZE_MAX];

/* ---- plain calls ---- */

static void plain(int fd, struct io_run *run, uint64_t budget_ns)
{
    const uint64_t start_ns = io_now_ns();
    uint64_t now_ns = start_ns;
    while (now_ns - start_ns < budget_ns) {
        const size_t size = run->pattern->size_bytes;
        const off_t at = (off_t)io_run_offset(run);
        const ssize_t done = run->pattern->is_write ? pwrite(fd, data[0], size, at)
                                                    : pread(fd, data[0], size, at);
        REQUIRE(done == (ssize_t)size);
        const uint64_t then_ns = now_ns;
        now_ns = io_now_ns();
        io_run_done(run, now_ns - then_ns);
    }
    io_run_say(run, "plain calls", now_ns - start_ns);
}

/* ---- the queue ---- */

struct slot {
    struct disk_request request;
    struct iovec piece;
    uint64_t began_ns;
    bool is_done;
};

static struct slot slots[IO_DEPTH_MAX];

static void on_done(struct disk_request *request)
{
    REQUIRE(request->result == 0);
    ((struct slot *)request)->is_done = true;
}

static void submit(struct disk_queue *queue, struct io_run *run, struct slot *slot)
{
    const uint64_t size = run->pattern->size_bytes;
    slot->piece = (struct iovec){data[slot - slots], (size_t)size};
    slot->request = (struct disk_request){.operation = run->pattern->is_write ? DISK_WRITE
                                                                              : DISK_READ,
                                          .range = {io_run_offset(run), size},
                                          .pieces = &slot->piece,
                                          .piece_count = 1,
                                          .done = on_done};
    slot->is_done = false;
    slot->began_ns = io_now_ns();
    disk_queue_submit(queue, &slot->request);
}

static bool any_is_done(const struct io_run *run)
{
    for (unsigned i = 0; i < run->pattern->depth; i++) {
        if (slots[i].is_done) {
            return true;
        }
    }
    return false;
}

/* Waits as the poller does, pushes and reaps as the device does. */
static void
queued(struct disk_queue *queue, const char *who, struct io_run *run, uint64_t budget_ns)
{
    struct pollfd event = {.fd = disk_queue_fd(queue), .events = POLLIN};
    const uint64_t start_ns = io_now_ns();
    uint64_t now_ns = start_ns;
    for (unsigned i = 0; i < run->pattern->depth; i++) {
        submit(queue, run, &slots[i]);
    }
    while (now_ns - start_ns < budget_ns) {
        disk_queue_push(queue);
        if (!any_is_done(run)) {
            REQUIRE(poll(&event, 1, -1) == 1);
            disk_queue_reap(queue);
        }
        now_ns = io_now_ns();
        for (unsigned i = 0; i < run->pattern->depth; i++) {
            if (slots[i].is_done) {
                io_run_done(run, now_ns - slots[i].began_ns);
                submit(queue, run, &slots[i]);
            }
        }
    }
    io_run_say(run, who, now_ns - start_ns);
    disk_queue_drain(queue);
}

static struct disk_queue *
queue_open(const char *path, bool has_no_ring, struct virtual_disk **ret_disk)
{
    const struct disk_queue_threads threads = {.count = 4, .has_no_ring = has_no_ring};
    struct disk_queue *queue = NULL;
    struct disk_file *file = NULL;
    REQUIRE(disk_file_new(open(path, O_RDWR | O_CLOEXEC), &file, NULL) == 0);
    REQUIRE(disk_raw_new(file, false, ret_disk, NULL) == 0);
    REQUIRE(disk_queue_new(*ret_disk, &threads, &queue, NULL) == 0);
    return queue;
}

static void file_fill(int fd, uint64_t bytes)
{
    for (uint64_t at = 0; at < bytes; at += IO_SIZE_MAX) {
        memset(data[0], (int)(at >> 17) | 1, IO_SIZE_MAX);
        REQUIRE(pwrite(fd, data[0], IO_SIZE_MAX, (off_t)at) == IO_SIZE_MAX);
    }
}

int main(int argc, char *argv[])
{
    static struct io_run run;
    if (argc != 5) {
        (void)fprintf(stderr, "usage: vmm_disk_bench FILE MIB MILLISECONDS ROUNDS\n");
        return 2;
    }
    const uint64_t bytes = strtoull(argv[2], NULL, 10) << 20;
    const uint64_t budget_ns = strtoull(argv[3], NULL, 10) * 1000000;
    const unsigned rounds = (unsigned)strtoul(argv[4], NULL, 10);
    const int fd = open(argv[1], O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    struct virtual_disk *disks[2];
    REQUIRE(fd >= 0 && bytes > 0);
    file_fill(fd, bytes);
    struct disk_queue *ring = queue_open(argv[1], false, &disks[0]);
    struct disk_queue *threads = queue_open(argv[1], true, &disks[1]);
    if (!disk_queue_has_ring(ring)) {
        (void)fprintf(stderr, "vmm_disk_bench: the kernel gives no ring\n");
        return 1;
    }
    for (unsigned round = 0; round < rounds; round++) {
        for (unsigned i = 0; i < IO_CASES; i++) {
            io_run_begin(&run, &io_cases[i], bytes);
            if (run.pattern->depth == 1 || !run.pattern->is_random) {
                plain(fd, &run, budget_ns);
            }
            io_run_begin(&run, &io_cases[i], bytes);
            queued(ring, "ring", &run, budget_ns);
            io_run_begin(&run, &io_cases[i], bytes);
            queued(threads, "threads", &run, budget_ns);
        }
    }
    disk_queue_free(ring);
    disk_queue_free(threads);
    disk_free(disks[0]);
    disk_free(disks[1]);
    (void)close(fd);
    (void)unlink(argv[1]);
    return 0;
}
