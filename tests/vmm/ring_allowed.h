/* Whether this kernel gives us rings (io_uring) at all, apart from what io_ring.h makes
 * of them: a test that needs one is skipped, in words, only where it does not.
 */
#pragma once

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Nonsense is refused as nonsense where rings are allowed, and as a ring elsewhere. Says
 * what is skipped there. */
static inline bool ring_allowed(const char *what)
{
    if (syscall(SYS_io_uring_setup, 0U, NULL) >= 0 ||
        (errno != ENOSYS && errno != EPERM)) {
        return true;
    }
    (void)printf("SKIPPED: %s: no ring (io_uring) is given here\n", what);
    return false;
}
