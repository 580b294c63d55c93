#include "vmm/virtio_mem.h"
#include "vmm/vmm_commands.h"
#include "vmm/vmm_cpu_stats.h"

#include <errno.h>

VMM_COMMAND(vmm_command_query_memory)
{
    struct vmm_control *control = context;
    (void)arguments;
    (void)err;
    struct virtio_mem_state state = {0};
    if (control->memory != NULL) {
        virtio_mem_state(control->memory, &state);
    }
    *ret_result = json_pack("{s:I, s:I}", "base-memory",
                            (json_int_t)machine_memory_bytes(control->machine),
                            "plugged-memory", (json_int_t)state.plugged_bytes);
    return *ret_result != NULL ? 0 : -ENOMEM;
}

VMM_COMMAND(vmm_command_query_name)
{
    struct vmm_control *control = context;
    (void)arguments;
    (void)err;
    *ret_result = json_pack("{s:s}", "name", control->name);
    return *ret_result != NULL ? 0 : -ENOMEM;
}

VMM_COMMAND(vmm_command_query_kvm)
{
    (void)context;
    (void)arguments;
    (void)err;
    *ret_result = json_pack("{s:b, s:b}", "enabled", 1, "present", 1);
    return *ret_result != NULL ? 0 : -ENOMEM;
}

/* ---- what there is and what it has done: vmm_stats.h ---- */

static int answer(json_t *take_result, json_t **ret_result)
{
    *ret_result = take_result;
    return take_result != NULL ? 0 : -ENOMEM;
}

VMM_COMMAND(vmm_command_query_version)
{
    (void)context;
    (void)arguments;
    (void)err;
    return answer(qmp_version(), ret_result);
}

VMM_COMMAND(vmm_command_query_block)
{
    const struct vmm_control *control = context;
    (void)arguments;
    (void)err;
    return answer(vmm_stats_blocks(control->stats, control->throttle), ret_result);
}

VMM_COMMAND(vmm_command_query_blockstats)
{
    const struct vmm_control *control = context;
    (void)arguments;
    (void)err;
    return answer(vmm_stats_block_counts(control->stats), ret_result);
}

VMM_COMMAND(vmm_command_query_stats)
{
    const struct vmm_control *control = context;
    return vmm_cpu_stats_query(control->machine, arguments, ret_result, err);
}

VMM_COMMAND(vmm_command_query_stats_schemas)
{
    const struct vmm_control *control = context;
    return vmm_cpu_stats_schemas(control->machine, arguments, ret_result, err);
}

VMM_COMMAND(vmm_command_query_device_stats)
{
    const struct vmm_control *control = context;
    (void)arguments;
    (void)err;
    return answer(vmm_stats_devices(control->stats), ret_result);
}

VMM_COMMAND(vmm_command_query_boot)
{
    const struct vmm_control *control = context;
    (void)arguments;
    return control->trace == NULL
               ? err_set(err, BERTH_EUNSUPPORTED, "nobody has looked how it came up")
               : answer(vmm_stats_boot(control->trace), ret_result);
}
