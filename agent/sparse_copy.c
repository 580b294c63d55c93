#include "agent/sparse_copy.h"

#include "base/cleanup.h"
#include "base/digest.h"
#include "base/fd.h"

#include <errno.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define BLOCK       4096u       /* of zeros, or summed up */
#define BUFFER_SIZE (1u << 20)  /* whole blocks */
#define PIECE_SIZE  (16u << 20) /* between two questions whether it is wanted */

static int fault(struct err *err, int code, const char *what, const char *name)
{
    const int told = code == -ENOSPC || code == -EDQUOT ? BERTH_EDISKFULL : code;
    return told == BERTH_ECLOSED
               ? err_set(err, BERTH_ECLOSED, "%s %s: not wanted any more", what, name)
               : err_sys(err, told, "%s %s", what, name);
}

/* The next piece that is no hole, from `at` on; false: there is none. Where holes cannot
 * be told apart all is one piece. */
static bool
next_data(int fd, uint64_t at, uint64_t size, uint64_t *ret_at, uint64_t *ret_end)
{
    if (at >= size) {
        return false;
    }
    const off_t data = lseek(fd, (off_t)at, SEEK_DATA);
    if (data < 0) {
        *ret_at = at;
        *ret_end = size;
        return errno != ENXIO;
    }
    const off_t hole = lseek(fd, data, SEEK_HOLE);
    *ret_at = (uint64_t)data;
    *ret_end = hole < 0 || (uint64_t)hole > size ? size : (uint64_t)hole;
    return *ret_at < *ret_end;
}

/* ---- copying ---- */

static int copy_by_hand(int from, int to, uint64_t at, uint64_t end, uint8_t *buffer)
{
    while (at < end) {
        const size_t want = end - at < BUFFER_SIZE ? (size_t)(end - at) : BUFFER_SIZE;
        const ssize_t got = pread(from, buffer, want, (off_t)at);
        if (got <= 0) {
            return got < 0 ? -errno : -EIO;
        }
        for (ssize_t done = 0; done < got;) {
            const ssize_t put =
                pwrite(to, buffer + done, (size_t)(got - done), (off_t)at + (off_t)done);
            if (put <= 0) {
                return put < 0 ? -errno : -EIO;
            }
            done += put;
        }
        at += (uint64_t)got;
    }
    return 0;
}

/* What the kernel copies itself need not come here and go again. */
static int copy_piece(int from, int to, uint64_t at, uint64_t end, uint8_t *buffer)
{
    while (at < end) {
        off_t from_at = (off_t)at;
        off_t to_at = (off_t)at;
        const ssize_t got =
            copy_file_range(from, &from_at, to, &to_at, (size_t)(end - at), 0);
        if (got < 0 && errno != EXDEV && errno != EOPNOTSUPP && errno != ENOSYS &&
            errno != EINVAL) {
            return -errno;
        }
        if (got <= 0) { /* it cannot here */
            return copy_by_hand(from, to, at, end, buffer);
        }
        at += (uint64_t)got;
    }
    return 0;
}

static int copy_data(int from, int to, uint64_t size, const struct sparse_wish *wish)
{
    CLEANUP_FREE uint8_t *buffer = malloc(BUFFER_SIZE);
    uint64_t at = 0;
    uint64_t end = 0;
    int r = buffer == NULL ? -ENOMEM : ftruncate(to, (off_t)size) < 0 ? -errno : 0;
    while (r == 0 && next_data(from, at, size, &at, &end)) {
        while (r == 0 && at < end) {
            const uint64_t until = end - at < PIECE_SIZE ? end : at + PIECE_SIZE;
            r = sparse_is_wanted(wish) ? copy_piece(from, to, at, until, buffer)
                                       : BERTH_ECLOSED;
            at = until;
        }
    }
    return r;
}

int sparse_copy(int from,
                int to,
                const char *name,
                const struct sparse_wish *wish,
                struct err *err)
{
    struct stat info;
    int r = fstat(from, &info) < 0 ? -errno : 0;
    if (r == 0 && ioctl(to, FICLONE, from) < 0) {
        r = copy_data(from, to, (uint64_t)info.st_size, wish);
    }
    if (r == 0 && fsync(to) < 0) {
        r = -errno;
    }
    return r == 0 ? 0 : fault(err, r, "copy", name);
}

/* ---- summing up ---- */

static bool is_zeros(const uint8_t *data, size_t size)
{
    return data[0] == 0 && memcmp(data, data + 1, size - 1) == 0;
}

static uint32_t sum_block(uint32_t sum, uint64_t at, const uint8_t *data, size_t size)
{
    uint8_t place[8];
    for (unsigned i = 0; i < sizeof(place); i++) {
        place[i] = (uint8_t)(at >> (8 * i));
    }
    return crc32c(crc32c(sum, place, sizeof(place)), data, size);
}

static int sum_piece(int fd, uint64_t at, uint64_t end, uint8_t *buffer, uint32_t *sum)
{
    while (at < end) {
        const size_t want = end - at < BUFFER_SIZE ? (size_t)(end - at) : BUFFER_SIZE;
        const ssize_t got = pread(fd, buffer, want, (off_t)at);
        if (got < 0 || (size_t)got != want) {
            return got < 0 ? -errno : -EIO;
        }
        for (size_t i = 0; i < want; i += BLOCK) {
            const size_t size = want - i < BLOCK ? want - i : BLOCK;
            if (!is_zeros(buffer + i, size)) {
                *sum = sum_block(*sum, at + i, buffer + i, size);
            }
        }
        at += want;
    }
    return 0;
}

int sparse_sum(int fd,
               const char *name,
               const struct sparse_wish *wish,
               uint32_t *ret_sum,
               struct err *err)
{
    CLEANUP_FREE uint8_t *buffer = malloc(BUFFER_SIZE);
    struct stat info = {.st_size = 0};
    int r = buffer == NULL ? -ENOMEM : fstat(fd, &info) < 0 ? -errno : 0;
    const uint64_t size = (uint64_t)info.st_size;
    uint64_t at = 0;
    uint64_t end = 0;
    uint32_t sum = sum_block(0, size, NULL, 0);
    uint64_t done = 0; /* no block is summed up twice, wherever holes begin */
    while (r == 0 && next_data(fd, at, size, &at, &end)) {
        at -= at % BLOCK;
        at = at < done ? done : at;
        end = end + BLOCK - 1 - (end + BLOCK - 1) % BLOCK;
        end = end > size ? size : end;
        while (r == 0 && at < end) {
            const uint64_t until = end - at < PIECE_SIZE ? end : at + PIECE_SIZE;
            r = sparse_is_wanted(wish) ? sum_piece(fd, at, until, buffer, &sum)
                                       : BERTH_ECLOSED;
            at = until;
        }
        done = at;
    }
    if (r == 0) {
        *ret_sum = sum;
    }
    return r == 0 ? 0 : fault(err, r, "read", name);
}
