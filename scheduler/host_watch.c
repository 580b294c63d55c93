#include "scheduler/host_watch.h"

#include "base/clock.h"
#include "base/u64_map.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REASON_SIZE 256

struct heard {
    bool heard;      /* under this leadership */
    bool given_up;   /* it was decided that it is lost: no lease until it starts anew */
    uint64_t met_ns; /* when it was first judged under this leadership; 0: not yet */
    uint64_t at_ns;
    uint64_t wall_ms;
    struct host_load load;
    struct host_range *ranges; /* owned */
    uint32_t range_count;
    uint32_t carried[HOST_CARRIED_MAX]; /* VNIs */
    uint32_t carried_count;
};

struct host_watch {
    uint64_t leads_since_ns;
    struct u64_map *hosts; /* uid -> struct heard */
};

struct host_watch *host_watch_new(void)
{
    struct host_watch *watch = calloc(1, sizeof(*watch));
    if (watch != NULL && (watch->hosts = u64_map_new()) == NULL) {
        free(watch);
        watch = NULL;
    }
    return watch;
}

static void forget(struct host_watch *watch)
{
    size_t cursor = 0;
    uint64_t uid;
    void *value;
    while (u64_map_next(watch->hosts, &cursor, &uid, &value)) {
        struct heard *heard = value;
        free(heard->ranges);
        free(heard);
    }
    u64_map_free(watch->hosts);
    watch->hosts = NULL;
}

struct host_watch *host_watch_free(struct host_watch *watch)
{
    if (watch != NULL) {
        forget(watch);
        free(watch);
    }
    return NULL;
}

void host_watch_lead(struct host_watch *watch, uint64_t now_ns)
{
    size_t cursor = 0;
    uint64_t uid;
    void *value;
    watch->leads_since_ns = now_ns;
    while (u64_map_next(watch->hosts, &cursor, &uid, &value)) {
        struct heard *heard = value;
        free(heard->ranges);
        *heard = (struct heard){0};
    }
}

static struct heard *entry_of(struct host_watch *watch, uint64_t host)
{
    struct heard *heard = u64_map_get(watch->hosts, host);
    if (heard == NULL) {
        heard = calloc(1, sizeof(*heard));
        if (heard == NULL || u64_map_put(watch->hosts, host, heard) < 0) {
            free(heard);
            return NULL;
        }
    }
    return heard;
}

int host_watch_heard(struct host_watch *watch,
                     uint64_t host,
                     const struct host_load *load,
                     uint64_t now_ns,
                     uint64_t wall_ms)
{
    struct heard *heard = entry_of(watch, host);
    if (heard == NULL) {
        return -ENOMEM;
    }
    heard->heard = true;
    heard->at_ns = now_ns;
    heard->wall_ms = wall_ms;
    heard->load = *load;
    return 0;
}

int host_watch_set_ranges(struct host_watch *watch,
                          uint64_t host,
                          const struct host_range *ranges,
                          uint32_t count)
{
    struct heard *heard = entry_of(watch, host);
    if (heard == NULL) {
        return -ENOMEM;
    }
    if (count == heard->range_count &&
        (count == 0 || memcmp(heard->ranges, ranges, count * sizeof(*ranges)) == 0)) {
        return 0; /* as with nearly every heartbeat */
    }
    struct host_range *copy = calloc((size_t)count + 1, sizeof(*copy));
    if (copy == NULL) {
        return -ENOMEM;
    }
    if (count > 0) {
        memcpy(copy, ranges, count * sizeof(*copy));
    }
    free(heard->ranges);
    heard->ranges = copy;
    heard->range_count = count;
    return 0;
}

const struct host_range *
host_watch_ranges(const struct host_watch *watch, uint64_t host, uint32_t *ret_count)
{
    const struct heard *heard = u64_map_get(watch->hosts, host);
    *ret_count = heard != NULL ? heard->range_count : 0;
    return heard != NULL ? heard->ranges : NULL;
}

int host_watch_set_carried(struct host_watch *watch,
                           uint64_t host,
                           const uint32_t *vnis,
                           uint32_t count)
{
    struct heard *heard = entry_of(watch, host);
    if (heard == NULL) {
        return -ENOMEM;
    }
    heard->carried_count = count < HOST_CARRIED_MAX ? count : HOST_CARRIED_MAX;
    for (uint32_t i = 0; i < heard->carried_count; i++) {
        heard->carried[i] = vnis[i];
    }
    return 0;
}

bool host_watch_carries(const struct host_watch *watch, uint64_t host, uint32_t vni)
{
    const struct heard *heard = u64_map_get(watch->hosts, host);
    bool carries = false;
    for (uint32_t i = 0; heard != NULL && i < heard->carried_count && !carries; i++) {
        carries = heard->carried[i] == vni;
    }
    return carries;
}

int host_watch_give_up(struct host_watch *watch, uint64_t host)
{
    struct heard *heard = entry_of(watch, host);
    if (heard == NULL) {
        return -ENOMEM;
    }
    heard->given_up = true;
    return 0;
}

bool host_watch_given_up(const struct host_watch *watch, uint64_t host)
{
    const struct heard *heard = u64_map_get(watch->hosts, host);
    return heard != NULL && heard->given_up;
}

bool host_watch_may_renew(struct host_watch *watch,
                          const struct host *host,
                          bool orders_taken)
{
    struct heard *heard = host != NULL ? u64_map_get(watch->hosts, host->meta.uid) : NULL;
    if (heard == NULL || !heard->heard) {
        return false;
    }
    if (host->status.phase == HOST_PHASE_LOST) {
        heard->given_up = true; /* by an earlier leader, perhaps */
    } else if (host->status.phase == HOST_PHASE_READY && orders_taken) {
        heard->given_up = false;
    }
    return !heard->given_up;
}

bool host_watch_seen(const struct host_watch *watch,
                     uint64_t host,
                     uint64_t *ret_wall_ms,
                     struct host_load *ret_load)
{
    const struct heard *heard = u64_map_get(watch->hosts, host);
    if (heard == NULL || !heard->heard) {
        return false;
    }
    *ret_wall_ms = heard->wall_ms;
    *ret_load = heard->load;
    return true;
}

uint64_t host_watch_lease_over_ns(void)
{
    return LEASE_NS + LEASE_NS / 1000 * LEASE_DRIFT_PERMILLE + LEASE_MARGIN_NS;
}

/* "its lease is over: silent for 6.3 s (last heartbeat 09:15:04.123)" */
static void
tell(const struct heard *heard, const char *what, uint64_t silent_ns, char *ret_reason)
{
    double silent_s = (double)silent_ns / (double)NS_PER_S;
    if (heard == NULL || !heard->heard) {
        (void)snprintf(ret_reason, REASON_SIZE, "%s %.1f s (never heard by this leader)",
                       what, silent_s);
        return;
    }
    char when[CLOCK_TEXT_SIZE];
    clock_format(heard->wall_ms, when);
    (void)snprintf(ret_reason, REASON_SIZE, "%s %.1f s (last heartbeat %.12s)", what,
                   silent_s, when + 11); /* the time of day */
}

enum host_phase host_watch_judge(struct host_watch *watch,
                                 const struct host *host,
                                 uint64_t now_ns,
                                 char *ret_reason)
{
    struct heard *heard = entry_of(watch, host->meta.uid);
    enum host_phase phase = host->status.phase;
    bool known = heard != NULL && heard->heard;
    uint64_t last_ns = watch->leads_since_ns;
    if (heard != NULL) {
        heard->met_ns = heard->met_ns == 0 ? now_ns : heard->met_ns;
        uint64_t said_ns =
            known ? heard->at_ns : heard->met_ns; /* it may just have joined */
        last_ns = said_ns > last_ns ? said_ns : last_ns;
    }
    uint64_t silent_ns = now_ns > last_ns ? now_ns - last_ns : 0;
    bool alive = known && silent_ns <= SUSPECT_NS;
    if (phase == HOST_PHASE_REMOVED) {
        return phase;
    }
    if (alive && phase != HOST_PHASE_READY) {
        (void)snprintf(ret_reason, REASON_SIZE, "heartbeats are back");
        return HOST_PHASE_READY;
    }
    if (phase != HOST_PHASE_LOST && silent_ns > host_watch_lease_over_ns()) {
        tell(heard, "its lease is over: silent for", silent_ns, ret_reason);
        return HOST_PHASE_LOST;
    }
    if (phase == HOST_PHASE_READY && silent_ns > SUSPECT_NS) {
        tell(heard, "no heartbeat for", silent_ns, ret_reason);
        return HOST_PHASE_SUSPECT;
    }
    return phase;
}
