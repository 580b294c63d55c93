/* Says when this host is turned away by the cluster, for whoever reads its log only.
 *
 * Shapes: struct shut_out looks every SHUT_OUT_LOOK_MS whether a member turns this host's
 * key away while none is connected (link_shut_out_by): said once, with what to do, and
 * once more when that has ended. Nothing else follows from it: who says so may be behind,
 * or lie, and may not end a VM by that; leases do (agent/worker.h). Units: milliseconds.
 * Threads: the loop's. Ownership: opaque, heap; the link is borrowed.
 */
#pragma once

#include "agent/link.h"

#include <uv.h>

#define SHUT_OUT_LOOK_MS 5000 /* a refusal counts when it has lasted for some seconds */

struct shut_out;

/* NULL: out of memory. */
struct shut_out *shut_out_new(uv_loop_t *loop, const struct link *link);
/* Accepts NULL; returns NULL. */
struct shut_out *shut_out_close(struct shut_out *shut_out);
