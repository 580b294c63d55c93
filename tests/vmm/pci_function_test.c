/* Goal: configuration space answers as the PCI book says and moves BARs only as far as
 * their size allows, whatever is written. */
#include "support/test_main.h"
#include "vmm/pci_function.h"

#include <check.h>

#include <string.h>

static struct pci_function function;
static unsigned moves;
static uint8_t capability;

static void on_moved(void *context, unsigned number)
{
    (void)context;
    (void)number;
    moves++;
}

static void set_up(void)
{
    static const uint8_t body[4] = {1, 2, 3, 4};
    static const uint8_t writable[4] = {0, 0xf0, 0, 0};
    pci_function_init(&function, &(struct pci_identity){.vendor = 0x1af4,
                                                        .device = 0x1042,
                                                        .subsystem_vendor = 0x1af4,
                                                        .subsystem = 0x42,
                                                        .class_code = 0x010000,
                                                        .revision = 1});
    pci_function_add_bar(&function, 0, 0x8000);
    capability = pci_function_add_capability(&function, 9, body, writable, 4);
    function.moved.raise = on_moved;
    moves = 0;
}

static uint32_t get(uint64_t offset, unsigned size)
{
    uint32_t value = 0;
    pci_function_read(&function, offset, &value, size);
    return value;
}

static void put(uint64_t offset, unsigned size, uint32_t value)
{
    pci_function_write(&function, offset, &value, size);
}

START_TEST(the_header_says_who_it_is)
{
    ck_assert_uint_eq(get(0, 4), 0x10421af4);
    ck_assert_uint_eq(get(8, 4), 0x01000001);
    ck_assert_uint_eq(get(0x2c, 4), 0x00421af4);
    ck_assert_uint_eq(get(0x34, 1), capability);
    ck_assert_uint_eq(get(6, 2) & 0x10, 0x10);
    ck_assert_uint_eq(get(capability, 4), 0x02010009);
    ck_assert_uint_eq(get(0x3d, 1), 0); /* no INTx pin */
}
END_TEST

START_TEST(a_bar_tells_its_size_and_moves_in_its_steps)
{
    uint64_t address = 0;
    put(0x10, 4, 0xffffffff);
    ck_assert_uint_eq(get(0x10, 4), 0xffff8000);
    put(0x10, 4, 0xe0001234);
    ck_assert_uint_eq(get(0x10, 4), 0xe0000000);
    ck_assert(!pci_function_bar(&function, 0, &address)); /* not decoded yet */
    const unsigned before = moves;

    put(4, 2, 0xffff);

    ck_assert_uint_eq(get(4, 2), 0x0406);
    ck_assert_uint_eq(moves, before + 1);
    ck_assert(pci_function_bar(&function, 0, &address));
    ck_assert_uint_eq(address, 0xe0000000);
    ck_assert(!pci_function_bar(&function, 1, &address));
    ck_assert(!pci_function_bar(&function, 6, &address));
    put(0x14, 4, 0xffffffff); /* there is no such BAR */
    ck_assert_uint_eq(get(0x14, 4), 0);
    put(4, 2, 0x0406);
    ck_assert_uint_eq(moves, before + 1); /* nothing new */
}
END_TEST

START_TEST(only_the_guests_bits_can_be_written)
{
    uint8_t before[PCI_CONFIG_BYTES];
    uint8_t after[PCI_CONFIG_BYTES];
    pci_function_read(&function, 0, before, 4);
    memcpy(before, function.config, sizeof(before));

    for (unsigned i = 0; i < PCI_CONFIG_BYTES; i += 4) {
        put(i, 4, 0xffffffff);
    }

    memcpy(after, function.config, sizeof(after));
    for (unsigned i = 0; i < PCI_CONFIG_BYTES; i++) {
        ck_assert_uint_eq(after[i], before[i] | function.writable[i]);
    }
    ck_assert_uint_eq(get(capability + 3u, 1), 0xf2);
    pci_function_reset(&function);
    ck_assert_uint_eq(get(0x10, 4), 0);
    ck_assert_uint_eq(get(4, 2), 0);
}
END_TEST

START_TEST(accesses_at_the_edge_stay_inside)
{
    for (unsigned size = 1; size <= 8; size++) {
        for (uint64_t offset = PCI_CONFIG_BYTES - 8; offset < PCI_CONFIG_BYTES + 8;
             offset++) {
            uint8_t data[9] = {0};
            data[size] = 0x5a;
            pci_function_read(&function, offset, data, size);
            pci_function_write(&function, offset, data, size);
            ck_assert_uint_eq(data[size], 0x5a);
        }
    }
    ck_assert_uint_eq(get(UINT64_MAX, 4), 0);
    put(UINT64_MAX, 4, 1);
    ck_assert_uint_eq(get(4095, 1), 0); /* no extended capability */
}
END_TEST

START_TEST(a_restored_function_is_where_it_was)
{
    struct bytes_writer writer;
    struct bytes_reader reader;
    uint64_t address = 0;
    bytes_writer_init(&writer, 1024);
    put(0x10, 4, 0xd0000000);
    put(4, 2, 2);
    pci_function_save(&function, &writer);
    set_up();

    bytes_reader_init(&reader, writer.data, writer.size);
    ck_assert_int_eq(pci_function_restore(&function, &reader), 0);

    ck_assert(pci_function_bar(&function, 0, &address));
    ck_assert_uint_eq(address, 0xd0000000);
    ck_assert_uint_eq(moves, 1);
    writer.data[2] ^= 1; /* the identity is no guest's to change */
    bytes_reader_init(&reader, writer.data, writer.size);
    ck_assert_int_eq(pci_function_restore(&function, &reader), BERTH_ECORRUPT);
    bytes_reader_init(&reader, writer.data, writer.size - 1);
    ck_assert_int_eq(pci_function_restore(&function, &reader), BERTH_ECORRUPT);
    bytes_writer_fini(&writer);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("pci_function");
    TCase *tests = tcase_create("pci_function");
    tcase_add_checked_fixture(tests, set_up, NULL);
    tcase_add_test(tests, the_header_says_who_it_is);
    tcase_add_test(tests, a_bar_tells_its_size_and_moves_in_its_steps);
    tcase_add_test(tests, only_the_guests_bits_can_be_written);
    tcase_add_test(tests, accesses_at_the_edge_stay_inside);
    tcase_add_test(tests, a_restored_function_is_where_it_was);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
