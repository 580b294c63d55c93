/* The socket device (virtio 1.2, 5.10): connections between the guest and UNIX sockets of
 * this host, without a network.
 *
 * From the host: a client connects to the listener, writes "CONNECT PORT\n", and reads
 * "OK PORT\n" when the guest has accepted; then the socket is the connection. A client
 * that has not said so VSOCK_GREETING_MS after it came is sent away. From the
 * guest: a connection to port P of the host (CID 2) is asked of whoever dials for us
 * (vsock_dialer.h), and becomes the descriptor that comes back. Streams only. Either
 * direction can end alone. A packet that fits no connection, or says what it may not,
 * resets that connection; everything a guest gets wrong costs it that one.
 *
 * Connections do not go with a saved machine: the guest that comes in is told that its
 * transport was reset (5.10.6.7), and its own ends of them end.
 *
 * Ownership: takes the descriptors; each may be -1, then nothing comes from, or goes to,
 * that side. Limits: VSOCK_LINKS_MAX connections, of both directions and those that are
 * being made; VSOCK_BUFFER_BYTES of each wait here at most (vsock_stream.h), while the
 * host does not read; VSOCK_RESETS_MAX answers to packets of nobody, then the guest's
 * packets wait until it takes some.
 */
#pragma once

#include "vmm/virtio_device.h"
#include "vmm/vsock_links.h"

#define VSOCK_RESETS_MAX 64u
/* Long for a program that greets; a place is not held by one that has forgotten it. */
#define VSOCK_GREETING_MS 10000u

enum virtio_vsock_queue {
    VIRTIO_VSOCK_RECEIVE = 0,
    VIRTIO_VSOCK_TRANSMIT,
    VIRTIO_VSOCK_EVENT,
    VIRTIO_VSOCK_QUEUE_COUNT,
};

struct virtio_vsock_spec {
    uint64_t guest_cid; /* VSOCK_CID_MIN..VSOCK_CID_MAX */
    int take_listener;
    int take_dialer;
    unsigned greeting_ms; /* 0: VSOCK_GREETING_MS */
};

struct virtio_vsock_counters {
    uint64_t opened;         /* connections that both sides had */
    uint64_t refused;        /* that never got so far */
    uint64_t resets;         /* sent to the guest */
    uint64_t received_bytes; /* by the guest */
    uint64_t sent_bytes;     /* by it */
    unsigned links;          /* now */
};

int virtio_vsock_new(const struct virtio_place *place,
                     const struct virtio_vsock_spec *spec,
                     struct virtio_device **ret_device,
                     struct err *err);
void virtio_vsock_count(struct virtio_device *device,
                        struct virtio_vsock_counters *ret_counters);
