/* base/loop.h, base/work_pool.h and consensus/loop_turn.h on virtual time: the loop is a
 * struct sim_process.
 */
#include "base/loop.h"
#include "base/require.h"
#include "base/work_pool.h"
#include "consensus/loop_turn.h"
#include "sim.h"

#include <stdlib.h>

#define TURNS_MAX 64 /* of one event: more would be a loop that feeds itself */

struct loop_timer {
    struct list link;
    struct sim_process *process;
    uint64_t id; /* of the firing that counts; others are stale */
    uint64_t interval_ms;
    void (*fn)(void *context);
    void *context;
};

struct loop_post {
    struct list link;
    struct sim_process *process;
    uint64_t id;
    bool sent;
    void (*fn)(void *context);
    void *context;
};

struct loop_turn {
    struct list link;
    struct sim_process *process;
    void (*turn)(void *context);
    void *context;
};

struct closing {
    struct list link;
    void (*fn)(void *context);
    void *context;
};

static struct sim_process *process_of(uv_loop_t *loop)
{
    return (struct sim_process *)(void *)loop;
}

/* ---- timers ---- */

static void on_timer(void *context, uint64_t id);

static void timer_arm(struct loop_timer *timer, uint64_t after_ms)
{
    struct sim_process *process = timer->process;
    struct world *world = &process->machine->sim->world;
    timer->id = ++process->ids;
    world_at(world,
             world->now_ns + sim_machine_true_ns(process->machine, after_ms * NS_PER_MS),
             &process->machine->berthd, on_timer, process, timer->id);
}

static void on_timer(void *context, uint64_t id)
{
    struct sim_process *process = context;
    LIST_EACH (link, &process->timers) {
        struct loop_timer *timer = LIST_ITEM(link, struct loop_timer, link);
        if (timer->id != id) {
            continue;
        }
        if (timer->interval_ms > 0) {
            timer_arm(timer, timer->interval_ms);
        }
        timer->fn(timer->context);
        return;
    }
}

struct loop_timer *loop_timer_new(uv_loop_t *loop,
                                  uint64_t first_ms,
                                  uint64_t interval_ms,
                                  void (*fn)(void *context),
                                  void *context)
{
    struct loop_timer *timer = calloc(1, sizeof(*timer));
    REQUIRE(timer != NULL);
    *timer = (struct loop_timer){.process = process_of(loop),
                                 .interval_ms = interval_ms,
                                 .fn = fn,
                                 .context = context};
    list_push_back(&timer->process->timers, &timer->link);
    timer_arm(timer, first_ms);
    return timer;
}

void loop_timer_again(struct loop_timer *timer, uint64_t first_ms, uint64_t interval_ms)
{
    timer->interval_ms = interval_ms;
    timer_arm(timer, first_ms);
}

void loop_timer_defer(struct loop_timer *timer)
{
    timer_arm(timer, timer->interval_ms);
}

/* Time is free here: nothing is won by being late. */
void loop_timer_slacken(struct loop_timer *timer, uint64_t slack_ms)
{
    (void)timer;
    (void)slack_ms;
}

struct loop_timer *loop_timer_close(struct loop_timer *timer)
{
    if (timer != NULL) {
        list_remove(&timer->link);
        free(timer);
    }
    return NULL;
}

/* ---- posts ---- */

static void on_post(void *context, uint64_t id)
{
    struct sim_process *process = context;
    LIST_EACH (link, &process->posts) {
        struct loop_post *post = LIST_ITEM(link, struct loop_post, link);
        if (post->id == id) {
            post->sent = false;
            post->fn(post->context);
            return;
        }
    }
}

struct loop_post *loop_post_new(uv_loop_t *loop, void (*fn)(void *context), void *context)
{
    struct loop_post *post = calloc(1, sizeof(*post));
    REQUIRE(post != NULL);
    *post = (struct loop_post){.process = process_of(loop), .fn = fn, .context = context};
    post->id = ++post->process->ids;
    list_push_back(&post->process->posts, &post->link);
    return post;
}

void loop_post_send(struct loop_post *post)
{
    struct world *world = &post->process->machine->sim->world;
    if (!post->sent) {
        post->sent = true;
        world_at(world, world->now_ns, &post->process->machine->berthd, on_post,
                 post->process, post->id);
    }
}

struct loop_post *loop_post_close(struct loop_post *post)
{
    if (post != NULL) {
        list_remove(&post->link);
        free(post);
    }
    return NULL;
}

/* ---- turns ---- */

struct loop_turn *
loop_turn_open(uv_loop_t *loop, void (*turn)(void *context), void *context)
{
    struct loop_turn *made = calloc(1, sizeof(*made));
    REQUIRE(made != NULL);
    made->process = process_of(loop);
    made->turn = turn;
    made->context = context;
    list_push_back(&made->process->turns, &made->link);
    return made;
}

uint64_t loop_turn_now_ms(const struct loop_turn *turn)
{
    return clock_now_ms(&turn->process->clock);
}

void sim_loop_later(struct sim_process *process, void (*fn)(void *context), void *context)
{
    struct closing *closing = calloc(1, sizeof(*closing));
    REQUIRE(closing != NULL);
    closing->fn = fn;
    closing->context = context;
    list_push_back(&process->closings, &closing->link);
}

void loop_turn_close(struct loop_turn *turn, void (*done)(void *context), void *context)
{
    list_remove(&turn->link);
    sim_loop_later(turn->process, done, context);
    free(turn);
}

static bool run_closings(struct sim_process *process)
{
    struct list closings;
    list_init(&closings);
    list_move_all(&closings, &process->closings);
    bool any = !list_empty(&closings);
    while (!list_empty(&closings)) {
        struct closing *closing = LIST_ITEM(closings.next, struct closing, link);
        list_remove(&closing->link);
        void (*fn)(void *context) = closing->fn;
        void *context = closing->context;
        free(closing);
        fn(context);
    }
    return any;
}

/* As in the real loop: once after the wait and once before the next. */
void sim_loop_turn(struct sim_process *process)
{
    for (unsigned i = 0; i < 2 || (run_closings(process) && i < TURNS_MAX); i++) {
        LIST_EACH_SAFE (link, &process->turns) {
            struct loop_turn *turn = LIST_ITEM(link, struct loop_turn, link);
            turn->turn(turn->context);
        }
    }
}

void sim_loop_free(struct sim_process *process)
{
    while (run_closings(process)) {
    }
    LIST_EACH_SAFE (link, &process->timers) {
        (void)loop_timer_close(LIST_ITEM(link, struct loop_timer, link));
    }
    LIST_EACH_SAFE (link, &process->posts) {
        (void)loop_post_close(LIST_ITEM(link, struct loop_post, link));
    }
}

/* ---- threads for what blocks ---- */

/* One thread, which waits for the disk: a job is begun, its run has happened when the
 * disk is done, whatever the loop does meanwhile, and the loop hears of it when it gets
 * there.
 */
struct work_pool {
    struct list link;
    struct sim_process *process;
    struct list waiting;  /* the first is under way while busy */
    struct list finished; /* their done is still to be called */
    bool busy;
    uint64_t ends_ns; /* of the job under way, or of the last one */
    uint64_t id;      /* of the event that ends it; others are stale */
    struct loop_post *post;
};

static void on_disk_done(void *context, uint64_t id);

static void begin_next(struct work_pool *pool)
{
    struct sim_machine *machine = pool->process->machine;
    struct world *world = &machine->sim->world;
    if (pool->busy || list_empty(&pool->waiting)) {
        return;
    }
    uint64_t begins_ns = pool->ends_ns > world->now_ns ? pool->ends_ns : world->now_ns;
    pool->busy = true;
    pool->ends_ns = begins_ns + sim_disk_duration_ns(&machine->disk);
    world_at(world, pool->ends_ns, &machine->disk_threads, on_disk_done, pool,
             ++pool->id);
}

static void end_first(struct work_pool *pool)
{
    struct work_job *job = LIST_ITEM(pool->waiting.next, struct work_job, link);
    pool->process->on_thread = true;
    job->run(job);
    pool->process->on_thread = false;
    list_remove(&job->link);
    list_push_back(&pool->finished, &job->link);
    pool->busy = false;
    pool->id++;
}

static void on_disk_done(void *context, uint64_t id)
{
    struct work_pool *pool = context;
    if (id != pool->id) {
        return; /* the loop has waited for it */
    }
    end_first(pool);
    loop_post_send(pool->post);
    begin_next(pool);
}

static void tell_finished(void *context)
{
    struct work_pool *pool = context;
    struct list finished;
    list_init(&finished);
    list_move_all(&finished, &pool->finished);
    for (struct list *link; (link = list_pop_front(&finished)) != NULL;) {
        struct work_job *job = LIST_ITEM(link, struct work_job, link);
        job->done(job, 0);
    }
}

/* The mistake is a seal that does not wait for its write under way. */
static bool waits_for_nothing(const struct work_pool *pool)
{
    const struct sim_process *process = pool->process;
    return process->machine->sim->config.bug == SIM_BUG_SEAL_UNWAITED && !process->doomed;
}

/* The loop is held up until the end of the last job, which it does not see happen. */
void work_pool_drain(struct work_pool *pool)
{
    if (waits_for_nothing(pool)) {
        return;
    }
    while (!list_empty(&pool->waiting) || !list_empty(&pool->finished)) {
        while (!list_empty(&pool->waiting)) {
            begin_next(pool);
            end_first(pool);
            sim_process_hold(pool->process, pool->ends_ns);
        }
        tell_finished(pool);
    }
}

struct work_pool *work_pool_new(uv_loop_t *loop, unsigned threads_max, unsigned queue_max)
{
    struct work_pool *pool = calloc(1, sizeof(*pool));
    (void)queue_max;
    REQUIRE(pool != NULL && threads_max == 1);
    pool->process = process_of(loop);
    list_init(&pool->waiting);
    list_init(&pool->finished);
    list_push_back(&pool->process->pools, &pool->link);
    pool->post = loop_post_new(loop, tell_finished, pool);
    return pool;
}

void work_pool_submit(struct work_pool *pool,
                      struct work_job *job,
                      void (*run)(struct work_job *job),
                      void (*done)(struct work_job *job, int code))
{
    list_init(&job->link);
    job->run = run;
    job->done = done;
    list_push_back(&pool->waiting, &job->link);
    begin_next(pool);
}

struct work_pool *work_pool_close(struct work_pool *pool)
{
    if (pool != NULL) {
        REQUIRE(list_empty(&pool->waiting) && list_empty(&pool->finished)); /* drained */
        list_remove(&pool->link);
        (void)loop_post_close(pool->post);
        free(pool);
    }
    return NULL;
}

/* Of engines, which are linked but start nothing here. */
void work_pool_cancel(struct work_pool *pool, struct work_job *job)
{
    (void)pool;
    (void)job;
    REQUIRE(false);
}

bool work_job_cancelled(const struct work_job *job)
{
    (void)job;
    REQUIRE(false);
    return false;
}

bool sim_loop_thread_waits(const struct sim_process *process)
{
    LIST_EACH (link, &process->pools) {
        if (LIST_ITEM(link, struct work_pool, link)->busy) {
            return true;
        }
    }
    return false;
}

void sim_loop_cut(struct sim_process *process)
{
    struct world *world = &process->machine->sim->world;
    LIST_EACH (link, &process->pools) {
        struct work_pool *pool = LIST_ITEM(link, struct work_pool, link);
        if (pool->busy) {
            process->cut =
                (enum sim_cut)world_between(world, SIM_CUT_NONE, SIM_CUT_WHOLE);
        }
        if (process->cut != SIM_CUT_NONE) {
            end_first(pool);
            process->cut = SIM_CUT_NONE;
        }
    }
}
