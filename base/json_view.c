#include "base/json_view.h"

#include "base/json.h"
#include "base/require.h"
#include "base/utf8.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH_MAX    2048 /* as jansson's */
#define PAIRS_MAX    16   /* keys that are compared each with each */
#define NUMBER_TYPES ".eE"

struct json_value {
    enum json_value_type type;
    const char *key;
    struct json_value *next; /* while it is being read: what it is in */
    union {
        const char *text;
        int64_t integer;
        double real;
        struct {
            struct json_value *last; /* while it is being read */
            size_t count;
        } inside;
    } of;
};

struct json_view {
    struct json_value *values; /* in the order of the text; the root first */
    char *text;                /* a copy: strings end and are decoded where they stand */
};

struct parser {
    char *at; /* a NUL ends the text, and is nowhere in it */
    const char *end;
    struct json_value *free; /* the next that is given out */
    struct json_value *open; /* the innermost object or array */
    unsigned depth;
};

/* ---- texts ---- */

static void skip_space(struct parser *parser)
{
    while (*parser->at == ' ' || *parser->at == '\n' || *parser->at == '\t' ||
           *parser->at == '\r') {
        parser->at++;
    }
}

/* Four digits of \uXXXX; -1: they are none. */
static long read_hex(const char *digits)
{
    long number = 0;
    for (unsigned i = 0; i < 4; i++) {
        char digit = digits[i];
        int value = digit >= '0' && digit <= '9'   ? digit - '0'
                    : digit >= 'a' && digit <= 'f' ? digit - 'a' + 10
                    : digit >= 'A' && digit <= 'F' ? digit - 'A' + 10
                                                   : -1;
        if (value < 0) {
            return -1;
        }
        number = number * 16 + value;
    }
    return number;
}

static char *put_character(char *to, long character)
{
    if (character < 0x80) {
        *to++ = (char)character;
        return to;
    }
    if (character < 0x800) {
        *to++ = (char)(0xc0 | character >> 6);
    } else {
        if (character < 0x10000) {
            *to++ = (char)(0xe0 | character >> 12);
        } else {
            *to++ = (char)(0xf0 | character >> 18);
            *to++ = (char)(0x80 | (character >> 12 & 0x3f));
        }
        *to++ = (char)(0x80 | (character >> 6 & 0x3f));
    }
    *to++ = (char)(0x80 | (character & 0x3f));
    return to;
}

/* Behind "\u": a character, or a pair of halves of one, never half of one alone. */
static char *read_unicode(struct parser *parser, char *to)
{
    long character = read_hex(parser->at);
    if (character <= 0 || (character >= 0xdc00 && character <= 0xdfff)) {
        return NULL;
    }
    parser->at += 4;
    if (character >= 0xd800 && character <= 0xdbff) {
        long second =
            parser->at[0] == '\\' && parser->at[1] == 'u' ? read_hex(parser->at + 2) : -1;
        if (second < 0xdc00 || second > 0xdfff) {
            return NULL;
        }
        parser->at += 6;
        character = ((character - 0xd800) << 10) + (second - 0xdc00) + 0x10000;
    }
    return put_character(to, character);
}

/* Behind a backslash. No shorter than what it stands for. */
static char *read_escape(struct parser *parser, char *to)
{
    static const char names[] = "\"\\/bfnrt";
    static const char named[] = "\"\\/\b\f\n\r\t";
    char name = *parser->at;
    const char *found = name != '\0' ? strchr(names, name) : NULL;
    if (name == 'u') {
        parser->at++;
        return read_unicode(parser, to);
    }
    if (found == NULL) {
        return NULL;
    }
    parser->at++;
    *to = named[found - names];
    return to + 1;
}

/* From the quote on; NULL: it is no string. */
static const char *read_text(struct parser *parser)
{
    if (*parser->at != '"') {
        return NULL;
    }
    const char *begin = ++parser->at;
    char *to = parser->at;
    while (to != NULL && *parser->at != '"') {
        unsigned char byte = (unsigned char)*parser->at;
        if (byte == '\\') {
            parser->at++;
            to = read_escape(parser, to);
            continue;
        }
        if (byte >= ' ' && byte < 0x80) {
            *to++ = *parser->at++;
            continue;
        }
        size_t size =
            byte < ' '
                ? 0
                : utf8_character_size(parser->at, (size_t)(parser->end - parser->at));
        if (size == 0) {
            return NULL;
        }
        memmove(to, parser->at, size);
        to += size;
        parser->at += size;
    }
    if (to == NULL) {
        return NULL;
    }
    parser->at++;
    *to = '\0'; /* on the quote, or before it */
    return begin;
}

/* ---- other values ---- */

static bool is_digit(char character)
{
    return character >= '0' && character <= '9';
}

static bool skip_digits(struct parser *parser)
{
    const char *begin = parser->at;
    while (is_digit(*parser->at)) {
        parser->at++;
    }
    return parser->at > begin;
}

/* Behind the digits. */
static bool read_real(struct parser *parser, const char *begin, struct json_value *value)
{
    if (*parser->at == '.') {
        parser->at++;
        if (!skip_digits(parser)) {
            return false;
        }
    }
    if (*parser->at == 'e' || *parser->at == 'E') {
        parser->at++;
        parser->at += *parser->at == '+' || *parser->at == '-' ? 1 : 0;
        if (!skip_digits(parser)) {
            return false;
        }
    }
    value->type = JSON_VALUE_REAL;
    value->of.real = strtod(begin, NULL);
    return isfinite(value->of.real);
}

static bool read_number(struct parser *parser, struct json_value *value)
{
    const char *begin = parser->at;
    parser->at += *parser->at == '-' ? 1 : 0;
    if (*parser->at == '0') {
        parser->at++;
        if (is_digit(*parser->at)) {
            return false;
        }
    } else if (!skip_digits(parser)) {
        return false;
    }
    if (*parser->at != '\0' && strchr(NUMBER_TYPES, *parser->at) != NULL) {
        return read_real(parser, begin, value);
    }
    errno = 0;
    value->type = JSON_VALUE_INTEGER;
    value->of.integer = strtoll(begin, NULL, 10);
    return errno == 0;
}

static const struct {
    const char *word;
    enum json_value_type type;
} words[] = {{"true", JSON_VALUE_TRUE},
             {"false", JSON_VALUE_FALSE},
             {"null", JSON_VALUE_NULL}};

static bool read_word(struct parser *parser, struct json_value *value)
{
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        size_t size = strlen(words[i].word);
        if (strncmp(parser->at, words[i].word, size) == 0) {
            parser->at += size;
            value->type = words[i].type;
            return true;
        }
    }
    return false;
}

/* ---- objects and arrays ---- */

static int key_compare(const void *a, const void *b)
{
    return strcmp((*(const struct json_value *const *)a)->key,
                  (*(const struct json_value *const *)b)->key);
}

static bool keys_differ_sorted(const struct json_value *object)
{
    size_t count = object->of.inside.count;
    const struct json_value **sorted = malloc(count * sizeof(const struct json_value *));
    size_t i = 0;
    bool differ = sorted != NULL;
    for (const struct json_value *at = object + 1; differ && at != NULL; at = at->next) {
        sorted[i++] = at;
    }
    if (differ) {
        qsort(sorted, count, sizeof(const struct json_value *), key_compare);
    }
    for (i = 1; differ && i < count; i++) {
        differ = strcmp(sorted[i - 1]->key, sorted[i]->key) != 0;
    }
    free(sorted);
    return differ;
}

static bool keys_differ(const struct json_value *object)
{
    if (object->of.inside.count > PAIRS_MAX) {
        return keys_differ_sorted(object);
    }
    size_t left = object->of.inside.count;
    for (const struct json_value *at = object + 1; left > 1; at = at->next, left--) {
        for (const struct json_value *other = at->next; other != NULL;
             other = other->next) {
            if (strcmp(at->key, other->key) == 0) {
                return false;
            }
        }
    }
    return true;
}

static void enter(struct parser *parser, struct json_value *value)
{
    value->type = *parser->at == '{' ? JSON_VALUE_OBJECT : JSON_VALUE_ARRAY;
    value->next = parser->open;
    value->of.inside.last = NULL;
    value->of.inside.count = 0;
    parser->open = value;
    parser->depth++;
    parser->at++;
}

static bool leave(struct parser *parser)
{
    struct json_value *value = parser->open;
    parser->open = value->next;
    value->next = NULL;
    parser->depth--;
    parser->at++;
    return value->type == JSON_VALUE_ARRAY || keys_differ(value);
}

/* The next of what is open, with its key when that is an object. */
static struct json_value *add(struct parser *parser)
{
    struct json_value *in = parser->open;
    struct json_value *value = parser->free++;
    value->key = NULL;
    value->next = NULL;
    if (in == NULL) {
        return value;
    }
    if (in->of.inside.last != NULL) {
        in->of.inside.last->next = value;
    }
    in->of.inside.last = value;
    in->of.inside.count++;
    if (in->type == JSON_VALUE_ARRAY) {
        return value;
    }
    value->key = read_text(parser);
    skip_space(parser);
    if (value->key == NULL || *parser->at != ':') {
        return NULL;
    }
    parser->at++;
    skip_space(parser);
    return value;
}

/* Of an object or an array, its beginning. */
static bool read_value(struct parser *parser)
{
    struct json_value *value = add(parser);
    if (value == NULL || parser->depth >= DEPTH_MAX) {
        return false;
    }
    switch (*parser->at) {
    case '{':
    case '[':
        enter(parser, value);
        return true;
    case '"':
        value->type = JSON_VALUE_TEXT;
        value->of.text = read_text(parser);
        return value->of.text != NULL;
    case 't':
    case 'f':
    case 'n':
        return read_word(parser, value);
    default:
        return read_number(parser, value);
    }
}

/* The bracket that ends what is open; nothing does between two others. */
static bool at_end(const struct parser *parser)
{
    return *parser->at == (parser->open->type == JSON_VALUE_OBJECT ? '}' : ']');
}

static bool read_document(struct parser *parser)
{
    skip_space(parser);
    bool good = (*parser->at == '{' || *parser->at == '[') && read_value(parser);
    while (good && parser->open != NULL) {
        const struct json_value *in = parser->open;
        skip_space(parser);
        if (at_end(parser)) {
            good = leave(parser);
            continue;
        }
        if (in->of.inside.count > 0) {
            good = *parser->at == ',';
            parser->at += good ? 1 : 0;
            skip_space(parser);
        }
        good = good && read_value(parser);
    }
    skip_space(parser);
    return good && parser->at == parser->end;
}

/* Each but the first has one of these before it. */
static size_t values_max(const char *text, size_t size)
{
    size_t count = 1;
    for (size_t i = 0; i < size; i++) {
        count += text[i] == ',' || text[i] == '{' || text[i] == '[' ? 1 : 0;
    }
    return count;
}

/* ---- public ---- */

/* In jansson's words. What it would take is refused for one of two reasons: it steps over
 * a NUL behind a number. */
static int fault(const char *text, size_t size, struct err *err)
{
    json_t *tree = NULL;
    int r = json_parse(text, size, &tree, err);
    json_decref(tree);
    return r < 0 ? r
           : memchr(text, '\0', size) != NULL
               ? err_set(err, BERTH_EINVALID, "a NUL is in the document")
               : err_sys(err, -ENOMEM, "read a JSON document");
}

int json_view_parse(const char *text,
                    size_t size,
                    struct json_view **ret_view,
                    struct err *err)
{
    if (size > JSON_SIZE_MAX) {
        return fault(text, size, err);
    }
    size_t values_size = values_max(text, size) * sizeof(struct json_value);
    struct json_view *view = malloc(sizeof(*view) + values_size + size + 1);
    if (view == NULL) {
        return err_sys(err, -ENOMEM, "read a JSON document");
    }
    view->values = (struct json_value *)(view + 1);
    view->text = (char *)view->values + values_size;
    memcpy(view->text, text, size);
    view->text[size] = '\0';
    struct parser parser = {
        .at = view->text, .end = view->text + size, .free = view->values};
    if (!read_document(&parser)) {
        free(view);
        return fault(text, size, err);
    }
    REQUIRE((char *)parser.free <= view->text);
    *ret_view = view;
    return 0;
}

struct json_view *json_view_free(struct json_view *view)
{
    free(view);
    return NULL;
}

const struct json_value *json_view_root(const struct json_view *view)
{
    return view != NULL ? view->values : NULL;
}

enum json_value_type json_value_type(const struct json_value *value)
{
    return value != NULL ? value->type : JSON_VALUE_MISSING;
}

bool json_value_is_bool(const struct json_value *value)
{
    return json_value_type(value) == JSON_VALUE_TRUE ||
           json_value_type(value) == JSON_VALUE_FALSE;
}

const char *json_value_text(const struct json_value *value)
{
    return json_value_type(value) == JSON_VALUE_TEXT ? value->of.text : NULL;
}

int64_t json_value_integer(const struct json_value *value)
{
    return json_value_type(value) == JSON_VALUE_INTEGER ? value->of.integer : 0;
}

double json_value_real(const struct json_value *value)
{
    return json_value_type(value) == JSON_VALUE_REAL ? value->of.real : 0;
}

size_t json_value_count(const struct json_value *value)
{
    return json_value_type(value) == JSON_VALUE_OBJECT ||
                   json_value_type(value) == JSON_VALUE_ARRAY
               ? value->of.inside.count
               : 0;
}

const struct json_value *json_value_first(const struct json_value *value)
{
    return json_value_count(value) > 0 ? value + 1 : NULL;
}

const struct json_value *json_value_next(const struct json_value *value)
{
    return value->next;
}

const char *json_value_key(const struct json_value *value)
{
    return value->key;
}

const struct json_value *json_value_member(const struct json_value *value,
                                           const char *key)
{
    const struct json_value *at =
        json_value_type(value) == JSON_VALUE_OBJECT ? json_value_first(value) : NULL;
    while (at != NULL && strcmp(at->key, key) != 0) {
        at = at->next;
    }
    return at;
}

const char *json_value_member_text(const struct json_value *value,
                                   const char *key,
                                   const char *fallback)
{
    const char *text = json_value_text(json_value_member(value, key));
    return text != NULL ? text : fallback;
}
