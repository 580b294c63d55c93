/* The commands of vmm_control's table that have files of their own, by what they are
 * about.
 *
 * Shapes: VMM_COMMAND, a function of that table; its context is the struct vmm_control,
 * whose private fields are theirs too. Private to vmm_control.c (where the machine is,
 * its events, the table), vmm_commands_devices.c (CPUs, disks, NICs and memory that come
 * and go, and their limits), vmm_commands_queries.c (what there is and what it has done)
 * and vmm_commands_save.c (descriptors, and saving the machine). Threads, ownership,
 * errors: as vmm_control.h and struct qmp_command say.
 */
#pragma once

#include "vmm/vmm_control.h"

#define VMM_COMMAND(name) \
    int name(void *context, const json_t *arguments, json_t **ret_result, struct err *err)

/* vmm_commands_devices.c */
VMM_COMMAND(vmm_command_query_cpus);
VMM_COMMAND(vmm_command_query_hotpluggable_cpus);
VMM_COMMAND(vmm_command_device_add);
VMM_COMMAND(vmm_command_device_del);
VMM_COMMAND(vmm_command_blockdev_add);
VMM_COMMAND(vmm_command_blockdev_del);
VMM_COMMAND(vmm_command_netdev_add);
VMM_COMMAND(vmm_command_netdev_del);
VMM_COMMAND(vmm_command_query_balloon);
VMM_COMMAND(vmm_command_balloon);
VMM_COMMAND(vmm_command_query_memory_devices);
VMM_COMMAND(vmm_command_qom_set);
VMM_COMMAND(vmm_command_block_set_io_throttle);
VMM_COMMAND(vmm_command_nic_set_throttle);
VMM_COMMAND(vmm_command_query_throttle);
/* The event, for virtio_mem_listen. */
void vmm_command_memory_resized(void *context);

/* vmm_commands_queries.c */
VMM_COMMAND(vmm_command_query_memory);
VMM_COMMAND(vmm_command_query_name);
VMM_COMMAND(vmm_command_query_kvm);
VMM_COMMAND(vmm_command_query_version);
VMM_COMMAND(vmm_command_query_block);
VMM_COMMAND(vmm_command_query_blockstats);
VMM_COMMAND(vmm_command_query_stats);
VMM_COMMAND(vmm_command_query_stats_schemas);
VMM_COMMAND(vmm_command_query_device_stats);
VMM_COMMAND(vmm_command_query_boot);

/* vmm_commands_save.c */
VMM_COMMAND(vmm_command_getfd);
VMM_COMMAND(vmm_command_closefd);
VMM_COMMAND(vmm_command_add_fd);
VMM_COMMAND(vmm_command_remove_fd);
VMM_COMMAND(vmm_command_query_fdsets);
VMM_COMMAND(vmm_command_migrate);
VMM_COMMAND(vmm_command_migrate_cancel);
VMM_COMMAND(vmm_command_query_migrate);
/* For struct vmm_snapshot_events: tells of it, and lets a machine that ran go on when it
 * could not be saved. */
void vmm_command_saved(void *context, enum vmm_snapshot_status status);

/* Begins the save that waits for the machine to stand still, if one does. */
void vmm_command_save_now(struct vmm_control *control);

/* vmm_control.c: has the machine stand still, as machine_pause does, and tells of it when
 * it does. */
int vmm_control_stand(struct vmm_control *control, struct err *err);
/* The same file: lets the machine run, and tells of it. What came while it stood still is
 * told before, for it is tried again. BERTH_EBUSY while it is being saved. */
int vmm_control_set_going(struct vmm_control *control, struct err *err);
