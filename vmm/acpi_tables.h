/* The machine's ACPI tables: how an operating system finds CPUs, PCI, the serial port and
 * the power button.
 *
 * Shapes: one image of RSDP, XSDT, FADT (hardware-reduced), MADT, MCFG and DSDT, to be
 * placed at ACPI_AT; the RSDP is its first bytes. Pure: the same machine gives the same
 * bytes; iasl reads them in the tests. In a machine whose CPUs may come later every one
 * that there may be has a device, which asks cpu_plug.h whether it is there; the image
 * has the same size whichever are. Every machine has the slots of pci_plug.h. Errors:
 * -ENOMEM, BERTH_ETOOLARGE when they do not fit ACPI_SIZE. Ownership: the image is the
 * caller's, free().
 */
#pragma once

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct acpi_cpus {
    unsigned count;   /* that there may be, 1..MACHINE_CPUS_MAX: APIC ids from 0 on */
    uint64_t present; /* the set of those that are there */
    bool may_come;    /* the machine has the registers of cpu_plug.h */
};

int acpi_tables_make(const struct acpi_cpus *cpus,
                     uint8_t **ret_image,
                     size_t *ret_size,
                     struct err *err);
