/* Goal: a write for which the host has no room is told of and waits; when there is room
 * it is done, once, and the guest never knows. Every other error is the guest's, and
 * told. Method: a small file system behind the device and a driver written by hand; a
 * disk that answers as it is told for what no file system can be brought to. */
#include "base/cleanup.h"
#include "base/fd.h"
#include "guest_driver.h"
#include "support/small_fs.h"
#include "support/test_main.h"
#include "vmm/disk_faults.h"
#include "vmm/disk_overlay.h"
#include "vmm/disk_raw.h"
#include "vmm/virtio_block.h"

#include <check.h>

#include <stdlib.h>

#define DISK_BYTES (UINT64_C(1) << 20)
#define CHUNK      UINT64_C(65536)
#define CHUNKS     16u /* all of the disk */
#define ROOM_BYTES (7 * CHUNK)
#define NO_CODE    0xffu
#define SECTOR     512u
#define DRIVER_HAS (VIRTIO_BLK_F_FLUSH | VIRTIO_BLK_F_DISCARD | VIRTIO_BLK_F_WRITE_ZEROES)

enum { IN = 0, OUT = 1, FLUSH = 4, DISCARD = 11, ZEROES = 13 };
enum { OK = 0, IOERR = 1 };
enum { RAW = 0, OVERLAY, DISK_KINDS };

static struct guest guest;
static struct disk_faults faults;
static unsigned came_count;
static uint64_t now_ms; /* of the test: it stands still */
static int folder;      /* of the small file system */
static int disk_fd;
static uint64_t status_at[GUEST_QUEUE_SIZE];
static unsigned posted;
static unsigned answered;

static void on_came(void *context)
{
    (void)context;
    came_count++;
}

static bool comes_late; /* somebody listens before it is there */

static void attach(struct virtual_disk *disk, bool listens)
{
    const struct virtio_block_spec spec = {
        .serial = "root", .queue_count = 1, .threads = {.count = 2}};
    struct virtio_device *device = NULL;
    disk_faults_init(&faults);
    ck_assert_int_eq(virtio_block_new(&guest.place, &spec, disk, &device, NULL), 0);
    if (!comes_late) {
        disk_faults_add(&faults, "root", "behind", device);
    }
    if (listens) {
        ck_assert_int_eq(disk_faults_listen(&faults, guest.poller, on_came, NULL, NULL),
                         0);
    }
    if (comes_late) {
        disk_faults_add(&faults, "root", "behind", device);
    }
    guest_attach(&guest, device);
    guest_drive(&guest, DRIVER_HAS);
    posted = answered = came_count = 0;
    now_ms = 5;
}

/* A disk of this kind on a file system that has room for ROOM_BYTES of it. */
static struct virtual_disk *small_disk(int kind)
{
    static const struct digest none = {{0}};
    struct disk_file *file = NULL;
    struct virtual_disk *disk = NULL;
    folder = small_fs_open(2 * DISK_BYTES);
    ck_assert_int_ge(folder, 0);
    disk_fd = small_fs_file(
        folder, "disk", kind == RAW ? DISK_BYTES : disk_overlay_file_size(DISK_BYTES));
    ck_assert_int_eq(disk_file_new(dup(disk_fd), &file, NULL), 0);
    if (kind == OVERLAY) {
        ck_assert_int_eq(disk_overlay_create(file, DISK_BYTES, 0, &none, NULL), 0);
    }
    const int room = small_fs_file(folder, "room", 0);
    ck_assert_int_eq(posix_fallocate(room, 0, (off_t)ROOM_BYTES), 0);
    small_fs_fill(folder, "ballast");
    ck_assert_int_eq(ftruncate(room, 0), 0);
    (void)close(room);
    ck_assert_int_eq(kind == OVERLAY ? disk_overlay_open(file, NULL, &none, &disk, NULL)
                                     : disk_raw_new(file, false, &disk, NULL),
                     0);
    return disk;
}

static void make_room(void)
{
    ck_assert_int_eq(unlinkat(folder, "ballast", 0), 0);
}

static void set_up(void)
{
    folder = disk_fd = -1;
    comes_late = false;
    guest_init(&guest);
}

static void tear_down(void)
{
    device_free(guest.pci == NULL ? NULL : &guest.pci->device);
    guest.pci = NULL;
    disk_faults_fini(&faults); /* from the guest's poller */
    guest_fini(&guest);
    fd_close(&disk_fd);
    fd_close(&folder);
}

/* ---- the guest ---- */

static void post(uint32_t type, uint64_t sector, const void *data, uint32_t size)
{
    const struct {
        uint32_t type;
        uint32_t reserved;
        uint64_t sector;
    } header = {type, 0, sector};
    const uint8_t status = NO_CODE;
    struct guest_buffer buffers[3] = {
        {guest_put(&guest, &header, sizeof(header)), sizeof(header), false}};
    unsigned count = 1;
    status_at[posted] = guest_put(&guest, &status, 1);
    if (size > 0) {
        const uint64_t at =
            data == NULL ? guest_alloc(&guest, size) : guest_put(&guest, data, size);
        buffers[count++] = (struct guest_buffer){at, size, type == IN};
    }
    buffers[count++] = (struct guest_buffer){status_at[posted++], 1, true};
    guest_post(&guest, 0, buffers, count);
}

static void chunk_fill(uint8_t chunk[CHUNK], unsigned number)
{
    for (uint64_t i = 0; i < CHUNK; i++) {
        chunk[i] = (uint8_t)(1 + number * 37 + i / SECTOR);
    }
}

static void post_chunk(unsigned number)
{
    static uint8_t chunk[CHUNK];
    chunk_fill(chunk, number);
    post(OUT, number * CHUNK / SECTOR, chunk, sizeof(chunk));
}

static uint8_t status_of(unsigned request)
{
    uint8_t status = NO_CODE;
    ck_assert_int_eq(guest_memory_read(&guest.memory, status_at[request], &status, 1), 0);
    return status;
}

/* Takes the answers that are there. */
static void count_answers(void)
{
    uint32_t head = 0;
    uint32_t size = 0;
    while (guest_used(&guest, 0, &head, &size)) {
        answered++;
    }
}

static void await_answers(void)
{
    for (count_answers(); answered < posted; count_answers()) {
        ck_assert_int_gt(poller_step(guest.poller, GUEST_WAIT_MS), 0);
    }
    ck_assert_uint_eq(answered, posted);
}

static void await_fault(void)
{
    while (came_count == 0) {
        ck_assert_int_gt(poller_step(guest.poller, GUEST_WAIT_MS), 0);
    }
    came_count = 0;
}

static bool take(struct disk_fault *ret_fault)
{
    return disk_faults_take(&faults, now_ms, ret_fault);
}

/* As the machine does when it is told of what is kept. */
static void stand_still(void)
{
    struct disk_fault fault;
    await_fault();
    ck_assert(take(&fault));
    ck_assert_str_eq(fault.disk, "root");
    ck_assert_str_eq(fault.node, "behind");
    ck_assert_int_eq(fault.kind, DISK_FAULT_KEPT);
    ck_assert_int_eq(fault.code, -ENOSPC);
    device_stop(&guest.pci->device);
    (void)take(&fault); /* of others, while it came to a stand */
    guest_settle(&guest);
    came_count = 0;
    count_answers();
}

static void check_chunk(unsigned number)
{
    static uint8_t wanted[CHUNK];
    static uint8_t found[CHUNK];
    chunk_fill(wanted, number);
    ck_assert_int_eq(pread(disk_fd, found, CHUNK, (off_t)(number * CHUNK)),
                     (ssize_t)CHUNK);
    ck_assert_mem_eq(found, wanted, CHUNK);
}

/* ---- */

START_TEST(a_full_host_is_waited_for_and_nothing_is_lost_or_done_twice)
{
    comes_late = _i >= DISK_KINDS;
    attach(small_disk(_i % DISK_KINDS), true);
    for (unsigned i = 0; i < CHUNKS; i++) {
        post_chunk(i);
    }
    guest_kick(&guest, 0);

    stand_still();
    const unsigned before = answered;
    ck_assert_uint_ge(before, 1);
    ck_assert_uint_lt(before, CHUNKS);
    for (unsigned i = 0; i < CHUNKS; i++) {
        ck_assert(status_of(i) == OK || status_of(i) == NO_CODE);
    }
    device_start(&guest.pci->device); /* in vain */
    stand_still();
    ck_assert_uint_lt(answered, CHUNKS);
    make_room();
    post(FLUSH, 0, NULL, 0); /* seen when it goes on */
    device_start(&guest.pci->device);
    await_answers();

    ck_assert(!virtio_block_waits(guest.pci->virtio));
    for (unsigned i = 0; i < CHUNKS; i++) {
        ck_assert_uint_eq(status_of(i), OK);
        check_chunk(i);
    }
    ck_assert_uint_eq(status_of(CHUNKS), OK);
    ck_assert_uint_eq(guest.pci->virtio->queues[0].in_flight_count, 0);
}
END_TEST

/* What it could not do is nobody's to tell any more, and its place is for another. */
START_TEST(of_a_disk_that_has_gone_nothing_is_told)
{
    struct disk_fault fault;
    attach(small_disk(RAW), true);
    for (unsigned i = 0; i < CHUNKS; i++) {
        post_chunk(i);
    }
    guest_kick(&guest, 0);
    await_fault();
    device_stop(&guest.pci->device);
    device_reset(&guest.pci->device);

    disk_faults_remove(&faults, guest.pci->virtio);

    ck_assert(!take(&fault));
    ck_assert_uint_eq(faults.count, 1);
    disk_faults_add(&faults, "again", "behind", guest.pci->virtio);
    ck_assert_uint_eq(faults.count, 1);
    ck_assert(!take(&fault));
}
END_TEST

/* A flush is for what was answered before it: that is durable, and it does not wait for
 * what is kept. */
START_TEST(a_flush_makes_durable_what_was_answered_and_later_the_rest)
{
    static const struct digest none = {{0}};
    struct disk_file *file = NULL;
    struct virtual_disk *seen = NULL;
    attach(small_disk(OVERLAY), true);
    post_chunk(0);
    guest_kick(&guest, 0);
    await_answers();
    for (unsigned i = 1; i < CHUNKS; i++) {
        post_chunk(i);
    }
    guest_kick(&guest, 0);
    await_fault();

    post(FLUSH, 0, NULL, 0);
    guest_kick(&guest, 0);
    while (status_of(CHUNKS) == NO_CODE) {
        ck_assert_int_gt(poller_step(guest.poller, GUEST_WAIT_MS), 0);
    }
    ck_assert_uint_eq(status_of(CHUNKS), OK);
    device_stop(&guest.pci->device);
    ck_assert_int_eq(disk_file_new(dup(disk_fd), &file, NULL), 0);
    ck_assert_int_eq(disk_overlay_open(file, NULL, &none, &seen, NULL), 0);
    unsigned held = 0;
    for (unsigned i = 0; i < CHUNKS; i++) {
        const bool is_held = disk_overlay_holds(seen, (i + 1) * CHUNK - 1);
        ck_assert(!is_held || status_of(i) == OK);
        held += is_held ? 1 : 0;
    }
    ck_assert(disk_overlay_holds(seen, 0) && held < CHUNKS);
    disk_free(seen);

    make_room();
    device_start(&guest.pci->device);
    await_answers();
    post(FLUSH, 0, NULL, 0);
    guest_kick(&guest, 0);
    await_answers();
    ck_assert_int_eq(disk_file_new(dup(disk_fd), &file, NULL), 0);
    ck_assert_int_eq(disk_overlay_open(file, NULL, &none, &seen, NULL), 0);
    for (unsigned i = 0; i < CHUNKS; i++) {
        ck_assert(disk_overlay_holds(seen, i * CHUNK));
        check_chunk(i);
    }
    disk_free(seen);
}
END_TEST

/* Zeros at the edge of a block need one of their own first. */
START_TEST(zeros_wait_for_room_too)
{
    static const struct {
        uint64_t sector;
        uint32_t count;
        uint32_t flags;
    } segment = {15 * CHUNK / SECTOR + 1, 2, 0};
    struct disk_fault fault;
    attach(small_disk(OVERLAY), true);
    small_fs_fill(folder, "all");
    post(ZEROES, 0, &segment, sizeof(segment));
    guest_kick(&guest, 0);

    stand_still();
    ck_assert_uint_eq(answered, 0);
    make_room();
    device_start(&guest.pci->device);
    await_answers();

    ck_assert_uint_eq(status_of(0), OK);
    ck_assert(!take(&fault));
}
END_TEST

START_TEST(a_machine_is_not_saved_while_its_writes_wait)
{
    struct err err = {0};
    attach(small_disk(RAW), true);
    for (unsigned i = 0; i < CHUNKS; i++) {
        post_chunk(i);
    }
    guest_kick(&guest, 0);
    stand_still();

    ck_assert_int_eq(device_may_save(&guest.pci->device, &err), BERTH_EPHASE);
    ck_assert_ptr_nonnull(strstr(err.text, "wait for room on the host's disk"));

    make_room();
    device_start(&guest.pci->device);
    await_answers();
    device_stop(&guest.pci->device);
    ck_assert_int_eq(device_may_save(&guest.pci->device, &err), 0);
}
END_TEST

/* Also: the test's end frees a device that keeps something (_i of 1). */
START_TEST(a_reset_drops_what_is_kept_and_an_end_is_an_end)
{
    struct disk_fault fault;
    attach(small_disk(RAW), true);
    for (unsigned i = 0; i < CHUNKS; i++) {
        post_chunk(i);
    }
    guest_kick(&guest, 0);
    await_fault();
    ck_assert(virtio_block_waits(guest.pci->virtio));
    if (_i == 1) {
        return;
    }

    guest_drive(&guest, DRIVER_HAS);

    ck_assert(!virtio_block_waits(guest.pci->virtio));
    ck_assert(!take(&fault)); /* nobody has to stand still for it any more */
    ck_assert_uint_eq(guest.pci->virtio->queues[0].in_flight_count, 0);
    ck_assert_uint_eq(counter_read(&virtio_block_stats(guest.pci->virtio)->in_flight), 0);
    make_room();
    posted = answered = 0;
    guest.heap_at = GUEST_HEAP_AT;
    post_chunk(15);
    guest_kick(&guest, 0);
    await_answers();
    ck_assert_uint_eq(status_of(0), OK);
    check_chunk(15);
}
END_TEST

/* It is not started again, and its guest is not there any more. _i: it has kept some by
 * then. */
START_TEST(a_disk_that_leaves_keeps_nothing)
{
    struct disk_fault fault;
    attach(small_disk(RAW), true);
    for (unsigned i = 0; i < CHUNKS; i++) {
        post_chunk(i);
    }
    guest.pci->virtio->leaving = _i == 0;
    guest_kick(&guest, 0);

    await_fault();
    device_stop(&guest.pci->device);
    if (_i == 1) {
        ck_assert(virtio_block_waits(guest.pci->virtio));
        guest.pci->virtio->leaving = true;
        device_reset(&guest.pci->device);
    }

    ck_assert(!virtio_block_waits(guest.pci->virtio));
    ck_assert(take(&fault));
    ck_assert_int_eq(fault.kind, DISK_FAULT_LAST);
    ck_assert(disk_has_no_room(fault.code));
    ck_assert(!take(&fault));
}
END_TEST

/* ---- a disk that answers as it is told ---- */

static int told_code;

static int told_read(struct virtual_disk *disk,
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
    return told_code;
}

static int told_flush(struct virtual_disk *disk)
{
    (void)disk;
    return told_code;
}

static int told_range(struct virtual_disk *disk, uint64_t offset, uint64_t size)
{
    (void)disk;
    (void)offset;
    (void)size;
    return told_code;
}

static void told_free(struct virtual_disk *disk)
{
    (void)disk; /* the test's own */
}

static const struct disk_ops told_ops = {.kind = "told",
                                         .read = told_read,
                                         .write = told_read,
                                         .flush = told_flush,
                                         .zero = told_range,
                                         .discard = told_range,
                                         .free = told_free};
static struct virtual_disk told = {.ops = &told_ops, .size_bytes = DISK_BYTES};

#define NONE DISK_FAULT_KIND_COUNT

static const struct told_row {
    uint32_t type;
    int code;
    bool listens;
    enum disk_fault_kind kind; /* NONE: nobody is told */
} rows[] = {
    {OUT, -ENOSPC, true, DISK_FAULT_KEPT},    {OUT, -EDQUOT, true, DISK_FAULT_KEPT},
    {ZEROES, -ENOSPC, true, DISK_FAULT_KEPT}, {FLUSH, -ENOSPC, true, DISK_FAULT_KEPT},
    {IN, -ENOSPC, true, DISK_FAULT_READ},     {IN, -EIO, true, DISK_FAULT_READ},
    {OUT, -EIO, true, DISK_FAULT_CHANGE},     {OUT, -EFBIG, true, DISK_FAULT_CHANGE},
    {FLUSH, -EIO, true, DISK_FAULT_CHANGE},   {DISCARD, -EIO, true, DISK_FAULT_CHANGE},
    {OUT, -EINVAL, true, DISK_FAULT_CHANGE}, /* the host's: nothing of the guest's */
    {OUT, -EROFS, true, DISK_FAULT_CHANGE},  /* comes that far */
    {IN, -EINVAL, true, DISK_FAULT_READ},     {OUT, -ENOSPC, false, NONE},
    {DISCARD, -ENOSPC, true, NONE}, /* done: what is old stays */
    {DISCARD, -EDQUOT, false, NONE},
};

static bool row_is_good(const struct told_row *row)
{
    return row->kind == DISK_FAULT_KEPT ||
           (row->type == DISCARD && disk_has_no_room(row->code));
}

static void post_row(const struct told_row *row)
{
    static const uint32_t data[SECTOR / 4] = {0, 0,
                                              8}; /* a segment: sector 0, 8 of them */
    const bool has_segment = row->type == ZEROES || row->type == DISCARD;
    post(row->type, 0, data, row->type == FLUSH ? 0 : has_segment ? 16 : sizeof(data));
    guest_kick(&guest, 0);
}

START_TEST(no_room_is_waited_for_and_all_else_is_an_error_that_is_told)
{
    const struct told_row *row = &rows[_i];
    struct disk_fault fault = {0};
    told_code = row->code;
    attach(&told, row->listens);

    post_row(row);

    if (row->kind == DISK_FAULT_KEPT) {
        await_fault();
        ck_assert(take(&fault));
        ck_assert_uint_eq(status_of(0), NO_CODE);
        device_stop(&guest.pci->device);
        told_code = 0;
        device_start(&guest.pci->device);
    }
    await_answers();
    if (row->kind != DISK_FAULT_KEPT) {
        ck_assert(take(&fault) == (row->kind != NONE));
    }
    ck_assert_uint_eq(status_of(0), row_is_good(row) ? OK : IOERR);
    if (row->kind != NONE) {
        ck_assert_int_eq(fault.kind, row->kind);
        ck_assert_int_eq(fault.code, row->code);
    }
    ck_assert(!take(&fault));
}
END_TEST

/* A guest reads the same bad sector as often as it likes. */
START_TEST(an_error_that_comes_again_is_told_again_a_second_later)
{
    static const struct told_row bad = {.type = IN};
    struct disk_fault fault;
    told_code = -EIO;
    attach(&told, true);
    for (unsigned i = 0; i < 5; i++) {
        post_row(&bad);
        await_answers();
        ck_assert(take(&fault) == (i == 0 || i == 3));
        now_ms += i == 2 ? DISK_FAULTS_APART_MS : 1;
    }
}
END_TEST

START_TEST(what_is_kept_comes_behind_what_the_guest_was_told)
{
    static const struct told_row full = {.type = OUT};
    static const struct told_row bad = {.type = IN};
    struct disk_fault fault;
    attach(&told, true);
    told_code = -ENOSPC;
    post_row(&full);
    await_fault();
    told_code = -EIO;
    post_row(&bad);
    await_fault();

    ck_assert(take(&fault));
    ck_assert_int_eq(fault.kind, DISK_FAULT_READ);
    ck_assert(take(&fault));
    ck_assert_int_eq(fault.kind, DISK_FAULT_KEPT);
    ck_assert(!take(&fault));
    told_code = 0;
}
END_TEST

static int synced_code;

static void on_synced(void *context, int code)
{
    (void)context;
    synced_code = code;
}

/* Whatever the guest has heard a moment before. */
START_TEST(the_last_flush_of_a_disk_that_leaves_is_told_and_nothing_of_others)
{
    static const struct told_row bad = {.type = FLUSH};
    const struct virtio_synced synced = {on_synced, NULL};
    struct disk_fault fault;
    attach(&told, true);
    told_code = -EIO;
    post_row(&bad);
    await_answers();
    ck_assert(take(&fault));
    device_stop(&guest.pci->device);
    device_reset(&guest.pci->device);
    synced_code = 1;

    virtio_device_enter(guest.pci->virtio);
    ck_assert(virtio_device_sync_last(guest.pci->virtio, &synced));
    ck_assert_int_eq(synced_code, 1); /* not before it returns */
    virtio_device_leave(guest.pci->virtio);
    while (synced_code == 1) {
        ck_assert_int_gt(poller_step(guest.poller, GUEST_WAIT_MS), 0);
    }

    ck_assert_int_eq(synced_code, -EIO);
    ck_assert(!disk_faults_take_of(&faults, NULL, now_ms, &fault));
    ck_assert(disk_faults_take_of(&faults, guest.pci->virtio, now_ms, &fault));
    ck_assert_str_eq(fault.disk, "root");
    ck_assert_str_eq(fault.node, "behind");
    ck_assert_int_eq(fault.kind, DISK_FAULT_LAST);
    ck_assert_int_eq(fault.code, -EIO);
    ck_assert(!disk_faults_take_of(&faults, guest.pci->virtio, now_ms, &fault));
    ck_assert(!take(&fault));
}
END_TEST

/* The test's end frees it with the flush on its way. */
START_TEST(a_disk_ends_behind_its_last_flush)
{
    const struct virtio_synced synced = {on_synced, NULL};
    attach(&told, true);
    told_code = 0;
    device_stop(&guest.pci->device);
    device_reset(&guest.pci->device);
    synced_code = 1;
    virtio_device_enter(guest.pci->virtio);
    ck_assert(virtio_device_sync_last(guest.pci->virtio, &synced));
    virtio_device_leave(guest.pci->virtio);

    device_free(&guest.pci->device);

    ck_assert_int_eq(synced_code, 0);
    guest.pci = NULL;
}
END_TEST

/* What a request waits to write must not be taken from under it. */
START_TEST(a_block_is_not_unplugged_under_a_write_that_waits)
{
    const struct {
        uint32_t type;
        uint32_t reserved;
        uint64_t sector;
    } header = {OUT, 0, 0};
    const uint8_t status = NO_CODE;
    guest_add_plug(&guest);
    told_code = -ENOSPC;
    attach(&told, true);
    const struct guest_buffer buffers[] = {
        {guest_put(&guest, &header, sizeof(header)), sizeof(header), false},
        {GUEST_PLUG_AT, 4096, false},
        {guest_put(&guest, &status, 1), 1, true}};
    guest_post(&guest, 0, buffers, 3);
    guest_kick(&guest, 0);
    await_fault();

    ck_assert_int_eq(guest_memory_unplug(&guest.memory, 1, 0, 1), -EBUSY);
    guest_drive(&guest, DRIVER_HAS);
    ck_assert_int_eq(guest_memory_unplug(&guest.memory, 1, 0, 1), 0);
}
END_TEST

int main(void)
{
    const int probe = small_fs_open(1 << 20);
    Suite *suite = suite_create("disk_faults");
    TCase *tests = tcase_create("disk_faults");
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, set_up, tear_down);
    if (probe >= 0) {
        (void)close(probe);
        tcase_add_loop_test(tests,
                            a_full_host_is_waited_for_and_nothing_is_lost_or_done_twice,
                            0, 2 * DISK_KINDS);
        tcase_add_test(tests, of_a_disk_that_has_gone_nothing_is_told);
        tcase_add_test(tests, a_flush_makes_durable_what_was_answered_and_later_the_rest);
        tcase_add_test(tests, zeros_wait_for_room_too);
        tcase_add_test(tests, a_machine_is_not_saved_while_its_writes_wait);
        tcase_add_loop_test(tests, a_reset_drops_what_is_kept_and_an_end_is_an_end, 0, 2);
        tcase_add_loop_test(tests, a_disk_that_leaves_keeps_nothing, 0, 2);
    } else {
        (void)puts("no small file system can be made here (that is root's): its part is "
                   "not tested");
    }
    tcase_add_loop_test(tests,
                        no_room_is_waited_for_and_all_else_is_an_error_that_is_told, 0,
                        (int)ARRAY_COUNT(rows));
    tcase_add_test(tests, an_error_that_comes_again_is_told_again_a_second_later);
    tcase_add_test(tests, what_is_kept_comes_behind_what_the_guest_was_told);
    tcase_add_test(tests,
                   the_last_flush_of_a_disk_that_leaves_is_told_and_nothing_of_others);
    tcase_add_test(tests, a_disk_ends_behind_its_last_flush);
    tcase_add_test(tests, a_block_is_not_unplugged_under_a_write_that_waits);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
