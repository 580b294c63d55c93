/* PCI bus 0: configuration space by ECAM and by ports, the host bridge, and where
 * functions decode.
 *
 * Shapes: one device for the machine with two regions, PCI_BUS_ECAM (4 KiB per function)
 * and PCI_BUS_PORTS (address at 0xcf8, data at 0xcfc). Slot 0 is the host bridge; each
 * virtio device is function 0 of a slot of its own. When a function's BAR moves, its
 * range on the io_bus and its doorbells (ioeventfds, one per queue) move with it; what
 * rings there is told to the device from the poller. MSI-X vectors are delivered by
 * msi_router.h.
 *
 * Threads: as device.h says; a function's lines are raised with its own lock held, which
 * is taken inside the bus' own. Ownership: the machine owns bus and functions, and frees
 * the functions first. Limits: PCI_SLOTS_MAX.
 */
#pragma once

#include "vmm/device.h"
#include "vmm/io_bus.h"
#include "vmm/msi_router.h"
#include "vmm/pci_function.h"
#include "vmm/poller.h"
#include "vmm/virtio_pci.h"

#include <stdbool.h>
#include <stdint.h>

#define PCI_SLOTS_MAX 31u /* 32 of a bus, without the bridge's */

enum pci_bus_region { PCI_BUS_ECAM = 0, PCI_BUS_PORTS };

struct pci_bus;

struct pci_slot {
    struct pci_bus *pci;
    struct virtio_pci *function; /* NULL: the slot is empty */
    bool is_mapped;
    uint64_t mapped_at;
    unsigned first_vector; /* of the router */
    unsigned queue_count;
    int doorbells[VIRTIO_QUEUES_MAX]; /* eventfds */
    int watches[VIRTIO_QUEUES_MAX];
    uint64_t doorbell_at[VIRTIO_QUEUES_MAX]; /* 0: KVM does not watch it */
};

struct pci_bus {
    struct device device; /* first */
    struct io_bus *bus;
    struct poller *poller;
    int vm_fd;
    struct msi_router *router; /* owned */
    uint32_t port_address;     /* what was written to 0xcf8 */
    struct pci_function bridge;
    unsigned slot_count;
    struct pci_slot slots[PCI_SLOTS_MAX]; /* slot n is device n + 1 */
};

int pci_bus_new(struct io_bus *bus,
                int vm_fd,
                struct poller *poller,
                struct pci_bus **ret_pci);
bool pci_bus_is_full(const struct pci_bus *pci);
/* Connects a function that is not initialised yet to the next slot; borrowed. 0 or
 * -errno: no descriptors are left for its doorbells. */
int pci_bus_plug(struct pci_bus *pci, struct virtio_pci *function, struct err *err);
/* No interrupt is on its way any more, and none takes one: after devices have stopped,
 * and as it begins; and the end of that, before they start. */
void pci_bus_hold(struct pci_bus *pci);
void pci_bus_go(struct pci_bus *pci);
/* Places all BARs and switches decoding on, as firmware would have: after the functions'
 * init and after each reset. */
void pci_bus_place(struct pci_bus *pci);
