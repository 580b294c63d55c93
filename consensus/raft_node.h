/* libraft behind a narrow door: one voter's log on disk, its peers, and requests with
 * callbacks.
 *
 * Private to the room; consensus.h is what others see. raft.h is included by raft_*.c
 * files only.
 * Shapes: a `struct raft_node` owns the library's state, the guard around its io, the
 * seal, and disk and channels (raft_backing.h). Requests are carried out by the library
 * and answered through `done`, on the loop, possibly from inside the library: a callee
 * must not call back into the node, only take note. Units: milliseconds, log indexes.
 * Threads: the loop's. Errors: library codes become BERTH_* or -errno; BERTH_EUNKNOWN
 * where leadership was lost meanwhile.
 */
#pragma once

#include "base/err.h"
#include "consensus/consensus.h"
#include "consensus/raft_channel.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct raft_node;

struct raft_node_hooks {
    void *context;
    /* A committed entry; false: it cannot be understood, which is fatal. */
    bool (*apply)(void *context,
                  uint64_t index,
                  const uint8_t *data,
                  size_t size,
                  struct err *err);
    int (*snapshot)(void *context, uint8_t **ret_data, size_t *ret_size);
    int (*restore)(void *context, const uint8_t *data, size_t size);
    void (*changed)(void *context); /* look again at raft_node_view */
    void (*fatal)(void *context, int code, const char *text);
};

enum raft_node_state {
    RAFT_NODE_DOWN = 1,
    RAFT_NODE_FOLLOWER,
    RAFT_NODE_CANDIDATE,
    RAFT_NODE_LEADER
};

struct raft_node_view {
    enum raft_node_state state;
    bool ready; /* leads, and everything from before its term is applied */
    uint64_t term;
    uint64_t leader_id;         /* 0: unknown */
    const char *leader_address; /* borrowed until the next event; NULL when unknown */
    uint64_t last_index;
    uint64_t commit_index;
    uint64_t applied_index;
    bool transferring;
    bool snapshotting;
    bool changing; /* members */
    unsigned voters;
};

typedef void raft_node_done(void *context, int status);

/* Opens the folder and the port's state; reads term and vote. */
int raft_node_open(const struct consensus_config *config,
                   uv_loop_t *loop,
                   const struct raft_node_hooks *hooks,
                   struct raft_node **ret_node,
                   struct err *err);
/* Writes the first membership, this voter alone, into a pristine folder. */
int raft_node_bootstrap(struct raft_node *node, struct err *err);
/* Loads snapshot and log (hooks run), then listens and takes part. */
int raft_node_start(struct raft_node *node, struct err *err);
/* Ends everything; done runs when the node has been freed. Requests under way are
 * answered before. */
void raft_node_close(struct raft_node *node, void (*done)(void *context), void *context);

void raft_node_view(const struct raft_node *node, struct raft_node_view *ret_view);
/* How many members there are; the first `max` are written. */
size_t raft_node_members(const struct raft_node *node,
                         struct consensus_member *ret_members,
                         size_t max);
const struct channel_counters *raft_node_channels(const struct raft_node *node);
void raft_node_drop_peer(struct raft_node *node, uint64_t id);
/* Disk space left for the log. */
uint64_t raft_node_free_bytes(const struct raft_node *node);
/* What the newest snapshot takes of it: the next one has to fit beside it. 0: none yet.
 */
uint64_t raft_node_snapshot_bytes(const struct raft_node *node);
/* The library's words on why it is down. */
const char *raft_node_trouble(const struct raft_node *node);
/* Makes durable progress known to the seal; call about once a second. */
void raft_node_seal(struct raft_node *node);

/* A snapshot as soon as the entry in work, or the next one, is applied. */
void raft_node_snapshot_soon(struct raft_node *node);

/* Memory for raft_node_append. */
uint8_t *raft_node_alloc(size_t size);
void raft_node_release(uint8_t *data);
/* Appends an entry; takes data on success and gives the entry's index. */
int raft_node_append(struct raft_node *node,
                     uint8_t *take_data,
                     size_t size,
                     uint64_t *ret_index,
                     raft_node_done *done,
                     void *context);
/* done(0) once everything appended before is applied here, under a confirmed leadership.
 */
int raft_node_barrier(struct raft_node *node, raft_node_done *done, void *context);
/* One change of members at a time; role CONSENSUS_ROLE_NONE removes, CONSENSUS_ROLE_SPARE
 * adds. */
int raft_node_change(struct raft_node *node,
                     uint64_t id,
                     const char *address,
                     enum consensus_role role,
                     raft_node_done *done,
                     void *context);
/* done(0) when the target (0: any voter) leads; BERTH_ETIMEOUT when it does not after an
 * election timeout. */
int raft_node_transfer(struct raft_node *node,
                       uint64_t id,
                       raft_node_done *done,
                       void *context);
