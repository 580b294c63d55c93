/* The registers by which a guest learns which slots of its PCI bus have got a device or
 * are asked to give theirs back, and by which it lets one go (ACPI PCI hotplug).
 *
 * Shapes: `struct pci_plug`, pure state: sets of slots, PCI_PLUG_FIRST + n is bit n. The
 * methods of acpi_tables.h read and write one byte each:
 *
 *     PCI_PLUG_PRESENT   slots with a device that can go; a write does nothing
 *     PCI_PLUG_UP        those that got one since the byte was read: a read takes its
 *                        bits away; a write does nothing
 *     PCI_PLUG_DOWN      those whose device the owner wants back, the same way
 *     PCI_PLUG_EJECT     written: the devices of these slots may go; reads as zero
 *
 * A device goes only when its owner has asked for it, and the guest has heard of that:
 * what else is ejected stays as it is. So what a guest still does about a device that has
 * gone is nothing to the next one in its slot, even if that is asked for as well. Who was
 * asked and does nothing is asked again by whoever wants it. Nothing is
 * selected first, so that CPUs of a guest cannot get in each other's way. That there is
 * news the guest is told by the power registers' event (power_control.h).
 *
 * Threads: the owner's lock. Errors: none reach a guest; those of restore with text.
 * Limits: PCI_PLUG_SLOTS.
 */
#pragma once

#include "base/bytes.h"
#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

/* Slots that are for devices that come while the guest runs: the last of the bus, for
 * those from the start fill it from the first on. As many as a byte has bits. */
#define PCI_PLUG_SLOTS 8u
#define PCI_PLUG_FIRST 24u

enum pci_plug_register {
    PCI_PLUG_PRESENT = 0,
    PCI_PLUG_UP = 1,
    PCI_PLUG_DOWN = 2,
    PCI_PLUG_EJECT = 3,
};

struct pci_plug {
    bool is_unknown; /* the guest's tables are of before there were such slots */
    uint8_t present;
    uint8_t up;      /* news */
    uint8_t down;    /* news */
    uint8_t asked;   /* the owner wants these back; of those that are present */
    uint8_t heard;   /* of those that were asked: what the guest has read of */
    uint8_t leaving; /* the guest has let them go; of those that were asked */
};

/* Whether it is the number of such a slot. */
bool pci_plug_has(unsigned slot);
void pci_plug_read(struct pci_plug *plug, uint64_t offset, void *ret_data, unsigned size);
/* True: a slot is leaving that was not. */
bool pci_plug_write(struct pci_plug *plug,
                    uint64_t offset,
                    const void *data,
                    unsigned size);
/* The slot has a device from now on; it is news unless the guest has not begun. */
void pci_plug_add(struct pci_plug *plug, unsigned slot, bool is_news);
/* It has none. */
void pci_plug_remove(struct pci_plug *plug, unsigned slot);
/* The owner wants it back, and says so (again). */
void pci_plug_ask(struct pci_plug *plug, unsigned slot);
/* Its device goes, whatever the guest does. */
void pci_plug_leave(struct pci_plug *plug, unsigned slot);
bool pci_plug_is_present(const struct pci_plug *plug, unsigned slot);
bool pci_plug_is_leaving(const struct pci_plug *plug, unsigned slot);
/* As after power-on: devices stay, and there are no news. */
void pci_plug_reset(struct pci_plug *plug);
void pci_plug_save(const struct pci_plug *plug, struct bytes_writer *writer);
/* Only into one that has the same devices. BERTH_EINVALID, BERTH_ECORRUPT. */
int pci_plug_restore(struct pci_plug *plug, struct bytes_reader *reader, struct err *err);
