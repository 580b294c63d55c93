/* Goal: files that an image names go up once, named by their content, or the user reads
 * which one is wrong. */
#include "berth_fixture.h"

#define HELLO "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
#define OTHER "3cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
#define IMAGE(artifact)                                                                \
    "apiVersion: berth/v1\nkind: Image\nmetadata: {name: tiny}\nspec:\n  artifacts:\n" \
    "    - {role: kernel, " artifact "}\n"

static int apply(const char *text)
{
    char line[512];
    temp_dir_write(&folder, "image.yaml", text);
    snprintf(line, sizeof(line), "apply %s/image.yaml", folder.path);
    return berth(line);
}

START_TEST(a_file_beside_its_yaml_goes_up_once)
{
    temp_dir_write(&folder, "vmlinux", "hello");
    ck_assert_msg(apply(IMAGE("file: vmlinux")) == 0, "%s", ran.err);
    ck_assert_str_eq(ran.out, "created    image/tiny\n");
    ck_assert_str_eq(ran.err, "image/tiny kernel: uploaded 5B\n");
    assert_ran("show image/tiny -o json", 0);
    ck_assert_contains(ran.out, HELLO);
    ck_assert_ptr_null(strstr(ran.out, "vmlinux"));
    ck_assert_contains(ran.out, "\"size\"");
    assert_ran("ls image", 0);
    assert_like(ran.out, "*tiny * 5B *");
    ck_assert_int_eq(apply(IMAGE("file: vmlinux")), 0);
    ck_assert_str_eq(ran.out, "unchanged  image/tiny\n");
    ck_assert_str_eq(ran.err, ""); /* it was there */
}
END_TEST

START_TEST(a_file_that_is_wrong_is_named_and_nothing_is_changed)
{
    ck_assert_int_eq(apply(IMAGE("file: vmlinux")), 2);
    ck_assert_contains(ran.err,
                       "image.yaml:6:28: error BE1112: spec.artifacts[0].file: ");
    ck_assert_contains(ran.err, "/vmlinux: No such file or directory");
    ck_assert_contains(ran.err, "berth: 1 error; nothing was changed\n");
    ck_assert_int_eq(apply(IMAGE("file: vmlinux}\n    - {role: initrd, file: initrd")),
                     2);
    ck_assert_contains(ran.err, "image.yaml:7:28: error BE1112: "); /* both at once */
    ck_assert_contains(ran.err, "berth: 2 errors; nothing was changed\n");
    ck_assert_int_eq(apply(IMAGE("file: images")), 2); /* a folder */
    ck_assert_contains(ran.err, "Is a directory");
    temp_dir_write(&folder, "vmlinux", "hello");
    ck_assert_int_eq(apply(IMAGE("file: vmlinux, sha256: " OTHER)), 2);
    ck_assert_contains(ran.err, "is not what this says: its sha256 is " HELLO);
    assert_ran("ls image -o name", 0);
    ck_assert_str_eq(ran.out, "image/linux\n");
}
END_TEST

START_TEST(who_may_not_write_it_uploads_nothing)
{
    char line[512];
    fixture_stop();
    fixture_start_with("tls");
    serve("token ana ana-secret operator default"); /* an image without tenant is no part
                                                     */
    (void)unsetenv("BERTH_STATE");
    temp_dir_write(&folder, "vmlinux", "hello");
    temp_dir_write(&folder, "image.yaml", IMAGE("file: vmlinux"));
    snprintf(line, sizeof(line),
             "apply %s/image.yaml --server 127.0.0.1:%u --token ana-secret --pin %s",
             folder.path, served_port, served_pin);
    assert_ran(line, 6);
    ck_assert_contains(ran.err,
                       "image.yaml:3:1: error BERTH_EFORBIDDEN: token:ana may not "
                       "write this");
    ck_assert_contains(ran.err, "berth: 1 error; nothing was changed\n");
    ck_assert_ptr_null(strstr(ran.err, "uploaded"));
}
END_TEST

START_TEST(validate_and_plan_hash_but_send_nothing)
{
    char line[512];
    temp_dir_write(&folder, "vmlinux", "hello");
    temp_dir_write(&folder, "image.yaml", IMAGE("file: vmlinux"));
    snprintf(line, sizeof(line), "plan %s/image.yaml", folder.path);
    assert_ran(line, 0);
    ck_assert_str_eq(ran.out, "create     image/tiny\n");
    ck_assert_ptr_null(strstr(ran.err, "uploaded"));
}
END_TEST

START_TEST(a_url_that_cannot_be_fetched_is_told)
{
    ck_assert_int_eq(apply(IMAGE("url: \"http://127.0.0.1:1/vmlinux\", sha256: " HELLO)),
                     1); /* the cluster answers: it is not what cannot be reached */
    ck_assert_contains(ran.err, "the server fetches http://127.0.0.1:1/vmlinux");
    assert_ran("ls image -o name", 0);
    ck_assert_str_eq(ran.out, "image/linux\n");
}
END_TEST

/* A file of holes, larger than what the served host takes. */
START_TEST(a_file_that_is_too_large_is_not_sent)
{
    char *path = temp_dir_path(&folder, "huge");
    temp_dir_write(&folder, "huge", "");
    ck_assert_int_eq(truncate(path, ((off_t)64 << 20) + 1), 0);
    free(path);

    ck_assert_int_ne(apply(IMAGE("file: huge")), 0);

    ck_assert_contains(ran.err, "64MiB is more than this host takes");
    ck_assert_ptr_null(strstr(ran.err, "uploaded"));
    assert_ran("ls image -o name", 0);
    ck_assert_str_eq(ran.out, "image/linux\n");
}
END_TEST

int main(void)
{
    TCase *tests;
    Suite *suite = berth_suite("upload", &tests);
    tcase_add_test(tests, a_file_beside_its_yaml_goes_up_once);
    tcase_add_test(tests, a_file_that_is_wrong_is_named_and_nothing_is_changed);
    tcase_add_test(tests, who_may_not_write_it_uploads_nothing);
    tcase_add_test(tests, validate_and_plan_hash_but_send_nothing);
    tcase_add_test(tests, a_url_that_cannot_be_fetched_is_told);
    tcase_add_test(tests, a_file_that_is_too_large_is_not_sent);
    return test_main_run(suite);
}
