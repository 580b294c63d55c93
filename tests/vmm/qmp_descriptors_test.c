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

static void put(const char *name)
{
    ck_assert_int_eq(qmp_descriptors_put(&descriptors, name, some(), NULL), 0);
}

START_TEST(a_client_that_goes_takes_its_sets_along_and_leaves_its_names)
{
    const int sets[] = {some(), some()};
    ck_assert_int_eq(qmp_descriptors_put(&descriptors, QMP_FDSET "0", sets[0], NULL), 0);
    put("one");
    ck_assert_int_eq(qmp_descriptors_put(&descriptors, QMP_FDSET "1", sets[1], NULL), 0);

    qmp_descriptors_leave(&descriptors);

    ck_assert(!is_open(sets[0]) && !is_open(sets[1]));
    ck_assert_uint_eq(descriptors.count, 1);
    ck_assert(qmp_descriptors_has(&descriptors, "one"));
    qmp_descriptors_clear(&descriptors);
}
END_TEST

START_TEST(what_was_left_gives_way_the_oldest_first)
{
    char name[8];
    put("old");
    put("taken");
    put("older");
    put("old"); /* again: it is the youngest of them */
    int fd = qmp_descriptors_take(&descriptors, "taken", NULL);
    (void)close(fd);
    qmp_descriptors_leave(&descriptors);
    for (unsigned i = 2; i < QMP_NAMED_MAX; i++) {
        (void)snprintf(name, sizeof(name), "n%u", i);
        put(name);
    }
    ck_assert_uint_eq(descriptors.count, QMP_NAMED_MAX);

    put("more");
    ck_assert(!qmp_descriptors_has(&descriptors, "older"));
    ck_assert(qmp_descriptors_has(&descriptors, "old"));
    put("and");
    ck_assert(!qmp_descriptors_has(&descriptors, "old"));

    const int no_more = some();
    ck_assert_int_eq(qmp_descriptors_put(&descriptors, "end", no_more, NULL),
                     BERTH_EFULL);
    (void)close(no_more);
    for (unsigned i = 2; i < QMP_NAMED_MAX; i++) {
        (void)snprintf(name, sizeof(name), "n%u", i);
        ck_assert(qmp_descriptors_has(&descriptors, name));
    }
    qmp_descriptors_clear(&descriptors);
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
    tcase_add_test(tests, a_client_that_goes_takes_its_sets_along_and_leaves_its_names);
    tcase_add_test(tests, what_was_left_gives_way_the_oldest_first);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
