/* When a guest that resets itself has failed.
 *
 * An installer resets a few times, a broken guest for ever: so many in a row, none of
 * them after a life of RESET_LIFE_MS, and it has failed. Firmware may answer a reset with
 * another one: what follows within RESET_SAME_MS is the same. Shapes: `struct
 * reset_count` is a value, all zeros before the guest runs; pure. Units: ms of any clock
 * that is not 0. Threads: any. Errors: none.
 */
#pragma once

#include <stdint.h>

#define RESETS_MAX    8
#define RESET_LIFE_MS 120000
#define RESET_SAME_MS 2000

struct reset_count {
    uint64_t alive_ms; /* when it began to run, or reset last; 0: it has not run */
    uint64_t reset_ms; /* of the last one counted; 0: none */
    unsigned in_row;   /* each soon after the last */
};

/* Counts one: how many in a row that makes, 0 when it is the same as the last. From
 * RESETS_MAX on it has failed. */
unsigned reset_count_add(struct reset_count *count, uint64_t now_ms);
