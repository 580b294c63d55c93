/* Goal: no address that a guest can name leads outside its RAM, every byte of its RAM can
 * be used, every write is in the dirty log, and what is unplugged costs nothing, whoever
 * was at it. Method: two regions that touch, one
 * beyond a hole, one at the end of the address space. */
#include "base/err.h"
#include "support/test_main.h"
#include "vmm/guest_memory.h"

#include <check.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE   GUEST_PAGE_BYTES
#define FAR_AT (UINT64_C(4) << 30)
#define TOP_AT (UINT64_MAX - PAGE + 1 - PAGE)

/* 0..4 pages, 4..8 pages, a hole, 4 GiB.. 2 pages. */
static void set_up(struct guest_memory *memory)
{
    struct err err = {0};
    guest_memory_init(memory);
    ck_assert_msg(guest_memory_add(memory, FAR_AT, 2 * PAGE, &err) == 0, "%s", err.text);
    ck_assert_int_eq(guest_memory_add(memory, 0, 4 * PAGE, &err), 0);
    ck_assert_int_eq(guest_memory_add(memory, 4 * PAGE, 4 * PAGE, &err), 0);
}

struct range_row {
    uint64_t address;
    uint64_t size;
    bool is_ram;
};

static const struct range_row ranges[] = {
    {0, 1, true},
    {0, 8 * PAGE, true},
    {8 * PAGE - 1, 1, true}, /* the last byte of RAM is RAM */
    {8 * PAGE - 1, 2, false},
    {8 * PAGE, 1, false},
    {4 * PAGE - 1, 2, true}, /* over a seam */
    {0, 8 * PAGE + 1, false},
    {FAR_AT - 1, 2, false},
    {FAR_AT, 2 * PAGE, true},
    {FAR_AT + 2 * PAGE - 1, 1, true},
    {FAR_AT + 2 * PAGE - 1, 2, false},
    {FAR_AT, UINT64_MAX, false},
    {FAR_AT, UINT64_MAX - FAR_AT + 1, false},
    {FAR_AT, UINT64_MAX - FAR_AT + 2, false}, /* wraps to 1 */
    {UINT64_MAX, 1, false},
    {UINT64_MAX, 2, false},
    {0, 0, false},
    {0, UINT64_MAX, false},
};

START_TEST(only_whole_ranges_of_ram_are_held)
{
    struct guest_memory memory;
    struct iovec pieces[4];
    uint8_t byte = 0;
    const struct range_row *row = &ranges[_i];
    set_up(&memory);

    ck_assert(guest_memory_holds(&memory, row->address, row->size) == row->is_ram);
    const int count = guest_memory_iovec(&memory, row->address, row->size, pieces, 4);
    if (row->is_ram) {
        ck_assert_int_gt(count, 0);
        ck_assert_int_eq(guest_memory_read(&memory, row->address, &byte, 1), 0);
    } else {
        ck_assert_int_eq(count, -EFAULT);
    }
    if (row->size <= 16 * PAGE && row->size > 0) {
        uint8_t data[16 * PAGE];
        memset(data, 0x5a, sizeof(data));
        const int expected = row->is_ram ? 0 : -EFAULT;
        ck_assert_int_eq(
            guest_memory_write(&memory, row->address, data, (size_t)row->size), expected);
        ck_assert_int_eq(
            guest_memory_read(&memory, row->address, data, (size_t)row->size), expected);
    }
    guest_memory_fini(&memory);
}
END_TEST

START_TEST(a_refused_write_changes_nothing)
{
    struct guest_memory memory;
    uint8_t data[2] = {1, 2};
    uint8_t seen = 0xff;
    set_up(&memory);

    ck_assert_int_eq(guest_memory_write(&memory, 8 * PAGE - 1, data, 2), -EFAULT);

    ck_assert_int_eq(guest_memory_read(&memory, 8 * PAGE - 1, &seen, 1), 0);
    ck_assert_uint_eq(seen, 0);
    guest_memory_fini(&memory);
}
END_TEST

START_TEST(bytes_come_back_over_a_seam)
{
    struct guest_memory memory;
    char text[] = "over the seam";
    char seen[sizeof(text)];
    struct iovec pieces[2];
    set_up(&memory);

    ck_assert_int_eq(guest_memory_write(&memory, 4 * PAGE - 5, text, sizeof(text)), 0);

    ck_assert_int_eq(guest_memory_read(&memory, 4 * PAGE - 5, seen, sizeof(seen)), 0);
    ck_assert_str_eq(seen, text);
    ck_assert_int_eq(guest_memory_iovec(&memory, 4 * PAGE - 5, sizeof(text), pieces, 2),
                     2);
    ck_assert_uint_eq(pieces[0].iov_len, 5);
    ck_assert_mem_eq(pieces[1].iov_base, text + 5, sizeof(text) - 5);
    ck_assert_int_eq(guest_memory_iovec(&memory, 4 * PAGE - 5, sizeof(text), pieces, 1),
                     BERTH_ETOOLARGE);
    guest_memory_fini(&memory);
}
END_TEST

START_TEST(ring_words_must_be_aligned_and_in_ram)
{
    struct guest_memory memory;
    uint16_t value = 0;
    set_up(&memory);

    ck_assert_int_eq(guest_memory_store_u16(&memory, 8 * PAGE - 2, 0x1234), 0);
    ck_assert_int_eq(guest_memory_load_u16(&memory, 8 * PAGE - 2, &value), 0);

    ck_assert_uint_eq(value, 0x1234);
    ck_assert_int_eq(guest_memory_load_u16(&memory, 8 * PAGE - 1, &value), -EFAULT);
    ck_assert_int_eq(guest_memory_load_u16(&memory, 8 * PAGE, &value), -EFAULT);
    ck_assert_int_eq(guest_memory_store_u16(&memory, 3, 1), -EFAULT);
    guest_memory_fini(&memory);
}
END_TEST

struct region_row {
    uint64_t address;
    uint64_t size;
    int result;
};

static const struct region_row regions[] = {
    {8 * PAGE, PAGE, 0},
    {FAR_AT - PAGE, PAGE, 0},
    {0, PAGE, BERTH_EINVALID},
    {7 * PAGE, 2 * PAGE, BERTH_EINVALID},
    {FAR_AT - PAGE, 2 * PAGE, BERTH_EINVALID},
    {9 * PAGE, FAR_AT, BERTH_EINVALID},
    {9 * PAGE + 1, PAGE, BERTH_EINVALID},
    {9 * PAGE, PAGE + 1, BERTH_EINVALID},
    {9 * PAGE, 0, BERTH_EINVALID},
    {TOP_AT, 4 * PAGE, BERTH_EINVALID},
    {9 * PAGE, GUEST_MEMORY_SIZE_MAX + PAGE, BERTH_EINVALID},
};

START_TEST(regions_are_whole_pages_and_never_overlap)
{
    struct guest_memory memory;
    struct err err = {0};
    set_up(&memory);

    ck_assert_int_eq(
        guest_memory_add(&memory, regions[_i].address, regions[_i].size, &err),
        regions[_i].result);

    ck_assert_uint_eq(memory.region_count, regions[_i].result == 0 ? 4 : 3);
    for (unsigned i = 1; i < memory.region_count; i++) {
        ck_assert_uint_lt(memory.regions[i - 1].address, memory.regions[i].address);
    }
    guest_memory_fini(&memory);
}
END_TEST

START_TEST(a_private_clone_leaves_its_file_alone)
{
    struct guest_memory memory;
    struct err err = {0};
    uint64_t word = 0;
    const int fd = memfd_create("image", MFD_CLOEXEC);
    const int mine = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    ck_assert_int_eq(ftruncate(fd, (off_t)(2 * PAGE)), 0);
    ck_assert_int_eq(pwrite(fd, "original", 8, (off_t)PAGE), 8);
    guest_memory_init(&memory);
    ck_assert_int_eq(
        guest_memory_add_file(&memory, 0, PAGE, fd, PAGE, GUEST_MEMORY_PRIVATE, &err), 0);

    ck_assert_int_eq(guest_memory_read(&memory, 0, &word, 8), 0);
    ck_assert_mem_eq(&word, "original", 8);
    ck_assert_int_eq(guest_memory_write(&memory, 0, "changed!", 8), 0);

    ck_assert_int_eq(pread(mine, &word, 8, (off_t)PAGE), 8);
    ck_assert_mem_eq(&word, "original", 8);
    ck_assert_int_eq(guest_memory_read(&memory, 0, &word, 8), 0);
    ck_assert_mem_eq(&word, "changed!", 8);
    guest_memory_fini(&memory);
    close(mine);
}
END_TEST

START_TEST(cleared_memory_is_zeros_and_a_clone_leaves_its_image_alone)
{
    struct guest_memory memory;
    uint64_t word = 0;
    const int fd = memfd_create("image", MFD_CLOEXEC);
    const int mine = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    ck_assert_int_eq(ftruncate(fd, (off_t)(2 * PAGE)), 0);
    ck_assert_int_eq(pwrite(fd, "original", 8, (off_t)PAGE), 8);
    guest_memory_init(&memory);
    ck_assert_int_eq(
        guest_memory_add_file(&memory, 0, 2 * PAGE, fd, 0, GUEST_MEMORY_PRIVATE, NULL),
        0);
    ck_assert_int_eq(guest_memory_add(&memory, FAR_AT, PAGE, NULL), 0);
    ck_assert_int_eq(guest_memory_write(&memory, 0, "changed!", 8), 0);
    ck_assert_int_eq(guest_memory_write(&memory, FAR_AT, "changed!", 8), 0);

    ck_assert_int_eq(guest_memory_clear(&memory, NULL), 0);

    for (unsigned i = 0; i < 3; i++) {
        word = 1;
        ck_assert_int_eq(guest_memory_read(&memory, i < 2 ? i * PAGE : FAR_AT, &word, 8),
                         0);
        ck_assert_uint_eq(word, 0);
    }
    ck_assert_int_eq(pread(mine, &word, 8, (off_t)PAGE), 8);
    ck_assert_mem_eq(&word, "original", 8);
    ck_assert_int_eq(guest_memory_write(&memory, PAGE, "anything", 8), 0);
    ck_assert_int_eq(pread(mine, &word, 8, (off_t)PAGE), 8);
    ck_assert_mem_eq(&word, "original", 8);
    guest_memory_fini(&memory);
    close(mine);
}
END_TEST

START_TEST(pages_that_nobody_has_touched_are_passed_over)
{
    struct guest_memory memory;
    guest_memory_init(&memory);
    ck_assert_int_eq(guest_memory_add(&memory, 0, 8 * PAGE, NULL), 0);
    ck_assert_int_eq(guest_memory_write(&memory, 3 * PAGE + 5, "x", 1), 0);

    ck_assert_uint_eq(guest_memory_content_from(&memory, 0, 0), 3 * PAGE);
    ck_assert_uint_eq(guest_memory_content_from(&memory, 0, 3 * PAGE + 1), 3 * PAGE + 1);
    ck_assert_uint_eq(guest_memory_content_from(&memory, 0, 4 * PAGE), 8 * PAGE);
    ck_assert_uint_eq(guest_memory_content_from(&memory, 0, 9 * PAGE), 8 * PAGE);
    ck_assert_uint_eq(guest_memory_content_end(&memory, 0, 3 * PAGE + 1), 4 * PAGE);
    ck_assert_uint_eq(guest_memory_content_end(&memory, 0, 9 * PAGE), 8 * PAGE);
    guest_memory_fini(&memory);
}
END_TEST

START_TEST(every_write_is_in_the_dirty_log_once)
{
    struct guest_memory memory;
    uint64_t words[2];
    uint8_t data[PAGE];
    memset(data, 1, sizeof(data));
    set_up(&memory);
    ck_assert_int_eq(guest_memory_write(&memory, 0, data, 1), 0); /* not logged yet */
    ck_assert_int_eq(guest_memory_log_start(&memory), 0);

    ck_assert_int_eq(guest_memory_write(&memory, PAGE + 1, data, PAGE), 0); /* 1, 2 */
    ck_assert_int_eq(guest_memory_store_u16(&memory, FAR_AT + PAGE, 1), 0);
    guest_memory_mark(&memory, 4 * PAGE - 1, 2); /* the seam: 3 and the next 0 */
    guest_memory_mark(&memory, UINT64_MAX - 1, 8);

    ck_assert_uint_eq(guest_memory_log_take(&memory, 0, words, 2), 3);
    ck_assert_uint_eq(words[0], 0xe);
    ck_assert_uint_eq(words[1], 0);
    ck_assert_uint_eq(guest_memory_log_take(&memory, 1, words, 2), 1);
    ck_assert_uint_eq(words[0], 0x1);
    ck_assert_uint_eq(guest_memory_log_take(&memory, 2, words, 2), 1);
    ck_assert_uint_eq(words[0], 0x2);
    ck_assert_uint_eq(guest_memory_log_take(&memory, 0, words, 2), 0);
    guest_memory_log_stop(&memory);
    ck_assert_int_eq(guest_memory_write(&memory, 0, data, 1), 0);
    ck_assert_uint_eq(guest_memory_log_take(&memory, 0, words, 2), 0);
    guest_memory_fini(&memory);
}
END_TEST

START_TEST(released_pages_cost_nothing_and_read_as_zeros)
{
    struct guest_memory memory;
    struct stat info;
    uint8_t data[4 * PAGE];
    set_up(&memory);
    memset(data, 1, sizeof(data));
    ck_assert_int_eq(guest_memory_write(&memory, 2 * PAGE, data, sizeof(data)), 0);

    ck_assert_int_eq(guest_memory_release(&memory, 3 * PAGE, 2 * PAGE), 0); /* the seam */
    ck_assert_int_eq(fstat(memory.regions[0].fd, &info), 0);
    ck_assert_int_eq(info.st_blocks * 512, (int64_t)PAGE);

    ck_assert_int_eq(guest_memory_read(&memory, 2 * PAGE, data, sizeof(data)), 0);
    ck_assert_uint_eq(data[PAGE - 1], 1);
    ck_assert_uint_eq(data[PAGE], 0);
    ck_assert_uint_eq(data[3 * PAGE - 1], 0);
    ck_assert_uint_eq(data[3 * PAGE], 1);
    ck_assert_int_eq(guest_memory_release(&memory, PAGE, PAGE / 2), BERTH_EINVALID);
    ck_assert_int_eq(guest_memory_release(&memory, 1, PAGE), BERTH_EINVALID);
    ck_assert_int_eq(guest_memory_release(&memory, 7 * PAGE, 2 * PAGE), -EFAULT);
    guest_memory_fini(&memory);
}
END_TEST

START_TEST(the_bytes_beyond_ram_are_out_of_reach)
{
    struct guest_memory memory;
    set_up(&memory);
    /* The guard: a kernel asked to read from it refuses, instead of finding other data.
     */
    const struct guest_region *region = &memory.regions[2];
    int pipes[2];
    ck_assert_int_eq(pipe(pipes), 0);

    ck_assert_int_eq(write(pipes[1], region->host + region->size_bytes, 1), -1);
    ck_assert_int_eq(errno, EFAULT);
    ck_assert_int_eq(write(pipes[1], region->host - 1, 1), -1);
    ck_assert_int_eq(errno, EFAULT);
    ck_assert_int_eq(write(pipes[1], region->host + region->size_bytes - 1, 1), 1);

    close(pipes[0]);
    close(pipes[1]);
    guest_memory_fini(&memory);
}
END_TEST

/* ---- blocks that are plugged ---- */

#define PLUG_AT    (UINT64_C(8) << 30)
#define PLUG_BLOCK RAM_PLUG_BLOCK_BYTES
#define PLUG_SIZE  (4 * PLUG_BLOCK)

static void set_up_plug(struct guest_memory *memory)
{
    const struct ram_backing plain = {0};
    guest_memory_init(memory);
    /* One seam: RAM that is always there ends where the blocks begin. */
    ck_assert_int_eq(guest_memory_add(memory, PLUG_AT - 2 * PAGE, 2 * PAGE, NULL), 0);
    ck_assert_int_eq(guest_memory_add_pluggable(memory, PLUG_AT, PLUG_SIZE, &plain, NULL),
                     0);
}

static uint64_t plug_costs(const struct guest_memory *memory)
{
    struct stat stat;
    ck_assert_int_eq(fstat(memory->regions[1].fd, &stat), 0);
    return (uint64_t)stat.st_blocks * 512;
}

START_TEST(what_a_transfer_is_at_is_not_unplugged)
{
    struct guest_memory memory;
    struct iovec pieces[2];
    struct iovec more[2];
    set_up_plug(&memory);
    ck_assert_int_eq(guest_memory_plug(&memory, 1, 0, 2), 0);
    ck_assert_int_eq(guest_memory_iovec(&memory, PLUG_AT - 1, 2, pieces, 2), 2);
    ck_assert_int_eq(guest_memory_iovec(&memory, PLUG_AT + 5, PLUG_BLOCK, more, 2), 1);
    /* Of these nothing is left behind. */
    ck_assert_int_eq(guest_memory_iovec(&memory, PLUG_AT - 1, 2, more + 1, 1),
                     BERTH_ETOOLARGE);
    ck_assert_int_eq(
        guest_memory_iovec(&memory, PLUG_AT - 1, 2 * PLUG_BLOCK + 2, more + 1, 1),
        -EFAULT);

    ck_assert_int_eq(guest_memory_unplug(&memory, 1, 0, 1), -EBUSY);
    ck_assert_int_eq(guest_memory_unplug_all(&memory), -EBUSY);
    ck_assert(guest_memory_holds(&memory, PLUG_AT, 2 * PLUG_BLOCK));
    memset(pieces[1].iov_base, 'x', pieces[1].iov_len);
    guest_memory_iovec_end(&memory, pieces, 2);
    ck_assert_int_eq(guest_memory_unplug(&memory, 1, 1, 1), -EBUSY);
    guest_memory_iovec_end(&memory, more, 1);
    ck_assert_int_eq(guest_memory_unplug(&memory, 1, 1, 1), 0);
    ck_assert_int_eq(guest_memory_unplug_all(&memory), 0);

    ck_assert_uint_eq(plug_costs(&memory), 0);
    guest_memory_fini(&memory);
}
END_TEST

#define ROUNDS 50u

static atomic_uint round_now;  /* the writer's turn, of which each is one write */
static atomic_uint round_done; /* by the writer */

static void *write_on(void *context)
{
    static uint8_t bytes[PLUG_BLOCK / 2];
    for (unsigned i = 1; i <= ROUNDS; i++) {
        while (atomic_load(&round_now) < i) {
            (void)sched_yield();
        }
        (void)guest_memory_write(context, PLUG_AT - 1, bytes, sizeof(bytes)); /* or not */
        atomic_store(&round_done, i);
    }
    return NULL;
}

/* A device of another thread never brings back what the host was given, whenever its
 * block goes. */
START_TEST(a_write_that_meets_an_unplug_fills_nothing_afterwards)
{
    struct guest_memory memory;
    pthread_t writer;
    set_up_plug(&memory);
    ck_assert_int_eq(pthread_create(&writer, NULL, write_on, &memory), 0);

    for (unsigned i = 1; i <= ROUNDS; i++) {
        ck_assert_int_eq(guest_memory_plug(&memory, 1, 0, 1), 0);
        atomic_store(&round_now, i);
        while (plug_costs(&memory) == 0 && atomic_load(&round_done) < i) {
            /* until the first page is there, and the rest is to come */
        }
        const int r = guest_memory_unplug(&memory, 1, 0, 1);
        ck_assert(r == 0 || r == -EBUSY);
        while (atomic_load(&round_done) < i) {
            (void)sched_yield();
        }
        ck_assert(r == -EBUSY || plug_costs(&memory) == 0);
        ck_assert_int_eq(guest_memory_unplug_all(&memory), 0); /* nobody holds it */
        ck_assert_uint_eq(plug_costs(&memory), 0);
    }

    ck_assert_int_eq(pthread_join(writer, NULL), 0);
    guest_memory_fini(&memory);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("guest_memory");
    TCase *tests = tcase_create("guest_memory");
    tcase_add_loop_test(tests, only_whole_ranges_of_ram_are_held, 0,
                        sizeof(ranges) / sizeof(ranges[0]));
    tcase_add_test(tests, a_refused_write_changes_nothing);
    tcase_add_test(tests, bytes_come_back_over_a_seam);
    tcase_add_test(tests, ring_words_must_be_aligned_and_in_ram);
    tcase_add_loop_test(tests, regions_are_whole_pages_and_never_overlap, 0,
                        sizeof(regions) / sizeof(regions[0]));
    tcase_add_test(tests, a_private_clone_leaves_its_file_alone);
    tcase_add_test(tests, cleared_memory_is_zeros_and_a_clone_leaves_its_image_alone);
    tcase_add_test(tests, pages_that_nobody_has_touched_are_passed_over);
    tcase_add_test(tests, every_write_is_in_the_dirty_log_once);
    tcase_add_test(tests, released_pages_cost_nothing_and_read_as_zeros);
    tcase_add_test(tests, the_bytes_beyond_ram_are_out_of_reach);
    tcase_add_test(tests, what_a_transfer_is_at_is_not_unplugged);
    tcase_add_test(tests, a_write_that_meets_an_unplug_fills_nothing_afterwards);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
