#include "vmm/vmm_options.h"

#include "base/cleanup.h"
#include "base/parse_number.h"
#include "model/objects.h"
#include "vmm/virtio_block.h"
#include "vmm/virtio_net.h"
#include "vmm/vsock_packet.h"

#include <inttypes.h>
#include <stddef.h>
#include <string.h>

#define MTU_DEFAULT 1500u
#define MTU_MIN     68u /* what IPv4 needs (RFC 791) */
#define MTU_MAX     65535u

enum option_kind {
    OPTION_TEXT = 1,
    OPTION_BYTES,
    OPTION_NUMBER,
    OPTION_CPU,
    OPTION_FLAG,
    OPTION_DISK,
    OPTION_NIC,
    OPTION_OVERLAY,
    OPTION_EXPORT,
    OPTION_VSOCK,
    OPTION_MEMORY,
    OPTION_CPUS,
    /* in lists */
    OPTION_NAME,
    OPTION_ID,
    OPTION_WHERE,
    OPTION_DIGEST,
    OPTION_MAC,
    OPTION_PAGES,
    OPTION_POLICY,
    OPTION_KIND_COUNT
};

struct option_row {
    const char *name;
    enum option_kind kind;
    size_t offset;
    const char *value; /* for --help; NULL: takes none */
    const char *help;
};

#define FIELD(field) offsetof(struct vmm_options, field)

static const struct option_row rows[] = {
    {"name", OPTION_TEXT, FIELD(name), "NAME", "what the VM is called in the log"},
    {"kernel", OPTION_TEXT, FIELD(kernel), "FILE", "vmlinux (PVH) or vmlinuz to boot"},
    {"initrd", OPTION_TEXT, FIELD(initrd), "FILE", "its initial RAM disk"},
    {"cmdline", OPTION_TEXT, FIELD(cmdline), "TEXT",
     "its command line (default: console=ttyS0)"},
    {"cpus", OPTION_CPUS, 0, "N",
     "virtual CPUs, 1 to 64 (default: 1); or count=N,max=M:\n"
     "QMP may plug up to there (query-hotpluggable-cpus, device_add)"},
    {"memory", OPTION_MEMORY, 0, "SIZE",
     "RAM, 32MiB to 256GiB (default: 256MiB);\n"
     "or size=SIZE[,huge=off|thp|2M|1G] (default: thp): its pages.\n"
     "2M and 1G are those that the host has reserved\n"
     "[,node=N[,policy=bind|prefer]] or [,policy=interleave]:\n"
     "of one NUMA node, or of all in turn\n"
     "[,max=SIZE]: QMP may plug up to there (virtio-mem)"},
    {"cpu", OPTION_CPU, FIELD(cpu_level), "LEVEL",
     "host, x86-64-v2, x86-64-v3 or x86-64-v4 (default: host)"},
    {"disk", OPTION_DISK, 0, "KEY=VALUE,...",
     "name=NAME (its serial number; of over 20 bytes the first 11 and\n"
     "8 hex digits of all) and raw=FILE[,read-only=yes]\n"
     "or overlay=FILE[,base=FILE,digest=HEX]; may be repeated\n"
     "[,slot=N,id=ID]: 24 to 31, which it may leave (device_del)\n"
     "[,bps=SIZE,iops=N,bps-max=SIZE,iops-max=N]: a second, and at once"},
    {"nic", OPTION_NIC, 0, "KEY=VALUE,...",
     "tap=tap:NAME,mac=MAC[,mtu=N][,queues=N][,vhost=FILE]; may be\n"
     "repeated. Pairs of queues, 1 to 8: one for each CPU is best;\n"
     "as descriptors they follow each other. FILE is\n"
     "/dev/vhost-net: the kernel serves them, but for limits\n"
     "[,slot=N,id=ID]: 24 to 31, which it may leave (device_del)\n"
     "[,rx-bps=SIZE,rx-pps=N,rx-bps-max=SIZE,rx-pps-max=N], tx as well:\n"
     "what it may receive and send a second, and at once"},
    {"plug-disk", OPTION_BYTES, FIELD(plug_disk_bytes), "SIZE",
     "the largest file that QMP may bring as a disk to be\n"
     "written (default: as large as those from the start)"},
    {"vsock", OPTION_VSOCK, 0, "KEY=VALUE,...",
     "cid=N[,listen=unix:PATH][,dial=unix:PATH]: sockets between\n"
     "guest and host. Who connects to the first and says\n"
     "CONNECT PORT reaches a port of the guest; its port P of the\n"
     "host (CID 2) is what listens at PATH_P of the second"},
    {"serial", OPTION_TEXT, FIELD(serial), "WHERE",
     "stdio, none or unix:PATH (default: stdio)"},
    {"console", OPTION_TEXT, FIELD(console), "WHERE",
     "a virtio console, too: unix:PATH to connect to, or a device"},
    {"qmp", OPTION_TEXT, FIELD(qmp), "unix:PATH", "where to be controlled by QMP"},
    {"incoming", OPTION_TEXT, FIELD(incoming), "FILE",
     "go on with the machine that was saved there; the\n"
     "other options are those it was started with"},
    {"lazy", OPTION_FLAG, FIELD(is_lazy), NULL,
     "it runs at once: its RAM is read and checked when\n"
     "it is touched, and the rest in between"},
    {"mapped", OPTION_FLAG, FIELD(is_mapped), NULL,
     "its RAM is that of FILE, unchecked, and shared\n"
     "with its other clones: FILE must stay as it is"},
    {"kvm", OPTION_TEXT, FIELD(kvm), "DEVICE", "(default: /dev/kvm)"},
    {"make-overlay", OPTION_OVERLAY, 0, "KEY=VALUE,...",
     "makes a disk and ends:\nfile=FILE and base=FILE[,digest=HEX] or size=SIZE"},
    {"export-disk", OPTION_EXPORT, 0, "KEY=VALUE,...",
     "writes what a disk holds into a new raw file and ends:\n"
     "file=FILE and overlay=FILE[,base=FILE,digest=HEX], of a VM that\n"
     "does not run"},
    {"hold", OPTION_FLAG, FIELD(is_held), NULL, "do not run before QMP says cont"},
    {"keep-end", OPTION_FLAG, FIELD(keeps_end), NULL,
     "keep a guest that has ended until QMP says quit"},
    {"uids", OPTION_NUMBER, FIELD(first_uid), "N",
     "run as user N and its pid, in a group of that number:\n"
     "so no two machines are of one user (default: as it is)"},
    {"no-jail", OPTION_FLAG, FIELD(has_no_jail), NULL, "keep all rights (for debuggers)"},
    {"probe", OPTION_FLAG, FIELD(wants_probe), NULL, "say what KVM is worth here"},
    {"help", OPTION_FLAG, FIELD(wants_help), NULL, "this text"},
};

#define DISK_FIELD(field) offsetof(struct vmm_disk_option, field)
#define NIC_FIELD(field)  offsetof(struct vmm_nic_option, field)
#define RX                VIRTIO_NET_RECEIVE
#define TX                VIRTIO_NET_TRANSMIT

static const struct option_row disk_rows[] = {
    {"name", OPTION_NAME, DISK_FIELD(name), "NAME", NULL},
    {"id", OPTION_ID, DISK_FIELD(id), "ID", NULL},
    {"slot", OPTION_NUMBER, DISK_FIELD(slot), "N", NULL},
    {"raw", OPTION_WHERE, DISK_FIELD(raw), "FILE", NULL},
    {"overlay", OPTION_WHERE, DISK_FIELD(overlay), "FILE", NULL},
    {"base", OPTION_WHERE, DISK_FIELD(base), "FILE", NULL},
    {"digest", OPTION_DIGEST, DISK_FIELD(digest), "HEX", NULL},
    {"read-only", OPTION_FLAG, DISK_FIELD(is_read_only), "yes", NULL},
    {"bps", OPTION_BYTES, DISK_FIELD(limits.bytes.rate), "SIZE", NULL},
    {"bps-max", OPTION_BYTES, DISK_FIELD(limits.bytes.burst), "SIZE", NULL},
    {"iops", OPTION_NUMBER, DISK_FIELD(limits.operations.rate), "N", NULL},
    {"iops-max", OPTION_NUMBER, DISK_FIELD(limits.operations.burst), "N", NULL},
};

static const struct option_row nic_rows[] = {
    {"tap", OPTION_WHERE, NIC_FIELD(tap), "TAP", NULL},
    {"id", OPTION_ID, NIC_FIELD(id), "ID", NULL},
    {"slot", OPTION_NUMBER, NIC_FIELD(slot), "N", NULL},
    {"mac", OPTION_MAC, NIC_FIELD(mac), "MAC", NULL},
    {"mtu", OPTION_NUMBER, NIC_FIELD(mtu), "N", NULL},
    {"queues", OPTION_NUMBER, NIC_FIELD(queues), "N", NULL},
    {"vhost", OPTION_WHERE, NIC_FIELD(vhost), "FILE", NULL},
    {"rx-bps", OPTION_BYTES, NIC_FIELD(limits[RX].bytes.rate), "SIZE", NULL},
    {"rx-bps-max", OPTION_BYTES, NIC_FIELD(limits[RX].bytes.burst), "SIZE", NULL},
    {"rx-pps", OPTION_NUMBER, NIC_FIELD(limits[RX].operations.rate), "N", NULL},
    {"rx-pps-max", OPTION_NUMBER, NIC_FIELD(limits[RX].operations.burst), "N", NULL},
    {"tx-bps", OPTION_BYTES, NIC_FIELD(limits[TX].bytes.rate), "SIZE", NULL},
    {"tx-bps-max", OPTION_BYTES, NIC_FIELD(limits[TX].bytes.burst), "SIZE", NULL},
    {"tx-pps", OPTION_NUMBER, NIC_FIELD(limits[TX].operations.rate), "N", NULL},
    {"tx-pps-max", OPTION_NUMBER, NIC_FIELD(limits[TX].operations.burst), "N", NULL},
};

#define VSOCK_FIELD(field) offsetof(struct vmm_vsock_option, field)

static const struct option_row vsock_rows[] = {
    {"cid", OPTION_NUMBER, VSOCK_FIELD(cid), "N", NULL},
    {"listen", OPTION_WHERE, VSOCK_FIELD(listen), "WHERE", NULL},
    {"dial", OPTION_WHERE, VSOCK_FIELD(dial), "WHERE", NULL},
};

struct memory_option {
    uint64_t size_bytes;
    uint64_t max_bytes; /* 0: that is all */
    struct ram_backing backing;
    uint64_t node; /* NO_NODE: none was named */
};

#define NO_NODE             UINT64_MAX
#define MEMORY_FIELD(field) offsetof(struct memory_option, field)

static const struct option_row memory_rows[] = {
    {"size", OPTION_BYTES, MEMORY_FIELD(size_bytes), "SIZE", NULL},
    {"max", OPTION_BYTES, MEMORY_FIELD(max_bytes), "SIZE", NULL},
    {"huge", OPTION_PAGES, MEMORY_FIELD(backing.pages), "PAGES", NULL},
    {"node", OPTION_NUMBER, MEMORY_FIELD(node), "N", NULL},
    {"policy", OPTION_POLICY, MEMORY_FIELD(backing.policy), "POLICY", NULL},
};

struct cpus_option {
    uint64_t count;
    uint64_t max; /* 0: no more may come */
};

#define CPUS_FIELD(field) offsetof(struct cpus_option, field)

static const struct option_row cpus_rows[] = {
    {"count", OPTION_NUMBER, CPUS_FIELD(count), "N", NULL},
    {"max", OPTION_NUMBER, CPUS_FIELD(max), "M", NULL},
};

#define OVERLAY_FIELD(field) offsetof(struct vmm_overlay_option, field)

static const struct option_row overlay_rows[] = {
    {"file", OPTION_WHERE, OVERLAY_FIELD(file), "FILE", NULL},
    {"base", OPTION_WHERE, OVERLAY_FIELD(base), "FILE", NULL},
    {"digest", OPTION_DIGEST, OVERLAY_FIELD(digest), "HEX", NULL},
    {"size", OPTION_BYTES, OVERLAY_FIELD(size_bytes), "SIZE", NULL},
};

#define EXPORT_FIELD(field) offsetof(struct vmm_export_option, field)

static const struct option_row export_rows[] = {
    {"file", OPTION_WHERE, EXPORT_FIELD(file), "FILE", NULL},
    {"overlay", OPTION_WHERE, EXPORT_FIELD(overlay), "FILE", NULL},
    {"base", OPTION_WHERE, EXPORT_FIELD(base), "FILE", NULL},
    {"digest", OPTION_DIGEST, EXPORT_FIELD(digest), "HEX", NULL},
};

/* ---- values ---- */

static int text_set(void *field, const char *value, struct err *err)
{
    (void)err;
    *(const char **)field = value;
    return 0;
}

static int bytes_set(void *field, const char *value, struct err *err)
{
    return parse_bytes(value, field, err);
}

static int number_set(void *field, const char *value, struct err *err)
{
    return parse_u64(value, field, err);
}

static int cpu_set(void *field, const char *value, struct err *err)
{
    return cpu_level_parse(value, field, err);
}

static int flag_set(void *field, const char *value, struct err *err)
{
    if (value != NULL && strcmp(value, "yes") != 0) {
        return err_set(err, BERTH_EINVALID, "%.40s: only yes", value);
    }
    *(bool *)field = true;
    return 0;
}

static int name_set(void *field, const char *value, struct err *err)
{
    const char *fault = vmm_disk_name_fault(value, NULL);
    if (fault != NULL) {
        return err_set(err, BERTH_EINVALID, "%.80s: %s", value, fault);
    }
    (void)snprintf(field, NAME_SIZE, "%s", value); /* fits: it is a name */
    return 0;
}

bool vmm_id_valid(const char *id)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    static const char rest[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._";
    return id[0] != '\0' && strchr(letters, id[0]) != NULL &&
           strspn(id, rest) == strlen(id) && strlen(id) < DEVICE_NAME_SIZE;
}

static int id_set(void *field, const char *value, struct err *err)
{
    if (!vmm_id_valid(value)) {
        return err_set(err, BERTH_EINVALID,
                       "%.80s: not a letter and up to %u more letters, digits, - . _",
                       value, DEVICE_NAME_SIZE - 2);
    }
    (void)snprintf(field, DEVICE_NAME_SIZE, "%s", value); /* fits: it is valid */
    return 0;
}

static int where_set(void *field, const char *value, struct err *err)
{
    if (value[0] == '\0' || strlen(value) >= VMM_WHERE_SIZE) {
        return err_set(err, BERTH_EINVALID, "not 1 to %u bytes", VMM_WHERE_SIZE - 1);
    }
    memcpy(field, value, strlen(value) + 1);
    return 0;
}

static int digest_set(void *field, const char *value, struct err *err)
{
    int r = digest_parse(value, field);
    return r < 0 ? err_set(err, r, "not %d hex digits", 2 * DIGEST_SIZE) : 0;
}

static int mac_set(void *field, const char *value, struct err *err)
{
    return parse_mac(value, field, err);
}

static int pages_set(void *field, const char *value, struct err *err)
{
    return ram_pages_parse(value, field, err);
}

static int policy_set(void *field, const char *value, struct err *err)
{
    return ram_policy_parse(value, field, err);
}

static int (*const setters[OPTION_KIND_COUNT])(void *field,
                                               const char *value,
                                               struct err *err) = {
    [OPTION_TEXT] = text_set,     [OPTION_BYTES] = bytes_set,
    [OPTION_NUMBER] = number_set, [OPTION_CPU] = cpu_set,
    [OPTION_FLAG] = flag_set,     [OPTION_NAME] = name_set,
    [OPTION_WHERE] = where_set,   [OPTION_MAC] = mac_set,
    [OPTION_DIGEST] = digest_set, [OPTION_PAGES] = pages_set,
    [OPTION_POLICY] = policy_set, [OPTION_ID] = id_set,
};

/* ---- disks and NICs: lists of key=value ---- */

/* One "key=value" of a list into the struct that the rows describe. */
static int pair_set(void *target,
                    const struct option_row *pair_rows,
                    unsigned row_count,
                    char *pair,
                    struct err *err)
{
    char *value = strchr(pair, '=');
    if (value == NULL) {
        return err_set(err, BERTH_EINVALID, "%.80s: not key=value", pair);
    }
    *value++ = '\0';
    for (unsigned i = 0; i < row_count; i++) {
        if (strcmp(pair, pair_rows[i].name) == 0) {
            int r = setters[pair_rows[i].kind]((char *)target + pair_rows[i].offset,
                                               value, err);
            return r < 0 ? err_wrap(err, r, "%s", pair) : 0;
        }
    }
    return err_set(err, BERTH_EINVALID, "%.80s: no such key", pair);
}

static int list_set(void *target,
                    const struct option_row *pair_rows,
                    unsigned row_count,
                    const char *list,
                    struct err *err)
{
    while (*list != '\0') {
        char pair[VMM_WHERE_SIZE + 32];
        const size_t length = strcspn(list, ",");
        if (length >= sizeof(pair)) {
            return err_set(err, BERTH_EINVALID, "%.40s...: too long", list);
        }
        memcpy(pair, list, length);
        pair[length] = '\0';
        int r = pair_set(target, pair_rows, row_count, pair, err);
        if (r < 0) {
            return r;
        }
        list += length;
        list += *list == ',' ? 1 : 0;
    }
    return 0;
}

static const char *limits_fault(const struct rate_specs *limits)
{
    return rate_specs_valid(limits) ? NULL
                                    : "what may come at once belongs to a limit a second";
}

/* An id belongs to a slot, which one device alone can have. */
static const char *
slot_fault(const struct vmm_options *options, uint64_t slot, const char *id)
{
    if (slot == 0) {
        return id[0] == '\0' ? NULL : "id belongs to a slot";
    }
    if (slot > UINT8_MAX || !pci_plug_has((unsigned)slot)) {
        return "slot: not 24 to 31";
    }
    if (id[0] == '\0') {
        return "id is missing";
    }
    for (unsigned i = 0; i < options->disk_count; i++) {
        if (options->disks[i].slot == slot) {
            return "slot: another device is there";
        }
        if (strcmp(options->disks[i].id, id) == 0) {
            return "id: another device has it";
        }
    }
    for (unsigned i = 0; i < options->nic_count; i++) {
        if (options->nics[i].slot == slot) {
            return "slot: another device is there";
        }
        if (strcmp(options->nics[i].id, id) == 0) {
            return "id: another device has it";
        }
    }
    return NULL;
}

/* Two disks that the guest could not tell apart. */
static bool serials_are_same(const char *name, const char *other)
{
    char serials[2][VIRTIO_BLOCK_SERIAL_SIZE + 1];
    virtio_block_serial(name, serials[0]);
    virtio_block_serial(other, serials[1]);
    return strcmp(serials[0], serials[1]) == 0;
}

const char *vmm_disk_name_fault(const char *name, const char *other)
{
    if (!name_valid(name)) {
        return "not a name: a lower-case letter, and up to 62 more, digits and dashes";
    }
    if (other != NULL && strcmp(name, other) == 0) {
        return "there is another disk of this name";
    }
    return other != NULL && serials_are_same(name, other)
               ? "another disk would have the same serial number: rename one"
               : NULL;
}

static const char *disk_fault(const struct vmm_options *options,
                              const struct vmm_disk_option *disk)
{
    if (disk->name[0] == '\0') {
        return "name is missing";
    }
    for (unsigned i = 0; i < options->disk_count; i++) {
        const char *fault = vmm_disk_name_fault(disk->name, options->disks[i].name);
        if (fault != NULL) {
            return fault;
        }
    }
    if ((disk->raw[0] == '\0') == (disk->overlay[0] == '\0')) {
        return "either raw or overlay has to be there";
    }
    if (disk->is_read_only && disk->raw[0] == '\0') {
        return "only a raw disk can be read-only";
    }
    if (disk->base[0] != '\0' && disk->overlay[0] == '\0') {
        return "base belongs to an overlay";
    }
    if (!digest_is_zero(&disk->digest) && disk->base[0] == '\0') {
        return "digest belongs to a base";
    }
    const char *fault = slot_fault(options, disk->slot, disk->id);
    return fault != NULL ? fault : limits_fault(&disk->limits);
}

static int disk_add(struct vmm_options *options, const char *list, struct err *err)
{
    struct vmm_disk_option disk = {0};
    int r = list_set(&disk, disk_rows, ARRAY_COUNT(disk_rows), list, err);
    unsigned count = 0;
    for (unsigned i = 0; i < options->disk_count; i++) {
        count += options->disks[i].slot == 0;
    }
    if (r == 0 && disk.slot == 0 && count == DISKS_MAX) {
        return err_set(err, BERTH_EINVALID, "more than %d disks", DISKS_MAX);
    }
    const char *fault = r < 0 ? NULL : disk_fault(options, &disk);
    if (fault != NULL) {
        return err_set(err, BERTH_EINVALID, "%.80s: %s", list, fault);
    }
    if (r == 0) {
        options->disks[options->disk_count++] = disk;
    }
    return r;
}

static int nic_add(struct vmm_options *options, const char *list, struct err *err)
{
    struct vmm_nic_option nic = {.mtu = MTU_DEFAULT, .queues = 1};
    int r = list_set(&nic, nic_rows, ARRAY_COUNT(nic_rows), list, err);
    unsigned count = 0;
    for (unsigned i = 0; i < options->nic_count; i++) {
        count += options->nics[i].slot == 0;
    }
    if (r == 0 && nic.slot == 0 && count == NICS_MAX) {
        return err_set(err, BERTH_EINVALID, "more than %d NICs", NICS_MAX);
    }
    if (r == 0 && (nic.tap[0] == '\0' || nic.mac == 0)) {
        return err_set(err, BERTH_EINVALID, "%.80s: tap or mac is missing", list);
    }
    if (r == 0 && (nic.mtu < MTU_MIN || nic.mtu > MTU_MAX)) {
        return err_set(err, BERTH_EINVALID, "mtu: not %u to %u", MTU_MIN, MTU_MAX);
    }
    if (r == 0 && (nic.queues < 1 || nic.queues > VIRTIO_NET_PAIRS_MAX)) {
        return err_set(err, BERTH_EINVALID, "queues: not 1 to %u", VIRTIO_NET_PAIRS_MAX);
    }
    if (r == 0) {
        const char *fault = slot_fault(options, nic.slot, nic.id);
        r = fault != NULL ? err_set(err, BERTH_EINVALID, "%.80s: %s", list, fault) : 0;
    }
    for (unsigned i = 0; r == 0 && i < ARRAY_COUNT(nic.limits); i++) {
        const char *fault = limits_fault(&nic.limits[i]);
        r = fault != NULL ? err_set(err, BERTH_EINVALID, "%.80s: %s", list, fault) : 0;
    }
    if (r == 0) {
        options->nics[options->nic_count++] = nic;
    }
    return r;
}

static int vsock_take(struct vmm_options *options, const char *list, struct err *err)
{
    struct vmm_vsock_option vsock = {0};
    if (options->vsock.cid != 0) {
        return err_set(err, BERTH_EINVALID, "there is one already");
    }
    const int r = list_set(&vsock, vsock_rows, ARRAY_COUNT(vsock_rows), list, err);
    if (r == 0 && (vsock.cid < VSOCK_CID_MIN || vsock.cid > VSOCK_CID_MAX)) {
        return err_set(err, BERTH_EINVALID,
                       "%.80s: cid has to be %" PRIu64 " to %" PRIu64, list,
                       VSOCK_CID_MIN, VSOCK_CID_MAX);
    }
    if (r == 0 && vsock.listen[0] == '\0' && vsock.dial[0] == '\0') {
        return err_set(err, BERTH_EINVALID, "%.80s: both listen and dial are missing",
                       list);
    }
    if (r == 0) {
        options->vsock = vsock;
    }
    return r;
}

static const char *memory_fault(const struct memory_option *memory)
{
    const enum ram_policy policy = memory->backing.policy;
    if (memory->size_bytes == 0) {
        return "size is missing";
    }
    if (memory->max_bytes != 0 && memory->max_bytes < memory->size_bytes) {
        return "max is below size";
    }
    if (memory->node == NO_NODE) {
        return policy == RAM_POLICY_BIND || policy == RAM_POLICY_PREFER
                   ? "node is missing"
                   : NULL;
    }
    if (policy == RAM_POLICY_INTERLEAVE) {
        return "interleave is over all nodes";
    }
    return memory->node >= RAM_NODES_MAX ? "there is no such node" : NULL;
}

/* A size alone, or a list. */
static int memory_take(struct vmm_options *options, const char *list, struct err *err)
{
    struct memory_option memory = {.backing.pages = RAM_PAGES_TRANSPARENT,
                                   .node = NO_NODE};
    int r = strchr(list, '=') == NULL
                ? parse_bytes(list, &memory.size_bytes, err)
                : list_set(&memory, memory_rows, ARRAY_COUNT(memory_rows), list, err);
    const char *fault = r < 0 ? NULL : memory_fault(&memory);
    if (fault != NULL) {
        return err_set(err, BERTH_EINVALID, "%.80s: %s", list, fault);
    }
    if (r < 0) {
        return r;
    }
    if (memory.node != NO_NODE) {
        memory.backing.node = (unsigned)memory.node;
        memory.backing.policy = memory.backing.policy == RAM_POLICY_NONE
                                    ? RAM_POLICY_BIND
                                    : memory.backing.policy;
    }
    options->memory_bytes = memory.size_bytes;
    options->plug_bytes =
        memory.max_bytes != 0 ? memory.max_bytes - memory.size_bytes : 0;
    options->backing = memory.backing;
    return 0;
}

/* A number alone, or a list. How many there can be the machine says. */
static int cpus_take(struct vmm_options *options, const char *list, struct err *err)
{
    struct cpus_option cpus = {0};
    int r = strchr(list, '=') == NULL
                ? parse_u64(list, &cpus.count, err)
                : list_set(&cpus, cpus_rows, ARRAY_COUNT(cpus_rows), list, err);
    if (r == 0 && cpus.max != 0 && cpus.max < cpus.count) {
        return err_set(err, BERTH_EINVALID, "%.80s: max is below count", list);
    }
    if (r == 0 && cpus.max != 0 && cpus.count == 0) {
        return err_set(err, BERTH_EINVALID, "%.80s: count is missing", list);
    }
    if (r == 0) {
        options->cpu_count = cpus.count;
        options->plug_cpus = cpus.max != 0 ? cpus.max - cpus.count : 0;
    }
    return r;
}

static int overlay_take(struct vmm_options *options, const char *list, struct err *err)
{
    struct vmm_overlay_option overlay = {0};
    int r = list_set(&overlay, overlay_rows, ARRAY_COUNT(overlay_rows), list, err);
    if (r == 0 && (overlay.file[0] == '\0' ||
                   (overlay.base[0] == '\0' && overlay.size_bytes == 0))) {
        return err_set(err, BERTH_EINVALID, "%.80s: file, or both base and size, missing",
                       list);
    }
    if (r == 0) {
        options->make_overlay = overlay;
    }
    return r;
}

static int export_take(struct vmm_options *options, const char *list, struct err *err)
{
    struct vmm_export_option taken = {0};
    int r = list_set(&taken, export_rows, ARRAY_COUNT(export_rows), list, err);
    if (r == 0 && (taken.file[0] == '\0' || taken.overlay[0] == '\0')) {
        return err_set(err, BERTH_EINVALID, "%.80s: file or overlay is missing", list);
    }
    if (r == 0 && !digest_is_zero(&taken.digest) && taken.base[0] == '\0') {
        return err_set(err, BERTH_EINVALID, "%.80s: digest belongs to a base", list);
    }
    if (r == 0) {
        options->export_disk = taken;
    }
    return r;
}

/* ---- the whole ---- */

static const struct option_row *row_find(const char *word)
{
    for (unsigned i = 0; i < ARRAY_COUNT(rows); i++) {
        if (strncmp(word, "--", 2) == 0 && strcmp(word + 2, rows[i].name) == 0) {
            return &rows[i];
        }
    }
    return NULL;
}

static int value_set(struct vmm_options *options,
                     const struct option_row *row,
                     const char *value,
                     struct err *err)
{
    static int (*const takers[OPTION_KIND_COUNT])(struct vmm_options * options,
                                                  const char *list, struct err *err) = {
        [OPTION_DISK] = disk_add,        [OPTION_NIC] = nic_add,
        [OPTION_OVERLAY] = overlay_take, [OPTION_VSOCK] = vsock_take,
        [OPTION_MEMORY] = memory_take,   [OPTION_CPUS] = cpus_take,
        [OPTION_EXPORT] = export_take,
    };
    int r = takers[row->kind] != NULL
                ? takers[row->kind](options, value, err)
                : setters[row->kind]((char *)options + row->offset, value, err);
    return r < 0 ? err_wrap(err, r, "--%s", row->name) : 0;
}

int vmm_options_parse(int argc,
                      char *const argv[],
                      struct vmm_options *ret_options,
                      struct err *err)
{
    struct vmm_options options = {.name = "vm",
                                  .kvm = "/dev/kvm",
                                  .cmdline = "console=ttyS0",
                                  .serial = "stdio",
                                  .cpu_count = 1,
                                  .memory_bytes = UINT64_C(256) << 20,
                                  .backing.pages = RAM_PAGES_TRANSPARENT};
    for (int i = 1; i < argc; i++) {
        const struct option_row *row = row_find(argv[i]);
        if (row == NULL) {
            return err_set(err, BERTH_EINVALID, "%.100s: no such option; see --help",
                           argv[i]);
        }
        if (row->value != NULL && ++i == argc) {
            return err_set(err, BERTH_EINVALID, "--%s: %s is missing", row->name,
                           row->value);
        }
        int r = value_set(&options, row, row->value != NULL ? argv[i] : NULL, err);
        if (r < 0) {
            return r;
        }
    }
    if (options.kernel == NULL && !options.wants_help && !options.wants_probe &&
        options.make_overlay.file[0] == '\0' && options.export_disk.file[0] == '\0') {
        return err_set(err, BERTH_EINVALID,
                       "--kernel is missing: no disk is booted by itself, for "
                       "there is no firmware; see --help");
    }
    if (options.first_uid != 0 && options.first_uid < HOST_VM_UIDS_MIN) {
        return err_set(err, BERTH_EINVALID, "--uids: 0, or at least %u",
                       HOST_VM_UIDS_MIN);
    }
    if (options.first_uid > HOST_VM_UIDS_MAX) {
        return err_set(err, BERTH_EINVALID, "--uids: at most %u", HOST_VM_UIDS_MAX);
    }
    if ((options.is_lazy || options.is_mapped) && options.incoming == NULL) {
        return err_set(err, BERTH_EINVALID, "%s belongs to --incoming",
                       options.is_lazy ? "--lazy" : "--mapped");
    }
    if (options.is_lazy && options.is_mapped) {
        return err_set(err, BERTH_EINVALID, "--lazy or --mapped, not both");
    }
    *ret_options = options;
    return 0;
}

/* The help of an option may have several lines. */
static void row_help(FILE *out, const struct option_row *row)
{
    char left[40];
    const char *help = row->help;
    (void)snprintf(left, sizeof(left), "--%s %s", row->name,
                   row->value != NULL ? row->value : "");
    while (*help != '\0') {
        const size_t length = strcspn(help, "\n");
        (void)fprintf(out, "  %-20s %.*s\n", left, (int)length, help);
        left[0] = '\0';
        help += length;
        help += *help == '\n' ? 1 : 0;
    }
}

void vmm_options_help(FILE *out)
{
    (void)fputs("usage: berth-vmm --kernel FILE [OPTION...]\n\n"
                "Runs one virtual machine on KVM.\n\n",
                out); /* a broken pipe is the reader's choice */
    for (unsigned i = 0; i < ARRAY_COUNT(rows); i++) {
        row_help(out, &rows[i]);
    }
    (void)fputs(
        "\nEach FILE, DEVICE, TAP and WHERE may be fd:N, a descriptor that is open "
        "already:\nthen nothing is looked up by name.\n",
        out);
}
