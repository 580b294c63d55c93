/* The bytes and credits of one vsock connection (virtio 1.2, 5.10.6.3).
 *
 * Shapes: two directions. From the guest, bytes go to the host's socket at once, and what
 * it does not take waits in a buffer, which is what our credit promises the guest: it may
 * have no more in flight than that. To the guest, its own numbers say how much it takes.
 * The buffer is there only while it is needed.
 *
 * Units: bytes; counters wrap at 32 bits, as the specification's do. Threads: the
 * device's lock. Errors: BERTH_EPROTO for a guest that sends more than it may; -errno of
 * the socket. Limits: VSOCK_BUFFER_BYTES.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#define VSOCK_BUFFER_BYTES 65536u

struct vsock_stream {
    /* from the guest */
    uint32_t received;  /* from it so far */
    uint32_t forwarded; /* of that, to the socket */
    uint32_t told;      /* of that, what it knows */
    uint8_t *buffer;    /* what is between: a ring, or NULL */
    uint32_t buffer_at; /* its first byte */
    /* to the guest */
    uint32_t sent;
    uint32_t peer_buffer; /* both as it said last */
    uint32_t peer_forwarded;
};

void vsock_stream_init(struct vsock_stream *stream);
void vsock_stream_fini(struct vsock_stream *stream);
/* Bytes that wait for the socket. */
uint32_t vsock_stream_waiting(const struct vsock_stream *stream);
/* Takes the `size` bytes of these pieces from the guest: what the socket does not take
 * goes into the buffer. */
int vsock_stream_take(struct vsock_stream *stream,
                      int fd,
                      const struct iovec *pieces,
                      unsigned piece_count,
                      uint32_t size);
/* Writes what waits; what the socket does not take stays. */
int vsock_stream_drain(struct vsock_stream *stream, int fd);
/* Whether the guest should be told by a packet of its own what has left. */
bool vsock_stream_must_tell(const struct vsock_stream *stream);
/* What the guest said in a packet. */
void vsock_stream_hear(struct vsock_stream *stream, uint32_t buffer, uint32_t forwarded);
/* How many bytes it takes now. */
uint32_t vsock_stream_room(const struct vsock_stream *stream);
