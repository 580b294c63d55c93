#include "fence/fence_core.h"

#include "base/err.h"
#include "base/require.h"

#include <string.h>

#define PERMILLE   UINT64_C(1000)
#define LENGTH_MIN UINT64_C(1000000)       /* 1 ms */
#define LENGTH_MAX UINT64_C(3600000000000) /* 1 h */
#define ERROR_MAX  100u                    /* a clock that is 10 % off is broken */
#define LATE_SHARE 8u /* of the way to L(1-d): for renewals that are late */
#define PET_SHARE  5u /* a watchdog is fed this often within its timeout */

struct fence_rules fence_rules_default(uint64_t length_ns)
{
    return (struct fence_rules){
        .length_ns = length_ns,
        .clock_error_permille = 10,
        .freeze_permille = 700,
        .kill_permille = 900,
    };
}

bool fence_rules_valid(const struct fence_rules *rules)
{
    return rules->length_ns >= LENGTH_MIN && rules->length_ns <= LENGTH_MAX &&
           rules->clock_error_permille < ERROR_MAX &&
           rules->freeze_permille < rules->kill_permille &&
           rules->kill_permille <= PERMILLE - rules->clock_error_permille;
}

const char *fence_phase_name(enum fence_phase phase)
{
    static const char *const names[FENCE_PHASE_COUNT] = {"run", "freeze", "kill",
                                                         "overdue"};
    REQUIRE((unsigned)phase < FENCE_PHASE_COUNT);
    return names[phase];
}

void fence_core_init(struct fence_core *core, const struct fence_rules *rules)
{
    REQUIRE(fence_rules_valid(rules));
    memset(core, 0, sizeof(*core));
    core->rules = *rules;
}

/* ---- the lease ---- */

/* Rounds down, to the safe side; L is bounded, so nothing overflows. */
static uint64_t share_ns(const struct fence_core *core, uint64_t permille)
{
    return core->rules.length_ns * permille / PERMILLE;
}

/* Saturating: a sum beyond the end of time is the end of time. */
static uint64_t after_grant(const struct fence_core *core, uint64_t permille)
{
    uint64_t length_ns = share_ns(core, permille);
    return core->granted_ns > UINT64_MAX - length_ns ? UINT64_MAX
                                                     : core->granted_ns + length_ns;
}

int fence_core_lease(struct fence_core *core, uint64_t granted_ns, uint64_t now_ns)
{
    if (granted_ns > now_ns) {
        return BERTH_EINVALID;
    }
    if (core->held && granted_ns <= core->granted_ns) {
        return 0;
    }
    core->held = true;
    core->granted_ns = granted_ns;
    return 1;
}

enum fence_phase fence_core_phase(const struct fence_core *core, uint64_t now_ns)
{
    if (!core->held) {
        return FENCE_PHASE_KILL; /* nobody was promised anything yet */
    }
    if (now_ns >= after_grant(core, PERMILLE - core->rules.clock_error_permille)) {
        return FENCE_PHASE_OVERDUE;
    }
    if (now_ns >= after_grant(core, core->rules.kill_permille)) {
        return FENCE_PHASE_KILL;
    }
    return now_ns >= after_grant(core, core->rules.freeze_permille) ? FENCE_PHASE_FREEZE
                                                                    : FENCE_PHASE_RUN;
}

uint64_t fence_core_next_ns(const struct fence_core *core, uint64_t now_ns)
{
    uint64_t retry_ns =
        now_ns > UINT64_MAX - FENCE_RETRY_NS ? UINT64_MAX : now_ns + FENCE_RETRY_NS;
    if (core->count == 0) {
        return UINT64_MAX;
    }
    switch (fence_core_phase(core, now_ns)) {
    case FENCE_PHASE_RUN:
        return after_grant(core, core->rules.freeze_permille);
    case FENCE_PHASE_FREEZE: {
        uint64_t kill_ns = after_grant(core, core->rules.kill_permille);
        return kill_ns < retry_ns ? kill_ns : retry_ns;
    }
    default:
        return retry_ns;
    }
}

/* ---- the watchdog ---- */

bool fence_core_watchdog_in_time(const struct fence_core *core, uint64_t timeout_ns)
{
    uint64_t end_ns = share_ns(core, PERMILLE - core->rules.clock_error_permille);
    return timeout_ns <= end_ns - end_ns / LATE_SHARE;
}

bool fence_core_may_pet(const struct fence_core *core,
                        uint64_t timeout_ns,
                        uint64_t now_ns)
{
    if (core->count == 0) {
        return true;
    }
    if (!fence_core_watchdog_in_time(core, timeout_ns)) {
        return core->held && fence_core_phase(core, now_ns) != FENCE_PHASE_OVERDUE;
    }
    uint64_t end_ns = after_grant(core, PERMILLE - core->rules.clock_error_permille);
    return core->held && now_ns <= end_ns && end_ns - now_ns >= timeout_ns;
}

uint64_t fence_core_next_pet_ns(const struct fence_core *core,
                                uint64_t timeout_ns,
                                uint64_t fed_ns)
{
    uint64_t next_ns = fed_ns + timeout_ns / PET_SHARE;
    if (core->count == 0 || !core->held ||
        !fence_core_watchdog_in_time(core, timeout_ns)) {
        return next_ns;
    }
    uint64_t end_ns = after_grant(core, PERMILLE - core->rules.clock_error_permille);
    uint64_t used_ns = timeout_ns + FENCE_RETRY_NS; /* who wakes late is in time yet */
    uint64_t last_ns = end_ns > used_ns ? end_ns - used_ns : 0;
    return fed_ns < last_ns && last_ns < next_ns ? last_ns : next_ns;
}

/* ---- the table ---- */

static bool same_process(const struct fence_vm *a, const struct fence_vm *b)
{
    return a->epoch == b->epoch && a->pid == b->pid && a->start_ticks == b->start_ticks;
}

/* The slot of a VM, whatever its epoch, or -1. */
static int find_uid(const struct fence_core *core, uint64_t uid)
{
    for (unsigned i = 0; i < core->top; i++) {
        if (core->vms[i].uid == uid) {
            return (int)i;
        }
    }
    return -1;
}

int fence_core_watch(struct fence_core *core, const struct fence_vm *vm)
{
    if (vm->uid == 0 || vm->epoch == 0 || vm->pid <= 1) {
        return BERTH_EINVALID;
    }
    int slot = find_uid(core, vm->uid);
    if (slot >= 0) {
        const struct fence_vm *known = &core->vms[slot];
        return same_process(known, vm)    ? slot
               : known->epoch > vm->epoch ? BERTH_ESTALE
                                          : BERTH_EINUSE;
    }
    slot = find_uid(core, 0);
    if (slot < 0) {
        if (core->top == FENCE_VMS_MAX) {
            return BERTH_EFULL;
        }
        slot = (int)core->top++;
    }
    core->vms[slot] = (struct fence_vm){
        .uid = vm->uid,
        .epoch = vm->epoch,
        .pid = vm->pid,
        .start_ticks = vm->start_ticks,
    };
    core->count++;
    return slot;
}

int fence_core_find(const struct fence_core *core, uint64_t uid, uint64_t epoch)
{
    int slot = uid == 0 ? -1 : find_uid(core, uid);
    return slot >= 0 && core->vms[slot].epoch == epoch ? slot : BERTH_ENOTFOUND;
}

void fence_core_remove(struct fence_core *core, unsigned slot)
{
    REQUIRE(slot < core->top && core->vms[slot].uid != 0);
    core->vms[slot] = (struct fence_vm){0};
    core->count--;
    while (core->top > 0 && core->vms[core->top - 1].uid == 0) {
        core->top--;
    }
}
