/* What the fence decides: which VMs it watches, and what is due at a given time. Pure: no
 * clock, no descriptor, no allocation.
 *
 * Shapes: `struct fence_core` is a plain value with a fixed table of VMs. A slot number
 * names a VM for as long as it is watched, so that the caller can keep descriptors beside
 * the table. All follows from the time of the last lease, as in agent/lease.h:
 *
 *     granted             0.7 L            0.9 L          L(1-d)
 *        |---- RUN ---------|---- FREEZE ----|--- KILL ------|--- OVERDUE --->
 *
 * Without a lease everything that is watched is in KILL. RUN thaws what the fence froze,
 * FREEZE freezes, KILL and OVERDUE kill, again and again until the process is gone. In
 * OVERDUE the host itself has to go: see fence_core_may_pet.
 *
 * Units: CLOCK_BOOTTIME ns. Threads: none of its own. Errors: BERTH_ESTALE, BERTH_EINUSE,
 * BERTH_EFULL, BERTH_EINVALID, BERTH_ENOTFOUND. Limits: FENCE_VMS_MAX.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define FENCE_VMS_MAX 4096u /* as many as a host may run */
#define FENCE_RETRY_NS                                              \
    UINT64_C(50000000) /* between two attempts at what did not work \
                        */

struct fence_rules {
    uint64_t length_ns;            /* L; 1 ms to 1 h */
    uint32_t clock_error_permille; /* d; < 100 */
    uint32_t freeze_permille;      /* of L */
    uint32_t kill_permille;        /* of L; freeze < kill <= 1000 - d */
};

/* d = 1 %, freeze at 0.7 L, kill at 0.9 L: model.md's rule 2. */
struct fence_rules fence_rules_default(uint64_t length_ns);
bool fence_rules_valid(const struct fence_rules *rules);

enum fence_phase {
    FENCE_PHASE_RUN = 0,
    FENCE_PHASE_FREEZE,
    FENCE_PHASE_KILL,
    FENCE_PHASE_OVERDUE,
    FENCE_PHASE_COUNT
};
const char *fence_phase_name(enum fence_phase phase);

/* Who a watched process is; a recycled pid has another start time. */
struct fence_vm {
    uint64_t uid; /* 0: a free slot */
    uint64_t epoch;
    uint64_t start_ticks; /* /proc/pid/stat field 22 */
    int32_t pid;
    bool frozen;  /* by the fence, through its control group */
    bool stopped; /* by the fence, through SIGSTOP */
    bool killed;  /* SIGKILL was sent; its end is still to come */
};

struct fence_core { /* read freely, changed by the functions below */
    struct fence_rules rules;
    bool held; /* a lease was ever granted */
    uint64_t granted_ns;
    unsigned count; /* of slots in use */
    unsigned top;   /* all slots from here on are free */
    struct fence_vm vms[FENCE_VMS_MAX];
};

void fence_core_init(struct fence_core *core, const struct fence_rules *rules);

/* 1: it counts from now on; 0: not newer than what is known; BERTH_EINVALID: it lies in
 * the future. */
int fence_core_lease(struct fence_core *core, uint64_t granted_ns, uint64_t now_ns);
/* Takes a VM in: its slot. The same process again is the same slot. BERTH_ESTALE: a newer
 * epoch of it is watched; BERTH_EINUSE: another process of this VM still lives. */
int fence_core_watch(struct fence_core *core, const struct fence_vm *vm);
/* The slot of this run, or BERTH_ENOTFOUND. */
int fence_core_find(const struct fence_core *core, uint64_t uid, uint64_t epoch);
/* The slot is free from now on. */
void fence_core_remove(struct fence_core *core, unsigned slot);

enum fence_phase fence_core_phase(const struct fence_core *core, uint64_t now_ns);
/* When to look again at the latest, UINT64_MAX when nothing can be due by itself. */
uint64_t fence_core_next_ns(const struct fence_core *core, uint64_t now_ns);
/* May a watchdog that bites timeout_ns after it was last fed be fed now? Only if, should
 * this be the last time, it bites by L(1-d) or no VM is left for which it would have to.
 * One that takes longer than the way to L(1-d) is fed until FENCE_PHASE_OVERDUE instead.
 */
bool fence_core_may_pet(const struct fence_core *core,
                        uint64_t timeout_ns,
                        uint64_t now_ns);
/* When one that was last fed at fed_ns is to be fed again: five times within its timeout,
 * and just before the last moment at which it may be. Else it could bite between the
 * moment at which VMs are killed and their end, on a host that did all it had promised.
 */
uint64_t fence_core_next_pet_ns(const struct fence_core *core,
                                uint64_t timeout_ns,
                                uint64_t fed_ns);
/* Is that watchdog quick enough to bite by L(1-d), with some room for late renewals? */
bool fence_core_watchdog_in_time(const struct fence_core *core, uint64_t timeout_ns);
