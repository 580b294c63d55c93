/* Copies a file with holes, shared with the original where the file system can, and sums
 * up what is in it.
 *
 * Shapes: a copy has the size and the content of its original, and holes where that has
 * them; where the file system knows reflinks (FICLONE) both share their blocks until one
 * is written. A sum is of what is not zeros and of the size, so that it does not depend
 * on which zeros are holes: the copy on another file system has the same. Units: bytes.
 * Threads: any; a call blocks for the disk, asks now and then whether it is still wanted.
 * Ownership: descriptors are borrowed; their offsets move. Errors, with text:
 * BERTH_EDISKFULL, BERTH_ECLOSED (not wanted any more), -errno. Limits: none; the copy is
 * as large as its original.
 */
#pragma once

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sparse_wish {
    bool (*is_wanted)(void *context); /* NULL: to its end */
    void *context;
};

static inline bool sparse_is_wanted(const struct sparse_wish *wish)
{
    return wish == NULL || wish->is_wanted == NULL || wish->is_wanted(wish->context);
}

/* Into an empty file that is open for writing; durable when this returns. `name` is for
 * errors. */
int sparse_copy(int from,
                int to,
                const char *name,
                const struct sparse_wish *wish,
                struct err *err);
int sparse_sum(int fd,
               const char *name,
               const struct sparse_wish *wish,
               uint32_t *ret_sum,
               struct err *err);
