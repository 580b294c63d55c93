#include "config/schema_walk.h"

#include "model/expression.h"
#include "model/field.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WORD_MAX       64 /* longer ones are no typos of ours */
#define CANDIDATES_MAX 64

/* ---- places
 * -----------------------------------------------------------------------------------------
 */

static void place_add(struct walk *walk, const char *path, const yaml_node_t *node)
{
    struct place_list *list = walk->places;
    if ((list->count & (list->count - 1)) == 0) { /* grows at powers of two */
        struct place *items = realloc(
            list->items, (list->count == 0 ? 1 : list->count * 2) * sizeof(*items));
        if (items == NULL) {
            return; /* faults found later are shown at the place above */
        }
        list->items = items;
    }
    struct place *place = &list->items[list->count++];
    (void)snprintf(place->path, sizeof(place->path), "%s", path);
    place->mark = node->start_mark;
    place->width = node_width(node);
}

void place_list_fini(struct place_list *list)
{
    free(list->items);
    *list = (struct place_list){0};
}

const struct place *place_find(const struct place_list *list, const char *path)
{
    char wanted[PLACE_PATH_SIZE];
    (void)snprintf(wanted, sizeof(wanted), "%s", path);
    for (;;) {
        for (unsigned i = 0; i < list->count; i++) {
            if (strcmp(list->items[i].path, wanted) == 0) {
                return &list->items[i];
            }
        }
        char *dot = strrchr(wanted, '.');
        char *bracket = strrchr(wanted, '[');
        char *cut = dot > bracket ? dot : bracket;
        if (cut == NULL) {
            return list->count > 0 ? &list->items[0] : NULL;
        }
        *cut = '\0';
    }
}

unsigned node_width(const yaml_node_t *node)
{
    return node->type == YAML_SCALAR_NODE &&
                   node->end_mark.line == node->start_mark.line &&
                   node->end_mark.column > node->start_mark.column
               ? (unsigned)(node->end_mark.column - node->start_mark.column)
               : 1;
}

/* ---- did you mean
 * ------------------------------------------------------------------------------------ */

/* Damerau-Levenshtein distance (adjacent swaps count one), bounded words. */
static unsigned distance(const char *a, const char *b)
{
    unsigned rows[3][WORD_MAX + 1];
    size_t a_size = strlen(a);
    size_t b_size = strlen(b);
    if (a_size > WORD_MAX || b_size > WORD_MAX) {
        return WORD_MAX;
    }
    for (size_t k = 0; k <= b_size; k++) {
        rows[0][k] = (unsigned)k;
    }
    for (size_t i = 1; i <= a_size; i++) {
        unsigned *now = rows[i % 3];
        const unsigned *last = rows[(i + 2) % 3];
        const unsigned *before = rows[(i + 1) % 3];
        now[0] = (unsigned)i;
        for (size_t k = 1; k <= b_size; k++) {
            unsigned best = last[k - 1] + (a[i - 1] != b[k - 1] ? 1U : 0U);
            best = last[k] + 1 < best ? last[k] + 1 : best;
            best = now[k - 1] + 1 < best ? now[k - 1] + 1 : best;
            if (i > 1 && k > 1 && a[i - 1] == b[k - 2] && a[i - 2] == b[k - 1] &&
                before[k - 2] + 1 < best) {
                best = before[k - 2] + 1;
            }
            now[k] = best;
        }
    }
    return rows[a_size % 3][b_size];
}

const char *nearest_word(const char *word, const char *const *candidates, unsigned count)
{
    const char *best = NULL;
    unsigned best_distance = 3;
    for (unsigned i = 0; i < count; i++) {
        unsigned d = distance(word, candidates[i]);
        if (d < best_distance && d < strlen(word)) {
            best = candidates[i];
            best_distance = d;
        }
    }
    return best;
}

/* ---- faults
 * ------------------------------------------------------------------------------------------
 */

static const char *node_word(const yaml_node_t *node)
{
    return node->type == YAML_SCALAR_NODE     ? "a single value"
           : node->type == YAML_SEQUENCE_NODE ? "a list"
                                              : "a mapping";
}

static void wrong_shape(struct walk *walk,
                        const yaml_node_t *node,
                        const char *path,
                        const char *wanted,
                        const char *hint)
{
    fault_add(walk->faults, CONFIG_SHAPE, node->start_mark, node_width(node), hint,
              "%s must be %s, not %s", path, wanted, node_word(node));
}

static void unknown_field(struct walk *walk,
                          const struct record *record,
                          const yaml_node_t *key,
                          const char *path)
{
    const char *candidates[CANDIDATES_MAX];
    const char *text = (const char *)key->data.scalar.value;
    char hint[128] = "";
    unsigned count = 0;
    for (unsigned i = 0; i < record->field_count && count < CANDIDATES_MAX; i++) {
        if ((record->fields[i].flags & FIELD_SERVER) == 0) {
            candidates[count++] = record->fields[i].name;
        }
    }
    const char *near = nearest_word(text, candidates, count);
    if (near != NULL) {
        (void)snprintf(hint, sizeof(hint), "did you mean \"%s\"?", near);
    } else {
        size_t used = (size_t)snprintf(hint, sizeof(hint), "known: ");
        for (unsigned i = 0; i < count && used + strlen(candidates[i]) + 2 < sizeof(hint);
             i++) {
            used += (size_t)snprintf(hint + used, sizeof(hint) - used, "%s%s",
                                     i > 0 ? ", " : "", candidates[i]);
        }
    }
    fault_add(walk->faults, CONFIG_UNKNOWN, key->start_mark, node_width(key), hint,
              "unknown field \"%.40s\"%s%s", text, path[0] != '\0' ? " in " : "", path);
}

/* ---- values
 * ------------------------------------------------------------------------------------------
 */

/* `{}`, `~` and nothing mean "not given". */
static bool is_null(const yaml_node_t *node)
{
    const char *text;
    if (node->type != YAML_SCALAR_NODE ||
        node->data.scalar.style != YAML_PLAIN_SCALAR_STYLE) {
        return false;
    }
    text = (const char *)node->data.scalar.value;
    return text[0] == '\0' || strcmp(text, "~") == 0 || strcmp(text, "null") == 0;
}

static const char *
unit_hint(const struct field *field, const char *text, char *hint, size_t size)
{
    size_t digits = strspn(text, "0123456789");
    bool bare = digits > 0 && text[digits] == '\0';
    const char *unit = field->unit == UNIT_BYTES      ? "GiB"
                       : field->unit == UNIT_DURATION ? "s"
                       : field->unit == UNIT_PERMILLE ? "%"
                                                      : NULL;
    if (!bare || unit == NULL) {
        return NULL;
    }
    (void)snprintf(hint, size, "write %.20s%s", text, unit);
    return hint;
}

static void walk_scalar(struct walk *walk,
                        const struct field *field,
                        yaml_node_t *node,
                        const char *path,
                        void *member)
{
    struct err err;
    char hint[64];
    if (node->type != YAML_SCALAR_NODE) {
        wrong_shape(walk, node, path, "a single value", NULL);
        return;
    }
    const char *text = (const char *)node->data.scalar.value;
    if (strlen(text) != node->data.scalar.length) {
        fault_add(walk->faults, CONFIG_VALUE, node->start_mark, node_width(node), NULL,
                  "%s contains a NUL character", path);
        return;
    }
    int r = field_parse(field, text, member, &err);
    unsigned column = 0;
    struct expression rule;
    if (r == 0 && field->unit == UNIT_EXPRESSION &&
        (r = expression_compile(text, &rule, &column, &err)) < 0) {
        yaml_mark_t mark = node->start_mark;
        bool quoted = node->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
        mark.column += column > 0 ? column - 1 + (quoted ? 1 : 0) : 0;
        fault_add(walk->faults, CONFIG_VALUE, mark, 1, NULL, "%s: %s", path, err.text);
        return;
    }
    if (r < 0) {
        fault_add(walk->faults, CONFIG_VALUE, node->start_mark, node_width(node),
                  unit_hint(field, text, hint, sizeof(hint)), "%s: %s", path, err.text);
    }
}

static void walk_texts(struct walk *walk,
                       const struct field *field,
                       yaml_node_t *node,
                       const char *path,
                       struct text_list *list)
{
    if (node->type != YAML_SEQUENCE_NODE) {
        wrong_shape(walk, node, path, "a list", "begin each item with \"- \"");
        return;
    }
    for (yaml_node_item_t *item = node->data.sequence.items.start;
         item < node->data.sequence.items.top; item++) {
        char item_path[PLACE_PATH_SIZE];
        yaml_node_t *value = yaml_document_get_node(walk->document, *item);
        struct field one = *field; /* the items' own bounds are those of texts */
        char *text = NULL;
        one.type = FIELD_TEXT;
        one.min = 1;
        one.max = EXPRESSION_TEXT_MAX - 1;
        (void)snprintf(item_path, sizeof(item_path), "%.100s[%u]", path, list->count);
        place_add(walk, item_path, value);
        if (list->count >= field->max) {
            fault_add(walk->faults, CONFIG_VALUE, value->start_mark, node_width(value),
                      NULL, "%s has more than %llu items", path,
                      (unsigned long long)field->max);
            return;
        }
        walk_scalar(walk, &one, value, item_path, &text);
        char **items = realloc(list->items, (list->count + 1) * sizeof(*items));
        if (items == NULL || text == NULL) {
            free(text);
            continue; /* a fault was told, or memory is gone and the next step says so */
        }
        list->items = items;
        items[list->count++] = text;
    }
}

static void walk_labels(struct walk *walk,
                        yaml_node_t *node,
                        const char *path,
                        const struct field *field,
                        struct label_list *list)
{
    static const struct field value_field = {
        .type = FIELD_TEXT, .name = "value", .min = 0, .max = 1023};
    if (node->type != YAML_MAPPING_NODE) {
        wrong_shape(walk, node, path, "a mapping", "write key: value");
        return;
    }
    for (yaml_node_pair_t *pair = node->data.mapping.pairs.start;
         pair < node->data.mapping.pairs.top; pair++) {
        yaml_node_t *key = yaml_document_get_node(walk->document, pair->key);
        yaml_node_t *value = yaml_document_get_node(walk->document, pair->value);
        char item_path[PLACE_PATH_SIZE];
        const char *text =
            key->type == YAML_SCALAR_NODE ? (const char *)key->data.scalar.value : "";
        if (text[0] == '\0' || strlen(text) >= NAME_SIZE) {
            fault_add(walk->faults, CONFIG_VALUE, key->start_mark, node_width(key), NULL,
                      "%s: a key has 1 to %d characters", path, NAME_SIZE - 1);
            continue;
        }
        if (label_value(list, text) != NULL) {
            fault_add(walk->faults, CONFIG_DUPLICATE, key->start_mark, node_width(key),
                      NULL, "key \"%s\" stands twice in %s", text, path);
            continue;
        }
        (void)snprintf(item_path, sizeof(item_path), "%.60s.%.60s", path, text);
        struct label *items =
            list->count < field->max
                ? realloc(list->items, (list->count + 1) * sizeof(*items))
                : NULL;
        if (items == NULL) {
            fault_add(walk->faults, CONFIG_VALUE, key->start_mark, node_width(key), NULL,
                      "%s has more than %llu entries", path,
                      (unsigned long long)field->max);
            return;
        }
        list->items = items;
        struct label *label = &items[list->count++];
        *label = (struct label){.value = NULL};
        memcpy(label->key, text, strlen(text) + 1);
        walk_scalar(walk, &value_field, value, item_path, &label->value);
        if (label->value == NULL) {
            label->value = strdup("");
        }
    }
}

static void walk_list(struct walk *walk,
                      const struct field *field,
                      yaml_node_t *node,
                      const char *path,
                      void *member)
{
    struct record_list *list =
        member; /* every list type has this shape (model/record.h) */
    if (node->type != YAML_SEQUENCE_NODE) {
        wrong_shape(walk, node, path, "a list", "begin each item with \"- \"");
        return;
    }
    for (yaml_node_item_t *item = node->data.sequence.items.start;
         item < node->data.sequence.items.top; item++) {
        char item_path[PLACE_PATH_SIZE];
        yaml_node_t *value = yaml_document_get_node(walk->document, *item);
        (void)snprintf(item_path, sizeof(item_path), "%.100s[%u]", path, list->count);
        void *object =
            list->count < field->max ? record_list_add(field->record, list) : NULL;
        if (object == NULL) {
            fault_add(walk->faults, CONFIG_VALUE, value->start_mark, node_width(value),
                      NULL, "%s has more than %llu items", path,
                      (unsigned long long)field->max);
            return;
        }
        place_add(walk, item_path, value);
        walk_record(walk, field->record, value, item_path, NULL, object);
    }
}

// NOLINTNEXTLINE(misc-no-recursion): as deep as the record tables, which is bounded
static void walk_value(struct walk *walk,
                       const struct field *field,
                       yaml_node_t *node,
                       const char *path,
                       void *object)
{
    void *member = field_at(field, object);
    switch (field->type) {
    case FIELD_RECORD:
        walk_record(walk, field->record, node, path, NULL, member);
        break;
    case FIELD_LIST:
        walk_list(walk, field, node, path, member);
        break;
    case FIELD_TEXTS:
        walk_texts(walk, field, node, path, member);
        break;
    case FIELD_LABELS:
        walk_labels(walk, node, path, field, member);
        break;
    case FIELD_BLOB:
        fault_add(walk->faults, CONFIG_VALUE, node->start_mark, node_width(node), NULL,
                  "%s cannot be written in YAML", path);
        break;
    default:
        walk_scalar(walk, field, node, path, member);
        break;
    }
}

/* ---- records
 * -----------------------------------------------------------------------------------------
 */

static bool in_list(const char *word, const char *const *list)
{
    for (; list != NULL && *list != NULL; list++) {
        if (strcmp(*list, word) == 0) {
            return true;
        }
    }
    return false;
}

static bool seen_before(struct walk *walk,
                        yaml_node_t *mapping,
                        const yaml_node_pair_t *pair,
                        const char *text)
{
    for (yaml_node_pair_t *other = mapping->data.mapping.pairs.start; other < pair;
         other++) {
        const yaml_node_t *key = yaml_document_get_node(walk->document, other->key);
        if (key->type == YAML_SCALAR_NODE &&
            strcmp((const char *)key->data.scalar.value, text) == 0) {
            return true;
        }
    }
    return false;
}

// NOLINTNEXTLINE(misc-no-recursion): as deep as the record tables, which is bounded
static void walk_pair(struct walk *walk,
                      const struct record *record,
                      yaml_node_t *mapping,
                      const yaml_node_pair_t *pair,
                      const char *path,
                      const char *const *skip,
                      void *object,
                      uint64_t *given)
{
    yaml_node_t *key = yaml_document_get_node(walk->document, pair->key);
    yaml_node_t *value = yaml_document_get_node(walk->document, pair->value);
    char field_path[PLACE_PATH_SIZE];
    if (key->type != YAML_SCALAR_NODE) {
        wrong_shape(walk, key, "a key", "a single word", NULL);
        return;
    }
    const char *text = (const char *)key->data.scalar.value;
    if (seen_before(walk, mapping, pair, text)) {
        fault_add(walk->faults, CONFIG_DUPLICATE, key->start_mark, node_width(key), NULL,
                  "key \"%.40s\" stands twice%s%s", text, path[0] != '\0' ? " in " : "",
                  path);
        return;
    }
    if (in_list(text, skip) || strncmp(text, "x-", 2) == 0) {
        return;
    }
    const struct field *field = record_field(record, text);
    if (field == NULL) {
        unknown_field(walk, record, key, path);
        return;
    }
    *given |= UINT64_C(1) << (field - record->fields);
    if ((field->flags & FIELD_SERVER) != 0) {
        fault_add(walk->faults, CONFIG_IGNORED, key->start_mark, node_width(key), NULL,
                  "\"%s\" is written by the server and is ignored here", text);
        return;
    }
    (void)snprintf(field_path, sizeof(field_path), "%.80s%s%.40s", path,
                   path[0] != '\0' ? "." : "", text);
    place_add(walk, field_path, is_null(value) ? key : value);
    if (!is_null(value)) {
        walk_value(walk, field, value, field_path, object);
    } else if ((field->flags & FIELD_REQUIRED) != 0) {
        fault_add(walk->faults, CONFIG_MISSING, key->start_mark, node_width(key), NULL,
                  "%s has no value", field_path);
    }
}

// NOLINTNEXTLINE(misc-no-recursion): as deep as the record tables, which is bounded
void walk_record(struct walk *walk,
                 const struct record *record,
                 yaml_node_t *node,
                 const char *path,
                 const char *const *skip,
                 void *object)
{
    uint64_t given = 0; /* a bit per field: records have fewer than 64 */
    if (node->type != YAML_MAPPING_NODE) {
        wrong_shape(walk, node, path[0] != '\0' ? path : "a document", "a mapping",
                    "write key: value");
        return;
    }
    for (yaml_node_pair_t *pair = node->data.mapping.pairs.start;
         pair < node->data.mapping.pairs.top; pair++) {
        walk_pair(walk, record, node, pair, path, skip, object, &given);
    }
    for (unsigned i = 0; i < record->field_count; i++) {
        const struct field *field = &record->fields[i];
        bool required =
            (field->flags & FIELD_REQUIRED) != 0 && (field->flags & FIELD_SERVER) == 0;
        if (required && (given & (UINT64_C(1) << i)) == 0 &&
            !in_list(field->name, skip)) {
            fault_add(walk->faults, CONFIG_MISSING, node->start_mark, 1, NULL,
                      "%s%s%s is missing: %s", path, path[0] != '\0' ? "." : "",
                      field->name, field->doc);
        }
    }
}
