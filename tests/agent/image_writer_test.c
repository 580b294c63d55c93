/* Goal: what is uploaded is in the store whole or not at all, under its own digest, and
 * never more than was announced or than there is room for. Method: the real store in a
 * real folder, on a real full disk, too. */
#include "image_store_fixture.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- uploads ---- */

START_TEST(an_upload_is_kept_under_its_digest)
{
    struct stat info;
    struct image_file file;

    ck_assert_int_eq(upload("kernel", NULL), 0);

    struct digest digest = digest_of_text("kernel");
    char *path = stored_path("kernel");
    ck_assert(digest_equal(&answer.digest, &digest));
    ck_assert_uint_eq(answer.size_bytes, 6);
    ck_assert_uint_eq(image_store_list(store, &file, 1), 1);
    ck_assert(digest_equal(&file.digest, &digest));
    ck_assert_uint_eq(file.size_bytes, 6);
    ck_assert_int_eq(stat(path, &info), 0);
    ck_assert_uint_eq(info.st_mode & 0777, 0400);
    ck_assert_int_eq(info.st_size, 6);
    ck_assert_uint_eq(changes, 1);
    ck_assert_uint_eq(leftovers(), 0);
    free(path);
}
END_TEST

START_TEST(an_upload_of_another_digest_is_refused_and_leaves_nothing)
{
    char wanted_hex[DIGEST_HEX_SIZE];
    char got_hex[DIGEST_HEX_SIZE];
    struct digest wanted = digest_of_text("kernel");
    struct digest got = digest_of_text("trojan");
    digest_format(&wanted, wanted_hex);
    digest_format(&got, got_hex);

    ck_assert_int_eq(upload("trojan", &wanted), BERTH_ECORRUPT);

    ck_assert_ptr_nonnull(strstr(answer.text, wanted_hex));
    ck_assert_ptr_nonnull(strstr(answer.text, got_hex));
    ck_assert(digest_equal(&answer.digest, &wanted));
    ck_assert(!has("trojan") && !has("kernel"));
    ck_assert_uint_eq(files_in(dir.path), 0);
    ck_assert_uint_eq(leftovers(), 0);
    ck_assert_uint_eq(changes, 0);
}
END_TEST

START_TEST(an_aborted_upload_leaves_nothing)
{
    struct err err = {0};
    struct image_writer *writer =
        image_writer_begin(store, NULL, IMAGE_SIZE_UNKNOWN, &err);
    ck_assert_ptr_nonnull(writer);
    ck_assert_int_eq(image_writer_write(writer, "half", 4, &err), 0);
    ck_assert_uint_eq(leftovers(), 1);

    image_writer_abort(writer);

    ck_assert_uint_eq(leftovers(), 0);
}
END_TEST

START_TEST(one_upload_too_many_is_refused_until_one_ends)
{
    struct err err = {0};
    struct image_writer *writers[IMAGE_STORE_WRITERS_MAX];
    for (unsigned i = 0; i < IMAGE_STORE_WRITERS_MAX; i++) {
        writers[i] = image_writer_begin(store, NULL, IMAGE_SIZE_UNKNOWN, &err);
        ck_assert_ptr_nonnull(writers[i]);
    }

    ck_assert_ptr_null(image_writer_begin(store, NULL, IMAGE_SIZE_UNKNOWN, &err));
    ck_assert_int_eq(err.code, BERTH_EFULL);

    image_writer_abort(writers[0]);
    writers[0] = image_writer_begin(store, NULL, IMAGE_SIZE_UNKNOWN, &err);
    ck_assert_ptr_nonnull(writers[0]);
    for (unsigned i = 0; i < IMAGE_STORE_WRITERS_MAX; i++) {
        image_writer_abort(writers[i]);
    }
}
END_TEST

START_TEST(what_is_larger_than_the_limit_is_refused_before_or_on_its_way)
{
    struct err err = {0};
    char content[LIMIT + 1] = {0};

    ck_assert_ptr_null(image_writer_begin(store, NULL, LIMIT + 1, &err));
    ck_assert_int_eq(err.code, BERTH_ETOOLARGE);
    ck_assert_ptr_nonnull(strstr(err.text, "--image-cache"));

    struct image_writer *writer =
        image_writer_begin(store, NULL, IMAGE_SIZE_UNKNOWN, &err);
    ck_assert_int_eq(image_writer_write(writer, content, LIMIT, &err), 0);
    ck_assert_int_eq(image_writer_write(writer, content, 1, &err), BERTH_ETOOLARGE);
    image_writer_abort(writer);
    ck_assert_uint_eq(leftovers(), 0);
}
END_TEST

START_TEST(no_more_comes_than_was_announced)
{
    struct err err = {0};
    struct image_writer *writer = image_writer_begin(store, NULL, 5, &err);
    ck_assert_int_eq(image_writer_write(writer, "abc", 3, &err), 0);

    ck_assert_int_eq(image_writer_write(writer, "def", 3, &err), BERTH_ETOOLARGE);

    ck_assert_ptr_nonnull(strstr(err.text, "announced"));
    image_writer_abort(writer);
}
END_TEST

/* ---- a full disk ---- */

START_TEST(an_upload_to_a_full_disk_is_refused_in_words_and_costs_nothing)
{
    struct err err = {0};
    char *big = many((size_t)2 * DISK_SIZE);
    ck_assert_int_eq(upload("kernel", NULL), 0);
    keep("kernel");
    struct image_writer *writer =
        image_writer_begin(store, NULL, IMAGE_SIZE_UNKNOWN, &err);

    int r = image_writer_write(writer, big, strlen(big), &err);
    image_writer_abort(writer);

    ck_assert_int_eq(r, BERTH_EDISKFULL);
    ck_assert_ptr_nonnull(strstr(err.text, "full"));
    ck_assert(has("kernel"));
    ck_assert_int_eq(upload("initrd", NULL), 0); /* there is room again */
    free(big);
}
END_TEST

START_TEST(what_is_announced_has_its_room_or_is_refused_before_it_comes)
{
    struct err err = {0};
    struct image_writer *first =
        image_writer_begin(store, NULL, (uint64_t)150 * 1024, &err);
    ck_assert_msg(first != NULL, "%s", err.text);

    ck_assert_ptr_null(image_writer_begin(store, NULL, (uint64_t)150 * 1024, &err));
    ck_assert_int_eq(err.code, BERTH_EDISKFULL);
    ck_assert_ptr_nonnull(strstr(err.text, "150KiB more are wanted"));
    struct image_writer *second =
        image_writer_begin(store, NULL, IMAGE_SIZE_UNKNOWN, &err);
    char *much = many((size_t)150 * 1024);
    ck_assert_int_eq(image_writer_write(second, much, strlen(much), &err),
                     BERTH_EDISKFULL); /* it would be the first one's */
    image_writer_abort(second);

    image_writer_abort(first);
    ck_assert_int_eq(upload(much, NULL), 0);
    free(much);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("image_writer");
    TCase *tests = tcase_create("image_writer");
    tcase_add_checked_fixture(tests, start, stop);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, an_upload_is_kept_under_its_digest);
    tcase_add_test(tests, an_upload_of_another_digest_is_refused_and_leaves_nothing);
    tcase_add_test(tests, an_aborted_upload_leaves_nothing);
    tcase_add_test(tests, one_upload_too_many_is_refused_until_one_ends);
    tcase_add_test(tests, what_is_larger_than_the_limit_is_refused_before_or_on_its_way);
    tcase_add_test(tests, no_more_comes_than_was_announced);
    suite_add_tcase(suite, tests);
    if (geteuid() == 0) {
        TCase *full = tcase_create("full disk");
        tcase_add_checked_fixture(full, start_on_small_disk, stop_on_small_disk);
        tcase_set_timeout(full, 60);
        tcase_add_test(full,
                       an_upload_to_a_full_disk_is_refused_in_words_and_costs_nothing);
        tcase_add_test(full,
                       what_is_announced_has_its_room_or_is_refused_before_it_comes);
        suite_add_tcase(suite, full);
    }
    return test_main_run(suite);
}
