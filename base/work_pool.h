/* Threads for work that blocks or computes long, apart from libuv's own.
 *
 * libuv has one pool of four threads for a whole process, and the log's disk writes are
 * on it: a few slow downloads there would stop the log. So what may take long has a pool
 * of its own, and libuv's is left to what is short.
 *
 * Shapes: struct work_pool has up to threads_max threads, started when there is work for
 * them, and one queue, taken in order (one thread: finished in order, too); struct
 * work_job is a part of what the job is about. A job's `run` is called on a thread, then
 * its `done` on the loop, with 0; or `done` alone, with BERTH_EFULL (queue_max jobs wait
 * already), BERTH_ECLOSED (cancelled or closed before it began) or the reason why no
 * thread could be started. Threads: the loop's, but run and work_job_cancelled. Callbacks
 * never run inside a call but that of work_pool_drain. Ownership: a job belongs to the
 * pool from submit until its done, which may free it or submit it again. Limits: the two
 * of work_pool_new.
 */
#pragma once

#include "base/err.h"
#include "base/list.h"

#include <uv.h>

#include <stdatomic.h>
#include <stdbool.h>

#define WORK_POOL_THREADS_MAX 16

struct work_pool;

struct work_job { /* fields private */
    struct list link;
    void (*run)(struct work_job *job);
    void (*done)(struct work_job *job, int code);
    int code;
    bool waiting; /* in the queue, no thread has it */
    atomic_bool cancelled;
};

/* NULL when out of memory. */
struct work_pool *
work_pool_new(uv_loop_t *loop, unsigned threads_max, unsigned queue_max);
void work_pool_submit(struct work_pool *pool,
                      struct work_job *job,
                      void (*run)(struct work_job *job),
                      void (*done)(struct work_job *job, int code));
/* Without a thread: done is called soon, with this code. */
void work_pool_tell(struct work_pool *pool,
                    struct work_job *job,
                    int code,
                    void (*done)(struct work_job *job, int code));
/* A job that waits is done soon; one that runs is asked to hurry. */
void work_pool_cancel(struct work_pool *pool, struct work_job *job);
/* Likewise all that wait or run now. */
void work_pool_cancel_all(struct work_pool *pool);
/* For a job's run: its result is not wanted any more. */
bool work_job_cancelled(const struct work_job *job);
/* For a done whose run must not be left out because there was no thread or no room for
 * it: runs it now, on the loop, which waits. Returns 0: it has run, here or there; or
 * BERTH_ECLOSED: it was not to run any more. */
static inline int work_job_make_up(struct work_job *job, int code)
{
    if (code < 0 && code != BERTH_ECLOSED) {
        job->run(job);
        code = 0;
    }
    return code;
}
/* Waits until all jobs are over, and calls their done inside the call: for the end of
 * something whose last words have to be on the disk. */
void work_pool_drain(struct work_pool *pool);
/* Cancels all jobs. Their done is still called; the loop goes on until the last of them,
 * and so should a run that can hear work_job_cancelled not take long. Accepts NULL;
 * returns NULL. */
struct work_pool *work_pool_close(struct work_pool *pool);
