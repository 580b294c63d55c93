/* up, join, down: the berthd of this host. */
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "cli/connection.h"
#include "cli/http.h"
#include "cli/remote.h"
#include "cli/run.h"
#include "cli/waiting.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define ARGUMENTS_MAX   48
#define UP_TIMEOUT_MS   60000
#define DOWN_TIMEOUT_MS 30000
#define POLL_MS         100
#define LOG_TAIL_SIZE   2048
#define TOKEN_MAX       256

struct daemon {
    const char *arguments[ARGUMENTS_MAX + 1];
    unsigned count;
    char program[PATH_MAX];
    const char *token; /* goes to its stdin, so that it is in no process list */
};

/* ---- starting
 * -----------------------------------------------------------------------------------------------
 */

static void add(struct daemon *daemon, const char *option, const char *value)
{
    if (daemon->count + 2 <= ARGUMENTS_MAX) {
        daemon->arguments[daemon->count++] = option;
        if (value != NULL) {
            daemon->arguments[daemon->count++] = value;
        }
    }
}

/* Beside this program, else in the PATH. */
static void find_program(struct daemon *daemon)
{
    ssize_t size =
        readlink("/proc/self/exe", daemon->program, sizeof(daemon->program) - 8);
    char *slash = NULL;
    if (size > 0) {
        daemon->program[size] = '\0';
        slash = strrchr(daemon->program, '/');
    }
    if (slash != NULL) {
        memcpy(slash + 1, "berthd", sizeof("berthd"));
    }
    if (slash == NULL || access(daemon->program, X_OK) != 0) {
        memcpy(daemon->program, "berthd", sizeof("berthd"));
    }
}

static void fill(struct cli *cli, struct daemon *daemon)
{
    static const struct {
        const char *flag;
        const char *option;
    } flags[] = {{"name", "--name"},
                 {"address", "--address"},
                 {"mesh-port", "--mesh-port"},
                 {"raft-port", "--raft-port"},
                 {"api-port", "--api-port"}};
    unsigned cursor = 0;
    const char *label;
    find_program(daemon);
    add(daemon, daemon->program, NULL);
    add(daemon, "--state", cli->state);
    for (size_t i = 0; i < ARRAY_COUNT(flags); i++) {
        const char *value = cli_flag(cli, flags[i].flag);
        if (value != NULL) {
            add(daemon, flags[i].option, value);
        }
    }
    while ((label = cli_flag_next(cli, "label", &cursor)) != NULL) {
        add(daemon, "--label", label);
    }
}

/* Runs in the child: a session of its own, the log as output, the token as input. */
static _Noreturn void become(const struct daemon *daemon, int log_fd, int input_fd)
{
    (void)setsid(); /* fails only for a leader, which a fresh child is not */
    (void)dup2(input_fd, STDIN_FILENO);
    (void)dup2(log_fd, STDOUT_FILENO);
    (void)dup2(log_fd, STDERR_FILENO);
    execvp(daemon->arguments[0], (char *const *)(uintptr_t)daemon->arguments);
    dprintf(STDERR_FILENO, "berth: %s: %s\n", daemon->arguments[0],
            strerror(errno)); // NOLINT(concurrency-mt-unsafe)
    _exit(127);
}

static int token_input(const char *token)
{
    int fds[2];
    if (token == NULL) {
        return fd_open_at(AT_FDCWD, "/dev/null", O_RDONLY, 0, NULL);
    }
    if (pipe2(fds, O_CLOEXEC) < 0) {
        return -errno;
    }
    (void)fd_write_full(fds[1], token, strlen(token)); /* fits a pipe */
    (void)fd_write_full(fds[1], "\n", 1);
    fd_close(&fds[1]);
    return fds[0];
}

static pid_t start(struct cli *cli, const struct daemon *daemon, off_t *ret_log_size)
{
    char path[PATH_MAX];
    struct stat info;
    struct err err;
    if (fd_make_folders(cli->state, &err) < 0) {
        (void)cli_fail(cli, EXIT_FAILED, "%s", err.text);
        return -1;
    }
    (void)snprintf(path, sizeof(path), "%s/berthd.log", cli->state);
    CLEANUP_FD int log_fd =
        fd_open_at(AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND, 0640, &err);
    CLEANUP_FD int input_fd = token_input(daemon->token);
    if (log_fd < 0 || input_fd < 0) {
        (void)cli_fail(cli, EXIT_FAILED, "%s",
                       log_fd < 0 ? err.text : "no pipe for the token");
        return -1;
    }
    *ret_log_size = fstat(log_fd, &info) == 0 ? info.st_size : 0;
    (void)fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        become(daemon, log_fd, input_fd);
    }
    if (pid < 0) {
        (void)cli_fail(cli, EXIT_FAILED, "start berthd: %s", err_sentence(-errno));
    }
    return pid;
}

/* ---- waiting for it
 * --------------------------------------------------------------------------------------------
 */

static void print_log_tail(struct cli *cli, off_t from)
{
    char path[PATH_MAX];
    char text[LOG_TAIL_SIZE + 1];
    struct stat info;
    (void)snprintf(path, sizeof(path), "%s/berthd.log", cli->state);
    CLEANUP_FD int fd = fd_open_at(AT_FDCWD, path, O_RDONLY, 0, NULL);
    if (fd < 0 || fstat(fd, &info) < 0) {
        return;
    }
    off_t start_at =
        info.st_size - from > LOG_TAIL_SIZE ? info.st_size - LOG_TAIL_SIZE : from;
    ssize_t size = pread(fd, text, LOG_TAIL_SIZE, start_at);
    if (size > 0) {
        text[size] = '\0';
        fprintf(cli->err, "--- last lines of %s\n%s", path, text);
    }
}

/* A member of a cluster that has a leader, by its own word. */
static bool is_up(struct http *http)
{
    struct http_answer answer;
    bool up =
        http_try(http, "GET", "/healthz", NULL, &answer) == 0 && answer.status == 200;
    http_answer_fini(&answer);
    return up;
}

static int wait_up(struct cli *cli, pid_t pid, off_t log_size)
{
    uint64_t timeout_ms = UP_TIMEOUT_MS;
    uint64_t start_ms = clock_now_ms(clock_system());
    int code = cli_flag_duration(cli, "timeout", UP_TIMEOUT_MS, &timeout_ms);
    struct http *http = code == EXIT_OK ? connection_http(cli) : NULL;
    while (code == EXIT_OK && http != NULL) {
        int status = 0;
        if (pid > 0 && waitpid(pid, &status, WNOHANG) == pid) {
            print_log_tail(cli, log_size);
            return cli_fail(cli, EXIT_FAILED, "berthd has ended (%s %d)",
                            WIFEXITED(status) ? "exit status" : "signal",
                            WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
        }
        if (is_up(http)) {
            return EXIT_OK;
        }
        if (clock_now_ms(clock_system()) - start_ms >= timeout_ms) {
            print_log_tail(cli, log_size);
            return cli_fail(
                cli, EXIT_TIMED_OUT,
                "berthd runs, but has no leader yet; a majority of the voters must be "
                "up. It goes on trying: berth host ls");
        }
        pause_ms(POLL_MS);
    }
    return code != EXIT_OK ? code : EXIT_UNREACHABLE;
}

/* ---- the pid file
 * ------------------------------------------------------------------------------------------------
 */

/* Field 22 of /proc/PID/stat, 0 when there is no such process. */
static unsigned long long start_of(long pid)
{
    char path[64];
    CLEANUP_FREE uint8_t *text = NULL;
    size_t size = 0;
    (void)snprintf(path, sizeof(path), "/proc/%ld/stat", pid);
    if (fd_read_file(AT_FDCWD, path, 4096, &text, &size, NULL) < 0) {
        return 0;
    }
    const char *field = strrchr((const char *)text, ')');
    for (int skip = 0; skip < 20 && field != NULL; skip++) {
        field = strchr(field + 1, ' ');
    }
    return field != NULL ? strtoull(field, NULL, 10) : 0;
}

/* Pid of the berthd that holds the state folder, 0 when none does. */
static long running(const struct cli *cli)
{
    char path[PATH_MAX];
    CLEANUP_FREE uint8_t *text = NULL;
    size_t size = 0;
    char *end;
    (void)snprintf(path, sizeof(path), "%s/berthd.pid", cli->state);
    if (fd_read_file(AT_FDCWD, path, 256, &text, &size, NULL) < 0) {
        return 0;
    }
    long pid = strtol((const char *)text, &end, 10);
    unsigned long long began = strtoull(end, NULL, 10);
    return pid > 0 && began != 0 && start_of(pid) == began ? pid : 0;
}

static bool is_member(const struct cli *cli)
{
    char path[PATH_MAX];
    CLEANUP_FREE uint8_t *text = NULL;
    size_t size = 0;
    json_t *document = NULL;
    (void)snprintf(path, sizeof(path), "%s/host.json", cli->state);
    if (fd_read_file(AT_FDCWD, path, 65536, &text, &size, NULL) < 0 ||
        json_parse((const char *)text, size, &document, NULL) < 0) {
        return false;
    }
    bool member = json_member_u64(document, "uid", 0) != 0;
    json_decref(document);
    return member;
}

/* ---- commands
 * ------------------------------------------------------------------------------------------------------
 */

static int launch(struct cli *cli, struct daemon *daemon)
{
    off_t log_size = 0;
    if (cli_flag(cli, "foreground") != NULL) {
        CLEANUP_FD int input_fd = token_input(daemon->token);
        (void)dup2(input_fd, STDIN_FILENO);
        execvp(daemon->arguments[0], (char *const *)(uintptr_t)daemon->arguments);
        return cli_fail(cli, EXIT_FAILED, "%s: %s", daemon->arguments[0],
                        err_sentence(-errno));
    }
    pid_t pid = start(cli, daemon, &log_size);
    return pid > 0 ? wait_up(cli, pid, log_size) : EXIT_FAILED;
}

static int say_where(struct cli *cli)
{
    CLEANUP_JSON json_t *version = NULL;
    int code = remote_call(cli, "GET", "/v1/version", NULL, &version);
    if (code == EXIT_OK) {
        fprintf(cli->out, "host %s is up; %s leads\n",
                json_member_text(version, "host", "?"),
                json_member_text(version, "leader", "?"));
    }
    return code;
}

int run_up(struct cli *cli)
{
    struct daemon daemon = {0};
    bool member = is_member(cli);
    if (running(cli) != 0) {
        cli_note(cli, "berthd runs here already");
        return wait_up(cli, 0, 0) == EXIT_OK ? say_where(cli) : EXIT_FAILED;
    }
    fill(cli, &daemon);
    if (!member) {
        add(&daemon, "--bootstrap", NULL);
    }
    int code = launch(cli, &daemon);
    code = code == EXIT_OK ? say_where(cli) : code;
    if (code == EXIT_OK && !member) {
        cli_note(cli, "A new cluster. Next:\n"
                      "  berth token join           a token for one more host\n"
                      "  berth join TOKEN           there\n"
                      "  berth apply FILE --wait    run something\n"
                      "  berth host ls              the rack");
    }
    return code;
}

int run_join(struct cli *cli)
{
    struct daemon daemon = {0};
    char token[TOKEN_MAX] = "";
    if (is_member(cli)) {
        return cli_fail(cli, EXIT_CONFLICT,
                        "this host is a member of a cluster already: berth up "
                        "starts it");
    }
    if (running(cli) != 0) {
        return cli_fail(cli, EXIT_CONFLICT, "berthd runs here already: berth down first");
    }
    daemon.token = cli->words[0];
    if (strcmp(daemon.token, "-") == 0) {
        if (fgets(token, sizeof(token), stdin) == NULL) {
            return cli_fail(cli, EXIT_USAGE, "no token came on stdin");
        }
        token[strcspn(token, "\r\n")] = '\0';
        daemon.token = token;
    }
    fill(cli, &daemon);
    add(&daemon, "--join", "-");
    int code = launch(cli, &daemon);
    return code == EXIT_OK ? say_where(cli) : code;
}

static int cleanup_run(struct cli *cli)
{
    struct daemon daemon = {0};
    int status = 0;
    fill(cli, &daemon);
    add(&daemon, "--cleanup", NULL);
    (void)fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        execvp(daemon.arguments[0], (char *const *)(uintptr_t)daemon.arguments);
        _exit(127);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status) ||
        WEXITSTATUS(status) != 0) {
        return cli_fail(cli, EXIT_FAILED,
                        "this host's VMs and networks could not all be ended");
    }
    cli_note(cli, "its VMs and networks are gone");
    return EXIT_OK;
}

int run_down(struct cli *cli)
{
    uint64_t timeout_ms = DOWN_TIMEOUT_MS;
    uint64_t start_ms = clock_now_ms(clock_system());
    long pid = running(cli);
    int code = cli_flag_duration(cli, "timeout", DOWN_TIMEOUT_MS, &timeout_ms);
    if (code != EXIT_OK) {
        return code;
    }
    if (pid != 0 && kill((pid_t)pid, SIGTERM) < 0) {
        return cli_fail(cli, EXIT_FAILED, "stop berthd: %s", err_sentence(-errno));
    }
    while (running(cli) != 0) {
        if (clock_now_ms(clock_system()) - start_ms >= timeout_ms) {
            return cli_fail(cli, EXIT_TIMED_OUT, "berthd (pid %ld) does not end", pid);
        }
        pause_ms(POLL_MS);
    }
    cli_note(cli, pid != 0 ? "berthd has ended; its VMs run on" : "no berthd runs here");
    return cli_flag(cli, "vms") != NULL ? cleanup_run(cli) : EXIT_OK;
}
