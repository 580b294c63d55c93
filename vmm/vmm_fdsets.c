#include "vmm/vmm_fdsets.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/parse_number.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define FDSET_ID_MAX 1000000 /* fits what is made of it */

/* Its id, or the first that is free, or an error. */
static int fdset_id(const struct qmp_descriptors *descriptors,
                    const json_t *arguments,
                    char ret_name[QMP_NAME_SIZE],
                    struct err *err)
{
    const json_t *value = json_object_get(arguments, "fdset-id");
    const bool is_said = value != NULL;
    json_int_t id = is_said && json_is_integer(value) ? json_integer_value(value) : -1;
    if (is_said && (id < 0 || id > FDSET_ID_MAX)) {
        return err_set(err, BERTH_EINVALID,
                       "Parameter 'fdset-id' expects a number from 0 to %d",
                       FDSET_ID_MAX);
    }
    id = is_said ? id : 0;
    for (;;) {
        (void)snprintf(ret_name, QMP_NAME_SIZE, QMP_FDSET "%d", (int)id); /* fits */
        if (is_said || !qmp_descriptors_has(descriptors, ret_name)) {
            return (int)id;
        }
        id++; /* there are not many */
    }
}

int vmm_fdsets_add(struct qmp_descriptors *descriptors,
                   int take_fd,
                   const json_t *arguments,
                   json_t **ret_result,
                   struct err *err)
{
    char name[QMP_NAME_SIZE];
    CLEANUP_FD int fd = take_fd;
    const int id = fdset_id(descriptors, arguments, name, err);
    if (id < 0) {
        return id;
    }
    if (qmp_descriptors_has(descriptors, name)) {
        return err_set(err, BERTH_EEXISTS, "%s has a descriptor: there is one to a set",
                       name);
    }
    const int r = qmp_descriptors_put(descriptors, name, fd, err);
    if (r < 0) {
        return r;
    }
    const int number = TAKE_FD(fd);
    *ret_result = json_pack("{s:i, s:i}", "fdset-id", id, "fd", number);
    return *ret_result != NULL ? 0 : -ENOMEM;
}

int vmm_fdsets_remove(struct qmp_descriptors *descriptors,
                      const json_t *arguments,
                      struct err *err)
{
    char name[QMP_NAME_SIZE];
    if (json_object_get(arguments, "fdset-id") == NULL) {
        return err_set(err, BERTH_EINVALID, "Parameter 'fdset-id' is missing");
    }
    const int id = fdset_id(descriptors, arguments, name, err);
    if (id < 0) {
        return id;
    }
    if (!qmp_descriptors_has(descriptors, name)) {
        return err_set(err, BERTH_ENOTFOUND,
                       "File descriptor named 'fdset-id:%d' not found", id);
    }
    int fd = qmp_descriptors_take(descriptors, name, err);
    fd_close(&fd);
    return 0;
}

json_t *vmm_fdsets_list(const struct qmp_descriptors *descriptors)
{
    json_t *list = json_array();
    for (unsigned i = 0; list != NULL && i < descriptors->count; i++) {
        const char *name = descriptors->named[i].name;
        uint64_t id = 0;
        if (strncmp(name, QMP_FDSET, strlen(QMP_FDSET)) != 0 ||
            parse_u64(name + strlen(QMP_FDSET), &id, NULL) < 0 || id > FDSET_ID_MAX) {
            continue; /* getfd may call one so */
        }
        if (json_array_append_new(list, json_pack("{s:i, s:[{s:i}]}", "fdset-id", (int)id,
                                                  "fds", "fd",
                                                  descriptors->named[i].fd)) != 0) {
            json_decref(list);
            list = NULL;
        }
    }
    return list;
}
