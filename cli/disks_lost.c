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

void disks_lost_tell(struct cli *cli, const json_t *vms)
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
        fprintf(cli->err, "  %s/vm/%s is %s, its disks are on %s\n", view_tenant(vm),
                view_name(vm), view_phase(vm, KIND_VM), disks_lost_host(vm));
    }
}
