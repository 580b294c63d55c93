#include "base/clock.h"
#include "base/require.h"
#include "scheduler/step.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PRUNE_NS (10 * NS_PER_S)
#define SWEEP_NS (5 * NS_PER_S)    /* between looks for networks that left a host */
#define TICK_NS  (100 * NS_PER_MS) /* hosts and load are looked at again at the latest */

struct scheduler {
    struct overlay overlay;
    struct overlay *look; /* without speculation, for questions */
    struct waits *waits;
    struct host_watch *watch;
    struct load_table *loads;
    struct autoscaler *autoscaler;
    uint64_t autoscale_ns; /* last look at the load */
    uint64_t prune_ns;
    uint64_t sweep_ns;
    uint64_t sweep_revision; /* of the state, when it was swept last */
    uint64_t due_ns;
};

struct scheduler *scheduler_new(void)
{
    struct scheduler *scheduler = calloc(1, sizeof(*scheduler));
    if (scheduler == NULL) {
        return NULL;
    }
    overlay_init(&scheduler->overlay);
    scheduler->look = calloc(1, sizeof(*scheduler->look));
    scheduler->waits = calloc(1, sizeof(*scheduler->waits));
    scheduler->watch = host_watch_new();
    scheduler->loads = load_table_new();
    scheduler->autoscaler = autoscaler_new();
    if (scheduler->look != NULL) {
        overlay_init(scheduler->look);
    }
    if (scheduler->look == NULL || scheduler->waits == NULL || scheduler->watch == NULL ||
        scheduler->loads == NULL || scheduler->autoscaler == NULL) {
        return scheduler_free(scheduler);
    }
    return scheduler;
}

struct scheduler *scheduler_free(struct scheduler *scheduler)
{
    if (scheduler != NULL) {
        overlay_fini(&scheduler->overlay);
        if (scheduler->look != NULL) {
            overlay_fini(scheduler->look);
        }
        free(scheduler->look);
        free(scheduler->waits);
        host_watch_free(scheduler->watch);
        load_table_free(scheduler->loads);
        autoscaler_free(scheduler->autoscaler);
        free(scheduler);
    }
    return NULL;
}

void scheduler_lead(struct scheduler *scheduler, uint64_t now_ns)
{
    host_watch_lead(scheduler->watch, now_ns);
    autoscaler_forget(scheduler->autoscaler);
    overlay_forget(&scheduler->overlay);
    overlay_forget(scheduler->look);
    scheduler->waits->state = NULL;
    scheduler->autoscale_ns = now_ns;
    scheduler->prune_ns = now_ns;
    scheduler->sweep_ns = now_ns;
    scheduler->sweep_revision = 0;
    scheduler->due_ns = now_ns;
}

int scheduler_host_heard(struct scheduler *scheduler,
                         uint64_t host,
                         const struct host_load *load,
                         uint64_t now_ns,
                         uint64_t wall_ms)
{
    scheduler->waits->state = NULL;
    return host_watch_heard(scheduler->watch, host, load, now_ns, wall_ms);
}

int scheduler_host_ranges(struct scheduler *scheduler,
                          uint64_t host,
                          const struct host_range *ranges,
                          uint32_t count)
{
    scheduler->waits->state = NULL;
    return host_watch_set_ranges(scheduler->watch, host, ranges, count);
}

int scheduler_host_carries(struct scheduler *scheduler,
                           uint64_t host,
                           const uint32_t *vnis,
                           uint32_t count)
{
    scheduler->waits->state = NULL;
    return host_watch_set_carried(scheduler->watch, host, vnis, count);
}

bool scheduler_may_renew(struct scheduler *scheduler,
                         const struct host *host,
                         bool orders_taken)
{
    return host_watch_may_renew(scheduler->watch, host, orders_taken);
}

void scheduler_vm_load(struct scheduler *scheduler,
                       uint64_t vm,
                       uint32_t cpu_permille,
                       bool ready,
                       uint64_t now_ns)
{
    load_table_add(scheduler->loads, vm, cpu_permille, ready, now_ns);
}

bool scheduler_host_seen(const struct scheduler *scheduler,
                         uint64_t host,
                         uint64_t *ret_heard_wall_ms,
                         struct host_load *ret_load)
{
    return host_watch_seen(scheduler->watch, host, ret_heard_wall_ms, ret_load);
}

int scheduler_vm_cpu(const struct scheduler *scheduler,
                     uint64_t vm,
                     uint64_t window_ns,
                     uint64_t now_ns)
{
    return load_table_mean(scheduler->loads, vm, window_ns, now_ns);
}

const struct host_watch *scheduler_watch(const struct scheduler *scheduler)
{
    return scheduler->watch;
}

struct overlay *scheduler_look(const struct scheduler *scheduler)
{
    return scheduler->look;
}

struct waits *scheduler_waits(const struct scheduler *scheduler)
{
    return scheduler->waits;
}

const struct load_table *scheduler_loads(const struct scheduler *scheduler)
{
    return scheduler->loads;
}

/* ---- the batch
 * --------------------------------------------------------------------------------------
 */

bool step_full(const struct step *step)
{
    return step->decisions->count >= DECISIONS_MAX;
}

struct command *step_add(struct step *step, enum command_type type)
{
    if (step_full(step)) {
        return NULL;
    }
    struct command *command = &step->decisions->commands[step->decisions->count++];
    command_init(command, type);
    (void)snprintf(command->subject, sizeof(command->subject), "system");
    return command;
}

void step_due_wall(struct step *step, uint64_t wall_ms)
{
    uint64_t wait_ms = wall_ms > step->wall_ms ? wall_ms - step->wall_ms : 0;
    uint64_t due_ns = step->now_ns + wait_ms * NS_PER_MS;
    if (due_ns < step->due_ns) {
        step->due_ns = due_ns;
    }
}

void decisions_fini(struct decisions *decisions)
{
    for (uint32_t i = 0; i < decisions->count; i++) {
        command_fini(&decisions->commands[i]);
    }
    decisions->count = 0;
}

/* ---- where VMs of one kind go ---- */

int64_t step_best(struct step *step, const struct vm *vm)
{
    struct place_request request;
    place_request_of(step->state, vm, &request);
    if (!placement_is_for(&step->kind, &request)) {
        placement_fini(&step->kind);
        if (placement_init(&step->kind, &request, step->overlay, step->watch) < 0) {
            placement_fini(&step->kind);
            return -1;
        }
        step->kind_fits = true;
    }
    if (!step->kind_fits) {
        return -1; /* within a step room only becomes less */
    }
    int64_t best = placement_best(&step->kind);
    step->kind_fits = best >= 0;
    return best;
}

int step_take(struct step *step, uint32_t index)
{
    const struct group *group = step->kind.request.group;
    const struct place_request *request = &step->kind.request;
    uint64_t group_uid = group != NULL ? group->meta.uid : 0;
    int r = request->kept
                ? overlay_take_kept(step->overlay, index, request->machine, group_uid)
                : overlay_take(step->overlay, index, request->machine, group_uid);
    if (r == 0) {
        placement_took(&step->kind, index);
    }
    return r;
}

void step_fini(struct step *step)
{
    placement_fini(&step->kind);
}

/* ---- one step
 * ---------------------------------------------------------------------------------------
 */

static void
housekeeping(struct scheduler *scheduler, const struct state *state, uint64_t now_ns)
{
    if (now_ns - scheduler->prune_ns >= PRUNE_NS) {
        load_table_prune(scheduler->loads, state);
        autoscaler_prune(scheduler->autoscaler, now_ns);
        scheduler->prune_ns = now_ns;
    }
}

static bool is_due(uint64_t *last_ns, uint64_t every_ns, uint64_t now_ns)
{
    if (now_ns - *last_ns < every_ns) {
        return false;
    }
    *last_ns = now_ns;
    return true;
}

/* VMs that wait for a place come before those that could be sent away for one: whoever
 * left for the same room would find it taken. */
static void decide(struct scheduler *scheduler, struct step *step)
{
    const uint64_t revision = state_revision(step->state);
    step_keep_room(step);
    step_restart(step);
    if (is_due(&scheduler->autoscale_ns, AUTOSCALE_EVERY_NS, step->now_ns)) {
        step_autoscale(step);
    }
    step_groups(step);
    step_place(step);
    step_drain(step);
    if (revision != scheduler->sweep_revision &&
        is_due(&scheduler->sweep_ns, SWEEP_NS, step->now_ns)) {
        scheduler->sweep_revision = revision;
        step_network_hosts(step);
    }
    housekeeping(scheduler, step->state, step->now_ns);
}

/* Hosts first, since everything else depends on which are there: when one of them moves,
 * the rest is decided once that is in the log. */
uint32_t scheduler_step(struct scheduler *scheduler,
                        const struct state *state,
                        uint64_t now_ns,
                        uint64_t wall_ms,
                        struct decisions *ret_decisions)
{
    struct step step = {.state = state,
                        .overlay = &scheduler->overlay,
                        .watch = scheduler->watch,
                        .loads = scheduler->loads,
                        .autoscaler = scheduler->autoscaler,
                        .decisions = ret_decisions,
                        .now_ns = now_ns,
                        .wall_ms = wall_ms,
                        .due_ns = now_ns + TICK_NS};
    ret_decisions->count = 0;
    step_watch_hosts(&step);
    if (ret_decisions->count == 0 && overlay_sync(&scheduler->overlay, state) == 0) {
        decide(scheduler, &step);
    } /* out of memory: the next tick tries again */
    step_fini(&step);
    scheduler->due_ns = step.due_ns;
    return ret_decisions->count;
}

uint64_t scheduler_next_ns(const struct scheduler *scheduler,
                           const struct state *state,
                           uint64_t now_ns)
{
    (void)state; /* the last step has looked at it */
    return scheduler->due_ns < now_ns + TICK_NS ? scheduler->due_ns : now_ns + TICK_NS;
}
