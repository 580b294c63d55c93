/* A cluster that a scheduler leads: the state of support/state_fixture.h, hosts that can
 * run VMs, virtual time, and steps whose commands are applied as the log would apply
 * them. Every command of a step must be taken by apply and must change something.
 */
#pragma once

#include "base/clock.h"
#include "scheduler/scheduler.h"
#include "scheduler/step.h"
#include "support/state_fixture.h"

#include <stdbool.h>

static struct scheduler *scheduler;
static struct decisions *decisions;
static uint64_t now_ns;
static uint64_t silent_host; /* says nothing in hear_all() */

static inline void time_passes(uint64_t ms)
{
    now_ns += ms * NS_PER_MS;
    fixture_wall_ms += ms;
}

static uint64_t disk_free_bytes; /* what all hosts say */

static inline void hear(uint64_t host)
{
    const struct host_load load = {.cpu_used_mcpu = 100,
                                   .disk_free_bytes = disk_free_bytes};
    ck_assert_int_eq(
        scheduler_host_heard(scheduler, host, &load, now_ns, fixture_wall_ms), 0);
}

static inline void hear_all(void)
{
    size_t cursor = 0;
    const struct host *host;
    while ((host = state_next(state, KIND_HOST, &cursor)) != NULL) {
        if (host->meta.uid != silent_host) {
            hear(host->meta.uid);
        }
    }
}

/* ---- hosts ---- */

static inline void set_host(uint64_t uid,
                            uint32_t cpu_mcpu,
                            uint64_t memory_bytes,
                            uint32_t engines,
                            enum kvm_kind kvm)
{
    struct command command;
    command_init(&command, COMMAND_HOST_UPDATE);
    command.body.host_update.host = uid;
    struct host_status *status = &command.body.host_update.status;
    status->address = 1;
    status->cpu_mcpu = cpu_mcpu;
    status->memory_bytes = memory_bytes;
    status->engines = engines;
    status->kvm = kvm;
    status->disk_bytes = 10 * GIB;
    status->cpu_overcommit = HOST_OVERCOMMIT;
    ck_assert_int_eq(send_command(&command), 0);
}

/* One with engine kvm, whose CPUs give that and whose pool of huge pages has so many
 * bytes; the cluster's level is raised for it. */
static inline void
set_host_special(uint64_t uid, enum cpu_baseline baseline, uint64_t pool_bytes)
{
    struct command command;
    ck_assert_int_eq(level_at_least(LEVEL_MACHINES), 0);
    command_init(&command, COMMAND_HOST_UPDATE);
    command.body.host_update.host = uid;
    struct host_status *status = &command.body.host_update.status;
    record_fini(&host_status_record, status);
    ck_assert_int_eq(
        record_copy(&host_status_record, &state_host(state, uid)->status, status), 0);
    status->engines = ENGINE_BIT(ENGINE_QEMU) | ENGINE_BIT(ENGINE_KVM);
    status->kvm = KVM_NATIVE;
    status->cpu_baseline = baseline;
    status->pool_bytes = pool_bytes;
    ck_assert_int_eq(send_command(&command), 0);
}

static inline void set_host_baseline(uint64_t uid, enum cpu_baseline baseline)
{
    set_host_special(uid, baseline, 0);
}

/* A machine of huge pages. */
static inline void put_machine_huge(const char *name, uint64_t memory_bytes)
{
    struct template *template = make_template(DEFAULT_TENANT, name, NULL);
    ck_assert_int_eq(level_at_least(LEVEL_MACHINES), 0);
    template->spec.cpu.count = 1;
    template->spec.memory.size_bytes = memory_bytes;
    template->spec.memory.pages = MEMORY_PAGES_HUGE;
    ck_assert_int_eq(put(KIND_TEMPLATE, template), 0);
}

/* A further host with QEMU; key from 2 on, each once. */
static inline uint64_t
make_host(const char *name, uint8_t key, uint32_t cpu_mcpu, uint64_t memory_bytes)
{
    uint64_t uid = add_host(name, key);
    set_host(uid, cpu_mcpu, memory_bytes, ENGINE_BIT(ENGINE_QEMU), KVM_NONE);
    return uid;
}

static inline uint64_t host_of_vm(const char *name)
{
    const struct vm *vm = vm_named(name);
    ck_assert_msg(vm != NULL, "there is no VM %s", name);
    return vm->status.host;
}

/* ---- templates ---- */

static inline void
put_machine(const char *name, uint32_t cpus, uint64_t memory_bytes, const char *network)
{
    struct template *template = make_template(DEFAULT_TENANT, name, network);
    template->spec.cpu.count = cpus;
    template->spec.memory.size_bytes = memory_bytes;
    ck_assert_int_eq(put(KIND_TEMPLATE, template), 0);
}

/* A small machine with one disk. */
static inline void put_machine_disk(const char *name, uint64_t disk_bytes)
{
    struct template *template = make_template(DEFAULT_TENANT, name, NULL);
    struct record_list disks = {0};
    struct disk_spec *disk = record_list_add(&disk_spec_record, &disks);
    ck_assert_ptr_nonnull(disk);
    set_name(disk->name, "data");
    disk->from = DISK_EMPTY;
    disk->size_bytes = disk_bytes;
    template->spec.disks.items = disks.items;
    template->spec.disks.count = disks.count;
    template->spec.cpu.count = 1;
    template->spec.memory.size_bytes = 64 * MIB;
    ck_assert_int_eq(put(KIND_TEMPLATE, template), 0);
}

static inline uint64_t admit_one(const char *name, const char *template)
{
    ck_assert_int_eq(admit(DEFAULT_TENANT, name, template, ""), 0);
    return answer.uid;
}

static inline const struct group *group_named(const char *name)
{
    return FIND(KIND_GROUP, DEFAULT_TENANT, name);
}

static inline void put_group(const char *name, const char *template, uint32_t replicas)
{
    ck_assert_int_eq(
        put(KIND_GROUP, make_group(DEFAULT_TENANT, name, template, replicas)), 0);
}

/* ---- steps ---- */

static inline uint32_t step_once(void)
{
    decisions_fini(decisions); /* of a step that was only looked at */
    uint32_t count = scheduler_step(scheduler, state, now_ns, fixture_wall_ms, decisions);
    ck_assert_uint_eq(count, decisions->count);
    ck_assert_uint_le(count, DECISIONS_MAX);
    return count;
}

/* The batch goes through the log. */
static inline void apply_batch(void)
{
    for (uint32_t i = 0; i < decisions->count; i++) {
        uint64_t before = state_revision(state);
        uint32_t type = decisions->commands[i].type;
        ck_assert_str_eq(decisions->commands[i].subject, "system");
        int code = send_command(&decisions->commands[i]);
        ck_assert_msg(code == 0, "command %u of type %u was refused: %s", i, type,
                      answer.text);
        ck_assert_msg(state_revision(state) > before,
                      "command %u of type %u changed nothing", i, type);
    }
    decisions->count = 0;
}

static inline uint32_t step_and_apply(void)
{
    uint32_t count = step_once();
    apply_batch();
    return count;
}

/* Steps until there is nothing to decide; the number of commands. */
static inline uint32_t settle(void)
{
    uint32_t total = 0;
    for (unsigned i = 0; i < 1000; i++) {
        uint32_t count = step_and_apply();
        if (count == 0) {
            return total;
        }
        total += count;
    }
    ck_abort_msg("the scheduler does not come to rest");
    return total;
}

/* What hosts do: placed VMs become ready, stopping ones stop. */
static inline void hosts_work(void)
{
    uint64_t uids[1024];
    unsigned count = 0;
    size_t cursor = 0;
    const struct vm *vm;
    while ((vm = state_next(state, KIND_VM, &cursor)) != NULL) {
        const struct host *host = state_host(state, vm->status.host);
        if (host != NULL && host->status.phase == HOST_PHASE_READY &&
            (vm->status.phase == PHASE_PLACED || vm->status.phase == PHASE_STOPPING)) {
            ck_assert_uint_lt(count, 1024);
            uids[count++] = vm->meta.uid;
        }
    }
    for (unsigned i = 0; i < count; i++) {
        bool stops = state_vm(state, uids[i])->status.phase == PHASE_STOPPING;
        int code =
            stops ? reports_kept(uids[i], PHASE_STOPPED) : reports(uids[i], PHASE_READY);
        ck_assert_int_eq(code, 0);
    }
}

/* Steps and hosts' work until neither finds anything to do. */
static inline void settle_all(void)
{
    for (unsigned i = 0; i < 1000; i++) {
        uint64_t before = state_revision(state);
        settle();
        hosts_work();
        if (state_revision(state) == before) {
            return;
        }
    }
    ck_abort_msg("the cluster does not come to rest");
}

static inline unsigned commands_of(enum command_type type)
{
    unsigned count = 0;
    for (uint32_t i = 0; i < decisions->count; i++) {
        count += decisions->commands[i].type == (uint32_t)type;
    }
    return count;
}

static inline unsigned vms_on(uint64_t host)
{
    unsigned count = 0;
    size_t cursor = 0;
    while (state_vm_on_host(state, host, &cursor) != NULL) {
        count++;
    }
    return count;
}

/* ---- the cluster the tests begin with: h1 has 4 CPUs, 1 GiB and QEMU ---- */

static inline void cluster_start(void)
{
    fixture_start();
    scheduler = scheduler_new();
    decisions = calloc(1, sizeof(*decisions));
    ck_assert(scheduler != NULL && decisions != NULL);
    now_ns = 500 * NS_PER_S;
    silent_host = 0;
    disk_free_bytes = UINT64_C(1) << 40;
    set_host(h1, 4000, 1 * GIB, ENGINE_BIT(ENGINE_QEMU), KVM_NONE);
    ck_assert_int_eq(network_host(front, h1, 0), 0); /* nobody needs it there yet */
    scheduler_lead(scheduler, now_ns);
    hear_all();
}

static inline void cluster_stop(void)
{
    decisions_fini(decisions);
    free(decisions);
    decisions = NULL;
    scheduler = scheduler_free(scheduler);
    fixture_stop();
}

static inline Suite *cluster_suite(const char *name, TCase **ret_case)
{
    Suite *suite = suite_create(name);
    *ret_case = tcase_create(name);
    tcase_add_checked_fixture(*ret_case, cluster_start, cluster_stop);
    tcase_set_timeout(*ret_case, 100);
    suite_add_tcase(suite, *ret_case);
    return suite;
}
