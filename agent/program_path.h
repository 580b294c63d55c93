/* Where Berth's own programs are: beside this one, as a build and an installation have
 * it, else in PATH.
 *
 * Shapes: one call. Threads: any. Errors: none; who starts what is not there hears it
 * from the kernel.
 */
#pragma once

#include <limits.h>
#include <stdbool.h>

/* The path beside our own program; or false, and the name itself, for a search in PATH.
 */
bool program_path_beside(const char *name, char ret_path[PATH_MAX]);
