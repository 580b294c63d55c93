#include "agent/berthd_internal.h"
#include "base/cleanup.h"

void berthd_tell_leader(struct berthd *berthd, uint64_t host)
{
    struct msg_not_leader answer;
    control_api_not_leader(&berthd->plane, &answer);
    if (answer.leader != 0 && answer.leader != host && answer.term != 0) {
        (void)link_send(berthd->link, host, MESSAGE_NOT_LEADER,
                        &answer); /* else its heartbeats find out */
    }
}

void berthd_tell_all(struct berthd *berthd)
{
    const struct state *state = control_state(berthd->plane.control);
    size_t cursor = 0;
    for (const struct host *host;
         (host = state_next(state, KIND_HOST, &cursor)) != NULL;) {
        if (host->status.voter == VOTER_NONE &&
            link_is_up(berthd->link, host->meta.uid)) {
            berthd_tell_leader(berthd, host->meta.uid);
        }
    }
}

static void
on_heartbeat(struct berthd *berthd, const struct msg_member *from, void *message)
{
    if (berthd->plane.leader != NULL && leader_leads(berthd->plane.leader)) {
        leader_on_heartbeat(berthd->plane.leader, from, message);
        return;
    }
    struct msg_not_leader answer;
    control_api_not_leader(&berthd->plane, &answer);
    (void)link_send(berthd->link, from->uid, MESSAGE_NOT_LEADER,
                    &answer); /* the next heartbeat asks again */
}

static void
on_confirm(struct berthd *berthd, const struct msg_member *from, void *message)
{
    const struct msg_confirm *question = message;
    if (berthd->plane.control != NULL) {
        const struct msg_confirmed answer = {
            .term = consensus_term(control_consensus(berthd->plane.control)),
            .round = question->round};
        (void)link_send(berthd->link, from->uid, MESSAGE_CONFIRMED,
                        &answer); /* the round is asked again */
    }
}

static void
on_confirmed(struct berthd *berthd, const struct msg_member *from, void *message)
{
    if (berthd->plane.leader != NULL) {
        leader_on_confirmed(berthd->plane.leader, from, message);
    }
}

#define WORKER_MESSAGE(function)                                                    \
    static void on_##function(struct berthd *berthd, const struct msg_member *from, \
                              void *message)                                        \
    {                                                                               \
        if (berthd->plane.worker != NULL) {                                         \
            worker_on_##function(berthd->plane.worker, from, message);              \
        }                                                                           \
    }
WORKER_MESSAGE(ack)
WORKER_MESSAGE(not_leader)
WORKER_MESSAGE(outdated)
WORKER_MESSAGE(orders)
WORKER_MESSAGE(blob_ask)
WORKER_MESSAGE(blob_chunk)

#define FORWARD_MESSAGE(function)                                                   \
    static void on_forward_##function(struct berthd *berthd,                        \
                                      const struct msg_member *from, void *message) \
    {                                                                               \
        forward_on_##function(berthd->plane.forward, from, message);                \
    }
FORWARD_MESSAGE(request)
FORWARD_MESSAGE(head)
FORWARD_MESSAGE(data)
FORWARD_MESSAGE(end)
FORWARD_MESSAGE(input)
FORWARD_MESSAGE(cancel)

typedef void
message_fn(struct berthd *berthd, const struct msg_member *from, void *message);

static message_fn *const message_fns[] = {
    [MESSAGE_HEARTBEAT - MESSAGE_TYPE_BASE] = on_heartbeat,
    [MESSAGE_ACK - MESSAGE_TYPE_BASE] = on_ack,
    [MESSAGE_NOT_LEADER - MESSAGE_TYPE_BASE] = on_not_leader,
    [MESSAGE_CONFIRM - MESSAGE_TYPE_BASE] = on_confirm,
    [MESSAGE_CONFIRMED - MESSAGE_TYPE_BASE] = on_confirmed,
    [MESSAGE_ORDERS - MESSAGE_TYPE_BASE] = on_orders,
    [MESSAGE_FORWARD - MESSAGE_TYPE_BASE] = on_forward_request,
    [MESSAGE_FORWARD_HEAD - MESSAGE_TYPE_BASE] = on_forward_head,
    [MESSAGE_FORWARD_DATA - MESSAGE_TYPE_BASE] = on_forward_data,
    [MESSAGE_FORWARD_END - MESSAGE_TYPE_BASE] = on_forward_end,
    [MESSAGE_FORWARD_INPUT - MESSAGE_TYPE_BASE] = on_forward_input,
    [MESSAGE_FORWARD_CANCEL - MESSAGE_TYPE_BASE] = on_forward_cancel,
    [MESSAGE_BLOB_ASK - MESSAGE_TYPE_BASE] = on_blob_ask,
    [MESSAGE_BLOB_CHUNK - MESSAGE_TYPE_BASE] = on_blob_chunk,
    [MESSAGE_OUTDATED - MESSAGE_TYPE_BASE] = on_outdated,
};

void berthd_on_message(void *context,
                       const struct msg_member *from,
                       enum message_type type,
                       void *message)
{
    struct berthd *berthd = context;
    unsigned index = (unsigned)type - MESSAGE_TYPE_BASE;
    if (!berthd->stopping && index < ARRAY_COUNT(message_fns) &&
        message_fns[index] != NULL) {
        message_fns[index](berthd, from, message);
    }
}
