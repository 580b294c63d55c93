/* Goal: what users write is read exactly, or every fault is told at its place.
 * Method: pairs of files in cases/ (pass-*.yaml with .json, fail-*.yaml with .txt; a new
 * case is two files, BERTH_WRITE_DOCS=1 writes the second), the examples, and the limits.
 */
#include "config/config.h"
#include "config_fixture.h"
#include "support/fault_heap.h"
#include "support/test_main.h"

#include <errno.h>
#include <glob.h>
#include <stdio.h>

#define CASES BERTH_SOURCE_DIR "/tests/config/cases/"

static glob_t pass_cases;
static glob_t fail_cases;
static glob_t examples;

/* "dir/pass-x.yaml" as "dir/pass-x.json". */
static char *beside(const char *path, const char *ending)
{
    char *other = NULL;
    ck_assert_int_gt(
        asprintf(&other, "%.*s.%s", (int)(strlen(path) - strlen(".yaml")), path, ending),
        0);
    return other;
}

static int read_case(const char *path, struct config *ret_config)
{
    size_t size = 0;
    CLEANUP_FREE char *text = fixture_file(path, &size);
    ck_assert_ptr_nonnull(text);
    return config_read(strrchr(path, '/') + 1, text, size, ret_config);
}

START_TEST(a_good_file_gives_its_objects)
{
    struct config config;
    const char *path = pass_cases.gl_pathv[_i];
    CLEANUP_FREE char *golden = beside(path, "json");

    int r = read_case(path, &config);
    CLEANUP_FREE char *faults = fixture_faults(&config);
    json_t *documents = fixture_documents(&config);
    CLEANUP_FREE char *text = json_text_pretty(documents);
    CLEANUP_FREE char *line = NULL;

    ck_assert_msg(r == 0, "%s", faults);
    ck_assert_uint_eq(config.error_count, 0);
    ck_assert_int_gt(asprintf(&line, "%s\n", text), 0);
    fixture_check_golden(golden, line);
    json_decref(documents);
    config_fini(&config);
}
END_TEST

START_TEST(a_bad_file_tells_every_fault)
{
    struct config config;
    const char *path = fail_cases.gl_pathv[_i];
    CLEANUP_FREE char *golden = beside(path, "txt");

    int r = read_case(path, &config);
    CLEANUP_FREE char *faults = fixture_faults(&config);

    ck_assert_int_eq(r, BERTH_EINVALID);
    ck_assert_uint_gt(config.error_count, 0);
    fixture_check_golden(golden, faults);
    config_fini(&config);
}
END_TEST

START_TEST(the_examples_are_good)
{
    struct config config;
    int r = read_case(examples.gl_pathv[_i], &config);
    CLEANUP_FREE char *faults = fixture_faults(&config);
    ck_assert_msg(r == 0, "%s", faults);
    ck_assert_str_eq(faults, "");
    config_fini(&config);
}
END_TEST

START_TEST(what_is_shown_can_be_read_again)
{
    struct config config;
    struct config again;
    ck_assert_int_eq(read_case(pass_cases.gl_pathv[_i], &config), 0);
    for (unsigned i = 0; i < config.object_count; i++) {
        const struct config_object *object = &config.objects[i];
        json_t *document = document_of(object->kind, object->object, true);
        CLEANUP_FREE char *text = json_text_pretty(document);

        ck_assert_int_eq(fixture_read(text, &again), 0);

        ck_assert_uint_eq(again.object_count, 1);
        ck_assert_int_eq(again.objects[0].kind, object->kind);
        ck_assert(record_equal(kind_info(object->kind)->record, object->object,
                               again.objects[0].object));
        json_decref(document);
        config_fini(&again);
    }
    config_fini(&config);
}
END_TEST

START_TEST(memory_that_runs_out_is_told)
{
    size_t size = 0;
    CLEANUP_FREE char *text = fixture_file(
        _i == 0 ? CASES "pass-template-full.yaml" : CASES "fail-every-kind-of-fault.yaml",
        &size);
    long last = 0;
    ck_assert_ptr_nonnull(text);
    for (long n = 0; FAULT_HEAP_WORKS; n++) {
        struct config config;
        fault_heap_after(n);
        int r = config_read("a.yaml", text, size, &config);
        fault_heap_off();
        config_fini(&config);
        last = n;
        if (r != -ENOMEM) {
            ck_assert_int_eq(r, _i == 0 ? 0 : BERTH_EINVALID);
            break;
        }
    }
    ck_assert(!FAULT_HEAP_WORKS || last > 20);
}
END_TEST

START_TEST(a_file_larger_than_the_limit_is_refused)
{
    CLEANUP_FREE char *text = malloc(CONFIG_SIZE_MAX + 2);
    struct config config;
    memset(text, '#', CONFIG_SIZE_MAX + 1);
    ck_assert_int_eq(config_read("a.yaml", text, CONFIG_SIZE_MAX + 1, &config),
                     BERTH_ETOOLARGE);
    ck_assert_str_eq(config.faults[0].code, "BE1111");
    config_fini(&config);
    ck_assert_int_eq(config_read("a.yaml", text, CONFIG_SIZE_MAX, &config),
                     BERTH_EINVALID);
    ck_assert_str_eq(config.faults[0].message, "the file holds no object");
    config_fini(&config);
}
END_TEST

static char *many_tenants(unsigned count)
{
    char *text = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&text, &size);
    for (unsigned i = 0; i < count; i++) {
        (void)fprintf(stream,
                      "---\napiVersion: berth/v1\nkind: Tenant\nmetadata: {name: t%u}\n",
                      i);
    }
    ck_assert_int_eq(fclose(stream), 0);
    return text;
}

START_TEST(more_objects_than_the_limit_are_refused)
{
    struct config config;
    CLEANUP_FREE char *fits = many_tenants(CONFIG_OBJECTS_MAX);
    CLEANUP_FREE char *more = many_tenants(CONFIG_OBJECTS_MAX + 1);
    ck_assert_int_eq(fixture_read(fits, &config), 0);
    ck_assert_uint_eq(config.object_count, CONFIG_OBJECTS_MAX);
    ck_assert_uint_eq(config.objects[CONFIG_OBJECTS_MAX - 1].line,
                      4 * CONFIG_OBJECTS_MAX - 2);
    config_fini(&config);
    ck_assert_int_eq(fixture_read(more, &config), BERTH_EINVALID);
    ck_assert_uint_eq(config.fault_count, 1);
    ck_assert_str_eq(config.faults[0].code, "BE1111");
    ck_assert_uint_eq(config.faults[0].line, 4 * CONFIG_OBJECTS_MAX + 2);
    config_fini(&config);
}
END_TEST

#define ITEM(name) "- {apiVersion: berth/v1, kind: Tenant, metadata: {name: " name "}}\n"

START_TEST(a_list_of_objects_is_what_its_items_are)
{
    struct config config;
    ck_assert_int_eq(fixture_read("items:\n" ITEM("a") ITEM("b") "revision: 7\n---\n"
                                                                 "items: []\n",
                                  &config),
                     0);
    ck_assert_uint_eq(config.object_count, 2);
    ck_assert_str_eq(object_meta(config.objects[1].object)->name, "b");
    ck_assert_uint_eq(config.objects[1].line, 3);
    config_fini(&config);
    ck_assert_int_eq(
        fixture_read("items:\n" ITEM("a") ITEM("a") "- 7\nship: 1\n", &config),
        BERTH_EINVALID);
    ck_assert_uint_eq(config.fault_count, 3);
    ck_assert_uint_eq(config.faults[0].line, 3); /* twice */
    ck_assert_str_eq(config.faults[0].code, "BE1102");
    ck_assert_uint_eq(config.faults[1].line, 4); /* no mapping */
    ck_assert_str_eq(config.faults[1].code, "BE1105");
    ck_assert_uint_eq(config.faults[2].line, 5);
    ck_assert_str_eq(config.faults[2].code, "BE1103");
    config_fini(&config);
}
END_TEST

START_TEST(errors_are_kept_before_warnings)
{
    struct config config;
    char *text = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&text, &size);
    for (unsigned i = 0; i < CONFIG_FAULTS_MAX + 5; i++) {
        (void)fprintf(stream,
                      "---\napiVersion: berth/v1\nkind: Tenant\n"
                      "metadata: {name: t%u, uid: 1}\n",
                      i);
    }
    (void)fputs("---\nkind: Tenant\nmetadata: {name: last}\n", stream);
    ck_assert_int_eq(fclose(stream), 0);

    ck_assert_int_eq(fixture_read(text, &config), BERTH_EINVALID);

    ck_assert_uint_eq(config.warning_count, CONFIG_FAULTS_MAX + 5);
    ck_assert_uint_eq(config.error_count, 1);
    ck_assert_uint_eq(config.fault_count, CONFIG_FAULTS_MAX);
    ck_assert(!config.faults[CONFIG_FAULTS_MAX - 1].warning);
    config_fini(&config);
    free(text);
}
END_TEST

#define HANDWRITTEN "apiVersion: berth/v1\nkind: VM\nmetadata:\n  name: a\n  uid: 7\n"
#define SERVERS                                                                          \
    "spec:\n  template: {name: web}\n  group: web\n  machine: {image: linux}\nstatus:\n" \
    "  phase: ready\n  live: {cpuPermille: 3}\n"

START_TEST(what_the_server_has_printed_is_read_without_a_word)
{
    struct config config;
    ck_assert_int_eq(
        fixture_read(HANDWRITTEN "  created: 2026-11-23T09:15:04Z\n" SERVERS, &config),
        0);
    ck_assert_uint_eq(config.object_count, 1);
    ck_assert_uint_eq(config.warning_count, 0);
    ck_assert_str_eq(((const struct vm *)config.objects[0].object)->spec.group, "");
    config_fini(&config);
    ck_assert_int_eq(fixture_read(HANDWRITTEN SERVERS, &config), 0);
    ck_assert_uint_eq(config.warning_count, 4);
    config_fini(&config);
}
END_TEST

START_TEST(bytes_behind_the_size_are_not_read)
{
    static const char text[] = "apiVersion: berth/v1\nkind: Tenant\nmetadata: {name: a}\n"
                               "nonsense: true\n";
    struct config config;
    size_t size = (size_t)(strstr(text, "nonsense") - text);
    ck_assert_int_eq(config_read("a.yaml", text, size, &config), 0);
    ck_assert_uint_eq(config.object_count, 1);
    config_fini(&config);
}
END_TEST

START_TEST(a_path_leads_to_its_place_in_its_document)
{
    static const struct {
        const char *path;
        unsigned line;
        unsigned column;
        unsigned width;
    } rows[] = {
        {"spec.replicas", 10, 13, 1},
        {"spec.template.name", 9, 20, 3},
        {"spec.template.nothing", 9, 3, 8}, /* what is nearest above it */
        {"metadata.name", 7, 18, 3},
    };
    static const char text[] = "apiVersion: berth/v1\nkind: Tenant\nmetadata: {name: a}\n"
                               "---\napiVersion: berth/v1\nkind: Group\n"
                               "metadata: {name: web}\nspec:\n  template: {name: one}\n"
                               "  replicas: 2\n";
    struct config config;
    ck_assert_int_eq(config_read("a.yaml", text, sizeof(text) - 1, &config), 0);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct config_fault fault = {0};
        config_locate(&config, 1, rows[i].path, &fault);
        ck_assert_uint_eq(fault.line, rows[i].line);
        ck_assert_uint_eq(fault.column, rows[i].column);
        ck_assert_uint_eq(fault.width, rows[i].width);
    }
    config_fini(&config);
}
END_TEST

static Suite *config_suite(void)
{
    Suite *suite = suite_create("config");
    TCase *cases = tcase_create("cases");
    TCase *limits = tcase_create("limits");
    int pass_count = (int)pass_cases.gl_pathc;
    tcase_add_loop_test(cases, a_good_file_gives_its_objects, 0, pass_count);
    tcase_add_loop_test(cases, a_bad_file_tells_every_fault, 0, (int)fail_cases.gl_pathc);
    tcase_add_loop_test(cases, the_examples_are_good, 0, (int)examples.gl_pathc);
    tcase_add_loop_test(cases, what_is_shown_can_be_read_again, 0, pass_count);
    tcase_add_loop_test(limits, memory_that_runs_out_is_told, 0, 2);
    tcase_add_test(limits, a_file_larger_than_the_limit_is_refused);
    tcase_add_test(limits, more_objects_than_the_limit_are_refused);
    tcase_add_test(limits, what_the_server_has_printed_is_read_without_a_word);
    tcase_add_test(limits, a_list_of_objects_is_what_its_items_are);
    tcase_add_test(limits, errors_are_kept_before_warnings);
    tcase_add_test(limits, bytes_behind_the_size_are_not_read);
    tcase_add_test(limits, a_path_leads_to_its_place_in_its_document);
    tcase_set_timeout(limits, 60);
    suite_add_tcase(suite, cases);
    suite_add_tcase(suite, limits);
    return suite;
}

int main(void)
{
    int result = 1;
    if (glob(CASES "pass-*.yaml", 0, NULL, &pass_cases) == 0 &&
        glob(CASES "fail-*.yaml", 0, NULL, &fail_cases) == 0 &&
        glob(BERTH_SOURCE_DIR "/examples/*.yaml", 0, NULL, &examples) == 0) {
        result = test_main_run(config_suite());
    }
    globfree(&pass_cases);
    globfree(&fail_cases);
    globfree(&examples);
    return result;
}
