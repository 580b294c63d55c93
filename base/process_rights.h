/* The walls that are the same around every helper process without rights: put up before
 * the first byte of a stranger is read. What it may open and call is its own affair.
 *
 * Shapes: process_rights_drop puts them up in this order, for each needs what the next
 * ones take away; each must stand.
 *
 *     limits          as the caller has them; one that is lower already stays, and memory
 *                     is not limited under a sanitizer, which maps terabytes for itself
 *     user            uid, its group and no other (when started as root); and the first
 *                     one that the kernel ends when memory is out
 *     capabilities    none, in no set
 *     no new rights   no exec or file gives any back, and no debugger of the same user
 *     parent          its death is ours, also one before this
 *
 * Threads: before there are any. Errors: -errno with text that names the wall; -ESRCH of
 * "parent": it is gone already. After an error the process has to end.
 */
#pragma once

#include "base/err.h"

#include <stdint.h>
#include <sys/types.h>

struct process_limit {
    int resource; /* RLIMIT_... */
    uint64_t most;
};

struct process_rights {
    const struct process_limit *limits; /* borrowed */
    unsigned limit_count;
    uid_t uid;
    pid_t parent; /* as it says itself: getppid() may be somebody else already */
};

int process_rights_drop(const struct process_rights *rights, struct err *err);
