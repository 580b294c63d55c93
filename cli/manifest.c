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

/* At most one byte more than config_read takes, which tells that it is too much: a device
 * or a pipe may never end. */
static int read_stream(FILE *stream, char **ret_text, size_t *ret_size)
{
    struct bytes_writer writer;
    char block[16384];
    size_t size;
    bytes_writer_init(&writer, CONFIG_SIZE_MAX + 1);
    do {
        size_t room = CONFIG_SIZE_MAX + 1 - writer.size;
        size = fread(block, 1, room < sizeof(block) ? room : sizeof(block), stream);
        bytes_write_raw(&writer, block, size);
    } while (size > 0 && writer.size <= CONFIG_SIZE_MAX);
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
        return manifest_fail(cli, manifest, path, BERTH_ETOOLARGE, "more than %d files",
                             MANIFEST_FILES_MAX);
    }
    int r = read_text(path, &text, &size);
    if (r < 0) {
        return manifest_fail(cli, manifest, path, BERTH_EINVALID, "%s: %s", path,
                             r > -1000 ? strerror(-r) // NOLINT(concurrency-mt-unsafe)
                                       : err_sentence(r));
    }
    struct config *config = &manifest->configs[manifest->count];
    r = config_read(strcmp(path, "-") == 0 ? "stdin" : path, text, size, config);
    if (r == -ENOMEM) {
        return cli_fail(cli, EXIT_FAILED, "out of memory");
    }
    manifest->count++;
    manifest_tell_file(cli, manifest, config);
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
        return manifest_fail(cli, manifest, folder, BERTH_ENOTFOUND,
                             "%s: no *.yaml file is in there", folder);
    }
    for (int i = 0; i < count; i++) {
        char path[PATH_MAX];
        (void)snprintf(path, sizeof(path), "%s%s%s", folder,
                       folder[strlen(folder) - 1] == '/' ? "" : "/", entries[i]->d_name);
        int r = add_file(cli, manifest, path);
        code = r != EXIT_OK ? r : code;
        free(entries[i]);
    }
    free(entries);
    return code;
}

/* ---- the same object in two of them ---- */

#define CODE_TWICE "BE1102" /* as within one file */

struct standing {
    const struct config *config;
    unsigned object;
    unsigned place; /* among all */
};

static int by_object(const void *a, const void *b)
{
    const struct standing *left = a;
    const struct standing *right = b;
    const struct config_object *one = &left->config->objects[left->object];
    const struct config_object *other = &right->config->objects[right->object];
    int order = (int)one->kind - (int)other->kind;
    order = order != 0 ? order
                       : strcmp(object_meta(one->object)->name,
                                object_meta(other->object)->name);
    return order != 0 ? order
                      : strcmp(object_meta(one->object)->tenant,
                               object_meta(other->object)->tenant);
}

static int by_object_and_place(const void *a, const void *b)
{
    const struct standing *left = a;
    const struct standing *right = b;
    int order = by_object(a, b);
    return order != 0 ? order
                      : (left->place > right->place) - (left->place < right->place);
}

static void tell_twice(struct cli *cli,
                       struct manifest *manifest,
                       const struct standing *first,
                       const struct standing *again)
{
    const struct config_object *object = &again->config->objects[again->object];
    struct config_fault place = {0};
    struct config_fault fault = {.code = CODE_TWICE};
    config_locate(first->config, first->object, "metadata.name", &place);
    (void)snprintf(fault.message, sizeof(fault.message),
                   "%s \"%s\" stands in %.200s:%u:%u already",
                   kind_info(object->kind)->name, object_meta(object->object)->name,
                   first->config->name, place.line, place.column);
    (void)snprintf(fault.hint, sizeof(fault.hint), "keep one of the two");
    manifest->located = true;
    manifest->error_count++;
    manifest_tell_at(cli, manifest, again->config, again->object, "metadata.name",
                     &fault);
}

/* Which of the two is meant nobody knows. Within one file config_read tells it. */
static int find_twice(struct cli *cli, struct manifest *manifest)
{
    unsigned count = 0;
    int code = EXIT_OK;
    struct standing *all = calloc(manifest_objects(manifest) + 1, sizeof(*all));
    if (all == NULL) {
        return cli_fail(cli, EXIT_FAILED, "out of memory");
    }
    for (unsigned i = 0; i < manifest->count; i++) {
        for (unsigned j = 0; j < manifest->configs[i].object_count; j++) {
            all[count] = (struct standing){&manifest->configs[i], j, count};
            count++;
        }
    }
    qsort(all, count, sizeof(*all), by_object_and_place);
    for (unsigned i = 1; i < count; i++) {
        const struct metadata *meta =
            object_meta(all[i].config->objects[all[i].object].object);
        if (meta->name[0] != '\0' && all[i].config != all[i - 1].config &&
            by_object(&all[i - 1], &all[i]) == 0) {
            tell_twice(cli, manifest, &all[i - 1], &all[i]);
            code = EXIT_USAGE;
        }
    }
    free(all);
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
        (struct manifest){.configs = calloc(MANIFEST_FILES_MAX, sizeof(struct config)),
                          .errors = json_array(),
                          .warnings = json_array()};
    if (ret_manifest->configs == NULL || ret_manifest->errors == NULL ||
        ret_manifest->warnings == NULL) {
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
    int twice = find_twice(cli, ret_manifest);
    code = code == EXIT_OK ? twice : code;
    if (ret_manifest->located) { /* a file that is not there says so in one line */
        config_print_sum(ret_manifest->error_count, ret_manifest->warning_count,
                         cli->err);
    }
    return code;
}

void manifest_fini(struct manifest *manifest)
{
    for (unsigned i = 0; i < manifest->count; i++) {
        config_fini(&manifest->configs[i]);
    }
    free(manifest->configs);
    json_decref(manifest->errors);
    json_decref(manifest->warnings);
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
