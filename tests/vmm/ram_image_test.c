/* Goal: RAM comes back byte by byte from a file that holds only what is not zeros, and a
 * file whose bytes are not those that were written is refused. Method: two regions with
 * pages written here and there, files in memory, each kind of damage by hand. */
#include "base/cleanup.h"
#include "support/test_main.h"
#include "vmm/ram_image.h"

#include <check.h>

#include <stdlib.h>
#include <string.h>
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
    {3 * PAGE + PAGE, FROM + 4 * PAGE},
    {CHUNK - PAGE, FROM + CHUNK - PAGE},
    {CHUNK, FROM + CHUNK},
    {FAR_AT + CHUNK + 7 * PAGE, FROM + 4 * CHUNK + 7 * PAGE},
};

static struct guest_memory memory;
static struct bytes_writer section;
static struct ram_progress progress;
static int file;

static unsigned looks; /* for the end of what a file holds */

/* In place of the C library's. */
off_t lseek(int fd, off_t offset, int whence)
{
    looks += whence == SEEK_HOLE;
    return syscall(SYS_lseek, fd, offset, whence);
}

static void memory_make(struct guest_memory *ret_memory)
{
    guest_memory_init(ret_memory);
    ck_assert_int_eq(guest_memory_add(ret_memory, 0, 3 * CHUNK, NULL), 0);
    ck_assert_int_eq(guest_memory_add(ret_memory, FAR_AT, 2 * CHUNK, NULL), 0);
}

static void setup(void)
{
    memory_make(&memory);
    for (unsigned i = 0; i < ARRAY_COUNT(written); i++) {
        uint8_t page[PAGE];
        memset(page, (int)i + 1, sizeof(page));
        ck_assert_int_eq(
            guest_memory_write(&memory, written[i].address, page, sizeof(page)), 0);
    }
    memset(&progress, 0, sizeof(progress));
    bytes_writer_init(&section, 1u << 16);
    file = memfd_create("image", MFD_CLOEXEC);
    ck_assert_int_eq(ram_image_write(&memory, file, FROM, &progress, &section, NULL), 0);
    ck_assert_int_eq(ftruncate(file, (off_t)(FROM + 5 * CHUNK)), 0);
}

static void teardown(void)
{
    guest_memory_fini(&memory);
    bytes_writer_fini(&section);
    (void)close(file);
}

static int read_into(struct guest_memory *again, struct err *err)
{
    struct bytes_reader reader;
    bytes_reader_init(&reader, section.data, section.size);
    memory_make(again);
    int r = ram_image_read(again, file, FROM, NULL, &reader, err);
    return r < 0 ? r : bytes_reader_end(&reader);
}

START_TEST(ram_comes_back_and_zeros_take_no_room)
{
    struct guest_memory again;
    struct stat info;
    ck_assert_uint_eq(atomic_load(&progress.seen_bytes), 5 * CHUNK);
    ck_assert_uint_eq(atomic_load(&progress.written_bytes), 5 * PAGE);
    ck_assert_int_eq(fstat(file, &info), 0);
    ck_assert_int_eq(info.st_blocks * 512, (int)(5 * PAGE));

    ck_assert_int_eq(read_into(&again, NULL), 0);

    for (unsigned i = 0; i < memory.region_count; i++) {
        ck_assert_mem_eq(again.regions[i].host, memory.regions[i].host,
                         memory.regions[i].size_bytes);
    }
    guest_memory_fini(&again);
}
END_TEST

static bool is_wanted(void *context)
{
    return ++*(unsigned *)context == 3;
}

START_TEST(who_does_not_want_the_rest_any_more_waits_for_one_chunk)
{
    struct guest_memory again;
    struct bytes_reader reader;
    struct err err = {0};
    unsigned asked = 0;
    const struct ram_stop stop = {is_wanted, &asked};
    bytes_reader_init(&reader, section.data, section.size);
    memory_make(&again);

    ck_assert_int_eq(ram_image_read(&again, file, FROM, &stop, &reader, &err),
                     BERTH_ECLOSED);

    ck_assert_uint_eq(asked, 3);
    guest_memory_fini(&again);
}
END_TEST

START_TEST(the_end_of_what_ram_holds_is_looked_for_once)
{
    static uint8_t full[3 * CHUNK];
    struct bytes_writer again;
    memset(full, 1, sizeof(full));
    ck_assert_int_eq(guest_memory_write(&memory, 0, full, sizeof(full)), 0);
    bytes_writer_init(&again, 1u << 16);
    looks = 0;

    ck_assert_int_eq(ram_image_write(&memory, file, FROM, &progress, &again, NULL), 0);

    ck_assert_uint_eq(looks, 2); /* and one page far away */
    bytes_writer_fini(&again);
}
END_TEST

START_TEST(ram_that_was_read_holds_no_more_pages_than_it_has)
{
    struct guest_memory again;
    struct stat info;

    ck_assert_int_eq(read_into(&again, NULL), 0);

    ck_assert_int_eq(fstat(again.regions[0].fd, &info), 0);
    ck_assert_int_eq(info.st_blocks * 512, (int)(4 * PAGE));
    ck_assert_int_eq(fstat(again.regions[1].fd, &info), 0);
    ck_assert_int_eq(info.st_blocks * 512, (int)PAGE);
    guest_memory_fini(&again);
}
END_TEST

/* One byte each: in what was written, in a page of zeros of a chunk that holds something,
 * and in a chunk that holds nothing. */
static const uint64_t flips[] = {FROM + 3 * PAGE, FROM + CHUNK + PAGE - 1,
                                 FROM + 9 * PAGE, FROM + 2 * CHUNK + 5};

START_TEST(one_bit_is_found_wherever_it_is)
{
    struct guest_memory again;
    struct err err = {0};
    for (unsigned bit = 0; bit < 8; bit++) {
        uint8_t byte;
        ck_assert_int_eq(pread(file, &byte, 1, (off_t)flips[_i]), 1);
        byte = (uint8_t)(byte ^ 1u << bit);
        ck_assert_int_eq(pwrite(file, &byte, 1, (off_t)flips[_i]), 1);

        ck_assert_int_eq(read_into(&again, &err), BERTH_ECORRUPT);

        ck_assert_ptr_nonnull(strstr(err.text, "damaged within 2 MiB from 0x"));
        guest_memory_fini(&again);
        byte = (uint8_t)(byte ^ 1u << bit);
        ck_assert_int_eq(pwrite(file, &byte, 1, (off_t)flips[_i]), 1);
    }
}
END_TEST

START_TEST(a_page_in_another_place_or_gone_is_found)
{
    struct guest_memory again;
    uint8_t page[PAGE];
    ck_assert_int_eq(pread(file, page, sizeof(page), (off_t)(FROM + CHUNK)), (int)PAGE);
    ck_assert_int_eq(pwrite(file, page, sizeof(page), (off_t)(FROM + CHUNK + 6 * PAGE)),
                     (int)PAGE);
    memset(page, 0, sizeof(page));
    ck_assert_int_eq(pwrite(file, page, sizeof(page), (off_t)(FROM + CHUNK)), (int)PAGE);

    ck_assert_int_eq(read_into(&again, NULL), BERTH_ECORRUPT);
    guest_memory_fini(&again);
    ck_assert_int_eq(pwrite(file, page, sizeof(page), (off_t)(FROM + CHUNK + 6 * PAGE)),
                     (int)PAGE);
    ck_assert_int_eq(read_into(&again, NULL), BERTH_ECORRUPT);
    guest_memory_fini(&again);
}
END_TEST

START_TEST(a_file_that_ends_early_is_found)
{
    struct guest_memory again;
    struct err err = {0};
    ck_assert_int_eq(ftruncate(file, (off_t)(FROM + 4 * CHUNK + 7 * PAGE + 100)), 0);

    ck_assert_int_eq(read_into(&again, &err), BERTH_ECORRUPT);

    ck_assert_ptr_nonnull(strstr(err.text, "cut short"));
    guest_memory_fini(&again);
}
END_TEST

START_TEST(a_section_that_is_cut_or_of_another_machine_is_refused)
{
    struct guest_memory again;
    struct bytes_reader reader;
    memory_make(&again);
    for (size_t size = 0; size < section.size; size++) {
        bytes_reader_init(&reader, section.data, size);
        ck_assert_int_eq(ram_image_fits(&again, &reader, NULL), BERTH_ECORRUPT);
        bytes_reader_init(&reader, section.data, size);
        ck_assert_int_eq(ram_image_read(&again, file, FROM, NULL, &reader, NULL),
                         BERTH_ECORRUPT);
    }
    bytes_reader_init(&reader, section.data, section.size);
    ck_assert_int_eq(ram_image_fits(&again, &reader, NULL), 0);
    ck_assert_int_eq(bytes_reader_end(&reader), 0);
    guest_memory_fini(&again);

    guest_memory_init(&again);
    ck_assert_int_eq(guest_memory_add(&again, 0, 5 * CHUNK, NULL), 0);
    bytes_reader_init(&reader, section.data, section.size);
    ck_assert_int_eq(ram_image_fits(&again, &reader, NULL), BERTH_EINVALID);
    guest_memory_fini(&again);
}
END_TEST

START_TEST(a_clone_is_written_with_what_it_has_changed)
{
    struct guest_memory clone;
    struct guest_memory again;
    guest_memory_init(&clone);
    ck_assert_int_eq(guest_memory_add_file(&clone, 0, 3 * CHUNK, dup(file), FROM,
                                           GUEST_MEMORY_PRIVATE, NULL),
                     0);
    ck_assert_int_eq(guest_memory_add_file(&clone, FAR_AT, 2 * CHUNK, dup(file),
                                           FROM + 3 * CHUNK, GUEST_MEMORY_PRIVATE, NULL),
                     0);
    ck_assert_int_eq(guest_memory_write(&clone, 2 * CHUNK + 8, "changed", 7), 0);
    bytes_writer_fini(&section);
    (void)close(file);
    file = memfd_create("second", MFD_CLOEXEC);

    ck_assert_int_eq(ram_image_write(&clone, file, FROM, &progress, &section, NULL), 0);
    ck_assert_int_eq(ftruncate(file, (off_t)(FROM + 5 * CHUNK)), 0);

    ck_assert_int_eq(read_into(&again, NULL), 0);
    for (unsigned i = 0; i < clone.region_count; i++) {
        ck_assert_mem_eq(again.regions[i].host, clone.regions[i].host,
                         clone.regions[i].size_bytes);
    }
    guest_memory_fini(&again);
    guest_memory_fini(&clone);
}
END_TEST

START_TEST(it_stops_when_it_is_told_to)
{
    struct err err = {0};
    atomic_store(&progress.wants_stop, true);

    ck_assert_int_eq(ram_image_write(&memory, file, FROM, &progress, &section, &err),
                     BERTH_ECLOSED);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("ram_image");
    TCase *tests = tcase_create("ram_image");
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, ram_comes_back_and_zeros_take_no_room);
    tcase_add_test(tests, who_does_not_want_the_rest_any_more_waits_for_one_chunk);
    tcase_add_test(tests, the_end_of_what_ram_holds_is_looked_for_once);
    tcase_add_test(tests, ram_that_was_read_holds_no_more_pages_than_it_has);
    tcase_add_loop_test(tests, one_bit_is_found_wherever_it_is, 0,
                        (int)ARRAY_COUNT(flips));
    tcase_add_test(tests, a_page_in_another_place_or_gone_is_found);
    tcase_add_test(tests, a_file_that_ends_early_is_found);
    tcase_add_test(tests, a_section_that_is_cut_or_of_another_machine_is_refused);
    tcase_add_test(tests, a_clone_is_written_with_what_it_has_changed);
    tcase_add_test(tests, it_stops_when_it_is_told_to);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
