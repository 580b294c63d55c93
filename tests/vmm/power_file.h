/* A file in a machine that loses its power: what was not synced survives in parts.
 *
 * Writes go into a volatile image at once and into a list of sectors that wait; a sync
 * makes them durable. power_file_crash lets a random choice of the waiting sectors reach
 * the disk, in random order, and forgets the rest. Faults: after `fault_after` more
 * changes each further one fails with `fault`, half done. Threads: one.
 */
#pragma once

#include "base/random.h"
#include "base/require.h"
#include "vmm/disk.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define POWER_SECTOR  512u
#define POWER_WAITING 65536u

struct power_sector {
    uint64_t offset;
    uint8_t data[POWER_SECTOR];
};

struct power_file {
    struct disk_file file;
    uint8_t *seen;    /* what reads return */
    uint8_t *durable; /* what a crash leaves */
    struct power_sector *waiting;
    unsigned waiting_count;
    struct random random;
    long fault_after; /* changes that still succeed; -1: all */
    int fault;
    unsigned syncs;
};

static inline struct power_file *power_of(struct disk_file *file)
{
    return (struct power_file *)file;
}

static inline int power_read(struct disk_file *file,
                             uint64_t offset,
                             const struct iovec *pieces,
                             unsigned piece_count,
                             uint64_t size)
{
    REQUIRE(offset + size <= file->size_bytes);
    for (unsigned i = 0; i < piece_count; i++) {
        memcpy(pieces[i].iov_base, power_of(file)->seen + offset, pieces[i].iov_len);
        offset += pieces[i].iov_len;
    }
    return 0;
}

static inline bool power_strikes(struct power_file *power)
{
    if (power->fault_after > 0) {
        power->fault_after--;
    }
    return power->fault_after == 0;
}

/* Puts the sectors of a range that was just written on the list. */
static inline void power_wait(struct power_file *power, uint64_t offset, uint64_t size)
{
    const uint64_t first = offset / POWER_SECTOR * POWER_SECTOR;
    for (uint64_t at = first; at < offset + size; at += POWER_SECTOR) {
        REQUIRE(power->waiting_count < POWER_WAITING);
        struct power_sector *sector = &power->waiting[power->waiting_count++];
        sector->offset = at;
        memcpy(sector->data, power->seen + at, POWER_SECTOR);
    }
}

static inline int power_write(struct disk_file *file,
                              uint64_t offset,
                              const struct iovec *pieces,
                              unsigned piece_count,
                              uint64_t size)
{
    struct power_file *power = power_of(file);
    const bool strikes = power_strikes(power);
    const uint64_t whole = strikes ? size / 2 / POWER_SECTOR * POWER_SECTOR : size;
    uint64_t done = 0;
    REQUIRE(offset + size <= file->size_bytes);
    for (unsigned i = 0; i < piece_count && done < whole; i++) {
        const uint64_t left = whole - done;
        const uint64_t piece = pieces[i].iov_len < left ? pieces[i].iov_len : left;
        memcpy(power->seen + offset + done, pieces[i].iov_base, (size_t)piece);
        done += piece;
    }
    power_wait(power, offset, whole);
    return strikes ? power->fault : 0;
}

static inline int power_zero(struct disk_file *file, uint64_t offset, uint64_t size)
{
    struct power_file *power = power_of(file);
    if (power_strikes(power)) {
        return power->fault;
    }
    memset(power->seen + offset, 0, (size_t)size);
    power_wait(power, offset, size);
    return 0;
}

static inline int power_sync(struct disk_file *file)
{
    struct power_file *power = power_of(file);
    power->syncs++;
    if (power_strikes(power)) {
        return power->fault;
    }
    for (unsigned i = 0; i < power->waiting_count; i++) {
        memcpy(power->durable + power->waiting[i].offset, power->waiting[i].data,
               POWER_SECTOR);
    }
    power->waiting_count = 0;
    return 0;
}

static inline void power_free(struct disk_file *file)
{
    (void)file; /* outlives its disk: the machine starts again */
}

static const struct disk_file_ops power_ops = {
    .read = power_read,
    .write = power_write,
    .zero = power_zero,
    .punch = power_zero,
    .sync = power_sync,
    .free = power_free,
};

static inline void
power_file_init(struct power_file *power, uint64_t size_bytes, uint64_t seed)
{
    memset(power, 0, sizeof(*power));
    power->file = (struct disk_file){&power_ops, size_bytes};
    power->seen = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    power->durable = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    power->waiting = malloc(POWER_WAITING * sizeof(*power->waiting));
    REQUIRE(power->seen != MAP_FAILED && power->durable != MAP_FAILED &&
            power->waiting != NULL);
    random_seed(&power->random, seed);
    power->fault_after = -1;
}

static inline void power_file_fini(struct power_file *power)
{
    munmap(power->seen, power->file.size_bytes);
    munmap(power->durable, power->file.size_bytes);
    free(power->waiting);
}

/* The power goes and comes back. */
static inline void power_file_crash(struct power_file *power)
{
    const unsigned count = power->waiting_count;
    const uint64_t keep_of_8 = random_below(&power->random, 9); /* none .. all */
    for (unsigned i = count; i > 1; i--) {                      /* any order */
        const unsigned j = (unsigned)random_below(&power->random, i);
        const struct power_sector swapped = power->waiting[i - 1];
        power->waiting[i - 1] = power->waiting[j];
        power->waiting[j] = swapped;
    }
    for (unsigned i = 0; i < count; i++) {
        const struct power_sector *sector = &power->waiting[i];
        if (random_below(&power->random, 8) < keep_of_8) {
            memcpy(power->durable + sector->offset, sector->data, POWER_SECTOR);
        }
    }
    for (unsigned i = 0; i < count; i++) {
        const uint64_t at = power->waiting[i].offset;
        memcpy(power->seen + at, power->durable + at, POWER_SECTOR);
    }
    power->waiting_count = 0;
    power->fault_after = -1;
}
