/* The real berth against a real API: both as processes.
 *
 * fixture_start runs tests/served (see its header) in a fresh folder; berth("ls vm") runs
 * the program with that folder as --state and leaves what it did in `ran`. Words are
 * divided by blanks, '...' keeps some together. Every wait is bounded by RAN_MS.
 */
#pragma once

#include "base/json.h"
#include "support/temp_dir.h"
#include "support/test_main.h"

#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define RAN_MS   200000
#define ARGS_MAX 64

static struct temp_dir folder;
static pid_t served_pid;
static FILE *served_in;
static FILE *served_out;
static unsigned served_port;
static char served_pin[96];

static struct {
    int code; /* exit code, or 128 + signal */
    char *out;
    char *err;
} ran;

/* ---- processes ---- */

struct child {
    pid_t pid;
    int in; /* -1: closed */
    int out;
    int err; /* -1: none of its own */
};

/* Arguments from a line; the line is changed. */
static inline unsigned split(char *line, char **args, unsigned count)
{
    while (*line != '\0' && count < ARGS_MAX - 1) {
        const char *stop = *line == '\'' ? "'" : " ";
        line += *line == '\'' ? 1 : 0;
        args[count++] = line;
        line += strcspn(line, stop);
        while (*line == ' ' || *line == '\'') {
            bool quote =
                *line == '\'' && line[1] != ' ' && line[1] != '\0' && line[-1] == '\0';
            if (quote) {
                break;
            }
            *line++ = '\0';
        }
    }
    args[count] = NULL;
    return count;
}

/* own_err: what it says on stderr is for us, else for who reads the test's. */
static inline struct child
child_start_with(char **args, const char *stdin_path, bool own_err)
{
    int in[2];
    int out[2];
    int err[2] = {-1, -1};
    ck_assert_int_eq(pipe2(in, O_CLOEXEC), 0);
    ck_assert_int_eq(pipe2(out, O_CLOEXEC), 0);
    ck_assert(!own_err || pipe2(err, O_CLOEXEC) == 0);
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        int from = in[0];
        if (stdin_path != NULL) {
            FILE *file = fopen(stdin_path, "r");
            from = file != NULL ? fileno(file) : -1;
        }
        (void)(dup2(from, 0) >= 0 && dup2(out[1], 1) >= 0 &&
               (!own_err || dup2(err[1], 2) >= 0));
        (void)execv(args[0], args);
        _exit(127);
    }
    (void)close(in[0]);
    (void)close(out[1]);
    if (own_err) {
        (void)close(err[1]);
    }
    return (struct child){.pid = pid, .in = in[1], .out = out[0], .err = err[0]};
}

static inline struct child child_start(char **args, const char *stdin_path)
{
    return child_start_with(args, stdin_path, true);
}

/* What has come on a descriptor is added; false at its end. */
static inline bool gather(int fd, char **text, size_t *size)
{
    char *more = realloc(*text, *size + 65537);
    ck_assert_ptr_nonnull(more);
    *text = more;
    ssize_t got = read(fd, *text + *size, 65536);
    *size += got > 0 ? (size_t)got : 0;
    (*text)[*size] = '\0';
    return got > 0;
}

static inline void ran_drop(void)
{
    free(ran.out);
    free(ran.err);
    memset(&ran, 0, sizeof(ran));
}

/* Reads it to its end, into `ran`. */
static inline void child_wait(struct child *child)
{
    struct pollfd fds[] = {{.fd = child->out, .events = POLLIN},
                           {.fd = child->err, .events = POLLIN}};
    size_t sizes[2] = {0, 0};
    int status = 0;
    ran_drop();
    ran.out = calloc(1, 1);
    ran.err = calloc(1, 1);
    if (child->in >= 0) {
        (void)close(child->in);
    }
    while (fds[0].fd >= 0 || fds[1].fd >= 0) {
        int r = poll(fds, 2, RAN_MS);
        if (r <= 0) {
            (void)kill(child->pid, SIGKILL);
            ck_abort_msg("it does not end; so far: %s%s", ran.out, ran.err);
        }
        if (fds[0].revents != 0 && !gather(child->out, &ran.out, &sizes[0])) {
            fds[0].fd = -1;
        }
        if (fds[1].revents != 0 && !gather(child->err, &ran.err, &sizes[1])) {
            fds[1].fd = -1;
        }
    }
    (void)close(child->out);
    (void)close(child->err);
    ck_assert_int_eq(waitpid(child->pid, &status, 0), child->pid);
    ran.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* ---- berth ---- */

static inline void environment_clean(void)
{
    static const char *const gone[] = {"BERTH_STATE",     "BERTH_SERVER", "BERTH_TOKEN",
                                       "BERTH_TENANT",    "BERTH_PIN",    "BERTH_CONTEXT",
                                       "XDG_CONFIG_HOME", "NO_COLOR"};
    for (size_t i = 0; i < sizeof(gone) / sizeof(gone[0]); i++) {
        (void)unsetenv(gone[i]);
    }
    ck_assert_int_eq(setenv("HOME", folder.path, 1), 0);
    ck_assert_int_eq(setenv("TZ", "UTC", 1), 0);
    ck_assert_int_eq(setenv("TERM", "xterm-256color", 1), 0);
}

static char berth_line[8192];

static inline void berth_args(const char *line, char **args)
{
    static char program[] = BERTH_BINARY_DIR "/berth";
    args[0] = program;
    snprintf(berth_line, sizeof(berth_line), "%s", line);
    (void)split(berth_line, args, 1);
}

static inline struct child berth_start(const char *line)
{
    char *args[ARGS_MAX];
    berth_args(line, args);
    return child_start(args, NULL);
}

/* The exit code; the environment says which server. */
static inline int berth(const char *line)
{
    struct child child = berth_start(line);
    child_wait(&child);
    return ran.code;
}

/* The same with a text on stdin. */
static inline int berth_fed(const char *line, const char *text)
{
    struct child child = berth_start(line);
    size_t size = strlen(text);
    ck_assert_int_eq(write(child.in, text, size), (ssize_t)size);
    child_wait(&child);
    return ran.code;
}

#define assert_like(text, pattern) \
    ck_assert_msg(fnmatch(pattern, text, 0) == 0, "wanted:\n%s\ngot:\n%s", pattern, text)
#define assert_ran(line, wanted_code)                                                 \
    ck_assert_msg(berth(line) == (wanted_code), "berth %s: %d: %s%s", line, ran.code, \
                  ran.out, ran.err)
#define ck_assert_contains(text, part) \
    ck_assert_msg(strstr(text, part) != NULL, "\"%s\" is not in \"%.3000s\"", part, text)

/* ---- the host ---- */

/* The folder becomes that of a member, h1, whose berthd runs as that process. */
static inline void member_write(pid_t pid)
{
    char path[64];
    char text[1024] = "";
    (void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "re");
    ck_assert_ptr_nonnull(file);
    ck_assert_ptr_nonnull(fgets(text, sizeof(text), file));
    (void)fclose(file);
    const char *field = strrchr(text, ')');
    for (int number = 2; number < 22 && field != NULL; number++) {
        field = strchr(field + 1, ' ');
    }
    ck_assert_ptr_nonnull(field);
    unsigned long long start = strtoull(field, NULL, 10);
    (void)snprintf(text, sizeof(text), "%d %llu\n", (int)pid, start);
    temp_dir_write(&folder, "berthd.pid", text);
    temp_dir_write(&folder, "host.json", "{\"uid\": 1, \"name\": \"h1\"}");
    temp_dir_write(&folder, "tls.key", "");
}

/* ---- the server ---- */

/* A line to it (see tests/served/served_main.c), and its "ok". */
static inline void serve(const char *line)
{
    char answer[64] = "";
    ck_assert_int_gt(fprintf(served_in, "%s\n", line), 0);
    ck_assert_int_eq(fflush(served_in), 0);
    ck_assert_ptr_nonnull(fgets(answer, sizeof(answer), served_out));
    ck_assert_msg(strcmp(answer, "ok\n") == 0, "%s: %s", line, answer);
}

/* options: "tls", "front", "memory=4", "" for none. */
static inline void fixture_start_with(const char *options)
{
    static char program[] = BERTH_BINARY_DIR "/tests/served";
    char *args[ARGS_MAX] = {program, folder.path};
    char copy[128];
    char line[256] = "";
    if (folder.path[0] == '\0') {
        temp_dir_init(&folder);
    }
    environment_clean();
    ck_assert_int_eq(setenv("BERTH_STATE", folder.path, 1), 0);
    snprintf(copy, sizeof(copy), "%s", options);
    (void)split(copy, args, 2);
    struct child child = child_start_with(args, NULL, false);
    served_pid = child.pid;
    served_in = fdopen(child.in, "w");
    served_out = fdopen(child.out, "r");
    ck_assert(served_in != NULL && served_out != NULL);
    ck_assert_ptr_nonnull(fgets(line, sizeof(line), served_out));
    ck_assert_int_ge(sscanf(line, "ready %u %95s", &served_port, served_pin), 1);
}

static inline void fixture_start(void)
{
    fixture_start_with("");
}

static inline void served_end(int number)
{
    int status = 0;
    if (served_pid <= 0) {
        return;
    }
    if (number != 0) {
        (void)kill(served_pid, number);
    }
    (void)fclose(served_in);
    (void)fclose(served_out);
    ck_assert_int_eq(waitpid(served_pid, &status, 0), served_pid);
    ck_assert_msg(number != 0 || status == 0, "served ended with status %#x", status);
    served_pid = 0;
}

static inline void fixture_stop(void)
{
    ran_drop();
    served_end(0);
    temp_dir_fini(&folder);
}

/* Runs until the table says so; the last output is in `ran`. */
static inline void await(const char *line, const char *text)
{
    for (unsigned i = 0; i < 2000; i++) {
        if (berth(line) == 0 && strstr(ran.out, text) != NULL) {
            return;
        }
    }
    ck_abort_msg("berth %s never says \"%s\": %s%s", line, text, ran.out, ran.err);
}

static inline Suite *berth_suite(const char *name, TCase **ret_case)
{
    Suite *suite = suite_create(name);
    *ret_case = tcase_create(name);
    tcase_add_checked_fixture(*ret_case, fixture_start, fixture_stop);
    tcase_set_timeout(*ret_case, 300);
    suite_add_tcase(suite, *ret_case);
    return suite;
}
