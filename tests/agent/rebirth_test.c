/* Goal: a host that forgets its cluster is a member with its log, or no member, wherever
 * it is interrupted. Method: state folders as they are left half way. What else is in
 * rebirth.c runs on real hosts in tests/system/backup_test.sh. */
#include "agent/rebirth.h"
#include "support/temp_dir.h"
#include "support/test_main.h"

#include <check.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* In place of the C library's: a file system without links. */
int link(const char *from, const char *to)
{
    (void)from;
    (void)to;
    errno = EPERM;
    return -1;
}

static struct temp_dir dir;

static void make_folder(const char *name)
{
    char *path = temp_dir_path(&dir, name);
    ck_assert_int_eq(mkdir(path, 0700), 0);
    free(path);
}

static bool has(const char *name)
{
    char *path = temp_dir_path(&dir, name);
    bool there = access(path, F_OK) == 0;
    free(path);
    return there;
}

/* A member with a log. */
static void setup(void)
{
    struct identity identity;
    struct err err = {0};
    temp_dir_init(&dir);
    ck_assert_msg(identity_open(dir.path, &identity, &err) == 0, "%s", err.text);
    (void)snprintf(identity.name, sizeof(identity.name), "rack-1");
    identity.uid = 5;
    identity.cluster_id = 9;
    ck_assert_int_eq(identity_save(&identity, &err), 0);
    identity_fini(&identity);
    make_folder("raft");
    make_folder("vms");
    temp_dir_write(&dir, "raft/closed1", "entries");
    temp_dir_write(&dir, "members.bin", "members");
    temp_dir_write(&dir, "lease", "lease");
}

static void teardown(void)
{
    temp_dir_fini(&dir);
}

static void move(const char *from, const char *to)
{
    char *old_path = temp_dir_path(&dir, from);
    char *new_path = temp_dir_path(&dir, to);
    ck_assert_int_eq(rename(old_path, new_path), 0);
    free(old_path);
    free(new_path);
}

static void check_forgotten(const char *key)
{
    struct identity identity;
    ck_assert(!has("raft") && !has("members.bin") && !has("lease") && !has("vms"));
    ck_assert(!has("forgetting"));
    ck_assert(has("left-x/raft/closed1") && has("left-x/host.json"));
    ck_assert(has("left-x/members.bin") && has("left-x/lease"));
    char *kept = temp_dir_read(&dir, "left-x/host.key");
    ck_assert_ptr_nonnull(kept);
    ck_assert_str_eq(kept, key); /* and no newer one */
    free(kept);
    char *text = temp_dir_read(&dir, "left-x/host.json");
    ck_assert_ptr_nonnull(strstr(text, "\"uid\": 5"));
    free(text);
    ck_assert_int_eq(identity_open(dir.path, &identity, NULL), 0);
    ck_assert_uint_eq(identity.uid, 0);
    ck_assert_uint_eq(identity.cluster_id, 0);
    ck_assert_str_eq(identity.name, "rack-1");
    identity_fini(&identity);
}

/* Interrupted after so many of its steps; berthd is started then, or it is told again. */
START_TEST(wherever_it_is_interrupted_a_host_forgets_to_the_end)
{
    static const char *const steps[] = {"raft", "members.bin", "host.key", "lease"};
    struct err err = {0};
    char *key = temp_dir_read(&dir, "host.key");
    char to[64];
    temp_dir_write(&dir, "forgetting", "left-x");
    for (int i = 0; i < _i; i++) {
        if (i == 0) {
            make_folder("left-x");
        } else {
            (void)snprintf(to, sizeof(to), "left-x/%s", steps[i - 1]);
            move(steps[i - 1], to);
        }
    }

    ck_assert_msg(rebirth_forget_resume(dir.path, clock_system(), &err) == 0, "%s",
                  err.text);

    check_forgotten(key);
    free(key);
}
END_TEST

START_TEST(a_host_that_forgets_nothing_stays_what_it_is)
{
    struct identity identity;
    ck_assert_int_eq(rebirth_forget_resume(dir.path, clock_system(), NULL), 0);
    ck_assert(has("raft/closed1"));
    ck_assert_int_eq(identity_open(dir.path, &identity, NULL), 0);
    ck_assert_uint_eq(identity.uid, 5);

    ck_assert_int_eq(rebirth_forget(&identity, clock_system(), NULL), 0);

    ck_assert_uint_eq(identity.uid, 0);
    ck_assert(!has("raft") && !has("host.key") && has("host.json"));
    ck_assert(!has("forgetting"));
    identity_fini(&identity);
}
END_TEST

START_TEST(a_name_that_leads_elsewhere_is_refused)
{
    struct err err = {0};
    temp_dir_write(&dir, "forgetting", _i == 0 ? "left-../x" : "elsewhere");

    ck_assert_int_eq(rebirth_forget_resume(dir.path, clock_system(), &err),
                     BERTH_ECORRUPT);

    ck_assert(has("raft/closed1") && has("members.bin"));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("rebirth");
    TCase *tests = tcase_create("rebirth");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_loop_test(tests, wherever_it_is_interrupted_a_host_forgets_to_the_end, 0,
                        6);
    tcase_add_test(tests, a_host_that_forgets_nothing_stays_what_it_is);
    tcase_add_loop_test(tests, a_name_that_leads_elsewhere_is_refused, 0, 2);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
