#include "vmm/vcpu_state.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "base/require.h"

#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

/* One register set: how it is read, how it is written, where it is kept. */
struct part {
    const char *name;
    unsigned long get;
    unsigned long set;
    size_t offset;
    size_t size;
};

#define PART(name, field, get, set)                         \
    {                                                       \
        name, get, set, offsetof(struct vcpu_state, field), \
            sizeof(((struct vcpu_state *)NULL)->field)      \
    }

/* Taken in this order: the state of waiting first, for reading it may take an INIT in;
 * events last, for they are what is left over. Written down they stand in this order,
 * too: whoever changes it changes the section's version. */
static const struct part taken[] = {
    PART("the MP state", mp_state, KVM_GET_MP_STATE, KVM_SET_MP_STATE),
    PART("registers", regs, KVM_GET_REGS, KVM_SET_REGS),
    PART("system registers", sregs, KVM_GET_SREGS, KVM_SET_SREGS),
    PART("the extended state", xsave, KVM_GET_XSAVE, KVM_SET_XSAVE),
    PART("extended control registers", xcrs, KVM_GET_XCRS, KVM_SET_XCRS),
    PART("debug registers", debugregs, KVM_GET_DEBUGREGS, KVM_SET_DEBUGREGS),
    PART("the local APIC", lapic, KVM_GET_LAPIC, KVM_SET_LAPIC),
    PART("pending events", events, KVM_GET_VCPU_EVENTS, KVM_SET_VCPU_EVENTS),
};

/* Applied in the same order, but MSRs come before events: the APIC's base is a system
 * register and must be there before the APIC; the APIC must be there before the MSR of
 * its deadline; setting registers clears exceptions, so events are last. */
#define APPLIED_AFTER_MSRS (ARRAY_COUNT(taken) - 1)

#define MSR_TSC          0x10u
#define MSR_TSC_DEADLINE 0x6e0u
#define TSC_FAR          (UINT64_C(1) << 40) /* minutes, at any rate */
#define UNLISTED_MAX     160u
#define LISTED_MAX       (VCPU_MSRS_MAX - UNLISTED_MAX)
#define MSRS_AT_ONCE     64u /* KVM takes less than 256 */

/* The timer's register of the APIC, and its mode there. */
#define LVT_TIMER_AT      0x320u
#define LVT_MODE_MASK     (3u << 17)
#define LVT_MODE_DEADLINE (2u << 17)
#define MSR_BYTES         12u /* of one, written down: index and value */

static struct kvm_msr_list *msr_list_read(int kvm_fd, struct err *err)
{
    struct kvm_msr_list *list =
        cleanup_new(1, sizeof(*list) + LISTED_MAX * sizeof(list->indices[0]));
    if (list == NULL) {
        (void)err_sys(err, -ENOMEM, "ask for the list of MSRs");
        return NULL;
    }
    list->nmsrs = LISTED_MAX;
    if (kvm_call(kvm_fd, KVM_GET_MSR_INDEX_LIST, list, "ask for the list of MSRs", err) <
        0) {
        free(list);
        return NULL;
    }
    return list;
}

union one_msr {
    struct kvm_msrs head;
    uint8_t room[sizeof(struct kvm_msrs) + sizeof(struct kvm_msr_entry)];
};

/* What KVM keeps of a vCPU and does not list: memory types, and the banks of machine
 * checks. */
static const struct {
    uint32_t first;
    uint32_t count;
} unlisted[] = {
    {0x200, 16}, /* ranges of memory types, in pairs */
    {0x250, 1},  /* those of the first MiB: 64 KiB each */
    {0x258, 2},  /* 16 KiB */
    {0x268, 8},  /* 4 KiB */
    {0x2ff, 1},  /* of all else */
    {0x400, 128} /* 32 banks of four */
};

/* All that may be read, of what KVM lists and what it does not. */
static struct kvm_msr_entry *
msrs_name(const struct kvm_msr_list *list, uint32_t *ret_count, struct err *err)
{
    struct kvm_msr_entry *named = calloc(list->nmsrs + UNLISTED_MAX, sizeof(named[0]));
    uint32_t count = 0;
    if (named == NULL) {
        (void)err_sys(err, -ENOMEM, "read MSRs");
        return NULL;
    }
    for (uint32_t i = 0; i < list->nmsrs; i++) {
        named[count++].index = list->indices[i];
    }
    for (unsigned i = 0; i < ARRAY_COUNT(unlisted); i++) {
        REQUIRE(count + unlisted[i].count <= list->nmsrs + UNLISTED_MAX);
        for (uint32_t at = 0; at < unlisted[i].count; at++) {
            named[count++].index = unlisted[i].first + at;
        }
    }
    *ret_count = count;
    return named;
}

union many_msrs {
    struct kvm_msrs head;
    uint8_t room[sizeof(struct kvm_msrs) + MSRS_AT_ONCE * sizeof(struct kvm_msr_entry)];
};

/* There are MSRs that this vCPU has not: what KVM refuses, which ends a call, is left
 * out. */
static int msrs_take(struct vcpu_state *state, int vcpu_fd, int kvm_fd, struct err *err)
{
    CLEANUP_FREE struct kvm_msr_list *list = msr_list_read(kvm_fd, err);
    uint32_t count = 0;
    union many_msrs many;
    if (list == NULL) {
        return err != NULL && err->code != 0 ? err->code : -ENOMEM;
    }
    state->msrs = msrs_name(list, &count, err);
    if (state->msrs == NULL) {
        return -ENOMEM;
    }
    for (uint32_t at = 0; at < count;) {
        const uint32_t left = count - at;
        many.head = (struct kvm_msrs){.nmsrs = left < MSRS_AT_ONCE ? left : MSRS_AT_ONCE};
        memcpy(many.head.entries, state->msrs + at,
               many.head.nmsrs * sizeof(state->msrs[0]));
        const int r = kvm_call(vcpu_fd, KVM_GET_MSRS, &many, "read MSRs", NULL);
        const uint32_t done = r > 0 ? (uint32_t)r : 0;
        memcpy(state->msrs + state->msr_count, many.head.entries,
               done * sizeof(state->msrs[0])); /* never beyond what was asked for */
        state->msr_count += done;
        at += done < many.head.nmsrs ? done + 1 : done;
    }
    return 0;
}

static int msr_apply(const struct kvm_msr_entry *entry, int vcpu_fd)
{
    union one_msr msr = {.head = {.nmsrs = 1}};
    msr.head.entries[0] = *entry;
    return kvm_call(vcpu_fd, KVM_SET_MSRS, &msr, "set an MSR", NULL) == 1 ? 0 : -EIO;
}

static bool may_log_refusal(void)
{
    static atomic_uint count; /* up to the limit */
    unsigned so_far = atomic_load(&count);
    while (so_far < VCPU_REFUSALS_LOGGED &&
           !atomic_compare_exchange_weak(&count, &so_far, so_far + 1)) {
    }
    return so_far < VCPU_REFUSALS_LOGGED;
}

/* One that can be read but is refused as it was read is read only: nothing is lost when
 * it is that anyway. */
static void refusal_tell(const struct kvm_msr_entry *entry, int vcpu_fd)
{
    union one_msr msr = {.head = {.nmsrs = 1}};
    msr.head.entries[0].index = entry->index;
    const bool is_lost =
        kvm_call(vcpu_fd, KVM_GET_MSRS, &msr, "read an MSR", NULL) != 1 ||
        msr.head.entries[0].data != entry->data;
    if (is_lost && may_log_refusal()) {
        log_warn("vmm", "KVM does not take an MSR of the guest's",
                 KV_U64("index", entry->index), KV_U64("value", entry->data));
    }
}

/* KVM takes a counter that is less than a second from what it gave, or was given, last
 * for the same one, and lets that go on: a young guest's would go back. The first CPU
 * says something far from both before, and the others are to be the same. */
static int tsc_apply(const struct kvm_msr_entry *entry, bool leads, int vcpu_fd)
{
    const struct kvm_msr_entry far_off = {.index = entry->index,
                                          .data = entry->data + TSC_FAR};
    const int r = leads ? msr_apply(&far_off, vcpu_fd) : 0;
    return r < 0 ? r : msr_apply(entry, vcpu_fd);
}

/* The time stamp counter first, for the deadline counts on it. */
static int
msrs_apply(const struct vcpu_state *state, bool leads, int vcpu_fd, struct err *err)
{
    for (unsigned pass = 0; pass < 3; pass++) {
        for (uint32_t i = 0; i < state->msr_count; i++) {
            const struct kvm_msr_entry *entry = &state->msrs[i];
            unsigned turn = entry->index == MSR_TSC            ? 0
                            : entry->index == MSR_TSC_DEADLINE ? 2
                                                               : 1;
            if (turn != pass) {
                continue;
            }
            const int r =
                turn == 0 ? tsc_apply(entry, leads, vcpu_fd) : msr_apply(entry, vcpu_fd);
            if (r < 0 && turn != 1) {
                return err_set(err, -EIO, "KVM: set MSR 0x%x: refused", entry->index);
            }
            if (r < 0) {
                refusal_tell(entry, vcpu_fd);
            }
        }
    }
    return 0;
}

static int part_apply(const struct vcpu_state *state,
                      const struct part *part,
                      int vcpu_fd,
                      struct err *err)
{
    int r = kvm_call(vcpu_fd, part->set, (const uint8_t *)state + part->offset,
                     part->name, err);
    return r < 0 ? err_wrap(err, r, "set a vCPU's state") : 0;
}

static struct kvm_msr_entry *msr_find(struct vcpu_state *state, uint32_t index)
{
    for (uint32_t i = 0; i < state->msr_count; i++) {
        if (state->msrs[i].index == index) {
            return &state->msrs[i];
        }
    }
    return NULL;
}

/* A deadline that has passed while nobody ran the vCPU reads as none, and the interrupt
 * is nowhere in the state yet. A deadline that is now makes it due; one too many does no
 * harm. */
static void timer_settle(struct vcpu_state *state)
{
    struct kvm_msr_entry *deadline = msr_find(state, MSR_TSC_DEADLINE);
    const struct kvm_msr_entry *now = msr_find(state, MSR_TSC);
    uint32_t timer;
    memcpy(&timer, state->lapic.regs + LVT_TIMER_AT, sizeof(timer));
    if ((timer & LVT_MODE_MASK) == LVT_MODE_DEADLINE && deadline != NULL && now != NULL &&
        deadline->data == 0) {
        deadline->data = now->data;
    }
}

int vcpu_state_take(struct vcpu_state *ret_state,
                    int vcpu_fd,
                    int kvm_fd,
                    struct err *err)
{
    *ret_state = (struct vcpu_state){.msr_count = 0};
    for (unsigned i = 0; i < ARRAY_COUNT(taken); i++) {
        int r = kvm_call(vcpu_fd, taken[i].get, (uint8_t *)ret_state + taken[i].offset,
                         taken[i].name, err);
        if (r < 0) {
            return err_wrap(err, r, "read a vCPU's state");
        }
    }
    int r = msrs_take(ret_state, vcpu_fd, kvm_fd, err);
    if (r == 0) {
        timer_settle(ret_state);
    }
    return r;
}

int vcpu_state_apply(const struct vcpu_state *state,
                     bool leads,
                     int vcpu_fd,
                     struct err *err)
{
    for (unsigned i = 0; i < APPLIED_AFTER_MSRS; i++) {
        int r = part_apply(state, &taken[i], vcpu_fd, err);
        if (r < 0) {
            return r;
        }
    }
    int r = msrs_apply(state, leads, vcpu_fd, err);
    for (unsigned i = APPLIED_AFTER_MSRS; r == 0 && i < ARRAY_COUNT(taken); i++) {
        r = part_apply(state, &taken[i], vcpu_fd, err);
    }
    return r;
}

void vcpu_state_fini(struct vcpu_state *state)
{
    free(state->msrs);
    state->msrs = NULL;
    state->msr_count = 0;
}

void vcpu_state_write(const struct vcpu_state *state, struct bytes_writer *writer)
{
    for (unsigned i = 0; i < ARRAY_COUNT(taken); i++) {
        bytes_write_block(writer, (const uint8_t *)state + taken[i].offset,
                          taken[i].size);
    }
    bytes_write_u32(writer, state->msr_count);
    for (uint32_t i = 0; i < state->msr_count; i++) {
        bytes_write_u32(writer, state->msrs[i].index);
        bytes_write_u64(writer, state->msrs[i].data);
    }
}

int vcpu_state_read(struct vcpu_state *ret_state,
                    struct bytes_reader *reader,
                    struct err *err)
{
    struct vcpu_state state = {.msr_count = 0};
    for (unsigned i = 0; i < ARRAY_COUNT(taken); i++) {
        size_t size = 0;
        const void *part = bytes_read_block(reader, taken[i].size, &size);
        if (part == NULL || size != taken[i].size) {
            return err_set(err, BERTH_ECORRUPT, "%s of a vCPU: not what they should be",
                           taken[i].name);
        }
        memcpy((uint8_t *)&state + taken[i].offset, part, size);
    }
    const uint32_t count = bytes_read_u32(reader);
    if (reader->error != 0 || count > VCPU_MSRS_MAX ||
        bytes_reader_left(reader) != count * (size_t)MSR_BYTES) {
        return err_set(err, BERTH_ECORRUPT, "MSRs of a vCPU: cut short or too many");
    }
    state.msrs = calloc(count + 1, sizeof(state.msrs[0]));
    if (state.msrs == NULL) {
        return err_sys(err, -ENOMEM, "read MSRs");
    }
    for (state.msr_count = 0; state.msr_count < count; state.msr_count++) {
        struct kvm_msr_entry *entry = &state.msrs[state.msr_count];
        entry->index = bytes_read_u32(reader);
        entry->data = bytes_read_u64(reader);
    }
    *ret_state = state;
    return 0;
}
