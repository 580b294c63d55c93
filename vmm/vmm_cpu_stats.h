/* query-stats and query-stats-schemas: what is counted of a VM and of each of its CPUs,
 * in QEMU's shape.
 *
 * Shapes: providers are "kvm", as in QEMU, what the kernel counts (kvm_stats.h), and
 * "berth", the exits of each vCPU that came to this process, by reason, and how long what
 * was done about them took. Arguments and their refusals are QEMU's; each provider may be
 * named once. CPUs are called as query-hotpluggable-cpus does. Threads: the main one; no
 * vCPU waits. Errors: with text; -ENOMEM.
 */
#pragma once

#include "base/json.h"
#include "vmm/machine.h"

int vmm_cpu_stats_query(const struct machine *machine,
                        const json_t *arguments,
                        json_t **ret_result,
                        struct err *err);
int vmm_cpu_stats_schemas(const struct machine *machine,
                          const json_t *arguments,
                          json_t **ret_result,
                          struct err *err);
