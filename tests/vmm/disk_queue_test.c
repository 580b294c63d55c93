/* Goal: every request that went in comes back once, with its own result. Method: a disk
 * on a real file system, more requests than threads. */
#include "base/random.h"
#include "support/storage_file.h"
#include "support/test_main.h"
#include "vmm/disk_overlay.h"
#include "vmm/disk_queue.h"
#include "vmm/disk_raw.h"

#include <check.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define REQUESTS   200
#define DISK_BYTES (1 << 20)

static struct virtual_disk *disk;
static struct disk_queue *queue;
static int disk_fd; /* the disk's, to look at it from behind */
static unsigned done_count;

static struct disk_file *file_new(uint64_t bytes, int *ret_fd)
{
    struct disk_file *file = NULL;
    *ret_fd = storage_file_new(bytes);
    ck_assert_int_eq(disk_file_new(*ret_fd, &file, NULL), 0);
    return file;
}

static void set_up(void)
{
    ck_assert_int_eq(disk_raw_new(file_new(DISK_BYTES, &disk_fd), false, &disk, NULL), 0);
    done_count = 0;
}

/* By a ring or not. False: there is none of use here. */
static bool queue_open(bool by_ring)
{
    const struct disk_queue_threads workers = {.count = 4, .has_no_ring = !by_ring};
    ck_assert_int_eq(disk_queue_new(disk, &workers, &queue, NULL), 0);
    if (by_ring && (!disk_queue_has_ring(queue) || !storage_file_has_nowait(disk_fd))) {
        (void)fprintf(stderr,
                      "SKIPPED by a ring: this kernel or file system gives none\n");
        return false;
    }
    ck_assert_int_eq(disk_queue_has_ring(queue), by_ring);
    return true;
}

static void tear_down(void)
{
    disk_queue_free(queue);
    queue = NULL;
    disk_free(disk);
}

static void on_done(struct disk_request *request)
{
    (void)request;
    done_count++;
}

/* Reads of the first 4 KiB. */
static void one_read(void)
{
    static uint8_t data[4096];
    static struct iovec piece = {data, sizeof(data)};
    struct disk_request request = {.operation = DISK_READ,
                                   .range = {0, 4096},
                                   .pieces = &piece,
                                   .piece_count = 1,
                                   .done = on_done,
                                   .result = 1};
    memset(data, 'x', sizeof(data));
    disk_queue_submit(queue, &request);
    disk_queue_drain(queue);
    ck_assert_int_eq(request.result, 0);
    ck_assert_uint_eq(data[0], 0);
}

START_TEST(every_request_comes_back_once_with_its_result)
{
    static struct disk_request requests[REQUESTS];
    static struct iovec pieces[REQUESTS];
    static uint8_t data[REQUESTS][512];
    if (!queue_open(_i == 1)) {
        return;
    }
    struct pollfd event = {.fd = disk_queue_fd(queue), .events = POLLIN};
    for (unsigned i = 0; i < REQUESTS; i++) {
        memset(data[i], (int)i, sizeof(data[i]));
        pieces[i] = (struct iovec){data[i], 512};
        requests[i] = (struct disk_request){
            .operation = i % 3 == 0 ? DISK_WRITE_THROUGH : DISK_WRITE,
            .range = {i % 10 == 9 ? DISK_BYTES : (uint64_t)i * 512, 512},
            .pieces = &pieces[i],
            .piece_count = 1,
            .done = on_done,
            .result = 1};
        disk_queue_submit(queue, &requests[i]);
    }
    disk_queue_push(queue);

    while (done_count < REQUESTS) {
        ck_assert_int_eq(poll(&event, 1, 10000), 1);
        disk_queue_reap(queue);
    }

    ck_assert_uint_eq(done_count, REQUESTS);
    for (unsigned i = 0; i < REQUESTS; i++) {
        uint8_t back[512];
        const struct iovec piece = {.iov_base = back, .iov_len = 512};
        ck_assert_int_eq(requests[i].result, i % 10 == 9 ? -EINVAL : 0);
        if (i % 10 != 9) {
            ck_assert_int_eq(disk_read(disk, (uint64_t)i * 512, &piece, 1, 512), 0);
            ck_assert_mem_eq(back, data[i], 512);
        }
    }
    ck_assert_int_eq(poll(&event, 1, 0), 0);
}
END_TEST

START_TEST(a_drain_leaves_nothing_in_flight)
{
    static struct disk_request requests[REQUESTS];
    static uint8_t data[4096];
    static struct iovec piece = {data, sizeof(data)};
    static const enum disk_operation operations[] = {DISK_FLUSH, DISK_READ, DISK_DISCARD,
                                                     DISK_ZERO, DISK_WRITE};
    if (!queue_open(_i == 1)) {
        return;
    }
    for (unsigned i = 0; i < REQUESTS; i++) {
        requests[i] = (struct disk_request){.operation = operations[i % 5],
                                            .range = {0, 4096},
                                            .pieces = &piece,
                                            .piece_count = 1,
                                            .done = on_done,
                                            .result = 1};
        disk_queue_submit(queue, &requests[i]);
    }

    disk_queue_drain(queue);

    ck_assert_uint_eq(done_count, REQUESTS);
    for (unsigned i = 0; i < REQUESTS; i++) {
        ck_assert_int_eq(requests[i].result, 0);
    }
    disk_queue_drain(queue); /* nothing to wait for */
}
END_TEST

/* A file that has become shorter than the disk: what the ring cannot do whole, a thread
 * looks at again. */
START_TEST(what_ends_short_says_why)
{
    static uint8_t data[4096];
    static struct iovec piece = {data, sizeof(data)};
    struct disk_request request = {.operation = DISK_READ,
                                   .range = {DISK_BYTES - 4096, 4096},
                                   .pieces = &piece,
                                   .piece_count = 1,
                                   .done = on_done,
                                   .result = 1};
    if (!queue_open(_i == 1)) {
        return;
    }
    ck_assert_int_eq(ftruncate(disk_fd, DISK_BYTES - 1000), 0);

    disk_queue_submit(queue, &request);
    disk_queue_drain(queue);

    ck_assert_uint_eq(done_count, 1);
    ck_assert_int_eq(request.result, -EIO);
}
END_TEST

static struct disk_request chain;
static unsigned chain_left;

/* By turns to the ring, which takes reads, and to the threads. */
static void chain_on(struct disk_request *request)
{
    ck_assert_int_eq(request->result, 0);
    if (chain_left > 0) {
        chain_left--;
        request->operation = chain_left % 3 == 0 ? DISK_WRITE : DISK_READ;
        disk_queue_submit(queue, request);
    }
}

START_TEST(a_drain_waits_for_what_callbacks_submit)
{
    static uint8_t data[4096];
    static struct iovec piece = {data, sizeof(data)};
    if (!queue_open(_i == 1)) {
        return;
    }
    chain_left = 20;
    chain = (struct disk_request){.operation = DISK_READ,
                                  .range = {0, 4096},
                                  .pieces = &piece,
                                  .piece_count = 1,
                                  .done = chain_on};
    disk_queue_submit(queue, &chain);

    disk_queue_drain(queue);

    ck_assert_uint_eq(chain_left, 0);
}
END_TEST

/* The ring does not wait for storage; the disk's own threads do. A ring that waited would
 * serve each of these reads; one that does not may find that the kernel's read-ahead was
 * quicker, or that the pages had not left. */
START_TEST(what_is_not_in_memory_is_for_a_thread)
{
    static uint8_t zeros[DISK_BYTES];
    if (!queue_open(true)) {
        return;
    }
    uint64_t before;
    unsigned tries = 100;
    do {
        ck_assert_int_eq(pwrite(disk_fd, zeros, DISK_BYTES, 0), DISK_BYTES);
        ck_assert_int_eq(fsync(disk_fd), 0);
        ck_assert_int_eq(posix_fadvise(disk_fd, 0, 0, POSIX_FADV_DONTNEED), 0);
        before = disk_queue_by_ring(queue);
        one_read();
    } while (disk_queue_by_ring(queue) != before && --tries > 0);
    ck_assert_msg(tries > 0, "the ring has served all that was not in memory");

    one_read(); /* it is now */
    ck_assert_uint_eq(disk_queue_by_ring(queue), before + 1);
    ck_assert(disk_queue_has_ring(queue));
}
END_TEST

/* A file in memory is one, on most kernels. */
START_TEST(a_file_that_cannot_be_read_without_waiting_is_for_the_threads)
{
    struct disk_file *file = NULL;
    disk_free(disk);
    disk_fd = memfd_create("disk", MFD_CLOEXEC);
    ck_assert_int_eq(ftruncate(disk_fd, DISK_BYTES), 0);
    ck_assert_int_eq(disk_file_new(disk_fd, &file, NULL), 0);
    ck_assert_int_eq(disk_raw_new(file, false, &disk, NULL), 0);
    const struct disk_queue_threads workers = {.count = 1};
    ck_assert_int_eq(disk_queue_new(disk, &workers, &queue, NULL), 0);
    if (!disk_queue_has_ring(queue) || storage_file_has_nowait(disk_fd)) {
        (void)fprintf(stderr, "SKIPPED: no ring, or files in memory are good for it\n");
        return;
    }

    for (unsigned i = 0; i < 2; i++) {
        one_read();
        ck_assert(!disk_queue_has_ring(queue)); /* the first was enough */
    }
    ck_assert_uint_eq(disk_queue_by_ring(queue), 0);
}
END_TEST

/* What is small is done within the push, and what is large is not: it would hold up all
 * that waits for the same thread. */
START_TEST(what_is_in_memory_is_there_at_once_unless_it_is_large)
{
    static uint8_t data[1 << 19];
    static struct iovec pieces[2] = {{data, 4096}, {data, sizeof(data)}};
    struct disk_request requests[2];
    if (!queue_open(true)) {
        return;
    }
    memset(data, 'x', sizeof(data));
    ck_assert_int_eq(pwrite(disk_fd, data, sizeof(data), 0), sizeof(data));
    for (unsigned i = 0; i < 2; i++) {
        requests[i] = (struct disk_request){.operation = DISK_READ,
                                            .range = {0, pieces[i].iov_len},
                                            .pieces = &pieces[i],
                                            .piece_count = 1,
                                            .done = on_done,
                                            .result = 1};
    }

    disk_queue_submit(queue, &requests[0]);
    ck_assert_int_eq(requests[0].result, 1);
    disk_queue_drain(queue);
    ck_assert_int_eq(requests[0].result, 0);
    ck_assert_uint_eq(disk_queue_by_ring(queue), 1);
    disk_queue_submit(queue, &requests[1]);
    disk_queue_drain(queue);

    ck_assert_int_eq(requests[1].result, 0);
    ck_assert_uint_eq(disk_queue_by_ring(queue), 1);
}
END_TEST

/* ---- an overlay ---- */

#define LANES      16u /* requests in flight, each in its own part of the disk */
#define LANE_BYTES (UINT64_C(127) * 512)  /* two meet inside a block */
#define BASE_BYTES (DISK_BYTES - 5 * 512) /* ends inside a block, and inside a lane */
#define STEPS      2000u                  /* a sixth of them wait for storage */
#define CHUNK_MAX  (24u << 10)

struct lane {
    struct disk_request request;
    struct iovec pieces[2];
    uint8_t data[CHUNK_MAX];
    bool is_busy;
};

static struct lane lanes[LANES];
static uint8_t expected[DISK_BYTES];

static void lane_done(struct disk_request *request)
{
    struct lane *lane = (struct lane *)request;
    ck_assert_int_eq(request->result, 0);
    if (request->operation == DISK_READ) {
        ck_assert_mem_eq(lane->data, expected + request->range.offset,
                         request->range.size);
    }
    lane->is_busy = false;
}

static void lane_go(struct lane *lane, struct random *random)
{
    static const enum disk_operation operations[] = {DISK_READ,  DISK_READ, DISK_WRITE,
                                                     DISK_WRITE, DISK_ZERO, DISK_FLUSH};
    const enum disk_operation operation = operations[random_below(random, 6)];
    const uint64_t grain = random_below(random, 2) == 0 ? 512 : 4096;
    const uint64_t size = grain * (1 + random_below(random, CHUNK_MAX / grain));
    const uint64_t from = (uint64_t)(lane - lanes) * LANE_BYTES;
    const uint64_t first_at = (from + grain - 1) / grain * grain;
    const uint64_t room = from + LANE_BYTES - first_at - size;
    const uint64_t at = first_at + grain * random_below(random, room / grain + 1);
    const size_t first = (size_t)(1 + random_below(random, size - 1));
    lane->pieces[0] = (struct iovec){lane->data, first};
    lane->pieces[1] = (struct iovec){lane->data + first, (size_t)size - first};
    lane->request = (struct disk_request){.operation = operation,
                                          .range = {at, size},
                                          .pieces = lane->pieces,
                                          .piece_count = 2,
                                          .done = lane_done};
    if (operation == DISK_WRITE) {
        memset(lane->data, (int)random_below(random, 256), (size_t)size);
        memcpy(expected + at, lane->data, (size_t)size);
    } else if (operation == DISK_ZERO) {
        memset(expected + at, 0, (size_t)size);
    }
    lane->is_busy = true;
    disk_queue_submit(queue, &lane->request);
}

static void overlay_set_up(int *ret_base_fd)
{
    static const struct digest none;
    struct virtual_disk *base = NULL;
    struct disk_file *base_file = file_new(BASE_BYTES, ret_base_fd);
    struct disk_file *file = file_new(disk_overlay_file_size(DISK_BYTES), &disk_fd);
    for (unsigned i = 0; i < BASE_BYTES; i++) {
        expected[i] = (uint8_t)(i * 7 + i / 4096);
    }
    memset(expected + BASE_BYTES, 0, DISK_BYTES - BASE_BYTES);
    ck_assert_int_eq(pwrite(*ret_base_fd, expected, BASE_BYTES, 0), BASE_BYTES);
    ck_assert_int_eq(disk_raw_new(base_file, true, &base, NULL), 0);
    ck_assert_int_eq(disk_overlay_create(file, DISK_BYTES, BASE_BYTES, &none, NULL), 0);
    disk_free(disk);
    ck_assert_int_eq(disk_overlay_open(file, base, &none, &disk, NULL), 0);
}

#define BLOCK OVERLAY_BLOCK_BYTES

/* Writes into block 4 (whole) and into the second sector of block 6. */
static void two_blocks_take(void)
{
    static uint8_t data[BLOCK];
    const struct iovec whole = {data, BLOCK};
    const struct iovec sector = {data, 512};
    ck_assert_int_eq(disk_write(disk, 4 * BLOCK, &whole, 1, BLOCK), 0);
    ck_assert_int_eq(disk_write(disk, 6 * BLOCK + 512, &sector, 1, 512), 0);
}

static const struct {
    uint64_t offset;
    uint64_t size;
    int file; /* 0 the overlay, 1 its base, -1 the verb */
} direct_rows[] = {
    {4 * BLOCK, BLOCK, 0},
    {6 * BLOCK + 512, 512, 0},
    {0, 4 * BLOCK, 1},
    {3 * BLOCK, 2 * BLOCK, -1},   /* half and half */
    {BASE_BYTES - 512, 512, 1},   /* the base's last sector */
    {BASE_BYTES - 512, 1024, -1}, /* and one beyond */
    {DISK_BYTES - 512, 512, -1},  /* zeros of nobody */
    {DISK_BYTES, 512, -1},        /* outside */
    {DISK_BYTES - 512, UINT64_MAX - 511, -1},
    {4 * BLOCK, 0, -1},
};

START_TEST(a_range_in_one_file_is_direct)
{
    int base_fd;
    overlay_set_up(&base_fd);
    two_blocks_take();

    ck_assert_int_eq(disk_direct_read(disk, direct_rows[_i].offset, direct_rows[_i].size),
                     direct_rows[_i].file);
}
END_TEST

START_TEST(an_overlay_holds_what_many_requests_at_once_wrote)
{
    static uint8_t back[DISK_BYTES];
    static uint8_t base_before[BASE_BYTES];
    const struct iovec piece = {back, sizeof(back)};
    struct random random;
    int base_fd;
    random_seed(&random, 1 + (uint64_t)_i);
    overlay_set_up(&base_fd);
    memcpy(base_before, expected, sizeof(base_before));
    if (!queue_open(_i % 2 == 1)) {
        return;
    }
    struct pollfd event = {.fd = disk_queue_fd(queue), .events = POLLIN};

    for (unsigned asked = 0; asked < STEPS;) {
        unsigned busy = 0;
        for (unsigned i = 0; i < LANES; i++) {
            if (!lanes[i].is_busy && random_below(&random, 2) == 0) {
                lane_go(&lanes[i], &random);
                asked++;
            }
            busy += lanes[i].is_busy ? 1 : 0;
        }
        disk_queue_push(queue);
        if (busy == LANES || poll(&event, 1, 0) == 1) {
            disk_queue_reap(queue);
        }
    }
    disk_queue_drain(queue);

    ck_assert_int_eq(disk_read(disk, 0, &piece, 1, DISK_BYTES), 0);
    ck_assert_mem_eq(back, expected, DISK_BYTES);
    ck_assert_int_eq(pread(base_fd, back, BASE_BYTES, 0), BASE_BYTES);
    ck_assert_mem_eq(back, base_before, BASE_BYTES);
    ck_assert((disk_queue_by_ring(queue) > STEPS / 10) == (_i % 2 == 1));
}
END_TEST

static int refuse(void *context, struct err *err)
{
    atomic_uint *asked = context;
    atomic_fetch_add(asked, 1);
    return err_set(err, BERTH_EFORBIDDEN, "not in here");
}

START_TEST(a_worker_that_may_not_begin_makes_no_queue)
{
    atomic_uint asked = 0;
    const struct disk_queue_threads threads = {
        .count = 3, .began = refuse, .context = &asked};
    struct disk_queue *none = NULL;
    struct err err = {0};

    ck_assert_int_eq(disk_queue_new(disk, &threads, &none, &err), BERTH_EFORBIDDEN);

    ck_assert_str_eq(err.text, "not in here");
    ck_assert_ptr_null(none);
    ck_assert_uint_eq(atomic_load(&asked), 3); /* each for itself */
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("disk_queue");
    TCase *tests = tcase_create("disk_queue");
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_loop_test(tests, every_request_comes_back_once_with_its_result, 0, 2);
    tcase_add_loop_test(tests, a_drain_leaves_nothing_in_flight, 0, 2);
    tcase_add_loop_test(tests, what_ends_short_says_why, 0, 2);
    tcase_add_loop_test(tests, a_drain_waits_for_what_callbacks_submit, 0, 2);
    tcase_add_test(tests, what_is_not_in_memory_is_for_a_thread);
    tcase_add_test(tests, a_file_that_cannot_be_read_without_waiting_is_for_the_threads);
    tcase_add_test(tests, what_is_in_memory_is_there_at_once_unless_it_is_large);
    tcase_add_loop_test(tests, a_range_in_one_file_is_direct, 0,
                        (int)(sizeof(direct_rows) / sizeof(direct_rows[0])));
    tcase_add_loop_test(tests, an_overlay_holds_what_many_requests_at_once_wrote, 0, 8);
    tcase_add_test(tests, a_worker_that_may_not_begin_makes_no_queue);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
