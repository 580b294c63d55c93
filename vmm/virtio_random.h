/* The entropy device (virtio 1.2, 5.4): the host's random numbers for the guest.
 *
 * One queue of buffers to fill. A buffer gets at most VIRTIO_RANDOM_BYTES_MAX bytes, the
 * first ones, however large it says it is: a driver asks again. Each buffer is filled
 * from the kernel's generator when it is taken, and nothing is kept here: what two copies
 * of a saved machine are given differs from the first buffer on, one that was waiting as
 * well. What the driver had before is in the guest's RAM, and the same in both (Linux'
 * asks for some 64 bytes ahead, and gives those out first).
 */
#pragma once

#include "vmm/virtio_device.h"

#define VIRTIO_RANDOM_BYTES_MAX 4096u

/* 0 or -ENOMEM. */
int virtio_random_new(const struct virtio_place *place,
                      struct virtio_device **ret_device);
