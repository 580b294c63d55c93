/* show: one object for people. host show is show host/NAME. */
#include "base/cleanup.h"
#include "base/clock.h"
#include "cli/event_list.h"
#include "cli/kind_view.h"
#include "cli/object_name.h"
#include "cli/output.h"
#include "cli/plain_text.h"
#include "cli/run.h"
#include "cli/timeline.h"
#include "config/yaml_emit.h"

#include <string.h>

#define EVENTS_SHOWN 8

/* Of the longest title, so that the values of all stand below each other. */
static int title_width(const struct kind_info *info)
{
    size_t width = 10;
    for (const struct view_column *column = kind_columns(info->kind);
         column->title != NULL; column++) {
        size_t size = strlen(column->title);
        width = size > width ? size : width;
    }
    return (int)width;
}

/* "TITLE  value" for each column that says something. */
static void print_columns(struct cli *cli,
                          const struct kind_info *info,
                          const json_t *object,
                          const struct view_time *time)
{
    char cell[CELL_SIZE];
    int width = title_width(info);
    for (const struct view_column *column = kind_columns(info->kind);
         column->title != NULL; column++) {
        column->print(object, time, cell);
        if (strcmp(cell, "-") != 0) {
            fprintf(cli->out, "%-*s %s\n", width, column->title, plain_line(cell));
        }
    }
}

static void print_yaml(struct cli *cli, const json_t *object, const char *key)
{
    const json_t *part = json_object_get(object, key);
    if (json_object_size(part) == 0) {
        return;
    }
    CLEANUP_JSON json_t *document = json_pack("{s:O}", key, part);
    CLEANUP_FREE char *text = yaml_emit(document);
    fprintf(cli->out, "\n%s", text != NULL ? text : "");
}

/* VMs that belong to a group, or run on a host or have their disks there. */
static int
print_vms(struct cli *cli, const struct object_name *name, const struct view_time *time)
{
    char query[REMOTE_PATH_SIZE / 2] = "";
    char fields[VIEW_FIELDS_SIZE];
    CLEANUP_JSON json_t *list = NULL;
    CLEANUP_JSON json_t *items = json_array();
    size_t index;
    json_t *item;
    if (name->info->kind == KIND_GROUP) {
        (void)snprintf(query, sizeof(query), "tenant=%s&group=%s", name->tenant,
                       name->name);
    }
    kind_view_fields(cli, kind_info(KIND_VM), fields);
    int code = remote_list(cli, kind_info(KIND_VM), query, fields, &list);
    json_array_foreach(json_object_get(list, "items"), index, item)
    {
        const char *host = json_member_text(view_status(item), "host", "");
        const char *keeper = json_member_text(view_status(item), "diskHost", "");
        if (name->info->kind == KIND_GROUP || strcmp(host, name->name) == 0 ||
            strcmp(keeper, name->name) == 0) {
            json_array_append(items, item);
        }
    }
    if (code != EXIT_OK || json_array_size(items) == 0) {
        return code;
    }
    fputs("\nVMs\n", cli->out);
    return kind_view_print(cli, kind_info(KIND_VM), items, time);
}

static int print_events(struct cli *cli, const struct object_name *name)
{
    char filter[REMOTE_PATH_SIZE / 2];
    CLEANUP_JSON json_t *items = NULL;
    uint64_t since = 0;
    bool owned = name->tenant[0] != '\0';
    (void)snprintf(filter, sizeof(filter), "&kind=%s&name=%s%s%s", name->info->word,
                   name->name, owned ? "&tenant=" : "", name->tenant);
    int code = event_list_get(cli, filter, &since, &items);
    size_t count = json_array_size(items);
    if (code != EXIT_OK || count == 0) {
        return code;
    }
    fputs("\nEvents\n", cli->out);
    for (size_t i = count > EVENTS_SHOWN ? count - EVENTS_SHOWN : 0; i < count; i++) {
        char line[EVENT_LINE_SIZE];
        event_format(cli, json_array_get(items, i), line);
        fprintf(cli->out, "%s\n", line);
    }
    return EXIT_OK;
}

static int show(struct cli *cli, const struct object_name *name)
{
    CLEANUP_JSON json_t *object = NULL;
    struct view_time time = {.now_wall_ms = clock_wall_ms(clock_system())};
    int code = object_get(cli, name, &object);
    if (code != EXIT_OK) {
        return code;
    }
    if (output_is_document(cli)) {
        return output_document(cli, object);
    }
    print_columns(cli, name->info, object, &time);
    if (name->info->kind == KIND_VM) {
        char text[TIMELINE_SIZE];
        timeline_format(object, text);
        fprintf(cli->out, "%-*s %s\n", title_width(name->info), "BOOT", text);
    }
    print_yaml(cli, object, "spec");
    if (name->info->kind == KIND_GROUP || name->info->kind == KIND_HOST) {
        code = print_vms(cli, name, &time);
    }
    return code == EXIT_OK ? print_events(cli, name) : code;
}

static int show_named(struct cli *cli, enum kind kind)
{
    struct object_name name;
    int code = object_name_find(cli, cli->words[0], kind, &name);
    return code == EXIT_OK ? show(cli, &name) : code;
}

int run_show(struct cli *cli)
{
    return show_named(cli, KIND_NONE);
}

int run_host_show(struct cli *cli)
{
    return show_named(cli, KIND_HOST);
}
