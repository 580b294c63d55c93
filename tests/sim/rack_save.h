/* What has been run of a long row of seeds, in a file: it can be done in pieces.
 *
 * Shapes: a text. Its first lines say which build (the SHA-256 of the program) and which
 * runs; then a line for each few seeds that are through, with their sums, and one for
 * each seed that failed. Lines are appended whole; a last one that is torn is dropped.
 * Units: seeds. Threads: the caller's; one program at a time has the file. Ownership: the
 * save is the caller's until closed. Errors: words on stderr, NULL or false.
 */
#pragma once

#include "rack_totals.h"

#include <stdbool.h>
#include <stdint.h>

struct rack_save;

/* Opens or begins it: `runs` says in words what is run, from `seed` on, `count` of it at
 * the end. Refuses what another build, or another command, has begun; what is in it is
 * added to *totals. */
struct rack_save *rack_save_open(const char *path,
                                 const char *runs,
                                 uint64_t seed,
                                 uint64_t count,
                                 struct rack_totals *totals);
struct rack_save *rack_save_close(struct rack_save *save);
/* The next seeds that are not through, max of them at most: *ret_first and how many; 0:
 * there are no more. Each is given once. */
uint64_t rack_save_next(struct rack_save *save, uint64_t max, uint64_t *ret_first);
/* These are through, with these sums. */
bool rack_save_done(struct rack_save *save,
                    uint64_t first,
                    uint64_t count,
                    const struct rack_totals *totals);
bool rack_save_failed(struct rack_save *save, uint64_t seed, const char *why);
