#include "base/require.h"
#include "model/state_internal.h"

#include <stdio.h>

/* Finished operations beyond this many are dropped, oldest first. */
#define OPERATIONS_KEPT_MAX 1024

static const char *const operation_verbs[] = {
    [OPERATION_RUNNING] = "started",
    [OPERATION_DONE] = "done",
    [OPERATION_FAILED] = "failed",
};

/* Room for one more: the finished one with the lowest uid goes. */
static void drop_old_operation(struct apply *apply)
{
    struct table *table = &apply->state->tables[KIND_OPERATION];
    if (table->count < OPERATIONS_KEPT_MAX) {
        return;
    }
    struct entry *oldest = NULL;
    for (uint32_t i = 0; i < table->count; i++) {
        struct entry *entry = table->items[i];
        const struct operation *operation = entry->object;
        if (operation->status.phase != OPERATION_RUNNING &&
            (oldest == NULL || meta_of(entry)->uid < meta_of(oldest)->uid)) {
            oldest = entry;
        }
    }
    if (oldest != NULL) {
        apply_removed(apply, oldest, &(struct change_note){0});
    }
}

static int operation_create(struct apply *apply,
                            const struct cmd_operation_step *step,
                            struct entry **ret_entry)
{
    if (!name_valid(step->name)) {
        return apply_refuse(apply, BERTH_EINVALID,
                            "name: %s is not a name: use a-z, 0-9 "
                            "and -, starting with a letter",
                            step->name);
    }
    int r = apply_check_room(apply, KIND_OPERATION);
    if (r != 0) {
        return r;
    }
    drop_old_operation(apply);
    struct operation *operation = object_new(KIND_OPERATION);
    REQUIRE(operation != NULL);
    (void)snprintf(operation->meta.name, sizeof(operation->meta.name), "%s", step->name);
    bool titled = step->title != NULL && step->title[0] != '\0';
    r = record_set_text(&operation->spec.title, titled ? step->title : step->name);
    REQUIRE(r == 0);
    *ret_entry = apply_create(apply, KIND_OPERATION, operation);
    return 0;
}

int apply_operation_step(struct apply *apply, const struct command *command)
{
    const struct cmd_operation_step *step = &command->body.operation_step;
    struct entry *entry = state_entry_named(apply->state, KIND_OPERATION, "", step->name);
    bool created = entry == NULL;
    if (created) {
        int r = operation_create(apply, step, &entry);
        if (r != 0) {
            return r;
        }
    }
    struct operation *operation = entry->object;
    uint32_t from = operation->status.phase;
    if (!created && from != OPERATION_RUNNING) {
        return apply_refuse(apply, BERTH_EPHASE, "operation %s is over: it is %s",
                            step->name, operation_phase_names[from]);
    }
    apply->result->uid = operation->meta.uid;
    operation->status.phase = step->phase;
    operation->status.permille = step->permille;
    int r = record_set_text(&operation->status.step, step->step);
    REQUIRE(r == 0);
    bool told = created || step->phase != from;
    apply_changed(
        apply, entry,
        &(struct change_note){.verb = told ? operation_verbs[step->phase] : NULL,
                              .reason = step->step,
                              .created = created});
    return 0;
}
