/* Slots whose devices come and go, and a guest that does its worst to them: its accesses
 * of any width to the registers and to configuration space, between devices that come,
 * are asked for, are taken out, resets and saves. A guest never changes which devices
 * there are, hears of each once, and loses none that it was not asked for: a copy that
 * takes no shortcuts agrees.
 *
 * Shapes: `struct slots` is a bus and the copy; slots_step does and checks one step of
 * SLOTS_STEP_BYTES bytes: what, and three of its own. Threads: one.
 */
#pragma once

#include "base/require.h"
#include "vmm/machine_layout.h"
#include "vmm/pci_bus.h"
#include "vmm/virtio_random.h"

#include <string.h>

#define SLOTS_STEP_BYTES 4u
#define SLOTS_NOBODY     UINT32_MAX
#define SLOTS_RANDOM     0x10441af4u /* virtio-rng */

enum slots_step {
    SLOTS_READ = 0,
    SLOTS_WRITE,
    SLOTS_CONFIG,
    SLOTS_COME,
    SLOTS_ASK,
    SLOTS_TAKE_OUT,
    SLOTS_RESET,
    SLOTS_SAVE,
    SLOTS_COUNT
};

struct slots_slot {
    bool present;
    bool up;
    bool down;
    bool asked;
    bool heard;
    bool leaving;
};

struct slots {
    struct io_bus bus;
    struct poller *poller;
    struct guest_memory memory;
    struct pci_bus *pci;
    unsigned told; /* that there is something to take out */
    struct slots_slot all[PCI_PLUG_SLOTS];
};

static inline void slots_on_let_go(void *context, unsigned number)
{
    struct slots *slots = context;
    (void)number;
    slots->told++;
}

static inline void slots_init(struct slots *slots)
{
    io_bus_init(&slots->bus);
    guest_memory_init(&slots->memory);
    REQUIRE(poller_new(&slots->poller, NULL) == 0);
    REQUIRE(pci_bus_new(&slots->bus, -1, slots->poller, &slots->pci) == 0);
    slots->pci->let_go = (struct device_line){slots_on_let_go, slots};
}

static inline void slots_take_out(struct slots *slots, unsigned i)
{
    struct virtio_pci *function = pci_bus_function(slots->pci, PCI_PLUG_FIRST + i);
    pci_bus_leave(slots->pci, PCI_PLUG_FIRST + i);
    device_reset(&function->device);
    pci_bus_unplug(slots->pci, PCI_PLUG_FIRST + i);
    device_free(&function->device);
    slots->all[i] = (struct slots_slot){.present = false};
}

static inline void slots_empty(struct slots *slots)
{
    for (unsigned i = 0; i < PCI_PLUG_SLOTS; i++) {
        if (slots->all[i].present) {
            slots_take_out(slots, i);
        }
    }
}

static inline void slots_fini(struct slots *slots)
{
    slots_empty(slots);
    device_free(&slots->pci->device);
    poller_free(slots->poller);
    guest_memory_fini(&slots->memory);
    io_bus_fini(&slots->bus);
}

/* ---- the guest's */

static inline uint8_t slots_model_read(struct slots *slots, uint64_t offset)
{
    uint8_t value = 0;
    for (unsigned i = 0; i < PCI_PLUG_SLOTS; i++) {
        struct slots_slot *slot = &slots->all[i];
        const bool bit = offset == PCI_PLUG_PRESENT ? slot->present
                         : offset == PCI_PLUG_UP    ? slot->up
                         : offset == PCI_PLUG_DOWN  ? slot->down
                                                    : offset > PCI_PLUG_EJECT;
        value = (uint8_t)(value | bit << i);
        slot->up = slot->up && offset != PCI_PLUG_UP;
        slot->heard = slot->heard || (slot->down && offset == PCI_PLUG_DOWN);
        slot->down = slot->down && offset != PCI_PLUG_DOWN;
    }
    return value;
}

static inline uint64_t slots_offset_of(const uint8_t *step)
{
    return step[3] % 16 == 0 ? UINT64_MAX - 2 * step[1] - 16 : step[1] % 12;
}

static inline void slots_read(struct slots *slots, const uint8_t *step)
{
    uint8_t seen[DEVICE_ACCESS_MAX];
    const uint64_t offset = slots_offset_of(step);
    const unsigned width = 1 + step[2] % DEVICE_ACCESS_MAX;
    device_read(&slots->pci->device, PCI_BUS_PLUG, offset, seen, width);
    for (unsigned i = 0; i < width; i++) {
        REQUIRE(seen[i] == slots_model_read(slots, offset + i));
    }
}

static inline void slots_write(struct slots *slots, const uint8_t *step)
{
    uint8_t bytes[DEVICE_ACCESS_MAX];
    const uint64_t offset = slots_offset_of(step);
    const unsigned width = 1 + step[2] % DEVICE_ACCESS_MAX;
    const unsigned before = slots->told;
    bool is_news = false;
    for (unsigned i = 0; i < width; i++) {
        bytes[i] = (uint8_t)(step[3] + 37 * i);
    }
    device_write(&slots->pci->device, PCI_BUS_PLUG, offset, bytes, width);
    for (unsigned i = 0; i < width; i++) {
        for (unsigned k = 0; offset + i == PCI_PLUG_EJECT && k < PCI_PLUG_SLOTS; k++) {
            struct slots_slot *slot = &slots->all[k];
            const bool goes = slot->heard && !slot->leaving && (bytes[i] >> k & 1) != 0;
            slot->leaving = slot->leaving || goes;
            is_news = is_news || goes;
        }
    }
    REQUIRE(slots->told == before + is_news);
}

static inline void slots_config(struct slots *slots, const uint8_t *step)
{
    uint8_t bytes[DEVICE_ACCESS_MAX] = {step[3], step[2], step[1]};
    const uint64_t at = (uint64_t)(PCI_PLUG_FIRST + step[1] % PCI_PLUG_SLOTS) << 15;
    device_write(&slots->pci->device, PCI_BUS_ECAM, at + step[2], bytes,
                 1 + step[3] % DEVICE_ACCESS_MAX);
}

/* ---- the owner's */

static inline void slots_come(struct slots *slots, unsigned i, bool is_news)
{
    const struct virtio_place place = {&slots->memory, slots->poller};
    struct virtio_device *random;
    struct virtio_pci *function;
    if (slots->all[i].present) {
        return;
    }
    REQUIRE(virtio_random_new(&place, &random) == 0);
    REQUIRE(virtio_pci_new(random, "rng", &function) == 0);
    REQUIRE(device_init(&function->device, NULL) == 0);
    REQUIRE(pci_bus_plug(slots->pci, PCI_PLUG_FIRST + i, function, NULL) == 0);
    if (!is_news) {
        pci_bus_place(slots->pci, PCI_PLUG_FIRST + i);
    }
    pci_bus_show(slots->pci, PCI_PLUG_FIRST + i, is_news);
    slots->all[i] = (struct slots_slot){.present = true, .up = is_news};
}

static inline void slots_reset(struct slots *slots)
{
    device_reset(&slots->pci->device);
    pci_bus_place_all(slots->pci);
    for (unsigned i = 0; i < PCI_PLUG_SLOTS; i++) {
        slots->all[i] = (struct slots_slot){.present = slots->all[i].present};
    }
}

static inline void slots_leaving_take(struct slots *slots)
{
    const uint8_t leaving = pci_bus_leaving(slots->pci);
    for (unsigned i = 0; i < PCI_PLUG_SLOTS; i++) {
        REQUIRE((leaving >> i & 1) == slots->all[i].leaving);
        if (slots->all[i].leaving) {
            slots_take_out(slots, i);
        }
    }
}

static inline void slots_save(struct slots *slots)
{
    struct bytes_writer writer;
    struct bytes_reader reader;
    slots_leaving_take(slots); /* as the machine does */
    bytes_writer_init(&writer, 4096);
    device_save(&slots->pci->device, &writer);
    bytes_reader_init(&reader, writer.data, writer.size);
    REQUIRE(device_restore(&slots->pci->device, &reader, NULL) == 0);
    bytes_writer_fini(&writer);
    for (unsigned i = 0; i < PCI_PLUG_SLOTS; i++) {
        struct slots_slot *slot = &slots->all[i];
        slot->heard = slot->asked && !slot->down; /* it is told again, and then has */
    }
}

static inline void slots_do(struct slots *slots, const uint8_t *step)
{
    const unsigned i = step[1] % PCI_PLUG_SLOTS;
    switch (step[0] % SLOTS_COUNT) {
    case SLOTS_READ:
        slots_read(slots, step);
        break;
    case SLOTS_WRITE:
        slots_write(slots, step);
        break;
    case SLOTS_CONFIG:
        slots_config(slots, step);
        break;
    case SLOTS_COME:
        slots_come(slots, i, step[2] % 2 == 0);
        break;
    case SLOTS_ASK:
        if (slots->all[i].present) {
            pci_bus_ask(slots->pci, PCI_PLUG_FIRST + i);
            slots->all[i].asked = slots->all[i].down = true;
        }
        break;
    case SLOTS_TAKE_OUT:
        slots_leaving_take(slots);
        break;
    case SLOTS_RESET:
        slots_reset(slots);
        break;
    case SLOTS_SAVE:
    default:
        slots_save(slots);
        break;
    }
}

/* Who is there answers; who is leaving is seen no more. */
static inline void slots_check(struct slots *slots)
{
    for (unsigned i = 0; i < PCI_PLUG_SLOTS; i++) {
        const struct slots_slot *slot = &slots->all[i];
        uint32_t identity;
        device_read(&slots->pci->device, PCI_BUS_ECAM,
                    (uint64_t)(PCI_PLUG_FIRST + i) << 15, &identity, sizeof(identity));
        REQUIRE(identity ==
                (slot->present && !slot->leaving ? SLOTS_RANDOM : SLOTS_NOBODY));
        REQUIRE(pci_bus_can_leave(slots->pci, PCI_PLUG_FIRST + i) == slot->present);
    }
}

static inline void slots_step(struct slots *slots, const uint8_t *step)
{
    slots_do(slots, step);
    slots_check(slots);
}
