/* tap_open NAME PROGRAM [ARGUMENTS]: opens a tap of one queue, with virtio's headers, and
 * runs the program with it as descriptor 5: what a shell has no word for. The tap goes
 * with its last descriptor. Exit codes: 1, or the program's. */
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

int main(int argc, char *argv[])
{
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
    const int fd = open("/dev/net/tun", O_RDWR);
    if (argc < 3) {
        (void)fprintf(stderr, "usage: tap_open NAME PROGRAM [ARGUMENTS]\n");
        return 1;
    }
    (void)snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", argv[1]);
    if (fd < 0 || ioctl(fd, TUNSETIFF, &request) < 0 || dup2(fd, 5) < 0) {
        perror(argv[1]);
        return 1;
    }
    (void)execvp(argv[2], argv + 2);
    perror(argv[2]);
    return 1;
}
