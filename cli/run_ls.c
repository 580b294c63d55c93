/* ls, host ls: lists of objects. */
#include "base/clock.h"
#include "cli/kind_view.h"
#include "cli/object_name.h"
#include "cli/output.h"
#include "cli/run.h"
#include "cli/watching.h"

#include <string.h>

#define QUERY_SIZE 400

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
        char text[QUERY_SIZE];
        if (strchr(label, '=') == NULL) {
            return cli_fail(cli, EXIT_USAGE, "--label: wanted KEY=VALUE, not \"%s\"",
                            label);
        }
        remote_escape(label, text, sizeof(text));
        at += (size_t)snprintf(ret_query + at, at < QUERY_SIZE ? QUERY_SIZE - at : 0,
                               "%slabel=%s", at > 0 ? "&" : "", text);
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

static int list_kind(struct cli *cli, const struct kind_info *info)
{
    CLEANUP_JSON json_t *list = NULL;
    struct view_time time = {.now_wall_ms = clock_wall_ms(clock_system())};
    if (cli_flag(cli, "watch") != NULL) {
        return watching_run(cli, &info, 1, 0);
    }
    int code = list_get(cli, info, &list);
    if (code != EXIT_OK) {
        return code;
    }
    if (output_is_document(cli)) {
        return output_document(cli, list);
    }
    const json_t *items = json_object_get(list, "items");
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
    struct view_time time = {.now_wall_ms = clock_wall_ms(clock_system())};
    size_t group_count = json_array_size(groups);
    int code = EXIT_OK;
    if (group_count == 0 && json_array_size(vms) == 0) {
        cli_note(cli, "no groups and no VMs yet; berth apply FILE makes some");
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
