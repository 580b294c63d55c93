/* Frames coming in: from the socket to the inbox of the loop, or dropped with a
 * counted reason. Internal to net's mesh files; actor's thread.
 *
 * What is believed about a frame: its sender is the key of the CURVE connection it
 * came through: on a listener the User-Id that the ZAP handler gave, on a link the key
 * that we dialed. Routing ids and everything in the frame are claims.
 */
#pragma once

#include "net/mesh_core.h"

/* Reads at most budget messages of a listener; stops when the loop has too much to do.
 * A socket that had no more is not due any longer. */
void mesh_receive_listener(struct mesh *mesh,
                           enum mesh_listener listener,
                           unsigned budget);
/* The same for a connection that we dialed. */
void mesh_receive_link(struct mesh *mesh, struct mesh_link *link, unsigned budget);
/* True while the loop cannot take more of that lane; then the loop wakes the actor when
 * it can. */
bool mesh_receive_paused(struct mesh *mesh, enum mesh_lane lane);
