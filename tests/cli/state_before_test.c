/* Goal: after an attempt a state folder is as it was: what came is gone, what was there
 * is there, and so are folders that were not made for it. Method: real folders. */
#include "cli/state_before.h"
#include "support/temp_dir.h"
#include "support/test_main.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct temp_dir dir;
static struct state_before before;

static void setup(void)
{
    temp_dir_init(&dir);
}

static void teardown(void)
{
    state_before_fini(&before);
    temp_dir_fini(&dir);
}

static bool is_there(const char *name)
{
    char *path = temp_dir_path(&dir, name);
    bool there = access(path, F_OK) == 0;
    free(path);
    return there;
}

static void make_folder(const char *name)
{
    char *path = temp_dir_path(&dir, name);
    ck_assert_int_eq(mkdir(path, 0700), 0);
    free(path);
}

static void look(const char *name)
{
    struct err err = {0};
    char *path = temp_dir_path(&dir, name);
    ck_assert_msg(state_before_look(path, &before, &err) == 0, "%s", err.text);
    free(path);
}

static void restore(const char *name)
{
    struct err err = {0};
    char *path = temp_dir_path(&dir, name);
    ck_assert_msg(state_before_restore(&before, path, &err) == 0, "%s", err.text);
    free(path);
}

START_TEST(a_folder_that_was_made_goes_with_all_that_is_in_it)
{
    make_folder("var");
    look("var/lib//berth/");
    ck_assert(!is_there("var/lib"));
    make_folder("var/lib");
    make_folder("var/lib/berth");
    make_folder("var/lib/berth/images");
    temp_dir_write(&dir, "var/lib/berth/images/a", "x");

    restore("var/lib//berth/");

    ck_assert(!is_there("var/lib"));
    ck_assert(is_there("var"));
}
END_TEST

START_TEST(of_a_folder_that_was_there_what_came_goes)
{
    make_folder("berth");
    make_folder("berth/left-1");
    temp_dir_write(&dir, "berth/left-1/note", "kept");
    temp_dir_write(&dir, "berth/host.json", "{}");
    look("berth");
    make_folder("berth/images");
    temp_dir_write(&dir, "berth/images/a", "x");
    temp_dir_write(&dir, "berth/host.key", "x");

    restore("berth");

    ck_assert(is_there("berth/left-1/note") && is_there("berth/host.json"));
    ck_assert(!is_there("berth/images") && !is_there("berth/host.key"));
}
END_TEST

START_TEST(what_is_no_folder_is_said)
{
    struct err err = {0};
    temp_dir_write(&dir, "file", "x");
    char *path = temp_dir_path(&dir, "file");
    ck_assert_int_lt(state_before_look(path, &before, &err), 0);
    ck_assert_ptr_nonnull(strstr(err.text, "Not a directory"));
    free(path);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("state_before");
    TCase *tests = tcase_create("state_before");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, a_folder_that_was_made_goes_with_all_that_is_in_it);
    tcase_add_test(tests, of_a_folder_that_was_there_what_came_goes);
    tcase_add_test(tests, what_is_no_folder_is_said);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
