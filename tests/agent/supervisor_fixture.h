/* A supervisor in this loop, with real processes of the fake engine.
 *
 * `setup` and `teardown` are a test's checked fixture; a main begins with
 * engine_fake_main, for the VM processes are the test program itself. The rest
 * is supervisor_bench.h's.
 */
#pragma once

#include "agent/engine_fake.h"
#include "base/cleanup.h"
#include "supervisor_bench.h"

static const struct engine_ops *const engines[] = {&engine_fake, NULL};

static inline void setup(void)
{
    bench_init(engines, 200000);
    bench.upkeep_ms = 100;
    open_loop();
    open_supervisor();
}

static inline struct vm_order order_of(uint64_t uid, uint64_t epoch)
{
    struct vm_order order = bench_order(uid, epoch, ENGINE_FAKE);
    order.vm.cpu_count = 2;
    order.stop_grace_ms = 20000;
    return order;
}

static inline void start(uint64_t uid, uint64_t epoch, bool hold)
{
    struct vm_order order = order_of(uid, epoch);
    start_order(&order, hold);
}

static inline int try_start(uint64_t uid, uint64_t epoch)
{
    struct vm_order order = order_of(uid, epoch);
    return vm_supervisor_start(bench.supervisor, &order, false, NULL);
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
