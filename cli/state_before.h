/* What is in a state folder before a host is begun in it, so that an attempt that came to
 * nothing leaves nothing behind.
 *
 * Shapes: the names at the top of the folder, and the uppermost folder on the way to it
 * that is not there yet. Threads: any; blocking. Ownership: state_before_look fills the
 * caller's memory, state_before_fini frees what it holds. Errors: -errno with text.
 * Limits: STATE_BEFORE_NAMES_MAX names; a folder with more is no state folder.
 */
#pragma once

#include "base/err.h"

#include <limits.h>
#include <stddef.h>

#define STATE_BEFORE_NAMES_MAX 4096

struct state_before {
    char missing[PATH_MAX]; /* "": the state folder is there */
    char **names;
    size_t count;
};

/* Before anything is made at `state`. */
int state_before_look(const char *state,
                      struct state_before *ret_before,
                      struct err *err);
/* With no berthd there any more: removes what has come since, all that is in it included,
 * and the folders on the way to it that were made for it. */
int state_before_restore(const struct state_before *before,
                         const char *state,
                         struct err *err);
/* Accepts one that is all zero. */
void state_before_fini(struct state_before *before);
