/* tap_make NAME: makes a tap that stays, of several queues, with virtio's headers:
 * what busybox has no word for. Exit codes: 0, 1. */
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdio.h>
#include <sys/ioctl.h>

int main(int argc, char *argv[])
{
    struct ifreq request = {.ifr_flags =
                                IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_MULTI_QUEUE};
    const int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
    if (argc != 2) {
        (void)fprintf(stderr, "usage: tap_make NAME\n");
        return 1;
    }
    (void)snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", argv[1]);
    if (fd < 0 || ioctl(fd, TUNSETIFF, &request) < 0 || ioctl(fd, TUNSETPERSIST, 1) < 0) {
        perror(argv[1]);
        return 1;
    }
    return 0;
}
