/* Goal: labels of a host are set and taken away by name, and placements go by them. */
#include "berth_fixture.h"

START_TEST(labels_are_set_and_taken_away_and_seen)
{
    assert_ran("host label h1 rack=r1 zone=a note=a=b", 0);
    ck_assert_str_eq(ran.out, "host/h1 is labelled; VMs that run stay where they are\n");
    assert_ran("host label host/h1 zone- rack=r2", 0);
    assert_ran("host show h1", 0);
    ck_assert_contains(ran.out, "rack=r2");
    ck_assert_contains(ran.out, "note=a=b");
    ck_assert_ptr_null(strstr(ran.out, "zone=a"));
    assert_ran("host ls -l rack=r2 -o name", 0);
    ck_assert_str_eq(ran.out, "host/h1\n");
    assert_ran("host ls -o wide", 0);
    ck_assert_contains(ran.out, "rack=r2");
}
END_TEST

START_TEST(it_is_told_what_became_of_the_host)
{
    static const struct {
        const char *line;
        const char *told;
    } rows[] = {
        {"host label h1 rack=r1 zone=a",
         "host/h1 is labelled; VMs that run stay where they are\n"},
        {"host label h1 rack=r1 none-", "host/h1 has these labels already\n"},
        {"host label h1 rack=r2 zone=a",
         "host/h1 is labelled; VMs that run stay where they are\n"},
        {"host label h1 rack=r2 zone-",
         "host/h1 has lost labels; VMs that run stay where they are\n"},
        {"host label h1 zone- none-", "host/h1 has no such label\n"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        assert_ran(rows[i].line, 0);
        ck_assert_str_eq(ran.out, rows[i].told);
    }
}
END_TEST

START_TEST(a_placement_goes_by_the_label_that_was_just_set)
{
    assert_ran("host label h3 disk=fast", 0);
    temp_dir_write(&folder, "fast.yaml",
                   "apiVersion: berth/v1\n"
                   "kind: Template\n"
                   "metadata: {name: fast}\n"
                   "spec:\n"
                   "  image: linux\n"
                   "  memory: {size: 64MiB}\n"
                   "  placement: {require: [host.label.disk == fast]}\n"
                   "---\n"
                   "apiVersion: berth/v1\n"
                   "kind: VM\n"
                   "metadata: {name: quick}\n"
                   "spec: {template: {name: fast}}\n");
    char line[512];
    char *path = temp_dir_path(&folder, "fast.yaml");
    (void)snprintf(line, sizeof(line), "apply %s --wait", path);
    free(path);
    assert_ran(line, 0);
    assert_ran("show vm/quick -o json", 0);
    ck_assert_contains(ran.out, "\"host\": \"h3\"");
}
END_TEST

START_TEST(what_is_no_label_is_told_before_anything_is_asked)
{
    static const char *const lines[] = {"host label h1 rack",      "host label h1 =r1",
                                        "host label h1 -",         "host label h1",
                                        "host label h1 a=1 a=2",   "host label h1 a=1 a-",
                                        "host label vm/x rack=r1", "host label"};
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        assert_ran(lines[i], 2);
    }
    assert_ran("host label h1 rack", 2);
    ck_assert_contains(ran.err, "wanted KEY=VALUE, or KEY- to take a label away");
    assert_ran("host label h9 rack=r1", 3);
    ck_assert_int_ne(berth("host label h1 rack_=r1"), 0);
    ck_assert_contains(ran.err, "is not a valid key");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("run_label");
    TCase *tests = tcase_create("run_label");
    tcase_add_checked_fixture(tests, fixture_start, fixture_stop);
    tcase_add_test(tests, labels_are_set_and_taken_away_and_seen);
    tcase_add_test(tests, it_is_told_what_became_of_the_host);
    tcase_add_test(tests, a_placement_goes_by_the_label_that_was_just_set);
    tcase_add_test(tests, what_is_no_label_is_told_before_anything_is_asked);
    tcase_set_timeout(tests, 300);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
