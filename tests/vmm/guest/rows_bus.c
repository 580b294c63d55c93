/* Rows about buses: configuration space and registers in every width, string
 * instructions, selects, BARs that move. */
#include "guest_cpu.h"
#include "guest_pci.h"
#include "guest_rows.h"
#include "guest_say.h"
#include "guest_virtio.h"

#define NOBODY UINT32_MAX

static const char *ecam_and_ports_show_the_same(void)
{
    for (unsigned slot = 0; slot < PCI_SLOTS; slot++) {
        for (unsigned at = 0; at < 0x100; at += 4) {
            const uint32_t one = (uint32_t)memory_get(pci_at(slot, at), 4);
            const uint32_t other = pci_port_get(slot, at);
            if (one != other) {
                return wrong("they differ at", pci_at(slot, at));
            }
            if (at == 0 && one == NOBODY) {
                break;
            }
        }
    }
    return virtio_count == 7 ? NULL : wrong("devices that were found:", virtio_count);
}

/* An access that lies across the end of something is nobody's; reads are of ones. */
static const char *all_widths_at_all_edges(void)
{
    const uint64_t bar = pci_bar_get(virtios[0].slot);
    const uint64_t last = pci_bar_get(virtios[virtio_count - 1].slot) + PCI_BAR_BYTES;
    /* Not where memory may be plugged: who touches that is at his end. */
    const uint64_t edges[] = {
        bar,          bar + 0x38,    bar + 0x1000,     bar + 0x2000,
        bar + 0x3000, bar + 0x4000,  bar + 0x5000,     last,
        PCI_ECAM_AT,  PCI_ECAM_END,  pci_at(1, 0x100), pci_at(1, 0x1000),
        pci_at(2, 0), PCI_IOAPIC_AT, PCI_LAPIC_AT,     0xfffbc000,
        0xfffffff0,   0xc0000000};
    for (unsigned i = 0; i < ARRAY_COUNT(edges); i++) {
        for (unsigned size = 1; size <= 8; size *= 2) {
            for (uint64_t at = edges[i] - 8; at < edges[i] + 8; at++) {
                (void)memory_get(at, size);
                if (edges[i] < PCI_IOAPIC_AT || edges[i] > PCI_LAPIC_AT) {
                    memory_set(at, size, UINT64_MAX >> (i & 1));
                }
            }
        }
    }
    if (memory_get(PCI_ECAM_END, 4) != NOBODY) {
        return wrong("somebody answers behind ECAM:", memory_get(PCI_ECAM_END, 4));
    }
    /* What the writes have moved or switched off comes back. */
    for (unsigned i = 0; i < virtio_count; i++) {
        pci_bar_set(virtios[i].slot, (uint32_t)(bar + i * PCI_BAR_BYTES));
        pci_command_set(virtios[i].slot, PCI_ON);
    }
    return NULL;
}

static const char *virtio_capabilities_stay(void)
{
    for (unsigned i = 0; i < virtio_count; i++) {
        const uint64_t common = virtios[i].common;
        virtio_place(&virtios[i]);
        if (virtios[i].common != common) {
            return wrong("its registers moved to", virtios[i].common);
        }
    }
    return NULL;
}

static const uint16_t edge_ports[] = {0x0,   0x20,  0x5e,  0x60,   0x64,  0x70,  0xcf,
                                      0x3f0, 0x3f9, 0x3ff, 0x505,  0x506, 0x601, 0x603,
                                      0x604, 0x60f, 0x610, 0x61f,  0x620, 0xcf6, 0xcf8,
                                      0xcfc, 0xcff, 0xd00, 0xfff0, 0xffff};

static const char *ports_in_all_widths(void)
{
    for (unsigned i = 0; i < ARRAY_COUNT(edge_ports); i++) {
        for (uint16_t at = 0; at < 4; at++) {
            const uint16_t port = (uint16_t)(edge_ports[i] + at);
            (void)port_in8(port);
            (void)port_in16(port);
            (void)port_in32(port);
        }
    }
    return NULL;
}

/* Thousands of units by one instruction, into and out of pages, where ranges end. */
static const char *string_instructions_at_bus_edges(void)
{
    static const unsigned sizes[] = {1, 2, 4};
    static uint8_t room[4096 + 64];
    for (unsigned i = 0; i < ARRAY_COUNT(edge_ports); i++) {
        for (unsigned s = 0; s < ARRAY_COUNT(sizes); s++) {
            room[1024 * sizes[s]] = 0xa5;
            port_in_string(edge_ports[i], room, 1024, sizes[s]);
            if (room[1024 * sizes[s]] != 0xa5) {
                return wrong("it wrote beyond what was asked for, port", edge_ports[i]);
            }
        }
    }
    port_in_string(0x3fd, room + 7, 4000, 1); /* over a page's end */
    if (room[7] != room[4006] || (room[7] & 0x60) != 0x60) {
        return wrong("a line status that was never there:", room[4006]);
    }
    port_in_string(0xffff, room, 64, 4); /* the last port, and none behind it */
    port_out_string(0xffff, room, 64, 4);
    for (unsigned i = 0; i < sizeof(room); i++) {
        room[i] = (uint8_t)i;
    }
    port_out_string(0xcfc, room, 1024, 4); /* nothing is selected, or a bridge */
    port_out_string(0xd00, room, 1024, 2);
    port_out_string(0x3ff, room, 4096, 1); /* the scratch register */
    const uint8_t scratch = port_in8(0x3ff);
    return scratch == 0xff ? NULL : wrong("the last byte written is", scratch);
}

/* What a device says of itself, up to the end of its page and over it. */
static const char *configuration_of_devices(void)
{
    for (unsigned i = 0; i < virtio_count; i++) {
        const uint64_t from = virtios[i].config;
        for (uint64_t at = from - 8; at < from + 0x1000; at += at < from + 64 ? 1 : 61) {
            for (unsigned size = 1; size <= 8; size *= 2) {
                (void)memory_get(at, size);
                if (at >= from) {
                    memory_set(at, size, UINT64_MAX - at);
                }
            }
        }
        const char *why = virtio_serves(&virtios[i]);
        if (why != NULL) {
            return why;
        }
    }
    return NULL;
}

/* Registers of the platform, with whatever asks for no end and no reset. */
static const char *registers_of_the_platform(void)
{
    for (unsigned i = 0; i < 4096; i++) {
        const uint8_t value = (uint8_t)(i * 167 + (i >> 4));
        const uint16_t port = (uint16_t)(0x610 + i % 16);
        port_out8(port, value);
        (void)port_in8(port);
        port_out16(port, (uint16_t)(value * 257));
        port_out32(port, value * UINT32_C(0x01010101));
        (void)port_in32(port);
        (void)port_in8((uint16_t)(0x600 + i % 4));
        (void)port_in8((uint16_t)(0x60 + i % 5));
        port_out8(0x603, value);
        port_out8(0x601, value);
        port_out8(0x60, value);
    }
    return NULL;
}

static unsigned capability_find(unsigned slot, unsigned id, unsigned type)
{
    unsigned at = (unsigned)memory_get(pci_at(slot, 0x34), 1);
    while (at != 0) {
        const uint32_t head = (uint32_t)memory_get(pci_at(slot, at), 4);
        if ((head & 0xff) == id && (id != 9 || head >> 24 == type)) {
            return at;
        }
        at = head >> 8 & 0xff;
    }
    return 0;
}

/* The window of configuration space into BARs: any BAR, place and length. */
static const char *windows_to_anywhere(void)
{
    static const uint32_t numbers[] = {
        0,      1,      4,      0x14,   0x38,       0x2000,     0x3000,    0x4000,
        0x7ff8, 0x7fff, 0x8000, 0xffff, 0x7fffffff, 0xfffffffc, UINT32_MAX};
    const unsigned slot = virtio_find(VIRTIO_ENTROPY)->slot;
    const unsigned at = capability_find(slot, 9, 5);
    if (at == 0) {
        return wrong("there is no window", at);
    }
    for (unsigned bar = 0; bar < 8; bar++) {
        for (unsigned i = 0; i < ARRAY_COUNT(numbers); i++) {
            for (unsigned length = 0; length < ARRAY_COUNT(numbers); length++) {
                memory_set(pci_at(slot, at + 4), 1, bar * 37);
                memory_set(pci_at(slot, at + 8), 4, numbers[i]);
                memory_set(pci_at(slot, at + 12), 4, numbers[length]);
                (void)memory_get(pci_at(slot, at + 16), 4);
                memory_set(pci_at(slot, at + 16), 4, UINT32_MAX);
                (void)memory_get(pci_at(slot, at + 18), 2);
            }
        }
    }
    return virtio_serves(virtio_find(VIRTIO_ENTROPY));
}

/* Interrupts that are messages to any address, of any kind but those that a CPU cannot
 * refuse (SMI, NMI, INIT). */
static const char *messages_to_anywhere(void)
{
    static const uint64_t places[] = {0,          1,
                                      0xfee00000, 0xfee00000 | 0xff << 12 | 0xc,
                                      0xfeefffff, 0xc0000000,
                                      0xe0000000, UINT64_C(0xfee00000) << 8,
                                      UINT64_MAX, UINT64_C(0xffffffff00000000)};
    static const uint32_t datas[] = {0x0030, 0x4131, 0x0300, 0x07ff, 0x81ff};
    struct virtio *device = virtio_find(VIRTIO_ENTROPY);
    const unsigned at = capability_find(device->slot, 0x11, 0);
    const uint64_t table = pci_bar_get(device->slot) + 0x4000;
    for (unsigned i = 0; i < ARRAY_COUNT(places); i++) {
        for (unsigned data = 0; data < ARRAY_COUNT(datas); data++) {
            virtio_drive(device, 0);
            memory_set(pci_at(device->slot, at + 2), 2, 0x8000);
            for (uint64_t entry = 0; entry < 2; entry++) {
                memory_set(table + 16 * entry, 8, places[i]);
                memory_set(table + 16 * entry + 8, 4, datas[data]);
                memory_set(table + 16 * entry + 12, 4, 0);
            }
            common_set(device, COMMON_QUEUE_SELECT, 2, 0);
            common_set(device, COMMON_QUEUE_VECTOR, 2, 1);
            struct vbuffer buffers[3];
            unsigned count;
            const unsigned queue = virtio_sound(device, buffers, &count);
            vring_post(&device->rings[queue], buffers, count);
            vring_kick(device, queue);
            if (vring_await(device, queue) == UINT32_MAX) {
                return wrong("it is ill from a message to", places[i]);
            }
            memory_set(pci_at(device->slot, at + 2), 2, 0xffff); /* all masked */
        }
    }
    memory_set(pci_at(device->slot, at + 2), 4, 0);
    return virtio_serves(device);
}

/* Queues and features that are not there: zeros, and nothing else is read or written. */
static const char *selects_take_any_value(void)
{
    const struct virtio *device = virtio_find(VIRTIO_ENTROPY);
    for (unsigned value = 0; value <= 0xffff; value += value < 64 ? 1 : 61) {
        common_set(device, COMMON_QUEUE_SELECT, 2, value);
        if (value < device->queue_count || value == 0) {
            continue;
        }
        common_set(device, COMMON_QUEUE_VECTOR, 2, 0xffff - value);
        common_set(device, COMMON_QUEUE_SIZE, 2, value);
        common_set(device, COMMON_QUEUE_ENABLE, 2, 1);
        if (common_get(device, COMMON_QUEUE_SIZE, 2) != 0 ||
            common_get(device, COMMON_QUEUE_VECTOR, 2) != 0xffff) {
            return wrong("there is a queue", value);
        }
    }
    for (unsigned bit = 1; bit < 32; bit++) {
        common_set(device, COMMON_DEVICE_SELECT, 4, UINT32_C(1) << bit | 2);
        if (common_get(device, COMMON_DEVICE_FEATURE, 4) != 0) {
            return wrong("there is a word of features", UINT32_C(1) << bit | 2);
        }
    }
    for (unsigned queue = 0; queue <= 0xffff; queue += 257) { /* doorbells */
        memory_set(device->notify, 2, queue);
        memory_set(device->notify, 4, UINT32_MAX - queue);
        memory_set(device->notify + 4 * (queue % 1024), 2, queue);
    }
    return NULL;
}

/* ---- BARs that move while the device works ---- */

static const char *moved_to(struct virtio *device, uint32_t address)
{
    pci_bar_set(device->slot, address);
    if (pci_bar_get(device->slot) != (address & ~(PCI_BAR_BYTES - 1))) {
        return wrong("a BAR does not hold", address);
    }
    virtio_place(device);
    return virtio_serves(device);
}

static const char *bars_move_during_io(void)
{
    struct virtio *device = virtio_find(VIRTIO_BLOCK);
    const uint32_t home = pci_bar_get(device->slot);
    const uint32_t good[] = {0xd0000000, 0xdfff8000, home + 0x100000, 0xc8008000};
    struct vbuffer buffers[3];
    unsigned count;
    for (unsigned round = 0; round < 8; round++) {
        virtio_drive(device, 0);
        const unsigned queue = virtio_sound(device, buffers, &count);
        for (unsigned i = 0; i < 16; i++) {
            vring_post(&device->rings[queue], buffers, count);
        }
        vring_kick(device, queue);
        const char *why = moved_to(device, good[round % ARRAY_COUNT(good)]);
        if (why != NULL) {
            return why;
        }
    }
    return moved_to(device, home);
}

static const char *what_a_bar_has_left_is_nobodys(void)
{
    struct virtio *device = virtio_find(VIRTIO_BLOCK);
    const uint32_t home = pci_bar_get(device->slot);
    const uint64_t old = device->common;
    const char *why = moved_to(device, 0xd0000000);
    if (why == NULL && memory_get(old, 4) != NOBODY) {
        why = wrong("it still answers where it was:", memory_get(old, 4));
    }
    pci_command_set(device->slot, 0);
    if (why == NULL && memory_get(device->common, 4) != NOBODY) {
        why = wrong("it answers while it is not decoded:", memory_get(device->common, 4));
    }
    pci_command_set(device->slot, PCI_ON);
    const char *home_why = moved_to(device, home);
    return why != NULL ? why : home_why;
}

/* Over ECAM, RAM, the APICs, another device's BAR, the end and the beginning. */
static const char *bars_move_over_everything(void)
{
    struct virtio *device = virtio_find(VIRTIO_ENTROPY);
    const uint32_t home = pci_bar_get(device->slot);
    const uint32_t other = pci_bar_get(virtio_find(VIRTIO_BLOCK)->slot);
    const uint32_t places[] = {(uint32_t)PCI_ECAM_AT,
                               0xe00f8000,
                               0x00400000,
                               0x00000000,
                               (uint32_t)PCI_LAPIC_AT,
                               (uint32_t)PCI_IOAPIC_AT,
                               other,
                               0xffff8000,
                               0xfffb8000,
                               0x000f8000,
                               0xffffffff};
    for (unsigned i = 0; i < ARRAY_COUNT(places); i++) {
        pci_bar_set(device->slot, places[i]);
        (void)memory_get(places[i] & ~7u, 4);
        if (pci_virtio_type(device->slot) != VIRTIO_ENTROPY) {
            return wrong("configuration space is gone behind a BAR at", places[i]);
        }
        const char *why = virtio_serves(virtio_find(VIRTIO_BLOCK));
        if (why != NULL) {
            return why;
        }
    }
    return moved_to(device, home);
}

const struct row_group rows_bus = {
    "bus",
    {{"ecam-and-ports", ecam_and_ports_show_the_same},
     {"widths-and-edges", all_widths_at_all_edges},
     {"capabilities-stay", virtio_capabilities_stay},
     {"ports-in-all-widths", ports_in_all_widths},
     {"string-instructions", string_instructions_at_bus_edges},
     {"selects", selects_take_any_value},
     {"configuration", configuration_of_devices},
     {"platform", registers_of_the_platform},
     {"windows-to-anywhere", windows_to_anywhere},
     {"messages-to-anywhere", messages_to_anywhere},
     {"bars-move-during-io", bars_move_during_io},
     {"bars-leave-nothing", what_a_bar_has_left_is_nobodys},
     {"bars-over-everything", bars_move_over_everything}},
};
