/* Actions on one object, and the questions about it. */
#include "api/api_handlers.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/parse_number.h"
#include "base/random.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TOKEN_SECRET_SIZE ((size_t)32)
#define TOKEN_PREFIX      "berth-"
#define JOIN_TTL_MS       (UINT64_C(15) * 60 * 1000)
#define JOIN_TTL_MAX_MS   (UINT64_C(24) * 3600 * 1000)

void call_acted(struct api_call *call)
{
    const struct apply_result *refusal = call_refusal(call);
    if (refusal != NULL) {
        call_refuse(call, refusal);
        return;
    }
    call_answer(call, 200,
                json_pack("{s:I}", "revision", (json_int_t)call->results[0].revision), 0);
}

static const void *target_of(struct api_call *call, const struct state *state)
{
    const void *object =
        state_get(state, call->target.kind, call->target.tenant, call->target.name);
    if (object == NULL) {
        call_fail_missing(call);
    }
    return object;
}

const void *call_unconditional(struct api_call *call, const struct state *state)
{
    const struct exchange_request *request = exchange_request(call->exchange);
    if (request->if_match == NULL && request->if_none_match == NULL) {
        return target_of(call, state);
    }
    call_fail(call, BERTH_EINVALID,
              "If-Match, If-None-Match: this action goes by no revision, ask without");
    return NULL;
}

void handle_scale(struct api_call *call, const struct state *state)
{
    struct command command;
    char reason[128];
    const struct json_value *replicas =
        json_value_member(json_view_root(call->body), "replicas");
    if (call_unconditional(call, state) == NULL) {
        return;
    }
    if (json_value_type(replicas) != JSON_VALUE_INTEGER ||
        json_value_integer(replicas) < 0 ||
        json_value_integer(replicas) > GROUP_VMS_MAX) {
        call_fail(call, BERTH_EINVALID, "replicas: a number from 0 to 10000");
        return;
    }
    command_init(&command, COMMAND_GROUP_SCALE);
    memcpy(command.body.group_scale.tenant, call->target.tenant, NAME_SIZE);
    memcpy(command.body.group_scale.group, call->target.name, NAME_SIZE);
    command.body.group_scale.desired = (uint32_t)json_value_integer(replicas);
    command.body.group_scale.by_user = true;
    (void)snprintf(reason, sizeof(reason), "scaled by %s", call->subject.name);
    (void)record_set_text(&command.body.group_scale.reason, reason);
    call_propose(call, &command, 1, call_acted);
    command_fini(&command);
}

/* A lost VM may still run where it is: nothing starts it elsewhere, and its disks are not
 * given up, before its host is back or gone for good. True: that is answered. */
static bool
refuse_lost(struct api_call *call, const struct state *state, const struct vm *vm)
{
    const struct host *host = state_host(state, vm->status.host);
    const char *name = host != NULL ? host->meta.name : "its host";
    /* It would come back as another host. */
    const bool left_out = host != NULL && state_host_left_out(host);
    /* Placed at its snapshot, it has begun nothing there that it would lose. */
    const struct host *keeper = state_disks_bind(state, vm);
    const char *where = keeper != NULL ? keeper->meta.name : "elsewhere";
    const char *with =
        keeper != NULL ? "with the disks that it left there" : "with new disks";
    const char *on = keeper != NULL ? "on " : "";
    char then[2 * NAME_SIZE + 128];
    char text[768];
    if (vm->status.phase != PHASE_LOST) {
        return false;
    }
    (void)snprintf(then, sizeof(then), "the VM then starts %s%s %s", on, where, with);
    if (state_place_unknown(state, vm)) {
        (void)snprintf(
            then, sizeof(then),
            "the VM then stays stopped, for another host of before may run it, "
            "until berth start %s --anywhere",
            vm->meta.name);
    } else if (vm_stays_off(vm)) {
        (void)snprintf(then, sizeof(then),
                       "the VM is switched off and stays so, and berth start %s then "
                       "starts it %s%s %s",
                       vm->meta.name, on, where, with);
    }
    (void)snprintf(
        text, sizeof(text),
        "vm %s may still run on lost host %s, so nothing was done and its disks "
        "are as they were: %s%s%s, or remove it once it is surely off "
        "(berth rm host/%s): %s",
        vm->meta.name, name,
        left_out ? "end it there (berth down --forget on " : "bring ", name,
        left_out ? ")" : " back", name, then);
    call_fail(call, BERTH_EPHASE, text);
    return true;
}

struct start {
    bool anywhere;
    bool surely_off;
};

static void set_power(struct api_call *call,
                      const struct state *state,
                      const struct vm *vm,
                      enum power power,
                      struct start start)
{
    struct command command;
    command_init(&command, COMMAND_SET_POWER);
    command.body.set_power.vm = vm->meta.uid;
    command.body.set_power.power = power;
    command.body.set_power.anywhere = start.anywhere;
    command.body.set_power.surely_off =
        start.surely_off && state_level(state) >= LEVEL_SURELY_OFF;
    call_propose(call, &command, 1, call_acted);
    command_fini(&command);
}

void handle_vm_start(struct api_call *call, const struct state *state)
{
    struct start start = {0};
    struct err err;
    if (call_flag(call, "anywhere", &start.anywhere, &err) < 0 ||
        call_flag(call, "surelyOff", &start.surely_off, &err) < 0) {
        call_fail(call, BERTH_EINVALID, err.text);
        return;
    }
    const struct vm *vm = call_unconditional(call, state);
    if (vm != NULL && !(start.anywhere && refuse_lost(call, state, vm))) {
        set_power(call, state, vm, POWER_ON, start);
    }
}

void handle_vm_stop(struct api_call *call, const struct state *state)
{
    const struct vm *vm = call_unconditional(call, state);
    if (vm != NULL) {
        set_power(call, state, vm, POWER_OFF, (struct start){0});
    }
}

static void set_paused(struct api_call *call, const struct state *state, bool paused)
{
    const struct vm *vm = call_unconditional(call, state);
    struct command command;
    if (vm == NULL) {
        return;
    }
    command_init(&command, COMMAND_PAUSE_VM);
    command.body.pause_vm.vm = vm->meta.uid;
    command.body.pause_vm.paused = paused;
    call_propose(call, &command, 1, call_acted);
    command_fini(&command);
}

void handle_vm_pause(struct api_call *call, const struct state *state)
{
    set_paused(call, state, true);
}

void handle_vm_resume(struct api_call *call, const struct state *state)
{
    set_paused(call, state, false);
}

/* Stopped, and started again where its disks are. */
void handle_vm_restart(struct api_call *call, const struct state *state)
{
    const struct vm *vm = call_unconditional(call, state);
    struct command command;
    char reason[128];
    if (vm == NULL || refuse_lost(call, state, vm)) {
        return;
    }
    command_init(&command, COMMAND_EVICT_VM);
    command.body.evict_vm.vm = vm->meta.uid;
    command.body.evict_vm.epoch = vm->status.epoch;
    command.body.evict_vm.intent = STOP_INTENT_RESTART;
    (void)snprintf(reason, sizeof(reason), "restarted by %s", call->subject.name);
    (void)record_set_text(&command.body.evict_vm.reason, reason);
    call_propose(call, &command, 1, call_acted);
    command_fini(&command);
}

static void set_drain(struct api_call *call, const struct state *state, bool drain)
{
    const struct host *host = call_unconditional(call, state);
    struct command command;
    if (host == NULL) {
        return; /* the call is over, and gone */
    }
    const char *reason = json_value_member_text(json_view_root(call->body), "reason", "");
    if (strlen(reason) > 255) {
        call_fail(call, BERTH_EINVALID, "reason: at most 255 bytes");
        return;
    }
    command_init(&command, COMMAND_HOST_DRAIN);
    command.body.host_drain.host = host->meta.uid;
    command.body.host_drain.drain = drain;
    (void)record_set_text(&command.body.host_drain.reason,
                          reason[0] != '\0' ? reason : NULL);
    call_propose(call, &command, 1, call_acted);
    command_fini(&command);
}

void handle_drain(struct api_call *call, const struct state *state)
{
    set_drain(call, state, true);
}

void handle_undrain(struct api_call *call, const struct state *state)
{
    set_drain(call, state, false);
}

/* {"rack": "r2", "zone": null}: a text is set, null takes away. */
static int
labels_read(const struct json_value *labels, struct cmd_label_host *body, struct err *err)
{
    int r = 0;
    if (json_value_type(labels) != JSON_VALUE_OBJECT || json_value_count(labels) == 0) {
        return err_set(err, BERTH_EINVALID,
                       "labels: wanted {KEY: TEXT to set, null to take away}");
    }
    for (const struct json_value *value = json_value_first(labels); value != NULL;
         value = json_value_next(value)) {
        const char *key = json_value_key(value);
        bool gone = json_value_type(value) == JSON_VALUE_NULL;
        if (!gone && json_value_text(value) == NULL) {
            return err_set(err, BERTH_EINVALID, "labels.%.64s: a text, or null", key);
        }
        r = r != 0 ? r
                   : label_set(gone ? &body->removed : &body->labels, key,
                               gone ? "" : json_value_text(value));
    }
    if (r == BERTH_ETOOLARGE || body->labels.count > LABELS_MAX ||
        body->removed.count > LABELS_MAX) {
        return err_set(err, BERTH_EINVALID,
                       "labels: keys of at most %d and values of at most %d bytes, no "
                       "more than %d of them",
                       NAME_SIZE - 1, LABEL_VALUE_MAX, LABELS_MAX);
    }
    return r < 0 ? err_sys(err, r, "read the labels") : 0;
}

void handle_host_label(struct api_call *call, const struct state *state)
{
    const struct host *host = target_of(call, state);
    struct command command;
    struct err err = {0};
    if (host == NULL) {
        return;
    }
    command_init(&command, COMMAND_LABEL_HOST);
    struct cmd_label_host *body = &command.body.label_host;
    body->host = host->meta.uid;
    if (labels_read(json_value_member(json_view_root(call->body), "labels"), body,
                    &err) == 0 &&
        call_expected_revision(call, &body->expected_revision, &err) == 0) {
        call_propose(call, &command, 1, call_acted); /* the form of keys is the model's */
    } else {
        call_fail(call, err.code, err.text);
    }
    command_fini(&command);
}

void handle_explain(struct api_call *call, const struct state *state)
{
    const struct control_plane *control = call->api->control;
    const void *object = target_of(call, state);
    if (object == NULL) {
        return;
    }
    json_t *document = call->target.kind == KIND_VM
                           ? control->explain_vm(control->context, object)
                           : control->explain_group(control->context, object);
    if (document == NULL) {
        call_fail(call, BERTH_ENOTLEADER, NULL);
        return;
    }
    call_answer(call, 200, document, state_revision(state));
}

/* ---- tokens
 * ----------------------------------------------------------------------------------------------------
 */

static void
join_token_made(void *context, int code, const char *token, const char *detail)
{
    struct exchange *exchange = context;
    if (code < 0) {
        problem_answer(exchange, &(struct problem){.code = code, .detail = detail}, 0);
    } else {
        call_send_json(exchange, 201, json_pack("{s:s}", "token", token), 0, 0);
    }
    exchange_unref(exchange);
}

static int ttl_read(const struct api_call *call,
                    uint64_t fallback_ms,
                    uint64_t *ret_ms,
                    struct err *err)
{
    const char *text = json_value_member_text(json_view_root(call->body), "ttl", NULL);
    *ret_ms = fallback_ms;
    return text != NULL ? parse_duration_ms(text, ret_ms, err) : 0;
}

void handle_join_token(struct api_call *call, const struct state *state)
{
    const struct control_plane *control = call->api->control;
    struct err err;
    uint64_t ttl_ms = 0;
    (void)state;
    if (ttl_read(call, JOIN_TTL_MS, &ttl_ms, &err) < 0) {
        call_fail(call, BERTH_EINVALID, err.text);
        return;
    }
    if (ttl_ms == 0 || ttl_ms > JOIN_TTL_MAX_MS) {
        call_fail(call, BERTH_EINVALID, "ttl: more than nothing, at most 24h");
        return;
    }
    /* A retry gets another one: the first may not have been made, and if it was, nobody
     * has its secret, and it ends by itself. */
    control->join_token(control->context, ttl_ms, join_token_made,
                        exchange_ref(call->exchange));
    call_leave(call);
}

struct minted {
    char secret[sizeof(TOKEN_PREFIX) + 2 * TOKEN_SECRET_SIZE];
};

static void fail_shown_once(struct api_call *call)
{
    call_fail(call, BERTH_EEXISTS,
              "it was made before under this Idempotency-Key, and its secret is shown "
              "once: delete it and make another");
}

static void token_made(struct api_call *call)
{
    const struct apply_result *refusal = call_refusal(call);
    const struct minted *minted = call->context;
    if (refusal != NULL) {
        call_refuse(call, refusal);
        return;
    }
    if (call->recalled) { /* this secret is nobody's */
        fail_shown_once(call);
        return;
    }
    call_answer(call, 201, json_pack("{s:s}", "token", minted->secret), 0);
}

static void minted_free(void *context)
{
    struct minted *minted = context;
    explicit_bzero(minted, sizeof(*minted));
    free(minted);
}

static enum role role_named(const char *name)
{
    for (int role = ROLE_VIEWER; role <= ROLE_ADMIN; role++) {
        if (strcmp(role_names[role], name) == 0) {
            return (enum role)role;
        }
    }
    return ROLE_NONE;
}

static int token_fill(struct api_call *call,
                      struct token *token,
                      const char *secret,
                      struct err *err)
{
    const char *name = json_value_member_text(json_view_root(call->body), "name", "");
    const char *tenant = json_value_member_text(json_view_root(call->body), "tenant", "");
    uint64_t ttl_ms = 0;
    token->spec.role =
        role_named(json_value_member_text(json_view_root(call->body), "role", "viewer"));
    if (!name_valid(name) || (tenant[0] != '\0' && !name_valid(tenant))) {
        return err_set(err, BERTH_EINVALID, "name: wanted 1-63 of a-z, 0-9 and -");
    }
    if (token->spec.role == ROLE_NONE) {
        return err_set(err, BERTH_EINVALID, "role: viewer, operator or admin");
    }
    int r = ttl_read(call, 0, &ttl_ms, err);
    if (r < 0) {
        return r;
    }
    (void)snprintf(token->meta.name, NAME_SIZE, "%s", name);
    (void)snprintf(token->spec.tenant, NAME_SIZE, "%s", tenant);
    token->spec.expires_wall_ms = ttl_ms > 0 ? call->wall_ms + ttl_ms : 0;
    digest_of(secret, strlen(secret), &token->spec.hash);
    return 0;
}

void handle_token(struct api_call *call, const struct state *state)
{
    struct command command;
    struct err err = {0};
    uint8_t random[TOKEN_SECRET_SIZE];
    struct token *token = object_new(KIND_TOKEN);
    struct minted *minted = calloc(1, sizeof(*minted));
    (void)state;
    if (token == NULL || minted == NULL) {
        object_free(KIND_TOKEN, token);
        free(minted);
        call_fail(call, -ENOMEM, NULL);
        return;
    }
    random_secret(random, sizeof(random));
    memcpy(minted->secret, TOKEN_PREFIX, sizeof(TOKEN_PREFIX));
    hex_format(random, sizeof(random), minted->secret + strlen(TOKEN_PREFIX));
    call->context = minted;
    call->context_free = minted_free;
    int r = token_fill(call, token, minted->secret, &err);
    if (r == 0) {
        command_init(&command, COMMAND_PUT);
        r = command_set_put(&command, KIND_TOKEN, token, REVISION_NONE);
    }
    object_free(KIND_TOKEN, token);
    if (r < 0) {
        call_fail(call, r, err.text);
        return;
    }
    call_propose(call, &command, 1, token_made);
    command_fini(&command);
}
