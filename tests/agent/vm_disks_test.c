/* Goal: of a VM's folder only its disks go when a run gets new ones. Method: a folder
 * with files as the engines and the supervisor leave them. */
#include "agent/vm_disks.h"
#include "support/temp_dir.h"
#include "support/test_main.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct temp_dir dir;

static void setup(void)
{
    temp_dir_init_guarded(&dir);
}

static void teardown(void)
{
    temp_dir_fini(&dir);
}

static bool has(const char *name)
{
    char *path = temp_dir_path(&dir, name);
    bool there = access(path, F_OK) == 0;
    free(path);
    return there;
}

START_TEST(disks_go_and_all_else_stays)
{
    temp_dir_write(&dir, "disk-root.qcow2", "x");
    temp_dir_write(&dir, "disk-data.overlay.new", "x");
    temp_dir_write(&dir, "record.json", "x");
    temp_dir_write(&dir, "run.lock", "x");
    temp_dir_write(&dir, "serial.log", "x");

    ck_assert_int_eq(vm_disks_renew(dir.path, "", NULL), 0);

    ck_assert(!has("disk-root.qcow2") && !has("disk-data.overlay.new"));
    ck_assert(has("record.json") && has("run.lock") && has("serial.log"));
}
END_TEST

START_TEST(what_they_lie_on_is_noted_until_they_are_renewed)
{
    char base[ENGINE_PATH_SIZE] = "as it was";
    ck_assert(!vm_disks_base(dir.path, base));
    ck_assert_str_eq(base, "as it was");
    ck_assert_int_eq(vm_disks_renew(dir.path, "/images/one", NULL), 0);
    ck_assert(vm_disks_base(dir.path, base)); /* though no such file is there */
    ck_assert_str_eq(base, "/images/one");
    ck_assert_int_eq(vm_disks_renew(dir.path, "/images/two", NULL), 0);
    ck_assert(vm_disks_base(dir.path, base));
    ck_assert_str_eq(base, "/images/two");
    ck_assert_int_eq(vm_disks_renew(dir.path, "", NULL), 0);
    ck_assert(!vm_disks_base(dir.path, base));
}
END_TEST

START_TEST(a_folder_that_is_not_there_is_said_to_be_missing)
{
    struct err err = {0};
    char *path = temp_dir_path(&dir, "gone");
    ck_assert_int_eq(vm_disks_renew(path, "", &err), -ENOENT);
    ck_assert_ptr_nonnull(strstr(err.text, "gone"));
    free(path);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("vm_disks");
    TCase *tests = tcase_create("vm_disks");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, disks_go_and_all_else_stays);
    tcase_add_test(tests, what_they_lie_on_is_noted_until_they_are_renewed);
    tcase_add_test(tests, a_folder_that_is_not_there_is_said_to_be_missing);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
