/* What a host is started with, checked before anything of it is there: a typing error
 * must not leave a folder, a key or half a host behind.
 *
 * Shapes: the flags of `up` and `join` by one table of name and check, and join tokens by
 * their form; berthd checks the same again, for it has other callers. Threads: one.
 * Errors: EXIT_USAGE (said), all wrong flags at once.
 */
#pragma once

#include "cli/cli.h"

/* The flags of this invocation, and the machine's own name when it is to be the host's:
 * without --name, on a host whose state folder is not there yet. */
int host_flags_check(struct cli *cli);
/* The form of a join token: a cut or mistyped one cannot be joined with. */
int host_flags_check_token(struct cli *cli, const char *text);
