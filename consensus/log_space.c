#include "consensus/log_space.h"

#include "consensus/log_check.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define PIECE     (512u << 10) /* the log's writes wait behind one, each is flushed */
#define NAME      "open-"
#define PATH_SIZE 4096

typedef int allocate_fn(int fd, off_t offset, off_t size);

unsigned log_space_segment(void)
{
    return LOG_SPACE_SEGMENT;
}

static bool is_segment(int fd, off_t offset, off_t size)
{
    char link[64];
    char path[PATH_SIZE];
    int flags = fcntl(fd, F_GETFL);
    if (offset != 0 || size != LOG_SPACE_SEGMENT || flags < 0 || (flags & O_DSYNC) == 0) {
        return false;
    }
    (void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof(path) - 1);
    if (length <= 0) {
        return false;
    }
    path[length] = '\0';
    const char *name = strrchr(path, '/');
    return name != NULL && strncmp(name + 1, NAME, strlen(NAME)) == 0;
}

/* The first word last: until then it is a file that was never used. */
static void write_space(int fd, off_t size)
{
    static const uint8_t zeros[PIECE];
    static const uint8_t first_word[8] = {LOG_CHECK_FORMAT};
    for (off_t at = 0; at < size;) {
        const size_t left = (size_t)(size - at);
        ssize_t written = pwrite(fd, zeros, left < PIECE ? left : PIECE, at);
        if (written <= 0 && !(written < 0 && errno == EINTR)) {
            return; /* it is allocated all the same */
        }
        at += written > 0 ? written : 0;
    }
    if (pwrite(fd, first_word, sizeof(first_word), 0) < 0) {
        return; /* as it reads without: a file that was never used */
    }
    /* Direct writes do not get by what is in the page cache without waiting. */
    (void)posix_fadvise(fd, 0, size, POSIX_FADV_DONTNEED);
}

/* In place of libc's. */
int posix_fallocate(int fd, off_t offset, off_t size)
{
    void *symbol = dlsym(RTLD_NEXT, "posix_fallocate");
    allocate_fn *allocate = NULL;
    _Static_assert(sizeof(allocate) == sizeof(symbol), "a function's address");
    memcpy(&allocate, &symbol, sizeof(allocate));
    int r = allocate != NULL ? allocate(fd, offset, size) : ENOSYS;
    if (r == 0 && is_segment(fd, offset, size)) {
        write_space(fd, size);
    }
    return r;
}
