/* A look at the log's folder before libraft loads it, which changes what it finds there:
 * whether its open files are what a crash leaves (log_check.h).
 *
 * What that rests on, one batch a write, holds for what this program has written, and not
 * an earlier release, whose power cut may have left a sound batch behind a torn one. So
 * the folder is marked when a log was loaded: then libraft has closed all files of
 * before. Where the mark is missing nothing is looked at.
 *
 * Shapes: a folder, as libraft has it: open files are named open-<number>; of everything
 * else libraft notices damage itself. Threads: any; it reads and returns. Ownership:
 * borrowed for the call. Errors: BERTH_ECORRUPT (entries were lost; the text says where
 * and what to do), BERTH_EFULL, BERTH_ETOOLARGE, -errno. Limits: LOG_FILES_OPEN_MAX
 * files of LOG_FILES_SIZE_MAX each.
 */
#pragma once

#include "base/err.h"

#define LOG_FILES_OPEN_MAX                                      \
    64 /* a few are usual: two made ready, those not closed yet \
        */
/* They have 8 MiB; one that took entries which together are larger has grown. */
#define LOG_FILES_SIZE_MAX (256u << 20)

#define LOG_FILES_MARK \
    "berth-batches" /* libraft passes over names that are not its own */

int log_files_check(const char *folder, struct err *err);
/* After a log was loaded, before anything is appended. Durable when it returns 0. */
int log_files_mark(const char *folder, struct err *err);
