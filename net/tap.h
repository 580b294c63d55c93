/* Persistent tap devices: made for a VM's NIC before its engine starts, opened as
 * descriptors later.
 *
 * Shapes: tap_create leaves a down, unattached, persistent device of several queues;
 * tap_open_fds gives the engine's end of them, with virtio-net headers in front of the
 * frames. One that an earlier release has made has one queue. One holder at a time.
 * Threads: any. Ownership: the caller owns the descriptors. Errors: -errno with text;
 * -EBUSY when another process holds the device open. Limits: the kernel's queues of a
 * tap, 256.
 */
#pragma once

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

/* What has gone through a device since it was made, whoever carried it, as the VM sees
 * it: rx is to the VM, which the kernel counts as what the device has sent. Bytes are of
 * Ethernet frames. */
struct tap_traffic {
    uint64_t rx_bytes;
    uint64_t rx_packets;
    uint64_t rx_dropped; /* nobody took them out of the device in time */
    uint64_t tx_bytes;
    uint64_t tx_packets;
    uint64_t tx_dropped;
};

/* Makes the device (once made, it stays until its link is removed). */
int tap_create(const char *name, struct err *err);

/* Whether it is one of several queues; false for what is not there. */
bool tap_has_queues(const char *name);

int tap_traffic_read(const char *name, struct tap_traffic *ret_traffic);

/* Opens up to `most` queues of the device's other end, close-on-exec and non-blocking:
 * their number, which is 1 for a device of one queue, or -errno. */
int tap_open_fds(const char *name, int *ret_fds, unsigned most, struct err *err);
