/* Goal: an interrupt is delivered once, at once or when its mask falls, and no access
 * leaves the table. */
#include "support/test_main.h"
#include "vmm/msix.h"

#include <check.h>

#include <string.h>

#define VECTORS 3u

static struct pci_function function;
static struct msix msix;
static unsigned delivered[MSIX_VECTORS_MAX];

static void on_deliver(void *context, unsigned vector)
{
    (void)context;
    delivered[vector]++;
}

static void set_up(void)
{
    pci_function_init(&function, &(struct pci_identity){.vendor = 1});
    msix_init(&msix, &function, VECTORS, 0, 0x4000, 0x5000);
    msix.deliver.raise = on_deliver;
    memset(delivered, 0, sizeof(delivered));
}

static void control(uint16_t value)
{
    pci_function_write(&function, msix.control_at, &value, 2);
    msix_control_written(&msix);
}

static void table_put(uint64_t offset, uint32_t value)
{
    msix_table_write(&msix, offset, &value, 4);
}

static uint64_t pending(void)
{
    uint64_t bits = 0;
    msix_pending_read(&msix, 0, &bits, 8);
    return bits;
}

START_TEST(an_open_vector_is_delivered_at_once)
{
    struct msix_message message;
    control(0x8000);
    table_put(16, 0xfee00000);
    table_put(20, 1);
    table_put(24, 0x4021);
    ck_assert(!msix_message(&msix, 1, &message));
    table_put(28, 0);

    msix_raise(&msix, 1);

    ck_assert_uint_eq(delivered[1], 1);
    ck_assert_uint_eq(pending(), 0);
    ck_assert(msix_message(&msix, 1, &message));
    ck_assert_uint_eq(message.address, 0x1fee00000);
    ck_assert_uint_eq(message.data, 0x4021);
}
END_TEST

START_TEST(a_masked_vector_waits_and_comes_once)
{
    control(0x8000);
    msix_raise(&msix, 2);
    msix_raise(&msix, 2);
    ck_assert_uint_eq(delivered[2], 0);
    ck_assert_uint_eq(pending(), 4);

    control(0xc000);
    table_put(44, 0); /* unmasked, but all are masked */
    ck_assert_uint_eq(delivered[2], 0);
    control(0x8000);

    ck_assert_uint_eq(delivered[2], 1);
    ck_assert_uint_eq(pending(), 0);
    control(0xc000);
    control(0x8000);
    ck_assert_uint_eq(delivered[2], 1);
}
END_TEST

START_TEST(vectors_that_do_not_exist_are_nothing)
{
    struct msix_message message;
    control(0x8000);

    msix_raise(&msix, VECTORS);
    msix_raise(&msix, PCI_NO_VECTOR);
    msix_raise(&msix, UINT32_MAX);

    ck_assert_uint_eq(pending(), 0);
    ck_assert(!msix_message(&msix, VECTORS, &message));
    ck_assert(!msix_message(&msix, PCI_NO_VECTOR, &message));
}
END_TEST

START_TEST(every_offset_and_size_stays_inside_the_table)
{
    control(0x8000);
    for (uint64_t offset = 0; offset < 0x1010; offset++) {
        for (unsigned size = 1; size <= 8; size++) {
            uint8_t data[8];
            uint8_t ones[8];
            memset(data, 0, sizeof(data));
            memset(ones, 0xff, sizeof(ones));
            const bool fits = (size == 4 || size == 8) && offset % size == 0 &&
                              offset + size <= VECTORS * MSIX_ENTRY_BYTES;
            msix_table_write(&msix, offset, ones, size);
            msix_table_read(&msix, offset, data, size);
            ck_assert_mem_eq(data, ones, size); /* written, or nobody answers */
            if (!fits) {
                continue;
            }
            memset(data, 0, sizeof(data));
            msix_table_write(&msix, offset, data, size);
            msix_table_read(&msix, offset, ones, size);
            ck_assert_mem_eq(data, ones, size);
        }
    }
    msix_table_write(&msix, UINT64_MAX - 3, delivered, 4);
    msix_table_write(&msix, UINT64_MAX - 7, delivered, 8);
    msix_pending_read(&msix, UINT64_MAX - 3, delivered, 4);
}
END_TEST

START_TEST(pending_interrupts_survive_a_restore)
{
    struct bytes_writer writer;
    struct bytes_reader reader;
    bytes_writer_init(&writer, 1024);
    control(0x8000);
    msix_raise(&msix, 1);
    msix_save(&msix, &writer);
    set_up();
    control(0x8000);

    bytes_reader_init(&reader, writer.data, writer.size);
    ck_assert_int_eq(msix_restore(&msix, &reader), 0);

    ck_assert_uint_eq(pending(), 2);
    table_put(28, 0);
    ck_assert_uint_eq(delivered[1], 1);
    bytes_reader_init(&reader, writer.data, writer.size - 1);
    ck_assert_int_eq(msix_restore(&msix, &reader), BERTH_ECORRUPT);
    writer.data[4] = 0xff; /* a vector that does not exist is pending */
    bytes_reader_init(&reader, writer.data, writer.size);
    ck_assert_int_eq(msix_restore(&msix, &reader), BERTH_ECORRUPT);
    bytes_writer_fini(&writer);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("msix");
    TCase *tests = tcase_create("msix");
    tcase_add_checked_fixture(tests, set_up, NULL);
    tcase_add_test(tests, an_open_vector_is_delivered_at_once);
    tcase_add_test(tests, a_masked_vector_waits_and_comes_once);
    tcase_add_test(tests, vectors_that_do_not_exist_are_nothing);
    tcase_add_test(tests, every_offset_and_size_stays_inside_the_table);
    tcase_add_test(tests, pending_interrupts_survive_a_restore);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
