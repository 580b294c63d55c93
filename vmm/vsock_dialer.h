/* Connects to sockets of the host for a VM that can reach none itself.
 *
 * Shapes: a process of its own, at the other end of a socket pair that keeps packets
 * apart. For each `struct vsock_dial_request` it connects to the UNIX socket at PATH_PORT
 * and sends a `struct vsock_dial_answer` back, with the descriptor beside it (SCM_RIGHTS)
 * when that went well. Whoever starts berth-vmm for a tenant may hand the other end of
 * such a pair over and answer itself; descriptors have to be non-blocking.
 *
 * It knows the path and nothing else, holds no other descriptor, and ends with the
 * process that started it. It has the walls of vmm_walls.h, but for its user and for the
 * path's folder, which is its world; it may make sockets, connect them and hand them
 * over. Without capabilities it reaches what its user may write to. Threads: started
 * before there are any. Ownership: the descriptor is the caller's, non-blocking. Limits:
 * VSOCK_DIAL_PATH_MAX.
 */
#pragma once

#include "base/err.h"

#include <stdint.h>

#define VSOCK_DIAL_PATH_MAX 96u /* a port behind it still fits into an address */

struct vsock_dial_request {
    uint64_t id;
    uint32_t port;
    uint32_t reserved; /* 0 */
};

struct vsock_dial_answer {
    uint64_t id;
    int32_t result; /* 0, or a negative errno */
    uint32_t reserved;
};

/* The descriptor to ask, or an error. */
int vsock_dialer_start(const char *path, struct err *err);
/* What the process does; returns when the other end is closed. */
void vsock_dialer_serve(int fd, const char *path);
