/* Goal: every access reaches the one device whose range holds it whole, with the offset
 * in the range, and nothing else is reached. */
#include "support/test_main.h"
#include "vmm/io_bus.h"

#include <check.h>

#include <stdlib.h>
#include <string.h>

struct probe {
    struct device device;
    unsigned region;
    uint64_t offset;
    unsigned size;
    unsigned accesses;
};

static void probe_read(struct device *device,
                       unsigned region,
                       uint64_t offset,
                       void *ret_data,
                       unsigned size)
{
    struct probe *probe = (struct probe *)device;
    probe->region = region;
    probe->offset = offset;
    probe->size = size;
    probe->accesses++;
    memset(ret_data, 0x5a, size);
}

static void probe_write(struct device *device,
                        unsigned region,
                        uint64_t offset,
                        const void *data,
                        unsigned size)
{
    uint8_t ignored[DEVICE_ACCESS_MAX];
    (void)data;
    probe_read(device, region, offset, ignored, size);
}

static const struct device_ops probe_ops = {.kind = "probe",
                                            .state_version = 1,
                                            .read = probe_read,
                                            .write = probe_write};

static struct io_bus bus;
static struct probe probe;

static void setup(void)
{
    io_bus_init(&bus);
    memset(&probe, 0, sizeof(probe));
    device_setup(&probe.device, &probe_ops, "probe");
}

static void teardown(void)
{
    io_bus_fini(&bus);
}

static int add(enum io_space space, uint64_t start, uint64_t size, unsigned region)
{
    const struct io_range range = {space, start, size, &probe.device, region};
    struct err err = {0};
    return io_bus_add(&bus, &range, &err);
}

struct access_row {
    enum io_space space;
    uint64_t address;
    unsigned size;
    bool reaches;
    unsigned region;
    uint64_t offset;
};

static const struct access_row accesses[] = {
    {IO_PORTS, 0x100, 1, true, 1, 0},
    {IO_PORTS, 0x107, 1, true, 1, 7},
    {IO_PORTS, 0x107, 2, false, 0, 0}, /* beyond the end */
    {IO_PORTS, 0x0ff, 1, false, 0, 0},
    {IO_PORTS, 0x0ff, 2, false, 0, 0}, /* into it from below */
    {IO_PORTS, 0x108, 1, true, 2, 0},
    {IO_MEMORY, 0x100, 1, false, 0, 0}, /* the other space */
    {IO_MEMORY, 0x1000, 8, true, 3, 0},
    {IO_MEMORY, UINT64_MAX, 1, true, 4, 0xfff},
    {IO_MEMORY, UINT64_MAX, 4, false, 0, 0},
    {IO_MEMORY, UINT64_MAX - 0xfff, 8, true, 4, 0},
};

START_TEST(an_access_reaches_the_range_that_holds_it_whole)
{
    const struct access_row *row = &accesses[_i];
    uint8_t data[DEVICE_ACCESS_MAX] = {0};
    ck_assert_int_eq(add(IO_MEMORY, UINT64_MAX - 0xfff, 0x1000, 4), 0);
    ck_assert_int_eq(add(IO_PORTS, 0x108, 1, 2), 0);
    ck_assert_int_eq(add(IO_MEMORY, 0x1000, 0x1000, 3), 0);
    ck_assert_int_eq(add(IO_PORTS, 0x100, 8, 1), 0);

    io_bus_read(&bus, row->space, row->address, data, row->size);
    io_bus_write(&bus, row->space, row->address, data, row->size);

    ck_assert_uint_eq(probe.accesses, row->reaches ? 2 : 0);
    ck_assert_uint_eq(probe.region, row->region);
    ck_assert_uint_eq(probe.offset, row->offset);
    for (unsigned i = 0; i < row->size; i++) {
        ck_assert_uint_eq(data[i], row->reaches ? 0x5a : 0xff);
    }
}
END_TEST

struct range_row {
    uint64_t start;
    uint64_t size;
    int code;
};

static const struct range_row ranges[] = {
    {0x2000, 0, BERTH_EINVALID},
    {UINT64_MAX, 2, BERTH_EINVALID},
    {0x1000, 0x1000, BERTH_EEXISTS},
    {0x0fff, 2, BERTH_EEXISTS},
    {0x1fff, 1, BERTH_EEXISTS},
    {0x1800, 0x10, BERTH_EEXISTS},
    {0x0800, 0x4000, BERTH_EEXISTS},
    {0x2000, 1, 0},
    {0x0fff, 1, 0},
    {0, UINT64_MAX, BERTH_EEXISTS},
};

START_TEST(ranges_are_disjoint_and_do_not_wrap)
{
    ck_assert_int_eq(add(IO_MEMORY, 0x1000, 0x1000, 0), 0);

    ck_assert_int_eq(add(IO_MEMORY, ranges[_i].start, ranges[_i].size, 0),
                     ranges[_i].code);
}
END_TEST

START_TEST(the_table_has_a_limit_and_room_again_after_a_removal)
{
    uint8_t byte;
    for (unsigned i = 0; i < IO_RANGES_MAX; i++) {
        ck_assert_int_eq(add(IO_MEMORY, i * UINT64_C(16), 16, i), 0);
    }
    ck_assert_int_eq(add(IO_MEMORY, IO_RANGES_MAX * UINT64_C(16), 16, 0), BERTH_EFULL);

    io_bus_remove(&bus, IO_MEMORY, 33); /* not a start */
    io_bus_remove(&bus, IO_MEMORY, 32);

    io_bus_read(&bus, IO_MEMORY, 40, &byte, 1);
    ck_assert_uint_eq(probe.accesses, 0);
    io_bus_read(&bus, IO_MEMORY, 48, &byte, 1);
    ck_assert_uint_eq(probe.region, 3);
    ck_assert_int_eq(add(IO_MEMORY, 32, 16, 2), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("io_bus");
    TCase *tests = tcase_create("io_bus");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_loop_test(tests, an_access_reaches_the_range_that_holds_it_whole, 0,
                        sizeof(accesses) / sizeof(accesses[0]));
    tcase_add_loop_test(tests, ranges_are_disjoint_and_do_not_wrap, 0,
                        sizeof(ranges) / sizeof(ranges[0]));
    tcase_add_test(tests, the_table_has_a_limit_and_room_again_after_a_removal);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
