/* The entropy device (virtio 1.2, 5.4): the host's random numbers for the guest.
 *
 * One queue of buffers to fill. A buffer gets at most VIRTIO_RANDOM_BYTES_MAX bytes, the
 * first ones, however large it says it is: a driver asks again. After a restore the guest
 * reads fresh numbers, since none are kept here.
 */
#pragma once

#include "vmm/virtio_device.h"

#define VIRTIO_RANDOM_BYTES_MAX 4096u

/* 0 or -ENOMEM. */
int virtio_random_new(const struct virtio_place *place,
                      struct virtio_device **ret_device);
