#include "base/err.h"
#include "model/field.h"
#include "model/record_types.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void writer_refuse(struct bytes_writer *writer, int code)
{
    if (writer->error == 0) {
        writer->error = code;
    }
}

void print_quoted(struct bytes_writer *writer, const char *text)
{
    bytes_write_u8(writer, '"');
    record_print_text(text, writer);
    bytes_write_u8(writer, '"');
}

/* ---- numbers, names and digests: fixed memory ---- */

static int flat_copy(const struct field *field, const void *member, void *ret_copy)
{
    memcpy(ret_copy, member, type_ops_of(field)->size(field));
    return 0;
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

const struct type_ops number_ops = {
    .size = number_size,
    .copy = flat_copy,
    .equal = number_equal,
    .absent = number_absent,
    .encode = number_encode,
    .decode = number_decode,
    .print = field_write,
};

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

const struct type_ops name_ops = {
    .size_max = NAME_SIZE - 1,
    .size = name_size,
    .copy = flat_copy,
    .equal = name_equal,
    .absent = name_absent,
    .encode = name_encode,
    .decode = name_decode,
    .print = name_print,
};

const struct type_ops digest_ops = {
    .size_max = DIGEST_SIZE,
    .size = digest_size,
    .copy = flat_copy,
    .equal = digest_member_equal,
    .absent = digest_absent,
    .encode = digest_encode,
    .decode = digest_decode,
    .print = field_write,
};

/* ---- TEXT ---- */

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

int text_take(struct bytes_reader *reader, size_t size, char **ret_text)
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

static size_t text_size(const struct field *field)
{
    (void)field;
    return sizeof(char *);
}

const struct type_ops text_ops = {
    .size_max = RECORD_TEXT_MAX,
    .size = text_size,
    .fini = text_fini,
    .copy = text_copy,
    .equal = text_equal,
    .absent = text_absent,
    .encode = text_encode,
    .decode = text_decode,
    .print = text_print,
};

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

static size_t blob_size(const struct field *field)
{
    (void)field;
    return sizeof(struct blob);
}

const struct type_ops blob_ops = {
    .size_max = RECORD_BLOB_MAX,
    .size = blob_size,
    .fini = blob_fini,
    .copy = blob_copy,
    .equal = blob_equal,
    .absent = blob_absent,
    .encode = blob_encode,
    .decode = blob_decode,
    .print = blob_print,
};
