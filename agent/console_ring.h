/* The last 64 KiB of a VM's serial console, and the line to its socket.
 *
 * Shapes: `struct console_ring` keeps bytes under absolute offsets (0 is the first byte
 * ever appended). Readers pull: they keep their own offset, are told that there is more,
 * and read; a slow reader loses the oldest bytes and sees a gap (the offset it gets back
 * is larger than the one it asked for). `struct console_link` connects a ring to a UNIX
 * stream socket: what comes in is appended, what is written goes out. Threads: the
 * loop's. Ownership: *_new/_open give, *_free/_close take; a ring must outlive
 * its links. Callbacks never run inside the call that registered them and may
 * close their own reader. Errors: BERTH_EFULL (input queue, readers), BERTH_ECLOSED.
 * Limits: CONSOLE_*.
 */
#pragma once

#include "base/err.h"

#include <uv.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CONSOLE_RING_SIZE   65536u
#define CONSOLE_READERS_MAX 32u
#define CONSOLE_INPUT_MAX   4096u /* bytes on their way to the VM: nobody types faster */
#define CONSOLE_CONNECT_MS  20000u

struct console_ring;
struct console_reader;
struct console_link;

struct console_ring *console_ring_new(void);
/* Accepts NULL; returns NULL. Readers that are left keep its content until the last one
 * is closed; they are not told again. */
struct console_ring *console_ring_free(struct console_ring *ring);
/* Appends and tells the readers. */
void console_ring_append(struct console_ring *ring, const void *data, size_t size);
/* Offset of the oldest byte kept, and of the next byte to come. */
uint64_t console_ring_begin(const struct console_ring *ring);
uint64_t console_ring_end(const struct console_ring *ring);
/* Copies up to size bytes from *offset on; moves *offset first to the oldest byte kept
 * if that is later (gap) or to the end if it lies beyond, then past what was copied. The
 * count. */
size_t console_ring_read(const struct console_ring *ring,
                         uint64_t *offset,
                         void *ret_data,
                         size_t size);
/* The last non-blank line, escape sequences and control bytes removed, cut to size. */
void console_ring_last_line(const struct console_ring *ring, char *ret_text, size_t size);

/* `more` runs after each append (read first what is there already). */
struct console_reader *console_reader_open(struct console_ring *ring,
                                           void (*more)(void *context),
                                           void *context,
                                           struct err *err);
/* Accepts NULL; returns NULL. From its own callback too. */
struct console_reader *console_reader_close(struct console_reader *reader);

/* Connects to the socket at path, trying again until CONSOLE_CONNECT_MS have passed.
 * NULL with *err filled. */
struct console_link *console_link_open(uv_loop_t *loop,
                                       const char *path,
                                       struct console_ring *ring,
                                       struct err *err);
/* What the VM said while nobody listened: its engine appends everything to the file log,
 * too, what goes over the socket after it went there. The end of it goes into the ring
 * now, and what it gains until the first bytes come over the socket as soon as it is
 * there. Once, for a link just opened; a file that is not there is fine. */
void console_link_refill(struct console_link *link, const char *log);
/* Sends input to the VM; queued while the link is not up yet. 0, BERTH_EFULL (take less,
 * later) or BERTH_ECLOSED. */
int console_link_write(struct console_link *link, const void *data, size_t size);
bool console_link_connected(const struct console_link *link);
struct console_link *console_link_close(struct console_link *link);
