/* The walls around a process that a guest may break into, without the one of system calls
 * (vmm_rights.h): what it reaches by names, by being somebody, and by having no bounds.
 *
 * Shapes: `struct vmm_walls` is a plain value; each wall is one function in a table, put
 * up in the order of `enum vmm_wall`, as some need what the next ones take away. One that
 * cannot be put up here (an older kernel, too few rights to begin with) is named in the
 * answer, and the caller says so.
 *
 *     no new rights   no exec or file gives any back
 *     world           mounts, network, IPC and host name of its own, all empty
 *     bounding set    empty: dropped before the user changes, as that takes a capability
 *     user            one of its own, where uids are given: no other process is of it,
 *                     for its number is the first one's and that of the process
 *     core dumps      none, and nobody of the same user looks into it
 *     capabilities    none, in no set
 *     files           no path can be opened (Landlock)
 *
 * Threads: before there are any. Errors: -errno with text for a wall that must stand (no
 * new rights).
 */
#pragma once

#include "base/err.h"

#include <stdbool.h>

enum vmm_wall {
    VMM_WALL_RIGHTS = 0,
    VMM_WALL_WORLD,
    VMM_WALL_BOUNDS,
    VMM_WALL_USER,
    VMM_WALL_DUMPS,
    VMM_WALL_CAPABILITIES,
    VMM_WALL_FILES,
    VMM_WALL_COUNT
};

#define VMM_WALL(wall)   (1u << (wall)) /* as a bit */
#define VMM_WALLS_ALL    (VMM_WALL(VMM_WALL_COUNT) - 1)
#define VMM_MISSING_SIZE 160

struct vmm_walls {
    unsigned which;     /* bits of enum vmm_wall */
    unsigned first_uid; /* 0: it stays who it is */
    bool keeps_folder;  /* the one that it is in is its world */
};

/* ret_missing: "files, world" of what was asked for and does not stand; "" when all does.
 */
int vmm_walls_put_up(const struct vmm_walls *walls,
                     char ret_missing[VMM_MISSING_SIZE],
                     struct err *err);
