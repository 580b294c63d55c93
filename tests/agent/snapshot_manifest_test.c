/* Goal: a manifest says after a restart what it said before, and one that was changed is
 * refused. Method: texts that are encoded, damaged and decoded. */
#include "agent/snapshot_manifest.h"
#include "support/test_main.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct snapshot_manifest whole = {
    .uid = 40,
    .vm = 7,
    .epoch = 3,
    .at_wall_ms = 1700000000000,
    .engine = ENGINE_KVM,
    .name = "before",
    .tenant = "shop",
    .vm_name = "web-1",
    .memory_file_bytes = 70 * MIB,
    .memory_sum = 0xfedcba98,
    .base = "/state/images/00",
    .tail = ".overlay",
    .disks = {{"root", 3 * MIB, 0xffffffff}, {"data", MIB, 0}},
    .disk_count = 2,
    .taken_bytes = 12345,
};

static int
decode(const char *text, struct snapshot_manifest *ret_manifest, struct err *err)
{
    return snapshot_manifest_decode(text, strlen(text), ret_manifest, err);
}

START_TEST(what_was_written_is_read)
{
    struct snapshot_manifest got;
    struct err err = {0};
    char *text = snapshot_manifest_encode(&whole);
    ck_assert_ptr_nonnull(text);

    ck_assert_msg(decode(text, &got, &err) == 0, "%s", err.text);

    char *again = snapshot_manifest_encode(&got);
    ck_assert_str_eq(text, again);
    ck_assert_str_eq(got.disks[1].name, "data");
    ck_assert_uint_eq(got.memory_sum, whole.memory_sum);
    ck_assert_str_eq(got.base, whole.base);
    free(again);
    free(text);
}
END_TEST

/* Each digit and letter of a value, one after the other. */
START_TEST(no_changed_value_is_taken)
{
    unsigned refused = 0;
    char *text = snapshot_manifest_encode(&whole);
    for (char *at = text; *at != '\0'; at++) {
        const char was = *at;
        struct snapshot_manifest got = {.uid = 99};
        if ((was < '0' || was > '9') && (was < 'a' || was > 'z')) {
            continue;
        }
        *at = was == '3' ? '4' : '3';
        ck_assert_msg(decode(text, &got, NULL) == BERTH_ECORRUPT, "%s", at);
        ck_assert_uint_eq(got.uid, 99);
        *at = was;
        refused++;
    }
    ck_assert_uint_gt(refused, 100);
    free(text);
}
END_TEST

START_TEST(a_disk_whose_name_is_a_path_is_refused)
{
    struct snapshot_manifest bad = whole;
    struct snapshot_manifest got;
    struct err err = {0};
    (void)snprintf(bad.disks[0].name, NAME_SIZE, "../x");
    if (_i == 1) {
        bad = whole;
        (void)snprintf(bad.tail, sizeof(bad.tail), "/../x");
    }
    char *text = snapshot_manifest_encode(&bad);

    ck_assert_int_eq(decode(text, &got, &err), BERTH_ECORRUPT);

    ck_assert_str_ne(err.text, "");
    free(text);
}
END_TEST

START_TEST(what_is_no_manifest_is_refused)
{
    static const char *const texts[] = {"", "{}", "[1]", "{\"version\": 2}", "{\"a\""};
    struct snapshot_manifest got;

    ck_assert_int_eq(decode(texts[_i], &got, NULL), BERTH_ECORRUPT);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("snapshot_manifest");
    TCase *tests = tcase_create("snapshot_manifest");
    tcase_add_test(tests, what_was_written_is_read);
    tcase_add_test(tests, no_changed_value_is_taken);
    tcase_add_loop_test(tests, a_disk_whose_name_is_a_path_is_refused, 0, 2);
    tcase_add_loop_test(tests, what_is_no_manifest_is_refused, 0, 5);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
