/* Requests for the leader while there is none to be asked: they wait for the next one.
 *
 * Shapes: a struct leader_wait holds exchanges and looks every LEADER_WAIT_EVERY_MS
 * whether there is a leader by now; then each goes the way that it would go if it came
 * then. What waits has not been done, for it had not been sent, or was answered so; or it
 * does no harm twice (agent/forward.h): of what changes anything the 503 then says that
 * it may still have been done (exchange_in_doubt). An exchange waits LEADER_WAIT_MS in
 * all, however often it is added, and at most LEADER_WAIT_MAX do; others are answered 503
 * at once. Threads: the loop's. Ownership: refs what it holds.
 */
#pragma once

#include "api/exchange.h"
#include "base/clock.h"

#include <uv.h>

#define LEADER_WAIT_MS       3000
#define LEADER_WAIT_EVERY_MS 10
#define LEADER_WAIT_MAX      1024

struct leader_wait;

struct leader_wait_events {
    void *context;
    /* Whether there is a leader that can be asked: another host, or this one. */
    bool (*ready)(void *context);
    /* The exchange once more. */
    void (*again)(void *context, struct exchange *exchange);
};

/* NULL: no memory. */
struct leader_wait *leader_wait_new(uv_loop_t *loop,
                                    const struct clock *clock,
                                    const struct leader_wait_events *events);
/* What waits is answered 503. NULL is fine; returns NULL. */
struct leader_wait *leader_wait_free(struct leader_wait *wait);
void leader_wait_add(struct leader_wait *wait, struct exchange *exchange);
