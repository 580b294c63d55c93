#include "vmm/vmm_throttle.h"

#include "base/cleanup.h"
#include "base/require.h"
#include "vmm/virtio_block.h"
#include "vmm/virtio_net.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#define FIELD(field) offsetof(struct rate_specs, field)
#define NONE         SIZE_MAX

/* What a command may say; the first six have to be there, as QEMU has it. */
static const struct {
    const char *name;
    size_t offset; /* of a uint64_t; NONE: of one direction alone, which we do not have */
} numbers[] = {
    {"bps", FIELD(bytes.rate)},
    {"bps_rd", NONE},
    {"bps_wr", NONE},
    {"iops", FIELD(operations.rate)},
    {"iops_rd", NONE},
    {"iops_wr", NONE},
    {"bps_max", FIELD(bytes.burst)},
    {"iops_max", FIELD(operations.burst)},
    {"bps_rd_max", NONE},
    {"bps_wr_max", NONE},
    {"iops_rd_max", NONE},
    {"iops_wr_max", NONE},
};

#define NEEDED_BY_QEMU 6u

/* The names of a NIC's directions, by queue. */
static const char *const directions[] =
    {[VIRTIO_NET_RECEIVE] = "receive", [VIRTIO_NET_TRANSMIT] = "transmit"};

static void add(struct vmm_throttle *throttle,
                const char *name,
                bool is_nic,
                struct virtio_device *device,
                const struct rate_specs *limits)
{
    REQUIRE(throttle->count < VMM_THROTTLED_MAX);
    struct vmm_throttled *throttled = &throttle->devices[throttle->count++];
    *throttled = (struct vmm_throttled){.is_nic = is_nic, .device = device};
    (void)snprintf(throttled->name, sizeof(throttled->name), "%s", name);
    memcpy(throttled->limits, limits, (is_nic ? 2 : 1) * sizeof(*limits));
}

void vmm_throttle_add_disk(struct vmm_throttle *throttle,
                           const char *name,
                           struct virtio_device *device,
                           const struct rate_specs *limits)
{
    add(throttle, name, false, device, limits);
}

void vmm_throttle_add_nic(struct vmm_throttle *throttle,
                          const char *name,
                          struct virtio_device *device,
                          const struct rate_specs limits[2])
{
    add(throttle, name, true, device, limits);
}

void vmm_throttle_remove(struct vmm_throttle *throttle,
                         const struct virtio_device *device)
{
    unsigned kept = 0;
    for (unsigned i = 0; i < throttle->count; i++) {
        if (throttle->devices[i].device != device) {
            throttle->devices[kept++] = throttle->devices[i];
        }
    }
    throttle->count = kept;
}

/* ---- changing ---- */

static int device_find(struct vmm_throttle *throttle,
                       const json_t *arguments,
                       bool is_nic,
                       struct vmm_throttled **ret_device,
                       struct err *err)
{
    const char *name =
        json_member_text(arguments, "id", json_member_text(arguments, "device", ""));
    for (unsigned i = 0; i < throttle->count; i++) {
        if (throttle->devices[i].is_nic == is_nic &&
            strcmp(throttle->devices[i].name, name) == 0) {
            *ret_device = &throttle->devices[i];
            return 0;
        }
    }
    return err_set(err, BERTH_ENOTFOUND, "id: there is no %s '%.60s'",
                   is_nic ? "NIC" : "disk", name);
}

/* Numbers that are not there keep what they are: NICs are changed one by one. */
static int
numbers_take(const json_t *arguments, struct rate_specs *limits, struct err *err)
{
    for (unsigned i = 0; i < ARRAY_COUNT(numbers); i++) {
        const json_t *value = json_object_get(arguments, numbers[i].name);
        if (value == NULL) {
            continue;
        }
        if (!json_is_integer(value) || json_integer_value(value) < 0) {
            return err_set(err, BERTH_EINVALID, "%s: not a number from 0 on",
                           numbers[i].name);
        }
        const uint64_t number = (uint64_t)json_integer_value(value);
        if (numbers[i].offset == NONE && number != 0) {
            return err_set(err, BERTH_EUNSUPPORTED,
                           "%s: only both directions of a disk together",
                           numbers[i].name);
        }
        if (numbers[i].offset != NONE) {
            memcpy((char *)limits + numbers[i].offset, &number, sizeof(number));
        }
    }
    return rate_specs_valid(limits)
               ? 0
               : err_set(err, BERTH_EINVALID,
                         "bps_max and iops_max belong to bps and iops");
}

/* What we do not know is not silently left out: it would be believed. */
static int names_check(const json_t *arguments, const char *extra, struct err *err)
{
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)arguments, name, value)
    {
        bool is_known = strcmp(name, "id") == 0 || strcmp(name, extra) == 0;
        for (unsigned i = 0; !is_known && i < ARRAY_COUNT(numbers); i++) {
            is_known = strcmp(name, numbers[i].name) == 0;
        }
        if (!is_known) {
            return err_set(err, BERTH_EINVALID, "Parameter '%.60s' is unexpected", name);
        }
    }
    return 0;
}

int vmm_throttle_disk(struct vmm_throttle *throttle,
                      const json_t *arguments,
                      struct err *err)
{
    struct vmm_throttled *device = NULL;
    struct rate_specs limits = {{0}, {0}}; /* QEMU's command sets all of them */
    int r = names_check(arguments, "device", err);
    for (unsigned i = 0; r == 0 && i < NEEDED_BY_QEMU; i++) {
        r = json_object_get(arguments, numbers[i].name) != NULL
                ? 0
                : err_set(err, BERTH_EINVALID, "Parameter '%s' is missing",
                          numbers[i].name);
    }
    if (r == 0) {
        r = device_find(throttle, arguments, false, &device, err);
    }
    if (r == 0) {
        r = numbers_take(arguments, &limits, err);
    }
    if (r == 0) {
        device->limits[0] = limits;
        virtio_block_limit(device->device, &limits.operations, &limits.bytes);
    }
    return r;
}

int vmm_throttle_nic(struct vmm_throttle *throttle,
                     const json_t *arguments,
                     struct err *err)
{
    struct vmm_throttled *device = NULL;
    const char *word = json_member_text(arguments, "direction", "");
    enum virtio_net_queue queue = VIRTIO_NET_RECEIVE;
    int r = names_check(arguments, "direction", err);
    if (r == 0) {
        r = device_find(throttle, arguments, true, &device, err);
    }
    if (r == 0 && strcmp(word, directions[VIRTIO_NET_TRANSMIT]) == 0) {
        queue = VIRTIO_NET_TRANSMIT;
    } else if (r == 0 && strcmp(word, directions[VIRTIO_NET_RECEIVE]) != 0) {
        r = err_set(err, BERTH_EINVALID, "direction: receive or transmit");
    }
    if (r < 0 || device == NULL) {
        return r;
    }
    struct rate_specs limits = device->limits[queue];
    r = numbers_take(arguments, &limits, err);
    if (r == 0) {
        device->limits[queue] = limits;
        virtio_net_limit(device->device, queue, &limits);
    }
    return r;
}

/* ---- looking ---- */

const struct rate_specs *vmm_throttle_limits(const struct vmm_throttle *throttle,
                                             const struct virtio_device *disk)
{
    static const struct rate_specs none;
    for (unsigned i = 0; i < throttle->count; i++) {
        if (throttle->devices[i].device == disk) {
            return &throttle->devices[i].limits[0];
        }
    }
    return &none;
}

/* A number that JSON has no room for came from the command line: it is no limit. */
static json_int_t number_of(uint64_t value)
{
    return value <= INT64_MAX ? (json_int_t)value : INT64_MAX;
}

static json_t *limits_pack(const struct vmm_throttled *device, unsigned queue)
{
    const struct rate_specs *limits = &device->limits[queue];
    json_t *packed = json_pack("{s:s, s:I, s:I, s:I, s:I}", "id", device->name, "bps",
                               number_of(limits->bytes.rate), "bps_max",
                               number_of(limits->bytes.burst), "iops",
                               number_of(limits->operations.rate), "iops_max",
                               number_of(limits->operations.burst));
    if (device->is_nic && packed != NULL &&
        json_object_set_new(packed, "direction", json_string(directions[queue])) != 0) {
        json_decref(packed);
        return NULL;
    }
    return packed;
}

json_t *vmm_throttle_list(const struct vmm_throttle *throttle)
{
    json_t *list = json_array();
    for (unsigned i = 0; list != NULL && i < throttle->count; i++) {
        const unsigned queues = throttle->devices[i].is_nic ? 2 : 1;
        for (unsigned queue = 0; list != NULL && queue < queues; queue++) {
            if (json_array_append_new(list, limits_pack(&throttle->devices[i], queue)) !=
                0) {
                json_decref(list);
                list = NULL;
            }
        }
    }
    return list;
}
