/* Where things are in a machine: physical addresses, ports, interrupts. Numbers alone, no
 * code.
 *
 * RAM lies from 0 to LOW_RAM_MAX and from HIGH_RAM_AT on; the hole between them holds
 * what is not RAM:
 *
 *     0x00000000  RAM: what the loader leaves for the kernel below 1 MiB, ACPI tables
 *                 at 0xe0000, the kernel, the initrd at the end
 *     0xc0000000  BARs of PCI devices
 *     0xe0000000  PCI configuration space (ECAM), bus 0
 *     0xfec00000  I/O APIC, local APICs, what KVM wants for itself
 *     0x100000000 RAM again, and from the next GiB on RAM that is plugged
 */
#pragma once

#include <stdint.h>

#define LOW_RAM_MAX UINT64_C(0xc0000000)
#define HIGH_RAM_AT UINT64_C(0x100000000)

/* What the loader places below 1 MiB. */
#define GDT_AT        UINT64_C(0x500)
#define START_INFO_AT UINT64_C(0x6000)
#define MEMORY_MAP_AT UINT64_C(0x6100)
#define MODULES_AT    UINT64_C(0x6f00)
#define ZERO_PAGE_AT  UINT64_C(0x7000)
#define PAGE_TABLES_AT \
    UINT64_C(0x9000) /* one top, one middle table, four that map 4 GiB */
#define BOOT_STACK_AT   UINT64_C(0x8ff0)
#define CMDLINE_AT      UINT64_C(0x20000)
#define CMDLINE_MAX     UINT64_C(0x1000) /* with its NUL; 2047 is what Linux takes */
#define BIOS_DATA_END   UINT64_C(0x9fc00)
#define ACPI_AT         UINT64_C(0xe0000)
#define ACPI_SIZE       UINT64_C(0x20000)
#define GENERATION_AT   UINT64_C(0xfe000)  /* 16 bytes; behind the ACPI tables */
#define RESET_VECTOR_AT UINT64_C(0xffff0)  /* where a BIOS would begin */
#define KERNEL_AT       UINT64_C(0x100000) /* nothing of a kernel lies below */

#define PCI_WINDOW_AT   UINT64_C(0xc0000000)
#define PCI_WINDOW_SIZE UINT64_C(0x20000000)
#define ECAM_AT         UINT64_C(0xe0000000)
#define ECAM_SIZE       UINT64_C(0x100000) /* bus 0 alone */
#define IOAPIC_AT       UINT64_C(0xfec00000)
#define LAPIC_AT        UINT64_C(0xfee00000)
#define IDENTITY_MAP_AT UINT64_C(0xfffbc000) /* one page, for KVM on old Intel CPUs */
#define TASK_STATE_AT   UINT64_C(0xfffbd000) /* three pages, the same */

#define SERIAL_PORT    0x3f8u
#define SERIAL_SIZE    8u
#define KEYBOARD_PORT  0x60u /* an i8042 that can do nothing but reset */
#define KEYBOARD_SIZE  5u
#define BOOT_MARK_PORT 0x80u /* where a guest says how far it is: boot_trace.h */
#define BOOT_MARK_SIZE 1u
#define PANIC_PORT     0x505u
#define PANIC_SIZE     1u
#define POWER_PORT     0x600u /* sleep, reset, reasons of events: power_control.h */
#define POWER_SIZE     4u
#define CPU_PLUG_PORT  0x610u /* which CPUs there are: cpu_plug.h */
#define CPU_PLUG_SIZE  16u
#define PCI_PLUG_PORT                                                 \
    0x620u /* which slots have got a device, or are to go: pci_plug.h \
            */
#define PCI_PLUG_SIZE 4u
#define PCI_PORT      0xcf8u
#define PCI_PORT_SIZE 8u

#define SERIAL_IRQ   4u
#define EVENT_IRQ    9u
#define IOAPIC_LINES 24u

#define MACHINE_CPUS_MAX   64u /* APIC ids below 255 need no x2APIC */
#define MACHINE_MEMORY_MIN (UINT64_C(32) << 20)
#define MACHINE_MEMORY_MAX (UINT64_C(256) << 30)
