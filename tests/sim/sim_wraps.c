/* Calls that the linker leads through here (--wrap, see CMakeLists.txt): the oracle's
 * eyes, and the places where a mistake can be put in.
 */
#include "base/fd.h"
#include "consensus/raft_guard.h"
#include "scheduler/host_watch.h"
#include "sim.h"

#include <raft.h>

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

/* ---- the state machine, watched ---- */

static void apply(void *context,
                  uint64_t index,
                  const void *data,
                  size_t size,
                  struct consensus_result *ret_result)
{
    struct sim_process *process = context;
    struct consensus_result unheard = {0};
    struct consensus_result *result = ret_result != NULL ? ret_result : &unheard;
    process->fsm.apply(process->fsm.context, index, data, size, result);
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
    int r = process->fsm.restore(process->fsm.context, data, size);
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
