/* The firewall of a host's tenant networks as one text for `nft -j -f -`. Pure.
 *
 * Shapes: the text replaces two tables, whole, in one transaction:
 *   bridge berth  every frame from a tap passes only with its port's own MAC and IPv4, in
 * IP and in ARP; DHCP only as a client, with the own hardware address and at a bounded
 * rate; no VLAN tags, no IPv6 (tenant networks are IPv4 for now), no other ethertypes, no
 * broadcast or multicast beyond ARP and DHCP; frames from other hosts only with addresses
 * the cluster gave out; gateway ARP and DHCP never cross to another host. ip berth guests
 * reach of this host the gateway's DHCP, DNS and echo only; networks never reach each
 * other, hosts of the cell or guarded ranges; egress and masquerading where wanted; VXLAN
 * is taken from known hosts only. Drops come before accepts, and an accept names
 * everything it lets pass: a frame too short or too odd for a match falls through to the
 * drop at the end. A port with a limit drops what is
 * beyond it, each way, and a new text begins with full buckets. Both tables hold an empty
 * chain named after the text's hash, by which the kernel's state is recognised. Threads:
 * any. Ownership: the caller frees texts. Errors: -ENOMEM, BERTH_ETOOLARGE. Limits:
 * FIREWALL_TEXT_MAX.
 */
#pragma once

#include "base/err.h"
#include "net/network_plan.h"

#include <stddef.h>
#include <stdint.h>

#define FIREWALL_TEXT_MAX \
    (32u << 20) /* all ports and remote entries of a full host, with room */
#define FIREWALL_MARKER_SIZE 32

/* Renders the rules for checked wants; *ret_hash is never NETWORK_RULES_NONE or _UNKNOWN.
 */
int firewall_rules_render(const struct network_host *host,
                          const struct network_want *wants,
                          size_t count,
                          char **ret_text,
                          uint64_t *ret_hash,
                          struct err *err);

/* The text that removes both tables whether they exist or not. Static. */
const char *firewall_rules_removal(void);

/* Name of the chain in both tables that says the rules with this hash are installed. */
void firewall_rules_marker(uint64_t hash, char name[FIREWALL_MARKER_SIZE]);
