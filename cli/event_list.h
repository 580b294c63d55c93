/* The events that the cluster remembers, oldest first.
 *
 * Threads: one. Ownership: *ret_items is a new reference. Errors: said; exit codes.
 */
#pragma once

#include "cli/cli.h"

/* Events after *since that the filter ("&kind=vm&name=web-1", or "") lets through; *since
 * becomes the revision to go on from. */
int event_list_get(struct cli *cli,
                   const char *filter,
                   uint64_t *since,
                   json_t **ret_items);
/* The same for who follows: when nobody answers, `patient` makes it EXIT_OK with
 * *ret_items NULL, and nothing is said. */
int event_list_follow(struct cli *cli,
                      const char *filter,
                      uint64_t *since,
                      bool patient,
                      json_t **ret_items);
