/* Many objects at once: all checked first, then written in order. */
#include "api/api_handlers.h"
#include "base/cleanup.h"
#include "model/document.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OBJECTS_MAX 1000
#define PATH_SIZE   256
#define DIFF_DEPTH  16

struct item {
    enum kind kind;
    void *object;       /* owned */
    const char *action; /* created, changed, unchanged */
    json_t *changes;    /* owned, plan only */
    bool sends;         /* a command goes out for it */
};

struct apply_context {
    struct item items[OBJECTS_MAX];
    uint32_t count;
    uint32_t numbers[OBJECTS_MAX]; /* of the commands; see command_number */
};

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
    const struct item *left = a;
    const struct item *right = b;
    int order = rank_of(left->kind) - rank_of(right->kind);
    order = order != 0 ? order
                       : strcmp(object_meta(left->object)->name,
                                object_meta(right->object)->name);
    return order != 0 ? order
                      : strcmp(object_meta(left->object)->tenant,
                               object_meta(right->object)->tenant);
}

/* ---- differences
 * ---------------------------------------------------------------------------------------------
 */

static void
diff(const char *path, const json_t *from, const json_t *to, int depth, json_t *changes)
{
    char below[PATH_SIZE];
    const char *key;
    json_t *value;
    if (json_equal(from, to) || (from == NULL && to == NULL)) {
        return; /* also when neither says anything */
    }
    if (!json_is_object(from) || !json_is_object(to) || depth > DIFF_DEPTH) {
        json_array_append_new(changes, json_pack("{s:s, s:O?, s:O?}", "path", path,
                                                 "from", from, "to", to));
        return;
    }
    json_object_foreach((json_t *)(uintptr_t)to, key, value)
    {
        (void)snprintf(below, sizeof(below), "%.180s.%.60s", path, key);
        diff(below, json_object_get(from, key), value, depth + 1, changes);
    }
    json_object_foreach((json_t *)(uintptr_t)from, key, value)
    {
        if (json_object_get(to, key) == NULL) {
            (void)snprintf(below, sizeof(below), "%.180s.%.60s", path, key);
            diff(below, value, NULL, depth + 1, changes);
        }
    }
}

static json_t *part_of(enum kind kind, const void *object, const char *part)
{
    json_t *document = document_of(kind, object, false);
    json_t *found = json_incref(json_object_get(document, part));
    if (strcmp(part, "metadata") == 0 && found != NULL) {
        static const char *const server[] = {"uid", "createRevision", "revision",
                                             "created"};
        for (size_t i = 0; i < ARRAY_COUNT(server); i++) {
            json_object_del(found, server[i]);
        }
    }
    json_decref(document);
    return found;
}

static void spec_of_vm(json_t *spec)
{
    json_object_del(spec, "group"); /* written by the server */
    json_object_del(spec, "machine");
}

static json_t *changes_of(enum kind kind, const void *from, const void *to)
{
    static const char *const parts[] = {"metadata", "spec"};
    json_t *changes = json_array();
    for (size_t i = 0; i < ARRAY_COUNT(parts); i++) {
        json_t *old = from != NULL ? part_of(kind, from, parts[i]) : NULL;
        json_t *new = part_of(kind, to, parts[i]);
        if (kind == KIND_VM && i == 1) {
            spec_of_vm(old);
            spec_of_vm(new);
        }
        diff(parts[i], old, new, 0, changes);
        json_decref(old);
        json_decref(new);
    }
    return changes;
}

/* ---- reading and checking
 * --------------------------------------------------------------------------------------
 */

static void fault(json_t *errors, size_t index, const char *message, const char *hint)
{
    char pointer[40];
    (void)snprintf(pointer, sizeof(pointer), "/objects/%zu", index);
    json_array_append_new(errors, json_pack("{s:s, s:s, s:s?}", "pointer", pointer,
                                            "message", message, "hint", hint));
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
check_vm(const struct state *state, struct item *item, size_t index, json_t *errors)
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

static void item_read(struct api_call *call,
                      const struct state *state,
                      struct item *item,
                      const json_t *document,
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
        fault(errors, index, "objects of this kind are not applied", NULL);
        return;
    }
    if (info->scope == SCOPE_TENANT && meta->tenant[0] == '\0') {
        memcpy(meta->tenant, DEFAULT_TENANT, sizeof(DEFAULT_TENANT));
    }
    if (subject_may(state, &call->subject, ACCESS_WRITE, item->kind, meta->tenant,
                    meta->name) < 0) {
        fault(errors, index, "you may not write this", "berth help roles");
        return;
    }
    (void)object_check(item->kind, item->object, check_report, &check);
    if (item->kind == KIND_IMAGE) {
        check_image(item->object, index, errors);
    } else if (item->kind == KIND_VM) {
        check_vm(state, item, index, errors);
    }
}

static void item_judge(const struct state *state, struct item *item)
{
    const struct metadata *meta = object_meta(item->object);
    const void *there = state_get(state, item->kind, meta->tenant, meta->name);
    item->changes = changes_of(item->kind, there, item->object);
    bool same = there != NULL && json_array_size(item->changes) == 0;
    item->action = there == NULL ? "created" : same ? "unchanged" : "changed";
    item->sends = !same;
}

/* ---- answers
 * ---------------------------------------------------------------------------------------------------------
 */

static json_t *result_row(const struct item *item, bool with_changes)
{
    const struct metadata *meta = object_meta(item->object);
    json_t *row =
        json_pack("{s:s, s:s, s:s, s:s}", "kind", kind_info(item->kind)->name, "tenant",
                  meta->tenant, "name", meta->name, "action", item->action);
    if (with_changes && item->changes != NULL) {
        json_object_set(row, "changes", item->changes);
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

static const struct template *template_of(const struct apply_context *context,
                                          const struct state *state,
                                          const struct group *group)
{
    for (uint32_t i = 0; i < context->count; i++) {
        const struct metadata *meta = object_meta(context->items[i].object);
        if (context->items[i].kind == KIND_TEMPLATE &&
            strcmp(meta->name, group->spec.template_ref.name) == 0 &&
            strcmp(meta->tenant, group->meta.tenant) == 0) {
            return context->items[i].object;
        }
    }
    return state_get(state, KIND_TEMPLATE, group->meta.tenant,
                     group->spec.template_ref.name);
}

/* Where the VMs that a group does not have yet would go. */
static json_t *forecast_of(const struct api_call *call,
                           const struct apply_context *context,
                           const struct state *state)
{
    const struct control_plane *control = call->api->control;
    json_t *forecasts = json_array();
    for (uint32_t i = 0; i < context->count; i++) {
        const struct group *group = context->items[i].object;
        if (context->items[i].kind != KIND_GROUP) {
            continue;
        }
        const struct template *template = template_of(context, state, group);
        const struct group *there =
            state_get(state, KIND_GROUP, group->meta.tenant, group->meta.name);
        uint32_t wanted = group->spec.autoscale.max > 0 ? group->spec.autoscale.min
                                                        : group->spec.replicas;
        uint32_t have = 0;
        size_t cursor = 0;
        while (there != NULL && state_vm_of_group(state, there, &cursor) != NULL) {
            have++;
        }
        json_t *row = template != NULL && wanted > have
                          ? control->forecast(control->context, group->meta.tenant,
                                              there != NULL ? group->meta.name : NULL,
                                              &template->spec, wanted - have)
                          : NULL;
        if (row != NULL) {
            json_object_set_new(row, "group", json_string(group->meta.name));
            json_array_append_new(forecasts, row);
        }
    }
    return forecasts;
}

static void applied(struct api_call *call)
{
    const struct apply_context *context = call->context;
    json_t *results = json_array();
    uint64_t revision = call->revision;
    uint32_t result = 0;
    const struct apply_result *refusal = NULL;
    for (uint32_t i = 0; i < context->count; i++) {
        json_t *row = result_row(&context->items[i], false);
        if (context->items[i].sends) {
            const struct apply_result *answer = &call->results[result++];
            if (answer->code != 0) {
                refusal = refusal != NULL ? refusal : answer;
                json_object_set_new(row, "action", json_string("refused"));
                json_object_set_new(row, "error", json_string(answer->text));
            }
            revision = answer->revision > revision ? answer->revision : revision;
            json_object_set_new(row, "revision",
                                json_integer((json_int_t)answer->revision));
        }
        json_array_append_new(results, row);
    }
    if (refusal != NULL) {
        call_fail_with(
            call, &(struct problem){.code = refusal->code,
                                    .status = refusal->code == BERTH_ENOTFOUND ? 422 : 0,
                                    .detail = refusal->text,
                                    .extra = json_pack("{s:o}", "results", results)});
        return;
    }
    call_answer(
        call, 200,
        json_pack("{s:I, s:o}", "revision", (json_int_t)revision, "results", results), 0);
}

/* ---- writing
 * ---------------------------------------------------------------------------------------------------------
 */

static int
command_for(const struct state *state, const struct item *item, struct command *command)
{
    const struct vm *vm = item->object;
    const struct vm *there;
    if (item->kind != KIND_VM) {
        command_init(command, COMMAND_PUT);
        return command_set_put(command, item->kind, item->object, REVISION_ANY);
    }
    there = state_get(state, KIND_VM, vm->meta.tenant, vm->meta.name);
    if (there != NULL) {
        command_init(command, COMMAND_SET_POWER);
        command->body.set_power.vm = there->meta.uid;
        command->body.set_power.power = vm->spec.power;
        return 0;
    }
    command_init(command, COMMAND_ADMIT_VM);
    memcpy(command->body.admit_vm.tenant, vm->meta.tenant, NAME_SIZE);
    memcpy(command->body.admit_vm.name, vm->meta.name, NAME_SIZE);
    memcpy(command->body.admit_vm.template_name, vm->spec.template_ref.name, NAME_SIZE);
    command->body.admit_vm.power = vm->spec.power;
    for (uint32_t i = 0; i < vm->meta.labels.count; i++) {
        int r = label_set(&command->body.admit_vm.labels, vm->meta.labels.items[i].key,
                          vm->meta.labels.items[i].value);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

/* By the object's place in the request, so that a retry, which finds some done, asks for
 * the rest under their first numbers. 0 was the guard. */
static uint32_t command_number(uint32_t index, const struct command *command)
{
    return 1 + 2 * index + (command->type == COMMAND_SET_POWER ? 1 : 0);
}

static void write_all(struct api_call *call, const struct state *state)
{
    struct apply_context *context = call->context;
    struct command *commands = calloc(context->count + 1, sizeof(*commands));
    uint32_t count = 0;
    int r = commands == NULL ? -ENOMEM : 0;
    for (uint32_t i = 0; i < context->count && r == 0; i++) {
        if (context->items[i].sends) {
            r = command_for(state, &context->items[i], &commands[count]);
            context->numbers[count] = command_number(i, &commands[count]);
            count++;
        }
    }
    if (r < 0) {
        call_fail(call, r, NULL);
    } else if (count == 0) {
        call_answer(call, 200,
                    json_pack("{s:I, s:o}", "revision", (json_int_t)call->revision,
                              "results", results_of(context, false)),
                    0);
    } else {
        call->numbers = context->numbers;
        call_propose(call, commands, count, applied);
    }
    for (uint32_t i = 0; i < count; i++) {
        command_fini(&commands[i]);
    }
    free(commands);
}

void handle_apply(struct api_call *call, const struct state *state)
{
    const char *dry_run = query_get(&call->query, "dryRun");
    json_t *list =
        json_is_object(call->body) && json_object_get(call->body, "objects") != NULL
            ? json_object_get(call->body, "objects")
            : NULL;
    size_t count = list != NULL ? json_array_size(list) : 1;
    if (call->body == NULL || count == 0 || count > OBJECTS_MAX ||
        (list != NULL && !json_is_array(list))) {
        call_fail(call, BERTH_EINVALID,
                  "the body must be {\"objects\": [1 to 1000 objects]}");
        return;
    }
    if (dry_run != NULL && strcmp(dry_run, "plan") != 0 &&
        strcmp(dry_run, "validate") != 0) {
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
    for (size_t i = 0; i < count; i++) {
        item_read(call, state, &context->items[i],
                  list != NULL ? json_array_get(list, i) : call->body, i, errors);
        context->count++;
    }
    if (json_array_size(errors) > 0) {
        call_fail_with(call, &(struct problem){.code = BERTH_EINVALID,
                                               .detail = "nothing was changed",
                                               .errors = errors});
        return;
    }
    json_decref(errors);
    qsort(context->items, context->count, sizeof(context->items[0]), by_rank);
    for (uint32_t i = 0; i < context->count; i++) {
        item_judge(state, &context->items[i]);
    }
    if (dry_run == NULL) {
        write_all(call, state);
        return;
    }
    bool plan = strcmp(dry_run, "plan") == 0;
    json_t *answer = json_pack("{s:I, s:o}", "revision", (json_int_t)call->revision,
                               "results", results_of(context, plan));
    if (plan) {
        json_object_set_new(answer, "forecast", forecast_of(call, context, state));
    }
    call_answer(call, 200, answer, 0);
}
