#include "agent/admission.h"

#include "agent/orders.h"
#include "base/log.h"
#include "base/parse_number.h"
#include "model/join_token.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROOM    "leader"
#define LOOK_MS 10000

struct admission {
    struct admission_config config;
    bool leads;
    bool raising;         /* the cluster's level is about to be another */
    unsigned under_way;   /* hosts whose levels the state does not stand for yet */
    bool sweep_under_way; /* a token is being removed */
    bool changed;         /* the tokens, since they were looked at */
    uint64_t looked_ms;
};

/* ---- tokens ---- */

/* Join tokens that are still good open the join endpoint; without any, strangers reach
 * nothing. Also where this host does not lead: a token names the host that led when it
 * was made. */
static void door_follow_tokens(struct admission *admission)
{
    const struct state *state = control_state(admission->config.control);
    uint64_t wall_ms = clock_wall_ms(admission->config.clock);
    size_t cursor = 0;
    const struct token *token;
    bool open = false;
    if (admission->config.link == NULL) {
        return;
    }
    while ((token = state_next(state, KIND_TOKEN, &cursor)) != NULL) {
        open = open ||
               (token->spec.role == ROLE_JOIN && (token->spec.expires_wall_ms == 0 ||
                                                  token->spec.expires_wall_ms > wall_ms));
    }
    link_guests_allow(admission->config.link, open);
}

static void swept(void *context, int code, const struct apply_result *result)
{
    struct admission *admission = context;
    (void)code; /* a token that is still there is found again */
    (void)result;
    admission->sweep_under_way = false;
}

/* An expired token of a host that never came lets nobody in, but would lie in the state
 * for ever. For a while it stays, so that who comes late is told that it has expired. */
static void token_sweep(struct admission *admission)
{
    const struct state *state = control_state(admission->config.control);
    uint64_t wall_ms = clock_wall_ms(admission->config.clock);
    size_t cursor = 0;
    const struct token *token;
    struct command command;
    if (!admission->leads || admission->sweep_under_way) {
        return;
    }
    while ((token = state_next(state, KIND_TOKEN, &cursor)) != NULL) {
        uint64_t expires_ms = token->spec.expires_wall_ms;
        if (token->spec.role == ROLE_JOIN && expires_ms != 0 && wall_ms > expires_ms &&
            wall_ms - expires_ms >= ADMISSION_TOKEN_KEPT_MS) {
            break;
        }
    }
    if (token == NULL) {
        return;
    }
    command_init(&command, COMMAND_DELETE);
    (void)snprintf(command.subject, sizeof(command.subject), "system");
    command.body.delete.kind = KIND_TOKEN;
    memcpy(command.body.delete.name, token->meta.name, NAME_SIZE);
    command.body.delete.expected_revision = token->meta.modify_revision;
    admission->sweep_under_way =
        control_propose(admission->config.control, &command, swept, admission) == 0;
    command_fini(&command);
}

void admission_tokens_changed(struct admission *admission)
{
    door_follow_tokens(admission);
    admission->changed = true;
}

void admission_tick(struct admission *admission, uint64_t now_ms)
{
    if (admission->changed || now_ms - admission->looked_ms >= LOOK_MS) {
        admission->changed = false;
        admission->looked_ms = now_ms;
        door_follow_tokens(admission); /* one may have expired */
        token_sweep(admission);
    }
}

/* ---- hosts that ask ---- */

struct joining {
    struct admission *admission;
    struct mesh_key guest;
    struct digest key;
};

/* It asks again, so that a lost answer does no harm. */
static void reply_send(struct admission *admission,
                       const struct mesh_key *guest,
                       const struct msg_join_reply *reply)
{
    if (admission->config.link != NULL) {
        (void)link_join_reply(admission->config.link, guest, reply);
    }
}

static void join_refuse(struct admission *admission,
                        const struct mesh_key *guest,
                        int code,
                        const char *text)
{
    struct msg_join_reply reply;
    record_init(&msg_join_reply_record, &reply);
    reply.code = (uint32_t)-code;
    if (record_set_text(&reply.text, text) == 0) {
        reply_send(admission, guest, &reply); /* it asks again or gives up */
    }
    record_fini(&msg_join_reply_record, &reply);
}

static void join_welcome(struct admission *admission,
                         const struct mesh_key *guest,
                         const struct host *host)
{
    struct msg_join_reply reply;
    record_init(&msg_join_reply_record, &reply);
    reply.uid = host->meta.uid;
    reply.cluster_id = admission->config.identity->cluster_id;
    if (orders_members_for_guest(control_state(admission->config.control), reply.uid,
                                 admission->config.identity->uid, &reply.members) == 0) {
        reply_send(admission, guest, &reply); /* it asks again */
    }
    record_fini(&msg_join_reply_record, &reply);
}

static void join_proposed(void *context, int code, const struct apply_result *result)
{
    struct joining *joining = context;
    struct admission *admission = joining->admission;
    admission->under_way--;
    const struct host *host =
        code == 0 && result->code == 0
            ? state_host_by_key(control_state(admission->config.control), &joining->key)
            : NULL;
    if (host != NULL) {
        log_info(ROOM, "host joined", KV_STR("peer", host->meta.name));
        join_welcome(admission, &joining->guest, host);
    } else if (code == 0) {
        join_refuse(admission, &joining->guest, result->code, result->text);
    } else {
        join_refuse(admission, &joining->guest, code, err_sentence(code));
    }
    free(joining);
}

bool admission_address_clash(const struct state *state,
                             const char *name,
                             uint32_t address,
                             char ret_text[ADMISSION_CLASH_SIZE])
{
    size_t cursor = 0;
    const struct network *network;
    char address_text[IPV4_TEXT_SIZE];
    char range[CIDR_TEXT_SIZE];
    while (address != 0 && (network = state_next(state, KIND_NETWORK, &cursor)) != NULL) {
        uint64_t cidr = network->spec.ipv4.cidr;
        if (cidr_contains(cidr, address)) {
            format_ipv4(address, address_text);
            format_cidr(cidr_address(cidr), cidr_prefix(cidr), range);
            (void)snprintf(ret_text, ADMISSION_CLASH_SIZE,
                           "the address %s of host %s is in the range %s of network %s "
                           "of tenant %s: the hosts that carry it could not reach this "
                           "one; give the host another (--address), or that network "
                           "another range",
                           address_text, name, range, network->meta.name,
                           network->meta.tenant);
            return true;
        }
    }
    return false;
}

/* What keeps a new host out whatever its token; 0 or BERTH_EINVALID, BERTH_ECONFLICT. */
static int
join_fits(const struct state *state, const struct msg_join *join, struct err *err)
{
    const struct host_status *status = &join->status;
    char clash[ADMISSION_CLASH_SIZE];
    if (status->memory_bytes == 0 || status->cpu_mcpu == 0) {
        return err_set(err, BERTH_EINVALID,
                       "host %s offers VMs no %s: no VM would ever run there; see its "
                       "berthd's --reserve-memory (where no VM is wanted, leave 1MiB)",
                       join->name, status->memory_bytes == 0 ? "memory" : "CPU");
    }
    return admission_address_clash(state, join->name, status->address, clash)
               ? err_set(err, BERTH_ECONFLICT, "%s", clash)
               : 0;
}

/* Strangers reach this far, so what has no good token does not get into the log. A host
 * that is known by the key of its connection needs none (again). */
static int join_check(const struct admission *admission,
                      const struct host *known,
                      const struct msg_join *join,
                      struct err *err)
{
    const struct token *token;
    const struct digest hash = join_secret_hash(join->secret.bytes);
    const struct level_range range = {join->level_min, join->level_max};
    uint32_t level = state_level(control_state(admission->config.control));
    int r = known != NULL && strcmp(known->meta.name, join->name) == 0
                ? 0
                : state_join_token(control_state(admission->config.control), &hash,
                                   clock_wall_ms(admission->config.clock), &token, err);
    if (r == 0 && !level_in_range(range, level)) {
        char why[256];
        level_refusal(range, level, why);
        return err_set(err, BERTH_ELEVEL, "%s", why);
    }
    if (r == 0 && known == NULL &&
        (r = join_fits(control_state(admission->config.control), join, err)) < 0) {
        return r;
    }
    if (r == 0 && admission->raising) {
        return err_set(err, BERTH_EBUSY, "the cluster's level is being raised");
    }
    return r;
}

/* Without a request id: who asks again is known by then, and a refusal must not be
 * remembered, for the same words may be right later: with another token, or once the
 * host that has the name is gone. */
static int join_command(struct command *command,
                        const struct digest *key,
                        const struct msg_join *join,
                        uint32_t level)
{
    struct cmd_host_join *body = &command->body.host_join;
    const struct msg_join labelled = {.labels = join->labels};
    struct msg_join copy;
    command_init(command, COMMAND_HOST_JOIN);
    (void)snprintf(command->subject, sizeof(command->subject), "host:%.50s", join->name);
    memcpy(body->name, join->name, sizeof(body->name));
    body->token_hash = join_secret_hash(join->secret.bytes);
    record_fini(&host_status_record, &body->status);
    int r = record_copy(&host_status_record, &join->status, &body->status);
    record_limit(&host_status_record, &body->status, level);
    body->status.public_key = *key; /* the connection's, not what it says */
    body->status.voter = VOTER_NONE;
    body->status.phase = HOST_PHASE_READY;
    if (r == 0 && (r = record_copy(&msg_join_record, &labelled, &copy)) == 0) {
        body->labels = copy.labels;
    }
    return r;
}

static int join_propose(struct admission *admission,
                        const struct mesh_key *guest,
                        const struct digest *key,
                        const struct msg_join *join)
{
    struct command command;
    struct joining *joining = calloc(1, sizeof(*joining));
    if (joining == NULL) {
        return -ENOMEM;
    }
    *joining = (struct joining){.admission = admission, .guest = *guest, .key = *key};
    int r = join_command(&command, key, join,
                         state_level(control_state(admission->config.control)));
    r = r < 0 ? r
              : control_propose(admission->config.control, &command, join_proposed,
                                joining);
    command_fini(&command);
    if (r < 0) {
        free(joining);
    } else {
        admission->under_way++;
    }
    return r;
}

static const struct host *find_leader(const struct admission *admission)
{
    const struct state *state = control_state(admission->config.control);
    uint64_t raft_id = 0;
    size_t cursor = 0;
    const struct host *host;
    if (!consensus_leader(control_consensus(admission->config.control), &raft_id, NULL)) {
        return NULL;
    }
    while ((host = state_next(state, KIND_HOST, &cursor)) != NULL) {
        if (identity_raft_id_of(&host->status.public_key) == raft_id) {
            return host;
        }
    }
    return NULL;
}

/* Who trusts this host's key, which stands in the token, may trust whom it names. */
static void join_refer(struct admission *admission, const struct mesh_key *guest)
{
    struct msg_join_reply reply;
    const struct host *host = find_leader(admission);
    char text[NAME_SIZE + 32];
    if (host == NULL || host->meta.uid == admission->config.identity->uid) {
        join_refuse(admission, guest, BERTH_ENOLEADER,
                    "the cluster has no leader at the moment");
        return;
    }
    record_init(&msg_join_reply_record, &reply);
    reply.code = (uint32_t)-BERTH_ENOTLEADER;
    reply.leader = orders_member(host);
    (void)snprintf(text, sizeof(text), "host %s leads now", host->meta.name);
    if (record_set_text(&reply.text, text) == 0) {
        reply_send(admission, guest, &reply); /* it asks again */
    }
    record_fini(&msg_join_reply_record, &reply);
}

void admission_ask(struct admission *admission,
                   const struct mesh_key *guest,
                   const struct msg_join *join)
{
    struct err err;
    const struct digest key = identity_key_digest(guest);
    const struct host *known =
        state_host_by_key(control_state(admission->config.control), &key);
    int r = join_check(admission, known, join, &err);
    if (r < 0) {
        join_refuse(admission, guest, r, err.text); /* and hears nothing of the cluster */
        return;
    }
    if (!admission->leads) {
        join_refer(admission, guest);
        return;
    }
    if (known != NULL && strcmp(known->meta.name, join->name) == 0) {
        /* Our answer was lost, or it knows none of us any more. Whether it is there, its
         * heartbeats say. */
        join_welcome(admission, guest, known);
        return;
    }
    r = join_propose(admission, guest, &key, join);
    if (r < 0) {
        join_refuse(admission, guest, r, err_sentence(r));
    }
}

/* ---- life ---- */

struct admission *admission_new(const struct admission_config *config)
{
    struct admission *admission = calloc(1, sizeof(*admission));
    if (admission != NULL) {
        admission->config = *config;
        admission_tokens_changed(admission); /* those of a snapshot, if there is one */
    }
    return admission;
}

struct admission *admission_free(struct admission *admission)
{
    free(admission);
    return NULL;
}

void admission_end(struct admission *admission)
{
    admission->config.link = NULL;
}

void admission_lead(struct admission *admission, bool leads)
{
    admission->leads = leads;
    admission_tokens_changed(admission);
}

void admission_hold(struct admission *admission, bool raising)
{
    admission->raising = raising;
}

bool admission_lets_in(const struct admission *admission)
{
    return admission->under_way > 0;
}
