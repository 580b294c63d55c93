#include "api/metrics_gate.h"

#include "base/cleanup.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SAID_MAX 2048 /* of the leader's answer; it is far shorter */

struct known {
    struct digest hash;
    uint64_t yes_ms; /* when the leader said so */
    bool used;
};

/* A question to the leader: the sink of its exchange. */
struct question {
    struct list link;
    struct metrics_gate *gate; /* NULL once it is gone */
    struct api_call *call;     /* that waits for it; NULL: asked to know for later */
    void (*allowed)(struct api_call *call);
    struct digest hash;
    int status;
    char said[SAID_MAX];
    size_t size;
    bool answered;
};

struct metrics_gate {
    struct api *api;
    uint64_t fresh_ms;
    uint64_t trust_ms;
    struct known known[METRICS_TOKENS_MAX];
    struct list questions;
};

/* ---- memory ---- */

static struct known *known_find(struct metrics_gate *gate, const struct digest *hash)
{
    for (unsigned i = 0; i < METRICS_TOKENS_MAX; i++) {
        if (gate->known[i].used && digest_equal(&gate->known[i].hash, hash)) {
            return &gate->known[i];
        }
    }
    return NULL;
}

static void remember(struct metrics_gate *gate, const struct digest *hash, bool good)
{
    struct known *place = known_find(gate, hash);
    if (!good) {
        if (place != NULL) {
            *place = (struct known){0};
        }
        return;
    }
    for (unsigned i = 0; place == NULL && i < METRICS_TOKENS_MAX; i++) {
        place = gate->known[i].used ? NULL : &gate->known[i];
    }
    if (place == NULL) {
        place = &gate->known[0];
        for (unsigned i = 1; i < METRICS_TOKENS_MAX; i++) {
            place = gate->known[i].yes_ms < place->yes_ms ? &gate->known[i] : place;
        }
    }
    *place =
        (struct known){.hash = *hash, .yes_ms = uv_now(gate->api->loop), .used = true};
}

/* ---- asking the leader ---- */

static int verdict_of(const struct question *question)
{
    struct err err;
    json_t *document = NULL;
    if (question->status == 401) {
        return BERTH_EAUTH;
    }
    if (question->status != 200 ||
        json_parse(question->said, question->size, &document, &err) < 0) {
        return BERTH_ENOLEADER;
    }
    const char *role = json_string_value(json_object_get(document, "clusterRole"));
    int r = role != NULL && role[0] != '\0' ? 0 : BERTH_EFORBIDDEN;
    json_decref(document);
    return r;
}

static void refuse(struct api_call *call, int code)
{
    const char *detail = code == BERTH_ENOLEADER
                             ? "this host cannot ask the leader about the token"
                         : code == BERTH_EFORBIDDEN
                             ? "a host's metrics name VMs of all tenants: a token with a "
                               "role in the cluster is needed, `viewer` is enough"
                             : NULL;
    call_fail(call, code, detail);
}

static void question_settle(struct question *question)
{
    struct api_call *call = question->call;
    int verdict = verdict_of(question);
    question->answered = true;
    question->call = NULL;
    if (question->gate != NULL && verdict != BERTH_ENOLEADER) {
        remember(question->gate, &question->hash, verdict == 0);
    }
    if (call == NULL) {
        return;
    }
    call->awaited--;
    if (call->over) { /* answered by the clock */
        call_leave(call);
    } else if (call->api == NULL) {
        call_fail(call, BERTH_ECLOSED, "this host is going down");
    } else if (verdict < 0) {
        refuse(call, verdict);
    } else {
        call->deadline_ms = 0;
        question->allowed(call);
    }
}

static void sink_head(void *sink,
                      int status,
                      const char *content_type,
                      const struct exchange_header *headers,
                      unsigned header_count)
{
    struct question *question = sink;
    (void)content_type;
    (void)headers;
    (void)header_count;
    question->status = status;
}

static int sink_data(void *sink, const void *data, size_t size)
{
    struct question *question = sink;
    size_t room = SAID_MAX - question->size;
    size_t taken = size < room ? size : room; /* what is cut does not parse */
    memcpy(question->said + question->size, data, taken);
    question->size += taken;
    return 0;
}

static void sink_end(void *sink)
{
    question_settle(sink);
}

static void sink_released(void *sink)
{
    struct question *question = sink;
    if (!question->answered) {
        question->status = 0;
        question_settle(question);
    }
    if (question->gate != NULL) {
        list_remove(&question->link);
    }
    free(question);
}

static const struct exchange_sink question_sink = {.head = sink_head,
                                                   .data = sink_data,
                                                   .end = sink_end,
                                                   .released = sink_released};

static int ask(struct metrics_gate *gate,
               const struct digest *hash,
               struct api_call *call,
               void (*allowed)(struct api_call *call))
{
    const struct control_plane *control = gate->api->control;
    struct exchange_request request = {
        .method = "GET", .path = strdup("/v1/self"), .query = strdup("")};
    struct question *question = calloc(1, sizeof(*question));
    request.credentials =
        (struct exchange_credentials){.has_token = true, .token_hash = *hash};
    struct exchange *exchange =
        question != NULL && request.path != NULL && request.query != NULL
            ? exchange_new(&request, &question_sink, question)
            : NULL;
    if (exchange == NULL) {
        exchange_request_fini(&request);
        free(question);
        return -ENOMEM;
    }
    question->gate = gate;
    question->hash = *hash;
    question->allowed = allowed;
    question->call = call;
    list_push_back(&gate->questions, &question->link);
    if (call != NULL) {
        call->awaited++;
        call->deadline_ms = uv_now(gate->api->loop) + CALL_READ_MS;
    }
    control->forward(control->context, exchange); /* may be answered within */
    exchange_unref(exchange);
    return 0;
}

static bool is_asked_about(const struct metrics_gate *gate, const struct digest *hash)
{
    LIST_EACH (item, &gate->questions) {
        const struct question *question = LIST_ITEM(item, struct question, link);
        if (digest_equal(&question->hash, hash)) {
            return true;
        }
    }
    return false;
}

/* ---- the gate ---- */

static int judge(const struct state *state, const struct api_call *call)
{
    struct subject subject;
    int r = subject_authenticate(state, &exchange_request(call->exchange)->credentials,
                                 call->wall_ms, &subject);
    return r == 0 && subject.cluster_role == ROLE_NONE ? BERTH_EFORBIDDEN : r;
}

static void pass_without_state(struct metrics_gate *gate,
                               struct api_call *call,
                               void (*allowed)(struct api_call *call))
{
    const struct digest hash = exchange_request(call->exchange)->credentials.token_hash;
    const struct known *known = known_find(gate, &hash);
    uint64_t age_ms = known != NULL ? uv_now(gate->api->loop) - known->yes_ms : 0;
    if (known == NULL || age_ms >= gate->trust_ms) {
        int r = ask(gate, &hash, call, allowed);
        if (r < 0) {
            call_fail(call, r, NULL);
        }
        return;
    }
    if (age_ms >= gate->fresh_ms && !is_asked_about(gate, &hash)) {
        (void)ask(gate, &hash, NULL, NULL); /* else with the next reading */
    }
    allowed(call);
}

void metrics_gate_pass(struct metrics_gate *gate,
                       struct api_call *call,
                       void (*allowed)(struct api_call *call))
{
    const struct exchange_credentials *credentials =
        &exchange_request(call->exchange)->credentials;
    const struct state *state = call_state(call);
    if (credentials->local_root && !credentials->has_token) {
        allowed(call);
    } else if (!credentials->has_token) {
        refuse(call, BERTH_EAUTH);
    } else if (state != NULL) {
        int r = judge(state, call);
        if (r < 0) {
            refuse(call, r);
        } else {
            allowed(call);
        }
    } else {
        pass_without_state(gate, call, allowed);
    }
}

struct metrics_gate *
metrics_gate_new(struct api *api, uint64_t fresh_ms, uint64_t trust_ms)
{
    struct metrics_gate *gate = calloc(1, sizeof(*gate));
    if (gate != NULL) {
        gate->api = api;
        gate->fresh_ms = fresh_ms;
        gate->trust_ms = trust_ms;
        list_init(&gate->questions);
    }
    return gate;
}

struct metrics_gate *metrics_gate_free(struct metrics_gate *gate)
{
    if (gate == NULL) {
        return NULL;
    }
    LIST_EACH_SAFE (item, &gate->questions) {
        struct question *question = LIST_ITEM(item, struct question, link);
        list_remove(item);
        question->gate = NULL;
    }
    free(gate);
    return NULL;
}
