/* HTTP for the CLI: libcurl over berthd's UNIX socket or over TLS with a pinned key.
 *
 * Requests that change something carry an Idempotency-Key and are repeated with it when
 * no answer came or the cluster had no leader (503), with jittered back-off, up to
 * HTTP_PATIENCE_MS. A berthd that takes connections by its socket and answers nothing, as
 * one that is stopped or hangs, is told apart from one that works long: it is asked for
 * /healthz meanwhile. Threads: one. Ownership: answers by http_answer_fini.
 */
#pragma once

#include "base/err.h"
#include "base/json.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HTTP_PATIENCE_MS 8000
#define HTTP_ANSWER_MAX  (64u << 20)
#define HTTP_SILENT_MS   2000
#define HTTP_DEAF_MS     10000 /* so long, and no call waits on */

struct http;

struct http_config {
    const char *socket_path; /* or NULL */
    const char *server;      /* https://..., when there is no socket */
    const char *token;       /* bearer, or NULL */
    const char *pin;         /* "sha256//...", or NULL */
    /* Over the socket: a request has got nothing for HTTP_SILENT_MS, and neither has a
     * second one that berthd answers by itself. May be NULL. */
    void (*silent)(void *context);
    void *context;
};

/* Why nothing came: what can be done about it differs. */
enum http_trouble {
    HTTP_TROUBLE_OTHER = 0,
    HTTP_TROUBLE_REFUSED,   /* the host is there, nobody listens */
    HTTP_TROUBLE_SILENT,    /* no answer in time, or no way there */
    HTTP_TROUBLE_DEAF,      /* who listens answers nobody */
    HTTP_TROUBLE_NO_NAME,   /* nobody knows that name */
    HTTP_TROUBLE_NO_TLS,    /* who listens does not speak it */
    HTTP_TROUBLE_OTHER_KEY, /* not the pinned one */
    HTTP_TROUBLE_UNTRUSTED, /* no key is pinned, and no authority vouches for this one */
    HTTP_TROUBLE_COUNT
};

struct http_answer {
    int status; /* HTTP, or 0: nothing came */
    char *body; /* NUL-terminated */
    size_t size;
    json_t *document;          /* when it is JSON */
    bool cut;                  /* it should be JSON, but is not: it did not come whole */
    char text[256];            /* why nothing came */
    enum http_trouble trouble; /* likewise */
};

struct http *http_new(const struct http_config *config);
struct http *http_free(struct http *http);
/* body may be NULL (JSON document otherwise). 0 when an answer came, whatever it says;
 * else BERTH_EUNREACHABLE with answer->text. */
int http_call(struct http *http,
              const char *method,
              const char *path,
              const json_t *body,
              struct http_answer *ret_answer);
/* As http_call, for what takes the server its time (a fetch): the answer is waited for as
 * long as the connection stands. */
int http_call_long(struct http *http,
                   const char *method,
                   const char *path,
                   const json_t *body,
                   struct http_answer *ret_answer);
/* As http_call, but once: no key, no second attempt. */
int http_try(struct http *http,
             const char *method,
             const char *path,
             const json_t *body,
             struct http_answer *ret_answer);
void http_answer_fini(struct http_answer *answer);
/* Uploads a file; progress (may be NULL) gets bytes sent so far. */
int http_upload(struct http *http,
                const char *path,
                int fd,
                uint64_t size,
                const char *sha256,
                void (*progress)(void *context, uint64_t sent),
                void *context,
                struct http_answer *ret_answer);
/* Streams a GET: take gets pieces and returns false to end. 0 when the stream ended in
 * order. */
int http_stream(struct http *http,
                const char *path,
                bool (*take)(void *context, const char *data, size_t size),
                void *context,
                struct http_answer *ret_answer);
/* The server's certificate as PEM (caller frees), whoever it is: nothing secret is sent.
 * NULL with ret_answer->text. */
char *http_certificate(struct http *http, struct http_answer *ret_answer);
/* The upgraded connection of a console, as a blocking descriptor pair of calls; NULL with
 * *ret_answer. */
struct http_tunnel;
struct http_tunnel *http_upgrade(struct http *http,
                                 const char *path,
                                 const char *protocol,
                                 struct http_answer *ret_answer);
int http_tunnel_fd(const struct http_tunnel *tunnel);
/* Bytes read, 0 at the end, -EAGAIN when nothing is there. */
int http_tunnel_read(struct http_tunnel *tunnel, void *ret_data, size_t size);
int http_tunnel_write(struct http_tunnel *tunnel, const void *data, size_t size);
void http_tunnel_close(struct http_tunnel *tunnel);
