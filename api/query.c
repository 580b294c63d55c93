#include "api/query.h"

#include "base/digest.h"
#include "base/parse_number.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Decodes in place; false at a bad %XX or a NUL. */
static bool decode(char *text)
{
    char *to = text;
    for (const char *from = text; *from != '\0'; from++, to++) {
        uint8_t byte = (uint8_t)*from;
        if (byte == '+') {
            byte = ' ';
        } else if (byte == '%') {
            char pair[3] = {from[1], (char)(from[1] != '\0' ? from[2] : '\0'), '\0'};
            if (hex_parse(pair, &byte, 1) < 0 || byte == 0) {
                return false;
            }
            from += 2;
        }
        *to = (char)byte;
    }
    *to = '\0';
    return true;
}

static int add_item(struct query *query, char *item, struct err *err)
{
    char *value = item + strcspn(item, "=");
    if (*value == '=') {
        *value++ = '\0';
    }
    if (query->count == QUERY_ITEMS_MAX) {
        return err_set(err, BERTH_EINVALID, "query: more than %d parameters",
                       QUERY_ITEMS_MAX);
    }
    if (!decode(item) || !decode(value)) {
        return err_set(err, BERTH_EINVALID, "query: %%XX is not readable");
    }
    query->items[query->count++] = (struct query_item){.name = item, .value = value};
    return 0;
}

int query_parse(const char *text, struct query *ret_query, struct err *err)
{
    struct query query = {.text = strdup(text)};
    if (query.text == NULL) {
        return err_sys(err, -ENOMEM, "query");
    }
    int r = 0;
    for (char *item = query.text; r == 0 && *item != '\0';) {
        char *end = item + strcspn(item, "&");
        char *next = *end == '&' ? end + 1 : end;
        *end = '\0';
        if (item != end) {
            r = add_item(&query, item, err);
        }
        item = next;
    }
    if (r < 0) {
        query_fini(&query);
        *ret_query = (struct query){0};
        return r;
    }
    *ret_query = query;
    return 0;
}

void query_fini(struct query *query)
{
    free(query->text);
    *query = (struct query){0};
}

const char *query_get(const struct query *query, const char *name)
{
    for (unsigned i = 0; i < query->count; i++) {
        if (strcmp(query->items[i].name, name) == 0) {
            return query->items[i].value;
        }
    }
    return NULL;
}

bool query_flag(const struct query *query, const char *name)
{
    const char *value = query_get(query, name);
    return value != NULL &&
           (value[0] == '\0' || strcmp(value, "true") == 0 || strcmp(value, "1") == 0);
}

int query_u64(const struct query *query,
              const char *name,
              uint64_t fallback,
              uint64_t *ret_value,
              struct err *err)
{
    const char *text = query_get(query, name);
    *ret_value = fallback;
    if (text == NULL) {
        return 0;
    }
    int r = parse_u64(text, ret_value, err);
    return r < 0 ? err_wrap(err, r, "query: %s", name) : 0;
}

static bool among(const char *name, const char *known)
{
    size_t size = strlen(name);
    while (known != NULL && *known != '\0') {
        size_t word = strcspn(known, " ");
        if (word == size && memcmp(known, name, size) == 0) {
            return true;
        }
        known += word + strspn(known + word, " ");
    }
    return false;
}

int query_check(const struct query *query, const char *known, struct err *err)
{
    for (unsigned i = 0; i < query->count; i++) {
        if (!among(query->items[i].name, known)) {
            return err_set(err, BERTH_EINVALID, "query: %.64s is not known here",
                           query->items[i].name);
        }
    }
    return 0;
}
