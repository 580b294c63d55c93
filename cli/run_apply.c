/* validate, plan, apply: the cluster as files say. */
#include "base/parse_number.h"
#include "base/plural.h"
#include "cli/kind_view.h"
#include "cli/manifest.h"
#include "cli/output.h"
#include "cli/plain_text.h"
#include "cli/run.h"
#include "cli/upload.h"
#include "cli/waiting.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Files that are named when all are too much for one request. */
#define LARGE_FILES_SHOWN 10

/* ---- what came of it ---- */

static const struct kind_info *result_kind(const json_t *result)
{
    return kind_info_by_name(json_member_text(result, "kind", ""));
}

static void result_label(struct cli *cli, const json_t *result, char *ret_label)
{
    const struct kind_info *info = result_kind(result);
    object_label(cli, info != NULL ? info->word : json_member_text(result, "kind", ""),
                 json_member_text(result, "tenant", ""),
                 json_member_text(result, "name", ""), ret_label);
}

/* A value of a change in one line. */
static void
value_print(const json_t *change, const char *key, char *ret_text, size_t size)
{
    const json_t *value = json_object_get(change, key);
    char *text = value == NULL || json_is_null(value) || json_is_string(value)
                     ? NULL
                     : json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
    (void)snprintf(ret_text, size, "%s",
                   json_is_string(value) ? json_string_value(value)
                   : text != NULL        ? text
                                         : "(none)");
    (void)plain_line(ret_text);
    free(text);
}

static void print_changes(struct cli *cli, const json_t *result)
{
    size_t index;
    json_t *change;
    json_array_foreach(json_object_get(result, "changes"), index, change)
    {
        char from[CELL_SIZE];
        char to[CELL_SIZE];
        value_print(change, "from", from, sizeof(from));
        value_print(change, "to", to, sizeof(to));
        fprintf(cli->out, "             %s: %s -> %s\n",
                json_member_text(change, "path", "?"), from, to);
    }
}

static bool is_change(const json_t *result)
{
    return strcmp(json_member_text(result, "action", ""), "unchanged") != 0;
}

static void print_result(struct cli *cli, const json_t *result, bool plan)
{
    const char *action = json_member_text(result, "action", "?");
    char label[OBJECT_LABEL_SIZE];
    result_label(cli, result, label);
    if (cli->format == FORMAT_NAME) {
        fprintf(cli->out, "%s\n", label);
        return;
    }
    if (plan && is_change(result)) { /* "created" is not true yet */
        action = strcmp(action, "created") == 0   ? "create"
                 : strcmp(action, "refused") == 0 ? "refuse"
                                                  : "change";
    }
    fprintf(cli->out, "%-10s %s\n", action, label);
    if (plan && strcmp(action, "change") == 0) {
        print_changes(cli, result);
    }
}

/* The number of changes. */
static unsigned print_results(struct cli *cli, const json_t *answer, bool plan)
{
    size_t index;
    json_t *result;
    unsigned changes = 0;
    bool text = cli->format != FORMAT_JSON && cli->format != FORMAT_YAML;
    json_array_foreach(json_object_get(answer, "results"), index, result)
    {
        changes += is_change(result) ? 1U : 0U;
        if (text) {
            print_result(cli, result, plan);
        }
    }
    return changes;
}

static void print_unplaced(struct cli *cli, const json_t *row, uint64_t unplaced)
{
    size_t index;
    json_t *host;
    const json_t *hosts = json_object_get(row, "hosts"); /* of the first rows only */
    fprintf(cli->out, "             %" PRIu64 " would find no host%s\n", unplaced,
            hosts != NULL ? ":" : "");
    json_array_foreach(hosts, index, host)
    {
        const char *fix = json_member_text(host, "fix", "");
        fprintf(cli->out, "               %s: %s%s%s\n",
                json_member_text(host, "host", "?"), json_member_text(host, "reason", ""),
                fix[0] != '\0' ? "; fix: " : "", fix);
    }
}

static void print_placed(struct cli *cli, const char *label, const json_t *placed)
{
    size_t count = json_array_size(placed);
    size_t at;
    json_t *place;
    fprintf(cli->out, "%-10s %s: %zu new VM%s", "place", label, count, plural_s(count));
    json_array_foreach(placed, at, place)
    {
        fprintf(cli->out, "%s%s", at == 0 ? " on " : ", ",
                json_member_text(place, "host", "?"));
    }
    fputc('\n', cli->out);
}

static void print_removed(struct cli *cli, const json_t *row, const char *label)
{
    uint64_t removed = json_member_u64(row, "removed", 0);
    uint64_t all = json_member_u64(row, "of", 0);
    fprintf(cli->out, "%-10s %s: %" PRIu64 " of its %" PRIu64 " VM%s, with %s disks\n",
            "remove", label, removed, all, all == 1 ? "" : "s",
            removed == 1 ? "its" : "their");
}

static void print_forecast_row(struct cli *cli, const json_t *row)
{
    const json_t *placed = json_object_get(row, "placed");
    uint64_t unplaced = json_member_u64(row, "unplaced", 0);
    size_t count = json_array_size(placed);
    uint64_t over = json_member_u64(row, "overQuota", 0);
    const char *group = json_member_text(row, "group", NULL);
    char label[OBJECT_LABEL_SIZE];
    const char *keeper = json_member_text(row, "diskHost", NULL);
    bool removes = json_member_u64(row, "removed", 0) > 0;
    if (count == 0 && unplaced == 0 && over == 0 && !removes) {
        return;
    }
    object_label(cli, group != NULL ? "group" : "vm", json_member_text(row, "tenant", ""),
                 group != NULL ? group : json_member_text(row, "vm", "?"), label);
    if (removes) {
        print_removed(cli, row, label);
        return;
    }
    if (keeper != NULL) {
        fprintf(cli->out, "%-10s %s: its disks are on %s%s\n", "place", label, keeper,
                count > 0 ? ", where it starts" : "");
    } else {
        print_placed(cli, label, placed);
    }
    if (unplaced > 0) {
        print_unplaced(cli, row, unplaced);
    }
    if (over > 0) {
        fprintf(cli->out, "             %" PRIu64 " would not be made: %s\n", over,
                json_member_text(row, "quota", "over quota"));
    }
}

static void print_forecast(struct cli *cli, const json_t *forecast)
{
    size_t index;
    json_t *row;
    json_array_foreach(forecast, index, row)
    {
        print_forecast_row(cli, row);
    }
}

static bool is_text(const struct cli *cli)
{
    return cli->format == FORMAT_TABLE || cli->format == FORMAT_WIDE;
}

/* What the cluster left out of a trial, if it did. */
static void note_not_tried(struct cli *cli, const json_t *answer)
{
    const char *what = json_member_text(answer, "notTried", NULL);
    if (what != NULL) {
        cli_note(cli, "not tried: %s", what);
    }
}

/* ---- asking ---- */

/* Of what a real apply did: what is written, and what is not. */
struct outcome {
    unsigned written;
    unsigned refused;
};

static struct outcome outcome_of(const json_t *results)
{
    struct outcome outcome = {0};
    size_t index;
    json_t *result;
    json_array_foreach(results, index, result)
    {
        bool refused = strcmp(json_member_text(result, "action", ""), "refused") == 0;
        outcome.refused += refused ? 1U : 0U;
        outcome.written += !refused && is_change(result) ? 1U : 0U;
    }
    return outcome;
}

/* Says what is wrong where it stands, and what became of the rest. */
static int say_refusal(struct cli *cli,
                       struct manifest *manifest,
                       const struct http_answer *answer,
                       bool dry_run)
{
    const json_t *errors = json_object_get(answer->document, "errors");
    const json_t *results = json_object_get(answer->document, "results");
    size_t count = json_array_size(errors);
    size_t index;
    json_t *fault;
    if (count == 0) {
        return remote_problem(cli, answer);
    }
    if (is_text(cli) && results != NULL) {
        (void)print_results(cli, answer->document, dry_run);
        print_forecast(cli, json_object_get(answer->document, "forecast"));
        (void)fflush(cli->out); /* before the faults; cli_main sees faults of it */
    }
    json_array_foreach(errors, index, fault)
    {
        manifest_tell_answer(cli, manifest, fault);
    }
    enum cli_exit code =
        remote_exit(answer->status, json_member_text(answer->document, "code", ""));
    struct outcome outcome = outcome_of(results);
    if (dry_run || outcome.written == 0) {
        return cli_fail(cli, code, "%zu error%s; nothing was changed", count,
                        plural_s(count));
    }
    return cli_fail(cli, code,
                    "%zu error%s; %u object%s applied and %u refused, as listed\n"
                    "hint: mend the files and apply them again: what is done stays as it "
                    "is",
                    count, plural_s(count), outcome.written,
                    outcome.written == 1 ? " was" : "s were", outcome.refused);
}

/* More than one request may hold: which files are how large, the largest first. */
static int say_too_large(struct cli *cli,
                         struct manifest *manifest,
                         const struct http_answer *answer)
{
    const char *detail = json_member_text(answer->document, "detail", "too large");
    char text[NUMBER_TEXT_SIZE];
    bool told[MANIFEST_FILES_MAX] = {false};
    (void)manifest_fail(cli, manifest, manifest->configs[0].name, BERTH_ETOOLARGE,
                        "%u objects of %u file%s are too much for one request: %s",
                        manifest_objects(manifest), manifest->count,
                        plural_s(manifest->count), detail);
    for (unsigned shown = 0; shown < manifest->count && shown < LARGE_FILES_SHOWN;
         shown++) {
        unsigned largest = MANIFEST_FILES_MAX;
        for (unsigned i = 0; i < manifest->count; i++) {
            if (!told[i] &&
                (largest == MANIFEST_FILES_MAX ||
                 manifest->configs[i].text_size > manifest->configs[largest].text_size)) {
                largest = i;
            }
        }
        told[largest] = true;
        format_bytes_human(manifest->configs[largest].text_size, text);
        fprintf(cli->err, "  %s: %s, %u object%s\n", manifest->configs[largest].name,
                text, manifest->configs[largest].object_count,
                plural_s(manifest->configs[largest].object_count));
    }
    if (manifest->count > LARGE_FILES_SHOWN) {
        unsigned more = manifest->count - LARGE_FILES_SHOWN;
        fprintf(cli->err, "  and %u smaller file%s\n", more, plural_s(more));
    }
    fprintf(cli->err, "hint: split them and give each part to a command of its own: "
                      "tenants, images, networks and templates first, then groups and "
                      "VMs\n");
    return EXIT_USAGE;
}

/* What the server says to a request that it refuses as a whole or in part. */
static int say_refused(struct cli *cli,
                       struct manifest *manifest,
                       const struct http_answer *answer,
                       bool dry_run)
{
    return answer->status == 413 ? say_too_large(cli, manifest, answer)
                                 : say_refusal(cli, manifest, answer, dry_run);
}

/* Before an image is uploaded, which may take minutes: whoever may not write, or whose
 * files are refused before any of them is tried, learns it now. What is refused object by
 * object is not, for the others are applied; nor is it said that dry runs are many. */
static int check_first(struct cli *cli, struct manifest *manifest, json_t **ret_answer)
{
    CLEANUP_JSON json_t *body = manifest_document(manifest);
    struct http_answer answer;
    if (body == NULL) {
        return cli_fail(cli, EXIT_FAILED, "out of memory");
    }
    int code = remote_answer(cli, "POST", "/v1/apply?dryRun=validate", body, &answer);
    if (code == EXIT_OK && answer.status >= 300 && answer.status != 429 &&
        json_object_get(answer.document, "results") == NULL) {
        *ret_answer = json_incref(answer.document);
        code = say_refused(cli, manifest, &answer, true);
    }
    http_answer_fini(&answer);
    return code;
}

/* Sends the objects; the answer, or what it refuses (said; the document, if there is
 * one). */
static int
post(struct cli *cli, const char *path, struct manifest *manifest, json_t **ret_answer)
{
    CLEANUP_JSON json_t *body = manifest_document(manifest);
    struct http_answer answer;
    if (body == NULL) {
        return cli_fail(cli, EXIT_FAILED, "out of memory");
    }
    int code = remote_answer(cli, "POST", path, body, &answer);
    *ret_answer = json_incref(answer.document);
    if (code == EXIT_OK && answer.status >= 300) {
        code = say_refused(cli, manifest, &answer, strchr(path, '?') != NULL);
    } else if (code == EXIT_OK && answer.document == NULL) {
        code = cli_fail(cli, EXIT_FAILED, "POST %s: the answer is no JSON", path);
    }
    http_answer_fini(&answer);
    return code;
}

/* Reads the files, brings the images in (with `send`), and asks. What is wrong is said,
 * and is the output when -o wants a document. */
static int ask(struct cli *cli,
               const char *path,
               bool send,
               struct manifest *ret_manifest,
               json_t **ret_answer)
{
    *ret_answer = NULL;
    int code = manifest_read(cli, cli->words, cli->word_count, ret_manifest);
    if (code == EXIT_OK && manifest_objects(ret_manifest) == 0) {
        code = cli_fail(cli, EXIT_USAGE, "the files hold no objects");
    }
    if (code == EXIT_OK) {
        code = upload_check(cli, ret_manifest);
    }
    if (code == EXIT_OK && send && upload_any(ret_manifest)) {
        code = check_first(cli, ret_manifest, ret_answer);
    }
    if (code == EXIT_OK) {
        code = upload_images(cli, ret_manifest, send);
    }
    if (code == EXIT_OK && path != NULL) {
        code = post(cli, path, ret_manifest, ret_answer);
    }
    if (code != EXIT_OK) {
        (void)manifest_output_errors(cli, ret_manifest, *ret_answer);
    }
    return code;
}

/* ---- templates that VMs have copies of ---- */

static void note_template(struct cli *cli, const json_t *result)
{
    char query[REMOTE_PATH_SIZE / 2];
    char label[OBJECT_LABEL_SIZE];
    CLEANUP_JSON json_t *list = NULL;
    size_t index;
    json_t *vm;
    unsigned count = 0;
    /* A plan has written nothing, so all that are there were made before. What an apply
     * has written some of them may have followed: limits. */
    uint64_t changed = json_member_u64(result, "revision", UINT64_MAX);
    bool written = changed != UINT64_MAX;
    (void)snprintf(query, sizeof(query), "tenant=%s",
                   json_member_text(result, "tenant", ""));
    if (remote_list(cli, kind_info(KIND_VM), query,
                    "spec.template,metadata.createRevision,status.templateChanged",
                    &list) != EXIT_OK) {
        return; /* said; what was asked for is done */
    }
    json_array_foreach(json_object_get(list, "items"), index, vm)
    {
        const json_t *template = json_object_get(view_spec(vm), "template");
        bool before = json_member_u64(view_meta(vm), "createRevision", 0) < changed;
        bool differs = json_is_true(json_object_get(view_status(vm), "templateChanged"));
        count += before && (differs || !written) &&
                         strcmp(json_member_text(template, "name", ""),
                                json_member_text(result, "name", "?")) == 0
                     ? 1U
                     : 0U;
    }
    result_label(cli, result, label);
    if (count > 0) {
        cli_note(
            cli,
            "%u VM%s made from %s before keep%s what they were made with but for "
            "limits, also when restarted; berth rm vm/NAME has a group make a new one",
            count, plural_s(count), label, count == 1 ? "s" : "");
    }
}

/* A changed template moves no VM: whoever expects that is told. */
static void note_templates(struct cli *cli, const json_t *answer)
{
    size_t index;
    json_t *result;
    json_array_foreach(json_object_get(answer, "results"), index, result)
    {
        const struct kind_info *info = result_kind(result);
        if (!cli->quiet && info != NULL && info->kind == KIND_TEMPLATE &&
            strcmp(json_member_text(result, "action", ""), "changed") == 0) {
            note_template(cli, result);
        }
    }
}

static int output_valid(struct cli *cli,
                        const struct manifest *manifest,
                        const json_t *answer,
                        unsigned not_checked)
{
    CLEANUP_JSON json_t *document = json_pack(
        "{s:i, s:i, s:[], s:O, s:i, s:O*}", "objects", (int)manifest_objects(manifest),
        "files", (int)manifest->count, "errors", "warnings", manifest->warnings,
        "notChecked", (int)not_checked, "notTried", json_object_get(answer, "notTried"));
    return document != NULL ? output_document(cli, document)
                            : cli_fail(cli, EXIT_FAILED, "out of memory");
}

int run_validate(struct cli *cli)
{
    struct manifest manifest;
    CLEANUP_JSON json_t *answer = NULL;
    bool local = cli_flag(cli, "local") != NULL;
    int code =
        ask(cli, local ? NULL : "/v1/apply?dryRun=validate", false, &manifest, &answer);
    if (code == EXIT_OK && local) {
        code = manifest_check_memory(cli, &manifest);
        (void)manifest_output_errors(cli, &manifest, NULL);
    }
    unsigned not_checked =
        code == EXIT_OK && local ? manifest_note_references(cli, &manifest) : 0;
    if (code == EXIT_OK && (cli->format == FORMAT_JSON || cli->format == FORMAT_YAML)) {
        code = output_valid(cli, &manifest, answer, not_checked);
    } else if (code == EXIT_OK) {
        unsigned objects = manifest_objects(&manifest);
        fprintf(cli->out, "%u object%s in %u file%s: valid\n", objects, plural_s(objects),
                manifest.count, plural_s(manifest.count));
        note_not_tried(cli, answer);
    }
    manifest_fini(&manifest);
    return code;
}

int run_plan(struct cli *cli)
{
    struct manifest manifest;
    CLEANUP_JSON json_t *answer = NULL;
    int code = ask(cli, "/v1/apply?dryRun=plan", false, &manifest, &answer);
    manifest_fini(&manifest);
    if (code != EXIT_OK) {
        return code;
    }
    unsigned changes = print_results(cli, answer, true);
    if (cli->format == FORMAT_JSON || cli->format == FORMAT_YAML) {
        code = output_document(cli, answer);
    } else if (cli->format != FORMAT_NAME) {
        print_forecast(cli, json_object_get(answer, "forecast"));
        note_templates(cli, answer);
        note_not_tried(cli, answer);
        cli_note(cli, changes > 0 ? "nothing was changed yet: berth apply does it"
                                  : "nothing to do");
    }
    return code == EXIT_OK && changes > 0 && cli_flag(cli, "exit-code") != NULL
               ? EXIT_CHANGES
               : code;
}

/* ---- waiting ---- */

/* Groups and VMs among the results. */
static int wait_for_results(struct cli *cli, const json_t *answer)
{
    const json_t *results = json_object_get(answer, "results");
    size_t index;
    json_t *result;
    unsigned count = 0;
    struct waiting_subject *subjects =
        calloc(json_array_size(results) + 1, sizeof(*subjects));
    if (subjects == NULL) {
        return cli_fail(cli, EXIT_FAILED, "out of memory");
    }
    json_array_foreach(results, index, result)
    {
        const struct kind_info *info = result_kind(result);
        if (info != NULL && (info->kind == KIND_GROUP || info->kind == KIND_VM)) {
            struct object_name *name = &subjects[count++].name;
            name->info = info;
            (void)snprintf(name->tenant, sizeof(name->tenant), "%s",
                           json_member_text(result, "tenant", DEFAULT_TENANT));
            (void)snprintf(name->name, sizeof(name->name), "%s",
                           json_member_text(result, "name", ""));
        }
    }
    int code = waiting_run_flags(cli, subjects, count);
    free(subjects);
    return code;
}

/* What was written is not all that will be there. */
static void note_quotas(struct cli *cli, const json_t *answer)
{
    size_t index;
    json_t *result;
    json_array_foreach(json_object_get(answer, "results"), index, result)
    {
        uint64_t lacks = json_member_u64(result, "overQuota", 0);
        char label[OBJECT_LABEL_SIZE];
        if (lacks > 0) {
            result_label(cli, result, label);
            cli_note(cli, "%s: %" PRIu64 " more VM%s held back: %s", label, lacks,
                     plural_s_are(lacks), json_member_text(result, "quota", ""));
        }
    }
}

int run_apply(struct cli *cli)
{
    struct manifest manifest;
    CLEANUP_JSON json_t *answer = NULL;
    int code = ask(cli, "/v1/apply", true, &manifest, &answer);
    manifest_fini(&manifest);
    if (code != EXIT_OK) {
        return code;
    }
    (void)print_results(cli, answer, false);
    note_templates(cli, answer);
    if (cli_flag(cli, "wait") == NULL) { /* who waits is told while it is so */
        note_quotas(cli, answer);
    }
    if (cli->format == FORMAT_JSON || cli->format == FORMAT_YAML) {
        code = output_document(cli, answer);
    }
    (void)fflush(cli->out); /* before the waiting; cli_main sees faults */
    return code == EXIT_OK && cli_flag(cli, "wait") != NULL
               ? wait_for_results(cli, answer)
               : code;
}
