/* Goal: a guest runs, stands still when told to, and its end has the right reason.
 * Method: kernels of a few bytes on a real KVM (77 without one;
 * tests/system/kvm_machine_test.sh runs this where there is one); every wait is on an
 * event or on what the guest says, with Check's time limit as the bound. */
#include "micro_kernel.h"
#include "support/test_main.h"
#include "vmm/machine.h"
#include "vmm/virtio_block.h"

#include <check.h>

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MIB (UINT64_C(1) << 20)

static int kvm_fd;
static struct poller *poller;
static struct machine *machine;
static atomic_uint said_count;
static atomic_int said_last;
static enum machine_end ended;
static char reason[MACHINE_REASON_SIZE];
static unsigned resets;
static unsigned crash_loads;

static void on_output(void *context, uint8_t byte)
{
    (void)context;
    atomic_store(&said_last, byte);
    atomic_fetch_add(&said_count, 1);
}

static void on_ended(void *context, enum machine_end end, const char *why)
{
    (void)context;
    ended = end;
    (void)snprintf(reason, sizeof(reason), "%s", why);
}

static void on_reset(void *context)
{
    (void)context;
    resets++;
}

static void on_crash_loaded(void *context)
{
    (void)context;
    crash_loads++;
}

static void setup(void)
{
    kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    ck_assert_int_ge(kvm_fd, 0);
    ck_assert_int_eq(poller_new(&poller, NULL), 0);
    machine = NULL;
    ended = MACHINE_END_NONE;
    resets = crash_loads = 0;
    atomic_store(&said_count, 0);
}

static void teardown(void)
{
    machine = machine_free(machine);
    poller_free(poller);
    (void)close(kvm_fd);
}

static void make_events(const void *code,
                        size_t size,
                        unsigned cpu_count,
                        const struct machine_events *events)
{
    struct err err = {0};
    const struct machine_plan plan = {.kvm_fd = kvm_fd,
                                      .cpu_count = cpu_count,
                                      .memory_bytes = 32 * MIB,
                                      .kernel_fd = micro_kernel(code, size),
                                      .initrd_fd = -1,
                                      .cmdline = "",
                                      .poller = poller,
                                      .events = *events};
    ck_assert_msg(machine_new(&plan, &machine, &err) == 0, "%s", err.text);
    machine_serial(machine)->output = on_output;
}

/* A machine that will run these bytes. */
static void make(const void *code, size_t size, unsigned cpu_count)
{
    make_events(code, size, cpu_count,
                &(struct machine_events){.ended = on_ended,
                                         .reset = on_reset,
                                         .crash_loaded = on_crash_loaded});
}

static void run_to_end(void)
{
    ck_assert_int_eq(machine_run(machine, NULL), 0);
    while (ended == MACHINE_END_NONE) {
        ck_assert_int_ge(poller_step(poller, -1), 0);
    }
}

/* mov dx, port ; mov al, value ; out dx, al */
#define OUT(port, value) 0x66, 0xba, (port)&0xff, (port) >> 8, 0xb0, (value), 0xee
#define HALT             0xf4, 0xeb, 0xfd /* 1: hlt ; jmp 1b */
#define SERIAL           0x3f8
#define SLEEP            0x600
#define RESET            0x602
#define PANIC            0x505

START_TEST(a_guest_speaks_and_powers_itself_off)
{
    static const uint8_t code[] = {OUT(SERIAL, 'h'), OUT(SERIAL, 'i'), OUT(SLEEP, 0x34),
                                   HALT};
    make(code, sizeof(code), 1);
    ck_assert_int_eq(machine_state(machine), MACHINE_HELD);

    run_to_end();

    ck_assert_int_eq(ended, MACHINE_END_OFF);
    ck_assert_uint_eq(atomic_load(&said_count), 2);
    ck_assert_int_eq(atomic_load(&said_last), 'i');
    ck_assert_int_eq(machine_state(machine), MACHINE_ENDED);
    ck_assert_int_eq(machine_run(machine, NULL), BERTH_EPHASE);
    ck_assert_int_eq(machine_pause(machine, NULL), BERTH_EPHASE);
}
END_TEST

/* An exception without a table for it is a double fault, then a triple one. */
static const uint8_t triple_fault[] = {0x0f, 0x01, 0x1d, 0, 0, 0, 0, /* lidt [0] */
                                       0x0f, 0x0b};                  /* ud2 */
static const uint8_t panic[] = {OUT(PANIC, 0x01), HALT};

struct end_row {
    const uint8_t *code;
    size_t size;
    enum machine_end end;
    const char *reason;
};

static const struct end_row ends[] = {
    {triple_fault, sizeof(triple_fault), MACHINE_END_SHUTDOWN,
     "CPU 0 of the guest shut down (triple fault)"},
    {panic, sizeof(panic), MACHINE_END_PANIC, "the guest's kernel panicked"},
};

START_TEST(an_end_has_its_reason)
{
    make(ends[_i].code, ends[_i].size, 1);

    run_to_end();

    ck_assert_int_eq(ended, ends[_i].end);
    ck_assert_str_eq(reason, ends[_i].reason);
}
END_TEST

/* Asks for a reset each time; panics if it finds in memory what it left there. */
START_TEST(a_reset_begins_anew_with_clean_memory_and_devices)
{
    static const uint8_t code[] = {
        0x80,
        0x3d,
        0x00,
        0x00,
        0x20,
        0x00,
        0x00, /* cmp byte [0x200000], 0 */
        0x75,
        0x18, /* jne 1f: memory was kept */
        0xc6,
        0x05,
        0x00,
        0x00,
        0x20,
        0x00,
        0x01, /* mov byte [0x200000], 1 */
        OUT(SERIAL, 's'),
        OUT(RESET, 0x01),
        HALT,
        OUT(PANIC, 0x01), /* 1: */
        HALT,
    };
    make(code, sizeof(code), 2);
    ck_assert_int_eq(machine_run(machine, NULL), 0);

    while (resets < 3) {
        ck_assert_int_ge(poller_step(poller, -1), 0);
    }

    ck_assert_int_eq(ended, MACHINE_END_NONE);
    ck_assert_uint_ge(atomic_load(&said_count), 3);
}
END_TEST

/* Panics if the first PIC has an interrupt of the serial port; has one raised there, and
 * asks for a reset. */
START_TEST(a_reset_forgets_interrupts_that_nobody_took)
{
    static const uint8_t code[] = {
        0xb0,
        0x0a,
        0xe6,
        0x20, /* out 0x20, 0x0a: what was asked for */
        0xe4,
        0x20,
        0xa8,
        0x10,
        0x75,
        0x11,                  /* in al, 0x20 ; test al, 0x10 ; jne 1f */
        OUT(SERIAL + 1, 0x02), /* an interrupt when it can send: now */
        OUT(RESET, 0x01),
        HALT,
        OUT(PANIC, 0x01), /* 1: */
        HALT,
    };
    make(code, sizeof(code), 1);
    ck_assert_int_eq(machine_run(machine, NULL), 0);

    while (resets < 3 && ended == MACHINE_END_NONE) {
        ck_assert_int_ge(poller_step(poller, -1), 0);
    }

    ck_assert_uint_eq(resets, 3);
}
END_TEST

/* Leaves protected mode as Linux does before it jumps to where a BIOS begins. */
START_TEST(a_jump_to_the_bios_is_a_reset)
{
    static const uint8_t code[] = {
        0x0f, 0x01, 0x15, 0x20, 0x10, 0x10, 0x00,    /* 00: lgdt [0x101020] */
        0x0f, 0x20, 0xc0,                            /* 07: mov eax, cr0 */
        0x24, 0xfe,                                  /* 0a: and al, 0xfe */
        0xea, 0x13, 0x10, 0x00, 0x00, 0x08, 0x00,    /* 0c: jmp 8:0x1013, base 1 MiB */
        0x0f, 0x22, 0xc0,                            /* 13: (16 bits) mov cr0, eax */
        0xea, 0xf0, 0xff, 0x00, 0xf0,                /* 16: jmp 0xf000:0xfff0 */
        0x90, 0x90, 0x90, 0x90, 0x90,                /* 1b */
        0x0f, 0x00,                                  /* 20: limit 15 */
        0x28, 0x10, 0x10, 0x00, 0x90, 0x90,          /* 22: base 0x101028 */
        0,    0,    0,    0,    0,    0,    0,    0, /* 28: null */
        0xff, 0xff, 0,    0,    0x10, 0x9b, 0,    0, /* 30: 16-bit code at 1 MiB */
    };
    make(code, sizeof(code), 1);
    ck_assert_int_eq(machine_run(machine, NULL), 0);

    while (resets == 0 && ended == MACHINE_END_NONE) {
        ck_assert_int_ge(poller_step(poller, -1), 0);
    }

    ck_assert_uint_eq(resets, 1);
}
END_TEST

/* Says 'x' for ever. */
static const uint8_t chatter[] = {0x66, 0xba, 0xf8, 0x03, 0xb0, 'x', /* dx, al */
                                  0xee, 0xeb, 0xfd};                 /* 1: out; jmp 1b */

static void wait_for_more(void)
{
    unsigned before = atomic_load(&said_count);
    while (atomic_load(&said_count) == before) {
        (void)sched_yield();
    }
}

START_TEST(a_paused_guest_does_nothing_and_goes_on)
{
    make(chatter, sizeof(chatter), 2);
    ck_assert_int_eq(machine_run(machine, NULL), 0);

    for (unsigned i = 0; i < 20; i++) {
        wait_for_more();
        ck_assert_int_eq(machine_pause(machine, NULL), 0);
        ck_assert_int_eq(machine_state(machine), MACHINE_PAUSED);
        unsigned still = atomic_load(&said_count);
        ck_assert_int_eq(poller_step(poller, 20), 0); /* time to do wrong */
        ck_assert_uint_eq(atomic_load(&said_count), still);
        ck_assert_int_eq(machine_run(machine, NULL), 0);
    }
    wait_for_more();
    ck_assert_int_eq(ended, MACHINE_END_NONE);
}
END_TEST

/* Two disks, the first of which cannot, and each waits for the other's flush to begin. */
struct last_disk {
    struct virtual_disk disk;
    unsigned flushes;
    int result;
};

static atomic_uint last_begun;

static int last_flush(struct virtual_disk *disk)
{
    struct last_disk *last = (struct last_disk *)(void *)disk;
    last->flushes++;
    atomic_fetch_add(&last_begun, 1);
    while (atomic_load(&last_begun) < 2) {
        (void)sched_yield();
    }
    return last->result;
}

static void last_free(struct virtual_disk *disk)
{
    (void)disk; /* the test's own */
}

START_TEST(a_machine_at_its_end_has_all_disks_flushed_at_a_time)
{
    static const uint8_t code[] = {OUT(SERIAL, 'x'), HALT};
    static const struct disk_ops ops = {
        .kind = "last", .flush = last_flush, .free = last_free};
    static struct last_disk disks[2];
    const struct virtio_block_spec spec = {
        .serial = "s", .queue_count = 1, .threads = {.count = 1}};
    atomic_store(&last_begun, 0);
    make(code, sizeof(code), 1);
    for (unsigned i = 0; i < 2; i++) {
        const struct virtio_place place = machine_place(machine);
        struct virtio_device *device = NULL;
        disks[i] = (struct last_disk){.disk = {.ops = &ops, .size_bytes = 4096},
                                      .result = i == 0 ? -EIO : 0};
        ck_assert_int_eq(virtio_block_new(&place, &spec, &disks[i].disk, &device, NULL),
                         0);
        ck_assert_int_eq(
            machine_add_virtio(machine, device, i == 0 ? "first" : "second", NULL), 0);
    }
    if (_i == 1) {
        ck_assert_int_eq(machine_run(machine, NULL), 0);
    }

    machine_halt(machine);

    ck_assert_uint_eq(disks[0].flushes, 1);
    ck_assert_uint_eq(disks[1].flushes, 1);
}
END_TEST

START_TEST(a_reset_from_outside_reaches_a_guest_that_does_not_listen)
{
    static const uint8_t deaf[] = {0xfa, 0xeb, 0xfe}; /* cli ; 1: jmp 1b */
    make(deaf, sizeof(deaf), 1);
    ck_assert_int_eq(machine_run(machine, NULL), 0);

    machine_reset(machine);

    while (resets == 0) {
        ck_assert_int_ge(poller_step(poller, -1), 0);
    }
    ck_assert_int_eq(machine_state(machine), MACHINE_RUNNING);
}
END_TEST

/* What a CPU of the guest that is to restart still asks for, on its way out. */
struct late_row {
    uint16_t port;
    uint8_t value;
    enum machine_end end; /* of the new guest */
};

static const struct late_row lates[] = {
    {PANIC, 0x01, MACHINE_END_NONE},
    {PANIC, 0x02, MACHINE_END_NONE},
    {RESET, 0x01, MACHINE_END_NONE},
    {SLEEP, 0x34, MACHINE_END_OFF},
};

static const struct late_row *late; /* NULL: it was asked */
static struct device_ops late_ops;
static void (*serial_stop)(struct device *device);

/* When devices are stopped the request has been taken. */
static void stop_late(struct device *device)
{
    const struct late_row *row = late;
    late = NULL;
    if (row != NULL) {
        io_bus_write(machine_vcpu(machine, 0)->bus, IO_PORTS, row->port, &row->value, 1);
    }
    if (serial_stop != NULL) {
        serial_stop(device);
    }
}

START_TEST(what_the_old_guest_asks_on_its_way_out_is_nothing_to_the_new_one)
{
    make(chatter, sizeof(chatter), 2);
    struct device *device = &machine_serial(machine)->device;
    late = &lates[_i];
    late_ops = *device->ops;
    serial_stop = late_ops.stop;
    late_ops.stop = stop_late;
    device->ops = &late_ops;
    ck_assert_int_eq(machine_run(machine, NULL), 0);
    wait_for_more();

    machine_reset(machine);
    while (resets == 0) {
        ck_assert_int_ge(poller_step(poller, -1), 0);
    }
    while (poller_step(poller, 0) > 0) {
    }

    ck_assert_ptr_null(late);
    ck_assert_int_eq(ended, lates[_i].end);
    ck_assert_uint_eq(resets, 1);
    ck_assert_uint_eq(crash_loads, 0);
    if (ended == MACHINE_END_NONE) {
        wait_for_more();
    }
}
END_TEST

static atomic_uint began_count;

static int on_began(void *context, struct err *err)
{
    (void)context;
    atomic_fetch_add(&began_count, 1);
    return err_set(err, BERTH_EPHASE, "no jail");
}

START_TEST(a_cpu_whose_thread_cannot_begin_runs_no_guest)
{
    make_events(chatter, sizeof(chatter), 1,
                &(struct machine_events){.ended = on_ended, .thread_began = on_began});
    ck_assert_int_eq(machine_start_threads(machine, NULL), 0);
    while (atomic_load(&began_count) == 0) {
        (void)sched_yield();
    }
    for (unsigned i = 0; i < 20; i++) {
        ck_assert_int_eq(machine_run(machine, NULL), 0);
        for (unsigned turn = 0; turn < 1000; turn++) { /* time to do wrong */
            (void)sched_yield();
        }
        ck_assert_int_eq(machine_pause(machine, NULL), 0);
    }

    while (ended == MACHINE_END_NONE) {
        ck_assert_int_ge(poller_step(poller, -1), 0);
    }

    ck_assert_int_eq(ended, MACHINE_END_BROKEN);
    ck_assert_str_eq(reason, "no jail");
    ck_assert_uint_eq(atomic_load(&said_count), 0);
}
END_TEST

START_TEST(a_guest_that_panics_into_its_dump_kernel_goes_on)
{
    static const uint8_t code[] = {OUT(PANIC, 0x02), OUT(SERIAL, 'd'), OUT(SLEEP, 0x34),
                                   HALT};
    make(code, sizeof(code), 1);

    run_to_end();

    ck_assert_uint_eq(crash_loads, 1);
    ck_assert_int_eq(ended, MACHINE_END_OFF);
    ck_assert_int_eq(atomic_load(&said_last), 'd');
}
END_TEST

START_TEST(the_power_button_is_read_by_the_guest)
{
    /* 1: in al, 0x603 ; test al, al ; jz 1b ; sleep */
    static const uint8_t code[] = {
        0x66, 0xba, 0x03, 0x06, 0xec, 0x84, 0xc0, 0x74, 0xfb, OUT(SLEEP, 0x34), HALT};
    make(code, sizeof(code), 1);
    ck_assert_int_eq(machine_run(machine, NULL), 0);

    machine_press_power(machine);

    while (ended == MACHINE_END_NONE) {
        ck_assert_int_ge(poller_step(poller, -1), 0);
    }
    ck_assert_int_eq(ended, MACHINE_END_OFF);
}
END_TEST

/* As a kernel that boots does: the line is masked when the button is pressed. */
START_TEST(the_power_button_reaches_a_guest_that_listens_late)
{
    static const uint8_t code[] = {0xc7,
                                   0x05,
                                   0xf0,
                                   0x00,
                                   0xe0,
                                   0xfe,
                                   0xff,
                                   0x01,
                                   0x00,
                                   0x00, /* [SVR] = 0x1ff */
                                   0xc7,
                                   0x05,
                                   0x00,
                                   0x00,
                                   0xc0,
                                   0xfe,
                                   0x22,
                                   0x00,
                                   0x00,
                                   0x00, /* pin 9 */
                                   0xc7,
                                   0x05,
                                   0x10,
                                   0x00,
                                   0xc0,
                                   0xfe,
                                   0x40,
                                   0x00,
                                   0x00,
                                   0x00, /* is vector 0x40 */
                                   0xa1,
                                   0x20,
                                   0x02,
                                   0xe0,
                                   0xfe, /* 1: mov eax, [IRR of 0x40 to 0x5f] */
                                   0xa8,
                                   0x01,
                                   0x74,
                                   0xf7, /* test al, 1 ; jz 1b */
                                   0x66,
                                   0xba,
                                   0x03,
                                   0x06,
                                   0xec,
                                   0x84,
                                   0xc0, /* in al, 0x603 ; test al, al */
                                   0x74,
                                   0xfe, /* 2: jz 2b */
                                   OUT(SLEEP, 0x34),
                                   HALT};
    make(code, sizeof(code), 1);

    machine_press_power(machine);
    run_to_end();

    ck_assert_int_eq(ended, MACHINE_END_OFF);
}
END_TEST

START_TEST(what_no_device_answers_reads_as_ones)
{
    /* in al, 0x80 ; inc al ; jnz 1f ; cmp dword [0xd0000000], -1 ; jne 1f ; sleep ; 1:
     * panic */
    static const uint8_t code[] = {0xe4, 0x80,
                                   0xfe, 0xc0,
                                   0x75, 0x13,
                                   0x83, 0x3d,
                                   0x00, 0x00,
                                   0x00, 0xd0,
                                   0xff, 0x75,
                                   0x0a, OUT(SLEEP, 0x34),
                                   HALT, OUT(PANIC, 0x01),
                                   HALT};
    make(code, sizeof(code), 1);

    run_to_end();

    ck_assert_int_eq(ended, MACHINE_END_OFF);
}
END_TEST

struct plan_row {
    unsigned cpu_count;
    uint64_t memory_bytes;
    const char *words;
};

static const struct plan_row plans[] = {
    {0, 64 * MIB, "CPUs: 0, not 1 to 64"},
    {65, 64 * MIB, "CPUs: 65, not 1 to 64"},
    {1, 31 * MIB, "memory: "},
    {1, 33 * MIB, "memory: "},
    {1, UINT64_C(512) << 30, "memory: "},
};

START_TEST(a_machine_that_cannot_be_is_refused)
{
    struct err err = {0};
    const struct machine_plan plan = {.kvm_fd = kvm_fd,
                                      .cpu_count = plans[_i].cpu_count,
                                      .memory_bytes = plans[_i].memory_bytes,
                                      .kernel_fd = -1,
                                      .initrd_fd = -1,
                                      .cmdline = "",
                                      .poller = poller};

    ck_assert_int_eq(machine_new(&plan, &machine, &err), BERTH_EINVALID);

    ck_assert_msg(strstr(err.text, plans[_i].words) == err.text, "%s", err.text);
    ck_assert_ptr_null(machine);
}
END_TEST

START_TEST(a_kernel_is_looked_at_when_it_is_loaded)
{
    static const uint8_t no_code[] = {0xf4};
    struct micro_elf elf = micro_elf_make(sizeof(no_code));
    struct err err = {0};
    elf.header.e_machine = EM_386;
    const struct machine_plan plan = {
        .kvm_fd = kvm_fd,
        .cpu_count = 1,
        .memory_bytes = 32 * MIB,
        .kernel_fd = micro_kernel_file(&elf, no_code, sizeof(no_code)),
        .initrd_fd = -1,
        .cmdline = "",
        .poller = poller};

    ck_assert_int_eq(machine_new(&plan, &machine, &err), 0);
    ck_assert_int_eq(machine_load(machine, &err), BERTH_EINVALID);

    ck_assert_msg(strstr(err.text, "not an ELF file for x86-64") != NULL, "%s", err.text);
    (void)close(plan.kernel_fd);
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
    Suite *suite = suite_create("machine");
    TCase *tests = tcase_create("machine");
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, a_guest_speaks_and_powers_itself_off);
    tcase_add_loop_test(tests, an_end_has_its_reason, 0, sizeof(ends) / sizeof(ends[0]));
    tcase_add_test(tests, a_reset_begins_anew_with_clean_memory_and_devices);
    tcase_add_test(tests, a_reset_forgets_interrupts_that_nobody_took);
    tcase_add_test(tests, a_jump_to_the_bios_is_a_reset);
    tcase_add_test(tests, a_paused_guest_does_nothing_and_goes_on);
    tcase_add_loop_test(tests, a_machine_at_its_end_has_all_disks_flushed_at_a_time, 0,
                        2);
    tcase_add_test(tests, a_reset_from_outside_reaches_a_guest_that_does_not_listen);
    tcase_add_loop_test(tests,
                        what_the_old_guest_asks_on_its_way_out_is_nothing_to_the_new_one,
                        0, sizeof(lates) / sizeof(lates[0]));
    tcase_add_test(tests, a_cpu_whose_thread_cannot_begin_runs_no_guest);
    tcase_add_test(tests, a_guest_that_panics_into_its_dump_kernel_goes_on);
    tcase_add_test(tests, the_power_button_is_read_by_the_guest);
    tcase_add_test(tests, the_power_button_reaches_a_guest_that_listens_late);
    tcase_add_test(tests, what_no_device_answers_reads_as_ones);
    tcase_add_test(tests, a_kernel_is_looked_at_when_it_is_loaded);
    tcase_add_loop_test(tests, a_machine_that_cannot_be_is_refused, 0,
                        sizeof(plans) / sizeof(plans[0]));
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
