/* Goal: what the guest flushed is there after any crash, what it did not flush is old or
 * new, by sectors, and nothing else. Method: random writes, zeros, discards and flushes
 * around the seam of two bitmap pages on a machine that loses its power, against a model
 * that knows for each sector which values are allowed. The seed is printed on failure;
 * `disk_overlay_test CYCLES SEED` runs a longer or another campaign. */
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/parse_number.h"
#include "base/random.h"
#include "power_file.h"
#include "support/temp_dir.h"
#include "support/test_main.h"
#include "vmm/disk_overlay.h"
#include "vmm/disk_raw.h"

#include <check.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#define BLOCK         OVERLAY_BLOCK_BYTES
#define SECTOR        DISK_SECTOR_BYTES
#define PAGE_BLOCKS   ((OVERLAY_PAGE_BYTES - 16) * 8)
#define WINDOW_BLOCKS 24u /* of the disk that is used, half on each side of the seam */
#define WINDOW_AT     ((PAGE_BLOCKS - WINDOW_BLOCKS / 2) * BLOCK)
#define SECTORS       (WINDOW_BLOCKS * BLOCK / SECTOR)
#define DISK_BYTES    (WINDOW_AT + WINDOW_BLOCKS * BLOCK - 3 * SECTOR)
#define USED_SECTORS  (SECTORS - 3)
#define BASE_BYTES    (WINDOW_AT + 18 * BLOCK + 3 * SECTOR) /* ends inside a block */
#define BASE_TAG      UINT64_C(0xba5e000000000000)
#define VALUES_MAX    128u

static uint64_t cycles = 10000;
static uint64_t seed = 1;

static const struct digest base_digest = {{1, 2, 3}};

/* What a sector may hold: the value at the last flush, and all since. */
struct sector {
    uint64_t values[VALUES_MAX];
    unsigned count;
    bool unsure; /* the newest may have been dropped: a discard, or an error */
};

static struct power_file base_file;
static struct power_file file;
static struct sector sectors[SECTORS];
static struct virtual_disk *disk;
static uint64_t next_tag;

static void fill(uint8_t *data, uint64_t tag)
{
    for (unsigned i = 0; i < SECTOR / sizeof(tag); i++) {
        memcpy(data + i * sizeof(tag), &tag, sizeof(tag));
    }
}

static void open_disk(void)
{
    struct err err = {0};
    struct virtual_disk *base = NULL;
    ck_assert_int_eq(disk_raw_new(&base_file.file, true, &base, &err), 0);
    ck_assert_msg(disk_overlay_open(&file.file, base, &base_digest, &disk, &err) == 0,
                  "%s (seed %" PRIu64 ")", err.text, seed);
}

static void set_up(void)
{
    power_file_init(&base_file, BASE_BYTES, 7);
    power_file_init(&file, disk_overlay_file_size(DISK_BYTES), seed);
    for (unsigned i = 0; i < SECTORS; i++) {
        const uint64_t at = WINDOW_AT + i * SECTOR;
        sectors[i] = (struct sector){.count = 1};
        if (at + SECTOR <= BASE_BYTES) {
            sectors[i].values[0] = BASE_TAG + i;
            fill(base_file.seen + at, BASE_TAG + i);
        }
    }
    ck_assert_int_eq(
        disk_overlay_create(&file.file, DISK_BYTES, BASE_BYTES, &base_digest, NULL), 0);
    next_tag = 1;
    open_disk();
}

static void tear_down(void)
{
    disk_free(disk);
    power_file_fini(&base_file);
    power_file_fini(&file);
}

static void
may_hold(unsigned first, unsigned count, uint64_t tag, bool counts_up, bool unsure)
{
    for (unsigned i = 0; i < count; i++) {
        struct sector *sector = &sectors[first + i];
        REQUIRE(sector->count < VALUES_MAX);
        sector->values[sector->count++] = counts_up ? tag + i : tag;
        sector->unsure = unsure;
    }
}

/* The value of each sector; a failure if one is torn. */
static void values_read(uint64_t *ret_values)
{
    static uint8_t data[USED_SECTORS * SECTOR];
    const struct iovec piece = {.iov_base = data, .iov_len = sizeof(data)};
    ck_assert_int_eq(disk_read(disk, WINDOW_AT, &piece, 1, sizeof(data)), 0);
    for (unsigned i = 0; i < USED_SECTORS; i++) {
        const uint8_t *sector = data + i * SECTOR;
        if (memcmp(sector, sector + 8, SECTOR - 8) != 0) {
            ck_abort_msg("sector %u is torn (seed %" PRIu64 ")", i, seed);
        }
        memcpy(&ret_values[i], sector, sizeof(*ret_values));
    }
}

static int write_some(struct random *random, uint64_t count_max)
{
    uint8_t data[64 * SECTOR];
    struct iovec pieces[3];
    const unsigned first = (unsigned)random_below(random, USED_SECTORS);
    uint64_t count = 1 + random_below(random, count_max);
    if (count > USED_SECTORS - first) {
        count = USED_SECTORS - first;
    }
    for (unsigned i = 0; i < count; i++) {
        fill(data + i * SECTOR, next_tag + i);
    }
    may_hold(first, (unsigned)count, next_tag, true, file.fault_after >= 0);
    next_tag += count;
    const uint64_t size = count * SECTOR;
    const uint64_t cut = random_below(random, size); /* pieces of any size */
    pieces[0] = (struct iovec){data, cut};
    pieces[1] = (struct iovec){data + cut, (size - cut) / 2};
    pieces[2] =
        (struct iovec){data + cut + (size - cut) / 2, size - cut - (size - cut) / 2};
    return disk_write(disk, WINDOW_AT + first * SECTOR, pieces, 3, size);
}

/* Zeros or a discard. */
static int clear_some(struct random *random)
{
    const unsigned first = (unsigned)random_below(random, USED_SECTORS);
    uint64_t count = 1 + random_below(random, 40);
    if (count > USED_SECTORS - first) {
        count = USED_SECTORS - first;
    }
    const bool discard = random_below(random, 2) == 0;
    may_hold(first, (unsigned)count, 0, false, discard || file.fault_after >= 0);
    const uint64_t offset = WINDOW_AT + first * SECTOR;
    return discard ? disk_discard(disk, offset, count * SECTOR)
                   : disk_zero(disk, offset, count * SECTOR);
}

static bool allowed(const struct sector *sector, uint64_t value)
{
    for (unsigned k = 0; k < sector->count; k++) {
        if (sector->values[k] == value) {
            return true;
        }
    }
    return false;
}

/* Reads all; each must be allowed, and the newest where nothing has gone wrong. */
static void check_all(uint64_t *ret_values, bool crashed, uint64_t cycle)
{
    values_read(ret_values);
    for (unsigned i = 0; i < USED_SECTORS; i++) {
        const struct sector *sector = &sectors[i];
        const bool good = crashed || sector->unsure
                              ? allowed(sector, ret_values[i])
                              : sector->values[sector->count - 1] == ret_values[i];
        if (!good) {
            ck_abort_msg("cycle %" PRIu64 ", sector %u holds %" PRIx64 " (seed %" PRIu64
                         ")",
                         cycle, i, ret_values[i], seed);
        }
    }
}

/* From here on each sector has one value. */
static void settle(const uint64_t *values)
{
    for (unsigned i = 0; i < USED_SECTORS; i++) {
        sectors[i].values[0] = values[i];
        sectors[i].count = 1;
        sectors[i].unsure = false;
    }
}

/* What is read now is what a flush makes durable. */
static int flush(uint64_t cycle)
{
    uint64_t values[USED_SECTORS];
    check_all(values, false, cycle);
    const int r = disk_flush(disk);
    if (r == 0) {
        settle(values);
    }
    return r;
}

static void crash_and_check(uint64_t cycle)
{
    disk_free(disk);
    power_file_crash(&file);
    uint64_t values[USED_SECTORS];
    open_disk();
    check_all(values, true, cycle);
    settle(values);
}

START_TEST(crashes_lose_only_what_was_not_flushed)
{
    struct random random;
    random_seed(&random, seed);
    uint64_t flushed = 0;
    for (uint64_t cycle = 0; cycle < cycles; cycle++) {
        const uint64_t steps = random_below(&random, 12);
        for (uint64_t i = 0; i < steps; i++) {
            const uint64_t kind = random_below(&random, 8);
            if (kind == 0) {
                ck_assert_int_eq(flush(cycle), 0);
                flushed++;
            } else if (kind == 1) {
                ck_assert_int_eq(clear_some(&random), 0);
            } else {
                ck_assert_int_eq(write_some(&random, kind == 2 ? 64 : 9), 0);
            }
        }
        crash_and_check(cycle);
    }
    ck_assert_uint_gt(flushed, cycles / 4);
}
END_TEST

START_TEST(a_disk_that_fails_or_fills_up_says_so_and_loses_nothing_else)
{
    struct random random;
    unsigned failed = 0;
    random_seed(&random, seed);
    for (uint64_t cycle = 0; cycle < cycles / 10; cycle++) {
        file.fault_after = (long)random_below(&random, 20) + 1;
        file.fault = cycle % 2 == 0 ? -ENOSPC : -EIO;
        for (unsigned i = 0; i < 10; i++) {
            const uint64_t kind = random_below(&random, 5);
            const int r = kind == 0   ? flush(cycle)
                          : kind == 1 ? clear_some(&random)
                                      : write_some(&random, 20);
            ck_assert(r == 0 || r == file.fault || r == -EIO);
            failed += r < 0 ? 1 : 0;
        }
        crash_and_check(cycle);
    }
    ck_assert_uint_gt(failed, cycles / 20);
}
END_TEST

START_TEST(after_a_failed_sync_nothing_counts_as_flushed_any_more)
{
    struct random random;
    random_seed(&random, seed);
    ck_assert_int_eq(write_some(&random, 8), 0);
    file.fault_after = 1;
    file.fault = -EIO;
    ck_assert_int_eq(disk_flush(disk), -EIO);
    file.fault_after = -1; /* the file works again, but who knows what it dropped */

    ck_assert_int_eq(disk_flush(disk), -EIO);
    ck_assert_int_eq(write_some(&random, 8), -EIO);

    crash_and_check(0);
    ck_assert_int_eq(write_some(&random, 8), 0);
    ck_assert_int_eq(flush(0), 0);
}
END_TEST

/* The first sync goes well, and then there is no room for a page of the bitmap, as on a
 * file system that copies what is written. */
START_TEST(a_flush_that_finds_no_room_is_made_another_time)
{
    struct random random;
    random_seed(&random, seed);
    ck_assert_int_eq(write_some(&random, 8), 0);
    file.fault_after = 2;
    file.fault = -ENOSPC;
    ck_assert_int_eq(disk_flush(disk), -ENOSPC);
    file.fault_after = -1;

    if (_i == 0) {
        ck_assert_int_eq(write_some(&random, 8), 0);
        ck_assert_int_eq(flush(0), 0);
    }
    crash_and_check(0);
}
END_TEST

START_TEST(a_sync_that_finds_no_room_is_not_made_another_time)
{
    struct random random;
    random_seed(&random, seed);
    ck_assert_int_eq(write_some(&random, 8), 0);
    file.fault_after = 1;
    file.fault = -ENOSPC;
    ck_assert_int_eq(disk_flush(disk), -EIO);
    file.fault_after = -1;

    ck_assert_int_eq(disk_flush(disk), -EIO);
}
END_TEST

START_TEST(an_aligned_write_copies_nothing_and_syncs_nothing)
{
    static uint8_t data[4 * BLOCK];
    const struct iovec piece = {.iov_base = data, .iov_len = sizeof(data)};
    const unsigned before = file.syncs;
    file.waiting_count = 0;

    ck_assert_int_eq(disk_write(disk, WINDOW_AT + BLOCK, &piece, 1, sizeof(data)), 0);

    ck_assert_uint_eq(file.syncs, before);
    ck_assert_uint_eq(file.waiting_count, sizeof(data) / POWER_SECTOR);
    ck_assert(disk_overlay_holds(disk, WINDOW_AT + BLOCK));
    ck_assert(!disk_overlay_holds(disk, WINDOW_AT));
}
END_TEST

START_TEST(ranges_outside_the_disk_are_refused)
{
    uint8_t data[SECTOR] = {0};
    const struct iovec piece = {.iov_base = data, .iov_len = SECTOR};
    ck_assert_int_eq(disk_read(disk, DISK_BYTES - SECTOR, &piece, 1, SECTOR), 0);
    ck_assert_int_eq(disk_read(disk, DISK_BYTES, &piece, 1, SECTOR), -EINVAL);
    ck_assert_int_eq(disk_write(disk, DISK_BYTES, &piece, 1, SECTOR), -EINVAL);
    ck_assert_int_eq(disk_write(disk, UINT64_MAX - 1, &piece, 1, SECTOR), -EINVAL);
    ck_assert_int_eq(disk_zero(disk, SECTOR, UINT64_MAX), -EINVAL);
    ck_assert_int_eq(disk_discard(disk, 0, DISK_BYTES + 1), -EINVAL);
}
END_TEST

/* Opens the file as it is, over the base; the error. */
static int try_open(const struct digest *digest)
{
    struct virtual_disk *base = NULL;
    struct virtual_disk *other = NULL;
    ck_assert_int_eq(disk_raw_new(&base_file.file, true, &base, NULL), 0);
    const int r = disk_overlay_open(&file.file, base, digest, &other, NULL);
    disk_free(r == 0 ? other : base);
    return r;
}

START_TEST(what_is_no_overlay_is_refused)
{
    const uint64_t header_at = file.file.size_bytes - OVERLAY_PAGE_BYTES;
    const struct digest other_digest = {{9}};
    ck_assert_int_eq(try_open(&base_digest), 0);
    ck_assert_int_eq(try_open(&other_digest), BERTH_ECONFLICT);
    for (uint64_t byte = 0; byte < OVERLAY_PAGE_BYTES; byte++) {
        file.seen[header_at + byte] ^= 0x40;
        ck_assert_int_eq(try_open(&base_digest), BERTH_ECORRUPT);
        file.seen[header_at + byte] ^= 0x40;
    }
    file.file.size_bytes -= OVERLAY_PAGE_BYTES; /* cut */
    ck_assert_int_eq(try_open(&base_digest), BERTH_ECORRUPT);
    file.file.size_bytes += OVERLAY_PAGE_BYTES;
    ck_assert_int_eq(try_open(&base_digest), 0);
}
END_TEST

START_TEST(one_damaged_copy_of_a_bitmap_page_is_enough_and_two_are_too_many)
{
    const uint64_t blocks = (DISK_BYTES + BLOCK - 1) / BLOCK;
    uint8_t *slot = file.seen + blocks * BLOCK + 2 * OVERLAY_PAGE_BYTES; /* of page 1 */
    slot[100] ^= 1;
    ck_assert_int_eq(try_open(&base_digest), 0);
    slot[OVERLAY_PAGE_BYTES + 100] ^= 1;
    ck_assert_int_eq(try_open(&base_digest), BERTH_ECORRUPT);
    slot[100] ^= 1;
    slot[OVERLAY_PAGE_BYTES + 100] ^= 1;
    ck_assert_int_eq(try_open(&base_digest), 0);
}
END_TEST

/* A fresh sparse file in the folder as a disk file. */
static struct disk_file *
real_file(const struct temp_dir *dir, const char *name, off_t size)
{
    CLEANUP_FREE char *path = temp_dir_path(dir, name);
    struct disk_file *real = NULL;
    const int fd = fd_open_at(AT_FDCWD, path, O_RDWR | O_CREAT, 0600, NULL);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(ftruncate(fd, size), 0);
    ck_assert_int_eq(disk_file_new(fd, &real, NULL), 0);
    return real;
}

static int run(const struct temp_dir *dir, const char *command)
{
    CLEANUP_FREE char *whole = NULL;
    ck_assert_int_gt(asprintf(&whole, "cd '%s' && %s", dir->path, command), 0);
    return system(whole);
}

START_TEST(an_exported_disk_is_the_same_through_qemu_img)
{
    struct temp_dir dir;
    struct random random;
    temp_dir_init(&dir);
    random_seed(&random, seed);
    for (unsigned i = 0; i < 40; i++) {
        ck_assert_int_eq(i % 4 == 0 ? clear_some(&random) : write_some(&random, 30), 0);
    }
    struct disk_file *raw = real_file(&dir, "out.raw", (off_t)DISK_BYTES);

    ck_assert_int_eq(disk_export(disk, raw, NULL), 0);

    uint64_t values[USED_SECTORS];
    values_read(values);
    for (unsigned i = 0; i < USED_SECTORS; i++) {
        uint8_t data[SECTOR];
        uint64_t tag;
        ck_assert_int_eq(disk_file_read(raw, WINDOW_AT + i * SECTOR, data, SECTOR), 0);
        memcpy(&tag, data, sizeof(tag));
        ck_assert_uint_eq(tag, values[i]);
    }
    disk_file_free(raw);
    if (run(&dir, "command -v qemu-img >/dev/null") == 0) {
        ck_assert_int_eq(run(&dir,
                             "qemu-img convert -f raw -O qcow2 out.raw out.qcow2 && "
                             "qemu-img check -q out.qcow2 && "
                             "qemu-img convert -f qcow2 -O raw out.qcow2 back.raw && "
                             "cmp out.raw back.raw"),
                         0);
    }
    temp_dir_fini(&dir);
}
END_TEST

START_TEST(a_real_file_keeps_what_was_flushed)
{
    struct temp_dir dir;
    struct virtual_disk *real = NULL;
    const struct digest none = {{0}};
    uint8_t data[3 * SECTOR];
    uint8_t back[3 * SECTOR];
    const struct iovec to = {.iov_base = data, .iov_len = sizeof(data)};
    const struct iovec from = {.iov_base = back, .iov_len = sizeof(back)};
    const uint64_t size = 64 * BLOCK;
    temp_dir_init(&dir);
    struct disk_file *over = real_file(&dir, "over", (off_t)disk_overlay_file_size(size));
    ck_assert_int_eq(disk_overlay_create(over, size, 0, &none, NULL), 0);
    ck_assert_int_eq(disk_overlay_open(over, NULL, &none, &real, NULL), 0);
    memset(data, 0x77, sizeof(data));
    ck_assert_int_eq(disk_write(real, 5 * SECTOR, &to, 1, sizeof(data)), 0);
    ck_assert_int_eq(disk_zero(real, 6 * SECTOR, SECTOR), 0);
    ck_assert_int_eq(disk_flush(real), 0);
    disk_free(real);

    over = real_file(&dir, "over", (off_t)disk_overlay_file_size(size));
    ck_assert_int_eq(disk_overlay_open(over, NULL, &none, &real, NULL), 0);
    ck_assert_int_eq(disk_read(real, 5 * SECTOR, &from, 1, sizeof(back)), 0);

    memset(data + SECTOR, 0, SECTOR);
    ck_assert_mem_eq(back, data, sizeof(data));
    disk_free(real);
    temp_dir_fini(&dir);
}
END_TEST

/* A real file that counts its reads and writes. */
struct counted_file {
    struct disk_file file;
    struct disk_file *real;
    unsigned reads, writes;
};

static int counted_read(struct disk_file *base,
                        uint64_t offset,
                        const struct iovec *pieces,
                        unsigned piece_count,
                        uint64_t size)
{
    struct counted_file *counted = (struct counted_file *)base;
    counted->reads++;
    return counted->real->ops->read(counted->real, offset, pieces, piece_count, size);
}

static int counted_write(struct disk_file *base,
                         uint64_t offset,
                         const struct iovec *pieces,
                         unsigned piece_count,
                         uint64_t size)
{
    struct counted_file *counted = (struct counted_file *)base;
    counted->writes++;
    return counted->real->ops->write(counted->real, offset, pieces, piece_count, size);
}

static int counted_sync(struct disk_file *base)
{
    struct counted_file *counted = (struct counted_file *)base;
    return counted->real->ops->sync(counted->real);
}

static void counted_free(struct disk_file *base)
{
    disk_file_free(((struct counted_file *)base)->real);
}

static uint64_t resident_bytes(void)
{
    unsigned long all = 0;
    unsigned long resident = 0;
    FILE *statm = fopen("/proc/self/statm", "re");
    ck_assert_ptr_nonnull(statm);
    ck_assert_int_eq(fscanf(statm, "%lu %lu", &all, &resident),
                     2); /* NOLINT(cert-err34-c) */
    (void)fclose(statm);
    return (uint64_t)resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

START_TEST(a_big_disk_costs_few_calls_and_hardly_any_memory)
{
    static const struct disk_file_ops ops = {.read = counted_read,
                                             .write = counted_write,
                                             .sync = counted_sync,
                                             .free = counted_free};
    const uint64_t size = UINT64_C(512) << 30;
    const uint64_t pages = size / BLOCK / PAGE_BLOCKS + 1;
    const uint64_t last = size - BLOCK;
    const struct digest none = {{0}};
    struct temp_dir dir;
    struct virtual_disk *big = NULL;
    uint8_t data[BLOCK] = {1};
    const struct iovec piece = {.iov_base = data, .iov_len = sizeof(data)};
    temp_dir_init(&dir);
    struct counted_file counted = {
        .file = {&ops, disk_overlay_file_size(size)},
        .real = real_file(&dir, "over", (off_t)disk_overlay_file_size(size))};

    ck_assert_int_eq(disk_overlay_create(&counted.file, size, 0, &none, NULL), 0);
    const uint64_t before = resident_bytes();
    ck_assert_int_eq(disk_overlay_open(&counted.file, NULL, &none, &big, NULL), 0);
    const uint64_t after = resident_bytes();

    ck_assert_uint_lt(counted.writes, pages / 16);
    ck_assert_uint_lt(counted.reads, pages / 16);
    ck_assert_uint_lt(after - before, pages * OVERLAY_PAGE_BYTES / 4);

    /* Every page is there: the last one, too, and those at the seams of what is read. */
    for (uint64_t at = last; at < size; at -= PAGE_BLOCKS * BLOCK) {
        ck_assert_int_eq(disk_write(big, at, &piece, 1, sizeof(data)), 0);
    }
    ck_assert_int_eq(disk_flush(big), 0);
    disk_free(big);
    counted.real = real_file(&dir, "over", (off_t)disk_overlay_file_size(size));
    ck_assert_int_eq(disk_overlay_open(&counted.file, NULL, &none, &big, NULL), 0);
    for (uint64_t at = last; at < size; at -= PAGE_BLOCKS * BLOCK) {
        ck_assert(disk_overlay_holds(big, at) && !disk_overlay_holds(big, at - BLOCK));
    }
    disk_free(big);
    temp_dir_fini(&dir);
}
END_TEST

int main(int argc, char **argv)
{
    if (argc > 1 && parse_u64(argv[1], &cycles, NULL) != 0) {
        return 2;
    }
    if (argc > 2 && parse_u64(argv[2], &seed, NULL) != 0) {
        return 2;
    }
    Suite *suite = suite_create("disk_overlay");
    TCase *tests = tcase_create("disk_overlay");
    tcase_set_timeout(tests, argc > 1 ? 0 : 110);
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, crashes_lose_only_what_was_not_flushed);
    tcase_add_test(tests, a_disk_that_fails_or_fills_up_says_so_and_loses_nothing_else);
    tcase_add_test(tests, after_a_failed_sync_nothing_counts_as_flushed_any_more);
    tcase_add_loop_test(tests, a_flush_that_finds_no_room_is_made_another_time, 0, 2);
    tcase_add_test(tests, a_sync_that_finds_no_room_is_not_made_another_time);
    tcase_add_test(tests, an_aligned_write_copies_nothing_and_syncs_nothing);
    tcase_add_test(tests, ranges_outside_the_disk_are_refused);
    tcase_add_test(tests, what_is_no_overlay_is_refused);
    tcase_add_test(tests,
                   one_damaged_copy_of_a_bitmap_page_is_enough_and_two_are_too_many);
    tcase_add_test(tests, an_exported_disk_is_the_same_through_qemu_img);
    tcase_add_test(tests, a_real_file_keeps_what_was_flushed);
    tcase_add_test(tests, a_big_disk_costs_few_calls_and_hardly_any_memory);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
