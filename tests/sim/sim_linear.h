/* Is a history linearizable? The search of Wing and Gong, with Lowe's memory of where it
 * has been. Pure.
 *
 * Shapes: a history is what clients did to one object, whose state is one number. An
 * operation says when it was called and when its answer came, which number it needs to
 * find, if any, and which it leaves behind, if any: a read needs what it has read, a
 * write leaves its own, a compare-and-set does both. One whose outcome is not known never
 * returned: it may have taken effect at any time after its call, or not at all. The
 * history is linearizable when each operation can be given an instant between call and
 * answer so that all of them are right one after the other. Units: any clock, alike for
 * all. Limits: LINEAR_STEPS_MAX steps, then it stays undecided. Threads: none of its own.
 * Errors: out of memory aborts.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define LINEAR_NEVER     UINT64_MAX /* returned */
#define LINEAR_ANY       UINT64_MAX /* needs nothing */
#define LINEAR_KEEP      UINT64_MAX /* leaves what it finds */
#define LINEAR_STEPS_MAX 2000000

struct linear_op {
    uint64_t called;
    uint64_t returned;
    uint64_t needs;
    uint64_t leaves;
};

enum linear { LINEAR_YES = 0, LINEAR_NO, LINEAR_UNDECIDED };

/* ret_stuck, unless NULL: when NO, the operation that nothing explains. */
enum linear linear_check(const struct linear_op *ops,
                         size_t count,
                         uint64_t initial,
                         size_t *ret_stuck);
