/* Goal: a host runs what it is ordered to, once, and only while its lease allows it.
 * Method: a real worker with real VM processes of the fake engine and a real link; the
 * other end of the link is the test, which plays the leader; the clock that leases are
 * counted by is the test's. In a network namespace of its own, for the worker puts
 * tenant networks right. */
#include "agent/disk_format.h"
#include "agent/engine_fake.h"
#include "agent/image_writer.h"
#include "agent/worker_parts.h"
#include "link_fixture.h"

#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define L_MS     6000 /* the lease, model.md */
#define PAUSE_MS (L_MS * 7 / 10)
#define KILL_MS  (L_MS * 9 / 10)
#define FENCED   11 /* may be restarted elsewhere */
#define WAITS    12 /* waits for its host */
#define TERM     5

static uint64_t now_ms;
static struct worker *worker;
static struct image_store *images;
static struct host_facts facts = {.cores = 2, .memory_bytes = 1 * GIB, .kernel = "test"};
static struct digest kernel;
static struct digest hostile_disk;
static bool boots_hostile_disk; /* what add_vm orders */
static uint64_t cache_bytes = GIB;
static unsigned delivered; /* orders that have reached the worker */
static uint64_t forgotten; /* the VM that was, last */

/* What the leader has heard. */
static struct {
    bool acks;
    uint64_t ahead; /* of TERM, the term that it acks in */
    uint64_t sequence;
    uint64_t boot;
    unsigned beats;
    uint64_t taken;       /* hash of the orders that the worker says it follows */
    enum phase phases[2]; /* of FENCED and WAITS; PENDING: not seen */
    uint64_t epochs[2];
    uint64_t disk_epochs[2];
    char reasons[2][256];
    uint32_t level_told;
} leader;

/* What the worker has made durable of its lease. */
static struct {
    unsigned count;
    bool fails; /* the disk */
    char text[128];
    /* A slow disk: it waits at the gate for a byte. */
    bool gated;
    int gate[2];
    atomic_uint at_gate;
    atomic_uint on_loop; /* came there on the loop's thread, which must not wait */
} synced;

static void gate_close(void)
{
    ck_assert_int_eq(pipe2(synced.gate, O_CLOEXEC), 0);
    synced.gated = true;
}

static void gate_open(void)
{
    synced.gated = false;
    ck_assert_int_eq(close(synced.gate[1]), 0);
}

static void gate_pass(void)
{
    char byte;
    if (!synced.gated) {
        return;
    }
    if (gettid() == getpid()) {
        synced.on_loop++;
        return;
    }
    synced.at_gate++;
    ck_assert_int_eq(read(synced.gate[0], &byte, 1), 0); /* its other end is closed */
    synced.at_gate--;
}

/* In place of the C library's. */
int fdatasync(int fd)
{
    gate_pass();
    if (worker != NULL && fd == worker->lease_fd) {
        memset(synced.text, 0, sizeof(synced.text));
        ck_assert_int_gt(pread(fd, synced.text, sizeof(synced.text) - 1, 0), 0);
        synced.count++;
        if (synced.fails) {
            errno = EIO;
            return -1;
        }
    }
    return (int)syscall(SYS_fdatasync, fd);
}

static uint64_t scripted_ns(void *context)
{
    (void)context;
    return now_ms * NS_PER_MS;
}

static uint64_t scripted_wall_ms(void *context)
{
    (void)context;
    return now_ms;
}

static const struct clock scripted = {.now_ns = scripted_ns, .wall_ms = scripted_wall_ms};

/* ---- the two ends of the link ---- */

static void worker_hears(struct rack_host *host,
                         const struct msg_member *from,
                         enum message_type type,
                         void *message)
{
    (void)host;
    if (worker == NULL) {
        return;
    }
    if (type == MESSAGE_ORDERS) {
        worker_on_orders(worker, from, message);
        delivered++;
    } else if (type == MESSAGE_ACK) {
        worker_on_ack(worker, from, message);
    } else if (type == MESSAGE_OUTDATED) {
        worker_on_outdated(worker, from, message);
        delivered++;
    }
}

static void ack(uint64_t sequence)
{
    const struct msg_ack message = {.sequence = sequence,
                                    .boot = leader.boot,
                                    .leader = 2,
                                    .level = LEVEL_FIRST,
                                    .term = TERM + leader.ahead};
    ck_assert_int_eq(link_send(rack.hosts[1].link, 1, MESSAGE_ACK, &message), 0);
}

static void leader_hears(struct rack_host *host,
                         const struct msg_member *from,
                         enum message_type type,
                         void *message)
{
    const struct msg_heartbeat *heartbeat = message;
    (void)host;
    (void)from;
    if (type != MESSAGE_HEARTBEAT) {
        return;
    }
    leader.beats++;
    leader.sequence = heartbeat->sequence;
    leader.boot = heartbeat->boot;
    leader.taken = heartbeat->desired_hash;
    memset(leader.phases, 0, sizeof(leader.phases));
    for (uint32_t i = 0; i < heartbeat->vms.count; i++) {
        const struct msg_vm_seen *seen = &heartbeat->vms.items[i];
        ck_assert(seen->vm == FENCED || seen->vm == WAITS);
        leader.phases[seen->vm - FENCED] = (enum phase)seen->phase;
        leader.epochs[seen->vm - FENCED] = seen->epoch;
        leader.disk_epochs[seen->vm - FENCED] = seen->disk_epoch;
        (void)snprintf(leader.reasons[seen->vm - FENCED], 256, "%s",
                       seen->reason != NULL ? seen->reason : "");
    }
    if (leader.acks) {
        ack(heartbeat->sequence);
    }
}

/* ---- arranging ---- */

static void own_network(void)
{
    struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP};
    ck_assert_int_eq(unshare(CLONE_NEWNET), 0);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(ioctl(fd, SIOCSIFFLAGS, &request), 0);
    ck_assert_int_eq(close(fd), 0);
}

static void members_changed(void *context)
{
    (void)context;
    link_members_changed(rack.hosts[0].link);
}

static void vm_forgotten(void *context, uint64_t vm)
{
    (void)context;
    forgotten = vm;
}

static void level_told(void *context, uint32_t level)
{
    (void)context;
    leader.level_told = level;
}

static uint64_t no_revision(void *context)
{
    (void)context;
    return 0;
}

static void open_worker(void)
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

static void note_done(void *context,
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
static void plant_hostile_disk(const char *folder)
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

static void open_images(void)
{
    bool done = false;
    struct err err = {0};
    char *folder = temp_dir_path(&rack.hosts[0].dir, "images");
    plant_hostile_disk(folder);
    const struct image_limits limits = {.cache_bytes = cache_bytes};
    int r = image_store_open(&rack.loop, folder, &limits, &images, &err);
    ck_assert_msg(r == 0, "%s", err.text);
    struct image_writer *writer = image_writer_begin(images, NULL, 6, NULL);
    ck_assert_int_eq(image_writer_write(writer, "kernel", 6, NULL), 0);
    image_writer_end(writer, note_done, &done);
    RACK_WAIT(done);
    free(folder);
}

static void start(void)
{
    signal(SIGPIPE, SIG_IGN);
    own_network();
    memset(&leader, 0, sizeof(leader));
    now_ms = 1000000;
    delivered = 0;
    forgotten = 0;
    leader.acks = true;
    rack_start(3);
    open_images();
    rack.hosts[0].hear = worker_hears;
    rack.hosts[1].hear = leader_hears;
    open_worker();
}

static void kill_one(void *context, const struct vm_report *report)
{
    (void)context;
    if (report->pid > 0) {
        (void)kill(report->pid, SIGKILL);
    }
}

/* The control groups of this host, when the last process has left them. */
static void groups_remove(void)
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

static void stop(void)
{
    vm_supervisor_each(worker_supervisor(worker), kill_one, NULL);
    rack.hosts[0].hear = NULL;
    rack.hosts[1].hear = NULL;
    worker = worker_close(worker);
    images = image_store_close(images);
    groups_remove();
    rack_stop();
}

static void add_vm(struct record_list *list,
                   uint64_t uid,
                   uint64_t epoch,
                   enum order order,
                   enum engine engine,
                   uint64_t disk_epoch)
{
    struct record_list artifacts = {0};
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
    vm->machine.lifecycle.host_failure =
        uid == WAITS ? HOST_FAILURE_WAIT : HOST_FAILURE_RESTART;
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
};

static void add_network(struct msg_orders *orders, struct record_list *vms)
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
static void give(unsigned from, const struct wish *wish)
{
    struct msg_orders orders;
    struct msg_member members[3];
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
    }
    if (wish->networked) {
        add_network(&orders, &vms);
    }
    orders.vms.items = vms.items;
    orders.vms.count = vms.count;
    ck_assert_int_eq(link_send(rack.hosts[from].link, 1, MESSAGE_ORDERS, &orders), 0);
    orders.members = (struct msg_member_list){0};
    record_fini(&msg_orders_record, &orders);
    RACK_WAIT(delivered == before + 1);
}

static const struct wish both = {.term = TERM,
                                 .revision = 10,
                                 .fenced_epoch = 1,
                                 .waits_epoch = 1,
                                 .engine = ENGINE_FAKE};

static bool known(uint64_t uid)
{
    struct vm_report report;
    return vm_supervisor_report(worker_supervisor(worker), uid, &report);
}

static struct vm_report vm(uint64_t uid)
{
    struct vm_report report = {0};
    (void)vm_supervisor_report(worker_supervisor(worker), uid, &report);
    return report;
}

static bool is(uint64_t uid, enum phase phase)
{
    return known(uid) && vm(uid).phase == phase;
}

/* Two heartbeats, so that everything that was due has been done. */
static void let_pass(void)
{
    unsigned before = leader.beats;
    RACK_WAIT(leader.beats >= before + 2);
}

/* As after the daemon's death; returns when the leader has heard of the new run only. */
static void restart(void)
{
    uint64_t boot = leader.boot;
    worker = worker_close(worker);
    open_worker();
    RACK_WAIT(leader.boot != boot);
    let_pass();
}

static void start_both(void)
{
    start();
    give(1, &both);
    RACK_WAIT(is(FENCED, PHASE_READY) && is(WAITS, PHASE_READY));
    leader.acks = false;
    let_pass(); /* the last ack has arrived */
}

/* ---- running ---- */

START_TEST(what_is_ordered_runs_and_is_told)
{
    start();

    give(1, &both);
    RACK_WAIT(leader.phases[0] == PHASE_READY && leader.phases[1] == PHASE_READY);

    ck_assert_uint_eq(leader.epochs[0], 1);
    ck_assert(vm(FENCED).fenced && !vm(WAITS).fenced);
    ck_assert_uint_eq(worker_leader(worker), 2);
    stop();
}
END_TEST

static void say_outdated(uint64_t term, uint32_t level)
{
    unsigned before = delivered;
    const struct msg_outdated message = {.term = term, .level = level};
    leader.level_told = 0;
    ck_assert_int_eq(link_send(rack.hosts[1].link, 1, MESSAGE_OUTDATED, &message), 0);
    RACK_WAIT(delivered > before);
}

START_TEST(the_leaders_level_is_told_and_what_others_say_of_it_is_not)
{
    start();
    RACK_WAIT(leader.level_told == LEVEL_FIRST);
    leader.acks = false;
    let_pass();
    const uint32_t unknown = level_range_up_to(0).max + 1;

    say_outdated(TERM, LEVEL_FIRST); /* it knows better */
    ck_assert_uint_eq(leader.level_told, 0);
    say_outdated(TERM - 1, unknown); /* who led before */
    ck_assert_uint_eq(leader.level_told, 0);
    say_outdated(TERM, unknown);
    ck_assert_uint_eq(leader.level_told, unknown);
    stop();
}
END_TEST

START_TEST(without_a_lease_only_what_waits_for_its_host_is_started)
{
    start();
    leader.acks = false;

    give(1, &both);
    RACK_WAIT(is(WAITS, PHASE_READY));
    let_pass();
    ck_assert(!known(FENCED));

    leader.acks = true;
    RACK_WAIT(is(FENCED, PHASE_READY));
    stop();
}
END_TEST

/* Its orders may be on their way: those of before may name what runs elsewhere by now. */
START_TEST(under_the_lease_of_a_new_leader_no_earlier_orders_start_anything)
{
    struct wish newer = both;
    start();
    leader.acks = false;
    give(1, &both);
    RACK_WAIT(is(WAITS, PHASE_READY));

    leader.ahead = 1;
    leader.acks = true;
    now_ms += 1;
    RACK_WAIT(lease_granted_ns(&worker->lease) == now_ms * NS_PER_MS);
    let_pass();
    ck_assert(!worker_may_start(worker) && !known(FENCED));

    newer.term = TERM + 1;
    give(1, &newer);
    RACK_WAIT(is(FENCED, PHASE_READY));
    stop();
}
END_TEST

START_TEST(what_is_ordered_no_longer_ends_and_is_forgotten)
{
    struct wish rest = both;
    start_both();
    pid_t pid = vm(FENCED).pid;
    rest.revision++;
    rest.fenced_epoch = 0;

    give(1, &rest);
    RACK_WAIT(!known(FENCED));

    ck_assert_int_eq(kill(pid, 0), -1);
    ck_assert_uint_eq(forgotten, FENCED);
    ck_assert(is(WAITS, PHASE_READY));
    stop();
}
END_TEST

START_TEST(a_new_epoch_ends_the_old_run_first)
{
    struct wish next = both;
    start_both();
    leader.acks = true;
    pid_t pid = vm(FENCED).pid;
    next.revision++;
    next.fenced_epoch = 2;

    give(1, &next);
    while (!(is(FENCED, PHASE_READY) && vm(FENCED).epoch == 2)) {
        ck_assert(vm(FENCED).epoch != 2 || kill(pid, 0) != 0); /* never both */
        uv_run(&rack.loop, UV_RUN_ONCE);
    }

    ck_assert_int_ne(vm(FENCED).pid, pid);
    stop();
}
END_TEST

START_TEST(an_order_to_stop_is_carried_out_and_told)
{
    struct wish halt = both;
    start_both();
    halt.revision++;
    halt.order = ORDER_STOP;

    give(1, &halt);
    RACK_WAIT(leader.phases[0] == PHASE_STOPPED && leader.phases[1] == PHASE_STOPPED);

    ck_assert_int_eq(vm(FENCED).pid, 0);
    stop();
}
END_TEST

/* ---- disks from one run to the next ---- */

/* As an engine makes them. */
static char *plant_disk(uint64_t uid)
{
    char *path = NULL;
    ck_assert_int_gt(asprintf(&path, "%s/vms/%u/disk-data.qcow2",
                              rack.hosts[0].identity.folder, (unsigned)uid),
                     0);
    FILE *file = fopen(path, "we");
    ck_assert_ptr_nonnull(file);
    ck_assert_int_eq(fclose(file), 0);
    return path;
}

static void order_both(struct wish *wish, enum order order, uint64_t epoch)
{
    wish->revision++;
    wish->order = order;
    wish->fenced_epoch = epoch;
    wish->waits_epoch = epoch;
    give(1, wish);
}

START_TEST(what_is_kept_stays_over_restarts_and_is_what_the_next_run_finds)
{
    struct wish wish = both;
    start_both();
    char *disk = plant_disk(WAITS);
    order_both(&wish, ORDER_STOP, 1);
    RACK_WAIT(leader.phases[1] == PHASE_STOPPED);
    ck_assert_uint_eq(leader.disk_epochs[1], 1);

    wish.disk_epoch = 1;
    order_both(&wish, ORDER_KEEP, 1);
    let_pass();
    restart();
    order_both(&wish, ORDER_KEEP, 1);
    let_pass();
    ck_assert(is(WAITS, PHASE_STOPPED));
    ck_assert_int_eq(access(disk, F_OK), 0);
    ck_assert_uint_eq(leader.disk_epochs[1], 1);
    ck_assert_uint_eq(forgotten, 0);

    order_both(&wish, ORDER_RUN, 2);
    RACK_WAIT(is(WAITS, PHASE_READY));
    ck_assert_uint_eq(vm(WAITS).epoch, 2);
    ck_assert_int_eq(access(disk, F_OK), 0);
    let_pass();
    ck_assert_uint_eq(leader.disk_epochs[1], 0); /* in use */
    free(disk);
    stop();
}
END_TEST

START_TEST(a_run_with_new_disks_finds_none)
{
    struct wish wish = both;
    start_both();
    char *disk = plant_disk(WAITS);
    order_both(&wish, ORDER_STOP, 1);
    RACK_WAIT(leader.phases[1] == PHASE_STOPPED);

    order_both(&wish, ORDER_RUN, 2);
    RACK_WAIT(is(WAITS, PHASE_READY));

    ck_assert_int_eq(access(disk, F_OK), -1);
    free(disk);
    stop();
}
END_TEST

START_TEST(a_vm_whose_disks_are_not_here_fails_with_the_reason)
{
    struct wish wish = both;
    start();
    wish.disk_epoch = 3;
    order_both(&wish, ORDER_RUN, 4);
    RACK_WAIT(leader.phases[1] == PHASE_FAILED);
    ck_assert_str_eq(leader.reasons[1], "start VM vm-12: its disks, of epoch 3, are not "
                                        "on this host any more");
    ck_assert_uint_eq(leader.disk_epochs[1], 0);
    stop();
}
END_TEST

START_TEST(disks_that_a_start_did_not_get_to_are_still_told_of)
{
    struct wish wish = both;
    start_both();
    char *disk = plant_disk(WAITS);
    order_both(&wish, ORDER_STOP, 1);
    RACK_WAIT(leader.phases[1] == PHASE_STOPPED);
    wish.disk_epoch = 1;
    wish.engine = ENGINE_KVM; /* not on this host */

    order_both(&wish, ORDER_RUN, 2);
    RACK_WAIT(leader.phases[1] == PHASE_FAILED && leader.epochs[1] == 2);

    ck_assert_uint_eq(leader.disk_epochs[1], 1);
    ck_assert_int_eq(access(disk, F_OK), 0);
    free(disk);
    stop();
}
END_TEST

START_TEST(what_runs_while_only_its_disks_are_to_be_kept_is_ended)
{
    struct wish wish = both;
    start_both();
    pid_t pid = vm(WAITS).pid;
    order_both(&wish, ORDER_KEEP, 1);
    RACK_WAIT(is(WAITS, PHASE_FAILED) && is(FENCED, PHASE_FAILED));
    ck_assert_int_eq(kill(pid, 0), -1);
    ck_assert_uint_eq(forgotten, 0);
    stop();
}
END_TEST

START_TEST(a_vm_that_cannot_be_started_is_told_with_the_reason)
{
    struct wish odd = both;
    start();
    odd.engine = ENGINE_KVM; /* not on this host */

    give(1, &odd);
    RACK_WAIT(leader.phases[1] == PHASE_FAILED);

    ck_assert_msg(strstr(leader.reasons[1], "needs native KVM") != NULL, "%s",
                  leader.reasons[1]);
    stop();
}
END_TEST

START_TEST(a_disk_image_that_names_a_file_of_the_host_is_given_to_no_engine)
{
    start();
    boots_hostile_disk = true;

    give(1, &both);
    RACK_WAIT(leader.phases[0] == PHASE_FAILED && leader.phases[1] == PHASE_FAILED);

    ck_assert_msg(strstr(leader.reasons[0], "backing file") != NULL, "%s",
                  leader.reasons[0]);
    ck_assert_msg(strstr(leader.reasons[0], "qemu-img convert -O raw") != NULL, "%s",
                  leader.reasons[0]);
    ck_assert_int_eq(vm(FENCED).pid, 0);
    stop();
}
END_TEST

/* A file is where the folder of the networks' services has to be. */
START_TEST(a_vm_whose_network_cannot_be_made_here_fails_with_the_reason)
{
    struct wish networked = both;
    start();
    temp_dir_write(&rack.hosts[0].dir, "networks", "in the way");
    networked.networked = true;

    give(1, &networked);
    while (leader.phases[1] != PHASE_FAILED) { /* the tests' limit ends a wait in vain */
        let_pass();
        now_ms += 2000; /* the next try is due; the lease is renewed in between */
    }

    ck_assert_msg(strstr(leader.reasons[1], "cannot make the VM's network") != NULL, "%s",
                  leader.reasons[1]);
    ck_assert(is(FENCED, PHASE_READY)); /* it needs none */
    stop();
}
END_TEST

START_TEST(what_is_measured_of_vms_is_told_a_family_at_a_time)
{
    struct bytes_writer writer;
    char *text = NULL;
    start_both();
    bytes_writer_init(&writer, SIZE_MAX);

    worker_metrics(worker, &writer);

    ck_assert_int_eq(bytes_writer_take_text(&writer, &text), 0);
    ck_assert_ptr_nonnull(strstr(text, "# HELP berth_vm_state Phase of "));
    const char *states = strstr(text, "# TYPE berth_vm_state");
    const char *loads = strstr(text, "# TYPE berth_vm_cpu_ratio");
    ck_assert(states != NULL && loads > states);
    for (unsigned uid = FENCED; uid <= WAITS; uid++) {
        char line[64];
        (void)snprintf(line, sizeof(line), "berth_vm_state{vm=\"vm-%u\"", uid);
        const char *at = strstr(states, line);
        ck_assert(at != NULL && at < loads);
    }
    ck_assert_ptr_null(strstr(loads, "berth_vm_state"));
    free(text);
    stop();
}
END_TEST

/* ---- who may order ---- */

START_TEST(old_orders_and_those_of_hosts_that_cannot_lead_are_refused)
{
    struct wish nothing = {.term = TERM, .revision = 11};
    start_both();
    pid_t pid = vm(FENCED).pid;
    if (_i == 0) {
        nothing.term = TERM - 1;
    } else if (_i == 1) {
        nothing.revision = both.revision - 1;
    } else {
        rack.hosts[2].voter = VOTER_NONE;
        host_knows(&rack.hosts[0], 3);
    }

    give(_i == 2 ? 2 : 1, &nothing);
    let_pass();

    ck_assert(is(FENCED, PHASE_READY) && is(WAITS, PHASE_READY));
    ck_assert_int_eq(vm(FENCED).pid, pid);
    stop();
}
END_TEST

START_TEST(members_that_could_not_be_written_down_are_later)
{
    start_both();
    char *text = NULL;
    char *path = temp_dir_path(&rack.hosts[0].dir, "members.bin");
    (void)unlink(path);
    rack.hosts[0].members.unsaved = true; /* as a full disk leaves it */

    RACK_WAIT(!rack.hosts[0].members.unsaved);

    text = temp_dir_read(&rack.hosts[0].dir, "members.bin");
    ck_assert_ptr_nonnull(text);
    free(text);
    free(path);
    stop();
}
END_TEST

/* A full cache, and no leader has said yet what is to run here. */
START_TEST(what_disks_lie_on_is_kept_before_there_are_orders)
{
    enum { CACHE = 200 };
    char target[IMAGE_PATH_SIZE];
    cache_bytes = CACHE;
    start_both();
    char *link = temp_dir_path(&rack.hosts[0].dir, "vms/11/base");
    ck_assert(image_store_path(images, &kernel, target));
    (void)unlink(link);
    ck_assert_int_eq(symlink(target, link), 0);
    free(link);
    worker = worker_close(worker);
    ck_assert_int_eq(image_store_keep(images, NULL, 0, NULL), 0); /* as a new berthd */

    open_worker();

    const struct digest base = kernel; /* note_done is about to note another */
    const uint8_t other[CACHE] = {0};
    bool done = false;
    struct image_writer *writer = image_writer_begin(images, NULL, CACHE, NULL);
    ck_assert_int_eq(image_writer_write(writer, other, CACHE, NULL), 0);
    image_writer_end(writer, note_done, &done);
    RACK_WAIT(done);
    ck_assert(image_store_path(images, &base, target));
    stop();
}
END_TEST

/* ---- the lease ---- */

START_TEST(silence_freezes_and_then_ends_what_may_run_elsewhere)
{
    start_both();
    pid_t pid = vm(FENCED).pid;

    now_ms += PAUSE_MS - 1;
    let_pass();
    ck_assert(!vm(FENCED).frozen);

    now_ms += 1;
    RACK_WAIT(vm(FENCED).frozen && vm_process_pid_is_stopped(pid));
    ck_assert(!vm(WAITS).frozen && !vm_process_pid_is_stopped(vm(WAITS).pid));

    now_ms += KILL_MS - PAUSE_MS - 1;
    let_pass();
    ck_assert_int_eq(kill(pid, 0), 0);

    now_ms += 1;
    RACK_WAIT(is(FENCED, PHASE_FAILED));
    ck_assert_int_eq(kill(pid, 0), -1);
    ck_assert_ptr_nonnull(strstr(vm(FENCED).reason, "its lease ended"));
    ck_assert(is(WAITS, PHASE_READY));
    RACK_WAIT(leader.phases[0] == PHASE_FAILED);
    stop();
}
END_TEST

START_TEST(a_renewed_lease_lets_frozen_vms_go_on)
{
    start_both();
    pid_t pid = vm(FENCED).pid;
    now_ms += PAUSE_MS;
    RACK_WAIT(vm_process_pid_is_stopped(pid));

    leader.acks = true;
    RACK_WAIT(!vm(FENCED).frozen && !vm_process_pid_is_stopped(pid));

    ck_assert(is(FENCED, PHASE_READY));
    stop();
}
END_TEST

START_TEST(a_lease_counts_from_when_the_heartbeat_was_sent)
{
    start_both();
    uint64_t early = leader.sequence; /* sent before the silence */
    now_ms += PAUSE_MS;
    RACK_WAIT(vm(FENCED).frozen);

    ack(early);
    give(1, &both); /* behind it */
    let_pass();

    ck_assert(vm(FENCED).frozen);
    stop();
}
END_TEST

START_TEST(an_ack_for_another_start_of_the_daemon_renews_nothing)
{
    start_both();
    now_ms += PAUSE_MS;
    RACK_WAIT(vm(FENCED).frozen);
    let_pass();

    leader.boot++;
    ack(leader.sequence);
    give(1, &both);
    let_pass();

    ck_assert(vm(FENCED).frozen);
    stop();
}
END_TEST

START_TEST(a_restarted_worker_goes_on_with_its_vms_and_its_lease)
{
    start_both();
    pid_t pid = vm(FENCED).pid;

    worker = worker_close(worker);
    now_ms += PAUSE_MS - 1;
    open_worker();
    let_pass();
    ck_assert(vm(FENCED).adopted && vm(FENCED).pid == pid && !vm(FENCED).frozen);

    worker = worker_close(worker);
    now_ms += KILL_MS;
    open_worker();
    RACK_WAIT(is(FENCED, PHASE_FAILED));
    ck_assert(vm_process_pid_is_stopped(pid)); /* ended; not ours to reap any more */
    ck_assert(vm(WAITS).pid != 0 && kill(vm(WAITS).pid, 0) == 0);
    stop();
}
END_TEST

START_TEST(a_restarted_worker_obeys_no_earlier_leader)
{
    struct wish old = {.term = TERM - 1, .revision = 100};
    start_both();
    if (_i == 1) { /* a newer leader was heard of by its orders alone */
        struct wish newer = both;
        newer.term = TERM + 1;
        give(1, &newer);
        old.term = TERM;
    }
    pid_t pid = vm(FENCED).pid;

    restart();
    uint64_t taken = leader.taken; /* none: it has just begun */
    give(1, &old);
    let_pass();

    ck_assert_uint_eq(leader.taken, taken);
    ck_assert(!vm_process_pid_is_stopped(pid));
    ck_assert_int_eq(vm(FENCED).pid, pid);
    stop();
}
END_TEST

START_TEST(a_damaged_lease_counts_as_over)
{
    start_both();
    pid_t pid = vm(FENCED).pid;
    char *text = temp_dir_read(&rack.hosts[0].dir, "lease");
    ck_assert_ptr_nonnull(text);
    text[50] = text[50] == '0' ? '1' : '0'; /* a digit of the grant */

    worker = worker_close(worker);
    temp_dir_write(&rack.hosts[0].dir, "lease", text);
    open_worker();
    RACK_WAIT(is(FENCED, PHASE_FAILED));

    ck_assert(vm_process_pid_is_stopped(pid));
    free(text);
    stop();
}
END_TEST

/* The file could not be written or is lost, but the fence was told of the grant. */
START_TEST(a_lease_that_only_the_fence_knows_keeps_what_runs_and_starts_nothing)
{
    start_both();
    pid_t pid = vm(FENCED).pid;
    uint64_t granted_ns = lease_granted_ns(&worker->lease);
    worker = worker_close(worker);
    temp_dir_write(&rack.hosts[0].dir, "lease", "");
    open_worker();

    worker_lease_find(worker, granted_ns);

    let_pass();
    worker_lease_check(worker);
    ck_assert_int_eq(vm(FENCED).pid, pid);
    ck_assert(!vm_process_pid_is_stopped(pid));
    give(1, &both);
    ck_assert(!worker_may_start(worker)); /* whose orders may be obeyed by it? */
    leader.acks = true;
    now_ms += 1; /* so that what is sent from now on renews it */
    RACK_WAIT(worker_may_start(worker));
    now_ms += KILL_MS; /* and it ends when it ends */
    leader.acks = false;
    RACK_WAIT(is(FENCED, PHASE_FAILED));
    stop();
}
END_TEST

/* A host that lost its power has no other memory of who led last. */
START_TEST(nothing_is_started_before_the_new_term_is_on_the_disk)
{
    char text[128] = "";
    struct wish newer = both;
    start_both();
    unsigned before = synced.count;
    leader.acks = true;
    now_ms += 1;
    RACK_WAIT(lease_granted_ns(&worker->lease) == now_ms * NS_PER_MS);
    ck_assert_uint_eq(synced.count, before); /* a grant is not worth it */
    leader.acks = false;
    let_pass();
    ck_assert(worker_may_start(worker));

    newer.term = TERM + 1;
    give(1, &newer);
    ck_assert_uint_eq(worker->leader_term, TERM + 1);
    ck_assert(!worker_may_start(worker));

    synced.fails = true; /* the lease goes on all the same */
    before = synced.count;
    leader.ahead = 1;
    leader.acks = true;
    now_ms += 1;
    RACK_WAIT(lease_granted_ns(&worker->lease) == now_ms * NS_PER_MS &&
              synced.count > before);
    ck_assert(!worker_may_start(worker));
    synced.fails = false;
    before = synced.count;
    now_ms += 1;
    RACK_WAIT(lease_granted_ns(&worker->lease) == now_ms * NS_PER_MS);
    ck_assert_uint_eq(synced.count, before); /* a sick disk is left alone for a while */

    now_ms += WORKER_TERM_SYNC_MS;
    RACK_WAIT(worker_may_start(worker));
    ck_assert_int_gt(pread(worker->lease_fd, text, sizeof(text) - 1, 0), 0);
    ck_assert_int_eq(strncmp(synced.text + 58, text + 58, 20), 0); /* the term */
    leader.acks = false;
    stop();
}
END_TEST

/* The disk takes its time, the host lives on. */
START_TEST(a_disk_that_takes_no_term_yet_stops_neither_heartbeats_nor_the_lease)
{
    struct wish newer = both;
    start_both();
    newer.term = TERM + 1;
    leader.ahead = 1;
    gate_close();
    give(1, &newer);
    leader.acks = true;
    RACK_WAIT(synced.at_gate == 1);

    unsigned beats = leader.beats;
    now_ms += 1;
    RACK_WAIT(leader.beats >= beats + 4 &&
              lease_granted_ns(&worker->lease) == now_ms * NS_PER_MS);
    ck_assert(!worker_may_start(worker));
    ck_assert_uint_eq(synced.at_gate, 1); /* asked once */

    gate_open();
    RACK_WAIT(worker_may_start(worker));
    ck_assert_uint_eq(synced.on_loop, 0);
    leader.acks = false;
    stop();
}
END_TEST

/* ---- epochs ---- */

START_TEST(an_order_to_stop_ends_an_earlier_run_before_it_is_told)
{
    struct wish halt = both;
    start_both();
    pid_t pids[2] = {vm(FENCED).pid, vm(WAITS).pid};
    halt.revision++;
    halt.order = ORDER_STOP;
    halt.fenced_epoch = halt.waits_epoch = 2;

    give(1, &halt);
    while (leader.phases[0] != PHASE_STOPPED || leader.phases[1] != PHASE_STOPPED) {
        uv_run(&rack.loop, UV_RUN_ONCE);
        for (unsigned i = 0; i < 2; i++) {
            ck_assert(leader.phases[i] != PHASE_STOPPED || kill(pids[i], 0) != 0);
        }
    }

    ck_assert_uint_eq(leader.epochs[0], 2);
    stop();
}
END_TEST

static void damage_record(uint64_t uid)
{
    char name[64];
    (void)snprintf(name, sizeof(name), "vms/%u/record.json", (unsigned)uid);
    temp_dir_write(&rack.hosts[0].dir, name, "{}");
}

START_TEST(a_vm_whose_record_is_damaged_is_told_failed_only_when_it_has_ended)
{
    start_both();
    leader.acks = true;
    pid_t pid = vm(FENCED).pid;
    worker = worker_close(worker);
    damage_record(FENCED);
    memset(leader.phases, 0, sizeof(leader.phases));

    open_worker();
    give(1, &both);
    while (leader.phases[0] != PHASE_FAILED) {
        uv_run(&rack.loop, UV_RUN_ONCE);
        ck_assert(leader.phases[0] != PHASE_FAILED || vm_process_pid_is_stopped(pid));
    }

    ck_assert_uint_eq(leader.epochs[0], 1);
    ck_assert(is(WAITS, PHASE_READY));
    stop();
}
END_TEST

int main(int argc, char **argv)
{
    engine_fake_main(argc, argv);
    if (geteuid() != 0) {
        return test_main_skip("a network namespace of its own needs root");
    }
    Suite *suite = suite_create("worker");
    TCase *tests = tcase_create("worker");
    tcase_set_timeout(tests, 90);
    tcase_add_test(tests, what_is_ordered_runs_and_is_told);
    tcase_add_test(tests, the_leaders_level_is_told_and_what_others_say_of_it_is_not);
    tcase_add_test(tests, without_a_lease_only_what_waits_for_its_host_is_started);
    tcase_add_test(tests,
                   under_the_lease_of_a_new_leader_no_earlier_orders_start_anything);
    tcase_add_test(tests, what_is_ordered_no_longer_ends_and_is_forgotten);
    tcase_add_test(tests, a_new_epoch_ends_the_old_run_first);
    tcase_add_test(tests, an_order_to_stop_is_carried_out_and_told);
    tcase_add_test(tests,
                   what_is_kept_stays_over_restarts_and_is_what_the_next_run_finds);
    tcase_add_test(tests, a_run_with_new_disks_finds_none);
    tcase_add_test(tests, a_vm_whose_disks_are_not_here_fails_with_the_reason);
    tcase_add_test(tests, disks_that_a_start_did_not_get_to_are_still_told_of);
    tcase_add_test(tests, what_runs_while_only_its_disks_are_to_be_kept_is_ended);
    tcase_add_test(tests,
                   a_disk_image_that_names_a_file_of_the_host_is_given_to_no_engine);
    tcase_add_test(tests, a_vm_that_cannot_be_started_is_told_with_the_reason);
    tcase_add_test(tests, what_is_measured_of_vms_is_told_a_family_at_a_time);
    tcase_add_test(tests, a_vm_whose_network_cannot_be_made_here_fails_with_the_reason);
    tcase_add_loop_test(tests, old_orders_and_those_of_hosts_that_cannot_lead_are_refused,
                        0, 3);
    tcase_add_test(tests, silence_freezes_and_then_ends_what_may_run_elsewhere);
    tcase_add_test(tests, a_renewed_lease_lets_frozen_vms_go_on);
    tcase_add_test(tests, a_lease_counts_from_when_the_heartbeat_was_sent);
    tcase_add_test(tests, an_ack_for_another_start_of_the_daemon_renews_nothing);
    tcase_add_test(tests, a_restarted_worker_goes_on_with_its_vms_and_its_lease);
    tcase_add_loop_test(tests, a_restarted_worker_obeys_no_earlier_leader, 0, 2);
    tcase_add_test(tests, members_that_could_not_be_written_down_are_later);
    tcase_add_test(tests, what_disks_lie_on_is_kept_before_there_are_orders);
    tcase_add_test(tests, a_damaged_lease_counts_as_over);
    tcase_add_test(tests, nothing_is_started_before_the_new_term_is_on_the_disk);
    tcase_add_test(tests,
                   a_disk_that_takes_no_term_yet_stops_neither_heartbeats_nor_the_lease);
    tcase_add_test(tests,
                   a_lease_that_only_the_fence_knows_keeps_what_runs_and_starts_nothing);
    tcase_add_test(tests, an_order_to_stop_ends_an_earlier_run_before_it_is_told);
    tcase_add_test(tests,
                   a_vm_whose_record_is_damaged_is_told_failed_only_when_it_has_ended);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
