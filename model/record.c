#include "model/record.h"

#include "base/err.h"
#include "base/require.h"
#include "model/field.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Bytes every list item, text and label takes at least: its length. A count that promises
 * more items than the bytes that are left could hold is refused before memory is taken.
 */
#define ITEM_SIZE_MIN 4

/* On the way down into nested records. */
struct decoding {
    unsigned depth;
    unsigned level; /* fields of a later one, and unknown ones, are faults; 0: skipped */
};

/* What is sought in an object's fields, and what has been found so far. */
struct level_search {
    unsigned level;
    const struct field *field; /* the first that needs it */
};

/* What the generic code does with one type of field. */
struct type_ops {
    size_t size_max; /* default limit of a length or count */
    size_t (*size)(const struct field *field);
    void (*fini)(const struct field *field, void *member); /* NULL: owns nothing */
    int (*copy)(const struct field *field, const void *member, void *ret_copy);
    bool (*equal)(const struct field *field, const void *a, const void *b);
    bool (*absent)(const struct field *field, const void *member);
    void (*encode)(const struct field *field,
                   const void *member,
                   struct bytes_writer *writer);
    int (*decode)(const struct field *field,
                  struct bytes_reader *reader,
                  struct decoding at,
                  void *member);
    void (*print)(const struct field *field,
                  const void *member,
                  struct bytes_writer *writer);
    /* NULL: no fields inside. */
    void (*search)(const struct field *field,
                   const void *member,
                   struct level_search *search);
};

static const struct type_ops *ops_of(const struct field *field);
static int decode_at(const struct record *record,
                     struct bytes_reader *reader,
                     struct decoding at,
                     void *ret_object);

static void search_fields(const struct record *record,
                          const void *object,
                          struct level_search *search);

static struct decoding decoding_inside(struct decoding at)
{
    return (struct decoding){at.depth + 1, at.level};
}

/* The n-th record of a list. */
static void *item_at(const struct field *field, const void *items, uint32_t index)
{
    return (void *)((uintptr_t)items + (size_t)index * field->record->size_bytes);
}

/* Makes the writer fail: what it would hold could not be read back. */
static void writer_refuse(struct bytes_writer *writer, int code)
{
    if (writer->error == 0) {
        writer->error = code;
    }
}

static void
write_count(const struct field *field, uint32_t count, struct bytes_writer *writer)
{
    if (count > field_count_max(field)) {
        writer_refuse(writer, BERTH_ETOOLARGE);
    }
    bytes_write_u32(writer, count);
}

/* A count that the limit and the bytes that are left allow; false marks the reader. */
static bool
read_count(const struct field *field, struct bytes_reader *reader, uint32_t *ret_count)
{
    uint32_t count = bytes_read_u32(reader);
    if (count > field_count_max(field) ||
        count > bytes_reader_left(reader) / ITEM_SIZE_MIN) {
        bytes_reader_fail(reader);
    }
    *ret_count = reader->error == 0 ? count : 0;
    return reader->error == 0;
}

/* Text in quotes. */
static void print_quoted(struct bytes_writer *writer, const char *text)
{
    bytes_write_u8(writer, '"');
    record_print_text(text, writer);
    bytes_write_u8(writer, '"');
}

/* ---- numbers: BOOL, U32, ENUM, U64 ---- */

static size_t number_size(const struct field *field)
{
    return field->type == FIELD_BOOL  ? sizeof(bool)
           : field->type == FIELD_U64 ? sizeof(uint64_t)
                                      : sizeof(uint32_t);
}

static bool number_in_range(const struct field *field, uint64_t value)
{
    return value >= field->min && value <= field->max;
}

static bool number_equal(const struct field *field, const void *a, const void *b)
{
    return field_number(field, a) == field_number(field, b);
}

static bool number_absent(const struct field *field, const void *member)
{
    return field_number(field, member) == field->fallback;
}

static void
number_encode(const struct field *field, const void *member, struct bytes_writer *writer)
{
    uint64_t value = field_number(field, member);
    if (!number_in_range(field, value)) {
        writer_refuse(writer, BERTH_EINVALID);
    }
    if (field->type == FIELD_BOOL) {
        bytes_write_u8(writer, (uint8_t)value);
    } else if (field->type == FIELD_U64) {
        bytes_write_u64(writer, value);
    } else {
        bytes_write_u32(writer, (uint32_t)value);
    }
}

static int number_decode(const struct field *field,
                         struct bytes_reader *reader,
                         struct decoding at,
                         void *member)
{
    (void)at;
    uint64_t value = field->type == FIELD_BOOL  ? bytes_read_u8(reader)
                     : field->type == FIELD_U64 ? bytes_read_u64(reader)
                                                : bytes_read_u32(reader);
    if (reader->error != 0 || !number_in_range(field, value)) {
        return BERTH_EPROTO;
    }
    field_set_number(field, member, value);
    return 0;
}

/* ---- NAME and DIGEST: fixed memory ---- */

static size_t name_size(const struct field *field)
{
    (void)field;
    return NAME_SIZE;
}

static bool name_equal(const struct field *field, const void *a, const void *b)
{
    (void)field;
    return strncmp(a, b, NAME_SIZE) == 0;
}

static bool name_absent(const struct field *field, const void *member)
{
    (void)field;
    return *(const char *)member == '\0';
}

static void
name_encode(const struct field *field, const void *member, struct bytes_writer *writer)
{
    size_t size = strnlen(member, NAME_SIZE);
    if (size > field_count_max(field)) {
        writer_refuse(writer, BERTH_ETOOLARGE);
    }
    bytes_write_raw(writer, member, size);
}

static int name_decode(const struct field *field,
                       struct bytes_reader *reader,
                       struct decoding at,
                       void *member)
{
    (void)at;
    size_t size = bytes_reader_left(reader);
    char name[NAME_SIZE] = "";
    if (size > field_count_max(field)) {
        return BERTH_EPROTO;
    }
    bytes_read_raw(reader, name, size);
    if (strnlen(name, NAME_SIZE) != size) { /* a NUL inside */
        return BERTH_EPROTO;
    }
    memcpy(member, name, NAME_SIZE);
    return 0;
}

static void
name_print(const struct field *field, const void *member, struct bytes_writer *writer)
{
    (void)field;
    record_print_text(member, writer);
}

static size_t digest_size(const struct field *field)
{
    (void)field;
    return sizeof(struct digest);
}

static bool digest_member_equal(const struct field *field, const void *a, const void *b)
{
    (void)field;
    return digest_equal(a, b);
}

static bool digest_absent(const struct field *field, const void *member)
{
    (void)field;
    return digest_is_zero(member);
}

static void
digest_encode(const struct field *field, const void *member, struct bytes_writer *writer)
{
    (void)field;
    bytes_write_raw(writer, member, sizeof(struct digest));
}

static int digest_decode(const struct field *field,
                         struct bytes_reader *reader,
                         struct decoding at,
                         void *member)
{
    (void)field;
    (void)at;
    bytes_read_raw(reader, member, sizeof(struct digest));
    return reader->error;
}

/* ---- what numbers, names and digests share ---- */

static int flat_copy(const struct field *field, const void *member, void *ret_copy)
{
    memcpy(ret_copy, member, ops_of(field)->size(field));
    return 0;
}

/* ---- TEXT ---- */

static const char *text_or_empty(const char *text)
{
    return text != NULL ? text : "";
}

static void text_fini(const struct field *field, void *member)
{
    (void)field;
    free(*(char **)member);
}

static int text_copy(const struct field *field, const void *member, void *ret_copy)
{
    (void)field;
    *(char **)ret_copy = NULL;
    return record_set_text(ret_copy, *(char *const *)member);
}

static bool text_equal(const struct field *field, const void *a, const void *b)
{
    (void)field;
    const char *left = *(char *const *)a;
    const char *right = *(char *const *)b;
    if (left == NULL || right == NULL) {
        return left == right;
    }
    return strcmp(left, right) == 0;
}

static bool text_absent(const struct field *field, const void *member)
{
    (void)field;
    return *(char *const *)member == NULL;
}

static void
text_encode(const struct field *field, const void *member, struct bytes_writer *writer)
{
    const char *text = *(char *const *)member;
    size_t size = strlen(text_or_empty(text));
    if (size > field_count_max(field)) {
        writer_refuse(writer, BERTH_ETOOLARGE);
    }
    bytes_write_raw(writer, text, size);
}

/* size bytes of foreign text into fresh memory; no NUL may be inside. */
static int text_take(struct bytes_reader *reader, size_t size, char **ret_text)
{
    const char *bytes = bytes_read_view(reader, size);
    if (size > 0 && (bytes == NULL || memchr(bytes, '\0', size) != NULL)) {
        bytes_reader_fail(reader);
        return BERTH_EPROTO;
    }
    *ret_text = strndup(size > 0 ? bytes : "", size);
    return *ret_text != NULL ? 0 : -ENOMEM;
}

static int text_decode(const struct field *field,
                       struct bytes_reader *reader,
                       struct decoding at,
                       void *member)
{
    (void)at;
    size_t size = bytes_reader_left(reader);
    return size <= field_count_max(field) ? text_take(reader, size, member)
                                          : BERTH_EPROTO;
}

static void
text_print(const struct field *field, const void *member, struct bytes_writer *writer)
{
    (void)field;
    print_quoted(writer, text_or_empty(*(char *const *)member));
}

/* ---- RECORD ---- */

static void nested_fini(const struct field *field, void *member)
{
    record_fini(field->record, member);
}

static int nested_copy(const struct field *field, const void *member, void *ret_copy)
{
    return record_copy(field->record, member, ret_copy);
}

static bool nested_equal(const struct field *field, const void *a, const void *b)
{
    return record_equal(field->record, a, b);
}

static bool nested_absent(const struct field *field, const void *member)
{
    const struct record *record = field->record;
    for (unsigned i = 0; i < record->field_count; i++) {
        const struct field *inner = &record->fields[i];
        if (!field_is_fallback(inner, field_at(inner, member))) {
            return false;
        }
    }
    return true;
}

static void
nested_encode(const struct field *field, const void *member, struct bytes_writer *writer)
{
    record_encode(field->record, member, writer);
}

static int nested_decode(const struct field *field,
                         struct bytes_reader *reader,
                         struct decoding at,
                         void *member)
{
    return decode_at(field->record, reader, decoding_inside(at), member);
}

static void
nested_print(const struct field *field, const void *member, struct bytes_writer *writer)
{
    record_print(field->record, member, writer);
}

static void
nested_search(const struct field *field, const void *member, struct level_search *search)
{
    search_fields(field->record, member, search);
}

/* ---- LIST ---- */

static bool list_absent(const struct field *field, const void *member)
{
    (void)field;
    return ((const struct record_list *)member)->count == 0;
}

static void list_fini(const struct field *field, void *member)
{
    struct record_list *list = member;
    for (uint32_t i = 0; i < list->count; i++) {
        record_fini(field->record, item_at(field, list->items, i));
    }
    free(list->items);
}

static int list_copy(const struct field *field, const void *member, void *ret_copy)
{
    const struct record_list *list = member;
    struct record_list *copy = ret_copy;
    *copy = (struct record_list){NULL, 0};
    if (list->count == 0) {
        return 0;
    }
    copy->items = calloc(list->count, field->record->size_bytes);
    if (copy->items == NULL) {
        return -ENOMEM;
    }
    for (; copy->count < list->count; copy->count++) {
        int r = record_copy(field->record, item_at(field, list->items, copy->count),
                            item_at(field, copy->items, copy->count));
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

static bool list_equal(const struct field *field, const void *a, const void *b)
{
    const struct record_list *left = a;
    const struct record_list *right = b;
    if (left->count != right->count) {
        return false;
    }
    for (uint32_t i = 0; i < left->count; i++) {
        if (!record_equal(field->record, item_at(field, left->items, i),
                          item_at(field, right->items, i))) {
            return false;
        }
    }
    return true;
}

static void
list_encode(const struct field *field, const void *member, struct bytes_writer *writer)
{
    const struct record_list *list = member;
    write_count(field, list->count, writer);
    for (uint32_t i = 0; i < list->count; i++) {
        size_t hole = bytes_write_length_hole(writer);
        record_encode(field->record, item_at(field, list->items, i), writer);
        bytes_writer_patch_length(writer, hole);
    }
}

static int list_decode(const struct field *field,
                       struct bytes_reader *reader,
                       struct decoding at,
                       void *member)
{
    struct record_list *list = member;
    uint32_t count = 0;
    if (!read_count(field, reader, &count)) {
        return BERTH_EPROTO;
    }
    if (count == 0) {
        return 0;
    }
    list->items = calloc(count, field->record->size_bytes);
    if (list->items == NULL) {
        return -ENOMEM;
    }
    for (; list->count < count; list->count++) {
        struct bytes_reader item = bytes_read_sub(reader, bytes_read_u32(reader));
        int r = decode_at(field->record, &item, decoding_inside(at),
                          item_at(field, list->items, list->count));
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

static void
list_print(const struct field *field, const void *member, struct bytes_writer *writer)
{
    const struct record_list *list = member;
    bytes_write_u8(writer, '[');
    for (uint32_t i = 0; i < list->count; i++) {
        bytes_write_format(writer, "%s", i > 0 ? " " : "");
        record_print(field->record, item_at(field, list->items, i), writer);
    }
    bytes_write_u8(writer, ']');
}

static void
list_search(const struct field *field, const void *member, struct level_search *search)
{
    const struct record_list *list = member;
    for (uint32_t i = 0; i < list->count; i++) {
        search_fields(field->record, item_at(field, list->items, i), search);
    }
}

/* ---- TEXTS ---- */

static bool texts_absent(const struct field *field, const void *member)
{
    (void)field;
    return ((const struct text_list *)member)->count == 0;
}

static void texts_fini(const struct field *field, void *member)
{
    (void)field;
    struct text_list *list = member;
    for (uint32_t i = 0; i < list->count; i++) {
        free(list->items[i]);
    }
    free(list->items);
}

static int texts_copy(const struct field *field, const void *member, void *ret_copy)
{
    (void)field;
    const struct text_list *list = member;
    struct text_list *copy = ret_copy;
    *copy = (struct text_list){NULL, 0};
    if (list->count == 0) {
        return 0;
    }
    copy->items = calloc(list->count, sizeof(copy->items[0]));
    if (copy->items == NULL) {
        return -ENOMEM;
    }
    for (; copy->count < list->count; copy->count++) {
        copy->items[copy->count] = strdup(text_or_empty(list->items[copy->count]));
        if (copy->items[copy->count] == NULL) {
            return -ENOMEM;
        }
    }
    return 0;
}

static bool texts_equal(const struct field *field, const void *a, const void *b)
{
    (void)field;
    const struct text_list *left = a;
    const struct text_list *right = b;
    if (left->count != right->count) {
        return false;
    }
    for (uint32_t i = 0; i < left->count; i++) {
        if (strcmp(text_or_empty(left->items[i]), text_or_empty(right->items[i])) != 0) {
            return false;
        }
    }
    return true;
}

/* One text of a list or label, refused when longer than size_max. */
static void write_item(struct bytes_writer *writer, const char *text, size_t size_max)
{
    if (strlen(text_or_empty(text)) > size_max) {
        writer_refuse(writer, BERTH_ETOOLARGE);
    }
    bytes_write_text(writer, text);
}

static int read_item(struct bytes_reader *reader, size_t size_max, char **ret_text)
{
    uint32_t size = bytes_read_u32(reader);
    if (reader->error != 0 || size > size_max) {
        return BERTH_EPROTO;
    }
    return text_take(reader, size, ret_text);
}

static void
texts_encode(const struct field *field, const void *member, struct bytes_writer *writer)
{
    const struct text_list *list = member;
    write_count(field, list->count, writer);
    for (uint32_t i = 0; i < list->count; i++) {
        write_item(writer, list->items[i], TEXTS_ITEM_MAX);
    }
}

static int texts_decode(const struct field *field,
                        struct bytes_reader *reader,
                        struct decoding at,
                        void *member)
{
    (void)at;
    struct text_list *list = member;
    uint32_t count = 0;
    if (!read_count(field, reader, &count)) {
        return BERTH_EPROTO;
    }
    if (count == 0) {
        return 0;
    }
    list->items = calloc(count, sizeof(list->items[0]));
    if (list->items == NULL) {
        return -ENOMEM;
    }
    for (; list->count < count; list->count++) {
        int r = read_item(reader, TEXTS_ITEM_MAX, &list->items[list->count]);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

static void
texts_print(const struct field *field, const void *member, struct bytes_writer *writer)
{
    (void)field;
    const struct text_list *list = member;
    bytes_write_u8(writer, '[');
    for (uint32_t i = 0; i < list->count; i++) {
        bytes_write_format(writer, "%s", i > 0 ? " " : "");
        print_quoted(writer, text_or_empty(list->items[i]));
    }
    bytes_write_u8(writer, ']');
}

/* ---- LABELS ---- */

static bool labels_absent(const struct field *field, const void *member)
{
    (void)field;
    return ((const struct label_list *)member)->count == 0;
}

static void labels_fini(const struct field *field, void *member)
{
    (void)field;
    struct label_list *list = member;
    for (uint32_t i = 0; i < list->count; i++) {
        free(list->items[i].value);
    }
    free(list->items);
}

static int labels_copy(const struct field *field, const void *member, void *ret_copy)
{
    (void)field;
    const struct label_list *list = member;
    struct label_list *copy = ret_copy;
    *copy = (struct label_list){NULL, 0};
    if (list->count == 0) {
        return 0;
    }
    copy->items = calloc(list->count, sizeof(copy->items[0]));
    if (copy->items == NULL) {
        return -ENOMEM;
    }
    for (; copy->count < list->count; copy->count++) {
        struct label *label = &copy->items[copy->count];
        memcpy(label->key, list->items[copy->count].key, NAME_SIZE);
        label->value = strdup(text_or_empty(list->items[copy->count].value));
        if (label->value == NULL) {
            return -ENOMEM;
        }
    }
    return 0;
}

static bool labels_equal(const struct field *field, const void *a, const void *b)
{
    (void)field;
    const struct label_list *left = a;
    const struct label_list *right = b;
    if (left->count != right->count) {
        return false;
    }
    for (uint32_t i = 0; i < left->count; i++) {
        const struct label *one = &left->items[i];
        const struct label *two = &right->items[i];
        if (strcmp(one->key, two->key) != 0 ||
            strcmp(text_or_empty(one->value), text_or_empty(two->value)) != 0) {
            return false;
        }
    }
    return true;
}

static void
labels_encode(const struct field *field, const void *member, struct bytes_writer *writer)
{
    const struct label_list *list = member;
    write_count(field, list->count, writer);
    for (uint32_t i = 0; i < list->count; i++) {
        write_item(writer, list->items[i].key, NAME_SIZE - 1);
        write_item(writer, list->items[i].value, LABEL_VALUE_MAX);
    }
}

static int labels_decode(const struct field *field,
                         struct bytes_reader *reader,
                         struct decoding at,
                         void *member)
{
    (void)at;
    struct label_list *list = member;
    uint32_t count = 0;
    if (!read_count(field, reader, &count)) {
        return BERTH_EPROTO;
    }
    if (count == 0) {
        return 0;
    }
    list->items = calloc(count, sizeof(list->items[0]));
    if (list->items == NULL) {
        return -ENOMEM;
    }
    for (; list->count < count; list->count++) {
        struct label *label = &list->items[list->count];
        bytes_read_text(reader, label->key, sizeof(label->key));
        int r = read_item(reader, LABEL_VALUE_MAX, &label->value);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

static void
labels_print(const struct field *field, const void *member, struct bytes_writer *writer)
{
    (void)field;
    const struct label_list *list = member;
    bytes_write_u8(writer, '{');
    for (uint32_t i = 0; i < list->count; i++) {
        bytes_write_format(writer, "%s", i > 0 ? " " : "");
        print_quoted(writer, list->items[i].key);
        bytes_write_u8(writer, '=');
        print_quoted(writer, text_or_empty(list->items[i].value));
    }
    bytes_write_u8(writer, '}');
}

/* ---- BLOB ---- */

static bool blob_absent(const struct field *field, const void *member)
{
    (void)field;
    return ((const struct blob *)member)->size == 0;
}

static void blob_fini(const struct field *field, void *member)
{
    (void)field;
    free(((struct blob *)member)->data);
}

static int blob_copy(const struct field *field, const void *member, void *ret_copy)
{
    (void)field;
    const struct blob *blob = member;
    struct blob *copy = ret_copy;
    *copy = (struct blob){NULL, 0};
    if (blob->size == 0) {
        return 0;
    }
    copy->data = malloc(blob->size);
    if (copy->data == NULL) {
        return -ENOMEM;
    }
    memcpy(copy->data, blob->data, blob->size);
    copy->size = blob->size;
    return 0;
}

static bool blob_equal(const struct field *field, const void *a, const void *b)
{
    (void)field;
    const struct blob *left = a;
    const struct blob *right = b;
    return left->size == right->size &&
           (left->size == 0 || memcmp(left->data, right->data, left->size) == 0);
}

static void
blob_encode(const struct field *field, const void *member, struct bytes_writer *writer)
{
    const struct blob *blob = member;
    if (blob->size > field_count_max(field)) {
        writer_refuse(writer, BERTH_ETOOLARGE);
    }
    bytes_write_raw(writer, blob->data, blob->size);
}

static int blob_decode(const struct field *field,
                       struct bytes_reader *reader,
                       struct decoding at,
                       void *member)
{
    (void)at;
    struct blob *blob = member;
    size_t size = bytes_reader_left(reader);
    if (size > field_count_max(field)) {
        return BERTH_EPROTO;
    }
    if (size == 0) {
        return 0;
    }
    blob->data = malloc(size);
    if (blob->data == NULL) {
        return -ENOMEM;
    }
    bytes_read_raw(reader, blob->data, size);
    blob->size = (uint32_t)size;
    return 0;
}

static void
blob_print(const struct field *field, const void *member, struct bytes_writer *writer)
{
    (void)field;
    bytes_write_format(writer, "(%u bytes)", ((const struct blob *)member)->size);
}

/* ---- the types ---- */

static size_t owning_size(const struct field *field)
{
    switch (field->type) {
    case FIELD_RECORD:
        return field->record->size_bytes;
    case FIELD_LIST:
        return sizeof(struct record_list);
    case FIELD_TEXTS:
        return sizeof(struct text_list);
    case FIELD_LABELS:
        return sizeof(struct label_list);
    case FIELD_BLOB:
        return sizeof(struct blob);
    default:
        return sizeof(char *);
    }
}

#define NUMBER_OPS                                                                 \
    {                                                                              \
        .size = number_size, .copy = flat_copy, .equal = number_equal,             \
        .absent = number_absent, .encode = number_encode, .decode = number_decode, \
        .print = field_write,                                                      \
    }
#define OWNING_MEMBERS(type, max)                                                     \
    .size_max = (max), .size = owning_size, .fini = type##_fini, .copy = type##_copy, \
    .equal = type##_equal, .absent = type##_absent, .encode = type##_encode,          \
    .decode = type##_decode, .print = type##_print
#define OWNING_OPS(type, max)      \
    {                              \
        OWNING_MEMBERS(type, max), \
    }
#define NESTING_OPS(type, max)                             \
    {                                                      \
        OWNING_MEMBERS(type, max), .search = type##_search \
    }

static const struct type_ops type_table[] = {
    [FIELD_BOOL] = NUMBER_OPS,
    [FIELD_U32] = NUMBER_OPS,
    [FIELD_U64] = NUMBER_OPS,
    [FIELD_ENUM] = NUMBER_OPS,
    [FIELD_NAME] = {NAME_SIZE - 1, name_size, NULL, flat_copy, name_equal, name_absent,
                    name_encode, name_decode, name_print, NULL},
    [FIELD_DIGEST] = {DIGEST_SIZE, digest_size, NULL, flat_copy, digest_member_equal,
                      digest_absent, digest_encode, digest_decode, field_write, NULL},
    [FIELD_TEXT] = OWNING_OPS(text, RECORD_TEXT_MAX),
    [FIELD_RECORD] = NESTING_OPS(nested, 0),
    [FIELD_LIST] = NESTING_OPS(list, RECORD_LIST_MAX),
    [FIELD_TEXTS] = OWNING_OPS(texts, RECORD_LIST_MAX),
    [FIELD_LABELS] = OWNING_OPS(labels, RECORD_LIST_MAX),
    [FIELD_BLOB] = OWNING_OPS(blob, RECORD_BLOB_MAX),
};

static const struct type_ops *ops_of(const struct field *field)
{
    REQUIRE(field->type >= FIELD_BOOL && field->type <= FIELD_BLOB);
    return &type_table[field->type];
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
    return ops_of(field)->absent(field, member);
}

size_t field_count_max(const struct field *field)
{
    size_t size_max = ops_of(field)->size_max;
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
        if (ops_of(field)->fini != NULL) {
            ops_of(field)->fini(field, field_at(field, object));
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
        int r = ops_of(field)->copy(field, field_at(field, object),
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
        if (!ops_of(field)->equal(field, field_at(field, a), field_at(field, b))) {
            return false;
        }
    }
    return true;
}

void record_encode(const struct record *record,
                   const void *object,
                   struct bytes_writer *writer)
{
    for (unsigned i = 0; i < record->field_count; i++) {
        const struct field *field = &record->fields[i];
        const void *member = field_at(field, object);
        if (field_is_fallback(field, member)) {
            continue;
        }
        bytes_write_u16(writer, field->number);
        size_t hole = bytes_write_length_hole(writer);
        ops_of(field)->encode(field, member, writer);
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
        int r = ops_of(field)->decode(field, &value, at, field_at(field, object));
        if (r == 0) {
            r = bytes_reader_end(&value);
        }
        if (r < 0) {
            return r;
        }
    }
    return reader->error;
}

static int decode_at(const struct record *record,
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
    return decode_at(record, reader, (struct decoding){0}, ret_object);
}

int record_decode_level(const struct record *record,
                        struct bytes_reader *reader,
                        unsigned level,
                        void *ret_object)
{
    REQUIRE(level > 0);
    return decode_at(record, reader, (struct decoding){.level = level}, ret_object);
}

static void search_fields(const struct record *record,
                          const void *object,
                          struct level_search *search)
{
    for (unsigned i = 0; i < record->field_count; i++) {
        const struct field *field = &record->fields[i];
        const void *member = field_at(field, object);
        const struct type_ops *ops = ops_of(field);
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
    search_fields(record, object, &search);
    *ret_field = search.field;
    return search.level;
}

void record_limit(const struct record *record, void *object, unsigned level)
{
    for (unsigned i = 0; i < record->field_count; i++) {
        const struct field *field = &record->fields[i];
        void *member = field_at(field, object);
        if (field_since(field) <= level) {
            continue;
        }
        if (ops_of(field)->fini != NULL) {
            ops_of(field)->fini(field, member);
        }
        memset(member, 0, ops_of(field)->size(field));
        if (field->type <= FIELD_ENUM) {
            field_set_number(field, member, field->fallback);
        } else if (field->type == FIELD_RECORD) {
            record_init(field->record, member);
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
            ops_of(field)->print(field, member, writer);
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
