#include "agent/image_lack.h"
#include "agent/image_writer.h"
#include "api/api_problem.h"
#include "base/clock.h"
#include "base/require.h"
#include "model/join_token.h"
#include "scheduler/scheduler.h"
#include "serve_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONSOLE_MAX 4096

/* ---- the log, and the state ---- */

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

static void apply_later(struct later *later)
{
    struct apply_result result;
    serve_apply(later->served, &later->command, &result);
    if (!later->served->stopping) {
        api_feed_changed(later->served->api);
    }
    later->proposed(later->context, later->index, 0, &result);
}

static void apply_unheard(struct later *later)
{
    struct apply_result result;
    serve_apply(later->served, &later->command, &result);
}

static void lose_later(struct later *later)
{
    later->proposed(later->context, later->index, BERTH_EUNKNOWN, NULL);
}

static void full_later(struct later *later)
{
    later->proposed(later->context, later->index, BERTH_EFULL, NULL);
}

static void refuse_later(struct later *later)
{
    later->proposed(later->context, later->index, BERTH_ENOTLEADER, NULL);
}

/* As who leads refuses what the cluster's level does not know. */
static void refuse_level_later(struct later *later)
{
    struct apply_result result = {.code = BERTH_ELEVEL,
                                  .revision = state_revision(later->served->state)};
    (void)snprintf(result.text, sizeof(result.text), "%.250s", later->refusal.text);
    later->proposed(later->context, later->index, 0, &result);
}

static void read_later(struct later *later)
{
    bool leads = !later->served->knobs.not_leader && !later->served->stopping;
    int code = leads ? 0 : BERTH_ENOTLEADER;
    later->readable(later->context, code, code == 0 ? later->served->state : NULL);
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
    served->rounds++;
    if (!served->knobs.slow_proposals && !served->knobs.lose_proposals) {
        serve_slow(served);
    }
    for (uint32_t i = 0; i < count; i++) {
        struct later later = {.index = i, .proposed = done, .context = done_context};
        later.fn = served->knobs.not_leader ? refuse_later : apply_later;
        if (served->knobs.lose_first && i == 0) {
            later.fn = full_later;
        }
        if (served->knobs.lose_proposals) {
            const struct later answer = {
                .fn = lose_later, .index = i, .proposed = done, .context = done_context};
            serve_later(served, &answer);
            later.fn = apply_unheard;
        }
        if (served->knobs.lose_proposals || served->knobs.slow_proposals) {
            command_copy(served, &commands[i], &later.command);
            serve_later_in(served, &served->slow, &later);
            served->slow_count++;
            continue;
        }
        if (served->knobs.hold_proposals) {
            later.fn = refuse_later;
            serve_later_in(served, &served->held, &later);
            continue;
        }
        if (later.fn == apply_later &&
            command_check_level(&commands[i], state_level(served->state),
                                &later.refusal) < 0) {
            later.fn = refuse_level_later;
        } else if (later.fn == apply_later) {
            command_copy(served, &commands[i], &later.command);
        }
        serve_later(served, &later);
    }
    serve_world_turn(served);
}

static void read_state(void *context, control_readable *readable, void *readable_context)
{
    struct served *served = context;
    const struct later later = {
        .fn = read_later, .readable = readable, .context = readable_context};
    if (served->knobs.hold_reads) {
        serve_later_in(served, &served->held_reads, &later);
    } else {
        serve_slow(served);
        serve_later(served, &later);
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

/* ---- what is asked of the scheduler and the hosts ---- */

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
    return image_store_holds_whole(served->images, digest, ret_size);
}

/* ---- all of it ---- */

void serve_plane_make(struct served *served)
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
    served->front.forward = serve_forward;
}
