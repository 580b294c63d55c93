#include "consensus/raft_pace.h"

#include "base/require.h"

#include <stdlib.h>

/* What heartbeats vary by, in parts of their interval: they come a little later each
 * time, as timers do, and a network has its ups and downs. */
#define EARLY_PART 20
#define LATE_PART  7

/* ---- the pace ---- */

struct raft_pace_window raft_pace_next(const struct raft_pace *pace, bool leads)
{
    const uint64_t exact_ms = pace->last_ms + pace->interval_ms;
    struct raft_pace_window window = {.from_ms = exact_ms, .until_ms = exact_ms};
    if (leads) {
        return window;
    }
    if (pace->rides) {
        window.from_ms -= pace->interval_ms / EARLY_PART;
        window.until_ms += pace->interval_ms / LATE_PART;
    } else {
        window.from_ms -= pace->interval_ms / 2;
    }
    return window;
}

void raft_pace_ticked(struct raft_pace *pace,
                      const struct raft_pace_window *window,
                      uint64_t now_ms)
{
    const bool exact = window->from_ms == window->until_ms;
    pace->rides = !exact && now_ms < window->until_ms;
    /* Late for having waited, the next is in time again. Late for other reasons nothing
     * is made up for; and a leader's must never come early, for it would send nothing. */
    const bool in_rhythm =
        !exact && !pace->rides && now_ms < window->until_ms + pace->interval_ms / 2;
    pace->last_ms = in_rhythm ? pace->last_ms + pace->interval_ms : now_ms;
}

/* ---- the ticker ---- */

struct raft_ticker {
    uv_timer_t timer; /* data of both: the ticker; until_ms */
    uv_check_t check; /* wake-ups */
    unsigned handles; /* still to be closed */
    struct raft_pace pace;
    struct raft_pace_window window;
    bool (*leads)(void *context);
    void (*tick)(void *context);
    void *context;
};

static void timer_over(uv_timer_t *timer);

static void ticker_arm(struct raft_ticker *ticker)
{
    const uint64_t now_ms = uv_now(ticker->timer.loop);
    ticker->window = raft_pace_next(&ticker->pace, ticker->leads(ticker->context));
    const uint64_t until_ms = ticker->window.until_ms;
    REQUIRE(uv_timer_start(&ticker->timer, timer_over,
                           until_ms > now_ms ? until_ms - now_ms : 0, 0) == 0);
}

static void ticker_tick(struct raft_ticker *ticker)
{
    raft_pace_ticked(&ticker->pace, &ticker->window, uv_now(ticker->timer.loop));
    ticker_arm(ticker);
    ticker->tick(ticker->context); /* may close the ticker */
}

static void timer_over(uv_timer_t *timer)
{
    ticker_tick(timer->data);
}

static void loop_woke(uv_check_t *check)
{
    struct raft_ticker *ticker = check->data;
    if (uv_now(check->loop) >= ticker->window.from_ms) {
        ticker_tick(ticker);
    }
}

struct raft_ticker *raft_ticker_open(uv_loop_t *loop,
                                     uint64_t interval_ms,
                                     bool (*leads)(void *context),
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
    ticker->pace = (struct raft_pace){.interval_ms = interval_ms, .last_ms = now_ms};
    ticker->window = (struct raft_pace_window){.from_ms = now_ms, .until_ms = now_ms};
    ticker->leads = leads;
    ticker->tick = tick;
    ticker->context = context;
    ticker->timer.data = ticker->check.data = ticker;
    ticker->handles = 2;
    REQUIRE(uv_timer_init(loop, &ticker->timer) == 0);
    REQUIRE(uv_check_init(loop, &ticker->check) == 0);
    REQUIRE(uv_timer_start(&ticker->timer, timer_over, 0, 0) == 0);
    REQUIRE(uv_check_start(&ticker->check, loop_woke) == 0);
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
