/* From a request to what it means: authentication, authorisation, routes, problems.
 *
 * Threads: the loop's. A struct api borrows the control plane for its life. docs/api.md
 * is the contract.
 */
#pragma once

#include "api/control_plane.h"
#include "api/exchange.h"

#include <uv.h>

struct api;

struct api *api_new(uv_loop_t *loop, const struct control_plane *control);
struct api *api_free(struct api *api);
/* Answers the exchange, here or through control->forward. `forwarded`: it came from
 * another host, so it must be answered here or refused with BERTH_ENOTLEADER, never
 * forwarded to the leader again. */
void api_handle(struct api *api, struct exchange *exchange, bool forwarded);
/* New entries are in the feed: wakes watchers. */
void api_feed_changed(struct api *api);
/* The state was replaced as a whole (snapshot): watchers get a reset. */
void api_feed_reset(struct api *api);
