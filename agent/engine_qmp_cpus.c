/* CPUs that come while a VM runs, or before it begins: its program is asked which there
 * are, and told to add one that is missing, until none is. One at a time: a program that
 * is to add sixty has room for its other commands. What fails is tried again, and all of
 * it can be said again. */
#include "agent/engine_qmp.h"
#include "base/json.h"
#include "base/log.h"

#include <errno.h>
#include <stdio.h>

/* A machine that is being saved refuses for as long as its disk takes; one that will
 * never have another CPU is not to be asked all the time. */
#define AGAIN_MS     2000
#define AGAIN_MAX_MS 64000

static void ask_again(void *context)
{
    (void)engine_qmp_cpus_care(context);
}

/* Behind whatever calls this: nothing is told inside of plug. */
static void ask_in(struct engine_qmp_run *run, uint64_t after_ms)
{
    if (run->cpus_again == NULL) {
        run->cpus_again = loop_timer_new(run->host->loop, after_ms, 0, ask_again, run);
    } else {
        loop_timer_again(run->cpus_again, after_ms, 0);
    }
}

/* The status waits for this, and is asked whether or not all are there: a VM with fewer
 * CPUs serves better than none. */
static void asked(struct engine_qmp_run *run)
{
    run->cpus_asked = false;
    if (run->status_due && !run->disks_asked && run->what[0] == '\0') {
        run->status_due = false;
        engine_qmp_status_ask(run);
    }
}

static void all_there(struct engine_qmp_run *run)
{
    run->cpus_again_ms = 0;
    run->events.plugged(run->context, run->cpus_there, NULL);
    asked(run);
}

static void not_yet(struct engine_qmp_run *run, const struct err *why)
{
    char text[ENGINE_REASON_SIZE];
    (void)snprintf(text, sizeof(text), "a CPU is not there yet: %.160s", why->text);
    if (run->cpus_again_ms == 0) { /* else it was warned of */
        log_warn("engine", "a CPU was not added to a VM", KV_STR("vm", run->vm.name),
                 KV_STR("why", why->text));
    }
    run->cpus_again_ms = run->cpus_again_ms == 0 ? AGAIN_MS : 2 * run->cpus_again_ms;
    if (run->cpus_again_ms > AGAIN_MAX_MS) {
        run->cpus_again_ms = AGAIN_MAX_MS;
    }
    ask_in(run, run->cpus_again_ms);
    run->events.plugged(run->context, run->cpus_there, text);
    asked(run);
}

static void ask(struct engine_qmp_run *run);

static void
on_added(void *context, int code, const json_t *result, const struct err *error)
{
    struct engine_qmp_run *run = context;
    (void)result;
    if (code == BERTH_ECLOSED) {
        run->cpus_asked = false; /* all is asked again when the connection is back */
    } else if (code != 0) {
        not_yet(run, error);
    } else {
        ask(run);
    }
}

static void add(struct engine_qmp_run *run, const char *type, uint64_t core)
{
    struct err err = {0};
    json_t *arguments =
        json_pack("{s:s, s:I}", "driver", type, "core-id", (json_int_t)core);
    int r = arguments == NULL
                ? err_set(&err, -ENOMEM, "out of memory")
                : qmp_client_execute(run->qmp, "device_add", arguments,
                                     ENGINE_CALL_TIMEOUT_MS, on_added, run, &err);
    if (r < 0) {
        not_yet(run, &err);
    }
}

/* query-hotpluggable-cpus: one that is there has a qom-path. A program that says it has
 * added one, and has not, is not told so without an end. */
static void add_missing(struct engine_qmp_run *run, const json_t *cpus)
{
    const uint32_t had = run->cpus_there;
    const json_t *missing = NULL;
    uint64_t lowest = run->cpus_wanted;
    struct err err = {0};
    run->cpus_there = 0;
    for (size_t i = 0; i < json_array_size(cpus); i++) {
        const json_t *cpu = json_array_get(cpus, i);
        uint64_t core =
            json_member_u64(json_object_get(cpu, "props"), "core-id", UINT64_MAX);
        if (json_object_get(cpu, "qom-path") != NULL) {
            run->cpus_there++;
        } else if (core < lowest) {
            missing = cpu;
            lowest = core;
        }
    }
    if (missing == NULL) {
        all_there(run);
    } else if (run->cpu_added && run->cpus_there <= had) {
        (void)err_set(&err, BERTH_EPROTO, "the program has not added it");
        not_yet(run, &err);
    } else {
        run->cpu_added = true;
        add(run, json_member_text(missing, "type", ""), lowest);
    }
}

static void
on_cpus(void *context, int code, const json_t *result, const struct err *error)
{
    struct engine_qmp_run *run = context;
    if (code == BERTH_ECLOSED) {
        run->cpus_asked = false; /* as above */
    } else if (code != 0) {
        not_yet(run, error);
    } else {
        add_missing(run, result);
    }
}

static void ask(struct engine_qmp_run *run)
{
    struct err err = {0};
    int r = qmp_client_execute(run->qmp, "query-hotpluggable-cpus", NULL,
                               ENGINE_CALL_TIMEOUT_MS, on_cpus, run, &err);
    if (r < 0) {
        not_yet(run, &err);
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
        run->cpus_asked = true;
        run->cpu_added = false;
        ask(run);
    }
    return run->cpus_asked;
}

void engine_qmp_plug(struct engine_run *base, uint32_t cpu_count)
{
    struct engine_qmp_run *run = engine_qmp_run_of(base);
    run->cpus_wanted = cpu_count;
    run->cpus_again_ms = 0;
    ask_in(run, 0); /* else when its connection is up */
}
