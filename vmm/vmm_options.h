/* The command line of berth-vmm, as a plain value.
 *
 * Shapes: `struct vmm_options`; texts point into argv. One table in vmm_options.c gives
 * parser and --help. Errors: BERTH_EINVALID with what is wrong; the caller prints it.
 * Limits: VMM_DISKS_MAX, VMM_NICS_MAX.
 */
#pragma once

#include "base/err.h"
#include "vmm/cpu_model.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct vmm_options {
    const char *name;
    const char *kvm; /* the device, or "fd:N" */
    const char *kernel;
    const char *initrd; /* NULL: none */
    const char *cmdline;
    const char *serial; /* "stdio", "none" or "unix:PATH" */
    const char *qmp;    /* "unix:PATH"; NULL: none */
    uint64_t memory_bytes;
    uint64_t cpu_count;
    enum cpu_level cpu_level;
    bool is_held;     /* --hold: waits for cont */
    bool keeps_end;   /* --keep-end: a guest that ended is kept until quit */
    bool has_no_jail; /* --no-jail: for debuggers */
    bool wants_help;
    bool wants_probe; /* --probe: says what KVM is worth here */
};

int vmm_options_parse(int argc,
                      char *const argv[],
                      struct vmm_options *ret_options,
                      struct err *err);
void vmm_options_help(FILE *out);
