#include "vmm/ram_chunks.h"

#include "base/require.h"

uint32_t ram_chunks_count(const struct guest_memory *memory)
{
    return (uint32_t)(guest_memory_size(memory) / RAM_CHUNK_BYTES);
}

static uint32_t
chunk_of(const struct guest_memory *memory, unsigned region, uint64_t in_region)
{
    uint64_t before = 0;
    for (unsigned i = 0; i < region; i++) {
        before += memory->regions[i].size_bytes;
    }
    return (uint32_t)((before + in_region) / RAM_CHUNK_BYTES);
}

/* The region of a chunk, and the chunk's place in it. */
static const struct guest_region *
region_of(const struct guest_memory *memory, uint32_t chunk, uint64_t *ret_in_region)
{
    uint64_t before = chunk * RAM_CHUNK_BYTES;
    unsigned region = 0;
    while (before >= memory->regions[region].size_bytes) {
        before -= memory->regions[region++].size_bytes;
        REQUIRE(region < memory->region_count);
    }
    *ret_in_region = before;
    return &memory->regions[region];
}

uint64_t ram_chunk_address(const struct guest_memory *memory, uint32_t chunk)
{
    uint64_t in_region;
    const struct guest_region *region = region_of(memory, chunk, &in_region);
    return region->address + in_region;
}

uint8_t *ram_chunk_host(const struct guest_memory *memory, uint32_t chunk)
{
    uint64_t in_region;
    const struct guest_region *region = region_of(memory, chunk, &in_region);
    return region->host + in_region;
}

uint32_t ram_chunk_at_address(const struct guest_memory *memory, uint64_t address)
{
    REQUIRE(memory->region_count > 0);
    unsigned region = memory->region_count - 1;
    while (memory->regions[region].address > address) {
        REQUIRE(region > 0);
        region--;
    }
    return chunk_of(memory, region, address - memory->regions[region].address);
}

uint32_t ram_chunk_at_host(const struct guest_memory *memory, uint64_t host)
{
    unsigned region = 0;
    while (host < (uintptr_t)memory->regions[region].host ||
           host - (uintptr_t)memory->regions[region].host >=
               memory->regions[region].size_bytes) {
        region++;
        REQUIRE(region < memory->region_count); /* only RAM is asked for */
    }
    return chunk_of(memory, region, host - (uintptr_t)memory->regions[region].host);
}
