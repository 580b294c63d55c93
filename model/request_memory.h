/* The last requests and their answers, so that a retry is answered and not done twice.
 *
 * Shapes: a ring of `limit` entries with an index by request id; the oldest is forgotten
 * first. The first REQUEST_OWNER_SIZE bytes of an id tell whose it is: with shares, who
 * holds one, a part in REQUEST_SHARES of the limit, loses its own oldest, so that nobody
 * has the others' forgotten. All replicas have to begin with that at the same entry of
 * the log: LEVEL_REQUEST_SHARES (model/level.h). The digest is of what was asked (type,
 * subject, body), without the time of asking. Replicated: part of the snapshot and of the
 * state's hash; not so how new an answer of an owner was ever forgotten, which a replica
 * that has loaded a snapshot knows less well than one that has been there. Threads: the
 * owner's. Errors: -ENOMEM.
 */
#pragma once

#include "model/state.h"

#define REQUEST_OWNER_SIZE 4
#define REQUEST_SHARES     4 /* one apply of 1000 objects fits the state's share of 1024 */
#define REQUEST_OWNER_SETS 256 /* of owners, for what was forgotten: few share one */

struct remembered_request {
    uint8_t id[REQUEST_ID_SIZE];
    struct digest asked;
    struct apply_result result;
};

struct request_memory;

/* An empty memory for `limit` requests, or NULL when out of memory. */
struct request_memory *request_memory_new(uint32_t limit);
struct request_memory *request_memory_free(struct request_memory *memory);
/* What was answered to this id, or NULL; valid until the next add. */
const struct remembered_request *request_memory_find(const struct request_memory *memory,
                                                     const uint8_t id[REQUEST_ID_SIZE]);
/* Remembers one more, for which older ones may go; the id must not be zero nor known.
 * shares: they count; what an owner holds above its share since before goes as well. 0 or
 * -ENOMEM. */
int request_memory_add(struct request_memory *memory,
                       const struct remembered_request *request,
                       bool shares);
uint32_t request_memory_count(const struct request_memory *memory);
/* The entry by age: 0 is the oldest; one that stood in for one of the middle that went is
 * taken for as young as that. */
const struct remembered_request *request_memory_at(const struct request_memory *memory,
                                                   uint32_t index);
/* How many were ever added: the sequence number of the next. */
uint64_t request_memory_sequence(const struct request_memory *memory);
/* For decoding: an empty memory whose oldest entry will have this number; revision: what
 * was forgotten before that is no newer. */
void request_memory_start(struct request_memory *memory,
                          uint64_t sequence,
                          uint64_t revision);
/* No answer of the id's owner that was forgotten has a higher revision; 0: none was. */
uint64_t request_memory_forgotten(const struct request_memory *memory,
                                  const uint8_t id[REQUEST_ID_SIZE]);
/* Sum over the entries and their sequence numbers. */
uint64_t request_memory_hash(const struct request_memory *memory);
bool request_id_is_zero(const uint8_t id[REQUEST_ID_SIZE]);
