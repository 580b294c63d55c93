/* Waits for descriptors on behalf of devices: epoll with slots that cannot go stale.
 *
 * Shapes: a watch is a small number that names one descriptor, what to wait for and a
 * callback. Any thread may add, change and remove watches; one thread runs the poller and
 * fires the callbacks, without a lock of its own held, so a callback may use every call
 * here. A callback may still come once after its watch was removed from another thread:
 * its context must live as long as the poller runs, and it looks under its own lock
 * whether there is anything to do.
 *
 * Errors: -errno; BERTH_EFULL. Ownership: descriptors are borrowed, the watcher closes
 * them after the removal. Limits: POLLER_WATCHES_MAX.
 */
#pragma once

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

#define POLLER_WATCHES_MAX 1024u /* 256 connections of a vsock, and all the queues */

/* The last is for who has read to the end: the other side is gone for good. */
enum { POLLER_READABLE = 1, POLLER_WRITABLE = 2, POLLER_HUNG_UP = 4 };

/* `events` is what was waited for and has happened; an error or hang-up of the descriptor
 * counts as everything that was waited for. token is what was given with the watch. */
typedef void poller_callback(void *context, uint64_t token, unsigned events);

struct poller;

int poller_new(struct poller **ret_poller, struct err *err);
/* No callback may be running; NULL is fine. */
void poller_free(struct poller *poller);
/* Watches fd, which is not watched yet; events may be 0 for now. The watch (>= 0) or an
 * error. */
int poller_add(struct poller *poller,
               int fd,
               unsigned events,
               poller_callback *callback,
               void *context,
               uint64_t token);
/* Waits for other events from now on. */
void poller_change(struct poller *poller, int watch, unsigned events);
void poller_remove(struct poller *poller, int watch);
/* Waits up to timeout_ms (-1: for ever) and fires what has happened: the number of
 * callbacks, or -errno. */
int poller_step(struct poller *poller, int timeout_ms);
/* Whether something that the watch waits for has happened; nothing is fired, what has
 * happened is told later. For who has no loop any more: not while another thread steps.
 * Where very many are ready it may say no. */
bool poller_is_ready(struct poller *poller, int watch);
/* Steps until poller_end, which any thread may call. 0 or -errno. */
int poller_run(struct poller *poller);
void poller_end(struct poller *poller);
