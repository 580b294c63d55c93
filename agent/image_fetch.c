#include "agent/image_fetch.h"

#include "agent/program_spawn.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "fetch/fetch_wire.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>

#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83 /* of Linux 6.16 */
#endif

struct fetcher {
    pid_t pid;
    int fd; /* our end of its stdin */
    const char *url;
    const struct image_fetch_events *events;
    bool was_announced, has_data, has_spoken;
    uint8_t packet[FETCH_PACKET_MAX];
    struct fetch_message message;
};

/* ---- the process ---- */

/* What libcurl and TLS go by; berthd's others are not a stranger's to read. */
static const char *const passed_on[] = {
    "http_proxy",  "https_proxy", "all_proxy", "no_proxy",      "HTTP_PROXY",
    "HTTPS_PROXY", "ALL_PROXY",   "NO_PROXY",  "SSL_CERT_FILE", "SSL_CERT_DIR",
};

static bool is_passed_on(const char *variable)
{
    for (unsigned i = 0; i < ARRAY_COUNT(passed_on); i++) {
        size_t length = strlen(passed_on[i]);
        if (strncmp(variable, passed_on[i], length) == 0 && variable[length] == '=') {
            return true;
        }
    }
    return false;
}

/* Borrows them from environ. */
static void environment_pick(char *ret_picked[ARRAY_COUNT(passed_on) + 1])
{
    unsigned count = 0;
    for (char **at = environ; *at != NULL && count < ARRAY_COUNT(passed_on); at++) {
        if (is_passed_on(*at)) {
            ret_picked[count++] = *at;
        }
    }
    ret_picked[count] = NULL;
}

static int spawn(struct fetcher *fetcher, const char *path, int end, struct err *err)
{
    char name[] = IMAGE_FETCH_PROGRAM;
    char *const argv[] = {name, NULL};
    char *picked[ARRAY_COUNT(passed_on) + 1];
    const struct program_spawn program = {.name = name,
                                          .path = path,
                                          .argv = argv,
                                          .environment = picked,
                                          .fds = {end, -1, -1}};
    environment_pick(picked);
    return program_spawn(&program, &fetcher->pid, err);
}

/* By pid, which is its own until it is reaped. How it ended, when it did so by itself. */
static void fetcher_end(struct fetcher *fetcher, char *ret_how, size_t size)
{
    int status = 0;
    /* Before our end is closed: nothing is put into it meanwhile, and whatever closing it
     * takes, the process is gone. */
    (void)kill(fetcher->pid, SIGKILL);
    while (waitpid(fetcher->pid, &status, 0) < 0 && errno == EINTR) {
    }
    fd_close(&fetcher->fd);
    if (WIFSIGNALED(status)) {
        (void)snprintf(ret_how, size, "signal %d", WTERMSIG(status));
    } else {
        (void)snprintf(ret_how, size, "exit status %d", WEXITSTATUS(status));
    }
}

/* A descriptor that it sends would be closed by our thread, and the last reference of
 * some takes its time. An older kernel lets it send them: there fetch_rights keeps those
 * away that wait. */
static int refuse_descriptors(int fd)
{
    const int none = 0;
    int r = setsockopt(fd, SOL_SOCKET, SO_PASSRIGHTS, &none, sizeof(none));
    return r == 0 || errno == ENOPROTOOPT ? 0 : -errno;
}

static int fetcher_start(struct fetcher *fetcher,
                         const char *program,
                         unsigned timeout_s,
                         struct err *err)
{
    int ends[2];
    if (strlen(fetcher->url) >= sizeof(fetcher->message.url)) {
        return err_set(err, BERTH_EINVALID, "fetch: a URL has at most %d characters",
                       FETCH_URL_SIZE - 1);
    }
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
        return err_sys(err, -errno, "fetch");
    }
    fetcher->fd = ends[0];
    CLEANUP_FD int end = ends[1];
    fetcher->message = (struct fetch_message){.type = FETCH_ASK, .timeout_s = timeout_s};
    (void)snprintf(fetcher->message.url, sizeof(fetcher->message.url), "%s",
                   fetcher->url);
    int r = refuse_descriptors(fetcher->fd);
    r = r < 0 ? r : fetch_wire_send(fetcher->fd, &fetcher->message); /* waits there */
    r = r < 0 ? err_sys(err, r, "say what is asked for")
              : spawn(fetcher, program, end, err);
    if (r < 0) {
        fd_close(&fetcher->fd);
        return err_wrap(err, r, "fetch");
    }
    return 0;
}

/* ---- what it says ---- */

static int broken(struct err *err)
{
    return err_set(err, BERTH_ECHILD,
                   "fetch: " IMAGE_FETCH_PROGRAM " says what it must not; it is ended");
}

static int stranger(struct err *err)
{
    return err_set(err, BERTH_ECHILD,
                   "fetch: " IMAGE_FETCH_PROGRAM " is of another build: restart berthd");
}

/* It is the kernel's lack, and the same at every download: said once. */
static void on_missing(const char *what)
{
    static atomic_bool was_said;
    if (!atomic_exchange(&was_said, true)) {
        log_warn("agent", "this kernel lacks a wall around " IMAGE_FETCH_PROGRAM,
                 KV_STR("missing", what));
    }
}

static int on_end(const struct fetcher *fetcher, struct err *err)
{
    static const int codes[] = {
        [FETCH_DONE] = 0,
        [FETCH_NOT_FOUND] = BERTH_ENOTFOUND,
        [FETCH_FAILED] = BERTH_EUNREACHABLE,
        [FETCH_UNABLE] = BERTH_ECHILD,
    };
    const struct fetch_message *end = &fetcher->message;
    int code = codes[end->outcome];
    return code == 0
               ? 0
               : err_set(err, code, "fetch %.100s: %.120s", fetcher->url, end->text);
}

/* 1: that was its end. */
static int on_message(struct fetcher *fetcher, struct err *err)
{
    const struct fetch_message *message = &fetcher->message;
    const struct image_fetch_events *events = fetcher->events;
    const bool is_first = !fetcher->has_spoken;
    fetcher->has_spoken = true;
    if (message->type == FETCH_MISSING && is_first) {
        on_missing(message->text);
        return 0;
    }
    if (message->type == FETCH_SIZE && !fetcher->was_announced && !fetcher->has_data) {
        fetcher->was_announced = true;
        return events->announced(events->context, message->size_bytes);
    }
    if (message->type == FETCH_DATA) {
        fetcher->has_data = true;
        return events->came(events->context, message->data, message->data_size);
    }
    if (message->type == FETCH_END) {
        int r = on_end(fetcher, err);
        return r < 0 ? r : 1;
    }
    return broken(err);
}

/* 1: it has said its end; -ECONNRESET: it has ended without. */
static int hear(struct fetcher *fetcher, unsigned timeout_s, struct err *err)
{
    const struct image_fetch_events *events = fetcher->events;
    uint64_t end_ms =
        clock_now_ms(clock_system()) + (uint64_t)timeout_s * 1000 + IMAGE_FETCH_GRACE_MS;
    int r = 0;
    while (r == 0) {
        struct pollfd wait = {.fd = fetcher->fd, .events = POLLIN};
        if (!events->is_wanted(events->context)) {
            return err_sys(err, BERTH_ECLOSED, "fetch");
        }
        if (clock_now_ms(clock_system()) >= end_ms) {
            return err_set(err, BERTH_ECHILD,
                           "fetch: " IMAGE_FETCH_PROGRAM " keeps no time; it is ended");
        }
        r = fetch_wire_receive(fetcher->fd, fetcher->packet, &fetcher->message);
        if (r == -EAGAIN) {
            (void)poll(&wait, 1,
                       IMAGE_FETCH_LOOK_MS); /* a fault shows at the next read */
            r = 0;
        } else if (r == 0) {
            r = on_message(fetcher, err);
        } else if (r == BERTH_EPROTO) {
            r = broken(err);
        } else if (r == BERTH_EUNSUPPORTED) {
            r = stranger(err);
        }
    }
    return r;
}

int image_fetch(const char *program,
                const char *url,
                unsigned timeout_s,
                const struct image_fetch_events *events,
                struct err *err)
{
    struct fetcher fetcher = {.fd = -1, .url = url, .events = events};
    char how[32];
    int r = fetcher_start(&fetcher, program, timeout_s, err);
    if (r < 0) {
        return r;
    }
    r = hear(&fetcher, timeout_s, err);
    fetcher_end(&fetcher, how, sizeof(how));
    if (r == -ECONNRESET) {
        return err_set(err, BERTH_ECHILD,
                       "fetch: " IMAGE_FETCH_PROGRAM " ended too early: %s", how);
    }
    return r < 0 ? r : 0;
}
