/* Goal: what is in use stays, what is oldest goes; crashes and a full disk cost only what
 * had not arrived. Method: the real store in a real folder, on a real full disk, too. */
#include "base/cleanup.h"
#include "image_store_fixture.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

/* ---- arranging ---- */

static void set_time(const char *path, time_t seconds)
{
    const struct timespec times[2] = {{.tv_sec = seconds}, {.tv_sec = seconds}};
    ck_assert_int_eq(utimensat(AT_FDCWD, path, times, 0), 0);
}

/* ---- uploads ---- */

START_TEST(a_store_closed_in_the_middle_gives_no_answer)
{
    struct err err = {0};
    struct image_writer *writer =
        image_writer_begin(store, NULL, IMAGE_SIZE_UNKNOWN, &err);
    ck_assert_int_eq(image_writer_write(writer, "whole", 5, &err), 0);
    image_writer_end(writer, take_answer, NULL);

    store_close();

    ck_assert_uint_eq(answer.count, 0);
    store_open(LIMIT); /* the file counts now, or is gone: never in between */
    ck_assert_uint_eq(leftovers(), 0);
    ck_assert_uint_eq(files_in(dir.path), has("whole") ? 1 : 0);
}
END_TEST

/* ---- packed kernels ---- */

/* What a kernel, what was in it and an upload of seven bytes take together. */
#define KERNEL_AND_SEVEN (KERNEL_MAGIC_AT + 5 + 6 + KERNEL_UNPACK_SEAL + 7)

START_TEST(what_is_in_a_kernel_stays_as_long_as_the_kernel)
{
    temp_dir_init(&programs);
    store_close();
    store_open(KERNEL_AND_SEVEN - 1);

    ck_assert_int_eq(upload(kernel_text('1'), NULL), 0);
    ck_assert(has_within(kernel_text('1')));
    ck_assert_uint_eq(leftovers(), 0);
    store_close();
    store_open(KERNEL_AND_SEVEN - 1);
    ck_assert(has_within(kernel_text('1')));

    ck_assert_int_eq(upload("seven..", NULL), 0); /* with what is within it is too much */
    ck_assert(!has(kernel_text('1')) && !has_within(kernel_text('1')));
    temp_dir_fini(&programs);
}
END_TEST

START_TEST(what_is_in_a_kernel_that_comes_in_needs_room_too)
{
    temp_dir_init(&programs);
    store_close();
    store_open(KERNEL_AND_SEVEN - 1);
    ck_assert_int_eq(upload("seven..", NULL), 0);

    ck_assert_int_eq(upload(kernel_text('4'), NULL), 0);

    ck_assert(has_within(kernel_text('4')));
    ck_assert(!has("seven.."));
    temp_dir_fini(&programs);
}
END_TEST

START_TEST(a_kernel_that_is_not_taken_leaves_nothing_of_what_is_in_it)
{
    struct digest digests[IMAGE_STORE_FILES_MAX];
    temp_dir_init(&programs);
    store_close();
    store_open((uint64_t)1 << 30);
    for (unsigned i = 0; i < IMAGE_STORE_FILES_MAX; i++) {
        char text[16];
        (void)snprintf(text, sizeof(text), "%u", i);
        digests[i] = digest_of_text(text);
        ck_assert_int_eq(upload(text, NULL), 0);
    }
    ck_assert_int_eq(image_store_keep(store, digests, IMAGE_STORE_FILES_MAX, NULL), 0);

    ck_assert_int_eq(upload(kernel_text('5'), NULL), BERTH_EFULL);

    ck_assert(!has_within(kernel_text('5')));
    temp_dir_fini(&programs);
}
END_TEST

START_TEST(what_was_in_a_kernel_that_is_gone_is_removed_at_the_start)
{
    temp_dir_init(&programs);
    store_close();
    store_open(2000);
    const char *text = kernel_text('2');
    ck_assert_int_eq(upload(text, NULL), 0);
    store_close();
    CLEANUP_FREE char *path = stored_path(text);
    ck_assert_int_eq(unlink(path), 0);

    store_open(LIMIT);

    ck_assert(!has_within(text));
    temp_dir_fini(&programs);
}
END_TEST

START_TEST(a_kernel_that_cannot_be_unpacked_is_kept_as_it_came)
{
    temp_dir_init(&programs);
    store_close();
    store_open(2000);
    const char *text = kernel_text('3');
    image_store_use_unpacker(store, "/bin/false");

    ck_assert_int_eq(upload(text, NULL), 0);

    ck_assert(has(text) && !has_within(text));
    ck_assert_uint_eq(leftovers(), 0);
    temp_dir_fini(&programs);
}
END_TEST

/* The programs that unpack say that they have begun, and wait until gate_open lets them
 * go on. */
static int gate = -1;
static int begun = -1;

static void start_slow_kernels(void)
{
    char script[512];
    temp_dir_init(&programs);
    store_close();
    store_open((uint64_t)1 << 30);
    (void)kernel_text('0'); /* makes the program that is another one now */
    CLEANUP_FREE char *path = temp_dir_path(&programs, "gate");
    CLEANUP_FREE char *told = temp_dir_path(&programs, "begun");
    ck_assert_int_eq(mkfifo(path, 0600), 0);
    ck_assert_int_eq(mkfifo(told, 0600), 0);
    begun = open(told, O_RDWR | O_NONBLOCK | O_CLOEXEC);
    ck_assert_int_ge(begun, 0);
    (void)snprintf(script, sizeof(script),
                   "#!/bin/sh\nprintf b > %s\nread -r word < %s\nprintf within\n", told,
                   path);
    temp_dir_write(&programs, "unpack", script);
}

static void send_kernels(char from, unsigned count)
{
    struct err err = {0};
    for (unsigned i = 0; i < count; i++) {
        const char *text = kernel_text_only((char)(from + (int)i));
        struct image_writer *writer = image_writer_begin(store, NULL, strlen(text), &err);
        ck_assert_msg(writer != NULL, "%s", err.text);
        ck_assert_int_eq(image_writer_write(writer, text, strlen(text), &err), 0);
        image_writer_end(writer, take_answer, NULL);
    }
}

/* For so many. */
static void gate_open(unsigned count)
{
    CLEANUP_FREE char *path = temp_dir_path(&programs, "gate");
    gate = open(path, O_RDWR | O_CLOEXEC);
    ck_assert_int_ge(gate, 0);
    for (unsigned i = 0; i < count; i++) {
        ck_assert_int_eq(write(gate, "\n", 1), 1);
    }
}

static void stop_slow_kernels(void)
{
    (void)close(gate);
    (void)close(begun);
    temp_dir_fini(&programs);
}

static unsigned count_begun(void)
{
    char bytes[64];
    const ssize_t got = read(begun, bytes, sizeof(bytes));
    return got > 0 ? (unsigned)got : 0;
}

/* So many are unpacked at a time. */
static void wait_for_two(void)
{
    unsigned count = 0;
    while (count < 2) {
        struct pollfd wait = {.fd = begun, .events = POLLIN};
        (void)uv_run(&loop, UV_RUN_NOWAIT);
        (void)poll(&wait, 1, 10);
        count += count_begun();
    }
    ck_assert_uint_eq(count, 2);
}

START_TEST(kernels_that_are_slow_hold_up_nothing_else)
{
    start_slow_kernels();
    send_kernels('1', 3);
    wait_for_two();

    ck_assert_int_eq(upload("a disk", NULL), 0);

    ck_assert_uint_eq(answer.count, 1); /* the kernels' are still to come */
    ck_assert(has("a disk"));
    gate_open(3);
    while (answer.count < 4) {
        wait_for_answer();
        ck_assert_int_eq(answer.code, 0);
    }
    ck_assert(has_within(kernel_text_only('1')) && has_within(kernel_text_only('3')));
    stop_slow_kernels();
}
END_TEST

static unsigned count_within(void)
{
    CLEANUP_FREE char *path = temp_dir_path(&dir, "unpacked");
    return files_in(path);
}

START_TEST(a_kernel_that_finds_too_many_waiting_is_kept_as_it_came)
{
    const unsigned taken = 8; /* two are being unpacked, six may wait */
    start_slow_kernels();
    send_kernels('1', 2);
    wait_for_two();

    send_kernels('3', taken - 1);
    wait_for_answer();

    ck_assert_uint_eq(answer.count, 1);
    ck_assert_int_eq(answer.code, 0);
    gate_open(taken);
    while (answer.count < taken + 1) {
        wait_for_answer();
        ck_assert_int_eq(answer.code, 0);
    }
    ck_assert_uint_eq(count_within(), taken);
    ck_assert_uint_eq(count_begun(), taken - 2); /* the other was not even tried */
    ck_assert_uint_eq(files_in(dir.path), taken + 1);
    stop_slow_kernels();
}
END_TEST

/* ---- eviction ---- */

#define TEN(digit) digit "123456789" /* ten bytes */

START_TEST(the_least_recently_used_goes_when_the_limit_is_passed)
{
    store_close();
    store_open(30);
    ck_assert_int_eq(upload(TEN("a"), NULL), 0);
    ck_assert_int_eq(upload(TEN("b"), NULL), 0);
    ck_assert_int_eq(upload(TEN("c"), NULL), 0);
    use(TEN("a"));

    ck_assert_int_eq(upload(TEN("d"), NULL), 0);

    ck_assert(has(TEN("a")) && !has(TEN("b")) && has(TEN("c")) && has(TEN("d")));
    ck_assert_uint_eq(files_in(dir.path), 3);
}
END_TEST

START_TEST(what_is_kept_stays_over_the_limit_until_it_is_not_kept)
{
    store_close();
    store_open(15);
    ck_assert_int_eq(upload(TEN("a"), NULL), 0);
    keep(TEN("a"));

    ck_assert_int_eq(upload(TEN("b"), NULL), 0);
    ck_assert(has(TEN("a")) && has(TEN("b")));

    keep(TEN("c"));
    ck_assert_int_eq(upload(TEN("c"), NULL), 0);
    ck_assert(!has(TEN("a")) && !has(TEN("b")) && has(TEN("c")));
}
END_TEST

START_TEST(of_many_kept_the_last_one_counts_too)
{
    struct digest digests[5000];
    for (unsigned i = 0; i < 5000; i++) {
        digest_of(&i, sizeof(i), &digests[i]);
    }
    digests[4999] = digest_of_text(TEN("a"));
    store_close();
    store_open(15);
    ck_assert_int_eq(upload(TEN("a"), NULL), 0);

    ck_assert_int_eq(image_store_keep(store, digests, 5000, NULL), 0);
    ck_assert_int_eq(upload(TEN("b"), NULL), 0);

    ck_assert(has(TEN("a")));
}
END_TEST

START_TEST(a_restart_remembers_what_was_used_last)
{
    static const char *const texts[] = {TEN("a"), TEN("b"), TEN("c")};
    /* Of the orders in which a folder may list three files, most are wrong. */
    for (unsigned i = 0; i < 3; i++) {
        ck_assert_int_eq(upload(texts[(i + (unsigned)_i) % 3], NULL), 0);
    }
    for (unsigned i = 0; i < 3; i++) {
        char *path = stored_path(texts[(i + (unsigned)_i) % 3]);
        set_time(path, (time_t)(1000 + i));
        free(path);
    }
    const char *oldest = texts[_i % 3];
    const char *second = texts[(_i + 1) % 3];
    const char *newest = texts[(_i + 2) % 3];
    store_close();
    store_open(30);
    use(oldest);
    store_close();
    store_open(30);

    ck_assert_int_eq(upload(TEN("d"), NULL), 0);
    ck_assert(has(oldest) && !has(second) && has(newest));

    ck_assert_int_eq(upload(TEN("e"), NULL), 0);
    ck_assert(has(oldest) && !has(newest));
}
END_TEST

START_TEST(more_files_than_can_be_listed_leave_the_newest)
{
    struct image_file files[IMAGE_STORE_FILES_MAX + 1];
    store_close();
    for (unsigned i = 0; i < IMAGE_STORE_FILES_MAX + 2; i++) {
        char text[16];
        (void)snprintf(text, sizeof(text), "%u", i);
        char *path = stored_path(text);
        int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0400);
        ck_assert_int_ge(fd, 0);
        ck_assert_int_eq(close(fd), 0);
        set_time(path, (time_t)(100000 - i)); /* the last ones are the oldest */
        free(path);
    }

    store_open(LIMIT);

    ck_assert_uint_eq(image_store_list(store, files, IMAGE_STORE_FILES_MAX + 1),
                      IMAGE_STORE_FILES_MAX);
    ck_assert_uint_eq(files_in(dir.path), IMAGE_STORE_FILES_MAX); /* none is unlisted */
    ck_assert(has("0") && has("255") && !has("256") && !has("257"));
}
END_TEST

START_TEST(a_store_full_of_what_is_kept_takes_nothing_more)
{
    struct digest digests[IMAGE_STORE_FILES_MAX];
    store_close();
    store_open((uint64_t)1 << 30);
    for (unsigned i = 0; i < IMAGE_STORE_FILES_MAX; i++) {
        char text[16];
        (void)snprintf(text, sizeof(text), "%u", i);
        digests[i] = digest_of_text(text);
        ck_assert_int_eq(upload(text, NULL), 0);
    }
    ck_assert_int_eq(image_store_keep(store, digests, IMAGE_STORE_FILES_MAX, NULL), 0);

    ck_assert_int_eq(upload("one more", NULL), BERTH_EFULL);

    ck_assert_uint_eq(files_in(dir.path), IMAGE_STORE_FILES_MAX);
    ck_assert(has("0") && has("255"));
}
END_TEST

/* ---- after a crash ---- */

START_TEST(what_a_crash_left_is_removed_and_parts_and_strangers_stay)
{
    struct err err = {0};
    struct image_file file;
    struct image_part *part = part_open("0123456789", 10, 0);
    ck_assert_int_eq(image_part_write(part, "01234", 5, &err), 0);
    image_part_close(part);
    store_close();
    temp_dir_write(&dir, "tmp/00112233aabbccdd", "half an upload");
    temp_dir_write(&dir, "README", "put here by hand");

    store_open(LIMIT);

    ck_assert_uint_eq(leftovers(), 1); /* the part */
    ck_assert_uint_eq(image_store_list(store, &file, 1), 0);
    ck_assert_uint_eq(files_in(dir.path), 1);
    image_part_close(part_open("0123456789", 10, 5));
}
END_TEST

/* ---- a full disk ---- */

START_TEST(images_stop_before_the_disk_is_full)
{
    struct err err = {0};
    struct statvfs disk;
    char block[4096] = {0};
    int r = 0;
    store_close();
    store_open_reserved((uint64_t)1 << 30, (uint64_t)100 * 1024);
    struct image_writer *writer =
        image_writer_begin(store, NULL, IMAGE_SIZE_UNKNOWN, &err);

    while (r == 0) {
        r = image_writer_write(writer, block, sizeof(block), &err);
    }

    ck_assert_int_eq(r, BERTH_EDISKFULL);
    ck_assert_ptr_nonnull(strstr(err.text, "100KiB that are kept free"));
    ck_assert_int_eq(statvfs(dir.path, &disk), 0);
    ck_assert_uint_ge((uint64_t)disk.f_bavail * disk.f_frsize, (uint64_t)100 * 1024);
    image_writer_abort(writer);
}
END_TEST

START_TEST(what_nobody_keeps_makes_room_on_a_full_disk_but_not_in_vain)
{
    struct err err = {0};
    char *old = many((size_t)150 * 1024);
    char *new = many((size_t)160 * 1024);
    ck_assert_int_eq(upload(old, NULL), 0);

    ck_assert_ptr_null(image_writer_begin(store, NULL, DISK_SIZE, &err));
    ck_assert_int_eq(err.code, BERTH_EDISKFULL);
    ck_assert(has(old)); /* it would not have been enough */
    keep(old);
    ck_assert_ptr_null(image_writer_begin(store, NULL, (uint64_t)160 * 1024, &err));
    ck_assert(has(old));
    ck_assert_int_eq(image_store_keep(store, NULL, 0, &err), 0);

    ck_assert_int_eq(upload(new, NULL), 0);
    ck_assert(!has(old));
    free(old);
    free(new);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("image_store");
    TCase *tests = tcase_create("image_store");
    tcase_add_checked_fixture(tests, start, stop);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, a_store_closed_in_the_middle_gives_no_answer);
    tcase_add_test(tests, what_is_in_a_kernel_stays_as_long_as_the_kernel);
    tcase_add_test(tests, what_was_in_a_kernel_that_is_gone_is_removed_at_the_start);
    tcase_add_test(tests, what_is_in_a_kernel_that_comes_in_needs_room_too);
    tcase_add_test(tests, a_kernel_that_is_not_taken_leaves_nothing_of_what_is_in_it);
    tcase_add_test(tests, kernels_that_are_slow_hold_up_nothing_else);
    tcase_add_test(tests, a_kernel_that_finds_too_many_waiting_is_kept_as_it_came);
    tcase_add_test(tests, a_kernel_that_cannot_be_unpacked_is_kept_as_it_came);
    tcase_add_test(tests, the_least_recently_used_goes_when_the_limit_is_passed);
    tcase_add_test(tests, what_is_kept_stays_over_the_limit_until_it_is_not_kept);
    tcase_add_test(tests, of_many_kept_the_last_one_counts_too);
    tcase_add_loop_test(tests, a_restart_remembers_what_was_used_last, 0, 3);
    tcase_add_test(tests, more_files_than_can_be_listed_leave_the_newest);
    tcase_add_test(tests, a_store_full_of_what_is_kept_takes_nothing_more);
    tcase_add_test(tests, what_a_crash_left_is_removed_and_parts_and_strangers_stay);
    suite_add_tcase(suite, tests);
    if (geteuid() == 0) {
        TCase *full = tcase_create("full disk");
        tcase_add_checked_fixture(full, start_on_small_disk, stop_on_small_disk);
        tcase_set_timeout(full, 60);
        tcase_add_test(full, images_stop_before_the_disk_is_full);
        tcase_add_test(full, what_nobody_keeps_makes_room_on_a_full_disk_but_not_in_vain);
        suite_add_tcase(suite, full);
    }
    return test_main_run(suite);
}
