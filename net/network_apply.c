#include "net/network_apply.h"

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/list.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/require.h"
#include "net/dhcp_dns.h"
#include "net/firewall_rules.h"
#include "net/netlink.h"
#include "net/network_clash.h"
#include "net/network_observe.h"
#include "net/network_step.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ROOM             "net"
#define RULES_TIMEOUT_MS 30000 /* a full host's rules on a busy machine */
#define QUERY_TIMEOUT_MS 10000
#define START_TIMEOUT_MS 10000
#define STOP_TERM_MS     2000 /* from SIGTERM to SIGKILL */
#define STOP_KILL_MS     2000 /* from SIGKILL to giving up */
#define STEPS_PER_TURN \
    256 /* netlink requests before other work gets its turn: well below 10 ms */
#define LEASE_FILE_MAX (1u << 20)

/* One call of network_apply_set that waits for its outcome. */
struct waiter {
    struct list link;
    uint64_t generation;
    network_apply_done *done;
    void *context;
};

/* A helper process on its way out; owns its poll handle until that is closed. */
struct stopping {
    uv_poll_t poll;
    struct network_apply *apply; /* NULL once nobody waits any more */
    int pidfd;
    bool killed;
};

/* One pass from looking to done. */
struct run {
    uint64_t generation;
    struct network_want *wants; /* owned */
    size_t count;
    struct network_clash *clashes; /* of the wants that were left out */
    size_t clash_count;
    char *rules_text;
    uint64_t rules_hash;
    struct dhcp_dns_texts *texts;     /* one per want */
    struct network_service *services; /* one per want: what is wanted */
    struct network_plan plan;
    size_t position;
    uint32_t *failed_vnis; /* room for all of the plan's networks */
    size_t failed_count;
    bool halted;    /* rules failed: nothing more goes up */
    struct err err; /* the first failure */
};

struct network_apply {
    uv_loop_t *loop;
    struct network_host host;
    char *state_folder; /* host.state_folder */
    const char *user;   /* whom dnsmasq runs as */
    struct netlink *netlink;
    struct loop_timer *turn; /* "go on in a fresh callback" */
    struct loop_timer *deadline;
    struct loop_child *child;
    struct stopping *stopping;
    void (*after_stop)(struct network_apply *apply, bool gone);
    struct list waiters;
    size_t waiter_count;
    struct list due;     /* waiters being called */
    bool *ret_closed;    /* told by close while they are called */
    uint64_t generation; /* of the newest set */
    struct network_want *next;
    size_t next_count;
    bool next_pending;
    bool running;
    struct run run;
    struct network_want *applied; /* by the last finished run */
    size_t applied_count;
    struct network_clash *refused;
    size_t refused_count;
    uint32_t *applied_failed_vnis;
    size_t applied_failed_count;
    bool applied_halted;
    struct network_apply_stats stats;
};

static void run_begin(struct network_apply *apply);
static void run_continue(struct network_apply *apply);
static void step_finish(struct network_apply *apply, int code, const struct err *err);

/* ---- a run's memory ---- */

static void run_fini(struct run *run)
{
    for (size_t i = 0; run->texts != NULL && i < run->count; i++) {
        dhcp_dns_texts_fini(&run->texts[i]);
    }
    free(run->texts);
    free(run->services);
    free(run->rules_text);
    free(run->failed_vnis);
    free(run->clashes);
    network_plan_fini(&run->plan);
    run->wants = network_wants_free(run->wants, run->count);
    *run = (struct run){0};
}

static int run_render(struct network_apply *apply, struct err *err)
{
    struct run *run = &apply->run;

    run->texts = calloc(run->count + 1, sizeof(*run->texts));
    run->services = calloc(run->count + 1, sizeof(*run->services));
    if (run->texts == NULL || run->services == NULL) {
        return err_set(err, -ENOMEM, "render networks: out of memory");
    }
    for (size_t i = 0; i < run->count; i++) {
        const struct network_want *want = &run->wants[i];
        int r = dhcp_dns_render(&apply->host, want, apply->user, &run->texts[i], err);
        if (r != 0) {
            return r;
        }
        run->services[i] =
            (struct network_service){.vni = want->vni,
                                     /* Only VMs here ask it. */
                                     .running = want->port_count > 0,
                                     .config_hash = run->texts[i].config_hash,
                                     .hosts_hash = run->texts[i].hosts_hash};
    }
    return run->count == 0
               ? 0
               : firewall_rules_render(&apply->host, run->wants, run->count,
                                       &run->rules_text, &run->rules_hash, err);
}

static const struct dhcp_dns_texts *run_texts(const struct run *run, uint32_t vni)
{
    for (size_t i = 0; i < run->count; i++) {
        if (run->wants[i].vni == vni) {
            return &run->texts[i];
        }
    }
    return NULL;
}

static const struct network_want *run_want(const struct run *run, uint32_t vni)
{
    for (size_t i = 0; i < run->count; i++) {
        if (run->wants[i].vni == vni) {
            return &run->wants[i];
        }
    }
    return NULL;
}

static bool vni_listed(const uint32_t *vnis, size_t count, uint32_t vni)
{
    for (size_t i = 0; i < count; i++) {
        if (vnis[i] == vni) {
            return true;
        }
    }
    return false;
}

/* ---- end of a run ---- */

static void
fire_waiters(struct network_apply *apply, uint64_t generation, int code, struct err err)
{
    bool closed = false;

    LIST_EACH_SAFE (link, &apply->waiters) {
        if (LIST_ITEM(link, struct waiter, link)->generation <= generation) {
            list_remove(link);
            list_push_back(&apply->due, link);
            apply->waiter_count--;
        }
    }
    /* A callback may set again or close the object, and then the rest is not called. */
    apply->ret_closed = &closed;
    for (struct list *link; !closed && (link = list_pop_front(&apply->due)) != NULL;) {
        struct waiter *waiter = LIST_ITEM(link, struct waiter, link);
        network_apply_done *done = waiter->done;
        void *context = waiter->context;
        free(waiter);
        if (done != NULL) {
            done(context, code, code != 0 ? &err : NULL);
        }
    }
    if (!closed) {
        apply->ret_closed = NULL;
    }
}

static void run_remember(struct network_apply *apply)
{
    struct run *run = &apply->run;

    apply->applied = network_wants_free(apply->applied, apply->applied_count);
    free(apply->applied_failed_vnis);
    free(apply->refused);
    apply->refused = TAKE_PTR(run->clashes);
    apply->refused_count = run->clash_count;
    apply->applied = TAKE_PTR(run->wants);
    apply->applied_count = run->count;
    apply->applied_failed_vnis = TAKE_PTR(run->failed_vnis);
    apply->applied_failed_count = run->failed_count;
    apply->applied_halted = run->halted;
    apply->stats.networks = apply->applied_count;
    apply->stats.ports = 0;
    for (size_t i = 0; i < apply->applied_count; i++) {
        apply->stats.ports += apply->applied[i].port_count;
    }
}

static void run_finish(struct network_apply *apply)
{
    uint64_t generation = apply->run.generation;
    struct err err = apply->run.err;

    if (err.code != 0) {
        log_error(ROOM, "tenant networks are not as wanted", KV_STR("error", err.text));
    }
    run_remember(apply);
    run_fini(&apply->run);
    apply->running = false;
    if (apply->next_pending) {
        loop_timer_again(apply->turn, 0, 0);
    }
    fire_waiters(apply, generation, err.code, err);
}

static void run_abort(struct network_apply *apply, const struct err *err)
{
    apply->run.err = *err;
    apply->run.halted = true;
    run_finish(apply);
}

/* ---- rules ---- */

/* A child's failure in words: what it wrote to stderr, one line of it. */
static int
child_error(const struct loop_child_result *result, const char *what, struct err *err)
{
    int length = (int)strcspn(result->errors, "\n");

    return length > 0
               ? err_set(err, result->code, "%s: %.*s", what, length, result->errors)
               : err_sys(err, result->code, "%s", what);
}

static void on_rules(void *context, const struct loop_child_result *result)
{
    struct network_apply *apply = context;
    struct err err = {0};

    apply->child = NULL;
    if (result->code == 0) {
        apply->stats.rules_installs++;
    } else {
        (void)child_error(result, "nft", &err);
    }
    step_finish(apply, result->code, &err);
}

/* Starts a child whose result finishes the step under way. */
static void step_child(struct network_apply *apply,
                       const char *const *argv,
                       const char *input,
                       uint64_t timeout_ms,
                       void (*done)(void *, const struct loop_child_result *))
{
    struct err err = {0};

    apply->child =
        loop_child_run(apply->loop, argv, input, timeout_ms, done, apply, &err);
    if (apply->child == NULL) {
        step_finish(apply, err.code, &err);
    }
}

static void rules_install(struct network_apply *apply, bool wanted)
{
    static const char *const argv[] = {"nft", "-j", "-f", "-", NULL};

    step_child(apply, argv, wanted ? apply->run.rules_text : firewall_rules_removal(),
               RULES_TIMEOUT_MS, on_rules);
}

/* ---- services ---- */

static const struct network_step *step_now_running(const struct network_apply *apply)
{
    return &apply->run.plan.steps[apply->run.position];
}

static void on_stopping_closed(uv_handle_t *handle)
{
    struct stopping *stopping = (struct stopping *)(void *)handle;

    fd_close(&stopping->pidfd);
    free(stopping);
}

static void stopping_end(struct network_apply *apply)
{
    struct stopping *stopping = TAKE_PTR(apply->stopping);

    if (stopping != NULL) {
        stopping->apply = NULL;
        uv_close((uv_handle_t *)&stopping->poll, on_stopping_closed);
    }
    apply->deadline = loop_timer_close(apply->deadline);
}

static void on_helper_gone(uv_poll_t *poll, int status, int events)
{
    struct stopping *stopping = (struct stopping *)(void *)poll;
    struct network_apply *apply = stopping->apply;

    (void)status;
    (void)events;
    if (apply != NULL) {
        stopping_end(apply);
        apply->after_stop(apply, true);
    }
}

static void on_stop_deadline(void *context)
{
    struct network_apply *apply = context;

    if (!apply->stopping->killed) {
        apply->stopping->killed = true;
        (void)syscall(SYS_pidfd_send_signal, apply->stopping->pidfd, SIGKILL, NULL, 0);
        loop_timer_again(apply->deadline, STOP_KILL_MS, 0);
        return;
    }
    stopping_end(apply);
    apply->after_stop(apply, false);
}

/* Ends the network's helper, then calls after_stop: later, or at once when none runs (the
 * caller is a step, which may finish within its own start). */
static void service_end(struct network_apply *apply,
                        uint32_t vni,
                        void (*after_stop)(struct network_apply *apply, bool gone))
{
    struct dhcp_dns_instance instance;

    dhcp_dns_find(&apply->host, vni, &instance);
    CLEANUP_FD int fd = dhcp_dns_open(&apply->host, vni, &instance);
    if (fd < 0) {
        after_stop(apply, true);
        return;
    }
    struct stopping *stopping = calloc(1, sizeof(*stopping));
    apply->deadline =
        loop_timer_new(apply->loop, STOP_TERM_MS, 0, on_stop_deadline, apply);
    if (stopping == NULL || apply->deadline == NULL ||
        uv_poll_init(apply->loop, &stopping->poll, fd) != 0) {
        free(stopping);
        apply->deadline = loop_timer_close(apply->deadline);
        after_stop(apply, false);
        return;
    }
    stopping->apply = apply;
    stopping->pidfd = TAKE_FD(fd);
    apply->stopping = stopping;
    apply->after_stop = after_stop;
    (void)uv_poll_start(&stopping->poll, UV_READABLE,
                        on_helper_gone); /* the deadline is the net */
    (void)syscall(SYS_pidfd_send_signal, stopping->pidfd, SIGTERM, NULL,
                  0); /* gone is fine too */
}

static int still_runs(uint32_t vni, struct err *err)
{
    return err_set(err, BERTH_EBUSY, "dnsmasq of network %u does not end", vni);
}

static void after_service_stop(struct network_apply *apply, bool gone)
{
    uint32_t vni = step_now_running(apply)->vni;
    struct err err = {0};
    int r = gone ? dhcp_dns_remove(&apply->host, vni, &err) : still_runs(vni, &err);

    step_finish(apply, r, &err);
}

static void on_service_started(void *context, const struct loop_child_result *result)
{
    struct network_apply *apply = context;
    uint32_t vni = step_now_running(apply)->vni;
    struct err err = {0};
    int r = result->code;

    apply->child = NULL;
    if (r != 0) {
        (void)child_error(result, "dnsmasq", &err);
    } else {
        r = dhcp_dns_note(&apply->host, vni, run_texts(&apply->run, vni), &err);
    }
    apply->stats.service_starts += r == 0;
    step_finish(apply, r, &err);
}

static void after_service_restart(struct network_apply *apply, bool gone)
{
    uint32_t vni = step_now_running(apply)->vni;
    char config[DHCP_DNS_PATH_SIZE];
    char argument[DHCP_DNS_PATH_SIZE + 16];
    const char *const argv[] = {"dnsmasq", argument, NULL};
    struct err err = {0};

    int r =
        gone ? dhcp_dns_write(&apply->host, vni, run_texts(&apply->run, vni), true, &err)
             : still_runs(vni, &err);
    if (r != 0) {
        step_finish(apply, r, &err);
        return;
    }
    dhcp_dns_path(&apply->host, vni, "dnsmasq.conf", config);
    (void)snprintf(argument, sizeof(argument), "--conf-file=%s", config);
    /* It goes to the background once it listens, so the child's end says whether it
     * works. */
    step_child(apply, argv, NULL, START_TIMEOUT_MS, on_service_started);
}

static bool lease_in_the_way(const struct network_apply *apply, uint32_t vni)
{
    char path[DHCP_DNS_PATH_SIZE];
    CLEANUP_FREE uint8_t *text = NULL;
    size_t size = 0;

    dhcp_dns_path(&apply->host, vni, "leases", path);
    return fd_read_file(AT_FDCWD, path, LEASE_FILE_MAX, &text, &size, NULL) == 0 &&
           dhcp_dns_lease_conflict((const char *)text, run_want(&apply->run, vni));
}

static void service_reload(struct network_apply *apply, uint32_t vni)
{
    const struct dhcp_dns_texts *texts = run_texts(&apply->run, vni);
    struct dhcp_dns_instance instance;
    struct err err = {0};

    dhcp_dns_find(&apply->host, vni, &instance);
    CLEANUP_FD int fd = dhcp_dns_open(&apply->host, vni, &instance);
    if (fd < 0 || lease_in_the_way(apply, vni)) {
        service_end(apply, vni, after_service_restart);
        return;
    }
    int r = dhcp_dns_write(&apply->host, vni, texts, false, &err);
    if (r == 0 && syscall(SYS_pidfd_send_signal, fd, SIGHUP, NULL, 0) != 0) {
        r = err_sys(&err, -errno, "signal dnsmasq");
    }
    if (r == 0) {
        r = dhcp_dns_note(&apply->host, vni, texts, &err);
    }
    apply->stats.service_reloads += r == 0;
    step_finish(apply, r, &err);
}

/* ---- the walk through the plan ---- */

static bool step_is_skipped(const struct run *run, const struct network_step *step)
{
    return run->halted ||
           (step->vni != 0 && vni_listed(run->failed_vnis, run->failed_count, step->vni));
}

static void
step_failed(struct network_apply *apply, const struct network_step *step, struct err err)
{
    struct run *run = &apply->run;
    char text[NETWORK_TEXT_SIZE];

    apply->stats.failures++;
    network_step_format(step, text);
    (void)err_wrap(&err, err.code, "%s", text);
    log_warn(ROOM, "network step failed", KV_U64("vni", step->vni),
             KV_STR("error", err.text));
    if (run->err.code == 0) {
        run->err = err;
    }
    if (step->kind == NETWORK_STEP_RULES_INSTALL) {
        run->halted = true;
    } else if (step->vni != 0) {
        run->failed_vnis[run->failed_count++] =
            step->vni; /* once each: the rest is skipped */
    }
}

static void step_account(struct network_apply *apply, int code, const struct err *err)
{
    const struct network_step *step = step_now_running(apply);
    char text[NETWORK_TEXT_SIZE];

    apply->stats.steps++;
    apply->stats.steps_last_run++;
    if (log_enabled(LOG_LEVEL_DEBUG)) {
        network_step_format(step, text);
        log_debug(ROOM, "network step", KV_STR("step", text), KV_I64("code", code));
    }
    if (code != 0) {
        step_failed(apply, step, err->code != 0 ? *err : (struct err){.code = code});
    }
    apply->run.position++;
}

/* An asynchronous step ends here; the walk goes on in a fresh callback, so the stack
 * stays flat. */
static void step_finish(struct network_apply *apply, int code, const struct err *err)
{
    step_account(apply, code, err);
    loop_timer_again(apply->turn, 0, 0);
}

/* True when the step has been started as an asynchronous one. */
static bool step_start(struct network_apply *apply, const struct network_step *step)
{
    switch (step->kind) {
    case NETWORK_STEP_RULES_INSTALL:
    case NETWORK_STEP_RULES_REMOVE:
        rules_install(apply, step->kind == NETWORK_STEP_RULES_INSTALL);
        return true;
    case NETWORK_STEP_SERVICE_STOP:
        service_end(apply, step->vni, after_service_stop);
        return true;
    case NETWORK_STEP_SERVICE_START:
        service_end(apply, step->vni, after_service_restart);
        return true;
    case NETWORK_STEP_SERVICE_RELOAD:
        service_reload(apply, step->vni);
        return true;
    default:
        return false;
    }
}

static void run_continue(struct network_apply *apply)
{
    struct run *run = &apply->run;

    for (int budget = STEPS_PER_TURN; run->position < run->plan.count; budget--) {
        const struct network_step *step = step_now_running(apply);
        struct err err = {0};
        if (budget == 0) {
            loop_timer_again(apply->turn, 0, 0);
            return;
        }
        if (step_is_skipped(run, step)) {
            run->position++;
            continue;
        }
        if (step_start(apply, step)) {
            return;
        }
        step_account(apply, network_step_run(apply->netlink, &apply->host, step, &err),
                     &err);
    }
    run_finish(apply);
}

/* ---- begin of a run ---- */

static void run_plan(struct network_apply *apply, uint64_t rules_hash)
{
    struct run *run = &apply->run;
    struct network_rendered rendered = {.rules_hash = run->rules_hash,
                                        .services = run->services};
    struct network_observed observed = {0};
    struct err err = {0};

    int r = network_observe(apply->netlink, &apply->host, &observed, &err);
    if (r == 0) {
        observed.rules_hash = rules_hash;
        r = network_plan_make(&apply->host, run->wants, run->count, &rendered, &observed,
                              &run->plan, &err);
    }
    network_observed_fini(&observed);
    if (r == 0) {
        run->failed_vnis = calloc(run->plan.count + 1, sizeof(*run->failed_vnis));
        r = run->failed_vnis == NULL
                ? err_set(&err, -ENOMEM, "plan networks: out of memory")
                : 0;
    }
    if (r != 0) {
        run_abort(apply, &err);
        return;
    }
    apply->stats.steps_last_run = 0;
    run_continue(apply);
}

static void run_query(struct network_apply *apply,
                      const char *command,
                      void (*done)(void *, const struct loop_child_result *))
{
    const char *const argv[] = {"nft", command, NULL};
    struct err err = {0};

    apply->child =
        loop_child_run(apply->loop, argv, NULL, QUERY_TIMEOUT_MS, done, apply, &err);
    if (apply->child == NULL) {
        run_abort(apply, &err);
    }
}

static void on_tables_known(void *context, const struct loop_child_result *result)
{
    struct network_apply *apply = context;
    bool found = strstr(result->output, "table bridge berth\n") != NULL ||
                 strstr(result->output, "table ip berth\n") != NULL;

    apply->child = NULL;
    run_plan(apply, found ? NETWORK_RULES_UNKNOWN : NETWORK_RULES_NONE);
}

static void on_ip_marker_known(void *context, const struct loop_child_result *result)
{
    struct network_apply *apply = context;

    apply->child = NULL;
    run_plan(apply, result->code == 0 ? apply->run.rules_hash : NETWORK_RULES_UNKNOWN);
}

/* The table's marker, by a command of nft; one table per command, for nft 1.0.6 loses the
 * second. */
static void run_query_marker(struct network_apply *apply,
                             const char *family,
                             void (*done)(void *, const struct loop_child_result *))
{
    char marker[FIREWALL_MARKER_SIZE];
    char command[3 * FIREWALL_MARKER_SIZE];

    firewall_rules_marker(apply->run.rules_hash, marker);
    (void)snprintf(command, sizeof(command), "list chain %s berth %s", family, marker);
    run_query(apply, command, done);
}

static void on_bridge_marker_known(void *context, const struct loop_child_result *result)
{
    struct network_apply *apply = context;

    apply->child = NULL;
    if (result->code != 0) {
        run_plan(apply, NETWORK_RULES_UNKNOWN);
        return;
    }
    run_query_marker(apply, "ip", on_ip_marker_known);
}

/* Asks nft whether the wanted rules are in place; without wants, whether any are. */
static void run_query_rules(struct network_apply *apply)
{
    if (apply->run.count > 0) {
        run_query_marker(apply, "bridge", on_bridge_marker_known);
    } else {
        run_query(apply, "list tables", on_tables_known);
    }
}

/* Takes out what this host cannot carry; said once, not at every look. */
static int run_leave_out(struct network_apply *apply, struct err *err)
{
    struct run *run = &apply->run;

    int r = network_clash_find(apply->netlink, &apply->host, run->wants, run->count,
                               &run->clashes, &run->clash_count, err);
    for (size_t i = 0; r == 0 && i < run->clash_count; i++) {
        const struct network_clash *clash = &run->clashes[i];
        size_t at = 0;
        while (run->wants[at].vni != clash->vni) {
            at++;
        }
        if (network_apply_refusal(apply, clash->vni) == NULL) {
            log_warn(ROOM, "a network cannot be on this host",
                     KV_STR("network", run->wants[at].name),
                     KV_STR("tenant", run->wants[at].tenant), KV_STR("why", clash->text));
        }
        network_wants_drop(run->wants, &run->count, at);
    }
    return r;
}

static void run_begin(struct network_apply *apply)
{
    struct err err = {0};

    apply->running = true;
    apply->stats.runs++;
    apply->run = (struct run){.generation = apply->generation,
                              .wants = TAKE_PTR(apply->next),
                              .count = apply->next_count};
    apply->next_pending = false;
    if (run_leave_out(apply, &err) != 0 || run_render(apply, &err) != 0) {
        run_abort(apply, &err);
        return;
    }
    run_query_rules(apply);
}

static void on_turn(void *context)
{
    struct network_apply *apply = context;

    if (apply->running) {
        run_continue(apply);
    } else if (apply->next_pending) {
        run_begin(apply);
    }
}

/* ---- the object ---- */

struct network_apply *
network_apply_new(uv_loop_t *loop, const struct network_host *host, struct err *err)
{
    if (network_wants_check(host, NULL, 0, err) != 0) {
        return NULL;
    }
    struct network_apply *apply = calloc(1, sizeof(*apply));
    if (apply == NULL) {
        (void)err_set(err, -ENOMEM, "start tenant networks: out of memory");
        return NULL;
    }
    apply->loop = loop;
    apply->host = *host;
    list_init(&apply->waiters);
    list_init(&apply->due);
    apply->state_folder = strdup(host->state_folder);
    apply->host.state_folder = apply->state_folder;
    /* Armed only when there is something to do: an hour's idle shot does nothing. */
    apply->turn = loop_timer_new(loop, 3600 * UINT64_C(1000), 0, on_turn, apply);
    if (apply->state_folder == NULL || apply->turn == NULL) {
        (void)err_set(err, -ENOMEM, "start tenant networks: out of memory");
        return network_apply_close(apply);
    }
    if (netlink_open(&apply->netlink, err) != 0) {
        return network_apply_close(apply);
    }
    apply->user = dhcp_dns_user(&apply->host);
    if (strcmp(apply->user, "root") == 0) {
        log_warn(ROOM, "dnsmasq keeps root: the state folder is closed to others",
                 KV_STR("folder", apply->state_folder));
    }
    return apply;
}

int network_apply_set(struct network_apply *apply,
                      const struct network_want *wants,
                      size_t count,
                      network_apply_done *done,
                      void *context,
                      struct err *err)
{
    struct network_want *copy = NULL;

    int r = network_wants_check(&apply->host, wants, count, err);
    if (r != 0) {
        return r;
    }
    if (apply->waiter_count >= NETWORK_APPLY_WAITERS_MAX) {
        return err_set(err, BERTH_EFULL, "%d callers wait for tenant networks",
                       NETWORK_APPLY_WAITERS_MAX);
    }
    struct waiter *waiter = calloc(1, sizeof(*waiter));
    if (waiter == NULL) {
        return err_set(err, -ENOMEM, "set tenant networks: out of memory");
    }
    r = network_wants_copy(wants, count, &copy, err);
    if (r != 0) {
        free(waiter);
        return r;
    }
    (void)network_wants_free(apply->next, apply->next_count);
    apply->next = copy;
    apply->next_count = count;
    apply->next_pending = true;
    apply->stats.sets++;
    *waiter = (struct waiter){
        .generation = ++apply->generation, .done = done, .context = context};
    list_push_back(&apply->waiters, &waiter->link);
    apply->waiter_count++;
    if (!apply->running) {
        loop_timer_again(apply->turn, 0, 0);
    }
    return 0;
}

static bool wants_port(const struct network_want *wants,
                       size_t count,
                       uint32_t vni,
                       const struct network_port *port)
{
    for (size_t w = 0; w < count; w++) {
        for (size_t i = 0; wants[w].vni == vni && i < wants[w].port_count; i++) {
            const struct network_port *wanted = &wants[w].ports[i];
            if (strcmp(wanted->tap, port->tap) == 0) {
                return wanted->mac == port->mac && wanted->ipv4 == port->ipv4;
            }
        }
    }
    return false;
}

bool network_apply_port_ready(const struct network_apply *apply,
                              uint32_t vni,
                              const struct network_port *port)
{
    return !apply->applied_halted &&
           !vni_listed(apply->applied_failed_vnis, apply->applied_failed_count, vni) &&
           wants_port(apply->applied, apply->applied_count, vni, port) &&
           (!apply->running || wants_port(apply->run.wants, apply->run.count, vni, port));
}

const char *network_apply_refusal(const struct network_apply *apply, uint32_t vni)
{
    for (size_t i = 0; i < apply->refused_count; i++) {
        if (apply->refused[i].vni == vni) {
            return apply->refused[i].text;
        }
    }
    return NULL;
}

int network_apply_taken(struct network_apply *apply,
                        struct network_taken_look *ret_look,
                        struct err *err)
{
    return network_taken_find(apply->netlink, ret_look, err);
}

void network_apply_stats(const struct network_apply *apply,
                         struct network_apply_stats *ret_stats)
{
    *ret_stats = apply->stats;
}

struct network_apply *network_apply_close(struct network_apply *apply)
{
    if (apply == NULL) {
        return NULL;
    }
    stopping_end(apply);
    (void)loop_child_close(apply->child);
    (void)loop_timer_close(apply->turn);
    if (apply->ret_closed != NULL) {
        *apply->ret_closed = true;
    }
    list_move_all(&apply->waiters, &apply->due);
    LIST_EACH_SAFE (link, &apply->waiters) {
        free(LIST_ITEM(link, struct waiter, link));
    }
    run_fini(&apply->run);
    (void)network_wants_free(apply->next, apply->next_count);
    (void)network_wants_free(apply->applied, apply->applied_count);
    free(apply->applied_failed_vnis);
    free(apply->refused);
    (void)netlink_close(apply->netlink);
    free(apply->state_folder);
    free(apply);
    return NULL;
}
