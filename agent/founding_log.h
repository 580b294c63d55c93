/* The log of a founder that ended while it made it.
 *
 * A cluster's log begins with a seal, then a term, then the entry that names its first
 * member. Ended before that entry is there, a founder has a log that nobody may ever lead
 * in, and a second beginning is refused where the first has left its seal. That nothing
 * was ever in it is certain: with its member in it the founder elects itself in the next
 * term, by itself and before it says anything to anybody, and both the log and its seal
 * know of that.
 * Threads: any, blocking, while nothing has the log open. Ownership: borrowed for the
 * call. Errors: -errno, BERTH_EDISKFULL.
 */
#pragma once

#include "agent/identity.h"
#include "base/clock.h"
#include "base/err.h"

/* Of a founder that is no member yet: puts such a log beside, as raft.before-STAMP, so
 * that it can be made anew. Leaves every other alone, what is damaged, too: opening it
 * says why. */
int founding_log_put_aside(const struct identity *identity,
                           const struct clock *clock,
                           struct err *err);
