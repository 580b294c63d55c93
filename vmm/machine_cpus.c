#include "vmm/machine_cpus.h"

#include "base/require.h"

#include <errno.h>
#include <stdlib.h>

int machine_cpus_check(unsigned count, unsigned plug_count, struct err *err)
{
    if (count < 1 || count > MACHINE_CPUS_MAX) {
        return err_set(err, BERTH_EINVALID, "CPUs: %u, not 1 to %u", count,
                       MACHINE_CPUS_MAX);
    }
    if (plug_count > MACHINE_CPUS_MAX - count) {
        return err_set(err, BERTH_EINVALID, "CPUs: %u and %u that may come, not 1 to %u",
                       count, plug_count, MACHINE_CPUS_MAX);
    }
    return 0;
}

void machine_cpus_init(struct machine_cpus *cpus)
{
    *cpus = (struct machine_cpus){.count = 0};
    (void)pthread_mutex_init(&cpus->lock, NULL);  /* cannot fail without attributes */
    (void)pthread_cond_init(&cpus->moves, NULL);  /* the same */
    (void)pthread_cond_init(&cpus->stands, NULL); /* the same */
}

static uint64_t set_of(unsigned count)
{
    return UINT64_MAX >> (64 - count);
}

int machine_cpus_make(struct machine_cpus *cpus,
                      int kvm_fd,
                      int vm_fd,
                      enum cpu_level level,
                      unsigned count,
                      unsigned plugged_count,
                      struct err *err)
{
    _Static_assert(MACHINE_CPUS_MAX <= 64, "a set has a bit for each");
    REQUIRE(plugged_count >= 1 && plugged_count <= count && count <= MACHINE_CPUS_MAX);
    atomic_store(&cpus->plugged, set_of(plugged_count));
    struct cpu_table *table = calloc(1, sizeof(*table));
    cpus->table = table;
    cpus->first_state = calloc(count, sizeof(*cpus->first_state));
    if (table == NULL || cpus->first_state == NULL) {
        return err_sys(err, -ENOMEM, "make vCPUs");
    }
    int r = vcpu_table_make(kvm_fd, level, table, err);
    for (unsigned i = 0; r == 0 && i < count; i++) {
        cpu_model_place(table, i, count);
        r = vcpu_open(&cpus->vcpus[i], kvm_fd, vm_fd, i, table, err);
        if (r == 0) {
            cpus->count++;
            r = vcpu_state_take(&cpus->first_state[i], cpus->vcpus[i].fd, kvm_fd, err);
        }
    }
    return r;
}

int machine_cpus_start(struct machine_cpus *cpus,
                       struct io_bus *bus,
                       const struct vcpu_events *events,
                       struct err *err)
{
    if (atomic_load(&cpus->vcpus[0].thread_runs)) {
        return 0;
    }
    for (unsigned i = 0; i < cpus->count; i++) {
        int r = vcpu_start(&cpus->vcpus[i], bus, events, err);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

void machine_cpus_end(struct machine_cpus *cpus)
{
    pthread_mutex_lock(&cpus->lock);
    cpus->ending = true;
    pthread_cond_broadcast(&cpus->moves);
    pthread_mutex_unlock(&cpus->lock);
    for (unsigned i = 0; i < cpus->count; i++) {
        vcpu_end(&cpus->vcpus[i]);
    }
}

void machine_cpus_fini(struct machine_cpus *cpus)
{
    for (unsigned i = 0; i < cpus->count; i++) {
        vcpu_close(&cpus->vcpus[i]);
        vcpu_state_fini(&cpus->first_state[i]);
    }
    (void)pthread_cond_destroy(&cpus->moves);
    (void)pthread_cond_destroy(&cpus->stands);
    (void)pthread_mutex_destroy(&cpus->lock);
    free(cpus->first_state);
    free(cpus->table);
}

/* ---- which are plugged */

uint64_t machine_cpus_plugged(const struct machine_cpus *cpus)
{
    return atomic_load(&cpus->plugged);
}

void machine_cpus_set_plugged(struct machine_cpus *cpus, uint64_t plugged)
{
    pthread_mutex_lock(&cpus->lock);
    atomic_store(&cpus->plugged, plugged);
    pthread_cond_broadcast(&cpus->moves);
    pthread_mutex_unlock(&cpus->lock);
}

bool machine_cpus_is_plugged(const struct machine_cpus *cpus, unsigned index)
{
    return (machine_cpus_plugged(cpus) >> index & 1) != 0;
}

int machine_cpus_plug(struct machine_cpus *cpus, unsigned index, struct err *err)
{
    const unsigned count = cpus->count;
    if (machine_cpus_plugged(cpus) == set_of(count)) {
        return err_set(err, BERTH_EFULL, "the guest has all %u CPUs that it may have",
                       count);
    }
    if (index >= count) {
        return err_set(err, BERTH_ENOTFOUND, "there is no CPU %u: they are 0 to %u",
                       index, count - 1);
    }
    if (machine_cpus_is_plugged(cpus, index)) {
        return err_set(err, BERTH_EEXISTS, "the guest has CPU %u already", index);
    }
    int r = vcpu_await_wake(&cpus->vcpus[index], err);
    if (r == 0) {
        machine_cpus_set_plugged(cpus, machine_cpus_plugged(cpus) | UINT64_C(1) << index);
    }
    return r;
}

/* ---- standing still and running */

static bool may_move(const struct machine_cpus *cpus, const struct vcpu *vcpu)
{
    return atomic_load(&cpus->wants_run) && machine_cpus_is_plugged(cpus, vcpu->index) &&
           !atomic_load(&vcpu->is_unfit);
}

/* Parks until they run. */
static bool wait_to_run(struct machine_cpus *cpus, struct vcpu *vcpu)
{
    pthread_mutex_lock(&cpus->lock);
    if (!may_move(cpus, vcpu) && !cpus->ending) {
        cpus->parked++;
        pthread_cond_signal(&cpus->stands);
        while (!may_move(cpus, vcpu) && !cpus->ending) {
            pthread_cond_wait(&cpus->moves, &cpus->lock);
        }
        cpus->parked--;
    }
    /* Under the lock: whoever stops us from now on kicks after this. */
    __atomic_store_n(&vcpu->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
    bool run = !cpus->ending;
    pthread_mutex_unlock(&cpus->lock);
    return run;
}

bool machine_cpus_may_run(struct machine_cpus *cpus, struct vcpu *vcpu)
{
    if (may_move(cpus, vcpu) &&
        __atomic_load_n(&vcpu->run->immediate_exit, __ATOMIC_SEQ_CST) == 0) {
        return true; /* as after nearly every exit */
    }
    vcpu_settle(vcpu); /* outside of the lock: a device may ask for something */
    return wait_to_run(cpus, vcpu);
}

bool machine_cpus_hold(struct machine_cpus *cpus)
{
    pthread_mutex_lock(&cpus->lock);
    const bool told = !cpus->ending;
    if (told) {
        atomic_store(&cpus->wants_run, false);
        /* Under the lock: who ends them says so first. */
        for (unsigned i = 0; i < cpus->count; i++) {
            if (machine_cpus_is_plugged(cpus, i)) { /* the others are parked for good */
                vcpu_kick(&cpus->vcpus[i]);
            }
        }
    }
    pthread_mutex_unlock(&cpus->lock);
    return told;
}

void machine_cpus_wait(struct machine_cpus *cpus)
{
    pthread_mutex_lock(&cpus->lock);
    while (cpus->parked < cpus->count) {
        pthread_cond_wait(&cpus->stands, &cpus->lock);
    }
    pthread_mutex_unlock(&cpus->lock);
}

void machine_cpus_go(struct machine_cpus *cpus)
{
    for (unsigned i = 0; i < cpus->count; i++) {
        if (machine_cpus_is_plugged(cpus, i)) {
            vcpu_resume(&cpus->vcpus[i]);
        }
    }
    pthread_mutex_lock(&cpus->lock);
    atomic_store(&cpus->wants_run, true);
    pthread_cond_broadcast(&cpus->moves);
    pthread_mutex_unlock(&cpus->lock);
}

int machine_cpus_reset(struct machine_cpus *cpus, struct err *err)
{
    int r = 0;
    for (unsigned i = 0; r == 0 && i < cpus->count; i++) {
        r = atomic_load(&cpus->vcpus[i].is_unfit)
                ? err_set(err, BERTH_EPHASE, "CPU %u: its thread could not begin", i)
                : vcpu_state_apply(&cpus->first_state[i], i == 0, cpus->vcpus[i].fd, err);
    }
    return r;
}
