/* Bugs on purpose, for tests that must be able to find them.
 *
 * PLANTED(fault) is 0 in every program that is shipped: the compiler drops what stands
 * behind it. Only a test that is built with BERTH_PLANTED_FAULTS has the switch, and
 * switches one fault on to see its campaign turn red.
 */
#pragma once

enum planted_fault {
    PLANTED_NONE = 0,
    PLANTED_QUEUE_SIZE_OPEN, /* the size of a running queue takes any value */
    PLANTED_HEAD_TWICE,      /* a head is taken again while in flight */
    PLANTED_RAM_OFF_BY_ONE,  /* the byte after RAM counts as RAM */
    PLANTED_RANDOM_UNCAPPED, /* an entropy request is as large as it says */
    /* what only a guest in a machine can see */
    PLANTED_BAR_STAYS,    /* where a BAR was it still answers */
    PLANTED_STRING_SHORT, /* of a string instruction the first unit moves alone */
    PLANTED_SLOT_UNASKED, /* a guest lets devices go that nobody asked for */
    PLANTED_COUNT,
};

#ifdef BERTH_PLANTED_FAULTS
extern enum planted_fault planted_fault;
#define PLANTED(fault) (planted_fault == (fault))
#else
#define PLANTED(fault) 0
#endif
