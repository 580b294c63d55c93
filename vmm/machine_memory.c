#include "vmm/machine_memory.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "vmm/kvm_calls.h"
#include "vmm/machine_layout.h"

#include <errno.h>
#include <fcntl.h>

/* Fresh, or a private view of the image: the regions follow one another there. */
static int region_make(struct guest_memory *memory,
                       uint64_t address,
                       uint64_t size,
                       const struct machine_image *image,
                       struct err *err)
{
    if (image->ram != MACHINE_RAM_MAPPED) {
        return guest_memory_add(memory, address, size, err);
    }
    const uint64_t offset = image->offset + guest_memory_size(memory);
    CLEANUP_FD int fd = fcntl(image->fd, F_DUPFD_CLOEXEC, 0);
    if (fd < 0) {
        return err_sys(err, -errno, "map the saved RAM");
    }
    int r = guest_memory_add_file(memory, address, size, fd, offset, GUEST_MEMORY_PRIVATE,
                                  err);
    if (r == 0) {
        (void)TAKE_FD(fd); /* the region's now */
    }
    return r;
}

int machine_memory_make(struct guest_memory *memory,
                        int vm_fd,
                        uint64_t size,
                        const struct machine_image *image,
                        struct err *err)
{
    uint64_t low = size < LOW_RAM_MAX ? size : LOW_RAM_MAX;
    int r = region_make(memory, 0, low, image, err);
    if (r == 0 && size > low) {
        r = region_make(memory, HIGH_RAM_AT, size - low, image, err);
    }
    for (unsigned i = 0; r == 0 && i < memory->region_count; i++) {
        const struct guest_region *region = &memory->regions[i];
        const struct kvm_userspace_memory_region slot = {
            .slot = i,
            .guest_phys_addr = region->address,
            .memory_size = region->size_bytes,
            .userspace_addr = (uint64_t)(uintptr_t)region->host};
        r = kvm_call(vm_fd, KVM_SET_USER_MEMORY_REGION, &slot, "give the VM memory", err);
    }
    return r < 0 ? r : 0;
}
