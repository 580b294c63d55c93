#include "base/work_pool.h"

#include "base/err.h"
#include "base/loop.h"
#include "base/require.h"
#include "base/where.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#define STACK_BYTES (1u << 20) /* TLS and a resolver; only what is touched is there */

struct work_pool {
    pthread_mutex_t lock; /* guards all lists and counts */
    pthread_cond_t work;  /* something waits, or the end has come */
    pthread_cond_t over;  /* a job is finished */
    struct list waiting;
    struct list running;
    struct list finished; /* their done is still to be called */
    unsigned waiting_count;
    unsigned idle; /* threads that wait for work */
    bool closing;
    unsigned queue_max;
    /* of the loop's thread alone */
    struct loop_post *post;
    bool firing;
    unsigned threads_max;
    unsigned thread_count;
    pthread_t threads[WORK_POOL_THREADS_MAX];
};

/* ---- on the threads ---- */

static void finish(struct work_pool *pool, struct work_job *job, int code)
{
    job->code = code;
    job->waiting = false;
    list_push_back(&pool->finished, &job->link);
    (void)pthread_cond_signal(&pool->over); /* cannot fail */
    loop_post_send(pool->post); /* under the lock: the loop frees the post without it */
}

static void run_next(struct work_pool *pool)
{
    struct work_job *job = LIST_ITEM(pool->waiting.next, struct work_job, link);
    list_remove(&job->link);
    list_push_back(&pool->running, &job->link);
    pool->waiting_count--;
    job->waiting = false;
    pthread_mutex_unlock(&pool->lock);
    job->run(job);
    pthread_mutex_lock(&pool->lock);
    list_remove(&job->link);
    finish(pool, job, 0);
}

static void *work(void *context)
{
    struct work_pool *pool = context;
    pthread_mutex_lock(&pool->lock);
    for (;;) {
        if (!list_empty(&pool->waiting)) {
            run_next(pool);
        } else if (pool->closing) {
            break;
        } else {
            pool->idle++;
            pthread_cond_wait(&pool->work, &pool->lock);
            pool->idle--;
        }
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

/* Signals are the loop's. */
static int thread_start(struct work_pool *pool)
{
    pthread_attr_t attributes;
    sigset_t all;
    (void)sigfillset(&all); /* cannot fail */
    int r = -pthread_attr_init(&attributes);
    if (r < 0) {
        return r;
    }
    r = -pthread_attr_setstacksize(&attributes, STACK_BYTES);
    r = r < 0 ? r : -pthread_attr_setsigmask_np(&attributes, &all);
    r = r < 0 ? r
              : -pthread_create(&pool->threads[pool->thread_count], &attributes, work,
                                pool);
    pool->thread_count += r == 0 ? 1U : 0U;
    (void)pthread_attr_destroy(&attributes); /* cannot fail */
    return r;
}

/* ---- on the loop ---- */

static void pool_free(struct work_pool *pool)
{
    for (unsigned i = 0; i < pool->thread_count; i++) {
        (void)pthread_join(pool->threads[i], NULL); /* it has nothing left to do */
    }
    pool->post = loop_post_close(pool->post);
    (void)pthread_cond_destroy(&pool->work);
    (void)pthread_cond_destroy(&pool->over);
    (void)pthread_mutex_destroy(&pool->lock);
    free(pool);
}

static bool is_over(struct work_pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    bool over = pool->closing && list_empty(&pool->waiting) &&
                list_empty(&pool->running) && list_empty(&pool->finished);
    pthread_mutex_unlock(&pool->lock);
    return over;
}

static void fire(struct work_pool *pool)
{
    struct list done;
    list_init(&done);
    pthread_mutex_lock(&pool->lock);
    list_move_all(&done, &pool->finished);
    pthread_mutex_unlock(&pool->lock);
    pool->firing = true;
    while (!list_empty(&done)) {
        struct work_job *job = LIST_ITEM(done.next, struct work_job, link);
        list_remove(&job->link);
        job->done(job, job->code); /* may free it, and close the pool */
    }
    pool->firing = false;
}

static void on_post(void *context)
{
    struct work_pool *pool = context;
    fire(pool);
    if (is_over(pool)) {
        pool_free(pool);
    }
}

struct work_pool *work_pool_new(uv_loop_t *loop, unsigned threads_max, unsigned queue_max)
{
    REQUIRE(threads_max > 0 && threads_max <= WORK_POOL_THREADS_MAX && queue_max > 0);
    struct work_pool *pool = calloc(1, sizeof(*pool));
    if (pool == NULL) {
        return NULL;
    }
    pool->threads_max = threads_max;
    pool->queue_max = queue_max;
    list_init(&pool->waiting);
    list_init(&pool->running);
    list_init(&pool->finished);
    pool->post = loop_post_new(loop, on_post, pool);
    if (pool->post == NULL) {
        free(pool);
        return NULL;
    }
    (void)pthread_mutex_init(&pool->lock,
                             NULL); /* these cannot fail without attributes */
    (void)pthread_cond_init(&pool->work, NULL);
    (void)pthread_cond_init(&pool->over, NULL);
    return pool;
}

static void job_init(struct work_job *job,
                     void (*run)(struct work_job *job),
                     void (*done)(struct work_job *job, int code))
{
    list_init(&job->link);
    job->run = run;
    job->done = done;
    job->code = 0;
    job->waiting = false;
    atomic_init(&job->cancelled, false);
}

/* Under the lock: 0, or why it is not taken. */
static int admit(struct work_pool *pool)
{
    if (pool->closing) {
        return BERTH_ECLOSED;
    }
    if (pool->waiting_count >= pool->queue_max) {
        return BERTH_EFULL;
    }
    if (pool->idle > pool->waiting_count || pool->thread_count == pool->threads_max) {
        return 0;
    }
    int r = thread_start(pool);
    return pool->thread_count > 0 ? 0 : r; /* the others come to it, later */
}

void work_pool_submit(struct work_pool *pool,
                      struct work_job *job,
                      void (*run)(struct work_job *job),
                      void (*done)(struct work_job *job, int code))
{
    REQUIRE(run != NULL && done != NULL);
    job_init(job, run, done);
    pthread_mutex_lock(&pool->lock);
    int r = admit(pool);
    if (r < 0) {
        finish(pool, job, r);
    } else {
        job->waiting = true;
        list_push_back(&pool->waiting, &job->link);
        pool->waiting_count++;
        (void)pthread_cond_signal(&pool->work); /* cannot fail */
    }
    pthread_mutex_unlock(&pool->lock);
}

void work_pool_tell(struct work_pool *pool,
                    struct work_job *job,
                    int code,
                    void (*done)(struct work_job *job, int code))
{
    REQUIRE(done != NULL);
    job_init(job, NULL, done);
    pthread_mutex_lock(&pool->lock);
    finish(pool, job, code);
    pthread_mutex_unlock(&pool->lock);
}

/* Under the lock. */
static void cancel(struct work_pool *pool, struct work_job *job)
{
    atomic_store(&job->cancelled, true);
    if (job->waiting) {
        list_remove(&job->link);
        pool->waiting_count--;
        finish(pool, job, BERTH_ECLOSED);
    }
}

void work_pool_cancel(struct work_pool *pool, struct work_job *job)
{
    pthread_mutex_lock(&pool->lock);
    cancel(pool, job);
    pthread_mutex_unlock(&pool->lock);
}

/* Under the lock. */
static void cancel_all(struct work_pool *pool)
{
    LIST_EACH_SAFE (item, &pool->waiting) {
        cancel(pool, LIST_ITEM(item, struct work_job, link));
    }
    LIST_EACH (item, &pool->running) {
        cancel(pool, LIST_ITEM(item, struct work_job, link));
    }
}

void work_pool_cancel_all(struct work_pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    cancel_all(pool);
    pthread_mutex_unlock(&pool->lock);
}

bool work_job_cancelled(const struct work_job *job)
{
    return atomic_load(&job->cancelled);
}

void work_pool_drain(struct work_pool *pool)
{
    WHERE("wait for what a thread is at");
    bool more = true;
    REQUIRE(!pool->closing && !pool->firing);
    while (more) { /* a done may submit */
        pthread_mutex_lock(&pool->lock);
        while (!list_empty(&pool->waiting) || !list_empty(&pool->running)) {
            (void)pthread_cond_wait(&pool->over, &pool->lock); /* cannot fail */
        }
        more = !list_empty(&pool->finished);
        pthread_mutex_unlock(&pool->lock);
        fire(pool);
    }
}

struct work_pool *work_pool_close(struct work_pool *pool)
{
    if (pool == NULL) {
        return NULL;
    }
    pthread_mutex_lock(&pool->lock);
    REQUIRE(!pool->closing);
    pool->closing = true;
    cancel_all(pool);
    (void)pthread_cond_broadcast(&pool->work); /* cannot fail */
    pthread_mutex_unlock(&pool->lock);
    if (!pool->firing && is_over(pool)) {
        pool_free(pool);
    }
    return NULL;
}
