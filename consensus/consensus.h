/* The replicated log: commands proposed on the leader are applied, in one order, on
 * every member.
 *
 * Shapes: a `struct consensus` is this process's member. A state machine above it is an
 * ops table. A command is a string of bytes that this room never looks into; commands
 * proposed at about the same time travel in one log entry (group commit) and are
 * applied one by one, each with its own result.
 * Life: open -> (bootstrap, once per cluster, on its first member) -> start -> close. A
 * new member opens and starts on an empty folder, then the leader adds it.
 * Promises: what was answered with 0 is on the disks of a majority and applied here. A
 * read barrier answered with 0 means that everything committed before the call is
 * applied here. Anything that shakes the promises (a failed disk write, a damaged file,
 * a log that is shorter than it was) ends in on_fatal or in a refusal to start, never
 * in silence.
 * Units: milliseconds, bytes, log indexes.
 * Threads: the loop's only; another thread posts to the loop.
 * Ownership: addresses, folder and keys of the config are copied, and so are commands.
 * Callbacks: on the loop, never inside the call that registered them, each exactly once.
 * Errors: BERTH_ENOTLEADER (ask consensus_leader for a hint), _EFULL, _ETOOLARGE,
 * _EDISKFULL, _ETIMEOUT (surely not done), _EUNKNOWN (may or may not be done: ask by
 * request id), _ECLOSED.
 * Limits: below.
 */
#pragma once

#include "base/err.h"

#include <uv.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CONSENSUS_KEY_SIZE      32
#define CONSENSUS_ADDRESS_SIZE  128
#define CONSENSUS_COMMAND_MAX   65516      /* what fits one 64 KiB entry */
#define CONSENSUS_QUEUE_MAX     4096       /* proposals that wait or are under way */
#define CONSENSUS_QUEUE_BYTES   (16 << 20) /* their bytes */
#define CONSENSUS_READS_MAX     4096       /* read barriers that wait or are under way */
#define CONSENSUS_MEMBERS_MAX   16
#define CONSENSUS_IN_FLIGHT_MAX 4
/* Entries kept in memory: a lagging member is sent all it misses in one message. */
#define CONSENSUS_LOG_BYTES_MAX (48 << 20)

/* In the log's folder, from when it was started for the first time: what the log has
 * promised. Who looks whether there is a log has to find it, too. */
#define CONSENSUS_SEAL_FILE "berth-seal"

struct consensus;

/* What apply() says to the one who proposed. */
struct consensus_result {
    uint64_t index; /* log index of the entry, filled in here */
    uint64_t value; /* the state machine's own, e.g. its revision */
    struct err err; /* code 0: applied; else why the state machine refused */
};

struct consensus_fsm {
    void *context;
    /* Applies one command. Total: it cannot fail, it can only refuse, and must do the
     * same on every member. ret_result is NULL where nobody waits for it. Must not call
     * into consensus, but for consensus_snapshot_soon. */
    void (*apply)(void *context,
                  uint64_t index,
                  const void *data,
                  size_t size,
                  struct consensus_result *ret_result);
    /* The whole state in malloc'd memory, taken by the caller; 0 or a negative code
     * (tried again later). */
    int (*snapshot)(void *context, uint8_t **ret_data, size_t *ret_size);
    /* Replaces the whole state; a negative code is fatal. */
    int (*restore)(void *context, const void *data, size_t size);
};

struct consensus_events {
    void *context; /* any function may be NULL, on_fatal excepted */
    /* True once this member leads and has applied everything from before; false when it
     * ends. */
    void (*on_leadership)(void *context, bool is_leader, uint64_t term);
    /* id 0: no leader is known. */
    void (*on_leader_changed)(void *context, uint64_t id, const char *address);
    /* The member has stopped for good; the process should end (a supervisor starts it
     * again). */
    void (*on_fatal)(void *context, const struct err *why);
};

struct consensus_config {
    uint64_t id; /* never 0, never used again for another member */
    uint64_t cluster_id;
    const char *address;       /* "ip:port" under which the others reach this member */
    const char *bind_address;  /* where to listen when that differs; NULL: address */
    const char *folder;        /* exists; used by this member alone */
    const uint8_t *secret_key; /* CONSENSUS_KEY_SIZE, Curve25519 */
    void *key_context;
    /* Which member has this public key; false: none. */
    bool (*peer_of)(void *context,
                    const uint8_t public_key[CONSENSUS_KEY_SIZE],
                    uint64_t *ret_id);
    /* Which public key this member has; false: none. */
    bool (*key_of)(void *context,
                   uint64_t id,
                   uint8_t ret_public_key[CONSENSUS_KEY_SIZE]);
    /* Its host's name, for the log; NULL when that is not known. May be NULL. */
    const char *(*name_of)(void *context, uint64_t id);
    unsigned election_ms;        /* 0: 300 */
    unsigned heartbeat_ms;       /* 0: 100 */
    unsigned snapshot_threshold; /* entries between snapshots; 0: 4096 */
    unsigned snapshot_trailing;  /* entries kept behind one; 0: 2048 */
    unsigned in_flight;          /* entries under way; 0: 1, which is also the fastest */
    uint64_t reserve_bytes;      /* with less free disk, the next snapshot not counted,
                                    proposals fail; 0: 40 MiB */
    uint64_t member_stable_ms;   /* leads so long before it changes members; 0: 30 s */
    uint64_t member_wait_ms;     /* given to a voter or newcomer to catch up; 0: 10 s */
};

/* Checks folder, disk space, kernel limits and seal, and reads term and vote. */
int consensus_open(uv_loop_t *loop,
                   const struct consensus_config *config,
                   const struct consensus_fsm *fsm,
                   const struct consensus_events *events,
                   struct consensus **ret_consensus,
                   struct err *err);
/* Makes this member the only voter of a new cluster; BERTH_EEXISTS unless the folder is
 * pristine. */
int consensus_bootstrap(struct consensus *consensus, struct err *err);
/* Loads snapshot and log into the state machine and takes part. BERTH_ECORRUPT: do not
 * delete anything but the whole folder, and join again under a new id. After an error
 * only consensus_close is left. */
int consensus_start(struct consensus *consensus, struct err *err);
/* Ends it: with hand_over a leader passes leadership on first (bounded by two election
 * timeouts). Open requests are answered, then done runs and the memory is gone. Once
 * only; legal in every callback. */
void consensus_close(struct consensus *consensus,
                     bool hand_over,
                     void (*done)(void *context),
                     void *context);

/* Proposes one command (copied). A negative return: done never runs. Else done runs with
 * status 0 and the result of apply, or with BERTH_ETIMEOUT, _ENOTLEADER, _EDISKFULL,
 * _EFULL, _ECLOSED (surely not applied and never will be) or BERTH_EUNKNOWN. What the log
 * does not take keeps out all that was proposed behind it and waits with it. */
int consensus_propose(struct consensus *consensus,
                      const void *data,
                      size_t size,
                      uint64_t timeout_ms,
                      void (*done)(void *context,
                                   int status,
                                   const struct consensus_result *result),
                      void *context);
/* done(0): the state here is at least as new as anything committed before this call.
 * Reads that arrive together share one barrier. */
int consensus_read_barrier(struct consensus *consensus,
                           uint64_t timeout_ms,
                           void (*done)(void *context, int status),
                           void *context);

enum consensus_role {
    CONSENSUS_ROLE_NONE = 0, /* not a member */
    CONSENSUS_ROLE_SPARE,    /* listed, gets nothing: the step before standby */
    CONSENSUS_ROLE_STANDBY,  /* has the log, no vote */
    CONSENSUS_ROLE_VOTER,
};

struct consensus_member {
    uint64_t id;
    enum consensus_role role;
    char address[CONSENSUS_ADDRESS_SIZE];
    uint64_t matched_index; /* on the leader: how far its log is known to agree; else 0 */
    bool recent; /* on the leader: heard of within the last election timeout or two */
};

/* Changes of members: one at a time (BERTH_EBUSY), by the leader, after it has led for
 * member_stable_ms (not asked of a single voter), with no snapshot under way, once all
 * other voters have everything, between two barriers. done(0): committed.
 * BERTH_EUNREACHABLE: a voter or the new one does not catch up. Repeating a change that
 * is there already succeeds. */
int consensus_add_standby(struct consensus *consensus,
                          uint64_t id,
                          const char *address,
                          void (*done)(void *context, int status),
                          void *context);
int consensus_promote(struct consensus *consensus,
                      uint64_t id,
                      void (*done)(void *context, int status),
                      void *context);
/* The leader cannot remove itself (BERTH_EINVALID): transfer first. */
int consensus_remove(struct consensus *consensus,
                     uint64_t id,
                     void (*done)(void *context, int status),
                     void *context);
/* The first `max` members; returns how many there are. */
size_t consensus_members(const struct consensus *consensus,
                         struct consensus_member *ret_members,
                         size_t max);

/* Passes leadership to a voter (0: the most current one). Proposals wait meanwhile and go
 * on or end in BERTH_ENOTLEADER. done(0): another leads. */
int consensus_transfer(struct consensus *consensus,
                       uint64_t id,
                       void (*done)(void *context, int status),
                       void *context);

bool consensus_is_leader(const struct consensus *consensus);
/* The leader as known here; false when none is. Address may be NULL. */
bool consensus_leader(const struct consensus *consensus,
                      uint64_t *ret_id,
                      char ret_address[CONSENSUS_ADDRESS_SIZE]);
uint64_t consensus_term(const struct consensus *consensus);
uint64_t consensus_applied_index(const struct consensus *consensus);

/* A snapshot here as soon as the entry in work, or the next one, is applied, so that what
 * comes before need not be read any more. */
void consensus_snapshot_soon(struct consensus *consensus);
/* A member's key is no longer good: its channels end at once. */
void consensus_drop_peer(struct consensus *consensus, uint64_t id);

struct consensus_counters {
    uint64_t proposals;
    uint64_t entries; /* log entries proposed */
    uint64_t barriers;
    uint64_t reads;
    uint64_t snapshots;
    uint64_t channels_refused; /* wrong keys, garbage, silence, too many at once */
    uint64_t channels_open;    /* opened in both directions since start */
};
void consensus_counters(const struct consensus *consensus,
                        struct consensus_counters *ret_counters);
