/* Waiting until VMs are in a state that their user wishes for and that does not last only
 * until they are ready: that they are stopped, or stand still.
 *
 * Shapes: a `struct awaited_state` says what is looked for in a VM's document, and what
 * is said of one that is not there. Threads: one. Limits: those of waiting.h.
 */
#pragma once

#include "cli/waiting.h"

struct awaited_state {
    bool (*is_so)(const json_t *vm);
    bool (*is_wished)(const json_t *vm); /* else somebody has changed it meanwhile */
    const char *taken_back;              /* as in "vm/db ..." */
    const char *not_yet;
};

/* Until all are in that state, for --timeout. EXIT_OK, EXIT_TIMED_OUT, EXIT_CONFLICT when
 * somebody else wishes otherwise meanwhile, or a fault's code (said). */
int waiting_state(struct cli *cli,
                  const struct awaited_state *state,
                  const struct waiting_subject *subjects,
                  unsigned count);
/* Their documents as they are now, as -o asks; EXIT_OK, or a fault's code (said). */
int waiting_show(struct cli *cli, const struct waiting_subject *subjects, unsigned count);
