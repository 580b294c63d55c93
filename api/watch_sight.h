/* What a watcher could see so far, where its rights may move under it. Inside the room
 * only.
 *
 * A role in the cluster sees the same for ever. Others see tenants that they are members
 * of, which whoever writes a tenant may change: struct watch_sight knows the sum of them,
 * so that a watch begins anew when it is another one; else it would not be told that
 * objects went, or that they had been there. Root of a host sees the VMs on it, which
 * move: those that it was told of are kept by name, to be told gone when they go.
 * Threads: the loop's. Errors: -ENOMEM. Limits: the VMs of one host.
 */
#pragma once

#include "api/subject.h"
#include "base/string_map.h"
#include "model/feed.h"

struct watch_sight {
    bool known;       /* `tenants` is true as of the watch's place */
    bool moved;       /* `tenants` is another one in the state of revision `judged` */
    uint64_t judged;  /* 0: of none yet */
    uint64_t tenants; /* sum over the others' that it sees */
    struct string_map *vms; /* of root of a host: told; NULL: nobody needs them */
};

/* A zeroed one knows nothing yet and takes any fini. */
void sight_fini(struct watch_sight *sight);
/* As things are now, with nothing told. */
int sight_renew(struct watch_sight *sight,
                const struct state *state,
                const struct subject *subject);
/* The watch has come to where the log is. */
void sight_reached(struct watch_sight *sight,
                   const struct state *state,
                   const struct subject *subject);
/* Does that change give or take the sight of a tenant, or can nobody tell? */
bool sight_moves(struct watch_sight *sight,
                 const struct state *state,
                 const struct subject *subject,
                 const struct feed_entry *entry);

/* The object was told of, or told gone. */
int sight_told(struct watch_sight *sight,
               enum kind kind,
               const char *tenant,
               const char *name);
void sight_untold(struct watch_sight *sight,
                  enum kind kind,
                  const char *tenant,
                  const char *name);
/* Only where it is kept: a VM, told to root of a host. */
bool sight_holds(const struct watch_sight *sight,
                 enum kind kind,
                 const char *tenant,
                 const char *name);
