/* Goal: a disk goes through Debian's qemu-img and Berth's overlay both ways and is the
 * same, byte for byte; and what cannot be exported leaves nothing. Method: chains of
 * qcow2 files by the real qemu-img with random content and holes, an overlay by the real
 * berth-vmm on what comes of them, random changes in it and in a plain file beside it,
 * berth-vmm --export-disk, and qemu-img once more. */
#include "base/random.h"
#include "support/temp_dir.h"
#include "support/test_main.h"
#include "vmm/disk_overlay.h"
#include "vmm/disk_raw.h"

#include <check.h>

#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#define PROGRAM      BERTH_BINARY_DIR "/berth-vmm"
#define CHUNK        (64u << 10)
#define CHUNKS       24u /* of data in a layer */
#define CHANGES      60u
#define DIGEST       "00ff00000000000000000000000000000000000000000000000000000000abcd"
#define COMMAND_SIZE 1024

static struct temp_dir dir;
static struct random dice;

static void setup(void)
{
    temp_dir_init(&dir);
}

static void teardown(void)
{
    temp_dir_fini(&dir);
}

/* In the folder; its exit code. */
__attribute__((format(printf, 1, 2))) static int run(const char *format, ...)
{
    char command[COMMAND_SIZE];
    int at = snprintf(command, sizeof(command), "cd '%s' && ", dir.path);
    va_list values;
    va_start(values, format);
    at += vsnprintf(command + at, sizeof(command) - (size_t)at, format, values);
    va_end(values);
    ck_assert_int_lt(at, COMMAND_SIZE);
    return system(command);
}

#define MUST(...) ck_assert_msg(run(__VA_ARGS__) == 0, __VA_ARGS__)

static int open_in(const char *name, int flags)
{
    char *path = temp_dir_path(&dir, name);
    const int fd = open(path, flags | O_CLOEXEC, 0600);
    ck_assert_msg(fd >= 0, "%s", path);
    free(path);
    return fd;
}

static uint64_t size_of(const char *name)
{
    struct stat info;
    const int fd = open_in(name, O_RDONLY);
    ck_assert_int_eq(fstat(fd, &info), 0);
    (void)close(fd);
    return (uint64_t)info.st_size;
}

/* ---- content ---- */

static void noise(uint8_t *data, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        data[i] = (uint8_t)random_u64(&dice);
    }
}

/* Data here and there in a file, and zeros that are written. */
static void scatter(int fd, uint64_t size)
{
    static uint8_t data[CHUNK];
    for (unsigned i = 0; i < CHUNKS; i++) {
        const uint64_t at = random_below(&dice, size);
        const uint64_t most = size - at < CHUNK ? size - at : CHUNK;
        const size_t part = (size_t)(1 + random_below(&dice, most));
        if (i % 4 == 3) {
            memset(data, 0, part);
        } else {
            noise(data, part);
        }
        ck_assert_int_eq(pwrite(fd, data, part, (off_t)at), (ssize_t)part);
    }
}

/* ---- Berth's side ---- */

static struct virtual_disk *overlay_open(void)
{
    struct disk_file *file = NULL;
    struct virtual_disk *base = NULL;
    struct virtual_disk *disk = NULL;
    struct digest digest;
    ck_assert_int_eq(digest_parse(DIGEST, &digest), 0);
    ck_assert_int_eq(disk_file_new(open_in("in.raw", O_RDONLY), &file, NULL), 0);
    ck_assert_int_eq(disk_raw_new(file, true, &base, NULL), 0);
    ck_assert_int_eq(disk_file_new(open_in("over", O_RDWR), &file, NULL), 0);
    ck_assert_int_eq(disk_overlay_open(file, base, &digest, &disk, NULL), 0);
    return disk;
}

static void is_the_same(struct virtual_disk *disk, int model)
{
    static uint8_t seen[CHUNK];
    static uint8_t want[CHUNK];
    for (uint64_t at = 0; at < disk->size_bytes; at += CHUNK) {
        const uint64_t left = disk->size_bytes - at;
        const size_t part = left < CHUNK ? (size_t)left : CHUNK;
        const struct iovec piece = {seen, part};
        ck_assert_int_eq(disk_read(disk, at, &piece, 1, part), 0);
        ck_assert_int_eq(pread(model, want, part, (off_t)at), (ssize_t)part);
        ck_assert_msg(memcmp(seen, want, part) == 0, "other bytes from %ld on", (long)at);
    }
}

/* The same to both: writes and zeros of some sectors. */
static void change(struct virtual_disk *disk, int model)
{
    static uint8_t data[CHUNK];
    const uint64_t sectors = disk->size_bytes / DISK_SECTOR_BYTES;
    for (unsigned i = 0; i < CHANGES; i++) {
        const uint64_t first = random_below(&dice, sectors);
        const uint64_t left = sectors - first;
        const uint64_t most = CHUNK / DISK_SECTOR_BYTES;
        const uint64_t count = 1 + random_below(&dice, left < most ? left : most);
        const size_t size = (size_t)(count * DISK_SECTOR_BYTES);
        const uint64_t at = first * DISK_SECTOR_BYTES;
        const struct iovec piece = {data, size};
        if (i % 3 == 2) {
            memset(data, 0, size);
            ck_assert_int_eq(disk_zero(disk, at, size), 0);
        } else {
            noise(data, size);
            ck_assert_int_eq(disk_write(disk, at, &piece, 1, size), 0);
        }
        ck_assert_int_eq(pwrite(model, data, size, (off_t)at), (ssize_t)size);
    }
    ck_assert_int_eq(disk_flush(disk), 0);
}

/* ---- there and back ---- */

static const struct journey {
    uint64_t size;        /* of the file that comes in */
    const char *clusters; /* qemu-img's options */
    const char *flags;    /* of its first layer */
    unsigned layers;      /* qcow2 files on each other */
    uint64_t grown;       /* the overlay's disk is so much larger */
} journeys[] = {
    {512, "cluster_size=512", "", 1, 0},
    {100001, "cluster_size=4096", "", 1, 0}, /* no whole sectors */
    {65536 - 512, "cluster_size=65536", "-c", 1, 512},
    {4096 + 512, "cluster_size=65536", "", 3, 1 << 20},
    {(5 << 20) + 3 * 512, "cluster_size=65536", "", 2, 0},
    {(5 << 20) + 3 * 512, "cluster_size=512,compat=0.10", "", 3, 7 * 512},
    {(3 << 20) + 4096, "cluster_size=2097152,lazy_refcounts=on", "-c", 2, 0},
    {(3 << 20) + 4096, "extended_l2=on", "", 2, 65536},
    /* a bit more than a page of the overlay's bitmap has bits for */
    {(UINT64_C(128) << 20) + 512, "cluster_size=65536", "", 2, 0},
};

/* in.raw, by qemu-img out of a chain; content.raw is what the chain was made of. */
static void come_in(const struct journey *journey)
{
    const int content = open_in("content.raw", O_RDWR | O_CREAT);
    ck_assert_int_eq(ftruncate(content, (off_t)journey->size), 0);
    for (unsigned layer = 0; layer < journey->layers; layer++) {
        char beneath[64] = "";
        scatter(content, journey->size);
        if (layer > 0) {
            (void)snprintf(beneath, sizeof(beneath), "-B layer%u -F qcow2", layer - 1);
        }
        MUST("qemu-img convert -f raw -O qcow2 %s %s -o %s content.raw layer%u",
             layer == 0 ? journey->flags : "", beneath, journey->clusters, layer);
    }
    (void)close(content);
    MUST("qemu-img convert -f qcow2 -O raw layer%u in.raw", journey->layers - 1);
    MUST("cmp -n %lu content.raw in.raw", (unsigned long)journey->size);
}

START_TEST(a_disk_goes_through_qemu_img_both_ways)
{
    const struct journey *journey = &journeys[_i];
    random_seed(&dice, 100 + (uint64_t)_i);
    come_in(journey);
    const uint64_t size = size_of("in.raw") + journey->grown;
    MUST("cp in.raw model.raw && truncate -s %lu model.raw", (unsigned long)size);
    const int model = open_in("model.raw", O_RDWR);
    MUST(PROGRAM " --make-overlay file=over,base=in.raw,digest=" DIGEST ",size=%luB",
         (unsigned long)size);
    struct virtual_disk *disk = overlay_open();
    ck_assert_uint_eq(disk->size_bytes, size);
    is_the_same(disk, model);
    change(disk, model);
    disk_free(disk);

    MUST(PROGRAM " --export-disk file=out.raw,overlay=over,base=in.raw,digest=" DIGEST);

    MUST("cmp model.raw out.raw");
    MUST("qemu-img convert -f raw -O qcow2 -o %s out.raw out.qcow2", journey->clusters);
    MUST("qemu-img check -q out.qcow2");
    MUST("qemu-img compare -q -f qcow2 -F raw out.qcow2 model.raw");
    MUST("qemu-img convert -f qcow2 -O raw out.qcow2 back.raw && cmp model.raw back.raw");
    MUST("cmp -n %lu content.raw in.raw", (unsigned long)journey->size); /* as it was */
    (void)close(model);
}
END_TEST

/* ---- what an export leaves ---- */

static void small_overlay(void)
{
    MUST("head -c 1M /dev/zero | tr '\\0' x >in.raw");
    MUST(PROGRAM " --make-overlay file=over,base=in.raw,digest=" DIGEST ",size=64MiB");
}

START_TEST(an_export_is_the_owners_alone_and_has_holes)
{
    struct stat info;
    small_overlay();

    MUST(PROGRAM " --export-disk file=out.raw,overlay=over,base=in.raw,digest=" DIGEST);

    const int fd = open_in("out.raw", O_RDONLY);
    ck_assert_int_eq(fstat(fd, &info), 0);
    (void)close(fd);
    ck_assert_int_eq(info.st_size, 64 << 20);
    ck_assert_int_le(info.st_blocks, (2 << 20) / 512);
    ck_assert_uint_eq(info.st_mode & 0777u, 0600);
}
END_TEST

#define BASE "base=in.raw,digest=" DIGEST

static const struct {
    const char *before; /* what is done to the files */
    const char *list;
    const char *words; /* of the error */
} refusals[] = {
    {"true", "file=out.raw,overlay=over,base=in.raw", "overlay: "}, /* another base */
    {"true", "file=out.raw,overlay=over", "overlay: "},
    {"true", "file=out.raw,overlay=in.raw," BASE, "overlay: "},
    {"true", "file=out.raw,overlay=nothing," BASE, "nothing"},
    {"true", "file=out.raw,overlay=over,base=nothing,digest=" DIGEST, "nothing"},
    {"truncate -s 65537K over", "file=out.raw,overlay=over," BASE, "overlay: "},
    {"truncate -s 1000 in.raw", "file=out.raw,overlay=over," BASE, "base: "},
    {"true", "file=no/out.raw,overlay=over," BASE, "no/out.raw"},
};

START_TEST(what_cannot_be_exported_leaves_no_file)
{
    small_overlay();
    MUST("%s", refusals[_i].before);

    ck_assert_int_ne(run(PROGRAM " --export-disk %s 2>words", refusals[_i].list), 0);

    MUST("grep -q -- '^berth-vmm: --export-disk: .*%s' words", refusals[_i].words);
    MUST("! ls out.raw out.raw.part 2>/dev/null");
}
END_TEST

START_TEST(a_file_that_is_there_stays_as_it_is)
{
    small_overlay();
    MUST("echo mine >out.raw");

    ck_assert_int_ne(
        run(PROGRAM " --export-disk file=out.raw,overlay=over," BASE " 2>words"), 0);

    MUST("grep -q 'out.raw: File exists' words");
    MUST("[ \"$(cat out.raw)\" = mine ]");
}
END_TEST

/* ---- who reads ---- */

static _Noreturn void program_be_traced(void)
{
    (void)alarm(100);
    if (chdir(dir.path) != 0 || ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0 ||
        raise(SIGSTOP) != 0 ||
        setenv("ASAN_OPTIONS", "detect_leaks=0", 1) != 0) { /* not while traced */
        _exit(98);
    }
    (void)execl(PROGRAM, PROGRAM, "--export-disk", "file=out.raw,overlay=over," BASE,
                (char *)NULL);
    _exit(99);
}

/* What the process that copies has done, each of whose calls is seen twice: as it
 * comes, when rax holds no answer, and as it leaves. */
struct seen {
    bool landlock;
    bool rights;    /* the last: which system calls there are */
    unsigned reads; /* of disks */
    unsigned early; /* before that */
};

static void look(pid_t pid, struct seen *seen)
{
    struct user_regs_struct at;
    ck_assert_int_eq(ptrace(PTRACE_GETREGS, pid, NULL, &at), 0);
    seen->landlock = seen->landlock || at.orig_rax == SYS_landlock_restrict_self;
    seen->rights = seen->rights || (at.orig_rax == SYS_seccomp && (int64_t)at.rax == 0);
    if (at.orig_rax == SYS_pread64 || at.orig_rax == SYS_preadv) {
        seen->reads++;
        seen->early += seen->rights ? 0 : 1;
    }
}

START_TEST(an_overlay_is_read_behind_all_walls)
{
    struct seen seen = {0};
    int status = 0;
    const long calls = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEFORK | PTRACE_O_EXITKILL;
    small_overlay();
    (void)fflush(NULL);
    const pid_t program = fork();
    if (program == 0) {
        program_be_traced();
    }
    ck_assert_int_eq(waitpid(program, &status, 0), program);
    ck_assert_int_eq(ptrace(PTRACE_SETOPTIONS, program, NULL, calls), 0);

    for (pid_t pid = program; pid != program || WIFSTOPPED(status);) {
        if (pid != program && WIFSTOPPED(status) &&
            WSTOPSIG(status) == (SIGTRAP | 0x80)) {
            look(pid, &seen);
        }
        if (WIFSTOPPED(status)) {
            (void)ptrace(pid == program ? PTRACE_CONT : PTRACE_SYSCALL, pid, NULL, 0L);
        }
        pid = waitpid(-1, &status, __WALL);
        ck_assert_int_gt(pid, 0);
    }

    ck_assert_int_eq(status, 0);
    ck_assert_uint_gt(seen.reads, 0);
    ck_assert_uint_eq(seen.early, 0);
    ck_assert(seen.landlock || syscall(SYS_landlock_create_ruleset, NULL, 0, 1U) < 1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("vmm_export");
    TCase *tests = tcase_create("vmm_export");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_set_timeout(tests, 120);
    if (system("qemu-img --version >/dev/null 2>&1") == 0) {
        tcase_add_loop_test(tests, a_disk_goes_through_qemu_img_both_ways, 0,
                            sizeof(journeys) / sizeof(journeys[0]));
    } else {
        puts("qemu-img is not installed: disks cannot go through it");
    }
    tcase_add_test(tests, an_export_is_the_owners_alone_and_has_holes);
    tcase_add_loop_test(tests, what_cannot_be_exported_leaves_no_file, 0,
                        sizeof(refusals) / sizeof(refusals[0]));
    tcase_add_test(tests, a_file_that_is_there_stays_as_it_is);
    tcase_add_test(tests, an_overlay_is_read_behind_all_walls);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
