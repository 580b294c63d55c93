/* The inside of the replicated state, for state*.c and apply*.c only.
 *
 * Shapes: every object lives in one `struct entry`, which carries its content hash and
 * its links into the indexes. A table per kind holds its entries in a dense array with
 * maps by uid and by "tenant/name". Indexes (VMs per host and group, taken addresses,
 * use per host, VMs that are nowhere, tokens by hash, hosts by key) are never serialised:
 * entry_add and the setters below keep them, decoding rebuilds them by the same
 * functions. Whoever changes an object goes through a setter where one exists, and ends
 * with apply_changed, which hashes it anew, tells the observer and writes the event.
 * Order: apply must not depend on table order, which depends on history; entry_set_sorted
 * gives order by uid. Errors: out of memory aborts (REQUIRE).
 */
#pragma once

#include "base/string_map.h"
#include "base/u64_map.h"
#include "model/address_set.h"
#include "model/event_ring.h"
#include "model/request_memory.h"
#include "model/state.h"

struct entry;

struct entry_set {
    struct entry **items; /* owned array of borrowed entries */
    uint32_t count;
    uint32_t capacity;
};

/* What hangs on a VM. */
struct vm_links {
    struct entry *host;   /* as status.host, NULL when 0 */
    struct entry *target; /* as status.target */
    struct entry *group;  /* as spec.group */
    struct entry *keeper; /* as status.disk_host */
    uint32_t host_slot;   /* place in host->owner.vms, or in state->nowhere */
    uint32_t target_slot; /* place in target->owner.incoming */
    uint32_t group_slot;  /* place in group->owner.vms */
    uint32_t keeper_slot; /* place in keeper->owner.kept */
    uint32_t snapshots;   /* of it, on whatever hosts */
};

/* What hangs on a Snapshot. */
struct snapshot_links {
    struct entry *host; /* as status.host */
    uint32_t host_slot; /* place in host->owner.snapshots */
    uint64_t bytes;     /* that the host has promised to it, or that it takes there */
};

/* What hangs on a Host or a Group. */
struct owner_links {
    struct entry_set vms;
    struct entry_set incoming;  /* Host: migrations that come here */
    struct entry_set kept;      /* Host: VMs that are nowhere, but whose disks are here */
    struct entry_set snapshots; /* Host: that are here, or are being made */
    uint64_t memory_bytes;      /* Host: of all VMs here or on their way */
    uint64_t pool_bytes;        /* Host: likewise, of those with huge pages */
    uint64_t cpu_mcpu;          /* Host: likewise */
    uint64_t disk_bytes;        /* Host: likewise, of those kept, and of snapshots */
};

struct entry {
    void *object; /* owned record */
    enum kind kind;
    uint32_t slot;      /* in its table */
    uint64_t hash;      /* of its encoding, as last counted in state->objects_hash */
    bool usage_changed; /* Tenant: in apply->tenants */
    union {
        struct vm_links vm;
        struct owner_links owner;
        struct snapshot_links snapshot;
        struct address_set addresses; /* Network */
    };
};

struct table {
    struct entry **items;
    uint32_t count;
    uint32_t capacity;
    struct u64_map *by_uid;
    struct string_map *by_name;
};

struct state {
    state_observer *observer;
    void *observer_context;
    uint64_t revision;
    uint64_t next_uid;
    uint32_t next_vni;
    uint32_t level;
    uint8_t cluster_id[REQUEST_ID_SIZE];
    uint64_t objects_hash; /* sum of the entries' hashes */
    struct table tables[KIND_COUNT];
    struct entry_set nowhere;          /* VMs without a host */
    struct string_map *tokens_by_hash; /* hex -> entry */
    struct string_map *hosts_by_key;
    struct request_memory *requests;
    struct event_ring *events;
    struct bytes_writer scratch; /* encodings on their way to the hash */
};

/* ---- tables (state.c) ---- */
struct entry *state_entry(const struct state *state, enum kind kind, uint64_t uid);
struct entry *state_entry_named(const struct state *state,
                                enum kind kind,
                                const char *tenant,
                                const char *name);
/* Takes the object, whose metadata must be complete, into table and indexes. The hash is
 * not counted yet: entry_rehash. */
struct entry *entry_add(struct state *state, enum kind kind, void *take_object);
/* Takes it out of everything and uncounts its hash; the entry is the caller's. */
void entry_remove(struct state *state, struct entry *entry);
void entry_free(struct entry *entry);
void entry_rehash(struct state *state, struct entry *entry);
/* Takes a new record in place of the entry's, of the same uid and name; indexes follow.
 */
void entry_replace(struct state *state, struct entry *entry, void *take_object);

void entry_set_add(struct entry_set *set, struct entry *entry);
void entry_set_fini(struct entry_set *set);
/* A copy by rising uid (entry_set_fini): for walks that change what they walk over. */
struct entry_set entry_set_sorted(const struct entry_set *set);

/* ---- setters that keep indexes ---- */
void vm_entry_set_host(struct state *state, struct entry *vm, struct entry *host);
void vm_entry_set_target(struct entry *vm, struct entry *target);
/* Who keeps its disks, of the run of that epoch; NULL and 0: nobody. */
void vm_entry_keep(struct entry *vm, struct entry *keeper, uint64_t disk_epoch);
/* Where a snapshot is, and what it takes there; NULL and 0: nowhere. */
void snapshot_entry_set_host(struct entry *snapshot, struct entry *host, uint64_t bytes);
void host_entry_set_key(struct state *state,
                        struct entry *host,
                        const struct digest *key);
void vm_entry_set_address(struct state *state,
                          struct entry *vm,
                          unsigned nic,
                          uint32_t ipv4);
void network_entry_add_host(struct entry *network, uint64_t host_uid, uint32_t ipv4);
/* Index in status.hosts, or -1. */
int network_entry_host_index(const struct entry *network, uint64_t host_uid);
void network_entry_remove_host(struct entry *network, unsigned index);

/* A snapshot into its indexes, as it is, and out of them (snapshot_links.c). */
void snapshot_index(struct state *state, struct entry *snapshot);
void snapshot_unindex(struct state *state, struct entry *snapshot);

static inline struct vm *vm_of(const struct entry *entry)
{
    return entry->object;
}
static inline struct host *host_of(const struct entry *entry)
{
    return entry->object;
}
static inline struct group *group_of(const struct entry *entry)
{
    return entry->object;
}
static inline struct network *network_of(const struct entry *entry)
{
    return entry->object;
}
static inline struct tenant *tenant_of(const struct entry *entry)
{
    return entry->object;
}
static inline struct snapshot *snapshot_of(const struct entry *entry)
{
    return entry->object;
}
static inline struct metadata *meta_of(const struct entry *entry)
{
    return entry->object;
}

/* ---- one command on its way through (state_apply.c) ---- */
struct apply {
    struct state *state;
    const struct command *command;
    struct apply_result *result;
    uint64_t revision; /* of the changes it makes */
    bool changed;
    struct entry_set tenants; /* whose usage changed */
};

/* One row of the dispatch table: 0 or a refusal. Nothing may be changed before the last
 * check has passed. */
typedef int apply_function(struct apply *apply, const struct command *command);

/* Fills the result's code (negative) and text; the value is the code, where the compiler
 * sees that it is not 0. */
#define apply_refuse(apply, code, ...) \
    (apply_refuse_text((apply), (code), __VA_ARGS__), (code))
void apply_refuse_text(struct apply *apply, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

struct change_note {
    const char *verb;   /* of the event; NULL: none worth telling */
    const char *reason; /* NULL: none */
    uint32_t phase_from;
    uint32_t phase_to;
    bool created;
};
/* After an object was changed or entry_add-ed: metadata, hash, observer, event. */
void apply_changed(struct apply *apply,
                   struct entry *entry,
                   const struct change_note *note);
/* Removes the entry for good: indexes, hash, observer, event. */
void apply_removed(struct apply *apply,
                   struct entry *entry,
                   const struct change_note *note);
/* A new object with uid, creation stamps and a place in the tables; the caller ends with
 * apply_changed. */
struct entry *apply_create(struct apply *apply, enum kind kind, void *take_object);

/* A deep copy of the labels in place of those that it has. */
void apply_take_labels(struct metadata *meta, const struct label_list *labels);
/* Sets those that are named, takes away those of `removed` by their keys, and tells of it
 * when that is news. 0, or BERTH_ETOOLARGE when it would have more than LABELS_MAX. */
int apply_relabel(struct apply *apply,
                  struct entry *entry,
                  const struct label_list *named,
                  const struct label_list *removed,
                  const struct change_note *note);

/* The end of a command that changed something: tells of tenants whose use changed. */
void apply_finish(struct apply *apply);
/* Checks expected_revision against what is there (entry may be NULL). */
int apply_check_revision(struct apply *apply,
                         const struct entry *entry,
                         const char *what,
                         uint64_t expected_revision);
/* Runs object_check; the first fault becomes the refusal. */
int apply_check_object(struct apply *apply, enum kind kind, const void *object);
/* BERTH_EFULL when there are as many of the kind as there may be. */
int apply_check_room(struct apply *apply, enum kind kind);
int apply_find_tenant(struct apply *apply, const char *name, struct entry **ret_tenant);

/* ---- quotas ---- */
/* Refuses with BERTH_EQUOTA when the tenant's use and `more` exceed its quota. */
int quota_check(struct apply *apply,
                const struct entry *tenant,
                const struct usage *more);
/* Books use (or gives it back); the tenant's change is told once, at the end. */
void quota_take(struct apply *apply, struct entry *tenant, const struct usage *more);
void quota_give(struct apply *apply, struct entry *tenant, const struct usage *less);
/* What one VM of this machine counts for. */
struct usage machine_usage(const struct machine_spec *machine);

/* ---- disks (disks_kept.c) ---- */
/* Whether the run of a status got to its disks; whether a VM that
 * ends in a phase stays bound to the host that keeps them; and the epoch of those that
 * are left to the next run by a report of the end, 0: none. */
bool vm_status_has_run(const struct vm_status *status);
bool vm_disks_stay(const struct vm *vm, enum phase phase);
uint64_t vm_disks_left(const struct state *state,
                       const struct vm_status *status,
                       const struct cmd_vm_phase *report);

/* ---- snapshots of VMs (apply_snapshot.c) ---- */
/* What one counts for in its tenant's quota. */
struct usage snapshot_usage(const struct snapshot *snapshot);
/* Asked for by its user: goes at once where no host has to do anything for it. 0 or
 * BERTH_EINUSE. */
int snapshot_delete(struct apply *apply, struct entry *snapshot);
/* All of a VM that goes, on their hosts. */
void snapshots_delete_of(struct apply *apply, const struct entry *vm);
/* What a host leaves behind: those that it was making when it was lost have failed; with
 * one that is removed all go. */
void snapshots_lose(struct apply *apply, struct entry *host, const char *reason);
void snapshots_forget(struct apply *apply, struct entry *host, const char *reason);
/* Snapshots of the host that a user would miss. */
uint32_t snapshots_kept(const struct entry *host);

/* ---- rate limits (template_limits.c) ---- */
/* Has the VMs of a template that was changed follow the limits of its disks and NICs. */
void template_spread_limits(struct apply *apply, const struct entry *template);

/* ---- Hosts (apply_host.c), used by delete ---- */
/* What is given up with a host. */
struct host_removal {
    bool force;      /* the disks of stopped VMs that it keeps */
    bool surely_off; /* the doubt whether what waits for it still runs there */
};
int host_remove(struct apply *apply,
                struct entry *host,
                struct host_removal removal,
                const char *reason);

/* ---- Hosts (apply_host.c), used by state_rebirth.c ---- */
void host_lose(struct apply *apply, struct entry *entry, const char *reason);
/* Migrations that come here end; VMs here are lost (those that wait stay so). */
void host_lose_vms(struct apply *apply, struct entry *entry, const char *text);

apply_function apply_put;
apply_function apply_delete;
apply_function apply_admit_vm;
apply_function apply_set_power;
apply_function apply_place_vm;
apply_function apply_evict_vm;
apply_function apply_vm_phase;
apply_function apply_retry_vm;
apply_function apply_migrate_prepare;
apply_function apply_migrate_switch;
apply_function apply_migrate_commit;
apply_function apply_migrate_abort;
apply_function apply_host_join;
apply_function apply_host_update;
apply_function apply_host_phase;
apply_function apply_host_drain;
apply_function apply_host_voter;
apply_function apply_group_scale;
apply_function apply_network_host;
apply_function apply_operation_step;
apply_function apply_set_level;
apply_function apply_change_vm;
apply_function apply_label_host;
apply_function apply_pause_vm;
apply_function apply_snapshot_make;
apply_function apply_snapshot_step;
apply_function apply_restore_vm;

/* ---- snapshots (state_snapshot.c) ---- */
/* The hash of a snapshot's content, whatever its header says: for the fuzz target, which
 * repairs what it has changed. 0, or why it is refused. */
int state_snapshot_hash(const void *data, size_t size, uint64_t *ret_hash);
