/* The replicated state: tables of objects and apply(), the only function that changes
 * them.
 *
 * Shapes: opaque struct state; objects are borrowed as const pointers that stay valid
 * until the next apply or restore. Deterministic: the same commands give the same state,
 * revision and hash on every replica, whatever their history of snapshots. Revisions:
 * 64-bit, +1 per command that changed something. Units: wall ms come in the commands.
 * Requests: the last REQUESTS_MAX non-zero request ids are remembered with a digest of
 * the command and the result, a quarter of them of one owner (model/request_memory.h
 * says how an id tells that): a retry is answered, not done twice; the same id with
 * another body is BERTH_EREUSED. Refusals are remembered as well, and remembering counts
 * as a change, so that replicas at one revision remember the same. Threads: the owner's.
 * Errors: apply never fails as a call; a refusal is in its result. Out of memory inside
 * apply aborts: a replica that cannot apply must stop. Limits: below, each checked by
 * apply with BERTH_EFULL or BERTH_EQUOTA. Level: the state is at one (model/level.h) and
 * holds nothing that came later; snapshots are written at it.
 */
#pragma once

#include "base/err.h"
#include "model/command.h"

#define STATE_HOSTS_MAX    5000
#define STATE_VMS_MAX      1000000
#define STATE_OBJECTS_MAX  100000 /* of each other kind */
#define STATE_REQUESTS_MAX 4096
#define STATE_EVENTS_MAX   4096 /* the newest events, replicated: `berth events` */

struct state;

#define APPLY_TEXT_SIZE 256

struct apply_result {
    int code;                   /* 0 or BERTH_E* */
    uint64_t revision;          /* of the state afterwards */
    uint64_t uid;               /* of the object made or touched, or 0 */
    char text[APPLY_TEXT_SIZE]; /* when refused: why, in words for the user */
};

/* One change of one object. Given to the observer during apply (after the change), and
 * kept in the feed ring of model/feed.h by whoever wants one. */
struct change {
    uint64_t revision;
    uint64_t wall_ms;
    enum kind kind;
    uint64_t uid;
    const char *tenant; /* borrowed; "" when none */
    const char *name;
    const char *reason;  /* borrowed; "" when none */
    const void *object;  /* as it is now; NULL: deleted */
    uint32_t phase_from; /* VM and Host: phases before and after; else 0 */
    uint32_t phase_to;
    bool created;
};
typedef void state_observer(void *context, const struct change *change);

struct event {
    uint64_t revision;
    uint64_t wall_ms;
    enum kind kind;
    char tenant[NAME_SIZE];
    char name[NAME_SIZE];
    char verb[24];    /* created, deleted, changed, or the phase moved to */
    char reason[256]; /* in words */
};

/* A new empty state (NULL when out of memory); the observer may be NULL and is called
 * from within state_apply, once per changed object. */
struct state *state_new(state_observer *observer, void *context);
struct state *state_free(struct state *state);

/* Applies one command. The result is complete in every case. */
void state_apply(struct state *state,
                 const struct command *command,
                 struct apply_result *ret_result);

/* What a request of this id was answered, if that is remembered. For who knows by other
 * means that it is the same request: a retry may find things changed, and its command
 * with them. */
bool state_answered(const struct state *state,
                    const uint8_t id[REQUEST_ID_SIZE],
                    struct apply_result *ret_result);
/* Whether a request of this id may have been answered and forgotten since that revision.
 * No: it is remembered if it was answered since. */
bool state_may_have_forgotten(const struct state *state,
                              const uint8_t id[REQUEST_ID_SIZE],
                              uint64_t since_revision);

uint64_t state_revision(const struct state *state);
/* Order-independent hash of all objects, counters and remembered requests; equal on all
 * replicas at equal revision. */
uint64_t state_hash(const struct state *state);
/* What may be in it. */
uint32_t state_level(const struct state *state);
/* The cluster's identity, made by the bootstrap host_join (random comes in its request
 * id). */
void state_cluster_id(const struct state *state, uint8_t ret_id[REQUEST_ID_SIZE]);

/* Whole state as bytes (of the state's level, sections with length and CRC32C) and back.
 * Decode replaces the content of an existing state only when everything checked out, and
 * does not call the observer. BERTH_ELEVEL: of a level that this release does not know;
 * err says what to do. */
int state_encode(const struct state *state, uint8_t **ret_data, size_t *ret_size);
int state_decode(struct state *state, const void *data, size_t size, struct err *err);

/* Look-ups: NULL when there is none. Tenant "" for cluster-wide kinds. */
const void *state_get(const struct state *state,
                      enum kind kind,
                      const char *tenant,
                      const char *name);
const struct vm *state_vm(const struct state *state, uint64_t uid);
const struct host *state_host(const struct state *state, uint64_t uid);
const struct network *state_network(const struct state *state, uint64_t uid);
const struct image *state_image(const struct state *state, uint64_t uid);
const struct snapshot *state_snapshot(const struct state *state, uint64_t uid);
const struct host *state_host_by_key(const struct state *state,
                                     const struct digest *public_key);
const struct token *state_token_by_hash(const struct state *state,
                                        const struct digest *hash);
/* The join token with that hash when it is good at that time; or BERTH_EAUTH, with why in
 * words. What apply asks; also to be asked before the log is. */
int state_join_token(const struct state *state,
                     const struct digest *hash,
                     uint64_t wall_ms,
                     const struct token **ret_token,
                     struct err *err);
/* An image by name as a tenant sees it: its own first, then the cluster's. */
const struct image *
state_image_for(const struct state *state, const char *tenant, const char *name);
/* What the template refers to and its tenant has not, from place *at on (0 the image,
 * then the NICs' networks): true, with a sentence for the user, and *at beyond it; else
 * false. What apply says of the first one. */
bool state_template_lacks(const struct state *state,
                          const struct template *template,
                          uint32_t *at,
                          char ret_text[APPLY_TEXT_SIZE]);
size_t state_count(const struct state *state, enum kind kind);
/* Of all kinds together. */
size_t state_count_all(const struct state *state);

/* All objects of a kind in table order (not sorted; stable while nothing is applied):
 * *cursor starts at 0, NULL at the end. */
const void *state_next(const struct state *state, enum kind kind, size_t *cursor);
/* Objects of a kind sorted by (tenant, name), optionally of one tenant (NULL: all), in a
 * fresh array of borrowed pointers. 0 or -ENOMEM. */
int state_list(const struct state *state,
               enum kind kind,
               const char *tenant,
               const void ***ret_objects,
               size_t *ret_count);
/* VMs on a host (by status.host, any phase but stopped-and-gone) and of a group; cursor
 * starts at 0. */
const struct vm *
state_vm_on_host(const struct state *state, uint64_t host, size_t *cursor);
const struct vm *
state_vm_of_group(const struct state *state, const struct group *group, size_t *cursor);
/* VMs that are migrating to a host (by status.target), which still run elsewhere. */
const struct vm *
state_vm_incoming(const struct state *state, uint64_t host, size_t *cursor);
/* VMs whose disks the host keeps (by status.disk_host): they are nowhere, or have not
 * begun yet from a snapshot on another host. */
const struct vm *state_vm_kept(const struct state *state, uint64_t host, size_t *cursor);
/* The only host where the VM may start, for its disks are there; NULL: any. A lost host
 * does not bind members of groups, unless their lifecycle waits for it. */
const struct host *state_disks_bind(const struct state *state, const struct vm *vm);
/* The state began again, and where this VM is, which waits for its host, it does not know
 * any more: it starts when a host says that it runs there, or when its user says so.
 * Lost, stopped or failed; disk_host, if there is one, keeps the newest disks that are
 * known. */
bool state_place_unknown(const struct state *state, const struct vm *vm);
/* A group that wants fewer VMs than it has may have this one go. It may not while the VM
 * may run where nobody sees it, on a lost host that it waits for or in an unknown place:
 * it would be ended as a stray, with its disks, and until then the next of its name and
 * address would run beside it. Only its user gives it up, or its group's end. */
bool state_vm_may_go(const struct state *state,
                     const struct group *group,
                     const struct vm *vm);
/* It is lost since the state began again without it: it cannot come back as it is, for
 * its key is retired, and it joins anew. */
bool state_host_left_out(const struct host *host);
/* How many VMs wait for this lost host, where they may still run, and could start
 * elsewhere without it. One of them, the oldest, is borrowed (NULL: there is none). */
uint32_t
state_vms_in_doubt(const struct state *state, uint64_t host, const struct vm **ret_one);
/* A run that a host has, as it says: of a VM whose place is unknown it may tell where
 * that is (to be told with VM_PHASE). */
struct found_run {
    uint64_t host;
    uint64_t epoch;
    /* Of one that has ended: the run whose disks are there, this one or, where it could
     * not be started with them, an earlier one; 0: there are none. */
    uint64_t disk_epoch;
    enum phase phase;
    bool begun; /* it runs, or did: what it was to begin from has done its part */
};
/* As it is told. */
struct found_run state_found_run(const struct cmd_vm_phase *report);
bool state_found_is_news(const struct state *state,
                         const struct vm *vm,
                         const struct found_run *run);
/* It is no news, but will be once it has begun: from a snapshot, while other disks of the
 * VM are kept elsewhere, which nobody gives up before that. */
bool state_found_may_begin(const struct state *state,
                           const struct vm *vm,
                           const struct found_run *run);
/* Snapshots that are on a host, or are being made or removed there (by status.host). */
const struct snapshot *
state_snapshot_on_host(const struct state *state, uint64_t host, size_t *cursor);
/* The only host where the VM may start, since its next run begins from a snapshot there;
 * NULL: it does not. */
const struct host *state_restore_host(const struct state *state, const struct vm *vm);
/* VMs that are on no host: pending, stopped and failed ones. A lost VM that waits for its
 * host is not among them. Cursor as above. */
const struct vm *state_vm_nowhere(const struct state *state, size_t *cursor);
/* VMs of a group, those on their way out included. */
uint32_t state_group_vms(const struct state *state, const struct group *group);
/* What a host has promised: to the VMs there and to those migrating to it; to those whose
 * disks it keeps a place (vms) and the disk; to snapshots the disk. The memory is what
 * PLACE_VM and MIGRATE_PREPARE compare with host.status.memory_bytes, and the pool with
 * host.status.pool_bytes. */
struct host_use {
    uint32_t vms;
    uint64_t cpu_mcpu;
    uint64_t memory_bytes;
    uint64_t pool_bytes; /* of its huge pages */
    uint64_t
        disk_bytes; /* the scheduler's alone: an overbooked disk runs nothing twice */
};
struct host_use state_host_use(const struct state *state, uint64_t host);
/* Of so many more VMs of this machine, those that the tenant's quota has room for beside
 * what is in use and *promised, which then grows by them. With fewer than count, ret_text
 * (of APPLY_TEXT_SIZE bytes, may be NULL) says what ADMIT_VM would say of the next. */
uint32_t state_quota_fits(const struct state *state,
                          const char *tenant,
                          const struct machine_spec *machine,
                          uint32_t count,
                          struct usage *promised,
                          char *ret_text);
/* Whether there is room for one: 0 or BERTH_EQUOTA; otherwise as above. */
int state_quota_room(const struct state *state,
                     const char *tenant,
                     const struct machine_spec *machine,
                     struct usage *promised,
                     char *ret_text);
/* Whether an address of the network is taken (a VM's, a host's, the gateway, network and
 * broadcast). */
bool state_address_used(const struct state *state,
                        const struct network *network,
                        uint32_t ipv4);
/* Addresses that VMs and hosts have in it. */
uint32_t state_address_count(const struct state *state, const struct network *network);
/* Lowest free address at or after `from` (0: the start), 0 when the network is full or
 * has given away NETWORK_ADDRESSES_MAX. */
uint32_t state_address_free(const struct state *state,
                            const struct network *network,
                            uint32_t from);

/* Events with revision > since, oldest first; *cursor starts at 0. */
const struct event *
state_event_next(const struct state *state, uint64_t since, size_t *cursor);

/* Whether the phase table allows the move (the table of model.md; apply uses the same).
 */
bool vm_phase_allowed(enum phase from, enum phase to);
/* A VM that goes on in the same phase has something new to say (it waits for its host's
 * disk, it reset itself): running and ready ones may. */
bool vm_reason_is_news(const struct vm *vm, enum phase phase, const char *reason);
/* Likewise: whether it stands still as its user wished, and by which engine it runs
 * (AUTO: not said). */
bool vm_run_is_news(const struct vm *vm,
                    enum phase phase,
                    enum engine engine,
                    bool paused);
/* What becomes of a lost VM when its host is removed, which is what apply() does and what
 * users are told beforehand: it is switched off, as it was asked to stop before the loss;
 * else it waits to be placed anew. */
bool vm_stays_off(const struct vm *vm);
/* True while the VM counts as being on its host: a process may exist there. */
bool vm_phase_on_host(enum phase phase);
