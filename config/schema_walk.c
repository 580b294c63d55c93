#include "config/schema_walk.h"

#include "base/cleanup.h"
#include "base/parse_number.h"
#include "base/require.h"
#include "model/expression.h"
#include "model/field.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WORD_MAX       64 /* longer ones are no typos of ours */
#define CANDIDATES_MAX 64
#define NAME_HINT      "1 to 63 of a-z, 0-9 and -, starting with a letter, not ending with -"

/* ---- places ---- */

static void place_add(struct walk *walk, const char *path, const yaml_node_t *node)
{
    struct place_list *list = walk->places;
    if ((list->count & (list->count - 1)) == 0) { /* grows at powers of two */
        struct place *items = realloc(
            list->items, (list->count == 0 ? 1 : list->count * 2) * sizeof(*items));
        if (items == NULL) {
            walk->out_of_memory = true;
            return;
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

/* ---- did you mean ---- */

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

/* ---- faults ---- */

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

static void wrong_value(struct walk *walk,
                        const yaml_node_t *node,
                        const char *path,
                        const char *hint,
                        const char *message)
{
    fault_add(walk->faults, CONFIG_VALUE, node->start_mark, node_width(node), hint,
              "%s: %s", path, message);
}

/* 0 or the sign that memory is gone. */
static bool kept(struct walk *walk, int result)
{
    walk->out_of_memory = walk->out_of_memory || result == -ENOMEM;
    return result == 0;
}

static void list_words(const char *const *words, unsigned count, char *hint, size_t size)
{
    size_t used = (size_t)snprintf(hint, size, "known: ");
    for (unsigned i = 0; i < count && used + strlen(words[i]) + 2 < size; i++) {
        used += (size_t)snprintf(hint + used, size - used, "%s%s", i > 0 ? ", " : "",
                                 words[i]);
    }
}

/* Tells of the key; the field that was probably meant, or NULL. */
static const struct field *unknown_field(struct walk *walk,
                                         const struct record *record,
                                         const yaml_node_t *key,
                                         const char *path)
{
    const char *candidates[CANDIDATES_MAX];
    const char *text = (const char *)key->data.scalar.value;
    char hint[128] = "";
    unsigned count = 0;
    for (unsigned i = 0; i < record->field_count && count < CANDIDATES_MAX; i++) {
        REQUIRE(record->fields[i].name != NULL);
        if ((record->fields[i].flags & FIELD_SERVER) == 0) {
            candidates[count++] = record->fields[i].name;
        }
    }
    const char *near = nearest_word(text, candidates, count);
    if (near != NULL) {
        (void)snprintf(hint, sizeof(hint), "did you mean \"%s\"?", near);
    } else {
        list_words(candidates, count, hint, sizeof(hint));
    }
    fault_add(walk->faults, CONFIG_UNKNOWN, key->start_mark, node_width(key), hint,
              "unknown field \"%.40s\"%s%s", text, path[0] != '\0' ? " in " : "", path);
    return near != NULL ? record_field(record, near) : NULL;
}

/* ---- scalars ---- */

/* `~`, null and nothing mean "not given". */
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

/* The text of a scalar, NULL with a fault for anything else. */
static const char *
scalar_text(struct walk *walk, const yaml_node_t *node, const char *path)
{
    if (node->type != YAML_SCALAR_NODE) {
        wrong_shape(walk, node, path, "a single value", NULL);
        return NULL;
    }
    const char *text = (const char *)node->data.scalar.value;
    if (strlen(text) != node->data.scalar.length) {
        wrong_value(walk, node, path, NULL, "contains a NUL character");
        return NULL;
    }
    return text;
}

/* What the number may stand for: few are meant as GiB, many as MiB, and those in between
 * only their writer knows. */
static bool
bytes_hint(const struct field *field, const char *text, char *hint, size_t size)
{
    enum { MIB_FROM = 64, GIB_BELOW = 2048 };
    uint64_t number = 0;
    if (parse_u64(text, &number, NULL) < 0 || number == 0 || number > field->max / MIB) {
        return false;
    }
    bool mib = number >= MIB_FROM && number * MIB >= field->min;
    bool gib = number < GIB_BELOW && number <= field->max / GIB;
    (void)snprintf(hint, size, "write %s%s%s%s%s", mib ? text : "", mib ? "MiB" : "",
                   mib && gib ? " or " : "", gib ? text : "", gib ? "GiB" : "");
    return mib || gib;
}

static bool
unit_hint(const struct field *field, const char *text, char *hint, size_t size)
{
    size_t digits = strspn(text, "0123456789");
    bool bare = digits > 0 && text[digits] == '\0';
    if (bare && field->unit == UNIT_BYTES) {
        return bytes_hint(field, text, hint, size);
    }
    const char *unit = field->unit == UNIT_DURATION   ? "s"
                       : field->unit == UNIT_PERMILLE ? "%"
                                                      : NULL;
    if (!bare || unit == NULL) {
        return false;
    }
    (void)snprintf(hint, size, "write %.20s%s", text, unit);
    return true;
}

/* What YAML calls a switch, where this field's words are on and off. */
static const char *switch_word(const char *text)
{
    static const char *const on[] = {"yes", "true", "y"};
    static const char *const off[] = {"no", "false", "n"};
    for (size_t i = 0; i < ARRAY_COUNT(on); i++) {
        if (strcasecmp(text, on[i]) == 0) {
            return "on";
        }
        if (strcasecmp(text, off[i]) == 0) {
            return "off";
        }
    }
    return text;
}

static void
word_hint(const struct field *field, const char *text, char *hint, size_t size)
{
    const char *words[CANDIDATES_MAX];
    unsigned count = 0;
    for (uint64_t i = field->min; field->names[i] != NULL && i <= field->max; i++) {
        if (field->names[i][0] != '\0' && count < CANDIDATES_MAX) {
            words[count++] = field->names[i];
        }
    }
    const char *meant = switch_word(text);
    const char *near = NULL;
    for (unsigned i = 0; i < count; i++) {
        near = strcmp(words[i], meant) == 0 ? meant : near;
    }
    near = near != NULL ? near : nearest_word(text, words, count);
    if (near != NULL) {
        (void)snprintf(hint, size, "did you mean \"%s\"?", near);
    }
}

static const char *
value_hint(const struct field *field, const char *text, char *hint, size_t size)
{
    hint[0] = '\0';
    if (field->type == FIELD_ENUM) {
        word_hint(field, text, hint, size);
    } else if (!unit_hint(field, text, hint, size) &&
               (field->unit == UNIT_CIDR && strchr(text, '/') == NULL)) {
        (void)snprintf(hint, size, "add the prefix: %.20s/24", text);
    }
    return hint;
}

static void walk_scalar(struct walk *walk,
                        const struct field *field,
                        const yaml_node_t *node,
                        const char *path,
                        void *member)
{
    struct err err = {0};
    char hint[64];
    const char *text = scalar_text(walk, node, path);
    if (text == NULL) {
        return;
    }
    int r = field_parse(field, text, member, &err);
    if (!kept(walk, r)) {
        wrong_value(walk, node, path, value_hint(field, text, hint, sizeof(hint)),
                    r == -ENOMEM ? "out of memory" : err.text);
    } else if (field->type == FIELD_NAME && text[0] != '\0' && !name_valid(text)) {
        char message[64];
        (void)snprintf(message, sizeof(message), "\"%.30s%s\" is not a valid name", text,
                       strlen(text) > 30 ? "..." : "");
        wrong_value(walk, node, path, NAME_HINT, message);
    }
}

/* Where in the file the column of a rule is. Escapes and folded lines move what follows
 * them: then the rule as a whole is shown. */
static bool rule_mark(const yaml_node_t *node, unsigned column, yaml_mark_t *ret_mark)
{
    size_t size = node->data.scalar.length;
    bool quoted = node->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
    bool plain_ascii = node_width(node) == size + (quoted ? 2 : 0);
    *ret_mark = node->start_mark;
    if (!plain_ascii || column == 0 || column > size + 1) {
        return false;
    }
    ret_mark->column += column - 1 + (quoted ? 1 : 0);
    return true;
}

/* The fact that was probably meant by the word at the fault, also without its "host.";
 * else an example. */
static void rule_hint(const char *text, unsigned column, char *hint, size_t size)
{
    static const char of_host[] = "host.";
    const char *facts[CANDIDATES_MAX];
    char word[WORD_MAX + sizeof(of_host)];
    unsigned count = 0;
    while (count < CANDIDATES_MAX && (facts[count] = expression_fact(count)) != NULL) {
        count++;
    }
    const char *at = column > 0 && column <= strlen(text) ? text + column - 1 : "";
    const int length = (int)strspn(at, "abcdefghijklmnopqrstuvwxyz.");
    const bool is_whole = strncmp(at, of_host, sizeof(of_host) - 1) == 0;
    (void)snprintf(word, sizeof(word), "%s%.*s", is_whole ? "" : of_host,
                   length < WORD_MAX ? length : 0, at);
    const char *near = length > 0 ? nearest_word(word, facts, count) : NULL;
    if (near != NULL) {
        (void)snprintf(hint, size, "did you mean \"%s\"?", near);
    } else {
        (void)snprintf(hint, size, "for example: host.zone in [r1, r2]");
    }
}

static void
check_rule(struct walk *walk, const yaml_node_t *node, const char *text, const char *path)
{
    struct err err = {0};
    struct expression rule;
    unsigned column = 0;
    yaml_mark_t mark;
    char hint[128];
    if (expression_compile(text, &rule, &column, &err) == 0) {
        return;
    }
    bool located = rule_mark(node, column, &mark);
    rule_hint(text, column, hint, sizeof(hint));
    fault_add(walk->faults, CONFIG_VALUE, mark, located ? 1 : node_width(node), hint,
              "%s: %s", path, err.text);
}

/* ---- lists and labels ---- */

static bool list_begins(struct walk *walk,
                        const yaml_node_t *node,
                        const char *path,
                        const char *what)
{
    if (node->type == YAML_SEQUENCE_NODE) {
        return true;
    }
    wrong_shape(walk, node, path, what, "begin each item with \"- \"");
    return false;
}

/* False when the list holds all it may; told at the first item too many. */
static bool list_takes(struct walk *walk,
                       const struct field *field,
                       size_t index,
                       const yaml_node_t *item,
                       const char *path)
{
    if (index < field_count_max(field)) {
        return true;
    }
    fault_add(walk->faults, CONFIG_VALUE, item->start_mark, node_width(item), NULL,
              "%s: has more than %zu items", path, field_count_max(field));
    return false;
}

static void walk_texts(struct walk *walk,
                       const struct field *field,
                       const yaml_node_t *node,
                       const char *path,
                       struct text_list *list)
{
    if (!list_begins(walk, node, path, "a list of texts")) {
        return;
    }
    for (const yaml_node_item_t *item = node->data.sequence.items.start;
         item < node->data.sequence.items.top; item++) {
        char item_path[PLACE_PATH_SIZE];
        size_t index = (size_t)(item - node->data.sequence.items.start);
        yaml_node_t *value = yaml_document_get_node(walk->document, *item);
        (void)snprintf(item_path, sizeof(item_path), "%.100s[%zu]", path, index);
        place_add(walk, item_path, value);
        if (!list_takes(walk, field, index, value, path)) {
            return;
        }
        const char *text = scalar_text(walk, value, item_path);
        if (text == NULL) {
            continue;
        }
        if (field->unit == UNIT_EXPRESSION) {
            check_rule(walk, value, text, item_path);
        }
        if (!kept(walk, text_list_add(list, text)) && !walk->out_of_memory) {
            wrong_value(walk, value, item_path, NULL, "is too long");
        }
    }
}

static void walk_label(struct walk *walk,
                       const yaml_node_t *key,
                       const yaml_node_t *value,
                       const char *path,
                       struct label_list *list)
{
    char item_path[PLACE_PATH_SIZE];
    const char *name = scalar_text(walk, key, path);
    if (name == NULL) {
        return;
    }
    if (name[0] == '\0' || strlen(name) >= NAME_SIZE) {
        fault_add(walk->faults, CONFIG_VALUE, key->start_mark, node_width(key), NULL,
                  "%s: a key has 1 to %d characters", path, NAME_SIZE - 1);
        return;
    }
    if (label_value(list, name) != NULL) {
        fault_add(walk->faults, CONFIG_DUPLICATE, key->start_mark, node_width(key), NULL,
                  "key \"%s\" stands twice in %s", name, path);
        return;
    }
    (void)snprintf(item_path, sizeof(item_path), "%.60s.%.63s", path, name);
    place_add(walk, item_path, key);
    if (is_null(value)) {
        fault_add(walk->faults, CONFIG_VALUE, key->start_mark, node_width(key),
                  "write \"\" for an empty text", "%s: has no value", item_path);
        return;
    }
    const char *text = scalar_text(walk, value, item_path);
    if (text != NULL && !kept(walk, label_set(list, name, text)) &&
        !walk->out_of_memory) {
        wrong_value(walk, value, item_path, NULL, "has too long a value");
    }
}

static void walk_labels(struct walk *walk,
                        const struct field *field,
                        const yaml_node_t *node,
                        const char *path,
                        struct label_list *list)
{
    if (node->type != YAML_MAPPING_NODE) {
        wrong_shape(walk, node, path, "a mapping", "write key: value");
        return;
    }
    for (const yaml_node_pair_t *pair = node->data.mapping.pairs.start;
         pair < node->data.mapping.pairs.top; pair++) {
        const yaml_node_t *key = yaml_document_get_node(walk->document, pair->key);
        if (!list_takes(walk, field, (size_t)(pair - node->data.mapping.pairs.start), key,
                        path)) {
            return;
        }
        walk_label(walk, key, yaml_document_get_node(walk->document, pair->value), path,
                   list);
    }
}

// NOLINTNEXTLINE(misc-no-recursion): as deep as the record tables, which is bounded
static void walk_list(struct walk *walk,
                      const struct field *field,
                      const yaml_node_t *node,
                      const char *path,
                      struct record_list *list)
{
    if (!list_begins(walk, node, path, "a list")) {
        return;
    }
    const yaml_node_item_t *items = node->data.sequence.items.start;
    size_t count = (size_t)(node->data.sequence.items.top - items);
    if (count < field->min) {
        fault_add(walk->faults, CONFIG_MISSING, node->start_mark, 1, NULL,
                  "%s is empty: %s", path, field->doc);
    }
    for (size_t i = 0; i < count; i++) {
        char item_path[PLACE_PATH_SIZE];
        yaml_node_t *value = yaml_document_get_node(walk->document, items[i]);
        (void)snprintf(item_path, sizeof(item_path), "%.100s[%zu]", path, i);
        if (!list_takes(walk, field, i, value, path)) {
            return;
        }
        void *object = record_list_add(field->record, list);
        if (object == NULL) {
            walk->out_of_memory = true;
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
    case FIELD_LIST: /* every list type has this shape (model/record.h) */
        walk_list(walk, field, node, path, member);
        break;
    case FIELD_TEXTS:
        walk_texts(walk, field, node, path, member);
        break;
    case FIELD_LABELS:
        walk_labels(walk, field, node, path, member);
        break;
    case FIELD_BLOB:
        wrong_value(walk, node, path, NULL, "cannot be written in YAML");
        break;
    default:
        walk_scalar(walk, field, node, path, member);
        break;
    }
}

/* ---- records ---- */

/* A mapping on its way into a record. */
struct mapping {
    const struct record *record;
    yaml_node_t *node;
    const char *path;
    const char *const *skip;
    void *object;
    uint64_t given; /* a bit per field: records have at most 64 */
};

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
                        const yaml_node_t *mapping,
                        const yaml_node_pair_t *pair,
                        const char *text)
{
    for (const yaml_node_pair_t *other = mapping->data.mapping.pairs.start; other < pair;
         other++) {
        const yaml_node_t *key = yaml_document_get_node(walk->document, other->key);
        if (key->type == YAML_SCALAR_NODE &&
            strcmp((const char *)key->data.scalar.value, text) == 0) {
            return true;
        }
    }
    return false;
}

/* True when the key is dealt with: told of as a fault, or somebody else's. */
static bool key_is_done(struct walk *walk,
                        struct mapping *mapping,
                        const yaml_node_pair_t *pair,
                        const yaml_node_t *key)
{
    if (key->type != YAML_SCALAR_NODE) {
        wrong_shape(walk, key, "a key", "a single word", NULL);
        return true;
    }
    const char *text = (const char *)key->data.scalar.value;
    if (seen_before(walk, mapping->node, pair, text)) {
        bool nested = mapping->path[0] != '\0';
        fault_add(walk->faults, CONFIG_DUPLICATE, key->start_mark, node_width(key),
                  "keep one of the two", "key \"%.40s\" stands twice%s%s", text,
                  nested ? " in " : "", mapping->path);
        return true;
    }
    if (strcmp(text, "<<") == 0) {
        fault_add(walk->faults, CONFIG_FORBIDDEN, key->start_mark, node_width(key),
                  "write the fields out", "merge keys (<<) are not allowed");
        mapping->given = UINT64_MAX; /* what is missing was to come from there */
        return true;
    }
    return in_list(text, mapping->skip) || strncmp(text, "x-", 2) == 0;
}

static void
// NOLINTNEXTLINE(misc-no-recursion): as deep as the record tables, which is bounded
walk_pair(struct walk *walk, struct mapping *mapping, const yaml_node_pair_t *pair)
{
    const yaml_node_t *key = yaml_document_get_node(walk->document, pair->key);
    yaml_node_t *value = yaml_document_get_node(walk->document, pair->value);
    const char *path = mapping->path;
    char field_path[PLACE_PATH_SIZE];
    if (key_is_done(walk, mapping, pair, key)) {
        return;
    }
    const char *text = (const char *)key->data.scalar.value;
    const struct field *field = record_field(mapping->record, text);
    bool known = field != NULL;
    field = known ? field : unknown_field(walk, mapping->record, key, path);
    if (field != NULL) {
        mapping->given |= UINT64_C(1) << (field - mapping->record->fields);
    }
    if (!known) {
        return;
    }
    if ((field->flags & FIELD_SERVER) != 0) {
        if (!walk->is_printed) {
            fault_add(walk->faults, CONFIG_IGNORED, key->start_mark, node_width(key),
                      NULL, "\"%s\" is written by the server and is ignored here", text);
        }
        return;
    }
    (void)snprintf(field_path, sizeof(field_path), "%.80s%s%.40s", path,
                   path[0] != '\0' ? "." : "", text);
    bool shown = value->type == YAML_SCALAR_NODE && !is_null(value);
    place_add(walk, field_path, shown ? value : key);
    if (!is_null(value)) {
        walk_value(walk, field, value, field_path, mapping->object);
    } else if ((field->flags & FIELD_REQUIRED) != 0) {
        fault_add(walk->faults, CONFIG_MISSING, key->start_mark, node_width(key), NULL,
                  "%s has no value: %s", field_path, field->doc);
    }
}

/* What the file leaves out is shown at the key above it. */
static void find_missing(struct walk *walk, const struct mapping *mapping)
{
    const char *path = mapping->path;
    const struct place *place = path[0] != '\0' ? place_find(walk->places, path) : NULL;
    for (unsigned i = 0; i < mapping->record->field_count; i++) {
        const struct field *field = &mapping->record->fields[i];
        bool required =
            (field->flags & FIELD_REQUIRED) != 0 && (field->flags & FIELD_SERVER) == 0;
        if (required && (mapping->given & (UINT64_C(1) << i)) == 0) {
            fault_add(walk->faults, CONFIG_MISSING,
                      place != NULL ? place->mark : mapping->node->start_mark,
                      place != NULL ? place->width : 1, NULL, "%s%s%s is missing: %s",
                      path, path[0] != '\0' ? "." : "", field->name, field->doc);
        }
    }
}

const yaml_node_t *
document_member(yaml_document_t *document, const yaml_node_t *mapping, const char *name)
{
    if (mapping == NULL || mapping->type != YAML_MAPPING_NODE) {
        return NULL;
    }
    for (const yaml_node_pair_t *pair = mapping->data.mapping.pairs.start;
         pair < mapping->data.mapping.pairs.top; pair++) {
        const yaml_node_t *key = yaml_document_get_node(document, pair->key);
        if (key->type == YAML_SCALAR_NODE &&
            strcmp((const char *)key->data.scalar.value, name) == 0) {
            return yaml_document_get_node(document, pair->value);
        }
    }
    return NULL;
}

bool document_is_printed(yaml_document_t *document, const yaml_node_t *root)
{
    const yaml_node_t *meta = document_member(document, root, "metadata");
    return document_member(document, meta, "uid") != NULL &&
           document_member(document, meta, "created") != NULL;
}

// NOLINTNEXTLINE(misc-no-recursion): as deep as the record tables, which is bounded
void walk_record(struct walk *walk,
                 const struct record *record,
                 yaml_node_t *node,
                 const char *path,
                 const char *const *skip,
                 void *object)
{
    struct mapping mapping = {
        .record = record, .node = node, .path = path, .skip = skip, .object = object};
    REQUIRE(record->field_count <= 64);
    if (node->type != YAML_MAPPING_NODE) {
        wrong_shape(walk, node, path[0] != '\0' ? path : "a document", "a mapping",
                    "write key: value");
        return;
    }
    const yaml_node_pair_t *pairs = node->data.mapping.pairs.start;
    size_t count = (size_t)(node->data.mapping.pairs.top - pairs);
    if (count > CONFIG_MAP_KEYS_MAX) {
        fault_add(walk->faults, CONFIG_TOO_LARGE, node->start_mark, 1, NULL,
                  "a mapping of more than %d keys", CONFIG_MAP_KEYS_MAX);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        walk_pair(walk, &mapping, &pairs[i]);
    }
    find_missing(walk, &mapping);
}
