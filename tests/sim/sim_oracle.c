#include "base/require.h"
#include "model/content_hash.h"
#include "sim.h"
#include "sim_watch.h"

#include <stdlib.h>
#include <string.h>

/* One command of the one true order: as whoever came first applied it. */
struct slot {
    uint64_t index; /* of its log entry */
    uint64_t content;
    uint64_t revision;
    uint64_t hash; /* of the state afterwards */
    int code;
    unsigned machine; /* who came first */
};

struct value {
    uint64_t revision;
    uint64_t number;
};

struct values {
    struct value *items;
    size_t count, capacity;
};

struct oracle {
    struct slot *slots;
    size_t count, capacity;
    struct values registers[SIM_KEYS_MAX];
    uint64_t *revisions; /* by a write's number */
    size_t revisions_capacity;
    unsigned *leaders; /* by term: machine + 1 */
    size_t leaders_capacity;
};

struct oracle *oracle_new(void)
{
    struct oracle *oracle = calloc(1, sizeof(*oracle));
    REQUIRE(oracle != NULL);
    return oracle;
}

struct oracle *oracle_free(struct oracle *oracle)
{
    for (unsigned i = 0; i < SIM_KEYS_MAX; i++) {
        free(oracle->registers[i].items);
    }
    free(oracle->slots);
    free(oracle->revisions);
    free(oracle->leaders);
    free(oracle);
    return NULL;
}

static void *grow(void *items, size_t *capacity, size_t wanted, size_t size)
{
    size_t bigger = *capacity == 0 ? 64 : *capacity;
    while (bigger < wanted) {
        bigger *= 2;
    }
    if (bigger == *capacity) {
        return items;
    }
    uint8_t *grown = realloc(items, bigger * size);
    REQUIRE(grown != NULL);
    memset(grown + *capacity * size, 0, (bigger - *capacity) * size);
    *capacity = bigger;
    return grown;
}

/* ---- election safety ---- */

void oracle_look(struct sim *sim, struct sim_process *process)
{
    struct oracle *oracle = sim->oracle;
    uint64_t term = sim_raft_leader_term(process);
    if (term == 0 || term == process->term_led) {
        return;
    }
    process->term_led = term;
    oracle->leaders = grow(oracle->leaders, &oracle->leaders_capacity, term + 1,
                           sizeof(*oracle->leaders));
    unsigned before = oracle->leaders[term];
    if (before != 0 && before != process->machine->index + 1) {
        world_fail(&sim->world, "m%u and m%u both lead in term %llu", before - 1,
                   process->machine->index, (unsigned long long)term);
    }
    oracle->leaders[term] = process->machine->index + 1;
    sim_members_elected(process);
}

/* ---- state agreement ---- */

/* A write of a client that took effect. */
static void note_write(struct sim *sim, const struct command *command, uint64_t revision)
{
    struct oracle *oracle = sim->oracle;
    unsigned key = command->request_id[1];
    uint64_t number = 0;
    memcpy(&number, command->request_id + 8, sizeof(number));
    if (command->request_id[0] != SIM_REQUEST_MARK || key >= SIM_KEYS_MAX) {
        return;
    }
    oracle->revisions = grow(oracle->revisions, &oracle->revisions_capacity, number + 1,
                             sizeof(*oracle->revisions));
    if (oracle->revisions[number] != 0) {
        return; /* a retry: answered from memory */
    }
    struct values *values = &oracle->registers[key];
    oracle->revisions[number] = revision;
    values->items =
        grow(values->items, &values->capacity, values->count + 1, sizeof(*values->items));
    values->items[values->count++] =
        (struct value){.revision = revision, .number = number};
}

static void take_slot(struct sim *sim,
                      struct sim_process *process,
                      const struct slot *slot,
                      const void *data,
                      size_t size)
{
    struct oracle *oracle = sim->oracle;
    const struct slot *last =
        oracle->count > 0 ? &oracle->slots[oracle->count - 1] : NULL;
    if (last != NULL && (slot->index < last->index || slot->revision < last->revision)) {
        world_fail(
            &sim->world,
            "m%u went back: index %llu revision %llu after index %llu revision %llu",
            slot->machine, (unsigned long long)slot->index,
            (unsigned long long)slot->revision, (unsigned long long)last->index,
            (unsigned long long)last->revision);
        return;
    }
    oracle->slots =
        grow(oracle->slots, &oracle->capacity, oracle->count + 1, sizeof(*oracle->slots));
    oracle->slots[oracle->count++] = *slot;
    struct command command;
    struct bytes_reader reader;
    bytes_reader_init(&reader, data, size);
    if (slot->code == 0 && command_decode(&reader, &command) == 0) {
        note_write(sim, &command, slot->revision);
        if (sim->config.rack) {
            sim_kept_applied(sim, process->state, &command);
        }
        command_fini(&command);
    }
}

static size_t find_place(const struct oracle *oracle, uint64_t index)
{
    size_t low = 0;
    size_t high = oracle->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (oracle->slots[middle].index < index) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

void oracle_applied(struct sim *sim,
                    struct sim_process *process,
                    uint64_t index,
                    const void *data,
                    size_t size,
                    const struct consensus_result *result)
{
    struct oracle *oracle = sim->oracle;
    struct slot slot = {.index = index,
                        .content = content_hash(0, data, size),
                        .revision = state_revision(process->state),
                        .hash = state_hash(process->state),
                        .code = result->err.code,
                        .machine = process->machine->index};
    if (process->place == SIZE_MAX) {
        process->place = find_place(oracle, index);
    }
    size_t place = process->place++;
    if (place == oracle->count) {
        take_slot(sim, process, &slot, data, size);
        sim_news_take(sim, process);
        return;
    }
    sim_news_drop(process);
    const struct slot *known = &oracle->slots[place];
    if (known->index != slot.index || known->content != slot.content) {
        world_fail(
            &sim->world,
            "m%u applies another command at index %llu than m%u did (index %llu): an "
            "acknowledged write is lost",
            slot.machine, (unsigned long long)slot.index, known->machine,
            (unsigned long long)known->index);
    } else if (known->revision != slot.revision || known->hash != slot.hash) {
        world_fail(
            &sim->world, "m%u and m%u differ after index %llu: revisions %llu and %llu",
            slot.machine, known->machine, (unsigned long long)slot.index,
            (unsigned long long)slot.revision, (unsigned long long)known->revision);
    }
}

void oracle_restored(struct sim *sim, struct sim_process *process)
{
    (void)sim;
    process->place = SIZE_MAX;
}

void oracle_condemned(struct sim *sim, const struct sim_machine *machine)
{
    if (!machine->tampered) {
        world_fail(&sim->world, "m%u refuses a log that nobody has damaged",
                   machine->index);
    }
}

bool oracle_all_agree(struct sim *sim)
{
    const struct oracle *oracle = sim->oracle;
    uint64_t hash = oracle->count > 0 ? oracle->slots[oracle->count - 1].hash : 0;
    unsigned members = 0;
    for (unsigned i = 0; i < sim->machine_count; i++) {
        if (sim_process_leads(sim->machines[i].process)) {
            members |= sim_members_with_log(sim->machines[i].process);
        }
    }
    for (unsigned i = 0; i < sim->machine_count; i++) {
        const struct sim_machine *machine = &sim->machines[i];
        if ((members >> i & 1) == 0 || machine->condemned) {
            continue;
        }
        if (machine->process == NULL || machine->process->state == NULL ||
            state_hash(machine->process->state) != hash) {
            return false;
        }
    }
    return members != 0;
}

size_t oracle_count(const struct oracle *oracle)
{
    return oracle->count;
}

void oracle_note(const struct sim *sim, struct world *world)
{
    const struct oracle *oracle = sim->oracle;
    for (size_t i = 0; i < oracle->count; i++) {
        const struct slot *slot = &oracle->slots[i];
        world_note(world, slot->index);
        world_note(world, slot->content);
        world_note(world, slot->hash);
        world_note(world, slot->machine);
    }
}

/* ---- registers ---- */

uint64_t oracle_value_at(const struct oracle *oracle, unsigned key, uint64_t revision)
{
    const struct values *values = &oracle->registers[key];
    size_t low = 0;
    size_t high = values->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (values->items[middle].revision <= revision) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low > 0 ? values->items[low - 1].number : 0;
}

uint64_t oracle_revision_of(const struct oracle *oracle, uint64_t number)
{
    return number < oracle->revisions_capacity ? oracle->revisions[number] : 0;
}
