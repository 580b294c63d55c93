#include "fence/fence_loop.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/require.h"
#include "fence/fence_hold.h"
#include "fence/fence_socket.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define ROOM          "fence"
#define EVENTS_MAX    64
#define MESSAGES_TURN 32 /* of one connection, before deadlines are looked at again */

/* What a descriptor in the epoll set is; the rest of the word is its index. */
enum source {
    SOURCE_LISTENER = 0,
    SOURCE_SIGNALS,
    SOURCE_TIMER,
    SOURCE_CLIENT,
    SOURCE_VM
};
#define SOURCE_SHIFT 32

struct fence_loop {
    struct fence_core core;
    struct fence_hold holds[FENCE_VMS_MAX]; /* beside core.vms */
    int clients[FENCE_CLIENTS_MAX];         /* -1: free */
    unsigned client_count;
    struct fence_watchdog watchdog;
    uint64_t pet_ns; /* when it was last fed */
    uint64_t idle_ns;
    uint64_t idle_since_ns;
    uint64_t froze_total, resumed_total, killed_total;
    uint32_t shields;
    bool overdue_told;
    bool ending;
    int epoll, listener, signals, timer, lock;
    char folder[108]; /* as long as a socket's path can be */
};

static uint64_t now(void)
{
    return clock_now_ns(clock_system()); /* CLOCK_BOOTTIME */
}

/* ---- connections ---- */

static void client_close(struct fence_loop *loop, unsigned index)
{
    fd_close(&loop->clients[index]);
    loop->client_count--;
}

/* One that does not read is let go: it may come back and ask for the state. */
static void
client_send(struct fence_loop *loop, unsigned index, const struct fence_message *message)
{
    if (fence_socket_send(loop->clients[index], message, NULL, 0) != 0) {
        client_close(loop, index);
    }
}

static void tell(struct fence_loop *loop, enum fence_event_kind kind, unsigned count)
{
    const struct fence_message event = {
        .type = FENCE_EVENT,
        .body.event = {.kind = kind, .count = count},
    };
    for (unsigned i = 0; i < FENCE_CLIENTS_MAX; i++) {
        if (loop->clients[i] >= 0) {
            client_send(loop, i, &event);
        }
    }
}

static int source_add(struct fence_loop *loop, int fd, enum source source, unsigned index)
{
    struct epoll_event event = {
        .events = EPOLLIN,
        .data.u64 = (uint64_t)source << SOURCE_SHIFT | index,
    };
    return epoll_ctl(loop->epoll, EPOLL_CTL_ADD, fd, &event) == 0 ? 0 : -errno;
}

/* A pidfd is closed only after it has left the set: berthd may hold the same open file,
 * where it was stopped between giving it and closing it. The set would keep it, and
 * report the end of its process again and again, for nobody to take it out any more. */
static void hold_close(struct fence_loop *loop, struct fence_hold *hold)
{
    if (hold->pidfd >= 0) {
        (void)epoll_ctl(loop->epoll, EPOLL_CTL_DEL, hold->pidfd, NULL); /* if it is in */
    }
    fence_hold_close(hold);
}

static void client_accept(struct fence_loop *loop)
{
    int fd = fence_socket_accept(loop->listener);
    for (unsigned i = 0; fd >= 0 && i < FENCE_CLIENTS_MAX; i++) {
        if (loop->clients[i] < 0 && source_add(loop, fd, SOURCE_CLIENT, i) == 0) {
            loop->clients[i] = TAKE_FD(fd);
            loop->client_count++;
        }
    }
    if (fd >= 0) {
        fd_close(&fd); /* too many */
    }
}

/* ---- requests ---- */

static void vm_remove(struct fence_loop *loop, unsigned slot)
{
    /* A group that stays frozen would hold up this VM's next run in it. */
    (void)fence_hold_thaw(&loop->holds[slot], &loop->core.vms[slot]);
    hold_close(loop, &loop->holds[slot]);
    fence_core_remove(&loop->core, slot);
}

static int
vm_watch(struct fence_loop *loop, const struct fence_watch *watch, int fds[FENCE_FDS_MAX])
{
    struct fence_hold hold;
    struct fence_vm vm;
    int r = fence_hold_take(watch, fds, &hold, &vm);
    if (r != 0) {
        return r;
    }
    int slot = fence_core_watch(&loop->core, &vm);
    if (slot < 0) {
        fence_hold_close(&hold);
        return slot;
    }
    struct fence_hold *held = &loop->holds[slot];
    bool again = held->pidfd >= 0;
    r = source_add(loop, hold.pidfd, SOURCE_VM, (unsigned)slot);
    if (r != 0) {
        fence_hold_close(&hold);
        if (!again) {
            fence_core_remove(&loop->core, (unsigned)slot);
        }
        return r;
    }
    if (again) { /* its group may be another one now */
        hold_close(loop, held);
    }
    *held = hold;
    loop->core.vms[slot].frozen = vm.frozen;
    loop->core.vms[slot].stopped = vm.stopped;
    return 0;
}

static int vm_drop(struct fence_loop *loop, const struct fence_drop *drop)
{
    int slot = fence_core_find(&loop->core, drop->uid, drop->epoch);
    if (slot >= 0) {
        vm_remove(loop, (unsigned)slot);
    }
    return 0; /* what has ended was dropped already */
}

static int vm_kill(struct fence_loop *loop, const struct fence_kill *kill)
{
    int slot = fence_core_find(&loop->core, kill->uid, kill->epoch);
    if (slot >= 0) {
        loop->killed_total += fence_hold_kill(&loop->holds[slot], &loop->core.vms[slot]);
        fence_hold_kill_group(&loop->holds[slot], &loop->core.vms[slot]);
    }
    return slot < 0 ? slot : 0;
}

static int end(struct fence_loop *loop)
{
    if (loop->core.count > 0) {
        return BERTH_EINUSE;
    }
    loop->ending = true;
    return 0;
}

static uint32_t watchdog_flags(const struct fence_loop *loop)
{
    if (loop->watchdog.fd < 0) {
        return 0;
    }
    uint64_t timeout_ns = loop->watchdog.timeout_ms * NS_PER_MS;
    return FENCE_HAS_WATCHDOG | (fence_core_watchdog_in_time(&loop->core, timeout_ns)
                                     ? FENCE_HAS_WATCHDOG_IN_TIME
                                     : 0);
}

static void state_fill(const struct fence_loop *loop, struct fence_state *ret_state)
{
    unsigned frozen = 0;
    for (unsigned i = 0; i < loop->core.top; i++) {
        frozen += loop->core.vms[i].frozen || loop->core.vms[i].stopped;
    }
    *ret_state = (struct fence_state){
        .pid = (uint32_t)getpid(),
        .flags = loop->shields | watchdog_flags(loop),
        .length_ns = loop->core.rules.length_ns,
        .watchdog_ms = loop->watchdog.fd < 0 ? 0 : loop->watchdog.timeout_ms,
        .phase = fence_core_phase(&loop->core, now()),
        .granted_ns = loop->core.granted_ns,
        .watched = loop->core.count,
        .frozen = frozen,
        .froze_total = loop->froze_total,
        .resumed_total = loop->resumed_total,
        .killed_total = loop->killed_total,
    };
}

static void
page_fill(const struct fence_loop *loop, uint32_t slot, struct fence_page *page)
{
    for (; slot < loop->core.top; slot++) {
        const struct fence_vm *vm = &loop->core.vms[slot];
        if (vm->uid == 0) {
            continue;
        }
        if (page->count == FENCE_PAGE_VMS) {
            page->next = slot;
            return;
        }
        page->entries[page->count++] = (struct fence_entry){
            .uid = vm->uid,
            .epoch = vm->epoch,
            .start_ticks = vm->start_ticks,
            .pid = (uint32_t)vm->pid,
            .flags = (vm->frozen || vm->stopped ? FENCE_VM_FROZEN : 0) |
                     (vm->killed ? FENCE_VM_KILLED : 0),
        };
    }
}

/* The answer to a request; BERTH_EPROTO for what is none. */
static int answer(struct fence_loop *loop,
                  const struct fence_message *request,
                  int fds[FENCE_FDS_MAX],
                  struct fence_message *ret_answer)
{
    int r;
    *ret_answer = (struct fence_message){.type = FENCE_REPLY, .tag = request->tag};
    switch (request->type) {
    case FENCE_HELLO:
        ret_answer->type = FENCE_STATE;
        state_fill(loop, &ret_answer->body.state);
        return 0;
    case FENCE_LIST:
        ret_answer->type = FENCE_PAGE;
        page_fill(loop, request->body.list.slot, &ret_answer->body.page);
        return 0;
    case FENCE_WATCH:
        r = vm_watch(loop, &request->body.watch, fds);
        break;
    case FENCE_DROP:
        r = vm_drop(loop, &request->body.drop);
        break;
    case FENCE_KILL:
        r = vm_kill(loop, &request->body.kill);
        break;
    case FENCE_LEASE:
        r = fence_core_lease(&loop->core, request->body.lease.granted_ns, now());
        break;
    case FENCE_END:
        r = end(loop);
        break;
    default:
        return BERTH_EPROTO;
    }
    ret_answer->body.reply.code = r < 0 ? (uint32_t)-r : 0;
    return 0;
}

static void client_read(struct fence_loop *loop, unsigned index)
{
    for (unsigned i = 0; i < MESSAGES_TURN && loop->clients[index] >= 0; i++) {
        struct fence_message request;
        struct fence_message reply;
        int fds[FENCE_FDS_MAX];
        int r = fence_socket_receive(loop->clients[index], &request, fds);
        if (r == -EAGAIN) {
            return;
        }
        if (r == BERTH_EUNSUPPORTED) { /* so that it learns what it talks to */
            reply = (struct fence_message){.type = FENCE_REPLY,
                                           .body.reply.code = -BERTH_EUNSUPPORTED};
            client_send(loop, index, &reply);
            if (loop->clients[index] >= 0) {
                client_close(loop, index);
            }
            return;
        }
        r = r != 0 ? r : answer(loop, &request, fds, &reply);
        for (unsigned j = 0; j < FENCE_FDS_MAX; j++) {
            fd_close(&fds[j]); /* what the answer has not taken */
        }
        if (r != 0) {
            client_close(loop, index);
            return;
        }
        client_send(loop, index, &reply);
    }
}

/* ---- what is due ---- */

static void thaw_all(struct fence_loop *loop)
{
    unsigned count = 0;
    for (unsigned i = 0; i < loop->core.top; i++) {
        count += fence_hold_thaw(&loop->holds[i], &loop->core.vms[i]);
    }
    loop->resumed_total += count;
    if (count > 0) {
        tell(loop, FENCE_EVENT_RESUMED, count);
    }
}

static void freeze_all(struct fence_loop *loop)
{
    unsigned count = 0;
    for (unsigned i = 0; i < loop->core.top; i++) {
        struct fence_vm *vm = &loop->core.vms[i];
        count += vm->uid != 0 && fence_hold_freeze(&loop->holds[i], vm);
    }
    loop->froze_total += count;
    if (count > 0) {
        tell(loop, FENCE_EVENT_FROZE, count);
    }
}

/* The signals first, to all: files of control groups may have to wait for a lock. */
static void kill_all(struct fence_loop *loop)
{
    unsigned count = 0;
    for (unsigned i = 0; i < loop->core.top; i++) {
        struct fence_vm *vm = &loop->core.vms[i];
        count += vm->uid != 0 && fence_hold_kill(&loop->holds[i], vm);
    }
    for (unsigned i = 0; i < loop->core.top; i++) {
        if (loop->core.vms[i].uid != 0) {
            fence_hold_kill_group(&loop->holds[i], &loop->core.vms[i]);
        }
    }
    loop->killed_total += count;
    if (count > 0) {
        tell(loop, FENCE_EVENT_KILLED, count);
    }
}

static void overdue_tell(struct fence_loop *loop, enum fence_phase phase)
{
    bool overdue = phase == FENCE_PHASE_OVERDUE && loop->core.count > 0;
    if (overdue && !loop->overdue_told) {
        tell(loop, FENCE_EVENT_OVERDUE, loop->core.count);
    }
    loop->overdue_told = overdue;
}

/* When the watchdog is to be looked at again; UINT64_MAX without one. */
static uint64_t watchdog_tend(struct fence_loop *loop, uint64_t now_ns)
{
    if (loop->watchdog.fd < 0) {
        return UINT64_MAX;
    }
    uint64_t timeout_ns = loop->watchdog.timeout_ms * NS_PER_MS;
    uint64_t next_ns = fence_core_next_pet_ns(&loop->core, timeout_ns, loop->pet_ns);
    if (now_ns < next_ns) {
        return next_ns;
    }
    if (fence_core_may_pet(&loop->core, timeout_ns, now_ns)) {
        fence_watchdog_feed(&loop->watchdog);
        loop->pet_ns = now_ns;
        return fence_core_next_pet_ns(&loop->core, timeout_ns, now_ns);
    }
    if (!fence_core_watchdog_in_time(&loop->core, timeout_ns)) {
        fence_watchdog_starve(&loop->watchdog); /* the sooner the better */
    }
    return now_ns + FENCE_RETRY_NS; /* hoping for a renewal, or for the VMs' ends */
}

/* Does what is due now; when to wake next. */
static uint64_t act(struct fence_loop *loop)
{
    uint64_t now_ns = now();
    enum fence_phase phase = fence_core_phase(&loop->core, now_ns);
    switch (phase) {
    case FENCE_PHASE_RUN:
        thaw_all(loop);
        break;
    case FENCE_PHASE_FREEZE:
        freeze_all(loop);
        break;
    default:
        kill_all(loop);
        break;
    }
    overdue_tell(loop, phase);
    uint64_t wake_ns = fence_core_next_ns(&loop->core, now_ns);
    uint64_t pet_ns = watchdog_tend(loop, now_ns);
    wake_ns = pet_ns < wake_ns ? pet_ns : wake_ns;
    if (loop->core.count > 0 || loop->client_count > 0) {
        loop->idle_since_ns = now_ns;
    } else if (now_ns - loop->idle_since_ns >= loop->idle_ns) {
        loop->ending = true;
    } else if (loop->idle_since_ns + loop->idle_ns < wake_ns) {
        wake_ns = loop->idle_since_ns + loop->idle_ns;
    }
    return wake_ns;
}

static void timer_arm(struct fence_loop *loop, uint64_t wake_ns)
{
    struct itimerspec at = {0}; /* all zero: not at all */
    if (wake_ns != UINT64_MAX) {
        at.it_value.tv_sec = (time_t)(wake_ns / NS_PER_S);
        at.it_value.tv_nsec = (long)(wake_ns % NS_PER_S);
        at.it_value.tv_nsec += wake_ns == 0;
    }
    REQUIRE(timerfd_settime(loop->timer, TFD_TIMER_ABSTIME, &at, NULL) == 0);
}

/* ---- the turn ---- */

static void vm_look(struct fence_loop *loop, unsigned slot)
{
    /* The news may be of a process that had this slot before. */
    if (loop->core.vms[slot].uid != 0 && fence_hold_is_over(&loop->holds[slot])) {
        vm_remove(loop, slot);
    }
}

static void dispatch(struct fence_loop *loop, uint64_t word)
{
    unsigned index = (unsigned)(word & UINT32_MAX);
    uint64_t expirations;
    switch ((enum source)(word >> SOURCE_SHIFT)) {
    case SOURCE_LISTENER:
        client_accept(loop);
        break;
    case SOURCE_SIGNALS:
        loop->ending = true;
        break;
    case SOURCE_TIMER:
        if (read(loop->timer, &expirations, sizeof(expirations)) < 0) {
            return; /* set anew in the meantime */
        }
        break;
    case SOURCE_CLIENT:
        if (loop->clients[index] >= 0) {
            client_read(loop, index);
        }
        break;
    case SOURCE_VM:
        vm_look(loop, index);
        break;
    }
}

static void turn(struct fence_loop *loop)
{
    struct epoll_event events[EVENTS_MAX];
    timer_arm(loop, act(loop));
    int count = loop->ending ? 0 : epoll_wait(loop->epoll, events, EVENTS_MAX, -1);
    for (int i = 0; i < count; i++) {
        dispatch(loop, events[i].data.u64);
    }
}

/* ---- beginning and end ---- */

static int lock_take(struct fence_loop *loop, struct err *err)
{
    CLEANUP_FREE char *path = NULL;
    if (asprintf(&path, "%s/" FENCE_LOCK_FILE, loop->folder) < 0) {
        return err_sys(err, -ENOMEM, "lock %s", loop->folder);
    }
    loop->lock = fd_open_at(AT_FDCWD, path, O_RDWR | O_CREAT, 0600, err);
    if (loop->lock < 0) {
        return loop->lock;
    }
    if (flock(loop->lock, LOCK_EX | LOCK_NB) != 0) {
        return errno == EWOULDBLOCK
                   ? err_set(err, BERTH_EEXISTS, "%s has a fence already", loop->folder)
                   : err_sys(err, -errno, "lock %s", path);
    }
    return 0;
}

static int sources_open(struct fence_loop *loop, struct err *err)
{
    sigset_t signals;
    (void)sigemptyset(&signals);
    (void)sigaddset(&signals, SIGTERM);
    (void)sigaddset(&signals, SIGINT);
    REQUIRE(pthread_sigmask(SIG_BLOCK, &signals, NULL) == 0);
    loop->signals = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
    loop->timer = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK);
    loop->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (loop->signals < 0 || loop->timer < 0 || loop->epoll < 0) {
        return err_sys(err, -errno, "start the fence");
    }
    loop->listener = fence_socket_listen(loop->folder, err);
    if (loop->listener < 0) {
        return loop->listener;
    }
    int r = source_add(loop, loop->listener, SOURCE_LISTENER, 0);
    r = r != 0 ? r : source_add(loop, loop->signals, SOURCE_SIGNALS, 0);
    r = r != 0 ? r : source_add(loop, loop->timer, SOURCE_TIMER, 0);
    return r == 0 ? 0 : err_sys(err, r, "start the fence");
}

static struct fence_loop *loop_new(const struct fence_config *config)
{
    struct fence_loop *loop = calloc(1, sizeof(*loop));
    if (loop == NULL) {
        return NULL;
    }
    fence_core_init(&loop->core, &config->rules);
    for (unsigned i = 0; i < FENCE_VMS_MAX; i++) {
        loop->holds[i] = FENCE_HOLD_EMPTY;
    }
    memset(loop->clients, -1, sizeof(loop->clients));
    loop->watchdog = config->watchdog;
    loop->shields = config->shields;
    loop->idle_ns = config->idle_ms * NS_PER_MS;
    loop->idle_since_ns = loop->pet_ns = now();
    loop->epoll = loop->listener = loop->signals = loop->timer = loop->lock = -1;
    return loop;
}

static struct fence_loop *loop_free(struct fence_loop *loop)
{
    fence_watchdog_close(&loop->watchdog);
    for (unsigned i = 0; i < FENCE_VMS_MAX; i++) {
        fence_hold_close(&loop->holds[i]);
    }
    for (unsigned i = 0; i < FENCE_CLIENTS_MAX; i++) {
        fd_close(&loop->clients[i]);
    }
    if (loop->listener >= 0) {
        char path[sizeof(loop->folder) + sizeof(FENCE_SOCKET_FILE) + 1];
        (void)snprintf(path, sizeof(path), "%s/" FENCE_SOCKET_FILE,
                       loop->folder); /* fits */
        (void)unlink(path);           /* ours: the lock is still held */
    }
    fd_close(&loop->listener);
    fd_close(&loop->epoll);
    fd_close(&loop->signals);
    fd_close(&loop->timer);
    fd_close(&loop->lock);
    free(loop);
    return NULL;
}

int fence_loop_run(const struct fence_config *config, struct err *err)
{
    struct fence_loop *loop = loop_new(config);
    if (loop == NULL) {
        return err_sys(err, -ENOMEM, "start the fence");
    }
    size_t size = sizeof(loop->folder);
    int r = (size_t)snprintf(loop->folder, size, "%s", config->folder) < size
                ? lock_take(loop, err)
                : err_set(err, -ENAMETOOLONG, "%s: path too long", config->folder);
    r = r != 0 ? r : sources_open(loop, err);
    if (r == 0) {
        log_info(ROOM, "the fence stands", KV_STR("folder", config->folder),
                 KV_I64("pid", getpid()),
                 KV_U64("lease_ms", config->rules.length_ns / NS_PER_MS));
        while (!loop->ending) {
            turn(loop);
        }
        log_info(ROOM, "the fence has ended", KV_STR("folder", config->folder),
                 KV_U64("watched", loop->core.count));
    }
    loop_free(loop);
    return r;
}
