#include "vmm/snapshot_file.h"

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/digest.h"
#include "base/require.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAGIC       "BERTHSNP"
#define MAGIC_BYTES 8u
#define HEAD_BYTES  4096u
#define SUM_AT      40u /* what it covers */

static int
write_at(int fd, uint64_t offset, const uint8_t *data, size_t size, struct err *err)
{
    while (size > 0) {
        const ssize_t done = pwrite(fd, data, size, (off_t)offset);
        if (done < 0 && errno == EINTR) {
            continue;
        }
        if (done <= 0) {
            return err_sys(err, done < 0 ? -errno : -EIO, "write the snapshot");
        }
        data += done;
        offset += (uint64_t)done;
        size -= (size_t)done;
    }
    return 0;
}

/* All of it, or BERTH_ECORRUPT: the file ends before. */
static int read_at(int fd, uint64_t offset, uint8_t *data, size_t size, struct err *err)
{
    while (size > 0) {
        const ssize_t done = pread(fd, data, size, (off_t)offset);
        if (done < 0 && errno == EINTR) {
            continue;
        }
        if (done <= 0) {
            return done < 0 ? err_sys(err, -errno, "read the snapshot")
                            : err_set(err, BERTH_ECORRUPT, "the snapshot is cut short");
        }
        data += done;
        offset += (uint64_t)done;
        size -= (size_t)done;
    }
    return 0;
}

int snapshot_file_begin(int fd, struct err *err)
{
    const uint8_t none = 0;
    struct stat info;
    if (fstat(fd, &info) < 0) {
        return err_sys(err, -errno, "look at the snapshot's file");
    }
    if (!S_ISREG(info.st_mode) || info.st_size != 0) {
        return err_set(err, BERTH_EINVALID, "a snapshot needs a new, empty file");
    }
    int r = write_at(fd, HEAD_BYTES - 1, &none, sizeof(none), err);
    if (r < 0) {
        return r;
    }
    if (fstat(fd, &info) < 0 || info.st_size != HEAD_BYTES) {
        return err_set(err, BERTH_EINVALID,
                       "a snapshot's file must not be open for appending");
    }
    return 0;
}

static int sync_file(int fd, struct err *err)
{
    return fdatasync(fd) < 0 ? err_sys(err, -errno, "make the snapshot durable") : 0;
}

static int header_write(int fd, const struct snapshot_file *file, struct err *err)
{
    struct bytes_writer writer;
    bytes_writer_init(&writer, HEAD_BYTES);
    bytes_write_raw(&writer, MAGIC, MAGIC_BYTES);
    bytes_write_u32(&writer, SNAPSHOT_FORMAT_VERSION);
    bytes_write_u32(&writer, 0);
    bytes_write_u64(&writer, file->ram_bytes);
    bytes_write_u64(&writer, file->state_at);
    bytes_write_u64(&writer, file->state_bytes);
    int r = writer.error;
    if (r == 0) {
        REQUIRE(writer.size == SUM_AT);
        bytes_write_u32(&writer, crc32c(0, writer.data, writer.size));
        r = writer.error;
    }
    r = r < 0 ? err_sys(err, r, "write the snapshot")
              : write_at(fd, 0, writer.data, writer.size, err);
    bytes_writer_fini(&writer);
    return r;
}

int snapshot_file_finish(int fd,
                         uint64_t ram_bytes,
                         const void *state,
                         size_t state_bytes,
                         struct err *err)
{
    const struct snapshot_file file = {.ram_bytes = ram_bytes,
                                       .state_at = SNAPSHOT_RAM_AT + ram_bytes,
                                       .state_bytes = state_bytes};
    REQUIRE(state_bytes > 0);
    if (state_bytes > SNAPSHOT_STATE_MAX) {
        return err_set(err, BERTH_ETOOLARGE, "the machine's state is too large");
    }
    int r = write_at(fd, file.state_at, state, state_bytes, err);
    if (r == 0) {
        r = sync_file(fd, err);
    }
    if (r == 0) {
        r = header_write(fd, &file, err);
    }
    return r < 0 ? r : sync_file(fd, err);
}

static int header_read(int fd, struct snapshot_file *ret_file, struct err *err)
{
    uint8_t head[HEAD_BYTES];
    char magic[MAGIC_BYTES];
    struct bytes_reader reader;
    int r = read_at(fd, 0, head, sizeof(head), err);
    if (r < 0) {
        return r;
    }
    bytes_reader_init(&reader, head, sizeof(head));
    bytes_read_raw(&reader, magic, sizeof(magic));
    const uint32_t version = bytes_read_u32(&reader);
    (void)bytes_read_u32(&reader);
    ret_file->ram_bytes = bytes_read_u64(&reader);
    ret_file->state_at = bytes_read_u64(&reader);
    ret_file->state_bytes = bytes_read_u64(&reader);
    if (memcmp(magic, MAGIC, sizeof(magic)) != 0) {
        return err_set(err, BERTH_EINVALID,
                       "this is no snapshot, or one that was not finished");
    }
    if (bytes_read_u32(&reader) != crc32c(0, head, SUM_AT)) {
        return err_set(err, BERTH_ECORRUPT, "the snapshot's header is damaged");
    }
    if (version != SNAPSHOT_FORMAT_VERSION) {
        return err_set(err, BERTH_EUNSUPPORTED,
                       "snapshot format %u; this program reads %u", version,
                       SNAPSHOT_FORMAT_VERSION);
    }
    return 0;
}

int snapshot_file_open(int fd, struct snapshot_file *ret_file, struct err *err)
{
    struct stat info;
    struct snapshot_file file;
    if (fstat(fd, &info) < 0) {
        return err_sys(err, -errno, "look at the snapshot");
    }
    if (!S_ISREG(info.st_mode)) {
        return err_set(err, BERTH_EINVALID, "a snapshot is a regular file");
    }
    int r = header_read(fd, &file, err);
    if (r < 0) {
        return r;
    }
    const uint64_t size = (uint64_t)info.st_size;
    if (file.state_bytes == 0 || file.state_bytes > SNAPSHOT_STATE_MAX ||
        file.ram_bytes > (uint64_t)INT64_MAX - SNAPSHOT_RAM_AT - SNAPSHOT_STATE_MAX ||
        file.state_at != SNAPSHOT_RAM_AT + file.ram_bytes) {
        return err_set(err, BERTH_ECORRUPT, "the snapshot's header makes no sense");
    }
    if (size != file.state_at + file.state_bytes) {
        return err_set(err, BERTH_ECORRUPT,
                       size < file.state_at + file.state_bytes
                           ? "the snapshot is cut short"
                           : "the snapshot is longer than it was written");
    }
    *ret_file = file;
    return 0;
}

int snapshot_file_read_state(int fd,
                             const struct snapshot_file *file,
                             uint8_t **ret_state,
                             struct err *err)
{
    CLEANUP_FREE uint8_t *state = malloc(file->state_bytes);
    if (state == NULL) {
        return err_sys(err, -ENOMEM, "read the snapshot");
    }
    int r = read_at(fd, file->state_at, state, file->state_bytes, err);
    if (r == 0) {
        *ret_state = TAKE_PTR(state);
    }
    return r;
}
