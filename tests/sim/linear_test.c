/* Histories that are known to be linearizable, and such as are not. */
#include "base/random.h"
#include "sim_linear.h"
#include "support/test_main.h"

#include <string.h>

#define OPS_MAX 12
#define READ(from, to, value)        \
    {                                \
        from, to, value, LINEAR_KEEP \
    }
#define WRITE(from, to, value)      \
    {                               \
        from, to, LINEAR_ANY, value \
    }
#define SWAP(from, to, was, value) \
    {                              \
        from, to, was, value       \
    }

static const struct {
    const char *name;
    enum linear is;
    size_t stuck; /* when NO */
    size_t count;
    struct linear_op ops[OPS_MAX];
} rows[] = {
    {"nothing", LINEAR_YES, 0, 0, {{0}}},
    {"a read of the beginning", LINEAR_YES, 0, 1, {READ(1, 2, 0)}},
    {"a read of what nobody wrote", LINEAR_NO, 0, 1, {READ(1, 2, 7)}},
    {"one after the other", LINEAR_YES, 0, 2, {WRITE(1, 2, 5), READ(3, 4, 5)}},
    {"a stale read", LINEAR_NO, 1, 2, {WRITE(1, 2, 5), READ(3, 4, 0)}},
    {"a read beside a write sees it", LINEAR_YES, 0, 2, {WRITE(1, 9, 5), READ(3, 4, 5)}},
    {"or does not", LINEAR_YES, 0, 2, {WRITE(1, 9, 5), READ(3, 4, 0)}},
    {"and the next goes not back", /* though the write is still under way */
     LINEAR_NO,
     2,
     3,
     {WRITE(1, 9, 5), READ(2, 3, 5), READ(4, 5, 0)}},
    {"writes side by side, either order",
     LINEAR_YES,
     0,
     4,
     {WRITE(1, 9, 5), WRITE(1, 9, 6), READ(10, 11, 5), READ(12, 13, 5)}},
    {"but one order for all",
     LINEAR_NO,
     3,
     4,
     {WRITE(1, 9, 5), WRITE(1, 9, 6), READ(10, 11, 5), READ(12, 13, 6)}},
    {"two readers who disagree",
     LINEAR_NO,
     4,
     6,
     {WRITE(1, 20, 5), WRITE(1, 20, 6), READ(2, 3, 5), READ(4, 5, 6), READ(6, 7, 5),
      READ(8, 9, 6)}},
    {"a lost write", LINEAR_NO, 2, 3, {WRITE(1, 2, 5), WRITE(3, 4, 6), READ(5, 6, 5)}},
    {"one that may never have been",
     LINEAR_YES,
     0,
     2,
     {WRITE(1, LINEAR_NEVER, 5), READ(3, 4, 0)}},
    {"or came late",
     LINEAR_YES,
     0,
     4,
     {WRITE(1, LINEAR_NEVER, 5), READ(3, 4, 0), WRITE(5, 6, 7), READ(8, 9, 5)}},
    {"but only once",
     LINEAR_NO,
     4,
     5,
     {WRITE(1, LINEAR_NEVER, 5), READ(3, 4, 5), WRITE(5, 6, 7), READ(7, 8, 7),
      READ(8, 9, 5)}},
    {"and not before its call",
     LINEAR_NO,
     0,
     2,
     {READ(1, 2, 5), WRITE(3, LINEAR_NEVER, 5)}},
    {"swaps in a row",
     LINEAR_YES,
     0,
     3,
     {SWAP(1, 2, 0, 5), SWAP(3, 4, 5, 6), READ(5, 6, 6)}},
    {"two swaps of the same", LINEAR_NO, 1, 2, {SWAP(1, 5, 0, 5), SWAP(2, 6, 0, 6)}},
    {"a swap behind a write beside it",
     LINEAR_YES,
     0,
     3,
     {SWAP(1, 9, 6, 5), WRITE(2, 3, 6), READ(4, 5, 5)}},
    {"at one instant calls come first",
     LINEAR_YES,
     0,
     2,
     {READ(1, 2, 5), WRITE(2, 3, 5)}},
};

START_TEST(a_history_is_judged)
{
    size_t stuck = 0;

    enum linear is = linear_check(rows[_i].ops, rows[_i].count, 0, &stuck);

    ck_assert_msg(is == rows[_i].is, "%s", rows[_i].name);
    if (is == LINEAR_NO) {
        ck_assert_msg(stuck == rows[_i].stuck, "%s: stuck at %zu", rows[_i].name, stuck);
    }
}
END_TEST

/* ---- against what a register did ---- */

#define LONG_OPS 800
#define CLIENTS  6

/* Clients that take turns at a register: each operation takes effect at an instant within
 * it, some never do, or nobody hears of it. */
static size_t make_history(struct random *random, struct linear_op *ops)
{
    uint64_t free_at[CLIENTS] = {0};
    uint64_t instants[LONG_OPS];
    uint64_t value = 0;
    for (size_t i = 0; i < LONG_OPS; i++) {
        size_t client = random_below(random, CLIENTS);
        uint64_t last = i > 0 ? instants[i - 1] : 0;
        uint64_t begin = free_at[client] + random_below(random, 20);
        uint64_t at = (begin > last ? begin : last) + random_below(random, 5);
        free_at[client] = at + 1 + random_below(random, 20);
        instants[i] = at;
        ops[i] = (struct linear_op){begin, free_at[client], value, LINEAR_KEEP};
        uint64_t draw = random_below(random, 100);
        if (draw < 50) {
            ops[i].needs = draw < 40 ? LINEAR_ANY : value;
            ops[i].leaves = value = i + 1;
        }
        if (draw < 2 && ops[i].leaves != LINEAR_KEEP) { /* it has happened, or not */
            ops[i].returned = LINEAR_NEVER;
            free_at[client] += 1000;
        }
    }
    return LONG_OPS;
}

START_TEST(what_a_register_did_is_found_right)
{
    static struct linear_op ops[LONG_OPS];
    struct random random;
    random_seed(&random, (uint64_t)_i + 1);
    size_t count = make_history(&random, ops);

    ck_assert_int_eq(linear_check(ops, count, 0, NULL), LINEAR_YES);

    /* one reader is told of a write that was written over long before */
    size_t reader = count - 1 - random_below(&random, 100);
    while (ops[reader].leaves != LINEAR_KEEP) {
        reader--;
    }
    size_t old = reader - 150;
    while (ops[old].leaves == LINEAR_KEEP || ops[old].returned == LINEAR_NEVER) {
        old--;
    }
    ops[reader].needs = ops[old].leaves;
    ck_assert_int_eq(linear_check(ops, count, 0, NULL), LINEAR_NO);
}
END_TEST

static Suite *suite(void)
{
    Suite *made = suite_create("linear");
    TCase *tcase = tcase_create("linear");
    tcase_add_loop_test(tcase, a_history_is_judged, 0,
                        (int)(sizeof(rows) / sizeof(rows[0])));
    tcase_add_loop_test(tcase, what_a_register_did_is_found_right, 0, 20);
    suite_add_tcase(made, tcase);
    return made;
}

int main(void)
{
    return test_main_run(suite());
}
