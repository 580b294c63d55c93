/* rm: objects, by name or as files name them. */
#include "base/clock.h"
#include "base/plural.h"
#include "cli/asking.h"
#include "cli/disks_lost.h"
#include "cli/kind_view.h"
#include "cli/manifest.h"
#include "cli/object_name.h"
#include "cli/output.h"
#include "cli/run.h"
#include "cli/waiting.h"

#include <stdlib.h>
#include <string.h>

#define GONE_DEFAULT_MS UINT64_C(120000)
#define POLL_MS         300

struct victim {
    struct object_name name;
    unsigned place; /* in which it was named */
    bool from_file; /* gone already is as it should be */
    json_t *uid;    /* as it was before it was removed; NULL: not asked for */
    bool in_doubt;  /* a lost host: VMs may still run there */
};

struct doomed {
    struct victim *victims;
    unsigned count;
    uint64_t deadline_ms;
    json_t *removed; /* documents, as they last were; NULL: none is wanted */
    enum kind bare;  /* of names without their kind; KIND_NONE: there may be none */
};

/* ---- gathering ---- */

/* Users before what they use: VMs and groups, then templates, ... tenants last. */
static int rank(enum kind kind)
{
    static const enum kind order[] = {
        KIND_SNAPSHOT, KIND_GROUP,   KIND_VM,    KIND_TEMPLATE, KIND_DISK,
        KIND_IMAGE,    KIND_NETWORK, KIND_TOKEN, KIND_HOST,     KIND_TENANT};
    for (unsigned i = 0; i < sizeof(order) / sizeof(order[0]); i++) {
        if (order[i] == kind) {
            return (int)i;
        }
    }
    return -1;
}

static int by_rank(const void *a, const void *b)
{
    const struct victim *left = a;
    const struct victim *right = b;
    int order = rank(left->name.info->kind) - rank(right->name.info->kind);
    return order != 0 ? order : (int)left->place - (int)right->place;
}

static struct object_name *add(struct doomed *doomed, bool from_file)
{
    struct victim *victim = &doomed->victims[doomed->count];
    victim->place = doomed->count++;
    victim->from_file = from_file;
    return &victim->name;
}

static void gather_config(struct doomed *doomed, const struct config *config)
{
    for (unsigned i = 0; i < config->object_count; i++) {
        const struct metadata *meta = object_meta(config->objects[i].object);
        struct object_name *name = add(doomed, true);
        name->info = kind_info(config->objects[i].kind);
        memcpy(name->tenant, meta->tenant, sizeof(name->tenant));
        memcpy(name->name, meta->name, sizeof(name->name));
    }
}

static int gather_files(struct cli *cli, struct manifest *ret_manifest)
{
    const char *paths[CLI_GIVEN_MAX];
    unsigned count = 0;
    unsigned cursor = 0;
    const char *path;
    while ((path = cli_flag_next(cli, "file", &cursor)) != NULL) {
        paths[count++] = path;
    }
    return manifest_read(cli, paths, count, ret_manifest);
}

static int gather(struct cli *cli, struct doomed *doomed)
{
    struct manifest manifest;
    int code = gather_files(cli, &manifest);
    if (code == EXIT_OK) {
        doomed->victims = calloc(manifest_objects(&manifest) + cli->word_count + 1,
                                 sizeof(*doomed->victims));
        code = doomed->victims != NULL ? (int)EXIT_OK
                                       : cli_fail(cli, EXIT_FAILED, "out of memory");
    }
    for (unsigned i = 0; code == EXIT_OK && i < manifest.count; i++) {
        gather_config(doomed, &manifest.configs[i]);
    }
    manifest_fini(&manifest);
    for (unsigned i = 0; code == EXIT_OK && i < cli->word_count; i++) {
        code = object_name_find(cli, cli->words[i], doomed->bare, add(doomed, false));
    }
    if (code == EXIT_OK) { /* one that waits for another would wait for ever */
        qsort(doomed->victims, doomed->count, sizeof(*doomed->victims), by_rank);
    }
    return code;
}

static bool has_kind(const struct doomed *doomed, enum kind kind)
{
    for (unsigned i = 0; i < doomed->count; i++) {
        if (doomed->victims[i].name.info->kind == kind) {
            return true;
        }
    }
    return false;
}

/* ---- asking ---- */

static void
label_of(const struct cli *cli, const struct object_name *name, char *ret_label)
{
    object_label(cli, name->info->word, name->tenant, name->name, ret_label);
}

/* What goes with it, where it is more than its name says. */
static int tell_loss(struct cli *cli, const struct object_name *name)
{
    char label[OBJECT_LABEL_SIZE];
    char query[REMOTE_PATH_SIZE / 2];
    CLEANUP_JSON json_t *list = NULL;
    /* With the tenant, also when -t or BERTH_TENANT says it: this is the last look. */
    (void)snprintf(label, sizeof(label), "%s%s%s/%s", name->tenant,
                   name->tenant[0] != '\0' ? "/" : "", name->info->word, name->name);
    if (name->info->kind != KIND_GROUP) {
        fprintf(cli->err, "  %s%s\n", label,
                name->info->kind == KIND_VM ? ", with its disks and snapshots" : "");
        return EXIT_OK;
    }
    (void)snprintf(query, sizeof(query), "tenant=%s&group=%s", name->tenant, name->name);
    int code = remote_list(cli, kind_info(KIND_VM), query, "metadata.name", &list);
    if (code == EXIT_OK) {
        size_t count = json_array_size(json_object_get(list, "items"));
        fprintf(cli->err, "  %s, with %zu VM%s and %s disks\n", label, count,
                plural_s(count), count == 1 ? "its" : "their");
    }
    return code;
}

/* What is at stake with the hosts that are removed, as arrays of VMs. */
struct stake {
    json_t *kept;  /* whose disks are there, and which do not run */
    json_t *doubt; /* which may still run there: nothing says that they have ended */
};

static void stake_take(struct stake *stake, struct victim *host, json_t *vm)
{
    const char *name = host->name.name;
    bool lost = strcmp(view_phase(vm, KIND_VM), "lost") == 0;
    if (lost && strcmp(json_member_text(view_status(vm), "host", ""), name) == 0) {
        host->in_doubt = true;
        json_array_append(stake->doubt, vm);
    } else if (strcmp(disks_lost_host(vm), name) == 0) {
        json_array_append(stake->kept, vm);
    }
}

static int find_stake(struct cli *cli, struct doomed *doomed, struct stake *stake)
{
    CLEANUP_JSON json_t *list = NULL;
    size_t index;
    json_t *vm;
    int code = has_kind(doomed, KIND_HOST)
                   ? remote_list(cli, kind_info(KIND_VM), "", DISKS_LOST_READ, &list)
                   : (int)EXIT_OK;
    json_array_foreach(json_object_get(list, "items"), index, vm)
    {
        for (unsigned i = 0; i < doomed->count; i++) {
            if (doomed->victims[i].name.info->kind == KIND_HOST) {
                stake_take(stake, &doomed->victims[i], vm);
            }
        }
    }
    return code;
}

static void tell_stake(struct cli *cli, const struct stake *stake, bool force)
{
    if (json_array_size(stake->kept) > 0) {
        fputs(force ? "and gives disks up, with all that they hold:\n"
                    : "where disks are kept (--force gives them up):\n",
              cli->err);
        disks_lost_tell(cli, stake->kept);
    }
    if (json_array_size(stake->doubt) > 0) {
        fputs("where VMs may still run, for they wait for their host. Without it they "
              "may start\nelsewhere, with new disks, and run twice unless it is surely "
              "off (berth down\n--forget there ends them):\n",
              cli->err);
        disks_lost_tell_doubt(cli, stake->doubt);
    }
}

/* Who is asked is told first of what would be refused after the answer. What cannot be
 * looked at is judged by the cluster, as always. */
static int check_service(struct cli *cli, const struct doomed *doomed)
{
    int code = EXIT_OK;
    for (unsigned i = 0; i < doomed->count; i++) {
        const struct victim *victim = &doomed->victims[i];
        char path[REMOTE_PATH_SIZE];
        CLEANUP_JSON json_t *host = NULL;
        if (victim->name.info->kind != KIND_HOST || victim->in_doubt) {
            continue;
        }
        object_path(&victim->name, "", path);
        if (remote_call_quiet(cli, "GET", path, NULL, &host) == EXIT_OK && host != NULL &&
            strcmp(view_phase(host, KIND_HOST), "lost") != 0 &&
            !json_is_true(json_object_get(view_spec(host), "drain"))) {
            code =
                cli_fail(cli, EXIT_CONFLICT, "host %s is in service: nothing was removed",
                         victim->name.name);
            cli_note(cli,
                     "hint: berth drain %s --wait, then this again; the last host ends "
                     "its cluster by berth down --forget there",
                     victim->name.name);
        }
    }
    return code;
}

/* Scripts remove without a question, but not the disks of VMs that they did not name, nor
 * the doubt whether one still runs. */
static int confirm(struct cli *cli, struct doomed *doomed)
{
    CLEANUP_JSON json_t *kept = json_array();
    CLEANUP_JSON json_t *doubt = json_array();
    struct stake stake = {.kept = kept, .doubt = doubt};
    bool force = cli_flag(cli, "force") != NULL;
    int code = find_stake(cli, doomed, &stake);
    bool no_stake = json_array_size(doubt) == 0 && (!force || json_array_size(kept) == 0);
    if (code != EXIT_OK || cli->yes || (!asking_can(cli) && no_stake)) {
        return code;
    }
    code = check_service(cli, doomed);
    if (code != EXIT_OK) {
        return code;
    }
    fputs("This removes:\n", cli->err);
    for (unsigned i = 0; i < doomed->count && code == EXIT_OK; i++) {
        code = tell_loss(cli, &doomed->victims[i].name);
    }
    tell_stake(cli, &stake, force);
    return code == EXIT_OK ? asking_confirm(cli,
                                            json_array_size(doubt) > 0
                                                ? "a host where VMs may still run"
                                                : "--force",
                                            "nothing was removed")
                           : code;
}

/* ---- removing ---- */

static bool is_in_use(const struct http_answer *answer)
{
    return answer->status == 409 &&
           strcmp(json_member_text(answer->document, "code", ""), "BERTH_EINUSE") == 0;
}

static bool is_doomed(const struct doomed *doomed, enum kind kind, const char *name)
{
    for (unsigned i = 0; i < doomed->count; i++) {
        if (doomed->victims[i].name.info->kind == kind &&
            strcmp(doomed->victims[i].name.name, name) == 0) {
            return true;
        }
    }
    return false;
}

/* Only an admin of the cluster may. */
static bool may_list_tokens(struct cli *cli)
{
    struct http_answer answer = {0};
    int code = remote_answer(cli, "GET", "/v1/tokens?limit=1", NULL, &answer);
    bool may = code != EXIT_OK || answer.status != 403;
    http_answer_fini(&answer);
    return may;
}

/* A token of a tenant goes only when somebody removes it: told before anything is
 * removed, for a tenant is the last to go. */
static int check_tokens(struct cli *cli, const struct doomed *doomed)
{
    CLEANUP_JSON json_t *list = NULL;
    unsigned kept = 0;
    size_t index;
    json_t *token;
    if (!has_kind(doomed, KIND_TENANT) || doomed->count == 1) { /* alone none waits */
        return EXIT_OK;
    }
    if (!may_list_tokens(cli)) { /* the cluster judges the tenant itself */
        return EXIT_OK;
    }
    int code =
        remote_list(cli, kind_info(KIND_TOKEN), "", "metadata.name,spec.tenant", &list);
    json_array_foreach(json_object_get(list, "items"), index, token)
    {
        const char *tenant = json_member_text(view_spec(token), "tenant", "");
        const char *name = json_member_text(view_meta(token), "name", "");
        if (is_doomed(doomed, KIND_TENANT, tenant) &&
            !is_doomed(doomed, KIND_TOKEN, name)) {
            code = cli_fail(cli, EXIT_CONFLICT, "tenant %s is used by token %s", tenant,
                            name);
            fprintf(cli->err, "hint: berth rm token/%s\n", name);
            kept++;
        }
    }
    return kept > 0 ? cli_fail(cli, EXIT_CONFLICT, "nothing was removed") : code;
}

/* By whom, and what is done about it: once, before the waiting. */
static void tell_in_use(struct cli *cli,
                        const struct doomed *doomed,
                        const struct http_answer *answer,
                        const char *label)
{
    char span[SPAN_TEXT_SIZE];
    uint64_t now_ms = clock_now_ms(clock_system());
    span_format(doomed->deadline_ms > now_ms ? doomed->deadline_ms - now_ms : 0, span);
    cli_note(cli, "%s waits: %s; up to %s for its users to go (--timeout)", label,
             json_member_text(answer->document, "detail", "it is in use"), span);
}

/* What is gone can be shown only as it was, and a VM may have had a group. One that is
 * not there is NULL, and said when it is to be removed. */
static int look_before(struct cli *cli,
                       const struct doomed *doomed,
                       struct victim *victim,
                       json_t **ret_object)
{
    char path[REMOTE_PATH_SIZE];
    *ret_object = NULL;
    if (doomed->removed == NULL && victim->name.info->kind != KIND_VM &&
        cli_flag(cli, "wait") == NULL) {
        return EXIT_OK;
    }
    object_path(&victim->name, "", path);
    int code = remote_call_quiet(cli, "GET", path, NULL, ret_object);
    victim->uid = json_incref(json_object_get(view_meta(*ret_object), "uid"));
    return code == EXIT_NOT_FOUND ? EXIT_OK : code;
}

static void tell_removed(struct cli *cli,
                         const struct doomed *doomed,
                         json_t *before,
                         const char *label)
{
    const char *group = json_member_text(view_spec(before), "group", "");
    output_tell(cli, "removed    %s", label);
    if (group[0] != '\0') {
        cli_note(cli,
                 "group/%s makes a new one in its place; for fewer: berth scale %s N",
                 group, group);
    }
    if (doomed->removed != NULL && before != NULL) {
        (void)json_array_append(doomed->removed, before); /* its document is long sent */
    }
}

static void path_of(struct cli *cli, const struct victim *victim, char *path)
{
    bool force = cli_flag(cli, "force") != NULL && victim->name.info->kind == KIND_HOST;
    object_path(&victim->name,
                force && victim->in_doubt ? "?force=true&surelyOff=true"
                : force                   ? "?force=true"
                : victim->in_doubt        ? "?surelyOff=true"
                                          : "",
                path);
}

/* A leader of a release that asks for no such word refuses what it does not know. The
 * user has given it. */
static bool
word_dropped(struct cli *cli, struct victim *victim, const struct http_answer *answer)
{
    const char *detail = json_member_text(answer->document, "detail", "");
    if (!victim->in_doubt || answer->status != 422 ||
        strstr(detail, "surelyOff") == NULL) {
        return false;
    }
    cli_note(cli,
             "the leader's berthd is of a release that does not ask whether %s is surely "
             "off; it is removed by your word alone",
             victim->name.name);
    victim->in_doubt = false;
    return true;
}

/* With `patient`, an object in use is tried again until the deadline: what uses it goes.
 */
static int remove_one(struct cli *cli,
                      const struct doomed *doomed,
                      struct victim *victim,
                      bool patient)
{
    const struct object_name *name = &victim->name;
    char path[REMOTE_PATH_SIZE];
    char label[OBJECT_LABEL_SIZE];
    CLEANUP_JSON json_t *before = NULL;
    bool told = false;
    label_of(cli, name, label);
    int seen = look_before(cli, doomed, victim, &before);
    if (seen != EXIT_OK) {
        return seen;
    }
    for (;;) {
        struct http_answer answer;
        path_of(cli, victim, path);
        int code = remote_answer(cli, "DELETE", path, NULL, &answer);
        if (code == EXIT_OK && word_dropped(cli, victim, &answer)) {
            http_answer_fini(&answer);
            continue;
        }
        bool again = code == EXIT_OK && patient && is_in_use(&answer) &&
                     clock_now_ms(clock_system()) < doomed->deadline_ms;
        if (code == EXIT_OK && answer.status < 300) {
            tell_removed(cli, doomed, before, label);
        } else if (code == EXIT_OK && answer.status == 404) {
            code = EXIT_NOT_FOUND; /* said by remove_all */
        } else if (code == EXIT_OK && !again) {
            code = remote_problem(cli, &answer);
        }
        if (again && !told) {
            tell_in_use(cli, doomed, &answer, label);
            told = true;
        }
        http_answer_fini(&answer);
        if (!again) {
            progress_clear(cli);
            return code;
        }
        progress_show(cli, "%s is still in use", label);
        pause_ms(POLL_MS);
    }
}

/* Whether that one is there still: a group makes a new VM of the same name. EXIT_OK,
 * EXIT_NOT_FOUND, or a fault (said). */
static int look_again(struct cli *cli, const struct victim *victim)
{
    char path[REMOTE_PATH_SIZE];
    CLEANUP_JSON json_t *object = NULL;
    object_path(&victim->name, "", path);
    int code = remote_call_quiet(cli, "GET", path, NULL, &object);
    return code == EXIT_OK &&
                   !json_equal(json_object_get(view_meta(object), "uid"), victim->uid)
               ? (int)EXIT_NOT_FOUND
               : code;
}

static int wait_gone(struct cli *cli, const struct doomed *doomed)
{
    for (unsigned i = 0; i < doomed->count; i++) {
        const struct victim *victim = &doomed->victims[i];
        char label[OBJECT_LABEL_SIZE];
        int code = EXIT_OK;
        label_of(cli, &victim->name, label);
        if (victim->uid == NULL) {
            continue; /* it was gone before */
        }
        while ((code = look_again(cli, victim)) == EXIT_OK) {
            if (clock_now_ms(clock_system()) >= doomed->deadline_ms) {
                progress_clear(cli);
                return cli_fail(cli, EXIT_TIMED_OUT,
                                "%s is still there; the cluster goes on removing it\n"
                                "next: berth show %s",
                                label, label);
            }
            progress_show(cli, "%s is still there", label);
            pause_ms(POLL_MS);
        }
        progress_clear(cli);
        if (code != EXIT_NOT_FOUND) {
            return code;
        }
    }
    return EXIT_OK;
}

/* Objects of files that are gone already are as they should be. */
static int remove_all(struct cli *cli, const struct doomed *doomed)
{
    char label[OBJECT_LABEL_SIZE];
    int code = EXIT_OK;
    for (unsigned i = 0; i < doomed->count; i++) {
        struct victim *victim = &doomed->victims[i];
        int r = remove_one(cli, doomed, victim, doomed->count > 1);
        if (r == EXIT_NOT_FOUND && victim->from_file) {
            label_of(cli, &victim->name, label);
            cli_note(cli, "%s is not there", label);
            continue;
        }
        if (r == EXIT_NOT_FOUND) { /* says what was perhaps meant, or that the tenant is
                                      not there */
            CLEANUP_JSON json_t *back = NULL;
            int said = object_get(cli, &victim->name, &back);
            r = said != EXIT_OK ? said : r;
        }
        if (r == EXIT_UNREACHABLE) {
            return r;
        }
        code = code == EXIT_OK ? r : code;
    }
    return code;
}

/* A log of two stands still without either: said when a removal leaves it so. */
static void tell_voters(struct cli *cli, const struct doomed *doomed)
{
    CLEANUP_JSON json_t *list = NULL;
    unsigned voters = 0;
    size_t index;
    json_t *host;
    if (!has_kind(doomed, KIND_HOST) ||
        remote_list(cli, kind_info(KIND_HOST), "", "metadata.name,status.voter", &list) !=
            EXIT_OK) {
        return;
    }
    json_array_foreach(json_object_get(list, "items"), index, host)
    {
        const char *role = json_member_text(view_status(host), "voter", "");
        voters += strcmp(role, "voter") == 0 ? 1U : 0U;
    }
    if (voters == 2) {
        cli_note(cli, "two hosts vote in the log now: without either of them nothing is "
                      "decided; next: berth token join, for another one");
    }
}

static void doomed_fini(struct doomed *doomed)
{
    for (unsigned i = 0; i < doomed->count; i++) {
        json_decref(doomed->victims[i].uid);
    }
    free(doomed->victims);
    json_decref(doomed->removed);
}

static int rm(struct cli *cli, enum kind bare)
{
    struct doomed doomed = {.bare = bare};
    uint64_t timeout_ms = 0;
    if (cli->word_count == 0 && cli_flag(cli, "file") == NULL) {
        return cli_fail(cli, EXIT_USAGE, "berth rm needs KIND/NAME... or -f FILE");
    }
    int code = cli_flag_duration(cli, "timeout", GONE_DEFAULT_MS, &timeout_ms);
    doomed.deadline_ms = clock_now_ms(clock_system()) + timeout_ms;
    if (code == EXIT_OK) {
        code = gather(cli, &doomed);
    }
    if (code == EXIT_OK) {
        code = check_tokens(cli, &doomed);
    }
    if (code == EXIT_OK) {
        code = confirm(cli, &doomed);
    }
    if (code == EXIT_OK) {
        doomed.removed = output_is_document(cli) ? json_array() : NULL;
        code = remove_all(cli, &doomed);
    }
    if (code == EXIT_OK) {
        tell_voters(cli, &doomed);
    }
    if (code == EXIT_OK && cli_flag(cli, "wait") != NULL) {
        code = wait_gone(cli, &doomed);
    }
    if (doomed.removed != NULL &&
        (code == EXIT_OK || json_array_size(doomed.removed) > 0)) {
        CLEANUP_JSON json_t *list = json_pack("{s:O}", "items", doomed.removed);
        int shown = output_document(cli, list);
        code = code == EXIT_OK ? shown : code;
    }
    doomed_fini(&doomed);
    return code;
}

int run_rm(struct cli *cli)
{
    return rm(cli, KIND_NONE);
}

int run_snapshot_rm(struct cli *cli)
{
    return rm(cli, KIND_SNAPSHOT);
}
