#include "vmm/machine_vm.h"

#include "vmm/kvm_calls.h"
#include "vmm/machine_layout.h"

int machine_vm_make(int kvm_fd, int *ret_fd, struct kvm_state *ret_first, struct err *err)
{
    const uint64_t identity = IDENTITY_MAP_AT;
    const int fd = kvm_call_number(kvm_fd, KVM_CREATE_VM, 0, "make a VM", err);
    *ret_fd = fd < 0 ? -1 : fd;
    if (fd < 0) {
        return fd;
    }
    int r =
        kvm_call(fd, KVM_SET_IDENTITY_MAP_ADDR, &identity, "place the identity map", err);
    if (r >= 0) {
        r = kvm_call_number(fd, KVM_SET_TSS_ADDR, TASK_STATE_AT, "place the task state",
                            err);
    }
    if (r >= 0) {
        r = kvm_call_number(fd, KVM_CREATE_IRQCHIP, 0, "make the interrupt controllers",
                            err);
    }
    return r < 0 ? r : kvm_state_take(ret_first, fd, 0, err);
}

void machine_vm_pulse(int vm_fd, unsigned gsi)
{
    struct kvm_irq_level level = {.irq = gsi, .level = 1};
    (void)kvm_call(vm_fd, KVM_IRQ_LINE, &level, "raise a line", NULL);
    level.level = 0;
    (void)kvm_call(vm_fd, KVM_IRQ_LINE, &level, "lower a line", NULL);
}
