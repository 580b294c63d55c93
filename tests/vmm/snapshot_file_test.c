/* Goal: only a file that is whole, and byte by byte as it was written in header and
 * state, is taken for a snapshot. Method: a file in memory, cut at every place that
 * matters and with every bit of its header turned. */
#include "base/cleanup.h"
#include "support/test_main.h"
#include "vmm/snapshot_file.h"

#include <check.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define RAM_BYTES (UINT64_C(4) << 20)

static const char state[] = "the state of a machine";
static int fd;

static void setup(void)
{
    fd = memfd_create("snapshot", MFD_CLOEXEC);
    ck_assert_int_eq(snapshot_file_begin(fd, NULL), 0);
    ck_assert_int_eq(pwrite(fd, "ram", 3, SNAPSHOT_RAM_AT), 3);
    ck_assert_int_eq(snapshot_file_finish(fd, RAM_BYTES, state, sizeof(state), NULL), 0);
}

static void teardown(void)
{
    (void)close(fd);
}

static int opened(struct err *err)
{
    struct snapshot_file file;
    return snapshot_file_open(fd, &file, err);
}

START_TEST(a_snapshot_is_found_again)
{
    struct snapshot_file file;
    uint8_t *read_state = NULL;
    char ram[3];

    ck_assert_int_eq(snapshot_file_open(fd, &file, NULL), 0);
    ck_assert_int_eq(snapshot_file_read_state(fd, &file, &read_state, NULL), 0);

    ck_assert_uint_eq(file.ram_bytes, RAM_BYTES);
    ck_assert_uint_eq(file.state_bytes, sizeof(state));
    ck_assert_mem_eq(read_state, state, sizeof(state));
    ck_assert_int_eq(pread(fd, ram, 3, SNAPSHOT_RAM_AT), 3);
    ck_assert_mem_eq(ram, "ram", 3);
    free(read_state);
}
END_TEST

START_TEST(a_file_cut_anywhere_is_refused)
{
    const off_t end = (off_t)(SNAPSHOT_RAM_AT + RAM_BYTES + sizeof(state));
    struct err err = {0};
    ck_assert_int_eq(ftruncate(fd, end + 1), 0);
    ck_assert_int_eq(opened(&err), BERTH_ECORRUPT);
    ck_assert_str_eq(err.text, "the snapshot is longer than it was written");
    ck_assert_int_eq(ftruncate(fd, end), 0);
    ck_assert_int_eq(opened(&err), 0);
    for (off_t size = end - 1; size >= 0; size -= size > end - 64 ? 1 : 4099) {
        ck_assert_int_eq(ftruncate(fd, size), 0);
        ck_assert_int_eq(opened(&err), BERTH_ECORRUPT);
        ck_assert_str_eq(err.text, "the snapshot is cut short");
    }
}
END_TEST

START_TEST(a_header_with_any_bit_turned_is_refused)
{
    for (unsigned bit = 0; bit < 44 * 8; bit++) {
        uint8_t byte;
        ck_assert_int_eq(pread(fd, &byte, 1, bit / 8), 1);
        byte = (uint8_t)(byte ^ 1u << bit % 8);
        ck_assert_int_eq(pwrite(fd, &byte, 1, bit / 8), 1);

        ck_assert_int_lt(opened(NULL), 0);

        byte = (uint8_t)(byte ^ 1u << bit % 8);
        ck_assert_int_eq(pwrite(fd, &byte, 1, bit / 8), 1);
    }
    ck_assert_int_eq(opened(NULL), 0);
}
END_TEST

START_TEST(a_save_that_was_cut_off_leaves_no_snapshot)
{
    const uint8_t none[4096] = {0};
    struct err err = {0};
    ck_assert_int_eq(pwrite(fd, none, sizeof(none), 0), (int)sizeof(none));

    ck_assert_int_eq(opened(&err), BERTH_EINVALID);

    ck_assert_str_eq(err.text, "this is no snapshot, or one that was not finished");
}
END_TEST

static int begun(int flags)
{
    char path[64];
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    CLEANUP_FD int other = open(path, flags | O_CLOEXEC);
    ck_assert_int_ge(other, 0);
    ck_assert_int_eq(ftruncate(fd, 0), 0);
    return snapshot_file_begin(other, NULL);
}

START_TEST(only_a_new_file_that_can_be_written_anywhere_is_begun_with)
{
    int pipes[2];
    ck_assert_int_eq(pipe(pipes), 0);

    ck_assert_int_eq(snapshot_file_begin(fd, NULL), BERTH_EINVALID); /* not empty */
    ck_assert_int_eq(begun(O_RDONLY), -EBADF);
    ck_assert_int_eq(begun(O_RDWR | O_APPEND), BERTH_EINVALID);
    ck_assert_int_eq(snapshot_file_begin(pipes[1], NULL), BERTH_EINVALID);
    ck_assert_int_eq(begun(O_WRONLY), 0);

    ck_assert_int_eq(opened(NULL), BERTH_EINVALID); /* it is none yet */
    (void)close(pipes[0]);
    (void)close(pipes[1]);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("snapshot_file");
    TCase *tests = tcase_create("snapshot_file");
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, a_snapshot_is_found_again);
    tcase_add_test(tests, a_file_cut_anywhere_is_refused);
    tcase_add_test(tests, a_header_with_any_bit_turned_is_refused);
    tcase_add_test(tests, a_save_that_was_cut_off_leaves_no_snapshot);
    tcase_add_test(tests, only_a_new_file_that_can_be_written_anywhere_is_begun_with);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
