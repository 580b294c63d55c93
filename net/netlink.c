#include "net/netlink.h"

#include "base/cleanup.h"
#include "base/require.h"

#include <netlink/msg.h>
#include <netlink/netlink.h>

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_bridge.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAC_BYTES 6

/* The caller's function for the items of a list: one is set, the one that parse calls. */
struct item_functions {
    void (*link)(void *context, const struct netlink_link *link);
    void (*address)(void *context, const struct netlink_address *address);
    void (*route)(void *context, const struct netlink_route *route);
    void (*neighbour)(void *context, const struct netlink_neighbour *neighbour);
    void (*fdb)(void *context, const struct netlink_fdb *fdb);
};

struct netlink {
    struct nl_sock *socket;
    struct nl_cb *callbacks;
    int error;     /* of the exchange under way */
    uint64_t left; /* items of a list that are still wanted */
    bool cut;      /* there were more */
    void (*parse)(struct netlink *netlink,
                  struct nlmsghdr *header); /* of a list under way */
    const struct item_functions *item;      /* the caller's */
    void *context;
};

/* ---- the socket ---- */

static int
on_kernel_error(struct sockaddr_nl *from, struct nlmsgerr *error, void *context)
{
    struct netlink *netlink = context;

    (void)from;
    netlink->error = error->error; /* -errno */
    return NL_STOP;
}

static int on_message(struct nl_msg *message, void *context)
{
    struct netlink *netlink = context;

    if (netlink->parse == NULL) {
        return NL_OK;
    }
    if (netlink->left == 0) {
        netlink->cut = true;
        return NL_STOP;
    }
    netlink->left--;
    netlink->parse(netlink, nlmsg_hdr(message));
    return NL_OK;
}

static int on_finish(struct nl_msg *message, void *context)
{
    (void)message;
    (void)context;
    return NL_STOP;
}

static int socket_connect(struct netlink *netlink)
{
    int r = nl_connect(netlink->socket, NETLINK_ROUTE);
    if (r < 0) {
        return r;
    }
    /* Lists of a large network come in many parts; a big buffer keeps them from being
     * dropped. */
    (void)nl_socket_set_buffer_size(netlink->socket, 1 << 20, 1 << 16);
    nl_socket_disable_auto_ack(netlink->socket); /* asked for per request */
    return 0;
}

int netlink_open(struct netlink **ret_netlink, struct err *err)
{
    struct netlink *netlink = calloc(1, sizeof(*netlink));

    if (netlink == NULL) {
        return err_set(err, -ENOMEM, "open netlink: out of memory");
    }
    netlink->socket = nl_socket_alloc();
    netlink->callbacks = nl_cb_alloc(NL_CB_DEFAULT);
    if (netlink->socket == NULL || netlink->callbacks == NULL) {
        (void)netlink_close(netlink);
        return err_set(err, -ENOMEM, "open netlink: out of memory");
    }
    int r = socket_connect(netlink);
    if (r < 0) {
        (void)netlink_close(netlink);
        return err_set(err, -EIO, "open netlink: %s", nl_geterror(r));
    }
    nl_cb_err(netlink->callbacks, NL_CB_CUSTOM, on_kernel_error, netlink);
    nl_cb_set(netlink->callbacks, NL_CB_VALID, NL_CB_CUSTOM, on_message, netlink);
    nl_cb_set(netlink->callbacks, NL_CB_ACK, NL_CB_CUSTOM, on_finish, netlink);
    nl_cb_set(netlink->callbacks, NL_CB_FINISH, NL_CB_CUSTOM, on_finish, netlink);
    *ret_netlink = netlink;
    return 0;
}

struct netlink *netlink_close(struct netlink *netlink)
{
    if (netlink != NULL) {
        nl_cb_put(netlink->callbacks);
        nl_socket_free(netlink->socket);
        free(netlink);
    }
    return NULL;
}

/* Sends the message (freed here) and receives to its acknowledgement or the list's end. A
 * part that did not fit the message shows as NULL: out of memory. */
static int exchange(struct netlink *netlink, struct nl_msg *message)
{
    if (message == NULL) {
        return -ENOMEM;
    }
    netlink->error = 0;
    int r =
        nl_socket_get_fd(netlink->socket) < 0 ? socket_connect(netlink) : 0; /* a cut */
    r = r < 0 ? r : nl_send_auto(netlink->socket, message);
    nlmsg_free(message);
    if (r >= 0) {
        r = nl_recvmsgs(netlink->socket, netlink->callbacks);
    }
    if (netlink->error != 0) {
        return netlink->error;
    }
    return r < 0 ? -EIO : 0;
}

/* A request with its fixed header. */
static struct nl_msg *request_new(int type, int flags, const void *header, size_t size)
{
    struct nl_msg *message = nlmsg_alloc_simple(type, NLM_F_REQUEST | flags);

    if (message != NULL &&
        nlmsg_append(message, (void *)(uintptr_t)header, size, NLMSG_ALIGNTO) < 0) {
        nlmsg_free(message);
        message = NULL;
    }
    return message;
}

/* ---- attributes ---- */

static void mac_store(uint64_t mac, uint8_t bytes[MAC_BYTES])
{
    for (int i = 0; i < MAC_BYTES; i++) {
        bytes[i] = (uint8_t)(mac >> (8 * (MAC_BYTES - 1 - i)));
    }
}

static uint64_t attribute_mac(const struct nlattr *attribute)
{
    uint64_t mac = 0;

    if (attribute == NULL || nla_len(attribute) != MAC_BYTES) {
        return 0;
    }
    const uint8_t *bytes = nla_data(attribute);
    for (int i = 0; i < MAC_BYTES; i++) {
        mac = mac << 8 | bytes[i];
    }
    return mac;
}

static uint32_t attribute_ipv4(const struct nlattr *attribute)
{
    return attribute != NULL && nla_len(attribute) == 4 ? ntohl(nla_get_u32(attribute))
                                                        : 0;
}

static uint32_t attribute_u32(const struct nlattr *attribute)
{
    return attribute != NULL && nla_len(attribute) >= 4 ? nla_get_u32(attribute) : 0;
}

static bool attribute_flag(const struct nlattr *attribute)
{
    return attribute != NULL && nla_len(attribute) >= 1 && nla_get_u8(attribute) != 0;
}

/* The puts below add to a message and, when it is full, turn it into NULL: checked once,
 * in exchange. */
static void put(struct nl_msg **message, int type, const void *data, size_t size)
{
    if (*message != NULL && nla_put(*message, type, (int)size, data) < 0) {
        nlmsg_free(*message);
        *message = NULL;
    }
}

static void put_u8(struct nl_msg **message, int type, uint8_t value)
{
    put(message, type, &value, sizeof(value));
}

static void put_u32(struct nl_msg **message, int type, uint32_t value)
{
    put(message, type, &value, sizeof(value));
}

static void put_ipv4(struct nl_msg **message, int type, uint32_t address)
{
    put_u32(message, type, htonl(address));
}

static void put_mac(struct nl_msg **message, int type, uint64_t mac)
{
    uint8_t bytes[MAC_BYTES];

    mac_store(mac, bytes);
    put(message, type, bytes, sizeof(bytes));
}

static void put_text(struct nl_msg **message, int type, const char *text)
{
    put(message, type, text, strlen(text) + 1);
}

static struct nlattr *put_nest(struct nl_msg **message, int type)
{
    struct nlattr *nest = *message != NULL ? nla_nest_start(*message, type) : NULL;

    if (nest == NULL && *message != NULL) {
        nlmsg_free(*message);
        *message = NULL;
    }
    return nest;
}

static void put_nest_end(struct nl_msg *message, struct nlattr *nest)
{
    if (message != NULL && nest != NULL) {
        (void)nla_nest_end(message, nest); /* empty nests are kept out by construction */
    }
}

/* ---- lists ---- */

/* What is left of a list that is cut goes with the socket. */
static int list_some(struct netlink *netlink,
                     uint64_t max,
                     int type,
                     const void *header,
                     size_t size,
                     void (*parse)(struct netlink *, struct nlmsghdr *),
                     struct item_functions functions,
                     void *context)
{
    netlink->left = max;
    netlink->cut = false;
    netlink->parse = parse;
    netlink->item = &functions;
    netlink->context = context;
    int r = exchange(netlink, request_new(type, NLM_F_DUMP, header, size));
    netlink->parse = NULL;
    netlink->item = NULL;
    netlink->context = NULL;
    if (netlink->cut) {
        nl_close(netlink->socket);
    }
    return r;
}

static int list(struct netlink *netlink,
                int type,
                const void *header,
                size_t size,
                void (*parse)(struct netlink *, struct nlmsghdr *),
                struct item_functions functions,
                void *context)
{
    return list_some(netlink, UINT64_MAX, type, header, size, parse, functions, context);
}

static const struct {
    int attribute;
    uint32_t flag;
} port_settings[] = {
    {IFLA_BRPORT_LEARNING, NETWORK_PORT_LEARNING},
    {IFLA_BRPORT_UNICAST_FLOOD, NETWORK_PORT_FLOOD},
    {IFLA_BRPORT_MCAST_FLOOD, NETWORK_PORT_MCAST_FLOOD},
    {IFLA_BRPORT_BCAST_FLOOD, NETWORK_PORT_BCAST_FLOOD},
    {IFLA_BRPORT_NEIGH_SUPPRESS, NETWORK_PORT_NEIGH_SUPPRESS},
    {IFLA_BRPORT_ISOLATED, NETWORK_PORT_ISOLATED},
};

static void parse_port(struct nlattr *data, struct netlink_link *link)
{
    struct nlattr *port[IFLA_BRPORT_MAX + 1];

    if (nla_parse_nested(port, IFLA_BRPORT_MAX, data, NULL) < 0) {
        return;
    }
    for (size_t i = 0; i < ARRAY_COUNT(port_settings); i++) {
        if (attribute_flag(port[port_settings[i].attribute])) {
            link->port_flags |= port_settings[i].flag;
        }
    }
}

static void parse_vxlan(struct nlattr *data, struct netlink_link *link)
{
    struct nlattr *vxlan[IFLA_VXLAN_MAX + 1];

    if (nla_parse_nested(vxlan, IFLA_VXLAN_MAX, data, NULL) < 0) {
        return;
    }
    link->vxlan_vni = attribute_u32(vxlan[IFLA_VXLAN_ID]);
    link->vxlan_local = attribute_ipv4(vxlan[IFLA_VXLAN_LOCAL]);
    link->vxlan_learning = attribute_flag(vxlan[IFLA_VXLAN_LEARNING]);
    if (vxlan[IFLA_VXLAN_PORT] != NULL && nla_len(vxlan[IFLA_VXLAN_PORT]) == 2) {
        link->vxlan_port = ntohs(nla_get_u16(vxlan[IFLA_VXLAN_PORT]));
    }
}

static void parse_link_info(struct nlattr *attribute, struct netlink_link *link)
{
    struct nlattr *info[IFLA_INFO_MAX + 1];

    if (attribute == NULL || nla_parse_nested(info, IFLA_INFO_MAX, attribute, NULL) < 0) {
        return;
    }
    if (info[IFLA_INFO_KIND] != NULL) {
        (void)nla_strlcpy(link->kind, info[IFLA_INFO_KIND], sizeof(link->kind));
    }
    if (info[IFLA_INFO_DATA] != NULL && strcmp(link->kind, "vxlan") == 0) {
        parse_vxlan(info[IFLA_INFO_DATA], link);
    }
    if (info[IFLA_INFO_SLAVE_DATA] != NULL && info[IFLA_INFO_SLAVE_KIND] != NULL &&
        nla_strcmp(info[IFLA_INFO_SLAVE_KIND], "bridge") == 0) {
        parse_port(info[IFLA_INFO_SLAVE_DATA], link);
    }
}

static void parse_link(struct netlink *netlink, struct nlmsghdr *header)
{
    struct nlattr *attributes[IFLA_MAX + 1];
    const struct ifinfomsg *message = nlmsg_data(header);
    struct netlink_link link = {0};

    if (header->nlmsg_type != RTM_NEWLINK ||
        nlmsg_parse(header, sizeof(*message), attributes, IFLA_MAX, NULL) < 0 ||
        attributes[IFLA_IFNAME] == NULL) {
        return;
    }
    link.index = message->ifi_index;
    link.up = (message->ifi_flags & IFF_UP) != 0;
    link.master = (int)attribute_u32(attributes[IFLA_MASTER]);
    link.mtu = attribute_u32(attributes[IFLA_MTU]);
    link.mac = attribute_mac(attributes[IFLA_ADDRESS]);
    (void)nla_strlcpy(link.name, attributes[IFLA_IFNAME], sizeof(link.name));
    parse_link_info(attributes[IFLA_LINKINFO], &link);
    netlink->item->link(netlink->context, &link);
}

int netlink_links(struct netlink *netlink,
                  void (*item)(void *context, const struct netlink_link *link),
                  void *context,
                  struct err *err)
{
    struct ifinfomsg header = {.ifi_family = AF_UNSPEC};
    int r = list(netlink, RTM_GETLINK, &header, sizeof(header), parse_link,
                 (struct item_functions){.link = item}, context);

    return r == 0 ? 0 : err_sys(err, r, "list links");
}

static void parse_address(struct netlink *netlink, struct nlmsghdr *header)
{
    struct nlattr *attributes[IFA_MAX + 1];
    const struct ifaddrmsg *message = nlmsg_data(header);

    if (header->nlmsg_type != RTM_NEWADDR || message->ifa_family != AF_INET ||
        nlmsg_parse(header, sizeof(*message), attributes, IFA_MAX, NULL) < 0) {
        return;
    }
    struct netlink_address address = {.link = (int)message->ifa_index,
                                      .ipv4 = attribute_ipv4(attributes[IFA_LOCAL]),
                                      .prefix_bits = message->ifa_prefixlen};
    netlink->item->address(netlink->context, &address);
}

int netlink_addresses(struct netlink *netlink,
                      void (*item)(void *context, const struct netlink_address *address),
                      void *context,
                      struct err *err)
{
    struct ifaddrmsg header = {.ifa_family = AF_INET};
    int r = list(netlink, RTM_GETADDR, &header, sizeof(header), parse_address,
                 (struct item_functions){.address = item}, context);

    return r == 0 ? 0 : err_sys(err, r, "list addresses");
}

/* Each way that a route may go has a header and attributes of its own. */
static void parse_ways(struct netlink *netlink,
                       const struct netlink_route *route,
                       const struct nlattr *ways)
{
    uint8_t *at = nla_data(ways);
    size_t left = (size_t)nla_len(ways);
    struct rtnexthop way;

    while (left >= sizeof(way)) {
        struct nlattr *attributes[RTA_MAX + 1];
        memcpy(&way, at, sizeof(way));
        if (way.rtnh_len < sizeof(way) || way.rtnh_len > left ||
            nla_parse(attributes, RTA_MAX, (struct nlattr *)(void *)(at + sizeof(way)),
                      (int)(way.rtnh_len - sizeof(way)), NULL) < 0) {
            return;
        }
        struct netlink_route one = *route;
        one.link = way.rtnh_ifindex;
        one.gateway = attribute_ipv4(attributes[RTA_GATEWAY]);
        netlink->item->route(netlink->context, &one);
        size_t step = (size_t)RTNH_ALIGN((int)way.rtnh_len);
        left -= step < left ? step : left;
        at += step;
    }
}

static void parse_route(struct netlink *netlink, struct nlmsghdr *header)
{
    struct nlattr *attributes[RTA_MAX + 1];
    const struct rtmsg *message = nlmsg_data(header);

    if (header->nlmsg_type != RTM_NEWROUTE || message->rtm_family != AF_INET ||
        message->rtm_table != RT_TABLE_MAIN || message->rtm_type != RTN_UNICAST ||
        nlmsg_parse(header, sizeof(*message), attributes, RTA_MAX, NULL) < 0) {
        return;
    }
    struct netlink_route route = {.link = (int)attribute_u32(attributes[RTA_OIF]),
                                  .gateway = attribute_ipv4(attributes[RTA_GATEWAY]),
                                  .ipv4 = attribute_ipv4(attributes[RTA_DST]),
                                  .prefix_bits = message->rtm_dst_len,
                                  .source = attribute_ipv4(attributes[RTA_PREFSRC])};
    if (attributes[RTA_MULTIPATH] != NULL) {
        parse_ways(netlink, &route, attributes[RTA_MULTIPATH]);
    } else {
        netlink->item->route(netlink->context, &route);
    }
}

int netlink_routes_some(struct netlink *netlink,
                        uint64_t max,
                        void (*item)(void *context, const struct netlink_route *route),
                        void *context,
                        bool *ret_cut,
                        struct err *err)
{
    struct rtmsg header = {.rtm_family = AF_INET};
    int r = list_some(netlink, max, RTM_GETROUTE, &header, sizeof(header), parse_route,
                      (struct item_functions){.route = item}, context);

    if (r == 0) {
        *ret_cut = netlink->cut;
    }
    return r == 0 ? 0 : err_sys(err, r, "list routes");
}

int netlink_routes(struct netlink *netlink,
                   void (*item)(void *context, const struct netlink_route *route),
                   void *context,
                   struct err *err)
{
    bool cut;
    return netlink_routes_some(netlink, UINT64_MAX, item, context, &cut, err);
}

static void parse_neighbour(struct netlink *netlink, struct nlmsghdr *header)
{
    struct nlattr *attributes[NDA_MAX + 1];
    const struct ndmsg *message = nlmsg_data(header);

    if (header->nlmsg_type != RTM_NEWNEIGH || message->ndm_family != AF_INET ||
        nlmsg_parse(header, sizeof(*message), attributes, NDA_MAX, NULL) < 0) {
        return;
    }
    struct netlink_neighbour neighbour = {.link = message->ndm_ifindex,
                                          .permanent =
                                              (message->ndm_state & NUD_PERMANENT) != 0,
                                          .ipv4 = attribute_ipv4(attributes[NDA_DST]),
                                          .mac = attribute_mac(attributes[NDA_LLADDR])};
    netlink->item->neighbour(netlink->context, &neighbour);
}

int netlink_neighbours(struct netlink *netlink,
                       void (*item)(void *context,
                                    const struct netlink_neighbour *neighbour),
                       void *context,
                       struct err *err)
{
    struct ndmsg header = {.ndm_family = AF_INET};
    int r = list(netlink, RTM_GETNEIGH, &header, sizeof(header), parse_neighbour,
                 (struct item_functions){.neighbour = item}, context);

    return r == 0 ? 0 : err_sys(err, r, "list neighbours");
}

static void parse_fdb(struct netlink *netlink, struct nlmsghdr *header)
{
    struct nlattr *attributes[NDA_MAX + 1];
    const struct ndmsg *message = nlmsg_data(header);

    if (header->nlmsg_type != RTM_NEWNEIGH || message->ndm_family != AF_BRIDGE ||
        nlmsg_parse(header, sizeof(*message), attributes, NDA_MAX, NULL) < 0) {
        return;
    }
    bool self = (message->ndm_flags & NTF_SELF) != 0 && attributes[NDA_MASTER] == NULL;
    /* In a bridge "permanent" is a port's own address and "noarp" a static entry. */
    bool fixed = (message->ndm_state & NUD_NOARP) != 0 &&
                 (self || (message->ndm_state & NUD_PERMANENT) == 0);
    struct netlink_fdb fdb = {
        .link = message->ndm_ifindex,
        .self = self,
        .fixed = fixed || (self && (message->ndm_state & NUD_PERMANENT) != 0),
        .mac = attribute_mac(attributes[NDA_LLADDR]),
        .destination = attribute_ipv4(attributes[NDA_DST])};
    netlink->item->fdb(netlink->context, &fdb);
}

int netlink_fdbs(struct netlink *netlink,
                 void (*item)(void *context, const struct netlink_fdb *fdb),
                 void *context,
                 struct err *err)
{
    struct ndmsg header = {.ndm_family = AF_BRIDGE};
    int r = list(netlink, RTM_GETNEIGH, &header, sizeof(header), parse_fdb,
                 (struct item_functions){.fdb = item}, context);

    return r == 0 ? 0 : err_sys(err, r, "list forwarding entries");
}

/* ---- links ---- */

int netlink_index(const char *name, struct err *err)
{
    unsigned index = if_nametoindex(name);

    return index != 0 ? (int)index : err_sys(err, -errno, "find link %s", name);
}

int netlink_bridge_create(struct netlink *netlink,
                          const char *name,
                          uint64_t mac,
                          uint32_t mtu,
                          struct err *err)
{
    struct ifinfomsg header = {.ifi_family = AF_UNSPEC};
    struct nl_msg *message = request_new(
        RTM_NEWLINK, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, &header, sizeof(header));

    /* LLDP goes past every filter up to the host, unless the bridge is to forward it:
     * then it meets the filters like any other frame, and they drop it. The lowest three
     * addresses cannot be asked for; they meet the input filter. */
    uint16_t group_forward = 0xfff8;

    put_text(&message, IFLA_IFNAME, name);
    put_mac(&message, IFLA_ADDRESS, mac);
    put_u32(&message, IFLA_MTU, mtu);
    struct nlattr *info = put_nest(&message, IFLA_LINKINFO);
    put_text(&message, IFLA_INFO_KIND, "bridge");
    struct nlattr *data = put_nest(&message, IFLA_INFO_DATA);
    /* Nothing but known unicast is forwarded, so there is nothing to snoop. */
    put_u8(&message, IFLA_BR_MCAST_SNOOPING, 0);
    put_u32(&message, IFLA_BR_STP_STATE, 0);
    put(&message, IFLA_BR_GROUP_FWD_MASK, &group_forward, sizeof(group_forward));
    put_nest_end(message, data);
    put_nest_end(message, info);
    int r = exchange(netlink, message);
    return r == 0 ? 0 : err_sys(err, r, "create bridge %s", name);
}

int netlink_vxlan_create(struct netlink *netlink,
                         const char *name,
                         uint32_t vni,
                         uint32_t local,
                         uint16_t port,
                         uint32_t mtu,
                         struct err *err)
{
    struct ifinfomsg header = {.ifi_family = AF_UNSPEC};
    struct nl_msg *message = request_new(
        RTM_NEWLINK, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, &header, sizeof(header));
    uint16_t port_wire = htons(port);

    put_text(&message, IFLA_IFNAME, name);
    put_u32(&message, IFLA_MTU, mtu);
    struct nlattr *info = put_nest(&message, IFLA_LINKINFO);
    put_text(&message, IFLA_INFO_KIND, "vxlan");
    struct nlattr *data = put_nest(&message, IFLA_INFO_DATA);
    put_u32(&message, IFLA_VXLAN_ID, vni);
    put_ipv4(&message, IFLA_VXLAN_LOCAL, local);
    put(&message, IFLA_VXLAN_PORT, &port_wire, sizeof(port_wire));
    put_u8(&message, IFLA_VXLAN_LEARNING, 0);
    put_nest_end(message, data);
    put_nest_end(message, info);
    int r = exchange(netlink, message);
    return r == 0 ? 0 : err_sys(err, r, "create VXLAN device %s", name);
}

/* A change of an existing link, by name; the caller adds attributes. */
static struct nl_msg *link_change_new(const char *name, const struct ifinfomsg *changes)
{
    struct nl_msg *message =
        request_new(RTM_NEWLINK, NLM_F_ACK, changes, sizeof(*changes));

    put_text(&message, IFLA_IFNAME, name);
    return message;
}

int netlink_link_remove(struct netlink *netlink, const char *name, struct err *err)
{
    struct ifinfomsg header = {.ifi_family = AF_UNSPEC};
    struct nl_msg *message = request_new(RTM_DELLINK, NLM_F_ACK, &header, sizeof(header));

    put_text(&message, IFLA_IFNAME, name);
    int r = exchange(netlink, message);
    return r == 0 || r == -ENODEV ? 0 : err_sys(err, r, "remove link %s", name);
}

int netlink_link_up(struct netlink *netlink, const char *name, bool up, struct err *err)
{
    struct ifinfomsg changes = {
        .ifi_family = AF_UNSPEC, .ifi_flags = up ? IFF_UP : 0, .ifi_change = IFF_UP};
    int r = exchange(netlink, link_change_new(name, &changes));

    return r == 0 ? 0 : err_sys(err, r, "set link %s %s", name, up ? "up" : "down");
}

int netlink_link_mtu(struct netlink *netlink,
                     const char *name,
                     uint32_t mtu,
                     struct err *err)
{
    struct ifinfomsg changes = {.ifi_family = AF_UNSPEC};
    struct nl_msg *message = link_change_new(name, &changes);

    put_u32(&message, IFLA_MTU, mtu);
    int r = exchange(netlink, message);
    return r == 0 ? 0 : err_sys(err, r, "set MTU of %s to %u", name, mtu);
}

int netlink_link_mac(struct netlink *netlink,
                     const char *name,
                     uint64_t mac,
                     struct err *err)
{
    struct ifinfomsg changes = {.ifi_family = AF_UNSPEC};
    struct nl_msg *message = link_change_new(name, &changes);

    put_mac(&message, IFLA_ADDRESS, mac);
    int r = exchange(netlink, message);
    return r == 0 ? 0 : err_sys(err, r, "set MAC of %s", name);
}

int netlink_link_attach(struct netlink *netlink,
                        const char *name,
                        const char *master,
                        struct err *err)
{
    struct ifinfomsg changes = {.ifi_family = AF_UNSPEC};
    int index = 0;

    if (master != NULL) {
        index = netlink_index(master, err);
        if (index < 0) {
            return index;
        }
    }
    struct nl_msg *message = link_change_new(name, &changes);
    put_u32(&message, IFLA_MASTER, (uint32_t)index);
    int r = exchange(netlink, message);
    return r == 0 ? 0
                  : err_sys(err, r, "attach %s to %s", name,
                            master != NULL ? master : "nothing");
}

int netlink_port_flags(struct netlink *netlink,
                       const char *name,
                       uint32_t flags,
                       struct err *err)
{
    struct ifinfomsg changes = {.ifi_family = AF_UNSPEC};
    struct nl_msg *message = link_change_new(name, &changes);

    struct nlattr *info = put_nest(&message, IFLA_LINKINFO);
    put_text(&message, IFLA_INFO_SLAVE_KIND, "bridge");
    struct nlattr *data = put_nest(&message, IFLA_INFO_SLAVE_DATA);
    for (size_t i = 0; i < ARRAY_COUNT(port_settings); i++) {
        put_u8(&message, port_settings[i].attribute,
               (flags & port_settings[i].flag) != 0);
    }
    put_nest_end(message, data);
    put_nest_end(message, info);
    int r = exchange(netlink, message);
    return r == 0 ? 0 : err_sys(err, r, "set bridge port %s", name);
}

/* ---- entries ---- */

/* Codes by which the kernel says that there was nothing to remove. */
static bool was_absent(int code)
{
    return code == -ENOENT || code == -ESRCH || code == -EADDRNOTAVAIL || code == -ENODEV;
}

static int
finish_set(int code, bool present, struct err *err, const char *what, const char *link)
{
    if (code == 0 || (!present && was_absent(code))) {
        return 0;
    }
    return err_sys(err, code, "%s %s on %s", present ? "set" : "unset", what, link);
}

int netlink_address_set(struct netlink *netlink,
                        const char *link,
                        uint32_t ipv4,
                        uint32_t prefix_bits,
                        bool present,
                        struct err *err)
{
    int index = netlink_index(link, err);
    struct ifaddrmsg header = {.ifa_family = AF_INET,
                               .ifa_prefixlen = (uint8_t)prefix_bits,
                               .ifa_scope = RT_SCOPE_UNIVERSE};

    if (index < 0) {
        return present ? index : 0;
    }
    header.ifa_index = (uint32_t)index;
    struct nl_msg *message =
        request_new(present ? RTM_NEWADDR : RTM_DELADDR,
                    NLM_F_ACK | (present ? NLM_F_CREATE | NLM_F_REPLACE : 0), &header,
                    sizeof(header));
    put_ipv4(&message, IFA_LOCAL, ipv4);
    put_ipv4(&message, IFA_ADDRESS, ipv4);
    /* The route comes from netlink_route_set, with the source address that we want. */
    put_u32(&message, IFA_FLAGS, IFA_F_NOPREFIXROUTE);
    return finish_set(exchange(netlink, message), present, err, "address", link);
}

int netlink_route_set(struct netlink *netlink,
                      const char *link,
                      uint32_t ipv4,
                      uint32_t prefix_bits,
                      uint32_t source,
                      bool present,
                      struct err *err)
{
    int index = netlink_index(link, err);
    struct rtmsg header = {.rtm_family = AF_INET,
                           .rtm_dst_len = (uint8_t)prefix_bits,
                           .rtm_table = RT_TABLE_MAIN,
                           .rtm_protocol = RTPROT_STATIC,
                           .rtm_scope = RT_SCOPE_LINK,
                           .rtm_type = RTN_UNICAST};

    if (index < 0) {
        return present ? index : 0;
    }
    struct nl_msg *message = request_new(
        present ? RTM_NEWROUTE : RTM_DELROUTE,
        NLM_F_ACK | (present ? NLM_F_CREATE | NLM_F_EXCL : 0), &header, sizeof(header));
    put_ipv4(&message, RTA_DST, ipv4);
    put_u32(&message, RTA_OIF, (uint32_t)index);
    if (present) {
        put_ipv4(&message, RTA_PREFSRC, source);
    } else if (message != NULL) {
        struct rtmsg *sent = nlmsg_data(nlmsg_hdr(message));
        sent->rtm_scope = RT_SCOPE_NOWHERE; /* any scope, any protocol */
        sent->rtm_protocol = RTPROT_UNSPEC;
    }
    return finish_set(exchange(netlink, message), present, err, "route", link);
}

/* A neighbour of the bridge, or an entry of a forwarding table: one message, different
 * flags. */
static int neighbour_change(struct netlink *netlink,
                            const struct ndmsg *header,
                            uint64_t mac,
                            uint32_t address,
                            bool present)
{
    struct nl_msg *message =
        request_new(present ? RTM_NEWNEIGH : RTM_DELNEIGH,
                    NLM_F_ACK | (present ? NLM_F_CREATE | NLM_F_REPLACE : 0), header,
                    sizeof(*header));

    if (mac != 0) {
        put_mac(&message, NDA_LLADDR, mac);
    }
    if (address != 0) {
        put_ipv4(&message, NDA_DST, address);
    }
    return exchange(netlink, message);
}

int netlink_neighbour_set(struct netlink *netlink,
                          const char *link,
                          uint32_t ipv4,
                          uint64_t mac,
                          bool present,
                          struct err *err)
{
    int index = netlink_index(link, err);
    struct ndmsg header = {
        .ndm_family = AF_INET, .ndm_ifindex = index, .ndm_state = NUD_PERMANENT};

    if (index < 0) {
        return present ? index : 0;
    }
    int r = neighbour_change(netlink, &header, present ? mac : 0, ipv4, present);
    return finish_set(r, present, err, "neighbour", link);
}

int netlink_bridge_fdb_set(struct netlink *netlink,
                           const char *port,
                           uint64_t mac,
                           bool present,
                           struct err *err)
{
    int index = netlink_index(port, err);
    struct ndmsg header = {.ndm_family = AF_BRIDGE,
                           .ndm_ifindex = index,
                           .ndm_state = NUD_NOARP,
                           .ndm_flags = NTF_MASTER};

    if (index < 0) {
        return present ? index : 0;
    }
    int r = neighbour_change(netlink, &header, mac, 0, present);
    return finish_set(r, present, err, "forwarding entry", port);
}

int netlink_vxlan_fdb_set(struct netlink *netlink,
                          const char *vxlan,
                          uint64_t mac,
                          uint32_t destination,
                          bool present,
                          struct err *err)
{
    int index = netlink_index(vxlan, err);
    struct ndmsg header = {.ndm_family = AF_BRIDGE,
                           .ndm_ifindex = index,
                           .ndm_state = NUD_NOARP | NUD_PERMANENT,
                           .ndm_flags = NTF_SELF};

    if (index < 0) {
        return present ? index : 0;
    }
    int r = neighbour_change(netlink, &header, mac, destination, present);
    return finish_set(r, present, err, "tunnel entry", vxlan);
}
