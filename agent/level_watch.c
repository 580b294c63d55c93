#include "agent/level_watch.h"

#include "base/plural.h"
#include "base/require.h"
#include "base/u64_map.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct said {
    struct level_range range;
    uint64_t since_ms; /* without a change */
    uint64_t heard_ms;
};

struct level_watch {
    uint64_t wait_ms;
    uint64_t founder;      /* of a cluster that is new, or 0 */
    struct u64_map *hosts; /* uid -> struct said */
};

struct level_watch *level_watch_new(uint64_t wait_ms)
{
    struct level_watch *watch = calloc(1, sizeof(*watch));
    if (watch == NULL) {
        return NULL;
    }
    watch->wait_ms = wait_ms;
    watch->hosts = u64_map_new();
    return watch->hosts != NULL ? watch : level_watch_free(watch);
}

static void forget_all(struct level_watch *watch)
{
    size_t cursor = 0;
    uint64_t uid;
    void *value;
    while (u64_map_next(watch->hosts, &cursor, &uid, &value)) {
        level_watch_forget(watch, uid);
        cursor = 0; /* the table is another */
    }
}

struct level_watch *level_watch_free(struct level_watch *watch)
{
    if (watch != NULL) {
        if (watch->hosts != NULL) {
            forget_all(watch);
            u64_map_free(watch->hosts);
        }
        free(watch);
    }
    return NULL;
}

void level_watch_reset(struct level_watch *watch)
{
    forget_all(watch);
    watch->founder = 0;
}

void level_watch_found(struct level_watch *watch, uint64_t host)
{
    watch->founder = host;
}

void level_watch_forget(struct level_watch *watch, uint64_t host)
{
    free(u64_map_remove(watch->hosts, host));
}

int level_watch_heard(struct level_watch *watch,
                      uint64_t host,
                      struct level_range range,
                      uint64_t now_ms)
{
    struct said *said = u64_map_get(watch->hosts, host);
    if (said == NULL) {
        said = calloc(1, sizeof(*said));
        if (said == NULL || u64_map_put(watch->hosts, host, said) < 0) {
            free(said);
            return -ENOMEM;
        }
    }
    bool again = said->range.min == range.min && said->range.max == range.max &&
                 now_ms - said->heard_ms < LEVEL_SILENT_MS;
    said->since_ms = again ? said->since_ms : now_ms;
    said->heard_ms = now_ms;
    said->range = range;
    return 0;
}

bool level_watch_range(const struct level_watch *watch,
                       uint64_t host,
                       struct level_range *ret_range)
{
    const struct said *said = u64_map_get(watch->hosts, host);
    if (said == NULL || said->range.max == 0) {
        return false;
    }
    *ret_range = said->range;
    return true;
}

/* What is against the level on this host, the gravest last. */
enum objection { OBJECTION_NONE, OBJECTION_TIME, OBJECTION_SILENT, OBJECTION_RELEASE };

static enum objection host_objection(const struct level_watch *watch,
                                     const struct host *host,
                                     uint64_t wait_ms,
                                     uint32_t level,
                                     uint64_t now_ms,
                                     char ret_text[192])
{
    const struct said *said = u64_map_get(watch->hosts, host->meta.uid);
    const char *name = host->meta.name;
    ret_text[0] = '\0';
    if (said == NULL || said->range.max == 0 || host->status.phase != HOST_PHASE_READY ||
        now_ms - said->heard_ms >= LEVEL_SILENT_MS) {
        (void)snprintf(ret_text, 192,
                       "%s is not heard: bring it back, or remove it (berth rm host/%s)",
                       name, name);
        return OBJECTION_SILENT;
    }
    if (said->range.max < level) {
        (void)snprintf(
            ret_text, 192, "%s takes part up to level %" PRIu32 " (berthd %.40s)", name,
            said->range.max, host->status.version != NULL ? host->status.version : "?");
        return OBJECTION_RELEASE;
    }
    if (now_ms - said->since_ms < wait_ms) {
        (void)snprintf(ret_text, 192,
                       "%s has said for %" PRIu64
                       " s that it knows it, wanted are %" PRIu64 " s",
                       name, (now_ms - said->since_ms) / 1000, wait_ms / 1000);
        return OBJECTION_TIME;
    }
    return OBJECTION_NONE;
}

static uint64_t wait_of(const struct level_watch *watch, const struct state *state)
{
    const bool is_new =
        state_count(state, KIND_HOST) == 1 && state_host(state, watch->founder) != NULL;
    return is_new ? 0 : watch->wait_ms;
}

/* What a host takes part in at most; 0 while it has said nothing. */
static uint32_t highest_of(const struct level_watch *watch, const struct host *host)
{
    struct level_range range = {0};
    return level_watch_range(watch, host->meta.uid, &range) ? range.max : 0;
}

uint32_t level_watch_highest(const struct level_watch *watch, const struct state *state)
{
    size_t cursor = 0;
    const struct host *host;
    uint32_t most = 0;
    while ((host = state_next(state, KIND_HOST, &cursor)) != NULL) {
        uint32_t highest = highest_of(watch, host);
        most = highest > most ? highest : most;
    }
    return most;
}

/* What all take part in; never above what this release can say in a command. */
static uint32_t shared_by_all(const struct level_watch *watch, const struct state *state)
{
    size_t cursor = 0;
    const struct host *host;
    uint32_t least = level_range_up_to(0).max;
    while ((host = state_next(state, KIND_HOST, &cursor)) != NULL) {
        uint32_t highest = highest_of(watch, host);
        least = highest < least ? highest : least;
    }
    return least;
}

uint32_t level_watch_next(const struct level_watch *watch,
                          const struct state *state,
                          uint64_t now_ms,
                          char ret_why[256])
{
    uint32_t level = state_level(state);
    ret_why[0] = '\0';
    if (level_watch_highest(watch, state) <= level) {
        return 0;
    }
    uint32_t shared = shared_by_all(watch, state);
    uint32_t next = shared > level ? shared : level + 1;
    size_t cursor = 0;
    unsigned objections = 0;
    enum objection gravest = OBJECTION_NONE;
    const struct host *host;
    char told[192] = "";
    while ((host = state_next(state, KIND_HOST, &cursor)) != NULL) {
        char text[192];
        enum objection objection =
            host_objection(watch, host, wait_of(watch, state), next, now_ms, text);
        objections += objection != OBJECTION_NONE ? 1U : 0U;
        if (objection > gravest) { /* what time alone does not cure is told first */
            gravest = objection;
            memcpy(told, text, sizeof(told));
        }
    }
    if (objections == 0) {
        return level_in_range(level_range_up_to(0), next) ? next : 0;
    }
    if (objections == 1) {
        (void)snprintf(ret_why, 256, "%s", told);
    } else {
        (void)snprintf(ret_why, 256, "%s; and %u more host%s", told, objections - 1,
                       plural_s(objections - 1));
    }
    return 0;
}
