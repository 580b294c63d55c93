#include "consensus/raft_node.h"

#include "base/log.h"
#include "base/require.h"
#include "consensus/log_seal.h"
#include "consensus/raft_backing.h"
#include "consensus/raft_guard.h"
#include "consensus/raft_library.h"
#include "consensus/snapshot_frame.h"

#include <raft.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROOM           "consensus"
#define TAIL_BYTES_MAX (32u << 20) /* entries kept behind a snapshot */
#define HELD_ENTRIES   128         /* between two attempts, the first of which failed */

struct raft_node {
    struct raft *raft; /* owned; apart, so that a const node can ask the library */
    struct raft_fsm fsm;
    struct raft_backing *backing;
    struct raft_guard *guard;
    struct log_seal seal;
    struct work_pool *disk; /* one thread: where the seal waits for the disk */
    struct raft_node_hooks hooks;
    uint64_t id;
    char address[CONSENSUS_ADDRESS_SIZE];
    unsigned threshold;
    unsigned trailing;
    size_t log_bytes;        /* applied since the last snapshot */
    bool raft_ready;         /* raft_init done */
    uint64_t snapshot_tried; /* the index of the last attempt */
    size_t snapshot_bytes;   /* of the newest state that was stored or restored */
    struct raft_transfer transfer;
    raft_node_done *transfer_done;
    void *transfer_context;
    uint64_t transfer_target;
    void (*closed)(void *context);
    void *closed_context;
};

static int code_of(int status)
{
    switch (status) {
    case 0:
        return 0;
    case RAFT_NOMEM:
        return -ENOMEM;
    case RAFT_NOTLEADER:
        return BERTH_ENOTLEADER;
    case RAFT_LEADERSHIPLOST:
    case RAFT_CANCELED:
    case RAFT_SHUTDOWN:
        return BERTH_EUNKNOWN;
    case RAFT_CANTCHANGE:
    case RAFT_BUSY:
        return BERTH_EBUSY;
    case RAFT_BADID:
    case RAFT_NOTFOUND:
        return BERTH_ENOTFOUND;
    case RAFT_DUPLICATEID:
    case RAFT_DUPLICATEADDRESS:
    case RAFT_CANTBOOTSTRAP:
        return BERTH_EEXISTS;
    case RAFT_CORRUPT:
    case RAFT_MALFORMED:
        return BERTH_ECORRUPT;
    case RAFT_NOSPACE:
        return BERTH_EDISKFULL;
    case RAFT_NOCONNECTION:
        return BERTH_EUNREACHABLE;
    case RAFT_TOOMANY:
        return BERTH_EFULL;
    case RAFT_IOERR:
        return -EIO;
    default:
        return BERTH_EBUG;
    }
}

/* ---- state machine ---- */

static int
fsm_apply(struct raft_fsm *fsm, const struct raft_buffer *buf, void **ret_result)
{
    struct raft_node *node = fsm->data;
    struct err err = {0};
    *ret_result = NULL;
    if (raft_guard_halted(node->guard)) {
        return RAFT_SHUTDOWN;
    }
    uint64_t index = node->raft->last_applied + 1;
    if (!node->hooks.apply(node->hooks.context, index, buf->base, buf->len, &err)) {
        raft_guard_halt(node->guard, BERTH_ECORRUPT, err.text);
        return RAFT_CORRUPT;
    }
    node->log_bytes += buf->len;
    if (node->log_bytes > CONSENSUS_LOG_BYTES_MAX) {
        raft_node_snapshot_soon(node); /* large entries fill the memory */
    }
    return 0;
}

void raft_node_snapshot_soon(struct raft_node *node)
{
    raft_set_snapshot_threshold(node->raft, 1); /* set back by the snapshot */
}

/* To encode the state costs milliseconds and as much memory again, and the library would
 * try after each entry. Whatever became of the last attempt: a snapshot that was stored
 * is the log's. */
static bool is_held_back(const struct raft_node *node)
{
    const struct raft *raft = node->raft;
    return node->snapshot_tried > raft_library_log_of(raft)->snapshot.last_index &&
           raft->last_applied < node->snapshot_tried + HELD_ENTRIES;
}

/* libraft's default heap is malloc, so that the state machine's memory can be given to
 * it. */
static int
fsm_snapshot(struct raft_fsm *fsm, struct raft_buffer *ret_bufs[], unsigned *ret_count)
{
    struct raft_node *node = fsm->data;
    uint8_t *data = NULL;
    size_t size = 0;
    if (is_held_back(node)) {
        return RAFT_BUSY;
    }
    node->snapshot_tried = node->raft->last_applied;
    int r = node->hooks.snapshot(node->hooks.context, &data, &size);
    if (r == 0 && size > SNAPSHOT_SIZE_MAX) {
        r = BERTH_ETOOLARGE;
        free(data);
    }
    if (r < 0) {
        log_error(ROOM, "no snapshot", KV_STR("error", err_name(r)),
                  KV_U64("bytes", size));
        return RAFT_BUSY; /* tried again after some more entries */
    }
    uint8_t *header = raft_malloc(SNAPSHOT_FRAME_SIZE);
    struct raft_buffer *bufs = raft_calloc(2, sizeof(*bufs));
    if (header == NULL || bufs == NULL) {
        raft_free(header);
        raft_free(bufs);
        free(data);
        return RAFT_BUSY;
    }
    node->snapshot_bytes = size;
    snapshot_frame_make(data, size, header);
    bufs[0] = (struct raft_buffer){.base = header, .len = SNAPSHOT_FRAME_SIZE};
    bufs[1] = (struct raft_buffer){.base = data, .len = size};
    *ret_bufs = bufs;
    *ret_count = size > 0 ? 2 : 1;
    if (size == 0) {
        free(data);
    }
    unsigned tail = raft_guard_tail_count(node->guard, TAIL_BYTES_MAX);
    raft_set_snapshot_trailing(node->raft, tail < node->trailing ? tail : node->trailing);
    raft_set_snapshot_threshold(node->raft, node->threshold);
    node->log_bytes = 0;
    return 0;
}

static int fsm_restore(struct raft_fsm *fsm, struct raft_buffer *buf)
{
    struct raft_node *node = fsm->data;
    const uint8_t *data = NULL;
    size_t size = 0;
    int r = snapshot_frame_open(buf->base, buf->len, &data, &size);
    if (r == 0) {
        r = node->hooks.restore(node->hooks.context, data, size);
    }
    if (r < 0) {
        raft_guard_halt(node->guard, r, "a snapshot cannot be restored");
        return RAFT_CORRUPT;
    }
    node->snapshot_bytes = size;
    raft_free(buf->base);
    node->log_bytes = 0;
    return 0;
}

/* ---- opening ---- */

static uint64_t free_bytes(void *context)
{
    const struct raft_node *node = context;
    return raft_backing_free_bytes(node->backing);
}

static int open_library(struct raft_node *node,
                        const struct consensus_config *config,
                        struct err *err)
{
    if (!raft_library_is_known()) {
        return err_set(
            err, BERTH_EUNSUPPORTED,
            "the libraft that is installed is not the one that berthd was built "
            "for");
    }
    struct raft_guard_hooks hooks = {.context = node->hooks.context,
                                     .fatal = node->hooks.fatal,
                                     .changed = node->hooks.changed,
                                     .space_context = node,
                                     .free_bytes = free_bytes,
                                     .disk = node->disk};
    node->guard =
        raft_guard_new(node->raft, raft_backing_io(node->backing), &node->seal, &hooks);
    if (node->guard == NULL) {
        return err_sys(err, -ENOMEM, "raft folder %s", config->folder);
    }
    node->fsm = (struct raft_fsm){.version = 1,
                                  .data = node,
                                  .apply = fsm_apply,
                                  .snapshot = fsm_snapshot,
                                  .restore = fsm_restore};
    int r = raft_init(node->raft, raft_guard_io(node->guard), &node->fsm, config->id,
                      config->address);
    if (r != 0) {
        return err_set(err, code_of(r), "raft folder %s: %s", config->folder,
                       raft_backing_io(node->backing)->errmsg);
    }
    node->raft_ready = true;
    raft_set_election_timeout(node->raft, config->election_ms);
    raft_set_heartbeat_timeout(node->raft, config->heartbeat_ms);
    raft_set_snapshot_threshold(node->raft, config->snapshot_threshold);
    raft_set_snapshot_trailing(node->raft, config->snapshot_trailing);
    raft_set_pre_vote(node->raft, true);
    raft_set_max_catch_up_round_duration(node->raft, (unsigned)config->member_wait_ms);
    return 0;
}

static void ignore_closed(void *context)
{
    (void)context;
}

int raft_node_open(const struct consensus_config *config,
                   uv_loop_t *loop,
                   const struct raft_node_hooks *hooks,
                   struct raft_node **ret_node,
                   struct err *err)
{
    struct raft_node *node = calloc(1, sizeof(*node));
    struct raft *raft = calloc(1, sizeof(*raft));
    if (node == NULL || raft == NULL) {
        free(node);
        free(raft);
        return err_sys(err, -ENOMEM, "raft folder %s", config->folder);
    }
    node->raft = raft;
    node->hooks = *hooks;
    node->id = config->id;
    node->threshold = config->snapshot_threshold;
    node->trailing = config->snapshot_trailing;
    (void)snprintf(node->address, sizeof(node->address), "%s", config->address);
    int r = raft_backing_open(config, loop, raft, &node->backing, err);
    if (r == 0) {
        r = log_seal_open(&node->seal, config->folder, config->id, config->cluster_id,
                          err);
    }
    if (r == 0 && (node->disk = work_pool_new(loop, 1, 1)) == NULL) {
        r = err_sys(err, -ENOMEM, "raft folder %s", config->folder);
    }
    if (r == 0) {
        r = open_library(node, config, err);
    }
    if (r < 0) {
        raft_node_close(node, ignore_closed, NULL);
        return r;
    }
    *ret_node = node;
    return 0;
}

int raft_node_bootstrap(struct raft_node *node, struct err *err)
{
    struct raft_configuration members;
    raft_configuration_init(&members);
    int r = raft_configuration_add(&members, node->id, node->address, RAFT_VOTER);
    if (r == 0) {
        r = raft_bootstrap(node->raft, &members);
    }
    raft_configuration_close(&members);
    if (r != 0) {
        return err_set(err, code_of(r), "bootstrap raft: %s",
                       raft_guard_io(node->guard)->errmsg);
    }
    return 0;
}

int raft_node_start(struct raft_node *node, struct err *err)
{
    int r = raft_start(node->raft);
    if (r == 0 && raft_guard_halted(node->guard)) {
        r = RAFT_CORRUPT;
    }
    if (r != 0) {
        const char *text = raft_guard_io(node->guard)->errmsg;
        return err_set(err, code_of(r), "start raft: %s",
                       text[0] != '\0' ? text : raft_strerror(r));
    }
    raft_guard_started(node->guard);
    return 0;
}

/* ---- closing ---- */

static void node_free(struct raft_node *node)
{
    void (*closed)(void *context) = node->closed;
    void *context = node->closed_context;
    raft_backing_free(node->backing);
    raft_guard_free(node->guard);
    log_seal_close(&node->seal); /* with the last job of the pool */
    work_pool_close(node->disk);
    free(node->raft);
    free(node);
    closed(context);
}

static void on_raft_closed(struct raft *raft)
{
    node_free(raft->data);
}

static void on_abandoned(void *context)
{
    node_free(context);
}

void raft_node_close(struct raft_node *node, void (*done)(void *context), void *context)
{
    node->closed = done;
    node->closed_context = context;
    if (node->raft_ready) {
        node->raft->data = node;
        raft_close(node->raft, on_raft_closed);
    } else if (node->backing != NULL) {
        raft_backing_abandon(node->backing, on_abandoned, node);
    } else {
        node_free(node);
    }
}

/* ---- asking ---- */

static unsigned count_voters(const struct raft *raft)
{
    unsigned count = 0;
    for (unsigned i = 0; i < raft->configuration.n; i++) {
        count += raft->configuration.servers[i].role == RAFT_VOTER;
    }
    return count;
}

static enum raft_node_state state_of(const struct raft_node *node)
{
    if (raft_guard_halted(node->guard)) {
        return RAFT_NODE_DOWN;
    }
    switch (node->raft->state) {
    case RAFT_FOLLOWER:
        return RAFT_NODE_FOLLOWER;
    case RAFT_CANDIDATE:
        return RAFT_NODE_CANDIDATE;
    case RAFT_LEADER:
        return RAFT_NODE_LEADER;
    default:
        return RAFT_NODE_DOWN;
    }
}

void raft_node_view(const struct raft_node *node, struct raft_node_view *ret_view)
{
    struct raft *raft = node->raft;
    raft_id leader_id = 0;
    const char *leader_address = NULL;
    enum raft_node_state state = state_of(node);
    if (state != RAFT_NODE_DOWN) {
        raft_leader(raft, &leader_id, &leader_address);
    }
    *ret_view = (struct raft_node_view){
        .state = state,
        .ready = raft_guard_ready(node->guard),
        .term = raft->current_term,
        .leader_id = leader_id,
        .leader_address = leader_address,
        .last_index = raft_last_index(raft),
        .commit_index = raft->commit_index,
        .applied_index = raft->last_applied,
        .transferring = raft->transfer != NULL,
        .snapshotting =
            raft->snapshot.pending.term != 0 || raft->snapshot.put.data != NULL,
        .changing = raft->configuration_uncommitted_index != 0 ||
                    (state == RAFT_NODE_LEADER && raft->leader_state.promotee_id != 0),
        .voters = count_voters(raft),
    };
}

static enum consensus_role role_of(int role)
{
    switch (role) {
    case RAFT_VOTER:
        return CONSENSUS_ROLE_VOTER;
    case RAFT_STANDBY:
        return CONSENSUS_ROLE_STANDBY;
    default:
        return CONSENSUS_ROLE_SPARE;
    }
}

size_t raft_node_members(const struct raft_node *node,
                         struct consensus_member *ret_members,
                         size_t max)
{
    const struct raft *raft = node->raft;
    const bool leads = state_of(node) == RAFT_NODE_LEADER;
    for (size_t i = 0; i < raft->configuration.n && i < max; i++) {
        const struct raft_server *server = &raft->configuration.servers[i];
        struct consensus_member *member = &ret_members[i];
        *member =
            (struct consensus_member){.id = server->id, .role = role_of(server->role)};
        (void)snprintf(member->address, sizeof(member->address), "%s", server->address);
        const raft_library_progress *progress =
            leads ? raft_library_progress_of(raft, (unsigned)i) : NULL;
        if (progress != NULL && server->id == node->id) {
            member->matched_index = raft->last_stored;
            member->recent = true;
        } else if (progress != NULL) {
            member->matched_index = progress->match_index;
            member->recent = progress->recent_recv;
        }
    }
    return raft->configuration.n;
}

const struct channel_counters *raft_node_channels(const struct raft_node *node)
{
    return raft_backing_channels(node->backing);
}

void raft_node_drop_peer(struct raft_node *node, uint64_t id)
{
    raft_backing_drop_peer(node->backing, id);
}

uint64_t raft_node_free_bytes(const struct raft_node *node)
{
    return raft_backing_free_bytes(node->backing);
}

uint64_t raft_node_snapshot_bytes(const struct raft_node *node)
{
    return node->snapshot_bytes;
}

const char *raft_node_trouble(const struct raft_node *node)
{
    const char *text = raft_errmsg(node->raft);
    return text[0] != '\0' ? text : "the library gave up without a word";
}

void raft_node_seal(struct raft_node *node)
{
    raft_guard_seal(node->guard);
}

/* ---- requests ---- */

uint8_t *raft_node_alloc(size_t size)
{
    return raft_malloc(size);
}

void raft_node_release(uint8_t *data)
{
    raft_free(data);
}

/* One request of any kind: the library's struct, and whom to tell. */
struct request {
    union {
        struct raft_apply apply;
        struct raft_barrier barrier;
        struct raft_change change;
    };
    raft_node_done *done;
    void *context;
};

static struct request *request_new(raft_node_done *done, void *context)
{
    struct request *request = calloc(1, sizeof(*request));
    if (request != NULL) {
        request->done = done;
        request->context = context;
    }
    return request;
}

static void request_finish(struct request *request, int status)
{
    raft_node_done *done = request->done;
    void *context = request->context;
    free(request);
    done(context, code_of(status));
}

static void on_applied(struct raft_apply *apply, int status, void *result)
{
    (void)result;
    request_finish(apply->data, status);
}

static void on_barrier(struct raft_barrier *barrier, int status)
{
    request_finish(barrier->data, status);
}

static void on_change(struct raft_change *change, int status)
{
    request_finish(change->data, status);
}

static bool is_usable(const struct raft_node *node)
{
    return state_of(node) == RAFT_NODE_LEADER;
}

int raft_node_append(struct raft_node *node,
                     uint8_t *take_data,
                     size_t size,
                     uint64_t *ret_index,
                     raft_node_done *done,
                     void *context)
{
    REQUIRE(size % 8 == 0);
    if (!is_usable(node)) {
        return BERTH_ENOTLEADER;
    }
    struct request *request = request_new(done, context);
    if (request == NULL) {
        return -ENOMEM;
    }
    struct raft_buffer buf = {.base = take_data, .len = size};
    request->apply.data = request;
    *ret_index = raft_last_index(node->raft) + 1;
    int r = raft_apply(node->raft, &request->apply, &buf, 1, on_applied);
    if (r != 0) {
        free(request);
    }
    return code_of(r);
}

int raft_node_barrier(struct raft_node *node, raft_node_done *done, void *context)
{
    if (!is_usable(node)) {
        return BERTH_ENOTLEADER;
    }
    struct request *request = request_new(done, context);
    if (request == NULL) {
        return -ENOMEM;
    }
    request->barrier.data = request;
    int r = raft_barrier(node->raft, &request->barrier, on_barrier);
    if (r != 0) {
        free(request);
    }
    return code_of(r);
}

static int submit_change(struct raft_node *node,
                         struct raft_change *change,
                         uint64_t id,
                         const char *address,
                         enum consensus_role role)
{
    switch (role) {
    case CONSENSUS_ROLE_NONE:
        return raft_remove(node->raft, change, id, on_change);
    case CONSENSUS_ROLE_SPARE:
        return raft_add(node->raft, change, id, address, on_change);
    case CONSENSUS_ROLE_STANDBY:
        return raft_assign(node->raft, change, id, RAFT_STANDBY, on_change);
    case CONSENSUS_ROLE_VOTER:
        return raft_assign(node->raft, change, id, RAFT_VOTER, on_change);
    default:
        return RAFT_BADROLE;
    }
}

int raft_node_change(struct raft_node *node,
                     uint64_t id,
                     const char *address,
                     enum consensus_role role,
                     raft_node_done *done,
                     void *context)
{
    if (!is_usable(node)) {
        return BERTH_ENOTLEADER;
    }
    struct request *request = request_new(done, context);
    if (request == NULL) {
        return -ENOMEM;
    }
    request->change.data = request;
    int r = submit_change(node, &request->change, id, address, role);
    if (r != 0) {
        if (node->raft->leader_state.change == &request->change) {
            node->raft->leader_state.change =
                NULL; /* the library forgets to, on failure */
        }
        free(request);
    }
    return code_of(r);
}

static void on_transferred(struct raft_transfer *transfer)
{
    struct raft_node *node = transfer->data;
    struct raft_node_view view;
    raft_node_view(node, &view);
    int status = BERTH_ETIMEOUT;
    if (view.leader_id != 0 && view.leader_id != node->id &&
        (node->transfer_target == 0 || view.leader_id == node->transfer_target)) {
        status = 0;
    } else if (view.state != RAFT_NODE_LEADER) {
        status = BERTH_ENOLEADER;
    }
    node->transfer_done(node->transfer_context, status);
}

int raft_node_transfer(struct raft_node *node,
                       uint64_t id,
                       raft_node_done *done,
                       void *context)
{
    if (!is_usable(node)) {
        return BERTH_ENOTLEADER;
    }
    node->transfer.data = node;
    node->transfer_done = done;
    node->transfer_context = context;
    node->transfer_target = id;
    return code_of(raft_transfer(node->raft, &node->transfer, id, on_transferred));
}
