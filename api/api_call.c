#include "api/api_call.h"

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "base/parse_number.h"
#include "base/random.h"
#include "base/require.h"
#include "model/document.h"
#include "model/request_memory.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- answers ---- */

const struct state *call_state(const struct api_call *call)
{
    const struct control_plane *control = call->api != NULL ? call->api->control : NULL;
    return control != NULL ? control->state(control->context) : NULL;
}

static unsigned common_headers(const struct exchange *exchange,
                               struct exchange_header headers[3],
                               char revision_text[24],
                               uint64_t revision)
{
    const char *request_id = exchange_request(exchange)->request_id;
    unsigned count = 0;
    (void)snprintf(revision_text, 24, "%" PRIu64, revision);
    headers[count++] = (struct exchange_header){EXCHANGE_REVISION, revision_text};
    if (request_id != NULL) {
        headers[count++] = (struct exchange_header){"X-Request-Id", request_id};
    }
    return count;
}

/* The writer is empty afterwards. */
static void send_written(struct exchange *exchange,
                         int status,
                         struct bytes_writer *take_text,
                         uint64_t revision,
                         uint64_t etag)
{
    struct exchange_header headers[3];
    char revision_text[24];
    char etag_text[24];
    bytes_write_u8(take_text, '\n');
    if (take_text->error != 0) {
        bool large = take_text->error == BERTH_ETOOLARGE;
        problem_answer(
            exchange,
            &(struct problem){.code = take_text->error,
                              .detail = large ? "the answer has more than 64MiB" : NULL,
                              .hint = large ? "ask for fewer with limit=, or for less "
                                              "of each with fields="
                                            : NULL},
            revision);
        bytes_writer_fini(take_text);
        return;
    }
    unsigned count = common_headers(exchange, headers, revision_text, revision);
    if (etag != 0) {
        (void)snprintf(etag_text, sizeof(etag_text), "\"%" PRIu64 "\"", etag);
        headers[count++] = (struct exchange_header){"ETag", etag_text};
    }
    exchange_answer(exchange, status, "application/json", headers, count, take_text->data,
                    take_text->size);
    bytes_writer_fini(take_text);
}

void call_json_begin(struct bytes_writer *text, struct json_writer *ret_writer)
{
    bytes_writer_init(text, EXCHANGE_ANSWER_MAX);
    json_writer_init(ret_writer, text);
}

void call_send_json(struct exchange *exchange,
                    int status,
                    json_t *take_document,
                    uint64_t revision,
                    uint64_t etag)
{
    struct bytes_writer text;
    struct json_writer writer;
    call_json_begin(&text, &writer);
    json_write_tree(&writer, take_document);
    json_decref(take_document);
    send_written(exchange, status, &text, revision, etag);
}

static void call_free(struct api_call *call)
{
    list_remove(&call->link);
    if (call->api != NULL) {
        call->api->call_count--;
    }
    if (call->context_free != NULL) {
        call->context_free(call->context);
    }
    exchange_unref(call->exchange);
    query_fini(&call->query);
    json_view_free(call->body);
    free(call->results);
    free(call->places);
    free(call);
}

void call_leave(struct api_call *call)
{
    call->over = true;
    call->deadline_ms = 0;
    if (call->awaited == 0) {
        call_free(call);
    }
}

/* True: not yet; what has been worked out may be of a state that is not the newest. */
static bool confirm_first(struct api_call *call)
{
    void (*confirm)(struct api_call *) = call->api != NULL ? call->confirm : NULL;
    call->confirm = NULL;
    if (confirm != NULL) {
        confirm(call);
    }
    return confirm != NULL;
}

/* The newest revision that the answer can speak of. */
static uint64_t revision_now(const struct api_call *call)
{
    const struct state *state = call_state(call);
    uint64_t revision = state != NULL ? state_revision(state) : 0;
    return revision > call->revision ? revision : call->revision;
}

void call_answer(struct api_call *call, int status, json_t *take_document, uint64_t etag)
{
    if (confirm_first(call)) {
        json_decref(take_document);
        return;
    }
    call_send_json(call->exchange, status, take_document, revision_now(call), etag);
    call_leave(call);
}

void call_answer_written(struct api_call *call,
                         int status,
                         struct bytes_writer *take_text,
                         uint64_t etag)
{
    if (confirm_first(call)) {
        bytes_writer_fini(take_text);
        return;
    }
    send_written(call->exchange, status, take_text, revision_now(call), etag);
    call_leave(call);
}

void call_answer_text(struct api_call *call,
                      int status,
                      const char *content_type,
                      const char *text)
{
    struct exchange_header headers[3];
    char revision_text[24];
    const size_t size = strlen(text);
    if (confirm_first(call)) {
        return;
    }
    if (size > EXCHANGE_ANSWER_MAX) {
        call_fail(call, BERTH_ETOOLARGE, "the answer has more than 64MiB");
        return;
    }
    unsigned count =
        common_headers(call->exchange, headers, revision_text, revision_now(call));
    exchange_answer(call->exchange, status, content_type, headers, count, text, size);
    call_leave(call);
}

/* This host leads no more, and nothing was done: the next leader is asked. What another
 * host sent on goes back there, for it looks for the leader itself. */
static bool goes_elsewhere(const struct api_call *call, const struct problem *problem)
{
    return call->api != NULL && call->awaited == 0 && problem_undone(problem) &&
           (call->route->place == ROUTE_LEADER || call->route->place == ROUTE_LOG) &&
           exchange_request(call->exchange)->credentials.forwarder == 0;
}

void call_fail_with(struct api_call *call, const struct problem *problem)
{
    if (confirm_first(call)) {
        json_decref(problem->errors);
        return;
    }
    if (goes_elsewhere(call, problem)) {
        const struct control_plane *control = call->api->control;
        struct exchange *exchange = exchange_ref(call->exchange);
        call_leave(call);
        control->forward(control->context, exchange);
        exchange_unref(exchange);
        return;
    }
    if (call->api != NULL) {
        call->api->problems_total++;
    }
    problem_answer(call->exchange, problem, revision_now(call));
    call_leave(call);
}

void call_fail(struct api_call *call, int code, const char *detail)
{
    call_fail_with(call, &(struct problem){.code = code, .detail = detail});
}

int call_flag(const struct api_call *call,
              const char *name,
              bool *ret_flag,
              struct err *err)
{
    const struct json_value *flag = json_value_member(json_view_root(call->body), name);
    if (flag != NULL && !json_value_is_bool(flag)) {
        return err_set(err, BERTH_EINVALID, "%s: true or false", name);
    }
    *ret_flag = json_value_type(flag) == JSON_VALUE_TRUE;
    return 0;
}

void call_fail_missing(struct api_call *call)
{
    char detail[2 * NAME_SIZE + 64];
    const struct kind_info *info = kind_info(call->target.kind);
    (void)snprintf(detail, sizeof(detail), "%s %s%s%s does not exist",
                   info != NULL ? info->word : "object", call->target.name,
                   call->target.tenant[0] != '\0' ? " of tenant " : "",
                   call->target.tenant);
    call_fail(call, BERTH_ENOTFOUND, detail);
}

/* ---- proposals ---- */

/* From subject, key and number; without a key, random but for the owner's part. */
void call_request_id(const struct api_call *call,
                     uint32_t number,
                     uint8_t ret_id[REQUEST_ID_SIZE])
{
    const char *key = exchange_request(call->exchange)->idempotency_key;
    struct digest_stream stream;
    struct digest digest;
    digest_of(call->subject.name, strlen(call->subject.name), &digest);
    memcpy(ret_id, digest.bytes, REQUEST_OWNER_SIZE);
    if (key == NULL) {
        random_secret(ret_id + REQUEST_OWNER_SIZE, REQUEST_ID_SIZE - REQUEST_OWNER_SIZE);
        return;
    }
    const uint8_t bytes[4] = {(uint8_t)number, (uint8_t)(number >> 8),
                              (uint8_t)(number >> 16), (uint8_t)(number >> 24)};
    digest_start(&stream);
    digest_update(&stream, call->subject.name, strlen(call->subject.name) + 1);
    digest_update(&stream, key, strlen(key) + 1);
    digest_update(&stream, bytes, sizeof(bytes));
    digest_finish(&stream, &digest);
    memcpy(ret_id + REQUEST_OWNER_SIZE, digest.bytes,
           REQUEST_ID_SIZE - REQUEST_OWNER_SIZE);
}

bool call_shares_key(const struct api_call *call, const struct api_call *other)
{
    return other != call && call->keyed && other->keyed &&
           memcmp(call->guard_id, other->guard_id, REQUEST_ID_SIZE) == 0;
}

/* It may be in the log still, without a call: for who comes later, and for those with its
 * key that have come already, as no barrier of theirs need be behind it. */
static void doubt(const struct api_call *call)
{
    call->api->doubts++;
    LIST_EACH (item, &call->api->calls) {
        struct api_call *other = LIST_ITEM(item, struct api_call, link);
        other->doubted |= call_shares_key(call, other);
    }
}

static void
result_set(struct apply_result *ret_slot, int code, const struct apply_result *result)
{
    if (code == 0 && result != NULL) {
        *ret_slot = *result;
    } else {
        *ret_slot = (struct apply_result){.code = code != 0 ? code : BERTH_EBUG};
        (void)snprintf(ret_slot->text, sizeof(ret_slot->text), "%s",
                       err_sentence(ret_slot->code));
    }
}

/* What became of the command at that place, or of the guard ahead of all. Behind a guard
 * that was refused nothing counts as done: the key may be another request's. What has not
 * come through the log either says so by itself. */
static void take_result(struct api_call *call,
                        uint32_t index,
                        int code,
                        const struct apply_result *result)
{
    if (index < call->guards_ahead) {
        result_set(&call->guard, code, result);
        return;
    }
    uint32_t place = index - call->guards_ahead;
    bool unguarded = code == 0 && call->guards_ahead > 0 && call->guard.code != 0;
    REQUIRE(place < call->result_count);
    result_set(&call->results[call->places[place]], code,
               unguarded ? &call->guard : result);
}

static void
proposed(void *context, uint32_t index, int code, const struct apply_result *result)
{
    struct api_call *call = context;
    REQUIRE(call->awaited > 0);
    if (code == BERTH_EUNKNOWN && call->keyed && call->api != NULL) {
        doubt(call);
    }
    take_result(call, index, code, result);
    if (--call->awaited > 0) {
        return;
    }
    if (call->over) { /* too late: it was answered by the clock */
        call_leave(call);
    } else if (call->api == NULL) {
        call_fail(call, BERTH_ECLOSED, "this host is going down");
    } else {
        call->done(call);
    }
}

/* Ids of the commands; what an earlier try of the same request was answered is taken for
 * the answer, the others are moved to the front. Their number. */
static uint32_t stamp(struct api_call *call, struct command *commands, uint32_t count)
{
    const struct state *state = call->repeated ? call_state(call) : NULL;
    uint32_t fresh = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct command *command = &commands[i];
        (void)snprintf(command->subject, sizeof(command->subject), "%s",
                       call->subject.name);
        uint32_t number = call->numbers != NULL ? call->numbers[i] : call->next_command++;
        call_request_id(call, number, command->request_id);
        command->wall_ms = call->wall_ms;
        if (state != NULL &&
            state_answered(state, command->request_id, &call->results[i])) {
            call->recalled |= i == 0;
            continue;
        }
        const struct command moved = commands[fresh];
        commands[fresh] = *command; /* who owns them frees them all, in any order */
        *command = moved;
        call->places[fresh++] = i;
    }
    return fresh;
}

/* A host asks again what an earlier leader may have done. What is remembered is answered,
 * and what nobody can have forgotten since it was first asked was not done; of anything
 * else the client is told. Unlike its retries this one is sure to be told apart. */
static bool may_be_forgotten(const struct api_call *call, const struct command *command)
{
    const uint64_t since = exchange_repeat_since(call->exchange);
    const struct state *state = since != 0 ? call_state(call) : NULL;
    return state != NULL && state_may_have_forgotten(state, command->request_id, since);
}

static void fail_forgotten(struct api_call *call)
{
    call->confirm = NULL; /* true of whoever leads, and its commands are numbered */
    call_fail_with(
        call, &(struct problem){
                  .code = BERTH_EUNKNOWN,
                  .detail = "the leader that was asked first was lost, and so much was "
                            "asked since that it is not known whether it has done this",
                  .hint = "look whether it was done before you ask again"});
}

void call_guard(const struct api_call *call, struct command *ret_command)
{
    command_init(ret_command, COMMAND_NOOP);
    ret_command->body.noop.cookie = call->fingerprint;
}

/* In front of them goes the guard. The key is nobody's so far, so that it is not refused;
 * and whatever keeps it out of the log keeps out what comes behind it. */
static int
propose_guarded(struct api_call *call, struct command *commands, uint32_t count)
{
    const struct control_plane *control = call->api->control;
    struct command *all = calloc((size_t)count + 1, sizeof(*all));
    if (all == NULL) {
        return -ENOMEM;
    }
    call_guard(call, &all[0]);
    (void)snprintf(all[0].subject, sizeof(all[0].subject), "%s", call->subject.name);
    memcpy(all[0].request_id, call->guard_id, REQUEST_ID_SIZE);
    all[0].wall_ms = call->wall_ms;
    memcpy(&all[1], commands, count * sizeof(*all)); /* still the caller's */
    call->guards_ahead = 1;
    call->guard = (struct apply_result){0};
    call->awaited = count + 1;
    control->propose(control->context, all, count + 1, proposed, call);
    command_fini(&all[0]);
    free(all);
    return 0;
}

void call_propose(struct api_call *call,
                  struct command *commands,
                  uint32_t count,
                  void (*done)(struct api_call *call))
{
    const struct control_plane *control = call->api->control;
    REQUIRE(count > 0 && call->awaited == 0);
    free(call->results);
    free(call->places);
    call->results = calloc(count, sizeof(*call->results));
    call->places = calloc(count, sizeof(*call->places));
    call->recalled = false;
    if (call->results == NULL || call->places == NULL) {
        call->result_count = 0;
        call_fail(call, -ENOMEM, NULL);
        return;
    }
    call->next_command += call->leads_guard ? 1 : 0; /* the guard's */
    uint32_t fresh = stamp(call, commands, count);
    call->numbers = NULL;
    call->guards_ahead = 0;
    call->result_count = count;
    if (fresh == 0) {
        done(call);
        return;
    }
    for (uint32_t i = 0; i < fresh; i++) {
        if (may_be_forgotten(call, &commands[i])) {
            fail_forgotten(call);
            return;
        }
    }
    call->awaited = fresh;
    call->done = done;
    call->deadline_ms = uv_now(call->api->loop) + CALL_PROPOSE_MS;
    call->confirm = NULL; /* only a leader's proposals come through */
    if (!call->leads_guard) {
        control->propose(control->context, commands, fresh, proposed, call);
        return;
    }
    call->leads_guard = false;
    if (propose_guarded(call, commands, fresh) < 0) {
        call->awaited = 0;
        call_fail(call, -ENOMEM, NULL);
    }
}

const struct apply_result *call_refusal(const struct api_call *call)
{
    for (uint32_t i = 0; i < call->result_count; i++) {
        if (call->results[i].code != 0) {
            return &call->results[i];
        }
    }
    return NULL;
}

/* ---- lists ---- */

bool call_may_list(struct api_call *call,
                   const struct state *state,
                   enum kind kind,
                   const char *tenant)
{
    int r = subject_may_list(state, &call->subject, kind, tenant);
    char detail[NAME_SIZE + 64];
    if (r == BERTH_EFORBIDDEN) {
        (void)snprintf(detail, sizeof(detail), "you may not see %s",
                       kind_info(kind)->plural);
        call_fail_with(
            call,
            &(struct problem){.code = r, .detail = detail, .hint = "berth help roles"});
    } else if (r < 0) {
        (void)snprintf(detail, sizeof(detail), "tenant %.64s does not exist", tenant);
        call_fail_with(
            call, &(struct problem){.code = r,
                                    .detail = detail,
                                    .hint = "berth ls tenant lists those you may see"});
    }
    return r == 0;
}

/* ---- preconditions ---- */

int call_expected_revision(const struct api_call *call,
                           uint64_t *ret_revision,
                           struct err *err)
{
    const struct exchange_request *request = exchange_request(call->exchange);
    char digits[24] = "";
    *ret_revision = REVISION_ANY;
    if (request->if_none_match != NULL) {
        if (strcmp(request->if_none_match, "*") != 0) {
            return err_set(err, BERTH_EINVALID, "If-None-Match: only * is known here");
        }
        *ret_revision = REVISION_NONE;
        return 0;
    }
    if (request->if_match == NULL) {
        return 0;
    }
    const char *text = request->if_match;
    size_t size = strlen(text);
    if (size >= 2 && text[0] == '"' && text[size - 1] == '"') {
        text++;
        size -= 2;
    }
    if (size > 0 && size < sizeof(digits)) {
        (void)snprintf(digits, sizeof(digits), "%.*s", (int)size, text);
    }
    int r = parse_u64(digits, ret_revision, NULL);
    if (r < 0 || *ret_revision == REVISION_NONE || *ret_revision == REVISION_ANY) {
        return err_set(err, BERTH_EINVALID,
                       "If-Match: expected a revision in quotes, such as \"42\"");
    }
    return 0;
}

void call_refuse(struct api_call *call, const struct apply_result *refusal)
{
    const struct exchange_request *request = exchange_request(call->exchange);
    bool precondition =
        (refusal->code == BERTH_ECONFLICT && request->if_match != NULL) ||
        (refusal->code == BERTH_EEXISTS && request->if_none_match != NULL);
    call_fail_with(call, &(struct problem){.code = refusal->code,
                                           .status = precondition ? 412 : 0,
                                           .detail = refusal->text});
}
