/* Goal: what waits for the log goes there in order or is answered. Method: a voter on a
 * real disk, whose library is short of memory for one entry. */
#include "consensus/consensus.h"
#include "consensus/entry_frame.h"
#include "support/test_main.h"
#include "voters_fixture.h"

#include <raft.h>

static struct voters voters;

static void setup(void)
{
    voters_init(&voters);
}

static void teardown(void)
{
    voters_fini(&voters);
    raft_heap_set_default();
}

/* No memory for one entry of that size; 0: there is. */
static size_t entry_refused;

static void *thin_malloc(void *data, size_t size)
{
    (void)data;
    if (size == entry_refused) {
        entry_refused = 0;
        return NULL;
    }
    return malloc(size);
}

static void thin_free(void *data, void *memory)
{
    (void)data;
    free(memory);
}

static void *thin_calloc(void *data, size_t count, size_t size)
{
    (void)data;
    return calloc(count, size);
}

static void *thin_realloc(void *data, void *memory, size_t size)
{
    (void)data;
    return realloc(memory, size);
}

static void *thin_aligned_alloc(void *data, size_t alignment, size_t size)
{
    (void)data;
    return aligned_alloc(alignment, size);
}

static void thin_aligned_free(void *data, size_t alignment, void *memory)
{
    (void)data;
    (void)alignment;
    free(memory);
}

/* What is proposed behind another may count on it: the guard of a request's key. */
START_TEST(what_comes_behind_an_entry_that_the_log_does_not_take_is_not_done_either)
{
    static struct raft_heap thin = {.malloc = thin_malloc,
                                    .free = thin_free,
                                    .calloc = thin_calloc,
                                    .realloc = thin_realloc,
                                    .aligned_alloc = thin_aligned_alloc,
                                    .aligned_free = thin_aligned_free};
    static char first[CONSENSUS_COMMAND_MAX]; /* fills an entry */
    struct answers ahead = {0};
    struct answers behind = {0};
    struct voter *one = voter_up(&voters, 1, true);
    VOTERS_UNTIL(&voters, one->leads);
    raft_heap_set(&thin);
    entry_refused = ENTRY_FRAME_SIZE_MAX;

    ck_assert_int_eq(consensus_propose(one->consensus, first, sizeof(first),
                                       VOTERS_WAIT_MS, on_result, &ahead),
                     0);
    ck_assert_int_eq(voter_propose(one, "behind", &behind), 0);
    VOTERS_UNTIL(&voters, ahead.count == 1 && behind.count == 1);

    ck_assert_uint_eq(entry_refused, 0);
    ck_assert_str_eq(err_name(ahead.last), "BERTH_EFULL");
    ck_assert_str_eq(err_name(behind.last), "BERTH_EFULL");
    voter_commit(one, "after");
    ck_assert_uint_eq(one->ledger.count, 1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("consensus_queue");
    TCase *tests = tcase_create("one voter");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_set_timeout(tests, 60);
    tcase_add_test(
        tests, what_comes_behind_an_entry_that_the_log_does_not_take_is_not_done_either);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
