/* The control plane's replicated half on a voter: log, state machine, change feed.
 *
 * Shapes: struct control owns a consensus member (folder <state>/raft), the struct state
 * that its log makes, and the feed of changes. It has no opinion: agent/leader.h decides,
 * the API asks. Threads: the loop's. Ownership: pointers from control_state and
 * control_feed are borrowed and valid until the loop turns. No callback runs inside a
 * call. Errors: as consensus.h; on_fatal means that the process has to end. Levels
 * (model/level.h): nothing above the state's is proposed; an entry or snapshot of one
 * that this member takes no part in is on_fatal, with what to do.
 */
#pragma once

#include "agent/members.h"
#include "base/clock.h"
#include "base/err.h"
#include "consensus/consensus.h"
#include "model/feed.h"
#include "model/state.h"

#include <uv.h>

#define CONTROL_PROPOSE_MS                                      \
    5000 /* a proposal that takes longer has an unknown outcome \
          */

struct control;

struct control_config {
    uv_loop_t *loop;
    const struct clock *clock;
    const char *folder; /* <state>/raft; made when missing */
    uint64_t raft_id;
    uint64_t cluster_id;
    const char *address;           /* "ip:port" of the log's channel */
    const uint8_t *secret_key;     /* of the host, 32 bytes */
    struct level_range levels;     /* of the state, that this member takes part in */
    const struct members *members; /* who may be called, and with a part in the log may
                                      call; borrowed, its content may change */
};

struct control_events {
    void *context;
    void (*on_leadership)(void *context, bool is_leader, uint64_t term);
    /* From within apply: note it, decide later. */
    void (*on_change)(void *context, const struct change *change);
    /* The state was replaced as a whole. */
    void (*on_restored)(void *context);
    void (*on_fatal)(void *context, const struct err *why);
};

/* Opens and starts the member; with bootstrap a new cluster of one is made first
 * (BERTH_EEXISTS when the folder holds one already). */
int control_open(const struct control_config *config,
                 const struct control_events *events,
                 bool bootstrap,
                 struct control **ret_control,
                 struct err *err);
/* Another voter could lead. */
bool control_has_heirs(const struct control *control);
/* Ends, after handing leadership over when asked; done when everything is closed. */
void control_close(struct control *control,
                   bool hand_over,
                   void (*done)(void *context),
                   void *context);

/* Proposes a command (borrowed for the call; subject and ids are the caller's, wall time
 * is stamped here). done: code 0 with the result of apply, which may be a refusal; else
 * result is NULL. A negative return: done never runs. BERTH_ELEVEL: control_check_level
 * says what of it the cluster's level does not allow. */
int control_propose(struct control *control,
                    struct command *command,
                    void (*done)(void *context,
                                 int code,
                                 const struct apply_result *result),
                    void *context);
/* 0, BERTH_ELEVEL with words, or -ENOMEM. */
int control_check_level(const struct control *control,
                        const struct command *command,
                        struct err *err);
/* done(0): the state is at least as new as anything committed before the call. */
int control_read(struct control *control,
                 void (*done)(void *context, int code),
                 void *context);

const struct state *control_state(const struct control *control);
const struct feed *control_feed(const struct control *control);
struct consensus *control_consensus(struct control *control);
