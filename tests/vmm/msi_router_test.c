/* Goal: whatever a guest writes into its tables, a message reaches the CPU that it names,
 * once, by an irqfd when it has settled, and what new routes cost is bounded. Method:
 * KVM's own APIC says what has arrived; ioctls are counted, and refused where a KVM that
 * lacks something is wanted; time is the test's. */
#include "base/cleanup.h"
#include "support/test_main.h"
#include "vmm/msi_router.h"

#include <check.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define APIC_SPURIOUS  0xf0u
#define APIC_REQUESTED 0x200u
#define APIC_ADDRESS   UINT64_C(0xfee00000)

static int kvm_fd;
static int vm_fd;
static int vcpu_fd;
static struct msi_router *router;
static uint64_t now_ns;
static unsigned long refused; /* this request fails */
static unsigned routings, connects, drops, signals;

/* In place of the C library's. */
int ioctl(int fd, unsigned long request, ...)
{
    va_list list;
    va_start(list, request);
    void *argument = va_arg(list, void *);
    va_end(list);
    routings += request == KVM_SET_GSI_ROUTING;
    signals += request == KVM_SIGNAL_MSI;
    if (request == KVM_IRQFD) {
        const struct kvm_irqfd *irqfd = argument;
        drops += irqfd->flags == KVM_IRQFD_FLAG_DEASSIGN;
        connects += irqfd->flags == 0;
    }
    if (request == refused) {
        errno = EINVAL;
        return -1;
    }
    return (int)syscall(SYS_ioctl, fd, request, argument);
}

static uint64_t fake_now(void *context)
{
    (void)context;
    return now_ns;
}

static const struct clock fake_clock = {.now_ns = fake_now};

static void apic_read(struct kvm_lapic_state *ret_apic)
{
    ck_assert_int_eq(ioctl(vcpu_fd, KVM_GET_LAPIC, ret_apic), 0);
}

static void setup(void)
{
    struct kvm_lapic_state apic;
    const uint32_t on = 0x1ff;
    kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    vm_fd = ioctl(kvm_fd, KVM_CREATE_VM, 0UL);
    ck_assert_int_ge(vm_fd, 0);
    ck_assert_int_eq(ioctl(vm_fd, KVM_CREATE_IRQCHIP, 0UL), 0);
    vcpu_fd = ioctl(vm_fd, KVM_CREATE_VCPU, 0UL);
    ck_assert_int_ge(vcpu_fd, 0);
    apic_read(&apic);
    memcpy(apic.regs + APIC_SPURIOUS, &on, sizeof(on));
    ck_assert_int_eq(ioctl(vcpu_fd, KVM_SET_LAPIC, &apic), 0);
    refused = 0;
    now_ns = 1;
    ck_assert_int_eq(msi_router_new(vm_fd, &fake_clock, &router), 0);
    ck_assert_int_eq(msi_router_add(router, 3, NULL), 0);
    msi_router_go(router);
    routings = connects = drops = signals = 0;
}

static void teardown(void)
{
    router = msi_router_free(router);
    (void)close(vcpu_fd);
    (void)close(vm_fd);
    (void)close(kvm_fd);
}

static struct msix_message message_of(uint32_t interrupt)
{
    return (struct msix_message){.address = APIC_ADDRESS, .data = interrupt};
}

static bool is_requested(uint32_t interrupt)
{
    struct kvm_lapic_state apic;
    uint32_t word;
    apic_read(&apic);
    memcpy(&word, apic.regs + APIC_REQUESTED + interrupt / 32 * 16, sizeof(word));
    return (word >> interrupt % 32 & 1) != 0;
}

static void requests_clear(void)
{
    struct kvm_lapic_state apic;
    apic_read(&apic);
    memset(apic.regs + APIC_REQUESTED, 0, 8 * 16);
    ck_assert_int_eq(ioctl(vcpu_fd, KVM_SET_LAPIC, &apic), 0);
}

static void send(unsigned vector, uint32_t interrupt, unsigned times)
{
    const struct msix_message message = message_of(interrupt);
    for (unsigned i = 0; i < times; i++) {
        msi_router_send(router, vector, &message);
    }
}

START_TEST(a_message_that_has_settled_goes_by_a_descriptor)
{
    send(0, 0x51, MSI_SETTLED - 1);
    ck_assert_uint_eq(signals, MSI_SETTLED - 1);
    ck_assert_uint_eq(routings, 0);
    ck_assert(is_requested(0x51));
    requests_clear();

    send(0, 0x51, 2);

    ck_assert_uint_eq(signals, MSI_SETTLED - 1);
    ck_assert_uint_eq(routings, 1);
    ck_assert_uint_eq(connects, 1);
    ck_assert(is_requested(0x51));
    ck_assert(!is_requested(0x52));
}
END_TEST

START_TEST(who_rings_the_event_of_a_route_interrupts_without_us)
{
    const struct msix_message message = message_of(0x51);
    const struct msix_message other = message_of(0x52);
    const uint64_t one = 1;
    ck_assert_int_eq(msi_router_event(router, 0, &message), -1); /* no route yet */
    send(0, 0x51, MSI_SETTLED);
    requests_clear();

    const int event = msi_router_event(router, 0, &message);

    ck_assert_int_ge(event, 0);
    ck_assert_int_eq(write(event, &one, sizeof(one)), (ssize_t)sizeof(one));
    ck_assert(is_requested(0x51));
    ck_assert_int_eq(msi_router_event(router, 0, &other),
                     -1); /* that is no route of it */
    ck_assert_int_eq(msi_router_event(router, 1, &message), -1);
    msi_router_hold(router);
    ck_assert_int_eq(msi_router_event(router, 0, &message), -1);
}
END_TEST

START_TEST(another_message_is_never_delivered_as_the_one_before)
{
    send(0, 0x51, MSI_SETTLED);
    send(1, 0x61, MSI_SETTLED);
    requests_clear();

    send(0, 0x52, 1);
    ck_assert(is_requested(0x52) && !is_requested(0x51));
    send(0, 0x52, MSI_SETTLED);
    requests_clear();
    signals = 0;
    send(0, 0x52, 1);
    send(1, 0x61, 1);

    ck_assert(is_requested(0x52) && is_requested(0x61) && !is_requested(0x51));
    ck_assert_uint_eq(signals, 0);
}
END_TEST

START_TEST(a_guest_that_rewrites_for_ever_costs_no_more_than_is_allowed)
{
    const unsigned more = 20;
    for (unsigned i = 0; i < MSI_ROUTES_BURST + 200; i++) {
        send(0, 0x51 + i % 2, MSI_SETTLED);
    }
    ck_assert_uint_eq(routings, MSI_ROUTES_BURST);
    requests_clear();
    send(0, 0x77, 1); /* still told */
    ck_assert(is_requested(0x77));

    now_ns += NS_PER_S * more / MSI_ROUTES_PER_S;
    for (unsigned i = 0; i < 200; i++) {
        send(0, 0x51 + i % 2, MSI_SETTLED);
    }

    ck_assert_uint_eq(routings, MSI_ROUTES_BURST + more);
}
END_TEST

/* _i: what this KVM does not have. */
static const unsigned long lacks[] = {KVM_IRQFD, KVM_SET_GSI_ROUTING};

START_TEST(where_kvm_cannot_every_message_is_signalled)
{
    refused = lacks[_i];

    send(0, 0x51, MSI_SETTLED * 3);

    ck_assert_uint_eq(signals, MSI_SETTLED * 3);
    ck_assert(is_requested(0x51));
}
END_TEST

START_TEST(what_is_held_is_all_in_and_signals)
{
    send(0, 0x51, MSI_SETTLED);
    send(1, 0x61, MSI_SETTLED);
    send(2, 0x71, 1);

    msi_router_hold(router);

    ck_assert_uint_eq(drops, 2);
    requests_clear();
    signals = 0;
    send(0, 0x51, MSI_SETTLED * 2);
    ck_assert_uint_eq(signals, MSI_SETTLED * 2);
    ck_assert(is_requested(0x51));

    msi_router_go(router);
    send(0, 0x51, MSI_SETTLED);
    ck_assert_uint_eq(connects, 3); /* it settles again */
}
END_TEST

START_TEST(the_lines_of_other_devices_stay)
{
    struct kvm_irq_level level = {.irq = 4, .level = 1};
    struct kvm_irqchip chip = {.chip_id = KVM_IRQCHIP_IOAPIC};
    send(0, 0x51, MSI_SETTLED);
    ck_assert_uint_eq(routings, 1);

    ck_assert_int_eq(ioctl(vm_fd, KVM_IRQ_LINE, &level), 0);

    ck_assert_int_eq(ioctl(vm_fd, KVM_GET_IRQCHIP, &chip), 0);
    ck_assert_uint_eq(chip.chip.ioapic.irr & 1u << 4, 1u << 4);
    chip.chip_id = KVM_IRQCHIP_PIC_MASTER;
    ck_assert_int_eq(ioctl(vm_fd, KVM_GET_IRQCHIP, &chip), 0);
    ck_assert_uint_eq(chip.chip.pic.irr & 1u << 4, 1u << 4);
}
END_TEST

START_TEST(there_is_room_for_all_that_fit_on_a_bus_and_no_more)
{
    struct err err = {0};
    ck_assert_int_eq(msi_router_add(router, MSI_VECTORS_MAX - 2, &err), BERTH_EFULL);
    ck_assert_str_eq(err.text, "MSI: more than 1024 vectors");
    ck_assert_int_eq(msi_router_add(router, 31, NULL), 3);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("msi_router");
    TCase *tests = tcase_create("with KVM");
    const int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        (void)printf("no /dev/kvm\n");
        return 77;
    }
    (void)close(fd);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, a_message_that_has_settled_goes_by_a_descriptor);
    tcase_add_test(tests, who_rings_the_event_of_a_route_interrupts_without_us);
    tcase_add_test(tests, another_message_is_never_delivered_as_the_one_before);
    tcase_add_test(tests, a_guest_that_rewrites_for_ever_costs_no_more_than_is_allowed);
    tcase_add_loop_test(tests, where_kvm_cannot_every_message_is_signalled, 0,
                        (int)ARRAY_COUNT(lacks));
    tcase_add_test(tests, what_is_held_is_all_in_and_signals);
    tcase_add_test(tests, the_lines_of_other_devices_stay);
    tcase_add_test(tests, there_is_room_for_all_that_fit_on_a_bus_and_no_more);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
