#include "base/own_address.h"

#include "base/cleanup.h"
#include "base/fd.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/socket.h>

#define LIST_SIZE 160

/* By binding to it: the loopback has more addresses than its device says. */
static bool is_own(uint32_t address)
{
    const struct sockaddr_in wanted = {.sin_family = AF_INET,
                                       .sin_addr.s_addr = htonl(address)};
    CLEANUP_FD int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    return fd < 0 ||
           bind(fd, (const struct sockaddr *)(const void *)&wanted, sizeof(wanted)) ==
               0 ||
           errno != EADDRNOTAVAIL;
}

/* "10.0.0.4 (eth0), 10.1.0.4 (eth1)"; the last are left out when there are too many. */
static void list_own(char text[LIST_SIZE])
{
    struct ifaddrs *list = NULL;
    size_t used = 0;
    text[0] = '\0';
    if (getifaddrs(&list) < 0) {
        return;
    }
    for (const struct ifaddrs *item = list; item != NULL; item = item->ifa_next) {
        char address[INET_ADDRSTRLEN];
        if (item->ifa_addr == NULL || item->ifa_addr->sa_family != AF_INET) {
            continue;
        }
        const struct sockaddr_in *own =
            (const struct sockaddr_in *)(const void *)item->ifa_addr;
        (void)inet_ntop(AF_INET, &own->sin_addr, address, sizeof(address)); /* it fits */
        int size = snprintf(text + used, LIST_SIZE - used, "%s%s (%s)",
                            used > 0 ? ", " : "", address, item->ifa_name);
        if (size < 0 || used + (size_t)size >= LIST_SIZE) {
            text[used] = '\0';
            break;
        }
        used += (size_t)size;
    }
    freeifaddrs(list);
}

int own_address_check(uint32_t address, struct err *err)
{
    char text[INET_ADDRSTRLEN];
    char list[LIST_SIZE];
    const struct in_addr in = {.s_addr = htonl(address)};
    if (is_own(address)) {
        return 0;
    }
    list_own(list);
    (void)inet_ntop(AF_INET, &in, text, sizeof(text)); /* it fits */
    return err_set(err, BERTH_EINVALID, "%s is no address of this machine, which has %s",
                   text, list[0] != '\0' ? list : "none");
}
