/* What an apply sends to the log: the labels that its VMs shall have, and a command for
 * each object that is new or has changed. Inside the room only.
 *
 * Threads: pure. Ownership: the commands are the caller's. Errors: -ENOMEM, or
 * BERTH_ETOOLARGE for labels that no document gets past its checks; then nothing goes
 * out, since of labels of which some are missing the others would be taken away.
 */
#pragma once

#include "api/apply_plan.h"
#include "model/command.h"

/* A VM has the labels that its file names and, beside them, its template's, also one that
 * is there (`there`, or NULL): what neither says any more goes. The first level cannot
 * change labels, so there the VM keeps what it has. */
int apply_labels_inherit(const struct apply_context *context,
                         const struct state *state,
                         struct vm *vm,
                         const struct vm *there);
/* One command per item that sends, in their order, and its number in context->numbers. */
int apply_commands_make(struct apply_context *context,
                        const struct state *state,
                        struct command **ret_commands,
                        uint32_t *ret_count);
/* NULL is fine. */
void apply_commands_free(struct command *commands, uint32_t count);
