/* The guest's RAM and the one checked way into it.
 *
 * Shapes: `struct guest_memory` is a sorted table of regions, each a shared mapping of a
 * memfd between two inaccessible guard areas. Everything that follows an address which
 * the guest chose (rings, buffers, the loader's placements) goes through the calls below;
 * they resolve RAM only, never a device's registers, and refuse what leaves RAM or wraps
 * around. A copy in is a copy: the guest may change its bytes afterwards, what was read
 * stays as it was read. Writes of devices are marked in the dirty log while it is on
 * (KVM's own log covers the vCPUs); a transfer that the kernel makes into an iovec is
 * marked by its owner when it is done. RAM may still be on its way in (ram_loader.h):
 * then each call waits for what it touches. A region may be one whose blocks are plugged
 * while the guest runs (ram_plug.h): what is not plugged is not RAM, for all calls that
 * follow an address, and what is in use stays plugged: for as long as a copy takes, and
 * pieces until they are given back by guest_memory_iovec_end.
 *
 * Units: guest physical addresses and bytes; the log counts pages of GUEST_PAGE_BYTES.
 * Threads: regions are added and removed while no vCPU and no device runs; all other
 * calls from any thread. Ownership: regions own mapping and descriptor. Errors: -EFAULT
 * for an address outside RAM, or for RAM whose bytes cannot be had; nothing is half done
 * then.
 */
#pragma once

#include "base/err.h"
#include "vmm/ram_backing.h"
#include "vmm/ram_plug.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#define GUEST_PAGE_BYTES         UINT64_C(4096)
#define GUEST_MEMORY_REGIONS_MAX 16u /* below and above the 32-bit hole, hot-plugged */
#define GUEST_MEMORY_SIZE_MAX    (UINT64_C(1) << 40) /* of one region; no sum overflows */

enum guest_memory_kind {
    GUEST_MEMORY_SHARED = 0, /* pages of the descriptor: can be handed to others */
    GUEST_MEMORY_PRIVATE,    /* copy on write over it: a clone of a saved image */
};

struct guest_region {
    uint64_t address; /* of its first byte; a multiple of the page size */
    uint64_t size_bytes;
    uint8_t *host; /* where it is mapped, for KVM's slot; nobody else follows it */
    int fd;        /* owned */
    uint64_t fd_offset;
    /* private */
    enum guest_memory_kind kind;
    uint64_t page_bytes;   /* what it is made of */
    struct ram_plug *plug; /* NULL: all of it is there; owned */
    void *reserved;        /* mapping and guards */
    size_t reserved_bytes;
    _Atomic uint64_t *dirty; /* one bit per page, NULL until the log is first started */
};

/* Whoever brings RAM in while it is in use. */
struct guest_memory_filler {
    /* Waits until all of this, which is RAM, is there; -EFAULT when it cannot be had. */
    int (*bring)(void *context, uint64_t address, uint64_t size);
    /* Whether all of it is there already. */
    bool (*has)(void *context, uint64_t address, uint64_t size);
    /* Whole pages that nobody wants as they were: they do not come any more. */
    void (*forgo)(void *context, uint64_t address, uint64_t size);
    void *context;
};

struct guest_memory {
    struct guest_region regions[GUEST_MEMORY_REGIONS_MAX]; /* by address, disjoint */
    unsigned region_count;
    bool is_pluggable; /* one of them is */
    atomic_bool logging;
    _Atomic(const struct guest_memory_filler *) filler; /* NULL: RAM is whole */
};

void guest_memory_init(struct guest_memory *memory);
/* From now on this one is asked; NULL when all is there. The last one must stay valid
 * until nobody uses the memory. */
void guest_memory_fill_by(struct guest_memory *memory,
                          const struct guest_memory_filler *filler);
/* Unmaps and closes everything. */
void guest_memory_fini(struct guest_memory *memory);
/* Adds fresh zeroed RAM on a memfd of its own. BERTH_EINVALID for a region that is
 * empty, not whole pages, too large or overlaps; BERTH_EFULL; -errno. */
int guest_memory_add(struct guest_memory *memory,
                     uint64_t address,
                     uint64_t size_bytes,
                     struct err *err);
/* As above, of these pages; the address is a multiple of them. */
int guest_memory_add_backed(struct guest_memory *memory,
                            uint64_t address,
                            uint64_t size_bytes,
                            const struct ram_backing *backing,
                            struct err *err);
/* The same, as blocks of which none is plugged. */
int guest_memory_add_pluggable(struct guest_memory *memory,
                               uint64_t address,
                               uint64_t size_bytes,
                               const struct ram_backing *backing,
                               struct err *err);
/* As the first over a file that holds the bytes already; takes the descriptor on success.
 */
int guest_memory_add_file(struct guest_memory *memory,
                          uint64_t address,
                          uint64_t size_bytes,
                          int take_fd,
                          uint64_t fd_offset,
                          enum guest_memory_kind kind,
                          struct err *err);
/* Whether pages can be given back: they are not those of a pool. */
bool guest_memory_can_release(const struct guest_memory *memory);
/* Plugs blocks of a region, or unplugs them, which gives them back to the host. -errno
 * with nothing changed; -EBUSY while one to be unplugged is in use. */
int guest_memory_plug(struct guest_memory *memory,
                      unsigned region,
                      uint32_t first,
                      uint32_t count);
int guest_memory_unplug(struct guest_memory *memory,
                        unsigned region,
                        uint32_t first,
                        uint32_t count);
/* All that was ever plugged, as after power-on; what of it cannot be unplugged stays and
 * counts, and the -errno of the last. */
int guest_memory_unplug_all(struct guest_memory *memory);
/* What is there from power-on; the next one is of all regions, plugged or not. */
uint64_t guest_memory_boot_size(const struct guest_memory *memory);
uint64_t guest_memory_size(const struct guest_memory *memory);

/* Whether every byte of the range is RAM; size 0 is not a range and false. */
bool guest_memory_holds(const struct guest_memory *memory,
                        uint64_t address,
                        uint64_t size);
/* The same of what is plugged and what may be one day. */
bool guest_memory_may_hold(const struct guest_memory *memory,
                           uint64_t address,
                           uint64_t size);
/* Copies out of or into the guest: all of it, or -EFAULT and nothing. Size 0 is fine. */
int guest_memory_read(const struct guest_memory *memory,
                      uint64_t address,
                      void *ret_data,
                      size_t size);
int guest_memory_write(struct guest_memory *memory,
                       uint64_t address,
                       const void *data,
                       size_t size);
/* One 16-bit word of a ring, naturally aligned: the load acquires, the store releases. */
int guest_memory_load_u16(const struct guest_memory *memory,
                          uint64_t address,
                          uint16_t *ret_value);
int guest_memory_store_u16(struct guest_memory *memory, uint64_t address, uint16_t value);
/* Where the range is in this process, for readv and its like: at most `capacity` pieces,
 * their number is returned. -EFAULT; BERTH_ETOOLARGE when it needs more pieces. Until
 * they come back none of it is unplugged. */
int guest_memory_iovec(const struct guest_memory *memory,
                       uint64_t address,
                       uint64_t size,
                       struct iovec *ret_pieces,
                       unsigned capacity);
/* Gives pieces back as they were got; each once. */
void guest_memory_iovec_end(const struct guest_memory *memory,
                            const struct iovec *pieces,
                            unsigned count);

/* Gives whole pages back to the host: until they are written again they read as zeros, or
 * in a clone as its image. What is on its way in does not come: nobody waits for what is
 * to be thrown away. -EFAULT outside RAM, BERTH_EINVALID for parts of pages,
 * BERTH_EUNSUPPORTED for pages of a pool: what is reserved stays, -errno. */
int guest_memory_release(struct guest_memory *memory, uint64_t address, uint64_t size);

/* All of RAM reads as zeros afterwards, a clone's as well; its image is left alone. */
int guest_memory_clear(struct guest_memory *memory, struct err *err);
/* Whether a page of a pool is there, which is at this address. */
bool guest_memory_is_there(const struct guest_memory *memory, uint64_t address);
/* The first byte of a region, from `offset` on, that may be anything but zero; the
 * region's size when there is none. Looks at no page, for that would make one. Of RAM
 * that is on its way in it counts what is there. */
uint64_t guest_memory_content_from(const struct guest_memory *memory,
                                   unsigned region,
                                   uint64_t offset);
/* Where such content, which begins at `offset` or before, ends at the latest. */
uint64_t guest_memory_content_end(const struct guest_memory *memory,
                                  unsigned region,
                                  uint64_t offset);

/* Starts with an empty log; from then on every write is marked. 0 or -ENOMEM. */
int guest_memory_log_start(struct guest_memory *memory);
void guest_memory_log_stop(struct guest_memory *memory);
/* Marks what the kernel has written through an iovec; bytes outside RAM are ignored. */
void guest_memory_mark(struct guest_memory *memory, uint64_t address, uint64_t size);
/* Moves a region's log into ret_words, one bit per page from the region's first (at most
 * word_count words), and clears it; the number of pages marked. */
uint64_t guest_memory_log_take(struct guest_memory *memory,
                               unsigned region,
                               uint64_t *ret_words,
                               size_t word_count);
