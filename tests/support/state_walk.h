/* Random walks over a replicated state: each step is one random command, mostly a
 * sensible one, now and then stale, wrong or repeated.
 *
 * The caller seeds `dice`, calls fixture_start (support/state_fixture.h) and then
 * one_step as often as it likes. Everything is drawn from `dice`, so a seed is a whole
 * history.
 */
#pragma once

#include "base/random.h"
#include "support/state_fixture.h"

static struct random dice;
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
        report_disks(vm->meta.uid, host == 0 ? 1 : host, near(vm->status.epoch),
                     (enum phase)roll(PHASE_COUNT), fixture_wall_ms - roll(1000),
                     roll(3) == 0 ? 0 : vm->status.epoch);
    }
}

static void walk_pause(void)
{
    const struct vm *vm = any(KIND_VM);
    if (vm == NULL) {
        return;
    }
    if (roll(2) == 0) {
        pause_vm(vm->meta.uid, roll(2) == 0);
    } else if (vm->status.host != 0) {
        reports_run(vm->meta.uid, roll(2) == 0 ? PHASE_RUNNING : PHASE_READY,
                    (enum engine)roll(ENGINE_COUNT), vm->spec.paused, "seen");
    }
}

static void walk_snapshot(void)
{
    const struct snapshot *snapshot = any(KIND_SNAPSHOT);
    if (snapshot == NULL || roll(4) == 0) {
        make_snapshot(any_uid(KIND_VM), roll(4) == 0 ? "same" : "");
    } else if (roll(4) == 0) {
        const struct metadata named = snapshot->meta;
        delete_object(KIND_SNAPSHOT, named.tenant, named.name);
    } else if (roll(3) == 0) {
        restore_vm(roll(8) == 0 ? any_uid(KIND_VM) : snapshot->spec.vm_uid,
                   snapshot->meta.uid);
    } else if (snapshot->status.host != 0) {
        step_snapshot_as(snapshot->meta.uid, snapshot->status.host,
                         near(snapshot->status.epoch), (enum snapshot_phase)roll(5),
                         roll(300) * MIB);
    }
}

static void walk_evict(void)
{
    const struct vm *vm = any(KIND_VM);
    if (vm != NULL) {
        evict(vm->meta.uid, near(vm->status.epoch), (enum stop_intent)(1 + roll(4)));
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
    set_power_at(any_uid(KIND_VM), roll(2) == 0 ? POWER_ON : POWER_OFF, roll(4) == 0);
}

static void walk_change(void)
{
    static const char *const values[] = {"a", "b", NULL};
    (void)change_vm(any_uid(KIND_VM), roll(4) == 0 ? POWER_OFF : POWER_ON,
                    roll(4) == 0 ? NULL : "app", PICK(values));
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

static void walk_label_host(void)
{
    static const char *const values[] = {"a", "b", NULL};
    (void)label_host(any_uid(KIND_HOST), roll(2) == 0 ? "rack" : "zone", PICK(values));
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
    {walk_tenant, 2},         {walk_network, 3}, {walk_template, 4},
    {walk_group, 4},          {walk_admit, 14},  {walk_place, 22},
    {walk_report, 40},        {walk_evict, 6},   {walk_retry, 8},
    {walk_migrate, 14},       {walk_power, 5},   {walk_change, 3},
    {walk_host_phase, 6},     {walk_drain, 4},   {walk_label_host, 3},
    {walk_network_host, 4},   {walk_scale, 3},   {walk_delete, 6},
    {walk_token_and_join, 6}, {walk_pause, 4},   {walk_snapshot, 12},
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
