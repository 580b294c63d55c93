/* Goal: a guest finds each device on the bus by both ways into configuration space, and
 * a BAR is where the guest puts it, or nowhere. Method: a virtio-rng function on a bus
 * without a KVM behind it; doorbells and messages are tried with a real guest. */
#include "support/corpus_seed.h"
#include "support/test_main.h"
#include "vmm/machine_layout.h"
#include "vmm/pci_bus.h"
#include "vmm/virtio_random.h"

#include <check.h>

#include <stdlib.h>
#include <string.h>

static struct io_bus bus;
static struct poller *poller;
static struct guest_memory memory;
static struct pci_bus *pci;
static struct virtio_pci *function;

static void setup(void)
{
    struct virtio_device *random;
    const struct io_range ecam = {
        .space = IO_MEMORY, .start = ECAM_AT, .size = ECAM_SIZE};
    struct io_range range = ecam;
    io_bus_init(&bus);
    guest_memory_init(&memory);
    ck_assert_int_eq(poller_new(&poller, NULL), 0);
    ck_assert_int_eq(pci_bus_new(&bus, -1, poller, &pci), 0);
    range.device = &pci->device;
    range.region = PCI_BUS_ECAM;
    ck_assert_int_eq(io_bus_add(&bus, &range, NULL), 0);
    range =
        (struct io_range){IO_PORTS, PCI_PORT, PCI_PORT_SIZE, &pci->device, PCI_BUS_PORTS};
    ck_assert_int_eq(io_bus_add(&bus, &range, NULL), 0);
    const struct virtio_place place = {&memory, poller};
    ck_assert_int_eq(virtio_random_new(&place, &random), 0);
    ck_assert_int_eq(virtio_pci_new(random, "rng", &function), 0);
    ck_assert_int_eq(pci_bus_plug(pci, 1, function, NULL), 0);
    ck_assert_int_eq(device_init(&function->device, NULL), 0);
    pci_bus_place_all(pci);
}

static void teardown(void)
{
    device_free(&function->device);
    device_free(&pci->device);
    poller_free(poller);
    guest_memory_fini(&memory);
    io_bus_fini(&bus);
}

static uint64_t ecam_at(unsigned device, unsigned function_number, unsigned offset)
{
    return ECAM_AT + (device << 15 | function_number << 12 | offset);
}

static uint32_t memory_read(uint64_t address)
{
    uint32_t value;
    io_bus_read(&bus, IO_MEMORY, address, &value, sizeof(value));
    return value;
}

static uint32_t port_read(unsigned device, unsigned offset)
{
    const uint32_t address = 0x80000000u | device << 11 | offset;
    uint32_t value;
    io_bus_write(&bus, IO_PORTS, PCI_PORT, &address, sizeof(address));
    io_bus_read(&bus, IO_PORTS, PCI_PORT + 4, &value, sizeof(value));
    return value;
}

START_TEST(both_ways_lead_to_the_same_functions)
{
    ck_assert_uint_eq(memory_read(ecam_at(0, 0, 0)), 0x00081b36);
    ck_assert_uint_eq(memory_read(ecam_at(1, 0, 0)), 0x10441af4); /* virtio-rng */
    ck_assert_uint_eq(memory_read(ecam_at(2, 0, 0)), UINT32_MAX);
    ck_assert_uint_eq(memory_read(ecam_at(1, 1, 0)), UINT32_MAX);

    for (unsigned device = 0; device < 3; device++) {
        ck_assert_uint_eq(port_read(device, 0), memory_read(ecam_at(device, 0, 0)));
        ck_assert_uint_eq(port_read(device, 8), memory_read(ecam_at(device, 0, 8)));
    }
}
END_TEST

START_TEST(the_ports_are_shut_without_the_enable_bit_and_on_other_buses)
{
    static const uint32_t shut[] = {0x00000800, 0x80010800};
    uint32_t value;

    io_bus_write(&bus, IO_PORTS, PCI_PORT, &shut[_i], 4);
    io_bus_read(&bus, IO_PORTS, PCI_PORT + 4, &value, 4);

    ck_assert_uint_eq(value, UINT32_MAX);
}
END_TEST

START_TEST(the_function_answers_where_the_guest_puts_its_bar)
{
    const uint64_t bar = ecam_at(1, 0, 0x10);
    const uint32_t elsewhere = (uint32_t)PCI_WINDOW_AT + 0x10000000;
    uint32_t command = memory_read(ecam_at(1, 0, 4));
    ck_assert_uint_eq(memory_read(bar), PCI_WINDOW_AT);
    ck_assert_uint_ne(memory_read(PCI_WINDOW_AT), UINT32_MAX);

    io_bus_write(&bus, IO_MEMORY, bar, &elsewhere, 4);
    ck_assert_uint_eq(memory_read(PCI_WINDOW_AT), UINT32_MAX);
    ck_assert_uint_ne(memory_read(elsewhere), UINT32_MAX);

    command &= ~2u; /* memory is not decoded */
    io_bus_write(&bus, IO_MEMORY, ecam_at(1, 0, 4), &command, 2);
    ck_assert_uint_eq(memory_read(elsewhere), UINT32_MAX);
}
END_TEST

START_TEST(a_bar_on_top_of_something_else_is_not_seen_and_harms_nothing)
{
    const uint32_t askew = (uint32_t)ECAM_AT;
    const uint32_t home = (uint32_t)PCI_WINDOW_AT;

    io_bus_write(&bus, IO_MEMORY, ecam_at(1, 0, 0x10), &askew, 4);

    ck_assert_uint_eq(memory_read(ecam_at(0, 0, 0)), 0x00081b36);
    io_bus_write(&bus, IO_MEMORY, ecam_at(1, 0, 0x10), &home, 4);
    ck_assert_uint_ne(memory_read(PCI_WINDOW_AT), UINT32_MAX);
}
END_TEST

START_TEST(after_a_reset_the_bars_are_placed_again)
{
    device_reset(&function->device);
    ck_assert_uint_eq(memory_read(PCI_WINDOW_AT), UINT32_MAX);

    pci_bus_place_all(pci);

    ck_assert_uint_ne(memory_read(PCI_WINDOW_AT), UINT32_MAX);
}
END_TEST

/* What a machine of before there were slots has saved of its bus. */
START_TEST(a_guest_of_before_knows_of_no_slots_until_it_begins_anew)
{
    struct bytes_writer writer;
    struct bytes_reader reader;
    bytes_writer_init(&writer, 4096);
    bytes_write_text(&writer, "pci-bus");
    bytes_write_text(&writer, "pci");
    bytes_write_u16(&writer, 1);
    bytes_write_u32(&writer, 0x80000800);
    pci_function_save(&pci->bridge, &writer);
    ck_assert(pci_bus_can_plug(pci));

    bytes_reader_init(&reader, writer.data, writer.size);
    ck_assert_int_eq(device_restore(&pci->device, &reader, NULL), 0);

    bytes_writer_fini(&writer);
    ck_assert_uint_eq(pci->port_address, 0x80000800);
    ck_assert(!pci_bus_can_plug(pci));
    device_reset(&pci->device);
    ck_assert(pci_bus_can_plug(pci));
}
END_TEST

START_TEST(a_slot_is_empty_again_when_its_device_has_left)
{
    struct virtio_device *random;
    struct virtio_pci *other;
    const struct virtio_place place = {&memory, poller};
    ck_assert_uint_eq(pci_bus_free_slot(pci, false), 2);
    for (unsigned i = 0; i < 600; i++) { /* more vectors than there are in all */
        ck_assert_uint_eq(pci_bus_free_slot(pci, true), PCI_PLUG_FIRST);
        ck_assert_int_eq(virtio_random_new(&place, &random), 0);
        ck_assert_int_eq(virtio_pci_new(random, "come", &other), 0);
        ck_assert_int_eq(device_init(&other->device, NULL), 0);
        ck_assert_int_eq(pci_bus_plug(pci, PCI_PLUG_FIRST, other, NULL), 0);
        pci_bus_place(pci, PCI_PLUG_FIRST);
        pci_bus_show(pci, PCI_PLUG_FIRST, true);
        ck_assert_uint_eq(port_read(PCI_PLUG_FIRST, 0), 0x10441af4);
        const uint64_t bar = PCI_WINDOW_AT + 23 * (uint64_t)VIRTIO_PCI_BAR_BYTES;
        ck_assert_uint_ne(memory_read(bar), UINT32_MAX);

        pci_bus_leave(pci, PCI_PLUG_FIRST);
        ck_assert_uint_eq(port_read(PCI_PLUG_FIRST, 0), UINT32_MAX);
        device_reset(&other->device);
        pci_bus_unplug(pci, PCI_PLUG_FIRST);

        ck_assert_uint_eq(port_read(PCI_PLUG_FIRST, 0), UINT32_MAX);
        ck_assert_uint_eq(memory_read(bar), UINT32_MAX);
        device_free(&other->device);
    }
    ck_assert_uint_eq(pci_bus_free_slot(pci, false), 2);
}
END_TEST

/* Firmware that looks for functions, sizes a BAR and moves it, for the fuzzer to begin
 * with: its steps are what, how wide (less one), where (four), two of a value. */
#define STEP(what, width, where, value)                                           \
    {                                                                             \
        what, (width)-1, (where)&0xff, (where) >> 8 & 0xff, (where) >> 16 & 0xff, \
            (uint32_t)(where) >> 24, (value)&0xff, (value) >> 8                   \
    }

START_TEST(fuzzing_begins_with_firmware)
{
    enum {
        READ = 0,
        WRITE,
        PORT_ADDRESS,
        PORT_READ,
        PORT_WRITE,
        BAR_READ,
        BAR_WRITE,
        BAR_MOVE,
        RESET,
        SAVE
    };
    static const uint8_t steps[][8] = {
        STEP(READ, 4, 0x8000, 0),
        STEP(READ, 4, 0x8008, 0),
        STEP(PORT_ADDRESS, 4, 0x80000800, 0),
        STEP(PORT_READ, 4, 4, 0),
        STEP(PORT_WRITE, 2, 6, 0xffff),
        STEP(WRITE, 2, 0x8004, 0),
        STEP(WRITE, 4, 0x8010, 0xffff),
        STEP(READ, 4, 0x8010, 0),
        STEP(BAR_MOVE, 1, 0xd0000000, 0),
        STEP(WRITE, 2, 0x8004, 2),
        STEP(BAR_READ, 4, 0, 0),
        STEP(BAR_WRITE, 1, 20, 1),
        STEP(BAR_MOVE, 2, 0xd0000000, 0),
        STEP(BAR_MOVE, 3, 0xe0000000, 0),
        STEP(BAR_MOVE, 3, 0, 0),
        STEP(SAVE, 1, 0, 0),
        STEP(WRITE, 2, 0x10042, 0x8000),
        STEP(READ, 8, 0x80fe, 0),
        STEP(RESET, 1, 0, 0),
        STEP(READ, 4, 0x8010, 0),
    };
    uint8_t *seed = NULL;
    size_t seed_size = 0;

    corpus_seed("vmm_pci_config", "firmware", steps, sizeof(steps), &seed, &seed_size);

    ck_assert_uint_eq(seed_size, sizeof(steps));
    ck_assert_mem_eq(seed, steps, sizeof(steps));
    free(seed);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("pci_bus");
    TCase *tests = tcase_create("pci_bus");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, both_ways_lead_to_the_same_functions);
    tcase_add_loop_test(
        tests, the_ports_are_shut_without_the_enable_bit_and_on_other_buses, 0, 2);
    tcase_add_test(tests, the_function_answers_where_the_guest_puts_its_bar);
    tcase_add_test(tests, a_bar_on_top_of_something_else_is_not_seen_and_harms_nothing);
    tcase_add_test(tests, after_a_reset_the_bars_are_placed_again);
    tcase_add_test(tests, a_guest_of_before_knows_of_no_slots_until_it_begins_anew);
    tcase_add_test(tests, a_slot_is_empty_again_when_its_device_has_left);
    tcase_add_test(tests, fuzzing_begins_with_firmware);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
