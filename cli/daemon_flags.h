/* The flags of `up` and `join` that are berthd's options, and what a berthd goes by.
 *
 * Shapes: name, address, ports and labels stand in host.json from the first start on; the
 * other settings are in force for as long as berthd was started with them, which its
 * command line in /proc tells. Threads: one.
 */
#pragma once

#include "cli/cli.h"

#include <sys/types.h>

/* NULL-terminated; the option of berthd has the same name. */
extern const char *const daemon_flags[];

/* Says on err which of this invocation's flags the berthd (pid; 0: the one that starts
 * now) does not go by, and how they are set. */
void daemon_flags_tell(struct cli *cli, const char *state, pid_t pid);
