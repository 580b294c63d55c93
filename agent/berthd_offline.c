#include "agent/berthd_offline.h"

#include "agent/engine_fake.h"
#include "agent/engine_kvm.h"
#include "agent/engine_qemu.h"
#include "agent/fence_client.h"
#include "agent/rebirth.h"
#include "agent/resource_groups.h"
#include "agent/vm_lock.h"
#include "agent/vm_record.h"
#include "agent/vm_supervisor.h"
#include "agent/vms_end.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "net/network_apply.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* ---- cleanup
 * ----------------------------------------------------------------------------------------
 */

struct cleanup {
    uint64_t uids[VM_SUPERVISOR_VMS_MAX];
    uint64_t epochs[VM_SUPERVISOR_VMS_MAX];
    unsigned count;
};

static void cleanup_visit(void *context, const struct vm_report *report)
{
    struct cleanup *cleanup = context;
    if (cleanup->count < VM_SUPERVISOR_VMS_MAX) {
        cleanup->uids[cleanup->count] = report->uid;
        cleanup->epochs[cleanup->count++] = report->epoch_seen;
    }
}

static void cleanup_changed(void *context, const struct vm_report *report)
{
    (void)context;
    (void)report; /* vms_end looks itself */
}

/* What is deleted need not be written out. Nobody renews the lease of the others; where
 * no fence is that could tell of it, it may be over. */
static struct vms_end_times cleanup_times(const char *folder, bool forget)
{
    uint64_t freezes_ns = 0;
    struct err err;
    int r = forget ? 0 : fence_client_freezes_ns(folder, &freezes_ns, &err);
    if (r < 0 && r != BERTH_ENOTFOUND) {
        log_warn("berthd", "the fence does not tell how long the lease of VMs holds",
                 KV_STR("why", err.text));
    }
    return vms_end_times(forget ? 0 : ENGINE_ENDING_MS, freezes_ns,
                         clock_now_ns(clock_system()));
}

/* With `forget` their disks go as well. */
static int cleanup_vms(uv_loop_t *loop,
                       struct vm_supervisor *supervisor,
                       const struct vms_end_times *times,
                       struct resource_groups *groups,
                       bool forget,
                       struct err *err)
{
    struct cleanup *cleanup = calloc(1, sizeof(*cleanup));
    if (cleanup == NULL) {
        return err_sys(err, -ENOMEM, "end VMs");
    }
    int r = vms_end(loop, supervisor, times, err);
    vm_supervisor_each(supervisor, cleanup_visit, cleanup);
    for (unsigned i = 0; i < cleanup->count; i++) { /* what is left: the next cleanup's */
        if (forget) {
            (void)vm_supervisor_forget(supervisor, cleanup->uids[i], cleanup->epochs[i],
                                       NULL);
        } else if (groups != NULL) {
            (void)resource_group_remove(groups, cleanup->uids[i]);
        }
    }
    free(cleanup);
    return r;
}

/* One that lost its host's files may still have VMs; a path that was mistyped, or whose
 * disk is not mounted, has nothing that could be ended, and nothing is made there. */
static int find_host(const char *folder, bool *ret_has_vms, struct err *err)
{
    char path[PATH_MAX];
    (void)snprintf(path, sizeof(path), "%.3000s/vms", folder);
    *ret_has_vms = access(path, F_OK) == 0;
    return *ret_has_vms ? 0 : identity_find(folder, err);
}

static int cleanup(const char *folder, bool forget, struct err *err)
{
    static const struct engine_ops *const engines[] = {&engine_kvm, &engine_qemu,
                                                       &engine_fake, NULL};
    struct identity identity;
    uv_loop_t loop;
    bool has_vms = false;
    int r = find_host(folder, &has_vms, err);
    r = r == 0 ? identity_open(folder, &identity, err) : r;
    if (r < 0) {
        return r;
    }
    uv_loop_init(&loop);
    struct resource_groups *groups = resource_groups_open(
        identity.name[0] != '\0' ? identity.name : "berth", NULL, err);
    const struct vm_supervisor_config config = {
        .host = {.loop = &loop, .clock = clock_system(), .groups = groups},
        .folder = identity.folder,
        .engines = engines,
        .changed = cleanup_changed,
    };
    struct vm_supervisor *supervisor = vm_supervisor_open(&config, err);
    const struct vms_end_times times = cleanup_times(identity.folder, forget);
    r = supervisor != NULL ? cleanup_vms(&loop, supervisor, &times, groups, forget, err)
        : err != NULL      ? err->code
                           : -EIO;
    vm_supervisor_close(supervisor);
    r = r != 0 ? r : fence_client_end(identity.folder, err);
    const struct network_host host = {.host_id = identity.uid,
                                      .underlay = identity.address,
                                      .state_folder = identity.folder};
    struct err network_err;
    /* One that was never let in has noted no address, and made no networks. */
    int networks = identity.address != 0 || has_vms
                       ? network_apply_teardown_all(&host, &network_err)
                       : 0;
    if (networks < 0 && r == 0) {
        r = err_set(err, networks, "%s", network_err.text);
    }
    if (groups != NULL) {
        resource_groups_remove(groups);
        resource_groups_close(groups);
    }
    uv_run(&loop, UV_RUN_DEFAULT);
    (void)uv_loop_close(&loop); /* the process ends soon */
    identity_fini(&identity);
    return r;
}

int berthd_cleanup(const char *folder, struct err *err)
{
    return cleanup(folder, false, err);
}

/* ---- the log
 * ----------------------------------------------------------------------------------------
 */

int berthd_inspect(const char *folder, struct err *err)
{
    struct identity identity;
    struct rebirth_log log = {0};
    int r = identity_look(folder, &identity, err);
    if (r < 0) {
        return r;
    }
    r = rebirth_look(&identity, &log, err);
    if (r == 0) {
        json_t *document = rebirth_log_document(&identity, &log);
        CLEANUP_FREE char *text = document != NULL ? json_text(document) : NULL;
        json_decref(document);
        r = text != NULL && printf("%s\n", text) > 0 && fflush(stdout) == 0
                ? 0
                : err_sys(err, -EIO, "print what the log holds");
        rebirth_log_fini(&log);
    }
    identity_fini(&identity);
    return r;
}

int berthd_recover(const char *folder, struct err *err)
{
    struct identity identity;
    int r = identity_find(folder, err);
    r = r == 0 ? identity_open(folder, &identity, err) : r;
    if (r == 0) {
        r = rebirth_recover(&identity, clock_system(), err);
        identity_fini(&identity);
    }
    return r;
}

/* ---- what is here
 * ----------------------------------------------------------------------------------------
 */

static json_t *vm_document(const char *folder, const struct vm_record *record)
{
    const bool runs = vm_lock_is_held(folder);
    return json_pack(
        "{s:s, s:s, s:I, s:I, s:b, s:b, s:b}", "tenant", record->order.vm.tenant, "name",
        record->order.vm.name, "uid", (json_int_t)record->order.vm.uid, "epoch",
        (json_int_t)record->order.vm.epoch, "runs", runs, "waits", !record->order.fenced,
        "keeps", !runs && record->state == VM_RECORD_STOPPED && !record->diskless);
}

/* There may be a VM in that folder, and nobody can say which. */
static json_t *unread_document(const char *name, const char *why)
{
    return json_pack("{s:s, s:s}", "folder", name, "unread", why);
}

/* One of which no more than an epoch is left is none. */
static bool has_run_here(const struct vm_record *record)
{
    return record->state != VM_RECORD_NOTED && record->state != VM_RECORD_FORGOTTEN;
}

/* Whether the folder has nothing to tell of; read: what came of its record. Without one
 * a process may live in it all the same, and cleanup ends that as well. */
static bool is_passed_over(const char *path, int read, const struct vm_record *record)
{
    return read == BERTH_ENOTFOUND ? !vm_lock_is_held(path)
                                   : read == 0 && !has_run_here(record);
}

int berthd_list_vms(const char *folder, struct err *err)
{
    char path[PATH_MAX];
    int r = identity_find(folder, err); /* that VMs run elsewhere is decided by this */
    if (r < 0) {
        return r;
    }
    json_t *list = json_array();
    (void)snprintf(path, sizeof(path), "%.3000s/vms", folder);
    DIR *vms = opendir(path);
    if (vms == NULL && errno != ENOENT) {
        json_decref(list);
        return err_sys(err, -errno, "open %s", path);
    }
    const struct dirent *entry;
    while (r == 0 && vms != NULL && (entry = readdir(vms)) != NULL) {
        struct vm_record record;
        struct err why = {0};
        if (entry->d_name[0] == '.') {
            continue;
        }
        (void)snprintf(path, sizeof(path), "%.3000s/vms/%.200s", folder, entry->d_name);
        int read = vm_record_read(path, &record, &why);
        if (is_passed_over(path, read, &record)) {
            continue;
        }
        r = json_array_append_new(list, read == 0
                                            ? vm_document(path, &record)
                                            : unread_document(entry->d_name, why.text));
    }
    if (vms != NULL) {
        closedir(vms);
    }
    CLEANUP_FREE char *text = r == 0 && list != NULL ? json_text(list) : NULL;
    json_decref(list);
    return text != NULL && printf("%s\n", text) > 0 && fflush(stdout) == 0
               ? 0
               : err_sys(err, -EIO, "print the VMs of this host");
}

int berthd_forget(const char *folder, struct err *err)
{
    struct identity identity;
    int r = cleanup(folder, true, err);
    r = r == 0 ? identity_open(folder, &identity, err) : r;
    if (r == 0) {
        r = rebirth_forget(&identity, clock_system(), err);
        identity_fini(&identity);
    }
    return r;
}
