/* Goal: what is in a packed kernel is kept beside it, whole or not at all, and whatever
 * berth-unpack does a kernel stays good as it came. Method: the real program on small
 * kernels made here, and scripts that stand for one that misbehaves. */
#include "agent/kernel_unpack.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "support/temp_dir.h"
#include "support/test_main.h"

#include <check.h>

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define HEAD 0x800u
#define CODE 0x1000u

/* The least that PVH can enter. */
struct small_elf {
    Elf64_Ehdr header;
    Elf64_Phdr segments[2];
    uint32_t note[3];
    char owner[4];
    uint32_t entry;
    uint8_t rest[CODE];
};

static struct temp_dir dir;
static struct small_elf elf;
static uint8_t file[HEAD + sizeof(struct small_elf)];
static char tmp_path[TEMP_DIR_PATH_SIZE + 16];
static bool is_wanted;
static unsigned looks; /* at whether it is still wanted */

static bool wanted(void *context)
{
    (void)context;
    return is_wanted;
}

static void setup(void)
{
    temp_dir_init(&dir);
    elf = (struct small_elf){
        .header = {.e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64,
                               ELFDATA2LSB, EV_CURRENT},
                   .e_type = ET_EXEC,
                   .e_machine = EM_X86_64,
                   .e_phoff = offsetof(struct small_elf, segments),
                   .e_phentsize = sizeof(Elf64_Phdr),
                   .e_phnum = 2},
        .segments = {{.p_type = PT_LOAD,
                      .p_paddr = 0x100000,
                      .p_filesz = sizeof(elf),
                      .p_memsz = sizeof(elf)},
                     {.p_type = PT_NOTE,
                      .p_offset = offsetof(struct small_elf, note),
                      .p_filesz = offsetof(struct small_elf, rest) -
                                  offsetof(struct small_elf, note)}},
        .note = {4, 4, 18},
        .owner = "Xen",
        .entry = 0x100000 + offsetof(struct small_elf, rest),
    };
    const uint32_t offset = HEAD - 4 * 512;
    const uint32_t length = sizeof(elf);
    memset(file, 0, sizeof(file));
    file[0x1f1] = 3;
    memcpy(file + 0x202, "HdrS\x0f\x02", 6);
    memcpy(file + 0x248, &offset, 4);
    memcpy(file + 0x24c, &length, 4);
    is_wanted = true;
    looks = 0;
    (void)snprintf(tmp_path, sizeof(tmp_path), "%s/tmp.elf", dir.path);
}

static void teardown(void)
{
    temp_dir_fini(&dir);
}

static void kernel_write(void)
{
    CLEANUP_FREE char *path = temp_dir_path(&dir, "kernel");
    CLEANUP_FD int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    ck_assert_int_eq(write(fd, file, sizeof(file)), sizeof(file));
}

/* The real one. */
static int run(struct err *err)
{
    memcpy(file + HEAD, &elf, sizeof(elf));
    kernel_write();
    CLEANUP_FREE char *kernel = temp_dir_path(&dir, "kernel");
    CLEANUP_FD int fd = open(kernel, O_RDONLY | O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    const struct kernel_unpack unpack = {.program = BERTH_BINARY_DIR "/berth-unpack",
                                         .fd = fd,
                                         .folder = dir.path,
                                         .name = "kernel",
                                         .tmp_path = tmp_path,
                                         .is_wanted = wanted};
    const int r = kernel_unpack(&unpack, err);
    ck_assert_int_eq(access(tmp_path, F_OK), -1); /* nothing is left half done */
    return r;
}

static bool is_unpacked(void)
{
    CLEANUP_FREE char *kernel = temp_dir_path(&dir, "kernel");
    char path[256];
    struct stat info;
    ck_assert(kernel_unpacked_path(kernel, path, sizeof(path)));
    if (stat(path, &info) != 0) {
        return false;
    }
    ck_assert_int_eq(info.st_mode & 07777, 0400);
    ck_assert_uint_eq((uint64_t)info.st_size, sizeof(elf) + KERNEL_UNPACK_SEAL);
    CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct small_elf again;
    ck_assert_int_eq(read(fd, &again, sizeof(again)), sizeof(again));
    ck_assert_mem_eq(&again, &elf, sizeof(elf));
    return true;
}

START_TEST(what_is_in_a_kernel_is_kept_beside_it)
{
    struct err err = {0};

    ck_assert_msg(run(&err) == 0, "%s", err.text);

    ck_assert(is_unpacked());
}
END_TEST

static int check(void)
{
    struct err err = {0};
    const struct kernel_unpack unpack = {
        .folder = dir.path, .name = "kernel", .is_wanted = wanted};
    return kernel_unpacked_check(&unpack, &err);
}

static char *unpacked_path(void)
{
    return temp_dir_path(&dir, KERNEL_UNPACK_FOLDER "/kernel");
}

/* A byte of it, of its seal, or of its end. */
START_TEST(what_was_in_a_kernel_is_known_to_be_whole_or_thrown_away)
{
    struct err err = {0};
    const off_t sizes[] = {sizeof(elf) + KERNEL_UNPACK_SEAL - 1, sizeof(elf),
                           KERNEL_UNPACK_SEAL - 1, 0};
    ck_assert_int_eq(check(), 0); /* there is none */
    ck_assert_msg(run(&err) == 0, "%s", err.text);
    ck_assert_int_eq(check(), 0);
    is_wanted = false;
    ck_assert_int_eq(check(), BERTH_ECLOSED);
    is_wanted = true;
    ck_assert(is_unpacked());

    CLEANUP_FREE char *path = unpacked_path();
    if (_i < 2) {
        const off_t at = _i == 0 ? 100 : (off_t)(sizeof(elf) + KERNEL_UNPACK_SEAL) - 1;
        uint8_t byte = 0;
        CLEANUP_FD int fd = open(path, O_RDWR | O_CLOEXEC);
        ck_assert_int_eq(pread(fd, &byte, 1, at), 1);
        byte ^= 4;
        ck_assert_int_eq(pwrite(fd, &byte, 1, at), 1);
    } else {
        ck_assert_int_eq(truncate(path, sizes[_i - 2]), 0);
    }
    ck_assert_int_eq(check(), _i < 2 ? BERTH_ECORRUPT : BERTH_ENOTFOUND); /* no seal */

    ck_assert_int_eq(access(path, F_OK), -1);
}
END_TEST

START_TEST(what_cannot_be_entered_is_not_kept)
{
    struct err err = {0};
    elf.note[2] = 17; /* no PVH entry */

    ck_assert_int_eq(run(&err), BERTH_EINVALID);

    ck_assert_str_eq(err.text, "unpack: kernel: has no PVH entry (CONFIG_PVH)");
    ck_assert(!is_unpacked());
}
END_TEST

START_TEST(a_kernel_with_nothing_in_it_is_fine_as_it_is)
{
    struct err err = {0};
    memset(file + 0x24c, 0, 4);

    ck_assert_int_eq(run(&err), 0);

    ck_assert(!is_unpacked());
}
END_TEST

/* Programs that misbehave, and what is said of them. */
static const struct {
    const char *script;
    int code;
    const char *words;
} faults[] = {
    {"#!/bin/sh\nexit 7\n", BERTH_ECHILD, "berth-unpack ended by exit status 7"},
    {"#!/bin/sh\n{ printf x >&0; } 2>/dev/null && exit 9\nexit 7\n", BERTH_ECHILD,
     "berth-unpack ended by exit status 7"}, /* the store's file is not its to write */
    {"#!/bin/sh\n[ $1 = $PPID ] && [ $2 -gt 4096 ] && printf 'told' >&2; exit 1\n",
     BERTH_EINVALID, "unpack: told"}, /* who has started it, and the disk's room */
    {"#!/bin/sh\nkill -11 $$\n", BERTH_ECHILD, "berth-unpack ended by signal 11"},
    {"#!/bin/sh\necho half\nprintf 'its disk is full' >&2\nexit 1\n", BERTH_EINVALID,
     "unpack: its disk is full"},
    {"#!/bin/sh\nexec cat /dev/zero >&2\n", BERTH_ECLOSED, "unpack"},
};

static bool wanted_for_a_while(void *context)
{
    (void)context;
    return looks++ < 3;
}

START_TEST(a_program_that_misbehaves_costs_nothing)
{
    struct err err = {0};
    CLEANUP_FREE char *script = temp_dir_path(&dir, "script");
    CLEANUP_FREE char *kernel = temp_dir_path(&dir, "kernel");
    kernel_write();
    temp_dir_write(&dir, "script", faults[_i].script);
    ck_assert_int_eq(chmod(script, 0700), 0);
    CLEANUP_FD int fd = open(kernel, O_RDWR | O_CLOEXEC);
    const struct kernel_unpack unpack = {.program = script,
                                         .fd = fd,
                                         .folder = dir.path,
                                         .name = "kernel",
                                         .tmp_path = tmp_path,
                                         .is_wanted = wanted_for_a_while};

    ck_assert_int_eq(kernel_unpack(&unpack, &err), faults[_i].code);

    ck_assert_msg(strstr(err.text, faults[_i].words) != NULL, "%s", err.text);
    ck_assert(!is_unpacked());
    ck_assert_int_eq(access(tmp_path, F_OK), -1);
}
END_TEST

START_TEST(a_program_that_is_not_there_is_told)
{
    struct err err = {0};
    CLEANUP_FREE char *kernel = temp_dir_path(&dir, "kernel");
    kernel_write();
    CLEANUP_FD int fd = open(kernel, O_RDONLY | O_CLOEXEC);
    const struct kernel_unpack unpack = {.program = "/nonexistent/berth-unpack",
                                         .fd = fd,
                                         .folder = dir.path,
                                         .name = "kernel",
                                         .tmp_path = tmp_path};

    ck_assert_int_eq(kernel_unpack(&unpack, &err), BERTH_ECHILD);

    ck_assert_ptr_nonnull(strstr(err.text, "start /nonexistent/berth-unpack"));
}
END_TEST

START_TEST(only_what_begins_as_a_bzimage_is_tried)
{
    CLEANUP_FREE char *kernel = temp_dir_path(&dir, "kernel");
    kernel_write();
    CLEANUP_FD int fd = open(kernel, O_RDWR | O_CLOEXEC);
    ck_assert(kernel_unpack_fits(fd));

    ck_assert_int_eq(pwrite(fd, "x", 1, 0x202), 1);
    ck_assert(!kernel_unpack_fits(fd));
    ck_assert_int_eq(ftruncate(fd, 100), 0);
    ck_assert(!kernel_unpack_fits(fd));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("kernel_unpack");
    TCase *tests = tcase_create("all");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, what_is_in_a_kernel_is_kept_beside_it);
    tcase_add_loop_test(tests, what_was_in_a_kernel_is_known_to_be_whole_or_thrown_away,
                        0, 6);
    tcase_add_test(tests, what_cannot_be_entered_is_not_kept);
    tcase_add_test(tests, a_kernel_with_nothing_in_it_is_fine_as_it_is);
    tcase_add_loop_test(tests, a_program_that_misbehaves_costs_nothing, 0,
                        (int)ARRAY_COUNT(faults));
    tcase_add_test(tests, a_program_that_is_not_there_is_told);
    tcase_add_test(tests, only_what_begins_as_a_bzimage_is_tried);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
