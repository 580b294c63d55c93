/* recover: this host's log, shown, and made the cluster's only one. */
#include "base/cleanup.h"
#include "base/plural.h"
#include "base/state_file.h"
#include "cli/daemon.h"
#include "cli/output.h"
#include "cli/run.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define TAIL_LINES 8

struct recovery {
    char state[PATH_MAX]; /* absolute */
    char program[PATH_MAX];
    char log_path[PATH_MAX];
    off_t log_from; /* the log is ours from here on */
};

static int prepare(struct cli *cli, struct recovery *recovery)
{
    struct stat status;
    if (realpath(cli->state, recovery->state) == NULL) {
        return cli_fail(cli, EXIT_NOT_FOUND, "no berthd has run here: %s: %s", cli->state,
                        strerror(errno)); // NOLINT(concurrency-mt-unsafe)
    }
    pid_t pid = daemon_find(recovery->state);
    if (pid != 0) {
        return cli_fail(
            cli, EXIT_CONFLICT,
            "berthd runs here (pid %d): berth down first. While a majority of "
            "the voters can come back, bring them back instead",
            (int)pid);
    }
    (void)snprintf(recovery->log_path, sizeof(recovery->log_path),
                   "%.4000s/" STATE_FILE_LOG, recovery->state);
    recovery->log_from = stat(recovery->log_path, &status) == 0 ? status.st_size : 0;
    daemon_program(recovery->program, sizeof(recovery->program));
    return EXIT_OK;
}

/* berthd does the work; what it logs tells why it could not. One that only looks writes
 * nothing, no log either: it tells us. */
static int run_berthd(struct cli *cli,
                      const struct recovery *recovery,
                      bool looks,
                      char **ret_output)
{
    const char *arguments[] = {recovery->program, looks ? "--inspect-log" : "--recover",
                               "--state", recovery->state, NULL};
    struct err err;
    int r = daemon_run(arguments, looks ? NULL : recovery->log_path, ret_output, &err);
    if (r < 0) {
        return cli_fail(cli, EXIT_FAILED, "%s", err.text);
    }
    if (r > 0 && looks) {
        return cli_fail(cli, EXIT_FAILED, "it did not work; nothing was changed");
    }
    if (r > 0) {
        CLEANUP_FREE char *tail =
            daemon_log_tail(recovery->log_path, recovery->log_from, TAIL_LINES);
        (void)cli_fail(cli, EXIT_FAILED, "it did not work:");
        fputs(tail != NULL ? tail : "  (nothing was said)\n", cli->err);
        return EXIT_FAILED;
    }
    return EXIT_OK;
}

/* ---- showing ---- */

static void print_members(struct cli *cli, const json_t *members)
{
    size_t index;
    json_t *member;
    json_array_foreach(members, index, member)
    {
        fprintf(cli->out, "  %-9s  %s (%s)%s\n", json_member_text(member, "role", ""),
                json_member_text(member, "name", ""),
                json_member_text(member, "address", ""),
                json_is_true(json_object_get(member, "self")) ? ", this host" : "");
    }
}

static void print_newest(struct cli *cli, const json_t *newest)
{
    char when[INSTANT_TEXT_SIZE];
    const char *tenant = json_member_text(newest, "tenant", "");
    if (json_object_size(newest) == 0) {
        return;
    }
    instant_format_local(instant_parse(json_member_text(newest, "time", "")), when);
    fprintf(cli->out, "  newest     %s%s%s/%s %s, %s\n", tenant,
            tenant[0] != '\0' ? "/" : "", json_member_text(newest, "kind", ""),
            json_member_text(newest, "name", ""), json_member_text(newest, "verb", ""),
            when);
}

static void print_log(struct cli *cli, const json_t *log)
{
    const json_t *objects = json_object_get(log, "objects");
    uint64_t hosts = json_member_u64(objects, "hosts", 0);
    uint64_t tenants = json_member_u64(objects, "tenants", 0);
    uint64_t groups = json_member_u64(objects, "groups", 0);
    uint64_t vms = json_member_u64(objects, "vms", 0);
    fprintf(cli->out, "The log of %s (%s) holds\n", json_member_text(log, "host", ""),
            json_member_text(log, "folder", ""));
    fprintf(cli->out,
            "  entries    up to %" PRIu64 " of term %" PRIu64 "; term now %" PRIu64 "\n",
            json_member_u64(log, "lastIndex", 0), json_member_u64(log, "lastTerm", 0),
            json_member_u64(log, "term", 0));
    if (json_member_text(log, "damage", "")[0] != '\0') {
        fprintf(cli->out, "  damage     %s\n             what stood behind it is lost\n",
                json_member_text(log, "damage", ""));
    }
    fprintf(cli->out,
            "  state      revision %" PRIu64 ": %" PRIu64 " host%s, %" PRIu64
            " tenant%s, %" PRIu64 " group%s, %" PRIu64 " VM%s\n",
            json_member_u64(log, "revision", 0), hosts, plural_s(hosts), tenants,
            plural_s(tenants), groups, plural_s(groups), vms, plural_s(vms));
    print_newest(cli, json_object_get(log, "newest"));
    print_members(cli, json_object_get(log, "members"));
}

static int show(struct cli *cli, const struct recovery *recovery, json_t **ret_log)
{
    CLEANUP_FREE char *output = NULL;
    int code = run_berthd(cli, recovery, true, &output);
    if (code != EXIT_OK) {
        return code;
    }
    if (json_parse(output, strlen(output), ret_log, NULL) < 0) {
        return cli_fail(cli, EXIT_FAILED, "berthd did not say what its log holds");
    }
    if (output_is_document(cli)) {
        return output_document(cli, *ret_log);
    }
    print_log(cli, *ret_log);
    return EXIT_OK;
}

/* ---- asking ---- */

static int confirm(struct cli *cli, const json_t *log)
{
    char answer[NAME_MAX] = "";
    const char *host = json_member_text(log, "host", "");
    fprintf(
        cli->err,
        "\nAfter this, %s is the only voter. What the others stored and %s did not is "
        "lost for good.\n"
        "Make sure that each of the others is off, or has run `berth down --forget`: "
        "together they\nare a majority that knows nothing of this. Where more than one "
        "is left, recover on the one\nwith the highest term of its last entry, then the "
        "highest entry (berth recover --show).\n",
        host, host);
    if (cli->yes) {
        return EXIT_OK;
    }
    if (!cli->in_tty || !cli->err_tty) {
        return cli_fail(cli, EXIT_USAGE, "nobody can be asked here: --yes goes on");
    }
    fprintf(cli->err, "Type the name of this host to go on: ");
    (void)fflush(cli->err); /* the answer shows whether it was read */
    bool read = fgets(answer, sizeof(answer), stdin) != NULL;
    answer[strcspn(answer, "\r\n")] = '\0';
    return read && strcmp(answer, host) == 0
               ? EXIT_OK
               : cli_fail(cli, EXIT_FAILED, "nothing was changed");
}

static void print_next(struct cli *cli, const json_t *log)
{
    size_t index;
    json_t *member;
    output_tell(cli,
                "%s is the only voter now; the log of before is kept beside it, as "
                "raft.before-TIME, until you remove it",
                json_member_text(log, "host", ""));
    cli_note(cli,
             "\nnext:\n  berth up                      start berthd; VMs start again");
    json_array_foreach(json_object_get(log, "members"), index, member)
    {
        if (!json_is_true(json_object_get(member, "self"))) {
            cli_note(
                cli,
                "  berth token join              on this host, then on %s, when it is "
                "repaired:\n"
                "                                berth down --forget; berth join TOKEN",
                json_member_text(member, "name", ""));
        }
    }
}

int run_recover(struct cli *cli)
{
    struct recovery recovery = {0};
    CLEANUP_JSON json_t *log = NULL;
    CLEANUP_FREE char *output = NULL;
    int code = prepare(cli, &recovery);
    code = code == EXIT_OK ? show(cli, &recovery, &log) : code;
    if (code != EXIT_OK || cli_flag(cli, "show") != NULL) {
        return code;
    }
    code = confirm(cli, log);
    if (code == EXIT_OK) {
        cli_note(cli, "waiting until no lease from before is valid, then writing...");
        code = run_berthd(cli, &recovery, false, &output);
    }
    if (code == EXIT_OK) {
        print_next(cli, log);
    }
    return code;
}
