/* Sets of descriptors, in QMP's terms (add-fd, remove-fd, query-fdsets): what a client
 * sends, that files are opened from by "/dev/fdset/N".
 *
 * Shapes: a set has one descriptor, which is in the table of qmp_descriptors.h by that
 * name until it is removed, or its client goes. What add-fd calls opaque is not kept.
 * Threads: the poller's. Errors: with QEMU's texts. Limits: QMP_NAMED_MAX, for sets and
 * names of getfd together.
 */
#pragma once

#include "base/err.h"
#include "base/json.h"
#include "vmm/qmp_descriptors.h"

/* The set that is said, or the first that is free; the answer says which. Taken in any
 * case. */
int vmm_fdsets_add(struct qmp_descriptors *descriptors,
                   int take_fd,
                   const json_t *arguments,
                   json_t **ret_result,
                   struct err *err);
int vmm_fdsets_remove(struct qmp_descriptors *descriptors,
                      const json_t *arguments,
                      struct err *err);
/* What query-fdsets answers; NULL without memory. */
json_t *vmm_fdsets_list(const struct qmp_descriptors *descriptors);
