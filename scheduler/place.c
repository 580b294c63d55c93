#include "scheduler/place.h"

#include "base/cleanup.h"
#include "base/parse_number.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct look {
    const struct placement *placement;
    const struct overlay *overlay;
    uint32_t index;
    const struct host *host;
};

/* ---- filters
 * ----------------------------------------------------------------------------------------
 */

static bool up_passes(const struct look *look)
{
    return look->host->status.phase == HOST_PHASE_READY;
}

static void up_tell(const struct look *look, char *reason, char *fix)
{
    const struct host_status *status = &look->host->status;
    (void)snprintf(reason, PLACE_TEXT_SIZE, "host is %s: %.180s",
                   host_phase_names[status->phase],
                   status->reason != NULL ? status->reason : "");
    (void)snprintf(fix, PLACE_TEXT_SIZE, "bring %s back", look->host->meta.name);
}

static bool drain_passes(const struct look *look)
{
    return !look->host->spec.drain;
}

static void drain_tell(const struct look *look, char *reason, char *fix)
{
    const char *why = look->host->spec.drain_reason;
    (void)snprintf(reason, PLACE_TEXT_SIZE, "drained%s%.180s%s",
                   why != NULL ? ": \"" : "", why != NULL ? why : "",
                   why != NULL ? "\"" : "");
    (void)snprintf(fix, PLACE_TEXT_SIZE, "berth undrain %s", look->host->meta.name);
}

/* auto means qemu, which every host with QEMU can run; kvm only counts where KVM is
 * native. */
static bool engine_passes(const struct look *look)
{
    uint32_t engine = look->placement->machine->engine;
    uint32_t offered = look->host->status.engines;
    if (engine == ENGINE_AUTO) {
        return (offered & (ENGINE_BIT(ENGINE_QEMU) | ENGINE_BIT(ENGINE_KVM))) != 0;
    }
    return (offered & ENGINE_BIT(engine)) != 0 &&
           (engine != ENGINE_KVM || look->host->status.kvm == KVM_NATIVE);
}

static void engine_tell(const struct look *look, char *reason, char *fix)
{
    uint32_t engine = look->placement->machine->engine;
    (void)snprintf(reason, PLACE_TEXT_SIZE, "engine: %s is not to be had here (kvm: %s)",
                   engine == ENGINE_AUTO ? "qemu" : engine_names[engine],
                   kvm_kind_names[look->host->status.kvm]);
    (void)snprintf(fix, PLACE_TEXT_SIZE, "install qemu-system-x86 on %s",
                   look->host->meta.name);
}

static uint32_t rule_failing(const struct look *look)
{
    uint32_t i = 0;
    while (i < look->placement->rule_count &&
           expression_holds(&look->placement->rules[i], look->host)) {
        i++;
    }
    return i;
}

static bool rules_pass(const struct look *look)
{
    return rule_failing(look) == look->placement->rule_count;
}

static void rules_tell(const struct look *look, char *reason, char *fix)
{
    uint32_t rule = rule_failing(look);
    const char *text = look->placement->machine->placement.require.items[rule];
    char why[PLACE_TEXT_SIZE - 16];
    expression_explain(&look->placement->rules[rule], text, look->host, why, sizeof(why));
    (void)snprintf(reason, PLACE_TEXT_SIZE, "require: %s", why);
    (void)snprintf(fix, PLACE_TEXT_SIZE, "drop the rule");
}

static bool spread_passes(const struct look *look)
{
    const struct spread_spec *spread = &look->placement->machine->placement.spread;
    return spread->by != SPREAD_HOST || look->placement->group_counts == NULL ||
           look->placement->group_counts[look->index] < spread->max;
}

static void spread_tell(const struct look *look, char *reason, char *fix)
{
    uint32_t count = look->placement->group_counts[look->index];
    (void)snprintf(reason, PLACE_TEXT_SIZE, "spread: %u of the group %s already there",
                   count, count == 1 ? "is" : "are");
    (void)snprintf(fix, PLACE_TEXT_SIZE, "spread.max: %u", count + 1);
}

static bool count_passes(const struct look *look)
{
    return look->overlay->vms[look->index] < PLACE_VMS_PER_HOST_MAX;
}

static void count_tell(const struct look *look, char *reason, char *fix)
{
    (void)snprintf(reason, PLACE_TEXT_SIZE, "vms: %u are there, the most one host takes",
                   look->overlay->vms[look->index]);
    (void)snprintf(fix, PLACE_TEXT_SIZE, "add a host");
}

static bool cpu_passes(const struct look *look)
{
    return look->overlay->free_mcpu[look->index] >=
           (int64_t)look->placement->machine->cpu.count * 1000;
}

static void cpu_tell(const struct look *look, char *reason, char *fix)
{
    int64_t free_mcpu = look->overlay->free_mcpu[look->index];
    int64_t need = (int64_t)look->placement->machine->cpu.count * 1000;
    (void)snprintf(reason, PLACE_TEXT_SIZE, "cpu: %.1f of %u vCPUs free",
                   (double)(free_mcpu < 0 ? 0 : free_mcpu) / 1000.0,
                   look->placement->machine->cpu.count);
    (void)snprintf(fix, PLACE_TEXT_SIZE, "free %.1f vCPUs on %s, or add a host",
                   (double)(need - free_mcpu) / 1000.0, look->host->meta.name);
}

static bool memory_passes(const struct look *look)
{
    return look->overlay->free_bytes[look->index] >=
           (int64_t)look->placement->machine->memory.size_bytes;
}

static void memory_tell(const struct look *look, char *reason, char *fix)
{
    char free_text[NUMBER_TEXT_SIZE];
    char need_text[NUMBER_TEXT_SIZE];
    char missing_text[NUMBER_TEXT_SIZE];
    int64_t free_bytes = look->overlay->free_bytes[look->index];
    uint64_t need = look->placement->machine->memory.size_bytes;
    format_bytes_human(free_bytes > 0 ? (uint64_t)free_bytes : 0, free_text);
    format_bytes_human(need, need_text);
    format_bytes_human((uint64_t)((int64_t)need - free_bytes), missing_text);
    (void)snprintf(reason, PLACE_TEXT_SIZE, "memory: %s free of %s", free_text,
                   need_text);
    (void)snprintf(fix, PLACE_TEXT_SIZE, "free %s on %s, or add a host", missing_text,
                   look->host->meta.name);
}

/* In the order in which people would ask: is it there at all, may it, can it. */
static const struct filter {
    bool (*passes)(const struct look *look);
    void (*tell)(const struct look *look, char *reason, char *fix);
} filters[] = {
    {up_passes, up_tell},         {drain_passes, drain_tell},
    {engine_passes, engine_tell}, {rules_pass, rules_tell},
    {spread_passes, spread_tell}, {count_passes, count_tell},
    {memory_passes, memory_tell}, {cpu_passes, cpu_tell},
};

bool placement_fits(const struct placement *placement,
                    const struct overlay *overlay,
                    uint32_t index,
                    char *ret_reason,
                    char *ret_fix)
{
    char reason[PLACE_TEXT_SIZE];
    char fix[PLACE_TEXT_SIZE];
    const struct look look = {.placement = placement,
                              .overlay = overlay,
                              .index = index,
                              .host = overlay->hosts[index]};
    for (unsigned i = 0; i < ARRAY_COUNT(filters); i++) {
        if (filters[i].passes(&look)) {
            continue;
        }
        if (ret_reason != NULL || ret_fix != NULL) {
            filters[i].tell(&look, ret_reason != NULL ? ret_reason : reason,
                            ret_fix != NULL ? ret_fix : fix);
        }
        return false;
    }
    return true;
}

/* ---- score
 * ------------------------------------------------------------------------------------------
 */

static double remainder_squared(int64_t free_after, int64_t capacity)
{
    double left = capacity > 0 ? (double)free_after / (double)capacity : 0.0;
    return left * left;
}

static double fit_score(const struct placement *placement,
                        const struct overlay *overlay,
                        uint32_t index)
{
    int64_t mcpu = (int64_t)placement->machine->cpu.count * 1000;
    int64_t bytes = (int64_t)placement->machine->memory.size_bytes;
    return remainder_squared(overlay->free_mcpu[index] - mcpu, overlay->cap_mcpu[index]) +
           remainder_squared(overlay->free_bytes[index] - bytes,
                             overlay->cap_bytes[index]);
}

int64_t placement_best(const struct placement *placement, const struct overlay *overlay)
{
    int64_t best = -1;
    uint32_t best_count = 0;
    double best_score = 0.0;
    for (uint32_t i = 0; i < overlay->count; i++) {
        uint32_t count = placement->group_counts != NULL ? placement->group_counts[i] : 0;
        if ((best >= 0 && count > best_count) ||
            !placement_fits(placement, overlay, i, NULL, NULL)) {
            continue;
        }
        double score = fit_score(placement, overlay, i);
        if (best < 0 || count < best_count || score < best_score) {
            best = i;
            best_count = count;
            best_score = score;
        }
    }
    return best;
}

void placement_took(struct placement *placement, uint32_t index)
{
    if (placement->group_counts != NULL) {
        placement->group_counts[index]++;
    }
}

/* ---- life
 * -------------------------------------------------------------------------------------------
 */

int placement_init(struct placement *placement,
                   const struct overlay *overlay,
                   const struct state *state,
                   const struct machine_spec *machine,
                   const struct group *group)
{
    const struct text_list *rules = &machine->placement.require;
    *placement = (struct placement){.machine = machine, .group = group};
    if (rules->count > 0) {
        placement->rules = calloc(rules->count, sizeof(*placement->rules));
        if (placement->rules == NULL) {
            return -ENOMEM;
        }
    }
    for (uint32_t i = 0; i < rules->count; i++) {
        int r = expression_compile(rules->items[i], &placement->rules[i], NULL, NULL);
        if (r < 0) {
            return r;
        }
        placement->rule_count++;
    }
    if (group != NULL) {
        placement->group_counts = calloc(overlay->count + 1, sizeof(uint32_t));
        if (placement->group_counts == NULL) {
            return -ENOMEM;
        }
        overlay_group_counts(overlay, state, group, placement->group_counts);
    }
    return 0;
}

void placement_fini(struct placement *placement)
{
    free(placement->rules);
    free(placement->group_counts);
    *placement = (struct placement){0};
}
