#include "agent/forward.h"

#include "base/cleanup.h"
#include "base/list.h"
#include "base/log.h"
#include "base/loop.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TICK_MS       250
#define TICK_SLACK_MS 250 /* what it looks for takes seconds, if it comes at all */
#define PUMP_MS       5   /* between tries when the mesh's queue is full */
#define HEADERS_MAX   32

/* One that we sent away. */
struct away {
    struct list link;
    struct forward *forward;
    uint64_t id;
    uint64_t host;
    uint64_t sent_ms;
    bool to_leader;
    bool head;
    bool spoke;        /* bytes of the client went after it: they are gone */
    uint64_t received; /* bytes of the answer */
    struct exchange *exchange;
};

/* One that another host sent us: the sink of its exchange. */
struct visiting {
    struct list link;
    struct forward *forward; /* NULL once the forward is gone */
    uint64_t id;
    uint64_t host;
    struct exchange *exchange; /* borrowed: the exchange owns this sink */
    uint8_t *waiting;          /* bytes that the mesh had no room for yet */
    size_t waiting_size;
    size_t waiting_capacity;
    uint64_t sent; /* bytes of the answer */
    bool refused;  /* data was not taken: say when there is room again */
    bool ended;    /* send END after what waits */
    bool cut;      /* ended because the right to it was taken away */
    bool over;     /* nothing is sent any more */
};

struct forward {
    const struct clock *clock;
    struct link *link;
    struct forward_events events;
    uint64_t next_id;
    struct list away;
    unsigned away_count;
    struct list visiting;
    unsigned visiting_count;
    uint64_t turned_away;
    uint64_t revision; /* the highest of leaders' answers */
    uint64_t leader;   /* as of the last tick */
    uint64_t leader_since_ms;
    struct loop_timer *tick;
    struct loop_timer *pump;
};

/* ---- sent away
 * --------------------------------------------------------------------------------------
 */

#define REFUSAL_TYPE "application/problem+json"
#define TOO_MANY     "Too many requests are under way"

static const struct exchange_header retry_soon[] = {{"Retry-After", "1"}};

static int refusal_text(char text[512], int status, const char *title, const char *detail)
{
    return snprintf(text, 512,
                    "{\"type\":\"about:blank\",\"title\":\"%s\",\"status\":%d,"
                    "\"code\":\"BERTH_ENOLEADER\",\"detail\":\"%s\"}\n",
                    title, status, detail);
}

#define MAY_BE_DONE "what was asked may still have been done"

static void
refuse(struct exchange *exchange, int status, const char *title, const char *detail)
{
    char text[512];
    int size = refusal_text(text, status, title, detail);
    exchange_answer(exchange, status, REFUSAL_TYPE, retry_soon, 1, text, (size_t)size);
}

static void away_release(struct away *away)
{
    list_remove(&away->link);
    away->forward->away_count--;
    exchange_on_cancel(away->exchange, NULL, NULL);
    exchange_on_input(away->exchange, NULL, NULL);
    exchange_unref(away->exchange);
    free(away);
}

static void away_fail(struct away *away, const char *detail)
{
    if (!away->head) {
        refuse(away->exchange, 503, "The host that has to answer does not", detail);
    } else {
        exchange_end(away->exchange);
    }
    away_release(away);
}

static void away_return(struct away *away)
{
    struct forward *forward = away->forward;
    struct exchange *exchange = exchange_ref(away->exchange);
    away_release(away);
    forward->events.undone(forward->events.context, exchange);
    exchange_unref(exchange);
}

static void refuse_for_now(struct exchange *exchange)
{
    refuse(exchange, 503, TOO_MANY,
           exchange_in_doubt(exchange) ? "try again; " MAY_BE_DONE : "try again");
}

/* What it was to do may be done, and is done once all the same: the log knows the key, or
 * the next leader knows that it may have forgotten it. */
static bool may_repeat(const struct away *away)
{
    const struct exchange_request *request = exchange_request(away->exchange);
    return away->to_leader && !away->head && !away->spoke &&
           away->forward->events.undone != NULL &&
           (strcmp(request->method, "GET") == 0 || request->idempotency_key != NULL);
}

static void away_lose(struct away *away, const char *detail)
{
    if (may_repeat(away)) {
        exchange_set_repeat(away->exchange);
        if (strcmp(exchange_request(away->exchange)->method, "GET") != 0) {
            exchange_set_in_doubt(away->exchange);
        }
        away_return(away);
    } else {
        away_fail(away, detail);
    }
}

static struct away *
away_find(struct forward *forward, const struct msg_member *from, uint64_t id)
{
    LIST_EACH (item, &forward->away) {
        struct away *away = LIST_ITEM(item, struct away, link);
        if (away->id == id && away->host == from->uid) {
            return away;
        }
    }
    return NULL;
}

/* Nobody takes its answer any more: else one that begins late, and does not end by
 * itself, goes on for as long as the connection does. */
static void away_call_off(const struct away *away)
{
    const struct msg_forward_end message = {.id = away->id};
    (void)link_send(
        away->forward->link, away->host, MESSAGE_FORWARD_CANCEL,
        &message); /* else the other side notices when its answer is not taken */
}

static void away_cancelled(void *context)
{
    struct away *away = context;
    away_call_off(away);
    away_release(away);
}

static void away_input(void *context, const void *data, size_t size)
{
    struct away *away = context;
    const uint8_t *bytes = data;
    away->spoke = true;
    for (size_t at = 0; at < size; at += FORWARD_PIECE) {
        size_t piece = size - at < FORWARD_PIECE ? size - at : FORWARD_PIECE;
        const struct msg_forward_data message = {
            .id = away->id,
            .data = {.data = (uint8_t *)(uintptr_t)(bytes + at),
                     .size = (uint32_t)piece}};
        if (link_send(away->forward->link, away->host, MESSAGE_FORWARD_INPUT, &message) <
            0) {
            away_fail(away, "its queue is full");
            return;
        }
    }
}

/* The log had this before it can have had what is sent now. */
static uint64_t revision_known(const struct forward *forward)
{
    const uint64_t here = forward->events.revision != NULL
                              ? forward->events.revision(forward->events.context)
                              : 0;
    return here > forward->revision ? here : forward->revision;
}

void forward_exchange(struct forward *forward,
                      uint64_t host,
                      struct exchange *exchange,
                      uint64_t console_vm)
{
    CLEANUP_FREE uint8_t *request = NULL;
    size_t size = 0;
    if (!link_is_up(forward->link, host)) { /* or it would wait for the host to return */
        if (console_vm == 0 && forward->events.undone != NULL) {
            forward->events.undone(forward->events.context, exchange);
            return;
        }
        refuse(exchange, 503, "The host that has to answer does not",
               "it is not connected");
        return;
    }
    struct away *away =
        forward->away_count < FORWARD_MAX ? calloc(1, sizeof(*away)) : NULL;
    if (away == NULL ||
        exchange_request_encode(exchange_request(exchange), &request, &size) < 0) {
        free(away);
        forward->turned_away++;
        refuse_for_now(exchange);
        return;
    }
    *away = (struct away){.forward = forward,
                          .id = ++forward->next_id,
                          .host = host,
                          .sent_ms = clock_now_ms(forward->clock),
                          .to_leader = console_vm == 0,
                          .exchange = exchange_ref(exchange)};
    list_push_back(&forward->away, &away->link);
    forward->away_count++;
    exchange_on_cancel(exchange, away_cancelled, away);
    exchange_on_input(exchange, away_input, away);
    if (away->to_leader) {
        exchange_note_asked(exchange, revision_known(forward));
    }
    const struct msg_forward message = {
        .id = away->id,
        .console_vm = console_vm,
        .repeat_since = away->to_leader ? exchange_repeat_since(exchange) : 0,
        .request = {.data = request, .size = (uint32_t)size}};
    int r = link_send(forward->link, host, MESSAGE_FORWARD, &message);
    if (r < 0) {
        away_fail(away, exchange_in_doubt(exchange) ? MAY_BE_DONE : err_sentence(r));
    }
}

static void learn_revision(struct forward *forward, const struct msg_header *header)
{
    if (strcmp(header->name, EXCHANGE_REVISION) == 0) {
        const uint64_t revision = strtoull(header->value, NULL, 10);
        forward->revision = revision > forward->revision && revision != ULLONG_MAX
                                ? revision
                                : forward->revision;
    }
}

static bool says_undone(const struct msg_forward_head *message)
{
    bool undone = false;
    for (uint32_t i = 0; i < message->headers.count && message->status == 503; i++) {
        const char *name = message->headers.items[i].name;
        undone |= name != NULL && strcmp(name, EXCHANGE_UNDONE) == 0;
    }
    return undone;
}

void forward_on_head(struct forward *forward,
                     const struct msg_member *from,
                     const struct msg_forward_head *message)
{
    struct away *away = away_find(forward, from, message->id);
    struct exchange_header headers[HEADERS_MAX];
    unsigned count = 0;
    if (away == NULL || away->head) {
        return;
    }
    for (uint32_t i = 0; i < message->headers.count && count < HEADERS_MAX; i++) {
        const struct msg_header *header = &message->headers.items[i];
        if (header->name != NULL && header->value != NULL) {
            headers[count++] = (struct exchange_header){header->name, header->value};
            if (away->to_leader) {
                learn_revision(forward, header);
            }
        }
    }
    if (away->to_leader && forward->events.undone != NULL && says_undone(message)) {
        away_return(away);
        return;
    }
    away->head = true;
    exchange_head(away->exchange, (int)message->status, message->content_type, headers,
                  count);
}

void forward_on_data(struct forward *forward,
                     const struct msg_member *from,
                     const struct msg_forward_data *message)
{
    struct away *away = away_find(forward, from, message->id);
    if (away == NULL || !away->head) {
        return;
    }
    bool gap = message->offset != away->received;
    away->received += message->data.size;
    if (gap ||
        exchange_data(away->exchange, message->data.data, message->data.size) < 0) {
        /* The way or the client does not keep up; a gap would be a lie, so its stream
         * ends and it resumes. */
        struct exchange *exchange = exchange_ref(away->exchange);
        away_cancelled(away);
        exchange_end(exchange);
        exchange_unref(exchange);
    }
}

void forward_on_end(struct forward *forward,
                    const struct msg_member *from,
                    const struct msg_forward_end *message)
{
    struct away *away = away_find(forward, from, message->id);
    if (away == NULL) {
        return;
    }
    if (message->cut) {
        struct exchange *exchange = exchange_ref(away->exchange);
        away_release(away); /* so that nobody is told that its client has gone */
        exchange_revoke(exchange);
        exchange_unref(exchange);
        return;
    }
    if (away->head) {
        exchange_end(away->exchange);
    } else { /* nothing was begun: it was turned away */
        refuse_for_now(away->exchange);
    }
    away_release(away);
}

/* ---- visiting
 * ---------------------------------------------------------------------------------------
 */

static void visiting_over(struct visiting *visiting)
{
    if (!visiting->over) {
        visiting->over = true;
        free(visiting->waiting);
        visiting->waiting = NULL;
        visiting->waiting_size = 0;
        list_remove(&visiting->link);
        if (visiting->forward != NULL) {
            visiting->forward->visiting_count--;
        }
    }
}

/* Sends what waits, as far as the mesh takes it. */
static void visiting_pump(struct visiting *visiting)
{
    size_t sent = 0;
    while (sent < visiting->waiting_size) {
        size_t left = visiting->waiting_size - sent;
        const struct msg_forward_data message = {
            .id = visiting->id,
            .offset = visiting->sent,
            .data = {.data = visiting->waiting + sent,
                     .size = (uint32_t)(left < FORWARD_PIECE ? left : FORWARD_PIECE)}};
        int r = link_send(visiting->forward->link, visiting->host, MESSAGE_FORWARD_DATA,
                          &message);
        if (r == BERTH_EFULL) {
            break;
        }
        if (r < 0) {
            visiting_over(visiting);
            return;
        }
        sent += message.data.size;
        visiting->sent += message.data.size;
    }
    visiting->waiting_size -= sent;
    if (visiting->waiting_size > 0) {
        memmove(visiting->waiting, visiting->waiting + sent, visiting->waiting_size);
        loop_timer_again(visiting->forward->pump, PUMP_MS, 0);
    }
    if (visiting->ended && visiting->waiting_size == 0) {
        const struct msg_forward_end message = {.id = visiting->id, .cut = visiting->cut};
        int r = link_send(visiting->forward->link, visiting->host, MESSAGE_FORWARD_END,
                          &message);
        if (r != BERTH_EFULL) {
            visiting_over(visiting);
        } else {
            loop_timer_again(visiting->forward->pump, PUMP_MS, 0);
        }
    }
}

static void sink_head(void *sink,
                      int status,
                      const char *content_type,
                      const struct exchange_header *headers,
                      unsigned header_count)
{
    struct visiting *visiting = sink;
    struct msg_header list[HEADERS_MAX];
    unsigned count = header_count < HEADERS_MAX ? header_count : HEADERS_MAX;
    if (visiting->over) {
        return;
    }
    for (unsigned i = 0; i < count; i++) {
        list[i].name = (char *)(uintptr_t)headers[i].name;
        list[i].value = (char *)(uintptr_t)headers[i].value;
    }
    const struct msg_forward_head message = {
        .id = visiting->id,
        .status = (uint32_t)status,
        .content_type = (char *)(uintptr_t)content_type,
        .headers = {.items = list, .count = count},
    };
    if (link_send(visiting->forward->link, visiting->host, MESSAGE_FORWARD_HEAD,
                  &message) < 0) {
        visiting_over(visiting); /* the asker gives up by its own deadline */
    }
}

static int sink_data(void *sink, const void *data, size_t size)
{
    struct visiting *visiting = sink;
    if (visiting->over) {
        return BERTH_ECLOSED;
    }
    if (visiting->waiting_size >= EXCHANGE_QUEUE_MAX) {
        visiting->refused = true;
        return BERTH_EFULL;
    }
    if (visiting->waiting_size + size > visiting->waiting_capacity) {
        uint8_t *waiting = realloc(visiting->waiting, visiting->waiting_size + size);
        if (waiting == NULL) {
            return -ENOMEM;
        }
        visiting->waiting = waiting;
        visiting->waiting_capacity = visiting->waiting_size + size;
    }
    if (size > 0) {
        memcpy(visiting->waiting + visiting->waiting_size, data, size);
        visiting->waiting_size += size;
    }
    visiting_pump(visiting);
    return 0;
}

static void sink_end(void *sink)
{
    struct visiting *visiting = sink;
    visiting->ended = true;
    if (!visiting->over) {
        visiting_pump(visiting);
    }
}

/* Revoked: what waits here is not sent, and the asker gives out nothing more. */
static void sink_cut(void *sink)
{
    struct visiting *visiting = sink;
    visiting->cut = true;
    visiting->waiting_size = 0;
    sink_end(visiting);
}

static void sink_released(void *sink)
{
    struct visiting *visiting = sink;
    if (!visiting->over && visiting->ended) {
        visiting->exchange = NULL; /* still has bytes to send; visiting_sweep frees it */
        return;
    }
    visiting_over(visiting);
    free(visiting);
}

static const struct exchange_sink visiting_sink = {.head = sink_head,
                                                   .data = sink_data,
                                                   .end = sink_end,
                                                   .cut = sink_cut,
                                                   .released = sink_released};

static struct visiting *
visiting_find(struct forward *forward, const struct msg_member *from, uint64_t id)
{
    LIST_EACH (item, &forward->visiting) {
        struct visiting *visiting = LIST_ITEM(item, struct visiting, link);
        if (visiting->id == id && visiting->host == from->uid) {
            return visiting;
        }
    }
    return NULL;
}

/* Says in one message, so that none of it can be missing, that there is no room for it.
 */
static void turn_away(struct forward *forward, uint64_t host, uint64_t id)
{
    const struct msg_forward_end end = {.id = id};
    forward->turned_away++;
    if (link_send(forward->link, host, MESSAGE_FORWARD_END, &end) < 0) {
        log_warn("forward", "a host could not be told that its request was turned away",
                 KV_U64("host", host)); /* it gives up by its own deadline */
    }
}

void forward_on_request(struct forward *forward,
                        const struct msg_member *from,
                        const struct msg_forward *message)
{
    struct exchange_request request;
    if (forward->visiting_count >= FORWARD_MAX) {
        turn_away(forward, from->uid, message->id);
        return;
    }
    if (visiting_find(forward, from, message->id) != NULL ||
        exchange_request_decode(message->request.data, message->request.size, &request) <
            0) {
        log_warn("forward", "request from another host was dropped",
                 KV_STR("from", from->name));
        return;
    }
    struct visiting *visiting = calloc(1, sizeof(*visiting));
    if (visiting == NULL) {
        exchange_request_fini(&request);
        turn_away(forward, from->uid, message->id);
        return;
    }
    request.credentials.forwarder = from->uid;
    visiting->forward = forward;
    visiting->id = message->id;
    visiting->host = from->uid;
    list_push_back(&forward->visiting, &visiting->link);
    forward->visiting_count++;
    struct exchange *exchange = exchange_new(&request, &visiting_sink, visiting);
    if (exchange == NULL) {
        exchange_request_fini(&request);
        visiting_over(visiting);
        free(visiting);
        return;
    }
    visiting->exchange = exchange;
    if (message->repeat_since != 0) {
        exchange_note_asked(exchange, message->repeat_since);
        exchange_set_repeat(exchange);
    }
    forward->events.arrived(forward->events.context, exchange, message->console_vm);
    exchange_unref(exchange);
}

void forward_on_input(struct forward *forward,
                      const struct msg_member *from,
                      const struct msg_forward_data *message)
{
    struct visiting *visiting = visiting_find(forward, from, message->id);
    if (visiting != NULL && visiting->exchange != NULL) {
        exchange_input(visiting->exchange, message->data.data, message->data.size);
    }
}

static void visiting_drop(struct visiting *visiting)
{
    struct exchange *exchange = visiting->exchange;
    visiting_over(visiting);
    if (exchange == NULL) {
        free(visiting);
    } else {
        exchange_cancel(exchange); /* releases it, and with it the sink */
    }
}

void forward_on_cancel(struct forward *forward,
                       const struct msg_member *from,
                       const struct msg_forward_end *message)
{
    struct visiting *visiting = visiting_find(forward, from, message->id);
    if (visiting != NULL) {
        visiting_drop(visiting);
    }
}

/* ---- both
 * -------------------------------------------------------------------------------------------
 */

void forward_on_peer(struct forward *forward, uint64_t host, bool up)
{
    if (up) {
        return;
    }
    LIST_EACH_SAFE (item, &forward->away) {
        struct away *away = LIST_ITEM(item, struct away, link);
        if (away->host == host) {
            away_lose(away, "the connection to it was lost");
        }
    }
    LIST_EACH_SAFE (item, &forward->visiting) {
        struct visiting *visiting = LIST_ITEM(item, struct visiting, link);
        if (visiting->host == host) {
            visiting_drop(visiting);
        }
    }
}

static void on_tick(void *context)
{
    struct forward *forward = context;
    uint64_t now_ms = clock_now_ms(forward->clock);
    uint64_t leader = forward->events.leader(forward->events.context);
    if (leader != forward->leader) {
        forward->leader = leader;
        forward->leader_since_ms = now_ms;
    }
    bool settled =
        leader != 0 && now_ms - forward->leader_since_ms >= FORWARD_OLD_LEADER_MS;
    LIST_EACH_SAFE (item, &forward->away) {
        struct away *away = LIST_ITEM(item, struct away, link);
        if (away->head) {
            continue;
        }
        if (now_ms - away->sent_ms >= FORWARD_HEAD_MS) {
            away_call_off(away);
            away_fail(away, "no answer in time; " MAY_BE_DONE);
        } else if (away->to_leader && settled && leader != away->host) {
            away_call_off(away);
            away_lose(away, "another host leads now; " MAY_BE_DONE);
        }
    }
}

static void on_pump(void *context)
{
    struct forward *forward = context;
    LIST_EACH_SAFE (item, &forward->visiting) {
        struct visiting *visiting = LIST_ITEM(item, struct visiting, link);
        if (visiting->waiting_size > 0 || visiting->ended) {
            visiting_pump(visiting);
        }
        if (visiting->over && visiting->exchange == NULL) {
            free(visiting);
        } else if (visiting->refused && !visiting->over && !visiting->ended &&
                   visiting->waiting_size < EXCHANGE_QUEUE_MAX / 2) {
            visiting->refused = false;
            exchange_room(visiting->exchange);
        }
    }
}

struct forward *forward_new(uv_loop_t *loop,
                            const struct clock *clock,
                            struct link *link,
                            const struct forward_events *events)
{
    struct forward *forward = calloc(1, sizeof(*forward));
    if (forward == NULL) {
        return NULL;
    }
    forward->clock = clock;
    forward->link = link;
    forward->events = *events;
    list_init(&forward->away);
    list_init(&forward->visiting);
    forward->tick = loop_timer_new(loop, TICK_MS, TICK_MS, on_tick, forward);
    forward->pump = loop_timer_new(loop, PUMP_MS, 0, on_pump, forward);
    if (forward->tick == NULL || forward->pump == NULL) {
        return forward_free(forward);
    }
    loop_timer_slacken(forward->tick, TICK_SLACK_MS);
    return forward;
}

struct forward *forward_free(struct forward *forward)
{
    if (forward == NULL) {
        return NULL;
    }
    loop_timer_close(forward->tick);
    loop_timer_close(forward->pump);
    LIST_EACH_SAFE (item, &forward->away) {
        away_fail(LIST_ITEM(item, struct away, link), "this host is going down");
    }
    LIST_EACH_SAFE (item, &forward->visiting) {
        struct visiting *visiting = LIST_ITEM(item, struct visiting, link);
        visiting_drop(visiting);
    }
    free(forward);
    return NULL;
}

uint64_t forward_turned_away(const struct forward *forward)
{
    return forward->turned_away;
}
