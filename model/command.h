/* Commands: the only ways in which the replicated state changes.
 *
 * Shapes: one record per command (model/record.h), wrapped in struct command: type, who
 * asks, a request id that makes a retry harmless, the leader's wall time (apply() reads
 * no clock), and the body. They say what was decided, never how to decide. COMMANDS is
 * the one list: it gives the enum, the union, the codec, the printer and the fuzz target.
 * Codec: {u8 level, u16 type, u8[16] request id, u64 wall ms, text subject, body
 * record}. The level is the cluster's when the command was proposed (model/level.h); one
 * that this release does not know, and a type or field that does not belong to it, are
 * refused (a replica that met one must stop: it cannot know what the others did).
 * Ownership: command_fini frees the body. Limits: COMMAND_SIZE_MAX encoded. Errors:
 * BERTH_ELEVEL, BERTH_EPROTO, BERTH_EUNSUPPORTED (unknown type), -ENOMEM.
 */
#pragma once

#include "base/err.h"
#include "model/level.h"
#include "model/objects.h"

#define COMMAND_SIZE_MAX (60u << 10) /* fits one replicated entry with its framing */
#define REQUEST_ID_SIZE  16
#define SUBJECT_SIZE     80          /* "token:" and a name */
#define REVISION_ANY     UINT64_MAX  /* expected_revision: no check */
#define REVISION_NONE    UINT64_C(0) /* expected_revision: must not exist */

/* Replace or create an object of a user-writable kind other than VM (VMs are admitted).
 * `document` is the encoded record. A put with equal spec changes nothing and succeeds.
 */
#define CMD_PUT_FIELDS(F, S)                                                         \
    F(S, 1, U32, kind, "kind", UNIT_NONE, 0, 1, KIND_COUNT - 1, 0, "enum kind")      \
    F(S, 2, U64, expected_revision, "expectedRevision", UNIT_NONE, 0, 0, UINT64_MAX, \
      REVISION_ANY, "compare-and-set")                                               \
    F(S, 3, BLOB, document, "document", none, FIELD_REQUIRED, 0, RECORD_TEXT_MAX, 0, \
      "the encoded record")
/* Delete by name. A Group is marked and goes with its last VM; a VM is stopped first;
 * others must be out of use (BERTH_EINUSE). */
#define CMD_DELETE_FIELDS(F, S)                                                          \
    F(S, 1, U32, kind, "kind", UNIT_NONE, 0, 1, KIND_COUNT - 1, 0, "enum kind")          \
    F(S, 2, NAME, tenant, "tenant", none, 0, 0, 63, 0, "or absent")                      \
    F(S, 3, NAME, name, "name", none, 0, 1, 63, 0, "which")                              \
    F(S, 4, U64, expected_revision, "expectedRevision", UNIT_NONE, 0, 0, UINT64_MAX,     \
      REVISION_ANY, "compare-and-set")                                                   \
    F(S, 5, BOOL, force, "force", none, 0, 0, 1, 0,                                      \
      "a Host: with the disks of stopped VMs that it keeps")                             \
    F(S, 6, BOOL, surely_off, "surelyOff", none, FIELD_SINCE(LEVEL_SURELY_OFF), 0, 1, 0, \
      "a lost Host: its user says so of what may still run there")
/* Make a VM from a template as it is now; quota, name and addresses are counted here. A
 * group's VM is refused when the group already has `desired` VMs. */
#define CMD_ADMIT_VM_FIELDS(F, S)                                                     \
    F(S, 1, NAME, tenant, "tenant", none, 0, 1, 63, 0, "owner")                       \
    F(S, 2, NAME, name, "name", none, 0, 1, 63, 0, "new VM")                          \
    F(S, 3, NAME, template_name, "template", none, 0, 1, 63, 0, "of the same tenant") \
    F(S, 4, NAME, group, "group", none, 0, 0, 63, 0, "owner, or absent")              \
    F(S, 5, LABELS, labels, "labels", none, 0, 0, 64, 0, "of the VM")                 \
    F(S, 6, ENUM, power, "power", power, 0, 0, POWER_OFF, POWER_ON, "on or off")
/* Switch a user's VM on or off. `anywhere` gives up the disks that a host
 * keeps for it, so that it may start on any, from its image. One whose place is not known
 * may run already: it starts only when `surely_off` says that it does not (else
 * BERTH_EPHASE). */
#define CMD_SET_POWER_FIELDS(F, S)                                                       \
    F(S, 1, U64, vm, "vm", UNIT_NONE, 0, 1, UINT64_MAX, 0, "uid")                        \
    F(S, 2, ENUM, power, "power", power, 0, 0, POWER_OFF, POWER_ON, "on or off")         \
    F(S, 3, U64, expected_revision, "expectedRevision", UNIT_NONE, 0, 0, UINT64_MAX,     \
      REVISION_ANY, "compare-and-set")                                                   \
    F(S, 4, BOOL, anywhere, "anywhere", none, 0, 0, 1, 0, "with new disks")              \
    F(S, 5, BOOL, surely_off, "surelyOff", none, FIELD_SINCE(LEVEL_SURELY_OFF), 0, 1, 0, \
      "its user says that it runs nowhere")
/* Change what is a user's of a VM that is there: those of its labels that are named, and
 * its power. What runs goes on: labels are for
 * selecting. BERTH_ETOOLARGE when it would have more than LABELS_MAX. */
#define CMD_CHANGE_VM_FIELDS(F, S)                                                   \
    F(S, 1, U64, vm, "vm", UNIT_NONE, 0, 1, UINT64_MAX, 0, "uid")                    \
    F(S, 2, ENUM, power, "power", power, 0, 0, POWER_OFF, POWER_ON, "on or off")     \
    F(S, 3, LABELS, labels, "labels", none, 0, 0, 64, 0, "beside what it has")       \
    F(S, 4, U64, expected_revision, "expectedRevision", UNIT_NONE, 0, 0, UINT64_MAX, \
      REVISION_ANY, "compare-and-set")                                               \
    F(S, 5, LABELS, removed, "removed", none, 0, 0, 64, 0, "by key, of what it has")
#define CMD_ADDRESS_FIELDS(F, S) \
    F(S, 1, U32, ipv4, "address", UNIT_IPV4, 0, 0, UINT32_MAX, 0, "one NIC's")
/* pending -> placed on host. epoch must be the VM's epoch + 1 (compare-and-set against
 * races); addresses, one per NIC, are given at the first placement and must be free. A VM
 * whose disks are kept goes where they are; elsewhere, with new ones, only when that host
 * is lost and the VM's lifecycle does not wait for it. */
#define CMD_PLACE_VM_FIELDS(F, S)                                               \
    F(S, 1, U64, vm, "vm", UNIT_NONE, 0, 1, UINT64_MAX, 0, "uid")               \
    F(S, 2, U64, host, "host", UNIT_NONE, 0, 1, UINT64_MAX, 0, "uid")           \
    F(S, 3, U64, epoch, "epoch", UNIT_NONE, 0, 1, UINT64_MAX, 0, "the new one") \
    F(S, 4, LIST, addresses, "addresses", cmd_address, 0, 0, NICS_MAX, 0,       \
      "per NIC; empty: keep")                                                   \
    F(S, 5, TEXT, reason, "reason", UNIT_NONE, 0, 0, 255, 0, "why there")
/* Ask a placed or running VM to stop; intent says what follows. A VM that is nowhere
 * (pending, failed, stopped) gets the intent's end state at once; disks that are kept for
 * it stay kept unless it is deleted. A lost VM waits for its
 * host, where it may still run: it can be deleted, but not moved (BERTH_EPHASE) until the
 * host is back or removed; a stop is noted and carried out when it is found. */
#define CMD_EVICT_VM_FIELDS(F, S)                                                   \
    F(S, 1, U64, vm, "vm", UNIT_NONE, 0, 1, UINT64_MAX, 0, "uid")                   \
    F(S, 2, U64, epoch, "epoch", UNIT_NONE, 0, 0, UINT64_MAX, 0, "the current one") \
    F(S, 3, ENUM, intent, "intent", stop_intent, 0, 1, STOP_INTENT_RESTART,         \
      STOP_INTENT_STOP, "stop, move, delete or restart")                            \
    F(S, 4, TEXT, reason, "reason", UNIT_NONE, 0, 0, 255, 0, "why")
/* Observed by the host that holds this epoch; anything else is BERTH_ESTALE, but for a
 * run of before that tells where a VM is whose place is unknown (state_found_is_news). A
 * VM that has ended stays bound to the disks that its host says it keeps (disk_epoch)
 * when it is to stay off or to start again there, or when it could not start with disks
 * of an earlier run; else they are given up with the place. */
#define CMD_VM_PHASE_FIELDS(F, S)                                                       \
    F(S, 1, U64, vm, "vm", UNIT_NONE, 0, 1, UINT64_MAX, 0, "uid")                       \
    F(S, 2, U64, host, "host", UNIT_NONE, 0, 1, UINT64_MAX, 0, "who reports")           \
    F(S, 3, U64, epoch, "epoch", UNIT_NONE, 0, 1, UINT64_MAX, 0, "of the process seen") \
    F(S, 4, ENUM, phase, "phase", phase, 0, 0, PHASE_LOST, 0, "seen")                   \
    F(S, 5, U64, at_wall_ms, "at", UNIT_INSTANT, 0, 0, UINT64_MAX, 0,                   \
      "when, by the host's clock")                                                      \
    F(S, 6, TEXT, reason, "reason", UNIT_NONE, 0, 0, 255, 0, "why")                     \
    F(S, 7, U64, disk_epoch, "diskEpoch", UNIT_NONE, 0, 0, UINT64_MAX, 0,               \
      "it has ended: its disks, of that run, are kept; 0: they are not")                \
    F(S, 8, ENUM, engine, "engine", engine, FIELD_SINCE(LEVEL_SNAPSHOTS), 0,            \
      ENGINE_FAKE, ENGINE_AUTO, "of the run; auto: not said")                           \
    F(S, 9, BOOL, paused, "paused", none, FIELD_SINCE(LEVEL_SNAPSHOTS), 0, 1, 0,        \
      "it runs, and stands still as its user wished")                                   \
    F(S, 10, BOOL, begun, "begun", none, FIELD_SINCE(LEVEL_SNAPSHOTS), 0, 1, 0,         \
      "the run is or was up, whatever it is by now")
/* failed or stopped by itself -> pending again. When the back-off is over
 * (status.retry_wall_ms) and whether the restart policy wants it is the scheduler's
 * business. */
#define CMD_RETRY_VM_FIELDS(F, S)                                                   \
    F(S, 1, U64, vm, "vm", UNIT_NONE, 0, 1, UINT64_MAX, 0, "uid")                   \
    F(S, 2, U64, epoch, "epoch", UNIT_NONE, 0, 0, UINT64_MAX, 0, "the current one") \
    F(S, 3, TEXT, reason, "reason", UNIT_NONE, 0, 0, 255, 0, "why")
/* Live migration's four steps (model.md); switch bumps the epoch and the owner. */
#define CMD_MIGRATE_FIELDS(F, S)                                                         \
    F(S, 1, U64, vm, "vm", UNIT_NONE, 0, 1, UINT64_MAX, 0, "uid")                        \
    F(S, 2, U64, epoch, "epoch", UNIT_NONE, 0, 1, UINT64_MAX, 0, "the current one")      \
    F(S, 3, U64, target, "target", UNIT_NONE, 0, 0, UINT64_MAX, 0, "host uid (prepare)") \
    F(S, 4, TEXT, reason, "reason", UNIT_NONE, 0, 0, 255, 0, "why")
/* A host joins, or one that is known comes back with news. The join token (by hash) is
 * used up here; without one the subject must be the cluster itself (bootstrap) or the
 * host (its key is known). */
#define CMD_HOST_JOIN_FIELDS(F, S)                                                       \
    F(S, 1, NAME, name, "name", none, 0, 1, 63, 0, "unique")                             \
    F(S, 2, DIGEST, token_hash, "token", none, 0, 0, 0, 0, "zero: bootstrap")            \
    F(S, 3, RECORD, status, "status", host_status, 0, 0, 0, 0, "what it says of itself") \
    F(S, 4, LABELS, labels, "labels", none, 0, 0, 64, 0, "of the host")
#define CMD_HOST_UPDATE_FIELDS(F, S)                                  \
    F(S, 1, U64, host, "host", UNIT_NONE, 0, 1, UINT64_MAX, 0, "uid") \
    F(S, 2, RECORD, status, "status", host_status, 0, 0, 0, 0,        \
      "inventory and addresses; phase, voter, key ignored")
/* Move of a host's phase. lost takes its restartable VMs to lost (rules in model.md). */
#define CMD_HOST_PHASE_FIELDS(F, S)                                               \
    F(S, 1, U64, host, "host", UNIT_NONE, 0, 1, UINT64_MAX, 0, "uid")             \
    F(S, 2, ENUM, phase, "phase", host_phase, 0, 0, HOST_PHASE_REMOVED, 0, "new") \
    F(S, 3, TEXT, reason, "reason", UNIT_NONE, 0, 0, 255, 0, "why")
#define CMD_HOST_DRAIN_FIELDS(F, S)                                   \
    F(S, 1, U64, host, "host", UNIT_NONE, 0, 1, UINT64_MAX, 0, "uid") \
    F(S, 2, BOOL, drain, "drain", none, 0, 0, 1, 0, "or undrain")     \
    F(S, 3, TEXT, reason, "reason", UNIT_NONE, 0, 0, 255, 0, "why")
/* Labels of a host that is there: those that are named are set or taken away, the others
 * stay, so that two who name others are both heard. Placements from now on look at them;
 * what runs goes on. BERTH_ETOOLARGE when it would have more than LABELS_MAX. */
#define CMD_LABEL_HOST_FIELDS(F, S)                                                  \
    F(S, 1, U64, host, "host", UNIT_NONE, 0, 1, UINT64_MAX, 0, "uid")                \
    F(S, 2, LABELS, labels, "labels", none, 0, 0, 64, 0, "beside what it has")       \
    F(S, 3, LABELS, removed, "removed", none, 0, 0, 64, 0, "by key, of what it has") \
    F(S, 4, U64, expected_revision, "expectedRevision", UNIT_NONE, 0, 0, UINT64_MAX, \
      REVISION_ANY, "compare-and-set")
#define CMD_HOST_VOTER_FIELDS(F, S)                                   \
    F(S, 1, U64, host, "host", UNIT_NONE, 0, 1, UINT64_MAX, 0, "uid") \
    F(S, 2, ENUM, voter, "voter", voter_role, 0, 0, VOTER_VOTER, 0,   \
      "as the log's configuration has it")
#define CMD_GROUP_SCALE_FIELDS(F, S)                                    \
    F(S, 1, NAME, tenant, "tenant", none, 0, 1, 63, 0, "owner")         \
    F(S, 2, NAME, group, "group", none, 0, 1, 63, 0, "which")           \
    F(S, 3, U32, desired, "desired", UNIT_NONE, 0, 0, GROUP_VMS_MAX, 0, \
      "VMs from now on")                                                \
    F(S, 4, BOOL, by_user, "byUser", none, 0, 0, 1, 0,                  \
      "berth scale: sets spec.replicas as well")                        \
    F(S, 5, TEXT, reason, "reason", UNIT_NONE, 0, 0, 255, 0, "why")
/* A host gets an address of its own in a network (before its first VM there), or gives it
 * up (0). */
#define CMD_NETWORK_HOST_FIELDS(F, S)                                       \
    F(S, 1, U64, network, "network", UNIT_NONE, 0, 1, UINT64_MAX, 0, "uid") \
    F(S, 2, U64, host, "host", UNIT_NONE, 0, 1, UINT64_MAX, 0, "uid")       \
    F(S, 3, U32, ipv4, "address", UNIT_IPV4, 0, 0, UINT32_MAX, 0, "0: leave")
#define CMD_OPERATION_STEP_FIELDS(F, S)                                         \
    F(S, 1, NAME, name, "name", none, 0, 1, 63, 0, "which; made when new")      \
    F(S, 2, TEXT, title, "title", UNIT_NONE, 0, 0, 255, 0, "when new")          \
    F(S, 3, ENUM, phase, "phase", operation_phase, 0, 0, OPERATION_FAILED, 0,   \
      "how it stands")                                                          \
    F(S, 4, U32, permille, "progress", UNIT_PERMILLE, 0, 0, 1000, 0, "how far") \
    F(S, 5, TEXT, step, "step", UNIT_NONE, 0, 0, 255, 0, "now, or the result")
/* Nothing: a probe of the log. */
#define CMD_NOOP_FIELDS(F, S) \
    F(S, 1, U32, cookie, "cookie", UNIT_NONE, 0, 0, UINT32_MAX, 0, "any")

/* The cluster's level rises (model/level.h); proposed once every host knows it. A replica
 * that does not know it stops here. */
#define CMD_SET_LEVEL_FIELDS(F, S)                                          \
    F(S, 1, U32, level, "level", UNIT_NONE, 0, LEVEL_FIRST, LEVEL_LIMIT, 0, \
      "above the one there is")

/* A VM that runs stands still until it is told to go on: memory and place stay. Whatever
 * ends its run ends that, too. */
#define CMD_PAUSE_VM_FIELDS(F, S)                                                    \
    F(S, 1, U64, vm, "vm", UNIT_NONE, 0, 1, UINT64_MAX, 0, "uid")                    \
    F(S, 2, BOOL, paused, "paused", none, 0, 0, 1, 0, "or goes on")                  \
    F(S, 3, U64, expected_revision, "expectedRevision", UNIT_NONE, 0, 0, UINT64_MAX, \
      REVISION_ANY, "compare-and-set")

/* A snapshot of a VM that runs, by its host: memory and disks of one instant. Counted
 * here for all that it may take, in the tenant's quota and on its host. */
#define CMD_SNAPSHOT_MAKE_FIELDS(F, S)                                               \
    F(S, 1, U64, vm, "vm", UNIT_NONE, 0, 1, UINT64_MAX, 0, "uid")                    \
    F(S, 2, NAME, name, "name", none, 0, 0, 63, 0,                                   \
      "of the snapshot, new in its tenant; absent: the VM's and a number")           \
    F(S, 3, U64, expected_revision, "expectedRevision", UNIT_NONE, 0, 0, UINT64_MAX, \
      REVISION_ANY, "compare-and-set, of the VM")
/* What its host says of it, in the run that is in it; anything else is BERTH_ESTALE.
 * lost: it is not there (any more). */
#define CMD_SNAPSHOT_STEP_FIELDS(F, S)                                                  \
    F(S, 1, U64, snapshot, "snapshot", UNIT_NONE, 0, 1, UINT64_MAX, 0, "uid")           \
    F(S, 2, U64, host, "host", UNIT_NONE, 0, 1, UINT64_MAX, 0, "who reports")           \
    F(S, 3, U64, epoch, "epoch", UNIT_NONE, 0, 1, UINT64_MAX, 0, "of the run in it")    \
    F(S, 4, ENUM, phase, "phase", snapshot_phase, 0, 0, SNAPSHOT_LOST, SNAPSHOT_MAKING, \
      "seen")                                                                           \
    F(S, 5, U64, bytes, "bytes", UNIT_BYTES, 0, 0, UINT64_MAX, 0, "that it takes")      \
    F(S, 6, U32, permille, "progress", UNIT_PERMILLE, 0, 0, 1000, 0, "how far")         \
    F(S, 7, TEXT, reason, "reason", UNIT_NONE, 0, 0, 255, 0, "why")                     \
    F(S, 8, U64, at_wall_ms, "at", UNIT_INSTANT, 0, 0, UINT64_MAX, 0,                   \
      "the instant that is in it, by the host's clock")
/* The VM ends, and its next run begins from a snapshot, on that one's host alone: its
 * memory and disks are those of then. Until it runs, berth stop and a start that gives
 * disks up call it off. */
#define CMD_RESTORE_VM_FIELDS(F, S)                                                  \
    F(S, 1, U64, vm, "vm", UNIT_NONE, 0, 1, UINT64_MAX, 0, "uid")                    \
    F(S, 2, U64, snapshot, "snapshot", UNIT_NONE, 0, 1, UINT64_MAX, 0, "uid")        \
    F(S, 3, U64, expected_revision, "expectedRevision", UNIT_NONE, 0, 0, UINT64_MAX, \
      REVISION_ANY, "compare-and-set, of the VM")                                    \
    F(S, 4, TEXT, reason, "reason", UNIT_NONE, 0, 0, 255, 0, "why")                  \
    F(S, 5, BOOL, lazy, "lazy", none, FIELD_SINCE(LEVEL_MACHINES), 0, 1, 0,          \
      "run at once: memory is read when it is touched")

/* X(ENUM, number, member, FIELDS): numbers are for ever. */
#define COMMANDS(X)                                                                      \
    X(NOOP, 1, noop, cmd_noop, CMD_NOOP_FIELDS)                                          \
    X(PUT, 2, put, cmd_put, CMD_PUT_FIELDS)                                              \
    X(DELETE, 3, delete, cmd_delete, CMD_DELETE_FIELDS)                                  \
    X(ADMIT_VM, 4, admit_vm, cmd_admit_vm, CMD_ADMIT_VM_FIELDS)                          \
    X(SET_POWER, 5, set_power, cmd_set_power, CMD_SET_POWER_FIELDS)                      \
    X(PLACE_VM, 6, place_vm, cmd_place_vm, CMD_PLACE_VM_FIELDS)                          \
    X(EVICT_VM, 7, evict_vm, cmd_evict_vm, CMD_EVICT_VM_FIELDS)                          \
    X(VM_PHASE, 8, vm_phase, cmd_vm_phase, CMD_VM_PHASE_FIELDS)                          \
    X(RETRY_VM, 9, retry_vm, cmd_retry_vm, CMD_RETRY_VM_FIELDS)                          \
    X(MIGRATE_PREPARE, 10, migrate_prepare, cmd_migrate_prepare, CMD_MIGRATE_FIELDS)     \
    X(MIGRATE_SWITCH, 11, migrate_switch, cmd_migrate_switch, CMD_MIGRATE_FIELDS)        \
    X(MIGRATE_COMMIT, 12, migrate_commit, cmd_migrate_commit, CMD_MIGRATE_FIELDS)        \
    X(MIGRATE_ABORT, 13, migrate_abort, cmd_migrate_abort, CMD_MIGRATE_FIELDS)           \
    X(HOST_JOIN, 14, host_join, cmd_host_join, CMD_HOST_JOIN_FIELDS)                     \
    X(HOST_UPDATE, 15, host_update, cmd_host_update, CMD_HOST_UPDATE_FIELDS)             \
    X(HOST_PHASE, 16, host_phase, cmd_host_phase, CMD_HOST_PHASE_FIELDS)                 \
    X(HOST_DRAIN, 17, host_drain, cmd_host_drain, CMD_HOST_DRAIN_FIELDS)                 \
    X(HOST_VOTER, 18, host_voter, cmd_host_voter, CMD_HOST_VOTER_FIELDS)                 \
    X(GROUP_SCALE, 19, group_scale, cmd_group_scale, CMD_GROUP_SCALE_FIELDS)             \
    X(NETWORK_HOST, 20, network_host, cmd_network_host, CMD_NETWORK_HOST_FIELDS)         \
    X(OPERATION_STEP, 21, operation_step, cmd_operation_step, CMD_OPERATION_STEP_FIELDS) \
    X(SET_LEVEL, 22, set_level, cmd_set_level, CMD_SET_LEVEL_FIELDS)                     \
    X(CHANGE_VM, 23, change_vm, cmd_change_vm, CMD_CHANGE_VM_FIELDS)                     \
    X(LABEL_HOST, 24, label_host, cmd_label_host, CMD_LABEL_HOST_FIELDS)                 \
    X(PAUSE_VM, 25, pause_vm, cmd_pause_vm, CMD_PAUSE_VM_FIELDS)                         \
    X(SNAPSHOT_MAKE, 26, snapshot_make, cmd_snapshot_make, CMD_SNAPSHOT_MAKE_FIELDS)     \
    X(SNAPSHOT_STEP, 27, snapshot_step, cmd_snapshot_step, CMD_SNAPSHOT_STEP_FIELDS)     \
    X(RESTORE_VM, 28, restore_vm, cmd_restore_vm, CMD_RESTORE_VM_FIELDS)
/* X(ENUM, level): those that came after the first level, and with which. */
#define COMMANDS_SINCE(X)             \
    X(CHANGE_VM, LEVEL_VM_LABELS)     \
    X(LABEL_HOST, LEVEL_HOST_LABELS)  \
    X(PAUSE_VM, LEVEL_SNAPSHOTS)      \
    X(SNAPSHOT_MAKE, LEVEL_SNAPSHOTS) \
    X(SNAPSHOT_STEP, LEVEL_SNAPSHOTS) \
    X(RESTORE_VM, LEVEL_SNAPSHOTS)

RECORD_DECLARE(cmd_address, CMD_ADDRESS_FIELDS)
#define COMMAND_DECLARE(NAME, number, member, record, FIELDS) \
    RECORD_DECLARE(record, FIELDS)
COMMANDS(COMMAND_DECLARE)

enum command_type {
    COMMAND_NONE = 0,
#define COMMAND_ENUM(NAME, number, member, record, FIELDS) COMMAND_##NAME = number,
    COMMANDS(COMMAND_ENUM)
#undef COMMAND_ENUM
        COMMAND_COUNT
};

struct command {
    enum command_type type;
    uint32_t level;                      /* the cluster's when it was proposed */
    uint8_t request_id[REQUEST_ID_SIZE]; /* all zero: not remembered */
    uint64_t wall_ms;                    /* leader's clock when it proposed */
    char subject[SUBJECT_SIZE]; /* who asks: "system", "host:h1", "token:ci", "root" */
    union {
#define COMMAND_MEMBER(NAME, number, member, record, FIELDS) struct record member;
        COMMANDS(COMMAND_MEMBER)
#undef COMMAND_MEMBER
    } body;
};

/* Sets type, the first level and fallback values; the rest is zero. */
void command_init(struct command *command, enum command_type type);
void command_fini(struct command *command);
const char *command_name(enum command_type type); /* "place_vm" */
const struct record *command_record(enum command_type type);
unsigned command_since(enum command_type type); /* the level that it came with */
/* Whether the command can be proposed at that level: 0, or BERTH_ELEVEL and what of it
 * needs which; -ENOMEM. */
int command_check_level(const struct command *command, uint32_t level, struct err *err);
void command_encode(const struct command *command, struct bytes_writer *writer);
/* Decodes one command that fills the reader; on error *ret_command is zeroed, but for
 * BERTH_ELEVEL, which leaves in `level` the one that this release does not know. */
int command_decode(struct bytes_reader *reader, struct command *ret_command);
/* One readable line. */
void command_print(const struct command *command, struct bytes_writer *writer);
/* COMMAND_PUT of this object: encodes it into body.put.document. 0 or -ENOMEM /
 * BERTH_ETOOLARGE. */
int command_set_put(struct command *command,
                    enum kind kind,
                    const void *object,
                    uint64_t expected_revision);
/* The object inside a put of that level, fresh (object_free). */
int command_put_object(const struct cmd_put *put, uint32_t level, void **ret_object);
