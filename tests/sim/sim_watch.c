/* Clients that watch, and what they check: see sim_watch.h. */
#include "sim_watch.h"

#include "base/json.h"
#include "base/require.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WATCHERS      2
#define FIRST_ADDRESS (SIM_MACHINES_MAX + SIM_CLIENTS_MAX - WATCHERS)
#define SILENCE_NS    (1500 * NS_PER_MS) /* without an answer another host is asked */
#define STAY_MAX_NS   (6 * NS_PER_S)     /* then the client goes elsewhere by itself */
#define PAUSE_MAX_NS  (300 * NS_PER_MS)
#define KINDS         "kinds=tenant,vm,host"

struct watcher {
    struct sim *sim;
    unsigned index;
    unsigned target;
    uint64_t connection; /* 0: none */
    uint64_t pieces;     /* of this connection that have come */
    uint64_t heard_ns;
    uint64_t leave_ns; /* when it goes elsewhere */
    uint64_t last_id;  /* 0: it has to begin anew */
    bool listing;
    size_t place; /* next of the news that it has not been told */
    uint64_t registers[SIM_KEYS_MAX];
};

struct sim_watchers {
    struct watcher items[WATCHERS];
    unsigned watching; /* so many of them: they cost a run a good part of its time */
    struct sim_news *news;
    size_t count, capacity;
    size_t wanted; /* so many have to be told in the end */
    bool stopped;
};

/* ---- the list of changes ---- */

static struct sim_news *push(struct sim_news **items, size_t *count, size_t *capacity)
{
    if (*count == *capacity) {
        *capacity = *capacity == 0 ? 256 : *capacity * 2;
        *items = realloc(*items, *capacity * sizeof(**items));
        REQUIRE(*items != NULL);
    }
    return &(*items)[(*count)++];
}

void sim_news_seen(struct sim_process *process, const struct change *change)
{
    struct sim_news *news =
        push(&process->news, &process->news_count, &process->news_capacity);
    news->revision = change->revision;
    news->at_ns = process->machine->sim->world.now_ns;
    news->kind = change->kind;
    news->deleted = change->object == NULL;
    memcpy(news->name, change->name, strlen(change->name) + 1);
}

void sim_news_take(struct sim *sim, struct sim_process *process)
{
    struct sim_watchers *watchers = sim->watchers;
    for (size_t i = 0; watchers != NULL && i < process->news_count; i++) {
        *push(&watchers->news, &watchers->count, &watchers->capacity) = process->news[i];
    }
    sim_news_drop(process);
}

void sim_news_drop(struct sim_process *process)
{
    process->news_count = 0;
}

static bool is_watched(const struct sim_news *news)
{
    return news->kind == KIND_TENANT || news->kind == KIND_VM || news->kind == KIND_HOST;
}

/* The next that concerns watchers, or NULL. */
static const struct sim_news *next_of(const struct sim_watchers *watchers, size_t *place)
{
    while (*place < watchers->count && !is_watched(&watchers->news[*place])) {
        (*place)++;
    }
    return *place < watchers->count ? &watchers->news[*place] : NULL;
}

static size_t place_after(const struct sim_watchers *watchers, uint64_t revision)
{
    size_t low = 0;
    size_t high = watchers->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (watchers->news[middle].revision <= revision) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

/* ---- what is told ---- */

struct told {
    const char *event;
    const char *data;
    uint64_t id;
    bool has_id;
};

static int register_of(const char *name)
{
    bool is = name[0] == 'k' && name[1] >= '0' && name[1] < '0' + SIM_KEYS_MAX &&
              name[2] == '\0';
    return is ? name[1] - '0' : -1;
}

/* Everything until there was told. */
static void check_all_told(struct watcher *watcher, uint64_t revision, const char *what)
{
    struct sim *sim = watcher->sim;
    const struct sim_news *next = next_of(sim->watchers, &watcher->place);
    if (next != NULL && next->revision <= revision) {
        world_fail(&sim->world,
                   "watch %u at m%u: %s of revision %llu, but %s %s of revision %llu was "
                   "not told",
                   watcher->index, watcher->target, what, (unsigned long long)revision,
                   kind_info(next->kind)->name, next->name,
                   (unsigned long long)next->revision);
    }
    for (unsigned key = 0; key < SIM_KEYS_MAX; key++) {
        uint64_t right = oracle_value_at(sim->oracle, key, revision);
        if (watcher->registers[key] != right) {
            world_fail(
                &sim->world,
                "watch %u at m%u: %s of revision %llu, where k%u is %llu, but %llu "
                "was told",
                watcher->index, watcher->target, what, (unsigned long long)revision, key,
                (unsigned long long)right, (unsigned long long)watcher->registers[key]);
        }
    }
}

static void check_next(struct watcher *watcher,
                       const char *kind,
                       const char *name,
                       uint64_t id,
                       bool deleted)
{
    struct sim *sim = watcher->sim;
    const struct sim_news *next = next_of(sim->watchers, &watcher->place);
    if (next == NULL || (id != 0 && next->revision != id) || next->deleted != deleted ||
        strcmp(kind_info(next->kind)->name, kind) != 0 || strcmp(next->name, name) != 0) {
        world_fail(&sim->world,
                   "watch %u at m%u tells %s %s with id %llu%s, but %s %s of revision "
                   "%llu comes next",
                   watcher->index, watcher->target, kind, name, (unsigned long long)id,
                   deleted ? ", deleted" : "",
                   next != NULL ? kind_info(next->kind)->name : "nothing",
                   next != NULL ? next->name : "",
                   next != NULL ? (unsigned long long)next->revision : 0);
        return;
    }
    watcher->place++;
}

static void on_object(struct watcher *watcher, const struct told *told, bool deleted)
{
    json_t *document = NULL;
    REQUIRE(json_parse(told->data, strlen(told->data), &document, NULL) == 0);
    const json_t *metadata = deleted ? document : json_object_get(document, "metadata");
    const char *name = json_member_text(metadata, "name", "");
    const char *kind = json_member_text(document, "kind", "");
    int key = strcmp(kind, kind_info(KIND_TENANT)->name) == 0 ? register_of(name) : -1;
    if (key >= 0) {
        const char *value =
            json_member_text(json_object_get(metadata, "labels"), "value", "0");
        watcher->registers[key] = strtoull(value, NULL, 10);
    }
    if (!watcher->listing) {
        check_next(watcher, kind, name, told->id, deleted);
        watcher->sim->stats.watch_events++;
    }
    json_decref(document);
}

static void on_bookmark(struct watcher *watcher, const struct told *told)
{
    if (watcher->listing) {
        watcher->place = place_after(watcher->sim->watchers, told->id);
        watcher->listing = false;
    }
    check_all_told(watcher, told->id, "a bookmark");
}

static void begin_listing(struct watcher *watcher)
{
    watcher->listing = true;
    memset(watcher->registers, 0, sizeof(watcher->registers));
}

static void on_event(struct watcher *watcher, const struct told *told)
{
    bool deleted = strcmp(told->event, "delete") == 0;
    if (deleted || strcmp(told->event, "put") == 0) {
        on_object(watcher, told, deleted);
        if (told->has_id) {
            check_all_told(watcher, told->id, "an event with the id");
        }
    } else if (strcmp(told->event, "bookmark") == 0) {
        on_bookmark(watcher, told);
    } else if (strcmp(told->event, "reset") == 0) {
        watcher->sim->stats.watch_resets++;
        begin_listing(watcher);
    }
    if (told->has_id) {
        watcher->last_id = told->id;
    }
}

/* "id: N\nevent: NAME\ndata: JSON\n\n", the first line perhaps not. */
static void on_text(struct watcher *watcher, char *text)
{
    struct told told = {.event = "", .data = ""};
    char *rest = NULL;
    for (char *line = strtok_r(text, "\n", &rest); line != NULL;
         line = strtok_r(NULL, "\n", &rest)) {
        if (strncmp(line, "id: ", 4) == 0) {
            told.has_id = true;
            told.id = strtoull(line + 4, NULL, 10);
        } else if (strncmp(line, "event: ", 7) == 0) {
            told.event = line + 7;
        } else if (strncmp(line, "data: ", 6) == 0) {
            told.data = line + 6;
        }
    }
    on_event(watcher, &told);
}

/* ---- packets ---- */

enum ask { ASK_WATCH = 0, ASK_TAKEN, ASK_LEAVE };

struct ask_packet {
    struct sim_packet packet;
    enum ask ask;
    unsigned watcher;
    uint64_t connection;
    uint64_t number; /* last id, or pieces */
};

struct piece_packet {
    struct sim_packet packet;
    unsigned watcher;
    uint64_t connection;
    uint64_t number;
    bool end;
    char text[]; /* with a zero behind */
};

static void packet_free(struct sim_packet *packet)
{
    free(packet);
}

static void ask_arrive(struct sim_packet *packet, struct sim_process *process)
{
    const struct ask_packet *ask = (const struct ask_packet *)packet;
    switch (ask->ask) {
    case ASK_WATCH:
        sim_api_watch(process, ask->watcher, ask->connection, KINDS, ask->number);
        break;
    case ASK_TAKEN:
        sim_api_taken(process, ask->watcher, ask->connection, ask->number);
        break;
    default:
        sim_api_leave(process, ask->watcher, ask->connection);
        break;
    }
}

static void ask(struct watcher *watcher, enum ask what, uint64_t number)
{
    struct ask_packet *packet = calloc(1, sizeof(*packet));
    REQUIRE(packet != NULL);
    *packet = (struct ask_packet){.ask = what,
                                  .watcher = watcher->index,
                                  .connection = watcher->connection,
                                  .number = number};
    packet->packet.from = FIRST_ADDRESS + watcher->index;
    packet->packet.to = watcher->target;
    packet->packet.arrive = ask_arrive;
    packet->packet.fini = packet_free;
    sim_net_send(watcher->sim, &packet->packet);
}

static void leave(struct watcher *watcher)
{
    ask(watcher, ASK_LEAVE, 0);
    watcher->connection = 0;
}

/* What is lost on the way ends the connection, as a stream's end does. */
static void piece_arrive(struct sim_packet *packet, struct sim_process *process)
{
    struct piece_packet *piece = (struct piece_packet *)packet;
    struct watcher *watcher = &packet->sim->watchers->items[piece->watcher];
    (void)process;
    if (piece->connection != watcher->connection || piece->number < watcher->pieces) {
        return;
    }
    if (piece->end || piece->number > watcher->pieces) {
        leave(watcher);
        return;
    }
    watcher->pieces++;
    watcher->heard_ns = packet->sim->world.now_ns;
    on_text(watcher, piece->text);
    ask(watcher, ASK_TAKEN, watcher->pieces);
}

void sim_watch_piece(struct sim_process *process,
                     unsigned watcher,
                     uint64_t connection,
                     uint64_t number,
                     bool end,
                     const void *data,
                     size_t size)
{
    struct piece_packet *piece = calloc(1, sizeof(*piece) + size + 1);
    REQUIRE(piece != NULL);
    piece->watcher = watcher;
    piece->connection = connection;
    piece->number = number;
    piece->end = end;
    if (size > 0) {
        memcpy(piece->text, data, size);
    }
    piece->packet.from = process->machine->index;
    piece->packet.to = FIRST_ADDRESS + watcher;
    piece->packet.arrive = piece_arrive;
    piece->packet.fini = packet_free;
    sim_net_send(process->machine->sim, &piece->packet);
}

/* ---- from one host to another ---- */

/* Who votes by what the leader knows; everybody while nobody leads. A voter that was away
 * while it was replaced has an old log still, and no host asks it (agent/control_api.c).
 */
static unsigned answering(struct sim *sim)
{
    for (unsigned i = 0; i < sim->machine_count; i++) {
        const struct sim_process *process = sim->machines[i].process;
        if (process != NULL && sim_process_leads(process)) {
            return sim_members_voters(process);
        }
    }
    return UINT_MAX;
}

static void go(struct watcher *watcher)
{
    struct sim *sim = watcher->sim;
    struct world *world = &sim->world;
    static const char *const words[] = {"anew", "on"};
    unsigned target = (unsigned)world_between(world, 0, sim_asked_count(sim) - 1);
    bool was_silent = watcher->pieces == 0;
    if (was_silent && (sim->healed || target == watcher->target)) {
        target = (watcher->target + 1) % sim_asked_count(sim); /* the others in turn */
    }
    for (unsigned mask = sim->healed ? answering(sim) : UINT_MAX;
         (mask >> target & 1) == 0;) {
        target = (target + 1) % sim_asked_count(sim);
    }
    watcher->target = target;
    watcher->connection = ++sim->connections;
    watcher->pieces = 0;
    watcher->heard_ns = world->now_ns;
    watcher->leave_ns = world->now_ns + world_between(world, 0, STAY_MAX_NS);
    if (watcher->last_id == 0) {
        begin_listing(watcher);
    } else {
        watcher->listing = false;
        watcher->place = place_after(sim->watchers, watcher->last_id);
        for (unsigned key = 0; key < SIM_KEYS_MAX; key++) {
            watcher->registers[key] = oracle_value_at(sim->oracle, key, watcher->last_id);
        }
        sim->stats.watch_resumes++;
    }
    world_say(world, "watch %u goes %s at m%u behind revision %llu", watcher->index,
              words[watcher->last_id != 0], watcher->target,
              (unsigned long long)watcher->last_id);
    ask(watcher, ASK_WATCH, watcher->last_id);
}

static void on_look(void *context, uint64_t argument)
{
    struct watcher *watcher = context;
    struct world *world = &watcher->sim->world;
    (void)argument;
    bool stays = watcher->sim->healed;
    if (watcher->connection != 0 && (world->now_ns - watcher->heard_ns > SILENCE_NS ||
                                     (!stays && world->now_ns > watcher->leave_ns))) {
        leave(watcher);
    } else if (watcher->connection == 0) {
        go(watcher);
    }
    world_at(world, world->now_ns + world_between(world, 0, PAUSE_MAX_NS), NULL, on_look,
             watcher, 0);
}

/* ---- life ---- */

void sim_watchers_start(struct sim *sim)
{
    sim->watchers = calloc(1, sizeof(*sim->watchers));
    REQUIRE(sim->watchers != NULL);
    sim->watchers->watching = sim->config.seed % 4 == 0 ? WATCHERS : 1;
    for (unsigned i = 0; i < sim->watchers->watching; i++) {
        struct watcher *watcher = &sim->watchers->items[i];
        *watcher = (struct watcher){.sim = sim, .index = i};
        world_at(&sim->world, NS_PER_S + world_between(&sim->world, 0, PAUSE_MAX_NS),
                 NULL, on_look, watcher, 0);
    }
}

void sim_watchers_stop(struct sim *sim)
{
    sim->watchers->stopped = true;
    sim->watchers->wanted = sim->watchers->count;
}

bool sim_watchers_current(const struct sim *sim)
{
    const struct sim_watchers *watchers = sim->watchers;
    for (unsigned i = 0; i < watchers->watching; i++) {
        size_t place = watchers->items[i].place;
        (void)next_of(watchers, &place);
        if (watchers->items[i].listing || place < watchers->wanted) {
            return false;
        }
    }
    return true;
}

void sim_watchers_free(struct sim *sim)
{
    if (sim->watchers != NULL) {
        free(sim->watchers->news);
        free(sim->watchers);
        sim->watchers = NULL;
    }
}
