#include "agent/fence_client.h"

#include "agent/program_path.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/require.h"
#include "fence/fence_core.h"
#include "fence/fence_socket.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <time.h>
#include <unistd.h>

#define ROOM          "agent"
#define RETRY_MS      100  /* between two attempts to reach it */
#define START_MS      1000 /* between two attempts to start it */
#define SILENCES_MAX  3    /* answers that did not come before it is killed */
#define CHECK_MS      1000 /* is it still there? also asked when no lease is renewed */
#define END_ROUNDS    250
#define END_ROUND_MS  20
#define LOG_FILE      "fence.log"
#define OOM_SCORE_ADJ (-1000)

/* Lives until libuv has let go of the descriptor. */
struct connection {
    uv_poll_t poll; /* data: the connection */
    struct fence_client *client;
    int fd;
};

struct fence_client {
    struct fence_client_config config;
    char folder[PATH_MAX];
    char lease_text[24];           /* arguments of the program */
    struct connection *connection; /* NULL: not there */
    int pidfd;                     /* of the last one that was connected; -1: none */
    struct vm_process *process;    /* started by us and alive */
    struct loop_timer *timer;      /* attempts, then checks */
    struct fence_state state;      /* as it last said */
    uint64_t started_ns;           /* of the last start; 0: never */
    uint32_t tag;
    unsigned silences;
    uint64_t opened_ns;
    bool ready;
    bool was_ready; /* says its absence once */
    bool has_gone;  /* since the client was opened: it ended, or cannot be started */
};

static uint64_t now_ns(void)
{
    return clock_now_ns(clock_system());
}

/* ---- the connection ---- */

static void free_connection(uv_handle_t *handle)
{
    struct connection *connection = handle->data;
    fd_close(&connection->fd);
    free(connection);
}

static void disconnect(struct fence_client *client, const char *why)
{
    struct connection *connection = client->connection;
    if (connection == NULL) {
        return;
    }
    client->connection = NULL;
    client->has_gone = client->has_gone || client->ready; /* else it is yet to come */
    client->ready = false;
    connection->client = NULL;
    (void)uv_poll_stop(&connection->poll);
    uv_close((uv_handle_t *)&connection->poll, free_connection);
    loop_timer_again(client->timer, RETRY_MS, RETRY_MS);
    log_warn(ROOM, "the fence is out of reach; VMs are fenced by this daemon alone",
             KV_STR("why", why));
}

static void event_log(const struct fence_event *event)
{
    static const char *const names[] = {
        [FENCE_EVENT_FROZE] = "the fence froze VMs: the lease runs out",
        [FENCE_EVENT_RESUMED] = "the fence lets VMs go on: the lease was renewed",
        [FENCE_EVENT_KILLED] = "the fence ended VMs: the lease is over",
        [FENCE_EVENT_OVERDUE] = "VMs outlive their lease: the fence cannot end them",
    };
    if (event->kind < FENCE_EVENT_FROZE || event->kind > FENCE_EVENT_OVERDUE) {
        return; /* of a newer one */
    }
    log_line(event->kind == FENCE_EVENT_RESUMED ? LOG_LEVEL_INFO : LOG_LEVEL_WARN, ROOM,
             names[event->kind], 1, &KV_U64("vms", event->count));
}

/* One message; an event is logged. -EAGAIN: none is there. */
static int receive(struct fence_client *client, struct fence_message *ret_message)
{
    int fds[FENCE_FDS_MAX];
    int r = fence_socket_receive(client->connection->fd, ret_message, fds);
    for (unsigned i = 0; r == 0 && i < FENCE_FDS_MAX; i++) {
        fd_close(&fds[i]); /* it has none to give */
    }
    if (r == 0 && ret_message->type == FENCE_EVENT) {
        event_log(&ret_message->body.event);
    }
    return r;
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
    struct connection *connection = poll->data;
    struct fence_client *client = connection->client;
    struct fence_message message;
    (void)status; /* reading tells */
    (void)events;
    int r = 0;
    while (r == 0) {
        r = receive(client, &message);
    }
    if (r != -EAGAIN) {
        disconnect(client, r == -ECONNRESET ? "it has ended" : err_sentence(r));
    }
}

/* Waits for the answer with this tag. */
static int
await(struct fence_client *client, uint32_t tag, struct fence_message *ret_answer)
{
    uint64_t deadline_ns = now_ns() + FENCE_CLIENT_ANSWER_MS * NS_PER_MS;
    for (;;) {
        int r = receive(client, ret_answer);
        if (r == 0 && ret_answer->type != FENCE_EVENT && ret_answer->tag == tag) {
            return 0;
        }
        if (r == 0) {
            continue;
        }
        uint64_t at_ns = now_ns();
        if (r != -EAGAIN || at_ns >= deadline_ns) {
            return r == -EAGAIN ? BERTH_ETIMEOUT : r;
        }
        struct pollfd wait = {.fd = client->connection->fd, .events = POLLIN};
        (void)poll(&wait, 1, (int)((deadline_ns - at_ns) / NS_PER_MS) + 1);
    }
}

/* A request and its answer, of this type. Without one the connection is over. */
static int ask(struct fence_client *client,
               struct fence_message *request,
               const int *fds,
               unsigned fd_count,
               enum fence_type answer_type,
               struct fence_message *ret_answer)
{
    if (client->connection == NULL) {
        return BERTH_ECLOSED;
    }
    request->tag = ++client->tag;
    int r = fence_socket_send(client->connection->fd, request, fds, fd_count);
    r = r != 0 ? r : await(client, request->tag, ret_answer);
    r = r == 0 && ret_answer->type != answer_type ? BERTH_EPROTO : r;
    if (r != 0) {
        client->silences += r == BERTH_ETIMEOUT;
        disconnect(client, r == -ECONNRESET ? "it has ended" : err_sentence(r));
        return r;
    }
    client->silences = 0;
    return 0;
}

/* As above for what is answered by a code. */
static int request(struct fence_client *client,
                   struct fence_message *message,
                   const int *fds,
                   unsigned fd_count)
{
    struct fence_message answer;
    int r = ask(client, message, fds, fd_count, FENCE_REPLY, &answer);
    return r != 0 ? r : -(int)answer.body.reply.code;
}

/* ---- what it is told ---- */

int fence_client_watch(struct fence_client *client,
                       uint64_t uid,
                       uint64_t epoch,
                       const struct vm_process_identity *identity,
                       struct err *err)
{
    int fds[FENCE_FDS_MAX] = {-1, -1, -1};
    unsigned count = 1;
    struct resource_fence group = {.freezer = -1, .kill = -1};
    /* First the descriptor, then the check: what is verified is what is handed over. */
    CLEANUP_FD int pidfd = pidfd_open(identity->pid, 0);
    if (pidfd < 0 || vm_process_verify(identity) != 0) {
        return err_set(err, BERTH_ENOTFOUND, "process %d is gone", (int)identity->pid);
    }
    if (client->config.groups != NULL &&
        resource_group_holds(client->config.groups, uid, identity->pid)) {
        resource_group_open_fence(client->config.groups, uid, &group);
    }
    CLEANUP_FD int freezer = group.freezer;
    CLEANUP_FD int kill_file = group.kill;
    fds[0] = pidfd;
    if (freezer >= 0) {
        fds[count++] = freezer;
    }
    if (kill_file >= 0) {
        fds[count++] = kill_file;
    }
    struct fence_message message = {
        .type = FENCE_WATCH,
        .body.watch = {.uid = uid,
                       .epoch = epoch,
                       .pid = (uint32_t)identity->pid,
                       .start_ticks = identity->start_ticks,
                       .freezer = freezer < 0   ? FENCE_FREEZER_NONE
                                  : group.is_v2 ? FENCE_FREEZER_V2
                                                : FENCE_FREEZER_V1,
                       .kill = kill_file >= 0},
    };
    int r = request(client, &message, fds, count);
    return r == 0 ? 0 : err_sys(err, r, "the fence does not watch VM %" PRIu64, uid);
}

void fence_client_drop(struct fence_client *client, uint64_t uid, uint64_t epoch)
{
    struct fence_message message = {.type = FENCE_DROP,
                                    .body.drop = {.uid = uid, .epoch = epoch}};
    (void)request(client, &message, NULL, 0); /* it sees the end of a process itself */
}

void fence_client_lease(struct fence_client *client, uint64_t granted_ns)
{
    struct fence_message message = {.type = FENCE_LEASE,
                                    .body.lease = {.granted_ns = granted_ns}};
    int r = client->connection == NULL ? 0 : request(client, &message, NULL, 0);
    if (r == BERTH_EINVALID) {
        log_error(ROOM, "the fence takes our lease for one from the future",
                  KV_U64("granted_ns", granted_ns));
    }
}

/* ---- reaching it ---- */

static void fence_signal(const struct fence_client *client, int number)
{
    if (client->pidfd >= 0) {
        (void)pidfd_send_signal(client->pidfd, number, NULL,
                                0); /* or it has ended by itself */
    }
}

/* Ends it, so that another is started. */
static void fence_replace(struct fence_client *client, int number, int why)
{
    log_error(ROOM, "the fence does not answer and is replaced",
              KV_STR("why", err_sentence(why)));
    fence_signal(client, number);
    client->silences = 0;
}

static bool watchdog_fits(const struct fence_client *client)
{
    bool has = (client->state.flags & FENCE_HAS_WATCHDOG) != 0;
    return has == (client->config.watchdog != NULL);
}

/* Has it our rules? Also true when one that we started has no watchdog: it could not. */
static bool fits(const struct fence_client *client)
{
    return client->state.length_ns == client->config.lease_ns &&
           (watchdog_fits(client) || client->process != NULL);
}

static void state_log(const struct fence_client *client)
{
    const struct fence_state *state = &client->state;
    log_info(ROOM, "the fence stands", KV_U64("pid", state->pid),
             KV_BOOL("memory_locked", (state->flags & FENCE_HAS_LOCKED_MEMORY) != 0),
             KV_BOOL("real_time", (state->flags & FENCE_HAS_REAL_TIME) != 0),
             KV_BOOL("oom_shield", (state->flags & FENCE_HAS_OOM_SHIELD) != 0),
             KV_U64("watchdog_ms", state->watchdog_ms), KV_U64("watches", state->watched),
             KV_U64("killed", state->killed_total));
    if (!watchdog_fits(client)) {
        log_error(ROOM, "the fence could not take the watchdog; see " LOG_FILE,
                  KV_STR("device", client->config.watchdog));
    }
}

static void stray_end(struct fence_client *client, const struct fence_entry *entry)
{
    struct fence_message message = {
        .type = FENCE_KILL, .body.kill = {.uid = entry->uid, .epoch = entry->epoch}};
    log_warn(ROOM, "a VM that nobody here knows of is ended", KV_U64("uid", entry->uid),
             KV_U64("epoch", entry->epoch), KV_U64("pid", entry->pid));
    (void)request(client, &message, NULL, 0); /* or it has ended by itself */
}

/* Looks at all that is watched. A VM that ends meanwhile may be missed: it has ended. */
static int strays_end(struct fence_client *client)
{
    struct fence_message answer;
    uint32_t slot = 0;
    do {
        struct fence_message list = {.type = FENCE_LIST, .body.list = {.slot = slot}};
        int r = ask(client, &list, NULL, 0, FENCE_PAGE, &answer);
        if (r != 0) {
            return r;
        }
        const struct fence_page page = answer.body.page;
        for (uint32_t i = 0; i < page.count; i++) {
            if (!client->config.is_known(client->config.context, &page.entries[i])) {
                stray_end(client, &page.entries[i]);
            }
        }
        if (page.next != 0 && page.next <= slot) {
            return BERTH_EPROTO;
        }
        slot = page.next;
    } while (slot != 0 && client->connection != NULL);
    return client->connection != NULL ? 0 : BERTH_ECLOSED;
}

static int hello(struct fence_client *client)
{
    struct fence_message message = {.type = FENCE_HELLO};
    struct fence_message answer;
    REQUIRE(client->connection != NULL);
    int r = ask(client, &message, NULL, 0, FENCE_STATE, &answer);
    if (r == 0) {
        client->state = answer.body.state;
    } else if (client->silences >= SILENCES_MAX || r == BERTH_EUNSUPPORTED) {
        fence_replace(client, r == BERTH_EUNSUPPORTED ? SIGTERM : SIGKILL, r);
    }
    return r;
}

static void greet(struct fence_client *client)
{
    if (hello(client) != 0 || client->connection == NULL) {
        return;
    }
    if (!fits(client)) {
        log_info(ROOM, "the fence has other rules than this daemon and is replaced",
                 KV_U64("lease_ms", client->state.length_ns / NS_PER_MS));
        fence_signal(client, SIGTERM);
        disconnect(client, "it has other rules");
        return;
    }
    client->config.connected(client->config.context);
    if (client->connection == NULL || strays_end(client) != 0) {
        return;
    }
    client->ready = client->was_ready = true;
    state_log(client);
    loop_timer_again(client->timer, CHECK_MS, CHECK_MS);
}

static void on_ended(void *context, const struct vm_process_end *end)
{
    struct fence_client *client = context;
    char path[PATH_MAX + sizeof(LOG_FILE)];
    char line[256];
    (void)snprintf(path, sizeof(path), "%s/" LOG_FILE, client->folder); /* fits */
    vm_process_log_last_line(path, line, sizeof(line));
    client->process = vm_process_close(client->process);
    client->has_gone = true;
    if (end->exit_status != 0) {
        log_error(ROOM, "the fence has ended", KV_I64("exit_status", end->exit_status),
                  KV_I64("signal", end->signal_number), KV_STR("log", line));
    }
}

/* It leads its own session and outlives us like a VM. */
static void fence_start(struct fence_client *client)
{
    char beside[PATH_MAX];
    const char *program = client->config.program;
    char log[PATH_MAX + sizeof(LOG_FILE)];
    struct err err = {0};
    const char *argv[8] = {FENCE_CLIENT_PROGRAM, "--state", client->folder, "--lease-ms",
                           client->lease_text};
    if (client->config.watchdog != NULL) {
        argv[5] = "--watchdog";
        argv[6] = client->config.watchdog;
    }
    client->started_ns = now_ns();
    if (program == NULL) {
        (void)program_path_beside(FENCE_CLIENT_PROGRAM, beside); /* else by PATH */
        program = beside;
    }
    (void)snprintf(log, sizeof(log), "%s/" LOG_FILE, client->folder); /* fits */
    vm_process_log_trim(log);
    const struct vm_process_spec spec = {
        .argv = argv,
        .program = program,
        .folder = client->folder,
        .log_path = log,
        .oom_score_adj = OOM_SCORE_ADJ,
    };
    client->process =
        vm_process_spawn(client->config.loop, &spec, on_ended, client, &err);
    if (client->process == NULL || vm_process_release(client->process, &err) != 0) {
        client->process = vm_process_close(client->process);
        client->has_gone = true;
        log_error(ROOM,
                  "the fence cannot be started; VMs that may be restarted "
                  "elsewhere wait",
                  KV_STR("why", err.text));
    }
}

static int connect_to(struct fence_client *client, struct err *err)
{
    struct connection *connection = calloc(1, sizeof(*connection));
    if (connection == NULL) {
        return err_sys(err, -ENOMEM, "reach the fence");
    }
    pid_t pid = 0;
    connection->fd = fence_socket_connect(client->folder, &pid, err);
    int r = connection->fd < 0
                ? connection->fd
                : uv_poll_init(client->config.loop, &connection->poll, connection->fd);
    if (r < 0) {
        fd_close(&connection->fd);
        free(connection);
        return r;
    }
    connection->poll.data = connection;
    connection->client = client;
    client->connection = connection;
    fd_close(&client->pidfd);
    /* The pid is the listener's, and it listens still. */
    client->pidfd = pid > 1 && pid != getpid() ? pidfd_open(pid, 0) : -1;
    REQUIRE(uv_poll_start(&connection->poll, UV_READABLE, on_readable) == 0);
    return 0;
}

static void attempt(struct fence_client *client)
{
    struct err err = {0};
    int r = connect_to(client, &err);
    if (r == 0) {
        greet(client);
        return;
    }
    if (r == -EAGAIN && ++client->silences >= SILENCES_MAX) {
        fence_replace(client, SIGKILL, r); /* so many wait for it that no more may */
    }
    if (r != -ENOENT && r != -ECONNREFUSED && client->was_ready) {
        log_error(ROOM, "the fence cannot be reached", KV_STR("why", err.text));
        client->was_ready = false;
    }
    bool due =
        client->started_ns == 0 || now_ns() - client->started_ns >= START_MS * NS_PER_MS;
    if (client->process == NULL && due) {
        fence_start(client);
    }
}

static void on_timer(void *context)
{
    struct fence_client *client = context;
    if (client->connection == NULL) {
        attempt(client);
    } else if (client->ready) {
        (void)hello(client); /* one that hangs is found out */
    } else {
        greet(client); /* it went wrong half way */
    }
}

/* ---- its life ---- */

struct fence_client *fence_client_open(const struct fence_client_config *config,
                                       struct err *err)
{
    REQUIRE(config->connected != NULL && config->is_known != NULL);
    struct fence_client *client = calloc(1, sizeof(*client));
    if (client == NULL) {
        err_sys(err, -ENOMEM, "open the fence");
        return NULL;
    }
    client->config = *config;
    client->opened_ns = now_ns();
    client->pidfd = -1;
    (void)snprintf(client->lease_text, sizeof(client->lease_text), "%" PRIu64,
                   config->lease_ns / NS_PER_MS);
    if (realpath(config->folder, client->folder) == NULL) {
        err_sys(err, -errno, "open the fence of %s", config->folder);
        free(client);
        return NULL;
    }
    client->timer = loop_timer_new(config->loop, 0, RETRY_MS, on_timer, client);
    if (client->timer == NULL) {
        err_sys(err, -ENOMEM, "open the fence");
        free(client);
        return NULL;
    }
    return client;
}

struct fence_client *fence_client_close(struct fence_client *client)
{
    if (client == NULL) {
        return NULL;
    }
    if (client->connection != NULL) {
        struct fence_message end = {.type = FENCE_END};
        struct connection *connection = client->connection;
        /* One that watches VMs says no, and is right. */
        (void)fence_socket_send(connection->fd, &end, NULL, 0);
        (void)uv_poll_stop(&connection->poll);
        uv_close((uv_handle_t *)&connection->poll, free_connection);
    }
    client->process = vm_process_close(client->process);
    client->timer = loop_timer_close(client->timer);
    fd_close(&client->pidfd);
    free(client);
    return NULL;
}

bool fence_client_ready(const struct fence_client *client)
{
    return client->ready;
}

uint64_t fence_client_granted_ns(const struct fence_client *client)
{
    return client->state.granted_ns;
}

/* The first one is on its way: that is no fault yet. */
static bool is_awaited(const struct fence_client *client)
{
    return !client->ready && !client->has_gone &&
           now_ns() - client->opened_ns < FENCE_CLIENT_GRACE_MS * NS_PER_MS;
}

enum fence_health fence_client_health(const struct fence_client *client)
{
    return client == NULL || is_awaited(client) ? FENCE_HEALTH_UNKNOWN
           : !client->ready                     ? FENCE_HEALTH_MISSING
           : (client->state.flags & FENCE_HAS_WATCHDOG_IN_TIME) != 0
               ? FENCE_HEALTH_WATCHDOG
               : FENCE_HEALTH_RUNNING;
}

/* ---- without a loop ---- */

/* The answer of this type; else the reply's code, which is 0 for one that is answered by
 * nothing else, or -ECONNRESET when it has gone already. */
static int answer_of(int fd, enum fence_type type, struct fence_message *ret_message)
{
    int fds[FENCE_FDS_MAX];
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    for (;;) {
        if (poll(&wait, 1, FENCE_CLIENT_ANSWER_MS) <= 0) {
            return BERTH_ETIMEOUT;
        }
        int r = fence_socket_receive(fd, ret_message, fds);
        if (r != 0 || ret_message->type == type) {
            return r;
        }
        if (ret_message->type == FENCE_REPLY) {
            r = -(int)ret_message->body.reply.code;
            return r != 0 ? r : BERTH_EPROTO;
        }
    }
}

int fence_client_freezes_ns(const char *folder, uint64_t *ret_freezes_ns, struct err *err)
{
    const struct fence_message hello = {.type = FENCE_HELLO};
    struct fence_message answer;
    pid_t pid;
    CLEANUP_FD int fd = fence_socket_connect(folder, &pid, err);
    if (fd == -ENOENT || fd == -ECONNREFUSED) {
        return err_set(err, BERTH_ENOTFOUND, "there is no fence of %s", folder);
    }
    if (fd < 0) {
        return fd;
    }
    int r = fence_socket_send(fd, &hello, NULL, 0);
    r = r != 0 ? r : answer_of(fd, FENCE_STATE, &answer);
    if (r != 0) {
        return err_sys(err, r, "ask the fence of %s", folder);
    }
    const struct fence_state *state = &answer.body.state;
    const struct fence_rules rules = fence_rules_default(state->length_ns);
    *ret_freezes_ns =
        state->granted_ns == 0 || !fence_rules_valid(&rules)
            ? 0
            : state->granted_ns + rules.length_ns * rules.freeze_permille / 1000;
    return 0;
}

int fence_client_end(const char *folder, struct err *err)
{
    const struct timespec pause = {.tv_nsec = END_ROUND_MS * (long)NS_PER_MS};
    const struct fence_message end = {.type = FENCE_END};
    struct fence_message answer;
    int r = 0;
    for (int round = 0; round < END_ROUNDS; round++) {
        pid_t pid;
        CLEANUP_FD int fd = fence_socket_connect(folder, &pid, err);
        if (fd == -ENOENT || fd == -ECONNREFUSED) {
            return 0; /* there is none, any more */
        }
        if (fd < 0) {
            return fd;
        }
        r = fence_socket_send(fd, &end, NULL, 0);
        r = r != 0 ? r : answer_of(fd, FENCE_REPLY, &answer);
        r = r != 0 ? r : -(int)answer.body.reply.code;
        (void)nanosleep(&pause, NULL); /* it ends; or its VMs' ends are still news */
    }
    return err_sys(err, r != 0 ? r : BERTH_ETIMEOUT, "end the fence of %s", folder);
}
