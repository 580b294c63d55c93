/* Random walks: thousands of random commands on two replicas, one of which is written out
 * and read back at random moments. Whatever happens, both answer alike and hash alike,
 * and what is counted incrementally equals what a recount gives. The seed is the row of
 * the loop; a failure names it. */
#include "base/u64_map.h"
#include "support/state_walk.h"

#define STEPS       4000
#define CHECK_EVERY 20

static struct u64_map *epochs; /* VM uid -> highest epoch seen + 1 */

/* ---- what must hold ---- */

static void check_tenants(void)
{
    size_t cursor = 0;
    for (const struct tenant *tenant;
         (tenant = state_next(state, KIND_TENANT, &cursor)) != NULL;) {
        struct usage count = {0};
        size_t inner = 0;
        for (const struct vm *vm; (vm = state_next(state, KIND_VM, &inner)) != NULL;) {
            if (strcmp(vm->meta.tenant, tenant->meta.name) == 0) {
                count.vms++;
                count.cpu_mcpu += 1000 * vm->spec.machine.cpu.count;
                count.memory_bytes += vm->spec.machine.memory.size_bytes;
                count.addresses += vm->spec.machine.nics.count;
            }
        }
        inner = 0;
        for (const struct network *network;
             (network = state_next(state, KIND_NETWORK, &inner)) != NULL;) {
            count.networks += strcmp(network->meta.tenant, tenant->meta.name) == 0;
        }
        inner = 0;
        for (const struct snapshot *snapshot;
             (snapshot = state_next(state, KIND_SNAPSHOT, &inner)) != NULL;) {
            if (strcmp(snapshot->meta.tenant, tenant->meta.name) == 0) {
                count.snapshots++;
                count.disk_bytes += snapshot->status.bytes;
            }
        }
        ck_assert(record_equal(&usage_record, &count, &tenant->status.used));
    }
}

static void check_vm(const struct vm *vm)
{
    const struct vm_status *now = &vm->status;
    bool has_host = now->host != 0;
    ck_assert(has_host == (vm_phase_on_host(now->phase) || now->phase == PHASE_LOST));
    ck_assert(now->target == 0 || now->phase == PHASE_MIGRATING);
    ck_assert(now->target == 0 || now->target != now->host);
    ck_assert(now->intent == STOP_INTENT_NONE || now->phase == PHASE_STOPPING ||
              now->phase == PHASE_LOST);
    ck_assert(now->phase != PHASE_PENDING || vm->spec.power == POWER_ON);
    if (now->phase == PHASE_LOST) {
        ck_assert_uint_eq(vm->spec.machine.lifecycle.host_failure, HOST_FAILURE_WAIT);
    }
    if (has_host) {
        const struct host *host = state_host(state, now->host);
        ck_assert_ptr_nonnull(host);
        ck_assert(host->status.phase != HOST_PHASE_LOST || now->phase == PHASE_LOST);
    }
    ck_assert(now->disk_host == 0 || (!has_host && now->disk_epoch != 0));
    ck_assert(now->disk_epoch == 0 || now->disk_host != 0 || has_host);
    ck_assert_uint_le(now->disk_epoch, now->epoch);
    ck_assert(now->disk_host == 0 || state_host(state, now->disk_host) != NULL);
    ck_assert((!vm->spec.paused && !now->paused) || now->phase == PHASE_RUNNING ||
              now->phase == PHASE_READY || now->phase == PHASE_MIGRATING ||
              now->phase == PHASE_LOST);
    const struct snapshot *begins = state_snapshot(state, now->restore);
    ck_assert(now->restore == 0 ||
              (begins != NULL && begins->spec.vm_uid == vm->meta.uid));
    /* What waits for a snapshot waits for one that is there. */
    ck_assert(now->restore == 0 || has_host || begins->status.phase == SNAPSHOT_READY);
    ck_assert(now->restore == 0 || now->phase != PHASE_RUNNING);
    uint64_t seen = (uintptr_t)u64_map_get(epochs, vm->meta.uid);
    ck_assert_uint_ge(now->epoch + 1, seen);
    ck_assert_int_eq(
        u64_map_put(epochs, vm->meta.uid, (void *)(uintptr_t)(now->epoch + 1)), 0);
}

/* Both replicas list the same VMs, in whatever order. */
static void check_host(const struct state *of, const struct host *host)
{
    const struct host_use use = state_host_use(of, host->meta.uid);
    uint64_t memory_bytes = 0;
    uint64_t cpu_mcpu = 0;
    uint64_t count = 0;
    uint64_t indexed = 0;
    size_t cursor = 0;
    for (const struct vm *vm; (vm = state_next(of, KIND_VM, &cursor)) != NULL;) {
        if (vm->status.host == host->meta.uid || vm->status.target == host->meta.uid) {
            count++;
            memory_bytes += vm->spec.machine.memory.size_bytes;
            cpu_mcpu += UINT64_C(1000) * vm->spec.machine.cpu.count;
        }
    }
    cursor = 0;
    for (const struct vm *vm;
         (vm = state_vm_on_host(of, host->meta.uid, &cursor)) != NULL;) {
        ck_assert_uint_eq(vm->status.host, host->meta.uid);
        indexed++;
    }
    cursor = 0;
    for (const struct vm *vm;
         (vm = state_vm_incoming(of, host->meta.uid, &cursor)) != NULL;) {
        ck_assert_uint_eq(vm->status.target, host->meta.uid);
        indexed++;
    }
    ck_assert_uint_eq(indexed, count);
    cursor = 0;
    for (const struct vm *vm;
         (vm = state_vm_kept(of, host->meta.uid, &cursor)) != NULL;) {
        ck_assert_uint_eq(vm->status.disk_host, host->meta.uid);
        count++;
    }
    cursor = 0;
    for (const struct vm *vm; (vm = state_next(of, KIND_VM, &cursor)) != NULL;) {
        indexed += vm->status.disk_host == host->meta.uid;
    }
    ck_assert_uint_eq(indexed, count);
    uint64_t disk_bytes = 0; /* these VMs have none */
    uint64_t snapshots = 0;
    cursor = 0;
    for (const struct snapshot *snapshot;
         (snapshot = state_next(of, KIND_SNAPSHOT, &cursor)) != NULL;) {
        bool here = snapshot->status.host == host->meta.uid;
        disk_bytes += here ? snapshot->status.bytes : 0;
        snapshots += here ? 1 : 0;
        ck_assert(!here || host->status.phase != HOST_PHASE_LOST ||
                  snapshot->status.phase == SNAPSHOT_READY);
    }
    cursor = 0;
    while (state_snapshot_on_host(of, host->meta.uid, &cursor) != NULL) {
        snapshots--;
    }
    ck_assert_uint_eq(snapshots, 0);
    ck_assert_uint_eq(use.disk_bytes, disk_bytes);
    ck_assert_uint_eq(use.vms, count);
    ck_assert_uint_eq(use.cpu_mcpu, cpu_mcpu);
    ck_assert_uint_eq(use.memory_bytes, memory_bytes);
    ck_assert_uint_le(memory_bytes, host->status.memory_bytes);
    ck_assert_ptr_eq(state_host_by_key(of, &host->status.public_key),
                     state_host(of, host->meta.uid));
}

static void check_nowhere(const struct state *of)
{
    size_t nowhere = 0;
    size_t indexed = 0;
    size_t cursor = 0;
    for (const struct vm *vm; (vm = state_next(of, KIND_VM, &cursor)) != NULL;) {
        nowhere += vm->status.host == 0;
    }
    cursor = 0;
    for (const struct vm *vm; (vm = state_vm_nowhere(of, &cursor)) != NULL;) {
        ck_assert_uint_eq(vm->status.host, 0);
        ck_assert_ptr_eq(state_vm(of, vm->meta.uid), vm);
        indexed++;
    }
    ck_assert_uint_eq(indexed, nowhere);
}

static void check_group(const struct group *group)
{
    uint64_t count = 0;
    uint64_t indexed = 0;
    size_t cursor = 0;
    for (const struct vm *vm; (vm = state_next(state, KIND_VM, &cursor)) != NULL;) {
        count += strcmp(vm->spec.group, group->meta.name) == 0 &&
                 strcmp(vm->meta.tenant, group->meta.tenant) == 0;
    }
    cursor = 0;
    while (state_vm_of_group(state, group, &cursor) != NULL) {
        indexed++;
    }
    ck_assert_uint_eq(indexed, count);
    ck_assert_uint_eq(state_group_vms(state, group), count);
    ck_assert(!group->status.deleting || count > 0);
}

/* Nobody shares an address, and the index knows exactly those that are taken. */
static void check_network(const struct network *network)
{
    unsigned owners[256] = {0}; /* a /24 at most */
    uint32_t size = UINT32_C(1) << (32 - cidr_prefix(network->spec.ipv4.cidr));
    uint32_t first = cidr_address(network->spec.ipv4.cidr);
    size_t cursor = 0;
    for (const struct vm *vm; (vm = state_next(state, KIND_VM, &cursor)) != NULL;) {
        for (uint32_t i = 0; i < vm->status.nics.count; i++) {
            const struct vm_nic *nic = &vm->status.nics.items[i];
            if (nic->ipv4 != 0 && strcmp(nic->network, network->meta.name) == 0 &&
                strcmp(vm->meta.tenant, network->meta.tenant) == 0) {
                ck_assert_uint_lt(nic->ipv4 - first, size);
                owners[nic->ipv4 - first]++;
            }
        }
    }
    for (uint32_t i = 0; i < network->status.hosts.count; i++) {
        ck_assert_uint_lt(network->status.hosts.items[i].ipv4 - first, size);
        owners[network->status.hosts.items[i].ipv4 - first]++;
    }
    owners[0]++;
    owners[1]++; /* the gateway */
    owners[size - 1]++;
    bool right = true; /* an assertion costs a write, and these are thousands */
    for (uint32_t i = 0; i < size; i++) {
        right = right && owners[i] <= 1 &&
                state_address_used(state, network, first + i) == (owners[i] == 1);
    }
    ck_assert(right);
}

static void check_all(void)
{
    check_tenants();
    check_nowhere(state);
    check_nowhere(fixture_replica);
    size_t cursor = 0;
    for (const struct vm *vm; (vm = state_next(state, KIND_VM, &cursor)) != NULL;) {
        check_vm(vm);
    }
    cursor = 0;
    for (const struct host *host;
         (host = state_next(state, KIND_HOST, &cursor)) != NULL;) {
        check_host(state, host);
        check_host(fixture_replica, state_host(fixture_replica, host->meta.uid));
    }
    cursor = 0;
    for (const struct group *group;
         (group = state_next(state, KIND_GROUP, &cursor)) != NULL;) {
        check_group(group);
    }
    cursor = 0;
    for (const struct network *network;
         (network = state_next(state, KIND_NETWORK, &cursor)) != NULL;) {
        check_network(network);
    }
}

static void restore_replica(void)
{
    uint8_t *data = NULL;
    size_t size = 0;
    struct err err = {0};
    ck_assert_int_eq(state_encode(fixture_replica, &data, &size), 0);
    ck_assert_msg(state_decode(fixture_replica, data, size, &err) == 0, "%s", err.text);
    free(data);
}

static unsigned walk(uint64_t seed)
{
    random_seed(&dice, seed);
    unsigned successes = 0;
    for (unsigned step = 0; step < STEPS; step++) {
        answer.code = 1;
        one_step();
        successes += answer.code == 0;
        ck_assert_msg(state_hash(state) == state_hash(fixture_replica),
                      "seed %lu, step %u: the replicas differ", (unsigned long)seed,
                      step);
        if (roll(100) == 0) {
            restore_replica();
        }
        if (step % CHECK_EVERY == 0) {
            check_all();
        }
    }
    return successes;
}

START_TEST(replicas_agree_and_counts_are_right_whatever_happens)
{
    fixture_replica = state_new(NULL, NULL);
    epochs = u64_map_new();
    ck_assert(fixture_replica != NULL && epochs != NULL);
    fixture_start();
    unsigned successes = walk((uint64_t)_i);
    /* It gets somewhere; how far depends on the order in which a compiler evaluates
     * arguments that roll. */
    ck_assert_uint_gt(successes, STEPS / 10);
    ck_assert_uint_gt(state_count(state, KIND_VM), 0);
    fixture_stop();
    state_free(fixture_replica);
    u64_map_free(epochs);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("state_walk");
    TCase *tests = tcase_create("state_walk");
    tcase_set_timeout(tests, 60);
    tcase_add_loop_test(tests, replicas_agree_and_counts_are_right_whatever_happens, 1,
                        9);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
