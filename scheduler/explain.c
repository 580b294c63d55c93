/* The answer to "why": per host verdict, rule, reason and nearest fix. See scheduler.h.
 */
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/parse_number.h"
#include "base/plural.h"
#include "base/require.h"
#include "model/document.h"
#include "scheduler/step.h"

#include <stdio.h>
#include <string.h>

#define RULES_COUNT_MAX 16 /* more than there are filters */
#define SUMMARY_SIZE    1024

/* What a look at all hosts found. */
struct findings {
    json_t *rows;
    uint32_t hosts;
    uint32_t fits;
    const char *best; /* name of the best host, or NULL */
    const char *home; /* name of the only host that may take it, or NULL */
    struct place_refusal home_refusal;
    uint32_t rule_count;
    struct {
        const char *rule;
        const char *one; /* as in struct place_refusal */
        const char *many;
        uint32_t hosts;
    } refused[RULES_COUNT_MAX];
};

static json_t *host_row(const struct host *host,
                        const char *verdict,
                        const char *rule,
                        const char *reason,
                        const char *fix)
{
    return json_pack("{s:s, s:s, s:s, s:o, s:o}", "host", host->meta.name, "verdict",
                     verdict, "rule", rule, "reason", document_text(reason), "fix",
                     document_text(fix));
}

static void count_refusal(struct findings *findings, const struct place_refusal *refusal)
{
    uint32_t i = 0;
    while (i < findings->rule_count &&
           strcmp(findings->refused[i].rule, refusal->rule) != 0) {
        i++;
    }
    if (i == RULES_COUNT_MAX) {
        return;
    }
    if (i == findings->rule_count) {
        findings->refused[findings->rule_count++].rule = refusal->rule;
        findings->refused[i].one = refusal->one;
        findings->refused[i].many = refusal->many;
    }
    findings->refused[i].hosts++;
}

/* A row per host; here (uid or 0) is where it is, and leaves whether it is to go. */
static void look_at_hosts(struct placement *placement,
                          uint64_t here,
                          bool leaves,
                          struct findings *ret_findings)
{
    const struct overlay *overlay = placement->overlay;
    int64_t best = placement_best(placement);
    *ret_findings = (struct findings){.rows = json_array(), .hosts = overlay->count};
    for (uint32_t i = 0; i < overlay->count; i++) {
        struct place_refusal refusal;
        const struct host *host = overlay->hosts[i];
        json_t *row;
        if (host->meta.uid == placement->request.home) {
            ret_findings->home = host->meta.name;
        }
        if (host->meta.uid == here) {
            row = host_row(host, "here", "",
                           leaves ? "it is there, and is to leave: the host is drained"
                                  : "it is there",
                           "");
        } else if (placement_fits(placement, i, &refusal)) {
            ret_findings->fits++;
            row = host_row(host, "fits", "",
                           i == best ? "best place for the next one" : "", "");
        } else {
            count_refusal(ret_findings, &refusal);
            if (host->meta.uid == placement->request.home) {
                ret_findings->home_refusal = refusal;
            }
            row = host_row(host, "no", refusal.rule, refusal.reason, refusal.fix);
        }
        json_array_append_new(ret_findings->rows, row);
    }
    ret_findings->best = best >= 0 ? overlay->hosts[best]->meta.name : NULL;
}

/* "no host takes it (3 hosts: 2 memory, 1 drain)" */
static void tell_refusals(const struct findings *findings, char *text, size_t size)
{
    size_t used = (size_t)snprintf(text, size, "no host takes it (%u host%s",
                                   findings->hosts, plural_s(findings->hosts));
    for (uint32_t i = 0; i < findings->rule_count && used < size; i++) {
        used +=
            (size_t)snprintf(text + used, size - used, "%s%u %s", i == 0 ? ": " : ", ",
                             findings->refused[i].hosts, findings->refused[i].rule);
    }
    if (used < size) {
        (void)snprintf(text + used, size - used, ")");
    }
}

static json_t *refused_counts(const struct findings *findings)
{
    json_t *counts = json_object();
    for (uint32_t i = 0; i < findings->rule_count; i++) {
        json_object_set_new(counts, findings->refused[i].rule,
                            json_integer(findings->refused[i].hosts));
    }
    return counts;
}

static int look(const struct scheduler *scheduler,
                const struct state *state,
                const struct place_request *request,
                uint64_t here,
                bool leaves,
                struct findings *ret_findings)
{
    struct overlay overlay;
    struct placement placement = {0};
    overlay_init(&overlay);
    int r = overlay_sync(&overlay, state);
    if (r == 0) {
        r = placement_init(&placement, request, &overlay, scheduler_watch(scheduler));
    }
    if (r == 0) {
        look_at_hosts(&placement, here, leaves, ret_findings);
    }
    placement_fini(&placement);
    overlay_fini(&overlay);
    return r;
}

/* Takes the findings' rows and the autoscale part. */
static json_t *answer(const struct state *state,
                      const char *subject,
                      const char *summary,
                      const struct findings *findings,
                      json_t *autoscale)
{
    return json_pack("{s:s, s:o, s:I, s:o, s:o, s:o*, s:I}", "subject", subject,
                     "summary", document_text(summary), "fits",
                     (json_int_t)findings->fits, "refused", refused_counts(findings),
                     "hosts", findings->rows, "autoscale", autoscale, "revision",
                     (json_int_t)state_revision(state));
}

static void need_text(const struct machine_spec *machine, char *text, size_t size)
{
    char memory[NUMBER_TEXT_SIZE];
    char disk[NUMBER_TEXT_SIZE];
    char most[24] = "";
    uint64_t disk_bytes = machine_disk_bytes(machine);
    format_bytes_human(machine->memory.size_bytes, memory);
    format_bytes_human(disk_bytes, disk);
    if (machine->cpu.max > machine->cpu.count) {
        (void)snprintf(most, sizeof(most), " (up to %u)", machine->cpu.max);
    }
    (void)snprintf(text, size, "cpu %u%s, memory %s%s%s", machine->cpu.count, most,
                   memory, disk_bytes > 0 ? ", disk " : "", disk_bytes > 0 ? disk : "");
}

static const char *or_empty(const char *text)
{
    return text != NULL ? text : "";
}

/* ---- a VM ---- */

/* Its host is drained, and it goes as soon as another takes it (host_care.c). */
static bool vm_leaves(const struct state *state, const struct vm *vm)
{
    const struct host *host =
        vm->status.host != 0 ? state_host(state, vm->status.host) : NULL;
    return host != NULL && host_sends_away(host, vm) &&
           vm->spec.machine.lifecycle.host_drain == HOST_DRAIN_RESTART;
}

/* Where it goes from its drained host, or why it does not. */
static void tell_leaving(const struct host *host,
                         const struct findings *findings,
                         char *text,
                         size_t size)
{
    int used = snprintf(text, size, "; it is to leave %s, which is drained, and ",
                        host->meta.name);
    REQUIRE(used > 0 && (size_t)used < size);
    if (findings->best != NULL) {
        (void)snprintf(text + used, size - (size_t)used, "goes to %s next",
                       findings->best);
        return;
    }
    size_t at = (size_t)used;
    at += (size_t)snprintf(text + at, size - at, "no other host takes it");
    for (uint32_t i = 0; i < findings->rule_count && at < size; i++) {
        uint32_t hosts = findings->refused[i].hosts;
        at += (size_t)snprintf(text + at, size - at, "%s%u of %u %s",
                               i == 0 ? ": " : ", ", hosts, findings->hosts - 1,
                               hosts == 1 ? findings->refused[i].one
                                          : findings->refused[i].many);
    }
}

/* What keeps a pending VM from its disks, or from the snapshot that it goes back to, and
 * both ways out. */
static void
tell_home(const struct vm *vm, const struct findings *findings, char *text, size_t size)
{
    const struct place_refusal *refusal = &findings->home_refusal;
    bool restores = vm->status.restore != 0;
    (void)snprintf(text, size,
                   "its %s on %s, which does not take it now (%.100s): %.100s; or "
                   "%s: berth start %s --anywhere",
                   restores ? "snapshot is" : "disks are", findings->home,
                   refusal->reason, refusal->fix,
                   restores ? "call that off" : "give the disks up", vm->meta.name);
}

/* Why nothing starts it, and what does. */
static void
tell_unknown(const struct host *keeper, const struct vm *vm, char *text, size_t size)
{
    char start[2 * NAME_SIZE + 64];
    if (keeper != NULL && keeper->status.phase != HOST_PHASE_LOST) {
        (void)snprintf(start, sizeof(start), "%s starts it with the disks that %s keeps",
                       vm->meta.name, keeper->meta.name);
    } else {
        (void)snprintf(start, sizeof(start), "%s --anywhere starts it with new disks",
                       vm->meta.name);
    }
    (void)snprintf(text, size,
                   "the cluster began again from a backup or a survivor's log, and a VM "
                   "that waits for its host may run on another host of before: one that "
                   "is a member says so by itself, look at the others; then berth start "
                   "%s",
                   start);
}

/* What comes next for a VM that has ended. */
static void
tell_ended(const struct state *state, const struct vm *vm, char *text, size_t size)
{
    const struct restart_spec *restart = &vm->spec.machine.lifecycle.restart;
    char when[CLOCK_TEXT_SIZE];
    const struct host *keeper = state_host(state, vm->status.disk_host);
    size_t used = 0;
    if (state_place_unknown(state, vm)) {
        tell_unknown(keeper, vm, text, size);
        return;
    }
    if (keeper != NULL) {
        used = (size_t)snprintf(text, size, "%s keeps its disks; ", keeper->meta.name);
    }
    text += used; /* a name is short */
    size -= used;
    if (vm->spec.power == POWER_OFF) {
        (void)snprintf(text, size, "it is switched off: berth start %s", vm->meta.name);
    } else if (vm_restarts(state, vm)) {
        clock_format(vm->status.retry_wall_ms, when);
        (void)snprintf(text, size, "restart %u of %u is due at %.8s", vm->status.restarts,
                       restart->attempts, when + 11);
    } else if (restart->policy == RESTART_NEVER || vm->status.phase == PHASE_STOPPED) {
        (void)snprintf(text, size, "restart.policy %s leaves it so: berth start %s",
                       restart_policy_names[restart->policy], vm->meta.name);
    } else {
        (void)snprintf(text, size, "%u restarts in a row are over: berth start %s",
                       restart->attempts, vm->meta.name);
    }
}

/* What frees it from its lost host, and what becomes of it then. */
static void tell_lost(const struct state *state,
                      const struct vm *vm,
                      const char *host,
                      char *text,
                      size_t size)
{
    /* One that was left out would come back as another host. */
    const struct host *there = state_host(state, vm->status.host);
    const bool left_out = there != NULL && state_host_left_out(there);
    int used = snprintf(text, size,
                        left_out ? "; it may still run there: berth down --forget on %s "
                                   "ends it, or berth rm host/%s once it is surely off"
                                 : "; it may still run there: bring %s back, or berth rm "
                                   "host/%s once it is surely off",
                        host, host);
    REQUIRE(used > 0 && (size_t)used < size);
    /* Placed at its snapshot, it has begun nothing there that it would lose. */
    const struct host *keeper = state_disks_bind(state, vm);
    const char *where = keeper != NULL ? keeper->meta.name : "elsewhere";
    const char *with = keeper != NULL ? "with its disks" : "with new disks";
    const char *on = keeper != NULL ? "on " : "";
    if (state_place_unknown(state, vm)) {
        (void)snprintf(text + used, size - (size_t)used,
                       "; since the cluster began again another host of before may run "
                       "it: it stays stopped until berth start %s --anywhere",
                       vm->meta.name);
    } else if (vm_stays_off(vm)) {
        (void)snprintf(text + used, size - (size_t)used,
                       "; it is switched off and stays so: berth start %s then starts "
                       "it %s%s %s",
                       vm->meta.name, on, where, with);
    } else {
        (void)snprintf(text + used, size - (size_t)used, ", and it starts %s%s %s", on,
                       where, with);
    }
}

static void tell_vm(const struct state *state,
                    const struct vm *vm,
                    const struct findings *findings,
                    const char *waits,
                    char *text)
{
    char need[96];
    char next[512] = "";
    const struct host *host =
        vm->status.host != 0 ? state_host(state, vm->status.host) : NULL;
    need_text(&vm->spec.machine, need, sizeof(need));
    const char *reason = or_empty(vm->status.reason);
    if (host != NULL) {
        reason = waits != NULL ? waits : reason;
        if (vm->status.phase == PHASE_LOST) {
            tell_lost(state, vm, host->meta.name, next, sizeof(next));
        } else if (vm_leaves(state, vm)) {
            tell_leaving(host, findings, next, sizeof(next));
        }
        (void)snprintf(text, SUMMARY_SIZE,
                       "%s is %s on %s (epoch %llu)%s%.255s%.447s. It needs %s.",
                       vm->meta.name, phase_names[vm->status.phase], host->meta.name,
                       (unsigned long long)vm->status.epoch,
                       reason[0] != '\0' ? ": " : "", reason, next, need);
        return;
    }
    if (vm->status.phase != PHASE_PENDING) {
        tell_ended(state, vm, next, sizeof(next));
    } else if (findings->best != NULL) {
        (void)snprintf(next, sizeof(next), "it goes to %s next", findings->best);
    } else if (findings->home != NULL) {
        tell_home(vm, findings, next, sizeof(next));
    } else {
        tell_refusals(findings, next, sizeof(next));
    }
    (void)snprintf(text, SUMMARY_SIZE, "%s is %s%s%.200s%s: %s. It needs %s.",
                   vm->meta.name, phase_names[vm->status.phase],
                   reason[0] != '\0' ? " (" : "", reason, reason[0] != '\0' ? ")" : "",
                   next, need);
}

json_t *scheduler_explain_vm(const struct scheduler *scheduler,
                             const struct state *state,
                             const struct vm *vm,
                             const char *waits)
{
    char subject[2 * NAME_SIZE];
    char summary[SUMMARY_SIZE];
    struct place_request request;
    struct findings findings = {0};
    place_request_of(state, vm, &request);
    if (look(scheduler, state, &request, vm->status.host, vm_leaves(state, vm),
             &findings) < 0) {
        return NULL;
    }
    (void)snprintf(subject, sizeof(subject), "vm/%s", vm->meta.name);
    tell_vm(state, vm, &findings, waits, summary);
    return answer(state, subject, summary, &findings, NULL);
}

/* ---- in a few words ---- */

static void tell_shortly(const struct findings *findings, char *text, size_t size)
{
    size_t used = (size_t)snprintf(text, size, "no host%s",
                                   findings->hosts == 0 ? ": the cluster has none" : "");
    for (uint32_t i = 0; i < findings->rule_count && used < size; i++) {
        uint32_t hosts = findings->refused[i].hosts;
        used += (size_t)snprintf(text + used, size - used, "%s%u of %u %s",
                                 i == 0 ? ": " : ", ", hosts, findings->hosts,
                                 hosts == 1 ? findings->refused[i].one
                                            : findings->refused[i].many);
    }
}

/* "its disks are on h2, which is drained: berth undrain h2, or berth start a --anywhere"
 */
static void tell_home_shortly(const struct vm *vm,
                              const struct findings *findings,
                              char *text,
                              size_t size)
{
    const struct place_refusal *refusal = &findings->home_refusal;
    (void)snprintf(text, size,
                   "its %s on %s, which %s: %.100s, or berth start %s --anywhere",
                   vm->status.restore != 0 ? "snapshot is" : "disks are", findings->home,
                   refusal->one, refusal->fix, vm->meta.name);
}

/* Looks at each host for the VM; whether none takes it. */
static bool no_host_takes(struct placement *placement, struct findings *findings)
{
    const struct overlay *overlay = placement->overlay;
    if (placement_best(placement) >= 0) { /* also looks at the addresses left */
        return false;
    }
    findings->hosts = overlay->count;
    for (uint32_t i = 0; i < overlay->count; i++) {
        struct place_refusal refusal;
        bool fits = placement_fits(placement, i, &refusal);
        if (!fits) {
            count_refusal(findings, &refusal);
        }
        if (!fits && overlay->hosts[i]->meta.uid == placement->request.home) {
            findings->home = overlay->hosts[i]->meta.name;
            findings->home_refusal = refusal;
        }
    }
    return true;
}

/* What another VM of the kind was told; -1: none was. */
static int waits_find(struct waits *waits,
                      const struct state *state,
                      const struct place_request *request)
{
    if (waits->state != state || waits->revision != state_revision(state)) {
        waits->state = state;
        waits->revision = state_revision(state);
        waits->count = 0;
    }
    int count = (int)(waits->count < WAITS_MAX ? waits->count : WAITS_MAX);
    for (int i = 0; i < count; i++) {
        if (placement_is_for(&waits->rows[i].kind, request)) {
            return i;
        }
    }
    return -1;
}

static void waits_keep(struct waits *waits,
                       const struct place_request *request,
                       bool none,
                       const char *text)
{
    uint32_t row = waits->count++ % WAITS_MAX;
    waits->rows[row].kind = (struct placement){.request = *request};
    waits->rows[row].none = none;
    (void)snprintf(waits->rows[row].text, WAITS_TEXT_SIZE, "%s", text);
}

/* Whether no host takes it, and why. */
static bool look_for_host(const struct scheduler *scheduler,
                          const struct vm *vm,
                          const struct place_request *request,
                          char *ret_text,
                          size_t size)
{
    struct placement placement = {0};
    struct findings findings = {0};
    bool made = placement_init(&placement, request, scheduler_look(scheduler),
                               scheduler_watch(scheduler)) == 0;
    bool none = made && no_host_takes(&placement, &findings);
    placement_fini(&placement);
    if (none && findings.home != NULL) {
        tell_home_shortly(vm, &findings, ret_text, size);
    } else if (none) {
        tell_shortly(&findings, ret_text, size);
    }
    if (made && request->home == 0) { /* the others are told of themselves */
        waits_keep(scheduler_waits(scheduler), request, none, ret_text);
    }
    return none;
}

/* Whether no host takes the VM, and why. */
static bool wait_reason(const struct scheduler *scheduler,
                        const struct state *state,
                        const struct vm *vm,
                        unsigned *looks,
                        char *ret_text,
                        size_t size)
{
    struct waits *waits = scheduler_waits(scheduler);
    struct place_request request;
    place_request_of(state, vm, &request);
    int told = waits_find(waits, state, &request);
    if (told >= 0) {
        (void)snprintf(ret_text, size, "%s", waits->rows[told].text);
        return waits->rows[told].none;
    }
    if (*looks == 0) {
        (void)snprintf(ret_text, size, "berth explain vm/%s says why", vm->meta.name);
        return true;
    }
    (*looks)--;
    return overlay_sync(scheduler_look(scheduler), state) == 0 &&
           look_for_host(scheduler, vm, &request, ret_text, size);
}

bool scheduler_pending_reason(const struct scheduler *scheduler,
                              const struct state *state,
                              const struct vm *vm,
                              unsigned *looks,
                              char *ret_text,
                              size_t size)
{
    size_t used = 0;
    ret_text[0] = '\0';
    vm = state_vm(state, vm->meta.uid); /* what is kept borrows from the state alone */
    bool leaves = vm != NULL && vm_leaves(state, vm);
    if (vm == NULL || (!leaves && (vm->status.phase != PHASE_PENDING ||
                                   vm->spec.power != POWER_ON || vm->status.host != 0))) {
        return false;
    }
    if (leaves) {
        int length = snprintf(ret_text, size, "is to leave %s, which is drained; ",
                              state_host(state, vm->status.host)->meta.name);
        used = length > 0 && (size_t)length < size ? (size_t)length : 0;
    }
    bool none = wait_reason(scheduler, state, vm, looks, ret_text + used, size - used);
    if (!none) {
        ret_text[0] = '\0';
    }
    return none;
}

/* ---- a group ---- */

static json_t *autoscale_part(const struct scheduler *scheduler,
                              const struct state *state,
                              const struct group *group,
                              uint64_t now_ns)
{
    struct autoscale_view view;
    if (group->spec.autoscale.max == 0) {
        return NULL;
    }
    autoscale_look(scheduler_loads(scheduler), state, group, now_ns, &view);
    return json_pack("{s:I, s:I, s:I, s:I, s:i, s:I, s:I, s:o}", "min",
                     (json_int_t)group->spec.autoscale.min, "max",
                     (json_int_t)group->spec.autoscale.max, "desired",
                     (json_int_t)group->status.desired, "wish", (json_int_t)view.wish,
                     "cpuPermille", view.mean_permille, "targetPermille",
                     (json_int_t)view.target_permille, "measuredVms",
                     (json_int_t)view.ready, "lastReason",
                     document_text(or_empty(group->status.scale_reason)));
}

/* Why it has not all its VMs yet, and what the next one would meet. */
static void tell_missing(const struct state *state,
                         const struct group *group,
                         const struct machine_spec *machine,
                         const struct findings *findings,
                         char *text,
                         size_t size)
{
    char quota[256];
    struct usage promised = {0};
    if (state_group_vms(state, group) < group->status.desired &&
        state_quota_room(state, group->meta.tenant, machine, &promised, quota) != 0) {
        (void)snprintf(text, size, "%s", quota);
    } else if (findings->best != NULL) {
        (void)snprintf(text, size, "the next one goes to %s", findings->best);
    } else {
        tell_refusals(findings, text, size);
    }
}

/* VMs that may run where the cluster does not see them: none is made or given up instead.
 */
struct unseen {
    const struct vm *first; /* the oldest; NULL: there is none */
    uint32_t unknown;       /* it is not known where */
    uint32_t lost;          /* on a lost host that they wait for */
};

static struct unseen unseen_of(const struct state *state, const struct group *group)
{
    struct unseen unseen = {0};
    const struct vm *vm;
    size_t cursor = 0;
    while ((vm = state_vm_of_group(state, group, &cursor)) != NULL) {
        const bool unknown = state_place_unknown(state, vm);
        const bool lost = vm->status.phase == PHASE_LOST && !unknown;
        unseen.unknown += unknown ? 1U : 0U;
        unseen.lost += lost ? 1U : 0U;
        if ((unknown || lost) &&
            (unseen.first == NULL || vm->meta.uid < unseen.first->meta.uid)) {
            unseen.first = vm;
        }
    }
    return unseen;
}

static void tell_unseen(const struct state *state,
                        const struct group *group,
                        const struct unseen *unseen,
                        uint32_t ready,
                        char *text)
{
    char waits[96] = "";
    char unknown[96] = "";
    const uint32_t have = state_group_vms(state, group);
    if (unseen->unknown > 0) {
        (void)snprintf(unknown, sizeof(unknown),
                       "since the cluster began again it is not known where %u of its %u "
                       "VMs %s",
                       unseen->unknown, have, unseen->unknown == 1 ? "is" : "are");
    }
    if (unseen->lost > 0) {
        (void)snprintf(waits, sizeof(waits),
                       "%u of its %u VMs %s for a lost host, where %s may still run",
                       unseen->lost, have, unseen->lost == 1 ? "waits" : "wait",
                       unseen->lost == 1 ? "it" : "they");
    }
    (void)snprintf(text, SUMMARY_SIZE,
                   "%s: %s%s%s (%u ready, %u wanted); it starts and gives up none of "
                   "those by itself: berth explain vm/%s.",
                   group->meta.name, unknown,
                   unseen->unknown > 0 && unseen->lost > 0 ? ", and " : "", waits, ready,
                   group->status.desired, unseen->first->meta.name);
}

/* Appended: VMs that are nowhere yet, or do not exist. */
static void tell_more(const struct state *state,
                      const struct group *group,
                      const struct machine_spec *machine,
                      const struct findings *findings,
                      uint32_t placed,
                      uint32_t more,
                      char *text)
{
    char need[96];
    char missing[320];
    const size_t used = strlen(text);
    need_text(machine, need, sizeof(need));
    tell_missing(state, group, machine, findings, missing, sizeof(missing));
    (void)snprintf(text + used, SUMMARY_SIZE - used,
                   "%s%s needs %u more VM%s (%u of %u placed), each %s: %s.",
                   used > 0 ? " " : "", group->meta.name, more, plural_s(more), placed,
                   group->status.desired, need, missing);
}

static void tell_group(const struct state *state,
                       const struct group *group,
                       const struct machine_spec *machine,
                       const struct findings *findings,
                       char *text)
{
    char need[96];
    uint32_t placed = 0;
    uint32_t ready = 0;
    const uint32_t desired = group->status.desired;
    const struct unseen unseen = unseen_of(state, group);
    size_t cursor = 0;
    const struct vm *vm;
    while ((vm = state_vm_of_group(state, group, &cursor)) != NULL) {
        placed += vm_phase_on_host(vm->status.phase) ? 1U : 0U;
        ready += vm->status.phase == PHASE_READY ? 1U : 0U;
    }
    const uint32_t somewhere = placed + unseen.unknown + unseen.lost;
    text[0] = '\0';
    if (group->status.deleting) {
        uint32_t left = state_group_vms(state, group);
        (void)snprintf(text, SUMMARY_SIZE, "%s is being deleted: %u VM%s still to go.",
                       group->meta.name, left, plural_s_are(left));
        return;
    }
    if (unseen.first != NULL) {
        tell_unseen(state, group, &unseen, ready, text);
    }
    if (somewhere < desired) {
        tell_more(state, group, machine, findings, placed, desired - somewhere, text);
    } else if (unseen.first == NULL) {
        need_text(machine, need, sizeof(need));
        (void)snprintf(text, SUMMARY_SIZE,
                       "%s has all its VMs (%u of %u placed, %u ready); each needs %s.",
                       group->meta.name, placed, desired, ready, need);
    }
}

json_t *scheduler_explain_group(const struct scheduler *scheduler,
                                const struct state *state,
                                const struct group *group,
                                const char *waits,
                                uint64_t now_ns)
{
    char subject[2 * NAME_SIZE];
    char summary[SUMMARY_SIZE];
    struct findings findings = {0};
    const struct template *template = state_get(state, KIND_TEMPLATE, group->meta.tenant,
                                                group->spec.template_ref.name);
    if (template == NULL) {
        return NULL; /* it cannot go before its groups */
    }
    const struct place_request request = {
        .tenant = group->meta.tenant, .machine = &template->spec, .group = group};
    if (look(scheduler, state, &request, 0, false, &findings) < 0) {
        return NULL;
    }
    (void)snprintf(subject, sizeof(subject), "group/%s", group->meta.name);
    tell_group(state, group, &template->spec, &findings, summary);
    size_t used = strlen(summary);
    if (waits != NULL && !group->status.deleting) {
        (void)snprintf(summary + used, sizeof(summary) - used, " None can start: %.300s.",
                       waits);
    }
    return answer(state, subject, summary, &findings,
                  autoscale_part(scheduler, state, group, now_ns));
}

/* ---- a plan ---- */

/* Places up to count VMs on the overlay; the hosts' names. */
static json_t *place_all(struct placement *placement,
                         struct overlay *overlay,
                         uint32_t count,
                         uint32_t *ret_placed)
{
    json_t *names = json_array();
    int64_t best;
    *ret_placed = 0;
    while (*ret_placed < count && (best = placement_best(placement)) >= 0 &&
           (placement->request.kept ? overlay_take_kept : overlay_take)(
               overlay, (uint32_t)best, placement->request.machine, 0) == 0) {
        placement_took(placement, (uint32_t)best);
        json_array_append_new(
            names, json_pack("{s:s}", "host", overlay->hosts[best]->meta.name));
        (*ret_placed)++;
    }
    return names;
}

static json_t *forecast(const struct scheduler *scheduler,
                        const struct state *state,
                        const struct place_request *request,
                        uint32_t count)
{
    struct overlay overlay;
    struct placement placement = {0};
    struct findings findings = {0};
    json_t *document = NULL;
    uint32_t placed = 0;
    const struct host *home = request->kept ? state_host(state, request->home) : NULL;
    overlay_init(&overlay);
    if (overlay_sync(&overlay, state) == 0 &&
        placement_init(&placement, request, &overlay, scheduler_watch(scheduler)) == 0) {
        json_t *names = place_all(&placement, &overlay, count, &placed);
        if (placed < count) {
            look_at_hosts(&placement, 0, false, &findings);
        }
        document = json_pack("{s:o, s:I, s:o*, s:s*}", "placed", names, "unplaced",
                             (json_int_t)(count - placed), "hosts", findings.rows,
                             "diskHost", home != NULL ? home->meta.name : NULL);
    }
    placement_fini(&placement);
    overlay_fini(&overlay);
    return document;
}

json_t *scheduler_forecast(const struct scheduler *scheduler,
                           const struct state *state,
                           const char *tenant,
                           const char *group_name,
                           const struct machine_spec *machine,
                           uint32_t count,
                           uint64_t now_ns)
{
    const struct group *group =
        group_name != NULL ? state_get(state, KIND_GROUP, tenant, group_name) : NULL;
    const struct place_request request = {.tenant = tenant,
                                          .machine = machine,
                                          .group = group,
                                          .group_is_new = group == NULL};
    (void)now_ns;
    return forecast(scheduler, state, &request, count);
}

json_t *scheduler_forecast_vm(const struct scheduler *scheduler,
                              const struct state *state,
                              const struct vm *vm)
{
    struct place_request request;
    place_request_of(state, vm, &request);
    return forecast(scheduler, state, &request, 1);
}
