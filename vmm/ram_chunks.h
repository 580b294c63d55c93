/* Where the chunks of RAM are: a chunk is RAM_CHUNK_BYTES, counted over all regions in
 * their order.
 *
 * Shapes: functions of a memory's regions alone. Units: bytes, chunks. Threads: any.
 * Errors: none; what is asked for has to be RAM. Limits: regions are whole chunks.
 */
#pragma once

#include "vmm/guest_memory.h"

#include <stdint.h>

#define RAM_CHUNK_BYTES (UINT64_C(2) << 20)

uint32_t ram_chunks_count(const struct guest_memory *memory);
/* The guest's address of a chunk, and where it is in this process. */
uint64_t ram_chunk_address(const struct guest_memory *memory, uint32_t chunk);
uint8_t *ram_chunk_host(const struct guest_memory *memory, uint32_t chunk);
/* The chunk that holds this byte of the guest, or of this process. */
uint32_t ram_chunk_at_address(const struct guest_memory *memory, uint64_t address);
uint32_t ram_chunk_at_host(const struct guest_memory *memory, uint64_t host);
