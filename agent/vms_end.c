#include "agent/vms_end.h"

#include <time.h>

#define TURN_MS 20

struct ending {
    struct vm_supervisor *supervisor;
    bool asks;
    unsigned alive;
};

static void visit(void *context, const struct vm_report *report)
{
    struct ending *ending = context;
    if (!report->alive) {
        return;
    }
    ending->alive++;
    /* Whatever comes of either: tried again at the next turn. */
    if (ending->asks) {
        (void)vm_supervisor_end(ending->supervisor, report->uid, report->epoch_seen,
                                "cleanup", NULL);
    } else {
        (void)vm_supervisor_kill(ending->supervisor, report->uid, report->epoch_seen,
                                 "cleanup", NULL);
    }
}

int vms_end(uv_loop_t *loop,
            struct vm_supervisor *supervisor,
            uint64_t ask_ms,
            struct err *err)
{
    const uint64_t turns = (ask_ms + VMS_END_KILL_MS) / TURN_MS;
    struct ending ending = {.supervisor = supervisor};
    for (uint64_t turn = 0; turn < turns; turn++) {
        const struct timespec pause = {.tv_nsec = TURN_MS * 1000L * 1000};
        uv_run(loop, UV_RUN_NOWAIT);
        ending.asks = turn < ask_ms / TURN_MS;
        ending.alive = 0;
        vm_supervisor_each(supervisor, visit, &ending);
        if (ending.alive == 0 && turn > 1) { /* what was found has been told by then */
            return 0;
        }
        (void)nanosleep(&pause, NULL); /* shorter is as good */
    }
    return err_set(err, BERTH_ETIMEOUT, "some VMs do not end");
}
