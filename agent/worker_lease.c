/* How long a host may run what: lease, term and fence. */
#include "agent/worker_parts.h"
#include "base/cleanup.h"
#include "base/digest.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- the lease ---- */

/* "BOOT_ID GRANTED_NS TERM SUM\n", each at its place. */
#define BOOT_ID_SIZE     36
#define LEASE_GRANTED_AT 37
#define LEASE_TERM_AT    58
#define LEASE_SUM_AT     79 /* the sum is over what stands before it */
#define LEASE_SIZE       88

static void boot_id_read(struct worker *worker)
{
    CLEANUP_FREE uint8_t *text = NULL;
    size_t size = 0;
    if (fd_read_file(AT_FDCWD, "/proc/sys/kernel/random/boot_id", 64, &text, &size,
                     NULL) == 0) {
        (void)snprintf(worker->boot_id, sizeof(worker->boot_id), "%.36s", (char *)text);
    }
}

/* A restarted daemon has to find both: it would lose the lease its VMs run under, or
 * obey an earlier leader. A loss of power may take the grant, which is a promise of this
 * boot only; the term is made durable by worker_term_sync. */
static void grant_store(struct worker *worker)
{
    char text[128];
    int size = snprintf(text, sizeof(text), "%-36s %020llu %020llu ", worker->boot_id,
                        (unsigned long long)lease_granted_ns(&worker->lease),
                        (unsigned long long)worker->leader_term);
    size += snprintf(text + size, sizeof(text) - (size_t)size, "%08x\n",
                     (unsigned)crc32c(0, text, (size_t)size));
    ssize_t written = pwrite(worker->lease_fd, text, (size_t)size, 0);
    if (written == size) {
        worker->term_written = worker->leader_term;
    } else { /* tried again with the next grant */
        log_warn("worker", "lease and term cannot be written down",
                 KV_STR("why", err_sentence(written < 0 ? -errno : -EIO)));
    }
}

static void term_sync_failed(struct worker *worker)
{
    worker->term_sync_ms = clock_now_ms(worker->config.clock) + WORKER_TERM_SYNC_MS;
    log_warn("worker", "a new leader's term cannot be made durable: no VM is started");
}

static void term_sync_run(struct work_job *job)
{
    struct worker *worker = LIST_ITEM(job, struct worker, term_job);
    worker->term_sync_code = fdatasync(worker->lease_fd) == 0 ? 0 : -errno;
}

static void term_sync_done(struct work_job *job, int code)
{
    struct worker *worker = LIST_ITEM(job, struct worker, term_job);
    worker->term_syncing = false;
    if (code < 0 || worker->term_sync_code < 0) {
        term_sync_failed(worker);
        return;
    }
    worker->term_synced = worker->term_syncing_term;
    if (worker_term_sync(worker)) { /* and nobody newer leads meanwhile */
        loop_post_send(worker->reconcile_post);
    }
}

/* The term keeps orders of an earlier leader from a host that comes back: nothing is
 * started by a new one before it is on the disk. That may be slow: heartbeats and the
 * lease, which is renewed before, go on. Not soon again when it fails. */
bool worker_term_sync(struct worker *worker)
{
    if (worker->term_synced == worker->leader_term) {
        return true;
    }
    if (worker->term_syncing ||
        clock_now_ms(worker->config.clock) < worker->term_sync_ms) {
        return false;
    }
    if (worker->term_written != worker->leader_term) {
        term_sync_failed(worker);
        return false;
    }
    worker->term_syncing = true;
    worker->term_syncing_term = worker->term_written;
    work_pool_submit(worker->disk, &worker->term_job, term_sync_run, term_sync_done);
    return false;
}

int worker_grant_load(struct worker *worker, struct err *err)
{
    CLEANUP_FREE char *path = NULL;
    char text[LEASE_SIZE + 1] = "";
    if (asprintf(&path, "%s/lease", worker->config.identity->folder) < 0) {
        return err_sys(err, -ENOMEM, "open lease");
    }
    worker->lease_fd = fd_open_at(AT_FDCWD, path, O_RDWR | O_CREAT, 0600, err);
    if (worker->lease_fd < 0) {
        return worker->lease_fd;
    }
    boot_id_read(worker);
    ssize_t size = fd_read_full(worker->lease_fd, text, sizeof(text) - 1);
    if (size <= 0) { /* its name has to outlive a loss of power, too */
        return fd_sync_folder(worker->config.identity->folder, err);
    }
    if (size != LEASE_SIZE ||
        strtoull(text + LEASE_SUM_AT, NULL, 16) != crc32c(0, text, LEASE_SUM_AT)) {
        log_warn("worker", "lease that was written down is damaged: it counts as over");
        return 0;
    }
    uint64_t granted_ns = strtoull(text + LEASE_GRANTED_AT, NULL, 10);
    /* The log's terms go on after a boot, unlike grants. */
    worker->leader_term = strtoull(text + LEASE_TERM_AT, NULL, 10);
    worker->term_written = worker->leader_term;
    if (strncmp(text, worker->boot_id, BOOT_ID_SIZE) == 0 && granted_ns != 0) {
        lease_restore(&worker->lease, granted_ns, clock_now_ns(worker->config.clock));
    }
    return 0;
}

/* The next look may come too late for it. */
static void lease_check_in_time(struct worker *worker)
{
    uint64_t now_ns = clock_now_ns(worker->config.clock);
    uint64_t wait_ms =
        (lease_next_change_ns(&worker->lease, now_ns) - now_ns) / NS_PER_MS + 1;
    loop_timer_again(worker->lease_timer, wait_ms, 0);
}

void worker_lease_check(void *context)
{
    struct worker *worker = context;
    enum lease_state state =
        lease_state(&worker->lease, clock_now_ns(worker->config.clock));
    if (state == LEASE_KILL) {
        /* Again at every look: a VM may have come back to life by adoption meanwhile. */
        unsigned killed = vm_supervisor_kill_all(
            worker->supervisor, "the host lost contact and its lease ended");
        if (killed > 0) {
            log_warn("worker", "lease is over, VMs were ended", KV_U64("vms", killed));
        }
    } else if (state == LEASE_PAUSE && worker->lease_state != LEASE_PAUSE) {
        log_warn("worker", "lease runs out, VMs are frozen",
                 KV_U64("vms", vm_supervisor_freeze_all(worker->supervisor)));
    } else if (state == LEASE_OK) {
        /* At every look: VMs taken over from an earlier run may have been frozen by it.
         */
        unsigned resumed = vm_supervisor_resume_all(worker->supervisor);
        if (resumed > 0) {
            log_info("worker", "lease holds, frozen VMs go on", KV_U64("vms", resumed));
        }
    }
    worker->lease_state = state;
    lease_check_in_time(worker);
}

void worker_lease_find(struct worker *worker, uint64_t granted_ns)
{
    if (granted_ns > lease_granted_ns(&worker->lease)) {
        lease_restore(&worker->lease, granted_ns, clock_now_ns(worker->config.clock));
        if (lease_granted_ns(&worker->lease) == granted_ns) {
            worker->lease_found = true; /* and not refused, as one of the future is */
        }
    }
}

/* The fence is there (again): the lease comes first, for without one it would kill. */
void worker_fence_connected(void *context)
{
    struct worker *worker = context;
    worker_lease_find(worker, fence_client_granted_ns(worker->fence));
    uint64_t granted_ns = lease_granted_ns(&worker->lease);
    if (granted_ns != 0) {
        fence_client_lease(worker->fence, granted_ns);
    }
    vm_supervisor_watch_all(worker->supervisor);
    loop_post_send(worker->reconcile_post);
}

bool worker_fence_is_known(void *context, const struct fence_entry *entry)
{
    const struct worker *worker = context;
    return vm_supervisor_knows(worker->supervisor, entry->uid, entry->epoch,
                               (pid_t)entry->pid);
}

/* Enough left that a start is over, or frozen in time, before anybody else may start the
 * VM; a fence that sees to it; and orders of the leader that grants it: a new one may
 * grant before its orders are here, and older ones may name a VM that runs elsewhere by
 * now; a loss of power must not bring those back. Whose a grant was that only the fence
 * remembers is not known: what runs goes on under it, and nothing begins. */
bool worker_may_start(const struct worker *worker)
{
    uint64_t now_ns = clock_now_ns(worker->config.clock);
    return (worker->fence == NULL || fence_client_ready(worker->fence)) &&
           worker->orders.term == worker->leader_term &&
           worker->term_synced == worker->leader_term && !worker->lease_found &&
           lease_state(&worker->lease, now_ns) == LEASE_OK &&
           lease_may_run(&worker->lease, now_ns + WORKER_START_LEASE_MS * NS_PER_MS);
}

/* Written down at once: from now on nobody of an earlier term has a say here. */
void worker_take_term(struct worker *worker, uint64_t term)
{
    if (term > worker->leader_term) {
        worker->leader_term = term;
        grant_store(worker);
    }
}

void worker_take_revision(struct worker *worker, uint64_t revision)
{
    if (revision > worker->revision_told) {
        worker->revision_told = revision;
    }
}

void worker_on_ack(struct worker *worker,
                   const struct msg_member *from,
                   const struct msg_ack *ack)
{
    if (ack->boot != worker->boot || !worker_may_follow(from) ||
        ack->term < worker->leader_term) {
        return;
    }
    worker->leader = from->uid;
    worker_take_term(worker, ack->term);
    worker->ack_ms = clock_now_ms(worker->config.clock);
    worker->ack_term = ack->term;
    worker_take_revision(worker, ack->revision);
    worker->config.level_told(worker->config.context, ack->level);
    bool was_ok = worker->lease_state == LEASE_OK;
    if (lease_ack(&worker->lease, ack->sequence)) {
        worker->lease_found = false;
        loop_timer_defer(worker->heartbeat_timer);
        grant_store(worker);
        if (worker->fence != NULL) {
            fence_client_lease(worker->fence, lease_granted_ns(&worker->lease));
        }
        worker_lease_check(worker);
        if (!was_ok) {
            loop_post_send(worker->reconcile_post);
        }
    }
    (void)worker_term_sync(worker);
}

/* Who leads, when it is one that this host would not follow: it has been away, or its
 * table was not on the disk yet. From the next heartbeat on that one is asked, too. The
 * rules are members_learn's, and two more: the newest leader known here may be newer than
 * the table, and nobody has to tell us of ourselves. The term is not taken over: that is
 * left to the leader's own word. */
static void leader_learn(struct worker *worker,
                         const struct msg_member *from,
                         const struct msg_not_leader *answer)
{
    bool changed = false;
    struct err err;
    if (answer->leader == 0 || answer->member.uid != answer->leader ||
        answer->leader == worker->config.identity->uid ||
        answer->term < worker->leader_term) {
        return;
    }
    if (members_learn(worker->config.members, &answer->member, answer->term, &changed,
                      &err) < 0 &&
        worker->refused_term != answer->term) {
        worker->refused_term = answer->term;
        log_warn("worker", "a voter's word for who leads was refused",
                 KV_STR("from", from->name), KV_STR("why", err.text));
    }
    if (changed) {
        log_info("worker", "a voter says who leads: it is not known here as one that may",
                 KV_STR("from", from->name), KV_STR("leader", answer->member.name),
                 KV_U64("term", answer->term));
        worker->config.members_changed(worker->config.context);
    }
}

/* While the named one does not answer itself voters are asked, and say so again; else a
 * term that nobody reaches would stand above every leader's. */
static bool said_holds(const struct worker *worker)
{
    return worker->said_leader != 0 &&
           clock_now_ms(worker->config.clock) - worker->said_ms <= WORKER_SILENCE_MS;
}

static void said_take(struct worker *worker,
                      const struct msg_member *from,
                      const struct msg_not_leader *answer)
{
    if (worker_may_follow(from) && answer->leader != 0 &&
        answer->leader != worker->config.identity->uid &&
        answer->term >= worker->leader_term &&
        (answer->term >= worker->said_term || !said_holds(worker))) {
        worker->said_leader = answer->leader;
        worker->said_term = answer->term;
        worker->said_ms = clock_now_ms(worker->config.clock);
    }
}

/* From a voter, of another; or a new leader's own word, at once and unasked. */
void worker_on_not_leader(struct worker *worker,
                          const struct msg_member *from,
                          const struct msg_not_leader *answer)
{
    bool leads_now = answer->leader == from->uid && answer->term > worker->ack_term &&
                     worker_may_follow(from);
    if (worker->leader == from->uid || leads_now) {
        worker->leader = 0; /* the next heartbeat asks all voters */
    }
    said_take(worker, from, answer);
    if (worker_leader(worker) == 0 && worker_may_follow(from)) {
        leader_learn(worker, from, answer);
    } /* else the leader itself says more, or the answer is nobody's that may lead */
}

/* Believed of the leader alone, and only when it is so by our own range. */
void worker_on_outdated(struct worker *worker,
                        const struct msg_member *from,
                        const struct msg_outdated *outdated)
{
    if (worker_may_follow(from) && outdated->term >= worker->leader_term &&
        !level_in_range(worker->config.levels, outdated->level)) {
        worker->config.level_told(worker->config.context, outdated->level);
    }
}

uint64_t worker_leader(const struct worker *worker)
{
    bool silent = clock_now_ms(worker->config.clock) - worker->ack_ms > WORKER_SILENCE_MS;
    return silent ? 0 : worker->leader;
}

uint64_t worker_leader_asked(const struct worker *worker)
{
    return worker->said_term > worker->ack_term && said_holds(worker)
               ? worker->said_leader
               : worker_leader(worker);
}
