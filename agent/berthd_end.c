#include "agent/berthd_internal.h"
#include "base/loop.h"
#include "base/require.h"

#include <stdlib.h>

#define LAST_WORDS_MS 100 /* for answers on their way, once another host leads */

/* The API outlives what still answers to it; its timer would keep the loop alive. */
static void api_end(struct berthd *berthd)
{
    if (berthd->closing == 0) {
        berthd->api = api_free(berthd->api);
    }
}

static void part_closed(void *context)
{
    struct berthd *berthd = context;
    berthd->closing--;
    api_end(berthd);
}

static void log_closed(void *context)
{
    struct berthd *berthd = context;
    berthd->plane.leader = leader_free(berthd->plane.leader);
    berthd->plane.control = NULL;
    part_closed(berthd);
}

static void stop_now(struct berthd *berthd)
{
    if (berthd->stopping) {
        return;
    }
    if (berthd->plane.leader != NULL) {
        leader_end(berthd->plane.leader);
    }
    berthd->stopping = true;
    berthd->entry = loop_timer_close(berthd->entry);
    berthd->last_words = loop_timer_close(berthd->last_words);
    berthd->heap = loop_timer_close(berthd->heap);
    berthd->shut_out = shut_out_close(berthd->shut_out);
    http_server_close(berthd->http);
    berthd->http = NULL;
    berthd->plane.consoles = console_sessions_free(berthd->plane.consoles);
    berthd->plane.worker = worker_close(berthd->plane.worker);
    berthd->level_keeper = level_keeper_close(berthd->level_keeper);
    berthd->plane.backups = backup_keeper_close(berthd->plane.backups);
    if (berthd->plane.control != NULL) {
        /* Waiting proposals are answered while it closes, so leader and API outlive it.
         */
        struct control *control = berthd->plane.control;
        berthd->closing++;
        control_close(control, true, log_closed, berthd);
    }
    berthd->plane.wait = leader_wait_free(berthd->plane.wait);
    berthd->plane.forward = forward_free(berthd->plane.forward);
    if (berthd->link != NULL) {
        berthd->closing++;
        link_close(berthd->link, part_closed, berthd);
        berthd->link = NULL;
    }
    berthd->feed_post = loop_post_close(berthd->feed_post);
    berthd->end_post = loop_post_close(berthd->end_post);
    berthd->images = image_store_close(berthd->images);
    if (berthd->plane.later != NULL) {
        control_api_fini(&berthd->plane);
    }
    api_end(berthd);
}

static void on_last_words(void *context)
{
    stop_now(context);
}

static void handed_over(void *context, int status)
{
    struct berthd *berthd = context;
    if (berthd->stopping) {
        return;
    }
    berthd->last_words = status == 0 ? loop_timer_new(berthd->loop, LAST_WORDS_MS, 0,
                                                      on_last_words, berthd)
                                     : NULL;
    if (berthd->last_words == NULL) {
        stop_now(berthd);
    }
}

/* Others have asked this host and get their answers, or hear that another leads. */
void berthd_stop(struct berthd *berthd)
{
    bool first = !berthd->handing_over;
    berthd->handing_over = true;
    if (!first || berthd->stopping || berthd->plane.leader == NULL ||
        !leader_leads(berthd->plane.leader) ||
        !control_has_heirs(berthd->plane.control) ||
        consensus_transfer(control_consensus(berthd->plane.control), 0, handed_over,
                           berthd) < 0) {
        stop_now(berthd);
    }
}

bool berthd_stopping(const struct berthd *berthd)
{
    return berthd->stopping;
}

int berthd_exit_code(const struct berthd *berthd)
{
    return berthd->exit_code;
}

struct berthd *berthd_free(struct berthd *berthd)
{
    if (berthd == NULL) {
        return NULL;
    }
    REQUIRE(berthd->closing == 0);
    api_free(berthd->api);
    tls_identity_fini(&berthd->tls);
    members_fini(&berthd->members);
    identity_fini(&berthd->identity);
    free(berthd);
    return NULL;
}
