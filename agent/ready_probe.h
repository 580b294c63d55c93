/* Is the VM ready? An HTTP or TCP probe on the loop, counted up and down.
 *
 * Every every_ms one attempt, bounded by timeout_ms: connecting is enough without a path,
 * with one a GET must be answered by a status of 200 to 399. `pass` good ones in a row
 * make it ready, `fail` bad ones in a row not ready again. Port 0: no probe, ready at
 * once (from the loop). Shapes: opaque `struct ready_probe`. Threads: the loop's.
 * Ownership: open gives, close takes, from the callback too; no callback runs inside
 * open. Limits: READY_PROBE_ANSWER_MAX bytes of an answer are read, one attempt at a
 * time.
 */
#pragma once

#include "base/err.h"
#include "model/objects.h"

#include <uv.h>

#include <stdbool.h>
#include <stdint.h>

#define READY_PROBE_STANDS     5u
#define READY_PROBE_ANSWER_MAX 512u /* the status line is in the first bytes */

struct ready_probe;

/* `changed` runs at each change between ready and not ready (it starts as not ready);
 * reason says what the last attempt met ("connection refused", "HTTP 503"), borrowed.
 * spec is copied. address in host order. NULL with *err filled. */
struct ready_probe *
ready_probe_open(uv_loop_t *loop,
                 const struct probe_spec *spec,
                 uint32_t address,
                 void (*changed)(void *context, bool ready, const char *reason),
                 void *context,
                 struct err *err);
/* What the last attempt met, for people; "not tried yet" at first. Borrowed. */
const char *ready_probe_reason(const struct ready_probe *probe);
/* Why it is not ready, for people, or NULL: "not ready: probe tcp/81: connect: connection
 * refused". Only once attempts met the same READY_PROBE_STANDS times in a row, so that it
 * does not say another thing with every attempt of a guest that boots. Borrowed, until
 * the loop turns. */
const char *ready_probe_trouble(const struct ready_probe *probe);
bool ready_probe_is_ready(const struct ready_probe *probe);
/* Accepts NULL; returns NULL. */
struct ready_probe *ready_probe_close(struct ready_probe *probe);
