#include "api/exchange.h"

#include "api/api_problem.h"
#include "base/bytes.h"
#include "base/err.h"
#include "base/require.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REQUEST_VERSION  2
#define REQUEST_SIZE_MAX (EXCHANGE_BODY_MAX + (16u << 10))

#define ANSWER_HEADERS_MAX 6

#define FLAG_LOCAL_ROOT 1u
#define FLAG_HAS_TOKEN  2u
#define FLAG_UPGRADE    4u
#define FLAGS_ALL       7u

struct exchange {
    unsigned refs;
    bool begun;
    bool over; /* ended or cancelled */
    struct exchange_request request;
    const struct exchange_sink *ops;
    void *sink;
    void (*on_cancel)(void *context);
    void *cancel_context;
    void (*on_input)(void *context, const void *data, size_t size);
    void *input_context;
    void (*on_room)(void *context);
    void *room_context;
    uint64_t wait_until_ms;
    bool in_doubt;
    uint64_t asked_revision; /* 0: not noted */
    bool repeat;
};

/* ---- life ---- */

struct exchange *exchange_new(struct exchange_request *take_request,
                              const struct exchange_sink *ops,
                              void *sink)
{
    struct exchange *exchange = calloc(1, sizeof(*exchange));
    if (exchange == NULL) {
        return NULL;
    }
    exchange->refs = 1;
    exchange->request = *take_request;
    *take_request = (struct exchange_request){0};
    exchange->ops = ops;
    exchange->sink = sink;
    return exchange;
}

struct exchange *exchange_ref(struct exchange *exchange)
{
    REQUIRE(exchange->refs > 0);
    exchange->refs++;
    return exchange;
}

struct exchange *exchange_unref(struct exchange *exchange)
{
    if (exchange == NULL) {
        return NULL;
    }
    REQUIRE(exchange->refs > 0);
    if (--exchange->refs > 0) {
        return NULL;
    }
    exchange->ops->released(exchange->sink);
    exchange_request_fini(&exchange->request);
    free(exchange);
    return NULL;
}

uint64_t exchange_wait_until(const struct exchange *exchange)
{
    return exchange->wait_until_ms;
}

void exchange_set_wait_until(struct exchange *exchange, uint64_t until_ms)
{
    exchange->wait_until_ms = until_ms;
}

void exchange_set_in_doubt(struct exchange *exchange)
{
    exchange->in_doubt = true;
}

bool exchange_in_doubt(const struct exchange *exchange)
{
    return exchange->in_doubt;
}

void exchange_note_asked(struct exchange *exchange, uint64_t revision)
{
    if (exchange->asked_revision == 0) {
        exchange->asked_revision = revision > 0 ? revision : 1;
    }
}

void exchange_set_repeat(struct exchange *exchange)
{
    exchange->repeat = true;
}

uint64_t exchange_repeat_since(const struct exchange *exchange)
{
    return exchange->repeat ? exchange->asked_revision : 0;
}

const struct exchange_request *exchange_request(const struct exchange *exchange)
{
    return &exchange->request;
}

/* ---- the answer ---- */

void exchange_head(struct exchange *exchange,
                   int status,
                   const char *content_type,
                   const struct exchange_header *headers,
                   unsigned header_count)
{
    if (exchange->over || exchange->begun) {
        return;
    }
    exchange->begun = true;
    exchange->ops->head(exchange->sink, status, content_type, headers, header_count);
}

int exchange_data(struct exchange *exchange, const void *data, size_t size)
{
    if (exchange->over || !exchange->begun) {
        return BERTH_ECLOSED;
    }
    return size > 0 ? exchange->ops->data(exchange->sink, data, size) : 0;
}

void exchange_end(struct exchange *exchange)
{
    if (exchange->over) {
        return;
    }
    exchange->over = true;
    exchange->on_cancel = NULL;
    exchange->on_input = NULL;
    exchange->on_room = NULL;
    exchange->ops->end(exchange->sink);
}

void exchange_answer(struct exchange *exchange,
                     int status,
                     const char *content_type,
                     const struct exchange_header *headers,
                     unsigned header_count,
                     const void *data,
                     size_t size)
{
    struct exchange_header all[ANSWER_HEADERS_MAX + 1];
    char length[24];
    REQUIRE(header_count <= ANSWER_HEADERS_MAX && size <= EXCHANGE_ANSWER_MAX);
    (void)snprintf(length, sizeof(length), "%zu", size);
    all[0] = (struct exchange_header){EXCHANGE_LENGTH, length};
    for (unsigned i = 0; i < header_count; i++) {
        all[1 + i] = headers[i];
    }
    exchange_head(exchange, status, content_type, all, 1 + header_count);
    (void)exchange_data(exchange, data, size); /* else the sink misses it by the length */
    exchange_end(exchange);
}

bool exchange_ended(const struct exchange *exchange)
{
    return exchange->over;
}

bool exchange_begun(const struct exchange *exchange)
{
    return exchange->begun;
}

/* ---- the client ---- */

void exchange_on_cancel(struct exchange *exchange,
                        void (*fn)(void *context),
                        void *context)
{
    exchange->on_cancel = exchange->over ? NULL : fn;
    exchange->cancel_context = context;
}

void exchange_on_input(struct exchange *exchange,
                       void (*fn)(void *context, const void *data, size_t size),
                       void *context)
{
    exchange->on_input = exchange->over ? NULL : fn;
    exchange->input_context = context;
}

void exchange_on_room(struct exchange *exchange, void (*fn)(void *context), void *context)
{
    exchange->on_room = exchange->over ? NULL : fn;
    exchange->room_context = context;
}

/* Without a word to the client. */
static void handler_leaves(struct exchange *exchange)
{
    void (*told)(void *context) = exchange->on_cancel;
    exchange_ref(exchange); /* the handler may drop the last one */
    exchange->over = true;
    exchange->on_cancel = NULL;
    exchange->on_input = NULL;
    exchange->on_room = NULL;
    if (told != NULL) {
        told(exchange->cancel_context);
    }
    exchange_unref(exchange);
}

void exchange_cancel(struct exchange *exchange)
{
    if (!exchange->over) {
        handler_leaves(exchange);
    }
}

void exchange_revoke(struct exchange *exchange)
{
    const struct exchange_sink *ops = exchange->ops;
    if (exchange->over) {
        return;
    }
    exchange_ref(exchange); /* the handler may drop the last one */
    handler_leaves(exchange);
    if (exchange->begun) {
        (ops->cut != NULL ? ops->cut : ops->end)(exchange->sink);
    } else { /* a client that was told nothing would wait for ever */
        exchange->over = false;
        problem_answer(exchange,
                       &(struct problem){.code = BERTH_EAUTH,
                                         .detail = "the right to this was taken away "
                                                   "before it was answered"},
                       0);
    }
    exchange_unref(exchange);
}

void exchange_input(struct exchange *exchange, const void *data, size_t size)
{
    if (exchange->on_input == NULL || size == 0) {
        return;
    }
    exchange_ref(exchange);
    exchange->on_input(exchange->input_context, data, size);
    exchange_unref(exchange);
}

void exchange_room(struct exchange *exchange)
{
    if (exchange->on_room == NULL) {
        return;
    }
    exchange_ref(exchange);
    exchange->on_room(exchange->room_context);
    exchange_unref(exchange);
}

/* ---- the request as bytes ---- */

/* The optional texts in their order on the wire. */
#define OPTIONAL_TEXTS(X) \
    X(if_match)           \
    X(if_none_match)      \
    X(idempotency_key)    \
    X(last_event_id)      \
    X(request_id)

int exchange_request_encode(const struct exchange_request *request,
                            uint8_t **ret_data,
                            size_t *ret_size)
{
    struct bytes_writer writer;
    const struct exchange_credentials *credentials = &request->credentials;
    bytes_writer_init(&writer, REQUEST_SIZE_MAX);
    bytes_write_u8(&writer, REQUEST_VERSION);
    bytes_write_u8(&writer, (uint8_t)((credentials->local_root ? FLAG_LOCAL_ROOT : 0) |
                                      (credentials->has_token ? FLAG_HAS_TOKEN : 0) |
                                      (request->upgrade ? FLAG_UPGRADE : 0)));
    bytes_write_raw(&writer, credentials->token_hash.bytes, DIGEST_SIZE);
    bytes_write_text(&writer, request->method);
    bytes_write_text(&writer, request->path);
    bytes_write_text(&writer, request->query);
#define WRITE_OPTIONAL(member)                        \
    bytes_write_u8(&writer, request->member != NULL); \
    if (request->member != NULL) {                    \
        bytes_write_text(&writer, request->member);   \
    }
    OPTIONAL_TEXTS(WRITE_OPTIONAL)
#undef WRITE_OPTIONAL
    bytes_write_block(&writer, request->body, request->body_size);
    return bytes_writer_take(&writer, ret_data, ret_size);
}

/* A text of at most size_max bytes into fresh memory; NULL faults the reader. */
static char *read_text(struct bytes_reader *reader, size_t size_max)
{
    size_t size = 0;
    const char *view = bytes_read_block(reader, size_max, &size);
    char *text = NULL;
    if (reader->error == 0 && (size == 0 || memchr(view, '\0', size) == NULL)) {
        text = strndup(size > 0 ? view : "", size);
    }
    if (text == NULL) {
        bytes_reader_fail(reader);
    }
    return text;
}

static char *read_optional(struct bytes_reader *reader)
{
    uint8_t present = bytes_read_u8(reader);
    if (present > 1) {
        bytes_reader_fail(reader);
    }
    return present == 1 ? read_text(reader, EXCHANGE_TEXT_MAX) : NULL;
}

static void read_flags(struct bytes_reader *reader, struct exchange_request *request)
{
    unsigned flags = bytes_read_u8(reader);
    if (flags > FLAGS_ALL) {
        bytes_reader_fail(reader);
    }
    request->credentials.local_root = (flags & FLAG_LOCAL_ROOT) != 0;
    request->credentials.has_token = (flags & FLAG_HAS_TOKEN) != 0;
    request->upgrade = (flags & FLAG_UPGRADE) != 0;
    bytes_read_raw(reader, request->credentials.token_hash.bytes, DIGEST_SIZE);
}

static void read_body(struct bytes_reader *reader, struct exchange_request *request)
{
    size_t size = 0;
    const void *view = bytes_read_block(reader, EXCHANGE_BODY_MAX, &size);
    if (size == 0) {
        return;
    }
    request->body = malloc(size);
    if (request->body == NULL) {
        bytes_reader_fail(reader);
        return;
    }
    memcpy(request->body, view, size);
    request->body_size = size;
}

int exchange_request_decode(const void *data,
                            size_t size,
                            struct exchange_request *ret_request)
{
    struct bytes_reader reader;
    struct exchange_request request = {0};
    bytes_reader_init(&reader, data, size);
    if (bytes_read_u8(&reader) != REQUEST_VERSION) {
        bytes_reader_fail(&reader);
    }
    read_flags(&reader, &request);
    bytes_read_text(&reader, request.method, sizeof(request.method));
    request.path = read_text(&reader, EXCHANGE_PATH_MAX);
    request.query = read_text(&reader, EXCHANGE_QUERY_MAX);
#define READ_OPTIONAL(member) request.member = read_optional(&reader);
    OPTIONAL_TEXTS(READ_OPTIONAL)
#undef READ_OPTIONAL
    read_body(&reader, &request);
    int r = bytes_reader_end(&reader);
    if (r == 0 && request.path[0] != '/') {
        r = BERTH_EPROTO;
    }
    if (r < 0) {
        exchange_request_fini(&request);
        *ret_request = (struct exchange_request){0};
        return BERTH_EPROTO;
    }
    *ret_request = request;
    return 0;
}

void exchange_request_fini(struct exchange_request *request)
{
    free(request->path);
    free(request->query);
#define FREE_OPTIONAL(member) free(request->member);
    OPTIONAL_TEXTS(FREE_OPTIONAL)
#undef FREE_OPTIONAL
    free(request->body);
    *request = (struct exchange_request){0};
}
