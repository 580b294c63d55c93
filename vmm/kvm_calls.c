#include "vmm/kvm_calls.h"

#include "base/cleanup.h"

#include <errno.h>
#include <sys/ioctl.h>

/* What the machine cannot do without. All of it is older than Linux 5.10. */
static const struct {
    unsigned long capability;
    const char *name;
} needed[] = {
    {KVM_CAP_IRQCHIP, "an interrupt controller"},
    {KVM_CAP_USER_MEMORY, "memory slots"},
    {KVM_CAP_SET_TSS_ADDR, "a place for its task state"},
    {KVM_CAP_EXT_CPUID, "CPUID tables"},
    {KVM_CAP_MP_STATE, "states of vCPUs"},
    {KVM_CAP_IRQFD, "interrupts from descriptors"},
    {KVM_CAP_IOEVENTFD, "doorbells"},
    {KVM_CAP_SIGNAL_MSI, "message interrupts"},
    {KVM_CAP_IMMEDIATE_EXIT, "the immediate exit"},
    {KVM_CAP_XCRS, "extended control registers"},
    {KVM_CAP_VCPU_EVENTS, "pending events"},
};

int kvm_call_number(int fd,
                    unsigned long request,
                    unsigned long number,
                    const char *what,
                    struct err *err)
{
    int r;
    do {
        r = ioctl(fd, request, number);
    } while (r < 0 && errno == EINTR);
    return r >= 0 ? r : err_sys(err, -errno, "KVM: %s", what);
}

int kvm_call(int fd,
             unsigned long request,
             const void *argument,
             const char *what,
             struct err *err)
{
    return kvm_call_number(fd, request, (unsigned long)argument, what, err);
}

int kvm_check(int kvm_fd, struct err *err)
{
    int version =
        kvm_call_number(kvm_fd, KVM_GET_API_VERSION, 0, "ask for its version", err);
    if (version != KVM_API_VERSION) {
        return version < 0 ? version
                           : err_set(err, BERTH_EUNSUPPORTED,
                                     "KVM: version %d of its API, not %d", version,
                                     KVM_API_VERSION);
    }
    for (unsigned i = 0; i < ARRAY_COUNT(needed); i++) {
        if (ioctl(kvm_fd, KVM_CHECK_EXTENSION, needed[i].capability) <= 0) {
            return err_set(err, BERTH_EUNSUPPORTED, "KVM: has no %s", needed[i].name);
        }
    }
    return 0;
}
