/* What a berthd does beyond its log: leader and worker, as agent/berthd.c wires them. */
#include "agent/host_facts.h"
#include "agent/orders.h"
#include "agent/worker.h"
#include "base/require.h"
#include "model/objects.h"
#include "sim.h"

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

/* Each machine knows the others from the start. */
static void members_fill(struct sim_process *process)
{
    struct sim *sim = process->machine->sim;
    struct msg_member_list *list = &process->members.list;
    list->items = calloc(sim->machine_count, sizeof(*list->items));
    REQUIRE(list->items != NULL);
    list->count = sim->machine_count;
    for (unsigned i = 0; i < sim->machine_count; i++) {
        const struct sim_machine *machine = &sim->machines[i];
        struct msg_member *member = &list->items[i];
        member->uid = machine->uid;
        (void)snprintf(member->name, sizeof(member->name), "m%u", i);
        member->key = identity_key_digest(&machine->key);
        member->address = UINT32_C(0x0a000001) + i;
        member->mesh_port = 7440;
        member->raft_port = SIM_PORT_RAFT;
        member->voter = machine->has_log ? VOTER_VOTER : VOTER_NONE;
    }
}

static void members_changed(void *context)
{
    (void)context; /* keys and addresses never change here */
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
    (void)snprintf(process->folder, sizeof(process->folder), "m%u", machine->index);
}

void sim_host_open(struct sim_process *process)
{
    const struct sim_machine *machine = process->machine;
    if (!machine->sim->config.rack) {
        return;
    }
    uv_loop_t *loop = (uv_loop_t *)(void *)process;
    struct link *link = (struct link *)(void *)process;
    struct err err = {0};
    identity_fill(process);
    if (process->control != NULL) {
        const struct leader_config config = {.loop = loop,
                                             .clock = &process->clock,
                                             .identity = &process->identity,
                                             .control = process->control,
                                             .link = link};
        process->leader = leader_new(&config);
        REQUIRE(process->leader != NULL);
    }
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

void sim_host_prepare(struct sim_process *process)
{
    members_fill(process);
}

void sim_host_close(struct sim_process *process)
{
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

static void
on_heartbeat(struct sim_process *process, const struct msg_member *from, void *message)
{
    if (process->leader != NULL && leader_leads(process->leader)) {
        disks_forget(process, message);
        leader_on_heartbeat(process->leader, from, message);
        return;
    }
    const struct msg_not_leader answer = {.leader = 0};
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
