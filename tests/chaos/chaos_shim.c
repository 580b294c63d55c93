/* Preloaded: a slow or failing disk, and a wall clock that is off (chaos_shim.h).
 *
 * Durable are fsync, fdatasync and what the log's library submits to the kernel's
 * asynchronous I/O, by the bare system call. A failing one does nothing and says so.
 */
#include "chaos_shim.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define MS_PER_S  1000
#define NS_PER_MS 1000000

/* The library takes these over from libc; the linker finds ours first. */
long syscall(long number, ...);

static struct chaos_shim none;
static struct chaos_shim *shim = &none;
static long (*real_syscall)(long number, ...);
static int (*real_clock_gettime)(clockid_t clock, struct timespec *ret_time);

/* At the first call, for other libraries' constructors call us before ours has run. */
static void reals_find(void)
{
    if (real_clock_gettime == NULL) {
        real_syscall = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
        real_clock_gettime =
            (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    }
}

__attribute__((constructor)) static void shim_open(void)
{
    const char *path = getenv(CHAOS_SHIM_FILE);
    if (path == NULL || strcmp(program_invocation_short_name, "berthd") != 0) {
        return;
    }
    int fd = open(path, O_RDWR | O_CLOEXEC);
    void *there =
        fd >= 0 ? mmap(NULL, sizeof(*shim), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)
                : MAP_FAILED;
    if (there != MAP_FAILED) {
        shim = there;
    }
    if (fd >= 0) {
        (void)close(fd);
    }
}

/* 0, or the errno of a disk that fails. */
static int durable(void)
{
    long long delay_ms = atomic_load(&shim->delay_ms);
    if (delay_ms > 0) {
        struct timespec delay = {delay_ms / MS_PER_S, delay_ms % MS_PER_S * NS_PER_MS};
        (void)nanosleep(&delay, NULL);
    }
    return (int)atomic_load(&shim->fail);
}

int fsync(int fd)
{
    int fails = durable();
    reals_find();
    if (fails != 0) {
        errno = fails;
        return -1;
    }
    return (int)real_syscall(SYS_fsync, fd);
}

int fdatasync(int fd)
{
    int fails = durable();
    reals_find();
    if (fails != 0) {
        errno = fails;
        return -1;
    }
    return (int)real_syscall(SYS_fdatasync, fd);
}

/* Arguments that were not given are garbage that the kernel does not look at. */
long syscall(long number, ...)
{
    long given[6];
    va_list arguments;
    va_start(arguments, number);
    for (unsigned i = 0; i < 6; i++) {
        given[i] = va_arg(arguments, long);
    }
    va_end(arguments);
    reals_find();
    if (number == SYS_io_submit) {
        int fails = durable();
        if (fails != 0) {
            errno = fails;
            return -1;
        }
    }
    return real_syscall(number, given[0], given[1], given[2], given[3], given[4],
                        given[5]);
}

int clock_gettime(clockid_t clock, struct timespec *ret_time)
{
    reals_find();
    int r = real_clock_gettime(clock, ret_time);
    if (r == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        ret_time->tv_sec += (time_t)atomic_load(&shim->wall_s);
    }
    return r;
}

int gettimeofday(struct timeval *restrict ret_time, void *restrict zone)
{
    struct timespec now;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &now) != 0) {
        return -1;
    }
    *ret_time = (struct timeval){now.tv_sec, now.tv_nsec / 1000};
    return 0;
}

time_t time(time_t *ret_time)
{
    struct timespec now = {0};
    (void)clock_gettime(CLOCK_REALTIME, &now);
    if (ret_time != NULL) {
        *ret_time = now.tv_sec;
    }
    return now.tv_sec;
}
