#include "vmm/qmp_descriptors.h"

#include "base/fd.h"
#include "base/require.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

/* Its place, or count. */
static unsigned place_of(const struct qmp_descriptors *descriptors, const char *name)
{
    unsigned i = 0;
    while (i < descriptors->count && strcmp(descriptors->named[i].name, name) != 0) {
        i++;
    }
    return i;
}

static int place_take(struct qmp_descriptors *descriptors, unsigned i)
{
    const int fd = descriptors->named[i].fd;
    descriptors->count--;
    for (; i < descriptors->count; i++) {
        descriptors->named[i] = descriptors->named[i + 1];
    }
    return fd;
}

static void place_close(struct qmp_descriptors *descriptors, unsigned i)
{
    int fd = place_take(descriptors, i);
    fd_close(&fd);
}

/* One place is free, if what nobody can know of any more has one. */
static void room_make(struct qmp_descriptors *descriptors)
{
    unsigned i = 0;
    while (i < descriptors->count && !descriptors->named[i].is_left) {
        i++;
    }
    if (descriptors->count == QMP_NAMED_MAX && i < descriptors->count) {
        place_close(descriptors, i);
    }
}

int qmp_descriptors_put(struct qmp_descriptors *descriptors,
                        const char *name,
                        int take_fd,
                        struct err *err)
{
    REQUIRE(take_fd >= 0);
    if (name[0] == '\0' || isdigit((unsigned char)name[0]) != 0 ||
        strlen(name) >= QMP_NAME_SIZE) {
        return err_set(err, BERTH_EINVALID,
                       "Parameter 'fdname' expects a name not starting with a digit");
    }
    const unsigned before = place_of(descriptors, name);
    if (before < descriptors->count) {
        place_close(descriptors, before);
    }
    room_make(descriptors);
    const unsigned i = descriptors->count;
    if (i == QMP_NAMED_MAX) {
        return err_set(err, BERTH_EFULL,
                       "%u descriptors have names; use them, or closefd", QMP_NAMED_MAX);
    }
    (void)snprintf(descriptors->named[i].name, QMP_NAME_SIZE, "%s", name); /* fits */
    descriptors->named[i].fd = take_fd;
    descriptors->named[i].is_left = false;
    descriptors->count++;
    return 0;
}

bool qmp_descriptors_has(const struct qmp_descriptors *descriptors, const char *name)
{
    return place_of(descriptors, name) < descriptors->count;
}

int qmp_descriptors_take(struct qmp_descriptors *descriptors,
                         const char *name,
                         struct err *err)
{
    const unsigned i = place_of(descriptors, name);
    if (i == descriptors->count) {
        return err_set(err, BERTH_ENOTFOUND,
                       "File descriptor named '%.60s' has not been found", name);
    }
    return place_take(descriptors, i);
}

int qmp_descriptors_copy(const struct qmp_descriptors *descriptors,
                         const char *name,
                         struct err *err)
{
    const unsigned i = place_of(descriptors, name);
    if (i == descriptors->count) {
        return err_set(err, BERTH_ENOTFOUND,
                       "File descriptor named '%.60s' has not been found", name);
    }
    const int fd = fcntl(descriptors->named[i].fd, F_DUPFD_CLOEXEC, 0);
    return fd < 0 ? err_sys(err, -errno, "open %.60s", name) : fd;
}

void qmp_descriptors_leave(struct qmp_descriptors *descriptors)
{
    for (unsigned i = descriptors->count; i-- > 0;) {
        descriptors->named[i].is_left = true;
        if (strncmp(descriptors->named[i].name, QMP_FDSET, strlen(QMP_FDSET)) == 0) {
            place_close(descriptors, i);
        }
    }
}

void qmp_descriptors_clear(struct qmp_descriptors *descriptors)
{
    while (descriptors->count > 0) {
        fd_close(&descriptors->named[--descriptors->count].fd);
    }
}
