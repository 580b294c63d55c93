#include "agent/image_lack.h"
#include "agent/image_store.h"
#include "agent/image_writer.h"
#include "agent/tls_identity.h"
#include "api/api_problem.h"
#include "api/http_server.h"
#include "base/clock.h"
#include "base/list.h"
#include "base/loop.h"
#include "base/require.h"
#include "model/feed.h"
#include "model/join_token.h"
#include "scheduler/scheduler.h"
#include "support/served_api.h"

#include <uv.h>

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define IMAGES_MAX     (64 * MIB) /* small, so that tests can pass it */
#define HOSTS          3
#define PORT_TRIES     50
#define CONSOLE_MAX    4096
#define CROSSING_PIECE 32768u

/* One thing that is done at the loop's next turn. */
struct later {
    struct list link;
    void (*fn)(struct later *later);
    struct served *served;
    struct command command;
    uint32_t index;
    void (*proposed)(void *context,
                     uint32_t index,
                     int code,
                     const struct apply_result *result);
    control_readable *readable;
    void *context;
};

struct served {
    struct served_knobs knobs;
    struct served_config config;
    char folder[256];
    char socket_path[300];
    uint16_t port;
    uv_loop_t loop;
    struct state *state;
    struct feed *feed;
    struct scheduler *scheduler;
    struct image_store *images;
    struct tls_identity tls;
    struct control_plane control; /* of the host that leads */
    struct control_plane front;   /* of the one that does not */
    struct api *api;
    struct api *front_api;
    struct http_server *server;
    struct list laters;
    struct list held; /* what the knobs keep from being answered, until the end */
    struct loop_post *post;
    struct loop_timer *heartbeat;
    unsigned forwarded;
    unsigned held_consoles;
    unsigned forecasts;
    struct exchange *lost; /* the first one whose answer came in part */
    /* the test's thread asks */
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    void (*asked)(struct served *served, void *context); /* under lock, likewise below */
    void *asked_context;
    bool started;
    bool stopping;
};

static void observe(void *context, const struct change *change)
{
    struct served *served = context;
    feed_push(served->feed, change);
}

/* ---- later ---- */

static void push_later(struct served *served, struct list *list, const struct later *what)
{
    struct later *later = malloc(sizeof(*later));
    REQUIRE(later != NULL);
    *later = *what;
    later->served = served;
    list_push_back(list, &later->link);
}

static void do_later(struct served *served, const struct later *what)
{
    push_later(served, &served->laters, what);
    loop_post_send(served->post);
}

static void
apply_now(struct served *served, struct command *command, struct apply_result *ret_result)
{
    if (command->wall_ms == 0) {
        command->wall_ms = clock_wall_ms(clock_system());
    }
    state_apply(served->state, command, ret_result);
    command_fini(command);
}

static void apply_later(struct later *later)
{
    struct apply_result result;
    apply_now(later->served, &later->command, &result);
    if (!later->served->stopping) {
        api_feed_changed(later->served->api);
    }
    later->proposed(later->context, later->index, 0, &result);
}

static void refuse_later(struct later *later)
{
    later->proposed(later->context, later->index, BERTH_ENOTLEADER, NULL);
}

static void read_later(struct later *later)
{
    bool leads = !later->served->knobs.not_leader && !later->served->stopping;
    int code = leads ? 0 : BERTH_ENOTLEADER;
    later->readable(later->context, code, code == 0 ? later->served->state : NULL);
}

/* ---- the hosts' agents and the scheduler, one step at a time ---- */

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
    if (next[now] == 0 || (now != PHASE_STOPPING && now >= served->knobs.phase_last)) {
        return false;
    }
    command_init(&command, COMMAND_VM_PHASE);
    command.body.vm_phase.vm = vm->meta.uid;
    command.body.vm_phase.host = vm->status.host;
    command.body.vm_phase.epoch = vm->status.epoch;
    command.body.vm_phase.phase = next[now];
    if (next[now] == PHASE_STOPPED) { /* as hosts do, it keeps the disks */
        command.body.vm_phase.disk_epoch = vm->status.epoch;
    }
    command.body.vm_phase.at_wall_ms = clock_wall_ms(clock_system());
    apply_now(served, &command, &result);
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
        apply_now(served, &decisions->commands[i], &result);
        changed = changed || result.code == 0;
    }
    free(decisions);
    return changed;
}

static void world_step(struct later *later);

static void world_turn(struct served *served)
{
    do_later(served, &(struct later){.fn = world_step});
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
        world_turn(served);
    }
}

static void heartbeats(void *context)
{
    struct served *served = context;
    const struct host_load load = {.cpu_used_mcpu = 500, .memory_used_bytes = 64 * MIB};
    size_t cursor = 0;
    const struct host *host;
    while ((host = state_next(served->state, KIND_HOST, &cursor)) != NULL) {
        scheduler_host_heard(served->scheduler, host->meta.uid, &load,
                             clock_now_ns(clock_system()), clock_wall_ms(clock_system()));
    }
    world_turn(served);
}

/* What they add has its turn later. */
static void run_laters(struct list *list)
{
    struct list ready;
    list_init(&ready);
    list_move_all(&ready, list);
    LIST_EACH_SAFE (item, &ready) {
        struct later *later = LIST_ITEM(item, struct later, link);
        list_remove(item);
        later->fn(later);
        free(later);
    }
}

static void on_post(void *context)
{
    struct served *served = context;
    run_laters(&served->laters);
    (void)pthread_mutex_lock(&served->lock);
    void (*asked)(struct served * served, void *context) = served->asked;
    void *asked_context = served->asked_context;
    (void)pthread_mutex_unlock(&served->lock);
    if (asked != NULL) {
        uint64_t revision = state_revision(served->state);
        asked(served, asked_context);
        if (!served->stopping && state_revision(served->state) != revision) {
            api_feed_changed(served->api);
            world_turn(served);
        }
        (void)pthread_mutex_lock(&served->lock);
        served->asked = NULL;
        (void)pthread_cond_signal(&served->changed);
        (void)pthread_mutex_unlock(&served->lock);
    }
}

/* ---- the control plane ---- */

static void role(void *context, struct control_role *ret_role)
{
    struct served *served = context;
    bool leads = !served->knobs.not_leader;
    *ret_role = (struct control_role){
        .leader = leads,
        .voter = !served->knobs.no_state,
        .host_name = "h1",
        .leader_name = served->knobs.no_leader ? ""
                       : leads                 ? "h1"
                                               : "h2",
        .revision = state_revision(served->state),
    };
}

static void role_front(void *context, struct control_role *ret_role)
{
    (void)context;
    *ret_role = (struct control_role){.host_name = "h2", .leader_name = "h1"};
}

/* Through the codec, as the log has it, at the cluster's level. */
static void command_copy(const struct served *served,
                         const struct command *command,
                         struct command *ret_copy)
{
    struct command proposed = *command; /* borrows all of it */
    proposed.level = state_level(served->state);
    struct bytes_writer writer;
    struct bytes_reader reader;
    bytes_writer_init(&writer, COMMAND_SIZE_MAX);
    command_encode(&proposed, &writer);
    REQUIRE(writer.error == 0);
    bytes_reader_init(&reader, writer.data, writer.size);
    int r = command_decode(&reader, ret_copy);
    REQUIRE(r == 0);
    bytes_writer_fini(&writer);
}

static void propose(void *context,
                    const struct command *commands,
                    uint32_t count,
                    void (*done)(void *done_context,
                                 uint32_t index,
                                 int code,
                                 const struct apply_result *result),
                    void *done_context)
{
    struct served *served = context;
    for (uint32_t i = 0; i < count; i++) {
        struct later later = {.index = i, .proposed = done, .context = done_context};
        later.fn = served->knobs.not_leader ? refuse_later : apply_later;
        if (served->knobs.hold_proposals) {
            later.fn = refuse_later;
            push_later(served, &served->held, &later);
            continue;
        }
        if (!served->knobs.not_leader) {
            command_copy(served, &commands[i], &later.command);
        }
        do_later(served, &later);
    }
    world_turn(served);
}

static void read_state(void *context, control_readable *readable, void *readable_context)
{
    struct served *served = context;
    const struct later later = {
        .fn = read_later, .readable = readable, .context = readable_context};
    if (served->knobs.hold_reads) {
        push_later(served, &served->held, &later);
    } else {
        do_later(served, &later);
    }
}

static const struct state *state_here(void *context)
{
    struct served *served = context;
    return served->knobs.no_state ? NULL : served->state;
}

static const struct feed *feed_here(void *context)
{
    struct served *served = context;
    return served->knobs.no_state ? NULL : served->feed;
}

static const struct state *state_front(void *context)
{
    (void)context;
    return NULL;
}

static const struct feed *feed_front(void *context)
{
    (void)context;
    return NULL;
}

static json_t *vm_live(void *context, const struct vm *vm)
{
    (void)context;
    return vm->status.phase == PHASE_READY ? json_pack("{s:i}", "cpuPermille", 20) : NULL;
}

static json_t *host_live(void *context, const struct host *host)
{
    struct served *served = context;
    struct host_load load;
    uint64_t heard_wall_ms = 0;
    char text[CLOCK_TEXT_SIZE];
    if (!scheduler_host_seen(served->scheduler, host->meta.uid, &heard_wall_ms, &load)) {
        return NULL;
    }
    clock_format(heard_wall_ms, text);
    return json_pack(
        "{s:s, s:I, s:I, s:I}", "lastHeard", text, "cpuUsedMcpu",
        (json_int_t)load.cpu_used_mcpu, "memoryUsedBytes",
        (json_int_t)load.memory_used_bytes, "memoryPlacedBytes",
        (json_int_t)state_host_use(served->state, host->meta.uid).memory_bytes);
}

static json_t *level(void *context)
{
    const struct served *served = context;
    return json_pack("{s:I, s:I, s:s}", "level", (json_int_t)state_level(served->state),
                     "next", (json_int_t)level_range_up_to(0).max, "waits", "");
}

static bool
vm_waits(void *context, const struct vm *vm, unsigned *looks, char *ret_text, size_t size)
{
    struct served *served = context;
    return scheduler_pending_reason(served->scheduler, served->state, vm, looks, ret_text,
                                    size);
}

static bool vm_lacks(void *context,
                     const struct vm *vm,
                     char ret_missing[NAME_SIZE],
                     char *ret_text,
                     size_t size)
{
    struct served *served = context;
    struct blob_holders *nobody = blob_holders_new();
    struct image_lack lack;
    char text[IMAGE_LACK_TEXT_SIZE];
    REQUIRE(nobody != NULL);
    bool lacks = served->knobs.images_gone && vm->status.phase == PHASE_PLACED &&
                 image_lack_of(served->state, nobody, NULL, NULL, vm->meta.tenant,
                               vm->spec.machine.image, vm->status.host, &lack);
    blob_holders_free(nobody);
    if (lacks) {
        image_lack_tell(&lack, served->state, text);
        (void)snprintf(ret_text, size, "%s", text);
        memcpy(ret_missing, lack.image, sizeof(lack.image));
    }
    return lacks;
}

static json_t *explain_vm(void *context, const struct vm *vm)
{
    struct served *served = context;
    char missing[NAME_SIZE];
    char text[IMAGE_LACK_TEXT_SIZE];
    bool lacks = vm_lacks(served, vm, missing, text, sizeof(text));
    return scheduler_explain_vm(served->scheduler, served->state, vm,
                                lacks ? text : NULL);
}

static json_t *explain_group(void *context, const struct group *group)
{
    struct served *served = context;
    return scheduler_explain_group(served->scheduler, served->state, group, NULL,
                                   clock_now_ns(clock_system()));
}

static json_t *forecast(void *context,
                        const char *tenant,
                        const char *group,
                        const struct machine_spec *machine,
                        uint32_t count)
{
    struct served *served = context;
    served->forecasts++;
    return scheduler_forecast(served->scheduler, served->state, tenant, group, machine,
                              count, clock_now_ns(clock_system()));
}

static json_t *forecast_vm(void *context, const struct vm *vm)
{
    struct served *served = context;
    return scheduler_forecast_vm(served->scheduler, served->state, vm);
}

static char *metrics(void *context)
{
    (void)context;
    return strdup("# TYPE berth_build_info gauge\nberth_build_info 1\n");
}

static void join_token(
    void *context,
    uint64_t ttl_ms,
    void (*done)(void *done_context, int code, const char *token, const char *detail),
    void *done_context)
{
    struct join_token token = {.address = 0x7f000001, .port = 7441};
    char text[JOIN_TOKEN_TEXT_SIZE];
    (void)context;
    (void)ttl_ms;
    join_token_format(&token, text);
    done(done_context, 0, text, NULL);
}

/* ---- the other host: an exchange crosses as bytes ---- */

struct crossing {
    struct served *served;
    struct exchange *asked; /* at the host that was asked */
    struct exchange *there; /* at the host that answers; borrowed: this is its sink */
    bool lost;              /* its end does not arrive: served_lose */
};

static void crossing_head(void *sink,
                          int status,
                          const char *content_type,
                          const struct exchange_header *headers,
                          unsigned header_count)
{
    struct crossing *crossing = sink;
    exchange_head(crossing->asked, status, content_type, headers, header_count);
}

/* In pieces, as over the mesh: nobody can read between them. */
static int crossing_data(void *sink, const void *data, size_t size)
{
    struct crossing *crossing = sink;
    const struct served_knobs *knobs = &crossing->served->knobs;
    for (size_t at = 0; at < size; at += CROSSING_PIECE) {
        size_t piece = size - at < CROSSING_PIECE ? size - at : CROSSING_PIECE;
        bool lost = knobs->lost_after != 0 && at + piece > knobs->lost_after;
        int r = lost ? BERTH_ECLOSED
                     : exchange_data(crossing->asked, (const char *)data + at, piece);
        if (r < 0 && at == 0 && !lost) {
            return r; /* the writer may wait for room */
        }
        if (r < 0) {
            crossing->lost = true;
            if (crossing->served->lost == NULL) {
                crossing->served->lost = exchange_ref(crossing->asked);
            }
            return BERTH_ECLOSED;
        }
    }
    return 0;
}

static void crossing_end(void *sink)
{
    struct crossing *crossing = sink;
    exchange_on_cancel(crossing->asked, NULL, NULL);
    if (!crossing->lost) {
        exchange_end(crossing->asked);
    }
}

static void crossing_released(void *sink)
{
    struct crossing *crossing = sink;
    exchange_on_cancel(crossing->asked, NULL, NULL);
    exchange_unref(crossing->asked);
    free(crossing);
}

static const struct exchange_sink crossing_sink = {.head = crossing_head,
                                                   .data = crossing_data,
                                                   .end = crossing_end,
                                                   .released = crossing_released};

static void crossing_cancelled(void *context)
{
    struct crossing *crossing = context;
    exchange_cancel(crossing->there);
}

static void crossing_input(void *context, const void *data, size_t size)
{
    struct crossing *crossing = context;
    exchange_input(crossing->there, data, size);
}

static void crossing_room(void *context)
{
    struct crossing *crossing = context;
    exchange_room(crossing->there);
}

static uint64_t forwarder_uid(const struct served *served)
{
    const char *name = served->knobs.forwarder;
    const struct host *host =
        state_get(served->state, KIND_HOST, "", name != NULL ? name : "h1");
    REQUIRE(host != NULL);
    return host->meta.uid;
}

static void forward(void *context, struct exchange *exchange)
{
    struct served *served = context;
    struct crossing *crossing = calloc(1, sizeof(*crossing));
    struct exchange_request request;
    uint8_t *data = NULL;
    size_t size = 0;
    REQUIRE(crossing != NULL);
    int r = exchange_request_encode(exchange_request(exchange), &data, &size);
    REQUIRE(r == 0);
    r = exchange_request_decode(data, size, &request);
    REQUIRE(r == 0);
    free(data);
    request.credentials.forwarder = forwarder_uid(served);
    crossing->served = served;
    crossing->asked = exchange_ref(exchange);
    crossing->there = exchange_new(&request, &crossing_sink, crossing);
    REQUIRE(crossing->there != NULL);
    exchange_on_cancel(exchange, crossing_cancelled, crossing);
    exchange_on_input(exchange, crossing_input, crossing);
    exchange_on_room(exchange, crossing_room, crossing);
    served->forwarded++;
    struct exchange *there = crossing->there;
    api_handle(served->api, there, true);
    exchange_unref(there);
}

static void forward_nowhere(void *context, struct exchange *exchange)
{
    (void)context;
    problem_answer(exchange, &(struct problem){.code = BERTH_ENOLEADER}, 0);
}

/* ---- a console that says what it is told, in a line of its own ---- */

static void console_input(void *context, const void *data, size_t size)
{
    struct exchange *exchange = context;
    char text[CONSOLE_MAX];
    int shown = size < CONSOLE_MAX - 3 ? (int)size : CONSOLE_MAX - 3;
    int used = snprintf(text, sizeof(text), "<%.*s>", shown, (const char *)data);
    (void)exchange_data(exchange, text, (size_t)used); /* full: the newest are lost */
    if (memchr(data, '\004', size) != NULL) {
        exchange_end(exchange);
        exchange_unref(exchange);
    }
}

static void console_gone(void *context)
{
    exchange_unref(context);
}

static void console(void *context, struct exchange *exchange, uint64_t vm)
{
    static const char said[] = "boot\r\nlogin: ";
    struct served *served = context;
    (void)vm;
    if (!exchange_request(exchange)->upgrade) {
        exchange_answer(exchange, 200, "text/plain", NULL, 0, said, sizeof(said) - 1);
        return;
    }
    exchange_ref(exchange);
    exchange_on_cancel(exchange, console_gone, exchange);
    if (served->knobs.hold_consoles) {
        served->held_consoles++;
        return;
    }
    exchange_head(exchange, 101, NULL, NULL, 0);
    exchange_on_input(exchange, console_input, exchange);
    (void)exchange_data(exchange, said, sizeof(said) - 1); /* the first piece fits */
}

/* ---- images ---- */

static void *blob_begin(void *context,
                        const struct digest *expected,
                        uint64_t size_bytes,
                        struct err *err)
{
    struct served *served = context;
    return image_writer_begin(served->images, expected, size_bytes, err);
}

static int
blob_write(void *context, void *blob, const void *data, size_t size, struct err *err)
{
    (void)context;
    return image_writer_write(blob, data, size, err);
}

static void
blob_end(void *context, void *blob, bool abort_it, image_done *done, void *done_context)
{
    (void)context;
    if (abort_it) {
        image_writer_abort(blob);
    } else {
        image_writer_end(blob, done, done_context);
    }
}

static void blob_fetch(void *context,
                       const char *url,
                       const struct digest *expected,
                       image_done *done,
                       void *done_context)
{
    struct served *served = context;
    image_store_fetch(served->images, url, expected, done, done_context);
}

static bool blob_has(void *context, const struct digest *digest, uint64_t *ret_size)
{
    struct served *served = context;
    return image_store_has(served->images, digest, ret_size);
}

static void controls_make(struct served *served)
{
    served->control = (struct control_plane){
        .context = served,
        .role = role,
        .propose = propose,
        .read = read_state,
        .state = state_here,
        .feed = feed_here,
        .vm_live = vm_live,
        .host_live = host_live,
        .level = level,
        .vm_waits = vm_waits,
        .vm_lacks = vm_lacks,
        .explain_vm = explain_vm,
        .explain_group = explain_group,
        .forecast = forecast,
        .forecast_vm = forecast_vm,
        .metrics = metrics,
        .join_token = join_token,
        .forward = forward_nowhere,
        .console = console,
        .blob_begin = blob_begin,
        .blob_write = blob_write,
        .blob_end = blob_end,
        .blob_fetch = blob_fetch,
        .blob_has = blob_has,
    };
    served->front = served->control;
    served->front.role = role_front;
    served->front.state = state_front;
    served->front.feed = feed_front;
    served->front.forward = forward;
}

/* ---- the cluster it begins with ---- */

static void must_apply(struct served *served, struct command *command)
{
    struct apply_result result;
    apply_now(served, command, &result);
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
    must_apply(served, &command);
}

static void *make(enum kind kind, const char *tenant, const char *name)
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
        struct token *token = make(KIND_TOKEN, "", name);
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
    must_apply(served, &command);
}

static void image_make(struct served *served)
{
    struct image *image = make(KIND_IMAGE, "", "linux");
    struct record_list list = {0};
    struct artifact *artifact = record_list_add(&artifact_record, &list);
    REQUIRE(artifact != NULL);
    artifact->role = ARTIFACT_KERNEL;
    memset(artifact->sha256.bytes, 7, DIGEST_SIZE);
    image->spec.artifacts.items = list.items;
    image->spec.artifacts.count = list.count;
    must_put(served, KIND_IMAGE, image);
}

static void cluster_make(struct served *served)
{
    struct command command;
    for (unsigned i = 1; i <= HOSTS; i++) {
        host_make(served, i);
    }
    command_init(&command, COMMAND_SET_LEVEL);
    command.body.set_level.level = level_range_up_to(0).max;
    must_apply(served, &command);
    image_make(served);
    struct template *template = make(KIND_TEMPLATE, DEFAULT_TENANT, "plain");
    (void)snprintf(template->spec.image, NAME_SIZE, "linux");
    template->spec.memory.size_bytes = 64 * MIB;
    must_put(served, KIND_TEMPLATE, template);
    scheduler_lead(served->scheduler, clock_now_ns(clock_system()));
    heartbeats(served);
}

/* ---- life ---- */

static struct http_server *listen_somewhere(struct served *served, struct err *err)
{
    struct http_server *server = NULL;
    struct http_server_config config = {.socket_path = served->socket_path,
                                        .key_pem = served->tls.key_pem,
                                        .certificate_pem = served->tls.certificate_pem,
                                        .request_ms = served->config.request_ms,
                                        .held_max = served->config.held_max};
    bool front = served->config.front;
    char address[32];
    for (unsigned i = 0; i < PORT_TRIES && server == NULL; i++) {
        served->port = (uint16_t)(20000 + random() % 12000);
        (void)snprintf(address, sizeof(address), "127.0.0.1:%u", served->port);
        config.listen_address = served->config.tls ? address : NULL;
        if (http_server_open(&served->loop, front ? served->front_api : served->api,
                             front ? &served->front : &served->control, &config, &server,
                             err) < 0) {
            (void)uv_run(&served->loop, UV_RUN_NOWAIT); /* what was half open closes */
        }
    }
    return server;
}

static void open_all(struct served *served)
{
    struct err err = {0};
    char folder[sizeof(served->folder) + 8];
    const struct image_limits limits = {.cache_bytes = IMAGES_MAX};
    int r = uv_loop_init(&served->loop);
    REQUIRE(r == 0);
    served->feed = feed_new(0);
    served->state = state_new(observe, served);
    served->scheduler = scheduler_new();
    served->post = loop_post_new(&served->loop, on_post, served);
    (void)snprintf(folder, sizeof(folder), "%s/images", served->folder);
    r = image_store_open(&served->loop, folder, &limits, &served->images, &err);
    if (r == 0 && served->config.tls) {
        r = tls_identity_open(served->folder, "h1", 0x7f000001,
                              clock_wall_ms(clock_system()), &served->tls, &err);
    }
    controls_make(served);
    served->api = api_new(&served->loop, &served->control);
    served->front_api = api_new(&served->loop, &served->front);
    if (r == 0) {
        srandom((unsigned)clock_now_ns(clock_system()));
        served->server = listen_somewhere(served, &err);
    }
    if (served->server == NULL) {
        fprintf(stderr, "served: %s\n", err.text);
        abort();
    }
    cluster_make(served);
    served->heartbeat = loop_timer_new(&served->loop, 200, 200, heartbeats, served);
}

static void close_all(struct served *served)
{
    served->heartbeat = loop_timer_close(served->heartbeat);
    http_server_close(served->server);
    served->api = api_free(served->api);
    served->front_api = api_free(served->front_api);
    served->images = image_store_close(served->images);
    run_laters(&served->laters);
    run_laters(&served->held);
    served->post = loop_post_close(served->post);
}

static void *thread_main(void *context)
{
    struct served *served = context;
    open_all(served);
    (void)pthread_mutex_lock(&served->lock);
    served->started = true;
    (void)pthread_cond_signal(&served->changed);
    (void)pthread_mutex_unlock(&served->lock);
    (void)uv_run(&served->loop, UV_RUN_DEFAULT);
    int r = uv_loop_close(&served->loop);
    REQUIRE(r == 0);
    served->scheduler = scheduler_free(served->scheduler);
    served->state = state_free(served->state);
    served->feed = feed_free(served->feed);
    tls_identity_fini(&served->tls);
    return NULL;
}

struct served *served_start(const char *folder, const struct served_config *config)
{
    struct served *served = calloc(1, sizeof(*served));
    REQUIRE(served != NULL);
    served->config = config != NULL ? *config : (struct served_config){0};
    served->knobs.phase_last = PHASE_READY;
    list_init(&served->laters);
    list_init(&served->held);
    (void)snprintf(served->folder, sizeof(served->folder), "%s", folder);
    (void)snprintf(served->socket_path, sizeof(served->socket_path), "%s/berthd.sock",
                   folder);
    int r = pthread_mutex_init(&served->lock, NULL);
    r = r == 0 ? pthread_cond_init(&served->changed, NULL) : r;
    r = r == 0 ? pthread_create(&served->thread, NULL, thread_main, served) : r;
    REQUIRE(r == 0);
    (void)pthread_mutex_lock(&served->lock);
    while (!served->started) {
        (void)pthread_cond_wait(&served->changed, &served->lock);
    }
    (void)pthread_mutex_unlock(&served->lock);
    return served;
}

static void stop(struct served *served, void *context)
{
    (void)context;
    served->stopping = true;
    close_all(served);
}

void served_stop(struct served *served)
{
    if (served == NULL) {
        return;
    }
    served_do(served, stop, NULL);
    (void)pthread_join(served->thread, NULL);
    (void)pthread_cond_destroy(&served->changed);
    (void)pthread_mutex_destroy(&served->lock);
    free(served);
}

void served_do(struct served *served,
               void (*fn)(struct served *served, void *context),
               void *context)
{
    (void)pthread_mutex_lock(&served->lock);
    served->asked_context = context;
    served->asked = fn;
    (void)pthread_mutex_unlock(&served->lock);
    loop_post_send(served->post);
    (void)pthread_mutex_lock(&served->lock);
    while (served->asked != NULL) {
        (void)pthread_cond_wait(&served->changed, &served->lock);
    }
    (void)pthread_mutex_unlock(&served->lock);
}

/* ---- what tests ask ---- */

const char *served_socket(const struct served *served)
{
    return served->socket_path;
}

uint16_t served_port(const struct served *served)
{
    return served->port;
}

const char *served_pin(const struct served *served)
{
    return served->tls.pin;
}

struct served_knobs *served_knobs(struct served *served)
{
    return &served->knobs;
}

struct state *served_state(struct served *served)
{
    return served->state;
}

void served_reset(struct served *served)
{
    feed_reset(served->feed, state_revision(served->state));
    api_feed_reset(served->api);
}

void served_arrives(struct served *served, struct exchange *exchange)
{
    api_handle(served->api, exchange, true);
}

void served_lose(struct served *served)
{
    REQUIRE(served->lost != NULL);
    exchange_end(served->lost);
    served->lost = exchange_unref(served->lost);
}

unsigned served_forwarded(const struct served *served)
{
    return served->forwarded;
}

unsigned served_forecasts(const struct served *served)
{
    return served->forecasts;
}

unsigned served_held_consoles(const struct served *served)
{
    return served->held_consoles;
}

struct applying {
    struct command *command;
    struct apply_result result;
};

static void do_apply(struct served *served, void *context)
{
    struct applying *applying = context;
    apply_now(served, applying->command, &applying->result);
}

struct apply_result served_apply(struct served *served, struct command *take_command)
{
    struct applying applying = {.command = take_command};
    served_do(served, do_apply, &applying);
    return applying.result;
}

void served_token(struct served *served,
                  const char *name,
                  const char *secret,
                  enum role role_of_it,
                  const char *tenant,
                  uint64_t expires_wall_ms)
{
    struct command command;
    struct token *token = make(KIND_TOKEN, "", name);
    token->spec.role = role_of_it;
    (void)snprintf(token->spec.tenant, NAME_SIZE, "%s", tenant);
    token->spec.expires_wall_ms = expires_wall_ms;
    digest_of(secret, strlen(secret), &token->spec.hash);
    command_init(&command, COMMAND_PUT);
    int r = command_set_put(&command, KIND_TOKEN, token, REVISION_ANY);
    object_free(KIND_TOKEN, token);
    REQUIRE(r == 0);
    struct apply_result result = served_apply(served, &command);
    REQUIRE(result.code == 0);
}

struct admitting {
    const char *prefix;
    unsigned count;
};

static void do_admit(struct served *served, void *context)
{
    const struct admitting *admitting = context;
    for (unsigned i = 0; i < admitting->count; i++) {
        struct command command;
        command_init(&command, COMMAND_ADMIT_VM);
        struct cmd_admit_vm *body = &command.body.admit_vm;
        (void)snprintf(body->tenant, NAME_SIZE, "%s", DEFAULT_TENANT);
        (void)snprintf(body->name, NAME_SIZE, "%.40s-%05u", admitting->prefix, i);
        (void)snprintf(body->template_name, NAME_SIZE, "plain");
        must_apply(served, &command);
    }
}

void served_vms(struct served *served, const char *prefix, unsigned count)
{
    struct admitting admitting = {.prefix = prefix, .count = count};
    served_do(served, do_admit, &admitting);
}
