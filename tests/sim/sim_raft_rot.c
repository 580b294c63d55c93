/* The end of a simulated log as the bytes that a disk would hold, with what has turned
 * over in it and what a crash has left of a last write: what log_check.h says to that. */
#include "base/require.h"
#include "consensus/log_check.h"
#include "sim_raft.h"
#include "support/log_image.h"

#include <string.h>

#define SOUND_BEFORE 4   /* entries in front of the first that is damaged */
#define TORN_SIZES   300 /* of eight bytes each: of the write that was torn */
#define ROOM         (2 * LOG_CHECK_SECTOR + TORN_SIZES * 8)

static void put_entry(struct log_image *image, const struct sim_entry *entry)
{
    const struct log_image_entry part = {.term = entry->term,
                                         .type = (uint8_t)entry->type,
                                         .data = entry->data->data,
                                         .size = entry->data->size};
    size_t start = log_image_batch(image, &part, 1);
    if (entry->rotten != 0) {
        size_t bit = entry->rotten % (8 * (image->used - start));
        image->data[start + bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}

/* Some of its sectors are missing, one at least. */
static void put_torn(struct log_image *image, uint64_t torn)
{
    uint8_t data[TORN_SIZES * 8];
    const struct log_image_entry part = {
        .term = 1, .type = RAFT_COMMAND, .data = data, .size = 8 + torn % TORN_SIZES * 8};
    memset(data, 0xa5, sizeof(data));
    size_t start = log_image_batch(image, &part, 1);
    uint64_t lost = torn / TORN_SIZES;
    size_t count = (image->used - 1) / LOG_CHECK_SECTOR - start / LOG_CHECK_SECTOR + 1;
    lost = lost % (UINT64_C(1) << count) != 0 ? lost : UINT64_MAX;
    for (size_t at = start; at < image->used; at++) {
        if ((lost >> (at / LOG_CHECK_SECTOR - start / LOG_CHECK_SECTOR) & 1) != 0) {
            image->data[at] = 0;
        }
    }
}

bool sim_raft_is_lost(const struct sim_disk *disk, size_t rotten)
{
    struct log_image image;
    struct log_check check = {0};
    size_t first = rotten > SOUND_BEFORE ? rotten - SOUND_BEFORE : 0;
    size_t size = ROOM;
    for (size_t i = first; i < disk->count; i++) {
        size += LOG_CHECK_BATCH_HEAD + LOG_CHECK_ENTRY_HEAD + disk->log[i].data->size;
    }
    log_image_init(&image, size);
    for (size_t i = first; i < disk->count; i++) {
        put_entry(&image, &disk->log[i]);
    }
    if (disk->torn != 0) {
        put_torn(&image, disk->torn);
    }
    int r = log_check_file(&check, "open-1", image.data, image.size, NULL);
    log_image_fini(&image);
    return r < 0;
}
