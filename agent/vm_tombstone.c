/* VMs that were forgotten: their epochs are remembered a while, nothing else is. */
#include "agent/vm_entry.h"
#include "agent/vm_lock.h"
#include "agent/vm_snapshots.h"
#include "base/fd.h"
#include "base/heap.h"
#include "base/log.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ROOM       "agent"
#define PRUNE_MAX  256 /* of a turn: two millions a day, ten milliseconds at most */
#define ROOM_SHARE 16  /* the part of the time remembered that makes room for more */

void vm_tombstone_remove(struct vm_supervisor *supervisor, uint64_t uid)
{
    tombstones_remove(supervisor->tombstones, uid);
}

/* It comes back: its disks are on their way into the folder, or are there and its start
 * is next, or a process has them open. */
static bool
is_wanted(const struct vm_supervisor *supervisor, uint64_t uid, const char *folder)
{
    return vm_entry_find(supervisor, uid) != NULL ||
           vm_snapshots_is_restoring(supervisor->snapshots, uid) ||
           vm_lock_is_held(folder);
}

/* Forgets for good what was forgotten until then. */
static void prune_until(struct vm_supervisor *supervisor, uint64_t wall_ms)
{
    uint64_t old[PRUNE_MAX]; /* the set must not change while it is walked */
    unsigned count = 0;
    for (size_t i = 0; i < tombstones_count(supervisor->tombstones) && count < PRUNE_MAX;
         i++) {
        uint64_t uid;
        const struct tombstone *tombstone =
            tombstones_at(supervisor->tombstones, i, &uid);
        if (tombstone->since_wall_ms <= wall_ms) {
            old[count++] = uid;
        }
    }
    for (unsigned i = 0; i < count; i++) {
        char folder[ENGINE_PATH_SIZE];
        if (vm_entry_folder(supervisor, old[i], folder) == 0) {
            if (is_wanted(supervisor, old[i], folder)) {
                continue; /* its start removes it; else it is looked at again */
            }
            (void)fd_remove_tree(folder, NULL); /* tried again when we are started */
        }
        vm_tombstone_remove(supervisor, old[i]);
    }
}

/* The oldest go, some at a time: a host that ends many VMs remembers each for less long,
 * and must never be unable to forget one, or to start. */
static void make_room(struct vm_supervisor *supervisor)
{
    uint64_t oldest_ms = UINT64_MAX;
    uint64_t newest_ms = 0;
    for (size_t i = 0; i < tombstones_count(supervisor->tombstones); i++) {
        uint64_t uid;
        uint64_t since_ms = tombstones_at(supervisor->tombstones, i, &uid)->since_wall_ms;
        oldest_ms = since_ms < oldest_ms ? since_ms : oldest_ms;
        newest_ms = since_ms > newest_ms ? since_ms : newest_ms;
    }
    prune_until(supervisor, oldest_ms + (newest_ms - oldest_ms) / ROOM_SHARE);
}

int vm_tombstone_put(struct vm_supervisor *supervisor,
                     uint64_t uid,
                     const struct tombstone *given)
{
    if (tombstones_count(supervisor->tombstones) >= supervisor->epochs_max) {
        make_room(supervisor);
    }
    struct tombstone tombstone = *given;
    uint64_t now_ms = clock_wall_ms(supervisor->host.clock);
    if (tombstone.since_wall_ms > now_ms) { /* the clock was set back since: it would */
        tombstone.since_wall_ms = now_ms;   /* stay until then, and push others out */
    }
    return tombstones_put(supervisor->tombstones, uid, &tombstone);
}

bool vm_tombstone_is_old(const struct vm_supervisor *supervisor, uint64_t since_wall_ms)
{
    return clock_wall_ms(supervisor->host.clock) >
           since_wall_ms + VM_SUPERVISOR_EPOCHS_MS;
}

/* Everything in a VM's folder but its record; nobody may hold its lock. */
void vm_folder_empty(const char *folder)
{
    DIR *entries = opendir(folder);
    const struct dirent *entry;
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): a stream of our own */
    while (entries != NULL && (entry = readdir(entries)) != NULL) {
        char path[ENGINE_PATH_SIZE];
        int length = snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
            strcmp(entry->d_name, VM_RECORD_FILE) == 0 || length < 0 ||
            (size_t)length >= sizeof(path)) {
            continue;
        }
        struct err err = {0};
        if (unlink(path) != 0 && fd_remove_tree(path, &err) != 0) {
            log_warn(ROOM, "file of a VM was not removed", KV_STR("why", err.text));
        }
    }
    if (entries != NULL) {
        (void)closedir(entries); /* only read */
    }
}

/* A VM on its way to be forgotten. */
struct bury_job {
    struct work_job job;
    struct vm_supervisor *supervisor;
    uint64_t uid;
    struct tombstone tombstone;
    char *text; /* of its last record */
    char folder[ENGINE_PATH_SIZE];
    struct err err; /* the thread's, until the job is done */
};

static void bury_run(struct work_job *job)
{
    struct bury_job *bury = LIST_ITEM(job, struct bury_job, job);
    int r = fd_make_folders(bury->folder, &bury->err);
    r = r != 0 ? r : vm_record_store(bury->folder, bury->text, &bury->err);
    if (r == BERTH_EDISKFULL) { /* its disks are what it is full of */
        vm_folder_empty(bury->folder);
        bury->err = (struct err){0};
        (void)vm_record_store(bury->folder, bury->text, &bury->err); /* err tells */
    }
}

static void empty_run(struct work_job *job)
{
    vm_folder_empty(LIST_ITEM(job, struct bury_job, job)->folder);
}

static void bury_end(struct bury_job *bury, int code)
{
    struct vm_supervisor *supervisor = bury->supervisor;
    struct vm_entry *vm = vm_entry_find(supervisor, bury->uid);
    vm->leaving = false; /* and until now it was in the set */
    int r = code < 0 ? code : bury->err.code;
    r = r != 0 ? r : vm_tombstone_put(supervisor, bury->uid, &bury->tombstone);
    if (r == 0) {
        (void)u64_map_remove(supervisor->vms, bury->uid);
        (void)vm_entry_free(vm);
        heap_freed(); /* with its engine's run, timers and orders: many end together */
    } else {
        log_warn(ROOM, "VM is not forgotten yet", KV_U64("uid", bury->uid),
                 KV_STR("why", bury->err.code != 0 ? bury->err.text : err_sentence(r)));
    }
    free(bury->text);
    free(bury);
}

/* Closed before it began: the record says what is left to do, and the next start does
 * it. */
static void empty_done(struct work_job *job, int code)
{
    bury_end(LIST_ITEM(job, struct bury_job, job), code == BERTH_ECLOSED ? 0 : code);
}

static void bury_done(struct work_job *job, int code)
{
    struct bury_job *bury = LIST_ITEM(job, struct bury_job, job);
    if (code < 0 || bury->err.code != 0) {
        bury_end(bury, code);
        return;
    }
    work_pool_submit(bury->supervisor->removing, job, empty_run, empty_done);
}

int vm_entry_bury(struct vm_entry *vm, uint64_t epoch, struct err *err)
{
    struct vm_supervisor *supervisor = vm->supervisor;
    const struct tombstone tombstone = {
        .epoch_seen = epoch > vm->epoch_seen ? epoch : vm->epoch_seen,
        .epoch_ended = vm->order.vm.epoch,
        .since_wall_ms = clock_wall_ms(supervisor->host.clock),
    };
    const struct vm_record record = {
        .state = VM_RECORD_FORGOTTEN,
        .epoch_seen = tombstone.epoch_seen,
        .order = {.vm = {.uid = vm->uid, .epoch = tombstone.epoch_ended}},
        .since_wall_ms = tombstone.since_wall_ms,
    };
    struct bury_job *bury = calloc(1, sizeof(*bury));
    int r = bury == NULL ? -ENOMEM : vm_entry_folder(supervisor, vm->uid, bury->folder);
    if (r == 0) {
        bury->text = vm_record_encode(&record);
        r = bury->text == NULL ? -ENOMEM : 0;
    }
    if (r != 0) {
        free(bury);
        return err_sys(err, r, "forget VM %" PRIu64, vm->uid);
    }
    bury->supervisor = supervisor;
    bury->uid = vm->uid;
    bury->tombstone = tombstone;
    vm->leaving = true;
    work_pool_submit(supervisor->disk, &bury->job, bury_run, bury_done);
    return 0;
}

void vm_tombstones_prune(struct vm_supervisor *supervisor)
{
    uint64_t now_ms = clock_wall_ms(supervisor->host.clock);
    if (now_ms > VM_SUPERVISOR_EPOCHS_MS) {
        prune_until(supervisor, now_ms - VM_SUPERVISOR_EPOCHS_MS - 1);
    }
}
