/* Typed messages between this host and the others: the mesh with names on it.
 *
 * Shapes: struct link owns the mesh. It dials every member, sends records
 * (agent/messages.h) to hosts by uid, and hands each message that arrives, decoded, to
 * one function together with the member that sent it; who sent it is told by the key of
 * the connection, never by what the message says. Threads: the loop's. Ownership:
 * messages are borrowed for the callback; the receiver may take members out of them by
 * zeroing. Errors: as net/mesh.h; BERTH_ENOTFOUND for a host that is no member. A message
 * to ourselves is delivered too, on the loop's next turn, so that a host needs no special
 * case for being its own leader.
 * Orders that are larger than a frame go in parts (agent/link_parts.h).
 */
#pragma once

#include "agent/identity.h"
#include "agent/members.h"
#include "agent/messages.h"
#include "base/err.h"
#include "net/mesh.h"

#include <uv.h>

#define LINK_JOIN_PORT_OFFSET                                \
    1 /* the join endpoint listens one above the mesh's port \
       */

struct link;

struct link_events {
    void *context;
    void (*on_message)(void *context,
                       const struct msg_member *from,
                       enum message_type type,
                       void *message);
    /* A stranger asks to join; answer with link_join_reply. */
    void (*on_join)(void *context, const struct mesh_key *guest, struct msg_join *join);
    /* The answer to link_join. */
    void (*on_join_reply)(void *context, struct msg_join_reply *reply);
    void (*on_peer)(void *context, uint64_t host, bool up);
};

/* Listens on the identity's address and mesh port. identity and members are borrowed for
 * the life. */
int link_open(uv_loop_t *loop,
              const struct identity *identity,
              const struct members *members,
              const struct link_events *events,
              struct link **ret_link,
              struct err *err);
void link_close(struct link *link, void (*closed)(void *context), void *context);
/* The members' table has changed: admits and dials accordingly. */
void link_members_changed(struct link *link);
/* Lets strangers reach the join endpoint, or no longer. */
void link_guests_allow(struct link *link, bool allow);
int link_send(struct link *link,
              uint64_t host,
              enum message_type type,
              const void *message);
bool link_is_up(const struct link *link, uint64_t host);
/* A member that turns this host's key away while none is connected, or NULL: perhaps this
 * host was removed from the cluster, perhaps that member alone is behind. Lapses when
 * that one is gone. Until link_members_changed. */
const struct msg_member *link_shut_out_by(const struct link *link);
/* Asks the host with that key at that join address to let us in; the answer comes as
 * on_join_reply. */
int link_join(struct link *link,
              const struct mesh_key *key,
              uint32_t address,
              uint32_t join_port,
              const struct msg_join *join,
              struct err *err);
/* What has come of asking it, once that has lasted for some seconds. */
enum mesh_join_door link_join_door(const struct link *link, const struct mesh_key *key);
/* Ends asking that host. */
void link_join_end(struct link *link, const struct mesh_key *key);
int link_join_reply(struct link *link,
                    const struct mesh_key *guest,
                    const struct msg_join_reply *reply);
void link_stats(const struct link *link, struct mesh_stats *ret_stats);
