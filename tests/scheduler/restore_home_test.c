/* Goal: a VM that goes back to a snapshot starts on its host and nowhere else, or waits
 * and says for what; what snapshots take is not promised to VMs. Method: hosts of 1 GiB
 * of memory and 10 of disk; steps of the whole scheduler, every command applied. */
#include "base/json.h"
#include "scheduler_fixture.h"

static uint64_t h2;
static uint64_t vm;
static enum host_failure host_failure;
static json_t *answered;

static void put_saved(uint64_t disk_bytes)
{
    struct template *template = make_template(DEFAULT_TENANT, "saved", NULL);
    struct record_list disks = {0};
    struct disk_spec *disk = record_list_add(&disk_spec_record, &disks);
    ck_assert_ptr_nonnull(disk);
    set_name(disk->name, "data");
    disk->size_bytes = disk_bytes;
    template->spec.disks.items = disks.items;
    template->spec.disks.count = disks.count;
    template->spec.memory.size_bytes = 512 * MIB;
    template->spec.lifecycle.host_failure = host_failure;
    ck_assert_int_eq(put(KIND_TEMPLATE, template), 0);
}

/* db ran on h2, where its snapshot is, and runs on h1 now. */
static uint64_t saved_on_h2(void)
{
    put_saved(1 * GIB);
    ck_assert_int_eq(host_drain(h1, true), 0);
    vm = admit_one("db", "saved");
    settle_all();
    ck_assert_uint_eq(host_of_vm("db"), h2);
    ck_assert_int_eq(reports_run(vm, PHASE_READY, ENGINE_KVM, false, "seen"), 0);
    ck_assert_int_eq(make_snapshot(vm, "before"), 0);
    uint64_t snapshot = answer.uid;
    ck_assert_int_eq(step_snapshot(snapshot, SNAPSHOT_READY, 1 * GIB), 0);
    ck_assert_int_eq(host_drain(h1, false), 0);
    ck_assert_int_eq(evict(vm, vm_named("db")->status.epoch, STOP_INTENT_MOVE), 0);
    ck_assert_int_eq(host_drain(h2, true), 0);
    settle_all();
    ck_assert_uint_eq(host_of_vm("db"), h1);
    ck_assert_int_eq(host_drain(h2, false), 0);
    return snapshot;
}

static const char *summary(void)
{
    json_decref(answered);
    answered = scheduler_explain_vm(scheduler, state, vm_named("db"), NULL);
    ck_assert_ptr_nonnull(answered);
    return json_member_text(answered, "summary", "");
}

START_TEST(a_vm_that_goes_back_starts_where_its_snapshot_is)
{
    uint64_t snapshot = saved_on_h2();
    uint64_t epoch = vm_named("db")->status.epoch;

    ck_assert_int_eq(restore_vm(vm, snapshot), 0);
    settle_all();

    ck_assert_uint_eq(host_of_vm("db"), h2);
    ck_assert_uint_eq(vm_named("db")->status.epoch, epoch + 1);
    ck_assert_uint_eq(vm_named("db")->status.phase, PHASE_READY);
    ck_assert_uint_eq(vm_named("db")->status.restore, 0);
}
END_TEST

START_TEST(one_whose_host_is_full_waits_and_says_so)
{
    uint64_t snapshot = saved_on_h2();
    put_machine("large", 1, 768 * MIB, NULL);
    (void)admit_one("large", "large");
    settle_all();
    ck_assert_uint_eq(host_of_vm("large"), h2);

    ck_assert_int_eq(restore_vm(vm, snapshot), 0);
    settle_all();

    ck_assert_uint_eq(vm_named("db")->status.phase, PHASE_PENDING);
    ck_assert_contains(summary(), "its snapshot is on h2, which does not take it now");
    ck_assert_contains(summary(), "berth start db --anywhere");
    ck_assert_int_eq(set_power_at(vm, POWER_ON, true), 0);
    settle_all();
    ck_assert_uint_eq(host_of_vm("db"), h1);
}
END_TEST

/* Its disks are on h1; on h2 it began nothing. The disks that it leaves are none of h2.
 */
START_TEST(lost_before_it_began_there_it_goes_back_to_its_disks_as_is_told)
{
    static const char starts[] = "and it starts on h1 with its disks";
    static const char stays[] = "berth start db then starts it on h1 with its disks";
    host_failure = HOST_FAILURE_WAIT;
    uint64_t snapshot = saved_on_h2();
    ck_assert_int_eq(restore_vm(vm, snapshot), 0);
    ck_assert_int_eq(reports_kept(vm, PHASE_STOPPED), 0);
    ck_assert_int_eq(place(vm, h2, vm_named("db")->status.epoch + 1, 0), 0);
    ck_assert_uint_eq(vm_named("db")->status.disk_host, h1);
    ck_assert_int_eq(host_phase(h2, HOST_PHASE_LOST), 0);
    ck_assert_uint_eq(vm_named("db")->status.phase, PHASE_LOST);
    ck_assert_contains(summary(), starts);
    ck_assert_int_eq(set_power(vm, POWER_OFF), 0);
    ck_assert_contains(summary(), stays);
    ck_assert_int_eq(set_power(vm, POWER_ON), 0);

    silent_host = h2;
    ck_assert_int_eq(delete_host_by_force("h2"), BERTH_EPHASE);
    ck_assert_int_eq(delete_host_surely_off_at("h2", true), 0);
    settle_all();

    ck_assert_uint_eq(host_of_vm("db"), h1);
    ck_assert_uint_ne(vm_named("db")->status.disk_epoch, 0); /* those, no new ones */
}
END_TEST

START_TEST(what_snapshots_take_is_not_promised_to_vms)
{
    (void)saved_on_h2(); /* 1 of the 10 GiB of h2, and db's disk on h1 */
    put_saved(10 * GIB);
    (void)admit_one("other", "saved");
    settle_all();

    ck_assert_uint_eq(vm_named("other")->status.phase, PHASE_PENDING);
    ck_assert_int_eq(delete_object(KIND_SNAPSHOT, DEFAULT_TENANT, "before"), 0);
    const struct snapshot *gone = FIND(KIND_SNAPSHOT, DEFAULT_TENANT, "before");
    ck_assert_int_eq(step_snapshot(gone->meta.uid, SNAPSHOT_LOST, 0), 0);
    settle_all();
    ck_assert_uint_eq(host_of_vm("other"), h2);
}
END_TEST

static void setup(void)
{
    host_failure = HOST_FAILURE_RESTART;
    cluster_start();
    h2 = make_host("h2", 2, 4000, 1 * GIB);
    hear_all();
    ck_assert_int_eq(raise_level(LEVEL_SNAPSHOTS), 0);
    answered = NULL;
}

static void teardown(void)
{
    json_decref(answered);
    cluster_stop();
}

int main(void)
{
    Suite *suite = suite_create("restore_home");
    TCase *tests = tcase_create("restore_home");
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, a_vm_that_goes_back_starts_where_its_snapshot_is);
    tcase_add_test(tests, one_whose_host_is_full_waits_and_says_so);
    tcase_add_test(tests,
                   lost_before_it_began_there_it_goes_back_to_its_disks_as_is_told);
    tcase_add_test(tests, what_snapshots_take_is_not_promised_to_vms);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
