/* Asks a VM's program what it has counted, again and again, one question at a time.
 *
 *     idle --ask--> first question -> answer -> next ... -> idle
 *
 * Shapes: `struct qmp_stats`, one for a run; `numbers` is to be read,
 * `timeout_ms` and `skips_next` (1) to be set, the rest is private. Which questions there
 * are is a table in the source. Threads: the loop's. A round that has not ended lets no
 * other one begin, and a program that has not answered in its time (`timeout_ms`) is left
 * alone for the next rounds, each time for twice as many; nothing else happens to it for
 * that. Ownership: the client is borrowed; it is to be closed before this memory goes.
 * Errors: none; what is not answered is not told. Limits: QMP_STATS_*; an answer those of
 * qmp_client.h.
 */
#pragma once

#include "agent/qmp_client.h"
#include "agent/vm_stats.h"

#define QMP_STATS_EVERY_MS   10000u
#define QMP_STATS_TIMEOUT_MS 60000u
#define QMP_STATS_SKIPS_MAX  63u /* rounds: ten minutes */
/* A start is over then, or takes so long that its last phases are no news; those before
 * do not change. */
#define QMP_STATS_BOOT_ROUNDS 6u

struct qmp_stats {
    struct vm_stats numbers;
    uint64_t timeout_ms;
    struct qmp_client *client; /* while it is asked */
    bool ours;
    bool asking;
    uint64_t begun_ms;
    unsigned question;
    unsigned rounds; /* that came to an end */
    unsigned skips;  /* rounds to come that are left out */
    unsigned skips_next;
};

/* A round begins, if none is under way. ours: the program is berth-vmm, which knows more
 * questions. now_ms: of any clock; numbers.told_ms is by it. */
void qmp_stats_ask(struct qmp_stats *stats,
                   struct qmp_client *client,
                   bool ours,
                   uint64_t now_ms);
