/* Keeps the level file (agent/level_file.h) up with what the leader says, off the loop: a
 * new level comes to all hosts at once, and a disk that hangs then must not hold up
 * heartbeats.
 *
 * Shapes: struct level_keeper has a thread write the newest level it was told of, one
 * after the other. Units: monotonic milliseconds. Threads: the loop's. Ownership: opaque,
 * heap. Errors: a level that cannot be written is logged and tried again when it is told
 * after LEVEL_KEEPER_RETRY_MS, and at the end: on a host without a log only the file says
 * it to the release that is started next.
 */
#pragma once

#include <uv.h>

#include <stdint.h>

#define LEVEL_KEEPER_RETRY_MS \
    5000 /* leaders say it twice a second, and disks stay full */

struct level_keeper;

/* written: what the file says, 0: nothing. The folder is copied. NULL: no memory. */
struct level_keeper *
level_keeper_new(uv_loop_t *loop, const char *folder, uint32_t written);
void level_keeper_tell(struct level_keeper *keeper, uint32_t level, uint64_t now_ms);
/* Waits until the newest level is written, or cannot be: the next start is to find it.
 * Accepts NULL; returns NULL. */
struct level_keeper *level_keeper_close(struct level_keeper *keeper);
