/* The machine's ACPI tables: how an operating system finds CPUs, PCI, the serial port and
 * the power button.
 *
 * Shapes: one image of RSDP, XSDT, FADT (hardware-reduced), MADT, MCFG and DSDT, to be
 * placed at ACPI_AT; the RSDP is its first bytes. Pure: the same machine gives the same
 * bytes; iasl reads them in the tests. Errors: -ENOMEM, BERTH_ETOOLARGE when they do not
 * fit ACPI_SIZE. Ownership: the image is the caller's, free().
 */
#pragma once

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

/* cpu_count: 1..MACHINE_CPUS_MAX; APIC ids are 0..cpu_count - 1. */
int acpi_tables_make(unsigned cpu_count,
                     uint8_t **ret_image,
                     size_t *ret_size,
                     struct err *err);
