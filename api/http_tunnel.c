#include "api/http_tunnel.h"

#include "api/exchange.h"
#include "base/err.h"
#include "base/fd.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

struct http_tunnel {
    MHD_socket socket;
    struct MHD_UpgradeResponseHandle *handle;
    void (*input)(void *context, const void *data, size_t size);
    void (*closed)(void *context);
    void *context;
    uv_poll_t poll;
    uint8_t *waiting;
    size_t waiting_size;
    bool ending;
    bool over;
};

static void tunnel_freed(uv_handle_t *handle)
{
    struct http_tunnel *tunnel = handle->data;
    free(tunnel->waiting);
    free(tunnel);
}

static void tunnel_over(struct http_tunnel *tunnel)
{
    if (tunnel->over) {
        return;
    }
    tunnel->over = true;
    uv_poll_stop(&tunnel->poll);
    (void)MHD_upgrade_action(tunnel->handle,
                             MHD_UPGRADE_ACTION_CLOSE); /* it owns the socket */
    tunnel->closed(tunnel->context);
    uv_close((uv_handle_t *)&tunnel->poll, tunnel_freed);
}

static void on_poll(uv_poll_t *poll, int status, int events);

static void watch(struct http_tunnel *tunnel)
{
    int events = UV_READABLE | (tunnel->waiting_size > 0 ? UV_WRITABLE : 0);
    if (!tunnel->over && uv_poll_start(&tunnel->poll, events, on_poll) < 0) {
        tunnel_over(tunnel);
    }
}

static void flush(struct http_tunnel *tunnel)
{
    size_t sent = 0;
    while (sent < tunnel->waiting_size) {
        ssize_t size = send(tunnel->socket, tunnel->waiting + sent,
                            tunnel->waiting_size - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (size < 0 && errno != EAGAIN && errno != EINTR) {
            tunnel_over(tunnel);
            return;
        }
        if (size < 0) {
            break;
        }
        sent += (size_t)size;
    }
    tunnel->waiting_size -= sent;
    if (sent > 0 && tunnel->waiting_size > 0) {
        memmove(tunnel->waiting, tunnel->waiting + sent, tunnel->waiting_size);
    }
    if (tunnel->ending && tunnel->waiting_size == 0) {
        tunnel_over(tunnel);
        return;
    }
    watch(tunnel);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct http_tunnel *tunnel = poll->data;
    char data[4096];
    if (status < 0) {
        tunnel_over(tunnel);
        return;
    }
    if ((events & UV_READABLE) != 0) {
        ssize_t size = recv(tunnel->socket, data, sizeof(data), MSG_DONTWAIT);
        if (size == 0 || (size < 0 && errno != EAGAIN && errno != EINTR)) {
            tunnel_over(tunnel);
            return;
        }
        if (size > 0) {
            tunnel->input(tunnel->context, data, (size_t)size);
        }
    }
    if (!tunnel->over && (events & UV_WRITABLE) != 0) {
        flush(tunnel);
    }
}

struct http_tunnel *
http_tunnel_new(uv_loop_t *loop,
                MHD_socket socket,
                struct MHD_UpgradeResponseHandle *handle,
                void (*input)(void *context, const void *data, size_t size),
                void (*closed)(void *context),
                void *context)
{
    struct http_tunnel *tunnel = calloc(1, sizeof(*tunnel));
    if (tunnel == NULL || uv_poll_init(loop, &tunnel->poll, socket) < 0) {
        free(tunnel);
        return NULL;
    }
    tunnel->socket = socket;
    tunnel->handle = handle;
    tunnel->input = input;
    tunnel->closed = closed;
    tunnel->context = context;
    tunnel->poll.data = tunnel;
    (void)fd_set_nonblocking(socket); /* sends and receives say so themselves, too */
    watch(tunnel);
    return tunnel;
}

int http_tunnel_write(struct http_tunnel *tunnel, const void *data, size_t size)
{
    if (tunnel->over || tunnel->ending) {
        return BERTH_ECLOSED;
    }
    if (tunnel->waiting_size >= EXCHANGE_QUEUE_MAX) {
        return BERTH_EFULL;
    }
    uint8_t *waiting = realloc(tunnel->waiting, tunnel->waiting_size + size + 1);
    if (waiting == NULL) {
        return -ENOMEM;
    }
    tunnel->waiting = waiting;
    memcpy(waiting + tunnel->waiting_size, data, size);
    tunnel->waiting_size += size;
    watch(
        tunnel); /* written from the loop: this may be inside a callback of the writer */
    return 0;
}

void http_tunnel_end(struct http_tunnel *tunnel)
{
    tunnel->ending = true;
    if (tunnel->waiting_size == 0) {
        tunnel_over(tunnel);
    }
}

void http_tunnel_abort(struct http_tunnel *tunnel)
{
    tunnel_over(tunnel);
}
