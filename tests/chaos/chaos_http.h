/* HTTPS to hosts that may be dead, cut off or slow: one request, one answer, no second
 * try; who asks decides what becomes of it.
 *
 * Shapes: a wire is one client: a token, and a connection to whichever host it asked
 * last. Threads: one per wire. Ownership: answers by chaos_answer_fini. Errors: status 0:
 * no whole answer came. Limits: CHAOS_CALL_MS for a request; a watch ends when it is
 * silent for CHAOS_SILENCE_S, for bookmarks come every 15 s.
 */
#pragma once

#include "base/json.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define CHAOS_CALL_MS   6000L
#define CHAOS_SILENCE_S 25L
#define CHAOS_HOSTS_MAX 64

struct chaos_rack {
    char names[CHAOS_HOSTS_MAX][32];
    char addresses[CHAOS_HOSTS_MAX][32];
    unsigned count;
};

struct chaos_answer {
    long status;
    uint64_t revision; /* Berth-Revision */
    json_t *document;  /* NULL: none, or not whole */
};

struct chaos_wire;

/* Once, before there are threads. */
void chaos_http_init(void);
struct chaos_wire *chaos_wire_new(const struct chaos_rack *rack, const char *token);
struct chaos_wire *chaos_wire_free(struct chaos_wire *wire);
/* key, match (a revision for If-Match; 0: none) and body (borrowed) may be left out. */
struct chaos_answer chaos_call(struct chaos_wire *wire,
                               unsigned host,
                               const char *method,
                               const char *path,
                               const json_t *body,
                               const char *key,
                               uint64_t match);
void chaos_answer_fini(struct chaos_answer *answer);
/* A stream until it ends, is silent, take returns false, or *over is true (looked at
 * about once a second). */
void chaos_stream(struct chaos_wire *wire,
                  unsigned host,
                  const char *path,
                  bool (*take)(void *context, const char *data, size_t size),
                  void *context,
                  const atomic_bool *over);
