/* The control plane as the API sees it (api/control_plane.h): an adapter over control,
 * leader, worker.
 *
 * Shapes: control_api_init fills the ops table for a host; what a part that is missing
 * (no log here, not the leader) would have answered becomes BERTH_ENOTLEADER, deferred to
 * the loop as every callback. Threads: the loop's. Ownership: borrows all its parts;
 * pointers may be set and cleared while it lives.
 */
#pragma once

#include "agent/backup_keeper.h"
#include "agent/console_session.h"
#include "agent/control.h"
#include "agent/forward.h"
#include "agent/leader.h"
#include "agent/leader_wait.h"
#include "agent/worker.h"
#include "api/control_plane.h"
#include "base/list.h"

struct control_api {
    struct control_plane plane; /* hand this to api_new */
    uv_loop_t *loop;
    const struct clock *clock;
    const struct identity *identity;
    struct members *members;
    struct link *link;
    struct control *control; /* NULL without a part in the log */
    struct leader *leader;
    struct worker *worker; /* NULL until the host is a member */
    struct image_store *images;
    struct forward *forward;
    struct leader_wait *wait; /* NULL: nothing waits for a leader */
    struct console_sessions *consoles;
    struct backup_keeper *backups; /* NULL: none are made by itself */
    struct loop_post *later;       /* private from here on */
    struct list deferred;
};

/* The public pointers must be set before; 0 or -ENOMEM. */
int control_api_init(struct control_api *api);
void control_api_fini(struct control_api *api);
/* A console of a VM here for a client of another host. Only hosts with a part in the log
 * judge who may have one; from any other host it is refused. */
void control_api_console(struct control_api *api, struct exchange *exchange, uint64_t vm);
/* Whether a request for the leader would find one. */
bool control_api_finds_leader(const struct control_api *api);
/* The host that leads as far as is known here: 0 when unknown. */
uint64_t control_api_leader(const struct control_api *api);
/* The same for a host that asks: with its term and its record, if this host's log and
 * state have them. Nothing to free. */
void control_api_not_leader(const struct control_api *api,
                            struct msg_not_leader *ret_answer);
