#include "cli/disks_lost.h"

#include "base/plural.h"
#include "cli/kind_view.h"

#include <string.h>

const char *disks_lost_host(const json_t *vm)
{
    const char *phase = view_phase(vm, KIND_VM);
    const char *keeper = json_member_text(view_status(vm), "diskHost", "");
    bool there = strcmp(phase, "stopping") == 0 || strcmp(phase, "lost") == 0;
    const char *host = json_member_text(view_status(vm), "host", "");
    if (host[0] != '\0' && !there) {
        return ""; /* it runs, or begins from a snapshot: nothing is given up */
    }
    return keeper[0] == '\0' ? host : keeper;
}

static void tell(struct cli *cli, const json_t *vms, bool doubt)
{
    size_t index;
    json_t *vm;
    json_array_foreach(vms, index, vm)
    {
        if (index == DISKS_LOST_SHOWN) {
            size_t more = json_array_size(vms) - index;
            fprintf(cli->err, "  and %zu more VM%s\n", more, plural_s(more));
            break;
        }
        /* With the tenant, also when -t says it: this is the last look. */
        fprintf(cli->err, "  %s/vm/%s is %s, %s %s\n", view_tenant(vm), view_name(vm),
                view_phase(vm, KIND_VM),
                doubt ? "it may still run on" : "its disks are on",
                doubt ? json_member_text(view_status(vm), "host", "its host")
                      : disks_lost_host(vm));
    }
}

void disks_lost_tell(struct cli *cli, const json_t *vms)
{
    tell(cli, vms, false);
}

void disks_lost_tell_doubt(struct cli *cli, const json_t *vms)
{
    tell(cli, vms, true);
}
