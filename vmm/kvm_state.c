#include "vmm/kvm_state.h"

#include "base/clock.h"

#include <string.h>

static const struct {
    const char *get;
    const char *set;
} steps[KVM_CHIPS] = {
    [KVM_IRQCHIP_PIC_MASTER] = {"read the first PIC", "set the first PIC"},
    [KVM_IRQCHIP_PIC_SLAVE] = {"read the second PIC", "set the second PIC"},
    [KVM_IRQCHIP_IOAPIC] = {"read the I/O APIC", "set the I/O APIC"},
};

int kvm_state_take(struct kvm_state *ret_state,
                   int vm_fd,
                   uint64_t wall_ms,
                   struct err *err)
{
    struct kvm_state state = {.wall_ms = wall_ms};
    struct kvm_clock_data clock = {0};
    int r = kvm_call(vm_fd, KVM_GET_CLOCK, &clock, "read the guest's clock", err);
    state.clock_ns = clock.clock;
    for (unsigned i = 0; r >= 0 && i < KVM_CHIPS; i++) {
        state.chips[i].chip_id = i;
        r = kvm_call(vm_fd, KVM_GET_IRQCHIP, &state.chips[i], steps[i].get, err);
    }
    if (r < 0) {
        return r;
    }
    *ret_state = state;
    return 0;
}

int kvm_state_apply_chips(const struct kvm_state *state, int vm_fd, struct err *err)
{
    int r = 0;
    for (unsigned i = 0; r >= 0 && i < KVM_CHIPS; i++) {
        r = kvm_call(vm_fd, KVM_SET_IRQCHIP, &state->chips[i], steps[i].set, err);
    }
    return r < 0 ? r : 0;
}

uint64_t kvm_state_clock_at(const struct kvm_state *state, uint64_t wall_ms)
{
    const uint64_t gone_ms = wall_ms > state->wall_ms ? wall_ms - state->wall_ms : 0;
    const uint64_t room_ms = (UINT64_MAX - state->clock_ns) / NS_PER_MS;
    return gone_ms < room_ms ? state->clock_ns + gone_ms * NS_PER_MS : state->clock_ns;
}

int kvm_state_apply_clock(const struct kvm_state *state,
                          int vm_fd,
                          uint64_t wall_ms,
                          struct err *err)
{
    const struct kvm_clock_data clock = {.clock = kvm_state_clock_at(state, wall_ms)};
    int r = kvm_call(vm_fd, KVM_SET_CLOCK, &clock, "set the guest's clock", err);
    return r < 0 ? r : 0;
}

void kvm_state_write(const struct kvm_state *state, struct bytes_writer *writer)
{
    bytes_write_u64(writer, state->clock_ns);
    bytes_write_u64(writer, state->wall_ms);
    for (unsigned i = 0; i < KVM_CHIPS; i++) {
        bytes_write_block(writer, &state->chips[i].chip, sizeof(state->chips[i].chip));
    }
}

int kvm_state_read(struct kvm_state *ret_state,
                   struct bytes_reader *reader,
                   struct err *err)
{
    struct kvm_state state = {.clock_ns = bytes_read_u64(reader)};
    state.wall_ms = bytes_read_u64(reader);
    for (unsigned i = 0; i < KVM_CHIPS; i++) {
        size_t size = 0;
        const void *chip = bytes_read_block(reader, sizeof(state.chips[i].chip), &size);
        if (chip == NULL || size != sizeof(state.chips[i].chip)) {
            return err_set(err, BERTH_ECORRUPT, "an interrupt controller is cut short");
        }
        state.chips[i].chip_id = i;
        memcpy(&state.chips[i].chip, chip, size);
    }
    if (bytes_reader_end(reader) != 0) {
        return err_set(err, BERTH_ECORRUPT, "there is more than KVM's state");
    }
    *ret_state = state;
    return 0;
}
