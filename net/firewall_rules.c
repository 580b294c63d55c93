#include "net/firewall_rules.h"

#include "base/bytes.h"
#include "base/digest.h"
#include "base/parse_number.h"
#include "base/require.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Expressions of nft's JSON, as literals; only checked names and formatted numbers are
 * put into them. */
#define MATCH(op, left, right) \
    "{\"match\":{\"op\":\"" op "\",\"left\":" left ",\"right\":" right "}}"
#define FIELD(protocol, field) \
    "{\"payload\":{\"protocol\":\"" protocol "\",\"field\":\"" field "\"}}"
#define META(key)   "{\"meta\":{\"key\":\"" key "\"}}"
#define TEXT(text)  "\"" text "\""
#define PAIR(a, b)  "{\"concat\":[" a "," b "]}"
#define VERDICT(v)  "{\"" v "\":null}"
#define DROP        VERDICT("drop")
#define ACCEPT      VERDICT("accept")
#define AND         ","
#define IS_ARP      MATCH("==", FIELD("ether", "type"), TEXT("arp"))
#define ESTABLISHED "[\"established\",\"related\"]"
#define CT_STATE    "{\"ct\":{\"key\":\"state\"}}"
#define DHCP_PORTS  "{\"set\":[67,68]}"
/* Broadcast and multicast alike. */
#define TO_MANY                                                                \
    MATCH("!=", "{\"&\":[" FIELD("ether", "daddr") ",\"01:00:00:00:00:00\"]}", \
          TEXT("00:00:00:00:00:00"))
#define NOT_A_FRAGMENT MATCH("==", "{\"&\":[" FIELD("ip", "frag-off") ",16383]}", "0")
/* The hardware address inside a DHCP message: 8 bytes of UDP and 28 of BOOTP lie before
 * it. */
#define DHCP_CHADDR "{\"payload\":{\"base\":\"th\",\"offset\":288,\"len\":48}}"
/* True for every packet whose headers the kernel could parse; 255 is reserved. An
 * unparsable one ends the rule without a verdict, so a rule with this match accepts sound
 * packets only. */
#define HEADERS_SOUND MATCH("!=", META("l4proto"), "255")

#define BRIDGE "bridge"
#define IP     "ip"

/* A guest asks for a lease a few times in a minute; what is faster is abuse of the
 * helper. */
#define DHCP_RATE "{\"limit\":{\"rate\":20,\"burst\":20,\"per\":\"second\"}}"

/* The kernel counts nanoseconds times rate and burst in 64 bits, and a burst has 32; no
 * tap carries so much. */
#define RATE_MAX (UINT64_MAX / 1000000000 - UINT32_MAX)

struct rules {
    struct bytes_writer writer;
    bool started; /* a comma is due */
};

static void rules_item(struct rules *rules, const char *verb)
{
    bytes_write_format(&rules->writer, "%s\n{\"%s\":", rules->started ? "," : "", verb);
    rules->started = true;
}

static void rules_table(struct rules *rules, const char *verb, const char *family)
{
    rules_item(rules, verb);
    bytes_write_format(&rules->writer,
                       "{\"table\":{\"family\":\"%s\",\"name\":\"berth\"}}}", family);
}

static void rules_chain(struct rules *rules, const char *family, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void rules_chain(struct rules *rules, const char *family, const char *format, ...)
{
    char name[NETWORK_TEXT_SIZE];
    va_list arguments;

    va_start(arguments, format);
    (void)vsnprintf(name, sizeof(name), format, arguments);
    va_end(arguments);
    rules_item(rules, "add");
    bytes_write_format(
        &rules->writer,
        "{\"chain\":{\"family\":\"%s\",\"table\":\"berth\",\"name\":\"%s\"}}}", family,
        name);
}

static void rules_hook(struct rules *rules,
                       const char *family,
                       const char *name,
                       const char *type,
                       int priority)
{
    rules_item(rules, "add");
    bytes_write_format(
        &rules->writer,
        "{\"chain\":{\"family\":\"%s\",\"table\":\"berth\",\"name\":\"%s\","
        "\"type\":\"%s\",\"hook\":\"%s\",\"prio\":%d,\"policy\":\"accept\"}}}",
        family, name, type, name, priority);
}

/* Opens a rule of the chain; its expressions follow by bytes_write_format, then
 * rules_end. */
static void rules_begin(struct rules *rules, const char *family, const char *chain)
{
    rules_item(rules, "add");
    bytes_write_format(
        &rules->writer,
        "{\"rule\":{\"family\":\"%s\",\"table\":\"berth\",\"chain\":\"%s\","
        "\"expr\":[",
        family, chain);
}

static void rules_end(struct rules *rules)
{
    bytes_write_format(&rules->writer, "]}}}");
}

/* One rule whose expressions are a format with its values. */
#define RULE(rules, family, chain, ...)                    \
    do {                                                   \
        rules_begin(rules, family, chain);                 \
        bytes_write_format(&(rules)->writer, __VA_ARGS__); \
        rules_end(rules);                                  \
    } while (0)

/* ---- bridge berth ---- */

static bool port_is_limited(const struct network_port *port)
{
    const struct network_limit *limit = &port->limit;
    return limit->packets != 0 || (limit->bytes != 0 && limit->bytes < RATE_MAX);
}

static unsigned u32_at_most(uint64_t value)
{
    return value < UINT32_MAX ? (unsigned)value : UINT32_MAX;
}

/* Drops what is beyond the port's rates. A bucket of bytes holds what a second gives and
 * the burst beside it, one of packets the burst. */
static void
limit_rules(struct rules *rules, const char *chain, const struct network_limit *limit)
{
    if (limit->packets != 0) {
        const uint64_t burst = limit->packets_burst;
        RULE(
            rules, BRIDGE, chain,
            "{\"limit\":{\"rate\":%llu,\"burst\":%u,\"per\":\"second\",\"inv\":true}}" AND
                DROP,
            (unsigned long long)limit->packets,
            u32_at_most(burst != 0 ? burst : limit->packets));
    }
    if (limit->bytes != 0 && limit->bytes < RATE_MAX) {
        const uint64_t burst = limit->bytes_burst;
        RULE(rules, BRIDGE, chain,
             "{\"limit\":{\"rate\":%llu,\"rate_unit\":\"bytes\",\"burst\":%u,"
             "\"burst_unit\":\"bytes\",\"per\":\"second\",\"inv\":true}}" AND DROP,
             (unsigned long long)limit->bytes,
             u32_at_most(burst > limit->bytes ? burst - limit->bytes : 0));
    }
}

/* Frames from one tap. The order is the point: layer 2 identity, then ARP, then DHCP,
 * then what no guest may say at all, and only then the one accept for IPv4. */
static void port_rules(struct rules *rules,
                       const struct network_want *want,
                       const struct network_port *port)
{
    char chain[NETWORK_TEXT_SIZE];
    char mac[MAC_TEXT_SIZE];
    char ipv4[IPV4_TEXT_SIZE];
    char gateway[IPV4_TEXT_SIZE];
    char host[IPV4_TEXT_SIZE];

    (void)snprintf(chain, sizeof(chain), "port_%s", port->tap);
    format_mac(port->mac, mac);
    format_ipv4(port->ipv4, ipv4);
    format_ipv4(want->gateway, gateway);
    format_ipv4(want->host_address, host);

    limit_rules(rules, chain, &port->limit);
    RULE(rules, BRIDGE, chain, MATCH("!=", FIELD("ether", "saddr"), TEXT("%s")) AND DROP,
         mac);
    /* Read from the frame, tag included: VLAN and QinQ frames have another type here. */
    RULE(rules, BRIDGE, chain,
         MATCH("!=", FIELD("ether", "type"), "{\"set\":[\"ip\",\"arp\"]}") AND DROP);

    RULE(rules, BRIDGE, chain,
         IS_ARP AND MATCH("!=", FIELD("arp", "saddr ether"), TEXT("%s")) AND DROP, mac);
    RULE(rules, BRIDGE, chain,
         IS_ARP AND MATCH("==", FIELD("arp", "htype"),
                          "1") AND MATCH("==", FIELD("arp", "ptype"), "2048")
             AND MATCH("==", FIELD("arp", "hlen"), "6")
                 AND MATCH("==", FIELD("arp", "plen"), "4") AND MATCH(
                     "==", FIELD("arp", "operation"), "{\"set\":[\"request\",\"reply\"]}")
                     AND MATCH("==", FIELD("arp", "saddr ether"), TEXT("%s"))
                         AND MATCH("==", FIELD("arp", "saddr ip"), TEXT("%s")) AND ACCEPT,
         mac, ipv4);
    /* Probe for a double address before its use (RFC 5227): no sender address yet, own
     * address only. */
    RULE(rules, BRIDGE, chain,
         IS_ARP AND MATCH("==", FIELD("arp", "htype"),
                          "1") AND MATCH("==", FIELD("arp", "ptype"), "2048")
             AND MATCH("==", FIELD("arp", "hlen"), "6")
                 AND MATCH("==", FIELD("arp", "plen"), "4")
                     AND MATCH("==", FIELD("arp", "operation"), TEXT("request"))
                         AND MATCH("==", FIELD("arp", "saddr ether"), TEXT("%s"))
                             AND MATCH("==", FIELD("arp", "saddr ip"), TEXT("0.0.0.0"))
                                 AND MATCH("==", FIELD("arp", "daddr ip"), TEXT("%s"))
                                     AND ACCEPT,
         mac, ipv4);
    RULE(rules, BRIDGE, chain, IS_ARP AND DROP);

    RULE(rules, BRIDGE, chain,
         MATCH("==", FIELD("ip", "saddr"), "{\"set\":[\"0.0.0.0\",\"%s\"]}") AND MATCH(
             "==", FIELD("ip", "daddr"), "{\"set\":[\"255.255.255.255\",\"%s\",\"%s\"]}")
             AND NOT_A_FRAGMENT AND MATCH("==", FIELD("udp", "sport"), "68")
                 AND MATCH("==", FIELD("udp", "dport"), "67")
                     AND MATCH("==", DHCP_CHADDR, "%llu") AND DHCP_RATE AND ACCEPT,
         ipv4, gateway, host, (unsigned long long)port->mac);
    RULE(rules, BRIDGE, chain, MATCH("==", FIELD("udp", "dport"), DHCP_PORTS) AND DROP);
    RULE(rules, BRIDGE, chain, MATCH("==", FIELD("udp", "sport"), "67") AND DROP);
    RULE(rules, BRIDGE, chain, TO_MANY AND DROP);
    RULE(rules, BRIDGE, chain,
         MATCH("==", FIELD("ether", "saddr"), TEXT("%s"))
             AND MATCH("==", FIELD("ip", "saddr"), TEXT("%s"))
                 AND HEADERS_SOUND AND ACCEPT,
         mac, ipv4);
    RULE(rules, BRIDGE, chain, DROP);
}

/* Answers of the host's DHCP to a port: only those that are meant for it, broadcast or
 * not. */
static void deliver_rules(struct rules *rules, const struct network_port *port)
{
    char chain[NETWORK_TEXT_SIZE];

    (void)snprintf(chain, sizeof(chain), "deliver_%s", port->tap);
    RULE(rules, BRIDGE, chain,
         MATCH("==", FIELD("udp", "dport"), "68") AND MATCH("!=", DHCP_CHADDR, "%llu")
             AND DROP,
         (unsigned long long)port->mac);
}

/* A set of concatenated or single elements; nothing is written between for an empty one.
 */
static void
set_begin(struct rules *rules, const char *family, const char *name, const char *type)
{
    rules_item(rules, "add");
    bytes_write_format(&rules->writer,
                       "{\"set\":{\"family\":\"%s\",\"table\":\"berth\",\"name\":\"%s\","
                       "\"type\":%s",
                       family, name, type);
}

static void set_end(struct rules *rules, bool any)
{
    bytes_write_format(&rules->writer, "%s}}}", any ? "]" : "");
}

static void set_separate(struct rules *rules, bool *any)
{
    bytes_write_format(&rules->writer, *any ? "," : ",\"elem\":[");
    *any = true;
}

/* MAC and address of every entry on other hosts, and the MACs of those hosts' bridges. */
static void overlay_sets(struct rules *rules, const struct network_want *want)
{
    char name[NETWORK_TEXT_SIZE];
    char mac[MAC_TEXT_SIZE];
    char ipv4[IPV4_TEXT_SIZE];
    bool any = false;

    (void)snprintf(name, sizeof(name), "remotes_%u", want->vni);
    set_begin(rules, BRIDGE, name, "[\"ether_addr\",\"ipv4_addr\"]");
    for (size_t i = 0; i < want->remote_count; i++) {
        format_mac(want->remotes[i].mac, mac);
        format_ipv4(want->remotes[i].ipv4, ipv4);
        set_separate(rules, &any);
        bytes_write_format(&rules->writer, PAIR(TEXT("%s"), TEXT("%s")), mac, ipv4);
    }
    set_end(rules, any);

    any = false;
    (void)snprintf(name, sizeof(name), "routers_%u", want->vni);
    set_begin(rules, BRIDGE, name, "\"ether_addr\"");
    for (size_t i = 0; i < want->remote_count; i++) {
        if (want->remotes[i].is_host) {
            format_mac(want->remotes[i].mac, mac);
            set_separate(rules, &any);
            bytes_write_format(&rules->writer, TEXT("%s"), mac);
        }
    }
    set_end(rules, any);
}

/* Frames from other hosts: VXLAN itself proves nothing, so the cluster's list decides. A
 * router's MAC may carry addresses from outside the network: answers to a VM that moved
 * while it talked. */
static void overlay_rules(struct rules *rules, const struct network_want *want)
{
    char chain[NETWORK_TEXT_SIZE];
    char gateway[IPV4_TEXT_SIZE];
    char network[IPV4_TEXT_SIZE];

    (void)snprintf(chain, sizeof(chain), "overlay_%u", want->vni);
    format_ipv4(want->gateway, gateway);
    format_ipv4(want->cidr.address, network);

    RULE(rules, BRIDGE, chain,
         MATCH("!=", FIELD("ether", "type"), "{\"set\":[\"ip\",\"arp\"]}") AND DROP);
    RULE(rules, BRIDGE, chain, TO_MANY AND DROP);
    RULE(rules, BRIDGE, chain, MATCH("==", FIELD("arp", "saddr ip"), TEXT("%s")) AND DROP,
         gateway);
    RULE(rules, BRIDGE, chain, MATCH("==", FIELD("arp", "daddr ip"), TEXT("%s")) AND DROP,
         gateway);
    RULE(rules, BRIDGE, chain, MATCH("==", FIELD("udp", "dport"), DHCP_PORTS) AND DROP);
    RULE(rules, BRIDGE, chain, MATCH("==", FIELD("udp", "sport"), DHCP_PORTS) AND DROP);
    RULE(rules, BRIDGE, chain,
         IS_ARP AND MATCH("==", PAIR(FIELD("ether", "saddr"), FIELD("arp", "saddr ip")),
                          "\"@remotes_%u\"")
             AND MATCH("==", PAIR(FIELD("arp", "saddr ether"), FIELD("arp", "saddr ip")),
                       "\"@remotes_%u\"") AND ACCEPT,
         want->vni, want->vni);
    RULE(rules, BRIDGE, chain,
         MATCH("==", PAIR(FIELD("ether", "saddr"), FIELD("ip", "saddr")),
               "\"@remotes_%u\"") AND HEADERS_SOUND AND ACCEPT,
         want->vni);
    RULE(rules, BRIDGE, chain,
         MATCH("==", FIELD("ether", "saddr"), "\"@routers_%u\"") AND MATCH(
             "!=", FIELD("ip", "saddr"), "{\"prefix\":{\"addr\":\"%s\",\"len\":%u}}")
             AND HEADERS_SOUND AND ACCEPT,
         want->vni, network, want->cidr.prefix_bits);
    RULE(rules, BRIDGE, chain, DROP);
}

/* Frames on their way to other hosts. */
static void leave_rules(struct rules *rules, const struct network_want *want)
{
    char chain[NETWORK_TEXT_SIZE];
    char gateway[IPV4_TEXT_SIZE];

    (void)snprintf(chain, sizeof(chain), "leave_%u", want->vni);
    format_ipv4(want->gateway, gateway);
    RULE(rules, BRIDGE, chain, TO_MANY AND DROP);
    RULE(rules, BRIDGE, chain, MATCH("==", FIELD("arp", "saddr ip"), TEXT("%s")) AND DROP,
         gateway);
    RULE(rules, BRIDGE, chain, MATCH("==", FIELD("arp", "daddr ip"), TEXT("%s")) AND DROP,
         gateway);
    RULE(rules, BRIDGE, chain, MATCH("==", FIELD("udp", "dport"), DHCP_PORTS) AND DROP);
    RULE(rules, BRIDGE, chain, MATCH("==", FIELD("udp", "sport"), DHCP_PORTS) AND DROP);
}

struct dispatch {
    struct rules *rules;
    bool any;
};

/* A rule "by interface name, go to that chain" over all networks or ports. */
static struct dispatch dispatch_begin(struct rules *rules,
                                      const char *family,
                                      const char *chain,
                                      const char *key)
{
    rules_begin(rules, family, chain);
    bytes_write_format(
        &rules->writer,
        "{\"vmap\":{\"key\":{\"meta\":{\"key\":\"%s\"}},\"data\":{\"set\":[", key);
    return (struct dispatch){.rules = rules};
}

static void dispatch_add(struct dispatch *dispatch, const char *ifname, const char *chain)
{
    bytes_write_format(&dispatch->rules->writer,
                       "%s[\"%s\",{\"goto\":{\"target\":\"%s\"}}]",
                       dispatch->any ? "," : "", ifname, chain);
    dispatch->any = true;
}

static void dispatch_end(struct dispatch *dispatch)
{
    bytes_write_format(&dispatch->rules->writer, "]}}}");
    rules_end(dispatch->rules);
}

/* "<prefix>_<vni>" chains of all networks, by their bridge's or VXLAN device's name. */
static void dispatch_networks(struct dispatch *dispatch,
                              const struct network_want *wants,
                              size_t count,
                              bool bridges,
                              const char *prefix)
{
    for (size_t i = 0; i < count; i++) {
        char ifname[NETWORK_IFNAME_SIZE];
        char chain[NETWORK_TEXT_SIZE];
        if (bridges) {
            network_bridge_name(wants[i].vni, ifname);
        } else {
            network_vxlan_name(wants[i].vni, ifname);
        }
        (void)snprintf(chain, sizeof(chain), "%s_%u", prefix, wants[i].vni);
        dispatch_add(dispatch, ifname, chain);
    }
}

/* "<prefix>_<tap>" chains of all ports. */
static void dispatch_ports(struct dispatch *dispatch,
                           const struct network_want *wants,
                           size_t count,
                           const char *prefix)
{
    for (size_t w = 0; w < count; w++) {
        for (size_t i = 0; i < wants[w].port_count; i++) {
            char chain[NETWORK_TEXT_SIZE];
            (void)snprintf(chain, sizeof(chain), "%s_%s", prefix, wants[w].ports[i].tap);
            dispatch_add(dispatch, wants[w].ports[i].tap, chain);
        }
    }
}

static void
bridge_hooks(struct rules *rules, const struct network_want *wants, size_t count)
{
    rules_hook(rules, BRIDGE, "prerouting", "filter", -300);
    rules_hook(rules, BRIDGE, "input", "filter", -200);
    rules_hook(rules, BRIDGE, "forward", "filter", -200);
    rules_hook(rules, BRIDGE, "output", "filter", -200);

    struct dispatch entry = dispatch_begin(rules, BRIDGE, "prerouting", "iifname");
    dispatch_networks(&entry, wants, count, false, "overlay");
    dispatch_ports(&entry, wants, count, "port");
    dispatch_end(&entry);
    /* A port nobody wants (any more) says nothing. */
    RULE(rules, BRIDGE, "prerouting", MATCH("==", META("iifname"), TEXT("bt*")) AND DROP);
    RULE(rules, BRIDGE, "prerouting", MATCH("==", META("iifname"), TEXT("bx*")) AND DROP);

    /* What the bridge takes for itself skips prerouting; see group_forward in netlink.c.
     */
    for (int i = 0; i < 2; i++) {
        RULE(rules, BRIDGE, "input",
             MATCH("==", META("iifname"), TEXT("%s")) AND MATCH(
                 "==", "{\"&\":[" FIELD("ether", "daddr") ",\"ff:ff:ff:ff:ff:f0\"]}",
                 TEXT("01:80:c2:00:00:00")) AND DROP,
             i == 0 ? "bt*" : "bx*");
    }

    /* A client's call for an address is for the host alone, not for its neighbours. */
    RULE(rules, BRIDGE, "forward",
         MATCH("==", META("iifname"), TEXT("bt*"))
             AND MATCH("==", FIELD("udp", "dport"), DHCP_PORTS) AND DROP);
    struct dispatch forward = dispatch_begin(rules, BRIDGE, "forward", "oifname");
    dispatch_networks(&forward, wants, count, false, "leave");
    dispatch_end(&forward);
    struct dispatch output = dispatch_begin(rules, BRIDGE, "output", "oifname");
    dispatch_networks(&output, wants, count, false, "leave");
    dispatch_ports(&output, wants, count, "deliver");
    dispatch_end(&output);
}

/* Towards limited ports, from wherever. */
static void
bridge_limits(struct rules *rules, const struct network_want *wants, size_t count)
{
    bool any = false;
    for (size_t w = 0; w < count; w++) {
        for (size_t i = 0; i < wants[w].port_count; i++) {
            const struct network_port *port = &wants[w].ports[i];
            char chain[NETWORK_TEXT_SIZE];
            if (port_is_limited(port)) {
                (void)snprintf(chain, sizeof(chain), "limit_%s", port->tap);
                rules_chain(rules, BRIDGE, "%s", chain);
                limit_rules(rules, chain, &port->limit);
                any = true;
            }
        }
    }
    if (!any) {
        return;
    }
    rules_hook(rules, BRIDGE, "postrouting", "filter", -200);
    struct dispatch limits = dispatch_begin(rules, BRIDGE, "postrouting", "oifname");
    for (size_t w = 0; w < count; w++) {
        for (size_t i = 0; i < wants[w].port_count; i++) {
            const struct network_port *port = &wants[w].ports[i];
            char chain[NETWORK_TEXT_SIZE];
            if (port_is_limited(port)) {
                (void)snprintf(chain, sizeof(chain), "limit_%s", port->tap);
                dispatch_add(&limits, port->tap, chain);
            }
        }
    }
    dispatch_end(&limits);
}

static void
bridge_table(struct rules *rules, const struct network_want *wants, size_t count)
{
    for (size_t w = 0; w < count; w++) {
        const struct network_want *want = &wants[w];
        overlay_sets(rules, want);
        rules_chain(rules, BRIDGE, "overlay_%u", want->vni);
        rules_chain(rules, BRIDGE, "leave_%u", want->vni);
        overlay_rules(rules, want);
        leave_rules(rules, want);
        for (size_t i = 0; i < want->port_count; i++) {
            rules_chain(rules, BRIDGE, "port_%s", want->ports[i].tap);
            rules_chain(rules, BRIDGE, "deliver_%s", want->ports[i].tap);
            port_rules(rules, want, &want->ports[i]);
            deliver_rules(rules, &want->ports[i]);
        }
    }
    bridge_hooks(rules, wants, count);
    bridge_limits(rules, wants, count);
}

/* ---- ip berth ---- */

static int compare_u32(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a;
    uint32_t y = *(const uint32_t *)b;

    return x < y ? -1 : x > y;
}

/* The underlay addresses of this and of every other host that is known here. */
static int hosts_set(struct rules *rules,
                     const struct network_host *host,
                     const struct network_want *wants,
                     size_t count)
{
    size_t most = 1;
    size_t used = 0;
    char text[IPV4_TEXT_SIZE];
    bool any = false;

    for (size_t w = 0; w < count; w++) {
        most += wants[w].remote_count;
    }
    uint32_t *addresses = calloc(most, sizeof(*addresses));
    if (addresses == NULL) {
        return -ENOMEM;
    }
    addresses[used++] = host->underlay;
    for (size_t w = 0; w < count; w++) {
        for (size_t i = 0; i < wants[w].remote_count; i++) {
            addresses[used++] = wants[w].remotes[i].underlay;
        }
    }
    qsort(addresses, used, sizeof(*addresses), compare_u32);
    set_begin(rules, IP, "hosts", "\"ipv4_addr\"");
    for (size_t i = 0; i < used; i++) {
        if (i == 0 || addresses[i] != addresses[i - 1]) {
            format_ipv4(addresses[i], text);
            set_separate(rules, &any);
            bytes_write_format(&rules->writer, TEXT("%s"), text);
        }
    }
    set_end(rules, any);
    free(addresses);
    return 0;
}

/* What a guest may say to this host. */
static void input_rules(struct rules *rules, const struct network_want *want)
{
    char chain[NETWORK_TEXT_SIZE];
    char gateway[IPV4_TEXT_SIZE];
    char host[IPV4_TEXT_SIZE];

    (void)snprintf(chain, sizeof(chain), "input_%u", want->vni);
    format_ipv4(want->gateway, gateway);
    format_ipv4(want->host_address, host);
    RULE(rules, IP, chain, MATCH("in", CT_STATE, ESTABLISHED) AND ACCEPT);
    RULE(
        rules, IP, chain,
        MATCH("==", FIELD("ip", "daddr"), "{\"set\":[\"255.255.255.255\",\"%s\",\"%s\"]}")
            AND MATCH("==", FIELD("udp", "sport"), "68")
                AND MATCH("==", FIELD("udp", "dport"), "67") AND ACCEPT,
        gateway, host);
    RULE(rules, IP, chain,
         MATCH("==", FIELD("ip", "daddr"), TEXT("%s"))
             AND MATCH("==", FIELD("udp", "dport"), "53") AND ACCEPT,
         gateway);
    RULE(rules, IP, chain,
         MATCH("==", FIELD("ip", "daddr"), TEXT("%s"))
             AND MATCH("==", FIELD("tcp", "dport"), "53") AND ACCEPT,
         gateway);
    RULE(rules, IP, chain,
         MATCH("==", FIELD("ip", "daddr"), TEXT("%s"))
             AND MATCH("==", FIELD("icmp", "type"), TEXT("echo-request")) AND ACCEPT,
         gateway);
    RULE(rules, IP, chain, DROP);
}

static void
guard_rule(struct rules *rules, const char *chain, const struct network_cidr *guard)
{
    char address[IPV4_TEXT_SIZE];

    format_ipv4(guard->address, address);
    RULE(rules, IP, chain,
         MATCH("==", FIELD("ip", "daddr"), "{\"prefix\":{\"addr\":\"%s\",\"len\":%u}}")
             AND DROP,
         address, guard->prefix_bits);
}

/* Where a guest's packets may be routed: within its network, and outside where egress is
 * wanted. */
static void egress_rules(struct rules *rules,
                         const struct network_host *host,
                         const struct network_want *want)
{
    /* Loopback, link-local (metadata services of a cloud around us) and multicast. */
    static const struct network_cidr never[] = {
        {0x7f000000, 8}, {0xa9fe0000, 16}, {0xe0000000, 4}};
    char chain[NETWORK_TEXT_SIZE];
    char network[IPV4_TEXT_SIZE];

    (void)snprintf(chain, sizeof(chain), "egress_%u", want->vni);
    format_ipv4(want->cidr.address, network);
    RULE(rules, IP, chain, MATCH("==", META("oifname"), TEXT("bb%u")) AND ACCEPT,
         want->vni);
    RULE(rules, IP, chain, MATCH("==", META("oifname"), TEXT("bb*")) AND DROP);
    if (want->nat) {
        RULE(rules, IP, chain,
             MATCH("==", FIELD("ip", "daddr"), TEXT("@hosts")) AND DROP);
        for (size_t i = 0; i < sizeof(never) / sizeof(never[0]); i++) {
            guard_rule(rules, chain, &never[i]);
        }
        for (size_t i = 0; i < host->guard_count; i++) {
            guard_rule(rules, chain, &host->guards[i]);
        }
        RULE(rules, IP, chain,
             MATCH("==", FIELD("ip", "saddr"),
                   "{\"prefix\":{\"addr\":\"%s\",\"len\":%u}}") AND ACCEPT,
             network, want->cidr.prefix_bits);
    }
    RULE(rules, IP, chain, DROP);
}

static void ip_hooks(struct rules *rules,
                     const struct network_host *host,
                     const struct network_want *wants,
                     size_t count)
{
    rules_hook(rules, IP, "input", "filter", 0);
    rules_hook(rules, IP, "forward", "filter", 0);
    rules_hook(rules, IP, "postrouting", "nat", 100);

    struct dispatch input = dispatch_begin(rules, IP, "input", "iifname");
    dispatch_networks(&input, wants, count, true, "input");
    dispatch_end(&input);
    RULE(rules, IP, "input", MATCH("==", META("iifname"), TEXT("bb*")) AND DROP);
    RULE(rules, IP, "input",
         MATCH("==", FIELD("udp", "dport"), "%d")
             AND MATCH("!=", FIELD("ip", "saddr"), TEXT("@hosts")) AND DROP,
         NETWORK_VXLAN_PORT);
    if (host->ifname[0] != '\0') {
        RULE(rules, IP, "input",
             MATCH("==", FIELD("udp", "dport"), "%d")
                 AND MATCH("!=", META("iifname"), TEXT("%s")) AND DROP,
             NETWORK_VXLAN_PORT, host->ifname);
    }

    struct dispatch forward = dispatch_begin(rules, IP, "forward", "iifname");
    dispatch_networks(&forward, wants, count, true, "egress");
    dispatch_end(&forward);
    RULE(rules, IP, "forward", MATCH("==", META("iifname"), TEXT("bb*")) AND DROP);
    RULE(rules, IP, "forward",
         MATCH("==", META("oifname"), TEXT("bb*")) AND MATCH("in", CT_STATE, ESTABLISHED)
             AND ACCEPT);
    RULE(rules, IP, "forward", MATCH("==", META("oifname"), TEXT("bb*")) AND DROP);
}

static int ip_table(struct rules *rules,
                    const struct network_host *host,
                    const struct network_want *wants,
                    size_t count)
{
    int r = hosts_set(rules, host, wants, count);

    if (r != 0) {
        return r;
    }
    for (size_t w = 0; w < count; w++) {
        rules_chain(rules, IP, "input_%u", wants[w].vni);
        rules_chain(rules, IP, "egress_%u", wants[w].vni);
        input_rules(rules, &wants[w]);
        egress_rules(rules, host, &wants[w]);
    }
    ip_hooks(rules, host, wants, count);
    for (size_t w = 0; w < count; w++) {
        char network[IPV4_TEXT_SIZE];
        if (!wants[w].nat) {
            continue;
        }
        format_ipv4(wants[w].cidr.address, network);
        RULE(
            rules, IP, "postrouting",
            MATCH("==", FIELD("ip", "saddr"), "{\"prefix\":{\"addr\":\"%s\",\"len\":%u}}")
                AND MATCH("!=", META("oifname"), TEXT("bb*")) AND VERDICT("masquerade"),
            network, wants[w].cidr.prefix_bits);
    }
    return 0;
}

/* ---- the whole ---- */

/* Adding first makes the delete succeed when there is nothing yet. */
static void replace_tables(struct rules *rules)
{
    static const char *const families[] = {BRIDGE, IP};

    for (size_t i = 0; i < 2; i++) {
        rules_table(rules, "add", families[i]);
        rules_table(rules, "delete", families[i]);
        rules_table(rules, "add", families[i]);
    }
}

void firewall_rules_marker(uint64_t hash, char name[FIREWALL_MARKER_SIZE])
{
    (void)snprintf(name, FIREWALL_MARKER_SIZE, "rules_%016llx", (unsigned long long)hash);
}

static uint64_t rules_hash(const struct rules *rules)
{
    struct digest digest;
    uint64_t hash = 0;

    digest_of(rules->writer.data, rules->writer.size, &digest);
    memcpy(&hash, digest.bytes, sizeof(hash));
    return hash <= NETWORK_RULES_UNKNOWN ? hash + 2 : hash;
}

int firewall_rules_render(const struct network_host *host,
                          const struct network_want *wants,
                          size_t count,
                          char **ret_text,
                          uint64_t *ret_hash,
                          struct err *err)
{
    struct rules rules = {.started = false};
    char marker[FIREWALL_MARKER_SIZE];

    REQUIRE(host != NULL && wants != NULL && count > 0);
    bytes_writer_init(&rules.writer, FIREWALL_TEXT_MAX);
    bytes_write_format(&rules.writer, "{\"nftables\":[");
    replace_tables(&rules);
    bridge_table(&rules, wants, count);
    int r = ip_table(&rules, host, wants, count);
    if (r == 0) {
        r = rules.writer.error;
    }
    if (r != 0) {
        bytes_writer_fini(&rules.writer);
        return err_sys(err, r, "render firewall rules");
    }
    uint64_t hash = rules_hash(&rules);
    firewall_rules_marker(hash, marker);
    rules_chain(&rules, BRIDGE, "%s", marker);
    rules_chain(&rules, IP, "%s", marker);
    bytes_write_format(&rules.writer, "]}\n");
    r = bytes_writer_take_text(&rules.writer, ret_text);
    if (r != 0) {
        return err_sys(err, r, "render firewall rules");
    }
    *ret_hash = hash;
    return 0;
}

const char *firewall_rules_removal(void)
{
    return "{\"nftables\":["
           "{\"add\":{\"table\":{\"family\":\"bridge\",\"name\":\"berth\"}}},"
           "{\"delete\":{\"table\":{\"family\":\"bridge\",\"name\":\"berth\"}}},"
           "{\"add\":{\"table\":{\"family\":\"ip\",\"name\":\"berth\"}}},"
           "{\"delete\":{\"table\":{\"family\":\"ip\",\"name\":\"berth\"}}}]}\n";
}
