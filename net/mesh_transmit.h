/* Frames going out: from the peers' outboxes to the sockets, and the link's own words
 * (HELLO, WELCOME, BULK_OPEN). Internal to net's mesh files; actor's thread; nothing
 * here waits.
 */
#pragma once

#include "net/mesh_core.h"

/* Sends what can leave of a lane, at most budget messages. Marks the link blocked, or the
 * peer stalled, when the socket takes no more, and the peer dirty when the budget ended
 * first. */
void mesh_transmit_peer(struct mesh *mesh,
                        struct mesh_peer *peer,
                        enum mesh_lane lane,
                        unsigned budget);
/* Says HELLO when it is due; due again when the socket is not ready. */
void mesh_transmit_hello(struct mesh *mesh, struct mesh_link *link);
/* Answers (or probes) a peer that has dialed us. */
void mesh_transmit_welcome(struct mesh *mesh,
                           struct mesh_peer *peer,
                           enum mesh_lane lane);
