/* Exchanges on their way between hosts: requests that another host has to answer.
 *
 * Shapes: struct forward keeps two tables: exchanges that we sent away (by our id) and
 * exchanges that others sent to us (by sender and their id). An answer travels as head,
 * data and end; input and the client's going away travel the other way. A host that falls
 * silent ends its exchanges: 503 when nothing had been answered, else the stream just
 * ends; it ends, too, when a piece of it was lost on the way, for a gap would be a lie.
 * What was meant for the leader and has no answer yet ends so when another host has led
 * for FORWARD_OLD_LEADER_MS: the old one may hang with its connections up, or be about to
 * answer as it hands over. Of those, reads and what has an Idempotency-Key do no harm
 * twice, and go back to be sent to the next leader instead of the 503. That one does not
 * remember keys for ever: it is told the revision that was known here when the request
 * was first sent, so that it does nothing again that it may have forgotten since
 * (exchange_repeat_since). Threads: the loop's. Limits: FORWARD_MAX in each table, one
 * more is answered 503 with Retry-After; FORWARD_HEAD_MS until the answer begins;
 * EXCHANGE_QUEUE_MAX bytes waiting per answer, one large piece excepted.
 */
#pragma once

#include "agent/link.h"
#include "api/exchange.h"
#include "base/clock.h"

#include <uv.h>

#define FORWARD_MAX           1024
#define FORWARD_HEAD_MS       10000
#define FORWARD_PIECE         32768 /* bytes of an answer per message */
#define FORWARD_OLD_LEADER_MS 500

struct forward;

struct forward_events {
    void *context;
    /* An exchange from another host, to be answered here; console_vm is not 0 when the
     * leader has authorised it as a console of that VM. The callee refs what it keeps. */
    void (*arrived)(void *context, struct exchange *exchange, uint64_t console_vm);
    /* The host that leads as far as known here; 0: none. */
    uint64_t (*leader)(void *context);
    /* A revision that the state has had by now, the newest known here; 0: none. NULL:
       what leaders' answers say is all that is known. */
    uint64_t (*revision)(void *context);
    /* What was meant for the leader, and is surely not done: that host is not connected,
       or says that it leads no more; or may be done twice. NULL: the client is told so.
     */
    void (*undone)(void *context, struct exchange *exchange);
};

/* NULL: no memory. Copies events, borrows the rest. */
struct forward *forward_new(uv_loop_t *loop,
                            const struct clock *clock,
                            struct link *link,
                            const struct forward_events *events);
struct forward *forward_free(struct forward *forward);
/* Sends the exchange to a host, with console_vm 0 as to the leader; it answers 503 by
 * itself when that cannot be done, as when the host is not connected. */
void forward_exchange(struct forward *forward,
                      uint64_t host,
                      struct exchange *exchange,
                      uint64_t console_vm);
/* Requests answered 503 since the start because FORWARD_MAX were under way, here or on
 * their way from here. */
uint64_t forward_turned_away(const struct forward *forward);

/* From the link. */
void forward_on_request(struct forward *forward,
                        const struct msg_member *from,
                        const struct msg_forward *message);
void forward_on_head(struct forward *forward,
                     const struct msg_member *from,
                     const struct msg_forward_head *message);
void forward_on_data(struct forward *forward,
                     const struct msg_member *from,
                     const struct msg_forward_data *message);
void forward_on_end(struct forward *forward,
                    const struct msg_member *from,
                    const struct msg_forward_end *message);
void forward_on_input(struct forward *forward,
                      const struct msg_member *from,
                      const struct msg_forward_data *message);
void forward_on_cancel(struct forward *forward,
                       const struct msg_member *from,
                       const struct msg_forward_end *message);
void forward_on_peer(struct forward *forward, uint64_t host, bool up);
