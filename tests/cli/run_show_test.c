/* Goal: one object is shown whole, by whatever name people give it, or what was perhaps
 * meant is said. (The names are cli/object_name.c's.) */
#include "base/cleanup.h"
#include "berth_fixture.h"

#define VM(tenant, name)                                                              \
    "---\napiVersion: berth/v1\nkind: VM\nmetadata: {name: " name ", tenant: " tenant \
    "}\nspec: {template: {name: small}}\n"
#define TENANT(tenant)                                                                   \
    "---\napiVersion: berth/v1\nkind: Tenant\nmetadata: {name: " tenant "}\n"            \
    "---\napiVersion: berth/v1\nkind: Template\nmetadata: {name: small, tenant: " tenant \
    "}\nspec: {image: linux, memory: {size: 64MiB}}\n"

static void show_start(void)
{
    fixture_start();
    ck_assert_int_eq(berth_fed("apply - --wait",
                               TENANT("shop") TENANT("bank") VM("shop", "web-1")
                                   VM("shop", "jump") VM("bank", "jump")),
                     0);
}

START_TEST(a_vm_is_shown_with_its_boot_its_yaml_and_its_events)
{
    assert_ran("show vm/web-1", 0);
    assert_like(ran.out, "NAME       web-1\n"
                         "TENANT     shop\n"
                         "PHASE      ready\n"
                         "HOST       h[123]\n"
                         "CPU        2%\n"
                         "AGE        *\n"
                         "TEMPLATE   small\n"
                         "EPOCH      1\n"
                         "BOOT       pending *: ready after *\n"
                         "\nspec:\n*template:\n*name: small*"
                         "\nEvents\n"
                         "*shop/vm/web-1 *created*"
                         "*shop/vm/web-1 *ready*");
    assert_ran("show vm/web-1 -o json", 0);
    json_t *document = NULL;
    ck_assert_int_eq(json_parse(ran.out, strlen(ran.out), &document, NULL), 0);
    ck_assert_str_eq(json_member_text(document, "kind", ""), "VM");
    json_decref(document);
    assert_ran("show vm/web-1 -o name", 0);
    ck_assert_str_eq(ran.out, "shop/vm/web-1\n");
    assert_ran("show vm/web-1 -o yaml", 0);
    ck_assert_int_eq(strncmp(ran.out, "apiVersion: berth/v1\n", 20), 0);
}
END_TEST

START_TEST(what_is_shown_as_yaml_is_applied_without_a_word)
{
    static const char *const names[] = {"vm/web-1", "template/small", "tenant/shop"};
    for (size_t i = 0; i < ARRAY_COUNT(names); i++) {
        char line[128];
        snprintf(line, sizeof(line), "show %s -t shop -o yaml", names[i]);
        assert_ran(line, 0);
        CLEANUP_FREE char *shown = strdup(ran.out);
        ck_assert_int_eq(berth_fed("plan - -q", shown), 0);
        ck_assert_contains(ran.out, "unchanged");
        ck_assert_str_eq(ran.err, "");
    }
}
END_TEST

static const struct name {
    const char *line;
    int code;
    const char *said; /* in out or err */
} names[] = {
    {"show shop/vm/jump", 0, "TENANT     shop"},
    {"show vm/jump -t bank", 0, "TENANT     bank"},
    {"show vms/web-1", 0, "NAME       web-1"},
    {"show VM/web-1", 0, "NAME       web-1"},
    {"console web-1 --no-follow", 0, "login: "},
    {"show vm/jump", 2, "2 tenants have a vm \"jump\": choose with -t (bank, shop)"},
    {"show vm/web-2", 3, "berth: vm/web-2 is not there; did you mean \"web-1\"?"},
    {"show shop/vm/wbe-1", 3, "did you mean"},
    {"show vm/nothing-like-it", 3, "berth: vm/nothing-like-it is not there; berth ls vm"},
    {"show web-1", 2, "\"web-1\": say its kind, such as vm/web-1"},
    {"show vn/web-1", 2, "there is no kind \"vn\"; did you mean \"vm\"?"},
    {"show vm/", 2, "a name has 1 to 63 characters"},
    {"show /web-1", 2, "there is no kind \"\""},
    {"show vm/Web", 2, "\"Web\" is no name: a-z, 0-9 and -, beginning with a letter"},
    {"show vm/..", 2, "\"..\" is no name"},
    {"show a/b/c/d", 2, "there is no kind \"b\""},
    {"show shop/host/h1", 2, "a host belongs to no tenant: host/h1"},
    {"host show vm/web-1", 2, "a host is wanted here, not a vm"},
    {"host show h4", 3, "host/h4 is not there; did you mean \"h1\"?"},
    {"host show h1", 0, "PHASE       ready"},
    {"show host/h1", 0, "10.0.0.1"},
    {"show tenant/shop", 0, "VMS        2"},
    {"show image/linux", 0, "PARTS      kernel"},
    {"show template/plain", 0, "IMAGE      linux"},
};

static void names_are_found_or_explained_row(size_t i)
{
    const struct name *row = &names[i];
    ck_assert_msg(berth(row->line) == row->code, "berth %s: %d %s%s", row->line, ran.code,
                  ran.out, ran.err);
    ck_assert_contains(row->code == 0 ? ran.out : ran.err, row->said);
    ck_assert_str_eq(row->code == 0 ? ran.err : ran.out, "");
}

START_TEST(names_are_found_or_explained)
{
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        names_are_found_or_explained_row(i);
    }
}
END_TEST

START_TEST(a_host_and_a_group_are_shown_with_their_vms)
{
    ck_assert_int_eq(
        berth_fed("apply - --wait",
                  "apiVersion: berth/v1\nkind: Group\nmetadata: {name: web, tenant: "
                  "shop}\nspec: {template: {name: small}, replicas: 2}\n"),
        0);
    assert_ran("show group/web", 0);
    ck_assert_contains(ran.out, "READY      2/2\n");
    ck_assert_contains(ran.out, "\nVMs\nNAME ");
    assert_ran("host show h1", 0);
    ck_assert_contains(ran.out, "NAME        h1\n");
    ck_assert_contains(ran.out, "\nDISK PLACED ");
    ck_assert_contains(ran.out, "\nVMs\nNAME ");

    /* One that runs no more, and has its disks there. */
    assert_ran("stop vm/web-1 -t shop", 0);
    await("show vm/web-1 -t shop", "PHASE      stopped");
    assert_ran("show vm/web-1 -t shop", 0);
    const char *keeper = strstr(ran.out, "HOST       (h");
    ck_assert_ptr_nonnull(keeper);
    char line[64];
    snprintf(line, sizeof(line), "host show %.2s", keeper + strlen("HOST       ("));
    assert_ran(line, 0);
    assert_like(ran.out, "*\nVMs\nNAME *\nweb-1 *stopped *");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("run_show");
    TCase *tests = tcase_create("run_show");
    tcase_add_checked_fixture(tests, show_start, fixture_stop);
    tcase_add_test(tests, what_is_shown_as_yaml_is_applied_without_a_word);
    tcase_add_test(tests, a_vm_is_shown_with_its_boot_its_yaml_and_its_events);
    tcase_add_test(tests, names_are_found_or_explained);
    tcase_add_test(tests, a_host_and_a_group_are_shown_with_their_vms);
    tcase_set_timeout(tests, 300);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
