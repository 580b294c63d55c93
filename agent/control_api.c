#include "agent/control_api.h"

#include "agent/image_writer.h"
#include "agent/orders.h"
#include "agent/vm_metrics.h"
#include "api/api_problem.h"
#include "base/cleanup.h"
#include "base/list.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/random.h"
#include "base/version.h"
#include "model/join_token.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Of VMs as much as they may take, and a phase and a load of each beside it. */
#define METRICS_SIZE_MAX (VM_METRICS_SIZE_MAX + ((size_t)4 << 20))

typedef void
proposed_fn(void *context, uint32_t index, int code, const struct apply_result *result);

/* An answer that has to wait for the loop's next turn: no callback runs inside a call. */
struct deferred {
    struct list link;
    int code;
    uint32_t index;
    bool refused; /* proposed: code 0, with this result */
    struct apply_result result;
    proposed_fn *proposed; /* one of the two */
    control_readable *readable;
    void *context;
};

struct proposal {
    proposed_fn *done;
    void *context;
    uint32_t index;
};

struct reading {
    struct control_api *api;
    control_readable *readable;
    void *context;
};

/* ---- deferring
 * -------------------------------------------------------------------------------------
 */

static void deferred_run(void *context)
{
    struct control_api *api = context;
    struct list ready;
    list_init(&ready);
    list_move_all(&ready, &api->deferred);
    LIST_EACH_SAFE (item, &ready) {
        struct deferred *deferred = LIST_ITEM(item, struct deferred, link);
        list_remove(item);
        if (deferred->proposed != NULL) {
            deferred->proposed(deferred->context, deferred->index, deferred->code,
                               deferred->refused ? &deferred->result : NULL);
        } else {
            deferred->readable(deferred->context, deferred->code, NULL);
        }
        free(deferred);
    }
}

static void defer(struct control_api *api, const struct deferred *answer)
{
    struct deferred *deferred = malloc(sizeof(*deferred));
    if (deferred == NULL) {
        abort(); /* an answer that never comes would hang its client without a word */
    }
    *deferred = *answer;
    list_push_back(&api->deferred, &deferred->link);
    loop_post_send(api->later);
}

/* ---- log and state
 * --------------------------------------------------------------------------------- */

static bool leads(const struct control_api *api)
{
    return api->leader != NULL && leader_leads(api->leader);
}

uint64_t control_api_leader(const struct control_api *api)
{
    uint64_t raft_id = 0;
    if (api->control != NULL &&
        consensus_leader(control_consensus(api->control), &raft_id, NULL)) {
        const struct msg_member *member = members_by_raft_id(api->members, raft_id);
        return member != NULL ? member->uid : 0;
    }
    return api->worker != NULL ? worker_leader_asked(api->worker) : 0;
}

static const struct host *host_by_raft_id(const struct state *state, uint64_t raft_id)
{
    size_t cursor = 0;
    const struct host *host;
    while ((host = state_next(state, KIND_HOST, &cursor)) != NULL &&
           (host->status.phase == HOST_PHASE_REMOVED ||
            identity_raft_id_of(&host->status.public_key) != raft_id)) {
    }
    return host;
}

void control_api_not_leader(const struct control_api *api,
                            struct msg_not_leader *ret_answer)
{
    uint64_t raft_id = 0;
    const struct consensus *consensus =
        api->control != NULL ? control_consensus(api->control) : NULL;
    *ret_answer = (struct msg_not_leader){.leader = control_api_leader(api)};
    if (consensus == NULL || !consensus_leader(consensus, &raft_id, NULL)) {
        return;
    }
    /* The state, not the members: those this host has from orders, as the asker has. */
    const struct host *host = host_by_raft_id(control_state(api->control), raft_id);
    if (host != NULL) {
        ret_answer->leader = host->meta.uid;
        ret_answer->term = consensus_term(consensus);
        ret_answer->member = orders_member(host);
    }
}

/* A replaced voter that is back has its old log still, in which nothing happens. */
static bool has_part(const struct control_api *api)
{
    const struct msg_member *self = members_by_uid(api->members, api->identity->uid);
    return api->control != NULL &&
           (leads(api) || self == NULL || self->voter != VOTER_NONE);
}

static uint64_t revision(const struct control_api *api)
{
    return api->control != NULL ? state_revision(control_state(api->control)) : 0;
}

static void role(void *context, struct control_role *ret_role)
{
    struct control_api *api = context;
    const bool leading = leads(api); /* whom each write asks: no need to look further */
    const struct msg_member *leader =
        leading ? NULL : members_by_uid(api->members, control_api_leader(api));
    *ret_role = (struct control_role){
        .leader = leading,
        .voter = has_part(api),
        .host_name = api->identity->name,
        .leader_name = leading          ? api->identity->name
                       : leader != NULL ? leader->name
                                        : "",
        .revision = revision(api),
    };
}

static void proposal_done(void *context, int code, const struct apply_result *result)
{
    struct proposal *proposal = context;
    proposal->done(proposal->context, proposal->index, code, result);
    free(proposal);
}

static int propose_one(struct control_api *api,
                       const struct command *command,
                       uint32_t index,
                       proposed_fn *done,
                       void *context)
{
    struct command copy = *command; /* shallow: only the time is stamped */
    struct proposal *proposal;
    if (!leads(api)) {
        return BERTH_ENOTLEADER;
    }
    proposal = malloc(sizeof(*proposal));
    if (proposal == NULL) {
        return -ENOMEM;
    }
    *proposal = (struct proposal){.done = done, .context = context, .index = index};
    int r = control_propose(api->control, &copy, proposal_done, proposal);
    if (r < 0) {
        free(proposal);
    }
    return r;
}

/* What needs a level that the cluster is not at is answered in words, with what the level
 * waits for. */
static void say_level(struct control_api *api,
                      const struct command *command,
                      struct apply_result *result)
{
    struct err err = {0};
    char why[256];
    (void)control_check_level(api->control, command, &err);
    leader_level_waits(api->leader, why);
    result->code = BERTH_ELEVEL;
    (void)snprintf(result->text, sizeof(result->text), "%.120s%s%.130s", err.text,
                   why[0] != '\0' ? ": " : "", why);
}

/* What the leader itself has to say against it; 0: nothing, and it is proposed. */
static int say_leader(struct control_api *api,
                      const struct command *command,
                      struct apply_result *result)
{
    struct err err = {0};
    result->code = leads(api) ? leader_check_command(api->leader, command, &err) : 0;
    (void)snprintf(result->text, sizeof(result->text), "%.255s", err.text);
    return result->code;
}

/* It says nothing of the commands beside it. */
static bool is_of_command(int refusal)
{
    return refusal == BERTH_ELEVEL || refusal == BERTH_ETOOLARGE;
}

static void propose(void *context,
                    const struct command *commands,
                    uint32_t count,
                    proposed_fn *done,
                    void *done_context)
{
    struct control_api *api = context;
    int full = 0; /* what the log has refused one with, and with it those behind it */
    for (uint32_t i = 0; i < count; i++) {
        struct deferred answer = {.index = i, .proposed = done, .context = done_context};
        int r = say_leader(api, &commands[i], &answer.result);
        bool said = r < 0;
        if (!said) {
            r = full < 0 ? full : propose_one(api, &commands[i], i, done, done_context);
            full = r < 0 && !is_of_command(r) ? r : 0;
        }
        if (r == BERTH_ELEVEL) {
            say_level(api, &commands[i], &answer.result);
        }
        if (r < 0) {
            answer.refused = said || r == BERTH_ELEVEL;
            answer.code = answer.refused ? 0 : r;
            answer.result.revision = revision(api);
            defer(api, &answer);
        }
    }
}

static void read_done(void *context, int code)
{
    struct reading *reading = context;
    bool ok = code == 0 && reading->api->control != NULL;
    reading->readable(reading->context, code,
                      ok ? control_state(reading->api->control) : NULL);
    free(reading);
}

static void read_state(void *context, control_readable *readable, void *readable_context)
{
    struct control_api *api = context;
    int r = leads(api) ? 0 : BERTH_ENOTLEADER;
    struct reading *reading = NULL;
    if (r == 0) {
        reading = malloc(sizeof(*reading));
        r = reading == NULL ? -ENOMEM : 0;
    }
    if (r == 0) {
        *reading = (struct reading){
            .api = api, .readable = readable, .context = readable_context};
        r = control_read(api->control, read_done, reading);
    }
    if (r < 0) {
        free(reading);
        defer(api, &(struct deferred){
                       .code = r, .readable = readable, .context = readable_context});
    }
}

static const struct state *state(void *context)
{
    struct control_api *api = context;
    return has_part(api) ? control_state(api->control) : NULL;
}

static const struct feed *feed(void *context)
{
    struct control_api *api = context;
    return has_part(api) ? control_feed(api->control) : NULL;
}

/* ---- soft facts
 * ------------------------------------------------------------------------------------ */

static json_t *vm_live(void *context, const struct vm *vm)
{
    struct control_api *api = context;
    return leads(api) ? leader_vm_live(api->leader, vm) : NULL;
}

static json_t *host_live(void *context, const struct host *host)
{
    struct control_api *api = context;
    return leads(api) ? leader_host_live(api->leader, host) : NULL;
}

static json_t *level(void *context)
{
    struct control_api *api = context;
    return leads(api) ? leader_level(api->leader) : NULL;
}

static bool
vm_waits(void *context, const struct vm *vm, unsigned *looks, char *ret_text, size_t size)
{
    struct control_api *api = context;
    return leads(api) && scheduler_pending_reason(leader_scheduler(api->leader),
                                                  control_state(api->control), vm, looks,
                                                  ret_text, size);
}

/* Only the start needs the image's content: what runs has been given it. */
static bool vm_lacks(void *context,
                     const struct vm *vm,
                     char ret_missing[NAME_SIZE],
                     char *ret_text,
                     size_t size)
{
    struct control_api *api = context;
    struct image_lack lack;
    char text[IMAGE_LACK_TEXT_SIZE];
    ret_missing[0] = '\0';
    if (!leads(api) || vm->status.phase != PHASE_PLACED ||
        !leader_image_lacks(api->leader, vm->meta.tenant, vm->spec.machine.image,
                            vm->status.host, &lack)) {
        return false;
    }
    image_lack_tell(&lack, control_state(api->control), text);
    (void)snprintf(ret_text, size, "%s", text);
    if (lack.from == 0) {
        memcpy(ret_missing, lack.image, sizeof(lack.image));
    }
    return true;
}

static json_t *explain_vm(void *context, const struct vm *vm)
{
    struct control_api *api = context;
    char missing[NAME_SIZE];
    char text[IMAGE_LACK_TEXT_SIZE];
    const char *waits = vm_lacks(api, vm, missing, text, sizeof(text)) ? text : NULL;
    return leads(api) ? scheduler_explain_vm(leader_scheduler(api->leader),
                                             control_state(api->control), vm, waits)
                      : NULL;
}

/* Of the image that its next VMs are made from. */
static bool group_lacks(struct control_api *api,
                        const struct group *group,
                        char ret_text[IMAGE_LACK_TEXT_SIZE])
{
    const struct state *state = control_state(api->control);
    const struct template *template = state_get(state, KIND_TEMPLATE, group->meta.tenant,
                                                group->spec.template_ref.name);
    struct image_lack lack;
    if (template == NULL || !leader_image_lacks(api->leader, group->meta.tenant,
                                                template->spec.image, 0, &lack)) {
        return false;
    }
    image_lack_tell(&lack, state, ret_text);
    return true;
}

static json_t *explain_group(void *context, const struct group *group)
{
    struct control_api *api = context;
    char text[IMAGE_LACK_TEXT_SIZE];
    const char *waits = leads(api) && group_lacks(api, group, text) ? text : NULL;
    return leads(api) ? scheduler_explain_group(leader_scheduler(api->leader),
                                                control_state(api->control), group, waits,
                                                clock_now_ns(api->clock))
                      : NULL;
}

static json_t *forecast(void *context,
                        const char *tenant,
                        const char *group,
                        const struct machine_spec *machine,
                        uint32_t count)
{
    struct control_api *api = context;
    return leads(api) ? scheduler_forecast(leader_scheduler(api->leader),
                                           control_state(api->control), tenant, group,
                                           machine, count, clock_now_ns(api->clock))
                      : NULL;
}

static json_t *forecast_vm(void *context, const struct vm *vm)
{
    struct control_api *api = context;
    return leads(api) ? scheduler_forecast_vm(leader_scheduler(api->leader),
                                              control_state(api->control), vm)
                      : NULL;
}

static void metrics_log(const struct control_api *api, struct bytes_writer *writer)
{
    struct consensus_counters counters;
    const struct consensus *consensus = control_consensus(api->control);
    consensus_counters(consensus, &counters);
    bytes_write_format(
        writer,
        "# HELP berth_raft_is_leader Whether this host leads the cluster.\n"
        "# TYPE berth_raft_is_leader gauge\nberth_raft_is_leader %d\n"
        "# HELP berth_raft_term Term of the replicated log.\n"
        "# TYPE berth_raft_term gauge\nberth_raft_term %llu\n"
        "# HELP berth_raft_log_last_index Last entry of the log that is applied here.\n"
        "# TYPE berth_raft_log_last_index gauge\nberth_raft_log_last_index %llu\n"
        "# HELP berth_state_revision Revision of the state as applied here.\n"
        "# TYPE berth_state_revision gauge\nberth_state_revision %llu\n"
        "# HELP berth_raft_proposals_total Commands this host proposed as the leader.\n"
        "# TYPE berth_raft_proposals_total counter\nberth_raft_proposals_total %llu\n"
        "# HELP berth_raft_entries_total Log entries that carried them.\n"
        "# TYPE berth_raft_entries_total counter\nberth_raft_entries_total %llu\n"
        "# HELP berth_state_level The cluster's level, as applied here.\n"
        "# TYPE berth_state_level gauge\nberth_state_level %u\n",
        leads(api) ? 1 : 0, (unsigned long long)consensus_term(consensus),
        (unsigned long long)consensus_applied_index(consensus),
        (unsigned long long)state_revision(control_state(api->control)),
        (unsigned long long)counters.proposals, (unsigned long long)counters.entries,
        state_level(control_state(api->control)));
}

static void metrics_backups(const struct control_api *api, struct bytes_writer *writer)
{
    struct backup_keeper_stats stats;
    backup_keeper_stats(api->backups, &stats);
    bytes_write_format(
        writer,
        "# HELP berth_backups_total Scheduled backups by result.\n"
        "# TYPE berth_backups_total counter\nberth_backups_total{result=\"made\"} %llu\n"
        "berth_backups_total{result=\"failed\"} %llu\n"
        "# HELP berth_backup_last_seconds When the last backup was made, in Unix time; "
        "0: none.\n"
        "# TYPE berth_backup_last_seconds gauge\nberth_backup_last_seconds %llu\n",
        (unsigned long long)stats.made, (unsigned long long)stats.failed,
        (unsigned long long)(stats.last_wall_ms / MS_PER_S));
}

static char *metrics(void *context)
{
    struct control_api *api = context;
    struct bytes_writer writer;
    char *text = NULL;
    bytes_writer_init(&writer, METRICS_SIZE_MAX);
    bytes_write_format(
        &writer,
        "# HELP berth_build_info The version of berthd, as a label.\n"
        "# TYPE berth_build_info gauge\nberth_build_info{version=\"%s\"} 1\n"
        "# HELP berth_level_max The highest level of the state that this berthd knows.\n"
        "# TYPE berth_level_max gauge\nberth_level_max %u\n",
        BERTH_VERSION, level_range_up_to(0).max);
    if (api->control != NULL) {
        metrics_log(api, &writer);
    }
    if (api->backups != NULL) {
        metrics_backups(api, &writer);
    }
    struct mesh_stats stats;
    link_stats(api->link, &stats);
#define METRICS_MESH(name, sentence)                                                    \
    bytes_write_format(&writer,                                                         \
                       "# HELP berth_mesh_" #name "_total " sentence                    \
                       "\n# TYPE berth_mesh_" #name "_total counter\nberth_mesh_" #name \
                       "_total %llu\n",                                                 \
                       (unsigned long long)stats.name);
    MESH_COUNTERS(METRICS_MESH)
#undef METRICS_MESH
    if (api->forward != NULL) {
        bytes_write_format(&writer,
                           "# HELP berth_forward_refused_total Requests between hosts "
                           "answered 503: too many were under way.\n"
                           "# TYPE berth_forward_refused_total counter\n"
                           "berth_forward_refused_total %llu\n",
                           (unsigned long long)forward_turned_away(api->forward));
    }
    if (api->worker != NULL) {
        worker_metrics(api->worker, &writer);
    }
    return bytes_writer_take_text(&writer, &text) == 0 ? text : NULL;
}

/* ---- join tokens
 * ----------------------------------------------------------------------------------- */

struct minting {
    void (*done)(void *context, int code, const char *token, const char *detail);
    void *context;
    struct join_token token;
};

static void
minted(void *context, uint32_t index, int code, const struct apply_result *result)
{
    struct minting *minting = context;
    char text[JOIN_TOKEN_TEXT_SIZE];
    (void)index;
    if (code == 0 && result->code == 0) {
        join_token_format(&minting->token, text);
        minting->done(minting->context, 0, text, NULL);
    } else {
        int why = code < 0 ? code : result->code;
        minting->done(minting->context, why, NULL,
                      code < 0 ? err_sentence(code) : result->text);
    }
    explicit_bzero(minting, sizeof(*minting));
    free(minting);
}

static int token_command(struct control_api *api,
                         uint64_t ttl_ms,
                         const struct join_token *token,
                         struct command *command)
{
    uint8_t suffix[4];
    char hex[9];
    struct token *object = object_new(KIND_TOKEN);
    if (object == NULL) {
        return -ENOMEM;
    }
    random_secret(suffix, sizeof(suffix));
    hex_format(suffix, sizeof(suffix), hex);
    (void)snprintf(object->meta.name, sizeof(object->meta.name), "join-%s", hex);
    object->spec.role = ROLE_JOIN;
    object->spec.expires_wall_ms = clock_wall_ms(api->clock) + ttl_ms;
    object->spec.uses_left = 1;
    object->spec.hash = join_secret_hash(token->secret);
    command_init(command, COMMAND_PUT);
    (void)snprintf(command->subject, sizeof(command->subject), "system");
    int r = command_set_put(command, KIND_TOKEN, object, REVISION_NONE);
    object_free(KIND_TOKEN, object);
    return r;
}

static void join_token(
    void *context,
    uint64_t ttl_ms,
    void (*done)(void *done_context, int code, const char *token, const char *detail),
    void *done_context)
{
    struct control_api *api = context;
    struct command command;
    struct minting *minting = calloc(1, sizeof(*minting));
    if (minting == NULL) {
        abort(); /* as in defer() */
    }
    minting->done = done;
    minting->context = done_context;
    minting->token.address = api->identity->address;
    minting->token.port = (uint16_t)(api->identity->mesh_port + LINK_JOIN_PORT_OFFSET);
    minting->token.key = identity_key_digest(&api->identity->key);
    random_secret(minting->token.secret, sizeof(minting->token.secret));
    if (token_command(api, ttl_ms, &minting->token, &command) < 0) {
        abort();
    }
    propose(api, &command, 1, minted, minting);
    command_fini(&command);
}

/* ---- elsewhere
 * -------------------------------------------------------------------------------------
 */

static void refuse_no_leader(struct exchange *exchange)
{
    problem_answer(exchange,
                   &(struct problem){.code = BERTH_ENOLEADER,
                                     .detail = "the cluster has no leader that this host "
                                               "can reach"},
                   0);
}

/* Waiting may help nobody here: the way back is said, and how to be sure first, for it
 * costs disks. */
static void refuse_shut_out(struct exchange *exchange, const struct msg_member *by)
{
    char text[768];
    int size = snprintf(
        text, sizeof(text),
        "{\"type\":\"about:blank\",\"title\":\"Turned away\",\"status\":403,"
        "\"code\":\"BERTH_EFORBIDDEN\",\"detail\":\"%s turns this host's key away, and "
        "no other host of the cluster is connected%s\",\"hint\":\"if `berth ls host` on "
        "a member does not list this host, it was removed: berth down --forget here, "
        "which ends its VMs and their disks, then berth join TOKEN; berth token join on "
        "a member makes one\"}\n",
        by->name,
        exchange_in_doubt(exchange) ? "; what was asked may still have been done" : "");
    exchange_answer(exchange, 403, "application/problem+json", NULL, 0, text,
                    (size_t)size); /* it fits: a name is short */
}

static void wait_for_leader(struct control_api *api, struct exchange *exchange)
{
    if (api->wait != NULL) {
        leader_wait_add(api->wait, exchange);
    } else {
        refuse_no_leader(exchange);
    }
}

bool control_api_finds_leader(const struct control_api *api)
{
    uint64_t host = control_api_leader(api);
    return leads(api) || (host != 0 && host != api->identity->uid && api->link != NULL &&
                          link_is_up(api->link, host));
}

static void forward(void *context, struct exchange *exchange)
{
    struct control_api *api = context;
    uint64_t host = control_api_leader(api);
    const struct msg_member *by = api->link != NULL ? link_shut_out_by(api->link) : NULL;
    if (by != NULL) {
        refuse_shut_out(exchange, by);
    } else if (api->forward == NULL) {
        refuse_no_leader(exchange);
    } else if (host == 0 || host == api->identity->uid) {
        wait_for_leader(api, exchange); /* between two leaders, or before the first */
    } else {
        forward_exchange(api->forward, host, exchange, 0);
    }
}

static void console(void *context, struct exchange *exchange, uint64_t uid)
{
    struct control_api *api = context;
    const struct vm *vm =
        api->control != NULL ? state_vm(control_state(api->control), uid) : NULL;
    if (vm == NULL || vm->status.host == api->identity->uid || vm->status.host == 0) {
        console_sessions_begin(api->consoles, exchange, uid);
    } else {
        forward_exchange(api->forward, vm->status.host, exchange, uid);
    }
}

void control_api_console(struct control_api *api, struct exchange *exchange, uint64_t vm)
{
    const struct msg_member *from =
        members_by_uid(api->members, exchange_request(exchange)->credentials.forwarder);
    if (from == NULL || from->voter == VOTER_NONE) {
        log_warn("control", "a host without a part in the log asks for a console",
                 KV_STR("from", from != NULL ? from->name : ""), KV_U64("vm", vm));
        problem_answer(exchange, &(struct problem){.code = BERTH_EFORBIDDEN}, 0);
    } else if (api->consoles == NULL) {
        problem_answer(exchange, &(struct problem){.code = BERTH_ECLOSED}, 0);
    } else {
        console_sessions_begin(api->consoles, exchange, vm);
    }
}

/* ---- images
 * ----------------------------------------------------------------------------------------
 */

static void *blob_begin(void *context,
                        const struct digest *expected,
                        uint64_t size_bytes,
                        struct err *err)
{
    struct control_api *api = context;
    return image_writer_begin(api->images, expected, size_bytes, err);
}

static int
blob_write(void *context, void *blob, const void *data, size_t size, struct err *err)
{
    (void)context;
    return image_writer_write(blob, data, size, err);
}

static void
blob_end(void *context, void *blob, bool abort_it, image_done *done, void *done_context)
{
    (void)context;
    if (abort_it) {
        image_writer_abort(blob);
    } else {
        image_writer_end(blob, done, done_context);
    }
}

static void blob_fetch(void *context,
                       const char *url,
                       const struct digest *expected,
                       image_done *done,
                       void *done_context)
{
    struct control_api *api = context;
    image_store_fetch(api->images, url, expected, done, done_context);
}

static bool blob_has(void *context, const struct digest *digest, uint64_t *ret_size)
{
    struct control_api *api = context;
    return image_store_holds_whole(api->images, digest, ret_size);
}

/* ---- life
 * ------------------------------------------------------------------------------------------
 */

int control_api_init(struct control_api *api)
{
    list_init(&api->deferred);
    api->later = loop_post_new(api->loop, deferred_run, api);
    api->plane = (struct control_plane){
        .context = api,
        .role = role,
        .propose = propose,
        .read = read_state,
        .state = state,
        .feed = feed,
        .vm_live = vm_live,
        .host_live = host_live,
        .level = level,
        .vm_waits = vm_waits,
        .vm_lacks = vm_lacks,
        .explain_vm = explain_vm,
        .explain_group = explain_group,
        .forecast = forecast,
        .forecast_vm = forecast_vm,
        .metrics = metrics,
        .join_token = join_token,
        .forward = forward,
        .console = console,
        .blob_begin = blob_begin,
        .blob_write = blob_write,
        .blob_end = blob_end,
        .blob_fetch = blob_fetch,
        .blob_has = blob_has,
    };
    return api->later != NULL ? 0 : -ENOMEM;
}

void control_api_fini(struct control_api *api)
{
    deferred_run(api);
    loop_post_close(api->later);
    api->later = NULL;
}
