/* Goal: a restarted host knows whom to call; a damaged table is told, never guessed
 * around. */
#include "agent/identity.h"
#include "agent/members.h"
#include "base/cleanup.h"
#include "support/temp_dir.h"
#include "support/test_main.h"

#include <fcntl.h>
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

static void set(struct members *members, struct msg_member *items, uint32_t count)
{
    const struct msg_member_list list = {.items = items, .count = count};
    bool changed = false;
    ck_assert_int_eq(members_set(members, &list, &changed, NULL), 0);
}

START_TEST(who_is_removed_is_named_in_the_log)
{
    struct msg_member items[] = {member_of(1), member_of(2), member_of(3)};
    struct members members;
    char *path = temp_dir_path(&dir, "log");
    const int saved = dup(STDERR_FILENO);
    const int log = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    ck_assert_int_eq(members_open(dir.path, &members, NULL), 0);
    ck_assert_int_ge(dup2(log, STDERR_FILENO), 0);

    set(&members, items, 2);
    items[1] = items[2];
    set(&members, items, 2);

    ck_assert_int_ge(dup2(saved, STDERR_FILENO), 0);
    char *said = temp_dir_read(&dir, "log");
    ck_assert_ptr_nonnull(strstr(said, "host is no member any more host=h2 uid=2\n"));
    ck_assert_ptr_null(strstr(said, "h1"));
    ck_assert_ptr_null(strstr(said, "h3"));
    (void)close(saved);
    (void)close(log);
    free(said);
    free(path);
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

/* ---- who leads, by a voter's word ---- */

#define TABLE_TERM 7

/* h1 votes, h2 does not; as of TABLE_TERM, and in the file. */
static void learner_open(struct members *ret_members)
{
    struct msg_member items[] = {member_of(1), member_of(2)};
    struct msg_member_list list = {.items = items, .count = 2};
    bool changed = false;
    items[0].voter = VOTER_VOTER;
    ck_assert_int_eq(members_open(dir.path, ret_members, NULL), 0);
    ret_members->term = TABLE_TERM;
    ck_assert_int_eq(members_set(ret_members, &list, &changed, NULL), 0);
}

static struct msg_member leader_of(uint64_t uid)
{
    struct msg_member member = member_of(uid);
    member.voter = VOTER_VOTER;
    return member;
}

/* One that is known and did not vote, or one that was not there yet. */
START_TEST(a_new_leader_is_learned_and_comes_into_the_file_with_orders)
{
    const uint64_t uid = _i == 0 ? 2 : 3;
    const struct msg_member leader = leader_of(uid);
    struct members members;
    struct members read;
    bool changed = false;
    learner_open(&members);

    ck_assert_int_eq(members_learn(&members, &leader, TABLE_TERM, &changed, NULL), 0);

    ck_assert(changed && !members.unsaved);
    ck_assert_int_eq(members_by_uid(&members, uid)->voter, VOTER_VOTER);
    ck_assert_ptr_eq(members_by_key(&members, &leader.key),
                     members_by_uid(&members, uid));
    ck_assert_uint_eq(members.list.count, _i == 0 ? 2 : 3);
    ck_assert_int_eq(members_learn(&members, &leader, TABLE_TERM, &changed, NULL), 0);
    ck_assert(!changed); /* nothing new */
    struct msg_member items[3];
    memcpy(items, members.list.items, members.list.count * sizeof(items[0]));
    const struct msg_member_list same = {.items = items, .count = members.list.count};
    members.term = TABLE_TERM + 1;
    ck_assert_int_eq(members_set(&members, &same, &changed, NULL), 0);
    ck_assert_int_eq(members_open(dir.path, &read, NULL), 0);
    ck_assert_int_eq(members_by_uid(&read, uid)->voter, VOTER_VOTER);
    ck_assert_uint_eq(read.term, TABLE_TERM + 1);
    members_fini(&read);
    members_fini(&members);
}
END_TEST

START_TEST(the_next_table_undoes_what_was_learned)
{
    const struct msg_member leader = leader_of(3);
    struct msg_member items[] = {member_of(1)};
    const struct msg_member_list list = {.items = items, .count = 1};
    struct members members;
    bool changed = false;
    learner_open(&members);
    ck_assert_int_eq(members_learn(&members, &leader, TABLE_TERM, &changed, NULL), 0);

    ck_assert_int_eq(members_set(&members, &list, &changed, NULL), 0);

    ck_assert(changed);
    ck_assert_ptr_null(members_by_uid(&members, 3));
    members_fini(&members);
}
END_TEST

/* What the voter says, and what becomes of it. The leader is h2 with its key, unless. */
static const struct {
    uint64_t uid;    /* of the record */
    uint64_t key_of; /* whose key it has; 0: none */
    enum voter_role voter;
    uint64_t term;
    int code;
} words[] = {
    {2, 2, VOTER_VOTER, TABLE_TERM - 1, BERTH_ESTALE},
    {3, 3, VOTER_VOTER, TABLE_TERM - 1, BERTH_ESTALE},
    {2, 2, VOTER_NONE, TABLE_TERM, BERTH_EINVALID},
    {2, 9, VOTER_VOTER, TABLE_TERM, BERTH_EINVALID}, /* another key */
    {3, 2, VOTER_VOTER, TABLE_TERM, BERTH_EINVALID}, /* another's key */
    {2, 1, VOTER_VOTER, TABLE_TERM, BERTH_EINVALID}, /* that of one that votes */
    {1, 9, VOTER_VOTER, UINT64_MAX, BERTH_EINVALID}, /* for one that votes */
    {3, 0, VOTER_VOTER, TABLE_TERM, BERTH_EINVALID},
    {0, 3, VOTER_VOTER, TABLE_TERM, BERTH_EINVALID},
};

START_TEST(a_word_that_is_stale_or_contradicts_the_table_changes_nothing)
{
    struct msg_member leader = leader_of(words[_i].uid);
    struct members members;
    struct err err = {0};
    bool changed = true;
    learner_open(&members);
    struct msg_member before[2];
    memcpy(before, members.list.items, sizeof(before));
    memset(leader.key.bytes, (int)words[_i].key_of, DIGEST_SIZE);
    leader.voter = words[_i].voter;

    int r = members_learn(&members, &leader, words[_i].term, &changed, &err);

    ck_assert_int_eq(r, words[_i].code);
    ck_assert(!changed && err.text[0] != '\0');
    ck_assert_uint_eq(members.list.count, 2);
    for (unsigned i = 0; i < 2; i++) {
        ck_assert(record_equal(&msg_member_record, &before[i], &members.list.items[i]));
    }
    members_fini(&members);
}
END_TEST

/* Where it can be called is what its own orders and heartbeats say. */
START_TEST(a_host_that_is_known_to_vote_stays_as_it_is)
{
    struct msg_member leader = leader_of(1);
    struct members members;
    bool changed = true;
    learner_open(&members);
    leader.mesh_port = 9999;

    ck_assert_int_eq(members_learn(&members, &leader, TABLE_TERM + 1, &changed, NULL), 0);

    ck_assert(!changed);
    ck_assert_uint_ne(members_by_uid(&members, 1)->mesh_port, 9999);
    members_fini(&members);
}
END_TEST

START_TEST(only_so_many_leaders_are_learned_between_orders)
{
    struct members members;
    bool changed = false;
    learner_open(&members);

    for (unsigned i = 0; i < MEMBERS_LEARNED_MAX; i++) {
        const struct msg_member leader = leader_of(3 + i);
        ck_assert_int_eq(members_learn(&members, &leader, TABLE_TERM, &changed, NULL), 0);
    }
    const struct msg_member further = leader_of(3 + MEMBERS_LEARNED_MAX);
    ck_assert_int_eq(members_learn(&members, &further, TABLE_TERM, &changed, NULL),
                     BERTH_EFULL);

    ck_assert(!changed);
    ck_assert_uint_eq(members.list.count, 2 + MEMBERS_LEARNED_MAX);
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
    tcase_add_test(tests, who_is_removed_is_named_in_the_log);
    tcase_add_test(tests, what_is_replaced_while_it_is_written_is_written_again);
    tcase_add_loop_test(tests, a_table_that_could_not_be_written_is_written_later, 0, 2);
    tcase_add_loop_test(
        tests, a_new_leader_is_learned_and_comes_into_the_file_with_orders, 0, 2);
    tcase_add_test(tests, the_next_table_undoes_what_was_learned);
    tcase_add_loop_test(tests,
                        a_word_that_is_stale_or_contradicts_the_table_changes_nothing, 0,
                        (int)ARRAY_COUNT(words));
    tcase_add_test(tests, a_host_that_is_known_to_vote_stays_as_it_is);
    tcase_add_test(tests, only_so_many_leaders_are_learned_between_orders);
    tcase_add_test(tests, a_flipped_byte_anywhere_is_told);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
