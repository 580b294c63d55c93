/* The walls around a process that a guest may break into, without the one of system calls
 * (vmm_rights.h): what it reaches by names, by being somebody, and by having no bounds.
 *
 * Shapes: `struct vmm_walls` is a plain value; each wall is one function in a table, put
 * up in the order of `enum vmm_wall`, as some need what the next ones take away. One that
 * cannot be put up here (an older kernel, too few rights to begin with) is named in the
 * answer, and the caller says so.
 *
 *     no new rights   no exec or file gives any back
 *     processes       whoever started it has made it the first one of a pid namespace of
 *                     its own (agent/vm_process.h): it sees no other
 *     network         one of its own without interfaces, and without the abstract sockets
 *                     of this one
 *     IPC             shared memory, semaphores and queues of its own: none
 *     host name       not that of the host
 *     root            an empty folder that nobody can write to, or the one that is kept
 *     bounding set    empty: dropped before the user changes, as that takes a capability
 *     user            one of its own, that no other process is of, and the group of that
 *                     number alone
 *     limits          what it may have of descriptors, threads, files and memory: a table
 *                     with the reasons is in vmm_walls.c
 *     memory          nobody of the same user looks into it, and it leaves no core dump
 *     capabilities    none, in no set
 *     files           Landlock: no path can be opened, not even below a folder that is
 *                     open; where the kernel knows of that, no TCP, no abstract socket
 *                     and no signal to others
 *
 * Units: bytes. Threads: before there are any. Errors: -errno with text for a wall that
 * must stand (no new rights).
 */
#pragma once

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

enum vmm_wall {
    VMM_WALL_RIGHTS = 0,
    VMM_WALL_PROCESSES,
    VMM_WALL_NETWORK,
    VMM_WALL_IPC,
    VMM_WALL_HOST_NAME,
    VMM_WALL_ROOT,
    VMM_WALL_BOUNDS,
    VMM_WALL_USER,
    VMM_WALL_LIMITS, /* some are of a user */
    VMM_WALL_MEMORY, /* after a change of user, which says anew who may */
    VMM_WALL_CAPABILITIES,
    VMM_WALL_FILES,
    VMM_WALL_COUNT
};

#define VMM_WALL(wall)   (1u << (wall)) /* as a bit */
#define VMM_WALLS_ALL    (VMM_WALL(VMM_WALL_COUNT) - 1)
#define VMM_MISSING_SIZE 160

struct vmm_walls {
    unsigned which;        /* bits of enum vmm_wall */
    unsigned uid;          /* 0: it stays who it is, and "user" is missing */
    bool keeps_folder;     /* the one that it is in is its root */
    uint64_t file_bytes;   /* the largest file that it writes; a log needs no mention */
    uint64_t data_bytes;   /* that it maps for itself alone, beside its threads' */
    uint64_t locked_bytes; /* that the kernel may keep for it: rings */
};

/* The number of this process where its /proc was mounted, which is its pid for whoever
 * started it, and so its own as long as it lives; 0 when there is no telling. */
unsigned vmm_walls_number(void);
/* ret_missing: "network, files" of what was asked for and does not stand; "" when all
 * does.
 */
int vmm_walls_put_up(const struct vmm_walls *walls,
                     char ret_missing[VMM_MISSING_SIZE],
                     struct err *err);
