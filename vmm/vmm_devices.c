#include "vmm/vmm_devices.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "vmm/disk_access.h"
#include "vmm/disk_overlay.h"
#include "vmm/disk_raw.h"
#include "vmm/virtio_balloon.h"
#include "vmm/virtio_block.h"
#include "vmm/virtio_console.h"
#include "vmm/virtio_mem.h"
#include "vmm/virtio_net.h"
#include "vmm/virtio_random.h"
#include "vmm/virtio_vsock.h"
#include "vmm/vmm_open.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

/* Enough for a guest to keep a fast disk busy; each costs a stack of a few pages. */
#define DISK_THREADS 4u

void vmm_devices_init(struct vmm_devices *devices)
{
    devices->balloon = NULL;
    devices->memory = NULL;
    devices->throttle.count = 0;
    devices->stats.count = 0;
    disk_faults_init(&devices->faults);
    devices->has_ring = devices->has_vhost = false;
    for (unsigned i = 0; i < VMM_DISKS_MAX; i++) {
        devices->disks[i] = devices->bases[i] = -1;
    }
    for (unsigned i = 0; i < VMM_NICS_MAX; i++) {
        for (unsigned at = 0; at < VIRTIO_NET_PAIRS_MAX; at++) {
            devices->taps[i][at] = devices->vhosts[i][at] = -1;
        }
    }
    devices->console = devices->vsock_listener = devices->vsock_dialer = -1;
}

void vmm_devices_close(struct vmm_devices *devices)
{
    for (unsigned i = 0; i < VMM_DISKS_MAX; i++) {
        fd_close(&devices->disks[i]);
        fd_close(&devices->bases[i]);
    }
    for (unsigned i = 0; i < VMM_NICS_MAX; i++) {
        for (unsigned at = 0; at < VIRTIO_NET_PAIRS_MAX; at++) {
            fd_close(&devices->taps[i][at]);
            fd_close(&devices->vhosts[i][at]);
        }
    }
    fd_close(&devices->console);
    fd_close(&devices->vsock_listener);
    fd_close(&devices->vsock_dialer);
    disk_faults_fini(&devices->faults);
}

/* ---- descriptors ---- */

/* Keeps a descriptor, or says whose it would have been. */
static int keep(int fd, int *ret_fd, const char *kind, const char *name, struct err *err)
{
    if (fd < 0) {
        return err_wrap(err, fd, "%s %s", kind, name);
    }
    *ret_fd = fd;
    return 0;
}

static int disk_open(struct vmm_devices *devices,
                     unsigned i,
                     const struct vmm_disk_option *disk,
                     struct err *err)
{
    const char *where = disk->raw[0] != '\0' ? disk->raw : disk->overlay;
    int r = keep(vmm_open_file(where, disk->is_read_only ? O_RDONLY : O_RDWR, err),
                 &devices->disks[i], "disk", disk->name, err);
    if (r == 0 && disk->base[0] != '\0') {
        r = keep(vmm_open_file(disk->base, O_RDONLY, err), &devices->bases[i],
                 "base of disk", disk->name, err);
    }
    return r;
}

/* Who dials comes last: it is a process that keeps nothing of what was opened before. */
static int nic_open(struct vmm_devices *devices,
                    unsigned i,
                    const struct vmm_nic_option *nic,
                    struct err *err)
{
    int r = 0;
    for (unsigned at = 0; r == 0 && at < nic->queues; at++) {
        r = keep(vmm_open_tap(nic->tap, at, (unsigned)nic->queues, err),
                 &devices->taps[i][at], "NIC", nic->tap, err);
    }
    for (unsigned at = 0; r == 0 && nic->vhost[0] != '\0' && at < nic->queues; at++) {
        r = keep(vmm_open_vhost(nic->vhost, at, err), &devices->vhosts[i][at], "NIC",
                 nic->vhost, err);
    }
    return r;
}

static int vsock_open(struct vmm_devices *devices,
                      const struct vmm_vsock_option *vsock,
                      struct err *err)
{
    int r = 0;
    if (vsock->listen[0] != '\0') {
        r = keep(vmm_open_listener(vsock->listen, err), &devices->vsock_listener, "vsock",
                 vsock->listen, err);
    }
    if (r == 0 && vsock->dial[0] != '\0') {
        r = keep(vmm_open_dialer(vsock->dial, err), &devices->vsock_dialer, "vsock",
                 vsock->dial, err);
    }
    return r;
}

int vmm_devices_open(struct vmm_devices *devices,
                     const struct vmm_options *options,
                     struct err *err)
{
    int r = 0;
    for (unsigned i = 0; r == 0 && i < options->disk_count; i++) {
        r = disk_open(devices, i, &options->disks[i], err);
    }
    for (unsigned i = 0; r == 0 && i < options->nic_count; i++) {
        r = nic_open(devices, i, &options->nics[i], err);
    }
    if (r == 0 && options->console != NULL) {
        r = keep(vmm_open_stream(options->console, err), &devices->console, "console",
                 options->console, err);
    }
    return r < 0 ? r : vsock_open(devices, &options->vsock, err);
}

uint64_t vmm_devices_largest(const struct vmm_devices *devices)
{
    uint64_t most = 0;
    for (unsigned i = 0; i < VMM_DISKS_MAX; i++) {
        struct stat status;
        if (devices->disks[i] >= 0 && fstat(devices->disks[i], &status) == 0 &&
            (uint64_t)status.st_size > most) {
            most = (uint64_t)status.st_size; /* of a block device 0: that has its end */
        }
    }
    return most;
}

/* ---- devices ---- */

/* Hands a device that is neither disk nor NIC to the machine. */
static int add(struct vmm_devices *devices,
               struct machine *machine,
               struct virtio_device *take_device,
               const char *name,
               struct err *err)
{
    const int r = machine_add_virtio(machine, take_device, name, err);
    if (r == 0) {
        vmm_stats_add(&devices->stats, take_device, NULL);
    }
    return r;
}

/* The same of those that may be in a slot. */
static int add_in(struct machine *machine,
                  uint64_t slot,
                  struct virtio_device *take_device,
                  const char *name,
                  struct err *err)
{
    return slot == 0
               ? machine_add_virtio(machine, take_device, name, err)
               : machine_add_virtio_in(machine, (unsigned)slot, take_device, name, err);
}

/* A raw disk over a descriptor; *fd is -1 on success. */
static int
raw_make(int *fd, bool read_only, struct virtual_disk **ret_disk, struct err *err)
{
    struct disk_file *file;
    int r = disk_file_new(*fd, &file, err);
    if (r < 0) {
        return r;
    }
    *fd = -1; /* the file's now */
    r = disk_raw_new(file, read_only, ret_disk, err);
    if (r < 0) {
        disk_file_free(file);
    }
    return r;
}

static int overlay_make(int *fd,
                        int *base_fd,
                        const struct digest *digest,
                        struct virtual_disk **ret_disk,
                        struct err *err)
{
    struct disk_file *file;
    struct virtual_disk *base = NULL;
    int r = *base_fd < 0 ? 0 : raw_make(base_fd, true, &base, err);
    if (r < 0) {
        return r;
    }
    r = disk_file_new(*fd, &file, err);
    if (r == 0) {
        *fd = -1; /* the file's now */
        r = disk_overlay_open(file, base, digest, ret_disk, err);
        if (r < 0) {
            disk_file_free(file);
        }
    }
    if (r < 0) {
        disk_free(base);
    }
    return r;
}

/* As the disk uses it, and as the machine's others do. */
static int
file_check(const struct vmm_devices *devices, int fd, bool writes, struct err *err)
{
    int r = disk_access_check(fd, writes, err);
    for (unsigned i = 0; r == 0 && i < devices->stats.count; i++) {
        const struct vmm_counted *other = &devices->stats.devices[i];
        if (other->disk != NULL) {
            r = disk_access_beside(virtio_block_disk(other->device), other->id, fd,
                                   writes, err);
        }
    }
    return r;
}

int vmm_disk_check(const struct vmm_devices *devices,
                   int fd,
                   int base_fd,
                   const struct vmm_disk_option *option,
                   struct err *err)
{
    int r = file_check(devices, fd, !option->is_read_only, err);
    if (r == 0 && base_fd >= 0) {
        r = file_check(devices, base_fd, false, err);
        if (r == 0 && disk_access_is_same(fd, base_fd)) {
            r = err_set(err, BERTH_EINVALID, "it is its own base");
        }
    }
    return r < 0 ? err_wrap(err, r, "disk %s", option->name) : 0;
}

int vmm_disk_make(int *fd,
                  int *base_fd,
                  const struct vmm_disk_option *option,
                  struct virtual_disk **ret_disk,
                  struct err *err)
{
    const int r = option->raw[0] != '\0'
                      ? raw_make(fd, option->is_read_only, ret_disk, err)
                      : overlay_make(fd, base_fd, &option->digest, ret_disk, err);
    return r < 0 ? err_wrap(err, r, "disk %s", option->name) : 0;
}

int vmm_disk_device(const struct virtio_place *place,
                    const struct vmm_disk_option *option,
                    const struct disk_queue_threads *threads,
                    struct virtual_disk *take_disk,
                    struct virtio_device **ret_device,
                    struct err *err)
{
    struct virtio_block_spec spec = {.queue_count = 1,
                                     .operations = option->limits.operations,
                                     .bytes = option->limits.bytes,
                                     .threads = *threads};
    spec.threads.count = DISK_THREADS;
    virtio_block_serial(option->name, spec.serial);
    const int r = virtio_block_new(place, &spec, take_disk, ret_device, err);
    return r < 0 ? err_wrap(err, r, "disk %s", option->name) : 0;
}

void vmm_devices_know_disk(struct vmm_devices *devices,
                           struct virtio_device *device,
                           const struct vmm_disk_option *option)
{
    const char *id = option->slot != 0 ? option->id : option->name;
    vmm_stats_add(&devices->stats, device, option);
    vmm_throttle_add_disk(&devices->throttle, id, device, &option->limits);
    disk_faults_add(&devices->faults, id, option->node[0] != '\0' ? option->node : id,
                    device);
}

/* One in a slot is called by its id, and counts for no other's number: so the others are
 * called the same whether it is there or not, when a saved machine comes back too. */
static void
disk_call(const struct vmm_options *options, unsigned i, char ret_name[DEVICE_NAME_SIZE])
{
    unsigned number = 0;
    for (unsigned at = 0; at < i; at++) {
        number += options->disks[at].slot == 0;
    }
    if (options->disks[i].slot != 0) {
        (void)snprintf(ret_name, DEVICE_NAME_SIZE, "%s", options->disks[i].id); /* fits */
    } else {
        (void)snprintf(ret_name, DEVICE_NAME_SIZE, "disk%u", number);
    }
}

static void
nic_call(const struct vmm_options *options, unsigned i, char ret_name[DEVICE_NAME_SIZE])
{
    unsigned number = 0;
    for (unsigned at = 0; at < i; at++) {
        number += options->nics[at].slot == 0;
    }
    if (options->nics[i].slot != 0) {
        (void)snprintf(ret_name, DEVICE_NAME_SIZE, "%s", options->nics[i].id); /* fits */
    } else {
        (void)snprintf(ret_name, DEVICE_NAME_SIZE, "nic%u", number);
    }
}

static int disk_connect(struct vmm_devices *devices,
                        const struct vmm_options *options,
                        unsigned i,
                        struct machine *machine,
                        const struct disk_queue_threads *threads,
                        struct err *err)
{
    const struct virtio_place place = machine_place(machine);
    const struct vmm_disk_option *option = &options->disks[i];
    struct virtio_device *device;
    struct virtual_disk *disk = NULL;
    char name[DEVICE_NAME_SIZE];
    disk_call(options, i, name);
    int r = vmm_disk_check(devices, devices->disks[i], devices->bases[i], option, err);
    if (r == 0) {
        r = vmm_disk_make(&devices->disks[i], &devices->bases[i], option, &disk, err);
    }
    if (r < 0) {
        return r;
    }
    r = vmm_disk_device(&place, option, threads, disk, &device, err);
    if (r < 0) {
        disk_free(disk);
        return r;
    }
    devices->has_ring = devices->has_ring || virtio_block_has_ring(device);
    r = add_in(machine, option->slot, device, name, err);
    if (r < 0) {
        return err_wrap(err, r, "disk %s", option->name);
    }
    vmm_devices_know_disk(devices, device, option);
    return 0;
}

/* A tap has to put the header before each packet that the device expects there. */
static int tap_prepare(int fd, struct err *err)
{
    struct ifreq request = {0};
    int header_size = VIRTIO_NET_HEADER_SIZE;
    if (ioctl(fd, TUNGETIFF, &request) < 0) {
        return 0; /* a socket: whoever is at its other end knows the header */
    }
    if ((request.ifr_flags & IFF_VNET_HDR) == 0) {
        return err_set(err, BERTH_EINVALID, "the tap was opened without IFF_VNET_HDR");
    }
    return ioctl(fd, TUNSETVNETHDRSZ, &header_size) < 0
               ? err_sys(err, -errno, "set the size of the tap's header")
               : 0;
}

/* A kernel that does not want to is no reason not to run. */
static void vhost_connect(struct vmm_devices *devices,
                          unsigned i,
                          const struct vmm_nic_option *option,
                          struct virtio_device *device)
{
    struct err err = {0};
    if (option->vhost[0] == '\0') {
        return;
    }
    if (virtio_net_give_kernel(device, devices->vhosts[i], &err) == 0) {
        devices->has_vhost = true;
    } else {
        log_warn("vmm", "a NIC is served without the kernel's help", KV_U64("nic", i),
                 KV_STR("why", err.text));
    }
    for (unsigned at = 0; at < option->queues; at++) {
        devices->vhosts[i][at] = -1; /* the device's, or closed */
    }
}

int vmm_nic_device(const struct virtio_place *place,
                   const struct vmm_nic_option *option,
                   int *take_fds,
                   struct virtio_device **ret_device,
                   struct err *err)
{
    struct virtio_net_spec spec = {.mtu = (uint16_t)option->mtu,
                                   .limits = {option->limits[0], option->limits[1]}};
    for (unsigned at = 0; at < sizeof(spec.mac); at++) {
        spec.mac[at] = (uint8_t)(option->mac >> (8 * (sizeof(spec.mac) - 1 - at)));
    }
    int r = tap_prepare(take_fds[0], err); /* its queues have one setting */
    if (r == 0) {
        r = virtio_net_new(place, &spec, take_fds, (unsigned)option->queues, ret_device,
                           err);
    }
    for (unsigned at = 0; r == 0 && at < option->queues; at++) {
        take_fds[at] = -1; /* the device's now */
    }
    return r;
}

void vmm_devices_know_nic(struct vmm_devices *devices,
                          struct virtio_device *device,
                          const struct vmm_nic_option *option)
{
    vmm_stats_add(&devices->stats, device, NULL);
    vmm_throttle_add_nic(&devices->throttle, device->name, device, option->limits);
}

static int nic_connect(struct vmm_devices *devices,
                       const struct vmm_options *options,
                       unsigned i,
                       struct machine *machine,
                       struct err *err)
{
    const struct virtio_place place = machine_place(machine);
    const struct vmm_nic_option *option = &options->nics[i];
    struct virtio_device *device;
    char name[DEVICE_NAME_SIZE];
    nic_call(options, i, name);
    int r = vmm_nic_device(&place, option, devices->taps[i], &device, err);
    if (r < 0) {
        return err_wrap(err, r, "%s", name);
    }
    vhost_connect(devices, i, option, device);
    r = add_in(machine, option->slot, device, name, err);
    if (r < 0) {
        return err_wrap(err, r, "%s", name);
    }
    vmm_devices_know_nic(devices, device, option);
    return 0;
}

void vmm_devices_forget(struct vmm_devices *devices, const struct virtio_device *device)
{
    vmm_stats_remove(&devices->stats, device);
    vmm_throttle_remove(&devices->throttle, device);
    disk_faults_remove(&devices->faults, device);
}

static int
console_connect(struct vmm_devices *devices, struct machine *machine, struct err *err)
{
    const struct virtio_place place = machine_place(machine);
    struct virtio_device *device;
    int r = virtio_console_new(&place, devices->console, &device, err);
    if (r < 0) {
        return r;
    }
    devices->console = -1; /* the device's now */
    return add(devices, machine, device, "console0", err);
}

static int vsock_connect(struct vmm_devices *devices,
                         uint64_t cid,
                         struct machine *machine,
                         struct err *err)
{
    const struct virtio_place place = machine_place(machine);
    const struct virtio_vsock_spec spec = {.guest_cid = cid,
                                           .take_listener = devices->vsock_listener,
                                           .take_dialer = devices->vsock_dialer};
    struct virtio_device *device;
    int r = virtio_vsock_new(&place, &spec, &device, err);
    if (r < 0) {
        return err_wrap(err, r, "vsock0");
    }
    devices->vsock_listener = devices->vsock_dialer = -1; /* the device's now */
    return add(devices, machine, device, "vsock0", err);
}

static int
memory_connect(struct vmm_devices *devices, struct machine *machine, struct err *err)
{
    const struct virtio_place place = machine_place(machine);
    struct virtio_device *device;
    int r = virtio_mem_new(&place, &device);
    if (r < 0) {
        return err_sys(err, r, VIRTIO_MEM_NAME);
    }
    r = add(devices, machine, device, VIRTIO_MEM_NAME, err);
    devices->memory = r < 0 ? NULL : device;
    return r;
}

/* What every machine has. */
static int
common_connect(struct vmm_devices *devices, struct machine *machine, struct err *err)
{
    const struct virtio_place place = machine_place(machine);
    struct virtio_device *device;
    int r = virtio_random_new(&place, &device);
    if (r < 0) {
        return err_sys(err, r, "rng0");
    }
    r = add(devices, machine, device, "rng0", err);
    if (r < 0) {
        return r;
    }
    r = virtio_balloon_new(&place, &device);
    if (r < 0) {
        return err_sys(err, r, "balloon0");
    }
    r = add(devices, machine, device, "balloon0", err);
    devices->balloon = r < 0 ? NULL : device;
    return r;
}

/* QMP tells disks from the start by their names: no id may be one. */
static int id_check(const struct vmm_stats *stats, const char *id, struct err *err)
{
    unsigned count = 0;
    for (unsigned i = 0; i < stats->count; i++) {
        count += strcmp(stats->devices[i].id, id) == 0;
    }
    return count < 2 ? 0 : err_set(err, BERTH_EEXISTS, "Duplicate device ID '%s'", id);
}

static int ids_check(const struct vmm_devices *devices,
                     const struct vmm_options *options,
                     struct err *err)
{
    int r = 0;
    for (unsigned i = 0; r == 0 && i < options->disk_count; i++) {
        if (options->disks[i].slot != 0) {
            r = id_check(&devices->stats, options->disks[i].id, err);
        }
    }
    for (unsigned i = 0; r == 0 && i < options->nic_count; i++) {
        if (options->nics[i].slot != 0) {
            r = id_check(&devices->stats, options->nics[i].id, err);
        }
    }
    return r;
}

int vmm_devices_connect(struct vmm_devices *devices,
                        const struct vmm_options *options,
                        struct machine *machine,
                        const struct disk_queue_threads *threads,
                        struct err *err)
{
    int r = common_connect(devices, machine, err);
    for (unsigned i = 0; r == 0 && i < options->disk_count; i++) {
        r = disk_connect(devices, options, i, machine, threads, err);
    }
    for (unsigned i = 0; r == 0 && i < options->nic_count; i++) {
        r = nic_connect(devices, options, i, machine, err);
    }
    if (r == 0 && devices->console >= 0) {
        r = console_connect(devices, machine, err);
    }
    if (r == 0 && options->vsock.cid != 0) {
        r = vsock_connect(devices, options->vsock.cid, machine, err);
    }
    if (r == 0 && options->plug_bytes > 0) {
        r = memory_connect(devices, machine, err);
    }
    return r < 0 ? r : ids_check(devices, options, err);
}
