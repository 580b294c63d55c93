/* Records full of random values that their tables allow, for round trips.
 *
 * fixture_fill(record, object, random, flags) fills an uninitialised struct
 * (record_fini). The same seed gives the same values.
 */
#pragma once

#include "base/random.h"
#include "base/require.h"
#include "model/objects.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIXTURE_ITEMS_MAX 3 /* items of a list */
#define FIXTURE_INSTANT   UINT64_C(253402300799999)

enum fixture_flag {
    FIXTURE_WRITABLE = 1, /* only what users may write, as documents can spell it */
};

static void fixture_fill(const struct record *record,
                         void *object,
                         struct random *random,
                         unsigned flags);

static inline void fixture_name(struct random *random, char *ret_name)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789-";
    size_t size = 1 + random_below(random, random_below(random, 8) == 0 ? 63 : 12);
    memset(ret_name, 0, NAME_SIZE);
    for (size_t i = 0; i < size; i++) {
        bool edge = i == 0 || i == size - 1;
        ret_name[i] = letters[random_below(random, edge ? 26 : sizeof(letters) - 1)];
    }
}

/* A text of that many bytes, printable when it has to be a document's. */
static inline char *fixture_text(struct random *random, size_t size, unsigned flags)
{
    char *text = calloc(1, size + 1);
    REQUIRE(text != NULL);
    for (size_t i = 0; i < size; i++) {
        bool plain = (flags & FIXTURE_WRITABLE) != 0;
        text[i] = (char)(plain ? ' ' + (int)random_below(random, 95)
                               : 1 + (int)random_below(random, 255));
    }
    return text;
}

static inline size_t fixture_size(const struct field *field, struct random *random)
{
    size_t max = field_count_max(field);
    size_t min = (size_t)field->min;
    uint64_t dice = random_below(random, 8);
    size_t wanted = dice == 0 ? max : dice == 1 ? min : min + random_below(random, 20);
    return wanted > max ? max : wanted > 1100 ? 1100 : wanted;
}

static inline uint64_t fixture_cidr(struct random *random)
{
    uint64_t prefix = 8 + random_below(random, 22);
    uint64_t address = random_below(random, UINT64_C(1) << prefix) << (32 - prefix);
    return address << 8 | prefix;
}

static inline uint64_t
fixture_number(const struct field *field, struct random *random, unsigned flags)
{
    uint64_t min = field->min;
    uint64_t max = field->max;
    if ((flags & FIXTURE_WRITABLE) != 0) {
        if (field->unit == UNIT_CIDR) {
            return fixture_cidr(random);
        }
        uint64_t spelled = field->unit == UNIT_MCPU      ? UINT32_MAX
                           : field->unit == UNIT_INSTANT ? FIXTURE_INSTANT
                           : field->unit == UNIT_NONE    ? INT64_MAX
                                                         : UINT64_MAX;
        max = max < spelled ? max : spelled;
    }
    switch (random_below(random, 6)) {
    case 0:
        return min;
    case 1:
        return max;
    case 2: /* a small one */
        return max - min > 1000 ? min + random_below(random, 1000) : min;
    default:
        return max - min == UINT64_MAX ? random_u64(random)
                                       : min + random_below(random, max - min + 1);
    }
}

static inline void fixture_list(const struct field *field,
                                struct record_list *list,
                                struct random *random,
                                unsigned flags)
{
    size_t count = (size_t)field->min + random_below(random, FIXTURE_ITEMS_MAX + 1);
    for (size_t i = 0; i < count && i < field_count_max(field); i++) {
        void *item = record_list_add(field->record, list);
        REQUIRE(item != NULL);
        fixture_fill(field->record, item, random, flags);
    }
}

static inline void fixture_labels(struct label_list *labels, struct random *random)
{
    for (uint64_t i = random_below(random, FIXTURE_ITEMS_MAX + 1); i > 0; i--) {
        char key[NAME_SIZE];
        fixture_name(random, key);
        char *value = fixture_text(random, random_below(random, 20), FIXTURE_WRITABLE);
        REQUIRE(label_set(labels, key, value) == 0);
        free(value);
    }
}

static inline void fixture_member(const struct field *field,
                                  void *member,
                                  struct random *random,
                                  unsigned flags)
{
    char *text = NULL;
    switch (field->type) {
    case FIELD_NAME:
        fixture_name(random, member);
        break;
    case FIELD_TEXT:
        *(char **)member = fixture_text(random, fixture_size(field, random), flags);
        break;
    case FIELD_DIGEST:
        for (size_t i = 0; i < DIGEST_SIZE; i++) {
            ((struct digest *)member)->bytes[i] = (uint8_t)random_u64(random);
        }
        break;
    case FIELD_RECORD:
        fixture_fill(field->record, member, random, flags);
        break;
    case FIELD_LIST:
        fixture_list(field, member, random, flags);
        break;
    case FIELD_TEXTS:
        for (uint64_t i = random_below(random, FIXTURE_ITEMS_MAX + 1); i > 0; i--) {
            text = fixture_text(random, random_below(random, 30), flags);
            REQUIRE(text_list_add(member, text) == 0);
            free(text);
        }
        break;
    case FIELD_LABELS:
        fixture_labels(member, random);
        break;
    case FIELD_BLOB:
        ((struct blob *)member)->size = (uint32_t)fixture_size(field, random);
        ((struct blob *)member)->data =
            (uint8_t *)fixture_text(random, ((struct blob *)member)->size, 0);
        break;
    default:
        field_set_number(field, member, fixture_number(field, random, flags));
        break;
    }
}

/* One field in four keeps its fallback. */
static void fixture_fill(const struct record *record,
                         void *object,
                         struct random *random,
                         unsigned flags)
{
    record_init(record, object);
    for (unsigned i = 0; i < record->field_count; i++) {
        const struct field *field = &record->fields[i];
        bool keep = (field->flags & FIELD_REQUIRED) == 0 && random_below(random, 4) == 0;
        if ((flags & FIXTURE_WRITABLE) != 0 &&
            (field->flags & (FIELD_SERVER | FIELD_SECRET)) != 0) {
            keep = true;
        }
        if (!keep) {
            fixture_member(field, field_at(field, object), random, flags);
        }
    }
}

/* JSON and YAML flow texts in C are easier to read with single quotes. Fresh text. */
static inline char *fixture_quotes(const char *text)
{
    char *copy = strdup(text);
    REQUIRE(copy != NULL);
    for (char *at = copy; *at != '\0'; at++) {
        *at = *at == '\'' ? '"' : *at;
    }
    return copy;
}
