/* Goal: a guest that was saved goes on where it was, whole; a state that is cut, changed,
 * or of another machine is refused before anything is taken. Method: streams against
 * parts that have no KVM behind them, everywhere; a counting guest of a few bytes on a
 * real KVM where there is one (tests/system/kvm_machine_test.sh). */
#include "base/cleanup.h"
#include "image_gate.h"
#include "micro_kernel.h"
#include "saved_machine.h"
#include "support/test_main.h"
#include "vmm/machine.h"
#include "vmm/machine_layout.h"
#include "vmm/machine_state.h"
#include "vmm/power_control.h"
#include "vmm/ram_image.h"
#include "vmm/ram_loader.h"
#include "vmm/serial_port.h"
#include "vmm/state_stream.h"
#include "watch_turns.h"

#include <check.h>

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MIB (UINT64_C(1) << 20)

/* ---- without KVM ---- */

static struct cpu_table table;
static struct vcpu vcpu; /* its descriptor is none */
static struct device *devices[2];
static struct machine_parts parts;
static struct bytes_writer stream;
static unsigned ram_taken;

static void parts_setup(void)
{
    struct serial_port *serial;
    struct power_control *power;
    ck_assert_int_eq(serial_port_new(&serial), 0);
    ck_assert_int_eq(power_control_new(&power), 0);
    devices[0] = &serial->device;
    devices[1] = &power->device;
    table =
        (struct cpu_table){.count = 1, .entries = {{.function = 1, .ecx = 5, .edx = 6}}};
    vcpu = (struct vcpu){.fd = -1};
    parts = (struct machine_parts){.kvm_fd = -1,
                                   .vm_fd = -1,
                                   .memory_bytes = 64 * MIB,
                                   .cpu_table = &table,
                                   .vcpus = &vcpu,
                                   .cpu_count = 1,
                                   .devices = devices,
                                   .device_count = 2};
    bytes_writer_init(&stream, MIB);
    ram_taken = 0;
}

static void parts_teardown(void)
{
    bytes_writer_fini(&stream);
    device_free(devices[0]);
    device_free(devices[1]);
}

static int take_ram(void *context, struct bytes_reader *section, struct err *err)
{
    (void)context;
    (void)err;
    ck_assert_uint_eq(bytes_read_u32(section), 7);
    ram_taken++;
    return 0;
}

static void put(enum state_section_id id, struct bytes_writer *section)
{
    const struct state_section put = {
        .id = id, .version = 1, .data = section->data, .size = section->size};
    state_stream_put(&stream, &put);
    bytes_writer_fini(section);
}

static void put_machine(uint32_t cpus, uint64_t memory_bytes, uint32_t device_count)
{
    struct bytes_writer section;
    bytes_writer_init(&section, MIB);
    bytes_write_u32(&section, cpus);
    bytes_write_u64(&section, memory_bytes);
    bytes_write_u32(&section, device_count);
    bytes_write_u32(&section, 0);
    cpu_table_write(&table, &section);
    put(STATE_MACHINE, &section);
}

static void put_device(struct device *device)
{
    struct bytes_writer section;
    bytes_writer_init(&section, MIB);
    device_save(device, &section);
    put(STATE_DEVICE, &section);
}

static void put_ram(void)
{
    struct bytes_writer section;
    bytes_writer_init(&section, MIB);
    bytes_write_u32(&section, 7);
    put(STATE_MEMORY, &section);
}

static int restored(size_t size, struct err *err)
{
    return machine_state_restore(&parts, stream.data, size, take_ram, NULL, err);
}

/* All that does without KVM. */
static void put_some(void)
{
    state_stream_begin(&stream);
    put_machine(1, 64 * MIB, 2);
    put_device(devices[0]);
    put_device(devices[1]);
    put_ram();
    state_stream_end(&stream, 4);
}

START_TEST(a_state_cut_anywhere_is_refused_before_anything_is_taken)
{
    put_some();
    for (size_t size = 0; size < stream.size; size++) {
        ck_assert_int_eq(restored(size, NULL), BERTH_ECORRUPT);
        ck_assert_uint_eq(ram_taken, 0);
    }
}
END_TEST

START_TEST(a_state_with_any_bit_turned_is_refused_before_anything_is_taken)
{
    put_some();
    for (size_t bit = 0; bit < stream.size * 8; bit++) {
        stream.data[bit / 8] = (uint8_t)(stream.data[bit / 8] ^ 1u << bit % 8);
        ck_assert_int_lt(restored(stream.size, NULL), 0);
        ck_assert_uint_eq(ram_taken, 0);
        stream.data[bit / 8] = (uint8_t)(stream.data[bit / 8] ^ 1u << bit % 8);
    }
}
END_TEST

START_TEST(a_state_that_lacks_a_part_is_refused)
{
    struct err err = {0};
    put_some();

    ck_assert_int_eq(restored(stream.size, &err), BERTH_ECORRUPT);

    ck_assert_uint_eq(ram_taken, 1); /* all that was there was fine */
    ck_assert_str_eq(err.text, "the state is not of a whole machine");
}
END_TEST

static const struct {
    uint32_t cpus;
    uint64_t memory_bytes;
    uint32_t devices;
    const char *text;
} shapes[] = {
    {2, 64 * MIB, 2, "the saved machine has 2 CPUs and this one has 1"},
    {1, 32 * MIB, 2, "the saved machine has 32MiB of RAM and this one has 64MiB"},
    {1, 64 * MIB, 3, "the saved machine has 3 devices and this one has 2"},
};

START_TEST(a_machine_of_another_shape_is_refused)
{
    struct err err = {0};
    state_stream_begin(&stream);
    put_machine(shapes[_i].cpus, shapes[_i].memory_bytes, shapes[_i].devices);
    state_stream_end(&stream, 1);

    ck_assert_int_eq(restored(stream.size, &err), BERTH_EINVALID);

    ck_assert_str_eq(err.text, shapes[_i].text);
}
END_TEST

START_TEST(a_host_with_another_cpu_is_refused)
{
    struct err err = {0};
    put_some();
    table.entries[0].ecx = 4;

    ck_assert_int_eq(restored(stream.size, &err), BERTH_EUNSUPPORTED);

    ck_assert_ptr_nonnull(strstr(err.text, "CPUID 0x1.0 ECX was 0x5 and would be 0x4"));
}
END_TEST

START_TEST(parts_in_the_wrong_place_are_refused)
{
    struct err err = {0};
    state_stream_begin(&stream);
    put_device(devices[0]);
    state_stream_end(&stream, 1);
    ck_assert_int_eq(restored(stream.size, &err), BERTH_ECORRUPT);
    ck_assert_str_eq(err.text, "the state does not begin as it should");
    bytes_writer_fini(&stream);

    state_stream_begin(&stream);
    put_machine(1, 64 * MIB, 2);
    put_device(devices[1]);
    state_stream_end(&stream, 2);
    ck_assert_int_eq(restored(stream.size, &err), BERTH_EINVALID);
    ck_assert_ptr_nonnull(strstr(err.text, "cannot take the state of another"));
    bytes_writer_fini(&stream);

    state_stream_begin(&stream);
    put_machine(1, 64 * MIB, 2);
    put_device(devices[0]);
    put_device(devices[1]);
    put_device(devices[1]);
    state_stream_end(&stream, 4);
    ck_assert_int_eq(restored(stream.size, &err), BERTH_ECORRUPT);
    ck_assert_str_eq(err.text, "there is one device too many");
}
END_TEST

/* RAM, say, is asked for once of whoever fills it. */
START_TEST(a_part_that_comes_twice_is_refused)
{
    struct err err = {0};
    state_stream_begin(&stream);
    put_machine(1, 64 * MIB, 2);
    put_ram();
    if (_i == 0) {
        put_ram();
    } else {
        put_machine(1, 64 * MIB, 2);
    }
    state_stream_end(&stream, 3);

    ck_assert_int_eq(restored(stream.size, &err), BERTH_ECORRUPT);

    ck_assert_str_eq(err.text,
                     _i == 0 ? "section 5 is there twice" : "section 1 is there twice");
    ck_assert_uint_eq(ram_taken, 1);
}
END_TEST

/* ---- with KVM ---- */

static int kvm_fd;
static struct poller *poller;
static struct machine *machine;
static atomic_uint said_count;
static atomic_int said_last;
static atomic_bool said_wrong;
static unsigned resets;
static unsigned crashes;
static bool may_break; /* else an end is a failure */
static char broke[MACHINE_REASON_SIZE];

/* The guest counts: each byte is one more than the one before. */
static void on_output(void *context, uint8_t byte)
{
    (void)context;
    const uint8_t last = (uint8_t)atomic_load(&said_last);
    if (byte != (uint8_t)(last + 1)) {
        atomic_store(&said_wrong, true);
    }
    atomic_store(&said_last, byte);
    atomic_fetch_add(&said_count, 1);
}

static void on_ended(void *context, enum machine_end end, const char *reason)
{
    (void)context;
    ck_assert_msg(may_break && end == MACHINE_END_BROKEN, "%s", reason);
    (void)snprintf(broke, sizeof(broke), "%s", reason);
}

static void on_reset(void *context)
{
    (void)context;
    resets++;
}

static void on_crash(void *context)
{
    (void)context;
    crashes++;
}

/* inc byte [0x200000]; mov al, [0x200000]; out 0x3f8, al; for ever. What it counts is in
 * RAM, where to in DX. */
static const uint8_t counting[] = {0x66, 0xba, 0xf8, 0x03,             /* mov dx, 0x3f8 */
                                   0xfe, 0x05, 0x00, 0x00, 0x20, 0x00, /* 1: inc */
                                   0xa0, 0x00, 0x00, 0x20, 0x00,       /* mov al */
                                   0xee, 0xeb, 0xf2};                  /* out ; jmp 1b */

/* Whether lazy RAM is: not every host or user has what it needs. */
static bool may_be_lazy(void)
{
    struct guest_memory none;
    struct ram_loader *loader = NULL;
    const struct ram_loader_events events = {0};
    guest_memory_init(&none);
    const int r = ram_loader_new(&none, -1, 0, &events, &loader, NULL);
    ram_loader_free(loader);
    return r == 0;
}

static void machine_code(const void *code,
                         size_t size,
                         unsigned cpu_count,
                         uint64_t mib,
                         const struct machine_image *image)
{
    struct err err = {0};
    const struct machine_plan plan = {
        .kvm_fd = kvm_fd,
        .cpu_count = cpu_count,
        .memory_bytes = mib * MIB,
        .kernel_fd = micro_kernel(code, size),
        .initrd_fd = -1,
        .cmdline = "",
        .image = image,
        .poller = poller,
        .events = {.ended = on_ended, .reset = on_reset, .crash_loaded = on_crash}};
    ck_assert_msg(machine_new(&plan, &machine, &err) == 0, "%s", err.text);
    ck_assert_msg(machine_load(machine, &err) == 0, "%s", err.text);
    machine_serial(machine)->output = on_output;
}

static void
machine_make(unsigned cpu_count, uint64_t mib, const struct machine_image *image)
{
    machine_code(counting, sizeof(counting), cpu_count, mib, image);
}

static void wait_for_more(void)
{
    unsigned before = atomic_load(&said_count);
    while (atomic_load(&said_count) < before + 300) { /* once around the byte */
        (void)sched_yield();
    }
}

static int save_and_end(struct bytes_writer *state)
{
    int image = saved_machine(machine, state);
    machine = machine_free(machine);
    return image;
}

static void kvm_setup(void)
{
    kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    ck_assert_int_ge(kvm_fd, 0);
    ck_assert_int_eq(poller_new(&poller, NULL), 0);
    machine = NULL;
    resets = 0;
    crashes = 0;
    may_break = false;
    broke[0] = '\0';
    atomic_store(&said_count, 0);
    atomic_store(&said_last, 0);
    atomic_store(&said_wrong, false);
}

static void kvm_teardown(void)
{
    watch_turns_disown();
    image_gate_reset();
    machine = machine_free(machine);
    poller_free(poller);
    (void)close(kvm_fd);
}

/* _i: an enum machine_ram. */
START_TEST(a_guest_goes_on_where_it_was_time_and_again)
{
    machine_make(2, 32, NULL);
    ck_assert_int_eq(machine_run(machine, NULL), 0);

    for (unsigned round = 0; round < 5; round++) {
        struct machine_image image = {.offset = 2 * MIB, .ram = (enum machine_ram)_i};
        struct bytes_writer state;
        struct err err = {0};
        wait_for_more();
        ck_assert_int_eq(machine_save(machine, &stream, NULL), BERTH_EPHASE);
        ck_assert_int_eq(machine_pause(machine, NULL), 0);
        image.fd = save_and_end(&state);
        machine_make(2, 32, &image);
        ck_assert_int_eq(machine_run(machine, NULL), BERTH_EPHASE);
        ck_assert_int_eq(machine_save(machine, &stream, NULL), BERTH_EPHASE);

        ck_assert_msg(machine_restore(machine, state.data, state.size, &err) == 0, "%s",
                      err.text);
        ck_assert_int_eq(machine_run(machine, NULL), 0);

        wait_for_more();
        ck_assert(!atomic_load(&said_wrong));
        bytes_writer_fini(&state);
        (void)close(image.fd);
    }
}
END_TEST

static void generation_read(uint8_t ret_bytes[16])
{
    ck_assert_int_eq(
        guest_memory_read(machine_memory(machine), GENERATION_AT, ret_bytes, 16), 0);
}

START_TEST(each_copy_of_a_guest_is_another_generation)
{
    struct machine_image image = {.offset = 2 * MIB, .ram = (enum machine_ram)_i};
    struct bytes_writer state;
    uint8_t generations[3][16];
    machine_make(1, 32, NULL);
    generation_read(generations[0]);
    image.fd = save_and_end(&state);

    for (unsigned i = 1; i < 3; i++) {
        machine_make(1, 32, &image);
        ck_assert_int_eq(machine_restore(machine, state.data, state.size, NULL), 0);
        generation_read(generations[i]);
        for (unsigned k = 0; k < i; k++) {
            ck_assert_mem_ne(generations[i], generations[k], 16);
        }
        machine = machine_free(machine);
    }

    bytes_writer_fini(&state);
    (void)close(image.fd);
}
END_TEST

START_TEST(a_reset_of_a_clone_begins_anew_and_leaves_its_image_alone)
{
    struct machine_image image = {.offset = 2 * MIB, .ram = (enum machine_ram)_i};
    struct bytes_writer state;
    uint8_t counted;
    uint8_t still;
    machine_make(1, 32, NULL);
    ck_assert_int_eq(machine_run(machine, NULL), 0);
    wait_for_more();
    ck_assert_int_eq(machine_pause(machine, NULL), 0);
    image.fd = save_and_end(&state);
    ck_assert_int_eq(pread(image.fd, &counted, 1, (off_t)(4 * MIB)), 1);
    machine_make(1, 32, &image);
    ck_assert_int_eq(machine_restore(machine, state.data, state.size, NULL), 0);
    ck_assert_int_eq(machine_run(machine, NULL), 0);
    wait_for_more();

    machine_reset(machine);
    while (resets == 0) {
        ck_assert_int_ge(poller_step(poller, -1), 0);
    }

    wait_for_more(); /* its kernel is there again */
    ck_assert_int_eq(pread(image.fd, &still, 1, (off_t)(4 * MIB)), 1);
    ck_assert_uint_eq(still, counted);
    bytes_writer_fini(&state);
    (void)close(image.fd);
}
END_TEST

/* How the image is harmed after the machine has come in, or before: where its guest goes
 * on counting, or where it never is. */
enum damage { DAMAGE_COUNTER = 0, DAMAGE_FAR, DAMAGE_CUT, DAMAGE_COUNT };

static void image_harm(int fd, enum damage damage)
{
    static const uint64_t places[] = {
        [DAMAGE_COUNTER] = 4 * MIB + 9, [DAMAGE_FAR] = 2 * MIB + 31 * MIB + 9};
    if (damage == DAMAGE_CUT) {
        ck_assert_int_eq(ftruncate(fd, (off_t)(4 * MIB)), 0);
    } else {
        ck_assert_int_eq(pwrite(fd, "x", 1, (off_t)places[damage]), 1);
    }
}

START_TEST(a_guest_never_sees_lazy_ram_that_is_damaged)
{
    struct machine_image image = {.offset = 2 * MIB, .ram = MACHINE_RAM_LAZY};
    struct bytes_writer state;
    struct machine_fill fill;
    struct err err = {0};
    machine_make(2, 32, NULL);
    ck_assert_int_eq(machine_run(machine, NULL), 0);
    wait_for_more();
    ck_assert_int_eq(machine_pause(machine, NULL), 0);
    const unsigned said = atomic_load(&said_count);
    image.fd = save_and_end(&state);
    may_break = true;

    image_harm(image.fd, (enum damage)_i);
    machine_make(2, 32, &image);
    ck_assert_int_eq(machine_restore(machine, state.data, state.size, NULL), 0);
    (void)machine_run(machine, NULL); /* it may know already that it cannot */
    while (broke[0] == '\0') {
        ck_assert_int_ge(poller_step(poller, -1), 0);
    }

    ck_assert_ptr_nonnull(strstr(broke, "the saved RAM is damaged within 2 MiB from 0x"));
    ck_assert_int_eq(machine_state(machine), MACHINE_ENDED);
    machine_fill(machine, &fill);
    ck_assert(fill.is_damaged);
    ck_assert_int_eq(machine_run(machine, &err), BERTH_ECORRUPT);
    ck_assert_ptr_nonnull(strstr(err.text, broke)); /* it still says why */
    ck_assert_uint_lt(fill.done_bytes, fill.total_bytes);
    ck_assert(!atomic_load(&said_wrong));
    if (_i != DAMAGE_FAR) { /* it may have been stopped between the inc and the out */
        ck_assert_uint_le(atomic_load(&said_count), said + 1);
    }
    bytes_writer_fini(&state);
    (void)close(image.fd);
}
END_TEST

/* Ask for a reset, or tell of a crash that dumps itself; then stand. */
static const uint8_t asks[][10] = {
    {0x66, 0xba, 0x02, 0x06, 0xb0, 0x01, 0xee, 0xf4, 0xeb, 0xfd},
    {0x66, 0xba, 0x05, 0x05, 0xb0, 0x02, 0xee, 0xf4, 0xeb, 0xfd},
};

static void mark_far(void)
{
    struct guest_memory *memory =
        (struct guest_memory *)(uintptr_t)machine_memory(machine);
    ck_assert_int_eq(guest_memory_write(memory, 31 * MIB, "far", 3), 0);
}

static void wait_for_damage(void)
{
    struct machine_fill fill;
    do {
        (void)sched_yield();
        machine_fill(machine, &fill);
    } while (!fill.is_damaged);
}

/* _i: what the guest asks for. */
START_TEST(damage_ends_a_machine_whose_guest_asks_for_something_else)
{
    struct machine_image image = {.offset = 2 * MIB, .ram = MACHINE_RAM_LAZY};
    struct bytes_writer state;
    machine_code(asks[_i], sizeof(asks[_i]), 1, 32, NULL);
    mark_far();
    image.fd = save_and_end(&state);
    image_harm(image.fd, DAMAGE_FAR);
    may_break = true;
    image_gate_close(2 * MIB + 30 * MIB, 2 * MIB + 32 * MIB);
    machine_code(asks[_i], sizeof(asks[_i]), 1, 32, &image);
    ck_assert_int_eq(machine_restore(machine, state.data, state.size, NULL), 0);
    ck_assert_int_eq(machine_run(machine, NULL), 0);
    while (counter_read(&machine_vcpu(machine, 0)->exits[VCPU_EXIT_PORT].count) == 0) {
        (void)sched_yield();
    }

    image_gate_open(); /* nobody has looked at what the guest wants by now */
    wait_for_damage();
    while (broke[0] == '\0') {
        ck_assert_int_ge(poller_step(poller, -1), 0);
    }

    ck_assert_int_eq(machine_state(machine), MACHINE_ENDED);
    ck_assert_uint_eq(resets + crashes, 0);
    bytes_writer_fini(&state);
    (void)close(image.fd);
}
END_TEST

/* Once the main thread waits for another one. */
static void *open_late(void *context)
{
    char path[64];
    char text[16] = "";
    (void)snprintf(path, sizeof(path), "/proc/self/task/%d/syscall", (int)getpid());
    while (strtol(text, NULL, 10) != SYS_futex) {
        CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0 || read(fd, text, sizeof(text) - 1) < 0) {
            break; /* not everywhere may it see that: then the order is any */
        }
    }
    image_gate_open();
    return context;
}

/* A thread that is about to kick a vCPU stands at a gate until the main thread can go no
 * further, with the vCPU there or gone. */
static struct {
    atomic_bool closed;
    atomic_bool reached;
    atomic_bool is_too_late;
    int vcpu_thread;
} kick_gate;

#define STANDS_LOOKS 10000u /* in a row; a thread that is told to end needs far fewer */

static void kick_wait(void)
{
    unsigned stands = 0;
    char path[64];
    char text[16] = "";
    (void)snprintf(path, sizeof(path), "/proc/self/task/%d/syscall", (int)getpid());
    atomic_store(&kick_gate.reached, true);
    while (stands < STANDS_LOOKS && !atomic_load(&kick_gate.is_too_late)) {
        CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0 || read(fd, text, sizeof(text) - 1) < 0) {
            return; /* not everywhere may it see that */
        }
        stands = strtol(text, NULL, 10) == SYS_futex ? stands + 1 : 0;
        if (syscall(SYS_tgkill, getpid(), kick_gate.vcpu_thread, 0) < 0) {
            atomic_store(&kick_gate.is_too_late, true);
        }
    }
}

/* In place of the C library's. */
int pthread_kill(pthread_t threadid, int signo)
{
    static int (*real)(pthread_t, int);
    *(void **)&real = dlsym(RTLD_NEXT, "pthread_kill");
    if (gettid() != getpid() && atomic_exchange(&kick_gate.closed, false)) {
        kick_wait();
        if (atomic_load(&kick_gate.is_too_late)) {
            return ESRCH;
        }
    }
    return real(threadid, signo);
}

START_TEST(no_vcpu_is_kicked_that_has_ended)
{
    struct machine_image image = {.offset = 2 * MIB, .ram = MACHINE_RAM_LAZY};
    struct bytes_writer state;
    machine_make(1, 32, NULL);
    mark_far();
    image.fd = save_and_end(&state);
    image_harm(image.fd, DAMAGE_FAR);
    image_gate_close(2 * MIB + 30 * MIB, 2 * MIB + 32 * MIB);
    machine_make(1, 32, &image);
    ck_assert_int_eq(machine_restore(machine, state.data, state.size, NULL), 0);
    ck_assert_int_eq(machine_run(machine, NULL), 0);
    wait_for_more();
    kick_gate.vcpu_thread = atomic_load(&machine_vcpu(machine, 0)->thread_id);
    atomic_store(&kick_gate.closed, true);
    image_gate_open();
    while (!atomic_load(&kick_gate.reached)) { /* the loader wants the end */
        (void)sched_yield();
    }

    machine = machine_free(machine);

    ck_assert(!atomic_load(&kick_gate.is_too_late));
    bytes_writer_fini(&state);
    (void)close(image.fd);
}
END_TEST

START_TEST(a_reset_does_not_need_what_was_lost)
{
    struct machine_image image = {.offset = 2 * MIB, .ram = MACHINE_RAM_LAZY};
    struct bytes_writer state;
    struct machine_fill fill;
    pthread_t opener;
    machine_make(1, 32, NULL);
    ck_assert_int_eq(machine_run(machine, NULL), 0);
    wait_for_more();
    ck_assert_int_eq(machine_pause(machine, NULL), 0);
    image.fd = save_and_end(&state);
    image_harm(image.fd, DAMAGE_COUNTER);
    image_gate_close(4 * MIB, 6 * MIB);
    machine_make(1, 32, &image);
    ck_assert_int_eq(machine_restore(machine, state.data, state.size, NULL), 0);
    ck_assert_int_eq(machine_run(machine, NULL), 0);
    image_gate_await(); /* the guest goes nowhere without it */

    machine_reset(machine);
    ck_assert_int_eq(pthread_create(&opener, NULL, open_late, NULL), 0);
    while (resets == 0) {
        ck_assert_int_ge(poller_step(poller, -1), 0);
    }

    wait_for_more();                     /* where it was lost */
    while (poller_step(poller, 0) > 0) { /* and nobody asks for an end */
    }
    machine_fill(machine, &fill);
    ck_assert(!fill.is_damaged);
    ck_assert(fill.was_abandoned);
    ck_assert_uint_eq(fill.done_bytes, fill.total_bytes);
    ck_assert_int_eq(pthread_join(opener, NULL), 0);
    bytes_writer_fini(&state);
    (void)close(image.fd);
}
END_TEST

/* _i: the machine ends by itself, or is told to; the storage hangs on. */
START_TEST(storage_that_hangs_ends_the_machine_and_nobody_waits_for_it)
{
    struct machine_image image = {.offset = 2 * MIB, .ram = MACHINE_RAM_LAZY};
    struct bytes_writer state;
    struct machine_fill fill;
    machine_make(1, 32, NULL);
    ck_assert_int_eq(machine_run(machine, NULL), 0);
    wait_for_more();
    ck_assert_int_eq(machine_pause(machine, NULL), 0);
    image.fd = save_and_end(&state);
    may_break = true;
    watch_turns_own();
    image_gate_close(4 * MIB, 6 * MIB);
    machine_make(1, 32, &image);
    ck_assert_int_eq(machine_restore(machine, state.data, state.size, NULL), 0);
    ck_assert_int_eq(machine_run(machine, NULL), 0);
    image_gate_await(); /* the guest goes nowhere without it */

    watch_turns_give(_i == 0 ? 32 : 0);
    while (_i == 0 && broke[0] == '\0') {
        ck_assert_int_ge(poller_step(poller, -1), 0);
    }
    machine_halt(machine);

    machine_fill(machine, &fill);
    ck_assert_int_eq(fill.is_damaged, _i == 0);
    if (_i == 0) {
        ck_assert_str_eq(broke, "the storage of the saved RAM does not answer in time");
        ck_assert_int_eq(machine_state(machine), MACHINE_ENDED);
    }
    machine = machine_free(machine);
    ck_assert_uint_eq(atomic_load(&image_gate.waiting), 1);
    image_gate_open();
    bytes_writer_fini(&state);
    (void)close(image.fd);
}
END_TEST

/* Something in each MiB, which the guest itself leaves alone. */
static void ram_mark(void)
{
    struct guest_memory *memory =
        (struct guest_memory *)(uintptr_t)machine_memory(machine);
    for (uint32_t i = 3; i < 64; i++) {
        ck_assert_int_eq(
            guest_memory_write(memory, i * MIB + 5 * GUEST_PAGE_BYTES, &i, sizeof(i)), 0);
    }
}

static void ram_check(void)
{
    for (uint32_t i = 3; i < 64; i++) {
        uint32_t mark = 0;
        ck_assert_int_eq(guest_memory_read(machine_memory(machine),
                                           i * MIB + 5 * GUEST_PAGE_BYTES, &mark,
                                           sizeof(mark)),
                         0);
        ck_assert_uint_eq(mark, i);
    }
}

START_TEST(a_machine_that_is_not_whole_is_saved_whole)
{
    struct machine_image image = {.offset = 2 * MIB, .ram = MACHINE_RAM_LAZY};
    struct bytes_writer state;
    machine_make(1, 64, NULL);
    ram_mark();
    ck_assert_int_eq(machine_run(machine, NULL), 0);
    wait_for_more();
    ck_assert_int_eq(machine_pause(machine, NULL), 0);

    for (unsigned round = 0; round < 4; round++) {
        image.fd = save_and_end(&state); /* stays open: the next machine reads it */
        image.ram = round < 3 ? MACHINE_RAM_LAZY : MACHINE_RAM_FIRST;
        machine_make(1, 64, &image);
        ck_assert_int_eq(machine_restore(machine, state.data, state.size, NULL), 0);
        bytes_writer_fini(&state);
    }

    ram_check();
    ck_assert_int_eq(machine_run(machine, NULL), 0);
    wait_for_more();
    ck_assert(!atomic_load(&said_wrong));
}
END_TEST

START_TEST(a_machine_that_is_not_whole_can_be_stopped_and_ended)
{
    struct machine_image image = {.offset = 2 * MIB, .ram = MACHINE_RAM_LAZY};
    struct bytes_writer state;
    struct machine_fill fill;
    machine_make(2, 64, NULL);
    ram_mark();
    ck_assert_int_eq(machine_run(machine, NULL), 0);
    wait_for_more();
    ck_assert_int_eq(machine_pause(machine, NULL), 0);
    image.fd = save_and_end(&state);

    for (unsigned round = 0; round < 3; round++) { /* before, while, and after it runs */
        machine_make(2, 64, &image);
        ck_assert_int_eq(machine_restore(machine, state.data, state.size, NULL), 0);
        for (unsigned i = 0; i < round; i++) {
            ck_assert_int_eq(machine_run(machine, NULL), 0);
            ck_assert_int_eq(machine_pause(machine, NULL), 0);
        }
        do { /* it goes on filling while it stands still */
            machine_fill(machine, &fill);
        } while (round == 2 && fill.done_bytes < fill.total_bytes);
        machine = machine_free(machine);
    }

    bytes_writer_fini(&state);
    (void)close(image.fd);
}
END_TEST

START_TEST(a_host_without_userfaultfd_reads_ram_first)
{
    struct machine_image image = {.offset = 2 * MIB, .ram = MACHINE_RAM_LAZY};
    struct bytes_writer state;
    struct machine_fill fill;
    machine_make(1, 32, NULL);
    image.fd = save_and_end(&state);
    const uid_t user = geteuid(); /* not root: it may not have it in the first place */
    ck_assert(user != 0 || setresuid(65534, 65534, 0) == 0);

    const bool has_it = may_be_lazy(); /* there are hosts where all have */
    machine_make(1, 32, &image);
    ck_assert(user != 0 || setresuid(0, 0, 0) == 0);
    ck_assert_int_eq(machine_restore(machine, state.data, state.size, NULL), 0);

    machine_fill(machine, &fill);
    ck_assert_uint_eq(fill.total_bytes, has_it ? 32 * MIB : 0);
    ck_assert_int_eq(machine_run(machine, NULL), 0);
    wait_for_more();
    bytes_writer_fini(&state);
    (void)close(image.fd);
}
END_TEST

START_TEST(a_reset_that_was_asked_for_comes_before_the_save)
{
    struct bytes_writer state;
    machine_code(asks[0], sizeof(asks[0]), 1, 32, NULL);
    ck_assert_int_eq(machine_run(machine, NULL), 0);
    while (counter_read(&machine_vcpu(machine, 0)->exits[VCPU_EXIT_PORT].count) == 0) {
        (void)sched_yield();
    }
    ck_assert_int_eq(machine_pause(machine, NULL), 0);
    ck_assert_uint_eq(resets, 0); /* the poller did not run */

    bytes_writer_init(&state, 16 * MIB);
    ck_assert_int_gt(machine_save(machine, &state, NULL), 0);

    ck_assert_uint_eq(resets, 1);
    ck_assert_int_eq(machine_state(machine), MACHINE_PAUSED);
    ck_assert_int_eq(poller_step(poller, 0), 1); /* the word of it, which is old */
    ck_assert_uint_eq(resets, 1);
    bytes_writer_fini(&state);
}
END_TEST

START_TEST(a_machine_takes_no_other_machines_state)
{
    struct machine_image image = {.offset = 2 * MIB};
    struct bytes_writer state;
    struct err err = {0};
    machine_make(1, 32, NULL);
    image.fd = save_and_end(&state); /* it never ran: that is a state, too */

    machine_make(1, 64, &image);
    ck_assert_int_eq(machine_restore(machine, state.data, state.size, &err),
                     BERTH_EINVALID);
    ck_assert_ptr_nonnull(strstr(err.text, "32MiB of RAM and this one has 64MiB"));
    ck_assert_int_eq(machine_run(machine, NULL), BERTH_EPHASE);
    machine = machine_free(machine);

    machine_make(1, 32, &image);
    ck_assert_int_eq(pwrite(image.fd, "x", 1, (off_t)(2 * MIB + KERNEL_AT)), 1);
    ck_assert_int_eq(machine_restore(machine, state.data, state.size, &err),
                     BERTH_ECORRUPT);
    ck_assert_ptr_nonnull(strstr(err.text, "the saved RAM is damaged"));
    bytes_writer_fini(&state);
    (void)close(image.fd);
}
END_TEST

static TCase *kvm_tests(void)
{
    TCase *tests = tcase_create("with KVM");
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, kvm_setup, kvm_teardown);
    tcase_add_loop_test(tests, a_guest_goes_on_where_it_was_time_and_again, 0,
                        MACHINE_RAM_COUNT);
    tcase_add_loop_test(tests, each_copy_of_a_guest_is_another_generation, 0,
                        MACHINE_RAM_COUNT);
    tcase_add_loop_test(tests, a_reset_of_a_clone_begins_anew_and_leaves_its_image_alone,
                        0, MACHINE_RAM_COUNT);
    tcase_add_test(tests, a_machine_that_is_not_whole_is_saved_whole);
    tcase_add_test(tests, a_machine_that_is_not_whole_can_be_stopped_and_ended);
    tcase_add_test(tests, a_host_without_userfaultfd_reads_ram_first);
    tcase_add_test(tests, a_reset_that_was_asked_for_comes_before_the_save);
    tcase_add_test(tests, a_machine_takes_no_other_machines_state);
    if (!may_be_lazy()) {
        (void)printf("no userfaultfd: damage is always found before a guest runs\n");
        return tests;
    }
    tcase_add_loop_test(
        tests, storage_that_hangs_ends_the_machine_and_nobody_waits_for_it, 0, 2);
    tcase_add_loop_test(tests, a_guest_never_sees_lazy_ram_that_is_damaged, 0,
                        DAMAGE_COUNT);
    tcase_add_loop_test(tests, damage_ends_a_machine_whose_guest_asks_for_something_else,
                        0, (int)ARRAY_COUNT(asks));
    tcase_add_test(tests, no_vcpu_is_kicked_that_has_ended);
    tcase_add_test(tests, a_reset_does_not_need_what_was_lost);
    return tests;
}

int main(void)
{
    Suite *suite = suite_create("machine_state");
    TCase *plain = tcase_create("without KVM");
    CLEANUP_FD int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    tcase_add_checked_fixture(plain, parts_setup, parts_teardown);
    tcase_add_test(plain, a_state_cut_anywhere_is_refused_before_anything_is_taken);
    tcase_add_test(plain,
                   a_state_with_any_bit_turned_is_refused_before_anything_is_taken);
    tcase_add_test(plain, a_state_that_lacks_a_part_is_refused);
    tcase_add_loop_test(plain, a_machine_of_another_shape_is_refused, 0,
                        (int)ARRAY_COUNT(shapes));
    tcase_add_test(plain, a_host_with_another_cpu_is_refused);
    tcase_add_test(plain, parts_in_the_wrong_place_are_refused);
    tcase_add_loop_test(plain, a_part_that_comes_twice_is_refused, 0, 2);
    suite_add_tcase(suite, plain);
    if (fd >= 0) {
        suite_add_tcase(suite, kvm_tests());
    } else {
        (void)printf("no /dev/kvm: guests go on in tests/system/kvm_machine_test.sh\n");
    }
    return test_main_run(suite);
}
