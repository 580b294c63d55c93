#include "consensus/raft_pace.h"

#include "base/require.h"

#include <stdlib.h>

/* What heartbeats vary by, in parts of their interval: they come a little later each
 * time, as timers do, and a network has its ups and downs. */
#define EARLY_PART 20
#define LATE_PART  7
/* And what has to have passed before the first is ridden on. */
#define FIRST_PART 4

/* ---- the pace ---- */

static uint64_t own_time_after(const struct raft_pace *pace, uint64_t time_ms)
{
    const uint64_t interval_ms = pace->interval_ms;
    const uint64_t since_ms =
        (time_ms + interval_ms - pace->own_ms % interval_ms) % interval_ms;
    return time_ms - since_ms + interval_ms;
}

struct raft_pace_window raft_pace_next(const struct raft_pace *pace,
                                       struct raft_pace_state state)
{
    const uint64_t exact_ms = pace->last_ms + pace->interval_ms;
    struct raft_pace_window window = {.from_ms = exact_ms, .until_ms = exact_ms};
    if (state.leads) {
        return window;
    }
    if (pace->rides) {
        window.from_ms -= pace->interval_ms / EARLY_PART;
        window.until_ms += pace->interval_ms / LATE_PART;
    } else {
        window.from_ms = pace->last_ms + pace->interval_ms / FIRST_PART;
        window.until_ms = own_time_after(pace, pace->last_ms);
    }
    /* What is due by now is done in the tick that has come, or not at all. */
    if (state.due_ms > pace->last_ms && state.due_ms < window.until_ms) {
        window.until_ms = state.due_ms;
    }
    return window;
}

void raft_pace_ticked(struct raft_pace *pace, uint64_t now_ms, bool heard)
{
    pace->rides = heard;
    pace->last_ms = now_ms;
}

/* ---- the ticker ---- */

struct raft_ticker {
    uv_timer_t timer; /* data of both: the ticker; until_ms */
    uv_check_t check; /* the end of a turn in which heartbeats came */
    bool heard;       /* one has come in this turn */
    unsigned handles; /* still to be closed */
    struct raft_pace pace;
    struct raft_pace_window window;
    struct raft_pace_state (*state)(void *context);
    void (*tick)(void *context);
    void *context;
};

static void timer_over(uv_timer_t *timer);

static void ticker_arm(struct raft_ticker *ticker)
{
    const uint64_t now_ms = uv_now(ticker->timer.loop);
    ticker->window = raft_pace_next(&ticker->pace, ticker->state(ticker->context));
    const uint64_t until_ms = ticker->window.until_ms;
    REQUIRE(uv_timer_start(&ticker->timer, timer_over,
                           until_ms > now_ms ? until_ms - now_ms : 0, 0) == 0);
}

static void ticker_tick(struct raft_ticker *ticker, bool heard)
{
    raft_pace_ticked(&ticker->pace, uv_now(ticker->timer.loop), heard);
    ticker_arm(ticker);
    ticker->tick(ticker->context); /* may close the ticker */
}

static void timer_over(uv_timer_t *timer)
{
    ticker_tick(timer->data, false);
}

static void turn_over(uv_check_t *check)
{
    struct raft_ticker *ticker = check->data;
    const bool heard = ticker->heard;
    ticker->heard = false;
    if (heard && uv_now(check->loop) >= ticker->window.from_ms) {
        ticker_tick(ticker, true);
    }
}

void raft_ticker_heard(struct raft_ticker *ticker)
{
    ticker->heard = true;
}

struct raft_ticker *raft_ticker_open(uv_loop_t *loop,
                                     uint64_t interval_ms,
                                     uint64_t own_ms,
                                     struct raft_pace_state (*state)(void *context),
                                     void (*tick)(void *context),
                                     void *context)
{
    REQUIRE(interval_ms > 0);
    struct raft_ticker *ticker = calloc(1, sizeof(*ticker));
    if (ticker == NULL) {
        return NULL;
    }
    uv_update_time(loop);
    const uint64_t now_ms = uv_now(loop);
    ticker->pace = (struct raft_pace){
        .interval_ms = interval_ms, .own_ms = own_ms, .last_ms = now_ms};
    ticker->window = (struct raft_pace_window){.from_ms = now_ms, .until_ms = now_ms};
    ticker->state = state;
    ticker->tick = tick;
    ticker->context = context;
    ticker->timer.data = ticker->check.data = ticker;
    ticker->handles = 2;
    REQUIRE(uv_timer_init(loop, &ticker->timer) == 0);
    REQUIRE(uv_check_init(loop, &ticker->check) == 0);
    REQUIRE(uv_timer_start(&ticker->timer, timer_over, 0, 0) == 0);
    REQUIRE(uv_check_start(&ticker->check, turn_over) == 0);
    return ticker;
}

static void handle_closed(uv_handle_t *handle)
{
    struct raft_ticker *ticker = handle->data;
    if (--ticker->handles == 0) {
        free(ticker);
    }
}

struct raft_ticker *raft_ticker_close(struct raft_ticker *ticker)
{
    if (ticker != NULL) {
        uv_close((uv_handle_t *)&ticker->timer, handle_closed);
        uv_close((uv_handle_t *)&ticker->check, handle_closed);
    }
    return NULL;
}
