/* A VM that stands still: for its user, or for as long as it is saved.
 *
 * Nothing else wants that of its engine, so whatever is found standing still without one
 * of the two goes on (vm_entry_care): that is how a daemon that died in the middle of a
 * snapshot is made up for by the next. A VM that is frozen by the lease is left to that.
 * One that waits for its host's disk goes on by itself, but not past its user's pause:
 * that it is told at once. Shapes: agent/vm_entry.h's. Threads: the loop's. Errors: none;
 * what cannot be done now is done when it is asked for again.
 */
#pragma once

#include "base/err.h"

struct vm_entry;

/* Events of the engine; context: the entry. */
void vm_pause_on_paused(void *context);
void vm_pause_on_saved(void *context, const struct err *why);
/* It runs. */
void vm_pause_over(struct vm_entry *vm);
void vm_pause_on_exited(struct vm_entry *vm, const char *reason);
/* A stop is asked for: a guest that is to hear of it has to run. */
void vm_pause_stop(struct vm_entry *vm);
