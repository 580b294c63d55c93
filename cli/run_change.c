/* scale, start, stop, restart. */
#include "base/parse_number.h"
#include "base/plural.h"
#include "cli/kind_view.h"
#include "cli/run.h"
#include "cli/waiting.h"

#include <inttypes.h>
#include <stdlib.h>

int run_scale(struct cli *cli)
{
    struct waiting_subject subject = {0};
    char path[REMOTE_PATH_SIZE];
    uint64_t replicas = 0;
    struct err err;
    if (parse_u64(cli->words[1], &replicas, &err) < 0 || replicas > GROUP_VMS_MAX) {
        return cli_fail(cli, EXIT_USAGE, "\"%s\": wanted a number of VMs, 0 to %d",
                        cli->words[1], GROUP_VMS_MAX);
    }
    int code = object_name_find(cli, cli->words[0], KIND_GROUP, &subject.name);
    if (code != EXIT_OK) {
        return code;
    }
    CLEANUP_JSON json_t *body = json_pack("{s:I}", "replicas", (json_int_t)replicas);
    object_path(&subject.name, ":scale", path);
    code = remote_call(cli, "POST", path, body, NULL);
    if (code != EXIT_OK) {
        return code;
    }
    fprintf(cli->out, "group/%s: %" PRIu64 " VM%s wanted\n", subject.name.name, replicas,
            plural_s(replicas));
    return cli_flag(cli, "wait") != NULL ? waiting_run_flags(cli, &subject, 1) : EXIT_OK;
}

static int power_one(struct cli *cli,
                     const char *word,
                     const char *action,
                     const char *said,
                     struct waiting_subject *ret_subject)
{
    char path[REMOTE_PATH_SIZE];
    int code = object_name_find(cli, word, KIND_VM, &ret_subject->name);
    if (code == EXIT_OK && cli_flag(cli, "wait") != NULL && action[1] == 'r') {
        CLEANUP_JSON json_t *before = NULL; /* ready is news only after a new start */
        code = object_get(cli, &ret_subject->name, &before);
        (void)snprintf(ret_subject->was_starting, sizeof(ret_subject->was_starting), "%s",
                       json_member_text(view_status(before), "startingAt", ""));
    }
    if (code != EXIT_OK) {
        return code;
    }
    CLEANUP_JSON json_t *body =
        cli_flag(cli, "anywhere") != NULL ? json_pack("{s:b}", "anywhere", 1) : NULL;
    object_path(&ret_subject->name, action, path);
    code = remote_call(cli, "POST", path, body, NULL);
    if (code == EXIT_OK) {
        fprintf(cli->out, "vm/%s: %s\n", ret_subject->name.name, said);
    }
    return code;
}

/* All are told before any is waited for; the first fault is the exit code. */
static int power(struct cli *cli, const char *action, const char *said)
{
    struct waiting_subject *subjects = calloc(cli->word_count, sizeof(*subjects));
    unsigned count = 0;
    int code = EXIT_OK;
    if (subjects == NULL) {
        return cli_fail(cli, EXIT_FAILED, "out of memory");
    }
    for (unsigned i = 0; i < cli->word_count; i++) {
        int r = power_one(cli, cli->words[i], action, said, &subjects[count]);
        count += r == EXIT_OK ? 1U : 0U;
        code = code == EXIT_OK ? r : code;
    }
    if (code == EXIT_OK && cli_flag(cli, "wait") != NULL) {
        code = waiting_run_flags(cli, subjects, count);
    }
    free(subjects);
    return code;
}

int run_start(struct cli *cli)
{
    return power(cli, ":start", "starts");
}

int run_stop(struct cli *cli)
{
    return power(cli, ":stop", "stops");
}

int run_restart(struct cli *cli)
{
    return power(cli, ":restart", "restarts");
}
