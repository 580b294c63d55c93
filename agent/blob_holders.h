/* Which host holds which image contents, as the hosts said last.
 *
 * Shapes: an index from contents to the uids of their holders, lowest first. Told by each
 * host's heartbeat, whole; asked when orders are written. Ownership: copies all. Threads:
 * the loop's. Errors: -ENOMEM, and then nothing is known of that host until it says it
 * again.
 */
#pragma once

#include "agent/messages.h"

#include <stdbool.h>
#include <stdint.h>

struct blob_holders;

struct blob_holders *blob_holders_new(void);
struct blob_holders *blob_holders_free(struct blob_holders *holders);

/* What the host holds, whole. 1: it is something else than before; 0; -ENOMEM. */
int blob_holders_set(struct blob_holders *holders,
                     uint64_t host,
                     const struct msg_blob *blobs,
                     uint32_t count);

/* Can the host be asked for contents now? */
typedef bool blob_holders_reachable(void *context, uint64_t host);

/* The two lowest holders that can be asked (0: none): the second is for the first. Those
 * that still look whether it is whole come behind all others. */
struct blob_holder_pair {
    uint64_t first;
    uint64_t second;
};
struct blob_holder_pair blob_holders_of(const struct blob_holders *holders,
                                        const struct digest *sha256,
                                        blob_holders_reachable *reachable,
                                        void *context);
/* Whether the host itself has said that it holds it. */
bool blob_holders_has(const struct blob_holders *holders,
                      uint64_t host,
                      const struct digest *sha256);
/* Whether it has said, too, that it still looks whether it is whole. */
bool blob_holders_checks(const struct blob_holders *holders,
                         uint64_t host,
                         const struct digest *sha256);
/* Whom this host should ask. */
static inline uint64_t blob_holder_for(struct blob_holder_pair pair, uint64_t asker)
{
    return pair.first == asker ? pair.second : pair.first;
}
