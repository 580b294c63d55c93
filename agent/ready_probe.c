#include "agent/ready_probe.h"

#include "base/cleanup.h"
#include "base/loop.h"
#include "base/parse_number.h"
#include "base/require.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REASON_SIZE  128
#define TROUBLE_SIZE (REASON_SIZE + 48)
#define REQUEST_SIZE 512
#define STATUS_GOOD  200 /* up to, not including, STATUS_BAD */
#define STATUS_BAD   400

struct attempt {
    uv_tcp_t tcp; /* data: the attempt */
    uv_connect_t connect;
    uv_write_t write;
    struct ready_probe *probe; /* NULL once it has ended */
    size_t answer_size;
    char answer[READY_PROBE_ANSWER_MAX + 1];
};

struct ready_probe {
    uv_loop_t *loop;
    struct sockaddr_in address;
    uint64_t timeout_ms;
    uint32_t pass, fail;
    bool http;
    char request[REQUEST_SIZE];
    struct loop_timer *every;
    struct loop_timer *deadline; /* of the attempt */
    struct attempt *attempt;     /* NULL between attempts */
    bool ready;
    uint32_t in_row; /* attempts in a row that speak for a change */
    char reason[REASON_SIZE];
    uint32_t same; /* bad attempts in a row that met the reason */
    char trouble[TROUBLE_SIZE];
    void (*changed)(void *context, bool ready, const char *reason);
    void *context;
};

static void attempt_free(uv_handle_t *handle)
{
    free(handle->data);
}

static void attempt_drop(struct ready_probe *probe)
{
    if (probe->attempt != NULL) {
        probe->attempt->probe = NULL;
        uv_close((uv_handle_t *)&probe->attempt->tcp, attempt_free);
        probe->attempt = NULL;
    }
}

/* What stands is said in words. */
static void trouble_note(struct ready_probe *probe, bool good, const char *reason)
{
    bool again = strncmp(probe->reason, reason, sizeof(probe->reason) - 1) == 0;
    probe->same = good ? 0 : again ? probe->same + 1 : 1;
    if (probe->same >= READY_PROBE_STANDS) {
        (void)snprintf(probe->trouble, sizeof(probe->trouble),
                       "not ready: probe %s/%u: %.*s", probe->http ? "http" : "tcp",
                       ntohs(probe->address.sin_port), REASON_SIZE, reason);
    } else if (good) {
        probe->trouble[0] = '\0';
    }
}

/* One attempt is over; the probe may be closed when this returns. */
static void attempt_end(struct ready_probe *probe, bool good, const char *reason)
{
    attempt_drop(probe);
    trouble_note(probe, good, reason);
    (void)snprintf(probe->reason, sizeof(probe->reason), "%s", reason); /* may be cut */
    probe->in_row = good == probe->ready ? 0 : probe->in_row + 1;
    if (probe->in_row >= (good ? probe->pass : probe->fail) && good != probe->ready) {
        probe->in_row = 0;
        probe->ready = good;
        probe->changed(probe->context, good, probe->reason);
    }
}

static void attempt_failed(struct ready_probe *probe, const char *step, int code)
{
    char reason[REASON_SIZE];
    (void)snprintf(reason, sizeof(reason), "%s: %s", step, uv_strerror(code));
    attempt_end(probe, false, reason);
}

/* Judges what has come so far; true when that was enough. */
static bool attempt_judge(struct attempt *attempt, bool complete)
{
    struct ready_probe *probe = attempt->probe;
    const char *text = attempt->answer;
    bool line = strchr(text, '\n') != NULL;
    if (!line && !complete && attempt->answer_size < READY_PROBE_ANSWER_MAX) {
        return false;
    }
    /* "HTTP/1.1 200 OK" */
    bool sound = strncmp(text, "HTTP/1.", 7) == 0 && isdigit((unsigned char)text[7]) &&
                 text[8] == ' ' && isdigit((unsigned char)text[9]) &&
                 isdigit((unsigned char)text[10]) && isdigit((unsigned char)text[11]) &&
                 !isdigit((unsigned char)text[12]);
    if (!sound) {
        attempt_end(probe, false,
                    attempt->answer_size == 0 ? "no answer" : "not an HTTP answer");
        return true;
    }
    long status = strtol(text + 9, NULL, 10);
    char reason[REASON_SIZE];
    (void)snprintf(reason, sizeof(reason), "HTTP %ld", status);
    attempt_end(probe, status >= STATUS_GOOD && status < STATUS_BAD, reason);
    return true;
}

static void attempt_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *ret_buffer)
{
    struct attempt *attempt = handle->data;
    (void)suggested;
    *ret_buffer = uv_buf_init(attempt->answer + attempt->answer_size,
                              (unsigned)(READY_PROBE_ANSWER_MAX - attempt->answer_size));
}

static void attempt_read(uv_stream_t *stream, ssize_t count, const uv_buf_t *buffer)
{
    struct attempt *attempt = stream->data;
    (void)buffer; /* it is attempt->answer */
    if (attempt->probe == NULL) {
        return;
    }
    if (count > 0) {
        attempt->answer_size += (size_t)count;
        attempt->answer[attempt->answer_size] = '\0';
        (void)attempt_judge(attempt, false); /* or waits for more */
    } else if (count == UV_EOF) {
        (void)attempt_judge(attempt, true);
    } else if (count < 0) {
        attempt_failed(attempt->probe, "read", (int)count);
    }
}

static void attempt_written(uv_write_t *request, int status)
{
    struct attempt *attempt = request->data;
    if (attempt->probe != NULL && status != 0) {
        attempt_failed(attempt->probe, "write", status);
    }
}

static void attempt_connected(uv_connect_t *request, int status)
{
    struct attempt *attempt = request->data;
    struct ready_probe *probe = attempt->probe;
    if (probe == NULL) {
        return;
    }
    if (status != 0) {
        attempt_failed(probe, "connect", status);
        return;
    }
    if (!probe->http) {
        attempt_end(probe, true, "connected");
        return;
    }
    uv_buf_t buffer = uv_buf_init(probe->request, (unsigned)strlen(probe->request));
    attempt->write.data = attempt;
    int r = uv_write(&attempt->write, (uv_stream_t *)&attempt->tcp, &buffer, 1,
                     attempt_written);
    if (r == 0) {
        r = uv_read_start((uv_stream_t *)&attempt->tcp, attempt_alloc, attempt_read);
    }
    if (r != 0) {
        attempt_failed(probe, "write", r);
    }
}

static void probe_deadline(void *context)
{
    struct ready_probe *probe = context;
    if (probe->attempt != NULL) {
        attempt_end(probe, false,
                    probe->attempt->answer_size > 0 ? "the answer is not complete in time"
                                                    : "no answer in time");
    }
}

static void probe_attempt(void *context)
{
    struct ready_probe *probe = context;
    if (probe->address.sin_port == 0) {
        attempt_end(probe, true, "no probe is asked for");
        return;
    }
    if (probe->attempt != NULL) {
        return; /* every_ms below timeout_ms: the next turn */
    }
    struct attempt *attempt = calloc(1, sizeof(*attempt));
    if (attempt == NULL) {
        attempt_end(probe, false, "out of memory");
        return;
    }
    REQUIRE(uv_tcp_init(probe->loop, &attempt->tcp) == 0);
    attempt->tcp.data = attempt;
    attempt->connect.data = attempt;
    attempt->probe = probe;
    probe->attempt = attempt;
    loop_timer_again(probe->deadline, probe->timeout_ms, 0);
    int r = uv_tcp_connect(&attempt->connect, &attempt->tcp,
                           (const struct sockaddr *)(const void *)&probe->address,
                           attempt_connected);
    if (r != 0) {
        attempt_failed(probe, "connect", r);
    }
}

static int probe_request(struct ready_probe *probe, const char *path, struct err *err)
{
    char address[IPV4_TEXT_SIZE];
    if (path == NULL || path[0] == '\0') {
        return 0;
    }
    for (const char *at = path; *at != '\0'; at++) {
        if (*at <= ' ' || *at == 0x7f) { /* no second header by way of the path */
            return err_set(err, BERTH_EINVALID, "probe path: a blank or control byte");
        }
    }
    format_ipv4(ntohl(probe->address.sin_addr.s_addr), address);
    int length = snprintf(probe->request, sizeof(probe->request),
                          "GET %s%s HTTP/1.1\r\nHost: %s:%u\r\nUser-Agent: berth\r\n"
                          "Connection: close\r\n\r\n",
                          path[0] == '/' ? "" : "/", path, address,
                          ntohs(probe->address.sin_port));
    if (length < 0 || (size_t)length >= sizeof(probe->request)) {
        return err_set(err, BERTH_EINVALID, "probe path: too long");
    }
    probe->http = true;
    return 0;
}

struct ready_probe *
ready_probe_open(uv_loop_t *loop,
                 const struct probe_spec *spec,
                 uint32_t address,
                 void (*changed)(void *context, bool ready, const char *reason),
                 void *context,
                 struct err *err)
{
    REQUIRE(changed != NULL);
    struct ready_probe *probe = calloc(1, sizeof(*probe));
    if (probe == NULL) {
        err_set(err, -ENOMEM, "probe: out of memory");
        return NULL;
    }
    probe->loop = loop;
    probe->address.sin_family = AF_INET;
    probe->address.sin_addr.s_addr = htonl(address);
    probe->address.sin_port = htons((uint16_t)spec->port);
    probe->timeout_ms = spec->timeout_ms > 0 ? spec->timeout_ms : 1;
    probe->pass = spec->port == 0 || spec->pass == 0 ? 1 : spec->pass;
    probe->fail = spec->fail == 0 ? 1 : spec->fail;
    probe->changed = changed;
    probe->context = context;
    (void)snprintf(probe->reason, sizeof(probe->reason), "not tried yet");
    if (probe_request(probe, spec->path, err) != 0) {
        return ready_probe_close(probe);
    }
    uint64_t every_ms = spec->every_ms > 0 ? spec->every_ms : 1;
    probe->every =
        loop_timer_new(loop, 0, spec->port == 0 ? 0 : every_ms, probe_attempt, probe);
    probe->deadline = loop_timer_new(loop, probe->timeout_ms, 0, probe_deadline, probe);
    if (probe->every == NULL || probe->deadline == NULL) {
        err_set(err, -ENOMEM, "probe: out of memory");
        return ready_probe_close(probe);
    }
    return probe;
}

const char *ready_probe_reason(const struct ready_probe *probe)
{
    return probe->reason;
}

const char *ready_probe_trouble(const struct ready_probe *probe)
{
    return !probe->ready && probe->trouble[0] != '\0' ? probe->trouble : NULL;
}

bool ready_probe_is_ready(const struct ready_probe *probe)
{
    return probe->ready;
}

struct ready_probe *ready_probe_close(struct ready_probe *probe)
{
    if (probe != NULL) {
        attempt_drop(probe);
        probe->every = loop_timer_close(probe->every);
        probe->deadline = loop_timer_close(probe->deadline);
        free(probe);
    }
    return NULL;
}
