#include "scheduler/place.h"

#include "base/cleanup.h"
#include "base/parse_number.h"
#include "scheduler/scheduler.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What a fix shows of a rule, and of a command for a label. */
#define RULE_FIX_MAX   64
#define LABEL_FIX_SIZE 112

struct look {
    const struct placement *placement;
    const struct machine_spec *machine;
    const struct overlay *overlay;
    uint32_t index;
    const struct host *host;
};

/* ---- filters of the host alone ---- */

static bool heard(const struct look *look)
{
    uint64_t wall_ms;
    struct host_load load;
    return look->placement->watch == NULL ||
           host_watch_seen(look->placement->watch, look->host->meta.uid, &wall_ms, &load);
}

/* One that was given up is given no lease before it has taken its orders over. */
static bool settled(const struct look *look)
{
    return look->placement->watch == NULL ||
           !host_watch_given_up(look->placement->watch, look->host->meta.uid);
}

static bool is_home(const struct look *look)
{
    uint64_t home = look->placement->request.home;
    return home == 0 || look->host->meta.uid == home;
}

static bool home_passes(const struct look *look)
{
    return look->placement->request.restores || is_home(look);
}

static bool snapshot_passes(const struct look *look)
{
    return !look->placement->request.restores || is_home(look);
}

static const char *home_name(const struct look *look)
{
    int64_t index = overlay_index(look->overlay, look->placement->request.home);
    return index >= 0 ? look->overlay->hosts[index]->meta.name : "another host";
}

static void snapshot_tell(const struct look *look, struct place_refusal *refusal)
{
    (void)snprintf(refusal->reason, PLACE_TEXT_SIZE, "its snapshot is on %s",
                   home_name(look));
    (void)snprintf(refusal->fix, PLACE_TEXT_SIZE,
                   "restore it there, or call that off: berth start --anywhere");
}

static void home_tell(const struct look *look, struct place_refusal *refusal)
{
    (void)snprintf(refusal->reason, PLACE_TEXT_SIZE, "its disks are on %s",
                   home_name(look));
    (void)snprintf(refusal->fix, PLACE_TEXT_SIZE,
                   "start it there, or give its disks up: berth start --anywhere");
}

static bool up_passes(const struct look *look)
{
    return look->host->status.phase == HOST_PHASE_READY && heard(look) && settled(look);
}

static void up_tell(const struct look *look, struct place_refusal *refusal)
{
    const struct host_status *status = &look->host->status;
    const char *name = look->host->meta.name;
    if (status->phase == HOST_PHASE_READY && heard(look)) {
        (void)snprintf(refusal->reason, PLACE_TEXT_SIZE,
                       "host is back, and has not taken its orders over");
        (void)snprintf(refusal->fix, PLACE_TEXT_SIZE,
                       "wait a moment, or look after the disk of %s: its berthd cannot "
                       "write them down",
                       name);
        return;
    }
    if (status->phase == HOST_PHASE_READY) {
        (void)snprintf(refusal->reason, PLACE_TEXT_SIZE,
                       "host was not heard by this leader yet");
        (void)snprintf(refusal->fix, PLACE_TEXT_SIZE,
                       "wait a moment, or look after berthd on %s", name);
        return;
    }
    (void)snprintf(refusal->reason, PLACE_TEXT_SIZE, "host is %s%s%.180s",
                   host_phase_names[status->phase], status->reason != NULL ? ": " : "",
                   status->reason != NULL ? status->reason : "");
    if (state_host_left_out(look->host)) {
        (void)snprintf(refusal->fix, PLACE_TEXT_SIZE,
                       "berth down --forget on %s, then berth join; or berth rm host/%s "
                       "once it is surely off",
                       name, name);
    } else if (status->phase == HOST_PHASE_LOST) {
        (void)snprintf(refusal->fix, PLACE_TEXT_SIZE,
                       "bring %s back, or berth rm host/%s once it is surely off", name,
                       name);
    } else {
        (void)snprintf(refusal->fix, PLACE_TEXT_SIZE,
                       "look after berthd and the network of %s", name);
    }
}

static bool drain_passes(const struct look *look)
{
    return !look->host->spec.drain;
}

static void drain_tell(const struct look *look, struct place_refusal *refusal)
{
    const char *why = look->host->spec.drain_reason;
    (void)snprintf(refusal->reason, PLACE_TEXT_SIZE, "drained%s%.180s%s",
                   why != NULL ? ": \"" : "", why != NULL ? why : "",
                   why != NULL ? "\"" : "");
    (void)snprintf(refusal->fix, PLACE_TEXT_SIZE, "berth undrain %s",
                   look->host->meta.name);
}

/* auto is what the host has: kvm where it can, else qemu; kvm only counts where KVM is
 * native. */
static bool engine_passes(const struct look *look)
{
    uint32_t engine = look->machine->engine;
    uint32_t offered = look->host->status.engines;
    if (engine == ENGINE_AUTO) {
        return (offered & (ENGINE_BIT(ENGINE_QEMU) | ENGINE_BIT(ENGINE_KVM))) != 0;
    }
    return (offered & ENGINE_BIT(engine)) != 0 &&
           (engine != ENGINE_KVM || look->host->status.kvm == KVM_NATIVE);
}

static void engine_tell(const struct look *look, struct place_refusal *refusal)
{
    uint32_t engine = look->machine->engine;
    const char *name = look->host->meta.name;
    const char *kvm = kvm_kind_names[look->host->status.kvm];
    if (engine == ENGINE_KVM && look->host->status.kvm != KVM_NATIVE) {
        (void)snprintf(refusal->reason, PLACE_TEXT_SIZE,
                       "engine: kvm needs native KVM, here it is: %s", kvm);
        (void)snprintf(refusal->fix, PLACE_TEXT_SIZE,
                       "switch virtualisation on in the firmware of %s, or engine: qemu",
                       name);
        return;
    }
    (void)snprintf(refusal->reason, PLACE_TEXT_SIZE, "engine: %s is not installed here",
                   engine_names[engine == ENGINE_AUTO ? ENGINE_QEMU : engine]);
    (void)snprintf(refusal->fix, PLACE_TEXT_SIZE,
                   engine == ENGINE_AUTO || engine == ENGINE_QEMU
                       ? "install qemu-system-x86 on %s"
                       : "engine: auto, or a berthd with this engine on %s",
                   name);
}

/* What a host says of itself: it has found out what its KVM gives. */
static bool baseline_passes(const struct look *look)
{
    return look->machine->cpu.baseline <= look->host->status.cpu_baseline;
}

static void baseline_tell(const struct look *look, struct place_refusal *refusal)
{
    uint32_t given = look->host->status.cpu_baseline;
    const char *wanted = cpu_baseline_names[look->machine->cpu.baseline];
    const char *name = look->host->meta.name;
    if (given == CPU_BASELINE_HOST) {
        (void)snprintf(refusal->reason, PLACE_TEXT_SIZE,
                       "baseline: %s is engine kvm's, which has none here", wanted);
        (void)snprintf(refusal->fix, PLACE_TEXT_SIZE,
                       "cpu.baseline: host, or native KVM and berth-vmm on %s", name);
        return;
    }
    (void)snprintf(refusal->reason, PLACE_TEXT_SIZE, "baseline: its CPUs give %s, not %s",
                   cpu_baseline_names[given], wanted);
    (void)snprintf(refusal->fix, PLACE_TEXT_SIZE,
                   "cpu.baseline: %s, or add a host with newer CPUs",
                   cpu_baseline_names[given]);
}

static uint32_t rule_failing(const struct look *look)
{
    uint32_t i = 0;
    while (i < look->placement->rule_count &&
           expression_holds(&look->placement->rules[i], look->host)) {
        i++;
    }
    return i;
}

static bool require_passes(const struct look *look)
{
    return rule_failing(look) == look->placement->rule_count;
}

static void require_tell(const struct look *look, struct place_refusal *refusal)
{
    uint32_t rule = rule_failing(look);
    const char *text = look->machine->placement.require.items[rule];
    char why[PLACE_TEXT_SIZE - 16];
    const char *key = NULL;
    const char *value = NULL;
    char label[LABEL_FIX_SIZE] = "";
    expression_explain(&look->placement->rules[rule], text, look->host, why, sizeof(why));
    (void)snprintf(refusal->reason, PLACE_TEXT_SIZE, "require: %s", why);
    if (expression_wants_label(&look->placement->rules[rule], &key, &value)) {
        int size =
            snprintf(label, sizeof(label), "berth host label %s %s=%s where that is so, ",
                     look->host->meta.name, key, value);
        label[size < (int)sizeof(label) ? size : 0] = '\0'; /* half a command is none */
    }
    (void)snprintf(
        refusal->fix, PLACE_TEXT_SIZE,
        "%sdrop the rule %.*s from placement.require, or add a host that meets "
        "it",
        label, RULE_FIX_MAX, text);
}

/* The range of this host's own that the network overlaps, or NULL. Where it really is
 * already, it stays: by the host's word, for the log has a host in a network from when a
 * VM is placed there, also if the host then refuses to start it. */
static const struct host_range *range_against(const struct look *look,
                                              const struct network *network)
{
    uint32_t count = 0;
    uint64_t host = look->host->meta.uid;
    const struct host_range *ranges =
        look->placement->watch != NULL
            ? host_watch_ranges(look->placement->watch, host, &count)
            : NULL;
    uint32_t address = cidr_address(network->spec.ipv4.cidr);
    uint32_t prefix = cidr_prefix(network->spec.ipv4.cidr);
    for (uint32_t i = 0; i < count; i++) {
        if (ipv4_ranges_overlap(ranges[i].ipv4, ranges[i].prefix_bits, address, prefix)) {
            return host_watch_carries(look->placement->watch, host, network->status.vni)
                       ? NULL
                       : &ranges[i];
        }
    }
    return NULL;
}

static bool range_passes(const struct look *look)
{
    bool carries = true;
    for (uint32_t i = 0; i < look->placement->network_count && carries; i++) {
        carries = range_against(look, look->placement->networks[i].network) == NULL;
    }
    return carries;
}

static void range_tell(const struct look *look, struct place_refusal *refusal)
{
    uint32_t slot = 0;
    char cidr[CIDR_TEXT_SIZE];
    while (range_against(look, look->placement->networks[slot].network) == NULL) {
        slot++;
    }
    const struct network *network = look->placement->networks[slot].network;
    format_cidr(cidr_address(network->spec.ipv4.cidr),
                cidr_prefix(network->spec.ipv4.cidr), cidr);
    (void)snprintf(refusal->reason, PLACE_TEXT_SIZE, "range: %.63s (%s) overlaps %.95s",
                   network->meta.name, cidr, range_against(look, network)->text);
    (void)snprintf(refusal->fix, PLACE_TEXT_SIZE,
                   "take that away from %s, or a network of another range",
                   look->host->meta.name);
}

/* ---- filters of what is there ---- */

static bool spread_passes(const struct look *look)
{
    const struct spread_spec *spread = &look->machine->placement.spread;
    const uint32_t *counts = look->placement->group_counts;
    return spread->by != SPREAD_HOST || counts == NULL ||
           counts[look->index] < spread->max;
}

static void spread_tell(const struct look *look, struct place_refusal *refusal)
{
    uint32_t count = look->placement->group_counts[look->index];
    (void)snprintf(refusal->reason, PLACE_TEXT_SIZE,
                   "spread: %u of the group %s already there", count,
                   count == 1 ? "is" : "are");
    (void)snprintf(refusal->fix, PLACE_TEXT_SIZE, "spread.max: %u, or add a host",
                   count + 1);
}

static bool network_passes(const struct look *look)
{
    const struct placement *placement = look->placement;
    return placement->full < 0 &&
           (placement->must == 0 ||
            (placement->members[look->index] & placement->must) == placement->must);
}

static void network_tell(const struct look *look, struct place_refusal *refusal)
{
    const struct placement *placement = look->placement;
    uint32_t slot = placement->full >= 0 ? (uint32_t)placement->full : 0;
    while (placement->full < 0 &&
           ((placement->must & (1U << slot)) == 0 ||
            (placement->members[look->index] & (1U << slot)) != 0)) {
        slot++;
    }
    const struct network *network = placement->networks[slot].network;
    const char *name = network->meta.name;
    if (overlay_network_hosts(placement->overlay, network) >= RECORD_LIST_MAX &&
        placement->full < 0) {
        (void)snprintf(refusal->reason, PLACE_TEXT_SIZE,
                       "network: %s is on %d hosts already, the most one network takes",
                       name, RECORD_LIST_MAX);
        (void)snprintf(refusal->fix, PLACE_TEXT_SIZE, "a second network");
        return;
    }
    (void)snprintf(refusal->reason, PLACE_TEXT_SIZE,
                   placement->full >= 0
                       ? "network: %s has no free address"
                       : "network: %s has no free address for a further host",
                   name);
    (void)snprintf(refusal->fix, PLACE_TEXT_SIZE,
                   "remove VMs from %s, or make a network with a larger cidr", name);
}

static bool vms_passes(const struct look *look)
{
    return look->placement->request.kept || /* then it is one of them */
           look->overlay->vms[look->index] < PLACE_VMS_PER_HOST_MAX;
}

static void vms_tell(const struct look *look, struct place_refusal *refusal)
{
    (void)snprintf(refusal->reason, PLACE_TEXT_SIZE,
                   "vms: %u are there, the most one host takes",
                   look->overlay->vms[look->index]);
    (void)snprintf(refusal->fix, PLACE_TEXT_SIZE, "add a host");
}

static int64_t need_mcpu(const struct machine_spec *machine)
{
    return (int64_t)machine_mcpu(machine);
}

static int64_t need_bytes(const struct machine_spec *machine)
{
    return (int64_t)machine_plain_bytes(machine);
}

static int64_t need_pool(const struct machine_spec *machine)
{
    return (int64_t)machine_pool_bytes(machine);
}

/* The most that a host ever takes, or what has to become free. */
static void
room_text(bool too_large, int64_t most, int64_t lacks, char ret_text[NUMBER_TEXT_SIZE])
{
    if (too_large) {
        format_bytes_floor((uint64_t)most, ret_text);
    } else {
        format_bytes_ceiling((uint64_t)lacks, ret_text);
    }
}

static bool memory_passes(const struct look *look)
{
    const int64_t need = need_bytes(look->machine); /* none: it is the pool's */
    return need == 0 || look->overlay->free_bytes[look->index] >= need;
}

/* What is free of one kind of memory, and what helps. */
static void tell_bytes(const struct look *look,
                       const char *what,
                       int64_t need,
                       int64_t free_bytes,
                       int64_t cap_bytes,
                       struct place_refusal *refusal)
{
    char free_text[NUMBER_TEXT_SIZE];
    char need_text[NUMBER_TEXT_SIZE];
    char other_text[NUMBER_TEXT_SIZE];
    bool too_large = need > cap_bytes;
    format_bytes_floor(free_bytes > 0 ? (uint64_t)free_bytes : 0, free_text);
    format_bytes_ceiling((uint64_t)need, need_text);
    room_text(too_large, cap_bytes, need - free_bytes, other_text);
    (void)snprintf(refusal->reason, PLACE_TEXT_SIZE, "%s: %s free of %s", what, free_text,
                   need_text);
    (void)snprintf(refusal->fix, PLACE_TEXT_SIZE,
                   too_large ? "a machine of at most %s on %s, or a larger host"
                             : "free %s on %s, or add a host",
                   other_text, look->host->meta.name);
}

static void memory_tell(const struct look *look, struct place_refusal *refusal)
{
    tell_bytes(look, "memory", need_bytes(look->machine),
               look->overlay->free_bytes[look->index],
               look->overlay->cap_bytes[look->index], refusal);
}

static bool pages_passes(const struct look *look)
{
    return look->overlay->free_pool[look->index] >= need_pool(look->machine) ||
           need_pool(look->machine) == 0;
}

static void pages_tell(const struct look *look, struct place_refusal *refusal)
{
    int64_t cap_bytes = look->overlay->cap_pool[look->index];
    if (cap_bytes > 0) {
        tell_bytes(look, "huge pages", need_pool(look->machine),
                   look->overlay->free_pool[look->index], cap_bytes, refusal);
        return;
    }
    (void)snprintf(refusal->reason, PLACE_TEXT_SIZE,
                   "huge pages: the host has none that VMs may have");
    (void)snprintf(refusal->fix, PLACE_TEXT_SIZE,
                   "memory.pages: normal, or reserve pages of 2MiB on %s, which needs "
                   "engine kvm",
                   look->host->meta.name);
}

static bool cpu_passes(const struct look *look)
{
    return look->overlay->free_mcpu[look->index] >= need_mcpu(look->machine);
}

static void cpu_tell(const struct look *look, struct place_refusal *refusal)
{
    int64_t free_mcpu = look->overlay->free_mcpu[look->index];
    int64_t cap_mcpu = look->overlay->cap_mcpu[look->index];
    int64_t need = need_mcpu(look->machine);
    bool too_large = need > cap_mcpu;
    (void)snprintf(refusal->reason, PLACE_TEXT_SIZE, "cpu: %.1f of %u vCPUs free",
                   (double)(free_mcpu < 0 ? 0 : free_mcpu) / 1000.0,
                   (unsigned)(need / 1000));
    (void)snprintf(refusal->fix, PLACE_TEXT_SIZE,
                   too_large ? "a machine of at most %.1f vCPUs on %s, or a larger host"
                             : "free %.1f vCPUs on %s, or add a host",
                   (double)(too_large ? cap_mcpu : need - free_mcpu) / 1000.0,
                   look->host->meta.name);
}

/* Disks that are kept have their place already. */
static int64_t need_disk(const struct place_request *request)
{
    return request->kept ? 0 : (int64_t)machine_disk_bytes(request->machine);
}

/* What is promised may not be there: other things fill disks, too. */
static bool disk_left(const struct look *look)
{
    uint64_t wall_ms;
    struct host_load load;
    return look->host->status.disk_bytes == 0 || look->placement->watch == NULL ||
           !host_watch_seen(look->placement->watch, look->host->meta.uid, &wall_ms,
                            &load) ||
           load.disk_free_bytes > 0;
}

static bool disk_left_passes(const struct look *look)
{
    return need_disk(&look->placement->request) == 0 || disk_left(look);
}

static void disk_left_tell(const struct look *look, struct place_refusal *refusal)
{
    (void)snprintf(refusal->reason, PLACE_TEXT_SIZE,
                   "disk: the disk of the host is full, what is kept free aside");
    (void)snprintf(refusal->fix, PLACE_TEXT_SIZE, "make room on the disk of %s",
                   look->host->meta.name);
}

static bool disk_passes(const struct look *look)
{
    int64_t need = need_disk(&look->placement->request);
    return need == 0 || look->overlay->free_disk[look->index] >= need;
}

static void disk_tell(const struct look *look, struct place_refusal *refusal)
{
    char free_text[NUMBER_TEXT_SIZE];
    char need_text[NUMBER_TEXT_SIZE];
    char other_text[NUMBER_TEXT_SIZE];
    int64_t free_bytes = look->overlay->free_disk[look->index];
    int64_t cap_bytes = look->overlay->cap_disk[look->index];
    int64_t need = need_disk(&look->placement->request);
    bool too_large = need > cap_bytes;
    format_bytes_floor(free_bytes > 0 ? (uint64_t)free_bytes : 0, free_text);
    format_bytes_ceiling((uint64_t)need, need_text);
    room_text(too_large, cap_bytes, need - free_bytes, other_text);
    (void)snprintf(refusal->reason, PLACE_TEXT_SIZE, "disk: %s free of %s", free_text,
                   need_text);
    (void)snprintf(refusal->fix, PLACE_TEXT_SIZE,
                   too_large ? "disks of at most %s on %s, or a larger --disk-overcommit"
                             : "free %s on %s, a larger --disk-overcommit, or add a host",
                   other_text, look->host->meta.name);
}

/* In the order in which people would ask: is it there at all, may it, can it. */
static const struct filter {
    const char *name;
    const char *one; /* as in struct place_refusal */
    const char *many;
    bool of_host; /* nothing that this step decides changes it */
    bool of_room; /* who lacks this may lack more, and is told of all */
    bool (*passes)(const struct look *look);
    void (*tell)(const struct look *look, struct place_refusal *refusal);
} filters[] = {
    {"home", "does not keep its disks", "do not keep its disks", true, false, home_passes,
     home_tell},
    {"snapshot", "does not have its snapshot", "do not have its snapshot", true, false,
     snapshot_passes, snapshot_tell},
    {"up", "is not up", "are not up", true, false, up_passes, up_tell},
    {"drain", "is drained", "are drained", true, false, drain_passes, drain_tell},
    {"engine", "lacks the engine", "lack the engine", true, false, engine_passes,
     engine_tell},
    {"baseline", "lacks the CPU's baseline", "lack the CPU's baseline", true, false,
     baseline_passes, baseline_tell},
    {"require", "fails placement.require", "fail placement.require", true, false,
     require_passes, require_tell},
    {"range", "uses its network's range itself", "use their network's range themselves",
     true, false, range_passes, range_tell},
    {"spread", "has enough of the group", "have enough of the group", false, false,
     spread_passes, spread_tell},
    {"network", "gets no address", "get no address", false, false, network_passes,
     network_tell},
    {"vms", "is full of VMs", "are full of VMs", false, false, vms_passes, vms_tell},
    {"memory", "lacks memory", "lack memory", false, true, memory_passes, memory_tell},
    {"pages", "lacks huge pages", "lack huge pages", false, true, pages_passes,
     pages_tell},
    {"cpu", "lacks CPU", "lack CPU", false, true, cpu_passes, cpu_tell},
    {"disk", "lacks disk", "lack disk", true, true, disk_left_passes, disk_left_tell},
    {"disk", "lacks disk", "lack disk", false, true, disk_passes, disk_tell},
};

static struct look look_at(const struct placement *placement, uint32_t index)
{
    return (struct look){.placement = placement,
                         .machine = placement->request.machine,
                         .overlay = placement->overlay,
                         .index = index,
                         .host = placement->overlay->hosts[index]};
}

/* Adds what else there is no room for. */
static void
tell_room(const struct look *look, unsigned from, struct place_refusal *refusal)
{
    const char *rule = refusal->rule;
    for (unsigned i = from; i < ARRAY_COUNT(filters); i++) {
        struct place_refusal other;
        if (!filters[i].of_room || strcmp(filters[i].name, rule) == 0 ||
            filters[i].passes(look)) {
            continue;
        }
        rule = filters[i].name;
        filters[i].tell(look, &other);
        size_t used = strlen(refusal->reason);
        (void)snprintf(refusal->reason + used, PLACE_TEXT_SIZE - used, "; %s",
                       other.reason);
        used = strlen(refusal->fix);
        (void)snprintf(refusal->fix + used, PLACE_TEXT_SIZE - used, "; and %s",
                       other.fix);
    }
}

bool placement_fits(const struct placement *placement,
                    uint32_t index,
                    struct place_refusal *ret_refusal)
{
    const struct look look = look_at(placement, index);
    for (unsigned i = 0; i < ARRAY_COUNT(filters); i++) {
        if (!filters[i].passes(&look)) {
            ret_refusal->rule = filters[i].name;
            ret_refusal->one = filters[i].one;
            ret_refusal->many = filters[i].many;
            filters[i].tell(&look, ret_refusal);
            if (filters[i].of_room) {
                tell_room(&look, i + 1, ret_refusal);
            }
            return false;
        }
    }
    return true;
}

static bool host_is_open(const struct placement *placement, uint32_t index)
{
    const struct look look = look_at(placement, index);
    for (unsigned i = 0; i < ARRAY_COUNT(filters); i++) {
        if (filters[i].of_host && !filters[i].passes(&look)) {
            return false;
        }
    }
    return true;
}

/* ---- networks ---- */

/* No further host can enter it. */
static bool network_is_closed(const struct placement *placement,
                              const struct place_network *one)
{
    const struct overlay *overlay = placement->overlay;
    uint32_t hosts_at_most = one->network->status.hosts.count + overlay->change_count;
    return overlay_addresses_left(overlay, one->network, one->addresses + 1) <=
               one->addresses ||
           (hosts_at_most >= RECORD_LIST_MAX &&
            overlay_network_hosts(overlay, one->network) >= RECORD_LIST_MAX);
}

/* Addresses are given away while a batch is decided: whether there is one for a host that
 * is new in a network is asked each time, who is in it only when that matters. */
static void networks_look(struct placement *placement)
{
    uint8_t must = 0;
    placement->full = -1;
    for (uint32_t i = 0; i < placement->network_count; i++) {
        const struct place_network *one = &placement->networks[i];
        if (one->addresses > 0 &&
            overlay_addresses_left(placement->overlay, one->network, one->addresses) <
                one->addresses) {
            placement->full = (int)i;
        }
        if (network_is_closed(placement, one)) {
            must = (uint8_t)(must | 1U << i);
        }
    }
    if (must != 0) {
        memset(placement->members, 0, placement->overlay->count);
        for (uint32_t i = 0; i < placement->network_count; i++) {
            overlay_mark_network_hosts(placement->overlay, placement->networks[i].network,
                                       (uint8_t)(1U << i), placement->members);
        }
    }
    placement->must = must;
}

/* ---- score ---- */

static double squared(int64_t free_after, double unit)
{
    double left = (double)free_after * unit;
    return left * left;
}

int64_t placement_best(struct placement *placement)
{
    const struct overlay *overlay = placement->overlay;
    const struct place_request *request = &placement->request;
    const struct machine_spec *machine = request->machine;
    const uint32_t *counts = placement->group_counts;
    const int64_t mcpu = need_mcpu(machine);
    const int64_t bytes = need_bytes(machine);
    const int64_t pool = need_pool(machine);
    const int64_t disk = need_disk(&placement->request);
    const uint32_t count_max = machine->placement.spread.by == SPREAD_HOST
                                   ? machine->placement.spread.max
                                   : UINT32_MAX;
    int64_t best = -1;
    uint32_t best_count = count_max;
    double best_score = 0.0;
    networks_look(placement);
    for (uint32_t i = 0; i < overlay->count && placement->full < 0; i++) {
        uint32_t count = counts != NULL ? counts[i] : 0;
        int64_t mcpu_after = overlay->free_mcpu[i] - mcpu;
        int64_t bytes_after = overlay->free_bytes[i] - bytes;
        if (!placement->open[i] || mcpu_after < 0 || (bytes > 0 && bytes_after < 0) ||
            (pool > 0 && overlay->free_pool[i] < pool) ||
            (!request->kept && overlay->vms[i] >= PLACE_VMS_PER_HOST_MAX) ||
            (disk > 0 && overlay->free_disk[i] < disk) ||
            (best >= 0 ? count > best_count : count >= count_max)) {
            continue;
        }
        if (placement->must != 0 &&
            (placement->members[i] & placement->must) != placement->must) {
            continue;
        }
        double score = squared(mcpu_after, overlay->cpu_unit[i]) +
                       squared(bytes_after, overlay->byte_unit[i]);
        if (best < 0 || count < best_count || score < best_score) {
            best = i;
            best_count = count;
            best_score = score;
        }
    }
    return best;
}

void placement_took(struct placement *placement, uint32_t index)
{
    if (placement->group_counts != NULL) {
        placement->group_counts[index]++;
    }
}

/* ---- life ---- */

void place_request_of(const struct state *state,
                      const struct vm *vm,
                      struct place_request *ret_request)
{
    const struct vm_nic_list *nics = &vm->status.nics;
    const struct host *begins = state_restore_host(state, vm);
    const struct host *home = begins != NULL ? begins : state_disks_bind(state, vm);
    *ret_request = (struct place_request){
        .tenant = vm->meta.tenant,
        .machine = &vm->spec.machine,
        .group = vm->spec.group[0] != '\0'
                     ? state_get(state, KIND_GROUP, vm->meta.tenant, vm->spec.group)
                     : NULL,
        .has_addresses = nics->count > 0 && nics->items[0].ipv4 != 0,
        .home = home != NULL ? home->meta.uid : 0,
        .kept = home != NULL && home->meta.uid == vm->status.disk_host,
        .restores = begins != NULL,
    };
}

/* A network that is not there yet (the plan of one) has room. */
static void networks_find(struct placement *placement)
{
    const struct nic_spec_list *nics = &placement->request.machine->nics;
    for (uint32_t nic = 0; nic < nics->count; nic++) {
        const struct network *network =
            state_get(placement->overlay->state, KIND_NETWORK, placement->request.tenant,
                      nics->items[nic].network);
        uint32_t slot = 0;
        while (slot < placement->network_count &&
               placement->networks[slot].network != network) {
            slot++;
        }
        if (network == NULL) {
            continue;
        }
        if (slot == placement->network_count) {
            placement->networks[placement->network_count++] =
                (struct place_network){.network = network};
        }
        placement->networks[slot].addresses += placement->request.has_addresses ? 0 : 1;
    }
}

static int rules_compile(struct placement *placement)
{
    const struct text_list *rules = &placement->request.machine->placement.require;
    if (rules->count == 0) {
        return 0;
    }
    placement->rules = calloc(rules->count, sizeof(*placement->rules));
    if (placement->rules == NULL) {
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < rules->count; i++) {
        int r = expression_compile(rules->items[i], &placement->rules[i], NULL, NULL);
        if (r < 0) {
            return r;
        }
        placement->rule_count++;
    }
    return 0;
}

int placement_init(struct placement *placement,
                   const struct place_request *request,
                   const struct overlay *overlay,
                   const struct host_watch *watch)
{
    *placement = (struct placement){
        .request = *request, .overlay = overlay, .watch = watch, .full = -1};
    placement->open = calloc(overlay->count + 1, sizeof(*placement->open));
    placement->members = calloc(overlay->count + 1, sizeof(*placement->members));
    if (placement->open == NULL || placement->members == NULL) {
        return -ENOMEM;
    }
    int r = rules_compile(placement);
    if (r < 0) {
        return r;
    }
    if (request->group != NULL || request->group_is_new) {
        placement->group_counts = calloc(overlay->count + 1, sizeof(uint32_t));
        if (placement->group_counts == NULL) {
            return -ENOMEM;
        }
    }
    if (request->group != NULL) {
        overlay_group_counts(overlay, request->group, placement->group_counts);
    }
    networks_find(placement);
    for (uint32_t i = 0; i < overlay->count; i++) {
        placement->open[i] = host_is_open(placement, i);
    }
    return 0;
}

void placement_fini(struct placement *placement)
{
    free(placement->rules);
    free(placement->open);
    free(placement->members);
    free(placement->group_counts);
    *placement = (struct placement){0};
}

bool placement_is_for(const struct placement *placement,
                      const struct place_request *request)
{
    const struct place_request *own = &placement->request;
    return own->machine != NULL && own->group == request->group &&
           own->group_is_new == request->group_is_new &&
           own->has_addresses == request->has_addresses && own->home == request->home &&
           own->kept == request->kept && own->restores == request->restores &&
           strcmp(own->tenant, request->tenant) == 0 &&
           (own->machine == request->machine ||
            record_equal(&machine_spec_record, own->machine, request->machine));
}
