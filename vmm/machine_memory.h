/* A machine's RAM: where machine_layout.h has it, made, and given to KVM.
 *
 * Shapes: a region below the 32-bit hole and one above it when there is more, and above
 * all of them one whose blocks are plugged (virtio_mem.h), each a slot of the VM. Units:
 * bytes. Threads: the machine's, before any vCPU. Ownership: the regions are the
 * memory's, the image's descriptor is borrowed. Errors: -errno with text; what has been
 * added by then stays for guest_memory_fini.
 */
#pragma once

#include "base/err.h"
#include "vmm/guest_memory.h"
#include "vmm/machine.h"

#include <stdint.h>

/* Whether a machine can be that large: BERTH_EINVALID. */
int machine_memory_plan_check(const struct machine_plan *plan, struct err *err);
/* Whether RAM can be made of that: from an image that is mapped it cannot, and what comes
 * in lazily comes in chunks that no page is larger than. BERTH_EINVALID, BERTH_EFULL. */
int machine_memory_check(const struct machine_plan *plan,
                         const struct machine_image *image,
                         struct err *err);
/* Fresh memory, or a private view of the image when its RAM is to be mapped. */
int machine_memory_make(struct guest_memory *memory,
                        int vm_fd,
                        const struct machine_plan *plan,
                        const struct machine_image *image,
                        struct err *err);
