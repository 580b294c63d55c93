#include "vmm/virtio_net.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/require.h"
#include "vmm/rate_gate.h"

#include <errno.h>
#include <linux/if_tun.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#define PCI_CLASS_ETHERNET 0x020000u
#define ETHERNET_HEADER    14u
#define STATUS_LINK_UP     1u
#define BUFFER_COUNT_AT    10u /* num_buffers in the header (5.1.6) */
#define MERGE_MAX          64u /* buffers that one packet may be spread over */
#define PIECES_MAX         (VIRTIO_QUEUE_SIZE_MAX + GUEST_MEMORY_REGIONS_MAX)
#define PACKETS_PER_TURN   256u

/* 5.1.4 */
struct net_config {
    uint8_t mac[6];
    uint16_t status;
    uint16_t max_virtqueue_pairs;
    uint16_t mtu;
};

struct net {
    struct virtio_device device;
    struct net_config config;
    int fd;
    int watch;
    struct rate_gate gates[2]; /* by queue */
    bool held[2];              /* its gate has said no */
    size_t paid_bytes[2];      /* by queue: the packet that waits is through its gate */
    bool gone;                 /* nothing will ever come from the other side */
    bool no_buffers;           /* the guest has none for what waits */
    bool other_side_full;      /* a packet of the guest waits for it */
    struct virtio_net_counters counters[2]; /* by queue */
    size_t waiting_bytes;                   /* of the packet, 0: there is none */
    uint8_t waiting[VIRTIO_NET_PACKET_MAX];
};

static struct net *net_of(struct virtio_device *device)
{
    return (struct net *)device;
}

/* What we want to hear of the other side, from all that can stand in the way. */
static void watch_update(struct net *net)
{
    const bool active = virtio_device_active(&net->device);
    unsigned events = 0;
    if (active && !net->gone && !net->no_buffers && !net->held[VIRTIO_NET_RECEIVE]) {
        events |= POLLER_READABLE;
    }
    if (active && net->other_side_full) {
        events |= POLLER_WRITABLE;
    }
    if (net->watch >= 0) {
        poller_change(net->device.place.poller, net->watch, events);
    }
}

static void count(struct net *net, enum virtio_net_queue queue, size_t size)
{
    net->counters[queue].packets++;
    net->counters[queue].bytes += size - VIRTIO_NET_HEADER_SIZE;
}

/* Once for each packet, however often it is tried. A guest may change one that waits:
 * more than it was costs anew. */
static bool pay(struct net *net, enum virtio_net_queue queue, size_t size)
{
    if (net->paid_bytes[queue] >= size) {
        return true;
    }
    net->held[queue] = !rate_gate_pass(&net->gates[queue], size);
    net->paid_bytes[queue] = net->held[queue] ? 0 : size;
    return !net->held[queue];
}

/* ---- to the guest ---- */

/* Copies the packet that waits into the guest's buffers. True when it is gone, false when
 * the guest has too few. */
static bool deliver(struct net *net)
{
    struct virtio_device *device = &net->device;
    struct virtio_queue *ring = &device->queues[VIRTIO_NET_RECEIVE];
    struct virtio_chain first = {0};
    struct virtio_chain chain;
    uint16_t heads[MERGE_MAX];
    uint32_t sizes[MERGE_MAX];
    const unsigned most =
        virtio_device_has(device, VIRTIO_NET_F_MRG_RXBUF) ? MERGE_MAX : 1;
    uint16_t taken = 0;
    size_t done = 0;
    while (done < net->waiting_bytes && taken < most &&
           virtio_device_next(device, VIRTIO_NET_RECEIVE, &chain) == 1) {
        const size_t size =
            virtio_chain_write(&chain, device->place.memory, 0, net->waiting + done,
                               net->waiting_bytes - done);
        if (taken == 0) {
            first = chain;
        }
        heads[taken] = chain.head;
        sizes[taken++] = (uint32_t)size;
        done += size;
    }
    if (done < net->waiting_bytes) {
        const bool hopeless = taken == most;
        while (taken > 0) {
            virtio_queue_unget(ring, heads[--taken]);
        }
        net->counters[VIRTIO_NET_RECEIVE].dropped += hopeless ? 1 : 0;
        return hopeless; /* the guest's buffers are too small for it: dropped */
    }
    const uint16_t buffers = taken;
    (void)virtio_chain_write(&first, device->place.memory, BUFFER_COUNT_AT, &buffers,
                             sizeof(buffers)); /* may be cut: then it is the guest's */
    for (unsigned i = 0; i < taken; i++) {
        virtio_queue_stage(ring, device->place.memory, heads[i], sizes[i]);
    }
    virtio_queue_publish(ring, device->place.memory);
    count(net, VIRTIO_NET_RECEIVE, net->waiting_bytes);
    return true;
}

/* Reads the next packet unless one waits. False when there is none. */
static bool fetch(struct net *net)
{
    while (net->waiting_bytes == 0) {
        const ssize_t size = read(net->fd, net->waiting, sizeof(net->waiting));
        if (size < 0) {
            net->gone = errno != EAGAIN && errno != EINTR;
            return false;
        }
        if (size >= (ssize_t)(VIRTIO_NET_HEADER_SIZE + ETHERNET_HEADER)) {
            net->waiting_bytes = (size_t)size;
        } else if (size == 0) {
            net->gone = true; /* the other end of a socket */
            return false;
        } else {
            net->counters[VIRTIO_NET_RECEIVE].dropped++;
        }
    }
    return true;
}

/* One packet. False when it is time to stop, and why is noted. */
static bool receive_one(struct net *net)
{
    struct virtio_device *device = &net->device;
    struct virtio_queue *ring = &device->queues[VIRTIO_NET_RECEIVE];
    if (!virtio_device_active(device) || !fetch(net)) {
        return false;
    }
    if (!pay(net, VIRTIO_NET_RECEIVE, net->waiting_bytes)) {
        return false;
    }
    /* Armed before the last look, so that a buffer cannot slip in unheard. */
    if (!deliver(net) &&
        !(virtio_queue_arm(ring, device->place.memory) && deliver(net))) {
        net->no_buffers = true;
        return false;
    }
    net->waiting_bytes = 0;
    net->paid_bytes[VIRTIO_NET_RECEIVE] = 0;
    return true;
}

static void receive(struct net *net)
{
    unsigned left = PACKETS_PER_TURN;
    net->no_buffers = false;
    net->held[VIRTIO_NET_RECEIVE] = false;
    while (left > 0 && receive_one(net)) {
        left--;
    }
    if (left == 0 && net->waiting_bytes > 0) {
        virtio_device_again(&net->device, VIRTIO_NET_RECEIVE);
    }
    virtio_device_signal(&net->device, VIRTIO_NET_RECEIVE);
    watch_update(net);
}

/* ---- from the guest ---- */

static enum virtio_handled
transmit_one(struct virtio_device *device, unsigned queue, struct virtio_chain *chain)
{
    struct net *net = net_of(device);
    struct iovec pieces[PIECES_MAX];
    const uint64_t size = chain->readable_bytes;
    const int pieces_count =
        size >= VIRTIO_NET_HEADER_SIZE + ETHERNET_HEADER && size <= VIRTIO_NET_PACKET_MAX
            ? virtio_chain_iovec(chain, device->place.memory, false, 0, size, pieces,
                                 PIECES_MAX)
            : BERTH_EINVALID;
    if (pieces_count > 0) {
        if (!pay(net, VIRTIO_NET_TRANSMIT, size)) {
            return VIRTIO_WAIT;
        }
        if (writev(net->fd, pieces, pieces_count) >= 0) {
            count(net, VIRTIO_NET_TRANSMIT, (size_t)size);
        } else if (errno == EAGAIN) {
            net->other_side_full = true;
            return VIRTIO_WAIT;
        } else { /* a header that makes no sense, or nobody there */
            net->counters[VIRTIO_NET_TRANSMIT].dropped++;
        }
    } else {
        net->counters[VIRTIO_NET_TRANSMIT].dropped++;
    }
    net->paid_bytes[VIRTIO_NET_TRANSMIT] = 0;
    virtio_device_give(device, queue, chain->head, 0);
    return VIRTIO_TAKEN;
}

static void transmit(struct net *net)
{
    net->other_side_full = false;
    net->held[VIRTIO_NET_TRANSMIT] = false;
    virtio_device_serve(&net->device, VIRTIO_NET_TRANSMIT, transmit_one);
    watch_update(net);
}

static void (*const turns[2])(struct net *net) = {
    [VIRTIO_NET_RECEIVE] = receive,
    [VIRTIO_NET_TRANSMIT] = transmit,
};

/* ---- callbacks ---- */

static void on_packet(void *context, uint64_t token, unsigned events)
{
    struct net *net = context;
    (void)token;
    virtio_device_enter(&net->device);
    if (events & POLLER_READABLE) {
        receive(net);
    }
    if (events & POLLER_WRITABLE) {
        virtio_device_notify(&net->device, VIRTIO_NET_TRANSMIT);
    }
    watch_update(net);
    virtio_device_leave(&net->device);
}

static void on_limit_due(void *context, uint64_t queue, unsigned events)
{
    struct net *net = context;
    (void)events;
    virtio_device_enter(&net->device);
    rate_gate_due(&net->gates[queue]);
    virtio_device_notify(&net->device, (unsigned)queue);
    virtio_device_leave(&net->device);
}

/* ---- the verbs ---- */

/* What a packet to this guest may look like. A socket has no say in it. */
static void offloads_apply(const struct net *net)
{
    static const struct {
        uint64_t feature;
        unsigned flag;
    } offloads[] = {
        {VIRTIO_NET_F_GUEST_CSUM, TUN_F_CSUM},
        {VIRTIO_NET_F_GUEST_CSUM | VIRTIO_NET_F_GUEST_TSO4, TUN_F_TSO4},
        {VIRTIO_NET_F_GUEST_CSUM | VIRTIO_NET_F_GUEST_TSO6, TUN_F_TSO6},
    };
    unsigned flags = 0;
    for (size_t i = 0; i < sizeof(offloads) / sizeof(offloads[0]); i++) {
        if (virtio_device_has(&net->device, offloads[i].feature)) {
            flags |= offloads[i].flag;
        }
    }
    (void)ioctl(net->fd, TUNSETOFFLOAD,
                (unsigned long)flags); /* not a tap: no offloads */
}

static int net_init(struct virtio_device *device, struct err *err)
{
    struct net *net = net_of(device);
    net->watch = poller_add(device->place.poller, net->fd, 0, on_packet, net, 0);
    if (net->watch < 0) {
        return err_sys(err, net->watch, "watch the tap");
    }
    for (unsigned i = 0; i < 2; i++) {
        const int r =
            rate_gate_init(&net->gates[i], device->place.poller, on_limit_due, net, i);
        if (r < 0) {
            return err_sys(err, r, "make the rate limit's timer");
        }
    }
    return 0;
}

static void net_activate(struct virtio_device *device)
{
    offloads_apply(net_of(device));
    watch_update(net_of(device));
}

static void net_notify(struct virtio_device *device, unsigned queue)
{
    turns[queue](net_of(device));
}

static void net_reset(struct virtio_device *device)
{
    struct net *net = net_of(device);
    net->waiting_bytes = 0;
    net->no_buffers = false;
    net->other_side_full = false;
    net->held[VIRTIO_NET_RECEIVE] = false;
    net->held[VIRTIO_NET_TRANSMIT] = false;
    net->paid_bytes[VIRTIO_NET_RECEIVE] = 0;
    net->paid_bytes[VIRTIO_NET_TRANSMIT] = 0;
    if (net->watch >= 0) {
        poller_change(device->place.poller, net->watch, 0);
    }
}

static void net_start(struct virtio_device *device)
{
    offloads_apply(net_of(device)); /* a restored machine has another tap */
    watch_update(net_of(device));
}

static void net_stop(struct virtio_device *device)
{
    if (net_of(device)->watch >= 0) {
        poller_change(device->place.poller, net_of(device)->watch, 0);
    }
}

static void net_save(struct virtio_device *device, struct bytes_writer *writer)
{
    for (unsigned i = 0; i < 2; i++) {
        rate_limit_save(&net_of(device)->gates[i].limit, writer);
    }
}

/* The packet that waited is lost, as packets are. */
static int
net_restore(struct virtio_device *device, struct bytes_reader *reader, struct err *err)
{
    for (unsigned i = 0; i < 2; i++) {
        rate_limit_restore(&net_of(device)->gates[i].limit, reader,
                           clock_now_ns(clock_system()));
    }
    return reader->error != 0 ? err_set(err, BERTH_ECORRUPT, "the limits are cut short")
                              : 0;
}

static void net_free(struct virtio_device *device)
{
    struct net *net = net_of(device);
    if (net->watch >= 0) {
        poller_remove(device->place.poller, net->watch);
    }
    rate_gate_fini(&net->gates[0]);
    rate_gate_fini(&net->gates[1]);
    fd_close(&net->fd);
    free(net);
}

static void net_config_read(struct virtio_device *device,
                            uint64_t offset,
                            void *ret_data,
                            unsigned size)
{
    virtio_config_read(&net_of(device)->config, sizeof(struct net_config), offset,
                       ret_data, size);
}

static const struct virtio_ops net_ops = {
    .kind = "virtio-net",
    .type = VIRTIO_TYPE_NET,
    .pci_class = PCI_CLASS_ETHERNET,
    .init = net_init,
    .activate = net_activate,
    .notify = net_notify,
    .reset = net_reset,
    .start = net_start,
    .stop = net_stop,
    .save = net_save,
    .restore = net_restore,
    .free = net_free,
    .config_read = net_config_read,
};

int virtio_net_new(const struct virtio_place *place,
                   const struct virtio_net_spec *spec,
                   int take_fd,
                   struct virtio_device **ret_device,
                   struct err *err)
{
    const uint64_t features = VIRTIO_NET_F_CSUM | VIRTIO_NET_F_GUEST_CSUM |
                              VIRTIO_NET_F_MTU | VIRTIO_NET_F_MAC |
                              VIRTIO_NET_F_GUEST_TSO4 | VIRTIO_NET_F_GUEST_TSO6 |
                              VIRTIO_NET_F_HOST_TSO4 | VIRTIO_NET_F_HOST_TSO6 |
                              VIRTIO_NET_F_MRG_RXBUF | VIRTIO_NET_F_STATUS;
    REQUIRE(spec->mtu >= 68);
    const int r = fd_set_nonblocking(take_fd);
    if (r < 0) {
        return err_sys(err, r, "use the tap");
    }
    struct net *net = calloc(1, sizeof(*net));
    if (net == NULL) {
        return err_sys(err, -ENOMEM, "make a network device");
    }
    virtio_device_setup(&net->device, &net_ops, place, features, 2,
                        VIRTIO_QUEUE_SIZE_MAX);
    net->config = (struct net_config){
        .status = STATUS_LINK_UP, .max_virtqueue_pairs = 1, .mtu = spec->mtu};
    memcpy(net->config.mac, spec->mac, sizeof(net->config.mac));
    net->fd = take_fd;
    net->watch = -1;
    for (unsigned i = 0; i < 2; i++) {
        rate_gate_setup(&net->gates[i], &spec->limits[i].operations,
                        &spec->limits[i].bytes);
    }
    *ret_device = &net->device;
    return 0;
}

void virtio_net_limit(struct virtio_device *device,
                      enum virtio_net_queue queue,
                      const struct rate_specs *limits)
{
    REQUIRE(device->ops == &net_ops);
    virtio_device_enter(device);
    rate_gate_change(&net_of(device)->gates[queue], &limits->operations, &limits->bytes);
    virtio_device_notify(device, queue);
    virtio_device_leave(device);
}

void virtio_net_count(struct virtio_device *device,
                      enum virtio_net_queue queue,
                      struct virtio_net_counters *ret_counters)
{
    REQUIRE(device->ops == &net_ops);
    virtio_device_enter(device);
    *ret_counters = net_of(device)->counters[queue];
    virtio_device_leave(device);
}
