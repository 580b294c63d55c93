/* Where a VM may go, and where it goes best. Pure.
 *
 * Feasibility is a table of filters, each with a name, a reason and a nearest fix in
 * words (explain shows them); a host that passes all of them is scored: fewer VMs of the
 * same group first, then best fit by the smallest sum of squared remainders (norm-based
 * greedy, L2, of Panigrahy et al., "Heuristics for Vector Bin Packing"), then the lower
 * uid. Fewer-of-the-group-first spreads every group without being asked; spread.max makes
 * it a rule.
 *
 * Shapes: struct placement is one kind of VM (machine, group) against one overlay. What
 * only depends on the host (is it up, may it, can it run this) is worked out once, at
 * placement_init; capacity, spread and addresses are looked at anew each time. So many
 * VMs of one kind cost one pass of filters and then a few nanoseconds per host and VM.
 * Threads: one. Ownership: everything in the request is borrowed until placement_fini,
 * and the overlay must not be synced meanwhile. Errors: -ENOMEM; BERTH_EINVALID for rules
 * that do not compile (apply has checked them).
 */
#pragma once

#include "base/err.h"
#include "model/expression.h"
#include "scheduler/host_watch.h"
#include "scheduler/overlay.h"

#define PLACE_VMS_PER_HOST_MAX 600 /* what a host's orders can carry, a KiB each */
#define PLACE_TEXT_SIZE        256

struct place_request {
    const char *tenant;
    const struct machine_spec *machine;
    const struct group *group; /* or NULL */
    bool group_is_new;         /* of a group that is not there yet: none of it anywhere */
    bool has_addresses;        /* its NICs keep theirs */
    uint64_t home; /* host uid: only there, for one of these reasons; 0: any */
    bool kept;     /* it keeps the VM's disks, which have their place there */
    bool restores; /* it has the snapshot that the VM begins from */
};

/* One network of the machine. */
struct place_network {
    const struct network *network;
    uint32_t addresses; /* that the VM itself needs */
};

struct placement { /* fields private */
    struct place_request request;
    const struct overlay *overlay;
    const struct host_watch *watch; /* or NULL */
    struct expression *rules;
    uint32_t rule_count;
    uint8_t *open;          /* per host: passes what depends on the host alone */
    uint32_t *group_counts; /* per host; NULL without group */
    struct place_network networks[NICS_MAX];
    uint32_t network_count;
    uint8_t *members; /* per host: bit n: has an address in networks[n] */
    uint8_t must;     /* these bits: no address is left for another host */
    int full;         /* network without addresses for the VM itself, or -1 */
};

/* What a VM of the state asks for. */
void place_request_of(const struct state *state,
                      const struct vm *vm,
                      struct place_request *ret_request);
/* Compiles rules and counts the group; placement_fini afterwards, on error too. Hosts
 * that `watch` has not heard are not trusted; NULL: all are. */
int placement_init(struct placement *placement,
                   const struct place_request *request,
                   const struct overlay *overlay,
                   const struct host_watch *watch);
void placement_fini(struct placement *placement);
/* Whether it answers this request too: the same kind of VM. */
bool placement_is_for(const struct placement *placement,
                      const struct place_request *request);

/* The best host's index, or -1 when none fits. */
int64_t placement_best(struct placement *placement);
/* Whether it fits there, as of the last placement_best. When not: the first failing
 * filter's name, reason and fix (texts of PLACE_TEXT_SIZE); of one that is about room the
 * texts tell of the others that are, too. */
struct place_refusal {
    const char *rule;
    const char *one; /* "is drained"; of several hosts: "are drained" */
    const char *many;
    char reason[PLACE_TEXT_SIZE];
    char fix[PLACE_TEXT_SIZE];
};
bool placement_fits(const struct placement *placement,
                    uint32_t index,
                    struct place_refusal *ret_refusal);
/* After overlay_take: the next VM of the same group sees this one. */
void placement_took(struct placement *placement, uint32_t index);
