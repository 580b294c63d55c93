/* Goal: a copy is its original, with its holes, and a sum tells any change of content and
 * none of how it lies on the disk. Method: files with data at odd places. */
#include "agent/sparse_copy.h"
#include "support/temp_dir.h"
#include "support/test_main.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SIZE (40u << 20)

static struct temp_dir dir;

static void setup(void)
{
    temp_dir_init(&dir);
}

static void teardown(void)
{
    temp_dir_fini(&dir);
}

static int make(const char *name)
{
    char *path = temp_dir_path(&dir, name);
    int fd = open(path, O_CREAT | O_RDWR | O_TRUNC | O_CLOEXEC, 0600);
    ck_assert_int_ge(fd, 0);
    free(path);
    return fd;
}

static void put(int fd, const char *text, off_t at)
{
    ck_assert_int_eq(pwrite(fd, text, strlen(text), at), (int)strlen(text));
}

/* Data at the beginning, across the pieces, and in the last, half block. */
static int make_original(void)
{
    int fd = make("original");
    ck_assert_int_eq(ftruncate(fd, SIZE - 1000), 0);
    put(fd, "first", 0);
    put(fd, "across", (16 << 20) - 3);
    put(fd, "last", SIZE - 1004);
    return fd;
}

static uint32_t sum_of(int fd)
{
    uint32_t sum = 0;
    ck_assert_int_eq(sparse_sum(fd, "it", NULL, &sum, NULL), 0);
    return sum;
}

START_TEST(a_copy_is_its_original_with_the_holes)
{
    struct stat was;
    struct stat is;
    char text[8] = "";
    int from = make_original();
    int to = make("copy");

    ck_assert_int_eq(sparse_copy(from, to, "it", NULL, NULL), 0);

    ck_assert_int_eq(fstat(from, &was) | fstat(to, &is), 0);
    ck_assert_int_eq(was.st_size, is.st_size);
    ck_assert_int_le(is.st_blocks, was.st_blocks + 16);
    ck_assert_int_eq(pread(to, text, 6, (16 << 20) - 3), 6);
    ck_assert_str_eq(text, "across");
    ck_assert_uint_eq(sum_of(from), sum_of(to));
    close(from);
    close(to);
}
END_TEST

START_TEST(zeros_that_are_no_hole_change_no_sum)
{
    static const char zeros[3 * 4096 + 17];
    int fd = make_original();
    const uint32_t before = sum_of(fd);

    ck_assert_int_eq(pwrite(fd, zeros, sizeof(zeros), 100001), (int)sizeof(zeros));

    ck_assert_uint_eq(sum_of(fd), before);
    close(fd);
}
END_TEST

struct change {
    const char *text;
    off_t at;
    off_t size;
};

static const struct change changes[] = {
    {"F", 0, SIZE - 1000},          /* another byte */
    {"x", 5u << 20, SIZE - 1000},   /* one more, in a hole */
    {"last", SIZE - 1004, SIZE},    /* longer by zeros */
    {"first", 0, SIZE - 1001},      /* shorter */
    {"t", SIZE - 1001, SIZE - 1000} /* the same: the control */
};

START_TEST(a_sum_tells_what_has_changed)
{
    const struct change *change = &changes[_i];
    const bool same = _i == (int)(sizeof(changes) / sizeof(changes[0])) - 1;
    int fd = make_original();
    const uint32_t before = sum_of(fd);

    ck_assert_int_eq(ftruncate(fd, change->size), 0);
    put(fd, change->text, change->at);
    ck_assert_int_eq(ftruncate(fd, change->size), 0);

    ck_assert_int_eq(sum_of(fd) == before, same);
    close(fd);
}
END_TEST

START_TEST(content_that_has_moved_is_other_content)
{
    int one = make("one");
    int two = make("two");
    ck_assert_int_eq(ftruncate(one, SIZE) | ftruncate(two, SIZE), 0);

    put(one, "here", 0);
    put(two, "here", 4096);

    ck_assert_uint_ne(sum_of(one), sum_of(two));
    close(one);
    close(two);
}
END_TEST

static bool is_wanted(void *context)
{
    int *left = context;
    return (*left)-- > 0;
}

START_TEST(what_is_not_wanted_any_more_ends)
{
    int left = 1;
    uint32_t sum = 7;
    struct err err = {0};
    const struct sparse_wish wish = {is_wanted, &left};
    int fd = make_original();

    ck_assert_int_eq(sparse_sum(fd, "the disk", &wish, &sum, &err), BERTH_ECLOSED);

    ck_assert_uint_eq(sum, 7);
    ck_assert_ptr_nonnull(strstr(err.text, "the disk"));
    close(fd);
}
END_TEST

START_TEST(a_copy_that_fails_says_what_it_was_of)
{
    struct err err = {0};
    int from = make_original();
    int to = open("/dev/full", O_RDWR | O_CLOEXEC);
    ck_assert_int_ge(to, 0);

    ck_assert_int_lt(sparse_copy(from, to, "disk root", NULL, &err), 0);

    ck_assert_ptr_nonnull(strstr(err.text, "copy disk root"));
    close(from);
    close(to);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("sparse_copy");
    TCase *tests = tcase_create("sparse_copy");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, a_copy_is_its_original_with_the_holes);
    tcase_add_test(tests, zeros_that_are_no_hole_change_no_sum);
    tcase_add_loop_test(tests, a_sum_tells_what_has_changed, 0,
                        sizeof(changes) / sizeof(changes[0]));
    tcase_add_test(tests, content_that_has_moved_is_other_content);
    tcase_add_test(tests, what_is_not_wanted_any_more_ends);
    tcase_add_test(tests, a_copy_that_fails_says_what_it_was_of);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
