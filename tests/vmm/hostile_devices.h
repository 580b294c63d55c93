/* The device types that a hostile guest meets: one row each (see hostile_guest.h). */
#pragma once

#include "hostile_guest.h"
#include "vmm/disk_overlay.h"
#include "vmm/virtio_balloon.h"
#include "vmm/virtio_block.h"
#include "vmm/virtio_console.h"
#include "vmm/virtio_mem.h"
#include "vmm/virtio_net.h"
#include "vmm/virtio_random.h"
#include "vmm/virtio_vsock.h"
#include "vmm/vsock_dialer.h"
#include "vmm/vsock_packet.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* ---- entropy ---- */

static inline struct virtio_device *hostile_random_make(struct hostile *hostile)
{
    struct virtio_device *device = NULL;
    REQUIRE(virtio_random_new(&hostile->guest.place, &device) == 0);
    return device;
}

static inline unsigned
hostile_random_header(struct hostile *hostile, unsigned queue, uint8_t *ret_bytes)
{
    (void)hostile;
    (void)queue;
    (void)ret_bytes;
    return 0;
}

/* ---- block: an overlay in memory, on a host that has room or none ---- */

#define HOSTILE_DISK_BYTES (UINT64_C(256) << 10)

struct hostile_file {
    struct disk_file file;
    struct disk_file *beneath;
};

static atomic_bool hostile_is_full;

static inline struct disk_file *hostile_beneath(const struct disk_file *file)
{
    return ((const struct hostile_file *)(const void *)file)->beneath;
}

static inline int hostile_file_read(struct disk_file *file,
                                    uint64_t offset,
                                    const struct iovec *pieces,
                                    unsigned piece_count,
                                    uint64_t size)
{
    struct disk_file *beneath = hostile_beneath(file);
    return beneath->ops->read(beneath, offset, pieces, piece_count, size);
}

static inline int hostile_file_write(struct disk_file *file,
                                     uint64_t offset,
                                     const struct iovec *pieces,
                                     unsigned piece_count,
                                     uint64_t size)
{
    struct disk_file *beneath = hostile_beneath(file);
    return atomic_load(&hostile_is_full)
               ? -ENOSPC
               : beneath->ops->write(beneath, offset, pieces, piece_count, size);
}

static inline int
hostile_file_zero(struct disk_file *file, uint64_t offset, uint64_t size)
{
    struct disk_file *beneath = hostile_beneath(file);
    return atomic_load(&hostile_is_full) ? -ENOSPC
                                         : beneath->ops->zero(beneath, offset, size);
}

static inline int
hostile_file_punch(struct disk_file *file, uint64_t offset, uint64_t size)
{
    struct disk_file *beneath = hostile_beneath(file);
    return atomic_load(&hostile_is_full) ? -ENOSPC
                                         : beneath->ops->punch(beneath, offset, size);
}

static inline int hostile_file_sync(struct disk_file *file)
{
    struct disk_file *beneath = hostile_beneath(file);
    return beneath->ops->sync(beneath);
}

static inline int hostile_file_descriptor(const struct disk_file *file)
{
    const struct disk_file *beneath = hostile_beneath(file);
    return beneath->ops->descriptor(beneath);
}

static inline void hostile_file_free(struct disk_file *file)
{
    disk_file_free(hostile_beneath(file));
    free(file);
}

static const struct disk_file_ops hostile_file_ops = {
    .read = hostile_file_read,
    .write = hostile_file_write,
    .zero = hostile_file_zero,
    .punch = hostile_file_punch,
    .sync = hostile_file_sync,
    .descriptor = hostile_file_descriptor,
    .free = hostile_file_free,
};

static inline struct disk_file *hostile_file_new(int take_fd)
{
    struct hostile_file *file = calloc(1, sizeof(*file));
    REQUIRE(file != NULL && disk_file_new(take_fd, &file->beneath, NULL) == 0);
    file->file = (struct disk_file){&hostile_file_ops, file->beneath->size_bytes};
    return &file->file;
}

static inline void hostile_block_faulted(void *context,
                                         const struct virtio_block_fault *fault)
{
    (void)context;
    REQUIRE(fault->code < 0);
}

/* Room comes and goes; and the machine stands still for it, or goes on. */
static inline void hostile_block_behind(struct hostile *hostile)
{
    switch (hostile_choose(hostile, 8)) {
    case 0:
        atomic_store(&hostile_is_full, true);
        break;
    case 1:
    case 2:
        atomic_store(&hostile_is_full, false);
        break;
    case 3:
        device_stop(&hostile->guest.pci->device);
        device_start(&hostile->guest.pci->device);
        break;
    default:
        break;
    }
}

static inline struct virtio_device *hostile_block_make(struct hostile *hostile)
{
    static const struct virtio_block_spec spec = {
        .serial = "hostile", .queue_count = 2, .threads = {.count = 2}};
    static const struct digest none;
    static const struct virtio_block_listener listener = {hostile_block_faulted, NULL};
    const bool fresh = hostile->fds[0] < 0;
    struct virtio_device *device = NULL;
    struct virtual_disk *disk = NULL;
    atomic_store(&hostile_is_full, false);
    if (fresh) {
        hostile->fds[0] = memfd_create("overlay", MFD_CLOEXEC);
        REQUIRE(hostile->fds[0] >= 0);
        REQUIRE(ftruncate(hostile->fds[0],
                          (off_t)disk_overlay_file_size(HOSTILE_DISK_BYTES)) == 0);
    }
    const int fd = dup(hostile->fds[0]);
    REQUIRE(fd >= 0);
    struct disk_file *file = hostile_file_new(fd);
    REQUIRE(!fresh || disk_overlay_create(file, HOSTILE_DISK_BYTES, 0, &none, NULL) == 0);
    REQUIRE(disk_overlay_open(file, NULL, &none, &disk, NULL) == 0);
    REQUIRE(virtio_block_new(&hostile->guest.place, &spec, disk, &device, NULL) == 0);
    virtio_block_listen(device, &listener);
    return device;
}

/* Type and sector, mostly of the kinds that exist and near the disk's ends. */
static inline unsigned
hostile_block_header(struct hostile *hostile, unsigned queue, uint8_t *ret_bytes)
{
    static const uint32_t types[] = {0, 1, 0, 1, 4, 8, 11, 13};
    const uint32_t type = hostile_choose(hostile, 16) == 0
                              ? (uint32_t)hostile_number(hostile)
                              : types[hostile_choose(hostile, ARRAY_COUNT(types))];
    const uint64_t sector =
        hostile_choose(hostile, 4) == 0
            ? hostile_number(hostile)
            : hostile_choose(hostile, HOSTILE_DISK_BYTES / DISK_SECTOR_BYTES + 2);
    const uint32_t count = (uint32_t)hostile_choose(hostile, 64);
    (void)queue;
    memcpy(ret_bytes, &type, sizeof(type));
    memcpy(ret_bytes + 8, &sector, sizeof(sector));
    memcpy(ret_bytes + 16, &sector, sizeof(sector)); /* a segment, if it is one */
    memcpy(ret_bytes + 24, &count, sizeof(count));
    return type == 11 || type == 13 ? 32 : 16;
}

static inline void hostile_close_fds(struct hostile *hostile)
{
    for (unsigned i = 0; i < ARRAY_COUNT(hostile->fds); i++) {
        if (hostile->fds[i] >= 0) {
            close(hostile->fds[i]);
        }
    }
}

/* ---- net: datagram sockets for the queues of a wire ---- */

#define HOSTILE_PAIRS 3u

static inline void hostile_fd_set(struct hostile *hostile, unsigned at, int fd)
{
    if (hostile->fds[at] >= 0) {
        close(hostile->fds[at]);
    }
    hostile->fds[at] = fd;
}

static inline struct virtio_device *hostile_net_make(struct hostile *hostile)
{
    static const struct virtio_net_spec spec = {.mac = {2}, .mtu = 1500};
    struct virtio_device *device = NULL;
    int ours[HOSTILE_PAIRS];
    for (unsigned i = 0; i < HOSTILE_PAIRS; i++) {
        int ends[2];
        REQUIRE(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, ends) == 0);
        ours[i] = ends[0];
        hostile_fd_set(hostile, i, ends[1]);
    }
    REQUIRE(virtio_net_new(&hostile->guest.place, &spec, ours, HOSTILE_PAIRS, &device,
                           NULL) == 0);
    return device;
}

/* A packet's header, or what may be said on the control queue. */
static inline unsigned
hostile_net_header(struct hostile *hostile, unsigned queue, uint8_t *ret_bytes)
{
    if (queue >= 2 * HOSTILE_PAIRS || queue == 2) {
        ret_bytes[0] =
            (uint8_t)(hostile_choose(hostile, 4) == 0 ? hostile_choose(hostile, 256) : 4);
        ret_bytes[1] = hostile_choose(hostile, 8) == 0;
        ret_bytes[2] = (uint8_t)hostile_choose(hostile, HOSTILE_PAIRS + 2);
        ret_bytes[3] = (uint8_t)(hostile_choose(hostile, 8) == 0);
        return (unsigned)hostile_choose(hostile, 16) == 0
                   ? (unsigned)hostile_choose(hostile, 4)
                   : 4;
    }
    for (unsigned i = 0; i < 8; i++) { /* flags, segmentation, offsets */
        ret_bytes[i] = (uint8_t)hostile_choose(hostile, 256);
    }
    return VIRTIO_NET_HEADER_SIZE + (unsigned)hostile_choose(hostile, 48);
}

/* The wire brings packets of all sizes, and takes some. */
static inline void hostile_net_behind(struct hostile *hostile)
{
    static uint8_t packet[VIRTIO_NET_PACKET_MAX + 64];
    const int fd = hostile->fds[hostile_choose(hostile, HOSTILE_PAIRS)];
    if (hostile_choose(hostile, 2) == 0) {
        const size_t size = hostile_choose(hostile, 8) == 0
                                ? hostile_choose(hostile, sizeof(packet))
                                : hostile_choose(hostile, 2000);
        (void)!send(fd, packet, size, MSG_DONTWAIT);
    } else {
        while (recv(fd, packet, sizeof(packet), MSG_DONTWAIT) > 0) {
        }
    }
}

/* ---- console: a socket for the world ---- */

static inline struct virtio_device *hostile_console_make(struct hostile *hostile)
{
    struct virtio_device *device = NULL;
    int ends[2];
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
    if (hostile->fds[0] >= 0) {
        close(hostile->fds[0]);
    }
    hostile->fds[0] = ends[1];
    REQUIRE(virtio_console_new(&hostile->guest.place, ends[0], &device, NULL) == 0);
    return device;
}

static inline void hostile_console_behind(struct hostile *hostile)
{
    uint8_t bytes[512] = {0};
    if (hostile_choose(hostile, 2) == 0) {
        (void)!send(hostile->fds[0], bytes, 1 + hostile_choose(hostile, sizeof(bytes)),
                    MSG_DONTWAIT | MSG_NOSIGNAL);
    } else {
        (void)!recv(hostile->fds[0], bytes, sizeof(bytes), MSG_DONTWAIT);
    }
}

/* ---- balloon ---- */

static inline struct virtio_device *hostile_balloon_make(struct hostile *hostile)
{
    struct virtio_device *device = NULL;
    REQUIRE(virtio_balloon_new(&hostile->guest.place, &device) == 0);
    return device;
}

/* Page numbers, or what may be statistics. */
static inline unsigned
hostile_balloon_header(struct hostile *hostile, unsigned queue, uint8_t *ret_bytes)
{
    (void)queue;
    for (unsigned i = 0; i < 8; i++) {
        const uint32_t page =
            hostile_choose(hostile, 4) == 0
                ? (uint32_t)hostile_number(hostile)
                : (uint32_t)hostile_choose(hostile, GUEST_RAM_BYTES / 4096 + 4);
        memcpy(ret_bytes + i * sizeof(page), &page, sizeof(page));
    }
    return (unsigned)hostile_choose(hostile, 33);
}

static inline void hostile_balloon_behind(struct hostile *hostile)
{
    struct virtio_balloon_state state;
    virtio_balloon_ask(hostile->guest.pci->virtio);
    virtio_balloon_target(hostile->guest.pci->virtio, hostile_choose(hostile, 1 << 24));
    virtio_balloon_state(hostile->guest.pci->virtio, &state);
}

/* ---- memory that is plugged ---- */

#define HOSTILE_PLUG_AT     (UINT64_C(1) << 30)
#define HOSTILE_PLUG_BLOCKS 8u
#define HOSTILE_PLUG_BYTES  (HOSTILE_PLUG_BLOCKS * RAM_PLUG_BLOCK_BYTES)

static inline struct virtio_device *hostile_mem_make(struct hostile *hostile)
{
    static const struct ram_backing plain;
    struct virtio_device *device = NULL;
    if (hostile->guest.memory.region_count == 1) {
        REQUIRE(guest_memory_add_pluggable(&hostile->guest.memory, HOSTILE_PLUG_AT,
                                           HOSTILE_PLUG_BYTES, &plain, NULL) == 0);
    }
    REQUIRE(virtio_mem_new(&hostile->guest.place, &device) == 0);
    return device;
}

static inline unsigned
hostile_mem_header(struct hostile *hostile, unsigned queue, uint8_t *ret_bytes)
{
    const bool is_odd = hostile_choose(hostile, 8) == 0;
    const struct virtio_mem_request request = {
        .type = is_odd ? (uint16_t)hostile_number(hostile)
                       : (uint16_t)hostile_choose(hostile, 4),
        .address = is_odd ? hostile_number(hostile)
                          : HOSTILE_PLUG_AT +
                                RAM_PLUG_BLOCK_BYTES *
                                    hostile_choose(hostile, HOSTILE_PLUG_BLOCKS + 1),
        .block_count = is_odd ? (uint16_t)hostile_number(hostile)
                              : (uint16_t)hostile_choose(hostile, 4)};
    (void)queue;
    memcpy(ret_bytes, &request, sizeof(request));
    return sizeof(request) - (unsigned)hostile_choose(hostile, 2);
}

/* The host wants more or less; what is plugged is what is RAM, and never more than may
 * be. */
static inline void hostile_mem_behind(struct hostile *hostile)
{
    struct virtio_mem_state state;
    struct virtio_device *device = hostile->guest.pci->virtio;
    uint64_t held = 0;
    (void)virtio_mem_want(
        device, RAM_PLUG_BLOCK_BYTES * hostile_choose(hostile, HOSTILE_PLUG_BLOCKS + 2),
        NULL); /* too much is refused */
    virtio_mem_state(device, &state);
    for (unsigned i = 0; i < HOSTILE_PLUG_BLOCKS; i++) {
        const uint64_t at = HOSTILE_PLUG_AT + i * RAM_PLUG_BLOCK_BYTES;
        held += guest_memory_holds(&hostile->guest.memory, at, RAM_PLUG_BLOCK_BYTES)
                    ? RAM_PLUG_BLOCK_BYTES
                    : 0;
    }
    REQUIRE(held == state.plugged_bytes && held <= HOSTILE_PLUG_BYTES);
}

/* ---- vsock: clients, and who dials, on this side ---- */

enum { HOSTILE_DIALER = 0, HOSTILE_CLIENT, HOSTILE_SERVER, HOSTILE_LISTENER };

#define HOSTILE_CID 3u

static inline struct virtio_device *hostile_vsock_make(struct hostile *hostile)
{
    const struct sockaddr_un any = {.sun_family = AF_UNIX};
    struct virtio_device *device = NULL;
    int ends[2];
    const int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    (void)signal(SIGPIPE, SIG_IGN); /* as the program does */
    REQUIRE(bind(listener, (const struct sockaddr *)&any, sizeof(sa_family_t)) == 0);
    REQUIRE(listen(listener, 8) == 0);
    REQUIRE(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0);
    hostile_fd_set(hostile, HOSTILE_DIALER, ends[1]);
    hostile_fd_set(hostile, HOSTILE_LISTENER, dup(listener));
    const struct virtio_vsock_spec spec = {HOSTILE_CID, listener, ends[0], 1};
    REQUIRE(virtio_vsock_new(&hostile->guest.place, &spec, &device, NULL) == 0);
    return device;
}

/* A packet that may fit a connection: a few ports, mostly the right type and CIDs. */
static inline unsigned
hostile_vsock_header(struct hostile *hostile, unsigned queue, uint8_t *ret_bytes)
{
    const bool is_odd = hostile_choose(hostile, 16) == 0;
    const struct vsock_header header = {
        .source_cid = is_odd ? hostile_number(hostile) : HOSTILE_CID,
        .target_cid = is_odd ? hostile_number(hostile) : VSOCK_HOST_CID,
        .source_port = (uint32_t)hostile_choose(hostile, 4),
        .target_port = (uint32_t)hostile_choose(hostile, 4) +
                       (hostile_choose(hostile, 2) == 0 ? 0 : 0x40000000),
        .size = is_odd ? (uint32_t)hostile_number(hostile)
                       : (uint32_t)hostile_choose(hostile, 20),
        .type = is_odd ? (uint16_t)hostile_number(hostile) : VSOCK_STREAM,
        .operation = (uint16_t)hostile_choose(hostile, VSOCK_OPERATION_COUNT + 1),
        .flags = (uint32_t)hostile_choose(hostile, 5),
        .buffer_bytes = (uint32_t)hostile_number(hostile),
        .forwarded_bytes = (uint32_t)hostile_number(hostile)};
    (void)queue;
    memcpy(ret_bytes, &header, sizeof(header));
    return (unsigned)sizeof(header) + (unsigned)hostile_choose(hostile, 20);
}

/* Answers who is asked for, mostly, by a pair of sockets. */
static inline void hostile_vsock_dial(struct hostile *hostile)
{
    struct vsock_dial_request request;
    union {
        struct cmsghdr align;
        char room[CMSG_SPACE(sizeof(int))];
    } control = {0};
    int ends[2];
    if (recv(hostile->fds[HOSTILE_DIALER], &request, sizeof(request), MSG_DONTWAIT) !=
        (ssize_t)sizeof(request)) {
        return;
    }
    struct vsock_dial_answer answer = {.id = request.id};
    struct iovec piece = {&answer, sizeof(answer)};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) ==
            0);
    if (hostile_choose(hostile, 4) != 0) {
        message.msg_control = &control;
        message.msg_controllen = sizeof(control);
        struct cmsghdr *part = CMSG_FIRSTHDR(&message);
        part->cmsg_level = SOL_SOCKET;
        part->cmsg_type = SCM_RIGHTS;
        part->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(part), &ends[0], sizeof(ends[0]));
    }
    (void)!sendmsg(hostile->fds[HOSTILE_DIALER], &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    close(ends[0]);
    hostile_fd_set(hostile, HOSTILE_SERVER, ends[1]);
}

static inline void hostile_vsock_client(struct hostile *hostile)
{
    struct sockaddr_un address;
    socklen_t size = sizeof(address);
    char greeting[32];
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    REQUIRE(getsockname(hostile->fds[HOSTILE_LISTENER], (struct sockaddr *)&address,
                        &size) == 0);
    (void)!connect(fd, (const struct sockaddr *)&address, size); /* it may be full */
    const int length = snprintf(greeting, sizeof(greeting), "CONNECT %u\n%s",
                                (unsigned)hostile_choose(hostile, 4),
                                hostile_choose(hostile, 2) == 0 ? "" : "hello");
    (void)!send(fd, greeting, (size_t)length - hostile_choose(hostile, 4), MSG_NOSIGNAL);
    hostile_fd_set(hostile, HOSTILE_CLIENT, fd);
}

static inline void hostile_vsock_say(struct hostile *hostile,
                                     const struct vsock_header *header)
{
    struct guest *guest = &hostile->guest;
    const uint64_t at = GUEST_HEAP_AT + 64 * hostile_choose(hostile, 64);
    REQUIRE(guest_memory_write(&guest->memory, at, header, sizeof(*header)) == 0);
    guest_post(guest, VIRTIO_VSOCK_RECEIVE,
               &(struct guest_buffer){GUEST_HEAP_AT + (1 << 15), 1 << 12, true}, 1);
    guest_post(
        guest, VIRTIO_VSOCK_TRANSMIT,
        (const struct guest_buffer[]){
            {at, sizeof(*header), false},
            {GUEST_HEAP_AT, 1 + (uint32_t)hostile_choose(hostile, 1 << 16), false}},
        2);
    guest_kick(guest, VIRTIO_VSOCK_RECEIVE);
    guest_kick(guest, VIRTIO_VSOCK_TRANSMIT);
    hostile_let_work(hostile);
}

/* A driver that means it, nearly: else no connection would live long enough. */
static inline void hostile_vsock_connect(struct hostile *hostile)
{
    static const enum vsock_operation operations[] = {
        VSOCK_RW,      VSOCK_RW, VSOCK_RW, VSOCK_CREDIT_UPDATE, VSOCK_CREDIT_REQUEST,
        VSOCK_SHUTDOWN};
    uint8_t bytes[4096] = {0};
    struct vsock_header header = {.source_cid = HOSTILE_CID,
                                  .target_cid = VSOCK_HOST_CID,
                                  .source_port = (uint32_t)hostile_choose(hostile, 4),
                                  .target_port = (uint32_t)hostile_choose(hostile, 4),
                                  .type = VSOCK_STREAM,
                                  .operation = VSOCK_REQUEST,
                                  .buffer_bytes = 1 << 20};
    guest_drive(&hostile->guest, 0);
    hostile_vsock_say(hostile, &header);
    hostile_vsock_dial(hostile);
    hostile_let_work(hostile);
    for (uint64_t steps = hostile_choose(hostile, 40); steps > 0; steps--) {
        header.operation =
            (uint16_t)operations[hostile_choose(hostile, ARRAY_COUNT(operations))];
        header.size =
            header.operation == VSOCK_RW ? (uint32_t)hostile_choose(hostile, 1 << 15) : 0;
        header.flags = hostile_choose(hostile, 8) == 0 ? VSOCK_NOTHING : 0;
        header.forwarded_bytes =
            hostile_choose(hostile, 8) == 0 ? (uint32_t)hostile_number(hostile) : 0;
        hostile_vsock_say(hostile, &header);
        if (hostile_choose(hostile, 2) == 0) {
            (void)!send(hostile->fds[HOSTILE_SERVER], bytes, sizeof(bytes),
                        MSG_DONTWAIT | MSG_NOSIGNAL);
        }
        if (hostile_choose(hostile, 8) == 0) {
            (void)!recv(hostile->fds[HOSTILE_SERVER], bytes, sizeof(bytes), MSG_DONTWAIT);
        }
    }
}

static inline void hostile_vsock_behind(struct hostile *hostile)
{
    uint8_t bytes[4096] = {0};
    const int fd = hostile->fds[HOSTILE_CLIENT + hostile_choose(hostile, 2)];
    switch (hostile_choose(hostile, 8)) {
    case 0:
        hostile_vsock_client(hostile);
        break;
    case 1:
        hostile_vsock_dial(hostile);
        break;
    case 2:
        hostile_vsock_connect(hostile);
        break;
    case 3:
        (void)shutdown(fd, (int)hostile_choose(hostile, 3));
        break;
    case 4:
    case 5:
        (void)!send(fd, bytes, hostile_choose(hostile, sizeof(bytes)),
                    MSG_DONTWAIT | MSG_NOSIGNAL);
        break;
    default:
        (void)!recv(fd, bytes, hostile_choose(hostile, sizeof(bytes)), MSG_DONTWAIT);
    }
}

static const struct hostile_device hostile_random = {"random", hostile_random_make,
                                                     hostile_random_header, NULL, NULL};
static const struct hostile_device hostile_block = {
    "block", hostile_block_make, hostile_block_header, hostile_block_behind,
    hostile_close_fds};

static const struct hostile_device hostile_net = {
    "net", hostile_net_make, hostile_net_header, hostile_net_behind, hostile_close_fds};
static const struct hostile_device hostile_console = {
    "console", hostile_console_make, hostile_random_header, hostile_console_behind,
    hostile_close_fds};
static const struct hostile_device hostile_balloon = {"balloon", hostile_balloon_make,
                                                      hostile_balloon_header,
                                                      hostile_balloon_behind, NULL};

static const struct hostile_device hostile_mem = {
    "mem", hostile_mem_make, hostile_mem_header, hostile_mem_behind, NULL};

static const struct hostile_device hostile_vsock = {
    "vsock", hostile_vsock_make, hostile_vsock_header, hostile_vsock_behind,
    hostile_close_fds};

static const struct hostile_device *const hostile_devices[] = {
    &hostile_random,  &hostile_block, &hostile_net, &hostile_console,
    &hostile_balloon, &hostile_vsock, &hostile_mem,
};
