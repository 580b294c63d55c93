/* snapshot make, snapshot ls, restore. */
#include "base/clock.h"
#include "cli/asking.h"
#include "cli/kind_view.h"
#include "cli/output.h"
#include "cli/run.h"
#include "cli/waiting.h"

#include <inttypes.h>
#include <string.h>

#define POLL_MS 200
#define MADE_MS UINT64_C(600000) /* gigabytes may be written */

/* ---- make ---- */

static int
tell_made(struct cli *cli, const struct object_name *name, const json_t *snapshot)
{
    const char *phase = view_phase(snapshot, KIND_SNAPSHOT);
    const char *reason = json_member_text(view_status(snapshot), "reason", "");
    if (strcmp(phase, "ready") == 0) {
        output_tell(cli, "snapshot/%s: ready, %s on %s", name->name,
                    json_member_text(view_status(snapshot), "size", "0"),
                    json_member_text(view_status(snapshot), "host", "?"));
        return EXIT_OK;
    }
    return cli_fail(cli, EXIT_FAILED, "snapshot/%s is %s%s%s", name->name, phase,
                    reason[0] != '\0' ? ": " : "", reason);
}

static int wait_made(struct cli *cli, const struct object_name *name)
{
    uint64_t timeout_ms = 0;
    uint64_t start_ms = clock_now_ms(clock_system());
    int code = cli_flag_duration(cli, "timeout", MADE_MS, &timeout_ms);
    while (code == EXIT_OK) {
        CLEANUP_JSON json_t *snapshot = NULL;
        code = object_get(cli, name, &snapshot);
        if (code != EXIT_OK) {
            break;
        }
        if (strcmp(view_phase(snapshot, KIND_SNAPSHOT), "making") != 0) {
            progress_clear(cli);
            return tell_made(cli, name, snapshot);
        }
        if (clock_now_ms(clock_system()) - start_ms >= timeout_ms) {
            progress_clear(cli);
            return cli_fail(cli, EXIT_TIMED_OUT,
                            "snapshot/%s is still being made; the cluster goes on, this "
                            "command does not; next: berth show snapshot/%s",
                            name->name, name->name);
        }
        progress_show(cli, "snapshot/%s: %s", name->name,
                      json_member_text(view_status(snapshot), "progress", "begins"));
        pause_ms(POLL_MS);
    }
    progress_clear(cli);
    return code;
}

int run_snapshot_make(struct cli *cli)
{
    struct object_name vm;
    struct object_name made;
    char path[REMOTE_PATH_SIZE];
    CLEANUP_JSON json_t *answer = NULL;
    CLEANUP_JSON json_t *body =
        cli->word_count > 1 ? json_pack("{s:s}", "name", cli->words[1]) : json_object();
    if (body == NULL) {
        return cli_fail(cli, EXIT_USAGE, "the name is not UTF-8");
    }
    int code = object_name_find(cli, cli->words[0], KIND_VM, &vm);
    if (code == EXIT_OK) {
        object_path(&vm, ":snapshot", path);
        code = remote_call(cli, "POST", path, body, &answer);
    }
    if (code != EXIT_OK) {
        return code;
    }
    const char *name =
        json_member_text(answer, "name", NULL); /* it may have been given */
    if (name == NULL) {
        return cli_fail(cli, EXIT_NOT_FOUND, "the snapshot is gone again already");
    }
    made = (struct object_name){.info = kind_info(KIND_SNAPSHOT)};
    (void)snprintf(made.tenant, sizeof(made.tenant), "%s", vm.tenant);
    (void)snprintf(made.name, sizeof(made.name), "%s", name);
    output_tell(cli, "snapshot/%s: is made of vm/%s", made.name, vm.name);
    code = cli_flag(cli, "wait") != NULL ? wait_made(cli, &made) : (int)EXIT_OK;
    if (output_is_document(cli)) { /* also what a wait gave up on */
        int shown = output_objects(cli, &made, 1, false);
        code = code == EXIT_OK ? shown : code;
    }
    return code;
}

/* ---- ls ---- */

/* Those of one VM alone, by its uid: another of its name has none of them. */
static int of_vm(struct cli *cli, json_t *list)
{
    struct object_name vm;
    CLEANUP_JSON json_t *object = NULL;
    int code = object_name_find(cli, cli->words[0], KIND_VM, &vm);
    code = code == EXIT_OK ? object_get(cli, &vm, &object) : code;
    uint64_t uid = json_member_u64(view_meta(object), "uid", 0);
    json_t *items = json_object_get(list, "items");
    for (size_t i = json_array_size(items); code == EXIT_OK && i > 0; i--) {
        const json_t *spec = view_spec(json_array_get(items, i - 1));
        if (json_member_u64(spec, "vmUid", 0) != uid) {
            json_array_remove(items, i - 1);
        }
    }
    return code;
}

int run_snapshot_ls(struct cli *cli)
{
    const struct kind_info *info = kind_info(KIND_SNAPSHOT);
    struct view_time time = {.now_wall_ms = clock_wall_ms(clock_system())};
    char query[REMOTE_PATH_SIZE / 2] = "";
    CLEANUP_JSON json_t *list = NULL;
    if (cli->tenant != NULL) {
        (void)snprintf(query, sizeof(query), "tenant=%s", cli->tenant);
    }
    int code = remote_list(cli, info, query, NULL, &list);
    code = code == EXIT_OK && cli->word_count > 0 ? of_vm(cli, list) : code;
    if (code != EXIT_OK || output_is_document(cli)) {
        return code == EXIT_OK ? output_document(cli, list) : code;
    }
    const json_t *items = json_object_get(list, "items");
    if (json_array_size(items) == 0) {
        cli_note(cli, "no snapshots%s%s", cli->word_count > 0 ? " of " : "",
                 cli->word_count > 0 ? cli->words[0] : "");
        return EXIT_OK;
    }
    return kind_view_print(cli, info, items, &time);
}

/* ---- restore ---- */

/* What is lost, and since when. */
static int confirm(struct cli *cli, const struct object_name *vm, const char *snapshot)
{
    struct object_name name = {.info = kind_info(KIND_SNAPSHOT)};
    CLEANUP_JSON json_t *object = NULL;
    (void)snprintf(name.tenant, sizeof(name.tenant), "%s", vm->tenant);
    (void)snprintf(name.name, sizeof(name.name), "%s", snapshot);
    int code = object_get(cli, &name, &object);
    if (code != EXIT_OK || cli->yes) {
        return code;
    }
    fprintf(cli->err,
            "This gives up what %s/vm/%s has in memory and on its disks since %s\n",
            vm->tenant, vm->name,
            json_member_text(view_status(object), "taken", "the snapshot"));
    return asking_confirm(cli, "berth restore", "nothing was restored");
}

int run_restore(struct cli *cli)
{
    struct waiting_subject subject = {0};
    char path[REMOTE_PATH_SIZE];
    CLEANUP_JSON json_t *before = NULL;
    const char *snapshot = cli->words[1];
    const char *prefix = "snapshot/";
    if (strncmp(snapshot, prefix, strlen(prefix)) == 0) {
        snapshot += strlen(prefix);
    }
    json_t *lazy = cli_flag(cli, "lazy") != NULL ? json_true() : NULL; /* else not said */
    CLEANUP_JSON json_t *body =
        json_pack("{s:s, s:o*}", "snapshot", snapshot, "lazy", lazy);
    if (body == NULL || strlen(snapshot) >= NAME_SIZE) {
        return cli_fail(cli, EXIT_USAGE, "the snapshot's name is none");
    }
    int code = object_name_find(cli, cli->words[0], KIND_VM, &subject.name);
    code = code == EXIT_OK ? object_get(cli, &subject.name, &before) : code;
    code = code == EXIT_OK ? confirm(cli, &subject.name, snapshot) : code;
    if (code != EXIT_OK) {
        return code;
    }
    (void)snprintf(subject.was_starting, sizeof(subject.was_starting), "%s",
                   json_member_text(view_status(before), "startingAt", ""));
    object_path(&subject.name, ":restore", path);
    code = remote_call(cli, "POST", path, body, NULL);
    if (code != EXIT_OK) {
        return code;
    }
    output_tell(cli, "vm/%s: goes back to snapshot/%s", subject.name.name, snapshot);
    code = cli_flag(cli, "wait") != NULL ? waiting_run_flags(cli, &subject, 1)
                                         : (int)EXIT_OK;
    if (output_is_document(cli)) {
        int shown = output_objects(cli, &subject.name, 1, false);
        code = code == EXIT_OK ? shown : code;
    }
    return code;
}
