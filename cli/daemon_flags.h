/* The flags of `up` and `join` that are berthd's options, and what a berthd goes by.
 *
 * Shapes: name, address, ports and labels stand in host.json from the first start on; the
 * other settings are in force for as long as berthd was started with them, which its
 * command line in /proc tells. What a start was given is kept in the state folder, so
 * that the next can tell what it leaves out, and that a join was begun there: a join that
 * was cut off leaves no other trace of it. Threads: one.
 */
#pragma once

#include "cli/cli.h"

#include <sys/types.h>

/* NULL-terminated; the option of berthd has the same name. */
extern const char *const daemon_flags[];

/* Before a member is started: its name and labels are those of its first start. EXIT_OK,
 * or EXIT_CONFLICT with those that differ (said). */
int daemon_flags_check(struct cli *cli, const char *state);
/* Says on err which settings the last start here had that this one has not, or has with
 * another value, and keeps those of this one for the next, and whether it joins. Of a
 * file that cannot be read or written nothing is said. */
void daemon_flags_remember(struct cli *cli, const char *state, bool joins);
/* Whether the last start there was to join. Of a member it says nothing. */
bool daemon_flags_joins(const char *state);
/* It has joined, has been undone, or its cluster is forgotten. */
void daemon_flags_join_over(const char *state);
/* Says on err which of this invocation's flags the berthd (pid; 0: the one that starts
 * now) does not go by, and how they are set. */
void daemon_flags_tell(struct cli *cli, const char *state, pid_t pid);
