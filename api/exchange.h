/* One request and its answer, apart from how they travel.
 *
 * Shapes: an exchange is made by the HTTP server (api/http_server.h) or by the agent for
 * a request that came over the mesh from another host; it carries the request by value
 * and a sink that takes the answer: head once, data any number of times, end once.
 * api_handle (api/router.h) answers it, at once or later. Streams (event-stream, 101)
 * stay open; data may also flow upwards (console input) through `input`. Back-pressure:
 * a sink takes data whenever fewer than EXCHANGE_QUEUE_MAX bytes wait in it. Beyond,
 * exchange_data returns BERTH_EFULL; the writer decides (a watch waits for on_room and,
 * when the feed has moved on, sends reset; a console drops to the newest bytes). An
 * answer that is no stream (exchange_answer) is one piece, which always fits, and carries
 * its length in the head: a sink takes all of it however it comes, and one that ends
 * short of it was cut on its way and is never given out as whole. Lifetime: reference
 * counted on the loop thread; whoever works on the answer holds a reference. The client
 * going away calls on_cancel once, after which answers are swallowed. Threads: the
 * loop's. Errors: BERTH_EFULL, BERTH_ECLOSED, BERTH_EPROTO (decode), -ENOMEM.
 */
#pragma once

#include "base/digest.h"
#include "model/objects.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A request with all its headers fits one message of the mesh (512 KiB), so that every
 * host takes the same requests. */
#define EXCHANGE_BODY_MAX  (480u << 10)
#define EXCHANGE_PATH_MAX  1024
#define EXCHANGE_QUERY_MAX 8192
#define EXCHANGE_TEXT_MAX  1024 /* each of the other texts */
#define EXCHANGE_QUEUE_MAX (256u << 10)
/* An answer that is no stream: a thousand of the largest objects. */
#define EXCHANGE_ANSWER_MAX (64u << 20)
/* The header that carries the length of such an answer. */
#define EXCHANGE_LENGTH "Content-Length"
/* The header of every answer: the newest revision that it can speak of. */
#define EXCHANGE_REVISION "Berth-Revision"

/* Who asks; filled by the transport, judged by the leader. */
struct exchange_credentials {
    bool local_root;    /* came over the UNIX socket of a member host from its root */
    uint64_t forwarder; /* that host's uid; 0: this one. Told by the connection that the
                           request came over, never by the request */
    bool has_token;     /* bearer token given */
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

/* The header of a refusal that says that surely nothing was done: by a host that leads no
 * more. */
#define EXCHANGE_UNDONE "Berth-Undone"

struct exchange_header {
    const char *name;
    const char *value;
};

struct exchange_sink {
    /* content_type is NULL when there is none (101). */
    void (*head)(void *sink,
                 int status,
                 const char *content_type,
                 const struct exchange_header *headers,
                 unsigned header_count);
    int (*data)(void *sink, const void *data, size_t size); /* 0 or BERTH_EFULL */
    void (*end)(void *sink);
    void (*released)(void *sink); /* the last reference is gone */
    /* Likewise the end, for whatever the client has not taken yet; NULL: as `end`. */
    void (*cut)(void *sink);
};

struct exchange;

/* Takes the request's contents (and zeroes *take_request). NULL when out of memory. */
struct exchange *exchange_new(struct exchange_request *take_request,
                              const struct exchange_sink *ops,
                              void *sink);
struct exchange *exchange_ref(struct exchange *exchange);
struct exchange *exchange_unref(struct exchange *exchange); /* returns NULL */
const struct exchange_request *exchange_request(const struct exchange *exchange);

/* The answer. A second head, data before the head, and anything after end are swallowed,
 * likewise all of it once the client went away (data: BERTH_ECLOSED). */
void exchange_head(struct exchange *exchange,
                   int status,
                   const char *content_type,
                   const struct exchange_header *headers,
                   unsigned header_count);
int exchange_data(struct exchange *exchange, const void *data, size_t size);
void exchange_end(struct exchange *exchange);
/* A whole answer: head with its length, data, end. At most 6 headers and
 * EXCHANGE_ANSWER_MAX bytes. */
void exchange_answer(struct exchange *exchange,
                     int status,
                     const char *content_type,
                     const struct exchange_header *headers,
                     unsigned header_count,
                     const void *data,
                     size_t size);
/* By who has authorised it and does not any more: the handler is told as if the client
 * had gone away. The client gets BERTH_EAUTH, or, with the answer begun, no more of it,
 * not even what it has not taken yet. */
void exchange_revoke(struct exchange *exchange);
/* Nothing more can be said: it was ended, or the client went away. */
bool exchange_ended(const struct exchange *exchange);
/* The head was given: too late for a problem document. */
bool exchange_begun(const struct exchange *exchange);

/* A request with a key that may have been done, and is asked of a leader again by a host,
 * not by its client: the log's memory must not have forgotten it since. The revision, at
 * least 1, is one that the state had when it was first asked, or earlier; the first that
 * is noted stays. 0: it is no repeat. */
void exchange_note_asked(struct exchange *exchange, uint64_t revision);
void exchange_set_repeat(struct exchange *exchange);
uint64_t exchange_repeat_since(const struct exchange *exchange);

/* How long it may wait for a leader in all, for whoever has it wait; 0: not set. */
uint64_t exchange_wait_until(const struct exchange *exchange);
void exchange_set_wait_until(struct exchange *exchange, uint64_t until_ms);
/* What was asked may have been done by a host that has not answered: whoever refuses it
 * after that, not knowing more, says so. */
void exchange_set_in_doubt(struct exchange *exchange);
bool exchange_in_doubt(const struct exchange *exchange);

/* By the handler: told once when the client goes away, and of bytes that the client sends
 * upwards. NULL takes the function back. */
void exchange_on_cancel(struct exchange *exchange,
                        void (*fn)(void *context),
                        void *context);
void exchange_on_input(struct exchange *exchange,
                       void (*fn)(void *context, const void *data, size_t size),
                       void *context);
/* By the handler: told when a transport that had refused data (BERTH_EFULL) takes some
 * again. A transport may forget to, so look again now and then. NULL takes it back. */
void exchange_on_room(struct exchange *exchange,
                      void (*fn)(void *context),
                      void *context);
/* By the transport. Cancel tells the handler (which may drop its reference then); the
 * transport's own reference stays its own to drop. Harmless after end. */
void exchange_cancel(struct exchange *exchange);
void exchange_input(struct exchange *exchange, const void *data, size_t size);
void exchange_room(struct exchange *exchange);

/* Request as bytes for the mesh and back (bounded; BERTH_EPROTO, with *ret_request
 * zeroed). */
int exchange_request_encode(const struct exchange_request *request,
                            uint8_t **ret_data,
                            size_t *ret_size);
int exchange_request_decode(const void *data,
                            size_t size,
                            struct exchange_request *ret_request);
void exchange_request_fini(struct exchange_request *request);
