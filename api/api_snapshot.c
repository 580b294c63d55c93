/* Snapshots of VMs: made of one, and gone back to. */
#include "api/api_handlers.h"

#include <stdio.h>
#include <string.h>

/* The log answers with a revision: what was created by that write. NULL when it is gone
 * again. */
static const struct snapshot *created_at(const struct state *state, uint64_t revision)
{
    size_t cursor = 0;
    const struct snapshot *snapshot;
    while ((snapshot = state_next(state, KIND_SNAPSHOT, &cursor)) != NULL &&
           snapshot->meta.create_revision != revision) {
    }
    return snapshot;
}

/* With its name, for the caller may have given none. */
static void made(struct api_call *call)
{
    const struct apply_result *refusal = call_refusal(call);
    const struct state *state = call_state(call);
    if (refusal != NULL) {
        call_refuse(call, refusal);
        return;
    }
    uint64_t revision = call->results[0].revision;
    const struct snapshot *snapshot = state != NULL ? created_at(state, revision) : NULL;
    call_answer(call, 201,
                snapshot != NULL
                    ? json_pack("{s:I, s:s, s:I}", "revision", (json_int_t)revision,
                                "name", snapshot->meta.name, "uid",
                                (json_int_t)snapshot->meta.uid)
                    : json_pack("{s:I}", "revision", (json_int_t)revision),
                0);
}

void handle_vm_snapshot(struct api_call *call, const struct state *state)
{
    const struct vm *vm = call_unconditional(call, state);
    struct command command;
    if (vm == NULL) {
        return; /* the call is over, and gone */
    }
    const struct json_value *given =
        json_value_member(json_view_root(call->body), "name");
    const char *name = json_value_text(given);
    if (given != NULL && (name == NULL || !name_valid(name))) {
        call_fail(call, BERTH_EINVALID,
                  "name: wanted 1-63 of a-z, 0-9 and -, starting with a letter, not "
                  "ending with -");
        return;
    }
    command_init(&command, COMMAND_SNAPSHOT_MAKE);
    command.body.snapshot_make.vm = vm->meta.uid;
    (void)snprintf(command.body.snapshot_make.name, NAME_SIZE, "%s",
                   name != NULL ? name : "");
    call_propose(call, &command, 1, made);
    command_fini(&command);
}

void handle_vm_restore(struct api_call *call, const struct state *state)
{
    const struct vm *vm = call_unconditional(call, state);
    struct command command;
    struct err err;
    bool lazy = false;
    char text[256];
    if (vm == NULL) {
        return; /* likewise */
    }
    if (call_flag(call, "lazy", &lazy, &err) < 0) {
        call_fail(call, BERTH_EINVALID, err.text);
        return;
    }
    const char *name =
        json_value_member_text(json_view_root(call->body), "snapshot", NULL);
    if (name == NULL) {
        call_fail(call, BERTH_EINVALID,
                  "snapshot: the name of one of the VM's snapshots");
        return;
    }
    const struct snapshot *snapshot =
        state_get(state, KIND_SNAPSHOT, call->target.tenant, name);
    if (snapshot == NULL || snapshot->spec.vm_uid != vm->meta.uid) {
        (void)snprintf(text, sizeof(text), "vm %s has no snapshot %.64s", vm->meta.name,
                       name);
        call_fail(call, BERTH_ENOTFOUND, text);
        return;
    }
    command_init(&command, COMMAND_RESTORE_VM);
    command.body.restore_vm.vm = vm->meta.uid;
    command.body.restore_vm.snapshot = snapshot->meta.uid;
    command.body.restore_vm.lazy = lazy;
    (void)snprintf(text, sizeof(text), "restored by %s", call->subject.name);
    (void)record_set_text(&command.body.restore_vm.reason, text);
    call_propose(call, &command, 1, call_acted);
    command_fini(&command);
}
