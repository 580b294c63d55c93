/* Goal: a long row of seeds goes on where it was left, and what is in the file is not
 * taken for what it is not. */
#include "rack_save.h"
#include "support/temp_dir.h"
#include "support/test_main.h"

#include <stdio.h>
#include <string.h>

#define SEED  UINT64_C(5)
#define COUNT UINT64_C(10)

static struct temp_dir dir;
static char path[512];

static void setup(void)
{
    temp_dir_init(&dir);
    (void)snprintf(path, sizeof(path), "%s/runs", dir.path);
}

static void teardown(void)
{
    temp_dir_fini(&dir);
}

static struct rack_save *open_for(const char *runs, struct rack_totals *totals)
{
    *totals = (struct rack_totals){0};
    return rack_save_open(path, runs, SEED, COUNT, totals);
}

static struct rack_totals some(uint64_t runs)
{
    struct rack_totals made = {.runs = runs, .events = 100 * runs};
    made.faults[SIM_FAULT_KINDS_MAX - 1] = runs; /* the last number of a line */
    return made;
}

static void append(const char *text)
{
    FILE *file = fopen(path, "ae");
    ck_assert_ptr_nonnull(file);
    ck_assert_int_ge(fputs(text, file), 0);
    ck_assert_int_eq(fclose(file), 0);
}

/* Seeds 9 to 11 are through. */
static void leave_some(void)
{
    struct rack_totals totals;
    struct rack_save *save = open_for("", &totals);
    ck_assert_ptr_nonnull(save);
    const struct rack_totals three = some(3);
    ck_assert(rack_save_done(save, 9, 3, &three));
    ck_assert(rack_save_failed(save, 10, "a\nreason"));
    (void)rack_save_close(save);
}

START_TEST(what_is_through_is_not_run_again)
{
    struct rack_totals totals;
    uint64_t first = 0;
    leave_some();

    struct rack_save *save = open_for("", &totals);

    ck_assert_ptr_nonnull(save);
    ck_assert_uint_eq(totals.runs, 3);
    ck_assert_uint_eq(totals.events, 300);
    ck_assert_uint_eq(totals.faults[SIM_FAULT_KINDS_MAX - 1], 3);
    ck_assert_uint_eq(rack_save_next(save, 25, &first), 4);
    ck_assert_uint_eq(first, 5);
    ck_assert_uint_eq(rack_save_next(save, 2, &first), 2);
    ck_assert_uint_eq(first, 12);
    ck_assert_uint_eq(rack_save_next(save, 25, &first), 1);
    ck_assert_uint_eq(first, 14);
    ck_assert_uint_eq(rack_save_next(save, 25, &first), 0);
    (void)rack_save_close(save);
}
END_TEST

START_TEST(a_torn_line_is_run_again)
{
    struct rack_totals totals;
    leave_some();
    append("done 5 4 4");

    struct rack_save *save = open_for("", &totals);
    ck_assert_ptr_nonnull(save);
    const struct rack_totals four = some(4);
    ck_assert(rack_save_done(save, 5, 4, &four));
    (void)rack_save_close(save);

    save = open_for("", &totals);
    ck_assert_ptr_nonnull(save);
    ck_assert_uint_eq(totals.runs, 7);
    (void)rack_save_close(save);
}
END_TEST

START_TEST(other_runs_are_refused)
{
    struct rack_totals totals;
    leave_some();
    ck_assert_ptr_null(open_for(" --log", &totals));
}
END_TEST

/* One character of the build's hash. */
START_TEST(another_build_is_refused)
{
    struct rack_totals totals;
    char text[4096] = "";
    leave_some();
    FILE *file = fopen(path, "r+e");
    ck_assert_ptr_nonnull(file);
    ck_assert_uint_gt(fread(text, 1, sizeof(text) - 1, file), 0);
    char *at = strstr(text, "build ");
    ck_assert_ptr_nonnull(at);
    ck_assert_int_eq(fseek(file, at - text + 6, SEEK_SET), 0);
    ck_assert_int_ne(fputc(at[6] == '0' ? '1' : '0', file), EOF);
    ck_assert_int_eq(fclose(file), 0);

    ck_assert_ptr_null(open_for("", &totals));
}
END_TEST

static const char *const foreign[] = {"done 9 3 3\n", "done x\n", "words\n",
                                      "done 9 -3 1\n"};

START_TEST(lines_that_do_not_add_up_are_refused)
{
    struct rack_totals totals;
    leave_some();
    append(foreign[_i]);
    ck_assert_ptr_null(open_for("", &totals));
}
END_TEST

START_TEST(two_at_a_time_are_refused)
{
    struct rack_totals totals;
    struct rack_save *save = open_for("", &totals);
    ck_assert_ptr_nonnull(save);
    ck_assert_ptr_null(open_for("", &totals));
    (void)rack_save_close(save);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("save");
    TCase *tcase = tcase_create("save");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, what_is_through_is_not_run_again);
    tcase_add_test(tcase, a_torn_line_is_run_again);
    tcase_add_test(tcase, other_runs_are_refused);
    tcase_add_test(tcase, another_build_is_refused);
    tcase_add_loop_test(tcase, lines_that_do_not_add_up_are_refused, 0,
                        (int)(sizeof(foreign) / sizeof(foreign[0])));
    tcase_add_test(tcase, two_at_a_time_are_refused);
    suite_add_tcase(suite, tcase);
    return test_main_run(suite);
}
