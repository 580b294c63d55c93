/* What hosts say to each other over the mesh: one record per message (model/record.h).
 *
 * Shapes: MESSAGES is the list; each message is a record, encoded by its table, in a mesh
 * frame of that type. Unknown fields are skipped, so a newer host may say more. Nothing
 * here is trusted beyond what the sender's key allows: a host speaks only for itself.
 * Ownership: decoded messages own their lists (record_fini). Errors: BERTH_EPROTO,
 * BERTH_ETOOLARGE. Limits: MESSAGE_SIZE_MAX (orders: agent/link_parts.h), and each list's
 * own: the state and the scheduler keep below them what is sent.
 */
#pragma once

#include "base/err.h"
#include "model/objects.h"
#include "scheduler/scheduler.h"

#define MESSAGE_SIZE_MAX  (1u << 20)
#define MESSAGE_PART_MAX  (1u << 19) /* of a larger one: agent/link_parts.h */
#define MESSAGE_TYPE_BASE 256        /* the mesh keeps lower ones */
#define ORDERS_VMS_MAX    1024       /* of one host */
#define HEARTBEAT_VMS_MAX 1024       /* all that it has orders for, at least */
#define MEMBERS_MAX       5000       /* as many hosts as the state holds */

/* ---- joining
 * -------------------------------------------------------------------------------------
 */
#define MSG_JOIN_FIELDS(F, S)                                                   \
    F(S, 1, NAME, name, "name", none, 0, 1, 63, 0, "wanted host name")          \
    F(S, 2, DIGEST, secret, "secret", none, FIELD_SECRET, 0, 0, 0,              \
      "from the join token")                                                    \
    F(S, 3, RECORD, status, "status", host_status, 0, 0, 0, 0,                  \
      "addresses, key, inventory")                                              \
    F(S, 4, LABELS, labels, "labels", none, 0, 0, 64, 0, "of the host")         \
    F(S, 5, U32, level_min, "levelMin", UNIT_NONE, 0, LEVEL_FIRST, LEVEL_LIMIT, \
      LEVEL_FIRST, "the levels of the state that it takes part in")             \
    F(S, 6, U32, level_max, "levelMax", UNIT_NONE, 0, LEVEL_FIRST, LEVEL_LIMIT, \
      LEVEL_FIRST, "likewise; one that says nothing knows the first")
RECORD_DECLARE(msg_join, MSG_JOIN_FIELDS)
#define MSG_MEMBER_FIELDS(F, S)                                                      \
    F(S, 1, U64, uid, "uid", UNIT_NONE, 0, 0, UINT64_MAX, 0, "host")                 \
    F(S, 2, NAME, name, "name", none, 0, 0, 63, 0, "host")                           \
    F(S, 3, DIGEST, key, "key", none, 0, 0, 0, 0, "public")                          \
    F(S, 4, U32, address, "address", UNIT_IPV4, 0, 0, UINT32_MAX, 0, "in the rack")  \
    F(S, 5, U32, mesh_port, "meshPort", UNIT_NONE, 0, 0, 65535, 0, "mesh")           \
    F(S, 6, U32, raft_port, "raftPort", UNIT_NONE, 0, 0, 65535, 0, "between voters") \
    F(S, 7, ENUM, voter, "voter", voter_role, 0, 0, VOTER_VOTER, 0, "control plane")
RECORD_DECLARE(msg_member, MSG_MEMBER_FIELDS)
/* code 0: welcome, with the members; BERTH_ENOTLEADER as -code: ask `leader` instead. */
#define MSG_JOIN_REPLY_FIELDS(F, S)                                            \
    F(S, 1, U32, code, "code", UNIT_NONE, 0, 0, UINT32_MAX, 0,                 \
      "0 or a negated error code")                                             \
    F(S, 2, TEXT, text, "text", UNIT_NONE, 0, 0, 511, 0, "why not")            \
    F(S, 3, U64, uid, "uid", UNIT_NONE, 0, 0, UINT64_MAX, 0, "the new host's") \
    F(S, 4, U64, cluster_id, "clusterId", UNIT_NONE, 0, 0, UINT64_MAX, 0,      \
      "of the cluster")                                                        \
    F(S, 5, LIST, members, "members", msg_member, 0, 0, MEMBERS_MAX, 0,        \
      "who has the log, the new host")                                         \
    F(S, 6, RECORD, leader, "leader", msg_member, 0, 0, 0, 0, "when asked elsewhere")
RECORD_DECLARE(msg_join_reply, MSG_JOIN_REPLY_FIELDS)

/* ---- the heartbeat and its answer
 * ----------------------------------------------------------------- */
#define MSG_VM_SEEN_FIELDS(F, S)                                                         \
    F(S, 1, U64, vm, "vm", UNIT_NONE, 0, 1, UINT64_MAX, 0, "uid")                        \
    F(S, 2, U64, epoch, "epoch", UNIT_NONE, 0, 1, UINT64_MAX, 0, "of the process")       \
    F(S, 3, ENUM, phase, "phase", phase, 0, 0, PHASE_LOST, 0, "as seen")                 \
    F(S, 4, U64, at_wall_ms, "at", UNIT_INSTANT, 0, 0, UINT64_MAX, 0, "since")           \
    F(S, 5, U32, cpu_permille, "cpu", UNIT_PERMILLE, 0, 0, 1000, 0,                      \
      "of its vCPUs, since the last")                                                    \
    F(S, 6, TEXT, reason, "reason", UNIT_NONE, 0, 0, 255, 0, "of the phase")             \
    F(S, 7, U64, memory_bytes, "memory", UNIT_BYTES, 0, 0, UINT64_MAX, 0, "resident")    \
    F(S, 8, BOOL, sampled, "sampled", none, 0, 0, 1, 0, "cpu is a fresh measurement")    \
    F(S, 9, U64, starting_wall_ms, "startingAt", UNIT_INSTANT, 0, 0, UINT64_MAX, 0,      \
      "boot timeline")                                                                   \
    F(S, 10, U64, running_wall_ms, "runningAt", UNIT_INSTANT, 0, 0, UINT64_MAX, 0,       \
      "boot timeline")                                                                   \
    F(S, 11, U64, disk_epoch, "diskEpoch", UNIT_NONE, 0, 0, UINT64_MAX, 0,               \
      "it has ended: its disks, of that run, are here")                                  \
    F(S, 12, ENUM, engine, "engine", engine, 0, 0, ENGINE_FAKE, ENGINE_AUTO,             \
      "of the run; auto: a host that does not say")                                      \
    F(S, 13, BOOL, paused, "paused", none, 0, 0, 1, 0,                                   \
      "its user's pause is in force: the phase is running, no probe is asked")           \
    F(S, 14, U64, counted_ms, "countedAt", UNIT_NONE, 0, 0, UINT64_MAX, 0,               \
      "by its clock: when the VM was asked what follows, totals of the run; 0: not "     \
      "since the last")                                                                  \
    F(S, 15, U64, disk_read_bytes, "diskReadBytes", UNIT_NONE, 0, 0, UINT64_MAX, 0,      \
      "of all disks")                                                                    \
    F(S, 16, U64, disk_reads, "diskReads", UNIT_NONE, 0, 0, UINT64_MAX, 0, "likewise")   \
    F(S, 17, U64, disk_write_bytes, "diskWriteBytes", UNIT_NONE, 0, 0, UINT64_MAX, 0,    \
      "likewise")                                                                        \
    F(S, 18, U64, disk_writes, "diskWrites", UNIT_NONE, 0, 0, UINT64_MAX, 0, "likewise") \
    F(S, 19, U64, disk_requests, "diskRequests", UNIT_NONE, 0, 0, UINT64_MAX, 0,         \
      "reads and writes, done or failed")                                                \
    F(S, 20, U64, disk_ns, "diskNs", UNIT_NONE, 0, 0, UINT64_MAX, 0, "that those took")  \
    F(S, 21, BOOL, nics_counted, "nicsCounted", none, 0, 0, 1, 0, "of its NICs, too")    \
    F(S, 22, U64, nic_rx_bytes, "nicRxBytes", UNIT_NONE, 0, 0, UINT64_MAX, 0,            \
      "to the VM")                                                                       \
    F(S, 23, U64, nic_tx_bytes, "nicTxBytes", UNIT_NONE, 0, 0, UINT64_MAX, 0, "from it") \
    F(S, 24, U64, boot_ready_us, "bootReadyUs", UNIT_NONE, 0, 0, UINT64_MAX, 0,          \
      "from exec to where it may run")                                                   \
    F(S, 25, U64, boot_first_run_us, "bootFirstRunUs", UNIT_NONE, 0, 0, UINT64_MAX, 0,   \
      "and to where its guest runs; 0: not told")                                        \
    F(S, 26, BOOL, disks_counted, "disksCounted", none, 0, 0, 1, 0,                      \
      "of its disks, too; a host that does not say: those with requests")
RECORD_DECLARE(msg_vm_seen, MSG_VM_SEEN_FIELDS)
/* A snapshot that the host was ordered to make, keep or remove, or that it has. At first
 * it says `making`, then once `ready` or `failed`, and goes on saying so; of one that is
 * to be removed `deleting`; of one that is not here (any more) `lost`. */
#define MSG_SNAPSHOT_SEEN_FIELDS(F, S)                                                  \
    F(S, 1, U64, snapshot, "snapshot", UNIT_NONE, 0, 1, UINT64_MAX, 0, "uid")           \
    F(S, 2, U64, vm, "vm", UNIT_NONE, 0, 0, UINT64_MAX, 0, "uid of its VM")             \
    F(S, 3, U64, epoch, "epoch", UNIT_NONE, 0, 0, UINT64_MAX, 0, "of the run in it")    \
    F(S, 4, ENUM, phase, "phase", snapshot_phase, 0, 0, SNAPSHOT_LOST, SNAPSHOT_MAKING, \
      "as seen")                                                                        \
    F(S, 5, U64, bytes, "bytes", UNIT_BYTES, 0, 0, UINT64_MAX, 0,                       \
      "that it takes here, once it is ready")                                           \
    F(S, 6, U32, permille, "progress", UNIT_PERMILLE, 0, 0, 1000, 0,                    \
      "how far, while it is made")                                                      \
    F(S, 7, TEXT, reason, "reason", UNIT_NONE, 0, 0, 255, 0, "of the phase")            \
    F(S, 8, U64, at_wall_ms, "at", UNIT_INSTANT, 0, 0, UINT64_MAX, 0,                   \
      "the instant that is in it")
RECORD_DECLARE(msg_snapshot_seen, MSG_SNAPSHOT_SEEN_FIELDS)
#define MSG_BLOB_FIELDS(F, S)                                                    \
    F(S, 1, DIGEST, sha256, "sha256", none, 0, 0, 0, 0, "content")               \
    F(S, 2, U64, size_bytes, "size", UNIT_BYTES, 0, 0, UINT64_MAX, 0, "content") \
    F(S, 3, U64, holder, "holder", UNIT_NONE, 0, 0, UINT64_MAX, 0,               \
      "a host that has it; 0: none known")                                       \
    F(S, 4, BOOL, unchecked, "unchecked", none, 0, 0, 1, 0,                      \
      "the host that says it looks first whether it is still whole")
RECORD_DECLARE(msg_blob, MSG_BLOB_FIELDS)
enum fence_health {
    FENCE_HEALTH_UNKNOWN = 0, /* a host that does not say */
    FENCE_HEALTH_MISSING,
    FENCE_HEALTH_RUNNING,
    FENCE_HEALTH_WATCHDOG /* it runs, and feeds a watchdog that bites in time */
};
extern const char *const fence_health_names[]; /* unknown missing running watchdog */
/* A range that the host has a use of its own for: no network that it does not carry yet
 * may overlap it. */
#define MSG_TAKEN_FIELDS(F, S)                                                    \
    F(S, 1, U32, ipv4, "address", UNIT_IPV4, 0, 0, UINT32_MAX, 0, "of the range") \
    F(S, 2, U32, prefix_bits, "prefix", UNIT_NONE, 0, 0, 32, 0, "of the range")   \
    F(S, 3, TEXT, text, "text", UNIT_NONE, 0, 0, HOST_RANGE_TEXT_SIZE - 1, 0, "in words")
RECORD_DECLARE(msg_taken, MSG_TAKEN_FIELDS)
/* A network that the host carries although it overlaps one of these. */
#define MSG_CARRIED_FIELDS(F, S) \
    F(S, 1, U32, vni, "vni", UNIT_NONE, 0, 0, 0xffffff, 0, "of the network")
RECORD_DECLARE(msg_carried, MSG_CARRIED_FIELDS)
#define MSG_HEARTBEAT_FIELDS(F, S)                                                       \
    F(S, 1, U64, host, "host", UNIT_NONE, 0, 1, UINT64_MAX, 0, "uid; must be the key's") \
    F(S, 2, U64, sequence, "sequence", UNIT_NONE, 0, 1, UINT64_MAX, 0,                   \
      "per boot of berthd")                                                              \
    F(S, 3, U64, boot, "boot", UNIT_NONE, 0, 0, UINT64_MAX, 0,                           \
      "random per start of berthd")                                                      \
    F(S, 4, U64, desired_hash, "desired", UNIT_NONE, 0, 0, UINT64_MAX, 0,                \
      "of the orders it has")                                                            \
    F(S, 5, U32, cpu_used_mcpu, "cpuUsed", UNIT_MCPU, 0, 0, UINT32_MAX, 0, "whole host") \
    F(S, 6, U64, memory_used_bytes, "memoryUsed", UNIT_BYTES, 0, 0, UINT64_MAX, 0,       \
      "whole host")                                                                      \
    F(S, 7, U64, disk_free_bytes, "diskFree", UNIT_BYTES, 0, 0, UINT64_MAX, 0,           \
      "of its state folder")                                                             \
    F(S, 8, LIST, vms, "vms", msg_vm_seen, 0, 0, HEARTBEAT_VMS_MAX, 0,                   \
      "all that are ordered, once each; of others as many as there is room for: that "   \
      "one is not among them says nothing")                                              \
    F(S, 9, LIST, blobs, "blobs", msg_blob, 0, 0, 256, 0, "what its image store holds")  \
    F(S, 10, RECORD, status, "status", host_status, 0, 0, 0, 0,                          \
      "addresses and inventory")                                                         \
    F(S, 11, U64, revision, "revision", UNIT_NONE, 0, 0, UINT64_MAX, 0,                  \
      "applied (voters)")                                                                \
    F(S, 12, ENUM, fence, "fence", fence_health, 0, 0, FENCE_HEALTH_WATCHDOG, 0,         \
      "is its fence there")                                                              \
    F(S, 13, U32, level_min, "levelMin", UNIT_NONE, 0, LEVEL_FIRST, LEVEL_LIMIT,         \
      LEVEL_FIRST, "the levels of the state that it takes part in")                      \
    F(S, 14, U32, level_max, "levelMax", UNIT_NONE, 0, LEVEL_FIRST, LEVEL_LIMIT,         \
      LEVEL_FIRST, "likewise; one that says nothing knows the first")                    \
    F(S, 15, LIST, taken, "taken", msg_taken, 0, 0, HOST_RANGES_MAX, 0,                  \
      "ranges that it needs for itself")                                                 \
    F(S, 16, LIST, carried, "carried", msg_carried, 0, 0, HOST_CARRIED_MAX, 0,           \
      "networks that it carries all the same")                                           \
    F(S, 17, LIST, snapshots, "snapshots", msg_snapshot_seen, 0, 0, HOST_SNAPSHOTS_MAX,  \
      0, "all that it was told of, or has")
RECORD_DECLARE(msg_heartbeat, MSG_HEARTBEAT_FIELDS)
/* Renews the lease from the moment heartbeat `sequence` was sent; the host writes down
 * the level, for its next start (agent/level_file.h). */
#define MSG_ACK_FIELDS(F, S)                                                          \
    F(S, 1, U64, sequence, "sequence", UNIT_NONE, 0, 1, UINT64_MAX, 0,                \
      "the newest covered")                                                           \
    F(S, 2, U64, boot, "boot", UNIT_NONE, 0, 0, UINT64_MAX, 0, "as in the heartbeat") \
    F(S, 3, U64, leader, "leader", UNIT_NONE, 0, 0, UINT64_MAX, 0, "uid")             \
    F(S, 4, U64, term, "term", UNIT_NONE, 0, 0, UINT64_MAX, 0, "of its leadership")   \
    F(S, 5, U32, level, "level", UNIT_NONE, 0, LEVEL_FIRST, LEVEL_LIMIT, LEVEL_FIRST, \
      "the cluster's")                                                                \
    F(S, 6, U64, revision, "revision", UNIT_NONE, 0, 0, UINT64_MAX, 0,                \
      "of the leader's state; 0: it does not say")
RECORD_DECLARE(msg_ack, MSG_ACK_FIELDS)
/* A voter that is not the leader answers a heartbeat with whom it believes to be; 0:
 * nobody. To a host that was away the leader may be new: members_learn says what is
 * believed of that. It is said of a request for the leader, too, if one is known, before
 * that is refused; and a new leader says it of itself to hosts without a part in the log.
 */
#define MSG_NOT_LEADER_FIELDS(F, S)                                            \
    F(S, 1, U64, leader, "leader", UNIT_NONE, 0, 0, UINT64_MAX, 0, "uid or 0") \
    F(S, 2, U64, term, "term", UNIT_NONE, 0, 0, UINT64_MAX, 0,                 \
      "of that leadership, as the log has it; 0: not known")                   \
    F(S, 3, RECORD, member, "member", msg_member, 0, 0, 0, 0,                  \
      "the leader, as the state has it; no uid: not known")
RECORD_DECLARE(msg_not_leader, MSG_NOT_LEADER_FIELDS)
/* The leader does not take the heartbeat: the cluster is at a level that the host takes
 * no part in. Its daemon ends. */
#define MSG_OUTDATED_FIELDS(F, S)                                                     \
    F(S, 1, U64, term, "term", UNIT_NONE, 0, 0, UINT64_MAX, 0, "of its leadership")   \
    F(S, 2, U32, level, "level", UNIT_NONE, 0, LEVEL_FIRST, LEVEL_LIMIT, LEVEL_FIRST, \
      "the cluster's")
RECORD_DECLARE(msg_outdated, MSG_OUTDATED_FIELDS)

/* ---- leadership confirmation (a round of the paper's read index, without its log)
 * ------------------- */
#define MSG_CONFIRM_FIELDS(F, S)                                              \
    F(S, 1, U64, term, "term", UNIT_NONE, 0, 0, UINT64_MAX, 0, "the asker's") \
    F(S, 2, U64, round, "round", UNIT_NONE, 0, 0, UINT64_MAX, 0, "echoed")
RECORD_DECLARE(msg_confirm, MSG_CONFIRM_FIELDS)
#define MSG_CONFIRMED_FIELDS(F, S)                                                     \
    F(S, 1, U64, term, "term", UNIT_NONE, 0, 0, UINT64_MAX, 0, "the voter's own, now") \
    F(S, 2, U64, round, "round", UNIT_NONE, 0, 0, UINT64_MAX, 0, "as asked")
RECORD_DECLARE(msg_confirmed, MSG_CONFIRMED_FIELDS)

/* ---- orders: everything a host should be doing
 * ------------------------------------------------------ */
#define MSG_NIC_FIELDS(F, S)                                                \
    F(S, 1, U64, network, "network", UNIT_NONE, 0, 0, UINT64_MAX, 0, "uid") \
    F(S, 2, U64, mac, "mac", UNIT_MAC, 0, 0, UINT64_MAX, 0, "address")      \
    F(S, 3, U32, ipv4, "address", UNIT_IPV4, 0, 0, UINT32_MAX, 0, "address")
RECORD_DECLARE(msg_nic, MSG_NIC_FIELDS)
enum order {
    ORDER_RUN = 0,
    ORDER_STOP,
    ORDER_KEEP /* nothing runs; its disks stay. Only for a host that said it has them */
};
extern const char *const order_names[]; /* run stop keep */
#define MSG_VM_FIELDS(F, S)                                                      \
    F(S, 1, U64, vm, "vm", UNIT_NONE, 0, 1, UINT64_MAX, 0, "uid")                \
    F(S, 2, U64, epoch, "epoch", UNIT_NONE, 0, 1, UINT64_MAX, 0, "to run under") \
    F(S, 3, ENUM, order, "order", order, 0, 0, ORDER_KEEP, 0,                    \
      "run, stop with grace, or keep")                                           \
    F(S, 4, NAME, name, "name", none, 0, 0, 63, 0, "for people")                 \
    F(S, 5, NAME, tenant, "tenant", none, 0, 0, 63, 0, "owner")                  \
    F(S, 6, RECORD, machine, "machine", machine_spec, 0, 0, 0, 0, "what it is")  \
    F(S, 7, RECORD, image, "image", image_spec, 0, 0, 0, 0, "boot material")     \
    F(S, 8, LIST, nics, "nics", msg_nic, 0, 0, NICS_MAX, 0, "addresses")         \
    F(S, 9, U64, disk_epoch, "diskEpoch", UNIT_NONE, 0, 0, UINT64_MAX, 0,        \
      "run with the disks of that run; 0: with new ones")                        \
    F(S, 10, BOOL, paused, "paused", none, 0, 0, 1, 0,                           \
      "its user's: CPUs stand still until this is gone; of a run only")          \
    F(S, 11, U64, restore, "restore", UNIT_NONE, 0, 0, UINT64_MAX, 0,            \
      "begin the run from that snapshot; 0: boot. The disks of diskEpoch, if "   \
      "any, stay until the snapshot's are complete, then go")                    \
    F(S, 12, BOOL, restore_lazy, "restoreLazy", none, 0, 0, 1, 0,                \
      "and read its memory while it runs")
RECORD_DECLARE(msg_vm, MSG_VM_FIELDS)
enum snapshot_order {
    SNAPSHOT_ORDER_KEEP = 0,
    SNAPSHOT_ORDER_MAKE, /* of the run of that epoch, or it has failed */
    SNAPSHOT_ORDER_DELETE
};
extern const char *const snapshot_order_names[]; /* keep make delete */
/* What is not named is removed, as with VMs. */
#define MSG_SNAPSHOT_FIELDS(F, S)                                                    \
    F(S, 1, U64, snapshot, "snapshot", UNIT_NONE, 0, 1, UINT64_MAX, 0, "uid")        \
    F(S, 2, U64, vm, "vm", UNIT_NONE, 0, 1, UINT64_MAX, 0, "uid of its VM")          \
    F(S, 3, U64, epoch, "epoch", UNIT_NONE, 0, 1, UINT64_MAX, 0, "of the run in it") \
    F(S, 4, ENUM, order, "order", snapshot_order, 0, 0, SNAPSHOT_ORDER_DELETE,       \
      SNAPSHOT_ORDER_KEEP, "keep, make or delete")                                   \
    F(S, 5, U64, bytes, "bytes", UNIT_BYTES, 0, 0, UINT64_MAX, 0,                    \
      "to make: promised to it, the most it may take")                               \
    F(S, 6, NAME, name, "name", none, 0, 0, 63, 0, "for people")                     \
    F(S, 7, NAME, tenant, "tenant", none, 0, 0, 63, 0, "owner")
RECORD_DECLARE(msg_snapshot, MSG_SNAPSHOT_FIELDS)
#define MSG_NEIGHBOUR_FIELDS(F, S)                                                      \
    F(S, 1, U64, mac, "mac", UNIT_MAC, 0, 0, UINT64_MAX, 0, "0: the other host itself") \
    F(S, 2, U32, ipv4, "address", UNIT_IPV4, 0, 0, UINT32_MAX, 0, "in the network")     \
    F(S, 3, U32, underlay, "underlay", UNIT_IPV4, 0, 0, UINT32_MAX, 0,                  \
      "the host it is on; 0: none")                                                     \
    F(S, 4, U64, host, "host", UNIT_NONE, 0, 0, UINT64_MAX, 0, "uid of that host")      \
    F(S, 5, NAME, name, "name", none, 0, 0, 63, 0, "of the VM, for DNS")
RECORD_DECLARE(msg_neighbour, MSG_NEIGHBOUR_FIELDS)
#define MSG_NETWORK_FIELDS(F, S)                                                         \
    F(S, 1, U64, uid, "uid", UNIT_NONE, 0, 0, UINT64_MAX, 0, "network")                  \
    F(S, 2, NAME, name, "name", none, 0, 0, 63, 0, "network")                            \
    F(S, 3, NAME, tenant, "tenant", none, 0, 0, 63, 0, "owner")                          \
    F(S, 4, U32, vni, "vni", UNIT_NONE, 0, 0, 0xffffff, 0, "VXLAN")                      \
    F(S, 5, U64, cidr, "cidr", UNIT_CIDR, 0, 0, UINT64_MAX, 0, "addresses")              \
    F(S, 6, U32, gateway, "gateway", UNIT_IPV4, 0, 0, UINT32_MAX, 0,                     \
      "same on every host")                                                              \
    F(S, 7, U32, host_address, "hostAddress", UNIT_IPV4, 0, 0, UINT32_MAX, 0,            \
      "this host's own")                                                                 \
    F(S, 8, U32, mtu, "mtu", UNIT_NONE, 0, 0, 9000, 0,                                   \
      "0: the rack's, less the tunnel's")                                                \
    F(S, 9, BOOL, nat, "nat", none, 0, 0, 1, 0, "egress")                                \
    F(S, 10, LIST, neighbours, "neighbours", msg_neighbour, 0, 0, NETWORK_ADDRESSES_MAX, \
      0, "all VMs and hosts in it")
RECORD_DECLARE(msg_network, MSG_NETWORK_FIELDS)
#define MSG_ORDERS_FIELDS(F, S)                                                       \
    F(S, 1, U64, host, "host", UNIT_NONE, 0, 0, UINT64_MAX, 0, "for whom")            \
    F(S, 2, U64, term, "term", UNIT_NONE, 0, 0, UINT64_MAX, 0,                        \
      "of the leader: older ones are refused")                                        \
    F(S, 3, U64, revision, "revision", UNIT_NONE, 0, 0, UINT64_MAX, 0,                \
      "of the state they come from")                                                  \
    F(S, 4, LIST, members, "members", msg_member, 0, 0, MEMBERS_MAX, 0, "all hosts")  \
    F(S, 5, LIST, vms, "vms", msg_vm, 0, 0, ORDERS_VMS_MAX, 0,                        \
      "what should run here; nothing else may")                                       \
    F(S, 6, LIST, networks, "networks", msg_network, 0, 0, 512, 0, "what those need") \
    F(S, 7, LIST, blobs, "blobs", msg_blob, 0, 0, 256, 0,                             \
      "what the image store should hold")                                             \
    F(S, 8, LIST, snapshots, "snapshots", msg_snapshot, 0, 0, HOST_SNAPSHOTS_MAX, 0,  \
      "what this host makes, keeps and removes; it has no others")
RECORD_DECLARE(msg_orders, MSG_ORDERS_FIELDS)

/* ---- exchanges (api/exchange.h) on the way to another host
 * ------------------------------------------ */
#define MSG_FORWARD_FIELDS(F, S)                                                    \
    F(S, 1, U64, id, "id", UNIT_NONE, 0, 1, UINT64_MAX, 0,                          \
      "of the exchange, by the sender")                                             \
    F(S, 2, U64, console_vm, "console", UNIT_NONE, 0, 0, UINT64_MAX, 0,             \
      "0, or an authorised console")                                                \
    F(S, 3, BLOB, request, "request", none, 0, 0, UINT64_C(8) * RECORD_TEXT_MAX, 0, \
      "exchange_request_encode")                                                    \
    F(S, 4, U64, repeat_since, "repeatSince", UNIT_NONE, 0, 0, UINT64_MAX, 0,       \
      "0, or it may have been done since this revision")
RECORD_DECLARE(msg_forward, MSG_FORWARD_FIELDS)
#define MSG_HEADER_FIELDS(F, S)                                    \
    F(S, 1, TEXT, name, "name", UNIT_NONE, 0, 0, 127, 0, "header") \
    F(S, 2, TEXT, value, "value", UNIT_NONE, 0, 0, 1023, 0, "header")
RECORD_DECLARE(msg_header, MSG_HEADER_FIELDS)
#define MSG_FORWARD_HEAD_FIELDS(F, S)                                           \
    F(S, 1, U64, id, "id", UNIT_NONE, 0, 1, UINT64_MAX, 0, "as asked")          \
    F(S, 2, U32, status, "status", UNIT_NONE, 0, 100, 599, 500, "HTTP")         \
    F(S, 3, TEXT, content_type, "contentType", UNIT_NONE, 0, 0, 127, 0, "HTTP") \
    F(S, 4, LIST, headers, "headers", msg_header, 0, 0, 32, 0, "HTTP")
RECORD_DECLARE(msg_forward_head, MSG_FORWARD_HEAD_FIELDS)
/* upwards (input) and downwards (data) alike */
#define MSG_FORWARD_DATA_FIELDS(F, S)                                    \
    F(S, 1, U64, id, "id", UNIT_NONE, 0, 1, UINT64_MAX, 0, "as asked")   \
    F(S, 2, BLOB, data, "data", none, 0, 0, RECORD_TEXT_MAX, 0, "bytes") \
    F(S, 3, U64, offset, "offset", UNIT_NONE, 0, 0, UINT64_MAX, 0,       \
      "of the answer: the mesh may drop what waits too long")
RECORD_DECLARE(msg_forward_data, MSG_FORWARD_DATA_FIELDS)
/* downwards: the answer is complete, or, without a head, the request was turned away;
 * upwards: the client is gone */
#define MSG_FORWARD_END_FIELDS(F, S)                                   \
    F(S, 1, U64, id, "id", UNIT_NONE, 0, 1, UINT64_MAX, 0, "as asked") \
    F(S, 2, BOOL, cut, "cut", none, 0, 0, 1, 0,                        \
      "the right to the answer was taken away: nothing more of it is given out")
RECORD_DECLARE(msg_forward_end, MSG_FORWARD_END_FIELDS)

/* ---- image contents
 * ------------------------------------------------------------------------------- */
#define MSG_BLOB_ASK_FIELDS(F, S)                                          \
    F(S, 1, DIGEST, sha256, "sha256", none, 0, 0, 0, 0, "content")         \
    F(S, 2, U64, offset, "offset", UNIT_NONE, 0, 0, UINT64_MAX, 0, "from") \
    F(S, 3, U32, size, "size", UNIT_NONE, 0, 0, 1u << 19, 0, "this much")
RECORD_DECLARE(msg_blob_ask, MSG_BLOB_ASK_FIELDS)
#define MSG_BLOB_CHUNK_FIELDS(F, S)                                           \
    F(S, 1, DIGEST, sha256, "sha256", none, 0, 0, 0, 0, "content")            \
    F(S, 2, U64, offset, "offset", UNIT_NONE, 0, 0, UINT64_MAX, 0, "of data") \
    F(S, 3, U64, total, "total", UNIT_NONE, 0, 0, UINT64_MAX, 0,              \
      "size of the content; 0: not here")                                     \
    F(S, 4, BLOB, data, "data", none, 0, 0, 1u << 19, 0, "bytes")
RECORD_DECLARE(msg_blob_chunk, MSG_BLOB_CHUNK_FIELDS)

/* ---- any message that is too large
 * --------------------------------------------------------------- */
#define MSG_PART_FIELDS(F, S)                                                    \
    F(S, 1, U64, id, "id", UNIT_NONE, 0, 0, UINT64_MAX, 0,                       \
      "of the message, by the sender")                                           \
    F(S, 2, U32, type, "type", UNIT_NONE, 0, 0, UINT16_MAX, 0, "of the message") \
    F(S, 3, U32, total, "total", UNIT_NONE, 0, 1, UINT32_MAX, 1, "its size")     \
    F(S, 4, U32, offset, "offset", UNIT_NONE, 0, 0, UINT32_MAX, 0, "of data")    \
    F(S, 5, BLOB, data, "data", none, 0, 0, MESSAGE_PART_MAX, 0, "bytes")
RECORD_DECLARE(msg_part, MSG_PART_FIELDS)

/* X(NAME, number, record): the mesh type is MESSAGE_TYPE_BASE + number. Numbers are for
 * ever. JOIN and JOIN_REPLY travel as the mesh's own pair of types. */
#define MESSAGES(X)                        \
    X(HEARTBEAT, 1, msg_heartbeat)         \
    X(ACK, 2, msg_ack)                     \
    X(NOT_LEADER, 3, msg_not_leader)       \
    X(CONFIRM, 4, msg_confirm)             \
    X(CONFIRMED, 5, msg_confirmed)         \
    X(ORDERS, 6, msg_orders)               \
    X(FORWARD, 7, msg_forward)             \
    X(FORWARD_HEAD, 8, msg_forward_head)   \
    X(FORWARD_DATA, 9, msg_forward_data)   \
    X(FORWARD_END, 10, msg_forward_end)    \
    X(FORWARD_INPUT, 11, msg_forward_data) \
    X(FORWARD_CANCEL, 12, msg_forward_end) \
    X(BLOB_ASK, 13, msg_blob_ask)          \
    X(BLOB_CHUNK, 14, msg_blob_chunk)      \
    X(OUTDATED, 15, msg_outdated)          \
    X(PART, 16, msg_part)

enum message_type {
#define MESSAGE_ENUM(NAME, number, record) MESSAGE_##NAME = MESSAGE_TYPE_BASE + (number),
    MESSAGES(MESSAGE_ENUM)
#undef MESSAGE_ENUM
};

/* Table and readable name of a mesh type; NULL when it is none of ours. */
const struct record *message_record(uint16_t type);
const char *message_name(uint16_t type);
/* Encodes by the record; caller frees. */
int message_encode(const struct record *record,
                   const void *message,
                   uint8_t **ret_data,
                   size_t *ret_size);
/* The same, up to that size. */
int message_encode_within(const struct record *record,
                          const void *message,
                          size_t size_max,
                          uint8_t **ret_data,
                          size_t *ret_size);
/* Decodes a body; on error ret_message is zeroed. */
int message_decode(const struct record *record,
                   const void *data,
                   size_t size,
                   void *ret_message);
