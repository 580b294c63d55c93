/* The state of a machine as bytes: a header, then checksummed sections, then an end mark.
 *
 * Shapes: on the wire, little endian,
 *     header   "BERTH-VM", u16 format version
 *     section  u32 id, u16 version, u16 flags, u64 length, the bytes, u32 crc32c
 *     end      a section with id 0 whose bytes are the u32 number of sections before it
 * The checksum covers everything of its section before it. A reader that does not know a
 * section skips it when it is flagged optional and refuses the stream otherwise, so that
 * nothing which matters is lost in silence. RAM travels beside the stream, not in it.
 *
 * Threads: none of its own. Ownership: sections borrow the bytes given. Errors:
 * BERTH_ECORRUPT for damage, BERTH_EUNSUPPORTED for what a later version has written.
 * Limits: STATE_SECTION_MAX and STATE_SECTIONS_MAX.
 */
#pragma once

#include "base/bytes.h"
#include "base/err.h"

#include <stdint.h>

#define STATE_FORMAT_VERSION 1u
#define STATE_SECTION_MAX    (UINT64_C(16) << 20) /* a device's state is far below */
#define STATE_SECTIONS_MAX   4096u                /* vCPUs and devices of one machine */

/* Who owns which section; a number is never used again. */
enum state_section_id {
    STATE_END = 0,
    STATE_MACHINE = 1, /* layout: what the rest only fits into */
    STATE_VCPU = 2,    /* one for each, in order */
    STATE_KVM = 3,     /* clock and interrupt chips */
    STATE_DEVICE = 4,  /* device.h: kind, name, version, state */
    STATE_MEMORY = 5,  /* ram_image.h: what RAM is like, checksums of it */
};

enum { STATE_OPTIONAL = 1 };

struct state_section {
    uint32_t id;
    uint16_t version;
    uint16_t flags;
    const uint8_t *data; /* borrowed */
    size_t size;
};

void state_stream_begin(struct bytes_writer *writer);
/* Writes a section from bytes that were made elsewhere. */
void state_stream_put(struct bytes_writer *writer, const struct state_section *section);
/* Writes the end mark after `section_count` sections. */
void state_stream_end(struct bytes_writer *writer, uint32_t section_count);

struct state_reader {
    struct bytes_reader bytes;
    uint32_t section_count; /* read so far */
};

/* Checks the header. */
int state_reader_init(struct state_reader *reader,
                      const void *data,
                      size_t size,
                      struct err *err);
/* The next section with a checksum that holds: 1, 0 at the end mark (nothing may follow
 * it), or an error. */
int state_reader_next(struct state_reader *reader,
                      struct state_section *ret_section,
                      struct err *err);
/* What a reader does with a section that it does not know: 0 to skip it, or
 * BERTH_EUNSUPPORTED. */
int state_section_unknown(const struct state_section *section, struct err *err);
