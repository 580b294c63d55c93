/* A pair of a NIC's queues that the kernel serves (vhost-net), instead of this process.
 *
 *     idle --start--> running --stop--> idle
 *
 * Shapes: `struct vhost_pair` is one open /dev/vhost-net with the receive and the
 * transmit queue, in which it takes its tap's queue for a wire. While it runs nobody else
 * touches the rings. The driver's doorbell rings in the kernel at once, if the transport
 * lends it (struct virtio_wires), and so does the interrupt, as long as its vector is
 * open and has a route; else both come by this process. After stop the rings go on here
 * where the kernel left them: nothing is in flight, and nothing is lost.
 *
 * Where it cannot run the caller serves the queues itself: a ring that two regions of RAM
 * share, RAM that is on its way in, whose writes are logged or of which blocks may be
 * unplugged, a tap that is none, and a kernel that does not know what the driver has
 * accepted. A guest whose rings make no
 * sense to the kernel loses its device until it resets it.
 *
 * Threads: the device's lock; its callbacks come from the poller. Ownership: takes the
 * descriptor. Errors: -errno with text of init, which has to come before the jail's last
 * wall.
 */
#pragma once

#include "vmm/virtio_device.h"

#include <stdbool.h>
#include <stdint.h>

#define VHOST_RINGS 2u /* of the kernel's network device: to the guest, and from it */

struct vhost_pair {
    struct virtio_device *device;
    unsigned first_queue;
    int fd; /* -1: none */
    uint64_t features;
    bool runs;
    bool is_refused; /* the kernel did not take it: not asked again until the reset */
    bool refusal_told;
    /* by ring; -1: none */
    int kicks[VHOST_RINGS]; /* doorbells of our own, where none is lent */
    int calls[VHOST_RINGS]; /* interrupts that come by us */
    int call_watches[VHOST_RINGS];
    int kick_now[VHOST_RINGS]; /* what the kernel has; borrowed */
    int call_now[VHOST_RINGS];
    bool is_lent[VHOST_RINGS];
    int fault; /* the kernel says that a ring makes no sense */
    int fault_watch;
};

/* Without a descriptor: nothing runs, and all calls are fine. */
void vhost_pair_setup(struct vhost_pair *pair,
                      struct virtio_device *device,
                      unsigned first_queue);
/* Makes the kernel's device ours. The descriptor is taken in any case. */
int vhost_pair_init(struct vhost_pair *pair, int take_fd, struct err *err);
void vhost_pair_fini(struct vhost_pair *pair);
/* Has the kernel serve the queues, which this process serves now and has nothing in
 * flight of. True when it runs. */
bool vhost_pair_start(struct vhost_pair *pair, int tap_fd);
void vhost_pair_stop(struct vhost_pair *pair);
/* Another driver may have better luck. */
void vhost_pair_reset(struct vhost_pair *pair);
/* A doorbell that came by us. */
void vhost_pair_kick(struct vhost_pair *pair, unsigned ring);
/* Vectors may have another message, mask or route. */
void vhost_pair_rewire(struct vhost_pair *pair);
