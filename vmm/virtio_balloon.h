/* The memory balloon (virtio 1.2, 5.5): the guest gives pages back to the host.
 *
 * Inflated pages and ranges that the guest reports as free are released: they cost
 * nothing until they are touched again, and what they held is lost. Statistics come when
 * they are asked for (virtio_balloon_ask) and are what the guest says, nothing that
 * anybody may rely on.
 *
 * Where RAM's pages are those of a pool (ram_backing.h) nothing is released: no reports
 * are asked for, and nobody may set a target.
 *
 * Limits: VIRTIO_BALLOON_PAGES_MAX pages of one request are looked at, more are the
 * guest's own loss; VIRTIO_BALLOON_STATISTICS_MAX entries.
 */
#pragma once

#include "vmm/virtio_device.h"

#define VIRTIO_BALLOON_PAGES_MAX      1024u
#define VIRTIO_BALLOON_STATISTICS_MAX 32u
#define VIRTIO_BALLOON_PAGE_BYTES     4096u /* whatever the guest's page is */

/* 5.5.3 */
#define VIRTIO_BALLOON_F_STATS_VQ       (UINT64_C(1) << 1)
#define VIRTIO_BALLOON_F_DEFLATE_ON_OOM (UINT64_C(1) << 2)
#define VIRTIO_BALLOON_F_REPORTING      (UINT64_C(1) << 5)

/* 5.5.6.4: by tag. */
enum virtio_balloon_statistic {
    VIRTIO_BALLOON_SWAP_IN = 0,
    VIRTIO_BALLOON_SWAP_OUT,
    VIRTIO_BALLOON_MAJOR_FAULTS,
    VIRTIO_BALLOON_MINOR_FAULTS,
    VIRTIO_BALLOON_FREE_BYTES,
    VIRTIO_BALLOON_TOTAL_BYTES,
    VIRTIO_BALLOON_AVAILABLE_BYTES,
    VIRTIO_BALLOON_CACHE_BYTES,
    VIRTIO_BALLOON_STATISTIC_COUNT,
};

struct virtio_balloon_state {
    uint64_t target_bytes;     /* what the guest is asked to give */
    uint64_t actual_bytes;     /* what it says it gave */
    uint64_t released_bytes;   /* pages and ranges released so far */
    uint64_t statistics_count; /* how often they came */
    uint64_t statistics[VIRTIO_BALLOON_STATISTIC_COUNT];
};

int virtio_balloon_new(const struct virtio_place *place,
                       struct virtio_device **ret_device);
void virtio_balloon_target(struct virtio_device *device, uint64_t bytes);
/* Asks for new statistics; they are there when the count has moved. */
void virtio_balloon_ask(struct virtio_device *device);
void virtio_balloon_state(struct virtio_device *device,
                          struct virtio_balloon_state *ret_state);
