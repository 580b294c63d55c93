/* Clients: each does one thing after another, through any voter, with request ids and
 * retries, and knows what it was promised.
 *
 * Linearizability by witness: every answer carries a revision, and revisions are one
 * order. A write must have a revision above everything that was known when it began, a
 * read at least that, and what is read must be what stood there at that revision.
 *
 * And without trust in revisions: what each of them saw of one thing, when, is one
 * history, for which some order has to be found that explains it (sim_linear.h). Things
 * are the registers, and VMs, in whose labels clients write, compare and set.
 */
#include "base/require.h"
#include "sim.h"
#include "sim_linear.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define THINK_MAX_NS   (40 * NS_PER_MS)
#define ANSWER_NS      (700 * NS_PER_MS) /* then another host is asked */
#define BACK_OFF_NS    (50 * NS_PER_MS)
#define GIVE_UP_NS     (20 * NS_PER_S) /* then the outcome stays unknown */
#define READS_PERMILLE 300
#define VMS_PERMILLE   100 /* of what is done, where there are VMs */
#define SWAPS_PERMILLE 400 /* of writes to a VM, which another may have changed */

/* What is asked for, as far as the voter has to know. */
struct wish {
    uint64_t number; /* of the operation, unique in the run */
    bool reads;
    unsigned key;      /* a register; SIM_KEYS_MAX: a VM */
    unsigned slot;     /* the VM is of that number, when none is named yet */
    uint64_t vm;       /* uid; 0: not named */
    uint64_t expected; /* the VM's revision; REVISION_ANY */
};

/* What a client knows of a VM. */
struct known_vm {
    uint64_t vm; /* uid; 0: nothing */
    uint64_t revision;
    uint64_t value;
};

struct client {
    struct sim *sim;
    unsigned index;
    bool busy;
    struct wish wish;
    uint64_t needs; /* the value that it compares with; LINEAR_ANY */
    struct known_vm vms[SIM_OWN_VMS + SIM_VMS];
    uint64_t attempts_before; /* `attempt` when it began */
    uint64_t attempt;
    uint64_t floor; /* highest revision known to anybody when it began */
    uint64_t began_ns;
    unsigned target; /* machine */
    uint64_t done_healed;
};

/* Of one thing. */
struct history {
    uint64_t thing; /* a register, or SIM_KEYS_MAX and the VM's uid */
    struct linear_op *ops;
    size_t count, capacity;
};

struct sim_clients {
    struct history *histories;
    size_t history_count;
    struct client items[SIM_CLIENTS_MAX];
    unsigned count;
    uint64_t numbers;
    uint64_t floor;
    uint64_t written_healed; /* so many writes since everything healed */
    bool stopped;
};

struct request {
    struct sim_packet packet;
    struct client *client;
    uint64_t attempt;
    struct wish wish;
};

struct answer {
    struct sim_packet packet;
    struct client *client;
    uint64_t number;
    uint64_t attempt;
    int code;
    uint64_t revision;
    uint64_t value;
    uint64_t vm, vm_revision; /* a VM that was read; 0: there is none */
    int leader;               /* machine, or -1 */
};

/* A request that a voter works on. */
struct served {
    struct sim_process *process;
    struct client *client;
    uint64_t attempt;
    struct wish wish;
};

static void client_next(struct client *client);
static void client_ask(struct client *client);

static void packet_free(struct sim_packet *packet)
{
    free(packet);
}

/* ---- histories ---- */

static struct history *history_of(struct sim_clients *clients, uint64_t thing)
{
    for (size_t i = 0; i < clients->history_count; i++) {
        if (clients->histories[i].thing == thing) {
            return &clients->histories[i];
        }
    }
    clients->histories = realloc(clients->histories,
                                 (clients->history_count + 1) * sizeof(struct history));
    REQUIRE(clients->histories != NULL);
    clients->histories[clients->history_count] = (struct history){.thing = thing};
    return &clients->histories[clients->history_count++];
}

static void note(struct client *client, uint64_t returned_ns, uint64_t needs)
{
    const struct wish *wish = &client->wish;
    uint64_t thing = wish->key < SIM_KEYS_MAX ? wish->key : SIM_KEYS_MAX + wish->vm;
    struct history *history = history_of(client->sim->clients, thing);
    if (history->count == history->capacity) {
        history->capacity = history->capacity == 0 ? 64 : history->capacity * 2;
        history->ops =
            realloc(history->ops, history->capacity * sizeof(struct linear_op));
        REQUIRE(history->ops != NULL);
    }
    history->ops[history->count++] =
        (struct linear_op){.called = client->began_ns,
                           .returned = returned_ns,
                           .needs = needs,
                           .leaves = wish->reads ? LINEAR_KEEP : wish->number};
}

/* Nobody was answered: it has happened, or has not, or will. */
static void note_unknown(struct client *client)
{
    if (!client->wish.reads) {
        note(client, LINEAR_NEVER, client->needs);
    }
}

bool sim_clients_explained(struct sim *sim)
{
    struct sim_clients *clients = sim->clients;
    for (unsigned i = 0; i < clients->count; i++) {
        if (clients->items[i].busy) {
            clients->items[i].busy = false;
            note_unknown(&clients->items[i]);
        }
    }
    for (size_t i = 0; i < clients->history_count; i++) {
        const struct history *history = &clients->histories[i];
        bool is_vm = history->thing >= SIM_KEYS_MAX;
        size_t stuck = 0;
        enum linear linear = linear_check(history->ops, history->count, 0, &stuck);
        sim->stats.histories++;
        sim->stats.undecided += linear == LINEAR_UNDECIDED ? 1U : 0U;
        if (linear == LINEAR_UNDECIDED) {
            world_fail(
                &sim->world,
                "%d steps find no order, and no contradiction, in what clients saw "
                "of %s %llu: undecided",
                LINEAR_STEPS_MAX, is_vm ? "VM" : "register",
                (unsigned long long)(is_vm ? history->thing - SIM_KEYS_MAX
                                           : history->thing));
            return false;
        }
        if (linear == LINEAR_NO) {
            const struct linear_op *op = &history->ops[stuck];
            world_fail(&sim->world,
                       "no order explains what clients saw of %s %llu: nothing fits what "
                       "was answered at %.4f s (asked at %.4f s; found %llu, left %llu)",
                       is_vm ? "VM" : "register",
                       (unsigned long long)(is_vm ? history->thing - SIM_KEYS_MAX
                                                  : history->thing),
                       (double)op->returned / 1e9, (double)op->called / 1e9,
                       (unsigned long long)op->needs, (unsigned long long)op->leaves);
            return false;
        }
    }
    return true;
}

/* ---- the client's end ---- */

unsigned sim_asked_count(const struct sim *sim)
{
    return sim->config.members ? sim->machine_count : sim->config.voters;
}

static void check_write(struct client *client, const struct answer *answer)
{
    struct sim *sim = client->sim;
    uint64_t number = client->wish.number;
    uint64_t applied = client->wish.key < SIM_KEYS_MAX
                           ? oracle_revision_of(sim->oracle, number)
                           : answer->revision;
    sim->stats.acked++;
    sim->clients->written_healed += sim->healed ? 1U : 0U;
    if (applied != answer->revision) {
        world_fail(&sim->world,
                   "write %llu was acknowledged at revision %llu but stands at %llu",
                   (unsigned long long)number, (unsigned long long)answer->revision,
                   (unsigned long long)applied);
    } else if (answer->revision <= client->floor) {
        world_fail(&sim->world,
                   "write %llu got revision %llu though %llu was known before",
                   (unsigned long long)number, (unsigned long long)answer->revision,
                   (unsigned long long)client->floor);
    }
    note(client, sim->world.now_ns, client->needs);
}

static void check_read(struct client *client, const struct answer *answer)
{
    struct sim *sim = client->sim;
    struct wish *wish = &client->wish;
    uint64_t right = wish->key < SIM_KEYS_MAX
                         ? oracle_value_at(sim->oracle, wish->key, answer->revision)
                         : answer->value;
    sim->stats.reads++;
    if (answer->revision < client->floor) {
        world_fail(&sim->world,
                   "read %llu saw revision %llu though %llu was known before",
                   (unsigned long long)wish->number, (unsigned long long)answer->revision,
                   (unsigned long long)client->floor);
    } else if (answer->value != right) {
        world_fail(&sim->world, "read %llu saw write %llu at revision %llu, not %llu",
                   (unsigned long long)wish->number, (unsigned long long)answer->value,
                   (unsigned long long)answer->revision, (unsigned long long)right);
    }
    if (wish->key == SIM_KEYS_MAX) {
        client->vms[wish->slot] = (struct known_vm){
            .vm = answer->vm, .revision = answer->vm_revision, .value = answer->value};
        wish->vm = answer->vm;
    }
    if (wish->key < SIM_KEYS_MAX || answer->vm != 0) {
        note(client, sim->world.now_ns, answer->value);
    }
}

static void check_answer(struct client *client, const struct answer *answer)
{
    struct sim_clients *clients = client->sim->clients;
    if (client->wish.reads) {
        check_read(client, answer);
    } else {
        check_write(client, answer);
    }
    clients->floor =
        answer->revision > clients->floor ? answer->revision : clients->floor;
}

static void on_think(void *context, uint64_t argument)
{
    (void)argument;
    client_next(context);
}

static void finish(struct client *client)
{
    struct world *world = &client->sim->world;
    client->busy = false;
    client->done_healed += client->sim->healed ? 1U : 0U;
    world_at(world, world->now_ns + world_between(world, 0, THINK_MAX_NS), NULL, on_think,
             client, 0);
}

static void on_again(void *context, uint64_t attempt)
{
    struct client *client = context;
    if (!client->busy || client->attempt != attempt) {
        return;
    }
    if (client->sim->world.now_ns - client->began_ns > GIVE_UP_NS) {
        client->sim->stats.unknown++;
        note_unknown(client);
        finish(client);
        return;
    }
    client->sim->stats.retries++;
    client_ask(client);
}

static void on_silence(void *context, uint64_t attempt)
{
    struct client *client = context;
    if (client->busy && client->attempt == attempt) {
        client->target = (client->target + 1) % sim_asked_count(client->sim);
        on_again(client, attempt);
    }
}

/* A VM is another one by now, or gone: an earlier try may have done it. */
static void refused(struct client *client)
{
    if (client->attempt > client->attempts_before + 1) {
        note_unknown(client);
    }
    client->vms[client->wish.slot] = (struct known_vm){0};
    client->sim->stats.refused++;
    finish(client);
}

static void answer_arrive(struct sim_packet *packet, struct sim_process *process)
{
    const struct answer *answer = (const struct answer *)packet;
    struct client *client = answer->client;
    struct sim *sim = client->sim;
    (void)process;
    if (!client->busy || client->wish.number != answer->number) {
        return; /* of an earlier operation */
    }
    if (answer->code == 0) {
        check_answer(client, answer);
        finish(client);
        return;
    }
    if (answer->attempt != client->attempt) {
        return;
    }
    if (err_class(answer->code) == ERR_CLASS_USER) {
        world_say(&sim->world, "client %u: %s %llu is refused: %s", client->index,
                  client->wish.reads ? "read" : "write",
                  (unsigned long long)client->wish.number, err_name(answer->code));
    }
    if (err_class(answer->code) == ERR_CLASS_USER && client->wish.key == SIM_KEYS_MAX) {
        refused(client);
        return;
    }
    client->target =
        answer->leader >= 0
            ? (unsigned)answer->leader
            : (unsigned)world_between(&sim->world, 0, sim_asked_count(sim) - 1);
    world_at(&sim->world, sim->world.now_ns + BACK_OFF_NS, NULL, on_again, client,
             client->attempt);
}

/* ---- the voter's end ---- */

static int known_leader(struct sim_process *process)
{
    uint64_t id = 0;
    struct sim *sim = process->machine->sim;
    if (process->control == NULL ||
        !consensus_leader(control_consensus(process->control), &id, NULL)) {
        return -1;
    }
    const struct sim_machine *machine = sim_machine_of_raft(sim, id);
    return machine != NULL ? (int)machine->index : -1;
}

static void reply(const struct served *served,
                  int code,
                  uint64_t revision,
                  const struct known_vm *read)
{
    struct sim_process *process = served->process;
    if (process->doomed) {
        return;
    }
    struct answer *answer = calloc(1, sizeof(*answer));
    REQUIRE(answer != NULL);
    *answer = (struct answer){.client = served->client,
                              .number = served->wish.number,
                              .attempt = served->attempt,
                              .code = code,
                              .revision = revision,
                              .value = read->value,
                              .vm = read->vm,
                              .vm_revision = read->revision,
                              .leader = known_leader(process)};
    answer->packet.from = process->machine->index;
    answer->packet.to = SIM_MACHINES_MAX + served->client->index;
    answer->packet.arrive = answer_arrive;
    answer->packet.fini = packet_free;
    sim_net_send(process->machine->sim, &answer->packet);
}

static void on_proposed(void *context, int code, const struct apply_result *result)
{
    struct served *served = context;
    static const struct known_vm nothing;
    reply(served, code == 0 ? result->code : code, code == 0 ? result->revision : 0,
          &nothing);
    free(served);
}

static void register_name(unsigned key, char name[NAME_SIZE])
{
    (void)snprintf(name, NAME_SIZE, "k%u", key);
}

static uint64_t value_of(const struct label_list *labels)
{
    const char *text = label_value(labels, "value");
    return text != NULL ? strtoull(text, NULL, 10) : 0;
}

/* Those of a user and the group's, by number. */
static const struct vm *find_vm(const struct state *state, const struct wish *wish)
{
    char name[NAME_SIZE];
    if (wish->vm != 0) {
        return state_vm(state, wish->vm);
    }
    (void)snprintf(name, sizeof(name), wish->slot < SIM_OWN_VMS ? "own-%u" : "web-%u",
                   wish->slot < SIM_OWN_VMS ? wish->slot : wish->slot - SIM_OWN_VMS + 1);
    return state_get(state, KIND_VM, DEFAULT_TENANT, name);
}

static uint64_t value_in(const struct state *state, unsigned key)
{
    char name[NAME_SIZE];
    register_name(key, name);
    const struct tenant *tenant = state_get(state, KIND_TENANT, "", name);
    return tenant != NULL ? value_of(&tenant->meta.labels) : 0;
}

/* The mistake is not to ask the others. */
static int
read_by(struct sim_process *process, void (*done)(void *context, int code), void *context)
{
    if (process->machine->sim->config.bug == SIM_BUG_STALE_READ) {
        done(context, 0);
        return 0;
    }
    return control_read(process->control, done, context);
}

static void on_read(void *context, int code)
{
    struct served *served = context;
    const struct state *state = served->process->state;
    struct known_vm read = {0};
    if (code == 0 && served->wish.key < SIM_KEYS_MAX) {
        read.value = value_in(state, served->wish.key);
    } else if (code == 0) {
        const struct vm *vm = find_vm(state, &served->wish);
        if (vm != NULL) {
            read = (struct known_vm){.vm = vm->meta.uid,
                                     .revision = vm->meta.modify_revision,
                                     .value = value_of(&vm->meta.labels)};
        }
    }
    reply(served, code, code == 0 ? state_revision(state) : 0, &read);
    free(served);
}

/* As numbered: a retry is known by it. */
static void number_command(struct command *command, unsigned key, uint64_t number)
{
    (void)snprintf(command->subject, sizeof(command->subject), "root");
    command->request_id[0] = SIM_REQUEST_MARK;
    command->request_id[1] = (uint8_t)key;
    memcpy(command->request_id + 8, &number, sizeof(number));
}

/* Its label, and the power that it has as far as this voter knows. */
static int propose_vm(struct sim_process *process, struct served *served)
{
    struct command command;
    char text[24];
    const struct wish *wish = &served->wish;
    const struct vm *vm = find_vm(process->state, wish);
    if (vm == NULL) {
        return BERTH_ENOTFOUND;
    }
    command_init(&command, COMMAND_CHANGE_VM);
    number_command(&command, SIM_KEYS_MAX, wish->number);
    (void)snprintf(text, sizeof(text), "%llu", (unsigned long long)wish->number);
    struct cmd_change_vm *body = &command.body.change_vm;
    body->vm = wish->vm;
    body->power = vm->spec.power;
    body->expected_revision = process->machine->sim->config.bug == SIM_BUG_NO_COMPARE
                                  ? REVISION_ANY
                                  : wish->expected;
    REQUIRE(label_set(&body->labels, "value", text) == 0);
    int r = control_propose(process->control, &command, on_proposed, served);
    command_fini(&command);
    return r;
}

static int
propose_write(struct sim_process *process,
              unsigned key,
              uint64_t number,
              void (*done)(void *context, int code, const struct apply_result *result),
              void *context)
{
    struct command command;
    char text[24];
    struct tenant *tenant = object_new(KIND_TENANT);
    REQUIRE(tenant != NULL);
    (void)snprintf(text, sizeof(text), "%llu", (unsigned long long)number);
    register_name(key, tenant->meta.name);
    REQUIRE(label_set(&tenant->meta.labels, "value", text) == 0);
    command_init(&command, COMMAND_PUT);
    number_command(&command, key, number);
    REQUIRE(command_set_put(&command, KIND_TENANT, tenant, REVISION_ANY) == 0);
    object_free(KIND_TENANT, tenant);
    int r = control_propose(process->control, &command, done, context);
    command_fini(&command);
    return r;
}

static void on_scripted(void *context, int code, const struct apply_result *result)
{
    struct sim_answer *answer = context;
    answer->given = true;
    answer->code = code == 0 ? result->code : code;
}

void sim_write(struct sim_machine *machine,
               unsigned key,
               uint64_t number,
               struct sim_answer *ret_answer)
{
    struct world_owner *owner = &machine->berthd;
    *ret_answer = (struct sim_answer){0};
    int r = machine->process == NULL
                ? BERTH_ECLOSED
                : propose_write(machine->process, key, number, on_scripted, ret_answer);
    if (r < 0) {
        *ret_answer = (struct sim_answer){.given = true, .code = r};
        return;
    }
    owner->after(owner->context);
}

static void on_scripted_read(void *context, int code)
{
    struct sim_answer *answer = context;
    answer->given = true;
    answer->code = code;
    answer->value = code == 0 ? value_in(answer->asked->state, answer->key) : 0;
}

void sim_read(struct sim_machine *machine, unsigned key, struct sim_answer *ret_answer)
{
    struct world_owner *owner = &machine->berthd;
    *ret_answer = (struct sim_answer){.asked = machine->process, .key = key};
    int r = machine->process == NULL
                ? BERTH_ECLOSED
                : read_by(machine->process, on_scripted_read, ret_answer);
    if (r < 0) {
        *ret_answer = (struct sim_answer){.given = true, .code = r};
        return;
    }
    owner->after(owner->context);
}

static int serve(struct sim_process *process, struct served *served)
{
    const struct wish *wish = &served->wish;
    if (process->control == NULL) {
        return BERTH_ENOTLEADER;
    }
    if (wish->reads) {
        return read_by(process, on_read, served);
    }
    if (wish->key == SIM_KEYS_MAX) {
        return propose_vm(process, served);
    }
    return propose_write(process, wish->key, wish->number, on_proposed, served);
}

static void request_arrive(struct sim_packet *packet, struct sim_process *process)
{
    static const struct known_vm nothing;
    const struct request *request = (const struct request *)packet;
    struct served *served = calloc(1, sizeof(*served));
    REQUIRE(served != NULL);
    *served = (struct served){.process = process,
                              .client = request->client,
                              .attempt = request->attempt,
                              .wish = request->wish};
    int r = serve(process, served);
    if (r < 0) {
        reply(served, r, 0, &nothing);
        free(served);
    }
}

/* ---- one operation after another ---- */

static void client_ask(struct client *client)
{
    struct sim *sim = client->sim;
    struct request *request = calloc(1, sizeof(*request));
    REQUIRE(request != NULL);
    client->attempt++;
    *request = (struct request){
        .client = client, .attempt = client->attempt, .wish = client->wish};
    request->packet.from = SIM_MACHINES_MAX + client->index;
    request->packet.to = client->target;
    request->packet.arrive = request_arrive;
    request->packet.fini = packet_free;
    world_at(&sim->world, sim->world.now_ns + ANSWER_NS, NULL, on_silence, client,
             client->attempt);
    sim_net_send(sim, &request->packet);
}

/* Reads first, to learn which VM it is. */
static void choose_vm(struct client *client)
{
    struct world *world = &client->sim->world;
    struct wish *wish = &client->wish;
    wish->key = SIM_KEYS_MAX;
    wish->slot = (unsigned)world_between(world, 0, SIM_OWN_VMS + SIM_VMS - 1);
    const struct known_vm *known = &client->vms[wish->slot];
    wish->vm = known->vm;
    wish->reads = wish->reads || known->vm == 0;
    wish->expected = REVISION_ANY;
    if (!wish->reads && world_chance(world, SWAPS_PERMILLE)) {
        wish->expected = known->revision;
        client->needs = known->value;
    }
}

static void client_next(struct client *client)
{
    struct sim *sim = client->sim;
    struct sim_clients *clients = sim->clients;
    if (clients->stopped) {
        return;
    }
    client->busy = true;
    client->needs = LINEAR_ANY;
    client->wish =
        (struct wish){.number = ++clients->numbers,
                      .reads = world_chance(&sim->world, READS_PERMILLE),
                      .key = (unsigned)world_between(&sim->world, 0, SIM_KEYS_MAX - 1)};
    if (sim->config.rack && world_chance(&sim->world, VMS_PERMILLE)) {
        choose_vm(client);
    }
    client->attempts_before = client->attempt;
    client->floor = clients->floor;
    client->began_ns = sim->world.now_ns;
    client_ask(client);
}

void sim_clients_start(struct sim *sim)
{
    struct sim_clients *clients = calloc(1, sizeof(*clients));
    REQUIRE(clients != NULL);
    sim->clients = clients;
    clients->count = sim->config.clients;
    for (unsigned i = 0; i < clients->count; i++) {
        clients->items[i] = (struct client){.sim = sim, .index = i};
        world_at(&sim->world, NS_PER_S + world_between(&sim->world, 0, THINK_MAX_NS),
                 NULL, on_think, &clients->items[i], 0);
    }
}

void sim_clients_stop(struct sim *sim)
{
    sim->clients->stopped = true;
}

bool sim_clients_served(const struct sim *sim)
{
    for (unsigned i = 0; i < sim->clients->count; i++) {
        if (sim->clients->items[i].done_healed == 0) {
            return false;
        }
    }
    return true;
}

bool sim_clients_go_on(const struct sim *sim)
{
    bool waits = false; /* for a write */
    bool served = false;
    for (unsigned i = 0; i < sim->clients->count; i++) {
        const struct client *client = &sim->clients->items[i];
        waits = waits || (client->busy && !client->wish.reads);
        served = served || client->done_healed > 0;
    }
    return sim->clients->written_healed > 0 || (served && !waits);
}

void sim_clients_free(struct sim *sim)
{
    for (size_t i = 0; sim->clients != NULL && i < sim->clients->history_count; i++) {
        free(sim->clients->histories[i].ops);
    }
    if (sim->clients != NULL) {
        free(sim->clients->histories);
    }
    free(sim->clients);
    sim->clients = NULL;
}
