/* The micro guest's view of PCI: configuration space by both ways, and the virtio devices
 * that are there. The BARs are where the machine put them; nothing is assigned anew. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define PCI_ECAM_AT     UINT64_C(0xe0000000)
#define PCI_ECAM_END    UINT64_C(0xe0100000)
#define PCI_LAPIC_AT    UINT64_C(0xfee00000)
#define PCI_IOAPIC_AT   UINT64_C(0xfec00000)
#define PCI_ADDRESS     0xcf8u
#define PCI_DATA        0xcfcu
#define PCI_SLOTS       32u
#define PCI_COMMAND     4u
#define PCI_BAR         0x10u
#define PCI_BAR_BYTES   0x8000u
#define PCI_ON          6u /* memory, and a master of the bus */
#define PCI_VIRTIO      0x1af4u
#define PCI_VIRTIO_BASE 0x1040u

/* Where a register of configuration space is in memory. */
uint64_t pci_at(unsigned slot, unsigned offset);
/* The same by the ports of old. */
uint32_t pci_port_get(unsigned slot, unsigned offset);
/* The virtio type in the slot, or 0. */
unsigned pci_virtio_type(unsigned slot);
uint32_t pci_bar_get(unsigned slot);
void pci_bar_set(unsigned slot, uint32_t address);
void pci_command_set(unsigned slot, uint16_t command);
