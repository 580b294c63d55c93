/* Goal: every request that went in comes back once, with its own result. Method: a disk
 * in memory, more requests than threads. */
#include "support/test_main.h"
#include "vmm/disk_queue.h"
#include "vmm/disk_raw.h"

#include <check.h>

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define REQUESTS   200
#define DISK_BYTES (1 << 20)

static struct virtual_disk *disk;
static struct disk_queue *queue;
static unsigned done_count;
static const struct disk_queue_threads workers = {.count = 4};

static void set_up(void)
{
    struct disk_file *file = NULL;
    const int fd = memfd_create("disk", MFD_CLOEXEC);
    ck_assert_int_eq(ftruncate(fd, DISK_BYTES), 0);
    ck_assert_int_eq(disk_file_new(fd, &file, NULL), 0);
    ck_assert_int_eq(disk_raw_new(file, false, &disk, NULL), 0);
    ck_assert_int_eq(disk_queue_new(disk, &workers, &queue, NULL), 0);
    done_count = 0;
}

static void tear_down(void)
{
    disk_queue_free(queue);
    disk_free(disk);
}

static void on_done(struct disk_request *request)
{
    (void)request;
    done_count++;
}

START_TEST(every_request_comes_back_once_with_its_result)
{
    static struct disk_request requests[REQUESTS];
    static struct iovec pieces[REQUESTS];
    static uint8_t data[REQUESTS][512];
    struct pollfd event = {.fd = disk_queue_fd(queue), .events = POLLIN};
    for (unsigned i = 0; i < REQUESTS; i++) {
        memset(data[i], (int)i, sizeof(data[i]));
        pieces[i] = (struct iovec){data[i], 512};
        requests[i] = (struct disk_request){
            .operation = i % 2 == 0 ? DISK_WRITE : DISK_WRITE_THROUGH,
            .range = {i % 10 == 9 ? DISK_BYTES : (uint64_t)i * 512, 512},
            .pieces = &pieces[i],
            .piece_count = 1,
            .done = on_done,
            .result = 1};
        disk_queue_submit(queue, &requests[i]);
    }

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
    static const enum disk_operation operations[] = {DISK_FLUSH, DISK_DISCARD, DISK_ZERO};
    for (unsigned i = 0; i < REQUESTS; i++) {
        requests[i] = (struct disk_request){.operation = operations[i % 3],
                                            .range = {0, 4096},
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
    tcase_add_test(tests, every_request_comes_back_once_with_its_result);
    tcase_add_test(tests, a_drain_leaves_nothing_in_flight);
    tcase_add_test(tests, a_worker_that_may_not_begin_makes_no_queue);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
