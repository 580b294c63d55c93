/* The actor: the one thread that owns a mesh's sockets. Internal to net's mesh files.
 *
 * Each turn it waits for sockets, wake-ups and the next tick, reads control before
 * bulk, then serves the peers that changed: first everyone's control lane, then a
 * little bulk. It ends when it is woken with stop_wanted set: sockets closed, ports
 * given back, `stopped` set, the loop posted.
 * Threads: mesh_actor_wake from the loop's thread; the rest is the actor itself.
 */
#pragma once

#include "net/mesh_core.h"

/* For zactor_new; args is the struct mesh. */
void mesh_actor_main(zsock_t *pipe, void *args);
/* Makes the actor look at the shared state; any number of calls cost one wake-up. */
void mesh_actor_wake(struct mesh *mesh);
