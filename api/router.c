#include "api/router.h"

#include "api/api_handlers.h"
#include "api/metrics_gate.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/digest.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TICK_MS       250
#define TICK_SLACK_MS 250 /* deadlines are seconds; rather when the loop is awake */

/* ---- checks before the handler
 * ------------------------------------------------------------------------------ */

static int judge_object(const struct route *route,
                        const struct route_target *target,
                        const struct subject *subject,
                        const struct state *state)
{
    return subject_may(state, subject, route->verb, target->kind, target->tenant,
                       target->name);
}

int route_judge(const struct route *route,
                const struct route_target *target,
                const struct subject *subject,
                const struct state *state)
{
    switch (route->access) {
    case ROUTE_OPEN:
        return 0;
    case ROUTE_ANY: /* each object is judged by itself; such a root writes none */
        return route->verb == ACCESS_WRITE && subject->host != 0 ? BERTH_EFORBIDDEN : 0;
    case ROUTE_OBJECT:
        return judge_object(route, target, subject, state);
    case ROUTE_CONSOLE:
        return subject_is_root_under(
                   subject, state_get(state, target->kind, target->tenant, target->name))
                   ? 0
                   : judge_object(route, target, subject, state);
    case ROUTE_HOST:
        return subject->cluster_role == ROLE_ADMIN ||
                       subject_is_root_of(
                           subject, state_get(state, target->kind, "", target->name))
                   ? 0
                   : BERTH_EFORBIDDEN;
    case ROUTE_CLUSTER_VIEWER:
        return subject->cluster_role != ROLE_NONE ? 0 : BERTH_EFORBIDDEN;
    case ROUTE_CLUSTER_ADMIN:
        return subject->cluster_role == ROLE_ADMIN ? 0 : BERTH_EFORBIDDEN;
    case ROUTE_UPLOAD:
        return subject_may_upload(state, subject) ? 0 : BERTH_EFORBIDDEN;
    }
    return BERTH_EBUG;
}

static void refuse_subject(struct api_call *call, int code)
{
    if (code == BERTH_ENOTFOUND && call->target.name[0] != '\0') {
        call_fail_missing(call);
    } else if (code == BERTH_EFORBIDDEN && call->subject.host != 0) {
        call_fail_with(
            call, &(struct problem){
                      .code = code,
                      .detail = "root of a host that has no part in the log sees hosts, "
                                "sees its own VMs and has their consoles, and may drain "
                                "and undrain its own host",
                      .hint = "`berth login` with a token, or run berth on a voter "
                              "(`berth ls host`)"});
    } else {
        call_fail(call, code, NULL);
    }
}

static bool place_leads(enum route_place place)
{
    return place == ROUTE_LEADER || place == ROUTE_LOG;
}

static int body_read(struct api_call *call, struct err *err)
{
    const struct exchange_request *request = exchange_request(call->exchange);
    if (!call->route->body || request->body_size == 0) {
        return 0;
    }
    return json_view_parse((const char *)request->body, request->body_size, &call->body,
                           err);
}

/* What the request asks for, so that its key is good for nothing else. */
static uint32_t fingerprint(const struct exchange_request *request)
{
    const char *texts[] = {request->method, request->path, request->query,
                           request->if_match, request->if_none_match};
    struct digest_stream stream;
    struct digest digest;
    digest_start(&stream);
    for (size_t i = 0; i < ARRAY_COUNT(texts); i++) {
        const char *text = texts[i] != NULL ? texts[i] : "";
        digest_update(&stream, text, strlen(text) + 1);
    }
    digest_update(&stream, request->body, request->body_size);
    digest_finish(&stream, &digest);
    return (uint32_t)digest.bytes[0] | (uint32_t)digest.bytes[1] << 8 |
           (uint32_t)digest.bytes[2] << 16 | (uint32_t)digest.bytes[3] << 24;
}

/* Its key has been used by nobody: the state does not know it, nor is anything with it on
 * the way there. */
static bool is_first(const struct api_call *call, const struct state *state)
{
    struct apply_result known;
    if (call->doubted || state_answered(state, call->guard_id, &known)) {
        return false;
    }
    LIST_EACH (item, &call->api->calls) {
        if (call_shares_key(call, LIST_ITEM(item, struct api_call, link))) {
            return false;
        }
    }
    return true;
}

static void guarded(struct api_call *call)
{
    const struct apply_result *result = &call->results[0];
    const struct state *state = call_state(call);
    if (result->code != 0) {
        call_refuse(call, result);
        return;
    }
    if (state == NULL) {
        call_fail(call, BERTH_ENOTLEADER, NULL);
        return;
    }
    /* A first answer is newer than the state that there was before. */
    call->repeated = !call->first || result->revision <= call->revision;
    call->revision = state_revision(state);
    call->deadline_ms = 0;
    call->route->handler(call, state);
}

/* The handler runs when the log has the key with this request, and with no other. */
static void guard(struct api_call *call)
{
    struct command command;
    call_guard(call, &command);
    call_propose(call, &command, 1, guarded);
    command_fini(&command);
}

static void confirm(struct api_call *call);

/* With a key. Its first command for the log takes the guard with it, when it surely is
 * the key's first; a handler that answers by what it sees begins anew, behind the guard.
 * From a barrier for doubts about other keys it goes on as if there had been none. */
static void enter_keyed(struct api_call *call, const struct state *state)
{
    const bool settled = call->settles;
    call->settles = false;
    call->confirm = settled ? confirm : call->confirm;
    call->fingerprint = fingerprint(exchange_request(call->exchange));
    call_request_id(call, 0, call->guard_id);
    call->keyed = true;
    call->first = state != NULL && is_first(call, state);
    call->leads_guard = false;
    if (!call->first || call->confirm == NULL) { /* the route needs the newest state */
        guard(call);
    } else if (!settled && call->api->doubts != call->api->doubts_settled) {
        call->settles = true;
        call->confirm = NULL;
        confirm(call);
    } else {
        call->leads_guard = true;
        call->route->handler(call, state);
    }
}

static void enter(struct api_call *call, const struct state *state)
{
    struct err err;
    if (state != NULL && call->route->access != ROUTE_OPEN) {
        int r =
            subject_authenticate(state, &exchange_request(call->exchange)->credentials,
                                 call->wall_ms, &call->subject);
        r = r == 0 ? route_judge(call->route, &call->target, &call->subject, state) : r;
        if (r < 0) {
            refuse_subject(call, r);
            return;
        }
    }
    if (body_read(call, &err) < 0) {
        call_fail_with(call,
                       &(struct problem){.code = BERTH_EINVALID,
                                         .status = 400,
                                         .detail = err.text,
                                         .hint = "the body must be one JSON document"});
        return;
    }
    call->revision = state != NULL ? state_revision(state) : 0;
    if (place_leads(call->route->place) && call->route->verb == ACCESS_WRITE &&
        strcmp(call->route->method, "GET") != 0 &&
        exchange_request(call->exchange)->idempotency_key != NULL) {
        enter_keyed(call, state);
    } else {
        call->route->handler(call, state);
    }
}

static void readable(void *context, int code, const struct state *state)
{
    struct api_call *call = context;
    call->awaited--;
    if (call->over) { /* answered by the clock */
        call_leave(call);
    } else if (call->api == NULL) {
        call_fail(call, BERTH_ECLOSED, "this host is going down");
    } else if (code < 0) {
        call_fail(call, code, NULL);
    } else {
        call->deadline_ms = 0;
        if (call->doubts > call->api->doubts_settled) {
            call->api->doubts_settled = call->doubts; /* the barrier came behind them */
        }
        enter(call, state);
    }
}

/* Anew, should it have got somewhere already. */
static void confirm(struct api_call *call)
{
    const struct control_plane *control = call->api->control;
    call->body = json_view_free(call->body);
    call->doubts = call->api->doubts;
    call->deadline_ms = uv_now(call->api->loop) + CALL_READ_MS;
    call->awaited = 1;
    control->read(control->context, readable, call);
}

/* With the state as applied here, which has all that was ever acknowledged as long as
 * this host leads. A write that the log takes shows that it does: one that was replaced
 * has no majority. That saves each write a round of the log. */
static void go_ahead(struct api_call *call)
{
    const struct control_plane *control = call->api->control;
    const struct state *state = control->state(control->context);
    if (state == NULL) {
        confirm(call);
        return;
    }
    call->confirm = confirm;
    enter(call, state);
}

/* ---- a request arrives
 * -----------------------------------------------------------------------------------------
 */

static struct api_call *call_new(struct api *api,
                                 struct exchange *exchange,
                                 const struct route *route,
                                 const struct route_target *target)
{
    struct api_call *call = calloc(1, sizeof(*call));
    if (call == NULL) {
        return NULL;
    }
    call->api = api;
    call->exchange = exchange_ref(exchange);
    call->route = route;
    call->target = *target;
    call->wall_ms = clock_wall_ms(clock_system());
    list_push_back(&api->calls, &call->link);
    api->call_count++;
    return call;
}

static void
refuse(struct api *api, struct exchange *exchange, const struct problem *problem)
{
    api->problems_total++;
    problem_answer(exchange, problem, 0);
}

/* False when the exchange is somebody else's now, or was refused. What a host answers by
 * itself no honest host sends on: it would do here what its sender may only do there. */
static bool stays_here(struct api *api,
                       struct exchange *exchange,
                       const struct route *route,
                       bool forwarded)
{
    struct control_role role;
    if (forwarded && route->place == ROUTE_LOCAL) {
        refuse(api, exchange,
               &(struct problem){.code = BERTH_EFORBIDDEN,
                                 .detail = "that is asked of a host directly"});
        return false;
    }
    api->control->role(api->control->context, &role);
    bool here = route->place == ROUTE_LOCAL ||
                (place_leads(route->place) && role.leader) ||
                (route->place == ROUTE_VOTER &&
                 api->control->state(api->control->context) != NULL);
    if (here) {
        return true;
    }
    if (forwarded) {
        refuse(api, exchange, &(struct problem){.code = BERTH_ENOTLEADER});
    } else {
        api->control->forward(api->control->context, exchange);
    }
    return false;
}

/* One token holds no more than its share, and so does one host that sends requests on.
 * Who it is is not known before the state may be read, so that the token itself is what
 * is counted. Why there is no place for one more, or NULL. */
static const char *share_full(const struct api *api,
                              const struct exchange_credentials *credentials)
{
    unsigned by_token = 0;
    unsigned by_host = 0;
    if (api->call_count < CALLS_SHARE) {
        return NULL;
    }
    LIST_EACH (item, &api->calls) {
        const struct exchange_credentials *other =
            &exchange_request(LIST_ITEM(item, struct api_call, link)->exchange)
                 ->credentials;
        bool same_token = credentials->has_token && other->has_token &&
                          digest_equal(&other->token_hash, &credentials->token_hash);
        bool same_host =
            credentials->forwarder != 0 && other->forwarder == credentials->forwarder;
        by_token += same_token ? 1 : 0;
        by_host += same_host ? 1 : 0;
    }
    return by_token >= CALLS_SHARE ? "256 requests of this token are under way"
           : by_host >= CALLS_HOST_SHARE
               ? "512 requests by way of that host are under way"
               : NULL;
}

void api_handle(struct api *api, struct exchange *exchange, bool forwarded)
{
    const struct exchange_request *request = exchange_request(exchange);
    const struct route *route = NULL;
    struct route_target target;
    struct err err;
    char allow[ROUTE_ALLOW_SIZE];
    api->requests_total++;
    int r = routes_match(request->method, request->path, &route, &target, allow);
    if (r == BERTH_EUNSUPPORTED) {
        refuse(api, exchange,
               &(struct problem){.code = r,
                                 .status = 405,
                                 .allow = allow,
                                 .detail = "this path does not know the method"});
        return;
    }
    if (r < 0) {
        refuse(api, exchange,
               &(struct problem){.code = r,
                                 .detail = "there is no such path",
                                 .hint = "docs/api.md lists the paths"});
        return;
    }
    if (!stays_here(api, exchange, route, forwarded)) {
        return;
    }
    const char *full = share_full(api, &request->credentials);
    if (full != NULL) {
        refuse(api, exchange, &(struct problem){.code = BERTH_EFULL, .detail = full});
        return;
    }
    struct api_call *call =
        api->call_count < CALLS_MAX ? call_new(api, exchange, route, &target) : NULL;
    if (call == NULL) {
        refuse(api, exchange, &(struct problem){.code = BERTH_EFULL});
        return;
    }
    if (query_parse(request->query, &call->query, &err) < 0) {
        call_fail_with(
            call,
            &(struct problem){.code = BERTH_EINVALID, .status = 400, .detail = err.text});
    } else if (query_check(&call->query, route->query, &err) < 0) {
        call_fail(call, BERTH_EINVALID, err.text);
    } else if (route->place == ROUTE_LEADER) {
        confirm(call);
    } else if (route->place == ROUTE_LOG) {
        go_ahead(call);
    } else {
        enter(call, route->place == ROUTE_VOTER
                        ? api->control->state(api->control->context)
                        : NULL);
    }
}

/* ---- life
 * ----------------------------------------------------------------------------------------------------
 */

/* Why a call got no answer, and whether it may have done anything. */
static const char *overdue_text(const struct api_call *call)
{
    if (call->trial) {
        return "the dry run's turn did not come in time; nothing was changed";
    }
    return call->next_command > 0
               ? "the log did not answer in time; what was asked may still be done"
               : "the leader could not confirm that it leads in time";
}

static void on_tick(void *context)
{
    struct api *api = context;
    uint64_t now_ms = uv_now(api->loop);
    LIST_EACH_SAFE (item, &api->calls) {
        struct api_call *call = LIST_ITEM(item, struct api_call, link);
        if (!call->over && call->deadline_ms != 0 && now_ms >= call->deadline_ms) {
            call_fail(call, BERTH_ETIMEOUT, overdue_text(call));
        }
    }
    watches_tick(api->watches);
    consoles_tick(api->consoles);
    backups_tick(api->backups);
}

struct api *api_new(uv_loop_t *loop, const struct control_plane *control)
{
    struct api *api = calloc(1, sizeof(*api));
    if (api == NULL) {
        return NULL;
    }
    api->loop = loop;
    api->control = control;
    list_init(&api->calls);
    api->watches = watches_new(api);
    api->consoles = consoles_new(api);
    api->trials = trials_new(api);
    api->backups = backups_new(api);
    api->metrics_gate = metrics_gate_new(api, METRICS_FRESH_MS, METRICS_TRUST_MS);
    api->tick = loop_timer_new(loop, TICK_MS, TICK_MS, on_tick, api);
    if (api->watches == NULL || api->consoles == NULL || api->trials == NULL ||
        api->backups == NULL || api->metrics_gate == NULL || api->tick == NULL) {
        return api_free(api);
    }
    loop_timer_slacken(api->tick, TICK_SLACK_MS);
    return api;
}

struct api *api_free(struct api *api)
{
    if (api == NULL) {
        return NULL;
    }
    loop_timer_close(api->tick);
    LIST_EACH_SAFE (item, &api->calls) {
        struct api_call *call = LIST_ITEM(item, struct api_call, link);
        list_remove(item);
        call->api = NULL; /* goes with its last callback */
    }
    watches_free(api->watches);
    consoles_free(api->consoles);
    trials_free(api->trials);
    backups_free(api->backups);
    metrics_gate_free(api->metrics_gate);
    free(api);
    return NULL;
}

void api_feed_changed(struct api *api)
{
    watches_feed_changed(api->watches);
}

void api_feed_reset(struct api *api)
{
    watches_reset(api->watches);
}
