/* Goal: a VM says where it goes, where it is, or what it waits for, in many words and in
 * few, and that costs no more looks than it has to. Method: small clusters in which that
 * is so, the whole text compared. The rules one by one are in explain_rules_test.c,
 * groups in explain_groups_test.c. */
#include "explain_fixture.h"

/* ---- VMs ---- */

START_TEST(a_pending_vm_is_told_where_it_goes)
{
    (void)make_host("h2", 2, 4000, 4 * GIB);
    hear_all();
    (void)admit_plain("a");
    explain("a");

    ck_assert_str_eq(text("subject"), "vm/a");
    ck_assert_str_eq(text("summary"),
                     "a is pending: it goes to h1 next. It needs cpu 1, memory 128MiB.");
    ck_assert_str_eq(said("h1", "reason"), "best place for the next one");
    ck_assert_str_eq(said("h2", "verdict"), "fits");
    ck_assert_str_eq(said("h2", "reason"), "");
    ck_assert_uint_eq(json_member_u64(answered, "revision", 0), state_revision(state));
}
END_TEST

START_TEST(a_pending_vm_counts_its_refusals_by_rule)
{
    uint64_t h2 = make_host("h2", 2, 4000, 4 * GIB);
    (void)make_host("h3", 3, 4000, 64 * MIB);
    ck_assert_int_eq(host_drain(h2, true), 0);
    hear_all();
    put_machine("large", 1, 2 * GIB, NULL);
    (void)admit_one("a", "large");
    explain("a");

    ck_assert_str_eq(text("summary"),
                     "a is pending: no host takes it (3 hosts: 2 memory, 1 "
                     "drain). It needs cpu 1, memory 2GiB.");
}
END_TEST

START_TEST(a_pending_vm_says_in_a_few_words_what_it_lacks)
{
    uint64_t h2 = make_host("h2", 2, 4000, 4 * GIB);
    (void)make_host("h3", 3, 4000, 64 * MIB);
    hear_all();
    put_machine("large", 1, 200 * GIB, NULL);
    (void)admit_one("a", "large");
    (void)admit_plain("b");
    ck_assert_str_eq(waits("a"), "no host: 3 of 3 lack memory");
    ck_assert_str_eq(waits("b"), ""); /* it goes somewhere */

    ck_assert_int_eq(host_drain(h2, true), 0);
    ck_assert_str_eq(waits("a"), "no host: 2 of 3 lack memory, 1 of 3 is drained");
}
END_TEST

START_TEST(a_vm_that_runs_is_shown_on_its_host)
{
    (void)make_host("h2", 2, 4000, 4 * GIB);
    hear_all();
    (void)ready_vm("a", h1);
    explain("a");

    ck_assert_str_eq(text("summary"),
                     "a is ready on h1 (epoch 1): seen. It needs cpu 1, memory 128MiB.");
    ck_assert_str_eq(said("h1", "verdict"), "here");
    ck_assert_str_eq(said("h2", "verdict"), "fits");

    known_wait = "image linux is nowhere";
    explain("a");
    ck_assert_str_eq(text("summary"),
                     "a is ready on h1 (epoch 1): image linux is nowhere. "
                     "It needs cpu 1, memory 128MiB.");
}
END_TEST

static void put_restart(enum restart_policy policy, uint32_t attempts)
{
    struct template *template = make_template(DEFAULT_TENANT, "r", NULL);
    template->spec.lifecycle.restart.policy = policy;
    template->spec.lifecycle.restart.attempts = attempts;
    ck_assert_int_eq(put(KIND_TEMPLATE, template), 0);
}

static const struct {
    enum restart_policy policy;
    uint32_t attempts;
    enum phase end;
    bool off;
    const char *said;
} ended[] = {
    {RESTART_ON_FAILURE, 10, PHASE_FAILED, false, "restart 1 of 10 is due at 00:16:45"},
    {RESTART_ON_FAILURE, 0, PHASE_FAILED, false,
     "0 restarts in a row are over: berth start a"},
    {RESTART_ON_FAILURE, 10, PHASE_STOPPED, false,
     "restart.policy on-failure leaves it so: berth start a"},
    {RESTART_NEVER, 10, PHASE_FAILED, false,
     "restart.policy never leaves it so: berth start a"},
    {RESTART_ALWAYS, 10, PHASE_STOPPED, true, "it is switched off: berth start a"},
};

START_TEST(a_vm_that_has_ended_says_what_comes_next)
{
    put_restart(ended[_i].policy, ended[_i].attempts);
    uint64_t vm = admit_one("a", "r");
    settle_all();
    ck_assert_int_eq(reports(vm, ended[_i].end), 0);
    if (ended[_i].off) {
        ck_assert_int_eq(set_power(vm, POWER_OFF), 0);
    }
    explain("a");
    ck_assert_contains(text("summary"), ended[_i].said);
}
END_TEST

/* ---- in a few words ---- */

/* Placements that were worked out to say why `vm` waits. */
static unsigned looks_for(const char *vm, bool *ret_waits, char *ret_text, size_t size)
{
    unsigned looks = 5;
    *ret_waits =
        scheduler_pending_reason(scheduler, state, vm_named(vm), &looks, ret_text, size);
    return 5 - looks;
}

START_TEST(vms_of_one_kind_share_a_look_until_something_changes)
{
    char text[256];
    bool none = false;
    put_machine("huge", 1, 2 * GIB, NULL);
    (void)admit_one("a", "huge");
    (void)admit_one("b", "huge");
    ck_assert_uint_eq(looks_for("a", &none, text, sizeof(text)), 1);
    ck_assert_uint_eq(looks_for("b", &none, text, sizeof(text)), 0);
    ck_assert(none);
    ck_assert_str_eq(text, "no host: 1 of 1 lacks memory");
    hear(h1); /* its disk may be full now */
    ck_assert_uint_eq(looks_for("b", &none, text, sizeof(text)), 1);
    ck_assert_uint_eq(looks_for("a", &none, text, sizeof(text)), 0);
    (void)make_host("h2", 2, 4000, 4 * GIB);
    hear_all();
    ck_assert_uint_eq(looks_for("a", &none, text, sizeof(text)), 1);
    ck_assert_uint_eq(looks_for("b", &none, text, sizeof(text)), 0);
    ck_assert(!none); /* they go there next */
    ck_assert_str_eq(text, "");
}
END_TEST

START_TEST(with_no_look_left_it_says_who_knows)
{
    char text[256];
    unsigned looks = 0;
    put_machine("huge", 1, 2 * GIB, NULL);
    (void)admit_one("a", "huge");
    (void)admit_plain("c");
    ck_assert(scheduler_pending_reason(scheduler, state, vm_named("a"), &looks, text,
                                       sizeof(text)));
    ck_assert_str_eq(text, "berth explain vm/a says why");
    ck_assert_uint_eq(looks, 0);
    settle();
    ck_assert(!scheduler_pending_reason(scheduler, state, vm_named("c"), &looks, text,
                                        sizeof(text))); /* it does not wait */
    ck_assert_str_eq(text, "");
}
END_TEST

/* The change feed tells of VMs by copies, which go. */
START_TEST(an_older_copy_of_a_vm_is_looked_at_as_it_is_now)
{
    char text[256];
    unsigned looks = 5;
    put_machine("huge", 1, 2 * GIB, NULL);
    (void)admit_one("a", "huge");
    (void)admit_plain("c");
    struct vm *old = object_new(KIND_VM);
    old->meta.uid = vm_named("a")->meta.uid;
    ck_assert(
        scheduler_pending_reason(scheduler, state, old, &looks, text, sizeof(text)));
    ck_assert_str_eq(text, "no host: 1 of 1 lacks memory");
    old->meta.uid = vm_named("c")->meta.uid;
    settle();
    ck_assert(
        !scheduler_pending_reason(scheduler, state, old, &looks, text, sizeof(text)));
    old->meta.uid = 4711;
    ck_assert(
        !scheduler_pending_reason(scheduler, state, old, &looks, text, sizeof(text)));
    object_free(KIND_VM, old);
}
END_TEST

/* ---- texts that are no UTF-8, or are cut within a character ---- */

START_TEST(foreign_bytes_do_not_cost_a_row)
{
    char long_reason[240];
    for (size_t i = 0; i + 2 < sizeof(long_reason); i += 2) {
        memcpy(long_reason + i, "\xc3\xa4", 2); /* ä; "drained: \"" shifts the cut */
    }
    long_reason[sizeof(long_reason) - 2] = '\0';
    struct command command;
    command_init(&command, COMMAND_HOST_DRAIN);
    command.body.host_drain.host = h1;
    command.body.host_drain.drain = true;
    char odd[256];
    (void)snprintf(odd, sizeof(odd), "x%s", long_reason);
    set_text(&command.body.host_drain.reason, odd);
    ck_assert_int_eq(send_command(&command), 0);
    uint64_t vm = admit_plain("a");
    explain("a");
    ck_assert_ptr_nonnull(strstr(said("h1", "reason"), "drained: \"x\xc3\xa4"));

    ck_assert_int_eq(host_drain(h1, false), 0);
    ck_assert_int_eq(place(vm, h1, 1, 0), 0);
    command_init(&command, COMMAND_VM_PHASE);
    command.body.vm_phase.vm = vm;
    command.body.vm_phase.host = h1;
    command.body.vm_phase.epoch = 1;
    command.body.vm_phase.phase = PHASE_FAILED;
    set_text(&command.body.vm_phase.reason, "panic: \xff\xfe at boot");
    ck_assert_int_eq(send_command(&command), 0);
    explain("a");
    ck_assert_contains(text("summary"), "panic: ?? at boot");
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("explain");
    Suite *suite = suite_create("explain");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_set_timeout(tests, 100);
    suite_add_tcase(suite, tests);
    tcase_add_test(tests, vms_of_one_kind_share_a_look_until_something_changes);
    tcase_add_test(tests, with_no_look_left_it_says_who_knows);
    tcase_add_test(tests, an_older_copy_of_a_vm_is_looked_at_as_it_is_now);
    tcase_add_test(tests, a_pending_vm_is_told_where_it_goes);
    tcase_add_test(tests, a_pending_vm_counts_its_refusals_by_rule);
    tcase_add_test(tests, a_pending_vm_says_in_a_few_words_what_it_lacks);
    tcase_add_test(tests, a_vm_that_runs_is_shown_on_its_host);
    tcase_add_loop_test(tests, a_vm_that_has_ended_says_what_comes_next, 0,
                        sizeof(ended) / sizeof(ended[0]));
    tcase_add_test(tests, foreign_bytes_do_not_cost_a_row);
    return test_main_run(suite);
}
