#include "agent/qmp_limits.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

_Static_assert(QMP_LIMITS_MAX <= QMP_COMMANDS_MAX, "all can be told at once");

struct telling {
    struct qmp_client *client;
    const json_t *blocks;
    qmp_reply *reply;
    void *context;
    struct err *err;
};

static int tell(const struct telling *telling, const char *command, json_t *take)
{
    if (take == NULL) {
        return err_set(telling->err, -ENOMEM, "%s: out of memory", command);
    }
    return qmp_client_execute(telling->client, command, take, ENGINE_CALL_TIMEOUT_MS,
                              telling->reply, telling->context, telling->err);
}

/* The disk's device, by a file that no other disk of the VM has, or its name, which one
 * has that is only read; NULL: there is none. */
static const char *device_of(const json_t *blocks, const char *disk)
{
    char file[NAME_SIZE + 16];
    char id[NAME_SIZE + 16];
    (void)snprintf(file, sizeof(file), "/disk-%s.qcow2", disk); /* fits */
    (void)snprintf(id, sizeof(id), "/disk-%s/", disk);          /* likewise */
    for (size_t i = 0; i < json_array_size(blocks); i++) {
        const json_t *block = json_array_get(blocks, i);
        const json_t *inserted = json_object_get(block, "inserted");
        const char *device = json_member_text(block, "qdev", NULL);
        if (strstr(json_member_text(inserted, "file", ""), file) != NULL ||
            (device != NULL && strstr(device, id) != NULL)) {
            return device;
        }
    }
    return NULL;
}

/* All that QEMU's command needs, those for one direction alone as well. */
static int tell_disk(const struct telling *telling, const struct engine_disk_limit *disk)
{
    const struct engine_limit *limit = &disk->limit;
    const char *device =
        telling->blocks != NULL ? device_of(telling->blocks, disk->name) : disk->name;
    if (device == NULL) {
        return err_set(telling->err, BERTH_ENOTFOUND, "it has no disk %s", disk->name);
    }
    json_t *arguments = json_pack(
        "{s:s, s:I, s:i, s:i, s:I, s:i, s:i, s:I, s:I}", "id", device, "bps",
        (json_int_t)limit->bytes, "bps_rd", 0, "bps_wr", 0, "iops",
        (json_int_t)limit->operations, "iops_rd", 0, "iops_wr", 0, "bps_max",
        (json_int_t)limit->bytes_burst, "iops_max", (json_int_t)limit->operations_burst);
    return tell(telling, "block_set_io_throttle", arguments);
}

static int tell_nic(const struct telling *telling,
                    uint32_t nic,
                    const char *direction,
                    const struct engine_limit *limit)
{
    char name[16];
    (void)snprintf(name, sizeof(name), "nic%" PRIu32, nic); /* fits */
    json_t *arguments = json_pack(
        "{s:s, s:s, s:I, s:I, s:I, s:I}", "id", name, "direction", direction, "bps",
        (json_int_t)limit->bytes, "bps_max", (json_int_t)limit->bytes_burst, "iops",
        (json_int_t)limit->operations, "iops_max", (json_int_t)limit->operations_burst);
    return tell(telling, "x-nic-set-throttle", arguments);
}

int qmp_limits_tell(struct qmp_client *client,
                    const struct engine_limits *limits,
                    const json_t *blocks,
                    bool nics,
                    qmp_reply *reply,
                    void *context,
                    struct err *err)
{
    const struct telling telling = {client, blocks, reply, context, err};
    int r = 0;
    for (uint32_t i = 0; r == 0 && i < limits->disk_count; i++) {
        r = tell_disk(&telling, &limits->disks[i]);
    }
    for (uint32_t i = 0; r == 0 && nics && i < limits->nic_count; i++) {
        r = tell_nic(&telling, i, "receive", &limits->nics[i]);
        r = r == 0 ? tell_nic(&telling, i, "transmit", &limits->nics[i]) : r;
    }
    return r;
}
