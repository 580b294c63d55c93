/* The connections of a vsock: a table of places, each with its state, ports, socket and
 * bytes.
 *
 *     FREE -> GREETING -> REQUESTED -> OPEN -> CLOSING -> RESETTING -> FREE   host's
 *     FREE -> DIALING ---------------> OPEN -> CLOSING -> RESETTING -> FREE   guest's
 *
 * and from everywhere to RESETTING (a fault: the guest is told) or to FREE (it knows).
 *
 * Shapes: `struct vsock_links` is the table; the moves between states are the device's
 * (virtio_vsock.c), what a place holds is made and undone here. A link's id names one
 * connection for good: the place and its generation. Threads: the device's lock.
 * Ownership: a link owns its descriptor and watch. Limits: VSOCK_LINKS_MAX.
 */
#pragma once

#include "vmm/counter.h"
#include "vmm/poller.h"
#include "vmm/vsock_greeting.h"
#include "vmm/vsock_stream.h"

#include <stdbool.h>
#include <stdint.h>

#define VSOCK_LINKS_MAX 256u

enum vsock_link_state {
    LINK_FREE = 0,
    LINK_GREETING,  /* a host's client has not said yet what it wants */
    LINK_REQUESTED, /* the guest has not answered yet */
    LINK_DIALING,   /* nor has who dials */
    LINK_OPEN,
    LINK_CLOSING,   /* the guest is done; what waits goes to the host first */
    LINK_RESETTING, /* nothing is left but to tell the guest */
};

/* Packets that the guest is to get, by bit; bytes come last. */
enum {
    SEND_RST = 1,
    SEND_REQUEST = 2,
    SEND_RESPONSE = 4,
    SEND_CREDIT_UPDATE = 8,
    SEND_CREDIT_REQUEST = 16,
    SEND_BYTES = 32, /* the socket may have some */
    SEND_SHUTDOWN = 64,
};

struct vsock_link {
    enum vsock_link_state state;
    uint32_t generation; /* one more with each connection */
    uint32_t host_port;
    uint32_t guest_port;
    unsigned to_send;
    bool host_hurries;  /* a client speaks before the guest has answered */
    bool host_ended;    /* the socket brings nothing more */
    bool guest_ended;   /* nor does the guest */
    bool guest_is_deaf; /* it takes nothing more */
    bool has_no_credit; /* bytes wait until the guest takes some */
    int fd;             /* -1: none */
    int watch;          /* -1: none */
    struct vsock_stream stream;
    struct vsock_greeting greeting; /* of a client of the host */
    uint64_t greet_by_ms; /* until when it waits for that, on a monotonic clock */
};

struct vsock_links {
    struct poller *poller;
    poller_callback *callback; /* of their sockets; the token is the link's id */
    void *context;
    struct counter count; /* that are not free */
    unsigned end;         /* from here on all are free */
    struct vsock_link links[VSOCK_LINKS_MAX];
};

/* All free. */
void vsock_links_init(struct vsock_links *links,
                      struct poller *poller,
                      poller_callback *callback,
                      void *context);
/* A free one in its first state, or NULL. */
struct vsock_link *vsock_links_new(struct vsock_links *links,
                                   enum vsock_link_state state);
/* The connection of these ports, if there is one that the guest may know of. */
struct vsock_link *
vsock_links_find(struct vsock_links *links, uint32_t host_port, uint32_t guest_port);
uint64_t vsock_link_id(const struct vsock_links *links, const struct vsock_link *link);
/* The one of this id as long as it has it, or NULL. */
struct vsock_link *vsock_links_of(struct vsock_links *links, uint64_t id);
/* Takes the descriptor and has it watched, for nothing yet. 0 or an error. */
int vsock_link_take(struct vsock_links *links, struct vsock_link *link, int fd);
/* What its socket is to be watched for. */
unsigned vsock_link_events(const struct vsock_link *link);
/* Watches for that, or for nothing. */
void vsock_link_watch(struct vsock_links *links,
                      const struct vsock_link *link,
                      bool is_active);
/* Lets go of socket and bytes; the place stays taken. */
void vsock_link_close(struct vsock_links *links, struct vsock_link *link);
/* The same, and the place is free. */
void vsock_link_free(struct vsock_links *links, struct vsock_link *link);
