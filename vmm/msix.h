/* MSI-X of one function (PCI 3.0, 6.8.2): table, pending bits and masks, as pure state.
 *
 * Shapes: `struct msix` holds up to MSIX_VECTORS_MAX vectors. The machine connects two
 * lines: `deliver` carries a vector that is due now (an irqfd, or KVM_SIGNAL_MSI with
 * what msix_message says), `changed` says that a vector's message or mask is new, so that
 * a route can follow. A vector that is masked stays pending and is delivered when the
 * mask falls, never lost and never twice.
 *
 * Units: bytes. Threads: the owner's lock. Errors: none reach a guest. Limits: the table
 * takes accesses of 4 and 8 bytes, aligned (6.8.2); others read ones and write nothing.
 */
#pragma once

#include "base/bytes.h"
#include "base/err.h"
#include "vmm/device.h"
#include "vmm/pci_function.h"

#include <stdbool.h>
#include <stdint.h>

#define MSIX_VECTORS_MAX 32u /* one per queue of the widest device, one for the rest */
#define MSIX_ENTRY_BYTES 16u

struct msix_message {
    uint64_t address;
    uint32_t data;
};

struct msix {
    struct device_line deliver; /* number: the vector */
    struct device_line changed; /* number: the vector */
    unsigned vector_count;
    /* private */
    struct pci_function *function; /* holds the control word; borrowed */
    uint8_t control_at;            /* its offset */
    uint16_t control_seen;         /* what the lines know of */
    uint8_t table[MSIX_VECTORS_MAX * MSIX_ENTRY_BYTES];
    uint32_t pending; /* one bit per vector */
};

/* Adds the capability to the function, with table and pending bits in `bar` at these
 * offsets (multiples of 8). All vectors begin masked. */
void msix_init(struct msix *msix,
               struct pci_function *function,
               unsigned vector_count,
               unsigned bar,
               uint32_t table_at,
               uint32_t pending_at);
/* An event for the vector; PCI_NO_VECTOR and others that do not exist are nothing. */
void msix_raise(struct msix *msix, unsigned vector);
/* Whether the vector would be delivered now, and as what. */
bool msix_message(const struct msix *msix,
                  unsigned vector,
                  struct msix_message *ret_message);
/* The guest wrote to configuration space: the control word may be another. */
void msix_control_written(struct msix *msix);
void msix_table_read(const struct msix *msix,
                     uint64_t offset,
                     void *ret_data,
                     unsigned size);
void msix_table_write(struct msix *msix,
                      uint64_t offset,
                      const void *data,
                      unsigned size);
void msix_pending_read(const struct msix *msix,
                       uint64_t offset,
                       void *ret_data,
                       unsigned size);
void msix_reset(struct msix *msix);
void msix_save(const struct msix *msix, struct bytes_writer *writer);
/* 0 or BERTH_ECORRUPT. Raises `changed` for every vector. */
int msix_restore(struct msix *msix, struct bytes_reader *reader);
