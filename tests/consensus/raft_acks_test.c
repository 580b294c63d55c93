/* What followers said too early, kept for a leader that may not count it yet. */
#include "consensus/raft_acks.h"
#include "support/test_main.h"

static struct raft_acks acks;

static void keep(uint64_t from, uint64_t term, uint64_t last)
{
    raft_acks_keep(&acks,
                   (struct raft_ack){.from = from, .term = term, .last_index = last});
}

static uint64_t take(uint64_t term, uint64_t *ret_from)
{
    struct raft_ack ack = {0};
    *ret_from = 0;
    if (!raft_acks_take(&acks, term, &ack)) {
        return 0;
    }
    *ret_from = ack.from;
    return ack.last_index;
}

START_TEST(each_member_is_heard_once_with_what_it_has_most)
{
    uint64_t from = 0;
    uint64_t last[4] = {0};
    keep(2, 7, 10);
    keep(3, 7, 30);
    keep(2, 7, 12);
    keep(2, 7, 11); /* said before, heard later */

    for (unsigned i = 0; i < 2; i++) {
        const uint64_t index = take(7, &from);
        ck_assert_uint_lt(from, 4);
        ck_assert_uint_eq(last[from], 0);
        last[from] = index;
    }

    ck_assert_uint_eq(last[2], 12);
    ck_assert_uint_eq(last[3], 30);
    ck_assert_uint_eq(take(7, &from), 0);
    ck_assert_uint_eq(from, 0);
}
END_TEST

START_TEST(what_was_said_in_another_term_is_not_heard)
{
    uint64_t from = 0;
    keep(2, 7, 10);
    keep(3, 8, 30); /* of a later one: the other goes */
    ck_assert_uint_eq(take(8, &from), 30);
    ck_assert_uint_eq(take(8, &from), 0);

    keep(2, 8, 10);
    ck_assert_uint_eq(take(9, &from), 0);
    ck_assert_uint_eq(take(8, &from), 0);
}
END_TEST

START_TEST(more_members_than_there_are_find_no_room)
{
    uint64_t from = 0;
    unsigned taken = 0;
    for (uint64_t id = 1; id <= CONSENSUS_MEMBERS_MAX + 3; id++) {
        keep(id, 7, id);
    }
    while (take(7, &from) != 0) {
        ck_assert_uint_le(from, CONSENSUS_MEMBERS_MAX);
        taken++;
    }
    ck_assert_uint_eq(taken, CONSENSUS_MEMBERS_MAX);
}
END_TEST

static void setup(void)
{
    acks = (struct raft_acks){0};
}

int main(void)
{
    Suite *suite = suite_create("raft_acks");
    TCase *tcase = tcase_create("raft_acks");
    tcase_add_checked_fixture(tcase, setup, NULL);
    tcase_add_test(tcase, each_member_is_heard_once_with_what_it_has_most);
    tcase_add_test(tcase, what_was_said_in_another_term_is_not_heard);
    tcase_add_test(tcase, more_members_than_there_are_find_no_room);
    suite_add_tcase(suite, tcase);
    return test_main_run(suite);
}
