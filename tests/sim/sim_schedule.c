/* Which faults a seed stands for.
 *
 * Chance alone would seldom bring together what it takes to break a promise: a host that
 * is cut off for longer than its lease, an answer that comes late, another leader at that
 * moment. So each run has a taste of its own (some kinds, often one machine that has
 * them), and troubles lean on each other: many begin where another begins or ends.
 */
#include "agent/control.h"
#include "sim_fault.h"

#define CALM_MS  1500 /* at the start: a leader is elected */
#define LEAN_MS  1000 /* so near to another one's edge */
#define HOUR_MS  3600000
#define STALL_MS (2 * CONTROL_PROPOSE_MS) /* at most, of a disk's write */
#define NOBODY   SIM_MACHINES_MAX

struct taste {
    const struct sim_config *config;
    struct random random;
    unsigned machines;
    unsigned victim; /* that most troubles are of; NOBODY: of all alike */
    bool wanted[FAULT_KIND_COUNT];
};

static uint64_t between(struct taste *taste, uint64_t low, uint64_t high)
{
    return low + random_below(&taste->random, high - low + 1);
}

static bool chance(struct taste *taste, unsigned percent)
{
    return random_below(&taste->random, 100) < percent;
}

/* Mostly short, sometimes long. */
static uint64_t some_time(struct taste *taste, uint64_t max_ms)
{
    uint64_t ms = chance(taste, 33) ? max_ms : max_ms / 5;
    return between(taste, 1, ms);
}

static unsigned some_machine(struct taste *taste)
{
    return (unsigned)random_below(&taste->random, taste->machines);
}

/* One without the log. */
static unsigned some_host(struct taste *taste)
{
    return taste->config->voters +
           (unsigned)random_below(&taste->random, taste->config->hosts);
}

/* ---- what ---- */

static void choose(struct taste *taste, struct sim_fault *fault)
{
    switch (fault->kind) {
    case FAULT_PAUSE:
        fault->for_ms = some_time(taste, 8000);
        break;
    case FAULT_DROP:
    case FAULT_TWICE:
        fault->number = between(taste, 10, 300);
        break;
    case FAULT_REORDER:
    case FAULT_SLOW_NET:
        fault->number = between(taste, 5, 400);
        break;
    case FAULT_SLOW_DISK:
        fault->number = some_time(taste, 2000);
        break;
    case FAULT_DIE_AT_WRITE:
        fault->number = between(taste, 1, 60);
        break;
    case FAULT_DISK_ERROR:
        fault->number = between(taste, 1, 3);
        break;
    case FAULT_WALL_JUMP:
        fault->number = between(taste, 0, 4 * HOUR_MS);
        break;
    case FAULT_HOLD:
        fault->for_ms = some_time(taste, 7000);
        fault->number = random_below(&taste->random, HOLD_COUNT);
        break;
    case FAULT_UNREADY:
        fault->for_ms = some_time(taste, 7000);
        break;
    default:
        fault->number = random_u64(&taste->random);
        break;
    }
}

/* ---- when, and to whom ---- */

static void place(struct taste *taste, struct sim_fault *fault)
{
    fault->at_ms = CALM_MS + between(taste, 0, taste->config->faults_ms - CALM_MS);
    fault->for_ms = some_time(taste, 4000);
    fault->spare = some_machine(taste);
    fault->a = chance(taste, 50) ? NOBODY : some_machine(taste);
    fault->b = chance(taste, 25) ? NOBODY : some_machine(taste);
    if (taste->victim != NOBODY && chance(taste, 60)) {
        fault->a = taste->victim;
    }
}

/* Hosts that are away for longer than their lease. */
static bool may_be_long(enum sim_fault_kind kind)
{
    return kind == FAULT_PAUSE || kind == FAULT_CUT_ONE_WAY || kind == FAULT_ISOLATE ||
           kind == FAULT_DEAF || kind == FAULT_MUTE || kind == FAULT_SPLIT ||
           kind == FAULT_POWER;
}

static void stretch(struct taste *taste, struct sim_fault *fault)
{
    const struct sim_config *config = taste->config;
    if (!config->rack || !may_be_long(fault->kind) || chance(taste, 50)) {
        return;
    }
    fault->for_ms = between(taste, 4500, 10000);
    fault->at_ms = CALM_MS + between(taste, 0, config->faults_ms / 2);
    if (chance(taste, 67)) { /* so that somebody leads meanwhile */
        fault->a = some_host(taste);
    }
}

static void
lean(struct taste *taste, const struct sim_fault_list *list, struct sim_fault *fault)
{
    const struct sim_fault *other =
        &list->items[random_below(&taste->random, list->count)]; /* perhaps itself */
    uint64_t edge = other->at_ms + (chance(taste, 50) ? 0 : other->for_ms);
    uint64_t at = edge + between(taste, 0, 2 * LEAN_MS);
    if (chance(taste, 50) && at >= CALM_MS + LEAN_MS &&
        at < taste->config->faults_ms + LEAN_MS) {
        fault->at_ms = at - LEAN_MS;
        fault->a = chance(taste, 50) ? other->a : fault->a;
    }
}

/* ---- companions ---- */

#define AWAY_MIN 7000 /* longer than a lease and the time until others take over */
#define AWAY_MAX 11000

struct span {
    uint64_t low_ms, high_ms;
};

/* What often comes with a trouble, and is worst then. */
static const struct companion {
    enum sim_fault_kind of;
    uint64_t hold;     /* a hold's ways; else HOLD_COUNT */
    struct span lasts; /* the first trouble; 0: as long as it does anyway */
    enum sim_fault_kind kind;
    bool at_end; /* counted from its end, backwards; else from its begin */
    struct span after;
    struct span lasts_then;
    bool of_leader;
} companions[] = {
    /* A berthd that hangs while its host is cut off: what it hears afterwards is old. */
    {FAULT_PAUSE,
     HOLD_COUNT,
     {1000, 5000},
     FAULT_ISOLATE,
     false,
     {10, 900},
     {AWAY_MIN, AWAY_MAX},
     false},
    /* A link that goes bad is slow first: old answers arrive, and nothing gets back. */
    {FAULT_HOLD,
     HOLD_IN,
     {2500, 6000},
     FAULT_MUTE,
     false,
     {300, 1500},
     {AWAY_MIN, AWAY_MAX},
     false},
    /* What a leader said arrives when there is another one. */
    {FAULT_HOLD,
     HOLD_FROM,
     {1500, 7000},
     FAULT_TRANSFER,
     false,
     {500, 4000},
     {0, 0},
     true},
    {FAULT_HOLD,
     HOLD_FROM,
     {1500, 7000},
     FAULT_KILL,
     false,
     {500, 4000},
     {500, 4000},
     true},
    /* The ways to and from a host do not come back at the same time. */
    {FAULT_ISOLATE, HOLD_COUNT, {0, 0}, FAULT_DEAF, true, {0, 500}, {500, 4000}, false},
    {FAULT_ISOLATE, HOLD_COUNT, {0, 0}, FAULT_MUTE, true, {0, 500}, {500, 4000}, false},
    {FAULT_DEAF, HOLD_COUNT, {0, 0}, FAULT_TRANSFER, true, {0, 2000}, {0, 0}, true},
    /* What is ordered waits, and is ordered elsewhere meanwhile. */
    {FAULT_UNREADY,
     HOLD_COUNT,
     {6000, 11000},
     FAULT_ISOLATE,
     false,
     {500, 4000},
     {AWAY_MIN, AWAY_MAX},
     false},
};
#define COMPANIONS (sizeof(companions) / sizeof(companions[0]))

static const struct companion *find_companion(struct taste *taste,
                                              enum sim_fault_kind kind)
{
    const struct companion *found = NULL;
    unsigned seen = 0;
    for (unsigned i = 0; i < COMPANIONS; i++) {
        if (companions[i].of == kind && random_below(&taste->random, ++seen) == 0) {
            found = &companions[i];
        }
    }
    return found;
}

static uint64_t within(struct taste *taste, struct span span)
{
    return between(taste, span.low_ms, span.high_ms);
}

/* The companion of the list's last trouble joins it; false: it has none. */
static bool join(struct taste *taste, struct sim_fault_list *list)
{
    struct sim_fault *fault = &list->items[list->count - 1];
    const struct companion *companion = find_companion(taste, fault->kind);
    struct sim_fault next = *fault;
    if (companion == NULL || fault->a == NOBODY || list->count == SIM_FAULTS_MAX) {
        return false;
    }
    if (companion->lasts.high_ms > 0) {
        fault->for_ms = within(taste, companion->lasts);
    }
    if (companion->hold != HOLD_COUNT) {
        fault->number = companion->hold;
        fault->b = NOBODY;
    }
    uint64_t begin_ms = fault->at_ms + (companion->at_end ? fault->for_ms : 0);
    uint64_t after_ms = within(taste, companion->after);
    next.kind = companion->kind;
    next.at_ms = companion->at_end ? begin_ms - after_ms : begin_ms + after_ms;
    next.for_ms = within(taste, companion->lasts_then);
    next.a = companion->of_leader ? NOBODY : fault->a;
    if (next.at_ms < CALM_MS || next.at_ms >= taste->config->faults_ms) {
        return false;
    }
    list->items[list->count++] = next;
    return true;
}

/* A trouble, early enough that what follows is seen before everything heals, with its
 * companions: one may have its own. */
static void tell_story(struct taste *taste, struct sim_fault_list *list)
{
    struct sim_fault *fault = &list->items[list->count++];
    fault->kind = companions[random_below(&taste->random, COMPANIONS)].of;
    place(taste, fault);
    choose(taste, fault);
    fault->at_ms = CALM_MS + between(taste, 0, taste->config->faults_ms / 2);
    fault->a = chance(taste, 50) ? some_machine(taste) : some_host(taste);
    if (fault->kind == FAULT_ISOLATE || fault->kind == FAULT_DEAF) {
        fault->for_ms = between(taste, AWAY_MIN, AWAY_MAX);
    }
    while (join(taste, list) && chance(taste, 60)) {
    }
}

/* ---- orders that come too late ---- */

static struct sim_fault *add(struct taste *taste,
                             struct sim_fault_list *list,
                             enum sim_fault_kind kind,
                             uint64_t at_ms,
                             uint64_t for_ms)
{
    struct sim_fault *fault =
        &list->items[list->count < SIM_FAULTS_MAX ? list->count++ : SIM_FAULTS_MAX - 1];
    *fault = (struct sim_fault){.kind = kind};
    place(taste, fault);
    choose(taste, fault);
    fault->at_ms = at_ms;
    fault->for_ms = for_ms;
    return fault;
}

/* Two hosts (or one) have orders for VMs and no images, are away until those run
 * elsewhere, and come back with the images and those orders; the leader that had given
 * them up dies before its new ones get there, and the next one's are lost on the way when
 * its leases are not. */
static void come_back_late(struct taste *taste, struct sim_fault_list *list)
{
    uint64_t away_ms = CALM_MS + between(taste, 0, 1500);
    uint64_t back_ms = away_ms + between(taste, 9000, AWAY_MAX);
    for (unsigned i = 0; i < 2; i++) {
        unsigned host = some_host(taste);
        add(taste, list, FAULT_UNREADY, 0, between(taste, away_ms, back_ms))->a = host;
        add(taste, list, FAULT_ISOLATE, away_ms, back_ms - away_ms)->a = host;
    }
    add(taste, list, FAULT_DROP, back_ms - 100, between(taste, 1500, 4000))->number =
        between(taste, 250, 500);
    add(taste, list, FAULT_KILL, back_ms + between(taste, 50, 1500),
        between(taste, 500, 3000))
        ->a = NOBODY;
}

/* The disks of all who vote are slower than a proposal's patience. That a host is suspect
 * waits for them; meanwhile another falls silent for so long that it is given up, without
 * having been suspect. It is heard again when the leader has no patience for that,
 * either, begins what it was ordered, and is silent again. */
static void stall_decisions(struct taste *taste, struct sim_fault_list *list)
{
    uint64_t silent_ms = CALM_MS + between(taste, 1500, 3500);
    uint64_t before_ms = between(taste, 0, 400);
    uint64_t back_ms = silent_ms + between(taste, 8000, 11000);
    uint64_t again_ms = silent_ms + between(taste, 11000, 13000);
    uint64_t fast_ms = silent_ms + between(taste, 9000, 12000);
    unsigned host = some_host(taste);
    for (unsigned i = 0; i < taste->config->voters; i++) {
        struct sim_fault *slow =
            add(taste, list, FAULT_SLOW_DISK, silent_ms, fast_ms - silent_ms);
        slow->a = i;
        slow->number = STALL_MS;
    }
    add(taste, list, FAULT_ISOLATE, silent_ms - before_ms, AWAY_MIN)->a =
        some_host(taste);
    add(taste, list, FAULT_UNREADY, 0, back_ms)->a = host;
    add(taste, list, FAULT_ISOLATE, silent_ms, back_ms - silent_ms)->a = host;
    add(taste, list, FAULT_ISOLATE, again_ms, AWAY_MIN)->a = host;
}

/* ---- changes of members ---- */

static unsigned some_voter(struct taste *taste)
{
    return (unsigned)random_below(&taste->random, taste->config->voters);
}

/* A voter is away for so long that it is replaced, and comes back with its old disk; or
 * is lost for good, or its log is. */
static void lose_voter(struct taste *taste, struct sim_fault_list *list)
{
    static const enum sim_fault_kind kinds[] = {FAULT_POWER, FAULT_ISOLATE, FAULT_GONE,
                                                FAULT_GONE, FAULT_LOG_GONE};
    enum sim_fault_kind kind =
        kinds[random_below(&taste->random, sizeof(kinds) / sizeof(kinds[0]))];
    uint64_t at_ms = CALM_MS + between(taste, 0, taste->config->faults_ms / 3);
    struct sim_fault *fault = add(taste, list, kind, at_ms, between(taste, 9500, 18000));
    fault->a = chance(taste, 30) ? NOBODY : some_voter(taste);
}

/* What hits those who change members, in the middle of it. */
static void hit_change(struct taste *taste, struct sim_fault_list *list)
{
    static const enum sim_fault_kind kinds[] = {
        FAULT_KILL,     FAULT_KILL,  FAULT_ISOLATE, FAULT_MUTE,         FAULT_DEAF,
        FAULT_TRANSFER, FAULT_PAUSE, FAULT_POWER,   FAULT_DIE_AT_WRITE, FAULT_DISK_ERROR,
        FAULT_SPLIT,    FAULT_CUT,   FAULT_HOLD,    FAULT_SLOW_DISK,    FAULT_ORPHAN};
    enum sim_fault_kind kind =
        kinds[random_below(&taste->random, sizeof(kinds) / sizeof(kinds[0]))];
    struct sim_fault *fault = add(taste, list, kind, 0, some_time(taste, 4000));
    fault->at_change = true;
    if (kind == FAULT_ORPHAN) { /* of whoever changes them; another one leads meanwhile */
        fault->for_ms = between(taste, 1500, 4000);
        fault->a = NOBODY;
        return;
    }
    fault->a = chance(taste, 60)   ? NOBODY
               : chance(taste, 60) ? FAULT_OF_CHANGED
                                   : some_machine(taste);
    fault->b = chance(taste, 50) ? NOBODY : some_machine(taste);
}

/* Whoever changes members dies when that is on its way to disks that are slower than an
 * election's patience. */
static void leave_last_word(struct taste *taste, struct sim_fault_list *list)
{
    struct sim_fault *fault =
        add(taste, list, FAULT_LAST_WORD, 0, between(taste, 1500, 4000));
    fault->at_change = true;
    fault->a = NOBODY;
    fault->number = 4 * between(taste, 150, 500); /* by fours: at once */
}

static void change_members(struct taste *taste, struct sim_fault_list *list)
{
    unsigned first = taste->config->voters + taste->config->hosts;
    for (unsigned i = 0; i < taste->config->spares; i++) {
        uint64_t at_ms = CALM_MS + between(taste, 0, taste->config->faults_ms / 2);
        add(taste, list, FAULT_JOIN, at_ms, 1)->a = first + i;
    }
    lose_voter(taste, list);
    if (chance(taste, 50)) {
        lose_voter(taste, list);
    }
    for (uint64_t hits = between(taste, 0, 3); hits > 0; hits--) {
        hit_change(taste, list);
    }
    if (chance(taste, 30)) {
        leave_last_word(taste, list);
    }
}

void sim_faults_make(const struct sim_config *config, struct sim_fault_list *ret_list)
{
    struct taste taste = {
        .config = config, .machines = config->voters + config->hosts, .victim = NOBODY};
    random_seed(&taste.random, config->seed * 2 + 1);
    *ret_list = (struct sim_fault_list){0};
    for (unsigned i = 0; i < FAULT_USUAL_COUNT; i++) {
        taste.wanted[i] = chance(&taste, 45);
    }
    if (chance(&taste, 50)) {
        taste.victim = some_machine(&taste);
    }
    bool story = config->rack && chance(&taste, 60);
    /* Where everything breaks nobody leads for long enough that others take over. */
    unsigned count = (unsigned)between(&taste, 2, story && chance(&taste, 70) ? 5 : 26);
    for (unsigned tries = 0; ret_list->count < count && tries < 1000; tries++) {
        enum sim_fault_kind kind =
            (enum sim_fault_kind)random_below(&taste.random, FAULT_USUAL_COUNT);
        if (!taste.wanted[kind]) {
            continue;
        }
        struct sim_fault *fault = &ret_list->items[ret_list->count++];
        fault->kind = kind;
        place(&taste, fault);
        choose(&taste, fault);
        stretch(&taste, fault);
        lean(&taste, ret_list, fault);
    }
    if (story) {
        tell_story(&taste, ret_list);
    }
    if (config->members) {
        change_members(&taste, ret_list);
    } else if (config->late && config->hosts > 0 && config->seed / 4 % 2 == 0) {
        come_back_late(&taste, ret_list);
    } else if (config->late && config->hosts > 0) {
        stall_decisions(&taste, ret_list);
    }
}
