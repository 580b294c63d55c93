/* Goal: a kernel's file is read as what it is, and one that lies about itself is refused
 * before anything is copied. Method: a small good ELF file, broken in one place per row;
 * a bzImage header made by hand. */
#include "micro_kernel.h"
#include "support/corpus_seed.h"
#include "support/test_main.h"
#include "vmm/kernel_image.h"

#include <check.h>

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

static const uint8_t code[] = {0xf4}; /* hlt */

START_TEST(a_pvh_kernel_is_read)
{
    struct kernel_image image;
    struct err err = {0};
    int fd = micro_kernel(code, sizeof(code));

    int r = kernel_image_read(fd, &image, &err);

    ck_assert_msg(r == 0, "%s", err.text);
    ck_assert_int_eq(image.format, KERNEL_PVH);
    ck_assert_uint_eq(image.piece_count, 1);
    ck_assert_uint_eq(image.entry, MICRO_KERNEL_AT + MICRO_CODE_AT);
    ck_assert_uint_eq(image.end, MICRO_KERNEL_AT + MICRO_CODE_AT + 1 + 0x1000);
    (void)close(fd);
}
END_TEST

struct lie_row {
    size_t offset;
    uint64_t value;
    size_t size;
    const char *words;
};

#define AT(member) offsetof(struct micro_elf, member)

static const struct lie_row lies[] = {
    {AT(header.e_ident), 0, 1, "neither an ELF file (vmlinux) nor a bzImage (vmlinuz)"},
    {AT(header.e_ident) + EI_CLASS, ELFCLASS32, 1, "not an ELF file for x86-64"},
    {AT(header.e_machine), EM_386, 2, "not an ELF file for x86-64"},
    {AT(header.e_phnum), 0, 2, "not an ELF file for x86-64"},
    {AT(header.e_phnum), 0xffff, 2, "not an ELF file for x86-64"},
    {AT(header.e_phentsize), 1, 2, "not an ELF file for x86-64"},
    {AT(header.e_phoff), UINT64_MAX - 8, 8, "read its program headers"},
    {AT(segments[0].p_offset), UINT64_MAX, 8, "beyond the file's end"},
    {AT(segments[0].p_filesz), UINT64_MAX, 8, "beyond the file's end"},
    {AT(segments[0].p_memsz), 1, 8, "where none can be"},
    {AT(segments[0].p_memsz), UINT64_MAX, 8, "where none can be"},
    {AT(segments[0].p_paddr), 0, 8, "where none can be"},
    {AT(segments[0].p_paddr), UINT64_MAX - 0xfff, 8, "where none can be"},
    {AT(segments[0].p_type), PT_NULL, 4, "its entry lies in no piece"},
    {AT(segments[1].p_filesz), 0x20000, 8, "its notes are over"},
    {AT(segments[1].p_offset), UINT64_MAX, 8, "read its notes"},
    {AT(note[0]), UINT32_MAX, 4, "has no PVH entry"}, /* longer than the notes */
    {AT(note[1]), UINT32_MAX, 4, "has no PVH entry"},
    {AT(note[1]), 0, 4, "has no PVH entry"},
    {AT(note[2]), 17, 4, "has no PVH entry"},
    {AT(note_owner), 'Y', 1, "has no PVH entry"},
    {AT(entry), 0x200000, 4, "its entry lies in no piece"},
};

START_TEST(a_file_that_lies_about_itself_is_refused_with_the_reason)
{
    struct kernel_image image = {.format = 0};
    struct err err = {0};
    struct micro_elf elf = micro_elf_make(sizeof(code));
    memcpy((uint8_t *)&elf + lies[_i].offset, &lies[_i].value, lies[_i].size);
    int fd = micro_kernel_file(&elf, code, sizeof(code));

    int r = kernel_image_read(fd, &image, &err);

    ck_assert_int_eq(r, BERTH_EINVALID);
    ck_assert_msg(strstr(err.text, lies[_i].words) != NULL, "%s", err.text);
    ck_assert_int_eq(image.format, 0); /* nothing half done */
    (void)close(fd);
}
END_TEST

/* ---- bzImage */

#define SETUP_BYTES 0x400u
#define FILE_BYTES  0x3000u

static uint8_t file[FILE_BYTES];

static void number_put(unsigned offset, uint64_t value, unsigned size)
{
    memcpy(file + offset, &value, size);
}

static void bzimage_make(void)
{
    memset(file, 0, sizeof(file));
    file[0x1f1] = 1; /* setup sectors beside the first: two in all */
    file[0x201] = 0x66;
    memcpy(file + 0x202, "HdrS", 4);
    number_put(0x206, 0x20f, 2);
    number_put(0x22c, 0x7fffffff, 4);
    number_put(0x236, 1, 2);
    number_put(0x238, 2047, 4);
    number_put(0x258, 0x1000000, 8);
    number_put(0x260, 0x10000, 4);
}

static int bzimage_read(struct kernel_image *ret_image, struct err *err)
{
    int fd = memfd_create("bzimage", MFD_CLOEXEC);
    ck_assert_int_eq(pwrite(fd, file, sizeof(file), 0), (int)sizeof(file));
    int r = kernel_image_read(fd, ret_image, err);
    (void)close(fd);
    return r;
}

START_TEST(a_bzimage_is_read)
{
    struct kernel_image image;
    struct err err = {0};
    bzimage_make();

    ck_assert_msg(bzimage_read(&image, &err) == 0, "%s", err.text);

    ck_assert_int_eq(image.format, KERNEL_BZIMAGE);
    ck_assert_uint_eq(image.entry, 0x1000200);
    ck_assert_uint_eq(image.pieces[0].file_offset, SETUP_BYTES);
    ck_assert_uint_eq(image.pieces[0].file_bytes, FILE_BYTES - SETUP_BYTES);
    ck_assert_uint_eq(image.pieces[0].memory_bytes, 0x10000);
    ck_assert_uint_eq(image.setup_bytes, 0x202 - KERNEL_SETUP_AT + 0x66);
    ck_assert_uint_eq(image.initrd_max, 0x7fffffff);
    ck_assert_uint_eq(image.cmdline_max, 2047);
}
END_TEST

struct header_row {
    unsigned offset;
    uint64_t value;
    unsigned size;
};

static const struct header_row headers[] = {
    {0x206, 0x20b, 2},            /* before 2.12 */
    {0x236, 0, 2},                /* 32-bit only */
    {0x1f1, 0xff, 1},             /* the setup is longer than the file */
    {0x1f1, 0x16, 1},             /* the file ends before the entry */
    {0x258, 0x1000001, 8},        /* placed askew */
    {0x258, UINT64_MAX << 12, 8}, /* placed beyond everything */
    {0x258, 0, 8},                /* placed on the loader's own things */
};

START_TEST(a_bzimage_that_cannot_be_is_refused)
{
    struct kernel_image image;
    bzimage_make();
    number_put(headers[_i].offset, headers[_i].value, headers[_i].size);

    ck_assert_int_eq(bzimage_read(&image, NULL), BERTH_EINVALID);
}
END_TEST

START_TEST(what_is_too_short_or_no_file_is_refused)
{
    struct kernel_image image;
    int pipes[2];
    int fd = memfd_create("short", MFD_CLOEXEC);
    ck_assert_int_eq(pwrite(fd, ELFMAG, SELFMAG, 0), SELFMAG);
    ck_assert_int_eq(pipe(pipes), 0);

    ck_assert_int_eq(kernel_image_read(fd, &image, NULL), BERTH_EINVALID);
    ck_assert_int_eq(kernel_image_read(pipes[0], &image, NULL), BERTH_EINVALID);
    ck_assert_int_eq(kernel_image_read(-1, &image, NULL), -EBADF);
    (void)close(fd);
    (void)close(pipes[0]);
    (void)close(pipes[1]);
}
END_TEST

/* One of each format, with an initrd and without, for the fuzzer to begin with: RAM in
 * steps of 2 MiB, how long the command line is, the initrd's size (two), and the file. */
START_TEST(fuzzing_begins_with_a_kernel_of_each_format)
{
    static const struct {
        const char *name;
        uint8_t head[4];
        bool is_elf;
    } rows[] = {{"elf", {7, 16, 0, 0}, true},
                {"elf_initrd", {7, 16, 9, 3}, true},
                {"bzimage", {15, 3, 0, 0}, false},
                {"bzimage_initrd", {15, 3, 1, 2}, false}};
    static uint8_t made[4 + FILE_BYTES];
    const struct micro_elf elf = micro_elf_make(sizeof(code));
    size_t size = sizeof(made);
    uint8_t *seed = NULL;
    size_t seed_size = 0;
    memset(made, 0, sizeof(made));
    memcpy(made, rows[_i].head, 4);
    if (rows[_i].is_elf) {
        memcpy(made + 4, &elf, sizeof(elf));
        memcpy(made + 4 + MICRO_CODE_AT, code, sizeof(code));
        size = 4 + MICRO_CODE_AT + sizeof(code);
    } else {
        bzimage_make();
        memcpy(made + 4, file, sizeof(file));
    }

    corpus_seed("vmm_kernel_load", rows[_i].name, made, size, &seed, &seed_size);

    ck_assert_uint_eq(seed_size, size);
    ck_assert_mem_eq(seed, made, size);
    free(seed);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("kernel_image");
    TCase *tests = tcase_create("kernel_image");
    tcase_add_test(tests, a_pvh_kernel_is_read);
    tcase_add_loop_test(tests, a_file_that_lies_about_itself_is_refused_with_the_reason,
                        0, sizeof(lies) / sizeof(lies[0]));
    tcase_add_test(tests, a_bzimage_is_read);
    tcase_add_loop_test(tests, a_bzimage_that_cannot_be_is_refused, 0,
                        sizeof(headers) / sizeof(headers[0]));
    tcase_add_test(tests, what_is_too_short_or_no_file_is_refused);
    tcase_add_loop_test(tests, fuzzing_begins_with_a_kernel_of_each_format, 0, 4);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
