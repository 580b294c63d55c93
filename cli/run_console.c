/* console: a VM's serial line on this terminal. Ctrl-] leaves. */
#include "cli/connection.h"
#include "cli/kind_view.h"
#include "cli/object_name.h"
#include "cli/plain_text.h"
#include "cli/run.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#define LEAVE 0x1d /* Ctrl-] */

static struct termios saved; /* for the signal handler, which can be given nothing */
static volatile sig_atomic_t is_raw;

static void restore(void)
{
    if (is_raw) {
        (void)tcsetattr(STDIN_FILENO, TCSANOW, &saved); /* nothing better is possible */
        is_raw = 0;
    }
}

static void on_signal(int number)
{
    restore();
    (void)signal(number, SIG_DFL);
    (void)raise(number);
}

static void make_raw(void)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGSEGV, SIGABRT};
    struct termios raw;
    if (tcgetattr(STDIN_FILENO, &saved) < 0) {
        return;
    }
    raw = saved;
    cfmakeraw(&raw);
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        (void)signal(numbers[i], on_signal); /* these signals can be caught */
    }
    (void)atexit(restore); /* belt and braces */
    is_raw = tcsetattr(STDIN_FILENO, TCSANOW, &raw) == 0;
}

/* False when the tunnel has ended. */
static bool tunnel_to_out(struct http_tunnel *tunnel)
{
    char data[8192];
    for (;;) {
        int size = http_tunnel_read(tunnel, data, sizeof(data));
        if (size == -EAGAIN) {
            return true;
        }
        if (size <= 0) {
            return false;
        }
        for (int at = 0; at < size;) {
            ssize_t written = write(STDOUT_FILENO, data + at, (size_t)(size - at));
            if (written < 0 && errno != EINTR) {
                return false;
            }
            at += written > 0 ? (int)written : 0;
        }
    }
}

/* False when the user has left. */
static bool keys_to_tunnel(struct http_tunnel *tunnel)
{
    char data[1024];
    ssize_t size = read(STDIN_FILENO, data, sizeof(data));
    const char *leave = size > 0 ? memchr(data, LEAVE, (size_t)size) : NULL;
    if (size <= 0) {
        return false;
    }
    size = leave != NULL ? leave - data : size;
    return (size == 0 || http_tunnel_write(tunnel, data, (size_t)size) == 0) &&
           leave == NULL;
}

static void talk(struct cli *cli, struct http_tunnel *tunnel)
{
    struct pollfd fds[] = {{.fd = http_tunnel_fd(tunnel), .events = POLLIN},
                           {.fd = cli->in_tty ? STDIN_FILENO : -1, .events = POLLIN}};
    while (tunnel_to_out(tunnel)) {
        if (poll(fds, 2, -1) < 0 && errno != EINTR) {
            return;
        }
        if ((fds[1].revents & (POLLIN | POLLHUP)) != 0 && !keys_to_tunnel(tunnel)) {
            return;
        }
    }
}

/* Why there is no console: of a VM that has ended (vm: as it was just before) there will
 * be none by itself. */
static int fail_console(struct cli *cli,
                        const struct object_name *name,
                        const json_t *vm,
                        const struct http_answer *answer)
{
    char label[OBJECT_LABEL_SIZE];
    const char *phase = view_phase(vm, KIND_VM);
    const char *reason = json_member_text(view_status(vm), "reason", "");
    bool ended = strcmp(phase, "stopped") == 0 || strcmp(phase, "failed") == 0;
    if (answer->status != 404 || !ended) {
        return remote_problem(cli, answer);
    }
    object_label(cli, "vm", name->tenant, name->name, label);
    return cli_fail(cli, EXIT_CONFLICT,
                    "%s is %s%s%s%s: it has a console when it runs\n"
                    "hint: berth start %s; berth events --name %s says what happened",
                    label, phase, reason[0] != '\0' ? " (" : "", reason,
                    reason[0] != '\0' ? ")" : "", label, label);
}

static int print_kept(struct cli *cli,
                      const struct object_name *name,
                      const json_t *vm,
                      const char *path)
{
    struct http_answer answer;
    int code = remote_answer(cli, "GET", path, NULL, &answer);
    if (code == EXIT_OK && answer.status >= 300) {
        code = fail_console(cli, name, vm, &answer);
    } else if (code == EXIT_OK && answer.body != NULL) {
        /* A file gets what the guest wrote; a terminal nothing that acts on it. */
        size_t size = cli->out_tty ? plain_text(answer.body, answer.size) : answer.size;
        (void)fwrite(answer.body, 1, size, cli->out);
    }
    http_answer_fini(&answer);
    return code;
}

/* One that has no host has no console either, and may never have one. */
static int check_runs(struct cli *cli, const struct object_name *name, json_t **ret_vm)
{
    int code = object_get(cli, name, ret_vm);
    const json_t *vm = *ret_vm;
    if (code != EXIT_OK || strcmp(view_phase(vm, KIND_VM), "pending") != 0) {
        return code;
    }
    return cli_fail(cli, EXIT_CONFLICT,
                    "vm/%s does not run yet: it waits for a host (%s)\n"
                    "hint: berth explain vm/%s -t %s says why, host by host",
                    name->name, json_member_text(view_status(vm), "reason", "no reason"),
                    name->name, name->tenant);
}

int run_console(struct cli *cli)
{
    struct object_name name;
    struct http_answer answer;
    CLEANUP_JSON json_t *vm = NULL;
    char path[REMOTE_PATH_SIZE];
    int code = object_name_find(cli, cli->words[0], KIND_VM, &name);
    if (code != EXIT_OK) {
        return code;
    }
    code = check_runs(cli, &name, &vm);
    if (code != EXIT_OK) {
        return code;
    }
    object_path(&name, "/console", path);
    if (cli_flag(cli, "no-follow") != NULL) {
        return print_kept(cli, &name, vm, path);
    }
    struct http *http = connection_http(cli);
    struct http_tunnel *tunnel =
        http != NULL ? http_upgrade(http, path, "berth-console", &answer) : NULL;
    if (http == NULL) {
        return EXIT_UNREACHABLE;
    }
    if (tunnel == NULL) {
        code = answer.status != 0 ? fail_console(cli, &name, vm, &answer)
                                  : remote_unreachable(cli, &answer);
        http_answer_fini(&answer);
        return code;
    }
    http_answer_fini(&answer);
    if (cli->in_tty) {
        cli_note(cli, "Connected to vm/%s. Ctrl-] leaves.", name.name);
        make_raw();
    }
    talk(cli, tunnel);
    restore();
    http_tunnel_close(tunnel);
    if (cli->in_tty) {
        fputc('\n', cli->err);
    }
    return EXIT_OK;
}
