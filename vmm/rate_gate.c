#include "vmm/rate_gate.h"

#include "base/clock.h"
#include "base/fd.h"

#include <errno.h>
#include <sys/timerfd.h>
#include <unistd.h>

/* Longer waits are made of several: no number of a guest or user overflows the timer. */
#define WAIT_NS_MAX (3600 * NS_PER_S)

void rate_gate_setup(struct rate_gate *gate,
                     const struct rate_spec *operations,
                     const struct rate_spec *bytes)
{
    *gate = (struct rate_gate){.timer_fd = -1, .watch = -1};
    rate_limit_init(&gate->limit, operations, bytes, clock_now_ns(clock_system()));
}

int rate_gate_init(struct rate_gate *gate,
                   struct poller *poller,
                   poller_callback *due,
                   void *context,
                   uint64_t token)
{
    gate->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (gate->timer_fd < 0) {
        return -errno;
    }
    gate->poller = poller;
    gate->watch =
        poller_add(poller, gate->timer_fd, POLLER_READABLE, due, context, token);
    return gate->watch < 0 ? gate->watch : 0;
}

void rate_gate_fini(struct rate_gate *gate)
{
    if (gate->watch >= 0) {
        poller_remove(gate->poller, gate->watch);
        gate->watch = -1;
    }
    fd_close(&gate->timer_fd);
}

void rate_gate_change(struct rate_gate *gate,
                      const struct rate_spec *operations,
                      const struct rate_spec *bytes)
{
    rate_limit_change(&gate->limit, operations, bytes, clock_now_ns(clock_system()));
}

bool rate_gate_pass(struct rate_gate *gate, uint64_t bytes)
{
    if (rate_limit_is_none(&gate->limit)) {
        return true; /* as most are: nobody looks at the clock for it */
    }
    uint64_t wait_ns = rate_limit_take(&gate->limit, bytes, clock_now_ns(clock_system()));
    if (wait_ns == 0) {
        return true;
    }
    if (wait_ns > WAIT_NS_MAX) {
        wait_ns = WAIT_NS_MAX;
    }
    const struct itimerspec when = {.it_value = {.tv_sec = (time_t)(wait_ns / NS_PER_S),
                                                 .tv_nsec = (long)(wait_ns % NS_PER_S)}};
    (void)timerfd_settime(gate->timer_fd, 0, &when, NULL); /* in range: cannot fail */
    return false;
}

void rate_gate_due(struct rate_gate *gate)
{
    uint64_t count;
    (void)!read(gate->timer_fd, &count, sizeof(count)); /* empty: it was set anew */
}
