/* Asking a person before what cannot be undone.
 *
 * Questions go to err, the answer comes from stdin; only y or Y is a yes. Where nobody
 * can be asked (no terminal on both) it takes --yes. Threads: one.
 */
#pragma once

#include "cli/cli.h"

#include <stdbool.h>

bool asking_can(const struct cli *cli);
/* "QUESTION [y/N] "; true for yes. */
bool asking_yes(struct cli *cli, const char *question);
/* The end of a list of what would be lost: EXIT_OK for --yes or a yes; else said, with
 * `nothing` ("nothing was removed"). `what` needs --yes where nobody can be asked. */
int asking_confirm(struct cli *cli, const char *what, const char *nothing);
