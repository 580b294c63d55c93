/* Where a VM may go, and where it goes best. Pure.
 *
 * Feasibility is a table of filters, each with a reason and a nearest fix in words
 * (explain shows them); a host that passes all of them is scored: fewer VMs of the same
 * group first, then best fit by the smallest sum of squared remainders (norm-based
 * greedy, L2, of Panigrahy et al., "Heuristics for Vector Bin Packing"), then the lower
 * uid. Fewer-of-the-group-first spreads every group without being asked; spread.max makes
 * it a rule. Threads: one. Errors: -ENOMEM; BERTH_EINVALID for rules that do not compile
 * (apply has checked them).
 */
#pragma once

#include "base/err.h"
#include "model/expression.h"
#include "scheduler/overlay.h"

#define PLACE_VMS_PER_HOST_MAX 1000 /* what a heartbeat and a host's orders can carry */
#define PLACE_TEXT_SIZE        256

struct placement {
    const struct machine_spec *machine; /* borrowed */
    const struct group *group;          /* or NULL; borrowed */
    uint64_t here;                      /* host that holds it now, for explain; or 0 */
    struct expression *rules;
    uint32_t rule_count;
    uint32_t *group_counts; /* per overlay index; NULL without group */
};

/* Compiles rules and counts the group; placement_fini afterwards, on error too. */
int placement_init(struct placement *placement,
                   const struct overlay *overlay,
                   const struct state *state,
                   const struct machine_spec *machine,
                   const struct group *group);
void placement_fini(struct placement *placement);

/* The best host's index, or -1 when none fits. */
int64_t placement_best(const struct placement *placement, const struct overlay *overlay);
/* Whether it fits there. When not: the first failing filter's reason and fix (each
 * PLACE_TEXT_SIZE; may be NULL). */
bool placement_fits(const struct placement *placement,
                    const struct overlay *overlay,
                    uint32_t index,
                    char *ret_reason,
                    char *ret_fix);
/* After overlay_take: the next VM of the same group sees this one. */
void placement_took(struct placement *placement, uint32_t index);
