#include "base/state_machine.h"

#include "base/log.h"
#include "base/require.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

static const struct state_row *row_of(const struct state_machine *machine)
{
    return &machine->type->rows[machine->state];
}

static void check_invariant(const struct state_machine *machine)
{
    bool (*invariant)(const void *object, unsigned state) = machine->type->invariant;
    REQUIRE(invariant == NULL || invariant(machine->object, machine->state));
}

void state_machine_init(struct state_machine *machine,
                        const struct state_machine_type *type,
                        const void *object,
                        unsigned state)
{
    REQUIRE(type->count <= STATE_COUNT_MAX);
    REQUIRE(state < type->count);
    REQUIRE((type->rows[state].flags & STATE_INITIAL) != 0);
    *machine = (struct state_machine){.type = type, .object = object, .state = state};
}

bool state_machine_allows(const struct state_machine *machine, unsigned next)
{
    return next < machine->type->count && (row_of(machine)->next & STATE_BIT(next)) != 0;
}

void state_machine_move(struct state_machine *machine,
                        unsigned next,
                        const char *object_name,
                        const char *reason)
{
    const char *from = row_of(machine)->name;
    const char *to = next < machine->type->count ? machine->type->rows[next].name : "?";
    if (!state_machine_allows(machine, next)) {
        fprintf(stderr, "%s %s: no move from %s to %s is allowed (%s)\n",
                machine->type->name, object_name != NULL ? object_name : "-", from, to,
                reason != NULL ? reason : "no reason given");
        abort();
    }
    machine->state = next;
    log_debug("base", "state moved", KV_STR("type", machine->type->name),
              KV_STR("object", object_name), KV_STR("from", from), KV_STR("to", to),
              KV_STR("reason", reason));
    check_invariant(machine);
}

const char *state_machine_name(const struct state_machine *machine)
{
    return row_of(machine)->name;
}

static bool row_sound(const struct state_machine_type *type, const struct state_row *row)
{
    uint64_t known = (UINT64_C(1) << type->count) - 1;
    bool is_final = (row->flags & STATE_FINAL) != 0;
    return row->name != NULL && (row->next & ~known) == 0 &&
           !(is_final && row->next != 0);
}

bool state_machine_type_sound(const struct state_machine_type *type)
{
    if (type->count == 0 || type->count > STATE_COUNT_MAX) {
        return false;
    }
    uint32_t reached = 0;
    for (unsigned i = 0; i < type->count; i++) {
        if (!row_sound(type, &type->rows[i])) {
            return false;
        }
        if ((type->rows[i].flags & STATE_INITIAL) != 0) {
            reached |= STATE_BIT(i);
        }
    }
    /* Each round reaches at least one more state, or none is left to reach. */
    for (unsigned round = 0; round < type->count; round++) {
        for (unsigned i = 0; i < type->count; i++) {
            if ((reached & STATE_BIT(i)) != 0) {
                reached |= type->rows[i].next;
            }
        }
    }
    return reached == (uint32_t)((UINT64_C(1) << type->count) - 1);
}
