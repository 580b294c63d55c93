#include "base/plural.h"
#include "cli/manifest.h"
#include "cli/output.h"
#include "cli/plain_text.h"
#include "config/config.h"
#include "model/document.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* References that validate --local names: the cluster tells all of them. */
#define NOT_CHECKED_SHOWN 10

/* ---- what is wrong, as text and as a document ---- */

static void
keep(struct manifest *manifest, const char *file, const struct config_fault *fault)
{
    json_t *row = json_object();
    (void)json_object_set_new(row, "file", document_text(file));
    if (fault->line > 0) {
        (void)json_object_set_new(row, "line", json_integer(fault->line));
        (void)json_object_set_new(row, "column", json_integer(fault->column));
    }
    if (fault->code != NULL) {
        (void)json_object_set_new(row, "code", json_string(fault->code));
    }
    (void)json_object_set_new(row, "message", document_text(fault->message));
    if (fault->hint[0] != '\0') {
        (void)json_object_set_new(row, "hint", document_text(fault->hint));
    }
    (void)json_array_append_new(fault->warning ? manifest->warnings : manifest->errors,
                                row);
}

int manifest_fail(struct cli *cli,
                  struct manifest *manifest,
                  const char *file,
                  int fault_code,
                  const char *format,
                  ...)
{
    struct config_fault fault = {.code = err_name(fault_code)};
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(fault.message, sizeof(fault.message), format, arguments);
    va_end(arguments);
    keep(manifest, file, &fault);
    manifest->error_count++;
    return cli_fail(cli, EXIT_USAGE, "%s", fault.message);
}

void manifest_tell_file(struct cli *cli,
                        struct manifest *manifest,
                        const struct config *config)
{
    config_print_each(config, cli->err);
    manifest->located = manifest->located || config->fault_count > 0;
    manifest->error_count += config->error_count;
    manifest->warning_count += config->warning_count;
    for (unsigned i = 0; i < config->fault_count; i++) {
        keep(manifest, config->name, &config->faults[i]);
    }
}

void manifest_tell_at(struct cli *cli,
                      struct manifest *manifest,
                      const struct config *config,
                      unsigned object,
                      const char *path,
                      struct config_fault *fault)
{
    config_locate(config, object, path, fault);
    config_print_fault(config, fault, cli->err);
    keep(manifest, config->name, fault);
}

int manifest_output_errors(struct cli *cli,
                           const struct manifest *manifest,
                           const json_t *answer)
{
    if ((cli->format != FORMAT_JSON && cli->format != FORMAT_YAML) ||
        json_array_size(manifest->errors) == 0) {
        return EXIT_OK;
    }
    CLEANUP_JSON json_t *document =
        json_pack("{s:O, s:O, s:O*, s:O*}", "errors", manifest->errors, "warnings",
                  manifest->warnings, "results", json_object_get(answer, "results"),
                  "forecast", json_object_get(answer, "forecast"));
    return document != NULL ? output_document(cli, document)
                            : cli_fail(cli, EXIT_FAILED, "out of memory");
}

/* ---- faults that the server found ---- */

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

void manifest_tell_answer(struct cli *cli, struct manifest *manifest, const json_t *fault)
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
        (void)json_array_append(manifest->errors, (json_t *)(uintptr_t)fault);
        return;
    }
    struct config_fault shown = {
        .code = json_member_text(fault, "code", err_name(BERTH_EINVALID))};
    path_of(rest, path, sizeof(path));
    (void)snprintf(shown.message, sizeof(shown.message), "%s", message);
    (void)snprintf(shown.hint, sizeof(shown.hint), "%s", hint);
    (void)plain_line(shown.message);
    (void)plain_line(shown.hint);
    manifest_tell_at(cli, manifest, config, object, path, &shown);
}

/* ---- references ---- */

struct notes {
    struct cli *cli;
    const struct manifest *manifest;
    unsigned count; /* of references that are not in the files */
};

struct reference {
    enum kind kind;
    const char *tenant;
    const char *name;
    char path[64];
};

/* The object of the files, or NULL: an image of the tenant's own before one of all. */
static const void *find(const struct manifest *manifest, const struct reference *wanted)
{
    const void *found = NULL;
    for (unsigned i = 0; i < manifest->count; i++) {
        const struct config *config = &manifest->configs[i];
        for (unsigned j = 0; j < config->object_count; j++) {
            const struct metadata *meta = object_meta(config->objects[j].object);
            bool shared = wanted->kind == KIND_IMAGE && meta->tenant[0] == '\0';
            if (config->objects[j].kind == wanted->kind &&
                strcmp(meta->name, wanted->name) == 0 &&
                (shared ? found == NULL : strcmp(meta->tenant, wanted->tenant) == 0)) {
                found = config->objects[j].object;
            }
        }
    }
    return found;
}

static bool check_template_memory(struct cli *cli,
                                  struct manifest *manifest,
                                  unsigned file,
                                  unsigned object)
{
    const struct config *config = &manifest->configs[file];
    const struct template *template = config->objects[object].object;
    struct config_fault fault = {.code = err_name(BERTH_EINVALID)};
    char message[IMAGE_LACKS_SIZE];
    char hint[IMAGE_HINT_SIZE];
    const struct image *image =
        find(manifest, &(struct reference){.kind = KIND_IMAGE,
                                           .tenant = template->meta.tenant,
                                           .name = template->spec.image});
    if (image == NULL || !image_memory_lacks(image, &template->spec, message, hint)) {
        return true;
    }
    (void)snprintf(fault.message, sizeof(fault.message), "%s", message);
    (void)snprintf(fault.hint, sizeof(fault.hint), "%s", hint);
    manifest_tell_at(cli, manifest, config, object, "spec.memory.size", &fault);
    manifest->error_count++;
    return false;
}

int manifest_check_memory(struct cli *cli, struct manifest *manifest)
{
    bool all = true;
    for (unsigned i = 0; i < manifest->count; i++) {
        for (unsigned j = 0; j < manifest->configs[i].object_count; j++) {
            if (manifest->configs[i].objects[j].kind == KIND_TEMPLATE) {
                all = check_template_memory(cli, manifest, i, j) && all;
            }
        }
    }
    if (!all) {
        config_print_sum(manifest->error_count, manifest->warning_count, cli->err);
    }
    return all ? EXIT_OK : EXIT_USAGE;
}

static void note_reference(struct notes *notes,
                           const struct config *config,
                           unsigned object,
                           const struct reference *reference)
{
    struct config_fault place = {0};
    if (reference->name[0] == '\0' || find(notes->manifest, reference) != NULL ||
        ++notes->count > NOT_CHECKED_SHOWN) {
        return;
    }
    config_locate(config, object, reference->path, &place);
    cli_note(notes->cli,
             "%s:%u:%u: not checked: %s %s is not in the files; only the cluster knows",
             config->name, place.line, place.column, kind_info(reference->kind)->word,
             reference->name);
}

static void
note_template(struct notes *notes, const struct config *config, unsigned object)
{
    const struct template *template = config->objects[object].object;
    struct reference reference = {.kind = KIND_IMAGE,
                                  .tenant = template->meta.tenant,
                                  .name = template->spec.image,
                                  .path = "spec.image"};
    note_reference(notes, config, object, &reference);
    for (uint32_t i = 0; i < template->spec.nics.count; i++) {
        reference.kind = KIND_NETWORK;
        reference.name = template->spec.nics.items[i].network;
        (void)snprintf(reference.path, sizeof(reference.path), "spec.nics[%u].network",
                       i);
        note_reference(notes, config, object, &reference);
    }
}

static void note_object(struct notes *notes, const struct config *config, unsigned object)
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
        note_reference(notes, config, object, &tenant);
    }
    switch (owner->kind) {
    case KIND_TEMPLATE:
        note_template(notes, config, object);
        break;
    case KIND_GROUP:
        template.name = ((const struct group *)owner->object)->spec.template_ref.name;
        note_reference(notes, config, object, &template);
        break;
    case KIND_VM:
        template.name = ((const struct vm *)owner->object)->spec.template_ref.name;
        note_reference(notes, config, object, &template);
        break;
    default:
        break;
    }
}

unsigned manifest_note_references(struct cli *cli, const struct manifest *manifest)
{
    struct notes notes = {.cli = cli, .manifest = manifest};
    for (unsigned i = 0; i < manifest->count; i++) {
        for (unsigned j = 0; j < manifest->configs[i].object_count; j++) {
            note_object(&notes, &manifest->configs[i], j);
        }
    }
    unsigned more = notes.count > NOT_CHECKED_SHOWN ? notes.count - NOT_CHECKED_SHOWN : 0;
    if (notes.count > 0) {
        cli_note(cli, "%u reference%s not checked%s: without --local all are",
                 notes.count, plural_s_are(notes.count),
                 more > 0 ? ", the first of which are listed" : "");
    }
    return notes.count;
}
