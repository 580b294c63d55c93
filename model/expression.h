/* Placement rules: a closed expression language over facts of a host.
 *
 *     host.label.zone == "r1"      host.zone in [r1, r2]      host.cpu.cores >= 8
 *     host.kvm == native and not (host.name in [h1, h2])
 *
 * Grammar: or < and < not < comparison; comparison: FACT (==|!=|<|<=|>|>=) VALUE, FACT in
 * [VALUE, ...]. FACT: host.name, host.zone (short for host.label.zone), host.label.KEY,
 * host.kvm, host.engine (matches when the host offers it), host.cpu.cores, host.memory
 * (bytes, values may carry units), host.numa. Shapes: compiled into a flat array of
 * EXPRESSION_STEPS_MAX steps, no recursion at run time; a struct expression is a plain
 * value. Threads: pure. Errors: BERTH_EINVALID with the column and what was expected.
 * Limits: EXPRESSION_TEXT_MAX, EXPRESSION_STEPS_MAX.
 */
#pragma once

#include "base/err.h"
#include "model/objects.h"

#define EXPRESSION_TEXT_MAX  512
#define EXPRESSION_STEPS_MAX 64

struct expression_step {
    uint8_t op; /* private */
    uint8_t fact;
    uint16_t text; /* offset into texts, of a label key or value */
    uint64_t number;
};

struct expression {
    uint32_t step_count;
    struct expression_step steps[EXPRESSION_STEPS_MAX];
    char texts[EXPRESSION_TEXT_MAX];
};

/* The words for facts, as "did you mean" wants them; NULL behind the last one. */
const char *expression_fact(unsigned index);
/* Compiles; *ret_column (may be NULL) is the 1-based column of the fault. */
int expression_compile(const char *text,
                       struct expression *ret_expression,
                       unsigned *ret_column,
                       struct err *err);
/* True when the host meets the rule. A missing label is unequal to everything. */
bool expression_holds(const struct expression *expression, const struct host *host);
/* Is it one label that has to have a value? Then key and value (of a list the first one),
 * inside the expression. */
bool expression_wants_label(const struct expression *expression,
                            const char **ret_key,
                            const char **ret_value);
/* "host.zone in [r1, r2] (is r3)" : why it does not hold, for explain. */
void expression_explain(const struct expression *expression,
                        const char *text,
                        const struct host *host,
                        char *ret_text,
                        size_t capacity);
