#include "vmm/vsock_stream.h"

#include "base/err.h"
#include "base/require.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TELL_AFTER                                                      \
    (VSOCK_BUFFER_BYTES / 4) /* it never waits while we could take more \
                              */

void vsock_stream_init(struct vsock_stream *stream)
{
    *stream = (struct vsock_stream){0};
}

void vsock_stream_fini(struct vsock_stream *stream)
{
    free(stream->buffer);
    stream->buffer = NULL;
}

uint32_t vsock_stream_waiting(const struct vsock_stream *stream)
{
    return stream->received - stream->forwarded;
}

/* Puts bytes behind those that wait; there is room. */
static void buffer_put(struct vsock_stream *stream, const uint8_t *data, uint32_t size)
{
    const uint32_t waiting = vsock_stream_waiting(stream);
    const uint32_t at = (stream->buffer_at + waiting) % VSOCK_BUFFER_BYTES;
    const uint32_t to_end = VSOCK_BUFFER_BYTES - at;
    const uint32_t first = size < to_end ? size : to_end;
    memcpy(stream->buffer + at, data, first);
    memcpy(stream->buffer, data + first, size - first);
    stream->received += size;
}

static int buffer_make(struct vsock_stream *stream)
{
    if (stream->buffer == NULL) {
        stream->buffer = malloc(VSOCK_BUFFER_BYTES);
        stream->buffer_at = 0;
    }
    return stream->buffer == NULL ? -ENOMEM : 0;
}

/* What is left of the pieces behind the first `skip` bytes. */
static void buffer_put_pieces(struct vsock_stream *stream,
                              const struct iovec *pieces,
                              unsigned piece_count,
                              uint32_t skip)
{
    for (unsigned i = 0; i < piece_count; i++) {
        const uint32_t size = (uint32_t)pieces[i].iov_len;
        if (skip < size) {
            buffer_put(stream, (const uint8_t *)pieces[i].iov_base + skip, size - skip);
            skip = 0;
        } else {
            skip -= size;
        }
    }
}

/* Writes pieces: how many bytes went, 0 when the socket is full. */
static int put(int fd, const struct iovec *pieces, unsigned piece_count)
{
    ssize_t sent;
    do {
        sent = writev(fd, pieces, (int)piece_count);
    } while (sent < 0 && errno == EINTR);
    if (sent < 0) {
        return errno == EAGAIN ? 0 : -errno;
    }
    return (int)sent;
}

int vsock_stream_take(struct vsock_stream *stream,
                      int fd,
                      const struct iovec *pieces,
                      unsigned piece_count,
                      uint32_t size)
{
    const uint32_t waiting = vsock_stream_waiting(stream);
    if (size > VSOCK_BUFFER_BYTES - waiting) {
        return BERTH_EPROTO;
    }
    const int sent = waiting == 0 && size > 0 ? put(fd, pieces, piece_count) : 0;
    if (sent < 0) {
        return sent;
    }
    stream->received += (uint32_t)sent;
    stream->forwarded += (uint32_t)sent;
    if ((uint32_t)sent == size) {
        return 0;
    }
    const int r = buffer_make(stream);
    if (r == 0) {
        buffer_put_pieces(stream, pieces, piece_count, (uint32_t)sent);
    }
    return r;
}

int vsock_stream_drain(struct vsock_stream *stream, int fd)
{
    const uint32_t waiting = vsock_stream_waiting(stream);
    if (waiting == 0) {
        return 0;
    }
    const uint32_t to_end = VSOCK_BUFFER_BYTES - stream->buffer_at;
    const uint32_t first = waiting < to_end ? waiting : to_end;
    const struct iovec pieces[] = {{stream->buffer + stream->buffer_at, first},
                                   {stream->buffer, waiting - first}};
    const int sent = put(fd, pieces, first < waiting ? 2 : 1);
    if (sent < 0) {
        return sent;
    }
    stream->forwarded += (uint32_t)sent;
    stream->buffer_at = (stream->buffer_at + (uint32_t)sent) % VSOCK_BUFFER_BYTES;
    if (vsock_stream_waiting(stream) == 0) {
        vsock_stream_fini(stream);
    }
    return 0;
}

bool vsock_stream_must_tell(const struct vsock_stream *stream)
{
    return stream->forwarded - stream->told >= TELL_AFTER;
}

void vsock_stream_hear(struct vsock_stream *stream, uint32_t buffer, uint32_t forwarded)
{
    stream->peer_buffer = buffer;
    stream->peer_forwarded = forwarded;
}

uint32_t vsock_stream_room(const struct vsock_stream *stream)
{
    const uint32_t in_flight = stream->sent - stream->peer_forwarded;
    return in_flight < stream->peer_buffer ? stream->peer_buffer - in_flight : 0;
}
