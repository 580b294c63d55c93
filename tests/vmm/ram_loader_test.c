/* Goal: RAM that comes in while it is used is that which was saved, or is told to be
 * none; nobody waits for ever, and nobody sees a byte that was not checked. Method: two
 * regions and files in memory, each kind of harm by hand; the loader's thread is held at
 * its beginning where a test needs that nothing is there yet. What touches RAM as KVM
 * does it is the kernel itself, by write(2). */
#include "base/cleanup.h"
#include "image_gate.h"
#include "support/test_main.h"
#include "vmm/ram_image.h"
#include "vmm/ram_loader.h"
#include "watch_turns.h"

#include <check.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PAGE   GUEST_PAGE_BYTES
#define CHUNK  RAM_CHUNK_BYTES
#define FAR_AT (UINT64_C(1) << 32)
#define FROM   (2 * CHUNK) /* where it begins in the file */

/* What RAM holds, and where that is in the file. */
static const struct {
    uint64_t address;
    uint64_t in_file;
} written[] = {
    {3 * PAGE, FROM + 3 * PAGE},
    {CHUNK - PAGE, FROM + CHUNK - PAGE},
    {CHUNK, FROM + CHUNK},
    {FAR_AT + CHUNK + 7 * PAGE, FROM + 4 * CHUNK + 7 * PAGE},
};

#define LAST (ARRAY_COUNT(written) - 1)

static struct guest_memory saved;
static struct guest_memory memory;
static struct bytes_writer section;
static struct ram_loader *loader;
static int file;
static atomic_bool is_held;
static bool is_unfit;
static atomic_uint no_memory; /* so many pieces cannot be placed */
static atomic_bool has_failed;
static char reason[200];

static void memory_make(struct guest_memory *ret_memory)
{
    guest_memory_init(ret_memory);
    ck_assert_int_eq(guest_memory_add(ret_memory, 0, 3 * CHUNK, NULL), 0);
    ck_assert_int_eq(guest_memory_add(ret_memory, FAR_AT, 2 * CHUNK, NULL), 0);
}

static int began(void *context, struct err *err)
{
    (void)context;
    while (atomic_load(&is_held)) {
        (void)sched_yield();
    }
    return is_unfit ? err_set(err, -EPERM, "it may not") : 0;
}

/* In place of the C library's: a host that is short of memory. */
int ioctl(int fd, unsigned long request, ...)
{
    va_list list;
    va_start(list, request);
    void *argument = va_arg(list, void *);
    va_end(list);
    if (request == UFFDIO_COPY && atomic_load(&no_memory) > 0) {
        atomic_fetch_sub(&no_memory, 1);
        errno = ENOMEM;
        return -1;
    }
    return (int)syscall(SYS_ioctl, fd, request, argument);
}

static void failed(void *context, const char *why)
{
    (void)context;
    (void)snprintf(reason, sizeof(reason), "%s", why);
    atomic_store(&has_failed, true);
}

static void setup(void)
{
    struct ram_progress progress = {0};
    const struct ram_loader_events events = {.thread_began = began, .failed = failed};
    struct err err = {0};
    memory_make(&saved);
    for (unsigned i = 0; i < ARRAY_COUNT(written); i++) {
        uint8_t page[PAGE];
        memset(page, (int)i + 1, sizeof(page));
        ck_assert_int_eq(
            guest_memory_write(&saved, written[i].address, page, sizeof(page)), 0);
    }
    bytes_writer_init(&section, 1u << 16);
    file = memfd_create("image", MFD_CLOEXEC);
    ck_assert_int_eq(ram_image_write(&saved, file, FROM, &progress, &section, NULL), 0);
    ck_assert_int_eq(ftruncate(file, (off_t)(FROM + 5 * CHUNK)), 0);
    memory_make(&memory);
    atomic_store(&is_held, false);
    atomic_store(&has_failed, false);
    atomic_store(&no_memory, 0);
    is_unfit = false;
    ck_assert_msg(ram_loader_new(&memory, file, FROM, &events, &loader, &err) == 0, "%s",
                  err.text);
}

static void teardown(void)
{
    watch_turns_disown();
    image_gate_reset();
    loader = ram_loader_free(loader);
    guest_memory_fini(&memory);
    guest_memory_fini(&saved);
    bytes_writer_fini(&section);
    (void)close(file);
}

static int begin(struct err *err)
{
    struct bytes_reader reader;
    bytes_reader_init(&reader, section.data, section.size);
    int r = ram_loader_begin(loader, &reader, err);
    return r < 0 ? r : bytes_reader_end(&reader);
}

static void begin_held(void)
{
    atomic_store(&is_held, true);
    ck_assert_int_eq(begin(NULL), 0);
}

static uint64_t done_bytes(void)
{
    struct ram_loader_progress progress;
    ram_loader_progress(loader, &progress);
    ck_assert_uint_eq(progress.total_bytes, 5 * CHUNK);
    return progress.done_bytes;
}

static bool was_abandoned(void)
{
    struct ram_loader_progress progress;
    ram_loader_progress(loader, &progress);
    return progress.was_abandoned;
}

static void await_whole(void)
{
    while (done_bytes() < 5 * CHUNK) {
        (void)sched_yield();
    }
}

/* How much of the host's memory it takes. */
static int pages_there(void)
{
    struct stat info;
    int64_t bytes = 0;
    for (unsigned i = 0; i < memory.region_count; i++) {
        ck_assert_int_eq(fstat(memory.regions[i].fd, &info), 0);
        bytes += (int64_t)info.st_blocks * 512;
    }
    return (int)(bytes / (int64_t)PAGE);
}

/* As a vCPU would: 0 or -errno. */
static int kernel_reads(uint64_t address, uint8_t *ret_byte)
{
    int ends[2];
    const struct guest_region *region = &memory.regions[address >= FAR_AT];
    ck_assert_int_eq(pipe(ends), 0);
    const ssize_t r = write(ends[1], region->host + (address - region->address), 1);
    const int error = r < 0 ? -errno : 0;
    ck_assert(r < 0 || read(ends[0], ret_byte, 1) == 1);
    (void)close(ends[0]);
    (void)close(ends[1]);
    return error;
}

static int device_reads(uint64_t address, uint8_t *ret_byte)
{
    return guest_memory_read(&memory, address, ret_byte, 1);
}

START_TEST(all_of_ram_comes_in_by_itself_and_zeros_take_no_room)
{
    ck_assert_int_eq(begin(NULL), 0);
    await_whole();

    ck_assert_int_eq(pages_there(), (int)ARRAY_COUNT(written));
    ram_loader_abandon(loader); /* there is nothing left to be */
    ck_assert(!was_abandoned());
    ram_loader_drop(loader); /* so that pages of zeros are anybody's */
    for (unsigned i = 0; i < memory.region_count; i++) {
        ck_assert_mem_eq(memory.regions[i].host, saved.regions[i].host,
                         saved.regions[i].size_bytes);
    }
    ck_assert(!atomic_load(&has_failed));
}
END_TEST

START_TEST(what_was_looked_at_before_it_began_comes_in_all_the_same)
{
    uint8_t byte = 1;
    for (unsigned i = 0; i < ARRAY_COUNT(written); i++) {
        ck_assert_int_eq(device_reads(written[i].address, &byte), 0);
        ck_assert_uint_eq(byte, 0);
    }

    ck_assert_int_eq(begin(NULL), 0);

    for (unsigned i = 0; i < ARRAY_COUNT(written); i++) {
        ck_assert_int_eq(kernel_reads(written[i].address, &byte), 0);
        ck_assert_uint_eq(byte, i + 1);
    }
}
END_TEST

struct toucher {
    int (*reads)(uint64_t address, uint8_t *ret_byte);
    uint64_t address;
    pthread_t thread;
    int result;
    uint8_t byte;
};

static void *touch(void *context)
{
    struct toucher *toucher = context;
    toucher->result = toucher->reads(toucher->address, &toucher->byte);
    return NULL;
}

/* Touches while nothing is there, and lets it come. */
static void touched(struct toucher *toucher)
{
    ck_assert_int_eq(pthread_create(&toucher->thread, NULL, touch, toucher), 0);
    atomic_store(&is_held, false);
    ck_assert_int_eq(pthread_join(toucher->thread, NULL), 0);
}

/* _i: a device, or the kernel. */
static int (*const readers[])(uint64_t, uint8_t *) = {device_reads, kernel_reads};

START_TEST(what_is_touched_before_it_is_there_is_waited_for)
{
    struct toucher toucher = {.reads = readers[_i], .address = written[LAST].address};
    begin_held();
    ck_assert_uint_eq(done_bytes(), 0);

    touched(&toucher);

    ck_assert_int_eq(toucher.result, 0);
    ck_assert_uint_eq(toucher.byte, LAST + 1);
    for (uint64_t address = 0; address < 3 * CHUNK; address += PAGE) { /* zeros as well */
        ck_assert_int_eq(readers[_i](address, &toucher.byte), 0);
        ck_assert_uint_eq(toucher.byte, saved.regions[0].host[address]);
    }
}
END_TEST

START_TEST(a_chunk_that_is_there_needs_the_loader_no_more)
{
    uint8_t byte = 0;
    image_gate_close(FROM + 4 * CHUNK, FROM + 5 * CHUNK);
    ck_assert_int_eq(begin(NULL), 0);
    image_gate_await(); /* it is busy with the last one */

    for (uint64_t address = 0; address < 3 * CHUNK; address += PAGE) {
        ck_assert_int_eq(kernel_reads(address, &byte), 0);
        ck_assert_uint_eq(byte, saved.regions[0].host[address]);
    }

    image_gate_open();
    await_whole();
    ck_assert_int_eq(kernel_reads(written[LAST].address, &byte), 0);
    ck_assert_uint_eq(byte, LAST + 1);
}
END_TEST

START_TEST(damage_is_told_before_anybody_goes_on)
{
    struct toucher toucher = {.reads = readers[_i % 2], .address = written[LAST].address};
    uint8_t byte = 0;
    begin_held();
    if (_i < 2) {
        ck_assert_int_eq(pwrite(file, "x", 1, (off_t)written[LAST].in_file + 99), 1);
    } else { /* cut short after it began */
        ck_assert_int_eq(ftruncate(file, (off_t)(FROM + 4 * CHUNK + 8 * PAGE)), 0);
    }

    touched(&toucher);

    ck_assert(atomic_load(&has_failed));
    ck_assert_int_eq(toucher.result, -EFAULT);
    ck_assert_str_eq(reason,
                     _i < 2 ? "the saved RAM is damaged within 2 MiB from 0x100200000"
                            : "the saved RAM is cut short");

    ck_assert_int_eq(kernel_reads(written[LAST].address, &byte), -EFAULT);
    ck_assert_int_eq(device_reads(written[LAST].address, &byte), -EFAULT);
    ck_assert_uint_lt(done_bytes(), 5 * CHUNK);

    ram_loader_drop(loader); /* then it is RAM as any other */
    ck_assert_uint_eq(done_bytes(), 5 * CHUNK);
    ck_assert_int_eq(kernel_reads(written[LAST].address, &byte), 0);
    ck_assert_uint_eq(byte, 0);
    ck_assert_int_eq(guest_memory_write(&memory, written[LAST].address, "y", 1), 0);
}
END_TEST

/* Storage that hangs, and a machine that has waited for long enough. A patience of no
 * time may be over before anything is read: none who renews so may wait at the gate. */
#define SHORT_MS 1500u /* but long enough to get there on a machine that crawls */

static void loader_renew(unsigned patience_ms)
{
    const struct ram_loader_events events = {
        .thread_began = began, .failed = failed, .patience_ms = patience_ms};
    loader = ram_loader_free(loader);
    ck_assert_int_eq(ram_loader_new(&memory, file, FROM, &events, &loader, NULL), 0);
}

START_TEST(a_device_does_not_wait_for_ever)
{
    uint8_t byte = 0;
    loader_renew(SHORT_MS);
    image_gate_close(FROM + 4 * CHUNK, FROM + 5 * CHUNK);
    ck_assert_int_eq(begin(NULL), 0);
    image_gate_await();

    ck_assert_int_eq(device_reads(written[LAST].address, &byte), -EFAULT);

    ck_assert(atomic_load(&has_failed));
    ck_assert_str_eq(reason, "the storage of the saved RAM does not answer in time");
    ck_assert_int_eq(kernel_reads(written[LAST].address, &byte), -EFAULT);
    image_gate_open(); /* too late: nobody is to see it any more */
    loader = ram_loader_free(loader);
    ck_assert_int_eq(device_reads(written[LAST].address, &byte), 0);
}
END_TEST

START_TEST(a_thread_that_hangs_is_left_to_itself)
{
    uint8_t byte = 1;
    loader_renew(SHORT_MS);
    image_gate_close(FROM, FROM + CHUNK);
    ck_assert_int_eq(begin(NULL), 0);
    image_gate_await();

    ram_loader_drop(loader);

    ck_assert_uint_eq(done_bytes(), 5 * CHUNK);
    ck_assert_int_eq(kernel_reads(written[0].address, &byte), 0);
    ck_assert_uint_eq(byte, 0);
    loader = ram_loader_free(loader);
    image_gate_open();
    while (atomic_load(&image_gate.waiting) > 0) {
        (void)sched_yield();
    }
    ck_assert(!atomic_load(&has_failed));
    ck_assert_int_eq(device_reads(written[0].address, &byte), 0);
    ck_assert_uint_eq(byte, 0);
}
END_TEST

/* _i: how often. */
static const struct {
    unsigned times;
    bool is_fine;
} shortages[] = {{3, true}, {UINT_MAX, false}};

START_TEST(a_host_that_is_short_of_memory_gets_time)
{
    uint8_t byte = 0;
    loader_renew(shortages[_i].is_fine ? 0 : 1);
    atomic_store(&no_memory, shortages[_i].times);

    ck_assert_int_eq(begin(NULL), 0);

    ck_assert_int_eq(kernel_reads(written[LAST].address, &byte),
                     shortages[_i].is_fine ? 0 : -EFAULT);
    ck_assert_int_ne(atomic_load(&has_failed), shortages[_i].is_fine);
    if (!shortages[_i].is_fine) {
        ck_assert_str_eq(reason, "place the saved RAM: Cannot allocate memory");
    }
}
END_TEST

START_TEST(a_thread_that_may_not_read_reads_nothing)
{
    uint8_t byte = 0;
    is_unfit = true;

    ck_assert_int_eq(begin(NULL), 0);

    for (unsigned i = 0; i < 2; i++) {
        ck_assert_int_eq(readers[i](written[LAST * i].address, &byte), -EFAULT);
    }
    ck_assert_str_eq(reason, "it may not");
    ck_assert_uint_eq(done_bytes(), 0);
}
END_TEST

START_TEST(a_chunk_that_cannot_be_read_any_more_is_told)
{
    struct toucher toucher = {.reads = device_reads, .address = written[LAST].address};
    begin_held();
    image_gate_close(FROM + 4 * CHUNK, FROM + 5 * CHUNK);
    image_gate_open();
    atomic_store(&image_gate.breaks, true);

    touched(&toucher);

    ck_assert_int_eq(toucher.result, -EFAULT);
    ck_assert(atomic_load(&has_failed));
    ck_assert_ptr_nonnull(strstr(reason, strerror(EIO)));
}
END_TEST

static void *save_again(void *context)
{
    struct ram_progress progress = {0};
    struct err *err = context;
    int to = memfd_create("again", MFD_CLOEXEC);
    struct bytes_writer list;
    bytes_writer_init(&list, 1u << 16);
    err->code = ram_image_write(&memory, to, FROM, &progress, &list, err);
    if (err->code == 0) {
        ck_assert_uint_eq(list.size, section.size);
        ck_assert_mem_eq(list.data, section.data, list.size); /* its checksums, too */
    }
    bytes_writer_fini(&list);
    (void)close(to);
    return NULL;
}

/* _i: whether it is damaged. */
START_TEST(ram_that_is_not_there_is_saved_as_what_it_will_be)
{
    pthread_t thread;
    struct err err = {0};
    begin_held();
    if (_i == 1) {
        ck_assert_int_eq(pwrite(file, "x", 1, (off_t)written[LAST].in_file), 1);
    }

    ck_assert_int_eq(pthread_create(&thread, NULL, save_again, &err), 0);
    atomic_store(&is_held, false);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);

    ck_assert_int_eq(err.code, _i == 1 ? -EFAULT : 0);
    ck_assert_int_le(pages_there(), _i == 1 ? 3 : (int)ARRAY_COUNT(written));
}
END_TEST

START_TEST(nobody_waits_for_what_is_given_back)
{
    const uint64_t address = written[LAST].address;
    uint8_t byte = 1;
    begin_held();

    ck_assert_int_eq(guest_memory_release(&memory, address, PAGE), 0);
    ck_assert_int_eq(guest_memory_release(&memory, 3 * PAGE, PAGE), 0); /* of a chunk */

    atomic_store(&is_held, false);
    await_whole();
    ck_assert_int_eq(pages_there(), (int)ARRAY_COUNT(written) - 2);
    ck_assert_int_eq(device_reads(address, &byte), 0);
    ck_assert_uint_eq(byte, 0);
    ck_assert_int_eq(device_reads(CHUNK - PAGE, &byte), 0);
    ck_assert_uint_eq(byte, 2);
}
END_TEST

START_TEST(a_chunk_that_was_given_back_whole_is_not_read)
{
    uint8_t byte = 1;
    image_gate_close(FROM + 4 * CHUNK, FROM + 5 * CHUNK);
    begin_held();

    ck_assert_int_eq(guest_memory_release(&memory, FAR_AT + CHUNK, CHUNK), 0);

    atomic_store(&is_held, false);
    await_whole(); /* with the gate closed */
    ck_assert_int_eq(device_reads(written[LAST].address, &byte), 0);
    ck_assert_uint_eq(byte, 0);
}
END_TEST

/* Gives a page back at the moment when it was read and is not placed yet, or just was. */
static void *give_back(void *context)
{
    (void)context;
    (void)guest_memory_release(&memory, written[LAST].address, PAGE);
    return NULL;
}

START_TEST(what_is_given_back_while_it_is_placed_is_gone)
{
    pthread_t giver;
    uint8_t byte = 1;
    atomic_store(&no_memory, UINT_MAX);
    begin_held();
    ck_assert_int_eq(guest_memory_release(&memory, 0, 3 * CHUNK), 0);
    atomic_store(&is_held, false);
    while (atomic_load(&no_memory) == UINT_MAX) { /* it was read, and waits for memory */
        (void)sched_yield();
    }

    ck_assert_int_eq(pthread_create(&giver, NULL, give_back, NULL), 0);
    ck_assert_int_eq(pthread_join(giver, NULL), 0);
    atomic_store(&no_memory, 0);

    await_whole();
    ck_assert_int_eq(pages_there(), 0);
    ck_assert_int_eq(device_reads(written[LAST].address, &byte), 0);
    ck_assert_uint_eq(byte, 0);
}
END_TEST

/* Waits for the gate as the kernel of a vCPU does that cannot be called back. */
static void touch_hung(struct toucher *toucher)
{
    image_gate_close(FROM + CHUNK, FROM + 5 * CHUNK);
    ck_assert_int_eq(begin(NULL), 0);
    image_gate_await();
    watch_turns_give(1); /* in which something came in */
    ck_assert_int_eq(pthread_create(&toucher->thread, NULL, touch, toucher), 0);
}

/* _i: a device, or the kernel. */
START_TEST(storage_that_hangs_loses_all_that_is_missing_at_once)
{
    struct toucher toucher = {.reads = readers[_i], .address = written[LAST].address};
    uint8_t byte = 0;
    watch_turns_own();
    touch_hung(&toucher);

    watch_turns_give(28);
    ck_assert(!atomic_load(&has_failed));
    watch_turns_give(2);

    ck_assert_int_eq(pthread_join(toucher.thread, NULL), 0);
    ck_assert_int_eq(toucher.result, -EFAULT);
    ck_assert_str_eq(reason, "the storage of the saved RAM does not answer in time");
    ck_assert_int_eq(device_reads(2 * CHUNK, &byte), -EFAULT);
    ck_assert_int_eq(kernel_reads(FAR_AT, &byte), -EFAULT);
    ck_assert_int_eq(kernel_reads(3 * PAGE, &byte), 0); /* it was there before */
    ck_assert_uint_eq(byte, 1);
    ram_loader_drop(loader);
    image_gate_open();
}
END_TEST

/* _i: whether somebody is to stand still meanwhile. */
START_TEST(who_is_to_stand_still_does_not_wait_for_storage_that_is_slow)
{
    struct toucher toucher = {.reads = kernel_reads, .address = written[LAST].address};
    watch_turns_own();
    touch_hung(&toucher);
    ram_loader_hurry(loader, _i == 1);

    watch_turns_give(28);
    image_gate_let_one(); /* it answers, and hangs at another */
    image_gate_await();
    watch_turns_give(4); /* what the last but one does is done */

    ck_assert_int_eq(atomic_load(&has_failed), _i == 1);
    image_gate_open();
    ck_assert_int_eq(pthread_join(toucher.thread, NULL), 0);
    ck_assert_int_eq(toucher.result, _i == 1 ? -EFAULT : 0);
}
END_TEST

START_TEST(what_is_abandoned_keeps_nobody_waiting)
{
    struct toucher toucher = {.reads = kernel_reads, .address = written[LAST].address};
    watch_turns_own();
    touch_hung(&toucher);

    ram_loader_abandon(loader); /* the storage hangs on */

    ck_assert_int_eq(pthread_join(toucher.thread, NULL), 0);
    ck_assert_int_eq(toucher.result, -EFAULT);
    ck_assert(!atomic_load(&has_failed));
    ck_assert_uint_eq(done_bytes(), 5 * CHUNK);
    ck_assert(was_abandoned());
    ram_loader_drop(loader);
    ck_assert_int_eq(kernel_reads(written[LAST].address, &toucher.byte), 0);
    ck_assert_uint_eq(toucher.byte, 0);
    image_gate_open();
}
END_TEST

START_TEST(what_was_given_back_does_not_come_in_again)
{
    uint8_t byte = 1;
    image_gate_close(FROM + 4 * CHUNK, FROM + 5 * CHUNK);
    ck_assert_int_eq(begin(NULL), 0);
    image_gate_await(); /* the fill is not over, but what comes before is there */

    ck_assert_int_eq(guest_memory_release(&memory, CHUNK, PAGE), 0);

    for (unsigned i = 0; i < 2; i++) {
        ck_assert_int_eq(readers[i](CHUNK, &byte), 0);
        ck_assert_uint_eq(byte, 0);
    }
    image_gate_open();
    await_whole();
    ck_assert_int_eq(device_reads(CHUNK, &byte), 0);
    ck_assert_uint_eq(byte, 0);
}
END_TEST

START_TEST(what_is_dropped_keeps_nobody_waiting)
{
    uint8_t byte = 1;
    ck_assert_int_eq(begin(NULL), 0);
    ck_assert_int_eq(device_reads(written[0].address, &byte), 0);

    ram_loader_drop(loader);

    for (unsigned i = 0; i < 2; i++) {
        ck_assert_int_eq(readers[i](written[0].address, &byte), 0);
        ck_assert_uint_eq(byte, 1);
        ck_assert_int_eq(readers[i](written[LAST].address, &byte), 0);
        ck_assert(byte == LAST + 1 || byte == 0); /* it was there by then, or is not */
    }
    ram_loader_drop(loader); /* once more does no harm */
}
END_TEST

START_TEST(the_list_of_another_machine_is_refused)
{
    struct bytes_reader reader;
    struct guest_memory other;
    struct ram_loader *second = NULL;
    const struct ram_loader_events events = {.failed = failed};
    struct err err = {0};
    guest_memory_init(&other);
    ck_assert_int_eq(guest_memory_add(&other, 0, 5 * CHUNK, NULL), 0);
    ck_assert_int_eq(ram_loader_new(&other, file, FROM, &events, &second, NULL), 0);
    bytes_reader_init(&reader, section.data, section.size);

    ck_assert_int_eq(ram_loader_begin(second, &reader, &err), BERTH_EINVALID);

    ck_assert_str_eq(err.text, "the saved RAM is that of another machine");
    ram_loader_free(second);
    guest_memory_fini(&other);
    section.data[section.size - 8] = 0xff; /* a number no chunk has */
    ck_assert_int_eq(begin(&err), BERTH_ECORRUPT);
    ck_assert_str_eq(err.text, "the list of RAM is damaged");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("ram_loader");
    TCase *tests = tcase_create("all");
    struct guest_memory none;
    const struct ram_loader_events events = {.failed = failed};
    struct err err = {0};
    guest_memory_init(&none);
    if (ram_loader_new(&none, -1, 0, &events, &loader, &err) < 0) {
        (void)printf("%s\n", err.text);
        return 77;
    }
    loader = ram_loader_free(loader);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, all_of_ram_comes_in_by_itself_and_zeros_take_no_room);
    tcase_add_test(tests, what_was_looked_at_before_it_began_comes_in_all_the_same);
    tcase_add_loop_test(tests, what_is_touched_before_it_is_there_is_waited_for, 0, 2);
    tcase_add_test(tests, a_chunk_that_is_there_needs_the_loader_no_more);
    tcase_add_loop_test(tests, damage_is_told_before_anybody_goes_on, 0, 4);
    tcase_add_test(tests, a_device_does_not_wait_for_ever);
    tcase_add_test(tests, a_thread_that_hangs_is_left_to_itself);
    tcase_add_loop_test(tests, a_host_that_is_short_of_memory_gets_time, 0,
                        (int)ARRAY_COUNT(shortages));
    tcase_add_test(tests, a_thread_that_may_not_read_reads_nothing);
    tcase_add_test(tests, a_chunk_that_cannot_be_read_any_more_is_told);
    tcase_add_loop_test(tests, ram_that_is_not_there_is_saved_as_what_it_will_be, 0, 2);
    tcase_add_test(tests, nobody_waits_for_what_is_given_back);
    tcase_add_test(tests, a_chunk_that_was_given_back_whole_is_not_read);
    tcase_add_test(tests, what_is_given_back_while_it_is_placed_is_gone);
    tcase_add_loop_test(tests, storage_that_hangs_loses_all_that_is_missing_at_once, 0,
                        2);
    tcase_add_loop_test(
        tests, who_is_to_stand_still_does_not_wait_for_storage_that_is_slow, 0, 2);
    tcase_add_test(tests, what_is_abandoned_keeps_nobody_waiting);
    tcase_add_test(tests, what_was_given_back_does_not_come_in_again);
    tcase_add_test(tests, what_is_dropped_keeps_nobody_waiting);
    tcase_add_test(tests, the_list_of_another_machine_is_refused);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
