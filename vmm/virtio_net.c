#include "vmm/virtio_net.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/require.h"
#include "vmm/rate_gate.h"
#include "vmm/vhost_pair.h"

#include <errno.h>
#include <limits.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stddef.h>
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

/* 5.1.6.5: what the driver says on the control queue. */
#define CONTROL_MQ     4u
#define CONTROL_MQ_SET 0u
#define CONTROL_OK     0u
#define CONTROL_ERROR  1u

/* How often the tap is told what its guest takes, and which queues it uses: each time all
 * of the host's networking waits for a moment, which no guest may ask for without an end.
 */
#define TELLINGS_PER_S 4u
#define TELLINGS_BURST 16u

/* Frames that are thrown away at once, which is what a tap keeps and more. */
#define STALE_MAX 4096u

#define OFFLOADS_UNKNOWN UINT_MAX /* of a tap that nobody has told yet */

struct net_counters {
    struct counter packets;
    struct counter bytes; /* without headers */
    struct counter dropped;
    struct counter held; /* by the limit, each time that it says no */
};

/* One pair of queues and the tap's queue that it is connected with. */
struct net_pair {
    struct net *net;
    unsigned number;
    int fd;
    int watch;
    struct vhost_pair kernel; /* serves it instead of us while it runs */
    bool is_attached;         /* the tap gives it packets */
    bool held[2];             /* by direction: its gate has said no */
    size_t paid_bytes[2]; /* by direction: the packet that waits is through its gate */
    bool gone;            /* nothing will ever come from the other side */
    bool no_buffers;      /* the guest has none for what waits */
    bool other_side_full; /* a packet of the guest waits for it */
    size_t waiting_bytes; /* of the packet, 0: there is none */
    uint8_t waiting[VIRTIO_NET_PACKET_MAX];
};

struct net {
    struct virtio_device device;
    struct net_config config;
    struct rate_gate gates[2];       /* by direction, of all pairs together */
    struct net_counters counters[2]; /* the same */
    struct counter kernel_pairs;     /* that the kernel serves now */
    struct rate_gate telling;        /* of the tap */
    unsigned offloads_told;
    bool has_no_offloads;  /* no tap: whatever comes, comes as it is */
    unsigned first[2];     /* by direction: the pair that is served first */
    unsigned active_count; /* pairs that the driver uses */
    unsigned pair_count;
    struct net_pair pairs[];
};

static struct net *net_of(struct virtio_device *device)
{
    return (struct net *)device;
}

static unsigned queue_of(const struct net_pair *pair, enum virtio_net_queue direction)
{
    return 2 * pair->number + direction;
}

static bool is_active(const struct net_pair *pair)
{
    return virtio_device_active(&pair->net->device) &&
           pair->number < pair->net->active_count;
}

/* What a packet to this guest may look like. */
static unsigned offloads_of(const struct net *net)
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
    return flags;
}

/* The tap may give what this driver does not take. Before there is one it does not
 * matter. */
static bool offloads_differ(const struct net *net)
{
    return virtio_device_active(&net->device) && !net->has_no_offloads &&
           net->offloads_told != offloads_of(net);
}

/* What comes for it is for the guest. */
static bool is_open(const struct net_pair *pair)
{
    return is_active(pair) && pair->is_attached && !offloads_differ(pair->net);
}

/* What we want to hear of the other side, from all that can stand in the way. */
static void watch_update(struct net_pair *pair)
{
    const bool active = is_active(pair) && pair->is_attached && !pair->kernel.runs;
    unsigned events = 0;
    if (active && is_open(pair) && !pair->gone && !pair->no_buffers &&
        !pair->held[VIRTIO_NET_RECEIVE]) {
        events |= POLLER_READABLE;
    }
    if (active && pair->other_side_full) {
        events |= POLLER_WRITABLE;
    }
    if (pair->watch >= 0) {
        poller_change(pair->net->device.place.poller, pair->watch, events);
    }
}

/* A limit is ours to keep, and so is a packet that waits here. */
static bool is_for_kernel(const struct net_pair *pair)
{
    const struct net *net = pair->net;
    return is_open(pair) && pair->waiting_bytes == 0 &&
           rate_limit_is_none(&net->gates[VIRTIO_NET_RECEIVE].limit) &&
           rate_limit_is_none(&net->gates[VIRTIO_NET_TRANSMIT].limit);
}

static void kernel_pairs_count(struct net *net)
{
    unsigned count = 0;
    for (unsigned i = 0; i < net->pair_count; i++) {
        count += net->pairs[i].kernel.runs ? 1 : 0;
    }
    counter_set(&net->kernel_pairs, count);
}

/* Has it served by whom it is to be served by, and hears of what is left to us. */
static void pair_follow(struct net_pair *pair)
{
    const bool ran = pair->kernel.runs;
    if (is_for_kernel(pair)) {
        (void)vhost_pair_start(&pair->kernel, pair->fd); /* else we go on */
    } else if (pair->kernel.runs) {
        vhost_pair_stop(&pair->kernel);
        virtio_device_again(&pair->net->device, queue_of(pair, VIRTIO_NET_RECEIVE));
        virtio_device_again(&pair->net->device, queue_of(pair, VIRTIO_NET_TRANSMIT));
    }
    if (pair->kernel.runs != ran) {
        kernel_pairs_count(pair->net);
    }
    watch_update(pair);
}

static void count(struct net *net, enum virtio_net_queue direction, size_t size)
{
    counter_add(&net->counters[direction].packets, 1);
    counter_add(&net->counters[direction].bytes, size - VIRTIO_NET_HEADER_SIZE);
}

/* Once for each packet, however often it is tried. A guest may change one that waits:
 * more than it was costs anew. */
static bool pay(struct net_pair *pair, enum virtio_net_queue direction, size_t size)
{
    if (pair->paid_bytes[direction] >= size) {
        return true;
    }
    pair->held[direction] = !rate_gate_pass(&pair->net->gates[direction], size);
    pair->paid_bytes[direction] = pair->held[direction] ? 0 : size;
    counter_add(&pair->net->counters[direction].held, pair->held[direction] ? 1 : 0);
    return !pair->held[direction];
}

/* ---- to the guest ---- */

/* Copies the packet that waits into the guest's buffers. True when it is gone, false when
 * the guest has too few. */
static bool deliver(struct net_pair *pair)
{
    struct net *net = pair->net;
    struct virtio_device *device = &net->device;
    const unsigned queue = queue_of(pair, VIRTIO_NET_RECEIVE);
    struct virtio_queue *ring = &device->queues[queue];
    struct virtio_chain first = {0};
    struct virtio_chain chain;
    uint16_t heads[MERGE_MAX];
    uint32_t sizes[MERGE_MAX];
    const unsigned most =
        virtio_device_has(device, VIRTIO_NET_F_MRG_RXBUF) ? MERGE_MAX : 1;
    uint16_t taken = 0;
    size_t done = 0;
    while (done < pair->waiting_bytes && taken < most &&
           virtio_device_next(device, queue, &chain) == 1) {
        const size_t size =
            virtio_chain_write(&chain, device->place.memory, 0, pair->waiting + done,
                               pair->waiting_bytes - done);
        if (taken == 0) {
            first = chain;
        }
        heads[taken] = chain.head;
        sizes[taken++] = (uint32_t)size;
        done += size;
    }
    if (done < pair->waiting_bytes) {
        const bool hopeless = taken == most;
        while (taken > 0) {
            virtio_queue_unget(ring, heads[--taken]);
        }
        counter_add(&net->counters[VIRTIO_NET_RECEIVE].dropped, hopeless ? 1 : 0);
        return hopeless; /* the guest's buffers are too small for it: dropped */
    }
    const uint16_t buffers = taken;
    (void)virtio_chain_write(&first, device->place.memory, BUFFER_COUNT_AT, &buffers,
                             sizeof(buffers)); /* may be cut: then it is the guest's */
    for (unsigned i = 0; i < taken; i++) {
        virtio_queue_stage(ring, device->place.memory, heads[i], sizes[i]);
    }
    virtio_queue_publish(ring, device->place.memory);
    count(net, VIRTIO_NET_RECEIVE, pair->waiting_bytes);
    return true;
}

/* The tap had a packet that its header cannot tell of, such as one of another host's that
 * was put together in a way this knows nothing of: that one is lost, and others come. */
static bool is_of_one_packet(const struct net *net, int error)
{
    return error == EINVAL && !net->has_no_offloads;
}

/* Reads the next packet unless one waits. False when there is none, or not at once. */
static bool fetch(struct net_pair *pair)
{
    while (pair->waiting_bytes == 0) {
        const ssize_t size = read(pair->fd, pair->waiting, sizeof(pair->waiting));
        if (size < 0) {
            const int error = errno;
            const bool is_lost = is_of_one_packet(pair->net, error);
            counter_add(&pair->net->counters[VIRTIO_NET_RECEIVE].dropped,
                        is_lost ? 1 : 0);
            pair->gone = error != EAGAIN && error != EINTR && !is_lost;
            return false;
        }
        if (size >= (ssize_t)(VIRTIO_NET_HEADER_SIZE + ETHERNET_HEADER)) {
            pair->waiting_bytes = (size_t)size;
        } else if (size == 0) {
            pair->gone = true; /* the other end of a socket */
            return false;
        } else {
            counter_add(&pair->net->counters[VIRTIO_NET_RECEIVE].dropped, 1);
        }
    }
    return true;
}

/* One packet. False when it is time to stop, and why is noted. */
static bool receive_one(struct net_pair *pair)
{
    struct virtio_device *device = &pair->net->device;
    struct virtio_queue *ring = &device->queues[queue_of(pair, VIRTIO_NET_RECEIVE)];
    if (!is_open(pair) || !fetch(pair)) {
        return false;
    }
    if (!pay(pair, VIRTIO_NET_RECEIVE, pair->waiting_bytes)) {
        return false;
    }
    /* Armed before the last look, so that a buffer cannot slip in unheard. */
    if (!deliver(pair) &&
        !(virtio_queue_arm(ring, device->place.memory) && deliver(pair))) {
        pair->no_buffers = true;
        return false;
    }
    pair->waiting_bytes = 0;
    pair->paid_bytes[VIRTIO_NET_RECEIVE] = 0;
    return true;
}

static void receive(struct net_pair *pair)
{
    struct virtio_device *device = &pair->net->device;
    unsigned left = PACKETS_PER_TURN;
    pair->no_buffers = false;
    pair->held[VIRTIO_NET_RECEIVE] = false;
    while (left > 0 && receive_one(pair)) {
        left--;
    }
    if (left == 0 && pair->waiting_bytes > 0) {
        virtio_device_again(device, queue_of(pair, VIRTIO_NET_RECEIVE));
    }
    virtio_device_signal(device, queue_of(pair, VIRTIO_NET_RECEIVE));
    pair_follow(pair);
}

/* ---- from the guest ---- */

static enum virtio_handled packet_send(struct net_pair *pair,
                                       const struct iovec *pieces,
                                       int piece_count,
                                       size_t size)
{
    struct net *net = pair->net;
    if (!pay(pair, VIRTIO_NET_TRANSMIT, size)) {
        return VIRTIO_WAIT;
    }
    /* One that is not with the tap yet goes out by the first, which always is. */
    const int fd = pair->is_attached ? pair->fd : net->pairs[0].fd;
    if (writev(fd, pieces, piece_count) >= 0) {
        count(net, VIRTIO_NET_TRANSMIT, size);
    } else if (errno == EAGAIN && pair->is_attached) {
        pair->other_side_full = true;
        return VIRTIO_WAIT;
    } else { /* a header that makes no sense, or nobody there */
        counter_add(&net->counters[VIRTIO_NET_TRANSMIT].dropped, 1);
    }
    return VIRTIO_TAKEN;
}

static enum virtio_handled
transmit_one(struct virtio_device *device, unsigned queue, struct virtio_chain *chain)
{
    struct net *net = net_of(device);
    struct net_pair *pair = &net->pairs[queue / 2];
    struct guest_memory *memory = device->place.memory;
    struct iovec pieces[PIECES_MAX];
    const uint64_t size = chain->readable_bytes;
    const int pieces_count =
        size >= VIRTIO_NET_HEADER_SIZE + ETHERNET_HEADER && size <= VIRTIO_NET_PACKET_MAX
            ? virtio_chain_iovec(chain, memory, false, 0, size, pieces, PIECES_MAX)
            : BERTH_EINVALID;
    if (pieces_count > 0) {
        const enum virtio_handled handled =
            packet_send(pair, pieces, pieces_count, (size_t)size);
        guest_memory_iovec_end(memory, pieces, (unsigned)pieces_count);
        if (handled == VIRTIO_WAIT) {
            return VIRTIO_WAIT;
        }
    } else {
        counter_add(&net->counters[VIRTIO_NET_TRANSMIT].dropped, 1);
    }
    pair->paid_bytes[VIRTIO_NET_TRANSMIT] = 0;
    virtio_device_give(device, queue, chain->head, 0);
    return VIRTIO_TAKEN;
}

static void transmit(struct net_pair *pair)
{
    pair->other_side_full = false;
    pair->held[VIRTIO_NET_TRANSMIT] = false;
    virtio_device_serve(&pair->net->device, queue_of(pair, VIRTIO_NET_TRANSMIT),
                        transmit_one);
    pair_follow(pair);
}

static void (*const turns[2])(struct net_pair *pair) = {
    [VIRTIO_NET_RECEIVE] = receive,
    [VIRTIO_NET_TRANSMIT] = transmit,
};

/* All pairs have had to wait for the same; another is the first each time. */
static void direction_notify(struct net *net, enum virtio_net_queue direction)
{
    const unsigned first = net->first[direction]++;
    for (unsigned i = 0; i < net->active_count; i++) {
        const struct net_pair *pair = &net->pairs[(first + i) % net->active_count];
        virtio_device_notify(&net->device, queue_of(pair, direction));
    }
}

/* ---- what the tap is told ---- */

static void pair_empty(struct net_pair *pair)
{
    pair->waiting_bytes = 0;
    pair->no_buffers = false;
    pair->other_side_full = false;
    for (unsigned i = 0; i < 2; i++) {
        pair->held[i] = false;
        pair->paid_bytes[i] = 0;
    }
}

/* Tells the tap which of its queues get packets. A socket is its own tap: it always
 * does. */
static void pair_attach(struct net_pair *pair, bool attached)
{
    struct ifreq request = {.ifr_flags =
                                (short)(attached ? IFF_ATTACH_QUEUE : IFF_DETACH_QUEUE)};
    if (ioctl(pair->fd, TUNSETQUEUE, &request) == 0) {
        pair->is_attached = attached;
    }
}

/* What waits in the tap was made for a driver that took more. */
static void pair_drain(struct net_pair *pair)
{
    uint8_t cut[VIRTIO_NET_HEADER_SIZE + ETHERNET_HEADER];
    for (unsigned i = 0; i < STALE_MAX && read(pair->fd, cut, sizeof(cut)) > 0; i++) {
        counter_add(&pair->net->counters[VIRTIO_NET_RECEIVE].dropped, 1);
    }
}

/* What refuses once is no tap, and has no say in it. */
static void offloads_tell(struct net *net)
{
    const unsigned flags = offloads_of(net);
    const bool takes_less = (net->offloads_told & ~flags) != 0;
    net->has_no_offloads =
        ioctl(net->pairs[0].fd, TUNSETOFFLOAD, (unsigned long)flags) < 0;
    for (unsigned i = 0; i < net->pair_count; i++) {
        if (takes_less && !net->has_no_offloads && net->pairs[i].is_attached) {
            pair_drain(&net->pairs[i]);
        }
    }
    net->offloads_told = flags;
}

/* Soon it knows what the driver takes, and has the queues of the pairs that are used. */
static void tap_tell(struct net *net)
{
    bool any = offloads_differ(net);
    for (unsigned i = 1; i < net->pair_count; i++) {
        any = any || net->pairs[i].is_attached != (i < net->active_count);
    }
    if (!any || !rate_gate_pass(&net->telling, 0)) {
        return;
    }
    if (offloads_differ(net)) {
        offloads_tell(net);
    }
    for (unsigned i = 0; i < net->pair_count; i++) {
        struct net_pair *pair = &net->pairs[i];
        pair_follow(pair); /* one that is not attached reports an error without an end */
        if (pair->is_attached != (i < net->active_count)) {
            pair_attach(pair, i < net->active_count);
        }
        pair_follow(pair);
    }
}

static void active_set(struct net *net, unsigned count)
{
    net->active_count = count;
    for (unsigned i = 0; i < net->pair_count; i++) {
        struct net_pair *pair = &net->pairs[i];
        if (i >= count) {
            pair_empty(pair);
        }
        pair_follow(pair);
    }
    tap_tell(net);
}

static bool is_control(struct net *net, unsigned queue)
{
    const bool has_pairs = virtio_device_has(&net->device, VIRTIO_NET_F_MQ);
    return virtio_device_has(&net->device, VIRTIO_NET_F_CTRL_VQ) &&
           queue == (has_pairs ? 2 * net->pair_count : 2); /* 5.1.2 */
}

static enum virtio_handled
control_one(struct virtio_device *device, unsigned queue, struct virtio_chain *chain)
{
    struct net *net = net_of(device);
    struct {
        uint8_t class;
        uint8_t command;
        uint16_t pairs;
    } word;
    const bool is_whole = virtio_chain_read(chain, device->place.memory, 0, &word,
                                            sizeof(word)) == sizeof(word);
    const bool is_sound = is_whole && word.class == CONTROL_MQ &&
                          word.command == CONTROL_MQ_SET &&
                          virtio_device_has(device, VIRTIO_NET_F_MQ) && word.pairs >= 1 &&
                          word.pairs <= net->pair_count;
    const uint8_t answer = (uint8_t)(is_sound ? CONTROL_OK : CONTROL_ERROR);
    if (is_sound) {
        active_set(net, word.pairs);
        for (unsigned i = 0; i < 2u * word.pairs; i++) {
            virtio_device_again(device, i); /* what waits in those that were not used */
        }
    }
    const size_t size =
        virtio_chain_write(chain, device->place.memory, 0, &answer, sizeof(answer));
    virtio_device_give(device, queue, chain->head, (uint32_t)size);
    return VIRTIO_TAKEN;
}

/* ---- callbacks ---- */

static void on_packet(void *context, uint64_t token, unsigned events)
{
    struct net *net = context;
    struct net_pair *pair = &net->pairs[token];
    virtio_device_enter(&net->device);
    if ((events & POLLER_READABLE) && !pair->kernel.runs) { /* a late one */
        receive(pair);
    }
    if ((events & POLLER_WRITABLE) && is_active(pair)) {
        virtio_device_notify(&net->device, queue_of(pair, VIRTIO_NET_TRANSMIT));
    }
    pair_follow(pair);
    virtio_device_leave(&net->device);
}

static void on_limit_due(void *context, uint64_t direction, unsigned events)
{
    struct net *net = context;
    (void)events;
    virtio_device_enter(&net->device);
    rate_gate_due(&net->gates[direction]);
    direction_notify(net, (enum virtio_net_queue)direction);
    virtio_device_leave(&net->device);
}

static void on_telling_due(void *context, uint64_t token, unsigned events)
{
    struct net *net = context;
    (void)token;
    (void)events;
    virtio_device_enter(&net->device);
    rate_gate_due(&net->telling);
    tap_tell(net);
    virtio_device_leave(&net->device);
}

/* ---- the verbs ---- */

static int net_init(struct virtio_device *device, struct err *err)
{
    struct net *net = net_of(device);
    struct poller *poller = device->place.poller;
    for (unsigned i = 0; i < net->pair_count; i++) {
        struct net_pair *pair = &net->pairs[i];
        pair->watch = poller_add(poller, pair->fd, 0, on_packet, net, i);
        if (pair->watch < 0) {
            return err_sys(err, pair->watch, "watch the tap");
        }
    }
    int r = rate_gate_init(&net->telling, poller, on_telling_due, net, 0);
    for (unsigned i = 0; r == 0 && i < 2; i++) {
        r = rate_gate_init(&net->gates[i], poller, on_limit_due, net, i);
    }
    if (r < 0) {
        return err_sys(err, r, "make the rate limit's timer");
    }
    tap_tell(net);
    return 0;
}

/* Also what a restored machine finds: another tap. */
static void net_update(struct virtio_device *device)
{
    struct net *net = net_of(device);
    active_set(net, net->active_count);
}

static void net_notify(struct virtio_device *device, unsigned queue)
{
    struct net *net = net_of(device);
    if (is_control(net, queue)) {
        virtio_device_serve(device, queue, control_one);
    } else if (queue / 2 < net->active_count) {
        struct net_pair *pair = &net->pairs[queue / 2];
        if (pair->kernel.runs) {
            vhost_pair_kick(&pair->kernel, queue % 2);
        } else {
            turns[queue % 2](pair);
        }
    }
}

static void net_rewire(struct virtio_device *device)
{
    struct net *net = net_of(device);
    for (unsigned i = 0; i < net->pair_count; i++) {
        vhost_pair_rewire(&net->pairs[i].kernel);
    }
}

/* Nobody serves them. */
static void pairs_hush(struct net *net)
{
    for (unsigned i = 0; i < net->pair_count; i++) {
        vhost_pair_stop(&net->pairs[i].kernel);
        if (net->pairs[i].watch >= 0) {
            poller_change(net->device.place.poller, net->pairs[i].watch, 0);
        }
    }
    kernel_pairs_count(net);
}

/* The tap follows when there is a driver again. */
static void net_reset(struct virtio_device *device)
{
    struct net *net = net_of(device);
    for (unsigned i = 0; i < net->pair_count; i++) {
        pair_empty(&net->pairs[i]);
        vhost_pair_reset(&net->pairs[i].kernel);
    }
    net->active_count = 1;
    pairs_hush(net);
}

static void net_stop(struct virtio_device *device)
{
    pairs_hush(net_of(device));
}

static void net_save(struct virtio_device *device, struct bytes_writer *writer)
{
    bytes_write_u16(writer, (uint16_t)net_of(device)->active_count);
    for (unsigned i = 0; i < 2; i++) {
        rate_limit_save(&net_of(device)->gates[i].limit, writer);
    }
}

/* The packets that waited are lost, as packets are. Before version 2 there was one pair.
 */
static int net_restore(struct virtio_device *device,
                       uint16_t version,
                       struct bytes_reader *reader,
                       struct err *err)
{
    struct net *net = net_of(device);
    const unsigned active_count = version >= 2 ? bytes_read_u16(reader) : 1;
    for (unsigned i = 0; i < 2; i++) {
        rate_limit_restore(&net->gates[i].limit, reader, clock_now_ns(clock_system()));
    }
    if (reader->error != 0 || active_count < 1 || active_count > net->pair_count ||
        (active_count > 1 && !virtio_device_has(device, VIRTIO_NET_F_MQ))) {
        return err_set(err, BERTH_ECORRUPT, "its pairs and limits make no sense");
    }
    net->active_count = active_count;
    return 0;
}

static void net_free(struct virtio_device *device)
{
    struct net *net = net_of(device);
    for (unsigned i = 0; i < net->pair_count; i++) {
        struct net_pair *pair = &net->pairs[i];
        if (pair->watch >= 0) {
            poller_remove(device->place.poller, pair->watch);
        }
        vhost_pair_fini(&pair->kernel);
        fd_close(&pair->fd);
    }
    rate_gate_fini(&net->gates[0]);
    rate_gate_fini(&net->gates[1]);
    rate_gate_fini(&net->telling);
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

static const struct counter_row net_counters[] = {
    {"rx_packets", offsetof(struct net, counters[VIRTIO_NET_RECEIVE].packets)},
    {"rx_bytes", offsetof(struct net, counters[VIRTIO_NET_RECEIVE].bytes)},
    {"rx_dropped", offsetof(struct net, counters[VIRTIO_NET_RECEIVE].dropped)},
    {"rx_held", offsetof(struct net, counters[VIRTIO_NET_RECEIVE].held)},
    {"tx_packets", offsetof(struct net, counters[VIRTIO_NET_TRANSMIT].packets)},
    {"tx_bytes", offsetof(struct net, counters[VIRTIO_NET_TRANSMIT].bytes)},
    {"tx_dropped", offsetof(struct net, counters[VIRTIO_NET_TRANSMIT].dropped)},
    {"tx_held", offsetof(struct net, counters[VIRTIO_NET_TRANSMIT].held)},
    {"kernel_pairs", offsetof(struct net, kernel_pairs)},
};

static const struct virtio_ops net_ops = {
    .kind = "virtio-net",
    .type = VIRTIO_TYPE_NET,
    .pci_class = PCI_CLASS_ETHERNET,
    .counters = net_counters,
    .counter_count = ARRAY_COUNT(net_counters),
    .init = net_init,
    .activate = net_update,
    .notify = net_notify,
    .failed = net_stop,
    .rewire = net_rewire,
    .reset = net_reset,
    .start = net_update,
    .stop = net_stop,
    .save = net_save,
    .restore = net_restore,
    .free = net_free,
    .config_read = net_config_read,
};

int virtio_net_new(const struct virtio_place *place,
                   const struct virtio_net_spec *spec,
                   const int *take_fds,
                   unsigned pair_count,
                   struct virtio_device **ret_device,
                   struct err *err)
{
    const struct rate_spec telling = {TELLINGS_PER_S, TELLINGS_BURST};
    const struct rate_spec none = {0, 0};
    const uint64_t features = VIRTIO_NET_F_CSUM | VIRTIO_NET_F_GUEST_CSUM |
                              VIRTIO_NET_F_MTU | VIRTIO_NET_F_MAC |
                              VIRTIO_NET_F_GUEST_TSO4 | VIRTIO_NET_F_GUEST_TSO6 |
                              VIRTIO_NET_F_HOST_TSO4 | VIRTIO_NET_F_HOST_TSO6 |
                              VIRTIO_NET_F_MRG_RXBUF | VIRTIO_NET_F_STATUS;
    const bool has_more = pair_count > 1;
    REQUIRE(spec->mtu >= 68 && pair_count >= 1 && pair_count <= VIRTIO_NET_PAIRS_MAX);
    for (unsigned i = 0; i < pair_count; i++) {
        const int r = fd_set_nonblocking(take_fds[i]);
        if (r < 0) {
            return err_sys(err, r, "use the tap");
        }
    }
    struct net *net = calloc(1, sizeof(*net) + pair_count * sizeof(net->pairs[0]));
    if (net == NULL) {
        return err_sys(err, -ENOMEM, "make a network device");
    }
    virtio_device_setup(&net->device, &net_ops, place,
                        features |
                            (has_more ? VIRTIO_NET_F_MQ | VIRTIO_NET_F_CTRL_VQ : 0),
                        2 * pair_count + (has_more ? 1 : 0), VIRTIO_QUEUE_SIZE_MAX);
    net->config = (struct net_config){.status = STATUS_LINK_UP,
                                      .max_virtqueue_pairs = (uint16_t)pair_count,
                                      .mtu = spec->mtu};
    memcpy(net->config.mac, spec->mac, sizeof(net->config.mac));
    net->offloads_told = OFFLOADS_UNKNOWN;
    net->active_count = 1;
    net->pair_count = pair_count;
    for (unsigned i = 0; i < pair_count; i++) {
        struct net_pair *pair = &net->pairs[i];
        pair->net = net;
        pair->number = i;
        pair->fd = take_fds[i];
        pair->watch = -1;
        pair->is_attached = true;
        vhost_pair_setup(&pair->kernel, &net->device, 2 * i);
    }
    for (unsigned i = 0; i < 2; i++) {
        rate_gate_setup(&net->gates[i], &spec->limits[i].operations,
                        &spec->limits[i].bytes);
    }
    rate_gate_setup(&net->telling, &telling, &none);
    *ret_device = &net->device;
    return 0;
}

int virtio_net_give_kernel(struct virtio_device *device,
                           const int *take_fds,
                           struct err *err)
{
    struct net *net = net_of(device);
    int r = 0;
    REQUIRE(device->ops == &net_ops && !device->running);
    for (unsigned i = 0; i < net->pair_count; i++) {
        int fd = take_fds[i];
        if (r == 0) {
            r = vhost_pair_init(&net->pairs[i].kernel, fd, err);
        } else {
            fd_close(&fd);
        }
    }
    for (unsigned i = 0; r < 0 && i < net->pair_count; i++) {
        vhost_pair_fini(&net->pairs[i].kernel);
    }
    return r;
}

unsigned virtio_net_kernel_pairs(struct virtio_device *device)
{
    REQUIRE(device->ops == &net_ops);
    return (unsigned)counter_read(&net_of(device)->kernel_pairs);
}

void virtio_net_limit(struct virtio_device *device,
                      enum virtio_net_queue direction,
                      const struct rate_specs *limits)
{
    REQUIRE(device->ops == &net_ops);
    virtio_device_enter(device);
    rate_gate_change(&net_of(device)->gates[direction], &limits->operations,
                     &limits->bytes);
    for (unsigned i = 0; i < net_of(device)->active_count; i++) {
        pair_follow(&net_of(device)->pairs[i]);
    }
    direction_notify(net_of(device), direction);
    virtio_device_leave(device);
}

void virtio_net_count(const struct virtio_device *device,
                      enum virtio_net_queue direction,
                      struct virtio_net_counters *ret_counters)
{
    REQUIRE(device->ops == &net_ops);
    const struct net_counters *now =
        &((const struct net *)(const void *)device)->counters[direction];
    *ret_counters = (struct virtio_net_counters){.packets = counter_read(&now->packets),
                                                 .bytes = counter_read(&now->bytes),
                                                 .dropped = counter_read(&now->dropped)};
}
