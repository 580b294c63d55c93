/* Goal: a host keeps its key, name and uid across restarts, and its folder to itself. */
#include "agent/identity.h"
#include "base/cleanup.h"
#include "support/temp_dir.h"
#include "support/test_main.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct temp_dir dir;

static void setup(void)
{
    temp_dir_init(&dir);
}

static void teardown(void)
{
    temp_dir_fini(&dir);
}

static void name_it(struct identity *identity)
{
    snprintf(identity->name, sizeof(identity->name), "h1");
    identity->uid = 7;
    identity->cluster_id = 0xfedcba9876543210;
    identity->address = 0x0a630001;
    identity->mesh_port = 7440;
    identity->raft_port = 7442;
}

START_TEST(what_was_saved_is_there_after_a_restart)
{
    struct identity identity;
    struct identity again;
    struct err err;

    ck_assert_int_eq(identity_open(dir.path, &identity, &err), 0);
    name_it(&identity);
    ck_assert_int_eq(identity_save(&identity, &err), 0);
    struct mesh_key key = identity.key;
    identity_fini(&identity);
    ck_assert_int_eq(identity_open(dir.path, &again, &err), 0);

    ck_assert_str_eq(again.name, "h1");
    ck_assert_uint_eq(again.uid, 7);
    ck_assert_uint_eq(again.cluster_id, 0xfedcba9876543210);
    ck_assert_uint_eq(again.address, 0x0a630001);
    ck_assert_uint_eq(again.mesh_port, 7440);
    ck_assert_uint_eq(again.api_port, 0);
    ck_assert(mesh_key_equal(&again.key, &key));
    identity_fini(&again);
}
END_TEST

START_TEST(the_secret_key_is_for_its_owner_only)
{
    struct identity identity;
    struct err err;
    struct stat info;

    ck_assert_int_eq(identity_open(dir.path, &identity, &err), 0);
    char *path = temp_dir_path(&dir, "host.key");
    ck_assert_int_eq(stat(path, &info), 0);

    ck_assert_uint_eq(info.st_mode & 0777, 0600);
    free(path);
    identity_fini(&identity);
}
END_TEST

/* Also where nothing could be written: root is not stopped by a mode. */
START_TEST(a_look_finds_the_host_and_leaves_nothing_behind)
{
    struct identity identity;
    struct identity looked;
    struct identity again;
    struct err err;
    struct stat before;
    struct stat after;
    CLEANUP_FREE char *pid = temp_dir_path(&dir, "berthd.pid");
    ck_assert_int_eq(identity_open(dir.path, &identity, &err), 0);
    name_it(&identity);
    ck_assert_int_eq(identity_save(&identity, &err), 0);
    ck_assert_int_eq(identity_look(dir.path, &looked, &err), BERTH_EBUSY);
    struct mesh_key key = identity.key;
    identity_fini(&identity);
    temp_dir_write(&dir, "berthd.pid", "1 1\n"); /* of one that was killed */
    ck_assert_int_eq(stat(dir.path, &before), 0);

    ck_assert_msg(identity_look(dir.path, &looked, &err) == 0, "%s", err.text);

    ck_assert_str_eq(looked.name, "h1");
    ck_assert_uint_eq(looked.uid, 7);
    ck_assert(mesh_key_equal(&looked.key, &key));
    ck_assert_int_eq(identity_open(dir.path, &again, &err), BERTH_EBUSY);
    identity_fini(&looked);
    ck_assert_int_eq(access(pid, F_OK), 0);
    ck_assert_int_eq(stat(dir.path, &after), 0);
    ck_assert(before.st_mtim.tv_sec == after.st_mtim.tv_sec &&
              before.st_mtim.tv_nsec == after.st_mtim.tv_nsec);
}
END_TEST

START_TEST(a_path_with_a_slip_in_it_is_no_host)
{
    struct identity identity;
    struct err err;
    CLEANUP_FREE char *missing = temp_dir_path(&dir, "missing");

    ck_assert_int_eq(identity_look(missing, &identity, &err), BERTH_ENOTFOUND);
    ck_assert_ptr_nonnull(strstr(err.text, "/missing is no host's state folder"));
    ck_assert_int_eq(access(missing, F_OK), -1);
    ck_assert_int_eq(identity_find(dir.path, &err), BERTH_ENOTFOUND); /* not mounted */
    ck_assert_int_eq(identity_open(dir.path, &identity, &err), 0);
    ck_assert_int_eq(identity_find(dir.path, &err), 0);
    identity_fini(&identity);
}
END_TEST

/* Its id in the log is by its key: a new one would not do. */
START_TEST(a_look_makes_no_key)
{
    struct identity identity;
    struct err err;
    CLEANUP_FREE char *key = temp_dir_path(&dir, "host.key");
    ck_assert_int_eq(identity_open(dir.path, &identity, &err), 0);
    name_it(&identity);
    ck_assert_int_eq(identity_save(&identity, &err), 0);
    identity_fini(&identity);
    ck_assert_int_eq(unlink(key), 0);

    ck_assert_int_eq(identity_look(dir.path, &identity, &err), -ENOENT);

    ck_assert_ptr_nonnull(strstr(err.text, "host.key"));
    ck_assert_int_eq(access(key, F_OK), -1);
}
END_TEST

START_TEST(a_second_daemon_on_the_folder_is_refused)
{
    struct identity first;
    struct identity second;
    struct err err;

    ck_assert_int_eq(identity_open(dir.path, &first, &err), 0);
    ck_assert_int_eq(identity_open(dir.path, &second, &err), BERTH_EBUSY);
    ck_assert_ptr_nonnull(strstr(err.text, dir.path));
    identity_fini(&first);
    ck_assert_int_eq(identity_open(dir.path, &second, &err), 0);
    identity_fini(&second);
}
END_TEST

START_TEST(a_damaged_file_is_named_and_left_alone)
{
    static const struct {
        const char *file;
        const char *text;
    } rows[] = {{"host.key", "zz"},
                {"host.json", "{\"name\": "},
                {"host.json", "{\"name\": \"Not A Name\", \"address\": \"10.0.0.1\"}"},
                {"host.json", "{\"name\": \"h1\"}"}};
    struct identity identity;
    struct err err;
    temp_dir_write(&dir, rows[_i].file, rows[_i].text);

    ck_assert_int_eq(identity_open(dir.path, &identity, &err), BERTH_ECORRUPT);

    ck_assert_ptr_nonnull(strstr(err.text, rows[_i].file));
    char *text = temp_dir_read(&dir, rows[_i].file);
    ck_assert_str_eq(text, rows[_i].text);
    free(text);
}
END_TEST

START_TEST(a_folder_whose_sockets_would_not_fit_is_refused)
{
    char path[200];
    struct identity identity;
    struct err err;
    memset(path, 'x', sizeof(path));
    size_t size = (size_t)snprintf(path, sizeof(path), "%s/", dir.path);
    memset(path + size, 'x', 70);
    path[size + 70] = '\0';

    ck_assert_int_eq(identity_open(path, &identity, &err), BERTH_EINVALID);
}
END_TEST

START_TEST(ids_in_the_log_differ_by_key_and_are_never_zero)
{
    struct mesh_key one = {{1}};
    struct mesh_key two = {{2}};

    ck_assert_uint_ne(identity_raft_id(&one), identity_raft_id(&two));
    ck_assert_uint_ne(identity_raft_id(&one), 0);
    ck_assert_uint_eq(identity_raft_id(&one), identity_raft_id(&one));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("identity");
    TCase *tests = tcase_create("identity");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, what_was_saved_is_there_after_a_restart);
    tcase_add_test(tests, the_secret_key_is_for_its_owner_only);
    tcase_add_test(tests, a_look_finds_the_host_and_leaves_nothing_behind);
    tcase_add_test(tests, a_path_with_a_slip_in_it_is_no_host);
    tcase_add_test(tests, a_look_makes_no_key);
    tcase_add_test(tests, a_second_daemon_on_the_folder_is_refused);
    tcase_add_loop_test(tests, a_damaged_file_is_named_and_left_alone, 0, 4);
    tcase_add_test(tests, a_folder_whose_sockets_would_not_fit_is_refused);
    tcase_add_test(tests, ids_in_the_log_differ_by_key_and_are_never_zero);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
