#include "chaos_http.h"

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/parse_number.h"
#include "base/require.h"

#include <curl/curl.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define ANSWER_MAX  (16u << 20)
#define API_PORT    7443
#define CONNECT_MS  1500L
#define HEADER_SIZE 256

struct chaos_wire {
    const struct chaos_rack *rack;
    char authorization[HEADER_SIZE];
    CURL *curl;
};

void chaos_http_init(void)
{
    REQUIRE(curl_global_init(CURL_GLOBAL_ALL) == CURLE_OK);
}

struct chaos_wire *chaos_wire_new(const struct chaos_rack *rack, const char *token)
{
    struct chaos_wire *wire = calloc(1, sizeof(*wire));
    REQUIRE(wire != NULL);
    wire->rack = rack;
    (void)snprintf(wire->authorization, sizeof(wire->authorization),
                   "Authorization: Bearer %s", token);
    wire->curl = curl_easy_init();
    REQUIRE(wire->curl != NULL);
    return wire;
}

struct chaos_wire *chaos_wire_free(struct chaos_wire *wire)
{
    if (wire != NULL) {
        curl_easy_cleanup(wire->curl);
        free(wire);
    }
    return NULL;
}

/* Hosts sign their own certificates; whose they are is not what is tried here. */
static void aim(struct chaos_wire *wire, unsigned host, const char *path)
{
    char url[512];
    (void)snprintf(url, sizeof(url), "https://%s:%d%s", wire->rack->addresses[host],
                   API_PORT, path);
    curl_easy_reset(wire->curl);
    curl_easy_setopt(wire->curl, CURLOPT_URL, url);
    curl_easy_setopt(wire->curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(wire->curl, CURLOPT_PROXY, "");
    curl_easy_setopt(wire->curl, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_MS);
    curl_easy_setopt(wire->curl, CURLOPT_MAXCONNECTS, 4L);
    curl_easy_setopt(wire->curl, CURLOPT_SSL_VERIFYPEER, 0L);
    curl_easy_setopt(wire->curl, CURLOPT_SSL_VERIFYHOST, 0L);
    curl_easy_setopt(wire->curl, CURLOPT_CAINFO, NULL);
    curl_easy_setopt(wire->curl, CURLOPT_CAPATH, NULL);
}

static size_t take_body(char *data, size_t one, size_t count, void *context)
{
    struct bytes_writer *writer = context;
    bytes_write_raw(writer, data, one * count);
    return writer->error == 0 ? one * count : 0;
}

static size_t take_header(char *data, size_t one, size_t count, void *context)
{
    static const char name[] = "Berth-Revision: ";
    uint64_t *revision = context;
    size_t size = one * count;
    if (size > sizeof(name) && strncasecmp(data, name, sizeof(name) - 1) == 0) {
        *revision = strtoull(data + sizeof(name) - 1, NULL, 10); /* ends with \r\n */
    }
    return size;
}

static struct curl_slist *
headers_of(const struct chaos_wire *wire, const char *key, uint64_t match)
{
    char line[HEADER_SIZE];
    struct curl_slist *headers = curl_slist_append(NULL, wire->authorization);
    headers = curl_slist_append(headers, "Content-Type: application/json");
    headers = curl_slist_append(headers, "Expect:");
    if (key != NULL) {
        (void)snprintf(line, sizeof(line), "Idempotency-Key: %s", key);
        headers = curl_slist_append(headers, line);
    }
    if (match != 0) {
        (void)snprintf(line, sizeof(line), "If-Match: \"%" PRIu64 "\"", match);
        headers = curl_slist_append(headers, line);
    }
    return headers;
}

struct chaos_answer chaos_call(struct chaos_wire *wire,
                               unsigned host,
                               const char *method,
                               const char *path,
                               const json_t *body,
                               const char *key,
                               uint64_t match)
{
    struct chaos_answer answer = {0};
    struct bytes_writer writer;
    CLEANUP_FREE char *text = body != NULL ? json_text(body) : NULL;
    struct curl_slist *headers = headers_of(wire, key, match);
    bytes_writer_init(&writer, ANSWER_MAX);
    aim(wire, host, path);
    curl_easy_setopt(wire->curl, CURLOPT_CUSTOMREQUEST, method);
    curl_easy_setopt(wire->curl, CURLOPT_TIMEOUT_MS, CHAOS_CALL_MS);
    curl_easy_setopt(wire->curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(wire->curl, CURLOPT_WRITEFUNCTION, take_body);
    curl_easy_setopt(wire->curl, CURLOPT_WRITEDATA, &writer);
    curl_easy_setopt(wire->curl, CURLOPT_HEADERFUNCTION, take_header);
    curl_easy_setopt(wire->curl, CURLOPT_HEADERDATA, &answer.revision);
    if (text != NULL) {
        curl_easy_setopt(wire->curl, CURLOPT_POSTFIELDS, text);
    } else if (strcmp(method, "POST") == 0) {
        curl_easy_setopt(wire->curl, CURLOPT_POSTFIELDS, "");
    }
    if (curl_easy_perform(wire->curl) == CURLE_OK &&
        json_parse((const char *)writer.data, writer.size, &answer.document, NULL) == 0) {
        curl_easy_getinfo(wire->curl, CURLINFO_RESPONSE_CODE, &answer.status);
    }
    bytes_writer_fini(&writer);
    curl_slist_free_all(headers);
    return answer;
}

void chaos_answer_fini(struct chaos_answer *answer)
{
    json_decref(answer->document);
    *answer = (struct chaos_answer){0};
}

struct stream {
    bool (*take)(void *context, const char *data, size_t size);
    void *context;
    CURL *curl;
};

static size_t take_stream(char *data, size_t one, size_t count, void *context)
{
    struct stream *stream = context;
    long status = 0;
    curl_easy_getinfo(stream->curl, CURLINFO_RESPONSE_CODE, &status);
    return status == 200 && stream->take(stream->context, data, one * count) ? one * count
                                                                             : 0;
}

static int look_up(void *context,
                   curl_off_t down_total,
                   curl_off_t down,
                   curl_off_t up_total,
                   curl_off_t up)
{
    const atomic_bool *over = context;
    (void)down_total;
    (void)down;
    (void)up_total;
    (void)up;
    return atomic_load(over) ? 1 : 0;
}

void chaos_stream(struct chaos_wire *wire,
                  unsigned host,
                  const char *path,
                  bool (*take)(void *context, const char *data, size_t size),
                  void *context,
                  const atomic_bool *over)
{
    struct stream stream = {take, context, wire->curl};
    struct curl_slist *headers = headers_of(wire, NULL, 0);
    aim(wire, host, path);
    curl_easy_setopt(wire->curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(wire->curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(wire->curl, CURLOPT_LOW_SPEED_TIME, CHAOS_SILENCE_S);
    curl_easy_setopt(wire->curl, CURLOPT_WRITEFUNCTION, take_stream);
    curl_easy_setopt(wire->curl, CURLOPT_WRITEDATA, &stream);
    curl_easy_setopt(wire->curl, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(wire->curl, CURLOPT_XFERINFOFUNCTION, look_up);
    curl_easy_setopt(wire->curl, CURLOPT_XFERINFODATA, over);
    (void)curl_easy_perform(wire->curl); /* whatever ended it, the caller goes on */
    curl_slist_free_all(headers);
}
