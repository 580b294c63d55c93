/* What of the rack whoever asks does not see, and how he would: root of a host without a
 * part in the log, asking its berthd without a token, sees hosts and the VMs there only
 * (docs/security.md), and what the API hides is not told from what is not there.
 *
 * Threads: one. Errors: none; nothing is said where it cannot be known.
 */
#pragma once

#include "cli/cli.h"
#include "model/objects.h"

/* Whether it is such a root that asks; *ret_host is the host's name. */
bool sight_is_narrow(struct cli *cli, char ret_host[NAME_SIZE]);
/* For such a root: the way to see more, as a line on err. */
void sight_hint(struct cli *cli, const char *host);
/* Before a list: says what is not in it, if there is such a thing. */
void sight_note(struct cli *cli);
