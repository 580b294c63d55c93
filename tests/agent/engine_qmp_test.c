/* Goal: what a program says of its guest is learnt even when an answer is lost, and its
 * process waits at the gate for as long as its owner wants. Method: a process that stands
 * for the program, and a scripted peer at its control socket. */
#include "agent/vm_stats.h"
#include "qmp_peer.h"

#include <string.h>
#include <time.h>
#include <unistd.h>

START_TEST(a_status_that_was_not_told_is_asked_again)
{
    adopt();
    greet();

    answer("query-status", "error", "{\"class\": \"GenericError\", \"desc\": \"busy\"}");
    answer("query-status", "return", "{\"status\": \"shutdown\"}");

    turn_until(&exits);
    ck_assert_int_eq(end, ENGINE_END_GUEST_SHUTDOWN);
}
END_TEST

START_TEST(a_program_that_cannot_go_on_says_why)
{
    adopt();
    greet();

    answer("query-status", "return",
           "{\"status\": \"internal-error\", \"reason\": \"its storage hangs\"}");

    turn_until(&exits);
    ck_assert_int_eq(end, ENGINE_END_CRASHED);
    ck_assert_ptr_nonnull(strstr(why, "met an internal error: its storage hangs"));
}
END_TEST

START_TEST(a_guest_that_ended_meanwhile_is_told_of_with_its_reason)
{
    static const struct {
        const char *status;
        enum engine_end end;
        const char *why;
    } rows[] = {
        {"{\"status\": \"guest-panicked\", \"cause\": \"panic\", \"reason\": \"it "
         "said so\"}",
         ENGINE_END_GUEST_PANIC, "guest panic: it said so"},
        {"{\"status\": \"guest-panicked\", \"cause\": \"triple-fault\", \"reason\": "
         "\"CPU 0 shut down\"}",
         ENGINE_END_GUEST_FAULT, "guest fault: CPU 0 shut down"},
        {"{\"status\": \"guest-panicked\"}", ENGINE_END_GUEST_PANIC,
         "guest panic"}, /* QEMU's */
    };
    adopt();
    greet();

    answer("query-status", "return", rows[_i].status);

    turn_until(&exits);
    ck_assert_int_eq(end, rows[_i].end);
    ck_assert_str_eq(why, rows[_i].why);
}
END_TEST

START_TEST(a_process_waits_at_the_gate_until_it_is_released)
{
    struct err err = {0};
    run = engine_qmp_start(&kind, &host, &vm, console, &events, NULL, &err);
    ck_assert_msg(run != NULL, "%s", err.text);
    turn_until(&spawns);
    for (unsigned i = 0; i < 20; i++) {
        uv_run(&loop, UV_RUN_ONCE);
    }
    ck_assert_uint_eq(exits, 0);
    ck_assert_ptr_null(temp_dir_read(&dir, "through"));
    peer_listen();

    ck_assert_msg(engine_qmp_release(run, &err) == 0, "%s", err.text);

    greet();
    answer("query-status", "return", "{\"status\": \"prelaunch\"}");
    turn_until(&helds);
    engine_qmp_kill(run);
    turn_until(&exits);
    ck_assert_int_eq(end, ENGINE_END_KILLED);
}
END_TEST

/* As when its owner does not want it any more, or the fence does not come back. */
START_TEST(a_process_at_the_gate_can_be_killed)
{
    struct err err = {0};
    run = engine_qmp_start(&kind, &host, &vm, console, &events, NULL, &err);
    ck_assert_msg(run != NULL, "%s", err.text);
    turn_until(&spawns);

    engine_qmp_kill(run);

    turn_until(&exits);
    ck_assert_int_eq(end, ENGINE_END_KILLED);
    ck_assert_ptr_null(temp_dir_read(&dir, "through"));
}
END_TEST

/* By who has no more time for it, as its lease is over. */
START_TEST(a_kill_of_what_writes_out_its_disks_says_so)
{
    const struct engine_qmp_run *base;
    adopt();
    base = engine_qmp_run_of(run);
    if (_i == 1) {
        ck_assert_int_eq(kill(child, SIGSTOP), 0); /* deaf, from here on: */
        ck_assert_int_eq(waitpid(child, NULL, WUNTRACED), child);
        engine_qmp_stop(run, 0);
        while (base->ending == NULL) {
            uv_run(&loop, UV_RUN_ONCE);
        }
    }

    engine_qmp_kill(run);

    turn_until(&exits);
    ck_assert_int_eq(end, ENGINE_END_KILLED);
    ck_assert_int_eq(unwritten, _i == 1);
}
END_TEST

static struct engine_limits limits_of_root(uint64_t iops)
{
    return (struct engine_limits){.disks = {{"root", {.operations = iops}}},
                                  .disk_count = 1};
}

/* A connection that is lost before the answer came: who knows what was done. */
START_TEST(limits_whose_answer_is_lost_are_told_again)
{
    const struct engine_limits limits = limits_of_root(500);
    adopt();
    engine_qmp_limit(run, &limits); /* before there is a connection */
    greet();
    turn_until_readable(peer);
    fd_close(&peer);

    greet();
    answer("block_set_io_throttle", "return", "{}");
}
END_TEST

START_TEST(a_limit_that_is_refused_is_noted_and_harms_nothing)
{
    const struct engine_limits limits = limits_of_root(500);
    adopt();
    greet();
    answer("query-status", "return", "{\"status\": \"running\"}");

    engine_qmp_limit(run, &limits);
    answer("block_set_io_throttle", "error",
           "{\"class\": \"GenericError\", \"desc\": \"Device 'root' not found\"}");

    turn_until(&notes);
    ck_assert_msg(strstr(note, "Device 'root' not found") != NULL, "%s", note);
    ck_assert_uint_eq(exits, 0);
}
END_TEST

/* It may be of a release that has no word for limits. */
START_TEST(nothing_is_said_of_no_limits_that_are_refused)
{
    const struct engine_limits none = limits_of_root(0);
    const struct engine_limits some = limits_of_root(500);
    adopt();
    greet();
    answer("query-status", "return", "{\"status\": \"running\"}");

    engine_qmp_limit(run, &none);
    answer("block_set_io_throttle", "error",
           "{\"class\": \"CommandNotFound\", \"desc\": \"what?\"}");
    say_event("STOP"); /* heard behind that */
    answer("query-status", "return", "{\"status\": \"running\"}");
    engine_qmp_limit(run, &some);
    answer("block_set_io_throttle", "error",
           "{\"class\": \"CommandNotFound\", \"desc\": \"again?\"}");

    turn_until(&notes);
    ck_assert_uint_eq(notes, 1);
    ck_assert_msg(strstr(note, "again?") != NULL, "%s", note);
}
END_TEST

/* QEMU: the status, which lets it be held and run, is asked for behind its disks. */
START_TEST(a_program_that_begins_has_its_limits_before_it_is_held)
{
    struct engine_qmp_kind finds = kind;
    struct err err = {0};
    finds.finds_disks = true;
    vm.limits = limits_of_root(500);
    run = engine_qmp_start(&finds, &host, &vm, console, &events, NULL, &err);
    ck_assert_msg(run != NULL, "%s", err.text);
    turn_until(&spawns);
    peer_listen();
    ck_assert_msg(engine_qmp_release(run, &err) == 0, "%s", err.text);
    greet();

    answer("query-block", "return",
           "[{\"qdev\": \"/m/1\", \"inserted\": {\"file\": \"/x/disk-root.qcow2\"}}]");
    answer("block_set_io_throttle", "return", "{}");
    ck_assert_uint_eq(helds, 0);
    answer("query-status", "return", "{\"status\": \"prelaunch\"}");

    turn_until(&helds);
    engine_qmp_kill(run);
    turn_until(&exits);
    run = engine_qmp_close(run); /* before its kind goes */
}
END_TEST

/* ---- a word that is lost with its connection ---- */

static void start_held(void)
{
    struct err err = {0};
    run = engine_qmp_start(&kind, &host, &vm, console, &events, NULL, &err);
    ck_assert_msg(run != NULL, "%s", err.text);
    turn_until(&spawns);
    peer_listen();
    ck_assert_msg(engine_qmp_release(run, &err) == 0, "%s", err.text);
    greet();
    answer("query-status", "return", "{\"status\": \"prelaunch\"}");
    turn_until(&helds);
}

static void end_held(void)
{
    ck_assert_uint_eq(exits, 0);
    ck_assert_uint_eq(helds, 1);
    engine_qmp_kill(run);
    turn_until(&exits);
}

/* Nobody knows whether it was heard: what the program is at says so. */
START_TEST(a_begin_that_is_lost_is_said_again_unless_it_was_heard)
{
    static const char *const found[] = {"prelaunch", "paused", "running"};
    char status[64];
    start_held();
    ck_assert_int_eq(engine_qmp_cont(run, NULL), 0);
    (void)hear("\"cont\"");
    fd_close(&peer); /* without an answer */

    greet();
    (void)snprintf(status, sizeof(status), "{\"status\": \"%s\"}", found[_i]);
    answer("query-status", "return", status);

    if (strcmp(found[_i], "running") != 0) {
        answer("\"cont\"", "return", "{}");
        say_event("RESUME");
    }
    turn_until(&runs);
    ck_nothing_is_said(50);
    end_held();
}
END_TEST

/* It may run by then: of a daemon that stood still, say. */
START_TEST(a_begin_whose_answer_is_late_ends_nothing)
{
    start_held();
    ck_assert_int_eq(engine_qmp_cont(run, NULL), 0);
    long late = hear("\"cont\"");

    long status = hear("query-status");
    answer_to(late, "return", "{}");
    answer_to(status, "return", "{\"status\": \"running\"}");

    turn_until(&runs);
    end_held();
}
END_TEST

START_TEST(a_guest_that_began_and_ended_unheard_is_not_told_to_begin)
{
    char more;
    start_held();
    ck_assert_int_eq(engine_qmp_cont(run, NULL), 0);
    (void)hear("\"cont\"");
    fd_close(&peer);

    greet();
    answer("query-status", "return", "{\"status\": \"shutdown\"}");

    turn_until(&exits);
    ck_assert_int_eq(end, ENGINE_END_GUEST_SHUTDOWN);
    ck_assert_int_eq((int)read(peer, &more, 1), 0);
}
END_TEST

static void turn_until_peer_is_gone(void)
{
    while (engine_qmp_command(engine_qmp_run_of(run), "stop", NULL, NULL) !=
           BERTH_EBUSY) {
        uv_run(&loop, UV_RUN_ONCE);
    }
}

/* Whether its user thinks better of it before or after the loss is seen. */
START_TEST(a_resume_that_is_lost_is_not_said_again_after_a_pause)
{
    adopt();
    greet();
    answer("query-status", "return", "{\"status\": \"paused\"}");
    turn_until(&pauses);
    ck_assert_int_eq(engine_qmp_cont(run, NULL), 0);
    (void)hear("\"cont\"");
    if (_i == 0) {
        ck_assert_int_eq(engine_qmp_pause(run, NULL), BERTH_EPHASE);
    }
    fd_close(&peer);
    if (_i == 1) {
        turn_until_peer_is_gone();
        ck_assert_int_eq(engine_qmp_pause(run, NULL), BERTH_EPHASE);
    }

    greet();
    answer("query-status", "return", "{\"status\": \"paused\"}");
    ck_nothing_is_said(50);

    ck_assert_int_eq(engine_qmp_cont(run, NULL), 0);
    answer("\"cont\"", "return", "{}");
}
END_TEST

START_TEST(one_that_is_let_begin_without_a_connection_begins_when_it_is_back)
{
    start_held();
    fd_close(&peer);
    turn_until_peer_is_gone();

    ck_assert_int_eq(engine_qmp_cont(run, NULL), 0);

    greet();
    answer("query-status", "return", "{\"status\": \"prelaunch\"}");
    answer("\"cont\"", "return", "{}");
    say_event("RESUME");
    turn_until(&runs);
    end_held();
}
END_TEST

static void turn_for(uint64_t for_ms)
{
    uv_update_time(&loop);
    const uint64_t end_ms = uv_now(&loop) + for_ms;
    while (uv_now(&loop) < end_ms) {
        uv_run(&loop, UV_RUN_ONCE);
    }
}

static void let_begin(void)
{
    start_held();
    host.start_ms = 100; /* from now on */
    ck_assert_int_eq(engine_qmp_cont(run, NULL), 0);
    (void)hear("\"cont\"");
}

static void begins_without_an_answer(void)
{
    let_begin();
}

static void begins_and_is_gone(void)
{
    let_begin();
    fd_close(&peer);
    fd_close(&listener);
}

static void begins_without_a_connection(void)
{
    start_held();
    host.start_ms = 100;
    fd_close(&peer);
    fd_close(&listener);
    turn_until_peer_is_gone();
    ck_assert_int_eq(engine_qmp_cont(run, NULL), 0);
}

static void begins_frozen(void)
{
    let_begin();
    ck_assert_int_eq(engine_qmp_freeze(run, true), 0);
    turn_for(4 * host.start_ms); /* which is not its fault */
    ck_assert_uint_eq(exits, 0);
    ck_assert_ptr_nonnull(engine_qmp_run_of(run)->unheard);
    ck_assert_int_eq(engine_qmp_freeze(run, false), 0);
}

/* Its daemon was away while it was held. */
static void begins_taken_over(void)
{
    adopt();
    greet();
    answer("query-status", "return", "{\"status\": \"prelaunch\"}");
    turn_until(&helds);
    host.start_ms = 100;
    ck_assert_int_eq(engine_qmp_cont(run, NULL), 0);
    (void)hear("\"cont\"");
}

static void begins_taken_over_and_is_gone(void)
{
    begins_taken_over();
    fd_close(&peer);
    fd_close(&listener);
}

static void (*const unheard_begins[])(void) = {
    begins_without_an_answer,    begins_and_is_gone,
    begins_without_a_connection, begins_frozen,
    begins_taken_over,           begins_taken_over_and_is_gone};

START_TEST(one_that_is_not_heard_to_begin_ends_with_a_reason)
{
    unheard_begins[_i]();

    turn_until(&exits);

    ck_assert_int_eq(end, ENGINE_END_CRASHED);
    ck_assert_ptr_nonnull(strstr(why, "let run, and not heard to begin in time"));
}
END_TEST

START_TEST(one_that_has_begun_is_not_ended_for_its_silence)
{
    let_begin();
    say_event("RESUME");
    turn_until(&runs);

    turn_for(4 * host.start_ms);

    end_held();
}
END_TEST

START_TEST(a_daemon_that_stood_still_hears_first_whether_it_runs)
{
    let_begin();
    say_event("RESUME");
    const struct timespec still = {.tv_nsec = 4 * (long)host.start_ms * 1000 * 1000};
    (void)nanosleep(&still, NULL);

    turn_until(&runs);

    turn_for(50);
    end_held();
}
END_TEST

START_TEST(a_resume_that_is_lost_is_said_again)
{
    adopt();
    greet();
    answer("query-status", "return", "{\"status\": \"paused\"}");
    turn_until(&pauses);
    ck_assert_int_eq(engine_qmp_cont(run, NULL), 0);
    (void)hear("\"cont\"");
    fd_close(&peer);

    greet();
    answer("query-status", "return", "{\"status\": \"paused\"}");

    answer("\"cont\"", "return", "{}");
    say_event("RESUME");
    turn_until(&runs);
}
END_TEST

/* It was let go on by who was there before, which is heard by who comes now. _i: what was
 * found. */
START_TEST(one_that_was_found_standing_still_goes_on_when_it_says_so)
{
    static const char *const found[] = {"paused", "io-error"};
    char status[64];
    adopt();
    greet();
    (void)snprintf(status, sizeof(status), "{\"status\": \"%s\"}", found[_i]);
    answer("query-status", "return", status);
    turn_until(_i == 0 ? &pauses : &waits);
    ck_assert(!engine_qmp_run_of(run)->running);
    runs = 0;
    if (_i == 0) {
        ck_assert_int_eq(engine_qmp_cont(run, NULL), 0);
        answer("\"cont\"", "return", "{}");
        ck_assert_uint_eq(runs, 0); /* the event tells */
    }

    say_event("RESUME");

    while (!engine_qmp_run_of(run)->running) {
        uv_run(&loop, UV_RUN_ONCE);
    }
    ck_assert_uint_eq(runs, _i == 0);
}
END_TEST

/* ---- what a program has counted ---- */

static const struct engine_qmp_kind counting = {.ops = &ops,
                                                .title = "the peer",
                                                .run_bytes =
                                                    sizeof(struct engine_qmp_run),
                                                .counts_all = true,
                                                .prepare = engine_qmp_prepared,
                                                .spawn = spawn};

/* ---- a full disk ---- */

static void say_write_failed(void)
{
    static const char text[] =
        "{\"event\": \"BLOCK_IO_ERROR\", \"data\": {\"action\": \"stop\"}}\r\n"
        "{\"event\": \"STOP\"}\r\n";
    ck_assert_int_eq(fd_write_full(peer, text, sizeof(text) - 1), 0);
}

/* One that stands still until its disk has room. */
static void adopt_waiting(void)
{
    host.waiting_ms = 20;
    adopt();
    greet();
    answer("query-status", "return", "{\"status\": \"running\"}");
    say_write_failed();
    turn_until(&waits);
}

START_TEST(one_that_waits_for_its_disk_is_let_try_again_and_again)
{
    adopt_waiting();
    pauses = 0;

    answer("cont", "return", "{}");
    say_event("RESUME");
    say_write_failed();
    answer("cont", "return", "{}");
    runs = 0;
    say_event("RESUME");
    turn_until(&runs); /* no write has failed since */

    ck_assert_uint_eq(pauses, 0);
}
END_TEST

/* Its guest is off (_i of 0), or has just lost that disk. */
START_TEST(a_disk_that_is_not_durable_at_the_end_is_known_at_the_exit)
{
    static const char off[] =
        "{\"event\": \"SHUTDOWN\", \"data\": {\"guest\": true}}\r\n";
    static const char lost[] =
        "{\"event\": \"BLOCK_IO_ERROR\", \"data\": {\"action\": \"ignore\"}}\r\n";
    adopt();
    greet();
    answer("query-status", "return", "{\"status\": \"running\"}");
    turn_until(&runs);
    ck_assert_int_eq(kill(child, SIGSTOP), 0); /* it takes its time to end */
    ck_assert_int_eq(waitpid(child, NULL, WUNTRACED), child);

    if (_i == 0) {
        ck_assert_int_eq(fd_write_full(peer, off, sizeof(off) - 1), 0);
    }
    ck_assert_int_eq(fd_write_full(peer, lost, sizeof(lost) - 1), 0);
    if (_i == 1) {
        ck_assert_int_eq(fd_write_full(peer, off, sizeof(off) - 1), 0);
    }
    runs = 0;
    say_event("RESUME"); /* heard behind them */
    turn_until(&runs);
    ck_assert_int_eq(kill(child, SIGCONT), 0);
    turn_until(&exits);

    ck_assert_int_eq(end, ENGINE_END_GUEST_SHUTDOWN);
    ck_assert_int_eq(unwritten, _i == 0);
}
END_TEST

/* Both are there when the loop looks, and the end came first. */
START_TEST(what_a_program_said_last_is_known_at_its_exit)
{
    static const char off[] =
        "{\"event\": \"SHUTDOWN\", \"data\": {\"guest\": true}}\r\n";
    static const char lost[] =
        "{\"event\": \"BLOCK_IO_ERROR\", \"data\": {\"action\": \"ignore\"}}\r\n";
    siginfo_t info = {0};
    adopt();
    greet();
    answer("query-status", "return", "{\"status\": \"running\"}");
    turn_until(&runs);
    for (unsigned i = 0; i < 4; i++) { /* or what it said would be looked at first */
        uv_run(&loop, UV_RUN_ONCE);
    }

    ck_assert_int_eq(kill(child, SIGKILL), 0);
    ck_assert_int_eq(waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT), 0);
    ck_assert_int_eq(fd_write_full(peer, off, sizeof(off) - 1), 0);
    ck_assert_int_eq(fd_write_full(peer, lost, sizeof(lost) - 1), 0);
    fd_close(&peer);
    turn_until(&exits);

    ck_assert_int_eq(end, ENGINE_END_GUEST_SHUTDOWN);
    ck_assert(unwritten);
}
END_TEST

/* Behind a try that was on its way. */
static long hear_stop(void)
{
    char heard[HEARD_SIZE];
    long id = hear_line(heard);
    while (strstr(heard, "\"cont\"") != NULL) {
        answer_to(id, "return", "{}");
        id = hear_line(heard);
    }
    ck_assert_msg(strstr(heard, "\"stop\"") != NULL, "%s", heard);
    return id;
}

/* Neither does room let it go on then, nor is it tried. */
START_TEST(a_pause_of_one_that_waits_for_its_disk_goes_before)
{
    adopt_waiting();
    pauses = 0;
    ck_assert_int_eq(engine_qmp_pause(run, NULL), 0);
    const long stop = hear_stop();
    ck_nothing_is_said(3 *
                       host.waiting_ms); /* it has not been told that it stands still */
    answer_to(stop, "return", "{}");
    turn_until(&pauses);

    ck_nothing_is_said(3 * host.waiting_ms);
    ck_assert_int_eq(engine_qmp_cont(run, NULL), 0); /* its user's */
    answer("cont", "return", "{}");
    runs = 0;
    say_event("RESUME");
    turn_until(&runs);
}
END_TEST

START_TEST(a_pause_that_is_refused_leaves_it_waiting)
{
    adopt_waiting();
    pauses = 0;
    ck_assert_int_eq(engine_qmp_pause(run, NULL), 0);
    answer_to(hear_stop(), "error", "{\"class\": \"GenericError\", \"desc\": \"busy\"}");

    answer("cont", "return", "{}"); /* so it goes on trying */

    ck_assert_uint_eq(pauses, 0);
}
END_TEST

#define ROOT_OF(numbers) "[{\"device\": \"root\", \"stats\": {" numbers "}}]"

/* One that runs, and is asked soon. */
static void adopt_to_ask(const struct engine_qmp_kind *of_kind)
{
    host.stats_ms = 20;
    vm.disk_count = 1;
    vm.nic_count = 1;
    (void)snprintf(vm.disks[0].name, sizeof(vm.disks[0].name), "root");
    (void)snprintf(vm.nics[0].tap, sizeof(vm.nics[0].tap), "lo"); /* counts as a tap */
    adopt_kind(of_kind);
    greet();
    answer("query-status", "return", "{\"status\": \"running\"}");
}

static uint64_t reads_told(void)
{
    return engine_qmp_stats(run)
        ->disks[0]
        .verbs[VM_DISK_READ]
        .numbers[VM_DISK_OPERATIONS];
}

/* While several rounds would begin. */
static void ck_no_other_is_asked(void)
{
    ck_nothing_is_said(3 * host.stats_ms);
}

START_TEST(a_program_is_asked_what_it_has_counted_one_question_after_the_other)
{
    adopt_to_ask(&counting);

    long first = hear("query-blockstats");
    ck_no_other_is_asked();
    answer_to(first, "return", ROOT_OF("\"rd_operations\": 3"));
    answer("x-query-device-stats", "return",
           "[{\"id\": \"nic0\", \"stats\": {\"rx_dropped\": 4}}]");
    answer("\"port_exits\"", "return",
           "[{\"provider\": \"berth\", \"stats\": [{\"name\": \"port_exits\", "
           "\"value\": 4}]}]");
    answer("x-query-boot", "return",
           "{\"phases\": [{\"phase\": \"first-run\", \"ns\": 9}]}");
    answer("query-blockstats", "return", ROOT_OF("\"rd_operations\": 5"));
    turn_until_readable(peer);

    const struct vm_stats *stats = engine_qmp_stats(run);
    ck_assert_uint_eq(reads_told(), 5);
    ck_assert_uint_eq(stats->nics[0].rx_dropped_within, 4);
    ck_assert(vm_stats_is_told(stats->nics[0].told, VM_NIC_TX_BYTES));
    ck_assert_uint_ge(stats->nics[0].numbers[VM_NIC_RX_DROPPED], 4);
    ck_assert_uint_eq(stats->exits[VM_EXIT_PORT], 4);
    ck_assert_uint_eq(stats->boot_ns[VM_BOOT_FIRST_RUN], 9);
}
END_TEST

/* What has no word for it is asked for the rest all the same. */
START_TEST(a_question_that_is_refused_or_answered_oddly_harms_nothing)
{
    adopt_to_ask(&counting);

    answer("query-blockstats", "return", "{\"device\": \"root\", \"stats\": -3}");
    answer("x-query-device-stats", "error",
           "{\"class\": \"CommandNotFound\", \"desc\": \"what?\"}");
    answer("query-stats", "return", "null");
    answer("x-query-boot", "return", "[[[[7]]]]");
    answer("query-blockstats", "return", ROOT_OF("\"rd_operations\": 5"));
    turn_until_readable(peer);

    ck_assert_uint_eq(reads_told(), 5);
    ck_assert_uint_eq(exits + notes, 0);
}
END_TEST

START_TEST(qemu_is_asked_for_what_it_knows)
{
    adopt_to_ask(&kind);

    answer("query-blockstats", "return", ROOT_OF("\"wr_bytes\": 3"));
    answer("query-blockstats", "return", ROOT_OF("\"rd_operations\": 5"));
    answer("query-blockstats", "return", "[]");

    ck_assert_uint_eq(reads_told(), 5);
}
END_TEST

START_TEST(a_program_that_does_not_answer_is_asked_again_and_goes_on)
{
    const struct engine_limits limits = limits_of_root(500);
    host.stats_timeout_ms = 50;
    adopt_to_ask(&counting);

    (void)hear("query-blockstats"); /* and never answered */
    engine_qmp_limit(run, &limits);
    answer("block_set_io_throttle", "return", "{}");
    (void)hear("query-blockstats");

    ck_assert_uint_eq(exits + notes, 0);
}
END_TEST

START_TEST(a_question_that_was_lost_with_its_connection_is_asked_over_the_next_one)
{
    adopt_to_ask(&counting);
    (void)hear("query-blockstats");

    fd_close(&peer);
    greet();
    answer("query-status", "return", "{\"status\": \"running\"}");
    answer("query-blockstats", "return", ROOT_OF("\"rd_operations\": 5"));
    answer("x-query-device-stats", "return", "[]");

    ck_assert_uint_eq(reads_told(), 5);
}
END_TEST

START_TEST(one_that_stands_still_is_not_asked)
{
    adopt_to_ask(&kind);
    answer("query-blockstats", "return", "[]");
    long last = hear("query-blockstats");
    say_event("STOP"); /* is read before the answer behind it */
    answer_to(last, "return", "[]");
    answer("query-status", "return", "{\"status\": \"paused\"}");

    ck_no_other_is_asked();

    say_event("RESUME");
    answer("query-blockstats", "return", "[]");
}
END_TEST

/* The record does not say what one has that was taken over. */
START_TEST(what_is_known_later_is_counted_from_then_on)
{
    struct engine_vm whole = vm;
    whole.disk_count = whole.nic_count = 1;
    (void)snprintf(whole.disks[0].name, sizeof(whole.disks[0].name), "root");
    (void)snprintf(whole.nics[0].tap, sizeof(whole.nics[0].tap), "lo");
    host.stats_ms = 20;
    adopt_kind(&counting);
    greet();
    answer("query-status", "return", "{\"status\": \"running\"}");
    answer("query-blockstats", "return", ROOT_OF("\"rd_operations\": 3"));
    answer("x-query-device-stats", "return", "[]");
    answer("query-stats", "return", "[]");
    answer("x-query-boot", "return",
           "{\"phases\": [{\"phase\": \"first-run\", \"ns\": 9}]}");
    long next = hear("query-blockstats");
    const struct vm_stats *stats = engine_qmp_stats(run);
    ck_assert_uint_eq(stats->disk_count + stats->nic_count, 0);

    engine_qmp_know(run, &whole); /* while an answer is on its way */
    answer_to(next, "return", ROOT_OF("\"rd_operations\": 5"));
    answer("x-query-device-stats", "return", "[]");
    answer("query-stats", "return", "[]");
    answer("x-query-boot", "return", "{}");
    (void)hear("query-blockstats");

    stats = engine_qmp_stats(run);
    ck_assert_uint_eq(stats->disk_count, 1);
    ck_assert_uint_eq(stats->nic_count, 1);
    ck_assert_uint_eq(reads_told(), 5);
    ck_assert(vm_stats_is_told(stats->nics[0].told, VM_NIC_RX_BYTES));
    ck_assert_uint_eq(stats->boot_ns[VM_BOOT_FIRST_RUN], 9);
}
END_TEST

START_TEST(of_what_has_not_run_nothing_is_known)
{
    adopt();
    greet();
    ck_assert_ptr_null(engine_qmp_stats(run));
    answer("query-status", "return", "{\"status\": \"paused\"}");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("engine_qmp");
    TCase *tests = tcase_create("engine_qmp");
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, a_status_that_was_not_told_is_asked_again);
    tcase_add_test(tests, a_program_that_cannot_go_on_says_why);
    tcase_add_loop_test(tests, a_guest_that_ended_meanwhile_is_told_of_with_its_reason, 0,
                        3);
    tcase_add_test(tests, a_process_waits_at_the_gate_until_it_is_released);
    tcase_add_test(tests, a_process_at_the_gate_can_be_killed);
    tcase_add_loop_test(tests, a_disk_that_is_not_durable_at_the_end_is_known_at_the_exit,
                        0, 2);
    tcase_add_test(tests, what_a_program_said_last_is_known_at_its_exit);
    tcase_add_loop_test(tests, a_kill_of_what_writes_out_its_disks_says_so, 0, 2);
    tcase_add_test(tests, one_that_waits_for_its_disk_is_let_try_again_and_again);
    tcase_add_test(tests, a_pause_of_one_that_waits_for_its_disk_goes_before);
    tcase_add_test(tests, a_pause_that_is_refused_leaves_it_waiting);
    tcase_add_test(tests, limits_whose_answer_is_lost_are_told_again);
    tcase_add_test(tests, a_limit_that_is_refused_is_noted_and_harms_nothing);
    tcase_add_test(tests, nothing_is_said_of_no_limits_that_are_refused);
    tcase_add_test(tests, a_program_that_begins_has_its_limits_before_it_is_held);
    tcase_add_loop_test(tests, a_begin_that_is_lost_is_said_again_unless_it_was_heard, 0,
                        3);
    tcase_add_test(tests, a_begin_whose_answer_is_late_ends_nothing);
    tcase_add_test(tests, a_guest_that_began_and_ended_unheard_is_not_told_to_begin);
    tcase_add_test(tests,
                   one_that_is_let_begin_without_a_connection_begins_when_it_is_back);
    tcase_add_loop_test(tests, one_that_is_not_heard_to_begin_ends_with_a_reason, 0, 6);
    tcase_add_test(tests, one_that_has_begun_is_not_ended_for_its_silence);
    tcase_add_test(tests, a_daemon_that_stood_still_hears_first_whether_it_runs);
    tcase_add_test(tests, a_resume_that_is_lost_is_said_again);
    tcase_add_loop_test(tests, one_that_was_found_standing_still_goes_on_when_it_says_so,
                        0, 2);
    tcase_add_loop_test(tests, a_resume_that_is_lost_is_not_said_again_after_a_pause, 0,
                        2);
    tcase_add_test(tests,
                   a_program_is_asked_what_it_has_counted_one_question_after_the_other);
    tcase_add_test(tests, a_question_that_is_refused_or_answered_oddly_harms_nothing);
    tcase_add_test(tests, qemu_is_asked_for_what_it_knows);
    tcase_add_test(tests, a_program_that_does_not_answer_is_asked_again_and_goes_on);
    tcase_add_test(
        tests, a_question_that_was_lost_with_its_connection_is_asked_over_the_next_one);
    tcase_add_test(tests, one_that_stands_still_is_not_asked);
    tcase_add_test(tests, what_is_known_later_is_counted_from_then_on);
    tcase_add_test(tests, of_what_has_not_run_nothing_is_known);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
