/* The cluster's level as this host last heard it, in the state folder: so that a release
 * which takes no part in it ends at its start, before it touches anything.
 *
 * Shapes: the file LEVEL_FILE, a number and a line's end. It is written when the leader
 * says another level, and goes when the host forgets its cluster. Where there is none,
 * nothing is known and the log or the leader has the last word, as they have anyway.
 * Threads: any, blocking. Errors: BERTH_ELEVEL (with what to do), BERTH_ECORRUPT, -errno.
 */
#pragma once

#include "base/err.h"
#include "model/level.h"

#define LEVEL_FILE "level"

/* Reads the file: *ret_level is 0 where there is none. BERTH_ELEVEL: the level is outside
 * the range. */
int level_file_check(const char *folder,
                     struct level_range range,
                     uint32_t *ret_level,
                     struct err *err);
int level_file_write(const char *folder, uint32_t level, struct err *err);
