#include "scheduler/overlay.h"

#include "base/require.h"
#include "base/u64_map.h"
#include "scheduler/scheduler.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define NO_HOST      UINT32_MAX
#define CAPACITY_MAX ((uint64_t)INT64_MAX / 2) /* so that sums stay numbers */

void overlay_init(struct overlay *overlay)
{
    *overlay = (struct overlay){0};
}

void overlay_fini(struct overlay *overlay)
{
    free(overlay->hosts);
    free(overlay->free_mcpu);
    free(overlay->free_bytes);
    free(overlay->cap_mcpu);
    free(overlay->cap_bytes);
    free(overlay->free_pool);
    free(overlay->cap_pool);
    free(overlay->free_disk);
    free(overlay->cap_disk);
    free(overlay->cpu_unit);
    free(overlay->byte_unit);
    free(overlay->vms);
    free(overlay->changes);
    u64_map_free(overlay->index);
    overlay_init(overlay);
}

void overlay_forget(struct overlay *overlay)
{
    overlay->state = NULL;
}

static int grow(void *pointer_to_array, size_t item_size, uint32_t capacity)
{
    void **array = pointer_to_array;
    void *grown = realloc(*array, item_size * capacity);
    if (grown == NULL) {
        return -ENOMEM;
    }
    *array = grown;
    return 0;
}

static int reserve(struct overlay *overlay, uint32_t capacity)
{
    if (capacity <= overlay->capacity) {
        return 0;
    }
    if (grow(&overlay->hosts, sizeof(const struct host *), capacity) < 0 ||
        grow(&overlay->free_mcpu, sizeof(int64_t), capacity) < 0 ||
        grow(&overlay->free_bytes, sizeof(int64_t), capacity) < 0 ||
        grow(&overlay->cap_mcpu, sizeof(int64_t), capacity) < 0 ||
        grow(&overlay->cap_bytes, sizeof(int64_t), capacity) < 0 ||
        grow(&overlay->free_pool, sizeof(int64_t), capacity) < 0 ||
        grow(&overlay->cap_pool, sizeof(int64_t), capacity) < 0 ||
        grow(&overlay->free_disk, sizeof(int64_t), capacity) < 0 ||
        grow(&overlay->cap_disk, sizeof(int64_t), capacity) < 0 ||
        grow(&overlay->cpu_unit, sizeof(double), capacity) < 0 ||
        grow(&overlay->byte_unit, sizeof(double), capacity) < 0 ||
        grow(&overlay->vms, sizeof(uint32_t), capacity) < 0) {
        return -ENOMEM;
    }
    overlay->capacity = capacity;
    return 0;
}

static int by_uid(const void *a, const void *b)
{
    uint64_t left = (*(const struct host *const *)a)->meta.uid;
    uint64_t right = (*(const struct host *const *)b)->meta.uid;
    return left < right ? -1 : left > right;
}

static double unit_of(int64_t capacity)
{
    return capacity > 0 ? 1.0 / (double)capacity : 0.0;
}

/* Of a host's own telling, so bounded. */
static int64_t capacity_of(uint64_t told_bytes)
{
    return (int64_t)(told_bytes < CAPACITY_MAX ? told_bytes : CAPACITY_MAX);
}

static void host_fill(struct overlay *overlay, uint32_t index, const struct state *state)
{
    const struct host *host = overlay->hosts[index];
    const struct host_use use = state_host_use(state, host->meta.uid);
    overlay->cap_mcpu[index] =
        (int64_t)host->status.cpu_mcpu * host->status.cpu_overcommit;
    overlay->cap_bytes[index] = (int64_t)host->status.memory_bytes;
    overlay->cpu_unit[index] = unit_of(overlay->cap_mcpu[index]);
    overlay->byte_unit[index] = unit_of(overlay->cap_bytes[index]);
    overlay->free_mcpu[index] = overlay->cap_mcpu[index] - (int64_t)use.cpu_mcpu;
    overlay->free_bytes[index] = overlay->cap_bytes[index] - (int64_t)use.memory_bytes;
    overlay->cap_pool[index] = capacity_of(host->status.pool_bytes);
    overlay->free_pool[index] = overlay->cap_pool[index] - (int64_t)use.pool_bytes;
    overlay->cap_disk[index] = capacity_of(host->status.disk_bytes);
    overlay->free_disk[index] = overlay->cap_disk[index] > 0
                                    ? overlay->cap_disk[index] - (int64_t)use.disk_bytes
                                    : INT64_MAX;
    overlay->vms[index] = use.vms;
}

static int hosts_fill(struct overlay *overlay, const struct state *state)
{
    size_t cursor = 0;
    const struct host *host;
    int r = reserve(overlay, (uint32_t)state_count(state, KIND_HOST) + 1);
    overlay->count = 0;
    u64_map_free(overlay->index);
    overlay->index = u64_map_new();
    if (r < 0 || overlay->index == NULL) {
        return -ENOMEM;
    }
    while ((host = state_next(state, KIND_HOST, &cursor)) != NULL) {
        overlay->hosts[overlay->count++] = host;
    }
    qsort(overlay->hosts, overlay->count, sizeof(const struct host *), by_uid);
    for (uint32_t i = 0; i < overlay->count; i++) {
        host_fill(overlay, i, state);
        if (u64_map_put(overlay->index, overlay->hosts[i]->meta.uid,
                        (void *)((uintptr_t)i + 1)) < 0) {
            return -ENOMEM;
        }
    }
    return 0;
}

int overlay_sync(struct overlay *overlay, const struct state *state)
{
    if (overlay->state == state && overlay->revision == state_revision(state)) {
        overlay_undo(overlay, 0);
        return 0;
    }
    overlay->change_count = 0;
    overlay->state = NULL;
    int r = hosts_fill(overlay, state);
    if (r < 0) {
        overlay->count = 0;
        return r;
    }
    overlay->state = state;
    overlay->revision = state_revision(state);
    return 0;
}

int64_t overlay_index(const struct overlay *overlay, uint64_t host)
{
    uintptr_t found = host != 0 && overlay->index != NULL
                          ? (uintptr_t)u64_map_get(overlay->index, host)
                          : 0;
    return (int64_t)found - 1;
}

/* times is 1 to take it, -1 to give it back. */
static void use(struct overlay *overlay, const struct overlay_change *change, int times)
{
    uint32_t index = change->host;
    overlay->free_mcpu[index] -= times * change->mcpu;
    overlay->free_bytes[index] -= times * change->bytes;
    overlay->free_pool[index] -= times * change->pool;
    overlay->free_disk[index] -= overlay->cap_disk[index] > 0 ? times * change->disk : 0;
    overlay->vms[index] = (uint32_t)((int)overlay->vms[index] + times * (int)change->vms);
}

static int change_add(struct overlay *overlay, const struct overlay_change *change)
{
    if (overlay->change_count == overlay->change_capacity) {
        uint32_t capacity =
            overlay->change_capacity == 0 ? 64 : overlay->change_capacity * 2;
        if (grow(&overlay->changes, sizeof(*overlay->changes), capacity) < 0) {
            return -ENOMEM;
        }
        overlay->change_capacity = capacity;
    }
    overlay->changes[overlay->change_count++] = *change;
    return 0;
}

static int take(struct overlay *overlay,
                uint32_t index,
                const struct machine_spec *machine,
                uint64_t group,
                bool kept)
{
    REQUIRE(index < overlay->count);
    const struct overlay_change change = {
        .host = index,
        .mcpu = (int64_t)machine_mcpu(machine),
        .bytes = (int64_t)machine_plain_bytes(machine),
        .pool = (int64_t)machine_pool_bytes(machine),
        .disk = kept ? 0 : (int64_t)machine_disk_bytes(machine),
        .vms = kept ? 0 : 1,
        .group = group};
    int r = change_add(overlay, &change);
    if (r == 0) {
        use(overlay, &change, 1);
    }
    return r;
}

int overlay_take(struct overlay *overlay,
                 uint32_t index,
                 const struct machine_spec *machine,
                 uint64_t group)
{
    return take(overlay, index, machine, group, false);
}

int overlay_take_kept(struct overlay *overlay,
                      uint32_t index,
                      const struct machine_spec *machine,
                      uint64_t group)
{
    return take(overlay, index, machine, group, true);
}

uint32_t overlay_mark(const struct overlay *overlay)
{
    return overlay->change_count;
}

void overlay_undo(struct overlay *overlay, uint32_t mark)
{
    REQUIRE(mark <= overlay->change_count);
    while (overlay->change_count > mark) {
        const struct overlay_change *change = &overlay->changes[--overlay->change_count];
        if (change->host != NO_HOST) {
            use(overlay, change, -1);
        }
    }
}

/* Where free addresses begin that this step has not given: it gives them in rising order,
 * so behind the last one. */
static uint32_t addresses_begin(const struct overlay *overlay,
                                const struct network *network)
{
    for (uint32_t i = overlay->change_count; i > 0; i--) {
        const struct overlay_change *change = &overlay->changes[i - 1];
        if (change->network == network->meta.uid && change->ipv4 != 0) {
            return change->ipv4 + 1;
        }
    }
    return 0;
}

int overlay_address(struct overlay *overlay,
                    const struct network *network,
                    uint32_t *ret_ipv4)
{
    *ret_ipv4 =
        state_address_free(overlay->state, network, addresses_begin(overlay, network));
    if (*ret_ipv4 == 0) {
        return 0;
    }
    const struct overlay_change change = {
        .host = NO_HOST, .network = network->meta.uid, .ipv4 = *ret_ipv4};
    return change_add(overlay, &change);
}

uint32_t overlay_addresses_left(const struct overlay *overlay,
                                const struct network *network,
                                uint32_t most)
{
    uint32_t from = addresses_begin(overlay, network);
    uint32_t count = 0;
    while (count < most &&
           (from = state_address_free(overlay->state, network, from)) != 0) {
        from++;
        count++;
    }
    return count;
}

bool overlay_has_network_host(const struct overlay *overlay,
                              const struct network *network,
                              uint64_t host)
{
    for (uint32_t i = 0; i < network->status.hosts.count; i++) {
        if (network->status.hosts.items[i].host == host) {
            return true;
        }
    }
    for (uint32_t i = 0; i < overlay->change_count; i++) {
        if (overlay->changes[i].network == network->meta.uid &&
            overlay->changes[i].network_host == host) {
            return true;
        }
    }
    return false;
}

uint32_t overlay_network_hosts(const struct overlay *overlay,
                               const struct network *network)
{
    uint32_t count = network->status.hosts.count;
    for (uint32_t i = 0; i < overlay->change_count; i++) {
        const struct overlay_change *change = &overlay->changes[i];
        count += change->network == network->meta.uid && change->network_host != 0;
    }
    return count;
}

static void
mark_host(const struct overlay *overlay, uint64_t host, uint8_t bit, uint8_t *marks)
{
    int64_t index = overlay_index(overlay, host);
    if (index >= 0) {
        marks[index] = (uint8_t)(marks[index] | bit);
    }
}

void overlay_mark_network_hosts(const struct overlay *overlay,
                                const struct network *network,
                                uint8_t bit,
                                uint8_t *marks)
{
    for (uint32_t i = 0; i < network->status.hosts.count; i++) {
        mark_host(overlay, network->status.hosts.items[i].host, bit, marks);
    }
    for (uint32_t i = 0; i < overlay->change_count; i++) {
        const struct overlay_change *change = &overlay->changes[i];
        if (change->network == network->meta.uid && change->network_host != 0) {
            mark_host(overlay, change->network_host, bit, marks);
        }
    }
}

int overlay_add_network_host(struct overlay *overlay,
                             const struct network *network,
                             uint64_t host)
{
    const struct overlay_change change = {
        .host = NO_HOST, .network = network->meta.uid, .network_host = host};
    return change_add(overlay, &change);
}

void overlay_group_counts(const struct overlay *overlay,
                          const struct group *group,
                          uint32_t *counts)
{
    size_t cursor = 0;
    const struct vm *vm;
    if (overlay->count == 0) {
        return;
    }
    memset(counts, 0, overlay->count * sizeof(*counts));
    while ((vm = state_vm_of_group(overlay->state, group, &cursor)) != NULL) {
        int64_t index = overlay_index(overlay, vm->status.host);
        if (index >= 0) {
            counts[index]++;
        }
    }
    for (uint32_t i = 0; i < overlay->change_count; i++) {
        const struct overlay_change *change = &overlay->changes[i];
        if (change->host != NO_HOST && change->group == group->meta.uid) {
            counts[change->host]++;
        }
    }
}
