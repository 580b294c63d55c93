/* Goal: a disk image is taken as what it is, or refused with the reason; one that names a
 * file of the host is never taken. Method: files made by the real qemu-img, and headers
 * with a field of theirs changed. */
#include "agent/disk_format.h"
#include "support/temp_dir.h"
#include "support/test_main.h"

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct temp_dir dir;
static enum disk_format format;
static struct err err;

static void start(void)
{
    temp_dir_init(&dir);
    format = DISK_FORMAT_COUNT;
    err = (struct err){0};
}

static void stop(void)
{
    temp_dir_fini(&dir);
}

/* In the folder; the host's secret lies there, too. */
static void run(const char *command)
{
    char line[4096];
    (void)snprintf(line, sizeof(line), "cd %s && echo secret >host && %s", dir.path,
                   command);
    ck_assert_msg(system(line) == 0, "%s", line);
}

static int look(const char *name)
{
    char *path = temp_dir_path(&dir, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    int r = disk_format_read(fd, &format, &err);
    (void)close(fd);
    free(path);
    return r;
}

/* ---- files of qemu-img ---- */

static const struct {
    const char *command; /* makes `disk` */
    enum disk_format format;
} taken[] = {
    {"qemu-img create -q -f raw disk 8M", DISK_FORMAT_RAW},
    {"head -c 3000000 /dev/urandom >disk", DISK_FORMAT_RAW},
    {": >disk", DISK_FORMAT_RAW},
    {"printf QFI >disk", DISK_FORMAT_RAW},
    {"qemu-img create -q -f qcow2 disk 8M", DISK_FORMAT_QCOW2},
    {"qemu-img create -q -f qcow2 -o compat=0.10 disk 8M", DISK_FORMAT_QCOW2},
    {"qemu-img create -q -f qcow2 -o preallocation=metadata,cluster_size=512 disk 1M",
     DISK_FORMAT_QCOW2},
    {"qemu-img create -q -f qcow2 -o compression_type=zstd,extended_l2=on disk 8M",
     DISK_FORMAT_QCOW2},
    {"qemu-img convert -c -O qcow2 host disk", DISK_FORMAT_QCOW2},
};

START_TEST(what_qemu_img_makes_is_taken_as_what_it_is)
{
    run(taken[_i].command);

    ck_assert_msg(look("disk") == 0, "%s: %s", taken[_i].command, err.text);

    ck_assert_int_eq(format, taken[_i].format);
}
END_TEST

static const struct {
    const char *command;
    const char *word;
    const char *hint; /* or NULL: there is none */
} refused[] = {
    {"qemu-img create -q -f qcow2 -b host -F raw disk", "backing file",
     "qemu-img convert -O raw"},
    {"qemu-img create -q -u -f qcow2 -b /etc/shadow -F raw disk 1M", "backing file",
     "qemu-img convert -O raw"},
    {"qemu-img create -q -u -f qcow2 -o compat=0.10 -b json:{} -F raw disk 1M",
     "backing file", "qemu-img convert -O raw"},
    {"qemu-img create -q -f qcow2 -o data_file=data,data_file_raw=on disk 1M",
     "data is in another file", "qemu-img convert -O raw"},
    {"qemu-img create -q -f qcow2 --object secret,id=s,data=x -o "
     "encrypt.format=aes,encrypt.key-secret=s disk 1M",
     "encrypted", "qemu-img convert -O raw"},
    {"qemu-img create -q -f qcow2 disk 1M && qemu-img snapshot -c one disk", "snapshots",
     "qemu-img convert -O raw"},
    {"qemu-img create -q -f qcow disk 1M", "version is not 2 or 3",
     "qemu-img convert -O raw"},
    {"qemu-img create -q -f qcow2 whole 1M && head -c 100 whole >disk",
     "ends in its header", NULL},
    {"qemu-img create -q -f vmdk disk 1M", "VMDK", "qemu-img convert -O raw"},
    {"qemu-img create -q -f vdi disk 1M", "VDI", "qemu-img convert -O raw"},
    {"qemu-img create -q -f vhdx disk 1M", "VHDX", "qemu-img convert -O raw"},
    {"qemu-img create -q -f vpc disk 1M", "VHD", "qemu-img convert -O raw"},
    {"qemu-img create -q -f qed disk 1M", "QED", "qemu-img convert -O raw"},
    {"printf 'LUKS\\272\\276' >disk", "LUKS", "qemu-img convert -O raw"},
};

START_TEST(what_asks_for_more_is_refused_with_a_way_out)
{
    run(refused[_i].command);

    ck_assert_msg(look("disk") == BERTH_EINVALID, "%s is taken", refused[_i].command);

    ck_assert_msg(strstr(err.text, refused[_i].word) != NULL, "%s", err.text);
    ck_assert_msg(refused[_i].hint == NULL || strstr(err.text, refused[_i].hint) != NULL,
                  "%s", err.text);
}
END_TEST

/* The command of the hint does what it says. */
START_TEST(what_was_converted_as_told_is_taken)
{
    run("qemu-img create -q -f qcow2 -b host -F raw disk");
    ck_assert_int_eq(look("disk"), BERTH_EINVALID);

    run("qemu-img convert -O raw disk new");

    ck_assert_int_eq(look("new"), 0);
    ck_assert_int_eq(format, DISK_FORMAT_RAW);
}
END_TEST

/* ---- single fields ---- */

static const struct {
    const char *what;
    size_t offset;
    uint8_t value;
    const char *word;
} changes[] = {
    {"version", 7, 4, "version"},
    {"backing file's offset, high byte", 8, 1, "backing file"},
    {"backing file's size alone", 19, 1, "backing file"},
    {"cluster bits too few", 23, 8, "makes no sense"},
    {"cluster bits too many", 23, 22, "makes no sense"},
    {"a disk beyond any bound", 24, 1, "makes no sense"},
    {"old encryption", 35, 1, "encrypted"},
    {"a snapshot", 63, 1, "snapshots"},
    {"dirty", 79, 1, "not closed cleanly"},
    {"corrupt", 79, 2, "damaged"},
    {"external data", 79, 4, "another file"},
    {"external data among others", 79, 4 | 16, "another file"},
    {"compression without its bit", 104, 1, "compression"},
    {"compression that is none", 79, 8, "compression"},
    {"an unknown feature", 79, 32, "not known"},
    {"an unknown feature far up", 72, 0x80, "not known"},
    {"a header shorter than it is", 103, 72, "makes no sense"},
    {"a header beyond its cluster", 100, 1, "makes no sense"},
};

/* As qemu-img 7.2 makes it, of 8 MiB. */
static const uint8_t plain[DISK_FORMAT_HEAD] = {
    0x51, 0x46, 0x49, 0xfb, 0,    0, 0, 0x03, 0,    0, 0,    0, 0, 0, 0, 0,    0, 0, 0,
    0,    0,    0,    0,    0x10, 0, 0, 0,    0,    0, 0x80, 0, 0, 0, 0, 0,    0, 0, 0,
    0,    0x01, 0,    0,    0,    0, 0, 0x03, 0,    0, 0,    0, 0, 0, 0, 0x01, 0, 0, 0,
    0,    0,    0x01, 0,    0,    0, 0, 0,    0,    0, 0,    0, 0, 0, 0, 0,    0, 0, 0,
    0,    0,    0,    0,    0,    0, 0, 0,    0,    0, 0,    0, 0, 0, 0, 0,    0, 0, 0,
    0,    0,    0,    0,    0x04, 0, 0, 0,    0x70, 0, 0,    0, 0, 0, 0, 0,    0};

START_TEST(no_field_slips_through)
{
    uint8_t head[DISK_FORMAT_HEAD];
    memcpy(head, plain, sizeof(head));
    ck_assert_int_eq(disk_format_of(head, sizeof(head), &format, &err), 0);
    ck_assert_int_eq(format, DISK_FORMAT_QCOW2);

    head[changes[_i].offset] = changes[_i].value;

    ck_assert_msg(disk_format_of(head, sizeof(head), &format, &err) == BERTH_EINVALID,
                  "%s", changes[_i].what);
    ck_assert_msg(strstr(err.text, changes[_i].word) != NULL, "%s: %s", changes[_i].what,
                  err.text);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("disk_format");
    TCase *tests = tcase_create("disk_format");
    if (system("qemu-img --version >/dev/null 2>&1") != 0) {
        puts("qemu-img is not installed: its files cannot be looked at");
        return 77;
    }
    tcase_add_checked_fixture(tests, start, stop);
    tcase_set_timeout(tests, 60);
    tcase_add_loop_test(tests, what_qemu_img_makes_is_taken_as_what_it_is, 0,
                        sizeof(taken) / sizeof(taken[0]));
    tcase_add_loop_test(tests, what_asks_for_more_is_refused_with_a_way_out, 0,
                        sizeof(refused) / sizeof(refused[0]));
    tcase_add_test(tests, what_was_converted_as_told_is_taken);
    tcase_add_loop_test(tests, no_field_slips_through, 0,
                        sizeof(changes) / sizeof(changes[0]));
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
