/* What is measured of a run: its process' CPU time and memory and the traffic of its
 * taps, by the kernel, and what its program says it has counted. */
#include "agent/engine_qmp.h"
#include "agent/qmp_stats.h"
#include "base/require.h"
#include "net/tap.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int engine_qmp_sample(struct engine_run *base, struct engine_sample *ret_sample)
{
    struct engine_qmp_run *run = engine_qmp_run_of(base);
    return run->process == NULL ? -ESRCH
                                : vm_process_usage(run->process, &ret_sample->cpu_ns,
                                                   &ret_sample->memory_bytes);
}

const struct vm_stats *engine_qmp_stats(struct engine_run *base)
{
    const struct engine_qmp_run *run = engine_qmp_run_of(base);
    return run->stats != NULL ? &run->stats->numbers : NULL;
}

void engine_qmp_know(struct engine_run *base, const struct engine_vm *vm)
{
    struct engine_qmp_run *run = engine_qmp_run_of(base);
    memcpy(run->vm.disks, vm->disks, sizeof(run->vm.disks));
    run->vm.disk_count = vm->disk_count;
    memcpy(run->vm.nics, vm->nics, sizeof(run->vm.nics));
    run->vm.nic_count = vm->nic_count;
    if (run->stats != NULL) {
        vm_stats_know(&run->stats->numbers, &run->vm);
    }
}

/* Each tells a number of the kernel's, which takes microseconds; one that cannot be read
 * keeps what it had. */
static void taps_read(struct engine_qmp_run *run)
{
    for (uint32_t nic = 0; nic < run->vm.nic_count; nic++) {
        struct tap_traffic traffic;
        if (tap_traffic_read(run->vm.nics[nic].tap, &traffic) == 0) {
            vm_stats_take_traffic(&run->stats->numbers, nic, &traffic);
        }
    }
}

/* One that stands still counts nothing, and one that is being saved, or is about to end,
 * has better to do. */
static void ask(void *context)
{
    struct engine_qmp_run *run = context;
    if (run->running && !run->frozen && !run->save.is_active && run->ending == NULL &&
        run->qmp != NULL && qmp_client_is_ready(run->qmp)) {
        taps_read(run);
        qmp_stats_ask(run->stats, run->qmp, run->kind->counts_all,
                      uv_now(run->host->loop));
    }
}

void engine_qmp_measure_begin(struct engine_qmp_run *run)
{
    const uint64_t every_ms =
        run->host->stats_ms != 0 ? run->host->stats_ms : QMP_STATS_EVERY_MS;
    if (run->stats != NULL) {
        return;
    }
    run->stats = calloc(1, sizeof(*run->stats));
    if (run->stats == NULL) {
        return; /* without numbers it runs as well; the next `running` tries again */
    }
    vm_stats_init(&run->stats->numbers, &run->vm);
    run->stats->timeout_ms = run->host->stats_timeout_ms != 0
                                 ? run->host->stats_timeout_ms
                                 : QMP_STATS_TIMEOUT_MS;
    run->stats->skips_next = 1;
    /* A host that takes over a thousand VMs does not ask them all at once. */
    run->measure =
        loop_timer_new(run->host->loop, every_ms / 2 + run->vm.uid * 37 % every_ms / 2,
                       every_ms, ask, run);
}

void engine_qmp_measure_end(struct engine_qmp_run *run)
{
    REQUIRE(run->qmp == NULL); /* it would answer into what goes here */
    run->measure = loop_timer_close(run->measure);
    free(run->stats);
    run->stats = NULL;
}
