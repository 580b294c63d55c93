/* ls, host ls: lists of objects. */
#include "base/clock.h"
#include "cli/kind_view.h"
#include "cli/object_name.h"
#include "cli/output.h"
#include "cli/run.h"
#include "cli/sight.h"
#include "cli/watching.h"

#include <string.h>

#define QUERY_SIZE 400

/* Characters of the label at `text`: a comma ends it where another KEY= follows. A value
 * may hold one. */
static size_t label_size(const char *text)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                  "0123456789-_./";
    size_t size = strcspn(text, ",");
    while (text[size] == ',') {
        const char *next = text + size + 1;
        size_t key = strspn(next, letters);
        if (key > 0 && next[key] == '=') {
            return size;
        }
        size += 1 + strcspn(next, ",");
    }
    return size;
}

/* Adds what one --label says: KEY=VALUE, or several divided by commas. */
static int
query_add_labels(struct cli *cli, const char *labels, char *query, size_t *used)
{
    while (*labels != '\0') {
        char label[QUERY_SIZE];
        char text[QUERY_SIZE];
        size_t size = label_size(labels);
        (void)snprintf(label, sizeof(label), "%.*s", (int)size, labels);
        if (strchr(label, '=') == NULL || size >= sizeof(label)) {
            return cli_fail(cli, EXIT_USAGE, "--label: wanted KEY=VALUE, not \"%s\"",
                            label);
        }
        remote_escape(label, text, sizeof(text));
        *used +=
            (size_t)snprintf(query + *used, *used < QUERY_SIZE ? QUERY_SIZE - *used : 0,
                             "%slabel=%s", *used > 0 ? "&" : "", text);
        labels += size + (labels[size] == ',' ? 1 : 0);
    }
    return EXIT_OK;
}

/* tenant=, label=, group= as asked; EXIT_USAGE (said) when they do not fit. */
static int query_make(struct cli *cli, const struct kind_info *info, char *ret_query)
{
    size_t at = 0;
    unsigned cursor = 0;
    const char *label;
    const char *group = cli_flag(cli, "group");
    ret_query[0] = '\0';
    if (cli->tenant != NULL && info->scope != SCOPE_CLUSTER) {
        char tenant[NAME_SIZE * 3];
        remote_escape(cli->tenant, tenant, sizeof(tenant));
        at += (size_t)snprintf(ret_query, QUERY_SIZE, "tenant=%s", tenant);
    }
    while ((label = cli_flag_next(cli, "label", &cursor)) != NULL) {
        int code = label[0] != '\0'
                       ? query_add_labels(cli, label, ret_query, &at)
                       : cli_fail(cli, EXIT_USAGE, "--label: wanted KEY=VALUE");
        if (code != EXIT_OK) {
            return code;
        }
    }
    if (group != NULL && info->kind == KIND_VM) {
        char text[NAME_SIZE * 3];
        remote_escape(strncmp(group, "group/", 6) == 0 ? group + 6 : group, text,
                      sizeof(text));
        at += (size_t)snprintf(ret_query + at, at < QUERY_SIZE ? QUERY_SIZE - at : 0,
                               "%sgroup=%s", at > 0 ? "&" : "", text);
    }
    return at < QUERY_SIZE ? EXIT_OK
                           : cli_fail(cli, EXIT_USAGE, "more labels than a list takes");
}

/* What is printed of the objects; NULL: whole ones. */
static const char *fields_make(const struct cli *cli,
                               const struct kind_info *info,
                               char ret_fields[VIEW_FIELDS_SIZE])
{
    if (cli->format == FORMAT_NAME) {
        return "metadata.name,metadata.tenant";
    }
    if (output_is_document(cli)) {
        return NULL;
    }
    kind_view_fields(cli, info, ret_fields);
    return ret_fields;
}

static int list_get(struct cli *cli, const struct kind_info *info, json_t **ret_list)
{
    char query[QUERY_SIZE];
    char fields[VIEW_FIELDS_SIZE];
    *ret_list = NULL;
    int code = query_make(cli, info, query);
    return code == EXIT_OK
               ? remote_list(cli, info, query, fields_make(cli, info, fields), ret_list)
               : code;
}

/* Of a group that is not there no VMs is not the whole truth. */
static int check_group(struct cli *cli, const struct kind_info *info)
{
    const char *text = cli_flag(cli, "group");
    CLEANUP_JSON json_t *list = NULL;
    struct object_name name;
    char query[NAME_SIZE + 8] = "";
    size_t index;
    json_t *group;
    if (text == NULL || info->kind != KIND_VM) {
        return EXIT_OK;
    }
    int code = object_name_parse(cli, text, KIND_GROUP, &name);
    if (code == EXIT_OK && cli->tenant != NULL && name.tenant[0] == '\0') {
        (void)snprintf(name.tenant, sizeof(name.tenant), "%s", cli->tenant);
    }
    if (code == EXIT_OK && name.tenant[0] != '\0') {
        (void)snprintf(query, sizeof(query), "tenant=%s", name.tenant);
    }
    code = code == EXIT_OK ? remote_list(cli, name.info, query,
                                         "metadata.name,metadata.tenant", &list)
                           : code;
    json_array_foreach(json_object_get(list, "items"), index, group)
    {
        if (strcmp(view_name(group), name.name) == 0) {
            return EXIT_OK; /* in some tenant */
        }
    }
    CLEANUP_JSON json_t *none = NULL;
    return code == EXIT_OK ? object_get(cli, &name, &none) : code;
}

static int list_kind(struct cli *cli, const struct kind_info *info)
{
    CLEANUP_JSON json_t *list = NULL;
    struct view_time time = {.now_wall_ms = clock_wall_ms(clock_system())};
    if (!output_is_document(cli) && info->kind != KIND_HOST) {
        sight_note(cli);
    }
    if (cli_flag(cli, "watch") != NULL) {
        return watching_run(cli, &info, 1, 0);
    }
    int code = list_get(cli, info, &list);
    const json_t *items = json_object_get(list, "items");
    if (code == EXIT_OK && json_array_size(items) == 0) {
        code = check_group(cli, info);
    }
    if (code != EXIT_OK) {
        return code;
    }
    if (output_is_document(cli)) {
        return output_document(cli, list);
    }
    if (json_array_size(items) == 0) {
        cli_note(cli, "no %s%s%s", info->kind == KIND_VM ? "VMs" : info->plural,
                 cli->tenant != NULL ? " in tenant " : "",
                 cli->tenant != NULL ? cli->tenant : "");
        return EXIT_OK;
    }
    return kind_view_print(cli, info, items, &time);
}

static int print_overview(struct cli *cli, const json_t *groups, const json_t *vms)
{
    char host[NAME_SIZE];
    struct view_time time = {.now_wall_ms = clock_wall_ms(clock_system())};
    size_t group_count = json_array_size(groups);
    int code = EXIT_OK;
    if (group_count == 0 && json_array_size(vms) == 0) {
        if (sight_is_narrow(cli, host)) {
            cli_note(cli, "no VMs on %s", host);
        } else {
            cli_note(cli, "no groups and no VMs yet; berth apply FILE makes some");
        }
        return EXIT_OK;
    }
    if (group_count > 0) {
        fputs("GROUPS\n", cli->out);
        code = kind_view_print(cli, kind_info(KIND_GROUP), groups, &time);
        fputs(json_array_size(vms) > 0 ? "\n" : "", cli->out);
    }
    if (code == EXIT_OK && json_array_size(vms) > 0) {
        fputs("VMS\n", cli->out);
        code = kind_view_print(cli, kind_info(KIND_VM), vms, &time);
    }
    return code;
}

static int list_overview(struct cli *cli)
{
    CLEANUP_JSON json_t *groups = NULL;
    CLEANUP_JSON json_t *vms = NULL;
    const struct kind_info *kinds[] = {kind_info(KIND_GROUP), kind_info(KIND_VM)};
    if (!output_is_document(cli)) {
        sight_note(cli);
    }
    if (cli_flag(cli, "watch") != NULL) {
        return watching_run(cli, kinds, 2, 0);
    }
    int code = list_get(cli, kinds[0], &groups);
    if (code == EXIT_OK) {
        code = list_get(cli, kinds[1], &vms);
    }
    if (code != EXIT_OK) {
        return code;
    }
    if (!output_is_document(cli)) {
        return print_overview(cli, json_object_get(groups, "items"),
                              json_object_get(vms, "items"));
    }
    json_array_extend(json_object_get(groups, "items"), json_object_get(vms, "items"));
    return output_document(cli, groups);
}

int run_ls(struct cli *cli)
{
    if (cli->word_count == 0) {
        return list_overview(cli);
    }
    const struct kind_info *info = object_kind(cli, cli->words[0]);
    return info != NULL ? list_kind(cli, info) : EXIT_USAGE;
}

int run_host_ls(struct cli *cli)
{
    return list_kind(cli, kind_info(KIND_HOST));
}
