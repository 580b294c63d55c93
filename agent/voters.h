/* Keeps the control plane on enough hosts: the leader's care for the log's members.
 *
 * Shapes: struct voters compares the log's configuration with the hosts and makes one
 * change at a time, by the checked calls of consensus.h: a ready host is told to open its
 * log (HOST_VOTER standby), is added as standby, promoted once it has caught up, and
 * recorded as voter. With fewer than three hosts one voter is kept: two would stop when
 * either does. A removed host leaves the log. Threads: the loop's. Errors are logged and
 * tried again at a later tick.
 */
#pragma once

#include "agent/control.h"
#include "base/clock.h"

#include <stdint.h>

#define VOTERS_TARGET   3
#define VOTERS_RETRY_MS 500

struct voters;

struct voters *voters_new(const struct clock *clock, struct control *control);
struct voters *voters_free(struct voters *voters);
/* Leadership begins or ends. */
void voters_lead(struct voters *voters, bool leads);
/* Looks whether something is to be done. */
void voters_tick(struct voters *voters, uint64_t now_ms);
/* Host uids of the log's voters as its configuration has them; the count, at most max. */
unsigned voters_uids(const struct voters *voters, uint64_t *ret_uids, unsigned max);
