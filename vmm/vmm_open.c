#include "vmm/vmm_open.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/parse_number.h"
#include "base/require.h"
#include "vmm/vsock_dialer.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define FIRST_OF_OURS 3 /* below are input, output and errors */

static bool starts(const char *where, const char *with)
{
    return strncmp(where, with, strlen(with)) == 0;
}

/* "fd:N", the `after`th behind it. What is inherited does not close on exec; what does is
 * taken already. */
static int inherited(const char *where, unsigned after, struct err *err)
{
    uint64_t number;
    int r = parse_u64(where + strlen("fd:"), &number, NULL);
    if (r < 0 || number < FIRST_OF_OURS || number > INT_MAX - after) {
        return err_set(err, BERTH_EINVALID, "%.40s: not a descriptor from %d on", where,
                       FIRST_OF_OURS);
    }
    const int fd = (int)number + (int)after;
    const int flags = fcntl(fd, F_GETFD);
    if (flags < 0) {
        return err_set(err, BERTH_EINVALID, "fd:%d: not open", fd);
    }
    if ((flags & FD_CLOEXEC) != 0) {
        return err_set(err, BERTH_EINVALID, "fd:%d: used twice", fd);
    }
    if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0) {
        return err_sys(err, -errno, "take fd:%d", fd);
    }
    return fd;
}

int vmm_open_file(const char *where, int flags, struct err *err)
{
    return starts(where, "fd:") ? inherited(where, 0, err)
                                : fd_open_at(AT_FDCWD, where, flags, 0, err);
}

static int
unix_address(const char *where, struct sockaddr_un *ret_address, struct err *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const char *path = where + strlen("unix:");
    if (!starts(where, "unix:") || strlen(path) >= sizeof(address.sun_path)) {
        return err_set(err, BERTH_EINVALID,
                       "%.100s: neither fd:N nor unix: and a short path", where);
    }
    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    *ret_address = address;
    return 0;
}

int vmm_open_listener(const char *where, struct err *err)
{
    struct sockaddr_un address;
    if (starts(where, "fd:")) {
        return inherited(where, 0, err);
    }
    int r = unix_address(where, &address, err);
    if (r < 0) {
        return r;
    }
    CLEANUP_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    (void)unlink(address.sun_path); /* usually nothing is there */
    if (fd < 0 || bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 ||
        listen(fd, 1) < 0) {
        return err_sys(err, -errno, "listen at %s", address.sun_path);
    }
    return TAKE_FD(fd);
}

int vmm_open_stream(const char *where, struct err *err)
{
    struct sockaddr_un address;
    if (!starts(where, "unix:")) {
        return vmm_open_file(where, O_RDWR | O_NOCTTY | O_NONBLOCK, err);
    }
    int r = unix_address(where, &address, err);
    if (r < 0) {
        return r;
    }
    CLEANUP_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0) {
        return err_sys(err, -errno, "connect to %s", address.sun_path);
    }
    return TAKE_FD(fd);
}

int vmm_open_dialer(const char *where, struct err *err)
{
    if (starts(where, "fd:")) {
        return inherited(where, 0, err);
    }
    if (!starts(where, "unix:")) {
        return err_set(err, BERTH_EINVALID, "%.100s: neither fd:N nor unix: and a path",
                       where);
    }
    return vsock_dialer_start(where + strlen("unix:"), err);
}

/* One queue of it. A tap that is made for several takes nobody who does not say so. */
static int queue_open(const char *name, short more_flags, struct err *err)
{
    struct ifreq request = {.ifr_flags =
                                (short)(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | more_flags)};
    CLEANUP_FD int fd = fd_open_at(AT_FDCWD, "/dev/net/tun", O_RDWR | O_NONBLOCK, 0, err);
    if (fd < 0) {
        return fd;
    }
    (void)snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
    /* The call would make a tap that is not there, on no bridge and under no rule. */
    if (if_nametoindex(name) == 0 || ioctl(fd, TUNSETIFF, &request) < 0) {
        return err_sys(err, -errno, "open tap %s", name);
    }
    return TAKE_FD(fd);
}

int vmm_open_tap(const char *where, unsigned queue, unsigned queue_count, struct err *err)
{
    const char *name = where + strlen("tap:");
    REQUIRE(queue < queue_count);
    if (starts(where, "fd:")) {
        return inherited(where, queue, err);
    }
    if (!starts(where, "tap:") || *name == '\0' || strlen(name) >= IFNAMSIZ) {
        return err_set(err, BERTH_EINVALID, "%.40s: neither fd:N nor tap:NAME", where);
    }
    const int fd = queue_open(name, queue_count > 1 ? IFF_MULTI_QUEUE : 0, err);
    return fd == -EINVAL && queue_count == 1 ? queue_open(name, IFF_MULTI_QUEUE, err)
                                             : fd;
}

int vmm_open_vhost(const char *where, unsigned queue, struct err *err)
{
    return starts(where, "fd:") ? inherited(where, queue, err)
                                : fd_open_at(AT_FDCWD, where, O_RDWR, 0, err);
}
