/* Calls that the linker leads through here (--wrap, see CMakeLists.txt): the oracle's
 * eyes, and the places where a mistake can be put in.
 */
#include "agent/control.h"
#include "agent/lease.h"
#include "agent/worker_parts.h"
#include "base/fd.h"
#include "base/require.h"
#include "base/u64_map.h"
#include "consensus/raft_guard.h"
#include "consensus/raft_library.h"
#include "consensus/raft_members.h"
#include "scheduler/host_watch.h"
#include "sim.h"
#include "sim_raft.h"

#include <raft.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SLOW_ELECTION_MS 11000 /* a mistake's */

int __real_consensus_open(uv_loop_t *loop,
                          const struct consensus_config *config,
                          const struct consensus_fsm *fsm,
                          const struct consensus_events *events,
                          struct consensus **ret_consensus,
                          struct err *err);
int __wrap_consensus_open(uv_loop_t *loop,
                          const struct consensus_config *config,
                          const struct consensus_fsm *fsm,
                          const struct consensus_events *events,
                          struct consensus **ret_consensus,
                          struct err *err);
struct state *__real_state_new(state_observer *observer, void *context);
struct state *__wrap_state_new(state_observer *observer, void *context);
int __wrap_fd_make_folders(const char *path, struct err *err);
int __wrap_fd_sync_folder(const char *path, struct err *err);
struct raft_guard *__real_raft_guard_new(struct raft *raft,
                                         struct raft_io *inner,
                                         struct log_seal *seal,
                                         const struct raft_guard_hooks *hooks);
struct raft_guard *__wrap_raft_guard_new(struct raft *raft,
                                         struct raft_io *inner,
                                         struct log_seal *seal,
                                         const struct raft_guard_hooks *hooks);
struct raft_guard *__real_raft_guard_free(struct raft_guard *guard);
struct raft_guard *__wrap_raft_guard_free(struct raft_guard *guard);
struct raft_io *__real_raft_guard_io(struct raft_guard *guard);
struct raft_io *__wrap_raft_guard_io(struct raft_guard *guard);
bool __real_raft_guard_ready(const struct raft_guard *guard);
bool __wrap_raft_guard_ready(const struct raft_guard *guard);
void __real_raft_guard_seal(struct raft_guard *guard);
void __wrap_raft_guard_seal(struct raft_guard *guard);

void __real_raft_members_start(const struct raft_members *members, struct raft *raft);
void __wrap_raft_members_start(const struct raft_members *members, struct raft *raft);
bool __real_raft_members_are_awaited(const struct raft *raft);
bool __wrap_raft_members_are_awaited(const struct raft *raft);
void __real_raft_votes_ask_again(struct raft *raft, unsigned long long now);
void __wrap_raft_votes_ask_again(struct raft *raft, unsigned long long now);
void __wrap_random_secret(void *ret_data, size_t size);
int __wrap_fd_read_file(int folder,
                        const char *path,
                        size_t size_max,
                        uint8_t **ret_data,
                        size_t *ret_size,
                        struct err *err);
int __wrap_fd_open_at(int folder,
                      const char *path,
                      int flags,
                      mode_t mode,
                      struct err *err);
int __wrap_file_atomic_write(const char *path,
                             const void *data,
                             size_t size,
                             mode_t mode,
                             struct err *err);
int __real_raft_assign(struct raft *r,
                       struct raft_change *req,
                       raft_id id,
                       int role,
                       raft_change_cb cb);
int __wrap_raft_assign(struct raft *r,
                       struct raft_change *req,
                       raft_id id,
                       int role,
                       raft_change_cb cb);
int __real_raft_remove(struct raft *r,
                       struct raft_change *req,
                       raft_id id,
                       raft_change_cb cb);
int __wrap_raft_remove(struct raft *r,
                       struct raft_change *req,
                       raft_id id,
                       raft_change_cb cb);
bool __real_lease_ack(struct lease *lease, uint64_t sequence);
bool __wrap_lease_ack(struct lease *lease, uint64_t sequence);
void __real_host_watch_lead(struct host_watch *watch, uint64_t now_ns);
void __wrap_host_watch_lead(struct host_watch *watch, uint64_t now_ns);
enum host_phase __real_host_watch_judge(struct host_watch *watch,
                                        const struct host *host,
                                        uint64_t now_ns,
                                        char *ret_reason);
enum host_phase __wrap_host_watch_judge(struct host_watch *watch,
                                        const struct host *host,
                                        uint64_t now_ns,
                                        char *ret_reason);

int __real_control_propose(struct control *control,
                           struct command *command,
                           void (*done)(void *context,
                                        int code,
                                        const struct apply_result *result),
                           void *context);
int __wrap_control_propose(struct control *control,
                           struct command *command,
                           void (*done)(void *context,
                                        int code,
                                        const struct apply_result *result),
                           void *context);
bool __real_worker_may_start(const struct worker *worker);
bool __wrap_worker_may_start(const struct worker *worker);
void __real_worker_on_orders(struct worker *worker,
                             const struct msg_member *from,
                             struct msg_orders *orders);
void __wrap_worker_on_orders(struct worker *worker,
                             const struct msg_member *from,
                             struct msg_orders *orders);
void __real_feed_push(struct feed *feed, const struct change *change);
void __wrap_feed_push(struct feed *feed, const struct change *change);
struct feed_cursor __real_feed_cursor_after(uint64_t revision);
struct feed_cursor __wrap_feed_cursor_after(uint64_t revision);
uint64_t __wrap_uv_now(const uv_loop_t *loop);
void __real_worker_reconcile(void *context);
void __wrap_worker_reconcile(void *context);

/* ---- the state machine, watched ---- */

/* The mistake is a command that is applied as of now and here, and not as of when and
 * where it was proposed. */
static void apply_by_own_clock(struct sim_process *process,
                               uint64_t index,
                               const void *data,
                               size_t size,
                               struct consensus_result *ret_result)
{
    struct command command;
    struct bytes_reader reader;
    struct bytes_writer writer;
    bytes_reader_init(&reader, data, size);
    if (command_decode(&reader, &command) < 0) {
        process->fsm.apply(process->fsm.context, index, data, size, ret_result);
        return;
    }
    command.wall_ms = sim_machine_wall_ms(process->machine);
    bytes_writer_init(&writer, COMMAND_SIZE_MAX);
    command_encode(&command, &writer);
    process->fsm.apply(process->fsm.context, index, writer.data, writer.size, ret_result);
    bytes_writer_fini(&writer);
    command_fini(&command);
}

static void apply(void *context,
                  uint64_t index,
                  const void *data,
                  size_t size,
                  struct consensus_result *ret_result)
{
    struct sim_process *process = context;
    struct consensus_result unheard = {0};
    struct consensus_result *result = ret_result != NULL ? ret_result : &unheard;
    if (process->machine->sim->config.bug == SIM_BUG_OWN_CLOCK) {
        apply_by_own_clock(process, index, data, size, result);
    } else {
        process->fsm.apply(process->fsm.context, index, data, size, result);
    }
    oracle_applied(process->machine->sim, process, index, data, size, result);
}

static int snapshot(void *context, uint8_t **ret_data, size_t *ret_size)
{
    struct sim_process *process = context;
    return process->fsm.snapshot(process->fsm.context, ret_data, ret_size);
}

static int restore(void *context, const void *data, size_t size)
{
    struct sim_process *process = context;
    struct sim *sim = process->machine->sim;
    struct sim_process *before = sim->running; /* the disk's events name nobody */
    sim->running = process; /* the state that is made on the way is none of theirs */
    int r = process->fsm.restore(process->fsm.context, data, size);
    sim->running = before;
    if (r == 0) {
        oracle_restored(process->machine->sim, process);
    }
    return r;
}

int __wrap_consensus_open(uv_loop_t *loop,
                          const struct consensus_config *config,
                          const struct consensus_fsm *fsm,
                          const struct consensus_events *events,
                          struct consensus **ret_consensus,
                          struct err *err)
{
    struct sim_process *process = (struct sim_process *)(void *)loop;
    const struct sim *sim = process->machine->sim;
    struct consensus_config tuned = *config;
    const struct consensus_fsm watched = {
        .context = process, .apply = apply, .snapshot = snapshot, .restore = restore};
    tuned.snapshot_threshold = sim->snapshot_threshold;
    tuned.snapshot_trailing = sim->snapshot_trailing;
    tuned.election_ms =
        sim->config.bug == SIM_BUG_SLOW_ELECTION ? SLOW_ELECTION_MS : tuned.election_ms;
    process->fsm = *fsm;
    return __real_consensus_open(loop, &tuned, &watched, events, ret_consensus, err);
}

struct state *__wrap_state_new(state_observer *observer, void *context)
{
    struct state *state = __real_state_new(observer, context);
    struct sim *sim = sim_current();
    if (sim != NULL && sim->running != NULL && sim->running->state == NULL) {
        sim->running->state = state;
    }
    return state;
}

int __wrap_fd_make_folders(const char *path, struct err *err)
{
    (void)path; /* nothing is written to the real disk */
    (void)err;
    return 0;
}

/* Randomness comes from the seed. */
void __wrap_random_secret(void *ret_data, size_t size)
{
    uint8_t *bytes = ret_data;
    for (size_t i = 0; i < size; i++) {
        bytes[i] = (uint8_t)random_u64(&sim_current()->world.random);
    }
}

/* ---- files of worker: the boot's name, its lease, the members ---- */

/* Whose members' file it is; NULL: it is another one. */
static struct sim_machine *machine_of(const char *path)
{
    unsigned index = 0;
    struct sim *sim = sim_current();
    return sscanf(path, "m%u/members.bin", &index) == 1 && index < sim->machine_count &&
                   strstr(path, "members.bin") != NULL
               ? &sim->machines[index]
               : NULL;
}

static int members_read(const struct sim_machine *machine,
                        uint8_t **ret_data,
                        size_t *ret_size,
                        struct err *err)
{
    const struct sim_file *file = &machine->members_file;
    if (file->data == NULL) {
        return err_set(err, -ENOENT, "no members yet");
    }
    *ret_data = malloc(file->size);
    REQUIRE(*ret_data != NULL);
    memcpy(*ret_data, file->data, file->size);
    *ret_size = file->size;
    return 0;
}

static bool is_written(struct sim_machine *machine)
{
    const struct sim_process *process = machine->process;
    struct sim_disk *disk = &machine->disk;
    bool alive = true;
    if (process == NULL) {
        return true; /* formatting */
    }
    if (process->cut != SIM_CUT_NONE) { /* nobody hears of it any more */
        return process->cut == SIM_CUT_WHOLE;
    }
    if (process->doomed) {
        return false;
    }
    if (disk->fail_writes > 0) {
        disk->fail_writes--;
        return false;
    }
    return sim_disk_write_now(disk, &alive);
}

int __wrap_file_atomic_write(const char *path,
                             const void *data,
                             size_t size,
                             mode_t mode,
                             struct err *err)
{
    struct sim_machine *machine = machine_of(path);
    (void)mode;
    REQUIRE(machine != NULL);
    if (!is_written(machine)) {
        return err_set(err, -EIO, "write %s: injected", path);
    }
    free(machine->members_file.data);
    machine->members_file.data = malloc(size);
    REQUIRE(machine->members_file.data != NULL);
    memcpy(machine->members_file.data, data, size);
    machine->members_file.size = size;
    return 0;
}

int __wrap_fd_read_file(int folder,
                        const char *path,
                        size_t size_max,
                        uint8_t **ret_data,
                        size_t *ret_size,
                        struct err *err)
{
    const struct sim_process *process = sim_current()->running;
    const struct sim_machine *machine = machine_of(path);
    char text[64];
    (void)folder;
    (void)size_max;
    if (machine != NULL) {
        return members_read(machine, ret_data, ret_size, err);
    }
    int size = snprintf(text, sizeof(text), "boot-of-%u", process->machine->index);
    *ret_data = (uint8_t *)strdup(text);
    *ret_size = (size_t)size;
    return 0;
}

int __wrap_fd_open_at(int folder,
                      const char *path,
                      int flags,
                      mode_t mode,
                      struct err *err)
{
    struct sim_machine *machine = sim_current()->running->machine;
    (void)folder;
    (void)path;
    (void)flags;
    (void)mode;
    (void)err;
    if (machine->lease_fd < 0) {
        machine->lease_fd = memfd_create("lease", MFD_CLOEXEC);
    }
    (void)lseek(machine->lease_fd, 0, SEEK_SET);
    return dup(machine->lease_fd);
}

int __wrap_fd_sync_folder(const char *path, struct err *err)
{
    (void)path;
    (void)err;
    return 0;
}

/* ---- leases ---- */

bool __wrap_lease_ack(struct lease *lease, uint64_t sequence)
{
    struct sim_machine *machine = sim_current()->running->machine;
    bool renewed = __real_lease_ack(lease, sequence);
    uint64_t now_ns = sim_machine_clock_ns(machine);
    if (renewed && sim_current()->config.bug == SIM_BUG_LEASE_FROM_ACK) {
        lease_restore(lease, now_ns, now_ns);
    }
    return renewed;
}

void __wrap_host_watch_lead(struct host_watch *watch, uint64_t now_ns)
{
    bool waits = sim_current()->config.bug != SIM_BUG_NO_LEADER_WAIT;
    __real_host_watch_lead(watch, waits ? now_ns : now_ns - 10 * NS_PER_S);
}

/* The mistake is a leader that takes hosts it has just met for long silent. */
enum host_phase __wrap_host_watch_judge(struct host_watch *watch,
                                        const struct host *host,
                                        uint64_t now_ns,
                                        char *ret_reason)
{
    if (sim_current()->config.bug == SIM_BUG_NO_LEADER_WAIT) {
        (void)__real_host_watch_judge(watch, host, now_ns - 10 * NS_PER_S, ret_reason);
    }
    return __real_host_watch_judge(watch, host, now_ns, ret_reason);
}

/* ---- what becomes of a decision ---- */

struct asking {
    void (*done)(void *context, int code, const struct apply_result *result);
    void *context;
};

static void answered(void *context, int code, const struct apply_result *result)
{
    struct asking *asking = context;
    asking->done(asking->context, code == BERTH_EUNKNOWN ? BERTH_ETIMEOUT : code, result);
    free(asking);
}

/* The mistake is a leader that takes the end of its patience for the end of the matter.
 */
int __wrap_control_propose(struct control *control,
                           struct command *command,
                           void (*done)(void *context,
                                        int code,
                                        const struct apply_result *result),
                           void *context)
{
    if (sim_current()->config.bug != SIM_BUG_UNKNOWN_IS_OVER) {
        return __real_control_propose(control, command, done, context);
    }
    struct asking *asking = calloc(1, sizeof(*asking));
    REQUIRE(asking != NULL);
    *asking = (struct asking){.done = done, .context = context};
    int r = __real_control_propose(control, command, answered, asking);
    if (r < 0) {
        free(asking);
    }
    return r;
}

/* ---- whose orders ---- */

static uint64_t larger(uint64_t one, uint64_t other)
{
    return one > other ? one : other;
}

/* The mistake is a host that takes whatever orders come last for the newest. */
void __wrap_worker_on_orders(struct worker *worker,
                             const struct msg_member *from,
                             struct msg_orders *orders)
{
    if (sim_current()->config.bug == SIM_BUG_OLD_ORDERS) {
        orders->term =
            larger(orders->term, larger(worker->leader_term, worker->orders.term));
        orders->revision = larger(orders->revision, worker->orders.revision);
    }
    __real_worker_on_orders(worker, from, orders);
}

/* The mistake is a host that has a new leader's lease and starts by what the one before
 * had ordered. */
bool __wrap_worker_may_start(const struct worker *worker)
{
    struct worker seen = *worker;
    if (sim_current()->config.bug == SIM_BUG_OLD_START) {
        seen.orders.term = seen.leader_term;
    }
    return __real_worker_may_start(&seen);
}

/* ---- changes of members ---- */

/* The mistake is a library that believes that the newcomer has everything. */
int __wrap_raft_assign(struct raft *r,
                       struct raft_change *req,
                       raft_id id,
                       int role,
                       raft_change_cb cb)
{
    raft_index match = 0;
    unsigned at = 0;
    bool bug = sim_current()->config.bug == SIM_BUG_EARLY_VOTER && role == RAFT_VOTER &&
               r->state == RAFT_LEADER;
    while (bug && at < r->configuration.n && r->configuration.servers[at].id != id) {
        at++;
    }
    if (!bug || at == r->configuration.n) {
        return __real_raft_assign(r, req, id, role, cb);
    }
    raft_library_progress *progress =
        (raft_library_progress *)(void *)r->leader_state.progress + at;
    match = progress->match_index;
    progress->match_index = raft_last_index(r);
    int rv = __real_raft_assign(r, req, id, role, cb);
    progress = (raft_library_progress *)(void *)r->leader_state.progress + at; /* anew */
    progress->match_index = match;
    return rv;
}

/* The mistake is a change of two voters in one entry: somebody else gets the vote. */
int __wrap_raft_remove(struct raft *r,
                       struct raft_change *req,
                       raft_id id,
                       raft_change_cb cb)
{
    struct sim *sim = sim_current();
    for (unsigned i = 0; sim->config.bug == SIM_BUG_TWO_AT_ONCE &&
                         r->state == RAFT_LEADER && i < sim->machine_count;
         i++) {
        const struct sim_machine *machine = &sim->machines[i];
        if (machine->joined && !machine->condemned && machine->raft_id != id &&
            raft_configuration_add(&r->configuration, machine->raft_id, machine->address,
                                   RAFT_VOTER) == 0) {
            break;
        }
    }
    return __real_raft_remove(r, req, id, cb);
}

/* ---- watches ---- */

uint64_t __wrap_uv_now(const uv_loop_t *loop)
{
    const struct sim_process *process = (const struct sim_process *)(const void *)loop;
    return clock_now_ms(&process->clock);
}

void __wrap_feed_push(struct feed *feed, const struct change *change)
{
    struct sim *sim = sim_current();
    if (sim->config.bug != SIM_BUG_FEED_GAP || !world_chance(&sim->world, 5)) {
        __real_feed_push(feed, change);
    }
}

struct feed_cursor __wrap_feed_cursor_after(uint64_t revision)
{
    bool skips = sim_current()->config.bug == SIM_BUG_RESUME_SKIPS;
    return __real_feed_cursor_after(skips ? revision + 1 : revision);
}

/* ---- disks that are kept ---- */

/* The mistake is a restarted worker that acts before it has heard any orders. */
void __wrap_worker_reconcile(void *context)
{
    struct worker *worker = context;
    if (sim_current()->config.bug == SIM_BUG_DROP_AT_RESTART) {
        worker->orders.term =
            worker->has_orders ? worker->orders.term : worker->leader_term;
        worker->has_orders = true;
        worker->orders_index =
            worker->orders_index != NULL ? worker->orders_index : u64_map_new();
        REQUIRE(worker->orders_index != NULL);
    }
    __real_worker_reconcile(context);
}

/* ---- the guard, which a run may do without ---- */

static bool is_bare(void)
{
    return sim_current()->config.bug == SIM_BUG_BARE;
}

static struct sim_process *process_of(const struct raft_guard *guard)
{
    struct sim *sim = sim_current();
    for (unsigned i = 0; i < sim->machine_count; i++) {
        struct sim_process *process = sim->machines[i].process;
        if (process != NULL && process->guard == guard) {
            return process;
        }
    }
    return NULL;
}

struct raft_guard *__wrap_raft_guard_new(struct raft *raft,
                                         struct raft_io *inner,
                                         struct log_seal *seal,
                                         const struct raft_guard_hooks *hooks)
{
    struct raft_guard *guard = __real_raft_guard_new(raft, inner, seal, hooks);
    sim_current()->running->guard = guard;
    sim_current()->running->raft = raft;
    return guard;
}

struct raft_guard *__wrap_raft_guard_free(struct raft_guard *guard)
{
    struct sim_process *process = process_of(guard);
    if (process != NULL) {
        process->guard = NULL;
        process->raft = NULL;
    }
    return __real_raft_guard_free(guard);
}

struct raft_io *__wrap_raft_guard_io(struct raft_guard *guard)
{
    return is_bare() ? (struct raft_io *)(void *)process_of(guard)->backing
                     : __real_raft_guard_io(guard);
}

bool __wrap_raft_guard_ready(const struct raft_guard *guard)
{
    return is_bare() ? sim_raft_leader_term(process_of(guard)) != 0
                     : __real_raft_guard_ready(guard);
}

void __wrap_raft_guard_seal(struct raft_guard *guard)
{
    if (!is_bare()) {
        __real_raft_guard_seal(guard);
    }
}

void __wrap_raft_members_start(const struct raft_members *members, struct raft *raft)
{
    if (sim_current()->config.bug != SIM_BUG_CHANGE_STAYS) {
        __real_raft_members_start(members, raft);
    }
}

bool __wrap_raft_members_are_awaited(const struct raft *raft)
{
    return sim_current()->config.bug != SIM_BUG_CHANGE_MISSED &&
           __real_raft_members_are_awaited(raft);
}

void __wrap_raft_votes_ask_again(struct raft *raft, unsigned long long now)
{
    if (sim_current()->config.bug != SIM_BUG_NEVER_ASKS) {
        __real_raft_votes_ask_again(raft, now);
    }
}
