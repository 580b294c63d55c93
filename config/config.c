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

/* One document that is being read. */
struct page {
    struct reading *reading;
    yaml_document_t *document;
    yaml_node_t *root;
    struct place_list places;
};

/* ---- one document ---- */

static void
check_version(struct reading *reading, yaml_document_t *document, const yaml_node_t *root)
{
    const yaml_node_t *version = document_member(document, root, "apiVersion");
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

static unsigned writable_kinds(const char *names[KIND_COUNT])
{
    unsigned count = 0;
    for (int kind = 1; kind < KIND_COUNT; kind++) {
        const struct kind_info *info = kind_info((enum kind)kind);
        if (info->user_writable) {
            names[count++] = info->name;
        }
    }
    return count;
}

static void unknown_kind(struct reading *reading, const yaml_node_t *node)
{
    const char *text = (const char *)node->data.scalar.value;
    const char *names[KIND_COUNT];
    char hint[128] = "known: ";
    unsigned count = writable_kinds(names);
    const struct kind_info *info = kind_info_by_name(text);
    const char *near = nearest_word(text, names, count);
    bool server = info != NULL && !info->user_writable;
    if (near != NULL && !server) {
        (void)snprintf(hint, sizeof(hint), "did you mean \"%s\"?", near);
    }
    for (unsigned i = 0; i < count && (near == NULL || server); i++) {
        size_t used = strlen(hint);
        (void)snprintf(hint + used, sizeof(hint) - used, "%s%s", i > 0 ? ", " : "",
                       names[i]); /* seven short names: they fit */
    }
    fault_add(&reading->faults, CONFIG_KIND, node->start_mark, node_width(node), hint,
              server ? "objects of kind \"%.40s\" are not written in files"
                     : "unknown kind \"%.40s\"",
              text);
}

static const struct kind_info *
read_kind(struct reading *reading, yaml_document_t *document, const yaml_node_t *root)
{
    const yaml_node_t *node = document_member(document, root, "kind");
    if (node == NULL || node->type != YAML_SCALAR_NODE || node->data.scalar.length == 0) {
        fault_add(&reading->faults, CONFIG_KIND,
                  node != NULL ? node->start_mark : root->start_mark, 1,
                  "for example kind: Group", "kind is missing");
        return NULL;
    }
    const char *text = (const char *)node->data.scalar.value;
    const struct kind_info *info = kind_info_by_name(text);
    if (info == NULL || !info->user_writable || strcmp(info->name, text) != 0) {
        unknown_kind(reading, node);
        return NULL;
    }
    return info;
}

static void
meaning_report(void *context, const char *path, const char *message, const char *hint)
{
    struct page *page = context;
    const struct place *place = place_find(&page->places, path);
    fault_add(&page->reading->faults, CONFIG_MEANING,
              place != NULL ? place->mark : page->root->start_mark,
              place != NULL ? place->width : 1, hint, "%s: %s", path, message);
}

/* The line where the object stands already, or 0. */
static unsigned
line_of_first(const struct config *config, enum kind kind, const void *object)
{
    const struct metadata *meta = object_meta(object);
    for (unsigned i = 0; i < config->object_count; i++) {
        const struct metadata *other = object_meta(config->objects[i].object);
        if (config->objects[i].kind == kind && meta->name[0] != '\0' &&
            strcmp(other->name, meta->name) == 0 &&
            strcmp(other->tenant, meta->tenant) == 0) {
            return config->objects[i].line;
        }
    }
    return 0;
}

static void
find_twice(struct page *page, const struct kind_info *info, const void *object)
{
    struct reading *reading = page->reading;
    unsigned line = line_of_first(reading->config, info->kind, object);
    const struct place *place = place_find(&page->places, "metadata.name");
    if (line > 0 && place != NULL) {
        fault_add(&reading->faults, CONFIG_DUPLICATE, place->mark, place->width,
                  "keep one of the two", "%s \"%s\" stands in line %u already",
                  info->name, object_meta(object)->name, line);
    }
}

/* Takes the object, also when it fails, and the places of its values. */
static int keep(struct page *page, const struct kind_info *info, void *object)
{
    struct config *config = page->reading->config;
    struct config_object *objects =
        realloc(config->objects, (config->object_count + 1) * sizeof(*objects));
    if (objects == NULL) {
        object_free(info->kind, object);
        return -ENOMEM;
    }
    config->objects = objects;
    objects[config->object_count++] =
        (struct config_object){.kind = info->kind,
                               .object = object,
                               .line = page->reading->faults.first_line +
                                       (unsigned)page->root->start_mark.line + 1,
                               .places = page->places.items,
                               .place_count = page->places.count,
                               .first_line = page->reading->faults.first_line};
    page->places = (struct place_list){0};
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

static int read_object(struct page *page, const struct kind_info *info)
{
    struct fault_list *faults = &page->reading->faults;
    struct walk walk = {.document = page->document,
                        .faults = faults,
                        .places = &page->places,
                        .is_printed = document_is_printed(page->document, page->root)};
    unsigned before = faults->error_count;
    void *object = object_new(info->kind);
    if (object == NULL) {
        return -ENOMEM;
    }
    walk_record(&walk, info->record, page->root, "", envelope, object);
    if (walk.out_of_memory) {
        object_free(info->kind, object);
        return -ENOMEM;
    }
    default_tenant(info, object);
    object_settle(info->kind, object);
    if (faults->error_count == before) { /* else its faults would only be echoes */
        (void)object_check(info->kind, object, meaning_report, page);
    }
    find_twice(page, info, object);
    return keep(page, info, object);
}

/* An object that begins at `root`: a document, or an item of a list. */
static int
read_root(struct reading *reading, yaml_document_t *document, yaml_node_t *root)
{
    struct page page = {.reading = reading, .document = document, .root = root};
    if (reading->config->object_count == CONFIG_OBJECTS_MAX) {
        fault_add(&reading->faults, CONFIG_TOO_LARGE, root->start_mark, 1,
                  "split it into several files", "more than %d objects",
                  CONFIG_OBJECTS_MAX);
        return 0;
    }
    if (root->type != YAML_MAPPING_NODE) {
        fault_add(&reading->faults, CONFIG_SHAPE, root->start_mark, node_width(root),
                  "begin with apiVersion: berth/v1", "a document must be a mapping");
        return 0;
    }
    check_version(reading, document, root);
    const struct kind_info *info = read_kind(reading, document, root);
    int r = info != NULL ? read_object(&page, info) : 0;
    place_list_fini(&page.places);
    return r;
}

/* The items of what `berth ls -o yaml` prints: {items: [...], revision: N}. NULL when it
 * is no such list. */
static const yaml_node_t *list_items(yaml_document_t *document, const yaml_node_t *root)
{
    const yaml_node_t *items =
        root->type == YAML_MAPPING_NODE ? document_member(document, root, "items") : NULL;
    return items != NULL && items->type == YAML_SEQUENCE_NODE &&
                   document_member(document, root, "kind") == NULL
               ? items
               : NULL;
}

/* What else stands beside the items is nobody's. */
static void
check_list(struct reading *reading, yaml_document_t *document, const yaml_node_t *root)
{
    const yaml_node_pair_t *pair = root->data.mapping.pairs.start;
    for (; pair < root->data.mapping.pairs.top; pair++) {
        const yaml_node_t *key = yaml_document_get_node(document, pair->key);
        const char *name = key != NULL && key->type == YAML_SCALAR_NODE
                               ? (const char *)key->data.scalar.value
                               : "";
        if (key != NULL && strcmp(name, "items") != 0 && strcmp(name, "revision") != 0) {
            fault_add(&reading->faults, CONFIG_UNKNOWN, key->start_mark, node_width(key),
                      "a list has items, and nothing else", "unknown field \"%.40s\"",
                      name);
        }
    }
}

static int
read_document(struct reading *reading, yaml_document_t *document, yaml_node_t *root)
{
    const yaml_node_t *items = list_items(document, root);
    int r = 0;
    if (items == NULL) {
        return read_root(reading, document, root);
    }
    check_list(reading, document, root);
    const yaml_node_item_t *item = items->data.sequence.items.start;
    for (; item < items->data.sequence.items.top && r == 0; item++) {
        bool full = reading->config->object_count == CONFIG_OBJECTS_MAX;
        r = read_root(reading, document, yaml_document_get_node(document, *item));
        if (full) {
            break; /* told once */
        }
    }
    return r;
}

/* Nothing but comments, or a lone `---`. */
static bool is_empty(const yaml_node_t *root)
{
    return root->type == YAML_SCALAR_NODE && root->data.scalar.length == 0 &&
           root->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
}

static int read_documents(struct reading *reading)
{
    struct config *config = reading->config;
    struct yaml_reader reader;
    yaml_document_t document;
    int r;
    yaml_reader_init(&reader, config->text, config->text_size);
    while ((r = yaml_reader_next(&reader, &reading->faults, &document)) > 0) {
        yaml_node_t *root = yaml_document_get_root_node(&document);
        bool full = config->object_count == CONFIG_OBJECTS_MAX && !is_empty(root);
        if (full) {
            fault_add(&reading->faults, CONFIG_TOO_LARGE, root->start_mark, 1,
                      "split it into several files", "more than %d objects",
                      CONFIG_OBJECTS_MAX);
        } else if (!is_empty(root)) {
            r = read_document(reading, &document, root);
        }
        yaml_document_delete(&document);
        if (full || r < 0) {
            break;
        }
    }
    return r < 0 ? r : 0;
}

/* ---- a file ---- */

static int by_place(const void *a, const void *b)
{
    const struct config_fault *left = a;
    const struct config_fault *right = b;
    if (left->line != right->line) {
        return left->line < right->line ? -1 : 1;
    }
    if (left->column != right->column) {
        return left->column < right->column ? -1 : 1;
    }
    return strcmp(left->message, right->message);
}

static int read_text(struct reading *reading, size_t size)
{
    static const yaml_mark_t top = {0};
    struct config *config = reading->config;
    struct fault_list *faults = &reading->faults;
    if (size > CONFIG_SIZE_MAX) {
        fault_add(faults, CONFIG_TOO_LARGE, top, 1, "split it into several files",
                  "the file is larger than %uKiB", CONFIG_SIZE_MAX >> 10);
        return BERTH_ETOOLARGE;
    }
    int r = read_documents(reading);
    faults->first_line = 0;
    if (r == 0 && config->object_count == 0 && faults->error_count == 0) {
        fault_add(faults, CONFIG_KIND, top, 1, "begin with apiVersion: berth/v1",
                  "the file holds no object");
    }
    return r < 0 ? r : faults->error_count > 0 ? BERTH_EINVALID : 0;
}

/* A copy with a NUL behind it. Editors of other systems put a byte order mark first. */
static char *copy_text(const char *text, size_t size, size_t *ret_size)
{
    static const char mark[3] = {'\xef', '\xbb', '\xbf'};
    bool marked = size >= sizeof(mark) && memcmp(text, mark, sizeof(mark)) == 0;
    *ret_size = marked ? size - sizeof(mark) : size;
    char *copy = malloc(*ret_size + 1);
    if (copy != NULL && *ret_size > 0) {
        memcpy(copy, text + (size - *ret_size), *ret_size);
    }
    if (copy != NULL) {
        copy[*ret_size] = '\0';
    }
    return copy;
}

int config_read(const char *name,
                const char *text,
                size_t size,
                struct config *ret_config)
{
    struct config config = {.name = strdup(name),
                            .faults =
                                calloc(CONFIG_FAULTS_MAX, sizeof(struct config_fault))};
    struct reading reading = {.config = &config, .faults = {.faults = config.faults}};
    int r = -ENOMEM;
    config.text = copy_text(text, size, &config.text_size);
    if (config.name != NULL && config.text != NULL && config.faults != NULL) {
        r = read_text(&reading, size);
        config.fault_count = reading.faults.count;
        config.error_count = reading.faults.error_count;
        config.warning_count = reading.faults.warning_count;
        qsort(config.faults, config.fault_count, sizeof(*config.faults), by_place);
    }
    if (r == -ENOMEM) {
        config_fini(&config);
    }
    *ret_config = config;
    return r;
}

void config_fini(struct config *config)
{
    for (unsigned i = 0; i < config->object_count; i++) {
        struct place_list places = {config->objects[i].places,
                                    config->objects[i].place_count};
        place_list_fini(&places);
        object_free(config->objects[i].kind, config->objects[i].object);
    }
    free(config->objects);
    free(config->faults);
    free(config->name);
    free(config->text);
    *config = (struct config){0};
}

void config_locate(const struct config *config,
                   unsigned object,
                   const char *path,
                   struct config_fault *fault)
{
    const struct config_object *owner = &config->objects[object];
    const struct place_list places = {owner->places, owner->place_count};
    const struct place *place = place_find(&places, path);
    fault->line = owner->line;
    fault->column = 1;
    fault->width = 1;
    if (place != NULL) {
        fault->line = owner->first_line + (unsigned)place->mark.line + 1;
        fault->column = (unsigned)place->mark.column + 1;
        fault->width = place->width > 0 ? place->width : 1;
    }
}
