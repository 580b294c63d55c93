#include "agent/berthd_internal.h"
#include "agent/founding_log.h"
#include "agent/log_mark.h"
#include "agent/orders.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/random.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FOUND_RETRY_MS 200

/* Said once: it is tried again five times a second. */
static void founding_failed(struct berthd *berthd, int fault, const char *why)
{
    if (fault != berthd->founding_fault) {
        log_warn("berthd", "founding is tried again", KV_STR("why", why));
    }
    berthd->founding_fault = fault;
}

static void founded(void *context, int code, const struct apply_result *result)
{
    struct berthd *berthd = context;
    const struct digest key = identity_key_digest(&berthd->identity.key);
    const struct host *host = NULL;
    struct msg_member_list members = {0};
    berthd->founding_under_way = false;
    if (berthd->stopping) {
        return;
    }
    if (code == 0 && result->code == 0) {
        host = state_host_by_key(control_state(berthd->plane.control), &key);
    }
    if (host == NULL ||
        orders_members(control_state(berthd->plane.control), &members) < 0) {
        founding_failed(berthd, code < 0 ? code : result->code,
                        code < 0 ? err_sentence(code) : result->text);
        return;
    }
    if (!berthd->restored) { /* else it was at its level for long, and may go back */
        leader_founded(berthd->plane.leader, host->meta.uid);
    }
    berthd_entered(berthd, host->meta.uid, &members);
    free(members.items);
}

/* The founder's own host_join, as the first command of the log; repeated until it is
 * applied. */
static void found(void *context)
{
    struct berthd *berthd = context;
    struct command command;
    if (berthd->founding_under_way || berthd->identity.uid != 0 ||
        !leader_leads(berthd->plane.leader)) {
        return;
    }
    command_init(&command, COMMAND_HOST_JOIN);
    (void)snprintf(command.subject, sizeof(command.subject), "system");
    memcpy(command.request_id, berthd->identity.key.bytes, sizeof(command.request_id));
    memcpy(command.body.host_join.name, berthd->identity.name, NAME_SIZE);
    command.body.host_join.status.public_key = identity_key_digest(&berthd->identity.key);
    int r = berthd_status_fill(berthd, &command.body.host_join.status);
    command.body.host_join.status.voter = VOTER_VOTER;
    /* A new cluster begins at the first level; heartbeats tell the rest at theirs. */
    record_limit(&host_status_record, &command.body.host_join.status,
                 state_level(control_state(berthd->plane.control)));
    r = r == 0 ? labels_inherit(&command.body.host_join.labels, &berthd->identity.labels)
               : r;
    r = r == 0 ? control_propose(berthd->plane.control, &command, founded, berthd) : r;
    berthd->founding_under_way = r == 0;
    command_fini(&command);
    if (r < 0) {
        founding_failed(berthd, r, err_sentence(r));
    }
}

/* Nobody would ever lead in it, and founding be tried again for ever. */
static int log_has_a_member(const struct berthd *berthd, struct err *err)
{
    struct consensus_member member;
    return consensus_members(control_consensus(berthd->plane.control), &member, 1) > 0
               ? 0
               : err_set(err, BERTH_ECORRUPT,
                         "the log in %s/" LOG_MARK_FOLDER
                         " was begun and has no member, so nobody can lead the cluster: "
                         "`berth down --forget`, then found it again",
                         berthd->identity.folder);
}

/* As far as an earlier start got. */
static int log_found(struct berthd *berthd, struct err *err)
{
    int r = berthd->restored
                ? 0
                : founding_log_put_aside(&berthd->identity, berthd->clock, err);
    r = r == 0 ? berthd_log_start(berthd, !berthd->restored, err) : r;
    if (r == BERTH_EEXISTS) {
        r = berthd_log_start(berthd, false, err);
    }
    return r == 0 ? log_has_a_member(berthd, err) : r;
}

int berthd_founding_start(struct berthd *berthd, struct err *err)
{
    if (!berthd->identity.founder) {
        random_secret(&berthd->identity.cluster_id, sizeof(berthd->identity.cluster_id));
        berthd->identity.founder = true;
        int r = identity_save(&berthd->identity, err);
        if (r < 0) {
            return r;
        }
    }
    int r = log_found(berthd, err);
    if (r < 0) {
        return r;
    }
    berthd->entry = loop_timer_new(berthd->loop, 1, FOUND_RETRY_MS, found, berthd);
    return berthd->entry != NULL ? 0 : err_sys(err, -ENOMEM, "found the cluster");
}
