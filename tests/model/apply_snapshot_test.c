/* Goal: a snapshot is made where its VM runs, counts for what it may take and then for
 * what it takes, and a VM that goes back to one is a new run on that host alone; whatever
 * becomes of the VM, the snapshot or the host meanwhile, no wish waits for what is gone.
 */
#include "support/state_fixture.h"

#define MOST (128 * MIB + 1 * GIB) /* memory and disk of a VM of template saved */

static uint64_t h2;
static uint64_t vm;

static void setup(void)
{
    fixture_start();
    ck_assert_int_eq(raise_level(LEVEL_SNAPSHOTS), 0);
    h2 = add_host("h2", 2);
    struct template *template = make_template(DEFAULT_TENANT, "saved", NULL);
    struct record_list list = {0};
    struct disk_spec *disk = record_list_add(&disk_spec_record, &list);
    ck_assert_ptr_nonnull(disk);
    set_name(disk->name, "data");
    disk->size_bytes = 1 * GIB;
    template->spec.disks.items = list.items;
    template->spec.disks.count = list.count;
    ck_assert_int_eq(put(KIND_TEMPLATE, template), 0);
    ck_assert_int_eq(admit(DEFAULT_TENANT, "db", "saved", ""), 0);
    vm = answer.uid;
    ck_assert_int_eq(place(vm, h1, 1, 0), 0);
    ck_assert_int_eq(reports_run(vm, PHASE_RUNNING, ENGINE_KVM, false, "seen"), 0);
    ck_assert_int_eq(reports(vm, PHASE_READY), 0);
}

/* The same, and it waits for a host that is lost. */
static void have_pet(void)
{
    struct template *template = make_template(DEFAULT_TENANT, "pet", NULL);
    template->spec.lifecycle.host_failure = HOST_FAILURE_WAIT;
    ck_assert_int_eq(put(KIND_TEMPLATE, template), 0);
    ck_assert_int_eq(admit(DEFAULT_TENANT, "pet", "pet", ""), 0);
    vm = answer.uid;
    ck_assert_int_eq(place(vm, h1, 1, 0), 0);
    ck_assert_int_eq(reports_run(vm, PHASE_RUNNING, ENGINE_KVM, false, "seen"), 0);
}

static const struct vm *now(void)
{
    return state_vm(state, vm);
}

static const struct usage *used(void)
{
    const struct tenant *tenant = FIND(KIND_TENANT, "", DEFAULT_TENANT);
    return &tenant->status.used;
}

static const struct snapshot_status *of(uint64_t snapshot)
{
    const struct snapshot *found = state_snapshot(state, snapshot);
    ck_assert_ptr_nonnull(found);
    return &found->status;
}

static uint64_t ready_snapshot(const char *name)
{
    ck_assert_int_eq(make_snapshot(vm, name), 0);
    uint64_t snapshot = answer.uid;
    ck_assert_int_eq(step_snapshot(snapshot, SNAPSHOT_READY, 200 * MIB), 0);
    return snapshot;
}

/* What a voter that comes in later reads is what there is. */
static void check_survives(void)
{
    uint8_t *data = NULL;
    size_t size = 0;
    struct err err = {0};
    ck_assert_int_eq(state_encode(state, &data, &size), 0);
    struct state *copy = state_new(NULL, NULL);
    ck_assert_msg(state_decode(copy, data, size, &err) == 0, "%s", err.text);
    ck_assert_uint_eq(state_hash(copy), state_hash(state));
    ck_assert_uint_eq(state_host_use(copy, h1).disk_bytes,
                      state_host_use(state, h1).disk_bytes);
    state_free(copy);
    free(data);
}

/* ---- make ---- */

START_TEST(one_counts_for_all_it_may_take_until_it_is_there)
{
    uint64_t disk = used()->disk_bytes;
    uint64_t promised = state_host_use(state, h1).disk_bytes;

    ck_assert_int_eq(make_snapshot(vm, "before"), 0);
    uint64_t snapshot = answer.uid;

    ck_assert_uint_eq(of(snapshot)->phase, SNAPSHOT_MAKING);
    ck_assert_uint_eq(of(snapshot)->host, h1);
    ck_assert_uint_eq(of(snapshot)->epoch, 1);
    ck_assert_uint_eq(of(snapshot)->bytes, MOST);
    ck_assert_uint_eq(used()->disk_bytes, disk + MOST);
    ck_assert_uint_eq(used()->snapshots, 1);
    ck_assert_uint_eq(state_host_use(state, h1).disk_bytes, promised + MOST);
    check_survives();

    ck_assert_int_eq(step_snapshot(snapshot, SNAPSHOT_READY, 200 * MIB), 0);
    ck_assert_uint_eq(of(snapshot)->phase, SNAPSHOT_READY);
    ck_assert_uint_eq(of(snapshot)->bytes, 200 * MIB);
    ck_assert_uint_eq(of(snapshot)->at_wall_ms, fixture_wall_ms);
    ck_assert_uint_eq(used()->disk_bytes, disk + 200 * MIB);
    ck_assert_uint_eq(state_host_use(state, h1).disk_bytes, promised + 200 * MIB);
    check_survives();
}
END_TEST

START_TEST(a_host_that_says_more_than_it_promised_takes_what_it_promised)
{
    ck_assert_int_eq(make_snapshot(vm, "before"), 0);
    uint64_t snapshot = answer.uid;

    ck_assert_int_eq(step_snapshot(snapshot, SNAPSHOT_READY, UINT64_MAX), 0);

    ck_assert_uint_eq(of(snapshot)->bytes, MOST);
}
END_TEST

START_TEST(how_far_it_is_is_told)
{
    ck_assert_int_eq(make_snapshot(vm, "before"), 0);
    uint64_t snapshot = answer.uid;
    struct command command;
    command_init(&command, COMMAND_SNAPSHOT_STEP);
    command.body.snapshot_step.snapshot = snapshot;
    command.body.snapshot_step.host = h1;
    command.body.snapshot_step.epoch = 1;
    command.body.snapshot_step.permille = 400;

    ck_assert_int_eq(send_command(&command), 0);

    ck_assert_uint_eq(of(snapshot)->permille, 400);
    ck_assert_uint_eq(of(snapshot)->phase, SNAPSHOT_MAKING);
}
END_TEST

START_TEST(without_a_name_it_gets_the_next_number)
{
    ck_assert_int_eq(make_snapshot(vm, ""), 0);
    ck_assert_ptr_nonnull(FIND(KIND_SNAPSHOT, DEFAULT_TENANT, "db-1"));
    ck_assert_int_eq(make_snapshot(vm, "db-3"), 0);
    ck_assert_int_eq(make_snapshot(vm, ""), 0);
    ck_assert_int_eq(make_snapshot(vm, ""), 0);
    ck_assert_ptr_nonnull(FIND(KIND_SNAPSHOT, DEFAULT_TENANT, "db-2"));
    ck_assert_ptr_nonnull(FIND(KIND_SNAPSHOT, DEFAULT_TENANT, "db-4"));

    ck_assert_int_eq(make_snapshot(vm, "db-2"), BERTH_EEXISTS);
    ck_assert_str_eq(answer.text,
                     "snapshot db-2 of tenant default exists already, of vm db");
    ck_assert_int_eq(make_snapshot(vm, "No Name"), BERTH_EINVALID);
}
END_TEST

START_TEST(what_does_not_run_under_kvm_alone_has_none)
{
    ck_assert_int_eq(reports_run(vm, PHASE_READY, ENGINE_QEMU, false, "seen"), 0);
    ck_assert_int_eq(make_snapshot(vm, ""), BERTH_EUNSUPPORTED);
    ck_assert_str_eq(answer.text,
                     "vm db runs under qemu: only the engine kvm makes snapshots");

    uint64_t other = ready_vm("other", h1); /* whose host has not said */
    ck_assert_int_eq(make_snapshot(other, ""), BERTH_EPHASE);
    ck_assert_contains(answer.text, "has not said yet which engine");
    ck_assert_int_eq(set_power(other, POWER_OFF), 0);
    ck_assert_int_eq(make_snapshot(other, ""), BERTH_EPHASE);
    ck_assert_str_eq(answer.text,
                     "vm other is stopping: it cannot be saved in a snapshot");

    ck_assert_int_eq(put(KIND_GROUP, make_group(DEFAULT_TENANT, "g", "plain", 1)), 0);
    ck_assert_int_eq(admit(DEFAULT_TENANT, "g-1", "plain", "g"), 0);
    ck_assert_int_eq(make_snapshot(answer.uid, ""), BERTH_EUNSUPPORTED);
    ck_assert_contains(answer.text, "vm g-1 is of group g");
    ck_assert_int_eq(make_snapshot(4711, ""), BERTH_ENOTFOUND);
}
END_TEST

START_TEST(a_quota_counts_them_and_their_bytes)
{
    struct tenant *tenant = make_tenant(DEFAULT_TENANT);
    tenant->spec.quota.snapshots = 1;
    ck_assert_int_eq(put(KIND_TENANT, tenant), 0);
    ck_assert_int_eq(make_snapshot(vm, "one"), 0);
    ck_assert_int_eq(make_snapshot(vm, "two"), BERTH_EQUOTA);
    ck_assert_str_eq(answer.text,
                     "quota of tenant default: snapshots 1 of 1 in use, 1 more asked");

    tenant = make_tenant(DEFAULT_TENANT);
    tenant->spec.quota.disk_bytes = used()->disk_bytes + MOST - 1;
    ck_assert_int_eq(put(KIND_TENANT, tenant), 0);
    ck_assert_int_eq(make_snapshot(vm, "two"), BERTH_EQUOTA);
    ck_assert_contains(answer.text, "quota of tenant default: disk");
}
END_TEST

/* 10 GiB may be promised, 1 GiB is the VM's disk. */
START_TEST(a_host_promises_no_more_than_it_has)
{
    for (unsigned i = 0; i < 8; i++) {
        ck_assert_int_eq(make_snapshot(vm, ""), 0);
    }

    ck_assert_int_eq(make_snapshot(vm, ""), BERTH_ENOCAPACITY);

    ck_assert_str_eq(answer.text,
                     "host h1: disk 10GiB of 10GiB promised, a snapshot may take "
                     "1152MiB more (memory and disks)");
}
END_TEST

START_TEST(one_that_fails_takes_nothing_and_says_why)
{
    uint64_t disk = used()->disk_bytes;
    ck_assert_int_eq(make_snapshot(vm, "before"), 0);
    uint64_t snapshot = answer.uid;

    ck_assert_int_eq(step_snapshot(snapshot, SNAPSHOT_FAILED, 0), 0);

    ck_assert_uint_eq(of(snapshot)->phase, SNAPSHOT_FAILED);
    ck_assert_str_eq(of(snapshot)->reason, "the host says why");
    ck_assert_uint_eq(of(snapshot)->host, 0);
    ck_assert_uint_eq(used()->disk_bytes, disk);
    ck_assert_uint_eq(used()->snapshots, 1);
    check_survives();
    ck_assert_int_eq(restore_vm(vm, snapshot), BERTH_EPHASE);
    ck_assert_str_eq(answer.text,
                     "snapshot before is failed: the host says why: wanted ready");
    ck_assert_int_eq(delete_object(KIND_SNAPSHOT, DEFAULT_TENANT, "before"), 0);
    ck_assert_ptr_null(state_snapshot(state, snapshot)); /* at once */
    ck_assert_uint_eq(used()->snapshots, 0);
}
END_TEST

START_TEST(only_its_host_speaks_of_it_and_of_its_run)
{
    ck_assert_int_eq(make_snapshot(vm, "before"), 0);
    uint64_t snapshot = answer.uid;

    ck_assert_int_eq(step_snapshot_as(snapshot, h2, 1, SNAPSHOT_READY, 1), BERTH_ESTALE);
    ck_assert_int_eq(step_snapshot_as(snapshot, h1, 2, SNAPSHOT_READY, 1), BERTH_ESTALE);
    ck_assert_int_eq(step_snapshot_as(4711, h1, 1, SNAPSHOT_READY, 1), BERTH_ENOTFOUND);

    ck_assert_uint_eq(of(snapshot)->phase, SNAPSHOT_MAKING);
}
END_TEST

/* ---- remove ---- */

START_TEST(one_that_is_deleted_goes_when_its_host_says_so)
{
    uint64_t disk = used()->disk_bytes;
    uint64_t snapshot = ready_snapshot("before");

    ck_assert_int_eq(delete_object(KIND_SNAPSHOT, DEFAULT_TENANT, "before"), 0);
    ck_assert_uint_eq(of(snapshot)->phase, SNAPSHOT_DELETING);
    ck_assert_uint_eq(used()->disk_bytes, disk + 200 * MIB);
    ck_assert_int_eq(step_snapshot(snapshot, SNAPSHOT_READY, 1), 0); /* late news */
    ck_assert_uint_eq(of(snapshot)->phase, SNAPSHOT_DELETING);
    check_survives();

    ck_assert_int_eq(step_snapshot(snapshot, SNAPSHOT_LOST, 0), 0);
    ck_assert_ptr_null(state_snapshot(state, snapshot));
    ck_assert_uint_eq(used()->disk_bytes, disk);
    ck_assert_uint_eq(used()->snapshots, 0);
}
END_TEST

START_TEST(with_a_vm_its_snapshots_go)
{
    uint64_t made = ready_snapshot("made");
    ck_assert_int_eq(make_snapshot(vm, "failed"), 0);
    uint64_t failed = answer.uid;
    ck_assert_int_eq(step_snapshot(failed, SNAPSHOT_FAILED, 0), 0);

    ck_assert_int_eq(delete_object(KIND_VM, DEFAULT_TENANT, "db"), 0);
    ck_assert_uint_eq(of(made)->phase, SNAPSHOT_READY); /* it has not ended yet */
    ck_assert_int_eq(reports(vm, PHASE_STOPPED), 0);

    ck_assert_ptr_null(now());
    ck_assert_uint_eq(of(made)->phase, SNAPSHOT_DELETING);
    ck_assert_ptr_null(state_snapshot(state, failed));
    check_survives();
    ck_assert_int_eq(step_snapshot(made, SNAPSHOT_LOST, 0), 0);
    ck_assert_uint_eq(used()->snapshots, 0);
    ck_assert_uint_eq(used()->disk_bytes, 0);
}
END_TEST

START_TEST(one_that_its_host_has_not_any_more_is_lost)
{
    uint64_t snapshot = ready_snapshot("before");

    ck_assert_int_eq(step_snapshot(snapshot, SNAPSHOT_LOST, 0), 0);

    ck_assert_uint_eq(of(snapshot)->phase, SNAPSHOT_LOST);
    ck_assert_uint_eq(of(snapshot)->host, 0);
    ck_assert_uint_eq(of(snapshot)->bytes, 0);
    ck_assert_int_eq(restore_vm(vm, snapshot), BERTH_EPHASE);
    check_survives();
}
END_TEST

/* ---- restore ---- */

START_TEST(a_vm_goes_back_in_a_new_run_on_the_host_of_the_snapshot)
{
    uint64_t snapshot = ready_snapshot("before");

    ck_assert_int_eq(restore_vm(vm, snapshot), 0);
    ck_assert_uint_eq(now()->status.phase, PHASE_STOPPING);
    ck_assert_uint_eq(now()->status.intent, STOP_INTENT_RESTART);
    check_survives();
    ck_assert_int_eq(reports_kept(vm, PHASE_STOPPED), 0);
    ck_assert_uint_eq(now()->status.phase, PHASE_PENDING);
    ck_assert_uint_eq(now()->status.restore, snapshot);
    ck_assert_int_eq(delete_object(KIND_SNAPSHOT, DEFAULT_TENANT, "before"),
                     BERTH_EINUSE);

    ck_assert_int_eq(place(vm, h2, 2, 0), BERTH_ECONFLICT);
    ck_assert_str_eq(answer.text, "vm db begins from a snapshot on host h1: it starts "
                                  "nowhere else");
    ck_assert_int_eq(place(vm, h1, 2, 0), 0);
    ck_assert_uint_eq(now()->status.restore, snapshot);
    ck_assert_uint_eq(now()->status.disk_epoch, 1); /* until its own are there */
    check_survives();
    ck_assert_int_eq(reports(vm, PHASE_STARTING), 0);
    ck_assert_uint_eq(now()->status.restore, snapshot);
    ck_assert_int_eq(reports(vm, PHASE_RUNNING), 0);

    ck_assert_uint_eq(now()->status.restore, 0);
    ck_assert_int_eq(delete_object(KIND_SNAPSHOT, DEFAULT_TENANT, "before"), 0);
}
END_TEST

START_TEST(one_may_run_while_its_memory_is_read)
{
    struct err err = {0};
    struct command command;
    uint64_t snapshot = ready_snapshot("before");
    command_init(&command, COMMAND_RESTORE_VM);
    command.body.restore_vm.vm = vm;
    command.body.restore_vm.snapshot = snapshot;
    command.body.restore_vm.lazy = true;
    ck_assert_int_eq(command_check_level(&command, LEVEL_MACHINES - 1, &err),
                     BERTH_ELEVEL);
    ck_assert_str_eq(err.text, "restore_vm: lazy needs level 4, the cluster is at 3");
    command_fini(&command);

    ck_assert_int_eq(restore_vm_how(vm, snapshot, true), 0);
    ck_assert(now()->status.restore_lazy);
    check_survives();
    ck_assert_int_eq(restore_vm(vm, snapshot), 0); /* the last word counts */
    ck_assert(!now()->status.restore_lazy);
    ck_assert_int_eq(restore_vm_how(vm, snapshot, true), 0);
    ck_assert_int_eq(reports_kept(vm, PHASE_STOPPED), 0);
    ck_assert_int_eq(place(vm, h1, 2, 0), 0);
    ck_assert(now()->status.restore_lazy);
    ck_assert_int_eq(reports(vm, PHASE_RUNNING), 0);

    ck_assert_uint_eq(now()->status.restore, 0);
    ck_assert(!now()->status.restore_lazy);
}
END_TEST

START_TEST(one_that_is_off_is_switched_on)
{
    uint64_t snapshot = ready_snapshot("before");
    ck_assert_int_eq(set_power(vm, POWER_OFF), 0);
    ck_assert_int_eq(reports_kept(vm, PHASE_STOPPED), 0);

    ck_assert_int_eq(restore_vm(vm, snapshot), 0);

    ck_assert_uint_eq(now()->spec.power, POWER_ON);
    ck_assert_uint_eq(now()->status.phase, PHASE_PENDING);
    ck_assert_uint_eq(now()->status.restore, snapshot);
    ck_assert_str_eq(now()->status.reason, "goes back to snapshot before");
}
END_TEST

START_TEST(one_that_stops_goes_back_when_it_has_ended)
{
    uint64_t snapshot = ready_snapshot("before");
    ck_assert_int_eq(set_power(vm, POWER_OFF), 0);

    ck_assert_int_eq(restore_vm(vm, snapshot), 0);
    ck_assert_int_eq(reports(vm, PHASE_STOPPED), 0);

    ck_assert_uint_eq(now()->status.phase, PHASE_PENDING);
    ck_assert_uint_eq(now()->status.restore, snapshot);
}
END_TEST

/* A stop, a start with new disks, in each phase before it runs. */
START_TEST(its_user_calls_it_off)
{
    uint64_t snapshot = ready_snapshot("before");
    ck_assert_int_eq(restore_vm(vm, snapshot), 0);
    if (_i >= 1) {
        ck_assert_int_eq(reports_kept(vm, PHASE_STOPPED), 0);
    }
    if (_i == 2) {
        ck_assert_int_eq(set_power_at(vm, POWER_ON, true), 0);
        ck_assert_uint_eq(now()->status.phase, PHASE_PENDING);
        ck_assert_uint_eq(now()->status.disk_host, 0);
    } else {
        ck_assert_int_eq(set_power(vm, POWER_OFF), 0);
    }

    ck_assert_uint_eq(now()->status.restore, 0);
    check_survives();
}
END_TEST

START_TEST(one_that_could_not_begin_tries_again_until_its_user_starts_it)
{
    uint64_t snapshot = ready_snapshot("before");
    ck_assert_int_eq(restore_vm(vm, snapshot), 0);
    ck_assert_int_eq(reports_kept(vm, PHASE_STOPPED), 0);
    ck_assert_int_eq(place(vm, h1, 2, 0), 0);

    ck_assert_int_eq(reports(vm, PHASE_FAILED), 0);
    ck_assert_uint_eq(now()->status.disk_host, h1); /* it never got to them */
    ck_assert_uint_eq(now()->status.disk_epoch, 1);
    ck_assert_uint_eq(now()->status.restore, snapshot);
    ck_assert_int_eq(retry(vm, 2), 0);
    ck_assert_uint_eq(now()->status.restore, snapshot);
    ck_assert_int_eq(place(vm, h1, 3, 0), 0);
    ck_assert_int_eq(reports(vm, PHASE_FAILED), 0);

    ck_assert_int_eq(set_power(vm, POWER_ON), 0);
    ck_assert_uint_eq(now()->status.phase, PHASE_PENDING);
    ck_assert_uint_eq(now()->status.restore, 0);
}
END_TEST

START_TEST(a_vm_goes_back_only_to_its_own)
{
    uint64_t snapshot = ready_snapshot("before");
    uint64_t other = ready_vm("other", h1);

    ck_assert_int_eq(restore_vm(other, snapshot), BERTH_ENOTFOUND);
    ck_assert_int_eq(restore_vm(vm, 4711), BERTH_ENOTFOUND);
    ck_assert_int_eq(make_snapshot(vm, "now"), 0);
    ck_assert_int_eq(restore_vm(vm, answer.uid), BERTH_EPHASE);
    ck_assert_str_eq(answer.text, "snapshot now is making: wanted ready");
}
END_TEST

START_TEST(a_snapshot_that_is_lost_holds_nobody_up)
{
    uint64_t snapshot = ready_snapshot("before");
    ck_assert_int_eq(restore_vm(vm, snapshot), 0);
    ck_assert_int_eq(reports_kept(vm, PHASE_STOPPED), 0);
    if (_i == 1) { /* it is on its way: the host has to say that it failed */
        ck_assert_int_eq(place(vm, h1, 2, 0), 0);
    }

    ck_assert_int_eq(step_snapshot(snapshot, SNAPSHOT_LOST, 0), 0);
    if (_i == 1) {
        ck_assert_uint_eq(now()->status.restore, snapshot);
        ck_assert_int_eq(reports(vm, PHASE_FAILED), 0);
    }

    ck_assert_uint_eq(now()->status.restore, 0);
    check_survives();
}
END_TEST

/* ---- hosts ---- */

START_TEST(a_lost_host_keeps_what_was_ready_and_loses_what_was_not)
{
    uint64_t ready = ready_snapshot("ready");
    uint64_t deleting = ready_snapshot("deleting");
    ck_assert_int_eq(delete_object(KIND_SNAPSHOT, DEFAULT_TENANT, "deleting"), 0);
    ck_assert_int_eq(make_snapshot(vm, "making"), 0);
    uint64_t making = answer.uid;

    ck_assert_int_eq(host_phase(h1, HOST_PHASE_LOST), 0);

    ck_assert_uint_eq(of(ready)->phase, SNAPSHOT_READY);
    ck_assert_uint_eq(of(making)->phase, SNAPSHOT_FAILED);
    ck_assert_str_eq(of(making)->reason, "host h1 was lost");
    ck_assert_ptr_null(state_snapshot(state, deleting));
    check_survives();
    ck_assert_int_eq(restore_vm(vm, ready), BERTH_EPHASE);
    ck_assert_str_eq(answer.text, "snapshot ready is on host h1, which is lost: a VM "
                                  "starts from it there and nowhere else");
    ck_assert_int_eq(delete_object(KIND_SNAPSHOT, DEFAULT_TENANT, "ready"), 0);
    ck_assert_ptr_null(state_snapshot(state, ready)); /* nobody is there to ask */
}
END_TEST

START_TEST(a_drained_host_takes_nobody_back)
{
    uint64_t snapshot = ready_snapshot("before");
    ck_assert_int_eq(host_drain(h1, true), 0);

    ck_assert_int_eq(restore_vm(vm, snapshot), BERTH_EPHASE);

    ck_assert_contains(answer.text, "is on host h1, which is drained");
    ck_assert_contains(answer.text, "berth undrain h1");
}
END_TEST

START_TEST(a_host_with_snapshots_is_removed_by_force_only)
{
    uint64_t snapshot = ready_snapshot("before");
    ck_assert_int_eq(restore_vm(vm, snapshot), 0);
    ck_assert_int_eq(host_phase(h1, HOST_PHASE_LOST), 0);
    ck_assert_uint_eq(now()->status.restore, snapshot);
    struct command command;
    command_init(&command,
                 COMMAND_HOST_VOTER); /* or it could not go for another reason */
    command.body.host_voter.host = h1;
    ck_assert_int_eq(send_command(&command), 0);

    ck_assert_int_eq(delete_object(KIND_HOST, "", "h1"), BERTH_EINUSE);
    ck_assert_contains(answer.text, "host h1 has 1 snapshot of VMs");
    ck_assert_int_eq(delete_host_by_force("h1"), 0);

    ck_assert_ptr_null(state_snapshot(state, snapshot));
    ck_assert_uint_eq(now()->status.restore, 0);
    ck_assert_str_eq(now()->status.reason, "snapshot before is gone");
    ck_assert_uint_eq(used()->snapshots, 0);
    check_survives();
}
END_TEST

/* It runs on h2, its snapshot is on h1. */
static uint64_t snapshot_elsewhere(void)
{
    uint64_t snapshot = ready_snapshot("before");
    ck_assert_int_eq(evict(vm, 1, STOP_INTENT_MOVE), 0);
    ck_assert_int_eq(reports(vm, PHASE_STOPPED), 0);
    ck_assert_int_eq(place(vm, h2, 2, 0), 0);
    ck_assert_int_eq(reports(vm, PHASE_RUNNING), 0);
    ck_assert_int_eq(restore_vm(vm, snapshot), 0);
    ck_assert_uint_eq(now()->status.phase, PHASE_STOPPING);
    return snapshot;
}

START_TEST(a_vm_that_still_ends_elsewhere_does_not_wait_for_one_that_is_gone)
{
    (void)snapshot_elsewhere();
    ck_assert_int_eq(host_phase(h1, HOST_PHASE_LOST), 0);
    struct command command;
    command_init(&command, COMMAND_HOST_VOTER);
    command.body.host_voter.host = h1;
    ck_assert_int_eq(send_command(&command), 0);

    ck_assert_int_eq(delete_host_by_force("h1"), 0);

    ck_assert_uint_eq(now()->status.restore, 0);
    check_survives();
}
END_TEST

START_TEST(the_run_of_before_that_is_found_again_is_not_the_snapshots)
{
    uint64_t snapshot = snapshot_elsewhere();

    (void)reports(vm, PHASE_RUNNING);

    ck_assert_uint_eq(now()->status.restore, snapshot);
}
END_TEST

/* ---- with disks on another host ---- */

/* Placed on the snapshot's host, h1, while h2 has its disks, of epoch 2. */
static uint64_t placed_away_from_its_disks(void)
{
    uint64_t snapshot = snapshot_elsewhere();
    ck_assert_int_eq(reports_kept(vm, PHASE_STOPPED), 0);
    ck_assert_uint_eq(now()->status.disk_host, h2);
    uint64_t promised = state_host_use(state, h2).disk_bytes;
    ck_assert_int_eq(place(vm, h1, 3, 0), 0);
    ck_assert_uint_eq(state_host_use(state, h2).disk_bytes, promised);
    return snapshot;
}

static void check_kept_elsewhere(void)
{
    ck_assert_uint_eq(now()->status.disk_host, h2);
    ck_assert_uint_eq(now()->status.disk_epoch, 2);
    check_survives();
}

START_TEST(until_it_has_begun_from_it_its_disks_stay_where_they_are)
{
    uint64_t snapshot = placed_away_from_its_disks();
    check_kept_elsewhere();
    ck_assert_int_eq(reports(vm, PHASE_STARTING), 0);
    check_kept_elsewhere();
    switch (_i) {
    case 0: /* and tries again */
        ck_assert_int_eq(reports_kept(vm, PHASE_FAILED), 0);
        check_kept_elsewhere();
        ck_assert_int_eq(retry(vm, 3), 0);
        break;
    case 1: /* it was not here, or not whole */
        ck_assert_int_eq(step_snapshot(snapshot, SNAPSHOT_LOST, 0), 0);
        ck_assert_int_eq(reports(vm, PHASE_FAILED), 0);
        ck_assert_uint_eq(now()->status.restore, 0);
        ck_assert_int_eq(retry(vm, 3), 0);
        break;
    case 2: /* its user calls it off */
        ck_assert_int_eq(set_power(vm, POWER_OFF), 0);
        check_kept_elsewhere();
        ck_assert_int_eq(reports(vm, PHASE_STOPPED), 0);
        ck_assert_int_eq(set_power(vm, POWER_ON), 0);
        break;
    case 3: /* it is asked to go, which it has no need to */
        ck_assert_int_eq(evict(vm, 3, STOP_INTENT_MOVE), 0);
        ck_assert_int_eq(reports(vm, PHASE_STOPPED), 0);
        break;
    case 4: /* its host is lost */
        ck_assert_int_eq(host_phase(h1, HOST_PHASE_LOST), 0);
        break;
    default: /* "anywhere" means nothing to one that is placed */
        ck_assert_int_eq(set_power_at(vm, POWER_ON, true), 0);
        check_kept_elsewhere();
        ck_assert_int_eq(reports(vm, PHASE_FAILED), 0);
        ck_assert_int_eq(retry(vm, 3), 0);
        break;
    }
    check_kept_elsewhere();
    ck_assert_uint_eq(now()->status.phase, PHASE_PENDING);
    if (now()->status.restore == 0) {
        ck_assert_int_eq(place(vm, h1, 4, 0), BERTH_ECONFLICT);
        ck_assert_int_eq(place(vm, h2, 4, 0), 0);
        ck_assert_uint_eq(now()->status.disk_host, 0);
        ck_assert_uint_eq(now()->status.disk_epoch, 2);
    }
    check_survives();
}
END_TEST

START_TEST(one_that_has_begun_from_it_leaves_its_disks_elsewhere)
{
    (void)placed_away_from_its_disks();
    uint64_t promised = state_host_use(state, h2).disk_bytes;

    ck_assert_int_eq(reports(vm, PHASE_RUNNING), 0);

    ck_assert_uint_eq(now()->status.disk_host, 0);
    ck_assert_uint_eq(now()->status.disk_epoch, 0);
    ck_assert_uint_lt(state_host_use(state, h2).disk_bytes, promised);
    check_survives();
}
END_TEST

START_TEST(a_keeper_may_go_while_it_begins_from_it)
{
    uint64_t snapshot = placed_away_from_its_disks();
    ck_assert_int_eq(host_phase(h2, HOST_PHASE_LOST), 0);
    struct command command;
    command_init(&command, COMMAND_HOST_VOTER);
    command.body.host_voter.host = h2;
    ck_assert_int_eq(send_command(&command), 0);
    ck_assert_int_eq(delete_object(KIND_HOST, "", "h2"), BERTH_EINUSE);

    ck_assert_int_eq(delete_host_by_force("h2"), 0);

    ck_assert_uint_eq(now()->status.disk_host, 0);
    ck_assert_uint_eq(now()->status.restore, snapshot);
    ck_assert_uint_eq(now()->status.phase, PHASE_PLACED);
    check_survives();
}
END_TEST

/* ---- a run that has begun from it, seen late ---- */

/* Its host says that it has ended, was up, and left its disks. */
static int reports_begun(enum phase phase)
{
    struct command command;
    command_init(&command, COMMAND_VM_PHASE);
    struct cmd_vm_phase *body = &command.body.vm_phase;
    body->vm = vm;
    body->host = now()->status.host;
    body->epoch = now()->status.epoch;
    body->disk_epoch = now()->status.epoch;
    body->phase = phase;
    body->begun = true;
    return send_command(&command);
}

static uint64_t pet_goes_back(void)
{
    have_pet();
    uint64_t snapshot = ready_snapshot("before");
    ck_assert_int_eq(restore_vm(vm, snapshot), 0);
    ck_assert_int_eq(reports_kept(vm, PHASE_STOPPED), 0);
    ck_assert_int_eq(place(vm, h1, 2, 0), 0);
    return snapshot;
}

static void pet_is_lost_and_found(void)
{
    ck_assert_int_eq(host_phase(h1, HOST_PHASE_LOST), 0);
    ck_assert_uint_eq(now()->status.phase, PHASE_LOST);
    ck_assert_int_eq(host_phase(h1, HOST_PHASE_READY), 0);
}

enum way { PLACED = 0, STARTING, LOST, LOST_STARTING, LOST_RESTARTING, RESTARTING, WAYS };

static void go(enum way way)
{
    if (way == STARTING || way == LOST_STARTING) {
        ck_assert_int_eq(reports(vm, PHASE_STARTING), 0);
    }
    if (way == LOST_RESTARTING || way == RESTARTING) {
        ck_assert_int_eq(evict(vm, 2, STOP_INTENT_RESTART), 0);
    }
    if (way == LOST || way == LOST_STARTING || way == LOST_RESTARTING) {
        pet_is_lost_and_found();
    }
}

/* Whatever the log knew of it: what it has written is not given up. */
START_TEST(one_that_has_begun_from_it_does_not_begin_from_it_again)
{
    uint64_t snapshot = pet_goes_back();
    go((enum way)(_i / 2));
    ck_assert_uint_eq(now()->status.restore, snapshot);

    ck_assert_int_eq(reports_begun(_i % 2 == 0 ? PHASE_FAILED : PHASE_STOPPED), 0);

    ck_assert_uint_eq(now()->status.restore, 0);
    ck_assert_uint_eq(now()->status.disk_host, h1);
    ck_assert_uint_eq(now()->status.disk_epoch, 2);
    check_survives();
}
END_TEST

/* A run up to the wish is not the snapshot's, not even one that is. */
START_TEST(one_that_is_to_go_back_once_more_does)
{
    uint64_t snapshot = pet_goes_back();
    if (_i == 1) {
        ck_assert_int_eq(reports(vm, PHASE_RUNNING), 0);
    }
    ck_assert_int_eq(restore_vm(vm, snapshot), 0);
    if (_i == 2) {
        pet_is_lost_and_found();
    }

    ck_assert_int_eq(reports_begun(PHASE_STOPPED), 0);

    ck_assert_uint_eq(now()->status.phase, PHASE_PENDING);
    ck_assert_uint_eq(now()->status.restore, snapshot);
    ck_assert_int_eq(place(vm, h1, 3, 0), 0);
    ck_assert_int_eq(reports_begun(PHASE_FAILED), 0);
    ck_assert_uint_eq(now()->status.restore, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("apply_snapshot");
    TCase *tests = tcase_create("apply_snapshot");
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, setup, fixture_stop);
    tcase_add_test(tests, one_counts_for_all_it_may_take_until_it_is_there);
    tcase_add_test(tests, a_host_that_says_more_than_it_promised_takes_what_it_promised);
    tcase_add_test(tests, how_far_it_is_is_told);
    tcase_add_test(tests, without_a_name_it_gets_the_next_number);
    tcase_add_test(tests, what_does_not_run_under_kvm_alone_has_none);
    tcase_add_test(tests, a_quota_counts_them_and_their_bytes);
    tcase_add_test(tests, a_host_promises_no_more_than_it_has);
    tcase_add_test(tests, one_that_fails_takes_nothing_and_says_why);
    tcase_add_test(tests, only_its_host_speaks_of_it_and_of_its_run);
    tcase_add_test(tests, one_that_is_deleted_goes_when_its_host_says_so);
    tcase_add_test(tests, with_a_vm_its_snapshots_go);
    tcase_add_test(tests, one_that_its_host_has_not_any_more_is_lost);
    tcase_add_test(tests, a_vm_goes_back_in_a_new_run_on_the_host_of_the_snapshot);
    tcase_add_test(tests, one_may_run_while_its_memory_is_read);
    tcase_add_test(tests, one_that_is_off_is_switched_on);
    tcase_add_test(tests, one_that_stops_goes_back_when_it_has_ended);
    tcase_add_loop_test(tests, its_user_calls_it_off, 0, 3);
    tcase_add_test(tests, one_that_could_not_begin_tries_again_until_its_user_starts_it);
    tcase_add_test(tests, a_vm_goes_back_only_to_its_own);
    tcase_add_loop_test(tests, a_snapshot_that_is_lost_holds_nobody_up, 0, 2);
    tcase_add_test(tests, a_lost_host_keeps_what_was_ready_and_loses_what_was_not);
    tcase_add_test(tests, a_drained_host_takes_nobody_back);
    tcase_add_test(tests, a_host_with_snapshots_is_removed_by_force_only);
    tcase_add_test(tests,
                   a_vm_that_still_ends_elsewhere_does_not_wait_for_one_that_is_gone);
    tcase_add_test(tests, the_run_of_before_that_is_found_again_is_not_the_snapshots);
    tcase_add_loop_test(tests, until_it_has_begun_from_it_its_disks_stay_where_they_are,
                        0, 6);
    tcase_add_test(tests, one_that_has_begun_from_it_leaves_its_disks_elsewhere);
    tcase_add_test(tests, a_keeper_may_go_while_it_begins_from_it);
    tcase_add_loop_test(tests, one_that_has_begun_from_it_does_not_begin_from_it_again, 0,
                        2 * WAYS);
    tcase_add_loop_test(tests, one_that_is_to_go_back_once_more_does, 0, 3);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
