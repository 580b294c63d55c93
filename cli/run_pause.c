/* pause, resume. */
#include "cli/kind_view.h"
#include "cli/output.h"
#include "cli/run.h"
#include "cli/waiting_state.h"

#include <stdlib.h>
#include <string.h>

/* What the two differ in. */
struct pausing {
    const char *action;
    const char *said;
    const char *already;
    bool paused;
};

static bool wishes_pause(const json_t *vm)
{
    return json_is_true(json_object_get(view_spec(vm), "paused"));
}

static int pause_one(struct cli *cli,
                     const struct pausing *pausing,
                     const char *word,
                     struct object_name *ret_name)
{
    char path[REMOTE_PATH_SIZE];
    CLEANUP_JSON json_t *before = NULL;
    int code = object_name_find(cli, word, KIND_VM, ret_name);
    code = code == EXIT_OK ? object_get(cli, ret_name, &before) : code;
    if (code != EXIT_OK) {
        return code;
    }
    object_path(ret_name, pausing->action, path);
    code = remote_call(cli, "POST", path, NULL, NULL);
    if (code == EXIT_OK) {
        bool was = wishes_pause(before) == pausing->paused;
        output_tell(cli, "vm/%s: %s", ret_name->name,
                    was ? pausing->already : pausing->said);
    }
    return code;
}

static bool stands_still(const json_t *vm)
{
    return json_is_true(json_object_get(view_status(vm), "paused"));
}

static const struct awaited_state still = {.is_so = stands_still,
                                           .is_wished = wishes_pause,
                                           .taken_back = "is not to be paused any more",
                                           .not_yet = "does not stand still yet"};

/* All are told before any is waited for; the first fault is the exit code. */
static int run_all(struct cli *cli, const struct pausing *pausing)
{
    struct waiting_subject *subjects = calloc(cli->word_count, sizeof(*subjects));
    unsigned count = 0;
    int code = EXIT_OK;
    if (subjects == NULL) {
        return cli_fail(cli, EXIT_FAILED, "out of memory");
    }
    for (unsigned i = 0; i < cli->word_count; i++) {
        int r = pause_one(cli, pausing, cli->words[i], &subjects[count].name);
        count += r == EXIT_OK ? 1U : 0U;
        code = code == EXIT_OK ? r : code;
    }
    if (code == EXIT_OK && cli_flag(cli, "wait") != NULL) {
        code = pausing->paused ? waiting_state(cli, &still, subjects, count)
                               : waiting_run_flags(cli, subjects, count);
    }
    if (output_is_document(cli) && count > 0) {
        int shown = waiting_show(cli, subjects, count);
        code = code == EXIT_OK ? shown : code;
    }
    free(subjects);
    return code;
}

int run_pause(struct cli *cli)
{
    return run_all(cli, &(struct pausing){.action = ":pause",
                                          .said = "pauses",
                                          .already = "is paused already",
                                          .paused = true});
}

int run_resume(struct cli *cli)
{
    return run_all(cli, &(struct pausing){.action = ":resume",
                                          .said = "goes on",
                                          .already = "is not paused"});
}
