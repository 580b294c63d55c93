/* The mesh's ZeroMQ sockets: how they are set up, watched and closed. Internal to
 * net's mesh.
 *
 * Shapes: struct mesh_socket is a ROUTER that listens or a DEALER that dials, always
 * with CURVE, and the PAIR on which libzmq reports what happens to its connections.
 * The settings and their reasons:
 *   AFFINITY: bulk sockets have an I/O thread of their own, so that encrypting a chunk
 *   does not stand before a heartbeat.
 *   HWM 64 (8 in the bulk lane): messages that a pipe holds per peer.
 *   MAXMSGSIZE: header, body limit and what CURVE adds; more ends the connection.
 *   HEARTBEAT 2000/4000/6000 ms: ends TCP connections that died without a word, in some
 *   six seconds; the mesh's own HELLO has noticed them before.
 *   RECONNECT_IVL 200-399 ms (jitter from the caller), at most 5000: no storms.
 *   BACKLOG 1024, HANDSHAKE_IVL 5000, CONNECT_TIMEOUT 2000: bounds on half-open ones.
 *   IMMEDIATE: a dealer has no pipe while it is not connected: nothing stale waits there.
 *   LINGER 0: closing never waits. RCVTIMEO 0: reading never waits.
 *   ROUTER_MANDATORY: sending to nobody is an error, not silence.
 *   ZAP_DOMAIN with ZAP_ENFORCE_DOMAIN: no handshake without the handler's yes.
 * No routing ids are set: the listening side draws them, and belief follows the key
 * alone.
 * Units: milliseconds, bytes.
 * Threads: a socket belongs to one thread at a time; handing it over needs a full
 * fence (starting a thread is one).
 * Errors: -errno from bind; -ENOMEM.
 */
#pragma once

#include "base/err.h"
#include "net/mesh_key.h"
#include "net/mesh_watch.h"

#include <czmq.h>

#include <stddef.h>
#include <stdint.h>

/* In a process: with its monitor and libzmq's end of that, a dial has six at most; the
 * rest is for listeners, the ZAP handler, and what libzmq still takes down. libzmq fills
 * a table of that many places at its start: all that it could do are 800 KiB. */
#define MESH_SOCKETS_MAX     8192
#define MESH_SOCKET_HWM      64
#define MESH_SOCKET_BULK_HWM 8

struct mesh_socket {
    zsock_t *socket; /* NULL: closed */
    zsock_t *monitor;
    struct mesh_watch watch;
    struct mesh_watch monitor_watch;
};

struct mesh_socket_config {
    const struct mesh_key *secret_key;
    const struct mesh_key *public_key;
    size_t body_size_max;
    bool bulk;
    const char *zap_domain;            /* listening */
    const struct mesh_key *server_key; /* dialing: the one key that may answer */
    int reconnect_jitter_ms;           /* dialing: 0-199 */
};

/* What a monitor reports, reduced to what the mesh acts on. */
enum mesh_socket_event {
    MESH_SOCKET_NOTHING = 0,  /* no more events now */
    MESH_SOCKET_OTHER,        /* an event without meaning here */
    MESH_SOCKET_CONNECTED,    /* the CURVE handshake has succeeded */
    MESH_SOCKET_DISCONNECTED, /* a connection has ended */
    MESH_SOCKET_REFUSED,      /* the peer's ZAP handler said no */
    MESH_SOCKET_BROKEN,       /* a handshake broke off: not CURVE, garbage, wrong key */
    MESH_SOCKET_CLOSED,       /* a listening port has been given back */
};

/* Once per process, before any other czmq call: no signal handlers, no logging of czmq's
 * own. */
void mesh_socket_setup(void);
/* In the first lines of a thread: signals are the loop's business. */
void mesh_socket_block_signals(void);

/* Opens a ROUTER at *address; port 0 is replaced by the one that was found. */
int mesh_socket_listen(struct mesh_socket *socket,
                       const struct mesh_socket_config *config,
                       struct mesh_address *address,
                       struct err *err);
/* Opens a DEALER that keeps connecting to *address; -ENOMEM also when the process has no
 * more sockets. */
int mesh_socket_dial(struct mesh_socket *socket,
                     const struct mesh_socket_config *config,
                     const struct mesh_address *address);
/* Has the set watch both halves; the socket may not move from then on. */
int mesh_socket_watch(struct mesh_socket *socket, int set);
/* The next event of the monitor without waiting; after NOTHING it is not due. */
enum mesh_socket_event mesh_socket_event_take(struct mesh_socket *socket);
/* Gives a listening port back and waits, bounded, until the kernel has it: the address
 * can be bound again right away. */
void mesh_socket_unlisten(struct mesh_socket *socket);
/* Closes at once, dropping what is queued; a closed socket is fine. */
void mesh_socket_close(struct mesh_socket *socket);
