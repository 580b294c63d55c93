/* One watched process in the fence's hands: freeze, thaw and kill through descriptors.
 *
 * Shapes: `struct fence_hold` is a plain value: the pidfd and, where the VM has a control
 * group, its freezer and its cgroup.kill. Freezing uses the freezer when there is one,
 * else SIGSTOP; thawing undoes only what was frozen here. All can be repeated. Signals go
 * through the pidfd: a recycled pid cannot be hit. Threads: one. Errors: -errno;
 * BERTH_EINVALID: what was handed over is not what it was said to be. Ownership: a hold
 * owns its descriptors. Nothing is allocated.
 */
#pragma once

#include "fence/fence_core.h"
#include "fence/fence_wire.h"

struct fence_hold {
    int pidfd; /* -1: an empty hold */
    int freezer;
    int kill;
    enum fence_freezer kind;
};

#define FENCE_HOLD_EMPTY ((struct fence_hold){-1, -1, -1, FENCE_FREEZER_NONE})

/* Checks that the descriptors are what `watch` says, and takes them (fds become -1). What
 * is frozen already counts as frozen here: nobody but a fence or berthd does that, for
 * the lease. -ESRCH: the process has ended. */
int fence_hold_take(const struct fence_watch *watch,
                    int fds[FENCE_FDS_MAX],
                    struct fence_hold *ret_hold,
                    struct fence_vm *ret_vm);
void fence_hold_close(struct fence_hold *hold);
/* Has it ended? */
bool fence_hold_is_over(const struct fence_hold *hold);

/* True when this call froze it; false: it was frozen before, or cannot be reached. */
bool fence_hold_freeze(const struct fence_hold *hold, struct fence_vm *vm);
bool fence_hold_thaw(const struct fence_hold *hold, struct fence_vm *vm);
/* SIGKILL, which waits for nothing; true when this is the first kill. */
bool fence_hold_kill(const struct fence_hold *hold, struct fence_vm *vm);
/* All else in its group, too; a process frozen in it has to thaw to die. */
void fence_hold_kill_group(const struct fence_hold *hold, struct fence_vm *vm);
