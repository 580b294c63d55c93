/* What the parts of one scheduling step share: the inputs, the overlay, the batch being
 * filled.
 *
 * Each part (hosts, drain, restart, autoscale, groups, placement, networks) is one
 * function that looks at the state and adds commands; a full batch ends the step, the
 * rest follows in the next one. No part proposes what apply would refuse, or what changes
 * nothing: a step whose commands were all applied finds less to do, until there is
 * nothing.
 */
#pragma once

#include "scheduler/autoscale.h"
#include "scheduler/host_watch.h"
#include "scheduler/load_table.h"
#include "scheduler/overlay.h"
#include "scheduler/place.h"
#include "scheduler/scheduler.h"

#define STEP_TENANTS_MAX 64 /* that get new VMs in one step; the others in the next */

/* What a tenant's new VMs of this step add to its use. */
struct step_promise {
    const char *tenant;
    struct usage usage;
};

struct step {
    const struct state *state;
    struct overlay *overlay;
    struct host_watch *watch;
    struct load_table *loads;
    struct autoscaler *autoscaler;
    struct decisions *decisions;
    uint64_t now_ns;
    uint64_t wall_ms;
    bool hosts_failing; /* some host is suspect: nothing shrinks meanwhile */
    bool vms_deleted;   /* VMs that were nowhere: who is pending is not known any more */
    uint64_t due_ns;    /* when something in the future becomes due; parts lower it */
    struct placement kind; /* the kind of VM asked about last */
    bool kind_fits;        /* somewhere, when asked last */
    struct step_promise promises[STEP_TENANTS_MAX];
    uint32_t promise_count;
    uint32_t admitted;
};

/* The next command of the batch, initialised, subject "system"; NULL when the batch is
 * full. */
struct command *step_add(struct step *step, enum command_type type);
bool step_full(const struct step *step);
/* Something becomes due at that wall time. */
void step_due_wall(struct step *step, uint64_t wall_ms);

/* The best host for the VM, as an index of the overlay, or -1. Asking for many VMs of one
 * kind in a row is cheap. */
int64_t step_best(struct step *step, const struct vm *vm);
/* The VM asked about last goes there. 0 or -ENOMEM. */
int step_take(struct step *step, uint32_t index);
void step_fini(struct step *step);

/* Failed or stopped; and whether it is to be started again by itself. */
bool vm_has_ended(const struct vm *vm);
bool vm_restarts(const struct state *state, const struct vm *vm);
/* Whether its back-off is over. A wait that is longer than any it could have been given
 * was written by another clock, and counts for nothing. */
bool vm_backoff_over(const struct vm *vm, uint64_t wall_ms);

/* The host is drained and up, and the VM on it: it stops there or goes elsewhere. */
bool host_sends_away(const struct host *host, const struct vm *vm);

void step_watch_hosts(struct step *step);
void step_keep_room(struct step *step);
void step_restart(struct step *step);
void step_autoscale(struct step *step);
void step_groups(struct step *step);
void step_place(struct step *step);
void step_drain(struct step *step);
void step_network_hosts(struct step *step);

/* What explain looks at. */
const struct host_watch *scheduler_watch(const struct scheduler *scheduler);
const struct load_table *scheduler_loads(const struct scheduler *scheduler);
/* The state without speculation; synced by whoever asks. */
struct overlay *scheduler_look(const struct scheduler *scheduler);

/* What kinds of VMs were told lately of why they wait: true of one state at one revision,
 * and until a host is heard, whose disk may have filled. */
#define WAITS_MAX       8
#define WAITS_TEXT_SIZE 256
struct waits {
    const struct state *state;
    uint64_t revision;
    uint32_t count; /* ever; the newest WAITS_MAX are there */
    struct {
        struct placement kind; /* its request alone */
        bool none;             /* no host takes it */
        char text[WAITS_TEXT_SIZE];
    } rows[WAITS_MAX];
};
struct waits *scheduler_waits(const struct scheduler *scheduler);
