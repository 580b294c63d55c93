#include "agent/leader.h"

#include "agent/leader_internal.h"
#include "agent/orders.h"
#include "base/log.h"
#include "base/require.h"
#include "base/where.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- hosts
 * -----------------------------------------------------------------------------------------
 */

struct heard *leader_heard_of(struct leader *leader, uint64_t uid)
{
    struct heard *heard = u64_map_get(leader->hosts, uid);
    if (heard != NULL) {
        return heard;
    }
    heard = calloc(1, sizeof(*heard));
    if (heard == NULL || u64_map_put(leader->hosts, uid, heard) < 0) {
        free(heard);
        return NULL;
    }
    heard->leader = leader;
    heard->uid = uid;
    return heard;
}

/* Proposals under way point at their host, so hosts live as long as the leader; a new
 * leadership only forgets what they said. */
static void hosts_reset(struct leader *leader)
{
    size_t cursor = 0;
    uint64_t uid;
    void *value;
    while (u64_map_next(leader->hosts, &cursor, &uid, &value)) {
        struct heard *heard = value;
        heard->boot = 0;
        heard->sequence = 0;
        heard->round_covers = 0;
        heard->acked = 0;
        heard->orders_hash = 0;
        heard->orders_taken = 0;
        heard->orders_sent_ms = 0;
        heard->orders_looked_ms = 0;
        heard->orders_owed = false;
        heard->outdated = false;
        heard->finds = false;
        heard->begins_ms = 0;
    }
}

/* ---- leadership and leases
 * ------------------------------------------------------------------------- */

/* The decisions taken last may still take effect. */
static bool is_deciding(const struct leader *leader)
{
    return leader->decisions_under_way > 0 || leader->decisions_unknown;
}

bool leader_has_orders(const struct leader *leader, const struct heard *heard)
{
    return heard->orders_hash != 0 && heard->orders_taken == heard->orders_hash &&
           !heard->orders_owed && orders_book_settled(leader->book, heard->uid);
}

/* Leases are renewed only by a leader who knows all that was decided before it, and only
 * of hosts that were not given up (scheduler.h). */
static bool may_renew(const struct leader *leader, const struct heard *heard)
{
    bool orders_taken = !is_deciding(leader) && leader_has_orders(leader, heard);
    return leader->caught_up &&
           scheduler_may_renew(
               leader->scheduler,
               state_host(control_state(leader->config.control), heard->uid),
               orders_taken);
}

static void acknowledge(struct leader *leader)
{
    const struct state *state = control_state(leader->config.control);
    size_t cursor = 0;
    uint64_t uid;
    void *value;
    while (u64_map_next(leader->hosts, &cursor, &uid, &value)) {
        struct heard *heard = value;
        if (heard->round_covers <= heard->acked || !may_renew(leader, heard)) {
            continue;
        }
        const struct msg_ack ack = {.sequence = heard->round_covers,
                                    .level = state_level(state),
                                    .boot = heard->boot,
                                    .leader = leader->config.identity->uid,
                                    .term = leader->term,
                                    .revision = state_revision(state)};
        if (link_send(leader->config.link, uid, MESSAGE_ACK, &ack) == 0) {
            heard->acked = heard->round_covers;
        }
    }
}

static bool anything_to_acknowledge(const struct leader *leader)
{
    size_t cursor = 0;
    uint64_t uid;
    void *value;
    while (u64_map_next(leader->hosts, &cursor, &uid, &value)) {
        const struct heard *heard = value;
        if (heard->sequence > heard->acked && may_renew(leader, heard)) {
            return true;
        }
    }
    return false;
}

static void catch_up_done(void *context, int code)
{
    struct leader *leader = context;
    if (code == 0 && leader->catch_term == leader->term) {
        leader->caught_up = true;
    }
    leader->catch_term = 0; /* when it came to nothing, the tick tries again */
}

static void catch_up(struct leader *leader)
{
    if (leader->caught_up || leader->catch_term != 0) {
        return;
    }
    leader->catch_term = leader->term;
    if (control_read(leader->config.control, catch_up_done, leader) < 0) {
        leader->catch_term = 0;
    }
}

static void cover_heard(struct leader *leader)
{
    size_t cursor = 0;
    uint64_t uid;
    void *value;
    while (u64_map_next(leader->hosts, &cursor, &uid, &value)) {
        struct heard *heard = value;
        if (heard->sequence > 0 && may_renew(leader, heard)) {
            heard->round_covers = heard->sequence;
        }
    }
}

static void round_begin(struct leader *leader)
{
    uint64_t uids[CONFIRM_VOTERS_MAX];
    unsigned count = voters_uids(leader->voters, uids, CONFIRM_VOTERS_MAX);
    if (count == 0) {
        return;
    }
    cover_heard(leader);
    if (confirm_begin(&leader->confirm, uids, count, leader->config.identity->uid,
                      clock_now_ms(leader->config.clock))) {
        acknowledge(leader);
        return;
    }
    const struct msg_confirm question = {.term = leader->term,
                                         .round = leader->confirm.round};
    for (unsigned i = 0; i < count; i++) {
        if (uids[i] != leader->config.identity->uid) {
            (void)link_send(leader->config.link, uids[i], MESSAGE_CONFIRM,
                            &question); /* one of a majority; the round is asked again */
        }
    }
}

/* Heartbeats that come close together share a round: what a round costs does not grow
 * with the number of hosts, and the wait is nothing to a lease. */
void leader_round_gather(struct leader *leader)
{
    if (!leader->gathering) {
        leader->gathering = true;
        loop_timer_again(leader->gather, LEADER_GATHER_MS, 0);
    }
}

static void on_gathered(void *context)
{
    struct leader *leader = context;
    leader->gathering = false;
    if (leader->leads && !leader->confirm.active && anything_to_acknowledge(leader)) {
        round_begin(leader);
    }
}

void leader_on_confirmed(struct leader *leader,
                         const struct msg_member *from,
                         const struct msg_confirmed *confirmed)
{
    if (!leader->leads ||
        !consensus_is_leader(control_consensus(leader->config.control)) ||
        !confirm_answer(&leader->confirm, from->uid, confirmed->round, confirmed->term)) {
        return;
    }
    acknowledge(leader);
    if (anything_to_acknowledge(leader)) {
        leader_round_gather(leader);
    }
}

/* ---- orders
 * ----------------------------------------------------------------------------------------
 */

static bool is_reachable(void *context, uint64_t host)
{
    const struct leader *leader = context;
    return link_is_up(leader->config.link, host);
}

/* Sent when they are others than last time, or when those were not taken over in time.
 * ret_size: what they cost, sent or not. */
static int
orders_send(struct leader *leader, struct heard *heard, uint64_t now_ms, size_t *ret_size)
{
    struct msg_orders orders;
    *ret_size = 0;
    int r = orders_book_write(leader->book, heard->uid, &orders);
    if (r < 0) {
        return r == BERTH_ENOTFOUND ? 0 : r; /* not a member any more */
    }
    uint64_t hash = orders_hash_and_size(&orders, ret_size);
    bool overdue =
        heard->orders_taken != hash && now_ms - heard->orders_sent_ms >= LEADER_ORDERS_MS;
    if (hash == 0 || hash != heard->orders_hash || overdue) {
        orders.term = leader->term;
        r = link_send(leader->config.link, heard->uid, MESSAGE_ORDERS, &orders);
        heard->orders_looked_ms = now_ms;
        heard->orders_sent_ms = r == 0 ? now_ms : heard->orders_sent_ms;
        if (r == 0 && hash == 0) {
            r = -ENOMEM; /* they went, but whether they are taken cannot be seen */
        }
        if (r == 0) {
            heard->orders_hash = hash;
        }
    }
    record_fini(&msg_orders_record, &orders);
    return r;
}

/* The book takes the host for one that was told; nothing was sent, so what it has is
 * still to be found (is_ordered_away). */
static void orders_put_off(struct heard *heard, uint64_t now_ms)
{
    heard->orders_owed = true;
    heard->orders_looked_ms = now_ms; /* and again in time, not at every tick */
}

/* A turn's share of those whose orders may be others now, by their number and their size:
 * what all hosts are told takes a thousand of them a while, and leases and the log are
 * kept by the same loop. A turn that is longer than an election ends the leadership, and
 * the next leader owes all of them theirs again. */
void leader_give_orders(struct leader *leader)
{
    uint64_t now_ms = clock_now_ms(leader->config.clock);
    WHERE("write orders for hosts");
    if (orders_book_refresh(leader->book) < 0) {
        log_error("leader", "out of memory, no host gets orders; tried again soon");
        return; /* at the next tick */
    }
    unsigned given = 0;
    size_t bytes = 0;
    uint64_t uid;
    while (given < LEADER_ORDERS_PER_TURN && bytes < LEADER_ORDERS_BYTES_PER_TURN &&
           (uid = orders_book_take(leader->book)) != 0) {
        struct heard *heard = u64_map_get(leader->hosts, uid);
        if (heard == NULL || heard->sequence == 0) {
            continue; /* its first heartbeat asks for them */
        }
        if (heard->finds || !is_reachable(leader, uid)) {
            orders_put_off(heard, now_ms);
            continue; /* the heartbeat that ends it asks for them, or its link */
        }
        size_t size;
        int r = orders_send(leader, heard, now_ms, &size);
        heard->orders_owed = r < 0;
        if (r < 0) {
            heard->orders_hash = 0; /* whatever it has, it is not what it should have */
            log_error("leader", "a host gets no orders; tried again soon",
                      KV_U64("host", uid), KV_STR("why", err_sentence(r)));
        }
        given++;
        bytes += size;
    }
    if (orders_book_pending(leader->book)) {
        loop_post_send(leader->more_orders);
    }
}

/* What is written for a host that cannot be reached would be written again and again, and
 * dropped by the mesh as often. */
void leader_on_peer(struct leader *leader, uint64_t host, bool up)
{
    const struct heard *heard =
        leader->leads && up ? u64_map_get(leader->hosts, host) : NULL;
    if (heard != NULL && heard->orders_owed) {
        orders_book_touch(leader->book, host);
        loop_post_send(leader->wake);
    }
}

static void on_more_orders(void *context)
{
    struct leader *leader = context;
    if (leader->leads) {
        leader_give_orders(leader);
    }
}

/* Those that were not taken over, or did not even go, are looked at again. */
static void orders_remind(struct leader *leader, uint64_t now_ms)
{
    size_t cursor = 0;
    uint64_t uid;
    void *value;
    while (u64_map_next(leader->hosts, &cursor, &uid, &value)) {
        const struct heard *heard = value;
        bool taken = heard->orders_taken == heard->orders_hash && !heard->orders_owed;
        if (heard->sequence != 0 && !taken &&
            now_ms - heard->orders_looked_ms >= LEADER_ORDERS_MS) {
            orders_book_touch(leader->book, uid);
        }
    }
}

/* ---- decisions
 * -------------------------------------------------------------------------------------
 */

static void settled(void *context, int code)
{
    struct leader *leader = context;
    if (code == 0 && leader->settle_term == leader->term) {
        leader->decisions_unknown = false;
        loop_post_send(leader->wake);
    }
    leader->settle_term = 0; /* when it came to nothing, the tick tries again */
}

/* A decision whose answer did not come in time is in the log still, and may take effect
 * at any time: a host that it gives up would have a lease again by then. A barrier comes
 * behind it. */
static void settle(struct leader *leader)
{
    if (!leader->decisions_unknown || leader->decisions_under_way > 0 ||
        leader->settle_term != 0) {
        return;
    }
    leader->settle_term = leader->term;
    if (control_read(leader->config.control, settled, leader) < 0) {
        leader->settle_term = 0;
    }
}

static void decision_proposed(void *context, int code, const struct apply_result *result)
{
    struct leader *leader = context;
    if (code == 0 && result->code < 0) {
        log_info("leader", "decision was refused and is taken anew",
                 KV_STR("why", result->text));
    }
    leader->decisions_took = leader->decisions_took || (code == 0 && result->code == 0);
    REQUIRE(leader->decisions_under_way > 0);
    leader->decisions_under_way--;
    leader->decisions_unknown = leader->decisions_unknown || code == BERTH_EUNKNOWN;
    if (!is_deciding(leader) && leader->decisions_took) {
        loop_post_send(leader->wake); /* after refusals alone the tick is soon enough */
    }
}

static void decide(struct leader *leader)
{
    if (is_deciding(leader)) {
        return;
    }
    struct decisions *decisions = leader->decisions;
    WHERE("decide where VMs run");
    leader->decisions_took = false;
    uint32_t count =
        scheduler_step(leader->scheduler, control_state(leader->config.control),
                       clock_now_ns(leader->config.clock),
                       clock_wall_ms(leader->config.clock), decisions);
    for (uint32_t i = 0; i < count; i++) {
        int r = control_propose(leader->config.control, &decisions->commands[i],
                                decision_proposed, leader);
        if (r < 0) {
            break; /* what did not go is decided again */
        }
        leader->decisions_under_way++;
    }
    decisions_fini(decisions);
}

/* A host that is not drained is looked at, too: its drain may be in the log, before its
 * removal. */
int leader_check_command(const struct leader *leader,
                         const struct command *command,
                         struct err *err)
{
    const struct cmd_delete *delete = &command->body.delete;
    const struct host *host = NULL;
    if (command->type == COMMAND_DELETE && delete->kind == KIND_HOST) {
        host =
            state_get(control_state(leader->config.control), KIND_HOST, "", delete->name);
    }
    return host != NULL ? voters_check_removal(leader->voters, host,
                                               clock_now_ms(leader->config.clock), err)
                        : 0;
}

/* ---- the level of the state
 * -------------------------------------------------------------------------- */

static void raise_proposed(void *context, int code, const struct apply_result *result)
{
    struct leader *leader = context;
    leader->raise_under_way = false; /* what came of it, the next tick sees */
    admission_hold(leader->admission, false);
    if (code == 0 && result->code < 0) {
        log_warn("leader", "the level was not raised", KV_STR("why", result->text));
    }
}

/* Not while a host is about to join, of which the watch does not know yet. */
static void raise_level(struct leader *leader)
{
    char why[256];
    struct command command;
    if (!leader->caught_up || leader->raise_under_way ||
        admission_lets_in(leader->admission)) {
        return;
    }
    uint32_t next =
        level_watch_next(leader->levels, control_state(leader->config.control),
                         clock_now_ms(leader->config.clock), why);
    if (next == 0) {
        return;
    }
    command_init(&command, COMMAND_SET_LEVEL);
    (void)snprintf(command.subject, sizeof(command.subject), "system");
    command.body.set_level.level = next;
    leader->raise_under_way =
        control_propose(leader->config.control, &command, raise_proposed, leader) == 0;
    admission_hold(leader->admission, leader->raise_under_way);
    command_fini(&command);
}

void leader_founded(struct leader *leader, uint64_t host)
{
    level_watch_found(leader->levels, host);
}

void leader_level_waits(const struct leader *leader, char ret_why[256])
{
    (void)level_watch_next(leader->levels, control_state(leader->config.control),
                           clock_now_ms(leader->config.clock), ret_why);
}

json_t *leader_level(const struct leader *leader)
{
    char why[256];
    leader_level_waits(leader, why);
    return json_pack("{s:I, s:I, s:s}", "level",
                     (json_int_t)state_level(control_state(leader->config.control)),
                     "next",
                     (json_int_t)level_watch_highest(
                         leader->levels, control_state(leader->config.control)),
                     "waits", why);
}

static void on_wake(void *context)
{
    struct leader *leader = context;
    if (!leader->leads) {
        return;
    }
    decide(leader);
    if (!is_deciding(leader) && orders_book_pending(leader->book)) {
        leader_give_orders(leader);
    }
}

static void on_tick(void *context)
{
    struct leader *leader = context;
    uint64_t now_ms = clock_now_ms(leader->config.clock);
    voters_tick(leader->voters, now_ms);
    admission_tick(leader->admission, now_ms);
    if (!leader->leads) {
        return;
    }
    catch_up(leader);
    settle(leader);
    raise_level(leader);
    if (confirm_expired(&leader->confirm, now_ms) ||
        (!leader->confirm.active && anything_to_acknowledge(leader))) {
        round_begin(leader);
    }
    orders_remind(leader, now_ms);
    on_wake(leader);
    if (orders_book_pending(leader->book)) {
        /* Even while decisions are under way: an order may not wait for long. */
        leader_give_orders(leader);
    }
}

void leader_on_change(struct leader *leader, const struct change *change)
{
    if (change->kind == KIND_TOKEN) {
        admission_tokens_changed(leader->admission);
    }
    if (change->kind == KIND_HOST && change->object == NULL) {
        level_watch_forget(leader->levels, change->uid);
    }
    if (leader->leads) {
        orders_book_note(leader->book, change->kind, change->uid);
        loop_post_send(leader->wake);
    }
}

void leader_on_restored(struct leader *leader)
{
    orders_book_reset(leader->book);
    admission_tokens_changed(leader->admission);
}

void leader_on_leadership(struct leader *leader, bool is_leader, uint64_t term)
{
    if (leader->ended) {
        return;
    }
    leader->leads = is_leader;
    leader->term = term;
    leader->caught_up = false;
    leader->decisions_unknown = false; /* catching up comes behind them, too */
    hosts_reset(leader);
    orders_book_reset(leader->book);
    level_watch_reset(leader->levels);
    confirm_lead(&leader->confirm, term);
    voters_lead(leader->voters, is_leader);
    if (is_leader) {
        scheduler_lead(leader->scheduler, clock_now_ns(leader->config.clock));
        loop_post_send(leader->wake);
        catch_up(leader);
    }
    admission_lead(leader->admission, is_leader);
    log_info("leader", is_leader ? "this host leads" : "this host no longer leads",
             KV_U64("term", term));
}

void leader_end(struct leader *leader)
{
    if (leader->leads) {
        leader_on_leadership(leader, false, 0); /* decides nothing any more */
    }
    leader->ended = true;
    leader->tick = loop_timer_close(leader->tick);
    leader->gather = loop_timer_close(leader->gather);
    admission_end(leader->admission);
}

bool leader_leads(const struct leader *leader)
{
    return leader->leads;
}

void leader_on_join(struct leader *leader,
                    const struct mesh_key *guest,
                    const struct msg_join *join)
{
    admission_ask(leader->admission, guest, join);
}

/* ---- life
 * ------------------------------------------------------------------------------------------
 */

struct leader *leader_new(const struct leader_config *config)
{
    struct leader *leader = calloc(1, sizeof(*leader));
    if (leader == NULL) {
        return NULL;
    }
    leader->config = *config;
    leader->scheduler = scheduler_new();
    leader->rates = vm_rates_new();
    leader->hosts = u64_map_new();
    leader->decisions = calloc(1, sizeof(*leader->decisions));
    leader->voters = voters_new(config->clock, config->control);
    leader->levels = level_watch_new(config->level_wait_ms);
    leader->admission =
        admission_new(&(struct admission_config){.clock = config->clock,
                                                 .identity = config->identity,
                                                 .control = config->control,
                                                 .link = config->link});
    leader->tick =
        loop_timer_new(config->loop, LEADER_TICK_MS, LEADER_TICK_MS, on_tick, leader);
    leader->gather = loop_timer_new(config->loop, LEADER_TICK_MS, 0, on_gathered, leader);
    leader->wake = loop_post_new(config->loop, on_wake, leader);
    leader->more_orders = loop_post_new(config->loop, on_more_orders, leader);
    leader->book = orders_book_new(control_state(config->control), is_reachable, leader);
    if (leader->scheduler == NULL || leader->rates == NULL || leader->hosts == NULL ||
        leader->decisions == NULL || leader->voters == NULL || leader->tick == NULL ||
        leader->wake == NULL || leader->gather == NULL || leader->more_orders == NULL ||
        leader->book == NULL || leader->levels == NULL || leader->admission == NULL) {
        return leader_free(leader);
    }
    loop_timer_slacken(leader->tick, LEADER_SLACK_MS);
    loop_timer_slacken(leader->gather, LEADER_GATHER_SLACK_MS);
    return leader;
}

struct leader *leader_free(struct leader *leader)
{
    if (leader == NULL) {
        return NULL;
    }
    loop_timer_close(leader->tick);
    loop_timer_close(leader->gather);
    loop_post_close(leader->wake);
    loop_post_close(leader->more_orders);
    orders_book_free(leader->book);
    size_t cursor = 0;
    uint64_t uid;
    void *value;
    while (leader->hosts != NULL && u64_map_next(leader->hosts, &cursor, &uid, &value)) {
        free(value);
    }
    u64_map_free(leader->hosts);
    leader->rates = vm_rates_free(leader->rates);
    voters_free(leader->voters);
    level_watch_free(leader->levels);
    admission_free(leader->admission);
    scheduler_free(leader->scheduler);
    free(leader->decisions);
    free(leader);
    return NULL;
}
