#include "vmm/ram_plug.h"

#include "base/require.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>

#define WORD_BLOCKS 64u
#define WORDS       (RAM_PLUG_BLOCKS_MAX / WORD_BLOCKS)

struct ram_plug {
    int fd; /* borrowed */
    uint64_t block_bytes;
    uint64_t size_bytes;
    uint8_t *view;
    void *reserved; /* the view, and what aligns it */
    size_t reserved_bytes;
    atomic_uint plugged;
    _Atomic uint64_t words[WORDS];
    atomic_uint holds[]; /* by block */
};

uint64_t ram_plug_block_bytes(uint64_t size_bytes)
{
    uint64_t block = RAM_PLUG_BLOCK_BYTES;
    while (size_bytes / block > RAM_PLUG_BLOCKS_MAX) {
        block *= 2;
    }
    return block;
}

static int view_map(struct ram_plug *plug, int fd, struct err *err)
{
    plug->reserved_bytes = (size_t)(plug->size_bytes + RAM_PLUG_BLOCK_BYTES);
    plug->reserved = mmap(NULL, plug->reserved_bytes, PROT_NONE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (plug->reserved == MAP_FAILED) {
        plug->reserved = NULL;
        return err_sys(err, -errno, "reserve address space for RAM");
    }
    /* Huge pages lie where they do in the guest. */
    const uintptr_t first = (uintptr_t)plug->reserved;
    const uintptr_t past = first % RAM_PLUG_BLOCK_BYTES;
    const uintptr_t skip = past == 0 ? 0 : (uintptr_t)RAM_PLUG_BLOCK_BYTES - past;
    void *view = mmap((uint8_t *)plug->reserved + skip, (size_t)plug->size_bytes,
                      PROT_NONE, MAP_SHARED | MAP_FIXED | MAP_NORESERVE, fd, 0);
    if (view == MAP_FAILED) {
        return err_sys(err, -errno, "map the guest's view of RAM");
    }
    plug->view = view;
    return 0;
}

int ram_plug_new(int fd,
                 uint64_t size_bytes,
                 const struct ram_backing *backing,
                 struct ram_plug **ret_plug,
                 struct err *err)
{
    const uint64_t blocks = size_bytes / ram_plug_block_bytes(size_bytes);
    struct ram_plug *plug =
        calloc(1, sizeof(*plug) + (size_t)blocks * sizeof(plug->holds[0]));
    if (plug == NULL) {
        return err_sys(err, -ENOMEM, "make RAM that is plugged");
    }
    plug->fd = fd;
    plug->size_bytes = size_bytes;
    plug->block_bytes = ram_plug_block_bytes(size_bytes);
    REQUIRE(size_bytes % plug->block_bytes == 0);
    int r = view_map(plug, fd, err);
    if (r == 0) {
        r = ram_backing_apply(backing, plug->view, size_bytes, err);
    }
    if (r < 0) {
        ram_plug_free(plug);
        return r;
    }
    *ret_plug = plug;
    return 0;
}

struct ram_plug *ram_plug_free(struct ram_plug *plug)
{
    if (plug != NULL && plug->reserved != NULL) {
        (void)munmap(plug->reserved, plug->reserved_bytes);
    }
    free(plug);
    return NULL;
}

uint8_t *ram_plug_view(const struct ram_plug *plug)
{
    return plug->view;
}

uint32_t ram_plug_blocks(const struct ram_plug *plug)
{
    return (uint32_t)(plug->size_bytes / plug->block_bytes);
}

uint32_t ram_plug_plugged(const struct ram_plug *plug)
{
    return atomic_load(&plug->plugged);
}

bool ram_plug_has(const struct ram_plug *plug, uint32_t block)
{
    REQUIRE(block < ram_plug_blocks(plug));
    return (atomic_load(&plug->words[block / WORD_BLOCKS]) >> block % WORD_BLOCKS & 1) !=
           0;
}

uint64_t
ram_plug_run(const struct ram_plug *plug, uint64_t offset, uint64_t size, bool is_plugged)
{
    const uint64_t left = offset < plug->size_bytes ? plug->size_bytes - offset : 0;
    const uint64_t wanted = size < left ? size : left;
    uint64_t at = offset;
    while (at - offset < wanted &&
           ram_plug_has(plug, (uint32_t)(at / plug->block_bytes)) == is_plugged) {
        at = (at / plug->block_bytes + 1) * plug->block_bytes;
    }
    return at - offset < wanted ? at - offset : wanted;
}

/* ---- holding ---- */

/* Counts first and looks afterwards, and who unplugs does it the other way round: one of
 * the two sees the other. */
bool ram_plug_hold(struct ram_plug *plug, uint64_t offset, uint64_t size)
{
    REQUIRE(size > 0 && offset < plug->size_bytes && size <= plug->size_bytes - offset);
    const uint32_t first = (uint32_t)(offset / plug->block_bytes);
    const uint32_t last = (uint32_t)((offset + size - 1) / plug->block_bytes);
    for (uint32_t i = first; i <= last; i++) {
        (void)atomic_fetch_add(&plug->holds[i], 1);
        if (!ram_plug_has(plug, i)) {
            ram_plug_let_go(plug, offset, (i + 1) * plug->block_bytes - offset);
            return false;
        }
    }
    return true;
}

void ram_plug_let_go(struct ram_plug *plug, uint64_t offset, uint64_t size)
{
    const uint32_t last = (uint32_t)((offset + size - 1) / plug->block_bytes);
    for (uint32_t i = (uint32_t)(offset / plug->block_bytes); i <= last; i++) {
        const unsigned before = atomic_fetch_sub(&plug->holds[i], 1);
        REQUIRE(before > 0);
    }
}

static bool is_held(const struct ram_plug *plug, uint32_t first, uint32_t count)
{
    bool is_held = false;
    for (uint32_t i = first; !is_held && i < first + count; i++) {
        is_held = atomic_load(&plug->holds[i]) > 0;
    }
    return is_held;
}

/* ---- plugging and unplugging ---- */

static int
view_set(struct ram_plug *plug, uint32_t first, uint32_t count, bool is_plugged)
{
    return mprotect(plug->view + first * plug->block_bytes,
                    (size_t)(count * plug->block_bytes),
                    is_plugged ? PROT_READ | PROT_WRITE : PROT_NONE) < 0
               ? -errno
               : 0;
}

/* Whether it was one already. */
static bool bit_set(struct ram_plug *plug, uint32_t block, bool is_plugged)
{
    const uint64_t bit = UINT64_C(1) << block % WORD_BLOCKS;
    _Atomic uint64_t *word = &plug->words[block / WORD_BLOCKS];
    const uint64_t was =
        is_plugged ? atomic_fetch_or(word, bit) : atomic_fetch_and(word, ~bit);
    const bool was_plugged = (was & bit) != 0;
    if (was_plugged != is_plugged) {
        (void)(is_plugged ? atomic_fetch_add(&plug->plugged, 1)
                          : atomic_fetch_sub(&plug->plugged, 1));
    }
    return was_plugged;
}

/* What was changed halfway is as the bits say. One that cannot be made accessible again
 * stays plugged, for it costs what it cost: a guest that asked for it to go and touches
 * it is at its end. */
static void view_undo(struct ram_plug *plug, uint32_t first, uint32_t count)
{
    uint32_t end;
    for (uint32_t at = first; at < first + count; at = end) {
        const bool is_plugged = ram_plug_has(plug, at);
        for (end = at + 1; end < first + count && ram_plug_has(plug, end) == is_plugged;
             end++) {
        }
        (void)view_set(plug, at, end - at, is_plugged);
    }
}

/* The guest is told that it may when this is done. */
static int blocks_plug(struct ram_plug *plug, uint32_t first, uint32_t count)
{
    const int r = view_set(plug, first, count, true);
    if (r < 0) {
        view_undo(plug, first, count);
        return r;
    }
    for (uint32_t i = first; i < first + count; i++) {
        (void)bit_set(plug, i, true);
    }
    return 0;
}

/* The guest is told that it may not when this is done. Out of the reach of devices, then
 * of vCPUs, and then nobody can bring a page back that is punched out. A device that
 * comes while a block looks as if it had gone already is refused: its guest has just
 * asked for that. */
static int blocks_unplug(struct ram_plug *plug, uint32_t first, uint32_t count)
{
    uint64_t were[WORDS] = {0};
    for (uint32_t i = first; i < first + count; i++) {
        were[i / WORD_BLOCKS] |= (uint64_t)bit_set(plug, i, false) << i % WORD_BLOCKS;
    }
    int r = is_held(plug, first, count) ? -EBUSY : view_set(plug, first, count, false);
    if (r == 0 && fallocate(plug->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                            (off_t)(first * plug->block_bytes),
                            (off_t)(count * plug->block_bytes)) < 0) {
        r = -errno;
    }
    for (uint32_t i = first; r < 0 && i < first + count; i++) {
        if ((were[i / WORD_BLOCKS] >> i % WORD_BLOCKS & 1) != 0) {
            (void)bit_set(plug, i, true);
        }
    }
    if (r < 0) {
        view_undo(plug, first, count);
    }
    return r;
}

int ram_plug_set(struct ram_plug *plug, uint32_t first, uint32_t count, bool is_plugged)
{
    const uint32_t blocks = ram_plug_blocks(plug);
    REQUIRE(first <= blocks && count <= blocks - first);
    if (count == 0) {
        return 0;
    }
    return is_plugged ? blocks_plug(plug, first, count)
                      : blocks_unplug(plug, first, count);
}
