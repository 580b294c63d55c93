/* Do machines get the memory that their image says it boots with? Asked before the log
 * is, of a request and what is there already together; apply() does not ask, so that what
 * is in the log means the same to every release. Inside the room only.
 *
 * Threads: pure. Ownership: all is borrowed. Errors: what is wrong is reported.
 */
#pragma once

#include "api/apply_plan.h"

/* index: of the item in `items`; message begins with the field. */
typedef void
apply_memory_report(void *context, uint32_t index, const char *message, const char *hint);
/* Reports each template of the request that has too little, and each image that asks for
 * more than before and so for more than a template that is there and not in the request
 * has. Items without an object are passed over. */
void apply_memory_check(const struct state *state,
                        const struct apply_item *items,
                        uint32_t count,
                        apply_memory_report *report,
                        void *context);
