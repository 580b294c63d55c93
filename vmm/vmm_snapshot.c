#include "vmm/vmm_snapshot.h"

#include "base/bytes.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "vmm/machine_state.h"
#include "vmm/ram_image.h"
#include "vmm/snapshot_file.h"
#include "vmm/state_stream.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct vmm_snapshot {
    struct poller *poller;
    struct vmm_snapshot_events events;
    enum vmm_snapshot_status status;
    uint64_t total_bytes;
    uint64_t began_ms;
    uint64_t took_ms;
    int done_fd; /* an eventfd: the thread has done its work */
    int done_watch;
    pthread_t thread; /* while active */
    /* the thread's, while active */
    struct machine *machine;
    const struct guest_memory *memory;
    int fd;
    unsigned section_count;
    struct bytes_writer stream;
    struct ram_progress progress; /* shared */
    struct err err;
};

static uint64_t now_ms(void)
{
    return clock_now_ms(clock_system());
}

/* ---- the thread ---- */

static int save(struct vmm_snapshot *snapshot, struct err *err)
{
    struct bytes_writer ram;
    int r = snapshot->events.thread_began != NULL
                ? snapshot->events.thread_began(snapshot->events.thread_context, err)
                : 0;
    if (r == 0) {
        r = machine_sync(snapshot->machine, &snapshot->progress.wants_stop, err);
    }
    if (r < 0) {
        return r;
    }
    bytes_writer_init(&ram, STATE_SECTION_MAX);
    r = ram_image_write(snapshot->memory, snapshot->fd, SNAPSHOT_RAM_AT,
                        &snapshot->progress, &ram, err);
    if (r == 0) {
        machine_state_finish(&snapshot->stream, &ram, snapshot->section_count);
        r = snapshot->stream.error;
        r = r < 0
                ? err_sys(err, r, "write the machine's state")
                : snapshot_file_finish(snapshot->fd, guest_memory_size(snapshot->memory),
                                       snapshot->stream.data, snapshot->stream.size, err);
    }
    bytes_writer_fini(&ram);
    return r;
}

static void *save_thread(void *context)
{
    struct vmm_snapshot *snapshot = context;
    const uint64_t one = 1;
    int r;
    (void)pthread_setname_np(pthread_self(), "snapshot"); /* for people */
    r = save(snapshot, &snapshot->err);
    snapshot->err.code = r;
    (void)!write(snapshot->done_fd, &one, sizeof(one)); /* cannot block: it was empty */
    return NULL;
}

/* ---- its owner's side ---- */

/* Of one that is active or was set up. */
static void end(struct vmm_snapshot *snapshot)
{
    static const enum vmm_snapshot_status failed[] = {VMM_SNAPSHOT_FAILED,
                                                      VMM_SNAPSHOT_CANCELLED};
    if (snapshot->status == VMM_SNAPSHOT_ACTIVE) {
        (void)pthread_join(snapshot->thread, NULL);
    }
    fd_close(&snapshot->fd);
    bytes_writer_fini(&snapshot->stream);
    snapshot->took_ms = now_ms() - snapshot->began_ms;
    snapshot->status = snapshot->err.code == 0
                           ? VMM_SNAPSHOT_COMPLETED
                           : failed[snapshot->err.code == BERTH_ECLOSED];
}

static void on_done(void *context, uint64_t token, unsigned poll_events)
{
    struct vmm_snapshot *snapshot = context;
    uint64_t ignored;
    (void)token;
    (void)poll_events;
    (void)!read(snapshot->done_fd, &ignored, sizeof(ignored)); /* empties it */
    if (!vmm_snapshot_is_active(snapshot)) {
        return;
    }
    end(snapshot);
    if (snapshot->status == VMM_SNAPSHOT_COMPLETED) {
        log_info("vmm", "the machine is saved",
                 KV_U64("ram_bytes", atomic_load(&snapshot->progress.written_bytes)),
                 KV_U64("ms", snapshot->took_ms));
    } else {
        log_warn("vmm", "the machine could not be saved",
                 KV_STR("why", snapshot->err.text));
    }
    snapshot->events.done(snapshot->events.context, snapshot->status);
}

int vmm_snapshot_new(struct poller *poller,
                     const struct vmm_snapshot_events *events,
                     struct vmm_snapshot **ret_snapshot,
                     struct err *err)
{
    struct vmm_snapshot *snapshot = calloc(1, sizeof(*snapshot));
    if (snapshot == NULL) {
        return err_sys(err, -ENOMEM, "prepare snapshots");
    }
    snapshot->poller = poller;
    snapshot->events = *events;
    snapshot->fd = -1;
    snapshot->done_watch = -1;
    bytes_writer_init(&snapshot->stream, SNAPSHOT_STATE_MAX);
    snapshot->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int r = snapshot->done_fd < 0 ? -errno : 0;
    if (r == 0) {
        snapshot->done_watch =
            poller_add(poller, snapshot->done_fd, POLLER_READABLE, on_done, snapshot, 0);
        r = snapshot->done_watch;
    }
    if (r < 0) {
        vmm_snapshot_free(snapshot);
        return err_sys(err, r, "prepare snapshots");
    }
    *ret_snapshot = snapshot;
    return 0;
}

static void done_tell(struct vmm_snapshot *snapshot)
{
    const uint64_t one = 1;
    (void)!write(snapshot->done_fd, &one, sizeof(one)); /* cannot block: far from full */
}

static void begun(struct vmm_snapshot *snapshot, struct machine *machine)
{
    snapshot->machine = machine;
    snapshot->memory = machine_memory(machine);
    snapshot->total_bytes = guest_memory_size(snapshot->memory);
    snapshot->began_ms = now_ms();
    snapshot->err = (struct err){0};
    atomic_store(&snapshot->progress.seen_bytes, 0);
    atomic_store(&snapshot->progress.written_bytes, 0);
    atomic_store(&snapshot->progress.wants_stop, false);
}

/* The descriptor stays the caller's when it fails. */
static int start(struct vmm_snapshot *snapshot, int fd, struct err *err)
{
    int r = machine_save(snapshot->machine, &snapshot->stream, err);
    if (r >= 0) {
        snapshot->section_count = (unsigned)r;
        snapshot->fd = fd;
        r = -pthread_create(&snapshot->thread, NULL, save_thread, snapshot);
        r = r < 0 ? err_sys(err, r, "start a thread") : 0;
    }
    if (r < 0) {
        snapshot->fd = -1;
        bytes_writer_fini(&snapshot->stream);
        return r;
    }
    snapshot->status = VMM_SNAPSHOT_ACTIVE;
    return 0;
}

static int begin_check(const struct vmm_snapshot *snapshot, int fd, struct err *err)
{
    return vmm_snapshot_is_active(snapshot)
               ? err_set(err, BERTH_EBUSY, "the machine is being saved already")
               : snapshot_file_begin(fd, err);
}

int vmm_snapshot_begin(struct vmm_snapshot *snapshot,
                       struct machine *machine,
                       int take_fd,
                       struct err *err)
{
    const int r = begin_check(snapshot, take_fd, err);
    if (r < 0) {
        return r;
    }
    begun(snapshot, machine);
    return start(snapshot, take_fd, err);
}

int vmm_snapshot_await(struct vmm_snapshot *snapshot,
                       struct machine *machine,
                       int take_fd,
                       struct err *err)
{
    const int r = begin_check(snapshot, take_fd, err);
    if (r < 0) {
        return r;
    }
    begun(snapshot, machine);
    snapshot->fd = take_fd;
    snapshot->status = VMM_SNAPSHOT_SETUP;
    return 0;
}

bool vmm_snapshot_go(struct vmm_snapshot *snapshot)
{
    int fd = snapshot->fd;
    if (snapshot->status != VMM_SNAPSHOT_SETUP ||
        atomic_load(&snapshot->progress.wants_stop)) { /* which is about to be told */
        return false;
    }
    const int r = start(snapshot, fd, &snapshot->err);
    if (r < 0) {
        fd_close(&fd);
        snapshot->err.code = r;
        done_tell(snapshot);
    }
    return r == 0;
}

void vmm_snapshot_cancel(struct vmm_snapshot *snapshot)
{
    atomic_store(&snapshot->progress.wants_stop, true);
    if (snapshot->status == VMM_SNAPSHOT_SETUP) {
        snapshot->err.code = err_set(&snapshot->err, BERTH_ECLOSED, "it was cancelled");
        done_tell(snapshot);
    }
}

bool vmm_snapshot_is_active(const struct vmm_snapshot *snapshot)
{
    return snapshot != NULL && (snapshot->status == VMM_SNAPSHOT_SETUP ||
                                snapshot->status == VMM_SNAPSHOT_ACTIVE);
}

void vmm_snapshot_report(const struct vmm_snapshot *snapshot,
                         struct vmm_snapshot_report *ret_report)
{
    const bool is_active = vmm_snapshot_is_active(snapshot);
    *ret_report = (struct vmm_snapshot_report){
        .status = snapshot->status,
        .total_bytes = snapshot->total_bytes,
        .seen_bytes = atomic_load(&snapshot->progress.seen_bytes),
        .written_bytes = atomic_load(&snapshot->progress.written_bytes),
        .took_ms = is_active ? now_ms() - snapshot->began_ms : snapshot->took_ms,
    };
    if (!is_active) {
        ret_report->err = snapshot->err;
    }
}

struct vmm_snapshot *vmm_snapshot_free(struct vmm_snapshot *snapshot)
{
    if (snapshot == NULL) {
        return NULL;
    }
    if (vmm_snapshot_is_active(snapshot)) {
        vmm_snapshot_cancel(snapshot);
        end(snapshot);
    }
    if (snapshot->done_watch >= 0) {
        poller_remove(snapshot->poller, snapshot->done_watch);
    }
    fd_close(&snapshot->done_fd);
    free(snapshot);
    return NULL;
}
