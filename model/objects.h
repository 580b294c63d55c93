/* The nouns of Berth: every kind of object as a record (model/record.h).
 *
 * Shapes: each kind is {meta, spec, status}; `apiVersion: berth/v1`, `kind`, `metadata`,
 * `spec` in YAML and JSON, `status` written by the server only. kind_info() gives name,
 * table and scope of a kind. Units: as the field's unit; _bytes, _mcpu, _ms (wall where
 * the name says so). Ownership: objects are plain records; object_new / object_free.
 * Limits: next to each field.
 */
#pragma once

#include "model/record.h"

#define KIB (UINT64_C(1) << 10)
#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)
#define TIB (UINT64_C(1) << 40)

#define DISKS_MAX      16
#define NICS_MAX       8
#define RULES_MAX      32
#define ARTIFACTS_MAX  8
#define TARGETS_MAX    8
#define VM_CPU_MAX     64
#define GROUP_VMS_MAX  10000
#define UNLIMITED      UINT64_MAX
#define UNLIMITED32    UINT32_MAX
#define DEFAULT_TENANT "default"

/* Numbers on the wire and on disk: never reuse one. */
enum kind {
    KIND_NONE = 0,
    KIND_TENANT = 1,
    KIND_TEMPLATE = 2,
    KIND_GROUP = 3,
    KIND_VM = 4,
    KIND_NETWORK = 5,
    KIND_IMAGE = 6,
    KIND_DISK = 7,
    KIND_HOST = 8,
    KIND_TOKEN = 9,
    KIND_OPERATION = 10,
    KIND_SNAPSHOT = 11,
    KIND_COUNT
};

/* ---- metadata
 * ------------------------------------------------------------------------------------ */
#define METADATA_FIELDS(F, S)                                                            \
    F(S, 1, NAME, name, "name", none, FIELD_REQUIRED, 1, 63, 0,                          \
      "unique within kind and tenant")                                                   \
    F(S, 2, NAME, tenant, "tenant", none, 0, 0, 63, 0,                                   \
      "owner; cluster-wide kinds have none")                                             \
    F(S, 3, LABELS, labels, "labels", none, 0, 0, 64, 0, "key/values to select by")      \
    F(S, 4, LABELS, annotations, "annotations", none, 0, 0, 64, 0, "free notes")         \
    F(S, 5, U64, uid, "uid", UNIT_NONE, FIELD_SERVER, 0, UINT64_MAX, 0, "never reused")  \
    F(S, 6, U64, create_revision, "createRevision", UNIT_NONE, FIELD_SERVER, 0,          \
      UINT64_MAX, 0, "revision that made it")                                            \
    F(S, 7, U64, modify_revision, "revision", UNIT_NONE, FIELD_SERVER, 0, UINT64_MAX, 0, \
      "revision that last changed it")                                                   \
    F(S, 8, U64, created_wall_ms, "created", UNIT_INSTANT, FIELD_SERVER, 0, UINT64_MAX,  \
      0, "when")
RECORD_DECLARE(metadata, METADATA_FIELDS)

/* ---- Tenant
 * --------------------------------------------------------------------------------------
 */
enum role { ROLE_NONE = 0, ROLE_VIEWER, ROLE_OPERATOR, ROLE_ADMIN, ROLE_JOIN };
extern const char *const role_names[];

#define QUOTA_FIELDS(F, S)                                                               \
    F(S, 1, U64, cpu_mcpu, "cpu", UNIT_MCPU, 0, 0, UNLIMITED, UNLIMITED, "virtual CPUs") \
    F(S, 2, U64, memory_bytes, "memory", UNIT_BYTES, 0, 0, UNLIMITED, UNLIMITED,         \
      "guest memory")                                                                    \
    F(S, 3, U64, disk_bytes, "disk", UNIT_BYTES, 0, 0, UNLIMITED, UNLIMITED,             \
      "disk space")                                                                      \
    F(S, 4, U32, vms, "vms", UNIT_NONE, 0, 0, UNLIMITED32, UNLIMITED32, "VMs")           \
    F(S, 5, U32, networks, "networks", UNIT_NONE, 0, 0, UNLIMITED32, UNLIMITED32,        \
      "networks; without a number, a tenant's own tokens make 64")                       \
    F(S, 6, U32, addresses, "addresses", UNIT_NONE, 0, 0, UNLIMITED32, UNLIMITED32,      \
      "addresses")                                                                       \
    LEVEL_NEXT(F(S, 7, U32, images, "images", UNIT_NONE, FIELD_SINCE(5), 0, UNLIMITED32, \
                 UNLIMITED32, "images"))                                                 \
    F(S, 8, U64, snapshots, "snapshots", UNIT_NONE, FIELD_SINCE(LEVEL_SNAPSHOTS), 0,     \
      UNLIMITED, UNLIMITED, "snapshots of VMs")
RECORD_DECLARE(quota, QUOTA_FIELDS)
#define USAGE_FIELDS(F, S)                                                             \
    F(S, 1, U64, cpu_mcpu, "cpu", UNIT_MCPU, FIELD_SERVER, 0, UINT64_MAX, 0, "in use") \
    F(S, 2, U64, memory_bytes, "memory", UNIT_BYTES, FIELD_SERVER, 0, UINT64_MAX, 0,   \
      "in use")                                                                        \
    F(S, 3, U64, disk_bytes, "disk", UNIT_BYTES, FIELD_SERVER, 0, UINT64_MAX, 0,       \
      "in use")                                                                        \
    F(S, 4, U32, vms, "vms", UNIT_NONE, FIELD_SERVER, 0, UINT32_MAX, 0, "in use")      \
    F(S, 5, U32, networks, "networks", UNIT_NONE, FIELD_SERVER, 0, UINT32_MAX, 0,      \
      "in use")                                                                        \
    F(S, 6, U32, addresses, "addresses", UNIT_NONE, FIELD_SERVER, 0, UINT32_MAX, 0,    \
      "in use")                                                                        \
    F(S, 7, U32, snapshots, "snapshots", UNIT_NONE,                                    \
      FIELD_SERVER | FIELD_SINCE(LEVEL_SNAPSHOTS), 0, UINT32_MAX, 0, "in use")
RECORD_DECLARE(usage, USAGE_FIELDS)
#define MEMBER_FIELDS(F, S)                                                 \
    F(S, 1, TEXT, subject, "subject", UNIT_NONE, FIELD_REQUIRED, 1, 255, 0, \
      "token:NAME or user:NAME")                                            \
    F(S, 2, ENUM, role, "role", role, 0, 1, ROLE_ADMIN, ROLE_VIEWER,        \
      "viewer, operator or admin")
RECORD_DECLARE(member, MEMBER_FIELDS)
#define TENANT_SPEC_FIELDS(F, S)                                                       \
    F(S, 1, TEXT, display_name, "displayName", UNIT_NONE, 0, 0, 255, 0, "for people")  \
    F(S, 2, RECORD, quota, "quota", quota, 0, 0, 0, 0, "hard limits on desired state") \
    F(S, 3, LIST, members, "members", member, 0, 0, 256, 0, "who may do what")
RECORD_DECLARE(tenant_spec, TENANT_SPEC_FIELDS)
#define TENANT_STATUS_FIELDS(F, S)                              \
    F(S, 1, RECORD, used, "used", usage, FIELD_SERVER, 0, 0, 0, \
      "counted on desired state")
RECORD_DECLARE(tenant_status, TENANT_STATUS_FIELDS)
#define TENANT_FIELDS(F, S)                                                           \
    F(S, 1, RECORD, meta, "metadata", metadata, FIELD_REQUIRED, 0, 0, 0, "who it is") \
    F(S, 2, RECORD, spec, "spec", tenant_spec, 0, 0, 0, 0, "what is wanted")          \
    F(S, 3, RECORD, status, "status", tenant_status, FIELD_SERVER, 0, 0, 0, "what is")
RECORD_DECLARE(tenant, TENANT_FIELDS)

/* ---- what a VM is: shared by Template and VM
 * ------------------------------------------------------ */
enum engine { ENGINE_AUTO = 0, ENGINE_QEMU, ENGINE_KVM, ENGINE_FAKE, ENGINE_COUNT };
extern const char *const engine_names[]; /* auto qemu kvm fake */
enum disk_source { DISK_FROM_IMAGE = 0, DISK_EMPTY };
extern const char *const disk_source_names[]; /* image empty */
/* Each has what those before it have, but host, which is what its host has. */
enum cpu_baseline {
    CPU_BASELINE_HOST = 0,
    CPU_BASELINE_V2,
    CPU_BASELINE_V3,
    CPU_BASELINE_V4
};
extern const char *const cpu_baseline_names[]; /* host x86-64-v2 x86-64-v3 x86-64-v4 */
enum memory_pages { MEMORY_PAGES_NORMAL = 0, MEMORY_PAGES_HUGE };
extern const char *const memory_pages_names[]; /* normal huge */
#define MEMORY_HUGE_PAGE (2 * MIB)
enum spread_scope { SPREAD_NONE = 0, SPREAD_HOST };
extern const char *const spread_scope_names[]; /* none host */
enum restart_policy { RESTART_ON_FAILURE = 0, RESTART_ALWAYS, RESTART_NEVER };
extern const char *const restart_policy_names[]; /* on-failure always never */
enum host_failure { HOST_FAILURE_RESTART = 0, HOST_FAILURE_WAIT };
extern const char *const host_failure_names[]; /* restart-elsewhere wait */
enum host_drain { HOST_DRAIN_RESTART = 0, HOST_DRAIN_STOP };
extern const char *const host_drain_names[]; /* restart stop */

#define CPU_SPEC_FIELDS(F, S)                                                           \
    F(S, 1, U32, count, "count", UNIT_NONE, 0, 1, VM_CPU_MAX, 1, "virtual CPUs")        \
    F(S, 2, U32, weight, "weight", UNIT_NONE, 0, 1, 10000, 100, "share of a busy host") \
    F(S, 3, ENUM, baseline, "baseline", cpu_baseline, FIELD_SINCE(LEVEL_MACHINES), 0,   \
      CPU_BASELINE_V4, CPU_BASELINE_HOST,                                               \
      "the features that it finds: the same on each host, or those of its host")        \
    F(S, 4, U32, max, "max", UNIT_NONE, FIELD_SINCE(LEVEL_MACHINES), 0, VM_CPU_MAX, 0,  \
      "to which count may be raised while it runs; 0: it stays what it was")
RECORD_DECLARE(cpu_spec, CPU_SPEC_FIELDS)
#define MEMORY_SPEC_FIELDS(F, S)                                                       \
    F(S, 1, U64, size_bytes, "size", UNIT_BYTES, FIELD_REQUIRED, 32 * MIB, 4 * TIB, 0, \
      "guest memory")                                                                  \
    F(S, 2, ENUM, pages, "pages", memory_pages, FIELD_SINCE(LEVEL_MACHINES), 0,        \
      MEMORY_PAGES_HUGE, MEMORY_PAGES_NORMAL,                                          \
      "huge: out of the pool that a host's owner has reserved")
RECORD_DECLARE(memory_spec, MEMORY_SPEC_FIELDS)
/* What a device may do. 0: no limit. A burst is what may come at once after a rest; 0: as
 * much as a second gives. Not so little that a guest takes its device for broken, and no
 * number that an engine does not take. */
#define LIMIT_BYTES_LEAST      (64 * KIB)
#define LIMIT_OPERATIONS_LEAST 10
#define LIMIT_BYTES_MAX        (256 * TIB)
#define LIMIT_OPERATIONS_MAX   UINT64_C(1000000000)

#define DISK_LIMIT_FIELDS(F, S)                                                        \
    F(S, 1, U64, operations, "iops", UNIT_NONE, 0, 0, LIMIT_OPERATIONS_MAX, 0,         \
      "reads and writes a second, together; absent: no limit")                         \
    F(S, 2, U64, operations_burst, "iopsBurst", UNIT_NONE, 0, 0, LIMIT_OPERATIONS_MAX, \
      0, "of them at once after a rest; absent: what a second gives")                  \
    F(S, 3, U64, bytes, "bandwidth", UNIT_RATE, 0, 0, LIMIT_BYTES_MAX, 0,              \
      "read and written, together; absent: no limit")                                  \
    F(S, 4, U64, bytes_burst, "burst", UNIT_BYTES, 0, 0, LIMIT_BYTES_MAX, 0,           \
      "of that at once after a rest; absent: what a second gives")
RECORD_DECLARE(disk_limit, DISK_LIMIT_FIELDS)
#define NIC_LIMIT_FIELDS(F, S)                                                    \
    F(S, 1, U64, operations, "packets", UNIT_NONE, 0, 0, LIMIT_OPERATIONS_MAX, 0, \
      "a second, each way; absent: no limit")                                     \
    F(S, 2, U64, operations_burst, "packetsBurst", UNIT_NONE, 0, 0,               \
      LIMIT_OPERATIONS_MAX, 0,                                                    \
      "of them at once after a rest; absent: what a second gives")                \
    F(S, 3, U64, bytes, "bandwidth", UNIT_RATE, 0, 0, LIMIT_BYTES_MAX, 0,         \
      "each way; absent: no limit")                                               \
    F(S, 4, U64, bytes_burst, "burst", UNIT_BYTES, 0, 0, LIMIT_BYTES_MAX, 0,      \
      "of that at once after a rest; absent: what a second gives")
RECORD_DECLARE(nic_limit, NIC_LIMIT_FIELDS)
#define DISK_SPEC_FIELDS(F, S)                                                         \
    F(S, 1, NAME, name, "name", none, FIELD_REQUIRED, 1, 63, 0, "name inside the VM")  \
    F(S, 2, ENUM, from, "from", disk_source, 0, 0, DISK_EMPTY, DISK_EMPTY,             \
      "image: starts as the image's disk; empty: starts as zeros")                     \
    F(S, 3, U64, size_bytes, "size", UNIT_BYTES, FIELD_REQUIRED, 1 * MIB, 64 * TIB, 0, \
      "size")                                                                          \
    F(S, 4, RECORD, limit, "limit", disk_limit, FIELD_SINCE(LEVEL_LIMITS), 0, 0, 0,    \
      "how fast it may be; a change reaches running VMs")                              \
    F(S, 5, BOOL, read_only, "readOnly", none, FIELD_SINCE(LEVEL_MACHINES), 0, 1, 0,   \
      "the image's disk itself, for all VMs that read it")
RECORD_DECLARE(disk_spec, DISK_SPEC_FIELDS)
#define NIC_SPEC_FIELDS(F, S)                                                         \
    F(S, 1, NAME, name, "name", none, FIELD_REQUIRED, 1, 63, 0, "name inside the VM") \
    F(S, 2, NAME, network, "network", none, FIELD_REQUIRED, 1, 63, 0,                 \
      "network of the same tenant")                                                   \
    F(S, 3, RECORD, limit, "limit", nic_limit, FIELD_SINCE(LEVEL_LIMITS), 0, 0, 0,    \
      "how fast it may be; a change reaches running VMs")
RECORD_DECLARE(nic_spec, NIC_SPEC_FIELDS)
#define SPREAD_SPEC_FIELDS(F, S)                                          \
    F(S, 1, ENUM, by, "by", spread_scope, 0, 0, SPREAD_HOST, SPREAD_NONE, \
      "none or host")                                                     \
    F(S, 2, U32, max, "max", UNIT_NONE, 0, 1, GROUP_VMS_MAX, 1,           \
      "VMs of a group per host, at most")
RECORD_DECLARE(spread_spec, SPREAD_SPEC_FIELDS)
#define PLACEMENT_SPEC_FIELDS(F, S)                                         \
    F(S, 1, TEXTS, require, "require", UNIT_EXPRESSION, 0, 0, RULES_MAX, 0, \
      "rules every host must meet")                                         \
    F(S, 2, RECORD, spread, "spread", spread_spec, 0, 0, 0, 0,              \
      "how a group is spread out")                                          \
    F(S, 3, U32, priority, "priority", UNIT_NONE, 0, 0, 100, 50,            \
      "higher is placed and restarted first; of equals, who may go to few hosts")
RECORD_DECLARE(placement_spec, PLACEMENT_SPEC_FIELDS)
#define RESTART_SPEC_FIELDS(F, S)                                                       \
    F(S, 1, ENUM, policy, "policy", restart_policy, 0, 0, RESTART_NEVER,                \
      RESTART_ON_FAILURE, "when it ends")                                               \
    F(S, 2, U64, backoff_ms, "backoff", UNIT_DURATION, 0, 100, 3600000, 5000,           \
      "first wait; doubles")                                                            \
    F(S, 3, U64, backoff_max_ms, "maxBackoff", UNIT_DURATION, 0, 100, 86400000, 300000, \
      "longest wait")                                                                   \
    F(S, 4, U32, attempts, "attempts", UNIT_NONE, 0, 0, 1000, 10,                       \
      "in a row before it stays failed")
RECORD_DECLARE(restart_spec, RESTART_SPEC_FIELDS)
#define LIFECYCLE_SPEC_FIELDS(F, S)                                                   \
    F(S, 1, RECORD, restart, "restart", restart_spec, 0, 0, 0, 0,                     \
      "when the VM ends by itself")                                                   \
    F(S, 2, ENUM, host_failure, "hostFailure", host_failure, 0, 0, HOST_FAILURE_WAIT, \
      HOST_FAILURE_RESTART, "when its host is lost")                                  \
    F(S, 3, ENUM, host_drain, "hostDrain", host_drain, 0, 0, HOST_DRAIN_STOP,         \
      HOST_DRAIN_RESTART, "when its host is drained")                                 \
    F(S, 4, U64, stop_grace_ms, "stopGrace", UNIT_DURATION, 0, 0, 3600000, 10000,     \
      "time to shut down before it is killed")
RECORD_DECLARE(lifecycle_spec, LIFECYCLE_SPEC_FIELDS)
#define PROBE_TIMEOUT_DEFAULT_MS 2000
#define PROBE_SPEC_FIELDS(F, S)                                                   \
    F(S, 1, U32, port, "port", UNIT_NONE, 0, 0, 65535, 0,                         \
      "TCP port; 0: no probe, running is ready")                                  \
    F(S, 2, TEXT, path, "path", UNIT_NONE, 0, 0, 255, 0,                          \
      "HTTP path; absent: connecting is enough")                                  \
    F(S, 3, U64, every_ms, "every", UNIT_DURATION, 0, 100, 3600000, 5000,         \
      "between probes")                                                           \
    F(S, 4, U64, timeout_ms, "timeout", UNIT_DURATION, 0, 100, 60000,             \
      PROBE_TIMEOUT_DEFAULT_MS,                                                   \
      "for one probe, at most every; the default is every where that is shorter") \
    F(S, 5, U32, pass, "pass", UNIT_NONE, 0, 1, 100, 1,                           \
      "good ones in a row to be ready")                                           \
    F(S, 6, U32, fail, "fail", UNIT_NONE, 0, 1, 100, 3,                           \
      "bad ones in a row to be no longer ready")
RECORD_DECLARE(probe_spec, PROBE_SPEC_FIELDS)
#define HEALTH_SPEC_FIELDS(F, S)                            \
    F(S, 1, RECORD, ready, "ready", probe_spec, 0, 0, 0, 0, \
      "probe of the first NIC's address")
RECORD_DECLARE(health_spec, HEALTH_SPEC_FIELDS)
#define MACHINE_SPEC_FIELDS(F, S)                                                     \
    F(S, 1, NAME, image, "image", none, FIELD_REQUIRED, 1, 63, 0, "boot material")    \
    F(S, 2, ENUM, engine, "engine", engine, 0, 0, ENGINE_FAKE, ENGINE_AUTO,           \
      "who runs it")                                                                  \
    F(S, 3, RECORD, cpu, "cpu", cpu_spec, 0, 0, 0, 0, "processors")                   \
    F(S, 4, RECORD, memory, "memory", memory_spec, FIELD_REQUIRED, 0, 0, 0, "memory") \
    F(S, 5, LIST, disks, "disks", disk_spec, 0, 0, DISKS_MAX, 0, "disks of its own")  \
    F(S, 6, LIST, nics, "nics", nic_spec, 0, 0, NICS_MAX, 0, "network interfaces")    \
    F(S, 7, TEXT, cmdline, "cmdline", UNIT_NONE, 0, 0, 1024, 0,                       \
      "added to the image's kernel command line")                                     \
    F(S, 8, RECORD, placement, "placement", placement_spec, 0, 0, 0, 0,               \
      "where it may run")                                                             \
    F(S, 9, RECORD, lifecycle, "lifecycle", lifecycle_spec, 0, 0, 0, 0,               \
      "what happens when things end")                                                 \
    F(S, 10, RECORD, health, "health", health_spec, 0, 0, 0, 0, "when it counts as ready")
RECORD_DECLARE(machine_spec, MACHINE_SPEC_FIELDS)

/* ---- Template
 * ------------------------------------------------------------------------------------ */
#define TEMPLATE_STATUS_FIELDS(F, S)                                            \
    F(S, 1, U32, version, "version", UNIT_NONE, FIELD_SERVER, 0, UINT32_MAX, 0, \
      "counts changes of spec")
RECORD_DECLARE(template_status, TEMPLATE_STATUS_FIELDS)
#define TEMPLATE_FIELDS(F, S)                                                         \
    F(S, 1, RECORD, meta, "metadata", metadata, FIELD_REQUIRED, 0, 0, 0, "who it is") \
    F(S, 2, RECORD, spec, "spec", machine_spec, FIELD_REQUIRED, 0, 0, 0,              \
      "what is wanted")                                                               \
    F(S, 3, RECORD, status, "status", template_status, FIELD_SERVER, 0, 0, 0, "what is")
RECORD_DECLARE(template, TEMPLATE_FIELDS)

/* ---- Group
 * ---------------------------------------------------------------------------------------
 */
enum metric { METRIC_VM_CPU = 0 };
extern const char *const metric_names[]; /* vm.cpu.utilization */

#define TEMPLATE_REF_FIELDS(F, S)                               \
    F(S, 1, NAME, name, "name", none, FIELD_REQUIRED, 1, 63, 0, \
      "template of the same tenant")
RECORD_DECLARE(template_ref, TEMPLATE_REF_FIELDS)
#define SCALE_TARGET_FIELDS(F, S)                                                      \
    F(S, 1, ENUM, metric, "metric", metric, 0, 0, METRIC_VM_CPU, METRIC_VM_CPU,        \
      "what is measured")                                                              \
    F(S, 2, U32, target_permille, "target", UNIT_PERMILLE, FIELD_REQUIRED, 1, 1000, 0, \
      "wanted mean")                                                                   \
    F(S, 3, U64, window_ms, "window", UNIT_DURATION, 0, 1000, 3600000, 60000,          \
      "mean over this time")
RECORD_DECLARE(scale_target, SCALE_TARGET_FIELDS)
#define SCALE_UP_FIELDS(F, S)                                                   \
    F(S, 1, U32, step, "step", UNIT_NONE, 0, 1, GROUP_VMS_MAX, 4,               \
      "VMs added at once, at most")                                             \
    F(S, 2, U64, cooldown_ms, "cooldown", UNIT_DURATION, 0, 0, 86400000, 60000, \
      "between two growths")
RECORD_DECLARE(scale_up, SCALE_UP_FIELDS)
#define SCALE_DOWN_FIELDS(F, S)                                                  \
    F(S, 1, U32, step, "step", UNIT_NONE, 0, 1, GROUP_VMS_MAX, 1,                \
      "VMs removed at once, at most")                                            \
    F(S, 2, U64, cooldown_ms, "cooldown", UNIT_DURATION, 0, 0, 86400000, 300000, \
      "between two shrinks")                                                     \
    F(S, 3, U64, stable_ms, "stableFor", UNIT_DURATION, 0, 0, 86400000, 300000,  \
      "the lower wish must hold this long")
RECORD_DECLARE(scale_down, SCALE_DOWN_FIELDS)
#define AUTOSCALE_FIELDS(F, S)                                                 \
    F(S, 1, U32, min, "min", UNIT_NONE, 0, 0, GROUP_VMS_MAX, 0, "never fewer") \
    F(S, 2, U32, max, "max", UNIT_NONE, 0, 0, GROUP_VMS_MAX, 0,                \
      "never more; 0: no autoscale")                                           \
    F(S, 3, LIST, targets, "targets", scale_target, 0, 0, TARGETS_MAX, 0,      \
      "the largest wish wins")                                                 \
    F(S, 4, RECORD, up, "up", scale_up, 0, 0, 0, 0, "how it grows")            \
    F(S, 5, RECORD, down, "down", scale_down, 0, 0, 0, 0, "how it shrinks")
RECORD_DECLARE(autoscale, AUTOSCALE_FIELDS)
#define GROUP_SPEC_FIELDS(F, S)                                                      \
    F(S, 1, RECORD, template_ref, "template", template_ref, FIELD_REQUIRED, 0, 0, 0, \
      "what each VM is")                                                             \
    F(S, 2, U32, replicas, "replicas", UNIT_NONE, 0, 0, GROUP_VMS_MAX, 1,            \
      "how many; ignored under autoscale")                                           \
    F(S, 3, RECORD, autoscale, "autoscale", autoscale, 0, 0, 0, 0, "how many, by load")
RECORD_DECLARE(group_spec, GROUP_SPEC_FIELDS)
#define GROUP_STATUS_FIELDS(F, S)                                                        \
    F(S, 1, U32, desired, "desired", UNIT_NONE, FIELD_SERVER, 0, GROUP_VMS_MAX, 0,       \
      "VMs wanted now")                                                                  \
    F(S, 2, U64, scaled_wall_ms, "scaled", UNIT_INSTANT, FIELD_SERVER, 0, UINT64_MAX, 0, \
      "last change of desired")                                                          \
    F(S, 3, TEXT, scale_reason, "scaleReason", UNIT_NONE, FIELD_SERVER, 0, 255, 0,       \
      "why")                                                                             \
    F(S, 4, U32, next_index, "nextIndex", UNIT_NONE, FIELD_SERVER, 0, UINT32_MAX, 1,     \
      "number of the next VM")                                                           \
    F(S, 5, BOOL, deleting, "deleting", none, FIELD_SERVER, 0, 1, 0,                     \
      "goes when its last VM is gone")
RECORD_DECLARE(group_status, GROUP_STATUS_FIELDS)
#define GROUP_FIELDS(F, S)                                                               \
    F(S, 1, RECORD, meta, "metadata", metadata, FIELD_REQUIRED, 0, 0, 0, "who it is")    \
    F(S, 2, RECORD, spec, "spec", group_spec, FIELD_REQUIRED, 0, 0, 0, "what is wanted") \
    F(S, 3, RECORD, status, "status", group_status, FIELD_SERVER, 0, 0, 0, "what is")
RECORD_DECLARE(group, GROUP_FIELDS)

/* ---- VM
 * ------------------------------------------------------------------------------------------
 */
enum phase {
    PHASE_PENDING = 0,
    PHASE_PLACED,
    PHASE_STARTING,
    PHASE_RUNNING,
    PHASE_READY,
    PHASE_MIGRATING,
    PHASE_STOPPING,
    PHASE_STOPPED,
    PHASE_FAILED,
    PHASE_LOST,
    PHASE_COUNT
};
extern const char *const phase_names[];
enum power { POWER_ON = 0, POWER_OFF };
extern const char *const power_names[];
/* What happens once a stopping VM has stopped. */
enum stop_intent {
    STOP_INTENT_NONE = 0,
    STOP_INTENT_STOP,
    STOP_INTENT_MOVE,
    STOP_INTENT_DELETE,
    STOP_INTENT_RESTART /* start again, with the same disks */
};
extern const char *const stop_intent_names[]; /* none stop move delete restart */

#define VM_SPEC_FIELDS(F, S)                                                           \
    F(S, 1, RECORD, template_ref, "template", template_ref, FIELD_REQUIRED, 0, 0, 0,   \
      "what it is")                                                                    \
    F(S, 2, ENUM, power, "power", power, 0, 0, POWER_OFF, POWER_ON, "on or off")       \
    F(S, 3, NAME, group, "group", none, FIELD_SERVER, 0, 63, 0,                        \
      "the group that owns it")                                                        \
    F(S, 4, RECORD, machine, "machine", machine_spec, FIELD_SERVER, 0, 0, 0,           \
      "the template as it was")                                                        \
    F(S, 5, BOOL, paused, "paused", none, FIELD_SERVER | FIELD_SINCE(LEVEL_SNAPSHOTS), \
      0, 1, 0, "stands still until berth resume")
RECORD_DECLARE(vm_spec, VM_SPEC_FIELDS)
#define VM_NIC_FIELDS(F, S)                                                         \
    F(S, 1, NAME, name, "name", none, FIELD_SERVER, 0, 63, 0, "as in the template") \
    F(S, 2, NAME, network, "network", none, FIELD_SERVER, 0, 63, 0,                 \
      "of the VM's tenant")                                                         \
    F(S, 3, U64, mac, "mac", UNIT_MAC, FIELD_SERVER, 0, UINT64_MAX, 0,              \
      "from the VM's uid")                                                          \
    F(S, 4, U32, ipv4, "address", UNIT_IPV4, FIELD_SERVER, 0, UINT32_MAX, 0,        \
      "0: none yet")
RECORD_DECLARE(vm_nic, VM_NIC_FIELDS)
#define VM_STATUS_FIELDS(F, S)                                                           \
    F(S, 1, ENUM, phase, "phase", phase, FIELD_SERVER, 0, PHASE_LOST, PHASE_PENDING,     \
      "model.md's phases")                                                               \
    F(S, 2, U64, host, "hostUid", UNIT_NONE, FIELD_SERVER, 0, UINT64_MAX, 0,             \
      "where; 0: nowhere")                                                               \
    F(S, 3, U64, epoch, "epoch", UNIT_NONE, FIELD_SERVER, 0, UINT64_MAX, 0,              \
      "rises with each place")                                                           \
    F(S, 4, TEXT, reason, "reason", UNIT_NONE, FIELD_SERVER, 0, 255, 0,                  \
      "of the last move")                                                                \
    F(S, 5, LIST, nics, "nics", vm_nic, FIELD_SERVER, 0, NICS_MAX, 0, "addresses")       \
    F(S, 6, ENUM, intent, "intent", stop_intent, FIELD_SERVER, 0, STOP_INTENT_RESTART,   \
      0, "after stopping")                                                               \
    F(S, 7, U32, restarts, "restarts", UNIT_NONE, FIELD_SERVER, 0, UINT32_MAX, 0,        \
      "in a row")                                                                        \
    F(S, 8, U64, retry_wall_ms, "retryAt", UNIT_INSTANT, FIELD_SERVER, 0, UINT64_MAX, 0, \
      "back-off ends")                                                                   \
    F(S, 9, U32, template_version, "templateVersion", UNIT_NONE, FIELD_SERVER, 0,        \
      UINT32_MAX, 0, "copied from")                                                      \
    F(S, 10, U64, target, "targetUid", UNIT_NONE, FIELD_SERVER, 0, UINT64_MAX, 0,        \
      "of a migration")                                                                  \
    F(S, 11, U64, pending_wall_ms, "pendingAt", UNIT_INSTANT, FIELD_SERVER, 0,           \
      UINT64_MAX, 0, "boot timeline")                                                    \
    F(S, 12, U64, placed_wall_ms, "placedAt", UNIT_INSTANT, FIELD_SERVER, 0, UINT64_MAX, \
      0, "boot timeline")                                                                \
    F(S, 13, U64, starting_wall_ms, "startingAt", UNIT_INSTANT, FIELD_SERVER, 0,         \
      UINT64_MAX, 0, "boot timeline")                                                    \
    F(S, 14, U64, running_wall_ms, "runningAt", UNIT_INSTANT, FIELD_SERVER, 0,           \
      UINT64_MAX, 0, "boot timeline")                                                    \
    F(S, 15, U64, ready_wall_ms, "readyAt", UNIT_INSTANT, FIELD_SERVER, 0, UINT64_MAX,   \
      0, "boot timeline")                                                                \
    F(S, 16, U64, disk_host, "diskHostUid", UNIT_NONE, FIELD_SERVER, 0, UINT64_MAX, 0,   \
      "keeps its disks while it is nowhere; 0: nobody")                                  \
    F(S, 17, U64, disk_epoch, "diskEpoch", UNIT_NONE, FIELD_SERVER, 0, UINT64_MAX, 0,    \
      "of the run whose disks are kept, or used again; 0: new ones")                     \
    F(S, 18, BOOL, paused, "paused", none, FIELD_SERVER | FIELD_SINCE(LEVEL_SNAPSHOTS),  \
      0, 1, 0, "its host says that it stands still, as its user wished")                 \
    F(S, 19, ENUM, engine, "engine", engine,                                             \
      FIELD_SERVER | FIELD_SINCE(LEVEL_SNAPSHOTS), 0, ENGINE_FAKE, ENGINE_AUTO,          \
      "of the run, or of the last one; auto: not known")                                 \
    F(S, 20, U64, restore, "restoreUid", UNIT_NONE,                                      \
      FIELD_SERVER | FIELD_SINCE(LEVEL_SNAPSHOTS), 0, UINT64_MAX, 0,                     \
      "the snapshot that its next run begins from, or the one that starts")              \
    F(S, 21, U64, restore_epoch, "restoreEpoch", UNIT_NONE,                              \
      FIELD_SERVER | FIELD_SINCE(LEVEL_SNAPSHOTS), 0, UINT64_MAX, 0,                     \
      "of the run before that wish: a later one begins from the snapshot")               \
    F(S, 22, BOOL, restore_lazy, "restoreLazy", none,                                    \
      FIELD_SERVER | FIELD_SINCE(LEVEL_MACHINES), 0, 1, 0,                               \
      "it is to run at once, while its memory is read")
RECORD_DECLARE(vm_status, VM_STATUS_FIELDS)
#define VM_FIELDS(F, S)                                                               \
    F(S, 1, RECORD, meta, "metadata", metadata, FIELD_REQUIRED, 0, 0, 0, "who it is") \
    F(S, 2, RECORD, spec, "spec", vm_spec, FIELD_REQUIRED, 0, 0, 0, "what is wanted") \
    F(S, 3, RECORD, status, "status", vm_status, FIELD_SERVER, 0, 0, 0, "what is")
RECORD_DECLARE(vm, VM_FIELDS)

/* ---- Snapshot
 * ------------------------------------------------------------------------------------ */
enum snapshot_phase {
    SNAPSHOT_MAKING = 0,
    SNAPSHOT_READY,
    SNAPSHOT_FAILED,
    SNAPSHOT_DELETING,
    SNAPSHOT_LOST,
    SNAPSHOT_PHASE_COUNT
};
extern const char *const snapshot_phase_names[]; /* making ready failed deleting lost */
#define HOST_SNAPSHOTS_MAX 256 /* on one host: all are in each of its reports */

/* Memory and disks of a VM at one instant, on the host where it ran; made by the cluster.
 * A VM keeps its machine and its addresses for life, so none are in it. */
#define SNAPSHOT_SPEC_FIELDS(F, S)                                              \
    F(S, 1, NAME, vm, "vm", none, FIELD_SERVER, 0, 63, 0, "of the same tenant") \
    F(S, 2, U64, vm_uid, "vmUid", UNIT_NONE, FIELD_SERVER, 0, UINT64_MAX, 0,    \
      "that one, and no other of its name")
RECORD_DECLARE(snapshot_spec, SNAPSHOT_SPEC_FIELDS)
#define SNAPSHOT_STATUS_FIELDS(F, S)                                                    \
    F(S, 1, ENUM, phase, "phase", snapshot_phase, FIELD_SERVER, 0, SNAPSHOT_LOST,       \
      SNAPSHOT_MAKING, "making, ready, failed, deleting or lost")                       \
    F(S, 2, U64, host, "hostUid", UNIT_NONE, FIELD_SERVER, 0, UINT64_MAX, 0,            \
      "where; 0: nowhere (failed, lost)")                                               \
    F(S, 3, U64, epoch, "epoch", UNIT_NONE, FIELD_SERVER, 0, UINT64_MAX, 0,             \
      "of the run in it")                                                               \
    F(S, 4, U64, bytes, "size", UNIT_BYTES, FIELD_SERVER, 0, UINT64_MAX, 0,             \
      "that it takes there; while it is made: that it may take")                        \
    F(S, 5, TEXT, reason, "reason", UNIT_NONE, FIELD_SERVER, 0, 255, 0, "of the phase") \
    F(S, 6, U32, permille, "progress", UNIT_PERMILLE, FIELD_SERVER, 0, 1000, 0,         \
      "how far, while it is made")                                                      \
    F(S, 7, U64, at_wall_ms, "taken", UNIT_INSTANT, FIELD_SERVER, 0, UINT64_MAX, 0,     \
      "the instant that is in it")
RECORD_DECLARE(snapshot_status, SNAPSHOT_STATUS_FIELDS)
#define SNAPSHOT_FIELDS(F, S)                                                         \
    F(S, 1, RECORD, meta, "metadata", metadata, FIELD_REQUIRED, 0, 0, 0, "who it is") \
    F(S, 2, RECORD, spec, "spec", snapshot_spec, FIELD_SERVER, 0, 0, 0, "of what")    \
    F(S, 3, RECORD, status, "status", snapshot_status, FIELD_SERVER, 0, 0, 0, "what is")
RECORD_DECLARE(snapshot, SNAPSHOT_FIELDS)

/* ---- Network
 * -------------------------------------------------------------------------------------
 */
enum egress { EGRESS_NAT = 0, EGRESS_NONE };
extern const char *const egress_names[]; /* nat none */

/* Networks of all tenants share one range of addresses, so that none may take much of it:
 * larger ones, up to 10,000 VMs and more, are made by who has a role in the cluster.
 * Judged where requests come in: what the log holds is applied. */
#define NETWORK_TENANT_PREFIX_MIN 20
/* And so many of them where no quota of networks says otherwise: a 64th of 10/8. */
#define NETWORK_TENANT_COUNT_MAX 64

#define IPV4_SPEC_FIELDS(F, S)                                              \
    F(S, 1, U64, cidr, "cidr", UNIT_CIDR, FIELD_REQUIRED, 0, UINT64_MAX, 0, \
      "/8 to /29, private, a tenant's own token from /20; unique in the "   \
      "cluster, off its hosts")                                             \
    F(S, 2, U32, gateway, "gateway", UNIT_IPV4, 0, 0, UINT32_MAX, 0,        \
      "default: the first address")
RECORD_DECLARE(ipv4_spec, IPV4_SPEC_FIELDS)
#define NETWORK_SPEC_FIELDS(F, S)                                                  \
    F(S, 1, RECORD, ipv4, "ipv4", ipv4_spec, FIELD_REQUIRED, 0, 0, 0, "addresses") \
    F(S, 2, ENUM, egress, "egress", egress, 0, 0, EGRESS_NONE, EGRESS_NAT,         \
      "the way out")                                                               \
    F(S, 3, U32, mtu, "mtu", UNIT_NONE, 0, 0, 9000, 0,                             \
      "0: the rack's, less the tunnel's header")
RECORD_DECLARE(network_spec, NETWORK_SPEC_FIELDS)
#define NETWORK_SITE_FIELDS(F, S)                                            \
    F(S, 1, U64, host, "hostUid", UNIT_NONE, FIELD_SERVER, 1, UINT64_MAX, 0, \
      "a host with VMs here")                                                \
    F(S, 2, U32, ipv4, "address", UNIT_IPV4, FIELD_SERVER, 1, UINT32_MAX, 0, \
      "the host's own address here")
RECORD_DECLARE(network_site, NETWORK_SITE_FIELDS)
#define NETWORK_HOSTS_MAX 1024 /* that one network spans */
#define NETWORK_ADDRESSES_MAX \
    4096 /* of VMs and hosts: every host in it is told them all */
#define NETWORK_STATUS_FIELDS(F, S)                                                    \
    F(S, 1, U32, vni, "vni", UNIT_NONE, FIELD_SERVER, 0, 0xffffff, 0,                  \
      "VXLAN identifier, unique")                                                      \
    F(S, 2, LIST, hosts, "hosts", network_site, FIELD_SERVER, 0, NETWORK_HOSTS_MAX, 0, \
      "where it exists")
RECORD_DECLARE(network_status, NETWORK_STATUS_FIELDS)
#define NETWORK_FIELDS(F, S)                                                          \
    F(S, 1, RECORD, meta, "metadata", metadata, FIELD_REQUIRED, 0, 0, 0, "who it is") \
    F(S, 2, RECORD, spec, "spec", network_spec, FIELD_REQUIRED, 0, 0, 0,              \
      "what is wanted")                                                               \
    F(S, 3, RECORD, status, "status", network_status, FIELD_SERVER, 0, 0, 0, "what is")
RECORD_DECLARE(network, NETWORK_FIELDS)

/* ---- Image
 * ---------------------------------------------------------------------------------------
 */
enum artifact_role { ARTIFACT_KERNEL = 0, ARTIFACT_INITRD, ARTIFACT_DISK };
extern const char *const artifact_role_names[]; /* kernel initrd disk */

#define ARTIFACT_FIELDS(F, S)                                                       \
    F(S, 1, ENUM, role, "role", artifact_role, FIELD_REQUIRED, 0, ARTIFACT_DISK, 0, \
      "kernel, initrd or disk")                                                     \
    F(S, 2, TEXT, file, "file", UNIT_NONE, 0, 0, 1023, 0,                           \
      "on the client, relative to the YAML file; uploaded by apply")                \
    F(S, 3, TEXT, url, "url", UNIT_NONE, 0, 0, 1023, 0,                             \
      "fetched by the host that answers; needs sha256")                             \
    F(S, 4, DIGEST, sha256, "sha256", none, 0, 0, 0, 0, "content address")          \
    F(S, 5, U64, size_bytes, "size", UNIT_BYTES, 0, 0, 64 * TIB, 0,                 \
      "of the content; filled in by apply")
RECORD_DECLARE(artifact, ARTIFACT_FIELDS)
#define IMAGE_SPEC_FIELDS(F, S)                                                          \
    F(S, 1, LIST, artifacts, "artifacts", artifact, FIELD_REQUIRED, 1, ARTIFACTS_MAX, 0, \
      "the files")                                                                       \
    F(S, 2, TEXT, cmdline, "cmdline", UNIT_NONE, 0, 0, 1024, 0, "kernel command line")   \
    F(S, 3, U64, memory_bytes, "minMemory", UNIT_BYTES, 0, 0, 4 * TIB, 0,                \
      "least memory to boot: templates with less are refused")
RECORD_DECLARE(image_spec, IMAGE_SPEC_FIELDS)
#define IMAGE_FIELDS(F, S)                                               \
    F(S, 1, RECORD, meta, "metadata", metadata, FIELD_REQUIRED, 0, 0, 0, \
      "who it is; no tenant: for all")                                   \
    F(S, 2, RECORD, spec, "spec", image_spec, FIELD_REQUIRED, 0, 0, 0, "what is wanted")
RECORD_DECLARE(image, IMAGE_FIELDS)

/* ---- Disk
 * ----------------------------------------------------------------------------------------
 */
#define VOLUME_SPEC_FIELDS(F, S)                                                       \
    F(S, 1, U64, size_bytes, "size", UNIT_BYTES, FIELD_REQUIRED, 1 * MIB, 64 * TIB, 0, \
      "size")
RECORD_DECLARE(volume_spec, VOLUME_SPEC_FIELDS)
#define DISK_FIELDS(F, S)                                                             \
    F(S, 1, RECORD, meta, "metadata", metadata, FIELD_REQUIRED, 0, 0, 0, "who it is") \
    F(S, 2, RECORD, spec, "spec", volume_spec, FIELD_REQUIRED, 0, 0, 0, "what is wanted")
RECORD_DECLARE(disk, DISK_FIELDS)

/* ---- Host
 * ----------------------------------------------------------------------------------------
 */
enum host_phase {
    HOST_PHASE_READY = 0,
    HOST_PHASE_SUSPECT,
    HOST_PHASE_LOST,
    HOST_PHASE_REMOVED,
    HOST_PHASE_COUNT
};
extern const char *const host_phase_names[];
enum voter_role { VOTER_NONE = 0, VOTER_STANDBY, VOTER_VOTER };
extern const char *const voter_role_names[]; /* none standby voter */
enum kvm_kind { KVM_NONE = 0, KVM_EMULATED, KVM_NATIVE };
extern const char *const kvm_kind_names[]; /* none emulated native */
#define HOST_OVERCOMMIT     4              /* what a host takes when it is not told */
#define HOST_OVERCOMMIT_MAX 256
/* The first of VMs' own users: beyond a host's own accounts, and behind it each pid of
 * Linux fits. */
#define HOST_VM_UIDS_MIN   100000u
#define HOST_VM_UIDS_MAX   (UINT32_MAX - 2u - (1u << 22))
#define ENGINE_BIT(engine) (UINT32_C(1) << (engine))

#define HOST_SPEC_FIELDS(F, S)                                                          \
    F(S, 1, BOOL, drain, "drain", none, 0, 0, 1, 0, "no new VMs, those here move away") \
    F(S, 2, TEXT, drain_reason, "drainReason", UNIT_NONE, 0, 0, 255, 0,                 \
      "shown by explain")
RECORD_DECLARE(host_spec, HOST_SPEC_FIELDS)
#define HOST_STATUS_FIELDS(F, S)                                                         \
    F(S, 1, ENUM, phase, "phase", host_phase, FIELD_SERVER, 0, HOST_PHASE_REMOVED, 0,    \
      "as the leader sees it")                                                           \
    F(S, 2, U32, address, "address", UNIT_IPV4, FIELD_SERVER, 0, UINT32_MAX, 0,          \
      "in the rack's network")                                                           \
    F(S, 3, U32, mesh_port, "meshPort", UNIT_NONE, FIELD_SERVER, 0, 65535, 0, "czmq")    \
    F(S, 4, U32, raft_port, "raftPort", UNIT_NONE, FIELD_SERVER, 0, 65535, 0,            \
      "between voters")                                                                  \
    F(S, 5, U32, api_port, "apiPort", UNIT_NONE, FIELD_SERVER, 0, 65535, 0, "HTTPS")     \
    F(S, 6, DIGEST, public_key, "publicKey", none, FIELD_SERVER, 0, 0, 0,                \
      "Curve25519, authenticates it")                                                    \
    F(S, 7, ENUM, voter, "voter", voter_role, FIELD_SERVER, 0, VOTER_VOTER, 0,           \
      "part in the control plane")                                                       \
    F(S, 8, U32, cpu_mcpu, "cpu", UNIT_MCPU, FIELD_SERVER, 0, UINT32_MAX, 0,             \
      "capacity for VMs")                                                                \
    F(S, 9, U64, memory_bytes, "memory", UNIT_BYTES, FIELD_SERVER, 0, UINT64_MAX, 0,     \
      "capacity for VMs")                                                                \
    F(S, 10, U64, disk_bytes, "disk", UNIT_BYTES, FIELD_SERVER, 0, UINT64_MAX, 0,        \
      "that may be promised to VMs; 0: not known")                                       \
    F(S, 11, U32, engines, "engines", UNIT_NONE, FIELD_SERVER, 0, UINT32_MAX, 0,         \
      "ENGINE_BIT set")                                                                  \
    F(S, 12, ENUM, kvm, "kvm", kvm_kind, FIELD_SERVER, 0, KVM_NATIVE, 0,                 \
      "what /dev/kvm is worth")                                                          \
    F(S, 13, U32, cores, "cores", UNIT_NONE, FIELD_SERVER, 0, UINT32_MAX, 0,             \
      "physical inventory")                                                              \
    F(S, 14, U32, numa_nodes, "numaNodes", UNIT_NONE, FIELD_SERVER, 0, UINT32_MAX, 0,    \
      "physical inventory")                                                              \
    F(S, 15, TEXT, kernel, "kernel", UNIT_NONE, FIELD_SERVER, 0, 127, 0, "release")      \
    F(S, 16, TEXT, version, "version", UNIT_NONE, FIELD_SERVER, 0, 63, 0, "of berthd")   \
    F(S, 17, TEXT, reason, "reason", UNIT_NONE, FIELD_SERVER, 0, 255, 0,                 \
      "of the last move")                                                                \
    F(S, 18, U32, cpu_overcommit, "cpuOvercommit", UNIT_NONE, FIELD_SERVER, 1,           \
      HOST_OVERCOMMIT_MAX, HOST_OVERCOMMIT, "vCPUs that may share one CPU")              \
    F(S, 19, ENUM, cpu_baseline, "cpuBaseline", cpu_baseline,                            \
      FIELD_SERVER | FIELD_SINCE(LEVEL_MACHINES), 0, CPU_BASELINE_V4, CPU_BASELINE_HOST, \
      "the highest that its VMs may ask for; host: none")                                \
    F(S, 20, U64, pool_bytes, "hugePages", UNIT_BYTES,                                   \
      FIELD_SERVER | FIELD_SINCE(LEVEL_MACHINES), 0, UINT64_MAX, 0,                      \
      "capacity for VMs with huge pages, beside memory")
RECORD_DECLARE(host_status, HOST_STATUS_FIELDS)
#define HOST_FIELDS(F, S)                                                             \
    F(S, 1, RECORD, meta, "metadata", metadata, FIELD_REQUIRED, 0, 0, 0, "who it is") \
    F(S, 2, RECORD, spec, "spec", host_spec, 0, 0, 0, 0, "what is wanted")            \
    F(S, 3, RECORD, status, "status", host_status, FIELD_SERVER, 0, 0, 0, "what is")
RECORD_DECLARE(host, HOST_FIELDS)

/* ---- Token
 * ---------------------------------------------------------------------------------------
 */
#define TOKEN_SPEC_FIELDS(F, S)                                                   \
    F(S, 1, ENUM, role, "role", role, FIELD_REQUIRED, 1, ROLE_JOIN, ROLE_VIEWER,  \
      "what it allows")                                                           \
    F(S, 2, NAME, tenant, "tenant", none, 0, 0, 63, 0,                            \
      "limits it to one tenant; absent: the cluster")                             \
    F(S, 3, U64, expires_wall_ms, "expires", UNIT_INSTANT, 0, 0, UINT64_MAX, 0,   \
      "0: never")                                                                 \
    F(S, 4, DIGEST, hash, "hash", none, FIELD_SECRET, 0, 0, 0,                    \
      "SHA-256 of the secret; the secret is not kept")                            \
    F(S, 5, U32, uses_left, "usesLeft", UNIT_NONE, 0, 0, UINT32_MAX, UNLIMITED32, \
      "join tokens: 1")
RECORD_DECLARE(token_spec, TOKEN_SPEC_FIELDS)
#define TOKEN_FIELDS(F, S)                                                            \
    F(S, 1, RECORD, meta, "metadata", metadata, FIELD_REQUIRED, 0, 0, 0, "who it is") \
    F(S, 2, RECORD, spec, "spec", token_spec, FIELD_REQUIRED, 0, 0, 0, "what is wanted")
RECORD_DECLARE(token, TOKEN_FIELDS)

/* ---- Operation
 * ----------------------------------------------------------------------------------- */
enum operation_phase { OPERATION_RUNNING = 0, OPERATION_DONE, OPERATION_FAILED };
extern const char *const operation_phase_names[]; /* running done failed */

#define OPERATION_SPEC_FIELDS(F, S) \
    F(S, 1, TEXT, title, "title", UNIT_NONE, FIELD_REQUIRED, 1, 255, 0, "what is done")
RECORD_DECLARE(operation_spec, OPERATION_SPEC_FIELDS)
#define OPERATION_STATUS_FIELDS(F, S)                                                    \
    F(S, 1, ENUM, phase, "phase", operation_phase, FIELD_SERVER, 0, OPERATION_FAILED, 0, \
      "how it stands")                                                                   \
    F(S, 2, U32, permille, "progress", UNIT_PERMILLE, FIELD_SERVER, 0, 1000, 0,          \
      "how far")                                                                         \
    F(S, 3, TEXT, step, "step", UNIT_NONE, FIELD_SERVER, 0, 255, 0, "now, or the result")
RECORD_DECLARE(operation_status, OPERATION_STATUS_FIELDS)
#define OPERATION_FIELDS(F, S)                                                        \
    F(S, 1, RECORD, meta, "metadata", metadata, FIELD_REQUIRED, 0, 0, 0, "who it is") \
    F(S, 2, RECORD, spec, "spec", operation_spec, FIELD_REQUIRED, 0, 0, 0,            \
      "what is wanted")                                                               \
    F(S, 3, RECORD, status, "status", operation_status, FIELD_SERVER, 0, 0, 0, "what is")
RECORD_DECLARE(operation, OPERATION_FIELDS)

/* ---- any object
 * ---------------------------------------------------------------------------------- */
enum kind_scope { SCOPE_CLUSTER = 1, SCOPE_TENANT, SCOPE_EITHER };

struct kind_info {
    enum kind kind;
    const char *name;   /* "Template" */
    const char *word;   /* "template": CLI, URLs with an s (kind_plural) */
    const char *plural; /* "templates" */
    enum kind_scope scope;
    bool user_writable; /* may stand in a YAML file; tokens, hosts, operations may not */
    const struct record *record;
};

/* Row of a kind; NULL for a number that is none. */
const struct kind_info *kind_info(enum kind kind);
/* By Name, word or plural, exact; NULL when there is none. */
const struct kind_info *kind_info_by_name(const char *name);

/* Every object begins with its metadata. */
static inline struct metadata *object_meta(const void *object)
{
    return (struct metadata *)(uintptr_t)object;
}
/* A fresh object with fallback values (NULL when out of memory) and its end (accepts
 * NULL). */
void *object_new(enum kind kind);
void object_free(enum kind kind, void *object);
/* Fills in what depends on other fields where it is at its default; for whoever reads
 * what a user wrote, before the check. (Apply does not: what is in the log means the same
 * to every version.) */
void object_settle(enum kind kind, void *object);
/* Checks one object alone, the pure part of validation, however it was made: required
 * fields, ranges and lengths of the table (server-written fields are passed over), and
 * names by grammar, scope and tenant, min <= max, a gateway inside its cidr, unique disk
 * and NIC names, expressions parse, an image with a kernel or a disk, ... Calls report
 * for each fault (path such as "spec.autoscale.min", message, hint or NULL); the number
 * of faults. Used by config and by apply(). */
typedef void object_check_report(void *context,
                                 const char *path,
                                 const char *message,
                                 const char *hint);
unsigned object_check(enum kind kind,
                      const void *object,
                      object_check_report *report,
                      void *context);
/* True for 1-63 of [a-z0-9-], starting with a letter, not ending with '-'. */
bool name_valid(const char *name);
/* All disks of a machine at their full size: what they may grow to. An image's disk that
 * nobody asked for counts nothing, nor does one that is only read. */
uint64_t machine_disk_bytes(const struct machine_spec *machine);
/* What a host and a quota promise it: all the CPUs that it may have one day. */
uint64_t machine_mcpu(const struct machine_spec *machine);
/* What a host promises it of its memory, and of its pool of huge pages: one of them is
 * 0. */
uint64_t machine_plain_bytes(const struct machine_spec *machine);
uint64_t machine_pool_bytes(const struct machine_spec *machine);
/* The most that a snapshot of it may take: memory, and its disks in full. */
uint64_t machine_snapshot_bytes(const struct machine_spec *machine);
/* Has the machine less memory than the image needs to boot? Then what is wrong, from the
 * template's field on, and what helps; else false, and the texts stay as they were. */
#define IMAGE_LACKS_SIZE 320
#define IMAGE_HINT_SIZE  128
bool image_memory_lacks(const struct image *image,
                        const struct machine_spec *machine,
                        char ret_message[IMAGE_LACKS_SIZE],
                        char ret_hint[IMAGE_HINT_SIZE]);
/* MAC of a VM's NIC: locally administered, from uid and NIC number; unique while uid <
 * 2^32. */
uint64_t vm_mac(uint64_t uid, unsigned nic);
/* cidr helpers (u64: address << 8 | prefix bits). */
uint32_t cidr_address(uint64_t cidr);
uint32_t cidr_prefix(uint64_t cidr);
uint32_t cidr_gateway(const struct network *network);
bool cidr_contains(uint64_t cidr, uint32_t address);
