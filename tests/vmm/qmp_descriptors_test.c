/* Goal: a named descriptor is kept once, handed out once, and never lost. Method:
 * descriptors of nothing. */
#include "support/test_main.h"
#include "vmm/qmp_descriptors.h"

#include <check.h>

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <unistd.h>

static struct qmp_descriptors descriptors;

static bool is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

static int some(void)
{
    return open("/dev/null", O_RDONLY | O_CLOEXEC);
}

START_TEST(a_name_is_taken_once)
{
    const int one = some();
    const int two = some();
    struct err err = {0};
    ck_assert_int_eq(qmp_descriptors_put(&descriptors, "one", one, NULL), 0);
    ck_assert_int_eq(qmp_descriptors_put(&descriptors, "two", two, NULL), 0);

    ck_assert_int_eq(qmp_descriptors_take(&descriptors, "one", NULL), one);
    ck_assert_int_eq(qmp_descriptors_take(&descriptors, "one", &err), BERTH_ENOTFOUND);

    ck_assert_str_eq(err.text, "File descriptor named 'one' has not been found");
    ck_assert(is_open(one));
    qmp_descriptors_clear(&descriptors);
    ck_assert(!is_open(two));
    (void)close(one);
}
END_TEST

START_TEST(a_name_that_comes_again_replaces_the_descriptor)
{
    const int before = some();
    const int after = some();
    ck_assert_int_eq(qmp_descriptors_put(&descriptors, "one", before, NULL), 0);

    ck_assert_int_eq(qmp_descriptors_put(&descriptors, "one", after, NULL), 0);

    ck_assert(!is_open(before));
    ck_assert_uint_eq(descriptors.count, 1);
    ck_assert_int_eq(qmp_descriptors_take(&descriptors, "one", NULL), after);
    (void)close(after);
}
END_TEST

static const struct {
    const char *name;
    int result;
} names[] = {
    {"", BERTH_EINVALID},
    {"1", BERTH_EINVALID},
    {"a-very-long-name-that-no-client-would-choose-unless-it-is-out-of-its-mind",
     BERTH_EINVALID},
    {"s", 0},
};

START_TEST(names_are_as_qemu_wants_them)
{
    const int fd = some();

    ck_assert_int_eq(qmp_descriptors_put(&descriptors, names[_i].name, fd, NULL),
                     names[_i].result);

    ck_assert(is_open(fd)); /* what was not taken is the caller's */
    qmp_descriptors_clear(&descriptors);
    ck_assert(is_open(fd) == (names[_i].result != 0));
    if (names[_i].result != 0) {
        (void)close(fd);
    }
}
END_TEST

START_TEST(the_table_has_an_end)
{
    const int more = some();
    char name[8];
    for (unsigned i = 0; i < QMP_NAMED_MAX; i++) {
        (void)snprintf(name, sizeof(name), "n%u", i);
        ck_assert_int_eq(qmp_descriptors_put(&descriptors, name, some(), NULL), 0);
    }

    ck_assert_int_eq(qmp_descriptors_put(&descriptors, "more", more, NULL), BERTH_EFULL);

    ck_assert(is_open(more));
    (void)close(more);
    qmp_descriptors_clear(&descriptors);
    ck_assert_uint_eq(descriptors.count, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("qmp_descriptors");
    TCase *tests = tcase_create("qmp_descriptors");
    tcase_add_test(tests, a_name_is_taken_once);
    tcase_add_test(tests, a_name_that_comes_again_replaces_the_descriptor);
    tcase_add_loop_test(tests, names_are_as_qemu_wants_them, 0,
                        sizeof(names) / sizeof(names[0]));
    tcase_add_test(tests, the_table_has_an_end);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
