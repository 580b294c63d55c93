#include "agent/berthd.h"

#include "agent/berthd_identity.h"
#include "agent/berthd_internal.h"
#include "agent/disk_room.h"
#include "agent/level_file.h"
#include "agent/log_mark.h"
#include "agent/rebirth.h"
#include "base/cleanup.h"
#include "base/heap.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/own_address.h"
#include "base/state_file.h"
#include "base/where.h"
#include "consensus/log_copy.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define HEAP_LOOK_MS 10000

/* ---- feed to the API
 * -------------------------------------------------------------------------------- */

static void on_feed(void *context)
{
    struct berthd *berthd = context;
    if (berthd->api != NULL) {
        api_feed_changed(berthd->api);
    }
}

/* ---- the log
 * ----------------------------------------------------------------------------------------
 */

static void on_leadership(void *context, bool is_leader, uint64_t term)
{
    struct berthd *berthd = context;
    if (berthd->plane.leader != NULL && !berthd->stopping) {
        leader_on_leadership(berthd->plane.leader, is_leader, term);
        if (is_leader) {
            berthd_tell_all(berthd);
        }
    }
}

static void on_change(void *context, const struct change *change)
{
    struct berthd *berthd = context;
    if (berthd->stopping) {
        return;
    }
    if (berthd->plane.leader != NULL) {
        leader_on_change(berthd->plane.leader, change);
    }
    loop_post_send(berthd->feed_post);
}

static void on_restored(void *context)
{
    struct berthd *berthd = context;
    if (berthd->plane.leader != NULL && !berthd->stopping) {
        leader_on_restored(berthd->plane.leader);
    }
    if (berthd->api != NULL) {
        api_feed_reset(berthd->api);
    }
}

struct level_range berthd_levels(const struct berthd *berthd)
{
    return level_range_up_to(berthd->config.level_max);
}

static void on_fatal(void *context, const struct err *why)
{
    struct berthd *berthd = context;
    log_error("berthd", "the replicated log has stopped, so this daemon ends",
              KV_STR("code", err_name(why->code)), KV_STR("why", why->text));
    berthd->exit_code = 1;
    /* Nothing of the log's may run again: not an orderly end, which would close it. VMs
     * run on. */
    _exit(1);
}

int berthd_log_start(struct berthd *berthd, bool bootstrap, struct err *err)
{
    CLEANUP_FREE char *folder = NULL;
    char address[MESH_ADDRESS_SIZE];
    struct control *control = NULL;
    WHERE("open the log");
    int r = log_mark_begin(berthd->identity.folder, berthd->identity.name, err);
    if (r < 0) {
        return r;
    }
    if (asprintf(&folder, "%s/" LOG_MARK_FOLDER, berthd->identity.folder) < 0) {
        return err_sys(err, -ENOMEM, "open the log");
    }
    identity_address_text(berthd->identity.address, berthd->identity.raft_port, address);
    const struct control_config config = {
        .loop = berthd->loop,
        .clock = berthd->clock,
        .folder = folder,
        .raft_id = identity_raft_id(&berthd->identity.key),
        .cluster_id = berthd->identity.cluster_id,
        .address = address,
        .secret_key = berthd->identity.secret.bytes,
        .levels = berthd_levels(berthd),
        .members = &berthd->members,
    };
    const struct control_events events = {.context = berthd,
                                          .on_leadership = on_leadership,
                                          .on_change = on_change,
                                          .on_restored = on_restored,
                                          .on_fatal = on_fatal};
    r = control_open(&config, &events, bootstrap, &control, err);
    if (r < 0) {
        return r;
    }
    berthd->plane.control = control;
    r = log_mark_sealed(berthd->identity.folder, err); /* nothing was sent yet */
    if (r < 0) {
        return r;
    }
    log_info("berthd", "the log is open",
             KV_U64("term", consensus_term(control_consensus(control))),
             KV_U64("revision", state_revision(control_state(control))));
    const struct leader_config leader_config = {.loop = berthd->loop,
                                                .clock = berthd->clock,
                                                .identity = &berthd->identity,
                                                .control = control,
                                                .link = berthd->link,
                                                .level_wait_ms =
                                                    berthd->config.level_wait_ms};
    berthd->plane.leader = leader_new(&leader_config);
    if (berthd->plane.leader == NULL) {
        return err_sys(err, -ENOMEM, "open the log");
    }
    if (consensus_is_leader(control_consensus(control))) {
        leader_on_leadership(berthd->plane.leader, true,
                             consensus_term(control_consensus(control)));
    }
    return 0;
}

/* Does this host have a part in the log, by the members' table or by what is on its disk?
 */
static bool log_is_ours(const struct berthd *berthd)
{
    const struct msg_member *self =
        members_by_uid(&berthd->members, berthd->identity.uid);
    return log_mark_is_there(berthd->identity.folder) ||
           (self != NULL && self->voter != VOTER_NONE);
}

/* A voter has had its log; one that began anew would have forgotten what it acknowledged
 * and whom it voted for. Where the mark is lost as well (log_mark.h), the members' table
 * still tells. */
static int log_is_there(const struct berthd *berthd, struct err *err)
{
    const struct msg_member *self =
        members_by_uid(&berthd->members, berthd->identity.uid);
    CLEANUP_FREE char *path = NULL;
    struct stat info;
    if (self == NULL || self->voter != VOTER_VOTER) {
        return 0;
    }
    if (asprintf(&path, "%s/" LOG_MARK_FOLDER, berthd->identity.folder) < 0) {
        return err_sys(err, -ENOMEM, "open the log");
    }
    if (stat(path, &info) == 0) {
        return 0;
    }
    return log_mark_lost(berthd->identity.folder, berthd->identity.name, err);
}

/* What a killed look at the log has left takes the log's room, and no boot empties the
 * folder. */
static void sweep_looks(const struct berthd *berthd)
{
    CLEANUP_FREE char *path = NULL;
    if (asprintf(&path, "%s/" LOG_MARK_FOLDER, berthd->identity.folder) >= 0) {
        log_copy_sweep(path);
    }
}

/* ---- the worker
 * -------------------------------------------------------------------------------------
 */

/* Whoever is to become a voter opens its log while it is a standby: without that it would
 * not catch up, and not become one. */
void berthd_members_changed(void *context)
{
    struct berthd *berthd = context;
    struct err err;
    link_members_changed(berthd->link);
    if (berthd->plane.control == NULL && log_is_ours(berthd) && !berthd->stopping &&
        (log_is_there(berthd, &err) < 0 || berthd_log_start(berthd, false, &err) < 0)) {
        log_error("berthd", "this host cannot take its part in the log",
                  KV_STR("why", err.text));
        berthd->exit_code = 1;
        loop_post_send(
            berthd->end_post); /* not from within the worker, which it closes */
    }
}

static uint64_t revision(void *context)
{
    const struct berthd *berthd = context;
    return berthd->plane.control != NULL
               ? state_revision(control_state(berthd->plane.control))
               : 0;
}

/* Without a log, what leaders have told of. */
static uint64_t revision_known(void *context)
{
    const struct berthd *berthd = context;
    const uint64_t applied = revision(context);
    return applied == 0 && berthd->plane.worker != NULL
               ? worker_revision_told(berthd->plane.worker)
               : applied;
}

static void on_vm_forgotten(void *context, uint64_t vm)
{
    struct berthd *berthd = context;
    console_sessions_end(berthd->plane.consoles, vm);
}

static void on_level(void *context, uint32_t level)
{
    struct berthd *berthd = context;
    char why[256];
    if (berthd->stopping) {
        return;
    }
    /* For the next start, which may be another release's. */
    level_keeper_tell(berthd->level_keeper, level, clock_now_ms(berthd->clock));
    if (level_in_range(berthd_levels(berthd), level)) {
        return;
    }
    level_refusal(berthd_levels(berthd), level, why);
    log_error("berthd", "this host takes no part in the cluster, so this daemon ends",
              KV_STR("why", why));
    berthd->exit_code = 1;
    loop_post_send(berthd->end_post); /* not from within the worker, which it closes */
}

static struct worker_config worker_config_of(struct berthd *berthd)
{
    return (struct worker_config){
        .loop = berthd->loop,
        .clock = berthd->clock,
        .identity = &berthd->identity,
        .members = &berthd->members,
        .link = berthd->link,
        .images = berthd->images,
        .facts = &berthd->facts,
        .memory_reserve_bytes = berthd->config.memory_reserve_bytes,
        .cpu_overcommit = berthd->config.cpu_overcommit,
        .vm_uids = berthd->config.vm_uids,
        .disk = {.reserve_bytes = berthd->config.disk_reserve_bytes,
                 .image_bytes = berthd->config.image_cache_bytes,
                 .overcommit = berthd->config.disk_overcommit},
        .fence = true,
        .watchdog = berthd->config.watchdog,
        .context = berthd,
        .members_changed = berthd_members_changed,
        .level_told = on_level,
        .levels = berthd_levels(berthd),
        .revision = revision,
        .vm_forgotten = on_vm_forgotten,
    };
}

static int work_start(struct berthd *berthd, struct err *err)
{
    const struct worker_config config = worker_config_of(berthd);
    WHERE("find the VMs that run here");
    int r = worker_open(&config, &berthd->plane.worker, err);
    if (r < 0) {
        return r;
    }
    berthd->plane.consoles =
        console_sessions_new(berthd->loop, worker_supervisor(berthd->plane.worker));
    return berthd->plane.consoles != NULL ? 0 : err_sys(err, -ENOMEM, "start the worker");
}

void berthd_entered(struct berthd *berthd,
                    uint64_t uid,
                    const struct msg_member_list *members)
{
    struct err err;
    bool changed;
    berthd->identity.uid = uid;
    int r = members_set(&berthd->members, members, &changed, &err);
    r = r == 0 ? identity_save(&berthd->identity, &err) : r;
    if (r == 0) {
        link_members_changed(berthd->link);
        berthd->entry = loop_timer_close(berthd->entry);
        r = work_start(berthd, &err);
    }
    if (r < 0) {
        log_error("berthd", "this host is a member but cannot work",
                  KV_STR("why", err.text));
        berthd->exit_code = 1;
        berthd_stop(berthd);
        return;
    }
    log_info("berthd", "this host is a member of the cluster",
             KV_STR("name", berthd->identity.name), KV_U64("uid", uid));
}

int berthd_status_fill(struct berthd *berthd, struct host_status *status)
{
    const struct worker_config config = worker_config_of(berthd);
    return worker_status(&config, status);
}

static void on_join(void *context, const struct mesh_key *guest, struct msg_join *message)
{
    struct berthd *berthd = context;
    if (berthd->plane.leader != NULL && !berthd->stopping) {
        leader_on_join(berthd->plane.leader, guest, message);
    }
}

static void on_peer(void *context, uint64_t host, bool up)
{
    struct berthd *berthd = context;
    if (berthd->plane.forward != NULL) {
        forward_on_peer(berthd->plane.forward, host, up);
    }
    if (berthd->plane.leader != NULL && !berthd->stopping) {
        leader_on_peer(berthd->plane.leader, host, up);
        if (up && leader_leads(berthd->plane.leader)) {
            berthd_tell_leader(berthd, host); /* it may have missed the beginning */
        }
    }
}

static void on_forwarded(void *context, struct exchange *exchange, uint64_t console_vm)
{
    struct berthd *berthd = context;
    if (console_vm == 0) {
        if (berthd->plane.leader == NULL || !leader_leads(berthd->plane.leader)) {
            berthd_tell_leader(berthd, exchange_request(exchange)->credentials.forwarder);
        }
        api_handle(berthd->api, exchange, true);
    } else {
        control_api_console(&berthd->plane, exchange, console_vm);
    }
}

static void on_undone(void *context, struct exchange *exchange)
{
    struct berthd *berthd = context;
    leader_wait_add(berthd->plane.wait, exchange);
}

static bool finds_leader(void *context)
{
    const struct berthd *berthd = context;
    return control_api_finds_leader(&berthd->plane);
}

static void on_waited(void *context, struct exchange *exchange)
{
    struct berthd *berthd = context;
    api_handle(berthd->api, exchange, false);
}

static uint64_t who_leads(void *context)
{
    const struct berthd *berthd = context;
    return control_api_leader(&berthd->plane);
}

static void on_end(void *context)
{
    berthd_stop(context);
}

static void on_heap(void *context)
{
    (void)context;
    (void)heap_give_back(); /* or nothing large has ended, or more may follow */
}

/* ---- start
 * ------------------------------------------------------------------------------------------
 */

static int serve_start(struct berthd *berthd, struct err *err)
{
    char address[MESH_ADDRESS_SIZE];
    CLEANUP_FREE char *socket_path = NULL;
    if (asprintf(&socket_path, "%s/" STATE_FILE_SOCKET, berthd->identity.folder) < 0) {
        return err_sys(err, -ENOMEM, "open the API");
    }
    berthd->api = api_new(berthd->loop, &berthd->plane.plane);
    if (berthd->api == NULL) {
        return err_sys(err, -ENOMEM, "open the API");
    }
    int r = tls_identity_open(berthd->identity.folder, berthd->identity.name,
                              berthd->identity.address, clock_wall_ms(berthd->clock),
                              &berthd->tls, err);
    if (r < 0) {
        return r;
    }
    identity_address_text(berthd->identity.address, berthd->identity.api_port, address);
    const struct http_server_config config = {
        .socket_path = socket_path,
        .listen_address = berthd->identity.api_port != 0 ? address : NULL,
        .key_pem = berthd->tls.key_pem,
        .certificate_pem = berthd->tls.certificate_pem,
    };
    return http_server_open(berthd->loop, berthd->api, &berthd->plane.plane, &config,
                            &berthd->http, err);
}

/* A reserve that leaves VMs nothing is a slip of the pen where a host is new. A member
 * may have less memory or a smaller disk than before, or have been let in like that by an
 * earlier release: its vote and the lease of its VMs stand on this daemon, so it starts
 * and offers nothing. */
static int reserve_judge(const struct berthd *berthd, int code, const struct err *why)
{
    if (code == 0 || berthd->identity.uid == 0) {
        return code;
    }
    log_warn("berthd", "this host offers VMs nothing, and starts since it is a member",
             KV_STR("why", why->text));
    return 0;
}

/* What is kept for the host. */
static int reserves_settle(struct berthd *berthd, struct err *err)
{
    struct berthd_config *config = &berthd->config;
    if (config->memory_reserve_bytes == BERTHD_RESERVE_DEFAULT) {
        config->memory_reserve_bytes = host_reserve_default(&berthd->facts);
    }
    if (config->disk_reserve_bytes == BERTHD_RESERVE_DEFAULT) {
        config->disk_reserve_bytes = disk_reserve_default(berthd->identity.folder);
    }
    int r = host_reserve_check(&berthd->facts, config->memory_reserve_bytes, err);
    r = reserve_judge(berthd, r, err);
    if (r < 0) {
        return r;
    }
    r = disk_reserve_check(berthd->identity.folder, config->disk_reserve_bytes, err);
    return reserve_judge(berthd, r, err);
}

static int parts_open(struct berthd *berthd, struct err *err)
{
    CLEANUP_FREE char *images = NULL;
    struct berthd_config *config = &berthd->config;
    const struct link_events events = {.context = berthd,
                                       .on_message = berthd_on_message,
                                       .on_join = on_join,
                                       .on_join_reply = berthd_on_join_reply,
                                       .on_peer = on_peer};
    if (asprintf(&images, "%s/" STATE_FOLDER_IMAGES, berthd->identity.folder) < 0) {
        return err_sys(err, -ENOMEM, "open images");
    }
    where_phase("look at what this host has");
    int r = host_facts_read(&berthd->facts, err);
    r = r == 0 ? reserves_settle(berthd, err) : r;
    if (r < 0) {
        return r;
    }
    const struct image_limits limits = {.cache_bytes = config->image_cache_bytes,
                                        .reserve_bytes = config->disk_reserve_bytes};
    where_phase("open the store of images, and what goes to other hosts");
    r = members_open(berthd->identity.folder, &berthd->members, err);
    r = r == 0 ? image_store_open(berthd->loop, images, &limits, &berthd->images, err)
               : r;
    r = r == 0 ? link_open(berthd->loop, &berthd->identity, &berthd->members, &events,
                           &berthd->link, err)
               : r;
    if (r < 0) {
        return r;
    }
    berthd->level_keeper =
        level_keeper_new(berthd->loop, berthd->identity.folder, berthd->level_at_start);
    berthd->feed_post = loop_post_new(berthd->loop, on_feed, berthd);
    berthd->end_post = loop_post_new(berthd->loop, on_end, berthd);
    berthd->heap =
        loop_timer_new(berthd->loop, HEAP_LOOK_MS, HEAP_LOOK_MS, on_heap, berthd);
    berthd->shut_out = shut_out_new(berthd->loop, berthd->link);
    berthd->plane.loop = berthd->loop;
    berthd->plane.clock = berthd->clock;
    berthd->plane.identity = &berthd->identity;
    berthd->plane.members = &berthd->members;
    berthd->plane.link = berthd->link;
    berthd->plane.images = berthd->images;
    const struct forward_events forward_events = {.context = berthd,
                                                  .arrived = on_forwarded,
                                                  .leader = who_leads,
                                                  .revision = revision_known,
                                                  .undone = on_undone};
    berthd->plane.forward =
        forward_new(berthd->loop, berthd->clock, berthd->link, &forward_events);
    const struct leader_wait_events wait_events = {
        .context = berthd, .ready = finds_leader, .again = on_waited};
    berthd->plane.wait = leader_wait_new(berthd->loop, berthd->clock, &wait_events);
    if (berthd->level_keeper == NULL || berthd->feed_post == NULL ||
        berthd->end_post == NULL || berthd->heap == NULL || berthd->shut_out == NULL ||
        berthd->plane.forward == NULL || berthd->plane.wait == NULL ||
        control_api_init(&berthd->plane) < 0) {
        return err_sys(err, -ENOMEM, "start berthd");
    }
    where_phase("open the API");
    return serve_start(berthd, err);
}

/* Once: an attempt that got as far as a log of its own just goes on with it. */
static int restore(struct berthd *berthd, struct err *err)
{
    if (berthd->identity.founder && berthd->identity.uid == 0) {
        return 0;
    }
    return rebirth_restore(&berthd->identity, berthd->config.restore,
                           berthd->config.passphrase, berthd->clock, err);
}

static bool backups_lead(void *context)
{
    const struct berthd *berthd = context;
    return !berthd->stopping && berthd->plane.leader != NULL &&
           leader_leads(berthd->plane.leader);
}

static int backups_read(void *context,
                        void (*done)(void *done_context, int code),
                        void *done_context)
{
    const struct berthd *berthd = context;
    return berthd->plane.control != NULL
               ? control_read(berthd->plane.control, done, done_context)
               : BERTH_ENOTLEADER;
}

static const struct state *backups_state(void *context)
{
    const struct berthd *berthd = context;
    return berthd->plane.control != NULL ? control_state(berthd->plane.control) : NULL;
}

static int backups_start(struct berthd *berthd, struct err *err)
{
    CLEANUP_FREE char *folder = NULL;
    if (berthd->config.backup_every_ms == 0) {
        return 0;
    }
    if (asprintf(&folder, "%s/backups", berthd->identity.folder) < 0) {
        folder = NULL;
        return err_sys(err, -ENOMEM, "start backups");
    }
    const struct backup_keeper_config config = {
        .loop = berthd->loop,
        .clock = berthd->clock,
        .folder =
            berthd->config.backup_folder != NULL ? berthd->config.backup_folder : folder,
        .every_ms = berthd->config.backup_every_ms,
        .keep = berthd->config.backup_keep,
        .passphrase = berthd->config.backup_passphrase,
        .host = berthd->identity.name,
        .context = berthd,
        .leads = backups_lead,
        .read = backups_read,
        .state = backups_state,
    };
    berthd->plane.backups = backup_keeper_new(&config);
    return berthd->plane.backups != NULL ? 0 : err_sys(err, -ENOMEM, "start backups");
}

static int enter(struct berthd *berthd, struct err *err)
{
    where_phase("find this host's part in a cluster");
    if (berthd->config.restore != NULL) {
        int r = restore(berthd, err);
        if (r < 0) {
            return r;
        }
        berthd->restored = true;
    }
    if (berthd->identity.uid != 0) {
        if (berthd->config.bootstrap) {
            log_info("berthd", "this host is a member already and just starts",
                     KV_STR("name", berthd->identity.name));
        }
        sweep_looks(berthd);
        int r = log_is_there(berthd, err);
        if (r == 0 && log_is_ours(berthd)) {
            r = berthd_log_start(berthd, false, err);
        }
        r = r == 0 ? work_start(berthd, err) : r;
        return r == 0 && berthd->config.join_token != NULL
                   ? berthd_joining_anew(berthd, err)
                   : r;
    }
    if (berthd->config.bootstrap || berthd->identity.founder) {
        return berthd_founding_start(berthd, err);
    }
    if (berthd->config.join_token != NULL) {
        return berthd_joining_start(berthd, err);
    }
    return err_set(
        err, BERTH_EINVALID,
        "this host belongs to no cluster yet: `berth up` founds one, `berth join TOKEN` "
        "joins one");
}

int berthd_open(uv_loop_t *loop,
                const struct berthd_config *config,
                struct berthd **ret_berthd,
                struct err *err)
{
    struct berthd *berthd = calloc(1, sizeof(*berthd));
    if (berthd == NULL) {
        return err_sys(err, -ENOMEM, "start berthd");
    }
    berthd->loop = loop;
    berthd->config = *config;
    berthd->clock = clock_system();
    where_phase("read what the state folder says of this host");
    int r = rebirth_forget_resume(config->folder, berthd->clock, err);
    r = r == 0 ? identity_open(config->folder, &berthd->identity, err) : r;
    r = r == 0 ? level_file_check(berthd->identity.folder, berthd_levels(berthd),
                                  &berthd->level_at_start, err)
               : r;
    if (r == 0) {
        r = berthd_identity_complete(&berthd->identity, config, err);
        log_set_host(berthd->identity.name);
        r = r == 0 ? own_address_check(berthd->identity.address, err) : r;
        r = r == 0 ? parts_open(berthd, err) : r;
        r = r == 0 ? backups_start(berthd, err) : r;
        r = r == 0 ? enter(berthd, err) : r;
    }
    where_phase(NULL);
    *ret_berthd = berthd; /* half-built too: berthd_stop and berthd_free end it */
    return r;
}
