/* One download over http or https, sent on as it comes.
 *
 * Shapes: fetch_http sends SIZE and DATA (fetch_wire.h) while it runs and gives the END,
 * which the caller sends. It follows FETCH_REDIRECTS redirections, http(s) only, takes a
 * server for stuck that is slower than FETCH_SLOW_BYTES_S for FETCH_SLOW_S, checks
 * certificates by the host's authorities, and goes by the proxies of the environment.
 * Threads: libcurl's resolver may be one. Errors: in the END, in libcurl's words,
 * printable; when the other end of the socket is gone it gives up, and nobody hears why.
 * Limits: ask's timeout_s for the whole.
 */
#pragma once

#include "fetch/fetch_wire.h"

#define FETCH_REDIRECTS    5L
#define FETCH_SLOW_BYTES_S 1024L
#define FETCH_SLOW_S       60L

void fetch_http(int fd, const struct fetch_message *ask, struct fetch_message *ret_end);
