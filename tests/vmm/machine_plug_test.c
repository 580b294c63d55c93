/* Goal: a device comes while the guest runs, and goes when it was asked for and the guest
 * has let it go, through pauses, resets and saves; a guest that lets go what it likes, or
 * nothing, changes nothing. Method: guests of a few bytes that read and write the
 * registers of slots, on a real KVM (77 without one; tests/system/kvm_machine_test.sh
 * runs this where there is one); every wait is on what the guest says or on an event,
 * with Check's time limit as the bound. */
#include "base/cleanup.h"
#include "busy_disk.h"
#include "micro_kernel.h"
#include "saved_machine.h"
#include "support/test_main.h"
#include "sync_faults.h"
#include "vmm/disk_raw.h"
#include "vmm/machine.h"
#include "vmm/machine_layout.h"
#include "vmm/machine_platform.h"
#include "vmm/virtio_balloon.h"
#include "vmm/virtio_block.h"
#include "vmm/virtio_net.h"
#include "vmm/virtio_random.h"

#include <check.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

#define MIB  (UINT64_C(1) << 20)
#define LAST (PCI_PLUG_FIRST + PCI_PLUG_SLOTS - 1)

/* Says each set of slots that have got a device, and each that are to go, which it lets
 * go at once. */
static const uint8_t polite[] = {
    0x66, 0xba, 0x21, 0x06, 0xec, /* 0: in al, 0x621 */
    0x84, 0xc0, 0x74, 0x05,       /* test al, al ; jz e */
    0x66, 0xba, 0xf8, 0x03, 0xee, /* out 0x3f8, al */
    0x66, 0xba, 0x22, 0x06, 0xec, /* e: in al, 0x622 */
    0x84, 0xc0, 0x74, 0xe9,       /* jz 0 */
    0x66, 0xba, 0xf8, 0x03, 0xee, /* out 0x3f8, al */
    0x66, 0xba, 0x23, 0x06, 0xee, /* out 0x623, al */
    0xeb, 0xdd,                   /* jmp 0 */
};

/* Lets all slots go, for ever. */
static const uint8_t rude[] = {
    0x66, 0xba, 0x22, 0x06, 0xec,             /* in al, 0x622 */
    0x66, 0xba, 0x23, 0x06, 0xb0, 0xff, 0xee, /* out 0x623, 0xff */
    0x66, 0xba, 0xf8, 0x03, 0xee,             /* out 0x3f8, 0xff */
    0xeb, 0xed,                               /* jmp */
};

/* The same, and does not hear what is asked for. */
static const uint8_t blind[] = {
    0x66, 0xba, 0x23, 0x06, 0xb0, 0xff, 0xee, /* out 0x623, 0xff */
    0x66, 0xba, 0xf8, 0x03, 0xee,             /* out 0x3f8, 0xff */
    0xeb, 0xf2,                               /* jmp */
};

/* Does nothing. */
static const uint8_t deaf[] = {0xeb, 0xfe};

static int kvm_fd;
static struct poller *poller;
static struct machine *machine;
static atomic_uint said[256]; /* how often each byte */
static unsigned resets;
static unsigned gone_count;
static char gone[DEVICE_NAME_SIZE]; /* the last one */

/* What comes. */
enum kind { RANDOM = 0, DISK, NIC, KINDS };
static enum kind kind;

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
    (void)end;
    ck_abort_msg("%s", why);
}

static void on_unplugged(void *context, const char *name)
{
    (void)context;
    gone_count++;
    (void)snprintf(gone, sizeof(gone), "%s", name);
}

static void setup(void)
{
    kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    ck_assert_int_ge(kvm_fd, 0);
    ck_assert_int_eq(poller_new(&poller, NULL), 0);
    machine = NULL;
    resets = gone_count = 0;
    kind = RANDOM;
    sync_fault_clear();
    busy_disk_clear();
    for (unsigned i = 0; i < ARRAY_COUNT(said); i++) {
        atomic_store(&said[i], 0);
    }
}

static void teardown(void)
{
    sync_fault_clear(); /* a check that failed left it as it was */
    busy_disk_clear();
    machine = machine_free(machine);
    poller_free(poller);
    (void)close(kvm_fd);
}

static void make(const void *code, size_t size, const struct machine_image *image)
{
    struct err err = {0};
    const struct machine_plan plan = {
        .kvm_fd = kvm_fd,
        .cpu_count = 2,
        .memory_bytes = 32 * MIB,
        .kernel_fd = micro_kernel(code, size),
        .initrd_fd = -1,
        .cmdline = "",
        .image = image,
        .poller = poller,
        .events = {.ended = on_ended, .reset = on_reset, .unplugged = on_unplugged}};
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
    ck_assert_int_ge(machine_pause(machine, NULL), 0);
    while (machine_state(machine) == MACHINE_PAUSING) { /* something is on its way out */
        ck_assert_int_ge(poller_step(poller, -1), 0);
    }
}

static struct virtio_device *disk_new(const struct virtio_place *place)
{
    const struct virtio_block_spec spec = {
        .serial = "disk", .queue_count = 1, .threads = {.count = 2, .has_no_ring = true}};
    struct virtio_device *device = NULL;
    struct disk_file *file = NULL;
    struct virtual_disk *disk = NULL;
    const int fd = memfd_create("disk", MFD_CLOEXEC);
    ck_assert_int_eq(ftruncate(fd, (off_t)MIB), 0);
    ck_assert_int_eq(disk_file_new(fd, &file, NULL), 0);
    ck_assert_int_eq(disk_raw_new(file, false, &disk, NULL), 0);
    ck_assert_int_eq(virtio_block_new(place, &spec, disk, &device, NULL), 0);
    return device;
}

/* Nobody is at the other end of its cable. */
static struct virtio_device *nic_new(const struct virtio_place *place)
{
    const struct virtio_net_spec spec = {.mtu = 1500};
    struct virtio_device *device = NULL;
    int ends[2];
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, ends), 0);
    ck_assert_int_eq(virtio_net_new(place, &spec, &ends[0], 1, &device, NULL), 0);
    (void)close(ends[1]);
    return device;
}

static struct virtio_device *device_new(void)
{
    const struct virtio_place place = machine_place(machine);
    struct virtio_device *device = NULL;
    if (kind == DISK) {
        return disk_new(&place);
    }
    if (kind == NIC) {
        return nic_new(&place);
    }
    ck_assert_int_eq(virtio_random_new(&place, &device), 0);
    return device;
}

/* Its slot. */
static unsigned plug(const char *name)
{
    struct err err = {0};
    const int slot = machine_can_plug(machine, 0, name, &err);
    ck_assert_msg(slot > 0, "%s", err.text);
    ck_assert_msg(
        machine_plug_virtio(machine, (unsigned)slot, device_new(), name, &err) == 0, "%s",
        err.text);
    return (unsigned)slot;
}

static void unplug(const char *name)
{
    struct err err = {0};
    ck_assert_msg(machine_unplug(machine, name, &err) == 0, "%s", err.text);
}

static void await_first(uint8_t byte)
{
    while (atomic_load(&said[byte]) == 0) {
        (void)sched_yield();
    }
}

static void await_gone(unsigned count)
{
    while (gone_count < count) {
        ck_assert_int_ge(poller_step(poller, -1), 0);
    }
}

static unsigned open_files(void)
{
    unsigned count = 0;
    DIR *folder = opendir("/proc/self/fd");
    while (readdir(folder) != NULL) {
        count++;
    }
    (void)closedir(folder);
    return count;
}

START_TEST(a_device_comes_and_goes_while_the_guest_runs)
{
    make(polite, sizeof(polite), NULL);
    run();

    ck_assert_uint_eq(plug("one"), PCI_PLUG_FIRST);
    await_first(0x01);
    ck_assert_uint_eq(plug("two"), PCI_PLUG_FIRST + 1);
    await_first(0x02);
    ck_assert_uint_eq(gone_count, 0);

    unplug("one");
    await_gone(1);
    ck_assert_str_eq(gone, "one");
    ck_assert_int_eq(machine_state(machine), MACHINE_RUNNING);
    ck_assert_uint_eq(plug("three"), PCI_PLUG_FIRST); /* where one was */
    unplug("two");
    await_gone(2);
    ck_assert_str_eq(gone, "two");
}
END_TEST

/* Far more often than there are vectors, descriptors and watches. */
START_TEST(what_comes_and_goes_leaves_nothing)
{
    kind = (enum kind)_i;
    make(polite, sizeof(polite), NULL);
    run();
    plug("device");
    unplug("device");
    await_gone(1);
    const unsigned before = open_files();

    for (unsigned i = 2; i < 700; i++) {
        plug("device");
        unplug("device");
        await_gone(i);
    }

    ck_assert_uint_eq(open_files(), before);
}
END_TEST

START_TEST(a_guest_that_lets_go_what_it_likes_loses_what_was_asked_for)
{
    make(rude, sizeof(rude), NULL);
    run();
    for (unsigned i = 0; i < 3; i++) {
        char name[] = "a";
        name[0] = (char)('a' + i);
        plug(name);
    }
    const unsigned before = atomic_load(&said[0xff]);
    while (atomic_load(&said[0xff]) < before + 300) {
        ck_assert_int_ge(poller_step(poller, 0), 0);
    }
    ck_assert_uint_eq(gone_count, 0);

    unplug("b");
    await_gone(1);

    ck_assert_str_eq(gone, "b");
    ck_assert_int_eq(machine_can_plug(machine, 0, "d", NULL), PCI_PLUG_FIRST + 1);
}
END_TEST

START_TEST(a_guest_that_has_not_heard_of_it_lets_nothing_go)
{
    make(blind, sizeof(blind), NULL);
    run();
    plug("device");
    unplug("device");

    const unsigned before = atomic_load(&said[0xff]);
    while (atomic_load(&said[0xff]) < before + 300) {
        ck_assert_int_ge(poller_step(poller, 0), 0);
    }

    ck_assert_uint_eq(gone_count, 0);
    ck_assert_int_eq(machine_can_plug(machine, 0, "device", NULL), BERTH_EEXISTS);
}
END_TEST

START_TEST(a_guest_that_never_lets_go_keeps_it_until_it_begins_anew)
{
    kind = (enum kind)_i;
    make(deaf, sizeof(deaf), NULL);
    run();
    plug("kept");
    plug("asked");
    for (unsigned i = 0; i < 5; i++) {
        unplug("asked");
    }
    while (poller_step(poller, 20) > 0) {
    }
    ck_assert_uint_eq(gone_count, 0);

    machine_reset(machine);
    while (resets == 0) {
        ck_assert_int_ge(poller_step(poller, -1), 0);
    }

    ck_assert_uint_eq(gone_count, 1);
    ck_assert_str_eq(gone, "asked");
    ck_assert_int_eq(machine_can_plug(machine, 0, "kept", NULL), BERTH_EEXISTS);
}
END_TEST

START_TEST(what_comes_before_the_guest_begins_is_no_news_and_goes_at_once)
{
    kind = (enum kind)_i;
    make(polite, sizeof(polite), NULL);
    plug("early");
    plug("late");
    unplug("late");
    ck_assert(kind == DISK || gone_count == 1);
    await_gone(1);
    run();
    plug("news"); /* in the slot that late has left */

    await_first(0x02);

    ck_assert_uint_eq(atomic_load(&said[0x01]), 0);
    ck_assert_uint_eq(atomic_load(&said[0x03]), 0);
}
END_TEST

START_TEST(a_guest_that_stands_still_hears_of_it_when_it_goes_on)
{
    make(polite, sizeof(polite), NULL);
    run();
    plug("old");
    await_first(0x01);
    pause_it();

    plug("new");
    unplug("old");
    ck_assert_uint_eq(gone_count, 0);
    run();

    await_first(0x02);
    await_gone(1);
    ck_assert_str_eq(gone, "old");
}
END_TEST

/* It is let go while nobody looks: that is seen to before the state is taken. */
START_TEST(what_was_let_go_is_in_no_saved_machine)
{
    struct bytes_writer state;
    kind = (enum kind)_i;
    make(rude, sizeof(rude), NULL);
    run();
    plug("device");
    unplug("device");
    const unsigned before = atomic_load(&said[0xff]);
    while (atomic_load(&said[0xff]) < before + 2) {
        (void)sched_yield();
    }
    pause_it();

    const int file = saved_machine(machine, &state);

    ck_assert_uint_eq(gone_count, 1);
    ck_assert_uint_eq(atomic_load(&sync_fault.count), kind == DISK ? 1 : 0);
    machine = machine_free(machine);
    const struct machine_image image = {.fd = file, .offset = SAVED_RAM_AT};
    make(rude, sizeof(rude), &image);
    ck_assert_int_eq(machine_restore(machine, state.data, state.size, NULL), 0);
    bytes_writer_fini(&state);
    (void)close(file);
}
END_TEST

/* ---- a disk that leaves, and a host that takes its time ---- */

/* The guest has let it go, and what it has written is not durable yet. */
static void leave_slowly(void)
{
    kind = DISK;
    make(rude, sizeof(rude), NULL);
    run();
    ck_assert_uint_eq(plug("disk"), PCI_PLUG_FIRST);
    atomic_store(&sync_fault.is_held, true);
    unplug("disk");
    while (atomic_load(&sync_fault.count) == 0) {
        ck_assert_int_ge(poller_step(poller, 0), 0);
    }
}

START_TEST(a_guest_runs_on_while_what_it_wrote_becomes_durable)
{
    leave_slowly();

    const unsigned before = atomic_load(&said[0xff]);
    while (atomic_load(&said[0xff]) < before + 300) {
        ck_assert_int_ge(poller_step(poller, 0), 0);
    }
    unplug("disk"); /* nobody is asked twice */
    ck_assert_uint_eq(gone_count, 0);
    ck_assert_int_eq(machine_can_plug(machine, 0, "disk", NULL), BERTH_EEXISTS);
    ck_assert_int_eq(machine_can_plug(machine, PCI_PLUG_FIRST, "x", NULL), BERTH_EEXISTS);
    ck_assert_uint_eq(plug("other"), PCI_PLUG_FIRST + 1);
    atomic_store(&sync_fault.is_held, false);
    await_gone(1);

    ck_assert_str_eq(gone, "disk");
    ck_assert_uint_eq(atomic_load(&sync_fault.count), 1);
    ck_assert_uint_eq(atomic_load(&sync_fault.main_count), 0);
    ck_assert_uint_eq(plug("disk"), PCI_PLUG_FIRST);
}
END_TEST

START_TEST(a_disk_that_cannot_be_made_durable_goes_all_the_same)
{
    leave_slowly();
    atomic_store(&sync_fault.error, EIO);
    atomic_store(&sync_fault.is_held, false);

    await_gone(1);

    ck_assert_uint_eq(plug("disk"), PCI_PLUG_FIRST);
}
END_TEST

static void *let_go_later(void *context)
{
    (void)context;
    atomic_store(&sync_fault.is_held, false);
    atomic_store(&busy_disk.is_held, false);
    return NULL;
}

/* A save, a reset and an end wait for it; _i says which. */
START_TEST(what_comes_next_waits_until_it_has_left)
{
    struct bytes_writer state;
    pthread_t thread;
    leave_slowly();
    ck_assert_int_eq(machine_pause(machine, NULL), 1);
    ck_assert_str_eq(machine_waits_for(machine), "disk");
    (void)poller_step(poller, 0); /* and nothing comes of it */
    ck_assert_int_eq(machine_state(machine), MACHINE_PAUSING);
    ck_assert_uint_eq(gone_count, 0);
    ck_assert_int_eq(machine_save(machine, &state, NULL), BERTH_EPHASE);
    ck_assert_int_eq(pthread_create(&thread, NULL, let_go_later, NULL), 0);

    if (_i == 0) {
        while (machine_state(machine) == MACHINE_PAUSING) {
            ck_assert_int_ge(poller_step(poller, -1), 0);
        }
        (void)close(saved_machine(machine, &state));
        bytes_writer_fini(&state);
        ck_assert_uint_eq(gone_count, 1);
    } else if (_i == 1) {
        machine_reset(machine);
        while (resets == 0) {
            ck_assert_int_ge(poller_step(poller, -1), 0);
        }
        ck_assert_uint_eq(gone_count, 1);
    } else {
        machine = machine_free(machine);
        ck_assert_uint_eq(atomic_load(&sync_fault.done_count), 1);
    }
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
}
END_TEST

static void add_in(unsigned slot, const char *name)
{
    struct err err = {0};
    ck_assert_msg(machine_add_virtio_in(machine, slot, device_new(), name, &err) == 0,
                  "%s", err.text);
}

static void add_balloon(void)
{
    const struct virtio_place place = machine_place(machine);
    struct virtio_device *device;
    ck_assert_int_eq(virtio_balloon_new(&place, &device), 0);
    ck_assert_int_eq(machine_add_virtio(machine, device, "balloon0", NULL), 0);
}

static const struct again_row {
    unsigned slots[2]; /* of "early" and "late"; 0: it is not there */
    const char *words; /* NULL: it is taken */
} agains[] = {
    {{26, 24}, NULL},
    {{26, 25}, "devices in slots 24, 26, and this one in 25, 26"},
    {{24, 26}, "cannot take the state of another"},
    {{26, 0}, "devices and this one has"},
};

/* It has a request in flight when its guest, which has never driven it, lets it go. */
static void leave_busy(void)
{
    make(rude, sizeof(rude), NULL);
    struct virtio_device *disk = busy_disk_new(machine);
    ck_assert_int_eq(machine_add_virtio_in(machine, PCI_PLUG_FIRST, disk, "busy", NULL),
                     0);
    busy_disk_ask(disk, false);
    atomic_store(&busy_disk.is_held, true);
    run();
    while (atomic_load(&busy_disk.count) == 0) {
        (void)sched_yield();
    }
    unplug("busy");
    const unsigned before = atomic_load(&said[0xff]);
    while (atomic_load(&said[0xff]) < before + 300) {
        ck_assert_int_ge(poller_step(poller, 0), 0);
    }
}

/* _i: it stands still for a moment meanwhile. */
START_TEST(a_guest_runs_on_while_what_goes_has_work_in_flight)
{
    leave_busy();
    ck_assert_uint_eq(gone_count, 0);
    if (_i == 1) {
        ck_assert_int_eq(machine_pause(machine, NULL), 1);
        run();
    }
    const unsigned before = atomic_load(&said[0xff]);
    while (atomic_load(&said[0xff]) < before + 300) {
        ck_assert_int_ge(poller_step(poller, 0), 0);
    }
    ck_assert_int_eq(machine_can_plug(machine, PCI_PLUG_FIRST, "x", NULL), BERTH_EEXISTS);
    ck_assert_uint_eq(gone_count, 0);

    atomic_store(&busy_disk.is_held, false);
    await_gone(1);

    ck_assert_str_eq(gone, "busy");
    ck_assert_uint_eq(atomic_load(&busy_disk.count), 1);
    ck_assert_uint_eq(plug("next"), PCI_PLUG_FIRST);
}
END_TEST

/* A save, a reset and an end; _i says which. */
START_TEST(what_goes_and_has_work_in_flight_is_waited_for)
{
    struct bytes_writer state;
    pthread_t thread;
    leave_busy();
    if (_i == 0) {
        ck_assert_int_eq(machine_pause(machine, NULL), 1);
        atomic_store(&busy_disk.is_held, false);
        while (machine_state(machine) == MACHINE_PAUSING) {
            ck_assert_int_ge(poller_step(poller, -1), 0);
        }
        ck_assert_uint_eq(gone_count, 1);
        (void)close(saved_machine(machine, &state));
        bytes_writer_fini(&state);
    } else if (_i == 1) {
        machine_reset(machine);
        while (machine_waits_for(machine) == NULL) {
            ck_assert_int_ge(poller_step(poller, -1), 0);
        }
        atomic_store(&busy_disk.is_held, false);
        while (resets == 0) {
            ck_assert_int_ge(poller_step(poller, -1), 0);
        }
        ck_assert_uint_eq(gone_count, 1);
    } else {
        ck_assert_int_eq(pthread_create(&thread, NULL, let_go_later, NULL), 0);
        machine_halt(machine);
        ck_assert_uint_eq(gone_count, 1);
        ck_assert_int_eq(pthread_join(thread, NULL), 0);
    }
}
END_TEST

/* All that there is stands still when it is saved, what has come last as well. */
START_TEST(what_comes_while_a_disk_is_waited_for_stands_still_with_it)
{
    struct bytes_writer state;
    make(deaf, sizeof(deaf), NULL);
    (void)busy_disk_add(machine, "busy");
    run();
    while (atomic_load(&busy_disk.count) == 0) {
        (void)sched_yield();
    }
    machine_reset(machine);
    while (machine_waits_for(machine) == NULL) {
        ck_assert_int_ge(poller_step(poller, -1), 0);
    }
    ck_assert_str_eq(machine_waits_for(machine), "busy");

    plug("device");
    ck_assert_int_eq(machine_pause(machine, NULL), 1);
    atomic_store(&busy_disk.is_held, false);
    while (resets == 0) {
        ck_assert_int_ge(poller_step(poller, -1), 0);
    }

    ck_assert_int_eq(machine_state(machine), MACHINE_PAUSED);
    ck_assert_ptr_null(machine_waits_for(machine));
    bytes_writer_init(&state, 16 * MIB);
    ck_assert_int_gt(machine_save(machine, &state, NULL), 0);
    bytes_writer_fini(&state);
}
END_TEST

/* They came in one order and are named in another: the slots tell. */
START_TEST(a_saved_machine_comes_back_to_the_same_devices_in_the_same_slots)
{
    const struct again_row *row = &agains[_i];
    struct machine_image image = {.offset = SAVED_RAM_AT};
    struct bytes_writer state;
    struct err err = {0};
    make(polite, sizeof(polite), NULL);
    add_in(26, "early");
    add_balloon();
    run();
    ck_assert_uint_eq(plug("late"), 24);
    await_first(0x01);
    pause_it();
    unplug("early"); /* it has not heard of it yet */
    image.fd = saved_machine(machine, &state);
    machine = machine_free(machine);
    make(polite, sizeof(polite), &image);
    ck_assert_int_eq(machine_can_plug(machine, 0, "x", NULL), BERTH_EPHASE);
    ck_assert_int_eq(machine_unplug(machine, "late", NULL), BERTH_EPHASE);
    add_in(row->slots[0], "early");
    add_balloon();
    if (row->slots[1] != 0) {
        add_in(row->slots[1], "late");
    }

    const int r = machine_restore(machine, state.data, state.size, &err);

    bytes_writer_fini(&state);
    (void)close(image.fd);
    if (row->words != NULL) {
        ck_assert_int_lt(r, 0);
        ck_assert_msg(strstr(err.text, row->words) != NULL, "%s", err.text);
        return;
    }
    ck_assert_msg(r == 0, "%s", err.text);
    run();
    await_gone(1);
    ck_assert_str_eq(gone, "early");
    plug("next");
    await_first(0x02);
    unplug("late");
    await_gone(2);
}
END_TEST

START_TEST(slots_are_found_out_for_and_bounded)
{
    struct err err = {0};
    make(polite, sizeof(polite), NULL);
    run();
    for (unsigned i = 0; i < PCI_PLUG_SLOTS; i++) {
        char name[DEVICE_NAME_SIZE];
        (void)snprintf(name, sizeof(name), "device%u", i);
        ck_assert_uint_eq(plug(name), PCI_PLUG_FIRST + i);
    }

    ck_assert_int_eq(machine_can_plug(machine, 0, "more", &err), BERTH_EFULL);
    ck_assert_str_eq(err.text,
                     "all of the slots 24 to 31 have a device: no more can come");
    ck_assert_int_eq(machine_can_plug(machine, LAST, "more", &err), BERTH_EEXISTS);
    ck_assert_int_eq(machine_can_plug(machine, 1, "more", &err), BERTH_EINVALID);
    ck_assert_int_eq(machine_can_plug(machine, LAST + 1, "more", &err), BERTH_EINVALID);
    ck_assert_int_eq(machine_can_plug(machine, 0, "device3", &err), BERTH_EEXISTS);
    ck_assert_int_eq(machine_unplug(machine, "nobody", &err), -ENODEV);
    ck_assert_str_eq(err.text, "Device 'nobody' not found");
    ck_assert_int_eq(machine_unplug(machine, "serial0", &err), -ENODEV);
    ck_assert_int_eq(machine_unplug(machine, "pci", &err), BERTH_EUNSUPPORTED);
}
END_TEST

/* Those from the start fill the bus from its first slot on, and then these. */
START_TEST(what_is_there_for_good_takes_slots_and_never_leaves_them)
{
    struct err err = {0};
    make(rude, sizeof(rude), NULL);
    for (unsigned i = 1; i <= PCI_PLUG_FIRST + 1; i++) {
        char name[DEVICE_NAME_SIZE];
        (void)snprintf(name, sizeof(name), "static%u", i);
        ck_assert_int_eq(machine_add_virtio(machine, device_new(), name, NULL), 0);
    }
    run();

    ck_assert_uint_eq(plug("first"), PCI_PLUG_FIRST + 2);
    ck_assert_int_eq(machine_unplug(machine, "static25", &err), BERTH_EUNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(err.text, "stays as long as the machine"));
    unplug("first");
    await_gone(1);

    ck_assert_str_eq(gone, "first");
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
    Suite *suite = suite_create("machine_plug");
    TCase *tests = tcase_create("machine_plug");
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, a_device_comes_and_goes_while_the_guest_runs);
    tcase_add_loop_test(tests, what_comes_and_goes_leaves_nothing, RANDOM, KINDS);
    tcase_add_test(tests, a_guest_that_lets_go_what_it_likes_loses_what_was_asked_for);
    tcase_add_test(tests, a_guest_that_has_not_heard_of_it_lets_nothing_go);
    tcase_add_loop_test(tests, a_guest_that_never_lets_go_keeps_it_until_it_begins_anew,
                        0, KINDS);
    tcase_add_loop_test(
        tests, what_comes_before_the_guest_begins_is_no_news_and_goes_at_once, 0, KINDS);
    tcase_add_test(tests, a_guest_that_stands_still_hears_of_it_when_it_goes_on);
    tcase_add_loop_test(tests, what_was_let_go_is_in_no_saved_machine, 0, KINDS);
    tcase_add_test(tests, a_guest_runs_on_while_what_it_wrote_becomes_durable);
    tcase_add_test(tests, a_disk_that_cannot_be_made_durable_goes_all_the_same);
    tcase_add_loop_test(tests, what_comes_next_waits_until_it_has_left, 0, 3);
    tcase_add_loop_test(tests, a_guest_runs_on_while_what_goes_has_work_in_flight, 0, 2);
    tcase_add_loop_test(tests, what_goes_and_has_work_in_flight_is_waited_for, 0, 3);
    tcase_add_test(tests, what_comes_while_a_disk_is_waited_for_stands_still_with_it);
    tcase_add_loop_test(tests,
                        a_saved_machine_comes_back_to_the_same_devices_in_the_same_slots,
                        0, ARRAY_COUNT(agains));
    tcase_add_test(tests, slots_are_found_out_for_and_bounded);
    tcase_add_test(tests, what_is_there_for_good_takes_slots_and_never_leaves_them);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
