#include "vmm/virtio_vsock.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/require.h"
#include "vmm/vsock_device.h"
#include "vmm/vsock_dialer.h"
#include "vmm/vsock_packet.h"
#include "vmm/vsock_stream.h"

#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define PCI_CLASS_OTHER 0xff0000u /* no class fits */
#define HEADER_BYTES    ((uint32_t)sizeof(struct vsock_header))
#define ANSWER_SIZE     32u /* "OK 4294967295\n" fits */
#define PIECES_MAX      (VIRTIO_QUEUE_SIZE_MAX + GUEST_MEMORY_REGIONS_MAX)
#define TOKEN_LISTENER  (UINT64_C(1) << 32)
#define TOKEN_DIALER    (UINT64_C(2) << 32)
#define TOKEN_TIMER     (UINT64_C(3) << 32)

static struct vsock *vsock_of(struct virtio_device *device)
{
    return (struct vsock *)device;
}

/* ---- links: vsock_links.h, and what the device makes of it ---- */

void vsock_device_watch(struct vsock *vsock, const struct vsock_link *link)
{
    vsock_link_watch(&vsock->links, link, virtio_device_active(&vsock->device));
}

void vsock_device_free_link(struct vsock *vsock, struct vsock_link *link)
{
    vsock_link_free(&vsock->links, link);
    vsock->listener_rests = false;
}

/* Ends it; the guest is told. */
void vsock_device_reset_link(struct vsock *vsock, struct vsock_link *link)
{
    counter_add(&vsock->counters.refused,
                link->state == LINK_REQUESTED || link->state == LINK_DIALING ? 1 : 0);
    vsock_link_close(&vsock->links, link);
    vsock->listener_rests = false;
    link->state = LINK_RESETTING;
    link->to_send = SEND_RST;
}

/* ---- to the guest ---- */

static void reset_put(struct vsock *vsock, uint32_t host_port, uint32_t guest_port)
{
    REQUIRE(vsock->reset_count < VSOCK_RESETS_MAX);
    vsock->resets[(vsock->reset_first + vsock->reset_count++) % VSOCK_RESETS_MAX] =
        (struct vsock_address_pair){host_port, guest_port};
}

static struct vsock_header
header_make(const struct vsock *vsock, uint32_t host_port, uint32_t guest_port)
{
    return (struct vsock_header){.source_cid = VSOCK_HOST_CID,
                                 .target_cid = vsock->guest_cid,
                                 .source_port = host_port,
                                 .target_port = guest_port,
                                 .type = VSOCK_STREAM};
}

static void header_give(struct vsock *vsock,
                        const struct virtio_chain *chain,
                        const struct vsock_header *header)
{
    struct virtio_device *device = &vsock->device;
    (void)virtio_chain_write(chain, device->place.memory, 0, header, HEADER_BYTES);
    virtio_device_give(device, VIRTIO_VSOCK_RECEIVE, chain->head,
                       HEADER_BYTES + header->size);
    counter_add(&vsock->counters.resets, header->operation == VSOCK_RST ? 1 : 0);
}

/* The packet of a link with its credit. */
static void link_give(struct vsock *vsock,
                      struct vsock_link *link,
                      const struct virtio_chain *chain,
                      enum vsock_operation operation,
                      uint32_t flags,
                      uint32_t size)
{
    struct vsock_header header = header_make(vsock, link->host_port, link->guest_port);
    header.operation = (uint16_t)operation;
    header.flags = flags;
    header.size = size;
    header.buffer_bytes = VSOCK_BUFFER_BYTES;
    header.forwarded_bytes = link->stream.forwarded;
    link->stream.told = link->stream.forwarded;
    link->to_send &= ~(unsigned)SEND_CREDIT_UPDATE;
    header_give(vsock, chain, &header);
}

/* Bytes from the socket, straight into the guest's buffer. False: it brought none, and
 * the buffer is still free. A buffer that cannot be reached costs the device. */
static bool
bytes_give(struct vsock *vsock, struct vsock_link *link, struct virtio_chain *chain)
{
    struct iovec pieces[PIECES_MAX];
    struct guest_memory *memory = vsock->device.place.memory;
    uint64_t size = chain->writable_bytes - HEADER_BYTES;
    const uint32_t room = vsock_stream_room(&link->stream);
    size = size < room ? size : room;
    size = size < VSOCK_BUFFER_BYTES ? size : VSOCK_BUFFER_BYTES;
    if (room == 0) {
        link->has_no_credit = true;
        link->to_send = (link->to_send & ~(unsigned)SEND_BYTES) | SEND_CREDIT_REQUEST;
        return false;
    }
    const int count =
        virtio_chain_iovec(chain, memory, true, HEADER_BYTES, size, pieces, PIECES_MAX);
    if (count <= 0) { /* RAM that went, or never came, since the chain was read */
        virtio_device_fail(&vsock->device, "a packet's buffer is no RAM any more");
        virtio_device_give(&vsock->device, VIRTIO_VSOCK_RECEIVE, chain->head, 0);
        return true;
    }
    const ssize_t got = readv(link->fd, pieces, count);
    const int why = got < 0 ? errno : 0;
    guest_memory_iovec_end(memory, pieces, (unsigned)count);
    if (got > 0) {
        virtio_chain_mark(chain, memory, HEADER_BYTES + (uint64_t)got);
        link->to_send &= (uint64_t)got < size ? ~(unsigned)SEND_BYTES : ~0u;
        link->stream.sent += (uint32_t)got;
        counter_add(&vsock->counters.received_bytes, (uint64_t)got);
        link_give(vsock, link, chain, VSOCK_RW, 0, (uint32_t)got);
        return true;
    }
    link->to_send &= ~(unsigned)SEND_BYTES;
    if (got == 0) {
        link->host_ended = true;
        link->to_send |= SEND_SHUTDOWN;
    } else if (why != EAGAIN && why != EINTR) {
        vsock_device_reset_link(vsock, link);
    }
    return false;
}

static const struct {
    unsigned bit;
    enum vsock_operation operation;
    uint32_t flags;
} small_packets[] = {
    {SEND_REQUEST, VSOCK_REQUEST, 0},
    {SEND_RESPONSE, VSOCK_RESPONSE, 0},
    {SEND_CREDIT_UPDATE, VSOCK_CREDIT_UPDATE, 0},
    {SEND_CREDIT_REQUEST, VSOCK_CREDIT_REQUEST, 0},
    {SEND_SHUTDOWN, VSOCK_SHUTDOWN, VSOCK_NO_SEND},
};

/* The next packet of a link into the buffer; false: it has none after all. */
static bool
link_send(struct vsock *vsock, struct vsock_link *link, struct virtio_chain *chain)
{
    if ((link->to_send & SEND_RST) != 0) {
        link_give(vsock, link, chain, VSOCK_RST, 0, 0);
        vsock_device_free_link(vsock, link);
        return true;
    }
    for (unsigned i = 0; i < ARRAY_COUNT(small_packets); i++) {
        if ((link->to_send & small_packets[i].bit) != 0) {
            link->to_send &= ~small_packets[i].bit;
            link_give(vsock, link, chain, small_packets[i].operation,
                      small_packets[i].flags, 0);
            return true;
        }
    }
    return (link->to_send & SEND_BYTES) != 0 && bytes_give(vsock, link, chain);
}

/* Each link has its turn; one that has nothing after all may have a word instead. */
static bool any_link_send(struct vsock *vsock, struct virtio_chain *chain)
{
    const unsigned count = vsock->links.end; /* as it is now: one may go */
    for (unsigned i = 0; i < count; i++) {
        vsock->turn = vsock->turn + 1 < count ? vsock->turn + 1 : 0;
        struct vsock_link *link = &vsock->links.links[vsock->turn];
        bool is_sent = false;
        for (unsigned tries = 0; !is_sent && link->to_send != 0 && tries < 2; tries++) {
            is_sent = link_send(vsock, link, chain);
        }
        if (link->state != LINK_FREE) {
            vsock_device_watch(vsock, link);
        }
        if (is_sent) {
            return true;
        }
    }
    return false;
}

static enum virtio_handled
receive_one(struct virtio_device *device, unsigned queue, struct virtio_chain *chain)
{
    struct vsock *vsock = vsock_of(device);
    if (chain->writable_bytes <=
        HEADER_BYTES) { /* no packet fits: it costs this buffer */
        virtio_device_give(device, queue, chain->head, 0);
        return VIRTIO_TAKEN;
    }
    if (vsock->reset_count > 0) {
        const struct vsock_address_pair *pair = &vsock->resets[vsock->reset_first];
        struct vsock_header header =
            header_make(vsock, pair->host_port, pair->guest_port);
        header.operation = VSOCK_RST;
        vsock->reset_first = (vsock->reset_first + 1) % VSOCK_RESETS_MAX;
        vsock->reset_count--;
        header_give(vsock, chain, &header);
        if (vsock->transmit_waits) {
            vsock->transmit_waits = false;
            virtio_device_again(device, VIRTIO_VSOCK_TRANSMIT);
        }
        return VIRTIO_TAKEN;
    }
    return any_link_send(vsock, chain) ? VIRTIO_TAKEN : VIRTIO_WAIT;
}

static bool anything_to_send(const struct vsock *vsock)
{
    bool any = vsock->reset_count > 0;
    for (unsigned i = 0; !any && i < vsock->links.end; i++) {
        any = vsock->links.links[i].to_send != 0;
    }
    return any;
}

static void receive(struct vsock *vsock)
{
    if (anything_to_send(vsock)) {
        virtio_device_serve(&vsock->device, VIRTIO_VSOCK_RECEIVE, receive_one);
    }
}

/* ---- from the guest ---- */

/* After bytes have left the buffer, or the guest has said that it is done. */
static void link_settle(struct vsock *vsock, struct vsock_link *link)
{
    const bool is_empty = vsock_stream_waiting(&link->stream) == 0;
    if (is_empty && link->state == LINK_CLOSING) {
        vsock_device_reset_link(vsock, link); /* 5.10.6.5: that is how both know */
    } else if (is_empty && link->guest_ended && link->state == LINK_OPEN) {
        (void)shutdown(link->fd, SHUT_WR); /* it may have gone: then its end says so */
    }
    if (link->state == LINK_OPEN && vsock_stream_must_tell(&link->stream)) {
        link->to_send |= SEND_CREDIT_UPDATE;
    }
}

/* Asks for a connection to that port of the host. */
static void guest_request(struct vsock *vsock, const struct vsock_header *header)
{
    struct vsock_link *link =
        vsock->dialer < 0 ? NULL : vsock_links_new(&vsock->links, LINK_DIALING);
    if (link == NULL) {
        counter_add(&vsock->counters.refused, 1);
        reset_put(vsock, header->target_port, header->source_port);
        return;
    }
    link->host_port = header->target_port;
    link->guest_port = header->source_port;
    vsock_stream_hear(&link->stream, header->buffer_bytes, header->forwarded_bytes);
    const struct vsock_dial_request request = {.id = vsock_link_id(&vsock->links, link),
                                               .port = link->host_port};
    if (send(vsock->dialer, &request, sizeof(request), MSG_NOSIGNAL | MSG_DONTWAIT) !=
        (ssize_t)sizeof(request)) {
        vsock_device_reset_link(vsock, link);
    }
}

static void guest_response(struct vsock *vsock,
                           struct vsock_link *link,
                           const struct vsock_header *header,
                           const struct virtio_chain *chain)
{
    char answer[ANSWER_SIZE];
    (void)header;
    (void)chain;
    const int size =
        snprintf(answer, sizeof(answer), "OK %" PRIu32 "\n", link->host_port);
    if (link->state != LINK_REQUESTED ||
        write(link->fd, answer, (size_t)size) != (ssize_t)size) {
        vsock_device_reset_link(vsock, link);
        return;
    }
    link->state = LINK_OPEN;
    counter_add(&vsock->counters.opened, 1);
}

static void guest_rst(struct vsock *vsock,
                      struct vsock_link *link,
                      const struct vsock_header *header,
                      const struct virtio_chain *chain)
{
    (void)header;
    (void)chain;
    counter_add(&vsock->counters.refused, link->state == LINK_REQUESTED ? 1 : 0);
    vsock_device_free_link(vsock, link);
}

static void guest_shutdown(struct vsock *vsock,
                           struct vsock_link *link,
                           const struct vsock_header *header,
                           const struct virtio_chain *chain)
{
    (void)chain;
    if (link->state != LINK_OPEN) {
        vsock_device_reset_link(vsock, link);
        return;
    }
    link->guest_is_deaf = link->guest_is_deaf || (header->flags & VSOCK_NO_RECEIVE) != 0;
    link->guest_ended = link->guest_ended || (header->flags & VSOCK_NO_SEND) != 0;
    if (link->guest_is_deaf) {
        link->to_send &= ~(unsigned)(SEND_BYTES | SEND_CREDIT_REQUEST);
    }
    if (link->guest_is_deaf && link->guest_ended) {
        link->state = LINK_CLOSING;
    }
    link_settle(vsock, link);
}

static void guest_bytes(struct vsock *vsock,
                        struct vsock_link *link,
                        const struct vsock_header *header,
                        const struct virtio_chain *chain)
{
    struct iovec pieces[PIECES_MAX];
    if (link->state != LINK_OPEN || link->guest_ended ||
        header->size > VSOCK_BUFFER_BYTES) {
        vsock_device_reset_link(vsock, link);
        return;
    }
    const int count =
        header->size == 0
            ? 0
            : virtio_chain_iovec(chain, vsock->device.place.memory, false, HEADER_BYTES,
                                 header->size, pieces, PIECES_MAX);
    const int r = count < 0 ? count
                            : vsock_stream_take(&link->stream, link->fd, pieces,
                                                (unsigned)count, header->size);
    if (count > 0) {
        guest_memory_iovec_end(vsock->device.place.memory, pieces, (unsigned)count);
    }
    if (r < 0) {
        vsock_device_reset_link(vsock, link);
        return;
    }
    counter_add(&vsock->counters.sent_bytes, header->size);
    link_settle(vsock, link);
}

/* What it said of its buffer was heard already. */
static void guest_credit(struct vsock *vsock,
                         struct vsock_link *link,
                         const struct vsock_header *header,
                         const struct virtio_chain *chain)
{
    (void)chain;
    if (link->state != LINK_OPEN && link->state != LINK_CLOSING) {
        vsock_device_reset_link(vsock, link);
    } else if (header->operation == VSOCK_CREDIT_REQUEST) {
        link->to_send |= SEND_CREDIT_UPDATE;
    }
}

static void (*const guest_words[VSOCK_OPERATION_COUNT])(
    struct vsock *vsock,
    struct vsock_link *link,
    const struct vsock_header *header,
    const struct virtio_chain *chain) = {
    [VSOCK_RESPONSE] = guest_response,    [VSOCK_RST] = guest_rst,
    [VSOCK_SHUTDOWN] = guest_shutdown,    [VSOCK_RW] = guest_bytes,
    [VSOCK_CREDIT_UPDATE] = guest_credit, [VSOCK_CREDIT_REQUEST] = guest_credit,
};

static void link_hear(struct vsock *vsock,
                      struct vsock_link *link,
                      const struct vsock_header *header,
                      const struct virtio_chain *chain)
{
    vsock_stream_hear(&link->stream, header->buffer_bytes, header->forwarded_bytes);
    if (link->has_no_credit && vsock_stream_room(&link->stream) > 0) {
        link->has_no_credit = false;
        link->to_send |= link->guest_is_deaf ? 0 : SEND_BYTES;
    }
    guest_words[header->operation](vsock, link, header, chain);
    if (link->state != LINK_FREE) {
        vsock_device_watch(vsock, link);
    }
}

/* Whether the packet is one of this guest's to this host at all. */
static bool header_sound(const struct vsock *vsock,
                         const struct vsock_header *header,
                         const struct virtio_chain *chain)
{
    return header->source_cid == vsock->guest_cid &&
           header->target_cid == VSOCK_HOST_CID && header->type == VSOCK_STREAM &&
           header->operation < VSOCK_OPERATION_COUNT &&
           (guest_words[header->operation] != NULL ||
            header->operation == VSOCK_REQUEST) &&
           header->size <= chain->readable_bytes - HEADER_BYTES;
}

static void packet_take(struct vsock *vsock,
                        const struct vsock_header *header,
                        const struct virtio_chain *chain)
{
    struct vsock_link *link =
        vsock_links_find(&vsock->links, header->target_port, header->source_port);
    const bool is_sound = header_sound(vsock, header, chain);
    if (link != NULL && link->state == LINK_RESETTING) {
        if (is_sound && header->operation == VSOCK_RST) {
            vsock_device_free_link(vsock, link); /* both said so */
        }
        return; /* its answer is on the way */
    }
    if (link != NULL && is_sound && header->operation != VSOCK_REQUEST) {
        link_hear(vsock, link, header, chain);
    } else if (link != NULL) {
        vsock_device_reset_link(vsock, link);
    } else if (is_sound && header->operation == VSOCK_REQUEST) {
        guest_request(vsock, header);
    } else if (header->operation != VSOCK_RST) {
        reset_put(vsock, header->target_port, header->source_port);
    }
}

static enum virtio_handled
transmit_one(struct virtio_device *device, unsigned queue, struct virtio_chain *chain)
{
    struct vsock *vsock = vsock_of(device);
    struct vsock_header header;
    if (vsock->reset_count == VSOCK_RESETS_MAX) {
        vsock->transmit_waits = true;
        return VIRTIO_WAIT;
    }
    if (virtio_chain_read(chain, device->place.memory, 0, &header, HEADER_BYTES) ==
        HEADER_BYTES) {
        packet_take(vsock, &header, chain);
    } /* else it names nobody that could be told */
    virtio_device_give(device, queue, chain->head, 0);
    return VIRTIO_TAKEN;
}

/* ---- callbacks ---- */

static void hush(struct vsock *vsock)
{
    for (unsigned i = 0; i < VSOCK_LINKS_MAX; i++) {
        if (vsock->links.links[i].watch >= 0) {
            poller_change(vsock->device.place.poller, vsock->links.links[i].watch, 0);
        }
    }
    if (vsock->listener_watch >= 0) {
        poller_change(vsock->device.place.poller, vsock->listener_watch, 0);
    }
    if (vsock->dialer_watch >= 0) {
        poller_change(vsock->device.place.poller, vsock->dialer_watch, 0);
    }
    if (vsock->timer_watch >= 0) {
        poller_change(vsock->device.place.poller, vsock->timer_watch, 0);
    }
}

static void watch_all(struct vsock *vsock)
{
    for (unsigned i = 0; i < VSOCK_LINKS_MAX; i++) {
        if (vsock->links.links[i].state != LINK_FREE) {
            vsock_device_watch(vsock, &vsock->links.links[i]);
        }
    }
    if (vsock->dialer_watch >= 0) {
        poller_change(vsock->device.place.poller, vsock->dialer_watch, POLLER_READABLE);
    }
    if (vsock->timer_watch >= 0 && virtio_device_active(&vsock->device)) {
        vsock_host_begin_anew(vsock);
        poller_change(vsock->device.place.poller, vsock->timer_watch, POLLER_READABLE);
    }
    vsock_host_listen(vsock);
}

static void link_turn(struct vsock *vsock, struct vsock_link *link, unsigned events)
{
    if (link->state == LINK_GREETING) {
        vsock_host_greet(vsock, link);
    } else if (link->state == LINK_REQUESTED) {
        vsock_host_look(vsock, link);
    } else if ((events & POLLER_WRITABLE) != 0 &&
               vsock_stream_drain(&link->stream, link->fd) < 0) {
        vsock_device_reset_link(vsock, link);
    } else {
        link->to_send |=
            (events & vsock_link_events(link) & POLLER_READABLE) != 0 ? SEND_BYTES : 0;
        link_settle(vsock, link);
    }
    if (link->state != LINK_FREE) {
        vsock_device_watch(vsock, link);
    }
}

/* Lets what has happened lead to packets; the device's own end of a callback. */
static void callback_end(struct vsock *vsock)
{
    receive(vsock);
    if (virtio_device_active(&vsock->device)) {
        vsock_host_listen(vsock);
    } else {
        hush(vsock); /* it has failed: what waits would come for ever */
    }
    virtio_device_leave(&vsock->device);
}

static void on_link(void *context, uint64_t token, unsigned events)
{
    struct vsock *vsock = context;
    virtio_device_enter(&vsock->device);
    struct vsock_link *link = vsock_links_of(&vsock->links, token);
    if (virtio_device_active(&vsock->device) && link != NULL && link->watch >= 0) {
        link_turn(vsock, link, events);
    }
    callback_end(vsock);
}

static void on_other(void *context, uint64_t token, unsigned events)
{
    struct vsock *vsock = context;
    (void)events;
    virtio_device_enter(&vsock->device);
    if (virtio_device_active(&vsock->device)) {
        if (token == TOKEN_LISTENER) {
            vsock_host_accept(vsock);
        } else if (token == TOKEN_TIMER) {
            vsock_host_end_late(vsock);
        } else if (vsock->dialer >= 0) {
            vsock_host_take_dialed(vsock);
        }
    }
    callback_end(vsock);
}

/* ---- the verbs ---- */

static int
watch_add(struct vsock *vsock, int fd, uint64_t token, int *ret_watch, struct err *err)
{
    if (fd < 0) {
        return 0;
    }
    *ret_watch = poller_add(vsock->device.place.poller, fd, 0, on_other, vsock, token);
    return *ret_watch < 0 ? err_sys(err, *ret_watch, "watch a socket") : 0;
}

static int vsock_init(struct virtio_device *device, struct err *err)
{
    struct vsock *vsock = vsock_of(device);
    vsock->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (vsock->timer < 0) {
        return err_sys(err, -errno, "make the timer of greetings");
    }
    int r = watch_add(vsock, vsock->timer, TOKEN_TIMER, &vsock->timer_watch, err);
    if (r == 0) {
        r = watch_add(vsock, vsock->listener, TOKEN_LISTENER, &vsock->listener_watch,
                      err);
    }
    return r < 0
               ? r
               : watch_add(vsock, vsock->dialer, TOKEN_DIALER, &vsock->dialer_watch, err);
}

static enum virtio_handled
event_one(struct virtio_device *device, unsigned queue, struct virtio_chain *chain)
{
    static const uint32_t transport_reset; /* 0 */
    struct vsock *vsock = vsock_of(device);
    if (!vsock->must_tell_reset) {
        return VIRTIO_WAIT;
    }
    const size_t written = virtio_chain_write(chain, device->place.memory, 0,
                                              &transport_reset, sizeof(transport_reset));
    vsock->must_tell_reset = false;
    virtio_device_give(device, queue, chain->head, (uint32_t)written);
    return VIRTIO_TAKEN;
}

static void vsock_notify(struct virtio_device *device, unsigned queue)
{
    struct vsock *vsock = vsock_of(device);
    vsock->listener_rests = false;
    if (queue == VIRTIO_VSOCK_EVENT) {
        virtio_device_serve(device, queue, event_one);
        return;
    }
    if (queue == VIRTIO_VSOCK_TRANSMIT) {
        virtio_device_serve(device, queue, transmit_one);
    }
    receive(vsock);
    vsock_host_listen(vsock);
}

static void vsock_update(struct virtio_device *device)
{
    vsock_of(device)->listener_rests = false;
    watch_all(vsock_of(device));
}

static void vsock_reset(struct virtio_device *device)
{
    struct vsock *vsock = vsock_of(device);
    for (unsigned i = 0; i < VSOCK_LINKS_MAX; i++) {
        if (vsock->links.links[i].state != LINK_FREE) {
            vsock_device_free_link(vsock, &vsock->links.links[i]);
        }
    }
    vsock->reset_count = 0;
    vsock->transmit_waits = false;
    vsock->must_tell_reset = false;
    hush(vsock);
}

static void vsock_stop(struct virtio_device *device)
{
    hush(vsock_of(device));
}

/* Ports are not given twice within a guest's memory. */
static void vsock_save(struct virtio_device *device, struct bytes_writer *writer)
{
    bytes_write_u32(writer, vsock_of(device)->next_port);
}

static int vsock_restore(struct virtio_device *device,
                         uint16_t version,
                         struct bytes_reader *reader,
                         struct err *err)
{
    (void)version; /* the same in both */
    struct vsock *vsock = vsock_of(device);
    const uint32_t next_port = bytes_read_u32(reader);
    if (reader->error != 0 || next_port < VSOCK_HOST_PORT_FIRST) {
        return err_set(err, BERTH_ECORRUPT, "the vsock's state makes no sense");
    }
    vsock->next_port = next_port;
    vsock->must_tell_reset = (device->status & VIRTIO_DRIVER_OK) != 0;
    return 0;
}

static void vsock_free(struct virtio_device *device)
{
    struct vsock *vsock = vsock_of(device);
    for (unsigned i = 0; i < VSOCK_LINKS_MAX; i++) {
        if (vsock->links.links[i].state != LINK_FREE) {
            vsock_link_close(&vsock->links, &vsock->links.links[i]);
        }
    }
    if (vsock->listener_watch >= 0) {
        poller_remove(device->place.poller, vsock->listener_watch);
    }
    if (vsock->dialer_watch >= 0) {
        poller_remove(device->place.poller, vsock->dialer_watch);
    }
    if (vsock->timer_watch >= 0) {
        poller_remove(device->place.poller, vsock->timer_watch);
    }
    fd_close(&vsock->timer);
    fd_close(&vsock->listener);
    fd_close(&vsock->dialer);
    free(vsock);
}

static void vsock_config_read(struct virtio_device *device,
                              uint64_t offset,
                              void *ret_data,
                              unsigned size)
{
    const struct vsock *vsock = vsock_of(device);
    virtio_config_read(&vsock->guest_cid, sizeof(vsock->guest_cid), offset, ret_data,
                       size);
}

static const struct counter_row vsock_counters[] = {
    {"opened", offsetof(struct vsock, counters.opened)},
    {"refused", offsetof(struct vsock, counters.refused)},
    {"resets", offsetof(struct vsock, counters.resets)},
    {"rx_bytes", offsetof(struct vsock, counters.received_bytes)},
    {"tx_bytes", offsetof(struct vsock, counters.sent_bytes)},
    {"links", offsetof(struct vsock, links.count)},
};

static const struct virtio_ops vsock_ops = {
    .kind = "virtio-vsock",
    .type = VIRTIO_TYPE_VSOCK,
    .pci_class = PCI_CLASS_OTHER,
    .counters = vsock_counters,
    .counter_count = ARRAY_COUNT(vsock_counters),
    .init = vsock_init,
    .activate = vsock_update,
    .notify = vsock_notify,
    .reset = vsock_reset,
    .start = vsock_update,
    .stop = vsock_stop,
    .save = vsock_save,
    .restore = vsock_restore,
    .free = vsock_free,
    .config_read = vsock_config_read,
};

int virtio_vsock_new(const struct virtio_place *place,
                     const struct virtio_vsock_spec *spec,
                     struct virtio_device **ret_device,
                     struct err *err)
{
    const int fds[] = {spec->take_listener, spec->take_dialer};
    REQUIRE(spec->guest_cid >= VSOCK_CID_MIN && spec->guest_cid <= VSOCK_CID_MAX);
    for (unsigned i = 0; i < ARRAY_COUNT(fds); i++) {
        const int r = fds[i] < 0 ? 0 : fd_set_nonblocking(fds[i]);
        if (r < 0) {
            return err_sys(err, r, "use a socket's descriptor");
        }
    }
    struct vsock *vsock = calloc(1, sizeof(*vsock));
    if (vsock == NULL) {
        return err_sys(err, -ENOMEM, "make a vsock");
    }
    virtio_device_setup(&vsock->device, &vsock_ops, place, 0, VIRTIO_VSOCK_QUEUE_COUNT,
                        VIRTIO_QUEUE_SIZE_MAX);
    vsock->guest_cid = spec->guest_cid;
    vsock->listener = spec->take_listener;
    vsock->dialer = spec->take_dialer;
    vsock->listener_watch = vsock->dialer_watch = -1;
    vsock->timer = vsock->timer_watch = -1;
    vsock->greeting_ms = spec->greeting_ms != 0 ? spec->greeting_ms : VSOCK_GREETING_MS;
    vsock->next_port = VSOCK_HOST_PORT_FIRST;
    vsock_links_init(&vsock->links, place->poller, on_link, vsock);
    *ret_device = &vsock->device;
    return 0;
}

void virtio_vsock_count(struct virtio_device *device,
                        struct virtio_vsock_counters *ret_counters)
{
    REQUIRE(device->ops == &vsock_ops);
    const struct vsock *vsock = vsock_of(device);
    *ret_counters = (struct virtio_vsock_counters){
        .opened = counter_read(&vsock->counters.opened),
        .refused = counter_read(&vsock->counters.refused),
        .resets = counter_read(&vsock->counters.resets),
        .received_bytes = counter_read(&vsock->counters.received_bytes),
        .sent_bytes = counter_read(&vsock->counters.sent_bytes),
        .links = (unsigned)counter_read(&vsock->links.count)};
}
