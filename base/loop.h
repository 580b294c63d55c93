/* Small things every loop user needs on top of libuv.
 *
 * Shapes: loop_timer (repeating or one-shot, closes itself), loop_batch (a function to
 * run before the loop waits), loop_post (a function to run on the loop from any thread),
 * loop_child (a helper program with argv, stdin text and
 * bounded output, a deadline and one callback). House rule: no callback ever runs inside
 * the call that registered it. Threads: the loop's thread only, except loop_post_send.
 * Ownership: *_new gives an object that is freed by *_close, which may be called at any
 * time, from a callback too; after it no callback fires. Limits: LOOP_CHILD_OUTPUT_MAX
 * bytes kept of each of stdout and stderr.
 */
#pragma once

#include "base/err.h"

#include <uv.h>

#include <stddef.h>
#include <stdint.h>

struct loop_timer; /* lives until it is closed, also when it was one-shot and has fired */
/* Calls fn after first_ms and then at the multiples of interval_ms on the loop's clock
 * (so that timers fire together), the first of them at least half an interval later;
 * interval 0: once. NULL when out of memory. */
struct loop_timer *loop_timer_new(uv_loop_t *loop,
                                  uint64_t first_ms,
                                  uint64_t interval_ms,
                                  void (*fn)(void *context),
                                  void *context);
/* Starts anew with these times. */
void loop_timer_again(struct loop_timer *timer, uint64_t first_ms, uint64_t interval_ms);
/* Puts the next firing off, as if the timer had fired now. Of a repeating one. */
void loop_timer_defer(struct loop_timer *timer);
/* Lets the next firings be up to so much late: the timer fires when the loop has woken
 * for something else after it was due, and wakes the loop itself only at the end of the
 * slack. Repeating, it counts the interval from the last firing. */
void loop_timer_slacken(struct loop_timer *timer, uint64_t slack_ms);
/* Accepts NULL; returns NULL. */
struct loop_timer *loop_timer_close(struct loop_timer *timer);

struct loop_batch;
/* What is wanted many times in a turn of the loop and done once: fn runs after any number
 * of asks, before the loop next waits. NULL when out of memory. */
struct loop_batch *
loop_batch_new(uv_loop_t *loop, void (*fn)(void *context), void *context);
void loop_batch_ask(struct loop_batch *batch);
/* Accepts NULL; returns NULL. */
struct loop_batch *loop_batch_close(struct loop_batch *batch);

struct loop_post;
/* A wake-up: after any number of sends, fn runs once on the loop soon. */
struct loop_post *
loop_post_new(uv_loop_t *loop, void (*fn)(void *context), void *context);
/* From any thread. */
void loop_post_send(struct loop_post *post);
struct loop_post *loop_post_close(struct loop_post *post);

#define LOOP_CHILD_OUTPUT_MAX 65536
struct loop_child;
struct loop_child_result {
    int code;           /* 0: exited with 0; else negative: spawn error, BERTH_ETIMEOUT,
                           BERTH_ECHILD */
    int exit_status;    /* when it exited */
    int signal_number;  /* when a signal ended it */
    const char *output; /* stdout, NUL-terminated, borrowed for the callback */
    const char *errors; /* stderr, likewise */
};
/* Runs argv[0] (searched in PATH; NULL-terminated array; borrowed for the call) with
 * `input` (may be NULL; copied) on stdin. The child is killed at timeout_ms. done runs
 * exactly once unless closed first. NULL with *err filled when it cannot be started at
 * all. */
struct loop_child *loop_child_run(uv_loop_t *loop,
                                  const char *const *argv,
                                  const char *input,
                                  uint64_t timeout_ms,
                                  void (*done)(void *context,
                                               const struct loop_child_result *result),
                                  void *context,
                                  struct err *err);
/* Kills it if it runs; no callback afterwards. Accepts NULL; returns NULL. Not needed
 * after done. */
struct loop_child *loop_child_close(struct loop_child *child);
