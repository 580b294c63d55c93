#include "agent/file_digest.h"

#include "base/err.h"
#include "base/fd.h"

#include <errno.h>
#include <unistd.h>

#define HASH_BUFFER (32u << 10) /* on the stack of the thread, which keeps it */

int file_digest(int fd,
                uint64_t size_max,
                bool (*is_wanted)(void *context),
                void *context,
                struct digest *ret_digest,
                uint64_t *ret_size_bytes)
{
    uint8_t buffer[HASH_BUFFER];
    struct digest_stream stream;
    uint64_t size_bytes = 0;
    ssize_t got = 0;
    if (lseek(fd, 0, SEEK_SET) < 0) {
        return -errno;
    }
    digest_start(&stream);
    while (size_bytes < size_max) {
        const uint64_t left = size_max - size_bytes;
        got = fd_read_full(fd, buffer,
                           left < HASH_BUFFER ? (size_t)left : (size_t)HASH_BUFFER);
        if (got <= 0) {
            break;
        }
        digest_update(&stream, buffer, (size_t)got);
        size_bytes += (uint64_t)got;
        if (!is_wanted(context)) {
            return BERTH_ECLOSED;
        }
    }
    if (got < 0) {
        return (int)got;
    }
    digest_finish(&stream, ret_digest);
    *ret_size_bytes = size_bytes;
    return 0;
}
