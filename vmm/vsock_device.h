/* The socket device from the inside: what its two files share. virtio_vsock.c is the side
 * of the guest, with the device's verbs; vsock_host.c is the side of the host: clients of
 * the listener, and who dials. Everybody else has virtio_vsock.h.
 *
 * Threads: the device's lock. Ownership, errors, limits: virtio_vsock.h.
 */
#pragma once

#include "vmm/virtio_vsock.h"
#include "vmm/vsock_links.h"

#include <stdbool.h>
#include <stdint.h>

#define VSOCK_HOST_PORT_FIRST 0x40000000u /* of connections from the host */

struct vsock_address_pair {
    uint32_t host_port;
    uint32_t guest_port;
};

struct vsock {
    struct virtio_device device;
    uint64_t guest_cid;
    int listener;
    int listener_watch;
    int dialer;
    int dialer_watch;
    int timer; /* of the client that has to greet next */
    int timer_watch;
    unsigned greeting_ms;
    uint32_t next_port;
    bool listener_rests;  /* no descriptor for a client: until one of ours is closed, or
                           * the guest says a word */
    bool must_tell_reset; /* the machine has come out of a file */
    bool transmit_waits;  /* for room among the resets */
    unsigned turn;        /* which link has sent last */
    unsigned reset_first;
    unsigned reset_count;
    struct vsock_address_pair resets[VSOCK_RESETS_MAX]; /* to packets of nobody */
    struct {
        struct counter opened, refused, resets, received_bytes, sent_bytes;
    } counters; /* virtio_vsock.h */
    struct vsock_links links;
};

/* ---- virtio_vsock.c ---- */

/* Has the link's socket watched for what it is to be watched for. */
void vsock_device_watch(struct vsock *vsock, const struct vsock_link *link);
/* Lets go of one that the guest does not know of, or knows to be gone. */
void vsock_device_free_link(struct vsock *vsock, struct vsock_link *link);
/* Ends it; the guest is told. */
void vsock_device_reset_link(struct vsock *vsock, struct vsock_link *link);

/* ---- vsock_host.c ---- */

/* A client has said something before it was connected; it may be gone after this. */
void vsock_host_greet(struct vsock *vsock, struct vsock_link *link);
/* One that waits for the guest's answer has something to be looked at. */
void vsock_host_look(struct vsock *vsock, struct vsock_link *link);
/* The timer of those that have not greeted has fired. */
void vsock_host_end_late(struct vsock *vsock);
/* A machine that stood still goes on: they have their time anew. */
void vsock_host_begin_anew(struct vsock *vsock);
/* Listens, if there is room and a guest. */
void vsock_host_listen(struct vsock *vsock);
/* A client has come. */
void vsock_host_accept(struct vsock *vsock);
/* Who dials has an answer, or has gone. */
void vsock_host_take_dialed(struct vsock *vsock);
