/* Goal: what a host tells of its VMs is what is, with the reason. Method: a worker with a
 * leader that the test plays (worker_fixture.h). */
#include "support/fault_heap.h"
#include "worker_fixture.h"

/* ---- running ---- */

static void say_outdated(uint64_t term, uint32_t level)
{
    unsigned before = delivered;
    const struct msg_outdated message = {.term = term, .level = level};
    leader.level_told = 0;
    ck_assert_int_eq(link_send(rack.hosts[1].link, 1, MESSAGE_OUTDATED, &message), 0);
    RACK_WAIT(delivered > before);
}

START_TEST(the_leaders_level_is_told_and_what_others_say_of_it_is_not)
{
    start();
    RACK_WAIT(leader.level_told == LEVEL_FIRST);
    leader.acks = false;
    let_pass();
    const uint32_t unknown = level_range_up_to(0).max + 1;

    say_outdated(TERM, LEVEL_FIRST); /* it knows better */
    ck_assert_uint_eq(leader.level_told, 0);
    say_outdated(TERM - 1, unknown); /* who led before */
    ck_assert_uint_eq(leader.level_told, 0);
    say_outdated(TERM, unknown);
    ck_assert_uint_eq(leader.level_told, unknown);
    stop();
}
END_TEST

/* ---- disks from one run to the next ---- */

START_TEST(a_vm_whose_disks_are_not_here_fails_with_the_reason)
{
    struct wish wish = both;
    start();
    wish.disk_epoch = 3;
    order_both(&wish, ORDER_RUN, 4);
    RACK_WAIT(leader.phases[1] == PHASE_FAILED);
    ck_assert_str_eq(leader.reasons[1], "start VM vm-12: its disks, of epoch 3, are not "
                                        "on this host any more");
    ck_assert_uint_eq(leader.disk_epochs[1], 0);
    stop();
}
END_TEST

START_TEST(a_vm_that_cannot_be_started_is_told_with_the_reason)
{
    struct wish odd = both;
    start();
    odd.engine = ENGINE_KVM; /* not on this host */

    give(1, &odd);
    RACK_WAIT(leader.phases[1] == PHASE_FAILED);

    ck_assert_msg(strstr(leader.reasons[1], "needs native KVM") != NULL, "%s",
                  leader.reasons[1]);
    stop();
}
END_TEST

/* A file is where the folder of the networks' services has to be. */
START_TEST(a_vm_whose_network_cannot_be_made_here_fails_with_the_reason)
{
    struct wish networked = both;
    start();
    temp_dir_write(&rack.hosts[0].dir, "networks", "in the way");
    networked.networked = true;

    give(1, &networked);
    while (leader.phases[1] != PHASE_FAILED) { /* the tests' limit ends a wait in vain */
        let_pass();
        now_ms += 2000; /* the next try is due; the lease is renewed in between */
    }

    ck_assert_msg(strstr(leader.reasons[1], "cannot make the VM's network") != NULL, "%s",
                  leader.reasons[1]);
    ck_assert(is(FENCED, PHASE_READY)); /* it needs none */
    stop();
}
END_TEST

START_TEST(what_is_measured_of_vms_is_told_a_family_at_a_time)
{
    struct bytes_writer writer;
    char *text = NULL;
    start_both();
    bytes_writer_init(&writer, SIZE_MAX);

    worker_metrics(worker, &writer);

    ck_assert_int_eq(bytes_writer_take_text(&writer, &text), 0);
    ck_assert_ptr_nonnull(strstr(text, "# HELP berth_vm_state Phase of "));
    const char *states = strstr(text, "# TYPE berth_vm_state");
    const char *loads = strstr(text, "# TYPE berth_vm_cpu_ratio");
    ck_assert(states != NULL && loads > states);
    for (unsigned uid = FENCED; uid <= WAITS; uid++) {
        char line[64];
        (void)snprintf(line, sizeof(line), "berth_vm_state{vm=\"vm-%u\"", uid);
        const char *at = strstr(states, line);
        ck_assert(at != NULL && at < loads);
    }
    ck_assert_ptr_null(strstr(loads, "berth_vm_state"));
    /* What VMs have counted follows; these count nothing. */
    ck_assert_ptr_nonnull(strstr(loads, "# TYPE berth_vm_disk_read_bytes_total counter"));
    ck_assert_ptr_null(strstr(loads, "berth_vm_disk_read_bytes_total{"));
    ck_assert_ptr_nonnull(strstr(loads, "\nberth_vm_metrics_left_out 0\n"));
    free(text);
    stop();
}
END_TEST

/* ---- epochs ---- */

START_TEST(a_heartbeat_tells_which_ranges_the_host_needs_for_itself)
{
    start();
    let_pass();
    ck_assert_uint_gt(leader.own_ranges, 0);
    stop();
}
END_TEST

/* The kernel lists addresses first. */
START_TEST(of_more_ranges_than_a_heartbeat_carries_the_widest_are_told)
{
    start();
    ck_assert_int_eq(system("for i in $(seq 1 100); do "
                            "echo addr add 10.$i.0.1/32 dev lo; done | ip -batch - && "
                            "ip link add eth0 type bridge && ip link set eth0 up && "
                            "ip addr add 172.18.0.1/24 dev eth0"),
                     0);
    worker->taken_look = 0;
    worker_taken_look(worker);
    let_pass();
    ck_assert_uint_eq(leader.on_link, 1);
    stop();
}
END_TEST

static void take_range(void)
{
    ck_assert_int_eq(system("ip link add eth0 type bridge && ip link set eth0 up && "
                            "ip addr add 10.9.200.1/16 dev eth0"),
                     0);
}

START_TEST(a_network_that_was_here_before_its_range_was_taken_is_told)
{
    start();
    take_range();
    ck_assert_int_eq(system("ip link add bb7 type bridge && ip link set bb7 up && "
                            "ip addr add 10.9.0.2/24 dev bb7"),
                     0);
    worker->taken_look = 0;
    worker_taken_look(worker);
    let_pass();
    ck_assert_uint_eq(leader.on_link, 1);
    ck_assert_uint_eq(leader.carried, 7);
    stop();
}
END_TEST

/* The range is taken between two looks. */
START_TEST(a_refusal_comes_with_the_range_that_is_taken)
{
    struct wish networked = both;
    networked.networked = true;
    start();
    let_pass();
    take_range();
    worker->taken_look = WORKER_TAKEN_SAMPLES - 1;
    give(1, &networked);
    RACK_WAIT(leader.phases[1] == PHASE_FAILED);
    ck_assert_ptr_nonnull(strstr(leader.reasons[1], "this host cannot carry the VM's"));
    ck_assert_uint_eq(leader.on_link, 1);
    ck_assert_uint_eq(leader.carried, 0);
    stop();
}
END_TEST

/* How many allocations a heartbeat has to have. */
static long heartbeat_needs(void)
{
    long count = 0;
    for (bool sent = false; !sent; count += sent ? 0 : 1) {
        uint64_t sequence = worker->lease.sequence;
        fault_heap_after(count);
        worker_heartbeat(worker);
        fault_heap_off();
        sent = worker->lease.sequence != sequence;
    }
    return count;
}

START_TEST(a_heartbeat_goes_out_without_ranges_when_there_is_no_memory_for_them)
{
    start();
    let_pass();
    worker->leader = 0; /* nobody is sent to: only what is composed is looked at */
    rack.hosts[0].members.list.count = 0;
    size_t ranges = worker->taken.count;
    ck_assert_uint_gt(ranges, 0);
    long needs = heartbeat_needs();
    worker->taken.count = 0;
    ck_assert_int_eq(needs, heartbeat_needs());
    ck_assert(!FAULT_HEAP_WORKS || needs > 0);
    worker->taken.count = ranges;
    rack.hosts[0].members.list.count = 3;
    stop();
}
END_TEST

static void damage_record(uint64_t uid)
{
    char name[64];
    (void)snprintf(name, sizeof(name), "vms/%u/record.json", (unsigned)uid);
    temp_dir_write(&rack.hosts[0].dir, name, "{}");
}

START_TEST(a_vm_whose_record_is_damaged_is_told_failed_only_when_it_has_ended)
{
    start_both();
    leader.acks = true;
    pid_t pid = vm(FENCED).pid;
    worker = worker_close(worker);
    damage_record(FENCED);
    memset(leader.phases, 0, sizeof(leader.phases));

    open_worker();
    give(1, &both);
    while (leader.phases[0] != PHASE_FAILED) {
        uv_run(&rack.loop, UV_RUN_ONCE);
        ck_assert(leader.phases[0] != PHASE_FAILED || vm_process_pid_is_stopped(pid));
    }

    ck_assert_uint_eq(leader.epochs[0], 1);
    ck_assert(is(WAITS, PHASE_READY));
    stop();
}
END_TEST

/* ---- more VMs than a heartbeat has room for ---- */

/* One that could not be started, as after orders that are others by now. */
static void add_stray(uint64_t uid)
{
    struct failure *failure = calloc(1, sizeof(*failure));
    ck_assert_ptr_nonnull(failure);
    failure->epoch = 1;
    failure->phase = PHASE_FAILED;
    memset(failure->reason, 'x', sizeof(failure->reason) - 1);
    ck_assert_int_eq(u64_map_put(worker->failures, uid, failure), 0);
}

START_TEST(a_host_with_more_vms_than_it_can_tell_of_is_heard)
{
    start_both();
    for (uint64_t uid = STRAYS; uid < STRAYS + HEARTBEAT_VMS_MAX + 10; uid++) {
        add_stray(uid);
    }

    worker_heartbeat(worker); /* before a reconcile forgets some of them */

    RACK_WAIT(leader.strays > 0);
    ck_assert_uint_eq(leader.strays, HEARTBEAT_VMS_MAX - 2);
    ck_assert(is(FENCED, PHASE_READY) && is(WAITS, PHASE_READY));
    stop();
}
END_TEST

/* Nobody else knows why the host is lost then. */
START_TEST(a_heartbeat_that_cannot_be_sent_is_complained_of_now_and_then)
{
    start();
    let_pass();
    ck_assert_uint_eq(worker->unsaid_ms, 0);
    worker->config.levels.max = LEVEL_LIMIT + 1; /* the message has no room for that */

    worker_heartbeat(worker);

    uint64_t again_ms = worker->unsaid_ms;
    ck_assert_uint_gt(again_ms, now_ms);
    now_ms = again_ms - 1;
    worker_heartbeat(worker);
    ck_assert_uint_eq(worker->unsaid_ms, again_ms);
    now_ms++;
    worker_heartbeat(worker);
    ck_assert_uint_gt(worker->unsaid_ms, again_ms);
    stop();
}
END_TEST

static void add_seen(struct record_list *list, uint64_t uid, enum phase phase)
{
    struct msg_vm_seen *seen = record_list_add(&msg_vm_seen_record, list);
    ck_assert_ptr_nonnull(seen);
    seen->vm = uid;
    seen->epoch = 1;
    seen->phase = phase;
    ck_assert_int_eq(record_set_text(&seen->reason, "why"), 0);
}

START_TEST(what_is_ordered_is_told_before_what_runs_and_that_before_what_has_ended)
{
    struct record_list list = {0};
    struct u64_map *ordered = u64_map_new();
    for (uint64_t uid = 1; uid <= 4 * 500; uid++) { /* four kinds in turn */
        static const enum phase phases[] = {PHASE_FAILED, PHASE_STOPPED, PHASE_READY,
                                            PHASE_STOPPED};
        add_seen(&list, uid, phases[uid % 4]);
        if (uid % 4 == 3) {
            ck_assert_int_eq(u64_map_put(ordered, uid, &list), 0);
        }
    }

    worker_seen_cut(ordered, &list);

    unsigned kinds[4] = {0};
    ck_assert_uint_eq(list.count, HEARTBEAT_VMS_MAX);
    for (uint32_t i = 0; i < list.count; i++) {
        const struct msg_vm_seen *seen = (struct msg_vm_seen *)list.items + i;
        kinds[seen->vm % 4]++;
        record_fini(&msg_vm_seen_record, (struct msg_vm_seen *)list.items + i);
    }
    ck_assert_uint_eq(kinds[3], 500);
    ck_assert_uint_eq(kinds[2], 500);
    ck_assert_uint_eq(kinds[0] + kinds[1], HEARTBEAT_VMS_MAX - 1000);
    free(list.items);
    u64_map_free(ordered);
}
END_TEST

/* After a stop it is known from its run; the next one cannot be. */
START_TEST(a_vm_that_cannot_be_started_again_is_told_of_once)
{
    struct wish odd = both;
    start_both();
    leader.acks = true;
    order_both(&odd, ORDER_STOP, 1);
    RACK_WAIT(is(WAITS, PHASE_STOPPED));
    odd.engine = ENGINE_KVM; /* not on this host */

    order_both(&odd, ORDER_RUN, 2);

    RACK_WAIT(leader.phases[1] == PHASE_FAILED); /* the fixture looks for the other one */
    ck_assert_uint_eq(leader.epochs[1], 2);
    stop();
}
END_TEST

/* A reborn log finds them by that: they are the newest, whatever failed since. */
START_TEST(a_failed_start_tells_which_run_has_left_the_disks)
{
    struct wish odd = both;
    start_both();
    leader.acks = true;
    order_both(&odd, ORDER_STOP, 1);
    RACK_WAIT(is(WAITS, PHASE_STOPPED));
    odd.engine = ENGINE_KVM; /* not on this host */
    odd.disk_epoch = 1;

    order_both(&odd, ORDER_RUN, 2);

    RACK_WAIT(leader.phases[1] == PHASE_FAILED);
    ck_assert_uint_eq(leader.epochs[1], 2);
    ck_assert_uint_eq(leader.disk_epochs[1], 1);
    stop();
}
END_TEST

int main(int argc, char **argv)
{
    engine_fake_main(argc, argv);
    if (geteuid() != 0) {
        return test_main_skip("a network namespace of its own needs root");
    }
    Suite *suite = suite_create("worker_report");
    TCase *tests = tcase_create("worker_report");
    tcase_set_timeout(tests, 90);
    tcase_add_test(tests, the_leaders_level_is_told_and_what_others_say_of_it_is_not);
    tcase_add_test(tests, a_vm_whose_disks_are_not_here_fails_with_the_reason);
    tcase_add_test(tests, a_vm_that_cannot_be_started_is_told_with_the_reason);
    tcase_add_test(tests, what_is_measured_of_vms_is_told_a_family_at_a_time);
    tcase_add_test(tests, a_vm_whose_network_cannot_be_made_here_fails_with_the_reason);
    tcase_add_test(tests, a_heartbeat_tells_which_ranges_the_host_needs_for_itself);
    tcase_add_test(tests, of_more_ranges_than_a_heartbeat_carries_the_widest_are_told);
    tcase_add_test(tests, a_network_that_was_here_before_its_range_was_taken_is_told);
    tcase_add_test(tests, a_refusal_comes_with_the_range_that_is_taken);
    tcase_add_test(tests,
                   a_heartbeat_goes_out_without_ranges_when_there_is_no_memory_for_them);
    tcase_add_test(tests,
                   a_vm_whose_record_is_damaged_is_told_failed_only_when_it_has_ended);
    tcase_add_test(tests, a_host_with_more_vms_than_it_can_tell_of_is_heard);
    tcase_add_test(
        tests, what_is_ordered_is_told_before_what_runs_and_that_before_what_has_ended);
    tcase_add_test(tests, a_vm_that_cannot_be_started_again_is_told_of_once);
    tcase_add_test(tests, a_failed_start_tells_which_run_has_left_the_disks);
    tcase_add_test(tests, a_heartbeat_that_cannot_be_sent_is_complained_of_now_and_then);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
