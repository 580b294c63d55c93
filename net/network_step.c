#include "net/network_step.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/require.h"
#include "net/forwarding.h"
#include "net/tap.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

static int write_switch(const char *path, const char *value)
{
    CLEANUP_FD int fd = fd_open_at(AT_FDCWD, path, O_WRONLY, 0, NULL);

    return fd < 0 ? fd : fd_write_full(fd, value, strlen(value));
}

struct kernel_switch {
    const char *path; /* %s: the link */
    const char *value;
    bool bridge_only;
};

/* Settings of our links that must hold before they come up. IPv6 is off: tenant networks
 * are IPv4. */
static const struct kernel_switch kernel_switches[] = {
    {"/proc/sys/net/ipv6/conf/%s/disable_ipv6", "1", false},
    {"/proc/sys/net/ipv4/conf/%s/rp_filter", "1", true},
    {"/proc/sys/net/ipv4/conf/%s/arp_ignore", "1",
     true}, /* only for addresses of the bridge itself */
    {"/proc/sys/net/ipv4/conf/%s/arp_announce", "2", true},
    {"/proc/sys/net/ipv4/conf/%s/accept_redirects", "0", true},
    {"/proc/sys/net/ipv4/conf/%s/send_redirects", "0", true},
    {"/proc/sys/net/ipv4/conf/%s/accept_source_route", "0", true},
};

static int link_tune(const struct network_link *link, struct err *err)
{
    for (size_t i = 0; i < ARRAY_COUNT(kernel_switches); i++) {
        const struct kernel_switch *item = &kernel_switches[i];
        char path[128];
        const char *hole = strstr(item->path, "%s");
        if (item->bridge_only && link->kind != NETWORK_LINK_BRIDGE) {
            continue;
        }
        (void)snprintf(path, sizeof(path), "%.*s%s%s", (int)(hole - item->path),
                       item->path, link->name, hole + 2);
        int r = write_switch(path, item->value);
        if (r != 0 && r != -ENOENT) { /* a kernel without IPv6 has no such file */
            return err_sys(err, r, "write %s", path);
        }
    }
    return 0;
}

static int
link_create(struct netlink *netlink, const struct network_link *link, struct err *err)
{
    int r = 0;

    switch (link->kind) {
    case NETWORK_LINK_BRIDGE:
        return netlink_bridge_create(netlink, link->name, link->mac, link->mtu, err);
    case NETWORK_LINK_VXLAN:
        return netlink_vxlan_create(netlink, link->name, link->vni, link->underlay,
                                    NETWORK_VXLAN_PORT, link->mtu, err);
    case NETWORK_LINK_TAP:
        r = tap_create(link->name, err);
        return r != 0 ? r : netlink_link_mtu(netlink, link->name, link->mtu, err);
    }
    return err_set(err, BERTH_EBUG, "create link %s: no such kind", link->name);
}

static int entry_change(struct netlink *netlink,
                        const struct network_entry *entry,
                        bool present,
                        struct err *err)
{
    char bridge[NETWORK_IFNAME_SIZE];
    char vxlan[NETWORK_IFNAME_SIZE];

    network_bridge_name(entry->vni, bridge);
    network_vxlan_name(entry->vni, vxlan);
    switch (entry->kind) {
    case NETWORK_ENTRY_ADDRESS:
        return netlink_address_set(netlink, bridge, (uint32_t)entry->key,
                                   (uint32_t)entry->value, present, err);
    case NETWORK_ENTRY_ROUTE:
        return netlink_route_set(netlink, bridge, (uint32_t)(entry->key >> 8),
                                 (uint32_t)(entry->key & 0xff), (uint32_t)entry->value,
                                 present, err);
    case NETWORK_ENTRY_NEIGHBOUR:
        return netlink_neighbour_set(netlink, bridge, (uint32_t)entry->key, entry->value,
                                     present, err);
    case NETWORK_ENTRY_BRIDGE_FDB:
        return netlink_bridge_fdb_set(netlink, entry->port, entry->key, present, err);
    case NETWORK_ENTRY_VXLAN_FDB:
        return netlink_vxlan_fdb_set(netlink, vxlan, entry->key, (uint32_t)entry->value,
                                     present, err);
    }
    return err_set(err, BERTH_EBUG, "change entry: no such kind");
}

int network_step_run(struct netlink *netlink,
                     const struct network_host *host,
                     const struct network_step *step,
                     struct err *err)
{
    const struct network_link *link = &step->link;
    int r = 0;

    switch (step->kind) {
    case NETWORK_STEP_ENTRY_UNSET:
        return entry_change(netlink, &step->entry, false, err);
    case NETWORK_STEP_ENTRY_SET:
        return entry_change(netlink, &step->entry, true, err);
    case NETWORK_STEP_LINK_DOWN:
        return netlink_link_up(netlink, link->name, false, err);
    case NETWORK_STEP_LINK_UP:
        r = link_tune(link, err);
        return r != 0 ? r : netlink_link_up(netlink, link->name, true, err);
    case NETWORK_STEP_LINK_REMOVE:
        return netlink_link_remove(netlink, link->name, err);
    case NETWORK_STEP_LINK_CREATE:
        return link_create(netlink, link, err);
    case NETWORK_STEP_LINK_MTU:
        return netlink_link_mtu(netlink, link->name, link->mtu, err);
    case NETWORK_STEP_LINK_MAC:
        return netlink_link_mac(netlink, link->name, link->mac, err);
    case NETWORK_STEP_LINK_ATTACH:
        return netlink_link_attach(netlink, link->name, link->master, err);
    case NETWORK_STEP_PORT_FLAGS:
        return netlink_port_flags(netlink, link->name, link->port_flags, err);
    case NETWORK_STEP_FORWARDING_ON:
        return forwarding_switch_on(host->state_folder, err);
    case NETWORK_STEP_FORWARDING_BACK:
        return forwarding_switch_back(host->state_folder, err);
    default:
        return err_set(err, BERTH_EBUG, "step %d is not done at once", (int)step->kind);
    }
}
