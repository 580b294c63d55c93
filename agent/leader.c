#include "agent/leader.h"

#include "agent/admission.h"
#include "agent/confirm.h"
#include "agent/level_watch.h"
#include "agent/orders.h"
#include "agent/orders_book.h"
#include "agent/voters.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/require.h"
#include "base/u64_map.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CPU_WINDOW_MS 5000
#define PHASES_MAX                                                              \
    256 /* observed phases of one host proposed at once; the rest with the next \
           heartbeat */

/* What the leader knows of a host beyond the log. */
struct heard {
    struct leader *leader;
    uint64_t uid;
    uint64_t boot;
    uint32_t fence;        /* enum fence_health, as it last said */
    uint64_t sequence;     /* newest heartbeat */
    uint64_t round_covers; /* newest heartbeat that the running round will confirm */
    uint64_t acked;
    uint64_t orders_hash;  /* of what it was sent last; 0: nothing */
    uint64_t orders_taken; /* as it says */
    uint64_t orders_sent_ms;
    unsigned phases_under_way;
    bool update_under_way;
    bool outdated;      /* takes no part at the cluster's level; said once */
    bool orders_failed; /* they could not be written or sent: tried again */
};

struct leader {
    struct leader_config config;
    bool leads;
    bool ended; /* the host goes */
    uint64_t term;
    struct scheduler *scheduler;
    struct voters *voters;
    struct confirm confirm;
    struct u64_map *hosts; /* uid -> struct heard */
    struct loop_timer *tick;
    struct loop_timer *gather; /* ends in a round of confirm */
    bool gathering;
    struct loop_post *wake; /* something changed: decide and give orders */
    struct decisions *decisions;
    uint32_t decisions_under_way;
    bool decisions_took; /* some of them was taken: what follows may be decided at once */
    struct level_watch *levels;
    bool raise_under_way;
    struct admission *admission;
    struct orders_book *book;
    struct loop_post *more_orders; /* some hosts' were left to the next turn */
    bool caught_up;                /* all that earlier leaders decided is applied here */
    uint64_t catch_term;           /* of the read under way that will tell; 0: none is */
};

/* ---- hosts
 * -----------------------------------------------------------------------------------------
 */

static struct heard *heard_of(struct leader *leader, uint64_t uid)
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
        heard->orders_failed = false;
        heard->outdated = false;
    }
}

/* ---- leadership and leases
 * ------------------------------------------------------------------------- */

/* Leases are renewed only by a leader who knows all that was decided before it, and only
 * of hosts that were not given up (scheduler.h). */
static bool may_renew(const struct leader *leader, const struct heard *heard)
{
    bool orders_taken = leader->decisions_under_way == 0 && heard->orders_hash != 0 &&
                        heard->orders_taken == heard->orders_hash &&
                        orders_book_settled(leader->book, heard->uid);
    return leader->caught_up &&
           scheduler_may_renew(
               leader->scheduler,
               state_host(control_state(leader->config.control), heard->uid),
               orders_taken);
}

static void acknowledge(struct leader *leader)
{
    size_t cursor = 0;
    uint64_t uid;
    void *value;
    while (u64_map_next(leader->hosts, &cursor, &uid, &value)) {
        struct heard *heard = value;
        if (heard->round_covers <= heard->acked || !may_renew(leader, heard)) {
            continue;
        }
        const struct msg_ack ack = {
            .sequence = heard->round_covers,
            .level = state_level(control_state(leader->config.control)),
            .boot = heard->boot,
            .leader = leader->config.identity->uid,
            .term = leader->term};
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
static void round_gather(struct leader *leader)
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
        round_gather(leader);
    }
}

/* ---- what hosts have seen
 * -------------------------------------------------------------------------- */

static void phase_proposed(void *context, int code, const struct apply_result *result)
{
    struct heard *heard = context;
    (void)code;   /* whatever came of it: */
    (void)result; /* the next heartbeat shows whether it is still wanted */
    REQUIRE(heard->phases_under_way > 0);
    heard->phases_under_way--;
}

/* Phases on the way up are reported one by one, so that the boot timeline has them all.
 */
static enum phase next_phase(enum phase from, enum phase seen)
{
    static const enum phase up[] = {PHASE_PLACED, PHASE_STARTING, PHASE_RUNNING,
                                    PHASE_READY};
    for (unsigned i = 0; i + 1 < ARRAY_COUNT(up); i++) {
        if (from == up[i] && seen > from && seen <= PHASE_READY) {
            return up[i + 1];
        }
    }
    return seen;
}

static int phase_propose_one(struct leader *leader,
                             struct heard *heard,
                             const struct msg_vm_seen *seen,
                             enum phase to)
{
    struct command command;
    command_init(&command, COMMAND_VM_PHASE);
    (void)snprintf(command.subject, sizeof(command.subject), "system");
    command.body.vm_phase.vm = seen->vm;
    command.body.vm_phase.host = heard->uid;
    command.body.vm_phase.epoch = seen->epoch;
    command.body.vm_phase.phase = to;
    command.body.vm_phase.at_wall_ms =
        to == PHASE_STARTING && seen->starting_wall_ms != 0 ? seen->starting_wall_ms
        : to == PHASE_RUNNING && seen->running_wall_ms != 0 ? seen->running_wall_ms
                                                            : seen->at_wall_ms;
    command.body.vm_phase.disk_epoch =
        to == PHASE_STOPPED || to == PHASE_FAILED ? seen->disk_epoch : 0;
    if (to == (enum phase)seen->phase && seen->reason != NULL) {
        (void)record_set_text(&command.body.vm_phase.reason, seen->reason);
    }
    int r = control_propose(leader->config.control, &command, phase_proposed, heard);
    command_fini(&command);
    heard->phases_under_way += r < 0 ? 0U : 1U;
    return r;
}

static void
phase_propose(struct leader *leader, struct heard *heard, const struct msg_vm_seen *seen)
{
    const struct vm *vm = state_vm(control_state(leader->config.control), seen->vm);
    if (vm == NULL || vm->status.host != heard->uid || vm->status.epoch != seen->epoch) {
        return; /* not its VM any more: its orders say so */
    }
    enum phase from = vm->status.phase;
    enum phase last = seen->phase;
    if (vm_reason_is_news(vm, last, seen->reason) &&
        heard->phases_under_way < PHASES_MAX) {
        (void)phase_propose_one(leader, heard, seen, last); /* the next heartbeat again */
    }
    while (from != last && heard->phases_under_way < PHASES_MAX) {
        enum phase to = next_phase(from, last);
        if (!vm_phase_allowed(from, to) ||
            phase_propose_one(leader, heard, seen, to) < 0) {
            return;
        }
        from = to;
    }
}

static void take_vms(struct leader *leader,
                     struct heard *heard,
                     const struct msg_heartbeat *heartbeat,
                     uint64_t now_ns)
{
    bool may_propose = heard->phases_under_way == 0;
    for (uint32_t i = 0; i < heartbeat->vms.count; i++) {
        const struct msg_vm_seen *seen = &heartbeat->vms.items[i];
        if (seen->sampled) {
            scheduler_vm_load(leader->scheduler, seen->vm, seen->cpu_permille,
                              seen->phase == PHASE_READY, now_ns);
        }
        if (may_propose) {
            phase_propose(leader, heard, seen);
        }
    }
}

static void update_proposed(void *context, int code, const struct apply_result *result)
{
    struct heard *heard = context;
    heard->update_under_way = false;
    if (code == 0 && result->code < 0) {
        log_warn("leader", "host's news were refused", KV_U64("host", heard->uid),
                 KV_STR("why", result->text));
    }
}

/* It is in and stays in: people have to hear of it, also in leader_host_live. */
static void address_warn(const struct leader *leader,
                         const struct host *host,
                         const struct host_status *said)
{
    char clash[ADMISSION_CLASH_SIZE];
    if (said->address != host->status.address &&
        admission_address_clash(control_state(leader->config.control), host->meta.name,
                                said->address, clash)) {
        log_warn("leader", "a host came back with an address that a network has taken",
                 KV_STR("host", host->meta.name), KV_STR("why", clash));
    }
}

/* Addresses and inventory as the host says now; phase, key and role are not its to say.
 */
static void take_status(struct leader *leader,
                        struct heard *heard,
                        const struct msg_heartbeat *heartbeat)
{
    const struct host *host =
        state_host(control_state(leader->config.control), heard->uid);
    struct host_status said;
    if (host == NULL || heard->update_under_way || heartbeat->status.address == 0 ||
        record_copy(&host_status_record, &heartbeat->status, &said) < 0) {
        return;
    }
    record_limit(&host_status_record, &said,
                 state_level(control_state(leader->config.control)));
    said.phase = host->status.phase;
    said.voter = host->status.voter;
    said.public_key = host->status.public_key;
    bool same_reason = record_set_text(&said.reason, host->status.reason) == 0;
    if (same_reason && !record_equal(&host_status_record, &said, &host->status)) {
        struct command command;
        command_init(&command, COMMAND_HOST_UPDATE);
        (void)snprintf(command.subject, sizeof(command.subject), "host:%.50s",
                       host->meta.name);
        command.body.host_update.host = heard->uid;
        record_fini(&host_status_record, &command.body.host_update.status);
        if (record_copy(&host_status_record, &said, &command.body.host_update.status) ==
                0 &&
            control_propose(leader->config.control, &command, update_proposed, heard) ==
                0) {
            address_warn(leader, host, &said);
            heard->update_under_way = true;
        }
        command_fini(&command);
    }
    record_fini(&host_status_record, &said);
}

/* Which networks it cannot carry. Out of memory it is found out when one is made there.
 */
static void take_ranges(struct leader *leader,
                        uint64_t host,
                        const struct msg_taken_list *taken,
                        const struct msg_carried_list *carried)
{
    uint32_t vnis[HOST_CARRIED_MAX];
    struct host_range ranges[HOST_RANGES_MAX] = {0};
    for (uint32_t i = 0; i < taken->count; i++) {
        const struct msg_taken *item = &taken->items[i];
        ranges[i].ipv4 = item->ipv4;
        ranges[i].prefix_bits = item->prefix_bits;
        (void)snprintf(ranges[i].text, sizeof(ranges[i].text), "%s",
                       item->text != NULL ? item->text : "what it needs for itself");
    }
    (void)scheduler_host_ranges(leader->scheduler, host, ranges, taken->count);
    for (uint32_t i = 0; i < carried->count; i++) {
        vnis[i] = carried->items[i].vni;
    }
    (void)scheduler_host_carries(leader->scheduler, host, vnis, carried->count);
}

/* False for a host that takes no part at the cluster's level: its lease is not renewed,
 * it gets no orders, and it is told why. */
static bool level_fits(struct leader *leader,
                       struct heard *heard,
                       const struct msg_member *from,
                       const struct msg_heartbeat *heartbeat)
{
    const struct level_range range = {heartbeat->level_min, heartbeat->level_max};
    uint32_t level = state_level(control_state(leader->config.control));
    if (level_watch_heard(leader->levels, from->uid, range,
                          clock_now_ms(leader->config.clock)) < 0) {
        return false; /* it asks again */
    }
    if (level_in_range(range, level)) {
        heard->outdated = false;
        return true;
    }
    if (!heard->outdated) {
        log_warn("leader", "a host takes no part: its berthd does not know the level",
                 KV_STR("host", from->name), KV_U64("level", level),
                 KV_U64("knows up to", range.max));
        heard->outdated = true;
    }
    const struct msg_outdated answer = {.term = leader->term, .level = level};
    (void)link_send(leader->config.link, from->uid, MESSAGE_OUTDATED,
                    &answer); /* the next heartbeat asks again */
    return false;
}

void leader_on_heartbeat(struct leader *leader,
                         const struct msg_member *from,
                         const struct msg_heartbeat *heartbeat)
{
    struct heard *heard = leader->leads ? heard_of(leader, from->uid) : NULL;
    if (heard == NULL || heartbeat->host != from->uid ||
        !level_fits(leader, heard, from, heartbeat)) {
        return;
    }
    if (heard->boot != heartbeat->boot) {
        heard->boot = heartbeat->boot;
        heard->sequence = 0;
        heard->round_covers = 0;
        heard->acked = 0;
        heard->orders_hash = 0;
    }
    if (heartbeat->sequence <= heard->sequence) {
        return;
    }
    uint64_t now_ns = clock_now_ns(leader->config.clock);
    const struct host_load load = {.cpu_used_mcpu = heartbeat->cpu_used_mcpu,
                                   .memory_used_bytes = heartbeat->memory_used_bytes,
                                   .disk_free_bytes = heartbeat->disk_free_bytes};
    if (scheduler_host_heard(leader->scheduler, from->uid, &load, now_ns,
                             clock_wall_ms(leader->config.clock)) < 0) {
        return; /* a lease renewed unnoticed would be given away too soon */
    }
    take_ranges(leader, heard->uid, &heartbeat->taken, &heartbeat->carried);
    heard->sequence = heartbeat->sequence;
    heard->orders_taken = heartbeat->desired_hash;
    take_vms(leader, heard, heartbeat, now_ns);
    take_status(leader, heard, heartbeat);
    orders_book_holds(leader->book, heard->uid, heartbeat->blobs.items,
                      heartbeat->blobs.count); /* others may fetch from there now */
    heard->fence = heartbeat->fence;
    if (heard->orders_hash == 0 && !heard->orders_failed) {
        orders_book_touch(leader->book, heard->uid);
        loop_post_send(leader->wake);
    }
    if (!leader->confirm.active) {
        round_gather(leader);
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

/* Sent when they are others than last time, or when those were not taken over in time. */
static int orders_send(struct leader *leader, struct heard *heard, uint64_t now_ms)
{
    struct msg_orders orders;
    int r = orders_book_write(leader->book, heard->uid, &orders);
    if (r < 0) {
        return r == BERTH_ENOTFOUND ? 0 : r; /* not a member any more */
    }
    uint64_t hash = orders_hash(&orders);
    bool overdue =
        heard->orders_taken != hash && now_ms - heard->orders_sent_ms >= LEADER_ORDERS_MS;
    if (hash != heard->orders_hash || overdue) {
        orders.term = leader->term;
        r = link_send(leader->config.link, heard->uid, MESSAGE_ORDERS, &orders);
        if (r == 0) {
            heard->orders_hash = hash;
        }
        heard->orders_sent_ms = now_ms;
    }
    record_fini(&msg_orders_record, &orders);
    return r;
}

/* A turn's share of those whose orders may be others now: what all hosts are told takes a
 * thousand of them a while, and leases are kept by the same loop. */
static void orders_give(struct leader *leader)
{
    uint64_t now_ms = clock_now_ms(leader->config.clock);
    if (orders_book_refresh(leader->book) < 0) {
        log_error("leader", "out of memory, no host gets orders; tried again soon");
        return; /* at the next tick */
    }
    unsigned left = LEADER_ORDERS_PER_TURN;
    uint64_t uid;
    while (left > 0 && (uid = orders_book_take(leader->book)) != 0) {
        struct heard *heard = u64_map_get(leader->hosts, uid);
        if (heard == NULL || heard->sequence == 0) {
            continue; /* its first heartbeat asks for them */
        }
        int r = orders_send(leader, heard, now_ms);
        heard->orders_failed = r < 0;
        if (r < 0) {
            heard->orders_hash = 0; /* whatever it has, it is not what it should have */
            log_error("leader", "a host gets no orders; tried again soon",
                      KV_U64("host", uid), KV_STR("why", err_sentence(r)));
        }
        left--;
    }
    if (orders_book_pending(leader->book)) {
        loop_post_send(leader->more_orders);
    }
}

static void on_more_orders(void *context)
{
    struct leader *leader = context;
    if (leader->leads) {
        orders_give(leader);
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
        bool taken = heard->orders_taken == heard->orders_hash && !heard->orders_failed;
        if (heard->sequence != 0 && !taken &&
            now_ms - heard->orders_sent_ms >= LEADER_ORDERS_MS) {
            orders_book_touch(leader->book, uid);
        }
    }
}

/* ---- decisions
 * -------------------------------------------------------------------------------------
 */

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
    if (leader->decisions_under_way == 0 && leader->decisions_took) {
        loop_post_send(leader->wake); /* after refusals alone the tick is soon enough */
    }
}

static void decide(struct leader *leader)
{
    if (leader->decisions_under_way > 0) {
        return;
    }
    struct decisions *decisions = leader->decisions;
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
    if (leader->decisions_under_way == 0 && orders_book_pending(leader->book)) {
        orders_give(leader);
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
    raise_level(leader);
    if (confirm_expired(&leader->confirm, now_ms) ||
        (!leader->confirm.active && anything_to_acknowledge(leader))) {
        round_begin(leader);
    }
    orders_remind(leader, now_ms);
    on_wake(leader);
    if (orders_book_pending(leader->book)) {
        orders_give(leader); /* even while decisions are under way: an order may not wait
                                for long */
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

/* ---- soft facts
 * ------------------------------------------------------------------------------------ */

bool leader_image_lacks(const struct leader *leader,
                        const char *tenant,
                        const char *image_name,
                        uint64_t host,
                        struct image_lack *ret_lack)
{
    uint64_t heard_wall_ms = 0;
    struct host_load load;
    return (host == 0 ||
            scheduler_host_seen(leader->scheduler, host, &heard_wall_ms, &load)) &&
           orders_book_lacks(leader->book, tenant, image_name, host, ret_lack);
}

uint64_t leader_cpu_window_ns(const struct vm *vm, uint64_t now_wall_ms)
{
    uint64_t since_ms = vm->status.running_wall_ms;
    if ((vm->status.phase != PHASE_RUNNING && vm->status.phase != PHASE_READY) ||
        now_wall_ms <= since_ms) {
        return 0;
    }
    uint64_t past_ms = now_wall_ms - since_ms;
    return (past_ms < CPU_WINDOW_MS ? past_ms : CPU_WINDOW_MS) * NS_PER_MS;
}

json_t *leader_vm_live(const struct leader *leader, const struct vm *vm)
{
    const struct clock *clock = leader->config.clock;
    uint64_t window_ns = leader_cpu_window_ns(vm, clock_wall_ms(clock));
    int cpu = window_ns > 0 ? scheduler_vm_cpu(leader->scheduler, vm->meta.uid, window_ns,
                                               clock_now_ns(clock))
                            : -1;
    return cpu >= 0 ? json_pack("{s:I}", "cpuPermille", (json_int_t)cpu) : NULL;
}

json_t *leader_host_live(const struct leader *leader, const struct host *host)
{
    uint64_t heard_wall_ms = 0;
    struct host_load load;
    if (!scheduler_host_seen(leader->scheduler, host->meta.uid, &heard_wall_ms, &load)) {
        return NULL;
    }
    char when[CLOCK_TEXT_SIZE];
    clock_format(heard_wall_ms, when);
    uint64_t placed = 0;
    json_int_t vms = 0;
    size_t cursor = 0;
    const struct vm *vm;
    while ((vm = state_vm_on_host(control_state(leader->config.control), host->meta.uid,
                                  &cursor)) != NULL) {
        if (vm_phase_on_host(vm->status.phase)) {
            placed += vm->spec.machine.memory.size_bytes;
            vms++;
        }
    }
    /* Kept disks of VMs that have stopped, too: their place is taken. */
    uint64_t disk =
        state_host_use(control_state(leader->config.control), host->meta.uid).disk_bytes;
    const struct heard *heard = u64_map_get(leader->hosts, host->meta.uid);
    const char *fence =
        fence_health_names[heard == NULL ? FENCE_HEALTH_UNKNOWN : heard->fence];
    char levels[24] = "";
    struct level_range range;
    if (level_watch_range(leader->levels, host->meta.uid, &range)) {
        (void)snprintf(levels, sizeof(levels), "%u-%u", range.min, range.max);
    }
    char clash[ADMISSION_CLASH_SIZE];
    bool clashes = admission_address_clash(control_state(leader->config.control),
                                           host->meta.name, host->status.address, clash);
    return json_pack("{s:s, s:s*, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:b}",
                     "lastHeard", when, "clash", clashes ? clash : NULL, "fence", fence,
                     "levels", levels, "cpuUsedMcpu", (json_int_t)load.cpu_used_mcpu,
                     "memoryUsedBytes", (json_int_t)load.memory_used_bytes,
                     "diskFreeBytes", (json_int_t)load.disk_free_bytes, "vms", vms,
                     "memoryPlacedBytes", (json_int_t)placed, "diskPlacedBytes",
                     (json_int_t)disk, "leader",
                     host->meta.uid == leader->config.identity->uid);
}

const struct scheduler *leader_scheduler(const struct leader *leader)
{
    return leader->scheduler;
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
    if (leader->scheduler == NULL || leader->hosts == NULL || leader->decisions == NULL ||
        leader->voters == NULL || leader->tick == NULL || leader->wake == NULL ||
        leader->gather == NULL || leader->more_orders == NULL || leader->book == NULL ||
        leader->levels == NULL || leader->admission == NULL) {
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
    voters_free(leader->voters);
    level_watch_free(leader->levels);
    admission_free(leader->admission);
    scheduler_free(leader->scheduler);
    free(leader->decisions);
    free(leader);
    return NULL;
}
