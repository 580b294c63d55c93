/* Goal: work that hangs holds up nobody else, and every job's end is told once, on the
 * loop. Method: real threads; what hangs is a read of a FIFO that nobody writes to until
 * the test does. A closed loop proves that nothing was left in it. */
#include "base/err.h"
#include "base/work_pool.h"
#include "support/temp_dir.h"
#include "support/test_main.h"

#include <fcntl.h>
#include <semaphore.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define THREADS 4 /* as many as libuv has: were they the same, they would be full */
#define JOBS    8

static struct temp_dir dir;
static uv_loop_t loop;
static struct work_pool *pool;
static char *fifo;
static int fifo_hold = -1; /* both ends, so that who opens it does not wait yet */

static struct job {
    struct work_job job;
    unsigned number;
    bool ran; /* written by a thread, read after done */
    unsigned done;
    int code;
} jobs[JOBS];
static sem_t begun; /* counts jobs that hang */
static unsigned done_count;
static unsigned done_order[2 * JOBS];

static struct job *job_of(struct work_job *job)
{
    return LIST_ITEM(job, struct job, job);
}

static void start(void)
{
    temp_dir_init(&dir);
    fifo = temp_dir_path(&dir, "fifo");
    ck_assert_int_eq(mkfifo(fifo, 0600), 0);
    fifo_hold = open(fifo, O_RDWR | O_CLOEXEC);
    ck_assert_int_ge(fifo_hold, 0);
    ck_assert_int_eq(uv_loop_init(&loop), 0);
    for (unsigned i = 0; i < JOBS; i++) {
        jobs[i] = (struct job){.number = i};
    }
    done_count = 0;
    ck_assert_int_eq(sem_init(&begun, 0, 0), 0);
}

static void stop(void)
{
    pool = work_pool_close(pool);
    ck_assert_int_eq(uv_run(&loop, UV_RUN_DEFAULT), 0);
    ck_assert_int_eq(uv_loop_close(&loop), 0);
    ck_assert_int_eq(close(fifo_hold), 0);
    ck_assert_int_eq(sem_destroy(&begun), 0);
    free(fifo);
    temp_dir_fini(&dir);
}

/* Waits in the kernel for a byte of the FIFO. */
static void hang(struct work_job *job)
{
    char byte = 0;
    ck_assert_int_eq(sem_post(&begun), 0);
    ck_assert_int_eq(read(fifo_hold, &byte, 1), 1);
    job_of(job)->ran = true;
}

static void pass(struct work_job *job)
{
    job_of(job)->ran = true;
}

static void hang_until_cancelled(struct work_job *job)
{
    hang(job);
    ck_assert(work_job_cancelled(job));
}

static void note(struct work_job *job, int code)
{
    struct job *one = job_of(job);
    one->done++;
    one->code = code;
    done_order[done_count++] = one->number;
}

static void release(unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        ck_assert_int_eq(write(fifo_hold, "x", 1), 1);
    }
}

static void wait_for(unsigned count)
{
    while (done_count < count) {
        ck_assert_int_ne(uv_run(&loop, UV_RUN_ONCE), 0);
    }
}

static void open_pool(unsigned threads, unsigned queue_max)
{
    pool = work_pool_new(&loop, threads, queue_max);
    ck_assert_ptr_nonnull(pool);
}

static bool file_seen;

static void see_file(uv_fs_t *request)
{
    ck_assert_int_eq((int)request->result, 0);
    file_seen = true;
    uv_fs_req_cleanup(request);
}

START_TEST(jobs_that_hang_leave_libuvs_threads_to_the_others)
{
    uv_fs_t request;
    open_pool(THREADS, JOBS);
    for (unsigned i = 0; i < JOBS; i++) {
        work_pool_submit(pool, &jobs[i].job, hang, note);
    }

    ck_assert_int_eq(uv_fs_stat(&loop, &request, fifo, see_file), 0);
    while (!file_seen) {
        (void)uv_run(&loop, UV_RUN_ONCE);
    }

    ck_assert_uint_eq(done_count, 0);
    release(JOBS);
    wait_for(JOBS);
    for (unsigned i = 0; i < JOBS; i++) {
        ck_assert(jobs[i].ran);
        ck_assert_int_eq(jobs[i].code, 0);
        ck_assert_uint_eq(jobs[i].done, 1);
    }
}
END_TEST

START_TEST(one_thread_keeps_the_order)
{
    open_pool(1, JOBS);
    for (unsigned i = 0; i < JOBS; i++) {
        work_pool_submit(pool, &jobs[i].job, pass, note);
    }
    ck_assert_uint_eq(done_count, 0); /* no callback inside a call */

    wait_for(JOBS);

    for (unsigned i = 0; i < JOBS; i++) {
        ck_assert_uint_eq(done_order[i], i);
        ck_assert(jobs[i].ran);
    }
}
END_TEST

/* The pool's one thread hangs in job 0 from here on. */
static void occupy(void (*run)(struct work_job *job))
{
    work_pool_submit(pool, &jobs[0].job, run, note);
    ck_assert_int_eq(sem_wait(&begun), 0);
}

START_TEST(one_job_too_many_is_told_so)
{
    open_pool(1, 2);
    occupy(hang);
    for (unsigned i = 1; i < JOBS; i++) {
        work_pool_submit(pool, &jobs[i].job, pass, note);
    }
    ck_assert_uint_eq(done_count, 0); /* no callback inside a call */

    wait_for(JOBS - 3);
    release(1);
    wait_for(JOBS);

    for (unsigned i = 0; i < JOBS; i++) {
        ck_assert_int_eq(jobs[i].code, i <= 2 ? 0 : BERTH_EFULL);
        ck_assert_int_eq(jobs[i].ran, i <= 2);
    }
}
END_TEST

static void note_made_up(struct work_job *job, int code)
{
    note(job, work_job_make_up(job, code));
}

/* Refused for want of room, or cancelled; a run that a thread had is not repeated. */
START_TEST(what_found_no_room_runs_on_the_loop_and_what_was_cancelled_does_not)
{
    open_pool(1, 1);
    work_pool_submit(pool, &jobs[0].job, hang, note_made_up);
    ck_assert_int_eq(sem_wait(&begun), 0);
    work_pool_submit(pool, &jobs[1].job, pass, note_made_up); /* waits */
    work_pool_submit(pool, &jobs[2].job, pass, note_made_up); /* one too many */
    ck_assert(!jobs[2].ran && jobs[2].done == 0);

    wait_for(1);
    ck_assert(jobs[2].ran && jobs[2].done == 1);
    ck_assert_int_eq(jobs[2].code, 0);
    work_pool_cancel(pool, &jobs[1].job);
    wait_for(2);
    ck_assert(!jobs[1].ran && jobs[1].done == 1);
    ck_assert_int_eq(jobs[1].code, BERTH_ECLOSED);

    release(1);
    wait_for(3);
    ck_assert_int_eq(jobs[0].code, 0);
    ck_assert_int_eq(sem_trywait(&begun), -1); /* it hung once */
}
END_TEST

START_TEST(a_cancelled_job_does_not_begin)
{
    open_pool(1, JOBS);
    occupy(hang_until_cancelled);
    work_pool_submit(pool, &jobs[1].job, pass, note);
    work_pool_submit(pool, &jobs[2].job, pass, note);

    work_pool_cancel(pool, &jobs[1].job);
    ck_assert_uint_eq(done_count, 0); /* no callback inside a call */
    wait_for(1);

    ck_assert_int_eq(jobs[1].code, BERTH_ECLOSED);
    ck_assert(!jobs[1].ran);
    work_pool_cancel(pool, &jobs[0].job); /* runs, and hears of it */
    release(1);
    wait_for(3);
    ck_assert_int_eq(jobs[0].code, 0);
    ck_assert(jobs[2].ran);
}
END_TEST

START_TEST(all_that_wait_are_cancelled_and_the_pool_takes_more)
{
    open_pool(1, JOBS);
    occupy(hang_until_cancelled);
    work_pool_submit(pool, &jobs[1].job, pass, note);
    work_pool_submit(pool, &jobs[2].job, pass, note);

    work_pool_cancel_all(pool);
    release(1);
    work_pool_drain(pool);

    ck_assert_uint_eq(done_count, 3);
    ck_assert_int_eq(jobs[0].code, 0); /* it had begun */
    ck_assert_int_eq(jobs[1].code, BERTH_ECLOSED);
    ck_assert_int_eq(jobs[2].code, BERTH_ECLOSED);
    ck_assert(!jobs[1].ran && !jobs[2].ran);
    work_pool_submit(pool, &jobs[3].job, pass, note);
    wait_for(4);
    ck_assert(jobs[3].ran);
}
END_TEST

static void pass_again(struct work_job *job, int code)
{
    note(job, code);
    work_pool_submit(pool, &jobs[JOBS - 1].job, pass, note);
}

START_TEST(a_drained_pool_has_finished_every_job_and_takes_more)
{
    open_pool(1, JOBS);
    occupy(hang);
    work_pool_submit(pool, &jobs[1].job, pass, pass_again);
    release(1);

    work_pool_drain(pool);

    ck_assert_uint_eq(done_count, 3); /* without a turn of the loop */
    ck_assert(jobs[1].ran && jobs[JOBS - 1].ran);
    work_pool_submit(pool, &jobs[2].job, pass, note);
    wait_for(4);
    ck_assert(jobs[2].ran);
}
END_TEST

START_TEST(a_closed_pool_tells_the_end_of_every_job)
{
    open_pool(1, JOBS);
    occupy(hang_until_cancelled);
    for (unsigned i = 1; i < JOBS; i++) {
        work_pool_submit(pool, &jobs[i].job, pass, note);
    }

    pool = work_pool_close(pool);
    ck_assert_uint_eq(done_count, 0);
    wait_for(JOBS - 1);
    ck_assert_uint_eq(jobs[0].done, 0); /* it still runs */
    release(1);
    (void)uv_run(&loop, UV_RUN_DEFAULT);

    ck_assert_uint_eq(done_count, JOBS);
    ck_assert_uint_eq(jobs[0].done, 1);
    for (unsigned i = 1; i < JOBS; i++) {
        ck_assert_int_eq(jobs[i].code, BERTH_ECLOSED);
        ck_assert(!jobs[i].ran);
    }
}
END_TEST

static void submit_again(struct work_job *job, int code)
{
    note(job, code);
    if (job_of(job)->done < 3) {
        work_pool_submit(pool, job, pass, submit_again);
    } else {
        pool = work_pool_close(pool);
    }
}

START_TEST(a_job_may_be_submitted_again_and_close_the_pool_from_its_done)
{
    open_pool(THREADS, 1);
    work_pool_submit(pool, &jobs[0].job, pass, submit_again);

    (void)uv_run(&loop, UV_RUN_DEFAULT);

    ck_assert_uint_eq(jobs[0].done, 3);
    ck_assert_ptr_null(pool);
}
END_TEST

START_TEST(what_needs_no_thread_is_told_while_all_of_them_hang)
{
    open_pool(1, 1);
    work_pool_submit(pool, &jobs[0].job, hang, note);

    work_pool_tell(pool, &jobs[1].job, BERTH_EINVALID, note);
    ck_assert_uint_eq(done_count, 0);
    wait_for(1);

    ck_assert_int_eq(jobs[1].code, BERTH_EINVALID);
    release(1);
    wait_for(2);
}
END_TEST

START_TEST(an_idle_pool_closes_at_once)
{
    open_pool(1, 1);
    pool = work_pool_close(pool);
    ck_assert_ptr_null(work_pool_close(NULL));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("work_pool");
    TCase *tests = tcase_create("work_pool");
    tcase_add_checked_fixture(tests, start, stop);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, jobs_that_hang_leave_libuvs_threads_to_the_others);
    tcase_add_test(tests, one_thread_keeps_the_order);
    tcase_add_test(tests, one_job_too_many_is_told_so);
    tcase_add_test(tests,
                   what_found_no_room_runs_on_the_loop_and_what_was_cancelled_does_not);
    tcase_add_test(tests, a_cancelled_job_does_not_begin);
    tcase_add_test(tests, all_that_wait_are_cancelled_and_the_pool_takes_more);
    tcase_add_test(tests, a_drained_pool_has_finished_every_job_and_takes_more);
    tcase_add_test(tests, a_closed_pool_tells_the_end_of_every_job);
    tcase_add_test(tests, a_job_may_be_submitted_again_and_close_the_pool_from_its_done);
    tcase_add_test(tests, what_needs_no_thread_is_told_while_all_of_them_hang);
    tcase_add_test(tests, an_idle_pool_closes_at_once);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
