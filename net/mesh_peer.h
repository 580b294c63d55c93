/* Peers: finding, making and freeing them, and telling the loop about them. Internal
 * to net's mesh files.
 *
 * Threads: "locked" functions are called with mesh->lock held, by either side; the
 * others by the actor, without the lock.
 * Ownership and limits: see mesh_core.h and mesh.h.
 */
#pragma once

#include "net/mesh_core.h"

/* Locked: the peer or NULL. */
struct mesh_peer *
mesh_peer_find(struct mesh *mesh, enum mesh_class class, const char *hex);
/* Locked: the peer, new if need be (and then dirty, so that the actor learns of it); NULL
 * when out of memory. */
struct mesh_peer *
mesh_peer_get(struct mesh *mesh, const struct mesh_peer_id *id, const char *hex);
/* Locked: puts it on the dirty list; harmless when it is there. */
void mesh_peer_mark(struct mesh *mesh, struct mesh_peer *peer);
/* Locked, actor: queues a notice for the loop. Of each kind at most one waits: a second
 * UP takes back the DOWN between them, and the other way round. */
void mesh_peer_notify(struct mesh *mesh,
                      struct mesh_peer *peer,
                      enum mesh_item_kind kind);
/* Locked, actor: tells the loop about room if it has asked and there is. */
void mesh_peer_room_check(struct mesh *mesh, struct mesh_peer *peer, enum mesh_lane lane);
/* Locked, actor: drops what waits to leave. */
void mesh_peer_outbox_clear(struct mesh *mesh, struct mesh_peer *peer);

/* Derives up or down from links and routes and tells the loop if that is news. */
void mesh_peer_refresh(struct mesh *mesh, struct mesh_peer *peer);
/* Down and up again, for a peer that has restarted without being missed. */
void mesh_peer_restarted(struct mesh *mesh, struct mesh_peer *peer);
/* Frees it with its links, unlinking it everywhere; returns NULL. */
struct mesh_peer *mesh_peer_free(struct mesh *mesh, struct mesh_peer *peer);

/* A number below bound that differs from host to host, so that they do not act as one. */
unsigned mesh_jitter(struct mesh *mesh, unsigned bound);

/* Links. Opening is tried again by the caller when it fails. */
int mesh_link_open(struct mesh *mesh, struct mesh_peer *peer, enum mesh_lane lane);
void mesh_link_close(struct mesh_link *link);
static inline bool mesh_link_is_open(const struct mesh_link *link)
{
    return link->socket.socket != NULL;
}
