#include "sim.h"

#include "base/log.h"
#include "base/require.h"
#include "consensus/entry_frame.h"
#include "model/join_token.h"
#include "sim_fault.h"
#include "sim_watch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* After healing: within so much there is a leader, and it commits what clients write, in
 * runs of every kind. */
#define GO_ON_NS (10 * NS_PER_S)
#define HEAL_NS  (10 * NS_PER_S) /* and within so much everything works again */
#define HEAL_RACK_NS \
    (25 * NS_PER_S) /* leases have to run out, VMs to back off and start */
#define HEAL_MEMBERS_NS (60 * NS_PER_S) /* hosts to be lost, voters replaced in turn */
#define CALM_NS         (2 * NS_PER_S)  /* then nobody stands for election any more */
#define LAST_ASK_NS     (7 * NS_PER_S)  /* after healing clients begin nothing new */
#define SIM_VM_BYTES    (UINT64_C(5) << 29)
#define LOOK_NS         (50 * NS_PER_MS)

const char *const sim_bug_names[SIM_BUG_COUNT] = {
    "none",           "bare",        "ack-before-fsync", "no-leader-wait",
    "lease-from-ack", "old-orders",  "old-start",        "unknown-is-over",
    "no-epoch-check", "resume-late", "no-fence",         "drop-at-restart",
    "no-keep",        "disks-anew",  "disks-forgotten",  "feed-gap",
    "resume-skips",   "no-compare",  "seal-unwaited",    "damage-as-torn",
    "log-anew",       "early-voter", "two-at-once",      "standby-counts",
    "begun-unsaid",   "loss-unsaid", "change-stays",     "change-missed",
    "never-asks",     "stale-read",  "own-clock",        "slow-election"};

static struct sim *current;

struct sim *sim_current(void)
{
    return current;
}

/* ---- the first commands of a cluster ---- */

struct first {
    struct sim *sim;
    struct state *state; /* to learn uids from */
};

static void first_command(struct first *first, struct command *command)
{
    struct bytes_writer writer;
    struct entry_frame_builder builder;
    struct apply_result result;
    command->wall_ms = UINT64_C(1764000000000);
    if (command->subject[0] == '\0') {
        (void)snprintf(command->subject, sizeof(command->subject), "system");
    }
    bytes_writer_init(&writer, COMMAND_SIZE_MAX);
    command_encode(command, &writer);
    REQUIRE(writer.error == 0);
    size_t size = entry_frame_size(1, writer.size);
    uint8_t *frame = calloc(1, size);
    REQUIRE(frame != NULL);
    entry_frame_begin(&builder, frame, size);
    entry_frame_add(&builder, writer.data, writer.size);
    entry_frame_finish(&builder);
    sim_raft_format_command(first->sim, frame, size);
    free(frame);
    bytes_writer_fini(&writer);
    state_apply(first->state, command, &result);
    if (result.code != 0) {
        fprintf(stderr, "first commands: %s: %s\n", command_name(command->type),
                result.text);
    }
    REQUIRE(result.code == 0);
    command_fini(command);
}

static void first_put(struct first *first, enum kind kind, void *object)
{
    struct command command;
    command_init(&command, COMMAND_PUT);
    REQUIRE(command_set_put(&command, kind, object, REVISION_ANY) == 0);
    object_free(kind, object);
    first_command(first, &command);
}

static struct digest token_hash(unsigned index)
{
    struct digest hash;
    memset(hash.bytes, (int)index + 1, sizeof(hash.bytes));
    return hash;
}

static void first_token(struct first *first, struct digest hash, unsigned index)
{
    struct token *token = object_new(KIND_TOKEN);
    REQUIRE(token != NULL);
    (void)snprintf(token->meta.name, sizeof(token->meta.name), "join-%u", index);
    token->spec.role = ROLE_JOIN;
    token->spec.hash = hash;
    token->spec.uses_left = 1;
    first_put(first, KIND_TOKEN, token);
}

/* Of the secret that it will come with (sim_host.c). */
static struct digest spare_hash(const struct sim_machine *machine)
{
    uint8_t secret[JOIN_SECRET_SIZE];
    memset(secret, (int)machine->index + 1, sizeof(secret));
    return join_secret_hash(secret);
}

static void first_join(struct first *first, struct sim_machine *machine)
{
    struct command command;
    if (machine->index > 0) {
        first_token(first, token_hash(machine->index), machine->index);
    }
    command_init(&command, COMMAND_HOST_JOIN);
    struct cmd_host_join *body = &command.body.host_join;
    (void)snprintf(body->name, sizeof(body->name), "m%u", machine->index);
    if (machine->index > 0) {
        body->token_hash = token_hash(machine->index);
    }
    memset(command.request_id, 0xc0 + (int)machine->index, sizeof(command.request_id));
    sim_host_describe(machine, &body->status);
    first_command(first, &command);
    struct digest key = identity_key_digest(&machine->key);
    const struct host *host = state_host_by_key(first->state, &key);
    REQUIRE(host != NULL);
    machine->uid = host->meta.uid;
    if (machine->has_log) {
        command_init(&command, COMMAND_HOST_VOTER);
        (void)snprintf(command.subject, sizeof(command.subject), "system");
        command.body.host_voter.host = machine->uid;
        command.body.host_voter.voter = VOTER_VOTER;
        first_command(first, &command);
    }
}

/* For VMs of a user who has them wait for a lost host. */
static void first_waits(struct first *first)
{
    struct template *template = object_new(KIND_TEMPLATE);
    REQUIRE(template != NULL);
    (void)snprintf(template->meta.tenant, NAME_SIZE, DEFAULT_TENANT);
    (void)snprintf(template->meta.name, NAME_SIZE, "waits");
    (void)snprintf(template->spec.image, NAME_SIZE, "linux");
    template->spec.memory.size_bytes = SIM_VM_BYTES;
    template->spec.lifecycle.host_failure = HOST_FAILURE_WAIT;
    first_put(first, KIND_TEMPLATE, template);
}

/* A group of VMs that may be restarted elsewhere. */
static void first_group(struct first *first)
{
    struct record_list list = {0};
    struct image *image = object_new(KIND_IMAGE);
    struct template *template = object_new(KIND_TEMPLATE);
    struct group *group = object_new(KIND_GROUP);
    struct artifact *artifact = record_list_add(&artifact_record, &list);
    REQUIRE(image != NULL && template != NULL && group != NULL && artifact != NULL);
    artifact->role = ARTIFACT_KERNEL;
    memset(artifact->sha256.bytes, 7, DIGEST_SIZE);
    image->spec.artifacts.items = list.items;
    image->spec.artifacts.count = list.count;
    (void)snprintf(image->meta.name, NAME_SIZE, "linux");
    first_put(first, KIND_IMAGE, image);
    (void)snprintf(template->meta.tenant, NAME_SIZE, DEFAULT_TENANT);
    (void)snprintf(template->meta.name, NAME_SIZE, "web");
    (void)snprintf(template->spec.image, NAME_SIZE, "linux");
    template->spec.memory.size_bytes = SIM_VM_BYTES; /* three a host: they spread */
    first_put(first, KIND_TEMPLATE, template);
    (void)snprintf(group->meta.tenant, NAME_SIZE, DEFAULT_TENANT);
    (void)snprintf(group->meta.name, NAME_SIZE, "web");
    (void)snprintf(group->spec.template_ref.name, NAME_SIZE, "web");
    group->spec.replicas = SIM_VMS;
    first_put(first, KIND_GROUP, group);
}

static void format(struct sim *sim)
{
    struct first first = {.sim = sim, .state = state_new(NULL, NULL)};
    REQUIRE(first.state != NULL);
    sim_raft_format(sim);
    for (unsigned i = 0; i < sim->machine_count; i++) {
        if (sim->machines[i].joined) {
            first_join(&first, &sim->machines[i]);
        } else {
            first_token(&first, spare_hash(&sim->machines[i]), i);
        }
    }
    sim_host_format(sim);
    if (sim->config.rack) {
        first_group(&first);
    }
    if (sim->config.rack && sim->config.own_vms) {
        first_waits(&first);
    }
    state_free(first.state);
}

/* ---- a run ---- */

static struct sim_config config_of(uint64_t seed, bool rack, bool members)
{
    return (struct sim_config){.seed = seed,
                               .rack = rack,
                               .members = members,
                               .late = rack && !members && seed % 4 == 1,
                               .own_vms = rack && seed % 2 == 1,
                               .voters = members && seed % 5 == 0 ? 1
                                         : seed % 4 == 0          ? 5
                                                                  : 3,
                               .hosts = rack ? 3 : 0,
                               .spares = members ? SIM_SPARES : 0,
                               .clients = 3 + (unsigned)(seed % 4),
                               .faults_ms = members ? SIM_FAULTS_MEMBERS_MS
                                            : rack  ? SIM_FAULTS_RACK_MS
                                                    : SIM_FAULTS_LOG_MS};
}

struct sim_config sim_config_of(uint64_t seed, bool rack)
{
    return config_of(seed, rack, rack && seed % 3 == 0);
}

struct sim_config sim_config_late(uint64_t seed)
{
    struct sim_config config = config_of(seed, true, false);
    config.late = true;
    return config;
}

struct sim_config sim_config_changing(uint64_t seed)
{
    return config_of(seed, true, true);
}

static void on_power(void *context, uint64_t argument)
{
    (void)argument;
    sim_machine_start(context);
}

struct sim *sim_new(const struct sim_config *config,
                    const struct sim_fault_list *faults,
                    uint64_t mask)
{
    struct sim *sim = calloc(1, sizeof(*sim));
    REQUIRE(sim != NULL);
    REQUIRE(config->voters + config->hosts + config->spares <= SIM_MACHINES_MAX);
    current = sim;
    log_setup(LOG_LEVEL_ERROR + 1, false);
    sim->config = *config;
    sim->machine_count = config->voters + config->hosts + config->spares;
    list_init(&sim->packets);
    world_init(&sim->world, config->seed, config->telling);
    sim->oracle = oracle_new();
    sim->snapshot_threshold = (unsigned)world_between(&sim->world, 16, 400);
    sim->snapshot_trailing = (unsigned)world_between(&sim->world, 8, 200);
    for (unsigned i = 0; i < sim->machine_count; i++) {
        sim_machine_init(sim, i);
        sim->machines[i].has_log = i < config->voters;
        sim->machines[i].log_begun = i < config->voters;
        sim->machines[i].joined = i < config->voters + config->hosts;
        sim->machines[i].down = !sim->machines[i].joined;
        sim->machines[i].uid = UINT64_MAX - i; /* until the state has named it */
    }
    format(sim);
    for (unsigned i = 0; i < sim->machine_count; i++) {
        world_at(&sim->world, world_between(&sim->world, 0, 100 * NS_PER_MS), NULL,
                 on_power, &sim->machines[i], 0);
    }
    if (!config->scripted) {
        sim_clients_start(sim);
        sim_watchers_start(sim);
    }
    if (!config->scripted && config->rack) {
        sim_user_start(sim);
    }
    if (faults != NULL) {
        sim_faults_book(sim, faults, mask);
    }
    return sim;
}

struct sim *sim_free(struct sim *sim)
{
    for (unsigned i = 0; i < sim->machine_count; i++) {
        sim_machine_fini(&sim->machines[i]);
    }
    sim_net_free(sim);
    sim_clients_free(sim);
    sim_watchers_free(sim);
    oracle_free(sim->oracle);
    world_fini(&sim->world);
    free(sim);
    current = NULL;
    return NULL;
}

void sim_run_until(struct sim *sim, uint64_t at_ns)
{
    while (world_step(&sim->world, at_ns)) {
    }
}

uint64_t sim_trace(struct sim *sim)
{
    struct world *world = &sim->world;
    const uint64_t *counted = (const uint64_t *)&sim->stats;
    oracle_note(sim, world);
    for (size_t i = 0; i < sizeof(sim->stats) / sizeof(uint64_t); i++) {
        world_note(world, counted[i]);
    }
    for (size_t i = 0; i < sizeof(world->random.state) / sizeof(uint64_t); i++) {
        world_note(world, world->random.state[i]);
    }
    world_note(world, world->now_ns);
    return world->trace;
}

static bool has_leader(const struct sim *sim)
{
    for (unsigned i = 0; i < sim->machine_count; i++) {
        if (sim_process_leads(sim->machines[i].process)) {
            return true;
        }
    }
    return false;
}

/* Its disks are on a host that has no room for it. */
static bool waits_for_room(const struct state *state, const struct vm *vm)
{
    const struct host *host = state_disks_bind(state, vm);
    return vm->status.phase == PHASE_PENDING && host != NULL &&
           state_host_use(state, host->meta.uid).memory_bytes +
                   vm->spec.machine.memory.size_bytes >
               host->status.memory_bytes;
}

/* For a machine that does not come back. */
static bool waits_for_ever(struct sim *sim, const struct vm *vm)
{
    uint64_t uid = vm->status.host != 0 ? vm->status.host : vm->status.disk_host;
    const struct sim_machine *machine = uid != 0 ? sim_machine_of_uid(sim, uid) : NULL;
    return machine != NULL && machine->condemned &&
           (vm->status.phase == PHASE_LOST || vm->status.phase == PHASE_PENDING);
}

/* Those whose engine failed, and whose next start is not due yet by their back-off; and
 * those that wait for the host of their disks. */
static unsigned vms_waiting(struct sim *sim)
{
    unsigned waiting = 0;
    for (unsigned i = 0; i < sim->machine_count; i++) {
        const struct sim_process *process = sim->machines[i].process;
        size_t cursor = 0;
        const struct vm *vm;
        while (sim_process_leads(process) &&
               (vm = state_next(process->state, KIND_VM, &cursor)) != NULL) {
            bool backs_off =
                vm->status.phase == PHASE_FAILED &&
                vm->status.retry_wall_ms > sim_machine_wall_ms(&sim->machines[i]);
            waiting +=
                backs_off || waits_for_room(process->state, vm) || waits_for_ever(sim, vm)
                    ? 1U
                    : 0U;
        }
    }
    return waiting;
}

/* Those of the group, and what there is of a user's own. */
static size_t vms_wanted(const struct sim *sim)
{
    size_t own = 0;
    for (unsigned i = 0; i < sim->kept_count; i++) {
        own += sim->kept[i].grouped ? 0U : 1U;
    }
    return SIM_VMS + own;
}

/* As many VMs run as are wanted. */
static bool all_vms_run(struct sim *sim)
{
    unsigned alive = 0;
    for (unsigned i = 0; sim->config.rack && i < sim->machine_count; i++) {
        if (!sim->machines[i].condemned) { /* those there wait for it, see above */
            alive += sim_vms_alive(&sim->machines[i]);
        }
    }
    return !sim->config.rack || alive + vms_waiting(sim) == vms_wanted(sim);
}

/* For the timeline of a run whose VMs do not all run. */
static void say_vms(struct sim *sim)
{
    for (unsigned i = 0; i < sim->machine_count; i++) {
        const struct sim_process *process = sim->machines[i].process;
        size_t cursor = 0;
        const struct vm *vm;
        while (sim_process_leads(process) &&
               (vm = state_next(process->state, KIND_VM, &cursor)) != NULL) {
            const struct sim_machine *host = sim_machine_of_uid(sim, vm->status.host);
            world_say(&sim->world, "the log: VM %llu %s epoch %llu on m%d: %s",
                      (unsigned long long)vm->meta.uid, phase_names[vm->status.phase],
                      (unsigned long long)vm->status.epoch,
                      host != NULL ? (int)host->index : -1,
                      vm->status.reason != NULL ? vm->status.reason : "");
        }
    }
}

static uint64_t highest_term(const struct sim *sim)
{
    uint64_t highest = 0;
    for (unsigned i = 0; i < sim->machine_count; i++) {
        uint64_t term = sim_raft_term(sim->machines[i].process);
        highest = term > highest ? term : highest;
    }
    return highest;
}

/* Whoever has no vote any more, and a log from when it had one, disturbs nobody. */
static void stay_calm(struct sim *sim)
{
    uint64_t term = highest_term(sim);
    sim_run_until(sim, sim->world.now_ns + CALM_NS);
    if (!sim->world.failed && highest_term(sim) != term) {
        world_fail(&sim->world,
                   "all is well, and yet somebody is elected again: from term %llu it "
                   "has come to %llu",
                   (unsigned long long)term, (unsigned long long)highest_term(sim));
    }
}

static void help_lost(struct sim *sim)
{
    for (unsigned i = 0; sim->config.members && i < sim->machine_count; i++) {
        struct sim_process *process = sim->machines[i].process;
        if (process != NULL) {
            sim_host_help(process);
        }
    }
}

/* Looked at once; whatever is well before that is well. */
static void check_goes_on(struct sim *sim)
{
    if (!has_leader(sim) || !sim_clients_go_on(sim)) {
        world_fail(
            &sim->world, "%u seconds after healing nothing goes on: %s, %s",
            (unsigned)(GO_ON_NS / NS_PER_S), has_leader(sim) ? "a leader" : "NO leader",
            sim_clients_go_on(sim) ? "a write acknowledged" : "NO write acknowledged");
    }
}

bool sim_run(struct sim *sim)
{
    struct world *world = &sim->world;
    sim_run_until(sim, sim->config.faults_ms * NS_PER_MS);
    if (world->failed) {
        return false;
    }
    sim_faults_heal(sim);
    uint64_t healed_ns = world->now_ns;
    sim_run_until(sim, healed_ns + LAST_ASK_NS);
    sim_clients_stop(sim);
    sim_watchers_stop(sim);
    bool good = false;
    bool looked = false;
    uint64_t patience_ns = sim->config.members ? HEAL_MEMBERS_NS
                           : sim->config.rack  ? HEAL_RACK_NS
                                               : HEAL_NS;
    while (!good && !world->failed && world->now_ns < healed_ns + patience_ns) {
        sim_run_until(sim, world->now_ns + LOOK_NS);
        help_lost(sim);
        good = has_leader(sim) && sim_clients_served(sim) && oracle_all_agree(sim) &&
               all_vms_run(sim) && sim_saved_agree(sim) && sim_watchers_current(sim) &&
               sim_members_settled(sim);
        if (!good && !looked && !world->failed && world->now_ns >= healed_ns + GO_ON_NS) {
            check_goes_on(sim);
            looked = true;
        }
    }
    if (!good && !world->failed) {
        say_vms(sim);
        world_fail(world, "%u seconds after healing: %s, %s, %s, %s, %s, %s, %s",
                   (unsigned)(patience_ns / NS_PER_S),
                   has_leader(sim) ? "a leader" : "NO leader",
                   sim_clients_served(sim) ? "clients served" : "clients NOT served",
                   oracle_all_agree(sim) ? "states agree" : "states do NOT agree",
                   all_vms_run(sim) ? "all VMs run" : "NOT all VMs run",
                   sim_saved_agree(sim) ? "snapshots are there"
                                        : "NOT all snapshots are there",
                   sim_watchers_current(sim) ? "watches current" : "watches NOT current",
                   sim_members_settled(sim) ? "voters settled" : "voters NOT settled");
    }
    if (sim->config.members && !world->failed) {
        stay_calm(sim);
    }
    return !world->failed && sim_clients_explained(sim);
}
