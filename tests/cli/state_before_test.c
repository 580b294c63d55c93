/* Goal: after an attempt a state folder is as it was: what a join makes is gone, what was
 * there is there, and so is what others have put there meanwhile. Method: real folders.
 */
#include "base/state_file.h"
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

static void restore(void)
{
    struct err err = {0};
    ck_assert_msg(state_before_restore(&before, &err) == 0, "%s", err.text);
}

/* All that a join makes. */
static void make_host(const char *folder)
{
    static const char *const files[] = STATE_FILES_OF_JOIN;
    static const char *const folders[] = STATE_IMAGE_FOLDERS_OF_JOIN;
    char name[256];
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        (void)snprintf(name, sizeof(name), "%s/%s", folder, files[i]);
        temp_dir_write(&dir, name, "x");
    }
    (void)snprintf(name, sizeof(name), "%s/" STATE_FOLDER_IMAGES, folder);
    make_folder(name);
    for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++) {
        (void)snprintf(name, sizeof(name), "%s/" STATE_FOLDER_IMAGES "/%s", folder,
                       folders[i]);
        make_folder(name);
    }
}

START_TEST(what_a_join_makes_goes_with_the_folders_for_it)
{
    make_folder("var");
    look("var/lib//berth/");
    ck_assert(!is_there("var/lib"));
    make_folder("var/lib");
    make_folder("var/lib/berth");
    make_host("var/lib/berth");

    restore();

    ck_assert(!is_there("var/lib"));
    ck_assert(is_there("var"));
}
END_TEST

START_TEST(what_was_there_stays_and_what_a_join_makes_goes)
{
    make_folder("berth");
    make_folder("berth/left-1");
    temp_dir_write(&dir, "berth/left-1/note", "kept");
    temp_dir_write(&dir, "berth/up.json", "{}");
    look("berth");
    make_host("berth");

    restore();

    ck_assert(is_there("berth/left-1/note") && is_there("berth/up.json"));
    ck_assert(!is_there("berth/images") && !is_there("berth/host.key"));
    ck_assert(!is_there("berth/lock"));
}
END_TEST

START_TEST(what_others_put_into_a_shared_folder_stays)
{
    make_folder("data");
    look("data");
    make_host("data");
    make_folder("data/theirs");
    temp_dir_write(&dir, "data/theirs/book", "theirs");
    temp_dir_write(&dir, "data/note", "theirs");
    temp_dir_write(&dir, "data/images/tmp/picture", "theirs");

    restore();

    ck_assert(is_there("data/theirs/book") && is_there("data/note"));
    ck_assert(is_there("data/images/tmp/picture"));
    ck_assert(!is_there("data/images/unpacked") && !is_there("data/host.key"));
}
END_TEST

START_TEST(what_others_put_beside_a_folder_that_was_made_stays)
{
    look("srv/rack/berth");
    make_folder("srv");
    make_folder("srv/rack");
    make_folder("srv/rack/berth");
    make_host("srv/rack/berth");
    temp_dir_write(&dir, "srv/note", "theirs");

    restore();

    ck_assert(is_there("srv/note"));
    ck_assert(!is_there("srv/rack"));
}
END_TEST

/* As names and as links: what they lead to is not followed. */
START_TEST(what_only_has_the_name_stays)
{
    make_folder("berth");
    make_folder("elsewhere");
    make_folder("elsewhere/tmp");
    look("berth");
    make_folder("berth/host.key");
    temp_dir_write(&dir, "berth/host.key/theirs", "theirs");
    char *link = temp_dir_path(&dir, "berth/images");
    ck_assert_int_eq(symlink("../elsewhere", link), 0);
    free(link);

    restore();

    ck_assert(is_there("berth/host.key/theirs") && is_there("elsewhere/tmp"));
}
END_TEST

START_TEST(a_path_that_goes_back_from_what_is_not_there_is_refused)
{
    struct err err = {0};
    make_folder("theirs");
    char *path = temp_dir_path(&dir, "new/../theirs");
    ck_assert_int_eq(state_before_look(path, &before, &err), BERTH_EINVALID);
    ck_assert_ptr_nonnull(strstr(err.text, "without .. after"));
    free(path);
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
    tcase_add_test(tests, what_a_join_makes_goes_with_the_folders_for_it);
    tcase_add_test(tests, what_was_there_stays_and_what_a_join_makes_goes);
    tcase_add_test(tests, what_others_put_into_a_shared_folder_stays);
    tcase_add_test(tests, what_others_put_beside_a_folder_that_was_made_stays);
    tcase_add_test(tests, what_only_has_the_name_stays);
    tcase_add_test(tests, a_path_that_goes_back_from_what_is_not_there_is_refused);
    tcase_add_test(tests, what_is_no_folder_is_said);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
