/* Goal: an object's text is what a tree of it would be printed as, whole, in parts, and
 * with a status that has more than the stored one.
 * Method: random objects of every kind, written and read back by jansson. */
#include "base/cleanup.h"
#include "base/err.h"
#include "model/document.h"
#include "model/document_write.h"
#include "record_fixture.h"
#include "support/test_main.h"

#define SEEDS 60

static char *text_of(enum kind kind, const void *object, const struct document_view *view)
{
    struct bytes_writer text;
    struct json_writer writer;
    char *taken = NULL;
    bytes_writer_init(&text, 1 << 20);
    json_writer_init(&writer, &text);
    document_write(kind, object, view, &writer);
    ck_assert_int_eq(bytes_writer_take_text(&text, &taken), 0);
    return taken;
}

static json_t *tree_of(const char *text)
{
    json_t *tree = NULL;
    struct err err = {0};
    int r = json_parse(text, strlen(text), &tree, &err);
    ck_assert_msg(r == 0, "%s: %s", err.text, text);
    return tree;
}

static json_t *parts_of(enum kind kind,
                        const void *object,
                        bool full,
                        const struct document_parts *parts)
{
    CLEANUP_FREE char *text =
        text_of(kind, object, &(struct document_view){.full = full, .parts = parts});
    return tree_of(text);
}

START_TEST(the_text_is_what_jansson_prints_of_it)
{
    const struct kind_info *info = kind_info((enum kind)_i);
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct random random;
        CLEANUP_FREE void *object = malloc(info->record->size_bytes);
        random_seed(&random, seed);
        fixture_fill(info->record, object, &random, 0);
        CLEANUP_FREE char *text =
            text_of(info->kind, object, &(struct document_view){.full = seed % 2 == 0});
        json_t *tree = tree_of(text); /* which refuses the same key twice */
        CLEANUP_FREE char *printed = json_text(tree);
        ck_assert_str_eq(text, printed);
        json_decref(tree);
        record_fini(info->record, object);
    }
}
END_TEST

START_TEST(parts_are_the_document_without_the_rest)
{
    const struct kind_info *info = kind_info((enum kind)_i);
    static const char *const names[] = {"metadata", "spec", "status"};
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct random random;
        CLEANUP_FREE void *object = malloc(info->record->size_bytes);
        random_seed(&random, seed);
        fixture_fill(info->record, object, &random, 0);
        json_t *whole = document_of(info->kind, object, seed % 2 == 0);
        for (unsigned wanted = 0; wanted < 8; wanted++) {
            struct document_parts parts = {0};
            json_t *some = json_deep_copy(whole);
            for (unsigned i = 0; i < 3; i++) {
                if ((wanted & (1U << i)) == 0 ||
                    !document_parts_add(&parts, info->kind, names[i])) {
                    json_object_del(some, names[i]);
                }
            }
            json_t *made = parts_of(info->kind, object, seed % 2 == 0, &parts);
            ck_assert(json_equal(made, some));
            json_decref(made);
            json_decref(some);
        }
        json_decref(whole);
        record_fini(info->record, object);
    }
}
END_TEST

START_TEST(members_are_asked_for_by_their_path)
{
    struct document_parts parts = {0};
    struct template *template = object_new(KIND_TEMPLATE);
    strcpy(template->meta.name, "web");
    strcpy(template->meta.tenant, "shop");
    strcpy(template->spec.image, "debian");
    ck_assert(document_parts_add(&parts, KIND_TEMPLATE, "metadata.name"));
    ck_assert(document_parts_add(&parts, KIND_TEMPLATE, "spec.engine"));
    ck_assert(!document_parts_add(&parts, KIND_TEMPLATE, "spec.replicas"));
    ck_assert(!document_parts_add(&parts, KIND_TEMPLATE, "spec.memory.size"));
    ck_assert(!document_parts_add(&parts, KIND_TEMPLATE, "spec."));
    ck_assert(!document_parts_add(&parts, KIND_TEMPLATE, "spe"));
    ck_assert(!document_parts_add(&parts, KIND_TEMPLATE, ""));
    ck_assert(!document_parts_add(&parts, KIND_NONE, "metadata"));
    json_t *made = parts_of(KIND_TEMPLATE, template, false, &parts);
    CLEANUP_FREE char *text = json_text(made);
    CLEANUP_FREE char *wanted = fixture_quotes(
        "{'apiVersion':'berth/v1','kind':'Template','metadata':{'name':'web'}}");
    ck_assert_str_eq(text, wanted); /* the engine is at its default */
    json_decref(made);
    object_free(KIND_TEMPLATE, template);
}
END_TEST

/* As if each member were set in the tree, one after the other. */
START_TEST(a_status_goes_over_the_stored_one)
{
    const struct kind_info *info = kind_info(KIND_VM);
    json_t *status = tree_of("{\"reason\":\"it waits\",\"live\":{\"cpu\":1.5},"
                             "\"phase\":\"ready\",\"more\":null}");
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        struct random random;
        CLEANUP_FREE void *object = malloc(info->record->size_bytes);
        random_seed(&random, seed);
        fixture_fill(info->record, object, &random, 0);
        bool full = seed % 2 == 0;
        json_t *tree = document_of(KIND_VM, object, full);
        json_t *stored = json_object_get(tree, "status");
        if (stored != NULL) {
            json_object_update(stored, status);
        } else {
            json_object_set(tree, "status", status);
        }
        CLEANUP_FREE char *text = text_of(
            KIND_VM, object, &(struct document_view){.full = full, .status = status});
        CLEANUP_FREE char *wanted = json_text(tree);
        ck_assert_str_eq(text, wanted);
        json_decref(tree);
        record_fini(info->record, object);
    }
    json_decref(status);
}
END_TEST

START_TEST(a_status_is_shown_where_none_is_stored)
{
    struct vm *vm = object_new(KIND_VM);
    struct document_parts parts = {0};
    json_t *status = tree_of("{\"host\":\"h1\"}");
    json_t *none = json_object();
    strcpy(vm->meta.name, "web-0");
    ck_assert(document_parts_add(&parts, KIND_VM, "status"));
    CLEANUP_FREE char *shown =
        text_of(KIND_VM, vm, &(struct document_view){.parts = &parts, .status = status});
    CLEANUP_FREE char *empty =
        text_of(KIND_VM, vm, &(struct document_view){.parts = &parts, .status = none});
    CLEANUP_FREE char *wanted =
        fixture_quotes("{'apiVersion':'berth/v1','kind':'VM','status':{'host':'h1'}}");
    CLEANUP_FREE char *bare = fixture_quotes("{'apiVersion':'berth/v1','kind':'VM'}");
    ck_assert_str_eq(shown, wanted);
    ck_assert_str_eq(empty, bare);
    json_decref(none);
    json_decref(status);
    object_free(KIND_VM, vm);
}
END_TEST

START_TEST(a_text_without_room_says_so)
{
    struct template *template = object_new(KIND_TEMPLATE);
    struct bytes_writer text;
    struct json_writer writer;
    bytes_writer_init(&text, 20);
    json_writer_init(&writer, &text);
    document_write(KIND_TEMPLATE, template, &(struct document_view){0}, &writer);
    ck_assert_int_eq(text.error, BERTH_ETOOLARGE);
    bytes_writer_fini(&text);
    object_free(KIND_TEMPLATE, template);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("document_write");
    TCase *tcase = tcase_create("document_write");
    tcase_add_loop_test(tcase, the_text_is_what_jansson_prints_of_it, 1, KIND_COUNT);
    tcase_add_loop_test(tcase, parts_are_the_document_without_the_rest, 1, KIND_COUNT);
    tcase_add_test(tcase, members_are_asked_for_by_their_path);
    tcase_add_test(tcase, a_status_goes_over_the_stored_one);
    tcase_add_test(tcase, a_status_is_shown_where_none_is_stored);
    tcase_add_test(tcase, a_text_without_room_says_so);
    suite_add_tcase(suite, tcase);
    return test_main_run(suite);
}
