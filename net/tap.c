#include "net/tap.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/require.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

/* Both ends must name the same flags; the kernel refuses a different set on an existing
 * device. */
#define TAP_FLAGS (IFF_TAP | IFF_NO_PI | IFF_VNET_HDR)

static int tap_attach(const char *name, struct err *err)
{
    struct ifreq request = {.ifr_flags = TAP_FLAGS};

    REQUIRE(name != NULL && name[0] != '\0' && strlen(name) < sizeof(request.ifr_name));
    CLEANUP_FD int fd = fd_open_at(AT_FDCWD, "/dev/net/tun", O_RDWR | O_NONBLOCK, 0, err);
    if (fd < 0) {
        return fd;
    }
    (void)snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
    if (ioctl(fd, TUNSETIFF, &request) != 0) {
        return err_sys(err, -errno, "open tap %s", name);
    }
    return TAKE_FD(fd);
}

int tap_create(const char *name, struct err *err)
{
    CLEANUP_FD int fd = tap_attach(name, err);

    if (fd < 0) {
        return fd;
    }
    if (ioctl(fd, TUNSETPERSIST, 1) != 0) {
        return err_sys(err, -errno, "keep tap %s", name);
    }
    return 0;
}

int tap_open_fd(const char *name, struct err *err)
{
    /* The ioctl would make a device that is not there, outside any bridge and any rule.
     */
    if (if_nametoindex(name) == 0) {
        return err_sys(err, -errno, "open tap %s", name);
    }
    return tap_attach(name, err);
}
