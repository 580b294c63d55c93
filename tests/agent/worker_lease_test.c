/* Goal: what may run elsewhere runs here only while the lease allows it. Method: a worker
 * with a leader that the test plays, the test's own clock, and a disk that may
 * be slow or fail (worker_fixture.h). */
#include "worker_fixture.h"

#include <signal.h>
#include <stdatomic.h>
#include <sys/syscall.h>

/* What the worker has made durable of its lease. */
static struct {
    unsigned count;
    bool fails; /* the disk */
    char text[128];
    /* A slow disk: it waits at the gate for a byte. */
    bool gated;
    int gate[2];
    atomic_uint at_gate;
    atomic_uint on_loop; /* came there on the loop's thread, which must not wait */
} synced;

static void gate_close(void)
{
    ck_assert_int_eq(pipe2(synced.gate, O_CLOEXEC), 0);
    synced.gated = true;
}

static void gate_open(void)
{
    synced.gated = false;
    ck_assert_int_eq(close(synced.gate[1]), 0);
}

static void gate_pass(void)
{
    char byte;
    if (!synced.gated) {
        return;
    }
    if (gettid() == getpid()) {
        synced.on_loop++;
        return;
    }
    synced.at_gate++;
    ck_assert_int_eq(read(synced.gate[0], &byte, 1), 0); /* its other end is closed */
    synced.at_gate--;
}

/* In place of the C library's. */
int fdatasync(int fd)
{
    gate_pass();
    if (worker != NULL && fd == worker->lease_fd) {
        memset(synced.text, 0, sizeof(synced.text));
        ck_assert_int_gt(pread(fd, synced.text, sizeof(synced.text) - 1, 0), 0);
        synced.count++;
        if (synced.fails) {
            errno = EIO;
            return -1;
        }
    }
    return (int)syscall(SYS_fdatasync, fd);
}

/* ---- the lease ---- */

START_TEST(silence_freezes_and_then_ends_what_may_run_elsewhere)
{
    start_both();
    pid_t pid = vm(FENCED).pid;

    now_ms += PAUSE_MS - 1;
    let_pass();
    ck_assert(!vm(FENCED).frozen);

    now_ms += 1;
    RACK_WAIT(vm(FENCED).frozen && vm_process_pid_is_stopped(pid));
    ck_assert(!vm(WAITS).frozen && !vm_process_pid_is_stopped(vm(WAITS).pid));

    now_ms += KILL_MS - PAUSE_MS - 1;
    let_pass();
    ck_assert_int_eq(kill(pid, 0), 0);

    now_ms += 1;
    RACK_WAIT(is(FENCED, PHASE_FAILED));
    ck_assert_int_eq(kill(pid, 0), -1);
    ck_assert_ptr_nonnull(strstr(vm(FENCED).reason, "its lease ended"));
    ck_assert(is(WAITS, PHASE_READY));
    RACK_WAIT(leader.phases[0] == PHASE_FAILED);
    stop();
}
END_TEST

START_TEST(a_renewed_lease_lets_frozen_vms_go_on)
{
    start_both();
    pid_t pid = vm(FENCED).pid;
    now_ms += PAUSE_MS;
    RACK_WAIT(vm_process_pid_is_stopped(pid));

    leader.acks = true;
    RACK_WAIT(!vm(FENCED).frozen && !vm_process_pid_is_stopped(pid));

    ck_assert(is(FENCED, PHASE_READY));
    stop();
}
END_TEST

START_TEST(a_lease_counts_from_when_the_heartbeat_was_sent)
{
    start_both();
    uint64_t early = leader.sequence; /* sent before the silence */
    now_ms += PAUSE_MS;
    RACK_WAIT(vm(FENCED).frozen);

    ack(early);
    give(1, &both); /* behind it */
    let_pass();

    ck_assert(vm(FENCED).frozen);
    stop();
}
END_TEST

START_TEST(an_ack_for_another_start_of_the_daemon_renews_nothing)
{
    start_both();
    now_ms += PAUSE_MS;
    RACK_WAIT(vm(FENCED).frozen);
    let_pass();

    leader.boot++;
    ack(leader.sequence);
    give(1, &both);
    let_pass();

    ck_assert(vm(FENCED).frozen);
    stop();
}
END_TEST

START_TEST(a_restarted_worker_goes_on_with_its_vms_and_its_lease)
{
    start_both();
    pid_t pid = vm(FENCED).pid;

    worker = worker_close(worker);
    now_ms += PAUSE_MS - 1;
    open_worker();
    let_pass();
    ck_assert(vm(FENCED).adopted && vm(FENCED).pid == pid && !vm(FENCED).frozen);

    worker = worker_close(worker);
    now_ms += KILL_MS;
    open_worker();
    RACK_WAIT(is(FENCED, PHASE_FAILED));
    ck_assert(vm_process_pid_is_stopped(pid)); /* ended; not ours to reap any more */
    ck_assert(vm(WAITS).pid != 0 && kill(vm(WAITS).pid, 0) == 0);
    stop();
}
END_TEST

/* So that they are counted again: the record of a run does not say. */
START_TEST(what_a_vm_has_that_was_taken_over_is_known_by_its_order)
{
    struct wish networked = both;
    char path[64];
    networked.networked = true;
    start();
    give(1, &networked);
    RACK_WAIT(is(FENCED, PHASE_READY) && is(WAITS, PHASE_READY));
    (void)snprintf(path, sizeof(path), "vms/%u/devices", WAITS);
    ck_assert_ptr_null(temp_dir_read(&rack.hosts[0].dir, path)); /* it began with them */

    restart();
    ck_assert(vm(WAITS).devices_due);
    give(1, &networked);
    RACK_WAIT(!vm(WAITS).devices_due && !vm(FENCED).devices_due);
    let_pass();

    char tap[IFNAMSIZ];
    char want[64];
    network_tap_name(WAITS, 0, tap);
    (void)snprintf(want, sizeof(want), "disk data\nnic %s\n", tap);
    char *text = temp_dir_read(&rack.hosts[0].dir, path);
    ck_assert_str_eq(text, want); /* once */
    free(text);
    stop();
}
END_TEST

START_TEST(a_restarted_worker_obeys_no_earlier_leader)
{
    struct wish old = {.term = TERM - 1, .revision = 100};
    start_both();
    if (_i == 1) { /* a newer leader was heard of by its orders alone */
        struct wish newer = both;
        newer.term = TERM + 1;
        give(1, &newer);
        old.term = TERM;
    }
    pid_t pid = vm(FENCED).pid;

    restart();
    uint64_t taken = leader.taken; /* none: it has just begun */
    give(1, &old);
    let_pass();

    ck_assert_uint_eq(leader.taken, taken);
    ck_assert(!vm_process_pid_is_stopped(pid));
    ck_assert_int_eq(vm(FENCED).pid, pid);
    stop();
}
END_TEST

START_TEST(a_damaged_lease_counts_as_over)
{
    start_both();
    pid_t pid = vm(FENCED).pid;
    char *text = temp_dir_read(&rack.hosts[0].dir, "lease");
    ck_assert_ptr_nonnull(text);
    text[50] = text[50] == '0' ? '1' : '0'; /* a digit of the grant */

    worker = worker_close(worker);
    temp_dir_write(&rack.hosts[0].dir, "lease", text);
    open_worker();
    RACK_WAIT(is(FENCED, PHASE_FAILED));

    ck_assert(vm_process_pid_is_stopped(pid));
    free(text);
    stop();
}
END_TEST

/* The file could not be written or is lost, but the fence was told of the grant. */
START_TEST(a_lease_that_only_the_fence_knows_keeps_what_runs_and_starts_nothing)
{
    start_both();
    pid_t pid = vm(FENCED).pid;
    uint64_t granted_ns = lease_granted_ns(&worker->lease);
    worker = worker_close(worker);
    temp_dir_write(&rack.hosts[0].dir, "lease", "");
    open_worker();

    worker_lease_find(worker, granted_ns);

    let_pass();
    worker_lease_check(worker);
    ck_assert_int_eq(vm(FENCED).pid, pid);
    ck_assert(!vm_process_pid_is_stopped(pid));
    give(1, &both);
    ck_assert(!worker_may_start(worker)); /* whose orders may be obeyed by it? */
    leader.acks = true;
    now_ms += 1; /* so that what is sent from now on renews it */
    RACK_WAIT(worker_may_start(worker));
    now_ms += KILL_MS; /* and it ends when it ends */
    leader.acks = false;
    RACK_WAIT(is(FENCED, PHASE_FAILED));
    stop();
}
END_TEST

/* A host that lost its power has no other memory of who led last. */
START_TEST(nothing_is_started_before_the_new_term_is_on_the_disk)
{
    char text[128] = "";
    struct wish newer = both;
    start_both();
    unsigned before = synced.count;
    leader.acks = true;
    now_ms += 1;
    RACK_WAIT(lease_granted_ns(&worker->lease) == now_ms * NS_PER_MS);
    ck_assert_uint_eq(synced.count, before); /* a grant is not worth it */
    leader.acks = false;
    let_pass();
    ck_assert(worker_may_start(worker));

    newer.term = TERM + 1;
    give(1, &newer);
    ck_assert_uint_eq(worker->leader_term, TERM + 1);
    ck_assert(!worker_may_start(worker));

    synced.fails = true; /* the lease goes on all the same */
    before = synced.count;
    leader.ahead = 1;
    leader.acks = true;
    now_ms += 1;
    RACK_WAIT(lease_granted_ns(&worker->lease) == now_ms * NS_PER_MS &&
              synced.count > before);
    ck_assert(!worker_may_start(worker));
    synced.fails = false;
    before = synced.count;
    now_ms += 1;
    RACK_WAIT(lease_granted_ns(&worker->lease) == now_ms * NS_PER_MS);
    ck_assert_uint_eq(synced.count, before); /* a sick disk is left alone for a while */

    now_ms += WORKER_TERM_SYNC_MS;
    RACK_WAIT(worker_may_start(worker));
    ck_assert_int_gt(pread(worker->lease_fd, text, sizeof(text) - 1, 0), 0);
    ck_assert_int_eq(strncmp(synced.text + 58, text + 58, 20), 0); /* the term */
    leader.acks = false;
    stop();
}
END_TEST

/* The disk takes its time, the host lives on. */
START_TEST(a_disk_that_takes_no_term_yet_stops_neither_heartbeats_nor_the_lease)
{
    struct wish newer = both;
    start_both();
    newer.term = TERM + 1;
    leader.ahead = 1;
    gate_close();
    give(1, &newer);
    leader.acks = true;
    RACK_WAIT(synced.at_gate == 1);

    unsigned beats = leader.beats;
    now_ms += 1;
    RACK_WAIT(leader.beats >= beats + 4 &&
              lease_granted_ns(&worker->lease) == now_ms * NS_PER_MS);
    ck_assert(!worker_may_start(worker));
    ck_assert_uint_eq(synced.at_gate, 1); /* asked once */

    gate_open();
    RACK_WAIT(worker_may_start(worker));
    ck_assert_uint_eq(synced.on_loop, 0);
    leader.acks = false;
    stop();
}
END_TEST

/* ---- epochs ---- */

int main(int argc, char **argv)
{
    engine_fake_main(argc, argv);
    if (geteuid() != 0) {
        return test_main_skip("a network namespace of its own needs root");
    }
    Suite *suite = suite_create("worker_lease");
    TCase *tests = tcase_create("worker_lease");
    tcase_set_timeout(tests, 90);
    tcase_add_test(tests, silence_freezes_and_then_ends_what_may_run_elsewhere);
    tcase_add_test(tests, a_renewed_lease_lets_frozen_vms_go_on);
    tcase_add_test(tests, a_lease_counts_from_when_the_heartbeat_was_sent);
    tcase_add_test(tests, an_ack_for_another_start_of_the_daemon_renews_nothing);
    tcase_add_test(tests, a_restarted_worker_goes_on_with_its_vms_and_its_lease);
    tcase_add_test(tests, what_a_vm_has_that_was_taken_over_is_known_by_its_order);
    tcase_add_loop_test(tests, a_restarted_worker_obeys_no_earlier_leader, 0, 2);
    tcase_add_test(tests, a_damaged_lease_counts_as_over);
    tcase_add_test(tests, nothing_is_started_before_the_new_term_is_on_the_disk);
    tcase_add_test(tests,
                   a_disk_that_takes_no_term_yet_stops_neither_heartbeats_nor_the_lease);
    tcase_add_test(tests,
                   a_lease_that_only_the_fence_knows_keeps_what_runs_and_starts_nothing);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
