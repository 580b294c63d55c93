#include "base/parse_number.h"
#include "base/require.h"
#include "model/apply_vm.h"

#include <inttypes.h>

static int check_memory(struct apply *apply,
                        const struct entry *vm,
                        const struct host *host,
                        const char *what,
                        const uint64_t need_used_have[3])
{
    const uint64_t need = need_used_have[0];
    const uint64_t used = need_used_have[1];
    const uint64_t have = need_used_have[2];
    char need_text[NUMBER_TEXT_SIZE];
    char used_text[NUMBER_TEXT_SIZE];
    char have_text[NUMBER_TEXT_SIZE];
    if (used <= have && need <= have - used) {
        return 0;
    }
    format_bytes(need, need_text);
    format_bytes(used, used_text);
    format_bytes(have, have_text);
    return apply_refuse(
        apply, BERTH_ENOCAPACITY, "host %s: %s %s of %s in use, vm %s needs %s more",
        host->meta.name, what, used_text, have_text, meta_of(vm)->name, need_text);
}

static int check_host(struct apply *apply,
                      const struct entry *vm,
                      uint64_t host_uid,
                      struct entry **ret_host)
{
    struct entry *entry = state_entry(apply->state, KIND_HOST, host_uid);
    if (entry == NULL) {
        return apply_refuse(apply, BERTH_ENOTFOUND, "there is no host with uid %" PRIu64,
                            host_uid);
    }
    const struct host *host = host_of(entry);
    if (host->status.phase != HOST_PHASE_READY) {
        return apply_refuse(apply, BERTH_EPHASE, "host %s is %s: it takes no VMs",
                            host->meta.name, host_phase_names[host->status.phase]);
    }
    if (host->spec.drain) {
        return apply_refuse(apply, BERTH_EPHASE, "host %s is drained: it takes no VMs",
                            host->meta.name);
    }
    const struct machine_spec *machine = &vm_of(vm)->spec.machine;
    const uint64_t plain[] = {machine_plain_bytes(machine), entry->owner.memory_bytes,
                              host->status.memory_bytes};
    const uint64_t pool[] = {machine_pool_bytes(machine), entry->owner.pool_bytes,
                             host->status.pool_bytes};
    int r = pool[0] > 0 ? check_memory(apply, vm, host, "huge pages", pool)
                        : check_memory(apply, vm, host, "memory", plain);
    if (r < 0) {
        return r;
    }
    *ret_host = entry;
    return 0;
}

static const struct entry *
network_of_nic(const struct apply *apply, const struct entry *vm, unsigned nic)
{
    const struct entry *network =
        state_entry_named(apply->state, KIND_NETWORK, meta_of(vm)->tenant,
                          vm_of(vm)->status.nics.items[nic].network);
    REQUIRE(network != NULL); /* it cannot go before its VMs */
    return network;
}

static int
check_networks(struct apply *apply, const struct entry *vm, const struct entry *host)
{
    for (uint32_t i = 0; i < vm_of(vm)->status.nics.count; i++) {
        const struct entry *network = network_of_nic(apply, vm, i);
        if (network_entry_host_index(network, meta_of(host)->uid) < 0) {
            return apply_refuse(
                apply, BERTH_ECONFLICT, "network %s of tenant %s is not on host %s yet",
                meta_of(network)->name, meta_of(vm)->tenant, meta_of(host)->name);
        }
    }
    return 0;
}

int apply_find_vm_host(struct apply *apply,
                       const struct entry *vm,
                       uint64_t host_uid,
                       struct entry **ret_host)
{
    int r = check_host(apply, vm, host_uid, ret_host);
    return r == 0 ? check_networks(apply, vm, *ret_host) : r;
}

/* One NIC's address: kept, or new and free. */
static int check_address(struct apply *apply,
                         const struct entry *vm,
                         const struct cmd_place_vm *place,
                         unsigned nic)
{
    const struct network *network = network_of(network_of_nic(apply, vm, nic));
    uint32_t now = vm_of(vm)->status.nics.items[nic].ipv4;
    uint32_t wanted = place->addresses.items[nic].ipv4;
    char text[IPV4_TEXT_SIZE];
    format_ipv4(wanted, text);
    if (now != 0) {
        return wanted == now ? 0
                             : apply_refuse(apply, BERTH_ECONFLICT,
                                            "vm %s keeps its address in network %s: %s "
                                            "is another",
                                            meta_of(vm)->name, network->meta.name, text);
    }
    if (!cidr_contains(network->spec.ipv4.cidr, wanted)) {
        return apply_refuse(apply, BERTH_EINVALID, "address %s is not in network %s",
                            text, network->meta.name);
    }
    if (state_address_count(apply->state, network) + nic >= NETWORK_ADDRESSES_MAX) {
        return apply_refuse(apply, BERTH_EFULL,
                            "network %s has given away its %d addresses",
                            network->meta.name, NETWORK_ADDRESSES_MAX);
    }
    bool used = state_address_used(apply->state, network, wanted);
    for (unsigned i = 0; i < nic; i++) {
        used = used || place->addresses.items[i].ipv4 == wanted;
    }
    return used
               ? apply_refuse(apply, BERTH_ECONFLICT, "address %s of network %s is taken",
                              text, network->meta.name)
               : 0;
}

static int check_addresses(struct apply *apply,
                           const struct entry *vm,
                           const struct cmd_place_vm *place)
{
    const struct vm_nic_list *nics = &vm_of(vm)->status.nics;
    if (place->addresses.count == 0) {
        for (uint32_t i = 0; i < nics->count; i++) {
            if (nics->items[i].ipv4 == 0) {
                return apply_refuse(apply, BERTH_EINVALID,
                                    "NIC %s of vm %s has no address yet: give one",
                                    nics->items[i].name, meta_of(vm)->name);
            }
        }
        return 0;
    }
    if (place->addresses.count != nics->count) {
        return apply_refuse(apply, BERTH_EINVALID,
                            "vm %s has %" PRIu32 " NICs, %" PRIu32 " addresses are given",
                            meta_of(vm)->name, nics->count, place->addresses.count);
    }
    for (uint32_t i = 0; i < nics->count; i++) {
        int r = check_address(apply, vm, place, i);
        if (r != 0) {
            return r;
        }
    }
    return 0;
}

static int check_placeable(struct apply *apply, const struct entry *vm, uint64_t epoch)
{
    const struct vm *placed = vm_of(vm);
    if (epoch != placed->status.epoch + 1) {
        return apply_refuse(apply, BERTH_ESTALE,
                            "vm %s is at epoch %" PRIu64 ": the next is not %" PRIu64,
                            placed->meta.name, placed->status.epoch, epoch);
    }
    if (placed->status.phase != PHASE_PENDING) {
        return apply_refuse_phase(apply, vm, "be placed");
    }
    REQUIRE(placed->spec.power == POWER_ON); /* or it would be stopped */
    return 0;
}

static int check_disks(struct apply *apply, const struct entry *vm, uint64_t host_uid)
{
    const struct host *begins = state_restore_host(apply->state, vm_of(vm));
    if (begins != NULL) {
        return begins->meta.uid == host_uid
                   ? 0
                   : apply_refuse(apply, BERTH_ECONFLICT,
                                  "vm %s begins from a snapshot on host %s: it starts "
                                  "nowhere else",
                                  meta_of(vm)->name, begins->meta.name);
    }
    const struct host *bound = state_disks_bind(apply->state, vm_of(vm));
    return bound == NULL || bound->meta.uid == host_uid
               ? 0
               : apply_refuse(apply, BERTH_ECONFLICT,
                              "the disks of vm %s are on host %s: it starts nowhere else",
                              meta_of(vm)->name, bound->meta.name);
}

/* Away from its disks, to a snapshot: they stay with their keeper until the run has begun
 * from that, for until then nobody knows that the snapshot is good. */
static bool begins_elsewhere(const struct apply *apply, const struct entry *vm)
{
    return vm->vm.keeper != NULL && state_restore_host(apply->state, vm_of(vm)) != NULL;
}

int apply_place_vm(struct apply *apply, const struct command *command)
{
    const struct cmd_place_vm *place = &command->body.place_vm;
    struct entry *vm = NULL;
    struct entry *host = NULL;
    int r = apply_find_vm(apply, place->vm, &vm);
    if (r == 0) {
        r = check_placeable(apply, vm, place->epoch);
    }
    if (r == 0) {
        r = check_disks(apply, vm, place->host);
    }
    if (r == 0) {
        r = apply_find_vm_host(apply, vm, place->host, &host);
    }
    if (r == 0) {
        r = check_addresses(apply, vm, place);
    }
    if (r != 0) {
        return r;
    }
    apply->result->uid = place->vm;
    for (uint32_t i = 0; i < place->addresses.count; i++) {
        if (vm_of(vm)->status.nics.items[i].ipv4 == 0) {
            vm_entry_set_address(apply->state, vm, i, place->addresses.items[i].ipv4);
        }
    }
    if (vm->vm.keeper == host || !begins_elsewhere(apply, vm)) {
        vm_entry_keep(vm, NULL, vm->vm.keeper == host ? vm_of(vm)->status.disk_epoch : 0);
    }
    vm_entry_set_host(apply->state, vm, host);
    vm_of(vm)->status.epoch = place->epoch;
    vm_of(vm)->status.retry_wall_ms = 0;
    vm_move(apply, vm, PHASE_PLACED, place->reason, 0);
    return 0;
}
