/* Many objects at once: all checked first, then written in order. */
#include "api/api_handlers.h"
#include "api/apply_commands.h"
#include "api/apply_memory.h"
#include "api/apply_plan.h"
#include "api/object_view.h"
#include "base/cleanup.h"
#include "model/document.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PATH_SIZE 256
/* A trial copies the state on the loop that the leader's heartbeats go out from: with
 * more VMs than this it would take too much of the time after which others elect. */
#define TRIAL_VMS_MAX 10000

static void context_free(void *pointer)
{
    struct apply_context *context = pointer;
    for (uint32_t i = 0; i < context->count; i++) {
        object_free(context->items[i].kind, context->items[i].object);
        json_decref(context->items[i].changes);
    }
    free(context);
}

/* What others refer to is written first. */
static int rank_of(enum kind kind)
{
    static const int ranks[KIND_COUNT] = {
        [KIND_TENANT] = 1,   [KIND_IMAGE] = 2, [KIND_NETWORK] = 3, [KIND_DISK] = 4,
        [KIND_TEMPLATE] = 5, [KIND_GROUP] = 6, [KIND_VM] = 7,
    };
    return ranks[kind];
}

static int by_rank(const void *a, const void *b)
{
    const struct apply_item *left = a;
    const struct apply_item *right = b;
    int order = rank_of(left->kind) - rank_of(right->kind);
    order = order != 0 ? order
                       : strcmp(object_meta(left->object)->name,
                                object_meta(right->object)->name);
    return order != 0 ? order
                      : strcmp(object_meta(left->object)->tenant,
                               object_meta(right->object)->tenant);
}

/* ---- reading and checking
 * --------------------------------------------------------------------------------------
 */

/* Bytes of the path that a message begins with: "spec.nics[1].network: ..."; or 0. */
static size_t path_size(const char *message)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                  "0123456789.[]_-/";
    size_t size = strspn(message, letters);
    bool rooted =
        strncmp(message, "spec", 4) == 0 || strncmp(message, "metadata", 8) == 0;
    return rooted && message[size] == ':' ? size : 0;
}

/* "/objects/1/spec/nics/1/network": the object, and the field when the message names it.
 */
static void pointer_to(size_t index, const char *message, char ret_pointer[PATH_SIZE])
{
    size_t used = (size_t)snprintf(ret_pointer, PATH_SIZE, "/objects/%zu", index);
    size_t size = path_size(message);
    if (size > 0) {
        ret_pointer[used++] = '/';
    }
    for (size_t i = 0; i < size && used + 3 < PATH_SIZE; i++) {
        char c = message[i];
        if (c == '.' || c == '[') {
            ret_pointer[used++] = '/';
        } else if (c == '/') { /* in the key of a label */
            ret_pointer[used++] = '~';
            ret_pointer[used++] = '1';
        } else if (c != ']') {
            ret_pointer[used++] = c;
        }
    }
    ret_pointer[used] = '\0';
}

static void
fault_of(json_t *errors, size_t index, int code, const char *message, const char *hint)
{
    char pointer[PATH_SIZE];
    pointer_to(index, message, pointer);
    json_array_append_new(errors,
                          json_pack("{s:s, s:s, s:s, s:s?}", "pointer", pointer, "code",
                                    err_name(code), "message", message, "hint", hint));
}

static void fault(json_t *errors, size_t index, const char *message, const char *hint)
{
    fault_of(errors, index, BERTH_EINVALID, message, hint);
}

struct check {
    json_t *errors;
    size_t index;
};

static void
check_report(void *context, const char *path, const char *message, const char *hint)
{
    const struct check *check = context;
    char text[512];
    (void)snprintf(text, sizeof(text), "%.120s: %.350s", path, message);
    fault(check->errors, check->index, text, hint);
}

static void check_image(const struct image *image, size_t index, json_t *errors)
{
    for (uint32_t i = 0; i < image->spec.artifacts.count; i++) {
        if (digest_is_zero(&image->spec.artifacts.items[i].sha256)) {
            fault(errors, index, "spec.artifacts: an artifact has no sha256",
                  "`berth apply` uploads files and fills it in");
        }
    }
}

static void
check_vm(const struct state *state, struct apply_item *item, size_t index, json_t *errors)
{
    const struct vm *wanted = item->object;
    const struct vm *there =
        state_get(state, KIND_VM, wanted->meta.tenant, wanted->meta.name);
    if (there != NULL &&
        strcmp(there->spec.template_ref.name, wanted->spec.template_ref.name) != 0) {
        fault(errors, index, "a VM keeps its template", "delete it and make it anew");
    }
    if (there != NULL && there->spec.group[0] != '\0') {
        fault(errors, index, "the VM belongs to a group", "change the group");
    }
}

static void check_network(const struct api_call *call,
                          const struct state *state,
                          const struct network *wanted,
                          size_t index,
                          json_t *errors)
{
    struct err err;
    const struct network *there =
        state_get(state, KIND_NETWORK, wanted->meta.tenant, wanted->meta.name);
    int r = subject_may_take(state, &call->subject, there, wanted, &err);
    if (r < 0) {
        fault_of(errors, index, r, err.text, NULL);
    }
}

/* tenant: NULL for any. */
static bool is_new_network(const struct state *state,
                           const struct apply_item *item,
                           const char *tenant)
{
    if (item->kind != KIND_NETWORK || item->object == NULL) {
        return false;
    }
    const struct metadata *meta = object_meta(item->object);
    return (tenant == NULL || strcmp(meta->tenant, tenant) == 0) &&
           state_get(state, KIND_NETWORK, meta->tenant, meta->name) == NULL;
}

/* Each new network counts the new ones of its tenant before it in the request. */
static void check_network_counts(const struct api_call *call,
                                 const struct apply_context *context,
                                 const struct state *state,
                                 json_t *errors)
{
    for (uint32_t i = 0; i < context->count; i++) {
        const struct apply_item *item = &context->items[i];
        struct err err;
        uint32_t more = 0;
        if (!is_new_network(state, item, NULL)) {
            continue;
        }
        const char *tenant = object_meta(item->object)->tenant;
        const char *name = object_meta(item->object)->name;
        if (subject_may(state, &call->subject, ACCESS_WRITE, KIND_NETWORK, tenant, name) <
            0) {
            continue; /* refused already, without a word of what another tenant has */
        }
        for (uint32_t k = 0; k < i; k++) {
            more += is_new_network(state, &context->items[k], tenant) ? 1U : 0U;
        }
        int r = subject_may_make_network(state, &call->subject, tenant, more, &err);
        if (r < 0) {
            fault_of(errors, item->place, r, err.text, NULL);
        }
    }
}

struct memory_check {
    const struct api_call *call;
    const struct state *state;
    json_t *errors;
};

/* Whoever may not write the object is not told of what it refers to either. */
static void
memory_lacks(void *context, uint32_t index, const char *message, const char *hint)
{
    const struct memory_check *check = context;
    const struct apply_context *apply = check->call->context;
    const struct apply_item *item = &apply->items[index];
    const struct metadata *meta = object_meta(item->object);
    if (subject_may(check->state, &check->call->subject, ACCESS_WRITE, item->kind,
                    meta->tenant, meta->name) == 0) {
        fault(check->errors, item->place, message, hint);
    }
}

static void item_read(struct api_call *call,
                      const struct state *state,
                      struct apply_item *item,
                      const struct json_value *document,
                      size_t index,
                      json_t *errors)
{
    struct err err;
    struct check check = {.errors = errors, .index = index};
    if (document_read(document, &item->kind, &item->object, &err) < 0) {
        fault(errors, index, err.text, NULL);
        return;
    }
    const struct kind_info *info = kind_info(item->kind);
    struct metadata *meta = object_meta(item->object);
    if (!info->user_writable || item->kind == KIND_DISK) {
        fault(errors, index, "objects of this kind are not applied",
              item->kind == KIND_DISK ? "a VM's disks stand in its template" : NULL);
        return;
    }
    if (info->scope == SCOPE_TENANT && meta->tenant[0] == '\0') {
        memcpy(meta->tenant, DEFAULT_TENANT, sizeof(DEFAULT_TENANT));
    }
    if (subject_may(state, &call->subject, ACCESS_WRITE, item->kind, meta->tenant,
                    meta->name) < 0) {
        (void)snprintf(err.text, sizeof(err.text), "%s may not write this",
                       call->subject.name);
        fault_of(errors, index, BERTH_EFORBIDDEN, err.text,
                 "berth help roles; an administrator makes stronger tokens");
        return;
    }
    (void)object_check(item->kind, item->object, check_report, &check);
    if (item->kind == KIND_IMAGE) {
        check_image(item->object, index, errors);
    } else if (item->kind == KIND_VM) {
        check_vm(state, item, index, errors);
    } else if (item->kind == KIND_NETWORK) {
        check_network(call, state, item->object, index, errors);
    }
}

static const struct artifact *same_artifact(const struct image *image,
                                            const struct digest *sha256)
{
    for (uint32_t i = 0; image != NULL && i < image->spec.artifacts.count; i++) {
        if (digest_equal(&image->spec.artifacts.items[i].sha256, sha256)) {
            return &image->spec.artifacts.items[i];
        }
    }
    return NULL;
}

/* Sizes that the file does not say: as known before, or of the content on this host. */
static void
fill_sizes(const struct api_call *call, struct image *image, const struct image *there)
{
    const struct control_plane *control = call->api->control;
    for (uint32_t i = 0; i < image->spec.artifacts.count; i++) {
        struct artifact *artifact = &image->spec.artifacts.items[i];
        const struct artifact *known = same_artifact(there, &artifact->sha256);
        uint64_t size = known != NULL ? known->size_bytes : 0;
        if (artifact->size_bytes == 0 && size == 0) {
            (void)control->blob_has(control->context, &artifact->sha256, &size);
        }
        artifact->size_bytes = artifact->size_bytes != 0 ? artifact->size_bytes : size;
    }
}

static bool is_going(enum kind kind, const void *there)
{
    return kind == KIND_GROUP ? ((const struct group *)there)->status.deleting
           : kind == KIND_VM
               ? ((const struct vm *)there)->status.intent == STOP_INTENT_DELETE
               : false;
}

/* 0, or -ENOMEM: of labels of which some are missing, the others would be taken away. */
static int item_judge(const struct api_call *call,
                      const struct apply_context *context,
                      const struct state *state,
                      struct apply_item *item)
{
    const struct metadata *meta = object_meta(item->object);
    const void *there = state_get(state, item->kind, meta->tenant, meta->name);
    if (item->kind == KIND_VM) {
        int r = apply_labels_inherit(context, state, item->object, there);
        if (r < 0) {
            return r;
        }
    } else if (item->kind == KIND_IMAGE) {
        fill_sizes(call, item->object, there);
    }
    item->changes = apply_changes_of(item->kind, there, item->object);
    bool same = there != NULL && json_array_size(item->changes) == 0;
    item->action = there == NULL ? "created" : same ? "unchanged" : "changed";
    /* What is on its way out looks unchanged; the log refuses it. */
    item->sends = !same || is_going(item->kind, there);
    return 0;
}

/* ---- answers
 * ---------------------------------------------------------------------------------------------------------
 */

static json_t *result_row(const struct apply_item *item, bool with_changes)
{
    const struct metadata *meta = object_meta(item->object);
    json_t *row =
        json_pack("{s:s, s:s, s:s, s:s}", "kind", kind_info(item->kind)->name, "tenant",
                  meta->tenant, "name", meta->name, "action", item->action);
    if (with_changes && item->changes != NULL) {
        json_object_set(row, "changes", item->changes);
    }
    if (item->result.code != 0) {
        json_object_set_new(row, "action", json_string("refused"));
        json_object_set_new(row, "error", json_string(item->result.text));
    }
    if (item->result.revision != 0) {
        json_object_set_new(row, "revision",
                            json_integer((json_int_t)item->result.revision));
    }
    return row;
}

static json_t *results_of(const struct apply_context *context, bool with_changes)
{
    json_t *results = json_array();
    for (uint32_t i = 0; i < context->count; i++) {
        json_array_append_new(results, result_row(&context->items[i], with_changes));
    }
    return results;
}

/* What a quota keeps back of the groups, as they are now: their VMs come later. */
static void add_held_back(json_t *results,
                          const struct apply_context *context,
                          const struct state *state)
{
    char quota[GROUP_QUOTA_SIZE];
    for (uint32_t i = 0; state != NULL && i < context->count; i++) {
        const struct apply_item *item = &context->items[i];
        const struct metadata *meta = object_meta(item->object);
        const struct group *group =
            item->kind == KIND_GROUP
                ? state_get(state, KIND_GROUP, meta->tenant, meta->name)
                : NULL;
        uint32_t lacks = group != NULL ? group_over_quota(state, group, quota) : 0;
        if (lacks > 0) {
            json_t *row = json_array_get(results, i);
            json_object_set_new(row, "overQuota", json_integer((json_int_t)lacks));
            json_object_set_new(row, "quota", json_string(quota));
        }
    }
}

/* ---- refusals ---- */

/* The item of the same request that this group or VM is made from, or NULL. */
static const struct apply_item *template_item(const struct apply_context *context,
                                              const struct apply_item *user)
{
    const struct template_ref *ref =
        user->kind == KIND_GROUP
            ? &((const struct group *)user->object)->spec.template_ref
        : user->kind == KIND_VM ? &((const struct vm *)user->object)->spec.template_ref
                                : NULL;
    for (uint32_t i = 0; ref != NULL && i < context->count; i++) {
        const struct metadata *meta = object_meta(context->items[i].object);
        if (context->items[i].kind == KIND_TEMPLATE &&
            strcmp(meta->name, ref->name) == 0 &&
            strcmp(meta->tenant, object_meta(user->object)->tenant) == 0) {
            return &context->items[i];
        }
    }
    return NULL;
}

static bool tenant_is_there(const struct apply_item *item, const struct state *state)
{
    const char *tenant = object_meta(item->object)->tenant;
    return tenant[0] == '\0' || state_get(state, KIND_TENANT, "", tenant) != NULL;
}

/* What is refused only because its template was says that, not that there is none. That
 * there is no such tenant, which apply looks for first, stands where the tenant does. */
static void refusal_text(const struct apply_context *context,
                         const struct apply_item *item,
                         const struct state *state,
                         char ret_text[APPLY_TEXT_SIZE + 32])
{
    const struct apply_item *template = template_item(context, item);
    bool missing = item->result.code == BERTH_ENOTFOUND;
    bool echo = missing && template != NULL && template->result.code != 0;
    bool tenantless = missing && state != NULL && !tenant_is_there(item, state);
    (void)snprintf(ret_text, APPLY_TEXT_SIZE + 32, "%s%s",
                   tenantless && !echo ? "metadata.tenant: " : "",
                   echo ? "spec.template: the template is refused itself"
                        : item->result.text);
}

/* Adds what the template refers to and the state does not hold, but for what the refusal
 * says already: apply ends at the first, and whoever mends a file wants all. In a tenant
 * that is not there nothing is: that one fault says it. */
static void
lost_references(const struct apply_item *item, const struct state *state, json_t *errors)
{
    const struct template *template = item->object;
    const bool tenant_there = tenant_is_there(item, state);
    char text[APPLY_TEXT_SIZE];
    uint32_t at = 0;
    while (tenant_there && state_template_lacks(state, template, &at, text)) {
        if (strcmp(text, item->result.text) != 0) {
            fault_of(errors, item->place, BERTH_ENOTFOUND, text, NULL);
        }
    }
}

/* The first refusal, or NULL; each one goes into `errors` at its place. state: as it is
 * after the others, or NULL. */
static const struct apply_item *refusals_of(const struct apply_context *context,
                                            const struct state *state,
                                            json_t *errors)
{
    const struct apply_item *first = NULL;
    for (uint32_t i = 0; i < context->count; i++) {
        const struct apply_item *item = &context->items[i];
        if (item->result.code != 0) {
            first = first != NULL ? first : item;
            char text[APPLY_TEXT_SIZE + 32];
            refusal_text(context, item, state, text);
            fault_of(errors, item->place, item->result.code, text, NULL);
            if (state != NULL && item->kind == KIND_TEMPLATE) {
                lost_references(item, state, errors);
            }
        }
    }
    return first;
}

/* Takes results and forecast (or NULL). */
static void answer_refusal(struct api_call *call,
                           const struct apply_item *first,
                           json_t *errors,
                           json_t *results,
                           json_t *forecast)
{
    const struct apply_result *refusal = &first->result;
    call_fail_with(call,
                   &(struct problem){.code = refusal->code,
                                     .status = refusal->code == BERTH_ENOTFOUND ? 422 : 0,
                                     .detail = refusal->text,
                                     .errors = errors,
                                     .extra = json_pack("{s:o, s:o*}", "results", results,
                                                        "forecast", forecast)});
}

static void applied(struct api_call *call)
{
    struct apply_context *context = call->context;
    json_t *errors = json_array();
    uint64_t revision = call->revision;
    uint32_t result = 0;
    for (uint32_t i = 0; i < context->count; i++) {
        if (context->items[i].sends) {
            context->items[i].result = call->results[result++];
            uint64_t written = context->items[i].result.revision;
            revision = written > revision ? written : revision;
        }
    }
    const struct apply_item *refused = refusals_of(context, call_state(call), errors);
    json_t *results = results_of(context, false);
    add_held_back(results, context, call_state(call));
    if (refused != NULL) {
        answer_refusal(call, refused, errors, results, NULL);
        return;
    }
    json_decref(errors);
    call_answer(
        call, 200,
        json_pack("{s:I, s:o}", "revision", (json_int_t)revision, "results", results), 0);
}

/* ---- writing
 * ---------------------------------------------------------------------------------------------------------
 */

static int judge_all(struct api_call *call, const struct state *state)
{
    struct apply_context *context = call->context;
    int r = 0;
    for (uint32_t i = 0; i < context->count && r == 0; i++) {
        r = item_judge(call, context, state, &context->items[i]);
    }
    return r;
}

static void write_all(struct api_call *call, const struct state *state)
{
    struct apply_context *context = call->context;
    struct command *commands = NULL;
    uint32_t count = 0;
    int r = apply_commands_make(context, state, &commands, &count);
    if (r < 0) {
        call_fail(call, r, NULL);
    } else if (count == 0) {
        json_t *results = results_of(context, false);
        add_held_back(results, context, state);
        call_answer(call, 200,
                    json_pack("{s:I, s:o}", "revision", (json_int_t)call->revision,
                              "results", results),
                    0);
    } else {
        call->numbers = context->numbers;
        call_propose(call, commands, count, applied);
    }
    apply_commands_free(commands, count);
}

/* ---- trying ---- */

static int state_copy(const struct state *state, struct state **ret_copy, struct err *err)
{
    CLEANUP_FREE uint8_t *data = NULL;
    size_t size = 0;
    struct state *copy = state_new(NULL, NULL);
    int r = copy != NULL ? state_encode(state, &data, &size) : -ENOMEM;
    if (r < 0) {
        r = err_sys(err, r, "copy the state for a trial");
    } else {
        r = state_decode(copy, data, size, err);
    }
    *ret_copy = r == 0 ? copy : state_free(copy);
    return r;
}

/* The commands on a copy of the state, so that a trial refuses what the log would refuse,
 * in its words: references, quotas, addresses. The copy is the caller's. */
static int try_all(struct apply_context *context,
                   const struct state *state,
                   struct state **ret_copy,
                   struct err *err)
{
    struct command *commands = NULL;
    uint32_t count = 0;
    uint32_t at = 0;
    int r = apply_commands_make(context, state, &commands, &count);
    r = r == 0 ? state_copy(state, ret_copy, err) : err_sys(err, r, "try the commands");
    for (uint32_t i = 0; i < context->count && r == 0; i++) {
        struct apply_item *item = &context->items[i];
        if (item->sends) {
            struct command *command = &commands[at++];
            command->level = state_level(*ret_copy);
            r = command_check_level(command, command->level, err);
            if (r == 0) {
                state_apply(*ret_copy, command, &item->result);
            }
            item->result.revision = 0; /* it was never written */
        }
    }
    apply_commands_free(commands, count);
    return r;
}

static bool sends_any(const struct apply_context *context)
{
    bool any = false;
    for (uint32_t i = 0; i < context->count && !any; i++) {
        any = context->items[i].sends;
    }
    return any;
}

static void dry_run(struct api_call *call, const struct state *state)
{
    struct apply_context *context = call->context;
    bool plan = strcmp(query_get(&call->query, "dryRun"), "plan") == 0;
    struct state *copy = NULL;
    struct err err;
    int r = judge_all(call, state);
    if (r < 0) {
        call_fail(call, r, NULL);
        return;
    }
    bool any = sends_any(context);
    bool large = any && state_count(state, KIND_VM) > TRIAL_VMS_MAX;
    r = any && !large ? try_all(context, state, &copy, &err) : 0;
    if (r < 0) {
        call_fail(call, r, err.text);
        return;
    }
    json_t *errors = json_array();
    const struct apply_item *refused =
        refusals_of(context, any && copy != NULL ? copy : state, errors);
    json_t *results = results_of(context, plan);
    json_t *forecast =
        plan ? apply_forecast_of(call, context, state, any ? copy : state) : NULL;
    copy = state_free(copy);
    if (refused != NULL) {
        answer_refusal(call, refused, errors, results, forecast);
        return;
    }
    json_decref(errors);
    call_answer(call, 200,
                json_pack("{s:I, s:o, s:o*, s:s*}", "revision",
                          (json_int_t)call->revision, "results", results, "forecast",
                          forecast, "notTried",
                          large ? "references and quotas: the cluster has too many VMs "
                                  "to try the files on a copy"
                                : NULL),
                0);
}

/* When nothing but rights, or room, is wrong: whoever has them may send the same. */
static int code_of_all(const json_t *errors)
{
    static const int codes[] = {BERTH_EFORBIDDEN, BERTH_EQUOTA};
    for (size_t i = 0; i < ARRAY_COUNT(codes); i++) {
        size_t index;
        json_t *error;
        bool all = true;
        json_array_foreach(errors, index, error)
        {
            all = all && err_code(json_member_text(error, "code", "")) == codes[i];
        }
        if (all) {
            return codes[i];
        }
    }
    return BERTH_EINVALID;
}

void handle_apply(struct api_call *call, const struct state *state)
{
    const char *mode = query_get(&call->query, "dryRun");
    const struct json_value *body = json_view_root(call->body);
    const struct json_value *list = json_value_member(body, "objects");
    const struct json_value *document = list != NULL ? json_value_first(list) : body;
    size_t count = list != NULL ? json_value_count(list) : 1;
    if (body == NULL || count == 0 || count > APPLY_OBJECTS_MAX ||
        (list != NULL && json_value_type(list) != JSON_VALUE_ARRAY)) {
        call_fail(call, BERTH_EINVALID,
                  "the body must be {\"objects\": [1 to 1000 objects]}");
        return;
    }
    if (mode != NULL && strcmp(mode, "plan") != 0 && strcmp(mode, "validate") != 0) {
        call_fail(call, BERTH_EINVALID, "dryRun: validate or plan");
        return;
    }
    struct apply_context *context = calloc(1, sizeof(*context));
    if (context == NULL) {
        call_fail(call, -ENOMEM, NULL);
        return;
    }
    call->context = context;
    call->context_free = context_free;
    json_t *errors = json_array();
    for (size_t i = 0; i < count; i++, document = json_value_next(document)) {
        item_read(call, state, &context->items[i], document, i, errors);
        context->items[i].place = (uint32_t)i;
        context->count++;
    }
    check_network_counts(call, context, state, errors);
    apply_memory_check(state, context->items, context->count, memory_lacks,
                       &(struct memory_check){call, state, errors});
    if (json_array_size(errors) > 0) {
        call_fail_with(call, &(struct problem){.code = code_of_all(errors),
                                               .detail = "nothing was changed",
                                               .errors = errors});
        return;
    }
    json_decref(errors);
    qsort(context->items, context->count, sizeof(context->items[0]), by_rank);
    if (mode != NULL) {
        trials_wait(call, dry_run);
        return;
    }
    int r = judge_all(call, state);
    if (r < 0) {
        call_fail(call, r, NULL);
        return;
    }
    write_all(call, state);
}
