/* The micro guest (tests/vmm/guest) as VM UID of engine kvm, under the supervisor: what
 * its programs share (supervisor_bench.h holds the rest). */
#pragma once

#include "agent/engine_kvm.h"
#include "supervisor_bench.h"

#include <stdio.h>
#include <unistd.h>

/* On a machine that the tests were brought to, it is beside them. */
static inline const char *guest_path(void)
{
    static const char built[] = BERTH_BINARY_DIR "/tests/micro_guest";
    return access(built, R_OK) == 0 ? built : "/bin/micro_guest";
}

/* With a disk of a MiB; returns when it waits for "measure". */
static inline void boot(void)
{
    struct vm_order order = bench_order(UID, 1, ENGINE_KVM);
    order.vm.memory_bytes = 32 * MIB;
    order.vm.disks[0] =
        (struct engine_disk){.name = "data", .from = DISK_EMPTY, .size_bytes = MIB};
    order.vm.disk_count = 1;
    (void)snprintf(order.vm.kernel_path, sizeof(order.vm.kernel_path), "%s",
                   guest_path());
    (void)snprintf(order.vm.cmdline, sizeof(order.vm.cmdline), "full");
    start_order(&order, false);
    wait_console(UID, "ask measure\n");
    (void)wait_phase(UID, PHASE_READY);
}
