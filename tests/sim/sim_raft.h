/* The inside of a log's simulated disk and network, for sim_raft*.c and sim_seal.c.
 *
 * Shapes: struct raft_backing is what stands in for consensus' own; what it has been
 * asked for and has not answered is in its lists. Files: sim_raft.c (time, term and vote,
 * the end), sim_raft_log.c (entries and snapshots), sim_raft_rot.c
 * (its damaged end), sim_raft_net.c (messages), sim_seal.c
 * (the seal's file). Ownership: requests are libraft's until they are answered. Errors:
 * libraft's codes; memory aborts.
 */
#pragma once

#include "consensus/raft_backing.h"
#include "consensus/raft_pace.h"
#include "sim.h"

#include <raft.h>

struct raft_backing {
    struct raft_io io; /* first: the guard knows us by it */
    struct sim_process *process;
    raft_io_tick_cb tick;
    raft_io_recv_cb recv;
    const struct raft *raft;        /* whose io it is */
    struct consensus_config config; /* of it, whom it may talk to */
    struct raft_pace pace;          /* of the ticks */
    struct raft_pace_window window;
    uint64_t timer; /* of the tick that counts; others are stale */
    uint64_t ids;
    uint64_t next_index;
    uint64_t asked_term;              /* the newest; whether it may stand in it */
    struct list sends;                /* struct pending_send */
    struct list appends;              /* struct pending_append */
    struct raft_io_snapshot_put *put; /* NULL: none */
    int put_status;
    struct list gets; /* struct pending_get */
    bool closed;
};

struct pending_get {
    struct list link;
    uint64_t id;
    struct raft_io_snapshot_get *request;
};

struct pending_send {
    struct list link;
    uint64_t id;
    struct raft_io_send *request;
    raft_io_send_cb done;
    int status;
};

struct pending_append {
    struct list link;
    uint64_t id;
    struct raft_io_append *request;
    unsigned count;
    int status;
};

static inline struct raft_backing *sim_backing_of(struct raft_io *io)
{
    return (struct raft_backing *)(void *)io;
}

static inline struct sim_machine *sim_backing_machine(const struct raft_backing *backing)
{
    return backing->process->machine;
}

static inline struct world *sim_backing_world(const struct raft_backing *backing)
{
    return &sim_backing_machine(backing)->sim->world;
}

static inline bool sim_backing_is_dead(const struct raft_backing *backing)
{
    return backing->closed || backing->process->doomed;
}

/* ---- sim_raft.c ---- */
/* A heartbeat has come, and what it says has been done. */
void sim_backing_heard(struct raft_backing *backing);
void sim_backing_say_why(struct raft_backing *backing, const char *why);
/* Whether what is written at once is written: 0, or why not. NULL: formatting. */
int sim_backing_write_now(struct raft_backing *backing);

/* ---- sim_raft_log.c: of struct raft_io, and what messages need of it ---- */
int sim_raft_load(struct raft_io *io,
                  raft_term *ret_term,
                  raft_id *ret_vote,
                  struct raft_snapshot **ret_snapshot,
                  raft_index *ret_start,
                  struct raft_entry **ret_entries,
                  size_t *ret_count);
int sim_raft_append(struct raft_io *io,
                    struct raft_io_append *request,
                    const struct raft_entry entries[],
                    unsigned count,
                    raft_io_append_cb done);
int sim_raft_truncate(struct raft_io *io, raft_index index);
int sim_raft_snapshot_put(struct raft_io *io,
                          unsigned trailing,
                          struct raft_io_snapshot_put *request,
                          const struct raft_snapshot *snapshot,
                          raft_io_snapshot_put_cb done);
int sim_raft_snapshot_get(struct raft_io *io,
                          struct raft_io_snapshot_get *request,
                          raft_io_snapshot_get_cb done);
struct sim_blob *sim_raft_members_encode(const struct raft_configuration *members);
void sim_raft_members_decode(const struct sim_blob *blob,
                             struct raft_configuration *ret_members);
struct sim_entry *sim_raft_copy_entries(const struct raft_entry *entries, unsigned count);
struct sim_blob *sim_raft_join_bufs(const struct raft_buffer *bufs, unsigned count);

/* ---- sim_raft_rot.c ---- */
/* Whether damage is told from a torn write; `rotten`: the first entry that is, or the
 * number of them. */
bool sim_raft_is_lost(const struct sim_disk *disk, size_t rotten);

/* ---- sim_raft_net.c ---- */
int sim_raft_send(struct raft_io *io,
                  struct raft_io_send *request,
                  const struct raft_message *message,
                  raft_io_send_cb done);
