/* Goal: a restarted host knows whom to call; a damaged table is told, never guessed
 * around. */
#include "agent/identity.h"
#include "agent/members.h"
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

static struct msg_member member_of(uint64_t uid)
{
    struct msg_member member = {
        .uid = uid, .address = 0x0a000000 + (uint32_t)uid, .mesh_port = 7440};
    snprintf(member.name, sizeof(member.name), "h%u", (unsigned)uid);
    memset(member.key.bytes, (int)uid, DIGEST_SIZE);
    return member;
}

START_TEST(the_table_survives_a_restart)
{
    struct msg_member items[] = {member_of(1), member_of(2)};
    struct msg_member_list list = {.items = items, .count = 2};
    struct members members;
    struct members again;
    struct err err;
    bool changed = false;

    ck_assert_int_eq(members_open(dir.path, &members, &err), 0);
    ck_assert_uint_eq(members.list.count, 0);
    ck_assert_int_eq(members_set(&members, &list, &changed, &err), 0);
    ck_assert(changed);
    ck_assert_int_eq(members_open(dir.path, &again, &err), 0);

    ck_assert_uint_eq(again.list.count, 2);
    ck_assert_str_eq(members_by_uid(&again, 2)->name, "h2");
    ck_assert_ptr_null(members_by_uid(&again, 3));
    ck_assert_uint_eq(members_by_key(&again, &items[0].key)->uid, 1);
    struct mesh_key key = identity_mesh_key(&items[1].key);
    ck_assert_uint_eq(members_by_raft_id(&again, identity_raft_id(&key))->uid, 2);
    members_fini(&members);
    members_fini(&again);
}
END_TEST

START_TEST(an_equal_table_is_no_change)
{
    struct msg_member items[] = {member_of(1)};
    struct msg_member_list list = {.items = items, .count = 1};
    struct members members;
    struct err err;
    bool changed = false;

    ck_assert_int_eq(members_open(dir.path, &members, &err), 0);
    ck_assert_int_eq(members_set(&members, &list, &changed, &err), 0);
    ck_assert_int_eq(members_set(&members, &list, &changed, &err), 0);
    ck_assert(!changed);
    items[0].mesh_port = 9000;
    ck_assert_int_eq(members_set(&members, &list, &changed, &err), 0);
    ck_assert(changed);
    members_fini(&members);
}
END_TEST

/* A full disk: here a folder that is not there, for nobody may write into it. */
START_TEST(a_table_that_could_not_be_written_is_written_later)
{
    struct msg_member items[] = {member_of(1)};
    struct msg_member_list list = {.items = items, .count = 1};
    struct members members;
    struct members read;
    struct err err;
    bool changed = false;
    char *away = temp_dir_path(&dir, "away");
    ck_assert_int_eq(members_open(away, &members, &err), 0);
    ck_assert_int_lt(members_set(&members, &list, &changed, &err), 0);
    ck_assert(changed && members.unsaved);
    ck_assert_int_lt(members_save(&members, &err), 0);
    ck_assert_int_eq(mkdir(away, 0700), 0);

    if (_i == 0) { /* by the next orders, or before */
        ck_assert_int_eq(members_set(&members, &list, &changed, &err), 0);
        ck_assert(!changed);
    } else {
        ck_assert_int_eq(members_save(&members, &err), 0);
    }

    ck_assert(!members.unsaved);
    ck_assert_int_eq(members_open(away, &read, &err), 0);
    ck_assert_uint_eq(read.list.count, 1);
    members_fini(&read);
    members_fini(&members);
    free(away);
}
END_TEST

START_TEST(what_is_replaced_while_it_is_written_is_written_again)
{
    struct msg_member items[] = {member_of(1), member_of(2)};
    struct msg_member_list list = {.items = items, .count = 1};
    struct members members;
    struct members read;
    struct members_write write;
    struct err err;
    bool changed = false;
    ck_assert_int_eq(members_open(dir.path, &members, &err), 0);
    ck_assert_int_eq(members_replace(&members, &list, &changed, &err), 0);
    ck_assert(changed && members.unsaved);
    ck_assert_int_eq(members_write_begin(&members, &write, &err), 0);
    list.count = 2;
    ck_assert_int_eq(members_replace(&members, &list, &changed, &err), 0);

    members_write_run(&write);
    ck_assert_int_eq(members_write_end(&members, &write, &err), 0);

    ck_assert(members.unsaved);
    ck_assert_int_eq(members_open(dir.path, &read, &err), 0);
    ck_assert_uint_eq(read.list.count, 1);
    members_fini(&read);
    ck_assert_int_eq(members_save(&members, &err), 0);
    ck_assert(!members.unsaved);
    ck_assert_int_eq(members_open(dir.path, &read, &err), 0);
    ck_assert_uint_eq(read.list.count, 2);
    members_fini(&read);
    members_fini(&members);
}
END_TEST

START_TEST(a_flipped_byte_anywhere_is_told)
{
    struct msg_member items[] = {member_of(1)};
    struct msg_member_list list = {.items = items, .count = 1};
    struct members members;
    struct err err;
    bool changed;
    ck_assert_int_eq(members_open(dir.path, &members, &err), 0);
    ck_assert_int_eq(members_set(&members, &list, &changed, &err), 0);
    members_fini(&members);
    char *path = temp_dir_path(&dir, "members.bin");
    FILE *file = fopen(path, "r+b");
    ck_assert_ptr_nonnull(file);
    fseek(file, 0, SEEK_END);
    long size = ftell(file);

    for (long at = 0; at < size; at++) {
        fseek(file, at, SEEK_SET);
        int byte = fgetc(file);
        fseek(file, at, SEEK_SET);
        fputc(byte ^ 0x10, file);
        fflush(file);
        ck_assert_int_eq(members_open(dir.path, &members, &err), BERTH_ECORRUPT);
        ck_assert_ptr_nonnull(strstr(err.text, "members.bin"));
        fseek(file, at, SEEK_SET);
        fputc(byte, file);
        fflush(file);
    }
    fclose(file);
    ck_assert_int_eq(members_open(dir.path, &members, &err), 0);
    members_fini(&members);
    free(path);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("members");
    TCase *tests = tcase_create("members");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, the_table_survives_a_restart);
    tcase_add_test(tests, an_equal_table_is_no_change);
    tcase_add_test(tests, what_is_replaced_while_it_is_written_is_written_again);
    tcase_add_loop_test(tests, a_table_that_could_not_be_written_is_written_later, 0, 2);
    tcase_add_test(tests, a_flipped_byte_anywhere_is_told);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
