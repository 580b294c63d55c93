/* Goal: the schema that editors get is draft-07 and agrees with the reader.
 * Method: a small validator of the keywords that the schema uses (an unknown keyword is a
 * failure) is put to the documents of the pass cases, and to documents with one fault.
 * Every kind and field of the tables has to be in it. */
#include "config_fixture.h"
#include "support/fault_heap.h"
#include "support/test_main.h"

#include <glob.h>
#include <regex.h>
#include <stdio.h>

#define CASES BERTH_SOURCE_DIR "/tests/config/cases/"

static glob_t pass_cases;
static json_t *schema; /* of all kinds */

static bool valid(const json_t *rule, const json_t *value);

static bool matches(const char *pattern, const char *text)
{
    regex_t regex;
    ck_assert_int_eq(regcomp(&regex, pattern, REG_EXTENDED | REG_NOSUB), 0);
    bool match = regexec(&regex, text, 0, NULL, 0) == 0;
    regfree(&regex);
    return match;
}

static bool is_type(const char *type, const json_t *value)
{
    return strcmp(type, "object") == 0    ? json_is_object(value)
           : strcmp(type, "array") == 0   ? json_is_array(value)
           : strcmp(type, "string") == 0  ? json_is_string(value)
           : strcmp(type, "integer") == 0 ? json_is_integer(value)
           : strcmp(type, "number") == 0  ? json_is_number(value)
           : strcmp(type, "boolean") == 0 ? json_is_boolean(value)
                                          : false;
}

static bool check_type(const json_t *type, const json_t *value)
{
    size_t i;
    json_t *one;
    if (json_is_string(type)) {
        return is_type(json_string_value(type), value);
    }
    json_array_foreach(type, i, one)
    {
        if (is_type(json_string_value(one), value)) {
            return true;
        }
    }
    return false;
}

static bool check_enum(const json_t *names, const json_t *value)
{
    size_t i;
    json_t *one;
    json_array_foreach(names, i, one)
    {
        if (json_equal(one, value)) {
            return true;
        }
    }
    return false;
}

/* properties, patternProperties and additionalProperties are one rule. */
static bool check_members(const json_t *rule, const json_t *value)
{
    const json_t *properties = json_object_get(rule, "properties");
    const json_t *others = json_object_get(rule, "additionalProperties");
    json_t *patterns = json_object_get(rule, "patternProperties");
    const char *key;
    json_t *member;
    json_object_foreach((json_t *)(uintptr_t)value, key, member)
    {
        const json_t *known = json_object_get(properties, key);
        const char *pattern;
        json_t *by_pattern;
        json_object_foreach(patterns, pattern, by_pattern)
        {
            known = matches(pattern, key) ? by_pattern : known;
        }
        known = known != NULL ? known : others;
        if (json_is_false(known) || (json_is_object(known) && !valid(known, member))) {
            return false;
        }
    }
    return true;
}

static bool check_required(const json_t *required, const json_t *value)
{
    size_t i;
    json_t *name;
    json_array_foreach(required, i, name)
    {
        if (json_object_get(value, json_string_value(name)) == NULL) {
            return false;
        }
    }
    return true;
}

static bool check_items(const json_t *rule, const json_t *value)
{
    size_t i;
    json_t *item;
    json_array_foreach(value, i, item)
    {
        if (!valid(rule, item)) {
            return false;
        }
    }
    return true;
}

static bool check_any(const json_t *rules, const json_t *value)
{
    size_t i;
    json_t *rule;
    json_array_foreach(rules, i, rule)
    {
        if (valid(rule, value)) {
            return true;
        }
    }
    return false;
}

static bool check_all(const json_t *rules, const json_t *value)
{
    size_t i;
    json_t *rule;
    json_array_foreach(rules, i, rule)
    {
        if (!valid(rule, value)) {
            return false;
        }
    }
    return true;
}

static bool check_reference(const json_t *reference, const json_t *value)
{
    static const char prefix[] = "#/definitions/";
    const char *path = json_string_value(reference);
    ck_assert_int_eq(strncmp(path, prefix, strlen(prefix)), 0);
    const json_t *rule =
        json_object_get(json_object_get(schema, "definitions"), path + strlen(prefix));
    ck_assert_ptr_nonnull(rule);
    return valid(rule, value);
}

/* The count that a limit is about; bytes for texts. */
static json_int_t measure(const json_t *value)
{
    return json_is_array(value)    ? (json_int_t)json_array_size(value)
           : json_is_object(value) ? (json_int_t)json_object_size(value)
           : json_is_string(value) ? (json_int_t)json_string_length(value)
                                   : json_integer_value(value);
}

static bool check_least(const json_t *limit, const json_t *value)
{
    return measure(value) >= json_integer_value(limit);
}

static bool check_most(const json_t *limit, const json_t *value)
{
    return measure(value) <= json_integer_value(limit);
}

static bool check_pattern(const json_t *pattern, const json_t *value)
{
    return !json_is_string(value) ||
           matches(json_string_value(pattern), json_string_value(value));
}

static bool check_const(const json_t *wanted, const json_t *value)
{
    return json_equal(wanted, value) != 0;
}

static bool check_nothing(const json_t *rule, const json_t *value)
{
    (void)rule;
    (void)value;
    return true;
}

static const struct {
    const char *keyword;
    bool (*check)(const json_t *rule, const json_t *value);
} keywords[] = {
    {"type", check_type},
    {"const", check_const},
    {"enum", check_enum},
    {"pattern", check_pattern},
    {"required", check_required},
    {"items", check_items},
    {"anyOf", check_any},
    {"allOf", check_all},
    {"$ref", check_reference},
    {"minimum", check_least},
    {"minLength", check_least},
    {"minItems", check_least},
    {"maximum", check_most},
    {"maxLength", check_most},
    {"maxItems", check_most},
    {"maxProperties", check_most},
    {"properties", check_nothing}, /* check_members */
    {"patternProperties", check_nothing},
    {"additionalProperties", check_nothing},
    {"if", check_nothing}, /* below */
    {"then", check_nothing},
    {"$schema", check_nothing},
    {"title", check_nothing},
    {"description", check_nothing},
    {"examples", check_nothing},
    {"default", check_nothing},
    {"readOnly", check_nothing},
    {"definitions", check_nothing},
};

static bool check_keyword(const char *keyword, const json_t *rule, const json_t *value)
{
    for (size_t i = 0; i < ARRAY_COUNT(keywords); i++) {
        if (strcmp(keywords[i].keyword, keyword) == 0) {
            return keywords[i].check(rule, value);
        }
    }
    ck_abort_msg("the schema uses \"%s\", of which this test knows nothing", keyword);
    return false;
}

static bool valid(const json_t *rule, const json_t *value)
{
    const char *keyword;
    json_t *argument;
    json_t *walked = (json_t *)(uintptr_t)rule;
    ck_assert(json_is_object(rule));
    json_object_foreach(walked, keyword, argument)
    {
        if (!check_keyword(keyword, argument, value)) {
            return false;
        }
    }
    const json_t *condition = json_object_get(rule, "if");
    if (condition != NULL && valid(condition, value) &&
        !valid(json_object_get(rule, "then"), value)) {
        return false;
    }
    return !json_is_object(value) || check_members(rule, value);
}

START_TEST(good_documents_are_good_to_the_schema)
{
    struct config config;
    size_t size = 0;
    CLEANUP_FREE char *text = fixture_file(pass_cases.gl_pathv[_i], &size);
    ck_assert_int_eq(config_read("a.yaml", text, size, &config), 0);
    for (unsigned i = 0; i < config.object_count; i++) {
        const struct config_object *object = &config.objects[i];
        json_t *document = document_of(object->kind, object->object, false);
        CLEANUP_FREE char *shown = json_text(document);
        ck_assert_msg(valid(schema, document), "%s", shown);
        json_decref(document);
    }
    config_fini(&config);
}
END_TEST

static const char *const bad_documents[] = {
    "apiVersion: berth/v2\nkind: Tenant\nmetadata: {name: a}",
    "kind: Tenant\nmetadata: {name: a}",
    "apiVersion: berth/v1\nmetadata: {name: a}",
    "apiVersion: berth/v1\nkind: Host\nmetadata: {name: a}",
    "apiVersion: berth/v1\nkind: Tenant\nmetadata: {name: A}",
    "apiVersion: berth/v1\nkind: Tenant\nmetadata: {}",
    "apiVersion: berth/v1\nkind: Tenant\nmetadata: {name: a}\nspecs: {}",
    "apiVersion: berth/v1\nkind: Disk\nmetadata: {name: a}\nspec: {size: 1}",
    "apiVersion: berth/v1\nkind: Disk\nmetadata: {name: a}\nspec: {size: 1gb}",
    "apiVersion: berth/v1\nkind: Disk\nmetadata: {name: a}\nspec: {}",
    "apiVersion: berth/v1\nkind: Disk\nmetadata: {name: a}",
    "apiVersion: berth/v1\nkind: Disk\nmetadata: {name: a}\nspec: {size: unlimited}",
    "apiVersion: berth/v1\nkind: VM\nmetadata: {name: a}\nspec: {template: {name: b}, "
    "power: maybe}",
    "apiVersion: berth/v1\nkind: Group\nmetadata: {name: a}\nspec: {template: {name: b}, "
    "replicas: 10001}",
    "apiVersion: berth/v1\nkind: Group\nmetadata: {name: a}\nspec: {template: b}",
    "apiVersion: berth/v1\nkind: Image\nmetadata: {name: a}\nspec: {artifacts: []}",
    "apiVersion: berth/v1\nkind: Tenant\nmetadata: {name: a}\nspec: {quota: {vms: lots}}",
};

/* The documents above are simple enough for a reader of "key: {flow}" lines. */
static json_t *flow_value(const char **at)
{
    *at += strspn(*at, " ");
    if (**at == '{') {
        json_t *object = json_object();
        (*at)++;
        while (**at != '}') {
            char key[NAME_SIZE] = "";
            *at += strspn(*at, " ,");
            size_t size = strcspn(*at, ":");
            memcpy(key, *at, size);
            *at += size + 1;
            json_object_set_new(object, key, flow_value(at));
        }
        (*at)++;
        return object;
    }
    if (strncmp(*at, "[]", 2) == 0) {
        *at += 2;
        return json_array();
    }
    size_t size = strcspn(*at, ",}\n");
    bool number = strspn(*at, "0123456789") == size;
    json_t *value =
        number ? json_integer(strtoll(*at, NULL, 10)) : json_stringn(*at, size);
    *at += size;
    return value;
}

static json_t *flow_document(const char *text)
{
    json_t *document = json_object();
    while (*text != '\0') {
        char key[NAME_SIZE] = "";
        size_t size = strcspn(text, ":");
        memcpy(key, text, size);
        text += size + 1;
        json_object_set_new(document, key, flow_value(&text));
        text += strspn(text, "\n");
    }
    return document;
}

START_TEST(bad_documents_are_bad_to_both)
{
    struct config config;
    json_t *document = flow_document(bad_documents[_i]);
    ck_assert_int_eq(fixture_read(bad_documents[_i], &config), BERTH_EINVALID);
    ck_assert(!valid(schema, document));
    json_decref(document);
    config_fini(&config);
}
END_TEST

static const char *const good_documents[] = {
    "apiVersion: berth/v1\nkind: Tenant\nmetadata: {name: a}\nspec: {quota: {cpu: "
    "unlimited, memory: unlimited, vms: unlimited}}",
    "apiVersion: berth/v1\nkind: Tenant\nmetadata: {name: a}\nspec: {quota: {cpu: 1500m, "
    "memory: 1.5GiB, vms: 7}}",
    "apiVersion: berth/v1\nkind: Tenant\nmetadata: {name: a, labels: {b: 1, c: d}}",
    "apiVersion: berth/v1\nkind: Group\nmetadata: {name: a}\nspec: {template: {name: b}, "
    "replicas: 10000}",
    "apiVersion: berth/v1\nkind: Tenant\nmetadata: {name: a, uid: 7, x-b: {c: d}}\n"
    "status: {used: {vms: 3}}\nx-e: f",
};

START_TEST(good_documents_are_good_to_both)
{
    struct config config;
    json_t *document = flow_document(good_documents[_i]);
    ck_assert_int_eq(fixture_read(good_documents[_i], &config), 0);
    ck_assert(valid(schema, document));
    json_decref(document);
    config_fini(&config);
}
END_TEST

/* Compares a record's schema with its table, down to the last field. */
static void compare(const struct record *record, const json_t *rule, unsigned extra)
{
    const json_t *properties = json_object_get(rule, "properties");
    ck_assert_str_eq(json_string_value(json_object_get(rule, "type")), "object");
    ck_assert(json_is_false(json_object_get(rule, "additionalProperties")));
    ck_assert_ptr_nonnull(
        json_object_get(json_object_get(rule, "patternProperties"), "^x-"));
    ck_assert_uint_eq(json_object_size(properties), record->field_count + extra);
    for (unsigned i = 0; i < record->field_count; i++) {
        const struct field *field = &record->fields[i];
        const json_t *member = json_object_get(properties, field->name);
        ck_assert_msg(member != NULL, "%s.%s is missing", record->name, field->name);
        ck_assert_str_eq(json_string_value(json_object_get(member, "description")),
                         field->doc);
        if ((field->flags & FIELD_SERVER) != 0) {
            ck_assert(json_is_true(json_object_get(member, "readOnly")));
        } else if (field->type == FIELD_RECORD) {
            compare(field->record, member, 0);
        } else if (field->type == FIELD_LIST) {
            compare(field->record, json_object_get(member, "items"), 0);
        }
    }
}

START_TEST(every_kind_and_field_is_there)
{
    const struct kind_info *info = kind_info((enum kind)_i);
    const json_t *rule =
        json_object_get(json_object_get(schema, "definitions"), info->name);
    ck_assert_str_eq(json_string_value(json_object_get(schema, "$schema")),
                     "http://json-schema.org/draft-07/schema#");
    ck_assert_int_eq(rule != NULL, info->user_writable);
    if (rule != NULL) {
        compare(info->record, rule, 2); /* apiVersion, kind */
    }
}
END_TEST

START_TEST(memory_that_runs_out_gives_nothing)
{
    CLEANUP_FREE char *wanted = config_json_schema();
    bool done = !FAULT_HEAP_WORKS;
    long tries = 0;
    /* far apart at first: some thousands of allocations */
    for (long n = 0; !done; n += n < 300 ? 1 : 97) {
        fault_heap_after(n);
        char *text = config_json_schema();
        fault_heap_off();
        done = text != NULL;
        ck_assert(!done || strcmp(text, wanted) == 0);
        free(text);
        tries++;
    }
    ck_assert(!FAULT_HEAP_WORKS || tries > 300);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("json_schema");
    TCase *tests = tcase_create("json_schema");
    char *text = config_json_schema();
    if (text == NULL || json_parse(text, strlen(text), &schema, NULL) < 0 ||
        glob(CASES "pass-*.yaml", 0, NULL, &pass_cases) != 0) {
        return 1;
    }
    tcase_set_timeout(tests, 60);
    tcase_add_loop_test(tests, good_documents_are_good_to_the_schema, 0,
                        (int)pass_cases.gl_pathc);
    tcase_add_loop_test(tests, bad_documents_are_bad_to_both, 0,
                        ARRAY_COUNT(bad_documents));
    tcase_add_loop_test(tests, every_kind_and_field_is_there, 1, KIND_COUNT);
    tcase_add_loop_test(tests, good_documents_are_good_to_both, 0,
                        ARRAY_COUNT(good_documents));
    tcase_add_test(tests, memory_that_runs_out_gives_nothing);
    suite_add_tcase(suite, tests);
    int result = test_main_run(suite);
    globfree(&pass_cases);
    json_decref(schema);
    free(text);
    return result;
}
