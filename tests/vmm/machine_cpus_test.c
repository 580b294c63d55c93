/* Goal: a guest gets CPUs while it runs, wakes them, and keeps them through pauses,
 * resets and saves; a CPU that it has not does nothing and nobody waits for it. Method: a
 * guest of a few bytes that wakes what comes, on a real KVM (77 without one;
 * tests/system/kvm_machine_test.sh runs this where there is one); every wait is on what
 * the guest says or on an event, with Check's time limit as the bound. */
#include "base/cleanup.h"
#include "micro_kernel.h"
#include "plug_guest.h"
#include "saved_machine.h"
#include "support/test_main.h"
#include "vmm/kvm_calls.h"
#include "vmm/machine.h"
#include "vmm/machine_layout.h"
#include "vmm/snapshot_file.h"

#include <check.h>

#include <fcntl.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#define MIB       (UINT64_C(1) << 20)
#define PLUGGABLE 3u /* beside the one it begins with */

static int kvm_fd;
static struct poller *poller;
static struct machine *machine;
static atomic_uint said[256]; /* how often each byte */
static unsigned resets;
static enum machine_end ended;

static void on_output(void *context, uint8_t byte)
{
    (void)context;
    atomic_fetch_add(&said[byte], 1);
}

static void on_reset(void *context)
{
    (void)context;
    resets++;
}

static void on_ended(void *context, enum machine_end end, const char *why)
{
    (void)context;
    (void)why;
    ended = end;
}

static void setup(void)
{
    kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    ck_assert_int_ge(kvm_fd, 0);
    ck_assert_int_eq(poller_new(&poller, NULL), 0);
    machine = NULL;
    resets = 0;
    ended = MACHINE_END_NONE;
    for (unsigned i = 0; i < ARRAY_COUNT(said); i++) {
        atomic_store(&said[i], 0);
    }
}

static void teardown(void)
{
    machine = machine_free(machine);
    poller_free(poller);
    (void)close(kvm_fd);
}

static void make(const void *code, unsigned plug_cpus, const struct machine_image *image)
{
    struct err err = {0};
    const struct machine_plan plan = {.kvm_fd = kvm_fd,
                                      .cpu_count = 1,
                                      .plug_cpus = plug_cpus,
                                      .memory_bytes = 32 * MIB,
                                      .kernel_fd = micro_kernel(code, sizeof(plug_guest)),
                                      .initrd_fd = -1,
                                      .cmdline = "",
                                      .image = image,
                                      .poller = poller,
                                      .events = {.ended = on_ended, .reset = on_reset}};
    ck_assert_msg(machine_new(&plan, &machine, &err) == 0, "%s", err.text);
    ck_assert_msg(machine_load(machine, &err) == 0, "%s", err.text);
    machine_serial(machine)->output = on_output;
}

static void run(void)
{
    ck_assert_int_eq(machine_run(machine, NULL), 0);
}

static void pause_it(void)
{
    ck_assert_int_eq(machine_pause(machine, NULL), 0);
}

static void plug(unsigned index)
{
    struct err err = {0};
    ck_assert_msg(machine_plug_cpu(machine, index, &err) == 0, "%s", err.text);
}

/* Waits until it says this, or says it once more. */
static void await(uint8_t byte)
{
    const unsigned before = atomic_load(&said[byte]);
    while (atomic_load(&said[byte]) == before) {
        (void)sched_yield();
    }
}

static void await_first(uint8_t byte)
{
    while (atomic_load(&said[byte]) == 0) {
        (void)sched_yield();
    }
}

static uint32_t mp_state(unsigned index)
{
    struct kvm_mp_state state;
    ck_assert_int_eq(kvm_call(machine_vcpu(machine, index)->fd, KVM_GET_MP_STATE, &state,
                              "read the MP state", NULL),
                     0);
    return state.mp_state;
}

/* How often KVM has come back from running it. */
static uint64_t exits(unsigned index)
{
    uint64_t count = 0;
    for (unsigned k = 0; k < VCPU_EXIT_COUNT; k++) {
        count += counter_read(&machine_vcpu(machine, index)->exits[k].count);
    }
    return count;
}

/* What the MADT in the guest's memory says of a CPU. */
static uint32_t madt_flags(unsigned index)
{
    static uint8_t tables[0x8000];
    ck_assert_int_eq(
        guest_memory_read(machine_memory(machine), ACPI_AT, tables, sizeof(tables)), 0);
    const uint8_t *madt = memmem(tables, sizeof(tables), "APIC", 4);
    ck_assert_ptr_nonnull(madt);
    uint32_t flags;
    memcpy(&flags, madt + 44 + 8 * (size_t)index + 4, sizeof(flags));
    return flags;
}

START_TEST(a_cpu_that_comes_is_woken_by_the_guest_and_runs)
{
    make(plug_guest, PLUGGABLE, NULL);
    run();
    await_first('A');
    ck_assert_uint_eq(machine_cpu_count(machine), 1 + PLUGGABLE);

    for (unsigned i = 1; i <= PLUGGABLE; i++) {
        ck_assert(!machine_cpu_is_plugged(machine, i));
        plug(i);
        ck_assert(machine_cpu_is_plugged(machine, i));
        await_first((uint8_t)('0' + i));
    }

    await('1'); /* it still does */
    ck_assert_int_eq(ended, MACHINE_END_NONE);
}
END_TEST

START_TEST(they_come_in_any_order)
{
    make(plug_guest, PLUGGABLE, NULL);
    run();

    plug(3);
    await_first('3');
    plug(1);
    await_first('1');

    ck_assert_uint_eq(atomic_load(&said['2']), 0);
    ck_assert(!machine_cpu_is_plugged(machine, 2));
}
END_TEST

START_TEST(a_cpu_that_is_not_there_is_never_run_whoever_calls_it)
{
    uint8_t hasty[sizeof(plug_guest)];
    plug_guest_hasty(hasty);
    make(hasty, PLUGGABLE, NULL);
    run();
    await_first('A'); /* it has called CPU 1 by now */

    for (unsigned i = 0; i < 20; i++) { /* and nobody waits for it */
        pause_it();
        run();
    }

    pause_it();
    ck_assert_uint_eq(exits(1), 0);
    ck_assert_uint_eq(exits(2), 0);
    ck_assert_uint_eq(atomic_load(&said['1']), 0);
}
END_TEST

START_TEST(a_call_from_before_it_came_wakes_no_cpu)
{
    uint8_t hasty[sizeof(plug_guest)];
    plug_guest_hasty(hasty);
    make(hasty, PLUGGABLE, NULL);
    run();
    await_first('A');
    pause_it();

    plug(1);

    ck_assert_uint_eq(mp_state(1), KVM_MP_STATE_UNINITIALIZED);
    run();
    await_first('1'); /* the guest calls again */
}
END_TEST

START_TEST(a_cpu_that_comes_while_the_guest_stands_still_starts_when_it_goes_on)
{
    make(plug_guest, PLUGGABLE, NULL);
    run();
    await_first('A');
    pause_it();

    plug(1);

    ck_assert_int_eq(machine_state(machine), MACHINE_PAUSED);
    pause_it(); /* it stands still with it */
    ck_assert_uint_eq(exits(1), 0);
    run();
    await_first('1');
    pause_it();
    const unsigned still = atomic_load(&said['1']);
    ck_assert_int_eq(poller_step(poller, 20), 0); /* time to do wrong */
    ck_assert_uint_eq(atomic_load(&said['1']), still);
    run();
    await('1');
}
END_TEST

START_TEST(cpus_that_come_in_a_storm_of_pauses_all_run)
{
    make(plug_guest, 7, NULL);
    run();
    await_first('A');

    for (unsigned i = 1; i <= 7; i++) {
        if (i % 2 == 0) {
            pause_it();
            plug(i);
            run();
        } else {
            plug(i);
        }
        for (unsigned k = 0; k < 30; k++) {
            pause_it();
            run();
        }
    }

    for (unsigned i = 1; i <= 7; i++) {
        await((uint8_t)('0' + i));
    }
    ck_assert_int_eq(ended, MACHINE_END_NONE);
}
END_TEST

START_TEST(a_cpu_that_comes_before_the_guest_began_is_in_its_tables)
{
    make(plug_guest, PLUGGABLE, NULL);
    ck_assert_uint_eq(madt_flags(1), 2);

    plug(1);

    ck_assert_uint_eq(madt_flags(0), 1);
    ck_assert_uint_eq(madt_flags(1), 1);
    ck_assert_uint_eq(madt_flags(2), 2);
    run();
    await_first('C');
    plug(2);
    await_first('2');
    ck_assert_uint_eq(atomic_load(&said['1']), 0); /* it was no news */
}
END_TEST

START_TEST(a_guest_that_restarts_has_the_cpus_that_came)
{
    make(plug_guest, PLUGGABLE, NULL);
    run();
    plug(2);
    await_first('2');

    machine_reset(machine);
    while (resets == 0) {
        ck_assert_int_ge(poller_step(poller, -1), 0);
    }

    await_first('E'); /* CPUs 0 and 2 */
    pause_it();
    ck_assert_uint_eq(madt_flags(0), 1);
    ck_assert_uint_eq(madt_flags(1), 2);
    ck_assert_uint_eq(madt_flags(2), 1);
    ck_assert_uint_eq(mp_state(2), KVM_MP_STATE_UNINITIALIZED); /* nobody woke it yet */
    run();
    plug(1);
    await_first('1');
}
END_TEST

/* _i: an enum machine_ram. */
START_TEST(a_saved_guest_comes_back_with_the_cpus_that_came)
{
    struct machine_image image = {.offset = SAVED_RAM_AT, .ram = (enum machine_ram)_i};
    struct bytes_writer state;
    struct err err = {0};
    make(plug_guest, PLUGGABLE, NULL);
    run();
    plug(2);
    await_first('2');
    pause_it();
    plug(3); /* nobody has woken it by then */
    image.fd = saved_machine(machine, &state);
    machine = machine_free(machine);
    make(plug_guest, PLUGGABLE, &image);
    ck_assert_int_eq(machine_plug_cpu(machine, 1, &err), BERTH_EPHASE);

    ck_assert_msg(machine_restore(machine, state.data, state.size, &err) == 0, "%s",
                  err.text);

    ck_assert(machine_cpu_is_plugged(machine, 2));
    ck_assert(machine_cpu_is_plugged(machine, 3));
    ck_assert(!machine_cpu_is_plugged(machine, 1));
    run();
    await('2');
    await_first('3');
    plug(1);
    await_first('1');
    bytes_writer_fini(&state);
    (void)close(image.fd);
}
END_TEST

START_TEST(a_saved_guest_is_not_for_a_machine_of_other_cpus)
{
    struct machine_image image = {.offset = SAVED_RAM_AT};
    struct bytes_writer state;
    struct err err = {0};
    make(plug_guest, PLUGGABLE, NULL);
    image.fd = saved_machine(machine, &state);
    machine = machine_free(machine);
    make(plug_guest, PLUGGABLE - 1, &image);

    ck_assert_int_eq(machine_restore(machine, state.data, state.size, &err),
                     BERTH_EINVALID);

    ck_assert_str_eq(err.text, "the saved machine has 4 CPUs and this one has 3");
    bytes_writer_fini(&state);
    (void)close(image.fd);
}
END_TEST

static void refused(unsigned index, int code, const char *words)
{
    struct err err = {0};
    ck_assert_int_eq(machine_plug_cpu(machine, index, &err), code);
    ck_assert_str_eq(err.text, words);
}

START_TEST(a_cpu_that_cannot_come_is_refused_with_the_reason)
{
    make(plug_guest, 1, NULL);
    refused(0, BERTH_EEXISTS, "the guest has CPU 0 already");
    refused(2, BERTH_ENOTFOUND, "there is no CPU 2: they are 0 to 1");
    plug(1);
    refused(1, BERTH_EFULL, "the guest has all 2 CPUs that it may have");
    machine = machine_free(machine);
    make(plug_guest, 0, NULL);
    refused(1, BERTH_EFULL, "the guest has all 1 CPUs that it may have");
    run();
    refused(0, BERTH_EFULL, "the guest has all 1 CPUs that it may have");
}
END_TEST

START_TEST(a_guest_that_has_ended_gets_none)
{
    static const uint8_t off[sizeof(plug_guest)] = {0x66, 0xba, 0x00, 0x06,
                                                    0xb0, 0x34, 0xee, 0xf4}; /* sleep */
    make(off, 1, NULL);
    run();
    while (ended == MACHINE_END_NONE) {
        ck_assert_int_ge(poller_step(poller, -1), 0);
    }

    refused(1, BERTH_EPHASE, "the guest has ended");
}
END_TEST

/* 32 bits: wakes all others at once and halts; each that is woken says its number, once.
 */
static const uint8_t wake_all[sizeof(plug_guest)] = {
    0xfc,                                                       /* cld */
    0xbe, 0x33, 0x10, 0x10, 0x00,                               /* mov esi, 0x101033 */
    0xbf, 0x00, 0x80, 0x00, 0x00,                               /* mov edi, 0x8000 */
    0xb9, 0x17, 0x00, 0x00, 0x00,                               /* mov ecx, 23 */
    0xf3, 0xa4,                                                 /* rep movsb */
    0xc7, 0x05, 0xf0, 0x00, 0xe0, 0xfe, 0xff, 0x01, 0x00, 0x00, /* [SVR] = 0x1ff */
    0xc7, 0x05, 0x00, 0x03, 0xe0, 0xfe, 0x00, 0x45, 0x0c, 0x00, /* [ICR] = INIT all */
    0xc7, 0x05, 0x00, 0x03, 0xe0, 0xfe, 0x08, 0x46, 0x0c, 0x00, /* [ICR] = start all */
    0xf4, 0xeb, 0xfd,                                           /* 1: hlt ; jmp 1b */
    /* 33, 16 bits */
    0x66, 0xb8, 0x01, 0x00, 0x00, 0x00, /* mov eax, 1 */
    0x0f, 0xa2,                         /* cpuid */
    0x66, 0xc1, 0xeb, 0x18, 0x88, 0xd8, /* al = ebx >> 24 */
    0x04, 0x30,                         /* add al, '0' */
    0xba, 0xf8, 0x03, 0xee,             /* out 0x3f8, al */
    0xf4, 0xeb, 0xfd,                   /* 1: hlt ; jmp 1b */
};

static unsigned cpus_allowed(void)
{
    const int most =
        kvm_call_number(kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_MAX_VCPUS, "ask", NULL);
    return most > 0 ? (unsigned)most : 0;
}

START_TEST(as_many_cpus_as_there_can_be_all_run_and_are_saved)
{
    struct bytes_writer state;
    struct err err = {0};
    struct machine_plan plan = {.kvm_fd = kvm_fd,
                                .cpu_count = MACHINE_CPUS_MAX,
                                .memory_bytes = 32 * MIB,
                                .initrd_fd = -1,
                                .cmdline = "",
                                .poller = poller,
                                .events = {.ended = on_ended, .reset = on_reset}};
    if (cpus_allowed() < MACHINE_CPUS_MAX) {
        (void)printf("this KVM allows %u CPUs: as many as there can be are not tested\n",
                     cpus_allowed());
        return;
    }
    plan.kernel_fd = micro_kernel(wake_all, sizeof(wake_all));
    ck_assert_msg(machine_new(&plan, &machine, &err) == 0, "%s", err.text);
    ck_assert_msg(machine_load(machine, &err) == 0, "%s", err.text);
    machine_serial(machine)->output = on_output;
    run();

    for (unsigned i = 1; i < MACHINE_CPUS_MAX; i++) {
        await_first((uint8_t)('0' + i));
    }

    pause_it();
    for (unsigned i = 0; i < MACHINE_CPUS_MAX; i++) {
        ck_assert_uint_eq(madt_flags(i), 1);
        ck_assert_uint_eq(atomic_load(&said['0' + i]), i > 0);
    }
    const int image = saved_machine(machine, &state);
    ck_assert_uint_lt(state.size, SNAPSHOT_STATE_MAX);
    run();
    ck_assert_int_eq(ended, MACHINE_END_NONE);
    bytes_writer_fini(&state);
    (void)close(image);
}
END_TEST

START_TEST(more_cpus_than_there_can_be_are_refused)
{
    struct err err = {0};
    const struct machine_plan plan = {.kvm_fd = kvm_fd,
                                      .cpu_count = 2,
                                      .plug_cpus = MACHINE_CPUS_MAX - 1,
                                      .memory_bytes = 32 * MIB,
                                      .kernel_fd = -1,
                                      .initrd_fd = -1,
                                      .cmdline = "",
                                      .poller = poller};

    ck_assert_int_eq(machine_new(&plan, &machine, &err), BERTH_EINVALID);

    ck_assert_str_eq(err.text, "CPUs: 2 and 63 that may come, not 1 to 64");
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
    Suite *suite = suite_create("machine_cpus");
    TCase *tests = tcase_create("machine_cpus");
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, a_cpu_that_comes_is_woken_by_the_guest_and_runs);
    tcase_add_test(tests, they_come_in_any_order);
    tcase_add_test(tests, a_cpu_that_is_not_there_is_never_run_whoever_calls_it);
    tcase_add_test(tests, a_call_from_before_it_came_wakes_no_cpu);
    tcase_add_test(tests,
                   a_cpu_that_comes_while_the_guest_stands_still_starts_when_it_goes_on);
    tcase_add_test(tests, cpus_that_come_in_a_storm_of_pauses_all_run);
    tcase_add_test(tests, a_cpu_that_comes_before_the_guest_began_is_in_its_tables);
    tcase_add_test(tests, a_guest_that_restarts_has_the_cpus_that_came);
    tcase_add_loop_test(tests, a_saved_guest_comes_back_with_the_cpus_that_came, 0,
                        MACHINE_RAM_COUNT);
    tcase_add_test(tests, a_saved_guest_is_not_for_a_machine_of_other_cpus);
    tcase_add_test(tests, a_cpu_that_cannot_come_is_refused_with_the_reason);
    tcase_add_test(tests, a_guest_that_has_ended_gets_none);
    tcase_add_test(tests, as_many_cpus_as_there_can_be_all_run_and_are_saved);
    tcase_add_test(tests, more_cpus_than_there_can_be_are_refused);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
