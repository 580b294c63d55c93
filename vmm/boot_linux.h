/* Places a kernel, its initrd, command line and the machine's description in RAM, and
 * says how the first vCPU begins.
 *
 * Shapes: `struct boot_source` is what to boot, `struct boot_entry` the state of the boot
 * CPU that the protocol asks for (PVH: 32-bit, paging off, EBX at the start info;
 * bzImage: 64-bit, first 4 GiB mapped, RSI at the zero page). Where things go is
 * machine_layout.h. Threads: none may run the guest meanwhile. Errors: BERTH_EINVALID for
 * files that are no kernel or do not fit the memory, with numbers; -errno. Ownership: all
 * borrowed.
 */
#pragma once

#include "base/err.h"
#include "vmm/guest_memory.h"

#include <stddef.h>
#include <stdint.h>

#define INITRD_MAX (UINT64_C(1) << 30)

struct boot_source {
    int kernel_fd;
    int initrd_fd;       /* -1: none */
    const char *cmdline; /* without what the machine adds: nothing is added */
    const uint8_t *acpi; /* acpi_tables.h */
    size_t acpi_size;
};

enum boot_mode { BOOT_PROTECTED_32 = 1, BOOT_LONG_64 };

struct boot_entry {
    enum boot_mode mode;
    uint64_t instruction;
    uint64_t argument; /* EBX or RSI */
};

int boot_linux_load(struct guest_memory *memory,
                    const struct boot_source *source,
                    struct boot_entry *ret_entry,
                    struct err *err);
