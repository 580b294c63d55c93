/* pause, resume. */
#include "base/clock.h"
#include "cli/kind_view.h"
#include "cli/output.h"
#include "cli/run.h"
#include "cli/waiting.h"

#include <stdlib.h>
#include <string.h>

#define POLL_MS 200

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

/* EXIT_OK once its host says that it stands still. */
static int wait_paused(struct cli *cli, const struct object_name *name, uint64_t until_ms)
{
    for (;;) {
        CLEANUP_JSON json_t *vm = NULL;
        int code = object_get(cli, name, &vm);
        if (code != EXIT_OK || json_is_true(json_object_get(view_status(vm), "paused"))) {
            return code;
        }
        if (!wishes_pause(vm)) {
            return cli_fail(cli, EXIT_CONFLICT, "vm/%s is not to be paused any more: %s",
                            name->name, view_phase(vm, KIND_VM));
        }
        if (clock_now_ms(clock_system()) >= until_ms) {
            return cli_fail(cli, EXIT_TIMED_OUT,
                            "vm/%s does not stand still yet; the cluster goes on, this "
                            "command does not; next: berth show vm/%s",
                            name->name, name->name);
        }
        pause_ms(POLL_MS);
    }
}

static int
wait_all_paused(struct cli *cli, const struct waiting_subject *subjects, unsigned count)
{
    uint64_t timeout_ms = 0;
    int code = cli_flag_duration(cli, "timeout", WAITING_DEFAULT_MS, &timeout_ms);
    uint64_t until_ms = clock_now_ms(clock_system()) + timeout_ms;
    for (unsigned i = 0; i < count && code == EXIT_OK; i++) {
        code = wait_paused(cli, &subjects[i].name, until_ms);
    }
    return code;
}

static int
show_all(struct cli *cli, const struct waiting_subject *subjects, unsigned count)
{
    struct object_name *names = calloc((size_t)count + 1, sizeof(*names));
    if (names == NULL) {
        return cli_fail(cli, EXIT_FAILED, "out of memory");
    }
    for (unsigned i = 0; i < count; i++) {
        names[i] = subjects[i].name;
    }
    int code = output_objects(cli, names, count, true);
    free(names);
    return code;
}

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
        code = pausing->paused ? wait_all_paused(cli, subjects, count)
                               : waiting_run_flags(cli, subjects, count);
    }
    if (output_is_document(cli) && count > 0) {
        int shown = show_all(cli, subjects, count);
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
