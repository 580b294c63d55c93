/* Goal: a client hears by QMP exactly what the guest has asked of its devices, in QEMU's
 * members where QEMU has them, and no device waits for the answer. Method: a driver
 * written by hand asks for so and so much of each device, and a client reads the answers
 * from the control's socket; both are served by one poller, as in berth-vmm. No KVM: no
 * CPU runs. */
#include "base/fd.h"
#include "guest_driver.h"
#include "support/temp_dir.h"
#include "support/test_main.h"
#include "vmm/disk_raw.h"
#include "vmm/virtio_balloon.h"
#include "vmm/virtio_block.h"
#include "vmm/virtio_console.h"
#include "vmm/virtio_mem.h"
#include "vmm/virtio_net.h"
#include "vmm/virtio_random.h"
#include "vmm/virtio_vsock.h"
#include "vmm/vmm_control.h"
#include "vmm/vmm_stats.h"
#include "vmm/vsock_packet.h"

#include <check.h>

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define SECTORS     UINT64_C(2048)
#define ANSWER_SIZE (64u << 10)

enum { IN = 0, OUT = 1, FLUSH = 4, GET_ID = 8, DISCARD = 11, ZEROES = 13 };
enum { OK = 0, IOERR = 1, UNSUPP = 2 };

static struct guest guest;
static struct temp_dir dir;
static struct vmm_stats stats;
static struct vmm_throttle throttle;
static struct vmm_control control;
static int client;
static int disk_fd;
static int slow_gate[2] = {-1, -1}; /* a byte lets one request of a slow disk through */
static int far_fd = -1;             /* the other end of a device's wire */

static const struct vmm_disk_option root = {
    .name = "root",
    .overlay = "fd:7",
    .base = "fd:8",
    .limits = {.bytes = {1000, 5000}, .operations = {77, 0}}};

/* ---- the client ---- */

static void control_start(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%.80s/qmp", dir.path);
    const int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    ck_assert_int_eq(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
    ck_assert_int_eq(listen(listener, 1), 0);
    ck_assert_int_eq(
        vmm_control_open(&control, NULL, guest.poller, "web-1", listener, NULL), 0);
    control.stats = &stats;
    control.throttle = &throttle;
    client = socket(AF_UNIX, SOCK_STREAM, 0);
    ck_assert_int_eq(connect(client, (struct sockaddr *)&address, sizeof(address)), 0);
}

/* The next line that the client hears; a new reference. */
static json_t *hear(void)
{
    static char heard[ANSWER_SIZE];
    size_t size = 0;
    json_t *line = NULL;
    while (size == 0 || heard[size - 1] != '\n') {
        ck_assert_uint_lt(size, sizeof(heard));
        if (recv(client, heard + size, 1, MSG_DONTWAIT) == 1) {
            size++;
        } else {
            ck_assert_int_ge(poller_step(guest.poller, GUEST_WAIT_MS), 0);
        }
    }
    ck_assert_int_eq(json_parse(heard, size, &line, NULL), 0);
    return line;
}

/* What a word of QMP answers; a new reference. */
static json_t *ask(const char *word)
{
    char text[128];
    (void)snprintf(text, sizeof(text), "{\"execute\":\"%s\"}", word);
    ck_assert_int_eq(send(client, text, strlen(text), MSG_NOSIGNAL), (int)strlen(text));
    json_t *answer = hear();
    json_t *result = json_incref(json_object_get(answer, "return"));
    ck_assert_msg(result != NULL, "%s: %s", word, json_text(answer));
    json_decref(answer);
    return result;
}

/* The member of an answer's one element, or of what is in it; borrowed. */
static json_t *member_of(const json_t *list, const char *name)
{
    const json_t *element = json_array_get(list, 0);
    ck_assert_uint_eq(json_array_size(list), 1);
    json_t *member = json_object_get(json_object_get(element, "stats"), name);
    member = member != NULL ? member
                            : json_object_get(json_object_get(element, "queues"), name);
    member = member != NULL ? member : json_object_get(element, name);
    ck_assert_msg(member != NULL, "there is no %s", name);
    return member;
}

struct number {
    const char *name;
    json_int_t value;
};

static void expect(const json_t *list, const struct number *numbers, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const json_t *member = member_of(list, numbers[i].name);
        ck_assert_msg(json_is_integer(member) &&
                          json_integer_value(member) == numbers[i].value,
                      "%s is %lld and not %lld", numbers[i].name,
                      (long long)json_integer_value(member), (long long)numbers[i].value);
    }
}

#define EXPECT(list, ...)                                    \
    do {                                                     \
        const struct number numbers_now[] = {__VA_ARGS__};   \
        expect(list, numbers_now, ARRAY_COUNT(numbers_now)); \
    } while (0)

/* ---- the guest ---- */

static void setup(void)
{
    temp_dir_init(&dir);
    guest_init(&guest);
    memset(&stats, 0, sizeof(stats));
    memset(&throttle, 0, sizeof(throttle));
    disk_fd = memfd_create("disk", MFD_CLOEXEC);
    ck_assert_int_eq(ftruncate(disk_fd, (off_t)(SECTORS * 512)), 0);
    control_start();
    json_decref(hear()); /* the greeting */
    json_decref(ask("qmp_capabilities"));
}

static void teardown(void)
{
    fd_close(&slow_gate[1]);
    vmm_control_close(&control);
    guest_fini(&guest);
    (void)close(client);
    (void)close(disk_fd);
    fd_close(&slow_gate[0]);
    fd_close(&far_fd);
    temp_dir_fini(&dir);
}

static void attach(struct virtio_device *device, const struct vmm_disk_option *disk)
{
    guest_attach(&guest, device);
    vmm_stats_add(&stats, device, disk);
}

static struct virtio_device *block_new(struct virtual_disk *disk)
{
    const struct virtio_block_spec spec = {
        .serial = "vol-1", .queue_count = 1, .threads = {.count = 2}};
    struct virtio_device *device = NULL;
    struct err err = {0};
    ck_assert_msg(virtio_block_new(&guest.place, &spec, disk, &device, &err) == 0, "%s",
                  err.text);
    return device;
}

static struct virtual_disk *raw_new(bool read_only)
{
    struct disk_file *file = NULL;
    struct virtual_disk *disk = NULL;
    ck_assert_int_eq(disk_file_new(dup(disk_fd), &file, NULL), 0);
    ck_assert_int_eq(disk_raw_new(file, read_only, &disk, NULL), 0);
    return disk;
}

static void block_attach(struct virtual_disk *disk)
{
    struct virtio_device *device = block_new(disk);
    attach(device, &root);
    vmm_throttle_add_disk(&throttle, root.name, device, &root.limits);
    guest_drive(&guest, disk->read_only
                            ? VIRTIO_BLK_F_RO
                            : VIRTIO_BLK_F_FLUSH | VIRTIO_BLK_F_DISCARD |
                                  VIRTIO_BLK_F_WRITE_ZEROES | VIRTIO_F_EVENT_IDX);
}

/* Posts a request of a disk; where its status will be. */
static uint64_t post(uint32_t type, uint64_t sector, uint32_t size, bool writable)
{
    const struct {
        uint32_t type;
        uint32_t reserved;
        uint64_t sector;
    } header = {type, 0, sector};
    const uint8_t no_status = 0xff;
    const uint64_t status_at = guest_put(&guest, &no_status, 1);
    struct guest_buffer buffers[3] = {
        {guest_put(&guest, &header, sizeof(header)), sizeof(header), false}};
    unsigned count = 1;
    if (size > 0) {
        buffers[count++] =
            (struct guest_buffer){guest_alloc(&guest, size), size, writable};
    }
    buffers[count++] = (struct guest_buffer){status_at, 1, true};
    guest_post(&guest, 0, buffers, count);
    guest_kick(&guest, 0);
    return status_at;
}

static uint8_t request(uint32_t type, uint64_t sector, uint32_t size, bool writable)
{
    const uint64_t status_at = post(type, sector, size, writable);
    uint8_t status;
    (void)guest_wait(&guest, 0);
    ck_assert_int_eq(guest_memory_read(&guest.memory, status_at, &status, 1), 0);
    return status;
}

/* A discard, or zeroes, of so many sectors. */
static uint8_t segment(uint32_t type, uint64_t sector, uint32_t count)
{
    const struct {
        uint64_t sector;
        uint32_t count;
        uint32_t flags;
    } segment = {sector, count, 0};
    const uint64_t at = guest.heap_at;
    ck_assert_int_eq(guest_memory_write(&guest.memory, at + 32, &segment, 16), 0);
    /* post allocates: status and header of 16 bytes each, then this */
    return request(type, 0, sizeof(segment), false);
}

static void nothing_free(struct virtual_disk *disk)
{
    (void)disk;
}

/* ---- disks ---- */

static json_int_t sum(const json_t *list)
{
    json_int_t total = 0;
    for (size_t i = 0; i < json_array_size(list); i++) {
        total += json_integer_value(json_array_get(list, i));
    }
    return total;
}

static void expect_latencies(const json_t *answer, const char *name, json_int_t count)
{
    const json_t *histogram = member_of(answer, name);
    const json_t *boundaries = json_object_get(histogram, "boundaries");
    const json_t *bins = json_object_get(histogram, "bins");
    ck_assert_uint_eq(json_array_size(bins), json_array_size(boundaries) + 1);
    ck_assert_uint_eq(json_array_size(boundaries), LATENCY_BOUNDARIES);
    for (size_t i = 0; i < json_array_size(boundaries); i++) {
        ck_assert_int_eq(json_integer_value(json_array_get(boundaries, i)), INT64_C(1024)
                                                                                << i);
    }
    ck_assert_int_eq(sum(bins), count);
}

START_TEST(a_disks_numbers_are_what_its_guest_did)
{
    block_attach(raw_new(false));
    for (unsigned i = 0; i < 3; i++) {
        ck_assert_uint_eq(request(IN, 8 * i, 4096, true), OK);
    }
    ck_assert_uint_eq(request(OUT, 100, 8192, false), OK);
    ck_assert_uint_eq(request(OUT, 3, 512, false), OK);
    ck_assert_uint_eq(request(FLUSH, 0, 0, false), OK);
    ck_assert_uint_eq(segment(DISCARD, 8, 16), OK);
    ck_assert_uint_eq(segment(ZEROES, 64, 8), OK);
    ck_assert_uint_eq(request(IN, SECTORS, 512, true), IOERR); /* past the end */
    ck_assert_uint_eq(request(OUT, 0, 511, false), IOERR);
    ck_assert_uint_eq(request(OUT, SECTORS - 1, 1024, false), IOERR);
    ck_assert_uint_eq(segment(DISCARD, SECTORS, 8), IOERR);
    ck_assert_uint_eq(request(GET_ID, 0, 20, true), OK);
    ck_assert_uint_eq(request(2, 0, 512, true), UNSUPP); /* SCSI */

    json_t *answer = ask("query-blockstats");

    EXPECT(answer, {"rd_operations", 3}, {"rd_bytes", INT64_C(3) * 4096},
           {"wr_operations", 3}, {"wr_bytes", 8192 + 512 + 4096}, {"flush_operations", 1},
           {"unmap_operations", 1}, {"unmap_bytes", 8192}, {"failed_rd_operations", 0},
           {"failed_wr_operations", 0}, {"failed_flush_operations", 0},
           {"failed_unmap_operations", 0}, {"invalid_rd_operations", 1},
           {"invalid_wr_operations", 2}, {"invalid_flush_operations", 0},
           {"invalid_unmap_operations", 1}, {"rd_merged", 0}, {"wr_merged", 0},
           {"unmap_merged", 0}, {"wr_highest_offset", 100 * 512 + 8192});
    expect_latencies(answer, "rd_latency_histogram", 3);
    expect_latencies(answer, "wr_latency_histogram", 3);
    expect_latencies(answer, "flush_latency_histogram", 1);
    ck_assert_int_gt(json_integer_value(member_of(answer, "rd_total_time_ns")), 0);
    ck_assert_int_gt(json_integer_value(member_of(answer, "flush_total_time_ns")), 0);
    ck_assert_int_ge(json_integer_value(member_of(answer, "idle_time_ns")), 0);
    ck_assert(json_is_true(member_of(answer, "account_failed")));
    ck_assert(json_is_true(member_of(answer, "account_invalid")));
    ck_assert_uint_eq(json_array_size(member_of(answer, "timed_stats")), 0);
    ck_assert_str_eq(json_string_value(member_of(answer, "device")), "root");
    ck_assert_str_eq(json_string_value(member_of(answer, "qdev")), "device0");
    json_decref(answer);
    answer = ask("x-query-device-stats");
    EXPECT(answer, {"in_flight", 0}, {"other_operations", 2}, {"held_operations", 0},
           {"faults", 0});
    ck_assert_str_eq(json_string_value(member_of(answer, "driver")), "virtio-block");
    json_decref(answer);
}
END_TEST

START_TEST(a_disk_that_nobody_has_used_has_counted_nothing)
{
    block_attach(raw_new(false));
    json_t *answer = ask("query-blockstats");
    EXPECT(answer, {"rd_operations", 0}, {"wr_bytes", 0}, {"flush_total_time_ns", 0},
           {"wr_highest_offset", 0});
    const json_t *counts = json_object_get(json_array_get(answer, 0), "stats");
    ck_assert_ptr_null(json_object_get(counts, "idle_time_ns")); /* since when? */
    ck_assert_ptr_null(json_object_get(counts, "flush_bytes"));  /* QEMU has none */
    ck_assert_ptr_null(json_object_get(counts, "flush_merged"));
    json_decref(answer);
}
END_TEST

START_TEST(a_write_of_a_disk_that_is_only_read_is_invalid)
{
    block_attach(raw_new(true));
    ck_assert_uint_eq(request(OUT, 0, 512, false), IOERR);
    json_t *answer = ask("query-blockstats");
    EXPECT(answer, {"wr_operations", 0}, {"failed_wr_operations", 0},
           {"invalid_wr_operations", 1});
    json_decref(answer);
}
END_TEST

static int gated(void)
{
    char byte;
    return read(slow_gate[0], &byte, 1) == 1 ? 0 : -EPIPE; /* the test has ended */
}

static int slow_read(struct virtual_disk *disk,
                     uint64_t offset,
                     const struct iovec *pieces,
                     unsigned piece_count,
                     uint64_t size)
{
    (void)disk;
    (void)offset;
    (void)pieces;
    (void)piece_count;
    (void)size;
    return gated();
}

static int bad_flush(struct virtual_disk *disk)
{
    (void)disk;
    return -EIO;
}

static const struct disk_ops slow_ops = {.kind = "slow",
                                         .read = slow_read,
                                         .flush = bad_flush,
                                         .free = nothing_free};

START_TEST(what_fails_is_told_from_what_was_wrong)
{
    static struct virtual_disk disk = {.ops = &slow_ops, .size_bytes = SECTORS * 512};
    block_attach(&disk);

    ck_assert_uint_eq(request(FLUSH, 0, 0, false), IOERR);

    json_t *answer = ask("query-blockstats");
    EXPECT(answer, {"flush_operations", 0}, {"failed_flush_operations", 1},
           {"invalid_flush_operations", 0});
    expect_latencies(answer, "flush_latency_histogram", 1);
    json_decref(answer);
}
END_TEST

START_TEST(a_query_waits_neither_for_a_request_nor_for_who_holds_the_device)
{
    static struct virtual_disk disk = {.ops = &slow_ops, .size_bytes = SECTORS * 512};
    ck_assert_int_eq(pipe(slow_gate), 0);
    block_attach(&disk);
    (void)post(IN, 0, 4096, true);
    (void)post(IN, 8, 4096, true);

    virtio_device_enter(guest.pci->virtio); /* as who drains it for a reset does */
    json_t *devices = ask("x-query-device-stats");
    json_t *blocks = ask("query-blockstats");
    json_decref(ask("query-block"));
    virtio_device_leave(guest.pci->virtio);

    EXPECT(devices, {"in_flight", 2});
    EXPECT(blocks, {"rd_operations", 0}, {"rd_total_time_ns", 0});
    json_decref(devices);
    json_decref(blocks);
    ck_assert_int_eq(write(slow_gate[1], "xx", 2), 2);
    (void)guest_wait(&guest, 0);
    (void)guest_wait(&guest, 0);
    devices = ask("x-query-device-stats");
    blocks = ask("query-blockstats");
    EXPECT(devices, {"in_flight", 0});
    EXPECT(blocks, {"rd_operations", 2}, {"rd_bytes", 8192});
    json_decref(devices);
    json_decref(blocks);
}
END_TEST

START_TEST(what_a_reset_drops_was_done_all_the_same)
{
    block_attach(raw_new(false));
    for (unsigned i = 0; i < 8; i++) {
        (void)post(IN, i, 512, true);
    }
    guest_drive(&guest, VIRTIO_BLK_F_FLUSH);
    json_t *answer = ask("query-blockstats");
    EXPECT(answer, {"rd_operations", 8}, {"rd_bytes", 8 * 512});
    json_decref(answer);
}
END_TEST

START_TEST(a_disk_that_came_out_of_a_file_has_counted_nothing)
{
    struct bytes_writer writer;
    struct bytes_reader reader;
    block_attach(raw_new(false));
    ck_assert_uint_eq(request(OUT, 0, 4096, false), OK);
    device_stop(&guest.pci->device);
    bytes_writer_init(&writer, 1 << 16);
    device_save(&guest.pci->device, &writer);
    device_free(&guest.pci->device);
    stats.count = throttle.count = 0;
    struct virtio_device *device = block_new(raw_new(false));
    guest_attach_stopped(&guest, device);
    vmm_stats_add(&stats, device, &root);
    bytes_reader_init(&reader, writer.data, writer.size);
    ck_assert_int_eq(device_restore(&guest.pci->device, &reader, NULL), 0);
    device_start(&guest.pci->device);

    ck_assert_uint_eq(request(IN, 0, 512, true), OK);

    json_t *answer = ask("query-blockstats");
    EXPECT(answer, {"wr_operations", 0}, {"wr_bytes", 0}, {"wr_highest_offset", 0},
           {"rd_operations", 1});
    expect_latencies(answer, "wr_latency_histogram", 0);
    json_decref(answer);
    bytes_writer_fini(&writer);
}
END_TEST

START_TEST(what_a_limit_held_back_is_counted)
{
    const struct rate_spec one = {.rate = 1000, .burst = 1};
    const struct rate_spec none = {0};
    block_attach(raw_new(false));
    virtio_block_limit(guest.pci->virtio, &one, &none);
    (void)post(IN, 0, 512, true);
    (void)post(IN, 1, 512, true);
    (void)guest_wait(&guest, 0);
    (void)guest_wait(&guest, 0);
    json_t *answer = ask("x-query-device-stats");
    ck_assert_int_ge(json_integer_value(member_of(answer, "held_operations")), 1);
    json_decref(answer);
}
END_TEST

START_TEST(a_disk_is_described_as_by_qemu)
{
    block_attach(raw_new(true));
    json_t *answer = ask("query-block");
    char *text = json_text(answer);
    ck_assert_str_eq(
        text,
        "[{\"device\":\"root\",\"qdev\":\"device0\",\"type\":\"unknown\","
        "\"removable\":false,\"locked\":false,\"inserted\":{\"file\":\"fd:7\",\"ro\":"
        "true,"
        "\"drv\":\"raw\",\"backing_file_depth\":1,\"encrypted\":false,"
        "\"detect_zeroes\":\"off\",\"write_threshold\":0,\"cache\":{\"writeback\":true,"
        "\"direct\":false,\"no-flush\":false},\"backing_file\":\"fd:8\",\"bps\":1000,"
        "\"iops\":77,\"bps_rd\":0,\"bps_wr\":0,\"iops_rd\":0,\"iops_wr\":0,"
        "\"bps_max\":5000,\"image\":{\"filename\":\"fd:7\",\"format\":\"raw\","
        "\"virtual-size\":1048576,\"backing-filename\":\"fd:8\"}}}]");
    free(text);
    json_decref(answer);
}
END_TEST

START_TEST(the_version_is_the_greetings)
{
    json_t *answer = ask("query-version");
    char *text = json_text(answer);
    ck_assert_str_eq(text, "{\"qemu\":{\"major\":0,\"minor\":1,\"micro\":0},"
                           "\"package\":\"berth-vmm\"}");
    free(text);
    json_decref(answer);
}
END_TEST

START_TEST(without_devices_all_lists_are_empty)
{
    static const char *const words[] = {"query-block", "query-blockstats",
                                        "x-query-device-stats"};
    for (unsigned i = 0; i < ARRAY_COUNT(words); i++) {
        json_t *answer = ask(words[i]);
        ck_assert(json_is_array(answer) && json_array_size(answer) == 0);
        json_decref(answer);
    }
}
END_TEST

/* ---- the other devices ---- */

START_TEST(entropy_is_counted_in_requests_and_bytes)
{
    struct virtio_device *device = NULL;
    ck_assert_int_eq(virtio_random_new(&guest.place, &device), 0);
    attach(device, NULL);
    guest_drive(&guest, 0);
    for (unsigned i = 0; i < 2; i++) {
        const struct guest_buffer buffer = {guest_alloc(&guest, 100), 100, true};
        guest_post(&guest, 0, &buffer, 1);
        guest_kick(&guest, 0);
        ck_assert_uint_eq(guest_wait(&guest, 0), 100);
    }

    json_t *answer = ask("x-query-device-stats");

    EXPECT(answer, {"requests", 2}, {"bytes", 200}, {"interrupts", 2}, {"faults", 0});
    ck_assert_int_ge(json_integer_value(member_of(answer, "notifications")), 2);
    ck_assert_str_eq(json_string_value(member_of(answer, "id")), "device0");
    ck_assert_str_eq(json_string_value(member_of(answer, "driver")), "virtio-random");
    ck_assert_uint_eq(json_array_size(answer), 1);
    json_decref(answer);
}
END_TEST

START_TEST(a_fault_of_the_guest_is_counted)
{
    struct virtio_device *device = NULL;
    ck_assert_int_eq(virtio_random_new(&guest.place, &device), 0);
    attach(device, NULL);
    guest_drive(&guest, 0);
    guest_offer(&guest, 0, GUEST_QUEUE_SIZE); /* no such descriptor */
    guest_kick(&guest, 0);
    json_t *answer = ask("x-query-device-stats");
    EXPECT(answer, {"requests", 0}, {"faults", 1});
    json_decref(answer);
}
END_TEST

START_TEST(a_nics_packets_are_counted_without_their_headers)
{
    const struct virtio_net_spec spec = {.mac = {2, 0, 0, 0, 0, 1}, .mtu = 1500};
    uint8_t packet[VIRTIO_NET_HEADER_SIZE + 100] = {0};
    struct virtio_device *device = NULL;
    int ends[2];
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, ends), 0);
    far_fd = ends[1];
    ck_assert_int_eq(virtio_net_new(&guest.place, &spec, ends, 1, &device, NULL), 0);
    attach(device, NULL);
    guest_drive(&guest, VIRTIO_NET_F_MRG_RXBUF);
    const struct guest_buffer in = {guest_alloc(&guest, 2048), 2048, true};
    guest_post(&guest, VIRTIO_NET_RECEIVE, &in, 1);
    guest_kick(&guest, VIRTIO_NET_RECEIVE);
    ck_assert_int_eq(write(far_fd, packet, 20), 20); /* too short: dropped */
    ck_assert_int_eq(write(far_fd, packet, sizeof(packet)), sizeof(packet));
    ck_assert_uint_eq(guest_wait(&guest, VIRTIO_NET_RECEIVE), sizeof(packet));
    for (unsigned i = 0; i < 2; i++) {
        const struct guest_buffer out = {guest_put(&guest, packet, 72), 72, false};
        guest_post(&guest, VIRTIO_NET_TRANSMIT, &out, 1);
        guest_kick(&guest, VIRTIO_NET_TRANSMIT);
        (void)guest_wait(&guest, VIRTIO_NET_TRANSMIT);
    }
    const struct guest_buffer tiny = {guest_put(&guest, packet, 13), 13, false};
    guest_post(&guest, VIRTIO_NET_TRANSMIT, &tiny, 1);
    guest_kick(&guest, VIRTIO_NET_TRANSMIT);
    (void)guest_wait(&guest, VIRTIO_NET_TRANSMIT);

    json_t *answer = ask("x-query-device-stats");

    EXPECT(answer, {"rx_packets", 1}, {"rx_bytes", 100}, {"rx_dropped", 1},
           {"rx_held", 0}, {"tx_packets", 2}, {"tx_bytes", 120}, {"tx_dropped", 1},
           {"tx_held", 0}, {"kernel_pairs", 0});
    json_decref(answer);
}
END_TEST

START_TEST(a_packet_that_a_limit_holds_back_is_counted_when_it_is_held)
{
    const struct virtio_net_spec spec = {
        .mac = {2, 0, 0, 0, 0, 1},
        .mtu = 1500,
        .limits = {[VIRTIO_NET_TRANSMIT] = {.operations = {.rate = 1000, .burst = 1}}}};
    const uint8_t packet[72] = {0};
    struct virtio_device *device = NULL;
    int ends[2];
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, ends), 0);
    far_fd = ends[1];
    ck_assert_int_eq(virtio_net_new(&guest.place, &spec, ends, 1, &device, NULL), 0);
    attach(device, NULL);
    guest_drive(&guest, 0);
    for (unsigned i = 0; i < 2; i++) {
        const struct guest_buffer out = {guest_put(&guest, packet, sizeof(packet)),
                                         sizeof(packet), false};
        guest_post(&guest, VIRTIO_NET_TRANSMIT, &out, 1);
    }
    guest_kick(&guest, VIRTIO_NET_TRANSMIT);
    (void)guest_wait(&guest, VIRTIO_NET_TRANSMIT);
    (void)guest_wait(&guest, VIRTIO_NET_TRANSMIT);

    json_t *answer = ask("x-query-device-stats");

    EXPECT(answer, {"tx_packets", 2}, {"tx_dropped", 0}, {"rx_held", 0});
    ck_assert_int_ge(json_integer_value(member_of(answer, "tx_held")), 1);
    json_decref(answer);
}
END_TEST

START_TEST(a_consoles_bytes_are_counted_both_ways)
{
    struct virtio_device *device = NULL;
    int ends[2];
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
    far_fd = ends[1];
    ck_assert_int_eq(virtio_console_new(&guest.place, ends[0], &device, NULL), 0);
    attach(device, NULL);
    guest_drive(&guest, 0);
    const struct guest_buffer in = {guest_alloc(&guest, 64), 64, true};
    guest_post(&guest, VIRTIO_CONSOLE_RECEIVE, &in, 1);
    guest_kick(&guest, VIRTIO_CONSOLE_RECEIVE);
    ck_assert_int_eq(write(far_fd, "hello", 5), 5);
    ck_assert_uint_eq(guest_wait(&guest, VIRTIO_CONSOLE_RECEIVE), 5);
    const struct guest_buffer out = {guest_put(&guest, "good-bye", 8), 8, false};
    guest_post(&guest, VIRTIO_CONSOLE_TRANSMIT, &out, 1);
    guest_kick(&guest, VIRTIO_CONSOLE_TRANSMIT);
    (void)guest_wait(&guest, VIRTIO_CONSOLE_TRANSMIT);

    json_t *answer = ask("x-query-device-stats");

    EXPECT(answer, {"rx_bytes", 5}, {"tx_bytes", 8}, {"tx_dropped_bytes", 0});
    json_decref(answer);
}
END_TEST

START_TEST(a_balloons_requests_are_counted_by_kind)
{
    const uint32_t pages[] = {0x200, 0x201, 0x300};
    struct virtio_device *device = NULL;
    ck_assert_int_eq(virtio_balloon_new(&guest.place, &device), 0);
    attach(device, NULL);
    guest_drive(&guest, VIRTIO_BALLOON_F_STATS_VQ);
    for (unsigned queue = 0; queue < 2; queue++) {
        const struct guest_buffer buffer = {guest_put(&guest, pages, sizeof(pages)),
                                            sizeof(pages), false};
        guest_post(&guest, queue, &buffer, 1);
        guest_kick(&guest, queue);
        (void)guest_wait(&guest, queue);
    }

    json_t *answer = ask("x-query-device-stats");

    EXPECT(answer, {"inflate_requests", 1}, {"deflate_requests", 1},
           {"report_requests", 0}, {"statistics_requests", 0},
           {"released_bytes", 3 * 4096});
    json_decref(answer);
}
END_TEST

START_TEST(requests_for_memory_are_counted_by_answer)
{
    const struct virtio_mem_request requests[] = {
        {.type = VIRTIO_MEM_STATE, .address = GUEST_PLUG_AT, .block_count = 1},
        {.type = VIRTIO_MEM_PLUG,
         .address = GUEST_PLUG_AT + 2 * RAM_PLUG_BLOCK_BYTES,
         .block_count = 1}, /* nobody wants that */
        {.type = 99},
    };
    struct virtio_device *device = NULL;
    guest_add_plug(&guest);
    ck_assert_int_eq(virtio_mem_new(&guest.place, &device), 0);
    attach(device, NULL);
    guest_drive(&guest, VIRTIO_MEM_F_UNPLUGGED_INACCESSIBLE);
    for (unsigned i = 0; i < ARRAY_COUNT(requests); i++) {
        const struct guest_buffer buffers[] = {
            {guest_put(&guest, &requests[i], sizeof(requests[i])), sizeof(requests[i]),
             false},
            {guest_alloc(&guest, VIRTIO_MEM_ANSWER_BYTES), VIRTIO_MEM_ANSWER_BYTES, true},
        };
        guest_post(&guest, 0, buffers, ARRAY_COUNT(buffers));
        guest_kick(&guest, 0);
        (void)guest_wait(&guest, 0);
    }

    json_t *answer = ask("x-query-device-stats");

    EXPECT(answer, {"acknowledged_requests", 1}, {"refused_requests", 1},
           {"busy_requests", 0}, {"invalid_requests", 1});
    json_decref(answer);
}
END_TEST

START_TEST(a_packet_of_nobody_is_reset_and_counted)
{
    const struct virtio_vsock_spec spec = {
        .guest_cid = 7, .take_listener = -1, .take_dialer = -1};
    const struct vsock_header header = {.source_cid = 7,
                                        .target_cid = VSOCK_HOST_CID,
                                        .source_port = 1,
                                        .target_port = 2,
                                        .type = VSOCK_STREAM,
                                        .operation = VSOCK_RW};
    struct virtio_device *device = NULL;
    ck_assert_int_eq(virtio_vsock_new(&guest.place, &spec, &device, NULL), 0);
    attach(device, NULL);
    guest_drive(&guest, 0);
    const struct guest_buffer in = {guest_alloc(&guest, 256), 256, true};
    guest_post(&guest, VIRTIO_VSOCK_RECEIVE, &in, 1);
    const struct guest_buffer out = {guest_put(&guest, &header, sizeof(header)),
                                     sizeof(header), false};
    guest_post(&guest, VIRTIO_VSOCK_TRANSMIT, &out, 1);
    guest_kick(&guest, VIRTIO_VSOCK_TRANSMIT);
    (void)guest_wait(&guest, VIRTIO_VSOCK_RECEIVE);

    json_t *answer = ask("x-query-device-stats");

    EXPECT(answer, {"opened", 0}, {"refused", 0}, {"resets", 1}, {"rx_bytes", 0},
           {"tx_bytes", 0}, {"links", 0});
    json_decref(answer);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("vmm_stats");
    TCase *tests = tcase_create("vmm_stats");
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, a_disks_numbers_are_what_its_guest_did);
    tcase_add_test(tests, a_disk_that_nobody_has_used_has_counted_nothing);
    tcase_add_test(tests, a_write_of_a_disk_that_is_only_read_is_invalid);
    tcase_add_test(tests, what_fails_is_told_from_what_was_wrong);
    tcase_add_test(tests,
                   a_query_waits_neither_for_a_request_nor_for_who_holds_the_device);
    tcase_add_test(tests, what_a_reset_drops_was_done_all_the_same);
    tcase_add_test(tests, a_disk_that_came_out_of_a_file_has_counted_nothing);
    tcase_add_test(tests, what_a_limit_held_back_is_counted);
    tcase_add_test(tests, a_disk_is_described_as_by_qemu);
    tcase_add_test(tests, the_version_is_the_greetings);
    tcase_add_test(tests, without_devices_all_lists_are_empty);
    tcase_add_test(tests, entropy_is_counted_in_requests_and_bytes);
    tcase_add_test(tests, a_fault_of_the_guest_is_counted);
    tcase_add_test(tests, a_nics_packets_are_counted_without_their_headers);
    tcase_add_test(tests, a_packet_that_a_limit_holds_back_is_counted_when_it_is_held);
    tcase_add_test(tests, a_consoles_bytes_are_counted_both_ways);
    tcase_add_test(tests, a_balloons_requests_are_counted_by_kind);
    tcase_add_test(tests, requests_for_memory_are_counted_by_answer);
    tcase_add_test(tests, a_packet_of_nobody_is_reset_and_counted);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
