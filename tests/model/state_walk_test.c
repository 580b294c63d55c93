/* Random walks: thousands of random commands on two replicas, one of which is written out
 * and read back at random moments. Whatever happens, both answer alike and hash alike,
 * and what is counted incrementally equals what a recount gives. The seed is the row of
 * the loop; a failure names it. */
#include "base/random.h"
#include "base/u64_map.h"
#include "support/state_fixture.h"

#define STEPS       4000
#define CHECK_EVERY 20

static struct random dice;
static struct u64_map *epochs; /* VM uid -> highest epoch seen + 1 */

static const char *const tenants[] = {DEFAULT_TENANT, "shop", "lab"};
static const char *const templates[] = {"plain", "web", "pet"};
static const char *const networks[] = {"front", "back"};
static const char *const groups[] = {"g", "k"};

static uint64_t roll(uint64_t bound)
{
    return random_below(&dice, bound);
}

#define PICK(names) ((names)[roll(sizeof(names) / sizeof((names)[0]))])

/* A random object of the kind, or NULL: the same one on every replica. */
static const void *any(enum kind kind)
{
    const void **objects = NULL;
    size_t count = 0;
    ck_assert_int_eq(state_list(state, kind, NULL, &objects, &count), 0);
    const void *object = count > 0 ? objects[roll(count)] : NULL;
    free(objects);
    return object;
}

static uint64_t any_uid(enum kind kind)
{
    const struct metadata *meta = any(kind);
    return meta != NULL && roll(50) != 0 ? meta->uid : 1 + roll(100);
}

/* Mostly right, now and then stale or from the future. */
static uint64_t near(uint64_t value)
{
    uint64_t die = roll(20);
    return die == 0 ? value + 1 : die == 1 && value > 0 ? value - 1 : value;
}

static void walk_tenant(void)
{
    struct tenant *tenant = make_tenant(PICK(tenants));
    if (roll(2) == 0) {
        tenant->spec.quota.vms = (uint32_t)roll(10);
        tenant->spec.quota.memory_bytes = roll(12) * 128 * MIB;
    }
    put(KIND_TENANT, tenant);
}

static void walk_network(void)
{
    uint64_t cidr = ((0x0a000000 + roll(4) * 256) << 8) | 27;
    put(KIND_NETWORK, make_network(PICK(tenants), PICK(networks), cidr));
}

static void walk_template(void)
{
    const char *name = PICK(templates);
    struct template *template = make_template(
        PICK(tenants), name, strcmp(name, "web") == 0 ? PICK(networks) : NULL);
    if (strcmp(name, "pet") == 0) {
        template->spec.lifecycle.host_failure = HOST_FAILURE_WAIT;
    }
    template->spec.cpu.count = 1 + (uint32_t)roll(3);
    put(KIND_TEMPLATE, template);
}

static void walk_group(void)
{
    put(KIND_GROUP,
        make_group(PICK(tenants), PICK(groups), PICK(templates), (uint32_t)roll(5)));
}

static void walk_token_and_join(void)
{
    uint8_t number = (uint8_t)(1 + roll(6));
    char name[NAME_SIZE];
    snprintf(name, sizeof(name), "t%d", number);
    put(KIND_TOKEN, make_join_token(name, number));
    snprintf(name, sizeof(name), "n%d", (int)roll(6));
    join(name, (uint8_t)(10 + roll(8)), number);
}

static void walk_admit(void)
{
    char name[NAME_SIZE];
    bool of_group = roll(2) == 0;
    const char *group = PICK(groups);
    if (of_group) {
        snprintf(name, sizeof(name), "%s-%d", group, (int)roll(12));
    } else {
        snprintf(name, sizeof(name), "v%d", (int)roll(20));
    }
    admit(PICK(tenants), name, PICK(templates), of_group ? group : "");
}

static void walk_place(void)
{
    const struct vm *vm = any(KIND_VM);
    const struct host *host = any(KIND_HOST);
    if (vm == NULL || host == NULL) {
        return;
    }
    uint64_t uid = vm->meta.uid;
    uint64_t host_uid = host->meta.uid;
    uint64_t epoch = near(vm->status.epoch + 1);
    uint32_t address = 0;
    if (vm->status.nics.count > 0) {
        const struct network *network = state_get(state, KIND_NETWORK, vm->meta.tenant,
                                                  vm->status.nics.items[0].network);
        ck_assert_ptr_nonnull(network);
        uint32_t from = cidr_address(network->spec.ipv4.cidr);
        uint64_t network_uid = network->meta.uid;
        address = vm->status.nics.items[0].ipv4;
        network_host(network_uid, host_uid, state_address_free(state, network, 0));
        network = state_network(state, network_uid);
        if (address == 0) {
            address = roll(4) == 0 ? from + (uint32_t)roll(40)
                                   : state_address_free(state, network, 0);
        }
    }
    place(uid, host_uid, epoch, address);
}

static void walk_report(void)
{
    const struct vm *vm = any(KIND_VM);
    if (vm != NULL) {
        uint64_t host = roll(20) == 0 ? any_uid(KIND_HOST) : vm->status.host;
        report(vm->meta.uid, host == 0 ? 1 : host, near(vm->status.epoch),
               (enum phase)roll(PHASE_COUNT), fixture_wall_ms - roll(1000));
    }
}

static void walk_evict(void)
{
    const struct vm *vm = any(KIND_VM);
    if (vm != NULL) {
        evict(vm->meta.uid, near(vm->status.epoch), (enum stop_intent)(1 + roll(3)));
    }
}

static void walk_retry(void)
{
    const struct vm *vm = any(KIND_VM);
    if (vm != NULL) {
        retry(vm->meta.uid, near(vm->status.epoch));
    }
}

static void walk_migrate(void)
{
    static const enum command_type steps[] = {
        COMMAND_MIGRATE_PREPARE, COMMAND_MIGRATE_SWITCH, COMMAND_MIGRATE_COMMIT,
        COMMAND_MIGRATE_ABORT};
    const struct vm *vm = any(KIND_VM);
    if (vm != NULL) {
        migrate(PICK(steps), vm->meta.uid, near(vm->status.epoch), any_uid(KIND_HOST));
    }
}

static void walk_power(void)
{
    set_power(any_uid(KIND_VM), roll(2) == 0 ? POWER_ON : POWER_OFF);
}

static void walk_host_phase(void)
{
    static const enum host_phase phases[] = {HOST_PHASE_READY, HOST_PHASE_READY,
                                             HOST_PHASE_READY, HOST_PHASE_SUSPECT,
                                             HOST_PHASE_LOST,  HOST_PHASE_REMOVED};
    host_phase(any_uid(KIND_HOST), PICK(phases));
}

static void walk_drain(void)
{
    host_drain(any_uid(KIND_HOST), roll(3) == 0);
}

static void walk_network_host(void)
{
    const struct network *network = any(KIND_NETWORK);
    if (network != NULL) {
        uint32_t address =
            roll(3) == 0 ? 0 : cidr_address(network->spec.ipv4.cidr) + (uint32_t)roll(40);
        network_host(network->meta.uid, any_uid(KIND_HOST), address);
    }
}

static void walk_scale(void)
{
    scale(PICK(groups), (uint32_t)roll(6), roll(2) == 0);
}

static void walk_delete(void)
{
    static const enum kind kinds[] = {KIND_VM,     KIND_VM,      KIND_VM,
                                      KIND_GROUP,  KIND_TOKEN,   KIND_HOST,
                                      KIND_TENANT, KIND_NETWORK, KIND_TEMPLATE};
    enum kind kind = PICK(kinds);
    const struct metadata *meta = any(kind);
    if (meta != NULL) {
        const struct metadata named = *meta;
        delete_at(kind, named.tenant, named.name,
                  roll(4) == 0 ? near(named.modify_revision) : REVISION_ANY);
    }
}

/* Steps by weight. */
static const struct {
    void (*walk)(void);
    unsigned weight;
} steps[] = {
    {walk_tenant, 2},   {walk_network, 3},        {walk_template, 4},
    {walk_group, 4},    {walk_admit, 14},         {walk_place, 22},
    {walk_report, 40},  {walk_evict, 6},          {walk_retry, 8},
    {walk_migrate, 14}, {walk_power, 5},          {walk_host_phase, 6},
    {walk_drain, 4},    {walk_network_host, 4},   {walk_scale, 3},
    {walk_delete, 6},   {walk_token_and_join, 6},
};

static void one_step(void)
{
    unsigned total = 0;
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        total += steps[i].weight;
    }
    uint64_t die = roll(total);
    size_t chosen = 0;
    while (die >= steps[chosen].weight) {
        die -= steps[chosen++].weight;
    }
    if (roll(5) == 0) {
        next_request((uint8_t)roll(200)); /* some of them again */
    }
    fixture_wall_ms += roll(200000);
    steps[chosen].walk();
    memset(fixture_request, 0, sizeof(fixture_request));
}

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
    for (uint32_t i = 0; i < size; i++) {
        ck_assert_uint_le(owners[i], 1);
        ck_assert(state_address_used(state, network, first + i) == (owners[i] == 1));
    }
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
