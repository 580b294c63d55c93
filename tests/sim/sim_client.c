/* Clients: each does one thing after another, through any voter, with request ids and
 * retries, and knows what it was promised.
 *
 * Linearizability by witness: every answer carries a revision, and revisions are one
 * order. A write must have a revision above everything that was known when it began, a
 * read at least that, and what is read must be what stood there at that revision.
 */
#include "base/require.h"
#include "sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define THINK_MAX_NS   (40 * NS_PER_MS)
#define ANSWER_NS      (700 * NS_PER_MS) /* then another host is asked */
#define BACK_OFF_NS    (50 * NS_PER_MS)
#define GIVE_UP_NS     (20 * NS_PER_S) /* then the outcome stays unknown */
#define READS_PERMILLE 300

struct client {
    struct sim *sim;
    unsigned index;
    bool busy;
    bool reads;
    unsigned key;
    uint64_t number; /* of the operation, unique in the run */
    uint64_t attempt;
    uint64_t floor; /* highest revision known to anybody when it began */
    uint64_t began_ns;
    unsigned target; /* machine */
    uint64_t done_healed;
};

struct sim_clients {
    struct client items[SIM_CLIENTS_MAX];
    unsigned count;
    uint64_t numbers;
    uint64_t floor;
    bool stopped;
};

struct request {
    struct sim_packet packet;
    struct client *client;
    uint64_t number;
    uint64_t attempt;
    unsigned key;
    bool reads;
};

struct answer {
    struct sim_packet packet;
    struct client *client;
    uint64_t number;
    uint64_t attempt;
    int code;
    uint64_t revision;
    uint64_t value;
    int leader; /* machine, or -1 */
};

/* A request that a voter works on. */
struct served {
    struct sim_process *process;
    struct client *client;
    uint64_t number;
    uint64_t attempt;
    unsigned key;
};

static void client_next(struct client *client);
static void client_ask(struct client *client);

static void packet_free(struct sim_packet *packet)
{
    free(packet);
}

/* ---- the client's end ---- */

static void check_answer(struct client *client, const struct answer *answer)
{
    struct sim *sim = client->sim;
    struct sim_clients *clients = sim->clients;
    unsigned long long number = client->number;
    unsigned long long revision = answer->revision;
    if (!client->reads) {
        uint64_t applied = oracle_revision_of(sim->oracle, client->number);
        sim->stats.acked++;
        if (applied != answer->revision) {
            world_fail(&sim->world,
                       "write %llu was acknowledged at revision %llu but stands at %llu",
                       number, revision, (unsigned long long)applied);
        } else if (answer->revision <= client->floor) {
            world_fail(&sim->world,
                       "write %llu got revision %llu though %llu was known before",
                       number, revision, (unsigned long long)client->floor);
        }
    } else {
        uint64_t right = oracle_value_at(sim->oracle, client->key, answer->revision);
        sim->stats.reads++;
        if (answer->revision < client->floor) {
            world_fail(&sim->world,
                       "read %llu saw revision %llu though %llu was known before", number,
                       revision, (unsigned long long)client->floor);
        } else if (answer->value != right) {
            world_fail(&sim->world, "read %llu saw write %llu at revision %llu, not %llu",
                       number, (unsigned long long)answer->value, revision,
                       (unsigned long long)right);
        }
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
        client->target = (client->target + 1) % client->sim->config.voters;
        on_again(client, attempt);
    }
}

static void answer_arrive(struct sim_packet *packet, struct sim_process *process)
{
    const struct answer *answer = (const struct answer *)packet;
    struct client *client = answer->client;
    struct sim *sim = client->sim;
    (void)process;
    if (!client->busy || client->number != answer->number) {
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
                  client->reads ? "read" : "write", (unsigned long long)client->number,
                  err_name(answer->code));
    }
    client->target =
        answer->leader >= 0
            ? (unsigned)answer->leader
            : (unsigned)world_between(&sim->world, 0, sim->config.voters - 1);
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

static void
reply(const struct served *served, int code, uint64_t revision, uint64_t value)
{
    struct sim_process *process = served->process;
    if (process->doomed) {
        return;
    }
    struct answer *answer = calloc(1, sizeof(*answer));
    REQUIRE(answer != NULL);
    *answer = (struct answer){.client = served->client,
                              .number = served->number,
                              .attempt = served->attempt,
                              .code = code,
                              .revision = revision,
                              .value = value,
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
    reply(served, code == 0 ? result->code : code, code == 0 ? result->revision : 0, 0);
    free(served);
}

static void register_name(unsigned key, char name[NAME_SIZE])
{
    (void)snprintf(name, NAME_SIZE, "k%u", key);
}

static void on_read(void *context, int code)
{
    struct served *served = context;
    const struct state *state = served->process->state;
    char name[NAME_SIZE];
    uint64_t value = 0;
    if (code == 0) {
        register_name(served->key, name);
        const struct tenant *tenant = state_get(state, KIND_TENANT, "", name);
        const char *text =
            tenant != NULL ? label_value(&tenant->meta.labels, "value") : NULL;
        value = text != NULL ? strtoull(text, NULL, 10) : 0;
    }
    reply(served, code, code == 0 ? state_revision(state) : 0, value);
    free(served);
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
    (void)snprintf(command.subject, sizeof(command.subject), "root");
    command.request_id[0] = SIM_REQUEST_MARK;
    command.request_id[1] = (uint8_t)key;
    memcpy(command.request_id + 8, &number, sizeof(number));
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

static void request_arrive(struct sim_packet *packet, struct sim_process *process)
{
    const struct request *request = (const struct request *)packet;
    struct served *served = calloc(1, sizeof(*served));
    REQUIRE(served != NULL);
    *served = (struct served){.process = process,
                              .client = request->client,
                              .number = request->number,
                              .attempt = request->attempt,
                              .key = request->key};
    int r = BERTH_ENOTLEADER;
    if (process->control != NULL) {
        r = request->reads ? control_read(process->control, on_read, served)
                           : propose_write(process, served->key, served->number,
                                           on_proposed, served);
    }
    if (r < 0) {
        reply(served, r, 0, 0);
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
    *request = (struct request){.client = client,
                                .number = client->number,
                                .attempt = client->attempt,
                                .key = client->key,
                                .reads = client->reads};
    request->packet.from = SIM_MACHINES_MAX + client->index;
    request->packet.to = client->target;
    request->packet.arrive = request_arrive;
    request->packet.fini = packet_free;
    world_at(&sim->world, sim->world.now_ns + ANSWER_NS, NULL, on_silence, client,
             client->attempt);
    sim_net_send(sim, &request->packet);
}

static void client_next(struct client *client)
{
    struct sim *sim = client->sim;
    struct sim_clients *clients = sim->clients;
    if (clients->stopped) {
        return;
    }
    client->busy = true;
    client->reads = world_chance(&sim->world, READS_PERMILLE);
    client->key = (unsigned)world_between(&sim->world, 0, SIM_KEYS_MAX - 1);
    client->number = ++clients->numbers;
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

void sim_clients_free(struct sim *sim)
{
    free(sim->clients);
    sim->clients = NULL;
}
