/* A rate limit with a timer: who is held back is called when it is worth asking again.
 *
 * Threads: the owner's lock; the callback comes from the poller without it. The gate
 * lives as long as the poller runs.
 */
#pragma once

#include "vmm/poller.h"
#include "vmm/rate_limit.h"

#include <stdbool.h>

struct rate_gate {
    struct rate_limit limit;
    /* private */
    struct poller *poller;
    int timer_fd;
    int watch;
};

/* An open gate without a timer, so that fini is always right. */
void rate_gate_setup(struct rate_gate *gate,
                     const struct rate_spec *operations,
                     const struct rate_spec *bytes);
/* Makes the timer; `due` is called with this context and token. 0 or -errno. */
int rate_gate_init(struct rate_gate *gate,
                   struct poller *poller,
                   poller_callback *due,
                   void *context,
                   uint64_t token);
void rate_gate_fini(struct rate_gate *gate);
/* Other limits from now on; the same ones change nothing. */
void rate_gate_change(struct rate_gate *gate,
                      const struct rate_spec *operations,
                      const struct rate_spec *bytes);
/* One operation of that many bytes: true, or false and the timer is set. */
bool rate_gate_pass(struct rate_gate *gate, uint64_t bytes);
/* To be called first by `due`. */
void rate_gate_due(struct rate_gate *gate);
