#include "agent/leader_wait.h"

#include "api/api_problem.h"
#include "base/list.h"
#include "base/loop.h"

#include <stdlib.h>

struct waiting {
    struct list link;
    struct leader_wait *wait;
    struct exchange *exchange;
};

struct leader_wait {
    const struct clock *clock;
    struct leader_wait_events events;
    struct loop_timer *timer;
    struct list list;
    unsigned count;
};

#define NO_LEADER "the cluster has no leader that this host can reach"

static void refuse(struct exchange *exchange)
{
    const char *detail = exchange_in_doubt(exchange) ? NO_LEADER
                             "; what was asked may still have been done"
                                                     : NO_LEADER;
    problem_answer(exchange, &(struct problem){.code = BERTH_ENOLEADER, .detail = detail},
                   0);
}

/* The caller drops the reference. */
static struct exchange *take(struct waiting *waiting)
{
    struct exchange *exchange = waiting->exchange;
    exchange_on_cancel(exchange, NULL, NULL);
    list_remove(&waiting->link);
    waiting->wait->count--;
    free(waiting);
    return exchange;
}

static void cancelled(void *context)
{
    exchange_unref(take(context));
}

static void look(void *context)
{
    struct leader_wait *wait = context;
    bool ready = wait->events.ready(wait->events.context);
    uint64_t now_ms = clock_now_ms(wait->clock);
    struct list list;
    list_init(&list);
    list_move_all(&list, &wait->list);
    /* those that are added meanwhile wait for the next time */
    for (struct list *link; (link = list.next) != &list;) {
        struct waiting *waiting = LIST_ITEM(link, struct waiting, link);
        if (!ready && now_ms < exchange_wait_until(waiting->exchange)) {
            list_remove(link);
            list_push_back(&wait->list, link);
            continue;
        }
        struct exchange *exchange = take(waiting);
        if (ready) {
            wait->events.again(wait->events.context, exchange);
        } else {
            refuse(exchange);
        }
        exchange_unref(exchange);
    }
    if (wait->count > 0) {
        loop_timer_again(wait->timer, LEADER_WAIT_EVERY_MS, 0);
    }
}

void leader_wait_add(struct leader_wait *wait, struct exchange *exchange)
{
    uint64_t now_ms = clock_now_ms(wait->clock);
    if (exchange_wait_until(exchange) == 0) {
        exchange_set_wait_until(exchange, now_ms + LEADER_WAIT_MS);
    }
    struct waiting *waiting =
        wait->count < LEADER_WAIT_MAX && now_ms < exchange_wait_until(exchange)
            ? malloc(sizeof(*waiting))
            : NULL;
    if (waiting == NULL) {
        refuse(exchange);
        return;
    }
    *waiting = (struct waiting){.wait = wait, .exchange = exchange_ref(exchange)};
    list_push_back(&wait->list, &waiting->link);
    exchange_on_cancel(exchange, cancelled, waiting);
    if (wait->count++ == 0) {
        loop_timer_again(wait->timer, LEADER_WAIT_EVERY_MS, 0);
    }
}

struct leader_wait *leader_wait_new(uv_loop_t *loop,
                                    const struct clock *clock,
                                    const struct leader_wait_events *events)
{
    struct leader_wait *wait = calloc(1, sizeof(*wait));
    if (wait == NULL) {
        return NULL;
    }
    wait->clock = clock;
    wait->events = *events;
    list_init(&wait->list);
    wait->timer = loop_timer_new(loop, LEADER_WAIT_EVERY_MS, 0, look, wait);
    return wait->timer != NULL ? wait : leader_wait_free(wait);
}

struct leader_wait *leader_wait_free(struct leader_wait *wait)
{
    if (wait == NULL) {
        return NULL;
    }
    loop_timer_close(wait->timer);
    LIST_EACH_SAFE (link, &wait->list) {
        struct exchange *exchange = take(LIST_ITEM(link, struct waiting, link));
        refuse(exchange);
        exchange_unref(exchange);
    }
    free(wait);
    return NULL;
}
