#include "vmm/vmm_plug.h"

#include "base/cleanup.h"
#include "base/digest.h"
#include "base/fd.h"
#include "base/parse_number.h"
#include "vmm/disk_access.h"
#include "vmm/pci_bus.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define MTU_DEFAULT 1500u
#define MTU_MIN     68u
#define BUS         "pcie.0"

/* ---- arguments ---- */

/* What is not known is not silently left out: it would be believed. */
static int keys_check(const json_t *object,
                      const char *const *known,
                      unsigned known_count,
                      struct err *err)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)object, key, value)
    {
        bool is_known = false;
        for (unsigned i = 0; i < known_count; i++) {
            is_known = is_known || strcmp(key, known[i]) == 0;
        }
        if (!is_known) {
            return err_set(err, BERTH_EINVALID, "Parameter '%.60s' is unexpected", key);
        }
    }
    return 0;
}

static int
id_take(const json_t *arguments, const char *key, const char **ret_id, struct err *err)
{
    const char *id = json_member_text(arguments, key, NULL);
    if (id == NULL) {
        return err_set(err, BERTH_EINVALID, "Parameter '%s' is missing", key);
    }
    if (!vmm_id_valid(id)) {
        return err_set(err, BERTH_EINVALID,
                       "Parameter '%s' expects an identifier: a letter, and up to %u "
                       "letters, digits, '-', '.' and '_'",
                       key, DEVICE_NAME_SIZE - 2);
    }
    *ret_id = id;
    return 0;
}

/* A truth that has a default. */
static int
flag_take(const json_t *arguments, const char *key, bool *flag, struct err *err)
{
    const json_t *value = json_object_get(arguments, key);
    if (value == NULL) {
        return 0;
    }
    if (!json_is_boolean(value)) {
        return err_set(err, BERTH_EINVALID, "Parameter '%s' expects a boolean", key);
    }
    *flag = json_boolean_value(value);
    return 0;
}

/* ---- descriptors ---- */

/* A descriptor that came along; the caller's. */
static int descriptor_take(struct vmm_plug *plug, const char *name, struct err *err)
{
    return strncmp(name, QMP_FDSET, strlen(QMP_FDSET)) == 0
               ? qmp_descriptors_copy(plug->descriptors, name, err)
               : qmp_descriptors_take(plug->descriptors, name, err);
}

/* {"driver": "file", "filename": NAME}; the name is kept as where the disk is. */
static int file_take(struct vmm_plug *plug,
                     const json_t *file,
                     char ret_where[VMM_WHERE_SIZE],
                     struct err *err)
{
    static const char *const known[] = {"driver", "filename"};
    const char *driver = json_member_text(file, "driver", "");
    const char *name = json_member_text(file, "filename", "");
    int r = keys_check(file, known, ARRAY_COUNT(known), err);
    if (r < 0) {
        return r;
    }
    if (strcmp(driver, "file") != 0 && strcmp(driver, "host_device") != 0) {
        return err_set(err, BERTH_EINVALID,
                       "file: an object with driver 'file' or 'host_device'");
    }
    if (name[0] == '\0' || strlen(name) >= VMM_WHERE_SIZE) {
        return err_set(err, BERTH_EINVALID,
                       "filename: " QMP_FDSET "N, or what getfd has named: nothing is "
                       "opened by a path");
    }
    r = descriptor_take(plug, name, err);
    if (r >= 0) {
        (void)snprintf(ret_where, VMM_WHERE_SIZE, "%s", name); /* fits */
    }
    return r;
}

/* Whether it is too large to be written by this process. */
static int size_check(const struct vmm_plug *plug, int fd, struct err *err)
{
    struct stat status;
    if (fstat(fd, &status) < 0) {
        return err_sys(err, -errno, "look at the disk's file");
    }
    if (S_ISREG(status.st_mode) && plug->file_bytes_max != 0 &&
        (uint64_t)status.st_size > plug->file_bytes_max) {
        return err_set(err, BERTH_ETOOLARGE,
                       "the file has %jd bytes, and this process may write none of more "
                       "than %" PRIu64 ": --plug-disk says how many",
                       (intmax_t)status.st_size, plug->file_bytes_max);
    }
    return 0;
}

/* Whether they can be a disk's: with the nodes that are no devices yet, too. */
static int files_check(const struct vmm_plug *plug,
                       int fd,
                       int base_fd,
                       const struct vmm_disk_option *option,
                       struct err *err)
{
    const bool writes = !option->is_read_only;
    int r = vmm_disk_check(plug->devices, fd, base_fd, option, err);
    if (r == 0 && writes) {
        r = size_check(plug, fd, err);
    }
    for (unsigned i = 0; r == 0 && i < PCI_PLUG_SLOTS; i++) {
        const struct vmm_plug_node *node = &plug->nodes[i];
        if (node->disk != NULL) {
            r = disk_access_beside(node->disk, node->name, fd, writes, err);
            r = r == 0 && base_fd >= 0
                    ? disk_access_beside(node->disk, node->name, base_fd, false, err)
                    : r;
        }
    }
    return r;
}

/* ---- nodes ---- */

static struct vmm_plug_node *node_find(struct vmm_plug *plug, const char *name)
{
    for (unsigned i = 0; i < PCI_PLUG_SLOTS; i++) {
        if (strcmp(plug->nodes[i].name, name) == 0) {
            return &plug->nodes[i];
        }
    }
    return NULL;
}

/* The overlay's base, which is raw and only read. */
static int backing_take(struct vmm_plug *plug,
                        const json_t *backing,
                        struct vmm_disk_option *option,
                        struct err *err)
{
    static const char *const known[] = {"driver", "file", "read-only"};
    bool read_only = true;
    int r = keys_check(backing, known, ARRAY_COUNT(known), err);
    if (r == 0) {
        r = flag_take(backing, "read-only", &read_only, err);
    }
    if (r == 0 &&
        (!read_only || strcmp(json_member_text(backing, "driver", ""), "raw") != 0)) {
        r = err_set(err, BERTH_EINVALID, "backing: an object with driver 'raw'");
    }
    return r < 0 ? r
                 : file_take(plug, json_object_get(backing, "file"), option->base, err);
}

static int digest_take(const char *text, struct vmm_disk_option *option, struct err *err)
{
    if (text[0] == '\0') {
        return 0;
    }
    if (option->base[0] == '\0') {
        return err_set(err, BERTH_EINVALID, "digest belongs to a backing");
    }
    const int r = digest_parse(text, &option->digest);
    return r < 0 ? err_set(err, r, "digest: not %d hex digits", 2 * DIGEST_SIZE) : 0;
}

/* What is said of a disk, and its descriptors. */
static int node_read(struct vmm_plug *plug,
                     const json_t *arguments,
                     struct vmm_disk_option *option,
                     int *ret_fd,
                     int *ret_base_fd,
                     struct err *err)
{
    static const char *const known[] = {"driver", "node-name", "read-only",
                                        "file",   "backing",   "digest"};
    const char *driver = json_member_text(arguments, "driver", "");
    const json_t *backing = json_object_get(arguments, "backing");
    const bool is_overlay = strcmp(driver, "overlay") == 0;
    int r = keys_check(arguments, known, ARRAY_COUNT(known), err);
    if (r == 0) {
        r = flag_take(arguments, "read-only", &option->is_read_only, err);
    }
    if (r == 0 && !is_overlay && strcmp(driver, "raw") != 0) {
        r = err_set(err, BERTH_EINVALID, "driver: only raw and overlay");
    }
    if (r == 0 && is_overlay && option->is_read_only) {
        r = err_set(err, BERTH_EINVALID, "only a raw disk can be read-only");
    }
    if (r == 0 && !is_overlay && backing != NULL) {
        r = err_set(err, BERTH_EINVALID, "backing belongs to an overlay");
    }
    if (r < 0) {
        return r;
    }
    *ret_fd = file_take(plug, json_object_get(arguments, "file"),
                        is_overlay ? option->overlay : option->raw, err);
    if (*ret_fd < 0) {
        return *ret_fd;
    }
    if (backing != NULL && !json_is_null(backing)) {
        *ret_base_fd = backing_take(plug, backing, option, err);
        r = *ret_base_fd < 0 ? *ret_base_fd : 0;
    }
    if (r == 0) {
        r = files_check(plug, *ret_fd, *ret_base_fd, option, err);
    }
    return r < 0 ? r
                 : digest_take(json_member_text(arguments, "digest", ""), option, err);
}

int vmm_plug_node_add(struct vmm_plug *plug, const json_t *arguments, struct err *err)
{
    struct vmm_disk_option option = {.slot = 0};
    struct virtual_disk *disk = NULL;
    const char *name = NULL;
    CLEANUP_FD int fd = -1;
    CLEANUP_FD int base_fd = -1;
    int r = id_take(arguments, "node-name", &name, err);
    if (r < 0) {
        return r;
    }
    if (node_find(plug, name) != NULL) {
        return err_set(err, BERTH_EEXISTS, "Duplicate nodes with node-name='%s'", name);
    }
    struct vmm_plug_node *node = node_find(plug, "");
    if (node == NULL) {
        return err_set(err, BERTH_EFULL, "%u nodes are there; use them, or blockdev-del",
                       PCI_PLUG_SLOTS);
    }
    (void)snprintf(option.name, sizeof(option.name), "%s", name); /* fits */
    (void)snprintf(option.node, sizeof(option.node), "%s", name); /* it is an id */
    r = node_read(plug, arguments, &option, &fd, &base_fd, err);
    if (r == 0) {
        r = vmm_disk_make(&fd, &base_fd, &option, &disk, err);
    }
    if (r < 0) {
        return r;
    }
    *node = (struct vmm_plug_node){.option = option, .disk = disk};
    (void)snprintf(node->name, sizeof(node->name), "%s", name); /* fits: it is an id */
    return 0;
}

int vmm_plug_node_del(struct vmm_plug *plug, const json_t *arguments, struct err *err)
{
    const char *name = json_member_text(arguments, "node-name", "");
    struct vmm_plug_node *node = name[0] == '\0' ? NULL : node_find(plug, name);
    if (node == NULL) {
        return err_set(err, BERTH_ENOTFOUND, "Failed to find node with node-name='%.60s'",
                       name);
    }
    if (node->device != NULL) {
        return err_set(err, BERTH_EBUSY, "Node '%s' is busy: a device has it", name);
    }
    disk_free(node->disk);
    *node = (struct vmm_plug_node){.disk = NULL};
    return 0;
}

/* ---- netdevs ---- */

static struct vmm_plug_netdev *netdev_find(struct vmm_plug *plug, const char *name)
{
    for (unsigned i = 0; i < PCI_PLUG_SLOTS; i++) {
        if (strcmp(plug->netdevs[i].name, name) == 0) {
            return &plug->netdevs[i];
        }
    }
    return NULL;
}

static void netdev_clear(struct vmm_plug_netdev *netdev)
{
    for (unsigned i = 0; i < netdev->count; i++) {
        fd_close(&netdev->fds[i]);
    }
    *netdev = (struct vmm_plug_netdev){.count = 0};
}

/* "NAME:NAME", each a queue's. */
static int taps_take(struct vmm_plug *plug,
                     const char *names,
                     struct vmm_plug_netdev *netdev,
                     struct err *err)
{
    while (*names != '\0') {
        char name[QMP_NAME_SIZE];
        const size_t length = strcspn(names, ":");
        if (netdev->count == VIRTIO_NET_PAIRS_MAX) {
            return err_set(err, BERTH_EINVALID, "fds: more than %u",
                           VIRTIO_NET_PAIRS_MAX);
        }
        if (length == 0 || length >= sizeof(name)) {
            return err_set(err, BERTH_EINVALID, "fds: names that getfd has given");
        }
        memcpy(name, names, length);
        name[length] = '\0';
        const int fd = descriptor_take(plug, name, err);
        if (fd < 0) {
            return fd;
        }
        netdev->fds[netdev->count++] = fd;
        names += length;
        names += *names == ':' ? 1 : 0;
    }
    return netdev->count > 0 ? 0
                             : err_set(err, BERTH_EINVALID,
                                       "fd: what getfd has named: nothing is "
                                       "opened by a name");
}

int vmm_plug_netdev_add(struct vmm_plug *plug, const json_t *arguments, struct err *err)
{
    static const char *const known[] = {"type", "id", "fd", "fds", "vhost"};
    struct vmm_plug_netdev netdev = {.count = 0};
    const char *name = NULL;
    bool vhost = false;
    int r = id_take(arguments, "id", &name, err);
    if (r == 0) {
        r = keys_check(arguments, known, ARRAY_COUNT(known), err);
    }
    if (r == 0) {
        r = flag_take(arguments, "vhost", &vhost, err);
    }
    if (r < 0) {
        return r;
    }
    if (strcmp(json_member_text(arguments, "type", ""), "tap") != 0) {
        return err_set(err, BERTH_EINVALID, "type: only tap");
    }
    if (vhost) {
        return err_set(err, BERTH_EUNSUPPORTED,
                       "vhost: the kernel serves only NICs from the start");
    }
    if (netdev_find(plug, name) != NULL) {
        return err_set(err, BERTH_EEXISTS, "Duplicate ID '%s' for netdev", name);
    }
    struct vmm_plug_netdev *place = netdev_find(plug, "");
    if (place == NULL) {
        return err_set(err, BERTH_EFULL, "%u netdevs are there; use them, or netdev_del",
                       PCI_PLUG_SLOTS);
    }
    r = taps_take(
        plug, json_member_text(arguments, "fds", json_member_text(arguments, "fd", "")),
        &netdev, err);
    if (r < 0) {
        netdev_clear(&netdev);
        return r;
    }
    (void)snprintf(netdev.name, sizeof(netdev.name), "%s", name); /* fits: it is an id */
    *place = netdev;
    return 0;
}

int vmm_plug_netdev_del(struct vmm_plug *plug, const json_t *arguments, struct err *err)
{
    const char *name = json_member_text(arguments, "id", "");
    struct vmm_plug_netdev *netdev = name[0] == '\0' ? NULL : netdev_find(plug, name);
    if (netdev == NULL) {
        return err_set(err, -ENODEV, "Device '%.60s' not found", name);
    }
    if (netdev->device != NULL) {
        return err_set(err, BERTH_EBUSY, "netdev '%s' is in use by a device", name);
    }
    netdev_clear(netdev);
    return 0;
}

/* ---- devices ---- */

/* Of base 16, with 0x or without, as QEMU reads the number of a device; 0: it is none. */
static unsigned hex_of(const char *text)
{
    static const char digits[] = "0123456789abcdef";
    unsigned number = 0;
    text += strncmp(text, "0x", 2) == 0 ? 2 : 0;
    for (unsigned i = 0; text[i] != '\0'; i++) {
        const char *digit = strchr(digits, text[i]);
        if (digit == NULL || i == 2) {
            return 0;
        }
        number = number << 4 | (unsigned)(digit - digits);
    }
    return number;
}

/* Where it is to be: "addr" as QEMU has it; 0: anywhere. */
static int slot_take(const json_t *arguments, unsigned *ret_slot, struct err *err)
{
    const char *bus = json_member_text(arguments, "bus", BUS);
    const json_t *at = json_object_get(arguments, "addr");
    uint64_t number = 0;
    if (strcmp(bus, BUS) != 0) {
        return err_set(err, BERTH_EINVALID, "Bus '%.60s' not found", bus);
    }
    if (at == NULL) {
        *ret_slot = 0;
        return 0;
    }
    if (json_is_string(at)) {
        number = hex_of(json_string_value(at));
    } else if (json_is_integer(at) && json_integer_value(at) > 0) {
        number = (uint64_t)json_integer_value(at);
    }
    if (number == 0 || number > PCI_SLOTS_MAX) {
        return err_set(err, BERTH_EINVALID, "addr: not 0x%x to 0x%x", PCI_PLUG_FIRST,
                       PCI_PLUG_FIRST + PCI_PLUG_SLOTS - 1);
    }
    *ret_slot = (unsigned)number;
    return 0;
}

/* The id that it has, and the slot, which is the answer. */
static int place_take(struct vmm_plug *plug,
                      const json_t *arguments,
                      const char **ret_id,
                      struct err *err)
{
    unsigned slot = 0;
    int r = id_take(arguments, "id", ret_id, err);
    if (r == 0) {
        r = slot_take(arguments, &slot, err);
    }
    if (r == 0 && vmm_stats_has(&plug->devices->stats, *ret_id)) {
        r = err_set(err, BERTH_EEXISTS, "Duplicate device ID '%s'", *ret_id);
    }
    return r < 0 ? r : machine_can_plug(plug->machine, slot, *ret_id, err);
}

/* The name that it would have on the command line, where it is to go on. */
static int serial_check(const struct vmm_plug *plug, const char *serial, struct err *err)
{
    const struct vmm_stats *stats = &plug->devices->stats;
    const char *fault = vmm_disk_name_fault(serial, NULL);
    for (unsigned i = 0; fault == NULL && i < stats->count; i++) {
        const struct vmm_disk_option *other = stats->devices[i].disk;
        fault = other != NULL ? vmm_disk_name_fault(serial, other->name) : NULL;
    }
    return fault == NULL
               ? 0
               : err_set(err, BERTH_EINVALID,
                         "serial (default: the node's name): %.80s: %s", serial, fault);
}

static int disk_add(struct vmm_plug *plug, const json_t *arguments, struct err *err)
{
    static const char *const known[] = {"driver", "id", "drive", "serial", "bus", "addr"};
    const struct virtio_place place = machine_place(plug->machine);
    const char *drive = json_member_text(arguments, "drive", "");
    const char *id = NULL;
    struct disk_queue_threads threads = plug->threads;
    struct virtio_device *device;
    int r = keys_check(arguments, known, ARRAY_COUNT(known), err);
    const int slot = r < 0 ? r : place_take(plug, arguments, &id, err);
    if (slot < 0) {
        return slot;
    }
    if (drive[0] == '\0') {
        return err_set(err, BERTH_EINVALID, "drive property not set");
    }
    struct vmm_plug_node *node = node_find(plug, drive);
    if (node == NULL) {
        return err_set(err, BERTH_ENOTFOUND,
                       "Property 'virtio-blk-pci.drive' can't find value '%.60s'", drive);
    }
    if (node->disk == NULL) {
        return err_set(err, BERTH_EBUSY,
                       "Property 'virtio-blk-pci.drive' can't take value '%s', it's in "
                       "use, or was",
                       drive);
    }
    const char *serial = json_member_text(arguments, "serial", drive);
    r = serial_check(plug, serial, err);
    if (r < 0) {
        return r;
    }
    (void)snprintf(node->option.name, sizeof(node->option.name), "%s", serial); /* fits */
    (void)snprintf(node->option.id, sizeof(node->option.id), "%s", id); /* the same */
    node->option.slot = (unsigned)slot;
    threads.has_no_ring = true;
    r = vmm_disk_device(&place, &node->option, &threads, node->disk, &device, err);
    if (r < 0) {
        return r;
    }
    node->disk = NULL;
    node->device = device;
    vmm_devices_know_disk(plug->devices, device, &node->option); /* before it starts */
    r = machine_plug_virtio(plug->machine, (unsigned)slot, device, id, err);
    if (r < 0) {
        vmm_plug_forget(plug, device);
    }
    return r;
}

static int nic_option_take(const json_t *arguments,
                           unsigned queues,
                           struct vmm_nic_option *ret_option,
                           struct err *err)
{
    const char *mac = json_member_text(arguments, "mac", "");
    struct vmm_nic_option option = {.queues = queues};
    option.mtu = json_member_u64(arguments, "host_mtu", MTU_DEFAULT);
    bool mq = queues > 1;
    int r = flag_take(arguments, "mq", &mq, err);
    if (r == 0 && mq != (queues > 1)) {
        r = err_set(err, BERTH_EINVALID, "mq: its netdev has %u queues", queues);
    }
    if (r == 0 && (option.mtu < MTU_MIN || option.mtu > VIRTIO_NET_MTU_MAX)) {
        r = err_set(err, BERTH_EINVALID, "host_mtu: not %u to %u", MTU_MIN,
                    VIRTIO_NET_MTU_MAX);
    }
    if (r == 0) {
        r = parse_mac(mac, &option.mac, err);
        r = r < 0 ? err_wrap(err, r, "mac") : 0;
    }
    if (r == 0) {
        *ret_option = option;
    }
    return r;
}

static int nic_add(struct vmm_plug *plug, const json_t *arguments, struct err *err)
{
    static const char *const known[] = {"driver", "id",  "netdev", "mac",
                                        "mq",     "bus", "addr",   "host_mtu"};
    const struct virtio_place place = machine_place(plug->machine);
    const char *name = json_member_text(arguments, "netdev", "");
    const char *id = NULL;
    struct vmm_nic_option option;
    struct virtio_device *device;
    int r = keys_check(arguments, known, ARRAY_COUNT(known), err);
    const int slot = r < 0 ? r : place_take(plug, arguments, &id, err);
    if (slot < 0) {
        return slot;
    }
    struct vmm_plug_netdev *netdev = name[0] == '\0' ? NULL : netdev_find(plug, name);
    if (netdev == NULL) {
        return err_set(err, BERTH_ENOTFOUND,
                       "Property 'virtio-net-pci.netdev' can't find value '%.60s'", name);
    }
    if (netdev->fds[0] < 0) {
        return err_set(err, BERTH_EBUSY,
                       "Property 'virtio-net-pci.netdev' can't take value '%s', it's in "
                       "use, or was",
                       name);
    }
    r = nic_option_take(arguments, netdev->count, &option, err);
    if (r == 0) {
        r = vmm_nic_device(&place, &option, netdev->fds, &device, err);
    }
    if (r < 0) {
        return r;
    }
    netdev->device = device;
    r = machine_plug_virtio(plug->machine, (unsigned)slot, device, id, err);
    if (r < 0) {
        vmm_plug_forget(plug, device);
        return r;
    }
    vmm_devices_know_nic(plug->devices, device, &option);
    return 0;
}

static const struct {
    const char *driver;
    int (*add)(struct vmm_plug *plug, const json_t *arguments, struct err *err);
} drivers[] = {
    {"virtio-blk-pci", disk_add},
    {"virtio-net-pci", nic_add},
};

bool vmm_plug_knows(const char *driver)
{
    for (unsigned i = 0; i < ARRAY_COUNT(drivers); i++) {
        if (strcmp(drivers[i].driver, driver) == 0) {
            return true;
        }
    }
    return false;
}

int vmm_plug_device_add(struct vmm_plug *plug, const json_t *arguments, struct err *err)
{
    const char *driver = json_member_text(arguments, "driver", "");
    for (unsigned i = 0; i < ARRAY_COUNT(drivers); i++) {
        if (strcmp(drivers[i].driver, driver) == 0) {
            return drivers[i].add(plug, arguments, err);
        }
    }
    return err_set(err, BERTH_ENOTFOUND, "'%.60s' is not a valid device model name",
                   driver);
}

void vmm_plug_forget(struct vmm_plug *plug, const struct virtio_device *device)
{
    vmm_devices_forget(plug->devices, device);
    for (unsigned i = 0; i < PCI_PLUG_SLOTS; i++) {
        if (plug->nodes[i].device == device) {
            plug->nodes[i].device = NULL;
        }
        if (plug->netdevs[i].device == device) {
            plug->netdevs[i].device = NULL;
        }
    }
}

void vmm_plug_fini(struct vmm_plug *plug)
{
    for (unsigned i = 0; i < PCI_PLUG_SLOTS; i++) {
        disk_free(plug->nodes[i].disk);
        plug->nodes[i] = (struct vmm_plug_node){.disk = NULL};
        netdev_clear(&plug->netdevs[i]);
    }
}
