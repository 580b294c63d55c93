/* The console device (virtio 1.2, 5.3) in front of a byte stream: one port, no extras.
 *
 * What the guest writes goes to the descriptor (a socket, a pipe, a terminal); what the
 * descriptor cannot take now is dropped and counted, so that a reader that sleeps neither
 * stops the guest nor costs memory. What comes from the descriptor waits in it until the
 * guest has buffers.
 *
 * Ownership: takes the descriptor.
 */
#pragma once

#include "vmm/virtio_device.h"

enum virtio_console_queue { VIRTIO_CONSOLE_RECEIVE = 0, VIRTIO_CONSOLE_TRANSMIT };

struct virtio_console_counters {
    uint64_t received_bytes; /* by the guest */
    uint64_t sent_bytes;
    uint64_t dropped_bytes;
};

int virtio_console_new(const struct virtio_place *place,
                       int take_fd,
                       struct virtio_device **ret_device,
                       struct err *err);
void virtio_console_count(struct virtio_device *device,
                          struct virtio_console_counters *ret_counters);
