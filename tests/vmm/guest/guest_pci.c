#include "guest_pci.h"

#include "guest_cpu.h"

#define PORT_ENABLE 0x80000000u

uint64_t pci_at(unsigned slot, unsigned offset)
{
    return PCI_ECAM_AT + (uint64_t)slot * 0x8000 + offset;
}

uint32_t pci_port_get(unsigned slot, unsigned offset)
{
    port_out32(PCI_ADDRESS, PORT_ENABLE | slot << 11 | (offset & 0xfcu));
    return port_in32(PCI_DATA);
}

unsigned pci_virtio_type(unsigned slot)
{
    const uint32_t identity = (uint32_t)memory_get(pci_at(slot, 0), 4);
    if ((identity & 0xffffu) != PCI_VIRTIO || identity >> 16 < PCI_VIRTIO_BASE) {
        return 0;
    }
    return (identity >> 16) - PCI_VIRTIO_BASE;
}

uint32_t pci_bar_get(unsigned slot)
{
    return (uint32_t)memory_get(pci_at(slot, PCI_BAR), 4) & ~15u;
}

void pci_bar_set(unsigned slot, uint32_t address)
{
    memory_set(pci_at(slot, PCI_BAR), 4, address);
}

void pci_command_set(unsigned slot, uint16_t command)
{
    memory_set(pci_at(slot, PCI_COMMAND), 2, command);
}
