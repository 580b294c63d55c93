/* Starts one of our programs that has no rights (fetch/, unpack/) as a child that shares
 * nothing with us but what it is given.
 *
 * Shapes: it has three descriptors and no other, a session of its own, no signal blocked
 * or ignored, and the environment that it is given. Threads: any; for the program's life
 * that thread is what it follows (PR_SET_PDEATHSIG), so it has to wait for its end.
 * Ownership: all is borrowed for the call; the caller ends and reaps the child. Errors:
 * BERTH_ECHILD, "start <program>: ...".
 */
#pragma once

#include "base/err.h"

#include <sys/types.h>

#define PROGRAM_SPAWN_FDS 3

struct program_spawn {
    const char *name;
    const char *path;           /* NULL: name, beside our own program or in PATH */
    char *const *argv;          /* name first, NULL last */
    char *const *environment;   /* NULL last */
    int fds[PROGRAM_SPAWN_FDS]; /* above 2, or -1: /dev/null */
};

int program_spawn(const struct program_spawn *program, pid_t *ret_pid, struct err *err);
