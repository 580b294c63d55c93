/* Goal: nobody gets a file that has been damaged while the store was closed, and one that
 * is whole is waited for once. Method: the real store in a real folder, closed, its files
 * changed, opened again. */
#include "agent/checked_list.h"
#include "image_store_fixture.h"
#include "support/open_gate.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- arranging ---- */

static bool is_given(const char *text)
{
    char path[IMAGE_PATH_SIZE];
    struct digest digest = digest_of_text(text);
    return image_store_path(store, &digest, path);
}

static bool holds_whole(const char *text)
{
    uint64_t size_bytes = 0;
    struct digest digest = digest_of_text(text);
    return image_store_holds_whole(store, &digest, &size_bytes) &&
           size_bytes == strlen(text);
}

static bool is_unchecked(const char *text)
{
    struct image_file files[IMAGE_STORE_FILES_MAX];
    struct digest digest = digest_of_text(text);
    const unsigned count = image_store_list(store, files, IMAGE_STORE_FILES_MAX);
    for (unsigned i = 0; i < count; i++) {
        if (digest_equal(&files[i].digest, &digest)) {
            return files[i].unchecked;
        }
    }
    return false;
}

/* Until it is known what the file is. */
static void wait_for(const char *text)
{
    while (is_unchecked(text)) {
        ck_assert_msg(uv_run(&loop, UV_RUN_ONCE) != 0, "nothing is under way");
    }
}

/* Shows in what the kernel notes of the file, too, however coarse its clock is. */
static void flip_at(const char *path, off_t at)
{
    const struct file_identity before = file_identity_at(path);
    struct file_identity now = before;
    char byte = 0;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(pread(fd, &byte, 1, at), 1);
    byte ^= 1;
    while (file_identity_equal(&before, &now)) {
        ck_assert_int_eq(pwrite(fd, &byte, 1, at), 1);
        now = file_identity_at(path);
    }
    ck_assert_int_eq(close(fd), 0);
}

/* What may happen to a file. */
static void flip(const char *path)
{
    flip_at(path, 2);
}

static void cut(const char *path)
{
    ck_assert_int_eq(truncate(path, 3), 0);
}

static void empty(const char *path)
{
    ck_assert_int_eq(truncate(path, 0), 0);
}

static void lengthen(const char *path)
{
    ck_assert_int_eq(truncate(path, 100), 0);
}

static void remove_it(const char *path)
{
    ck_assert_int_eq(unlink(path), 0);
}

static void (*const harms[])(const char *path) = {flip, cut, empty, lengthen, remove_it};

static void reopen(void)
{
    store_close();
    forget_checked();
    store_open(LIMIT);
}

static void reopen_harmed(const char *text, void (*harm)(const char *path))
{
    CLEANUP_FREE char *path = stored_path(text);
    store_close();
    ck_assert_int_eq(chmod(path, 0600), 0);
    harm(path);
    store_open(LIMIT);
}

static void set_used(const char *text, time_t seconds)
{
    const struct timespec times[2] = {{.tv_sec = seconds}, {.tv_sec = seconds}};
    CLEANUP_FREE char *path = stored_path(text);
    ck_assert_int_eq(utimensat(AT_FDCWD, path, times, 0), 0);
}

/* And with another file that is checked before: until the loop turns, nobody has looked
 * at this one. */
static void reopen_behind_another(const char *text)
{
    ck_assert_int_eq(upload(text, NULL), 0);
    ck_assert_int_eq(upload("another", NULL), 0);
    set_used(text, 1000);
    set_used("another", 2000);
    reopen();
}

static char *damaged_path(const char *text)
{
    CLEANUP_FREE char *path = stored_path(text);
    char *damaged = NULL;
    ck_assert_int_gt(asprintf(&damaged, "%s.damaged", path), 0);
    return damaged;
}

static bool is_damaged_there(const char *text)
{
    CLEANUP_FREE char *path = damaged_path(text);
    return access(path, F_OK) == 0;
}

/* ---- what is whole ---- */

START_TEST(what_is_whole_is_given_once_it_was_checked)
{
    ck_assert_int_eq(upload("kernel", NULL), 0);
    ck_assert(!is_unchecked("kernel") && is_given("kernel")); /* it was, on its way in */
    reopen();
    ck_assert(has("kernel") && is_unchecked("kernel"));
    ck_assert(!is_given("kernel") && !holds_whole("kernel"));

    wait_for("kernel");

    ck_assert(is_given("kernel") && holds_whole("kernel"));
    ck_assert_uint_eq(changes, 1);
}
END_TEST

/* Who damages it later is not seen: what was checked is not read again. */
START_TEST(a_file_is_checked_once)
{
    ck_assert_int_eq(upload("kernel", NULL), 0);
    reopen();
    wait_for("kernel");
    CLEANUP_FREE char *path = stored_path("kernel");
    ck_assert_int_eq(chmod(path, 0600), 0);
    flip(path);

    ck_assert(is_given("kernel"));
    (void)uv_run(&loop, UV_RUN_NOWAIT);

    ck_assert(is_given("kernel") && !is_unchecked("kernel"));
    ck_assert_uint_eq(changes, 1);
}
END_TEST

/* ---- what is not ---- */

START_TEST(what_is_damaged_is_given_to_nobody_and_dropped)
{
    CLEANUP_FREE char *path = stored_path("kernel");
    reopen_behind_another("kernel");
    ck_assert_int_eq(chmod(path, 0600), 0);
    harms[_i](path);

    while (has("kernel")) {
        ck_assert(!is_given("kernel"));
        ck_assert_msg(uv_run(&loop, UV_RUN_ONCE) != 0, "nothing is under way");
    }
    wait_for("another");

    ck_assert(is_given("another"));
    ck_assert_uint_eq(changes, 2);
    while (is_damaged_there("kernel")) { /* a thread removes it */
        ck_assert(uv_run(&loop, UV_RUN_ONCE) != 0);
    }
    ck_assert_uint_eq(files_in(dir.path), 1);
    ck_assert_uint_eq(leftovers(), 0);
    ck_assert_int_eq(upload("kernel", NULL), 0);
    ck_assert(is_given("kernel"));
}
END_TEST

/* The disks of VMs may lie on it: all of it but one byte is better than nothing. */
START_TEST(what_is_kept_stays_beside_until_a_whole_one_comes)
{
    ck_assert_int_eq(upload("a disk", NULL), 0);
    reopen_harmed("a disk", flip);
    keep("a disk");
    while (has("a disk")) {
        ck_assert_msg(uv_run(&loop, UV_RUN_ONCE) != 0, "nothing is under way");
    }
    ck_assert(is_damaged_there("a disk"));
    reopen(); /* it is looked at once more */
    keep("a disk");
    while (has("a disk")) {
        ck_assert(!is_given("a disk"));
        ck_assert_msg(uv_run(&loop, UV_RUN_ONCE) != 0, "nothing is under way");
    }
    ck_assert(is_damaged_there("a disk"));

    ck_assert_int_eq(upload("a disk", NULL), 0);

    ck_assert(is_given("a disk") && !is_damaged_there("a disk"));
}
END_TEST

/* A disk that gave nothing back for a while, say. */
START_TEST(what_was_put_aside_and_is_whole_is_there_again_after_a_restart)
{
    CLEANUP_FREE char *path = stored_path("a disk");
    CLEANUP_FREE char *damaged = damaged_path("a disk");
    ck_assert_int_eq(upload("a disk", NULL), 0);
    store_close();
    ck_assert_int_eq(rename(path, damaged), 0);
    store_open(LIMIT);

    wait_for("a disk");

    ck_assert(is_given("a disk") && !is_damaged_there("a disk"));
}
END_TEST

/* While the damaged one is being looked at, or before, or after. */
START_TEST(a_whole_one_that_comes_meanwhile_stays)
{
    ck_assert_int_eq(upload("kernel", NULL), 0);
    reopen_harmed("kernel", flip);

    ck_assert_int_eq(upload("kernel", NULL), 0);
    store_close(); /* waits for all that is under way */
    store_open(LIMIT);
    wait_for("kernel");

    ck_assert(is_given("kernel"));
}
END_TEST

/* A thread has given it the name, and the loop does not know yet. The damaged one is a
 * large one, so that it is still being read. */
START_TEST(a_whole_one_that_has_the_name_by_now_is_not_taken_for_the_damaged_one)
{
    CLEANUP_FREE char *path = stored_path("kernel");
    CLEANUP_FREE char *whole = NULL;
    ck_assert_int_gt(asprintf(&whole, "%s.whole", path), 0);
    ck_assert_int_eq(upload("kernel", NULL), 0);
    store_close();
    ck_assert_int_eq(rename(path, whole), 0);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    ck_assert_int_eq(ftruncate(fd, 256 << 20), 0);
    ck_assert_int_eq(close(fd), 0);
    store_open(LIMIT);
    poll(NULL, 0, 20); /* it begins to read */
    ck_assert_int_eq(rename(whole, path), 0);

    wait_for("kernel");

    ck_assert(has("kernel") && is_given("kernel"));
    ck_assert(!is_damaged_there("kernel"));
}
END_TEST

/* ---- after a restart in the same boot ---- */

static void reopen_in_boot(void)
{
    store_close();
    store_open(LIMIT);
}

START_TEST(what_was_checked_in_this_boot_is_given_at_once)
{
    ck_assert_int_eq(upload("kernel", NULL), 0);
    reopen_in_boot();
    ck_assert(is_given("kernel")); /* and marked as used, which changes its times */
    reopen_in_boot();
    ck_assert(is_given("kernel"));
    reopen();
    ck_assert(!is_given("kernel"));
    wait_for("kernel");
    reopen_in_boot();

    ck_assert(is_given("kernel"));
}
END_TEST

START_TEST(what_was_changed_since_is_not)
{
    ck_assert_int_eq(upload("kernel", NULL), 0);
    ck_assert_int_eq(upload("another", NULL), 0);
    reopen_harmed("kernel", harms[_i]);

    ck_assert(!is_given("kernel"));
    ck_assert(is_given("another"));
}
END_TEST

/* Before it is marked as used, that is: what marks it does not vouch for it. */
START_TEST(what_was_changed_and_used_since_is_not)
{
    ck_assert_int_eq(upload("kernel", NULL), 0);
    reopen_in_boot();
    CLEANUP_FREE char *path = stored_path("kernel");
    ck_assert_int_eq(chmod(path, 0600), 0);
    flip(path);
    ck_assert(is_given("kernel")); /* that is not seen before the next start */

    reopen_in_boot();

    ck_assert(!is_given("kernel"));
}
END_TEST

START_TEST(without_a_whole_list_all_is_checked)
{
    ck_assert_int_eq(upload("kernel", NULL), 0);
    store_close();
    CLEANUP_FREE char *list = temp_dir_path(&dir, CHECKED_LIST_NAME);
    flip_at(list, 100);
    store_open(LIMIT);

    ck_assert(!is_given("kernel"));
    use("kernel");
}
END_TEST

/* ---- in which order ---- */

static const char *const numbers[] = {"one", "two", "three", "four"};
static unsigned checked_order[ARRAY_COUNT(numbers)];
static unsigned checked_count;

static void note_checked(void *context)
{
    (void)context;
    for (unsigned i = 0; i < ARRAY_COUNT(numbers); i++) {
        bool noted = false;
        for (unsigned k = 0; k < checked_count; k++) {
            noted = noted || checked_order[k] == i;
        }
        if (!noted && !is_unchecked(numbers[i])) {
            checked_order[checked_count++] = i;
        }
    }
}

/* "four" was used last. */
static void open_numbers(void)
{
    for (unsigned i = 0; i < ARRAY_COUNT(numbers); i++) {
        ck_assert_int_eq(upload(numbers[i], NULL), 0);
        set_used(numbers[i], 1000 + (time_t)i);
    }
    reopen();
    checked_count = 0;
    image_store_on_change(store, note_checked, NULL);
}

static void wait_for_numbers(void)
{
    while (checked_count < ARRAY_COUNT(numbers)) {
        ck_assert_msg(uv_run(&loop, UV_RUN_ONCE) != 0, "nothing is under way");
    }
}

START_TEST(what_was_used_last_is_checked_first)
{
    open_numbers();

    wait_for_numbers();

    for (unsigned i = 0; i < ARRAY_COUNT(numbers); i++) {
        ck_assert_uint_eq(checked_order[i], ARRAY_COUNT(numbers) - 1 - i);
    }
}
END_TEST

START_TEST(what_is_asked_for_is_checked_before)
{
    open_numbers();

    ck_assert(!is_given("one"));
    wait_for_numbers();

    /* Beside the one that had begun. */
    ck_assert(checked_order[0] == 0 || checked_order[1] == 0);
    ck_assert(checked_order[0] == 3 || checked_order[1] == 3);
    ck_assert_uint_eq(checked_order[2], 2);
    ck_assert_uint_eq(checked_order[3], 1);
}
END_TEST

/* Nobody waits for "four", whose thread stands still: what is waited for has the other.
 */
START_TEST(of_those_that_are_waited_for_the_smallest_is_first)
{
    for (unsigned i = 0; i < ARRAY_COUNT(numbers); i++) {
        ck_assert_int_eq(upload(numbers[i], NULL), 0);
        set_used(numbers[i], 1000 + (time_t)i);
    }
    store_close();
    forget_checked();
    CLEANUP_FREE char *four = stored_path("four");
    CLEANUP_FREE char *one = stored_path("one");
    const int fours = open_gate_drop(four);
    const int ones = open_gate_drop(one);
    store_open(LIMIT);
    checked_count = 0;
    image_store_on_change(store, note_checked, NULL);

    open_gate_wait(fours);
    ck_assert(!is_given("one")); /* it has the other thread */
    open_gate_wait(ones);
    ck_assert(!is_given("two"));
    ck_assert(!is_given("three")); /* last, but larger */
    open_gate_lift(ones);
    wait_for("three");
    open_gate_lift(fours);
    wait_for_numbers();

    ck_assert_uint_eq(checked_order[0], 0);
    ck_assert_uint_eq(checked_order[1], 1); /* "two" is shorter than "three" */
    ck_assert_uint_eq(checked_order[2], 2);
}
END_TEST

/* A large one: that it was read to its end before would take long. */
START_TEST(what_nobody_waits_for_gives_way)
{
    ck_assert_int_eq(upload("one", NULL), 0);
    ck_assert_int_eq(upload("two", NULL), 0);
    store_close();
    forget_checked();
    CLEANUP_FREE char *large = stored_path("large");
    CLEANUP_FREE char *one = stored_path("one");
    int fd = open(large, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    ck_assert_int_eq(ftruncate(fd, (off_t)1 << 40), 0); /* for an hour */
    ck_assert_int_eq(close(fd), 0);
    const int ones = open_gate_drop(one);
    store_open((uint64_t)1 << 41);

    ck_assert(!is_given("one")); /* has the other thread, which stands still */
    open_gate_wait(ones);
    ck_assert(!is_given("two"));
    wait_for("two");

    ck_assert(is_given("two") && is_unchecked("large") && is_unchecked("one"));
    open_gate_lift(ones);
    wait_for("one");
}
END_TEST

/* ---- when it cannot be read ---- */

static atomic_bool disk_is_away;

/* In the place of libc's. */
ssize_t read(int fd, void *data, size_t size)
{
    if (atomic_load(&disk_is_away) && size > 4096) { /* a piece of a file */
        errno = EIO;
        return -1;
    }
    return (ssize_t)syscall(SYS_read, fd, data, size);
}

/* As a network's disk that is away at the start. */
START_TEST(a_disk_that_comes_back_has_lost_nothing)
{
    ck_assert_int_eq(upload("kernel", NULL), 0);
    ck_assert_int_eq(upload("another", NULL), 0);
    atomic_store(&disk_is_away, true);
    reopen();
    poll(NULL, 0, 20);
    (void)uv_run(&loop, UV_RUN_ONCE);
    ck_assert(has("kernel") && has("another"));

    atomic_store(&disk_is_away, false);

    use("kernel");
    use("another");
}
END_TEST

/* Nobody keeps it, and it stays all the same. */
START_TEST(what_a_disk_does_not_give_back_is_never_removed)
{
    ck_assert_int_eq(upload("kernel", NULL), 0);
    atomic_store(&disk_is_away, true);
    reopen();
    while (has("kernel")) {
        ck_assert_msg(uv_run(&loop, UV_RUN_ONCE) != 0, "nothing is under way");
    }
    store_close();

    ck_assert(is_damaged_there("kernel"));
    atomic_store(&disk_is_away, false);
    store_open(LIMIT);
}
END_TEST

/* As with too many files open: that says nothing of its content. */
START_TEST(a_file_that_cannot_be_opened_now_is_not_held_to_be_damaged)
{
    CLEANUP_FREE char *path = stored_path("kernel");
    CLEANUP_FREE char *away = damaged_path("away");
    ck_assert_int_eq(upload("last", NULL), 0);
    set_used("last", 500);
    reopen_behind_another("kernel");
    ck_assert_int_eq(rename(path, away), 0);
    ck_assert_int_eq(symlink(away, path), 0);

    wait_for("last");
    ck_assert(has("kernel") && is_unchecked("kernel"));

    ck_assert_int_eq(rename(away, path), 0);
    use("kernel");
}
END_TEST

/* ---- packed kernels ---- */

static void reopen_with_kernel(const char *text, void (*harm)(const char *path))
{
    CLEANUP_FREE char *path = within_path(text);
    store_close();
    ck_assert_int_eq(chmod(path, 0600), 0);
    harm(path);
    store_open(2000);
    (void)kernel_text('1');
}

/* Or has no seal, as those that hosts of an earlier version have unpacked. */
static void unseal(const char *path)
{
    ck_assert_int_eq(truncate(path, 6), 0);
}

static void (*const kernel_harms[])(const char *path) = {flip, cut, empty, unseal};

START_TEST(what_was_in_a_kernel_is_unpacked_anew_when_it_is_damaged)
{
    temp_dir_init(&programs);
    store_close();
    store_open(2000);
    const char *text = kernel_text('1');
    ck_assert_int_eq(upload(text, NULL), 0);
    ck_assert(has_within(text));

    reopen_with_kernel(text, kernel_harms[_i]);
    use(text);

    ck_assert(has_within(text));
    ck_assert_uint_eq(leftovers(), 0);
    temp_dir_fini(&programs);
}
END_TEST

START_TEST(and_gone_when_it_cannot_be_unpacked)
{
    temp_dir_init(&programs);
    store_close();
    store_open(2000);
    const char *text = kernel_text('1');
    ck_assert_int_eq(upload(text, NULL), 0);

    reopen_with_kernel(text, flip);
    image_store_use_unpacker(store, "/bin/false");
    use(text);

    CLEANUP_FREE char *path = within_path(text);
    ck_assert_int_eq(access(path, F_OK), -1);
    temp_dir_fini(&programs);
}
END_TEST

START_TEST(what_was_in_a_kernel_goes_with_a_damaged_one)
{
    temp_dir_init(&programs);
    store_close();
    store_open(2000);
    const char *text = kernel_text('1');
    ck_assert_int_eq(upload(text, NULL), 0);
    CLEANUP_FREE char *path = stored_path(text);
    store_close();
    ck_assert_int_eq(chmod(path, 0600), 0);
    flip(path);
    store_open(2000);

    while (has(text)) {
        ck_assert_msg(uv_run(&loop, UV_RUN_ONCE) != 0, "nothing is under way");
    }

    CLEANUP_FREE char *within = within_path(text);
    ck_assert_int_eq(access(within, F_OK), -1);
    temp_dir_fini(&programs);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("image_store_check");
    TCase *tests = tcase_create("image_store_check");
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, start, stop);
    tcase_add_test(tests, what_is_whole_is_given_once_it_was_checked);
    tcase_add_test(tests, a_file_is_checked_once);
    tcase_add_loop_test(tests, what_is_damaged_is_given_to_nobody_and_dropped, 0, 5);
    tcase_add_test(tests, what_is_kept_stays_beside_until_a_whole_one_comes);
    tcase_add_test(tests, what_was_put_aside_and_is_whole_is_there_again_after_a_restart);
    tcase_add_loop_test(tests, a_whole_one_that_comes_meanwhile_stays, 0, 20);
    tcase_add_test(tests,
                   a_whole_one_that_has_the_name_by_now_is_not_taken_for_the_damaged_one);
    tcase_add_test(tests, what_was_checked_in_this_boot_is_given_at_once);
    tcase_add_loop_test(tests, what_was_changed_since_is_not, 0, 4);
    tcase_add_test(tests, what_was_changed_and_used_since_is_not);
    tcase_add_test(tests, without_a_whole_list_all_is_checked);
    tcase_add_test(tests, of_those_that_are_waited_for_the_smallest_is_first);
    tcase_add_test(tests, what_nobody_waits_for_gives_way);
    tcase_add_test(tests, a_disk_that_comes_back_has_lost_nothing);
    tcase_add_test(tests, what_a_disk_does_not_give_back_is_never_removed);
    tcase_add_test(tests, what_was_used_last_is_checked_first);
    tcase_add_test(tests, what_is_asked_for_is_checked_before);
    tcase_add_test(tests, a_file_that_cannot_be_opened_now_is_not_held_to_be_damaged);
    tcase_add_loop_test(tests, what_was_in_a_kernel_is_unpacked_anew_when_it_is_damaged,
                        0, 4);
    tcase_add_test(tests, and_gone_when_it_cannot_be_unpacked);
    tcase_add_test(tests, what_was_in_a_kernel_goes_with_a_damaged_one);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
