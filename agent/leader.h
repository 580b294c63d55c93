/* What a host does while it leads: hears the others, renews their leases, decides, and
 * gives orders.
 *
 * Shapes: one struct leader per voter, idle unless it leads. It feeds the scheduler with
 * heartbeats, proposes what the scheduler decides and what hosts have seen of their VMs,
 * acknowledges heartbeats behind a confirmed leadership (agent/confirm.h), and tells
 * every host its orders (agent/orders_book.h) whenever they have changed. A decision that
 * was not answered in time counts as under way until a barrier has passed. Threads: the
 * loop's. Soft state only: everything here is forgotten when leadership ends. Limits: one
 * batch of decisions and, per host, one batch of observed phases under way at a time.
 */
#pragma once

#include "agent/control.h"
#include "agent/identity.h"
#include "agent/image_lack.h"
#include "agent/link.h"
#include "base/clock.h"
#include "base/json.h"
#include "scheduler/scheduler.h"

#define LEADER_TICK_MS   100
#define LEADER_SLACK_MS  50 /* the log wakes the loop as often: seldom used up */
#define LEADER_GATHER_MS 20 /* heartbeats of so long are confirmed together */
#define LEADER_GATHER_SLACK_MS \
    80 /* or until the log wakes the loop: not so long that hosts repeat theirs */
#define LEADER_ORDERS_MS 2000 /* orders that were not taken over are sent again */
/* Hosts that are told their orders in one turn of the loop, and after how much of them no
 * other one is, large as they may be. */
#define LEADER_ORDERS_PER_TURN       16
#define LEADER_ORDERS_BYTES_PER_TURN (UINT32_C(1) << 20)

struct leader;

struct leader_config {
    uv_loop_t *loop;
    const struct clock *clock;
    const struct identity *identity;
    struct control *control;
    struct link *link;
    uint64_t level_wait_ms; /* agent/level_watch.h */
};

struct leader *leader_new(const struct leader_config *config);
struct leader *leader_free(struct leader *leader);

/* The host goes, and its link with it: it leads no more, whatever the log says from now
 * on, and is freed once the log is closed. */
void leader_end(struct leader *leader);

/* From control's events. */
void leader_on_leadership(struct leader *leader, bool is_leader, uint64_t term);
void leader_on_change(struct leader *leader, const struct change *change);
void leader_on_restored(struct leader *leader);
bool leader_leads(const struct leader *leader);
/* This daemon has founded the cluster, and is its only host so far. */
void leader_founded(struct leader *leader, uint64_t host);

/* From the link. A host is connected, or no longer: orders that waited for that go. */
void leader_on_peer(struct leader *leader, uint64_t host, bool up);
/* The heartbeat is checked against the sender. */
void leader_on_heartbeat(struct leader *leader,
                         const struct msg_member *from,
                         const struct msg_heartbeat *heartbeat);
void leader_on_confirmed(struct leader *leader,
                         const struct msg_member *from,
                         const struct msg_confirmed *confirmed);
/* A stranger with a token. Answers it, now or once the log has spoken; the log hears of
 * none without a good token. */
void leader_on_join(struct leader *leader,
                    const struct mesh_key *guest,
                    const struct msg_join *join);

/* What a VM that was given a host waits for of its image; with host 0, what of it is on
 * no host that is up. False also while that host was not heard yet under this leader. */
bool leader_image_lacks(const struct leader *leader,
                        const char *tenant,
                        const char *image_name,
                        uint64_t host,
                        struct image_lack *ret_lack);
/* What the leader knows against a command that apply could not refuse: 0, BERTH_EINUSE
 * with words (agent/voters.h), or -ENOMEM. */
int leader_check_command(const struct leader *leader,
                         const struct command *command,
                         struct err *err);
/* Soft facts for the API; new references or NULL. */
/* The window that a VM's CPU is the mean of; 0: it does not run. Not before this run
 * began: what was measured of one before, maybe on another host, is not its own. */
uint64_t leader_cpu_window_ns(const struct vm *vm, uint64_t now_wall_ms);
json_t *leader_vm_live(const struct leader *leader, const struct vm *vm);
json_t *leader_host_live(const struct leader *leader, const struct host *host);
/* {level, next, waits}: the cluster's level, the highest that any host knows, and what
 * the next one waits for ("" when nothing). New reference or NULL. */
json_t *leader_level(const struct leader *leader);
/* What the next level waits for, as above; "" when nothing, or when none is known. */
void leader_level_waits(const struct leader *leader, char ret_why[256]);
const struct scheduler *leader_scheduler(const struct leader *leader);
