/* What a leader knows beyond the log, for people. */
#include "agent/leader_internal.h"

#include <stdio.h>

#define CPU_WINDOW_MS 5000

bool leader_image_lacks(const struct leader *leader,
                        const char *tenant,
                        const char *image_name,
                        uint64_t host,
                        struct image_lack *ret_lack)
{
    uint64_t heard_wall_ms = 0;
    struct host_load load;
    return (host == 0 ||
            scheduler_host_seen(leader->scheduler, host, &heard_wall_ms, &load)) &&
           orders_book_lacks(leader->book, tenant, image_name, host, ret_lack);
}

uint64_t leader_cpu_window_ns(const struct vm *vm, uint64_t now_wall_ms)
{
    uint64_t since_ms = vm->status.running_wall_ms;
    if ((vm->status.phase != PHASE_RUNNING && vm->status.phase != PHASE_READY) ||
        now_wall_ms <= since_ms) {
        return 0;
    }
    uint64_t past_ms = now_wall_ms - since_ms;
    return (past_ms < CPU_WINDOW_MS ? past_ms : CPU_WINDOW_MS) * NS_PER_MS;
}

json_t *leader_vm_live(const struct leader *leader, const struct vm *vm)
{
    const struct clock *clock = leader->config.clock;
    uint64_t window_ns = leader_cpu_window_ns(vm, clock_wall_ms(clock));
    int cpu = window_ns > 0 ? scheduler_vm_cpu(leader->scheduler, vm->meta.uid, window_ns,
                                               clock_now_ns(clock))
                            : -1;
    json_t *live = json_object();
    bool known =
        cpu >= 0 && json_object_set_new(live, "cpuPermille", json_integer(cpu)) == 0;
    known = (window_ns > 0 && vm_rates_tell(leader->rates, vm->meta.uid, vm->status.epoch,
                                            clock_now_ns(clock), live)) ||
            known;
    if (!known) {
        json_decref(live);
        live = NULL;
    }
    return live;
}

json_t *leader_host_live(const struct leader *leader, const struct host *host)
{
    uint64_t heard_wall_ms = 0;
    struct host_load load;
    if (!scheduler_host_seen(leader->scheduler, host->meta.uid, &heard_wall_ms, &load)) {
        return NULL;
    }
    char when[CLOCK_TEXT_SIZE];
    clock_format(heard_wall_ms, when);
    uint64_t placed = 0;
    uint64_t pool = 0;
    json_int_t vms = 0;
    size_t cursor = 0;
    const struct vm *vm;
    while ((vm = state_vm_on_host(control_state(leader->config.control), host->meta.uid,
                                  &cursor)) != NULL) {
        if (vm_phase_on_host(vm->status.phase)) {
            placed += machine_plain_bytes(&vm->spec.machine);
            pool += machine_pool_bytes(&vm->spec.machine);
            vms++;
        }
    }
    /* Kept disks of VMs that have stopped, too: their place is taken. */
    uint64_t disk =
        state_host_use(control_state(leader->config.control), host->meta.uid).disk_bytes;
    const struct heard *heard = u64_map_get(leader->hosts, host->meta.uid);
    const char *fence =
        fence_health_names[heard == NULL ? FENCE_HEALTH_UNKNOWN : heard->fence];
    char levels[24] = "";
    struct level_range range;
    if (level_watch_range(leader->levels, host->meta.uid, &range)) {
        (void)snprintf(levels, sizeof(levels), "%u-%u", range.min, range.max);
    }
    char clash[ADMISSION_CLASH_SIZE];
    bool clashes = admission_address_clash(control_state(leader->config.control),
                                           host->meta.name, host->status.address, clash);
    return json_pack("{s:s, s:s*, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:b}",
                     "lastHeard", when, "clash", clashes ? clash : NULL, "fence", fence,
                     "levels", levels, "cpuUsedMcpu", (json_int_t)load.cpu_used_mcpu,
                     "memoryUsedBytes", (json_int_t)load.memory_used_bytes,
                     "diskFreeBytes", (json_int_t)load.disk_free_bytes, "vms", vms,
                     "memoryPlacedBytes", (json_int_t)placed, "hugePagesPlacedBytes",
                     (json_int_t)pool, "diskPlacedBytes", (json_int_t)disk, "leader",
                     host->meta.uid == leader->config.identity->uid);
}

const struct scheduler *leader_scheduler(const struct leader *leader)
{
    return leader->scheduler;
}
