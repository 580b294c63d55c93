/* How long a member waits before it calls again one that has shut the door on it.
 *
 * A member that was removed, or drained of its vote, knocks at the others for as long as
 * it runs: nobody that it may believe has told it. One that is being added may knock a
 * moment before the others know it. So the first few refusals in a row cost nothing, and
 * each further one twice as long as the one before.
 *
 * Shapes: a `struct channel_patience`, all zero at first, for the members that have
 * refused; ids are not 0. Units: milliseconds. Threads: the caller's. Errors: none.
 * Limits: CHANNEL_PATIENCE_PEERS; of more than these the one that came first is
 * forgotten, and is called as a new one is.
 */
#pragma once

#include <stdint.h>

#define CHANNEL_PATIENCE_PEERS    16
#define CHANNEL_PATIENCE_FREE     4
#define CHANNEL_PATIENCE_FIRST_MS 100u
#define CHANNEL_PATIENCE_LAST_MS  3200u

struct channel_patience {
    struct {
        uint64_t id;      /* 0: free */
        unsigned refused; /* in a row */
    } peers[CHANNEL_PATIENCE_PEERS];
    unsigned next; /* to be forgotten when there is no room */
};

/* That member has refused a call: for how long it is not called again, 0 for the first in
 * a row. */
unsigned channel_patience_refused(struct channel_patience *patience, uint64_t id);
/* It has let us in, or has called us. */
void channel_patience_welcome(struct channel_patience *patience, uint64_t id);
