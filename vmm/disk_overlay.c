#include "vmm/disk_overlay.h"

#include "base/bytes.h"
#include "base/require.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK          OVERLAY_BLOCK_BYTES
#define PAGE           OVERLAY_PAGE_BYTES
#define MAGIC_SIZE     8u
#define FORMAT_VERSION 1u

/* A bitmap page: u32 crc32c of the rest, u32 page number, u64 generation, then bits. */
#define PAGE_HEAD      16u
#define PAGE_BITS_SIZE (PAGE - PAGE_HEAD)
#define PAGE_BLOCKS    (PAGE_BITS_SIZE * 8)
/* Pages, both slots of each, that one call reads or writes when all are: half a MiB. */
#define BATCH_PAGES UINT64_C(64)

static const uint8_t magic_bytes[MAGIC_SIZE] = {'B', 'E', 'R', 'T', 'H', 'O', 'V', 'L'};

struct header {
    uint64_t disk_bytes;
    uint64_t base_bytes;
    struct digest base;
};

/* A page of the bitmap in memory. */
struct page {
    uint64_t generation; /* of its newest slot, which is generation % 2 */
    atomic_bool dirty;   /* has bits that no slot holds */
    /* Changes that set bits right now, which are seen before dirty is. */
    atomic_uint takers;
    _Atomic uint8_t *bits;
};

struct overlay {
    struct virtual_disk disk;
    struct disk_file *file;
    struct virtual_disk *base; /* may be NULL */
    uint64_t base_bytes;
    uint64_t page_count;
    struct page *pages;
    /* Of all pages, PAGE_BITS_SIZE each. Where no bit is set nothing was ever written, so
     * a disk costs memory only for what the guest has changed of it. */
    _Atomic uint8_t *bits;
    atomic_bool failed;         /* a sync failed */
    pthread_mutex_t flush_lock; /* one flush at a time */
    /* Held shared for every change of whole blocks or of our own, exclusively for a
     * copy-up: nobody changes a block while its rest is being fetched. Reads need none:
     * the base never changes, and a block is ours after its bytes are. */
    pthread_rwlock_t copy_lock;
};

static struct overlay *overlay_of(struct virtual_disk *disk)
{
    return (struct overlay *)disk;
}

/* ---- layout ---- */

static uint64_t blocks_of(uint64_t disk_bytes)
{
    return (disk_bytes + BLOCK - 1) / BLOCK;
}

static uint64_t pages_of(uint64_t disk_bytes)
{
    return (blocks_of(disk_bytes) + PAGE_BLOCKS - 1) / PAGE_BLOCKS;
}

static uint64_t slot_at(uint64_t disk_bytes, uint64_t page, uint64_t generation)
{
    return blocks_of(disk_bytes) * BLOCK + (2 * page + generation % 2) * PAGE;
}

uint64_t disk_overlay_file_size(uint64_t disk_bytes)
{
    return blocks_of(disk_bytes) * BLOCK + 2 * pages_of(disk_bytes) * PAGE + PAGE;
}

/* ---- header ---- */

static void put_u64(uint8_t *at, uint64_t value)
{
    for (unsigned i = 0; i < 8; i++) {
        at[i] = (uint8_t)(value >> (8 * i));
    }
}

/* magic, u32 version, u32 block size, u64 sizes, digest; the page's last word is the
 * checksum of all before it. */
static void header_encode(const struct header *header, uint8_t *page)
{
    memset(page, 0, PAGE);
    memcpy(page, magic_bytes, MAGIC_SIZE);
    put_u64(page + 8, FORMAT_VERSION | BLOCK << 32);
    put_u64(page + 16, header->disk_bytes);
    put_u64(page + 24, header->base_bytes);
    memcpy(page + 32, header->base.bytes, DIGEST_SIZE);
    put_u64(page + PAGE - 8, (uint64_t)crc32c(0, page, PAGE - 8));
}

static int header_decode(const uint8_t *page, struct header *ret_header, struct err *err)
{
    struct bytes_reader reader;
    uint8_t magic[MAGIC_SIZE];
    struct header header;
    bytes_reader_init(&reader, page + PAGE - 8, 8);
    const uint64_t crc = bytes_read_u64(&reader);
    bytes_reader_init(&reader, page, PAGE - 8);
    bytes_read_raw(&reader, magic, sizeof(magic));
    const uint32_t version = bytes_read_u32(&reader);
    const uint32_t block_bytes = bytes_read_u32(&reader);
    header.disk_bytes = bytes_read_u64(&reader);
    header.base_bytes = bytes_read_u64(&reader);
    bytes_read_raw(&reader, header.base.bytes, DIGEST_SIZE);
    if (memcmp(magic, magic_bytes, MAGIC_SIZE) != 0 || crc != crc32c(0, page, PAGE - 8)) {
        return err_set(err, BERTH_ECORRUPT, "the overlay's header is damaged, or none");
    }
    if (version != FORMAT_VERSION || block_bytes != BLOCK) {
        return err_set(err, BERTH_EUNSUPPORTED,
                       "overlay version %" PRIu32 " with blocks of %" PRIu32 " bytes",
                       version, block_bytes);
    }
    if (header.disk_bytes == 0 || header.disk_bytes % DISK_SECTOR_BYTES != 0 ||
        header.disk_bytes > DISK_SIZE_MAX || header.base_bytes > DISK_SIZE_MAX) {
        return err_set(err, BERTH_ECORRUPT, "the overlay's sizes make no sense");
    }
    *ret_header = header;
    return 0;
}

/* ---- the bitmap on the file ---- */

static void page_seal(uint8_t *data, uint64_t number, uint64_t generation)
{
    put_u64(data, number << 32);
    put_u64(data + 8, generation);
    const uint32_t crc = crc32c(0, data + 4, PAGE - 4);
    put_u64(data, (uint64_t)crc | number << 32);
}

/* The generation of a slot that is whole and this page's, or 0. */
static uint64_t page_check(const uint8_t *data, uint64_t number)
{
    struct bytes_reader reader;
    bytes_reader_init(&reader, data, PAGE);
    const uint32_t crc = bytes_read_u32(&reader);
    const uint32_t page_number = bytes_read_u32(&reader);
    const uint64_t generation = bytes_read_u64(&reader);
    if (crc != crc32c(0, data + 4, PAGE - 4) || page_number != (uint32_t)number) {
        return 0;
    }
    return generation;
}

static bool has_bits(const uint8_t *bits)
{
    return bits[0] != 0 || memcmp(bits, bits + 1, PAGE_BITS_SIZE - 1) != 0;
}

/* Takes the newest whole slot of one page, of both as they lie on the file. */
static int
page_take(struct overlay *overlay, uint64_t number, const uint8_t *slots, struct err *err)
{
    struct page *page = &overlay->pages[number];
    const uint8_t *newest = NULL;
    page->bits = overlay->bits + number * PAGE_BITS_SIZE;
    for (uint64_t slot = 0; slot < 2; slot++) {
        const uint8_t *data = slots + slot * PAGE;
        const uint64_t generation = page_check(data, number);
        if (generation > page->generation && generation % 2 == slot) {
            page->generation = generation;
            newest = data + PAGE_HEAD;
        }
    }
    if (newest == NULL) {
        return err_set(err, BERTH_ECORRUPT,
                       "both copies of page %" PRIu64 " of the overlay's bitmap are "
                       "damaged",
                       number);
    }
    if (has_bits(newest)) {
        memcpy((void *)(uintptr_t)page->bits, newest, PAGE_BITS_SIZE);
    }
    return 0;
}

static uint64_t batch_count(uint64_t page_count, uint64_t first)
{
    return page_count - first < BATCH_PAGES ? page_count - first : BATCH_PAGES;
}

static int pages_load(struct overlay *overlay, struct err *err)
{
    uint8_t *slots = malloc(BATCH_PAGES * 2 * PAGE);
    int r = slots == NULL ? err_sys(err, -ENOMEM, "open an overlay") : 0;
    for (uint64_t first = 0; first < overlay->page_count && r == 0;
         first += BATCH_PAGES) {
        const uint64_t count = batch_count(overlay->page_count, first);
        r = disk_file_read(overlay->file, slot_at(overlay->disk.size_bytes, first, 0),
                           slots, count * 2 * PAGE);
        r = r < 0 ? err_sys(err, r, "read the overlay's bitmap") : 0;
        for (uint64_t i = 0; i < count && r == 0; i++) {
            r = page_take(overlay, first + i, slots + i * 2 * PAGE, err);
        }
    }
    free(slots);
    return r;
}

/* Both slots of every page, so that no later flush has to find space for them. */
static int pages_create(struct disk_file *file, uint64_t disk_bytes)
{
    uint8_t *slots = calloc(BATCH_PAGES * 2, PAGE);
    int r = slots == NULL ? -ENOMEM : 0;
    for (uint64_t first = 0; first < pages_of(disk_bytes) && r == 0;
         first += BATCH_PAGES) {
        const uint64_t count = batch_count(pages_of(disk_bytes), first);
        for (uint64_t i = 0; i < count; i++) {
            page_seal(slots + i * 2 * PAGE, first + i, 2); /* slot 0 */
            page_seal(slots + (i * 2 + 1) * PAGE, first + i, 1);
        }
        r = disk_file_write(file, slot_at(disk_bytes, first, 0), slots, count * 2 * PAGE);
    }
    free(slots);
    return r;
}

/* Writes a page that has changed into its other slot; the caller syncs. */
static int page_store(struct overlay *overlay, uint64_t number, const uint8_t *bits)
{
    struct page *page = &overlay->pages[number];
    uint8_t data[PAGE];
    memcpy(data + PAGE_HEAD, bits, PAGE_BITS_SIZE);
    page_seal(data, number, page->generation + 1);
    const int r = disk_file_write(
        overlay->file, slot_at(overlay->disk.size_bytes, number, page->generation + 1),
        data, PAGE);
    if (r == 0) {
        page->generation++;
    }
    return r;
}

/* ---- blocks ---- */

static bool block_held(const struct overlay *overlay, uint64_t block)
{
    const uint64_t bit = block % PAGE_BLOCKS;
    return (atomic_load(&overlay->pages[block / PAGE_BLOCKS].bits[bit / 8]) >>
            (bit % 8)) &
           1;
}

static void blocks_take(struct overlay *overlay, uint64_t first, uint64_t end)
{
    for (uint64_t block = first; block < end; block++) {
        struct page *page = &overlay->pages[block / PAGE_BLOCKS];
        const uint64_t bit = block % PAGE_BLOCKS;
        const uint8_t mask = (uint8_t)(1u << (bit % 8));
        if (block_held(overlay, block)) {
            continue; /* its taker is still counted, or the page dirty or stored */
        }
        atomic_fetch_add(&page->takers, 1);
        if (!(atomic_fetch_or(&page->bits[bit / 8], mask) & mask)) {
            atomic_store(&page->dirty, true);
        }
        atomic_fetch_sub(&page->takers, 1);
    }
}

/* After the bytes of a change: a reader sees the old block or the whole new one. */
static void range_take(struct overlay *overlay, uint64_t offset, uint64_t size)
{
    blocks_take(overlay, offset / BLOCK, (offset + size + BLOCK - 1) / BLOCK);
}

bool disk_overlay_holds(const struct virtual_disk *disk, uint64_t offset)
{
    REQUIRE(offset < disk->size_bytes);
    return block_held((const struct overlay *)disk, offset / BLOCK);
}

/* The base's bytes, zeros beyond its end. */
static int base_read(struct overlay *overlay,
                     uint64_t offset,
                     const struct iovec *pieces,
                     unsigned piece_count,
                     uint64_t size)
{
    struct iovec part[DISK_PIECES_MAX];
    const uint64_t there =
        offset < overlay->base_bytes ? overlay->base_bytes - offset : 0;
    const uint64_t from_base = there < size ? there : size;
    if (from_base > 0) {
        const unsigned count = disk_pieces_slice(pieces, piece_count, 0, from_base, part);
        const int r = disk_read(overlay->base, offset, part, count, from_base);
        if (r < 0) {
            return r;
        }
    }
    const unsigned count =
        disk_pieces_slice(pieces, piece_count, from_base, size - from_base, part);
    for (unsigned i = 0; i < count; i++) {
        memset(part[i].iov_base, 0, part[i].iov_len);
    }
    return 0;
}

/* How far from offset on all blocks are held, or all are not: at most `size` bytes. */
static uint64_t
run_length(const struct overlay *overlay, uint64_t offset, uint64_t size, bool held)
{
    uint64_t end = offset;
    while (end < offset + size && block_held(overlay, end / BLOCK) == held) {
        end = (end / BLOCK + 1) * BLOCK;
    }
    return end - offset < size ? end - offset : size;
}

static int overlay_read(struct virtual_disk *disk,
                        uint64_t offset,
                        const struct iovec *pieces,
                        unsigned piece_count,
                        uint64_t size)
{
    struct overlay *overlay = overlay_of(disk);
    struct iovec part[DISK_PIECES_MAX];
    for (uint64_t done = 0; done < size;) {
        const uint64_t at = offset + done;
        const bool held = block_held(overlay, at / BLOCK);
        const uint64_t run = run_length(overlay, at, size - done, held);
        const unsigned count = disk_pieces_slice(pieces, piece_count, done, run, part);
        const int r = held ? overlay->file->ops->read(overlay->file, at, part, count, run)
                           : base_read(overlay, at, part, count, run);
        if (r < 0) {
            return r;
        }
        done += run;
    }
    return 0;
}

/* ---- changes ---- */

/* Makes the block that holds `offset` our own, with the base's bytes. Under the exclusive
 * lock. */
static int block_copy_up(struct overlay *overlay, uint64_t offset)
{
    uint8_t data[BLOCK];
    const uint64_t block = offset / BLOCK;
    const struct iovec piece = {.iov_base = data, .iov_len = sizeof(data)};
    if (block_held(overlay, block)) {
        return 0;
    }
    int r = base_read(overlay, block * BLOCK, &piece, 1, BLOCK);
    if (r == 0) {
        r = disk_file_write(overlay->file, block * BLOCK, data, sizeof(data));
    }
    if (r == 0) {
        blocks_take(overlay, block, block + 1);
    }
    return r;
}

/* Copies up the first and the last block of a range where only a part of them changes. */
static int edges_copy_up(struct overlay *overlay, uint64_t offset, uint64_t size)
{
    const uint64_t end = offset + size;
    int r = 0;
    pthread_rwlock_wrlock(&overlay->copy_lock);
    if (offset % BLOCK != 0) {
        r = block_copy_up(overlay, offset);
    }
    if (r == 0 && end % BLOCK != 0) {
        r = block_copy_up(overlay, end - 1);
    }
    pthread_rwlock_unlock(&overlay->copy_lock);
    return r;
}

static bool edge_missing(const struct overlay *overlay, uint64_t offset, uint64_t size)
{
    const uint64_t end = offset + size;
    return (offset % BLOCK != 0 && !block_held(overlay, offset / BLOCK)) ||
           (end % BLOCK != 0 && !block_held(overlay, (end - 1) / BLOCK));
}

/* A change of whole blocks, or of parts of blocks that are our own by then. NULL pieces
 * write zeros. */
static int change(struct overlay *overlay,
                  uint64_t offset,
                  const struct iovec *pieces,
                  unsigned piece_count,
                  uint64_t size)
{
    struct disk_file *file = overlay->file;
    int r = 0;
    if (atomic_load(&overlay->failed)) {
        return -EIO;
    }
    if (edge_missing(overlay, offset, size)) {
        r = edges_copy_up(overlay, offset, size);
    }
    if (r < 0) {
        return r;
    }
    pthread_rwlock_rdlock(&overlay->copy_lock);
    r = pieces != NULL ? file->ops->write(file, offset, pieces, piece_count, size)
                       : file->ops->zero(file, offset, size);
    if (r == 0) {
        range_take(overlay, offset, size);
    }
    pthread_rwlock_unlock(&overlay->copy_lock);
    return r;
}

static int overlay_write(struct virtual_disk *disk,
                         uint64_t offset,
                         const struct iovec *pieces,
                         unsigned piece_count,
                         uint64_t size)
{
    return change(overlay_of(disk), offset, pieces, piece_count, size);
}

static int overlay_zero(struct virtual_disk *disk, uint64_t offset, uint64_t size)
{
    return change(overlay_of(disk), offset, NULL, 0, size);
}

/* Only whole blocks are worth it, and they need no copy-up. */
static int overlay_discard(struct virtual_disk *disk, uint64_t offset, uint64_t size)
{
    struct overlay *overlay = overlay_of(disk);
    const uint64_t first = (offset + BLOCK - 1) / BLOCK * BLOCK;
    const uint64_t end = (offset + size) / BLOCK * BLOCK;
    if (first >= end) {
        return 0;
    }
    if (atomic_load(&overlay->failed)) {
        return -EIO;
    }
    pthread_rwlock_rdlock(&overlay->copy_lock);
    const int r = overlay->file->ops->punch(overlay->file, first, end - first);
    if (r == 0) {
        range_take(overlay, first, end - first);
    }
    pthread_rwlock_unlock(&overlay->copy_lock);
    return r;
}

/* ---- direct reads ---- */

enum { FILE_OWN = 0, FILE_BASE };

static unsigned overlay_files(const struct virtual_disk *disk,
                              int ret_fds[DISK_FILES_MAX])
{
    const struct overlay *overlay = (const struct overlay *)disk;
    if (overlay->file->ops->descriptor == NULL) {
        return 0;
    }
    int base_fds[DISK_FILES_MAX];
    ret_fds[FILE_OWN] = overlay->file->ops->descriptor(overlay->file);
    if (overlay->base == NULL || disk_files(overlay->base, base_fds) != 1) {
        return 1;
    }
    ret_fds[FILE_BASE] = base_fds[0];
    return 2;
}

/* Which file holds all of the range: of a block that is copied up or written right now,
 * still the base, or ours with all of its bytes. */
static int
overlay_direct_read(const struct virtual_disk *disk, uint64_t offset, uint64_t size)
{
    const struct overlay *overlay = (const struct overlay *)disk;
    const bool held = block_held(overlay, offset / BLOCK);
    int fds[DISK_FILES_MAX];
    if (run_length(overlay, offset, size, held) != size) {
        return -1;
    }
    if (held) {
        return FILE_OWN;
    }
    return offset + size <= overlay->base_bytes && disk_files(overlay->base, fds) == 1
               ? FILE_BASE
               : -1;
}

/* ---- flush ---- */

/* Dirty pages as they were before a sync. */
struct snapshot {
    uint64_t room;
    uint64_t count;
    struct {
        uint64_t number;
        uint8_t bits[PAGE_BITS_SIZE];
    } pages[];
};

/* For a flush that comes to its end another time: that begins with a sync, so that what
 * is stored by now is durable before its slots' turn comes again. */
static void snapshot_put_back(struct overlay *overlay, const struct snapshot *snapshot)
{
    for (uint64_t i = 0; i < snapshot->count; i++) {
        atomic_store(&overlay->pages[snapshot->pages[i].number].dirty, true);
    }
}

/* Room for twice as many, or for the first; NULL without memory, and the old one stays.
 */
static struct snapshot *snapshot_grow(struct snapshot *snapshot)
{
    const uint64_t count = snapshot != NULL ? snapshot->count : 0;
    const uint64_t room = count > 0 ? 2 * count : 1;
    snapshot = realloc(snapshot, sizeof(*snapshot) + room * sizeof(snapshot->pages[0]));
    if (snapshot != NULL) {
        snapshot->room = room;
        snapshot->count = count;
    }
    return snapshot;
}

/* A bit that somebody was told of has its taker counted still, or the page is dirty, or
 * it is in a slot: so takers are looked at first. */
static bool page_has_news(struct page *page)
{
    return atomic_load(&page->takers) > 0 || atomic_load(&page->dirty);
}

/* Takes the pages that are dirty, which are clean then: all of them, however many become
 * so meanwhile. -ENOMEM: all is as it was. */
static int snapshot_take(struct overlay *overlay, struct snapshot **ret_snapshot)
{
    struct snapshot *snapshot = snapshot_grow(NULL);
    if (snapshot == NULL) {
        return -ENOMEM;
    }
    for (uint64_t i = 0; i < overlay->page_count; i++) {
        struct page *page = &overlay->pages[i];
        if (!page_has_news(page)) {
            continue;
        }
        if (snapshot->count == snapshot->room) {
            struct snapshot *grown = snapshot_grow(snapshot);
            if (grown == NULL) {
                snapshot_put_back(overlay, snapshot);
                free(snapshot);
                return -ENOMEM;
            }
            snapshot = grown;
        }
        atomic_store(&page->dirty, false);
        for (uint64_t byte = 0; byte < PAGE_BITS_SIZE; byte++) {
            snapshot->pages[snapshot->count].bits[byte] = atomic_load(&page->bits[byte]);
        }
        snapshot->pages[snapshot->count++].number = i;
    }
    *ret_snapshot = snapshot;
    return 0;
}

static int file_sync(struct overlay *overlay)
{
    const int r = overlay->file->ops->sync(overlay->file);
    return disk_has_no_room(r) ? -EIO : r;
}

/* Stores every dirty page as it was before the data was synced: no bit is on the disk
 * whose block is not. */
static int pages_flush(struct overlay *overlay, const struct snapshot *snapshot)
{
    int r = file_sync(overlay);
    for (uint64_t i = 0; i < snapshot->count && r == 0; i++) {
        r = page_store(overlay, snapshot->pages[i].number, snapshot->pages[i].bits);
    }
    if (r == 0 && snapshot->count > 0) {
        r = file_sync(overlay);
    }
    if (disk_has_no_room(r)) { /* a file system that copies what is written */
        snapshot_put_back(overlay, snapshot);
    }
    return r;
}

static int overlay_flush(struct virtual_disk *disk)
{
    struct overlay *overlay = overlay_of(disk);
    struct snapshot *snapshot = NULL;
    pthread_mutex_lock(&overlay->flush_lock);
    int r = atomic_load(&overlay->failed) ? -EIO : snapshot_take(overlay, &snapshot);
    if (r == 0) { /* else nothing was begun that could be lost */
        r = pages_flush(overlay, snapshot);
        if (r < 0 && !disk_has_no_room(r)) {
            atomic_store(&overlay->failed, true);
        }
    }
    free(snapshot);
    pthread_mutex_unlock(&overlay->flush_lock);
    return r;
}

/* ---- life ---- */

static void overlay_free(struct virtual_disk *disk)
{
    struct overlay *overlay = overlay_of(disk);
    disk_file_free(overlay->file);
    disk_free(overlay->base);
    pthread_mutex_destroy(&overlay->flush_lock);
    pthread_rwlock_destroy(&overlay->copy_lock);
    free((void *)(uintptr_t)overlay->bits);
    free(overlay->pages);
    free(overlay);
}

static const struct disk_ops overlay_ops = {
    .kind = "overlay",
    .read = overlay_read,
    .write = overlay_write,
    .flush = overlay_flush,
    .zero = overlay_zero,
    .discard = overlay_discard,
    .free = overlay_free,
    .files = overlay_files,
    .direct_read = overlay_direct_read,
};

int disk_overlay_create(struct disk_file *file,
                        uint64_t disk_bytes,
                        uint64_t base_bytes,
                        const struct digest *base_digest,
                        struct err *err)
{
    const struct header header = {disk_bytes, base_bytes, *base_digest};
    uint8_t page[PAGE];
    if (disk_bytes == 0 || disk_bytes % DISK_SECTOR_BYTES != 0 ||
        disk_bytes > DISK_SIZE_MAX || base_bytes > DISK_SIZE_MAX ||
        file->size_bytes != disk_overlay_file_size(disk_bytes)) {
        return err_set(err, BERTH_EINVALID,
                       "an overlay for %" PRIu64 " bytes needs a file "
                       "of %" PRIu64,
                       disk_bytes, disk_overlay_file_size(disk_bytes));
    }
    int r = pages_create(file, disk_bytes);
    if (r == 0) {
        r = file->ops->sync(file);
    }
    if (r == 0) { /* the header last: without it there is no overlay */
        header_encode(&header, page);
        r = disk_file_write(file, file->size_bytes - PAGE, page, PAGE);
    }
    if (r == 0) {
        r = file->ops->sync(file);
    }
    return r < 0 ? err_sys(err, r, "create an overlay") : 0;
}

/* Reads the header and compares it with what it is opened as. */
static int header_load(struct disk_file *file,
                       const struct virtual_disk *base,
                       const struct digest *base_digest,
                       struct header *ret_header,
                       struct err *err)
{
    uint8_t page[PAGE];
    if (file->size_bytes < 2 * PAGE) {
        return err_set(err, BERTH_ECORRUPT, "the file is too small to be an overlay");
    }
    int r = disk_file_read(file, file->size_bytes - PAGE, page, PAGE);
    if (r < 0) {
        return err_sys(err, r, "read the overlay's header");
    }
    r = header_decode(page, ret_header, err);
    if (r < 0) {
        return r;
    }
    if (file->size_bytes != disk_overlay_file_size(ret_header->disk_bytes)) {
        return err_set(err, BERTH_ECORRUPT,
                       "the overlay's file has another size than its "
                       "header says");
    }
    if (!digest_equal(&ret_header->base, base_digest) ||
        ret_header->base_bytes != (base != NULL ? base->size_bytes : 0)) {
        return err_set(err, BERTH_ECONFLICT, "the overlay was made over another base");
    }
    return 0;
}

/* A copy-up that waits holds later changes back: a stream of them cannot starve it. */
static void copy_lock_init(pthread_rwlock_t *lock)
{
    pthread_rwlockattr_t attributes; /* none of these can fail */
    (void)pthread_rwlockattr_init(&attributes);
    (void)pthread_rwlockattr_setkind_np(&attributes,
                                        PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    (void)pthread_rwlock_init(lock, &attributes);
    (void)pthread_rwlockattr_destroy(&attributes);
}

int disk_overlay_open(struct disk_file *take_file,
                      struct virtual_disk *take_base,
                      const struct digest *base_digest,
                      struct virtual_disk **ret_disk,
                      struct err *err)
{
    struct header header = {0};
    int r = header_load(take_file, take_base, base_digest, &header, err);
    if (r < 0) {
        return r;
    }
    const uint64_t page_count = pages_of(header.disk_bytes);
    REQUIRE(page_count > 0); /* the header's sizes were checked */
    struct overlay *overlay = calloc(1, sizeof(*overlay));
    struct page *pages = calloc(page_count, sizeof(*pages));
    _Atomic uint8_t *bits = calloc(page_count, PAGE_BITS_SIZE);
    if (overlay == NULL || pages == NULL || bits == NULL) {
        r = err_sys(err, -ENOMEM, "open an overlay");
        goto free_memory;
    }
    overlay->disk = (struct virtual_disk){&overlay_ops, header.disk_bytes, false};
    overlay->file = take_file;
    overlay->base = take_base;
    overlay->base_bytes = header.base_bytes;
    overlay->page_count = page_count;
    overlay->pages = pages;
    overlay->bits = bits;
    r = pages_load(overlay, err);
    if (r < 0) {
        goto free_memory;
    }
    pthread_mutex_init(&overlay->flush_lock, NULL); /* cannot fail without attributes */
    copy_lock_init(&overlay->copy_lock);
    *ret_disk = &overlay->disk;
    return 0;

free_memory:
    free((void *)(uintptr_t)bits);
    free(pages);
    free(overlay);
    return r;
}
