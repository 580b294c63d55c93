#include "vmm/disk.h"

#include "base/require.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT_CHUNK (UINT64_C(1) << 20)
#define ZERO_STEP    UINT64_C(4096) /* a hole is worth it from here on */

void disk_file_free(struct disk_file *file)
{
    if (file != NULL) {
        file->ops->free(file);
    }
}

int disk_file_read(struct disk_file *file, uint64_t offset, void *ret_data, size_t size)
{
    const struct iovec piece = {.iov_base = ret_data, .iov_len = size};
    return file->ops->read(file, offset, &piece, 1, size);
}

int disk_file_write(struct disk_file *file,
                    uint64_t offset,
                    const void *data,
                    size_t size)
{
    /* writev takes what it does not change by a pointer that could. */
    const struct iovec piece = {.iov_base = (void *)(uintptr_t)data, .iov_len = size};
    return file->ops->write(file, offset, &piece, 1, size);
}

static bool inside(const struct virtual_disk *disk, uint64_t offset, uint64_t size)
{
    return offset <= disk->size_bytes && size <= disk->size_bytes - offset;
}

/* Whether a change of the range may be tried. */
static int change_check(const struct virtual_disk *disk, uint64_t offset, uint64_t size)
{
    if (disk->read_only) {
        return -EROFS;
    }
    return inside(disk, offset, size) ? 0 : -EINVAL;
}

int disk_read(struct virtual_disk *disk,
              uint64_t offset,
              const struct iovec *pieces,
              unsigned piece_count,
              uint64_t size)
{
    REQUIRE(piece_count <= DISK_PIECES_MAX);
    if (!inside(disk, offset, size)) {
        return -EINVAL;
    }
    return size == 0 ? 0 : disk->ops->read(disk, offset, pieces, piece_count, size);
}

int disk_write(struct virtual_disk *disk,
               uint64_t offset,
               const struct iovec *pieces,
               unsigned piece_count,
               uint64_t size)
{
    REQUIRE(piece_count <= DISK_PIECES_MAX);
    const int r = change_check(disk, offset, size);
    if (r < 0 || size == 0) {
        return r;
    }
    return disk->ops->write(disk, offset, pieces, piece_count, size);
}

int disk_flush(struct virtual_disk *disk)
{
    return disk->read_only ? 0 : disk->ops->flush(disk);
}

int disk_zero(struct virtual_disk *disk, uint64_t offset, uint64_t size)
{
    const int r = change_check(disk, offset, size);
    return r < 0 || size == 0 ? r : disk->ops->zero(disk, offset, size);
}

int disk_discard(struct virtual_disk *disk, uint64_t offset, uint64_t size)
{
    const int r = change_check(disk, offset, size);
    if (r < 0 || size == 0) {
        return r;
    }
    const int done = disk->ops->discard(disk, offset, size);
    return disk_has_no_room(done) || done == -EOPNOTSUPP ? 0 : done; /* the old stays */
}

void disk_free(struct virtual_disk *disk)
{
    if (disk != NULL) {
        disk->ops->free(disk);
    }
}

unsigned disk_files(const struct virtual_disk *disk, int ret_fds[DISK_FILES_MAX])
{
    return disk->ops->files == NULL ? 0 : disk->ops->files(disk, ret_fds);
}

int disk_direct_read(const struct virtual_disk *disk, uint64_t offset, uint64_t size)
{
    if (!inside(disk, offset, size) || size == 0) {
        return -1; /* the verb says what is wrong with it */
    }
    return disk->ops->direct_read(disk, offset, size);
}

static bool is_zero(const uint8_t *data, uint64_t size)
{
    return data[0] == 0 && memcmp(data, data + 1, (size_t)size - 1) == 0;
}

/* How much from there on is all zeros, or has some data in each step; whole steps. */
static uint64_t run_of(const uint8_t *data, uint64_t size, bool *ret_zero)
{
    uint64_t end = 0;
    while (end < size) {
        const uint64_t left = size - end;
        const uint64_t step = left < ZERO_STEP ? left : ZERO_STEP;
        const bool zero = is_zero(data + end, step);
        if (end > 0 && zero != *ret_zero) {
            break;
        }
        *ret_zero = zero;
        end += step;
    }
    return end;
}

/* Writes the chunk: data as data, zeros as zeros. */
static int
chunk_put(struct disk_file *file, uint64_t offset, uint8_t *data, uint64_t size)
{
    for (uint64_t done = 0; done < size;) {
        bool zero = false;
        const uint64_t run = run_of(data + done, size - done, &zero);
        const int r =
            zero ? file->ops->zero(file, offset + done, run)
                 : disk_file_write(file, offset + done, data + done, (size_t)run);
        if (r < 0) {
            return r;
        }
        done += run;
    }
    return 0;
}

/* Everything, a chunk at a time. */
static int export_all(struct virtual_disk *disk,
                      struct disk_file *file,
                      uint8_t *chunk,
                      struct err *err)
{
    for (uint64_t offset = 0; offset < disk->size_bytes;) {
        const uint64_t left = disk->size_bytes - offset;
        const uint64_t size = left < EXPORT_CHUNK ? left : EXPORT_CHUNK;
        const struct iovec piece = {.iov_base = chunk, .iov_len = (size_t)size};
        int r = disk_read(disk, offset, &piece, 1, size);
        if (r == 0) {
            r = chunk_put(file, offset, chunk, size);
        }
        if (r < 0) {
            return err_sys(err, r, "export a disk, at %" PRIu64, offset);
        }
        offset += size;
    }
    const int r = file->ops->sync(file);
    return r < 0 ? err_sys(err, r, "export a disk, at its end") : 0;
}

int disk_export(struct virtual_disk *disk, struct disk_file *file, struct err *err)
{
    if (file->size_bytes < disk->size_bytes) {
        return err_set(err, BERTH_EINVALID, "the file is smaller than the disk");
    }
    uint8_t *chunk = malloc(EXPORT_CHUNK);
    if (chunk == NULL) {
        return err_sys(err, -ENOMEM, "export a disk");
    }
    const int r = export_all(disk, file, chunk, err);
    free(chunk);
    return r;
}

unsigned disk_pieces_slice(const struct iovec *pieces,
                           unsigned piece_count,
                           uint64_t skip,
                           uint64_t size,
                           struct iovec *ret_pieces)
{
    unsigned count = 0;
    for (unsigned i = 0; i < piece_count && size > 0; i++) {
        const uint64_t there = pieces[i].iov_len;
        if (skip >= there) {
            skip -= there;
            continue;
        }
        const uint64_t take = there - skip < size ? there - skip : size;
        ret_pieces[count++] = (struct iovec){
            .iov_base = (uint8_t *)pieces[i].iov_base + skip, .iov_len = (size_t)take};
        skip = 0;
        size -= take;
    }
    REQUIRE(size == 0); /* the caller's pieces hold what it says */
    return count;
}
