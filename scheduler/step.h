/* What the parts of one scheduling step share: the inputs, the overlay, the batch being
 * filled.
 *
 * Each part (host_watch, drain, restart, autoscale, group_reconcile, placement) is one
 * function that looks at the state and adds commands; a full batch ends the step, the
 * rest follows in the next one.
 */
#pragma once

#include "scheduler/autoscale.h"
#include "scheduler/host_watch.h"
#include "scheduler/load_table.h"
#include "scheduler/overlay.h"
#include "scheduler/place.h"
#include "scheduler/scheduler.h"

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
    uint64_t due_ns;    /* when something in the future becomes due; parts lower it */
};

/* The next command of the batch, initialised, subject "system"; NULL when the batch is
 * full. */
struct command *step_add(struct step *step, enum command_type type);
bool step_full(const struct step *step);
/* Something becomes due at that wall time. */
void step_due_wall(struct step *step, uint64_t wall_ms);

/* Failed or stopped; and whether it is to be started again by itself. */
bool vm_has_ended(const struct vm *vm);
bool vm_restarts(const struct vm *vm);

void step_watch_hosts(struct step *step);
void step_drain(struct step *step);
void step_restart(struct step *step);
void step_autoscale(struct step *step);
void step_groups(struct step *step);
void step_place(struct step *step);
void step_network_hosts(struct step *step);

/* One look at a group's load, for explain. */
void scheduler_look(const struct scheduler *scheduler,
                    const struct state *state,
                    const struct group *group,
                    uint64_t now_ns,
                    struct autoscale_view *ret_view);
