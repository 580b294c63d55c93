/* The checks of a run under faults: pure, over what clients and VMs wrote down.
 *
 * History: the state changes in one order, and every change of an object has a revision
 * of its own. So all that anybody was told of (revision, object) has to agree, and that
 * is the witness of the order; then
 *   - a write that was acknowledged is in it once, at its revision; one that was refused
 * is not; one of unknown outcome is there once or not at all;
 *   - what began after something had ended has the higher revision (per object), and a
 * read shows what the witness has for the state it names, which holds all that was
 *     acknowledged before the read began;
 *   - a watch was told everything of its span once and in order, a listing is the state
 * of its place. Intervals: lines "start|beat|stop UID EPOCH PID NS" of VM processes. No
 * two of one VM overlap, epochs rise, no epoch is started twice. Threads: one. Errors:
 * each fault is a line on the report's stream.
 */
#pragma once

#include "chaos_history.h"

#define CHAOS_REPORT_MAX 40 /* lines; the rest is counted */

struct chaos_report {
    FILE *stream;
    unsigned faults;
};

/* Sorts the records. */
void history_check(struct history *history, struct chaos_report *report);

/* One run of a VM. */
struct vm_run {
    uint64_t uid;
    uint64_t epoch;
    int pid;
    char host[32];
    int64_t first_ns;
    int64_t last_ns;
};

struct vm_runs {
    struct vm_run *runs;
    size_t count;
    size_t beats;
    size_t broken; /* lines that are none, though others follow */
};

/* Adds what a host's VMs wrote; offset_ns is taken from their clocks. A file that is not
 * there has no lines. */
void vm_runs_read(struct vm_runs *runs,
                  const char *path,
                  const char *host,
                  int64_t offset_ns);
/* Sorts the runs. */
void vm_runs_check(struct vm_runs *runs, struct chaos_report *report);
void vm_runs_fini(struct vm_runs *runs);

/* Whether there was something to check: before the checks, which drop records. */
void chaos_check_matter(const struct history *history,
                        const struct vm_runs *runs,
                        struct chaos_report *report);
