/* Goal: an operating system can read our tables. Method: walk them as one does (RSDP,
 * XSDT, checksums), and let ACPICA's own compiler take them apart and put them together
 * again, which finds what no reading of ours would. */
#include "support/temp_dir.h"
#include "support/test_main.h"
#include "vmm/acpi_tables.h"
#include "vmm/machine_layout.h"

#include <check.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint8_t *image;
static size_t image_size;

static void teardown(void)
{
    free(image);
    image = NULL;
}

static void make(unsigned cpu_count)
{
    struct err err = {0};
    ck_assert_msg(acpi_tables_make(cpu_count, &image, &image_size, &err) == 0, "%s",
                  err.text);
}

static uint64_t number(const uint8_t *at, unsigned size)
{
    uint64_t value = 0;
    memcpy(&value, at, size);
    return value;
}

static uint8_t sum(const uint8_t *data, size_t size)
{
    uint8_t total = 0;
    while (size-- > 0) {
        total = (uint8_t)(total + *data++);
    }
    return total;
}

/* The table at a guest address, checked. */
static const uint8_t *table_at(uint64_t address, size_t *ret_size)
{
    ck_assert_uint_ge(address, ACPI_AT);
    ck_assert_uint_le(address - ACPI_AT + 36, image_size);
    const uint8_t *table = image + (address - ACPI_AT);
    *ret_size = (size_t)number(table + 4, 4);
    ck_assert_uint_le(address - ACPI_AT + *ret_size, image_size);
    ck_assert_uint_eq(sum(table, *ret_size), 0);
    return table;
}

/* By way of the RSDP and the XSDT; the DSDT by way of the FADT. */
static const uint8_t *table_find(const char *signature, size_t *ret_size)
{
    size_t xsdt_size;
    const uint8_t *xsdt = table_at(number(image + 24, 8), &xsdt_size);
    for (size_t at = 36; at < xsdt_size; at += 8) {
        const uint8_t *table = table_at(number(xsdt + at, 8), ret_size);
        if (memcmp(table, signature, 4) == 0) {
            return table;
        }
        if (memcmp(signature, "DSDT", 4) == 0 && memcmp(table, "FACP", 4) == 0) {
            return table_at(number(table + 140, 8), ret_size);
        }
    }
    ck_abort_msg("no table %s", signature);
    return NULL;
}

START_TEST(the_rsdp_is_whole)
{
    make(1);

    ck_assert_int_eq(memcmp(image, "RSD PTR ", 8), 0);
    ck_assert_uint_eq(sum(image, 20), 0);
    ck_assert_uint_eq(sum(image, 36), 0);
    ck_assert_uint_eq(number(image + 16, 4), 0); /* no RSDT */
}
END_TEST

START_TEST(every_cpu_is_in_the_madt)
{
    size_t size;
    unsigned cpus = 0;
    unsigned ioapics = 0;
    make((unsigned)_i);

    const uint8_t *madt = table_find("APIC", &size);

    for (size_t at = 44; at < size; at += madt[at + 1]) {
        ck_assert_uint_gt(madt[at + 1], 0);
        if (madt[at] == 0) {
            ck_assert_uint_eq(madt[at + 3], cpus);
            ck_assert_uint_eq(number(madt + at + 4, 4), 1);
            cpus++;
        }
        ioapics += madt[at] == 1;
    }
    ck_assert_uint_eq(cpus, (unsigned)_i);
    ck_assert_uint_eq(ioapics, 1);
}
END_TEST

START_TEST(the_fadt_is_of_reduced_hardware)
{
    size_t size;
    make(1);

    const uint8_t *fadt = table_find("FACP", &size);

    ck_assert_uint_eq(size, 276);
    ck_assert_uint_ne(number(fadt + 112, 4) & (1u << 20), 0);
    ck_assert_uint_ne(number(fadt + 109, 2) & (1u << 5), 0);   /* and has no CMOS clock */
    ck_assert_uint_eq(number(fadt + 120, 8), POWER_PORT + 2u); /* the reset register */
}
END_TEST

static void
save(const struct temp_dir *dir, const char *name, const uint8_t *data, size_t size)
{
    char *path = temp_dir_path(dir, name);
    FILE *file = fopen(path, "wb");
    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fwrite(data, 1, size, file), size);
    ck_assert_int_eq(fclose(file), 0);
    free(path);
}

static int run_in(const struct temp_dir *dir, const char *command)
{
    char line[2 * TEMP_DIR_PATH_SIZE];
    (void)snprintf(line, sizeof(line), "cd %s && %s >log 2>&1", dir->path, command);
    return system(line);
}

static const char *const signatures[] = {"DSDT", "FACP", "APIC", "MCFG"};

START_TEST(iasl_reads_each_table_and_builds_it_again)
{
    struct temp_dir dir;
    size_t size;
    make(4);
    if (system("iasl -v >/dev/null 2>&1") != 0) {
        (void)puts("iasl (package acpica-tools) is not here: its part is not tested");
        return;
    }
    temp_dir_init(&dir);
    const uint8_t *table = table_find(signatures[_i], &size);
    save(&dir, "ours.dat", table, size);

    int taken_apart = run_in(&dir, "iasl -d ours.dat && ! grep -qi error ours.dsl");
    int put_together = run_in(&dir, "iasl -we -p again ours.dsl");

    char *log = temp_dir_read(&dir, "log");
    ck_assert_msg(taken_apart == 0 && put_together == 0, "%s: %s", signatures[_i], log);
    free(log);
    char *asl = temp_dir_read(&dir, "ours.dsl");
    if (_i == 0) {
        ck_assert_ptr_nonnull(strstr(asl, "_S5"));
        ck_assert_ptr_nonnull(strstr(asl, "Notify (\\_SB.PWRB, 0x80)"));
        ck_assert_ptr_nonnull(strstr(asl, "Notify (\\_SB.VGEN, 0x80)"));
        ck_assert_ptr_nonnull(strstr(asl, "Name (_CID, \"VM_Gen_Counter\")"));
        ck_assert_ptr_nonnull(strstr(asl, "ACPI0013"));
    }
    free(asl);
    temp_dir_fini(&dir);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("acpi_tables");
    TCase *tests = tcase_create("acpi_tables");
    tcase_add_checked_fixture(tests, NULL, teardown);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, the_rsdp_is_whole);
    tcase_add_loop_test(tests, every_cpu_is_in_the_madt, 1, MACHINE_CPUS_MAX + 1);
    tcase_add_test(tests, the_fadt_is_of_reduced_hardware);
    tcase_add_loop_test(tests, iasl_reads_each_table_and_builds_it_again, 0,
                        sizeof(signatures) / sizeof(signatures[0]));
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
