/* Real HTTP bytes for the tests of the API.
 *
 * fixture_start serves a cluster (support/served_api.h) in a fresh folder; ask() sends a
 * request over the UNIX socket and leaves the answer, taken apart, in `reply`. What is
 * less than a request is sent by connect_local, say and hear; counted() is one of the
 * server's counters (support/served_api.h), await_counted() waits for it. Waiting has a
 * bound (REPLY_MS), after which the test fails.
 */
#pragma once

#include "base/clock.h"
#include "base/json.h"
#include "support/served_api.h"
#include "support/temp_dir.h"
#include "support/test_main.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define REPLY_MS  100000
#define REPLY_MAX (64u << 20)

static struct served *served;
static struct temp_dir served_folder;

static struct reply {
    int status;
    char head[16384]; /* status line and headers */
    char *body;       /* NUL-terminated, chunks joined; owned */
    size_t size;
    json_t *document; /* of the body, or NULL; owned */
} reply;

static inline void fixture_start_with(const struct served_config *config)
{
    temp_dir_init(&served_folder);
    served = served_start(served_folder.path, config);
}

static inline void fixture_start(void)
{
    fixture_start_with(NULL);
}

/* Inside served_do: the host of that name is lost from now on. */
static inline void lose_host(struct served *server, void *context)
{
    static const enum host_phase phases[] = {HOST_PHASE_SUSPECT, HOST_PHASE_LOST};
    served_knobs(server)->no_scheduler = true; /* which would hear it again */
    for (size_t i = 0; i < sizeof(phases) / sizeof(phases[0]); i++) {
        const struct host *host = state_get(served_state(server), KIND_HOST, "", context);
        struct command command;
        struct apply_result result;
        command_init(&command, COMMAND_HOST_PHASE);
        command.level = 1;
        command.body.host_phase.host = host->meta.uid;
        command.body.host_phase.phase = phases[i];
        state_apply(served_state(server), &command, &result);
        command_fini(&command);
        ck_assert_int_eq(result.code, 0);
    }
}

static inline void reply_drop(void)
{
    free(reply.body);
    json_decref(reply.document);
    memset(&reply, 0, sizeof(reply));
}

static inline void fixture_stop(void)
{
    reply_drop();
    served_stop(served);
    served = NULL;
    temp_dir_fini(&served_folder);
}

/* ---- bytes ---- */

static inline int connect_local(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct timeval patience = {.tv_sec = REPLY_MS / 1000};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(fd, 0);
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", served_socket(served));
    ck_assert_int_eq(connect(fd, (struct sockaddr *)(void *)&address, sizeof(address)),
                     0);
    ck_assert_int_eq(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)),
                     0);
    return fd;
}

/* True when all of it was taken; false when the other side had closed. */
static inline bool say_bytes(int fd, const void *data, size_t size)
{
    const char *at = data;
    while (size > 0) {
        ssize_t sent = send(fd, at, size, MSG_NOSIGNAL);
        if (sent < 0) {
            ck_assert_msg(errno == EPIPE || errno == ECONNRESET, "send: %m");
            return false;
        }
        at += sent;
        size -= (size_t)sent;
    }
    return true;
}

static inline bool say(int fd, const char *text)
{
    return say_bytes(fd, text, strlen(text));
}

/* Reads until `stop` is in what came, or the end (stop NULL: the end). The text, owned by
 * the caller. */
static inline char *hear(int fd, const char *stop)
{
    size_t capacity = 65536;
    size_t size = 0;
    char *text = malloc(capacity);
    ck_assert_ptr_nonnull(text);
    for (;;) {
        text[size] = '\0';
        if (stop != NULL && strstr(text, stop) != NULL) {
            return text;
        }
        if (capacity - size < 32768) {
            capacity *= 2;
            ck_assert_uint_le(capacity, REPLY_MAX);
            text = realloc(text, capacity);
            ck_assert_ptr_nonnull(text);
        }
        ssize_t got = recv(fd, text + size, capacity - size - 1, 0);
        if (got < 0 && errno == EINTR) {
            continue; /* a child of the server has ended: it lives in this process */
        }
        if (got < 0 && errno == ECONNRESET) {
            got = 0;
        }
        ck_assert_msg(got >= 0, "no answer within %d ms: %m; so far: %.300s", REPLY_MS,
                      text);
        if (got == 0) {
            ck_assert_msg(stop == NULL, "the end came before \"%s\": %.300s", stop, text);
            return text;
        }
        size += (size_t)got;
    }
}

/* ---- answers ---- */

/* Value of a header, or NULL; valid until the next call. */
static inline const char *header(const char *name)
{
    static char value[512];
    size_t length = strlen(name);
    for (const char *line = strstr(reply.head, "\r\n"); line != NULL;
         line = strstr(line + 2, "\r\n")) {
        if (strncasecmp(line + 2, name, length) == 0 && line[2 + length] == ':') {
            const char *start = line + 3 + length + strspn(line + 3 + length, " ");
            snprintf(value, sizeof(value), "%.*s", (int)strcspn(start, "\r"), start);
            return value;
        }
    }
    return NULL;
}

/* Joins the chunks of text in place; the size. */
static inline size_t chunks_join(char *text)
{
    char *to = text;
    char *at = text;
    for (;;) {
        char *end = NULL;
        size_t size = strtoul(at, &end, 16);
        ck_assert_msg(end != at && strncmp(end, "\r\n", 2) == 0, "no chunk: %.100s", at);
        at = end + 2;
        memmove(to, at, size);
        to += size;
        at += size + 2;
        if (size == 0) {
            *to = '\0';
            return (size_t)(to - text);
        }
    }
}

/* Takes a whole answer ("HTTP/1.1 200 ...") apart into `reply`. */
static inline void reply_take(const char *text)
{
    const char *body = strstr(text, "\r\n\r\n");
    reply_drop();
    ck_assert_msg(body != NULL && strncmp(text, "HTTP/1.", 7) == 0, "no answer: %.200s",
                  text);
    snprintf(reply.head, sizeof(reply.head), "%.*s", (int)(body - text + 2), text);
    reply.status = (int)strtol(text + 9, NULL, 10);
    reply.body = strdup(body + 4);
    reply.size = strlen(reply.body);
    const char *coding = header("Transfer-Encoding");
    if (coding != NULL && strcmp(coding, "chunked") == 0 && reply.size > 0) {
        reply.size = chunks_join(reply.body);
    }
    (void)json_parse(reply.body, reply.size, &reply.document, NULL);
}

/* Sends this and takes what comes until the other side closes. The number of bytes that
 * were sent may be less than all when it does so early. */
static inline void ask_raw(const char *text)
{
    int fd = connect_local();
    (void)say(fd, text);
    char *answer_text = hear(fd, NULL);
    (void)close(fd);
    reply_take(answer_text);
    free(answer_text);
}

/* One request; headers are lines that end in \r\n, "" for none; body may be NULL. The
 * status. */
static inline int
ask(const char *method, const char *path, const char *headers, const char *body)
{
    size_t size =
        strlen(path) + strlen(headers) + (body != NULL ? strlen(body) : 0) + 512;
    char *text = malloc(size);
    ck_assert_ptr_nonnull(text);
    int used =
        snprintf(text, size, "%s %s HTTP/1.1\r\nHost: h1\r\nConnection: close\r\n%s",
                 method, path, headers);
    if (body != NULL) {
        used += snprintf(text + used, size - (size_t)used, "Content-Length: %zu\r\n",
                         strlen(body));
    }
    snprintf(text + used, size - (size_t)used, "\r\n%s", body != NULL ? body : "");
    ask_raw(text);
    free(text);
    return reply.status;
}

static inline int get(const char *path)
{
    return ask("GET", path, "", NULL);
}

/* Asks until the object says so. */
static inline void await(const char *path, const char *text)
{
    do {
        ck_assert_int_eq(get(path), 200);
    } while (strstr(reply.body, text) == NULL);
}

/* A text member of the answer, or "". */
static inline const char *said(const char *key)
{
    return json_member_text(reply.document, key, "");
}

/* ---- counters ---- */

struct counting {
    unsigned (*counter)(const struct served *server);
    unsigned count;
};

static inline void count_inside(struct served *server, void *context)
{
    struct counting *counting = context;
    counting->count = counting->counter(server);
}

static inline unsigned counted(unsigned (*counter)(const struct served *server))
{
    struct counting counting = {.counter = counter};
    served_do(served, count_inside, &counting);
    return counting.count;
}

/* Asks until there are so many. */
static inline void await_counted(unsigned (*counter)(const struct served *server),
                                 unsigned wanted)
{
    const uint64_t late_ns = clock_now_ns(clock_system()) + REPLY_MS * UINT64_C(1000000);
    unsigned count = 0;
    while ((count = counted(counter)) < wanted) {
        ck_assert_msg(clock_now_ns(clock_system()) < late_ns,
                      "%u of %u came within %d ms", count, wanted, REPLY_MS);
    }
    ck_assert_uint_eq(count, wanted);
}

static inline size_t item_count(void)
{
    return json_array_size(json_object_get(reply.document, "items"));
}

/* The answer is a whole problem document with that status and code. */
static inline void assert_problem(int status, const char *code)
{
    ck_assert_msg(reply.status == status, "status %d, not %d: %s", reply.status, status,
                  reply.body);
    const char *type = header("Content-Type");
    ck_assert_ptr_nonnull(type);
    ck_assert_str_eq(type, "application/problem+json");
    ck_assert_str_eq(said("code"), code);
    ck_assert_uint_eq(json_member_u64(reply.document, "status", 0), (unsigned)status);
    ck_assert_str_ne(said("title"), "");
    ck_assert_str_ne(said("detail"), "");
    ck_assert_str_ne(said("requestId"), "");
}

static inline Suite *http_suite(const char *name, TCase **ret_case)
{
    Suite *suite = suite_create(name);
    *ret_case = tcase_create(name);
    tcase_add_checked_fixture(*ret_case, fixture_start, fixture_stop);
    tcase_set_timeout(*ret_case, 300);
    suite_add_tcase(suite, *ret_case);
    return suite;
}

#define ck_assert_contains(text, part) \
    ck_assert_msg(strstr(text, part) != NULL, "\"%s\" is not in \"%.500s\"", part, text)
