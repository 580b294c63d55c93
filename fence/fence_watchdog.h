/* The kernel's watchdog: a device that resets the host when it has not been fed for its
 * timeout. Closed in order (after the letter V) it goes to sleep; closed in any other
 * way, by a kill for instance, it bites.
 *
 * Shapes: `struct fence_watchdog` is a plain value; when to feed it is fence_core.h's
 * business. Units: ms. Threads: one. Errors: -errno with text. Ownership: it owns its
 * descriptor.
 */
#pragma once

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

struct fence_watchdog {
    int fd;              /* -1: there is none */
    uint32_t timeout_ms; /* as the device says */
    bool starved;        /* it was not fed when it was time; it may bite */
};

/* The device of that name, or with "auto" the machine's first; sets its timeout to at
 * most wanted_ms (whole seconds; the device has the last word) and feeds it once. */
int fence_watchdog_open(const char *device,
                        uint32_t wanted_ms,
                        struct fence_watchdog *ret_watchdog,
                        struct err *err);
/* Feeds it; a device that is gone is let go. */
void fence_watchdog_feed(struct fence_watchdog *watchdog);
/* It is not to be fed any more: the shortest timeout, so that it bites soon. */
void fence_watchdog_starve(struct fence_watchdog *watchdog);
/* In order: it does not bite afterwards. Harmless without one. */
void fence_watchdog_close(struct fence_watchdog *watchdog);
