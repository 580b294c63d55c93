#include "vmm/guest_memory.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/require.h"
#include "vmm/planted_fault.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/falloc.h>
#include <string.h>
#include <sys/mman.h>

/* Wider than any displacement a compiled access can add to a pointer by mistake, and a
 * multiple of the huge page so that the RAM between two of them can use those. */
#define GUARD_BYTES   (UINT64_C(2) << 20)
#define BITS_PER_WORD 64u

static uint64_t region_pages(const struct guest_region *region)
{
    return region->size_bytes / GUEST_PAGE_BYTES;
}

static size_t region_words(const struct guest_region *region)
{
    return (size_t)((region_pages(region) + BITS_PER_WORD - 1) / BITS_PER_WORD);
}

static bool is_pooled(const struct guest_region *region)
{
    return region->page_bytes != GUEST_PAGE_BYTES;
}

static void region_fini(struct guest_region *region)
{
    if (region->dirty != NULL) {
        (void)munmap((void *)(uintptr_t)region->dirty,
                     region_words(region) * sizeof(uint64_t));
    }
    if (region->reserved != NULL) {
        (void)munmap(region->reserved, region->reserved_bytes);
    }
    region->plug = ram_plug_free(region->plug);
    fd_close(&region->fd);
    *region = (struct guest_region){.fd = -1};
}

void guest_memory_init(struct guest_memory *memory)
{
    memset(memory, 0, sizeof(*memory));
    atomic_init(&memory->logging, false);
    atomic_init(&memory->filler, NULL);
}

void guest_memory_fill_by(struct guest_memory *memory,
                          const struct guest_memory_filler *filler)
{
    atomic_store_explicit(&memory->filler, filler, memory_order_release);
}

/* Whether this, which is RAM, is there; it is waited for. */
static bool is_there(const struct guest_memory *memory, uint64_t address, uint64_t size)
{
    const struct guest_memory_filler *filler =
        atomic_load_explicit(&memory->filler, memory_order_acquire);
    return filler == NULL || filler->bring(filler->context, address, size) == 0;
}

void guest_memory_fini(struct guest_memory *memory)
{
    while (memory->region_count > 0) {
        region_fini(&memory->regions[--memory->region_count]);
    }
    memory->is_pluggable = false;
}

/* ---- regions ---- */

/* The place in the table for a region there, or the reason why there is none. */
static int slot_for(const struct guest_memory *memory,
                    uint64_t address,
                    uint64_t size_bytes,
                    struct err *err)
{
    if (size_bytes == 0 || size_bytes > GUEST_MEMORY_SIZE_MAX ||
        size_bytes % GUEST_PAGE_BYTES != 0 || address % GUEST_PAGE_BYTES != 0 ||
        address + size_bytes < address) {
        return err_set(err, BERTH_EINVALID,
                       "RAM at 0x%" PRIx64 ": %" PRIu64 " bytes are not whole pages "
                       "within the limit",
                       address, size_bytes);
    }
    if (memory->region_count == GUEST_MEMORY_REGIONS_MAX) {
        return err_set(err, BERTH_EFULL, "there are %u regions of RAM already",
                       GUEST_MEMORY_REGIONS_MAX);
    }
    unsigned slot = 0;
    while (slot < memory->region_count && memory->regions[slot].address < address) {
        slot++;
    }
    const struct guest_region *before = slot > 0 ? &memory->regions[slot - 1] : NULL;
    const struct guest_region *after =
        slot < memory->region_count ? &memory->regions[slot] : NULL;
    if ((before != NULL && before->address + before->size_bytes > address) ||
        (after != NULL && address + size_bytes > after->address)) {
        return err_set(err, BERTH_EINVALID, "RAM at 0x%" PRIx64 " overlaps other RAM",
                       address);
    }
    return (int)slot;
}

/* Where slot_for said that there is room for it. */
static void region_insert(struct guest_memory *memory, const struct guest_region *region)
{
    unsigned slot = memory->region_count++;
    REQUIRE(!atomic_load(&memory->logging)); /* its bitmap would be missing */
    for (; slot > 0 && memory->regions[slot - 1].address > region->address; slot--) {
        memory->regions[slot] = memory->regions[slot - 1];
    }
    memory->regions[slot] = *region;
    memory->is_pluggable = memory->is_pluggable || region->plug != NULL;
}

/* Maps the file between guards. */
static int
region_map(struct guest_region *region, enum guest_memory_kind kind, struct err *err)
{
    const int sharing[] = {
        [GUEST_MEMORY_SHARED] = MAP_SHARED, [GUEST_MEMORY_PRIVATE] = MAP_PRIVATE};
    /* Huge pages lie at multiples of themselves. */
    const uint64_t unit =
        region->page_bytes > GUARD_BYTES ? region->page_bytes : GUARD_BYTES;
    /* Pages of a pool are reserved by this, or it fails. */
    const int reserve = is_pooled(region) ? 0 : MAP_NORESERVE;
    const size_t reserved_bytes = (size_t)(region->size_bytes + 2 * GUARD_BYTES + unit);
    void *reserved = mmap(NULL, reserved_bytes, PROT_NONE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (reserved == MAP_FAILED) {
        return err_sys(err, -errno, "reserve address space for RAM");
    }
    const uintptr_t first = (uintptr_t)reserved + GUARD_BYTES;
    const uintptr_t aligned = (first + unit - 1) & ~(uintptr_t)(unit - 1);
    void *wanted = (uint8_t *)reserved + (aligned - (uintptr_t)reserved);
    void *host =
        mmap(wanted, (size_t)region->size_bytes, PROT_READ | PROT_WRITE,
             sharing[kind] | MAP_FIXED | reserve, region->fd, (off_t)region->fd_offset);
    if (host == MAP_FAILED) {
        const int r = -errno;
        (void)munmap(reserved, reserved_bytes);
        return err_sys(err, r, "map RAM at 0x%" PRIx64, region->address);
    }
    region->kind = kind;
    region->reserved = reserved;
    region->reserved_bytes = reserved_bytes;
    region->host = host;
    return 0;
}

int guest_memory_add_file(struct guest_memory *memory,
                          uint64_t address,
                          uint64_t size_bytes,
                          int take_fd,
                          uint64_t fd_offset,
                          enum guest_memory_kind kind,
                          struct err *err)
{
    REQUIRE(take_fd >= 0);
    const int slot = slot_for(memory, address, size_bytes, err);
    if (slot < 0) {
        return slot;
    }
    if (fd_offset % GUEST_PAGE_BYTES != 0 || fd_offset > INT64_MAX - size_bytes) {
        return err_set(err, BERTH_EINVALID, "RAM cannot begin at offset %" PRIu64,
                       fd_offset);
    }
    struct guest_region region = {.address = address,
                                  .size_bytes = size_bytes,
                                  .fd = take_fd,
                                  .page_bytes = GUEST_PAGE_BYTES,
                                  .fd_offset = fd_offset};
    const int r = region_map(&region, kind, err);
    if (r < 0) {
        return r;
    }
    region_insert(memory, &region);
    return 0;
}

static int add_fresh(struct guest_memory *memory,
                     uint64_t address,
                     uint64_t size_bytes,
                     const struct ram_backing *backing,
                     bool is_pluggable,
                     struct err *err)
{
    const uint64_t page_bytes = ram_pages_bytes(backing->pages);
    const uint64_t unit = is_pluggable ? ram_plug_block_bytes(size_bytes) : page_bytes;
    int r = slot_for(memory, address, size_bytes, err);
    if (r < 0) {
        return r;
    }
    if (size_bytes % unit != 0 || address % unit != 0) {
        return err_set(err, BERTH_EINVALID,
                       "RAM at 0x%" PRIx64 ": %" PRIu64 " bytes are not whole %s",
                       address, size_bytes, is_pluggable ? "blocks" : "huge pages");
    }
    struct guest_region region = {
        .address = address, .size_bytes = size_bytes, .page_bytes = page_bytes};
    region.fd = ram_backing_make(backing, size_bytes, err);
    r = region.fd < 0 ? region.fd : region_map(&region, GUEST_MEMORY_SHARED, err);
    if (r == 0) {
        r = ram_backing_apply(backing, region.host, size_bytes, err);
    }
    if (r == 0 && is_pluggable) {
        r = ram_plug_new(region.fd, size_bytes, backing, &region.plug, err);
    }
    if (r < 0) {
        region_fini(&region);
        return r;
    }
    region_insert(memory, &region);
    return 0;
}

int guest_memory_add_backed(struct guest_memory *memory,
                            uint64_t address,
                            uint64_t size_bytes,
                            const struct ram_backing *backing,
                            struct err *err)
{
    return add_fresh(memory, address, size_bytes, backing, false, err);
}

int guest_memory_add_pluggable(struct guest_memory *memory,
                               uint64_t address,
                               uint64_t size_bytes,
                               const struct ram_backing *backing,
                               struct err *err)
{
    REQUIRE(!ram_pages_pooled(backing->pages)); /* they cannot be given back */
    return add_fresh(memory, address, size_bytes, backing, true, err);
}

int guest_memory_add(struct guest_memory *memory,
                     uint64_t address,
                     uint64_t size_bytes,
                     struct err *err)
{
    const struct ram_backing plain = {0};
    return guest_memory_add_backed(memory, address, size_bytes, &plain, err);
}

bool guest_memory_can_release(const struct guest_memory *memory)
{
    bool can = true;
    for (unsigned i = 0; i < memory->region_count; i++) {
        can = can && memory->regions[i].page_bytes == GUEST_PAGE_BYTES;
    }
    return can;
}

uint64_t guest_memory_boot_size(const struct guest_memory *memory)
{
    uint64_t size = 0;
    for (unsigned i = 0; i < memory->region_count; i++) {
        size += memory->regions[i].plug == NULL ? memory->regions[i].size_bytes : 0;
    }
    return size;
}

uint64_t guest_memory_size(const struct guest_memory *memory)
{
    uint64_t size = 0;
    for (unsigned i = 0; i < memory->region_count; i++) {
        size += memory->regions[i].size_bytes;
    }
    return size;
}

/* ---- translation ---- */

/* The region that holds this byte, or NULL. */
static const struct guest_region *region_of(const struct guest_memory *memory,
                                            uint64_t address)
{
    for (unsigned i = 0; i < memory->region_count; i++) {
        const struct guest_region *region = &memory->regions[i];
        if (address >= region->address &&
            address - region->address < region->size_bytes) {
            return region;
        }
    }
    return NULL;
}

/* The longest piece from `address` that lies in one region, at most `size`; its length,
 * 0 when there is no RAM. Plugged or not: it must not change while somebody is at it. */
static uint64_t piece_at(const struct guest_memory *memory,
                         uint64_t address,
                         uint64_t size,
                         uint8_t **ret_host)
{
    const struct guest_region *region = region_of(memory, address);
    if (region == NULL) {
        return 0;
    }
    const uint64_t offset = address - region->address;
    const uint64_t left =
        region->size_bytes - offset + (PLANTED(PLANTED_RAM_OFF_BY_ONE) ? 1 : 0);
    *ret_host = region->host + offset;
    return size < left ? size : left;
}

/* The same of what is plugged. */
static uint64_t plugged_at(const struct guest_memory *memory,
                           uint64_t address,
                           uint64_t size,
                           uint8_t **ret_host)
{
    const struct guest_region *region = region_of(memory, address);
    const uint64_t piece = piece_at(memory, address, size, ret_host);
    return piece == 0 || region->plug == NULL
               ? piece
               : ram_plug_run(region->plug, address - region->address, piece, true);
}

/* Whether these pieces follow each other through the whole range. */
static bool pieces_cover(uint64_t (*piece_of)(const struct guest_memory *memory,
                                              uint64_t address,
                                              uint64_t size,
                                              uint8_t **ret_host),
                         const struct guest_memory *memory,
                         uint64_t address,
                         uint64_t size)
{
    uint8_t *host;
    if (size == 0 || address + size - 1 < address) {
        return false;
    }
    while (size > 0) {
        const uint64_t piece = piece_of(memory, address, size, &host);
        if (piece == 0) {
            return false;
        }
        address += piece;
        size -= piece;
    }
    return true;
}

bool guest_memory_holds(const struct guest_memory *memory,
                        uint64_t address,
                        uint64_t size)
{
    return pieces_cover(plugged_at, memory, address, size);
}

bool guest_memory_may_hold(const struct guest_memory *memory,
                           uint64_t address,
                           uint64_t size)
{
    return pieces_cover(piece_at, memory, address, size);
}

/* ---- while it is used ---- */

static void let_go(const struct guest_memory *memory, uint64_t address, uint64_t size)
{
    uint8_t *host;
    while (memory->is_pluggable && size > 0) {
        const struct guest_region *region = region_of(memory, address);
        const uint64_t piece = piece_at(memory, address, size, &host);
        REQUIRE(piece > 0); /* it was held */
        if (region->plug != NULL) {
            ram_plug_let_go(region->plug, address - region->address, piece);
        }
        address += piece;
        size -= piece;
    }
}

/* Whether every byte is RAM, which then stays so until it is let go. */
static bool hold(const struct guest_memory *memory, uint64_t address, uint64_t size)
{
    uint64_t done = 0;
    uint8_t *host;
    if (!memory->is_pluggable || size == 0 || address + size - 1 < address) {
        return pieces_cover(piece_at, memory, address, size);
    }
    while (done < size) {
        const struct guest_region *region = region_of(memory, address + done);
        const uint64_t piece = piece_at(memory, address + done, size - done, &host);
        if (piece == 0 ||
            (region->plug != NULL &&
             !ram_plug_hold(region->plug, address + done - region->address, piece))) {
            let_go(memory, address, done);
            return false;
        }
        done += piece;
    }
    return true;
}

/* The same, and that it has come in. */
static bool hold_whole(const struct guest_memory *memory, uint64_t address, uint64_t size)
{
    if (!hold(memory, address, size)) {
        return false;
    }
    if (!is_there(memory, address, size)) {
        let_go(memory, address, size);
        return false;
    }
    return true;
}

int guest_memory_read(const struct guest_memory *memory,
                      uint64_t address,
                      void *ret_data,
                      size_t size)
{
    uint8_t *to = ret_data;
    uint8_t *host = NULL;
    if (size == 0) {
        return 0;
    }
    if (!hold_whole(memory, address, size)) {
        return -EFAULT;
    }
    for (size_t done = 0, piece; done < size; done += piece) {
        piece = (size_t)piece_at(memory, address + done, size - done, &host);
        REQUIRE(host != NULL); /* the whole range is RAM */
        memcpy(to + done, host, piece);
    }
    let_go(memory, address, size);
    return 0;
}

int guest_memory_write(struct guest_memory *memory,
                       uint64_t address,
                       const void *data,
                       size_t size)
{
    const uint8_t *from = data;
    uint8_t *host = NULL;
    if (size == 0) {
        return 0;
    }
    if (!hold_whole(memory, address, size)) {
        return -EFAULT;
    }
    for (size_t done = 0, piece; done < size; done += piece) {
        piece = (size_t)piece_at(memory, address + done, size - done, &host);
        REQUIRE(host != NULL); /* the whole range is RAM */
        memcpy(host, from + done, piece);
    }
    let_go(memory, address, size);
    /* After the bytes: who takes the log in between sends the page again. */
    guest_memory_mark(memory, address, size);
    return 0;
}

/* A word of a ring that is held, or NULL. */
static uint16_t *word_hold(const struct guest_memory *memory, uint64_t address)
{
    uint8_t *host = NULL;
    if (address % sizeof(uint16_t) != 0 ||
        !hold_whole(memory, address, sizeof(uint16_t))) {
        return NULL;
    }
    (void)piece_at(memory, address, sizeof(uint16_t), &host); /* it is in one */
    return (uint16_t *)(void *)host;
}

int guest_memory_load_u16(const struct guest_memory *memory,
                          uint64_t address,
                          uint16_t *ret_value)
{
    const uint16_t *word = word_hold(memory, address);
    if (word == NULL) {
        return -EFAULT;
    }
    *ret_value = __atomic_load_n(word, __ATOMIC_ACQUIRE);
    let_go(memory, address, sizeof(*word));
    return 0;
}

int guest_memory_store_u16(struct guest_memory *memory, uint64_t address, uint16_t value)
{
    uint16_t *word = word_hold(memory, address);
    if (word == NULL) {
        return -EFAULT;
    }
    __atomic_store_n(word, value, __ATOMIC_RELEASE);
    let_go(memory, address, sizeof(*word));
    guest_memory_mark(memory, address, sizeof(*word));
    return 0;
}

int guest_memory_iovec(const struct guest_memory *memory,
                       uint64_t address,
                       uint64_t size,
                       struct iovec *ret_pieces,
                       unsigned capacity)
{
    unsigned count = 0;
    uint8_t *host = NULL;
    if (!hold_whole(memory, address, size)) {
        return -EFAULT;
    }
    for (uint64_t done = 0, piece; done < size; done += piece) {
        piece = piece_at(memory, address + done, size - done, &host);
        if (count == capacity) {
            let_go(memory, address, size);
            return BERTH_ETOOLARGE;
        }
        ret_pieces[count++] = (struct iovec){.iov_base = host, .iov_len = (size_t)piece};
    }
    return (int)count;
}

void guest_memory_iovec_end(const struct guest_memory *memory,
                            const struct iovec *pieces,
                            unsigned count)
{
    for (unsigned i = 0; memory->is_pluggable && i < count; i++) {
        const uintptr_t at = (uintptr_t)pieces[i].iov_base;
        for (unsigned k = 0; k < memory->region_count; k++) {
            const struct guest_region *region = &memory->regions[k];
            const uintptr_t first = (uintptr_t)region->host;
            if (region->plug != NULL && at >= first && at - first < region->size_bytes) {
                ram_plug_let_go(region->plug, at - first, pieces[i].iov_len);
            }
        }
    }
}

/* The first byte from `offset` on whose huge page is there, or is not; the region's size
 * when there is none. Their file cannot tell, but who maps it can. */
static uint64_t
pooled_seek(const struct guest_region *region, uint64_t offset, bool is_wanted)
{
    uint64_t at = offset - offset % region->page_bytes;
    for (; at < region->size_bytes; at += region->page_bytes) {
        unsigned char there = 1; /* for all that is not known */
        (void)mincore(region->host + at, GUEST_PAGE_BYTES, &there);
        if (((there & 1) != 0) == is_wanted) {
            return at > offset ? at : offset;
        }
    }
    return region->size_bytes;
}

/* A page that went back to its pool might not come again: it is only wiped. */
static void pooled_clear(const struct guest_region *region)
{
    for (uint64_t at = 0; (at = pooled_seek(region, at, true)) < region->size_bytes;
         at += region->page_bytes) {
        memset(region->host + at, 0, (size_t)region->page_bytes);
    }
}

/* The pages of a file are punched out of it; those of a clone are forgotten, so that its
 * image shows again (mapping zeros over it instead would cost a mapping for each page).
 */
static int
region_release(const struct guest_region *region, uint64_t offset, uint64_t size)
{
    const int r = region->kind == GUEST_MEMORY_SHARED
                      ? fallocate(region->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                  (off_t)(region->fd_offset + offset), (off_t)size)
                      : madvise(region->host + offset, (size_t)size, MADV_DONTNEED);
    return r < 0 ? -errno : 0;
}

int guest_memory_release(struct guest_memory *memory, uint64_t address, uint64_t size)
{
    uint8_t *host;
    if (address % GUEST_PAGE_BYTES != 0 || size % GUEST_PAGE_BYTES != 0) {
        return BERTH_EINVALID;
    }
    if (!guest_memory_holds(memory, address, size)) {
        return -EFAULT;
    }
    if (!guest_memory_can_release(memory)) {
        return BERTH_EUNSUPPORTED;
    }
    const struct guest_memory_filler *filler =
        atomic_load_explicit(&memory->filler, memory_order_acquire);
    if (filler != NULL) {
        filler->forgo(filler->context, address, size); /* before it is punched out */
    }
    while (size > 0) {
        const struct guest_region *region = region_of(memory, address);
        const uint64_t piece = piece_at(memory, address, size, &host);
        const int r = region_release(region, address - region->address, piece);
        if (r < 0) {
            return r;
        }
        guest_memory_mark(memory, address, piece);
        address += piece;
        size -= piece;
    }
    return 0;
}

/* A clone lets go of its image: what is mapped there from then on is nobody's. */
static int region_clear(const struct guest_region *region)
{
    if (region->kind == GUEST_MEMORY_SHARED) {
        if (is_pooled(region)) {
            pooled_clear(region);
            return 0;
        }
        return region_release(region, 0, region->size_bytes);
    }
    void *host = mmap(region->host, (size_t)region->size_bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
    return host == MAP_FAILED ? -errno : 0;
}

int guest_memory_clear(struct guest_memory *memory, struct err *err)
{
    for (unsigned i = 0; i < memory->region_count; i++) {
        const struct guest_region *region = &memory->regions[i];
        const int r = region_clear(region);
        if (r < 0) {
            return err_sys(err, r, "clear memory");
        }
        guest_memory_mark(memory, region->address, region->size_bytes);
    }
    return 0;
}

/* As lseek finds it in a region's file, within the region; `unknown` when the file cannot
 * tell. */
static uint64_t region_seek(const struct guest_region *region,
                            uint64_t offset,
                            int whence,
                            uint64_t unknown)
{
    if (region->kind != GUEST_MEMORY_SHARED) {
        return unknown;
    }
    if (is_pooled(region)) {
        return pooled_seek(region, offset, whence == SEEK_DATA);
    }
    const off_t at = lseek(region->fd, (off_t)(region->fd_offset + offset), whence);
    if (at < 0) { /* no more of it, or a file that cannot tell */
        return errno == ENXIO ? region->size_bytes : unknown;
    }
    const uint64_t found = (uint64_t)at - region->fd_offset;
    return found < region->size_bytes ? found : region->size_bytes;
}

bool guest_memory_is_there(const struct guest_memory *memory, uint64_t address)
{
    const struct guest_region *region = region_of(memory, address);
    const uint64_t offset = region == NULL ? 0 : address - region->address;
    return region != NULL && is_pooled(region) &&
           pooled_seek(region, offset, true) == offset;
}

uint64_t guest_memory_content_from(const struct guest_memory *memory,
                                   unsigned region,
                                   uint64_t offset)
{
    REQUIRE(region < memory->region_count);
    const struct guest_region *of = &memory->regions[region];
    while (offset < of->size_bytes) {
        offset = region_seek(of, offset, SEEK_DATA, offset);
        const uint64_t unplugged =
            of->plug == NULL ? 0 : ram_plug_run(of->plug, offset, of->size_bytes, false);
        if (unplugged == 0) {
            break; /* else it was written when it went */
        }
        offset += unplugged;
    }
    return offset < of->size_bytes ? offset : of->size_bytes;
}

uint64_t guest_memory_content_end(const struct guest_memory *memory,
                                  unsigned region,
                                  uint64_t offset)
{
    REQUIRE(region < memory->region_count);
    const struct guest_region *of = &memory->regions[region];
    if (offset >= of->size_bytes) {
        return of->size_bytes;
    }
    const uint64_t end = region_seek(of, offset, SEEK_HOLE, of->size_bytes);
    return of->plug == NULL || end <= offset
               ? end
               : offset + ram_plug_run(of->plug, offset, end - offset, true);
}

/* ---- blocks that are plugged ---- */

int guest_memory_plug(struct guest_memory *memory,
                      unsigned region,
                      uint32_t first,
                      uint32_t count)
{
    REQUIRE(region < memory->region_count && memory->regions[region].plug != NULL);
    return ram_plug_set(memory->regions[region].plug, first, count, true);
}

int guest_memory_unplug(struct guest_memory *memory,
                        unsigned region,
                        uint32_t first,
                        uint32_t count)
{
    REQUIRE(region < memory->region_count && memory->regions[region].plug != NULL);
    const struct guest_region *from = &memory->regions[region];
    const uint64_t block = ram_plug_block_bytes(from->size_bytes);
    const int r = ram_plug_set(from->plug, first, count, false);
    if (r == 0) {
        guest_memory_mark(memory, from->address + first * block, count * block);
    }
    return r;
}

int guest_memory_unplug_all(struct guest_memory *memory)
{
    int r = 0;
    for (unsigned i = 0; i < memory->region_count; i++) {
        const struct ram_plug *plug = memory->regions[i].plug;
        const int one =
            plug == NULL ? 0 : guest_memory_unplug(memory, i, 0, ram_plug_blocks(plug));
        r = one < 0 ? one : r;
    }
    return r;
}

/* ---- the dirty log ---- */

static int region_log_map(struct guest_region *region)
{
    const size_t bytes = region_words(region) * sizeof(uint64_t);
    void *words = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (words == MAP_FAILED) {
        return -ENOMEM;
    }
    region->dirty = words;
    return 0;
}

int guest_memory_log_start(struct guest_memory *memory)
{
    for (unsigned i = 0; i < memory->region_count; i++) {
        struct guest_region *region = &memory->regions[i];
        if (region->dirty == NULL && region_log_map(region) < 0) {
            return -ENOMEM; /* maps made so far stay for the next start */
        }
        for (size_t word = 0; word < region_words(region); word++) {
            atomic_store_explicit(&region->dirty[word], 0, memory_order_relaxed);
        }
    }
    atomic_store(&memory->logging, true);
    return 0;
}

void guest_memory_log_stop(struct guest_memory *memory)
{
    atomic_store(&memory->logging, false);
}

static void region_mark(struct guest_region *region, uint64_t offset, uint64_t size)
{
    const uint64_t last = (offset + size - 1) / GUEST_PAGE_BYTES;
    for (uint64_t page = offset / GUEST_PAGE_BYTES; page <= last; page++) {
        atomic_fetch_or(&region->dirty[page / BITS_PER_WORD],
                        UINT64_C(1) << (page % BITS_PER_WORD));
    }
}

void guest_memory_mark(struct guest_memory *memory, uint64_t address, uint64_t size)
{
    if (!atomic_load_explicit(&memory->logging, memory_order_relaxed) || size == 0) {
        return;
    }
    const uint64_t last = address + size - 1 < address ? UINT64_MAX : address + size - 1;
    for (unsigned i = 0; i < memory->region_count; i++) {
        struct guest_region *region = &memory->regions[i];
        const uint64_t region_last = region->address + region->size_bytes - 1;
        const uint64_t from = address > region->address ? address : region->address;
        const uint64_t to = last < region_last ? last : region_last;
        if (from <= to) {
            region_mark(region, from - region->address, to - from + 1);
        }
    }
}

uint64_t guest_memory_log_take(struct guest_memory *memory,
                               unsigned region,
                               uint64_t *ret_words,
                               size_t word_count)
{
    uint64_t pages = 0;
    REQUIRE(region < memory->region_count);
    const struct guest_region *from = &memory->regions[region];
    const size_t words = region_words(from);
    memset(ret_words, 0, word_count * sizeof(*ret_words));
    for (size_t i = 0; from->dirty != NULL && i < words && i < word_count; i++) {
        ret_words[i] = atomic_exchange(&from->dirty[i], 0);
        pages += (unsigned)__builtin_popcountll(ret_words[i]);
    }
    return pages;
}
