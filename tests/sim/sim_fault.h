/* The faults of a run: a list made from the seed, applied at their times, some ending by
 * themselves, all of them ended when the run heals.
 *
 * Shapes: a fault is a kind, when, for how long, one or two machines and a number whose
 * meaning depends on the kind. Leaving some out (a mask) gives a smaller run: this is how
 * a failing one is shrunk. Units: milliseconds of true time. Threads: the world's.
 */
#pragma once

#include "sim.h"

#define SIM_FAULTS_MAX SIM_BOOKED_MAX

enum sim_fault_kind {
    FAULT_KILL = 0,
    FAULT_POWER,
    FAULT_PAUSE,
    FAULT_CUT_ONE_WAY,
    FAULT_CUT,
    FAULT_ISOLATE,
    FAULT_DEAF, /* hears nobody, is heard by all */
    FAULT_SPLIT,
    FAULT_DROP,
    FAULT_TWICE,
    FAULT_REORDER,
    FAULT_SLOW_NET,
    FAULT_SLOW_DISK,
    FAULT_DIE_AT_WRITE,
    FAULT_DISK_ERROR,
    FAULT_DISK_FULL,
    FAULT_FLIP,
    FAULT_LOSE_TAIL,
    FAULT_WALL_JUMP,
    FAULT_TRANSFER,
    FAULT_MUTE,    /* hears all, is heard by nobody */
    FAULT_HOLD,    /* what is sent arrives, but only at the end: as TCP does it */
    FAULT_UNREADY, /* images are not there: what is ordered waits */
    FAULT_USUAL_COUNT,
    /* only where members change, and in their stories */
    FAULT_GONE = FAULT_USUAL_COUNT, /* the machine, for good */
    FAULT_LOG_GONE,                 /* its log's folder alone */
    FAULT_JOIN,                     /* a machine that was bought is switched on */
    FAULT_ORPHAN,    /* alone, and off as soon as its disk has what nobody else has */
    FAULT_LAST_WORD, /* off as soon as all others know what their slow disks have not */
    FAULT_KIND_COUNT
};

/* FAULT_HOLD's number says on which ways. */
enum sim_hold {
    HOLD_FROM = 0, /* from b to a */
    HOLD_IN,       /* all that goes to a */
    HOLD_OUT,      /* all that comes from it */
    HOLD_BOTH,
    HOLD_COUNT
};

struct sim_fault {
    enum sim_fault_kind kind;
    uint64_t at_ms;
    uint64_t for_ms;
    unsigned a;     /* machine; SIM_MACHINES_MAX: who leads then; one more: see below */
    unsigned b;     /* likewise */
    unsigned spare; /* in place of a leader, when nobody leads */
    uint64_t number;
    bool at_change; /* not before members change; `a` may be the one that does */
};

#define FAULT_OF_CHANGED (SIM_MACHINES_MAX + 1)

struct sim_fault_list {
    struct sim_fault items[SIM_FAULTS_MAX];
    unsigned count;
};

/* The list that this configuration's seed stands for (sim_schedule.c). */
void sim_faults_make(const struct sim_config *config, struct sim_fault_list *ret_list);
/* Books all faults whose bit is set in the mask. The list must live as long as the run.
 */
void sim_faults_book(struct sim *sim, const struct sim_fault_list *list, uint64_t mask);
/* A leader has changed that machine's role, perhaps its vote: what waits for that begins
 * soon. */
void sim_faults_changing(struct sim *sim, unsigned machine, bool votes);
/* A way back to a snapshot begins there: in some seeds nobody hears of the run that
 * comes of it before it has ended. */
void sim_faults_restoring(struct sim *sim, unsigned machine);
/* Is it one of those seeds, and has that yet to come? */
bool sim_faults_await_restore(const struct sim *sim);
/* Ends all that is still wrong. */
void sim_faults_heal(struct sim *sim);
void sim_fault_print(const struct sim_fault *fault, char *text, size_t size);
const char *sim_fault_name(enum sim_fault_kind kind);
