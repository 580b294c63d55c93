/* Levels of the replicated state: what a release can read and write of it.
 *
 * Replicas stay equal only if all of them know every command and field that is in the
 * log. So what a release adds comes with a level; the cluster is at one (state_level),
 * which a logged command raises once every host knows the next (agent/level_watch.h), and
 * nothing above it is proposed before. It is never lowered. A folder, command, snapshot
 * or backup that says nothing of levels, or 1, is of the first.
 *
 * To add a command or field: add a row to LEVELS (level.c) and raise LEVEL_MAX, unless
 * that was done since the last release; then say since when it is there,
 * FIELD_SINCE(level) in the flags of its row, or a row of COMMANDS_SINCE; a section of
 * the snapshot likewise. The same holds for what apply() does: give the level a name
 * below, and ask state_level before it does anything new. Then nothing else has to be
 * done: commands and snapshots are written at the cluster's level, and refused by who
 * does not know theirs. docs/upgrades.md is the operator's side.
 *
 * Shapes: struct level_range, what one berthd takes part in. Threads: pure.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define LEVEL_FIRST 1
#define LEVEL_LIMIT 255 /* commands say theirs in one byte */
/* What apply() does since a level. */
#define LEVEL_REQUEST_SHARES 2
#define LEVEL_VM_LABELS      2 /* COMMAND_CHANGE_VM */
#define LEVEL_LOST_RESTARTS  2 /* a lost VM that is switched off and on */
#define LEVEL_LIMITS         2 /* VMs follow the rates that their template sets */
#define LEVEL_HOST_LABELS    2 /* COMMAND_LABEL_HOST; a host that comes back keeps them */
#define LEVEL_SNAPSHOTS      3 /* VMs are paused, saved and restored */
#define LEVEL_PLACE_UNKNOWN  3 /* a rebirth leaves VMs that wait for their host alone */
#define LEVEL_SURELY_OFF     3 /* what may still run is given up by that word only */
#define LEVEL_MACHINES       4 /* what templates say of CPUs, pages and read-only disks */

/* What only the release after this one has: tests/CMakeLists.txt builds that one, too, to
 * upgrade a rack to it. Other files see structs without it: it has to fit into padding.
 */
#ifdef BERTH_NEXT_LEVEL
#define LEVEL_NEXT(...) __VA_ARGS__
#else
#define LEVEL_NEXT(...)
#endif

struct level_range {
    uint32_t min;
    uint32_t max;
};

/* All that this release knows, or of it nothing above `max` (0: all). */
struct level_range level_range_up_to(uint32_t max);

static inline bool level_in_range(struct level_range range, uint32_t level)
{
    return level >= range.min && level <= range.max;
}

/* Why a berthd with this range takes no part at that level, and what to do about it. */
void level_refusal(struct level_range range, uint32_t level, char ret_text[256]);
/* What a level brought, in words; NULL for one that this release does not know. */
const char *level_doc(uint32_t level);
