#include "config/config.h"

#include "config/schema_walk.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const envelope[] = {"apiVersion", "kind", NULL};

struct reading {
    struct config *config;
    struct fault_list faults;
};

struct meaning {
    struct fault_list *faults;
    const struct place_list *places;
};

/* ---- one document
 * ------------------------------------------------------------------------------------ */

static yaml_node_t *
member(yaml_document_t *document, yaml_node_t *mapping, const char *name)
{
    for (yaml_node_pair_t *pair = mapping->data.mapping.pairs.start;
         pair < mapping->data.mapping.pairs.top; pair++) {
        yaml_node_t *key = yaml_document_get_node(document, pair->key);
        if (key->type == YAML_SCALAR_NODE &&
            strcmp((const char *)key->data.scalar.value, name) == 0) {
            return yaml_document_get_node(document, pair->value);
        }
    }
    return NULL;
}

static void
check_version(struct reading *reading, yaml_document_t *document, yaml_node_t *root)
{
    const yaml_node_t *version = member(document, root, "apiVersion");
    if (version == NULL) {
        fault_add(&reading->faults, CONFIG_KIND, root->start_mark, 1,
                  "begin the document with apiVersion: berth/v1",
                  "apiVersion is missing");
    } else if (version->type != YAML_SCALAR_NODE ||
               strcmp((const char *)version->data.scalar.value, "berth/v1") != 0) {
        fault_add(&reading->faults, CONFIG_KIND, version->start_mark, node_width(version),
                  "write berth/v1", "apiVersion is not one that this berth reads");
    }
}

static const struct kind_info *
read_kind(struct reading *reading, yaml_document_t *document, yaml_node_t *root)
{
    const char *names[KIND_COUNT];
    char hint[128] = "";
    unsigned count = 0;
    const yaml_node_t *node = member(document, root, "kind");
    for (int kind = 1; kind < KIND_COUNT; kind++) {
        const struct kind_info *info = kind_info((enum kind)kind);
        if (info != NULL && info->user_writable) {
            names[count++] = info->name;
        }
    }
    const char *text = node != NULL && node->type == YAML_SCALAR_NODE
                           ? (const char *)node->data.scalar.value
                           : NULL;
    for (unsigned i = 0; i < count && text != NULL; i++) {
        if (strcmp(names[i], text) == 0) {
            return kind_info_by_name(text);
        }
    }
    size_t used = (size_t)snprintf(hint, sizeof(hint), "known: ");
    for (unsigned i = 0; i < count && used < sizeof(hint) - NAME_SIZE; i++) {
        used += (size_t)snprintf(hint + used, sizeof(hint) - used, "%s%s",
                                 i > 0 ? ", " : "", names[i]);
    }
    const char *near = text != NULL ? nearest_word(text, names, count) : NULL;
    if (near != NULL) {
        (void)snprintf(hint, sizeof(hint), "did you mean \"%s\"?", near);
    }
    if (text == NULL) {
        fault_add(&reading->faults, CONFIG_KIND, root->start_mark, 1, hint,
                  "kind is missing");
    } else {
        fault_add(&reading->faults, CONFIG_KIND, node->start_mark, node_width(node), hint,
                  "unknown kind \"%.40s\"", text);
    }
    return NULL;
}

static void
meaning_report(void *context, const char *path, const char *message, const char *hint)
{
    struct meaning *meaning = context;
    const struct place *place = place_find(meaning->places, path);
    static const yaml_mark_t top = {0};
    fault_add(meaning->faults, CONFIG_MEANING, place != NULL ? place->mark : top,
              place != NULL ? place->width : 1, hint, "%s: %s", path, message);
}

static bool
twice(const struct config *config, enum kind kind, const void *object, unsigned *ret_line)
{
    const struct metadata *meta = object_meta(object);
    for (unsigned i = 0; i < config->object_count; i++) {
        const struct metadata *other = object_meta(config->objects[i].object);
        if (config->objects[i].kind == kind && meta->name[0] != '\0' &&
            strcmp(other->name, meta->name) == 0 &&
            strcmp(other->tenant, meta->tenant) == 0) {
            *ret_line = config->objects[i].line;
            return true;
        }
    }
    return false;
}

static int keep(struct reading *reading,
                const struct kind_info *info,
                void *object,
                const yaml_node_t *root)
{
    struct config *config = reading->config;
    struct config_object *objects =
        realloc(config->objects, (config->object_count + 1) * sizeof(*objects));
    unsigned line = 0;
    if (objects == NULL) {
        object_free(info->kind, object);
        return -ENOMEM;
    }
    config->objects = objects;
    if (twice(config, info->kind, object, &line)) {
        fault_add(&reading->faults, CONFIG_DUPLICATE, root->start_mark, 1, NULL,
                  "%s \"%s\" stands in line %u already", info->name,
                  object_meta(object)->name, line);
    }
    objects[config->object_count++] =
        (struct config_object){.kind = info->kind,
                               .object = object,
                               .line = (unsigned)root->start_mark.line + 1};
    return 0;
}

/* Objects of tenants belong to the default one unless the file says otherwise. */
static void default_tenant(const struct kind_info *info, void *object)
{
    struct metadata *meta = object_meta(object);
    if (info->scope == SCOPE_TENANT && meta->tenant[0] == '\0') {
        (void)snprintf(meta->tenant, sizeof(meta->tenant), "%s", DEFAULT_TENANT);
    }
}

static int
read_document(struct reading *reading, yaml_document_t *document, yaml_node_t *root)
{
    struct place_list places = {0};
    struct walk walk = {
        .document = document, .faults = &reading->faults, .places = &places};
    unsigned before = reading->faults.error_count;
    if (root->type != YAML_MAPPING_NODE) {
        fault_add(&reading->faults, CONFIG_SHAPE, root->start_mark, 1,
                  "begin with apiVersion:", "a document must be a mapping");
        return 0;
    }
    check_version(reading, document, root);
    const struct kind_info *info = read_kind(reading, document, root);
    if (info == NULL) {
        return 0;
    }
    void *object = object_new(info->kind);
    if (object == NULL) {
        return -ENOMEM;
    }
    walk_record(&walk, info->record, root, "", envelope, object);
    default_tenant(info, object);
    if (reading->faults.error_count ==
        before) { /* else its faults would only be echoes */
        struct meaning meaning = {.faults = &reading->faults, .places = &places};
        (void)object_check(info->kind, object, meaning_report, &meaning);
    }
    int r = keep(reading, info, object, root);
    place_list_fini(&places);
    return r;
}

static int read_documents(struct reading *reading, const char *text, size_t size)
{
    struct yaml_reader reader;
    yaml_document_t document;
    int r = 0;
    yaml_reader_init(&reader, text, size);
    while (r == 0 && yaml_reader_next(&reader, &document)) {
        yaml_node_t *root = yaml_document_get_root_node(&document);
        if (root != NULL && reading->config->object_count >= CONFIG_OBJECTS_MAX) {
            fault_add(&reading->faults, CONFIG_TOO_LARGE, root->start_mark, 1,
                      "split it into several files", "more than %d objects",
                      CONFIG_OBJECTS_MAX);
            yaml_document_delete(&document);
            break;
        }
        if (root != NULL &&
            !(root->type == YAML_SCALAR_NODE && root->data.scalar.length == 0)) {
            r = read_document(reading, &document, root);
        }
        yaml_document_delete(&document);
    }
    yaml_reader_fini(&reader);
    return r;
}

/* ---- a file
 * ------------------------------------------------------------------------------------------
 */

static int by_place(const void *a, const void *b)
{
    const struct config_fault *left = a;
    const struct config_fault *right = b;
    if (left->line != right->line) {
        return left->line < right->line ? -1 : 1;
    }
    return left->column < right->column ? -1 : left->column > right->column;
}

int config_read(const char *name,
                const char *text,
                size_t size,
                struct config *ret_config)
{
    static const yaml_mark_t top = {0};
    struct config config = {.name = strdup(name),
                            .text = strndup(text, size),
                            .faults =
                                calloc(CONFIG_FAULTS_MAX, sizeof(struct config_fault))};
    struct reading reading = {.config = &config, .faults = {.faults = config.faults}};
    int r = 0;
    if (config.name == NULL || config.text == NULL || config.faults == NULL) {
        config_fini(&config);
        *ret_config = config;
        return -ENOMEM;
    }
    if (size > CONFIG_SIZE_MAX) {
        fault_add(&reading.faults, CONFIG_TOO_LARGE, top, 1,
                  "split it into several files", "the file is larger than %u KiB",
                  CONFIG_SIZE_MAX >> 10);
        r = BERTH_ETOOLARGE;
    } else if (yaml_reader_scan(text, size, &reading.faults)) {
        r = read_documents(&reading, text, size);
        if (r == 0 && config.object_count == 0 && reading.faults.error_count == 0) {
            fault_add(&reading.faults, CONFIG_KIND, top, 1, "see `berth help yaml`",
                      "the file holds no object");
        }
    }
    config.fault_count = reading.faults.count;
    config.error_count = reading.faults.error_count;
    qsort(config.faults, config.fault_count, sizeof(*config.faults), by_place);
    *ret_config = config;
    return r == 0 && config.error_count > 0 ? BERTH_EINVALID : r;
}

void config_fini(struct config *config)
{
    for (unsigned i = 0; i < config->object_count; i++) {
        object_free(config->objects[i].kind, config->objects[i].object);
    }
    free(config->objects);
    free(config->faults);
    free(config->name);
    free(config->text);
    *config = (struct config){0};
}
