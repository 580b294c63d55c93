#include "base/clock.h"
#include "base/require.h"
#include "scheduler/scheduler.h"
#include "serve_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HOSTS 3

/* ---- the hosts' agents and the scheduler, one step at a time ---- */

/* What its user wishes it to be, and what it is said to be. */
static bool pause_is_news(const struct vm *vm)
{
    return (vm->status.phase == PHASE_RUNNING || vm->status.phase == PHASE_READY) &&
           vm->spec.paused != vm->status.paused;
}

static bool report(struct served *served, const struct vm *vm)
{
    static const enum phase next[PHASE_COUNT] = {
        [PHASE_PLACED] = PHASE_STARTING,
        [PHASE_STARTING] = PHASE_RUNNING,
        [PHASE_RUNNING] = PHASE_READY,
        [PHASE_STOPPING] = PHASE_STOPPED,
    };
    enum phase now = vm->status.phase;
    struct command command;
    struct apply_result result;
    bool turns = pause_is_news(vm) && !served->knobs.never_paused;
    if (!turns && (next[now] == 0 || vm->status.paused ||
                   (now == PHASE_STOPPING ? served->knobs.never_stopped
                                          : now >= served->knobs.phase_last))) {
        return false;
    }
    command_init(&command, COMMAND_VM_PHASE);
    command.body.vm_phase.vm = vm->meta.uid;
    command.body.vm_phase.host = vm->status.host;
    command.body.vm_phase.epoch = vm->status.epoch;
    command.body.vm_phase.phase = turns ? PHASE_RUNNING : next[now];
    if (state_level(served->state) >= LEVEL_SNAPSHOTS) {
        command.body.vm_phase.engine = ENGINE_KVM;
        command.body.vm_phase.paused = turns && vm->spec.paused;
    }
    if (command.body.vm_phase.paused) {
        int r = record_set_text(&command.body.vm_phase.reason, "paused by its user");
        REQUIRE(r == 0);
    }
    if (next[now] == PHASE_STOPPED) { /* as hosts do, it keeps the disks */
        command.body.vm_phase.disk_epoch = vm->status.epoch;
    }
    command.body.vm_phase.at_wall_ms = clock_wall_ms(clock_system());
    serve_apply(served, &command, &result);
    return result.code == 0;
}

/* What is to be made is there at the next look, what is to go is gone. */
static bool report_snapshot(struct served *served, const struct snapshot *snapshot)
{
    static const enum snapshot_phase next[SNAPSHOT_PHASE_COUNT] = {
        [SNAPSHOT_MAKING] = SNAPSHOT_READY, [SNAPSHOT_DELETING] = SNAPSHOT_LOST};
    enum snapshot_phase to = next[snapshot->status.phase];
    struct command command;
    struct apply_result result;
    if (to == SNAPSHOT_MAKING || served->knobs.never_saved) {
        return false;
    }
    command_init(&command, COMMAND_SNAPSHOT_STEP);
    struct cmd_snapshot_step *step = &command.body.snapshot_step;
    step->snapshot = snapshot->meta.uid;
    step->host = snapshot->status.host;
    step->epoch = snapshot->status.epoch;
    step->phase = to;
    step->bytes = 5 * MIB;
    step->at_wall_ms = clock_wall_ms(clock_system());
    if (to == SNAPSHOT_READY && served->knobs.save_fails) {
        step->phase = SNAPSHOT_FAILED;
        int r = record_set_text(&step->reason, "no room on the disk");
        REQUIRE(r == 0);
    }
    serve_apply(served, &command, &result);
    return result.code == 0;
}

static bool agents_step(struct served *served)
{
    size_t cursor = 0;
    const struct vm *vm;
    bool moved = false;
    while ((vm = state_next(served->state, KIND_VM, &cursor)) != NULL) {
        if (report(served, vm)) {
            moved = true;
        }
    }
    size_t count = state_count(served->state, KIND_SNAPSHOT);
    for (size_t i = count; i > 0; i--) { /* one that goes leaves its place to the last */
        cursor = i - 1;
        const struct snapshot *snapshot =
            state_next(served->state, KIND_SNAPSHOT, &cursor);
        moved = (snapshot != NULL && report_snapshot(served, snapshot)) || moved;
    }
    return moved;
}

static bool scheduler_turn(struct served *served)
{
    struct decisions *decisions = malloc(sizeof(*decisions));
    struct apply_result result;
    REQUIRE(decisions != NULL);
    uint32_t count = served->knobs.no_scheduler
                         ? 0
                         : scheduler_step(served->scheduler, served->state,
                                          clock_now_ns(clock_system()),
                                          clock_wall_ms(clock_system()), decisions);
    bool changed = false;
    for (uint32_t i = 0; i < count; i++) {
        serve_apply(served, &decisions->commands[i], &result);
        changed = changed || result.code == 0;
    }
    free(decisions);
    return changed;
}

static void world_step(struct later *later);

void serve_world_turn(struct served *served)
{
    serve_later(served, &(struct later){.fn = world_step});
}

static void world_step(struct later *later)
{
    struct served *served = later->served;
    uint64_t revision = state_revision(served->state);
    if (served->stopping) {
        return;
    }
    bool moved = agents_step(served);
    moved = scheduler_turn(served) || moved;
    if (state_revision(served->state) != revision) {
        api_feed_changed(served->api);
    }
    if (moved) {
        serve_world_turn(served);
    }
}

void serve_heartbeats(void *context)
{
    struct served *served = context;
    const struct host_load load = {.cpu_used_mcpu = 500, .memory_used_bytes = 64 * MIB};
    size_t cursor = 0;
    const struct host *host;
    while ((host = state_next(served->state, KIND_HOST, &cursor)) != NULL) {
        scheduler_host_heard(served->scheduler, host->meta.uid, &load,
                             clock_now_ns(clock_system()), clock_wall_ms(clock_system()));
    }
    serve_world_turn(served);
}

/* ---- the cluster it begins with ---- */

void serve_must_apply(struct served *served, struct command *command)
{
    struct apply_result result;
    serve_apply(served, command, &result);
    if (result.code != 0) {
        fprintf(stderr, "served: %s\n", result.text);
        abort();
    }
}

static void must_put(struct served *served, enum kind kind, void *object)
{
    struct command command;
    command_init(&command, COMMAND_PUT);
    (void)snprintf(command.subject, sizeof(command.subject), "root");
    int r = command_set_put(&command, kind, object, REVISION_ANY);
    REQUIRE(r == 0);
    object_free(kind, object);
    serve_must_apply(served, &command);
}

void *serve_make(enum kind kind, const char *tenant, const char *name)
{
    void *object = object_new(kind);
    REQUIRE(object != NULL);
    (void)snprintf(object_meta(object)->tenant, NAME_SIZE, "%s", tenant);
    (void)snprintf(object_meta(object)->name, NAME_SIZE, "%s", name);
    return object;
}

static void host_make(struct served *served, unsigned number)
{
    struct command command;
    uint8_t hash = (uint8_t)number;
    char name[NAME_SIZE];
    if (number > 1) {
        (void)snprintf(name, sizeof(name), "join-%u", number);
        struct token *token = serve_make(KIND_TOKEN, "", name);
        token->spec.role = ROLE_JOIN;
        token->spec.uses_left = 1;
        memset(token->spec.hash.bytes, hash, DIGEST_SIZE);
        must_put(served, KIND_TOKEN, token);
    }
    command_init(&command, COMMAND_HOST_JOIN);
    (void)snprintf(command.subject, sizeof(command.subject), "system");
    struct cmd_host_join *body = &command.body.host_join;
    (void)snprintf(body->name, NAME_SIZE, "h%u", number);
    memset(body->token_hash.bytes, number > 1 ? hash : 0, DIGEST_SIZE);
    memset(body->status.public_key.bytes, 0x40 + hash, DIGEST_SIZE);
    if (number == 1) { /* the first one gives the cluster its identity */
        memset(command.request_id, 0xc1, sizeof(command.request_id));
    }
    body->status.address = 0x0a000000u + number;
    body->status.cpu_mcpu = 64000;
    body->status.cores = 16;
    body->status.engines = UINT32_MAX;
    body->status.memory_bytes =
        served->config.memory_bytes != 0 ? served->config.memory_bytes : GIB;
    body->status.disk_bytes = 100 * GIB;
    serve_must_apply(served, &command);
}

static void image_make(struct served *served)
{
    struct image *image = serve_make(KIND_IMAGE, "", "linux");
    struct record_list list = {0};
    struct artifact *artifact = record_list_add(&artifact_record, &list);
    REQUIRE(artifact != NULL);
    artifact->role = ARTIFACT_KERNEL;
    memset(artifact->sha256.bytes, 7, DIGEST_SIZE);
    image->spec.artifacts.items = list.items;
    image->spec.artifacts.count = list.count;
    must_put(served, KIND_IMAGE, image);
}

void serve_cluster_make(struct served *served)
{
    struct command command;
    for (unsigned i = 1; i <= HOSTS; i++) {
        host_make(served, i);
    }
    if (served->config.level != LEVEL_FIRST) {
        command_init(&command, COMMAND_SET_LEVEL);
        command.body.set_level.level = level_range_up_to(served->config.level).max;
        serve_must_apply(served, &command);
    }
    image_make(served);
    struct template *template = serve_make(KIND_TEMPLATE, DEFAULT_TENANT, "plain");
    (void)snprintf(template->spec.image, NAME_SIZE, "linux");
    template->spec.memory.size_bytes = 64 * MIB;
    must_put(served, KIND_TEMPLATE, template);
    scheduler_lead(served->scheduler, clock_now_ns(clock_system()));
    serve_heartbeats(served);
}
