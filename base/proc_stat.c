#include "base/proc_stat.h"

#include "base/cleanup.h"
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define STAT_SIZE   1024 /* 52 numbers and a short name */
#define FDINFO_SIZE 512

/* Field numbers of proc(5). */
enum {
    FIELD_STATE = 3,
    FIELD_UTIME = 14,
    FIELD_STIME = 15,
    FIELD_START = 22,
    FIELD_RSS = 24
};

static int read_small(const char *path, char *text, size_t size)
{
    CLEANUP_FD int fd = fd_open_at(AT_FDCWD, path, O_RDONLY, 0, NULL);
    if (fd < 0) {
        return fd == -ENOENT ? -ESRCH : fd;
    }
    ssize_t count = fd_read_full(fd, text, size - 1);
    if (count < 0) {
        return (int)count;
    }
    text[count] = '\0';
    return 0;
}

/* Field `number` (3 and up); the name before it may hold anything, but no field after it
 * holds a ')'. */
static const char *stat_field(const char *text, unsigned number)
{
    const char *at = strrchr(text, ')');
    for (unsigned i = 2; at != NULL && i < number; i++) {
        at = strchr(at + 1, ' ');
    }
    return at == NULL ? NULL : at + 1;
}

static uint64_t stat_number(const char *text, unsigned number)
{
    const char *field = stat_field(text, number);
    return field == NULL ? 0 : strtoull(field, NULL, 10);
}

int proc_stat_read(pid_t pid, struct proc_stat *ret_stat)
{
    char path[64];
    char text[STAT_SIZE];
    (void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid); /* fits */
    int r = pid > 0 ? read_small(path, text, sizeof(text)) : -ESRCH;
    if (r != 0) {
        return r;
    }
    if (stat_field(text, FIELD_RSS) == NULL) {
        return -ESRCH;
    }
    *ret_stat = (struct proc_stat){
        .state = *stat_field(text, FIELD_STATE),
        .start_ticks = stat_number(text, FIELD_START),
        .cpu_ticks = stat_number(text, FIELD_UTIME) + stat_number(text, FIELD_STIME),
        .memory_bytes = stat_number(text, FIELD_RSS) * (uint64_t)sysconf(_SC_PAGESIZE),
    };
    return 0;
}

bool proc_stat_is_dead(const struct proc_stat *stat)
{
    return stat->state == 'Z' || stat->state == 'X';
}

bool proc_stat_is_stopped(const struct proc_stat *stat)
{
    return stat->state == 'T' || stat->state == 't';
}

pid_t proc_pid_of(int pidfd)
{
    char path[64];
    char text[FDINFO_SIZE];
    (void)snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", pidfd); /* fits */
    if (pidfd < 0 || read_small(path, text, sizeof(text)) != 0) {
        return -EBADF;
    }
    const char *line = strstr(text, "\nPid:");
    if (line == NULL) {
        return -EBADF;
    }
    long pid = strtol(line + strlen("\nPid:"), NULL, 10);
    return pid > 0 ? (pid_t)pid : -ESRCH;
}
