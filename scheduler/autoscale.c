#include "scheduler/autoscale.h"

#include "base/clock.h"
#include "base/plural.h"
#include "base/u64_map.h"
#include "scheduler/step.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FORGET_NS (60 * NS_PER_S)
#define PRUNE_MAX 64 /* per call; the rest next time */

/* Highest wish per slice of the stable window. */
struct wishes {
    uint64_t looked_ns;      /* last decision */
    uint64_t scaled_wall_ms; /* the group's, as it was then */
    int64_t scaled_ns;       /* when that was; may lie before the clock's start */
    uint64_t since_ns;       /* of the first wish */
    uint64_t last_ns;        /* of the newest */
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

void autoscaler_prune(struct autoscaler *autoscaler, uint64_t now_ns)
{
    uint64_t gone[PRUNE_MAX];
    unsigned count = 0;
    size_t cursor = 0;
    uint64_t uid;
    void *value;
    while (autoscaler->groups != NULL && count < PRUNE_MAX &&
           u64_map_next(autoscaler->groups, &cursor, &uid, &value)) {
        const struct wishes *wishes = value;
        if (now_ns > wishes->looked_ns && now_ns - wishes->looked_ns > FORGET_NS) {
            gone[count++] = uid;
        }
    }
    for (unsigned i = 0; i < count; i++) {
        free(u64_map_remove(autoscaler->groups, gone[i]));
    }
}

/* ---- looking
 * ----------------------------------------------------------------------------------------
 */

static uint32_t clamp(uint32_t value, uint32_t low, uint32_t high)
{
    return value < low ? low : value > high ? high : value;
}

/* One target's view of the group: ready, coming, ended and the sum of loads. */
struct measure {
    uint32_t ready;
    uint32_t coming;
    uint32_t ended;
    uint32_t unknown; /* of those ended: they may run */
    uint64_t sum_permille;
};

static struct measure measure_group(const struct load_table *loads,
                                    const struct state *state,
                                    const struct group *group,
                                    uint64_t window_ns,
                                    uint64_t now_ns)
{
    struct measure measure = {0};
    size_t cursor = 0;
    const struct vm *vm;
    while ((vm = state_vm_of_group(state, group, &cursor)) != NULL) {
        bool works = vm->status.phase == PHASE_READY &&
                     load_table_warm(loads, vm->meta.uid, window_ns, now_ns);
        int load = works ? load_table_mean(loads, vm->meta.uid, window_ns, now_ns) : -1;
        if (load >= 0) {
            measure.ready++;
            measure.sum_permille += (uint32_t)load;
        } else if (vm->status.intent == STOP_INTENT_DELETE) {
            continue;
        } else if (vm->status.phase == PHASE_LOST || vm->spec.power == POWER_OFF ||
                   (vm_has_ended(vm) && !vm_restarts(state, vm))) {
            measure.ended++;
            measure.unknown += state_place_unknown(state, vm) ? 1U : 0U;
        } else {
            measure.coming++;
        }
    }
    return measure;
}

static uint32_t wish_of(uint32_t desired, const struct measure *measure, uint32_t target)
{
    uint64_t mean = measure->sum_permille / measure->ready;
    uint64_t off = mean > target ? mean - target : target - mean;
    if (off * 1000 <= (uint64_t)target * AUTOSCALE_TOLERANCE_PERMILLE) {
        return desired;
    }
    uint64_t load = measure->sum_permille;
    if (mean < target) {
        load += (uint64_t)measure->coming * target;
    }
    uint64_t wish = (load + target - 1) / target + measure->ended;
    bool turned = mean > target ? wish < desired : wish > desired;
    return turned ? desired : (uint32_t)wish;
}

void autoscale_look(const struct load_table *loads,
                    const struct state *state,
                    const struct group *group,
                    uint64_t now_ns,
                    struct autoscale_view *ret_view)
{
    const struct autoscale *spec = &group->spec.autoscale;
    uint32_t desired = group->status.desired;
    struct autoscale_view view = {.mean_permille = -1, .wish = desired};
    bool blind = false;
    for (uint32_t i = 0; i < spec->targets.count; i++) {
        const struct scale_target *target = &spec->targets.items[i];
        struct measure measure =
            measure_group(loads, state, group, target->window_ms * NS_PER_MS, now_ns);
        blind = blind || measure.ready == 0 || measure.unknown > 0;
        if (measure.ready == 0) {
            if (view.target_permille == 0) { /* until one is measured */
                view.target_permille = target->target_permille;
            }
            continue;
        }
        uint32_t wish = wish_of(desired, &measure, target->target_permille);
        if (view.mean_permille < 0 || wish > view.wish) {
            view.ready = measure.ready;
            view.coming = measure.coming;
            view.ended = measure.ended;
            view.mean_permille = (int)(measure.sum_permille / measure.ready);
            view.target_permille = target->target_permille;
            view.window_ms = target->window_ms;
            view.wish = wish;
        }
    }
    if (blind && view.wish < desired) {
        view.wish = desired;
    }
    view.wish = clamp(view.wish, spec->min, spec->max);
    *ret_view = view;
}

/* ---- remembering
 * ------------------------------------------------------------------------------------ */

/* A group that this leader has not met: when it was scaled is known by wall time only,
 * which other leaders' clocks have written. */
static struct wishes *wishes_new(struct autoscaler *autoscaler,
                                 const struct group *group,
                                 uint64_t now_ns,
                                 uint64_t wall_ms)
{
    uint64_t scaled_wall_ms = group->status.scaled_wall_ms;
    uint64_t ago_ms = wall_ms > scaled_wall_ms ? wall_ms - scaled_wall_ms : 0;
    struct wishes *wishes = calloc(1, sizeof(*wishes));
    if (wishes == NULL || u64_map_put(autoscaler->groups, group->meta.uid, wishes) < 0) {
        free(wishes);
        return NULL;
    }
    wishes->scaled_wall_ms = scaled_wall_ms;
    wishes->scaled_ns = (int64_t)now_ns - (int64_t)(ago_ms * NS_PER_MS);
    return wishes;
}

static struct wishes *wishes_of(struct autoscaler *autoscaler,
                                const struct group *group,
                                uint64_t now_ns,
                                uint64_t wall_ms)
{
    if (autoscaler->groups == NULL) {
        return NULL;
    }
    struct wishes *wishes = u64_map_get(autoscaler->groups, group->meta.uid);
    if (wishes == NULL &&
        (wishes = wishes_new(autoscaler, group, now_ns, wall_ms)) == NULL) {
        return NULL;
    }
    if (wishes->scaled_wall_ms != group->status.scaled_wall_ms) {
        wishes->scaled_wall_ms = group->status.scaled_wall_ms;
        wishes->scaled_ns = (int64_t)now_ns;
    }
    wishes->looked_ns = now_ns;
    return wishes;
}

static void
wish_note(struct wishes *wishes, uint64_t stable_ns, uint32_t wish, uint64_t now_ns)
{
    uint64_t slice_ns = stable_ns / (AUTOSCALE_BUCKETS - 2) + 1;
    /* New, or the group's stable window was changed, or a part of it went unseen. */
    if (wishes->slice_ns != slice_ns || now_ns - wishes->last_ns > AUTOSCALE_GAP_NS) {
        memset(wishes->buckets, 0, sizeof(wishes->buckets));
        wishes->slice_ns = slice_ns;
        wishes->since_ns = now_ns;
    }
    wishes->last_ns = now_ns;
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
                   "cpu %d %% of %u VM%s over %llu s, target %u %%: %u -> %u",
                   (view->mean_permille + 5) / 10, view->ready, plural_s(view->ready),
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
    struct wishes *wishes = wishes_of(autoscaler, group, now_ns, wall_ms);
    if (bounded != desired) {
        (void)snprintf(ret_reason, AUTOSCALE_REASON_SIZE, "min %u, max %u: %u -> %u",
                       spec->min, spec->max, desired, bounded);
        return bounded;
    }
    if (view->mean_permille < 0 || wishes == NULL) {
        return desired;
    }
    uint64_t since_ms = (uint64_t)((int64_t)now_ns - wishes->scaled_ns) / NS_PER_MS;
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
