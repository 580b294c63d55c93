/* A private copy of a log's folder, to look at what it holds.
 *
 * libraft has no loader that only reads: it closes open files, which cuts off what does
 * not read as entries, renames and removes. A look must leave all of that to be judged by
 * the next start, and to whoever can still repair the disk; so it has a copy, and of the
 * log itself reads alone. The first place that has room for it takes it: memory while it
 * is small, since a disk that is looked at may be full, read-only or failing, then a
 * folder beside the log, then the system's for temporary files.
 * Shapes: the files of the folder, whole, with holes for zeros; what is no file (lost and
 * found, where the log has a file system of its own) is passed over. It can be read by
 * its owner alone. Units: bytes. Threads: any, blocking; nothing else may change the
 * folder meanwhile. Ownership: the copy is the caller's until log_copy_remove. Errors:
 * BERTH_EDISKFULL (no place has room; the text says where was looked), -errno (a file
 * cannot be read). Limits: as large as the log and LOG_COPY_EXTRA; of memory at most
 * LOG_COPY_MEMORY_MAX.
 */
#pragma once

#include "base/err.h"

#include <limits.h>
#include <stddef.h>
#include <stdint.h>

#define LOG_COPY_EXTRA      (1u << 20) /* what libraft writes beside: probes, metadata */
#define LOG_COPY_MEMORY_MAX (256u << 20) /* VMs may still run here, which wait */

struct log_copy {
    char folder[PATH_MAX]; /* "": there is none */
};

/* Where a copy may lie. */
struct log_copy_place {
    const char *path;  /* NULL: the folder that the log's is in */
    uint64_t size_max; /* it takes no larger copy */
};

int log_copy_make(const char *folder, struct log_copy *ret_copy, struct err *err);
/* Likewise, in the first of these. */
int log_copy_make_in(const struct log_copy_place *places,
                     size_t count,
                     const char *folder,
                     struct log_copy *ret_copy,
                     struct err *err);
/* Harmless for a zeroed one. */
void log_copy_remove(struct log_copy *copy);
