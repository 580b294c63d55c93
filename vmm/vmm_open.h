/* Opens what berth-vmm is told to use, or takes it from who started it.
 *
 * Shapes: a place is a text: "fd:N" is descriptor N, open already and handed over at
 * exec; anything else is opened by name. Whoever starts berth-vmm for a tenant hands all
 * of them over, so that no name is looked up in a process that a guest may one day own;
 * names are for hands. Threads: the main one, before the jail. Ownership: the descriptor
 * is the caller's, close-on-exec. Errors: BERTH_EINVALID for a descriptor that is not
 * open, is one of the three that every program has, or is used twice; -errno with the
 * place.
 */
#pragma once

#include "base/err.h"

/* A file or device: "fd:N" or a path, opened with these flags. */
int vmm_open_file(const char *where, int flags, struct err *err);
/* A listening stream socket: "fd:N", or "unix:PATH", which is made; what an earlier run
 * left there goes. */
int vmm_open_listener(const char *where, struct err *err);
/* A queue of the host's end of a tap, one frame at a time with virtio's header of 12
 * bytes before it: "tap:NAME", or "fd:N", which is the first queue of those that follow
 * each other. A datagram socket takes part, too (for tests and tunnels). */
int vmm_open_tap(const char *where,
                 unsigned queue,
                 unsigned queue_count,
                 struct err *err);
/* The kernel's device for a queue of a NIC: "fd:N", the first of those that follow each
 * other, or a path that is opened for each. */
int vmm_open_vhost(const char *where, unsigned queue, struct err *err);
/* Whom to ask for connections to sockets of this host (vsock_dialer.h): "fd:N", or
 * "unix:PATH" to start a process that makes them, for PATH_PORT. */
int vmm_open_dialer(const char *where, struct err *err);
/* Bytes both ways: "fd:N", "unix:PATH" to connect to, or a path. */
int vmm_open_stream(const char *where, struct err *err);
