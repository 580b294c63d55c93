/* What the two halves of a mesh share. Internal to net's mesh files.
 *
 * Threads: the loop's half is mesh.c, the actor's is mesh_actor.c and what it calls.
 * Fields are of three kinds. "Loop": the loop's thread only. "Actor": the actor's
 * thread only, and mesh.c before it starts and after it has ended. "Lock": under
 * mesh->lock, which is held for a few instructions, never over a callback or a socket
 * call. Fields without a mark are constant while the actor runs.
 * Ownership: the mesh owns its peers; the actor alone frees them while it runs. The
 * actor is driven by state, not by commands: the loop changes a peer, puts it on the
 * dirty list and wakes the actor, which makes the sockets follow.
 */
#pragma once

#include "base/loop.h"
#include "base/string_map.h"
#include "net/mesh.h"
#include "net/mesh_queue.h"
#include "net/mesh_socket.h"

#include <pthread.h>
#include <stdatomic.h>

/* A connection that we dial: one DEALER. Actor. */
struct mesh_link {
    struct list link; /* in mesh->links while open */
    struct mesh_peer *peer;
    enum mesh_lane lane;
    struct mesh_socket socket;
    bool connected; /* the handshake has succeeded */
    bool up;        /* and the peer has answered */
    bool hello_due;
    bool blocked;      /* something waits for the socket to become writable */
    uint64_t heard_ms; /* or opened, or connected */
    uint64_t hello_ms;
    uint64_t retry_ms; /* when to dial anew; 0: libzmq is trying */
};

/* A connection that the peer dialed to us: the routing id libzmq drew for it. Actor. */
struct mesh_route {
    bool live;
    uint8_t id_size;
    uint8_t id[255];
    uint64_t heard_ms;
};

struct mesh_outbox {
    struct mesh_queue queue;
    bool room_wanted;  /* BERTH_EFULL was answered */
    uint64_t moved_ms; /* when a message last left */
};

struct mesh_peer {
    struct list link; /* in mesh->peer_list; actor */
    struct mesh_peer_id id;
    char hex[MESH_KEY_HEX_SIZE];
    /* Lock: */
    bool dialed;
    struct mesh_address address;
    unsigned address_revision;
    bool up;
    uint64_t refused_until_ms; /* its refusal of our key counts so long; 0: none */
    uint64_t broken_until_ms;  /* likewise, that its handshakes break off */
    struct mesh_outbox outbox[MESH_LANE_COUNT];
    struct mesh_item notices[MESH_ITEM_KIND_COUNT]; /* [MESH_ITEM_FRAME] is not used */
    struct list dirty_link;
    /* Actor: */
    struct mesh_link links[MESH_LANE_COUNT];
    struct mesh_route routes[MESH_LANE_COUNT];
    unsigned linked_revision; /* of the address that the links were opened for */
    struct mesh_address linked_address;
    uint16_t bulk_port;     /* from WELCOME; 0: unknown */
    bool bulk_moved;        /* it has changed since the bulk link was opened */
    bool bulk_wanted;       /* the peer has asked for the bulk lane */
    uint64_t bulk_asked_ms; /* when we asked it last */
    uint64_t bulk_used_ms;
    uint64_t session; /* of the peer's process; 0: not heard yet */
    uint64_t session_before;
    uint64_t received[MESH_LANE_COUNT]; /* the last sequence */
    bool refused_told;
    uint64_t refused_since_ms; /* without a break; refused_told says whether */
    uint64_t broken_since_ms;  /* each soon after the one before; 0: none */
    uint64_t broken_ms;        /* the last one */
    unsigned refusals;         /* in a row */
    unsigned breaks;           /* of handshakes, likewise */
    struct list stalled_link;
    struct list bulk_link; /* in the list of this turn's second pass */
    uint64_t aged_ms; /* when the outboxes were last looked through for old messages */
};

enum {
#define MESH_COUNTER_INDEX(name, sentence) MESH_COUNT_##name,
    MESH_COUNTERS(MESH_COUNTER_INDEX)
#undef MESH_COUNTER_INDEX
        MESH_COUNT_COUNT,
};

enum mesh_listener {
    MESH_LISTENER_CONTROL = MESH_CONTROL,
    MESH_LISTENER_BULK = MESH_BULK,
    MESH_LISTENER_JOIN = 2,
    MESH_LISTENER_COUNT,
};

struct mesh {
    /* Loop: */
    uv_loop_t *loop;
    struct mesh_events events;
    void *context;
    struct loop_post *post;  /* actor -> loop; sending is for any thread */
    struct loop_batch *sent; /* what one turn sends wakes the actor once */
    zactor_t *actor;
    bool closing;
    void (*closed)(void *context);
    void *closed_context;
    uint64_t sequence; /* the last one given; one for all peers */

    struct mesh_key secret_key;
    struct mesh_key public_key;
    uint64_t session;
    struct mesh_zap *zap;
    struct mesh_address addresses[MESH_LISTENER_COUNT];
    char address_texts[MESH_LISTENER_COUNT][MESH_ADDRESS_SIZE];

    int watch_set; /* what the actor sleeps on */
    int wake_fd;   /* eventfd: loop -> actor */
    struct mesh_watch wake_watch;
    atomic_bool wake_pending;
    atomic_bool stop_wanted;
    atomic_bool stopped;
    atomic_bool members_changed;
    atomic_uint_fast64_t counters[MESH_COUNT_COUNT];

    pthread_mutex_t lock;
    /* Lock: */
    struct string_map *peers[MESH_CLASS_COUNT]; /* by hex */
    size_t dial_count;
    struct list dirty;
    struct mesh_queue inbox[MESH_LANE_COUNT];
    size_t inbox_guests;
    bool inbox_paused[MESH_LANE_COUNT]; /* the actor waits for room */

    /* Actor: */
    struct mesh_socket listeners[MESH_LISTENER_COUNT];
    struct list peer_list;
    struct list links;
    struct list stalled;     /* peers whose route was full; tried again shortly */
    uint64_t stalled_due_ms; /* not before: each try makes the next turn a short one */
    uint64_t now_ms;
    uint64_t resumed_ms; /* silence before this is our own fault */
    bool post_due;       /* the inbox has news */
    bool probe_due;      /* a listener has lost a connection: find out whose */
    unsigned jitter;
};

static inline void mesh_count(struct mesh *mesh, unsigned counter, uint64_t by)
{
    atomic_fetch_add_explicit(&mesh->counters[counter], by, memory_order_relaxed);
}

static inline void mesh_lock(struct mesh *mesh)
{
    pthread_mutex_lock(&mesh->lock);
}

static inline void mesh_unlock(struct mesh *mesh)
{
    pthread_mutex_unlock(&mesh->lock);
}
