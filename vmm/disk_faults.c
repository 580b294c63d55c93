#include "vmm/disk_faults.h"

#include "base/fd.h"
#include "base/require.h"
#include "vmm/virtio_block.h"

#include <errno.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>

void disk_faults_init(struct disk_faults *faults)
{
    *faults = (struct disk_faults){.event_fd = -1, .watch = -1};
    pthread_mutex_init(&faults->lock, NULL); /* cannot fail without attributes */
}

static void on_fault(void *context, const struct virtio_block_fault *fault)
{
    struct disk_faults_disk *disk = context;
    const uint64_t one = 1;
    const enum disk_fault_kind kind = fault->is_kept                  ? DISK_FAULT_KEPT
                                      : fault->is_last                ? DISK_FAULT_LAST
                                      : fault->operation == DISK_READ ? DISK_FAULT_READ
                                                                      : DISK_FAULT_CHANGE;
    pthread_mutex_lock(&disk->faults->lock);
    disk->codes[kind] = fault->code;
    pthread_mutex_unlock(&disk->faults->lock);
    (void)!write(disk->faults->event_fd, &one, sizeof(one)); /* full: it wakes anyway */
}

static void listen_to(struct disk_faults_disk *disk)
{
    const struct virtio_block_listener listener = {on_fault, disk};
    virtio_block_listen(disk->device, &listener);
}

void disk_faults_add(struct disk_faults *faults,
                     const char *name,
                     const char *node,
                     struct virtio_device *device)
{
    unsigned at = 0;
    while (at < faults->count && faults->disks[at].device != NULL) {
        at++;
    }
    REQUIRE(at < VMM_DISKS_MAX);
    struct disk_faults_disk *disk = &faults->disks[at];
    *disk = (struct disk_faults_disk){.faults = faults, .device = device};
    (void)snprintf(disk->name, sizeof(disk->name), "%s", name);
    (void)snprintf(disk->node, sizeof(disk->node), "%s", node);
    faults->count += at == faults->count;
    if (faults->event_fd >= 0) {
        listen_to(disk);
    }
}

void disk_faults_remove(struct disk_faults *faults, const struct virtio_device *device)
{
    for (unsigned i = 0; i < faults->count; i++) {
        if (faults->disks[i].device == device) {
            faults->disks[i] = (struct disk_faults_disk){.faults = faults};
        }
    }
}

static void on_event(void *context, uint64_t token, unsigned events)
{
    struct disk_faults *faults = context;
    uint64_t count;
    (void)token;
    (void)events;
    (void)!read(faults->event_fd, &count, sizeof(count)); /* empties it */
    faults->came(faults->context);
}

int disk_faults_listen(struct disk_faults *faults,
                       struct poller *poller,
                       void (*came)(void *context),
                       void *context,
                       struct err *err)
{
    REQUIRE(faults->event_fd < 0);
    faults->poller = poller;
    faults->came = came;
    faults->context = context;
    faults->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (faults->event_fd < 0) {
        return err_sys(err, -errno, "make an event");
    }
    faults->watch =
        poller_add(poller, faults->event_fd, POLLER_READABLE, on_event, faults, 0);
    if (faults->watch < 0) {
        return err_sys(err, faults->watch, "watch for faults of disks");
    }
    for (unsigned i = 0; i < faults->count; i++) {
        if (faults->disks[i].device != NULL) {
            listen_to(&faults->disks[i]);
        }
    }
    return 0;
}

/* What has come, once. */
static int code_take(struct disk_faults_disk *disk, enum disk_fault_kind kind)
{
    pthread_mutex_lock(&disk->faults->lock);
    const int code = disk->codes[kind];
    disk->codes[kind] = 0;
    pthread_mutex_unlock(&disk->faults->lock);
    return code;
}

static bool
is_news(struct disk_faults_disk *disk, enum disk_fault_kind kind, uint64_t now_ms)
{
    if (kind == DISK_FAULT_KEPT) { /* it may have been dropped, or tried again */
        return virtio_block_waits(disk->device);
    }
    if (kind == DISK_FAULT_LAST) {
        return true;
    }
    const bool is_news =
        disk->told_ms[kind] == 0 || now_ms - disk->told_ms[kind] >= DISK_FAULTS_APART_MS;
    if (is_news) {
        disk->told_ms[kind] = now_ms;
    }
    return is_news;
}

bool disk_faults_take(struct disk_faults *faults,
                      uint64_t now_ms,
                      struct disk_fault *ret_fault)
{
    for (unsigned at = 0; at < DISK_FAULT_KIND_COUNT; at++) {
        const enum disk_fault_kind kind = (enum disk_fault_kind)at;
        for (unsigned i = 0; i < faults->count; i++) {
            struct disk_faults_disk *disk = &faults->disks[i];
            const int code = code_take(disk, kind);
            if (code != 0 && is_news(disk, kind, now_ms)) {
                *ret_fault = (struct disk_fault){disk->name, disk->node, kind, code};
                return true;
            }
        }
    }
    return false;
}

bool disk_faults_take_of(struct disk_faults *faults,
                         const struct virtio_device *device,
                         uint64_t now_ms,
                         struct disk_fault *ret_fault)
{
    for (unsigned i = 0; i < faults->count; i++) {
        struct disk_faults_disk *disk = &faults->disks[i];
        for (unsigned at = 0; disk->device == device && at < DISK_FAULT_KEPT; at++) {
            const enum disk_fault_kind kind = (enum disk_fault_kind)at;
            const int code = code_take(disk, kind);
            if (code != 0 && is_news(disk, kind, now_ms)) {
                *ret_fault = (struct disk_fault){disk->name, disk->node, kind, code};
                return true;
            }
        }
    }
    return false;
}

void disk_faults_fini(struct disk_faults *faults)
{
    if (faults->watch >= 0) {
        poller_remove(faults->poller, faults->watch);
    }
    faults->watch = -1;
    fd_close(&faults->event_fd);
    pthread_mutex_destroy(&faults->lock);
}
