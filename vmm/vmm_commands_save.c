#include "base/fd.h"
#include "vmm/vmm_commands.h"
#include "vmm/vmm_fdsets.h"

#include <errno.h>
#include <string.h>

/* ---- descriptors that a client sends along */

VMM_COMMAND(vmm_command_getfd)
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

VMM_COMMAND(vmm_command_closefd)
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

VMM_COMMAND(vmm_command_add_fd)
{
    struct vmm_control *control = context;
    int fd = qmp_server_take_fd(control->server);
    return fd < 0 ? err_set(err, BERTH_EINVALID,
                            "No file descriptor supplied via SCM_RIGHTS")
                  : vmm_fdsets_add(&control->descriptors, fd, arguments, ret_result, err);
}

VMM_COMMAND(vmm_command_remove_fd)
{
    struct vmm_control *control = context;
    (void)ret_result;
    return vmm_fdsets_remove(&control->descriptors, arguments, err);
}

VMM_COMMAND(vmm_command_query_fdsets)
{
    const struct vmm_control *control = context;
    (void)arguments;
    (void)err;
    *ret_result = vmm_fdsets_list(&control->descriptors);
    return *ret_result != NULL ? 0 : -ENOMEM;
}

/* ---- saving it, in QEMU's terms: a migration into a file */

static const char *const snapshot_words[VMM_SNAPSHOT_STATUS_COUNT] = {
    [VMM_SNAPSHOT_NONE] = "none",     [VMM_SNAPSHOT_SETUP] = "setup",
    [VMM_SNAPSHOT_ACTIVE] = "active", [VMM_SNAPSHOT_COMPLETED] = "completed",
    [VMM_SNAPSHOT_FAILED] = "failed", [VMM_SNAPSHOT_CANCELLED] = "cancelled",
};

static void tell_snapshot(struct vmm_control *control, enum vmm_snapshot_status status)
{
    qmp_server_event(control->server, "MIGRATION",
                     json_pack("{s:s}", "status", snapshot_words[status]));
}

static void go_on(struct vmm_control *control)
{
    /* It stood still a moment ago: it can run. */
    if (control->ran_before) {
        (void)vmm_control_set_going(control, NULL);
    }
}

void vmm_command_saved(void *context, enum vmm_snapshot_status status)
{
    struct vmm_control *control = context;
    tell_snapshot(control, status);
    if (status != VMM_SNAPSHOT_COMPLETED) {
        go_on(control);
    }
}

void vmm_command_save_now(struct vmm_control *control)
{
    if (vmm_snapshot_is_active(control->snapshot) && vmm_snapshot_go(control->snapshot)) {
        tell_snapshot(control, VMM_SNAPSHOT_ACTIVE);
    }
}

static int save_into(struct vmm_control *control, int take_fd, struct err *err)
{
    control->ran_before = machine_state(control->machine) == MACHINE_RUNNING;
    int r = vmm_control_stand(control, err);
    if (r < 0) {
        return r;
    }
    const bool is_still = r == 0;
    r = is_still ? vmm_snapshot_begin(control->snapshot, control->machine, take_fd, err)
                 : vmm_snapshot_await(control->snapshot, control->machine, take_fd, err);
    if (r < 0) {
        go_on(control);
        return r;
    }
    tell_snapshot(control, is_still ? VMM_SNAPSHOT_ACTIVE : VMM_SNAPSHOT_SETUP);
    return 0;
}

VMM_COMMAND(vmm_command_migrate)
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

VMM_COMMAND(vmm_command_migrate_cancel)
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

VMM_COMMAND(vmm_command_query_migrate)
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
