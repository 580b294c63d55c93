/* What VMs' programs have counted, as Prometheus text.
 *
 * Shapes: `struct vm_metrics` gathers the VMs of a host, one after the other, then writes
 * them a family at a time, as the exposition format has it. Which family has which
 * numbers is a table in the source; a number that was not told has no sample. Units:
 * seconds and bytes, of what the VM's program has counted since it began, and its taps
 * since they were made: a VM that starts anew, or elsewhere, begins at 0, as counters
 * may. Threads: none of its own. Ownership: names
 * and numbers are borrowed until the text is written. Errors: none; a VM for which there
 * is no memory is left out. Limits: VM_METRICS_SIZE_MAX of text and one family of one VM
 * more; what does not fit is left out by a VM's whole family, latencies first. How often
 * that was is written as well.
 */
#pragma once

#include "agent/vm_stats.h"
#include "base/bytes.h"

/* A thousand VMs of a disk and a NIC that tell all take about 9 MiB. */
#define VM_METRICS_SIZE_MAX ((size_t)12 << 20)

struct vm_metrics_row {
    char vm[NAME_SIZE];
    char tenant[NAME_SIZE];
    const struct vm_stats *stats;
};

struct vm_metrics {
    struct vm_metrics_row *rows; /* private */
    size_t count;
    size_t room;
    uint64_t left_out;
};

/* stats may be NULL: nothing is known of it. */
void vm_metrics_add(struct vm_metrics *metrics,
                    const char *vm,
                    const char *tenant,
                    const struct vm_stats *stats);
/* Appends the text of all. size_max: VM_METRICS_SIZE_MAX but in tests. */
void vm_metrics_write(struct vm_metrics *metrics,
                      struct bytes_writer *writer,
                      size_t size_max);
void vm_metrics_fini(struct vm_metrics *metrics);
