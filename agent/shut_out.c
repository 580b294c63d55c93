#include "agent/shut_out.h"

#include "base/log.h"
#include "base/loop.h"

#include <stdlib.h>

struct shut_out {
    const struct link *link;
    struct loop_timer *timer;
    bool said;
};

static void look(void *context)
{
    struct shut_out *shut_out = context;
    const struct msg_member *by = link_shut_out_by(shut_out->link);
    if (by != NULL && !shut_out->said) {
        log_warn("berthd",
                 "the cluster turns this host away, and VMs that may be restarted "
                 "elsewhere do not run here",
                 KV_STR("by", by->name),
                 KV_STR("todo", "if `berth ls host` on a member does not list this host, "
                                "it was removed: `berth down --forget` here ends its VMs "
                                "and their disks; then `berth join TOKEN`"));
    } else if (by == NULL && shut_out->said) {
        log_info("berthd", "the cluster turns this host away no more");
    }
    shut_out->said = by != NULL;
}

struct shut_out *shut_out_new(uv_loop_t *loop, const struct link *link)
{
    struct shut_out *shut_out = calloc(1, sizeof(*shut_out));
    if (shut_out == NULL) {
        return NULL;
    }
    shut_out->link = link;
    shut_out->timer =
        loop_timer_new(loop, SHUT_OUT_LOOK_MS, SHUT_OUT_LOOK_MS, look, shut_out);
    return shut_out->timer != NULL ? shut_out : shut_out_close(shut_out);
}

struct shut_out *shut_out_close(struct shut_out *shut_out)
{
    if (shut_out != NULL) {
        shut_out->timer = loop_timer_close(shut_out->timer);
    }
    free(shut_out);
    return NULL;
}
