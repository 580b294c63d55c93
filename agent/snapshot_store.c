#include "agent/snapshot_store.h"

#include "agent/disk_room.h"
#include "agent/vm_disks.h"
#include "base/cleanup.h"
#include "base/digest.h"
#include "base/fd.h"
#include "base/file_atomic.h"
#include "base/parse_number.h"
#include "vmm/snapshot_file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NEW_TAIL      ".new"
#define MEMORY_FILE   "memory"
#define MANIFEST_FILE "manifest.json"
#define SECTOR        512u /* of st_blocks */

struct place {
    char path[ENGINE_PATH_SIZE];
};

/* "<folder>/<uid><tail>" */
static int place_of(const char *folder, uint64_t uid, const char *tail, struct place *ret)
{
    const int length =
        snprintf(ret->path, sizeof(ret->path), "%s/%" PRIu64 "%s", folder, uid, tail);
    return length > 0 && (size_t)length < sizeof(ret->path) ? 0 : -ENAMETOOLONG;
}

static int place_in(const char *folder, const char *name, struct place *ret)
{
    const int length = snprintf(ret->path, sizeof(ret->path), "%s/%s", folder, name);
    return length > 0 && (size_t)length < sizeof(ret->path) ? 0 : -ENAMETOOLONG;
}

static int place_of_disk(const char *folder,
                         const struct snapshot_manifest *manifest,
                         uint32_t disk,
                         struct place *ret)
{
    char name[NAME_SIZE + SNAPSHOT_TAIL_SIZE + 8];
    (void)snprintf(name, sizeof(name), VM_DISKS_PREFIX "%s%s", manifest->disks[disk].name,
                   manifest->tail); /* fits */
    return place_in(folder, name, ret);
}

static bool ends_with(const char *text, const char *tail)
{
    const size_t length = strlen(text);
    return length >= strlen(tail) && strcmp(text + length - strlen(tail), tail) == 0;
}

static int full_or(int code)
{
    return code == -ENOSPC || code == -EDQUOT ? BERTH_EDISKFULL : code;
}

static int open_in(const char *folder, const char *name, int flags, struct err *err)
{
    struct place place;
    int r = place_in(folder, name, &place);
    return r < 0 ? err_sys(err, r, "open %s in %s", name, folder)
                 : fd_open_at(AT_FDCWD, place.path, flags, 0600, err);
}

/* ---- making ---- */

static int room_check(const char *folder,
                      const char *what,
                      uint64_t bytes,
                      uint64_t reserve_bytes,
                      struct err *err)
{
    char wanted[NUMBER_TEXT_SIZE];
    char have[NUMBER_TEXT_SIZE];
    const uint64_t room = disk_room(folder, reserve_bytes);
    if (bytes <= room) {
        return 0;
    }
    format_bytes_human(bytes, wanted);
    format_bytes_human(room, have);
    return err_set(err, BERTH_EDISKFULL, "%s %s here, and %s are free beside the reserve",
                   what, wanted, have);
}

int snapshot_store_begin(const char *folder,
                         uint64_t uid,
                         uint64_t bytes,
                         uint64_t reserve_bytes,
                         struct err *err)
{
    struct place place = {""};
    int r = fd_make_folders(folder, err);
    r = r == 0 ? room_check(folder, "a snapshot may take", bytes, reserve_bytes, err) : r;
    if (r < 0) {
        return r;
    }
    r = place_of(folder, uid, NEW_TAIL, &place);
    r = r == 0 ? fd_remove_tree(place.path, NULL) : r; /* of an earlier try */
    if (r == 0 && mkdir(place.path, 0700) < 0) {
        r = -errno;
    }
    if (r < 0) {
        return err_sys(err, full_or(r), "make the snapshot's folder %s", place.path);
    }
    r = open_in(place.path, MEMORY_FILE, O_RDWR | O_CREAT | O_EXCL, err);
    if (r < 0) {
        snapshot_store_abandon(folder, uid);
    }
    return r;
}

/* The name in disk-<name><tail>; false: it is another file. */
static bool disk_name(const char *file, const char *tail, char ret_name[NAME_SIZE])
{
    const size_t length = strlen(file);
    const size_t around = strlen(VM_DISKS_PREFIX) + strlen(tail);
    if (length <= around || length - around >= NAME_SIZE ||
        strncmp(file, VM_DISKS_PREFIX, strlen(VM_DISKS_PREFIX)) != 0 ||
        !ends_with(file, tail)) {
        return false;
    }
    memcpy(ret_name, file + strlen(VM_DISKS_PREFIX), length - around);
    ret_name[length - around] = '\0';
    return name_valid(ret_name);
}

int snapshot_store_disks(const char *vm_folder,
                         struct snapshot_manifest *manifest,
                         struct err *err)
{
    manifest->disk_count = 0;
    if (manifest->tail[0] == '\0') {
        return 0;
    }
    DIR *entries = opendir(vm_folder);
    if (entries == NULL) {
        return err_sys(err, -errno, "open %s", vm_folder);
    }
    const struct dirent *entry;
    int r = 0;
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): a stream of our own */
    while (r == 0 && (entry = readdir(entries)) != NULL) {
        char name[NAME_SIZE];
        if (!disk_name(entry->d_name, manifest->tail, name)) {
            continue;
        }
        if (manifest->disk_count == DISKS_MAX) {
            r = err_set(err, BERTH_EFULL, "more than %d disks in %s", DISKS_MAX,
                        vm_folder);
            break;
        }
        memcpy(manifest->disks[manifest->disk_count++].name, name, sizeof(name));
    }
    (void)closedir(entries); /* only read */
    return r;
}

static int copy_file(const char *from,
                     const char *to,
                     const struct sparse_wish *wish,
                     struct err *err)
{
    const char *name = strrchr(from, '/') + 1;
    CLEANUP_FD int source = fd_open_at(AT_FDCWD, from, O_RDONLY, 0, err);
    CLEANUP_FD int target =
        source < 0 ? -1 : fd_open_at(AT_FDCWD, to, O_RDWR | O_CREAT | O_EXCL, 0600, err);
    return source < 0   ? source
           : target < 0 ? target
                        : sparse_copy(source, target, name, wish, err);
}

static int copy_disk(const char *from,
                     const char *to,
                     const struct snapshot_manifest *manifest,
                     uint32_t disk,
                     const struct sparse_wish *wish,
                     struct err *err)
{
    struct place source;
    struct place target;
    int r = place_of_disk(from, manifest, disk, &source);
    r = r == 0 ? place_of_disk(to, manifest, disk, &target) : r;
    return r < 0 ? err_sys(err, r, "copy disk %s", manifest->disks[disk].name)
                 : copy_file(source.path, target.path, wish, err);
}

static int link_base(const char *folder, const char *base, struct err *err)
{
    struct place place;
    int r = place_in(folder, VM_DISKS_BASE, &place);
    if (r == 0 && base[0] != '\0' && symlink(base, place.path) < 0) {
        r = -errno;
    }
    return r == 0 ? 0 : err_sys(err, full_or(r), "note in %s what disks lie on", folder);
}

int snapshot_store_copy(const char *folder,
                        const struct snapshot_manifest *manifest,
                        const char *vm_folder,
                        const struct sparse_wish *wish,
                        struct err *err)
{
    struct place place;
    int r = place_of(folder, manifest->uid, NEW_TAIL, &place);
    r = r < 0 ? err_sys(err, r, "snapshot in %s", folder) : 0;
    for (uint32_t i = 0; r == 0 && i < manifest->disk_count; i++) {
        r = copy_disk(vm_folder, place.path, manifest, i, wish, err);
    }
    return r == 0 ? link_base(place.path, manifest->base, err) : r;
}

/* ---- sizes and sums ---- */

/* Of the state, which has the sums of all RAM in it. */
static int memory_look(int fd, uint64_t *ret_size, uint32_t *ret_sum, struct err *err)
{
    struct snapshot_file file;
    uint8_t *state = NULL;
    int r = snapshot_file_open(fd, &file, err);
    r = r == 0 ? snapshot_file_read_state(fd, &file, &state, err) : r;
    if (r == 0) {
        *ret_size = file.state_at + file.state_bytes;
        *ret_sum = crc32c(0, state, file.state_bytes);
    }
    free(state);
    return r == 0 ? 0 : err_wrap(err, r, "the memory");
}

static int add_taken(int fd, uint64_t *taken_bytes)
{
    struct stat info;
    if (fstat(fd, &info) < 0) {
        return -errno;
    }
    *taken_bytes += (uint64_t)info.st_blocks * SECTOR;
    return 0;
}

/* What a file of the snapshot is: for the manifest, or to be compared with it. */
static int disk_look(const char *folder,
                     const struct snapshot_manifest *manifest,
                     uint32_t disk,
                     const struct sparse_wish *wish,
                     struct snapshot_disk *ret_disk,
                     uint64_t *taken_bytes,
                     struct err *err)
{
    struct place place;
    struct stat info = {.st_size = 0};
    int r = place_of_disk(folder, manifest, disk, &place);
    r = r < 0 ? err_sys(err, r, "disk %s", ret_disk->name) : 0;
    CLEANUP_FD int fd = r < 0 ? r : fd_open_at(AT_FDCWD, place.path, O_RDONLY, 0, err);
    if (fd < 0) {
        return fd;
    }
    r = fstat(fd, &info) < 0 ? -errno : add_taken(fd, taken_bytes);
    if (r < 0) {
        return err_sys(err, r, "look at %s", place.path);
    }
    ret_disk->size_bytes = (uint64_t)info.st_size;
    return sparse_sum(fd, strrchr(place.path, '/') + 1, wish, &ret_disk->sum, err);
}

static int all_look(const char *folder,
                    struct snapshot_manifest *manifest,
                    const struct sparse_wish *wish,
                    uint64_t *ret_disk_bytes,
                    struct err *err)
{
    manifest->taken_bytes = 0;
    *ret_disk_bytes = 0;
    CLEANUP_FD int memory = open_in(folder, MEMORY_FILE, O_RDONLY, err);
    int r = memory < 0 ? memory
                       : memory_look(memory, &manifest->memory_file_bytes,
                                     &manifest->memory_sum, err);
    if (r == 0 && add_taken(memory, &manifest->taken_bytes) < 0) {
        r = err_sys(err, -EIO, "look at the memory");
    }
    for (uint32_t i = 0; r == 0 && i < manifest->disk_count; i++) {
        r = disk_look(folder, manifest, i, wish, &manifest->disks[i], ret_disk_bytes,
                      err);
    }
    manifest->taken_bytes += *ret_disk_bytes;
    return r;
}

static int manifest_write(const char *folder,
                          const struct snapshot_manifest *manifest,
                          struct err *err)
{
    struct place place;
    CLEANUP_FREE char *text = snapshot_manifest_encode(manifest);
    int r = text == NULL ? -ENOMEM : place_in(folder, MANIFEST_FILE, &place);
    return r < 0 ? err_sys(err, r, "write the snapshot's manifest")
                 : file_atomic_write(place.path, text, strlen(text), 0600, err);
}

/* The one name for the other, durable. */
static int
rename_in(const char *folder, const char *from, const char *to, struct err *err)
{
    return rename(from, to) < 0 ? err_sys(err, full_or(-errno), "name %s", to)
                                : fd_sync_folder(folder, err);
}

int snapshot_store_finish(const char *folder,
                          struct snapshot_manifest *manifest,
                          const struct sparse_wish *wish,
                          struct err *err)
{
    struct place made;
    struct place place;
    uint64_t disk_bytes = 0;
    int r = place_of(folder, manifest->uid, NEW_TAIL, &made);
    r = r == 0 ? place_of(folder, manifest->uid, "", &place) : r;
    if (r < 0) {
        return err_sys(err, r, "snapshot in %s", folder);
    }
    r = all_look(made.path, manifest, wish, &disk_bytes, err);
    r = r == 0 ? manifest_write(made.path, manifest, err) : r; /* syncs the folder */
    return r == 0 ? rename_in(folder, made.path, place.path, err) : r;
}

/* ---- removing ---- */

void snapshot_store_abandon(const char *folder, uint64_t uid)
{
    struct place place;
    if (place_of(folder, uid, NEW_TAIL, &place) == 0) {
        (void)fd_remove_tree(place.path, NULL); /* or the next start of berthd does */
    }
}

int snapshot_store_remove(const char *folder, uint64_t uid, struct err *err)
{
    struct place place;
    struct place made;
    int r = place_of(folder, uid, "", &place);
    r = r == 0 ? place_of(folder, uid, NEW_TAIL, &made) : r;
    if (r < 0) {
        return err_sys(err, r, "snapshot in %s", folder);
    }
    if (access(place.path, F_OK) < 0) {
        return errno == ENOENT ? 0 : err_sys(err, -errno, "remove %s", place.path);
    }
    r = fd_remove_tree(made.path, err);
    r = r == 0 ? rename_in(folder, place.path, made.path, err) : r;
    return r == 0 ? fd_remove_tree(made.path, err) : r;
}

/* ---- what is there ---- */

int snapshot_store_sweep(const char *folder, struct err *err)
{
    DIR *entries = opendir(folder);
    if (entries == NULL) {
        return errno == ENOENT ? 0 : err_sys(err, -errno, "open %s", folder);
    }
    const struct dirent *entry;
    int r = 0;
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): a stream of our own */
    while (r == 0 && (entry = readdir(entries)) != NULL) {
        struct place place;
        if (ends_with(entry->d_name, NEW_TAIL)) {
            r = place_in(folder, entry->d_name, &place);
            r = r < 0 ? err_sys(err, r, "remove %s", entry->d_name)
                      : fd_remove_tree(place.path, err);
        }
    }
    (void)closedir(entries); /* only read */
    return r;
}

int snapshot_store_read(const char *folder,
                        uint64_t uid,
                        struct snapshot_manifest *ret_manifest,
                        struct err *err)
{
    struct place place;
    struct place file;
    struct snapshot_manifest manifest;
    CLEANUP_FREE uint8_t *text = NULL;
    size_t size = 0;
    int r = place_of(folder, uid, "", &place);
    r = r == 0 ? place_in(place.path, MANIFEST_FILE, &file) : r;
    if (r < 0) {
        return err_sys(err, r, "snapshot in %s", folder);
    }
    r = fd_read_file(AT_FDCWD, file.path, SNAPSHOT_MANIFEST_SIZE_MAX, &text, &size, err);
    if (r == -ENOENT) {
        return err_set(err, BERTH_ENOTFOUND, "there is no snapshot %" PRIu64 " in %s",
                       uid, folder);
    }
    r = r == BERTH_ETOOLARGE ? err_set(err, BERTH_ECORRUPT, "it is too large") : r;
    r = r == 0 ? snapshot_manifest_decode((const char *)text, size, &manifest, err) : r;
    if (r == 0 && manifest.uid != uid) {
        r = err_set(err, BERTH_ECORRUPT, "it is that of another snapshot");
    }
    if (r < 0) {
        return err_wrap(err, r, "%s", file.path);
    }
    *ret_manifest = manifest;
    return 0;
}

int snapshot_store_each(const char *folder,
                        int (*visit)(void *context,
                                     uint64_t uid,
                                     const struct snapshot_manifest *manifest,
                                     const struct err *fault),
                        void *context,
                        struct err *err)
{
    DIR *entries = opendir(folder);
    if (entries == NULL) {
        return errno == ENOENT ? 0 : err_sys(err, -errno, "open %s", folder);
    }
    const struct dirent *entry;
    int r = 0;
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): a stream of our own */
    while (r == 0 && (errno = 0, entry = readdir(entries)) != NULL) {
        struct snapshot_manifest manifest;
        struct err fault = {0};
        uint64_t uid = 0;
        if (parse_u64(entry->d_name, &uid, NULL) == 0 && uid != 0) {
            (void)snapshot_store_read(folder, uid, &manifest, &fault); /* told */
            r = visit(context, uid, &manifest, &fault);
        }
    }
    r = r == 0 ? -errno : r;
    (void)closedir(entries); /* only read */
    return r == 0 ? 0 : err_sys(err, r, "look for snapshots in %s", folder);
}

int snapshot_store_memory(const char *folder,
                          uint64_t uid,
                          char ret_path[ENGINE_PATH_SIZE])
{
    struct place place;
    struct place memory;
    int r = place_of(folder, uid, "", &place);
    r = r == 0 ? place_in(place.path, MEMORY_FILE, &memory) : r;
    if (r == 0) {
        memcpy(ret_path, memory.path, sizeof(memory.path));
    }
    return r;
}

bool snapshot_store_base(const char *folder,
                         uint64_t uid,
                         char ret_path[ENGINE_PATH_SIZE])
{
    struct place place;
    return place_of(folder, uid, "", &place) == 0 && vm_disks_base(place.path, ret_path);
}

/* ---- restoring ---- */

static int damaged(struct err *err, const char *what)
{
    return err_set(err, BERTH_ECORRUPT,
                   "%s of the snapshot is not what it was when it was made", what);
}

/* All of it, before any disk of the VM's is touched. */
static int compare(const char *folder,
                   const struct snapshot_manifest *manifest,
                   const struct sparse_wish *wish,
                   uint64_t *ret_disk_bytes,
                   struct err *err)
{
    struct snapshot_manifest is = *manifest;
    int r = all_look(folder, &is, wish, ret_disk_bytes, err);
    if (r == 0 && (is.memory_file_bytes != manifest->memory_file_bytes ||
                   is.memory_sum != manifest->memory_sum)) {
        r = damaged(err, "the memory");
    }
    for (uint32_t i = 0; r == 0 && i < is.disk_count; i++) {
        if (is.disks[i].size_bytes != manifest->disks[i].size_bytes ||
            is.disks[i].sum != manifest->disks[i].sum) {
            char what[NAME_SIZE + 8];
            (void)snprintf(what, sizeof(what), "disk %s", is.disks[i].name); /* fits */
            r = damaged(err, what);
        }
    }
    return r;
}

int snapshot_store_restore(const char *folder,
                           uint64_t uid,
                           const char *vm_folder,
                           uint64_t reserve_bytes,
                           const struct sparse_wish *wish,
                           struct err *err)
{
    uint64_t disk_bytes = 0;
    struct snapshot_manifest manifest;
    struct place place;
    struct place made;
    int r = snapshot_store_read(folder, uid, &manifest, err);
    if (r < 0) {
        return r;
    }
    r = place_of(folder, uid, "", &place);
    r = r == 0 ? place_in(vm_folder, VM_DISKS_RESTORED_NEW, &made) : r;
    r = r == 0 ? fd_remove_tree(made.path, NULL) : r; /* of an earlier try */
    if (r == 0 && mkdir(made.path, 0700) < 0) {
        r = -errno;
    }
    if (r < 0) {
        return err_sys(err, full_or(r), "copy the snapshot's disks to %s", vm_folder);
    }
    vm_disks_sweep(vm_folder); /* their room is there, then */
    r = compare(place.path, &manifest, wish, &disk_bytes, err);
    r = r == 0 ? room_check(vm_folder, "the snapshot's disks take", disk_bytes,
                            reserve_bytes, err)
               : r;
    for (uint32_t i = 0; r == 0 && i < manifest.disk_count; i++) {
        r = copy_disk(place.path, made.path, &manifest, i, wish, err);
    }
    r = r == 0 ? link_base(made.path, manifest.base, err) : r;
    r = r == 0 ? fd_sync_folder(made.path, err) : r;
    if (r == 0 && !sparse_is_wanted(wish)) { /* from here on there is no way back */
        r = err_set(err, BERTH_ECLOSED, "the snapshot's disks: not wanted any more");
    }
    if (r < 0) {
        (void)fd_remove_tree(made.path, NULL); /* or the next try does */
        return r;
    }
    r = vm_disks_replace(vm_folder, err);
    vm_disks_sweep(vm_folder);
    return r;
}
