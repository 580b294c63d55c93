/* Rows about what stands behind devices: a wire that floods or does not read, consoles
 * whose reader is gone, sockets. */
#include "guest_cpu.h"
#include "guest_pci.h"
#include "guest_rows.h"
#include "guest_say.h"
#include "guest_virtio.h"

#define DATA_AT   (SCRATCH_AT + 0x40000)
#define RECEIVE   0u
#define TRANSMIT  1u
#define NET_BYTES 2048u

static const char *post_and_await(struct virtio *device,
                                  unsigned queue,
                                  const struct vbuffer *buffers,
                                  unsigned count)
{
    vring_post(&device->rings[queue], buffers, count);
    vring_kick(device, queue);
    return vring_await(device, queue) == UINT32_MAX ? wrong("it is ill, queue", queue)
                                                    : NULL;
}

/* ---- net ---- */

/* What came while the guest had no room goes on when it has, and so does what comes
 * then. */
static const char *a_flood_without_buffers(void)
{
    struct virtio *device = virtio_find(VIRTIO_NET);
    virtio_drive(device, 0);
    (void)ask("flood");
    (void)ask("flood");
    for (unsigned round = 0; round < 2; round++) {
        for (uint64_t i = 0; i < 4; i++) {
            const struct vbuffer buffer = {DATA_AT + NET_BYTES * i, NET_BYTES, true};
            vring_post(&device->rings[RECEIVE], &buffer, 1);
        }
        vring_kick(device, RECEIVE);
        for (unsigned i = 0; i < 4; i++) {
            const uint32_t size = vring_await(device, RECEIVE);
            if (size < 12 || size > NET_BYTES) {
                return wrong("a packet of bytes:", size);
            }
        }
        (void)ask("flood");
    }
    return NULL;
}

/* Buffers that are registers: the packet goes nowhere, the device is out of service. */
static const char *packets_into_registers(void)
{
    const uint64_t places[] = {pci_bar_get(1), pci_bar_get(virtio_find(VIRTIO_NET)->slot),
                               PCI_ECAM_AT, PCI_LAPIC_AT, UINT64_C(0xfffffff0)};
    struct virtio *device = virtio_find(VIRTIO_NET);
    for (unsigned i = 0; i < ARRAY_COUNT(places); i++) {
        const struct vbuffer buffers[] = {{DATA_AT, 12, true}, {places[i], 2048, true}};
        virtio_drive(device, 0);
        (void)ask("flood");
        vring_post(&device->rings[RECEIVE], buffers, 2);
        vring_kick(device, RECEIVE);
        if (vring_await(device, RECEIVE) != UINT32_MAX) {
            return wrong("a packet went to", places[i]);
        }
    }
    return virtio_serves(device);
}

/* A header in twelve pieces, packets shorter than one, and far too long. */
static const char *packets_of_all_shapes(void)
{
    static const uint32_t sizes[] = {1,     11,    12,    13,        65535,
                                     65536, 65550, 70000, 16u << 20, 23u << 20};
    struct virtio *device = virtio_find(VIRTIO_NET);
    struct vbuffer pieces[VRING_SIZE - 1];
    for (uint64_t i = 0; i < ARRAY_COUNT(pieces); i++) {
        pieces[i] = (struct vbuffer){DATA_AT + i * 3, 1, false};
    }
    virtio_drive(device, 0);
    const char *why =
        post_and_await(device, TRANSMIT, pieces, (unsigned)ARRAY_COUNT(pieces));
    for (unsigned i = 0; why == NULL && i < ARRAY_COUNT(sizes); i++) {
        const struct vbuffer whole = {SCRATCH_AT, sizes[i], false};
        virtio_drive(device, 0);
        vring_post(&device->rings[TRANSMIT], &whole, 1);
        vring_kick(device, TRANSMIT);
        (void)vring_await(device, TRANSMIT); /* sent, dropped, or out of service */
    }
    return why != NULL ? why : virtio_serves(device);
}

/* Nobody takes what is sent: requests wait, a reset forgets them, and then it goes on. */
static const char *a_wire_that_does_not_read(void)
{
    struct virtio *device = virtio_find(VIRTIO_NET);
    const struct vbuffer packet = {DATA_AT, 1500, false};
    for (unsigned round = 0; round < 4; round++) {
        (void)ask("stall-nic");
        virtio_drive(device, 0);
        for (unsigned i = 0; i < 60; i++) {
            vring_post(&device->rings[TRANSMIT], &packet, 1);
        }
        vring_kick(device, TRANSMIT);
        (void)ask("query");
        if ((round & 1) != 0) {
            virtio_reset(device);
        }
        (void)ask("go-nic");
        for (unsigned i = 0; (round & 1) == 0 && i < 60; i++) {
            if (vring_await(device, TRANSMIT) == UINT32_MAX) {
                return wrong("it is ill after packets:", i);
            }
        }
    }
    return virtio_serves(device);
}

const struct row_group rows_net = {
    "net",
    {{"a-flood-without-buffers", a_flood_without_buffers},
     {"packets-into-registers", packets_into_registers},
     {"packets-of-all-shapes", packets_of_all_shapes},
     {"a-wire-that-does-not-read", a_wire_that_does_not_read}},
};

/* ---- consoles ---- */

#define GIB           (UINT64_C(1) << 30)
#define CONSOLE_BYTES 0x10000u /* of a request */

/* A GiB for a reader that does not read; the guest is not held up by it. */
static const char *a_gib_for_nobody(const char *before, const char *after, uint64_t bytes)
{
    struct virtio *device = virtio_find(VIRTIO_CONSOLE);
    const struct vbuffer buffer = {SCRATCH_AT, CONSOLE_BYTES, false};
    (void)ask(before);
    virtio_drive(device, 0);
    for (uint64_t sent = 0; sent < bytes; sent += 32 * (uint64_t)CONSOLE_BYTES) {
        for (unsigned i = 0; i < 32; i++) {
            vring_post(&device->rings[TRANSMIT], &buffer, 1);
        }
        vring_kick(device, TRANSMIT);
        for (unsigned i = 0; i < 32; i++) {
            if (vring_await(device, TRANSMIT) == UINT32_MAX) {
                return wrong("it is ill after bytes:", sent);
            }
        }
    }
    (void)ask("compare");
    (void)ask(after);
    return virtio_serves(device);
}

static const char *a_stalled_console(void)
{
    return a_gib_for_nobody("stall-console", "go-console", GIB);
}

static const char *a_console_without_reader(void)
{
    return a_gib_for_nobody("leave-console", "query", GIB / 16);
}

/* Twice what any buffer holds for a serial port that nobody reads, a byte an exit; the
 * host is told by the wire. */
static const char *a_stalled_serial_port(void)
{
    static uint8_t line[4096];
    for (unsigned i = 0; i < sizeof(line); i++) {
        line[i] = 'z';
    }
    (void)ask("stall-serial");
    for (unsigned i = 0; i < 40; i++) {
        port_out_string(GUEST_SERIAL, line, sizeof(line), 1);
    }
    const char *why = virtio_serves(virtio_find(VIRTIO_NET));
    say("\n");
    (void)ask("compare");
    return why;
}

/* What the port hears from itself is bounded, too. */
static const char *a_serial_port_that_hears_itself(void)
{
    static uint8_t noise[4096];
    port_out8(GUEST_SERIAL + 4, 0x10);
    port_out8(GUEST_SERIAL + 1, 0x0f);
    for (unsigned i = 0; i < 8; i++) {
        port_out_string(GUEST_SERIAL, noise, sizeof(noise), 1);
    }
    port_out8(GUEST_SERIAL + 1, 0);
    port_out8(GUEST_SERIAL + 4, 0);
    port_out8(GUEST_SERIAL + 2, 2);
    return NULL;
}

const struct row_group rows_console = {
    "console",
    {{"a-stalled-console", a_stalled_console},
     {"a-stalled-serial-port", a_stalled_serial_port},
     {"a-serial-port-that-hears-itself", a_serial_port_that_hears_itself},
     {"a-console-without-reader", a_console_without_reader}},
};

/* ---- vsock ---- */

#define OPERATIONS 10u

struct packet {
    uint64_t from;
    uint64_t to;
    uint32_t from_port;
    uint32_t to_port;
    uint32_t size;
    uint16_t type;
    uint16_t operation;
    uint32_t flags;
    uint32_t room;
    uint32_t count;
} __attribute__((packed));

/* Packets of no connection, of too many, whose sizes and credits lie. */
static const char *packets_of_no_connection(void)
{
    struct virtio *device = virtio_find(VIRTIO_VSOCK);
    volatile struct packet *packet = (volatile struct packet *)DATA_AT;
    const struct vbuffer buffers[] = {{DATA_AT, sizeof(*packet), false},
                                      {DATA_AT + 64, 4096, false}};
    virtio_drive(device, 0);
    for (uint32_t i = 0; i < 2000; i++) {
        *packet = (struct packet){.from = i % 7 == 0 ? UINT64_MAX : 3,
                                  .to = i % 11 == 0 ? i : 2,
                                  .from_port = i * 7919,
                                  .to_port = i % 5,
                                  .size = i % 3 == 0 ? UINT32_MAX - i : i % 5000,
                                  .type = (uint16_t)(i % 13 == 0 ? i : 1),
                                  .operation = (uint16_t)(i % OPERATIONS),
                                  .flags = i,
                                  .room = i % 2 == 0 ? 0 : UINT32_MAX,
                                  .count = UINT32_MAX - i};
        vring_post(&device->rings[TRANSMIT], buffers, 1 + i % 2);
        vring_kick(device, TRANSMIT);
        uint32_t size;
        while (!vring_used(&device->rings[TRANSMIT], &size)) {
            if ((virtio_status(device) & STATUS_NEEDS_RESET) != 0) {
                virtio_drive(device, 0);
                break;
            }
            /* It answers each with a reset, and waits for room for that. */
            const struct vbuffer room = {DATA_AT + 0x4000, 4096, true};
            if ((uint16_t)(device->rings[RECEIVE].posted - device->rings[RECEIVE].seen) <
                VRING_SIZE) {
                vring_post(&device->rings[RECEIVE], &room, 1);
                vring_kick(device, RECEIVE);
            }
            (void)vring_used(&device->rings[RECEIVE], &size);
        }
    }
    return virtio_serves(device);
}

const struct row_group rows_vsock = {
    "vsock",
    {{"packets-of-no-connection", packets_of_no_connection}}};
