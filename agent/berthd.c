#include "agent/berthd.h"

#include "agent/berthd_identity.h"
#include "agent/control_api.h"
#include "agent/disk_room.h"
#include "agent/level_file.h"
#include "agent/orders.h"
#include "agent/rebirth.h"
#include "agent/tls_identity.h"
#include "agent/voters.h"
#include "api/http_server.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/own_address.h"
#include "base/random.h"
#include "base/require.h"
#include "base/state_file.h"
#include "model/join_token.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define JOIN_RETRY_MS  1000
#define JOIN_ASKED_MAX 5 /* times that one host is asked without an answer */
#define FOUND_RETRY_MS 200
#define LAST_WORDS_MS  100 /* for answers on their way, once another host leads */

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
    struct control_api
        plane; /* also the home of control, leader, worker, forward, consoles */
    struct api *api;
    struct http_server *http;
    struct loop_timer *entry; /* while founding or joining: tries again */
    struct join_token join_token;
    struct join_target {
        struct mesh_key key;
        uint32_t address;
        uint32_t port;
        unsigned asked; /* since it answered */
    } join_target;      /* the token's host, or the one that it names as leader */
    bool founding_under_way;
    bool restored;      /* the log begins with a backup's state */
    int founding_fault; /* as last said */
    bool feed_changed;
    struct loop_post *feed_post;
    struct loop_post *end_post; /* ends the daemon on the loop's next turn */
    uint32_t level_written;     /* as the state folder says */
    bool handing_over;          /* asked to stop; leads perhaps still */
    struct loop_timer *last_words;
    bool stopping;
    unsigned closing; /* asynchronous ends under way */
    int exit_code;
};

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

static struct level_range levels_of(const struct berthd *berthd)
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

static int log_start(struct berthd *berthd, bool bootstrap, struct err *err)
{
    CLEANUP_FREE char *folder = NULL;
    char address[MESH_ADDRESS_SIZE];
    struct control *control = NULL;
    if (asprintf(&folder, "%s/raft", berthd->identity.folder) < 0) {
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
        .levels = levels_of(berthd),
        .members = &berthd->members,
    };
    const struct control_events events = {.context = berthd,
                                          .on_leadership = on_leadership,
                                          .on_change = on_change,
                                          .on_restored = on_restored,
                                          .on_fatal = on_fatal};
    int r = control_open(&config, &events, bootstrap, &control, err);
    if (r < 0) {
        return r;
    }
    berthd->plane.control = control;
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
    CLEANUP_FREE char *path = NULL;
    struct stat info;
    bool on_disk = asprintf(&path, "%s/raft", berthd->identity.folder) >= 0 &&
                   stat(path, &info) == 0;
    return on_disk || (self != NULL && self->voter != VOTER_NONE);
}

/* A voter has had its log; one that began anew would have forgotten what it acknowledged
 * and whom it voted for. */
static int log_is_there(const struct berthd *berthd, struct err *err)
{
    const struct msg_member *self =
        members_by_uid(&berthd->members, berthd->identity.uid);
    CLEANUP_FREE char *path = NULL;
    struct stat info;
    if (self == NULL || self->voter != VOTER_VOTER) {
        return 0;
    }
    if (asprintf(&path, "%s/raft", berthd->identity.folder) < 0) {
        return err_sys(err, -ENOMEM, "open the log");
    }
    if (stat(path, &info) == 0) {
        return 0;
    }
    return err_set(err, BERTH_ECORRUPT,
                   "%s is missing, and this host is a voter: put it back as it was; or, "
                   "while other voters lead, `berth rm host/%s` there, then `berth down "
                   "--forget` and `berth join TOKEN` here; or restore a backup",
                   path, berthd->identity.name);
}

/* ---- the worker
 * -------------------------------------------------------------------------------------
 */

static void on_members_changed(void *context)
{
    struct berthd *berthd = context;
    struct err err;
    link_members_changed(berthd->link);
    if (berthd->plane.control == NULL && log_is_ours(berthd) && !berthd->stopping &&
        log_start(berthd, false, &err) < 0) {
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

static void on_vm_forgotten(void *context, uint64_t vm)
{
    struct berthd *berthd = context;
    console_sessions_end(berthd->plane.consoles, vm);
}

/* Written down for the next start, which may be another release's. */
static void on_level(void *context, uint32_t level)
{
    struct berthd *berthd = context;
    char why[256];
    struct err err;
    if (berthd->stopping) {
        return;
    }
    if (level != berthd->level_written) {
        berthd->level_written =
            level; /* tried once: the log and its snapshots say it too */
        if (level_file_write(berthd->identity.folder, level, &err) < 0) {
            log_warn("berthd", "the cluster's level cannot be written down",
                     KV_STR("why", err.text));
        }
    }
    if (level_in_range(levels_of(berthd), level)) {
        return;
    }
    level_refusal(levels_of(berthd), level, why);
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
        .memory_reserve_mib = berthd->config.memory_reserve_mib,
        .cpu_overcommit = berthd->config.cpu_overcommit,
        .disk = {.reserve_bytes = berthd->config.disk_reserve_bytes,
                 .image_bytes = berthd->config.image_cache_bytes,
                 .overcommit = berthd->config.disk_overcommit},
        .fence = true,
        .watchdog = berthd->config.watchdog,
        .context = berthd,
        .members_changed = on_members_changed,
        .level_told = on_level,
        .levels = levels_of(berthd),
        .revision = revision,
        .vm_forgotten = on_vm_forgotten,
    };
}

static int work_start(struct berthd *berthd, struct err *err)
{
    const struct worker_config config = worker_config_of(berthd);
    int r = worker_open(&config, &berthd->plane.worker, err);
    if (r < 0) {
        return r;
    }
    berthd->plane.consoles =
        console_sessions_new(berthd->loop, worker_supervisor(berthd->plane.worker));
    return berthd->plane.consoles != NULL ? 0 : err_sys(err, -ENOMEM, "start the worker");
}

/* The host has become a member: writes that down and begins to work. */
static void
entered(struct berthd *berthd, uint64_t uid, const struct msg_member_list *members)
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

/* ---- founding
 * ---------------------------------------------------------------------------------------
 */

static int status_fill(struct berthd *berthd, struct host_status *status)
{
    const struct worker_config config = worker_config_of(berthd);
    return worker_status(&config, status);
}

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
    entered(berthd, host->meta.uid, &members);
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
    int r = status_fill(berthd, &command.body.host_join.status);
    command.body.host_join.status.voter = VOTER_VOTER;
    for (uint32_t i = 0; i < berthd->identity.labels.count && r == 0; i++) {
        const struct label *from = &berthd->identity.labels.items[i];
        struct label_list *to = &command.body.host_join.labels;
        struct label *items = realloc(to->items, (to->count + 1) * sizeof(*items));
        to->items = items != NULL ? items : to->items;
        char *value = items != NULL ? strdup(from->value) : NULL;
        if (value == NULL) {
            r = -ENOMEM;
            break;
        }
        memcpy(items[to->count].key, from->key, NAME_SIZE);
        items[to->count++].value = value;
    }
    r = r == 0 ? control_propose(berthd->plane.control, &command, founded, berthd) : r;
    berthd->founding_under_way = r == 0;
    command_fini(&command);
}

static int founding_start(struct berthd *berthd, struct err *err)
{
    if (!berthd->identity.founder) {
        random_secret(&berthd->identity.cluster_id, sizeof(berthd->identity.cluster_id));
        berthd->identity.founder = true;
        int r = identity_save(&berthd->identity, err);
        if (r < 0) {
            return r;
        }
    }
    int r = log_start(berthd, !berthd->restored, err);
    if (r == BERTH_EEXISTS) { /* an earlier start got this far */
        r = log_start(berthd, false, err);
    }
    if (r < 0) {
        return r;
    }
    berthd->entry = loop_timer_new(berthd->loop, 1, FOUND_RETRY_MS, found, berthd);
    return berthd->entry != NULL ? 0 : err_sys(err, -ENOMEM, "found the cluster");
}

/* ---- joining
 * ----------------------------------------------------------------------------------------
 */

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

/* A leader that does not answer may lead no more: who is it now? */
static void join_choose(struct berthd *berthd)
{
    const struct join_target first = join_token_host(berthd);
    if (berthd->join_target.asked++ >= JOIN_ASKED_MAX) {
        join_ask_at(berthd, &first);
    }
}

static void join(void *context)
{
    struct berthd *berthd = context;
    struct msg_join message;
    struct err err;
    record_init(&msg_join_record, &message);
    memcpy(message.name, berthd->identity.name, NAME_SIZE);
    const struct level_range levels = levels_of(berthd);
    message.level_min = levels.min;
    message.level_max = levels.max;
    memcpy(message.secret.bytes, berthd->join_token.secret, JOIN_SECRET_SIZE);
    int r = status_fill(berthd, &message.status);
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

static void join_refer(struct berthd *berthd, const struct msg_member *leader)
{
    const struct join_target target = {.key = identity_mesh_key(&leader->key),
                                       .address = leader->address,
                                       .port = leader->mesh_port + LINK_JOIN_PORT_OFFSET};
    log_info("berthd", "another host leads and is asked to let us in",
             KV_STR("leader", leader->name));
    join_ask_at(berthd, &target);
}

static void on_join_reply(void *context, struct msg_join_reply *reply)
{
    struct berthd *berthd = context;
    if (berthd->identity.uid != 0 || berthd->stopping) {
        return;
    }
    if (reply->code == 0 && reply->uid != 0) {
        berthd->identity.cluster_id = reply->cluster_id;
        link_join_end(berthd->link, &berthd->join_target.key);
        entered(berthd, reply->uid, &reply->members);
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
    log_error("berthd", "the cluster does not let us in", KV_STR("why", text));
    berthd->exit_code = 3;
    berthd_stop(berthd);
}

static int joining_start(struct berthd *berthd, struct err *err)
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

/* ---- messages
 * ---------------------------------------------------------------------------------------
 */

static void
on_heartbeat(struct berthd *berthd, const struct msg_member *from, void *message)
{
    if (berthd->plane.leader != NULL && leader_leads(berthd->plane.leader)) {
        leader_on_heartbeat(berthd->plane.leader, from, message);
        return;
    }
    const struct msg_not_leader answer = {.leader = control_api_leader(&berthd->plane)};
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

static void on_message(void *context,
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
}

static void on_forwarded(void *context, struct exchange *exchange, uint64_t console_vm)
{
    struct berthd *berthd = context;
    if (console_vm == 0) {
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

static int parts_open(struct berthd *berthd, struct err *err)
{
    CLEANUP_FREE char *images = NULL;
    struct berthd_config *config = &berthd->config;
    const struct link_events events = {.context = berthd,
                                       .on_message = on_message,
                                       .on_join = on_join,
                                       .on_join_reply = on_join_reply,
                                       .on_peer = on_peer};
    if (asprintf(&images, "%s/images", berthd->identity.folder) < 0) {
        return err_sys(err, -ENOMEM, "open images");
    }
    if (config->disk_reserve_bytes == BERTHD_RESERVE_DEFAULT) {
        config->disk_reserve_bytes = disk_reserve_default(berthd->identity.folder);
    }
    const struct image_limits limits = {.cache_bytes = config->image_cache_bytes,
                                        .reserve_bytes = config->disk_reserve_bytes};
    int r = members_open(berthd->identity.folder, &berthd->members, err);
    r = r == 0 ? host_facts_read(&berthd->facts, err) : r;
    r = r == 0 ? image_store_open(berthd->loop, images, &limits, &berthd->images, err)
               : r;
    r = r == 0 ? link_open(berthd->loop, &berthd->identity, &berthd->members, &events,
                           &berthd->link, err)
               : r;
    if (r < 0) {
        return r;
    }
    berthd->feed_post = loop_post_new(berthd->loop, on_feed, berthd);
    berthd->end_post = loop_post_new(berthd->loop, on_end, berthd);
    berthd->plane.loop = berthd->loop;
    berthd->plane.clock = berthd->clock;
    berthd->plane.identity = &berthd->identity;
    berthd->plane.members = &berthd->members;
    berthd->plane.link = berthd->link;
    berthd->plane.images = berthd->images;
    const struct forward_events forward_events = {.context = berthd,
                                                  .arrived = on_forwarded,
                                                  .leader = who_leads,
                                                  .undone = on_undone};
    berthd->plane.forward =
        forward_new(berthd->loop, berthd->clock, berthd->link, &forward_events);
    const struct leader_wait_events wait_events = {
        .context = berthd, .ready = finds_leader, .again = on_waited};
    berthd->plane.wait = leader_wait_new(berthd->loop, berthd->clock, &wait_events);
    if (berthd->feed_post == NULL || berthd->end_post == NULL ||
        berthd->plane.forward == NULL || berthd->plane.wait == NULL ||
        control_api_init(&berthd->plane) < 0) {
        return err_sys(err, -ENOMEM, "start berthd");
    }
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
    if (berthd->config.restore != NULL) {
        int r = restore(berthd, err);
        if (r < 0) {
            return r;
        }
        berthd->restored = true;
    }
    if (berthd->identity.uid != 0) {
        if (berthd->config.bootstrap || berthd->config.join_token != NULL) {
            log_info("berthd", "this host is a member already and just starts",
                     KV_STR("name", berthd->identity.name));
        }
        int r = log_is_there(berthd, err);
        if (r == 0 && log_is_ours(berthd)) {
            r = log_start(berthd, false, err);
        }
        return r == 0 ? work_start(berthd, err) : r;
    }
    if (berthd->config.bootstrap || berthd->identity.founder) {
        return founding_start(berthd, err);
    }
    if (berthd->config.join_token != NULL) {
        return joining_start(berthd, err);
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
    int r = rebirth_forget_resume(config->folder, berthd->clock, err);
    r = r == 0 ? identity_open(config->folder, &berthd->identity, err) : r;
    r = r == 0 ? level_file_check(berthd->identity.folder, levels_of(berthd),
                                  &berthd->level_written, err)
               : r;
    if (r == 0) {
        r = berthd_identity_complete(&berthd->identity, config, err);
        log_set_host(berthd->identity.name);
        r = r == 0 ? own_address_check(berthd->identity.address, err) : r;
        r = r == 0 ? parts_open(berthd, err) : r;
        r = r == 0 ? backups_start(berthd, err) : r;
        r = r == 0 ? enter(berthd, err) : r;
    }
    *ret_berthd = berthd; /* half-built too: berthd_stop and berthd_free end it */
    return r;
}

/* ---- end
 * --------------------------------------------------------------------------------------------
 */

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
    http_server_close(berthd->http);
    berthd->http = NULL;
    berthd->plane.consoles = console_sessions_free(berthd->plane.consoles);
    berthd->plane.worker = worker_close(berthd->plane.worker);
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
