/* Goal: a part goes on where it stopped, over restarts and a full disk, and is in the
 * store whole or not at all. Method: the real store in a real folder, on a real full
 * disk, too. */
#include "base/heap.h"
#include "image_store_fixture.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- parts ---- */

START_TEST(a_part_goes_on_after_a_restart_where_it_stopped)
{
    struct err err = {0};
    struct image_part *part = part_open("0123456789", 10, 0);
    ck_assert_int_eq(image_part_write(part, "01234", 5, &err), 0);
    image_part_close(part);
    store_close();
    store_open(LIMIT);

    part = part_open("0123456789", 10, 5);
    ck_assert_int_eq(image_part_write(part, "56789", 5, &err), 0);
    image_part_end(part, take_answer, NULL);
    wait_for_answer();

    ck_assert_int_eq(answer.code, 0);
    ck_assert(has("0123456789"));
    ck_assert_uint_eq(leftovers(), 0);
}
END_TEST

/* What it came through goes back to the system, whether it is whole or not. */
START_TEST(the_end_of_a_part_is_told_to_the_heap)
{
    struct image_part *part = part_open("0123456789", 10, 0);
    (void)heap_give_back();
    (void)heap_give_back();
    ck_assert(!heap_give_back());

    if (_i == 0) {
        ck_assert_int_eq(image_part_write(part, "0123456789", 10, NULL), 0);
        image_part_end(part, take_answer, NULL);
        wait_for_answer();
    } else {
        image_part_close(part);
    }

    ck_assert(heap_give_back() || heap_give_back()); /* the second look, nothing new */
}
END_TEST

START_TEST(a_part_of_another_content_is_refused_and_begins_anew)
{
    struct err err = {0};
    struct digest wanted = digest_of_text("0123456789");
    struct image_part *part = part_open("0123456789", 10, 0);
    ck_assert_int_eq(image_part_write(part, "012345678x", 10, &err), 0);
    image_part_end(part, take_answer, NULL);
    wait_for_answer();

    ck_assert_int_eq(answer.code, BERTH_ECORRUPT);
    ck_assert(digest_equal(&answer.digest, &wanted)); /* of what was wanted */
    ck_assert_uint_eq(files_in(dir.path), 0);
    image_part_close(part_open("0123456789", 10, 0));
}
END_TEST

START_TEST(a_part_has_one_writer_until_its_end_is_told)
{
    struct err err = {0};
    uint64_t offset = 0;
    struct digest digest = digest_of_text("0123456789");
    struct image_part *part = part_open("0123456789", 10, 0);
    ck_assert_int_eq(image_part_write(part, "0123456789", 10, &err), 0);

    ck_assert_ptr_null(image_part_open(store, &digest, 10, &offset, &err));
    ck_assert_int_eq(err.code, BERTH_EBUSY);
    image_part_end(part, take_answer, NULL); /* hashes from now on */
    ck_assert_ptr_null(image_part_open(store, &digest, 10, &offset, &err));
    ck_assert_int_eq(err.code, BERTH_EBUSY);

    image_part_close(part_open("another", 7, 0));
    wait_for_answer();
    ck_assert_int_eq(answer.code, 0);
    image_part_close(part_open("0123456789", 10, 0)); /* none is under way any more */
}
END_TEST

START_TEST(a_part_never_grows_over_its_size)
{
    struct err err = {0};
    struct image_part *part = part_open("0123456789", 10, 0);
    ck_assert_int_eq(image_part_write(part, "01234567", 8, &err), 0);

    ck_assert_int_eq(image_part_write(part, "89x", 3, &err), BERTH_ETOOLARGE);

    image_part_close(part);
    image_part_close(part_open("0123456789", 10, 8));
}
END_TEST

START_TEST(what_is_longer_than_the_file_is_no_part_of_it)
{
    struct err err = {0};
    struct image_part *part = part_open("0123456789", 12, 0);
    ck_assert_int_eq(image_part_write(part, "0123456789ab", 12, &err), 0);
    image_part_close(part);

    image_part_close(part_open("0123456789", 10, 0));
}
END_TEST

START_TEST(a_part_of_unknown_size_is_bounded_once_the_size_is_told)
{
    struct err err = {0};
    struct image_part *part = part_open("0123456789", 0, 0);

    ck_assert_int_eq(image_part_told_size(part, 10, &err), 0);
    ck_assert_int_eq(image_part_write(part, "0123456789x", 11, &err), BERTH_ETOOLARGE);

    image_part_close(part);
}
END_TEST

/* ---- a full disk ---- */

START_TEST(a_part_waits_on_a_full_disk_and_goes_on_when_there_is_room)
{
    struct err err = {0};
    char *whole = many((size_t)200 * 1024);
    char *filler = many((size_t)150 * 1024);
    const size_t half = (size_t)100 * 1024;
    struct digest digest = digest_of_text(whole);
    uint64_t offset = 0;
    struct image_part *part = part_open(whole, strlen(whole), 0);
    ck_assert_int_eq(image_part_write(part, whole, half, &err), 0);
    temp_dir_write(&dir, "filler", filler);

    ck_assert_int_eq(image_part_write(part, whole + half, half, &err), BERTH_EDISKFULL);
    image_part_close(part);
    ck_assert_ptr_null(image_part_open(store, &digest, strlen(whole), &offset, &err));
    ck_assert_int_eq(err.code, BERTH_EDISKFULL);
    char *path = temp_dir_path(&dir, "filler");
    ck_assert_int_eq(unlink(path), 0);

    part = part_open(whole, strlen(whole), half); /* what was there is not asked again */
    ck_assert_int_eq(image_part_write(part, whole + half, half, &err), 0);
    image_part_end(part, take_answer, NULL);
    wait_for_answer();
    ck_assert_int_eq(answer.code, 0);
    free(path);
    free(filler);
    free(whole);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("image_part");
    TCase *tests = tcase_create("image_part");
    tcase_add_checked_fixture(tests, start, stop);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, a_part_goes_on_after_a_restart_where_it_stopped);
    tcase_add_loop_test(tests, the_end_of_a_part_is_told_to_the_heap, 0, 2);
    tcase_add_test(tests, a_part_of_another_content_is_refused_and_begins_anew);
    tcase_add_test(tests, a_part_has_one_writer_until_its_end_is_told);
    tcase_add_test(tests, a_part_never_grows_over_its_size);
    tcase_add_test(tests, what_is_longer_than_the_file_is_no_part_of_it);
    tcase_add_test(tests, a_part_of_unknown_size_is_bounded_once_the_size_is_told);
    suite_add_tcase(suite, tests);
    if (geteuid() == 0) {
        TCase *full = tcase_create("full disk");
        tcase_add_checked_fixture(full, start_on_small_disk, stop_on_small_disk);
        tcase_set_timeout(full, 60);
        tcase_add_test(full, a_part_waits_on_a_full_disk_and_goes_on_when_there_is_room);
        suite_add_tcase(suite, full);
    }
    return test_main_run(suite);
}
