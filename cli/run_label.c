/* host label. */
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

int run_host_label(struct cli *cli)
{
    struct object_name name;
    char path[REMOTE_PATH_SIZE];
    CLEANUP_JSON json_t *labels = json_object();
    int code = object_name_find(cli, cli->words[0], KIND_HOST, &name);
    for (unsigned i = 1; i < cli->word_count && code == EXIT_OK; i++) {
        code = add_label(cli, cli->words[i], labels);
    }
    if (code != EXIT_OK) {
        return code;
    }
    CLEANUP_JSON json_t *body = json_pack("{s:O}", "labels", labels);
    object_path(&name, ":label", path);
    code = remote_call(cli, "POST", path, body, NULL);
    if (code != EXIT_OK) {
        return code;
    }
    output_tell(cli, "host/%s is labelled; VMs that run stay where they are", name.name);
    return output_is_document(cli) ? output_objects(cli, &name, 1, false) : EXIT_OK;
}
