/* What a host says of itself and its VMs: heartbeats, load, metrics. */
#include "agent/vm_metrics.h"
#include "agent/vm_rates.h"
#include "agent/worker_parts.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/version.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define UNSAID_MS 60000 /* between two complaints of one that cannot be sent */

/* ---- what is said upwards
 * -------------------------------------------------------------------------- */

/* Beside the reserve, and what is set aside in huge pages. */
static uint64_t memory_for_vms(const struct worker_config *config, uint64_t pool_bytes)
{
    uint64_t reserve = config->memory_reserve_bytes + pool_bytes;
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
    const uint64_t pool_bytes = host_pool_bytes(); /* its owner may change it */
    ret_status->memory_bytes = memory_for_vms(config, pool_bytes);
    ret_status->pool_bytes =
        (facts->engines & ENGINE_BIT(ENGINE_KVM)) != 0 ? pool_bytes : 0;
    ret_status->engines = facts->engines;
    ret_status->kvm = facts->kvm;
    ret_status->cores = facts->cores;
    ret_status->numa_nodes = facts->numa_nodes;
    ret_status->cpu_baseline = facts->cpu_baseline;
    uint64_t disk_bytes = host_disk_bytes(identity->folder);
    if (disk_bytes > 0) {
        ret_status->disk_bytes = disk_for_vms(&config->disk, disk_bytes);
    }
    int r = record_set_text(&ret_status->kernel, facts->kernel);
    return r < 0 ? r : record_set_text(&ret_status->version, BERTH_VERSION);
}

struct seen_list {
    struct worker *worker;
    unsigned counts_room;
    struct record_list list;
};

static struct msg_vm_seen *seen_add(struct seen_list *seen)
{
    return record_list_add(&msg_vm_seen_record, &seen->list);
}

static bool vm_has_ended(const struct vm_report *report)
{
    return !report->alive &&
           (report->phase == PHASE_STOPPED || report->phase == PHASE_FAILED);
}

/* Of a VM that could not be started the run before is no news; of one that runs all the
 * same the failure is none. */
static bool is_replaced(const struct vm_report *report, const struct failure *failure)
{
    return failure != NULL && !(report->alive && report->epoch >= failure->epoch);
}

static void seen_visit(void *context, const struct vm_report *report)
{
    struct seen_list *seen = context;
    const struct failure *failure = u64_map_get(seen->worker->failures, report->uid);
    struct msg_vm_seen *item =
        report->epoch != 0 && !is_replaced(report, failure) ? seen_add(seen) : NULL;
    if (item == NULL) {
        return;
    }
    item->vm = report->uid;
    item->epoch = report->epoch;
    item->phase = report->phase;
    item->engine = report->engine;
    item->paused = report->paused;
    item->at_wall_ms = report->since_wall_ms;
    item->starting_wall_ms = report->start_wall_ms;
    item->running_wall_ms = report->running_wall_ms;
    item->disk_epoch = vm_has_ended(report) && !report->diskless ? report->epoch : 0;
    char reason[256];
    (void)snprintf(reason, sizeof(reason), "%.255s", report->reason);
    (void)record_set_text(&item->reason, reason[0] != '\0' ? reason : NULL);
    uintptr_t load = (uintptr_t)u64_map_get(seen->worker->loads, report->uid);
    if (seen->worker->sampled && load > 0) {
        item->sampled = true;
        item->cpu_permille = (uint32_t)(load - 1);
    }
    vm_rates_fill_news(seen->worker->counts, &seen->counts_room,
                       vm_supervisor_stats(seen->worker->supervisor, report->uid), item);
}

static void seen_failures(struct seen_list *seen)
{
    size_t cursor = 0;
    uint64_t uid;
    void *value;
    while (u64_map_next(seen->worker->failures, &cursor, &uid, &value)) {
        const struct failure *failure = value;
        struct vm_report report;
        bool stands = !vm_supervisor_report(seen->worker->supervisor, uid, &report) ||
                      report.epoch == 0 || is_replaced(&report, failure);
        struct msg_vm_seen *item = stands ? seen_add(seen) : NULL;
        if (item != NULL) {
            item->vm = uid;
            item->epoch = failure->epoch;
            item->phase = failure->phase;
            item->at_wall_ms = failure->at_wall_ms;
            item->disk_epoch = failure->disk_epoch;
            (void)record_set_text(&item->reason, failure->reason);
        }
    }
}

_Static_assert(ORDERS_VMS_MAX <= HEARTBEAT_VMS_MAX, "all that is ordered is told of");

static unsigned rank_of(const struct u64_map *orders_index,
                        const struct msg_vm_seen *seen)
{
    if (orders_index != NULL && u64_map_get(orders_index, seen->vm) != NULL) {
        return 0;
    }
    return seen->phase == PHASE_STOPPED || seen->phase == PHASE_FAILED ? 2 : 1;
}

void worker_seen_cut(const struct u64_map *orders_index, struct record_list *list)
{
    struct msg_vm_seen *items = list->items;
    uint32_t kept = 0;
    if (list->count <= HEARTBEAT_VMS_MAX) {
        return;
    }
    for (unsigned rank = 0; rank <= 2; rank++) {
        for (uint32_t i = kept; i < list->count && kept < HEARTBEAT_VMS_MAX; i++) {
            if (rank_of(orders_index, &items[i]) == rank) {
                struct msg_vm_seen item = items[i];
                items[i] = items[kept];
                items[kept++] = item;
            }
        }
    }
    while (list->count > kept) {
        record_fini(&msg_vm_seen_record, &items[--list->count]);
    }
}

static void vms_fill(struct worker *worker, struct msg_vm_seen_list *ret_list)
{
    struct seen_list seen = {.worker = worker, .counts_room = VM_RATES_TOLD_MAX};
    vm_supervisor_each(worker->supervisor, seen_visit, &seen);
    seen_failures(&seen);
    worker_seen_cut(worker->orders_index, &seen.list);
    ret_list->items = seen.list.items;
    ret_list->count = seen.list.count;
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
        list->items[i].unchecked = files[i].unchecked;
    }
    return 0;
}

_Static_assert(NETWORK_TAKEN_SIZE <= HOST_RANGE_TEXT_SIZE,
               "a heartbeat with longer words would not be sent, and the host be lost");
_Static_assert(NETWORK_TAKEN_MAX <= HOST_RANGES_MAX, "likewise with more of them");

/* As many as there is memory for: without them a clash is found when the network is
 * made, while a host that says nothing is given up. */
static void taken_fill(const struct worker *worker, struct msg_taken_list *list)
{
    size_t count = worker->taken.count;
    list->items = count > 0 ? calloc(count, sizeof(*list->items)) : NULL;
    if (list->items == NULL) {
        return;
    }
    for (; list->count < count; list->count++) {
        const struct network_taken *taken = &worker->taken.ranges[list->count];
        struct msg_taken *item = &list->items[list->count];
        item->ipv4 = taken->range.address;
        item->prefix_bits = taken->range.prefix_bits;
        (void)record_set_text(&item->text, taken->text); /* the range is what counts */
    }
}

_Static_assert(NETWORK_CARRIED_MAX <= HOST_CARRIED_MAX, "and here");

static void carried_fill(const struct worker *worker, struct msg_carried_list *list)
{
    size_t count = worker->taken.carried_count;
    list->items = count > 0 ? calloc(count, sizeof(*list->items)) : NULL;
    for (; list->items != NULL && list->count < count; list->count++) {
        list->items[list->count].vni = worker->taken.carried[list->count];
    }
}

/* Orders of an earlier leader are none of this one's, even if they say the same. And the
 * hosts that they name have to be found again after a start: who would not know the next
 * leader then has not taken them over. */
static bool orders_are_taken(const struct worker *worker)
{
    return worker->orders.term == worker->leader_term && !worker->config.members->unsaved;
}

/* A host that cannot say how it is loses its lease and then its VMs: nobody else knows
 * why. */
static void tell_unsaid(struct worker *worker, int why)
{
    uint64_t now_ms = clock_now_ms(worker->config.clock);
    if (why >= 0 || now_ms < worker->unsaid_ms) {
        return;
    }
    worker->unsaid_ms = now_ms + UNSAID_MS;
    log_error("worker", "the heartbeat of this host cannot be sent",
              KV_STR("why", err_sentence(why)));
}

/* Who is not reached now is by the next one. */
static void heartbeat_send_to(struct worker *worker,
                              uint64_t host,
                              const struct msg_heartbeat *heartbeat)
{
    int r = link_send(worker->config.link, host, MESSAGE_HEARTBEAT, heartbeat);
    bool ours = r == BERTH_ETOOLARGE || r == BERTH_EINVALID || r == -ENOMEM;
    tell_unsaid(worker, ours ? r : 0);
}

/* To the leader that answers; to all voters while nobody does. */
static void heartbeat_send(struct worker *worker, const struct msg_heartbeat *heartbeat)
{
    uint64_t leader = worker_leader(worker);
    if (leader != 0) {
        heartbeat_send_to(worker, leader, heartbeat);
        return;
    }
    const struct msg_member_list *list = &worker->config.members->list;
    bool voters_known = false;
    for (uint32_t i = 0; i < list->count; i++) {
        voters_known = voters_known || worker_may_follow(&list->items[i]);
    }
    for (uint32_t i = 0; i < list->count; i++) {
        if (!voters_known || worker_may_follow(&list->items[i])) {
            heartbeat_send_to(worker, list->items[i].uid, heartbeat);
        }
    }
}

void worker_heartbeat(void *context)
{
    struct worker *worker = context;
    struct msg_heartbeat message;
    loop_timer_again(worker->heartbeat_timer, WORKER_REPEAT_MS, WORKER_HEARTBEAT_MS);
    record_init(&msg_heartbeat_record, &message);
    message.host = worker->config.identity->uid;
    message.boot = worker->boot;
    message.desired_hash = orders_are_taken(worker) ? worker->orders_hash : 0;
    message.cpu_used_mcpu = worker->usage.cpu_busy_permille * worker->config.facts->cores;
    message.memory_used_bytes = worker->usage.memory_used_bytes;
    message.disk_free_bytes =
        worker->usage.disk_free_bytes > worker->config.disk.reserve_bytes
            ? worker->usage.disk_free_bytes - worker->config.disk.reserve_bytes
            : 0;
    message.revision = worker->config.revision(worker->config.context);
    message.level_min = worker->config.levels.min;
    message.level_max = worker->config.levels.max;
    message.fence = fence_client_health(worker->fence);
    vms_fill(worker, &message.vms);
    worker_snapshots_fill(worker, &message.snapshots);
    int r = blobs_fill(worker, &message.blobs);
    r = r == 0 ? worker_status(&worker->config, &message.status) : r;
    tell_unsaid(worker, r);
    if (r == 0) {
        taken_fill(worker, &message.taken);
        carried_fill(worker, &message.carried);
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

void worker_taken_look(struct worker *worker)
{
    struct network_taken_look look;
    if (worker->networks == NULL || worker->taken_look > 0) {
        worker->taken_look -= worker->taken_look > 0 ? 1U : 0U;
        return;
    }
    worker->taken_look = WORKER_TAKEN_SAMPLES;
    if (network_apply_taken(worker->networks, &look, NULL) < 0) {
        return; /* what was seen last stands; a clash is found when the network is made */
    }
    if (!look.complete && !worker->taken_cut) {
        log_warn("worker",
                 "this host has more ranges of its own than it tells: VMs whose network "
                 "overlaps another one come here and fail",
                 KV_U64("told", look.count));
    }
    worker->taken_cut = !look.complete;
    network_taken_fini(&worker->taken);
    worker->taken = look;
}

void worker_taken_look_again(struct worker *worker)
{
    if (worker->taken_look < WORKER_TAKEN_SAMPLES) {
        worker->taken_look = 0;
        worker_taken_look(worker);
    }
}

void worker_sample(void *context)
{
    struct worker *worker = context;
    vm_supervisor_each(worker->supervisor, sample_visit, worker);
    worker_taken_look(worker);
    (void)host_usage_sample(&worker->sampler, worker->config.identity->folder,
                            &worker->usage, NULL); /* the old figures stand */
    worker->sampled = true;
}

/* ---- metrics
 * ---------------------------------------------------------------------------------------
 */

struct metrics_visit {
    struct worker *worker;
    struct bytes_writer *writer;
};

static void metrics_vm_state(void *context, const struct vm_report *report)
{
    const struct metrics_visit *visit = context;
    bytes_write_format(visit->writer,
                       "berth_vm_state{vm=\"%s\",tenant=\"%s\",state=\"%s\"} 1\n",
                       report->name, report->tenant, phase_names[report->phase]);
}

static void metrics_vm_load(void *context, const struct vm_report *report)
{
    const struct metrics_visit *visit = context;
    uintptr_t load = (uintptr_t)u64_map_get(visit->worker->loads, report->uid);
    if (load > 0) {
        bytes_write_format(visit->writer,
                           "berth_vm_cpu_ratio{vm=\"%s\",tenant=\"%s\"} %.3f\n",
                           report->name, report->tenant, (double)(load - 1) / 1000.0);
    }
}

struct metrics_gather {
    const struct worker *worker;
    struct vm_metrics metrics;
};

static void metrics_vm_stats(void *context, const struct vm_report *report)
{
    struct metrics_gather *gather = context;
    vm_metrics_add(&gather->metrics, report->name, report->tenant,
                   vm_supervisor_stats(gather->worker->supervisor, report->uid));
}

/* What VMs' programs have counted. */
static void metrics_counted(const struct worker *worker, struct bytes_writer *writer)
{
    struct metrics_gather gather = {.worker = worker};
    vm_supervisor_each(worker->supervisor, metrics_vm_stats, &gather);
    vm_metrics_write(&gather.metrics, writer, VM_METRICS_SIZE_MAX);
    vm_metrics_fini(&gather.metrics);
}

void worker_metrics(struct worker *worker, struct bytes_writer *writer)
{
    struct metrics_visit visit = {.worker = worker, .writer = writer};
    /* Each family in one piece, as the exposition format has it. */
    bytes_write_format(
        writer, "# HELP berth_vm_state Phase of each VM on this host, as a label.\n"
                "# TYPE berth_vm_state gauge\n");
    vm_supervisor_each(worker->supervisor, metrics_vm_state, &visit);
    bytes_write_format(
        writer,
        "# HELP berth_vm_cpu_ratio CPU use of each VM: 1 is all of its vCPUs busy.\n"
        "# TYPE berth_vm_cpu_ratio gauge\n");
    vm_supervisor_each(worker->supervisor, metrics_vm_load, &visit);
    bytes_write_format(
        writer,
        "# HELP berth_host_memory_used_bytes Memory in use on this host, by whatever.\n"
        "# TYPE berth_host_memory_used_bytes gauge\n"
        "berth_host_memory_used_bytes %llu\n"
        "# HELP berth_host_cpu_busy_ratio CPU use of this host: 1 is all of its CPUs "
        "busy.\n"
        "# TYPE berth_host_cpu_busy_ratio gauge\nberth_host_cpu_busy_ratio %.3f\n"
        "# HELP berth_lease_state State of this host's lease, as a label.\n"
        "# TYPE berth_lease_state gauge\nberth_lease_state{state=\"%s\"} 1\n"
        "# HELP berth_fence_state Health of this host's berth-fence, as a label.\n"
        "# TYPE berth_fence_state gauge\nberth_fence_state{state=\"%s\"} 1\n"
        "# HELP berth_image_pull_bytes_total Bytes of images fetched from other hosts.\n"
        "# TYPE berth_image_pull_bytes_total counter\n"
        "berth_image_pull_bytes_total %llu\n",
        (unsigned long long)worker->usage.memory_used_bytes,
        (double)worker->usage.cpu_busy_permille / 1000.0,
        lease_state_name(worker->lease_state),
        fence_health_names[fence_client_health(worker->fence)],
        (unsigned long long)image_pull_bytes_total(worker->pull));
    metrics_counted(worker, writer);
}
