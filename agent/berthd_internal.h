/* What the parts of the daemon (agent/berthd.h) have in common.
 *
 * Shapes: struct berthd; its fields are private to berthd.c (the wiring),
 * berthd_founding.c and berthd_joining.c (how a host becomes a member), berthd_messages.c
 * (which part hears which message of the other hosts) and berthd_end.c (hand-over and
 * end). Life: a host without a uid founds or joins, by a timer that tries again until
 * berthd_entered; from then on it works. Threads: the loop's. Errors: those of the parts,
 * with text.
 */
#pragma once

#include "agent/berthd.h"
#include "agent/control_api.h"
#include "agent/level_keeper.h"
#include "agent/shut_out.h"
#include "agent/tls_identity.h"
#include "api/http_server.h"
#include "model/join_token.h"

/* Whom a host asks to let it in: the token's host, or the one that it names as leader. */
struct join_target {
    struct mesh_key key;
    uint32_t address;
    uint32_t port;
    unsigned asked; /* since it answered */
};

struct berthd {
    uv_loop_t *loop;
    struct berthd_config config;
    const struct clock *clock;
    struct identity identity;
    struct members members;
    struct host_facts facts;
    struct tls_identity tls;
    struct link *link;
    struct image_store *images;
    struct control_api plane; /* home of control, leader, worker, forward, consoles too */
    struct api *api;
    struct http_server *http;
    struct loop_timer *entry; /* while founding, joining or asking for the members: tries
                                 again */
    struct join_token join_token;
    struct join_target join_target;
    int join_fault; /* why a member was told nothing, as last said */
    bool founding_under_way;
    bool restored;      /* the log begins with a backup's state */
    int founding_fault; /* as last said */
    struct loop_post *feed_post;
    struct loop_post *end_post; /* ends the daemon on the loop's next turn */
    uint32_t level_at_start;    /* as the state folder said */
    struct level_keeper *level_keeper;
    bool handing_over; /* asked to stop; leads perhaps still */
    struct loop_timer *last_words;
    struct shut_out *shut_out;
    struct loop_timer *heap; /* gives back what large things took that are over */
    bool stopping;
    unsigned closing; /* asynchronous ends under way */
    int exit_code;
};

/* ---- berthd.c ---- */
struct level_range berthd_levels(const struct berthd *berthd);
/* Opens control and leader; bootstrap: a log of this host alone, BERTH_EEXISTS when there
 * is one. */
int berthd_log_start(struct berthd *berthd, bool bootstrap, struct err *err);
/* What this host has and is, as it tells the cluster; 0 or -ENOMEM. */
int berthd_status_fill(struct berthd *berthd, struct host_status *status);
/* The host has become a member: writes that down and begins to work; ends the daemon when
 * it cannot. */
void berthd_entered(struct berthd *berthd,
                    uint64_t uid,
                    const struct msg_member_list *members);
/* The members' table is another: links, and a part in the log that it names. Context is
 * the berthd. */
void berthd_members_changed(void *context);

/* ---- berthd_founding.c ---- */
/* Begins a log, and asks it for membership until it leads and is a member. */
int berthd_founding_start(struct berthd *berthd, struct err *err);

/* ---- berthd_joining.c ---- */
/* Asks the token's host, and whoever leads, until one lets this host in or none will. */
int berthd_joining_start(struct berthd *berthd, struct err *err);
/* Of a member that starts with a token: asks the token's host who the members are while
 * no leader is heard, for all voters that this host knows may be gone. A token that is
 * none is logged only. */
int berthd_joining_anew(struct berthd *berthd, struct err *err);
/* From the link (agent/link.h). */
void berthd_on_join_reply(void *context, struct msg_join_reply *reply);

/* ---- berthd_messages.c ---- */
/* From the link, of members. */
void berthd_on_message(void *context,
                       const struct msg_member *from,
                       enum message_type type,
                       void *message);
/* Tells a host whom to ask, when that is known here. */
void berthd_tell_leader(struct berthd *berthd, uint64_t host);
/* This host leads: tells those that have no part in the log, and would ask the one before
 * until that is silent for long. */
void berthd_tell_all(struct berthd *berthd);
