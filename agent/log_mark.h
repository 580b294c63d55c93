/* The mark that this host has begun a log: beside the log's folder, so that a log whose
 * folder alone is lost is not begun anew.
 *
 * Whoever counts as a voter by the log itself may not know it yet from its orders, which
 * come later; with a new log it would have forgotten what it acknowledged and whom it
 * voted for. Order: the folder, durable; the mark; only then is the log opened, which
 * writes what others rely on. So a mark without a folder says that the log was lost, and
 * a process that dies between any two of these steps leaves what the next one goes on
 * from. When the log is open for the first time the mark says so, and from then on a
 * folder that was emptied, or is another file system, counts as lost, too. The mark goes
 * when the host forgets its cluster.
 * Shapes: a file LOG_MARK_FILE of the state folder, empty, then LOG_MARK_SEALED. Threads:
 * any, blocking. Errors: BERTH_ECORRUPT (the log is lost; the text says what to do),
 * -errno.
 */
#pragma once

#include "base/err.h"

#include <stdbool.h>

#define LOG_MARK_FILE   "log-begun"
#define LOG_MARK_SEALED "sealed\n"
#define LOG_MARK_FOLDER "raft" /* the log's, in the state folder */

/* Before the log is opened: makes folder and mark, as far as they are not there. `name`
 * is the host's, for the text. */
int log_mark_begin(const char *state_folder, const char *name, struct err *err);
/* Is there a log, or the mark of one? True also when that cannot be told: opening it says
 * why. */
bool log_mark_is_there(const char *state_folder);
/* Once the log was opened, and before anything of it was told to others: from here on a
 * folder without the log's seal has lost it. */
int log_mark_sealed(const char *state_folder, struct err *err);
/* The words for a log that is lost, whoever has found out. */
int log_mark_lost(const char *state_folder, const char *name, struct err *err);
