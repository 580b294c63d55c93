/* Which blocks of a region of RAM are plugged: memory that a machine may get while it
 * runs. What is unplugged is the host's again.
 *
 * The guest has a view of its own of the region's file, where blocks that are not plugged
 * cannot be touched: a vCPU that does so is at its end, and a guest never has more of the
 * host than was plugged. Devices reach the region by another mapping, where each holds
 * what it is at (guest_memory.h): a block that is held is not unplugged, or what is on
 * its way would fill it again after it was given back.
 *
 * Shapes: opaque `struct ram_plug`, a bit and a count of who holds it for each block.
 * Units: bytes, blocks. Threads: set by one at a time; asked and held by any. Ownership:
 * the view is its own, the file is borrowed. Errors: -errno; of set with nothing changed:
 * -EBUSY for a block that is held, -ENOMEM when there are no more mappings. Limits:
 * RAM_PLUG_BLOCKS_MAX, each of which may cost a mapping (vm.max_map_count is 65530).
 */
#pragma once

#include "base/err.h"
#include "vmm/ram_backing.h"

#include <stdbool.h>
#include <stdint.h>

#define RAM_PLUG_BLOCKS_MAX  16384u
#define RAM_PLUG_BLOCK_BYTES (UINT64_C(2) << 20) /* at least */

struct ram_plug;

/* The block of a region of that size: a power of two of which it has not too many. */
uint64_t ram_plug_block_bytes(uint64_t size_bytes);
/* Nothing is plugged. */
int ram_plug_new(int fd,
                 uint64_t size_bytes,
                 const struct ram_backing *backing,
                 struct ram_plug **ret_plug,
                 struct err *err);
/* NULL is fine; returns NULL. */
struct ram_plug *ram_plug_free(struct ram_plug *plug);
/* Where the guest sees the region. */
uint8_t *ram_plug_view(const struct ram_plug *plug);
uint32_t ram_plug_blocks(const struct ram_plug *plug);
uint32_t ram_plug_plugged(const struct ram_plug *plug);
bool ram_plug_has(const struct ram_plug *plug, uint32_t block);
/* The bytes from `offset` on, at most `size`, that are plugged, or are not. */
uint64_t ram_plug_run(const struct ram_plug *plug,
                      uint64_t offset,
                      uint64_t size,
                      bool is_plugged);
/* Nothing that this range touches is unplugged until it is let go, as often as it was
 * held; false: not all of it is plugged, and nothing is held. */
bool ram_plug_hold(struct ram_plug *plug, uint64_t offset, uint64_t size);
void ram_plug_let_go(struct ram_plug *plug, uint64_t offset, uint64_t size);
/* All of these blocks, whatever they were; the pages of those that go are punched out. */
int ram_plug_set(struct ram_plug *plug, uint32_t first, uint32_t count, bool is_plugged);
