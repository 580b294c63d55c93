/* An upgraded connection: raw bytes both ways, out of libmicrohttpd's hands. Inside the
 * room only.
 *
 * Limits: EXCHANGE_QUEUE_MAX bytes waiting. Threads: the loop's. Lifetime: frees itself
 * when the peer has gone, an error came, or after end once everything was written;
 * `closed` runs last, exactly once.
 */
#pragma once

#include <microhttpd.h>
#include <uv.h>

#include <stddef.h>

struct http_tunnel;

struct http_tunnel *
http_tunnel_new(uv_loop_t *loop,
                MHD_socket socket,
                struct MHD_UpgradeResponseHandle *handle,
                void (*input)(void *context, const void *data, size_t size),
                void (*closed)(void *context),
                void *context);
/* 0, BERTH_EFULL, BERTH_ECLOSED or -ENOMEM. */
int http_tunnel_write(struct http_tunnel *tunnel, const void *data, size_t size);
/* Writes what waits, then closes. */
void http_tunnel_end(struct http_tunnel *tunnel);
/* Ends it at once, whatever its client has not taken yet. */
void http_tunnel_abort(struct http_tunnel *tunnel);
