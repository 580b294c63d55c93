#include "cli/http.h"

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/digest.h"
#include "base/random.h"
#include "base/version.h"

#include <curl/curl.h>

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define BACKOFF_MS     100
#define BACKOFF_MAX_MS 1000
#define CALL_TIMEOUT_S 30L
#define CONNECT_MS     3000L
#define PROBE_MS       1000L
#define HEAD_MAX       16384
#define WRITE_WAIT_MS  5000
#define TYPE_JSON      "Content-Type: application/json"

struct http {
    struct http_config config;
    CURL *curl;
    char base[256];
};

/* ---- one call ---- */

static size_t body_take(char *data, size_t one, size_t count, void *context)
{
    struct bytes_writer *writer = context;
    bytes_write_raw(writer, data, one * count);
    return writer->error == 0 ? one * count : 0;
}

/* No authority is asked, so none is loaded: that takes a tenth of a second. */
static void trust_nobody_else(struct http *http)
{
    curl_easy_setopt(http->curl, CURLOPT_SSL_VERIFYPEER, 0L);
    curl_easy_setopt(http->curl, CURLOPT_SSL_VERIFYHOST, 0L);
    curl_easy_setopt(http->curl, CURLOPT_CAINFO, NULL);
    curl_easy_setopt(http->curl, CURLOPT_CAPATH, NULL);
}

static void common(struct http *http, const char *method, const char *path)
{
    char url[4096]; /* that of an image among the parameters, escaped */
    (void)snprintf(url, sizeof(url), "%s%s", http->base, path);
    curl_easy_reset(http->curl);
    curl_easy_setopt(http->curl, CURLOPT_URL, url);
    curl_easy_setopt(http->curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(http->curl, CURLOPT_PROXY, ""); /* the rack is never behind one */
    curl_easy_setopt(http->curl, CURLOPT_USERAGENT, "berth/" BERTH_VERSION);
    curl_easy_setopt(http->curl, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_MS);
    curl_easy_setopt(http->curl, CURLOPT_CUSTOMREQUEST, method);
    curl_easy_setopt(http->curl, CURLOPT_NOBODY, strcmp(method, "HEAD") == 0 ? 1L : 0L);
    if (http->config.socket_path != NULL) {
        curl_easy_setopt(http->curl, CURLOPT_UNIX_SOCKET_PATH, http->config.socket_path);
    }
    if (http->config.pin != NULL) {
        /* The certificate is the host's own: the pinned key is what is trusted. */
        trust_nobody_else(http);
        curl_easy_setopt(http->curl, CURLOPT_PINNEDPUBLICKEY, http->config.pin);
    }
}

/* wary: what is to be sent may be large, so the server is asked first whether it wants
 * it. */
static struct curl_slist *
headers_new(const struct http *http, const char *key, const char *type, bool wary)
{
    struct curl_slist *headers = curl_slist_append(NULL, type);
    char line[512];
    headers = curl_slist_append(headers, wary ? "Expect: 100-continue" : "Expect:");
    if (http->config.token != NULL) {
        (void)snprintf(line, sizeof(line), "Authorization: Bearer %.400s",
                       http->config.token);
        headers = curl_slist_append(headers, line);
    }
    if (key != NULL) {
        (void)snprintf(line, sizeof(line), "Idempotency-Key: %s", key);
        headers = curl_slist_append(headers, line);
    }
    return headers;
}

static const char *content_type(struct http *http)
{
    const char *type = NULL;
    curl_easy_getinfo(http->curl, CURLINFO_CONTENT_TYPE, &type);
    return type;
}

static bool is_json(struct http *http)
{
    const char *type = content_type(http);
    return type != NULL && (strncmp(type, "application/json", 16) == 0 ||
                            strncmp(type, "application/problem+json", 24) == 0);
}

static enum http_trouble trouble_of(struct http *http, CURLcode code)
{
    static const struct {
        CURLcode code;
        enum http_trouble trouble;
    } rows[] = {
        {CURLE_OPERATION_TIMEDOUT, HTTP_TROUBLE_SILENT},
        {CURLE_ABORTED_BY_CALLBACK, HTTP_TROUBLE_DEAF},
        {CURLE_COULDNT_RESOLVE_HOST, HTTP_TROUBLE_NO_NAME},
        {CURLE_SSL_CONNECT_ERROR, HTTP_TROUBLE_NO_TLS},
        {CURLE_SSL_PINNEDPUBKEYNOTMATCH, HTTP_TROUBLE_OTHER_KEY},
        {CURLE_PEER_FAILED_VERIFICATION, HTTP_TROUBLE_UNTRUSTED},
    };
    long number = 0;
    curl_off_t found_us = 0;
    if (code == CURLE_OPERATION_TIMEDOUT &&
        curl_easy_getinfo(http->curl, CURLINFO_NAMELOOKUP_TIME_T, &found_us) ==
            CURLE_OK &&
        found_us == 0) { /* the time was over before anybody was asked */
        return HTTP_TROUBLE_NO_NAME;
    }
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (rows[i].code == code) {
            return rows[i].trouble;
        }
    }
    if (code != CURLE_COULDNT_CONNECT ||
        curl_easy_getinfo(http->curl, CURLINFO_OS_ERRNO, &number) != CURLE_OK) {
        return HTTP_TROUBLE_OTHER;
    }
    return number == ECONNREFUSED ? HTTP_TROUBLE_REFUSED : HTTP_TROUBLE_SILENT;
}

static void answer_fill(struct http *http,
                        CURLcode code,
                        struct bytes_writer *body,
                        struct http_answer *answer)
{
    long status = 0;
    *answer = (struct http_answer){0};
    curl_easy_getinfo(http->curl, CURLINFO_RESPONSE_CODE, &status);
    answer->size = body->size;
    if (bytes_writer_take_text(body, &answer->body) < 0) {
        answer->size = 0;
    }
    if (code != CURLE_OK) {
        (void)snprintf(answer->text, sizeof(answer->text), "%s",
                       curl_easy_strerror(code));
        answer->trouble = trouble_of(http, code);
        return;
    }
    answer->status = (int)status;
    bool whole = !is_json(http) || answer->body == NULL ||
                 json_parse(answer->body, answer->size, &answer->document, NULL) == 0;
    if (!whole || content_type(http) == NULL) { /* every answer of berthd has one */
        answer->cut = true;
        (void)snprintf(answer->text, sizeof(answer->text), "the answer was cut short");
    }
}

/* ---- is it there at all ---- */

struct patience {
    struct http *http;
    uint64_t start_ms;
    bool told;
};

static size_t body_drop(char *data, size_t one, size_t count, void *context)
{
    (void)data;
    (void)context;
    return one * count;
}

/* Whether berthd answers a second connection: it then works on the first. */
static bool answers(const struct http *http)
{
    CURL *curl = curl_easy_init();
    bool answered = curl == NULL; /* not known */
    if (curl != NULL) {
        curl_easy_setopt(curl, CURLOPT_URL, "http://berth/healthz");
        curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
        curl_easy_setopt(curl, CURLOPT_PROXY, "");
        curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, http->config.socket_path);
        curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, body_drop);
        curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, PROBE_MS);
        answered = curl_easy_perform(curl) == CURLE_OK;
        curl_easy_cleanup(curl);
    }
    return answered;
}

/* libcurl calls it about once a second; what is not 0 ends the call. */
static int watch_silence(void *context,
                         curl_off_t down_total,
                         curl_off_t down_now,
                         curl_off_t up_total,
                         curl_off_t up_now)
{
    struct patience *patience = context;
    uint64_t past_ms = clock_now_ms(clock_system()) - patience->start_ms;
    (void)down_total;
    (void)up_total;
    (void)up_now;
    if (down_now > 0 || past_ms < HTTP_SILENT_MS ||
        (patience->told && past_ms < HTTP_DEAF_MS)) {
        return 0;
    }
    if (answers(patience->http)) {
        patience->start_ms = clock_now_ms(clock_system());
        return 0;
    }
    if (!patience->told && patience->http->config.silent != NULL) {
        patience->http->config.silent(patience->http->config.context);
    }
    patience->told = true;
    return past_ms >= HTTP_DEAF_MS ? 1 : 0;
}

/* The patience lives as long as the call. */
static void watch_over(struct http *http, struct patience *ret_patience)
{
    *ret_patience =
        (struct patience){.http = http, .start_ms = clock_now_ms(clock_system())};
    if (http->config.socket_path != NULL) {
        curl_easy_setopt(http->curl, CURLOPT_NOPROGRESS, 0L);
        curl_easy_setopt(http->curl, CURLOPT_XFERINFOFUNCTION, watch_silence);
        curl_easy_setopt(http->curl, CURLOPT_XFERINFODATA, ret_patience);
    }
}

/* timeout_s 0: none, and a host that is gone is noticed by the connection. */
static CURLcode call_once(struct http *http,
                          const char *method,
                          const char *path,
                          const char *body,
                          const char *key,
                          long timeout_s,
                          struct http_answer *answer)
{
    struct bytes_writer writer;
    struct patience patience;
    struct curl_slist *headers = headers_new(http, key, TYPE_JSON, false);
    bytes_writer_init(&writer, HTTP_ANSWER_MAX);
    common(http, method, path);
    watch_over(http, &patience);
    curl_easy_setopt(http->curl, CURLOPT_TIMEOUT, timeout_s);
    curl_easy_setopt(http->curl, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(http->curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(http->curl, CURLOPT_WRITEFUNCTION, body_take);
    curl_easy_setopt(http->curl, CURLOPT_WRITEDATA, &writer);
    if (body != NULL) {
        curl_easy_setopt(http->curl, CURLOPT_POSTFIELDS, body);
        curl_easy_setopt(http->curl, CURLOPT_POSTFIELDSIZE_LARGE,
                         (curl_off_t)strlen(body));
    } else if (strcmp(method, "POST") == 0) {
        curl_easy_setopt(http->curl, CURLOPT_POSTFIELDS, "");
    }
    CURLcode code = curl_easy_perform(http->curl);
    answer_fill(http, code, &writer, answer);
    curl_slist_free_all(headers);
    return code;
}

static void back_off(uint64_t ms)
{
    struct timespec pause = {.tv_sec = (time_t)(ms / 1000),
                             .tv_nsec = (long)(ms % 1000) * 1000000};
    (void)nanosleep(&pause, NULL); /* a signal ends it early, which is fine */
}

/* Nothing is listening, or somebody else is: waiting does not help. */
static bool hopeless(CURLcode code)
{
    return code == CURLE_COULDNT_CONNECT || code == CURLE_SSL_PINNEDPUBKEYNOTMATCH ||
           code == CURLE_COULDNT_RESOLVE_HOST || code == CURLE_UNSUPPORTED_PROTOCOL ||
           code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_ABORTED_BY_CALLBACK;
}

int http_try(struct http *http,
             const char *method,
             const char *path,
             const json_t *body,
             struct http_answer *ret_answer)
{
    CLEANUP_FREE char *text = body != NULL ? json_text(body) : NULL;
    return call_once(http, method, path, text, NULL, CALL_TIMEOUT_S, ret_answer) ==
                   CURLE_OK
               ? 0
               : BERTH_EUNREACHABLE;
}

static int call_until_answered(struct http *http,
                               const char *method,
                               const char *path,
                               const json_t *body,
                               long timeout_s,
                               struct http_answer *ret_answer)
{
    uint8_t random[16];
    char key[2 * sizeof(random) + 1];
    CLEANUP_FREE char *text = body != NULL ? json_text(body) : NULL;
    bool head = strcmp(method, "HEAD") == 0; /* announces JSON, and has none */
    bool writes = strcmp(method, "GET") != 0 && !head;
    uint64_t start_ms = clock_now_ms(clock_system());
    uint64_t wait_ms = BACKOFF_MS;
    random_secret(random, sizeof(random));
    hex_format(random, sizeof(random), key);
    for (;;) {
        CURLcode code = call_once(http, method, path, text, writes ? key : NULL,
                                  timeout_s, ret_answer);
        bool again = code != CURLE_OK
                         ? !hopeless(code)
                         : ret_answer->status == 503 || (ret_answer->cut && !head);
        if (!again ||
            clock_now_ms(clock_system()) - start_ms + wait_ms > HTTP_PATIENCE_MS) {
            bool came = code == CURLE_OK && (!ret_answer->cut || head);
            return came ? 0 : BERTH_EUNREACHABLE;
        }
        http_answer_fini(ret_answer);
        back_off(wait_ms / 2 + random[0] * wait_ms / 512);
        wait_ms = wait_ms * 2 > BACKOFF_MAX_MS ? BACKOFF_MAX_MS : wait_ms * 2;
    }
}

int http_call(struct http *http,
              const char *method,
              const char *path,
              const json_t *body,
              struct http_answer *ret_answer)
{
    return call_until_answered(http, method, path, body, CALL_TIMEOUT_S, ret_answer);
}

int http_call_long(struct http *http,
                   const char *method,
                   const char *path,
                   const json_t *body,
                   struct http_answer *ret_answer)
{
    return call_until_answered(http, method, path, body, 0, ret_answer);
}

void http_answer_fini(struct http_answer *answer)
{
    json_decref(answer->document);
    free(answer->body);
    *answer = (struct http_answer){0};
}

/* ---- uploads ---- */

struct upload {
    int fd;
    uint64_t sent;
    void (*progress)(void *context, uint64_t sent);
    void *context;
};

static size_t upload_give(char *data, size_t one, size_t count, void *context)
{
    struct upload *upload = context;
    ssize_t size = read(upload->fd, data, one * count);
    if (size < 0) {
        return CURL_READFUNC_ABORT;
    }
    upload->sent += (uint64_t)size;
    if (upload->progress != NULL) {
        upload->progress(upload->context, upload->sent);
    }
    return (size_t)size;
}

int http_upload(struct http *http,
                const char *path,
                int fd,
                uint64_t size,
                const char *sha256,
                void (*progress)(void *context, uint64_t sent),
                void *context,
                struct http_answer *ret_answer)
{
    struct upload upload = {.fd = fd, .progress = progress, .context = context};
    struct bytes_writer writer;
    char line[128];
    struct curl_slist *headers =
        headers_new(http, NULL, "Content-Type: application/octet-stream", true);
    (void)snprintf(line, sizeof(line), "Berth-Sha256: %s", sha256);
    headers = curl_slist_append(headers, line);
    bytes_writer_init(&writer, HTTP_ANSWER_MAX);
    common(http, "POST", path);
    curl_easy_setopt(http->curl, CURLOPT_UPLOAD, 1L);
    curl_easy_setopt(http->curl, CURLOPT_INFILESIZE_LARGE, (curl_off_t)size);
    curl_easy_setopt(http->curl, CURLOPT_READFUNCTION, upload_give);
    curl_easy_setopt(http->curl, CURLOPT_READDATA, &upload);
    curl_easy_setopt(http->curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(http->curl, CURLOPT_WRITEFUNCTION, body_take);
    curl_easy_setopt(http->curl, CURLOPT_WRITEDATA, &writer);
    CURLcode code = curl_easy_perform(http->curl);
    answer_fill(http, code, &writer, ret_answer);
    curl_slist_free_all(headers);
    return code == CURLE_OK ? 0 : BERTH_EUNREACHABLE;
}

/* ---- streams ---- */

struct stream {
    struct http *http;
    bool (*take)(void *context, const char *data, size_t size);
    void *context;
    struct bytes_writer problem;
    bool ended;
};

static size_t stream_take(char *data, size_t one, size_t count, void *context)
{
    struct stream *stream = context;
    long status = 0;
    curl_easy_getinfo(stream->http->curl, CURLINFO_RESPONSE_CODE, &status);
    if (status != 200) {
        bytes_write_raw(&stream->problem, data, one * count);
        return one * count;
    }
    if (!stream->take(stream->context, data, one * count)) {
        stream->ended = true;
        return 0;
    }
    return one * count;
}

int http_stream(struct http *http,
                const char *path,
                bool (*take)(void *context, const char *data, size_t size),
                void *context,
                struct http_answer *ret_answer)
{
    struct stream stream = {.http = http, .take = take, .context = context};
    struct curl_slist *headers = headers_new(http, NULL, TYPE_JSON, false);
    bytes_writer_init(&stream.problem, HTTP_ANSWER_MAX);
    common(http, "GET", path);
    curl_easy_setopt(http->curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(http->curl, CURLOPT_WRITEFUNCTION, stream_take);
    curl_easy_setopt(http->curl, CURLOPT_WRITEDATA, &stream);
    /* A bookmark comes every 15 s: three missed ones mean that the host is gone. */
    curl_easy_setopt(http->curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(http->curl, CURLOPT_LOW_SPEED_TIME, 45L);
    CURLcode code = curl_easy_perform(http->curl);
    answer_fill(http, stream.ended ? CURLE_OK : code, &stream.problem, ret_answer);
    curl_slist_free_all(headers);
    return stream.ended || code == CURLE_OK ? 0 : BERTH_EUNREACHABLE;
}

/* ---- tunnels ---- */

struct http_tunnel {
    CURL *curl;           /* borrowed from http; used for nothing else meanwhile */
    char early[HEAD_MAX]; /* bytes that came with the head */
    size_t early_at;
    size_t early_size;
};

static bool wait_for(CURL *curl, short events)
{
    curl_socket_t fd = CURL_SOCKET_BAD;
    curl_easy_getinfo(curl, CURLINFO_ACTIVESOCKET, &fd);
    struct pollfd wait = {.fd = fd, .events = events};
    return fd != CURL_SOCKET_BAD && poll(&wait, 1, WRITE_WAIT_MS) > 0;
}

static bool send_all(CURL *curl, const char *data, size_t size)
{
    while (size > 0) {
        size_t sent = 0;
        CURLcode code = curl_easy_send(curl, data, size, &sent);
        if (code == CURLE_AGAIN && wait_for(curl, POLLOUT)) {
            continue;
        }
        if (code != CURLE_OK) {
            return false;
        }
        data += sent;
        size -= sent;
    }
    return true;
}

/* Reads the head of the answer; what follows it is the tunnel's first bytes. */
static bool
head_read(struct http_tunnel *tunnel, char *head, size_t capacity, size_t *ret_size)
{
    size_t size = 0;
    while (size < capacity - 1) {
        size_t got = 0;
        CURLcode code =
            curl_easy_recv(tunnel->curl, head + size, capacity - 1 - size, &got);
        if (code == CURLE_AGAIN && wait_for(tunnel->curl, POLLIN)) {
            continue;
        }
        if (code != CURLE_OK || got == 0) {
            return false;
        }
        size += got;
        head[size] = '\0';
        char *end = strstr(head, "\r\n\r\n");
        if (end != NULL) {
            size_t used = (size_t)(end - head) + 4;
            tunnel->early_size = size - used;
            memcpy(tunnel->early, head + used, tunnel->early_size);
            end[2] = '\0';
            *ret_size = used;
            return true;
        }
    }
    return false;
}

struct http_tunnel *http_upgrade(struct http *http,
                                 const char *path,
                                 const char *protocol,
                                 struct http_answer *ret_answer)
{
    char head[HEAD_MAX];
    char request[1024];
    size_t head_size = 0;
    *ret_answer = (struct http_answer){0};
    struct http_tunnel *tunnel = calloc(1, sizeof(*tunnel));
    if (tunnel == NULL) {
        return NULL;
    }
    tunnel->curl = http->curl;
    common(http, "GET", path);
    curl_easy_setopt(http->curl, CURLOPT_CONNECT_ONLY, 1L);
    CURLcode code = curl_easy_perform(http->curl);
    int size = snprintf(request, sizeof(request),
                        "GET %.600s HTTP/1.1\r\nHost: berth\r\nConnection: Upgrade\r\n"
                        "Upgrade: %s\r\n%s%.200s%s\r\n",
                        path, protocol,
                        http->config.token != NULL ? "Authorization: Bearer " : "",
                        http->config.token != NULL ? http->config.token : "",
                        http->config.token != NULL ? "\r\n" : "");
    if (code != CURLE_OK || !send_all(http->curl, request, (size_t)size) ||
        !head_read(tunnel, head, sizeof(head), &head_size)) {
        (void)snprintf(ret_answer->text, sizeof(ret_answer->text), "%s",
                       code != CURLE_OK ? curl_easy_strerror(code)
                                        : "the connection was closed");
        ret_answer->trouble = trouble_of(http, code);
        http_tunnel_close(tunnel);
        return NULL;
    }
    ret_answer->status = (int)strtol(head + strcspn(head, " "), NULL, 10);
    if (ret_answer->status != 101) {
        (void)json_parse(tunnel->early, tunnel->early_size, &ret_answer->document,
                         NULL); /* a problem document, if it came whole */
        http_tunnel_close(tunnel);
        return NULL;
    }
    return tunnel;
}

int http_tunnel_fd(const struct http_tunnel *tunnel)
{
    curl_socket_t fd = CURL_SOCKET_BAD;
    curl_easy_getinfo(tunnel->curl, CURLINFO_ACTIVESOCKET, &fd);
    return (int)fd;
}

int http_tunnel_read(struct http_tunnel *tunnel, void *ret_data, size_t size)
{
    size_t left = tunnel->early_size - tunnel->early_at;
    size_t got = 0;
    if (left > 0) {
        got = left < size ? left : size;
        memcpy(ret_data, tunnel->early + tunnel->early_at, got);
        tunnel->early_at += got;
        return (int)got;
    }
    CURLcode code = curl_easy_recv(tunnel->curl, ret_data, size, &got);
    if (code == CURLE_AGAIN) {
        return -EAGAIN;
    }
    return code == CURLE_OK ? (int)got : 0;
}

int http_tunnel_write(struct http_tunnel *tunnel, const void *data, size_t size)
{
    return send_all(tunnel->curl, data, size) ? 0 : -EPIPE;
}

void http_tunnel_close(struct http_tunnel *tunnel)
{
    free(tunnel); /* the connection ends with http_free */
}

/* ---- certificates ---- */

char *http_certificate(struct http *http, struct http_answer *ret_answer)
{
    struct curl_certinfo *info = NULL;
    *ret_answer = (struct http_answer){0};
    common(http, "GET", "/healthz");
    trust_nobody_else(http);
    curl_easy_setopt(http->curl, CURLOPT_CERTINFO, 1L);
    curl_easy_setopt(http->curl, CURLOPT_TIMEOUT, CALL_TIMEOUT_S);
    curl_easy_setopt(http->curl, CURLOPT_WRITEFUNCTION, body_drop);
    CURLcode code = curl_easy_perform(http->curl);
    if (code != CURLE_OK) {
        (void)snprintf(ret_answer->text, sizeof(ret_answer->text), "%s",
                       curl_easy_strerror(code));
        ret_answer->trouble = trouble_of(http, code);
        return NULL;
    }
    curl_easy_getinfo(http->curl, CURLINFO_CERTINFO, &info);
    const struct curl_slist *line =
        info != NULL && info->num_of_certs > 0 ? info->certinfo[0] : NULL;
    for (; line != NULL; line = line->next) {
        if (strncmp(line->data, "Cert:", 5) == 0) {
            return strdup(line->data + 5);
        }
    }
    (void)snprintf(ret_answer->text, sizeof(ret_answer->text), "it shows no certificate");
    return NULL;
}

/* ---- life ---- */

struct http *http_new(const struct http_config *config)
{
    struct http *http = calloc(1, sizeof(*http));
    if (http == NULL || curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK ||
        (http->curl = curl_easy_init()) == NULL) {
        free(http);
        return NULL;
    }
    http->config = *config;
    (void)snprintf(http->base, sizeof(http->base), "%s",
                   config->socket_path != NULL ? "http://berth" : config->server);
    return http;
}

struct http *http_free(struct http *http)
{
    if (http != NULL) {
        curl_easy_cleanup(http->curl);
        curl_global_cleanup();
        free(http);
    }
    return NULL;
}
