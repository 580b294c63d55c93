/* Image files on their way into the cluster, before the objects that name them.
 *
 * Shapes: for each artifact with `file:` the content is hashed; what the cluster does not
 * have is uploaded with progress, and the artifact then names its content by sha256
 * alone. Artifacts with `url:` are fetched by the server. Paths are relative to their
 * YAML file. Threads: one. Errors: said; EXIT_USAGE for files that are missing or are not
 * what their sha256 says.
 */
#pragma once

#include "cli/manifest.h"

/* Hashes all files and tells of each that is missing or wrong at its place. */
int upload_check(struct cli *cli, struct manifest *manifest);
/* Whether there is content to bring in. */
bool upload_any(const struct manifest *manifest);
/* With `send` brings it in; in any case the files mean nothing to the server then. */
int upload_images(struct cli *cli, struct manifest *manifest, bool send);
