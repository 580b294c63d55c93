/* A file without a name on the storage of the build's folder, for tests of what a file in
 * memory is not: read without waiting, put out of the page cache. Errors: the test ends.
 */
#pragma once

#include "base/require.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <unistd.h>

/* Zeros; the caller closes it. */
static inline int storage_file_new(uint64_t bytes)
{
    char name[] = "storage-XXXXXX";
    const int fd = mkostemp(name, O_CLOEXEC);
    REQUIRE(fd >= 0);
    REQUIRE(unlink(name) == 0);
    REQUIRE(ftruncate(fd, (off_t)bytes) == 0);
    return fd;
}

/* Whether this file system reads without waiting. */
static inline bool storage_file_has_nowait(int fd)
{
    char byte;
    const struct iovec piece = {&byte, 1};
    return preadv2(fd, &piece, 1, 0, RWF_NOWAIT) >= 0 || errno != EOPNOTSUPP;
}
