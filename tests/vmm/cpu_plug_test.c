/* Goal: the guest learns of each CPU that comes once, and whatever it does to the
 * registers, the set of its CPUs is the machine's. Method: the device alone; accesses of
 * every width at every offset, and far outside. */
#include "support/test_main.h"
#include "vmm/cpu_plug.h"
#include "vmm/machine_layout.h"

#include <check.h>

#include <string.h>

static struct cpu_plug *plug;

static void setup(void)
{
    ck_assert_int_eq(cpu_plug_new(20, 2, &plug), 0);
}

static void teardown(void)
{
    device_free(&plug->device);
}

static uint64_t get(uint64_t offset, unsigned size)
{
    uint64_t value = 0;
    device_read(&plug->device, 0, offset, &value, size);
    return value;
}

static void set(uint64_t offset, uint64_t value, unsigned size)
{
    device_write(&plug->device, 0, offset, &value, size);
}

START_TEST(a_guest_sees_those_that_are_there_and_no_news)
{
    ck_assert_uint_eq(get(CPU_PLUG_PRESENT, 8), 3);
    ck_assert_uint_eq(get(CPU_PLUG_COME, 8), 0);
}
END_TEST

START_TEST(a_cpu_that_comes_is_news_once_and_stays)
{
    cpu_plug_add(plug, 2, true);
    cpu_plug_add(plug, 19, true);

    ck_assert_uint_eq(get(CPU_PLUG_PRESENT, 8), 0x80007);
    ck_assert_uint_eq(get(CPU_PLUG_COME, 1), 0x4);
    ck_assert_uint_eq(get(CPU_PLUG_COME, 1), 0);
    ck_assert_uint_eq(get(CPU_PLUG_COME + 2, 1), 0x8); /* another byte keeps its news */
    ck_assert_uint_eq(get(CPU_PLUG_COME, 8), 0);
    ck_assert_uint_eq(cpu_plug_present(plug), 0x80007);
}
END_TEST

START_TEST(a_cpu_that_is_there_from_the_beginning_is_no_news)
{
    cpu_plug_add(plug, 2, false);

    ck_assert_uint_eq(get(CPU_PLUG_PRESENT, 1), 0x7);
    ck_assert_uint_eq(get(CPU_PLUG_COME, 8), 0);
}
END_TEST

START_TEST(the_last_cpu_of_the_largest_machine_has_a_bit)
{
    device_free(&plug->device);
    ck_assert_uint_le(MACHINE_CPUS_MAX, CPU_PLUG_MAX);
    ck_assert_uint_eq(CPU_PLUG_COME + CPU_PLUG_MAX / 8, CPU_PLUG_SIZE);
    ck_assert_int_eq(cpu_plug_new(CPU_PLUG_MAX, CPU_PLUG_MAX - 1, &plug), 0);

    cpu_plug_add(plug, CPU_PLUG_MAX - 1, true);

    ck_assert_uint_eq(get(CPU_PLUG_PRESENT, 8), UINT64_MAX);
    ck_assert_uint_eq(get(CPU_PLUG_COME + 7, 1), 0x80);
}
END_TEST

/* _i: the width. */
START_TEST(an_access_of_any_width_at_any_offset_sees_bytes_and_changes_no_set)
{
    const unsigned size = (unsigned)_i;
    for (uint64_t offset = 0; offset <= CPU_PLUG_SIZE + 8; offset++) {
        uint8_t expected[CPU_PLUG_SIZE + 2 * DEVICE_ACCESS_MAX + 8];
        uint8_t seen[DEVICE_ACCESS_MAX];
        memset(expected, 0xff, sizeof(expected));
        memset(expected, 0, CPU_PLUG_SIZE);
        expected[0] = 3;
        expected[2] = 8;
        expected[CPU_PLUG_COME + 2] = 8;
        cpu_plug_add(plug, 19, true);

        set(offset, UINT64_MAX, size);
        set(offset, 0, size);
        device_read(&plug->device, 0, offset, seen, size);

        ck_assert_int_eq(memcmp(seen, expected + offset, size), 0);
        ck_assert_uint_eq(cpu_plug_present(plug), 0x80003);
        (void)get(CPU_PLUG_COME, 8);
    }
}
END_TEST

START_TEST(an_access_far_outside_reads_ones)
{
    static const uint64_t far[] = {CPU_PLUG_SIZE, UINT64_C(1) << 32, UINT64_MAX - 8,
                                   UINT64_MAX / 8 + 1};
    cpu_plug_add(plug, 19, true);

    set(far[_i], 0, 8);

    ck_assert_uint_eq(get(far[_i], 8), UINT64_MAX);
    ck_assert_uint_eq(get(CPU_PLUG_COME, 8), 0x80000);
}
END_TEST

START_TEST(a_reset_keeps_cpus_and_forgets_news)
{
    cpu_plug_add(plug, 5, true);

    device_reset(&plug->device);

    ck_assert_uint_eq(get(CPU_PLUG_PRESENT, 8), 0x23);
    ck_assert_uint_eq(get(CPU_PLUG_COME, 8), 0);
}
END_TEST

START_TEST(a_saved_set_comes_back_with_its_news)
{
    struct bytes_writer writer;
    struct bytes_reader reader;
    bytes_writer_init(&writer, 1024);
    cpu_plug_add(plug, 5, true);
    cpu_plug_add(plug, 6, false);
    device_save(&plug->device, &writer);
    device_free(&plug->device);
    ck_assert_int_eq(cpu_plug_new(20, 4, &plug), 0);

    bytes_reader_init(&reader, writer.data, writer.size);
    ck_assert_int_eq(device_restore(&plug->device, &reader, NULL), 0);

    ck_assert_uint_eq(get(CPU_PLUG_PRESENT, 8), 0x63);
    ck_assert_uint_eq(get(CPU_PLUG_COME, 8), 0x20);
    bytes_writer_fini(&writer);
}
END_TEST

struct damage_row {
    uint64_t present;
    uint64_t come;
};

static const struct damage_row damages[] = {
    {0, 0},                     /* the first CPU is always there */
    {UINT64_C(1) << 20 | 1, 0}, /* a CPU that cannot be */
    {UINT64_MAX, 0},            /* the same */
    {3, 4},                     /* news of what is not there */
    {3, UINT64_C(1) << 63},     /* the same */
};

START_TEST(a_set_that_cannot_be_is_refused_and_changes_nothing)
{
    struct bytes_writer writer;
    struct bytes_reader reader;
    struct err err = {0};
    bytes_writer_init(&writer, 1024);
    bytes_write_u64(&writer, damages[_i].present);
    bytes_write_u64(&writer, damages[_i].come);
    bytes_reader_init(&reader, writer.data, writer.size);

    ck_assert_int_eq(plug->device.ops->restore(&plug->device, 1, &reader, &err),
                     BERTH_ECORRUPT);

    ck_assert_ptr_nonnull(strstr(err.text, "plugged CPUs: "));
    ck_assert_uint_eq(cpu_plug_present(plug), 3);
    bytes_writer_fini(&writer);
}
END_TEST

/* _i: bytes of a state that has 16. */
START_TEST(a_state_of_another_size_is_refused)
{
    static const uint8_t bytes[18] = {1};
    struct bytes_reader reader;
    if (_i == 16) {
        return;
    }
    bytes_reader_init(&reader, bytes, (size_t)_i);

    ck_assert_int_eq(plug->device.ops->restore(&plug->device, 1, &reader, NULL),
                     BERTH_ECORRUPT);
    ck_assert_uint_eq(cpu_plug_present(plug), 3);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("cpu_plug");
    TCase *tests = tcase_create("cpu_plug");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, a_guest_sees_those_that_are_there_and_no_news);
    tcase_add_test(tests, a_cpu_that_comes_is_news_once_and_stays);
    tcase_add_test(tests, a_cpu_that_is_there_from_the_beginning_is_no_news);
    tcase_add_test(tests, the_last_cpu_of_the_largest_machine_has_a_bit);
    tcase_add_loop_test(
        tests, an_access_of_any_width_at_any_offset_sees_bytes_and_changes_no_set, 1,
        DEVICE_ACCESS_MAX + 1);
    tcase_add_loop_test(tests, an_access_far_outside_reads_ones, 0, 4);
    tcase_add_test(tests, a_reset_keeps_cpus_and_forgets_news);
    tcase_add_test(tests, a_saved_set_comes_back_with_its_news);
    tcase_add_loop_test(tests, a_set_that_cannot_be_is_refused_and_changes_nothing, 0,
                        sizeof(damages) / sizeof(damages[0]));
    tcase_add_loop_test(tests, a_state_of_another_size_is_refused, 0, 18);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
