/* A backup file as a command takes it: read, decrypted where it has to be, checked whole.
 *
 * Shapes: struct backup_input holds the loaded state and what the file says of itself.
 * Threads: one. Ownership: backup_input_fini frees it and wipes the passphrase. Errors:
 * said on cli->err, exit codes: EXIT_NOT_FOUND (no such file), EXIT_AUTH (another
 * passphrase), EXIT_FAILED (damaged, or of a later release).
 */
#pragma once

#include "base/secret_box.h"
#include "cli/cli.h"
#include "model/backup_file.h"

struct backup_input {
    struct state *state;
    struct backup_info info;
    uint32_t level;    /* of features that a reader has to know */
    size_t size_bytes; /* of the file */
    bool encrypted;
    char passphrase[PASSPHRASE_SIZE_MAX]; /* "" when it is not */
};

/* On a fault nothing is held. */
int backup_input_read(struct cli *cli, const char *path, struct backup_input *ret_input);
void backup_input_fini(struct backup_input *input);
