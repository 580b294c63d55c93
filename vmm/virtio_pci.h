/* A virtio device on PCI (virtio 1.2, 4.1), modern only, interrupts by MSI-X only.
 *
 * Shapes: one PCI function with one 32-bit memory BAR; each structure of 4.1.4 has a page
 * of it. `struct virtio_pci` is the machine's device: region VIRTIO_PCI_CONFIG is the
 * function's configuration space, region VIRTIO_PCI_BAR the BAR. What the machine
 * connects, before device_init:
 *     function.moved   the BAR moved or is (not) decoded: map it, and the doorbells; or a
 *                      driver came or went, and its doorbells with it
 *     msix.deliver     vector n is due: irqfd or KVM_SIGNAL_MSI
 *     virtio->wires    what it lends to queues that are served elsewhere
 * All are raised with the device's lock held and must not call back into the device,
 * except for pci_function_bar, virtio_pci_doorbell and msix_message.
 *
 * Doorbells: a write of any size to virtio_pci_doorbell(queue) is a notification; behind
 * an ioeventfd it becomes a call of virtio_pci_notify. Without INTx a driver that does
 * not use MSI-X has to poll.
 *
 * Ownership: owns its virtio device. Threads, errors: as device.h says.
 */
#pragma once

#include "vmm/device.h"
#include "vmm/msix.h"
#include "vmm/pci_function.h"
#include "vmm/virtio_device.h"

#include <stdbool.h>
#include <stdint.h>

enum virtio_pci_region { VIRTIO_PCI_CONFIG = 0, VIRTIO_PCI_BAR };

#define VIRTIO_PCI_BAR_INDEX 0u
#define VIRTIO_PCI_BAR_BYTES 0x8000u

struct virtio_pci {
    struct device device; /* first: the machine's view */
    struct pci_function function;
    struct msix msix;
    struct virtio_device *virtio;
    /* private: the common configuration's own registers */
    uint32_t device_feature_select;
    uint32_t driver_feature_select;
    uint16_t queue_select;
    uint16_t config_vector;
    uint16_t queue_vectors[VIRTIO_QUEUES_MAX];
    uint8_t isr;
    uint8_t window_at; /* of the PCI-CFG capability's body */
};

/* Takes the virtio device on success. 0 or -ENOMEM. */
int virtio_pci_new(struct virtio_device *take_virtio,
                   const char *name,
                   struct virtio_pci **ret_pci);
/* The guest physical address that notifies the queue; false while it is not decoded, and
 * while no driver may use it. */
bool virtio_pci_doorbell(const struct virtio_pci *pci,
                         unsigned queue,
                         uint64_t *ret_address);
/* The message that interrupts the driver for the queue, and its vector; false while it
 * has none, or a mask. */
bool virtio_pci_message(const struct virtio_pci *pci,
                        unsigned queue,
                        unsigned *ret_vector,
                        struct msix_message *ret_message);
/* A doorbell rang behind an ioeventfd. Takes the lock. */
void virtio_pci_notify(struct virtio_pci *pci, unsigned queue);
