/* Goal: what rack says of a failing seed is enough to look at it: the timeline, also of
 * one that crashes, and a command line that can be typed again. Method: the program, with
 * mistakes put in. Rows whose seed fails otherwise by now: see bugs_test.c. */
#include "support/test_main.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

static char said[1 << 20];

/* Its exit code; what it said on both streams is in `said`. */
static int rack(const char *arguments)
{
    char line[1024];
    (void)snprintf(line, sizeof(line), RACK_PROGRAM " %s 2>&1", arguments);
    FILE *output = popen(line, "re"); /* NOLINT(cert-env33-c): our own words */
    ck_assert_ptr_nonnull(output);
    said[fread(said, 1, sizeof(said) - 1, output)] = '\0';
    int status = pclose(output);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* The line behind "again: rack", or it fails. */
static void again(char *ret_arguments, size_t size)
{
    static const char words[] = "\nagain: rack ";
    const char *at = strstr(said, words);
    ck_assert_msg(at != NULL, "%.2000s", said);
    at += strlen(words);
    (void)snprintf(ret_arguments, size, "%.*s", (int)strcspn(at, "\n"), at);
}

START_TEST(no_runs_are_wrong_usage)
{
    ck_assert_int_eq(rack("--runs 0"), 2);
    ck_assert_msg(strncmp(said, "usage: rack ", 12) == 0, "%.2000s", said);
}
END_TEST

START_TEST(a_seed_that_needs_no_fault_can_be_run_again)
{
    char arguments[512];
    ck_assert_int_eq(rack("--seed 1 --bug ack-before-fsync"), 1);
    again(arguments, sizeof(arguments));
    ck_assert_msg(strstr(arguments, " --only none") != NULL, "%s", arguments);
    ck_assert_int_eq(rack(arguments), 1);
    ck_assert_msg(strstr(said, "VIOLATION: ") != NULL, "%.2000s", said);
}
END_TEST

START_TEST(a_seed_of_another_rack_comes_back_as_that)
{
    char arguments[512];
    char violation[512];
    ck_assert_int_eq(rack("--seed 1 --hosts 5 --voters 5 --bug own-clock"), 1);
    const char *at = strstr(said, "VIOLATION: ");
    ck_assert_msg(at != NULL, "%.2000s", said);
    (void)snprintf(violation, sizeof(violation), "%.*s", (int)strcspn(at, "\n"), at);

    again(arguments, sizeof(arguments));
    ck_assert_msg(strstr(arguments, "--hosts 5 ") != NULL, "%s", arguments);
    ck_assert_int_eq(rack(arguments), 1);
    ck_assert_msg(strstr(said, violation) != NULL, "wanted \"%s\", got: %.2000s",
                  violation, said);
}
END_TEST

START_TEST(a_seed_that_crashes_tells_its_timeline_up_to_there)
{
    char arguments[512];
    ck_assert_int_eq(rack("--log --seed 4 --bug bare --no-shrink"), 1);
    const char *end = strstr(said, "\nfaults that are needed:");
    ck_assert_msg(strstr(said, "the rack crashed (") != NULL && end != NULL, "%.2000s",
                  said);
    const char *line = strstr(said, "  fault at ");
    ck_assert_msg(line != NULL && line < end, "%.2000s", said);

    again(arguments, sizeof(arguments));
    ck_assert_int_eq(rack(arguments), 1);
    ck_assert_msg(strstr(said, "  fault at ") < strstr(said, "the rack crashed ("),
                  "%.2000s", said);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("driver");
    TCase *tests = tcase_create("driver");
    tcase_add_test(tests, no_runs_are_wrong_usage);
    tcase_add_test(tests, a_seed_that_needs_no_fault_can_be_run_again);
    tcase_add_test(tests, a_seed_of_another_rack_comes_back_as_that);
    tcase_add_test(tests, a_seed_that_crashes_tells_its_timeline_up_to_there);
    tcase_set_timeout(tests, 600);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
