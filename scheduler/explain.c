/* The answer to "why": per host verdict, reason and nearest fix. See scheduler.h. */
#include "base/parse_number.h"
#include "scheduler/step.h"

#include <stdio.h>
#include <string.h>

static json_t *host_row(const struct host *host,
                        const char *verdict,
                        const char *reason,
                        const char *fix)
{
    return json_pack("{s:s, s:s, s:s, s:s}", "host", host->meta.name, "verdict", verdict,
                     "reason", reason, "fix", fix);
}

/* Rows for all hosts; here (uid or 0) is where it is. *ret_fits counts hosts that would
 * take it. */
static json_t *host_rows(const struct placement *placement,
                         const struct overlay *overlay,
                         uint64_t here,
                         uint32_t *ret_fits)
{
    json_t *rows = json_array();
    int64_t best = placement_best(placement, overlay);
    *ret_fits = 0;
    for (uint32_t i = 0; i < overlay->count; i++) {
        char reason[PLACE_TEXT_SIZE] = "";
        char fix[PLACE_TEXT_SIZE] = "";
        const struct host *host = overlay->hosts[i];
        if (host->meta.uid == here) {
            json_array_append_new(rows, host_row(host, "here", "it is there", ""));
        } else if (placement_fits(placement, overlay, i, reason, fix)) {
            (*ret_fits)++;
            json_array_append_new(
                rows, host_row(host, "fits",
                               i == best ? "best place for the next one" : "", ""));
        } else {
            json_array_append_new(rows, host_row(host, "no", reason, fix));
        }
    }
    return rows;
}

static void need_text(const struct machine_spec *machine, char *text, size_t size)
{
    char memory[NUMBER_TEXT_SIZE];
    format_bytes_human(machine->memory.size_bytes, memory);
    (void)snprintf(text, size, "cpu %u, memory %s", machine->cpu.count, memory);
}

static json_t *answer(const char *subject,
                      const char *summary,
                      const struct state *state,
                      const struct machine_spec *machine,
                      const struct group *group,
                      uint64_t here,
                      json_t *autoscale)
{
    struct overlay overlay;
    struct placement placement = {0};
    json_t *rows = NULL;
    uint32_t fits = 0;
    overlay_init(&overlay);
    if (overlay_sync(&overlay, state) == 0 &&
        placement_init(&placement, &overlay, state, machine, group) == 0) {
        rows = host_rows(&placement, &overlay, here, &fits);
    }
    placement_fini(&placement);
    overlay_fini(&overlay);
    json_t *document =
        json_pack("{s:s, s:s, s:I, s:o*, s:o*, s:I}", "subject", subject, "summary",
                  summary, "fits", (json_int_t)fits, "hosts", rows, "autoscale",
                  autoscale, "revision", (json_int_t)state_revision(state));
    return document;
}

static const char *or_empty(const char *text)
{
    return text != NULL ? text : "";
}

json_t *scheduler_explain_vm(const struct scheduler *scheduler,
                             const struct state *state,
                             const struct vm *vm,
                             uint64_t now_ns)
{
    char subject[2 * NAME_SIZE];
    char summary[512];
    char need[96];
    const struct group *group =
        vm->spec.group[0] != '\0'
            ? state_get(state, KIND_GROUP, vm->meta.tenant, vm->spec.group)
            : NULL;
    const struct host *host =
        vm->status.host != 0 ? state_host(state, vm->status.host) : NULL;
    (void)scheduler; /* answers from the log alone */
    (void)now_ns;
    need_text(&vm->spec.machine, need, sizeof(need));
    (void)snprintf(subject, sizeof(subject), "vm/%s", vm->meta.name);
    if (host != NULL) {
        (void)snprintf(
            summary, sizeof(summary), "%s is %s on %s (epoch %llu): %.200s. It needs %s.",
            vm->meta.name, phase_names[vm->status.phase], host->meta.name,
            (unsigned long long)vm->status.epoch, or_empty(vm->status.reason), need);
    } else {
        (void)snprintf(summary, sizeof(summary), "%s is %s: %.200s. It needs %s.",
                       vm->meta.name, phase_names[vm->status.phase],
                       or_empty(vm->status.reason), need);
    }
    return answer(subject, summary, state, &vm->spec.machine, group, vm->status.host,
                  NULL);
}

static json_t *autoscale_part(const struct scheduler *scheduler,
                              const struct state *state,
                              const struct group *group,
                              uint64_t now_ns)
{
    struct autoscale_view view;
    if (group->spec.autoscale.max == 0) {
        return NULL;
    }
    scheduler_look(scheduler, state, group, now_ns, &view);
    return json_pack("{s:I, s:I, s:I, s:I, s:i, s:I, s:I, s:s}", "min",
                     (json_int_t)group->spec.autoscale.min, "max",
                     (json_int_t)group->spec.autoscale.max, "desired",
                     (json_int_t)group->status.desired, "wish", (json_int_t)view.wish,
                     "cpuPermille", view.mean_permille, "targetPermille",
                     (json_int_t)view.target_permille, "measuredVms",
                     (json_int_t)view.ready, "lastReason",
                     or_empty(group->status.scale_reason));
}

json_t *scheduler_explain_group(const struct scheduler *scheduler,
                                const struct state *state,
                                const struct group *group,
                                uint64_t now_ns)
{
    char subject[2 * NAME_SIZE];
    char summary[512];
    char need[96];
    const struct template *template = state_get(state, KIND_TEMPLATE, group->meta.tenant,
                                                group->spec.template_ref.name);
    uint32_t placed = 0;
    uint32_t ready = 0;
    size_t cursor = 0;
    const struct vm *vm;
    while ((vm = state_vm_of_group(state, group, &cursor)) != NULL) {
        placed += vm_phase_on_host(vm->status.phase) ? 1U : 0U;
        ready += vm->status.phase == PHASE_READY ? 1U : 0U;
    }
    if (template == NULL) {
        return json_pack("{s:s, s:s}", "subject", group->meta.name, "summary",
                         "its template is not there");
    }
    need_text(&template->spec, need, sizeof(need));
    (void)snprintf(subject, sizeof(subject), "group/%s", group->meta.name);
    if (placed < group->status.desired) {
        uint32_t more = group->status.desired - placed;
        (void)snprintf(summary, sizeof(summary),
                       "%s needs %u more VM%s (%u of %u placed): %s.", group->meta.name,
                       more, more == 1 ? "" : "s", placed, group->status.desired, need);
    } else {
        (void)snprintf(summary, sizeof(summary),
                       "%s has all its VMs (%u of %u placed, %u ready); each needs %s.",
                       group->meta.name, placed, group->status.desired, ready, need);
    }
    return answer(subject, summary, state, &template->spec, group, 0,
                  autoscale_part(scheduler, state, group, now_ns));
}

json_t *scheduler_forecast(const struct scheduler *scheduler,
                           const struct state *state,
                           const char *tenant,
                           const char *group_name,
                           const struct machine_spec *machine,
                           uint32_t count,
                           uint64_t now_ns)
{
    struct overlay overlay;
    struct placement placement = {0};
    const struct group *group =
        group_name != NULL ? state_get(state, KIND_GROUP, tenant, group_name) : NULL;
    json_t *placed = json_array();
    json_t *rows = NULL;
    uint32_t done = 0;
    uint32_t fits = 0;
    (void)scheduler; /* answers from the log alone */
    (void)now_ns;
    overlay_init(&overlay);
    if (overlay_sync(&overlay, state) == 0 &&
        placement_init(&placement, &overlay, state, machine, group) == 0) {
        int64_t best;
        while (done < count && (best = placement_best(&placement, &overlay)) >= 0 &&
               overlay_take(&overlay, (uint32_t)best, machine, 0) == 0) {
            placement_took(&placement, (uint32_t)best);
            json_array_append_new(
                placed, json_pack("{s:s}", "host", overlay.hosts[best]->meta.name));
            done++;
        }
        rows = host_rows(&placement, &overlay, 0, &fits);
    }
    placement_fini(&placement);
    overlay_fini(&overlay);
    return json_pack("{s:o, s:I, s:o*}", "placed", placed, "unplaced",
                     (json_int_t)(count - done), "hosts", rows);
}
