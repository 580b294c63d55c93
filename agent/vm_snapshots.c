#include "agent/vm_snapshots.h"

#include "agent/disk_room.h"
#include "agent/snapshot_store.h"
#include "agent/vm_disks.h"
#include "agent/vm_entry.h"
#include "agent/vm_lock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/require.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define ROOM   "agent"
#define SECTOR 512u /* of st_blocks */
#define CLOSED "its host's berthd has ended"

/* One snapshot. */
struct entry {
    struct vm_snapshots *snapshots;
    struct snapshot_report report;
    struct snapshot_manifest manifest;
    struct snapshot_wish wish; /* of one that is made */
    bool busy;                 /* a thread has the job */
    bool vm_ended;             /* while its disks were copied */
    bool unwanted;             /* goes when the thread or the engine is done with it */
    bool unread;               /* it is there, and what it is could not be read yet */
    unsigned readers;          /* restores that read it */
    int memory_fd;             /* while it is saved; -1 */
    struct snapshot_manifest *look; /* the thread's, while it looks again */
    char vm_folder[ENGINE_PATH_SIZE];
    struct work_job job;
    struct err err; /* the thread's, until the job is done */
};

/* Disks on their way into a VM's folder. */
struct restore {
    struct vm_snapshots *snapshots;
    uint64_t vm, epoch, snapshot;
    bool busy;
    bool called_off; /* what it comes to is nobody's */
    int lock;        /* of the VM's folder, while it is busy */
    char vm_folder[ENGINE_PATH_SIZE];
    struct work_job job;
    struct err err; /* likewise */
};

struct vm_snapshots {
    struct vm_supervisor *supervisor;
    struct u64_map *entries;  /* by uid */
    struct u64_map *restores; /* by the VM's uid */
    struct work_pool *making; /* one thread, for one that is made */
    struct work_pool *others; /* one thread: restores and removals */
    struct entry *made;       /* NULL: none is */
    bool closing;             /* no VM is made to stand still any more */
    struct work_job sweep;
    char folder[ENGINE_PATH_SIZE];
};

static void tell(const struct vm_snapshots *snapshots)
{
    const struct vm_supervisor *supervisor = snapshots->supervisor;
    if (supervisor->snapshots_changed != NULL) {
        supervisor->snapshots_changed(supervisor->context);
    }
}

static struct entry *entry_find(const struct vm_snapshots *snapshots, uint64_t uid)
{
    return uid == 0 ? NULL : u64_map_get(snapshots->entries, uid);
}

static struct entry *entry_free(struct entry *entry)
{
    if (entry != NULL) {
        fd_close(&entry->memory_fd);
        free(entry->look);
        free(entry);
    }
    return NULL;
}

static struct entry *entry_new(struct vm_snapshots *snapshots, uint64_t uid)
{
    struct entry *entry = calloc(1, sizeof(*entry));
    if (entry == NULL) {
        return NULL;
    }
    entry->snapshots = snapshots;
    entry->memory_fd = -1;
    entry->report.uid = entry->manifest.uid = uid;
    return u64_map_put(snapshots->entries, uid, entry) == 0 ? entry : entry_free(entry);
}

static void entry_drop(struct entry *entry)
{
    struct vm_snapshots *snapshots = entry->snapshots;
    (void)u64_map_remove(snapshots->entries, entry->report.uid);
    (void)entry_free(entry);
    tell(snapshots);
}

static void entry_say(struct entry *entry, enum snapshot_phase phase, const char *reason)
{
    struct snapshot_report *report = &entry->report;
    report->phase = phase;
    if (reason != report->reason) {
        (void)snprintf(report->reason, sizeof(report->reason), "%s", reason);
    }
    log_info(ROOM, "snapshot changed", KV_U64("uid", report->uid),
             KV_U64("vm", report->vm), KV_STR("phase", snapshot_phase_names[phase]),
             KV_STR("reason", reason));
    tell(entry->snapshots);
}

/* ---- steps of a thread ---- */

static bool is_wanted(void *context)
{
    return !work_job_cancelled(context);
}

static struct entry *entry_of(struct work_job *job)
{
    return LIST_ITEM(job, struct entry, job);
}

static void step_submit(struct entry *entry,
                        struct work_pool *pool,
                        void (*run)(struct work_job *job),
                        void (*done)(struct work_job *job, int code))
{
    REQUIRE(!entry->busy);
    entry->busy = true;
    entry->err = (struct err){0};
    work_pool_submit(pool, &entry->job, run, done);
}

/* How the step ended. */
static int step_end(struct entry *entry, int code)
{
    entry->busy = false;
    if (code < 0 && entry->err.code == 0) {
        (void)err_sys(&entry->err, code, "make the snapshot");
    }
    return entry->err.code;
}

static void begin_run(struct work_job *job)
{
    struct entry *entry = entry_of(job);
    struct snapshot_manifest *manifest = &entry->manifest;
    const struct vm_snapshots *snapshots = entry->snapshots;
    if (snapshot_store_disks(entry->vm_folder, manifest, &entry->err) < 0) {
        return;
    }
    entry->memory_fd =
        snapshot_store_begin(snapshots->folder, manifest->uid, entry->wish.bytes,
                             snapshots->supervisor->reserve_bytes, &entry->err);
}

static void copy_run(struct work_job *job)
{
    struct entry *entry = entry_of(job);
    const struct sparse_wish wish = {is_wanted, job};
    (void)snapshot_store_copy(entry->snapshots->folder, &entry->manifest,
                              entry->vm_folder, &wish, &entry->err); /* err tells */
}

static void finish_run(struct work_job *job)
{
    struct entry *entry = entry_of(job);
    const struct sparse_wish wish = {is_wanted, job};
    (void)snapshot_store_finish(entry->snapshots->folder, &entry->manifest, &wish,
                                &entry->err); /* err tells */
}

static void abandon_run(struct work_job *job)
{
    struct entry *entry = entry_of(job);
    snapshot_store_abandon(entry->snapshots->folder, entry->manifest.uid);
}

static void remove_run(struct work_job *job)
{
    struct entry *entry = entry_of(job);
    (void)snapshot_store_remove(entry->snapshots->folder, entry->manifest.uid,
                                &entry->err); /* err tells */
}

/* ---- making one ---- */

/* The VM that stands still for it, or NULL. */
static struct vm_entry *vm_saved_for(const struct entry *entry)
{
    struct vm_entry *vm = vm_entry_find(entry->snapshots->supervisor, entry->report.vm);
    return vm != NULL && vm->saving ? vm : NULL;
}

static void vm_go_on(const struct entry *entry)
{
    struct vm_entry *vm = vm_saved_for(entry);
    if (vm != NULL) {
        vm->saving = false;
        vm_entry_care(vm);
    }
}

static void abandon_done(struct work_job *job, int code)
{
    struct entry *entry = entry_of(job);
    (void)code; /* what is left is swept by the next daemon */
    entry->busy = false;
    entry->snapshots->made = NULL;
    if (entry->unwanted) {
        entry_drop(entry);
    } else {
        entry_say(entry, SNAPSHOT_FAILED, entry->report.reason);
    }
}

/* It is not made; the VM goes on. */
static void entry_fail(struct entry *entry, const char *reason)
{
    log_warn(ROOM, "snapshot was not made", KV_U64("uid", entry->report.uid),
             KV_U64("vm", entry->report.vm), KV_STR("why", reason));
    if (reason != entry->report.reason) {
        (void)snprintf(entry->report.reason, sizeof(entry->report.reason), "%s", reason);
    }
    fd_close(&entry->memory_fd);
    vm_go_on(entry);
    step_submit(entry, entry->snapshots->making, abandon_run, abandon_done);
}

static void finish_done(struct work_job *job, int code)
{
    struct entry *entry = entry_of(job);
    if (step_end(entry, code) < 0) {
        entry_fail(entry, entry->err.text);
        return;
    }
    entry->snapshots->made = NULL;
    entry->report.bytes = entry->manifest.taken_bytes;
    entry_say(entry, SNAPSHOT_READY, "");
    if (entry->unwanted) {
        vm_supervisor_snapshot_remove(entry->snapshots->supervisor, entry->report.uid);
    }
}

static void copy_done(struct work_job *job, int code)
{
    struct entry *entry = entry_of(job);
    if (step_end(entry, code) < 0 || entry->unwanted || entry->vm_ended) {
        entry_fail(entry, entry->vm_ended   ? entry->report.reason
                          : entry->unwanted ? "it is not wanted any more"
                                            : entry->err.text);
        return;
    }
    vm_go_on(entry);
    step_submit(entry, entry->snapshots->making, finish_run, finish_done);
}

void vm_snapshots_saved(const struct vm_entry *vm, const struct err *why)
{
    struct entry *entry = vm->supervisor->snapshots->made;
    if (entry == NULL || !vm->saving || entry->report.vm != vm->uid || entry->busy) {
        return; /* given up already */
    }
    if (why->code < 0 || entry->unwanted) {
        entry_fail(entry, entry->unwanted ? "it is not wanted any more" : why->text);
        return;
    }
    fd_close(&entry->memory_fd);
    step_submit(entry, entry->snapshots->making, copy_run, copy_done);
}

void vm_snapshots_paused(const struct vm_entry *vm)
{
    struct entry *entry = vm->supervisor->snapshots->made;
    if (entry != NULL && vm->saving && entry->report.at_wall_ms == 0) {
        entry->report.at_wall_ms = entry->manifest.at_wall_ms =
            clock_wall_ms(vm->supervisor->host.clock);
    }
}

/* Its next run may write the disks that are being copied: nobody knows what was first. */
void vm_snapshots_ended(const struct vm_entry *vm, const char *reason)
{
    struct entry *entry = vm->supervisor->snapshots->made;
    char text[VM_SUPERVISOR_REASON];
    if (entry == NULL || !vm->saving) {
        return;
    }
    (void)snprintf(text, sizeof(text), "its VM has ended: %.400s", reason);
    if (!entry->busy) {
        entry_fail(entry, text);
        return;
    }
    entry->vm_ended = true;
    memcpy(entry->report.reason, text, sizeof(text));
    work_pool_cancel(entry->snapshots->making, &entry->job);
}

static void entry_give_up(struct entry *entry)
{
    const struct vm_entry *vm = vm_saved_for(entry);
    if (entry->busy) {
        work_pool_cancel(entry->snapshots->making, &entry->job);
    } else if (vm != NULL && vm->run != NULL) {
        vm->ops->save_cancel(vm->run); /* and then it is `saved`, with an error */
    }
}

void vm_snapshots_give_up(const struct vm_entry *vm)
{
    struct entry *entry = vm->supervisor->snapshots->made;
    if (entry != NULL && vm->saving) {
        entry_give_up(entry);
    }
}

/* Why the run that it is to be of is not to be saved; 0, or BERTH_EBUSY: not yet. */
static int vm_check(const struct vm_entry *vm, uint64_t epoch, struct err *err)
{
    if (vm == NULL || vm->run == NULL || vm->order.vm.epoch != epoch || vm->stopping ||
        vm->killed) {
        return err_set(err, BERTH_ENOTFOUND,
                       "epoch %" PRIu64 " of its VM does not run on this host", epoch);
    }
    if (vm->ops->save == NULL) {
        return err_set(err, BERTH_EUNSUPPORTED,
                       "engine %s makes no snapshots; they are engine kvm's",
                       engine_names[vm->order.engine]);
    }
    const bool goes_on = vm->standing && !vm->user_paused; /* of the last one, say */
    return vm->begun && vm->heard && !goes_on && !vm->waiting && !vm->frozen
               ? 0
               : err_set(err, BERTH_EBUSY, "its VM is not up");
}

static void begin_done(struct work_job *job, int code)
{
    struct entry *entry = entry_of(job);
    struct vm_entry *vm = vm_entry_find(entry->snapshots->supervisor, entry->report.vm);
    struct err err = {0};
    if (step_end(entry, code) < 0 || entry->unwanted) {
        entry_fail(entry,
                   entry->unwanted ? "it is not wanted any more" : entry->err.text);
    } else if (entry->snapshots->closing) {
        entry_fail(entry, CLOSED);
    } else if (vm_check(vm, entry->report.epoch, &err) < 0) {
        entry_fail(entry, err.text);
    } else {
        vm->saving = true;
        if (vm->standing) { /* its user's pause is the instant */
            vm_snapshots_paused(vm);
        }
        if (vm->ops->save(vm->run, entry->memory_fd, &err) < 0) {
            entry_fail(entry, err.text);
        }
    }
}

static void manifest_fill(struct snapshot_manifest *manifest,
                          const struct snapshot_wish *wish,
                          const struct vm_entry *vm)
{
    const char *tail = vm->ops->disk_tail;
    *manifest = (struct snapshot_manifest){.uid = wish->uid,
                                           .vm = wish->vm,
                                           .epoch = wish->epoch,
                                           .engine = vm->ops->engine};
    memcpy(manifest->name, wish->name, sizeof(manifest->name));
    memcpy(manifest->tenant, wish->tenant, sizeof(manifest->tenant));
    memcpy(manifest->vm_name, vm->order.vm.name, sizeof(manifest->vm_name));
    (void)snprintf(manifest->tail, sizeof(manifest->tail), "%s",
                   tail != NULL ? tail : "");                 /* fits */
    (void)vm_disks_base(vm->order.vm.folder, manifest->base); /* else on none */
}

int vm_supervisor_snapshot_make(struct vm_supervisor *supervisor,
                                const struct snapshot_wish *wish,
                                struct err *err)
{
    REQUIRE(wish->uid != 0 && wish->vm != 0);
    struct vm_snapshots *snapshots = supervisor->snapshots;
    const struct vm_entry *vm = vm_entry_find(supervisor, wish->vm);
    struct err why = {0};
    if (entry_find(snapshots, wish->uid) != NULL) {
        return 0;
    }
    if (u64_map_count(snapshots->entries) >= HOST_SNAPSHOTS_MAX) {
        return err_set(err, BERTH_EFULL, "this host holds %d snapshots, the most",
                       HOST_SNAPSHOTS_MAX);
    }
    int r = vm_check(vm, wish->epoch, &why);
    if (r == BERTH_EBUSY || (r == 0 && snapshots->made != NULL)) {
        return err_set(err, BERTH_EBUSY, "%s",
                       r < 0 ? why.text : "another snapshot is being made");
    }
    struct entry *entry = entry_new(snapshots, wish->uid);
    if (entry == NULL) {
        return err_set(err, -ENOMEM, "make a snapshot: out of memory");
    }
    entry->report.vm = wish->vm;
    entry->report.epoch = wish->epoch;
    if (r < 0) {
        entry_say(entry, SNAPSHOT_FAILED, why.text);
        return 0;
    }
    entry->wish = *wish;
    manifest_fill(&entry->manifest, wish, vm);
    (void)snprintf(entry->vm_folder, sizeof(entry->vm_folder), "%s",
                   vm->order.vm.folder); /* fits */
    snapshots->made = entry;
    entry_say(entry, SNAPSHOT_MAKING, "");
    step_submit(entry, snapshots->making, begin_run, begin_done);
    return 0;
}

/* ---- removing ---- */

static void remove_done(struct work_job *job, int code)
{
    struct entry *entry = entry_of(job);
    if (step_end(entry, code) == 0) {
        entry_drop(entry);
        return;
    }
    log_warn(ROOM, "snapshot was not removed", KV_U64("uid", entry->report.uid),
             KV_STR("why", entry->err.text));
    /* Not told, or it would be asked for again at once: that comes in its own time. */
    (void)snprintf(entry->report.reason, sizeof(entry->report.reason), "%s",
                   entry->err.text);
}

void vm_supervisor_snapshot_remove(struct vm_supervisor *supervisor, uint64_t uid)
{
    struct vm_snapshots *snapshots = supervisor->snapshots;
    struct entry *entry = entry_find(snapshots, uid);
    if (entry == NULL) {
        return;
    }
    const bool first = !entry->unwanted;
    entry->unwanted = true;
    if (entry == snapshots->made) {
        if (first) {
            entry_say(entry, SNAPSHOT_DELETING, "");
            entry_give_up(entry);
        }
    } else if (entry->report.phase == SNAPSHOT_FAILED) {
        entry_drop(entry);
    } else if (!entry->busy && entry->readers == 0) {
        if (entry->report.phase != SNAPSHOT_DELETING) { /* else this is another try */
            entry_say(entry, SNAPSHOT_DELETING, entry->report.reason);
        }
        step_submit(entry, snapshots->others, remove_run, remove_done);
    }
}

/* ---- looking ---- */

static void entry_report(const struct entry *entry, struct snapshot_report *ret_report)
{
    struct stat info;
    *ret_report = entry->report;
    if (entry->memory_fd >= 0 && !entry->busy && entry->wish.bytes > 0 &&
        fstat(entry->memory_fd, &info) == 0) {
        const uint64_t part =
            (uint64_t)info.st_blocks * SECTOR / (entry->wish.bytes / 1000 + 1);
        ret_report->permille = part < 999 ? (uint32_t)part : 999;
    }
}

void vm_supervisor_snapshots_each(const struct vm_supervisor *supervisor,
                                  void (*visit)(void *context,
                                                const struct snapshot_report *report),
                                  void *context)
{
    size_t cursor = 0;
    uint64_t uid;
    void *entry;
    while (u64_map_next(supervisor->snapshots->entries, &cursor, &uid, &entry)) {
        struct snapshot_report report;
        entry_report(entry, &report);
        visit(context, &report);
    }
}

bool vm_supervisor_snapshot_is_here(const struct vm_supervisor *supervisor, uint64_t uid)
{
    return entry_find(supervisor->snapshots, uid) != NULL;
}

bool vm_supervisor_snapshot_base(const struct vm_supervisor *supervisor,
                                 uint64_t uid,
                                 char ret_path[ENGINE_PATH_SIZE])
{
    const struct entry *entry = entry_find(supervisor->snapshots, uid);
    if (entry == NULL || entry->report.phase == SNAPSHOT_FAILED ||
        entry->manifest.base[0] == '\0') {
        return false;
    }
    memcpy(ret_path, entry->manifest.base, ENGINE_PATH_SIZE);
    return true;
}

/* ---- restoring ---- */

static struct restore *restore_of(struct work_job *job)
{
    return LIST_ITEM(job, struct restore, job);
}

static void restore_run(struct work_job *job)
{
    struct restore *restore = restore_of(job);
    const struct vm_snapshots *snapshots = restore->snapshots;
    const struct sparse_wish wish = {is_wanted, job};
    (void)snapshot_store_restore(snapshots->folder, restore->snapshot, restore->vm_folder,
                                 snapshots->supervisor->reserve_bytes, &wish,
                                 &restore->err); /* err tells */
}

static void restore_done(struct work_job *job, int code)
{
    struct restore *restore = restore_of(job);
    struct vm_snapshots *snapshots = restore->snapshots;
    struct entry *entry = entry_find(snapshots, restore->snapshot);
    restore->busy = false;
    fd_close(&restore->lock);
    if (code < 0 && restore->err.code == 0) {
        (void)err_sys(&restore->err, code, "copy the snapshot's disks");
    }
    entry->readers--; /* and so it is there */
    if (entry->unwanted) {
        vm_supervisor_snapshot_remove(snapshots->supervisor, restore->snapshot);
    }
    tell(snapshots);
}

static struct restore *restore_free(struct restore *restore)
{
    if (restore != NULL) {
        REQUIRE(!restore->busy);
        free(restore);
    }
    return NULL;
}

void vm_snapshots_restored(struct vm_snapshots *snapshots, uint64_t vm)
{
    const struct restore *restore = u64_map_get(snapshots->restores, vm);
    if (restore != NULL && !restore->busy) {
        (void)restore_free(u64_map_remove(snapshots->restores, vm));
    }
}

bool vm_snapshots_is_restoring(const struct vm_snapshots *snapshots, uint64_t vm)
{
    return snapshots != NULL && u64_map_get(snapshots->restores, vm) != NULL;
}

static int restore_begin(struct vm_snapshots *snapshots,
                         const struct vm_order *order,
                         const char *vm_folder,
                         struct err *err)
{
    struct entry *entry = entry_find(snapshots, order->restore);
    struct restore *restore = calloc(1, sizeof(*restore));
    if (restore == NULL) {
        return err_set(err, -ENOMEM, "restore a snapshot: out of memory");
    }
    restore->snapshots = snapshots;
    restore->vm = order->vm.uid;
    restore->epoch = order->vm.epoch;
    restore->snapshot = order->restore;
    (void)snprintf(restore->vm_folder, sizeof(restore->vm_folder), "%s", vm_folder);
    restore->lock = vm_lock_take(vm_folder, order->vm.epoch, err);
    int r = restore->lock < 0 ? restore->lock : 0;
    if (r == 0 && u64_map_put(snapshots->restores, restore->vm, restore) != 0) {
        r = err_set(err, -ENOMEM, "restore a snapshot: out of memory");
    }
    if (r < 0) {
        fd_close(&restore->lock);
        (void)restore_free(restore);
        return r;
    }
    entry->readers++;
    restore->busy = true;
    log_info(ROOM, "VM is given the disks of a snapshot", KV_STR("vm", order->vm.name),
             KV_U64("uid", order->vm.uid), KV_U64("epoch", order->vm.epoch),
             KV_U64("snapshot", order->restore));
    work_pool_submit(snapshots->others, &restore->job, restore_run, restore_done);
    return 1;
}

static void restore_call_off(struct restore *restore)
{
    restore->called_off = true;
    work_pool_cancel(restore->snapshots->others, &restore->job);
}

bool vm_supervisor_restore_call_off(struct vm_supervisor *supervisor, uint64_t uid)
{
    struct vm_snapshots *snapshots = supervisor->snapshots;
    struct restore *restore = u64_map_get(snapshots->restores, uid);
    if (restore != NULL && restore->busy) {
        restore_call_off(restore);
        return true;
    }
    (void)restore_free(u64_map_remove(snapshots->restores, uid));
    return false;
}

void vm_supervisor_restores_keep(struct vm_supervisor *supervisor,
                                 bool (*is_known)(void *context, uint64_t uid),
                                 void *context)
{
    size_t cursor = 0;
    uint64_t uid;
    void *value;
    struct u64_map *restores = supervisor->snapshots->restores;
    while (u64_map_next(restores, &cursor, &uid, &value)) {
        struct restore *restore = value;
        if (is_known(context, uid)) {
            continue;
        }
        if (restore->busy) {
            restore_call_off(restore);
        } else {
            (void)restore_free(u64_map_remove(restores, uid));
            cursor = 0; /* the map has changed */
        }
    }
}

/* Where the run's disks stand: 1 under way, 0 there, or why not. */
static int restore_look(struct vm_snapshots *snapshots,
                        const struct vm_order *order,
                        const char *vm_folder,
                        struct err *err)
{
    struct restore *restore = u64_map_get(snapshots->restores, order->vm.uid);
    const bool same = restore != NULL && !restore->called_off &&
                      restore->epoch == order->vm.epoch &&
                      restore->snapshot == order->restore;
    if (restore != NULL && restore->busy) {
        if (!same) {
            restore_call_off(restore);
        }
        return 1;
    }
    if (same) {
        return restore->err.code == 0
                   ? 0
                   : err_set(err, restore->err.code, "%s", restore->err.text);
    }
    (void)restore_free(u64_map_remove(snapshots->restores, order->vm.uid));
    return restore_begin(snapshots, order, vm_folder, err);
}

int vm_snapshots_restore(struct vm_snapshots *snapshots,
                         struct vm_order *order,
                         const char *vm_folder,
                         struct err *err)
{
    const struct entry *entry = entry_find(snapshots, order->restore);
    if (entry != NULL && entry->unread) {
        return err_set(err, BERTH_EBUSY, "snapshot %" PRIu64 " cannot be read now: %s",
                       order->restore, entry->report.reason);
    }
    if (entry == NULL || entry->report.phase != SNAPSHOT_READY) {
        return err_set(err, BERTH_ENOTFOUND,
                       "snapshot %" PRIu64 " is not on this host, or not whole",
                       order->restore);
    }
    if (order->engine != ENGINE_AUTO && order->engine != entry->manifest.engine) {
        return err_set(err, BERTH_EUNSUPPORTED,
                       "the snapshot is of engine %s, the VM asks for %s",
                       engine_names[entry->manifest.engine], engine_names[order->engine]);
    }
    order->engine = entry->manifest.engine;
    order->vm.disks_are_there = true;
    order->vm.disk_is_qcow2 = false;
    memcpy(order->vm.disk_path, entry->manifest.base, sizeof(order->vm.disk_path));
    int r =
        snapshot_store_memory(snapshots->folder, order->restore, order->vm.memory_path);
    return r < 0 ? err_sys(err, r, "restore a snapshot")
                 : restore_look(snapshots, order, vm_folder, err);
}

/* ---- opening and closing ---- */

/* What may be better in a moment says nothing of a snapshot. */
static bool is_shortage(int code)
{
    return code == -ENOMEM || code == -EMFILE || code == -ENFILE;
}

/* Nothing that a disk may say today and not tomorrow: what is lost for the cluster goes.
 */
static bool is_damage(int code)
{
    return code == BERTH_ECORRUPT || code == BERTH_ENOTFOUND;
}

static void entry_is_read(struct entry *entry, const struct snapshot_manifest *manifest)
{
    entry->manifest = *manifest;
    entry->report.vm = manifest->vm;
    entry->report.epoch = manifest->epoch;
    entry->report.phase = SNAPSHOT_READY;
    entry->report.bytes = manifest->taken_bytes;
    entry->report.at_wall_ms = manifest->at_wall_ms;
    entry->report.reason[0] = '\0';
}

static void entry_is_lost(struct entry *entry, const struct err *fault)
{
    entry->report.phase = SNAPSHOT_LOST;
    (void)snprintf(entry->report.reason, sizeof(entry->report.reason), "%s", fault->text);
    log_error(ROOM, "a snapshot is damaged", KV_U64("uid", entry->report.uid),
              KV_STR("why", fault->text));
}

/* It is there, and neither ready nor lost: what it was last said to be stays. */
static void entry_is_unread(struct entry *entry, const struct err *fault)
{
    entry->unread = true;
    entry->report.phase = SNAPSHOT_MAKING;
    (void)snprintf(entry->report.reason, sizeof(entry->report.reason), "%s", fault->text);
    log_error(ROOM, "a snapshot cannot be read: it is looked at again",
              KV_U64("uid", entry->report.uid), KV_STR("why", fault->text));
}

/* One that is not told of is lost for the cluster, and goes: rather the whole daemon
 * tries again. */
static int on_found(void *context,
                    uint64_t uid,
                    const struct snapshot_manifest *manifest,
                    const struct err *fault)
{
    struct vm_snapshots *snapshots = context;
    if (is_shortage(fault->code)) {
        return fault->code;
    }
    struct entry *entry = entry_new(snapshots, uid);
    if (entry == NULL) {
        return -ENOMEM;
    }
    if (fault->code == 0) {
        entry_is_read(entry, manifest);
    } else if (is_damage(fault->code)) {
        entry_is_lost(entry, fault);
    } else {
        entry_is_unread(entry, fault);
        (void)snapshot_store_base(snapshots->folder, uid, entry->manifest.base);
    }
    return 0;
}

static void look_run(struct work_job *job)
{
    struct entry *entry = entry_of(job);
    (void)snapshot_store_read(entry->snapshots->folder, entry->report.uid, entry->look,
                              &entry->err); /* err tells */
}

static void look_done(struct work_job *job, int code)
{
    struct entry *entry = entry_of(job);
    int r = step_end(entry, code);
    entry->unread = r < 0 && !is_damage(r);
    if (r == 0) {
        log_info(ROOM, "a snapshot can be read again", KV_U64("uid", entry->report.uid));
        entry_is_read(entry, entry->look);
    } else if (is_damage(r)) {
        entry_is_lost(entry, &entry->err);
    }
    free(entry->look);
    entry->look = NULL;
    if (entry->unwanted) {
        vm_supervisor_snapshot_remove(entry->snapshots->supervisor, entry->report.uid);
    } else if (!entry->unread) {
        tell(entry->snapshots);
    }
}

void vm_snapshots_look(struct vm_snapshots *snapshots)
{
    size_t cursor = 0;
    uint64_t uid;
    void *value;
    while (u64_map_next(snapshots->entries, &cursor, &uid, &value)) {
        struct entry *entry = value;
        if (!entry->unread || entry->busy || entry->unwanted) {
            continue;
        }
        entry->look = calloc(1, sizeof(*entry->look));
        if (entry->look != NULL) { /* else at the next upkeep */
            step_submit(entry, snapshots->others, look_run, look_done);
        }
    }
}

static void sweep_run(struct work_job *job)
{
    const struct vm_snapshots *snapshots = LIST_ITEM(job, struct vm_snapshots, sweep);
    struct err err = {0};
    if (snapshot_store_sweep(snapshots->folder, &err) < 0) {
        log_warn(ROOM, "unfinished snapshots were not removed", KV_STR("why", err.text));
    }
}

static void sweep_done(struct work_job *job, int code)
{
    (void)job;
    (void)code; /* tried again by the next daemon */
}

struct vm_snapshots *
vm_snapshots_open(struct vm_supervisor *supervisor, const char *folder, struct err *err)
{
    struct vm_snapshots *snapshots = calloc(1, sizeof(*snapshots));
    if (snapshots == NULL) {
        err_set(err, -ENOMEM, "snapshots: out of memory");
        return NULL;
    }
    snapshots->supervisor = supervisor;
    (void)snprintf(snapshots->folder, sizeof(snapshots->folder), "%s", folder);
    snapshots->entries = u64_map_new();
    snapshots->restores = u64_map_new();
    snapshots->making = work_pool_new(supervisor->host.loop, 1, HOST_SNAPSHOTS_MAX);
    snapshots->others = work_pool_new(supervisor->host.loop, 1,
                                      HOST_SNAPSHOTS_MAX + VM_SUPERVISOR_VMS_MAX);
    int r = snapshots->entries == NULL || snapshots->restores == NULL ||
                    snapshots->making == NULL || snapshots->others == NULL
                ? err_set(err, -ENOMEM, "snapshots: out of memory")
                : snapshot_store_each(folder, on_found, snapshots, err);
    if (r < 0) {
        return vm_snapshots_close(snapshots);
    }
    work_pool_submit(snapshots->making, &snapshots->sweep, sweep_run, sweep_done);
    return snapshots;
}

struct vm_snapshots *vm_snapshots_close(struct vm_snapshots *snapshots)
{
    size_t cursor = 0;
    uint64_t uid;
    void *value;
    if (snapshots == NULL) {
        return NULL;
    }
    snapshots->supervisor->snapshots_changed = NULL; /* nobody is to be told any more */
    snapshots->closing = true;
    if (snapshots->made != NULL && snapshots->made->busy) {
        work_pool_cancel(snapshots->making, &snapshots->made->job);
    } else if (snapshots->made != NULL) {
        entry_give_up(snapshots->made);
        entry_fail(snapshots->made, CLOSED);
    }
    if (snapshots->making != NULL && snapshots->others != NULL) {
        work_pool_cancel_all(snapshots->others);
        work_pool_drain(snapshots->making); /* may ask for a removal */
        work_pool_drain(snapshots->others);
    }
    snapshots->making = work_pool_close(snapshots->making);
    snapshots->others = work_pool_close(snapshots->others);
    while (snapshots->restores != NULL &&
           u64_map_next(snapshots->restores, &cursor, &uid, &value)) {
        (void)restore_free(value);
    }
    cursor = 0;
    while (snapshots->entries != NULL &&
           u64_map_next(snapshots->entries, &cursor, &uid, &value)) {
        (void)entry_free(value);
    }
    snapshots->restores = u64_map_free(snapshots->restores);
    snapshots->entries = u64_map_free(snapshots->entries);
    free(snapshots);
    return NULL;
}
