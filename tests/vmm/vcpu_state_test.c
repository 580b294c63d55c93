/* Goal: what is taken from a vCPU and applied to it again is the same vCPU. Method: a
 * vCPU of a real KVM (77 without one) that is not run; tests/system/kvm_machine_test.sh
 * runs this where there is one. */
#include "base/cleanup.h"
#include "support/test_main.h"
#include "vmm/vcpu_state.h"

#include <check.h>

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define MSR_STAR 0xc0000081u
#define MSR_TSC  0x10u

static int kvm_fd;
static int vm_fd;
static int vcpu_fd;

static void setup(void)
{
    kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    vm_fd = ioctl(kvm_fd, KVM_CREATE_VM, 0UL);
    ck_assert_int_ge(vm_fd, 0);
    ck_assert_int_eq(ioctl(vm_fd, KVM_CREATE_IRQCHIP, 0UL), 0);
    vcpu_fd = ioctl(vm_fd, KVM_CREATE_VCPU, 0UL);
    ck_assert_int_ge(vcpu_fd, 0);
}

static void teardown(void)
{
    (void)close(vcpu_fd);
    (void)close(vm_fd);
    (void)close(kvm_fd);
}

static void msr_set(uint32_t index, uint64_t value)
{
    union {
        struct kvm_msrs head;
        uint8_t room[sizeof(struct kvm_msrs) + sizeof(struct kvm_msr_entry)];
    } msrs = {.head = {.nmsrs = 1}};
    msrs.head.entries[0] = (struct kvm_msr_entry){.index = index, .data = value};
    ck_assert_int_eq(ioctl(vcpu_fd, KVM_SET_MSRS, &msrs), 1);
}

static uint64_t msr_get(uint32_t index)
{
    union {
        struct kvm_msrs head;
        uint8_t room[sizeof(struct kvm_msrs) + sizeof(struct kvm_msr_entry)];
    } msrs = {.head = {.nmsrs = 1}};
    msrs.head.entries[0].index = index;
    ck_assert_int_eq(ioctl(vcpu_fd, KVM_GET_MSRS, &msrs), 1);
    return msrs.head.entries[0].data;
}

START_TEST(a_state_comes_back_whole)
{
    struct vcpu_state state;
    struct vcpu_state again;
    struct err err = {0};
    struct kvm_regs regs = {.rip = 0x1234, .rax = 0xabcd, .rflags = 2};
    const struct kvm_regs other = {.rip = 0x9999, .rflags = 2};
    ck_assert_int_eq(ioctl(vcpu_fd, KVM_SET_REGS, &regs), 0);
    msr_set(MSR_STAR, 0x77);
    ck_assert_msg(vcpu_state_take(&state, vcpu_fd, kvm_fd, &err) == 0, "%s", err.text);
    ck_assert_int_eq(ioctl(vcpu_fd, KVM_SET_REGS, &other), 0);
    msr_set(MSR_STAR, 0x88);

    ck_assert_msg(vcpu_state_apply(&state, true, vcpu_fd, &err) == 0, "%s", err.text);

    ck_assert_int_eq(ioctl(vcpu_fd, KVM_GET_REGS, &regs), 0);
    ck_assert_uint_eq(regs.rip, 0x1234);
    ck_assert_uint_eq(regs.rax, 0xabcd);
    ck_assert_uint_eq(msr_get(MSR_STAR), 0x77);
    ck_assert_int_eq(vcpu_state_take(&again, vcpu_fd, kvm_fd, NULL), 0);
    ck_assert_mem_eq(&state.sregs, &again.sregs, sizeof(state.sregs));
    ck_assert_mem_eq(state.xsave, again.xsave, sizeof(state.xsave));
    ck_assert_mem_eq(&state.events, &again.events, sizeof(state.events));
    ck_assert_uint_eq(state.msr_count, again.msr_count);
    ck_assert_uint_gt(state.msr_count, 10);
    vcpu_state_fini(&state);
    vcpu_state_fini(&again);
}
END_TEST

static void written(const struct vcpu_state *state, struct bytes_writer *writer)
{
    bytes_writer_init(writer, 1u << 20);
    vcpu_state_write(state, writer);
    ck_assert_int_eq(writer->error, 0);
}

/* Memory types and banks of machine checks, the first and the last of each; KVM lists
 * none. */
START_TEST(what_kvm_does_not_list_comes_back_too)
{
    static const struct {
        uint32_t index;
        uint64_t value;
    } rows[] = {
        {0x200, 0x80000006},         {0x20f, 0xfc0000800},
        {0x250, 0x0606060606060606}, {0x259, 0x0606060606060606},
        {0x26f, 0x0606060606060606}, {0x2ff, 0xc06},
        {0x401, 0x8000000000000001}, {0x47e, 0x1234},
    };
    struct vcpu_state state;
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        msr_set(rows[i].index, rows[i].value);
    }
    ck_assert_int_eq(vcpu_state_take(&state, vcpu_fd, kvm_fd, NULL), 0);
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        msr_set(rows[i].index, 0);
    }

    ck_assert_int_eq(vcpu_state_apply(&state, true, vcpu_fd, NULL), 0);

    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        ck_assert_uint_eq(msr_get(rows[i].index), rows[i].value);
    }
    vcpu_state_fini(&state);
}
END_TEST

/* Half a second ahead of a vCPU that was just made: KVM would take it for the same. */
START_TEST(the_counter_of_a_young_guest_does_not_go_back)
{
    static const uint64_t old = UINT64_C(1) << 60;
    struct vcpu_state state;
    const int khz = ioctl(vcpu_fd, KVM_GET_TSC_KHZ, 0UL);
    ck_assert_int_gt(khz, 0);
    ck_assert_int_eq(vcpu_state_take(&state, vcpu_fd, kvm_fd, NULL), 0);
    msr_set(MSR_TSC, old);
    if (msr_get(MSR_TSC) < old) {
        (void)puts("this KVM gives guests the host's counter: they are not tested");
        vcpu_state_fini(&state);
        return;
    }
    uint64_t wanted = 0;
    for (uint32_t i = 0; i < state.msr_count; i++) {
        if (state.msrs[i].index == MSR_TSC) {
            msr_set(MSR_TSC, state.msrs[i].data);
            state.msrs[i].data += (uint64_t)khz * 500;
            wanted = state.msrs[i].data;
        }
    }

    ck_assert_int_eq(vcpu_state_apply(&state, true, vcpu_fd, NULL), 0);

    const uint64_t found = msr_get(MSR_TSC);
    ck_assert_uint_ge(found, wanted);
    ck_assert_uint_lt(found - wanted, UINT64_C(1) << 39); /* nor is it the far one */
    vcpu_state_fini(&state);
}
END_TEST

START_TEST(a_written_state_is_read_again_and_a_cut_one_refused)
{
    struct vcpu_state state;
    struct vcpu_state again;
    struct bytes_writer writer;
    struct bytes_reader reader;
    struct bytes_writer copy;
    ck_assert_int_eq(vcpu_state_take(&state, vcpu_fd, kvm_fd, NULL), 0);
    written(&state, &writer);

    bytes_reader_init(&reader, writer.data, writer.size);
    ck_assert_int_eq(vcpu_state_read(&again, &reader, NULL), 0);

    ck_assert_int_eq(bytes_reader_end(&reader), 0);
    written(&again, &copy);
    ck_assert_uint_eq(copy.size, writer.size);
    ck_assert_mem_eq(copy.data, writer.data, writer.size);
    for (size_t size = 0; size < writer.size; size++) {
        struct vcpu_state none;
        bytes_reader_init(&reader, writer.data, size);
        ck_assert_int_eq(vcpu_state_read(&none, &reader, NULL), BERTH_ECORRUPT);
    }
    bytes_writer_fini(&writer);
    bytes_writer_fini(&copy);
    vcpu_state_fini(&state);
    vcpu_state_fini(&again);
}
END_TEST

/* A guest may reset itself as often as it likes: the host's log is not its own. */
START_TEST(what_kvm_refuses_again_and_again_is_logged_some_times)
{
    struct vcpu_state state;
    char line[512];
    unsigned lines = 0;
    FILE *logged = tmpfile();
    ck_assert_ptr_nonnull(logged);
    ck_assert_int_eq(vcpu_state_take(&state, vcpu_fd, kvm_fd, NULL), 0);
    ck_assert_uint_gt(state.msr_count, 2);
    for (uint32_t i = 0; i < 2; i++) {
        state.msrs[state.msr_count - 1 - i].index = 0xdead0000 + i; /* there is none */
    }
    const int usual = dup(STDERR_FILENO);
    ck_assert_int_ge(dup2(fileno(logged), STDERR_FILENO), 0);

    for (unsigned i = 0; i < VCPU_REFUSALS_LOGGED; i++) {
        ck_assert_int_eq(vcpu_state_apply(&state, true, vcpu_fd, NULL), 0);
    }

    ck_assert_int_ge(dup2(usual, STDERR_FILENO), 0);
    rewind(logged);
    while (fgets(line, sizeof(line), logged) != NULL) {
        lines += strstr(line, "does not take an MSR") != NULL;
    }
    ck_assert_uint_eq(lines, VCPU_REFUSALS_LOGGED);
    (void)fclose(logged);
    (void)close(usual);
    vcpu_state_fini(&state);
}
END_TEST

START_TEST(a_part_that_kvm_refuses_is_named)
{
    struct vcpu_state state;
    struct err err = {0};
    ck_assert_int_eq(vcpu_state_take(&state, vcpu_fd, kvm_fd, NULL), 0);
    state.xcrs.nr_xcrs = UINT32_MAX;

    ck_assert_int_lt(vcpu_state_apply(&state, true, vcpu_fd, &err), 0);

    ck_assert_msg(strstr(err.text, "extended control registers") != NULL, "%s", err.text);
    vcpu_state_fini(&state);
}
END_TEST

int main(void)
{
    int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        return test_main_skip("no /dev/kvm; run where there is one by "
                              "tests/system/kvm_machine_test.sh");
    }
    (void)close(fd);
    Suite *suite = suite_create("vcpu_state");
    TCase *tests = tcase_create("vcpu_state");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, a_state_comes_back_whole);
    tcase_add_test(tests, what_kvm_does_not_list_comes_back_too);
    tcase_add_test(tests, the_counter_of_a_young_guest_does_not_go_back);
    tcase_add_test(tests, a_written_state_is_read_again_and_a_cut_one_refused);
    tcase_add_test(tests, what_kvm_refuses_again_and_again_is_logged_some_times);
    tcase_add_test(tests, a_part_that_kvm_refuses_is_named);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
