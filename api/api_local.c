/* What a host answers by itself. */
#include "api/api_handlers.h"
#include "api/metrics_gate.h"
#include "base/version.h"
#include "model/level.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void handle_health(struct api_call *call, const struct state *state)
{
    struct control_role role;
    (void)state;
    call->api->control->role(call->api->control->context, &role);
    bool ok = role.leader_name[0] != '\0';
    call_answer(call, ok ? 200 : 503,
                json_pack("{s:s, s:s, s:s, s:s, s:I}", "status", ok ? "ok" : "no leader",
                          "host", role.host_name, "role",
                          role.leader  ? "leader"
                          : role.voter ? "voter"
                                       : "agent",
                          "leader", role.leader_name, "revision",
                          (json_int_t)role.revision),
                0);
}

static void metrics_answer(struct api_call *call)
{
    char requests[512];
    char *agent = call->api->control->metrics(call->api->control->context);
    (void)snprintf(
        requests, sizeof(requests),
        "# HELP berth_http_requests_total Requests that this host's API took.\n"
        "# TYPE berth_http_requests_total counter\nberth_http_requests_total %llu\n"
        "# HELP berth_http_problems_total Answers of it that were problems.\n"
        "# TYPE berth_http_problems_total counter\nberth_http_problems_total %llu\n",
        (unsigned long long)call->api->requests_total,
        (unsigned long long)call->api->problems_total);
    size_t size = strlen(requests) + (agent != NULL ? strlen(agent) : 0) + 1;
    char *text = malloc(size);
    if (text != NULL) {
        (void)snprintf(text, size, "%s%s", agent != NULL ? agent : "", requests);
        call_answer_text(call, 200, "text/plain; version=0.0.4; charset=utf-8", text);
    } else {
        call_fail(call, -12, NULL);
    }
    free(text);
    free(agent);
}

void handle_metrics(struct api_call *call, const struct state *state)
{
    (void)state;
    metrics_gate_pass(call->api->metrics_gate, call, metrics_answer);
}

void handle_version(struct api_call *call, const struct state *state)
{
    struct control_role role;
    const struct level_range known = level_range_up_to(0);
    (void)state;
    call->api->control->role(call->api->control->context, &role);
    call_answer(call, 200,
                json_pack("{s:s, s:s, s:s, s:s, s:i, s:i}", "version", BERTH_VERSION,
                          "api", "v1", "host", role.host_name, "leader", role.leader_name,
                          "levelMin", (int)known.min, "levelMax", (int)known.max),
                0);
}

void handle_level(struct api_call *call, const struct state *state)
{
    const struct control_plane *control = call->api->control;
    (void)state;
    call_answer(call, 200, control->level(control->context), 0);
}

void handle_self(struct api_call *call, const struct state *state)
{
    const struct subject *subject = &call->subject;
    (void)state;
    call_answer(call, 200,
                json_pack("{s:s, s:s, s:s, s:s}", "subject", subject->name, "clusterRole",
                          role_names[subject->cluster_role], "tenantRole",
                          role_names[subject->tenant_role], "tenant", subject->tenant),
                0);
}

/* Which content a host holds is no secret: names of content tell nothing to who does not
 * have it. */
void handle_blob_head(struct api_call *call, const struct state *state)
{
    const struct control_plane *control = call->api->control;
    char hex[DIGEST_HEX_SIZE];
    uint64_t size = 0;
    (void)state;
    digest_format(&call->target.sha256, hex);
    if (!control->blob_has(control->context, &call->target.sha256, &size)) {
        call_fail(call, BERTH_ENOTFOUND, "this host does not hold that content");
        return;
    }
    call_answer(call, 200,
                json_pack("{s:s, s:I}", "sha256", hex, "size", (json_int_t)size), 0);
}

static void fetched(void *context,
                    int code,
                    const struct digest *digest,
                    uint64_t size,
                    const char *detail)
{
    struct exchange *exchange = context;
    char hex[DIGEST_HEX_SIZE];
    if (code < 0) {
        /* It is the URL's server that does not answer, not this cluster: no 503. */
        problem_answer(exchange,
                       &(struct problem){.code = code,
                                         .status = code == BERTH_EUNREACHABLE ? 502 : 0,
                                         .detail = detail},
                       0);
    } else {
        digest_format(digest, hex);
        call_send_json(exchange, 201,
                       json_pack("{s:s, s:I}", "sha256", hex, "size", (json_int_t)size),
                       0, 0);
    }
    exchange_unref(exchange);
}

/* Uploads never come here (api/http_request.c takes them); this fetches by URL. */
void handle_blob_fetch(struct api_call *call, const struct state *state)
{
    const struct control_plane *control = call->api->control;
    const char *url = query_get(&call->query, "url");
    const char *sha256 = query_get(&call->query, "sha256");
    struct digest digest;
    (void)state;
    int r = subject_check_upload(control->state(control->context),
                                 &exchange_request(call->exchange)->credentials,
                                 call->wall_ms);
    if (r < 0) {
        call_fail(call, r, NULL);
        return;
    }
    if (url == NULL || sha256 == NULL || digest_parse(sha256, &digest) < 0) {
        call_fail(call, BERTH_EINVALID, "wanted ?url=...&sha256=<64 hex digits>");
        return;
    }
    control->blob_fetch(control->context, url, &digest, fetched,
                        exchange_ref(call->exchange));
    call_leave(call);
}
