/* How many VMs a group should have, by measured load. Pure.
 *
 * Target tracking: wish = ceil(load / target); the largest wish of several targets wins;
 * within TOLERANCE of the target nothing changes. VMs that are coming (not ready for the
 * target's window yet, 30 s at most, or not measured: what a guest burns to boot is no
 * load of the group) count as idle when the wish is to grow and as working at the target
 * when it is to shrink, so that neither direction runs away while they start; VMs that
 * have ended for good do no work and are wished for anew. Up: at once, step and cool-down
 * limited. Down: only to the highest wish of the whole stable window, step and cool-down
 * limited, and never while a target cannot be measured, or it is not known where one of
 * the VMs is (state_place_unknown): it may do work. Shapes: struct autoscaler
 * remembers the wishes of each group; it is soft state, so a new leader waits a full
 * stable window before it shrinks anything, and so does one whose measurements had a gap.
 * Cool-downs go by the monotonic clock once this leader has seen the change, by the log's
 * wall time before. Units: permille, monotonic ns, wall ms. Threads: one. Errors: -ENOMEM
 * leaves a group as it is.
 */
#pragma once

#include "model/state.h"
#include "scheduler/load_table.h"

#include <stdbool.h>
#include <stdint.h>

#define AUTOSCALE_TOLERANCE_PERMILLE 100
#define AUTOSCALE_EVERY_NS           UINT64_C(1000000000)
#define AUTOSCALE_BUCKETS            64                    /* of a stable window */
#define AUTOSCALE_GAP_NS             UINT64_C(10000000000) /* without a wish: begin anew */
#define AUTOSCALE_REASON_SIZE        256

struct autoscaler;

struct autoscaler *autoscaler_new(void);
struct autoscaler *autoscaler_free(struct autoscaler *autoscaler);
void autoscaler_forget(struct autoscaler *autoscaler);
/* Forgets groups that were not asked for lately: they are gone. */
void autoscaler_prune(struct autoscaler *autoscaler, uint64_t now_ns);

/* What one look at the load says. */
struct autoscale_view {
    uint32_t ready;    /* VMs that are ready, warm and measured */
    uint32_t coming;   /* VMs that are not yet */
    uint32_t ended;    /* VMs that will not be by themselves */
    int mean_permille; /* of the ready ones, of the target that wishes most; -1: nothing
                          measured */
    uint32_t target_permille; /* that one; the first while nothing is measured */
    uint64_t window_ms;
    uint32_t wish; /* within min and max */
};
void autoscale_look(const struct load_table *loads,
                    const struct state *state,
                    const struct group *group,
                    uint64_t now_ns,
                    struct autoscale_view *ret_view);

/* The number that group.status.desired should be now; reason (AUTOSCALE_REASON_SIZE) when
 * it differs. may_shrink is false while hosts are failing. */
uint32_t autoscaler_decide(struct autoscaler *autoscaler,
                           const struct group *group,
                           const struct autoscale_view *view,
                           bool may_shrink,
                           uint64_t now_ns,
                           uint64_t wall_ms,
                           char *ret_reason);
