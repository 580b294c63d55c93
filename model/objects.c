#include "model/objects.h"

#include "base/cleanup.h"
#include "base/err.h"
#include "base/parse_number.h"
#include "model/expression.h"
#include "model/field.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PATH_SIZE    256 /* eight nested names of at most 20 characters, and indices */
#define SECTOR_BYTES UINT64_C(512)

/* ---- words of enums ---- */

const char *const role_names[] = {"", "viewer", "operator", "admin", "join", NULL};
const char *const engine_names[] = {"auto", "qemu", "kvm", "fake", NULL};
const char *const disk_source_names[] = {"image", "empty", NULL};
const char *const cpu_baseline_names[] = {"host", "x86-64-v2", "x86-64-v3", "x86-64-v4",
                                          NULL};
const char *const memory_pages_names[] = {"normal", "huge", NULL};
const char *const spread_scope_names[] = {"none", "host", NULL};
const char *const restart_policy_names[] = {"on-failure", "always", "never", NULL};
const char *const host_failure_names[] = {"restart-elsewhere", "wait", NULL};
const char *const host_drain_names[] = {"restart", "stop", NULL};
const char *const snapshot_phase_names[] = {"making",   "ready", "failed",
                                            "deleting", "lost",  NULL};
const char *const metric_names[] = {"vm.cpu.utilization", NULL};
const char *const phase_names[] = {"pending", "placed",    "starting", "running",
                                   "ready",   "migrating", "stopping", "stopped",
                                   "failed",  "lost",      NULL};
const char *const power_names[] = {"on", "off", NULL};
const char *const stop_intent_names[] = {"none",   "stop",    "move",
                                         "delete", "restart", NULL};
const char *const egress_names[] = {"nat", "none", NULL};
const char *const artifact_role_names[] = {"kernel", "initrd", "disk", NULL};
const char *const host_phase_names[] = {"ready", "suspect", "lost", "removed", NULL};
const char *const voter_role_names[] = {"none", "standby", "voter", NULL};
const char *const kvm_kind_names[] = {"none", "emulated", "native", NULL};
const char *const operation_phase_names[] = {"running", "done", "failed", NULL};

/* ---- tables of fields ---- */

RECORD_DEFINE(metadata, METADATA_FIELDS)
RECORD_DEFINE(quota, QUOTA_FIELDS)
LEVEL_NEXT(_Static_assert(sizeof(struct quota) == 48, "as other files see it");)
RECORD_DEFINE(usage, USAGE_FIELDS)
RECORD_DEFINE(member, MEMBER_FIELDS)
RECORD_DEFINE(tenant_spec, TENANT_SPEC_FIELDS)
RECORD_DEFINE(tenant_status, TENANT_STATUS_FIELDS)
RECORD_DEFINE(tenant, TENANT_FIELDS)
RECORD_DEFINE(cpu_spec, CPU_SPEC_FIELDS)
RECORD_DEFINE(memory_spec, MEMORY_SPEC_FIELDS)
RECORD_DEFINE(disk_limit, DISK_LIMIT_FIELDS)
RECORD_DEFINE(nic_limit, NIC_LIMIT_FIELDS)
RECORD_DEFINE(disk_spec, DISK_SPEC_FIELDS)
RECORD_DEFINE(nic_spec, NIC_SPEC_FIELDS)
RECORD_DEFINE(spread_spec, SPREAD_SPEC_FIELDS)
RECORD_DEFINE(placement_spec, PLACEMENT_SPEC_FIELDS)
RECORD_DEFINE(restart_spec, RESTART_SPEC_FIELDS)
RECORD_DEFINE(lifecycle_spec, LIFECYCLE_SPEC_FIELDS)
RECORD_DEFINE(probe_spec, PROBE_SPEC_FIELDS)
RECORD_DEFINE(health_spec, HEALTH_SPEC_FIELDS)
RECORD_DEFINE(machine_spec, MACHINE_SPEC_FIELDS)
RECORD_DEFINE(template_status, TEMPLATE_STATUS_FIELDS)
RECORD_DEFINE(template, TEMPLATE_FIELDS)
RECORD_DEFINE(template_ref, TEMPLATE_REF_FIELDS)
RECORD_DEFINE(scale_target, SCALE_TARGET_FIELDS)
RECORD_DEFINE(scale_up, SCALE_UP_FIELDS)
RECORD_DEFINE(scale_down, SCALE_DOWN_FIELDS)
RECORD_DEFINE(autoscale, AUTOSCALE_FIELDS)
RECORD_DEFINE(group_spec, GROUP_SPEC_FIELDS)
RECORD_DEFINE(group_status, GROUP_STATUS_FIELDS)
RECORD_DEFINE(group, GROUP_FIELDS)
RECORD_DEFINE(vm_spec, VM_SPEC_FIELDS)
RECORD_DEFINE(vm_nic, VM_NIC_FIELDS)
RECORD_DEFINE(vm_status, VM_STATUS_FIELDS)
RECORD_DEFINE(vm, VM_FIELDS)
RECORD_DEFINE(ipv4_spec, IPV4_SPEC_FIELDS)
RECORD_DEFINE(network_spec, NETWORK_SPEC_FIELDS)
RECORD_DEFINE(network_site, NETWORK_SITE_FIELDS)
RECORD_DEFINE(network_status, NETWORK_STATUS_FIELDS)
RECORD_DEFINE(snapshot_spec, SNAPSHOT_SPEC_FIELDS)
RECORD_DEFINE(snapshot_status, SNAPSHOT_STATUS_FIELDS)
RECORD_DEFINE(snapshot, SNAPSHOT_FIELDS)
RECORD_DEFINE(network, NETWORK_FIELDS)
RECORD_DEFINE(artifact, ARTIFACT_FIELDS)
RECORD_DEFINE(image_spec, IMAGE_SPEC_FIELDS)
RECORD_DEFINE(image, IMAGE_FIELDS)
RECORD_DEFINE(volume_spec, VOLUME_SPEC_FIELDS)
RECORD_DEFINE(disk, DISK_FIELDS)
RECORD_DEFINE(host_spec, HOST_SPEC_FIELDS)
RECORD_DEFINE(host_status, HOST_STATUS_FIELDS)
RECORD_DEFINE(host, HOST_FIELDS)
RECORD_DEFINE(token_spec, TOKEN_SPEC_FIELDS)
RECORD_DEFINE(token, TOKEN_FIELDS)
RECORD_DEFINE(operation_spec, OPERATION_SPEC_FIELDS)
RECORD_DEFINE(operation_status, OPERATION_STATUS_FIELDS)
RECORD_DEFINE(operation, OPERATION_FIELDS)

/* ---- kinds ---- */

#define KIND_ROW(KIND, Name, stem, scope, writable) \
    [KIND_##KIND] = {KIND_##KIND, Name, #stem, #stem "s", scope, writable, &stem##_record}

static const struct kind_info kind_rows[KIND_COUNT] = {
    KIND_ROW(TENANT, "Tenant", tenant, SCOPE_CLUSTER, true),
    KIND_ROW(TEMPLATE, "Template", template, SCOPE_TENANT, true),
    KIND_ROW(GROUP, "Group", group, SCOPE_TENANT, true),
    KIND_ROW(VM, "VM", vm, SCOPE_TENANT, true),
    KIND_ROW(NETWORK, "Network", network, SCOPE_TENANT, true),
    KIND_ROW(IMAGE, "Image", image, SCOPE_EITHER, true),
    KIND_ROW(DISK, "Disk", disk, SCOPE_TENANT, true),
    KIND_ROW(HOST, "Host", host, SCOPE_CLUSTER, false),
    KIND_ROW(TOKEN, "Token", token, SCOPE_CLUSTER, false),
    KIND_ROW(OPERATION, "Operation", operation, SCOPE_CLUSTER, false),
    KIND_ROW(SNAPSHOT, "Snapshot", snapshot, SCOPE_TENANT, false),
};

const struct kind_info *kind_info(enum kind kind)
{
    return kind > KIND_NONE && kind < KIND_COUNT ? &kind_rows[kind] : NULL;
}

const struct kind_info *kind_info_by_name(const char *name)
{
    for (unsigned i = KIND_NONE + 1; i < KIND_COUNT; i++) {
        const struct kind_info *info = &kind_rows[i];
        if (strcmp(name, info->name) == 0 || strcmp(name, info->word) == 0 ||
            strcmp(name, info->plural) == 0) {
            return info;
        }
    }
    return NULL;
}

void *object_new(enum kind kind)
{
    const struct kind_info *info = kind_info(kind);
    void *object = info != NULL ? malloc(info->record->size_bytes) : NULL;
    if (object != NULL) {
        record_init(info->record, object);
    }
    return object;
}

void object_free(enum kind kind, void *object)
{
    const struct kind_info *info = kind_info(kind);
    if (info != NULL) {
        record_free(info->record, object);
    }
}

/* ---- names, MACs, networks ---- */

bool name_valid(const char *name)
{
    size_t size = strnlen(name, NAME_SIZE);
    if (size == 0 || size == NAME_SIZE || name[0] < 'a' || name[0] > 'z' ||
        name[size - 1] == '-') {
        return false;
    }
    return strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-") == size;
}

uint64_t machine_disk_bytes(const struct machine_spec *machine)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < machine->disks.count; i++) {
        const struct disk_spec *disk = &machine->disks.items[i];
        sum += disk->read_only ? 0 : disk->size_bytes;
    }
    return sum;
}

uint64_t machine_mcpu(const struct machine_spec *machine)
{
    const struct cpu_spec *cpu = &machine->cpu;
    return UINT64_C(1000) * (cpu->max > cpu->count ? cpu->max : cpu->count);
}

uint64_t machine_pool_bytes(const struct machine_spec *machine)
{
    return machine->memory.pages == MEMORY_PAGES_HUGE ? machine->memory.size_bytes : 0;
}

uint64_t machine_plain_bytes(const struct machine_spec *machine)
{
    return machine->memory.size_bytes - machine_pool_bytes(machine);
}

uint64_t machine_snapshot_bytes(const struct machine_spec *machine)
{
    return machine->memory.size_bytes + machine_disk_bytes(machine);
}

bool image_memory_lacks(const struct image *image,
                        const struct machine_spec *machine,
                        char ret_message[IMAGE_LACKS_SIZE],
                        char ret_hint[IMAGE_HINT_SIZE])
{
    char need[NUMBER_TEXT_SIZE];
    char has[NUMBER_TEXT_SIZE];
    if (machine->memory.size_bytes >= image->spec.memory_bytes) {
        return false;
    }
    format_bytes(image->spec.memory_bytes, need);
    format_bytes(machine->memory.size_bytes, has);
    (void)snprintf(ret_message, IMAGE_LACKS_SIZE,
                   "spec.memory.size: %s is less than image %s needs to boot: its "
                   "spec.minMemory is %s",
                   has, image->meta.name, need);
    (void)snprintf(ret_hint, IMAGE_HINT_SIZE,
                   "size: %s or more, or a smaller minMemory where the image boots with "
                   "it",
                   need);
    return true;
}

/* 52 is a locally administered unicast prefix; 54 + NIC, then the uid's low 32 bits. */
uint64_t vm_mac(uint64_t uid, unsigned nic)
{
    return UINT64_C(0x52) << 40 | (uint64_t)((0x54 + nic) & 0xff) << 32 |
           (uid & UINT32_MAX);
}

uint32_t cidr_address(uint64_t cidr)
{
    return (uint32_t)(cidr >> 8);
}

uint32_t cidr_prefix(uint64_t cidr)
{
    return (uint32_t)(cidr & 0xff);
}

/* Mask of the host part. */
static uint32_t cidr_host_mask(uint64_t cidr)
{
    uint32_t prefix = cidr_prefix(cidr);
    return prefix == 0 ? UINT32_MAX : prefix >= 32 ? 0 : UINT32_MAX >> prefix;
}

uint32_t cidr_gateway(const struct network *network)
{
    const struct ipv4_spec *ipv4 = &network->spec.ipv4;
    return ipv4->gateway != 0 ? ipv4->gateway : cidr_address(ipv4->cidr) + 1;
}

bool cidr_contains(uint64_t cidr, uint32_t address)
{
    return ((cidr_address(cidr) ^ address) & ~cidr_host_mask(cidr)) == 0;
}

/* ---- object_check: the walk over a table ---- */

/* Where in the object the check stands, and to whom it reports. */
struct check {
    object_check_report *report;
    void *context;
    unsigned fault_count;
    size_t path_size;
    char path[PATH_SIZE];
};

/* Goes one step down (".name" or "[2]"); the size to give to path_leave. */
static size_t path_enter(struct check *check, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static size_t path_enter(struct check *check, const char *format, ...)
{
    size_t before = check->path_size;
    size_t left = sizeof(check->path) - before;
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(check->path + before, left, format, arguments);
    va_end(arguments);
    if (length > 0) {
        check->path_size += (size_t)length < left ? (size_t)length : left - 1;
    }
    return before;
}

/* Likewise, to a member: each member of each object comes by here. */
static size_t path_enter_member(struct check *check, const char *member)
{
    size_t before = check->path_size;
    size_t room = sizeof(check->path) - 1 - before;
    char *to = check->path + before;
    if (before > 0 && room > 0) {
        *to++ = '.';
        room--;
    }
    size_t length = strnlen(member, room);
    memcpy(to, member, length);
    to[length] = '\0';
    check->path_size = (size_t)(to + length - check->path);
    return before;
}

static void path_leave(struct check *check, size_t before)
{
    check->path_size = before;
    check->path[before] = '\0';
}

/* Reports a fault of the place where the check stands. */
static void fault_here(struct check *check, const char *message, const char *hint)
{
    check->report(check->context, check->path, message, hint);
    check->fault_count++;
}

/* Reports a fault of a member below. */
static void
fault_at(struct check *check, const char *member, const char *message, const char *hint)
{
    size_t before = path_enter_member(check, member);
    fault_here(check, message, hint);
    path_leave(check, before);
}

#define NAME_HINT "1 to 63 of a-z, 0-9 and -, starting with a letter, not ending with -"

static void check_name(struct check *check, const struct field *field, const char *name)
{
    if (name[0] == '\0') {
        if ((field->flags & FIELD_REQUIRED) != 0) {
            fault_here(check, "is missing", field->doc);
        }
    } else if (!name_valid(name)) {
        fault_here(check, "is not a valid name", NAME_HINT);
    }
}

static void
check_number(struct check *check, const struct field *field, const void *member)
{
    struct err err = {0};
    uint64_t value = field_number(field, member);
    bool required = (field->flags & FIELD_REQUIRED) != 0;
    if (field_check_range(field, value, &err) == 0) {
        return;
    }
    if (required && value == field->fallback) {
        fault_here(check, "is missing", field->doc);
    } else {
        fault_here(check, err.text, NULL);
    }
}

static void check_text(struct check *check, const struct field *field, const char *text)
{
    struct err err = {0};
    if (text == NULL) {
        if ((field->flags & FIELD_REQUIRED) != 0) {
            fault_here(check, "is missing", field->doc);
        }
        return;
    }
    if (field_check_range(field, strlen(text), &err) < 0) {
        fault_here(check, err.text, NULL);
    }
    for (const char *at = text; *at != '\0'; at++) {
        if ((unsigned char)*at < ' ' || *at == 0x7f) {
            fault_here(check, "holds a control character", "write it on one line");
            return;
        }
    }
}

static void check_count(struct check *check, const struct field *field, uint32_t count)
{
    char message[64];
    if (count > field_count_max(field)) {
        (void)snprintf(message, sizeof(message), "has %" PRIu32 " items, at most %zu",
                       count, field_count_max(field)); /* fits */
        fault_here(check, message, NULL);
    } else if (count < field->min) {
        fault_here(check, "is missing", field->doc);
    }
}

static void check_rule(struct check *check, const char *rule)
{
    struct expression expression;
    struct err err = {0};
    if (expression_compile(rule, &expression, NULL, &err) < 0) {
        fault_here(check, err.text, "for example: host.zone in [r1, r2]");
    }
}

static void
check_texts(struct check *check, const struct field *field, const struct text_list *list)
{
    check_count(check, field, list->count);
    for (uint32_t i = 0; i < list->count; i++) {
        size_t before = path_enter(check, "[%" PRIu32 "]", i);
        if (field->unit == UNIT_EXPRESSION) {
            check_rule(check, list->items[i]);
        }
        path_leave(check, before);
    }
}

static bool is_alphanumeric(char byte)
{
    return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
           (byte >= '0' && byte <= '9');
}

static bool label_key_valid(const char *key)
{
    size_t size = strnlen(key, NAME_SIZE);
    if (size == 0 || size == NAME_SIZE || !is_alphanumeric(key[0]) ||
        !is_alphanumeric(key[size - 1])) {
        return false;
    }
    for (size_t i = 0; i < size; i++) {
        if (!is_alphanumeric(key[i]) && strchr("-_./", key[i]) == NULL) {
            return false;
        }
    }
    return true;
}

static void check_labels(struct check *check,
                         const struct field *field,
                         const struct label_list *labels)
{
    check_count(check, field, labels->count);
    for (uint32_t i = 0; i < labels->count; i++) {
        const struct label *label = &labels->items[i];
        if (!label_key_valid(label->key)) {
            fault_at(check, label->key, "is not a valid key",
                     "1 to 63 letters, digits, -, _, . and /; a letter or digit at "
                     "both ends");
        }
        if (label->value != NULL && strlen(label->value) > LABEL_VALUE_MAX) {
            fault_at(check, label->key, "has too long a value", NULL);
        }
        for (uint32_t j = 0; j < i; j++) {
            if (strcmp(labels->items[j].key, label->key) == 0) {
                fault_at(check, label->key, "is given twice", NULL);
                break;
            }
        }
    }
}

static void
check_record(struct check *check, const struct record *record, const void *at);

/* NOLINTBEGIN(misc-no-recursion): as deep as our own tables are nested */
static void
check_list(struct check *check, const struct field *field, const struct record_list *list)
{
    check_count(check, field, list->count);
    for (uint32_t i = 0; i < list->count; i++) {
        size_t before = path_enter(check, "[%" PRIu32 "]", i);
        check_record(check, field->record,
                     (const char *)list->items + (size_t)i * field->record->size_bytes);
        path_leave(check, before);
    }
}

static void
check_member(struct check *check, const struct field *field, const void *member)
{
    switch (field->type) {
    case FIELD_NAME:
        check_name(check, field, member);
        break;
    case FIELD_TEXT:
        check_text(check, field, *(char *const *)member);
        break;
    case FIELD_TEXTS:
        check_texts(check, field, member);
        break;
    case FIELD_LABELS:
        check_labels(check, field, member);
        break;
    case FIELD_RECORD:
        check_record(check, field->record, member);
        break;
    case FIELD_LIST:
        check_list(check, field, member);
        break;
    case FIELD_DIGEST:
    case FIELD_BLOB:
        break;
    default:
        check_number(check, field, member);
        break;
    }
}

/* What the table says of each field that users write. */
static void check_record(struct check *check, const struct record *record, const void *at)
{
    for (unsigned i = 0; i < record->field_count; i++) {
        const struct field *field = &record->fields[i];
        if ((field->flags & FIELD_SERVER) == 0) {
            size_t before = path_enter_member(check, field->name);
            check_member(check, field, field_at(field, at));
            path_leave(check, before);
        }
    }
}

/* NOLINTEND(misc-no-recursion) */

/* ---- object_check: what holds between fields ---- */

static void check_scope(struct check *check,
                        const struct kind_info *info,
                        const struct metadata *meta)
{
    if (info->scope == SCOPE_CLUSTER && meta->tenant[0] != '\0') {
        fault_at(check, "metadata.tenant", "does not belong here",
                 "objects of this kind belong to the whole cluster");
    }
    if (info->scope == SCOPE_TENANT && meta->tenant[0] == '\0') {
        fault_at(check, "metadata.tenant", "is missing",
                 "the tenant that owns it, such as \"" DEFAULT_TENANT "\"");
    }
}

/* Reports items of a list whose name (a NAME at offset 0 of each) came before. */
static void check_unique(struct check *check,
                         const char *list_name,
                         const void *items,
                         uint32_t count,
                         size_t item_size)
{
    const char *names = items;
    for (uint32_t i = 1; i < count; i++) {
        for (uint32_t j = 0; j < i; j++) {
            if (strncmp(names + i * item_size, names + j * item_size, NAME_SIZE) == 0 &&
                names[i * item_size] != '\0') {
                size_t before = path_enter(check, ".%s[%" PRIu32 "]", list_name, i);
                fault_at(check, "name", "is used twice", "give each its own name");
                path_leave(check, before);
                break;
            }
        }
    }
}
_Static_assert(offsetof(struct disk_spec, name) == 0 &&
                   offsetof(struct nic_spec, name) == 0,
               "check_unique finds the name first");

static void check_machine_disks(struct check *check, const struct machine_spec *machine)
{
    for (uint32_t i = 0; i < machine->disks.count; i++) {
        const struct disk_spec *disk = &machine->disks.items[i];
        size_t before = path_enter(check, ".disks[%" PRIu32 "]", i);
        if (disk->size_bytes % SECTOR_BYTES != 0) {
            fault_at(check, "size", "is not a whole number of 512-byte sectors",
                     "use MiB or GiB");
        }
        if (disk->read_only && disk->from != DISK_FROM_IMAGE) {
            fault_at(check, "readOnly", "is for the image's disk", "from: image");
        }
        path_leave(check, before);
    }
}

/* The words of a rate and of its burst. */
struct rate_words {
    const char *rate;
    const char *burst;
    uint64_t least;
    const char *least_hint;
    const char *missing_hint;
};

#define BYTES_LEAST      "64KiB/s or more; without it there is no limit"
#define OPERATIONS_LEAST "10 or more; without it there is no limit"

static const struct rate_words bandwidth_words = {"bandwidth", "burst", LIMIT_BYTES_LEAST,
                                                  BYTES_LEAST, "give bandwidth, too"};
static const struct rate_words iops_words = {"iops", "iopsBurst", LIMIT_OPERATIONS_LEAST,
                                             OPERATIONS_LEAST, "give iops, too"};
static const struct rate_words packets_words = {"packets", "packetsBurst",
                                                LIMIT_OPERATIONS_LEAST, OPERATIONS_LEAST,
                                                "give packets, too"};

static void check_rate(struct check *check,
                       const struct rate_words *words,
                       uint64_t rate,
                       uint64_t burst)
{
    if (rate != 0 && rate < words->least) {
        fault_at(check, words->rate, "is so little that a guest would give the device up",
                 words->least_hint);
    }
    if (burst != 0 && rate == 0) {
        fault_at(check, words->burst, "has no rate to go with it", words->missing_hint);
    } else if (burst != 0 && burst < rate) {
        fault_at(check, words->burst, "is less than its rate gives in a second",
                 "give more, or leave it out");
    }
}

static void check_limits(struct check *check, const struct machine_spec *machine)
{
    for (uint32_t i = 0; i < machine->disks.count; i++) {
        const struct disk_limit *limit = &machine->disks.items[i].limit;
        size_t before = path_enter(check, ".disks[%" PRIu32 "].limit", i);
        check_rate(check, &iops_words, limit->operations, limit->operations_burst);
        check_rate(check, &bandwidth_words, limit->bytes, limit->bytes_burst);
        path_leave(check, before);
    }
    for (uint32_t i = 0; i < machine->nics.count; i++) {
        const struct nic_limit *limit = &machine->nics.items[i].limit;
        size_t before = path_enter(check, ".nics[%" PRIu32 "].limit", i);
        check_rate(check, &packets_words, limit->operations, limit->operations_burst);
        check_rate(check, &bandwidth_words, limit->bytes, limit->bytes_burst);
        path_leave(check, before);
    }
}

static void check_probe(struct check *check, const struct machine_spec *machine)
{
    const struct probe_spec *probe = &machine->health.ready;
    if (probe->port == 0) {
        if (probe->path != NULL) {
            fault_at(check, "health.ready.port", "is missing", "a path needs a port");
        }
        return;
    }
    if (machine->nics.count == 0) {
        fault_at(check, "health.ready.port", "cannot be probed without a NIC",
                 "add one under nics");
    }
    if (probe->path != NULL && probe->path[0] != '/') {
        fault_at(check, "health.ready.path", "does not start with /", NULL);
    }
    if (probe->timeout_ms > probe->every_ms) {
        fault_at(check, "health.ready.timeout", "is longer than health.ready.every",
                 "a probe must end before the next one starts");
    }
}

/* QEMU's CPUs have other features of the same names; it makes more of them at a start. */
static void check_cpu(struct check *check, const struct machine_spec *machine)
{
    if (machine->cpu.baseline != CPU_BASELINE_HOST && machine->engine == ENGINE_QEMU) {
        fault_at(check, "cpu.baseline", "is not for engine qemu",
                 "engine: kvm or auto, or leave it out");
    }
    if (machine->cpu.max != 0 && machine->cpu.max < machine->cpu.count) {
        fault_at(check, "cpu.max", "is less than cpu.count",
                 "give more, or leave it out");
    }
}

static void check_pages(struct check *check, const struct machine_spec *machine)
{
    if (machine->memory.pages != MEMORY_PAGES_HUGE) {
        return;
    }
    if (machine->engine == ENGINE_QEMU) {
        fault_at(check, "memory.pages", "is not for engine qemu",
                 "engine: kvm or auto, or leave it out");
    }
    if (machine->memory.size_bytes % MEMORY_HUGE_PAGE != 0) {
        fault_at(check, "memory.size", "is not a whole number of huge pages",
                 "a multiple of 2MiB");
    }
}

static void check_machine(struct check *check, const struct machine_spec *machine)
{
    const struct restart_spec *restart = &machine->lifecycle.restart;
    check_unique(check, "disks", machine->disks.items, machine->disks.count,
                 sizeof(machine->disks.items[0]));
    check_unique(check, "nics", machine->nics.items, machine->nics.count,
                 sizeof(machine->nics.items[0]));
    if (machine->memory.size_bytes % MIB != 0) {
        fault_at(check, "memory.size", "is not a whole number of MiB", "use MiB or GiB");
    }
    check_cpu(check, machine);
    check_pages(check, machine);
    check_machine_disks(check, machine);
    check_limits(check, machine);
    if (restart->backoff_ms > restart->backoff_max_ms) {
        fault_at(check, "lifecycle.restart.backoff",
                 "is longer than lifecycle.restart.maxBackoff", NULL);
    }
    check_probe(check, machine);
}

/* "token:NAME" or "user:NAME". */
static bool subject_valid(const char *subject)
{
    static const char *const prefixes[] = {"token:", "user:"};
    for (size_t i = 0; i < ARRAY_COUNT(prefixes); i++) {
        size_t size = strlen(prefixes[i]);
        if (strncmp(subject, prefixes[i], size) == 0) {
            return name_valid(subject + size);
        }
    }
    return false;
}

static bool subject_seen(const struct member_list *members, uint32_t index)
{
    for (uint32_t i = 0; i < index; i++) {
        if (members->items[i].subject != NULL &&
            strcmp(members->items[i].subject, members->items[index].subject) == 0) {
            return true;
        }
    }
    return false;
}

static void check_tenant(struct check *check, const void *object)
{
    const struct member_list *members = &((const struct tenant *)object)->spec.members;
    for (uint32_t i = 0; i < members->count; i++) {
        const char *subject = members->items[i].subject;
        if (subject == NULL) {
            continue; /* reported as missing */
        }
        size_t before = path_enter(check, ".members[%" PRIu32 "]", i);
        if (!subject_valid(subject)) {
            fault_at(check, "subject", "is not a subject", "token:NAME or user:NAME");
        } else if (subject_seen(members, i)) {
            fault_at(check, "subject", "is a member already", "give each one role");
        }
        path_leave(check, before);
    }
}

static void check_template(struct check *check, const void *object)
{
    check_machine(check, &((const struct template *)object)->spec);
}

static void check_targets(struct check *check, const struct autoscale *autoscale)
{
    for (uint32_t i = 1; i < autoscale->targets.count; i++) {
        for (uint32_t j = 0; j < i; j++) {
            if (autoscale->targets.items[i].metric ==
                autoscale->targets.items[j].metric) {
                size_t before = path_enter(check, ".autoscale.targets[%" PRIu32 "]", i);
                fault_at(check, "metric", "has a target already", NULL);
                path_leave(check, before);
                break;
            }
        }
    }
}

static void check_group(struct check *check, const void *object)
{
    const struct autoscale *autoscale = &((const struct group *)object)->spec.autoscale;
    if (autoscale->max == 0) {
        if (autoscale->min > 0 || autoscale->targets.count > 0) {
            fault_at(check, "autoscale.max", "is missing", "how many VMs at most");
        }
        return;
    }
    if (autoscale->min > autoscale->max) {
        fault_at(check, "autoscale.min", "is above autoscale.max", NULL);
    }
    if (autoscale->targets.count == 0) {
        fault_at(check, "autoscale.targets", "is missing",
                 "what to measure, such as {metric: vm.cpu.utilization, target: 60%}");
    }
    check_targets(check, autoscale);
}

/* Networks of which no address can be a guest's: this host, loopback, multicast and what
 * is reserved. */
static bool cidr_is_special(uint64_t cidr)
{
    uint32_t first_octet = cidr_address(cidr) >> 24;
    return first_octet == 0 || first_octet == 127 || first_octet >= 224;
}

static bool check_cidr(struct check *check, uint64_t cidr)
{
    if (cidr == 0) {
        fault_at(check, "ipv4.cidr", "is missing", "for example 10.20.0.0/24");
    } else if (cidr >> 40 != 0 || cidr_prefix(cidr) < 8 || cidr_prefix(cidr) > 29) {
        fault_at(check, "ipv4.cidr", "has a prefix outside /8 to /29", NULL);
    } else if ((cidr_address(cidr) & cidr_host_mask(cidr)) != 0) {
        fault_at(check, "ipv4.cidr", "has host bits set", "write the network's address");
    } else if (cidr_is_special(cidr)) {
        fault_at(check, "ipv4.cidr", "is not a network for guests",
                 "use one of 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16");
    } else {
        return true;
    }
    return false;
}

static void check_network(struct check *check, const void *object)
{
    const struct network_spec *spec = &((const struct network *)object)->spec;
    uint64_t cidr = spec->ipv4.cidr;
    uint32_t gateway = spec->ipv4.gateway;
    if (check_cidr(check, cidr) && gateway != 0) {
        uint32_t host_part = gateway & cidr_host_mask(cidr);
        if (!cidr_contains(cidr, gateway)) {
            fault_at(check, "ipv4.gateway", "is outside of ipv4.cidr", NULL);
        } else if (host_part == 0 || host_part == cidr_host_mask(cidr)) {
            fault_at(check, "ipv4.gateway",
                     "is the network's own or its broadcast address", NULL);
        }
    }
    if (spec->mtu != 0 && spec->mtu < 576) {
        fault_at(check, "mtu", "must be at least 576", "leave it out for the rack's own");
    }
}

static void
check_artifact(struct check *check, const struct artifact *artifact, unsigned earlier)
{
    bool hashed = !digest_is_zero(&artifact->sha256);
    if (earlier > 0) {
        fault_at(check, "role", "is given twice", "one kernel, one initrd, one disk");
    }
    if (artifact->file != NULL && artifact->url != NULL) {
        fault_at(check, "url", "cannot stand beside file", "keep one of the two");
    }
    if (artifact->file == NULL && artifact->url == NULL && !hashed) {
        fault_at(check, "file", "is missing", "a file, a url with sha256, or a sha256");
    }
    if (artifact->url == NULL) {
        return;
    }
    if (!hashed) {
        fault_at(check, "sha256", "is missing", "what is fetched has to be known");
    }
    if (strncmp(artifact->url, "http://", 7) != 0 &&
        strncmp(artifact->url, "https://", 8) != 0) {
        fault_at(check, "url", "is neither http:// nor https://", NULL);
    }
}

static void check_image(struct check *check, const void *object)
{
    const struct image_spec *spec = &((const struct image *)object)->spec;
    unsigned counts[ARTIFACT_DISK + 1] = {0};
    for (uint32_t i = 0; i < spec->artifacts.count; i++) {
        const struct artifact *artifact = &spec->artifacts.items[i];
        if (artifact->role <= ARTIFACT_DISK) {
            size_t before = path_enter(check, ".artifacts[%" PRIu32 "]", i);
            check_artifact(check, artifact, counts[artifact->role]++);
            path_leave(check, before);
        }
    }
    if (spec->artifacts.count == 0) {
        return; /* reported as missing */
    }
    if (counts[ARTIFACT_KERNEL] == 0 && counts[ARTIFACT_DISK] == 0) {
        fault_at(check, "artifacts", "has neither a kernel nor a disk",
                 "a VM boots from one of them");
    } else if (counts[ARTIFACT_KERNEL] == 0 && counts[ARTIFACT_INITRD] > 0) {
        fault_at(check, "artifacts", "has an initrd but no kernel", NULL);
    }
    if (counts[ARTIFACT_KERNEL] == 0 && spec->cmdline != NULL) {
        fault_at(check, "cmdline", "has no kernel to be given to",
                 "add a kernel under artifacts");
    }
}

static void check_disk(struct check *check, const void *object)
{
    if (((const struct disk *)object)->spec.size_bytes % SECTOR_BYTES != 0) {
        fault_at(check, "size", "is not a whole number of 512-byte sectors",
                 "use MiB or GiB");
    }
}

static void check_token(struct check *check, const void *object)
{
    const struct token_spec *spec = &((const struct token *)object)->spec;
    if (spec->role == ROLE_JOIN && spec->tenant[0] != '\0') {
        fault_at(check, "tenant", "does not go with role join",
                 "hosts join the cluster, not a tenant");
    }
}

/* Kinds about which the tables say everything have no row. */
static void (*const kind_checks[KIND_COUNT])(struct check *check, const void *object) = {
    [KIND_TENANT] = check_tenant, [KIND_TEMPLATE] = check_template,
    [KIND_GROUP] = check_group,   [KIND_NETWORK] = check_network,
    [KIND_IMAGE] = check_image,   [KIND_DISK] = check_disk,
    [KIND_TOKEN] = check_token,
};

void object_settle(enum kind kind, void *object)
{
    if (kind != KIND_TEMPLATE) {
        return;
    }
    struct probe_spec *probe = &((struct template *)object)->spec.health.ready;
    if (probe->timeout_ms == PROBE_TIMEOUT_DEFAULT_MS &&
        probe->every_ms < probe->timeout_ms) {
        probe->timeout_ms = probe->every_ms;
    }
}

unsigned object_check(enum kind kind,
                      const void *object,
                      object_check_report *report,
                      void *context)
{
    const struct kind_info *info = kind_info(kind);
    struct check check = {.report = report, .context = context};
    if (info == NULL) {
        fault_here(&check, "is of no known kind", NULL);
        return check.fault_count;
    }
    check_record(&check, info->record, object);
    check_scope(&check, info, object_meta(object));
    if (kind_checks[kind] != NULL) {
        size_t before = path_enter(&check, "spec");
        kind_checks[kind](&check, object);
        path_leave(&check, before);
    }
    return check.fault_count;
}
