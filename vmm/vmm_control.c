#include "vmm/vmm_control.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "vmm/virtio_balloon.h"
#include "vmm/virtio_mem.h"
#include "vmm/vmm_balloon.h"
#include "vmm/vmm_cpu_stats.h"
#include "vmm/vmm_cpus.h"
#include "vmm/vmm_fdsets.h"

#include <errno.h>
#include <string.h>

#define MEMORY_PATH "/machine/peripheral/" VIRTIO_MEM_NAME

/* It stands still for nothing but a disk. */
static bool waits_for_room(const struct vmm_control *control)
{
    return machine_state(control->machine) == MACHINE_PAUSED && control->waits_for_room;
}

/* QEMU's words for where a machine is. */
static const char *status_word(const struct vmm_control *control)
{
    static const char *const states[MACHINE_STATE_COUNT] = {
        [MACHINE_HELD] = "prelaunch",
        [MACHINE_RUNNING] = "running",
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
    if (waits_for_room(control)) {
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

static void on_faults(void *context)
{
    struct vmm_control *control = context;
    if (faults_tell(control) && machine_state(control->machine) == MACHINE_RUNNING &&
        machine_pause(control->machine, NULL) == 0) {
        control->waits_for_room = true;
        qmp_server_event(control->server, "STOP", NULL);
    }
}

/* Lets the machine run, and tells of it. What came while it stood still is told before,
 * for it is tried again. */
static int set_going(struct vmm_control *control, struct err *err)
{
    const bool was_running = machine_state(control->machine) == MACHINE_RUNNING;
    if (!was_running) {
        (void)faults_tell(control);
    }
    int r = machine_run(control->machine, err);
    if (r == 0 && !was_running) {
        control->waits_for_room = false;
        qmp_server_event(control->server, "RESUME", NULL);
    }
    return r;
}

/* ---- */

static int
query_status(void *context, const json_t *arguments, json_t **ret_result, struct err *err)
{
    struct vmm_control *control = context;
    (void)arguments;
    (void)err;
    *ret_result =
        json_pack("{s:s, s:b, s:b}", "status", status_word(control), "running",
                  machine_state(control->machine) == MACHINE_RUNNING, "singlestep", 0);
    if (*ret_result != NULL &&
        (control->end == MACHINE_END_BROKEN || panic_cause(control) != NULL)) {
        (void)json_object_set_new(*ret_result, "reason",
                                  json_string(control->reason)); /* without it */
    }
    if (*ret_result != NULL && panic_cause(control) != NULL) {
        (void)json_object_set_new(*ret_result, "cause",
                                  json_string(panic_cause(control))); /* likewise */
    }
    return *ret_result != NULL ? 0 : -ENOMEM;
}

static int
cont(void *context, const json_t *arguments, json_t **ret_result, struct err *err)
{
    struct vmm_control *control = context;
    (void)arguments;
    (void)ret_result;
    if (vmm_snapshot_is_active(control->snapshot)) {
        return err_set(err, BERTH_EBUSY,
                       "the machine is being saved; migrate_cancel "
                       "ends that");
    }
    return set_going(control, err);
}

static int
stop(void *context, const json_t *arguments, json_t **ret_result, struct err *err)
{
    struct vmm_control *control = context;
    (void)arguments;
    (void)ret_result;
    bool was_running = machine_state(control->machine) == MACHINE_RUNNING;
    int r = machine_pause(control->machine, err);
    if (r == 0 && was_running) {
        qmp_server_event(control->server, "STOP", NULL);
    }
    return r;
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
    if (machine_state(control->machine) != MACHINE_RUNNING && !waits_for_room(control)) {
        return err_set(err, BERTH_EPHASE, "the machine does not run");
    }
    machine_reset(control->machine);
    return 0;
}

/* ---- CPUs */

static int
query_cpus(void *context, const json_t *arguments, json_t **ret_result, struct err *err)
{
    const struct vmm_control *control = context;
    (void)arguments;
    (void)err;
    *ret_result = vmm_cpus_list(control->machine);
    return *ret_result != NULL ? 0 : -ENOMEM;
}

static int query_hotpluggable_cpus(void *context,
                                   const json_t *arguments,
                                   json_t **ret_result,
                                   struct err *err)
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

static int
device_add(void *context, const json_t *arguments, json_t **ret_result, struct err *err)
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

static int
device_del(void *context, const json_t *arguments, json_t **ret_result, struct err *err)
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

static int
blockdev_add(void *context, const json_t *arguments, json_t **ret_result, struct err *err)
{
    (void)ret_result;
    return plug_do(context, vmm_plug_node_add, arguments, err);
}

static int
blockdev_del(void *context, const json_t *arguments, json_t **ret_result, struct err *err)
{
    (void)ret_result;
    return plug_do(context, vmm_plug_node_del, arguments, err);
}

static int
netdev_add(void *context, const json_t *arguments, json_t **ret_result, struct err *err)
{
    (void)ret_result;
    return plug_do(context, vmm_plug_netdev_add, arguments, err);
}

static int
netdev_del(void *context, const json_t *arguments, json_t **ret_result, struct err *err)
{
    (void)ret_result;
    return plug_do(context, vmm_plug_netdev_del, arguments, err);
}

static int
query_memory(void *context, const json_t *arguments, json_t **ret_result, struct err *err)
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

static int
query_name(void *context, const json_t *arguments, json_t **ret_result, struct err *err)
{
    struct vmm_control *control = context;
    (void)arguments;
    (void)err;
    *ret_result = json_pack("{s:s}", "name", control->name);
    return *ret_result != NULL ? 0 : -ENOMEM;
}

static int
query_kvm(void *context, const json_t *arguments, json_t **ret_result, struct err *err)
{
    (void)context;
    (void)arguments;
    (void)err;
    *ret_result = json_pack("{s:b, s:b}", "enabled", 1, "present", 1);
    return *ret_result != NULL ? 0 : -ENOMEM;
}

/* ---- the balloon, in QEMU's terms: how much memory the guest has left */

static int balloon_find(const struct vmm_control *control, struct err *err)
{
    return control->balloon != NULL
               ? 0
               : err_set(err, BERTH_EUNSUPPORTED, "the machine has no balloon");
}

static int query_balloon(void *context,
                         const json_t *arguments,
                         json_t **ret_result,
                         struct err *err)
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

static int
balloon(void *context, const json_t *arguments, json_t **ret_result, struct err *err)
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

static int query_memory_devices(void *context,
                                const json_t *arguments,
                                json_t **ret_result,
                                struct err *err)
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

static void on_memory_resized(void *context)
{
    const struct vmm_control *control = context;
    struct virtio_mem_state state;
    virtio_mem_state(control->memory, &state);
    qmp_server_event(control->server, "MEMORY_DEVICE_SIZE_CHANGE",
                     json_pack("{s:s, s:I, s:s}", "id", VIRTIO_MEM_NAME, "size",
                               (json_int_t)state.plugged_bytes, "qom-path", MEMORY_PATH));
}

/* The one property of the one object that there is. */
static int
qom_set(void *context, const json_t *arguments, json_t **ret_result, struct err *err)
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

static int block_set_io_throttle(void *context,
                                 const json_t *arguments,
                                 json_t **ret_result,
                                 struct err *err)
{
    struct vmm_control *control = context;
    (void)ret_result;
    return vmm_throttle_disk(control->throttle, arguments, err);
}

static int nic_set_throttle(void *context,
                            const json_t *arguments,
                            json_t **ret_result,
                            struct err *err)
{
    struct vmm_control *control = context;
    (void)ret_result;
    return vmm_throttle_nic(control->throttle, arguments, err);
}

static int query_throttle(void *context,
                          const json_t *arguments,
                          json_t **ret_result,
                          struct err *err)
{
    const struct vmm_control *control = context;
    (void)arguments;
    (void)err;
    *ret_result = vmm_throttle_list(control->throttle);
    return *ret_result != NULL ? 0 : -ENOMEM;
}

/* ---- what there is and what it has done: vmm_stats.h ---- */

static int answer(json_t *take_result, json_t **ret_result)
{
    *ret_result = take_result;
    return take_result != NULL ? 0 : -ENOMEM;
}

static int query_version(void *context,
                         const json_t *arguments,
                         json_t **ret_result,
                         struct err *err)
{
    (void)context;
    (void)arguments;
    (void)err;
    return answer(qmp_version(), ret_result);
}

static int
query_block(void *context, const json_t *arguments, json_t **ret_result, struct err *err)
{
    const struct vmm_control *control = context;
    (void)arguments;
    (void)err;
    return answer(vmm_stats_blocks(control->stats, control->throttle), ret_result);
}

static int query_blockstats(void *context,
                            const json_t *arguments,
                            json_t **ret_result,
                            struct err *err)
{
    const struct vmm_control *control = context;
    (void)arguments;
    (void)err;
    return answer(vmm_stats_block_counts(control->stats), ret_result);
}

static int
query_stats(void *context, const json_t *arguments, json_t **ret_result, struct err *err)
{
    const struct vmm_control *control = context;
    return vmm_cpu_stats_query(control->machine, arguments, ret_result, err);
}

static int query_stats_schemas(void *context,
                               const json_t *arguments,
                               json_t **ret_result,
                               struct err *err)
{
    const struct vmm_control *control = context;
    return vmm_cpu_stats_schemas(control->machine, arguments, ret_result, err);
}

static int query_device_stats(void *context,
                              const json_t *arguments,
                              json_t **ret_result,
                              struct err *err)
{
    const struct vmm_control *control = context;
    (void)arguments;
    (void)err;
    return answer(vmm_stats_devices(control->stats), ret_result);
}

static int
query_boot(void *context, const json_t *arguments, json_t **ret_result, struct err *err)
{
    const struct vmm_control *control = context;
    (void)arguments;
    return control->trace == NULL
               ? err_set(err, BERTH_EUNSUPPORTED, "nobody has looked how it came up")
               : answer(vmm_stats_boot(control->trace), ret_result);
}

/* ---- saving it, in QEMU's terms: a migration into a file */

static const char *const snapshot_words[VMM_SNAPSHOT_STATUS_COUNT] = {
    [VMM_SNAPSHOT_NONE] = "none",           [VMM_SNAPSHOT_ACTIVE] = "active",
    [VMM_SNAPSHOT_COMPLETED] = "completed", [VMM_SNAPSHOT_FAILED] = "failed",
    [VMM_SNAPSHOT_CANCELLED] = "cancelled",
};

static int
getfd(void *context, const json_t *arguments, json_t **ret_result, struct err *err)
{
    struct vmm_control *control = context;
    int fd = qmp_server_take_fd(control->server);
    (void)ret_result;
    if (fd < 0) {
        return err_set(err, BERTH_EINVALID, "No file descriptor supplied via SCM_RIGHTS");
    }
    int r = qmp_descriptors_put(&control->descriptors,
                                json_member_text(arguments, "fdname", ""), fd, err);
    if (r < 0) {
        fd_close(&fd);
    }
    return r;
}

static int
closefd(void *context, const json_t *arguments, json_t **ret_result, struct err *err)
{
    struct vmm_control *control = context;
    (void)ret_result;
    int fd = qmp_descriptors_take(&control->descriptors,
                                  json_member_text(arguments, "fdname", ""), err);
    if (fd < 0) {
        return fd;
    }
    fd_close(&fd);
    return 0;
}

static int
add_fd(void *context, const json_t *arguments, json_t **ret_result, struct err *err)
{
    struct vmm_control *control = context;
    int fd = qmp_server_take_fd(control->server);
    return fd < 0 ? err_set(err, BERTH_EINVALID,
                            "No file descriptor supplied via SCM_RIGHTS")
                  : vmm_fdsets_add(&control->descriptors, fd, arguments, ret_result, err);
}

static int
remove_fd(void *context, const json_t *arguments, json_t **ret_result, struct err *err)
{
    struct vmm_control *control = context;
    (void)ret_result;
    return vmm_fdsets_remove(&control->descriptors, arguments, err);
}

static int
query_fdsets(void *context, const json_t *arguments, json_t **ret_result, struct err *err)
{
    const struct vmm_control *control = context;
    (void)arguments;
    (void)err;
    return answer(vmm_fdsets_list(&control->descriptors), ret_result);
}

static void on_client_gone(void *context)
{
    struct vmm_control *control = context;
    qmp_descriptors_leave(&control->descriptors);
}

static void tell_snapshot(struct vmm_control *control, enum vmm_snapshot_status status)
{
    qmp_server_event(control->server, "MIGRATION",
                     json_pack("{s:s}", "status", snapshot_words[status]));
}

static void go_on(struct vmm_control *control)
{
    /* It stood still a moment ago: it can run. */
    if (control->ran_before) {
        (void)set_going(control, NULL);
    }
}

static void on_saved(void *context, enum vmm_snapshot_status status)
{
    struct vmm_control *control = context;
    tell_snapshot(control, status);
    if (status != VMM_SNAPSHOT_COMPLETED) {
        go_on(control);
    }
}

static int snapshot_thread_began(void *context, struct err *err)
{
    const struct vmm_control *control = context;
    return control->thread_began != NULL
               ? control->thread_began(control->thread_context, err)
               : 0;
}

static int save_into(struct vmm_control *control, int take_fd, struct err *err)
{
    control->ran_before = machine_state(control->machine) == MACHINE_RUNNING;
    int r = machine_pause(control->machine, err);
    if (r < 0) {
        return r;
    }
    if (control->ran_before) {
        qmp_server_event(control->server, "STOP", NULL);
    }
    r = vmm_snapshot_begin(control->snapshot, control->machine, take_fd, err);
    if (r < 0) {
        go_on(control);
        return r;
    }
    tell_snapshot(control, VMM_SNAPSHOT_ACTIVE);
    return 0;
}

static int
migrate(void *context, const json_t *arguments, json_t **ret_result, struct err *err)
{
    static const char scheme[] = "fd:";
    struct vmm_control *control = context;
    const char *uri = json_member_text(arguments, "uri", "");
    (void)ret_result;
    if (vmm_snapshot_is_active(control->snapshot)) {
        return err_set(err, BERTH_EBUSY, "There's a migration process in progress");
    }
    if (strncmp(uri, scheme, strlen(scheme)) != 0) {
        return err_set(err, BERTH_EINVALID,
                       "uri: only fd:NAME, of an empty file that getfd has named");
    }
    int fd = qmp_descriptors_take(&control->descriptors, uri + strlen(scheme), err);
    if (fd < 0) {
        return fd;
    }
    int r = save_into(control, fd, err);
    if (r < 0) {
        fd_close(&fd);
    }
    return r;
}

static int migrate_cancel(void *context,
                          const json_t *arguments,
                          json_t **ret_result,
                          struct err *err)
{
    struct vmm_control *control = context;
    (void)arguments;
    (void)ret_result;
    (void)err;
    vmm_snapshot_cancel(control->snapshot);
    return 0;
}

/* A machine that came in before all of its RAM: QEMU has a word for that. */
static json_t *fill_pack(const struct machine_fill *fill)
{
    const uint64_t left = fill->total_bytes - fill->done_bytes;
    return json_pack("{s:s, s:{s:I, s:I, s:I}}", "status",
                     fill->is_damaged      ? "failed"
                     : fill->was_abandoned ? "cancelled"
                     : left > 0            ? "postcopy-active"
                                           : "completed",
                     "ram", "total", (json_int_t)fill->total_bytes, "remaining",
                     (json_int_t)left, "transferred", (json_int_t)fill->done_bytes);
}

static int query_migrate(void *context,
                         const json_t *arguments,
                         json_t **ret_result,
                         struct err *err)
{
    struct vmm_control *control = context;
    struct vmm_snapshot_report report;
    (void)arguments;
    (void)err;
    vmm_snapshot_report(control->snapshot, &report);
    if (report.status == VMM_SNAPSHOT_NONE) {
        struct machine_fill fill;
        machine_fill(control->machine, &fill);
        if (fill.total_bytes == 0) {
            return 0; /* an empty object, as QEMU says it */
        }
        *ret_result = fill_pack(&fill);
        return *ret_result != NULL ? 0 : -ENOMEM;
    }
    *ret_result =
        json_pack("{s:s, s:I, s:{s:I, s:I, s:I}}", "status",
                  snapshot_words[report.status], "total-time", (json_int_t)report.took_ms,
                  "ram", "total", (json_int_t)report.total_bytes, "remaining",
                  (json_int_t)(report.total_bytes - report.seen_bytes), "transferred",
                  (json_int_t)report.written_bytes);
    if (*ret_result != NULL && report.status == VMM_SNAPSHOT_FAILED) {
        (void)json_object_set_new(*ret_result, "error-desc",
                                  json_string(report.err.text)); /* without it */
    }
    return *ret_result != NULL ? 0 : -ENOMEM;
}

static const struct qmp_command commands[] = {
    {"query-status", query_status},
    {"cont", cont},
    {"stop", stop},
    {"quit", quit},
    {"system_powerdown", system_powerdown},
    {"system_reset", system_reset},
    {"query-cpus-fast", query_cpus},
    {"query-hotpluggable-cpus", query_hotpluggable_cpus},
    {"device_add", device_add},
    {"device_del", device_del},
    {"blockdev-add", blockdev_add},
    {"blockdev-del", blockdev_del},
    {"netdev_add", netdev_add},
    {"netdev_del", netdev_del},
    {"query-memory-size-summary", query_memory},
    {"query-name", query_name},
    {"query-kvm", query_kvm},
    {"query-balloon", query_balloon},
    {"balloon", balloon},
    {"query-memory-devices", query_memory_devices},
    {"qom-set", qom_set},
    {"block_set_io_throttle", block_set_io_throttle},
    {"x-nic-set-throttle", nic_set_throttle},
    {"x-query-throttle", query_throttle},
    {"query-version", query_version},
    {"query-block", query_block},
    {"query-blockstats", query_blockstats},
    {"query-stats", query_stats},
    {"query-stats-schemas", query_stats_schemas},
    {"x-query-device-stats", query_device_stats},
    {"x-query-boot", query_boot},
    {"getfd", getfd},
    {"closefd", closefd},
    {"add-fd", add_fd},
    {"remove-fd", remove_fd},
    {"query-fdsets", query_fdsets},
    {"migrate", migrate},
    {"migrate_cancel", migrate_cancel},
    {"query-migrate", query_migrate},
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
                                               .done = on_saved,
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
        virtio_mem_listen(memory, on_memory_resized, control);
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
    if (waits_for_room(control)) { /* what was to be written is dropped */
        (void)set_going(control, NULL);
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

void vmm_control_close(struct vmm_control *control)
{
    control->server = qmp_server_close(control->server);
    control->snapshot = vmm_snapshot_free(control->snapshot);
    qmp_descriptors_clear(&control->descriptors);
}
