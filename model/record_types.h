/* What the code of all records does with one type of field: the inside of model/record.c.
 *
 * Private to the room. Shapes: a struct type_ops per type, in scalar_fields.c (what has
 * no fields inside) and nested_fields.c (what has, or is a list); record.c walks an
 * object's fields and asks them. Ownership: a member owns what it points to; `fini` frees
 * it. Threads: pure. Errors: a decode fails with BERTH_EPROTO, -ENOMEM or the reader's;
 * an encode makes its writer fail where a decode would.
 */
#pragma once

#include "base/bytes.h"
#include "model/record.h"

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
    void (*limit)(const struct field *field, void *member, unsigned level); /* likewise */
};

extern const struct type_ops number_ops; /* BOOL, U32, U64, ENUM */
extern const struct type_ops name_ops;
extern const struct type_ops digest_ops;
extern const struct type_ops text_ops;
extern const struct type_ops blob_ops;
extern const struct type_ops nested_ops; /* RECORD */
extern const struct type_ops list_ops;
extern const struct type_ops texts_ops;
extern const struct type_ops labels_ops;

/* ---- of record.c, for the types ---- */

const struct type_ops *type_ops_of(const struct field *field);
int record_decode_at(const struct record *record,
                     struct bytes_reader *reader,
                     struct decoding at,
                     void *ret_object);
void record_search(const struct record *record,
                   const void *object,
                   struct level_search *search);

/* ---- of scalar_fields.c, for all ---- */

/* Makes the writer fail: what it would hold could not be read back. */
void writer_refuse(struct bytes_writer *writer, int code);
/* Text in quotes. */
void print_quoted(struct bytes_writer *writer, const char *text);

/* That many bytes of foreign text into fresh memory; no NUL may be inside. */
int text_take(struct bytes_reader *reader, size_t size, char **ret_text);

static inline const char *text_or_empty(const char *text)
{
    return text != NULL ? text : "";
}
