/* Goal: whose disks stay where when a VM ends, and who may start it then. Method: one
 * host says in its last report that it has the disks; what follows is asked of the state.
 */
#include "support/state_fixture.h"

static uint64_t h2;
static uint64_t vm;

static const struct vm_status *status(void)
{
    const struct vm *now = state_vm(state, vm);
    ck_assert_ptr_nonnull(now);
    return &now->status;
}

static struct template *template_with_disk(const char *name)
{
    struct template *template = make_template(DEFAULT_TENANT, name, NULL);
    struct record_list disks = {0};
    struct disk_spec *disk = record_list_add(&disk_spec_record, &disks);
    ck_assert_ptr_nonnull(disk);
    set_name(disk->name, "data");
    disk->size_bytes = 1 * GIB;
    template->spec.disks.items = disks.items;
    template->spec.disks.count = disks.count;
    return template;
}

/* Ready on h2, in epoch 1. */
static void run(struct template *take_template)
{
    char name[NAME_SIZE];
    set_name(name, take_template->meta.name);
    ck_assert_int_eq(put(KIND_TEMPLATE, take_template), 0);
    ck_assert_int_eq(admit(DEFAULT_TENANT, "db", name, ""), 0);
    vm = answer.uid;
    ck_assert_int_eq(place(vm, h2, 1, 0), 0);
    ck_assert_int_eq(reports(vm, PHASE_READY), 0);
}

static void setup(void)
{
    fixture_start();
    h2 = add_host("h2", 2);
}

static void setup_ready(void)
{
    setup();
    run(template_with_disk("disk"));
}

static void stop(void)
{
    ck_assert_int_eq(set_power(vm, POWER_OFF), 0);
    ck_assert_int_eq(reports_kept(vm, PHASE_STOPPED), 0);
}

static void assert_kept_on(uint64_t host, uint64_t disk_epoch)
{
    ck_assert_uint_eq(status()->host, 0);
    ck_assert_uint_eq(status()->disk_host, host);
    ck_assert_uint_eq(status()->disk_epoch, disk_epoch);
}

/* ---- when ---- */

START_TEST(a_stopped_vm_keeps_its_disks_and_gives_cpu_and_memory_back)
{
    stop();

    const struct host_use use = state_host_use(state, h2);
    size_t cursor = 0;
    ck_assert_uint_eq(status()->phase, PHASE_STOPPED);
    assert_kept_on(h2, 1);
    ck_assert_uint_eq(use.disk_bytes, 1 * GIB);
    ck_assert_uint_eq(use.vms, 1); /* of those that its orders can name */
    ck_assert_uint_eq(use.memory_bytes, 0);
    ck_assert_uint_eq(use.cpu_mcpu, 0);
    ck_assert_ptr_eq(state_vm_kept(state, h2, &cursor), state_vm(state, vm));
    ck_assert_ptr_null(state_vm_kept(state, h2, &cursor));
    const struct tenant *tenant = FIND(KIND_TENANT, "", DEFAULT_TENANT);
    ck_assert_uint_eq(tenant->status.used.disk_bytes, 1 * GIB); /* it is still wanted */
}
END_TEST

START_TEST(a_host_that_does_not_say_so_keeps_nothing)
{
    ck_assert_int_eq(set_power(vm, POWER_OFF), 0);
    ck_assert_int_eq(reports(vm, PHASE_STOPPED), 0);
    assert_kept_on(0, 0);
    ck_assert_uint_eq(state_host_use(state, h2).disk_bytes, 0);
}
END_TEST

START_TEST(disks_of_an_epoch_to_come_are_not_believed)
{
    ck_assert_int_eq(report_disks(vm, h2, 1, PHASE_STOPPED, 1, 2), BERTH_EINVALID);
    ck_assert_uint_eq(status()->phase, PHASE_READY);
}
END_TEST

/* The end of a run, by who wanted it and how it came. */
static const struct {
    enum restart_policy policy;
    enum stop_intent intent; /* NONE: by itself */
    enum phase end;
    enum phase then;
    bool stays;
} ends[] = {
    {RESTART_ON_FAILURE, STOP_INTENT_NONE, PHASE_STOPPED, PHASE_STOPPED, true},
    {RESTART_NEVER, STOP_INTENT_NONE, PHASE_STOPPED, PHASE_STOPPED, true},
    {RESTART_ALWAYS, STOP_INTENT_NONE, PHASE_STOPPED, PHASE_STOPPED, false},
    {RESTART_ON_FAILURE, STOP_INTENT_NONE, PHASE_FAILED, PHASE_FAILED, false},
    {RESTART_NEVER, STOP_INTENT_NONE, PHASE_FAILED, PHASE_FAILED, true},
    {RESTART_ALWAYS, STOP_INTENT_STOP, PHASE_STOPPED, PHASE_STOPPED, true},
    {RESTART_ON_FAILURE, STOP_INTENT_STOP, PHASE_FAILED, PHASE_STOPPED, true},
    {RESTART_ON_FAILURE, STOP_INTENT_MOVE, PHASE_STOPPED, PHASE_PENDING, false},
    {RESTART_ON_FAILURE, STOP_INTENT_RESTART, PHASE_STOPPED, PHASE_PENDING, true},
};

START_TEST(who_ends_a_run_and_how_says_whether_its_disks_stay)
{
    struct template *template = template_with_disk("ends");
    template->spec.lifecycle.restart.policy = ends[_i].policy;
    run(template);
    if (ends[_i].intent != STOP_INTENT_NONE) {
        ck_assert_int_eq(evict(vm, 1, ends[_i].intent), 0);
    }

    ck_assert_int_eq(reports_kept(vm, ends[_i].end), 0);

    ck_assert_uint_eq(status()->phase, ends[_i].then);
    assert_kept_on(ends[_i].stays ? h2 : 0, ends[_i].stays ? 1 : 0);
}
END_TEST

START_TEST(a_vm_that_fails_keeps_them_where_its_owner_says_that_they_come_first)
{
    struct template *template = template_with_disk("loyal");
    template->spec.lifecycle.host_failure = HOST_FAILURE_WAIT;
    run(template);
    ck_assert_int_eq(reports_kept(vm, PHASE_FAILED), 0);
    assert_kept_on(h2, 1);
}
END_TEST

START_TEST(a_vm_that_is_not_started_again_keeps_them)
{
    struct template *template = template_with_disk("tired");
    template->spec.lifecycle.restart.attempts = 1;
    run(template);
    ck_assert_int_eq(reports_kept(vm, PHASE_FAILED), 0);
    assert_kept_on(0, 0);
    ck_assert_int_eq(retry(vm, 1), 0);
    ck_assert_int_eq(place(vm, h2, 2, 0), 0);
    ck_assert_int_eq(reports(vm, PHASE_RUNNING), 0);
    ck_assert_int_eq(reports_kept(vm, PHASE_FAILED), 0);
    assert_kept_on(h2, 2);
}
END_TEST

START_TEST(a_vm_that_restarts_on_a_drained_host_waits_there)
{
    ck_assert_int_eq(host_drain(h2, true), 0);
    ck_assert_int_eq(evict(vm, 1, STOP_INTENT_RESTART), 0);
    ck_assert_int_eq(reports_kept(vm, PHASE_STOPPED), 0);
    ck_assert_uint_eq(status()->phase, PHASE_PENDING);
    assert_kept_on(h2, 1);
}
END_TEST

START_TEST(a_start_on_the_way_to_a_stop_is_a_restart)
{
    ck_assert_int_eq(set_power(vm, POWER_OFF), 0);
    ck_assert_int_eq(set_power(vm, POWER_ON), 0);
    ck_assert_uint_eq(status()->intent, STOP_INTENT_RESTART);
    ck_assert_int_eq(evict(vm, 1, STOP_INTENT_MOVE), 0); /* a drain is stronger */
    ck_assert_uint_eq(status()->intent, STOP_INTENT_MOVE);
    ck_assert_int_eq(evict(vm, 1, STOP_INTENT_RESTART), 0);
    ck_assert_uint_eq(status()->intent, STOP_INTENT_MOVE);
}
END_TEST

START_TEST(who_starts_anywhere_on_the_way_to_a_restart_gives_them_up)
{
    ck_assert_int_eq(set_power(vm, POWER_OFF), 0);
    ck_assert_int_eq(set_power(vm, POWER_ON), 0);
    ck_assert_int_eq(set_power_at(vm, POWER_ON, true), 0);
    ck_assert_int_eq(reports_kept(vm, PHASE_STOPPED), 0);
    ck_assert_uint_eq(status()->phase, PHASE_PENDING);
    assert_kept_on(0, 0);
}
END_TEST

/* ---- the next start ---- */

START_TEST(a_start_is_where_the_disks_are_in_a_new_epoch)
{
    stop();
    ck_assert_int_eq(set_power(vm, POWER_ON), 0);
    ck_assert_str_eq(status()->reason,
                     "switched on by its user; its disks are on host h2");

    ck_assert_int_eq(place(vm, h1, 2, 0), BERTH_ECONFLICT);
    ck_assert_str_eq(answer.text,
                     "the disks of vm db are on host h2: it starts nowhere else");
    ck_assert_int_eq(place(vm, h2, 1, 0), BERTH_ESTALE);
    ck_assert_int_eq(place(vm, h2, 2, 0), 0);

    ck_assert_uint_eq(status()->host, h2);
    ck_assert_uint_eq(status()->epoch, 2);
    ck_assert_uint_eq(status()->disk_host, 0);
    ck_assert_uint_eq(status()->disk_epoch, 1); /* the disks that it runs with */
    ck_assert_uint_eq(state_host_use(state, h2).disk_bytes, 1 * GIB);
    ck_assert_int_eq(reports(vm, PHASE_READY), 0);
    stop();
    assert_kept_on(h2, 2);
}
END_TEST

START_TEST(disks_that_a_failed_start_never_got_to_stay)
{
    stop();
    ck_assert_int_eq(set_power(vm, POWER_ON), 0);
    ck_assert_int_eq(place(vm, h2, 2, 0), 0);

    /* Row 1: it says that it has none. That is no reason to make new ones unasked. */
    ck_assert_int_eq(report_disks(vm, h2, 2, PHASE_FAILED, 1, _i == 0 ? 1 : 0), 0);

    ck_assert_uint_eq(status()->phase, PHASE_FAILED);
    assert_kept_on(h2, 1);
    ck_assert_int_eq(retry(vm, 2), 0);
    ck_assert_uint_eq(status()->phase, PHASE_PENDING);
    assert_kept_on(h2, 1);
}
END_TEST

/* The host knows them by an earlier run than the log does. What this level has brought,
 * replicas of the one before do not do. */
START_TEST(the_log_names_disks_that_a_start_never_got_to)
{
    const uint64_t named = _i == 0 ? 1 : 2;
    if (_i == 1) {
        ck_assert_int_eq(level_at_least(LEVEL_PLACE_UNKNOWN), 0);
    }
    stop();
    ck_assert_int_eq(set_power(vm, POWER_ON), 0);
    ck_assert_int_eq(place(vm, h2, 2, 0), 0);
    ck_assert_int_eq(reports(vm, PHASE_READY), 0);
    stop();
    ck_assert_int_eq(set_power(vm, POWER_ON), 0);
    ck_assert_int_eq(place(vm, h2, 3, 0), 0);

    ck_assert_int_eq(report_disks(vm, h2, 3, PHASE_FAILED, 1, 1), 0);

    assert_kept_on(h2, named);
}
END_TEST

START_TEST(disks_are_given_up_by_who_starts_anywhere)
{
    stop();
    ck_assert_int_eq(set_power(vm, POWER_ON), 0);
    ck_assert_int_eq(set_power_at(vm, POWER_ON, true), 0); /* waiting, too */
    assert_kept_on(0, 0);
    ck_assert_uint_eq(state_host_use(state, h2).disk_bytes, 0);
    ck_assert_int_eq(place(vm, h1, 2, 0), 0);
    ck_assert_uint_eq(status()->disk_epoch, 0); /* new ones */
}
END_TEST

START_TEST(a_vm_that_is_deleted_takes_its_disks_along)
{
    stop();
    ck_assert_int_eq(delete_object(KIND_VM, DEFAULT_TENANT, "db"), 0);
    ck_assert_ptr_null(state_vm(state, vm));
    ck_assert_uint_eq(state_host_use(state, h2).disk_bytes, 0);
    ck_assert_uint_eq(state_host_use(state, h2).vms, 0);
}
END_TEST

/* ---- their host ---- */

START_TEST(a_lost_host_keeps_them_for_when_it_is_back)
{
    stop();
    ck_assert_int_eq(host_phase(h2, HOST_PHASE_LOST), 0);
    assert_kept_on(h2, 1);

    ck_assert_int_eq(set_power(vm, POWER_ON), 0);
    ck_assert_int_eq(place(vm, h1, 2, 0), BERTH_ECONFLICT);
    ck_assert_int_eq(set_power_at(vm, POWER_ON, true), 0);
    ck_assert_int_eq(place(vm, h1, 2, 0), 0);
    ck_assert_uint_eq(status()->disk_host, 0);
    ck_assert_uint_eq(status()->disk_epoch, 0);
}
END_TEST

START_TEST(a_lost_host_does_not_bind_members_of_groups)
{
    struct vm member = *state_vm(state, vm);
    stop();
    member.status.disk_host = h2;
    ck_assert_int_eq(host_phase(h2, HOST_PHASE_LOST), 0);
    ck_assert_ptr_nonnull(state_disks_bind(state, &member));
    set_name(member.spec.group, "web");
    ck_assert_ptr_null(state_disks_bind(state, &member));
    member.spec.machine.lifecycle.host_failure = HOST_FAILURE_WAIT;
    ck_assert_ptr_nonnull(state_disks_bind(state, &member));
}
END_TEST

START_TEST(a_vm_that_is_being_stopped_when_its_host_is_lost_keeps_them)
{
    ck_assert_int_eq(set_power(vm, POWER_OFF), 0);
    ck_assert_int_eq(host_phase(h2, HOST_PHASE_LOST), 0);
    ck_assert_uint_eq(status()->phase, PHASE_STOPPED);
    assert_kept_on(h2, 1);
}
END_TEST

START_TEST(a_vm_that_waits_for_its_host_waits_for_its_disks)
{
    struct template *template = template_with_disk("pet");
    template->spec.lifecycle.host_failure = HOST_FAILURE_WAIT;
    run(template);
    stop();
    ck_assert_int_eq(host_phase(h2, HOST_PHASE_LOST), 0);
    ck_assert_int_eq(set_power(vm, POWER_ON), 0);
    ck_assert_int_eq(place(vm, h1, 2, 0), BERTH_ECONFLICT);
    ck_assert_int_eq(host_phase(h2, HOST_PHASE_READY), 0);
    ck_assert_int_eq(place(vm, h2, 2, 0), 0);
}
END_TEST

START_TEST(a_host_that_keeps_disks_is_removed_by_force_only)
{
    stop();
    ck_assert_int_eq(host_drain(h2, true), 0);
    ck_assert_int_eq(delete_object(KIND_HOST, "", "h2"), BERTH_EINUSE);
    ck_assert_contains(answer.text,
                       "host h2 keeps the disks of 1 VM that is not running (vm db of "
                       "tenant default)");
    ck_assert_int_eq(host_phase(h2, HOST_PHASE_LOST), 0);
    ck_assert_int_eq(delete_object(KIND_HOST, "", "h2"), BERTH_EINUSE);

    ck_assert_int_eq(delete_host_by_force("h2"), 0);

    ck_assert_uint_eq(status()->phase, PHASE_STOPPED);
    ck_assert_str_eq(status()->reason, "host h2 was removed");
    assert_kept_on(0, 0);
}
END_TEST

START_TEST(force_removes_no_host_that_is_in_service)
{
    stop();
    ck_assert_int_eq(delete_host_by_force("h2"), BERTH_EINUSE);
    ck_assert_contains(answer.text, "drain it first");
}
END_TEST

/* ---- states of before and after ---- */

START_TEST(kept_disks_survive_a_snapshot)
{
    uint8_t *data = NULL;
    size_t size = 0;
    struct err err;
    stop();
    uint64_t hash = state_hash(state);
    ck_assert_int_eq(state_encode(state, &data, &size), 0);

    ck_assert_int_eq(state_decode(state, data, size, &err), 0);

    free(data);
    ck_assert_uint_eq(state_hash(state), hash);
    assert_kept_on(h2, 1);
    ck_assert_uint_eq(state_host_use(state, h2).disk_bytes, 1 * GIB);
    ck_assert_int_eq(set_power(vm, POWER_ON), 0);
    ck_assert_int_eq(place(vm, h2, 2, 0), 0);
}
END_TEST

/* A release that knew nothing of kept disks wrote no such fields: nor does this one where
 * there are none, so that states of both hash alike. */
START_TEST(a_vm_without_kept_disks_is_written_as_ever)
{
    struct bytes_writer with;
    struct bytes_writer without;
    bytes_writer_init(&with, COMMAND_SIZE_MAX);
    bytes_writer_init(&without, COMMAND_SIZE_MAX);
    record_encode(&vm_status_record, status(), &without);
    stop();
    ck_assert_int_eq(set_power_at(vm, POWER_ON, true), 0);
    ck_assert_int_eq(place(vm, h2, 2, 0), 0);
    ck_assert_int_eq(reports(vm, PHASE_READY), 0);
    struct vm_status again = *status();
    again.epoch = 1; /* all that differs */
    record_encode(&vm_status_record, &again, &with);
    ck_assert_uint_eq(with.size, without.size);
    bytes_writer_fini(&with);
    bytes_writer_fini(&without);
}
END_TEST

static Suite *suite(void)
{
    Suite *made = suite_create("disks_kept");
    TCase *ready = tcase_create("ready");
    TCase *own = tcase_create("own");
    tcase_add_checked_fixture(ready, setup_ready, fixture_stop);
    tcase_add_checked_fixture(own, setup, fixture_stop);
    tcase_add_test(ready, a_stopped_vm_keeps_its_disks_and_gives_cpu_and_memory_back);
    tcase_add_test(ready, a_host_that_does_not_say_so_keeps_nothing);
    tcase_add_test(ready, disks_of_an_epoch_to_come_are_not_believed);
    tcase_add_loop_test(own, who_ends_a_run_and_how_says_whether_its_disks_stay, 0,
                        (int)(sizeof(ends) / sizeof(ends[0])));
    tcase_add_test(own,
                   a_vm_that_fails_keeps_them_where_its_owner_says_that_they_come_first);
    tcase_add_test(own, a_vm_that_is_not_started_again_keeps_them);
    tcase_add_test(ready, a_vm_that_restarts_on_a_drained_host_waits_there);
    tcase_add_test(ready, a_start_on_the_way_to_a_stop_is_a_restart);
    tcase_add_test(ready, who_starts_anywhere_on_the_way_to_a_restart_gives_them_up);
    tcase_add_test(ready, a_start_is_where_the_disks_are_in_a_new_epoch);
    tcase_add_loop_test(ready, disks_that_a_failed_start_never_got_to_stay, 0, 2);
    tcase_add_loop_test(ready, the_log_names_disks_that_a_start_never_got_to, 0, 2);
    tcase_add_test(ready, disks_are_given_up_by_who_starts_anywhere);
    tcase_add_test(ready, a_vm_that_is_deleted_takes_its_disks_along);
    tcase_add_test(ready, a_lost_host_keeps_them_for_when_it_is_back);
    tcase_add_test(ready, a_lost_host_does_not_bind_members_of_groups);
    tcase_add_test(ready, a_vm_that_is_being_stopped_when_its_host_is_lost_keeps_them);
    tcase_add_test(own, a_vm_that_waits_for_its_host_waits_for_its_disks);
    tcase_add_test(ready, a_host_that_keeps_disks_is_removed_by_force_only);
    tcase_add_test(ready, force_removes_no_host_that_is_in_service);
    tcase_add_test(ready, kept_disks_survive_a_snapshot);
    tcase_add_test(ready, a_vm_without_kept_disks_is_written_as_ever);
    suite_add_tcase(made, ready);
    suite_add_tcase(made, own);
    return made;
}

int main(void)
{
    return test_main_run(suite());
}
