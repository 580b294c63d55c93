/* Persistent tap devices: made for a VM's NIC before its engine starts, opened as a
 * descriptor later.
 *
 * Shapes: tap_create leaves a down, unattached, persistent device; tap_open_fd gives the
 * engine's end of it, with virtio-net headers in front of the frames. One descriptor at a
 * time (no multiqueue). Threads: any. Ownership: the caller owns the descriptor. Errors:
 * -errno with text; -EBUSY when another process holds the device open.
 */
#pragma once

#include "base/err.h"

/* Makes the device (once made, it stays until its link is removed). */
int tap_create(const char *name, struct err *err);

/* Opens the device's other end, close-on-exec and non-blocking; the descriptor or -errno.
 */
int tap_open_fd(const char *name, struct err *err);
