#include "agent/engine_remains.h"

#include "agent/vm_remains.h"
#include "base/loop.h"
#include "base/require.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

struct remains_run {
    struct engine_run run;
    const struct engine_host *host;
    struct engine_vm vm;
    struct vm_process_identity identity;
    struct engine_events events;
    void *context;
    struct console_ring *console;
    struct loop_timer *look;
    struct loop_timer *grace; /* of a stop */
    uint64_t grace_end_ms;    /* loop time */
    bool stopping, killed;
    bool ending;    /* it was told to end, and writes out its disks */
    bool unwritten; /* as in engine_exit */
    bool hurried;   /* `look` comes soon, and again and again */
};

static struct remains_run *remains_of(struct engine_run *run)
{
    REQUIRE(run->ops == &engine_remains);
    return (struct remains_run *)(void *)run;
}

static int remains_signal(const struct remains_run *run, int signal_number)
{
    const struct vm_remains remains = {
        .groups = run->host->groups,
        .uid = run->vm.uid,
        .folder = run->vm.folder,
        .identity = &run->identity,
    };
    return vm_remains_signal(&remains, signal_number);
}

static void remains_look(void *context)
{
    struct remains_run *run = context;
    const struct vm_process_end unknown = {-1, -1};
    char log[ENGINE_PATH_SIZE];
    struct engine_exit exit;
    if (remains_signal(run, run->killed ? SIGKILL : 0) != 0) {
        return; /* alive, or nobody can tell */
    }
    run->look = loop_timer_close(run->look);
    run->grace = loop_timer_close(run->grace);
    (void)snprintf(log, sizeof(log), "%s/engine.log", run->vm.folder); /* fits */
    engine_exit_describe(&exit,
                         run->killed     ? ENGINE_END_KILLED
                         : run->stopping ? ENGINE_END_STOPPED
                                         : ENGINE_END_GONE,
                         &unknown, NULL, log, run->console);
    exit.unwritten = run->unwritten;
    run->events.exited(run->context, &exit); /* may close the run */
}

static struct engine_run *remains_close(struct engine_run *base)
{
    if (base != NULL) {
        struct remains_run *run = remains_of(base);
        run->look = loop_timer_close(run->look);
        run->grace = loop_timer_close(run->grace);
        free(run);
    }
    return NULL;
}

static int
remains_check(const struct engine_host *host, const struct engine_vm *vm, struct err *err)
{
    (void)host;
    (void)vm;
    return err_set(err, BERTH_EUNSUPPORTED, "no engine");
}

static struct engine_run *remains_start(const struct engine_host *host,
                                        const struct engine_vm *vm,
                                        struct console_ring *console,
                                        const struct engine_events *events,
                                        void *context,
                                        struct err *err)
{
    (void)console;
    (void)events;
    (void)context;
    (void)remains_check(host, vm, err);
    return NULL;
}

static struct engine_run *remains_adopt(const struct engine_host *host,
                                        const struct engine_vm *vm,
                                        const struct vm_process_identity *identity,
                                        struct console_ring *console,
                                        const struct engine_events *events,
                                        void *context,
                                        struct err *err)
{
    struct remains_run *run = calloc(1, sizeof(*run));
    if (run != NULL) {
        run->run.ops = &engine_remains;
        run->host = host;
        run->vm = *vm;
        run->identity = *identity;
        run->events = *events;
        run->context = context;
        run->console = console;
        run->look = loop_timer_new(host->loop, ENGINE_REMAINS_LOOK_MS,
                                   ENGINE_REMAINS_LOOK_MS, remains_look, run);
    }
    if (run == NULL || run->look == NULL) {
        err_set(err, -ENOMEM, "watch VM: out of memory");
        free(run);
        return NULL;
    }
    return &run->run;
}

static int remains_cont(struct engine_run *base, struct err *err)
{
    (void)base;
    return err_set(err, BERTH_EUNSUPPORTED, "no engine here can let it run");
}

/* Once: who asks again and again would put off for ever what sees that it has ended. */
static void remains_hurry(struct remains_run *run)
{
    if (!run->hurried) {
        run->hurried = true;
        loop_timer_again(run->look, ENGINE_REMAINS_KILL_MS, ENGINE_REMAINS_KILL_MS);
    }
}

static void remains_kill(struct engine_run *base)
{
    struct remains_run *run = remains_of(base);
    const int left = remains_signal(run, SIGKILL); /* seen, and again, at the next look */
    run->unwritten = run->unwritten || (run->ending && !run->killed && left != 0);
    run->killed = true;
    remains_hurry(run);
}

static void remains_grace_over(void *context)
{
    struct remains_run *run = context;
    remains_kill(&run->run);
}

/* SIGTERM is all that every VMM understands: it ends with its disks in order, though the
 * guest is not asked. */
static void remains_stop(struct engine_run *base, uint64_t grace_ms)
{
    struct remains_run *run = remains_of(base);
    const uint64_t now_ms = uv_now(run->host->loop);
    grace_ms = grace_ms != 0 ? grace_ms : engine_host_ending_ms(run->host);
    run->stopping = true;
    if (run->grace == NULL) {
        run->grace =
            loop_timer_new(run->host->loop, grace_ms, 0, remains_grace_over, run);
        run->grace_end_ms = now_ms + grace_ms;
    } else if (now_ms + grace_ms < run->grace_end_ms) {
        loop_timer_again(run->grace, grace_ms, 0);
        run->grace_end_ms = now_ms + grace_ms;
    }
    const int told = run->grace == NULL ? -ENOMEM : remains_signal(run, SIGTERM);
    run->ending = run->ending || told > 0;
    if (told < 0) {
        remains_kill(base);
    }
    remains_hurry(run);
}

/* Nobody here speaks its engine's language. */
static void remains_limit(struct engine_run *base, const struct engine_limits *limits)
{
    (void)base;
    (void)limits;
}

static int remains_freeze(struct engine_run *base, bool frozen)
{
    int r = remains_signal(remains_of(base), frozen ? SIGSTOP : SIGCONT);
    return r > 0 ? 0 : r == 0 ? -ESRCH : r;
}

static int remains_sample(struct engine_run *base, struct engine_sample *ret_sample)
{
    (void)base;
    (void)ret_sample;
    return BERTH_EUNSUPPORTED;
}

static int remains_console_write(struct engine_run *base, const void *data, size_t size)
{
    (void)base;
    (void)data;
    (void)size;
    return BERTH_EUNSUPPORTED;
}

const struct engine_ops engine_remains = {
    .name = "remains",
    .engine = ENGINE_AUTO, /* never looked up */
    .check = remains_check,
    .start = remains_start,
    .adopt = remains_adopt,
    .release = remains_cont,
    .cont = remains_cont,
    .pause = remains_cont,
    .limit = remains_limit,
    .stop = remains_stop,
    .kill = remains_kill,
    .freeze = remains_freeze,
    .sample = remains_sample,
    .console_write = remains_console_write,
    .close = remains_close,
};
