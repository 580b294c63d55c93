/* Waiting until what was asked for is so: --wait.
 *
 * Shapes: a list of groups and VMs; a group is there when it has as many VMs as it wants
 * and all are ready. Each VM's boot is printed as it becomes ready; what holds one up is
 * told when it changes. At the time-out: which step, since when, the last console line,
 * the next command. Threads: one. Limits: WAITING_SUBJECTS_MAX.
 */
#pragma once

#include "cli/cli.h"
#include "cli/object_name.h"

#define WAITING_SUBJECTS_MAX 1000 /* as many objects as a file holds */
#define WAITING_DEFAULT_MS   UINT64_C(300000)

struct waiting_subject {
    struct object_name name; /* a group or a VM */
    char was_starting[32];   /* restart: the startingAt that is over; else "" */
};

/* EXIT_OK when all are ready, EXIT_TIMED_OUT, EXIT_CAPACITY when nothing but a quota
 * keeps VMs from being made and nothing is on its way out that would free it, or a
 * fault's code (said). */
int waiting_run(struct cli *cli,
                const struct waiting_subject *subjects,
                unsigned count,
                uint64_t timeout_ms);
/* --timeout, then waiting_run. */
int waiting_run_flags(struct cli *cli,
                      const struct waiting_subject *subjects,
                      unsigned count);

/* Whether a group's document and its VMs are what it wants; *ret_ready counts. */
bool waiting_group_done(const json_t *group,
                        const json_t *vms,
                        uint64_t *ret_ready,
                        uint64_t *ret_wanted);
/* Last line of a console's text that says something, control characters left out. */
void waiting_last_line(const char *text, char *ret_line, size_t capacity);
/* A line on the terminal that is written over; nothing elsewhere. */
void progress_show(struct cli *cli, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void progress_clear(struct cli *cli);
void pause_ms(uint64_t ms);
