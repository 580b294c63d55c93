/* A supervisor in this loop, over VM processes of some engine.
 *
 * Whoever includes this fills what differs (bench.engines and the like) in a `setup` that
 * calls bench_open; `teardown` ends every VM and checks that the loop has nothing left.
 * wait_* turn the loop until what they name is there, bounded by the bench's deadline; a
 * VM that fails meanwhile ends the wait with its reason.
 */
#pragma once

#include "agent/vm_record.h"
#include "agent/vm_supervisor.h"
#include "base/loop.h"
#include "support/temp_dir.h"
#include "support/test_main.h"

#include <check.h>

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define UID 7

struct bench {
    struct temp_dir dir;
    uv_loop_t loop;
    struct loop_timer *deadline;
    struct loop_timer *tick; /* so that a loop that waits turns now and then */
    struct vm_supervisor *supervisor;
    unsigned changes;
    struct vm_report last; /* of the last change */
    /* set by the fixture */
    const struct engine_ops *const *engines;
    const struct clock *clock;
    struct clock later; /* the system's, but for: */
    uint64_t later_ms;  /* added to its wall clock */
    enum kvm_kind kvm;
    uint32_t first_uid; /* of VMs */
    uint64_t deadline_ms;
    uint64_t ending_ms;                       /* of the engine; 0: as always */
    uint64_t stats_ms;                        /* likewise */
    uint64_t waiting_ms;                      /* likewise */
    void (*snapshots_changed)(void *context); /* NULL: nobody asks */
    uint64_t upkeep_ms;                       /* 0: as always */
    unsigned epochs_max;
};

static struct bench bench;

static inline void on_deadline(void *context)
{
    (void)context;
    ck_abort_msg("the loop waited too long");
}

static inline void on_tick(void *context)
{
    (void)context;
}

static inline void on_changed(void *context, const struct vm_report *report)
{
    (void)context;
    bench.changes++;
    bench.last = *report;
}

static inline void open_supervisor(void)
{
    struct err err = {0};
    const struct vm_supervisor_config config = {
        .host = {.loop = &bench.loop,
                 .clock = bench.clock,
                 .kvm = bench.kvm,
                 .first_uid = bench.first_uid,
                 .ending_ms = bench.ending_ms,
                 .stats_ms = bench.stats_ms,
                 .waiting_ms = bench.waiting_ms},
        .folder = bench.dir.path,
        .engines = bench.engines,
        .epochs_max = bench.epochs_max,
        .changed = on_changed,
        .snapshots_changed = bench.snapshots_changed,
        .upkeep_ms = bench.upkeep_ms,
    };
    bench.supervisor = vm_supervisor_open(&config, &err);
    ck_assert_msg(bench.supervisor != NULL, "%s", err.text);
}

static inline void close_supervisor(void)
{
    bench.supervisor = vm_supervisor_close(bench.supervisor);
    uv_run(&bench.loop, UV_RUN_NOWAIT);
}

static inline void open_loop(void)
{
    ck_assert_int_eq(uv_loop_init(&bench.loop), 0);
    bench.deadline = loop_timer_new(&bench.loop, bench.deadline_ms, 0, on_deadline, NULL);
    bench.tick = loop_timer_new(&bench.loop, 5, 5, on_tick, NULL);
}

static inline uint64_t bench_later_wall_ms(void *context)
{
    (void)context;
    return clock_wall_ms(clock_system()) + bench.later_ms;
}

static inline uint64_t bench_now_ns(void *context)
{
    (void)context;
    return clock_now_ns(clock_system());
}

/* From the next open_supervisor on: a clock that a test sets ahead. */
static inline void bench_clock_later(void)
{
    bench.later = (struct clock){.now_ns = bench_now_ns, .wall_ms = bench_later_wall_ms};
    bench.clock = &bench.later;
}

/* Forgets an earlier test; the folder is there, and neither loop nor supervisor. */
static inline void bench_init(const struct engine_ops *const *engines,
                              uint64_t deadline_ms)
{
    memset(&bench, 0, sizeof(bench));
    bench.engines = engines;
    bench.clock = clock_system();
    bench.deadline_ms = deadline_ms;
    signal(SIGPIPE, SIG_IGN);
    temp_dir_init_guarded(&bench.dir);
}

static inline void kill_one(void *context, const struct vm_report *report)
{
    (void)context;
    if (report->pid > 0) {
        (void)kill(report->pid, SIGKILL);
    }
}

static inline void teardown(void)
{
    if (bench.supervisor != NULL) {
        vm_supervisor_each(bench.supervisor, kill_one, NULL);
    }
    close_supervisor();
    bench.deadline = loop_timer_close(bench.deadline);
    bench.tick = loop_timer_close(bench.tick);
    uv_run(&bench.loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(uv_loop_close(&bench.loop), 0);
    temp_dir_fini(&bench.dir);
}

/* web-1 of shop; what the engine boots is the caller's to say. */
static inline struct vm_order
bench_order(uint64_t uid, uint64_t epoch, enum engine engine)
{
    return (struct vm_order){.vm = {.uid = uid,
                                    .epoch = epoch,
                                    .name = "web-1",
                                    .tenant = "shop",
                                    .cpu_count = 1,
                                    .cpu_weight = 100,
                                    .memory_bytes = 64 * MIB},
                             .engine = engine,
                             .fenced = true,
                             .stop_grace_ms = 60000,
                             .probe_pass = 1,
                             .probe_fail = 1};
}

static inline void start_order(const struct vm_order *order, bool hold)
{
    struct err err = {0};
    int r = vm_supervisor_start(bench.supervisor, order, hold, &err);
    ck_assert_msg(r == 0, "%s", err.text);
}

static inline struct vm_report report_of(uint64_t uid)
{
    struct vm_report report;
    ck_assert(vm_supervisor_report(bench.supervisor, uid, &report));
    return report;
}

static inline struct vm_report wait_phase(uint64_t uid, enum phase phase)
{
    while (report_of(uid).phase != phase) {
        ck_assert_msg(phase == PHASE_FAILED || report_of(uid).phase != PHASE_FAILED, "%s",
                      report_of(uid).reason);
        uv_run(&bench.loop, UV_RUN_ONCE);
    }
    return report_of(uid);
}

static inline struct vm_report wait_held(uint64_t uid)
{
    while (!report_of(uid).held) {
        uv_run(&bench.loop, UV_RUN_ONCE);
    }
    return report_of(uid);
}

/* The disk's thread writes it in its own time; a daemon that dies before has let nothing
 * run, as far as the next one knows. */
static inline void wait_record(uint64_t uid, enum vm_record_state state)
{
    char name[32];
    struct vm_record record = {.state = VM_RECORD_NOTED};
    (void)snprintf(name, sizeof(name), "vms/%" PRIu64, uid);
    char *folder = temp_dir_path(&bench.dir, name);
    while (vm_record_read(folder, &record, NULL) != 0 || record.state != state) {
        uv_run(&bench.loop, UV_RUN_ONCE);
    }
    free(folder);
}

/* All that is kept of what the VM said. */
static inline void console_text(uint64_t uid, char *ret_text, size_t size)
{
    uint64_t offset = 0;
    size_t count = console_ring_read(vm_supervisor_console(bench.supervisor, uid),
                                     &offset, ret_text, size - 1);
    ret_text[count] = '\0';
}

static inline void wait_console(uint64_t uid, const char *want)
{
    char text[4096];
    for (console_text(uid, text, sizeof(text)); strstr(text, want) == NULL;
         console_text(uid, text, sizeof(text))) {
        uv_run(&bench.loop, UV_RUN_ONCE);
    }
}

static inline void type(uint64_t uid, const char *text)
{
    while (vm_supervisor_console_write(bench.supervisor, uid, text, strlen(text), NULL) !=
           0) {
        uv_run(&bench.loop, UV_RUN_ONCE);
    }
}

/* A daemon of its own boots the VM UID by `boot` and is killed as soon as its record
 * says that the VM runs. */
static inline void daemon_dies_after(void (*boot)(void))
{
    int ready[2];
    char byte;
    ck_assert_int_eq(pipe(ready), 0);
    close_supervisor();
    pid_t daemon = fork();
    if (daemon == 0) {
        open_loop();
        open_supervisor();
        boot();
        wait_record(UID, VM_RECORD_RUNNING);
        (void)!write(ready[1], "x", 1);
        for (;;) {
            uv_run(&bench.loop, UV_RUN_ONCE);
        }
    }
    close(ready[1]);
    ck_assert_int_eq((int)read(ready[0], &byte, 1), 1);
    close(ready[0]);
    ck_assert_int_eq(kill(daemon, SIGKILL), 0);
    ck_assert_int_eq(waitpid(daemon, NULL, 0), daemon);
}
