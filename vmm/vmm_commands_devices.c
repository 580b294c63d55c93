#include "vmm/virtio_balloon.h"
#include "vmm/virtio_mem.h"
#include "vmm/vmm_balloon.h"
#include "vmm/vmm_commands.h"
#include "vmm/vmm_cpus.h"

#include <errno.h>
#include <string.h>

#define MEMORY_PATH "/machine/peripheral/" VIRTIO_MEM_NAME

/* ---- CPUs */

VMM_COMMAND(vmm_command_query_cpus)
{
    const struct vmm_control *control = context;
    (void)arguments;
    (void)err;
    *ret_result = vmm_cpus_list(control->machine);
    return *ret_result != NULL ? 0 : -ENOMEM;
}

VMM_COMMAND(vmm_command_query_hotpluggable_cpus)
{
    const struct vmm_control *control = context;
    (void)arguments;
    (void)err;
    *ret_result = vmm_cpus_list_possible(control->machine);
    return *ret_result != NULL ? 0 : -ENOMEM;
}

/* ---- devices that come and go */

static int is_saved_check(const struct vmm_control *control, struct err *err)
{
    return vmm_snapshot_is_active(control->snapshot)
               ? err_set(err, BERTH_EBUSY, "the machine is being saved as it is")
               : 0;
}

/* One of the commands about disks and NICs. */
static int
plug_do(const struct vmm_control *control,
        int (*command)(struct vmm_plug *plug, const json_t *arguments, struct err *err),
        const json_t *arguments,
        struct err *err)
{
    return control->plug != NULL
               ? command(control->plug, arguments, err)
               : err_set(err, BERTH_EUNSUPPORTED, "no devices come and go here");
}

VMM_COMMAND(vmm_command_device_add)
{
    const struct vmm_control *control = context;
    const int r = is_saved_check(control, err);
    (void)ret_result;
    if (r < 0) {
        return r;
    }
    return vmm_plug_knows(json_member_text(arguments, "driver", ""))
               ? plug_do(control, vmm_plug_device_add, arguments, err)
               : vmm_cpus_add(control->machine, arguments, err);
}

VMM_COMMAND(vmm_command_device_del)
{
    const struct vmm_control *control = context;
    const char *id = json_member_text(arguments, "id", NULL);
    const int r = is_saved_check(control, err);
    (void)ret_result;
    if (r < 0) {
        return r;
    }
    return id != NULL ? machine_unplug(control->machine, id, err)
                      : err_set(err, BERTH_EINVALID, "Parameter 'id' is missing");
}

VMM_COMMAND(vmm_command_blockdev_add)
{
    (void)ret_result;
    return plug_do(context, vmm_plug_node_add, arguments, err);
}

VMM_COMMAND(vmm_command_blockdev_del)
{
    (void)ret_result;
    return plug_do(context, vmm_plug_node_del, arguments, err);
}

VMM_COMMAND(vmm_command_netdev_add)
{
    (void)ret_result;
    return plug_do(context, vmm_plug_netdev_add, arguments, err);
}

VMM_COMMAND(vmm_command_netdev_del)
{
    (void)ret_result;
    return plug_do(context, vmm_plug_netdev_del, arguments, err);
}

/* ---- the balloon, in QEMU's terms: how much memory the guest has left */

static int balloon_find(const struct vmm_control *control, struct err *err)
{
    return control->balloon != NULL
               ? 0
               : err_set(err, BERTH_EUNSUPPORTED, "the machine has no balloon");
}

VMM_COMMAND(vmm_command_query_balloon)
{
    struct vmm_control *control = context;
    (void)arguments;
    int r = balloon_find(control, err);
    if (r < 0) {
        return r;
    }
    *ret_result =
        vmm_balloon_pack(control->balloon, machine_memory_bytes(control->machine));
    return *ret_result != NULL ? 0 : -ENOMEM;
}

VMM_COMMAND(vmm_command_balloon)
{
    struct vmm_control *control = context;
    const json_t *value = json_object_get(arguments, "value");
    const uint64_t all = machine_memory_bytes(control->machine);
    (void)ret_result;
    int r = balloon_find(control, err);
    if (r < 0) {
        return r;
    }
    if (!json_is_integer(value) || json_integer_value(value) <= 0) {
        return err_set(err, BERTH_EINVALID, "value: how many bytes the guest is to keep");
    }
    if (!guest_memory_can_release(machine_memory(control->machine))) {
        return err_set(err, BERTH_EUNSUPPORTED,
                       "RAM of reserved huge pages is not given back");
    }
    const uint64_t left = (uint64_t)json_integer_value(value);
    virtio_balloon_target(control->balloon, left < all ? all - left : 0);
    return 0;
}

/* ---- memory that is plugged, in QEMU's terms ---- */

VMM_COMMAND(vmm_command_query_memory_devices)
{
    const struct vmm_control *control = context;
    struct virtio_mem_state state;
    (void)arguments;
    (void)err;
    if (control->memory == NULL) {
        *ret_result = json_array();
        return *ret_result != NULL ? 0 : -ENOMEM;
    }
    virtio_mem_state(control->memory, &state);
    *ret_result = json_pack(
        "[{s:s, s:{s:s, s:I, s:I, s:I, s:I, s:I, s:i}}]", "type", "virtio-mem", "data",
        "id", VIRTIO_MEM_NAME, "memaddr", (json_int_t)state.address, "requested-size",
        (json_int_t)state.requested_bytes, "size", (json_int_t)state.plugged_bytes,
        "max-size", (json_int_t)state.max_bytes, "block-size",
        (json_int_t)state.block_bytes, "node", 0);
    return *ret_result != NULL ? 0 : -ENOMEM;
}

void vmm_command_memory_resized(void *context)
{
    const struct vmm_control *control = context;
    struct virtio_mem_state state;
    virtio_mem_state(control->memory, &state);
    qmp_server_event(control->server, "MEMORY_DEVICE_SIZE_CHANGE",
                     json_pack("{s:s, s:I, s:s}", "id", VIRTIO_MEM_NAME, "size",
                               (json_int_t)state.plugged_bytes, "qom-path", MEMORY_PATH));
}

/* The one property of the one object that there is. */
VMM_COMMAND(vmm_command_qom_set)
{
    const struct vmm_control *control = context;
    const char *path = json_string_value(json_object_get(arguments, "path"));
    const char *property = json_string_value(json_object_get(arguments, "property"));
    const json_t *value = json_object_get(arguments, "value");
    (void)ret_result;
    if (path == NULL ||
        (strcmp(path, VIRTIO_MEM_NAME) != 0 && strcmp(path, MEMORY_PATH) != 0)) {
        return err_set(err, BERTH_ENOTFOUND, "path: only " VIRTIO_MEM_NAME);
    }
    if (property == NULL || strcmp(property, "requested-size") != 0) {
        return err_set(err, BERTH_ENOTFOUND, "property: only requested-size");
    }
    if (control->memory == NULL) {
        return err_set(err, BERTH_EUNSUPPORTED,
                       "no RAM is to be plugged: it was started without max");
    }
    if (!json_is_integer(value) || json_integer_value(value) < 0) {
        return err_set(err, BERTH_EINVALID, "value: how many bytes are to be plugged");
    }
    return virtio_mem_want(control->memory, (uint64_t)json_integer_value(value), err);
}

/* ---- limits of disks, in QEMU's terms, and of NICs ---- */

VMM_COMMAND(vmm_command_block_set_io_throttle)
{
    struct vmm_control *control = context;
    (void)ret_result;
    return vmm_throttle_disk(control->throttle, arguments, err);
}

VMM_COMMAND(vmm_command_nic_set_throttle)
{
    struct vmm_control *control = context;
    (void)ret_result;
    return vmm_throttle_nic(control->throttle, arguments, err);
}

VMM_COMMAND(vmm_command_query_throttle)
{
    const struct vmm_control *control = context;
    (void)arguments;
    (void)err;
    *ret_result = vmm_throttle_list(control->throttle);
    return *ret_result != NULL ? 0 : -ENOMEM;
}
