/* A supervisor in this loop, with real processes of the fake engine.
 *
 * `setup` and `teardown` are a test's checked fixture; a main begins with
 * engine_fake_main, for the VM processes are the test program itself. wait_* turn the
 * loop until what they name is reported, bounded by the fixture's deadline.
 */
#pragma once

#include "agent/engine_fake.h"
#include "agent/vm_record.h"
#include "agent/vm_supervisor.h"
#include "base/cleanup.h"
#include "base/loop.h"
#include "support/temp_dir.h"
#include "support/test_main.h"

#include <check.h>

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define UID 7

static const struct engine_ops *const engines[] = {&engine_fake, NULL};

struct bench {
    struct temp_dir dir;
    uv_loop_t loop;
    struct loop_timer *deadline;
    struct loop_timer *tick; /* so that a loop that waits turns now and then */
    struct vm_supervisor *supervisor;
    const struct engine_ops *const *engines;
    const struct clock *clock;
    unsigned changes;
    struct vm_report last; /* of the last change */
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
        .host = {.loop = &bench.loop, .clock = bench.clock},
        .folder = bench.dir.path,
        .engines = bench.engines,
        .epochs_max = bench.epochs_max,
        .changed = on_changed,
        .upkeep_ms = 100,
    };
    bench.supervisor = vm_supervisor_open(&config, &err);
    ck_assert_msg(bench.supervisor != NULL, "%s", err.text);
}

static inline void open_loop(void)
{
    ck_assert_int_eq(uv_loop_init(&bench.loop), 0);
    bench.deadline = loop_timer_new(&bench.loop, 40000, 0, on_deadline, NULL);
    bench.tick = loop_timer_new(&bench.loop, 5, 5, on_tick, NULL);
}

static inline void setup(void)
{
    memset(&bench, 0, sizeof(bench));
    bench.engines = engines;
    bench.clock = clock_system();
    signal(SIGPIPE, SIG_IGN);
    temp_dir_init_guarded(&bench.dir);
    open_loop();
    open_supervisor();
}

static inline void kill_one(void *context, const struct vm_report *report)
{
    (void)context;
    if (report->pid > 0) {
        (void)kill(report->pid, SIGKILL);
    }
}

static inline void close_supervisor(void)
{
    bench.supervisor = vm_supervisor_close(bench.supervisor);
    uv_run(&bench.loop, UV_RUN_NOWAIT);
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

static inline struct vm_order order_of(uint64_t uid, uint64_t epoch)
{
    struct vm_order order = {
        .vm = {.uid = uid,
               .epoch = epoch,
               .name = "web-1",
               .tenant = "shop",
               .cpu_count = 2,
               .cpu_weight = 100,
               .memory_bytes = 64 * MIB},
        .engine = ENGINE_FAKE,
        .fenced = true,
        .stop_grace_ms = 20000,
        .probe_pass = 1,
        .probe_fail = 1,
    };
    return order;
}

static inline void start(uint64_t uid, uint64_t epoch, bool hold)
{
    struct vm_order order = order_of(uid, epoch);
    struct err err = {0};
    int r = vm_supervisor_start(bench.supervisor, &order, hold, &err);
    ck_assert_msg(r == 0, "%s", err.text);
}

static inline int try_start(uint64_t uid, uint64_t epoch)
{
    struct vm_order order = order_of(uid, epoch);
    return vm_supervisor_start(bench.supervisor, &order, false, NULL);
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

/* The disk's thread writes it in its own time. */
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

static inline void write_control(uint64_t uid, const char *text)
{
    char name[64];
    (void)snprintf(name, sizeof(name), "vms/%" PRIu64 "/control", uid);
    temp_dir_write(&bench.dir, name, text);
}

static inline bool is_state(pid_t pid, char want)
{
    char path[64];
    char state = 0;
    (void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "re");
    if (file != NULL) {
        if (fscanf(file, "%*d (%*[^)]) %c", &state) != 1) {
            state = 0;
        }
        (void)fclose(file);
    }
    return state == want;
}

static inline void forget(uint64_t uid, uint64_t epoch)
{
    struct vm_report report;
    ck_assert_int_eq(vm_supervisor_forget(bench.supervisor, uid, epoch, NULL), 0);
    while (vm_supervisor_report(bench.supervisor, uid, &report)) {
        ck_assert(report.leaving);
        uv_run(&bench.loop, UV_RUN_ONCE);
    }
}
