#include "api/http_request.h"

#include "api/api_problem.h"
#include "api/http_tunnel.h"
#include "api/subject.h"
#include "base/bytes.h"
#include "base/clock.h"
#include "base/heap.h"
#include "base/parse_number.h"
#include "base/random.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#define HEADERS_MAX 32
#define BLOBS_PATH  "/v1/blobs"
/* A refused upload of so much is read to its end, so that its answer surely arrives: some
 * clients only look for one then. More is not worth it: the answer comes at once, which
 * clients that wait for `100 Continue` see before they send anything. */
#define REFUSED_READ_MAX (1u << 20)
#define BEARER           "Bearer "
#define LENGTH_UNKNOWN   UINT64_MAX

struct http_request {
    struct list link;
    struct http_context *context;
    struct MHD_Connection *connection; /* NULL once completed */
    bool local;
    bool suspended;
    bool queued;                     /* the response is with MHD */
    struct exchange_request request; /* until the exchange takes it */
    struct bytes_writer body;
    struct exchange *exchange; /* a reference of ours */
    struct http_tunnel *tunnel;
    /* the answer */
    bool has_head;
    bool ended;
    bool released; /* the exchange is gone */
    int status;
    char content_type[128];
    struct {
        char *name;
        char *value;
    } headers[HEADERS_MAX];
    unsigned header_count;
    uint8_t *waiting;
    size_t waiting_size;
    size_t waiting_capacity; /* counts in the context's `held` to the end */
    size_t waiting_at;       /* taken by MHD so far */
    uint64_t length;         /* of the whole answer; LENGTH_UNKNOWN: not told */
    uint64_t received;       /* of it so far */
    bool crowded;            /* data was refused: say when there is room again */
    bool cut;                /* data was refused, and none has come since */
    /* an upload */
    void *blob;
    bool is_upload;
    struct problem_note {
        int code;   /* 0: none */
        int status; /* 0: of the code */
        char text[256];
    } fault;
};

/* ---- life
 * ------------------------------------------------------------------------------------------------
 */

static void request_free(struct http_request *request)
{
    if (request->connection != NULL || !request->released) {
        return;
    }
    list_remove(&request->link);
    request->context->held -= request->waiting_capacity;
    if (request->waiting_capacity >= HEAP_FREED_MIN) {
        heap_freed();
    }
    for (unsigned i = 0; i < request->header_count; i++) {
        free(request->headers[i].name);
        free(request->headers[i].value);
    }
    exchange_request_fini(&request->request);
    bytes_writer_fini(&request->body);
    free(request->waiting);
    free(request);
}

static void resume(struct http_request *request)
{
    if (request->suspended && request->connection != NULL) {
        request->suspended = false;
        MHD_resume_connection(request->connection);
        request->context->wake(request->context->wake_context);
    }
}

/* ---- the sink
 * --------------------------------------------------------------------------------------------
 */

static void sink_head(void *sink,
                      int status,
                      const char *content_type,
                      const struct exchange_header *headers,
                      unsigned header_count)
{
    struct http_request *request = sink;
    request->has_head = true;
    request->status = status;
    (void)snprintf(request->content_type, sizeof(request->content_type), "%s",
                   content_type != NULL ? content_type : "");
    for (unsigned i = 0; i < header_count && request->header_count < HEADERS_MAX; i++) {
        if (strcasecmp(headers[i].name, EXCHANGE_LENGTH) == 0) { /* MHD says it */
            if (parse_u64(headers[i].value, &request->length, NULL) < 0) {
                request->length = LENGTH_UNKNOWN;
            }
            continue;
        }
        char *name = strdup(headers[i].name);
        char *value = strdup(headers[i].value);
        if (name == NULL || value == NULL) {
            free(name);
            free(value);
            continue; /* a header less, rather than no answer */
        }
        request->headers[request->header_count].name = name;
        request->headers[request->header_count++].value = value;
    }
    resume(request);
}

/* A stream waits for its reader; an answer whose length was told is taken as it comes. */
static bool has_room(const struct http_request *request, size_t waiting, size_t size)
{
    return request->length == LENGTH_UNKNOWN
               ? waiting < EXCHANGE_QUEUE_MAX
               : request->length <= EXCHANGE_ANSWER_MAX &&
                     request->received <= request->length &&
                     size <= request->length - request->received;
}

/* Room for size more bytes behind those that wait. */
static int waiting_grow(struct http_request *request, size_t size)
{
    struct http_context *context = request->context;
    size_t wanted = request->waiting_size + size;
    uint64_t capacity = wanted + request->waiting_size / 2; /* few copies */
    if (capacity > request->length && wanted <= request->length) {
        capacity = request->length;
    }
    if (capacity - request->waiting_capacity > context->held_max - context->held) {
        return BERTH_EFULL;
    }
    uint8_t *waiting = realloc(request->waiting, capacity);
    if (waiting == NULL) {
        return -ENOMEM;
    }
    context->held += capacity - request->waiting_capacity;
    request->waiting = waiting;
    request->waiting_capacity = capacity;
    return 0;
}

static int sink_data(void *sink, const void *data, size_t size)
{
    struct http_request *request = sink;
    if (request->tunnel != NULL) {
        return http_tunnel_write(request->tunnel, data, size);
    }
    size_t left = request->waiting_size - request->waiting_at;
    if (request->connection == NULL) {
        return BERTH_ECLOSED;
    }
    if (!has_room(request, left, size)) {
        request->crowded = true;
        request->cut = true;
        return BERTH_EFULL;
    }
    if (request->waiting_size + size > request->waiting_capacity &&
        request->waiting_at > 0 &&
        request->waiting_at >= left) { /* no byte moves often */
        memmove(request->waiting, request->waiting + request->waiting_at, left);
        request->waiting_at = 0;
        request->waiting_size = left;
    }
    if (request->waiting_size + size > request->waiting_capacity) {
        int r = waiting_grow(request, size);
        if (r < 0) {
            request->crowded = true;
            request->cut = true;
            return r;
        }
    }
    memcpy(request->waiting + request->waiting_size, data, size);
    request->waiting_size += size;
    request->received += size;
    request->cut = false;
    resume(request);
    return 0;
}

/* It ended, and not all of it has come: whoever gets it must not take it for whole. */
static bool is_cut(const struct http_request *request)
{
    return request->ended && (request->cut || (request->length != LENGTH_UNKNOWN &&
                                               request->received != request->length));
}

static void sink_end(void *sink)
{
    struct http_request *request = sink;
    request->ended = true;
    if (request->tunnel != NULL) {
        http_tunnel_end(request->tunnel);
    }
    resume(request);
}

static void sink_cut(void *sink)
{
    struct http_request *request = sink;
    request->ended = true;
    request->cut = true;
    if (request->tunnel != NULL) {
        http_tunnel_abort(request->tunnel);
    }
    resume(request);
}

static void sink_released(void *sink)
{
    struct http_request *request = sink;
    request->released = true;
    request_free(request);
}

static const struct exchange_sink request_sink = {.head = sink_head,
                                                  .data = sink_data,
                                                  .end = sink_end,
                                                  .released = sink_released,
                                                  .cut = sink_cut};

/* ---- answers through MHD
 * ---------------------------------------------------------------------------------- */

static ssize_t stream_give(void *context, uint64_t at, char *data, size_t size)
{
    struct http_request *request = context;
    size_t left = request->waiting_size - request->waiting_at;
    size_t piece = left < size ? left : size;
    (void)at; /* only ever forward */
    if (piece > 0) {
        memcpy(data, request->waiting + request->waiting_at, piece);
        request->waiting_at += piece;
        if (request->crowded && left - piece < EXCHANGE_QUEUE_MAX / 2) {
            request->crowded = false;
            exchange_room(request->exchange);
        }
        return (ssize_t)piece;
    }
    if (request->ended) {
        return is_cut(request) ? MHD_CONTENT_READER_END_WITH_ERROR
                               : MHD_CONTENT_READER_END_OF_STREAM;
    }
    request->suspended = true;
    MHD_suspend_connection(request->connection);
    return 0;
}

static void add_headers(const struct http_request *request, struct MHD_Response *response)
{
    if (request->content_type[0] != '\0') {
        (void)MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE,
                                      request->content_type);
    }
    (void)MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
    for (unsigned i = 0; i < request->header_count; i++) {
        (void)MHD_add_response_header(response, request->headers[i].name,
                                      request->headers[i].value);
    }
}

static void tunnel_closed(void *context)
{
    struct http_request *request = context;
    request->tunnel = NULL;
    request->context->wake(request->context->wake_context); /* MHD closes the socket */
    if (request->exchange != NULL) {
        exchange_cancel(request->exchange);
    }
}

static void tunnel_input(void *context, const void *data, size_t size)
{
    struct http_request *request = context;
    if (request->exchange != NULL) {
        exchange_input(request->exchange, data, size);
    }
}

static void upgraded(void *context,
                     struct MHD_Connection *connection,
                     void *request_context,
                     const char *extra,
                     size_t extra_size,
                     MHD_socket socket,
                     struct MHD_UpgradeResponseHandle *handle)
{
    struct http_request *request = context;
    (void)connection;
    (void)request_context;
    request->tunnel = http_tunnel_new(request->context->loop, socket, handle,
                                      tunnel_input, tunnel_closed, request);
    if (request->tunnel == NULL) {
        (void)MHD_upgrade_action(handle,
                                 MHD_UPGRADE_ACTION_CLOSE); /* nothing else can be done */
        exchange_cancel(request->exchange);
        return;
    }
    if (extra_size > 0) {
        exchange_input(request->exchange, extra, extra_size);
    }
    if (request->tunnel == NULL) {
        return; /* what it carried could not be passed on, and that ended it */
    }
    if (request->waiting_size > request->waiting_at) {
        (void)http_tunnel_write(request->tunnel, request->waiting + request->waiting_at,
                                request->waiting_size -
                                    request->waiting_at); /* an empty queue */
    }
    if (request->cut && request->ended) {
        http_tunnel_abort(request->tunnel);
    } else if (request->ended) {
        http_tunnel_end(request->tunnel);
    }
}

static struct MHD_Response *response_make(struct http_request *request)
{
    if (request->status == MHD_HTTP_SWITCHING_PROTOCOLS) {
        return MHD_create_response_for_upgrade(upgraded, request);
    }
    if (request->ended && request->waiting_size == 0) {
        return MHD_create_response_from_buffer(0, (uint8_t *)(uintptr_t) "",
                                               MHD_RESPMEM_PERSISTENT);
    }
    if (request->ended) { /* nothing of it was taken yet: MHD has it whole */
        struct MHD_Response *response = MHD_create_response_from_buffer(
            request->waiting_size, request->waiting, MHD_RESPMEM_MUST_FREE);
        if (response != NULL) {
            request->waiting = NULL;
            request->waiting_size = 0;
        }
        return response;
    }
    return MHD_create_response_from_callback(
        request->length != LENGTH_UNKNOWN ? request->length : MHD_SIZE_UNKNOWN, 16384,
        stream_give, request, NULL);
}

static enum MHD_Result answer(struct http_request *request)
{
    if (!request->has_head || is_cut(request)) {
        return MHD_NO; /* ends the connection: nothing of it has gone out yet */
    }
    struct MHD_Response *response = response_make(request);
    if (response == NULL) {
        return MHD_NO;
    }
    add_headers(request, response);
    if (request->status == MHD_HTTP_SWITCHING_PROTOCOLS) {
        (void)MHD_add_response_header(response, MHD_HTTP_HEADER_UPGRADE, "berth-console");
    }
    request->queued = true;
    enum MHD_Result r =
        MHD_queue_response(request->connection, (unsigned)request->status, response);
    MHD_destroy_response(response);
    return r;
}

/* ---- connections
 * ------------------------------------------------------------------------------------ */

/* Many clients that come and go, or watches that end together, leave megabytes. */
static void tell_left(struct http_context *context)
{
    context->left += HTTP_CONNECTION_BYTES;
    if (context->left >= HEAP_FREED_MIN) {
        context->left = 0;
        heap_freed();
    }
}

void http_connection_notify(void *context,
                            struct MHD_Connection *connection,
                            void **ret_socket_context,
                            enum MHD_ConnectionNotificationCode code)
{
    struct http_context *shared = context;
    struct http_connection *place = *ret_socket_context;
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        const union MHD_ConnectionInfo *info =
            MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
        place = calloc(1, sizeof(*place));
        if (place != NULL && info != NULL) { /* without one it is not watched */
            place->fd = info->connect_fd;
            place->since_ms = uv_now(shared->loop);
            list_push_back(&shared->connections, &place->link);
        }
        *ret_socket_context = place;
    } else if (place != NULL) {
        list_remove(&place->link);
        free(place);
        *ret_socket_context = NULL;
        tell_left(shared);
    }
}

struct http_connection *http_connection_of(struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return info != NULL ? info->socket_context : NULL;
}

/* A request is whole, or none is under way. */
static void
set_busy(const struct http_context *context, struct MHD_Connection *connection, bool busy)
{
    struct http_connection *place = http_connection_of(connection);
    if (place != NULL) {
        place->busy = busy;
        place->since_ms = uv_now(context->loop);
    }
}

void http_connections_sweep(struct http_context *context, uint64_t request_ms)
{
    uint64_t now_ms = uv_now(context->loop);
    LIST_EACH (item, &context->connections) {
        struct http_connection *place = LIST_ITEM(item, struct http_connection, link);
        if (!place->busy && now_ms - place->since_ms > request_ms) {
            (void)shutdown(place->fd, SHUT_RDWR); /* MHD notices and closes it */
        }
    }
}

size_t http_unescape(void *context, struct MHD_Connection *connection, char *text)
{
    char *to = text;
    (void)context;
    (void)connection;
    for (const char *from = text; *from != '\0'; from++, to++) {
        uint8_t byte = 0;
        char pair[3] = {from[1], (char)(from[1] != '\0' ? from[2] : '\0'), '\0'};
        *to = *from;
        if (*from == '%' && hex_parse(pair, &byte, 1) == 0 && byte != 0) {
            *to = (char)byte;
            from += 2;
        }
    }
    *to = '\0';
    return (size_t)(to - text);
}

/* ---- taking the request apart
 * ------------------------------------------------------------------------------ */

__attribute__((format(printf, 4, 5))) static void
fault_set(struct http_request *request, int code, int status, const char *format, ...)
{
    va_list arguments;
    if (request->fault.code != 0) {
        return; /* the first one counts */
    }
    request->fault.code = code;
    request->fault.status = status;
    va_start(arguments, format);
    (void)vsnprintf(request->fault.text, sizeof(request->fault.text), format, arguments);
    va_end(arguments);
}

/* A header that is longer than any of its kind is a fault, never a shorter one. */
static char *header_copy(struct http_request *request, const char *name, size_t size_max)
{
    const char *value =
        MHD_lookup_connection_value(request->connection, MHD_HEADER_KIND, name);
    if (value != NULL && (value[0] == '\0' || strlen(value) > size_max)) {
        fault_set(request, BERTH_EINVALID, 400, "%s: wanted 1 to %zu bytes", name,
                  size_max);
        return NULL;
    }
    return value != NULL ? strdup(value) : NULL;
}

/* The raw query, put together again: MHD has split and decoded it. */
static enum MHD_Result
query_add(void *context, enum MHD_ValueKind kind, const char *key, const char *value)
{
    static const char plain[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~";
    struct bytes_writer *writer = context;
    const char *parts[] = {key, value};
    (void)kind;
    if (writer->size > 0) {
        bytes_write_u8(writer, '&');
    }
    for (int part = 0; part < 2 && parts[part] != NULL; part++) {
        if (part == 1) {
            bytes_write_u8(writer, '=');
        }
        for (const char *at = parts[part]; *at != '\0'; at++) {
            if (strchr(plain, *at) != NULL) {
                bytes_write_u8(writer, (uint8_t)*at);
            } else {
                bytes_write_format(writer, "%%%02X", (unsigned)(unsigned char)*at);
            }
        }
    }
    return MHD_YES;
}

static void credentials_fill(struct http_request *request)
{
    struct exchange_credentials *credentials = &request->request.credentials;
    const char *authorization = MHD_lookup_connection_value(
        request->connection, MHD_HEADER_KIND, "Authorization");
    if (request->local) {
        const union MHD_ConnectionInfo *info = MHD_get_connection_info(
            request->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
        struct ucred peer = {.uid = (uid_t)-1};
        socklen_t size = sizeof(peer);
        credentials->local_root =
            info != NULL &&
            getsockopt(info->connect_fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 &&
            peer.uid == 0;
    }
    if (authorization != NULL) {
        credentials->has_token = true;
        credentials->local_root = false; /* who shows a token is judged by it */
        if (strncasecmp(authorization, BEARER, strlen(BEARER)) == 0) {
            const char *token = authorization + strlen(BEARER);
            digest_of(token, strlen(token), &credentials->token_hash);
        } /* else the hash stays zero, which no token has */
    }
}

static int request_fill(struct http_request *request, const char *url, const char *method)
{
    struct exchange_request *fill = &request->request;
    struct MHD_Connection *connection = request->connection;
    const struct http_connection *place = http_connection_of(connection);
    struct bytes_writer query;
    const char *upgrade =
        MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Upgrade");
    (void)snprintf(fill->method, sizeof(fill->method), "%s", method);
    fill->path = strndup(url, EXCHANGE_PATH_MAX);
    bytes_writer_init(&query, EXCHANGE_QUERY_MAX);
    (void)MHD_get_connection_values(connection, MHD_GET_ARGUMENT_KIND, query_add, &query);
    if (strlen(url) > EXCHANGE_PATH_MAX || query.error != 0 ||
        (place != NULL && place->url_long)) {
        fault_set(request, BERTH_ETOOLARGE, 414,
                  "a path has at most %d bytes, a query %d, as they are sent",
                  EXCHANGE_PATH_MAX, EXCHANGE_QUERY_MAX);
    }
    if (query.error != 0) {
        bytes_writer_fini(&query);
        bytes_writer_init(&query, EXCHANGE_QUERY_MAX);
    }
    if (bytes_writer_take_text(&query, &fill->query) < 0) {
        return -ENOMEM;
    }
    fill->if_match = header_copy(request, "If-Match", 128);
    fill->if_none_match = header_copy(request, "If-None-Match", 128);
    fill->idempotency_key = header_copy(request, "Idempotency-Key", 128);
    fill->last_event_id = header_copy(request, "Last-Event-ID", 64);
    fill->request_id = header_copy(request, "X-Request-Id", 64);
    if (fill->request_id == NULL) {
        uint8_t random[8];
        char hex[2 * sizeof(random) + 1];
        random_secret(random, sizeof(random));
        hex_format(random, sizeof(random), hex);
        fill->request_id = strdup(hex);
    }
    fill->upgrade = upgrade != NULL && strcasecmp(upgrade, "berth-console") == 0;
    credentials_fill(request);
    return fill->path != NULL && fill->request_id != NULL ? 0 : -ENOMEM;
}

static struct http_request *request_new(struct http_context *context,
                                        struct MHD_Connection *connection,
                                        const char *url,
                                        const char *method,
                                        bool local)
{
    struct http_request *request = calloc(1, sizeof(*request));
    if (request == NULL) {
        return NULL;
    }
    request->context = context;
    request->connection = connection;
    request->local = local;
    request->released = true; /* no exchange yet */
    request->length = LENGTH_UNKNOWN;
    list_push_back(&context->requests, &request->link);
    bytes_writer_init(&request->body, EXCHANGE_BODY_MAX);
    if (request_fill(request, url, method) < 0) {
        request->connection = NULL;
        request_free(request);
        return NULL;
    }
    return request;
}

/* From here on the answer comes through the sink. */
static bool exchange_begin(struct http_request *request)
{
    request->exchange = exchange_new(&request->request, &request_sink, request);
    if (request->exchange != NULL) {
        request->released = false;
    }
    return request->exchange != NULL;
}

/* ---- uploads
 * ------------------------------------------------------------------------------------------------
 */

static bool is_upload(const struct http_request *request)
{
    return strcmp(request->request.method, "POST") == 0 &&
           strcmp(request->request.path, BLOBS_PATH) == 0 &&
           strstr(request->request.query, "url=") == NULL;
}

/* What the client says it will send; UINT64_MAX: it does not. */
static uint64_t announced_size(struct http_request *request)
{
    const char *text = MHD_lookup_connection_value(request->connection, MHD_HEADER_KIND,
                                                   "Content-Length");
    uint64_t size = 0;
    return text != NULL && parse_u64(text, &size, NULL) == 0 ? size : UINT64_MAX;
}

/* Root on the host may; whoever shows a token is judged where the state is. */
static void upload_begin(struct http_request *request)
{
    const struct control_plane *control = request->context->control;
    const struct exchange_credentials *credentials = &request->request.credentials;
    const char *wanted =
        MHD_lookup_connection_value(request->connection, MHD_HEADER_KIND, "Berth-Sha256");
    struct digest digest = {0};
    struct err err = {0};
    request->is_upload = true;
    int r = subject_check_upload(control->state(control->context), credentials,
                                 clock_wall_ms(clock_system()));
    if (r < 0) {
        fault_set(request, r, 0, "%s",
                  r == BERTH_ENOTLEADER
                      ? "this host cannot judge tokens: upload through one of the voters"
                      : err_sentence(r));
        return;
    }
    if (wanted != NULL && digest_parse(wanted, &digest) < 0) {
        fault_set(request, BERTH_EINVALID, 0, "Berth-Sha256: expected 64 hex digits");
        return;
    }
    request->blob = control->blob_begin(control->context, wanted != NULL ? &digest : NULL,
                                        announced_size(request), &err);
    if (request->blob == NULL) {
        fault_set(request, err.code, 0, "%s", err.text);
    }
}

static void upload_take(struct http_request *request, const char *data, size_t size)
{
    const struct control_plane *control = request->context->control;
    struct err err;
    if (request->blob == NULL) {
        return; /* the fault is told at the end of the body */
    }
    if (control->blob_write(control->context, request->blob, data, size, &err) < 0) {
        fault_set(request, err.code, 0, "%s", err.text);
        control->blob_end(control->context, request->blob, true, NULL, NULL);
        request->blob = NULL;
    }
}

static void upload_done(void *context,
                        int code,
                        const struct digest *digest,
                        uint64_t size,
                        const char *detail)
{
    struct exchange *exchange = context;
    char hex[DIGEST_HEX_SIZE];
    if (code < 0) {
        const struct problem problem = {.code = code, .detail = detail};
        problem_answer(exchange, &problem, 0);
    } else {
        char text[160];
        digest_format(digest, hex);
        int used = snprintf(text, sizeof(text), "{\"sha256\":\"%s\",\"size\":%llu}\n",
                            hex, (unsigned long long)size);
        exchange_answer(exchange, 201, "application/json", NULL, 0, text, (size_t)used);
    }
    exchange_unref(exchange);
}

static void upload_end(struct http_request *request)
{
    const struct control_plane *control = request->context->control;
    control->blob_end(control->context, request->blob, false, upload_done,
                      exchange_ref(request->exchange));
    request->blob = NULL;
}

/* ---- the handler
 * --------------------------------------------------------------------------------------------
 */

static void dispatch(struct http_request *request)
{
    if (request->fault.code != 0) {
        const struct problem problem = {.code = request->fault.code,
                                        .status = request->fault.status,
                                        .detail = request->fault.text};
        problem_answer(request->exchange, &problem, 0);
    } else if (request->is_upload) {
        upload_end(request);
    } else {
        api_handle(request->context->api, request->exchange, false);
    }
}

static enum MHD_Result body_done(struct http_request *request)
{
    size_t size = 0;
    if (request->exchange == NULL) {
        if (request->body.error != 0) {
            fault_set(request, BERTH_ETOOLARGE, 0, "the body is larger than %dKiB",
                      EXCHANGE_BODY_MAX / 1024);
            bytes_writer_fini(&request->body);
        } else if (bytes_writer_take(&request->body, &request->request.body, &size) ==
                   0) {
            request->request.body_size = size;
        }
        if (!exchange_begin(request)) {
            return MHD_NO;
        }
        set_busy(request->context, request->connection, true);
        dispatch(request);
    }
    if (request->has_head || request->ended) { /* with nothing said: it never will be */
        return answer(request);
    }
    request->suspended = true;
    MHD_suspend_connection(request->connection);
    return MHD_YES;
}

static enum MHD_Result handle(struct http_context *context,
                              struct MHD_Connection *connection,
                              const char *url,
                              const char *method,
                              const char *upload,
                              size_t *upload_size,
                              void **ret_request,
                              bool local)
{
    struct http_request *request = *ret_request;
    if (request == NULL) {
        request = request_new(context, connection, url, method, local);
        *ret_request = request;
        if (request != NULL && request->fault.code == 0 && is_upload(request)) {
            upload_begin(request);
            if (request->fault.code == 0) {
                set_busy(context, connection, true); /* may take as long as it moves */
            } else if (announced_size(request) > REFUSED_READ_MAX) {
                return body_done(request);
            }
        }
        return request != NULL ? MHD_YES : MHD_NO;
    }
    if (*upload_size > 0) {
        if (request->is_upload) {
            upload_take(request, upload, *upload_size);
        } else {
            bytes_write_raw(&request->body, upload, *upload_size);
        }
        *upload_size = 0;
        return MHD_YES;
    }
    return request->queued ? MHD_YES : body_done(request);
}

enum MHD_Result http_request_local(void *context,
                                   struct MHD_Connection *connection,
                                   const char *url,
                                   const char *method,
                                   const char *version,
                                   const char *upload,
                                   size_t *upload_size,
                                   void **request)
{
    (void)version;
    return handle(context, connection, url, method, upload, upload_size, request, true);
}

enum MHD_Result http_request_remote(void *context,
                                    struct MHD_Connection *connection,
                                    const char *url,
                                    const char *method,
                                    const char *version,
                                    const char *upload,
                                    size_t *upload_size,
                                    void **request)
{
    (void)version;
    return handle(context, connection, url, method, upload, upload_size, request, false);
}

void http_request_completed(void *context,
                            struct MHD_Connection *connection,
                            void **ret_request,
                            enum MHD_RequestTerminationCode code)
{
    struct http_request *request = *ret_request;
    const struct http_context *shared = context;
    (void)code;
    *ret_request = NULL;
    set_busy(shared, connection, false);
    if (request == NULL) {
        return;
    }
    if (request->blob != NULL) { /* the client went away in the middle */
        shared->control->blob_end(shared->control->context, request->blob, true, NULL,
                                  NULL);
        request->blob = NULL;
    }
    request->connection = NULL;
    struct exchange *exchange = request->exchange;
    request->exchange = NULL;
    if (exchange == NULL) {
        request_free(request);
        return;
    }
    exchange_cancel(exchange);
    exchange_unref(exchange);
}

/* ---- all of them
 * --------------------------------------------------------------------------------------------
 */

void http_context_init(struct http_context *context,
                       uv_loop_t *loop,
                       struct api *api,
                       const struct control_plane *control,
                       uint64_t held_max,
                       void (*wake)(void *context),
                       void *wake_context)
{
    *context = (struct http_context){.loop = loop,
                                     .api = api,
                                     .control = control,
                                     .held_max = held_max,
                                     .wake = wake,
                                     .wake_context = wake_context};
    list_init(&context->requests);
    list_init(&context->connections);
}

void http_context_fini(struct http_context *context)
{
    LIST_EACH_SAFE (item, &context->requests) {
        struct http_request *request = LIST_ITEM(item, struct http_request, link);
        request->ended = true;
        if (request->tunnel != NULL) {
            http_tunnel_abort(request->tunnel); /* a client that stalls ends with us */
        }
        if (request->suspended && request->connection != NULL) {
            request->suspended = false;
            MHD_resume_connection(request->connection);
        }
    }
}
