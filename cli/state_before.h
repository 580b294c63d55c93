/* What is in a state folder before a host is begun in it, so that an attempt that came to
 * nothing leaves nothing behind, and takes nothing of anybody else's.
 *
 * Shapes: the names at the top of the folder, and the uppermost folder on the way to it
 * that is not there yet. What is removed is listed in base/state_file.h: others may make
 * files in the same folder at the same time. Threads: any; blocking. Ownership:
 * state_before_look fills the caller's memory, state_before_fini frees what it holds.
 * Errors: -errno with text. Limits: STATE_BEFORE_NAMES_MAX names; a folder with more is
 * no state folder.
 */
#pragma once

#include "base/err.h"

#include <limits.h>
#include <stddef.h>

#define STATE_BEFORE_NAMES_MAX 4096

struct state_before {
    char path[PATH_MAX];    /* the state folder, as it was said */
    char missing[PATH_MAX]; /* its beginning; "": the state folder is there */
    char **names;
    size_t count;
};

/* Before anything is made at `state`. BERTH_EINVALID: it goes back (..) from a folder
 * that is not there. */
int state_before_look(const char *state,
                      struct state_before *ret_before,
                      struct err *err);
/* While the caller holds the folder's lock (base/state_lock.h), with no berthd there any
 * more: removes what a join makes, where that was not there before, then the folders that
 * were made for it. Folders go only when they are empty, so whatever else has come stays,
 * with the folders on the way to it; that is no error. */
int state_before_restore(const struct state_before *before, struct err *err);
/* Accepts one that is all zero. */
void state_before_fini(struct state_before *before);
