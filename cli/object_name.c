#include "cli/object_name.h"

#include "cli/sight.h"

#include <string.h>

#define CANDIDATES_MAX 4096 /* names looked at for "did you mean" */

/* ---- parsing ---- */

const struct kind_info *object_kind(struct cli *cli, const char *text)
{
    const struct kind_info *info = kind_info_by_name(text);
    const char *words[2 * KIND_COUNT];
    unsigned count = 0;
    if (info != NULL) {
        return info;
    }
    for (unsigned i = KIND_NONE + 1; i < KIND_COUNT; i++) {
        words[count++] = kind_info((enum kind)i)->word;
        words[count++] = kind_info((enum kind)i)->plural;
    }
    const char *nearest = cli_nearest(text, words, count);
    if (nearest != NULL) {
        (void)cli_fail(cli, EXIT_USAGE, "there is no kind \"%s\"; did you mean \"%s\"?",
                       text, nearest);
    } else {
        (void)cli_fail(cli, EXIT_USAGE,
                       "there is no kind \"%s\": tenant, template, group, vm, network, "
                       "image, disk, host, token, operation, snapshot",
                       text);
    }
    return NULL;
}

const char *kind_article(const struct kind_info *info)
{
    return strchr("aeio", info->word[0]) != NULL ? "an" : "a";
}

static int take_part(struct cli *cli, const char *text, size_t length, char *ret_part)
{
    if (length == 0 || length >= NAME_SIZE) {
        return cli_fail(cli, EXIT_USAGE, "a name has 1 to %d characters", NAME_SIZE - 1);
    }
    memcpy(ret_part, text, length);
    ret_part[length] = '\0';
    if (!name_valid(ret_part)) {
        return cli_fail(cli, EXIT_USAGE,
                        "\"%s\" is no name: a-z, 0-9 and -, beginning with a letter",
                        ret_part);
    }
    return EXIT_OK;
}

static int take_kind(struct cli *cli,
                     const char *text,
                     size_t length,
                     enum kind wanted,
                     struct object_name *name)
{
    char word[NAME_SIZE];
    (void)snprintf(word, sizeof(word), "%.*s", (int)(length < 63 ? length : 63), text);
    name->info = object_kind(cli, word);
    if (name->info == NULL) {
        return EXIT_USAGE;
    }
    if (wanted != KIND_NONE && name->info->kind != wanted) {
        return cli_fail(cli, EXIT_USAGE, "%s %s is wanted here, not %s %s",
                        kind_article(kind_info(wanted)), kind_info(wanted)->word,
                        kind_article(name->info), name->info->word);
    }
    return EXIT_OK;
}

int object_name_parse(struct cli *cli,
                      const char *text,
                      enum kind kind,
                      struct object_name *ret_name)
{
    const char *slash = strchr(text, '/');
    const char *second = slash != NULL ? strchr(slash + 1, '/') : NULL;
    const char *name = second != NULL ? second + 1 : slash != NULL ? slash + 1 : text;
    int code = EXIT_OK;
    *ret_name = (struct object_name){.info = kind_info(kind)};
    if (slash == NULL && kind == KIND_NONE) {
        return cli_fail(cli, EXIT_USAGE, "\"%s\": say its kind, such as vm/%s", text,
                        text);
    }
    if (second != NULL) {
        code = take_part(cli, text, (size_t)(slash - text), ret_name->tenant);
    }
    if (code == EXIT_OK && slash != NULL) {
        const char *word = second != NULL ? slash + 1 : text;
        const char *end = second != NULL ? second : slash;
        code = take_kind(cli, word, (size_t)(end - word), kind, ret_name);
    }
    if (code == EXIT_OK) {
        code = take_part(cli, name, strlen(name), ret_name->name);
    }
    if (code == EXIT_OK && ret_name->tenant[0] != '\0' &&
        ret_name->info->scope == SCOPE_CLUSTER) {
        return cli_fail(cli, EXIT_USAGE, "a %s belongs to no tenant: %s/%s",
                        ret_name->info->word, ret_name->info->word, ret_name->name);
    }
    return code;
}

/* ---- finding ---- */

static int fail_missing(struct cli *cli, const struct object_name *name, json_t *items)
{
    const char *names[CANDIDATES_MAX];
    unsigned count = 0;
    size_t index;
    json_t *item;
    char label[OBJECT_LABEL_SIZE];
    char host[NAME_SIZE];
    json_array_foreach(items, index, item)
    {
        const char *text =
            json_member_text(json_object_get(item, "metadata"), "name", NULL);
        if (text != NULL && count < CANDIDATES_MAX) {
            names[count++] = text;
        }
    }
    const char *nearest = cli_nearest(name->name, names, count);
    object_label(cli, name->info->word, name->tenant, name->name, label);
    if (name->info->kind != KIND_HOST && sight_is_narrow(cli, host)) {
        (void)cli_fail(cli, EXIT_NOT_FOUND,
                       "%s is not there, or not for root of %s to see", label, host);
        sight_hint(cli, host);
        return EXIT_NOT_FOUND;
    }
    return nearest != NULL && strcmp(nearest, name->name) != 0
               ? cli_fail(cli, EXIT_NOT_FOUND, "%s is not there; did you mean \"%s\"?",
                          label, nearest)
               : cli_fail(cli, EXIT_NOT_FOUND, "%s is not there; berth ls %s", label,
                          name->info->word);
}

/* The owners of the name among all objects of the kind. */
static int take_owner(struct cli *cli, struct object_name *name, json_t *items)
{
    size_t index;
    json_t *item;
    unsigned owners = 0;
    char list[256] = "";
    size_t at = 0;
    json_array_foreach(items, index, item)
    {
        const json_t *meta = json_object_get(item, "metadata");
        if (strcmp(json_member_text(meta, "name", ""), name->name) != 0) {
            continue;
        }
        const char *tenant = json_member_text(meta, "tenant", "");
        (void)snprintf(name->tenant, sizeof(name->tenant), "%s", tenant);
        if (tenant[0] == '\0') {
            return EXIT_OK; /* an image of the cluster */
        }
        if (at < sizeof(list)) {
            at += (size_t)snprintf(list + at, sizeof(list) - at, "%s%s",
                                   owners > 0 ? ", " : "", tenant);
        }
        owners++;
    }
    if (owners > 1) {
        return cli_fail(cli, EXIT_USAGE,
                        "%u tenants have %s %s \"%s\": choose with -t (%s)", owners,
                        kind_article(name->info), name->info->word, name->name, list);
    }
    return owners == 1 ? EXIT_OK : fail_missing(cli, name, items);
}

int object_name_find(struct cli *cli,
                     const char *text,
                     enum kind kind,
                     struct object_name *ret_name)
{
    CLEANUP_JSON json_t *list = NULL;
    int code = object_name_parse(cli, text, kind, ret_name);
    if (code != EXIT_OK || ret_name->info->scope == SCOPE_CLUSTER ||
        ret_name->tenant[0] != '\0') {
        return code;
    }
    if (cli->tenant != NULL) {
        return take_part(cli, cli->tenant, strlen(cli->tenant), ret_name->tenant);
    }
    code = remote_list(cli, ret_name->info, "", "metadata.name,metadata.tenant", &list);
    return code == EXIT_OK ? take_owner(cli, ret_name, json_object_get(list, "items"))
                           : code;
}

void object_path(const struct object_name *name,
                 const char *suffix,
                 char ret_path[REMOTE_PATH_SIZE])
{
    bool owned = name->tenant[0] != '\0';
    (void)snprintf(ret_path, REMOTE_PATH_SIZE, "/v1/%s%s%s%s/%s%s",
                   owned ? "tenants/" : "", name->tenant, owned ? "/" : "",
                   name->info->plural, name->name, suffix);
}

int object_get(struct cli *cli, const struct object_name *name, json_t **ret_object)
{
    char path[REMOTE_PATH_SIZE];
    CLEANUP_JSON json_t *list = NULL;
    object_path(name, "", path);
    int code = remote_call_quiet(cli, "GET", path, NULL, ret_object);
    if (code == EXIT_NOT_FOUND) {
        char query[NAME_SIZE + 8] = "";
        if (name->tenant[0] != '\0') {
            (void)snprintf(query, sizeof(query), "tenant=%s", name->tenant);
        }
        code = remote_list(cli, name->info, query, "metadata.name", &list);
        return code == EXIT_OK ? fail_missing(cli, name, json_object_get(list, "items"))
                               : code;
    }
    return code;
}

void object_label(const struct cli *cli,
                  const char *kind_word,
                  const char *tenant,
                  const char *name,
                  char ret_label[OBJECT_LABEL_SIZE])
{
    bool said =
        tenant[0] == '\0' || (cli->tenant != NULL && strcmp(cli->tenant, tenant) == 0);
    (void)snprintf(ret_label, OBJECT_LABEL_SIZE, "%s%s%s/%s", said ? "" : tenant,
                   said ? "" : "/", kind_word, name);
}
