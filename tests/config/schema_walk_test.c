/* Goal: places and near words are found; mappings have an end. */
#include "config/schema_walk.h"
#include "config_fixture.h"
#include "support/test_main.h"

static const char *const fields[] = {"image", "memory", "cpu", "nics", "disks"};

static const struct {
    const char *word;
    const char *near;
} near_rows[] = {
    {"memroy", "memory"}, {"memory", "memory"}, {"Memory", "memory"},
    {"mem", NULL},        {"imgae", "image"},   {"images", "image"},
    {"dsik", "disks"},    {"nic", "nics"},      {"c", NULL},
    {"xy", NULL},         {"", NULL},           {"filesystem", NULL},
};

START_TEST(the_nearest_word_is_what_was_meant)
{
    const char *near = nearest_word(near_rows[_i].word, fields, ARRAY_COUNT(fields));
    ck_assert_pstr_eq(near, near_rows[_i].near);
}
END_TEST

START_TEST(words_too_long_for_a_typo_have_no_neighbour)
{
    char word[200];
    memset(word, 'a', sizeof(word) - 1);
    word[sizeof(word) - 1] = '\0';
    ck_assert_ptr_null(nearest_word(word, fields, ARRAY_COUNT(fields)));
}
END_TEST

START_TEST(a_place_is_the_path_s_or_the_one_above)
{
    struct place items[] = {
        {.path = "spec", .width = 1},
        {.path = "spec.nics", .width = 2},
        {.path = "spec.nics[1]", .width = 3},
        {.path = "spec.nics[1].name", .width = 4},
    };
    struct place_list list = {.items = items, .count = ARRAY_COUNT(items)};
    struct place_list none = {0};
    ck_assert_uint_eq(place_find(&list, "spec.nics[1].name")->width, 4);
    ck_assert_uint_eq(place_find(&list, "spec.nics[1].network")->width, 3);
    ck_assert_uint_eq(place_find(&list, "spec.nics[0].name")->width, 2);
    ck_assert_uint_eq(place_find(&list, "spec.memory.size")->width, 1);
    ck_assert_uint_eq(place_find(&list, "metadata.name")->width, 1);
    ck_assert_ptr_null(place_find(&none, "spec"));
}
END_TEST

static char *tenant_with_keys(unsigned count)
{
    char *text = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&text, &size);
    (void)fputs("apiVersion: berth/v1\nkind: Tenant\nmetadata:\n  name: a\n", stream);
    for (unsigned i = 1; i < count; i++) {
        (void)fprintf(stream, "  x-%u: 1\n", i);
    }
    ck_assert_int_eq(fclose(stream), 0);
    return text;
}

START_TEST(a_mapping_has_an_end)
{
    struct config config;
    CLEANUP_FREE char *fits = tenant_with_keys(CONFIG_MAP_KEYS_MAX);
    CLEANUP_FREE char *more = tenant_with_keys(CONFIG_MAP_KEYS_MAX + 1);
    ck_assert_int_eq(fixture_read(fits, &config), 0);
    config_fini(&config);
    ck_assert_int_eq(fixture_read(more, &config), BERTH_EINVALID);
    ck_assert_uint_eq(config.error_count, 1);
    ck_assert_str_eq(config.faults[0].code, "BE1111");
    config_fini(&config);
}
END_TEST

START_TEST(the_longest_name_fits_and_one_more_does_not)
{
    static const char head[] = "apiVersion: berth/v1\nkind: Tenant\nmetadata: {name: ";
    char text[256];
    char name[NAME_SIZE + 1];
    struct config config;
    memset(name, 'a', NAME_SIZE);
    name[NAME_SIZE - 1] = '\0';
    (void)snprintf(text, sizeof(text), "%s%s}\n", head, name);
    ck_assert_int_eq(fixture_read(text, &config), 0);
    ck_assert_str_eq(object_meta(config.objects[0].object)->name, name);
    config_fini(&config);
    name[NAME_SIZE - 1] = 'a';
    name[NAME_SIZE] = '\0';
    (void)snprintf(text, sizeof(text), "%s%s}\n", head, name);
    ck_assert_int_eq(fixture_read(text, &config), BERTH_EINVALID);
    config_fini(&config);
}
END_TEST

/* Every field that users write is known by its name, whatever is wrong with its value. */
START_TEST(every_field_of_the_tables_is_known)
{
    const struct kind_info *info = kind_info((enum kind)_i);
    if (!info->user_writable) {
        return;
    }
    for (unsigned i = 0; i < info->record->field_count; i++) {
        char text[256];
        struct config config;
        (void)snprintf(text, sizeof(text), "apiVersion: berth/v1\nkind: %s\n%s: [{}]\n",
                       info->name, info->record->fields[i].name);
        (void)fixture_read(text, &config); /* faults are expected, of other kinds */
        for (unsigned j = 0; j < config.fault_count; j++) {
            ck_assert_str_ne(config.faults[j].code, "BE1103");
        }
        config_fini(&config);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("schema_walk");
    TCase *tests = tcase_create("schema_walk");
    tcase_add_loop_test(tests, the_nearest_word_is_what_was_meant, 0,
                        ARRAY_COUNT(near_rows));
    tcase_add_test(tests, words_too_long_for_a_typo_have_no_neighbour);
    tcase_add_test(tests, a_place_is_the_path_s_or_the_one_above);
    tcase_add_test(tests, a_mapping_has_an_end);
    tcase_add_test(tests, the_longest_name_fits_and_one_more_does_not);
    tcase_add_loop_test(tests, every_field_of_the_tables_is_known, 1, KIND_COUNT);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
