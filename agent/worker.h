/* What every host does: reports to the leader, keeps its lease, and carries out its
 * orders.
 *
 * Shapes: struct worker owns the VM supervisor, the tenant networks and the pulling of
 * images. Every 500 ms, and soon after something changed, a heartbeat goes to the leader
 * (to all voters while nobody answers). Orders (agent/orders.h) are complete: what they
 * do not name is ended here. The way from orders to a running VM is a reconcile that can
 * be repeated at any time: image here? network ready? lease long enough? start. Lease
 * (agent/lease.h, model.md rules 1 and 2): renewed from the time a heartbeat was sent; at
 * 0.7 L the VMs that may be restarted elsewhere are frozen, at 0.9 L killed. The last
 * grant is kept in <state>/lease, so that a restarted berthd goes on with it and does not
 * end what it may run, and so is the newest leader's term, so that no earlier leader is
 * obeyed again. The fence (agent/fence_client.h) is told of every renewal, keeps the same
 * rule should we be unable to, and knows the grant should the file be lost. Threads: the
 * loop's. Until the first orders arrive after a start nothing is ended but by the lease.
 */
#pragma once

#include "agent/disk_room.h"
#include "agent/host_facts.h"
#include "agent/image_pull.h"
#include "agent/image_store.h"
#include "agent/link.h"
#include "agent/vm_supervisor.h"
#include "base/clock.h"
#include "base/err.h"

#include <uv.h>

#define WORKER_HEARTBEAT_MS 500 /* each wakes the leader and every voter some times */
#define WORKER_REPEAT_MS    250 /* until the last one is acknowledged */
#define WORKER_SILENCE_MS                                                \
    1250 /* without an ack for so long all voters are asked: a heartbeat \
            and its repeat may be lost */
#define WORKER_SAMPLE_MS 1000 /* CPU of VMs */
#define WORKER_TAKEN_SAMPLES \
    10 /* between looks at addresses and routes: a rack's change rarely */
#define WORKER_STARTING_PER_CORE                                                       \
    4                           /* VMs between start and running at once: a boot storm \
                                   must not starve the log, nor time out in itself */
#define WORKER_STEPS_PER_PASS 4 /* starts and removals before the loop turns */
#define WORKER_TERM_SYNC_MS   5000 /* a disk that failed to take a term is tried again */
#define WORKER_START_LEASE_MS 3000 /* a start needs so much of the lease left */

struct worker;

struct worker_config {
    uv_loop_t *loop;
    const struct clock *clock;
    const struct identity *identity; /* member of a cluster: uid is set */
    struct members *members;
    struct link *link;
    struct image_store *images;
    const struct host_facts *facts;
    uint64_t memory_reserve_bytes; /* kept for the host itself */
    uint32_t cpu_overcommit;       /* vCPUs that may share one CPU */
    uint32_t vm_uids;              /* the first of VMs' own users; 0: they have none */
    struct disk_share disk;        /* of the state folder's file system, for VMs */
    /* Have berth-fence watch beside us, as every host does; it goes by the machine's
     * clock, so a worker with another one fences alone. */
    bool fence;
    const char *watchdog; /* for the fence to feed: device, "auto" or NULL */
    void *context;
    /* Orders brought other members, or another role in the log for us. */
    void (*members_changed)(void *context);
    /* A VM's record and console are about to go. */
    void (*vm_forgotten)(void *context, uint64_t vm);
    /* The cluster's level, whenever the leader says it. One outside `levels`: this berthd
     * takes no part in it and has to end. */
    void (*level_told)(void *context, uint32_t level);
    struct level_range levels;           /* that it takes part in */
    uint64_t (*revision)(void *context); /* applied here; 0 without a log */
};

int worker_open(const struct worker_config *config,
                struct worker **ret_worker,
                struct err *err);
/* VMs run on. */
struct worker *worker_close(struct worker *worker);

/* What this host says of itself, for joining and heartbeats; into initialised memory. */
int worker_status(const struct worker_config *config, struct host_status *ret_status);

/* From the link. */
void worker_on_orders(struct worker *worker,
                      const struct msg_member *from,
                      struct msg_orders *orders);
void worker_on_ack(struct worker *worker,
                   const struct msg_member *from,
                   const struct msg_ack *ack);
void worker_on_not_leader(struct worker *worker,
                          const struct msg_member *from,
                          const struct msg_not_leader *answer);
void worker_on_outdated(struct worker *worker,
                        const struct msg_member *from,
                        const struct msg_outdated *outdated);
void worker_on_blob_ask(struct worker *worker,
                        const struct msg_member *from,
                        const struct msg_blob_ask *ask);
void worker_on_blob_chunk(struct worker *worker,
                          const struct msg_member *from,
                          const struct msg_blob_chunk *chunk);

/* The leader that answered last, 0 when none has for WORKER_SILENCE_MS. */
uint64_t worker_leader(const struct worker *worker);
/* Whom to ask what a leader answers: that one, or a newer one by a voter's word, for
 * WORKER_SILENCE_MS since it was said. It is believed for this alone: who does not lead
 * says so, and nothing is done. */
uint64_t worker_leader_asked(const struct worker *worker);
/* The newest revision of the state that a leader has told of since this began, with its
 * orders or with an answer to a heartbeat; 0: none has. */
uint64_t worker_revision_told(const struct worker *worker);
struct vm_supervisor *worker_supervisor(struct worker *worker);
/* Prometheus text of this host's VMs and services, appended. */
void worker_metrics(struct worker *worker, struct bytes_writer *writer);
