#include "agent/disk_room.h"

#include "base/parse_number.h"
#include "base/where.h"

#include <sys/statvfs.h>

uint64_t disk_reserve_default(const char *folder)
{
    struct statvfs disk;
    WHERE("ask how full the disk is");
    if (statvfs(folder, &disk) < 0) {
        return 0;
    }
    uint64_t part = (uint64_t)disk.f_blocks * disk.f_frsize / DISK_RESERVE_PARTS;
    return part < DISK_RESERVE_MAX ? part : DISK_RESERVE_MAX;
}

int disk_reserve_check(const char *folder, uint64_t reserve_bytes, struct err *err)
{
    struct statvfs disk;
    WHERE("ask how full the disk is");
    char wanted[NUMBER_TEXT_SIZE];
    char have[NUMBER_TEXT_SIZE];
    if (statvfs(folder, &disk) < 0) {
        return 0;
    }
    uint64_t total_bytes = (uint64_t)disk.f_blocks * disk.f_frsize;
    if (total_bytes == 0 || reserve_bytes < total_bytes) {
        return 0;
    }
    format_bytes_human(reserve_bytes, wanted);
    format_bytes_human(total_bytes, have);
    return err_set(err, BERTH_EINVALID,
                   "--reserve-disk %s is all of the disk that %.100s is on (%s) or more: "
                   "nothing would be left for VMs and images",
                   wanted, folder, have);
}

uint64_t disk_room(const char *folder, uint64_t reserve_bytes)
{
    struct statvfs disk;
    WHERE("ask how full the disk is");
    if (statvfs(folder, &disk) < 0) {
        return UINT64_MAX;
    }
    uint64_t free_bytes = (uint64_t)disk.f_bavail * disk.f_frsize;
    return free_bytes > reserve_bytes ? free_bytes - reserve_bytes : 0;
}

uint64_t disk_for_vms(const struct disk_share *share, uint64_t total_bytes)
{
    uint64_t left =
        total_bytes > share->reserve_bytes ? total_bytes - share->reserve_bytes : 0;
    uint64_t images = share->image_bytes < left / 2 ? share->image_bytes : left / 2;
    uint64_t bytes = left - images;
    uint64_t times = share->overcommit > 0 ? share->overcommit : DISK_OVERCOMMIT;
    if (total_bytes == 0 || bytes == 0) {
        return total_bytes == 0 ? 0 : 1; /* 0 is "not known" */
    }
    return bytes > UINT64_MAX / times ? UINT64_MAX : bytes * times;
}
