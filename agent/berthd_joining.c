#include "agent/berthd_internal.h"
#include "base/log.h"
#include "base/loop.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define JOIN_RETRY_MS  1000
#define JOIN_ASKED_MAX 5 /* times that one host is asked without an answer */
/* Likewise the token's, on one connection: what link_join_door says takes some seconds.
 */
#define JOIN_ASKED_FIRST_MAX 15
/* A member that starts hears of its leader before that, if it knows anybody who does. */
#define JOIN_ANEW_MS 5000

static void join_ask_at(struct berthd *berthd, const struct join_target *target)
{
    link_join_end(berthd->link, &berthd->join_target.key);
    berthd->join_target = *target;
}

static struct join_target join_token_host(const struct berthd *berthd)
{
    return (struct join_target){.key = identity_mesh_key(&berthd->join_token.key),
                                .address = berthd->join_token.address,
                                .port = berthd->join_token.port};
}

static bool is_asking_first(const struct berthd *berthd)
{
    const struct join_target first = join_token_host(berthd);
    return mesh_key_equal(&first.key, &berthd->join_target.key);
}

/* A leader that does not answer may lead no more: who is it now? */
static void join_choose(struct berthd *berthd)
{
    const struct join_target first = join_token_host(berthd);
    const unsigned most = is_asking_first(berthd) ? JOIN_ASKED_FIRST_MAX : JOIN_ASKED_MAX;
    if (berthd->join_target.asked++ >= most) {
        join_ask_at(berthd, &first);
    }
}

static void join_give_up(struct berthd *berthd, const char *why)
{
    log_error("berthd", "the cluster does not let us in", KV_STR("why", why));
    berthd->exit_code = BERTHD_EXIT_NOT_LET_IN;
    berthd_stop(berthd);
}

/* The token's host says nothing to strangers without a token that is good; so it cannot
 * say what became of this one. Nor is it sure: that host may be starting, or behind. Who
 * waits for this one to join rather hears so and tries again; where nobody waits it is
 * asked on. A leader that was named may have gone or be yet to hear of the token. */
static bool join_is_in_vain(struct berthd *berthd)
{
    static const struct {
        const char *before;
        const char *after;
    } words[] = {
        [MESH_JOIN_DOOR_CLOSED] = {"the host of the join token, ",
                                   ", lets nobody in: the token was used already, has "
                                   "expired, or was removed, or that host has not "
                                   "caught up yet (try again in a minute)"},
        [MESH_JOIN_DOOR_FOREIGN] = {"who answers at ",
                                    " is not the host of the join token: the token is "
                                    "damaged, or that host was set up anew"},
    };
    const struct join_target first = join_token_host(berthd);
    const enum mesh_join_door door =
        link_join_door(berthd->link, &berthd->join_target.key);
    char address[MESH_ADDRESS_SIZE];
    char why[320];
    if (door == MESH_JOIN_DOOR_UNKNOWN || !berthd->config.join_once) {
        return false;
    }
    if (!is_asking_first(berthd)) {
        join_ask_at(berthd, &first);
        return false;
    }
    identity_address_text(first.address, first.port, address);
    (void)snprintf(why, sizeof(why), "%s%s%s", words[door].before, address,
                   words[door].after);
    join_give_up(berthd, why);
    return true;
}

/* A member's key lets it in without a secret; with one the cluster that has removed it
 * would take it for a new host, and the token would be gone. */
static void join_ask(struct berthd *berthd)
{
    struct msg_join message;
    struct err err;
    record_init(&msg_join_record, &message);
    memcpy(message.name, berthd->identity.name, NAME_SIZE);
    const struct level_range levels = berthd_levels(berthd);
    message.level_min = levels.min;
    message.level_max = levels.max;
    if (berthd->identity.uid == 0) {
        memcpy(message.secret.bytes, berthd->join_token.secret, JOIN_SECRET_SIZE);
    }
    int r = berthd_status_fill(berthd, &message.status);
    if (r == 0) {
        message.labels = berthd->identity.labels; /* lent for the call */
        join_choose(berthd);
        r = link_join(berthd->link, &berthd->join_target.key, berthd->join_target.address,
                      berthd->join_target.port, &message, &err);
        message.labels = (struct label_list){0};
    } else {
        (void)err_sys(&err, r, "join");
    }
    if (r < 0) {
        log_warn("berthd", "asking to join did not work and is tried again",
                 KV_STR("why", err.text));
    }
    record_fini(&msg_join_record, &message);
}

static void join(void *context)
{
    struct berthd *berthd = context;
    if (!join_is_in_vain(berthd)) {
        join_ask(berthd);
    }
}

static void join_refer(struct berthd *berthd, const struct msg_member *leader)
{
    const struct join_target target = {.key = identity_mesh_key(&leader->key),
                                       .address = leader->address,
                                       .port = leader->mesh_port + LINK_JOIN_PORT_OFFSET};
    if (berthd->identity.uid == 0) {
        log_info("berthd", "another host leads and is asked to let us in",
                 KV_STR("leader", leader->name));
    }
    join_ask_at(berthd, &target);
}

/* ---- a member that knows nobody any more who leads or votes ---- */

static void join_anew_end(struct berthd *berthd)
{
    link_join_end(berthd->link, &berthd->join_target.key);
    berthd->entry = loop_timer_close(berthd->entry);
}

static void join_anew(void *context)
{
    struct berthd *berthd = context;
    if (worker_leader(berthd->plane.worker) != 0) {
        join_anew_end(berthd);
        return;
    }
    if (berthd->join_target.asked == JOIN_ASKED_MAX) {
        log_warn("berthd", "this host hears of no leader, and the join token's host, or "
                           "who leads by its word, does not answer");
    }
    join_ask(berthd);
}

/* The token's key vouches for who says it, as when this host joined. The answer names
 * those with a part in the log alone: the table counts as unsaved, so that the leader
 * which is found by it sends its orders, and all hosts with them. */
static void told_members(struct berthd *berthd, const struct msg_join_reply *reply)
{
    bool changed = false;
    struct err err;
    if (reply->uid != berthd->identity.uid ||
        reply->cluster_id != berthd->identity.cluster_id) {
        log_error("berthd", "the join token is of another cluster than this host's");
        join_anew_end(berthd);
        return;
    }
    if (members_replace(&berthd->members, &reply->members, &changed, &err) < 0) {
        log_warn("berthd", "the members that the token's host names are not taken over",
                 KV_STR("why", err.text));
    }
    if (changed) {
        log_info("berthd", "the join token's host says who votes",
                 KV_U64("members", reply->members.count));
        berthd_members_changed(berthd); /* the next heartbeat asks those */
    }
}

/* An answer that comes when a leader is heard again is older than that one's orders. */
static void on_reply_to_member(struct berthd *berthd, const struct msg_join_reply *reply)
{
    const int code = -(int)reply->code;
    if (berthd->entry == NULL || worker_leader(berthd->plane.worker) != 0) {
        return;
    }
    berthd->join_target.asked = 0;
    if (code == 0) {
        told_members(berthd, reply);
    } else if (code == BERTH_ENOTLEADER && reply->leader.uid != 0) {
        join_refer(berthd, &reply->leader);
    } else if (code != berthd->join_fault) {
        berthd->join_fault = code;          /* it is asked again every second */
        bool unknown = code == BERTH_EAUTH; /* by its key, and it showed no secret */
        log_warn("berthd", "the join token's host does not say who votes",
                 KV_STR("why", unknown
                                   ? "it does not know this host: that was removed, or "
                                     "the token is another cluster's"
                               : reply->text != NULL ? reply->text
                                                     : err_sentence(code)));
    }
}

int berthd_joining_anew(struct berthd *berthd, struct err *err)
{
    if (join_token_parse(berthd->config.join_token, &berthd->join_token, err) < 0) {
        log_warn("berthd", "the join token of this member helps nothing",
                 KV_STR("why", err->text));
        return 0;
    }
    berthd->join_target = join_token_host(berthd);
    berthd->entry =
        loop_timer_new(berthd->loop, JOIN_ANEW_MS, JOIN_RETRY_MS, join_anew, berthd);
    return berthd->entry != NULL ? 0 : err_sys(err, -ENOMEM, "ask for the members");
}

/* ---- who may come in ---- */

void berthd_on_join_reply(void *context, struct msg_join_reply *reply)
{
    struct berthd *berthd = context;
    if (berthd->stopping) {
        return;
    }
    if (berthd->identity.uid != 0) {
        on_reply_to_member(berthd, reply);
        return;
    }
    if (reply->code == 0 && reply->uid != 0) {
        berthd->identity.cluster_id = reply->cluster_id;
        link_join_end(berthd->link, &berthd->join_target.key);
        berthd_entered(berthd, reply->uid, &reply->members);
        return;
    }
    int code = -(int)reply->code;
    berthd->join_target.asked = 0;
    if (code == BERTH_ENOTLEADER && reply->leader.uid != 0) {
        join_refer(berthd, &reply->leader);
        return;
    }
    const char *text = reply->text != NULL ? reply->text : err_sentence(code);
    if (err_class(code) == ERR_CLASS_RETRY || code == BERTH_ENOTLEADER) {
        log_warn("berthd", "the cluster could not let us in and is asked again",
                 KV_STR("why", text));
        return;
    }
    join_give_up(berthd, text);
}

int berthd_joining_start(struct berthd *berthd, struct err *err)
{
    int r = join_token_parse(berthd->config.join_token, &berthd->join_token, err);
    if (r < 0) {
        return r;
    }
    r = identity_save(&berthd->identity, err);
    if (r < 0) {
        return r;
    }
    berthd->join_target = join_token_host(berthd);
    berthd->entry = loop_timer_new(berthd->loop, 1, JOIN_RETRY_MS, join, berthd);
    return berthd->entry != NULL ? 0 : err_sys(err, -ENOMEM, "join the cluster");
}
