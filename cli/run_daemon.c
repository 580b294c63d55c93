/* up, join, down: the berthd of this host. */
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/parse_number.h"
#include "base/state_file.h"
#include "base/state_lock.h"
#include "cli/asking.h"
#include "cli/backup_input.h"
#include "cli/certificate_pin.h"
#include "cli/connection.h"
#include "cli/daemon.h"
#include "cli/daemon_flags.h"
#include "cli/host_flags.h"
#include "cli/kind_view.h"
#include "cli/output.h"
#include "cli/remote.h"
#include "cli/run.h"
#include "cli/state_before.h"
#include "cli/waiting.h"
#include "model/join_token.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define UP_DEFAULT_MS   UINT64_C(60000)
#define DOWN_DEFAULT_MS UINT64_C(30000)
#define POLL_MS         50
#define SHUT_OUT_MS     3000 /* a voter that starts may not know all members yet */
#define TAIL_LINES      8
#define TOKEN_SIZE      256
#define PEM_SIZE_MAX    65536
#define CODE_NOT_LET_IN 3 /* of berthd: the cluster refuses the token */

struct start {
    char state[PATH_MAX]; /* absolute */
    char program[PATH_MAX];
    char log_path[PATH_MAX];
    char token[TOKEN_SIZE];          /* "" for up */
    struct state_before before;      /* for join, which leaves nothing when it fails */
    char restore[PATH_MAX];          /* absolute; "" when there is none */
    char input[PASSPHRASE_SIZE_MAX]; /* for berthd's stdin; "" when there is none */
    const char *arguments[DAEMON_ARGUMENTS_MAX];
    char options[CLI_FLAGS_MAX][32]; /* "--name": what arguments borrows */
    unsigned argument_count;
    off_t log_from; /* the log is ours from here on */
    uint64_t timeout_ms;
    pid_t pid;
    bool was_member;
    bool was_joining;     /* by an earlier command, that was cut off */
    bool healthy;         /* /healthz was ok */
    uint64_t shut_out_ms; /* since when the others turn it away; 0: they do not */
    char host[NAME_SIZE];
};

/* ---- arguments ---- */

static void add(struct start *start, const char *argument)
{
    if (start->argument_count < DAEMON_ARGUMENTS_MAX - 1) {
        start->arguments[start->argument_count++] = argument;
    }
}

static void add_flags(struct cli *cli, struct start *start)
{
    unsigned cursor = 0;
    const char *label;
    for (unsigned i = 0; daemon_flags[i] != NULL; i++) {
        const char *value = cli_flag(cli, daemon_flags[i]);
        if (value != NULL) {
            (void)snprintf(start->options[i], sizeof(start->options[i]), "--%s",
                           daemon_flags[i]);
            add(start, start->options[i]);
            add(start, value);
        }
    }
    while ((label = cli_flag_next(cli, "label", &cursor)) != NULL) {
        add(start, "--label");
        add(start, label);
    }
}

static bool has_key(const char *state)
{
    char path[PATH_MAX + 16];
    (void)snprintf(path, sizeof(path), "%s/" STATE_FILE_KEY, state);
    return access(path, F_OK) == 0;
}

static int state_open(struct cli *cli, struct start *start)
{
    struct err err;
    struct stat status;
    if (start->token[0] != '\0' &&
        state_before_look(cli->state, &start->before, &err) < 0) {
        return cli_fail(cli, EXIT_FAILED, "%s", err.text);
    }
    if (fd_make_folders(cli->state, &err) < 0) {
        return cli_fail(cli, EXIT_FAILED, "%s%s", err.text,
                        geteuid() != 0 ? "\nhint: berthd runs as root: sudo berth up"
                                       : "");
    }
    if (realpath(cli->state, start->state) == NULL) {
        return cli_fail(cli, EXIT_FAILED, "%s: %s", cli->state,
                        strerror(errno)); // NOLINT(concurrency-mt-unsafe)
    }
    (void)snprintf(start->log_path, sizeof(start->log_path), "%.4000s/" STATE_FILE_LOG,
                   start->state);
    start->log_from = stat(start->log_path, &status) == 0 ? status.st_size : 0;
    start->was_member = daemon_is_member(start->state);
    /* Without a key no cluster has heard of it, and berthd --forget has nothing to undo.
     */
    start->was_joining =
        !start->was_member && has_key(start->state) && daemon_flags_joins(start->state);
    return EXIT_OK;
}

/* berthd would make another key, with which the cluster does not let it in. */
static int check_key(struct cli *cli, const struct start *start)
{
    char path[PATH_MAX + 16];
    (void)snprintf(path, sizeof(path), "%s/" STATE_FILE_KEY, start->state);
    if (!start->was_member || access(path, F_OK) == 0 || errno != ENOENT) {
        return EXIT_OK;
    }
    /* While it forgets its cluster, which berthd ends first, the key is put aside. */
    (void)snprintf(path, sizeof(path), "%s/" STATE_FILE_FORGETTING, start->state);
    if (access(path, F_OK) == 0) {
        return EXIT_OK;
    }
    (void)snprintf(path, sizeof(path), "%s/" STATE_FILE_KEY, start->state);
    return cli_fail(cli, EXIT_FAILED,
                    "%s is gone: the cluster knows this host by that key\n"
                    "hint: put the file back from a copy; or berth down --forget here, "
                    "berth rm host/NAME --force on another host, and join anew",
                    path);
}

/* Of a join that was cut off, by a reset say: a cluster of its own is not what was meant.
 */
static int check_join(struct cli *cli, const struct start *start)
{
    return !start->was_joining || start->token[0] != '\0'
               ? (int)EXIT_OK
               : cli_fail(cli, EXIT_CONFLICT,
                          "this host was to join a cluster, and was not let in yet: "
                          "nothing was started\n"
                          "hint: berth join TOKEN goes on with that (berth token join on "
                          "a member makes one);\nto found a cluster here, berth down "
                          "--forget first");
}

/* The file is checked whole before anything is begun. */
static int add_restore(struct cli *cli, struct start *start)
{
    const char *path = cli_flag(cli, "restore");
    const char *passphrase_file = cli_flag(cli, "passphrase-file");
    struct backup_input input;
    if (path == NULL) {
        return EXIT_OK;
    }
    if (start->was_member) {
        return cli_fail(
            cli, EXIT_CONFLICT,
            "this host is a member of a cluster already; a backup is restored "
            "into a new one\nhint: on a host whose cluster is lost for good, berth down "
            "--forget, which ends its VMs with their disks, then berth up --restore %s; "
            "one whose cluster is up needs no restore",
            path);
    }
    int code = backup_input_read(cli, path, &input);
    if (code != EXIT_OK) {
        return code;
    }
    bool encrypted = input.encrypted;
    memcpy(start->input, input.passphrase, sizeof(start->input));
    backup_input_fini(&input);
    if (realpath(path, start->restore) == NULL) {
        return cli_fail(cli, EXIT_FAILED, "%s: %s", path,
                        strerror(errno)); // NOLINT(concurrency-mt-unsafe)
    }
    add(start, "--restore");
    add(start, start->restore);
    if (encrypted) {
        add(start, "--passphrase-file");
        /* In the foreground stdin stays the terminal's. */
        add(start, cli_flag(cli, "foreground") == NULL ? "-" : passphrase_file);
    }
    return encrypted && passphrase_file == NULL && cli_flag(cli, "foreground") != NULL
               ? cli_fail(cli, EXIT_USAGE, "--foreground needs --passphrase-file FILE")
               : EXIT_OK;
}

static int prepare(struct cli *cli, struct start *start)
{
    int code = host_flags_check(cli);
    if (code == EXIT_OK) {
        code = cli_flag_duration(cli, "timeout", UP_DEFAULT_MS, &start->timeout_ms);
    }
    if (code == EXIT_OK) {
        code = state_open(cli, start);
    }
    daemon_program(start->program, sizeof(start->program));
    add(start, start->program);
    add(start, "--state");
    add(start, start->state);
    add_flags(cli, start);
    code = code == EXIT_OK ? add_restore(cli, start) : code;
    if (start->token[0] != '\0') {
        add(start, "--join");
        add(start, "-"); /* so that it is in no process list */
        add(start, "--join-once");
    } else if (!start->was_member) {
        add(start, "--bootstrap");
    }
    return code;
}

/* ---- waiting until it serves ---- */

static int fail_ended(struct cli *cli, const struct start *start, const char *how)
{
    CLEANUP_FREE char *tail =
        daemon_log_tail(start->log_path, start->log_from, TAIL_LINES);
    (void)cli_fail(cli, EXIT_FAILED, "berthd %s; the end of %s:", how, start->log_path);
    fputs(tail != NULL ? tail : "  (nothing)\n", cli->err);
    return EXIT_FAILED;
}

static bool is_joining(const struct start *start)
{
    return start->token[0] != '\0' && !daemon_is_member(start->state);
}

/* With no berthd there: removes what one that was to join has made, unless another has
 * come there since. The lock keeps others out meanwhile. True: it is gone. */
static bool join_clear(struct cli *cli, const struct start *start)
{
    struct err err;
    CLEANUP_FD int lock =
        state_lock_take(start->state, O_RDWR | O_CREAT, STATE_LOCK_WAIT_MS, &err);
    if (lock == BERTH_EBUSY || (lock >= 0 && daemon_find(start->state) != 0)) {
        cli_note(cli, "another berthd runs in %s by now, so nothing was removed there",
                 start->state);
        return false;
    }
    if (lock >= 0 && !is_joining(start)) { /* in the last moment */
        cli_note(cli, "it was let in meanwhile: berth up starts it");
        return false;
    }
    if ((lock < 0 && lock != -ENOENT) || state_before_restore(&start->before, &err) < 0) {
        cli_note(cli, "berthd has ended, but what it made is still there: %s", err.text);
        return false;
    }
    if (lock >= 0 && !start->was_joining) { /* where that file was there before */
        daemon_flags_join_over(start->state);
    }
    cli_note(cli, "berthd has ended, and nothing of this is left here");
    return true;
}

/* Ends a berthd that was to join and has not, and removes what it has made. */
static void join_undo(struct cli *cli, const struct start *start)
{
    int r = daemon_stop(start->pid, DOWN_DEFAULT_MS);
    if (r < 0 && r != -ESRCH) {
        cli_note(cli, "berthd (pid %d) does not end: %s; berth down --forget ends it",
                 (int)start->pid, err_sentence(r));
        return;
    }
    if (join_clear(cli, start)) { /* the answer may have been on its way */
        cli_note(cli, "if it was let in at that very moment, berth ls host shows it, and "
                      "berth rm host/NAME removes it");
    }
}

/* berthd has ended by itself, since the cluster has refused it. */
static int fail_not_let_in(struct cli *cli, const struct start *start)
{
    CLEANUP_FREE char *why = daemon_log_why(start->log_path, start->log_from);
    if (why != NULL) {
        (void)cli_fail(cli, EXIT_AUTH, "the cluster does not let this host in: %s%s", why,
                       strstr(why, "token") != NULL
                           ? "\nhint: berth token join on a member makes another token"
                           : "");
    } else {
        (void)fail_ended(cli, start, "has ended: the cluster does not let this host in");
    }
    (void)join_clear(cli, start); /* it says so; the pid is no longer its own */
    return EXIT_AUTH;
}

/* Nobody at the token's address has said anything. */
static int fail_join_late(struct cli *cli, const struct start *start)
{
    struct join_token token;
    char address[IPV4_TEXT_SIZE] = "?";
    char span[SPAN_TEXT_SIZE];
    span_format(start->timeout_ms, span);
    if (join_token_parse(start->token, &token, NULL) == 0) {
        format_ipv4(token.address, address);
        secret_wipe(&token, sizeof(token));
    }
    (void)cli_fail(cli, EXIT_TIMED_OUT,
                   "after %s this host was not let in: %s, which the join token names, "
                   "has not answered, or knows no leader\n"
                   "hint: is it up, and does a firewall let its ports 7440 to 7442 "
                   "through? A token that was mistyped may name another",
                   span, address);
    join_undo(cli, start);
    return EXIT_TIMED_OUT;
}

static const char *why_late(const struct start *start)
{
    return start->healthy ? "this host is not known to the cluster"
                          : "it knows no leader: are enough other hosts up?";
}

static int fail_late(struct cli *cli, const struct start *start)
{
    CLEANUP_FREE char *tail =
        daemon_log_tail(start->log_path, start->log_from, TAIL_LINES);
    char span[SPAN_TEXT_SIZE];
    span_format(start->timeout_ms, span);
    (void)cli_fail(cli, EXIT_TIMED_OUT,
                   "berthd runs (pid %d), but after %s %s; it goes on trying",
                   (int)start->pid, span, why_late(start));
    if (start->was_member && !start->healthy && start->token[0] != '\0') {
        cli_note(cli, "hint: this host was a member already, so it asks the token's host "
                      "only who votes;\nits log says what that one answers");
    } else if (start->was_member && !start->healthy) {
        cli_note(cli,
                 "hint: if the cluster has a leader, those whom this host knows to vote "
                 "may all be\ngone: berth down, then berth join with a token of berth "
                 "token join on a member;\nits VMs and disks stay");
    }
    fprintf(cli->err, "the end of %s:\n%s", start->log_path,
            tail != NULL ? tail : "  (nothing)\n");
    return EXIT_TIMED_OUT;
}

static struct http *local_http(struct cli *cli, const struct start *start)
{
    /* It restores before it serves. */
    struct connection target = {.may_be_silent = start->restore[0] != '\0'};
    int length = snprintf(target.socket_path, sizeof(target.socket_path),
                          "%s/" STATE_FILE_SOCKET, start->state);
    if (length < 0 || (size_t)length >= sizeof(target.socket_path)) {
        (void)cli_fail(cli, EXIT_USAGE, "--state: %s is too long for a socket",
                       start->state);
        return NULL;
    }
    return connection_http_to(cli, &target);
}

/* True once this host serves, knows a leader and is a member; *ret_host is its document.
 */
static bool is_up(struct start *start, struct http *http, json_t **ret_host)
{
    struct http_answer answer = {0};
    char path[REMOTE_PATH_SIZE];
    start->healthy =
        http_try(http, "GET", "/healthz", NULL, &answer) == 0 && answer.status == 200;
    if (start->healthy) {
        (void)snprintf(start->host, sizeof(start->host), "%s",
                       json_member_text(answer.document, "host", ""));
    }
    http_answer_fini(&answer);
    if (!start->healthy || !name_valid(start->host)) {
        return false;
    }
    (void)snprintf(path, sizeof(path), "/v1/hosts/%s", start->host);
    bool member = http_try(http, "GET", path, NULL, &answer) == 0 && answer.status == 200;
    *ret_host = member ? json_incref(answer.document) : NULL;
    http_answer_fini(&answer);
    return member;
}

/* True once a member was turned away for long enough: it was removed, or its key is not
 * the one that the cluster knows. *ret_answer says so, and the way back. */
static bool
is_shut_out(struct start *start, struct http *http, struct http_answer *ret_answer)
{
    uint64_t now_ms = clock_now_ms(clock_system());
    *ret_answer = (struct http_answer){0};
    bool shut_out = start->was_member && !start->healthy &&
                    http_try(http, "GET", "/v1/self", NULL, ret_answer) == 0 &&
                    ret_answer->status == 403;
    start->shut_out_ms = !shut_out                 ? 0
                         : start->shut_out_ms == 0 ? now_ms
                                                   : start->shut_out_ms;
    if (!shut_out || now_ms - start->shut_out_ms < SHUT_OUT_MS) {
        http_answer_fini(ret_answer);
        return false;
    }
    return true;
}

static int
fail_shut_out(struct cli *cli, const struct start *start, struct http_answer *answer)
{
    progress_clear(cli);
    cli_note(cli, "berthd runs (pid %d) and goes on trying, but it is not let in",
             (int)start->pid);
    int code = remote_problem(cli, answer);
    http_answer_fini(answer);
    return code;
}

static int wait_up(struct cli *cli, struct start *start, bool child, json_t **ret_host)
{
    uint64_t deadline_ms = clock_now_ms(clock_system()) + start->timeout_ms;
    struct http *http = local_http(cli, start);
    if (http == NULL) {
        return EXIT_FAILED;
    }
    if (start->restore[0] != '\0' && !cli->err_tty) { /* else the progress says so */
        cli_note(cli, "restoring; first, leases of before are waited out");
    }
    while (!is_up(start, http, ret_host)) {
        int status = 0;
        char how[64];
        if (child && waitpid(start->pid, &status, WNOHANG) == start->pid) {
            progress_clear(cli);
            if (WIFEXITED(status) && WEXITSTATUS(status) == CODE_NOT_LET_IN) {
                return fail_not_let_in(cli, start);
            }
            (void)snprintf(how, sizeof(how),
                           WIFSIGNALED(status) ? "died of signal %d"
                                               : "ended with code %d",
                           WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
            return fail_ended(cli, start, how);
        }
        if (!child && daemon_find(start->state) != start->pid) {
            return fail_ended(cli, start, "has ended");
        }
        struct http_answer answer;
        if (is_shut_out(start, http, &answer)) {
            return fail_shut_out(cli, start, &answer);
        }
        if (clock_now_ms(clock_system()) >= deadline_ms) {
            progress_clear(cli);
            return is_joining(start) ? fail_join_late(cli, start) : fail_late(cli, start);
        }
        progress_show(cli, "waiting for berthd: %s",
                      start->healthy ? "joining"
                      : start->restore[0] != '\0'
                          ? "restoring; leases of before are waited out"
                          : "no leader yet");
        pause_ms(POLL_MS);
    }
    progress_clear(cli);
    return EXIT_OK;
}

/* ---- saying so ---- */

static void print_next(struct cli *cli, const struct start *start, const json_t *host)
{
    char path[PATH_MAX + 16];
    char pin[PIN_TEXT_SIZE];
    CLEANUP_FREE uint8_t *pem = NULL;
    size_t size = 0;
    uint64_t port = json_member_u64(view_status(host), "apiPort", 0);
    if (start->restore[0] != '\0') {
        cli_note(
            cli,
            "\nA backup has images by digest, not their content: VMs stay placed until "
            "a host\nthat is up has it (berth ls says which). Bring it with the files "
            "that describe\nthe images:\n"
            "  berth apply FILE              uploads or fetches what no host has");
    }
    cli_note(cli,
             "\nnext:\n"
             "  berth token join              for each further host: berth join TOKEN\n"
             "  berth apply FILE --wait       make networks, templates, groups\n"
             "  berth ls; berth host ls; berth events -f");
    (void)snprintf(path, sizeof(path), "%s/tls.crt", start->state);
    if (port != 0 && fd_read_file(AT_FDCWD, path, PEM_SIZE_MAX, &pem, &size, NULL) == 0 &&
        certificate_pin((const char *)pem, pin) == 0) {
        cli_note(cli,
                 "from elsewhere, with a token of `berth token create NAME`:\n"
                 "  berth login https://%s:%" PRIu64 " --pin %s",
                 json_member_text(view_status(host), "address", start->host), port, pin);
    }
}

static int
print_up(struct cli *cli, const struct start *start, const json_t *host, bool running)
{
    const char *what = running                   ? "was up already"
                       : start->was_member       ? "is up again"
                       : start->token[0] != '\0' ? "has joined the cluster"
                       : start->restore[0] != '\0'
                           ? "is up and has founded a cluster with the backup's state"
                           : "is up and has founded a cluster";
    output_tell(cli, "host/%s %s (%s, pid %d, log %s)", start->host, what,
                json_member_text(view_status(host), "address", "no address"),
                (int)start->pid, start->log_path);
    if (start->was_member && start->token[0] != '\0') {
        cli_note(cli, "it was a member already and still is, of the same cluster; "
                      "another is joined after berth down --forget");
    }
    if (!start->was_member && start->token[0] == '\0') {
        print_next(cli, start, host);
    }
    return output_is_document(cli) ? output_document(cli, host) : (int)EXIT_OK;
}

/* ---- commands ---- */

static int run_foreground(struct cli *cli, const struct start *start)
{
    const char *arguments[DAEMON_ARGUMENTS_MAX];
    memcpy(arguments, start->arguments, sizeof(arguments));
    for (unsigned i = 0; i + 1 < start->argument_count; i++) {
        if (strcmp(arguments[i], "--join") == 0) {
            arguments[i + 1] = start->token; /* stdin stays the terminal's */
        }
    }
    (void)execvp(arguments[0], (char *const *)(uintptr_t)arguments);
    return cli_fail(cli, EXIT_FAILED, "%s cannot be started: %s", arguments[0],
                    strerror(errno)); // NOLINT(concurrency-mt-unsafe)
}

static int bring_up(struct cli *cli, struct start *start)
{
    CLEANUP_JSON json_t *host = NULL;
    struct err err;
    int code = prepare(cli, start);
    if (code != EXIT_OK) {
        return code;
    }
    start->pid = daemon_find(start->state);
    bool running = start->pid != 0;
    if (running && start->restore[0] != '\0') {
        return cli_fail(cli, EXIT_CONFLICT, "berthd runs here already (pid %d)",
                        (int)start->pid);
    }
    if (running && start->was_member && start->token[0] != '\0') {
        return cli_fail(cli, EXIT_CONFLICT,
                        "this host is a member of a cluster already, and its berthd runs "
                        "(pid %d)\nhint: if it knows no leader while the cluster has "
                        "one, berth down, then this again",
                        (int)start->pid);
    }
    if (running && start->token[0] != '\0') {
        return cli_fail(cli, EXIT_CONFLICT,
                        "berthd runs here already (pid %d), and was not let in yet by "
                        "the token that it was given\nhint: berth down --forget, then "
                        "berth join with this one",
                        (int)start->pid);
    }
    code = running ? (int)EXIT_OK : check_key(cli, start);
    code = running || code != EXIT_OK ? code : check_join(cli, start);
    if (code != EXIT_OK) {
        return code;
    }
    if (!running && start->was_member) {
        code = daemon_flags_check(cli, start->state);
    }
    if (code != EXIT_OK) {
        return code;
    }
    if (!running) {
        daemon_flags_remember(cli, start->state,
                              start->token[0] != '\0' && !start->was_member);
    }
    if (!running && cli_flag(cli, "foreground") != NULL) {
        return run_foreground(cli, start);
    }
    if (!running) {
        start->pid = daemon_start(start->arguments, start->log_path,
                                  start->token[0] != '\0'   ? start->token
                                  : start->input[0] != '\0' ? start->input
                                                            : NULL,
                                  &err);
        secret_wipe(start->input, sizeof(start->input));
    }
    if (start->pid < 0) {
        return cli_fail(cli, EXIT_FAILED, "%s", err.text);
    }
    code = wait_up(cli, start, !running, &host);
    if (code == EXIT_OK) {
        daemon_flags_join_over(start->state);
        code = print_up(cli, start, host, running);
    }
    if (start->was_member) { /* whoever was not up in time as well */
        daemon_flags_tell(cli, start->state, running ? start->pid : 0);
    }
    return code;
}

int run_up(struct cli *cli)
{
    struct start start = {0};
    return bring_up(cli, &start);
}

int run_join(struct cli *cli)
{
    struct start start = {0};
    const char *token = cli->words[0];
    if (strcmp(token, "-") == 0) {
        token = fgets(start.token, sizeof(start.token), stdin) != NULL ? start.token : "";
        start.token[strcspn(start.token, "\r\n")] = '\0';
    } else {
        (void)snprintf(start.token, sizeof(start.token), "%s", token);
    }
    int code = host_flags_check_token(cli, token);
    if (code == EXIT_OK) {
        code = bring_up(cli, &start);
    }
    state_before_fini(&start.before);
    return code;
}

/* With no berthd running: its VMs and networks, and with `forget` its membership. */
static int end_vms(struct cli *cli, const struct start *start, bool forget)
{
    const char *arguments[] = {start->program, forget ? "--forget" : "--cleanup",
                               "--state", start->state, NULL};
    struct err err;
    int status = 0;
    pid_t pid = daemon_start(arguments, start->log_path, NULL, &err);
    if (pid < 0) {
        return cli_fail(cli, EXIT_FAILED, "%s", err.text);
    }
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        return fail_ended(cli, start,
                          forget ? "--forget did not work" : "--cleanup did not work");
    }
    fprintf(cli->out, "this host's VMs and networks have ended\n");
    if (forget) {
        daemon_flags_join_over(start->state);
        fprintf(cli->out,
                "it has forgotten its cluster; what it had is in %s/left-*\n"
                "next: berth join TOKEN, or berth up\n",
                start->state);
    }
    return EXIT_OK;
}

/* What ends with it, as the host itself says: there may be no leader to ask. */
static void tell_forget(struct cli *cli, const struct start *start)
{
    const char *arguments[] = {start->program, "--list-vms", "--state", start->state,
                               NULL};
    CLEANUP_FREE char *output = NULL;
    struct err err = {0};
    size_t index;
    json_t *vm;
    int r = daemon_run(arguments, start->log_path, &output, &err);
    CLEANUP_JSON json_t *vms = NULL;
    r = r == 0 ? json_parse(output, strlen(output), &vms, &err) : r;
    if (r != 0 || !json_is_array(vms)) {
        cli_note(cli, "it cannot be told which VMs are here: %s", err.text);
        return;
    }
    if (json_array_size(vms) > 0) {
        fputs("With all that their disks hold, these end here:\n", cli->err);
    }
    json_array_foreach(vms, index, vm)
    {
        const char *unread = json_member_text(vm, "unread", NULL);
        if (unread != NULL) {
            fprintf(cli->err, "  a VM whose record cannot be read: %s\n", unread);
            continue;
        }
        bool runs = json_is_true(json_object_get(vm, "runs"));
        bool waits = json_is_true(json_object_get(vm, "waits"));
        bool keeps = json_is_true(json_object_get(vm, "keeps"));
        fprintf(cli->err, "  %s/vm/%s %s, epoch %" PRIu64 "%s\n",
                json_member_text(vm, "tenant", ""), json_member_text(vm, "name", ""),
                runs ? "runs" : "does not run", json_member_u64(vm, "epoch", 0),
                waits   ? ", and waits for this host: nothing else has its disks"
                : keeps ? ", was stopped and keeps its disks here: nothing else has them"
                        : "");
    }
}

/* What it forgets cannot be had back by a command. */
static int confirm_forget(struct cli *cli, const struct start *start)
{
    if (cli_flag(cli, "forget") == NULL) {
        return EXIT_OK;
    }
    tell_forget(cli, start);
    if (!cli->yes && asking_can(cli)) {
        fputs("This host's VMs and their disks end, and it leaves its cluster without a "
              "word.\n",
              cli->err);
    }
    return asking_confirm(cli, "--forget", "nothing was done");
}

static int stop_berthd(struct cli *cli, const struct start *start)
{
    pid_t pid = daemon_find(start->state);
    if (pid == 0) {
        cli_note(cli, "no berthd runs here (%s)", start->state);
        return EXIT_OK;
    }
    int r = daemon_stop(pid, start->timeout_ms);
    if (r == BERTH_ETIMEOUT) {
        return cli_fail(cli, EXIT_TIMED_OUT,
                        "berthd (pid %d) was asked to end and has not", (int)pid);
    }
    if (r < 0 && r != -ESRCH) {
        return cli_fail(cli, EXIT_FAILED, "stop berthd (pid %d): %s", (int)pid,
                        strerror(-r)); // NOLINT(concurrency-mt-unsafe)
    }
    fprintf(cli->out, "berthd has ended (pid %d)%s\n", (int)pid,
            cli_flag(cli, "vms") == NULL && cli_flag(cli, "forget") == NULL
                ? "; VMs that may be restarted elsewhere end in seconds unless it is "
                  "started again"
                : "");
    return EXIT_OK;
}

/* Whether a host was ever begun there: only then can anything of one be ended. */
static bool is_state_folder(const char *state)
{
    static const char *const names[] = {STATE_FILE_HOST, STATE_FILE_KEY, "vms"};
    char path[PATH_MAX];
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        (void)snprintf(path, sizeof(path), "%.4000s/%s", state, names[i]);
        if (access(path, F_OK) == 0) {
            return true;
        }
    }
    return false;
}

int run_down(struct cli *cli)
{
    struct start start = {0};
    bool forget = cli_flag(cli, "forget") != NULL;
    bool ends_vms = forget || cli_flag(cli, "vms") != NULL;
    if (!is_state_folder(cli->state) && daemon_find(cli->state) == 0) {
        return cli_fail(cli, EXIT_NOT_FOUND,
                        "%s is no host's state folder, so nothing was ended\n"
                        "hint: is the path right (--state), and its disk mounted?",
                        cli->state);
    }
    int code = cli_flag_duration(cli, "timeout", DOWN_DEFAULT_MS, &start.timeout_ms);
    if (code == EXIT_OK) {
        code = state_open(cli, &start);
    }
    if (code == EXIT_OK) {
        daemon_program(start.program, sizeof(start.program));
        code = confirm_forget(cli, &start);
    }
    if (code == EXIT_OK) {
        code = stop_berthd(cli, &start);
    }
    if (code == EXIT_OK && ends_vms) {
        daemon_program(start.program, sizeof(start.program));
        code = end_vms(cli, &start, forget);
    }
    return code;
}
