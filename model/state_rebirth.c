#include "model/state_rebirth.h"

#include "base/require.h"
#include "model/apply_vm.h"
#include "model/state_internal.h"

#include <stdio.h>
#include <string.h>

#define COUNTER_MAX (UINT64_C(1) << 62) /* what a snapshot may hold */
#define VNI_MAX     UINT32_C(0xffffff)
/* Seconds since 1970 in the upper bits: nobody counts a million a second. */
#define CLOCK_SHIFT 20
#define REASON_SIZE 256

uint64_t rebirth_jump(uint64_t counter, uint64_t wall_ms)
{
    uint64_t by_clock = wall_ms / 1000 << CLOCK_SHIFT;
    uint64_t by_step = counter + REBIRTH_STEP;
    return by_clock > by_step ? by_clock : by_step;
}

static int
jump_counters(struct state *state, const struct rebirth *rebirth, struct err *err)
{
    uint64_t revision = rebirth_jump(state->revision, rebirth->wall_ms);
    uint64_t uid = state->next_uid + REBIRTH_UID_STEP;
    if (revision >= COUNTER_MAX || uid >= COUNTER_MAX) {
        return err_set(err, BERTH_EFULL, "a counter of the state has no room to jump");
    }
    state->revision = revision;
    state->next_uid = uid;
    if (state->next_vni < VNI_MAX - REBIRTH_VNI_STEP) {
        state->next_vni += REBIRTH_VNI_STEP;
    }
    if (rebirth->new_cluster) {
        memset(state->cluster_id, 0, sizeof(state->cluster_id));
    }
    return 0;
}

/* All of a kind by rising uid: the walks below change tables. */
static struct entry_set all_of(const struct state *state, enum kind kind)
{
    const struct table *table = &state->tables[kind];
    const struct entry_set all = {.items = table->items, .count = table->count};
    return entry_set_sorted(&all);
}

/* A VM that waits for its host may have moved since, or been started, on whatever host:
 * nothing starts it before one says that it runs there, or its user says that none does.
 * Of those on a host that says `lost`. */
static bool is_left_alone(const struct state *state, const struct vm *vm)
{
    return state->level >= LEVEL_PLACE_UNKNOWN &&
           vm->spec.machine.lifecycle.host_failure == HOST_FAILURE_WAIT;
}

/* The run that is known of it: what is newer may be found. One that has not begun goes on
 * with the disks of an earlier one, and they are the newest if it never does. */
static void note_run(const struct state *state, struct entry *vm)
{
    const struct vm_status *status = &vm_of(vm)->status;
    if (state_place_unknown(state, vm_of(vm)) || status->disk_host != 0) {
        return; /* since an earlier rebirth; or its disks are */
    }
    const bool begins = status->disk_epoch != 0 && !vm_status_has_run(status);
    vm_entry_keep(vm, NULL,
                  begins              ? status->disk_epoch
                  : status->epoch > 0 ? status->epoch
                                      : 1);
}

/* The next run of a VM that stays with its host is one with the disks of this one. */
static void jump_epochs(struct apply *apply, const struct rebirth *rebirth)
{
    const uint64_t wall_ms = rebirth->wall_ms;
    struct entry_set vms = all_of(apply->state, KIND_VM);
    for (uint32_t i = 0; i < vms.count; i++) {
        struct vm *vm = vm_of(vms.items[i]);
        const bool alone = is_left_alone(apply->state, vm);
        if (alone) {
            note_run(apply->state, vms.items[i]);
        } else if (vm->status.host != 0 && vm->status.phase != PHASE_PLACED &&
                   vm->status.disk_host == 0) {
            vm_entry_keep(vms.items[i], NULL, vm->status.epoch);
        }
        vm->status.epoch = rebirth_jump(vm->status.epoch, wall_ms);
        vm->status.retry_wall_ms = 0;
        if (alone && vm->status.host == 0) {
            vm_tell_unknown(apply, vms.items[i], rebirth->reason);
            continue;
        }
        apply_changed(apply, vms.items[i],
                      &(struct change_note){.phase_from = vm->status.phase,
                                            .phase_to = vm->status.phase});
    }
    entry_set_fini(&vms);
}

/* They name the key of a host that may be gone, and would keep a door open. */
static void drop_join_tokens(struct apply *apply, const char *reason)
{
    struct entry_set tokens = all_of(apply->state, KIND_TOKEN);
    for (uint32_t i = 0; i < tokens.count; i++) {
        const struct token *token = tokens.items[i]->object;
        if (token->spec.role == ROLE_JOIN) {
            apply_removed(apply, tokens.items[i],
                          &(struct change_note){.verb = "deleted", .reason = reason});
        }
    }
    entry_set_fini(&tokens);
}

/* Why a host that does not go on is lost, whatever it was before. */
#define LEFT_OUT "it was left out: "

bool state_host_left_out(const struct host *host)
{
    return host->status.phase == HOST_PHASE_LOST && host->status.reason != NULL &&
           strncmp(host->status.reason, LEFT_OUT, strlen(LEFT_OUT)) == 0;
}

static void leave_out(struct apply *apply, struct entry *entry, const char *because)
{
    char reason[REASON_SIZE];
    struct host *host = host_of(entry);
    (void)snprintf(reason, sizeof(reason), LEFT_OUT "%s", because);
    if (host->status.phase != HOST_PHASE_LOST) {
        host_lose(apply, entry, reason);
        return;
    }
    int r = record_set_text(&host->status.reason, reason);
    REQUIRE(r == 0);
    host_lose_vms(apply, entry, because);
    apply_changed(apply, entry,
                  &(struct change_note){.phase_from = HOST_PHASE_LOST,
                                        .phase_to = HOST_PHASE_LOST});
}

/* A key that nobody has the secret of, another for each host. */
static struct digest retired_key(const struct digest *key)
{
    static const char domain[] = "berth retired key";
    struct digest_stream stream;
    struct digest retired;
    digest_start(&stream);
    digest_update(&stream, domain, sizeof(domain));
    digest_update(&stream, key->bytes, sizeof(key->bytes));
    digest_finish(&stream, &retired);
    return retired;
}

/* A host that goes on says itself whether they run there. */
static void free_unknown(struct apply *apply, struct entry *host, const char *reason)
{
    struct entry_set vms = entry_set_sorted(&host->owner.vms);
    for (uint32_t i = 0; i < vms.count; i++) {
        if (state_place_unknown(apply->state, vm_of(vms.items[i]))) {
            vm_release(apply, vms.items[i], reason);
        }
    }
    entry_set_fini(&vms);
}

static void
set_place(struct apply *apply, struct entry *entry, const struct rebirth *rebirth)
{
    struct host *host = host_of(entry);
    bool keeps = rebirth->keeps != NULL && rebirth->keeps(rebirth->context, host);
    bool votes = rebirth->votes != NULL && rebirth->votes(rebirth->context, host);
    host->status.voter = votes ? VOTER_VOTER : VOTER_NONE;
    if (!keeps) {
        const struct digest retired = retired_key(&host->status.public_key);
        host_entry_set_key(apply->state, entry, &retired);
    }
    if (!keeps) {
        leave_out(apply, entry, rebirth->reason);
        return;
    }
    host_lose_vms(apply, entry, rebirth->reason);
    free_unknown(apply, entry, rebirth->reason);
    apply_changed(apply, entry,
                  &(struct change_note){.phase_from = host->status.phase,
                                        .phase_to = host->status.phase});
}

static void set_places(struct apply *apply, const struct rebirth *rebirth)
{
    struct entry_set hosts = all_of(apply->state, KIND_HOST);
    for (uint32_t i = 0; i < hosts.count; i++) {
        set_place(apply, hosts.items[i], rebirth);
    }
    entry_set_fini(&hosts);
}

int state_rebirth(struct state *state, const struct rebirth *rebirth, struct err *err)
{
    struct command command;
    struct apply_result result = {0};
    int r = jump_counters(state, rebirth, err);
    if (r < 0) {
        return r;
    }
    command_init(&command, COMMAND_NOOP);
    command.wall_ms = rebirth->wall_ms;
    struct apply apply = {.state = state,
                          .command = &command,
                          .result = &result,
                          .revision = state->revision};
    jump_epochs(&apply, rebirth);
    drop_join_tokens(&apply, rebirth->reason);
    set_places(&apply, rebirth);
    apply_finish(&apply);
    return 0;
}
