#include "agent/vms_end.h"

#include "base/clock.h"

#include <time.h>

#define TURN_MS 20
/* Between our kill and the fence: turns, and a busy host. */
#define EARLY_MS 100

struct ending {
    struct vm_supervisor *supervisor;
    const struct vms_end_times *times;
    uint64_t past_ms;
    unsigned alive;
};

static void visit(void *context, const struct vm_report *report)
{
    struct ending *ending = context;
    const struct vms_end_times *times = ending->times;
    const uint64_t ask_ms = report->fenced ? times->fenced_ms : times->ask_ms;
    if (!report->alive) {
        return;
    }
    ending->alive++;
    /* Whatever comes of either: tried again at the next turn. */
    if (ending->past_ms < ask_ms) {
        (void)vm_supervisor_end(ending->supervisor, report->uid, report->epoch_seen,
                                "cleanup", NULL);
    } else { /* the reason is of one that was not asked */
        (void)vm_supervisor_kill(
            ending->supervisor, report->uid, report->epoch_seen,
            times->ask_ms > ask_ms
                ? "cleanup: with no lease to write its disks out in, it was killed"
                : "cleanup",
            NULL);
    }
}

struct vms_end_times vms_end_times(uint64_t ask_ms, uint64_t freezes_ns, uint64_t now_ns)
{
    const uint64_t left_ms = freezes_ns > now_ns ? (freezes_ns - now_ns) / NS_PER_MS : 0;
    const uint64_t fenced_ms = left_ms > EARLY_MS ? left_ms - EARLY_MS : 0;
    return (struct vms_end_times){
        .ask_ms = ask_ms,
        .fenced_ms = fenced_ms < ask_ms ? fenced_ms : ask_ms,
    };
}

/* Runs on while the host sleeps, as a lease does. */
static uint64_t now_ms(void)
{
    return clock_now_ns(clock_system()) / NS_PER_MS;
}

int vms_end(uv_loop_t *loop,
            struct vm_supervisor *supervisor,
            const struct vms_end_times *times,
            struct err *err)
{
    const uint64_t asked_ms =
        times->ask_ms > times->fenced_ms ? times->ask_ms : times->fenced_ms;
    const uint64_t begin_ms = now_ms();
    struct ending ending = {.supervisor = supervisor, .times = times};
    for (unsigned turn = 0; ending.past_ms < asked_ms + VMS_END_KILL_MS; turn++) {
        const struct timespec pause = {.tv_nsec = TURN_MS * 1000L * 1000};
        uv_run(loop, UV_RUN_NOWAIT);
        ending.past_ms = now_ms() - begin_ms;
        ending.alive = 0;
        vm_supervisor_each(supervisor, visit, &ending);
        if (ending.alive == 0 && turn > 1) { /* what was found has been told by then */
            return 0;
        }
        (void)nanosleep(&pause, NULL); /* shorter is as good */
    }
    return err_set(err, BERTH_ETIMEOUT, "some VMs do not end");
}
