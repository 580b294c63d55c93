/* The engine of last resort: a VM process that no engine here speaks to is still watched,
 * frozen and killed.
 *
 * For a VM whose engine is not on this host any more, that could not be taken over yet,
 * or whose record is damaged, so that its process is not even known by name. It only
 * adopts: what runs is found by agent/vm_remains.h, and `exited` follows once nothing is
 * left. Where that cannot be told, it has not exited. It is `unwritten` when it was
 * killed after it had been told to end; what its program says of its disks nobody here
 * hears, so an end by itself says nothing of them. Errors: cont, pause, sample and
 * console are BERTH_EUNSUPPORTED; start is.
 */
#pragma once

#include "agent/engine.h"

#define ENGINE_REMAINS_KILL_MS 50 /* between two kills, until nothing is left */
#define ENGINE_REMAINS_LOOK_MS 1000

extern const struct engine_ops engine_remains;
