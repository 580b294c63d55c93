#include "vmm/kvm_stats.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "vmm/kvm_calls.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NAME_BYTES_MAX 256u /* as it is in the file */

int kvm_stats_open(int fd)
{
    int stats_fd = kvm_call_number(fd, KVM_GET_STATS_FD, 0, "count", NULL);
    if (stats_fd >= 0 && fcntl(stats_fd, F_SETFD, FD_CLOEXEC) < 0) {
        fd_close(&stats_fd);
    }
    return stats_fd >= 0 ? stats_fd : -1;
}

static int part_read(int fd, uint64_t offset, void *ret_data, size_t size)
{
    const ssize_t got = pread(fd, ret_data, size, (off_t)offset);
    return got < 0 ? -errno : (size_t)got == size ? 0 : BERTH_ECORRUPT;
}

/* One of them as KVM describes it. */
static bool
stat_take(const struct kvm_stats_desc *desc, const char *name, struct kvm_stat *ret_stat)
{
    const bool is_linear =
        (desc->flags & KVM_STATS_TYPE_MASK) == KVM_STATS_TYPE_LINEAR_HIST;
    if (desc->size == 0 || desc->offset % sizeof(uint64_t) != 0 ||
        desc->offset / sizeof(uint64_t) + desc->size > KVM_STATS_VALUES_MAX) {
        return false;
    }
    *ret_stat = (struct kvm_stat){.type = desc->flags & KVM_STATS_TYPE_MASK,
                                  .unit = desc->flags & KVM_STATS_UNIT_MASK,
                                  .base = desc->flags & KVM_STATS_BASE_MASK,
                                  .exponent = desc->exponent,
                                  .bucket_size = is_linear ? desc->bucket_size : 0,
                                  .first = desc->offset / sizeof(uint64_t),
                                  .value_count = desc->size};
    (void)snprintf(ret_stat->name, sizeof(ret_stat->name), "%s", name);
    return true;
}

static int descriptions_read(int fd,
                             const struct kvm_stats_header *header,
                             struct kvm_stats *stats,
                             unsigned *ret_values)
{
    const size_t step = sizeof(struct kvm_stats_desc) + header->name_size;
    CLEANUP_FREE uint8_t *bytes = cleanup_new(header->num_desc, step);
    stats->stats = calloc(header->num_desc, sizeof(*stats->stats));
    if (bytes == NULL || stats->stats == NULL) {
        return -ENOMEM;
    }
    int r = part_read(fd, header->desc_offset, bytes, header->num_desc * step);
    for (unsigned i = 0; r == 0 && i < header->num_desc; i++) {
        struct kvm_stats_desc desc;
        char name[NAME_BYTES_MAX + 1] = "";
        struct kvm_stat *stat = &stats->stats[i];
        memcpy(&desc, bytes + i * step, sizeof(desc));
        memcpy(name, bytes + i * step + sizeof(desc), header->name_size);
        if (!stat_take(&desc, name, stat)) {
            return BERTH_ECORRUPT;
        }
        const unsigned end = stat->first + stat->value_count;
        *ret_values = end > *ret_values ? end : *ret_values;
    }
    return r;
}

static int all_read(int fd, struct kvm_stats *stats)
{
    struct kvm_stats_header header;
    unsigned value_count = 1;
    int r = part_read(fd, 0, &header, sizeof(header));
    if (r == 0 &&
        (header.num_desc > KVM_STATS_MAX || header.name_size > NAME_BYTES_MAX)) {
        r = BERTH_ECORRUPT;
    }
    if (r == 0 && header.num_desc == 0) {
        return 0;
    }
    if (r == 0) {
        r = descriptions_read(fd, &header, stats, &value_count);
    }
    if (r < 0) {
        return r;
    }
    stats->count = header.num_desc;
    stats->values = calloc(value_count, sizeof(*stats->values));
    return stats->values == NULL ? -ENOMEM
                                 : part_read(fd, header.data_offset, stats->values,
                                             value_count * sizeof(*stats->values));
}

int kvm_stats_read(int stats_fd, struct kvm_stats *ret_stats, struct err *err)
{
    struct kvm_stats stats = {0};
    const int r = stats_fd < 0 ? 0 : all_read(stats_fd, &stats);
    if (r < 0) {
        kvm_stats_fini(&stats);
        return r == BERTH_ECORRUPT
                   ? err_set(err, r, "what KVM has counted makes no sense")
                   : err_sys(err, r, "read what KVM has counted");
    }
    *ret_stats = stats;
    return 0;
}

void kvm_stats_fini(struct kvm_stats *stats)
{
    free(stats->stats);
    free(stats->values);
    *stats = (struct kvm_stats){0};
}
