/* Goal: a machine that is to stand still waits for what its disks have in flight, and
 * nobody waits with it; what was asked for meanwhile comes in its order. Method: a disk
 * that hangs until the test lets it go, under kernels of a few bytes on a real KVM (77
 * without one; tests/system/kvm_machine_test.sh runs this where there is one). */
#include "control_client.h"
#include "support/test_main.h"
#include "vmm/snapshot_file.h"

#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/mman.h>

/* ---- a disk that hangs while its machine is to stand still ---- */

static void say(const char *text)
{
    ck_assert_int_eq(send(client, text, strlen(text), MSG_NOSIGNAL), (int)strlen(text));
}

/* Of a machine that runs and has a request in flight. */
static void run_with_busy_disk(void)
{
    make(jump, sizeof(jump));
    (void)busy_disk_add(machine, "root");
    meet();
    ask("cont");
    hear("\"event\":\"RESUME\"");
    hear("{\"return\":{}}");
    while (atomic_load(&busy_disk.count) == 0) {
        (void)sched_yield();
    }
}

START_TEST(a_stop_waits_for_a_disk_and_nobody_waits_with_it)
{
    run_with_busy_disk();
    unwanted = "STOP";

    say("{\"execute\":\"stop\",\"id\":1}{\"execute\":\"query-status\",\"id\":2}");

    hear("{\"return\":{\"status\":\"running\",\"running\":true,\"singlestep\":false,"
         "\"x-waits-for\":\"root\"},\"id\":2}");
    say("{\"execute\":\"query-blockstats\",\"id\":3}");
    hear("\"id\":3}");
    say("{\"execute\":\"system_reset\",\"id\":4}");
    hear("the machine does not run");
    say("{\"execute\":\"stop\",\"id\":5}");
    hear("stop was said already");
    unwanted = "\"id\":1";
    atomic_store(&busy_disk.is_held, false);

    hear("\"event\":\"STOP\"}\r\n");
    unwanted = NULL;
    hear("{\"return\":{},\"id\":1}");
    ck_assert(busy_disk_answered(machine));
    ck_assert_int_eq(machine_state(machine), MACHINE_PAUSED);
    ask("query-status");
    hear("\"status\":\"paused\",\"running\":false,\"singlestep\":false}}");
    ask("cont");
    hear("\"event\":\"RESUME\"");
}
END_TEST

/* RESUME tells who came meanwhile, or has been told of a stop otherwise. */
START_TEST(a_machine_that_does_not_come_to_stand_still_can_go_on)
{
    run_with_busy_disk();
    say("{\"execute\":\"stop\",\"id\":1}");
    unwanted = "STOP";

    say("{\"execute\":\"cont\",\"id\":2}");

    hear("the machine was let run before it stood still\"},\"id\":1}");
    hear("\"event\":\"RESUME\"");
    hear("{\"return\":{},\"id\":2}");
    ck_assert_int_eq(machine_state(machine), MACHINE_RUNNING);
    atomic_store(&busy_disk.is_held, false);
    unwanted = NULL;
    ask("stop");
    hear("\"event\":\"STOP\"");
    hear("{\"return\":{}}");
}
END_TEST

/* Who comes next hears it in place of who asked. */
START_TEST(a_stop_outlives_its_client)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    run_with_busy_disk();
    ask("stop");
    ask("query-name"); /* which waits */
    while (machine_state(machine) == MACHINE_RUNNING) {
        ck_assert_int_ge(poller_step(poller, -1), 0);
    }
    (void)close(client);

    client = socket(AF_UNIX, SOCK_STREAM, 0);
    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%.80s/qmp", dir.path);
    ck_assert_int_eq(connect(client, (struct sockaddr *)&address, sizeof(address)), 0);
    meet();
    ask("query-status");
    hear("\"x-waits-for\":\"root\"");
    ask("stop");
    unwanted = "{\"return\":{}}";
    while (!qmp_server_owes(control.server)) {
        ck_assert_int_ge(poller_step(poller, -1), 0);
    }
    atomic_store(&busy_disk.is_held, false);

    hear("\"event\":\"STOP\"}\r\n");
    unwanted = NULL;
    hear("{\"return\":{}}");
}
END_TEST

START_TEST(a_save_is_set_up_until_a_disk_has_done)
{
    struct snapshot_file file;
    const int fd = memfd_create("snapshot", MFD_CLOEXEC);
    run_with_busy_disk();
    ask_with("getfd", "{\"fdname\":\"snap\"}", fd);
    hear("{\"return\":{}}");

    ask_with("migrate", "{\"uri\":\"fd:snap\"}", -1);

    hear("\"data\":{\"status\":\"setup\"}");
    hear("{\"return\":{}}");
    ask("query-migrate");
    hear("\"status\":\"setup\"");
    ask("cont");
    hear("the machine is being saved; migrate_cancel ends that");
    ask_with("device_del", "{\"id\":\"root\"}", -1);
    hear("the machine is being saved as it is");
    ask("query-status");
    hear("\"x-waits-for\":\"root\"");
    unwanted = "\"status\":\"active\"";
    atomic_store(&busy_disk.is_held, false);
    hear("\"event\":\"STOP\"");
    unwanted = NULL;
    hear("\"status\":\"active\"");
    hear("\"status\":\"completed\"");
    ck_assert_int_eq(snapshot_file_open(fd, &file, NULL), 0);
    (void)close(fd);
}
END_TEST

/* _i: it was told to stop meanwhile. */
START_TEST(a_save_that_is_set_up_can_be_cancelled)
{
    const int fd = memfd_create("snapshot", MFD_CLOEXEC);
    run_with_busy_disk();
    ask_with("getfd", "{\"fdname\":\"snap\"}", fd);
    hear("{\"return\":{}}");
    ask_with("migrate", "{\"uri\":\"fd:snap\"}", -1);
    hear("{\"return\":{}}");
    if (_i == 1) {
        say("{\"execute\":\"stop\",\"id\":1}");
    }
    unwanted = _i == 1 ? "\"id\":1}" : "STOP";

    say("{\"execute\":\"migrate_cancel\",\"id\":2}");

    hear("{\"return\":{},\"id\":2}");
    hear("\"status\":\"cancelled\"");
    ask("query-migrate");
    if (_i == 1) {
        atomic_store(&busy_disk.is_held, false);
        hear("\"event\":\"STOP\"");
        unwanted = NULL;
        hear("{\"return\":{},\"id\":1}");
        hear("\"status\":\"cancelled\"");
        ck_assert_int_eq(machine_state(machine), MACHINE_PAUSED);
    } else {
        hear("\"event\":\"RESUME\"");
        hear("\"status\":\"cancelled\"");
        ck_assert_int_eq(machine_state(machine), MACHINE_RUNNING);
    }
    (void)close(fd);
}
END_TEST

static void until_it_waits(void)
{
    while (machine_waits_for(machine) == NULL) {
        ck_assert_int_ge(poller_step(poller, -1), 0);
    }
}

/* Its disk hangs, and what the code does when the power button is pressed waits for it.
 */
static void run_and_press(const uint8_t *code, size_t size)
{
    make(code, size);
    (void)busy_disk_add(machine, "root");
    meet();
    ask("cont");
    hear("{\"return\":{}}");
    while (atomic_load(&busy_disk.count) == 0) {
        (void)sched_yield();
    }
    ask("system_powerdown");
    hear("{\"return\":{}}");
    until_it_waits();
}

/* 1: in al, 0x603 ; test al, al ; jz 1b */
#define AWAIT_POWER 0x66, 0xba, 0x03, 0x06, 0xec, 0x84, 0xc0, 0x74, 0xfb

static void save_set_up(int fd)
{
    ask_with("getfd", "{\"fdname\":\"snap\"}", fd);
    hear("{\"return\":{}}");
    ask_with("migrate", "{\"uri\":\"fd:snap\"}", -1);
    hear("\"status\":\"setup\"");
    hear("{\"return\":{}}");
}

/* RAM is not cleared while it is being written. */
START_TEST(all_that_is_asked_for_comes_before_a_save)
{
    static const uint8_t dumps[] = {AWAIT_POWER, OUT(0x505, 0x02), 0xf4};
    const int fd = memfd_create("snapshot", MFD_CLOEXEC);
    run_and_press(dumps, sizeof(dumps));
    ask("system_reset");
    hear("{\"return\":{}}");
    save_set_up(fd);
    unwanted = "\"active\"";

    atomic_store(&busy_disk.is_held, false);

    hear("\"event\":\"STOP\"");
    hear("GUEST_CRASHLOADED");
    hear("\"event\":\"RESET\"");
    unwanted = "RESET";
    hear("\"status\":\"completed\"");
    ck_assert_int_eq(machine_state(machine), MACHINE_PAUSED);
    (void)close(fd);
}
END_TEST

/* _i: it wants to begin anew. */
START_TEST(what_a_guest_asked_for_before_a_save_was_set_up_comes_first)
{
    static const uint8_t codes[][17] = {{AWAIT_POWER, OUT(0x505, 0x01), 0xf4},
                                        {AWAIT_POWER, OUT(0x602, 0x01), 0xf4}};
    const int fd = memfd_create("snapshot", MFD_CLOEXEC);
    run_and_press(codes[_i], sizeof(codes[_i]));
    save_set_up(fd);
    unwanted = "\"active\"";

    atomic_store(&busy_disk.is_held, false);

    hear("\"event\":\"STOP\"");
    hear(_i == 0 ? "GUEST_PANICKED" : "\"event\":\"RESET\"");
    if (_i == 0) {
        hear("\"status\":\"failed\"");
        ask("query-migrate");
        hear("only a machine that stands still is saved");
        ck_assert_int_eq(machine_state(machine), MACHINE_ENDED);
    } else {
        unwanted = NULL;
        hear("\"status\":\"completed\"");
        ck_assert_int_eq(machine_state(machine), MACHINE_PAUSED);
    }
    (void)close(fd);
}
END_TEST

/* ---- a disk that finds no room meanwhile ---- */

static void watch(struct virtio_device *device, const char *name)
{
    disk_faults_init(&faults);
    is_watched = true;
    disk_faults_add(&faults, name, "node", device);
    ck_assert_int_eq(vmm_control_watch_disks(&control, &faults, NULL), 0);
}

static void run_with_a_write(struct virtio_device *device, const char *name)
{
    busy_disk_ask(device, true);
    watch(device, name);
    atomic_store(&busy_disk.result, -ENOSPC);
    atomic_store(&busy_disk.is_held, true);
    meet();
    ask("cont");
    hear("\"event\":\"RESUME\"");
    hear("{\"return\":{}}");
    while (atomic_load(&busy_disk.count) == 0) {
        (void)sched_yield();
    }
}

#define NO_ROOM(disk, action)                                                \
    "\"event\":\"BLOCK_IO_ERROR\",\"data\":{\"device\":\"" disk              \
    "\",\"node-name\":\"node\",\"operation\":\"write\",\"action\":\"" action \
    "\",\"nospace\":true"

/* _i: it was to be saved, which it cannot, and then it stands still for its disk. */
START_TEST(what_finds_no_room_on_the_way_to_a_stop_is_kept)
{
    const int fd = memfd_create("snapshot", MFD_CLOEXEC);
    make(jump, sizeof(jump));
    struct virtio_device *disk = busy_disk_new(machine);
    ck_assert_int_eq(machine_add_virtio(machine, disk, "root", NULL), 0);
    run_with_a_write(disk, "root");
    if (_i == 0) {
        say("{\"execute\":\"stop\",\"id\":1}");
        until_it_waits();
    } else {
        save_set_up(fd);
    }

    atomic_store(&busy_disk.is_held, false);

    hear(NO_ROOM("root", "stop"));
    hear("\"event\":\"STOP\"");
    if (_i == 0) {
        hear("{\"return\":{},\"id\":1}");
    } else {
        hear("\"status\":\"failed\"");
        hear("\"event\":\"RESUME\"");
        hear(NO_ROOM("root", "stop"));
        hear("\"event\":\"STOP\"");
    }
    ask("query-status");
    hear(_i == 0 ? "\"status\":\"paused\",\"running\":false"
                 : "\"status\":\"io-error\",\"running\":false");
    ck_assert(!busy_disk_answered(machine));
    atomic_store(&busy_disk.result, 0);
    ask("cont");
    hear("\"event\":\"RESUME\"");
    while (!busy_disk_answered(machine)) {
        ck_assert_int_ge(poller_step(poller, -1), 0);
    }
    (void)close(fd);
}
END_TEST

START_TEST(one_that_is_to_wait_for_room_says_so_when_it_stands_still)
{
    run_with_busy_disk();
    ask("stop");
    until_it_waits();
    control.waits_for_room = true; /* of another disk */
    say("{\"execute\":\"query-status\",\"id\":1}");
    hear("\"status\":\"running\",\"running\":true");

    atomic_store(&busy_disk.is_held, false);

    hear("\"event\":\"STOP\"");
    ask("query-status");
    hear("\"status\":\"io-error\",\"running\":false");
}
END_TEST

static bool leaves(struct virtio_device *device)
{
    virtio_device_enter(device);
    const bool leaves = device->leaving;
    virtio_device_leave(device);
    return leaves;
}

/* Nobody would let it try again. */
START_TEST(a_disk_that_leaves_and_finds_no_room_stops_nobody)
{
    /* mov dx, 0x622 ; 1: in al, dx ; inc dx ; out dx, al ; dec dx ; jmp 1b */
    static const uint8_t polite[] = {0x66, 0xba, 0x22, 0x06, 0xec, 0x66,
                                     0x42, 0xee, 0x66, 0x4a, 0xeb, 0xf8};
    make(polite, sizeof(polite));
    struct virtio_device *disk = busy_disk_new(machine);
    ck_assert_int_eq(machine_add_virtio_in(machine, PCI_PLUG_FIRST, disk, "hot", NULL),
                     0);
    run_with_a_write(disk, "hot");
    ck_assert_int_eq(machine_unplug(machine, "hot", NULL), 0);
    while (!leaves(disk)) {
        ck_assert_int_ge(poller_step(poller, 100), 0);
    }
    unwanted = "STOP";

    atomic_store(&busy_disk.is_held, false);

    hear(NO_ROOM("hot", "ignore"));
    hear("\"event\":\"DEVICE_DELETED\"");
    ck_assert_int_eq(machine_state(machine), MACHINE_RUNNING);
}
END_TEST

/* Its end waits for the disk, and the guest has its answer by then. */
START_TEST(quit_is_answered_while_a_disk_hangs)
{
    run_with_busy_disk();

    say("{\"execute\":\"stop\",\"id\":1}{\"execute\":\"quit\",\"id\":2}");

    ck_assert_int_eq(poller_run(poller), 0);
    hear("host-qmp-quit");
    hear("{\"return\":{},\"id\":2}");
    ck_assert(!busy_disk_answered(machine));
    atomic_store(&busy_disk.is_held, false);
    vmm_control_halt(&control, machine);
    ck_assert(busy_disk_answered(machine));
    ck_assert_int_eq(machine_state(machine), MACHINE_PAUSED);
}
END_TEST

/* _i: it is told to stop before that is known, and to go on after all. */
START_TEST(a_guest_that_panics_over_its_disk_does_not_make_qmp_mute)
{
    static const uint8_t code[] = {AWAIT_POWER, OUT(0x505, 0x01), OUT(0x80, 0x42), 0xf4};
    struct boot_mark marks[BOOT_MARKS_MAX];
    run_and_press(code, sizeof(code));
    unwanted = "GUEST_PANICKED";

    ask("query-status");
    hear("\"status\":\"running\",\"running\":true,\"singlestep\":false,"
         "\"x-waits-for\":\"root\"");
    say("{\"execute\":\"stop\",\"id\":\"s\"}");
    if (_i == 1) {
        say("{\"execute\":\"cont\",\"id\":\"c\"}");
        hear("the machine was let run before it stood still\"},\"id\":\"s\"}");
        hear("{\"return\":{},\"id\":\"c\"}");
        for (unsigned i = 0; i < 1000; i++) { /* a CPU that ran would come here */
            (void)sched_yield();
        }
    }
    atomic_store(&busy_disk.is_held, false);
    if (_i == 0) {
        hear("\"event\":\"STOP\"}\r\n{\"return\":{},\"id\":\"s\"}");
    }
    unwanted = NULL;
    hear("GUEST_PANICKED");
    ck_assert_uint_eq(boot_trace_marks(&trace, marks), 0);
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
    Suite *suite = suite_create("vmm_control_stop");
    TCase *tests = tcase_create("vmm_control_stop");
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, a_stop_waits_for_a_disk_and_nobody_waits_with_it);
    tcase_add_test(tests, a_machine_that_does_not_come_to_stand_still_can_go_on);
    tcase_add_test(tests, a_stop_outlives_its_client);
    tcase_add_test(tests, a_save_is_set_up_until_a_disk_has_done);
    tcase_add_loop_test(tests, a_save_that_is_set_up_can_be_cancelled, 0, 2);
    tcase_add_test(tests, all_that_is_asked_for_comes_before_a_save);
    tcase_add_loop_test(
        tests, what_a_guest_asked_for_before_a_save_was_set_up_comes_first, 0, 2);
    tcase_add_loop_test(tests, what_finds_no_room_on_the_way_to_a_stop_is_kept, 0, 2);
    tcase_add_test(tests, one_that_is_to_wait_for_room_says_so_when_it_stands_still);
    tcase_add_test(tests, a_disk_that_leaves_and_finds_no_room_stops_nobody);
    tcase_add_test(tests, quit_is_answered_while_a_disk_hangs);
    tcase_add_loop_test(tests, a_guest_that_panics_over_its_disk_does_not_make_qmp_mute,
                        0, 2);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
