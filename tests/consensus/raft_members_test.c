/* Goal: a change of members that is not committed is undone, also when libraft could not
 * do it, and nothing else is. Method: the library's own structs, filled by hand. */
#include "base/err.h"
#include "consensus/raft_members.h"
#include "support/test_main.h"

#include <check.h>

#include <stdio.h>
#include <string.h>

static struct raft raft;
static struct raft_members members;

/* Voters 1 to `voters`, whose entry is at this index. */
static void members_are(unsigned voters, uint64_t index)
{
    raft_configuration_close(&raft.configuration);
    raft_configuration_init(&raft.configuration);
    for (unsigned i = 1; i <= voters; i++) {
        char address[16];
        (void)snprintf(address, sizeof(address), "h%u", i);
        ck_assert_int_eq(
            raft_configuration_add(&raft.configuration, i, address, RAFT_VOTER), 0);
    }
#ifdef RAFT_VERSION_NUMBER
    static raft_library_log empty;
    raft.log = (struct raft_log *)(void *)&empty;
    raft.configuration_committed_index = index;
#else /* 0.15.0 */
    raft.configuration_index = index;
#endif
}

/* One more voter, at this index, uncommitted. */
static void change_to(unsigned voters, uint64_t index)
{
    const uint64_t committed = raft_library_members_index(&raft);
    members_are(voters, committed);
    raft.configuration_uncommitted_index = index;
}

static void setup(void)
{
    memset(&raft, 0, sizeof(raft));
    raft_configuration_init(&raft.configuration);
    raft_members_init(&members);
    members_are(2, 4);
    ck_assert_int_eq(raft_members_remember(&members, &raft), 0);
}

static void teardown(void)
{
    raft_members_fini(&members);
    raft_configuration_close(&raft.configuration);
}

START_TEST(a_change_that_is_contradicted_is_undone)
{
    change_to(3, 9);
    ck_assert_int_eq(raft_members_remember(&members, &raft), 0); /* not these */

    ck_assert_int_eq(raft_members_roll_back(&members, &raft, 9), 1);

    ck_assert_uint_eq(raft.configuration.n, 2);
    ck_assert_uint_eq(raft.configuration_uncommitted_index, 0);
    ck_assert_int_eq(raft_members_roll_back(&members, &raft, 9), 0);
}
END_TEST

static const struct {
    uint64_t change, conflict;
} harmless[] = {{0, 9}, {9, 0}, {9, 10}};

START_TEST(what_is_not_contradicted_stays)
{
    change_to(3, harmless[_i].change);

    ck_assert_int_eq(raft_members_roll_back(&members, &raft, harmless[_i].conflict), 0);

    ck_assert_uint_eq(raft.configuration.n, 3);
    ck_assert_uint_eq(raft.configuration_uncommitted_index, harmless[_i].change);
}
END_TEST

START_TEST(members_that_are_committed_take_the_place_of_those_before)
{
    members_are(3, 9);
    ck_assert_int_eq(raft_members_remember(&members, &raft), 0);
    change_to(4, 12);

    ck_assert_int_eq(raft_members_roll_back(&members, &raft, 11), 1);

    ck_assert_uint_eq(raft.configuration.n, 3);
}
END_TEST

START_TEST(members_that_nobody_remembers_are_not_made_up)
{
    members_are(3, 9); /* committed, and never noted */
    change_to(4, 12);

    ck_assert_int_eq(raft_members_roll_back(&members, &raft, 12), BERTH_EBUG);

    ck_assert_uint_eq(raft.configuration.n, 4);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("raft_members");
    TCase *tests = tcase_create("all");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, a_change_that_is_contradicted_is_undone);
    tcase_add_loop_test(tests, what_is_not_contradicted_stays, 0,
                        (int)(sizeof(harmless) / sizeof(harmless[0])));
    tcase_add_test(tests, members_that_are_committed_take_the_place_of_those_before);
    tcase_add_test(tests, members_that_nobody_remembers_are_not_made_up);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
