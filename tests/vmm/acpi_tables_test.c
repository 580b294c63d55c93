/* Goal: an operating system can read our tables. Method: walk them as one does (RSDP,
 * XSDT, checksums), and let ACPICA's own compiler take them apart and put them together
 * again, which finds what no reading of ours would. */
#include "base/cleanup.h"
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

static void make_cpus(const struct acpi_cpus *cpus)
{
    struct err err = {0};
    free(image);
    image = NULL;
    ck_assert_msg(acpi_tables_make(cpus, &image, &image_size, &err) == 0, "%s", err.text);
}

/* All of its CPUs are there, for good. */
static void make(unsigned cpu_count)
{
    const struct acpi_cpus cpus = {.count = cpu_count, .present = UINT64_MAX};
    make_cpus(&cpus);
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

START_TEST(a_cpu_that_may_come_is_in_the_madt_and_not_enabled)
{
    const struct acpi_cpus cpus = {
        .count = (unsigned)_i, .present = UINT64_C(0x8000000000000003), .may_come = true};
    size_t size;
    unsigned seen = 0;
    make_cpus(&cpus);

    const uint8_t *madt = table_find("APIC", &size);

    ck_assert_uint_ge(madt[8], 5); /* since then the second flag has a meaning */
    for (size_t at = 44; at < size; at += madt[at + 1]) {
        if (madt[at] == 0) {
            const bool is_there = seen < 2 || seen == 63;
            ck_assert_uint_eq(madt[at + 2], seen);
            ck_assert_uint_eq(madt[at + 3], seen);
            ck_assert_uint_eq(number(madt + at + 4, 4), is_there ? 1 : 2);
            seen++;
        }
    }
    ck_assert_uint_eq(seen, (unsigned)_i);
}
END_TEST

START_TEST(the_image_is_as_large_whichever_cpus_are_there)
{
    const struct acpi_cpus one = {.count = 64, .present = 1, .may_come = true};
    const struct acpi_cpus all = {.count = 64, .present = UINT64_MAX, .may_come = true};
    make_cpus(&one);
    const size_t size_of_one = image_size;

    make_cpus(&all);

    ck_assert_uint_eq(image_size, size_of_one);
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

static const char *const asl_words[] = {
    "_S5",
    "Notify (\\_SB.PWRB, 0x80)",
    "Notify (\\_SB.VGEN, 0x80)",
    "Name (_CID, \"VM_Gen_Counter\")",
    "ACPI0013",
    "OperationRegion (SLOT, SystemIO, 0x0620, 0x04)",
    "Device (S18)",
    "Device (S1F)",
    "Name (_ADR, 0x001F0000)",
    "Name (_SUN, 0x1F)",
    "Method (_EJ0, 1, Serialized)",
    "GONE = 0x80",
    "Notify (S18, One)",
    "Notify (S18, 0x03)",
    "CTRL &= 0xFFFFFFFC",
    "\\_SB.PCI0.NEWS ()",
};

/* Of a machine whose CPUs may come. */
static const char *const come_words[] = {
    "ACPI0010",
    "Device (CP00)",
    "Device (CP3F)",
    "Name (_UID, 0x3F)",
    "0x00, 0x08, 0x3F, 0x3F, 0x01, 0x00, 0x00, 0x00",
    "OperationRegion (HERE, SystemIO, 0x0610, 0x08)",
    "OperationRegion (NEWS, SystemIO, 0x0618, 0x08)",
    "If ((HR07 & 0x80))",
    "Local0 = NW07",
    "Notify (CP3F, One)",
    "\\_SB.CPUS.COME ()",
};

/* _i: a table of signatures, and then the same of a machine whose CPUs may come. */
START_TEST(iasl_reads_each_table_and_builds_it_again)
{
    const bool may_come = (size_t)_i >= ARRAY_COUNT(signatures);
    const char *signature = signatures[(size_t)_i % ARRAY_COUNT(signatures)];
    const struct acpi_cpus cpus = {
        .count = may_come ? 64 : 4, .present = 0xf, .may_come = may_come};
    struct temp_dir dir;
    size_t size;
    make_cpus(&cpus);
    if (system("iasl -v >/dev/null 2>&1") != 0) {
        (void)puts("iasl (package acpica-tools) is not here: its part is not tested");
        return;
    }
    temp_dir_init(&dir);
    const uint8_t *table = table_find(signature, &size);
    save(&dir, "ours.dat", table, size);

    int taken_apart = run_in(&dir, "iasl -d ours.dat && ! grep -qi error ours.dsl");
    int put_together = run_in(&dir, "iasl -we -p again ours.dsl");

    char *log = temp_dir_read(&dir, "log");
    ck_assert_msg(taken_apart == 0 && put_together == 0, "%s: %s", signature, log);
    free(log);
    char *asl = temp_dir_read(&dir, "ours.dsl");
    for (size_t i = 0; signature == signatures[0] && i < ARRAY_COUNT(asl_words); i++) {
        ck_assert_msg(strstr(asl, asl_words[i]) != NULL, "%s: not in %s", asl_words[i],
                      asl);
    }
    for (size_t i = 0; signature == signatures[0] && i < ARRAY_COUNT(come_words); i++) {
        ck_assert_msg((strstr(asl, come_words[i]) != NULL) == may_come, "%s: %d in %s",
                      come_words[i], may_come, asl);
    }
    free(asl);
    temp_dir_fini(&dir);
}
END_TEST

/* What the guest does when the event device interrupts, and when it looks at CPUs: every
 * byte of every register reads as `registers`. */
struct run_row {
    const char *registers;
    bool may_come;
    const char *yes[3];
    const char *no[3];
};

static const struct run_row runs[] = {
    {"0x00",
     true,
     {"[Integer] = 0000000000000000"},
     {"Notify on [PWRB]", "Notify on [CP0"}},
    {"0x04", /* a CPU has come, and it is the third one of eight */
     true,
     {"Notify on [CP02] Value 0x01", "Notify on [CP0A] Value 0x01",
      "[Integer] = 000000000000000F"},
     {"Notify on [PWRB]", "Notify on [CP01]", "Notify on [CP0B]"}},
    {"0xfb", /* all but that */
     true,
     {"Notify on [PWRB] Value 0x80", "Notify on [VGEN] Value 0x80",
      "[Integer] = 0000000000000000"},
     {"Notify on [CP0"}},
    {"0x08", /* a device has come, another is to go: both are in the fourth slot */
     true,
     {"Notify on [S1B_] Value 0x01", "Notify on [S1B_] Value 0x03"},
     {"Notify on [PWRB]", "Notify on [S1A_]", "Notify on [S1C_]"}},
    {"0xff",
     true,
     {"Notify on [PWRB] Value 0x80", "Notify on [CP00] Value 0x01",
      "Notify on [CP0B] Value 0x01"},
     {"Notify on [CP0C]"}},
    {"0xff",
     false,
     {"Notify on [PWRB] Value 0x80", "Notify on [VGEN] Value 0x80"},
     {"Notify on [CP0"}},
};

START_TEST(acpicas_interpreter_runs_the_methods)
{
    static const char commands[] = "execute \\_SB.GED._EVT 9\n"
                                   "execute \\_SB.CPUS.CP02._STA\n"
                                   "quit\n";
    const struct run_row *row = &runs[_i];
    const struct acpi_cpus cpus = {.count = 12, .present = 1, .may_come = row->may_come};
    struct temp_dir dir;
    char command[256];
    size_t size;
    if (system("acpiexec -v >/dev/null 2>&1") != 0) {
        (void)puts("acpiexec (package acpica-tools) is not here: its part is not tested");
        return;
    }
    make_cpus(&cpus);
    temp_dir_init(&dir);
    const uint8_t *table = table_find("DSDT", &size);
    save(&dir, "ours.aml", table, size);
    save(&dir, "commands", (const uint8_t *)commands, sizeof(commands) - 1);

    /* Addresses of the interpreter's own are dropped. */
    (void)snprintf(command, sizeof(command),
                   "acpiexec -fv %s ours.aml <commands >raw && "
                   "sed 's/ 0x[0-9a-f]* Value/ Value/' raw",
                   row->registers);
    int ran = run_in(&dir, command);

    char *said = temp_dir_read(&dir, "log");
    ck_assert_msg(ran == 0, "%s", said);
    for (unsigned i = 0; i < 3; i++) {
        ck_assert_msg(row->yes[i] == NULL || strstr(said, row->yes[i]) != NULL,
                      "%s: not in %s", row->yes[i], said);
        ck_assert_msg(row->no[i] == NULL || strstr(said, row->no[i]) == NULL, "%s: in %s",
                      row->no[i], said);
    }
    free(said);
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
    tcase_add_loop_test(tests, a_cpu_that_may_come_is_in_the_madt_and_not_enabled, 1,
                        MACHINE_CPUS_MAX + 1);
    tcase_add_test(tests, the_image_is_as_large_whichever_cpus_are_there);
    tcase_add_test(tests, the_fadt_is_of_reduced_hardware);
    tcase_add_loop_test(tests, iasl_reads_each_table_and_builds_it_again, 0,
                        2 * (int)ARRAY_COUNT(signatures));
    tcase_add_loop_test(tests, acpicas_interpreter_runs_the_methods, 0,
                        (int)ARRAY_COUNT(runs));
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
