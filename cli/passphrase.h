/* Passphrases of encrypted backups: from a file, or asked for without showing them.
 *
 * --passphrase-file names a file whose first line it is; without it a terminal is asked.
 * Threads: one. Ownership: the caller's memory, which it wipes (base/secret_box.h).
 * Errors: said on cli->err, exit codes; EXIT_USAGE where there is neither file nor
 * terminal.
 */
#pragma once

#include "base/secret_box.h"
#include "cli/cli.h"

/* twice: a new one, typed again so that a slip is noticed. */
int passphrase_get(struct cli *cli, bool twice, char ret_passphrase[PASSPHRASE_SIZE_MAX]);
