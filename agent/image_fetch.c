#include "agent/image_fetch.h"

#include "agent/program_path.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "fetch/fetch_wire.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>

struct fetcher {
    pid_t pid;
    int fd; /* our end of its stdin */
    const char *url;
    const struct image_fetch_events *events;
    bool was_announced, has_data;
    uint8_t packet[FETCH_PACKET_MAX];
    struct fetch_message message;
};

/* ---- the process ---- */

static int spawn(struct fetcher *fetcher, const char *program, int end)
{
    char name[] = IMAGE_FETCH_PROGRAM;
    char *const argv[] = {name, NULL};
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attributes;
    sigset_t all;
    sigset_t none;
    (void)sigfillset(&all); /* these two cannot fail */
    (void)sigemptyset(&none);
    int r = -posix_spawn_file_actions_init(&files);
    if (r < 0) {
        return r;
    }
    r = -posix_spawnattr_init(&attributes);
    if (r < 0) {
        (void)posix_spawn_file_actions_destroy(&files); /* cannot fail */
        return r;
    }
    r = -posix_spawn_file_actions_adddup2(&files, end, STDIN_FILENO);
    r = r < 0 ? r
              : -posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, "/dev/null",
                                                  O_WRONLY, 0);
    r = r < 0 ? r
              : -posix_spawn_file_actions_adddup2(&files, STDOUT_FILENO, STDERR_FILENO);
    r = r < 0 ? r : -posix_spawn_file_actions_addclosefrom_np(&files, STDERR_FILENO + 1);
    r = r < 0 ? r
              : -posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF |
                                                           POSIX_SPAWN_SETSIGMASK |
                                                           POSIX_SPAWN_SETSID);
    r = r < 0 ? r : -posix_spawnattr_setsigdefault(&attributes, &all);
    r = r < 0 ? r : -posix_spawnattr_setsigmask(&attributes, &none);
    r = r < 0 ? r
              : -posix_spawnp(&fetcher->pid, program, &files, &attributes, argv, environ);
    (void)posix_spawn_file_actions_destroy(&files); /* cannot fail */
    (void)posix_spawnattr_destroy(&attributes);
    return r;
}

/* By pid, which is its own until it is reaped. How it ended, when it did so by itself. */
static void fetcher_end(struct fetcher *fetcher, char *ret_how, size_t size)
{
    int status = 0;
    fd_close(&fetcher->fd);
    (void)kill(fetcher->pid, SIGKILL);
    while (waitpid(fetcher->pid, &status, 0) < 0 && errno == EINTR) {
    }
    if (WIFSIGNALED(status)) {
        (void)snprintf(ret_how, size, "signal %d", WTERMSIG(status));
    } else {
        (void)snprintf(ret_how, size, "exit status %d", WEXITSTATUS(status));
    }
}

static int fetcher_start(struct fetcher *fetcher,
                         const char *program,
                         unsigned timeout_s,
                         struct err *err)
{
    char path[PATH_MAX];
    int ends[2];
    if (program == NULL) {
        (void)program_path_beside(IMAGE_FETCH_PROGRAM, path); /* else by PATH */
        program = path;
    }
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
    int r = fetch_wire_send(fetcher->fd, &fetcher->message); /* waits there for it */
    r = r < 0 ? r : spawn(fetcher, program, end);
    if (r < 0) {
        fd_close(&fetcher->fd);
        return err_set(err, BERTH_ECHILD, "fetch: start %.100s: %s", program,
                       err_sentence(r));
    }
    return 0;
}

/* ---- what it says ---- */

static int broken(struct err *err)
{
    return err_set(err, BERTH_ECHILD,
                   "fetch: " IMAGE_FETCH_PROGRAM " says what it must not; it is ended");
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
        } else if (r == BERTH_EPROTO || r == BERTH_EUNSUPPORTED) {
            r = broken(err);
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
