#include "base/err.h"
#include "consensus/log_seal.h"
#define DISK_GATE_WRITES
#include "support/disk_gate.h"
#include "support/temp_dir.h"
#include "support/test_main.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static struct temp_dir dir;
static struct log_seal seal;
static uv_loop_t loop;
static struct work_pool *pool;

static void setup(void)
{
    temp_dir_init(&dir);
    ck_assert_int_eq(log_seal_open(&seal, dir.path, 3, 9, NULL), 0);
}

static void teardown(void)
{
    log_seal_close(&seal);
    temp_dir_fini(&dir);
}

static int reopen(struct err *err)
{
    log_seal_close(&seal);
    return log_seal_open(&seal, dir.path, 3, 9, err);
}

static void flip(off_t at)
{
    char *path = temp_dir_path(&dir, LOG_SEAL_FILE);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    uint8_t byte = 0;
    ck_assert_int_eq(pread(fd, &byte, 1, at), 1);
    byte ^= 1;
    ck_assert_int_eq(pwrite(fd, &byte, 1, at), 1);
    close(fd);
    free(path);
}

START_TEST(a_pristine_folder_promises_nothing)
{
    ck_assert(!seal.present);
    ck_assert_int_eq(log_seal_check(&seal, 0, 0, 0, 0, NULL), 0);
    ck_assert_int_eq(log_seal_check(&seal, 1, 0, 0, 0, NULL), BERTH_ECORRUPT);
    ck_assert_int_eq(log_seal_check(&seal, 0, 0, 5, 0, NULL), BERTH_ECORRUPT);
}
END_TEST

START_TEST(around_a_change_either_term_is_good_and_no_other)
{
    ck_assert_int_eq(log_seal_intend(&seal, 4, 0, NULL), 0);
    ck_assert_int_eq(log_seal_intend(&seal, 4, 2, NULL), 0);
    ck_assert_int_eq(reopen(NULL), 0);

    ck_assert_int_eq(log_seal_check(&seal, 4, 1, 0, 0, NULL), BERTH_ECORRUPT);
    ck_assert_int_eq(log_seal_check(&seal, 0, 0, 0, 0, NULL), BERTH_ECORRUPT);
    ck_assert_int_eq(log_seal_check(&seal, 4, 2, 0, 0, NULL), 0);
    ck_assert_int_eq(reopen(NULL), 0);
    ck_assert_int_eq(log_seal_check(&seal, 4, 0, 0, 0, NULL), 0);
}
END_TEST

START_TEST(a_change_that_was_only_intended_is_forgotten_at_the_next_start)
{
    ck_assert_int_eq(log_seal_intend(&seal, 4, 0, NULL), 0);
    ck_assert_int_eq(log_seal_settle(&seal, 0, 0, NULL), 0);
    ck_assert_int_eq(log_seal_intend(&seal, 4, 2, NULL),
                     0); /* and then the power fails */
    ck_assert_int_eq(reopen(NULL), 0);
    ck_assert_int_eq(log_seal_check(&seal, 4, 0, 0, 0, NULL), 0);

    ck_assert_int_eq(log_seal_settle(&seal, 10, 4, NULL), 0);
    ck_assert_int_eq(reopen(NULL), 0);

    ck_assert_int_eq(log_seal_check(&seal, 4, 0, 10, 4, NULL), 0);
}
END_TEST

START_TEST(once_settled_only_the_new_term_is_good)
{
    ck_assert_int_eq(log_seal_intend(&seal, 4, 0, NULL), 0);
    ck_assert_int_eq(log_seal_intend(&seal, 4, 2, NULL), 0);
    ck_assert_int_eq(log_seal_settle(&seal, 10, 4, NULL), 0);
    ck_assert_int_eq(reopen(NULL), 0);

    ck_assert_int_eq(log_seal_check(&seal, 4, 2, 10, 4, NULL), 0);
    ck_assert_int_eq(log_seal_check(&seal, 4, 0, 10, 4, NULL), BERTH_ECORRUPT);
}
END_TEST

START_TEST(a_log_that_is_shorter_or_another_is_noticed)
{
    struct err err = {0};
    ck_assert_int_eq(log_seal_intend(&seal, 4, 0, NULL), 0);
    ck_assert_int_eq(log_seal_settle(&seal, 10, 4, NULL), 0);

    ck_assert_int_eq(log_seal_check(&seal, 4, 0, 9, 0, &err), BERTH_ECORRUPT);
    ck_assert_msg(strstr(err.text, "ends at index 9") != NULL, "%s", err.text);
    ck_assert_int_eq(log_seal_check(&seal, 4, 0, 12, 3, NULL), BERTH_ECORRUPT);
    ck_assert_int_eq(log_seal_check(&seal, 4, 0, 12, 4, NULL), 0);
    ck_assert_int_eq(log_seal_check(&seal, 4, 0, 12, 0, NULL), 0); /* in the snapshot */
}
END_TEST

START_TEST(cutting_the_log_lowers_the_promise_and_never_raises_it)
{
    ck_assert_int_eq(log_seal_intend(&seal, 4, 0, NULL), 0);
    ck_assert_int_eq(log_seal_settle(&seal, 10, 4, NULL), 0);
    ck_assert_int_eq(log_seal_lower(&seal, 6, 3, NULL), 0);
    ck_assert_int_eq(log_seal_lower(&seal, 8, 4, NULL), 0);
    ck_assert_int_eq(reopen(NULL), 0);

    ck_assert_uint_eq(seal.state.index, 6);
    ck_assert_uint_eq(seal.state.index_term, 3);
    ck_assert_int_eq(log_seal_check(&seal, 4, 0, 6, 3, NULL), 0);
}
END_TEST

START_TEST(nothing_is_written_when_nothing_is_new)
{
    ck_assert_int_eq(log_seal_intend(&seal, 4, 0, NULL), 0);
    ck_assert_int_eq(log_seal_settle(&seal, 10, 4, NULL), 0);
    uint64_t sequence = seal.sequence;
    ck_assert_int_eq(log_seal_settle(&seal, 10, 4, NULL), 0);
    ck_assert_int_eq(log_seal_lower(&seal, 10, 4, NULL), 0);
    ck_assert_uint_eq(seal.sequence, sequence);
}
END_TEST

START_TEST(a_torn_write_leaves_the_promise_before_it)
{
    ck_assert_int_eq(log_seal_intend(&seal, 4, 0, NULL), 0);
    ck_assert_int_eq(log_seal_settle(&seal, 10, 4, NULL), 0);
    ck_assert_int_eq(log_seal_settle(&seal, 11, 4, NULL), 0);
    flip((off_t)(seal.sequence % 2) * 4096 + 60);
    ck_assert_int_eq(reopen(NULL), 0);
    ck_assert_uint_eq(seal.state.index, 10);

    /* And the next write goes over the torn one, not over the good one. */
    ck_assert_int_eq(log_seal_settle(&seal, 12, 4, NULL), 0);
    flip((off_t)(seal.sequence % 2) * 4096 + 60);
    ck_assert_int_eq(reopen(NULL), 0);
    ck_assert_uint_eq(seal.state.index, 10);
}
END_TEST

START_TEST(two_damaged_halves_and_a_short_file_are_refused)
{
    struct err err = {0};
    ck_assert_int_eq(log_seal_intend(&seal, 4, 0, NULL), 0);
    flip(20);
    flip(4096 + 20);
    ck_assert_int_eq(reopen(&err), BERTH_ECORRUPT);
    ck_assert_msg(strstr(err.text, LOG_SEAL_FILE) != NULL, "%s", err.text);
    temp_dir_write(&dir, LOG_SEAL_FILE, "short");
    ck_assert_int_eq(reopen(&err), BERTH_ECORRUPT);
}
END_TEST

START_TEST(the_seal_of_another_node_or_cluster_is_refused)
{
    struct log_seal other;
    ck_assert_int_eq(log_seal_intend(&seal, 4, 0, NULL), 0);
    ck_assert_int_eq(log_seal_open(&other, dir.path, 4, 9, NULL), BERTH_ECONFLICT);
    ck_assert_int_eq(log_seal_open(&other, dir.path, 3, 8, NULL), BERTH_ECONFLICT);
}
END_TEST

/* ---- off the loop ---- */

static struct err told;
static unsigned told_count;

static void note_failed(void *context, const struct err *err)
{
    (void)context;
    told = *err;
    told_count++;
}

static void setup_pool(void)
{
    setup();
    told_count = 0;
    ck_assert_int_eq(uv_loop_init(&loop), 0);
    pool = work_pool_new(&loop, 1, 1);
    ck_assert_ptr_nonnull(pool);
    ck_assert_int_eq(pipe2(gate.pipe, O_CLOEXEC), 0);
    ck_assert_int_eq(log_seal_intend(&seal, 4, 0, NULL), 0);
}

static void teardown_pool(void)
{
    teardown();
    work_pool_close(pool);
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(uv_loop_close(&loop), 0);
}

START_TEST(what_is_durable_is_sealed_while_the_loop_turns)
{
    gate.closed = true;

    log_seal_settle_later(&seal, pool, 10, 4, note_failed, NULL);
    while (gate.waiting == 0) {
        (void)uv_run(&loop, UV_RUN_NOWAIT);
    }
    log_seal_settle_later(&seal, pool, 11, 4, note_failed, NULL); /* not now */
    ck_assert_uint_eq(seal.state.index, 0); /* not promised before it is there */
    gate_open();
    while (seal.state.index == 0) {
        (void)uv_run(&loop, UV_RUN_ONCE);
    }

    ck_assert_uint_eq(gate.on_loop, 0);
    ck_assert_int_eq(reopen(NULL), 0);
    ck_assert_uint_eq(seal.state.index, 10);
    ck_assert_uint_eq(told_count, 0);
}
END_TEST

static int change_term(void)
{
    return log_seal_intend(&seal, 5, 0, NULL);
}

static int cut(void)
{
    return log_seal_lower(&seal, 5, 4, NULL);
}

static int settle(void)
{
    return log_seal_settle(&seal, 12, 4, NULL);
}

static int end(void)
{
    log_seal_close(&seal);
    return 0;
}

static const struct {
    int (*change)(void);
    uint64_t term;
    uint64_t index;
} changes[] = {{change_term, 5, 10}, {cut, 4, 5}, {settle, 4, 12}, {end, 4, 10}};

/* Both slots would be under way at once: a loss of power could tear both. */
START_TEST(every_change_waits_for_the_write_under_way)
{
    pthread_t opener;
    atomic_bool over = false;
    gate.closed = true;
    log_seal_settle_later(&seal, pool, 10, 4, note_failed, NULL);
    while (gate.waiting == 0) {
        (void)sched_yield();
    }
    ck_assert_int_eq(pthread_create(&opener, NULL, gate_open_when_main_waits, &over), 0);

    int r = changes[_i].change();

    bool waited = !gate.closed;
    over = true;
    ck_assert_int_eq(pthread_join(opener, NULL), 0);
    ck_assert(waited);
    ck_assert_int_eq(r, 0);
    ck_assert_int_eq(reopen(NULL), 0);
    ck_assert_uint_eq(seal.state.term, changes[_i].term);
    ck_assert_uint_eq(seal.state.index, changes[_i].index);
}
END_TEST

START_TEST(what_cannot_be_written_is_told_and_not_promised)
{
    gate.broken = true;

    log_seal_settle_later(&seal, pool, 10, 4, note_failed, NULL);
    while (told_count == 0) {
        (void)uv_run(&loop, UV_RUN_ONCE);
    }

    ck_assert_int_eq(told.code, -EIO);
    ck_assert_ptr_nonnull(strstr(told.text, LOG_SEAL_FILE));
    ck_assert_uint_eq(seal.state.index, 0);
    gate.broken = false;
    ck_assert_int_eq(log_seal_settle(&seal, 10, 4, NULL), 0);
    ck_assert_int_eq(reopen(NULL), 0);
    ck_assert_uint_eq(seal.state.index, 10);
}
END_TEST

START_TEST(a_change_hears_that_the_write_it_waited_for_has_failed)
{
    struct err err = {0};
    gate.broken = true;
    log_seal_settle_later(&seal, pool, 10, 4, note_failed, NULL);

    ck_assert_int_eq(log_seal_intend(&seal, 5, 0, &err), -EIO);

    ck_assert_int_eq(err.code, -EIO);
    gate.broken = false;
    (void)uv_run(&loop, UV_RUN_NOWAIT);
    ck_assert_uint_eq(told_count, 0); /* once is enough */
    ck_assert_int_eq(reopen(NULL), 0);
    ck_assert_uint_eq(seal.state.term, 4);
}
END_TEST

static Suite *suite(void)
{
    Suite *made = suite_create("log_seal");
    TCase *tcase = tcase_create("log_seal");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, a_pristine_folder_promises_nothing);
    tcase_add_test(tcase, around_a_change_either_term_is_good_and_no_other);
    tcase_add_test(tcase, a_change_that_was_only_intended_is_forgotten_at_the_next_start);
    tcase_add_test(tcase, once_settled_only_the_new_term_is_good);
    tcase_add_test(tcase, a_log_that_is_shorter_or_another_is_noticed);
    tcase_add_test(tcase, cutting_the_log_lowers_the_promise_and_never_raises_it);
    tcase_add_test(tcase, nothing_is_written_when_nothing_is_new);
    tcase_add_test(tcase, a_torn_write_leaves_the_promise_before_it);
    tcase_add_test(tcase, two_damaged_halves_and_a_short_file_are_refused);
    tcase_add_test(tcase, the_seal_of_another_node_or_cluster_is_refused);
    suite_add_tcase(made, tcase);
    TCase *later = tcase_create("off the loop");
    tcase_add_checked_fixture(later, setup_pool, teardown_pool);
    tcase_add_test(later, what_is_durable_is_sealed_while_the_loop_turns);
    tcase_add_loop_test(later, every_change_waits_for_the_write_under_way, 0, 4);
    tcase_add_test(later, what_cannot_be_written_is_told_and_not_promised);
    tcase_add_test(later, a_change_hears_that_the_write_it_waited_for_has_failed);
    suite_add_tcase(made, later);
    return made;
}

int main(void)
{
    if (!gate_sees_main()) {
        return test_main_skip("what threads wait for cannot be seen here");
    }
    return test_main_run(suite());
}
