/* The mesh: authenticated, ordered messages between hosts, over ZeroMQ with CURVE.
 *
 * Shapes: a `struct mesh` listens (if told to) and dials the peers it is told to. A
 * peer is its public key; addresses may change. Messages to a peer travel over the
 * connection that we dialed, or over the one it dialed to us; the caller never sees
 * which. Both sides may dial each other.
 *
 * Who may speak: the keys of mesh_members_set are members and may send everything.
 * Nobody else gets past the handshake, except on the join endpoint (join_bind), where
 * any key is let in while mesh_guests_allow says so: such a guest can send
 * MESH_TYPE_JOIN frames of at most MESH_JOIN_BODY_SIZE_MAX and is answered with
 * MESH_TYPE_JOIN_REPLY, nothing else. Whether the token in a JOIN is good is the
 * caller's question. Identity is the CURVE key of the connection, looked up for every
 * message: a key that is removed is silent at once.
 *
 * Delivery: at most once; per peer and lane in the order of sending; what was in
 * flight when a connection broke is lost (on_peer_down tells). Control that could not
 * leave for MESH_QUEUE_AGE_MAX_MS is dropped, and so is bulk when nothing of it left
 * for that long: old news is worse than none. A peer that restarts shows as down and
 * up, however quick it was.
 *
 * Lanes: MESH_CONTROL and MESH_BULK never share a connection, a port, a queue or the
 * I/O thread that encrypts. The bulk lane has a ROUTER of its own, whose port dialers
 * learn from WELCOME, and a second DEALER per peer, opened with the first bulk message
 * and closed after a minute without one. At most twice MESH_SOCKET_BULK_HWM messages
 * per peer are in flight inside libzmq; on both ends bulk is served only when no
 * control message waits. A receiver that falls behind stops reading the lane, so bulk
 * is held back by TCP and then by BERTH_EFULL at the sender (and after three seconds
 * of that the heartbeats give the connection up). So chunks never delay a heartbeat in
 * a queue of ours; credit windows on top, to bound what all peers together send, are
 * the caller's.
 *
 * Threads: all calls and callbacks on the loop's thread. Inside, one czmq actor owns
 * every socket and a second, shared by the meshes of the process, answers ZAP. A
 * forked child must not touch a mesh.
 * House rule: no callback runs inside a call; every call is allowed in every callback.
 * Ownership: what is passed in is copied; message bodies are borrowed for the
 * callback, and not aligned.
 * Errors: BERTH_EFULL (bounded queue; on_peer_room tells when to go on),
 * BERTH_EUNREACHABLE (neither dialed nor connected), BERTH_EFORBIDDEN (not a member),
 * BERTH_ETOOLARGE, BERTH_EINVALID, BERTH_ECLOSED (after mesh_close), -ENOMEM.
 * Limits: below. One of libzmq's is missing: a message of endlessly many parts is held
 * until it ends, so a stranger who knows the join endpoint can make memory grow while
 * guests are allowed. Allow them only while a join token is outstanding.
 */
#pragma once

#include "base/err.h"
#include "net/mesh_frame.h"
#include "net/mesh_key.h"
#include "net/mesh_zap.h"

#include <uv.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Peers that one host dials: voters, neighbours, ends of migrations. Each costs up to
 * six sockets, of MESH_SOCKETS_MAX. */
#define MESH_DIALS_MAX 1024
/* Guests that wait for an answer; one more replaces the one that has waited longest. */
#define MESH_GUESTS_MAX 64
/* Waiting to leave, per peer and lane: messages and bytes, whichever is reached first.
 * The last message may reach over the bytes, so one of any size always fits. */
#define MESH_QUEUE_CONTROL_MAX       256
#define MESH_QUEUE_CONTROL_BYTES_MAX (UINT32_C(4) << 20)
#define MESH_QUEUE_BULK_MAX          32
#define MESH_QUEUE_BULK_BYTES_MAX    (UINT32_C(16) << 20)
/* Arrived and waiting for the loop, all peers together; at these the lane is not read any
 * more. */
#define MESH_INBOX_CONTROL_MAX       4096
#define MESH_INBOX_CONTROL_BYTES_MAX (UINT32_C(32) << 20)
#define MESH_INBOX_BULK_MAX          256
#define MESH_INBOX_BULK_BYTES_MAX    (UINT32_C(64) << 20)
/* JOINs that wait for the loop; more are dropped. */
#define MESH_INBOX_GUEST_MAX 32
/* Longer than a peer takes to be seen as down, shorter than a lease. */
#define MESH_QUEUE_AGE_MAX_MS 5000
/* A peer is down after this long without a word; it says one every second. */
#define MESH_SILENCE_MAX_MS 3500

enum mesh_lane {
    MESH_CONTROL = 0,
    MESH_BULK = 1,
    MESH_LANE_COUNT,
};

enum mesh_class {
    MESH_MEMBER = 0,
    MESH_GUEST = 1,     /* asks us to let it join */
    MESH_JOIN_HOST = 2, /* the host that we asked */
    MESH_CLASS_COUNT,
};

struct mesh_peer_id {
    struct mesh_key key; /* public */
    enum mesh_class class;
};

struct mesh_config {
    struct mesh_key secret_key;
    const char *bind;      /* "ip:port", port 0: any free one; NULL: only dials */
    const char *bulk_bind; /* NULL: the ip of bind with any free port */
    const char *join_bind; /* NULL: no guests */
};

/* Each may be NULL. */
struct mesh_events {
    void (*on_message)(void *context,
                       const struct mesh_peer_id *from,
                       uint16_t type,
                       const void *body,
                       size_t size);
    /* The first way to or from the peer works; the last one is gone (connection ended,
     * silence, restart or removal). Up comes before its first message. Of guests and join
     * hosts only join hosts. */
    void (*on_peer_up)(void *context, const struct mesh_peer_id *peer);
    void (*on_peer_down)(void *context, const struct mesh_peer_id *peer);
    /* The peer that we dial does not admit our key. Dialing goes on; told once until it
     * is up. */
    void (*on_peer_refused)(void *context, const struct mesh_peer_id *peer);
    /* After BERTH_EFULL: half of that queue is free again (or was dropped). */
    void (*on_peer_room)(void *context,
                         const struct mesh_peer_id *peer,
                         enum mesh_lane lane);
};

struct mesh;

/* Opens and listens; NULL with *err filled (the address cannot be bound, no memory).
 * Nobody is a member yet. */
struct mesh *mesh_open(uv_loop_t *loop,
                       const struct mesh_config *config,
                       const struct mesh_events *events,
                       void *context,
                       struct err *err);
/* Ends it: no callback after this call but closed (may be NULL), which comes when ports
 * and threads have been given back. What the closing turn of the loop has sent may never
 * leave: it would have when the loop next waits. */
void mesh_close(struct mesh *mesh, void (*closed)(void *context), void *context);
/* Our public key and, with the ports filled in, our addresses ("" where we do not
 * listen); owned by the mesh. */
const struct mesh_key *mesh_public_key(const struct mesh *mesh);
const char *mesh_bind_address(const struct mesh *mesh);
const char *mesh_join_address(const struct mesh *mesh);

/* Replaces the table of member keys. From a key that is not in it any more nothing is
 * delivered after this call, arrived or not; what waits for it is dropped, its peer goes
 * down, and dialing it rests until it is a member again. libzmq cannot hang up on it: its
 * connection stays, unheard, until it ends by itself. */
int mesh_members_set(struct mesh *mesh,
                     const struct mesh_key *keys,
                     size_t count,
                     struct err *err);
/* Lets strangers through to the join endpoint, or no longer. */
void mesh_guests_allow(struct mesh *mesh, bool allow);

/* Keeps dialing a member at "ip:port"; the same key again with another address moves it.
 */
int mesh_peer_add(struct mesh *mesh,
                  const struct mesh_key *key,
                  const char *address,
                  struct err *err);
/* No longer dials it; unknown is fine. A connection that it dialed to us stays. */
void mesh_peer_remove(struct mesh *mesh, const struct mesh_key *key);
/* Dials the join endpoint of a host whose public key came with the join token. Afterwards
 * mesh_send takes MESH_TYPE_JOIN for that key, and the answer arrives as MESH_JOIN_HOST's
 * MESH_TYPE_JOIN_REPLY. */
int mesh_join_dial(struct mesh *mesh,
                   const struct mesh_key *key,
                   const char *address,
                   struct err *err);
void mesh_join_hang_up(struct mesh *mesh, const struct mesh_key *key);
/* What has come of dialing that join endpoint for some seconds. Each dial asks anew. */
enum mesh_join_door {
    MESH_JOIN_DOOR_UNKNOWN = 0, /* it is open, or nobody answers */
    MESH_JOIN_DOOR_CLOSED,      /* that host lets no stranger in */
    MESH_JOIN_DOOR_FOREIGN,     /* who answers there does not have that key */
};
enum mesh_join_door mesh_join_door(struct mesh *mesh, const struct mesh_key *key);

/* Queues one message; never blocks. MESH_TYPE_JOIN goes to a join host,
 * MESH_TYPE_JOIN_REPLY to a guest (both MESH_CONTROL), types from MESH_TYPE_USER_MIN to a
 * member. 0 means queued, not delivered: it leaves when the loop next waits. */
int mesh_send(struct mesh *mesh,
              const struct mesh_key *key,
              enum mesh_lane lane,
              uint16_t type,
              const void *body,
              size_t size);
bool mesh_peer_is_up(struct mesh *mesh, const struct mesh_key *key);
/* Whether the member that we dial turns our key away, and has for some seconds: it may be
 * yet to hear of a host that has just joined. Each dial asks anew; what a peer has said
 * that is gone since lapses within seconds. */
bool mesh_peer_refuses(struct mesh *mesh, const struct mesh_key *key);

/* Counters since mesh_open, for metrics. X(name, sentence) */
#define MESH_COUNTERS(X)                                                       \
    X(frames_sent, "messages handed to the network")                           \
    X(bytes_sent, "their bytes, with headers")                                 \
    X(frames_received, "well-formed messages received")                        \
    X(bytes_received, "their bytes, with headers")                             \
    X(dropped_malformed, "received: not a frame, several parts, wrong lane")   \
    X(dropped_version, "received: another frame version or an unknown flag")   \
    X(dropped_stranger, "received: from a key that is not a member")           \
    X(dropped_type, "received: a type that this peer may not send")            \
    X(dropped_order, "received: doubled or overtaken")                         \
    X(dropped_inbox, "received: JOINs over the limit, or out of memory")       \
    X(dropped_age, "not sent: waited too long")                                \
    X(dropped_gone, "not sent: the peer was removed or is no member any more") \
    X(refused_full, "calls answered with BERTH_EFULL")                         \
    X(turns, "times that the mesh's thread woke or looked again")              \
    X(handshakes_broken, "connections that were not CURVE, or broke off")      \
    X(handshakes_admitted, "keys let in by the ZAP handler")                   \
    X(handshakes_refused, "keys turned away by the ZAP handler")

struct mesh_stats {
#define MESH_COUNTER_MEMBER(name, sentence) uint64_t name;
    MESH_COUNTERS(MESH_COUNTER_MEMBER)
#undef MESH_COUNTER_MEMBER
};
void mesh_stats_get(struct mesh *mesh, struct mesh_stats *ret_stats);
