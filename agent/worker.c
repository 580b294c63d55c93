#include "agent/worker.h"

#include "agent/engine_fake.h"
#include "agent/engine_kvm.h"
#include "agent/engine_qemu.h"
#include "agent/worker_parts.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/loop.h"
#include "base/random.h"
#include "base/require.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#define UNDERLAY_MTU_DEFAULT 1500
#define DISK_QUEUE           2 /* the term and the members, each once at a time */
#define RECONCILE_RETRY_MS \
    500 /* what waits for an image or a network is looked at again */

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
        .connected = worker_fence_connected,
        .is_known = worker_fence_is_known,
    };
    worker->fence = fence_client_open(&fence, err);
    return worker->fence != NULL ? 0 : -ENOMEM;
}

static int supervisor_start(struct worker *worker, struct err *err)
{
    static const struct engine_ops *const engines[] = {&engine_kvm, &engine_qemu,
                                                       &engine_fake, NULL};
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
                 .tsc_khz = worker->config.facts->tsc_khz,
                 .first_uid = worker->config.vm_uids},
        .folder = worker->config.identity->folder,
        .engines = engines,
        .fence = worker->fence,
        .changed = worker_vm_changed,
        .snapshots_changed = worker_snapshots_changed,
        .reserve_bytes = worker->config.disk.reserve_bytes,
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
        loop_timer_new(loop, 1, WORKER_HEARTBEAT_MS, worker_heartbeat, worker);
    worker->sample_timer =
        loop_timer_new(loop, WORKER_SAMPLE_MS, WORKER_SAMPLE_MS, worker_sample, worker);
    worker->lease_timer =
        loop_timer_new(loop, WORKER_LEASE_LOOK_MS, 0, worker_lease_check, worker);
    worker->lease_look = loop_timer_new(loop, WORKER_LEASE_LOOK_MS, WORKER_LEASE_LOOK_MS,
                                        worker_lease_check, worker);
    worker->retry_timer = loop_timer_new(loop, RECONCILE_RETRY_MS, RECONCILE_RETRY_MS,
                                         worker_reconcile, worker);
    if (worker->heartbeat_timer == NULL || worker->sample_timer == NULL ||
        worker->lease_timer == NULL || worker->lease_look == NULL ||
        worker->retry_timer == NULL) {
        return err_sys(err, -ENOMEM, "start the worker");
    }
    loop_timer_slacken(worker->lease_look, WORKER_LEASE_LOOK_SLACK_MS);
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
    worker->counts = u64_map_new();
    worker->reconcile_post = loop_post_new(config->loop, worker_reconcile, worker);
    worker->heartbeat_post = loop_post_new(config->loop, worker_heartbeat, worker);
    worker->disk = work_pool_new(config->loop, 1, DISK_QUEUE);
    worker->pull =
        image_pull_new(config->loop, config->clock, config->images, config->link);
    int r = worker->failures == NULL || worker->loads == NULL || worker->counts == NULL ||
                    worker->reconcile_post == NULL || worker->heartbeat_post == NULL ||
                    worker->pull == NULL || worker->disk == NULL
                ? err_sys(err, -ENOMEM, "start the worker")
                : worker_grant_load(worker, err);
    r = r == 0 ? supervisor_start(worker, err) : r;
    if (r == 0) {
        worker_images_keep(worker);
    }
    r = r == 0 ? networks_start(worker, err) : r;
    r = r == 0 ? timers_start(worker, err) : r;
    if (r < 0) {
        worker_close(worker);
        return r;
    }
    worker_taken_look(worker); /* before the first heartbeat: VMs come after it */
    (void)host_usage_sample(&worker->sampler, config->identity->folder, &worker->usage,
                            NULL); /* zeros until the first sample */
    image_store_on_change(config->images, worker_images_changed, worker);
    *ret_worker = worker;
    return 0;
}

struct worker *worker_close(struct worker *worker)
{
    if (worker == NULL) {
        return NULL;
    }
    image_store_on_change(worker->config.images, NULL, NULL);
    if (worker->disk != NULL) {
        work_pool_drain(worker->disk); /* its jobs are parts of us */
        /* The last attempt; after it the next leader's orders, or a voter's word. */
        (void)members_save(worker->config.members, NULL);
    }
    work_pool_close(worker->disk);
    loop_timer_close(worker->heartbeat_timer);
    loop_timer_close(worker->sample_timer);
    loop_timer_close(worker->lease_timer);
    loop_timer_close(worker->lease_look);
    loop_timer_close(worker->retry_timer);
    loop_post_close(worker->reconcile_post);
    loop_post_close(worker->heartbeat_post);
    image_pull_free(worker->pull);
    vm_supervisor_close(worker->supervisor);
    fence_client_close(worker->fence);
    network_apply_close(worker->networks);
    network_taken_fini(&worker->taken);
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
    u64_map_free(worker->counts);
    u64_map_free(worker->orders_index);
    record_fini(&msg_orders_record, &worker->orders);
    fd_close(&worker->lease_fd);
    free(worker);
    return NULL;
}
