/* Goal: a driver that keeps the rules gets its disk; one that does not gets an I/O error,
 * and never a byte beyond the disk or its own buffers. Method: a disk in memory behind
 * the device, requests written by hand. */
#include "base/fd.h"
#include "guest_driver.h"
#include "support/test_main.h"
#include "vmm/disk_raw.h"
#include "vmm/virtio_block.h"

#include <check.h>

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define SECTORS UINT64_C(2048)
#define NO_CODE 0xffu

enum { IN = 0, OUT = 1, FLUSH = 4, GET_ID = 8, DISCARD = 11, ZEROES = 13 };
enum { OK = 0, IOERR = 1, UNSUPP = 2 };

struct header {
    uint32_t type;
    uint32_t reserved;
    uint64_t sector;
};

struct segment {
    uint64_t sector;
    uint32_t count;
    uint32_t flags;
};

static struct guest guest;
static int disk_fd; /* a second way to the disk's bytes */
static struct virtio_block_spec spec;
static int slow_gate[2] = {-1, -1}; /* a byte lets one request of a slow disk through */

static struct virtio_device *block_new(void)
{
    struct disk_file *file = NULL;
    struct virtual_disk *disk = NULL;
    struct virtio_device *device = NULL;
    struct err err = {0};
    ck_assert_int_eq(disk_file_new(dup(disk_fd), &file, NULL), 0);
    ck_assert_int_eq(disk_raw_new(file, spec.queue_count == 2, &disk, NULL), 0);
    ck_assert_msg(virtio_block_new(&guest.place, &spec, disk, &device, &err) == 0, "%s",
                  err.text);
    return device;
}

static void set_up(void)
{
    spec = (struct virtio_block_spec){
        .serial = "vol-1", .queue_count = 1, .threads = {.count = 2}};
    disk_fd = memfd_create("disk", MFD_CLOEXEC);
    ck_assert_int_eq(ftruncate(disk_fd, (off_t)(SECTORS * 512)), 0);
    guest_init(&guest);
    guest_attach(&guest, block_new());
    guest_drive(&guest, VIRTIO_BLK_F_FLUSH | VIRTIO_BLK_F_DISCARD |
                            VIRTIO_BLK_F_WRITE_ZEROES | VIRTIO_F_EVENT_IDX);
}

static void tear_down(void)
{
    fd_close(&slow_gate[1]);
    guest_fini(&guest);
    close(disk_fd);
    fd_close(&slow_gate[0]);
}

/* Posts header, one data buffer (size 0: none) and status; where the status will be. */
static uint64_t
post(uint32_t type, uint64_t sector, uint64_t data, uint32_t size, bool writable)
{
    const struct header header = {type, 0, sector};
    const uint8_t status = NO_CODE;
    const uint64_t status_at = guest_put(&guest, &status, 1);
    struct guest_buffer buffers[3] = {
        {guest_put(&guest, &header, sizeof(header)), sizeof(header), false}};
    unsigned count = 1;
    if (size > 0) {
        buffers[count++] = (struct guest_buffer){data, size, writable};
    }
    buffers[count++] = (struct guest_buffer){status_at, 1, true};
    guest_post(&guest, 0, buffers, count);
    return status_at;
}

static uint8_t status_of(uint64_t at)
{
    uint8_t status = NO_CODE;
    ck_assert_int_eq(guest_memory_read(&guest.memory, at, &status, 1), 0);
    return status;
}

/* One whole request; its status. */
static uint8_t
request(uint32_t type, uint64_t sector, uint64_t data, uint32_t size, bool writable)
{
    const uint64_t status_at = post(type, sector, data, size, writable);
    guest_kick(&guest, 0);
    (void)guest_wait(&guest, 0);
    return status_of(status_at);
}

START_TEST(written_sectors_come_back)
{
    uint8_t data[8192];
    uint8_t back[8192];
    for (unsigned i = 0; i < sizeof(data); i++) {
        data[i] = (uint8_t)(i * 31);
    }
    const uint64_t from = guest_put(&guest, data, sizeof(data));
    const uint64_t to = guest_alloc(&guest, sizeof(data));

    ck_assert_uint_eq(request(OUT, 5, from, sizeof(data), false), OK);
    ck_assert_uint_eq(request(FLUSH, 0, 0, 0, false), OK);
    ck_assert_uint_eq(request(IN, 5, to, sizeof(data), true), OK);

    ck_assert_int_eq(guest_memory_read(&guest.memory, to, back, sizeof(back)), 0);
    ck_assert_mem_eq(back, data, sizeof(data));
    ck_assert_int_eq(pread(disk_fd, back, sizeof(back), 5 * 512), sizeof(back));
    ck_assert_mem_eq(back, data, sizeof(data));
}
END_TEST

struct bad_row {
    const char *name;
    uint32_t type;
    uint64_t sector;
    uint32_t size;
    bool writable;
    uint8_t status;
};

static const struct bad_row bads[] = {
    {"the last sector", IN, SECTORS - 1, 512, true, OK},
    {"one past the end", IN, SECTORS, 512, true, IOERR},
    {"over the end", IN, SECTORS - 1, 1024, true, IOERR},
    {"a write over the end", OUT, SECTORS - 1, 1024, false, IOERR},
    {"a sector that overflows", IN, UINT64_MAX / 512 + 1, 512, true, IOERR},
    {"a sector that wraps to zero", OUT, UINT64_C(1) << 55, 512, false, IOERR},
    {"the largest sector", IN, UINT64_MAX, 512, true, IOERR},
    {"half a sector", IN, 0, 511, true, IOERR},
    {"a sector and a byte", OUT, 0, 513, false, IOERR},
    {"no data to read", IN, 0, 0, false, IOERR},
    {"no data to write", OUT, 0, 0, false, IOERR},
    {"a read into what cannot be written", IN, 0, 512, false, IOERR},
    {"a write from what can only be written", OUT, 0, 512, true, IOERR},
    {"SCSI", 2, 0, 512, true, UNSUPP},
    {"an unknown type", 0xffffffff, 0, 512, true, UNSUPP},
    {"a discard without its segment", DISCARD, 0, 0, false, IOERR},
    {"a discard of half a segment", DISCARD, 0, 8, false, IOERR},
    {"zeroes with two segments", ZEROES, 0, 32, false, IOERR},
};

START_TEST(what_does_not_fit_gets_its_status_and_nothing_more)
{
    const struct bad_row *row = &bads[_i];
    uint8_t before[512];
    memset(before, 0xa5, sizeof(before));
    const uint64_t data = guest_put(&guest, before, sizeof(before));

    ck_assert_msg(request(row->type, row->sector, data, row->size, row->writable) ==
                      row->status,
                  "%s", row->name);

    ck_assert(!guest_needs_reset(&guest));
    if (row->status != OK) {
        uint8_t after[512];
        ck_assert_int_eq(guest_memory_read(&guest.memory, data, after, sizeof(after)), 0);
        ck_assert_mem_eq(after, before, sizeof(after));
        ck_assert_int_eq(pread(disk_fd, after, 512, 0), 512);
        memset(before, 0, sizeof(before));
        ck_assert_mem_eq(after, before, sizeof(after)); /* the disk is still empty */
    }
}
END_TEST

struct segment_row {
    uint32_t type;
    struct segment segment;
    uint8_t status;
};

static const struct segment_row segments[] = {
    {DISCARD, {8, 16, 0}, OK},
    {ZEROES, {8, 16, 0}, OK},
    {ZEROES, {8, 16, 1}, OK},
    {ZEROES, {0, 0, 0}, OK},
    {DISCARD, {8, 16, 1}, UNSUPP},
    {ZEROES, {8, 16, 2}, UNSUPP},
    {DISCARD, {SECTORS, 1, 0}, IOERR},
    {ZEROES, {SECTORS - 1, 2, 0}, IOERR},
    {ZEROES, {UINT64_MAX, 1, 0}, IOERR},
    {ZEROES, {UINT64_MAX / 512, UINT32_MAX, 0}, IOERR},
    {DISCARD, {UINT64_C(1) << 55, 8, 0}, IOERR},
    {ZEROES, {0, UINT32_MAX, 0}, IOERR},
};

START_TEST(segments_are_checked_to_the_last_bit)
{
    const struct segment_row *row = &segments[_i];
    uint8_t ones[4096];
    uint8_t back[4096];
    memset(ones, 0xff, sizeof(ones));
    ck_assert_int_eq(pwrite(disk_fd, ones, sizeof(ones), 8 * 512), sizeof(ones));
    const uint64_t at = guest_put(&guest, &row->segment, sizeof(row->segment));

    ck_assert_uint_eq(request(row->type, 0, at, sizeof(row->segment), false),
                      row->status);

    ck_assert_int_eq(pread(disk_fd, back, sizeof(back), 8 * 512), sizeof(back));
    if (row->status == OK && row->segment.count > 0) {
        memset(ones, 0, sizeof(ones));
    }
    ck_assert_mem_eq(back, ones, sizeof(back));
}
END_TEST

START_TEST(the_serial_number_fits_whatever_room_there_is)
{
    for (uint32_t room = 1; room <= 64; room++) {
        uint8_t back[65] = {0};
        const uint64_t at = guest_alloc(&guest, 64);
        ck_assert_uint_eq(request(GET_ID, 0, at, room, true), OK);
        ck_assert_int_eq(guest_memory_read(&guest.memory, at, back, 64), 0);
        ck_assert_mem_eq(back, "vol-1", room < 5 ? room : 5);
        for (unsigned i = 5; i < 64; i++) {
            ck_assert_uint_eq(back[i], 0);
        }
    }
}
END_TEST

START_TEST(names_that_begin_alike_have_serial_numbers_of_their_own)
{
    static const struct {
        const char *name;
        const char *serial;
    } serials[] = {{"root", "root"},
                   {"a-name-of-20-bytes-x", "a-name-of-20-bytes-x"},
                   {"data-of-the-database-1", "data-of-the-8e43ce5d"},
                   {"data-of-the-database-2", "data-of-the-9d133da9"}};
    uint8_t back[VIRTIO_BLOCK_SERIAL_SIZE];
    virtio_block_serial(serials[_i].name, spec.serial);
    ck_assert_str_eq(spec.serial, serials[_i].serial);
    guest_fini(&guest);
    guest_init(&guest);
    guest_attach(&guest, block_new());
    guest_drive(&guest, 0);

    const uint64_t at = guest_alloc(&guest, sizeof(back));
    ck_assert_uint_eq(request(GET_ID, 0, at, sizeof(back), true), OK);

    ck_assert_int_eq(guest_memory_read(&guest.memory, at, back, sizeof(back)), 0);
    ck_assert_mem_eq(back, serials[_i].serial, strlen(serials[_i].serial));
}
END_TEST

START_TEST(a_request_without_a_status_takes_the_device_out_of_service)
{
    const struct header header = {FLUSH, 0, 0};
    const uint64_t at = guest_put(&guest, &header, sizeof(header));
    guest_post(&guest, 0, &(struct guest_buffer){at, sizeof(header), false}, 1);

    guest_kick(&guest, 0);

    ck_assert(guest_needs_reset(&guest));
    guest_drive(&guest, VIRTIO_BLK_F_FLUSH);
    ck_assert_uint_eq(request(FLUSH, 0, 0, 0, false), OK);
}
END_TEST

START_TEST(a_header_may_be_cut_anywhere)
{
    const struct header header = {OUT, 0, 3};
    uint8_t data[512];
    uint8_t back[512];
    const uint8_t no_code = NO_CODE;
    memset(data, 0x42, sizeof(data));
    const uint64_t header_at = guest_put(&guest, &header, sizeof(header));
    const uint64_t data_at = guest_put(&guest, data, sizeof(data));
    const uint64_t status_at = guest_put(&guest, &no_code, 1);

    guest_post(&guest, 0,
               (struct guest_buffer[]){{header_at, 3, false},
                                       {header_at + 3, 13, false},
                                       {data_at, 500, false},
                                       {data_at + 500, 12, false},
                                       {status_at, 1, true}},
               5);
    guest_kick(&guest, 0);
    ck_assert_uint_eq(guest_wait(&guest, 0), 1);

    ck_assert_uint_eq(status_of(status_at), OK);
    ck_assert_int_eq(pread(disk_fd, back, 512, 3 * 512), 512);
    ck_assert_mem_eq(back, data, 512);
}
END_TEST

START_TEST(a_read_only_disk_says_so_and_stays)
{
    guest_fini(&guest);
    guest_init(&guest);
    spec.queue_count = 2; /* the fixture makes that one read only */
    guest_attach(&guest, block_new());
    ck_assert_uint_ne(guest_features_offered(&guest) & VIRTIO_BLK_F_RO, 0);
    ck_assert_uint_eq(guest_features_offered(&guest) & VIRTIO_BLK_F_DISCARD, 0);
    guest_drive(&guest, VIRTIO_BLK_F_RO);
    const uint64_t data = guest_alloc(&guest, 512);

    ck_assert_uint_eq(request(OUT, 0, data, 512, false), IOERR);
    ck_assert_uint_eq(request(DISCARD, 0, data, 16, false), UNSUPP);
    ck_assert_uint_eq(request(IN, 0, data, 512, true), OK);
}
END_TEST

START_TEST(a_full_queue_of_requests_is_answered)
{
    uint64_t status_at[GUEST_QUEUE_SIZE / 3];
    for (unsigned i = 0; i < ARRAY_COUNT(status_at); i++) {
        status_at[i] = post(IN, i, guest_alloc(&guest, 512), 512, true);
    }
    guest_kick(&guest, 0);

    for (unsigned i = 0; i < ARRAY_COUNT(status_at); i++) {
        ck_assert_uint_eq(guest_wait(&guest, 0), 513);
    }

    for (unsigned i = 0; i < ARRAY_COUNT(status_at); i++) {
        ck_assert_uint_eq(status_of(status_at[i]), OK);
    }
}
END_TEST

START_TEST(a_reset_drops_what_is_in_flight)
{
    const uint64_t data = guest_alloc(&guest, 512);
    for (unsigned round = 0; round < 50; round++) {
        for (unsigned i = 0; i < 8; i++) {
            (void)post(IN, i, guest_alloc(&guest, 512), 512, true);
        }
        guest_kick(&guest, 0);
        guest_drive(&guest, VIRTIO_BLK_F_FLUSH);
        ck_assert_uint_eq(guest.pci->virtio->queues[0].in_flight_count, 0);
    }
    ck_assert_uint_eq(request(IN, 0, data, 512, true), OK);
}
END_TEST

/* ---- a disk that waits, and RAM that goes meanwhile ---- */

static int slow_read(struct virtual_disk *disk,
                     uint64_t offset,
                     const struct iovec *pieces,
                     unsigned piece_count,
                     uint64_t size)
{
    char byte;
    (void)disk;
    (void)offset;
    (void)size;
    if (read(slow_gate[0], &byte, 1) != 1) {
        return -EPIPE; /* the test has ended */
    }
    for (unsigned i = 0; i < piece_count; i++) {
        memset(pieces[i].iov_base, 'x', pieces[i].iov_len);
    }
    return 0;
}

static int slow_write(struct virtual_disk *disk,
                      uint64_t offset,
                      const struct iovec *pieces,
                      unsigned piece_count,
                      uint64_t size)
{
    char byte;
    (void)disk;
    (void)offset;
    (void)pieces;
    (void)piece_count;
    (void)size;
    return read(slow_gate[0], &byte, 1) == 1 ? -EIO : -EPIPE; /* an error ends it too */
}

static void slow_free(struct virtual_disk *disk)
{
    (void)disk;
}

static const struct disk_ops slow_ops = {.kind = "slow",
                                         .read = slow_read,
                                         .write = slow_write,
                                         .free = slow_free};

static void registers_be_written(void)
{
    guest_set(&guest, GUEST_DEVICE_FEATURE_SELECT, 4, 1);
    guest_set(&guest, GUEST_DRIVER_FEATURE_SELECT, 4, 1);
    guest_set(&guest, GUEST_QUEUE_SELECT, 2, 0);
    guest_set(&guest, GUEST_QUEUE_VECTOR, 2, 1);
    guest_set(&guest, GUEST_CONFIG_VECTOR, 2, 0);
}

static void registers_are_as_after_power_on(void)
{
    ck_assert_uint_eq(guest_get(&guest, GUEST_DEVICE_FEATURE_SELECT, 4), 0);
    ck_assert_uint_eq(guest_get(&guest, GUEST_DRIVER_FEATURE_SELECT, 4), 0);
    ck_assert_uint_eq(guest_get(&guest, GUEST_QUEUE_VECTOR, 2), PCI_NO_VECTOR);
    ck_assert_uint_eq(guest_get(&guest, GUEST_CONFIG_VECTOR, 2), PCI_NO_VECTOR);
    ck_assert_uint_eq(guest_get(&guest, GUEST_ISR, 1), 0);
}

/* The device may be looked at, and asked, while its driver waits for it; nothing that the
 * driver says meanwhile counts, and nothing comes later than the end of the reset. */
START_TEST(a_reset_does_not_wait_for_a_slow_disk_but_its_driver_does)
{
    static struct virtual_disk disk = {.ops = &slow_ops, .size_bytes = SECTORS * 512};
    static const struct rate_spec unlimited = {0};
    struct virtio_device *device = NULL;
    device_free(&guest.pci->device);
    ck_assert_int_eq(pipe(slow_gate), 0);
    ck_assert_int_eq(virtio_block_new(&guest.place, &spec, &disk, &device, NULL), 0);
    guest_attach(&guest, device);
    guest_drive(&guest, VIRTIO_BLK_F_FLUSH);
    const uint64_t data = guest_alloc(&guest, 512);
    (void)post(IN, 0, data, 512, true);
    guest_kick(&guest, 0);

    guest_set(&guest, GUEST_STATUS, 1, 0);

    const uint64_t status = guest_get(&guest, GUEST_STATUS, 1);
    ck_assert_uint_ne(status, 0);
    virtio_block_limit(device, &unlimited, &unlimited);
    guest_set(&guest, GUEST_STATUS, 1, status | VIRTIO_FAILED);
    registers_be_written();
    (void)post(IN, 0, data, 512, true);
    guest_kick(&guest, 0);
    ck_assert_uint_eq(guest_get(&guest, GUEST_STATUS, 1), status);
    ck_assert_uint_eq(device->queues[0].in_flight_count, 1);
    const unsigned interrupts = guest.interrupts[1];
    const unsigned config_interrupts = guest.interrupts[0];
    virtio_device_enter(device);
    virtio_device_fail(device, "what a ring of the old driver may do at its end");
    virtio_device_leave(device);
    ck_assert_int_eq(write(slow_gate[1], "x", 1), 1);
    if (_i == 0) {
        guest_reset(&guest);
    } else {
        device_stop(&guest.pci->device);
        ck_assert_uint_eq(guest_get(&guest, GUEST_STATUS, 1), 0);
        device_start(&guest.pci->device);
    }

    ck_assert_uint_eq(guest.interrupts[1], interrupts);
    ck_assert_uint_eq(guest.interrupts[0], config_interrupts);
    ck_assert_uint_eq(device->queues[0].in_flight_count, 0);
    registers_are_as_after_power_on();
    guest_drive(&guest, VIRTIO_BLK_F_FLUSH);
    ck_assert_int_eq(write(slow_gate[1], "x", 1), 1);
    ck_assert_uint_eq(request(IN, 0, data, 512, true), OK);
}
END_TEST

static void on_stopped(void *context, unsigned number)
{
    (void)number;
    ++*(unsigned *)context;
}

/* The poller goes on meanwhile, and who waits is told: once. _i: how it ends before. */
START_TEST(a_stop_does_not_wait_for_a_slow_disk)
{
    static struct virtual_disk disk = {.ops = &slow_ops, .size_bytes = SECTORS * 512};
    const struct rate_spec unlimited = {0};
    unsigned stopped = 0;
    struct virtio_device *device = NULL;
    guest_fini(&guest);
    guest_init(&guest);
    ck_assert_int_eq(pipe(slow_gate), 0);
    ck_assert_int_eq(virtio_block_new(&guest.place, &spec, &disk, &device, NULL), 0);
    guest_attach(&guest, device);
    guest.pci->device.stopped = (struct device_line){on_stopped, &stopped};
    guest_drive(&guest, VIRTIO_BLK_F_FLUSH);
    ck_assert(!device_stop_begin(&guest.pci->device)); /* it has nothing to do */
    device_start(&guest.pci->device);
    const uint64_t data = guest_alloc(&guest, 512);
    const uint64_t first_at = post(IN, 0, data, 512, true);
    guest_kick(&guest, 0);

    ck_assert(device_stop_begin(&guest.pci->device));
    ck_assert(device_stop_begin(&guest.pci->device));

    const uint64_t second_at = post(IN, 0, data, 512, true);
    guest_kick(&guest, 0); /* as a doorbell that was on its way */
    virtio_block_limit(device, &unlimited, &unlimited);
    ck_assert_uint_eq(device->queues[0].in_flight_count, 1);
    ck_assert(device_stops(&guest.pci->device));
    ck_assert_uint_eq(stopped, 0);
    if (_i == 1) {
        device_start(&guest.pci->device); /* it goes on after all */
        ck_assert(!device_stops(&guest.pci->device));
        ck_assert_int_eq(write(slow_gate[1], "xx", 2), 2);
        (void)guest_wait(&guest, 0);
        (void)guest_wait(&guest, 0);
        ck_assert_uint_eq(status_of(second_at), OK);
        ck_assert_uint_eq(stopped, 0);
        return;
    }
    ck_assert_int_eq(write(slow_gate[1], "x", 1), 1);
    if (_i == 0) {
        while (stopped == 0) {
            ck_assert_int_ge(poller_step(guest.poller, -1), 0);
        }
    } else if (_i == 2) {
        device_stop(&guest.pci->device);
    } else {
        device_reset(&guest.pci->device);
    }
    guest_settle(&guest);
    ck_assert_uint_eq(stopped, 1);
    ck_assert(!device_stops(&guest.pci->device));
    ck_assert_uint_eq(device->queues[0].in_flight_count, 0);
    ck_assert(_i == 3 || status_of(first_at) == OK);
    device_start(&guest.pci->device);
    if (_i != 3) {
        ck_assert_int_eq(write(slow_gate[1], "x", 1), 1);
        (void)guest_wait(&guest, 0);
        (void)guest_wait(&guest, 0);
        ck_assert_uint_eq(status_of(second_at), OK);
    }
}
END_TEST

/* By direction: whoever reads from a hole brings a page as well. */
START_TEST(a_block_is_not_unplugged_under_a_request)
{
    static struct virtual_disk disk = {.ops = &slow_ops, .size_bytes = SECTORS * 512};
    struct virtio_device *device = NULL;
    struct stat stat;
    guest_fini(&guest);
    guest_init(&guest);
    guest_add_plug(&guest);
    ck_assert_int_eq(pipe(slow_gate), 0);
    ck_assert_int_eq(virtio_block_new(&guest.place, &spec, &disk, &device, NULL), 0);
    guest_attach(&guest, device);
    guest_drive(&guest, VIRTIO_BLK_F_FLUSH);
    const uint64_t status_at = post(_i == 0 ? IN : OUT, 0, GUEST_PLUG_AT, 8192, _i == 0);
    guest_kick(&guest, 0);

    ck_assert_int_eq(guest_memory_unplug(&guest.memory, 1, 0, 1), -EBUSY);
    ck_assert_int_eq(guest_memory_unplug(&guest.memory, 1, 1, 1), 0);
    ck_assert_int_eq(write(slow_gate[1], "x", 1), 1);
    (void)guest_wait(&guest, 0);
    ck_assert_uint_eq(status_of(status_at), _i == 0 ? OK : IOERR);
    ck_assert_int_eq(guest_memory_unplug(&guest.memory, 1, 0, 1), 0);

    ck_assert_int_eq(fstat(guest.memory.regions[1].fd, &stat), 0);
    ck_assert_int_eq(stat.st_blocks, 0);
}
END_TEST

START_TEST(a_limited_disk_answers_late_but_answers)
{
    const struct rate_spec operations = {.rate = 200, .burst = 1};
    const struct rate_spec unlimited = {0};
    virtio_block_limit(guest.pci->virtio, &operations, &unlimited);
    for (unsigned i = 0; i < 10; i++) {
        (void)post(IN, i, guest_alloc(&guest, 512), 512, true);
    }

    guest_kick(&guest, 0);
    ck_assert_uint_lt(guest.pci->virtio->queues[0].next_available, 10); /* held back */

    for (unsigned i = 0; i < 10; i++) {
        ck_assert_uint_eq(guest_wait(&guest, 0), 513);
    }
}
END_TEST

START_TEST(reads_are_in_the_dirty_log)
{
    uint64_t words[GUEST_RAM_BYTES / GUEST_PAGE_BYTES / 64];
    const uint64_t at = (guest_alloc(&guest, 8192) + 4095) & ~UINT64_C(4095);
    ck_assert_int_eq(guest_memory_log_start(&guest.memory), 0);

    ck_assert_uint_eq(request(IN, 0, at, 512, true), OK);

    guest_memory_log_take(&guest.memory, 0, words, ARRAY_COUNT(words));
    const uint64_t page = at / GUEST_PAGE_BYTES;
    ck_assert_uint_ne(words[page / 64] & (UINT64_C(1) << (page % 64)), 0);
}
END_TEST

START_TEST(a_restored_device_goes_on_in_the_middle_of_its_requests)
{
    struct bytes_writer writer;
    struct bytes_reader reader;
    struct err err = {0};
    const struct rate_spec slow = {.rate = 1, .burst = 1};
    const struct rate_spec unlimited = {0};
    uint64_t status_at[6];
    virtio_block_limit(guest.pci->virtio, &slow, &unlimited);
    for (unsigned i = 0; i < 6; i++) {
        status_at[i] = post(IN, i, guest_alloc(&guest, 512), 512, true);
    }
    guest_kick(&guest, 0); /* some are taken, the rest waits in the ring */
    device_stop(&guest.pci->device);
    bytes_writer_init(&writer, 1 << 16);
    device_save(&guest.pci->device, &writer);
    device_free(&guest.pci->device);
    guest_attach_stopped(&guest, block_new());

    bytes_reader_init(&reader, writer.data, writer.size);
    ck_assert_msg(device_restore(&guest.pci->device, &reader, &err) == 0, "%s", err.text);
    device_start(&guest.pci->device);

    for (unsigned i = 0; i < 6; i++) {
        (void)guest_wait(&guest, 0);
    }
    for (unsigned i = 0; i < 6; i++) {
        ck_assert_uint_eq(status_of(status_at[i]), OK);
    }
    bytes_writer_fini(&writer);
}
END_TEST

/* A disk that counts flushes, or fails them. */
struct flushed_disk {
    struct virtual_disk disk;
    unsigned flushes;
    int result;
};

static int flushed_flush(struct virtual_disk *disk)
{
    struct flushed_disk *flushed = (struct flushed_disk *)(void *)disk;
    flushed->flushes++;
    return flushed->result;
}

static int flushed_write(struct virtual_disk *disk,
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
    return 0;
}

static int flushed_range(struct virtual_disk *disk, uint64_t offset, uint64_t size)
{
    (void)disk;
    (void)offset;
    (void)size;
    return 0;
}

static void flushed_free(struct virtual_disk *disk)
{
    (void)disk; /* the test's own */
}

static const struct disk_ops flushed_ops = {.kind = "flushed",
                                            .write = flushed_write,
                                            .zero = flushed_range,
                                            .discard = flushed_range,
                                            .flush = flushed_flush,
                                            .free = flushed_free};

static void attach_disk(struct virtual_disk *disk)
{
    struct virtio_device *device = NULL;
    device_free(&guest.pci->device);
    ck_assert_int_eq(virtio_block_new(&guest.place, &spec, disk, &device, NULL), 0);
    guest_attach_stopped(&guest, device);
}

START_TEST(a_machine_that_is_saved_has_its_disks_flushed)
{
    static struct flushed_disk flushed; /* freed with the guest, after this */
    flushed = (struct flushed_disk){.disk = {.ops = &flushed_ops, .size_bytes = 4096}};
    struct err err = {0};
    attach_disk(&flushed.disk);

    ck_assert_int_eq(device_sync(&guest.pci->device, &err), 0);
    ck_assert_uint_eq(flushed.flushes, 1);
    flushed.result = -EIO;
    ck_assert_int_eq(device_sync(&guest.pci->device, &err), -EIO);

    ck_assert_ptr_nonnull(strstr(err.text, "flush the disk"));
}
END_TEST

static const struct {
    uint32_t type;
    unsigned flushes; /* of a request by a driver that cannot ask for them */
} through[] = {{OUT, 1}, {ZEROES, 1}, {DISCARD, 0}};

START_TEST(what_a_driver_writes_that_cannot_flush_is_durable)
{
    static const struct segment segment = {.sector = 0, .count = 8};
    static uint8_t data[512];
    static struct flushed_disk flushed;
    const bool is_data = through[_i].type == OUT;
    flushed = (struct flushed_disk){.disk = {.ops = &flushed_ops, .size_bytes = 4096}};
    attach_disk(&flushed.disk);
    device_start(&guest.pci->device);
    for (unsigned can_flush = 0; can_flush < 2; can_flush++) {
        flushed.flushes = 0;
        guest_drive(&guest, VIRTIO_BLK_F_DISCARD | VIRTIO_BLK_F_WRITE_ZEROES |
                                (can_flush ? VIRTIO_BLK_F_FLUSH : 0));

        const uint8_t status =
            is_data ? request(OUT, 0, guest_put(&guest, data, 512), 512, false)
                    : request(through[_i].type, 0,
                              guest_put(&guest, &segment, sizeof(segment)),
                              sizeof(segment), false);

        ck_assert_uint_eq(status, OK);
        ck_assert_uint_eq(flushed.flushes, can_flush ? 0 : through[_i].flushes);
    }
}
END_TEST

START_TEST(a_disk_of_another_size_does_not_take_the_state)
{
    static struct flushed_disk other; /* freed with the guest, after this */
    other = (struct flushed_disk){.disk = {.ops = &flushed_ops, .size_bytes = 4096}};
    struct bytes_writer writer;
    struct bytes_reader reader;
    struct err err = {0};
    device_stop(&guest.pci->device);
    bytes_writer_init(&writer, 1 << 16);
    device_save(&guest.pci->device, &writer);
    attach_disk(&other.disk);

    bytes_reader_init(&reader, writer.data, writer.size);
    ck_assert_int_eq(device_restore(&guest.pci->device, &reader, &err), BERTH_EINVALID);

    ck_assert_ptr_nonnull(strstr(err.text, "4096 bytes, and had 1048576"));
    bytes_writer_fini(&writer);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("virtio_block");
    TCase *tests = tcase_create("virtio_block");
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, written_sectors_come_back);
    tcase_add_loop_test(tests, what_does_not_fit_gets_its_status_and_nothing_more, 0,
                        (int)ARRAY_COUNT(bads));
    tcase_add_loop_test(tests, segments_are_checked_to_the_last_bit, 0,
                        (int)ARRAY_COUNT(segments));
    tcase_add_test(tests, the_serial_number_fits_whatever_room_there_is);
    tcase_add_loop_test(tests, names_that_begin_alike_have_serial_numbers_of_their_own, 0,
                        4);
    tcase_add_test(tests, a_request_without_a_status_takes_the_device_out_of_service);
    tcase_add_test(tests, a_header_may_be_cut_anywhere);
    tcase_add_test(tests, a_read_only_disk_says_so_and_stays);
    tcase_add_test(tests, a_full_queue_of_requests_is_answered);
    tcase_add_test(tests, a_reset_drops_what_is_in_flight);
    tcase_add_loop_test(tests, a_stop_does_not_wait_for_a_slow_disk, 0, 4);
    tcase_add_loop_test(tests, a_reset_does_not_wait_for_a_slow_disk_but_its_driver_does,
                        0, 2);
    tcase_add_loop_test(tests, a_block_is_not_unplugged_under_a_request, 0, 2);
    tcase_add_test(tests, a_limited_disk_answers_late_but_answers);
    tcase_add_test(tests, reads_are_in_the_dirty_log);
    tcase_add_test(tests, a_restored_device_goes_on_in_the_middle_of_its_requests);
    tcase_add_test(tests, a_machine_that_is_saved_has_its_disks_flushed);
    tcase_add_loop_test(tests, what_a_driver_writes_that_cannot_flush_is_durable, 0,
                        sizeof(through) / sizeof(through[0]));
    tcase_add_test(tests, a_disk_of_another_size_does_not_take_the_state);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
