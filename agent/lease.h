/* The lease by which this host may run VMs that could be restarted elsewhere: pure logic,
 * no clock, no socket.
 *
 * Shapes: `struct lease` is a plain value. Each heartbeat gets a sequence number and its
 * send time is remembered; the leader's ack of a sequence renews the lease from the time
 * that heartbeat was *sent*. From the time of the last grant follows the state:
 *
 *     granted                 0.7 L          0.9 L      L(1-d)
 *        |------- ok -----------|--- pause ----|---- kill --|---> the leader may give the
 *                                                                 VMs to another host
 *
 * A host that was never granted a lease is in `kill`: it must not start such VMs. Which
 * VMs are concerned is the caller's business (lifecycle.hostFailure). Units: monotonic ns
 * (CLOCK_BOOTTIME). Threads: none of its own. Errors: none; acks that fit no heartbeat
 * are ignored and reported as false. Limits: LEASE_HEARTBEATS_MAX heartbeats in flight,
 * older ones are forgotten and their acks ignored.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define LEASE_HEARTBEATS_MAX 64 /* at 250 ms that is 16 s, more than any lease */

struct lease_config {
    uint64_t length_ns;            /* L; > 0 */
    uint32_t clock_error_permille; /* d; < 100 */
    uint32_t pause_permille;       /* of L, 700 */
    uint32_t kill_permille;        /* of L, 900; pause < kill <= 1000 - d */
};

/* L = 6 s, d = 1 %, pause at 0.7 L, kill at 0.9 L. */
struct lease_config lease_config_default(void);

enum lease_state {
    LEASE_OK = 0, /* run */
    LEASE_PAUSE,  /* freeze the vCPUs, keep the memory */
    LEASE_KILL,   /* kill: the VMs may soon run elsewhere */
    LEASE_STATE_COUNT
};

struct lease { /* fields private */
    struct lease_config config;
    bool held;             /* ever granted */
    uint64_t granted_ns;   /* send time of the newest acked heartbeat */
    uint64_t sequence;     /* of the next heartbeat */
    unsigned first, count; /* ring of heartbeats in flight, oldest first */
    struct {
        uint64_t sequence;
        uint64_t sent_ns;
    } sent[LEASE_HEARTBEATS_MAX];
};

/* Not held yet. `first_sequence` must differ from run to run of the daemon
 * (random_secret), so that an ack meant for an earlier run is never taken for ours. */
void lease_init(struct lease *lease,
                const struct lease_config *config,
                uint64_t first_sequence);
/* Goes on with a grant that an earlier run of the daemon wrote down during this boot, or
 * that its fence was told of; a grant in the future (another boot's clock) is ignored. */
void lease_restore(struct lease *lease, uint64_t granted_ns, uint64_t now_ns);
/* A heartbeat is sent at now_ns: its sequence number. Call it before the message is
 * queued. */
uint64_t lease_heartbeat(struct lease *lease, uint64_t now_ns);
/* The leader acked this sequence: true when the lease was prolonged. */
bool lease_ack(struct lease *lease, uint64_t sequence);
enum lease_state lease_state(const struct lease *lease, uint64_t now_ns);
const char *lease_state_name(enum lease_state state);
/* The hard bound of rule 2: now < granted + L(1-d). Starts, resumes and migration steps
 * ask it; LEASE_KILL is earlier. */
bool lease_may_run(const struct lease *lease, uint64_t now_ns);
/* When the state will next worsen by itself, for a timer; UINT64_MAX when it cannot. */
uint64_t lease_next_change_ns(const struct lease *lease, uint64_t now_ns);
/* The last grant, for writing down; 0 when none. */
uint64_t lease_granted_ns(const struct lease *lease);
