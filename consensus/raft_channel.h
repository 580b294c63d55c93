/* Authenticated, encrypted one-way channels between voters, each ending in a local
 * socket.
 *
 * Shapes: a `struct channel_hub` is one voter's end: it listens, it calls others. A
 * channel carries bytes from the caller to the called one. On both sides the bytes
 * enter and leave through one end of a socket pair, which is handed out as a
 * descriptor once the peer has proven its key (channel_crypto.h has the handshake), so
 * that whoever speaks over it needs no knowledge of keys.
 * Between pair and network lie two buffers of one frame each: a slow side stops the
 * other.
 * Checked: the peer's key is a member's, the id it says is the id of that key, it
 * wants to reach us.
 * Who is refused again and again (channel_patience.h) is answered later and later.
 * Units: milliseconds. Threads: the loop's. Ownership: descriptors given to a callback
 * are its own.
 * Errors: a bad peer is counted, logged (at most once a minute) and dropped; it never
 * reaches the owner.
 * Limits: CHANNEL_PENDING_MAX handshakes at once (the oldest gives way),
 * CHANNEL_OPEN_MAX accepted channels.
 */
#pragma once

#include "base/err.h"
#include "consensus/channel_crypto.h"

#include <uv.h>

#include <stdbool.h>
#include <stdint.h>

#define CHANNEL_PENDING_MAX  32 /* handshakes that strangers can keep us busy with */
#define CHANNEL_OPEN_MAX     64 /* incoming; members are fewer than ten */
#define CHANNEL_HANDSHAKE_MS 2000

struct channel_hub;

struct channel_hub_config {
    uv_loop_t *loop; /* borrowed */
    uint64_t id;
    uint64_t cluster_id;
    const char *address;      /* "ip:port" that others call; borrowed for the call */
    const char *bind_address; /* where to listen instead; NULL: address */
    const uint8_t *secret_key;
    uint64_t stall_ms; /* a frame that makes no progress for so long ends the channel */
    void *context;     /* of the look-ups */
    /* The id of the member with that public key; false when it is no member's. */
    bool (*peer_of)(void *context,
                    const uint8_t public_key[CHANNEL_KEY_SIZE],
                    uint64_t *ret_id);
    /* The public key of that member; false when there is none. */
    bool (*key_of)(void *context, uint64_t id, uint8_t ret_public_key[CHANNEL_KEY_SIZE]);
    /* Its host's name, for the log; NULL when that is not known. May be NULL. */
    const char *(*name_of)(void *context, uint64_t id);
    void *accept_context;
    /* A peer has called and is proven; the descriptor is the callee's, non-blocking. */
    void (*accepted)(void *context, uint64_t id, const char *address, int fd);
    bool screened; /* what callers send must be the library's messages (message_screen.h)
                    */
};

struct channel_counters {
    uint64_t called;       /* channels opened by us */
    uint64_t accepted;     /* channels opened to us */
    uint64_t refused_key;  /* proven or claimed key is no member's, or another member's */
    uint64_t refused_text; /* garbage, a text that does not verify */
    uint64_t timed_out;    /* handshake or stalled frame */
    uint64_t held;         /* refused again and again: not called for a while */
    uint64_t evicted;      /* gave way to newer callers */
    uint64_t broken;       /* open channels that ended */
    uint64_t connect_failed; /* the network said no */
};

/* Makes a hub that does not listen yet. */
int channel_hub_open(const struct channel_hub_config *config,
                     struct channel_hub **ret_hub,
                     struct err *err);
/* Binds and listens; BERTH_EINVALID for an address that is none, -EADDRINUSE and the
 * like. */
int channel_hub_listen(struct channel_hub *hub, struct err *err);
/* Calls a member. done runs exactly once, never before return: with a descriptor, or -1
 * and the reason (BERTH_EUNREACHABLE, BERTH_EAUTH, BERTH_ETIMEOUT, BERTH_ECLOSED). A
 * negative return: done never runs. */
int channel_hub_connect(struct channel_hub *hub,
                        uint64_t id,
                        const char *address,
                        void (*done)(void *context, int fd, int status),
                        void *context);
const struct channel_counters *channel_hub_counters(const struct channel_hub *hub);
/* Drops every channel from and to that member (its key is no longer good). */
void channel_hub_drop(struct channel_hub *hub, uint64_t id);
/* Ends everything; done runs when the hub has been freed. */
void channel_hub_close(struct channel_hub *hub,
                       void (*done)(void *context),
                       void *context);
