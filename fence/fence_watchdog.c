#include "fence/fence_watchdog.h"

#include "base/cleanup.h"
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/watchdog.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>

#define FOOD       "\0" /* any byte but the V */
#define GOODBYE    "V"
#define MS_PER_SEC 1000u
#define SHORTEST_S 1

static int open_any(const char *device, struct err *err)
{
    static const char *const devices[] = {"/dev/watchdog0", "/dev/watchdog"};
    if (strcmp(device, "auto") != 0) {
        return fd_open_at(AT_FDCWD, device, O_WRONLY, 0, err);
    }
    int fd = -ENOENT;
    for (size_t i = 0; i < ARRAY_COUNT(devices) && fd == -ENOENT; i++) {
        fd = fd_open_at(AT_FDCWD, devices[i], O_WRONLY, 0, err);
    }
    return fd;
}

int fence_watchdog_open(const char *device,
                        uint32_t wanted_ms,
                        struct fence_watchdog *ret_watchdog,
                        struct err *err)
{
    *ret_watchdog = (struct fence_watchdog){.fd = -1};
    int fd = open_any(device, err);
    if (fd < 0) {
        return fd;
    }
    int seconds = (int)(wanted_ms / MS_PER_SEC);
    seconds = seconds < SHORTEST_S ? SHORTEST_S : seconds;
    (void)ioctl(fd, WDIOC_SETTIMEOUT, &seconds); /* some only know one; asked next */
    if (ioctl(fd, WDIOC_GETTIMEOUT, &seconds) != 0 || seconds < SHORTEST_S) {
        int r = err_set(err, BERTH_EUNSUPPORTED,
                        "%s does not say its timeout: not a watchdog", device);
        *ret_watchdog = (struct fence_watchdog){.fd = fd};
        fence_watchdog_close(ret_watchdog); /* should it be one after all */
        return r;
    }
    *ret_watchdog =
        (struct fence_watchdog){.fd = fd, .timeout_ms = (uint32_t)seconds * MS_PER_SEC};
    fence_watchdog_feed(ret_watchdog);
    return 0;
}

void fence_watchdog_feed(struct fence_watchdog *watchdog)
{
    if (watchdog->fd < 0) {
        return;
    }
    if (watchdog->starved) {
        int seconds = (int)(watchdog->timeout_ms / MS_PER_SEC);
        (void)ioctl(watchdog->fd, WDIOC_SETTIMEOUT, &seconds); /* else it stays short */
        watchdog->starved = false;
    }
    ssize_t written = write(watchdog->fd, FOOD, 1);
    if (written < 0 && errno != EINTR && errno != EAGAIN) {
        fd_close(&watchdog->fd);
    }
}

void fence_watchdog_starve(struct fence_watchdog *watchdog)
{
    int seconds = SHORTEST_S;
    if (watchdog->fd >= 0 && !watchdog->starved) {
        /* Setting it also feeds it, a last time; refused, the old timeout runs on. */
        (void)ioctl(watchdog->fd, WDIOC_SETTIMEOUT, &seconds);
    }
    watchdog->starved = true;
}

void fence_watchdog_close(struct fence_watchdog *watchdog)
{
    if (watchdog->fd >= 0) {
        ssize_t written = write(watchdog->fd, GOODBYE, 1);
        (void)written; /* nothing else can be done */
        fd_close(&watchdog->fd);
    }
}
