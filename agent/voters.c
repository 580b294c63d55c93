#include "agent/voters.h"

#include "agent/identity.h"
#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct voters {
    const struct clock *clock;
    struct control *control;
    bool leads;
    bool under_way;
    uint64_t next_ms;
};

static uint64_t raft_id_of(const struct host *host)
{
    struct mesh_key key = identity_mesh_key(&host->status.public_key);
    return identity_raft_id(&key);
}

static const struct host *host_of(const struct voters *voters, uint64_t raft_id)
{
    size_t cursor = 0;
    const struct host *host;
    while ((host = state_next(control_state(voters->control), KIND_HOST, &cursor)) !=
           NULL) {
        if (raft_id_of(host) == raft_id) {
            return host;
        }
    }
    return NULL;
}

static enum consensus_role
role_in(const struct consensus_member *members, size_t count, uint64_t id)
{
    for (size_t i = 0; i < count; i++) {
        if (members[i].id == id) {
            return members[i].role;
        }
    }
    return CONSENSUS_ROLE_NONE;
}

unsigned voters_uids(const struct voters *voters, uint64_t *ret_uids, unsigned max)
{
    struct consensus_member members[CONSENSUS_MEMBERS_MAX];
    size_t count = consensus_members(control_consensus(voters->control), members,
                                     CONSENSUS_MEMBERS_MAX);
    unsigned found = 0;
    for (size_t i = 0; i < count && found < max; i++) {
        const struct host *host = members[i].role == CONSENSUS_ROLE_VOTER
                                      ? host_of(voters, members[i].id)
                                      : NULL;
        if (members[i].role == CONSENSUS_ROLE_VOTER) {
            /* A voter without a host record still counts towards the majority; it never
             * answers. */
            ret_uids[found++] = host != NULL ? host->meta.uid : UINT64_MAX;
        }
    }
    return found;
}

/* ---- one change at a time
 * -------------------------------------------------------------------------- */

static void change_done(void *context, int status)
{
    struct voters *voters = context;
    voters->under_way = false;
    if (status < 0 && voters->leads) {
        log_warn("voters", "change of members did not go through and is tried again",
                 KV_STR("why", err_sentence(status)));
    }
}

static void record_done(void *context, int code, const struct apply_result *result)
{
    change_done(context, code < 0 ? code : result->code);
}

static void
record_role(struct voters *voters, const struct host *host, enum voter_role role)
{
    struct command command;
    command_init(&command, COMMAND_HOST_VOTER);
    (void)snprintf(command.subject, sizeof(command.subject), "system");
    command.body.host_voter.host = host->meta.uid;
    command.body.host_voter.voter = role;
    voters->under_way =
        control_propose(voters->control, &command, record_done, voters) == 0;
    command_fini(&command);
}

static void add(struct voters *voters, const struct host *host)
{
    char address[MESH_ADDRESS_SIZE];
    identity_address_text(host->status.address, host->status.raft_port, address);
    log_info("voters", "host becomes standby of the log",
             KV_STR("peer", host->meta.name));
    voters->under_way =
        consensus_add_standby(control_consensus(voters->control), raft_id_of(host),
                              address, change_done, voters) == 0;
}

static void promote(struct voters *voters, const struct host *host)
{
    log_info("voters", "host becomes voter", KV_STR("peer", host->meta.name));
    voters->under_way = consensus_promote(control_consensus(voters->control),
                                          raft_id_of(host), change_done, voters) == 0;
}

static bool can_vote(const struct host *host)
{
    return host->status.phase == HOST_PHASE_READY && !host->spec.drain;
}

/* The next step that brings one host further, if any. */
static bool advance(struct voters *voters,
                    const struct consensus_member *members,
                    size_t count,
                    const struct host *host,
                    bool wanted)
{
    enum consensus_role role = role_in(members, count, raft_id_of(host));
    if (host->status.phase == HOST_PHASE_REMOVED) {
        if (role == CONSENSUS_ROLE_NONE) {
            return false;
        }
        voters->under_way = consensus_remove(control_consensus(voters->control),
                                             raft_id_of(host), change_done, voters) == 0;
        return true;
    }
    if (role == CONSENSUS_ROLE_VOTER) {
        if (host->status.voter == VOTER_VOTER) {
            return false;
        }
        record_role(voters, host, VOTER_VOTER);
        return true;
    }
    if (!wanted || !can_vote(host)) {
        return false;
    }
    if (host->status.voter == VOTER_NONE) {
        record_role(voters, host, VOTER_STANDBY); /* its orders tell it to open its log */
    } else if (role == CONSENSUS_ROLE_NONE || role == CONSENSUS_ROLE_SPARE) {
        add(voters, host);
    } else {
        promote(voters, host);
    }
    return true;
}

void voters_tick(struct voters *voters, uint64_t now_ms)
{
    if (!voters->leads || voters->under_way || now_ms < voters->next_ms) {
        return;
    }
    voters->next_ms = now_ms + VOTERS_RETRY_MS;
    struct consensus_member members[CONSENSUS_MEMBERS_MAX];
    size_t count = consensus_members(control_consensus(voters->control), members,
                                     CONSENSUS_MEMBERS_MAX);
    unsigned voting = 0;
    for (size_t i = 0; i < count; i++) {
        voting += members[i].role == CONSENSUS_ROLE_VOTER ? 1U : 0U;
    }
    unsigned able = 0;
    size_t cursor = 0;
    const struct host *host;
    while ((host = state_next(control_state(voters->control), KIND_HOST, &cursor)) !=
           NULL) {
        able += can_vote(host) ? 1U : 0U;
    }
    bool wanted = able >= VOTERS_TARGET && voting < VOTERS_TARGET;
    cursor = 0;
    while ((host = state_next(control_state(voters->control), KIND_HOST, &cursor)) !=
           NULL) {
        if (advance(voters, members, count, host, wanted)) {
            return;
        }
    }
}

void voters_lead(struct voters *voters, bool leads)
{
    voters->leads = leads;
    voters->next_ms = 0;
}

struct voters *voters_new(const struct clock *clock, struct control *control)
{
    struct voters *voters = calloc(1, sizeof(*voters));
    if (voters != NULL) {
        voters->clock = clock;
        voters->control = control;
    }
    return voters;
}

struct voters *voters_free(struct voters *voters)
{
    free(voters);
    return NULL;
}
