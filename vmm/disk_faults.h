/* What the disks of a machine could not do, from the devices to who tells of it.
 *
 * Shapes: `struct disk_faults` is a list of disks by name; each remembers, until it is
 * asked, the last fault of each kind that has come: a guest cannot fill it. Who listens
 * is called from the poller when there is something, and takes it with disk_faults_take:
 * what the guest was told of first, what is kept (virtio_block.h) last, so that it can be
 * stopped behind that. An error of the same disk and kind that comes again within
 * DISK_FAULTS_APART_MS is not told again; one that is kept is always, as long as the
 * device does keep something, and the last one of a disk.
 *
 * Threads: the poller's; faults come on any. Ownership: devices and poller are borrowed,
 * names are copied. Limits: as many as a machine can have.
 */
#pragma once

#include "base/err.h"
#include "vmm/poller.h"
#include "vmm/virtio_device.h"
#include "vmm/vmm_options.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#define DISK_FAULTS_APART_MS 1000u

enum disk_fault_kind {
    DISK_FAULT_READ = 0,
    DISK_FAULT_CHANGE,
    DISK_FAULT_LAST, /* the flush of a disk that leaves, or whose machine ends */
    DISK_FAULT_KEPT, /* a change for which there is no room */
    DISK_FAULT_KIND_COUNT
};

struct disk_fault {
    const char *disk;
    const char *node; /* what is behind it */
    enum disk_fault_kind kind;
    int code; /* negative */
};

struct disk_faults;

struct disk_faults_disk { /* private */
    struct disk_faults *faults;
    char name[NAME_SIZE];
    char node[NAME_SIZE];
    struct virtio_device *device;     /* NULL: the place is free */
    int codes[DISK_FAULT_KIND_COUNT]; /* 0: none has come */
    uint64_t told_ms[DISK_FAULT_KIND_COUNT];
};

struct disk_faults {
    struct disk_faults_disk disks[VMM_DISKS_MAX];
    unsigned count;
    /* private */
    pthread_mutex_t lock; /* guards the codes; taken behind a device's */
    struct poller *poller;
    int event_fd; /* -1: nobody listens */
    int watch;
    void (*came)(void *context);
    void *context;
};

/* Empty, and nobody listens. */
void disk_faults_init(struct disk_faults *faults);
/* A block device that was made and is not started; heard at once when somebody listens
 * already. */
void disk_faults_add(struct disk_faults *faults,
                     const char *name,
                     const char *node,
                     struct virtio_device *device);
/* The next one of this disk that was not kept: before it is removed. */
bool disk_faults_take_of(struct disk_faults *faults,
                         const struct virtio_device *device,
                         uint64_t now_ms,
                         struct disk_fault *ret_fault);
/* One that goes, and works no more: what has come of it is not told. */
void disk_faults_remove(struct disk_faults *faults, const struct virtio_device *device);
/* From now on, of all that were added; before they start. */
int disk_faults_listen(struct disk_faults *faults,
                       struct poller *poller,
                       void (*came)(void *context),
                       void *context,
                       struct err *err);
/* The next one; false when there is none. The names live as long as the list. */
bool disk_faults_take(struct disk_faults *faults,
                      uint64_t now_ms,
                      struct disk_fault *ret_fault);
/* When the devices are no more, or have not been started. */
void disk_faults_fini(struct disk_faults *faults);
