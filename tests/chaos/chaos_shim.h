/* What a berthd under faults has wrong with its disk and its clock, as a file that both
 * sides have mapped.
 *
 * Shapes: zero is well. The shim (chaos_shim.c) is preloaded into berthd, with the file's
 * path in BERTH_CHAOS_SHIM, and works in it alone: programs that it starts inherit the
 * variable and pass it by. Threads: any.
 */
#pragma once

#include <stdatomic.h>

#define CHAOS_SHIM_FILE "BERTH_CHAOS_SHIM"

struct chaos_shim {
    _Atomic long long wall_s; /* the wall clock is so far off */
    _Atomic long long
        delay_ms;           /* every write that is to be durable takes so much longer */
    _Atomic long long fail; /* and fails with this errno; 0: it does not */
};
