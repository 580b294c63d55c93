/* After the faults: everything that clients were promised has to become true, and be said
 * so, within a bound.
 *
 * Shapes: chaos_settle writes, ends writers, readers and users, waits until every host is
 * ready and every VM is as its user wants it, writes each register once more and waits
 * until all watches have seen that. It prints how long each took. Errors: one line each,
 * beginning with FAULT; false.
 */
#pragma once

#include "chaos_load.h"

/* clients: CHAOS_CLIENTS of them, the last one without a thread; the first `workers` end
 * when `over` says so, those up to the last one when `settled` does. */
bool chaos_settle(struct chaos_load *load,
                  struct chaos_client *clients,
                  unsigned workers,
                  unsigned bound_s);
