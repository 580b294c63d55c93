/* What a berthd does beyond its log: leader and worker, as agent/berthd.c wires them. */
#include "agent/host_facts.h"
#include "agent/orders.h"
#include "agent/voters.h"
#include "agent/worker.h"
#include "base/loop.h"
#include "base/require.h"
#include "model/objects.h"
#include "sim.h"
#include "sim_watch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct host_facts facts = {.cores = 8,
                                        .numa_nodes = 1,
                                        .memory_bytes = UINT64_C(8) << 30,
                                        .kernel = "6.1",
                                        .engines = 7};

void sim_host_describe(const struct sim_machine *machine, struct host_status *ret_status)
{
    ret_status->address = UINT32_C(0x0a000001) + machine->index;
    ret_status->mesh_port = 7440;
    ret_status->raft_port = SIM_PORT_RAFT;
    ret_status->public_key = identity_key_digest(&machine->key);
    ret_status->cpu_mcpu = facts.cores * 1000;
    ret_status->memory_bytes = facts.memory_bytes;
    ret_status->disk_bytes = UINT64_C(100) << 30;
    ret_status->engines = facts.engines;
    ret_status->cores = facts.cores;
    ret_status->numa_nodes = facts.numa_nodes;
}

/* ---- the members' table and its file ---- */

static void member_fill(const struct sim_machine *machine, struct msg_member *member)
{
    member->uid = machine->uid;
    (void)snprintf(member->name, sizeof(member->name), "m%u", machine->index);
    member->key = identity_key_digest(&machine->key);
    member->address = UINT32_C(0x0a000001) + machine->index;
    member->mesh_port = 7440;
    member->raft_port = SIM_PORT_RAFT;
    member->voter = machine->has_log ? VOTER_VOTER : VOTER_NONE;
}

void sim_host_format(struct sim *sim)
{
    struct msg_member items[SIM_MACHINES_MAX] = {0};
    struct msg_member_list list = {.items = items};
    for (unsigned i = 0; i < sim->machine_count; i++) {
        if (sim->machines[i].joined) {
            member_fill(&sim->machines[i], &items[list.count++]);
        }
    }
    for (unsigned i = 0; i < sim->machine_count; i++) {
        struct members members = {0};
        char folder[16];
        bool changed;
        (void)snprintf(folder, sizeof(folder), "m%u", i);
        REQUIRE(!sim->machines[i].joined ||
                (members_open(folder, &members, NULL) == 0 &&
                 members_set(&members, &list, &changed, NULL) == 0));
        members_fini(&members);
    }
}

void sim_host_prepare(struct sim_process *process)
{
    struct err err;
    (void)snprintf(process->folder, sizeof(process->folder), "m%u",
                   process->machine->index);
    REQUIRE(members_open(process->folder, &process->members, &err) == 0);
}

static const struct msg_member *self_of(const struct sim_process *process)
{
    return members_by_uid(&process->members, process->machine->uid);
}

/* As in agent/berthd.c. */
static bool log_is_ours(const struct sim_process *process)
{
    const struct msg_member *self = self_of(process);
    return process->machine->has_log || (self != NULL && self->voter != VOTER_NONE);
}

/* As in agent/log_mark.c; the mistake is not to mind. */
static int log_is_there(const struct sim_process *process, struct err *err)
{
    const struct sim_machine *machine = process->machine;
    bool minds = machine->log_begun && machine->sim->config.bug != SIM_BUG_LOG_ANEW;
    bool whole = machine->has_log && (!machine->log_sealed || machine->disk.has_seal);
    return whole || !minds
               ? 0
               : err_set(err, BERTH_ECORRUPT, "the log was begun, and is missing");
}

/* As in agent/control_api.c. */
bool sim_host_has_part(const struct sim_process *process)
{
    const struct msg_member *self = self_of(process);
    return process->control != NULL &&
           (sim_process_leads(process) || self == NULL || self->voter != VOTER_NONE);
}

static void leader_open(struct sim_process *process)
{
    struct consensus *consensus = control_consensus(process->control);
    const struct leader_config config = {.loop = (uv_loop_t *)(void *)process,
                                         .clock = &process->clock,
                                         .identity = &process->identity,
                                         .control = process->control,
                                         .link = (struct link *)(void *)process};
    process->leader = leader_new(&config);
    REQUIRE(process->leader != NULL);
    if (consensus_is_leader(consensus)) {
        leader_on_leadership(process->leader, true, consensus_term(consensus));
    }
}

static int log_open(struct sim_process *process, struct err *err)
{
    int r = sim_machine_open_log(process, err);
    if (r < 0 || process->doomed) {
        return r;
    }
    if (process->machine->sim->config.rack) {
        leader_open(process);
    }
    sim_api_open(process);
    return 0;
}

/* A part in the log is taken as soon as the orders name one. */
static void members_changed(void *context)
{
    struct sim_process *process = context;
    struct err err = {0};
    if (process->control == NULL && !process->doomed && log_is_ours(process) &&
        (log_is_there(process, &err) < 0 || log_open(process, &err) < 0)) {
        sim_process_doom(process, err.text);
    }
}
static void vm_forgotten(void *context, uint64_t vm)
{
    (void)context;
    (void)vm;
}

static void level_told(void *context, uint32_t level)
{
    (void)context;
    REQUIRE(level_in_range(level_range_up_to(0), level)); /* all are of one release */
}

static uint64_t revision(void *context)
{
    const struct sim_process *process = context;
    return process->control != NULL ? state_revision(control_state(process->control)) : 0;
}

static void identity_fill(struct sim_process *process)
{
    const struct sim_machine *machine = process->machine;
    process->identity.folder = process->folder;
    process->identity.key = machine->key;
    process->identity.uid = machine->uid;
    process->identity.cluster_id = SIM_CLUSTER_ID;
    process->identity.address = UINT32_C(0x0a000001) + machine->index;
    process->identity.mesh_port = 7440;
    process->identity.raft_port = SIM_PORT_RAFT;
    (void)snprintf(process->identity.name, sizeof(process->identity.name), "m%u",
                   machine->index);
}

static void work_open(struct sim_process *process)
{
    uv_loop_t *loop = (uv_loop_t *)(void *)process;
    struct link *link = (struct link *)(void *)process;
    struct err err = {0};
    const struct worker_config config = {.loop = loop,
                                         .clock = &process->clock,
                                         .identity = &process->identity,
                                         .members = &process->members,
                                         .link = link,
                                         .images = (struct image_store *)(void *)process,
                                         .facts = &facts,
                                         .fence = true,
                                         .context = process,
                                         .members_changed = members_changed,
                                         .vm_forgotten = vm_forgotten,
                                         .level_told = level_told,
                                         .levels = level_range_up_to(0),
                                         .revision = revision};
    REQUIRE(worker_open(&config, &process->worker, &err) == 0);
}

/* ---- coming in, as agent/berthd_joining.c does ---- */

#define JOIN_RETRY_MS 1000

static void ask_in(void *context)
{
    struct sim_process *process = context;
    struct sim *sim = process->machine->sim;
    struct msg_join message;
    const struct level_range levels = level_range_up_to(0);
    record_init(&msg_join_record, &message);
    (void)snprintf(message.name, sizeof(message.name), "m%u", process->machine->index);
    message.level_min = levels.min;
    message.level_max = levels.max;
    memset(message.secret.bytes,
           process->machine->joined ? 0 : (int)process->machine->index + 1,
           sizeof(message.secret.bytes));
    sim_host_describe(process->machine, &message.status);
    sim_link_join(process, &sim->machines[process->ask_at], &message);
    record_fini(&msg_join_record, &message);
    /* Until one refers to another. */
    process->ask_at = (unsigned)world_between(&sim->world, 0,
                                              sim->config.voters + sim->config.hosts - 1);
}

void sim_host_join_ask(struct sim_process *process,
                       const struct sim_machine *guest,
                       const struct msg_join *message)
{
    if (process->leader != NULL) {
        leader_on_join(process->leader, &guest->key, message);
    }
}

void sim_host_join_reply(struct sim_process *process, struct msg_join_reply *reply)
{
    struct sim_machine *machine = process->machine;
    struct err err = {0};
    bool changed = false;
    const struct sim_machine *leader;
    if (machine->joined &&
        (process->entry == NULL || worker_leader(process->worker) != 0)) {
        return;
    }
    if (reply->code == 0 && machine->joined) {
        REQUIRE(reply->uid == machine->uid);
        (void)members_replace(&process->members, &reply->members, &changed, &err);
        members_changed(process);
    } else if (reply->code == 0 && reply->uid != 0) {
        machine->uid = reply->uid;
        process->identity.uid = reply->uid;
        if (members_set(&process->members, &reply->members, &changed, &err) < 0) {
            sim_process_doom(process, err.text);
            return;
        }
        machine->joined = true;
        machine->sim->stats.joined++;
        world_say(&machine->sim->world, "m%u has joined", machine->index);
        process->entry = loop_timer_close(process->entry);
        work_open(process);
    } else if (reply->leader.uid != 0 &&
               (leader = sim_machine_of_uid(machine->sim, reply->leader.uid)) != NULL) {
        process->ask_at = leader->index;
    }
}

/* As a member's does that starts with a token. */
static void ask_anew(void *context)
{
    struct sim_process *process = context;
    if (worker_leader(process->worker) != 0) {
        process->entry = loop_timer_close(process->entry);
    } else {
        ask_in(process);
    }
}

static bool knows_only_lost(const struct sim_process *process)
{
    const struct msg_member_list *list = &process->members.list;
    bool any = false;
    for (uint32_t i = 0; i < list->count; i++) {
        const struct sim_machine *machine =
            sim_machine_of_uid(process->machine->sim, list->items[i].uid);
        if (list->items[i].voter == VOTER_NONE || machine == process->machine) {
            continue;
        }
        if (machine != NULL && !machine->condemned) {
            return false;
        }
        any = true;
    }
    return any;
}

void sim_host_help(struct sim_process *process)
{
    if (process->worker == NULL || process->entry != NULL || process->doomed ||
        worker_leader(process->worker) != 0 || !knows_only_lost(process)) {
        return;
    }
    process->machine->sim->stats.helped++;
    world_say(&process->machine->sim->world, "m%u is given a token to ask by",
              process->machine->index);
    process->entry =
        loop_timer_new((uv_loop_t *)(void *)process, 1, JOIN_RETRY_MS, ask_anew, process);
}

/* ---- life ---- */

int sim_host_open(struct sim_process *process, struct err *err)
{
    const struct sim_machine *machine = process->machine;
    identity_fill(process);
    if (!machine->joined) {
        process->entry = loop_timer_new((uv_loop_t *)(void *)process, 1, JOIN_RETRY_MS,
                                        ask_in, process);
        return 0;
    }
    int r = 0;
    if (log_is_ours(process)) {
        r = log_is_there(process, err);
        r = r == 0 ? log_open(process, err) : r;
    }
    if (r == 0 && !process->doomed && machine->sim->config.rack) {
        work_open(process);
    }
    return r;
}

void sim_host_close(struct sim_process *process)
{
    process->entry = loop_timer_close(process->entry);
    process->worker = worker_close(process->worker);
    if (process->leader != NULL) {
        process->leader_doomed = process->leader;
        process->leader = NULL;
    }
}

/* After the log has answered everything: its answers reach into the leader. */
void sim_host_closed(struct sim_process *process)
{
    (void)leader_free(process->leader_doomed);
    process->leader_doomed = NULL;
}

void sim_host_leadership(struct sim_process *process, bool is_leader, uint64_t term)
{
    if (process->leader != NULL) {
        leader_on_leadership(process->leader, is_leader, term);
    }
}

void sim_host_change(struct sim_process *process, const struct change *change)
{
    if (process->leader != NULL) {
        leader_on_change(process->leader, change);
    }
}

void sim_host_restored(struct sim_process *process)
{
    if (process->leader != NULL) {
        leader_on_restored(process->leader);
    }
}

void sim_host_power_off(struct sim_machine *machine)
{
    if (machine->vms != NULL) {
        sim_vms_power_off(machine);
    }
}

/* ---- messages ---- */

/* The mistake is a host that does not say what it keeps. */
static void disks_forget(const struct sim_process *process,
                         struct msg_heartbeat *heartbeat)
{
    bool bug = process->machine->sim->config.bug == SIM_BUG_DISKS_FORGOTTEN;
    for (uint32_t i = 0; bug && i < heartbeat->vms.count; i++) {
        heartbeat->vms.items[i].disk_epoch = 0;
    }
}

/* The mistakes are those of a host whose snapshots and their runs go wrong unheard. */
static void snapshots_forget(const struct sim_process *process,
                             struct msg_heartbeat *heartbeat)
{
    enum sim_bug bug = process->machine->sim->config.bug;
    for (uint32_t i = 0; i < heartbeat->vms.count && bug == SIM_BUG_BEGUN_UNSAID; i++) {
        struct msg_vm_seen *seen = &heartbeat->vms.items[i];
        bool ended = seen->phase == PHASE_STOPPED || seen->phase == PHASE_FAILED;
        seen->running_wall_ms = ended ? 0 : seen->running_wall_ms;
    }
    for (uint32_t i = 0; i < heartbeat->snapshots.count && bug == SIM_BUG_LOSS_UNSAID;
         i++) {
        struct msg_snapshot_seen *seen = &heartbeat->snapshots.items[i];
        seen->epoch = seen->phase == SNAPSHOT_LOST ? 0 : seen->epoch;
    }
}

/* The mistake is a leader that does not name the disks to those who keep them. */
static void keeps_forget(const struct sim_process *process, struct msg_orders *orders)
{
    bool bug = process->machine->sim->config.bug == SIM_BUG_NO_KEEP;
    uint32_t count = 0;
    for (uint32_t i = 0; bug && i < orders->vms.count; i++) {
        struct msg_vm *order = &orders->vms.items[i];
        if (order->order == ORDER_KEEP) {
            record_fini(&msg_vm_record, order);
        } else {
            orders->vms.items[count++] = *order;
        }
    }
    orders->vms.count = bug ? count : orders->vms.count;
}

/* As in agent/control_api.c. */
static void not_leader(const struct sim_process *process,
                       struct msg_not_leader *ret_answer)
{
    uint64_t raft_id = 0;
    const struct msg_member *member;
    const struct host *host;
    *ret_answer = (struct msg_not_leader){.leader = 0};
    if (process->control == NULL ||
        !consensus_leader(control_consensus(process->control), &raft_id, NULL)) {
        ret_answer->leader =
            process->control == NULL ? worker_leader(process->worker) : 0;
        return;
    }
    member = members_by_raft_id(&process->members, raft_id);
    ret_answer->leader = member != NULL ? member->uid : 0;
    host = voters_find_host(process->state, raft_id);
    if (host != NULL && host->status.phase != HOST_PHASE_REMOVED) {
        ret_answer->leader = host->meta.uid;
        ret_answer->term = consensus_term(control_consensus(process->control));
        ret_answer->member = orders_member(host);
    }
}

static void
on_heartbeat(struct sim_process *process, const struct msg_member *from, void *message)
{
    if (process->leader != NULL && leader_leads(process->leader)) {
        disks_forget(process, message);
        snapshots_forget(process, message);
        leader_on_heartbeat(process->leader, from, message);
        return;
    }
    struct msg_not_leader answer;
    not_leader(process, &answer);
    (void)link_send((struct link *)(void *)process, from->uid, MESSAGE_NOT_LEADER,
                    &answer);
}

static void
on_confirm(struct sim_process *process, const struct msg_member *from, void *message)
{
    const struct msg_confirm *question = message;
    if (process->control != NULL) {
        const struct msg_confirmed answer = {
            .term = consensus_term(control_consensus(process->control)),
            .round = question->round};
        (void)link_send((struct link *)(void *)process, from->uid, MESSAGE_CONFIRMED,
                        &answer);
    }
}

void sim_host_message(struct sim_process *process,
                      const struct msg_member *from,
                      enum message_type type,
                      void *message)
{
    if (process->worker == NULL) {
        return;
    }
    switch (type) {
    case MESSAGE_HEARTBEAT:
        on_heartbeat(process, from, message);
        break;
    case MESSAGE_CONFIRM:
        on_confirm(process, from, message);
        break;
    case MESSAGE_CONFIRMED:
        if (process->leader != NULL) {
            leader_on_confirmed(process->leader, from, message);
        }
        break;
    case MESSAGE_ACK:
        worker_on_ack(process->worker, from, message);
        break;
    case MESSAGE_NOT_LEADER:
        worker_on_not_leader(process->worker, from, message);
        break;
    case MESSAGE_ORDERS:
        keeps_forget(process, message);
        worker_on_orders(process->worker, from, message);
        break;
    default:
        break;
    }
}
