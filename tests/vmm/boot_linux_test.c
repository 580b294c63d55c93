/* Goal: the first vCPU finds what its boot protocol promises: the kernel's bytes where
 * they belong, the initrd beside it, the command line, and a memory map that is true. */
#include "micro_kernel.h"
#include "support/test_main.h"
#include "vmm/boot_linux.h"
#include "vmm/machine_layout.h"

#include <check.h>

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MIB (UINT64_C(1) << 20)

static const uint8_t code[] = {0x90, 0xf4}; /* nop, hlt */
static const uint8_t tables[] = "tables";
static struct guest_memory memory;
static struct boot_source source;
static struct boot_entry entry;

static void memory_make(uint64_t size)
{
    uint64_t low = size < LOW_RAM_MAX ? size : LOW_RAM_MAX;
    guest_memory_init(&memory);
    ck_assert_int_eq(guest_memory_add(&memory, 0, low, NULL), 0);
    if (size > low) {
        ck_assert_int_eq(guest_memory_add(&memory, HIGH_RAM_AT, size - low, NULL), 0);
    }
}

static void setup(void)
{
    source = (struct boot_source){.kernel_fd = micro_kernel(code, sizeof(code)),
                                  .initrd_fd = -1,
                                  .cmdline = "console=ttyS0 quiet",
                                  .acpi = tables,
                                  .acpi_size = sizeof(tables)};
}

static void teardown(void)
{
    (void)close(source.kernel_fd);
    if (source.initrd_fd >= 0) {
        (void)close(source.initrd_fd);
    }
    guest_memory_fini(&memory);
}

static uint64_t number(uint64_t address, unsigned size)
{
    uint64_t value = 0;
    ck_assert_int_eq(guest_memory_read(&memory, address, &value, size), 0);
    return value;
}

static int load(struct err *err)
{
    return boot_linux_load(&memory, &source, &entry, err);
}

START_TEST(a_pvh_kernel_is_placed_and_told_of_the_machine)
{
    struct err err = {0};
    char text[64];
    memory_make(64 * MIB);

    ck_assert_msg(load(&err) == 0, "%s", err.text);

    ck_assert_int_eq(entry.mode, BOOT_PROTECTED_32);
    ck_assert_uint_eq(entry.instruction, MICRO_KERNEL_AT + MICRO_CODE_AT);
    ck_assert_uint_eq(number(entry.instruction, 2), 0xf490);
    ck_assert_uint_eq(number(entry.argument, 4), 0x336ec578);
    ck_assert_uint_eq(number(entry.argument + 12, 4), 0);       /* no modules */
    ck_assert_uint_eq(number(entry.argument + 32, 8), ACPI_AT); /* RSDP */
    ck_assert_uint_eq(number(ACPI_AT, 4), 0x6c626174);          /* "tabl" */
    ck_assert_uint_eq(number(RESET_VECTOR_AT, 3), 0x0602ba); /* to the reset register */
    ck_assert_int_eq(
        guest_memory_read(&memory, number(entry.argument + 24, 8), text, sizeof(text)),
        0);
    ck_assert_str_eq(text, "console=ttyS0 quiet");
}
END_TEST

/* Sums up what the map calls RAM, and that nothing of it is missing in the machine. */
/* The agent seals what it has unpacked (agent/kernel_unpack.h). */
START_TEST(what_lies_behind_a_pvh_kernel_is_not_looked_at)
{
    struct err err = {0};
    char beyond[64];
    char seal[32];
    struct stat status;
    memory_make(64 * MIB);
    memset(seal, 0x5a, sizeof(seal));
    ck_assert_int_eq(fstat(source.kernel_fd, &status), 0);
    ck_assert_int_eq(pwrite(source.kernel_fd, seal, sizeof(seal), status.st_size),
                     sizeof(seal));

    ck_assert_msg(load(&err) == 0, "%s", err.text);

    ck_assert_uint_eq(entry.instruction, MICRO_KERNEL_AT + MICRO_CODE_AT);
    ck_assert_int_eq(guest_memory_read(&memory,
                                       MICRO_KERNEL_AT + (uint64_t)status.st_size, beyond,
                                       sizeof(beyond)),
                     0);
    ck_assert_ptr_null(memmem(beyond, sizeof(beyond), seal, sizeof(seal)));
}
END_TEST

static uint64_t ram_in_map(uint64_t map, unsigned count)
{
    uint64_t total = 0;
    for (unsigned i = 0; i < count; i++) {
        uint64_t address = number(map + 24 * (uint64_t)i, 8);
        uint64_t size = number(map + 24 * (uint64_t)i + 8, 8);
        if (number(map + 24 * (uint64_t)i + 16, 4) == 1) {
            ck_assert(guest_memory_holds(&memory, address, size));
            total += size;
        }
    }
    return total;
}

static const uint64_t sizes[] = {32 * MIB, LOW_RAM_MAX, LOW_RAM_MAX + 2 * MIB,
                                 LOW_RAM_MAX + 1024 * MIB};

START_TEST(the_memory_map_is_all_ram_but_the_last_of_the_first_mib)
{
    memory_make(sizes[_i]);

    ck_assert_int_eq(load(NULL), 0);

    uint64_t map = number(entry.argument + 40, 8);
    unsigned count = (unsigned)number(entry.argument + 48, 4);
    ck_assert_uint_eq(ram_in_map(map, count), sizes[_i] - (KERNEL_AT - BIOS_DATA_END));
}
END_TEST

START_TEST(the_initrd_lies_high_and_whole)
{
    static const char bytes[] = "an initrd";
    memory_make(64 * MIB);
    source.initrd_fd = memfd_create("initrd", MFD_CLOEXEC);
    ck_assert_int_eq(pwrite(source.initrd_fd, bytes, sizeof(bytes), 0), sizeof(bytes));

    ck_assert_int_eq(load(NULL), 0);

    ck_assert_uint_eq(number(entry.argument + 12, 4), 1);
    uint64_t module = number(entry.argument + 16, 8);
    uint64_t address = number(module, 8);
    char text[sizeof(bytes)];
    ck_assert_uint_eq(number(module + 8, 8), sizeof(bytes));
    ck_assert_uint_gt(address, 32 * MIB);
    ck_assert_int_eq(guest_memory_read(&memory, address, text, sizeof(text)), 0);
    ck_assert_str_eq(text, bytes);
}
END_TEST

START_TEST(an_initrd_without_room_is_refused_with_numbers)
{
    struct err err = {0};
    memory_make(32 * MIB);
    source.initrd_fd = memfd_create("initrd", MFD_CLOEXEC);
    ck_assert_int_eq(ftruncate(source.initrd_fd, 32 * (off_t)MIB), 0);

    ck_assert_int_eq(load(&err), BERTH_EINVALID);

    ck_assert_str_eq(err.text, "initrd: 32MiB do not fit beside the kernel in 32MiB");
}
END_TEST

START_TEST(a_kernel_without_room_is_refused_with_numbers)
{
    struct err err = {0};
    struct micro_elf elf = micro_elf_make(sizeof(code));
    elf.segments[0].p_memsz = 64 * MIB;
    (void)close(source.kernel_fd);
    source.kernel_fd = micro_kernel_file(&elf, code, sizeof(code));
    memory_make(64 * MIB);

    ck_assert_int_eq(load(&err), BERTH_EINVALID);

    ck_assert_msg(strstr(err.text, "has 64MiB") != NULL, "%s", err.text);
}
END_TEST

START_TEST(a_command_line_has_a_limit)
{
    char cmdline[CMDLINE_MAX + 1];
    memset(cmdline, 'c', sizeof(cmdline));
    cmdline[CMDLINE_MAX] = '\0';
    source.cmdline = cmdline;
    memory_make(64 * MIB);

    ck_assert_int_eq(load(NULL), BERTH_EINVALID);
    cmdline[CMDLINE_MAX - 1] = '\0';
    ck_assert_int_eq(load(NULL), 0);
}
END_TEST

/* A bzImage is entered in 64-bit mode: its zero page and its page tables. */
START_TEST(a_bzimage_finds_its_zero_page_and_all_of_4_gib_mapped)
{
    static uint8_t file[0x3000];
    const uint16_t version = 0x20f;
    const uint32_t load_at = 0x1000000;
    memory_make(64 * MIB);
    file[0x1f1] = 1;
    file[0x201] = 0x66;
    memcpy(file + 0x202, "HdrS", 4);
    memcpy(file + 0x206, &version, sizeof(version));
    file[0x236] = 1;
    file[0x22f] = 0x7f; /* initrd below 0x7f000000 */
    file[0x239] = 0x08; /* 2048 bytes of command line */
    memcpy(file + 0x258, &load_at, sizeof(load_at));
    file[0x600] = 0xf4;
    ck_assert_int_eq(ftruncate(source.kernel_fd, 0), 0);
    ck_assert_int_eq(pwrite(source.kernel_fd, file, sizeof(file), 0), sizeof(file));

    ck_assert_int_eq(load(NULL), 0);

    ck_assert_int_eq(entry.mode, BOOT_LONG_64);
    ck_assert_uint_eq(number(entry.instruction, 1), 0xf4);
    ck_assert_uint_eq(number(entry.argument + 0x202, 4), 0x53726448); /* HdrS */
    ck_assert_uint_eq(number(entry.argument + 0x70, 8), ACPI_AT);
    ck_assert_uint_eq(number(entry.argument + 0x228, 4), CMDLINE_AT);
    ck_assert_uint_ge(number(entry.argument + 0x1e8, 1), 4);
    for (uint64_t address = 0; address < UINT64_C(4) << 30;
         address += UINT64_C(512) << 20) {
        uint64_t top = number(PAGE_TABLES_AT + 8 * (address >> 39 & 511), 8);
        uint64_t middle = number((top & ~UINT64_C(0xfff)) + 8 * (address >> 30 & 511), 8);
        uint64_t low = number((middle & ~UINT64_C(0xfff)) + 8 * (address >> 21 & 511), 8);
        ck_assert_uint_eq(low, address | 0x83);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("boot_linux");
    TCase *tests = tcase_create("boot_linux");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, a_pvh_kernel_is_placed_and_told_of_the_machine);
    tcase_add_test(tests, what_lies_behind_a_pvh_kernel_is_not_looked_at);
    tcase_add_loop_test(tests, the_memory_map_is_all_ram_but_the_last_of_the_first_mib, 0,
                        sizeof(sizes) / sizeof(sizes[0]));
    tcase_add_test(tests, the_initrd_lies_high_and_whole);
    tcase_add_test(tests, an_initrd_without_room_is_refused_with_numbers);
    tcase_add_test(tests, a_kernel_without_room_is_refused_with_numbers);
    tcase_add_test(tests, a_command_line_has_a_limit);
    tcase_add_test(tests, a_bzimage_finds_its_zero_page_and_all_of_4_gib_mapped);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
