/* host label. */
#include "cli/kind_view.h"
#include "cli/object_name.h"
#include "cli/output.h"
#include "cli/run.h"

#include <string.h>

/* KEY=VALUE, or KEY-: no key ends with a dash. Adds it, null for one to take away. */
static int add_label(struct cli *cli, const char *word, json_t *labels)
{
    const char *equals = strchr(word, '=');
    size_t size = equals != NULL ? (size_t)(equals - word) : strlen(word);
    bool gone = equals == NULL && size > 1 && word[size - 1] == '-';
    char key[NAME_SIZE] = "";
    size -= gone ? 1U : 0U;
    if ((equals == NULL && !gone) || size == 0 || size >= sizeof(key)) {
        return cli_fail(cli, EXIT_USAGE,
                        "\"%.80s\": wanted KEY=VALUE, or KEY- to take a label away",
                        word);
    }
    memcpy(key, word, size);
    if (json_object_get(labels, key) != NULL) {
        return cli_fail(cli, EXIT_USAGE, "label %s is named twice", key);
    }
    if (json_object_set_new(labels, key, gone ? json_null() : json_string(equals + 1)) !=
        0) {
        return cli_fail(cli, EXIT_USAGE, "\"%.80s\" is not UTF-8", word);
    }
    return EXIT_OK;
}

/* What became of the host, which had these labels before. */
static const char *change_told(const json_t *before, json_t *labels)
{
    const char *key;
    json_t *value;
    bool sets = false;
    bool takes = false;
    bool names = false;
    json_object_foreach(labels, key, value)
    {
        const char *had = json_member_text(before, key, NULL);
        bool gone = json_is_null(value);
        names = names || !gone;
        takes = takes || (gone && had != NULL);
        sets = sets ||
               (!gone && (had == NULL || strcmp(had, json_string_value(value)) != 0));
    }
    return sets    ? "is labelled; VMs that run stay where they are"
           : takes ? "has lost labels; VMs that run stay where they are"
           : names ? "has these labels already"
                   : "has no such label";
}

int run_host_label(struct cli *cli)
{
    struct object_name name;
    char path[REMOTE_PATH_SIZE];
    CLEANUP_JSON json_t *before = NULL;
    CLEANUP_JSON json_t *labels = json_object();
    int code = object_name_find(cli, cli->words[0], KIND_HOST, &name);
    for (unsigned i = 1; i < cli->word_count && code == EXIT_OK; i++) {
        code = add_label(cli, cli->words[i], labels);
    }
    code = code == EXIT_OK ? object_get(cli, &name, &before) : code;
    if (code != EXIT_OK) {
        return code;
    }
    CLEANUP_JSON json_t *body = json_pack("{s:O}", "labels", labels);
    object_path(&name, ":label", path);
    code = remote_call(cli, "POST", path, body, NULL);
    if (code != EXIT_OK) {
        return code;
    }
    output_tell(cli, "host/%s %s", name.name,
                change_told(json_object_get(view_meta(before), "labels"), labels));
    return output_is_document(cli) ? output_objects(cli, &name, 1, false) : EXIT_OK;
}
