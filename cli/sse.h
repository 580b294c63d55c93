/* Server-sent events out of a byte stream.
 *
 * Shapes: sse_feed takes pieces of any size and calls back for each whole event: its name
 * ("message" when it has none), its id (kept from event to event, as the standard says)
 * and its data (lines joined by newlines). Comments and unknown fields are passed over.
 * Limits: SSE_EVENT_MAX bytes of one event; a longer one is a fault. Threads: pure.
 */
#pragma once

#include "base/bytes.h"

#define SSE_EVENT_MAX (4u << 20)
#define SSE_NAME_SIZE 32
#define SSE_ID_SIZE   32

/* False ends the stream. */
typedef bool
sse_take(void *context, const char *name, const char *id, const char *data, size_t size);

struct sse {
    sse_take *take;
    void *context;
    char name[SSE_NAME_SIZE]; /* private from here on */
    char id[SSE_ID_SIZE];
    struct bytes_writer line;
    struct bytes_writer data;
    bool has_data;
    bool after_return;
};

void sse_init(struct sse *sse, sse_take *take, void *context);
void sse_fini(struct sse *sse);
/* False when take said so, or an event is too large. */
bool sse_feed(struct sse *sse, const char *data, size_t size);
/* Forgets a half event: the connection is new. */
void sse_restart(struct sse *sse);
