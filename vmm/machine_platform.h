/* A machine's devices: the platform that each has, and what is on its PCI bus.
 *
 * Shapes: `struct machine_platform` is a part of the machine; fields private below but to
 * be read. All devices are in one list, which is the order in which a saved machine has
 * them: the platform, what was there from the start, and then, by slot, what is in the
 * slots whose devices come and go (pci_plug.h). Threads: the machine's; interrupts of the
 * platform come from any. Ownership: the list owns its devices. Errors: with text.
 * Limits: PCI_SLOTS_MAX.
 */
#pragma once

#include "base/err.h"
#include "vmm/boot_trace.h"
#include "vmm/cpu_plug.h"
#include "vmm/io_bus.h"
#include "vmm/pci_bus.h"
#include "vmm/poller.h"
#include "vmm/power_control.h"
#include "vmm/serial_port.h"
#include "vmm/virtio_pci.h"

#include <stdbool.h>

#define MACHINE_DEVICES_MAX (PCI_SLOTS_MAX + 5u) /* serial, power, CPUs, PCI bridge */

struct machine_platform {
    struct device *devices[MACHINE_DEVICES_MAX];
    unsigned device_count;
    unsigned plugged_count;     /* the last of them: in slots that devices may leave */
    struct serial_port *serial; /* these four are among the devices */
    struct power_control *power;
    struct cpu_plug *cpus; /* NULL: it has its CPUs for good */
    struct pci_bus *pci;
    struct io_bus *bus; /* borrowed, as the descriptor */
    int vm_fd;
    struct device_line stopped; /* as of the plan */
};

/* What it is made with; all of it outlives it. */
struct machine_platform_plan {
    struct io_bus *bus;
    int vm_fd;
    struct poller *poller;
    struct boot_trace *trace;   /* may be NULL */
    struct device_line asked;   /* of power_control.h */
    struct device_line let_go;  /* of pci_bus.h */
    struct device_line stopped; /* a device has that was told to: device.h */
    unsigned cpu_count;         /* that there may be */
    unsigned present_count;     /* of them, from the start */
};

/* After an error what was made is there to be freed. */
int machine_platform_make(struct machine_platform *platform,
                          const struct machine_platform_plan *plan,
                          struct err *err);
/* Puts a device into a free slot, which it may leave or not. Taken in any case; after an
 * error all is as it was. */
int machine_platform_add(struct machine_platform *platform,
                         unsigned slot,
                         bool can_leave,
                         struct virtio_device *take_virtio,
                         const char *name,
                         struct err *err);
/* While no CPU runs: a device that leaves its slot is out of the guest's sight for good,
 * and stops; whether it has work in flight (device_stop_begin). */
bool machine_platform_part(struct machine_platform *platform, unsigned slot);
/* While no CPU runs, of one that has parted and has none: it is reset. What the guest
 * takes for written is not in its file yet. */
struct virtio_pci *machine_platform_parted(struct machine_platform *platform,
                                           unsigned slot);
/* Takes a device that has parted out of its slot: the caller's to free. */
struct virtio_pci *machine_platform_remove(struct machine_platform *platform,
                                           unsigned slot);
/* The slot of the device of that name; 0: none on the bus has it. */
unsigned machine_platform_slot(const struct machine_platform *platform, const char *name);
/* Whether any device has that name. */
bool machine_platform_has(const struct machine_platform *platform, const char *name);
/* All of them stop, and interrupts are held; it waits for what is in flight. */
void machine_platform_stop(struct machine_platform *platform);
/* The same without waiting: `stopped` is raised by each that has anything in flight, when
 * it has nothing any more. */
void machine_platform_stop_begin(struct machine_platform *platform);
/* The first that still has something in flight; NULL: none. */
const struct device *machine_platform_stops(const struct machine_platform *platform);
/* None has: interrupts are held. */
void machine_platform_stop_end(struct machine_platform *platform);
void machine_platform_start(struct machine_platform *platform);
/* As after power-on, with BARs as firmware places them. */
void machine_platform_reset(struct machine_platform *platform);
/* Frees all of them, the last first. */
void machine_platform_fini(struct machine_platform *platform);
