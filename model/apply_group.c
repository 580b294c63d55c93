#include "base/require.h"
#include "model/state_internal.h"

#include <inttypes.h>
#include <stdio.h>

static int
scale_check(struct apply *apply, const struct cmd_group_scale *scale, struct entry *group)
{
    if (group == NULL) {
        return apply_refuse(apply, BERTH_ENOTFOUND,
                            "group %s of tenant %s does not exist", scale->group,
                            scale->tenant);
    }
    if (group_of(group)->status.deleting) {
        return apply_refuse(apply, BERTH_EPHASE, "group %s is being deleted",
                            scale->group);
    }
    const struct autoscale *autoscale = &group_of(group)->spec.autoscale;
    if (autoscale->max == 0) {
        return 0;
    }
    if (scale->by_user) {
        return apply_refuse(apply, BERTH_EINVALID,
                            "group %s scales by load: change its autoscale.min and max",
                            scale->group);
    }
    if (scale->desired < autoscale->min || scale->desired > autoscale->max) {
        return apply_refuse(apply, BERTH_EINVALID,
                            "group %s scales between %" PRIu32 " and %" PRIu32
                            " VMs, not to %" PRIu32,
                            scale->group, autoscale->min, autoscale->max, scale->desired);
    }
    return 0;
}

int apply_group_scale(struct apply *apply, const struct command *command)
{
    const struct cmd_group_scale *scale = &command->body.group_scale;
    struct entry *entry =
        state_entry_named(apply->state, KIND_GROUP, scale->tenant, scale->group);
    int r = scale_check(apply, scale, entry);
    if (r != 0) {
        return r;
    }
    struct group *group = group_of(entry);
    apply->result->uid = group->meta.uid;
    bool spec_moves = scale->by_user && group->spec.replicas != scale->desired;
    if (group->status.desired == scale->desired && !spec_moves) {
        return 0;
    }
    char reason[256];
    (void)snprintf(reason, sizeof(reason), "%" PRIu32 " to %" PRIu32 " VMs%s%.200s",
                   group->status.desired, scale->desired,
                   scale->reason != NULL ? ": " : "",
                   scale->reason != NULL ? scale->reason : "");
    if (scale->by_user) {
        group->spec.replicas = scale->desired;
    }
    group->status.desired = scale->desired;
    group->status.scaled_wall_ms = command->wall_ms;
    r = record_set_text(&group->status.scale_reason, scale->reason);
    REQUIRE(r == 0);
    apply_changed(apply, entry,
                  &(struct change_note){.verb = "scaled", .reason = reason});
    return 0;
}
