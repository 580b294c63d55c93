#include "cli/manifest.h"

#include "base/bytes.h"
#include "base/cleanup.h"
#include "model/document.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* ---- one file ---- */

static int read_stream(FILE *stream, char **ret_text, size_t *ret_size)
{
    struct bytes_writer writer;
    char block[16384];
    size_t size;
    bytes_writer_init(&writer, CONFIG_SIZE_MAX + 1);
    while ((size = fread(block, 1, sizeof(block), stream)) > 0) {
        bytes_write_raw(&writer, block, size);
    }
    *ret_size = writer.size;
    if (ferror(stream)) {
        bytes_writer_fini(&writer);
        return -EIO;
    }
    return bytes_writer_take_text(&writer, ret_text);
}

static int read_text(const char *path, char **ret_text, size_t *ret_size)
{
    if (strcmp(path, "-") == 0) {
        return read_stream(stdin, ret_text, ret_size);
    }
    FILE *stream = fopen(path, "re");
    if (stream == NULL) {
        return -errno;
    }
    int r = read_stream(stream, ret_text, ret_size);
    (void)fclose(stream); /* only read */
    return r;
}

static int add_file(struct cli *cli, struct manifest *manifest, const char *path)
{
    CLEANUP_FREE char *text = NULL;
    size_t size = 0;
    if (manifest->count == MANIFEST_FILES_MAX) {
        return cli_fail(cli, EXIT_USAGE, "more than %d files", MANIFEST_FILES_MAX);
    }
    int r = read_text(path, &text, &size);
    if (r < 0) {
        return cli_fail(cli, EXIT_USAGE, "%s: %s", path,
                        r > -1000 ? strerror(-r) // NOLINT(concurrency-mt-unsafe)
                                  : err_sentence(r));
    }
    struct config *config = &manifest->configs[manifest->count];
    r = config_read(strcmp(path, "-") == 0 ? "stdin" : path, text, size, config);
    if (r == -ENOMEM) {
        return cli_fail(cli, EXIT_FAILED, "out of memory");
    }
    manifest->count++;
    if (config->fault_count > 0) {
        config_print_faults(config, cli->err);
    }
    return config->error_count > 0 || r < 0 ? EXIT_USAGE : EXIT_OK;
}

/* ---- folders ---- */

static int is_yaml(const struct dirent *entry)
{
    const char *dot = strrchr(entry->d_name, '.');
    return entry->d_name[0] != '.' && dot != NULL &&
           (strcmp(dot, ".yaml") == 0 || strcmp(dot, ".yml") == 0);
}

static int add_folder(struct cli *cli, struct manifest *manifest, const char *folder)
{
    struct dirent **entries = NULL;
    int code = EXIT_OK;
    int count = scandir(folder, &entries, is_yaml, alphasort);
    if (count <= 0) {
        free(entries);
        return cli_fail(cli, EXIT_USAGE, "%s: no *.yaml file is in there", folder);
    }
    for (int i = 0; i < count; i++) {
        char path[PATH_MAX];
        (void)snprintf(path, sizeof(path), "%s/%s", folder, entries[i]->d_name);
        int r = add_file(cli, manifest, path);
        code = r != EXIT_OK ? r : code;
        free(entries[i]);
    }
    free(entries);
    return code;
}

/* ---- all of them ---- */

int manifest_read(struct cli *cli,
                  const char *const *paths,
                  unsigned path_count,
                  struct manifest *ret_manifest)
{
    int code = EXIT_OK;
    *ret_manifest =
        (struct manifest){.configs = calloc(MANIFEST_FILES_MAX, sizeof(struct config))};
    if (ret_manifest->configs == NULL) {
        return cli_fail(cli, EXIT_FAILED, "out of memory");
    }
    for (unsigned i = 0; i < path_count; i++) {
        struct stat status;
        bool folder = strcmp(paths[i], "-") != 0 && stat(paths[i], &status) == 0 &&
                      S_ISDIR(status.st_mode);
        int r = folder ? add_folder(cli, ret_manifest, paths[i])
                       : add_file(cli, ret_manifest, paths[i]);
        code = r != EXIT_OK ? r : code;
    }
    return code;
}

void manifest_fini(struct manifest *manifest)
{
    for (unsigned i = 0; i < manifest->count; i++) {
        config_fini(&manifest->configs[i]);
    }
    free(manifest->configs);
    *manifest = (struct manifest){0};
}

unsigned manifest_objects(const struct manifest *manifest)
{
    unsigned count = 0;
    for (unsigned i = 0; i < manifest->count; i++) {
        count += manifest->configs[i].object_count;
    }
    return count;
}

json_t *manifest_document(const struct manifest *manifest)
{
    json_t *objects = json_array();
    for (unsigned i = 0; i < manifest->count; i++) {
        const struct config *config = &manifest->configs[i];
        for (unsigned j = 0; j < config->object_count; j++) {
            json_t *document =
                document_of(config->objects[j].kind, config->objects[j].object, false);
            if (json_array_append_new(objects, document) < 0) {
                json_decref(objects);
                return NULL;
            }
        }
    }
    return json_pack("{s:o}", "objects", objects);
}

/* ---- faults that the server found ---- */

bool manifest_find(const struct manifest *manifest,
                   size_t index,
                   const struct config **ret_config,
                   unsigned *ret_object)
{
    for (unsigned i = 0; i < manifest->count; i++) {
        const struct config *config = &manifest->configs[i];
        if (index < config->object_count) {
            *ret_config = config;
            *ret_object = (unsigned)index;
            return true;
        }
        index -= config->object_count;
    }
    return false;
}

/* "/spec/nics/1/name" as config writes it: "spec.nics[1].name". */
static void path_of(const char *pointer, char *ret_path, size_t capacity)
{
    size_t used = 0;
    ret_path[0] = '\0';
    while (*pointer == '/' && used < capacity) {
        size_t size = strcspn(++pointer, "/");
        bool number = size > 0 && strspn(pointer, "0123456789") == size;
        used += (size_t)snprintf(ret_path + used, capacity - used,
                                 number     ? "[%.*s]"
                                 : used > 0 ? ".%.*s"
                                            : "%.*s",
                                 (int)size, pointer);
        pointer += size;
    }
}

void manifest_print_fault(struct cli *cli,
                          const struct manifest *manifest,
                          const json_t *fault)
{
    static const char objects[] = "/objects/";
    const char *pointer = json_member_text(fault, "pointer", "");
    const char *message = json_member_text(fault, "message", "");
    const char *hint = json_member_text(fault, "hint", "");
    const struct config *config = NULL;
    unsigned object = 0;
    char path[256];
    char *rest = NULL;
    bool numbered = strncmp(pointer, objects, sizeof(objects) - 1) == 0;
    size_t index =
        numbered ? strtoul(pointer + sizeof(objects) - 1, &rest, 10) : SIZE_MAX;
    if (!numbered || !manifest_find(manifest, index, &config, &object)) {
        fprintf(cli->err, "  %s: %s%s%s\n", pointer, message, hint[0] != '\0' ? "; " : "",
                hint);
        return;
    }
    struct config_fault shown = {
        .code = json_member_text(fault, "code", err_name(BERTH_EINVALID))};
    path_of(rest, path, sizeof(path));
    config_locate(config, object, path, &shown);
    (void)snprintf(shown.message, sizeof(shown.message), "%s", message);
    (void)snprintf(shown.hint, sizeof(shown.hint), "%s", hint);
    config_print_fault(config, &shown, cli->err);
}

/* ---- references ---- */

struct reference {
    enum kind kind;
    const char *tenant;
    const char *name;
    char path[64];
};

static bool is_there(const struct manifest *manifest, const struct reference *wanted)
{
    for (unsigned i = 0; i < manifest->count; i++) {
        const struct config *config = &manifest->configs[i];
        for (unsigned j = 0; j < config->object_count; j++) {
            const struct metadata *meta = object_meta(config->objects[j].object);
            bool shared = wanted->kind == KIND_IMAGE && meta->tenant[0] == '\0';
            if (config->objects[j].kind == wanted->kind &&
                strcmp(meta->name, wanted->name) == 0 &&
                (shared || strcmp(meta->tenant, wanted->tenant) == 0)) {
                return true;
            }
        }
    }
    return false;
}

static void note_reference(struct cli *cli,
                           const struct manifest *manifest,
                           const struct config *config,
                           unsigned object,
                           const struct reference *reference)
{
    struct config_fault place = {0};
    if (reference->name[0] == '\0' || is_there(manifest, reference)) {
        return;
    }
    config_locate(config, object, reference->path, &place);
    cli_note(cli,
             "%s:%u:%u: not checked: %s %s is not in the files; only the cluster knows",
             config->name, place.line, place.column, kind_info(reference->kind)->word,
             reference->name);
}

static void note_template(struct cli *cli,
                          const struct manifest *manifest,
                          const struct config *config,
                          unsigned object)
{
    const struct template *template = config->objects[object].object;
    struct reference reference = {.kind = KIND_IMAGE,
                                  .tenant = template->meta.tenant,
                                  .name = template->spec.image,
                                  .path = "spec.image"};
    note_reference(cli, manifest, config, object, &reference);
    for (uint32_t i = 0; i < template->spec.nics.count; i++) {
        reference.kind = KIND_NETWORK;
        reference.name = template->spec.nics.items[i].network;
        (void)snprintf(reference.path, sizeof(reference.path), "spec.nics[%u].network",
                       i);
        note_reference(cli, manifest, config, object, &reference);
    }
}

static void note_object(struct cli *cli,
                        const struct manifest *manifest,
                        const struct config *config,
                        unsigned object)
{
    const struct config_object *owner = &config->objects[object];
    const struct metadata *meta = object_meta(owner->object);
    struct reference tenant = {.kind = KIND_TENANT,
                               .tenant = "",
                               .name = meta->tenant,
                               .path = "metadata.tenant"};
    struct reference template = {
        .kind = KIND_TEMPLATE, .tenant = meta->tenant, .path = "spec.template.name"};
    if (strcmp(meta->tenant, DEFAULT_TENANT) != 0) { /* that one is always there */
        note_reference(cli, manifest, config, object, &tenant);
    }
    switch (owner->kind) {
    case KIND_TEMPLATE:
        note_template(cli, manifest, config, object);
        break;
    case KIND_GROUP:
        template.name = ((const struct group *)owner->object)->spec.template_ref.name;
        note_reference(cli, manifest, config, object, &template);
        break;
    case KIND_VM:
        template.name = ((const struct vm *)owner->object)->spec.template_ref.name;
        note_reference(cli, manifest, config, object, &template);
        break;
    default:
        break;
    }
}

void manifest_note_references(struct cli *cli, const struct manifest *manifest)
{
    for (unsigned i = 0; i < manifest->count; i++) {
        for (unsigned j = 0; j < manifest->configs[i].object_count; j++) {
            note_object(cli, manifest, &manifest->configs[i], j);
        }
    }
}
