/* Who has a state folder: whoever holds flock on its file `lock`.
 *
 * berthd holds it for its life; whoever removes what a berthd has made in the folder
 * holds it meanwhile. The lock file may be removed by who holds it, as the last of the
 * folder: others that wait for that file then begin anew. Threads: any; blocking.
 * Ownership: the descriptor is the caller's, and closing it gives the folder back.
 * Errors: BERTH_EBUSY when another has it, else -errno, both with text. Limits:
 * STATE_LOCK_WAIT_MS.
 */
#pragma once

#include "base/err.h"

#include <stdint.h>

/* A killed holder has it until the kernel has taken that one apart. */
#define STATE_LOCK_WAIT_MS 3000

/* Opens `folder`/lock with these flags (O_RDONLY; O_RDWR | O_CREAT) and waits for it up
 * to wait_ms; the descriptor or a negative code. */
int state_lock_take(const char *folder, int flags, uint64_t wait_ms, struct err *err);
