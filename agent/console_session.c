#include "agent/console_session.h"

#include "base/cleanup.h"
#include "base/list.h"
#include "base/loop.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RETRY_MS 20 /* until a slow reader is tried again */

struct console_sessions {
    uv_loop_t *loop;
    struct vm_supervisor *supervisor;
    struct list list;
};

struct console_session {
    struct list link;
    struct console_sessions *sessions;
    struct exchange *exchange;
    uint64_t vm;
    struct console_ring *ring;
    struct console_reader *reader;
    struct loop_timer *retry;
    uint64_t offset;
};

static void session_free(struct console_session *session)
{
    list_remove(&session->link);
    exchange_on_cancel(session->exchange, NULL, NULL);
    exchange_on_input(session->exchange, NULL, NULL);
    console_reader_close(session->reader);
    loop_timer_close(session->retry);
    exchange_unref(session->exchange);
    free(session);
}

static void session_cancelled(void *context)
{
    session_free(context);
}

/* Gives the reader what is there; false when it has to wait. */
static bool session_drain(struct console_session *session)
{
    char data[8192];
    for (;;) {
        uint64_t from = session->offset;
        uint64_t next = from;
        size_t size = console_ring_read(session->ring, &next, data, sizeof(data));
        if (size == 0) {
            return true;
        }
        if (next - size > from) {
            static const char gap[] = "\r\n[berth: output was lost here]\r\n";
            (void)exchange_data(session->exchange, gap,
                                sizeof(gap) - 1); /* best effort */
        }
        if (exchange_data(session->exchange, data, size) < 0) {
            return false;
        }
        session->offset = next;
    }
}

static void session_more(void *context)
{
    struct console_session *session = context;
    if (!session_drain(session)) {
        loop_timer_again(session->retry, RETRY_MS, 0);
    }
}

static void session_input(void *context, const void *data, size_t size)
{
    struct console_session *session = context;
    (void)vm_supervisor_console_write(session->sessions->supervisor, session->vm, data,
                                      size,
                                      NULL); /* a full line drops keys, as real ones do */
}

static void
answer_problem(struct exchange *exchange, int status, const char *title, const char *code)
{
    char text[256];
    int size = snprintf(
        text, sizeof(text),
        "{\"type\":\"about:blank\",\"title\":\"%s\",\"status\":%d,\"code\":\"%s\"}\n",
        title, status, code);
    exchange_answer(exchange, status, "application/problem+json", NULL, 0, text,
                    (size_t)size);
}

static void answer_text(struct exchange *exchange, struct console_ring *ring)
{
    CLEANUP_FREE char *text = malloc(CONSOLE_RING_SIZE);
    uint64_t offset = console_ring_begin(ring);
    if (text == NULL) {
        answer_problem(exchange, 503, "Out of memory", "ENOMEM");
        return;
    }
    size_t size = console_ring_read(ring, &offset, text, CONSOLE_RING_SIZE);
    exchange_answer(exchange, 200, "text/plain; charset=utf-8", NULL, 0, text, size);
}

void console_sessions_begin(struct console_sessions *sessions,
                            struct exchange *exchange,
                            uint64_t vm)
{
    struct console_ring *ring = vm_supervisor_console(sessions->supervisor, vm);
    if (ring == NULL) {
        answer_problem(exchange, 404, "The VM has no console on this host yet",
                       "BERTH_ENOTFOUND");
        return;
    }
    if (!exchange_request(exchange)->upgrade) {
        answer_text(exchange, ring);
        return;
    }
    struct console_session *session = calloc(1, sizeof(*session));
    if (session == NULL) {
        answer_problem(exchange, 503, "Out of memory", "ENOMEM");
        return;
    }
    list_push_back(&sessions->list, &session->link);
    session->sessions = sessions;
    session->exchange = exchange_ref(exchange);
    session->vm = vm;
    session->ring = ring;
    session->offset = console_ring_begin(ring);
    session->reader = console_reader_open(ring, session_more, session, NULL);
    session->retry = loop_timer_new(sessions->loop, RETRY_MS, 0, session_more, session);
    if (session->reader == NULL || session->retry == NULL) {
        answer_problem(exchange, 429, "Too many readers are at this console",
                       "BERTH_EFULL");
        session_free(session);
        return;
    }
    exchange_head(exchange, 101, NULL, NULL, 0);
    exchange_on_cancel(exchange, session_cancelled, session);
    exchange_on_input(exchange, session_input, session);
}

void console_sessions_end(struct console_sessions *sessions, uint64_t vm)
{
    LIST_EACH_SAFE (item, &sessions->list) {
        struct console_session *session = LIST_ITEM(item, struct console_session, link);
        if (vm == 0 || session->vm == vm) {
            exchange_end(session->exchange);
            session_free(session);
        }
    }
}

struct console_sessions *console_sessions_new(uv_loop_t *loop,
                                              struct vm_supervisor *supervisor)
{
    struct console_sessions *sessions = calloc(1, sizeof(*sessions));
    if (sessions != NULL) {
        sessions->loop = loop;
        sessions->supervisor = supervisor;
        list_init(&sessions->list);
    }
    return sessions;
}

struct console_sessions *console_sessions_free(struct console_sessions *sessions)
{
    if (sessions != NULL) {
        console_sessions_end(sessions, 0);
        free(sessions);
    }
    return NULL;
}
