/* Lets changes of a disk pass together, and a copy alone: nobody changes a block while
 * its rest is being fetched.
 *
 * Shapes: a lock, held shared by changes and exclusively by a copy, that any thread may
 * give back, for a change that the kernel carries out ends on another one. A copy that
 * waits holds later changes back. Threads: any. Limits: none of its own.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>

struct copy_gate {
    /* private */
    pthread_mutex_t lock; /* guards the rest */
    pthread_cond_t moved;
    unsigned changes;
    unsigned copies; /* waiting, or the one within */
    bool copying;
};

void copy_gate_init(struct copy_gate *gate);
void copy_gate_fini(struct copy_gate *gate);
/* Begins a change, and waits until it may. */
void copy_gate_enter(struct copy_gate *gate);
/* Begins it if it may at once. */
bool copy_gate_try(struct copy_gate *gate);
/* Ends a change. */
void copy_gate_leave(struct copy_gate *gate);
/* Waits until all changes have ended, and keeps others out until the end. */
void copy_gate_begin_copy(struct copy_gate *gate);
void copy_gate_end_copy(struct copy_gate *gate);
