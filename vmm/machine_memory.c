#include "vmm/machine_memory.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "vmm/kvm_calls.h"
#include "vmm/machine_layout.h"
#include "vmm/ram_chunks.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>

#define SYSFS       "/sys"
#define MEMORY_UNIT (UINT64_C(2) << 20)
#define PLUG_ALIGN  (UINT64_C(1) << 30) /* a multiple of what Linux adds at once */

int machine_memory_plan_check(const struct machine_plan *plan, struct err *err)
{
    if (plan->memory_bytes < MACHINE_MEMORY_MIN ||
        plan->memory_bytes > MACHINE_MEMORY_MAX ||
        plan->memory_bytes % MEMORY_UNIT != 0) {
        return err_set(err, BERTH_EINVALID,
                       "memory: %" PRIu64 " bytes, not 32MiB to 256GiB in steps of 2MiB",
                       plan->memory_bytes);
    }
    return 0;
}

/* Fresh, or a private view of the image: the regions follow one another there. */
static int region_make(struct guest_memory *memory,
                       uint64_t address,
                       uint64_t size,
                       const struct ram_backing *backing,
                       const struct machine_image *image,
                       struct err *err)
{
    if (image->ram != MACHINE_RAM_MAPPED) {
        return guest_memory_add_backed(memory, address, size, backing, err);
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

/* Memory that is plugged is given back when it is unplugged, and the guest has a view of
 * its own of it. */
static int plug_check(const struct machine_plan *plan,
                      const struct machine_image *image,
                      struct err *err)
{
    const uint64_t most = MACHINE_MEMORY_MAX - plan->memory_bytes;
    if (plan->plug_bytes > most ||
        plan->plug_bytes % ram_plug_block_bytes(plan->plug_bytes) != 0) {
        return err_set(
            err, BERTH_EINVALID,
            "RAM to be plugged: %" PRIu64 "MiB are not whole blocks of %" PRIu64
            "MiB, or more than 256GiB in all",
            plan->plug_bytes >> 20, ram_plug_block_bytes(plan->plug_bytes) >> 20);
    }
    if (ram_pages_pooled(plan->backing.pages)) {
        return err_set(err, BERTH_EINVALID,
                       "RAM of reserved huge pages is not given back: none is plugged");
    }
    return image->ram == MACHINE_RAM_MAPPED
               ? err_set(err, BERTH_EINVALID,
                         "RAM that is plugged cannot be mapped from a file")
               : 0;
}

int machine_memory_check(const struct machine_plan *plan,
                         const struct machine_image *image,
                         struct err *err)
{
    const struct ram_backing *backing = &plan->backing;
    const int r = plan->plug_bytes == 0 ? 0 : plug_check(plan, image, err);
    if (r < 0) {
        return r;
    }
    const char *name =
        backing->policy != RAM_POLICY_NONE ? "a NUMA policy" : "huge pages";
    if (image->ram == MACHINE_RAM_MAPPED) {
        return ram_pages_pooled(backing->pages) || backing->policy != RAM_POLICY_NONE
                   ? err_set(err, BERTH_EINVALID,
                             "%s: RAM that is mapped is its file's pages", name)
                   : 0;
    }
    if (image->ram == MACHINE_RAM_LAZY &&
        ram_pages_bytes(backing->pages) > RAM_CHUNK_BYTES) {
        return err_set(err, BERTH_EINVALID, "huge=1G: lazy RAM comes in by 2MiB");
    }
    if (image->ram == MACHINE_RAM_LAZY && ram_pages_pooled(backing->pages) &&
        backing->policy == RAM_POLICY_BIND) {
        return err_set(err, BERTH_EINVALID,
                       "huge pages of one node are filled at once: RAM cannot be lazy");
    }
    const char *lack = ram_backing_lack(backing, SYSFS);
    if (lack != NULL) {
        log_info("vmm", "RAM has no transparent huge pages", KV_STR("why", lack));
    }
    return ram_backing_check(backing, plan->memory_bytes, SYSFS, err);
}

int machine_memory_make(struct guest_memory *memory,
                        int vm_fd,
                        const struct machine_plan *plan,
                        const struct machine_image *image,
                        struct err *err)
{
    const struct ram_backing *backing = &plan->backing;
    const uint64_t size = plan->memory_bytes;
    uint64_t low = size < LOW_RAM_MAX ? size : LOW_RAM_MAX;
    int r = region_make(memory, 0, low, backing, image, err);
    if (r == 0 && size > low) {
        r = region_make(memory, HIGH_RAM_AT, size - low, backing, image, err);
    }
    if (r == 0 && plan->plug_bytes > 0) {
        const uint64_t end = size > low ? HIGH_RAM_AT + (size - low) : HIGH_RAM_AT;
        const uint64_t at = (end + PLUG_ALIGN - 1) / PLUG_ALIGN * PLUG_ALIGN;
        r = guest_memory_add_pluggable(memory, at, plan->plug_bytes, backing, err);
    }
    for (unsigned i = 0; r == 0 && i < memory->region_count; i++) {
        const struct guest_region *region = &memory->regions[i];
        const struct kvm_userspace_memory_region slot = {
            .slot = i,
            .guest_phys_addr = region->address,
            .memory_size = region->size_bytes,
            .userspace_addr =
                (uint64_t)(uintptr_t)(region->plug != NULL ? ram_plug_view(region->plug)
                                                           : region->host)};
        r = kvm_call(vm_fd, KVM_SET_USER_MEMORY_REGION, &slot, "give the VM memory", err);
    }
    return r < 0 ? r : 0;
}
