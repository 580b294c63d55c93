/* Images from the other hosts: asks holders for chunks, serves them to others.
 *
 * Shapes: struct image_pull is told what the store should hold and who has it (orders'
 * blobs); it pulls IMAGE_PULLS_MAX at a time, IMAGE_PULL_WINDOW chunks of
 * IMAGE_CHUNK_SIZE in flight each, resumes a part where it stopped, tries again with
 * jittered back-off and another holder when one is silent for IMAGE_PULL_SILENCE_MS, and
 * verifies the whole before it counts. Chunks travel in the mesh's bulk lane. Serving
 * reads on a thread of its own and is bounded per asker (IMAGE_SERVE_MAX); over it an ask
 * is dropped and asked again. Threads: the loop's. Errors are logged once per blob and
 * reason; image_pull_reason tells the user.
 */
#pragma once

#include "agent/image_store.h"
#include "agent/link.h"
#include "base/clock.h"
#include "base/random.h"

#define IMAGE_CHUNK_SIZE      (256u << 10)
#define IMAGE_PULL_WINDOW     8
#define IMAGE_PULLS_MAX       4
#define IMAGE_PULL_SILENCE_MS 3000
#define IMAGE_SERVE_MAX       16

struct image_pull;

struct image_pull *image_pull_new(uv_loop_t *loop,
                                  const struct clock *clock,
                                  struct image_store *store,
                                  struct link *link);
struct image_pull *image_pull_free(struct image_pull *pull);
/* What should be here; replaces what was wanted before (what is no longer wanted stops).
 */
void image_pull_want(struct image_pull *pull, const struct msg_blob_list *blobs);
/* Of these, what the store has lost to damage since: wanted beside what is. What was
 * evicted is not: two that do not fit together would drive each other out for ever. */
void image_pull_mend(struct image_pull *pull, const struct msg_blob_list *blobs);
/* From the link. */
void image_pull_on_ask(struct image_pull *pull,
                       const struct msg_member *from,
                       const struct msg_blob_ask *ask);
void image_pull_on_chunk(struct image_pull *pull,
                         const struct msg_member *from,
                         const struct msg_blob_chunk *chunk);
/* Why a blob is not here yet ("pulling from h2, 43 %"), or NULL. Borrowed until the next
 * call. */
const char *image_pull_reason(struct image_pull *pull, const struct digest *digest);
uint64_t image_pull_bytes_total(const struct image_pull *pull);
