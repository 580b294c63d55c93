#include "api/object_view.h"

#include "api/api_call.h"
#include "base/cleanup.h"
#include "base/parse_number.h"
#include "base/plural.h"
#include "model/document.h"

#include <stdio.h>
#include <string.h>

#define PATH_SIZE       80
#define BEFORE_SIZE_MAX 200 /* of a reason that stands in brackets */

/* ---- what is asked for ---- */

/* Members of the status that are written here, also those that the stored status has and
 * leaves out at their default. */
enum added {
    ADDED_VM_PHASE = 0,
    ADDED_VM_EPOCH,
    ADDED_VM_HOST,
    ADDED_VM_DISK_HOST,
    ADDED_VM_REASON,
    ADDED_VM_WAITS,
    ADDED_VM_MISSING_IMAGE,
    ADDED_VM_TEMPLATE_CHANGED,
    ADDED_VM_LIVE,
    ADDED_GROUP_DESIRED,
    ADDED_GROUP_VMS,
    ADDED_GROUP_READY,
    ADDED_GROUP_REASON,
    ADDED_HOST_PHASE,
    ADDED_HOST_VOTER,
    ADDED_HOST_LIVE,
    ADDED_VM_RESTORE,
    ADDED_SNAPSHOT_PHASE,
    ADDED_SNAPSHOT_HOST,
    ADDED_VM_PLACE_UNKNOWN,
    ADDED_COUNT
};

static const struct {
    enum kind kind;
    const char *path;
} added_paths[ADDED_COUNT] = {
    [ADDED_VM_PHASE] = {KIND_VM, "status.phase"},
    [ADDED_VM_EPOCH] = {KIND_VM, "status.epoch"},
    [ADDED_VM_HOST] = {KIND_VM, "status.host"},
    [ADDED_VM_DISK_HOST] = {KIND_VM, "status.diskHost"},
    [ADDED_VM_REASON] = {KIND_VM, "status.reason"},
    [ADDED_VM_WAITS] = {KIND_VM, "status.waits"},
    [ADDED_VM_MISSING_IMAGE] = {KIND_VM, "status.missingImage"},
    [ADDED_VM_TEMPLATE_CHANGED] = {KIND_VM, "status.templateChanged"},
    [ADDED_VM_LIVE] = {KIND_VM, "status.live"},
    [ADDED_GROUP_DESIRED] = {KIND_GROUP, "status.desired"},
    [ADDED_GROUP_VMS] = {KIND_GROUP, "status.vms"},
    [ADDED_GROUP_READY] = {KIND_GROUP, "status.ready"},
    [ADDED_GROUP_REASON] = {KIND_GROUP, "status.reason"},
    [ADDED_HOST_PHASE] = {KIND_HOST, "status.phase"},
    [ADDED_HOST_VOTER] = {KIND_HOST, "status.voter"},
    [ADDED_HOST_LIVE] = {KIND_HOST, "status.live"},
    [ADDED_VM_RESTORE] = {KIND_VM, "status.restore"},
    [ADDED_SNAPSHOT_PHASE] = {KIND_SNAPSHOT, "status.phase"},
    [ADDED_SNAPSHOT_HOST] = {KIND_SNAPSHOT, "status.host"},
    [ADDED_VM_PLACE_UNKNOWN] = {KIND_VM, "status.placeUnknown"},
};

struct object_view object_view_whole(void)
{
    return (struct object_view){.reasons = OBJECT_REASONS_MAX};
}

static bool added_take(struct object_view *view, enum kind kind, const char *path)
{
    bool known = strcmp(path, "status") == 0; /* also where there is none */
    for (unsigned i = 0; i < ADDED_COUNT; i++) {
        if (added_paths[i].kind == kind &&
            (strcmp(path, "status") == 0 || strcmp(path, added_paths[i].path) == 0)) {
            view->added |= UINT32_C(1) << i;
            known = true;
        }
    }
    return known;
}

static int
path_take(struct object_view *view, enum kind kind, const char *path, struct err *err)
{
    bool stored = document_parts_add(&view->parts, kind, path);
    bool added = added_take(view, kind, path);
    return stored || added ? 0
                           : err_set(err, BERTH_EINVALID, "fields: a %s has no \"%s\"",
                                     kind_info(kind)->word, path);
}

int object_view_read(const struct query *query,
                     enum kind kind,
                     struct object_view *ret_view,
                     struct err *err)
{
    struct object_view view = object_view_whole();
    const char *fields = query_get(query, "fields");
    int r = 0;
    view.full = query_flag(query, "full");
    view.thin = fields != NULL;
    while (r == 0 && fields != NULL) {
        char path[PATH_SIZE];
        size_t size = strcspn(fields, ",");
        if (size == 0 || size >= sizeof(path)) {
            return err_set(err, BERTH_EINVALID,
                           "fields: wanted names with commas between, such as "
                           "metadata,status.phase");
        }
        memcpy(path, fields, size);
        path[size] = '\0';
        r = path_take(&view, kind, path, err);
        fields = fields[size] == ',' ? fields + size + 1 : NULL;
    }
    if (r == 0) {
        *ret_view = view;
    }
    return r;
}

/* ---- what only the leader knows ---- */

static bool shows(const struct object_view *view, enum added member)
{
    return !view->thin || (view->added & (UINT32_C(1) << member)) != 0;
}

static void
add(json_t *status, const struct object_view *view, enum added member, const char *text)
{
    const char *name = strchr(added_paths[member].path, '.') + 1;
    if (text != NULL && shows(view, member)) {
        json_object_set_new(status, name, document_text(text));
    }
}

static void add_number(json_t *status,
                       const struct object_view *view,
                       enum added member,
                       uint64_t number)
{
    const char *name = strchr(added_paths[member].path, '.') + 1;
    if (shows(view, member)) {
        json_object_set_new(status, name, json_integer((json_int_t)number));
    }
}

static const char *host_name(const struct state *state, uint64_t uid)
{
    const struct host *host = uid != 0 ? state_host(state, uid) : NULL;
    return host != NULL ? host->meta.name : NULL;
}

/* Bytes of why it is pending, without that a host keeps its disks where that is what it
 * waits for: once is enough. */
static int before_size(const char *before, const char *waits)
{
    static const char disks[] = "its disks are on ";
    const char *kept = before != NULL && strncmp(waits, disks, sizeof(disks) - 1) == 0
                           ? strstr(before, "; its disks are on ")
                           : NULL;
    size_t size = kept != NULL     ? (size_t)(kept - before)
                  : before != NULL ? strlen(before)
                                   : 0;
    return size > BEFORE_SIZE_MAX ? BEFORE_SIZE_MAX : (int)size;
}

/* Why it has no host, or cannot leave the drained one that it has: alone, for programs,
 * and before what the log says of it. False when there is nothing to say. */
static bool add_reason(const struct api_call *call,
                       const struct vm *vm,
                       struct object_view *view,
                       json_t *status)
{
    const struct control_plane *control = call->api->control;
    const char *before = vm->status.reason;
    char waits[384];
    char text[640];
    bool waits_for =
        (shows(view, ADDED_VM_REASON) || shows(view, ADDED_VM_WAITS)) &&
        control->vm_waits(control->context, vm, &view->reasons, waits, sizeof(waits));
    if (waits_for) {
        int size = before_size(before, waits);
        (void)snprintf(text, sizeof(text), "%s%s%.*s%s", waits, size > 0 ? " (" : "",
                       size, before != NULL ? before : "", size > 0 ? ")" : "");
        add(status, view, ADDED_VM_REASON, text);
        add(status, view, ADDED_VM_WAITS, waits);
    }
    return waits_for;
}

/* What its host waits for, in place of why it was given that one. */
static void add_lack(const struct api_call *call,
                     const struct vm *vm,
                     const struct object_view *view,
                     json_t *status)
{
    const struct control_plane *control = call->api->control;
    char missing[NAME_SIZE];
    char text[640];
    if ((shows(view, ADDED_VM_REASON) || shows(view, ADDED_VM_MISSING_IMAGE)) &&
        control->vm_lacks(control->context, vm, missing, text, sizeof(text))) {
        add(status, view, ADDED_VM_REASON, text);
        add(status, view, ADDED_VM_MISSING_IMAGE, missing[0] != '\0' ? missing : NULL);
    }
}

/* Whether its template says something else by now than the VM was made with. */
static bool template_changed(const struct state *state, const struct vm *vm)
{
    const struct field *spec = record_field(kind_info(KIND_TEMPLATE)->record, "spec");
    const struct template *template =
        state_get(state, KIND_TEMPLATE, vm->meta.tenant, vm->spec.template_ref.name);
    return template != NULL && spec != NULL &&
           !record_equal(spec->record, &template->spec, &vm->spec.machine);
}

static void decorate_vm(const struct api_call *call,
                        const struct state *state,
                        const struct vm *vm,
                        struct object_view *view,
                        json_t *status)
{
    const struct control_plane *control = call->api->control;
    const char *host = host_name(state, vm->status.host);
    add(status, view, ADDED_VM_PHASE, phase_names[vm->status.phase]);
    add_number(status, view, ADDED_VM_EPOCH, vm->status.epoch);
    add(status, view, ADDED_VM_HOST, host);
    add(status, view, ADDED_VM_DISK_HOST, host_name(state, vm->status.disk_host));
    const struct snapshot *begins = state_snapshot(state, vm->status.restore);
    add(status, view, ADDED_VM_RESTORE, begins != NULL ? begins->meta.name : NULL);
    if (!add_reason(call, vm, view, status) && host != NULL) {
        add_lack(call, vm, view, status);
    }
    if (shows(view, ADDED_VM_TEMPLATE_CHANGED) && template_changed(state, vm)) {
        json_object_set_new(status, "templateChanged", json_true());
    }
    if (shows(view, ADDED_VM_PLACE_UNKNOWN) && state_place_unknown(state, vm)) {
        json_object_set_new(status, "placeUnknown", json_true());
    }
    json_t *live =
        shows(view, ADDED_VM_LIVE) ? control->vm_live(control->context, vm) : NULL;
    if (live != NULL) {
        json_object_set_new(status, "live", live);
    }
}

uint32_t group_over_quota(const struct state *state,
                          const struct group *group,
                          char ret_text[GROUP_QUOTA_SIZE])
{
    const struct template *template = state_get(state, KIND_TEMPLATE, group->meta.tenant,
                                                group->spec.template_ref.name);
    struct usage promised = {0};
    uint32_t have = state_group_vms(state, group);
    uint32_t desired = group->status.desired;
    uint32_t lacks =
        template == NULL || group->status.deleting || desired < have ? 0 : desired - have;
    return lacks == 0
               ? 0
               : lacks - state_quota_fits(state, group->meta.tenant, &template->spec,
                                          lacks, &promised, ret_text);
}

/* A quota alone keeps a group from having all its VMs: one without a host is a VM that
 * says so itself. */
static void add_group_reason(const struct state *state,
                             const struct group *group,
                             const struct object_view *view,
                             json_t *status)
{
    char quota[GROUP_QUOTA_SIZE];
    char text[GROUP_QUOTA_SIZE + 64];
    uint32_t lacks =
        shows(view, ADDED_GROUP_REASON) ? group_over_quota(state, group, quota) : 0;
    if (lacks > 0) {
        (void)snprintf(text, sizeof(text), "%u more VM%s held back: %s", lacks,
                       plural_s_are(lacks), quota);
        add(status, view, ADDED_GROUP_REASON, text);
    }
}

static void decorate_group(const struct state *state,
                           const struct group *group,
                           const struct object_view *view,
                           json_t *status)
{
    uint64_t ready = 0;
    size_t cursor = 0;
    const struct vm *vm;
    while (shows(view, ADDED_GROUP_READY) &&
           (vm = state_vm_of_group(state, group, &cursor)) != NULL) {
        ready += vm->status.phase == PHASE_READY ? 1U : 0U;
    }
    add_number(status, view, ADDED_GROUP_DESIRED, group->status.desired);
    add_number(status, view, ADDED_GROUP_VMS, state_group_vms(state, group));
    add_number(status, view, ADDED_GROUP_READY, ready);
    add_group_reason(state, group, view, status);
}

static void human(json_t *live, const char *from, const char *to, bool mcpu)
{
    char text[NUMBER_TEXT_SIZE];
    json_t *value = json_object_get(live, from);
    if (value == NULL) {
        return;
    }
    uint64_t number = (uint64_t)json_integer_value(value);
    if (mcpu) {
        format_mcpu((uint32_t)number, text);
    } else {
        format_bytes_human(number, text);
    }
    json_object_set_new(live, to, json_string(text));
}

static void decorate_host(const struct api_call *call,
                          const struct host *host,
                          const struct object_view *view,
                          json_t *status)
{
    const struct control_plane *control = call->api->control;
    add(status, view, ADDED_HOST_PHASE, host_phase_names[host->status.phase]);
    add(status, view, ADDED_HOST_VOTER, voter_role_names[host->status.voter]);
    json_t *live =
        shows(view, ADDED_HOST_LIVE) ? control->host_live(control->context, host) : NULL;
    if (live != NULL) {
        human(live, "cpuUsedMcpu", "cpuUsed", true);
        human(live, "memoryUsedBytes", "memoryUsed", false);
        human(live, "memoryPlacedBytes", "memoryPlaced", false);
        json_object_set_new(status, "live", live);
    }
}

static void decorate_snapshot(const struct state *state,
                              const struct snapshot *snapshot,
                              const struct object_view *view,
                              json_t *status)
{
    add(status, view, ADDED_SNAPSHOT_PHASE, snapshot_phase_names[snapshot->status.phase]);
    add(status, view, ADDED_SNAPSHOT_HOST, host_name(state, snapshot->status.host));
}

static void decorate(const struct api_call *call,
                     const struct state *state,
                     enum kind kind,
                     const void *object,
                     struct object_view *view,
                     json_t *status)
{
    if (kind == KIND_VM) {
        decorate_vm(call, state, object, view, status);
    } else if (kind == KIND_GROUP) {
        decorate_group(state, object, view, status);
    } else if (kind == KIND_HOST) {
        decorate_host(call, object, view, status);
    } else if (kind == KIND_SNAPSHOT) {
        decorate_snapshot(state, object, view, status);
    }
}

/* NULL when there is nothing of it to add. */
static json_t *added_status(const struct api_call *call,
                            const struct state *state,
                            enum kind kind,
                            const void *object,
                            struct object_view *view)
{
    bool adds = kind == KIND_VM || kind == KIND_GROUP || kind == KIND_HOST ||
                kind == KIND_SNAPSHOT;
    json_t *status = adds ? json_object() : NULL;
    if (status != NULL) {
        decorate(call, state, kind, object, view, status);
    }
    return status;
}

void object_write(const struct api_call *call,
                  const struct state *state,
                  enum kind kind,
                  const void *object,
                  struct object_view *view,
                  struct json_writer *writer)
{
    json_t *status = added_status(call, state, kind, object, view);
    const struct document_view shown = {
        .full = view->full, .parts = view->thin ? &view->parts : NULL, .status = status};
    document_write(kind, object, &shown, writer);
    json_decref(status);
}
