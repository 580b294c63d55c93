/* CPUs that come while a VM runs, or before it begins: its program is asked which there
 * may be, and told to add those that are missing. All of it can be said again. */
#include "agent/engine_qmp.h"
#include "base/json.h"
#include "base/log.h"

#include <errno.h>
#include <stdio.h>

static void refused(struct engine_qmp_run *run, const struct err *why)
{
    char text[ENGINE_REASON_SIZE];
    (void)snprintf(text, sizeof(text), "a CPU was not added: %.160s", why->text);
    log_warn("engine", "a CPU was not added to a VM", KV_STR("vm", run->vm.name),
             KV_STR("why", why->text));
    run->events.noted(run->context, text);
}

/* One that is lost with its connection is told again over the next. */
static void
on_added(void *context, int code, const json_t *result, const struct err *error)
{
    (void)result;
    if (code != 0 && code != BERTH_ECLOSED) {
        refused(context, error);
    }
}

static void add(struct engine_qmp_run *run, const char *type, uint32_t core)
{
    struct err err = {0};
    json_t *arguments =
        json_pack("{s:s, s:I}", "driver", type, "core-id", (json_int_t)core);
    int r = arguments == NULL
                ? err_set(&err, -ENOMEM, "out of memory")
                : qmp_client_execute(run->qmp, "device_add", arguments,
                                     ENGINE_CALL_TIMEOUT_MS, on_added, run, &err);
    if (r < 0) {
        refused(run, &err);
    }
}

/* query-hotpluggable-cpus: one that is there has a qom-path. */
static void add_missing(struct engine_qmp_run *run, const json_t *cpus)
{
    for (size_t i = 0; i < json_array_size(cpus); i++) {
        const json_t *cpu = json_array_get(cpus, i);
        uint64_t core =
            json_member_u64(json_object_get(cpu, "props"), "core-id", UINT64_MAX);
        if (core < run->cpus_wanted && json_object_get(cpu, "qom-path") == NULL) {
            add(run, json_member_text(cpu, "type", ""), (uint32_t)core);
        }
    }
}

static void
on_cpus(void *context, int code, const json_t *result, const struct err *error)
{
    struct engine_qmp_run *run = context;
    run->cpus_asked = false;
    if (code == BERTH_ECLOSED) {
        return; /* all is asked again when the connection is back */
    }
    if (code != 0) {
        refused(run, error);
    } else {
        add_missing(run, result);
    }
    if (run->status_due && !run->disks_asked && run->what[0] == '\0') {
        run->status_due = false;
        engine_qmp_status_ask(run);
    }
}

bool engine_qmp_cpus_care(struct engine_qmp_run *run)
{
    if (run->cpus_wanted == 0) {
        run->cpus_wanted = run->vm.cpu_count;
    }
    if (!run->kind->plugs_cpus || run->vm.cpu_max < 2 || run->qmp == NULL ||
        !qmp_client_is_ready(run->qmp)) {
        return false;
    }
    if (!run->cpus_asked) {
        struct err err = {0};
        int r = qmp_client_execute(run->qmp, "query-hotpluggable-cpus", NULL,
                                   ENGINE_CALL_TIMEOUT_MS, on_cpus, run, &err);
        run->cpus_asked = r == 0;
        if (r < 0) {
            refused(run, &err);
        }
    }
    return run->cpus_asked;
}

void engine_qmp_plug(struct engine_run *base, uint32_t cpu_count)
{
    struct engine_qmp_run *run = engine_qmp_run_of(base);
    run->cpus_wanted = cpu_count;
    (void)engine_qmp_cpus_care(run); /* else when its connection is up */
}
