#include "cli/daemon.h"

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/state_file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define FILE_SIZE_MAX   65536
#define TAIL_SIZE       16384
#define START_FIELD     22
#define OUTPUT_SIZE_MAX (1u << 20)

/* ---- who runs ---- */

/* A host has a uid from the moment the cluster took it in. */
bool daemon_is_member(const char *state)
{
    char path[PATH_MAX];
    CLEANUP_FREE uint8_t *text = NULL;
    json_t *document = NULL;
    size_t size = 0;
    (void)snprintf(path, sizeof(path), "%.4000s/" STATE_FILE_HOST, state);
    const bool is_member =
        fd_read_file(AT_FDCWD, path, FILE_SIZE_MAX, &text, &size, NULL) == 0 &&
        json_parse((const char *)text, size, &document, NULL) == 0 &&
        json_member_u64(document, "uid", 0) != 0;
    json_decref(document);
    return is_member;
}

bool daemon_parse_pid(const char *text, pid_t *ret_pid, uint64_t *ret_start)
{
    char *end = NULL;
    errno = 0;
    long pid = strtol(text, &end, 10);
    if (end == text || *end != ' ' || pid <= 1 || pid > INT_MAX || errno != 0) {
        return false;
    }
    const char *start = end + 1;
    *ret_start = strtoull(start, &end, 10);
    *ret_pid = (pid_t)pid;
    return end != start && errno == 0;
}

/* The command's name (field 2) may hold blanks and brackets: counting begins after it. */
uint64_t daemon_parse_start(const char *stat)
{
    const char *field = strrchr(stat, ')');
    for (int number = 2; number < START_FIELD && field != NULL; number++) {
        field = strchr(field + 1, ' ');
    }
    return field != NULL ? strtoull(field, NULL, 10) : 0;
}

static char *file_text(const char *path)
{
    uint8_t *text = NULL;
    size_t size = 0;
    return fd_read_file(AT_FDCWD, path, FILE_SIZE_MAX, &text, &size, NULL) < 0
               ? NULL
               : (char *)text;
}

pid_t daemon_find(const char *state)
{
    char path[PATH_MAX];
    pid_t pid = 0;
    uint64_t start = 0;
    (void)snprintf(path, sizeof(path), "%s/" STATE_FILE_PID, state);
    CLEANUP_FREE char *text = file_text(path);
    if (text == NULL || !daemon_parse_pid(text, &pid, &start)) {
        return 0;
    }
    (void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    CLEANUP_FREE char *stat = file_text(path);
    const char *name_end = stat != NULL ? strrchr(stat, ')') : NULL;
    /* A killed one may stay as a zombie until somebody reaps it. */
    bool dead = name_end == NULL || strncmp(name_end, ") Z", 3) == 0 ||
                strncmp(name_end, ") X", 3) == 0;
    return !dead && daemon_parse_start(stat) == start ? pid : 0;
}

const char *daemon_doing(pid_t pid, bool *ret_stopped)
{
    static const struct {
        char letter;
        const char *text;
    } rows[] = {{'R', "running"},
                {'S', "asleep"},
                {'D', "waiting for a disk"},
                {'T', "stopped by a signal"},
                {'t', "stopped by a debugger"}};
    char path[64];
    (void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    CLEANUP_FREE char *stat = file_text(path);
    const char *name_end = stat != NULL ? strrchr(stat, ')') : NULL;
    char letter = '?';
    if (name_end != NULL && name_end[1] == ' ') {
        letter = name_end[2];
    }
    *ret_stopped = letter == 'T';
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (rows[i].letter == letter) {
            return rows[i].text;
        }
    }
    return "ending";
}

void daemon_program(char *ret_path, size_t capacity)
{
    char path[PATH_MAX];
    ssize_t size = readlink("/proc/self/exe", path, sizeof(path) - 1);
    if (size > 0) {
        path[size] = '\0';
        char *slash = strrchr(path, '/');
        if (slash != NULL) {
            int length =
                snprintf(ret_path, capacity, "%.*s/berthd", (int)(slash - path), path);
            if (length > 0 && (size_t)length < capacity && access(ret_path, X_OK) == 0) {
                return;
            }
        }
    }
    (void)snprintf(ret_path, capacity, "berthd");
}

/* ---- starting ---- */

/* A pipe that already holds the input, or /dev/null: nothing is left to write later. */
static int input_open(const char *input, struct err *err)
{
    int pair[2];
    if (input == NULL) {
        return fd_open_at(AT_FDCWD, "/dev/null", O_RDONLY, 0, err);
    }
    if (pipe2(pair, O_CLOEXEC) < 0) {
        return err_sys(err, -errno, "make a pipe");
    }
    int r = fd_write_full(pair[1], input, strlen(input)); /* far below a pipe's size */
    (void)close(pair[1]); /* the reader sees the end of the input */
    if (r < 0) {
        (void)close(pair[0]); /* never used */
        return err_sys(err, r, "fill a pipe");
    }
    return pair[0];
}

__attribute__((noreturn)) static void
child_run(const char *const *arguments, int input, int output, int log)
{
    (void)signal(SIGPIPE, SIG_DFL); /* as a fresh program expects */
    if (setsid() < 0 || dup2(input, STDIN_FILENO) < 0 ||
        dup2(output, STDOUT_FILENO) < 0 || dup2(log, STDERR_FILENO) < 0 ||
        chdir("/") < 0) {
        _exit(126);
    }
    (void)execvp(arguments[0], (char *const *)(uintptr_t)arguments);
    dprintf(STDERR_FILENO, "berth: %s cannot be started: %m\n", arguments[0]);
    _exit(127);
}

pid_t daemon_start(const char *const *arguments,
                   const char *log_path,
                   const char *input,
                   struct err *err)
{
    CLEANUP_FD int log =
        fd_open_at(AT_FDCWD, log_path, O_WRONLY | O_CREAT | O_APPEND, 0600, err);
    if (log < 0) {
        return log;
    }
    CLEANUP_FD int in = input_open(input, err);
    if (in < 0) {
        return in;
    }
    pid_t pid = fork();
    if (pid < 0) {
        return err_sys(err, -errno, "start %s", arguments[0]);
    }
    if (pid == 0) {
        child_run(arguments, in, log, log);
    }
    return pid;
}

static int read_all(int fd, char **ret_text)
{
    struct bytes_writer writer;
    char block[4096];
    ssize_t size;
    bytes_writer_init(&writer, OUTPUT_SIZE_MAX);
    while ((size = fd_read_full(fd, block, sizeof(block))) > 0) {
        bytes_write_raw(&writer, block, (size_t)size);
    }
    int r = bytes_writer_take_text(&writer, ret_text);
    return size < 0 ? (int)size : r;
}

/* The log, or for one that nothing may be written to: where our own words go. */
static int words_open(const char *log_path, struct err *err)
{
    if (log_path != NULL) {
        return fd_open_at(AT_FDCWD, log_path, O_WRONLY | O_CREAT | O_APPEND, 0600, err);
    }
    int fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    return fd < 0 ? err_sys(err, -errno, "use stderr") : fd;
}

int daemon_run(const char *const *arguments,
               const char *log_path,
               char **ret_output,
               struct err *err)
{
    int pair[2];
    int status = 0;
    char *output = NULL;
    CLEANUP_FD int log = words_open(log_path, err);
    CLEANUP_FD int in = log >= 0 ? input_open(NULL, err) : -1;
    if (in < 0) {
        return log < 0 ? log : in;
    }
    if (pipe2(pair, O_CLOEXEC) < 0) {
        return err_sys(err, -errno, "make a pipe");
    }
    CLEANUP_FD int from = pair[0];
    pid_t pid = fork();
    if (pid == 0) {
        child_run(arguments, in, pair[1], log);
    }
    (void)close(pair[1]); /* the child's */
    if (pid < 0) {
        return err_sys(err, -errno, "start %s", arguments[0]);
    }
    int r = read_all(from, &output);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    if (r < 0) {
        free(output);
        return err_sys(err, r, "read from %s", arguments[0]);
    }
    *ret_output = output;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* ---- stopping ---- */

int daemon_stop(pid_t pid, uint64_t timeout_ms)
{
    CLEANUP_FD int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (fd < 0) {
        return -errno;
    }
    if (syscall(SYS_pidfd_send_signal, fd, SIGTERM, NULL, 0) < 0) {
        return -errno;
    }
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    int r = poll(&wait, 1, timeout_ms > INT_MAX ? INT_MAX : (int)timeout_ms);
    return r > 0 ? 0 : r == 0 ? BERTH_ETIMEOUT : -errno;
}

/* ---- the log ---- */

char *daemon_log_tail(const char *path, off_t from, unsigned lines)
{
    char text[TAIL_SIZE + 1];
    struct bytes_writer writer;
    char *result = NULL;
    CLEANUP_FD int fd = fd_open_at(AT_FDCWD, path, O_RDONLY, 0, NULL);
    off_t end = fd >= 0 ? lseek(fd, 0, SEEK_END) : -1;
    if (end <= from) {
        return NULL;
    }
    off_t start = end - from > TAIL_SIZE ? end - TAIL_SIZE : from;
    ssize_t size = pread(fd, text, (size_t)(end - start), start);
    if (size <= 0) {
        return NULL;
    }
    while (size > 0 && text[size - 1] == '\n') {
        size--;
    }
    text[size] = '\0';
    char *at = text + size;
    while (lines > 0 && at > text) {
        at--;
        lines -= *at == '\n' ? 1U : 0U;
    }
    at += *at == '\n' ? 1 : 0;
    bytes_writer_init(&writer, (size_t)4 * TAIL_SIZE);
    while (at != NULL && *at != '\0') {
        char *next = strchr(at, '\n');
        int length = next != NULL ? (int)(next - at) : (int)strlen(at);
        bytes_write_format(&writer, "  %.*s\n", length, at);
        at = next != NULL ? next + 1 : NULL;
    }
    return bytes_writer_take_text(&writer, &result) < 0 ? NULL : result;
}

/* base/log.h writes why="..." with a backslash before a quote or another; what else it
 * escapes stays as it is. */
char *daemon_log_why(const char *path, off_t from)
{
    static const char level[] = " error ";
    static const char key[] = " why=";
    CLEANUP_FREE char *line = daemon_log_tail(path, from, 1);
    char *at = line != NULL && strstr(line, level) != NULL ? strstr(line, key) : NULL;
    if (at == NULL) {
        return NULL;
    }
    at += strlen(key);
    const char end = *at == '"' ? '"' : ' ';
    at += *at == '"' ? 1 : 0;
    char *why = strdup(at);
    size_t size = 0;
    for (; why != NULL && *at != '\0' && *at != '\n' && *at != end; at++) {
        at += *at == '\\' && (at[1] == '"' || at[1] == '\\') ? 1 : 0;
        why[size++] = *at;
    }
    if (why != NULL) {
        why[size] = '\0';
    }
    return why;
}
