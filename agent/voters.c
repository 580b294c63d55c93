#include "agent/voters.h"

#include "agent/identity.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "base/u64_map.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the decision
 * -----------------------------------------------------------------------------------
 */

static bool can_vote(const struct voters_host *host)
{
    return host->phase == HOST_PHASE_READY && !host->drain;
}

static bool is_voter(const struct voters_host *host)
{
    return host->role == CONSENSUS_ROLE_VOTER;
}

static bool is_well(const struct voters_host *host)
{
    return host->phase == HOST_PHASE_READY && (host->recent || host->self);
}

struct count {
    unsigned voting; /* strangers among them */
    unsigned well;   /* voters that are */
    unsigned able;   /* hosts that can vote */
};

static struct count
count_of(const struct voters_host *hosts, unsigned count, unsigned strangers)
{
    struct count counted = {.voting = strangers};
    for (unsigned i = 0; i < count; i++) {
        counted.voting += is_voter(&hosts[i]) ? 1U : 0U;
        counted.well += is_voter(&hosts[i]) && is_well(&hosts[i]) ? 1U : 0U;
        counted.able += can_vote(&hosts[i]) ? 1U : 0U;
    }
    return counted;
}

/* State and log say different things of it: the log is right. */
static enum voters_step repair(const struct voters_host *host)
{
    if (host->phase == HOST_PHASE_REMOVED) {
        return host->role != CONSENSUS_ROLE_NONE && !host->self ? VOTERS_STEP_REMOVE
                                                                : VOTERS_STEP_NONE;
    }
    if (is_voter(host)) {
        return host->recorded != VOTER_VOTER ? VOTERS_STEP_RECORD_VOTER
                                             : VOTERS_STEP_NONE;
    }
    return host->recorded == VOTER_VOTER ? VOTERS_STEP_RECORD_NONE : VOTERS_STEP_NONE;
}

/* The next step towards a vote. */
static enum voters_step advance(const struct voters_host *host)
{
    if (host->recorded == VOTER_NONE) {
        return VOTERS_STEP_RECORD_STANDBY;
    }
    return host->role == CONSENSUS_ROLE_STANDBY ? VOTERS_STEP_PROMOTE : VOTERS_STEP_ADD;
}

/* Who is on the way already comes first, then who has not failed. */
static bool comes_before(const struct voters_host *one, const struct voters_host *other)
{
    if (one->failures != other->failures) {
        return one->failures < other->failures;
    }
    if (one->role != other->role) {
        return one->role > other->role;
    }
    return one->recorded > other->recorded;
}

static bool
find_newcomer(const struct voters_host *hosts, unsigned count, unsigned *ret_index)
{
    bool found = false;
    for (unsigned i = 0; i < count; i++) {
        if (can_vote(&hosts[i]) && !is_voter(&hosts[i]) && !hosts[i].rests &&
            (!found || comes_before(&hosts[i], &hosts[*ret_index]))) {
            *ret_index = i;
            found = true;
        }
    }
    return found;
}

/* A voter that is lost for good, when it is the only one that is not well. */
static bool find_lost(const struct voters_host *hosts,
                      unsigned count,
                      const struct count *counted,
                      unsigned *ret_index)
{
    if (counted->well + 1 != counted->voting || counted->well * 2 <= counted->voting) {
        return false;
    }
    for (unsigned i = 0; i < count; i++) {
        if (is_voter(&hosts[i]) && hosts[i].phase == HOST_PHASE_LOST &&
            hosts[i].lost_ms >= VOTERS_LOST_MS && !hosts[i].rests) {
            *ret_index = i;
            return true;
        }
    }
    return false;
}

enum voters_step voters_decide(const struct voters_host *hosts,
                               unsigned count,
                               unsigned strangers,
                               unsigned *ret_index)
{
    struct count counted = count_of(hosts, count, strangers);
    unsigned newcomer = 0;
    for (unsigned i = 0; i < count; i++) {
        enum voters_step step = hosts[i].rests ? VOTERS_STEP_NONE : repair(&hosts[i]);
        if (step != VOTERS_STEP_NONE) {
            *ret_index = i;
            return step;
        }
    }
    if (counted.able < VOTERS_TARGET || !find_newcomer(hosts, count, &newcomer)) {
        return VOTERS_STEP_NONE;
    }
    if (counted.voting < VOTERS_TARGET) {
        *ret_index = newcomer;
        return advance(&hosts[newcomer]);
    }
    return find_lost(hosts, count, &counted, ret_index) ? VOTERS_STEP_REMOVE
                                                        : VOTERS_STEP_NONE;
}

/* ---- the edge
 * ---------------------------------------------------------------------------------------
 */

/* What is remembered of a host between ticks, while this host leads. */
struct memory {
    uint64_t lost_since_ms; /* 0: not lost */
    uint64_t rests_until_ms;
    unsigned failures;
};

struct voters {
    const struct clock *clock;
    struct control *control;
    struct u64_map *memories; /* host uid -> struct memory */
    bool leads;
    bool under_way;
    uint64_t changing; /* uid of the host whose change is under way */
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

/* NULL when out of memory: then the host counts as never seen before. */
static struct memory *memory_of(struct voters *voters, uint64_t uid)
{
    struct memory *memory = u64_map_get(voters->memories, uid);
    if (memory == NULL) {
        memory = calloc(1, sizeof(*memory));
        if (memory != NULL && u64_map_put(voters->memories, uid, memory) < 0) {
            free(memory);
            memory = NULL;
        }
    }
    return memory;
}

static void memories_forget(struct voters *voters)
{
    size_t cursor = 0;
    uint64_t uid;
    void *memory;
    while (u64_map_next(voters->memories, &cursor, &uid, &memory)) {
        memset(memory, 0, sizeof(struct memory));
    }
}

/* Not the host's fault: this leader is too young, or something else is under way. */
static bool only_early(int status)
{
    return status == BERTH_EBUSY || status == BERTH_ENOTLEADER || status == BERTH_ECLOSED;
}

static void change_done(void *context, int status)
{
    struct voters *voters = context;
    struct memory *memory = memory_of(voters, voters->changing);
    voters->under_way = false;
    if (memory == NULL || !voters->leads || only_early(status)) {
        return;
    }
    memory->failures = status < 0 ? memory->failures + 1 : 0;
    if (status < 0) {
        unsigned doubled = memory->failures < 6 ? memory->failures - 1 : 5;
        uint64_t rest_ms = (uint64_t)VOTERS_REST_MS << doubled;
        rest_ms = rest_ms < VOTERS_REST_MAX_MS ? rest_ms : VOTERS_REST_MAX_MS;
        memory->rests_until_ms = clock_now_ms(voters->clock) + rest_ms;
        log_warn("voters", "change of members did not go through and is tried again",
                 KV_U64("host", voters->changing), KV_STR("why", err_sentence(status)),
                 KV_U64("rest_ms", rest_ms));
    }
}

static void record_done(void *context, int code, const struct apply_result *result)
{
    change_done(context, code < 0 ? code : result->code);
}

static int
record_role(struct voters *voters, const struct host *host, enum voter_role role)
{
    struct command command;
    command_init(&command, COMMAND_HOST_VOTER);
    (void)snprintf(command.subject, sizeof(command.subject), "system");
    command.body.host_voter.host = host->meta.uid;
    command.body.host_voter.voter = role;
    int r = control_propose(voters->control, &command, record_done, voters);
    command_fini(&command);
    return r;
}

static int add(struct voters *voters, const struct host *host)
{
    char address[MESH_ADDRESS_SIZE];
    identity_address_text(host->status.address, host->status.raft_port, address);
    log_info("voters", "host becomes standby of the log",
             KV_STR("peer", host->meta.name));
    return consensus_add_standby(control_consensus(voters->control), raft_id_of(host),
                                 address, change_done, voters);
}

static int
take_step(struct voters *voters, enum voters_step step, const struct host *host)
{
    struct consensus *consensus = control_consensus(voters->control);
    switch (step) {
    case VOTERS_STEP_REMOVE:
        log_warn("voters", "host leaves the log: it is removed or lost for good",
                 KV_STR("peer", host->meta.name));
        return consensus_remove(consensus, raft_id_of(host), change_done, voters);
    case VOTERS_STEP_RECORD_NONE:
        return record_role(voters, host, VOTER_NONE);
    case VOTERS_STEP_RECORD_STANDBY:
        return record_role(voters, host, VOTER_STANDBY);
    case VOTERS_STEP_RECORD_VOTER:
        return record_role(voters, host, VOTER_VOTER);
    case VOTERS_STEP_ADD:
        return add(voters, host);
    case VOTERS_STEP_PROMOTE:
        log_info("voters", "host becomes voter", KV_STR("peer", host->meta.name));
        return consensus_promote(consensus, raft_id_of(host), change_done, voters);
    default:
        return 0;
    }
}

static struct voters_host look_at(struct voters *voters,
                                  const struct host *host,
                                  const struct consensus_member *members,
                                  size_t count,
                                  uint64_t now_ms)
{
    uint64_t raft_id = raft_id_of(host);
    uint64_t leader = 0;
    struct memory *memory = memory_of(voters, host->meta.uid);
    struct voters_host seen = {
        .uid = host->meta.uid,
        .phase = host->status.phase,
        .drain = host->spec.drain,
        .recorded = host->status.voter,
        .self = consensus_leader(control_consensus(voters->control), &leader, NULL) &&
                leader == raft_id,
    };
    for (size_t i = 0; i < count; i++) {
        if (members[i].id == raft_id) {
            seen.role = members[i].role;
            seen.recent = members[i].recent;
        }
    }
    if (memory != NULL) {
        bool lost = seen.phase == HOST_PHASE_LOST;
        memory->lost_since_ms = !lost                        ? 0
                                : memory->lost_since_ms == 0 ? now_ms
                                                             : memory->lost_since_ms;
        seen.lost_ms = lost ? now_ms - memory->lost_since_ms : 0;
        seen.failures = memory->failures;
        seen.rests = now_ms < memory->rests_until_ms;
    }
    return seen;
}

/* All hosts; NULL when out of memory or there is none. */
static struct voters_host *
look(struct voters *voters, uint64_t now_ms, unsigned *ret_count, unsigned *ret_strangers)
{
    struct consensus_member members[CONSENSUS_MEMBERS_MAX];
    size_t member_count = consensus_members(control_consensus(voters->control), members,
                                            CONSENSUS_MEMBERS_MAX);
    const struct state *state = control_state(voters->control);
    size_t cursor = 0;
    const struct host *host;
    unsigned count = 0;
    unsigned known = 0;
    unsigned voting = 0;
    while (state_next(state, KIND_HOST, &cursor) != NULL) {
        count++;
    }
    struct voters_host *hosts = count > 0 ? calloc(count, sizeof(*hosts)) : NULL;
    count = 0;
    cursor = 0;
    while (hosts != NULL && (host = state_next(state, KIND_HOST, &cursor)) != NULL) {
        hosts[count] = look_at(voters, host, members, member_count, now_ms);
        known += is_voter(&hosts[count]) ? 1U : 0U;
        count++;
    }
    for (size_t i = 0; i < member_count; i++) {
        voting += members[i].role == CONSENSUS_ROLE_VOTER ? 1U : 0U;
    }
    *ret_count = count;
    *ret_strangers = voting > known ? voting - known : 0;
    return hosts;
}

void voters_tick(struct voters *voters, uint64_t now_ms)
{
    unsigned count = 0;
    unsigned strangers = 0;
    unsigned chosen = 0;
    if (!voters->leads || voters->under_way || now_ms < voters->next_ms) {
        return;
    }
    voters->next_ms = now_ms + VOTERS_RETRY_MS;
    CLEANUP_FREE struct voters_host *hosts = look(voters, now_ms, &count, &strangers);
    if (hosts == NULL) {
        return;
    }
    enum voters_step step = voters_decide(hosts, count, strangers, &chosen);
    if (step == VOTERS_STEP_NONE) {
        return;
    }
    voters->changing = hosts[chosen].uid;
    int r = take_step(voters, step,
                      state_host(control_state(voters->control), voters->changing));
    voters->under_way = r == 0;
    if (r < 0) {
        change_done(voters, r);
    }
}

void voters_lead(struct voters *voters, bool leads)
{
    voters->leads = leads;
    voters->next_ms = 0;
    memories_forget(voters);
}

struct voters *voters_new(const struct clock *clock, struct control *control)
{
    struct voters *voters = calloc(1, sizeof(*voters));
    if (voters == NULL || (voters->memories = u64_map_new()) == NULL) {
        free(voters);
        return NULL;
    }
    voters->clock = clock;
    voters->control = control;
    return voters;
}

struct voters *voters_free(struct voters *voters)
{
    size_t cursor = 0;
    uint64_t uid;
    void *memory;
    if (voters == NULL) {
        return NULL;
    }
    while (u64_map_next(voters->memories, &cursor, &uid, &memory)) {
        free(memory);
    }
    u64_map_free(voters->memories);
    free(voters);
    return NULL;
}
