#include "api/apply_commands.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int apply_labels_inherit(const struct apply_context *context,
                         const struct state *state,
                         struct vm *vm,
                         const struct vm *there)
{
    const struct template *template =
        apply_template_for(context, state, vm->meta.tenant, vm->spec.template_ref.name);
    if (there != NULL && state_level(state) < LEVEL_VM_LABELS) {
        return labels_inherit(&vm->meta.labels, &there->meta.labels);
    }
    return template != NULL ? labels_inherit(&vm->meta.labels, &template->meta.labels)
                            : 0;
}

/* Those of `labels` that `has` does not have so. */
static int labels_beyond(const struct label_list *labels,
                         const struct label_list *has,
                         struct label_list *others)
{
    int r = 0;
    for (uint32_t i = 0; i < labels->count && r == 0; i++) {
        const struct label *label = &labels->items[i];
        const char *wanted = label->value != NULL ? label->value : "";
        const char *there = label_value(has, label->key);
        if (there == NULL || strcmp(there, wanted) != 0) {
            r = label_set(others, label->key, wanted);
        }
    }
    return r;
}

static int labels_gone(const struct label_list *labels,
                       const struct label_list *has,
                       struct label_list *gone)
{
    int r = 0;
    for (uint32_t i = 0; i < has->count && r == 0; i++) {
        if (label_value(labels, has->items[i].key) == NULL) {
            r = label_set(gone, has->items[i].key, "");
        }
    }
    return r;
}

/* A VM that is there. Which labels become others goes out, not all that it shall have:
 * somebody else may be adding some. The level of a cluster's first days knows the command
 * that switches a VM, so that goes out where the labels stay. */
static int command_to_change(const struct vm *there,
                             const struct vm *wanted,
                             struct command *command)
{
    command_init(command, COMMAND_CHANGE_VM);
    struct cmd_change_vm *change = &command->body.change_vm;
    change->vm = there->meta.uid;
    change->power = wanted->spec.power;
    int r = labels_beyond(&wanted->meta.labels, &there->meta.labels, &change->labels);
    if (r == 0) {
        r = labels_gone(&wanted->meta.labels, &there->meta.labels, &change->removed);
    }
    if (r == 0 && change->labels.count == 0 && change->removed.count == 0) {
        command_fini(command);
        command_init(command, COMMAND_SET_POWER);
        command->body.set_power.vm = there->meta.uid;
        command->body.set_power.power = wanted->spec.power;
    }
    return r;
}

static int command_for(const struct state *state,
                       const struct apply_item *item,
                       struct command *command)
{
    const struct vm *vm = item->object;
    const struct vm *there;
    if (item->kind != KIND_VM) {
        command_init(command, COMMAND_PUT);
        return command_set_put(command, item->kind, item->object, REVISION_ANY);
    }
    there = state_get(state, KIND_VM, vm->meta.tenant, vm->meta.name);
    if (there != NULL) {
        return command_to_change(there, vm, command);
    }
    command_init(command, COMMAND_ADMIT_VM);
    memcpy(command->body.admit_vm.tenant, vm->meta.tenant, NAME_SIZE);
    memcpy(command->body.admit_vm.name, vm->meta.name, NAME_SIZE);
    memcpy(command->body.admit_vm.template_name, vm->spec.template_ref.name, NAME_SIZE);
    command->body.admit_vm.power = vm->spec.power;
    return labels_inherit(&command->body.admit_vm.labels, &vm->meta.labels);
}

/* By the object's place in the request and nothing else: a retry, which finds a VM that
 * the first try has made, would change it, and is told that it was answered. 0 was the
 * guard. */
static uint32_t command_number(uint32_t index)
{
    return 1 + 2 * index;
}

void apply_commands_free(struct command *commands, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        command_fini(&commands[i]);
    }
    free(commands);
}

int apply_commands_make(struct apply_context *context,
                        const struct state *state,
                        struct command **ret_commands,
                        uint32_t *ret_count)
{
    struct command *commands = calloc(context->count + 1, sizeof(*commands));
    uint32_t count = 0;
    int r = commands == NULL ? -ENOMEM : 0;
    for (uint32_t i = 0; i < context->count && r == 0; i++) {
        if (context->items[i].sends) {
            context->numbers[count] = command_number(i);
            r = command_for(state, &context->items[i], &commands[count++]);
        }
    }
    if (r < 0) {
        apply_commands_free(commands, count);
        return r;
    }
    *ret_commands = commands;
    *ret_count = count;
    return 0;
}
