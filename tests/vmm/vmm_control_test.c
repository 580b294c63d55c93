/* Goal: a client drives a machine by QMP as it would drive QEMU, and hears in QEMU's
 * words how its guest ends. Method: kernels of a few bytes on a real KVM (77 without one;
 * tests/system/kvm_machine_test.sh runs this where there is one). */
#include "control_client.h"
#include "plug_guest.h"
#include "support/test_main.h"
#include "vmm/snapshot_file.h"
#include "vmm/virtio_balloon.h"
#include "vmm/virtio_block.h"
#include "vmm/virtio_mem.h"

#include <check.h>

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>

/* of the disk that flushes when it is let */
static atomic_bool flush_is_held;
static atomic_int flush_result;
static atomic_uint flush_count;
static atomic_bool last_was_in_a_save; /* the flush */

static void setup_flush(void)
{
    setup();
    atomic_store(&flush_is_held, false);
    atomic_store(&flush_result, 0);
    atomic_store(&flush_count, 0);
    atomic_store(&last_was_in_a_save, false);
}

static void teardown_flush(void)
{
    atomic_store(&flush_is_held, false); /* a check that failed left it as it was */
    teardown();
}

START_TEST(a_machine_is_let_run_stopped_and_looked_at)
{
    static const uint8_t code[] = {0xeb, 0xfe}; /* 1: jmp 1b */
    make(code, sizeof(code));
    meet();

    ask("query-status");
    hear("\"status\":\"prelaunch\",\"running\":false");
    ask("cont");
    hear("\"event\":\"RESUME\"");
    ask("query-status");
    hear("\"status\":\"running\",\"running\":true");
    ask("stop");
    hear("\"event\":\"STOP\"");
    ask("query-status");
    hear("\"status\":\"paused\",\"running\":false");
    ask("query-cpus-fast");
    hear("\"cpu-index\":0,\"thread-id\":");
    ask("query-memory-size-summary");
    hear("\"base-memory\":33554432");
    ask("query-name");
    hear("\"name\":\"web-1\"");
    ask("system_reset");
    hear("the machine does not run");
    ask("cont");
    hear("\"event\":\"RESUME\"");
    ask("system_reset");
    hear("\"event\":\"RESET\"");
}
END_TEST

START_TEST(how_a_machine_came_up_is_told_with_what_its_guest_says)
{
    static const uint8_t code[] = {OUT(0x80, 0x40), OUT(0x3f8, 'x'),  OUT(0x80, 0x41),
                                   OUT(0x80, 0x40), OUT(0x600, 0x34), 0xf4};
    make(code, sizeof(code));
    meet();
    ask("x-query-boot");
    hear("{\"return\":{\"phases\":[{\"phase\":\"started\",\"ns\":");
    hear("},{\"phase\":\"memory\",\"ns\":");
    hear("},{\"phase\":\"made\",\"ns\":");
    hear("},{\"phase\":\"loaded\",\"ns\":");
    hear("}],\"marks\":[]}}");
    ck_assert_uint_eq(boot_trace_ns(&trace, BOOT_GO), 0);
    ck_assert_uint_eq(boot_trace_ns(&trace, BOOT_FIRST_RUN), 0);

    ask("cont");
    hear("\"event\":\"SHUTDOWN\"");

    ask("x-query-boot");
    hear("},{\"phase\":\"loaded\",\"ns\":");
    hear("},{\"phase\":\"go\",\"ns\":");
    hear("},{\"phase\":\"first-run\",\"ns\":");
    hear("},{\"phase\":\"first-exit\",\"ns\":");
    hear("},{\"phase\":\"first-byte\",\"ns\":");
    hear("}],\"marks\":[{\"byte\":64,\"ns\":");
    hear("},{\"byte\":65,\"ns\":");
    hear("}]}}");
    for (unsigned i = BOOT_MEMORY; i < BOOT_FIRST_BYTE; i++) {
        const uint64_t this_ns = boot_trace_ns(&trace, (enum boot_phase)i);
        const uint64_t next_ns = boot_trace_ns(&trace, (enum boot_phase)(i + 1));
        ck_assert(this_ns == 0 || next_ns == 0 || this_ns <= next_ns);
    }
}
END_TEST

START_TEST(how_it_came_up_is_not_known_to_who_did_not_look)
{
    make(jump, sizeof(jump));
    control.trace = NULL;
    meet();
    ask("x-query-boot");
    hear("nobody has looked how it came up");
}
END_TEST

static const uint8_t off[] = {OUT(0x600, 0x34), 0xf4};
static const uint8_t panic[] = {OUT(0x505, 0x01), 0xf4};
static const uint8_t fault[] = {0x0f, 0x01, 0x1d, 0, 0, 0, 0, 0x0f, 0x0b};

struct end_row {
    const uint8_t *code;
    size_t size;
    const char *event;
    const char *status;
};

static const struct end_row ends[] = {
    {off, sizeof(off),
     "\"event\":\"SHUTDOWN\",\"data\":{\"guest\":true,\"reason\":\"guest-shutdown\"}",
     "\"status\":\"shutdown\""},
    {panic, sizeof(panic),
     "\"event\":\"GUEST_PANICKED\",\"data\":{\"action\":\"pause\",\"info\":{"
     "\"type\":\"berth\",\"cause\":\"panic\",\"reason\":\"the guest's kernel "
     "panicked\"}}",
     "\"status\":\"guest-panicked\",\"running\":false,\"singlestep\":false,\"reason\":"
     "\"the guest's kernel panicked\",\"cause\":\"panic\""},
    {fault, sizeof(fault), "\"cause\":\"triple-fault\",\"reason\":\"CPU 0 of the guest",
     "(triple fault)\",\"cause\":\"triple-fault\""},
};

START_TEST(an_end_is_told_and_stays_to_be_asked_for)
{
    make(ends[_i].code, ends[_i].size);
    meet();

    ask("cont");

    hear(ends[_i].event);
    hear("\"event\":\"STOP\"");
    ask("query-status");
    hear(ends[_i].status);
    ask("cont");
    hear("the guest has ended");
}
END_TEST

START_TEST(a_guest_that_dumps_itself_is_told_of_and_goes_on)
{
    static const uint8_t code[] = {OUT(0x505, 0x02), OUT(0x600, 0x34), 0xf4};
    make(code, sizeof(code));
    meet();

    ask("cont");

    hear("\"event\":\"GUEST_CRASHLOADED\",\"data\":{\"action\":\"run\"}");
    hear("\"event\":\"SHUTDOWN\""); /* by itself, behind that */
}
END_TEST

/* It stops every CPU and waits for every disk: a guest can say it as often as it likes.
 */
START_TEST(a_guest_dumps_itself_once_each_time_that_it_begins)
{
    static const uint8_t code[] = {OUT(0x505, 0x02), OUT(0x505, 0x02), OUT(0x505, 0x02),
                                   OUT(0x602, 0x01), 0xf4};
    make(code, sizeof(code));
    meet();

    ask("cont");

    for (unsigned i = 0; i < 3; i++) {
        hear("\"event\":\"GUEST_CRASHLOADED\"");
        unwanted = "GUEST_CRASHLOADED";
        hear("\"event\":\"RESET\"");
        unwanted = NULL;
    }
}
END_TEST

START_TEST(the_power_button_reaches_the_guest)
{
    /* 1: in al, 0x603 ; test al, al ; jz 1b ; sleep */
    static const uint8_t code[] = {
        0x66, 0xba, 0x03, 0x06, 0xec, 0x84, 0xc0, 0x74, 0xfb, OUT(0x600, 0x34), 0xf4};
    make(code, sizeof(code));
    meet();
    ask("cont");
    hear("RESUME");

    ask("system_powerdown");

    hear("\"event\":\"SHUTDOWN\"");
}
END_TEST

START_TEST(the_balloon_is_asked_and_told_in_bytes_that_are_left)
{
    static const uint8_t code[] = {0xeb, 0xfe};
    struct virtio_device *device;
    make(code, sizeof(code));
    meet();
    ask("query-balloon");
    hear("the machine has no balloon");
    const struct virtio_place place = machine_place(machine);
    ck_assert_int_eq(virtio_balloon_new(&place, &device), 0);
    ck_assert_int_eq(machine_add_virtio(machine, device, "balloon0", NULL), 0);
    control.balloon = device;

    ask("query-balloon");
    hear("\"actual\":33554432,\"target\":33554432,\"released\":0");
    ask("balloon");
    hear("value: how many bytes");
    static const char less[] =
        "{\"execute\":\"balloon\",\"arguments\":{\"value\":16777216}}";
    ck_assert_int_eq(send(client, less, strlen(less), MSG_NOSIGNAL), (int)strlen(less));
    hear("{\"return\":{}}");
    ask("query-balloon");
    hear("\"actual\":33554432,\"target\":16777216"); /* no driver gives any */
}
END_TEST

#define PLUG(path, property, value) \
    "{\"path\":\"" path "\",\"property\":\"" property "\",\"value\":" value "}"

START_TEST(what_is_to_be_plugged_is_said_as_to_qemu)
{
    static const uint8_t code[] = {0xeb, 0xfe};
    struct virtio_device *device;
    plug_bytes = UINT64_C(64) << 20;
    make(code, sizeof(code));
    plug_bytes = 0;
    meet();
    ask("query-memory-devices");
    hear("{\"return\":[]}");
    ask_with("qom-set", PLUG("vmem0", "requested-size", "0"), -1);
    hear("no RAM is to be plugged: it was started without max");
    const struct virtio_place place = machine_place(machine);
    ck_assert_int_eq(virtio_mem_new(&place, &device), 0);
    ck_assert_int_eq(machine_add_virtio(machine, device, VIRTIO_MEM_NAME, NULL), 0);
    vmm_control_watch_memory(&control, device);

    ask_with("qom-set", PLUG("/machine/peripheral/vmem0", "requested-size", "33554432"),
             -1);
    hear("{\"return\":{}}");
    ask("query-memory-devices");
    hear("\"memaddr\":4294967296,\"requested-size\":33554432,\"size\":0,"
         "\"max-size\":67108864,\"block-size\":2097152");
    ask("query-memory-size-summary"); /* no driver plugs any */
    hear("\"base-memory\":33554432,\"plugged-memory\":0");
    ask_with("qom-set", PLUG("vmem0", "requested-size", "33554431"), -1);
    hear("requested-size: not 0 to 67108864 bytes in steps of 2097152");
    ask_with("qom-set", PLUG("vmem0", "requested-size", "-1"), -1);
    hear("value: how many bytes are to be plugged");
    ask_with("qom-set", PLUG("vmem0", "size", "0"), -1);
    hear("property: only requested-size");
    ask_with("qom-set", PLUG("vmem1", "requested-size", "0"), -1);
    hear("path: only vmem0");

    /* A driver follows, and the machine has nothing plugged when it begins anew. */
    ck_assert_int_eq(guest_memory_plug(place.memory, 1, 0, 3), 0);
    ask("cont");
    hear("\"event\":\"MEMORY_DEVICE_SIZE_CHANGE\",\"data\":{\"id\":\"vmem0\","
         "\"size\":6291456,\"qom-path\":\"/machine/peripheral/vmem0\"}");
    ask("system_reset");
    hear("\"event\":\"RESET\"");
    hear(
        "\"event\":\"MEMORY_DEVICE_SIZE_CHANGE\",\"data\":{\"id\":\"vmem0\",\"size\":0,");
}
END_TEST

#define CPU(index) "\"props\":{\"socket-id\":0,\"core-id\":" index ",\"thread-id\":0}"

START_TEST(cpus_are_listed_and_added_as_qemu_has_it)
{
    plug_cpus = 2;
    make(plug_guest, sizeof(plug_guest));
    meet();

    ask("query-hotpluggable-cpus");
    hear("{\"return\":[{\"type\":\"host-x86_64-cpu\",\"vcpus-count\":1," CPU(
        "0") ",\"qom-path\":\"/machine/cpus/0\"},"
             "{\"type\":\"host-x86_64-cpu\",\"vcpus-count\":1," CPU(
                 "1") "},"
                      "{\"type\":\"host-x86_64-cpu\",\"vcpus-count\":1," CPU("2") "}]}");
    ask("cont");
    hear("\"event\":\"RESUME\"");
    ask_with("device_add",
             "{\"driver\":\"host-x86_64-cpu\",\"id\":\"two\",\"socket-id\":0,"
             "\"die-id\":0,\"core-id\":2,\"thread-id\":0}",
             -1);
    hear("{\"return\":{}}");

    ask("query-hotpluggable-cpus");
    hear(CPU("1") "},");
    hear(CPU("2") ",\"qom-path\":\"/machine/cpus/2\"}]}");
    ask("query-cpus-fast");
    hear("{\"return\":[{\"cpu-index\":0,\"thread-id\":");
    hear("},{\"cpu-index\":2,\"thread-id\":");
    hear("}}]}");
    ask("query-cpus-fast");
    hear("{\"return\":[{\"cpu-index\":0,");
    ck_assert_ptr_null(strstr(heard, "\"cpu-index\":1"));
}
END_TEST

START_TEST(a_cpu_has_the_type_of_its_level)
{
    static struct cpu_table table;
    if (vcpu_table_make(kvm_fd, CPU_V2, &table, NULL) < 0) {
        (void)puts("this KVM has not all of x86-64-v2: its part is not tested");
        client = -1;
        return;
    }
    plug_cpus = 1;
    cpu_level = CPU_V2;
    make(jump, sizeof(jump));
    meet();
    ask("query-hotpluggable-cpus");
    hear("{\"return\":[{\"type\":\"x86-64-v2-x86_64-cpu\",");
    ask_with("device_add", "{\"driver\":\"x86-64-v2-x86_64-cpu\",\"core-id\":1}", -1);
    hear("{\"return\":{}}");
}
END_TEST

struct refusal_row {
    const char *command;
    const char *arguments;
    const char *words;
};

#define DRIVER "\"driver\":\"host-x86_64-cpu\""

/* Of a guest with CPU 0 that may have 1 and 2. */
static const struct refusal_row refusals[] = {
    {"device_add", "{}",
     "driver: none: only virtio-blk-pci, virtio-net-pci and CPUs can be added, and "
     "those are host-x86_64-cpu"},
    {"device_add", "{\"driver\":\"virtio-gpu-pci\",\"core-id\":1}",
     "driver: virtio-gpu-pci: only virtio-blk-pci"},
    {"device_add", "{\"driver\":7,\"core-id\":1}", "driver: none: only virtio-blk-pci"},
    {"device_add", "{" DRIVER "}", "core-id: which CPU comes"},
    {"device_add", "{" DRIVER ",\"core-id\":\"1\"}", "core-id: which CPU comes"},
    {"device_add", "{" DRIVER ",\"core-id\":-1}", "core-id: which CPU comes"},
    {"device_add", "{" DRIVER ",\"core-id\":4294967297}", "core-id: which CPU comes"},
    {"device_add", "{" DRIVER ",\"core-id\":1,\"socket-id\":1}",
     "socket-id: there is only 0"},
    {"device_add", "{" DRIVER ",\"core-id\":1,\"thread-id\":\"0\"}",
     "thread-id: there is only 0"},
    {"device_add", "{" DRIVER ",\"core-id\":1,\"die-id\":2}", "die-id: there is only 0"},
    {"device_add", "{" DRIVER ",\"core-id\":1,\"numa-node\":0}",
     "numa-node: a CPU has no such property"},
    {"device_add", "{" DRIVER ",\"core-id\":0}", "the guest has CPU 0 already"},
    {"device_add", "{" DRIVER ",\"core-id\":3}", "there is no CPU 3: they are 0 to 2"},
    {"device_del", "{\"id\":\"two\"}",
     "\"class\":\"DeviceNotFound\",\"desc\":\"Device 'two' not found\""},
    {"device_del", "{\"id\":\"cpus\"}", "Device 'cpus' stays as long as the machine"},
    {"device_del", "{}", "Parameter 'id' is missing"},
};

START_TEST(what_is_no_cpu_for_this_guest_is_refused_and_changes_nothing)
{
    plug_cpus = 2;
    make(jump, sizeof(jump));
    meet();

    ask_with(refusals[_i].command, refusals[_i].arguments, -1);

    hear("{\"error\":{");
    hear(refusals[_i].words);
    ck_assert(!machine_cpu_is_plugged(machine, 1) && !machine_cpu_is_plugged(machine, 2));
}
END_TEST

START_TEST(when_all_cpus_are_there_no_more_are_added)
{
    make(jump, sizeof(jump));
    meet();

    ask_with("device_add", "{" DRIVER ",\"core-id\":1}", -1);

    hear("the guest has all 1 CPUs that it may have");
}
END_TEST

START_TEST(a_machine_that_is_being_saved_keeps_the_cpus_it_is_saved_with)
{
    static const char both[] =
        "{\"execute\":\"migrate\",\"arguments\":{\"uri\":\"fd:snap\"}}"
        "{\"execute\":\"device_add\",\"arguments\":{" DRIVER ",\"core-id\":1}}";
    int fd = memfd_create("snapshot", MFD_CLOEXEC);
    plug_cpus = 1;
    make(jump, sizeof(jump));
    meet();
    ask_with("getfd", "{\"fdname\":\"snap\"}", fd);
    hear("{\"return\":{}}");

    /* In one message: nobody looks in between whether the save is done. */
    ck_assert_int_eq(send(client, both, strlen(both), MSG_NOSIGNAL), (int)strlen(both));

    hear("the machine is being saved as it is");
    hear("\"data\":{\"status\":\"completed\"}");
    ck_assert(!machine_cpu_is_plugged(machine, 1));
    (void)close(fd);
}
END_TEST

/* Has the machine saved and asks for more, in one message: nobody looks in between
 * whether the save is done. */
static void save_and_ask(int fd, const char *command)
{
    char both[256];
    ask_with("getfd", "{\"fdname\":\"snap\"}", fd);
    hear("{\"return\":{}}");
    (void)snprintf(both, sizeof(both),
                   "{\"execute\":\"migrate\",\"arguments\":{\"uri\":\"fd:snap\"}}"
                   "{\"execute\":\"%s\"}",
                   command);
    ck_assert_int_eq(send(client, both, strlen(both), MSG_NOSIGNAL), (int)strlen(both));
    hear("\"data\":{\"status\":\"active\"}");
    hear("{\"return\":{}}");
}

/* Whoever was answered that it stands copies its disks, say. */
START_TEST(a_machine_that_was_told_to_stop_is_reset_standing)
{
    make(jump, sizeof(jump));
    meet();
    ask("cont");
    hear("\"event\":\"RESUME\"");
    ask("stop");
    hear("\"event\":\"STOP\"");
    hear("{\"return\":{}}");
    control.waits_for_room = true; /* since before that */

    unwanted = "RESUME";
    ask("system_reset");
    hear("\"event\":\"RESET\"");
    ask("query-status");
    hear("\"running\":false");

    unwanted = NULL;
    ask("cont");
    hear("\"event\":\"RESUME\"");
}
END_TEST

/* A reset, too, would let one go on that stands still for a disk. */
START_TEST(a_machine_that_is_being_saved_does_not_go_on_and_is_not_reset)
{
    static const char *const commands[] = {"cont", "system_reset"};
    int fd = memfd_create("snapshot", MFD_CLOEXEC);
    make(jump, sizeof(jump));
    meet();
    ask("cont");
    hear("\"event\":\"RESUME\"");
    ask("stop");
    hear("\"event\":\"STOP\"");
    hear("{\"return\":{}}");
    control.waits_for_room = true;

    save_and_ask(fd, commands[_i]);

    unwanted = "RES";
    hear("the machine is being saved; migrate_cancel ends that");
    hear("\"data\":{\"status\":\"completed\"}");
    ask("query-status");
    hear("\"status\":\"io-error\",\"running\":false");
    (void)close(fd);
}
END_TEST

/* A disk that flushes when it is let. */
static int held_flush(struct virtual_disk *disk)
{
    (void)disk;
    atomic_fetch_add(&flush_count, 1);
    atomic_store(&last_was_in_a_save, control.snapshot != NULL);
    while (atomic_load(&flush_is_held)) {
        (void)sched_yield();
    }
    return atomic_load(&flush_result);
}

static void held_free(struct virtual_disk *disk)
{
    (void)disk; /* the test's own */
}

static struct virtio_device *held_disk_add(const char *name)
{
    static const struct disk_ops ops = {
        .kind = "held", .flush = held_flush, .free = held_free};
    static struct virtual_disk disk = {.ops = &ops, .size_bytes = 4096};
    const struct virtio_block_spec spec = {
        .serial = "s", .queue_count = 1, .threads = {.count = 1}};
    const struct virtio_place place = machine_place(machine);
    struct virtio_device *device = NULL;
    ck_assert_int_eq(virtio_block_new(&place, &spec, &disk, &device, NULL), 0);
    ck_assert_int_eq(machine_add_virtio(machine, device, name, NULL), 0);
    return device;
}

/* Who asks is answered as long as a disk takes, also when it is asked of the disk; and a
 * disk that cannot is the end of the save alone. */
START_TEST(a_machine_is_saved_with_its_disks_flushed_and_answers_meanwhile)
{
    static const struct rate_spec unlimited = {0};
    const int fd = memfd_create("snapshot", MFD_CLOEXEC);
    atomic_store(&flush_is_held, true);
    atomic_store(&flush_result, _i == 0 ? 0 : -EIO);
    make(jump, sizeof(jump));
    struct virtio_device *disk = held_disk_add("root");
    meet();

    save_and_ask(fd, "query-status");
    hear("\"status\":\"prelaunch\"");
    virtio_block_limit(disk, &unlimited, &unlimited);
    ask("query-migrate");
    hear("\"status\":\"active\"");
    atomic_store(&flush_is_held, false);

    hear(_i == 0 ? "\"status\":\"completed\"" : "\"status\":\"failed\"");
    ask("query-migrate");
    hear(_i == 0 ? "\"status\":\"completed\"" : "root: flush the disk: ");
    (void)close(fd);
}
END_TEST

START_TEST(a_save_that_is_cancelled_begins_with_no_other_disk)
{
    const int fd = memfd_create("snapshot", MFD_CLOEXEC);
    atomic_store(&flush_is_held, true);
    make(jump, sizeof(jump));
    (void)held_disk_add("root");
    (void)held_disk_add("data");
    meet();
    save_and_ask(fd, "query-status");
    hear("\"status\":\"prelaunch\"");
    while (atomic_load(&flush_count) == 0) {
        (void)sched_yield();
    }

    ask("migrate_cancel");
    hear("{\"return\":{}}");
    atomic_store(&flush_is_held, false);

    hear("\"status\":\"cancelled\"");
    ck_assert_uint_eq(atomic_load(&flush_count), 1);
    (void)close(fd);
}
END_TEST

START_TEST(a_machine_that_ends_is_saved_no_more_when_its_disks_are_flushed)
{
    const int fd = memfd_create("snapshot", MFD_CLOEXEC);
    make(jump, sizeof(jump));
    (void)held_disk_add("root");
    meet();
    save_and_ask(fd, "query-status");
    while (atomic_load(&flush_count) == 0) {
        (void)sched_yield();
    }
    ck_assert(atomic_load(&last_was_in_a_save));

    vmm_control_halt(&control, machine);

    ck_assert_uint_eq(atomic_load(&flush_count), 2);
    ck_assert(!atomic_load(&last_was_in_a_save));
    (void)close(fd);
}
END_TEST

START_TEST(a_machine_is_saved_into_a_file_that_came_along)
{
    struct snapshot_file file;
    int fd = memfd_create("snapshot", MFD_CLOEXEC);
    make(jump, sizeof(jump));
    meet();
    ask("query-migrate");
    hear("{\"return\":{}}");
    ask("cont");
    hear("\"event\":\"RESUME\"");

    ask_with("getfd", "{\"fdname\":\"snap\"}", fd);
    hear("{\"return\":{}}");
    ask_with("migrate", "{\"uri\":\"fd:snap\"}", -1);

    hear("\"event\":\"STOP\"");
    hear("\"data\":{\"status\":\"active\"}");
    hear("{\"return\":{}}");
    hear("\"data\":{\"status\":\"completed\"}");
    ask("query-migrate");
    hear("\"status\":\"completed\",\"total-time\":");
    hear("\"ram\":{\"total\":33554432,\"remaining\":0,");
    ask("query-status");
    hear("\"status\":\"paused\"");
    ck_assert_int_eq(snapshot_file_open(fd, &file, NULL), 0);
    ck_assert_uint_eq(file.ram_bytes, 33554432);
    ask("cont"); /* it is free to go on */
    hear("\"event\":\"RESUME\"");
    (void)close(fd);
}
END_TEST

START_TEST(what_is_no_file_for_a_machine_is_refused_and_the_guest_goes_on)
{
    int fd = memfd_create("snapshot", MFD_CLOEXEC);
    ck_assert_int_eq(write(fd, "x", 1), 1);
    make(jump, sizeof(jump));
    meet();
    ask("cont");
    hear("\"event\":\"RESUME\"");

    ask_with("getfd", "{\"fdname\":\"snap\"}", -1);
    hear("No file descriptor supplied via SCM_RIGHTS");
    ask_with("getfd", "{\"fdname\":\"1\"}", fd);
    hear("expects a name not starting with a digit");
    ask_with("migrate", "{\"uri\":\"fd:snap\"}", -1);
    hear("File descriptor named 'snap' has not been found");
    ask_with("migrate", "{\"uri\":\"exec:cat\"}", -1);
    hear("uri: only fd:NAME");
    ask_with("getfd", "{\"fdname\":\"snap\"}", fd);
    hear("{\"return\":{}}");
    ask_with("migrate", "{\"uri\":\"fd:snap\"}", -1);
    hear("\"event\":\"RESUME\"");
    hear("a snapshot needs a new, empty file");
    ask_with("closefd", "{\"fdname\":\"snap\"}", -1);
    hear("has not been found"); /* it was used up */
    ask("query-status");
    hear("\"status\":\"running\"");
    (void)close(fd);
}
END_TEST

static const struct rlimit small = {1u << 20, RLIM_INFINITY}; /* RAM begins behind it */

START_TEST(a_save_that_fails_does_not_let_go_on_what_was_stopped)
{
    struct rlimit usual;
    char path[96];
    (void)signal(SIGXFSZ, SIG_IGN);
    (void)snprintf(path, sizeof(path), "%.80s/snapshot", dir.path);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    make(jump, sizeof(jump));
    meet();
    ask("cont");
    hear("\"event\":\"RESUME\"");
    hear("{\"return\":{}}");
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &usual), 0);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &small), 0);

    save_and_ask(fd, "stop");

    hear("\"data\":{\"status\":\"failed\"}");
    ask("query-status");
    unwanted = "RESUME";
    hear("\"status\":\"paused\",\"running\":false");
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &usual), 0);
    (void)close(fd);
}
END_TEST

START_TEST(a_save_that_fails_says_why_and_the_guest_goes_on)
{
    struct rlimit usual;
    struct snapshot_file file;
    char path[96];
    (void)signal(SIGXFSZ, SIG_IGN);
    (void)snprintf(path, sizeof(path), "%.80s/snapshot", dir.path);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    make(jump, sizeof(jump));
    meet();
    ask("cont");
    hear("\"event\":\"RESUME\"");
    ask_with("getfd", "{\"fdname\":\"snap\"}", fd);
    hear("{\"return\":{}}");
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &usual), 0);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &small), 0);

    ask_with("migrate", "{\"uri\":\"fd:snap\"}", -1);

    hear("\"data\":{\"status\":\"failed\"}");
    hear("\"event\":\"RESUME\"");
    ask("query-migrate");
    hear("\"status\":\"failed\"");
    hear("\"error-desc\":\"write RAM: ");
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &usual), 0);
    ck_assert_int_lt(snapshot_file_open(fd, &file, NULL), 0);
    (void)close(fd);
}
END_TEST

START_TEST(quit_ends_the_poller_after_it_was_answered)
{
    static const uint8_t code[] = {0xeb, 0xfe};
    make(code, sizeof(code));
    meet();

    ask("quit");

    ck_assert_int_eq(poller_run(poller), 0);
    hear("host-qmp-quit");
    hear("{\"return\":{}}");
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
    Suite *suite = suite_create("vmm_control");
    TCase *tests = tcase_create("vmm_control");
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, setup_flush, teardown_flush);
    tcase_add_test(tests, a_machine_is_let_run_stopped_and_looked_at);
    tcase_add_loop_test(tests, an_end_is_told_and_stays_to_be_asked_for, 0,
                        sizeof(ends) / sizeof(ends[0]));
    tcase_add_test(tests, a_guest_that_dumps_itself_is_told_of_and_goes_on);
    tcase_add_test(tests, a_guest_dumps_itself_once_each_time_that_it_begins);
    tcase_add_test(tests, the_power_button_reaches_the_guest);
    tcase_add_test(tests, the_balloon_is_asked_and_told_in_bytes_that_are_left);
    tcase_add_test(tests, what_is_to_be_plugged_is_said_as_to_qemu);
    tcase_add_test(tests, cpus_are_listed_and_added_as_qemu_has_it);
    tcase_add_test(tests, a_cpu_has_the_type_of_its_level);
    tcase_add_loop_test(tests,
                        what_is_no_cpu_for_this_guest_is_refused_and_changes_nothing, 0,
                        sizeof(refusals) / sizeof(refusals[0]));
    tcase_add_test(tests, when_all_cpus_are_there_no_more_are_added);
    tcase_add_test(tests, a_machine_that_is_being_saved_keeps_the_cpus_it_is_saved_with);
    tcase_add_test(tests, a_machine_that_was_told_to_stop_is_reset_standing);
    tcase_add_loop_test(
        tests, a_machine_that_is_being_saved_does_not_go_on_and_is_not_reset, 0, 2);
    tcase_add_loop_test(
        tests, a_machine_is_saved_with_its_disks_flushed_and_answers_meanwhile, 0, 2);
    tcase_add_test(tests, a_save_that_is_cancelled_begins_with_no_other_disk);
    tcase_add_test(tests,
                   a_machine_that_ends_is_saved_no_more_when_its_disks_are_flushed);
    tcase_add_test(tests, a_machine_is_saved_into_a_file_that_came_along);
    tcase_add_test(tests, what_is_no_file_for_a_machine_is_refused_and_the_guest_goes_on);
    tcase_add_test(tests, a_save_that_fails_says_why_and_the_guest_goes_on);
    tcase_add_test(tests, a_save_that_fails_does_not_let_go_on_what_was_stopped);
    tcase_add_test(tests, how_a_machine_came_up_is_told_with_what_its_guest_says);
    tcase_add_test(tests, how_it_came_up_is_not_known_to_who_did_not_look);
    tcase_add_test(tests, quit_ends_the_poller_after_it_was_answered);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
