/* When the cluster's level may rise (model/level.h), and who holds it back. Pure.
 *
 * Shapes: the leader's soft memory of which levels each host takes part in, as its
 * heartbeats say, and since when. The level rises to the highest that every host of the
 * state takes part in, once each of them has been well and has said so for `wait_ms`: an
 * upgrade that is taken back meanwhile leaves no trace. A cluster that was founded just
 * now has nothing to be taken back to: its first host need not wait. A host that is lost
 * or silent holds it back, for it may come back as it was. Units: monotonic milliseconds.
 * Threads: the loop's. Errors: -ENOMEM. Limits: as many hosts as the state has.
 */
#pragma once

#include "model/level.h"
#include "model/state.h"

#define LEVEL_WAIT_MS   60000 /* by default */
#define LEVEL_SILENT_MS 3000  /* a host not heard for so long may be another by now */

struct level_watch;

struct level_watch *level_watch_new(uint64_t wait_ms);
struct level_watch *level_watch_free(struct level_watch *watch);
/* The cluster is new: while its only host is this one, nothing is waited for. */
void level_watch_found(struct level_watch *watch, uint64_t host);
/* A new leader knows nothing. */
void level_watch_reset(struct level_watch *watch);
/* That host is removed, and is not heard again: its uid is never given anew. */
void level_watch_forget(struct level_watch *watch, uint64_t host);
/* A heartbeat. */
int level_watch_heard(struct level_watch *watch,
                      uint64_t host,
                      struct level_range range,
                      uint64_t now_ms);
/* What it last said; false when it has said nothing yet. */
bool level_watch_range(const struct level_watch *watch,
                       uint64_t host,
                       struct level_range *ret_range);
/* The highest that any host takes part in; 0: none has been heard. */
uint32_t level_watch_highest(const struct level_watch *watch, const struct state *state);
/* The level to raise to now, or 0. ret_why: what the next level waits for, in words; ""
 * when nobody knows of one, or it may rise. */
uint32_t level_watch_next(const struct level_watch *watch,
                          const struct state *state,
                          uint64_t now_ms,
                          char ret_why[256]);
