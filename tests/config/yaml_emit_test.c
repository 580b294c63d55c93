/* Goal: what is shown as YAML reads well and is read back as what it was.
 * Method: exact texts for the look; every pass case and a table of awkward texts there
 * and back again. */
#include "config/yaml_emit.h"
#include "config_fixture.h"
#include "support/fault_heap.h"
#include "support/test_main.h"

#include <glob.h>
#include <stdio.h>

#define CASES BERTH_SOURCE_DIR "/tests/config/cases/"

static glob_t pass_cases;

static const struct {
    const char *json;
    const char *yaml;
} look_rows[] = {
    {"{\"a\":1,\"b\":{\"c\":[\"x\",{\"d\":true,\"e\":null}]}}",
     "a: 1\nb:\n  c:\n  - x\n  - d: true\n    e: null\n"},
    {"{\"a\":{},\"b\":[]}", "a: {}\nb: []\n"},
    {"{\"z\":\"1GiB\",\"a\":\"10.20.0.0/24\",\"m\":\"60%\"}",
     "z: 1GiB\na: 10.20.0.0/24\nm: 60%\n"},
    {"[0.1,2.5,3.0,1e300]", "- 0.1\n- 2.5\n- 3.0\n- 1e+300\n"},
    {"{\"a\":-9223372036854775808}", "a: -9223372036854775808\n"},
    {"{\"true\":\"true\",\"1\":\"1\"}", "\"true\": \"true\"\n\"1\": \"1\"\n"},
    {"{\"a\":\"Gr\\u00f6\\u00dfe\"}", "a: Gr\xc3\xb6\xc3\x9f"
                                      "e\n"},
};

START_TEST(documents_look_as_people_write_them)
{
    json_t *document = NULL;
    const char *json = look_rows[_i].json;
    ck_assert_int_eq(json_parse(json, strlen(json), &document, NULL), 0);
    CLEANUP_FREE char *text = yaml_emit(document);
    ck_assert_str_eq(text, look_rows[_i].yaml);
    json_decref(document);
}
END_TEST

static const char *const quoted_words[] = {
    "",     "~",     "null",       "Null",  "yes",  "No",   "ON",  "off",
    "true", "FALSE", "y",          "1",     "-1",   "1.5",  "1e3", "0x1f",
    "0o7",  "1_000", "2026-11-23", "12:30", ".inf", ".NaN", "<<",  "="};

START_TEST(words_that_are_no_texts_elsewhere_are_quoted)
{
    json_t *document = json_pack("[s]", quoted_words[_i]);
    CLEANUP_FREE char *text = yaml_emit(document);
    CLEANUP_FREE char *wanted = NULL;
    ck_assert_int_gt(asprintf(&wanted, "- \"%s\"\n", quoted_words[_i]), 0);
    ck_assert_str_eq(text, wanted);
    json_decref(document);
}
END_TEST

static const char *const awkward_texts[] = {
    "",    " leading", "trailing ",  "a: b",         "a #b", "- a",     "[a",
    "{a",  "'quoted'", "\"quoted\"", "back\\slash",  "%a",   "@a",      "`a",
    "!a",  "&a",       "*a",         "two  spaces",  "a:",   "tab\tin", "? a",
    "| a", "> a",      "#a",         "\xe6\x9d\xb1", "null", "0x10",    "---",
    "...", "1,5",      "a,b",        "\xc2\xa0nbsp"};

START_TEST(awkward_texts_come_back)
{
    json_t *document = json_pack("{s:s, s:s, s:{s:s}, s:{s:s}}", "apiVersion", "berth/v1",
                                 "kind", "Tenant", "metadata", "name", "a", "spec",
                                 "displayName", awkward_texts[_i]);
    struct config config;
    CLEANUP_FREE char *text = yaml_emit(document);
    int r = fixture_read(text, &config);
    CLEANUP_FREE char *faults = fixture_faults(&config);
    bool control = strchr(awkward_texts[_i], '\t') != NULL; /* read, then refused */

    ck_assert_msg(control || r == 0, "%s\n%s", text, faults);
    const struct tenant *tenant = config.objects[0].object;
    ck_assert_str_eq(tenant->spec.display_name, awkward_texts[_i]);
    json_decref(document);
    config_fini(&config);
}
END_TEST

START_TEST(objects_come_back_equal)
{
    struct config config;
    size_t size = 0;
    CLEANUP_FREE char *file = fixture_file(pass_cases.gl_pathv[_i], &size);
    ck_assert_int_eq(config_read("a.yaml", file, size, &config), 0);
    for (unsigned i = 0; i < config.object_count; i++) {
        const struct config_object *object = &config.objects[i];
        json_t *document = document_of(object->kind, object->object, i % 2 == 0);
        struct config again;

        CLEANUP_FREE char *text = yaml_emit(document);
        int r = fixture_read(text, &again);
        CLEANUP_FREE char *faults = fixture_faults(&again);

        ck_assert_msg(r == 0, "%s\n%s", text, faults);
        ck_assert(record_equal(kind_info(object->kind)->record, object->object,
                               again.objects[0].object));
        json_decref(document);
        config_fini(&again);
    }
    config_fini(&config);
}
END_TEST

START_TEST(a_document_too_deep_is_refused)
{
    json_t *document = json_array();
    for (unsigned i = 0; i < 100; i++) {
        document = json_pack("[o]", document);
    }
    ck_assert_ptr_null(yaml_emit(document));
    json_decref(document);
}
END_TEST

START_TEST(memory_that_runs_out_gives_nothing)
{
    json_t *document = json_pack("{s:[s,s], s:{s:b}}", "list", "a", "b", "map", "yes", 1);
    bool done = !FAULT_HEAP_WORKS;
    for (long n = 0; !done; n++) {
        fault_heap_after(n);
        char *text = yaml_emit(document);
        fault_heap_off();
        done = text != NULL;
        ck_assert(!done || strcmp(text, "list:\n- a\n- b\nmap:\n  \"yes\": true\n") == 0);
        free(text);
        ck_assert_int_lt(n, 1000);
    }
    json_decref(document);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("yaml_emit");
    TCase *tests = tcase_create("yaml_emit");
    if (glob(CASES "pass-*.yaml", 0, NULL, &pass_cases) != 0) {
        return 1;
    }
    tcase_add_loop_test(tests, documents_look_as_people_write_them, 0,
                        ARRAY_COUNT(look_rows));
    tcase_add_loop_test(tests, words_that_are_no_texts_elsewhere_are_quoted, 0,
                        ARRAY_COUNT(quoted_words));
    tcase_add_loop_test(tests, awkward_texts_come_back, 0, ARRAY_COUNT(awkward_texts));
    tcase_add_loop_test(tests, objects_come_back_equal, 0, (int)pass_cases.gl_pathc);
    tcase_add_test(tests, a_document_too_deep_is_refused);
    tcase_add_test(tests, memory_that_runs_out_gives_nothing);
    suite_add_tcase(suite, tests);
    int result = test_main_run(suite);
    globfree(&pass_cases);
    return result;
}
