/* The network device (virtio 1.2, 5.1) in front of a tap.
 *
 * Shapes: one pair of queues for each descriptor; with more than one there is a control
 * queue, by which the driver says how many it uses (5.1.6.5.5). A descriptor carries one
 * packet per read or write, each with the 12-byte header of the specification before it:
 * a queue of a tap with IFF_VNET_HDR and a header size of 12, or a datagram socket. What
 * the driver negotiates is told to the tap (TUNSETOFFLOAD) when it is something else than
 * before, and by a restored machine; so are the pairs that it uses (TUNSETQUEUE); both
 * some times a second at most. A guest gets nothing until the tap knows what it takes.
 * The tap steers: what belongs to a flow comes where the guest last sent of it.
 *
 * To the guest: a packet is read into private memory first and copied into as many
 * buffers as it needs (one without MRG_RXBUF); when the guest has none, it waits here and
 * nothing more is read until there are some. From the guest: straight from its buffers.
 * Packets that the other side refuses are dropped and counted; a full other side holds
 * the guest back. Rate limits work in both directions on their own, for all pairs
 * together.
 *
 * Where the host's kernel can serve the queues, it does, as long as there is no limit:
 * then the packets do not come through this process, and are not counted (kernel_pairs
 * of the device's counters says so; what counts them is the tap).
 *
 * Ownership: takes the descriptors. Limits: VIRTIO_NET_PACKET_MAX, VIRTIO_NET_PAIRS_MAX.
 */
#pragma once

#include "vmm/rate_limit.h"
#include "vmm/virtio_device.h"

#define VIRTIO_NET_HEADER_SIZE 12u
#define VIRTIO_NET_PACKET_MAX  (65550u + VIRTIO_NET_HEADER_SIZE)
#define VIRTIO_NET_MTU_MAX     65535u
#define VIRTIO_NET_PAIRS_MAX   ((VIRTIO_QUEUES_MAX - 1u) / 2u)

/* 5.1.3 */
#define VIRTIO_NET_F_CSUM       (UINT64_C(1) << 0)
#define VIRTIO_NET_F_GUEST_CSUM (UINT64_C(1) << 1)
#define VIRTIO_NET_F_MTU        (UINT64_C(1) << 3)
#define VIRTIO_NET_F_MAC        (UINT64_C(1) << 5)
#define VIRTIO_NET_F_GUEST_TSO4 (UINT64_C(1) << 7)
#define VIRTIO_NET_F_GUEST_TSO6 (UINT64_C(1) << 8)
#define VIRTIO_NET_F_HOST_TSO4  (UINT64_C(1) << 11)
#define VIRTIO_NET_F_HOST_TSO6  (UINT64_C(1) << 12)
#define VIRTIO_NET_F_MRG_RXBUF  (UINT64_C(1) << 15)
#define VIRTIO_NET_F_STATUS     (UINT64_C(1) << 16)
#define VIRTIO_NET_F_CTRL_VQ    (UINT64_C(1) << 17)
#define VIRTIO_NET_F_MQ         (UINT64_C(1) << 22)

/* Of a pair: to the guest, and from it. */
enum virtio_net_queue { VIRTIO_NET_RECEIVE = 0, VIRTIO_NET_TRANSMIT };

struct virtio_net_spec {
    uint8_t mac[6];
    uint16_t mtu;                /* 68..VIRTIO_NET_MTU_MAX */
    struct rate_specs limits[2]; /* by direction */
};

struct virtio_net_counters {
    uint64_t packets;
    uint64_t bytes; /* without headers */
    uint64_t dropped;
};

int virtio_net_new(const struct virtio_place *place,
                   const struct virtio_net_spec *spec,
                   const int *take_fds,
                   unsigned pair_count,
                   struct virtio_device **ret_device,
                   struct err *err);
/* The kernel serves the pairs from now on where it can (vhost_pair.h), with an open
 * /dev/vhost-net for each; only before the machine runs. The descriptors are taken in any
 * case; after an error the device does without. */
int virtio_net_give_kernel(struct virtio_device *device,
                           const int *take_fds,
                           struct err *err);
/* How many pairs it serves now. */
unsigned virtio_net_kernel_pairs(struct virtio_device *device);
/* New limits of one direction for a running device. */
void virtio_net_limit(struct virtio_device *device,
                      enum virtio_net_queue direction,
                      const struct rate_specs *limits);
void virtio_net_count(const struct virtio_device *device,
                      enum virtio_net_queue direction,
                      struct virtio_net_counters *ret_counters);
