#include "support/state_fixture.h"

static uint64_t h2;

static void setup(void)
{
    fixture_start();
    h2 = add_host("h2", 2);
    ck_assert_int_eq(network_host(front, h2, ADDRESS(3)), 0);
    fixture_trail[0] = '\0';
}

static void put_waiting_template(void)
{
    struct template *template = make_template(DEFAULT_TENANT, "pet", NULL);
    template->spec.lifecycle.host_failure = HOST_FAILURE_WAIT;
    ck_assert_int_eq(put(KIND_TEMPLATE, template), 0);
}

/* A VM that waits for its host, ready on h2, which is then lost. */
static uint64_t lose_waiting_vm(void)
{
    put_waiting_template();
    ck_assert_int_eq(admit(DEFAULT_TENANT, "pet", "pet", ""), 0);
    uint64_t vm = answer.uid;
    ck_assert_int_eq(place(vm, h2, 1, 0), 0);
    ck_assert_int_eq(reports(vm, PHASE_READY), 0);
    ck_assert_int_eq(host_phase(h2, HOST_PHASE_LOST), 0);
    fixture_trail[0] = '\0';
    return vm;
}

static const struct vm_status *status(uint64_t vm)
{
    const struct vm *now = state_vm(state, vm);
    ck_assert_ptr_nonnull(now);
    return &now->status;
}

/* ---- place ---- */

START_TEST(a_pending_vm_is_placed_with_the_next_epoch)
{
    ck_assert_int_eq(admit(DEFAULT_TENANT, "web-1", "web", ""), 0);
    uint64_t vm = answer.uid;

    ck_assert_int_eq(place(vm, h1, 1, ADDRESS(10)), 0);

    ck_assert_uint_eq(status(vm)->phase, PHASE_PLACED);
    ck_assert_uint_eq(status(vm)->host, h1);
    ck_assert_uint_eq(status(vm)->epoch, 1);
    ck_assert_uint_eq(status(vm)->nics.items[0].ipv4, ADDRESS(10));
    ck_assert_uint_eq(status(vm)->placed_wall_ms, fixture_wall_ms);
    ck_assert_str_eq(status(vm)->reason, "most room");
    ck_assert_str_eq(fixture_trail, "web-1:pending web-1:placed ");
}
END_TEST

START_TEST(a_wrong_epoch_does_not_place)
{
    uint64_t vm = admit_plain("a");
    ck_assert_int_eq(place(vm, h1, 2, 0), BERTH_ESTALE);
    ck_assert_int_eq(place(vm, h1, 1, 0), 0);
    ck_assert_int_eq(place(vm, h2, 1, 0), BERTH_ESTALE);
    ck_assert_int_eq(place(vm, h2, 2, 0), BERTH_EPHASE);
    ck_assert_uint_eq(status(vm)->host, h1);
}
END_TEST

START_TEST(a_vm_is_not_placed_on_a_host_that_takes_none)
{
    uint64_t vm = admit_plain("a");
    ck_assert_int_eq(place(vm, 999, 1, 0), BERTH_ENOTFOUND);
    ck_assert_int_eq(host_drain(h2, true), 0);
    ck_assert_int_eq(place(vm, h2, 1, 0), BERTH_EPHASE);
    ck_assert_contains(answer.text, "drained");
    ck_assert_int_eq(host_drain(h2, false), 0);
    ck_assert_int_eq(host_phase(h2, HOST_PHASE_SUSPECT), 0);
    ck_assert_int_eq(place(vm, h2, 1, 0), BERTH_EPHASE);
    ck_assert_contains(answer.text, "suspect");
    ck_assert_int_eq(host_phase(h2, HOST_PHASE_LOST), 0);
    ck_assert_int_eq(place(vm, h2, 1, 0), BERTH_EPHASE);
    ck_assert_uint_eq(status(vm)->phase, PHASE_PENDING);
}
END_TEST

START_TEST(a_host_promises_no_more_memory_than_it_has)
{
    char name[16];
    for (int i = 0; i < 8; i++) { /* 8 x 128 MiB is the whole GiB */
        snprintf(name, sizeof(name), "a%d", i);
        ck_assert_int_eq(place(admit_plain(name), h1, 1, 0), 0);
    }
    ck_assert_uint_eq(state_host_use(state, h1).memory_bytes, 1 * GIB);

    uint64_t vm = admit_plain("b");
    ck_assert_int_eq(place(vm, h1, 1, 0), BERTH_ENOCAPACITY);
    ck_assert_str_eq(answer.text,
                     "host h1: memory 1GiB of 1GiB in use, vm b needs 128MiB more");

    ck_assert_int_eq(reports(vm_named("a0")->meta.uid, PHASE_STOPPED), 0);
    ck_assert_int_eq(place(vm, h1, 1, 0), 0);
}
END_TEST

START_TEST(an_address_is_given_once)
{
    ck_assert_int_eq(admit(DEFAULT_TENANT, "w1", "web", ""), 0);
    uint64_t w1 = answer.uid;
    ck_assert_int_eq(admit(DEFAULT_TENANT, "w2", "web", ""), 0);
    uint64_t w2 = answer.uid;
    ck_assert_int_eq(place(w1, h1, 1, ADDRESS(10)), 0);

    ck_assert_int_eq(place(w2, h1, 1, ADDRESS(10)), BERTH_ECONFLICT);
    ck_assert_contains(answer.text, "10.0.0.10");
    ck_assert_int_eq(place(w2, h1, 1, ADDRESS(0)), BERTH_ECONFLICT);   /* the network */
    ck_assert_int_eq(place(w2, h1, 1, ADDRESS(1)), BERTH_ECONFLICT);   /* the gateway */
    ck_assert_int_eq(place(w2, h1, 1, ADDRESS(2)), BERTH_ECONFLICT);   /* host h1 */
    ck_assert_int_eq(place(w2, h1, 1, ADDRESS(255)), BERTH_ECONFLICT); /* broadcast */
    ck_assert_int_eq(place(w2, h1, 1, ADDRESS(300)), BERTH_EINVALID);
    ck_assert_int_eq(place(w2, h1, 1, 0), BERTH_EINVALID); /* it has none yet */
    ck_assert_int_eq(place(w2, h1, 1, ADDRESS(11)), 0);
}
END_TEST

START_TEST(two_nics_of_a_vm_have_two_addresses)
{
    struct template *template = make_template(DEFAULT_TENANT, "dual", "front");
    struct record_list list = {.items = template->spec.nics.items,
                               .count = template->spec.nics.count};
    struct nic_spec *nic = record_list_add(&nic_spec_record, &list);
    ck_assert_ptr_nonnull(nic);
    set_name(nic->name, "eth1");
    set_name(nic->network, "front");
    template->spec.nics.items = list.items;
    template->spec.nics.count = list.count;
    ck_assert_int_eq(put(KIND_TEMPLATE, template), 0);
    ck_assert_int_eq(admit(DEFAULT_TENANT, "d", "dual", ""), 0);
    uint64_t vm = answer.uid;

    for (unsigned attempt = 0; attempt < 2; attempt++) {
        struct command command;
        command_init(&command, COMMAND_PLACE_VM);
        struct cmd_place_vm *body = &command.body.place_vm;
        body->vm = vm;
        body->host = h1;
        body->epoch = 1;
        list = (struct record_list){0};
        for (uint32_t i = 0; i < 2; i++) {
            struct cmd_address *address = record_list_add(&cmd_address_record, &list);
            ck_assert_ptr_nonnull(address);
            address->ipv4 = ADDRESS(10 + attempt * i); /* first the same twice */
        }
        body->addresses.items = list.items;
        body->addresses.count = list.count;
        ck_assert_int_eq(send_command(&command), attempt == 0 ? BERTH_ECONFLICT : 0);
    }
    ck_assert_uint_eq(status(vm)->nics.items[1].ipv4, ADDRESS(11));
}
END_TEST

START_TEST(an_address_is_kept_over_placements_and_free_after_deletion)
{
    ck_assert_int_eq(admit(DEFAULT_TENANT, "w1", "web", ""), 0);
    uint64_t vm = answer.uid;
    ck_assert_int_eq(place(vm, h1, 1, ADDRESS(10)), 0);
    ck_assert_int_eq(evict(vm, 1, STOP_INTENT_MOVE), 0);
    ck_assert_int_eq(reports(vm, PHASE_STOPPED), 0);
    ck_assert_int_eq(place(vm, h2, 2, ADDRESS(20)), BERTH_ECONFLICT);
    ck_assert_int_eq(place(vm, h2, 2, 0), 0);
    ck_assert_uint_eq(status(vm)->nics.items[0].ipv4, ADDRESS(10));
    ck_assert(state_address_used(state, state_network(state, front), ADDRESS(10)));

    ck_assert_int_eq(evict(vm, 2, STOP_INTENT_DELETE), 0);
    ck_assert_int_eq(reports(vm, PHASE_STOPPED), 0);

    ck_assert_ptr_null(state_vm(state, vm));
    ck_assert(!state_address_used(state, state_network(state, front), ADDRESS(10)));
}
END_TEST

START_TEST(a_network_must_be_on_the_host_first)
{
    ck_assert_int_eq(network_host(front, h2, 0), 0);
    ck_assert_int_eq(admit(DEFAULT_TENANT, "w1", "web", ""), 0);
    ck_assert_int_eq(place(answer.uid, h2, 1, ADDRESS(10)), BERTH_ECONFLICT);
    ck_assert_contains(answer.text, "front");
}
END_TEST

/* ---- reports ---- */

START_TEST(the_boot_timeline_is_stamped_by_the_hosts_clock)
{
    uint64_t vm = admit_plain("a");
    ck_assert_int_eq(place(vm, h1, 1, 0), 0);
    ck_assert_int_eq(report(vm, h1, 1, PHASE_STARTING, 5001), 0);
    ck_assert_int_eq(report(vm, h1, 1, PHASE_RUNNING, 5002), 0);
    ck_assert_int_eq(report(vm, h1, 1, PHASE_READY, 5003), 0);
    ck_assert_uint_eq(status(vm)->pending_wall_ms, fixture_wall_ms);
    ck_assert_uint_eq(status(vm)->starting_wall_ms, 5001);
    ck_assert_uint_eq(status(vm)->running_wall_ms, 5002);
    ck_assert_uint_eq(status(vm)->ready_wall_ms, 5003);
    ck_assert_str_eq(fixture_trail, "a:pending a:placed a:starting a:running a:ready ");
}
END_TEST

START_TEST(only_the_owner_in_its_epoch_is_believed)
{
    uint64_t vm = ready_vm("a", h1);
    ck_assert_int_eq(report(vm, h2, 1, PHASE_FAILED, 0), BERTH_ESTALE);
    ck_assert_int_eq(report(vm, h1, 2, PHASE_FAILED, 0), BERTH_ESTALE);
    ck_assert_int_eq(report(999, h1, 1, PHASE_FAILED, 0), BERTH_ENOTFOUND);
    ck_assert_uint_eq(status(vm)->phase, PHASE_READY);
}
END_TEST

START_TEST(a_host_cannot_decide_what_is_the_clusters_to_decide)
{
    static const enum phase phases[] = {PHASE_PENDING, PHASE_PLACED, PHASE_MIGRATING,
                                        PHASE_LOST};
    uint64_t vm = ready_vm("a", h1);
    ck_assert_int_eq(reports(vm, phases[_i]), BERTH_EPHASE);
    ck_assert_uint_eq(status(vm)->phase, PHASE_READY);
}
END_TEST

START_TEST(a_report_of_what_is_known_changes_nothing)
{
    uint64_t vm = ready_vm("a", h1);
    uint64_t revision = state_revision(state);
    ck_assert_int_eq(reports(vm, PHASE_READY), 0);
    ck_assert_uint_eq(state_revision(state), revision);
    ck_assert_str_eq(fixture_trail, "");
}
END_TEST

/* The host reports the phase that the VM is in, with a reason. */
static void says(uint64_t vm, const char *reason)
{
    struct command command;
    const struct vm *now = state_vm(state, vm);
    command_init(&command, COMMAND_VM_PHASE);
    command.body.vm_phase.vm = vm;
    command.body.vm_phase.host = now->status.host;
    command.body.vm_phase.epoch = now->status.epoch;
    command.body.vm_phase.phase = now->status.phase;
    set_text(&command.body.vm_phase.reason, reason);
    ck_assert_int_eq(send_command(&command), 0);
}

START_TEST(a_vm_that_goes_on_says_its_news_once)
{
    uint64_t vm = ready_vm("a", h1);
    uint64_t ready_wall_ms = state_vm(state, vm)->status.ready_wall_ms;

    says(vm, "the guest reset itself 2 times in a row");
    ck_assert_str_eq(fixture_trail, "a:ready ");
    ck_assert_str_eq(state_vm(state, vm)->status.reason,
                     "the guest reset itself 2 times in a row");
    ck_assert_uint_eq(state_vm(state, vm)->status.ready_wall_ms, ready_wall_ms);

    says(vm, "the guest reset itself 2 times in a row");
    says(vm, "");
    ck_assert_str_eq(fixture_trail, "a:ready ");

    ck_assert_int_eq(reports(vm, PHASE_RUNNING), 0);
    says(vm, "paused: the host's disk is full");
    ck_assert_str_eq(fixture_trail, "a:ready a:running a:running ");
    ck_assert_str_eq(state_vm(state, vm)->status.reason,
                     "paused: the host's disk is full");
}
END_TEST

START_TEST(a_vm_that_only_starts_has_no_news)
{
    uint64_t vm = admit_plain("a");
    ck_assert_int_eq(place(vm, h1, 1, 0), 0);
    ck_assert_int_eq(reports(vm, PHASE_STARTING), 0);
    fixture_trail[0] = '\0';

    says(vm, "another");

    ck_assert_str_eq(fixture_trail, "");
    ck_assert_str_eq(state_vm(state, vm)->status.reason, "seen");
}
END_TEST

START_TEST(a_late_report_does_not_undo_a_stop)
{
    uint64_t vm = ready_vm("a", h1);
    ck_assert_int_eq(evict(vm, 1, STOP_INTENT_STOP), 0);
    ck_assert_int_eq(reports(vm, PHASE_RUNNING), BERTH_EPHASE);
    ck_assert_uint_eq(status(vm)->phase, PHASE_STOPPING);
}
END_TEST

START_TEST(back_off_doubles_up_to_its_maximum)
{
    static const uint64_t waits[] = {5000,  10000,  20000,  40000,
                                     80000, 160000, 300000, 300000};
    uint64_t vm = admit_plain("a");
    for (unsigned i = 0; i < sizeof(waits) / sizeof(waits[0]); i++) {
        ck_assert_int_eq(place(vm, h1, i + 1, 0), 0);
        ck_assert_int_eq(reports(vm, PHASE_FAILED), 0);
        ck_assert_uint_eq(status(vm)->restarts, i + 1);
        ck_assert_uint_eq(status(vm)->retry_wall_ms, fixture_wall_ms + waits[i]);
        ck_assert_uint_eq(status(vm)->host, 0);
        ck_assert_int_eq(retry(vm, i + 1), 0);
        ck_assert_uint_eq(status(vm)->phase, PHASE_PENDING);
    }
}
END_TEST

START_TEST(ten_ready_minutes_forgive_earlier_restarts)
{
    uint64_t vm = admit_plain("a");
    ck_assert_int_eq(place(vm, h1, 1, 0), 0);
    ck_assert_int_eq(reports(vm, PHASE_FAILED), 0);
    ck_assert_int_eq(retry(vm, 1), 0);
    ck_assert_int_eq(place(vm, h1, 2, 0), 0);
    ck_assert_int_eq(reports(vm, PHASE_READY), 0);
    fixture_wall_ms += 599999;
    ck_assert_int_eq(reports(vm, PHASE_FAILED), 0);
    ck_assert_uint_eq(status(vm)->restarts, 2);

    ck_assert_int_eq(retry(vm, 2), 0);
    ck_assert_int_eq(place(vm, h1, 3, 0), 0);
    ck_assert_int_eq(reports(vm, PHASE_READY), 0);
    fixture_wall_ms += 600000;
    ck_assert_int_eq(reports(vm, PHASE_FAILED), 0);
    ck_assert_uint_eq(status(vm)->restarts, 1);
    ck_assert_uint_eq(status(vm)->retry_wall_ms, fixture_wall_ms + 5000);
}
END_TEST

START_TEST(a_retry_needs_the_epoch_and_an_ended_vm)
{
    uint64_t vm = ready_vm("a", h1);
    ck_assert_int_eq(retry(vm, 1), BERTH_EPHASE);
    ck_assert_int_eq(reports(vm, PHASE_STOPPED), 0);
    ck_assert_int_eq(retry(vm, 2), BERTH_ESTALE);
    ck_assert_int_eq(retry(vm, 1), 0);
    ck_assert_uint_eq(status(vm)->phase, PHASE_PENDING);
    ck_assert_uint_eq(status(vm)->epoch, 1);
}
END_TEST

/* ---- the way out ---- */

START_TEST(a_stopped_vm_stays_off)
{
    uint64_t vm = ready_vm("a", h1);
    ck_assert_int_eq(evict(vm, 1, STOP_INTENT_STOP), 0);
    ck_assert_int_eq(reports(vm, PHASE_STOPPED), 0);
    ck_assert_str_eq(fixture_trail, "a:stopping a:stopped ");
    ck_assert_uint_eq(state_vm(state, vm)->spec.power, POWER_OFF);
    ck_assert_uint_eq(status(vm)->host, 0);
    ck_assert_uint_eq(status(vm)->intent, STOP_INTENT_NONE);
    ck_assert_uint_eq(status(vm)->retry_wall_ms, 0);
    ck_assert_int_eq(retry(vm, 1), BERTH_EPHASE);
    ck_assert_int_eq(place(vm, h1, 2, 0), BERTH_EPHASE);
    ck_assert_uint_eq(state_host_use(state, h1).memory_bytes, 0);
}
END_TEST

START_TEST(a_moved_vm_is_pending_again_in_its_epoch)
{
    uint64_t vm = ready_vm("a", h1);
    ck_assert_int_eq(evict(vm, 1, STOP_INTENT_MOVE), 0);
    ck_assert_int_eq(reports(vm, PHASE_FAILED), 0); /* killed: it is gone all the same */
    ck_assert_str_eq(fixture_trail, "a:stopping a:stopped a:pending ");
    ck_assert_uint_eq(status(vm)->epoch, 1);
    ck_assert_uint_eq(status(vm)->host, 0);
    ck_assert_uint_eq(status(vm)->running_wall_ms, 0);
    ck_assert_int_eq(place(vm, h2, 2, 0), 0);
}
END_TEST

START_TEST(a_deleted_vm_goes_when_it_has_stopped_and_gives_its_quota_back)
{
    uint64_t vm = ready_vm("a", h1);
    const struct tenant *tenant = FIND(KIND_TENANT, "", DEFAULT_TENANT);
    ck_assert_uint_eq(tenant->status.used.vms, 1);
    ck_assert_int_eq(delete_object(KIND_VM, DEFAULT_TENANT, "a"), 0);
    ck_assert_uint_eq(status(vm)->phase, PHASE_STOPPING);
    ck_assert_uint_eq(tenant->status.used.vms, 1);
    ck_assert_int_eq(reports(vm, PHASE_STOPPED), 0);
    ck_assert_ptr_null(state_vm(state, vm));
    tenant = FIND(KIND_TENANT, "", DEFAULT_TENANT);
    ck_assert_uint_eq(tenant->status.used.vms, 0);
    ck_assert_uint_eq(tenant->status.used.memory_bytes, 0);
    ck_assert_uint_eq(tenant->status.used.cpu_mcpu, 0);
    ck_assert_str_eq(fixture_trail, "a:stopping a:deleted ");
}
END_TEST

START_TEST(a_vm_that_is_nowhere_ends_at_once)
{
    uint64_t a = admit_plain("a");
    ck_assert_int_eq(evict(a, 0, STOP_INTENT_STOP), 0);
    ck_assert_uint_eq(status(a)->phase, PHASE_STOPPED);
    uint64_t b = admit_plain("b");
    ck_assert_int_eq(evict(b, 0, STOP_INTENT_MOVE), 0);
    ck_assert_uint_eq(status(b)->phase, PHASE_PENDING);
    ck_assert_int_eq(evict(b, 0, STOP_INTENT_DELETE), 0);
    ck_assert_ptr_null(state_vm(state, b));
    ck_assert_int_eq(evict(a, 1, STOP_INTENT_DELETE), BERTH_ESTALE);
}
END_TEST

START_TEST(a_running_vm_is_labelled_and_goes_on)
{
    uint64_t vm = ready_vm("a", h1);
    struct vm_status before = state_vm(state, vm)->status;
    ck_assert_int_eq(change_vm(vm, POWER_ON, "app", "web"), 0);
    ck_assert_str_eq(label_value(&state_vm(state, vm)->meta.labels, "app"), "web");
    ck_assert(record_equal(&vm_status_record, &before, &state_vm(state, vm)->status));
    uint64_t revision = state_revision(state);
    ck_assert_int_eq(change_vm(vm, POWER_ON, "app", "web"), 0);
    ck_assert_uint_eq(state_revision(state), revision);        /* nothing has changed */
    ck_assert_int_eq(change_vm(vm, POWER_ON, "zone", "b"), 0); /* beside the first */
    ck_assert_str_eq(label_value(&state_vm(state, vm)->meta.labels, "app"), "web");
    ck_assert_int_eq(change_vm(vm, POWER_ON, "zone", NULL), 0); /* taken away */
    ck_assert_ptr_null(label_value(&state_vm(state, vm)->meta.labels, "zone"));
    ck_assert_int_eq(change_vm(vm, POWER_OFF, NULL, NULL), 0);
    ck_assert_uint_eq(state_vm(state, vm)->meta.labels.count, 1);
    ck_assert_int_eq(state_vm(state, vm)->status.phase, PHASE_STOPPING);
    ck_assert_int_eq(evict(vm, 1, STOP_INTENT_DELETE), 0);
    ck_assert_int_eq(change_vm(vm, POWER_ON, "app", "web"), BERTH_EPHASE);
    ck_assert_int_eq(change_vm(4711, POWER_ON, "app", "web"), BERTH_ENOTFOUND);
}
END_TEST

START_TEST(the_stronger_wish_wins_while_a_vm_stops)
{
    uint64_t vm = ready_vm("a", h1);
    ck_assert_int_eq(evict(vm, 1, STOP_INTENT_MOVE), 0);
    ck_assert_int_eq(evict(vm, 1, STOP_INTENT_STOP), 0);
    ck_assert_uint_eq(status(vm)->intent, STOP_INTENT_STOP);
    ck_assert_int_eq(evict(vm, 1, STOP_INTENT_DELETE), 0);
    ck_assert_int_eq(evict(vm, 1, STOP_INTENT_STOP), 0);
    ck_assert_uint_eq(status(vm)->intent, STOP_INTENT_DELETE);
    ck_assert_int_eq(set_power(vm, POWER_ON), BERTH_EPHASE);
}
END_TEST

START_TEST(power_goes_off_and_on)
{
    uint64_t vm = ready_vm("a", h1);
    ck_assert_int_eq(set_power(vm, POWER_OFF), 0);
    ck_assert_uint_eq(status(vm)->phase, PHASE_STOPPING);
    ck_assert_int_eq(set_power(vm, POWER_ON), 0); /* it is to restart, then */
    ck_assert_int_eq(reports(vm, PHASE_STOPPED), 0);
    ck_assert_uint_eq(status(vm)->phase, PHASE_PENDING);
    ck_assert_int_eq(set_power(vm, POWER_OFF), 0);
    ck_assert_uint_eq(status(vm)->phase, PHASE_STOPPED);
    ck_assert_int_eq(set_power(vm, POWER_ON), 0);
    ck_assert_uint_eq(status(vm)->phase, PHASE_PENDING);
    ck_assert_uint_eq(state_vm(state, vm)->spec.power, POWER_ON);
}
END_TEST

/* ---- lost hosts ---- */

START_TEST(a_lost_host_sends_its_vms_elsewhere)
{
    uint64_t a = ready_vm("a", h2);
    uint64_t b = ready_vm("b", h2);
    uint64_t c = ready_vm("c", h1);
    fixture_trail[0] = '\0';
    ck_assert_int_eq(host_phase(h2, HOST_PHASE_LOST), 0);
    ck_assert_str_eq(fixture_trail, "a:lost a:pending b:lost b:pending ");
    ck_assert_uint_eq(status(a)->host, 0);
    ck_assert_uint_eq(status(a)->epoch, 1);
    ck_assert_str_eq(status(b)->reason, "host h2 was lost");
    ck_assert_uint_eq(status(c)->phase, PHASE_READY);

    ck_assert_int_eq(report(a, h2, 1, PHASE_READY, 0), BERTH_ESTALE);
    ck_assert_int_eq(place(a, h1, 2, 0), 0);
    ck_assert_int_eq(report(a, h2, 1, PHASE_READY, 0), BERTH_ESTALE);
}
END_TEST

START_TEST(decisions_made_before_a_loss_are_carried_out_by_it)
{
    uint64_t off = ready_vm("off", h2);
    uint64_t gone = ready_vm("gone", h2);
    ck_assert_int_eq(evict(off, 1, STOP_INTENT_STOP), 0);
    ck_assert_int_eq(evict(gone, 1, STOP_INTENT_DELETE), 0);
    ck_assert_int_eq(host_phase(h2, HOST_PHASE_LOST), 0);
    ck_assert_uint_eq(status(off)->phase, PHASE_STOPPED);
    ck_assert_uint_eq(state_vm(state, off)->spec.power, POWER_OFF);
    ck_assert_ptr_null(state_vm(state, gone));
}
END_TEST

START_TEST(a_vm_that_waits_for_its_host_is_started_nowhere_else)
{
    uint64_t vm = lose_waiting_vm();
    ck_assert_uint_eq(status(vm)->phase, PHASE_LOST);
    ck_assert_uint_eq(status(vm)->host, h2);
    ck_assert_int_eq(place(vm, h1, 2, 0), BERTH_EPHASE);
    ck_assert_int_eq(retry(vm, 1), BERTH_EPHASE);
    ck_assert_int_eq(evict(vm, 1, STOP_INTENT_MOVE), BERTH_EPHASE);
    ck_assert_contains(answer.text, "h2");
    ck_assert_int_eq(set_power(vm, POWER_OFF), 0);
    ck_assert_uint_eq(status(vm)->phase, PHASE_LOST);
    ck_assert_int_eq(set_power(vm, POWER_ON), 0);
    ck_assert_uint_eq(status(vm)->phase, PHASE_LOST);
    ck_assert_uint_eq(status(vm)->intent, STOP_INTENT_NONE);
}
END_TEST

START_TEST(a_vm_that_waited_is_found_running_when_its_host_is_back)
{
    uint64_t vm = lose_waiting_vm();
    ck_assert_int_eq(reports(vm, PHASE_RUNNING), BERTH_EPHASE); /* not before it joined */
    fixture_subject = "host:h2";
    ck_assert_int_eq(join("h2", 2, 0), 0);
    ck_assert_uint_eq(answer.uid, h2);
    ck_assert_int_eq(reports(vm, PHASE_READY), 0);
    ck_assert_uint_eq(status(vm)->phase, PHASE_READY);
    ck_assert_uint_eq(status(vm)->epoch, 1);
}
END_TEST

START_TEST(a_vm_switched_off_while_lost_stops_when_it_is_found)
{
    uint64_t vm = lose_waiting_vm();
    ck_assert_int_eq(set_power(vm, POWER_OFF), 0);
    ck_assert_int_eq(host_phase(h2, HOST_PHASE_READY), 0);
    ck_assert_int_eq(reports(vm, PHASE_RUNNING), 0);
    ck_assert_uint_eq(status(vm)->phase, PHASE_STOPPING);
    ck_assert_int_eq(reports(vm, PHASE_STOPPED), 0);
    ck_assert_uint_eq(status(vm)->phase, PHASE_STOPPED);
}
END_TEST

/* Its host had stopped it already, or finds it running; below the level it stayed off. */
START_TEST(a_lost_vm_that_was_stopped_and_is_switched_on_starts)
{
    bool stopped = _i == 0;
    ck_assert_int_eq(level_at_least(LEVEL_LOST_RESTARTS), 0);
    uint64_t vm = lose_waiting_vm();
    ck_assert_int_eq(set_power(vm, POWER_OFF), 0);
    ck_assert_int_eq(set_power(vm, POWER_ON), 0);
    ck_assert_uint_eq(status(vm)->intent, STOP_INTENT_RESTART);
    ck_assert_int_eq(host_phase(h2, HOST_PHASE_READY), 0);
    if (!stopped) {
        ck_assert_int_eq(reports(vm, PHASE_RUNNING), 0);
        ck_assert_uint_eq(status(vm)->phase, PHASE_STOPPING);
    }
    ck_assert_int_eq(reports(vm, PHASE_STOPPED), 0);
    ck_assert_uint_eq(status(vm)->phase, PHASE_PENDING);
    ck_assert_int_eq(place(vm, h2, 2, 0), 0);
}
END_TEST

START_TEST(removing_the_lost_host_frees_the_vms_that_waited)
{
    uint64_t vm = lose_waiting_vm();
    ck_assert_int_eq(delete_object(KIND_HOST, "", "h2"), 0);
    ck_assert_uint_eq(status(vm)->phase, PHASE_PENDING);
    ck_assert_uint_eq(status(vm)->host, 0);
    ck_assert_str_eq(status(vm)->reason, "host h2 was removed");
    ck_assert_int_eq(place(vm, h1, 2, 0), 0);
}
END_TEST

START_TEST(a_lost_vm_can_be_deleted)
{
    uint64_t vm = lose_waiting_vm();
    ck_assert_int_eq(delete_object(KIND_VM, DEFAULT_TENANT, "pet"), 0);
    ck_assert_ptr_null(state_vm(state, vm));
    ck_assert_int_eq(delete_object(KIND_HOST, "", "h2"), 0);
}
END_TEST

/* ---- migration ---- */

START_TEST(a_migration_hands_the_vm_over_in_the_log)
{
    uint64_t vm = ready_vm("a", h1);
    ck_assert_int_eq(migrate(COMMAND_MIGRATE_PREPARE, vm, 1, h2), 0);
    ck_assert_uint_eq(status(vm)->phase, PHASE_MIGRATING);
    ck_assert_uint_eq(status(vm)->host, h1);
    ck_assert_uint_eq(status(vm)->target, h2);
    ck_assert_uint_eq(status(vm)->epoch, 1);
    ck_assert_uint_eq(state_host_use(state, h2).memory_bytes, 128 * MIB);
    ck_assert_int_eq(report(vm, h2, 1, PHASE_RUNNING, 0), BERTH_ESTALE);
    ck_assert_int_eq(report(vm, h1, 1, PHASE_RUNNING, 0), BERTH_EPHASE);

    ck_assert_int_eq(migrate(COMMAND_MIGRATE_SWITCH, vm, 1, 0), 0);
    ck_assert_uint_eq(status(vm)->host, h2);
    ck_assert_uint_eq(status(vm)->target, 0);
    ck_assert_uint_eq(status(vm)->epoch, 2);
    ck_assert_uint_eq(state_host_use(state, h1).memory_bytes, 0);
    ck_assert_uint_eq(state_host_use(state, h2).memory_bytes, 128 * MIB);

    /* The source may never act again. */
    ck_assert_int_eq(report(vm, h1, 1, PHASE_RUNNING, 0), BERTH_ESTALE);
    ck_assert_int_eq(migrate(COMMAND_MIGRATE_ABORT, vm, 1, 0), BERTH_ESTALE);
    ck_assert_int_eq(migrate(COMMAND_MIGRATE_ABORT, vm, 2, 0), BERTH_EPHASE);
    ck_assert_int_eq(migrate(COMMAND_MIGRATE_SWITCH, vm, 1, 0), BERTH_ESTALE);
    ck_assert_int_eq(migrate(COMMAND_MIGRATE_SWITCH, vm, 2, 0), BERTH_EPHASE);

    ck_assert_int_eq(migrate(COMMAND_MIGRATE_COMMIT, vm, 2, 0), 0);
    ck_assert_uint_eq(status(vm)->phase, PHASE_RUNNING);
}
END_TEST

START_TEST(an_aborted_migration_lets_the_source_go_on)
{
    uint64_t vm = ready_vm("a", h1);
    ck_assert_int_eq(migrate(COMMAND_MIGRATE_PREPARE, vm, 1, h2), 0);
    ck_assert_int_eq(migrate(COMMAND_MIGRATE_COMMIT, vm, 1, 0), BERTH_EPHASE);
    ck_assert_int_eq(migrate(COMMAND_MIGRATE_ABORT, vm, 1, 0), 0);
    ck_assert_uint_eq(status(vm)->phase, PHASE_RUNNING);
    ck_assert_uint_eq(status(vm)->host, h1);
    ck_assert_uint_eq(status(vm)->epoch, 1);
    ck_assert_uint_eq(state_host_use(state, h2).memory_bytes, 0);
    ck_assert_int_eq(migrate(COMMAND_MIGRATE_SWITCH, vm, 1, 0), BERTH_EPHASE);
}
END_TEST

START_TEST(a_migration_needs_a_running_vm_and_another_ready_host)
{
    uint64_t pending = admit_plain("p");
    ck_assert_int_eq(migrate(COMMAND_MIGRATE_PREPARE, pending, 0, h2), BERTH_EPHASE);
    uint64_t vm = ready_vm("a", h1);
    ck_assert_int_eq(migrate(COMMAND_MIGRATE_PREPARE, vm, 1, h1), BERTH_EINVALID);
    ck_assert_int_eq(migrate(COMMAND_MIGRATE_PREPARE, vm, 1, 77), BERTH_ENOTFOUND);
    ck_assert_int_eq(host_drain(h2, true), 0);
    ck_assert_int_eq(migrate(COMMAND_MIGRATE_PREPARE, vm, 1, h2), BERTH_EPHASE);
    ck_assert_int_eq(evict(vm, 1, STOP_INTENT_STOP), 0);
    ck_assert_int_eq(migrate(COMMAND_MIGRATE_PREPARE, vm, 1, h2), BERTH_EPHASE);
}
END_TEST

START_TEST(a_lost_target_ends_the_migration_and_a_lost_source_the_run)
{
    uint64_t vm = ready_vm("a", h1);
    ck_assert_int_eq(migrate(COMMAND_MIGRATE_PREPARE, vm, 1, h2), 0);
    ck_assert_int_eq(host_phase(h2, HOST_PHASE_LOST), 0);
    ck_assert_uint_eq(status(vm)->phase, PHASE_RUNNING);
    ck_assert_uint_eq(status(vm)->target, 0);
    ck_assert_int_eq(migrate(COMMAND_MIGRATE_SWITCH, vm, 1, 0), BERTH_EPHASE);

    ck_assert_int_eq(host_phase(h2, HOST_PHASE_READY), 0);
    ck_assert_int_eq(migrate(COMMAND_MIGRATE_PREPARE, vm, 1, h2), 0);
    ck_assert_int_eq(host_phase(h1, HOST_PHASE_LOST), 0);
    ck_assert_uint_eq(status(vm)->phase, PHASE_PENDING);
    ck_assert_uint_eq(status(vm)->target, 0);
    ck_assert_uint_eq(state_host_use(state, h2).memory_bytes, 0);
}
END_TEST

START_TEST(an_eviction_calls_a_migration_off)
{
    uint64_t vm = ready_vm("a", h1);
    ck_assert_int_eq(migrate(COMMAND_MIGRATE_PREPARE, vm, 1, h2), 0);
    ck_assert_int_eq(evict(vm, 1, STOP_INTENT_STOP), 0);
    ck_assert_uint_eq(status(vm)->phase, PHASE_STOPPING);
    ck_assert_uint_eq(status(vm)->target, 0);
    ck_assert_uint_eq(state_host_use(state, h2).memory_bytes, 0);
    ck_assert_int_eq(migrate(COMMAND_MIGRATE_SWITCH, vm, 1, 0), BERTH_EPHASE);
    ck_assert_uint_eq(status(vm)->host, h1);
}
END_TEST

START_TEST(a_vm_that_ends_while_it_is_copied_has_ended)
{
    uint64_t vm = ready_vm("a", h1);
    ck_assert_int_eq(migrate(COMMAND_MIGRATE_PREPARE, vm, 1, h2), 0);
    ck_assert_int_eq(reports(vm, PHASE_FAILED), 0);
    ck_assert_uint_eq(status(vm)->target, 0);
    ck_assert_uint_eq(state_host_use(state, h2).memory_bytes, 0);
    ck_assert_int_eq(migrate(COMMAND_MIGRATE_SWITCH, vm, 1, 0), BERTH_EPHASE);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("apply_vm");
    TCase *tests = tcase_create("apply_vm");
    tcase_add_checked_fixture(tests, setup, fixture_stop);
    tcase_add_test(tests, a_pending_vm_is_placed_with_the_next_epoch);
    tcase_add_test(tests, a_wrong_epoch_does_not_place);
    tcase_add_test(tests, a_vm_is_not_placed_on_a_host_that_takes_none);
    tcase_add_test(tests, a_host_promises_no_more_memory_than_it_has);
    tcase_add_test(tests, an_address_is_given_once);
    tcase_add_test(tests, two_nics_of_a_vm_have_two_addresses);
    tcase_add_test(tests, an_address_is_kept_over_placements_and_free_after_deletion);
    tcase_add_test(tests, a_network_must_be_on_the_host_first);
    tcase_add_test(tests, the_boot_timeline_is_stamped_by_the_hosts_clock);
    tcase_add_test(tests, only_the_owner_in_its_epoch_is_believed);
    tcase_add_loop_test(tests, a_host_cannot_decide_what_is_the_clusters_to_decide, 0, 4);
    tcase_add_test(tests, a_report_of_what_is_known_changes_nothing);
    tcase_add_test(tests, a_vm_that_goes_on_says_its_news_once);
    tcase_add_test(tests, a_vm_that_only_starts_has_no_news);
    tcase_add_test(tests, a_late_report_does_not_undo_a_stop);
    tcase_add_test(tests, back_off_doubles_up_to_its_maximum);
    tcase_add_test(tests, ten_ready_minutes_forgive_earlier_restarts);
    tcase_add_test(tests, a_retry_needs_the_epoch_and_an_ended_vm);
    tcase_add_test(tests, a_stopped_vm_stays_off);
    tcase_add_test(tests, a_moved_vm_is_pending_again_in_its_epoch);
    tcase_add_test(tests, a_deleted_vm_goes_when_it_has_stopped_and_gives_its_quota_back);
    tcase_add_test(tests, a_vm_that_is_nowhere_ends_at_once);
    tcase_add_test(tests, a_running_vm_is_labelled_and_goes_on);
    tcase_add_test(tests, the_stronger_wish_wins_while_a_vm_stops);
    tcase_add_test(tests, power_goes_off_and_on);
    tcase_add_test(tests, a_lost_host_sends_its_vms_elsewhere);
    tcase_add_test(tests, decisions_made_before_a_loss_are_carried_out_by_it);
    tcase_add_test(tests, a_vm_that_waits_for_its_host_is_started_nowhere_else);
    tcase_add_test(tests, a_vm_that_waited_is_found_running_when_its_host_is_back);
    tcase_add_test(tests, a_vm_switched_off_while_lost_stops_when_it_is_found);
    tcase_add_loop_test(tests, a_lost_vm_that_was_stopped_and_is_switched_on_starts, 0,
                        2);
    tcase_add_test(tests, removing_the_lost_host_frees_the_vms_that_waited);
    tcase_add_test(tests, a_lost_vm_can_be_deleted);
    tcase_add_test(tests, a_migration_hands_the_vm_over_in_the_log);
    tcase_add_test(tests, an_aborted_migration_lets_the_source_go_on);
    tcase_add_test(tests, a_migration_needs_a_running_vm_and_another_ready_host);
    tcase_add_test(tests, a_lost_target_ends_the_migration_and_a_lost_source_the_run);
    tcase_add_test(tests, an_eviction_calls_a_migration_off);
    tcase_add_test(tests, a_vm_that_ends_while_it_is_copied_has_ended);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
