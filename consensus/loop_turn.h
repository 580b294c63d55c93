/* Turns of the loop: a function that runs before and after the loop waits, and the time.
 *
 * Private to the room, and a place where a simulation puts a loop of its own (tests/sim).
 * Hooks do not keep the loop alive. Units: milliseconds of the loop's clock. Threads: the
 * loop's. Ownership: opaque; freed once closed. Errors: none; out of memory aborts.
 */
#pragma once

#include <uv.h>

#include <stdint.h>

struct loop_turn;

struct loop_turn *
loop_turn_open(uv_loop_t *loop, void (*turn)(void *context), void *context);
uint64_t loop_turn_now_ms(const struct loop_turn *turn);
/* No turn runs after the call; done runs later, on the loop. */
void loop_turn_close(struct loop_turn *turn, void (*done)(void *context), void *context);
