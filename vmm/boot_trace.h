/* When a machine came how far on its way from exec to a guest that works.
 *
 * Shapes: `struct boot_trace` has a time for each phase, of its first time in this
 * process: a reset is not traced again. A guest has marks of its own: it writes a byte to
 * BOOT_MARK_PORT (machine_layout.h), and each byte has the time when it came first. Which
 * means what is the guest's: 0x40 for its kernel and 0x41 for its first program are what
 * Cloud Hypervisor's guests say there.
 *
 * Units: nanoseconds since exec. Nobody tells a process when that was; before main it
 * does nothing but being loaded, so exec was as long before as its CPU has worked by then
 * (a program that had to be read from a disk first waited longer). Threads: begin before
 * there are others, mark one at a time, all else any; no lock is taken. Limits:
 * BOOT_MARKS_MAX bytes, what comes beyond them is not kept. Costs: who passes by a phase
 * that was reached reads one number.
 */
#pragma once

#include "vmm/counter.h"

#include <stdbool.h>
#include <stdint.h>

#define BOOT_MARKS_MAX 32u /* a guest that writes anything there fills no memory */

/* In this order, but for threads that race. */
enum boot_phase {
    BOOT_STARTED = 0, /* main has begun */
    BOOT_OPENED,      /* all descriptors are open */
    BOOT_MEMORY,      /* the guest's RAM is mapped, empty */
    BOOT_MADE,        /* so are its CPUs and the platform */
    BOOT_JAILED,      /* the walls stand */
    BOOT_LOADED,      /* the kernel is in RAM; not of a machine that comes in */
    BOOT_CONNECTED,   /* disks are open, and all devices on the bus */
    BOOT_RESTORED,    /* the saved state is in; of a machine that comes in alone */
    BOOT_READY,       /* it may be let run */
    BOOT_GO,          /* it was */
    BOOT_FIRST_RUN,   /* a CPU is about to enter the guest */
    BOOT_FIRST_EXIT,  /* it has touched a device */
    BOOT_FIRST_BYTE,  /* it has said something on the serial port */
    BOOT_PHASE_COUNT,
};

struct boot_mark {
    uint64_t at_ns;
    uint8_t byte;
};

struct boot_trace {
    uint64_t exec_ns;                         /* of clock_system */
    struct counter reached[BOOT_PHASE_COUNT]; /* since exec; 0: not yet */
    struct counter mark_count;                /* of marks that may be read */
    struct boot_mark marks[BOOT_MARKS_MAX];
};

/* At the very beginning of main. */
void boot_trace_begin(struct boot_trace *trace);
/* NULL is fine, and so is any number of times. */
void boot_trace_reach(struct boot_trace *trace, enum boot_phase phase);
/* The same, of a struct boot_trace: what a device_line may be connected with. */
void boot_trace_mark(void *context, unsigned byte);
const char *boot_phase_name(enum boot_phase phase);
/* Since exec; 0: it was not reached. */
uint64_t boot_trace_ns(const struct boot_trace *trace, enum boot_phase phase);
/* Copies the marks so far, in their order; their number. */
unsigned boot_trace_marks(const struct boot_trace *trace,
                          struct boot_mark ret_marks[BOOT_MARKS_MAX]);
