/* Goal: what a thread does with a file on its way into the store ends in a whole file
 * under its digest, or in a reason. Method: the functions on real files, called as a
 * thread of the pool calls them. */
#include "agent/disk_format.h"
#include "agent/image_work.h"
#include "support/temp_dir.h"
#include "support/test_main.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct temp_dir dir;
static struct image_work work;

static void start(void)
{
    char *path;
    temp_dir_init(&dir);
    path = temp_dir_path(&dir, "new");
    memset(&work, 0, sizeof(work));
    (void)snprintf(work.tmp_path, sizeof(work.tmp_path), "%s", path);
    (void)snprintf(work.final_folder, sizeof(work.final_folder), "%s", dir.path);
    work.fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    ck_assert_int_ge(work.fd, 0);
    free(path);
}

static void stop(void)
{
    image_work_fini(&work);
    temp_dir_fini(&dir);
}

static void content(const char *text)
{
    ck_assert_int_eq(write(work.fd, text, strlen(text)), (ssize_t)strlen(text));
}

static void expect(const char *text)
{
    digest_of(text, strlen(text), &work.expected);
    work.expects = true;
}

/* The mode of the file with this content's digest as its name; 0: there is none. */
static unsigned mode_of(const char *text)
{
    char hex[DIGEST_HEX_SIZE];
    struct digest digest;
    struct stat info;
    digest_of(text, strlen(text), &digest);
    digest_format(&digest, hex);
    char *path = temp_dir_path(&dir, hex);
    int r = stat(path, &info);
    free(path);
    return r == 0 ? info.st_mode & 07777U : 0;
}

START_TEST(what_is_whole_gets_its_name_and_is_read_only)
{
    content("a kernel");
    expect("a kernel");

    image_work_finish(&work.job);

    ck_assert_int_eq(work.code, 0);
    ck_assert_uint_eq(work.size_bytes, 8);
    ck_assert_uint_eq(mode_of("a kernel"), 0400);
    ck_assert_int_ne(access(work.tmp_path, F_OK), 0);
}
END_TEST

START_TEST(what_is_not_expected_goes_and_both_digests_are_named)
{
    content("a kernel");
    expect("another");
    work.keep_bad = _i == 1; /* a part of wrong content is worth nothing either */

    image_work_finish(&work.job);

    ck_assert_int_eq(work.code, BERTH_ECORRUPT);
    ck_assert_ptr_nonnull(strstr(work.text, ", not "));
    ck_assert_uint_eq(mode_of("a kernel"), 0);
    image_work_fini(&work);
    work.url = NULL;
    ck_assert_int_ne(access(work.tmp_path, F_OK), 0);
}
END_TEST

START_TEST(a_cancelled_work_gives_up_and_a_part_keeps_what_it_has)
{
    content("a kernel");
    atomic_store(&work.job.cancelled, true);
    work.keep_bad = true;

    image_work_finish(&work.job);
    image_work_fini(&work);

    ck_assert_int_eq(work.code, BERTH_ECLOSED);
    ck_assert_uint_eq(mode_of("a kernel"), 0);
    ck_assert_int_eq(access(work.tmp_path, F_OK), 0);
}
END_TEST

START_TEST(a_disk_image_that_names_a_file_of_the_host_never_gets_a_name)
{
    static const uint8_t head[DISK_FORMAT_HEAD] = {
        'Q', 'F', 'I', 0xfb, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 11};
    char hex[DIGEST_HEX_SIZE];
    ck_assert_int_eq(write(work.fd, head, sizeof(head)), (ssize_t)sizeof(head));
    digest_of(head, sizeof(head), &work.expected);
    digest_format(&work.expected, hex);
    work.expects = true;
    work.keep_bad = true;

    image_work_finish(&work.job);
    image_work_fini(&work);

    ck_assert_int_eq(work.code, BERTH_EINVALID);
    ck_assert_ptr_nonnull(strstr(work.text, "backing file"));
    char *path = temp_dir_path(&dir, hex);
    ck_assert_int_ne(access(path, F_OK), 0);
    ck_assert_int_ne(access(work.tmp_path, F_OK), 0);
    free(path);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("image_work");
    TCase *tests = tcase_create("image_work");
    tcase_add_checked_fixture(tests, start, stop);
    tcase_add_test(tests, what_is_whole_gets_its_name_and_is_read_only);
    tcase_add_loop_test(tests, what_is_not_expected_goes_and_both_digests_are_named, 0,
                        2);
    tcase_add_test(tests, a_cancelled_work_gives_up_and_a_part_keeps_what_it_has);
    tcase_add_test(tests, a_disk_image_that_names_a_file_of_the_host_never_gets_a_name);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
