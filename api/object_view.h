/* An object as the API shows it: its document, whole or the parts that were asked for,
 * with what only the leader knows.
 *
 * Shapes: struct object_view says what of each object is shown; object_view_read makes it
 * from a query's `fields` and `full`. The leader's own members (status.host, status.live,
 * why a VM waits, ...) are worked out only when they are to be seen, and why VMs wait for
 * at most OBJECT_REASONS_MAX placements in one answer: each looks at every host, on the
 * loop that the leader's heartbeats go out from. VMs of one kind share a placement;
 * beyond the bound the reason says whom to ask. Ownership: all is borrowed.
 * Threads: the loop's. Errors: BERTH_EINVALID for fields that the kind does not have.
 */
#pragma once

#include "api/query.h"
#include "model/document_write.h"
#include "model/state.h"

struct api_call;

#define OBJECT_REASONS_MAX 32
#define GROUP_QUOTA_SIZE   APPLY_TEXT_SIZE

struct object_view {
    bool full;                   /* also what is at its default */
    bool thin;                   /* only the two below */
    struct document_parts parts; /* of the stored object */
    uint32_t added;              /* of what the leader adds, a bit each */
    unsigned reasons;            /* placements that may still be looked at */
};

/* The whole object with all that is known. */
struct object_view object_view_whole(void);
int object_view_read(const struct query *query,
                     enum kind kind,
                     struct object_view *ret_view,
                     struct err *err);
void object_write(const struct api_call *call,
                  const struct state *state,
                  enum kind kind,
                  const void *object,
                  struct object_view *view,
                  struct json_writer *writer);
/* The VMs that a group lacks and its tenant's quota has no room for; with some, ret_text
 * says which quota. */
uint32_t group_over_quota(const struct state *state,
                          const struct group *group,
                          char ret_text[GROUP_QUOTA_SIZE]);
