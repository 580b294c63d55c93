/* A line for each change of objects: `berth watch` and `berth ls -w`.
 *
 * Shapes: the API's watch stream, resumed where it broke off (since = the last revision
 * seen) for as long as WATCHING_PATIENCE_MS without an answer; a reset begins anew. With
 * -o json one document per line. Threads: one.
 */
#pragma once

#include "cli/cli.h"
#include "model/objects.h"

#define WATCHING_PATIENCE_MS 60000

/* Until Ctrl-C or a fault; since 0 begins with the objects as they are. */
int watching_run(struct cli *cli,
                 const struct kind_info *const *kinds,
                 unsigned kind_count,
                 uint64_t since);
