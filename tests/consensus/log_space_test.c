/* Goal: the log writes into space that has been written before, and nobody else's files
 * are filled with zeros. Method: the file system is asked which parts of a file it has as
 * allocated only; a real voter for that libraft's call arrives. A file system that cannot
 * be asked, or has no such parts, makes it a test that was skipped. */
#include "consensus/log_space.h"
#include "support/test_main.h"
#include "voters_fixture.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#define EXTENTS_MAX 64

static struct temp_dir dir;
static bool *passed_over; /* shared with the checks' processes */
static struct voters voters;

/* Bytes that are allocated only; -1: the file system does not say. */
static int64_t unwritten(int fd)
{
    struct fiemap *map =
        calloc(1, sizeof(*map) + EXTENTS_MAX * sizeof(struct fiemap_extent));
    ck_assert_ptr_nonnull(map);
    map->fm_length = FIEMAP_MAX_OFFSET;
    map->fm_flags = FIEMAP_FLAG_SYNC;
    map->fm_extent_count = EXTENTS_MAX;
    int64_t bytes = ioctl(fd, FS_IOC_FIEMAP, map) == 0 ? 0 : -1;
    for (unsigned i = 0; bytes >= 0 && i < map->fm_mapped_extents; i++) {
        if ((map->fm_extents[i].fe_flags & FIEMAP_EXTENT_UNWRITTEN) != 0) {
            bytes += (int64_t)map->fm_extents[i].fe_length;
        }
    }
    free(map);
    return bytes;
}

static int64_t unwritten_of(const char *name, int flags, off_t size)
{
    char path[TEMP_DIR_PATH_SIZE + 32];
    snprintf(path, sizeof(path), "%s/%s", dir.path, name);
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | flags, 0600);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(posix_fallocate(fd, 0, size), 0);
    ck_assert_int_eq(lseek(fd, 0, SEEK_END), size);
    int64_t bytes = unwritten(fd);
    (void)close(fd);
    return bytes;
}

START_TEST(only_the_logs_files_are_filled_with_zeros)
{
    if (unwritten_of("other-1", O_DSYNC, LOG_SPACE_SEGMENT) <= 0) {
        *passed_over = true;
        return;
    }
    ck_assert_int_eq(unwritten_of("open-1", O_DSYNC, LOG_SPACE_SEGMENT), 0);
    ck_assert_int_eq(unwritten_of("open-2", 0, LOG_SPACE_SEGMENT), LOG_SPACE_SEGMENT);
    ck_assert_int_eq(unwritten_of("open-3", O_DSYNC, LOG_SPACE_SEGMENT / 2),
                     LOG_SPACE_SEGMENT / 2);
}
END_TEST

/* Whatever the file system can be asked. */
START_TEST(a_file_made_ready_says_its_format)
{
    static const uint8_t wanted[512] = {1};
    uint8_t first[sizeof(wanted)];
    char *path = temp_dir_path(&dir, "open-9");
    (void)unwritten_of("open-9", O_DSYNC, LOG_SPACE_SEGMENT);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    free(path);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(pread(fd, first, sizeof(first), 0), (int)sizeof(first));
    ck_assert_mem_eq(first, wanted, sizeof(wanted));
    (void)close(fd);
}
END_TEST

START_TEST(what_cannot_be_allocated_is_an_error_as_ever)
{
    int fds[2];
    ck_assert_int_eq(pipe(fds), 0);
    ck_assert_int_eq(posix_fallocate(fds[1], 0, LOG_SPACE_SEGMENT), ESPIPE);
    (void)close(fds[0]);
    (void)close(fds[1]);
    ck_assert_int_eq(posix_fallocate(-1, 0, LOG_SPACE_SEGMENT), EBADF);
}
END_TEST

START_TEST(a_voters_log_has_been_written_before_it_is_used)
{
    unsigned seen = 0;
    if (unwritten_of("other-1", O_DSYNC, LOG_SPACE_SEGMENT) <= 0) {
        *passed_over = true;
        return;
    }
    voters_init(&voters);
    struct voter *one = voter_up(&voters, 1, true);
    VOTERS_UNTIL(&voters, one->leads);
    DIR *folder = opendir(one->folder);
    ck_assert_ptr_nonnull(folder);
    for (const struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        if (strncmp(entry->d_name, "open-1", 7) == 0) { /* a spare may be in work */
            int fd = openat(dirfd(folder), entry->d_name, O_RDONLY | O_CLOEXEC);
            ck_assert_int_ge(fd, 0);
            ck_assert_int_eq(unwritten(fd), 0);
            (void)close(fd);
            seen++;
        }
    }
    (void)closedir(folder);
    ck_assert_uint_eq(seen, 1);
    voters_fini(&voters);
}
END_TEST

static void setup(void)
{
    temp_dir_init(&dir);
}

static void teardown(void)
{
    temp_dir_fini(&dir);
}

int main(void)
{
    Suite *suite = suite_create("log_space");
    TCase *tcase = tcase_create("log_space");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, only_the_logs_files_are_filled_with_zeros);
    tcase_add_test(tcase, a_file_made_ready_says_its_format);
    tcase_add_test(tcase, what_cannot_be_allocated_is_an_error_as_ever);
    tcase_add_test(tcase, a_voters_log_has_been_written_before_it_is_used);
    suite_add_tcase(suite, tcase);
    passed_over = mmap(NULL, sizeof(*passed_over), PROT_READ | PROT_WRITE,
                       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (passed_over == MAP_FAILED) {
        return 1;
    }
    const int r = test_main_run(suite);
    return r != 0 || !*passed_over
               ? r
               : test_main_skip("the file system does not tell what has been written");
}
