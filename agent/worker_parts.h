/* What the parts of a host's worker (agent/worker.h) have in common.
 *
 * Shapes: struct worker; its fields are private to worker.c (life), worker_report.c (what
 * is said upwards), worker_lease.c (what it may run for how long) and worker_orders.c
 * (what it should run). Threads: the loop's.
 */
#pragma once

#include "agent/fence_client.h"
#include "agent/lease.h"
#include "agent/worker.h"
#include "base/u64_map.h"
#include "base/work_pool.h"
#include "net/network_apply.h"

/* The lease is looked at so often, for the clock may have gone on while the loop's stood
 * still; best when the loop is awake anyway, as the log wakes a voter's. And when it runs
 * out, to the millisecond. */
#define WORKER_LEASE_LOOK_MS       150
#define WORKER_LEASE_LOOK_SLACK_MS 100

/* A VM that could not even be started: reported as failed until its orders change. */
struct failure {
    uint64_t epoch;
    uint64_t at_wall_ms;
    uint64_t disk_epoch; /* of disks it was to run with, and that are still here */
    enum phase phase;
    char reason[256];
};

struct worker {
    struct worker_config config;
    struct lease lease;
    enum lease_state lease_state;
    bool lease_found; /* the fence told of it, and no leader has renewed it since */
    uint64_t boot;
    int lease_fd;
    char boot_id[40];
    uint64_t leader;
    uint64_t ack_ms; /* monotonic, of the last one */
    uint64_t ack_term;
    uint64_t revision_told; /* the newest that a leader has told of */
    uint64_t
        said_leader; /* whom a voter named, in the newest term that one was named in */
    uint64_t said_term;
    uint64_t said_ms; /* monotonic: it holds for WORKER_SILENCE_MS */
    uint64_t leader_term;
    uint64_t term_written;  /* the one that a restarted berthd finds */
    uint64_t term_synced;   /* the term that a loss of power leaves; 0: not known */
    uint64_t term_sync_ms;  /* monotonic: not tried again before; the disk failed */
    struct work_pool *disk; /* one thread: what has to wait for it, in order */
    struct work_job term_job;
    bool term_syncing;          /* term_job is under way */
    uint64_t term_syncing_term; /* what the file says */
    int term_sync_code;         /* the thread's, until the job is done */
    uint64_t refused_term; /* of the last leader that nobody's word made one: told once */
    bool has_orders;
    struct msg_orders orders;
    uint64_t orders_hash;         /* 0: none, or not known: says that none are taken */
    struct u64_map *orders_index; /* VM uid -> its msg_vm in orders */
    unsigned starting;            /* VMs between start and running */
    unsigned steps_left;          /* of this reconcile pass */
    struct vm_supervisor *supervisor;
    uint64_t members_again_ms; /* monotonic: when to try to store them again */
    struct work_job members_job;
    struct members_write members_write; /* of members_job */
    bool members_writing;               /* it is under way */
    struct resource_groups *groups;
    struct fence_client *fence; /* NULL: we fence alone */
    struct network_apply *networks;
    uint64_t networks_again_ms; /* monotonic: when to look at the kernel again; 0: not set
                                   yet */
    unsigned networks_failed;   /* runs in a row since the orders came */
    char networks_fault[256];   /* of the last one */
    struct image_pull *pull;
    struct u64_map *failures; /* uid -> struct failure */
    uint64_t unsaid_ms; /* monotonic: a heartbeat that cannot be sent is told of then */
    struct host_sampler sampler;
    struct host_usage usage;
    struct u64_map *loads;  /* uid -> permille + 1, of the last sample */
    struct u64_map *counts; /* uid -> told_ms of the numbers that were sent last */
    bool sampled;
    struct network_taken_look taken; /* what this host needs for itself; owned */
    bool taken_cut;                  /* it was said that there is more */
    unsigned taken_look;             /* samples until it is looked at again */
    struct loop_timer *heartbeat_timer;
    struct loop_timer *sample_timer;
    struct loop_timer *lease_timer; /* when its state changes */
    struct loop_timer *lease_look;
    struct loop_timer *retry_timer;
    struct loop_post *reconcile_post;
    struct loop_post *heartbeat_post;
    uint32_t underlay_mtu;
};

/* A standby may have become voter and leader before its record says so. */
static inline bool worker_may_follow(const struct msg_member *member)
{
    return member->voter != VOTER_NONE;
}

/* ---- worker_report.c ---- */

/* Tells the leader how things are; context is the worker, here and below. */
void worker_heartbeat(void *context);
/* Leaves HEARTBEAT_VMS_MAX of a list of msg_vm_seen: first those with orders (NULL: none
 * has any), whatever they are, then what runs, then what has ended and only has to go. */
void worker_seen_cut(const struct u64_map *orders_index, struct record_list *list);
/* Now and then: which ranges this host needs for itself. */
void worker_taken_look(struct worker *worker);
/* They are not what was said last: for the next heartbeat. At most once per sample. */
void worker_taken_look_again(struct worker *worker);
/* Measures load, for the next heartbeat. */
void worker_sample(void *context);

/* ---- worker_lease.c ---- */

/* Takes up the lease and the term that an earlier berthd wrote down. */
int worker_grant_load(struct worker *worker, struct err *err);
/* Freezes, thaws and ends VMs as the lease says. */
void worker_lease_check(void *context);
/* Enough left of a lease that its leader renewed that a start is over, or frozen in time,
 * before anybody else may start the VM; a fence that sees to it; orders of that leader;
 * and its term on the disk. */
bool worker_may_start(const struct worker *worker);
/* Is the leader's term on the disk? If not it is brought there, off the loop: a
 * reconcile follows. */
bool worker_term_sync(struct worker *worker);
/* Written down at once: from now on nobody of an earlier term has a say here. */
void worker_take_term(struct worker *worker, uint64_t term);
/* By a leader's own word; one that is not newer says nothing. */
void worker_take_revision(struct worker *worker, uint64_t revision);
void worker_fence_connected(void *context);
/* The fence goes by this grant, 0: by none. It is ours, too, if nothing newer is known:
 * an earlier berthd had it and could not write it down, or that was lost. */
void worker_lease_find(struct worker *worker, uint64_t granted_ns);
bool worker_fence_is_known(void *context, const struct fence_entry *entry);

/* ---- worker_orders.c ---- */

/* From orders to running VMs; may be repeated at any time. */
void worker_reconcile(void *context);
void worker_vm_changed(void *context, const struct vm_report *report);
void worker_images_changed(void *context);
/* What the VMs of the orders boot from, and the overlays of all VMs here lie on, is not
 * to be evicted. */
void worker_images_keep(struct worker *worker);
/* The image that a path in the store is of: it is named by its content. */
bool worker_base_digest(const char *path, struct digest *ret_digest);

/* ---- worker_snapshots.c ---- */

void worker_snapshots_reconcile(struct worker *worker);
void worker_snapshots_changed(void *context);
/* All that are here, or ordered. */
void worker_snapshots_fill(const struct worker *worker,
                           struct msg_snapshot_seen_list *ret_list);
/* What they lie on, into so much room; how many. */
unsigned worker_snapshots_bases(const struct worker *worker,
                                struct digest *digests,
                                unsigned room);
