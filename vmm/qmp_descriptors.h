/* Descriptors that a QMP client has sent and given a name (getfd), until a command uses
 * them or the client takes them back (closefd).
 *
 * Shapes: `struct qmp_descriptors`, a small table; a name that is given again replaces
 * the descriptor, as QEMU does. A set of add-fd is one descriptor by the name that files
 * of it have, "/dev/fdset/N", and stays until remove-fd. When the client goes, its sets
 * are closed, and its names stay for the next one, as with QEMU; but they give way to
 * names that need the place, the oldest first: nobody can list them. Threads: the
 * poller's. Ownership: the table owns what is in it. Errors: with QEMU's texts. Limits:
 * QMP_NAMED_MAX; a client that wants more has forgotten something.
 */
#pragma once

#include "base/err.h"

#include <stdbool.h>

#define QMP_NAMED_MAX 8u
#define QMP_NAME_SIZE 64u
#define QMP_FDSET     "/dev/fdset/" /* how the name of a set begins */

struct qmp_descriptors {
    unsigned count;
    struct {
        char name[QMP_NAME_SIZE];
        int fd;
        bool is_left;       /* by a client that has gone */
    } named[QMP_NAMED_MAX]; /* the oldest first */
};

/* Takes the descriptor on success. BERTH_EINVALID for a name that is empty, too long or
 * begins with a digit, BERTH_EFULL. */
int qmp_descriptors_put(struct qmp_descriptors *descriptors,
                        const char *name,
                        int take_fd,
                        struct err *err);
bool qmp_descriptors_has(const struct qmp_descriptors *descriptors, const char *name);
/* Out of the table; the caller's from now on. BERTH_ENOTFOUND. */
int qmp_descriptors_take(struct qmp_descriptors *descriptors,
                         const char *name,
                         struct err *err);
/* Another of the same file as the one in the table; the caller's. BERTH_ENOTFOUND,
 * -errno.
 */
int qmp_descriptors_copy(const struct qmp_descriptors *descriptors,
                         const char *name,
                         struct err *err);
/* The client has gone. */
void qmp_descriptors_leave(struct qmp_descriptors *descriptors);
/* Closes all. */
void qmp_descriptors_clear(struct qmp_descriptors *descriptors);
