/* The CPUs of a machine, as QMP sees them and plugs more.
 *
 * Shapes: arguments and answers are JSON in QEMU's words. A CPU is a core of the one
 * socket that there is; its type is the machine's level and "-x86_64-cpu", as QEMU names
 * it: "host-x86_64-cpu". device_add takes {driver, core-id} and, if they are 0,
 * socket-id, die-id and thread-id; an id is taken and not kept, for nothing can be done
 * with it: a CPU is never unplugged. What is refused changes nothing. A machine without a
 * maximum has all its CPUs.
 *
 * Threads: the main one. Errors: BERTH_EINVALID for arguments that are none,
 * BERTH_ENOTFOUND for another driver or CPU, and those of machine_plug_cpu.
 */
#pragma once

#include "base/err.h"
#include "base/json.h"
#include "vmm/machine.h"

/* query-cpus-fast: those that are plugged, with how often each left the guest, and why,
 * which QEMU does not tell. NULL without memory. */
json_t *vmm_cpus_list(const struct machine *machine);
/* query-hotpluggable-cpus: all that there may be; what is plugged has a qom-path. The
 * same. */
json_t *vmm_cpus_list_possible(const struct machine *machine);
/* device_add. */
int vmm_cpus_add(struct machine *machine, const json_t *arguments, struct err *err);
