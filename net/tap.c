#include "net/tap.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/require.h"

#include <netlink/attr.h>
#include <netlink/msg.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <linux/if_tun.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

/* Both ends must name the same flags; the kernel refuses a different set on an existing
 * device. */
#define TAP_FLAGS (IFF_TAP | IFF_NO_PI | IFF_VNET_HDR)

#define ANSWER_BYTES 16384u /* of one link; a page is usual */

/* ---- what the kernel says of it ---- */

struct tap_facts {
    bool has_queues;
    unsigned held_count; /* of a device of several: queues that somebody holds open */
};

static const struct nlattr *within(const struct nlattr *outer, int type)
{
    return outer == NULL ? NULL : nla_find(nla_data(outer), nla_len(outer), type);
}

static unsigned number_of(const struct nlattr *outer, int type)
{
    const struct nlattr *found = within(outer, type);
    return found == NULL ? 0 : nla_get_u32(found);
}

/* The kernel's word for one link. */
union answer {
    struct nlmsghdr head;
    char room[ANSWER_BYTES];
};

static int link_ask(const char *name, union answer *answer)
{
    struct {
        struct nlmsghdr head;
        struct ifinfomsg link;
    } question = {.head = {.nlmsg_len = sizeof(question),
                           .nlmsg_type = RTM_GETLINK,
                           .nlmsg_flags = NLM_F_REQUEST},
                  .link = {.ifi_index = (int)if_nametoindex(name)}};
    if (question.link.ifi_index == 0) {
        return -errno;
    }
    CLEANUP_FD int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    if (fd < 0 || send(fd, &question, sizeof(question), 0) < 0) {
        return -errno;
    }
    const ssize_t size = recv(fd, answer, sizeof(*answer), 0);
    if (size < 0) {
        return -errno;
    }
    return NLMSG_OK(&answer->head, (size_t)size) && answer->head.nlmsg_type == RTM_NEWLINK
               ? 0
               : -ENODEV; /* it went meanwhile */
}

static int facts_ask(const char *name, struct tap_facts *ret_facts)
{
    union answer answer;
    int r = link_ask(name, &answer);
    if (r < 0) {
        return r;
    }
    const struct nlattr *info =
        nlmsg_find_attr(&answer.head, sizeof(struct ifinfomsg), IFLA_LINKINFO);
    const struct nlattr *tun = within(info, IFLA_INFO_DATA);
    const struct nlattr *queues = within(tun, IFLA_TUN_MULTI_QUEUE);
    *ret_facts =
        (struct tap_facts){.has_queues = queues != NULL && nla_get_u8(queues) != 0,
                           .held_count = number_of(tun, IFLA_TUN_NUM_QUEUES) +
                                         number_of(tun, IFLA_TUN_NUM_DISABLED_QUEUES)};
    return 0;
}

int tap_traffic_read(const char *name, struct tap_traffic *ret_traffic)
{
    union answer answer;
    struct rtnl_link_stats64 counted;
    int r = link_ask(name, &answer);
    if (r < 0) {
        return r;
    }
    const struct nlattr *found =
        nlmsg_find_attr(&answer.head, sizeof(struct ifinfomsg), IFLA_STATS64);
    const size_t least =
        offsetof(struct rtnl_link_stats64, tx_dropped) + sizeof(counted.tx_dropped);
    if (found == NULL || (size_t)nla_len(found) < least) {
        return -ENODATA;
    }
    memcpy(&counted, nla_data(found), least); /* the rest depends on the kernel */
    *ret_traffic = (struct tap_traffic){.rx_bytes = counted.tx_bytes,
                                        .rx_packets = counted.tx_packets,
                                        .rx_dropped = counted.tx_dropped,
                                        .tx_bytes = counted.rx_bytes,
                                        .tx_packets = counted.rx_packets,
                                        .tx_dropped = counted.rx_dropped};
    return 0;
}

/* ---- the device ---- */

static int tap_attach(const char *name, short more_flags, struct err *err)
{
    struct ifreq request = {.ifr_flags = (short)(TAP_FLAGS | more_flags)};

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
    struct tap_facts facts = {.has_queues = true};

    (void)facts_ask(name, &facts); /* it need not be there */
    CLEANUP_FD int fd = tap_attach(name, facts.has_queues ? IFF_MULTI_QUEUE : 0, err);
    if (fd < 0) {
        return fd;
    }
    if (ioctl(fd, TUNSETPERSIST, 1) != 0) {
        return err_sys(err, -errno, "keep tap %s", name);
    }
    return 0;
}

bool tap_has_queues(const char *name)
{
    struct tap_facts facts = {0};

    return facts_ask(name, &facts) == 0 && facts.has_queues;
}

int tap_open_fds(const char *name, int *ret_fds, unsigned most, struct err *err)
{
    struct tap_facts facts;

    REQUIRE(most > 0);
    /* The ioctl would make a device that is not there, outside any bridge and any rule.
     */
    int r = facts_ask(name, &facts);
    if (r == 0 && facts.has_queues && facts.held_count > 0) {
        r = -EBUSY; /* the kernel itself would let us in beside whoever it is */
    }
    if (r < 0) {
        return err_sys(err, r, "open tap %s", name);
    }
    const unsigned count = facts.has_queues ? most : 1;
    for (unsigned i = 0; i < count; i++) {
        const int fd = tap_attach(name, facts.has_queues ? IFF_MULTI_QUEUE : 0, err);
        if (fd < 0) {
            while (i > 0) {
                fd_close(&ret_fds[--i]);
            }
            return fd;
        }
        ret_fds[i] = fd;
    }
    return (int)count;
}
