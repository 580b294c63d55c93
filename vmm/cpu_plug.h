/* The registers by which a guest learns which of its CPUs are there, and which have come.
 *
 * Shapes: one device with one region of CPU_PLUG_SIZE bytes, for the methods that
 * acpi_tables.h writes. Two sets, CPU n is bit n % 8 of byte n / 8:
 *
 *     CPU_PLUG_PRESENT   the CPUs that are there; a write does nothing
 *     CPU_PLUG_COME      those of them that came since the byte was read: a read takes
 *                        its bits away; a write does nothing
 *
 * Nothing is selected first, so that CPUs of a guest cannot get in each other's way. A
 * CPU that came stays, through resets of the guest too; after one nothing is news. Bytes
 * behind the sets read as ones. That there is news the guest is told by the power
 * registers' event (power_control.h). Threads, errors: as device.h says. Limits:
 * CPU_PLUG_MAX.
 */
#pragma once

#include "vmm/device.h"

#include <stdbool.h>
#include <stdint.h>

#define CPU_PLUG_MAX 64u /* bits of a set */

enum cpu_plug_register { CPU_PLUG_PRESENT = 0, CPU_PLUG_COME = 8 };

struct cpu_plug {
    struct device device; /* first */
    unsigned cpu_count;   /* that there may be */
    uint64_t present;
    uint64_t come;
};

/* present_count CPUs of cpu_count are there: 1 <= present_count <= cpu_count <=
 * CPU_PLUG_MAX. */
int cpu_plug_new(unsigned cpu_count, unsigned present_count, struct cpu_plug **ret_plug);
/* The CPU is there from now on; it is news unless the guest has not begun. Takes the
 * lock. */
void cpu_plug_add(struct cpu_plug *plug, unsigned index, bool is_news);
/* The set of those that are there. Takes the lock. */
uint64_t cpu_plug_present(struct cpu_plug *plug);
