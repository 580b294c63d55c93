#include "consensus/member_change.h"

#include "base/log.h"

#include <stdio.h>
#include <string.h>

#define ROOM "consensus"

static bool
find_member(const struct raft_node *node, uint64_t id, struct consensus_member *ret)
{
    struct consensus_member members[CONSENSUS_MEMBERS_MAX];
    size_t count = raft_node_members(node, members, CONSENSUS_MEMBERS_MAX);
    for (size_t i = 0; i < count && i < CONSENSUS_MEMBERS_MAX; i++) {
        if (members[i].id == id) {
            *ret = members[i];
            return true;
        }
    }
    *ret = (struct consensus_member){.id = id, .role = CONSENSUS_ROLE_NONE};
    return false;
}

static void finish(struct member_change *change, int status)
{
    change->step = MEMBER_CHANGE_FINISHED;
    change->status = status;
    log_info(ROOM, "change of members finished", KV_U64("member", change->id),
             KV_U64("role", change->wanted), KV_STR("status", err_name(status)));
}

static void on_answer(void *context, int status)
{
    struct member_change *change = context;
    change->waiting = false;
    change->answer = status;
}

static void
await(struct member_change *change, enum member_change_step step, int submitted)
{
    change->step = step;
    change->waiting = submitted == 0;
    change->answer = submitted;
}

/* Nobody else may be in the middle of something. */
static void settle(struct member_change *change, const struct raft_node_view *view)
{
    if (view->snapshotting || view->changing || view->transferring) {
        return;
    }
    await(change, MEMBER_CHANGE_BARRIER_BEFORE,
          raft_node_barrier(change->node, on_answer, change));
    struct raft_node_view after;
    raft_node_view(change->node, &after);
    change->barrier_index = after.last_index;
}

static bool voters_have(const struct member_change *change, uint64_t index)
{
    struct consensus_member members[CONSENSUS_MEMBERS_MAX];
    size_t count = raft_node_members(change->node, members, CONSENSUS_MEMBERS_MAX);
    for (size_t i = 0; i < count && i < CONSENSUS_MEMBERS_MAX; i++) {
        bool leaves =
            members[i].id == change->id && change->wanted == CONSENSUS_ROLE_NONE;
        if (members[i].role == CONSENSUS_ROLE_VOTER && !leaves &&
            members[i].matched_index < index) {
            return false;
        }
    }
    return true;
}

static enum consensus_role next_role(enum consensus_role now, enum consensus_role wanted)
{
    return now == CONSENSUS_ROLE_NONE ? CONSENSUS_ROLE_SPARE : wanted;
}

/* Submits the next role on the way, or goes on when there is none left. */
static void submit(struct member_change *change)
{
    struct consensus_member member;
    (void)find_member(change->node, change->id, &member); /* absent: role NONE */
    if (member.role == change->wanted) {
        await(change, MEMBER_CHANGE_BARRIER_AFTER,
              raft_node_barrier(change->node, on_answer, change));
        return;
    }
    await(change, MEMBER_CHANGE_CHANGE,
          raft_node_change(change->node, change->id, change->address,
                           next_role(member.role, change->wanted), on_answer, change));
}

static void
go_on(struct member_change *change, const struct raft_node_view *view, bool late)
{
    switch (change->step) {
    case MEMBER_CHANGE_SETTLE:
        if (late) {
            finish(change, BERTH_EBUSY);
            return;
        }
        settle(change, view);
        return;
    case MEMBER_CHANGE_BARRIER_BEFORE:
        change->step = MEMBER_CHANGE_CATCH_UP;
        return;
    case MEMBER_CHANGE_CATCH_UP:
        if (voters_have(change, change->barrier_index)) {
            submit(change);
        } else if (late) {
            finish(change, BERTH_EUNREACHABLE);
        }
        return;
    case MEMBER_CHANGE_CHANGE:
        submit(change);
        return;
    case MEMBER_CHANGE_BARRIER_AFTER:
        finish(change, 0);
        return;
    default:
        return;
    }
}

void member_change_turn(struct member_change *change, uint64_t now_ms)
{
    struct raft_node_view view;
    enum member_change_step before;
    if (change->step == MEMBER_CHANGE_IDLE) {
        return;
    }
    do {
        before = change->step;
        if (change->waiting || before == MEMBER_CHANGE_FINISHED) {
            return;
        }
        raft_node_view(change->node, &view);
        bool changed = before > MEMBER_CHANGE_CATCH_UP;
        if (change->answer < 0) {
            finish(change, change->answer);
        } else if (!view.ready) {
            finish(change, changed ? BERTH_EUNKNOWN : BERTH_ENOTLEADER);
        } else {
            go_on(change, &view, now_ms >= change->deadline_ms);
        }
    } while (change->step != before);
}

bool member_change_take(struct member_change *change, int *ret_status)
{
    if (change->step != MEMBER_CHANGE_FINISHED) {
        return false;
    }
    *ret_status = change->status;
    change->step = MEMBER_CHANGE_IDLE;
    return true;
}

/* Whether the wish makes sense at all, before anything is done about it. */
static int check_wish(const struct member_change *change,
                      const struct consensus_member *member,
                      const struct raft_node_view *view)
{
    switch (change->wanted) {
    case CONSENSUS_ROLE_STANDBY:
        if (member->role == CONSENSUS_ROLE_VOTER ||
            (member->role != CONSENSUS_ROLE_NONE &&
             strcmp(member->address, change->address) != 0)) {
            return BERTH_EEXISTS;
        }
        return 0;
    case CONSENSUS_ROLE_VOTER:
        return member->role == CONSENSUS_ROLE_STANDBY ||
                       member->role == CONSENSUS_ROLE_VOTER
                   ? 0
                   : BERTH_ENOTFOUND;
    case CONSENSUS_ROLE_NONE:
        return view->leader_id == change->id ? BERTH_EINVALID : 0;
    default:
        return BERTH_EINVALID;
    }
}

int member_change_start(struct member_change *change,
                        struct raft_node *node,
                        uint64_t deadline_ms,
                        uint64_t id,
                        const char *address,
                        enum consensus_role wanted)
{
    struct raft_node_view view;
    struct consensus_member member;
    if (change->step != MEMBER_CHANGE_IDLE) {
        return BERTH_EBUSY;
    }
    struct member_change started = {.step = MEMBER_CHANGE_SETTLE,
                                    .node = node,
                                    .id = id,
                                    .wanted = wanted,
                                    .deadline_ms = deadline_ms};
    (void)snprintf(started.address, sizeof(started.address), "%s", address);
    raft_node_view(node, &view);
    bool known = find_member(node, id, &member);
    int r = check_wish(&started, &member, &view);
    if (r < 0) {
        return r;
    }
    if (!known && wanted != CONSENSUS_ROLE_NONE &&
        raft_node_members(node, NULL, 0) >= CONSENSUS_MEMBERS_MAX) {
        return BERTH_EFULL;
    }
    *change = started;
    return 0;
}
