#include "base/err.h"
#include "model/record_types.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Bytes every list item, text and label takes at least: its length. A count that promises
 * more items than the bytes that are left could hold is refused before memory is taken.
 */
#define ITEM_SIZE_MIN 4

static struct decoding decoding_inside(struct decoding at)
{
    return (struct decoding){at.depth + 1, at.level};
}

/* The n-th record of a list. */
static void *item_at(const struct field *field, const void *items, uint32_t index)
{
    return (void *)((uintptr_t)items + (size_t)index * field->record->size_bytes);
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
    return record_decode_at(field->record, reader, decoding_inside(at), member);
}

static void
nested_print(const struct field *field, const void *member, struct bytes_writer *writer)
{
    record_print(field->record, member, writer);
}

static void
nested_search(const struct field *field, const void *member, struct level_search *search)
{
    record_search(field->record, member, search);
}

static void nested_limit(const struct field *field, void *member, unsigned level)
{
    record_limit(field->record, member, level);
}

static size_t nested_size(const struct field *field)
{
    return field->record->size_bytes;
}

const struct type_ops nested_ops = {
    .size_max = 0,
    .size = nested_size,
    .fini = nested_fini,
    .copy = nested_copy,
    .equal = nested_equal,
    .absent = nested_absent,
    .encode = nested_encode,
    .decode = nested_decode,
    .print = nested_print,
    .search = nested_search,
    .limit = nested_limit,
};

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
        int r = record_decode_at(field->record, &item, decoding_inside(at),
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
        record_search(field->record, item_at(field, list->items, i), search);
    }
}

static void list_limit(const struct field *field, void *member, unsigned level)
{
    struct record_list *list = member;
    for (uint32_t i = 0; i < list->count; i++) {
        record_limit(field->record, item_at(field, list->items, i), level);
    }
}

static size_t list_size(const struct field *field)
{
    (void)field;
    return sizeof(struct record_list);
}

const struct type_ops list_ops = {
    .size_max = RECORD_LIST_MAX,
    .size = list_size,
    .fini = list_fini,
    .copy = list_copy,
    .equal = list_equal,
    .absent = list_absent,
    .encode = list_encode,
    .decode = list_decode,
    .print = list_print,
    .search = list_search,
    .limit = list_limit,
};

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

static size_t texts_size(const struct field *field)
{
    (void)field;
    return sizeof(struct text_list);
}

const struct type_ops texts_ops = {
    .size_max = RECORD_LIST_MAX,
    .size = texts_size,
    .fini = texts_fini,
    .copy = texts_copy,
    .equal = texts_equal,
    .absent = texts_absent,
    .encode = texts_encode,
    .decode = texts_decode,
    .print = texts_print,
};

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

static size_t labels_size(const struct field *field)
{
    (void)field;
    return sizeof(struct label_list);
}

const struct type_ops labels_ops = {
    .size_max = RECORD_LIST_MAX,
    .size = labels_size,
    .fini = labels_fini,
    .copy = labels_copy,
    .equal = labels_equal,
    .absent = labels_absent,
    .encode = labels_encode,
    .decode = labels_decode,
    .print = labels_print,
};
