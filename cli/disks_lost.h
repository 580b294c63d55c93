/* Which VMs lose their disks by a command, told before it is carried out.
 *
 * Shapes: documents of VMs as the API has them, with at least the fields of
 * DISKS_LOST_READ. Threads: one. Limits: DISKS_LOST_SHOWN lines, then how many more.
 */
#pragma once

#include "cli/cli.h"

#define DISKS_LOST_SHOWN 20
#define DISKS_LOST_READ \
    "metadata.name,metadata.tenant,status.phase,status.host,status.diskHost"

/* The host that has the disks of a VM that does not run there, or "". */
const char *disks_lost_host(const json_t *vm);
/* "  default/vm/db is stopped, its disks are on h2" for each of an array. */
void disks_lost_tell(struct cli *cli, const json_t *vms);
/* "  default/vm/db is lost, it may still run on h2" for each. */
void disks_lost_tell_doubt(struct cli *cli, const json_t *vms);
