/* A state that begins again: restored from a backup, or kept by the last of its voters.
 *
 * What happened after the state's last revision is not known, so nothing that was given
 * out since may be given out once more: revision, uids, network identifiers and every
 * VM's epoch jump over all that can have been. Hosts that do not go on are retired: their
 * records stay, for VMs that wait for them, but no key fits them any more, so they have
 * to join again. All VMs that may be restarted elsewhere count as lost where they were,
 * and start again under their new epochs. Those that wait for their host may run wherever
 * they were sent since, without a lease: their place is unknown (state_place_unknown),
 * and nothing starts them before a host says that it runs them or their user says so.
 * Before LEVEL_PLACE_UNKNOWN they go on waiting for the host that the state names. The
 * caller has waited until no lease from before can be valid. Units: wall ms. Threads:
 * pure. Errors: BERTH_EFULL when a counter has no room left. Limits: a jump is
 * REBIRTH_STEP at least and by the clock beyond that, so that two rebirths of one backup
 * do not meet either; counters of both stay below 2^53 for readers with floating point.
 */
#pragma once

#include "base/err.h"
#include "model/state.h"

#define REBIRTH_STEP     (UINT64_C(1) << 32) /* of revisions and epochs, at least */
#define REBIRTH_UID_STEP (UINT64_C(1) << 24)
#define REBIRTH_VNI_STEP (UINT32_C(1) << 16)

struct rebirth {
    uint64_t wall_ms;
    /* A new cluster: its identity is given by the first host that joins, as that of any
     * new cluster; else it stays. */
    bool new_cluster;
    const char *reason; /* for events: "restored from a backup of revision 7" */
    /* Whether a host keeps its key and its place; NULL: none does. */
    bool (*keeps)(void *context, const struct host *host);
    /* Whether it is the one that votes from now on; NULL: none is. */
    bool (*votes)(void *context, const struct host *host);
    void *context;
};

/* Where a counter goes on after a rebirth at that time. */
uint64_t rebirth_jump(uint64_t counter, uint64_t wall_ms);
int state_rebirth(struct state *state, const struct rebirth *rebirth, struct err *err);
