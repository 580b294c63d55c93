/* What a put and a delete of a kind of object mean, a rule per kind.
 *
 * Shapes: struct object_rule, in which `old` is what is there, or NULL; VMs and hosts,
 * which are written and removed by other rows, have an empty one. Errors: check and
 * in_use give 0 or a refusal with its text (apply_refuse) and change nothing; settle
 * and spread cannot fail. Refusals name the user with the lowest uid, so that every
 * replica says the same.
 */
#pragma once

#include "model/state_internal.h"

#define OBJECT_WHAT_SIZE 160 /* "template NAME of tenant NAME" */

struct object_rule {
    bool putable; /* the others are written by commands of their own */
    /* Refuses what one object alone cannot show. */
    int (*check)(struct apply *apply, const struct entry *old, const void *object);
    /* Writes the status of the new object, whose status is that of the old (or fresh). */
    void (*settle)(struct apply *apply, const struct entry *old, void *object);
    /* What its change means for others; NULL: nothing. */
    void (*spread)(struct apply *apply, const struct entry *entry);
    /* Refuses a delete while somebody needs it. */
    int (*in_use)(struct apply *apply, const struct entry *entry);
    /* What it counts for in its tenant's quota. */
    struct usage (*usage)(const void *object);
};

const struct object_rule *object_rule(enum kind kind);

/* "template web of tenant shop"; the value is text. */
const char *object_what(enum kind kind,
                        const char *tenant,
                        const char *name,
                        char text[OBJECT_WHAT_SIZE]);
const char *entry_what(const struct entry *entry, char text[OBJECT_WHAT_SIZE]);
/* The kind must have a spec. */
bool object_spec_equal(enum kind kind, const void *a, const void *b);
