/* One request and its answer, apart from how they travel.
 *
 * Shapes: an exchange is made by the HTTP server (api/http_server.h) or by the agent for
 * a request that came over the mesh from another host; it carries the request by value
 * and a sink that takes the answer: head once, data any number of times, end once.
 * api_handle (api/router.h) answers it, at once or later. Streams: watch and console stay
 * open; data may also flow upwards (console input) through `input`. Back-pressure: sinks
 * are bounded (EXCHANGE_QUEUE_MAX); exchange_data returns BERTH_EFULL when the reader is
 * too slow; the writer decides (a watch sends reset, a console drops to the newest
 * bytes). Lifetime: reference counted on the loop thread; the client going away calls
 * on_cancel once, after which answers are swallowed. Threads: the loop's.
 */
#pragma once

#include "base/digest.h"
#include "model/objects.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define EXCHANGE_BODY_MAX  (4u << 20)
#define EXCHANGE_QUEUE_MAX (256u << 10)
#define EXCHANGE_PATH_MAX  1024

/* Who asks; filled by the transport, judged by the leader. */
struct exchange_credentials {
    bool local_root;          /* came over the UNIX socket of a member host from uid 0 */
    bool has_token;           /* bearer token given */
    struct digest token_hash; /* SHA-256 of it */
};

struct exchange_request {
    char method[8];
    char *path;     /* decoded, begins with '/' ; owned */
    char *query;    /* raw, without '?'; owned, "" when none */
    char *if_match; /* owned or NULL, likewise below */
    char *if_none_match;
    char *idempotency_key;
    char *last_event_id;
    char *request_id; /* echoed in problems and logs */
    uint8_t *body;    /* owned */
    size_t body_size;
    bool upgrade; /* asked for `Upgrade: berth-console`: answer 101, then raw bytes */
    struct exchange_credentials credentials;
};

struct exchange_header {
    const char *name;
    const char *value;
};

struct exchange_sink {
    void (*head)(void *sink,
                 int status,
                 const char *content_type,
                 const struct exchange_header *headers,
                 unsigned header_count);
    int (*data)(void *sink, const void *data, size_t size); /* 0 or BERTH_EFULL */
    void (*end)(void *sink);
    void (*released)(void *sink); /* the last reference is gone */
};

struct exchange;

/* Takes the request's contents (and zeroes *take_request). NULL when out of memory. */
struct exchange *exchange_new(struct exchange_request *take_request,
                              const struct exchange_sink *ops,
                              void *sink);
struct exchange *exchange_ref(struct exchange *exchange);
struct exchange *exchange_unref(struct exchange *exchange); /* returns NULL */
const struct exchange_request *exchange_request(const struct exchange *exchange);

/* The answer. After end, or after the client went away, calls are swallowed (data:
 * BERTH_ECLOSED). */
void exchange_head(struct exchange *exchange,
                   int status,
                   const char *content_type,
                   const struct exchange_header *headers,
                   unsigned header_count);
int exchange_data(struct exchange *exchange, const void *data, size_t size);
void exchange_end(struct exchange *exchange);
bool exchange_ended(const struct exchange *exchange);

/* By the handler: told once when the client goes away, and of bytes that the client sends
 * upwards. */
void exchange_on_cancel(struct exchange *exchange,
                        void (*fn)(void *context),
                        void *context);
void exchange_on_input(struct exchange *exchange,
                       void (*fn)(void *context, const void *data, size_t size),
                       void *context);
/* By the transport. */
void exchange_cancel(struct exchange *exchange);
void exchange_input(struct exchange *exchange, const void *data, size_t size);

/* Request as bytes for the mesh and back (bounded; BERTH_EPROTO). */
int exchange_request_encode(const struct exchange_request *request,
                            uint8_t **ret_data,
                            size_t *ret_size);
int exchange_request_decode(const void *data,
                            size_t size,
                            struct exchange_request *ret_request);
void exchange_request_fini(struct exchange_request *request);
