/* Goal: what KVM counts is read as KVM describes it, and what makes no sense is refused.
 * Method: files as KVM has them, and with a /dev/kvm KVM's own. */
#include "base/cleanup.h"
#include "support/test_main.h"
#include "vmm/kvm_calls.h"
#include "vmm/kvm_stats.h"

#include <check.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define NAME_BYTES 48u

/* A struct kvm_stats_desc with a name of that size. */
struct row {
    uint32_t flags;
    int16_t exponent;
    uint16_t size;
    uint32_t offset;
    uint32_t bucket_size;
    char name[NAME_BYTES];
};
_Static_assert(sizeof(struct row) == sizeof(struct kvm_stats_desc) + NAME_BYTES, "KVM's");

static struct {
    struct kvm_stats_header header;
    struct row rows[3];
    uint64_t values[4];
} file;

static struct kvm_stats stats;

static void setup(void)
{
    memset(&file, 0, sizeof(file));
    memset(&stats, 0, sizeof(stats));
    file.header =
        (struct kvm_stats_header){.name_size = NAME_BYTES,
                                  .num_desc = 3,
                                  .desc_offset = offsetof(__typeof__(file), rows),
                                  .data_offset = offsetof(__typeof__(file), values)};
    file.rows[0] = (struct row){.size = 1, .offset = 0, .name = "exits"};
    file.rows[1] = (struct row){.flags = KVM_STATS_TYPE_LINEAR_HIST |
                                         KVM_STATS_UNIT_SECONDS | KVM_STATS_BASE_POW10,
                                .exponent = -9,
                                .size = 2,
                                .offset = 16,
                                .bucket_size = 100,
                                .name = "waits"};
    file.rows[2] = (struct row){.flags = KVM_STATS_TYPE_INSTANT | KVM_STATS_UNIT_BOOLEAN,
                                .size = 1,
                                .offset = 8,
                                .bucket_size = 7,
                                .name = "blocking"};
    memcpy(file.values, (const uint64_t[]){11, 1, 22, 33}, sizeof(file.values));
}

static int read_it(size_t size)
{
    struct err err = {0};
    const int fd = memfd_create("stats", MFD_CLOEXEC);
    ck_assert_int_eq(write(fd, &file, size), (ssize_t)size);
    const int r = kvm_stats_read(fd, &stats, &err);
    ck_assert(r == 0 || err.text[0] != '\0');
    (void)close(fd);
    return r;
}

START_TEST(numbers_have_their_names_units_and_values)
{
    ck_assert_int_eq(read_it(sizeof(file)), 0);

    ck_assert_uint_eq(stats.count, 3);
    ck_assert_str_eq(stats.stats[0].name, "exits");
    ck_assert_uint_eq(stats.values[stats.stats[0].first], 11);
    ck_assert_uint_eq(stats.stats[0].type, KVM_STATS_TYPE_CUMULATIVE);
    ck_assert_str_eq(stats.stats[1].name, "waits");
    ck_assert_uint_eq(stats.stats[1].value_count, 2);
    ck_assert_uint_eq(stats.values[stats.stats[1].first], 22);
    ck_assert_uint_eq(stats.values[stats.stats[1].first + 1], 33);
    ck_assert_int_eq(stats.stats[1].exponent, -9);
    ck_assert_uint_eq(stats.stats[1].bucket_size, 100);
    ck_assert_uint_eq(stats.stats[1].unit, KVM_STATS_UNIT_SECONDS);
    ck_assert_uint_eq(stats.stats[2].unit, KVM_STATS_UNIT_BOOLEAN);
    ck_assert_uint_eq(stats.values[stats.stats[2].first], 1);
    ck_assert_uint_eq(stats.stats[2].bucket_size, 0); /* of a histogram alone */
    kvm_stats_fini(&stats);
}
END_TEST

START_TEST(a_name_that_fills_its_place_has_an_end)
{
    file.header.num_desc = 1;
    memset(file.rows[0].name, 'x', NAME_BYTES);
    ck_assert_int_eq(read_it(sizeof(file)), 0);
    ck_assert_uint_eq(strlen(stats.stats[0].name), NAME_BYTES);
    kvm_stats_fini(&stats);
}
END_TEST

START_TEST(no_descriptor_is_no_numbers)
{
    ck_assert_int_eq(kvm_stats_read(-1, &stats, NULL), 0);
    ck_assert_uint_eq(stats.count, 0);
    file.header.num_desc = 0;
    ck_assert_int_eq(read_it(sizeof(file)), 0);
    ck_assert_uint_eq(stats.count, 0);
}
END_TEST

static void long_name(void)
{
    file.header.name_size = 257;
}

static void no_value(void)
{
    file.rows[1].size = 0;
}

static void many_values(void)
{
    file.rows[1].size = KVM_STATS_VALUES_MAX;
    file.rows[1].offset = 8;
}

static void far_value(void)
{
    file.rows[1].offset = UINT32_MAX - 7;
}

static void odd_value(void)
{
    file.rows[1].offset = 4;
}

static void value_past_the_end(void)
{
    file.rows[1].offset = 24;
}

static void no_rows_there(void)
{
    file.header.desc_offset = UINT32_MAX;
}

static void (*const wrongs[])(void) = {long_name,    no_value,  many_values,
                                       far_value,    odd_value, value_past_the_end,
                                       no_rows_there};

START_TEST(what_makes_no_sense_is_refused)
{
    wrongs[_i]();
    ck_assert_int_eq(read_it(sizeof(file)), BERTH_ECORRUPT);
}
END_TEST

START_TEST(so_many_are_read_and_one_more_is_refused)
{
    const unsigned count = KVM_STATS_MAX + (unsigned)_i;
    const int fd = memfd_create("stats", MFD_CLOEXEC);
    file.header.num_desc = count;
    file.header.data_offset =
        (uint32_t)(sizeof(file.header) + count * sizeof(file.rows[0]));
    ck_assert_int_eq(write(fd, &file.header, sizeof(file.header)), sizeof(file.header));
    for (unsigned i = 0; i < count; i++) {
        ck_assert_int_eq(write(fd, &file.rows[0], sizeof(file.rows[0])),
                         sizeof(file.rows[0]));
    }
    ck_assert_int_eq(write(fd, file.values, sizeof(file.values)), sizeof(file.values));

    ck_assert_int_eq(kvm_stats_read(fd, &stats, NULL), _i == 0 ? 0 : BERTH_ECORRUPT);

    ck_assert_uint_eq(stats.count, _i == 0 ? count : 0);
    kvm_stats_fini(&stats);
    (void)close(fd);
}
END_TEST

START_TEST(a_file_that_is_cut_is_refused)
{
    for (size_t size = 0; size < sizeof(file); size++) {
        ck_assert_int_eq(read_it(size), BERTH_ECORRUPT);
    }
}
END_TEST

START_TEST(kvms_own_are_read)
{
    const int kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (kvm_fd < 0) {
        (void)puts("no /dev/kvm: its part is not tested");
        return;
    }
    const int vm_fd = kvm_call_number(kvm_fd, KVM_CREATE_VM, 0, "make a VM", NULL);
    const int fd = kvm_stats_open(vm_fd);
    ck_assert_int_eq(kvm_stats_open(kvm_fd), -1); /* that is no VM */
    if (fd < 0) {
        (void)puts("this KVM has no numbers: its part is not tested");
    } else {
        struct err err = {0};
        ck_assert_int_eq(fcntl(fd, F_GETFD), FD_CLOEXEC);
        ck_assert_msg(kvm_stats_read(fd, &stats, &err) == 0, "%s", err.text);
        ck_assert_uint_gt(stats.count, 0);
        for (unsigned i = 0; i < stats.count; i++) {
            ck_assert_uint_gt(strlen(stats.stats[i].name), 0);
        }
        kvm_stats_fini(&stats);
        (void)close(fd);
    }
    (void)close(vm_fd);
    (void)close(kvm_fd);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("kvm_stats");
    TCase *tests = tcase_create("kvm_stats");
    tcase_add_checked_fixture(tests, setup, NULL);
    tcase_add_test(tests, numbers_have_their_names_units_and_values);
    tcase_add_test(tests, a_name_that_fills_its_place_has_an_end);
    tcase_add_test(tests, no_descriptor_is_no_numbers);
    tcase_add_loop_test(tests, what_makes_no_sense_is_refused, 0,
                        (int)ARRAY_COUNT(wrongs));
    tcase_add_loop_test(tests, so_many_are_read_and_one_more_is_refused, 0, 2);
    tcase_add_test(tests, a_file_that_is_cut_is_refused);
    tcase_add_test(tests, kvms_own_are_read);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
