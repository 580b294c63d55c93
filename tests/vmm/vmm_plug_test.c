/* Goal: a client brings disks and NICs to a machine that runs as it would to QEMU's, and
 * has them back; what it gets wrong changes nothing. Method: QMP with descriptors, to a
 * machine whose guest of a few bytes lets go what it is asked for, on a real KVM (77
 * without one; tests/system/kvm_machine_test.sh runs this where there is one). */
#include "base/cleanup.h"
#include "base/fd.h"
#include "micro_kernel.h"
#include "support/temp_dir.h"
#include "support/test_main.h"
#include "sync_faults.h"
#include "vmm/overlay_file.h"
#include "vmm/vmm_control.h"
#include "vmm/vmm_devices.h"
#include "vmm/vmm_plug.h"

#include <check.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define DISK_BYTES 1048576

/* mov dx, 0x622 ; 1: in al, dx ; inc dx ; out dx, al ; dec dx ; jmp 1b */
static const uint8_t polite[] = {0x66, 0xba, 0x22, 0x06, 0xec, 0x66,
                                 0x42, 0xee, 0x66, 0x4a, 0xeb, 0xf8};

static int kvm_fd;
static struct temp_dir dir;
static struct sockaddr_un address = {.sun_family = AF_UNIX};
static struct poller *poller;
static struct machine *machine;
static struct vmm_control control;
static struct vmm_devices devices;
static struct vmm_plug plug;
static int client;
static int root_fd = -1; /* the file of a disk from the start */
static char heard[65536];
static size_t heard_size;

static void on_ended(void *context, enum machine_end end, const char *reason)
{
    vmm_control_ended(context, end, reason);
}

static void on_reset(void *context)
{
    vmm_control_reset(context);
}

static void on_leaves(void *context, const struct virtio_device *device)
{
    vmm_control_leaves(context, device);
}

static unsigned descriptors_open(void)
{
    unsigned count = 0;
    for (int fd = 0; fd < 256; fd++) {
        count += fcntl(fd, F_GETFD) >= 0;
    }
    return count;
}

static unsigned open_when_told; /* that a device has gone */

static void on_unplugged(void *context, const char *name)
{
    open_when_told = descriptors_open();
    vmm_control_unplugged(context, name);
}

static int on_thread(void *context, struct err *err)
{
    (void)context;
    (void)err;
    return 0;
}

static void client_open(void)
{
    client = socket(AF_UNIX, SOCK_STREAM, 0);
    ck_assert_int_eq(connect(client, (struct sockaddr *)&address, sizeof(address)), 0);
    heard_size = 0;
}

static void setup(void)
{
    sync_fault_clear();
    kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    temp_dir_init(&dir);
    ck_assert_int_eq(poller_new(&poller, NULL), 0);
    const struct machine_plan plan = {.kvm_fd = kvm_fd,
                                      .cpu_count = 1,
                                      .memory_bytes = UINT64_C(32) << 20,
                                      .kernel_fd = micro_kernel(polite, sizeof(polite)),
                                      .initrd_fd = -1,
                                      .cmdline = "",
                                      .poller = poller,
                                      .events = {.ended = on_ended,
                                                 .reset = on_reset,
                                                 .leaves = on_leaves,
                                                 .unplugged = on_unplugged,
                                                 .context = &control}};
    ck_assert_int_eq(machine_new(&plan, &machine, NULL), 0);
    ck_assert_int_eq(machine_load(machine, NULL), 0);
    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%.80s/qmp", dir.path);
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    ck_assert_int_eq(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
    ck_assert_int_eq(listen(listener, 1), 0);
    ck_assert_int_eq(vmm_control_open(&control, machine, poller, "web-1", listener, NULL),
                     0);
    vmm_devices_init(&devices);
    plug = (struct vmm_plug){.devices = &devices, .threads = {.began = on_thread}};
    control.throttle = &devices.throttle;
    control.stats = &devices.stats;
    vmm_control_watch_plug(&control, &plug);
    ck_assert_int_eq(vmm_control_watch_disks(&control, &devices.faults, NULL), 0);
    client_open();
}

static void teardown(void)
{
    (void)close(client);
    fd_close(&root_fd);
    vmm_control_close(&control);
    machine = machine_free(machine);
    vmm_plug_fini(&plug);
    vmm_devices_close(&devices);
    poller_free(poller);
    temp_dir_fini(&dir);
    (void)close(kvm_fd);
}

/* Steps until the client has heard the words; what came before them is forgotten. */
static void hear(const char *words)
{
    for (;;) {
        ssize_t got = recv(client, heard + heard_size, sizeof(heard) - 1 - heard_size,
                           MSG_DONTWAIT);
        heard_size += got > 0 ? (size_t)got : 0;
        heard[heard_size] = '\0';
        char *found = strstr(heard, words);
        if (found != NULL) {
            found += strlen(words);
            heard_size -= (size_t)(found - heard);
            memmove(heard, found, heard_size + 1);
            return;
        }
        ck_assert_int_ge(poller_step(poller, 100), 0);
    }
}

/* A command, and a descriptor with it unless that is -1, which is closed. */
static void ask(const char *command, const char *arguments, int take_fd)
{
    char text[1024];
    union {
        struct cmsghdr part;
        char room[CMSG_SPACE(sizeof(int))];
    } with = {.part = {.cmsg_len = CMSG_LEN(sizeof(int)),
                       .cmsg_level = SOL_SOCKET,
                       .cmsg_type = SCM_RIGHTS}};
    (void)snprintf(text, sizeof(text), "{\"execute\":\"%s\",\"arguments\":%s}", command,
                   arguments);
    struct iovec piece = {text, strlen(text)};
    struct msghdr header = {.msg_iov = &piece, .msg_iovlen = 1};
    if (take_fd >= 0) {
        memcpy(CMSG_DATA(&with.part), &take_fd, sizeof(take_fd));
        header.msg_control = &with;
        header.msg_controllen = sizeof(with.room);
    }
    ck_assert_int_eq(sendmsg(client, &header, MSG_NOSIGNAL), (int)strlen(text));
    if (take_fd >= 0) {
        (void)close(take_fd);
    }
}

/* The same, which has to be good. */
static void order(const char *command, const char *arguments, int take_fd)
{
    ask(command, arguments, take_fd);
    hear("{\"return\":");
}

static void meet(bool runs)
{
    hear("{\"QMP\"");
    order("qmp_capabilities", "{}", -1);
    if (runs) {
        order("cont", "{}", -1);
    }
}

static int file_of(uint64_t size)
{
    const int fd = memfd_create("disk", MFD_CLOEXEC);
    ck_assert_int_eq(ftruncate(fd, (off_t)size), 0);
    return fd;
}

#define FILE_NAMED(name) "\"file\":{\"driver\":\"file\",\"filename\":\"" name "\"}"
#define RAW(node, name) \
    "{\"driver\":\"raw\",\"node-name\":\"" node "\"," FILE_NAMED(name) "}"
#define READ(node, name)                                           \
    "{\"driver\":\"raw\",\"read-only\":true,\"node-name\":\"" node \
    "\"," FILE_NAMED(name) "}"
#define OVER(node, name, base)                      \
    "{\"driver\":\"overlay\",\"node-name\":\"" node \
    "\"," FILE_NAMED(name) ",\"backing\":{\"driver\":\"raw\"," FILE_NAMED(base) "}}"

/* A disk of a file, by the names that its id makes. */
static void plug_disk(void)
{
    order("getfd", "{\"fdname\":\"f\"}", file_of(DISK_BYTES));
    order("blockdev-add", RAW("node", "f"), -1);
    order("device_add",
          "{\"driver\":\"virtio-blk-pci\",\"id\":\"hot\",\"drive\":\"node\"}", -1);
}

START_TEST(a_disk_comes_is_counted_and_limited_and_goes)
{
    meet(_i == 0);
    const unsigned before = descriptors_open();
    plug_disk();
    ck_assert_uint_gt(descriptors_open(), before);

    ask("query-block", "{}", -1);
    hear("\"device\":\"hot\",\"qdev\":\"hot\"");
    hear("\"file\":\"f\",\"ro\":false,\"drv\":\"raw\"");
    hear("\"virtual-size\":1048576");
    ask("query-blockstats", "{}", -1);
    hear("\"device\":\"hot\"");
    ask("x-query-device-stats", "{}", -1);
    hear("\"id\":\"hot\",\"qdev\":\"hot\",\"driver\":\"virtio-block\"");
    order("block_set_io_throttle",
          "{\"id\":\"hot\",\"bps\":0,\"bps_rd\":0,\"bps_wr\":0,\"iops\":77,\"iops_rd\":0,"
          "\"iops_wr\":0}",
          -1);
    ask("x-query-throttle", "{}", -1);
    hear("\"id\":\"hot\",\"bps\":0,\"bps_max\":0,\"iops\":77");
    ask("blockdev-del", "{\"node-name\":\"node\"}", -1);
    hear("Node 'node' is busy");

    ask("device_del", "{\"id\":\"hot\"}", -1);
    hear("\"event\":\"DEVICE_DELETED\",\"data\":{\"device\":\"hot\",\"path\":"
         "\"/machine/peripheral/hot\"}");
    ck_assert_uint_eq(open_when_told, before); /* its file may be taken away */

    ck_assert_uint_eq(devices.stats.count, 0);
    ck_assert_uint_eq(devices.throttle.count, 0);
    ask("query-block", "{}", -1);
    hear("{\"return\":[]}");
    ask("device_del", "{\"id\":\"hot\"}", -1);
    hear("\"class\":\"DeviceNotFound\",\"desc\":\"Device 'hot' not found\"");
    ask("device_add", "{\"driver\":\"virtio-blk-pci\",\"id\":\"hot\",\"drive\":\"node\"}",
        -1);
    hear("it's in use, or was");
    order("blockdev-del", "{\"node-name\":\"node\"}", -1);
    plug_disk(); /* again, by the same names */
}
END_TEST

static void plug_nic(void)
{
    int ends[2];
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, ends), 0);
    (void)close(ends[0]);
    order("getfd", "{\"fdname\":\"f\"}", ends[1]);
    order("netdev_add", "{\"type\":\"tap\",\"id\":\"net\",\"fd\":\"f\"}", -1);
    order("device_add",
          "{\"driver\":\"virtio-net-pci\",\"id\":\"hot\",\"netdev\":\"net\",\"mac\":"
          "\"52:54:00:00:00:07\"}",
          -1);
}

/* With what QMP, limits, counters and faults keep of each. */
START_TEST(what_comes_and_goes_leaves_nothing)
{
    meet(true);
    const unsigned before = descriptors_open();
    for (unsigned i = 0; i < 110; i++) {
        if (_i == 0) {
            plug_disk();
        } else {
            plug_nic();
        }
        ask("device_del", "{\"id\":\"hot\"}", -1);
        hear("DEVICE_DELETED");
        ck_assert_uint_eq(open_when_told, before);
        order(_i == 0 ? "blockdev-del" : "netdev_del",
              _i == 0 ? "{\"node-name\":\"node\"}" : "{\"id\":\"net\"}", -1);
    }
    ck_assert_uint_eq(devices.stats.count + devices.throttle.count, 0);
    ck_assert_uint_le(devices.faults.count, 1); /* a place that is free */
}
END_TEST

/* The guest knows nothing of it, so its owner has to. */
START_TEST(a_disk_that_goes_and_is_not_durable_is_told_of_before)
{
    meet(_i == 0);
    plug_disk();
    atomic_store(&sync_fault.error, EIO);

    ask("device_del", "{\"id\":\"hot\"}", -1);

    hear("\"event\":\"BLOCK_IO_ERROR\",\"data\":{\"device\":\"hot\",\"node-name\":"
         "\"node\",");
    hear("\"operation\":\"write\",\"action\":\"ignore\",\"nospace\":false,\"reason\":");
    hear("\"event\":\"DEVICE_DELETED\",\"data\":{\"device\":\"hot\"");
    order("blockdev-del", "{\"node-name\":\"node\"}", -1);
    ck_assert_uint_eq(atomic_load(&sync_fault.main_count), 0);
}
END_TEST

/* One that stays (_i of 0), or is about to leave, as its machine ends. */
START_TEST(a_disk_that_is_not_durable_when_its_machine_ends_is_told_of)
{
    meet(true);
    plug_disk();
    atomic_store(&sync_fault.error, EIO);
    if (_i == 1) {
        atomic_store(&sync_fault.is_held, true);
        ask("device_del", "{\"id\":\"hot\"}", -1);
        while (atomic_load(&sync_fault.count) == 0) {
            ck_assert_int_ge(poller_step(poller, 1), 0);
        }
        atomic_store(&sync_fault.is_held, false);
    }

    vmm_control_halt(&control, machine);

    hear("\"event\":\"BLOCK_IO_ERROR\",\"data\":{\"device\":\"hot\",\"node-name\":"
         "\"node\",\"operation\":\"write\",\"action\":\"ignore\",");
    ck_assert_uint_eq(atomic_load(&sync_fault.count), 1);
    ck_assert_uint_eq(atomic_load(&sync_fault.main_count), 0);
}
END_TEST

START_TEST(a_set_of_add_fd_is_opened_until_it_is_removed)
{
    meet(true);
    ask("add-fd", "{\"fdset-id\":7,\"opaque\":\"disk\"}", file_of(DISK_BYTES));
    hear("{\"return\":{\"fdset-id\":7,\"fd\":");
    ask("add-fd", "{}", file_of(DISK_BYTES));
    hear("{\"return\":{\"fdset-id\":0,\"fd\":");
    ask("add-fd", "{\"fdset-id\":7}", file_of(DISK_BYTES));
    hear("there is one to a set");

    order("blockdev-add", READ("a", "/dev/fdset/7"), -1);
    order("blockdev-add", READ("b", "/dev/fdset/7"), -1);
    order("remove-fd", "{\"fdset-id\":7}", -1);
    ask("remove-fd", "{\"fdset-id\":7}", -1);
    hear("File descriptor named 'fdset-id:7' not found");
    ask("blockdev-add", RAW("c", "/dev/fdset/7"), -1);
    hear("has not been found");

    order("device_add", "{\"driver\":\"virtio-blk-pci\",\"id\":\"hot\",\"drive\":\"b\"}",
          -1);
}
END_TEST

START_TEST(what_a_client_has_not_used_goes_with_it_but_for_names)
{
    meet(true);
    const unsigned before = descriptors_open();
    order("add-fd", "{\"fdset-id\":7}", file_of(DISK_BYTES));
    order("add-fd", "{}", file_of(DISK_BYTES));
    order("add-fd", "{\"fdset-id\":4}", file_of(DISK_BYTES));
    order("getfd", "{\"fdname\":\"name\"}", file_of(DISK_BYTES));
    order("blockdev-add", READ("a", "/dev/fdset/7"), -1);
    order("remove-fd", "{\"fdset-id\":4}", -1);
    ask("query-fdsets", "{}", -1);
    hear("{\"return\":[{\"fdset-id\":7,\"fds\":[{\"fd\":");
    hear("}]},{\"fdset-id\":0,\"fds\":[{\"fd\":");
    hear("}]}]}");

    (void)close(client);
    client_open();
    meet(false);

    ck_assert_uint_eq(descriptors_open(), before + 2); /* the node's, and the name's */
    ask("query-fdsets", "{}", -1);
    hear("{\"return\":[]}");
    order("device_add", "{\"driver\":\"virtio-blk-pci\",\"id\":\"hot\",\"drive\":\"a\"}",
          -1);
    order("blockdev-add", RAW("b", "name"), -1);
}
END_TEST

START_TEST(an_overlay_comes_with_its_base)
{
    static const struct digest digest = {{0xab}};
    char hex[DIGEST_HEX_SIZE];
    char text[1024];
    const int base = file_of(DISK_BYTES);
    const int file = memfd_create("overlay", MFD_CLOEXEC);
    ck_assert_int_eq(overlay_file_make(file, 0, base, &digest, NULL), 0);
    digest_format(&digest, hex);
    meet(true);
    order("getfd", "{\"fdname\":\"file\"}", file);
    order("getfd", "{\"fdname\":\"base\"}", base);
    (void)snprintf(
        text, sizeof(text),
        "{\"driver\":\"overlay\",\"node-name\":\"node\"," FILE_NAMED(
            "file") ",\"backing\":{\"driver\":\"raw\"," FILE_NAMED("base") "},"
                                                                           "\"digest\":"
                                                                           "\"%s\"}",
        hex);

    order("blockdev-add", text, -1);
    order("device_add",
          "{\"driver\":\"virtio-blk-pci\",\"id\":\"hot\",\"drive\":\"node\","
          "\"addr\":\"0x1f\",\"bus\":\"pcie.0\",\"serial\":\"data-1\"}",
          -1);

    ask("query-block", "{}", -1);
    hear("\"device\":\"hot\"");
    hear("\"file\":\"file\",\"ro\":false,\"drv\":\"overlay\",\"backing_file_depth\":1");
    hear("\"backing_file\":\"base\"");
    ask("device_del", "{\"id\":\"hot\"}", -1);
    hear("DEVICE_DELETED");
}
END_TEST

START_TEST(a_nic_comes_is_counted_and_limited_and_goes)
{
    int ends[2];
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, ends), 0);
    meet(true);
    order("getfd", "{\"fdname\":\"tap\"}", ends[1]);
    order("netdev_add",
          "{\"type\":\"tap\",\"id\":\"net\",\"fd\":\"tap\",\"vhost\":false}", -1);
    order("device_add",
          "{\"driver\":\"virtio-net-pci\",\"id\":\"nic\",\"netdev\":\"net\",\"mac\":"
          "\"52:54:00:00:00:07\",\"host_mtu\":1400,\"mq\":false}",
          -1);

    ask("x-query-device-stats", "{}", -1);
    hear("\"id\":\"nic\",\"qdev\":\"nic\",\"driver\":\"virtio-net\"");
    order("x-nic-set-throttle", "{\"id\":\"nic\",\"direction\":\"receive\",\"iops\":9}",
          -1);
    ask("netdev_del", "{\"id\":\"net\"}", -1);
    hear("netdev 'net' is in use by a device");
    ask("device_del", "{\"id\":\"nic\"}", -1);
    hear("DEVICE_DELETED");

    /* Nobody has its other end any more. */
    ck_assert_int_lt(send(ends[0], "x", 1, MSG_NOSIGNAL), 0);
    ck_assert_uint_eq(devices.stats.count, 0);
    order("netdev_del", "{\"id\":\"net\"}", -1);
    ask("netdev_del", "{\"id\":\"net\"}", -1);
    hear("\"class\":\"DeviceNotFound\"");
    (void)close(ends[0]);
}
END_TEST

START_TEST(what_no_device_has_is_given_back)
{
    int ends[2];
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, ends), 0);
    meet(false);
    order("getfd", "{\"fdname\":\"tap\"}", ends[1]);
    order("netdev_add", "{\"type\":\"tap\",\"id\":\"net\",\"fds\":\"tap\"}", -1);
    ck_assert_int_eq(send(ends[0], "x", 1, MSG_NOSIGNAL), 1);

    order("netdev_del", "{\"id\":\"net\"}", -1);

    ck_assert_int_lt(send(ends[0], "x", 1, MSG_NOSIGNAL), 0);
    (void)close(ends[0]);
}
END_TEST

#define SERIAL(id, node, serial)                                               \
    "{\"driver\":\"virtio-blk-pci\",\"id\":\"" id "\",\"drive\":\"" node "\"," \
    "\"serial\":\"" serial "\"}"

static const struct refusal_row {
    const char *command;
    const char *arguments;
    const char *words;
} refusals[] = {
    {"blockdev-add", "{\"driver\":\"raw\"}", "Parameter 'node-name' is missing"},
    {"blockdev-add", RAW("1x", "f"), "Parameter 'node-name' expects an identifier"},
    {"blockdev-add", RAW("a123456789b123456789c123456789d1", "f"), "expects an identif"},
    {"blockdev-add", RAW("used", "f"), "Duplicate nodes with node-name='used'"},
    {"blockdev-add", RAW("n", "nobody"), "'nobody' has not been found"},
    {"blockdev-add", RAW("n", "/etc/passwd"), "'/etc/passwd' has not been found"},
    {"blockdev-add", RAW("n", ""), "nothing is opened by a path"},
    {"blockdev-add", "{\"driver\":\"qcow2\",\"node-name\":\"n\"," FILE_NAMED("f") "}",
     "driver: only raw and overlay"},
    {"blockdev-add", "{\"driver\":\"raw\",\"node-name\":\"n\",\"file\":\"f\"}",
     "file: an object with driver"},
    {"blockdev-add",
     "{\"driver\":\"raw\",\"node-name\":\"n\",\"cache\":{}," FILE_NAMED("f") "}",
     "Parameter 'cache' is unexpected"},
    {"blockdev-add",
     "{\"driver\":\"raw\",\"node-name\":\"n\",\"read-only\":1," FILE_NAMED("f") "}",
     "Parameter 'read-only' expects a boolean"},
    {"blockdev-add",
     "{\"driver\":\"raw\",\"node-name\":\"n\",\"backing\":{}," FILE_NAMED("f") "}",
     "backing belongs to an overlay"},
    {"blockdev-add",
     "{\"driver\":\"overlay\",\"node-name\":\"n\",\"read-only\":true," FILE_NAMED(
         "f") "}",
     "only a raw disk can be read-only"},
    {"blockdev-add", RAW("n", "read"), "not open for reading and writing"},
    {"blockdev-add", READ("n", "write"), "not open for reading"},
    {"blockdev-add", RAW("n", "append"), "open to append (O_APPEND)"},
    {"blockdev-add", OVER("n", "f", "write"), "not open for reading"},
    {"blockdev-add", OVER("n", "f", "f2"), "it is its own base"},
    {"blockdev-add", RAW("n", "pipe"), "neither a regular file nor a block device"},
    {"blockdev-add", RAW("n", "large"), "--plug-disk says how many"},
    {"blockdev-del", "{\"node-name\":\"n\"}", "Failed to find node with node-name='n'"},
    {"blockdev-del", "{}", "Failed to find node"},
    {"netdev_add", "{\"type\":\"user\",\"id\":\"n\"}", "type: only tap"},
    {"netdev_add", "{\"type\":\"tap\",\"id\":\"n\"}", "nothing is opened by a name"},
    {"netdev_add", "{\"type\":\"tap\",\"id\":\"n\",\"ifname\":\"t\"}",
     "Parameter 'ifname' is unexpected"},
    {"netdev_add", "{\"type\":\"tap\",\"id\":\"n\",\"fd\":\"nobody\"}",
     "'nobody' has not been found"},
    {"netdev_add", "{\"type\":\"tap\",\"id\":\"n\",\"fds\":\"f::\"}",
     "fds: names that getfd has given"},
    {"netdev_add", "{\"type\":\"tap\",\"id\":\"n\",\"fd\":\"f\",\"vhost\":true}",
     "vhost: the kernel serves only NICs from the start"},
    {"netdev_add", "{\"type\":\"tap\",\"id\":\"net\",\"fd\":\"f\"}",
     "Duplicate ID 'net' for netdev"},
    {"device_add", "{\"driver\":\"virtio-blk-pci\",\"drive\":\"used\"}",
     "Parameter 'id' is missing"},
    {"device_add", "{\"driver\":\"virtio-blk-pci\",\"id\":\"x\"}",
     "drive property not set"},
    {"device_add", "{\"driver\":\"virtio-blk-pci\",\"id\":\"x\",\"drive\":\"y\"}",
     "Property 'virtio-blk-pci.drive' can't find value 'y'"},
    {"device_add", "{\"driver\":\"virtio-blk-pci\",\"id\":\"hot\",\"drive\":\"used\"}",
     "Duplicate device ID 'hot'"},
    {"device_add", "{\"driver\":\"virtio-blk-pci\",\"id\":\"power\",\"drive\":\"used\"}",
     "Duplicate device ID 'power'"},
    {"device_add",
     "{\"driver\":\"virtio-blk-pci\",\"id\":\"x\",\"drive\":\"used\",\"addr\":\"0x1\"}",
     "slot: not 24 to 31"},
    {"device_add",
     "{\"driver\":\"virtio-blk-pci\",\"id\":\"x\",\"drive\":\"used\",\"addr\":\"18.0\"}",
     "addr: not 0x18 to 0x1f"},
    {"device_add",
     "{\"driver\":\"virtio-blk-pci\",\"id\":\"x\",\"drive\":\"used\",\"addr\":24}",
     "slot 24: another device is there"},
    {"device_add",
     "{\"driver\":\"virtio-blk-pci\",\"id\":\"x\",\"drive\":\"used\",\"bus\":\"pci.1\"}",
     "Bus 'pci.1' not found"},
    {"device_add",
     "{\"driver\":\"virtio-blk-pci\",\"id\":\"x\",\"drive\":\"used\",\"bootindex\":1}",
     "Parameter 'bootindex' is unexpected"},
    {"device_add", SERIAL("x", "used", ""), "serial (default: the node's name): : not a"},
    {"device_add", SERIAL("x", "used", "DATA_1"), "DATA_1: not a name: a lower-case"},
    {"device_add", SERIAL("x", "used", "a b"), "a b: not a name"},
    {"device_add",
     SERIAL("x",
            "used",
            "a123456789b123456789c123456789d123456789e123456789f123456789-064"),
     "-064: not a name"},
    {"device_add", SERIAL("x", "used", "node"), "there is another disk of this name"},
    {"device_add", "{\"driver\":\"virtio-blk-pci\",\"id\":\"x\",\"drive\":\"Upper\"}",
     "Upper: not a name"},
    {"device_add", "{\"driver\":\"virtio-net-pci\",\"id\":\"x\",\"netdev\":\"y\"}",
     "Property 'virtio-net-pci.netdev' can't find value 'y'"},
    {"device_add", "{\"driver\":\"virtio-net-pci\",\"id\":\"x\",\"netdev\":\"net\"}",
     "mac: "},
    {"device_add",
     "{\"driver\":\"virtio-net-pci\",\"id\":\"x\",\"netdev\":\"net\",\"mac\":"
     "\"52:54:00:00:00:07\",\"mq\":true}",
     "mq: its netdev has 1 queues"},
    {"device_add",
     "{\"driver\":\"virtio-net-pci\",\"id\":\"x\",\"netdev\":\"net\",\"mac\":"
     "\"52:54:00:00:00:07\",\"host_mtu\":10}",
     "host_mtu: not 68 to 65535"},
    {"device_del", "{\"id\":\"pci\"}", "stays as long as the machine"},
    {"add-fd", "{\"fdset-id\":-1}", "No file descriptor supplied via SCM_RIGHTS"},
    {"remove-fd", "{}", "Parameter 'fdset-id' is missing"},
    {"remove-fd", "{\"fdset-id\":\"1\"}", "Parameter 'fdset-id' expects a number"},
};

START_TEST(what_is_wrong_is_refused_and_changes_nothing)
{
    const struct refusal_row *row = &refusals[_i];
    int ends[2];
    int pipes[2];
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, ends), 0);
    ck_assert_int_eq(pipe2(pipes, O_CLOEXEC), 0);
    (void)close(pipes[1]);
    plug.file_bytes_max = UINT64_C(64) << 20;
    meet(true);
    plug_disk();
    order("getfd", "{\"fdname\":\"f\"}", file_of(DISK_BYTES));
    order("blockdev-add", RAW("used", "f"), -1);
    order("getfd", "{\"fdname\":\"f\"}", file_of(DISK_BYTES));
    order("blockdev-add", RAW("Upper", "f"), -1);
    const int file = file_of(DISK_BYTES);
    order("getfd", "{\"fdname\":\"f2\"}", dup(file));
    order("getfd", "{\"fdname\":\"f\"}", file);
    order("getfd", "{\"fdname\":\"read\"}", open("/dev/null", O_RDONLY | O_CLOEXEC));
    order("getfd", "{\"fdname\":\"large\"}", file_of((UINT64_C(64) << 20) + 1));
    order("getfd", "{\"fdname\":\"write\"}", open("/dev/null", O_WRONLY | O_CLOEXEC));
    order("getfd", "{\"fdname\":\"append\"}",
          open("/dev/null", O_RDWR | O_APPEND | O_CLOEXEC));
    order("getfd", "{\"fdname\":\"pipe\"}", ends[1]);
    order("getfd", "{\"fdname\":\"tap\"}", pipes[0]);
    order("netdev_add", "{\"type\":\"tap\",\"id\":\"net\",\"fd\":\"tap\"}", -1);

    ask(row->command, row->arguments, -1);

    hear("{\"error\":");
    hear(row->words);
    ck_assert_uint_eq(devices.stats.count, 1);
    ask("query-status", "{}", -1);
    hear("\"running\":true");
    order("device_add", "{\"driver\":\"virtio-blk-pci\",\"id\":\"x\",\"drive\":\"used\"}",
          -1);
    (void)close(ends[0]);
}
END_TEST

/* ---- with devices from the start ---- */

enum { FIRST = 0, LAST };

/* A disk "root" and a NIC, and before or behind them one each in a slot, of those ids. */
static int
connect_all(int where, const char *disk_id, const char *nic_id, struct err *err)
{
    static struct vmm_options options;
    const struct disk_queue_threads threads = {.began = on_thread};
    const unsigned hot = where == FIRST ? 0 : 1;
    options = (struct vmm_options){.disk_count = 2, .nic_count = 2};
    for (unsigned i = 0; i < 2; i++) {
        int ends[2];
        ck_assert_int_eq(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, ends), 0);
        (void)close(ends[0]);
        options.nics[i] = (struct vmm_nic_option){.mac = 7 + i, .mtu = 1500, .queues = 1};
        (void)snprintf(options.disks[i].name, NAME_SIZE, i == hot ? "data" : "root");
        (void)snprintf(options.disks[i].raw, VMM_WHERE_SIZE, "fd:9");
        devices.disks[i] = file_of(DISK_BYTES);
        root_fd = i == hot ? root_fd : dup(devices.disks[i]);
        devices.taps[i][0] = ends[1];
    }
    options.disks[hot].slot = PCI_PLUG_FIRST;
    options.nics[hot].slot = PCI_PLUG_FIRST + 1;
    (void)snprintf(options.disks[hot].id, DEVICE_NAME_SIZE, "%s", disk_id);
    (void)snprintf(options.nics[hot].id, DEVICE_NAME_SIZE, "%s", nic_id);
    return vmm_devices_connect(&devices, &options, machine, &threads, err);
}

/* Nor do they when a saved machine comes back: each finds its state by its name. */
START_TEST(devices_from_the_start_are_called_the_same_with_any_in_slots)
{
    struct err err = {0};
    ck_assert_msg(connect_all(_i, "hot", "net", &err) == 0, "%s", err.text);
    meet(false);

    ask("x-query-device-stats", "{}", -1);
    hear("\"return\":");

    ck_assert_ptr_nonnull(strstr(heard, "\"id\":\"hot\",\"qdev\":\"hot\""));
    ck_assert_ptr_nonnull(strstr(heard, "\"id\":\"root\",\"qdev\":\"disk0\""));
    ck_assert_ptr_nonnull(strstr(heard, "\"id\":\"net\",\"qdev\":\"net\""));
    ck_assert_ptr_nonnull(strstr(heard, "\"id\":\"nic0\",\"qdev\":\"nic0\""));
}
END_TEST

static const char *const taken_ids[] = {"root",     "disk0", "nic0",   "rng0",
                                        "balloon0", "pci",   "serial", "power"};

START_TEST(no_id_of_the_command_line_is_another_ones_name)
{
    const char *id = taken_ids[_i / 4];
    struct err err = {0};
    const bool is_disk = _i % 2 == 0;

    const int r =
        connect_all(_i % 4 / 2, is_disk ? id : "hot", is_disk ? "net" : id, &err);

    ck_assert_msg(r == BERTH_EEXISTS, "%s %d: %s", id, r, err.text);
    ck_assert_msg(strstr(err.text, "Duplicate device ID") != NULL, "%s", err.text);
}
END_TEST

/* Who has the file already: a disk from the start, one that came, a node, or one that
 * only reads. */
enum { AT_START = 0, CAME, NODE, READER };

static const struct file_row {
    int place;
    bool reads;
    const char *words; /* NULL: it is taken */
} files[] = {
    {AT_START, false, "disk root writes this file"},
    {AT_START, true, "disk root writes this file"},
    {CAME, false, "disk hot writes this file"},
    {CAME, true, "disk hot writes this file"},
    {NODE, false, "disk node writes this file"},
    {NODE, true, "disk node writes this file"},
    {READER, false, "disk node reads this file, which would be written"},
    {READER, true, NULL},
};

START_TEST(a_file_is_written_by_one_disk_alone_and_then_read_by_no_other)
{
    const struct file_row *row = &files[_i];
    int file = file_of(DISK_BYTES);
    if (row->place == AT_START) {
        ck_assert_int_eq(connect_all(LAST, "cold", "net", NULL), 0);
        (void)close(file);
        file = dup(root_fd);
    }
    meet(true);
    if (row->place != AT_START) {
        order("getfd", "{\"fdname\":\"f\"}", dup(file));
        order("blockdev-add", row->place == READER ? READ("node", "f") : RAW("node", "f"),
              -1);
    }
    if (row->place == CAME) {
        order("device_add",
              "{\"driver\":\"virtio-blk-pci\",\"id\":\"hot\",\"drive\":\"node\"}", -1);
    }
    order("getfd", "{\"fdname\":\"f\"}", dup(file));

    ask("blockdev-add", row->reads ? READ("n", "f") : RAW("n", "f"), -1);

    hear(row->words == NULL ? "{\"return\":" : "{\"error\":");
    hear(row->words == NULL ? "" : row->words);
    if (row->place == CAME) { /* nobody has it any more */
        ask("device_del", "{\"id\":\"hot\"}", -1);
        hear("DEVICE_DELETED");
        order("getfd", "{\"fdname\":\"f\"}", dup(file));
        order("blockdev-add", row->reads ? READ("n", "f") : RAW("n", "f"), -1);
    }
    (void)close(file);
}
END_TEST

START_TEST(no_file_is_two_disks_of_the_command_line)
{
    static struct vmm_options options;
    const struct disk_queue_threads threads = {.began = on_thread};
    struct err err = {0};
    options = (struct vmm_options){.disk_count = 2};
    for (unsigned i = 0; i < 2; i++) {
        (void)snprintf(options.disks[i].name, NAME_SIZE, "d%u", i);
        (void)snprintf(options.disks[i].raw, VMM_WHERE_SIZE, "fd:9");
    }
    options.disks[0].is_read_only = _i != 0;
    options.disks[1].is_read_only = _i == 2;
    devices.disks[0] = file_of(DISK_BYTES);
    devices.disks[1] = dup(devices.disks[0]);

    const int r = vmm_devices_connect(&devices, &options, machine, &threads, &err);

    if (_i == 2) {
        ck_assert_msg(r == 0, "%s", err.text);
        return;
    }
    ck_assert_int_eq(r, BERTH_EBUSY);
    ck_assert_str_eq(
        err.text, _i == 0 ? "disk d1: disk d0 writes this file"
                          : "disk d1: disk d0 reads this file, which would be written");
}
END_TEST

START_TEST(no_id_that_comes_is_another_ones_name)
{
    static const char *const more[] = {"hot", "net"};
    const unsigned count = ARRAY_COUNT(taken_ids);
    const char *id = (unsigned)_i < count ? taken_ids[_i] : more[(unsigned)_i - count];
    char text[256];
    ck_assert_int_eq(connect_all(LAST, "hot", "net", NULL), 0);
    meet(true);
    order("getfd", "{\"fdname\":\"f\"}", file_of(DISK_BYTES));
    order("blockdev-add", RAW("node", "f"), -1);
    (void)snprintf(text, sizeof(text),
                   "{\"driver\":\"virtio-blk-pci\",\"id\":\"%s\",\"drive\":\"node\"}",
                   id);

    ask("device_add", text, -1);

    hear("{\"error\":");
    hear("Duplicate device ID");
}
END_TEST

START_TEST(there_is_a_most_of_nodes_netdevs_and_devices)
{
    char text[256];
    meet(false);
    for (unsigned i = 0; i <= PCI_PLUG_SLOTS; i++) {
        (void)snprintf(text, sizeof(text),
                       "{\"driver\":\"raw\",\"node-name\":\"n%u\"," FILE_NAMED("f") "}",
                       i);
        order("getfd", "{\"fdname\":\"f\"}", file_of(DISK_BYTES));
        ask("blockdev-add", text, -1);
        hear(i < PCI_PLUG_SLOTS ? "{\"return\":" : "8 nodes are there");
    }
    for (unsigned i = 0; i <= PCI_PLUG_SLOTS; i++) {
        (void)snprintf(text, sizeof(text),
                       "{\"driver\":\"virtio-blk-pci\",\"id\":\"d%u\",\"drive\":\"n%u\"}",
                       i, i % PCI_PLUG_SLOTS);
        ask("device_add", text, -1);
        hear(i < PCI_PLUG_SLOTS ? "{\"return\":" : "no more can come");
    }
    for (unsigned i = 0; i <= PCI_PLUG_SLOTS; i++) {
        (void)snprintf(text, sizeof(text),
                       "{\"type\":\"tap\",\"id\":\"t%u\",\"fd\":\"f\"}", i);
        order("getfd", "{\"fdname\":\"f\"}", file_of(DISK_BYTES));
        ask("netdev_add", text, -1);
        hear(i < PCI_PLUG_SLOTS ? "{\"return\":" : "8 netdevs are there");
    }
    ck_assert_uint_eq(devices.stats.count, PCI_PLUG_SLOTS);
}
END_TEST

START_TEST(a_machine_that_is_being_saved_keeps_its_devices)
{
    static const char all[] =
        "{\"execute\":\"migrate\",\"arguments\":{\"uri\":\"fd:snap\"}}"
        "{\"execute\":\"device_add\",\"arguments\":{\"driver\":\"virtio-blk-pci\","
        "\"id\":\"x\",\"drive\":\"n\"}}"
        "{\"execute\":\"device_del\",\"arguments\":{\"id\":\"hot\"}}";
    meet(true);
    plug_disk();
    order("getfd", "{\"fdname\":\"f\"}", file_of(DISK_BYTES));
    order("blockdev-add", RAW("n", "f"), -1);
    order("getfd", "{\"fdname\":\"snap\"}", memfd_create("snapshot", MFD_CLOEXEC));

    /* In one message: nobody looks in between whether the save is done. */
    ck_assert_int_eq(send(client, all, strlen(all), MSG_NOSIGNAL), (int)strlen(all));

    hear("the machine is being saved as it is");
    hear("the machine is being saved as it is");
    hear("\"status\":\"completed\"");
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
    Suite *suite = suite_create("vmm_plug");
    TCase *tests = tcase_create("vmm_plug");
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_loop_test(tests, a_disk_comes_is_counted_and_limited_and_goes, 0, 2);
    tcase_add_loop_test(tests, what_comes_and_goes_leaves_nothing, 0, 2);
    tcase_add_loop_test(tests, a_disk_that_goes_and_is_not_durable_is_told_of_before, 0,
                        2);
    tcase_add_loop_test(
        tests, a_disk_that_is_not_durable_when_its_machine_ends_is_told_of, 0, 2);
    tcase_add_test(tests, a_set_of_add_fd_is_opened_until_it_is_removed);
    tcase_add_test(tests, what_a_client_has_not_used_goes_with_it_but_for_names);
    tcase_add_test(tests, an_overlay_comes_with_its_base);
    tcase_add_test(tests, a_nic_comes_is_counted_and_limited_and_goes);
    tcase_add_test(tests, what_no_device_has_is_given_back);
    tcase_add_loop_test(tests, what_is_wrong_is_refused_and_changes_nothing, 0,
                        ARRAY_COUNT(refusals));
    tcase_add_loop_test(tests,
                        devices_from_the_start_are_called_the_same_with_any_in_slots,
                        FIRST, LAST + 1);
    tcase_add_loop_test(tests, no_id_of_the_command_line_is_another_ones_name, 0,
                        4 * ARRAY_COUNT(taken_ids));
    tcase_add_loop_test(tests,
                        a_file_is_written_by_one_disk_alone_and_then_read_by_no_other, 0,
                        ARRAY_COUNT(files));
    tcase_add_loop_test(tests, no_file_is_two_disks_of_the_command_line, 0, 3);
    tcase_add_loop_test(tests, no_id_that_comes_is_another_ones_name, 0,
                        ARRAY_COUNT(taken_ids) + 2);
    tcase_add_test(tests, there_is_a_most_of_nodes_netdevs_and_devices);
    tcase_add_test(tests, a_machine_that_is_being_saved_keeps_its_devices);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
