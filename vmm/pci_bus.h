/* PCI bus 0: configuration space by ECAM and by ports, the host bridge, where functions
 * decode, and slots whose devices come and go.
 *
 * Shapes: one device for the machine with three regions, PCI_BUS_ECAM (4 KiB per
 * function), PCI_BUS_PORTS (address at 0xcf8, data at 0xcfc) and PCI_BUS_PLUG
 * (pci_plug.h). Slot 0 is the host bridge; each virtio device is function 0 of a slot of
 * its own. When a function's BAR moves, its range on the io_bus and its doorbells
 * (ioeventfds, one per queue) move with it; what rings there is told to the device from
 * the poller. MSI-X vectors are delivered by msi_router.h. A function whose slot the
 * guest has let go is seen no more in configuration space; that it is to be taken out is
 * told by the line `let_go`.
 *
 * Threads: as device.h says; a function's lines are raised with its own lock held, which
 * is taken inside the bus' own. Functions come and go while CPUs run, but are reset
 * before they go, while none does. Ownership: the machine owns bus and functions, and
 * frees the functions first. Limits: PCI_SLOTS_MAX.
 */
#pragma once

#include "vmm/device.h"
#include "vmm/io_bus.h"
#include "vmm/msi_router.h"
#include "vmm/pci_function.h"
#include "vmm/pci_plug.h"
#include "vmm/poller.h"
#include "vmm/virtio_pci.h"

#include <stdbool.h>
#include <stdint.h>

#define PCI_SLOTS_MAX 31u /* 32 of a bus, without the bridge's */

enum pci_bus_region { PCI_BUS_ECAM = 0, PCI_BUS_PORTS, PCI_BUS_PLUG };

struct pci_bus;

struct pci_slot {
    struct pci_bus *pci;
    struct virtio_pci *function; /* NULL: the slot is empty */
    bool is_mapped;
    uint64_t mapped_at;
    unsigned first_vector; /* of the router */
    unsigned vector_count;
    unsigned queue_count;
    int doorbells[VIRTIO_QUEUES_MAX]; /* eventfds */
    int watches[VIRTIO_QUEUES_MAX];
    uint64_t doorbell_at[VIRTIO_QUEUES_MAX]; /* 0: KVM does not watch it */
};

struct pci_bus {
    struct device device;      /* first */
    struct device_line let_go; /* there is a slot that is leaving; number is 0 */
    struct io_bus *bus;
    struct poller *poller;
    int vm_fd;
    struct msi_router *router; /* owned */
    uint32_t port_address;     /* what was written to 0xcf8 */
    struct pci_function bridge;
    struct pci_plug plug;
    struct pci_slot
        slots[PCI_SLOTS_MAX + 1u]; /* by device number; none is the bridge's */
};

int pci_bus_new(struct io_bus *bus,
                int vm_fd,
                struct poller *poller,
                struct pci_bus **ret_pci);
/* The first slot that is free, or of those that devices may leave; 0: all are taken. */
unsigned pci_bus_free_slot(const struct pci_bus *pci, bool can_leave);
/* The function in a slot of 1..PCI_SLOTS_MAX, or NULL. */
struct virtio_pci *pci_bus_function(const struct pci_bus *pci, unsigned slot);
/* Connects a function that does not work yet to a free slot; borrowed. The guest sees it
 * there from now on. 0 or -errno: no descriptors are left for its doorbells. */
int pci_bus_plug(struct pci_bus *pci,
                 unsigned number,
                 struct virtio_pci *function,
                 struct err *err);
/* Takes a function out that was reset since its slot is leaving, while no CPU ran. */
void pci_bus_unplug(struct pci_bus *pci, unsigned number);
/* The calls of pci_plug.h, under the lock. */
void pci_bus_show(struct pci_bus *pci, unsigned slot, bool is_news);
void pci_bus_ask(struct pci_bus *pci, unsigned slot);
void pci_bus_leave(struct pci_bus *pci, unsigned slot);
/* Those that are asked for, and of them those that are leaving: sets of pci_plug.h. */
uint8_t pci_bus_asked(struct pci_bus *pci);
uint8_t pci_bus_leaving(struct pci_bus *pci);
/* Whether what is in the slot may leave it. */
bool pci_bus_can_leave(const struct pci_bus *pci, unsigned slot);
/* Whether its guest knows of slots that devices may leave; one that begins anew does. */
bool pci_bus_can_plug(const struct pci_bus *pci);
/* No interrupt is on its way any more, and none takes one: after devices have stopped,
 * and as it begins; and the end of that, before they start. */
void pci_bus_hold(struct pci_bus *pci);
void pci_bus_go(struct pci_bus *pci);
/* Places a function's BAR and switches decoding on, as firmware would have: after its
 * init. */
void pci_bus_place(struct pci_bus *pci, unsigned slot);
/* All of them: after each reset. */
void pci_bus_place_all(struct pci_bus *pci);
