/* Rows about slots whose devices come and go: their registers in every width, a device
 * that comes, works and goes, and one that is let go in the midst of its work, or all the
 * time, or by somebody who does anything but that. */
#include "guest_cpu.h"
#include "guest_pci.h"
#include "guest_rows.h"
#include "guest_say.h"
#include "guest_virtio.h"

#define SLOTS_PORT    0x620u
#define SLOTS_PRESENT (SLOTS_PORT + 0)
#define SLOTS_UP      (SLOTS_PORT + 1)
#define SLOTS_DOWN    (SLOTS_PORT + 2)
#define SLOTS_EJECT   (SLOTS_PORT + 3)
#define FIRST_SLOT    24u
#define WINDOW_AT     0xd8000000u /* behind what the machine has placed */
#define NOBODY        UINT32_MAX

static const char *registers_of_slots(void)
{
    static uint8_t room[4096];
    for (unsigned i = 0; i < 4096; i++) {
        const uint8_t value = (uint8_t)(i * 167 + (i >> 4));
        const uint16_t port = (uint16_t)(SLOTS_PORT - 4 + i % 12);
        port_out8(port, value);
        (void)port_in8(port);
        port_out16(port, (uint16_t)(value * 257));
        (void)port_in16(port);
        port_out32(port, value * UINT32_C(0x01010101));
        (void)port_in32(port);
    }
    port_in_string(SLOTS_UP, room, 4096, 1);
    port_out_string(SLOTS_EJECT, room, 4096, 1);
    const uint32_t seen = port_in32(SLOTS_PORT);
    if (seen != 0) {
        return wrong("no slot has anything, and they say", seen);
    }
    for (unsigned slot = FIRST_SLOT; slot < PCI_SLOTS; slot++) {
        if ((uint32_t)memory_get(pci_at(slot, 0), 4) != NOBODY) {
            return wrong("somebody is in slot", slot);
        }
    }
    return NULL;
}

/* The slot of the device that the host plugs; it is as after a reset. */
static const char *comes(const char *word, struct virtio *ret_device)
{
    uint8_t up;
    (void)ask(word);
    do {
        up = port_in8(SLOTS_UP);
    } while (up == 0);
    if (up != 1 || port_in8(SLOTS_UP) != 0 || (port_in8(SLOTS_PRESENT) & 1) == 0) {
        return wrong("what came is in", up);
    }
    if (pci_bar_get(FIRST_SLOT) != 0 ||
        (memory_get(pci_at(FIRST_SLOT, PCI_COMMAND), 2) & PCI_ON) != 0) {
        return wrong("it comes with a BAR at", pci_bar_get(FIRST_SLOT));
    }
    *ret_device =
        (struct virtio){.slot = FIRST_SLOT, .type = pci_virtio_type(FIRST_SLOT)};
    pci_bar_set(FIRST_SLOT, WINDOW_AT);
    pci_command_set(FIRST_SLOT, PCI_ON);
    virtio_place(ret_device);
    return NULL;
}

/* It is asked for, let go, and seen no more, at once. */
static const char *goes(const char *word)
{
    (void)ask(word);
    while (port_in8(SLOTS_DOWN) == 0) {
    }
    port_out8(SLOTS_EJECT, 1);
    if ((uint32_t)memory_get(pci_at(FIRST_SLOT, 0), 4) != NOBODY) {
        return wrong("it is seen, though it was let go:", FIRST_SLOT);
    }
    (void)ask("gone");
    if (memory_get(WINDOW_AT, 4) != NOBODY || port_in8(SLOTS_PRESENT) != 0) {
        return wrong("it has gone and answers:", memory_get(WINDOW_AT, 4));
    }
    return NULL;
}

static const char *devices_come_work_and_go(void)
{
    static const struct {
        const char *plug;
        const char *unplug;
        enum virtio_type type;
    } kinds[] = {{"plug-disk", "unplug-disk", VIRTIO_BLOCK},
                 {"plug-nic", "unplug-nic", VIRTIO_NET}};
    struct virtio device;
    for (unsigned i = 0; i < 20; i++) {
        const unsigned kind = i % 2;
        const char *why = comes(kinds[kind].plug, &device);
        if (why == NULL && device.type != (unsigned)kinds[kind].type) {
            why = wrong("what came is of type", device.type);
        }
        why = why != NULL ? why : virtio_serves(&device);
        why = why != NULL ? why : virtio_all_serve(); /* and so do the others */
        why = why != NULL ? why : goes(kinds[kind].unplug);
        if (why != NULL) {
            return why;
        }
    }
    return NULL;
}

/* With requests on their way that nobody will hear of. */
static const char *devices_go_in_the_midst_of_work(void)
{
    struct virtio device;
    struct vbuffer buffers[3];
    unsigned count;
    for (unsigned i = 0; i < 10; i++) {
        const char *why = comes("plug-disk", &device);
        if (why != NULL) {
            return why;
        }
        virtio_drive(&device, 0);
        const unsigned queue = virtio_sound(&device, buffers, &count);
        for (unsigned at = 0; at < 20; at++) {
            vring_post(&device.rings[queue], buffers, count);
        }
        vring_kick(&device, queue);
        why = goes("unplug-disk");
        if (why != NULL) {
            return why;
        }
    }
    return NULL;
}

static const char *what_nobody_asked_for_stays(void)
{
    struct virtio device;
    const char *why = comes("plug-disk", &device);
    for (unsigned i = 0; why == NULL && i < 1000; i++) {
        port_out8(SLOTS_EJECT, (uint8_t)(i | 1));
        port_out32(SLOTS_PORT, UINT32_MAX);
    }
    why = why != NULL ? why : virtio_serves(&device);
    return why != NULL ? why : goes("unplug-disk");
}

static uint32_t random_next(uint32_t *state)
{
    *state = *state * UINT32_C(1664525) + UINT32_C(1013904223);
    return *state >> 8;
}

/* One act of a guest that means nothing well. */
static void storm_act(uint32_t *state)
{
    const unsigned slot = FIRST_SLOT + random_next(state) % (PCI_SLOTS - FIRST_SLOT);
    const uint32_t value = random_next(state);
    const uint16_t port = (uint16_t)(SLOTS_PORT - 3 + random_next(state) % 9);
    struct virtio device = {.slot = slot, .type = pci_virtio_type(slot)};
    switch (random_next(state) % 8) {
    case 0:
        port_out8(SLOTS_EJECT, (uint8_t)value);
        break;
    case 1:
        (void)port_in32(port);
        port_out32(port, value * 257);
        break;
    case 2:
        (void)port_in16(port);
        port_out16(port, (uint16_t)value);
        break;
    case 3:
        memory_set(pci_at(slot, value % 0x100), 1u << value % 3, value);
        break;
    case 4:
        pci_bar_set(slot, WINDOW_AT + value % 16 * PCI_BAR_BYTES);
        pci_command_set(slot, PCI_ON);
        break;
    case 5:
        memory_set(WINDOW_AT + value % (16 * PCI_BAR_BYTES), 1, value);
        (void)memory_get(WINDOW_AT + value % (16 * PCI_BAR_BYTES - 8), 4);
        break;
    default:
        if (device.type != 0) { /* as well as it can be: it may go any time */
            pci_bar_set(slot, WINDOW_AT + (slot + 16) * PCI_BAR_BYTES);
            pci_command_set(slot, PCI_ON);
            virtio_place(&device);
            (void)virtio_serves(&device);
        }
        break;
    }
}

/* Devices come and are asked for as fast as the host can, while it stands still and goes
 * on, until it is enough; then nothing is left of them. */
static const char *storm(void)
{
    uint32_t state = 1;
    uint8_t byte;
    say("ask storm\n");
    while (!heard(&byte)) {
        storm_act(&state);
    }
    const uint8_t present = port_in8(SLOTS_PRESENT);
    return present == 0 ? NULL : wrong("it is over, and devices are in", present);
}

const struct row_group rows_plug = {
    "plug",
    {{"registers-of-slots", registers_of_slots},
     {"devices-come-and-go", devices_come_work_and_go},
     {"devices-go-at-work", devices_go_in_the_midst_of_work},
     {"unasked-stays", what_nobody_asked_for_stays},
     {"storm", storm},
     {"storm-again", storm}}};
