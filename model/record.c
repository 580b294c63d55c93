#include "model/record.h"

#include "base/err.h"
#include "base/require.h"
#include "model/field.h"
#include "model/record_types.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const struct type_ops *const type_table[] = {
    [FIELD_BOOL] = &number_ops,   [FIELD_U32] = &number_ops,
    [FIELD_U64] = &number_ops,    [FIELD_ENUM] = &number_ops,
    [FIELD_NAME] = &name_ops,     [FIELD_DIGEST] = &digest_ops,
    [FIELD_TEXT] = &text_ops,     [FIELD_RECORD] = &nested_ops,
    [FIELD_LIST] = &list_ops,     [FIELD_TEXTS] = &texts_ops,
    [FIELD_LABELS] = &labels_ops, [FIELD_BLOB] = &blob_ops,
};

const struct type_ops *type_ops_of(const struct field *field)
{
    REQUIRE(field->type >= FIELD_BOOL && field->type <= FIELD_BLOB);
    return type_table[field->type];
}

/* ---- public ---- */

uint64_t field_number(const struct field *field, const void *member)
{
    switch (field->type) {
    case FIELD_BOOL:
        return *(const bool *)member ? 1 : 0;
    case FIELD_U64:
        return *(const uint64_t *)member;
    default:
        return *(const uint32_t *)member;
    }
}

void field_set_number(const struct field *field, void *member, uint64_t value)
{
    switch (field->type) {
    case FIELD_BOOL:
        *(bool *)member = value != 0;
        break;
    case FIELD_U64:
        *(uint64_t *)member = value;
        break;
    default:
        *(uint32_t *)member = (uint32_t)value;
        break;
    }
}

bool field_is_fallback(const struct field *field, const void *member)
{
    return type_ops_of(field)->absent(field, member);
}

size_t field_count_max(const struct field *field)
{
    size_t size_max = type_ops_of(field)->size_max;
    return field->max > 0 && field->max < size_max ? (size_t)field->max : size_max;
}

/* NOLINTNEXTLINE(misc-no-recursion): as deep as our own tables are nested */
void record_init(const struct record *record, void *object)
{
    memset(object, 0, record->size_bytes);
    for (unsigned i = 0; i < record->field_count; i++) {
        const struct field *field = &record->fields[i];
        if (field->type <= FIELD_ENUM) {
            field_set_number(field, field_at(field, object), field->fallback);
        } else if (field->type == FIELD_RECORD) {
            record_init(field->record, field_at(field, object));
        }
    }
}

void record_fini(const struct record *record, void *object)
{
    for (unsigned i = 0; i < record->field_count; i++) {
        const struct field *field = &record->fields[i];
        if (type_ops_of(field)->fini != NULL) {
            type_ops_of(field)->fini(field, field_at(field, object));
        }
    }
    memset(object, 0, record->size_bytes);
}

void record_free(const struct record *record, void *object)
{
    if (object != NULL) {
        record_fini(record, object);
        free(object);
    }
}

int record_copy(const struct record *record, const void *object, void *ret_copy)
{
    memset(ret_copy, 0, record->size_bytes);
    for (unsigned i = 0; i < record->field_count; i++) {
        const struct field *field = &record->fields[i];
        int r = type_ops_of(field)->copy(field, field_at(field, object),
                                         field_at(field, ret_copy));
        if (r < 0) {
            record_fini(record, ret_copy);
            return r;
        }
    }
    return 0;
}

bool record_equal(const struct record *record, const void *a, const void *b)
{
    for (unsigned i = 0; i < record->field_count; i++) {
        const struct field *field = &record->fields[i];
        if (!type_ops_of(field)->equal(field, field_at(field, a), field_at(field, b))) {
            return false;
        }
    }
    return true;
}

/* A number with its head in one piece: most fields are such. */
static void
encode_number(const struct field *field, const void *member, struct bytes_writer *writer)
{
    const uint64_t value = field_number(field, member);
    if (value == field->fallback) {
        return;
    }
    if (value < field->min || value > field->max) {
        writer_refuse(writer, BERTH_EINVALID);
    }
    const size_t size = type_ops_of(field)->size(field);
    uint8_t *at = bytes_write_space(writer, sizeof(uint16_t) + sizeof(uint32_t) + size);
    if (at != NULL) {
        at = bytes_put(at, field->number, sizeof(uint16_t));
        at = bytes_put(at, size, sizeof(uint32_t));
        (void)bytes_put(at, value, size);
    }
}

void record_encode(const struct record *record,
                   const void *object,
                   struct bytes_writer *writer)
{
    for (unsigned i = 0; i < record->field_count; i++) {
        const struct field *field = &record->fields[i];
        const void *member = field_at(field, object);
        if (field->type <= FIELD_ENUM) {
            encode_number(field, member, writer);
            continue;
        }
        if (field_is_fallback(field, member)) {
            continue;
        }
        bytes_write_u16(writer, field->number);
        size_t hole = bytes_write_length_hole(writer);
        type_ops_of(field)->encode(field, member, writer);
        bytes_writer_patch_length(writer, hole);
    }
}

/* Decodes the fields one after the other; what has been decoded when a fault is met is
 * the caller's to release. */
static int decode_fields(const struct record *record,
                         struct bytes_reader *reader,
                         struct decoding at,
                         void *object)
{
    unsigned next = 0;
    int last_number = -1;
    while (reader->error == 0 && bytes_reader_left(reader) > 0) {
        uint16_t number = bytes_read_u16(reader);
        struct bytes_reader value = bytes_read_sub(reader, bytes_read_u32(reader));
        if (reader->error != 0 || number <= last_number) {
            return BERTH_EPROTO; /* rising numbers: no field comes twice */
        }
        last_number = number;
        while (next < record->field_count && record->fields[next].number < number) {
            next++;
        }
        bool known = next < record->field_count && record->fields[next].number == number;
        if (at.level != 0 && (!known || field_since(&record->fields[next]) > at.level)) {
            return BERTH_EPROTO;
        }
        if (!known) {
            continue; /* of a later release */
        }
        const struct field *field = &record->fields[next];
        int r = type_ops_of(field)->decode(field, &value, at, field_at(field, object));
        if (r == 0) {
            r = bytes_reader_end(&value);
        }
        if (r < 0) {
            return r;
        }
    }
    return reader->error;
}

int record_decode_at(const struct record *record,
                     struct bytes_reader *reader,
                     struct decoding at,
                     void *ret_object)
{
    record_init(record, ret_object);
    int r = at.depth < RECORD_DEPTH_MAX ? decode_fields(record, reader, at, ret_object)
                                        : BERTH_EPROTO;
    if (r < 0) {
        record_fini(record, ret_object);
        if (r != -ENOMEM) {
            bytes_reader_fail(reader);
        }
    }
    return r;
}

int record_decode(const struct record *record,
                  struct bytes_reader *reader,
                  void *ret_object)
{
    return record_decode_at(record, reader, (struct decoding){0}, ret_object);
}

int record_decode_level(const struct record *record,
                        struct bytes_reader *reader,
                        unsigned level,
                        void *ret_object)
{
    REQUIRE(level > 0);
    return record_decode_at(record, reader, (struct decoding){.level = level},
                            ret_object);
}

void record_search(const struct record *record,
                   const void *object,
                   struct level_search *search)
{
    for (unsigned i = 0; i < record->field_count; i++) {
        const struct field *field = &record->fields[i];
        const void *member = field_at(field, object);
        const struct type_ops *ops = type_ops_of(field);
        if ((field_since(field) <= search->level && ops->search == NULL) ||
            field_is_fallback(field, member)) {
            continue;
        }
        if (field_since(field) > search->level) {
            search->level = field_since(field);
            search->field = field;
        }
        if (ops->search != NULL) {
            ops->search(field, member, search);
        }
    }
}

unsigned record_level(const struct record *record,
                      const void *object,
                      const struct field **ret_field)
{
    struct level_search search = {.level = LEVEL_FIRST};
    record_search(record, object, &search);
    *ret_field = search.field;
    return search.level;
}

static void set_to_fallback(const struct field *field, void *member)
{
    if (type_ops_of(field)->fini != NULL) {
        type_ops_of(field)->fini(field, member);
    }
    memset(member, 0, type_ops_of(field)->size(field));
    if (field->type <= FIELD_ENUM) {
        field_set_number(field, member, field->fallback);
    } else if (field->type == FIELD_RECORD) {
        record_init(field->record, member);
    }
}

void record_limit(const struct record *record, void *object, unsigned level)
{
    for (unsigned i = 0; i < record->field_count; i++) {
        const struct field *field = &record->fields[i];
        void *member = field_at(field, object);
        if (field_since(field) > level) {
            set_to_fallback(field, member);
        } else if (type_ops_of(field)->limit != NULL) {
            type_ops_of(field)->limit(field, member, level);
        }
    }
}

void record_print(const struct record *record,
                  const void *object,
                  struct bytes_writer *writer)
{
    const char *gap = "";
    bytes_write_u8(writer, '{');
    for (unsigned i = 0; i < record->field_count; i++) {
        const struct field *field = &record->fields[i];
        const void *member = field_at(field, object);
        if (field_is_fallback(field, member)) {
            continue;
        }
        bytes_write_format(writer, "%s%s=", gap, field->name);
        if ((field->flags & FIELD_SECRET) != 0) {
            bytes_write_format(writer, "***");
        } else {
            type_ops_of(field)->print(field, member, writer);
        }
        gap = " ";
    }
    bytes_write_u8(writer, '}');
}

void record_print_text(const char *text, struct bytes_writer *writer)
{
    for (const char *at = text; *at != '\0'; at++) {
        unsigned char byte = (unsigned char)*at;
        if (byte < ' ' || byte == 0x7f) {
            bytes_write_format(writer, "\\x%02x", byte);
        } else if (byte == '"' || byte == '\\') {
            bytes_write_format(writer, "\\%c", byte);
        } else {
            bytes_write_u8(writer, byte);
        }
    }
}

const struct field *record_field(const struct record *record, const char *name)
{
    for (unsigned i = 0; i < record->field_count; i++) {
        if (strcmp(record->fields[i].name, name) == 0) {
            return &record->fields[i];
        }
    }
    return NULL;
}

int record_set_text(char **member, const char *text)
{
    char *copy = text != NULL ? strdup(text) : NULL;
    if (text != NULL && copy == NULL) {
        return -ENOMEM;
    }
    free(*member);
    *member = copy;
    return 0;
}

static struct label *label_find(const struct label_list *labels, const char *key)
{
    for (uint32_t i = 0; i < labels->count; i++) {
        if (strcmp(labels->items[i].key, key) == 0) {
            return &labels->items[i];
        }
    }
    return NULL;
}

const char *label_value(const struct label_list *labels, const char *key)
{
    const struct label *label = label_find(labels, key);
    return label != NULL ? text_or_empty(label->value) : NULL;
}

int label_set(struct label_list *labels, const char *key, const char *value)
{
    if (strlen(key) >= NAME_SIZE || strlen(value) > LABEL_VALUE_MAX) {
        return BERTH_ETOOLARGE;
    }
    struct label *label = label_find(labels, key);
    if (label != NULL) {
        return record_set_text(&label->value, value);
    }
    if (labels->count >= RECORD_LIST_MAX) {
        return BERTH_ETOOLARGE;
    }
    char *copy = strdup(value);
    struct label *grown =
        reallocarray(labels->items, labels->count + 1, sizeof(labels->items[0]));
    if (grown != NULL) {
        labels->items = grown;
    }
    if (copy == NULL || grown == NULL) {
        free(copy);
        return -ENOMEM;
    }
    label = &labels->items[labels->count++];
    memset(label->key, 0, sizeof(label->key));
    memcpy(label->key, key, strlen(key));
    label->value = copy;
    return 0;
}

bool label_unset(struct label_list *labels, const char *key)
{
    struct label *label = label_find(labels, key);
    if (label == NULL) {
        return false;
    }
    free(label->value);
    size_t after = (size_t)(labels->items + labels->count - (label + 1));
    memmove(label, label + 1, after * sizeof(*label));
    labels->count--;
    return true;
}

int labels_inherit(struct label_list *labels, const struct label_list *from)
{
    int r = 0;
    for (uint32_t i = 0; i < from->count && labels->count < LABELS_MAX && r == 0; i++) {
        if (label_find(labels, from->items[i].key) == NULL) {
            r = label_set(labels, from->items[i].key,
                          text_or_empty(from->items[i].value));
        }
    }
    return r;
}

int text_list_add(struct text_list *list, const char *text)
{
    if (list->count >= RECORD_LIST_MAX || strlen(text) > TEXTS_ITEM_MAX) {
        return BERTH_ETOOLARGE;
    }
    char *copy = strdup(text);
    char **grown = reallocarray(list->items, list->count + 1, sizeof(list->items[0]));
    if (grown != NULL) {
        list->items = grown;
    }
    if (copy == NULL || grown == NULL) {
        free(copy);
        return -ENOMEM;
    }
    list->items[list->count++] = copy;
    return 0;
}

void *record_list_add(const struct record *record, struct record_list *list)
{
    if (list->count >= RECORD_LIST_MAX) {
        return NULL;
    }
    void *grown = reallocarray(list->items, list->count + 1, record->size_bytes);
    if (grown == NULL) {
        return NULL;
    }
    list->items = grown;
    void *item = (char *)grown + (size_t)list->count * record->size_bytes;
    record_init(record, item);
    list->count++;
    return item;
}
