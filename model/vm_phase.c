#include "base/require.h"
#include "model/state.h"

#include <string.h>

#define BIT(phase) (UINT32_C(1) << (phase))

/* The allowed moves of a VM.
 *
 *     pending -> placed -> starting -> running <-> ready
 *                  |          |          |  \-> migrating -> running (elsewhere)
 *                  |          |          \-> stopping -> stopped
 *                  \----------\-> failed
 *     any phase on a host -> lost -> pending
 *
 * Beyond the drawing: reports may have missed a step (an agent was restarted, a heartbeat
 * was lost), so steps forward may be skipped. A user may switch a VM off wherever it is,
 * so pending and failed reach stopped. A lost VM whose lifecycle waits for its host comes
 * back in whatever phase the host finds it in. */
static const uint32_t allowed[PHASE_COUNT] = {
    [PHASE_PENDING] = BIT(PHASE_PLACED) | BIT(PHASE_STOPPED),
    [PHASE_PLACED] = BIT(PHASE_STARTING) | BIT(PHASE_RUNNING) | BIT(PHASE_READY) |
                     BIT(PHASE_STOPPING) | BIT(PHASE_STOPPED) | BIT(PHASE_FAILED) |
                     BIT(PHASE_LOST),
    [PHASE_STARTING] = BIT(PHASE_RUNNING) | BIT(PHASE_READY) | BIT(PHASE_STOPPING) |
                       BIT(PHASE_STOPPED) | BIT(PHASE_FAILED) | BIT(PHASE_LOST),
    /* ready falls back to running when the health probe fails */
    [PHASE_RUNNING] = BIT(PHASE_READY) | BIT(PHASE_MIGRATING) | BIT(PHASE_STOPPING) |
                      BIT(PHASE_STOPPED) | BIT(PHASE_FAILED) | BIT(PHASE_LOST),
    [PHASE_READY] = BIT(PHASE_RUNNING) | BIT(PHASE_MIGRATING) | BIT(PHASE_STOPPING) |
                    BIT(PHASE_STOPPED) | BIT(PHASE_FAILED) | BIT(PHASE_LOST),
    [PHASE_MIGRATING] = BIT(PHASE_RUNNING) | BIT(PHASE_READY) | BIT(PHASE_STOPPING) |
                        BIT(PHASE_STOPPED) | BIT(PHASE_FAILED) | BIT(PHASE_LOST),
    [PHASE_STOPPING] = BIT(PHASE_STOPPED) | BIT(PHASE_FAILED) | BIT(PHASE_LOST),
    [PHASE_STOPPED] = BIT(PHASE_PENDING),
    [PHASE_FAILED] = BIT(PHASE_PENDING) | BIT(PHASE_STOPPED),
    /* pending and stopped: its host is provably gone; the others: its host is back */
    [PHASE_LOST] = BIT(PHASE_PENDING) | BIT(PHASE_STARTING) | BIT(PHASE_RUNNING) |
                   BIT(PHASE_READY) | BIT(PHASE_STOPPING) | BIT(PHASE_STOPPED) |
                   BIT(PHASE_FAILED),
};

static const uint32_t on_host = BIT(PHASE_PLACED) | BIT(PHASE_STARTING) |
                                BIT(PHASE_RUNNING) | BIT(PHASE_READY) |
                                BIT(PHASE_MIGRATING) | BIT(PHASE_STOPPING);

bool vm_phase_allowed(enum phase from, enum phase to)
{
    REQUIRE(from < PHASE_COUNT && to < PHASE_COUNT);
    return (allowed[from] & BIT(to)) != 0;
}

bool vm_reason_is_news(const struct vm *vm, enum phase phase, const char *reason)
{
    const char *known = vm->status.reason != NULL ? vm->status.reason : "";
    return vm->status.phase == phase &&
           (phase == PHASE_RUNNING || phase == PHASE_READY) && reason != NULL &&
           reason[0] != '\0' && strcmp(reason, known) != 0;
}

bool vm_run_is_news(const struct vm *vm,
                    enum phase phase,
                    enum engine engine,
                    bool paused)
{
    return vm->status.phase == phase &&
           (phase == PHASE_RUNNING || phase == PHASE_READY) &&
           (paused != vm->status.paused ||
            (engine != ENGINE_AUTO && engine != (enum engine)vm->status.engine));
}

bool vm_stays_off(const struct vm *vm)
{
    return vm->status.intent == STOP_INTENT_STOP;
}

bool vm_phase_on_host(enum phase phase)
{
    REQUIRE(phase < PHASE_COUNT);
    return (on_host & BIT(phase)) != 0;
}
