/* Mesh frames: the one shape in which hosts talk to each other.
 *
 * Shapes: a fixed header (MESH_FRAME_FIELDS, little endian, in this order), then
 * `body_size` bytes. One field list gives the struct, the codec, the size and the fuzz
 * target.
 * Versions: a frame whose version is not MESH_FRAME_VERSION is refused with
 * BERTH_EUNSUPPORTED before anything behind the version is looked at; a new header
 * layout is a new version. Unknown flags are refused as well: a flag changes what a
 * frame means.
 * Session and sequence: `session` is drawn at random when a mesh opens, `sequence`
 * rises from frame to frame of a session. With both a receiver drops what is late or
 * doubled. The link's own frames (types below MESH_TYPE_JOIN) carry sequence 0 and are
 * not ordered.
 * Units: bytes.
 * Threads: any.
 * Ownership: a decoded body is borrowed from the input.
 * Errors: BERTH_EPROTO, BERTH_EUNSUPPORTED, BERTH_ETOOLARGE.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define MESH_FRAME_MAGIC   0xB7
#define MESH_FRAME_VERSION 1
/* The largest body: a snapshot chunk with room to spare, and small enough that one peer's
 * full queue (see mesh.h) stays in the megabytes. */
#define MESH_BODY_SIZE_MAX (UINT32_C(1) << 20)
/* The largest body of JOIN and JOIN_REPLY: what a stranger may make us hold. */
#define MESH_JOIN_BODY_SIZE_MAX UINT32_C(16384)

/* X(bits, name) */
#define MESH_FRAME_FIELDS(X) \
    X(8, magic)              \
    X(8, version)            \
    X(16, type)              \
    X(16, flags)             \
    X(64, session)           \
    X(64, sequence)          \
    X(32, body_size)

struct mesh_frame {
#define MESH_FRAME_MEMBER(bits, name) uint##bits##_t name;
    MESH_FRAME_FIELDS(MESH_FRAME_MEMBER)
#undef MESH_FRAME_MEMBER
};

enum {
#define MESH_FRAME_BYTES(bits, name) +(bits) / 8
    MESH_FRAME_HEADER_SIZE = 0 MESH_FRAME_FIELDS(MESH_FRAME_BYTES),
#undef MESH_FRAME_BYTES
};

/* Flags. */
enum {
    MESH_FRAME_BULK = 1, /* travels in the bulk lane */
    MESH_FRAME_FLAGS_KNOWN = MESH_FRAME_BULK,
};

/* Types. The link's own come first and never reach the caller; the join pair is what
 * strangers may say; from MESH_TYPE_USER_MIN on the caller's own. */
enum {
    MESH_TYPE_HELLO = 1,     /* dialer: I am here; every second */
    MESH_TYPE_WELCOME = 2,   /* listener: so am I; body: where bulk is taken */
    MESH_TYPE_BULK_OPEN = 3, /* listener: dial my bulk lane, I have bulk for you */
    MESH_TYPE_JOIN = 16,
    MESH_TYPE_JOIN_REPLY = 17,
    MESH_TYPE_USER_MIN = 256,
};

/* Writes the header for a body of body_size (magic and version are set here). */
void mesh_frame_encode(uint16_t type,
                       uint16_t flags,
                       uint64_t session,
                       uint64_t sequence,
                       uint32_t body_size,
                       uint8_t ret_header[MESH_FRAME_HEADER_SIZE]);
/* Reads header and body of one whole message; *ret_body is borrowed (NULL when empty).
 * BERTH_EPROTO: not a frame, or its length does not match; BERTH_EUNSUPPORTED: another
 * version or an unknown flag; BERTH_ETOOLARGE: the body is over MESH_BODY_SIZE_MAX. */
int mesh_frame_decode(const void *data,
                      size_t size,
                      struct mesh_frame *ret_frame,
                      const uint8_t **ret_body);

/* The body of WELCOME: the port of the bulk lane at the same address, 0 for none. */
#define MESH_WELCOME_SIZE 2
void mesh_welcome_encode(uint16_t bulk_port, uint8_t ret_body[MESH_WELCOME_SIZE]);
/* Bytes after the known ones are skipped (a later version may add some). 0 or
 * BERTH_EPROTO. */
int mesh_welcome_decode(const void *body, size_t size, uint16_t *ret_bulk_port);
