/* consensus/raft_backing.h on a simulated machine: time, term and vote, the end. */
#include "sim_raft.h"

#include "base/require.h"
#include "consensus/raft_library.h"

#include <stdio.h>
#include <stdlib.h>

/* What a timer of the loop is late by: never early, whatever the clock's rate rounds to.
 */
#define TIMER_LATE_MIN_NS (NS_PER_MS / 10)
#define TIMER_LATE_MAX_NS NS_PER_MS

void sim_backing_say_why(struct raft_backing *backing, const char *why)
{
    (void)snprintf(backing->io.errmsg, sizeof(backing->io.errmsg), "%s", why);
}

/* ---- ticks, time, chance ---- */

static uint64_t loop_now_ms(const struct raft_backing *backing)
{
    return sim_machine_clock_ns(sim_backing_machine(backing)) / NS_PER_MS;
}

static void on_timer(void *context, uint64_t timer);

static void timer_start(struct raft_backing *backing, uint64_t until_ms)
{
    const struct sim_machine *machine = sim_backing_machine(backing);
    struct world *world = sim_backing_world(backing);
    const uint64_t clock_ns = sim_machine_clock_ns(machine);
    const uint64_t until_ns = until_ms * NS_PER_MS;
    const uint64_t wait_ns = until_ns > clock_ns ? until_ns - clock_ns : 0;
    const uint64_t late_ns = world_between(world, TIMER_LATE_MIN_NS, TIMER_LATE_MAX_NS);
    world_at(world, world->now_ns + sim_machine_true_ns(machine, wait_ns) + late_ns,
             &backing->process->machine->berthd, on_timer, backing, ++backing->timer);
}

/* As the ticker of consensus/raft_pace.c does. */
static void tick(struct raft_backing *backing, bool heard)
{
    raft_pace_ticked(&backing->pace, loop_now_ms(backing), heard);
    backing->window = raft_pace_next(
        &backing->pace,
        (struct raft_pace_state){.leads = backing->raft->state == RAFT_LEADER,
                                 .due_ms = raft_library_election_due(backing->raft)});
    timer_start(backing, backing->window.until_ms);
    backing->tick(&backing->io);
}

static void on_timer(void *context, uint64_t timer)
{
    struct raft_backing *backing = context;
    if (timer == backing->timer) {
        tick(backing, false);
    }
}

void sim_backing_heard(struct raft_backing *backing)
{
    if (!sim_backing_is_dead(backing) &&
        loop_now_ms(backing) >= backing->window.from_ms) {
        tick(backing, true);
    }
}

static int io_start(struct raft_io *io,
                    unsigned interval_ms,
                    raft_io_tick_cb tick_cb,
                    raft_io_recv_cb recv)
{
    struct raft_backing *backing = sim_backing_of(io);
    const uint64_t now_ms = loop_now_ms(backing);
    backing->tick = tick_cb;
    backing->recv = recv;
    backing->pace = (struct raft_pace){
        .interval_ms = interval_ms,
        .own_ms = world_between(sim_backing_world(backing), 0, interval_ms - 1),
        .last_ms = now_ms};
    backing->window = (struct raft_pace_window){.from_ms = now_ms, .until_ms = now_ms};
    timer_start(backing, now_ms);
    return 0;
}

static raft_time io_time(struct raft_io *io)
{
    return loop_now_ms(sim_backing_of(io));
}

static int io_random(struct raft_io *io, int min, int max)
{
    return (int)world_between(sim_backing_world(sim_backing_of(io)), (uint64_t)min,
                              (uint64_t)max);
}

static int io_init(struct raft_io *io, raft_id id, const char *address)
{
    (void)io;
    (void)id;
    (void)address;
    return 0;
}

static int io_members_not_here(struct raft_io *io,
                               const struct raft_configuration *members)
{
    (void)members;
    sim_backing_say_why(sim_backing_of(io), "the disk was formatted with its members");
    return RAFT_CANTBOOTSTRAP;
}

/* ---- term and vote ---- */

/* A slow disk holds the whole loop up here, but for what a thread writes. */
int sim_backing_write_now(struct raft_backing *backing)
{
    if (backing == NULL) {
        return 0; /* formatting */
    }
    struct sim_disk *disk = &sim_backing_machine(backing)->disk;
    struct world *world = sim_backing_world(backing);
    bool alive = true;
    if (sim_backing_is_dead(backing)) {
        return RAFT_IOERR;
    }
    if (disk->fail_writes > 0) {
        disk->fail_writes--;
        sim_backing_say_why(backing, "injected");
        return disk->fail_status;
    }
    if (disk->slow_ns > 0 && !backing->process->on_thread) {
        sim_process_hold(backing->process,
                         world->now_ns + world_between(world, 0, disk->slow_ns));
    }
    bool written = sim_disk_write_now(disk, &alive);
    return written ? 0 : RAFT_IOERR;
}

static int io_set_term(struct raft_io *io, raft_term term)
{
    struct raft_backing *backing = sim_backing_of(io);
    struct sim_disk *disk = &sim_backing_machine(backing)->disk;
    const bool rises = term > disk->term;
    int r = sim_backing_write_now(backing);
    if (r == 0 && !rises) {
        world_fail(sim_backing_world(backing), "m%u goes from term %llu to term %llu",
                   sim_backing_machine(backing)->index, (unsigned long long)disk->term,
                   (unsigned long long)term);
    }
    if (r == 0) {
        disk->term = term;
        disk->vote = 0;
    }
    return r;
}

static int io_set_vote(struct raft_io *io, raft_id id)
{
    struct raft_backing *backing = sim_backing_of(io);
    int r = sim_backing_write_now(backing);
    if (r == 0) {
        struct sim_machine *machine = sim_backing_machine(backing);
        machine->disk.vote = id;
        sim_members_voted(machine, machine->disk.term, id);
        if (id == machine->raft_id) {
            sim_members_stands(backing->process, machine->disk.term, backing->asked_term);
        }
    }
    return r;
}

/* ---- the end ---- */

static void io_close(struct raft_io *io, raft_io_close_cb done)
{
    struct raft_backing *backing = sim_backing_of(io);
    backing->closed = true;
    sim_disk_orphan(&sim_backing_machine(backing)->disk);
    while (!list_empty(&backing->appends)) {
        struct pending_append *pending =
            LIST_ITEM(backing->appends.next, struct pending_append, link);
        struct raft_io_append *request = pending->request;
        list_remove(&pending->link);
        free(pending);
        request->cb(request, RAFT_CANCELED);
    }
    while (!list_empty(&backing->sends)) {
        struct pending_send *pending =
            LIST_ITEM(backing->sends.next, struct pending_send, link);
        struct raft_io_send *request = pending->request;
        raft_io_send_cb sent = pending->done;
        list_remove(&pending->link);
        free(pending);
        if (sent != NULL) {
            sent(request, RAFT_CANCELED);
        }
    }
    if (backing->put != NULL) {
        struct raft_io_snapshot_put *put = backing->put;
        backing->put = NULL;
        put->cb(put, RAFT_CANCELED);
    }
    while (!list_empty(&backing->gets)) {
        struct pending_get *pending =
            LIST_ITEM(backing->gets.next, struct pending_get, link);
        struct raft_io_snapshot_get *request = pending->request;
        list_remove(&pending->link);
        free(pending);
        request->cb(request, NULL, RAFT_CANCELED);
    }
    done(io);
}

/* ---- what consensus asks for ---- */

int raft_backing_open(const struct consensus_config *config,
                      uv_loop_t *loop,
                      const struct raft *raft,
                      struct raft_backing **ret_backing,
                      struct err *err)
{
    struct sim_process *process = (struct sim_process *)(void *)loop;
    struct raft_backing *backing = calloc(1, sizeof(*backing));
    (void)err;
    REQUIRE(backing != NULL);
    backing->config = *config;
    backing->process = process;
    backing->raft = raft;
    backing->next_index = sim_disk_last_index(&process->machine->disk) + 1;
    list_init(&backing->sends);
    list_init(&backing->appends);
    list_init(&backing->gets);
    backing->io = (struct raft_io){.version = 1,
                                   .impl = backing,
                                   .init = io_init,
                                   .close = io_close,
                                   .load = sim_raft_load,
                                   .start = io_start,
                                   .bootstrap = io_members_not_here,
                                   .recover = io_members_not_here,
                                   .set_term = io_set_term,
                                   .set_vote = io_set_vote,
                                   .send = sim_raft_send,
                                   .append = sim_raft_append,
                                   .truncate = sim_raft_truncate,
                                   .snapshot_put = sim_raft_snapshot_put,
                                   .snapshot_get = sim_raft_snapshot_get,
                                   .time = io_time,
                                   .random = io_random};
    process->backing = backing;
    *ret_backing = backing;
    return 0;
}

struct raft_io *raft_backing_io(struct raft_backing *backing)
{
    return &backing->io;
}

uint64_t raft_backing_free_bytes(const struct raft_backing *backing)
{
    return sim_backing_machine(backing)->disk.free_bytes;
}

const struct channel_counters *raft_backing_channels(const struct raft_backing *backing)
{
    static const struct channel_counters none;
    (void)backing;
    return &none;
}

void raft_backing_drop_peer(struct raft_backing *backing, uint64_t id)
{
    struct sim_process *process = backing->process;
    struct sim_machine *peer = sim_machine_of_raft(process->machine->sim, id);
    if (peer != NULL) {
        process->channels[peer->index] = 0;
    }
    if (peer != NULL && peer->process != NULL) {
        peer->process->channels[process->machine->index] = 0;
    }
}

void raft_backing_abandon(struct raft_backing *backing,
                          void (*done)(void *context),
                          void *context)
{
    (void)backing;
    done(context);
}

struct raft_backing *raft_backing_free(struct raft_backing *backing)
{
    if (backing != NULL) {
        backing->process->backing = NULL;
        free(backing);
    }
    return NULL;
}

/* ---- eyes ---- */

uint64_t sim_raft_term(const struct sim_process *process)
{
    return process != NULL && process->raft != NULL ? process->raft->current_term : 0;
}

uint64_t sim_raft_leader_term(const struct sim_process *process)
{
    const struct raft *raft = process->raft;
    return raft != NULL && raft->state == RAFT_LEADER ? raft->current_term : 0;
}

uint64_t sim_raft_commit(const struct sim_process *process)
{
    return process != NULL && process->raft != NULL ? process->raft->commit_index : 0;
}

uint64_t sim_raft_applied(const struct sim_process *process)
{
    return process != NULL && process->raft != NULL ? process->raft->last_applied : 0;
}

uint64_t sim_raft_last_index(const struct sim_process *process)
{
    return process != NULL && process->raft != NULL ? raft_last_index(process->raft) : 0;
}
