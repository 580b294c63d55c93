/* What berthd and berth-fetch say to each other over a SOCK_SEQPACKET socket pair: one
 * message per packet.
 *
 * Shapes: berthd sends one ASK; berth-fetch answers with at most one SIZE (as the server
 * announced it, before any data), DATA in order, and one END; before all of these at most
 * one MISSING, when a wall does not stand here (fetch_rights.h). Then it ends, and so the
 * socket does. Encoding: u8 version, u8 type, then the fields (base/bytes.h). Threads:
 * none of its own. Ownership: a decoded message borrows the packet for its data and texts
 * are copied. Errors: BERTH_EPROTO (malformed, too long), BERTH_EUNSUPPORTED (another
 * version: the two are of different builds), -EAGAIN, -ECONNRESET (the other end is
 * gone), -errno. What berth-fetch says is foreign: it may have been taken over. Limits:
 * below.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define FETCH_WIRE_VERSION 2
#define FETCH_URL_SIZE     8192
#define FETCH_TEXT_SIZE    256
#define FETCH_DATA_MAX     16384 /* as much as libcurl gives at once */
#define FETCH_PACKET_MAX   (FETCH_DATA_MAX + 16)

enum fetch_type {
    FETCH_NONE = 0,
    FETCH_ASK = 1,
    FETCH_SIZE = 2,
    FETCH_DATA = 3,
    FETCH_END = 4,
    FETCH_MISSING = 5,
};

enum fetch_outcome {
    FETCH_DONE = 1,      /* all has come */
    FETCH_NOT_FOUND = 2, /* the server answers, and has no such thing */
    FETCH_FAILED = 3,    /* the server's fault, or the network's */
    FETCH_UNABLE = 4,    /* our own: it was not tried */
};

struct fetch_message {
    enum fetch_type type;
    uint32_t timeout_s;         /* ASK: of the whole */
    char url[FETCH_URL_SIZE];   /* ASK */
    uint64_t size_bytes;        /* SIZE */
    const void *data;           /* DATA: borrowed, never empty */
    size_t data_size;           /* DATA */
    enum fetch_outcome outcome; /* END */
    char text[FETCH_TEXT_SIZE]; /* END: why, "" when done; MISSING: what; printable */
};

/* The packet's size; what does not fit or is not of the list is a bug. */
size_t fetch_wire_encode(const struct fetch_message *message,
                         uint8_t ret_packet[FETCH_PACKET_MAX]);
/* On a fault the type is FETCH_NONE. */
int fetch_wire_decode(const void *packet, size_t size, struct fetch_message *ret_message);
/* Waits while the other end has no room. */
int fetch_wire_send(int fd, const struct fetch_message *message);
/* Does not wait: -EAGAIN. The packet is the caller's memory, which the message borrows.
 */
int fetch_wire_receive(int fd,
                       uint8_t packet[FETCH_PACKET_MAX],
                       struct fetch_message *ret_message);
