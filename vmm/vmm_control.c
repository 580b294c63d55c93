#include "vmm/vmm_control.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "vmm/virtio_mem.h"
#include "vmm/vmm_commands.h"

#include <errno.h>
#include <string.h>

/* No CPU of it runs. */
static bool stands(const struct vmm_control *control)
{
    const enum machine_state state = machine_state(control->machine);
    return state == MACHINE_PAUSING || state == MACHINE_PAUSED;
}

/* It stands still for nothing but a disk. */
static bool waits_for_room(const struct vmm_control *control)
{
    return stands(control) && control->waits_for_room;
}

/* QEMU's words for where a machine is. One that is pausing writes to its disks yet: who
 * polls for "paused" may copy them then, so it is not said before STOP is. */
static const char *status_word(const struct vmm_control *control)
{
    static const char *const states[MACHINE_STATE_COUNT] = {
        [MACHINE_HELD] = "prelaunch",
        [MACHINE_RUNNING] = "running",
        [MACHINE_PAUSING] = "running",
        [MACHINE_PAUSED] = "paused",
    };
    static const char *const ends[MACHINE_END_COUNT] = {
        [MACHINE_END_NONE] = "shutdown",
        [MACHINE_END_OFF] = "shutdown",
        [MACHINE_END_PANIC] = "guest-panicked",
        [MACHINE_END_SHUTDOWN] = "guest-panicked",
        [MACHINE_END_BROKEN] = "internal-error",
    };
    enum machine_state state = machine_state(control->machine);
    if (state == MACHINE_PAUSED && waits_for_room(control)) {
        return "io-error";
    }
    return state == MACHINE_ENDED ? ends[control->end] : states[state];
}

/* Which of the ends that are a panic in QEMU's words this one is; NULL: none of them. */
static const char *panic_cause(const struct vmm_control *control)
{
    static const char *const causes[MACHINE_END_COUNT] = {
        [MACHINE_END_PANIC] = "panic",
        [MACHINE_END_SHUTDOWN] = "triple-fault",
    };
    return causes[control->end];
}

/* ---- disks that cannot do what they should, in QEMU's terms ---- */

static void fault_tell(const struct vmm_control *control, const struct disk_fault *fault)
{
    const char *operation = fault->kind == DISK_FAULT_READ ? "read" : "write";
    const char *action = fault->kind == DISK_FAULT_KEPT ? "stop"
                         : fault->kind == DISK_FAULT_LAST
                             ? "ignore" /* the guest's gone */
                             : "report";
    log_warn("vmm", "a disk could not do it", KV_STR("disk", fault->disk),
             KV_STR("operation", operation), KV_STR("action", action),
             KV_STR("why", err_sentence(fault->code)));
    qmp_server_event(control->server, "BLOCK_IO_ERROR",
                     json_pack("{s:s, s:s, s:s, s:s, s:b, s:s}", "device", fault->disk,
                               "node-name", fault->node, "operation", operation, "action",
                               action, "nospace", disk_has_no_room(fault->code), "reason",
                               err_sentence(fault->code)));
}

/* All that has come; whether the machine has to stand still for it. */
static bool faults_tell(const struct vmm_control *control)
{
    struct disk_fault fault;
    bool stops = false;
    while (control->faults != NULL &&
           disk_faults_take(control->faults, clock_now_ms(clock_system()), &fault)) {
        fault_tell(control, &fault);
        stops = stops || fault.kind == DISK_FAULT_KEPT;
    }
    return stops;
}

int vmm_control_stand(struct vmm_control *control, struct err *err)
{
    const bool was_running = machine_state(control->machine) == MACHINE_RUNNING;
    const int r = machine_pause(control->machine, err);
    if (r == 0 && was_running) {
        qmp_server_event(control->server, "STOP", NULL);
    }
    return r;
}

void vmm_control_paused(struct vmm_control *control)
{
    qmp_server_event(control->server, "STOP", NULL);
    qmp_server_answer(control->server, 0, NULL);
    vmm_command_save_now(control);
}

static void on_faults(void *context)
{
    struct vmm_control *control = context;
    if (faults_tell(control) && machine_state(control->machine) == MACHINE_RUNNING &&
        vmm_control_stand(control, NULL) >= 0) {
        control->waits_for_room = true;
    }
}

/* Its RAM is being written: nothing may change that. */
static int not_saved_check(const struct vmm_control *control, struct err *err)
{
    return vmm_snapshot_is_active(control->snapshot)
               ? err_set(err, BERTH_EBUSY,
                         "the machine is being saved; migrate_cancel ends that")
               : 0;
}

/* It does not stand still after all. */
static void pause_dropped(struct vmm_control *control)
{
    struct err err = {0};
    const int r =
        err_set(&err, BERTH_ECLOSED, "the machine was let run before it stood still");
    qmp_server_answer(control->server, r, &err);
}

/* Lets the machine run, and tells of it. What came while it stood still is told before,
 * for it is tried again. */
int vmm_control_set_going(struct vmm_control *control, struct err *err)
{
    const enum machine_state before = machine_state(control->machine);
    const bool was_running = before == MACHINE_RUNNING;
    int r = not_saved_check(control, err);
    if (r < 0) {
        return r;
    }
    if (!was_running) {
        (void)faults_tell(control);
    }
    r = machine_run(control->machine, err);
    control->told_to_stop = control->told_to_stop && r < 0;
    if (r == 0 && !was_running) {
        control->waits_for_room = false;
        if (before == MACHINE_PAUSING) {
            pause_dropped(control);
        }
        qmp_server_event(control->server, "RESUME", NULL);
    }
    return r;
}

/* ---- */

static int
query_status(void *context, const json_t *arguments, json_t **ret_result, struct err *err)
{
    struct vmm_control *control = context;
    const char *word = status_word(control);
    (void)arguments;
    (void)err;
    *ret_result = json_pack("{s:s, s:b, s:b}", "status", word, "running",
                            strcmp(word, "running") == 0, "singlestep", 0);
    if (*ret_result != NULL &&
        (control->end == MACHINE_END_BROKEN || panic_cause(control) != NULL)) {
        (void)json_object_set_new(*ret_result, "reason",
                                  json_string(control->reason)); /* without it */
    }
    if (*ret_result != NULL && panic_cause(control) != NULL) {
        (void)json_object_set_new(*ret_result, "cause",
                                  json_string(panic_cause(control))); /* likewise */
    }
    if (*ret_result != NULL && machine_waits_for(control->machine) != NULL) {
        (void)json_object_set_new(
            *ret_result, "x-waits-for",
            json_string(machine_waits_for(control->machine))); /* likewise */
    }
    return *ret_result != NULL ? 0 : -ENOMEM;
}

static int
cont(void *context, const json_t *arguments, json_t **ret_result, struct err *err)
{
    struct vmm_control *control = context;
    (void)arguments;
    (void)ret_result;
    return vmm_control_set_going(control, err);
}

static int
stop(void *context, const json_t *arguments, json_t **ret_result, struct err *err)
{
    struct vmm_control *control = context;
    (void)arguments;
    (void)ret_result;
    control->told_to_stop = true;
    control->ran_before = false; /* one that is being saved stays so, however that ends */
    if (qmp_server_owes(control->server)) {
        return err_set(err, BERTH_EBUSY,
                       "stop was said already, and is answered when the machine stands "
                       "still");
    }
    const int r = vmm_control_stand(control, err);
    return r > 0 ? QMP_LATER : r;
}

static int
quit(void *context, const json_t *arguments, json_t **ret_result, struct err *err)
{
    struct vmm_control *control = context;
    (void)arguments;
    (void)ret_result;
    (void)err;
    qmp_server_event(control->server, "SHUTDOWN",
                     json_pack("{s:b, s:s}", "guest", 0, "reason", "host-qmp-quit"));
    poller_end(control->poller);
    return 0;
}

static int system_powerdown(void *context,
                            const json_t *arguments,
                            json_t **ret_result,
                            struct err *err)
{
    struct vmm_control *control = context;
    (void)arguments;
    (void)ret_result;
    (void)err;
    machine_press_power(control->machine);
    qmp_server_event(control->server, "POWERDOWN", NULL);
    return 0;
}

static int
system_reset(void *context, const json_t *arguments, json_t **ret_result, struct err *err)
{
    struct vmm_control *control = context;
    (void)arguments;
    (void)ret_result;
    const int r = not_saved_check(control, err);
    if (r < 0) {
        return r;
    }
    if (machine_state(control->machine) != MACHINE_RUNNING && !waits_for_room(control)) {
        return err_set(err, BERTH_EPHASE, "the machine does not run, or is to stop");
    }
    machine_reset(control->machine);
    return 0;
}

static void on_client_gone(void *context)
{
    struct vmm_control *control = context;
    qmp_descriptors_leave(&control->descriptors);
}

static int snapshot_thread_began(void *context, struct err *err)
{
    const struct vmm_control *control = context;
    return control->thread_began != NULL
               ? control->thread_began(control->thread_context, err)
               : 0;
}

static const struct qmp_command commands[] = {
    {"query-status", query_status},
    {"cont", cont},
    {"stop", stop},
    {"quit", quit},
    {"system_powerdown", system_powerdown},
    {"system_reset", system_reset},
    {"query-cpus-fast", vmm_command_query_cpus},
    {"query-hotpluggable-cpus", vmm_command_query_hotpluggable_cpus},
    {"device_add", vmm_command_device_add},
    {"device_del", vmm_command_device_del},
    {"blockdev-add", vmm_command_blockdev_add},
    {"blockdev-del", vmm_command_blockdev_del},
    {"netdev_add", vmm_command_netdev_add},
    {"netdev_del", vmm_command_netdev_del},
    {"query-memory-size-summary", vmm_command_query_memory},
    {"query-name", vmm_command_query_name},
    {"query-kvm", vmm_command_query_kvm},
    {"query-balloon", vmm_command_query_balloon},
    {"balloon", vmm_command_balloon},
    {"query-memory-devices", vmm_command_query_memory_devices},
    {"qom-set", vmm_command_qom_set},
    {"block_set_io_throttle", vmm_command_block_set_io_throttle},
    {"x-nic-set-throttle", vmm_command_nic_set_throttle},
    {"x-query-throttle", vmm_command_query_throttle},
    {"query-version", vmm_command_query_version},
    {"query-block", vmm_command_query_block},
    {"query-blockstats", vmm_command_query_blockstats},
    {"query-stats", vmm_command_query_stats},
    {"query-stats-schemas", vmm_command_query_stats_schemas},
    {"x-query-device-stats", vmm_command_query_device_stats},
    {"x-query-boot", vmm_command_query_boot},
    {"getfd", vmm_command_getfd},
    {"closefd", vmm_command_closefd},
    {"add-fd", vmm_command_add_fd},
    {"remove-fd", vmm_command_remove_fd},
    {"query-fdsets", vmm_command_query_fdsets},
    {"migrate", vmm_command_migrate},
    {"migrate_cancel", vmm_command_migrate_cancel},
    {"query-migrate", vmm_command_query_migrate},
};

int vmm_control_open(struct vmm_control *control,
                     struct machine *machine,
                     struct poller *poller,
                     const char *name,
                     int take_listener,
                     struct err *err)
{
    const struct vmm_snapshot_events events = {.thread_began = snapshot_thread_began,
                                               .thread_context = control,
                                               .done = vmm_command_saved,
                                               .context = control};
    *control = (struct vmm_control){.machine = machine, .poller = poller, .name = name};
    int r = vmm_snapshot_new(poller, &events, &control->snapshot, err);
    if (r == 0) {
        r = qmp_server_new(poller, take_listener, commands, ARRAY_COUNT(commands),
                           control, &control->server, err);
    }
    if (r < 0) {
        control->snapshot = vmm_snapshot_free(control->snapshot);
        return r;
    }
    qmp_server_listen_gone(control->server, on_client_gone);
    return 0;
}

void vmm_control_watch_memory(struct vmm_control *control, struct virtio_device *memory)
{
    control->memory = memory;
    if (memory != NULL) {
        virtio_mem_listen(memory, vmm_command_memory_resized, control);
    }
}

int vmm_control_watch_disks(struct vmm_control *control,
                            struct disk_faults *faults,
                            struct err *err)
{
    control->faults = faults;
    return disk_faults_listen(faults, control->poller, on_faults, control, err);
}

void vmm_control_watch_plug(struct vmm_control *control, struct vmm_plug *plug)
{
    control->plug = plug;
    if (plug != NULL) {
        plug->machine = control->machine;
        plug->descriptors = &control->descriptors;
    }
}

void vmm_control_ended(struct vmm_control *control,
                       enum machine_end end,
                       const char *reason)
{
    control->end = end;
    (void)snprintf(control->reason, sizeof(control->reason), "%s", reason);
    switch (end) {
    case MACHINE_END_OFF:
        qmp_server_event(control->server, "SHUTDOWN",
                         json_pack("{s:b, s:s}", "guest", 1, "reason", "guest-shutdown"));
        break;
    case MACHINE_END_PANIC:
    case MACHINE_END_SHUTDOWN:
        qmp_server_event(control->server, "GUEST_PANICKED",
                         json_pack("{s:s, s:{s:s, s:s, s:s}}", "action", "pause", "info",
                                   "type", "berth", "cause", panic_cause(control),
                                   "reason", reason));
        break;
    case MACHINE_END_NONE:
    case MACHINE_END_BROKEN:
    case MACHINE_END_COUNT:
    default:
        break;
    }
    qmp_server_event(control->server, "STOP", NULL);
}

void vmm_control_signalled(struct vmm_control *control)
{
    qmp_server_event(control->server, "SHUTDOWN",
                     json_pack("{s:b, s:s}", "guest", 0, "reason", "host-signal"));
}

void vmm_control_reset(struct vmm_control *control)
{
    qmp_server_event(control->server, "RESET",
                     json_pack("{s:b, s:s}", "guest", 1, "reason", "guest-reset"));
    if (waits_for_room(control) && !control->told_to_stop) {
        /* What was to be written is dropped. */
        (void)vmm_control_set_going(control, NULL);
    }
}

void vmm_control_crash_loaded(struct vmm_control *control)
{
    qmp_server_event(control->server, "GUEST_CRASHLOADED",
                     json_pack("{s:s}", "action", "run"));
}

void vmm_control_leaves(struct vmm_control *control, const struct virtio_device *device)
{
    struct disk_fault fault;
    while (control->faults != NULL &&
           disk_faults_take_of(control->faults, device, clock_now_ms(clock_system()),
                               &fault)) {
        fault_tell(control, &fault);
    }
    if (control->plug != NULL) {
        vmm_plug_forget(control->plug, device);
    }
}

void vmm_control_unplugged(struct vmm_control *control, const char *name)
{
    char path[sizeof("/machine/peripheral/") + DEVICE_NAME_SIZE];
    (void)snprintf(path, sizeof(path), "/machine/peripheral/%s", name); /* fits */
    qmp_server_event(control->server, "DEVICE_DELETED",
                     json_pack("{s:s, s:s}", "device", name, "path", path));
}

void vmm_control_halt(struct vmm_control *control, struct machine *machine)
{
    control->snapshot = vmm_snapshot_free(control->snapshot);
    machine_halt(machine);
    (void)faults_tell(control); /* it stands still */
}

void vmm_control_close(struct vmm_control *control)
{
    control->server = qmp_server_close(control->server);
    control->snapshot = vmm_snapshot_free(control->snapshot);
    qmp_descriptors_clear(&control->descriptors);
}
