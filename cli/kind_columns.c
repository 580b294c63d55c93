#include "cli/kind_columns.h"

#include "base/parse_number.h"
#include "base/plural.h"
#include "cli/output.h"
#include "cli/view_fields.h"

#include <inttypes.h>
#include <string.h>

#define PRINT(name) \
    static void name(const json_t *object, const struct view_time *time, char *ret_cell)
#define CELL(...) (void)snprintf(ret_cell, CELL_SIZE, __VA_ARGS__)

/* Text or number of a member as text; "-" when it is missing. */
static void member_print(const json_t *object, const char *key, char *ret_cell)
{
    const json_t *value = json_object_get(object, key);
    if (json_is_string(value)) {
        CELL("%s", json_string_value(value));
    } else if (json_is_integer(value)) {
        CELL("%" JSON_INTEGER_FORMAT, json_integer_value(value));
    } else {
        CELL("-");
    }
}

static void bytes_print(uint64_t bytes, char *ret_cell)
{
    char text[NUMBER_TEXT_SIZE];
    format_bytes_human(bytes, text);
    CELL("%s", bytes == 0 ? "-" : text);
}

static void since_print(const char *instant, const struct view_time *time, char *ret_cell)
{
    char text[SPAN_TEXT_SIZE];
    uint64_t wall_ms = instant_parse(instant);
    uint64_t past = time->now_wall_ms > wall_ms ? time->now_wall_ms - wall_ms : 0;
    span_format(past, text);
    CELL("%s", wall_ms == 0 ? "-" : text);
}

static void names_join(const json_t *list, const char *key, char *ret_cell)
{
    size_t at = 0;
    size_t index;
    json_t *item;
    CELL("-");
    json_array_foreach(list, index, item)
    {
        if (at < CELL_SIZE) {
            at += (size_t)snprintf(ret_cell + at, CELL_SIZE - at, "%s%s",
                                   at > 0 ? ", " : "", json_member_text(item, key, "?"));
        }
    }
}

/* ---- cells of any kind ---- */

PRINT(cell_name)
{
    (void)time;
    CELL("%s", view_name(object));
}

PRINT(cell_tenant)
{
    const char *tenant = view_tenant(object);
    (void)time;
    CELL("%s", tenant[0] != '\0' ? tenant : "-");
}

PRINT(cell_age)
{
    since_print(json_member_text(view_meta(object), "created", NULL), time, ret_cell);
}

PRINT(cell_labels)
{
    const json_t *labels = json_object_get(view_meta(object), "labels");
    const char *key;
    json_t *value;
    size_t at = 0;
    (void)time;
    CELL("-");
    json_object_foreach((json_t *)(uintptr_t)labels, key, value)
    {
        if (at < CELL_SIZE) {
            at += (size_t)snprintf(ret_cell + at, CELL_SIZE - at, "%s%s=%s",
                                   at > 0 ? "," : "", key, json_string_value(value));
        }
    }
}

#define STATUS_CELL(name, key)                            \
    PRINT(name)                                           \
    {                                                     \
        (void)time;                                       \
        member_print(view_status(object), key, ret_cell); \
    }
#define SPEC_CELL(name, key)                            \
    PRINT(name)                                         \
    {                                                   \
        (void)time;                                     \
        member_print(view_spec(object), key, ret_cell); \
    }

STATUS_CELL(cell_reason, "reason")
STATUS_CELL(cell_epoch, "epoch")
STATUS_CELL(cell_restarts, "restarts")
STATUS_CELL(cell_kernel, "kernel")
STATUS_CELL(cell_version, "version")
STATUS_CELL(cell_vni, "vni")
STATUS_CELL(cell_step, "step")
STATUS_CELL(cell_address, "address")
SPEC_CELL(cell_image, "image")
SPEC_CELL(cell_group, "group")
SPEC_CELL(cell_role, "role")
SPEC_CELL(cell_token_tenant, "tenant")
SPEC_CELL(cell_expires, "expires")
SPEC_CELL(cell_title, "title")
SPEC_CELL(cell_size, "size")

PRINT(cell_template)
{
    (void)time;
    member_print(json_object_get(view_spec(object), "template"), "name", ret_cell);
}

PRINT(cell_voter)
{
    (void)time;
    CELL("%s", json_member_text(view_status(object), "voter", voter_role_names[0]));
}

PRINT(cell_egress)
{
    (void)time;
    CELL("%s", json_member_text(view_spec(object), "egress", egress_names[0]));
}

/* ---- VMs ---- */

PRINT(cell_vm_phase)
{
    (void)time;
    CELL("%s", view_phase(object, KIND_VM));
}

PRINT(cell_vm_host)
{
    const char *keeper = json_member_text(view_status(object), "diskHost", "");
    const char *host = json_member_text(view_status(object), "host", "");
    (void)time;
    if (keeper[0] != '\0' && host[0] == '\0') { /* nowhere, but its disks are there */
        CELL("(%s)", keeper);
    } else {
        member_print(view_status(object), "host", ret_cell);
    }
}

PRINT(cell_vm_address)
{
    const char *address = view_vm_address(object);
    (void)time;
    CELL("%s", address[0] != '\0' ? address : "-");
}

PRINT(cell_vm_cpu)
{
    const json_t *live = json_object_get(view_status(object), "live");
    const json_t *permille = json_object_get(live, "cpuPermille");
    (void)time;
    if (json_is_integer(permille)) {
        CELL("%" JSON_INTEGER_FORMAT "%%", (json_integer_value(permille) + 5) / 10);
    } else {
        member_print(live, "cpu", ret_cell);
    }
}

static const json_t *live_part(const json_t *object, const char *name)
{
    return json_object_get(json_object_get(view_status(object), "live"), name);
}

static void rate_text(const json_t *part, const char *member, char text[NUMBER_TEXT_SIZE])
{
    format_bytes_human(json_member_u64(part, member, 0), text);
}

/* By what its program counts; one that counts nothing has none, and no latency is known
 * of a time without requests. */
PRINT(cell_vm_disk)
{
    const json_t *disk = live_part(object, "disk");
    char read[NUMBER_TEXT_SIZE];
    char written[NUMBER_TEXT_SIZE];
    char latency[48] = "";
    (void)time;
    if (!json_is_object(disk)) {
        CELL("-");
        return;
    }
    rate_text(disk, "readBytesPerSecond", read);
    rate_text(disk, "writeBytesPerSecond", written);
    if (json_object_get(disk, "latencyUs") != NULL) {
        (void)snprintf(latency, sizeof(latency), ", %" PRIu64 " us each",
                       json_member_u64(disk, "latencyUs", 0));
    }
    CELL("%s/s read, %s/s written%s", read, written, latency);
}

PRINT(cell_vm_net)
{
    const json_t *nics = live_part(object, "nics");
    char received[NUMBER_TEXT_SIZE];
    char sent[NUMBER_TEXT_SIZE];
    (void)time;
    if (!json_is_object(nics)) {
        CELL("-");
        return;
    }
    rate_text(nics, "rxBytesPerSecond", received);
    rate_text(nics, "txBytesPerSecond", sent);
    CELL("%s/s in, %s/s out", received, sent);
}

PRINT(cell_vm_template)
{
    (void)time;
    bool changed = json_is_true(json_object_get(view_status(object), "templateChanged"));
    CELL("%s%s",
         json_member_text(json_object_get(view_spec(object), "template"), "name", "-"),
         changed ? " (changed since)" : "");
}

static const struct view_column vm_columns[] = {
    {"NAME", 0, false, false, "metadata.name", cell_name},
    {"TENANT", 0, false, false, "metadata.tenant", cell_tenant},
    {"PHASE", 0, false, true, "status.phase", cell_vm_phase},
    {"HOST", 0, false, false, "status.host,status.diskHost", cell_vm_host},
    {"ADDRESS", 0, false, false, "status.nics", cell_vm_address},
    {"CPU", COLUMN_RIGHT, false, false, "status.live", cell_vm_cpu},
    {"AGE", COLUMN_RIGHT, false, false, "metadata.created", cell_age},
    {"TEMPLATE", 0, true, false, "spec.template,status.templateChanged",
     cell_vm_template},
    {"GROUP", 0, true, false, "spec.group", cell_group},
    {"EPOCH", COLUMN_RIGHT, true, false, "status.epoch", cell_epoch},
    {"RESTARTS", COLUMN_RIGHT, true, false, "status.restarts", cell_restarts},
    {"DISK I/O", 0, true, false, "status.live", cell_vm_disk},
    {"NETWORK", 0, true, false, "status.live", cell_vm_net},
    {"LABELS", 0, true, false, "metadata.labels", cell_labels},
    {"REASON", COLUMN_CUT, false, false, "status.reason", cell_reason},
    {0},
};

/* ---- groups ---- */

PRINT(cell_group_ready)
{
    const json_t *status = view_status(object);
    (void)time;
    CELL("%" PRIu64 "/%" PRIu64, json_member_u64(status, "ready", 0),
         json_member_u64(status, "desired", 0));
}

PRINT(cell_group_scale)
{
    const json_t *autoscale = json_object_get(view_spec(object), "autoscale");
    const json_t *target = json_array_get(json_object_get(autoscale, "targets"), 0);
    (void)time;
    if (json_member_u64(autoscale, "max", 0) == 0) {
        CELL("-");
        return;
    }
    CELL("%" PRIu64 "-%" PRIu64 " at cpu %s", json_member_u64(autoscale, "min", 0),
         json_member_u64(autoscale, "max", 0), json_member_text(target, "target", "?"));
}

/* What it lacks now; why it was scaled once is an event, not its state. */
PRINT(cell_group_reason)
{
    const json_t *status = view_status(object);
    uint64_t desired = json_member_u64(status, "desired", 0);
    uint64_t have = json_member_u64(status, "vms", desired);
    uint64_t ready = json_member_u64(status, "ready", 0);
    (void)time;
    if (json_is_true(json_object_get(status, "deleting"))) {
        CELL("is being deleted");
    } else if (json_object_get(status, "reason") != NULL) {
        member_print(status, "reason", ret_cell);
    } else if (have < desired) {
        CELL("%" PRIu64 " of %" PRIu64 " VM%s still to be made", desired - have, desired,
             plural_s_are(desired));
    } else if (have > desired) {
        CELL("%" PRIu64 " more VM%s there than wanted", have - desired,
             plural_s_are(have - desired));
    } else if (ready < have) {
        CELL("%" PRIu64 " of %" PRIu64 " VM%s not ready", have - ready, have,
             plural_s_are(have));
    } else {
        CELL("-");
    }
}

static const struct view_column group_columns[] = {
    {"NAME", 0, false, false, "metadata.name", cell_name},
    {"TENANT", 0, false, false, "metadata.tenant", cell_tenant},
    {"READY", COLUMN_RIGHT, false, false, "status.ready,status.desired",
     cell_group_ready},
    {"AUTOSCALE", 0, false, false, "spec.autoscale", cell_group_scale},
    {"TEMPLATE", 0, false, false, "spec.template", cell_template},
    {"AGE", COLUMN_RIGHT, false, false, "metadata.created", cell_age},
    {"LABELS", 0, true, false, "metadata.labels", cell_labels},
    {"REASON", COLUMN_CUT, false, false,
     "status.deleting,status.reason,status.desired,status.vms,status.ready",
     cell_group_reason},
    {0},
};

/* ---- hosts ---- */

PRINT(cell_host_phase)
{
    (void)time;
    CELL("%s", view_phase(object, KIND_HOST));
}

PRINT(cell_host_role)
{
    const json_t *live = json_object_get(view_status(object), "live");
    if (json_is_true(json_object_get(live, "leader"))) {
        CELL("leader");
    } else {
        cell_voter(object, time, ret_cell);
    }
}

PRINT(cell_host_vms)
{
    (void)time;
    member_print(json_object_get(view_status(object), "live"), "vms", ret_cell);
}

PRINT(cell_host_cpu)
{
    const json_t *status = view_status(object);
    const json_t *live = json_object_get(status, "live");
    const json_t *capacity = json_object_get(status, "cpu");
    uint64_t used_mcpu = json_member_u64(live, "cpuUsedMcpu", UINT64_MAX);
    char used[CELL_SIZE / 4];
    (void)time;
    if (used_mcpu != UINT64_MAX) {
        (void)snprintf(used, sizeof(used), "%" PRIu64 ".%" PRIu64, used_mcpu / 1000,
                       used_mcpu % 1000 / 100);
    } else {
        (void)snprintf(used, sizeof(used), "%.60s",
                       json_member_text(live, "cpuUsed", "-"));
    }
    if (json_is_string(capacity)) {
        CELL("%s/%s", used, json_string_value(capacity));
    } else {
        CELL("%s", used);
    }
}

/* What the host uses for whatever, its own programs among it. */
PRINT(cell_host_memory_used)
{
    const json_t *live = json_object_get(view_status(object), "live");
    (void)time;
    bytes_print(view_bytes(live, "memoryUsedBytes"), ret_cell);
}

/* What VMs were promised, of what may be. */
PRINT(cell_host_memory)
{
    const json_t *status = view_status(object);
    const json_t *live = json_object_get(status, "live");
    char placed[NUMBER_TEXT_SIZE];
    char capacity[NUMBER_TEXT_SIZE];
    uint64_t bytes = view_bytes(live, "memoryPlacedBytes");
    (void)time;
    bytes = bytes != 0 ? bytes : view_bytes(live, "memoryPlaced");
    format_bytes_human(bytes, placed);
    format_bytes_human(view_bytes(status, "memory"), capacity);
    CELL("%s/%s", live != NULL ? placed : "-", capacity); /* not heard yet: not known */
}

/* Placed, of what may be; the sizes that VMs asked for. */
PRINT(cell_host_disk)
{
    const json_t *status = view_status(object);
    const json_t *live = json_object_get(status, "live");
    char placed[NUMBER_TEXT_SIZE];
    char capacity[NUMBER_TEXT_SIZE];
    (void)time;
    uint64_t bytes = view_bytes(status, "disk");
    format_bytes_human(view_bytes(live, "diskPlacedBytes"), placed);
    format_bytes_human(bytes, capacity);
    if (bytes == 0) { /* not known */
        CELL("-");
    } else {
        CELL("%s/%s", live != NULL ? placed : "-", capacity);
    }
}

PRINT(cell_host_heard)
{
    const json_t *live = json_object_get(view_status(object), "live");
    since_print(json_member_text(live, "lastHeard", NULL), time, ret_cell);
}

PRINT(cell_host_kvm)
{
    (void)time;
    CELL("%s", json_member_text(view_status(object), "kvm", kvm_kind_names[0]));
}

/* What VMs may ask for; "host" in the model is none. */
PRINT(cell_host_baseline)
{
    (void)time;
    CELL("%s", json_member_text(view_status(object), "cpuBaseline", "-"));
}

/* Placed, of what its pool has. */
PRINT(cell_host_pool)
{
    const json_t *status = view_status(object);
    const json_t *live = json_object_get(status, "live");
    char placed[NUMBER_TEXT_SIZE];
    char capacity[NUMBER_TEXT_SIZE];
    (void)time;
    uint64_t bytes = view_bytes(status, "hugePages");
    format_bytes_human(view_bytes(live, "hugePagesPlacedBytes"), placed);
    format_bytes_human(bytes, capacity);
    if (bytes == 0) {
        CELL("-");
    } else {
        CELL("%s/%s", live != NULL ? placed : "-", capacity);
    }
}

static const char *host_fence(const json_t *object)
{
    const json_t *live = json_object_get(view_status(object), "live");
    return json_member_text(live, "fence", "-");
}

PRINT(cell_host_fence)
{
    (void)time;
    CELL("%s", host_fence(object));
}

PRINT(cell_host_levels)
{
    (void)time;
    const json_t *live = json_object_get(view_status(object), "live");
    const char *levels = json_member_text(live, "levels", "");
    CELL("%s", levels[0] != '\0' ? levels : "-");
}

PRINT(cell_host_note)
{
    const json_t *spec = view_spec(object);
    const json_t *live = json_object_get(view_status(object), "live");
    if (json_is_true(json_object_get(spec, "drain"))) {
        CELL("drained: %s", json_member_text(spec, "drainReason", "no reason given"));
    } else if (json_object_get(live, "clash") != NULL) {
        member_print(live, "clash", ret_cell);
    } else if (strcmp(host_fence(object), "missing") == 0) {
        CELL("its fence is missing: VMs that may be restarted elsewhere wait");
    } else if (strcmp(view_phase(object, KIND_HOST), "ready") == 0) {
        CELL("-"); /* why it became ready again is an event, not its state */
    } else {
        cell_reason(object, time, ret_cell);
    }
}

static const struct view_column host_columns[] = {
    {"NAME", 0, false, false, "metadata.name", cell_name},
    {"PHASE", 0, false, true, "status.phase", cell_host_phase},
    {"ROLE", 0, false, false, "status.live,status.voter", cell_host_role},
    {"ADDRESS", 0, false, false, "status.address", cell_address},
    {"VMS", COLUMN_RIGHT, false, false, "status.live", cell_host_vms},
    {"CPU USED", COLUMN_RIGHT, false, false, "status.live,status.cpu", cell_host_cpu},
    {"MEM USED", COLUMN_RIGHT | COLUMN_SPARE, false, false, "status.live",
     cell_host_memory_used},
    {"MEM PLACED", COLUMN_RIGHT, false, false, "status.live,status.memory",
     cell_host_memory},
    {"DISK PLACED", COLUMN_RIGHT | COLUMN_SPARE, false, false, "status.live,status.disk",
     cell_host_disk},
    {"HEARD", COLUMN_RIGHT | COLUMN_SPARE, false, false, "status.live", cell_host_heard},
    {"KVM", 0, true, false, "status.kvm", cell_host_kvm},
    {"BASELINE", 0, true, false, "status.cpuBaseline", cell_host_baseline},
    {"HUGE PAGES", COLUMN_RIGHT, true, false, "status.live,status.hugePages",
     cell_host_pool},
    {"FENCE", 0, true, false, "status.live", cell_host_fence},
    {"KERNEL", 0, true, false, "status.kernel", cell_kernel},
    {"BERTHD", 0, true, false, "status.version", cell_version},
    {"LEVELS", 0, true, false, "status.live", cell_host_levels},
    {"AGE", COLUMN_RIGHT, true, false, "metadata.created", cell_age},
    {"LABELS", 0, true, false, "metadata.labels", cell_labels},
    {"NOTE", COLUMN_CUT, false, false,
     "status.phase,spec.drain,spec.drainReason,status.live,status.reason",
     cell_host_note},
    {0},
};

/* ---- the other kinds ---- */

PRINT(cell_machine_cpu)
{
    (void)time;
    const json_t *cpu = json_object_get(view_spec(object), "cpu");
    uint64_t count = json_member_u64(cpu, "count", 1);
    uint64_t most = json_member_u64(cpu, "max", 0);
    if (most > count) {
        CELL("%" PRIu64 "-%" PRIu64, count, most);
    } else {
        CELL("%" PRIu64, count);
    }
}

PRINT(cell_machine_memory)
{
    (void)time;
    member_print(json_object_get(view_spec(object), "memory"), "size", ret_cell);
}

PRINT(cell_machine_disks)
{
    (void)time;
    names_join(json_object_get(view_spec(object), "disks"), "size", ret_cell);
}

PRINT(cell_machine_nics)
{
    (void)time;
    names_join(json_object_get(view_spec(object), "nics"), "network", ret_cell);
}

static const struct view_column template_columns[] = {
    {"NAME", 0, false, false, "metadata.name", cell_name},
    {"TENANT", 0, false, false, "metadata.tenant", cell_tenant},
    {"IMAGE", 0, false, false, "spec.image", cell_image},
    {"CPU", COLUMN_RIGHT, false, false, "spec.cpu", cell_machine_cpu},
    {"MEMORY", COLUMN_RIGHT, false, false, "spec.memory", cell_machine_memory},
    {"DISKS", 0, false, false, "spec.disks", cell_machine_disks},
    {"NETWORKS", 0, false, false, "spec.nics", cell_machine_nics},
    {"VERSION", COLUMN_RIGHT, false, false, "status.version", cell_version},
    {"AGE", COLUMN_RIGHT, false, false, "metadata.created", cell_age},
    {"LABELS", 0, true, false, "metadata.labels", cell_labels},
    {0},
};

PRINT(cell_network_cidr)
{
    (void)time;
    member_print(json_object_get(view_spec(object), "ipv4"), "cidr", ret_cell);
}

PRINT(cell_network_hosts)
{
    (void)time;
    CELL("%zu", json_array_size(json_object_get(view_status(object), "hosts")));
}

static const struct view_column network_columns[] = {
    {"NAME", 0, false, false, "metadata.name", cell_name},
    {"TENANT", 0, false, false, "metadata.tenant", cell_tenant},
    {"CIDR", 0, false, false, "spec.ipv4", cell_network_cidr},
    {"EGRESS", 0, false, false, "spec.egress", cell_egress},
    {"VNI", COLUMN_RIGHT, false, false, "status.vni", cell_vni},
    {"HOSTS", COLUMN_RIGHT, false, false, "status.hosts", cell_network_hosts},
    {"AGE", COLUMN_RIGHT, false, false, "metadata.created", cell_age},
    {"LABELS", 0, true, false, "metadata.labels", cell_labels},
    {0},
};

PRINT(cell_image_parts)
{
    const json_t *artifacts = json_object_get(view_spec(object), "artifacts");
    size_t at = 0;
    size_t index;
    json_t *item;
    (void)time;
    CELL("-");
    json_array_foreach(artifacts, index, item)
    {
        if (at < CELL_SIZE) {
            at += (size_t)snprintf(
                ret_cell + at, CELL_SIZE - at, "%s%s", at > 0 ? ", " : "",
                json_member_text(item, "role", artifact_role_names[0]));
        }
    }
}

PRINT(cell_image_size)
{
    const json_t *artifacts = json_object_get(view_spec(object), "artifacts");
    uint64_t bytes = 0;
    size_t index;
    json_t *item;
    (void)time;
    json_array_foreach(artifacts, index, item)
    {
        bytes += view_bytes(item, "size");
    }
    bytes_print(bytes, ret_cell);
}

static const struct view_column image_columns[] = {
    {"NAME", 0, false, false, "metadata.name", cell_name},
    {"TENANT", 0, false, false, "metadata.tenant", cell_tenant},
    {"PARTS", 0, false, false, "spec.artifacts", cell_image_parts},
    {"SIZE", COLUMN_RIGHT, false, false, "spec.artifacts", cell_image_size},
    {"AGE", COLUMN_RIGHT, false, false, "metadata.created", cell_age},
    {"LABELS", 0, true, false, "metadata.labels", cell_labels},
    {0},
};

static void
quota_print(const json_t *object, const char *key, const char *zero, char *ret_cell)
{
    char used[CELL_SIZE / 4];
    char limit[CELL_SIZE / 4];
    member_print(json_object_get(view_status(object), "used"), key, ret_cell);
    (void)snprintf(used, sizeof(used), "%.60s", ret_cell[0] != '-' ? ret_cell : zero);
    member_print(json_object_get(view_spec(object), "quota"), key, ret_cell);
    (void)snprintf(limit, sizeof(limit), "%.60s", ret_cell);
    CELL("%s%s%s", used, limit[0] != '-' ? "/" : "", limit[0] != '-' ? limit : "");
}

PRINT(cell_tenant_vms)
{
    (void)time;
    quota_print(object, "vms", "0", ret_cell);
}

PRINT(cell_tenant_cpu)
{
    (void)time;
    quota_print(object, "cpu", "0", ret_cell);
}

PRINT(cell_tenant_memory)
{
    (void)time;
    quota_print(object, "memory", "0", ret_cell);
}

PRINT(cell_tenant_disk)
{
    (void)time;
    quota_print(object, "disk", "0", ret_cell);
}

static const struct view_column tenant_columns[] = {
    {"NAME", 0, false, false, "metadata.name", cell_name},
    {"VMS", COLUMN_RIGHT, false, false, "spec.quota,status.used", cell_tenant_vms},
    {"CPU", COLUMN_RIGHT, false, false, "spec.quota,status.used", cell_tenant_cpu},
    {"MEMORY", COLUMN_RIGHT, false, false, "spec.quota,status.used", cell_tenant_memory},
    {"DISK", COLUMN_RIGHT, false, false, "spec.quota,status.used", cell_tenant_disk},
    {"AGE", COLUMN_RIGHT, false, false, "metadata.created", cell_age},
    {"LABELS", 0, true, false, "metadata.labels", cell_labels},
    {0},
};

SPEC_CELL(cell_snapshot_vm, "vm")
STATUS_CELL(cell_snapshot_host, "host")

/* How far it is, while it is made. */
PRINT(cell_snapshot_phase)
{
    const char *progress = json_member_text(view_status(object), "progress", "");
    (void)time;
    CELL("%s%s%s", view_phase(object, KIND_SNAPSHOT), progress[0] != '\0' ? " " : "",
         progress);
}

/* What it takes, or may take while it is made. */
PRINT(cell_snapshot_size)
{
    (void)time;
    bytes_print(view_bytes(view_status(object), "size"), ret_cell);
}

PRINT(cell_snapshot_taken)
{
    since_print(json_member_text(view_status(object), "taken", NULL), time, ret_cell);
}

static const struct view_column snapshot_columns[] = {
    {"NAME", 0, false, false, "metadata.name", cell_name},
    {"TENANT", 0, false, false, "metadata.tenant", cell_tenant},
    {"VM", 0, false, false, "spec.vm", cell_snapshot_vm},
    {"PHASE", 0, false, true, "status.phase,status.progress", cell_snapshot_phase},
    {"HOST", 0, false, false, "status.host", cell_snapshot_host},
    {"SIZE", COLUMN_RIGHT, false, false, "status.size", cell_snapshot_size},
    {"TAKEN", COLUMN_RIGHT, false, false, "status.taken", cell_snapshot_taken},
    {"AGE", COLUMN_RIGHT, true, false, "metadata.created", cell_age},
    {"REASON", COLUMN_CUT, false, false, "status.reason", cell_reason},
    {0},
};

static const struct view_column disk_columns[] = {
    {"NAME", 0, false, false, "metadata.name", cell_name},
    {"TENANT", 0, false, false, "metadata.tenant", cell_tenant},
    {"SIZE", COLUMN_RIGHT, false, false, "spec.size", cell_size},
    {"AGE", COLUMN_RIGHT, false, false, "metadata.created", cell_age},
    {0},
};

static const struct view_column token_columns[] = {
    {"NAME", 0, false, false, "metadata.name", cell_name},
    {"ROLE", 0, false, false, "spec.role", cell_role},
    {"TENANT", 0, false, false, "spec.tenant", cell_token_tenant},
    {"EXPIRES", 0, false, false, "spec.expires", cell_expires},
    {"AGE", COLUMN_RIGHT, false, false, "metadata.created", cell_age},
    {0},
};

PRINT(cell_operation_phase)
{
    (void)time;
    CELL("%s", view_phase(object, KIND_OPERATION));
}

PRINT(cell_operation_progress)
{
    (void)time;
    CELL("%s", json_member_text(view_status(object), "progress", "0%"));
}

static const struct view_column operation_columns[] = {
    {"NAME", 0, false, false, "metadata.name", cell_name},
    {"PHASE", 0, false, true, "status.phase", cell_operation_phase},
    {"PROGRESS", COLUMN_RIGHT, false, false, "status.progress", cell_operation_progress},
    {"AGE", COLUMN_RIGHT, false, false, "metadata.created", cell_age},
    {"TITLE", COLUMN_CUT, false, false, "spec.title", cell_title},
    {"STEP", COLUMN_CUT, false, false, "status.step", cell_step},
    {0},
};

/* ---- */

const struct view_column *kind_columns(enum kind kind)
{
    static const struct view_column *const views[KIND_COUNT] = {
        [KIND_TENANT] = tenant_columns,     [KIND_TEMPLATE] = template_columns,
        [KIND_GROUP] = group_columns,       [KIND_VM] = vm_columns,
        [KIND_NETWORK] = network_columns,   [KIND_IMAGE] = image_columns,
        [KIND_DISK] = disk_columns,         [KIND_HOST] = host_columns,
        [KIND_TOKEN] = token_columns,       [KIND_OPERATION] = operation_columns,
        [KIND_SNAPSHOT] = snapshot_columns,
    };
    return views[kind];
}

bool kind_column_is_tenant(const struct view_column *column)
{
    return column->print == cell_tenant;
}
