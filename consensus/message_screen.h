/* Looks at the library's messages before the library does: its decoder trusts every
 * length.
 *
 * A voter has proven its key, but may be broken or taken over; a message that would
 * make the library read or allocate out of bounds ends the channel instead. Checked, as
 * the bytes stream by: the type; that the header has the length its type and counts
 * call for; that entries are whole multiples of eight within ENTRY_FRAME_SIZE_MAX; that
 * member lists, in snapshots and in entries, end where they should.
 *
 *   message      type u64, header length u64, header, payload; little endian
 *   1 entries    term, prev index, prev term, commit, count; per entry term u64,
 *                type u8, 3 unused, size u32; [8 unused]
 *   2 answer     24 bytes          3 vote request   32 or 40 bytes
 *   4 vote       16 or 24 bytes    6 time-out now   24 bytes
 *   5 snapshot   term, index, index term, members index, members size, members,
 *                data size; [8 unused]
 *   members      format u8 (1), count u64; each id u64, address with NUL, role u8
 *
 * Threads: the owner's. Ownership: opaque, heap. Errors: BERTH_EPROTO, for good;
 * -ENOMEM. Limits: MESSAGE_SCREEN_*.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define MESSAGE_SCREEN_HEADER_MAX   (2u << 20)   /* 131,000 entries */
#define MESSAGE_SCREEN_ENTRIES_MAX  (128u << 20) /* bytes of entries in one message */
#define MESSAGE_SCREEN_SNAPSHOT_MAX (600u << 20)
#define MESSAGE_SCREEN_MEMBERS_MAX  8192 /* bytes of one list of members */

struct message_screen;

/* NULL when out of memory. */
struct message_screen *message_screen_new(void);
/* Accepts NULL; returns NULL. */
struct message_screen *message_screen_free(struct message_screen *screen);
/* The next bytes of the stream, in pieces of any size; 0 or an error, after which the
 * stream is over. */
int message_screen_feed(struct message_screen *screen, const uint8_t *data, size_t size);
