/* Goal: a file's digest is that of its bytes, as many as were asked for. */
#include "agent/file_digest.h"
#include "base/cleanup.h"
#include "base/err.h"
#include "support/temp_dir.h"
#include "support/test_main.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define SIZE 100000u /* some pieces, and not a whole number of them */

static struct temp_dir dir;
static uint8_t content[SIZE];
static int fd;
static unsigned pieces_wanted;

static bool wanted(void *context)
{
    (void)context;
    return pieces_wanted-- > 0;
}

static void start(void)
{
    temp_dir_init(&dir);
    CLEANUP_FREE char *path = temp_dir_path(&dir, "file");
    for (size_t i = 0; i < SIZE; i++) {
        content[i] = (uint8_t)(i * 2654435761u >> 13);
    }
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, content, SIZE), SIZE);
    pieces_wanted = SIZE;
}

static void stop(void)
{
    (void)close(fd);
    temp_dir_fini(&dir);
}

START_TEST(of_all_bytes_or_of_the_first)
{
    static const uint64_t asked[] = {UINT64_MAX, SIZE, SIZE - 1, 32u << 10, 1, 0};
    const uint64_t size = asked[_i] < SIZE ? asked[_i] : SIZE;
    struct digest expected;
    struct digest digest;
    uint64_t got = 0;
    digest_of(content, (size_t)size, &expected);

    ck_assert_int_eq(file_digest(fd, asked[_i], wanted, NULL, &digest, &got), 0);

    ck_assert_uint_eq(got, size);
    ck_assert(digest_equal(&digest, &expected));
    ck_assert_int_eq(lseek(fd, 0, SEEK_CUR), (off_t)size);
}
END_TEST

START_TEST(who_does_not_want_it_any_more_waits_for_one_piece)
{
    struct digest digest;
    uint64_t got = 7;
    pieces_wanted = 1;

    ck_assert_int_eq(file_digest(fd, SIZE, wanted, NULL, &digest, &got), BERTH_ECLOSED);

    ck_assert_uint_eq(got, 7);
    ck_assert_int_lt(lseek(fd, 0, SEEK_CUR), SIZE);
}
END_TEST

START_TEST(what_cannot_be_read_is_told)
{
    struct digest digest;
    uint64_t got = 0;
    CLEANUP_FREE char *path = temp_dir_path(&dir, "file");
    (void)close(fd);
    fd = open(path, O_WRONLY | O_CLOEXEC);

    ck_assert_int_lt(file_digest(fd, SIZE, wanted, NULL, &digest, &got), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("file_digest");
    TCase *tests = tcase_create("file_digest");
    tcase_add_checked_fixture(tests, start, stop);
    tcase_add_loop_test(tests, of_all_bytes_or_of_the_first, 0, 6);
    tcase_add_test(tests, who_does_not_want_it_any_more_waits_for_one_piece);
    tcase_add_test(tests, what_cannot_be_read_is_told);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
