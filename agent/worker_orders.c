/* From orders to VMs, networks and images. */
#include "agent/disk_format.h"
#include "agent/orders.h"
#include "agent/worker_network.h"
#include "agent/worker_parts.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/require.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LEAVING_MAX        4 /* VMs whose disks go: records of starts queue behind them */
#define MEMBERS_RETRY_MS   2000
#define NETWORKS_RETRY_MS  2000
#define NETWORKS_REPAIR_MS 30000 /* what others changed in the kernel is put right */
/* So often in a row, and a VM that still lacks its network fails: another host may have
 * what this one lacks. */
#define NETWORKS_TRIES 5

/* ---- from orders to VMs
 * ---------------------------------------------------------------------------- */

static void failure_set(struct worker *worker,
                        const struct msg_vm *vm,
                        enum phase phase,
                        const char *reason)
{
    struct failure *failure = u64_map_get(worker->failures, vm->vm);
    if (failure == NULL) {
        failure = calloc(1, sizeof(*failure));
        if (failure == NULL || u64_map_put(worker->failures, vm->vm, failure) < 0) {
            free(failure);
            return; /* it is found out again at the next reconcile */
        }
    } else if (failure->epoch == vm->epoch) {
        return;
    }
    struct vm_report report;
    bool here = vm->disk_epoch != 0 &&
                vm_supervisor_report(worker->supervisor, vm->vm, &report) &&
                !report.alive && report.epoch <= vm->epoch;
    failure->epoch = vm->epoch;
    failure->disk_epoch = here ? report.epoch : 0;
    failure->phase = phase;
    failure->at_wall_ms = clock_wall_ms(worker->config.clock);
    (void)snprintf(failure->reason, sizeof(failure->reason), "%.255s", reason);
    if (phase == PHASE_FAILED) {
        log_warn("worker", "vm cannot be started", KV_STR("vm", vm->name),
                 KV_STR("why", reason));
    }
    loop_post_send(worker->heartbeat_post);
}

static const struct msg_vm *order_of(const struct worker *worker, uint64_t uid)
{
    return u64_map_get(worker->orders_index, uid);
}

/* NULL when out of memory: without it every VM here would look like a stray. */
static struct u64_map *orders_index_new(const struct msg_orders *orders)
{
    struct u64_map *index = u64_map_new();
    for (uint32_t i = 0; index != NULL && i < orders->vms.count; i++) {
        struct msg_vm *order = &orders->vms.items[i];
        if (u64_map_put(index, order->vm, order) < 0) {
            index = u64_map_free(index);
        }
    }
    return index;
}

/* Starts and removals take their time on the loop that also carries the log: a pass
 * takes a few of them and the loop turns in between. False: at another pass. */
static bool step_take(struct worker *worker)
{
    if (worker->steps_left == 0) {
        return false;
    }
    worker->steps_left--;
    return true;
}

static char *artifact_slot(struct engine_vm *vm, uint32_t role)
{
    switch (role) {
    case ARTIFACT_KERNEL:
        return vm->kernel_path;
    case ARTIFACT_INITRD:
        return vm->initrd_path;
    default:
        return vm->disk_path;
    }
}

/* All boot material here, and whole? Fills the paths. Asks for all of it: what is asked
 * for is looked at first. */
static bool
images_ready(struct worker *worker, const struct msg_vm *order, struct engine_vm *vm)
{
    bool ready = true;
    for (uint32_t i = 0; i < order->image.artifacts.count; i++) {
        const struct artifact *artifact = &order->image.artifacts.items[i];
        char path[IMAGE_PATH_SIZE];
        if (!image_store_path(worker->config.images, &artifact->sha256, path)) {
            ready = false;
            continue;
        }
        REQUIRE(strlen(path) <
                ENGINE_PATH_SIZE); /* identity_open bounds the state folder */
        memcpy(artifact_slot(vm, artifact->role), path, strlen(path) + 1);
    }
    return ready;
}

/* Whether it comes again, from whoever has it. */
static bool orders_name(const struct worker *worker, const struct digest *digest)
{
    bool named = false;
    for (uint32_t i = 0; i < worker->orders.blobs.count; i++) {
        named = named || digest_equal(&worker->orders.blobs.items[i].sha256, digest);
    }
    return named;
}

/* The image's disk that disks lie on, if they do, is whole? -EAGAIN: not yet; one that
 * was damaged and does not come again is a fault. One of which there is no trace is
 * missed by the start, which says so. */
static int base_ready(struct worker *worker, const char *path, struct err *err)
{
    struct digest digest;
    char same[IMAGE_PATH_SIZE];
    if (!worker_base_digest(path, &digest)) {
        return 0;
    }
    if (image_store_has(worker->config.images, &digest, NULL)) {
        return image_store_path(worker->config.images, &digest, same) ? 0 : -EAGAIN;
    }
    if (!image_store_remains(worker->config.images, &digest, same)) {
        return 0;
    }
    return orders_name(worker, &digest)
               ? -EAGAIN
               : err_set(
                     err, BERTH_ECORRUPT,
                     "the image's disk that its disks lie on was damaged, and is kept "
                     "as %.120s: upload it whole, or copy out what can be",
                     same);
}

/* The same of what a start finds instead of the image: the disks of the run before, and
 * those of a snapshot. Fills the path of the first. */
static int bases_ready(struct worker *worker,
                       const struct msg_vm *order,
                       struct engine_vm *vm,
                       struct err *err)
{
    char path[ENGINE_PATH_SIZE];
    int disks = 0;
    int snapshot = 0;
    /* On what they were made on, whatever the image is now. */
    if (order->disk_epoch != 0 &&
        vm_supervisor_base(worker->supervisor, order->vm, vm->disk_path)) {
        disks = base_ready(worker, vm->disk_path, err);
    }
    if (order->restore != 0 &&
        vm_supervisor_snapshot_base(worker->supervisor, order->restore, path)) {
        snapshot = base_ready(worker, path, err);
    }
    return disks != 0 && disks != -EAGAIN ? disks : snapshot != 0 ? snapshot : disks;
}

/* 0: the orders do not have it. */
static uint32_t network_vni(const struct worker *worker, uint64_t network)
{
    uint32_t vni = 0;
    for (uint32_t i = 0; i < worker->orders.networks.count; i++) {
        if (worker->orders.networks.items[i].uid == network) {
            vni = worker->orders.networks.items[i].vni;
        }
    }
    return vni;
}

static bool
networks_ready(struct worker *worker, const struct msg_vm *order, struct engine_vm *vm)
{
    for (uint32_t nic = 0; nic < order->nics.count; nic++) {
        struct network_port port;
        worker_network_port(order, nic, &port);
        uint32_t vni = network_vni(worker, order->nics.items[nic].network);
        if (vni == 0 || worker->networks == NULL ||
            !network_apply_port_ready(worker->networks, vni, &port)) {
            return false;
        }
        vm->nics[nic].mac = port.mac;
        (void)snprintf(vm->nics[nic].tap, sizeof(vm->nics[nic].tap), "%s", port.tap);
    }
    vm->nic_count = order->nics.count;
    return true;
}

/* What this host cannot carry it will not in a while either: another host may. */
static bool
network_refused(const struct worker *worker, const struct msg_vm *order, struct err *err)
{
    for (uint32_t nic = 0; nic < order->nics.count && worker->networks != NULL; nic++) {
        const char *why = network_apply_refusal(
            worker->networks, network_vni(worker, order->nics.items[nic].network));
        if (why != NULL) {
            (void)err_set(err, BERTH_EUNREACHABLE,
                          "this host cannot carry the VM's network: %s", why);
            return true;
        }
    }
    return false;
}

/* Looked at again here: hosts of an earlier version took any content. */
static int disk_look(struct engine_vm *vm, struct err *err)
{
    enum disk_format format = DISK_FORMAT_RAW;
    if (vm->disk_path[0] == '\0') {
        return 0;
    }
    CLEANUP_FD int fd = fd_open_at(AT_FDCWD, vm->disk_path, O_RDONLY, 0, err);
    int r = fd < 0 ? fd : disk_format_read(fd, &format, err);
    vm->disk_is_qcow2 = format == DISK_FORMAT_QCOW2;
    return r < 0 ? err_wrap(err, r, "the image's disk") : 0;
}

/* A VM that waits for its host needs no lease, but a leader that a loss of power does not
 * make us forget, and that one's orders: by now it may be elsewhere, where it needed no
 * lease either. */
static bool may_begin(struct worker *worker, bool fenced)
{
    return fenced
               ? worker_may_start(worker)
               : worker_term_sync(worker) && worker->orders.term == worker->leader_term;
}

static bool has_nic_limits(const struct engine_limits *limits)
{
    struct engine_limits nics = *limits;
    nics.disk_count = 0;
    return !engine_limits_are_none(&nics);
}

static void vm_start(struct worker *worker, const struct msg_vm *order)
{
    struct vm_order vm = {0};
    struct err err = {0};
    bool fenced = order->machine.lifecycle.host_failure == HOST_FAILURE_RESTART;
    if (order->restore == 0 &&
        vm_supervisor_restore_call_off(worker->supervisor, order->vm)) {
        return; /* when its thread is done */
    }
    vm.vm.uid = order->vm;
    vm.vm.epoch = order->epoch;
    (void)snprintf(vm.vm.name, sizeof(vm.vm.name), "%s", order->name);
    (void)snprintf(vm.vm.tenant, sizeof(vm.vm.tenant), "%s", order->tenant);
    const bool images = images_ready(worker, order, &vm.vm);
    const int bases = bases_ready(worker, order, &vm.vm, &err);
    if (!images || bases == -EAGAIN || !may_begin(worker, fenced)) {
        return; /* looked at again soon */
    }
    if (bases < 0) {
        failure_set(worker, order, PHASE_FAILED, err.text);
        return;
    }
    vm.disk_epoch = order->disk_epoch;
    vm.restore = order->restore;
    vm.vm.memory_is_lazy = order->restore_lazy;
    if (!networks_ready(worker, order, &vm.vm)) {
        if (network_refused(worker, order, &err)) {
            worker_taken_look_again(worker); /* or the VM would be sent here again */
            failure_set(worker, order, PHASE_FAILED, err.text);
        } else if (worker->networks_failed >= NETWORKS_TRIES) {
            (void)err_set(&err, BERTH_EUNREACHABLE,
                          "this host cannot make the VM's network: %s",
                          worker->networks_fault);
            failure_set(worker, order, PHASE_FAILED, err.text);
        }
        return; /* likewise */
    }
    if (worker->starting >= worker->config.facts->cores * WORKER_STARTING_PER_CORE ||
        !step_take(worker)) {
        return; /* when one of those has started */
    }
    int r = vm_order_set_machine(&vm, &order->machine, order->image.cmdline, &err);
    worker->starting++;
    r = r == 0 ? disk_look(&vm.vm, &err) : r;
    if (r == 0) {
        vm.probe_address = order->nics.count > 0 ? order->nics.items[0].ipv4 : 0;
        r = vm_supervisor_start(worker->supervisor, &vm, false, &err);
    }
    if (r == 0 && has_nic_limits(&vm.vm.limits)) { /* now it is known who holds it to */
        worker->networks_again_ms = 0;
        loop_post_send(worker->reconcile_post);
    }
    if (r == BERTH_EFULL || r == BERTH_EINUSE) {
        return; /* nothing has failed yet; looked at again soon */
    }
    if (r < 0) {
        failure_set(worker, order, PHASE_FAILED, err.text);
    }
}

/* A process that was taken over has what this epoch was ordered with. */
static void vm_devices(struct worker *worker, const struct msg_vm *order)
{
    struct engine_vm devices = {0};
    if (engine_vm_set_machine(&devices, &order->machine, NULL, NULL) != 0) {
        return; /* then it is no machine that could have been started */
    }
    for (; devices.nic_count < order->nics.count; devices.nic_count++) {
        struct engine_nic *nic = &devices.nics[devices.nic_count];
        struct network_port port;
        worker_network_port(order, devices.nic_count, &port);
        nic->mac = port.mac;
        (void)snprintf(nic->tap, sizeof(nic->tap), "%s", port.tap);
    }
    (void)vm_supervisor_devices(worker->supervisor, order->vm, order->epoch, &devices,
                                NULL); /* reconciled again when it fails */
}

static void vm_run(struct worker *worker, const struct msg_vm *order)
{
    struct vm_report report;
    const struct failure *failure = u64_map_get(worker->failures, order->vm);
    if (failure != NULL && failure->epoch == order->epoch) {
        return;
    }
    bool known = vm_supervisor_report(worker->supervisor, order->vm, &report);
    if (known && report.leaving) {
        return; /* looked at again soon */
    }
    if (!known || (report.epoch != order->epoch && !report.alive)) {
        vm_start(worker, order);
        return;
    }
    if (report.epoch != order->epoch) {
        (void)vm_supervisor_kill(worker->supervisor, order->vm, order->epoch,
                                 "an earlier run of this VM",
                                 NULL); /* reconciled again when it fails */
        return;
    }
    if (report.devices_due) {
        vm_devices(worker, order);
    }
    (void)vm_supervisor_limit(worker->supervisor, order->vm, order->epoch,
                              &order->machine, NULL); /* likewise */
    (void)vm_supervisor_cpus(worker->supervisor, order->vm, order->epoch,
                             &order->machine.cpu, NULL); /* likewise */
    (void)vm_supervisor_pause(worker->supervisor, order->vm, order->epoch, order->paused,
                              NULL); /* likewise */
    if (report.held && may_begin(worker, report.fenced)) {
        (void)vm_supervisor_cont(worker->supervisor, order->vm, order->epoch,
                                 NULL); /* likewise */
    }
}

static void vm_stop(struct worker *worker, const struct msg_vm *order)
{
    struct vm_report report;
    if (vm_supervisor_restore_call_off(worker->supervisor, order->vm)) {
        return; /* when its thread is done: then its disks are known to stay */
    }
    bool known = vm_supervisor_report(worker->supervisor, order->vm, &report);
    if (known && report.alive && report.epoch < order->epoch) {
        (void)vm_supervisor_kill(worker->supervisor, order->vm, order->epoch,
                                 "an earlier run of this VM", NULL); /* likewise */
        return;
    }
    if (!known || report.epoch != order->epoch) {
        failure_set(worker, order, PHASE_STOPPED, "it was not running here");
        return;
    }
    if (report.alive && report.phase != PHASE_STOPPING) {
        (void)vm_supervisor_stop(worker->supervisor, order->vm, order->epoch, UINT64_MAX,
                                 NULL); /* reconciled again when it fails */
    }
}

/* Nothing of it is to run; the rest of it stays as it is. */
static void vm_keep(struct worker *worker, const struct msg_vm *order)
{
    struct vm_report report;
    (void)vm_supervisor_restore_call_off(worker->supervisor, order->vm);
    if (vm_supervisor_report(worker->supervisor, order->vm, &report) && report.alive) {
        (void)vm_supervisor_kill(worker->supervisor, order->vm, order->epoch,
                                 "not ordered to run here any more",
                                 NULL); /* reconciled again when it fails */
    }
}

struct strays {
    struct worker *worker;
    uint64_t uids[VM_SUPERVISOR_VMS_MAX];
    uint64_t epochs[VM_SUPERVISOR_VMS_MAX];
    bool alive[VM_SUPERVISOR_VMS_MAX];
    unsigned count;
    unsigned leaving;
};

static void stray_visit(void *context, const struct vm_report *report)
{
    struct strays *strays = context;
    strays->leaving += report->leaving ? 1U : 0U;
    if (order_of(strays->worker, report->uid) == NULL && !report->leaving &&
        strays->count < VM_SUPERVISOR_VMS_MAX) {
        strays->uids[strays->count] = report->uid;
        /* An order to end an earlier run may have come before the VM went elsewhere. */
        strays->epochs[strays->count] = report->epoch_seen;
        strays->alive[strays->count] = report->alive;
        strays->count++;
    }
}

static bool has_order(void *context, uint64_t uid)
{
    return order_of(context, uid) != NULL;
}

/* VMs that the orders do not name belong to somebody else by now, or to nobody. Not by
 * those of an earlier leader: the one that has spoken since may just have found them
 * here, and their other disks are gone by then. */
static void strays_end(struct worker *worker)
{
    if (worker->orders.term != worker->leader_term) {
        return;
    }
    vm_supervisor_restores_keep(worker->supervisor, has_order, worker);
    struct strays *strays = malloc(sizeof(*strays)); /* most of it is not needed */
    if (strays == NULL) {
        return;
    }
    strays->worker = worker;
    strays->count = 0;
    strays->leaving = 0;
    vm_supervisor_each(worker->supervisor, stray_visit, strays);
    for (unsigned i = 0; i < strays->count; i++) {
        if (strays->alive[i]) {
            (void)vm_supervisor_kill(worker->supervisor, strays->uids[i],
                                     strays->epochs[i],
                                     "not ordered to run here any more",
                                     NULL); /* reconciled again when it fails */
        } else if (strays->leaving < LEAVING_MAX && step_take(worker)) {
            strays->leaving++;
            worker->config.vm_forgotten(worker->config.context, strays->uids[i]);
            (void)vm_supervisor_forget(worker->supervisor, strays->uids[i],
                                       strays->epochs[i], NULL); /* likewise */
        }
    }
    free(strays);
}

static void failures_prune(struct worker *worker)
{
    uint64_t gone[64];
    unsigned count = 0;
    size_t cursor = 0;
    uint64_t uid;
    void *value;
    while (u64_map_next(worker->failures, &cursor, &uid, &value) &&
           count < ARRAY_COUNT(gone)) {
        const struct msg_vm *order = order_of(worker, uid);
        const struct failure *failure = value;
        if (order == NULL || order->epoch != failure->epoch) {
            gone[count++] = uid;
        }
    }
    for (unsigned i = 0; i < count; i++) {
        free(u64_map_remove(worker->failures, gone[i]));
    }
}

static void networks_failed(struct worker *worker, const struct err *err)
{
    log_error("worker", "tenant networks are not as ordered", KV_STR("why", err->text));
    worker->networks_failed++;
    (void)snprintf(worker->networks_fault, sizeof(worker->networks_fault), "%.255s",
                   err->text);
    worker->networks_again_ms = clock_now_ms(worker->config.clock) + NETWORKS_RETRY_MS;
}

static void networks_applied(void *context, int code, const struct err *err)
{
    struct worker *worker = context;
    if (code < 0) {
        networks_failed(worker, err);
    } else {
        worker->networks_failed = 0;
    }
    loop_post_send(worker->reconcile_post);
}

/* QEMU has no word for it. */
static bool host_limits_nics(void *context, uint64_t vm)
{
    struct worker *worker = context;
    struct vm_report report;
    return vm_supervisor_report(worker->supervisor, vm, &report) && report.alive &&
           report.engine == ENGINE_QEMU;
}

static void networks_set(struct worker *worker)
{
    struct network_want *wants = NULL;
    size_t count = 0;
    struct err err;
    worker->networks_again_ms = clock_now_ms(worker->config.clock) + NETWORKS_REPAIR_MS;
    const struct worker_network_asker asker = {host_limits_nics, worker};
    int r = worker_network_wants(&worker->orders, &asker, worker->config.identity->uid,
                                 worker->underlay_mtu, &wants, &count);
    if (r == 0) {
        r = network_apply_set(worker->networks, wants, count, networks_applied, worker,
                              &err);
    } else {
        (void)err_sys(&err, r, "tenant networks");
    }
    if (r < 0) {
        networks_failed(worker, &err);
    }
    network_wants_free(wants, count);
}

/* Tried again by members_store: a berthd that starts has only what is written down. */
static void members_unsaved(struct worker *worker, const struct err *err)
{
    log_error("worker", "members cannot be written down", KV_STR("why", err->text));
    worker->members_again_ms = clock_now_ms(worker->config.clock) + MEMBERS_RETRY_MS;
}

static void members_run(struct work_job *job)
{
    members_write_run(&LIST_ITEM(job, struct worker, members_job)->members_write);
}

static void members_store(struct worker *worker);

static void members_stored(struct work_job *job, int code)
{
    struct worker *worker = LIST_ITEM(job, struct worker, members_job);
    struct err err;
    if (work_job_make_up(job, code) < 0) { /* never run; not at an end, which drains */
        worker->members_write.code = BERTH_ECLOSED;
    }
    worker->members_writing = false;
    if (members_write_end(worker->config.members, &worker->members_write, &err) < 0) {
        members_unsaved(worker, &err);
    } else if (!worker->config.members->unsaved) {
        loop_post_send(worker->heartbeat_post); /* now the orders are taken over */
    }
    members_store(worker); /* what has come meanwhile */
}

/* Off the loop: a disk that hangs must not hold up heartbeats. Until it is done they do
 * not say that the orders are taken over. */
static void members_store(struct worker *worker)
{
    struct err err;
    if (!worker->config.members->unsaved || worker->members_writing ||
        clock_now_ms(worker->config.clock) < worker->members_again_ms) {
        return;
    }
    if (members_write_begin(worker->config.members, &worker->members_write, &err) < 0) {
        members_unsaved(worker, &err);
        return;
    }
    worker->members_writing = true;
    work_pool_submit(worker->disk, &worker->members_job, members_run, members_stored);
}

static void starting_visit(void *context, const struct vm_report *report)
{
    struct worker *worker = context;
    worker->starting += report->phase == PHASE_STARTING && !report->held ? 1 : 0;
}

static void (*const carry_out[])(struct worker *worker, const struct msg_vm *order) =
    {[ORDER_RUN] = vm_run, [ORDER_STOP] = vm_stop, [ORDER_KEEP] = vm_keep};

void worker_reconcile(void *context)
{
    struct worker *worker = context;
    if (!worker->has_orders) {
        return;
    }
    worker->steps_left = WORKER_STEPS_PER_PASS;
    worker->starting = 0;
    vm_supervisor_each(worker->supervisor, starting_visit, worker);
    if (clock_now_ms(worker->config.clock) >= worker->networks_again_ms) {
        networks_set(worker);
    }
    members_store(worker);
    image_pull_mend(worker->pull, &worker->orders.blobs);
    failures_prune(worker);
    strays_end(worker);
    for (uint32_t i = 0; i < worker->orders.vms.count; i++) {
        const struct msg_vm *order = &worker->orders.vms.items[i];
        if (order->order < ARRAY_COUNT(carry_out)) {
            carry_out[order->order](worker, order);
        }
    }
    worker_snapshots_reconcile(worker);
    if (worker->steps_left == 0) {
        loop_post_send(worker->reconcile_post);
    }
}

bool worker_base_digest(const char *path, struct digest *ret_digest)
{
    const char *slash = strrchr(path, '/');
    return slash != NULL && digest_parse(slash + 1, ret_digest) == 0;
}

struct keep {
    const struct worker *worker;
    struct digest *digests;
    unsigned count, room;
};

static void base_visit(void *context, const struct vm_report *report)
{
    struct keep *keep = context;
    char path[ENGINE_PATH_SIZE];
    if (keep->count < keep->room &&
        vm_supervisor_base(keep->worker->supervisor, report->uid, path)) {
        keep->count += worker_base_digest(path, &keep->digests[keep->count]);
    }
}

/* Also before there are orders: an overlay without its base is nothing. */
void worker_images_keep(struct worker *worker)
{
    const struct msg_vm_list *vms = &worker->orders.vms;
    struct keep keep = {.worker = worker,
                        .room = VM_SUPERVISOR_VMS_MAX + HOST_SNAPSHOTS_MAX};
    struct err err;
    for (uint32_t i = 0; i < vms->count; i++) {
        keep.room += vms->items[i].image.artifacts.count;
    }
    CLEANUP_FREE struct digest *digests = cleanup_new(keep.room, sizeof(*digests));
    keep.digests = digests;
    for (uint32_t i = 0; digests != NULL && i < vms->count; i++) {
        const struct artifact_list *artifacts = &vms->items[i].image.artifacts;
        for (uint32_t k = 0; k < artifacts->count; k++) {
            digests[keep.count++] = artifacts->items[k].sha256;
        }
    }
    int r = -ENOMEM;
    if (digests == NULL) {
        (void)err_sys(&err, r, "keep the images of VMs");
    } else {
        vm_supervisor_each(worker->supervisor, base_visit, &keep);
        keep.count +=
            worker_snapshots_bases(worker, digests + keep.count, keep.room - keep.count);
        r = image_store_keep(worker->config.images, digests, keep.count, &err);
    }
    if (r < 0) {
        log_warn("worker", "images of VMs may be evicted", KV_STR("why", err.text));
    }
}

static void members_take(struct worker *worker)
{
    bool changed = false;
    struct err err;
    worker->config.members->term = worker->orders.term;
    if (members_replace(worker->config.members, &worker->orders.members, &changed, &err) <
        0) {
        log_error("worker", "members cannot be taken", KV_STR("why", err.text));
    }
    if (changed) {
        worker->members_again_ms = 0; /* it is not that one which failed */
    }
    members_store(worker);
    if (changed) {
        worker->config.members_changed(worker->config.context);
    }
}

void worker_on_orders(struct worker *worker,
                      const struct msg_member *from,
                      struct msg_orders *orders)
{
    if (!worker_may_follow(from) || orders->host != worker->config.identity->uid ||
        orders->term < worker->leader_term || orders->term < worker->orders.term ||
        (orders->term == worker->orders.term &&
         orders->revision < worker->orders.revision)) {
        log_warn("worker", "stale orders were refused", KV_STR("from", from->name),
                 KV_U64("term", orders->term));
        return;
    }
    struct u64_map *index = orders_index_new(orders);
    if (index == NULL) {
        log_error("worker", "out of memory, orders will come again");
        return;
    }
    u64_map_free(worker->orders_index);
    worker->orders_index = index;
    record_fini(&msg_orders_record, &worker->orders);
    worker->orders = *orders;
    record_init(&msg_orders_record, orders); /* taken */
    worker->orders_hash = orders_hash(&worker->orders);
    worker->has_orders = true;
    worker_take_term(worker, worker->orders.term);
    worker_take_revision(worker, worker->orders.revision);
    members_take(worker);
    worker_images_keep(worker);
    image_pull_want(worker->pull, &worker->orders.blobs);
    worker->networks_failed = 0;
    networks_set(worker);
    worker_reconcile(worker);
    loop_post_send(worker->heartbeat_post);
}

uint64_t worker_revision_told(const struct worker *worker)
{
    return worker->revision_told;
}

void worker_vm_changed(void *context, const struct vm_report *report)
{
    struct worker *worker = context;
    log_info("worker", "vm changed", KV_STR("vm", report->name),
             KV_STR("phase", phase_names[report->phase]), KV_U64("epoch", report->epoch),
             KV_STR("reason", report->reason));
    loop_post_send(worker->reconcile_post);
    loop_post_send(worker->heartbeat_post);
}

void worker_images_changed(void *context)
{
    struct worker *worker = context;
    loop_post_send(worker->reconcile_post);
    loop_post_send(worker->heartbeat_post);
}

void worker_on_blob_ask(struct worker *worker,
                        const struct msg_member *from,
                        const struct msg_blob_ask *ask)
{
    image_pull_on_ask(worker->pull, from, ask);
}

void worker_on_blob_chunk(struct worker *worker,
                          const struct msg_member *from,
                          const struct msg_blob_chunk *chunk)
{
    image_pull_on_chunk(worker->pull, from, chunk);
}

struct vm_supervisor *worker_supervisor(struct worker *worker)
{
    return worker->supervisor;
}
