#include "agent/voters.h"

#include "agent/identity.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "base/require.h"
#include "base/u64_map.h"

#include <errno.h>
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
    unsigned voting;
    unsigned well;      /* voters that are */
    unsigned able;      /* hosts that can vote */
    unsigned staying;   /* hosts that are not on their way out */
    unsigned strangers; /* in the log without a record */
};

static struct count count_of(const struct voters_host *hosts, unsigned count)
{
    struct count counted = {0};
    for (unsigned i = 0; i < count; i++) {
        counted.voting += is_voter(&hosts[i]) ? 1U : 0U;
        counted.well += is_voter(&hosts[i]) && is_well(&hosts[i]) ? 1U : 0U;
        counted.able += can_vote(&hosts[i]) ? 1U : 0U;
        bool removed = hosts[i].phase == HOST_PHASE_REMOVED;
        counted.staying += !removed && !hosts[i].drain ? 1U : 0U;
        counted.strangers += removed && hosts[i].role != CONSENSUS_ROLE_NONE ? 1U : 0U;
    }
    return counted;
}

/* Who could lead in this host's place. */
static bool
find_heir(const struct voters_host *hosts, unsigned count, unsigned *ret_index)
{
    for (unsigned i = 0; i < count; i++) {
        if (is_voter(&hosts[i]) && is_well(&hosts[i]) && !hosts[i].self &&
            !hosts[i].drain && !hosts[i].rests) {
            *ret_index = i;
            return true;
        }
    }
    return false;
}

/* Out of the log; whoever leads hands over first. */
static enum voters_step leave(const struct voters_host *hosts,
                              unsigned count,
                              unsigned index,
                              unsigned *ret_index)
{
    if (!hosts[index].self) {
        *ret_index = index;
        return VOTERS_STEP_REMOVE;
    }
    return find_heir(hosts, count, ret_index) ? VOTERS_STEP_HAND_OVER : VOTERS_STEP_NONE;
}

/* Record and log say different things of it: the log is right, unless there is no record
 * at all. */
static enum voters_step repair(const struct voters_host *hosts,
                               unsigned count,
                               unsigned index,
                               unsigned *ret_index)
{
    const struct voters_host *host = &hosts[index];
    *ret_index = index;
    if (host->phase == HOST_PHASE_REMOVED) {
        return host->role != CONSENSUS_ROLE_NONE ? leave(hosts, count, index, ret_index)
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

/* The one of two voters that is drained, when the rack has just one other host: that one
 * decides alone from then on, so it has to be well. */
static bool find_leaver(const struct voters_host *hosts,
                        unsigned count,
                        const struct count *counted,
                        unsigned *ret_index)
{
    bool found = false;
    bool other_stays = false;
    for (unsigned i = 0; i < count; i++) {
        if (is_voter(&hosts[i]) && hosts[i].drain && !hosts[i].rests) {
            *ret_index = i;
            found = true;
        }
        other_stays =
            other_stays || (is_voter(&hosts[i]) && !hosts[i].drain && is_well(&hosts[i]));
    }
    return found && other_stays && counted->voting == 2 && counted->staying == 1;
}

/* One voter more than there should be: another has come in a drained one's place. Who is
 * lost goes, else who is drained, else (that one is in service again) any but the leader;
 * while all that stay are well. */
static bool find_surplus(const struct voters_host *hosts,
                         unsigned count,
                         const struct count *counted,
                         unsigned *ret_index)
{
    bool found = false;
    if (counted->voting <= VOTERS_TARGET) {
        return false;
    }
    if (find_lost(hosts, count, counted, ret_index)) {
        return true;
    }
    for (unsigned i = 0; i < count; i++) {
        unsigned well = counted->well - (is_well(&hosts[i]) ? 1U : 0U);
        if (!is_voter(&hosts[i]) || hosts[i].rests || well + 1 != counted->voting ||
            (!hosts[i].drain && (hosts[i].self || !is_well(&hosts[i])))) {
            continue;
        }
        if (!found || (hosts[i].drain && !hosts[*ret_index].drain)) {
            *ret_index = i;
            found = true;
        }
    }
    return found;
}

/* Whether a newcomer is wanted in the place of a voter that is drained, and will perhaps
 * be removed: it comes before that one goes, so that the log stands a loss all the time.
 */
static bool replaces_drained(const struct voters_host *hosts,
                             unsigned count,
                             const struct count *counted)
{
    bool drained = false;
    for (unsigned i = 0; i < count; i++) {
        drained = drained || (is_voter(&hosts[i]) && hosts[i].drain);
    }
    return drained && counted->voting == VOTERS_TARGET &&
           counted->well == counted->voting;
}

/* From one voter to two only on the way to three; a second one alone would be one more
 * that may fail. */
static bool wants_more(const struct count *counted)
{
    return counted->voting < VOTERS_TARGET &&
           (counted->able >= VOTERS_TARGET || counted->voting > 1);
}

enum voters_step
voters_decide(const struct voters_host *hosts, unsigned count, unsigned *ret_index)
{
    struct count counted = count_of(hosts, count);
    unsigned index = 0;
    for (unsigned i = 0; i < count; i++) {
        enum voters_step step =
            hosts[i].rests ? VOTERS_STEP_NONE : repair(hosts, count, i, &index);
        if (step != VOTERS_STEP_NONE) {
            *ret_index = index;
            return step;
        }
    }
    bool newcomer = find_newcomer(hosts, count, &index);
    if (counted.strangers > 0) {
        /* What hinders its leaving hinders every change, but the leaving of a lost voter,
         * which may be what hinders it. */
        return newcomer && find_lost(hosts, count, &counted, ret_index)
                   ? VOTERS_STEP_REMOVE
                   : VOTERS_STEP_NONE;
    }
    unsigned leaver = 0;
    if (find_leaver(hosts, count, &counted, &leaver) ||
        find_surplus(hosts, count, &counted, &leaver)) {
        return leave(hosts, count, leaver, ret_index);
    }
    if (!newcomer) {
        return VOTERS_STEP_NONE;
    }
    if (wants_more(&counted) || replaces_drained(hosts, count, &counted)) {
        *ret_index = index;
        return advance(&hosts[index]);
    }
    return find_lost(hosts, count, &counted, ret_index) ? VOTERS_STEP_REMOVE
                                                        : VOTERS_STEP_NONE;
}

/* The next step of a leader that waits for nobody whose change failed last. */
static enum voters_step foresee(struct voters_host *hosts, unsigned count)
{
    unsigned chosen = 0;
    for (unsigned i = 0; i < count; i++) {
        hosts[i].rests = hosts[i].failures > 0;
    }
    return voters_decide(hosts, count, &chosen);
}

enum voters_farewell voters_bid_farewell(struct voters_host *hosts,
                                         unsigned count,
                                         unsigned index,
                                         unsigned *ret_other)
{
    const struct voters_host *host = &hosts[index];
    if (host->role == CONSENSUS_ROLE_NONE || host->phase == HOST_PHASE_LOST) {
        return VOTERS_FAREWELL_NOW;
    }
    for (unsigned i = 0; i < count; i++) {
        if (i != index && is_voter(&hosts[i]) && !is_well(&hosts[i])) {
            *ret_other = i;
            return VOTERS_FAREWELL_HINDERED;
        }
    }
    hosts[index].drain = true;
    if (host->away_ms < VOTERS_AWAY_MS) { /* a moment is no reason to go unreplaced */
        hosts[index].recent = true;
        hosts[index].phase = HOST_PHASE_READY;
    }
    return is_voter(host) && foresee(hosts, count) != VOTERS_STEP_NONE
               ? VOTERS_FAREWELL_SOON
               : VOTERS_FAREWELL_NOW;
}

/* ---- the edge
 * ---------------------------------------------------------------------------------------
 */

/* What is remembered of a host between ticks, while this host leads. */
struct memory {
    uint64_t lost_since_ms; /* 0: not lost */
    uint64_t away_since_ms; /* 0: the log hears of it */
    uint64_t rests_until_ms;
    unsigned failures;
};

struct voters {
    const struct clock *clock;
    struct control *control;
    struct u64_map *memories; /* raft id -> struct memory */
    bool leads;
    bool under_way;
    uint64_t changing; /* raft id of the host whose change is under way */
    uint64_t next_ms;
    uint64_t members[CONSENSUS_MEMBERS_MAX]; /* raft ids in the log, as last seen */
    size_t member_count;
};

static uint64_t raft_id_of(const struct host *host)
{
    return identity_raft_id_of(&host->status.public_key);
}

const struct host *voters_find_host(const struct state *state, uint64_t raft_id)
{
    size_t cursor = 0;
    const struct host *host;
    while ((host = state_next(state, KIND_HOST, &cursor)) != NULL) {
        if (raft_id_of(host) == raft_id) {
            return host;
        }
    }
    return NULL;
}

static const struct host *host_of(const struct voters *voters, uint64_t raft_id)
{
    return voters_find_host(control_state(voters->control), raft_id);
}

/* The log's members, at most as many as there can be; their count. */
static size_t members_of(const struct voters *voters,
                         struct consensus_member members[CONSENSUS_MEMBERS_MAX])
{
    size_t count = consensus_members(control_consensus(voters->control), members,
                                     CONSENSUS_MEMBERS_MAX);
    return count < CONSENSUS_MEMBERS_MAX ? count : CONSENSUS_MEMBERS_MAX;
}

unsigned voters_uids(const struct voters *voters, uint64_t *ret_uids, unsigned max)
{
    struct consensus_member members[CONSENSUS_MEMBERS_MAX];
    size_t count = members_of(voters, members);
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
static struct memory *memory_of(struct voters *voters, uint64_t raft_id)
{
    struct memory *memory = u64_map_get(voters->memories, raft_id);
    if (memory == NULL) {
        memory = calloc(1, sizeof(*memory));
        if (memory != NULL && u64_map_put(voters->memories, raft_id, memory) < 0) {
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
                 KV_U64("raft_id", voters->changing), KV_STR("why", err_sentence(status)),
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
    return consensus_add_standby(control_consensus(voters->control), raft_id_of(host),
                                 address, change_done, voters);
}

/* host is NULL for a stranger, of whom only the log knows. */
static int begin_step(struct voters *voters,
                      enum voters_step step,
                      uint64_t raft_id,
                      const struct host *host)
{
    struct consensus *consensus = control_consensus(voters->control);
    if (host == NULL && step != VOTERS_STEP_REMOVE && step != VOTERS_STEP_HAND_OVER) {
        return BERTH_ENOTFOUND;
    }
    switch (step) {
    case VOTERS_STEP_REMOVE:
        return consensus_remove(consensus, raft_id, change_done, voters);
    case VOTERS_STEP_RECORD_NONE:
        return record_role(voters, host, VOTER_NONE);
    case VOTERS_STEP_RECORD_STANDBY:
        return record_role(voters, host, VOTER_STANDBY);
    case VOTERS_STEP_RECORD_VOTER:
        return record_role(voters, host, VOTER_VOTER);
    case VOTERS_STEP_ADD:
        return add(voters, host);
    case VOTERS_STEP_PROMOTE:
        return consensus_promote(consensus, raft_id, change_done, voters);
    case VOTERS_STEP_HAND_OVER:
        return consensus_transfer(consensus, raft_id, change_done, voters);
    default:
        return 0;
    }
}

/* Of what has begun: a leader that is too young is refused several times a second. */
static void log_step(enum voters_step step, uint64_t raft_id, const struct host *host)
{
    const char *name = host != NULL ? host->meta.name : "(removed)";
    switch (step) {
    case VOTERS_STEP_REMOVE:
        log_warn("voters", "host leaves the log: it is removed, drained or lost for good",
                 KV_STR("peer", name), KV_U64("raft_id", raft_id));
        return;
    case VOTERS_STEP_ADD:
        log_info("voters", "host becomes standby of the log", KV_STR("peer", name));
        return;
    case VOTERS_STEP_PROMOTE:
        log_info("voters", "host becomes voter", KV_STR("peer", name));
        return;
    case VOTERS_STEP_HAND_OVER:
        log_warn("voters", "this host is to leave the log and hands leadership over",
                 KV_STR("peer", name));
        return;
    default: /* what is recorded, the log itself shows */
        return;
    }
}

static void remember(struct voters *voters, struct voters_host *seen, uint64_t now_ms)
{
    struct memory *memory = memory_of(voters, seen->raft_id);
    bool lost = seen->phase == HOST_PHASE_LOST;
    if (memory == NULL) {
        return;
    }
    memory->lost_since_ms = !lost                        ? 0
                            : memory->lost_since_ms == 0 ? now_ms
                                                         : memory->lost_since_ms;
    seen->lost_ms = lost ? now_ms - memory->lost_since_ms : 0;
    bool away = !seen->recent && !seen->self;
    memory->away_since_ms = !away                        ? 0
                            : memory->away_since_ms == 0 ? now_ms
                                                         : memory->away_since_ms;
    seen->away_ms = away ? now_ms - memory->away_since_ms : 0;
    seen->failures = memory->failures;
    seen->rests = now_ms < memory->rests_until_ms;
}

static bool is_leader(const struct voters *voters, uint64_t raft_id)
{
    uint64_t leader = 0;
    return consensus_leader(control_consensus(voters->control), &leader, NULL) &&
           leader == raft_id;
}

static struct voters_host look_at(struct voters *voters,
                                  const struct host *host,
                                  const struct consensus_member *members,
                                  size_t count,
                                  uint64_t now_ms)
{
    struct voters_host seen = {
        .raft_id = raft_id_of(host),
        .phase = host->status.phase,
        .drain = host->spec.drain,
        .recorded = host->status.voter,
    };
    seen.self = is_leader(voters, seen.raft_id);
    for (size_t i = 0; i < count; i++) {
        if (members[i].id == seen.raft_id) {
            seen.role = members[i].role;
            seen.recent = members[i].recent;
        }
    }
    remember(voters, &seen, now_ms);
    return seen;
}

static struct voters_host look_at_stranger(struct voters *voters,
                                           const struct consensus_member *member,
                                           uint64_t now_ms)
{
    struct voters_host seen = {
        .raft_id = member->id,
        .phase = HOST_PHASE_REMOVED,
        .role = member->role,
        .recent = member->recent,
        .self = is_leader(voters, member->id),
    };
    remember(voters, &seen, now_ms);
    return seen;
}

static bool is_among(const struct voters_host *hosts, unsigned count, uint64_t raft_id)
{
    for (unsigned i = 0; i < count; i++) {
        if (hosts[i].raft_id == raft_id) {
            return true;
        }
    }
    return false;
}

/* All hosts, then the strangers; NULL when out of memory or there is none. */
static struct voters_host *
look(struct voters *voters, uint64_t now_ms, unsigned *ret_count)
{
    struct consensus_member members[CONSENSUS_MEMBERS_MAX];
    size_t member_count = members_of(voters, members);
    const struct state *state = control_state(voters->control);
    size_t cursor = 0;
    const struct host *host;
    unsigned count = 0;
    struct voters_host *hosts =
        calloc(state_count(state, KIND_HOST) + member_count, sizeof(*hosts));
    while (hosts != NULL && (host = state_next(state, KIND_HOST, &cursor)) != NULL) {
        hosts[count++] = look_at(voters, host, members, member_count, now_ms);
    }
    unsigned known = count;
    for (size_t i = 0; hosts != NULL && i < member_count; i++) {
        if (!is_among(hosts, known, members[i].id)) {
            hosts[count++] = look_at_stranger(voters, &members[i], now_ms);
        }
    }
    *ret_count = count;
    return hosts;
}

/* A removed host's key is no member's any more, but the channels that it has would stay
 * as long as both ends run. */
static void drop_leavers(struct voters *voters)
{
    struct consensus_member members[CONSENSUS_MEMBERS_MAX];
    size_t count = members_of(voters, members);
    for (size_t i = 0; i < voters->member_count; i++) {
        bool there = false;
        for (size_t k = 0; k < count; k++) {
            there = there || members[k].id == voters->members[i];
        }
        if (!there) {
            consensus_drop_peer(control_consensus(voters->control), voters->members[i]);
        }
    }
    for (size_t i = 0; i < count; i++) {
        voters->members[i] = members[i].id;
    }
    voters->member_count = count;
}

static enum voters_step
next_step(struct voters *voters, uint64_t now_ms, uint64_t *ret_raft_id)
{
    unsigned count = 0;
    unsigned chosen = 0;
    CLEANUP_FREE struct voters_host *hosts = look(voters, now_ms, &count);
    if (hosts == NULL) {
        return VOTERS_STEP_NONE;
    }
    enum voters_step step = voters_decide(hosts, count, &chosen);
    if (step != VOTERS_STEP_NONE) {
        *ret_raft_id = hosts[chosen].raft_id;
    }
    return step;
}

/* Where the host is among those looked at; count: nowhere. */
static unsigned
index_of(const struct voters_host *hosts, unsigned count, const struct host *host)
{
    uint64_t raft_id = raft_id_of(host);
    unsigned index = 0;
    while (index < count && hosts[index].raft_id != raft_id) {
        index++;
    }
    return index;
}

/* "host h2, which is lost: bring it back" */
static int refuse_hindered(const struct voters *voters,
                           const struct host *host,
                           const struct voters_host *other,
                           struct err *err)
{
    const struct host *missing = host_of(voters, other->raft_id);
    if (missing == NULL) {
        return err_set(err, BERTH_EINUSE,
                       "host %s is in the log, and one that was removed before is still "
                       "leaving it: try again in a while",
                       host->meta.name);
    }
    return err_set(err, BERTH_EINUSE,
                   "host %s is in the log, and host %s, which votes there, %s%s: bring "
                   "%s back, or wait until another host votes in its place, minutes "
                   "after it is lost (berth host ls)",
                   host->meta.name, missing->meta.name,
                   other->phase == HOST_PHASE_READY ? "does not follow" : "is ",
                   other->phase == HOST_PHASE_READY ? "" : host_phase_names[other->phase],
                   missing->meta.name);
}

int voters_check_removal(struct voters *voters,
                         const struct host *host,
                         uint64_t now_ms,
                         struct err *err)
{
    unsigned count = 0;
    unsigned other = 0;
    CLEANUP_FREE struct voters_host *hosts = look(voters, now_ms, &count);
    if (hosts == NULL) {
        return err_sys(err, -ENOMEM, "remove host %s", host->meta.name);
    }
    unsigned index = index_of(hosts, count, host);
    REQUIRE(index < count);
    enum voters_farewell farewell = voters_bid_farewell(hosts, count, index, &other);
    if (farewell != VOTERS_FAREWELL_NOW && !host->spec.drain) {
        /* As apply would say, unless its drain is in the log already. */
        return err_set(err, BERTH_EINUSE, "host %s is in service: drain it first",
                       host->meta.name);
    }
    switch (farewell) {
    case VOTERS_FAREWELL_HINDERED:
        return refuse_hindered(voters, host, &hosts[other], err);
    case VOTERS_FAREWELL_SOON:
        return err_set(err, BERTH_EINUSE,
                       "host %s votes in the log, and is to leave it first, or another "
                       "to take its place there: try again in some seconds "
                       "(berth host ls)",
                       host->meta.name);
    default:
        return 0;
    }
}

void voters_tick(struct voters *voters, uint64_t now_ms)
{
    if (voters->under_way || now_ms < voters->next_ms) {
        return;
    }
    voters->next_ms = now_ms + VOTERS_RETRY_MS;
    drop_leavers(voters);
    if (!voters->leads) {
        return;
    }
    enum voters_step step = next_step(voters, now_ms, &voters->changing);
    if (step == VOTERS_STEP_NONE) {
        return;
    }
    const struct host *host = host_of(voters, voters->changing);
    int r = begin_step(voters, step, voters->changing, host);
    voters->under_way = r == 0;
    if (r < 0) {
        change_done(voters, r);
    } else {
        log_step(step, voters->changing, host);
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
