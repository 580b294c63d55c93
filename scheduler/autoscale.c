#include "scheduler/autoscale.h"

#include "base/clock.h"
#include "base/u64_map.h"

#include <stdio.h>
#include <stdlib.h>

/* Highest wish per slice of the stable window. */
struct wishes {
    uint64_t since_ns; /* of the first wish */
    uint64_t slice_ns;
    struct {
        uint64_t slice;
        uint32_t highest;
    } buckets[AUTOSCALE_BUCKETS];
};

struct autoscaler {
    struct u64_map *groups; /* uid -> struct wishes */
};

struct autoscaler *autoscaler_new(void)
{
    struct autoscaler *autoscaler = calloc(1, sizeof(*autoscaler));
    if (autoscaler != NULL && (autoscaler->groups = u64_map_new()) == NULL) {
        free(autoscaler);
        autoscaler = NULL;
    }
    return autoscaler;
}

static void groups_free(struct autoscaler *autoscaler)
{
    size_t cursor = 0;
    uint64_t uid;
    void *wishes;
    while (autoscaler->groups != NULL &&
           u64_map_next(autoscaler->groups, &cursor, &uid, &wishes)) {
        free(wishes);
    }
    u64_map_free(autoscaler->groups);
    autoscaler->groups = NULL;
}

struct autoscaler *autoscaler_free(struct autoscaler *autoscaler)
{
    if (autoscaler != NULL) {
        groups_free(autoscaler);
        free(autoscaler);
    }
    return NULL;
}

void autoscaler_forget(struct autoscaler *autoscaler)
{
    groups_free(autoscaler);
    autoscaler->groups = u64_map_new();
}

/* ---- looking
 * ----------------------------------------------------------------------------------------
 */

static uint32_t clamp(uint32_t value, uint32_t low, uint32_t high)
{
    return value < low ? low : value > high ? high : value;
}

static uint32_t
wish_of(uint32_t desired, uint32_t ready, uint32_t others, uint64_t sum, uint32_t target)
{
    uint64_t mean = sum / ready;
    uint64_t off = mean > target ? mean - target : target - mean;
    if (off * 1000 <= (uint64_t)target * AUTOSCALE_TOLERANCE_PERMILLE) {
        return desired;
    }
    uint64_t load = sum + (uint64_t)others * target;
    return (uint32_t)((load + target - 1) / target);
}

void autoscale_look(const struct load_table *loads,
                    const struct state *state,
                    const struct group *group,
                    uint64_t now_ns,
                    struct autoscale_view *ret_view)
{
    const struct autoscale *spec = &group->spec.autoscale;
    struct autoscale_view view = {.mean_permille = -1, .wish = group->status.desired};
    uint32_t highest = 0;
    for (uint32_t i = 0; i < spec->targets.count; i++) {
        const struct scale_target *target = &spec->targets.items[i];
        uint64_t sum = 0;
        uint32_t ready = 0;
        uint32_t others = 0;
        size_t cursor = 0;
        const struct vm *vm;
        while ((vm = state_vm_of_group(state, group, &cursor)) != NULL) {
            int load = vm->status.phase == PHASE_READY
                           ? load_table_mean(loads, vm->meta.uid,
                                             target->window_ms * NS_PER_MS, now_ns)
                           : -1;
            if (load >= 0) {
                ready++;
                sum += (uint32_t)load;
            } else if (vm->status.intent != STOP_INTENT_DELETE) {
                others++;
            }
        }
        if (ready == 0) {
            continue;
        }
        uint32_t wish =
            wish_of(group->status.desired, ready, others, sum, target->target_permille);
        if (view.mean_permille < 0 || wish > highest) {
            highest = wish;
            view.ready = ready;
            view.others = others;
            view.mean_permille = (int)(sum / ready);
            view.target_permille = target->target_permille;
            view.window_ms = target->window_ms;
            view.wish = wish;
        }
    }
    view.wish = clamp(view.wish, spec->min, spec->max);
    *ret_view = view;
}

/* ---- remembering
 * ------------------------------------------------------------------------------------ */

static struct wishes *wishes_of(struct autoscaler *autoscaler, uint64_t group)
{
    struct wishes *wishes =
        autoscaler->groups != NULL ? u64_map_get(autoscaler->groups, group) : NULL;
    if (wishes == NULL && autoscaler->groups != NULL) {
        wishes = calloc(1, sizeof(*wishes));
        if (wishes == NULL || u64_map_put(autoscaler->groups, group, wishes) < 0) {
            free(wishes);
            wishes = NULL;
        }
    }
    return wishes;
}

static void
wish_note(struct wishes *wishes, uint64_t stable_ns, uint32_t wish, uint64_t now_ns)
{
    uint64_t slice_ns = stable_ns / (AUTOSCALE_BUCKETS - 2) + 1;
    if (wishes->slice_ns !=
        slice_ns) { /* new, or the group's stable window was changed */
        *wishes = (struct wishes){.since_ns = now_ns, .slice_ns = slice_ns};
    }
    uint64_t slice = now_ns / slice_ns;
    unsigned at = (unsigned)(slice % AUTOSCALE_BUCKETS);
    if (wishes->buckets[at].slice != slice) {
        wishes->buckets[at].slice = slice;
        wishes->buckets[at].highest = wish;
    } else if (wish > wishes->buckets[at].highest) {
        wishes->buckets[at].highest = wish;
    }
}

/* Highest wish of the last stable_ns; false while that time has not been watched whole.
 */
static bool wish_highest(const struct wishes *wishes,
                         uint64_t stable_ns,
                         uint64_t now_ns,
                         uint32_t *ret_highest)
{
    uint64_t newest = now_ns / wishes->slice_ns;
    uint64_t oldest =
        (now_ns - (stable_ns < now_ns ? stable_ns : now_ns)) / wishes->slice_ns;
    uint32_t highest = 0;
    if (now_ns - wishes->since_ns < stable_ns) {
        return false;
    }
    for (unsigned i = 0; i < AUTOSCALE_BUCKETS; i++) {
        uint64_t slice = wishes->buckets[i].slice;
        if (slice >= oldest && slice <= newest && wishes->buckets[i].highest > highest) {
            highest = wishes->buckets[i].highest;
        }
    }
    *ret_highest = highest;
    return true;
}

/* ---- deciding
 * ---------------------------------------------------------------------------------------
 */

static void
tell(const struct autoscale_view *view, uint32_t from, uint32_t to, char *ret_reason)
{
    (void)snprintf(ret_reason, AUTOSCALE_REASON_SIZE,
                   "cpu %d %% of %u VMs over %llu s, target %u %%: %u -> %u",
                   (view->mean_permille + 5) / 10, view->ready,
                   (unsigned long long)(view->window_ms / 1000),
                   view->target_permille / 10, from, to);
}

uint32_t autoscaler_decide(struct autoscaler *autoscaler,
                           const struct group *group,
                           const struct autoscale_view *view,
                           bool may_shrink,
                           uint64_t now_ns,
                           uint64_t wall_ms,
                           char *ret_reason)
{
    const struct autoscale *spec = &group->spec.autoscale;
    uint32_t desired = group->status.desired;
    uint32_t bounded = clamp(desired, spec->min, spec->max);
    struct wishes *wishes = wishes_of(autoscaler, group->meta.uid);
    if (bounded != desired) {
        (void)snprintf(ret_reason, AUTOSCALE_REASON_SIZE, "min %u, max %u: %u -> %u",
                       spec->min, spec->max, desired, bounded);
        return bounded;
    }
    if (view->mean_permille < 0 || wishes == NULL) {
        return desired;
    }
    uint64_t since_ms =
        wall_ms -
        (group->status.scaled_wall_ms < wall_ms ? group->status.scaled_wall_ms : wall_ms);
    wish_note(wishes, spec->down.stable_ms * NS_PER_MS, view->wish, now_ns);
    if (view->wish > desired) {
        uint32_t up = clamp(view->wish, 0, desired + spec->up.step);
        if (since_ms < spec->up.cooldown_ms || up == desired) {
            return desired;
        }
        tell(view, desired, up, ret_reason);
        return up;
    }
    uint32_t highest = desired;
    if (!may_shrink || since_ms < spec->down.cooldown_ms ||
        !wish_highest(wishes, spec->down.stable_ms * NS_PER_MS, now_ns, &highest) ||
        highest >= desired) {
        return desired;
    }
    uint32_t down = desired > spec->down.step ? desired - spec->down.step : 0;
    down = down < highest ? highest : down;
    tell(view, desired, down, ret_reason);
    return down;
}
