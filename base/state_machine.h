/* State machines that cannot be entered wrongly: a table of allowed moves, an invariant,
 * one log line per move.
 *
 * Shapes: `struct state_machine_type` is a static table (one row per state: name, set of
 * allowed next states as a bit mask, flags); `struct state_machine` is embedded in the
 * object. A move that the table does not allow is our own mistake and aborts; where the
 * wish comes from outside ask state_machine_allows first. Threads: the owner's. Limits:
 * STATE_COUNT_MAX states.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define STATE_COUNT_MAX  32
#define STATE_BIT(state) (UINT32_C(1) << (state))

enum { STATE_INITIAL = 1, STATE_FINAL = 2 };

struct state_row {
    const char *name;
    uint32_t next; /* STATE_BIT of each allowed next state */
    uint32_t flags;
};

struct state_machine_type {
    const char *name; /* "vm", "mesh peer" */
    const struct state_row *rows;
    unsigned count;
    /* Must hold after each move (may be NULL): false aborts. */
    bool (*invariant)(const void *object, unsigned state);
};

struct state_machine {
    const struct state_machine_type *type;
    const void *object; /* for the invariant; borrowed */
    unsigned state;
};

/* Starts in `state`, which must be flagged STATE_INITIAL. */
void state_machine_init(struct state_machine *machine,
                        const struct state_machine_type *type,
                        const void *object,
                        unsigned state);
bool state_machine_allows(const struct state_machine *machine, unsigned next);
/* Moves; logs (debug level) object name, from, to and reason (may be NULL). */
void state_machine_move(struct state_machine *machine,
                        unsigned next,
                        const char *object_name,
                        const char *reason);
const char *state_machine_name(const struct state_machine *machine);
/* Table check for tests: every state reachable from an initial one, finals have no next.
 */
bool state_machine_type_sound(const struct state_machine_type *type);
