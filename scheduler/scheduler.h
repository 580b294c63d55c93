/* The scheduler: what the leader decides. Pure: state, soft facts and time in; commands
 * and reasons out.
 *
 * Shapes: opaque struct scheduler keeps the soft state that never enters the log: when
 * each host was last heard, its usage, CPU samples of VMs. scheduler_step looks at the
 * committed state and gives the batch of commands that should be proposed now; within a
 * step every decision sees the ones before it through a speculative overlay
 * (scheduler/overlay.h), so a batch never over-fills a host or gives an address twice.
 * The caller proposes the batch, waits for its results, and steps again: refused commands
 * are simply decided anew. Units: now_ns monotonic, wall_ms wall; CPU in millicores;
 * ratios in permille. Threads: one. Ownership: struct decisions is the caller's;
 * decisions_fini. Errors: -ENOMEM only. Limits: DECISIONS_MAX commands per step; the rest
 * follows in the next.
 *
 * Lease rules (model.md): LEASE_NS is L, LEASE_DRIFT_PERMILLE is d. A host is suspect (no
 * new work) after SUSPECT_NS without a heartbeat; lost, in the log, only after its last
 * renewal + L*(1+d) + LEASE_MARGIN_NS, and never before the new leader itself has led for
 * that long.
 */
#pragma once

#include "base/json.h"
#include "model/state.h"

#include <stdbool.h>
#include <stdint.h>

#define LEASE_NS             UINT64_C(6000000000)
#define LEASE_DRIFT_PERMILLE 10
#define LEASE_MARGIN_NS      UINT64_C(200000000)
#define HEARTBEAT_NS         UINT64_C(500000000)
#define SUSPECT_NS           UINT64_C(1500000000) /* three heartbeats */
#define DECISIONS_MAX        512

struct scheduler;

/* What a heartbeat says of a host as a whole. */
struct host_load {
    uint32_t cpu_used_mcpu;
    uint64_t memory_used_bytes;
    uint64_t disk_free_bytes;
};

/* A range of addresses that a host needs for itself, in words of the host. */
#define HOST_RANGES_MAX \
    64 /* the widest: of a further one it is found out when its network is made there */
#define HOST_RANGE_TEXT_SIZE 96
#define HOST_CARRIED_MAX     64 /* of a further one it gets no more VMs */
struct host_range {
    uint32_t ipv4;
    uint32_t prefix_bits;
    char text[HOST_RANGE_TEXT_SIZE];
};

struct decisions {
    struct command commands[DECISIONS_MAX]; /* subject "system", no request id */
    uint32_t count;
};

struct scheduler *scheduler_new(void);
struct scheduler *scheduler_free(struct scheduler *scheduler);

/* Leadership begins: forgets who was heard and what groups wished for (measured loads
 * stay: they carry their time); nobody is declared lost before a full lease from now. */
void scheduler_lead(struct scheduler *scheduler, uint64_t now_ns);

/* A heartbeat of a host arrived (its ack renews the lease). -ENOMEM: it was not noted and
 * must not be acknowledged, or the host would be given up before its lease is over. */
int scheduler_host_heard(struct scheduler *scheduler,
                         uint64_t host,
                         const struct host_load *load,
                         uint64_t now_ns,
                         uint64_t wall_ms);
/* What a host that was heard needs for itself: VMs of networks that overlap it do not go
 * there. Copied. -ENOMEM: what it said before stands. */
int scheduler_host_ranges(struct scheduler *scheduler,
                          uint64_t host,
                          const struct host_range *ranges,
                          uint32_t count);
/* The networks (VNIs) that it carries although they overlap one of those: they got there
 * before, and VMs still go there. What the log says does not count: it has a host in a
 * network from when a VM is placed, also where none can start. Copied. -ENOMEM: likewise.
 */
int scheduler_host_carries(struct scheduler *scheduler,
                           uint64_t host,
                           const uint32_t *vnis,
                           uint32_t count);
/* Whether its heartbeats may renew its lease (host: NULL when it was removed): not from
 * when it is decided that it is lost until it is ready again and has taken its new
 * orders, since the old ones may name VMs that run elsewhere by then. orders_taken: it
 * has those that follow from the log, and no decision may still take effect. */
bool scheduler_may_renew(struct scheduler *scheduler,
                         const struct host *host,
                         bool orders_taken);
/* A VM's CPU use since the last sample, in permille of its vCPUs (1000 = all of them
 * busy), and whether it is ready: see load_table.h. */
void scheduler_vm_load(struct scheduler *scheduler,
                       uint64_t vm,
                       uint32_t cpu_permille,
                       bool ready,
                       uint64_t now_ns);

/* Decides. Fills *decisions (any content before is ignored); the number of commands. */
uint32_t scheduler_step(struct scheduler *scheduler,
                        const struct state *state,
                        uint64_t now_ns,
                        uint64_t wall_ms,
                        struct decisions *ret_decisions);
void decisions_fini(struct decisions *decisions);
/* When the next step is due even if nothing happens (monotonic ns). */
uint64_t scheduler_next_ns(const struct scheduler *scheduler,
                           const struct state *state,
                           uint64_t now_ns);

/* Last heartbeat of a host and its usage; false when never heard under this leader. */
bool scheduler_host_seen(const struct scheduler *scheduler,
                         uint64_t host,
                         uint64_t *ret_heard_wall_ms,
                         struct host_load *ret_load);
/* Mean CPU permille of a VM over the window, or -1 without samples. */
int scheduler_vm_cpu(const struct scheduler *scheduler,
                     uint64_t vm,
                     uint64_t window_ns,
                     uint64_t now_ns);

/* Why a VM is where it is or is not placed, or what a group lacks: per host verdict, the
 * rule that refuses it, reason, nearest fix. Document: {"subject":"group/web", "summary":
 * "...", "fits":N, "refused":{RULE:hosts}, "hosts":[{"host","verdict":"here|fits|no",
 * "rule","reason","fix"}], "autoscale": {...} for groups, "revision"}. Rules: home,
 * snapshot, up, drain, engine, require, range, spread, network, vms, memory, cpu, disk. A
 * new reference; NULL when out of memory. waits: what the caller knows of why the host
 * that it has does not start it (of a group: why its VMs do not start), told in the
 * summary; or NULL. */
json_t *scheduler_explain_vm(const struct scheduler *scheduler,
                             const struct state *state,
                             const struct vm *vm,
                             const char *waits);
json_t *scheduler_explain_group(const struct scheduler *scheduler,
                                const struct state *state,
                                const struct group *group,
                                const char *waits,
                                uint64_t now_ns);
/* Why a VM that waits for a host has none, in a few words: "no host: 2 of 3 lack memory,
 * 1 of 3 is drained"; of one that is to leave a drained host that, and the same of why it
 * is still there; of one whose disks a host keeps, what that host lacks and both ways
 * out. False (and "") when it does not wait, or goes somewhere next. For lists: a
 * placement looks at every host, so the caller says how many may be worked out (*looks,
 * one less for each). VMs of one kind share one until the state changes or a host is
 * heard; when none is left the text says that explain knows. The VM is looked at as the
 * state has it: `vm` may be a copy, and older. */
bool scheduler_pending_reason(const struct scheduler *scheduler,
                              const struct state *state,
                              const struct vm *vm,
                              unsigned *looks,
                              char *ret_text,
                              size_t size);
/* What placing `count` more VMs of this machine in the group (NULL or not there yet: in a
 * new one) would give: {"placed":[{"host"}], "unplaced":N, "hosts":[as above]}, the hosts
 * only when some are unplaced. For plan. */
json_t *scheduler_forecast(const struct scheduler *scheduler,
                           const struct state *state,
                           const char *tenant,
                           const char *group,
                           const struct machine_spec *machine,
                           uint32_t count,
                           uint64_t now_ns);
/* The same of a VM that is there and would be switched on, with "diskHost" when a host
 * keeps its disks: it starts only there. */
json_t *scheduler_forecast_vm(const struct scheduler *scheduler,
                              const struct state *state,
                              const struct vm *vm);
