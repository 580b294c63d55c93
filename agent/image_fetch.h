/* A download by berth-fetch, a process without rights: what it says is taken as a
 * stranger's word, and it is ended whatever it does.
 *
 * Shapes: image_fetch starts one process for one URL and hands on what comes, until it
 * has said its end, breaks the rules of fetch/fetch_wire.h, is not wanted any more, or
 * IMAGE_FETCH_TIMEOUT_S and a little are over; then the process is killed and reaped.
 * Of our environment it has the proxies and where the authorities' certificates are.
 * Threads: blocks a thread of a pool; the events run on it. Ownership: all is borrowed
 * for the call. Errors, with text: BERTH_ENOTFOUND, BERTH_EUNREACHABLE (in libcurl's
 * words), BERTH_ECHILD (the program is missing, of another build, ended early or broke
 * the rules), BERTH_ECLOSED (not wanted), -errno, and what an event gave, for which the
 * text is the event's affair. Limits: nothing bounds what comes but the events.
 */
#pragma once

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define IMAGE_FETCH_PROGRAM  "berth-fetch"
#define IMAGE_FETCH_LOOK_MS  500 /* is it still wanted? */
#define IMAGE_FETCH_GRACE_MS 10000

struct image_fetch_events {
    void *context;
    /* The size that the server announces, at most once and before any data. */
    int (*announced)(void *context, uint64_t size_bytes);
    int (*came)(void *context, const void *data, size_t size);
    bool (*is_wanted)(void *context);
};

/* program NULL: IMAGE_FETCH_PROGRAM, beside our own or in PATH. timeout_s: of the whole.
 */
int image_fetch(const char *program,
                const char *url,
                unsigned timeout_s,
                const struct image_fetch_events *events,
                struct err *err);
