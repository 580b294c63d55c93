#include "agent/control.h"

#include "agent/identity.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/require.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define READ_MS 4000

struct control {
    struct control_config config;
    struct control_events events;
    struct consensus *consensus;
    struct state *state;
    struct feed *feed;
    bool dead; /* something was not applied: nothing that follows may be */
    void (*closed)(void *context);
    void *closed_context;
};

struct proposal {
    void (*done)(void *context, int code, const struct apply_result *result);
    void *context;
};

/* ---- what the log asks of the state machine
 * -------------------------------------------------------- */

static void change_seen(void *context, const struct change *change)
{
    struct control *control = context;
    feed_fit(control->feed, state_count_all(control->state));
    feed_push(control->feed, change);
    control->events.on_change(control->events.context, change);
}

static void die(struct control *control, const struct err *why)
{
    control->dead = true;
    control->events.on_fatal(control->events.context, why);
}

static bool takes_part(const struct control *control, uint32_t level)
{
    return level_in_range(control->config.levels, level);
}

static void die_outdated(struct control *control, uint32_t level)
{
    char text[256];
    struct err why;
    level_refusal(control->config.levels, level, text);
    (void)err_set(&why, BERTH_ELEVEL, "%s", text);
    die(control, &why);
}

/* False: it was not read, and this member has come to its end. */
static bool read_command(struct control *control,
                         uint64_t index,
                         const void *data,
                         size_t size,
                         struct command *ret_command)
{
    struct bytes_reader reader;
    bytes_reader_init(&reader, data, size);
    int r = command_decode(&reader, ret_command);
    uint32_t level = ret_command->level;
    if (r == 0 && ret_command->type == COMMAND_SET_LEVEL &&
        ret_command->body.set_level.level > level) {
        level = ret_command->body.set_level.level;
    }
    if (r == BERTH_ELEVEL || (r == 0 && !takes_part(control, level))) {
        command_fini(ret_command);
        die_outdated(control, level);
        return false;
    }
    if (r < 0) {
        struct err why;
        err_sys(&why, r, "log entry %llu holds a command that this berthd cannot read",
                (unsigned long long)index);
        die(control, &why);
    }
    return r == 0;
}

/* A command that this version cannot read cannot be skipped: the others may have applied
 * it. */
static void apply(void *context,
                  uint64_t index,
                  const void *data,
                  size_t size,
                  struct consensus_result *ret_result)
{
    struct control *control = context;
    struct command command;
    struct apply_result result;
    if (control->dead || !read_command(control, index, data, size, &command)) {
        return;
    }
    uint32_t level = state_level(control->state);
    state_apply(control->state, &command, &result);
    if (result.code < 0) {
        log_debug("control", "command refused",
                  KV_STR("command", command_name(command.type)),
                  KV_STR("code", err_name(result.code)), KV_STR("why", result.text));
    }
    if (state_level(control->state) != level) {
        log_info("control", "the cluster's level is raised",
                 KV_U64("level", state_level(control->state)),
                 KV_STR("brings", level_doc(state_level(control->state))));
        /* A later release may not know the level before: it begins with this. */
        consensus_snapshot_soon(control->consensus);
    }
    command_fini(&command);
    if (ret_result != NULL) {
        ret_result->value = result.revision;
        ret_result->err.code = result.code;
        (void)snprintf(ret_result->err.text, sizeof(ret_result->err.text), "%s",
                       result.text);
    }
}

static int snapshot(void *context, uint8_t **ret_data, size_t *ret_size)
{
    struct control *control = context;
    return control->dead ? BERTH_ECLOSED
                         : state_encode(control->state, ret_data, ret_size);
}

static int restore(void *context, const void *data, size_t size)
{
    struct control *control = context;
    struct err err;
    int r = state_decode(control->state, data, size, &err);
    if (r < 0) {
        log_error("control", "snapshot cannot be loaded", KV_STR("why", err.text));
        if (r == BERTH_ELEVEL) {
            die(control, &err);
        }
        return r;
    }
    if (!takes_part(control, state_level(control->state))) {
        die_outdated(control, state_level(control->state));
        return BERTH_ELEVEL;
    }
    feed_reset(control->feed, state_revision(control->state));
    control->events.on_restored(control->events.context);
    return 0;
}

/* ---- keys of the other voters
 * --------------------------------------------------------------------- */

static bool is_in_log(const struct control *control, uint64_t raft_id)
{
    struct consensus_member members[CONSENSUS_MEMBERS_MAX];
    size_t count =
        control->consensus != NULL
            ? consensus_members(control->consensus, members, CONSENSUS_MEMBERS_MAX)
            : 0;
    for (size_t i = 0; i < count && i < CONSENSUS_MEMBERS_MAX; i++) {
        if (members[i].id == raft_id) {
            return true;
        }
    }
    return false;
}

/* Whoever speaks the log's protocol can take the log over, so being a host is not enough.
 * A part in it is known from orders, from the state, or from the log; each of them may be
 * the first to know. */
static bool
has_part(const struct control *control, const struct msg_member *member, uint64_t raft_id)
{
    const struct host *host = state_host_by_key(control->state, &member->key);
    return member->voter != VOTER_NONE ||
           (host != NULL && host->status.voter != VOTER_NONE) ||
           is_in_log(control, raft_id);
}

static bool
peer_of(void *context, const uint8_t public_key[CONSENSUS_KEY_SIZE], uint64_t *ret_id)
{
    struct control *control = context;
    struct digest key;
    memcpy(key.bytes, public_key, sizeof(key.bytes));
    const struct msg_member *member = members_by_key(control->config.members, &key);
    if (member == NULL) {
        return false;
    }
    uint64_t raft_id = identity_raft_id_of(&key);
    if (!has_part(control, member, raft_id)) {
        return false;
    }
    *ret_id = raft_id;
    return true;
}

static bool key_of(void *context, uint64_t id, uint8_t ret_public_key[CONSENSUS_KEY_SIZE])
{
    struct control *control = context;
    const struct msg_member *member = members_by_raft_id(control->config.members, id);
    if (member == NULL) {
        return false;
    }
    memcpy(ret_public_key, member->key.bytes, CONSENSUS_KEY_SIZE);
    return true;
}

static const char *name_of(void *context, uint64_t id)
{
    const struct control *control = context;
    const struct msg_member *member = members_by_raft_id(control->config.members, id);
    return member != NULL ? member->name : NULL;
}

/* ---- life
 * ------------------------------------------------------------------------------------------
 */

static struct control *control_free(struct control *control)
{
    if (control != NULL) {
        state_free(control->state);
        feed_free(control->feed);
        free(control);
    }
    return NULL;
}

static void consensus_closed(void *context)
{
    struct control *control = context;
    void (*closed)(void *) = control->closed;
    void *closed_context = control->closed_context;
    control_free(control);
    if (closed != NULL) {
        closed(closed_context);
    }
}

int control_open(const struct control_config *config,
                 const struct control_events *events,
                 bool bootstrap,
                 struct control **ret_control,
                 struct err *err)
{
    struct control *control = calloc(1, sizeof(*control));
    if (control == NULL) {
        return err_sys(err, -ENOMEM, "open the log");
    }
    control->config = *config;
    control->events = *events;
    control->state = state_new(change_seen, control);
    control->feed = feed_new(0);
    int r = control->state == NULL || control->feed == NULL
                ? err_sys(err, -ENOMEM, "open the log")
                : fd_make_folders(config->folder, err);
    const struct consensus_config consensus_config = {
        .id = config->raft_id,
        .cluster_id = config->cluster_id,
        .address = config->address,
        .folder = config->folder,
        .secret_key = config->secret_key,
        .key_context = control,
        .peer_of = peer_of,
        .key_of = key_of,
        .name_of = name_of,
        /* A rack grows host by host while nothing else happens; two seconds show a stable
           leader. */
        .member_stable_ms = 2000,
    };
    const struct consensus_fsm fsm = {
        .context = control, .apply = apply, .snapshot = snapshot, .restore = restore};
    const struct consensus_events consensus_events = {
        .context = events->context,
        .on_leadership = events->on_leadership,
        .on_fatal = events->on_fatal,
    };
    if (r == 0) {
        r = consensus_open(config->loop, &consensus_config, &fsm, &consensus_events,
                           &control->consensus, err);
    }
    if (r < 0) {
        control_free(control);
        return err_wrap(err, r, "open the replicated log in %s", config->folder);
    }
    r = bootstrap ? consensus_bootstrap(control->consensus, err) : 0;
    r = r == 0 ? consensus_start(control->consensus, err) : r;
    if (r < 0) {
        consensus_close(control->consensus, false, consensus_closed, control);
        return err_wrap(err, r, "start the replicated log in %s", config->folder);
    }
    *ret_control = control;
    return 0;
}

bool control_has_heirs(const struct control *control)
{
    struct consensus_member members[CONSENSUS_MEMBERS_MAX];
    size_t count = consensus_members(control->consensus, members, CONSENSUS_MEMBERS_MAX);
    unsigned voters = 0;
    for (size_t i = 0; i < count && i < CONSENSUS_MEMBERS_MAX; i++) {
        voters += members[i].role == CONSENSUS_ROLE_VOTER;
    }
    return voters > 1;
}

void control_close(struct control *control,
                   bool hand_over,
                   void (*done)(void *context),
                   void *context)
{
    REQUIRE(control != NULL);
    control->closed = done;
    control->closed_context = context;
    consensus_close(control->consensus, hand_over, consensus_closed, control);
}

static void proposed(void *context, int status, const struct consensus_result *result)
{
    struct proposal *proposal = context;
    struct apply_result applied = {0};
    if (status == 0) {
        applied.code = result->err.code;
        applied.revision = result->value;
        (void)snprintf(applied.text, sizeof(applied.text), "%.*s",
                       (int)sizeof(applied.text) - 1, result->err.text);
    }
    proposal->done(proposal->context, status, status == 0 ? &applied : NULL);
    free(proposal);
}

int control_check_level(const struct control *control,
                        const struct command *command,
                        struct err *err)
{
    return command_check_level(command, state_level(control->state), err);
}

int control_propose(struct control *control,
                    struct command *command,
                    void (*done)(void *context,
                                 int code,
                                 const struct apply_result *result),
                    void *context)
{
    struct bytes_writer writer;
    CLEANUP_FREE uint8_t *data = NULL;
    size_t size = 0;
    int r = control_check_level(control, command, NULL);
    if (r < 0) {
        return r;
    }
    command->level = state_level(control->state);
    command->wall_ms = clock_wall_ms(control->config.clock);
    bytes_writer_init(&writer, COMMAND_SIZE_MAX);
    command_encode(command, &writer);
    r = bytes_writer_take(&writer, &data, &size);
    if (r < 0) {
        return r;
    }
    struct proposal *proposal = calloc(1, sizeof(*proposal));
    if (proposal == NULL) {
        return -ENOMEM;
    }
    *proposal = (struct proposal){.done = done, .context = context};
    r = consensus_propose(control->consensus, data, size, CONTROL_PROPOSE_MS, proposed,
                          proposal);
    if (r < 0) {
        free(proposal);
    }
    return r;
}

int control_read(struct control *control,
                 void (*done)(void *context, int code),
                 void *context)
{
    return consensus_read_barrier(control->consensus, READ_MS, done, context);
}

const struct state *control_state(const struct control *control)
{
    return control->state;
}

const struct feed *control_feed(const struct control *control)
{
    return control->feed;
}

struct consensus *control_consensus(struct control *control)
{
    return control->consensus;
}
