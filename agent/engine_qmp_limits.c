/* The limits of a run's disks and NICs, as its program is told them: before it is held,
 * or in place of others while it runs. */
#include "agent/engine_qmp.h"
#include "agent/qmp_limits.h"
#include "base/log.h"

#include <stdio.h>

/* A VM that would begin without its limits does not begin. A process that was taken over
 * and has to know of none may be of a release that has no word for them: no news. */
static void limit_refused(struct engine_qmp_run *run, const struct err *why)
{
    char text[ENGINE_REASON_SIZE];
    (void)snprintf(text, sizeof(text), "a limit is not in force: %.160s", why->text);
    log_warn("engine", "a limit of a VM is not in force", KV_STR("vm", run->vm.name),
             KV_STR("why", why->text));
    if (engine_qmp_is_fresh(run)) {
        engine_qmp_failed(run, text);
    } else if (!engine_limits_are_none(&run->limits)) {
        run->events.noted(run->context, text);
    }
}

static void
on_limited(void *context, int code, const json_t *result, const struct err *error)
{
    struct engine_qmp_run *run = context;
    (void)result;
    if (code == BERTH_ECLOSED || (code == BERTH_ETIMEOUT && !engine_qmp_is_fresh(run))) {
        run->limits_due = true; /* who knows what was done */
        engine_qmp_try_again(run);
    } else if (code != 0) {
        limit_refused(run, error);
    }
}

static void limits_tell(struct engine_qmp_run *run, const json_t *blocks)
{
    struct err err = {0};
    run->limits_due = false;
    int r = qmp_limits_tell(run->qmp, &run->limits, blocks, run->kind->limits_nics,
                            on_limited, run, &err);
    if (r == BERTH_EFULL && !engine_qmp_is_fresh(run)) {
        run->limits_due = true;
        engine_qmp_try_again(run);
    } else if (r < 0) {
        limit_refused(run, &err);
    }
}

static void
on_disks(void *context, int code, const json_t *result, const struct err *error)
{
    struct engine_qmp_run *run = context;
    if (code == BERTH_ECLOSED) {
        return; /* all is asked again when the connection is back */
    }
    run->disks_asked = false;
    if (code == BERTH_ETIMEOUT) {
        engine_qmp_try_again(run); /* and for the status behind it */
        return;
    }
    if (code != 0) {
        limit_refused(run, error);
    } else {
        limits_tell(run, result);
    }
    if (run->status_due && !run->cpus_asked && run->what[0] == '\0') {
        run->status_due = false;
        engine_qmp_status_ask(run);
    }
}

void engine_qmp_limits_care(struct engine_qmp_run *run)
{
    if (!run->limits_due || run->disks_asked || run->qmp == NULL ||
        !qmp_client_is_ready(run->qmp)) {
        return;
    }
    if (!run->kind->finds_disks) {
        limits_tell(run, NULL);
    } else if (engine_qmp_command(run, "query-block", on_disks, NULL) == 0) {
        run->disks_asked = true;
    } else {
        engine_qmp_try_again(run);
    }
}

void engine_qmp_limit(struct engine_run *base, const struct engine_limits *limits)
{
    struct engine_qmp_run *run = engine_qmp_run_of(base);
    run->limits = *limits;
    run->limits_due = true;
    engine_qmp_limits_care(run);
}
