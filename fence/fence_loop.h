/* The fence's process: waits for messages, ends of processes and deadlines, and does what
 * fence_core.h says is due.
 *
 * One per state folder: <folder>/fence.lock is held for as long as it lives. All memory
 * is allocated before the first message. While it runs it writes no log, for a disk that
 * hangs must not hold it up: berthd is told by EVENT and STATE, and logs. It ends when it
 * is asked to (END while nothing is watched, SIGTERM or SIGINT always) and by itself when
 * it has watched nothing and nobody has been connected for `idle_ms`. Threads: it is the
 * only one. Errors: BERTH_EEXISTS: another fence has this folder; -errno with text.
 * Limits: FENCE_VMS_MAX VMs, FENCE_CLIENTS_MAX connections.
 */
#pragma once

#include "base/err.h"
#include "fence/fence_core.h"
#include "fence/fence_watchdog.h"

#define FENCE_CLIENTS_MAX 8u /* berthd, one that comes after it, and who looks on */
#define FENCE_IDLE_MS     10000u
/* Three descriptors per VM, and the few of its own. */
#define FENCE_FILES_WANTED (FENCE_VMS_MAX * 3 + 64)

struct fence_config {
    const char *folder;
    struct fence_rules rules;
    struct fence_watchdog watchdog; /* fd -1: none; taken when the loop begins */
    uint32_t shields;               /* FENCE_HAS_*, of fence_shield.h, for STATE */
    uint32_t idle_ms;
};

/* Runs until it ends: 0, or an error that came before it began. */
int fence_loop_run(const struct fence_config *config, struct err *err);
