/* A private copy of a log's folder, to look at what it holds.
 *
 * libraft has no loader that only reads: it closes open files, which cuts off what does
 * not read as entries, renames and removes. A look must leave all of that to be judged by
 * the next start, and to whoever can still repair the disk; so it has a copy, and of the
 * log itself reads alone. The first place that has room for it takes it: memory while it
 * is small, since a disk that is looked at may be full, read-only or failing, then a
 * folder beside the log, then the system's for temporary files. Memory counts as free by
 * what the kernel says is available of it: what a file system in memory has room for is
 * no promise. Whoever makes a copy holds a lock on it; one that is not locked is of a
 * look that was killed, and goes at the next one, and at the start of the host's daemon,
 * so that the log never wants for the room. Shapes: the files of the folder, whole, with
 * holes for zeros; what is no file (lost and found, where the log has a file system of
 * its own) is passed over. It can be read by its owner alone. Units: bytes. Threads: any,
 * blocking; nothing else may change the folder meanwhile. Ownership: the copy is the
 * caller's until log_copy_remove. Errors: BERTH_EDISKFULL (no place has room; the text
 * says where was looked), -errno (a file cannot be read). Limits: as large as the log and
 * LOG_COPY_EXTRA; of memory at most LOG_COPY_MEMORY_MAX, and half of what is available;
 * beside the log LOG_COPY_DISK_SPARE stays free.
 */
#pragma once

#include "base/err.h"

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LOG_COPY_EXTRA      (1u << 20) /* what libraft writes beside: probes, metadata */
#define LOG_COPY_MEMORY_MAX (256u << 20) /* VMs may still run here, which wait */
#define LOG_COPY_DISK_SPARE (64u << 20)  /* beside the log: a start has to have room */

struct log_copy {
    char folder[PATH_MAX]; /* "": there is none */
    int lock_fd;           /* of the folder; with one only */
};

/* Where a copy may lie. */
struct log_copy_place {
    const char *path;  /* NULL: the folder that the log's is in */
    uint64_t size_max; /* it takes no larger copy */
    bool memory;       /* as much must be available, and again for who loads it */
};

int log_copy_make(const char *folder, struct log_copy *ret_copy, struct err *err);
/* Likewise, in the first of these, with so much memory available. */
int log_copy_make_in(const struct log_copy_place *places,
                     size_t count,
                     uint64_t available_bytes,
                     const char *folder,
                     struct log_copy *ret_copy,
                     struct err *err);
/* Harmless for a zeroed one. */
void log_copy_remove(struct log_copy *copy);
/* Removes what looks that were killed have left: at this log's folder, and wherever else
 * copies may lie. What cannot be removed stays, with a line in the log. */
void log_copy_sweep(const char *folder);
/* Likewise, in these places. */
void log_copy_sweep_in(const struct log_copy_place *places,
                       size_t count,
                       const char *folder);
