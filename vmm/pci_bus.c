#include "vmm/pci_bus.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/require.h"
#include "vmm/kvm_calls.h"
#include "vmm/machine_layout.h"
#include "vmm/planted_fault.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* The bridge that Linux knows from QEMU's plain PCIe host. */
#define BRIDGE_VENDOR 0x1b36u
#define BRIDGE_DEVICE 0x0008u
#define BRIDGE_CLASS  0x060000u

/* ECAM: bus, device, function, register. */
#define ECAM_DEVICE_SHIFT   15u
#define ECAM_FUNCTION_SHIFT 12u
#define ECAM_REGISTER_MASK  0xfffu
/* 0xcf8: enable, bus, device, function, register. */
#define PORT_ENABLE            0x80000000u
#define PORT_BUS(address)      ((address) >> 16 & 0xffu)
#define PORT_DEVICE(address)   ((address) >> 11 & 0x1fu)
#define PORT_FUNCTION(address) ((address) >> 8 & 0x7u)
#define PORT_REGISTER(address) ((address)&0xfcu)
#define PORT_DATA              4u /* 0xcfc */

#define COMMAND_AT     4u
#define COMMAND_MEMORY 2u
#define DOORBELL_BYTES                                                                \
    2u                   /* what Linux writes; other sizes come by the device's range \
                          */
#define STATE_VERSION 2u /* 2: devices come and go */

static struct pci_bus *bus_of(struct device *device)
{
    return (struct pci_bus *)(void *)device;
}

/* ---- configuration space */

/* What answers as this device, but the bridge; or NULL. */
static struct device *answering(const struct pci_bus *pci, unsigned number)
{
    struct virtio_pci *function = pci_bus_function(pci, number);
    return function == NULL ||
                   (pci_plug_has(number) && pci_plug_is_leaving(&pci->plug, number))
               ? NULL
               : &function->device;
}

static void config_read(struct pci_bus *pci,
                        unsigned number,
                        unsigned function,
                        uint64_t offset,
                        void *ret_data,
                        unsigned size)
{
    memset(ret_data, 0xff, size); /* nobody is there */
    if (function != 0) {
        return;
    }
    if (number == 0) {
        pci_function_read(&pci->bridge, offset, ret_data, size);
        return;
    }
    struct device *device = answering(pci, number);
    if (device != NULL) {
        device_read(device, VIRTIO_PCI_CONFIG, offset, ret_data, size);
    }
}

static void config_write(struct pci_bus *pci,
                         unsigned number,
                         unsigned function,
                         uint64_t offset,
                         const void *data,
                         unsigned size)
{
    if (function != 0) {
        return;
    }
    if (number == 0) {
        pci_function_write(&pci->bridge, offset, data, size);
        return;
    }
    struct device *device = answering(pci, number);
    if (device != NULL) {
        device_write(device, VIRTIO_PCI_CONFIG, offset, data, size);
    }
}

/* The data ports lead to a function of bus 0. */
static bool port_is_open(const struct pci_bus *pci, uint64_t offset, unsigned size)
{
    return offset >= PORT_DATA && size <= 4 && (pci->port_address & PORT_ENABLE) != 0 &&
           PORT_BUS(pci->port_address) == 0;
}

static void bus_read(struct device *device,
                     unsigned region,
                     uint64_t offset,
                     void *ret_data,
                     unsigned size)
{
    struct pci_bus *pci = bus_of(device);
    uint32_t address = pci->port_address;
    if (region == PCI_BUS_ECAM) {
        config_read(pci, (unsigned)(offset >> ECAM_DEVICE_SHIFT),
                    (unsigned)(offset >> ECAM_FUNCTION_SHIFT) & 7u,
                    offset & ECAM_REGISTER_MASK, ret_data, size);
    } else if (region == PCI_BUS_PLUG) {
        pci_plug_read(&pci->plug, offset, ret_data, size);
    } else if (port_is_open(pci, offset, size)) {
        config_read(pci, PORT_DEVICE(address), PORT_FUNCTION(address),
                    PORT_REGISTER(address) + (offset - PORT_DATA), ret_data, size);
    } else {
        memset(ret_data, 0xff, size);
        if (offset == 0 && size == sizeof(address)) {
            memcpy(ret_data, &address, sizeof(address));
        }
    }
}

static void bus_write(struct device *device,
                      unsigned region,
                      uint64_t offset,
                      const void *data,
                      unsigned size)
{
    struct pci_bus *pci = bus_of(device);
    uint32_t address = pci->port_address;
    if (region == PCI_BUS_ECAM) {
        config_write(pci, (unsigned)(offset >> ECAM_DEVICE_SHIFT),
                     (unsigned)(offset >> ECAM_FUNCTION_SHIFT) & 7u,
                     offset & ECAM_REGISTER_MASK, data, size);
    } else if (region == PCI_BUS_PLUG) {
        if (pci_plug_write(&pci->plug, offset, data, size)) {
            device_line_raise(&pci->let_go, 0);
        }
    } else if (port_is_open(pci, offset, size)) {
        config_write(pci, PORT_DEVICE(address), PORT_FUNCTION(address),
                     PORT_REGISTER(address) + (offset - PORT_DATA), data, size);
    } else if (offset == 0 && size == sizeof(pci->port_address)) {
        memcpy(&pci->port_address, data, sizeof(pci->port_address));
    }
}

/* ---- where a function decodes */

static void doorbell_set(struct pci_slot *slot, unsigned queue, uint64_t address)
{
    struct kvm_ioeventfd doorbell = {.len = DOORBELL_BYTES, .fd = slot->doorbells[queue]};
    if (slot->doorbell_at[queue] == address) {
        return; /* each change waits until no CPU is looking: milliseconds on some hosts
                 */
    }
    if (slot->doorbell_at[queue] != 0) {
        doorbell.addr = slot->doorbell_at[queue];
        doorbell.flags = KVM_IOEVENTFD_FLAG_DEASSIGN;
        (void)kvm_call(slot->pci->vm_fd, KVM_IOEVENTFD, &doorbell, "drop a doorbell",
                       NULL); /* it is there: we made it */
        slot->doorbell_at[queue] = 0;
    }
    doorbell.addr = address;
    doorbell.flags = 0;
    /* Without one, notifications come through the range, only slower. */
    if (address != 0 && kvm_call(slot->pci->vm_fd, KVM_IOEVENTFD, &doorbell,
                                 "make a doorbell", NULL) == 0) {
        slot->doorbell_at[queue] = address;
    }
}

/* The BAR may be elsewhere, or nowhere. Where something else answers already, it is not
 * seen: that is for the guest to mend. */
static void on_moved(void *context, unsigned number)
{
    struct pci_slot *slot = context;
    struct io_range range = {.space = IO_MEMORY,
                             .size = VIRTIO_PCI_BAR_BYTES,
                             .device = &slot->function->device,
                             .region = VIRTIO_PCI_BAR};
    (void)number;
    const bool is_decoded =
        pci_function_bar(&slot->function->function, VIRTIO_PCI_BAR_INDEX, &range.start) &&
        range.start != 0;
    if (slot->is_mapped && (!is_decoded || slot->mapped_at != range.start)) {
        if (!PLANTED(PLANTED_BAR_STAYS)) {
            io_bus_remove(slot->pci->bus, IO_MEMORY, slot->mapped_at);
        }
        slot->is_mapped = false;
    }
    if (is_decoded && !slot->is_mapped && io_bus_add(slot->pci->bus, &range, NULL) == 0) {
        slot->is_mapped = true;
        slot->mapped_at = range.start;
    }
    for (unsigned i = 0; i < slot->queue_count; i++) {
        uint64_t address = 0;
        bool rings = slot->is_mapped && virtio_pci_doorbell(slot->function, i, &address);
        doorbell_set(slot, i, rings ? address : 0);
    }
}

static void on_doorbell(void *context, uint64_t token, unsigned poll_events)
{
    struct pci_slot *slot = context;
    uint64_t rings;
    (void)poll_events;
    if (read(slot->doorbells[token], &rings, sizeof(rings)) == sizeof(rings)) {
        virtio_pci_notify(slot->function, (unsigned)token);
    }
}

static void on_deliver(void *context, unsigned vector)
{
    struct pci_slot *slot = context;
    struct msix_message message;
    if (msix_message(&slot->function->msix, vector, &message)) {
        msi_router_send(slot->pci->router, slot->first_vector + vector, &message);
    }
}

/* ---- what a slot lends */

static int lend_doorbell(void *context, unsigned queue, bool is_taken)
{
    struct pci_slot *slot = context;
    if (queue >= slot->queue_count) {
        return -1;
    }
    poller_change(slot->pci->poller, slot->watches[queue],
                  is_taken ? 0 : POLLER_READABLE);
    return slot->doorbells[queue];
}

static int lend_event(void *context, unsigned queue)
{
    struct pci_slot *slot = context;
    struct msix_message message;
    unsigned vector;
    return virtio_pci_message(slot->function, queue, &vector, &message)
               ? msi_router_event(slot->pci->router, slot->first_vector + vector,
                                  &message)
               : -1;
}

/* ---- the device's verbs */

static void bus_reset(struct device *device)
{
    struct pci_bus *pci = bus_of(device);
    pci->port_address = 0;
    pci_function_reset(&pci->bridge);
    pci_plug_reset(&pci->plug);
}

static void bus_save(struct device *device, struct bytes_writer *writer)
{
    struct pci_bus *pci = bus_of(device);
    bytes_write_u32(writer, pci->port_address);
    pci_function_save(&pci->bridge, writer);
    pci_plug_save(&pci->plug, writer);
}

static int bus_restore(struct device *device,
                       uint16_t version,
                       struct bytes_reader *reader,
                       struct err *err)
{
    struct pci_bus *pci = bus_of(device);
    pci->port_address = bytes_read_u32(reader);
    if (pci_function_restore(&pci->bridge, reader) < 0) {
        return err_set(err, BERTH_ECORRUPT, "PCI: the host bridge's state does not fit");
    }
    if (version >= 2) {
        return pci_plug_restore(&pci->plug, reader, err);
    }
    pci->plug.is_unknown = true; /* it has read its tables long ago */
    return 0;
}

static void slot_free(struct pci_slot *slot)
{
    for (unsigned i = 0; i < slot->queue_count; i++) {
        poller_remove(slot->pci->poller, slot->watches[i]);
        /* What KVM still watches goes with the VM: the bus lives as long. */
        fd_close(&slot->doorbells[i]);
    }
    slot->queue_count = 0;
    msi_router_drop(slot->pci->router, slot->first_vector, slot->vector_count);
    slot->vector_count = 0;
}

static void bus_free(struct device *device)
{
    struct pci_bus *pci = bus_of(device);
    for (unsigned i = 1; i <= PCI_SLOTS_MAX; i++) {
        if (pci->slots[i].function != NULL) {
            slot_free(&pci->slots[i]);
        }
    }
    pci->router = msi_router_free(pci->router);
    free(pci);
}

static const struct device_ops bus_ops = {
    .kind = "pci-bus",
    .state_version = STATE_VERSION,
    .reset = bus_reset,
    .save = bus_save,
    .restore = bus_restore,
    .free = bus_free,
    .read = bus_read,
    .write = bus_write,
};

int pci_bus_new(struct io_bus *bus,
                int vm_fd,
                struct poller *poller,
                struct pci_bus **ret_pci)
{
    static const struct pci_identity bridge = {
        .vendor = BRIDGE_VENDOR, .device = BRIDGE_DEVICE, .class_code = BRIDGE_CLASS};
    struct pci_bus *pci = calloc(1, sizeof(*pci));
    if (pci == NULL) {
        return -ENOMEM;
    }
    if (msi_router_new(vm_fd, clock_system(), &pci->router) < 0) {
        free(pci);
        return -ENOMEM;
    }
    device_setup(&pci->device, &bus_ops, "pci");
    pci->bus = bus;
    pci->vm_fd = vm_fd;
    pci->poller = poller;
    pci_function_init(&pci->bridge, &bridge);
    *ret_pci = pci;
    return 0;
}

unsigned pci_bus_free_slot(const struct pci_bus *pci, bool can_leave)
{
    for (unsigned i = can_leave ? PCI_PLUG_FIRST : 1; i <= PCI_SLOTS_MAX; i++) {
        if (pci->slots[i].function == NULL && (!can_leave || pci_plug_has(i))) {
            return i;
        }
    }
    return 0;
}

struct virtio_pci *pci_bus_function(const struct pci_bus *pci, unsigned slot)
{
    return slot <= PCI_SLOTS_MAX ? pci->slots[slot].function : NULL;
}

static int doorbells_make(struct pci_slot *slot, unsigned count, struct err *err)
{
    for (unsigned i = 0; i < count; i++) {
        int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (fd < 0) {
            return err_sys(err, -errno, "make a doorbell");
        }
        int watch =
            poller_add(slot->pci->poller, fd, POLLER_READABLE, on_doorbell, slot, i);
        if (watch < 0) {
            fd_close(&fd);
            return err_sys(err, watch, "watch a doorbell");
        }
        slot->doorbells[i] = fd;
        slot->watches[i] = watch;
        slot->queue_count++;
    }
    return 0;
}

int pci_bus_plug(struct pci_bus *pci,
                 unsigned number,
                 struct virtio_pci *function,
                 struct err *err)
{
    REQUIRE(number >= 1 && number <= PCI_SLOTS_MAX);
    struct pci_slot *slot = &pci->slots[number];
    REQUIRE(slot->function == NULL);
    int r = msi_router_add(pci->router, function->msix.vector_count, err);
    if (r < 0) {
        return r;
    }
    *slot = (struct pci_slot){.pci = pci,
                              .first_vector = (unsigned)r,
                              .vector_count = function->msix.vector_count};
    r = doorbells_make(slot, function->virtio->queue_count, err);
    if (r < 0) {
        slot_free(slot);
        return r;
    }
    function->function.moved = (struct device_line){on_moved, slot};
    function->msix.deliver = (struct device_line){on_deliver, slot};
    function->virtio->wires = (struct virtio_wires){
        .doorbell = lend_doorbell, .event = lend_event, .context = slot};
    pthread_mutex_lock(&pci->device.lock);
    slot->function = function;
    pthread_mutex_unlock(&pci->device.lock);
    return 0;
}

void pci_bus_unplug(struct pci_bus *pci, unsigned number)
{
    struct pci_slot *slot = &pci->slots[number];
    REQUIRE(slot->function != NULL && !slot->is_mapped);
    pthread_mutex_lock(&pci->device.lock);
    REQUIRE(pci_plug_is_leaving(&pci->plug, number)); /* no CPU can come upon it */
    slot->function = NULL;
    pci_plug_remove(&pci->plug, number);
    pthread_mutex_unlock(&pci->device.lock);
    slot_free(slot);
}

void pci_bus_show(struct pci_bus *pci, unsigned slot, bool is_news)
{
    pthread_mutex_lock(&pci->device.lock);
    pci_plug_add(&pci->plug, slot, is_news);
    pthread_mutex_unlock(&pci->device.lock);
}

void pci_bus_ask(struct pci_bus *pci, unsigned slot)
{
    pthread_mutex_lock(&pci->device.lock);
    pci_plug_ask(&pci->plug, slot);
    pthread_mutex_unlock(&pci->device.lock);
}

void pci_bus_leave(struct pci_bus *pci, unsigned slot)
{
    pthread_mutex_lock(&pci->device.lock);
    pci_plug_leave(&pci->plug, slot);
    pthread_mutex_unlock(&pci->device.lock);
}

uint8_t pci_bus_asked(struct pci_bus *pci)
{
    pthread_mutex_lock(&pci->device.lock);
    const uint8_t asked = pci->plug.asked;
    pthread_mutex_unlock(&pci->device.lock);
    return asked;
}

uint8_t pci_bus_leaving(struct pci_bus *pci)
{
    pthread_mutex_lock(&pci->device.lock);
    const uint8_t leaving = pci->plug.leaving;
    pthread_mutex_unlock(&pci->device.lock);
    return leaving;
}

bool pci_bus_can_leave(const struct pci_bus *pci, unsigned slot)
{
    return pci_plug_has(slot) && pci_plug_is_present(&pci->plug, slot);
}

bool pci_bus_can_plug(const struct pci_bus *pci)
{
    return !pci->plug.is_unknown; /* changes while no CPU runs */
}

void pci_bus_hold(struct pci_bus *pci)
{
    msi_router_hold(pci->router);
}

void pci_bus_go(struct pci_bus *pci)
{
    msi_router_go(pci->router);
}

void pci_bus_place(struct pci_bus *pci, unsigned slot)
{
    struct virtio_pci *function = pci->slots[slot].function;
    const uint16_t command = COMMAND_MEMORY;
    const uint64_t address = PCI_WINDOW_AT + (slot - 1) * (uint64_t)VIRTIO_PCI_BAR_BYTES;
    pthread_mutex_lock(&function->device.lock);
    pci_function_place_bar(&function->function, VIRTIO_PCI_BAR_INDEX, (uint32_t)address);
    pci_function_write(&function->function, COMMAND_AT, &command, sizeof(command));
    pthread_mutex_unlock(&function->device.lock);
}

void pci_bus_place_all(struct pci_bus *pci)
{
    for (unsigned i = 1; i <= PCI_SLOTS_MAX; i++) {
        if (pci->slots[i].function != NULL) {
            pci_bus_place(pci, i);
        }
    }
}
