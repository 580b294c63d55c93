/* Rate limits in QMP's words: block_set_io_throttle, and for NICs what berth-vmm has
 * beside it (QEMU limits none).
 *
 * Threads: the loop's. A device is changed as a whole, with numbers that are its limits
 * from then on, so all of it can be said again. Errors: as qmp_client_execute; then some
 * may have been told. Limits: QMP_LIMITS_MAX commands at once.
 */
#pragma once

#include "agent/engine.h"
#include "agent/qmp_client.h"

#define QMP_LIMITS_MAX (DISKS_MAX + 2 * NICS_MAX)

/* Has each command's answer come to `reply`. blocks: what query-block has returned, where
 * disks are found by their files (disk-NAME.qcow2); NULL where they are known by name. */
int qmp_limits_tell(struct qmp_client *client,
                    const struct engine_limits *limits,
                    const json_t *blocks,
                    bool nics,
                    qmp_reply *reply,
                    void *context,
                    struct err *err);
