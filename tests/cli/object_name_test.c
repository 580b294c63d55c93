/* Goal: names are taken apart as people write them, and paths and labels made of them.
 * (Finding them on a server: run_show_test.) */
#include "cli/object_name.h"
#include "cli_fixture.h"

static const struct name {
    const char *text;
    enum kind kind; /* of bare names */
    enum kind found;
    const char *tenant;
    const char *name;
    const char *path;
} names[] = {
    {"vm/web-1", KIND_NONE, KIND_VM, "", "web-1", "/v1/vms/web-1/x"},
    {"shop/vm/web-1", KIND_NONE, KIND_VM, "shop", "web-1",
     "/v1/tenants/shop/vms/web-1/x"},
    {"web-1", KIND_VM, KIND_VM, "", "web-1", "/v1/vms/web-1/x"},
    {"vms/web-1", KIND_VM, KIND_VM, "", "web-1", "/v1/vms/web-1/x"},
    {"Group/web", KIND_NONE, KIND_GROUP, "", "web", "/v1/groups/web/x"},
    {"host/h1", KIND_NONE, KIND_HOST, "", "h1", "/v1/hosts/h1/x"},
    {"h1", KIND_HOST, KIND_HOST, "", "h1", "/v1/hosts/h1/x"},
    {"shop/image/tiny", KIND_NONE, KIND_IMAGE, "shop", "tiny",
     "/v1/tenants/shop/images/tiny/x"},
};

START_TEST(a_name_is_taken_apart_and_has_its_path)
{
    struct object_name name;
    char path[REMOTE_PATH_SIZE];
    ck_assert_int_eq(object_name_parse(&cli, names[_i].text, names[_i].kind, &name),
                     EXIT_OK);
    ck_assert_int_eq(name.info->kind, names[_i].found);
    ck_assert_str_eq(name.tenant, names[_i].tenant);
    ck_assert_str_eq(name.name, names[_i].name);
    object_path(&name, "/x", path);
    ck_assert_str_eq(path, names[_i].path);
}
END_TEST

static const char *const bads[] = {
    "",
    "/",
    "//",
    "vm/",
    "/vm",
    "vm//a",
    "a//b",
    "vm/a/",
    "vm/A",
    "vm/-a",
    "vm/1a",
    "vm/a b",
    "vm/a/b/c",
    "shop/host/h1",
    "vm/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "%2e/vm/a",
};

START_TEST(a_name_that_is_none_is_refused_with_a_word_why)
{
    struct object_name name;
    ck_assert_int_eq(object_name_parse(&cli, bads[_i], KIND_NONE, &name), EXIT_USAGE);
    ck_assert_int_eq(strncmp(cli_err(), "berth: ", 7), 0);
}
END_TEST

START_TEST(a_label_leaves_out_what_was_said)
{
    char label[OBJECT_LABEL_SIZE];
    object_label(&cli, "vm", "shop", "web-1", label);
    ck_assert_str_eq(label, "shop/vm/web-1");
    object_label(&cli, "host", "", "h1", label);
    ck_assert_str_eq(label, "host/h1");
    cli.tenant = "shop";
    object_label(&cli, "vm", "shop", "web-1", label);
    ck_assert_str_eq(label, "vm/web-1");
    object_label(&cli, "vm", "bank", "web-1", label);
    ck_assert_str_eq(label, "bank/vm/web-1");
}
END_TEST

START_TEST(every_kind_is_known_by_name_word_and_plural)
{
    for (unsigned i = KIND_NONE + 1; i < KIND_COUNT; i++) {
        const struct kind_info *info = kind_info((enum kind)i);
        ck_assert_ptr_eq(object_kind(&cli, info->name), info);
        ck_assert_ptr_eq(object_kind(&cli, info->word), info);
        ck_assert_ptr_eq(object_kind(&cli, info->plural), info);
    }
    ck_assert_ptr_null(object_kind(&cli, "tenent"));
    ck_assert_contains(cli_err(), "did you mean \"tenant\"?");
}
END_TEST

int main(void)
{
    TCase *tests;
    Suite *suite = cli_suite("object_name", &tests);
    tcase_add_loop_test(tests, a_name_is_taken_apart_and_has_its_path, 0,
                        sizeof(names) / sizeof(names[0]));
    tcase_add_loop_test(tests, a_name_that_is_none_is_refused_with_a_word_why, 0,
                        sizeof(bads) / sizeof(bads[0]));
    tcase_add_test(tests, a_label_leaves_out_what_was_said);
    tcase_add_test(tests, every_kind_is_known_by_name_word_and_plural);
    return test_main_run(suite);
}
