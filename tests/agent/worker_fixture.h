/* A worker with a leader that the test plays.
 *
 * A real worker with real VM processes of the fake engine and a real link; the other end
 * of the link is the test; the clock that leases are counted by is the test's. `start` in
 * the test (a mesh must not cross a fork) makes a network namespace of its own, for the
 * worker puts tenant networks right; `stop` at its end. A main begins with
 * engine_fake_main, for the VM processes are the test program itself.
 */
#pragma once

#include "agent/disk_format.h"
#include "agent/engine_fake.h"
#include "agent/image_writer.h"
#include "agent/worker_parts.h"
#include "link_fixture.h"

#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define L_MS     6000 /* the lease, model.md */
#define PAUSE_MS (L_MS * 7 / 10)
#define KILL_MS  (L_MS * 9 / 10)
#define FENCED   11   /* may be restarted elsewhere */
#define WAITS    12   /* waits for its host */
#define STRAYS   1000 /* and above: others that it tells of */
#define TERM     5

static uint64_t now_ms;
static struct worker *worker;
static struct image_store *images;
static struct host_facts facts = {.cores = 2, .memory_bytes = 1 * GIB, .kernel = "test"};
static struct digest kernel;
static struct digest hostile_disk;
static bool boots_hostile_disk;   /* what add_vm orders */
static bool orders_no_disks;      /* likewise */
static uint32_t orders_cpus;      /* of four; 0: the first, for good */
static uint64_t orders_iops;      /* of the disks, likewise */
static bool orders_blobs;         /* the leader is said to hold their image */
static struct digest orders_base; /* named beside it, when it is set */
static uint64_t cache_bytes = GIB;
static unsigned delivered;  /* orders that have reached the worker */
static unsigned acks_heard; /* by the worker's host, of the leader's */
static uint64_t forgotten;  /* the VM that was, last */

/* What the leader has heard. */
static struct {
    bool acks;
    unsigned acked; /* times */
    uint64_t ahead; /* of TERM, the term that it acks in */
    uint64_t sequence;
    uint64_t boot;
    unsigned beats;
    uint64_t taken;       /* hash of the orders that the worker says it follows */
    unsigned own_ranges;  /* that the newest heartbeat tells of, on the loopback */
    unsigned on_link;     /* likewise, that the host reaches directly */
    unsigned strays;      /* other VMs, at most in one */
    unsigned asked;       /* times, for the image */
    unsigned unchecked;   /* images that the newest heartbeat says so of */
    uint32_t carried;     /* a network that is there all the same, or 0 */
    enum phase phases[2]; /* of FENCED and WAITS; PENDING: not seen */
    uint64_t epochs[2];
    uint64_t disk_epochs[2];
    char reasons[2][256];
    bool paused; /* WAITS is, for its user */
    uint32_t engine;
    struct {
        uint64_t uid; /* of the only one; 0: none is told of */
        uint32_t phase;
        uint64_t vm, epoch, bytes;
        char reason[256];
    } snapshot;
    uint32_t level_told;
    uint64_t revision; /* that its acks say */
} leader;

static inline uint64_t scripted_ns(void *context)
{
    (void)context;
    return now_ms * NS_PER_MS;
}

static inline uint64_t scripted_wall_ms(void *context)
{
    (void)context;
    return now_ms;
}

static const struct clock scripted = {.now_ns = scripted_ns, .wall_ms = scripted_wall_ms};

/* ---- the two ends of the link ---- */

static inline void worker_hears(struct rack_host *host,
                                const struct msg_member *from,
                                enum message_type type,
                                void *message)
{
    (void)host;
    if (type == MESSAGE_ACK && from->uid == 2) {
        acks_heard++;
    }
    if (worker == NULL) {
        return;
    }
    if (type == MESSAGE_ORDERS) {
        worker_on_orders(worker, from, message);
        delivered++;
    } else if (type == MESSAGE_ACK) {
        worker_on_ack(worker, from, message);
    } else if (type == MESSAGE_NOT_LEADER) {
        worker_on_not_leader(worker, from, message);
    } else if (type == MESSAGE_OUTDATED) {
        worker_on_outdated(worker, from, message);
        delivered++;
    }
}

static inline void ack(uint64_t sequence)
{
    const struct msg_ack message = {.sequence = sequence,
                                    .boot = leader.boot,
                                    .leader = 2,
                                    .level = LEVEL_FIRST,
                                    .term = TERM + leader.ahead,
                                    .revision = leader.revision};
    ck_assert_int_eq(link_send(rack.hosts[1].link, 1, MESSAGE_ACK, &message), 0);
    leader.acked++;
}

static inline void leader_hears(struct rack_host *host,
                                const struct msg_member *from,
                                enum message_type type,
                                void *message)
{
    const struct msg_heartbeat *heartbeat = message;
    (void)host;
    (void)from;
    if (type == MESSAGE_BLOB_ASK) {
        const struct msg_blob_ask *ask = message;
        leader.asked += digest_equal(&ask->sha256, &kernel) ? 1U : 0U;
    }
    if (type != MESSAGE_HEARTBEAT) {
        return;
    }
    leader.beats++;
    leader.unchecked = 0;
    for (uint32_t i = 0; i < heartbeat->blobs.count; i++) {
        leader.unchecked += heartbeat->blobs.items[i].unchecked ? 1U : 0U;
    }
    leader.sequence = heartbeat->sequence;
    leader.boot = heartbeat->boot;
    leader.taken = heartbeat->desired_hash;
    leader.own_ranges = 0;
    leader.on_link = 0;
    leader.carried = heartbeat->carried.count > 0 ? heartbeat->carried.items[0].vni : 0;
    for (uint32_t i = 0; i < heartbeat->taken.count; i++) {
        const char *text = heartbeat->taken.items[i].text;
        leader.own_ranges +=
            text != NULL && strstr(text, "an address of this host (link lo)") != NULL
                ? 1U
                : 0U;
        leader.on_link +=
            text != NULL && strstr(text, "which this host reaches directly") != NULL ? 1U
                                                                                     : 0U;
    }
    leader.snapshot.uid = 0;
    ck_assert_uint_le(heartbeat->snapshots.count, 1);
    for (uint32_t i = 0; i < heartbeat->snapshots.count; i++) {
        const struct msg_snapshot_seen *seen = &heartbeat->snapshots.items[i];
        leader.snapshot.uid = seen->snapshot;
        leader.snapshot.phase = seen->phase;
        leader.snapshot.vm = seen->vm;
        leader.snapshot.epoch = seen->epoch;
        leader.snapshot.bytes = seen->bytes;
        (void)snprintf(leader.snapshot.reason, sizeof(leader.snapshot.reason), "%s",
                       seen->reason != NULL ? seen->reason : "");
    }
    memset(leader.phases, 0, sizeof(leader.phases));
    unsigned strays = 0;
    for (uint32_t i = 0; i < heartbeat->vms.count; i++) {
        const struct msg_vm_seen *seen = &heartbeat->vms.items[i];
        if (seen->vm >= STRAYS) {
            strays++;
            continue;
        }
        ck_assert(seen->vm == FENCED || seen->vm == WAITS);
        ck_assert_int_eq(leader.phases[seen->vm - FENCED], PHASE_PENDING); /* told once */
        leader.phases[seen->vm - FENCED] = (enum phase)seen->phase;
        leader.epochs[seen->vm - FENCED] = seen->epoch;
        leader.paused = seen->vm == WAITS ? seen->paused : leader.paused;
        leader.engine = seen->vm == WAITS ? seen->engine : leader.engine;
        leader.disk_epochs[seen->vm - FENCED] = seen->disk_epoch;
        (void)snprintf(leader.reasons[seen->vm - FENCED], 256, "%s",
                       seen->reason != NULL ? seen->reason : "");
    }
    leader.strays = strays > leader.strays ? strays : leader.strays;
    if (leader.acks) {
        ack(heartbeat->sequence);
    }
}

/* ---- arranging ---- */

static inline void own_network(void)
{
    struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP};
    ck_assert_int_eq(unshare(CLONE_NEWNET), 0);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(ioctl(fd, SIOCSIFFLAGS, &request), 0);
    ck_assert_int_eq(close(fd), 0);
}

static inline void members_changed(void *context)
{
    (void)context;
    link_members_changed(rack.hosts[0].link);
}

static inline void vm_forgotten(void *context, uint64_t vm)
{
    (void)context;
    forgotten = vm;
}

static inline void level_told(void *context, uint32_t level)
{
    (void)context;
    leader.level_told = level;
}

static inline uint64_t no_revision(void *context)
{
    (void)context;
    return 0;
}

static inline void open_worker(void)
{
    struct err err = {0};
    const struct worker_config config = {
        .loop = &rack.loop,
        .clock = &scripted,
        .identity = &rack.hosts[0].identity,
        .members = &rack.hosts[0].members,
        .link = rack.hosts[0].link,
        .images = images,
        .facts = &facts,
        .cpu_overcommit = HOST_OVERCOMMIT,
        .members_changed = members_changed,
        .vm_forgotten = vm_forgotten,
        .level_told = level_told,
        .levels = level_range_up_to(0),
        .revision = no_revision,
    };
    int r = worker_open(&config, &worker, &err);
    ck_assert_msg(r == 0, "%s", err.text);
}

static inline void note_done(void *context,
                             int code,
                             const struct digest *digest,
                             uint64_t size_bytes,
                             const char *text)
{
    (void)size_bytes;
    ck_assert_msg(code == 0, "%s", text);
    kernel = *digest;
    *(bool *)context = true;
}

/* A disk image that nobody takes any more, left by a host of an earlier version. */
static inline void plant_hostile_disk(const char *folder)
{
    static const uint8_t head[DISK_FORMAT_HEAD] = {
        'Q', 'F', 'I', 0xfb, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 11};
    char hex[DIGEST_HEX_SIZE];
    char path[512];
    digest_of(head, sizeof(head), &hostile_disk);
    digest_format(&hostile_disk, hex);
    ck_assert_int_eq(mkdir(folder, 0700), 0);
    (void)snprintf(path, sizeof(path), "%s/%s", folder, hex);
    FILE *file = fopen(path, "we");
    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fwrite(head, 1, sizeof(head), file), sizeof(head));
    ck_assert_int_eq(fclose(file), 0);
}

/* From now on orders name it. */
static inline void bring_kernel(const char *content)
{
    bool done = false;
    struct image_writer *writer = image_writer_begin(images, NULL, strlen(content), NULL);
    ck_assert_int_eq(image_writer_write(writer, content, strlen(content), NULL), 0);
    image_writer_end(writer, note_done, &done);
    RACK_WAIT(done);
}

static inline void open_store(void)
{
    struct err err = {0};
    char *folder = temp_dir_path(&rack.hosts[0].dir, "images");
    const struct image_limits limits = {.cache_bytes = cache_bytes};
    int r = image_store_open(&rack.loop, folder, &limits, &images, &err);
    ck_assert_msg(r == 0, "%s", err.text);
    free(folder);
}

static inline void open_images(void)
{
    char *folder = temp_dir_path(&rack.hosts[0].dir, "images");
    plant_hostile_disk(folder);
    free(folder);
    open_store();
    bring_kernel("kernel");
}

static inline void start(void)
{
    signal(SIGPIPE, SIG_IGN);
    own_network();
    memset(&leader, 0, sizeof(leader));
    now_ms = 1000000;
    delivered = 0;
    acks_heard = 0;
    forgotten = 0;
    leader.acks = true;
    rack_start(3);
    /* Control groups are the machine's: other test programs have theirs beside ours. */
    (void)snprintf(rack.hosts[0].identity.name, NAME_SIZE, "h1-%d", getpid());
    open_images();
    rack.hosts[0].hear = worker_hears;
    rack.hosts[1].hear = leader_hears;
    open_worker();
}

static inline void kill_one(void *context, const struct vm_report *report)
{
    (void)context;
    if (report->pid > 0) {
        (void)kill(report->pid, SIGKILL);
    }
}

/* The control groups of this host, when the last process has left them. */
static inline void groups_remove(void)
{
    const uint64_t uids[] = {FENCED, WAITS};
    struct resource_groups *groups =
        resource_groups_open(rack.hosts[0].identity.name, NULL, NULL);
    ck_assert_ptr_nonnull(groups);
    for (size_t i = 0; i < sizeof(uids) / sizeof(uids[0]); i++) {
        while (resource_group_remove(groups, uids[i]) == -EBUSY) {
            (void)resource_group_freeze(groups, uids[i], false); /* or it cannot die */
            (void)resource_group_kill(groups, uids[i]);
            (void)uv_run(&rack.loop, UV_RUN_NOWAIT); /* it reaps its own children */
            sched_yield();
        }
    }
    resource_groups_remove(groups);
    resource_groups_close(groups);
}

static inline void stop(void)
{
    vm_supervisor_each(worker_supervisor(worker), kill_one, NULL);
    rack.hosts[0].hear = NULL;
    rack.hosts[1].hear = NULL;
    worker = worker_close(worker);
    images = image_store_close(images);
    groups_remove();
    rack_stop();
}

static inline void add_vm(struct record_list *list,
                          uint64_t uid,
                          uint64_t epoch,
                          enum order order,
                          enum engine engine,
                          uint64_t disk_epoch)
{
    struct record_list artifacts = {0};
    struct record_list disks = {0};
    struct msg_vm *vm = record_list_add(&msg_vm_record, list);
    ck_assert_ptr_nonnull(vm);
    vm->vm = uid;
    vm->epoch = epoch;
    vm->order = order;
    vm->disk_epoch = disk_epoch;
    (void)snprintf(vm->name, NAME_SIZE, "vm-%u", (unsigned)uid);
    (void)snprintf(vm->tenant, NAME_SIZE, "shop");
    vm->machine.memory.size_bytes = 64 * MIB;
    vm->machine.engine = engine;
    if (orders_cpus != 0) {
        vm->machine.cpu.count = orders_cpus;
        vm->machine.cpu.max = 4;
    }
    vm->machine.lifecycle.host_failure =
        uid == WAITS ? HOST_FAILURE_WAIT : HOST_FAILURE_RESTART;
    struct disk_spec *disk =
        orders_no_disks ? NULL : record_list_add(&disk_spec_record, &disks);
    if (disk != NULL) {
        (void)snprintf(disk->name, NAME_SIZE, "data");
        disk->size_bytes = MIB;
        disk->limit.operations = orders_iops;
    }
    vm->machine.disks.items = disks.items;
    vm->machine.disks.count = disks.count;
    struct artifact *artifact = record_list_add(&artifact_record, &artifacts);
    ck_assert_ptr_nonnull(artifact);
    artifact->role = boots_hostile_disk ? ARTIFACT_DISK : ARTIFACT_KERNEL;
    artifact->sha256 = boots_hostile_disk ? hostile_disk : kernel;
    artifact->size_bytes = boots_hostile_disk ? DISK_FORMAT_HEAD : 6;
    vm->image.artifacts.items = artifacts.items;
    vm->image.artifacts.count = artifacts.count;
}

struct wish {
    uint64_t term;
    uint64_t revision;
    uint64_t fenced_epoch; /* 0: not ordered */
    uint64_t waits_epoch;
    enum order order;
    enum engine engine;
    uint64_t disk_epoch; /* of both */
    bool networked;      /* the VM that waits has a NIC */
    bool paused;         /* it stands still */
    uint64_t restore;    /* it begins from that */
    uint64_t snapshot;   /* of it; 0: not ordered */
    enum snapshot_order snapshot_order;
    uint64_t snapshot_epoch;
};

static inline void add_snapshot(struct msg_orders *orders, const struct wish *wish)
{
    struct record_list list = {0};
    struct msg_snapshot *snapshot = record_list_add(&msg_snapshot_record, &list);
    ck_assert_ptr_nonnull(snapshot);
    snapshot->snapshot = wish->snapshot;
    snapshot->vm = WAITS;
    snapshot->epoch = wish->snapshot_epoch;
    snapshot->order = wish->snapshot_order;
    snapshot->bytes = MIB;
    (void)snprintf(snapshot->name, NAME_SIZE, "before");
    (void)snprintf(snapshot->tenant, NAME_SIZE, "shop");
    orders->snapshots.items = list.items;
    orders->snapshots.count = list.count;
}

static inline void add_network(struct msg_orders *orders, struct record_list *vms)
{
    struct record_list nics = {0};
    struct record_list networks = {0};
    struct msg_vm *last = (struct msg_vm *)vms->items + vms->count - 1; /* WAITS */
    struct msg_nic *nic = record_list_add(&msg_nic_record, &nics);
    struct msg_network *network = record_list_add(&msg_network_record, &networks);
    ck_assert(nic != NULL && network != NULL);
    *nic = (struct msg_nic){
        .network = 7, .mac = UINT64_C(0x525400000001), .ipv4 = 0x0a090005};
    network->uid = 7;
    network->vni = 7;
    (void)snprintf(network->name, NAME_SIZE, "front");
    (void)snprintf(network->tenant, NAME_SIZE, "shop");
    network->cidr = UINT64_C(0x0a090000) << 8 | 24;
    network->gateway = 0x0a090001;
    network->host_address = 0x0a090002;
    last->nics.items = nics.items;
    last->nics.count = nics.count;
    orders->networks.items = networks.items;
    orders->networks.count = networks.count;
}

/* From host number `from` (the leader: 1); returns when they have arrived. */
static inline void give(unsigned from, const struct wish *wish)
{
    struct msg_orders orders;
    struct msg_member members[3];
    struct msg_blob blobs[] = {{.sha256 = kernel, .size_bytes = 6, .holder = 2},
                               {.sha256 = orders_base}};
    struct record_list vms = {0};
    unsigned before = delivered;
    record_init(&msg_orders_record, &orders);
    orders.host = 1;
    orders.term = wish->term;
    orders.revision = wish->revision;
    for (unsigned i = 0; i < 3; i++) {
        members[i] = host_member(&rack.hosts[i]);
    }
    orders.members.items = members;
    orders.members.count = 3;
    if (wish->fenced_epoch != 0) {
        add_vm(&vms, FENCED, wish->fenced_epoch, wish->order, wish->engine,
               wish->disk_epoch);
    }
    if (wish->waits_epoch != 0) {
        add_vm(&vms, WAITS, wish->waits_epoch, wish->order, wish->engine,
               wish->disk_epoch);
        struct msg_vm *waits = (struct msg_vm *)vms.items + vms.count - 1;
        waits->paused = wish->paused;
        waits->restore = wish->restore;
    }
    if (wish->snapshot != 0) {
        add_snapshot(&orders, wish);
    }
    if (wish->networked) {
        add_network(&orders, &vms);
    }
    orders.blobs.items = orders_blobs ? blobs : blobs + 1;
    orders.blobs.count =
        (orders_blobs ? 1u : 0u) + (digest_is_zero(&orders_base) ? 0u : 1u);
    orders.vms.items = vms.items;
    orders.vms.count = vms.count;
    ck_assert_int_eq(link_send(rack.hosts[from].link, 1, MESSAGE_ORDERS, &orders), 0);
    orders.members = (struct msg_member_list){0};
    orders.blobs = (struct msg_blob_list){0};
    record_fini(&msg_orders_record, &orders);
    RACK_WAIT(delivered == before + 1);
}

static const struct wish both = {.term = TERM,
                                 .revision = 10,
                                 .fenced_epoch = 1,
                                 .waits_epoch = 1,
                                 .engine = ENGINE_FAKE};

static inline bool known(uint64_t uid)
{
    struct vm_report report;
    return vm_supervisor_report(worker_supervisor(worker), uid, &report);
}

static inline struct vm_report vm(uint64_t uid)
{
    struct vm_report report = {0};
    (void)vm_supervisor_report(worker_supervisor(worker), uid, &report);
    return report;
}

static inline bool is(uint64_t uid, enum phase phase)
{
    return known(uid) && vm(uid).phase == phase;
}

/* Two heartbeats, so that everything that was due has been done, and what the leader has
 * answered is there: two that were on the way may be heard before any answer is. */
static inline void let_pass(void)
{
    unsigned before = leader.beats;
    RACK_WAIT(leader.beats >= before + 2);
    unsigned acked = leader.acked;
    RACK_WAIT(acks_heard >= acked);
}

/* As after the daemon's death; returns when the leader has heard of the new run only. */
static inline void restart(void)
{
    uint64_t boot = leader.boot;
    worker = worker_close(worker);
    open_worker();
    RACK_WAIT(leader.boot != boot);
    let_pass();
}

static inline void start_both(void)
{
    start();
    give(1, &both);
    RACK_WAIT(is(FENCED, PHASE_READY) && is(WAITS, PHASE_READY));
    leader.acks = false;
    let_pass(); /* the last ack has arrived */
}

static inline void order_both(struct wish *wish, enum order order, uint64_t epoch)
{
    wish->revision++;
    wish->order = order;
    wish->fenced_epoch = epoch;
    wish->waits_epoch = epoch;
    give(1, wish);
}
