/* Records: one field list gives a struct, its binary codec, its JSON shape, its YAML
 * schema and its comparison.
 *
 * Shapes: a record is written once as an X-macro list `#define CPU_SPEC_FIELDS(F, S)` of
 *     F(S, number, TYPE, member, "jsonName", argument, flags, min, max, fallback, "doc")
 * RECORD_DECLARE makes the struct and its list type, RECORD_DEFINE (in one .c file) the
 * static table
 * `<name>_record`. Everything generic (record_encode, record_decode, record_copy,
 * record_equal, record_free, and the readers and printers of other rooms) walks that
 * table. Types: BOOL, U32, U64, ENUM (u32 with names), NAME (char[NAME_SIZE], "" =
 * absent), TEXT (char *, NULL = absent), DIGEST (32 bytes, zero = absent), RECORD (nested
 * struct), LIST (records), TEXTS (char * list), LABELS (list of struct label, an object
 * in JSON), BLOB (bytes, base64 in JSON, never in YAML). Units: the field's `unit` says
 * how people write the number (enum field_unit); in memory sizes are bytes, CPU
 * millicores, durations and instants milliseconds, ratios tenths of a percent. Codec:
 * version 1, little endian; per field {u16 number, u32 length, bytes}, fields with their
 * fallback value are left out; every length is bounded. Unknown numbers are skipped by
 * record_decode, as messages between hosts want it, and refused by record_decode_level,
 * as the replicated state wants it: skipping would make replicas differ.
 * Encoding is canonical: equal values give equal bytes. Ownership: TEXT, TEXTS, LIST and
 * LABELS memory belongs to the struct; record_free releases it. Threads: pure. Errors:
 * BERTH_EPROTO (foreign bytes), -ENOMEM.
 */
#pragma once

#include "base/bytes.h"
#include "base/digest.h"
#include "model/level.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NAME_SIZE        64   /* 63 characters, as DNS labels, and a NUL */
#define RECORD_DEPTH_MAX 8    /* nested records */
#define RECORD_LIST_MAX  8192 /* items of any list, unless the field says less */
#define RECORD_TEXT_MAX                                                               \
    65536                    /* bytes of any text or blob, unless the field says less \
                              */
#define LABEL_VALUE_MAX 1024 /* bytes of a label's value: a note of a few sentences */
#define TEXTS_ITEM_MAX  1024 /* bytes of one text in a TEXTS list */
#define RECORD_BLOB_MAX                                             \
    (1u << 20) /* bytes of a BLOB: image chunks, forwarded requests \
                */

enum field_type {
    FIELD_BOOL = 1,
    FIELD_U32,
    FIELD_U64,
    FIELD_ENUM,
    FIELD_NAME,
    FIELD_TEXT,
    FIELD_DIGEST,
    FIELD_RECORD,
    FIELD_LIST,
    FIELD_TEXTS,
    FIELD_LABELS,
    FIELD_BLOB,
};

/* How people write the value; NONE is a plain number. */
enum field_unit {
    UNIT_NONE = 0,
    UNIT_BYTES,      /* "4GiB" */
    UNIT_RATE,       /* "400MiB/s", "1Gbit/s": bytes a second inside */
    UNIT_MCPU,       /* "2", "1500m" */
    UNIT_DURATION,   /* "30s", milliseconds inside */
    UNIT_INSTANT,    /* RFC 3339 text, wall milliseconds inside */
    UNIT_PERMILLE,   /* "60%" is 600 */
    UNIT_IPV4,       /* "10.0.0.1", host-order u32 */
    UNIT_CIDR,       /* "10.0.0.0/24", u64: address << 8 | prefix bits */
    UNIT_MAC,        /* "52:54:..", u64 */
    UNIT_EXPRESSION, /* TEXT(S): a placement rule, model/expression.h */
};

enum field_flag {
    FIELD_REQUIRED = 1, /* must be given by the user */
    FIELD_SERVER = 2,   /* written by the server only; ignored in what users send */
    FIELD_SECRET = 4,   /* never printed */
};
/* In flags: the level of the state (model/level.h) that the field came with, unless it is
 * the first. */
#define FIELD_SINCE_SHIFT  8
#define FIELD_SINCE(level) ((unsigned)(level) << FIELD_SINCE_SHIFT)

struct record;

struct field {
    uint16_t number; /* never reused */
    enum field_type type;
    enum field_unit unit;
    const char *name; /* JSON and YAML key */
    size_t offset;
    unsigned flags;
    uint64_t min; /* numbers: value; TEXT/TEXTS/LIST/LABELS: length or count */
    uint64_t max;
    uint64_t fallback;           /* value when absent */
    const struct record *record; /* RECORD, LIST */
    const char *const *names; /* ENUM: NULL-terminated, index is the value; "" entries are
                                 not writable */
    const char *doc;          /* one sentence for schema and reference */
};

struct record {
    const char *name;
    size_t size_bytes;
    const struct field *fields; /* by rising number */
    unsigned field_count;
};

struct text_list {
    char **items;
    uint32_t count;
};

struct label {
    char key[NAME_SIZE];
    char *value;
};

struct label_list {
    struct label *items;
    uint32_t count;
};

struct blob {
    uint8_t *data;
    uint32_t size;
};

/* A list of any record, as the generic code sees it. */
struct record_list {
    void *items;
    uint32_t count;
};

#define FIELD_C_BOOL(member, arg)   bool member;
#define FIELD_C_U32(member, arg)    uint32_t member;
#define FIELD_C_U64(member, arg)    uint64_t member;
#define FIELD_C_ENUM(member, arg)   uint32_t member;
#define FIELD_C_NAME(member, arg)   char member[NAME_SIZE];
#define FIELD_C_TEXT(member, arg)   char *member;
#define FIELD_C_DIGEST(member, arg) struct digest member;
#define FIELD_C_RECORD(member, arg) struct arg member;
#define FIELD_C_LIST(member, arg)   struct arg##_list member;
#define FIELD_C_TEXTS(member, arg)  struct text_list member;
#define FIELD_C_LABELS(member, arg) struct label_list member;
#define FIELD_C_BLOB(member, arg)   struct blob member;

#define RECORD_MEMBER(S, number, TYPE, member, json, arg, flags, min, max, fallback, \
                      doc)                                                           \
    FIELD_C_##TYPE(member, arg)

/* Declares struct name, struct name_list and the table name_record. */
#define RECORD_DECLARE(name, FIELDS) \
    struct name {                    \
        FIELDS(RECORD_MEMBER, name)  \
    };                               \
    struct name##_list {             \
        struct name *items;          \
        uint32_t count;              \
    };                               \
    extern const struct record name##_record;

/* In `arg`: a record's name (RECORD, LIST), an enum's name with a table <arg>_names
 * (ENUM), a field_unit (U32, U64, TEXT, TEXTS: UNIT_*), anything (others: UNIT_NONE). */
#define FIELD_UNIT_BOOL(arg)    UNIT_NONE
#define FIELD_UNIT_U32(arg)     arg
#define FIELD_UNIT_U64(arg)     arg
#define FIELD_UNIT_ENUM(arg)    UNIT_NONE
#define FIELD_UNIT_NAME(arg)    UNIT_NONE
#define FIELD_UNIT_TEXT(arg)    arg
#define FIELD_UNIT_DIGEST(arg)  UNIT_NONE
#define FIELD_UNIT_RECORD(arg)  UNIT_NONE
#define FIELD_UNIT_LIST(arg)    UNIT_NONE
#define FIELD_UNIT_TEXTS(arg)   arg
#define FIELD_UNIT_LABELS(arg)  UNIT_NONE
#define FIELD_UNIT_BLOB(arg)    UNIT_NONE
#define FIELD_SUB_BOOL(arg)     NULL
#define FIELD_SUB_U32(arg)      NULL
#define FIELD_SUB_U64(arg)      NULL
#define FIELD_SUB_ENUM(arg)     NULL
#define FIELD_SUB_NAME(arg)     NULL
#define FIELD_SUB_TEXT(arg)     NULL
#define FIELD_SUB_DIGEST(arg)   NULL
#define FIELD_SUB_RECORD(arg)   &arg##_record
#define FIELD_SUB_LIST(arg)     &arg##_record
#define FIELD_SUB_TEXTS(arg)    NULL
#define FIELD_SUB_LABELS(arg)   NULL
#define FIELD_SUB_BLOB(arg)     NULL
#define FIELD_NAMES_BOOL(arg)   NULL
#define FIELD_NAMES_U32(arg)    NULL
#define FIELD_NAMES_U64(arg)    NULL
#define FIELD_NAMES_ENUM(arg)   arg##_names
#define FIELD_NAMES_NAME(arg)   NULL
#define FIELD_NAMES_TEXT(arg)   NULL
#define FIELD_NAMES_DIGEST(arg) NULL
#define FIELD_NAMES_RECORD(arg) NULL
#define FIELD_NAMES_LIST(arg)   NULL
#define FIELD_NAMES_TEXTS(arg)  NULL
#define FIELD_NAMES_LABELS(arg) NULL
#define FIELD_NAMES_BLOB(arg)   NULL

/* Defines the table in one .c file: RECORD_DEFINE(cpu_spec, CPU_SPEC_FIELDS) */
#define RECORD_ROW(S, num, TYPE, member, json, arg, flag, low, high, fall, text) \
    {.number = (num),                                                            \
     .type = FIELD_##TYPE,                                                       \
     .unit = FIELD_UNIT_##TYPE(arg),                                             \
     .name = (json),                                                             \
     .offset = offsetof(struct S, member),                                       \
     .flags = (flag),                                                            \
     .min = (low),                                                               \
     .max = (high),                                                              \
     .fallback = (fall),                                                         \
     .record = FIELD_SUB_##TYPE(arg),                                            \
     .names = FIELD_NAMES_##TYPE(arg),                                           \
     .doc = (text)},
#define RECORD_DEFINE(S, FIELDS)                                      \
    static const struct field S##_fields[] = {FIELDS(RECORD_ROW, S)}; \
    const struct record S##_record = {                                \
        .name = #S,                                                   \
        .size_bytes = sizeof(struct S),                               \
        .fields = S##_fields,                                         \
        .field_count = sizeof(S##_fields) / sizeof(S##_fields[0]),    \
    };

/* Sets every member to its fallback (texts absent, lists empty). */
void record_init(const struct record *record, void *object);
/* Frees what the members own and zeroes the struct; the struct itself is the caller's. */
void record_fini(const struct record *record, void *object);
/* record_fini and free(); accepts NULL. */
void record_free(const struct record *record, void *object);
/* Deep copy into uninitialised memory; 0 or -ENOMEM (ret_copy is then zeroed). */
int record_copy(const struct record *record, const void *object, void *ret_copy);
bool record_equal(const struct record *record, const void *a, const void *b);
/* What decode would refuse is not written: a text or list over its maximum ends the
 * writer in BERTH_ETOOLARGE, a number out of range in BERTH_EINVALID. */
void record_encode(const struct record *record,
                   const void *object,
                   struct bytes_writer *writer);
/* Decodes into uninitialised memory, consuming the whole reader; on error ret_object is
 * zeroed. Numbers out of [min, max], unknown enum values and texts or lists over their
 * maximum are BERTH_EPROTO. */
int record_decode(const struct record *record,
                  struct bytes_reader *reader,
                  void *ret_object);
/* A short, readable line for logs and fuzzing: `{name=web memory=128MiB ...}`. Secrets as
 * "***". */
void record_print(const struct record *record,
                  const void *object,
                  struct bytes_writer *writer);
/* As record_decode, for what was written at a level of the state: a field that is
 * unknown, or that came later, is BERTH_EPROTO. */
int record_decode_level(const struct record *record,
                        struct bytes_reader *reader,
                        unsigned level,
                        void *ret_object);
/* The least level at which the object can be written, nested records and lists included,
 * and the first field that asks for it (NULL: none asks for more than the first level).
 */
unsigned record_level(const struct record *record,
                      const void *object,
                      const struct field **ret_field);
/* Sets fields that came after the level to their fallbacks, also inside records and
 * lists.
 */
void record_limit(const struct record *record, void *object, unsigned level);
/* Text with quotes, backslashes and control characters escaped, so that a line stays one
 * line. */
void record_print_text(const char *text, struct bytes_writer *writer);
/* The field by JSON name, or NULL. */
const struct field *record_field(const struct record *record, const char *name);
/* The level that the field came with. */
static inline unsigned field_since(const struct field *field)
{
    unsigned since = field->flags >> FIELD_SINCE_SHIFT;
    return since != 0 ? since : LEVEL_FIRST;
}
/* Where the field lives in the object. */
static inline void *field_at(const struct field *field, const void *object)
{
    return (void *)((uintptr_t)object + field->offset);
}
/* The value of a BOOL, U32, U64 or ENUM member, and its change. */
uint64_t field_number(const struct field *field, const void *member);
void field_set_number(const struct field *field, void *member, uint64_t value);
/* True when the member has its fallback value: absent text, empty list, nested record of
 * nothing but fallbacks. */
bool field_is_fallback(const struct field *field, const void *member);
/* The largest length or count the codec takes: the field's maximum, or its type's. */
size_t field_count_max(const struct field *field);
/* strdup into a TEXT member, freeing the old value; NULL text clears. 0 or -ENOMEM. */
int record_set_text(char **member, const char *text);
#define LABELS_MAX 64 /* of one object, as the tables of model/objects.h say */
/* Value of a label, or NULL. */
const char *label_value(const struct label_list *labels, const char *key);
/* Sets or adds a label; 0, -ENOMEM, BERTH_ETOOLARGE (key over NAME_SIZE - 1, value over
 * LABEL_VALUE_MAX, or RECORD_LIST_MAX labels). */
int label_set(struct label_list *labels, const char *key, const char *value);
/* Takes a label away; false when it is not there. */
bool label_unset(struct label_list *labels, const char *key);
/* Adds what `from` has beyond `labels`, in order, up to LABELS_MAX: for what is made from
 * something labelled. 0 or as label_set. */
int labels_inherit(struct label_list *labels, const struct label_list *from);
/* Adds a copy of the text; 0, -ENOMEM or BERTH_ETOOLARGE. */
int text_list_add(struct text_list *list, const char *text);
/* Grows a list by one item, initialised by record_init; NULL when out of memory or at
 * RECORD_LIST_MAX. */
void *record_list_add(const struct record *record, struct record_list *list);
