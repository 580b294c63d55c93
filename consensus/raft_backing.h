/* What a voter's log stands on: libraft's own disk and our channels to the peers, as one
 * `struct raft_io`.
 *
 * Private to the room, and the place where a simulation puts a disk and a network of its
 * own: it links other definitions of these functions (tests/sim). Shapes: opaque; the io
 * is its. Life: open -> the library closes the io -> free; or open -> abandon, when the
 * library was never given the io. The io says that it is closed two turns of the loop
 * after libraft does, which reads its own memory until then. Units: bytes. Threads: the
 * loop's. Errors: a folder that cannot be used, BERTH_EDISKFULL, _EFULL (the kernel's
 * limit on asynchronous I/O), those of raft_channel.h.
 */
#pragma once

#include "base/err.h"
#include "consensus/consensus.h"
#include "consensus/raft_channel.h"

#include <stdint.h>

struct raft_backing;
struct raft;
struct raft_io;

/* raft is whose io it will be: asked whether it leads, and not before the io is started.
 */
int raft_backing_open(const struct consensus_config *config,
                      uv_loop_t *loop,
                      const struct raft *raft,
                      struct raft_backing **ret_backing,
                      struct err *err);
/* For raft_init, or for a guard around it. */
struct raft_io *raft_backing_io(struct raft_backing *backing);
/* Free disk space for the log; UINT64_MAX when that cannot be told. */
uint64_t raft_backing_free_bytes(const struct raft_backing *backing);
const struct channel_counters *raft_backing_channels(const struct raft_backing *backing);
void raft_backing_drop_peer(struct raft_backing *backing, uint64_t id);
/* Closes what the library would have; done may run inside the call. Then free. */
void raft_backing_abandon(struct raft_backing *backing,
                          void (*done)(void *context),
                          void *context);
/* After the library has closed the io. Accepts NULL; returns NULL. */
struct raft_backing *raft_backing_free(struct raft_backing *backing);
