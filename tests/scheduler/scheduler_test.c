/* Goal: whatever happens to a cluster, what the scheduler decides is taken by apply,
 * changes something, keeps every promise of model.md and scheduling.md, and comes to
 * rest; and once the trouble is over, everybody has what they asked for. Method: seeded
 * walks of everything that users, hosts, clocks and elections can do, with a second
 * scheduler beside the first that must decide the same, byte by byte. A failing seed is
 * run again with BERTH_SEED=n. */
#include "base/random.h"
#include "base/u64_map.h"
#include "scheduler_fixture.h"

#define HOSTS     8
#define STEPS     250
#define SEEDS     24
#define APART_MAX 2

static struct random dice;
static struct scheduler *twin;
static struct decisions *twin_decisions;
static uint64_t hosts[HOSTS];
static uint64_t heard_ns[HOSTS]; /* under this leadership; 0: not yet */
static bool silent[HOSTS];
static uint64_t leads_ns;
static struct u64_map *epochs; /* vm uid -> highest epoch seen + 1 */

static uint64_t dice_below(uint64_t bound)
{
    return random_below(&dice, bound);
}

/* ---- both schedulers are told the same ---- */

static void lead(void)
{
    leads_ns = now_ns;
    memset(heard_ns, 0, sizeof(heard_ns));
    scheduler_lead(scheduler, now_ns);
    scheduler_lead(twin, now_ns);
}

static void heartbeats(void)
{
    const struct host_load load = {.cpu_used_mcpu = 100};
    for (unsigned i = 0; i < HOSTS; i++) {
        if (hosts[i] != 0 && !silent[i] && state_host(state, hosts[i]) != NULL) {
            hear(hosts[i]);
            ck_assert_int_eq(
                scheduler_host_heard(twin, hosts[i], &load, now_ns, fixture_wall_ms), 0);
            heard_ns[i] = now_ns;
        }
    }
}

static void loads(void)
{
    size_t cursor = 0;
    for (const struct vm *vm; (vm = state_next(state, KIND_VM, &cursor)) != NULL;) {
        uint32_t permille = (uint32_t)dice_below(1001);
        scheduler_vm_load(scheduler, vm->meta.uid, permille, true, now_ns);
        scheduler_vm_load(twin, vm->meta.uid, permille, true, now_ns);
    }
}

/* ---- what must hold ---- */

static unsigned slot_of(uint64_t host)
{
    for (unsigned i = 0; i < HOSTS; i++) {
        if (hosts[i] == host) {
            return i;
        }
    }
    ck_abort_msg("an unknown host");
    return 0;
}

static void check_same_decisions(void)
{
    ck_assert_uint_eq(
        scheduler_step(twin, state, now_ns, fixture_wall_ms, twin_decisions),
        decisions->count);
    for (uint32_t i = 0; i < decisions->count; i++) {
        struct bytes_writer one;
        struct bytes_writer other;
        bytes_writer_init(&one, COMMAND_SIZE_MAX);
        bytes_writer_init(&other, COMMAND_SIZE_MAX);
        command_encode(&decisions->commands[i], &one);
        command_encode(&twin_decisions->commands[i], &other);
        ck_assert_uint_eq(one.size, other.size);
        ck_assert_mem_eq(one.data, other.data, one.size);
        bytes_writer_fini(&one);
        bytes_writer_fini(&other);
    }
    decisions_fini(twin_decisions);
}

/* Before the batch is applied: what it says about hosts is so. */
static void check_batch(void)
{
    for (uint32_t i = 0; i < decisions->count; i++) {
        const struct command *command = &decisions->commands[i];
        if (command->type == COMMAND_PLACE_VM) {
            const struct host *host = state_host(state, command->body.place_vm.host);
            unsigned slot = slot_of(host->meta.uid);
            ck_assert_int_eq(host->status.phase, HOST_PHASE_READY);
            ck_assert(!host->spec.drain);
            ck_assert_uint_ne(heard_ns[slot], 0);
            ck_assert_uint_le(now_ns - heard_ns[slot], SUSPECT_NS);
        }
        if (command->type == COMMAND_HOST_PHASE &&
            command->body.host_phase.phase == HOST_PHASE_LOST) {
            unsigned slot = slot_of(command->body.host_phase.host);
            uint64_t over_ns = host_watch_lease_over_ns();
            ck_assert_uint_gt(now_ns - leads_ns, over_ns);
            ck_assert_uint_gt(now_ns - heard_ns[slot], over_ns);
        }
    }
}

static unsigned apart_on(uint64_t host)
{
    unsigned count = 0;
    size_t cursor = 0;
    for (const struct vm *vm; (vm = state_vm_on_host(state, host, &cursor)) != NULL;) {
        count += strcmp(vm->spec.group, "apart") == 0;
    }
    return count;
}

/* After it: nobody has more than it can hold who was given something. */
static void check_given(const bool *given)
{
    for (unsigned i = 0; i < HOSTS; i++) {
        const struct host *host = hosts[i] != 0 ? state_host(state, hosts[i]) : NULL;
        if (host == NULL || !given[i]) {
            continue;
        }
        struct host_use use = state_host_use(state, hosts[i]);
        ck_assert_uint_le(use.memory_bytes, host->status.memory_bytes);
        ck_assert_uint_le(use.cpu_mcpu,
                          (uint64_t)host->status.cpu_mcpu * host->status.cpu_overcommit);
        ck_assert_uint_le(use.vms, PLACE_VMS_PER_HOST_MAX);
        ck_assert_uint_le(apart_on(hosts[i]), APART_MAX);
    }
}

static void check_epochs(void)
{
    size_t cursor = 0;
    for (const struct vm *vm; (vm = state_next(state, KIND_VM, &cursor)) != NULL;) {
        uint64_t seen = (uintptr_t)u64_map_get(epochs, vm->meta.uid);
        ck_assert_uint_ge(vm->status.epoch + 1, seen);
        ck_assert_int_eq(
            u64_map_put(epochs, vm->meta.uid, (void *)(uintptr_t)(vm->status.epoch + 1)),
            0);
    }
}

static uint32_t checked_step(void)
{
    bool given[HOSTS] = {false};
    uint32_t count = step_once();
    check_same_decisions();
    check_batch();
    for (uint32_t i = 0; i < count; i++) {
        if (decisions->commands[i].type == COMMAND_PLACE_VM) {
            const struct cmd_place_vm *place_vm = &decisions->commands[i].body.place_vm;
            given[slot_of(place_vm->host)] = true;
            ck_assert_uint_eq(place_vm->epoch,
                              state_vm(state, place_vm->vm)->status.epoch + 1);
        }
    }
    apply_batch();
    check_given(given);
    check_epochs();
    return count;
}

static void checked_settle(void)
{
    for (unsigned i = 0; i < 200; i++) {
        if (checked_step() == 0) {
            return;
        }
    }
    ck_abort_msg("the scheduler does not come to rest");
}

/* ---- what happens ---- */

static uint64_t some_vm(void)
{
    size_t count = state_count(state, KIND_VM);
    size_t cursor = count > 0 ? dice_below(count) : 0;
    const struct vm *vm = state_next(state, KIND_VM, &cursor);
    return vm != NULL ? vm->meta.uid : 0;
}

static unsigned some_host(void)
{
    return (unsigned)dice_below(HOSTS);
}

static bool host_is_there(unsigned slot)
{
    return hosts[slot] != 0 && state_host(state, hosts[slot]) != NULL;
}

static void event_time(void)
{
    static const uint64_t ms[] = {10, 250, 1000, 1600, 3000, 7000, 30000};
    time_passes(ms[dice_below(sizeof(ms) / sizeof(ms[0]))]);
}

static void event_silence(void)
{
    unsigned slot = some_host();
    silent[slot] = !silent[slot] && dice_below(2) == 0;
}

static void event_host(void)
{
    unsigned slot = some_host();
    if (!host_is_there(slot)) {
        char name[NAME_SIZE];
        static uint8_t key = 1;
        (void)snprintf(name, sizeof(name), "n%u", ++key);
        hosts[slot] = make_host(name, key, 1000 * (1 + (uint32_t)dice_below(4)),
                                (256 + dice_below(1024)) * MIB);
        heard_ns[slot] = 0;
        silent[slot] = false;
    } else if (state_host(state, hosts[slot])->status.phase == HOST_PHASE_LOST &&
               dice_below(2) == 0) {
        int r = host_phase(hosts[slot], HOST_PHASE_REMOVED);
        ck_assert(r == 0 || r == BERTH_EINUSE); /* the last that vote have to stay */
        hosts[slot] = r == 0 ? 0 : hosts[slot];
    }
}

static void event_drain(void)
{
    unsigned slot = some_host();
    if (host_is_there(slot)) {
        (void)host_drain(hosts[slot], dice_below(2) == 0);
    }
}

static void event_admit(void)
{
    static const char *const templates[] = {"plain", "web", "large", "waits", "apart"};
    char name[NAME_SIZE];
    static unsigned number;
    (void)snprintf(name, sizeof(name), "vm-%u", ++number);
    (void)admit(DEFAULT_TENANT, name, templates[dice_below(4)], "");
}

static void event_scale(void)
{
    static const char *const groups[] = {"web", "apart"};
    (void)scale(groups[dice_below(2)], (uint32_t)dice_below(13), true);
}

static void event_report(void)
{
    static const enum phase phases[] = {PHASE_STARTING, PHASE_RUNNING, PHASE_READY,
                                        PHASE_STOPPED, PHASE_FAILED};
    uint64_t vm = some_vm();
    if (vm != 0 && state_vm(state, vm)->status.host != 0) {
        (void)reports(vm, phases[dice_below(5)]); /* may not be allowed now */
    }
}

static void event_user(void)
{
    uint64_t vm = some_vm();
    if (vm == 0) {
        return;
    }
    switch (dice_below(4)) {
    case 0:
        (void)set_power(vm, POWER_OFF);
        break;
    case 1:
        (void)set_power(vm, POWER_ON);
        break;
    case 2:
        (void)evict(vm, state_vm(state, vm)->status.epoch, STOP_INTENT_MOVE);
        break;
    default:
        (void)evict(vm, state_vm(state, vm)->status.epoch, STOP_INTENT_DELETE);
        break;
    }
}

static void event_migrate(void)
{
    static const enum command_type steps[] = {
        COMMAND_MIGRATE_PREPARE, COMMAND_MIGRATE_SWITCH, COMMAND_MIGRATE_COMMIT,
        COMMAND_MIGRATE_ABORT};
    uint64_t vm = some_vm();
    unsigned slot = some_host();
    if (vm != 0 && host_is_there(slot)) {
        (void)migrate(steps[dice_below(4)], vm, state_vm(state, vm)->status.epoch,
                      hosts[slot]);
    }
}

static void event_quota(void)
{
    struct tenant *tenant = make_tenant(DEFAULT_TENANT);
    tenant->spec.quota.vms = dice_below(2) == 0 ? UNLIMITED32 : (uint32_t)dice_below(30);
    ck_assert_int_eq(put(KIND_TENANT, tenant), 0);
}

static void event_leader(void)
{
    if (dice_below(3) == 0) {
        lead();
    }
}

static void event_clock(void)
{
    fixture_wall_ms += dice_below(2) == 0 ? 3600000 : 0;
    fixture_wall_ms -= dice_below(2) == 0 ? 3600000 : 0;
}

static void (*const events[])(void) = {
    event_time,   event_time,   event_time,  event_silence, event_host,
    event_host,   event_drain,  event_admit, event_admit,   event_scale,
    event_report, event_report, event_user,  event_migrate, event_quota,
    event_leader, event_clock,  loads,       hosts_work,
};

/* ---- the walk ---- */

static void walk_start(uint64_t seed)
{
    random_seed(&dice, seed);
    twin = scheduler_new();
    twin_decisions = calloc(1, sizeof(*twin_decisions));
    epochs = u64_map_new();
    ck_assert(twin != NULL && twin_decisions != NULL && epochs != NULL);
    memset(hosts, 0, sizeof(hosts));
    memset(silent, 0, sizeof(silent));
    hosts[0] = h1;
    fixture_wall_ms = UINT64_C(1000000000000);
    lead();
    put_machine("large", 3, 512 * MIB, NULL);
    struct template *waits = make_template(DEFAULT_TENANT, "waits", "front");
    waits->spec.lifecycle.host_failure = HOST_FAILURE_WAIT;
    waits->spec.lifecycle.host_drain = HOST_DRAIN_STOP;
    waits->spec.lifecycle.restart.policy = RESTART_ALWAYS;
    ck_assert_int_eq(put(KIND_TEMPLATE, waits), 0);
    struct template *apart = make_template(DEFAULT_TENANT, "apart", NULL);
    apart->spec.placement.spread.by = SPREAD_HOST;
    apart->spec.placement.spread.max = APART_MAX;
    ck_assert_int_eq(put(KIND_TEMPLATE, apart), 0);
    put_group("web", "web", 4);
    put_group("apart", "apart", 4);
}

static void walk_stop(void)
{
    decisions_fini(twin_decisions);
    free(twin_decisions);
    twin = scheduler_free(twin);
    epochs = u64_map_free(epochs);
}

/* All hosts are back, with room for everybody; then time passes. */
static void heal(void)
{
    struct tenant *tenant = make_tenant(DEFAULT_TENANT);
    ck_assert_int_eq(put(KIND_TENANT, tenant), 0);
    for (unsigned i = 0; i < HOSTS; i++) {
        while (!host_is_there(i)) {
            event_host();
        }
        silent[i] = false;
        (void)host_drain(hosts[i], false);
        set_host(hosts[i], 64000, 64 * GIB, ENGINE_BIT(ENGINE_QEMU), KVM_NONE);
    }
    for (unsigned i = 0; i < 200; i++) {
        time_passes(20000);
        heartbeats();
        checked_settle();
        hosts_work();
    }
}

/* Found alive: a VM that waited for its lost host reports as it is. */
static void check_content(void)
{
    static const char *const groups[] = {"web", "apart"};
    size_t cursor = 0;
    for (const struct vm *vm; (vm = state_next(state, KIND_VM, &cursor)) != NULL;) {
        const struct vm_status *status = &vm->status;
        if (vm->spec.power == POWER_ON && status->phase != PHASE_LOST &&
            status->phase != PHASE_MIGRATING) {
            bool gave_up =
                status->phase == PHASE_STOPPED || status->phase == PHASE_FAILED;
            ck_assert_msg(gave_up ? !vm_restarts(state, vm)
                                  : vm_phase_on_host(status->phase),
                          "vm %s is %s", vm->meta.name, phase_names[status->phase]);
        }
    }
    for (unsigned i = 0; i < 2; i++) {
        uint32_t want = group_named(groups[i])->status.desired;
        uint32_t most = groups[i][0] == 'a' ? HOSTS * APART_MAX : GROUP_VMS_MAX;
        ck_assert_uint_le(want, most);
        ck_assert_uint_eq(state_group_vms(state, group_named(groups[i])), want);
    }
    heartbeats();
    ck_assert_uint_eq(checked_step(), 0);
}

static void walk(uint64_t seed)
{
    walk_start(seed);
    for (unsigned i = 0; i < STEPS; i++) {
        events[dice_below(sizeof(events) / sizeof(events[0]))]();
        heartbeats();
        if (dice_below(3) == 0) {
            (void)checked_step(); /* the world goes on in the middle of a plan */
        } else {
            checked_settle();
        }
    }
    heal();
    check_content();
    walk_stop();
}

START_TEST(every_walk_keeps_every_promise)
{
    // NOLINTNEXTLINE(concurrency-mt-unsafe): one thread
    const char *given = getenv("BERTH_SEED");
    if (given != NULL && _i > 0) {
        return;
    }
    uint64_t seed = given != NULL ? strtoull(given, NULL, 10) : (uint64_t)_i + 1;
    printf("seed %llu\n", (unsigned long long)seed);
    walk(seed);
}
END_TEST

/* ---- one step ---- */

START_TEST(an_idle_cluster_is_left_alone)
{
    (void)ready_vm("a", h1);
    for (unsigned i = 0; i < 100; i++) {
        time_passes(250);
        hear_all();
        ck_assert_uint_eq(step_once(), 0);
        ck_assert_uint_le(scheduler_next_ns(scheduler, state, now_ns),
                          now_ns + 100 * NS_PER_MS);
        ck_assert_uint_gt(scheduler_next_ns(scheduler, state, now_ns), now_ns);
    }
}
END_TEST

START_TEST(a_cluster_without_hosts_gives_no_trouble)
{
    struct state *empty = state_new(NULL, NULL);
    ck_assert_uint_eq(
        scheduler_step(scheduler, empty, now_ns, fixture_wall_ms, decisions), 0);
    state_free(empty);
}
END_TEST

/* The dead leader's host is still ready in the log when the next leader begins. */
START_TEST(a_new_leader_places_nothing_on_hosts_it_has_not_heard)
{
    uint64_t h2 = make_host("h2", 2, 64000, 128 * GIB);
    (void)admit_plain("a");
    scheduler_lead(scheduler, now_ns);
    ck_assert_uint_eq(settle(), 0);
    hear(h2);
    settle();
    ck_assert_uint_eq(host_of_vm("a"), h2);
}
END_TEST

START_TEST(a_vm_whose_network_a_host_cannot_carry_waits_and_loses_no_try)
{
    const struct host_range range = {ADDRESS(0), 16, "10.0.0.0/16, its own"};
    unsigned looks = 1;
    char text[256];
    ck_assert_int_eq(scheduler_host_ranges(scheduler, h1, &range, 1), 0);
    uint64_t vm = admit_one("a", "web");
    settle();
    const struct vm_status *status = &state_vm(state, vm)->status;
    ck_assert_uint_eq(status->phase, PHASE_PENDING);
    ck_assert_uint_eq(status->restarts, 0);
    ck_assert(scheduler_pending_reason(scheduler, state, state_vm(state, vm), &looks,
                                       text, sizeof(text)));
    ck_assert_str_eq(text, "no host: 1 of 1 uses its network's range itself");

    uint64_t h2 = make_host("h2", 2, 64000, 128 * GIB);
    hear(h2);
    settle();
    ck_assert_uint_eq(host_of_vm("a"), h2);
    ck_assert_uint_eq(state_vm(state, vm)->status.restarts, 0);
}
END_TEST

START_TEST(a_batch_that_was_not_taken_is_decided_again_alike)
{
    for (unsigned i = 0; i < 5; i++) {
        char name[NAME_SIZE];
        (void)snprintf(name, sizeof(name), "a-%u", i);
        (void)admit_one(name, "web");
    }
    uint32_t count = step_once();
    ck_assert_uint_eq(count, 6);
    ck_assert_uint_eq(step_once(), count); /* leadership was lost in between, say */
    apply_batch();
    ck_assert_uint_eq(step_once(), 0);
}
END_TEST

START_TEST(what_hosts_say_is_shown)
{
    uint64_t wall_ms = 0;
    struct host_load load = {0};
    ck_assert(scheduler_host_seen(scheduler, h1, &wall_ms, &load));
    ck_assert_uint_eq(wall_ms, fixture_wall_ms);
    ck_assert_uint_eq(load.cpu_used_mcpu, 100);
    ck_assert(!scheduler_host_seen(scheduler, 999, &wall_ms, &load));
    ck_assert_int_eq(scheduler_vm_cpu(scheduler, 7, NS_PER_S, now_ns), -1);
    scheduler_vm_load(scheduler, 7, 250, false, now_ns);
    ck_assert_int_eq(scheduler_vm_cpu(scheduler, 7, NS_PER_S, now_ns), 250);
}
END_TEST

int main(void)
{
    TCase *tests;
    Suite *suite = cluster_suite("scheduler", &tests);
    tcase_add_loop_test(tests, every_walk_keeps_every_promise, 0, SEEDS);
    tcase_add_test(tests, an_idle_cluster_is_left_alone);
    tcase_add_test(tests, a_cluster_without_hosts_gives_no_trouble);
    tcase_add_test(tests, a_new_leader_places_nothing_on_hosts_it_has_not_heard);
    tcase_add_test(tests, a_vm_whose_network_a_host_cannot_carry_waits_and_loses_no_try);
    tcase_add_test(tests, a_batch_that_was_not_taken_is_decided_again_alike);
    tcase_add_test(tests, what_hosts_say_is_shown);
    return test_main_run(suite);
}
