#include "model/level.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>

/* No other file sees these: what the next release changes is built from few files. */
#define LEVEL_MIN 1 /* the oldest state that this release takes part in */
#define LEVEL_MAX (4 LEVEL_NEXT(+1))
/* X(level, what it brought): every level there is, in order. */
#define LEVELS(X)                                                                     \
    X(1, "the first")                                                                 \
    X(2, "each client has a share of remembered requests; "                           \
         "labels of a VM and of a host that is there change; "                        \
         "a lost VM switched off and on restarts; "                                   \
         "rate limits of disks and NICs")                                             \
    X(3, "VMs are paused, saved in snapshots and restored; "                          \
         "a VM that waits for its host starts nowhere else "                          \
         "by itself after a restore or a recovery")                                   \
    X(4, "baselines of CPUs, CPUs that come while a VM runs, huge pages, disks that " \
         "are only read, "                                                            \
         "restores that run at once")                                                 \
    LEVEL_NEXT(X(5, "a tenant's quota of images"))

_Static_assert(LEVEL_FIRST <= LEVEL_MIN && LEVEL_MIN <= LEVEL_MAX, "a range");
_Static_assert(LEVEL_MAX <= LEVEL_LIMIT, "fits a command's header");

static const char *const docs[LEVEL_MAX + 1] = {
#define LEVEL_ROW(level, doc) [level] = (doc),
    LEVELS(LEVEL_ROW)
#undef LEVEL_ROW
};

struct level_range level_range_up_to(uint32_t max)
{
    const struct level_range all = {LEVEL_MIN, LEVEL_MAX};
    return (struct level_range){all.min, max != 0 && max < all.max ? max : all.max};
}

void level_refusal(struct level_range range, uint32_t level, char ret_text[256])
{
    const char *way_out = "install the release that the other hosts run (berth host ls "
                          "-o wide), or a later one, and start it without a --level-max "
                          "below that; a level is never lowered";
    const char *side = "up to";
    uint32_t end = range.max;
    if (level < range.min) {
        way_out = "install the release before it on all hosts, let it raise the level "
                  "(berth version), then this one";
        side = "from";
        end = range.min;
    }
    (void)snprintf(ret_text, 256,
                   "the cluster is at level %" PRIu32
                   ", this berthd takes part %s level %" PRIu32 ": %s",
                   level, side, end, way_out);
}

const char *level_doc(uint32_t level)
{
    return level <= LEVEL_MAX ? docs[level] : NULL;
}
