#include "agent/worker.h"

#include "agent/engine_fake.h"
#include "agent/engine_qemu.h"
#include "agent/fence_client.h"
#include "agent/lease.h"
#include "agent/orders.h"
#include "agent/worker_network.h"
#include "base/cleanup.h"
#include "base/digest.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/parse_number.h"
#include "base/random.h"
#include "base/require.h"
#include "base/u64_map.h"
#include "base/version.h"
#include "net/network_apply.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define UNDERLAY_MTU_DEFAULT 1500
#define LEASE_TICK_MS        50
#define NETWORKS_RETRY_MS    2000
#define NETWORKS_REPAIR_MS   30000 /* what others changed in the kernel is put right */
#define RECONCILE_RETRY_MS \
    500 /* what waits for an image or a network is looked at again */

/* A VM that could not even be started: reported as failed until its orders change. */
struct failure {
    uint64_t epoch;
    uint64_t at_wall_ms;
    enum phase phase;
    char reason[256];
};

struct worker {
    struct worker_config config;
    struct lease lease;
    enum lease_state lease_state;
    uint64_t boot;
    int lease_fd;
    char boot_id[40];
    uint64_t leader;
    uint64_t ack_ms; /* monotonic, of the last one */
    uint64_t leader_term;
    bool has_orders;
    struct msg_orders orders;
    uint64_t orders_hash;
    struct u64_map *orders_index; /* VM uid -> its msg_vm in orders */
    unsigned starting;            /* VMs between start and running */
    unsigned steps_left;          /* of this reconcile pass */
    struct vm_supervisor *supervisor;
    struct resource_groups *groups;
    struct fence_client *fence; /* NULL: we fence alone */
    struct network_apply *networks;
    uint64_t networks_again_ms; /* monotonic: when to look at the kernel again; 0: not set
                                   yet */
    struct image_pull *pull;
    struct u64_map *failures; /* uid -> struct failure */
    struct host_sampler sampler;
    struct host_usage usage;
    struct u64_map *loads; /* uid -> permille + 1, of the last sample */
    bool sampled;
    struct loop_timer *heartbeat_timer;
    struct loop_timer *sample_timer;
    struct loop_timer *lease_timer;
    struct loop_timer *retry_timer;
    struct loop_post *reconcile_post;
    struct loop_post *heartbeat_post;
    uint32_t underlay_mtu;
};

/* ---- what is said upwards
 * -------------------------------------------------------------------------- */

static uint64_t memory_for_vms(const struct worker_config *config)
{
    uint64_t reserve = (uint64_t)config->memory_reserve_mib * MIB;
    return config->facts->memory_bytes > reserve ? config->facts->memory_bytes - reserve
                                                 : 0;
}

int worker_status(const struct worker_config *config, struct host_status *ret_status)
{
    const struct host_facts *facts = config->facts;
    const struct identity *identity = config->identity;
    ret_status->address = identity->address;
    ret_status->mesh_port = identity->mesh_port;
    ret_status->raft_port = identity->raft_port;
    ret_status->api_port = identity->api_port;
    ret_status->public_key = identity_key_digest(&identity->key);
    ret_status->cpu_mcpu = facts->cores * 1000;
    ret_status->cpu_overcommit = config->cpu_overcommit;
    ret_status->memory_bytes = memory_for_vms(config);
    ret_status->engines = facts->engines;
    ret_status->kvm = facts->kvm;
    ret_status->cores = facts->cores;
    ret_status->numa_nodes = facts->numa_nodes;
    struct host_sampler sampler = {0};
    struct host_usage usage;
    if (host_usage_sample(&sampler, identity->folder, &usage, NULL) == 0) {
        ret_status->disk_bytes = usage.disk_total_bytes;
    }
    int r = record_set_text(&ret_status->kernel, facts->kernel);
    return r < 0 ? r : record_set_text(&ret_status->version, BERTH_VERSION);
}

struct seen_list {
    struct worker *worker;
    struct record_list list;
};

static struct msg_vm_seen *seen_add(struct seen_list *seen)
{
    return record_list_add(&msg_vm_seen_record, &seen->list);
}

static void seen_visit(void *context, const struct vm_report *report)
{
    struct seen_list *seen = context;
    struct msg_vm_seen *item = report->epoch != 0 ? seen_add(seen) : NULL;
    if (item == NULL) {
        return;
    }
    item->vm = report->uid;
    item->epoch = report->epoch;
    item->phase = report->phase;
    item->at_wall_ms = report->since_wall_ms;
    item->starting_wall_ms = report->start_wall_ms;
    item->running_wall_ms = report->running_wall_ms;
    char reason[256];
    (void)snprintf(reason, sizeof(reason), "%.255s", report->reason);
    (void)record_set_text(&item->reason, reason[0] != '\0' ? reason : NULL);
    uintptr_t load = (uintptr_t)u64_map_get(seen->worker->loads, report->uid);
    if (seen->worker->sampled && load > 0) {
        item->sampled = true;
        item->cpu_permille = (uint32_t)(load - 1);
    }
}

static void seen_failures(struct seen_list *seen)
{
    size_t cursor = 0;
    uint64_t uid;
    void *value;
    while (u64_map_next(seen->worker->failures, &cursor, &uid, &value)) {
        const struct failure *failure = value;
        struct msg_vm_seen *item = seen_add(seen);
        if (item != NULL) {
            item->vm = uid;
            item->epoch = failure->epoch;
            item->phase = failure->phase;
            item->at_wall_ms = failure->at_wall_ms;
            (void)record_set_text(&item->reason, failure->reason);
        }
    }
}

static int blobs_fill(struct worker *worker, struct msg_blob_list *list)
{
    struct image_file files[IMAGE_STORE_FILES_MAX];
    unsigned count =
        image_store_list(worker->config.images, files, IMAGE_STORE_FILES_MAX);
    if (count == 0) {
        return 0;
    }
    list->items = calloc(count, sizeof(*list->items));
    if (list->items == NULL) {
        return -ENOMEM;
    }
    list->count = count;
    for (unsigned i = 0; i < count; i++) {
        list->items[i].sha256 = files[i].digest;
        list->items[i].size_bytes = files[i].size_bytes;
    }
    return 0;
}

/* A standby may have become voter and leader before its record says so. */
static bool may_lead(const struct msg_member *member)
{
    return member->voter != VOTER_NONE;
}

/* To the leader that answers; to all voters while nobody does. */
static void heartbeat_send(struct worker *worker, const struct msg_heartbeat *heartbeat)
{
    uint64_t leader = worker_leader(worker);
    if (leader != 0) {
        (void)link_send(worker->config.link, leader, MESSAGE_HEARTBEAT,
                        heartbeat); /* the next one follows in 250 ms */
        return;
    }
    const struct msg_member_list *list = &worker->config.members->list;
    bool voters_known = false;
    for (uint32_t i = 0; i < list->count; i++) {
        voters_known = voters_known || may_lead(&list->items[i]);
    }
    for (uint32_t i = 0; i < list->count; i++) {
        if (!voters_known || may_lead(&list->items[i])) {
            (void)link_send(worker->config.link, list->items[i].uid, MESSAGE_HEARTBEAT,
                            heartbeat); /* likewise */
        }
    }
}

static void heartbeat(void *context)
{
    struct worker *worker = context;
    struct seen_list seen = {.worker = worker};
    struct msg_heartbeat message;
    record_init(&msg_heartbeat_record, &message);
    message.host = worker->config.identity->uid;
    message.boot = worker->boot;
    message.desired_hash = worker->orders_hash;
    message.cpu_used_mcpu = worker->usage.cpu_busy_permille * worker->config.facts->cores;
    message.memory_used_bytes = worker->usage.memory_used_bytes;
    message.disk_free_bytes = worker->usage.disk_free_bytes;
    message.revision = worker->config.revision(worker->config.context);
    message.fence = fence_client_health(worker->fence);
    vm_supervisor_each(worker->supervisor, seen_visit, &seen);
    seen_failures(&seen);
    message.vms.items = seen.list.items;
    message.vms.count = seen.list.count;
    if (blobs_fill(worker, &message.blobs) == 0 &&
        worker_status(&worker->config, &message.status) == 0) {
        message.sequence =
            lease_heartbeat(&worker->lease, clock_now_ns(worker->config.clock));
        heartbeat_send(worker, &message);
        worker->sampled = false;
    }
    record_fini(&msg_heartbeat_record, &message);
}

static void sample_visit(void *context, const struct vm_report *report)
{
    struct worker *worker = context;
    uint32_t permille = 0;
    uint64_t memory = 0;
    if (report->pid != 0 &&
        vm_supervisor_sample(worker->supervisor, report->uid, &permille, &memory) == 0) {
        (void)u64_map_put(worker->loads, report->uid,
                          (void *)((uintptr_t)(permille > 1000 ? 1000 : permille) + 1));
    } else {
        (void)u64_map_remove(worker->loads, report->uid);
    }
}

static void sample(void *context)
{
    struct worker *worker = context;
    vm_supervisor_each(worker->supervisor, sample_visit, worker);
    (void)host_usage_sample(&worker->sampler, worker->config.identity->folder,
                            &worker->usage, NULL); /* the old figures stand */
    worker->sampled = true;
}

/* ---- the lease
 * -------------------------------------------------------------------------------------
 */

static void boot_id_read(struct worker *worker)
{
    CLEANUP_FREE uint8_t *text = NULL;
    size_t size = 0;
    if (fd_read_file(AT_FDCWD, "/proc/sys/kernel/random/boot_id", 64, &text, &size,
                     NULL) == 0) {
        (void)snprintf(worker->boot_id, sizeof(worker->boot_id), "%.36s", (char *)text);
    }
}

/* The grant is a promise of this boot only and costs nothing to lose: no sync. The term
 * beside it keeps orders of an earlier leader from a restarted daemon. */
static void grant_store(struct worker *worker)
{
    char text[128];
    int size = snprintf(text, sizeof(text), "%-36s %020llu %020llu ", worker->boot_id,
                        (unsigned long long)lease_granted_ns(&worker->lease),
                        (unsigned long long)worker->leader_term);
    size += snprintf(text + size, sizeof(text) - (size_t)size, "%08x\n",
                     (unsigned)crc32c(0, text, (size_t)size));
    if (pwrite(worker->lease_fd, text, (size_t)size, 0) != size) {
        log_warn("worker", "lease cannot be written down",
                 KV_STR("why", err_sentence(-errno)));
    }
}

static int grant_load(struct worker *worker, struct err *err)
{
    CLEANUP_FREE char *path = NULL;
    char text[128] = "";
    char boot_id[40];
    unsigned long long granted_ns = 0;
    unsigned long long term = 0;
    unsigned sum = 0;
    if (asprintf(&path, "%s/lease", worker->config.identity->folder) < 0) {
        return err_sys(err, -ENOMEM, "open lease");
    }
    worker->lease_fd = fd_open_at(AT_FDCWD, path, O_RDWR | O_CREAT, 0600, err);
    if (worker->lease_fd < 0) {
        return worker->lease_fd;
    }
    boot_id_read(worker);
    ssize_t size = fd_read_full(worker->lease_fd, text, sizeof(text) - 1);
    int summed = 0; /* how much of it the sum is over */
    if (size <= 0 || sscanf(text, "%36s %20llu %20llu %n%8x", boot_id, &granted_ns, &term,
                            &summed, &sum) != 4) {
        return 0; /* nothing was ever written */
    }
    if (sum != crc32c(0, text, (size_t)summed)) {
        log_warn("worker", "lease that was written down is damaged: it counts as over");
        return 0;
    }
    worker->leader_term = term; /* the log's terms go on after a boot, unlike grants */
    if (strcmp(boot_id, worker->boot_id) == 0 && granted_ns != 0) {
        lease_restore(&worker->lease, granted_ns, clock_now_ns(worker->config.clock));
    }
    return 0;
}

static void lease_check(void *context)
{
    struct worker *worker = context;
    enum lease_state state =
        lease_state(&worker->lease, clock_now_ns(worker->config.clock));
    if (state == LEASE_KILL) {
        /* Again at every tick: a VM may have come back to life by adoption meanwhile. */
        unsigned killed = vm_supervisor_kill_all(
            worker->supervisor, "the host lost contact and its lease ended");
        if (killed > 0) {
            log_warn("worker", "lease is over, VMs were ended", KV_U64("vms", killed));
        }
    } else if (state == LEASE_PAUSE && worker->lease_state != LEASE_PAUSE) {
        log_warn("worker", "lease runs out, VMs are frozen",
                 KV_U64("vms", vm_supervisor_freeze_all(worker->supervisor)));
    } else if (state == LEASE_OK) {
        /* At every tick: VMs taken over from an earlier run may have been frozen by it.
         */
        unsigned resumed = vm_supervisor_resume_all(worker->supervisor);
        if (resumed > 0) {
            log_info("worker", "lease holds, frozen VMs go on", KV_U64("vms", resumed));
        }
    }
    worker->lease_state = state;
}

/* The fence is there (again): the lease comes first, for without one it would kill. */
static void fence_connected(void *context)
{
    struct worker *worker = context;
    uint64_t granted_ns = lease_granted_ns(&worker->lease);
    if (granted_ns != 0) {
        fence_client_lease(worker->fence, granted_ns);
    }
    vm_supervisor_watch_all(worker->supervisor);
    loop_post_send(worker->reconcile_post);
}

static bool fence_is_known(void *context, const struct fence_entry *entry)
{
    const struct worker *worker = context;
    return vm_supervisor_knows(worker->supervisor, entry->uid, entry->epoch,
                               (pid_t)entry->pid);
}

/* Enough left that a start is over, or frozen in time, before anybody else may start the
 * VM; and a fence that sees to it. */
static bool lease_allows_start(const struct worker *worker)
{
    uint64_t now_ns = clock_now_ns(worker->config.clock);
    return (worker->fence == NULL || fence_client_ready(worker->fence)) &&
           lease_state(&worker->lease, now_ns) == LEASE_OK &&
           lease_may_run(&worker->lease, now_ns + WORKER_START_LEASE_MS * NS_PER_MS);
}

/* Written down at once: from now on nobody of an earlier term has a say here. */
static void term_take(struct worker *worker, uint64_t term)
{
    if (term > worker->leader_term) {
        worker->leader_term = term;
        grant_store(worker);
    }
}

void worker_on_ack(struct worker *worker,
                   const struct msg_member *from,
                   const struct msg_ack *ack)
{
    if (ack->boot != worker->boot || !may_lead(from) || ack->term < worker->leader_term) {
        return;
    }
    worker->leader = from->uid;
    term_take(worker, ack->term);
    worker->ack_ms = clock_now_ms(worker->config.clock);
    bool was_ok = worker->lease_state == LEASE_OK;
    if (lease_ack(&worker->lease, ack->sequence)) {
        grant_store(worker);
        if (worker->fence != NULL) {
            fence_client_lease(worker->fence, lease_granted_ns(&worker->lease));
        }
        lease_check(worker);
        if (!was_ok) {
            loop_post_send(worker->reconcile_post);
        }
    }
}

void worker_on_not_leader(struct worker *worker,
                          const struct msg_member *from,
                          const struct msg_not_leader *answer)
{
    (void)answer; /* all voters are asked anyway while nobody leads */
    if (worker->leader == from->uid) {
        worker->leader = 0;
    }
}

uint64_t worker_leader(const struct worker *worker)
{
    bool silent = clock_now_ms(worker->config.clock) - worker->ack_ms > WORKER_SILENCE_MS;
    return silent ? 0 : worker->leader;
}

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
    failure->epoch = vm->epoch;
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

/* Starts and removals write to the disk on the loop that also carries the log: a pass
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

/* All boot material here? Fills the paths. */
static bool
images_ready(struct worker *worker, const struct msg_vm *order, struct engine_vm *vm)
{
    for (uint32_t i = 0; i < order->image.artifacts.count; i++) {
        const struct artifact *artifact = &order->image.artifacts.items[i];
        char path[IMAGE_PATH_SIZE];
        if (!image_store_path(worker->config.images, &artifact->sha256, path)) {
            return false;
        }
        REQUIRE(strlen(path) <
                ENGINE_PATH_SIZE); /* identity_open bounds the state folder */
        memcpy(artifact_slot(vm, artifact->role), path, strlen(path) + 1);
    }
    return true;
}

static bool
networks_ready(struct worker *worker, const struct msg_vm *order, struct engine_vm *vm)
{
    for (uint32_t nic = 0; nic < order->nics.count; nic++) {
        struct network_port port;
        worker_network_port(order, nic, &port);
        uint32_t vni = 0;
        for (uint32_t i = 0; i < worker->orders.networks.count; i++) {
            if (worker->orders.networks.items[i].uid == order->nics.items[nic].network) {
                vni = worker->orders.networks.items[i].vni;
            }
        }
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

static void vm_start(struct worker *worker, const struct msg_vm *order)
{
    struct vm_order vm = {0};
    struct err err = {0};
    bool fenced = order->machine.lifecycle.host_failure == HOST_FAILURE_RESTART;
    vm.vm.uid = order->vm;
    vm.vm.epoch = order->epoch;
    (void)snprintf(vm.vm.name, sizeof(vm.vm.name), "%s", order->name);
    (void)snprintf(vm.vm.tenant, sizeof(vm.vm.tenant), "%s", order->tenant);
    if (!images_ready(worker, order, &vm.vm) || !networks_ready(worker, order, &vm.vm) ||
        (fenced && !lease_allows_start(worker))) {
        return; /* looked at again soon */
    }
    if (worker->starting >= worker->config.facts->cores * WORKER_STARTING_PER_CORE ||
        !step_take(worker)) {
        return; /* when one of those has started */
    }
    int r = vm_order_set_machine(&vm, &order->machine, order->image.cmdline, &err);
    worker->starting++;
    if (r == 0) {
        vm.probe_address = order->nics.count > 0 ? order->nics.items[0].ipv4 : 0;
        r = vm_supervisor_start(worker->supervisor, &vm, false, &err);
    }
    if (r == BERTH_EFULL || r == BERTH_EINUSE) {
        return; /* nothing has failed yet; looked at again soon */
    }
    if (r < 0) {
        failure_set(worker, order, PHASE_FAILED, err.text);
    }
}

static void vm_run(struct worker *worker, const struct msg_vm *order)
{
    struct vm_report report;
    const struct failure *failure = u64_map_get(worker->failures, order->vm);
    if (failure != NULL && failure->epoch == order->epoch) {
        return;
    }
    if (!vm_supervisor_report(worker->supervisor, order->vm, &report)) {
        vm_start(worker, order);
    } else if (report.epoch == order->epoch) {
        if (report.held && (!report.fenced || lease_allows_start(worker))) {
            (void)vm_supervisor_cont(worker->supervisor, order->vm, order->epoch,
                                     NULL); /* reconciled again when it fails */
        }
    } else if (report.alive) {
        (void)vm_supervisor_kill(worker->supervisor, order->vm, order->epoch,
                                 "an earlier run of this VM", NULL); /* likewise */
    } else {
        vm_start(worker, order);
    }
}

static void vm_stop(struct worker *worker, const struct msg_vm *order)
{
    struct vm_report report;
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

struct strays {
    struct worker *worker;
    uint64_t uids[VM_SUPERVISOR_VMS_MAX];
    uint64_t epochs[VM_SUPERVISOR_VMS_MAX];
    bool alive[VM_SUPERVISOR_VMS_MAX];
    unsigned count;
};

static void stray_visit(void *context, const struct vm_report *report)
{
    struct strays *strays = context;
    if (order_of(strays->worker, report->uid) == NULL &&
        strays->count < VM_SUPERVISOR_VMS_MAX) {
        strays->uids[strays->count] = report->uid;
        strays->epochs[strays->count] = report->epoch;
        strays->alive[strays->count] = report->alive;
        strays->count++;
    }
}

/* VMs that the orders do not name belong to somebody else by now, or to nobody. */
static void strays_end(struct worker *worker)
{
    struct strays *strays = calloc(1, sizeof(*strays));
    if (strays == NULL) {
        return;
    }
    strays->worker = worker;
    vm_supervisor_each(worker->supervisor, stray_visit, strays);
    for (unsigned i = 0; i < strays->count; i++) {
        if (strays->alive[i]) {
            (void)vm_supervisor_kill(worker->supervisor, strays->uids[i],
                                     strays->epochs[i],
                                     "not ordered to run here any more",
                                     NULL); /* reconciled again when it fails */
        } else if (step_take(worker)) {
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

static void networks_applied(void *context, int code, const struct err *err)
{
    struct worker *worker = context;
    if (code < 0) {
        log_error("worker", "tenant networks are not as ordered",
                  KV_STR("why", err->text));
        worker->networks_again_ms =
            clock_now_ms(worker->config.clock) + NETWORKS_RETRY_MS;
    }
    loop_post_send(worker->reconcile_post);
}

static void networks_set(struct worker *worker)
{
    struct network_want *wants = NULL;
    size_t count = 0;
    struct err err;
    worker->networks_again_ms = clock_now_ms(worker->config.clock) + NETWORKS_REPAIR_MS;
    int r = worker_network_wants(&worker->orders, worker->config.identity->uid,
                                 worker->underlay_mtu, &wants, &count);
    if (r == 0) {
        r = network_apply_set(worker->networks, wants, count, networks_applied, worker,
                              &err);
    } else {
        (void)err_sys(&err, r, "tenant networks");
    }
    if (r < 0) {
        log_error("worker", "tenant networks cannot be set", KV_STR("why", err.text));
    }
    network_wants_free(wants, count);
}

static void starting_visit(void *context, const struct vm_report *report)
{
    struct worker *worker = context;
    worker->starting += report->phase == PHASE_STARTING && !report->held ? 1 : 0;
}

static void reconcile(void *context)
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
    failures_prune(worker);
    strays_end(worker);
    for (uint32_t i = 0; i < worker->orders.vms.count; i++) {
        const struct msg_vm *order = &worker->orders.vms.items[i];
        if (order->order == ORDER_STOP) {
            vm_stop(worker, order);
        } else {
            vm_run(worker, order);
        }
    }
    if (worker->steps_left == 0) {
        loop_post_send(worker->reconcile_post);
    }
}

/* What the VMs here boot from, and their overlays lie on, must not be evicted. */
static void images_keep(struct worker *worker)
{
    const struct msg_vm_list *vms = &worker->orders.vms;
    unsigned count = 0;
    unsigned at = 0;
    struct err err;
    for (uint32_t i = 0; i < vms->count; i++) {
        count += vms->items[i].image.artifacts.count;
    }
    CLEANUP_FREE struct digest *digests = calloc(count + 1, sizeof(*digests));
    for (uint32_t i = 0; digests != NULL && i < vms->count; i++) {
        const struct artifact_list *artifacts = &vms->items[i].image.artifacts;
        for (uint32_t k = 0; k < artifacts->count; k++) {
            digests[at++] = artifacts->items[k].sha256;
        }
    }
    int r = digests == NULL
                ? err_sys(&err, -ENOMEM, "keep %u images", count)
                : image_store_keep(worker->config.images, digests, count, &err);
    if (r < 0) {
        log_warn("worker", "images of VMs may be evicted", KV_STR("why", err.text));
    }
}

static void members_take(struct worker *worker)
{
    bool changed = false;
    struct err err;
    if (members_set(worker->config.members, &worker->orders.members, &changed, &err) <
        0) {
        log_error("worker", "members cannot be written down", KV_STR("why", err.text));
    }
    if (changed) {
        worker->config.members_changed(worker->config.context);
    }
}

void worker_on_orders(struct worker *worker,
                      const struct msg_member *from,
                      struct msg_orders *orders)
{
    if (!may_lead(from) || orders->host != worker->config.identity->uid ||
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
    term_take(worker, worker->orders.term);
    members_take(worker);
    images_keep(worker);
    image_pull_want(worker->pull, &worker->orders.blobs);
    networks_set(worker);
    reconcile(worker);
    loop_post_send(worker->heartbeat_post);
}

static void vm_changed(void *context, const struct vm_report *report)
{
    struct worker *worker = context;
    log_info("worker", "vm changed", KV_STR("vm", report->name),
             KV_STR("phase", phase_names[report->phase]), KV_U64("epoch", report->epoch),
             KV_STR("reason", report->reason));
    loop_post_send(worker->reconcile_post);
    loop_post_send(worker->heartbeat_post);
}

static void images_changed(void *context)
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

/* ---- metrics
 * ---------------------------------------------------------------------------------------
 */

struct metrics_visit {
    struct worker *worker;
    struct bytes_writer *writer;
};

static void metrics_vm(void *context, const struct vm_report *report)
{
    struct metrics_visit *visit = context;
    uintptr_t load = (uintptr_t)u64_map_get(visit->worker->loads, report->uid);
    bytes_write_format(visit->writer,
                       "berth_vm_state{vm=\"%s\",tenant=\"%s\",state=\"%s\"} 1\n",
                       report->name, report->tenant, phase_names[report->phase]);
    if (load > 0) {
        bytes_write_format(visit->writer,
                           "berth_vm_cpu_ratio{vm=\"%s\",tenant=\"%s\"} %.3f\n",
                           report->name, report->tenant, (double)(load - 1) / 1000.0);
    }
}

void worker_metrics(struct worker *worker, struct bytes_writer *writer)
{
    struct metrics_visit visit = {.worker = worker, .writer = writer};
    bytes_write_format(writer,
                       "# TYPE berth_vm_state gauge\n# TYPE berth_vm_cpu_ratio gauge\n");
    vm_supervisor_each(worker->supervisor, metrics_vm, &visit);
    bytes_write_format(
        writer,
        "# TYPE berth_host_memory_used_bytes gauge\n"
        "berth_host_memory_used_bytes %llu\n"
        "# TYPE berth_host_cpu_busy_ratio gauge\nberth_host_cpu_busy_ratio %.3f\n"
        "# TYPE berth_lease_state gauge\nberth_lease_state{state=\"%s\"} 1\n"
        "# TYPE berth_fence_state gauge\nberth_fence_state{state=\"%s\"} 1\n"
        "# TYPE berth_image_pull_bytes_total counter\n"
        "berth_image_pull_bytes_total %llu\n",
        (unsigned long long)worker->usage.memory_used_bytes,
        (double)worker->usage.cpu_busy_permille / 1000.0,
        lease_state_name(worker->lease_state),
        fence_health_names[fence_client_health(worker->fence)],
        (unsigned long long)image_pull_bytes_total(worker->pull));
}

/* ---- life
 * ------------------------------------------------------------------------------------------
 */

/* MTU of the interface that has our address, as the kernel routes to it. */
static uint32_t underlay_mtu_read(uint32_t address)
{
    struct ifconf list;
    struct ifreq requests[64];
    uint32_t mtu = UNDERLAY_MTU_DEFAULT;
    CLEANUP_FD int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    list.ifc_len = (int)sizeof(requests);
    list.ifc_req = requests;
    if (fd < 0 || ioctl(fd, SIOCGIFCONF, &list) < 0) {
        return mtu;
    }
    for (int i = 0; i < list.ifc_len / (int)sizeof(requests[0]); i++) {
        struct sockaddr_in in;
        memcpy(&in, &requests[i].ifr_addr, sizeof(in));
        if (ntohl(in.sin_addr.s_addr) == address &&
            ioctl(fd, SIOCGIFMTU, &requests[i]) == 0 && requests[i].ifr_mtu > 1000) {
            mtu = (uint32_t)requests[i].ifr_mtu;
        }
    }
    return mtu > 9000 ? 9000 : mtu;
}

static int fence_start(struct worker *worker, struct err *err)
{
    const struct fence_client_config fence = {
        .loop = worker->config.loop,
        .folder = worker->config.identity->folder,
        .lease_ns = worker->lease.config.length_ns,
        .watchdog = worker->config.watchdog,
        .groups = worker->groups,
        .context = worker,
        .connected = fence_connected,
        .is_known = fence_is_known,
    };
    worker->fence = fence_client_open(&fence, err);
    return worker->fence != NULL ? 0 : -ENOMEM;
}

static int supervisor_start(struct worker *worker, struct err *err)
{
    static const struct engine_ops *const engines[] = {&engine_qemu, &engine_fake, NULL};
    worker->groups = resource_groups_open(worker->config.identity->name, NULL, err);
    if (worker->groups == NULL) {
        return err != NULL ? err->code : -ENOMEM;
    }
    if (worker->config.fence && fence_start(worker, err) < 0) {
        return err != NULL ? err->code : -ENOMEM;
    }
    const struct vm_supervisor_config config = {
        .host = {.loop = worker->config.loop,
                 .clock = worker->config.clock,
                 .groups = worker->groups,
                 .kvm = worker->config.facts->kvm,
                 .tsc_khz = worker->config.facts->tsc_khz},
        .folder = worker->config.identity->folder,
        .engines = engines,
        .fence = worker->fence,
        .changed = vm_changed,
        .context = worker,
    };
    worker->supervisor = vm_supervisor_open(&config, err);
    return worker->supervisor != NULL ? 0 : err != NULL ? err->code : BERTH_EBUG;
}

static int networks_start(struct worker *worker, struct err *err)
{
    struct network_host host = {.host_id = worker->config.identity->uid,
                                .underlay = worker->config.identity->address,
                                .state_folder = worker->config.identity->folder};
    worker->underlay_mtu = underlay_mtu_read(worker->config.identity->address);
    worker->networks = network_apply_new(worker->config.loop, &host, err);
    return worker->networks != NULL ? 0 : err != NULL ? err->code : BERTH_EBUG;
}

static int timers_start(struct worker *worker, struct err *err)
{
    uv_loop_t *loop = worker->config.loop;
    worker->heartbeat_timer =
        loop_timer_new(loop, 1, WORKER_HEARTBEAT_MS, heartbeat, worker);
    worker->sample_timer =
        loop_timer_new(loop, WORKER_SAMPLE_MS, WORKER_SAMPLE_MS, sample, worker);
    worker->lease_timer =
        loop_timer_new(loop, LEASE_TICK_MS, LEASE_TICK_MS, lease_check, worker);
    worker->retry_timer =
        loop_timer_new(loop, RECONCILE_RETRY_MS, RECONCILE_RETRY_MS, reconcile, worker);
    if (worker->heartbeat_timer == NULL || worker->sample_timer == NULL ||
        worker->lease_timer == NULL || worker->retry_timer == NULL) {
        return err_sys(err, -ENOMEM, "start the worker");
    }
    return 0;
}

int worker_open(const struct worker_config *config,
                struct worker **ret_worker,
                struct err *err)
{
    struct worker *worker = calloc(1, sizeof(*worker));
    if (worker == NULL) {
        return err_sys(err, -ENOMEM, "start the worker");
    }
    REQUIRE(config->identity->uid != 0);
    worker->config = *config;
    worker->lease_fd = -1;
    worker->lease_state = LEASE_OK; /* as left behind; the first check corrects it */
    record_init(&msg_orders_record, &worker->orders);
    random_secret(&worker->boot, sizeof(worker->boot));
    uint64_t first = 0;
    random_secret(&first, sizeof(first));
    const struct lease_config lease_config = lease_config_default();
    lease_init(&worker->lease, &lease_config, (first >> 16) + 1);
    worker->failures = u64_map_new();
    worker->loads = u64_map_new();
    worker->reconcile_post = loop_post_new(config->loop, reconcile, worker);
    worker->heartbeat_post = loop_post_new(config->loop, heartbeat, worker);
    worker->pull =
        image_pull_new(config->loop, config->clock, config->images, config->link);
    int r = worker->failures == NULL || worker->loads == NULL ||
                    worker->reconcile_post == NULL || worker->heartbeat_post == NULL ||
                    worker->pull == NULL
                ? err_sys(err, -ENOMEM, "start the worker")
                : grant_load(worker, err);
    r = r == 0 ? supervisor_start(worker, err) : r;
    r = r == 0 ? networks_start(worker, err) : r;
    r = r == 0 ? timers_start(worker, err) : r;
    if (r < 0) {
        worker_close(worker);
        return r;
    }
    (void)host_usage_sample(&worker->sampler, config->identity->folder, &worker->usage,
                            NULL); /* zeros until the first sample */
    image_store_on_change(config->images, images_changed, worker);
    *ret_worker = worker;
    return 0;
}

struct worker *worker_close(struct worker *worker)
{
    if (worker == NULL) {
        return NULL;
    }
    image_store_on_change(worker->config.images, NULL, NULL);
    loop_timer_close(worker->heartbeat_timer);
    loop_timer_close(worker->sample_timer);
    loop_timer_close(worker->lease_timer);
    loop_timer_close(worker->retry_timer);
    loop_post_close(worker->reconcile_post);
    loop_post_close(worker->heartbeat_post);
    image_pull_free(worker->pull);
    vm_supervisor_close(worker->supervisor);
    fence_client_close(worker->fence);
    network_apply_close(worker->networks);
    resource_groups_close(worker->groups);
    size_t cursor = 0;
    uint64_t uid;
    void *value;
    while (worker->failures != NULL &&
           u64_map_next(worker->failures, &cursor, &uid, &value)) {
        free(value);
    }
    u64_map_free(worker->failures);
    u64_map_free(worker->loads);
    u64_map_free(worker->orders_index);
    record_fini(&msg_orders_record, &worker->orders);
    fd_close(&worker->lease_fd);
    free(worker);
    return NULL;
}
