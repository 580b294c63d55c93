/* explain: why something is where it is, host by host. */
#include "base/plural.h"
#include "cli/kind_view.h"
#include "cli/object_name.h"
#include "cli/output.h"
#include "cli/plain_text.h"
#include "cli/run.h"

#include <inttypes.h>

#define SUMMARY_SIZE 1024

static int print_hosts(struct cli *cli, const json_t *rows)
{
    static const struct {
        const char *title;
        const char *key;
        unsigned flags;
    } columns[] = {{"HOST", "host", 0},
                   {"VERDICT", "verdict", 0},
                   {"REASON", "reason", COLUMN_CUT},
                   {"NEAREST FIX", "fix", COLUMN_CUT}};
    struct text_table *table = text_table_new(cli);
    size_t index;
    json_t *row;
    if (table == NULL) {
        return cli_fail(cli, EXIT_FAILED, "out of memory");
    }
    for (unsigned i = 0; i < 4; i++) {
        text_table_column(table, columns[i].title, columns[i].flags);
    }
    json_array_foreach(rows, index, row)
    {
        text_table_row(table);
        for (unsigned i = 0; i < 4; i++) {
            const char *text = json_member_text(row, columns[i].key, "");
            text_table_cell(table, text, i == 1 ? text_color(text) : NULL);
        }
    }
    int r = text_table_print(table);
    text_table_free(table);
    return r < 0 ? cli_fail(cli, EXIT_FAILED, "out of memory") : EXIT_OK;
}

static void print_autoscale(struct cli *cli, const json_t *scale)
{
    const json_t *permille = json_object_get(scale, "cpuPermille");
    uint64_t target = json_member_u64(scale, "targetPermille", 0);
    uint64_t desired = json_member_u64(scale, "desired", 0);
    uint64_t measured = json_member_u64(scale, "measuredVms", 0);
    fprintf(cli->out,
            "Autoscale: %" PRIu64 " VM%s, between %" PRIu64 " and %" PRIu64
            "; cpu target %" PRIu64 "%%",
            desired, plural_s(desired), json_member_u64(scale, "min", 0),
            json_member_u64(scale, "max", 0), target / 10);
    if (json_is_integer(permille) && json_integer_value(permille) >= 0) {
        fprintf(cli->out,
                ", measured %" JSON_INTEGER_FORMAT "%% on %" PRIu64
                " VM%s, which wants %" PRIu64,
                (json_integer_value(permille) + 5) / 10, measured, plural_s(measured),
                json_member_u64(scale, "wish", 0));
    } else {
        fprintf(cli->out, ", not measured yet");
    }
    const char *reason = json_member_text(scale, "lastReason", "");
    fprintf(cli->out, ".%s%s\n",
            reason[0] != '\0' ? " Its number of VMs was last set because: " : "", reason);
}

/* The VM, or those of the group, as {"items": [...]}. */
static int get_vms(struct cli *cli, const struct object_name *name, json_t **ret_list)
{
    CLEANUP_JSON json_t *vm = NULL;
    char query[REMOTE_PATH_SIZE / 2];
    if (name->info->kind == KIND_VM) {
        int code = object_get(cli, name, &vm);
        *ret_list = json_pack("{s:[O*]}", "items", vm);
        return code;
    }
    (void)snprintf(query, sizeof(query), "tenant=%s&group=%s", name->tenant, name->name);
    return remote_list(cli, kind_info(KIND_VM), query,
                       "spec.template,status.templateChanged", ret_list);
}

/* VMs that their template made before it was changed: restarts do not change them. */
static int print_older(struct cli *cli, const struct object_name *name)
{
    CLEANUP_JSON json_t *list = NULL;
    const char *template = "";
    uint64_t older = 0;
    size_t index;
    json_t *vm;
    int code = get_vms(cli, name, &list);
    json_array_foreach(json_object_get(list, "items"), index, vm)
    {
        if (json_is_true(json_object_get(view_status(vm), "templateChanged"))) {
            template =
                json_member_text(json_object_get(view_spec(vm), "template"), "name", "?");
            older++;
        }
    }
    if (older > 0) {
        fprintf(cli->out,
                "Template %s has changed since %" PRIu64 " VM%s made from it: %s what %s "
                "made with; %s.\n",
                template, older, older == 1 ? " was" : "s were",
                older == 1 ? "it keeps" : "they keep",
                older == 1 ? "it was" : "they were",
                name->info->kind == KIND_GROUP
                    ? "berth rm vm/NAME has the group make a new one"
                    : "a new one is as the template says");
    }
    return code;
}

int run_explain(struct cli *cli)
{
    struct object_name name;
    char path[REMOTE_PATH_SIZE];
    char summary[SUMMARY_SIZE];
    CLEANUP_JSON json_t *answer = NULL;
    int code = object_name_find(cli, cli->words[0], KIND_NONE, &name);
    if (code != EXIT_OK) {
        return code;
    }
    if (name.info->kind != KIND_VM && name.info->kind != KIND_GROUP) {
        return cli_fail(cli, EXIT_USAGE, "explain works for vm/NAME and group/NAME");
    }
    object_path(&name, "/explain", path);
    code = remote_call(cli, "GET", path, NULL, &answer);
    if (code != EXIT_OK) {
        return code;
    }
    if (cli->format == FORMAT_JSON || cli->format == FORMAT_YAML) {
        return output_document(cli, answer);
    }
    const json_t *scale = json_object_get(answer, "autoscale");
    const json_t *hosts = json_object_get(answer, "hosts");
    (void)snprintf(summary, sizeof(summary), "%s",
                   json_member_text(answer, "summary", ""));
    fprintf(cli->out, "%s\n", plain_line(summary));
    if (json_array_size(hosts) > 0) {
        code = print_hosts(cli, hosts);
    }
    if (scale != NULL) {
        print_autoscale(cli, scale);
    }
    return code == EXIT_OK ? print_older(cli, &name) : code;
}
