/* The configuration space of one PCI function (PCI 3.0, chapter 6), as pure state.
 *
 * Shapes: 256 bytes with a mask that says which bits the guest may write; up to six
 * memory BARs of 32 bits; a chain of capabilities. The owner hears through a line when
 * what the function decodes may have changed (a BAR moved, memory decoding switched) and
 * asks pci_function_bar where each BAR is then.
 *
 * Units: bytes, little endian. Threads: the owner's lock. Errors: none reach a guest:
 * reads outside are ones, writes outside are nothing. Limits: a BAR is a power of two
 * from PCI_BAR_SIZE_MIN to 1 GiB.
 */
#pragma once

#include "base/bytes.h"
#include "base/err.h"
#include "vmm/device.h"

#include <stdbool.h>
#include <stdint.h>

#define PCI_CONFIG_BYTES 256u
#define PCI_BARS_MAX     6u
#define PCI_BAR_SIZE_MIN 16u
#define PCI_NO_VECTOR    0xffffu

struct pci_identity {
    uint16_t vendor;
    uint16_t device;
    uint16_t subsystem_vendor;
    uint16_t subsystem;
    uint32_t class_code; /* class, subclass, interface: 24 bits */
    uint8_t revision;
};

struct pci_function {
    struct device_line moved; /* the line's number is 0 */
    /* private */
    uint8_t config[PCI_CONFIG_BYTES];
    uint8_t writable[PCI_CONFIG_BYTES];
    uint32_t bar_size[PCI_BARS_MAX]; /* 0: there is none */
    uint8_t last_capability;         /* offset, 0 when there is none yet */
    uint8_t next_free;               /* offset of the next capability */
};

void pci_function_init(struct pci_function *function,
                       const struct pci_identity *identity);
/* Adds a memory BAR. */
void pci_function_add_bar(struct pci_function *function,
                          unsigned bar,
                          uint32_t size_bytes);
/* Adds a capability: its id, then `size` bytes of body after the two-byte header, of
 * which the bits set in `writable` (same size, or NULL) are the guest's. Its offset. */
uint8_t pci_function_add_capability(struct pci_function *function,
                                    uint8_t id,
                                    const void *body,
                                    const void *writable,
                                    unsigned size);
/* Puts a BAR where the firmware would have; as if the guest had written it. */
void pci_function_place_bar(struct pci_function *function,
                            unsigned bar,
                            uint32_t address);
/* Where the BAR is; false when memory is not decoded or there is no such BAR. */
bool pci_function_bar(const struct pci_function *function,
                      unsigned bar,
                      uint64_t *ret_address);
/* Guest accesses of 1, 2 or 4 bytes at any offset. */
void pci_function_read(const struct pci_function *function,
                       uint64_t offset,
                       void *ret_data,
                       unsigned size);
void pci_function_write(struct pci_function *function,
                        uint64_t offset,
                        const void *data,
                        unsigned size);
/* As after power-on: the guest's bits are zero. */
void pci_function_reset(struct pci_function *function);
void pci_function_save(const struct pci_function *function, struct bytes_writer *writer);
/* 0 or BERTH_ECORRUPT: bits that no guest can have changed differ. */
int pci_function_restore(struct pci_function *function, struct bytes_reader *reader);
