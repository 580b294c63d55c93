/* One request on its way through the API: who, what, and what is still awaited. Inside
 * the room only.
 *
 * Shapes: the router makes a struct api_call, authenticates and authorises it and runs
 * the route's handler with the state; the handler answers at once (call_answer,
 * call_fail) or proposes commands (call_propose) and answers in its `done`. Every handler
 * ends in exactly one of those. Deadlines: CALL_READ_MS until the handler runs,
 * CALL_PROPOSE_MS after; a call that is late is answered for it (504) and goes when its
 * last callback came. Request ids: with an Idempotency-Key derived from subject, key and
 * the number of the command in the request (the guard is 0; a handler that leaves some
 * out on a retry numbers them itself), so that a retry is answered by the replicated
 * memory, whatever its commands would be by now; their first bytes are the subject's, of
 * whom no more than a share is remembered; a NOOP with a fingerprint of the request is
 * the guard that goes first, so that the same key with another body is refused before
 * anything is done. Of a key that nobody has used, guard and command go into the log
 * together, one behind the other: the leader has applied all that was there before it
 * led, and knows what is under way since (is_first in router.c). Threads: the loop's.
 */
#pragma once

#include "api/api_problem.h"
#include "api/control_plane.h"
#include "api/query.h"
#include "api/routes.h"
#include "base/json_view.h"
#include "base/json_writer.h"
#include "base/list.h"
#include "base/loop.h"
#include "model/command.h"

#include <uv.h>

#define CALL_READ_MS     4000 /* below the forwarding host's patience */
#define CALL_PROPOSE_MS  8000
#define CALLS_MAX        1024
#define CALLS_SHARE      256 /* of one token */
#define CALLS_HOST_SHARE 512 /* of one host that sends on what it is asked */

struct api_watches;
struct api_consoles;
struct api_trials;
struct api_backups;
struct metrics_gate;

struct api {
    uv_loop_t *loop;
    const struct control_plane *control;
    struct list calls;
    unsigned call_count;
    struct loop_timer *tick;
    struct api_watches *watches;
    struct api_consoles *consoles;
    struct api_trials *trials;
    struct api_backups *backups;
    struct metrics_gate *metrics_gate;
    uint64_t requests_total;
    uint64_t problems_total;
    /* Commands of requests with a key whose outcome is unknown: they may be in the log
       still, under way without a call. Those before the last barrier are not. */
    uint64_t doubts;
    uint64_t doubts_settled;
};

struct api_call {
    struct list link;
    struct api *api; /* NULL once the API is gone */
    struct exchange *exchange;
    const struct route *route;
    struct route_target target;
    struct query query;
    struct subject subject;
    struct json_view *body; /* when the route reads one */
    uint64_t revision;      /* of the state the handler saw */
    uint64_t wall_ms;       /* when it arrived */
    uint64_t deadline_ms;   /* on the loop's clock; 0: none */
    /* Not NULL: nothing shows yet that this host still leads. Whoever would answer calls
       this instead: the call begins anew behind a read barrier. */
    void (*confirm)(struct api_call *call);
    bool trial;    /* waits for its turn in the line of dry runs */
    bool repeated; /* the guard had been there before: a retry */
    bool keyed;    /* has a key, with the guard's id */
    bool first;    /* of its key, as far as is known here */
    bool settles;  /* waits behind a barrier for doubts about other keys */
    bool doubted;  /* of another with its key the outcome is unknown since it came */
    uint8_t guard_id[REQUEST_ID_SIZE];
    uint32_t fingerprint;      /* what the guard says */
    bool leads_guard;          /* the next call_propose puts the guard in front */
    unsigned guards_ahead;     /* 1: the last one did */
    struct apply_result guard; /* what became of that guard */
    uint64_t doubts;           /* of the API, when the read barrier began */
    unsigned awaited;          /* callbacks that are still to come */
    bool over;                 /* the handler is through: free when nothing is awaited */
    uint32_t next_command;     /* number of the next command of this request */
    const uint32_t *numbers;   /* of the commands of the next call_propose, or NULL */
    struct apply_result *results; /* of the last call_propose */
    uint32_t *places;             /* of what was proposed of it, among the results */
    bool recalled;                /* its first result is that of an earlier try */
    uint32_t result_count;
    void (*done)(struct api_call *call);
    void *context; /* the handler's; freed by context_free */
    void (*context_free)(void *context);
};

/* May the subject enter this route? 0, BERTH_EFORBIDDEN or BERTH_ENOTFOUND. */
int route_judge(const struct route *route,
                const struct route_target *target,
                const struct subject *subject,
                const struct state *state);
/* The state as applied here, for answering after a proposal; NULL when there is none. */
const struct state *call_state(const struct api_call *call);
/* 200 or `status` with the document (taken; NULL is out of memory). etag 0: none. Ends
 * the call. */
void call_answer(struct api_call *call, int status, json_t *take_document, uint64_t etag);
/* Begins the JSON of an answer, for call_answer_written: bounded as answers are. */
void call_json_begin(struct bytes_writer *text, struct json_writer *ret_writer);
/* As call_answer with the JSON that was written, which may have failed. */
void call_answer_written(struct api_call *call,
                         int status,
                         struct bytes_writer *take_text,
                         uint64_t etag);
/* As above with a text of any type. */
void call_answer_text(struct api_call *call,
                      int status,
                      const char *content_type,
                      const char *text);
/* A problem; ends the call. */
void call_fail(struct api_call *call, int code, const char *detail);
void call_fail_with(struct api_call *call, const struct problem *problem);
/* 404 for the target's object. */
void call_fail_missing(struct api_call *call);
/* Whether the caller may ask for a list: of a kind of the cluster (KIND_NONE: several)
 * and of a tenant (NULL: all). If not, the call has failed: an empty list would read as
 * if there were nothing. What of tenants' objects may be seen is filtered one by one. */
bool call_may_list(struct api_call *call,
                   const struct state *state,
                   enum kind kind,
                   const char *tenant);
/* A member of the body that is true or false; false when it is not there. 0 or
 * BERTH_EINVALID. */
int call_flag(const struct api_call *call,
              const char *name,
              bool *ret_flag,
              struct err *err);
/* Over without an answer from here: the exchange went elsewhere. */
void call_leave(struct api_call *call);

/* Stamps subject and request ids and proposes; `done` runs when all of call->results are
 * there (code is the transport's when that failed); at once when all were answered to an
 * earlier try, and then inside this call: `done` may end the call, so that whoever
 * proposes touches nothing of the call's afterwards. The commands are borrowed, and their
 * order may change. */
void call_propose(struct api_call *call,
                  struct command *commands,
                  uint32_t count,
                  void (*done)(struct api_call *call));
/* The id of the call's command of that number: for its key, or a new one. */
void call_request_id(const struct api_call *call,
                     uint32_t number,
                     uint8_t ret_id[REQUEST_ID_SIZE]);
/* Both have the same key, and they are two. */
bool call_shares_key(const struct api_call *call, const struct api_call *other);
/* The command that is the guard, without its id. */
void call_guard(const struct api_call *call, struct command *ret_command);
/* The first result that failed, or NULL. */
const struct apply_result *call_refusal(const struct api_call *call);
/* If-Match and If-None-Match as expected_revision of a command; BERTH_EINVALID. */
int call_expected_revision(const struct api_call *call,
                           uint64_t *ret_revision,
                           struct err *err);
/* Fails the call with a refusal of apply; a precondition that was not met is 412. */
void call_refuse(struct api_call *call, const struct apply_result *refusal);

/* A JSON answer on an exchange: headers, document, end. */
void call_send_json(struct exchange *exchange,
                    int status,
                    json_t *take_document,
                    uint64_t revision,
                    uint64_t etag);
