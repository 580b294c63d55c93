/* Goal: a host keeps its key, name and uid across restarts, and its folder to itself. */
#include "agent/identity.h"
#include "support/temp_dir.h"
#include "support/test_main.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

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
    tcase_add_test(tests, a_second_daemon_on_the_folder_is_refused);
    tcase_add_loop_test(tests, a_damaged_file_is_named_and_left_alone, 0, 4);
    tcase_add_test(tests, a_folder_whose_sockets_would_not_fit_is_refused);
    tcase_add_test(tests, ids_in_the_log_differ_by_key_and_are_never_zero);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
