/* Goal: terms are encoded as ACPI 6.4, chapter 20, has them; whole tables are read by
 * iasl in acpi_tables_test. */
#include "support/test_main.h"
#include "vmm/aml.h"

#include <check.h>

#include <string.h>

static struct bytes_writer writer;

static void setup(void)
{
    bytes_writer_init(&writer, AML_PACKAGE_MAX);
}

static void teardown(void)
{
    bytes_writer_fini(&writer);
}

static void expect(const void *bytes, size_t size)
{
    ck_assert_int_eq(writer.error, 0);
    ck_assert_uint_eq(writer.size, size);
    ck_assert_int_eq(memcmp(writer.data, bytes, size), 0);
}

struct integer_row {
    uint64_t value;
    uint8_t bytes[9];
    size_t size;
};

static const struct integer_row integers[] = {
    {0, {0x00}, 1},
    {1, {0x01}, 1},
    {2, {0x0a, 2}, 2},
    {0xff, {0x0a, 0xff}, 2},
    {0x100, {0x0b, 0x00, 0x01}, 3},
    {0x10000, {0x0c, 0, 0, 1, 0}, 5},
    {UINT64_C(0x100000000), {0x0e, 0, 0, 0, 0, 1, 0, 0, 0}, 9},
};

START_TEST(an_integer_takes_the_shortest_form)
{
    aml_integer(&writer, integers[_i].value);

    expect(integers[_i].bytes, integers[_i].size);
}
END_TEST

struct path_row {
    const char *path;
    const char *bytes;
    size_t size;
};

static const struct path_row paths[] = {
    {"PCI0", "PCI0", 4},
    {"_S5", "_S5_", 4},
    {"\\_SB.PWRB", "\\\x2e_SB_PWRB", 10},
    {"\\_SB.PCI0.S1", "\\\x2f\x03_SB_PCI0S1__", 15},
    {"\\", "\\\x00", 2},
};

START_TEST(a_path_is_segments_of_four)
{
    aml_path(&writer, paths[_i].path);

    expect(paths[_i].bytes, paths[_i].size);
}
END_TEST

START_TEST(an_eisa_id_is_compressed)
{
    aml_eisa_id(&writer, "PNP0A08"); /* EisaId ("PNP0A08") is 0x080AD041 */

    expect("\x0c\x41\xd0\x0a\x08", 5);
}
END_TEST

START_TEST(a_term_says_how_long_it_is)
{
    struct aml_open device = aml_device(&writer, "DEV0");
    aml_name_integer(&writer, "_UID", 0);
    aml_close(&writer, device);

    /* 13 bytes from the length on: 0x8d is "two more bytes", low nibble 13 */
    expect("\x5b\x82\x8d\x00\x00"
           "DEV0\x08_UID\x00",
           15);
}
END_TEST

START_TEST(a_long_term_says_so_too)
{
    struct aml_open scope = aml_scope(&writer, "\\");
    for (unsigned i = 0; i < 0x12345 - 5; i++) {
        bytes_write_u8(&writer, 0xa3); /* Noop */
    }
    aml_close(&writer, scope);

    ck_assert_uint_eq(writer.data[1], 0x80 | 0x5);
    ck_assert_uint_eq(writer.data[2], 0x34);
    ck_assert_uint_eq(writer.data[3], 0x12);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("aml");
    TCase *tests = tcase_create("aml");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_loop_test(tests, an_integer_takes_the_shortest_form, 0,
                        sizeof(integers) / sizeof(integers[0]));
    tcase_add_loop_test(tests, a_path_is_segments_of_four, 0,
                        sizeof(paths) / sizeof(paths[0]));
    tcase_add_test(tests, an_eisa_id_is_compressed);
    tcase_add_test(tests, a_term_says_how_long_it_is);
    tcase_add_test(tests, a_long_term_says_so_too);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
