/* How fast self-fencing is: freeze, thaw and kill of N VMs at once, from the call to the
 * kernel's word that the last process is stopped or gone.
 *
 *   agent_fence_bench FOLDER [VMS]     FOLDER: empty, for the VMs' state
 */
#include "agent/engine_fake.h"
#include "agent/vm_supervisor.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/parse_number.h"

#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VMS_DEFAULT 50

struct bench {
    uv_loop_t loop;
    struct vm_supervisor *supervisor;
    unsigned vms, ready, gone;
    pid_t pids[VM_SUPERVISOR_VMS_MAX + 1];
};

static void on_changed(void *context, const struct vm_report *report)
{
    struct bench *bench = context;
    if (report->phase == PHASE_READY && bench->pids[report->uid] == 0) {
        bench->pids[report->uid] = report->pid;
        bench->ready++;
    }
    bench->gone += report->phase == PHASE_FAILED;
}

static void wait_stopped(const struct bench *bench)
{
    for (unsigned uid = 1; uid <= bench->vms; uid++) {
        while (!vm_process_pid_is_stopped(bench->pids[uid])) {
            sched_yield();
        }
    }
}

static double since_ms(uint64_t start_ns)
{
    return (double)(clock_now_ns(clock_system()) - start_ns) / 1e6;
}

static void run(struct bench *bench)
{
    for (unsigned uid = 1; uid <= bench->vms; uid++) {
        struct vm_order order = {
            .vm = {.uid = uid, .epoch = 1, .name = "vm", .tenant = "t", .cpu_count = 1},
            .engine = ENGINE_FAKE,
            .fenced = true,
        };
        struct err err = {0};
        if (vm_supervisor_start(bench->supervisor, &order, false, &err) != 0) {
            fprintf(stderr, "%s\n", err.text);
            exit(1);
        }
    }
    while (bench->ready < bench->vms) {
        uv_run(&bench->loop, UV_RUN_ONCE);
    }
    uint64_t start_ns = clock_now_ns(clock_system());
    unsigned frozen = vm_supervisor_freeze_all(bench->supervisor);
    double call_ms = since_ms(start_ns);
    wait_stopped(bench);
    printf("freeze %u VMs: %.2f ms in the call, %.2f ms until all are stopped\n", frozen,
           call_ms, since_ms(start_ns));
    start_ns = clock_now_ns(clock_system());
    unsigned resumed = vm_supervisor_resume_all(bench->supervisor);
    printf("resume %u VMs: %.2f ms in the call\n", resumed, since_ms(start_ns));
    start_ns = clock_now_ns(clock_system());
    unsigned killed = vm_supervisor_kill_all(bench->supervisor, "bench");
    call_ms = since_ms(start_ns);
    wait_stopped(bench); /* a dead one counts as stopped */
    printf("kill   %u VMs: %.2f ms in the call, %.2f ms until all are dead\n", killed,
           call_ms, since_ms(start_ns));
    while (bench->gone < bench->vms) {
        uv_run(&bench->loop, UV_RUN_ONCE);
    }
}

int main(int argc, char **argv)
{
    static const struct engine_ops *const engines[] = {&engine_fake, NULL};
    static struct bench bench = {.vms = VMS_DEFAULT};
    uint64_t vms = VMS_DEFAULT;
    struct err err = {0};
    engine_fake_main(argc, argv);
    if (argc < 2 || (argc > 2 && parse_u64(argv[2], &vms, &err) != 0) || vms == 0 ||
        vms > VM_SUPERVISOR_VMS_MAX) {
        fprintf(stderr, "usage: %s FOLDER [VMS]\n", argv[0]);
        return 2;
    }
    (void)signal(SIGPIPE, SIG_IGN);
    log_setup(LOG_LEVEL_ERROR, false);
    bench.vms = (unsigned)vms;
    if (uv_loop_init(&bench.loop) != 0) {
        return 1;
    }
    const struct vm_supervisor_config config = {
        .host = {.loop = &bench.loop, .clock = clock_system()},
        .folder = argv[1],
        .engines = engines,
        .changed = on_changed,
        .context = &bench,
    };
    bench.supervisor = vm_supervisor_open(&config, &err);
    if (bench.supervisor == NULL) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    run(&bench);
    (void)vm_supervisor_close(bench.supervisor);
    (void)uv_run(&bench.loop, UV_RUN_DEFAULT);
    return uv_loop_close(&bench.loop) == 0 ? 0 : 1;
}
