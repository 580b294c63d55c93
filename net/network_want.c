#include "net/network_want.h"

#include "base/cleanup.h"
#include "base/parse_number.h"
#include "base/require.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAC_MASK      UINT64_C(0xffffffffffff)
#define MAC_MULTICAST (UINT64_C(1) << 40)
/* The first octet of bridge MACs: unicast, locally administered, unlike the 02 and 52 of
 * VMs. */
#define BRIDGE_MAC_FIRST (UINT64_C(0x06) << 40)

/* ---- names ---- */

static void name_format(char name[NETWORK_IFNAME_SIZE], const char *prefix, uint32_t vni)
{
    REQUIRE(vni >= 1 && vni <= NETWORK_VNI_MAX);
    (void)snprintf(name, NETWORK_IFNAME_SIZE, "%s%u", prefix, vni);
}

void network_bridge_name(uint32_t vni, char name[NETWORK_IFNAME_SIZE])
{
    name_format(name, "bb", vni);
}

void network_vxlan_name(uint32_t vni, char name[NETWORK_IFNAME_SIZE])
{
    name_format(name, "bx", vni);
}

void network_tap_name(uint64_t vm_uid, unsigned nic_index, char name[NETWORK_IFNAME_SIZE])
{
    static const char digits[] = "0123456789abcdefghijklmnopqrstuvwxyz";

    REQUIRE(nic_index < NETWORK_NICS_MAX);
    /* id * 9 + index in base 36, by long division so that it fits 64 bits: the id's low
     * part first. */
    char reversed[NETWORK_IFNAME_SIZE];
    size_t count = 0;
    uint64_t high = vm_uid / 36;
    uint64_t low = (vm_uid % 36) * NETWORK_NICS_MAX + nic_index;
    do {
        reversed[count++] = digits[low % 36];
        uint64_t carry = low / 36;
        low = (high % 36) * NETWORK_NICS_MAX + carry;
        high /= 36;
    } while (low > 0 || high > 0);
    REQUIRE(count <= 13);
    name[0] = 'b';
    name[1] = 't';
    for (size_t i = 0; i < count; i++) {
        name[2 + i] = reversed[count - 1 - i];
    }
    name[2 + count] = '\0';
}

static bool vni_parse(const char *text, uint32_t *ret_vni)
{
    uint32_t value = 0;

    if (text[0] < '1' || text[0] > '9') {
        return false;
    }
    for (const char *c = text; *c != '\0'; c++) {
        if (*c < '0' || *c > '9') {
            return false;
        }
        value = value * 10 + (uint32_t)(*c - '0');
        if (value > NETWORK_VNI_MAX) {
            return false;
        }
    }
    *ret_vni = value;
    return true;
}

static bool is_lower_or_digit(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

bool network_name_parse(const char *name,
                        enum network_link_kind *ret_kind,
                        uint32_t *ret_vni)
{
    uint32_t vni = 0;

    if (name[0] != 'b' || name[1] == '\0' || name[2] == '\0') {
        return false;
    }
    if (name[1] == 't') {
        if (strlen(name) >= NETWORK_IFNAME_SIZE) {
            return false;
        }
        for (const char *c = name + 2; *c != '\0'; c++) {
            if (!is_lower_or_digit(*c)) {
                return false;
            }
        }
        *ret_kind = NETWORK_LINK_TAP;
        *ret_vni = 0;
        return true;
    }
    if ((name[1] != 'b' && name[1] != 'x') || !vni_parse(name + 2, &vni)) {
        return false;
    }
    *ret_kind = name[1] == 'b' ? NETWORK_LINK_BRIDGE : NETWORK_LINK_VXLAN;
    *ret_vni = vni;
    return true;
}

uint64_t network_bridge_mac(uint64_t host_id, uint32_t vni)
{
    /* A finaliser with good avalanche: neighbouring ids give unrelated MACs. */
    uint64_t x = host_id * UINT64_C(0x9e3779b97f4a7c15) + vni;
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    x ^= x >> 31;
    return BRIDGE_MAC_FIRST | (x & UINT64_C(0xffffffffff));
}

/* ---- checks ---- */

static uint32_t prefix_mask(uint32_t prefix_bits)
{
    return prefix_bits == 0 ? 0 : UINT32_MAX << (32 - prefix_bits);
}

static bool cidr_has(const struct network_cidr *cidr, uint32_t address)
{
    return (address & prefix_mask(cidr->prefix_bits)) == cidr->address;
}

/* A host address: inside, neither the network's own nor the broadcast address. */
static bool cidr_has_host(const struct network_cidr *cidr, uint32_t address)
{
    return cidr_has(cidr, address) && address != cidr->address &&
           address != (cidr->address | ~prefix_mask(cidr->prefix_bits));
}

static bool cidr_overlap(const struct network_cidr *a, const struct network_cidr *b)
{
    return ipv4_ranges_overlap(a->address, a->prefix_bits, b->address, b->prefix_bits);
}

static bool mac_is_host(uint64_t mac)
{
    return mac != 0 && mac <= MAC_MASK && (mac & MAC_MULTICAST) == 0;
}

static bool label_is_good(const char *text, size_t capacity)
{
    size_t length = strnlen(text, capacity);

    if (length == 0 || length == capacity || text[0] < 'a' || text[0] > 'z') {
        return false;
    }
    for (size_t i = 0; i < length; i++) {
        if (!is_lower_or_digit(text[i]) && text[i] != '-') {
            return false;
        }
    }
    return true;
}

/* Labels with dots between; each starts with a letter, as tenants' names do. */
static bool zone_is_good(const char *zone)
{
    size_t length = strnlen(zone, NETWORK_ZONE_SIZE);

    if (length == 0 || length == NETWORK_ZONE_SIZE) {
        return false;
    }
    for (const char *label = zone; label != NULL;) {
        const char *dot = strchr(label, '.');
        char part[NETWORK_NAME_SIZE] = "";
        size_t size = dot != NULL ? (size_t)(dot - label) : strlen(label);
        if (size >= sizeof(part)) {
            return false;
        }
        memcpy(part, label, size);
        if (!label_is_good(part, sizeof(part))) {
            return false;
        }
        label = dot != NULL ? dot + 1 : NULL;
    }
    return true;
}

static int address_refuse(const struct network_want *want,
                          const char *what,
                          uint32_t address,
                          struct err *err)
{
    char address_text[IPV4_TEXT_SIZE];
    char cidr_text[CIDR_TEXT_SIZE];

    format_ipv4(address, address_text);
    format_cidr(want->cidr.address, want->cidr.prefix_bits, cidr_text);
    return err_set(err, BERTH_EINVALID, "network %s: %s %s is not a host address of %s",
                   want->name, what, address_text, cidr_text);
}

static int port_check(const struct network_want *want,
                      const struct network_port *port,
                      struct err *err)
{
    enum network_link_kind kind = NETWORK_LINK_BRIDGE;
    uint32_t vni = 0;

    if (!label_is_good(port->vm_name, sizeof(port->vm_name))) {
        return err_set(err, BERTH_EINVALID, "network %s: a port's VM has no valid name",
                       want->name);
    }
    if (strnlen(port->tap, sizeof(port->tap)) == sizeof(port->tap) ||
        !network_name_parse(port->tap, &kind, &vni) || kind != NETWORK_LINK_TAP) {
        return err_set(err, BERTH_EINVALID,
                       "network %s: VM %s: the tap's name is not bt<id>", want->name,
                       port->vm_name);
    }
    if (!mac_is_host(port->mac)) {
        return err_set(err, BERTH_EINVALID,
                       "network %s: VM %s: %012llx is not a unicast MAC", want->name,
                       port->vm_name, (unsigned long long)port->mac);
    }
    if (!cidr_has_host(&want->cidr, port->ipv4) || port->ipv4 == want->gateway ||
        port->ipv4 == want->host_address) {
        return address_refuse(want, "a port's address", port->ipv4, err);
    }
    return 0;
}

static int remote_check(const struct network_host *host,
                        const struct network_want *want,
                        const struct network_remote *remote,
                        struct err *err)
{
    if (!mac_is_host(remote->mac)) {
        return err_set(err, BERTH_EINVALID,
                       "network %s: remote %012llx is not a unicast MAC", want->name,
                       (unsigned long long)remote->mac);
    }
    if (remote->underlay == 0 || remote->underlay == host->underlay) {
        return err_set(err, BERTH_EINVALID,
                       "network %s: remote %012llx is not on another host", want->name,
                       (unsigned long long)remote->mac);
    }
    if (!cidr_has_host(&want->cidr, remote->ipv4) || remote->ipv4 == want->gateway ||
        remote->ipv4 == want->host_address) {
        return address_refuse(want, "a remote address", remote->ipv4, err);
    }
    return 0;
}

static int want_check_numbers(const struct network_want *want, struct err *err)
{
    if (want->vni < 1 || want->vni > NETWORK_VNI_MAX) {
        return err_set(err, BERTH_EINVALID, "network %s: VNI %u is not within 1 to %u",
                       want->name, want->vni, NETWORK_VNI_MAX);
    }
    if (want->cidr.prefix_bits < 8 || want->cidr.prefix_bits > 29 ||
        (want->cidr.address & ~prefix_mask(want->cidr.prefix_bits)) != 0) {
        return err_set(err, BERTH_EINVALID,
                       "network %s: the prefix must be /8 to /29 without host bits",
                       want->name);
    }
    if (want->mtu < NETWORK_MTU_MIN || want->mtu > NETWORK_MTU_MAX) {
        return err_set(err, BERTH_EINVALID, "network %s: MTU %u is not within %u to %u",
                       want->name, want->mtu, NETWORK_MTU_MIN, NETWORK_MTU_MAX);
    }
    if (!cidr_has_host(&want->cidr, want->gateway)) {
        return address_refuse(want, "the gateway", want->gateway, err);
    }
    if (!cidr_has_host(&want->cidr, want->host_address) ||
        want->host_address == want->gateway) {
        return address_refuse(want, "the host's own address", want->host_address, err);
    }
    if (want->forwarder_count > NETWORK_FORWARDERS_MAX ||
        want->remote_count > NETWORK_REMOTES_MAX ||
        want->name_count > NETWORK_NAMES_MAX || want->port_count > NETWORK_PORTS_MAX) {
        return err_set(err, BERTH_EFULL,
                       "network %s: more ports, remotes, names or forwarders than "
                       "a host carries",
                       want->name);
    }
    return 0;
}

static int want_check(const struct network_host *host,
                      const struct network_want *want,
                      struct err *err)
{
    if (!label_is_good(want->name, sizeof(want->name)) ||
        !label_is_good(want->tenant, sizeof(want->tenant))) {
        return err_set(err, BERTH_EINVALID,
                       "VNI %u: network or tenant have no valid name", want->vni);
    }
    if (!zone_is_good(want->zone)) {
        return err_set(err, BERTH_EINVALID, "network %s: the DNS zone is not valid",
                       want->name);
    }
    int r = want_check_numbers(want, err);
    for (size_t i = 0; r == 0 && i < want->port_count; i++) {
        r = port_check(want, &want->ports[i], err);
    }
    for (size_t i = 0; r == 0 && i < want->remote_count; i++) {
        r = remote_check(host, want, &want->remotes[i], err);
    }
    for (size_t i = 0; r == 0 && i < want->name_count; i++) {
        if (!label_is_good(want->names[i].name, sizeof(want->names[i].name))) {
            r = err_set(err, BERTH_EINVALID, "network %s: a DNS name is not valid",
                        want->name);
        } else if (!cidr_has_host(&want->cidr, want->names[i].ipv4)) {
            r = address_refuse(want, "a DNS name's address", want->names[i].ipv4, err);
        }
    }
    for (size_t i = 0; r == 0 && i < want->forwarder_count; i++) {
        if (want->forwarders[i] == 0 || cidr_has(&want->cidr, want->forwarders[i])) {
            r = err_set(err, BERTH_EINVALID,
                        "network %s: a DNS forwarder is inside the network", want->name);
        }
    }
    return r;
}

static int compare_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

static bool has_twice(uint64_t *values, size_t count, uint64_t *ret_value)
{
    if (count > 1) {
        qsort(values, count, sizeof(*values), compare_u64);
    }
    for (size_t i = 1; i < count; i++) {
        if (values[i] == values[i - 1]) {
            *ret_value = values[i];
            return true;
        }
    }
    return false;
}

/* Among ports, and among remotes, no MAC and no address twice. */
static int want_check_unique(const struct network_want *want, struct err *err)
{
    size_t most =
        want->port_count > want->remote_count ? want->port_count : want->remote_count;
    CLEANUP_FREE uint64_t *values = calloc(most + 1, sizeof(*values));
    uint64_t twice = 0;

    if (values == NULL) {
        return err_set(err, -ENOMEM, "network %s: out of memory", want->name);
    }
    for (int round = 0; round < 4; round++) {
        bool ports = round < 2;
        bool macs = round % 2 == 0;
        size_t count = ports ? want->port_count : want->remote_count;
        for (size_t i = 0; i < count; i++) {
            uint64_t mac = ports ? want->ports[i].mac : want->remotes[i].mac;
            uint32_t ipv4 = ports ? want->ports[i].ipv4 : want->remotes[i].ipv4;
            values[i] = macs ? mac : ipv4;
        }
        if (has_twice(values, count, &twice)) {
            return err_set(err, BERTH_EINVALID, "network %s: two %s have the %s %llx",
                           want->name, ports ? "ports" : "remote entries",
                           macs ? "MAC" : "address", (unsigned long long)twice);
        }
    }
    return 0;
}

static int compare_remote_macs(const void *a, const void *b)
{
    const struct network_remote *x = a;
    const struct network_remote *y = b;

    return x->mac < y->mac ? -1 : x->mac > y->mac;
}

static int compare_remote_addresses(const void *a, const void *b)
{
    const struct network_remote *x = a;
    const struct network_remote *y = b;

    return x->ipv4 < y->ipv4 ? -1 : x->ipv4 > y->ipv4;
}

/* A port may be listed as remote too (an incoming migration), but then with both MAC and
 * address. */
static int want_check_standby(const struct network_want *want, struct err *err)
{
    int (*const compares[])(const void *, const void *) = {compare_remote_macs,
                                                           compare_remote_addresses};
    CLEANUP_FREE struct network_remote *remotes =
        cleanup_new(want->remote_count, sizeof(*remotes));

    if (remotes == NULL) {
        return err_set(err, -ENOMEM, "network %s: out of memory", want->name);
    }
    if (want->remote_count == 0) {
        return 0;
    }
    memcpy(remotes, want->remotes, want->remote_count * sizeof(*remotes));
    for (size_t round = 0; round < ARRAY_COUNT(compares); round++) {
        qsort(remotes, want->remote_count, sizeof(*remotes), compares[round]);
        for (size_t i = 0; i < want->port_count; i++) {
            const struct network_port *port = &want->ports[i];
            struct network_remote key = {.mac = port->mac, .ipv4 = port->ipv4};
            const struct network_remote *found = bsearch(
                &key, remotes, want->remote_count, sizeof(*remotes), compares[round]);
            if (found != NULL && (found->mac != port->mac || found->ipv4 != port->ipv4)) {
                return err_set(
                    err, BERTH_EINVALID,
                    "network %s: VM %s shares its MAC or address with another host's "
                    "entry",
                    want->name, port->vm_name);
            }
        }
    }
    return 0;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int taps_check_unique(const struct network_want *wants,
                             size_t count,
                             size_t port_count,
                             struct err *err)
{
    CLEANUP_FREE const char **names = cleanup_new(port_count, sizeof(*names));
    size_t used = 0;

    if (names == NULL) {
        return err_set(err, -ENOMEM, "check networks: out of memory");
    }
    for (size_t w = 0; w < count; w++) {
        for (size_t i = 0; i < wants[w].port_count; i++) {
            names[used++] = wants[w].ports[i].tap;
        }
    }
    if (used > 1) {
        qsort(names, used, sizeof(*names), compare_names);
    }
    for (size_t i = 1; i < used; i++) {
        if (strcmp(names[i - 1], names[i]) == 0) {
            return err_set(err, BERTH_EINVALID, "two ports have the tap %s", names[i]);
        }
    }
    return 0;
}

static int host_check(const struct network_host *host, struct err *err)
{
    enum network_link_kind kind = NETWORK_LINK_BRIDGE;
    uint32_t vni = 0;

    if (host->underlay == 0) {
        return err_set(err, BERTH_EINVALID, "the host has no underlay address");
    }
    if (host->state_folder == NULL || host->state_folder[0] != '/') {
        return err_set(err, BERTH_EINVALID, "the state folder must be an absolute path");
    }
    /* It goes into dnsmasq's configuration, line by line. */
    for (const char *c = host->state_folder; *c != '\0'; c++) {
        if (!is_lower_or_digit(*c) &&
            strchr("/._-ABCDEFGHIJKLMNOPQRSTUVWXYZ", *c) == NULL) {
            return err_set(
                err, BERTH_EINVALID,
                "the state folder's path may hold letters, digits and /._- only");
        }
    }
    size_t length = strnlen(host->ifname, sizeof(host->ifname));
    if (length == sizeof(host->ifname) || network_name_parse(host->ifname, &kind, &vni) ||
        strpbrk(host->ifname, "\"\\* \t\n/") != NULL) {
        return err_set(err, BERTH_EINVALID, "the underlay's interface name is not valid");
    }
    if (host->guard_count > NETWORK_GUARDS_MAX) {
        return err_set(err, BERTH_EFULL, "more than %d guarded ranges",
                       NETWORK_GUARDS_MAX);
    }
    for (size_t i = 0; i < host->guard_count; i++) {
        const struct network_cidr *guard = &host->guards[i];
        if (guard->prefix_bits < 1 || guard->prefix_bits > 32 ||
            (guard->address & ~prefix_mask(guard->prefix_bits)) != 0) {
            return err_set(err, BERTH_EINVALID,
                           "a guarded range has host bits or no prefix");
        }
    }
    return 0;
}

int network_wants_check(const struct network_host *host,
                        const struct network_want *wants,
                        size_t count,
                        struct err *err)
{
    size_t port_count = 0;

    REQUIRE(host != NULL && (wants != NULL || count == 0));
    int r = host_check(host, err);
    if (r == 0 && count > NETWORK_WANTS_MAX) {
        r = err_set(err, BERTH_EFULL, "more than %d networks on one host",
                    NETWORK_WANTS_MAX);
    }
    for (size_t i = 0; r == 0 && i < count; i++) {
        const struct network_want *want = &wants[i];
        r = want_check(host, want, err);
        if (r == 0) {
            r = want_check_unique(want, err);
        }
        if (r == 0) {
            r = want_check_standby(want, err);
        }
        port_count += want->port_count;
        for (size_t j = 0; r == 0 && j < i; j++) {
            if (wants[j].vni == want->vni) {
                r = err_set(err, BERTH_EINVALID, "networks %s and %s have the VNI %u",
                            wants[j].name, want->name, want->vni);
            } else if (cidr_overlap(&wants[j].cidr, &want->cidr)) {
                r = err_set(err, BERTH_EINVALID,
                            "networks %s (VNI %u) and %s (VNI %u) overlap on one host",
                            wants[j].name, wants[j].vni, want->name, want->vni);
            }
        }
    }
    if (r == 0 && port_count > NETWORK_PORTS_MAX) {
        r = err_set(err, BERTH_EFULL, "%zu ports on one host, %d are possible",
                    port_count, NETWORK_PORTS_MAX);
    }
    return r != 0 ? r : taps_check_unique(wants, count, port_count, err);
}

/* ---- copies ---- */

static int array_copy(const void *items, size_t count, size_t size, void **ret_copy)
{
    void *copy = calloc(count + 1, size);

    if (copy == NULL) {
        return -ENOMEM;
    }
    if (count > 0) {
        memcpy(copy, items, count * size);
    }
    *ret_copy = copy;
    return 0;
}

static int want_copy(const struct network_want *want, struct network_want *ret_copy)
{
    void *ports = NULL;
    void *remotes = NULL;
    void *names = NULL;

    if (array_copy(want->ports, want->port_count, sizeof(*want->ports), &ports) != 0 ||
        array_copy(want->remotes, want->remote_count, sizeof(*want->remotes), &remotes) !=
            0 ||
        array_copy(want->names, want->name_count, sizeof(*want->names), &names) != 0) {
        free(ports);
        free(remotes);
        free(names);
        return -ENOMEM;
    }
    *ret_copy = *want;
    ret_copy->ports = ports;
    ret_copy->remotes = remotes;
    ret_copy->names = names;
    return 0;
}

int network_wants_copy(const struct network_want *wants,
                       size_t count,
                       struct network_want **ret_copy,
                       struct err *err)
{
    struct network_want *copy = calloc(count + 1, sizeof(*copy));

    for (size_t i = 0; copy != NULL && i < count; i++) {
        if (want_copy(&wants[i], &copy[i]) != 0) {
            copy = network_wants_free(copy, i);
        }
    }
    if (copy == NULL) {
        return err_set(err, -ENOMEM, "copy networks: out of memory");
    }
    *ret_copy = copy;
    return 0;
}

/* The arrays of a copy are ours; they are const for whoever reads the value. */
static void owned_free(const void *pointer)
{
    union {
        const void *borrowed;
        void *owned;
    } array = {.borrowed = pointer};

    free(array.owned);
}

void network_wants_drop(struct network_want *wants, size_t *count, size_t index)
{
    REQUIRE(index < *count);
    owned_free(wants[index].ports);
    owned_free(wants[index].remotes);
    owned_free(wants[index].names);
    (*count)--;
    memmove(&wants[index], &wants[index + 1], (*count - index) * sizeof(*wants));
}

struct network_want *network_wants_free(struct network_want *wants, size_t count)
{
    for (size_t i = 0; wants != NULL && i < count; i++) {
        owned_free(wants[i].ports);
        owned_free(wants[i].remotes);
        owned_free(wants[i].names);
    }
    free(wants);
    return NULL;
}
