#include "agent/checked_list.h"

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define HEAD          "berth checked 1\n"
#define HEAD_SIZE     (sizeof(HEAD) - 1)
#define LIST_SIZE_MAX (1u << 20) /* of 256 lines it is 30 KiB */
#define PATH_SIZE     4096

static uint64_t ns_of(const struct timespec *time)
{
    return (uint64_t)time->tv_sec * 1000000000u + (uint64_t)time->tv_nsec;
}

struct file_identity file_identity_of(const struct stat *status)
{
    return (struct file_identity){.dev = status->st_dev,
                                  .ino = status->st_ino,
                                  .size_bytes = (uint64_t)status->st_size,
                                  .modified_ns = ns_of(&status->st_mtim),
                                  .changed_ns = ns_of(&status->st_ctim)};
}

struct file_identity file_identity_at(const char *path)
{
    struct stat status;
    return lstat(path, &status) == 0 ? file_identity_of(&status)
                                     : (struct file_identity){0};
}

bool file_identity_equal(const struct file_identity *a, const struct file_identity *b)
{
    return a->dev == b->dev && a->ino == b->ino && a->size_bytes == b->size_bytes &&
           a->modified_ns == b->modified_ns && a->changed_ns == b->changed_ns;
}

void checked_list_boot(char ret_boot[CHECKED_BOOT_SIZE])
{
    CLEANUP_FREE uint8_t *text = NULL;
    size_t size = 0;
    memset(ret_boot, 0, CHECKED_BOOT_SIZE);
    if (fd_read_file(AT_FDCWD, "/proc/sys/kernel/random/boot_id", 64, &text, &size,
                     NULL) == 0) {
        (void)snprintf(ret_boot, CHECKED_BOOT_SIZE, "%.36s", (const char *)text);
    }
}

/* ---- writing ---- */

static void identity_write(struct bytes_writer *writer, const struct file_identity *of)
{
    bytes_write_u64(writer, of->dev);
    bytes_write_u64(writer, of->ino);
    bytes_write_u64(writer, of->size_bytes);
    bytes_write_u64(writer, of->modified_ns);
    bytes_write_u64(writer, of->changed_ns);
}

static int list_encode(const char *boot,
                       const struct checked_file *files,
                       unsigned count,
                       uint8_t **ret_data,
                       size_t *ret_size)
{
    struct bytes_writer writer;
    bytes_writer_init(&writer, LIST_SIZE_MAX);
    bytes_write_raw(&writer, HEAD, HEAD_SIZE);
    bytes_write_raw(&writer, boot, CHECKED_BOOT_SIZE);
    bytes_write_u32(&writer, count);
    for (unsigned i = 0; i < count; i++) {
        bytes_write_raw(&writer, files[i].digest.bytes, DIGEST_SIZE);
        identity_write(&writer, &files[i].file);
        identity_write(&writer, &files[i].unpacked);
    }
    return bytes_writer_take(&writer, ret_data, ret_size);
}

int checked_list_write(const char *folder,
                       const char *boot,
                       const struct checked_file *files,
                       unsigned count)
{
    CLEANUP_FREE uint8_t *data = NULL;
    size_t size = 0;
    struct digest seal;
    char path[PATH_SIZE];
    char tmp[PATH_SIZE];
    (void)snprintf(path, sizeof(path), "%s/" CHECKED_LIST_NAME, folder);
    (void)snprintf(tmp, sizeof(tmp), "%s/tmp/" CHECKED_LIST_NAME, folder);
    int r = list_encode(boot, files, count, &data, &size);
    if (r < 0) {
        return r;
    }
    CLEANUP_FD int fd =
        fd_open_at(AT_FDCWD, tmp, O_WRONLY | O_CREAT | O_TRUNC, 0600, NULL);
    digest_of(data, size, &seal);
    r = fd < 0 ? fd : fd_write_full(fd, data, size);
    r = r < 0 ? r : fd_write_full(fd, seal.bytes, sizeof(seal.bytes));
    return r < 0 ? r : rename(tmp, path) < 0 ? -errno : 0;
}

/* ---- reading ---- */

static void identity_read(struct bytes_reader *reader, struct file_identity *ret_of)
{
    ret_of->dev = bytes_read_u64(reader);
    ret_of->ino = bytes_read_u64(reader);
    ret_of->size_bytes = bytes_read_u64(reader);
    ret_of->modified_ns = bytes_read_u64(reader);
    ret_of->changed_ns = bytes_read_u64(reader);
}

static bool is_sealed(const uint8_t *data, size_t size)
{
    struct digest seal;
    if (size < DIGEST_SIZE) {
        return false;
    }
    digest_of(data, size - DIGEST_SIZE, &seal);
    return memcmp(data + size - DIGEST_SIZE, seal.bytes, DIGEST_SIZE) == 0;
}

int checked_list_read(const char *folder,
                      const char *boot,
                      struct checked_file *ret_files,
                      unsigned max)
{
    CLEANUP_FREE uint8_t *data = NULL;
    size_t size = 0;
    struct bytes_reader reader;
    char head[HEAD_SIZE];
    char its_boot[CHECKED_BOOT_SIZE];
    char path[PATH_SIZE];
    (void)snprintf(path, sizeof(path), "%s/" CHECKED_LIST_NAME, folder);
    if (boot[0] == '\0' ||
        fd_read_file(AT_FDCWD, path, LIST_SIZE_MAX, &data, &size, NULL) < 0) {
        return 0;
    }
    if (!is_sealed(data, size)) {
        return BERTH_ECORRUPT;
    }
    bytes_reader_init(&reader, data, size - DIGEST_SIZE);
    bytes_read_raw(&reader, head, sizeof(head));
    bytes_read_raw(&reader, its_boot, sizeof(its_boot));
    const uint32_t count = bytes_read_u32(&reader);
    if (memcmp(head, HEAD, sizeof(head)) != 0 ||
        memcmp(its_boot, boot, sizeof(its_boot)) != 0 || count > max) {
        return 0;
    }
    for (uint32_t i = 0; i < count; i++) {
        bytes_read_raw(&reader, ret_files[i].digest.bytes, DIGEST_SIZE);
        identity_read(&reader, &ret_files[i].file);
        identity_read(&reader, &ret_files[i].unpacked);
    }
    return bytes_reader_end(&reader) == 0 ? (int)count : 0;
}
