/* CPU use of VMs over time, for autoscaling: what heartbeats said, in buckets.
 *
 * Shapes: per VM a ring of LOAD_BUCKETS one-second means and one of one-minute means, and
 * an exact sum for the second and minute that run; so any window up to an hour costs the
 * same memory. What a VM burns until it is ready is its start, not its work: the rings
 * begin anew when it becomes ready, and it is warm once it has been so for a window.
 * Windows up to a minute are made of seconds, longer ones of minutes; the slots at both
 * ends count for the part of them that lies in the window. Units: permille, monotonic ns.
 * Threads: one. Errors: -ENOMEM drops a sample. Limits: STATE_VMS_MAX VMs, 320 bytes
 * each.
 */
#pragma once

#include "model/state.h"

#include <stdbool.h>
#include <stdint.h>

#define LOAD_BUCKETS       60
#define LOAD_WINDOW_MAX_NS (UINT64_C(3600) * 1000000000) /* longer ones are cut to it */
#define LOAD_WARM_MAX_NS   (UINT64_C(30) * 1000000000)   /* long enough for any window */

struct load_table;

struct load_table *load_table_new(void);
struct load_table *load_table_free(struct load_table *table);
/* ready: the VM was so when the sample was taken. The first ready one ends the start and
 * counts for it. */
void load_table_add(struct load_table *table,
                    uint64_t vm,
                    uint32_t permille,
                    bool ready,
                    uint64_t now_ns);
/* Mean over the window that ends now, or -1 without a sample in it. */
int load_table_mean(const struct load_table *table,
                    uint64_t vm,
                    uint64_t window_ns,
                    uint64_t now_ns);
/* Whether it has been ready for the window (LOAD_WARM_MAX_NS at most), so that its mean
 * is one of work. */
bool load_table_warm(const struct load_table *table,
                     uint64_t vm,
                     uint64_t window_ns,
                     uint64_t now_ns);
/* Forgets VMs that the state does not know any more. */
void load_table_prune(struct load_table *table, const struct state *state);
