#include "agent/lease.h"

#include "base/require.h"

#include <string.h>

#define PERMILLE UINT64_C(1000)

struct lease_config lease_config_default(void)
{
    return (struct lease_config){
        .length_ns = UINT64_C(6000000000),
        .clock_error_permille = 10,
        .pause_permille = 700,
        .kill_permille = 900,
    };
}

/* Split so that no length can overflow; rounds down, to the safe side. */
static uint64_t share_of(uint64_t length_ns, uint64_t permille)
{
    return length_ns / PERMILLE * permille + length_ns % PERMILLE * permille / PERMILLE;
}

/* Saturating: a sum beyond the end of time is the end of time. */
static uint64_t after(uint64_t start_ns, uint64_t length_ns)
{
    return start_ns > UINT64_MAX - length_ns ? UINT64_MAX : start_ns + length_ns;
}

static uint64_t pause_at(const struct lease *lease)
{
    return after(lease->granted_ns,
                 share_of(lease->config.length_ns, lease->config.pause_permille));
}

static uint64_t kill_at(const struct lease *lease)
{
    return after(lease->granted_ns,
                 share_of(lease->config.length_ns, lease->config.kill_permille));
}

static uint64_t end_at(const struct lease *lease)
{
    return after(
        lease->granted_ns,
        share_of(lease->config.length_ns, PERMILLE - lease->config.clock_error_permille));
}

void lease_init(struct lease *lease,
                const struct lease_config *config,
                uint64_t first_sequence)
{
    REQUIRE(config->length_ns > 0);
    REQUIRE(config->clock_error_permille < 100);
    REQUIRE(config->pause_permille < config->kill_permille);
    REQUIRE(config->kill_permille <= PERMILLE - config->clock_error_permille);
    memset(lease, 0, sizeof(*lease));
    lease->config = *config;
    lease->sequence = first_sequence;
}

void lease_restore(struct lease *lease, uint64_t granted_ns, uint64_t now_ns)
{
    if (granted_ns > now_ns) {
        return; /* another boot's clock */
    }
    if (!lease->held || granted_ns > lease->granted_ns) {
        lease->held = true;
        lease->granted_ns = granted_ns;
    }
}

uint64_t lease_heartbeat(struct lease *lease, uint64_t now_ns)
{
    if (lease->count == LEASE_HEARTBEATS_MAX) {
        lease->first = (lease->first + 1) % LEASE_HEARTBEATS_MAX;
        lease->count--;
    }
    unsigned slot = (lease->first + lease->count) % LEASE_HEARTBEATS_MAX;
    lease->count++;
    lease->sent[slot].sequence = lease->sequence++;
    lease->sent[slot].sent_ns = now_ns;
    return lease->sent[slot].sequence;
}

bool lease_ack(struct lease *lease, uint64_t sequence)
{
    for (unsigned i = 0; i < lease->count; i++) {
        unsigned slot = (lease->first + i) % LEASE_HEARTBEATS_MAX;
        if (lease->sent[slot].sequence != sequence) {
            continue;
        }
        uint64_t sent_ns = lease->sent[slot].sent_ns;
        /* It and all older ones are done with: their acks could only say less. */
        lease->first = (slot + 1) % LEASE_HEARTBEATS_MAX;
        lease->count -= i + 1;
        if (lease->held && sent_ns <= lease->granted_ns) {
            return false;
        }
        lease->held = true;
        lease->granted_ns = sent_ns;
        return true;
    }
    return false;
}

enum lease_state lease_state(const struct lease *lease, uint64_t now_ns)
{
    if (!lease->held || now_ns >= kill_at(lease)) {
        return LEASE_KILL;
    }
    return now_ns >= pause_at(lease) ? LEASE_PAUSE : LEASE_OK;
}

const char *lease_state_name(enum lease_state state)
{
    static const char *const names[LEASE_STATE_COUNT] = {"ok", "pause", "kill"};
    REQUIRE((unsigned)state < LEASE_STATE_COUNT);
    return names[state];
}

bool lease_may_run(const struct lease *lease, uint64_t now_ns)
{
    return lease->held && now_ns < end_at(lease);
}

uint64_t lease_next_change_ns(const struct lease *lease, uint64_t now_ns)
{
    switch (lease_state(lease, now_ns)) {
    case LEASE_OK:
        return pause_at(lease);
    case LEASE_PAUSE:
        return kill_at(lease);
    default:
        return UINT64_MAX;
    }
}

uint64_t lease_granted_ns(const struct lease *lease)
{
    return lease->held ? lease->granted_ns : 0;
}
