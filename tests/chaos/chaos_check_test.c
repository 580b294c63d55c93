/* The checks of tests/chaos bite: each finds the fault it is there for in a forged
 * history, and none in an honest one. */
#include "chaos_check.h"
#include "support/temp_dir.h"
#include "support/test_main.h"

#include <stdlib.h>
#include <string.h>

static char *said;

/* Lines as clients write them; the faults found, and what was said in `said`. */
static unsigned faults_of(const char *const *lines, size_t count)
{
    struct history history = {0};
    size_t size;
    free(said);
    struct chaos_report report = {.stream = open_memstream(&said, &size)};
    ck_assert_ptr_nonnull(report.stream);
    for (size_t i = 0; i < count; i++) {
        struct chaos_record record;
        char line[256];
        (void)snprintf(line, sizeof(line), "%s\n", lines[i]);
        ck_assert_msg(history_parse(line, &record), "%s", lines[i]);
        history_add(&history, &record);
    }
    history_check(&history, &report);
    (void)fclose(report.stream);
    history_fini(&history);
    return report.faults;
}

#define ASSERT_FAULT(words, ...)                                                  \
    do {                                                                          \
        static const char *const lines_[] = {__VA_ARGS__};                        \
        unsigned faults_ = faults_of(lines_, sizeof(lines_) / sizeof(lines_[0])); \
        ck_assert_msg(faults_ > 0 && strstr(said, words) != NULL, "%s", said);    \
    } while (0)

#define ASSERT_HONEST(...)                                                        \
    do {                                                                          \
        static const char *const lines_[] = {__VA_ARGS__};                        \
        unsigned faults_ = faults_of(lines_, sizeof(lines_) / sizeof(lines_[0])); \
        ck_assert_msg(faults_ == 0, "%s", said);                                  \
    } while (0)

/* type actor begin end outcome revision at key value */

START_TEST(an_honest_history_has_no_fault)
{
    ASSERT_HONEST("listing 9 1 1 ok 0 0 - -", "place 9 2 2 ok 1 0 - -",
                  "write 1 10 20 ok 5 0 r0 a", "seen 9 21 21 ok 5 5 r0 a",
                  "write 2 15 40 unknown 0 0 r0 b", /* did not happen */
                  "write 3 30 50 ok 7 0 r0 c", "read 4 55 60 ok 7 8 r0 c",
                  "seen 9 61 61 more 7 0 r0 c", "resumed 9 62 62 ok 5 0 - -",
                  "seen 9 63 63 ok 7 7 r0 c", "write 2 70 80 unknown 0 0 r1 d", /* did */
                  "seen 9 90 90 ok 8 8 r1 d", "write 2 91 92 refused 0 0 r1 e",
                  "listing 9 93 93 ok 0 0 - -", "listed 9 94 94 more 7 0 r0 c",
                  "listed 9 94 94 more 8 0 r1 d", "place 9 95 95 ok 9 0 - -",
                  "seen 9 96 96 more 10 0 vm/a lost", /* twice in one revision */
                  "seen 9 96 96 ok 10 10 vm/a pending", "listing 8 1 1 ok 0 0 - -",
                  "place 8 2 2 ok 1 0 - -",
                  "seen 8 96 96 more 10 0 vm/a lost"); /* and cut between them */
}
END_TEST

START_TEST(an_acknowledged_write_that_is_lost_is_found)
{
    ASSERT_FAULT("but not 5: r0 = a", "listing 9 1 1 ok 0 0 - -",
                 "place 9 2 2 ok 1 0 - -", "write 1 10 20 ok 5 0 r0 a",
                 "seen 9 30 30 ok 6 6 r0 b");
}
END_TEST

START_TEST(an_acknowledged_write_that_another_took_the_revision_of_is_found)
{
    ASSERT_FAULT("revision 5 of r0 is told as", "write 1 10 20 ok 5 0 r0 a",
                 "seen 9 30 30 ok 5 5 r0 b");
}
END_TEST

START_TEST(a_write_that_was_done_twice_is_found)
{
    ASSERT_FAULT("happened 2 times", "write 1 10 20 ok 5 0 r0 a",
                 "seen 9 30 30 ok 5 5 r0 a", "seen 9 30 30 ok 8 8 r0 a");
    ASSERT_FAULT("asked for once and happened 2 times", "write 1 10 20 unknown 0 0 r0 a",
                 "seen 9 30 30 ok 5 5 r0 a", "seen 9 30 30 ok 8 8 r0 a");
}
END_TEST

START_TEST(a_refused_write_that_happened_is_found)
{
    ASSERT_FAULT("was refused and happened", "write 1 10 20 refused 0 0 r0 a",
                 "seen 9 30 30 ok 5 5 r0 a");
}
END_TEST

START_TEST(a_stale_read_is_found)
{
    ASSERT_FAULT("a stale read", "write 1 10 20 ok 5 0 r0 a", "write 1 30 40 ok 6 0 r0 b",
                 "read 2 41 50 ok 5 5 r0 a");
    ASSERT_FAULT("a stale read", /* of a state from before another object's change */
                 "write 1 10 20 ok 5 0 r0 a", "write 1 30 40 ok 6 0 r1 b",
                 "read 2 41 50 ok 5 5 r0 a");
    ASSERT_HONEST("write 1 10 20 ok 5 0 r0 a", "write 1 30 40 ok 6 0 r0 b",
                  "read 2 39 50 ok 5 5 r0 a");
}
END_TEST

START_TEST(a_read_that_skips_a_change_is_found)
{
    ASSERT_FAULT("others saw 6", "write 1 10 20 ok 5 0 r0 a", "write 1 30 90 ok 6 0 r0 b",
                 "read 2 41 50 ok 5 7 r0 a");
}
END_TEST

START_TEST(a_write_that_goes_back_in_time_is_found)
{
    ASSERT_FAULT("was told before it was asked for", "write 1 10 20 ok 7 0 r0 a",
                 "write 1 30 40 ok 6 0 r0 b");
}
END_TEST

START_TEST(a_watch_with_a_gap_or_twice_or_in_disorder_is_found)
{
    ASSERT_FAULT("watch 8 was told 1 to 7 but not 6", "place 9 2 2 ok 1 0 - -",
                 "seen 9 3 3 ok 5 5 r0 a", "seen 9 3 3 ok 6 6 r0 b",
                 "seen 9 3 3 ok 7 7 r0 c", "listing 8 2 2 ok 0 0 - -",
                 "place 8 2 2 ok 1 0 - -", "seen 8 3 3 ok 5 5 r0 a",
                 "seen 8 3 3 ok 7 7 r0 c");
    ASSERT_FAULT("but not 6", /* a bookmark promises as much */
                 "place 9 2 2 ok 1 0 - -", "seen 9 3 3 ok 6 6 r0 b",
                 "place 8 2 2 ok 1 0 - -", "place 8 2 2 ok 6 0 - -");
    ASSERT_FAULT("twice", "place 9 2 2 ok 1 0 - -", "seen 9 3 3 ok 6 6 r0 b",
                 "seen 9 3 3 ok 6 6 r0 b");
    ASSERT_FAULT("out of order", "place 9 2 2 ok 1 0 - -", "seen 9 3 3 ok 6 6 r0 b",
                 "seen 9 3 3 ok 5 5 r0 b");
    ASSERT_FAULT("but not 6", /* across another connection */
                 "place 9 2 2 ok 1 0 - -", "seen 9 3 3 ok 5 5 r0 a",
                 "resumed 9 4 4 ok 5 0 - -", "seen 9 5 5 ok 7 7 r0 c",
                 "write 1 1 9 ok 6 0 r0 b");
}
END_TEST

START_TEST(an_event_with_the_id_of_another_revision_is_found)
{
    ASSERT_FAULT("an event of revision 6 has the id 5", "place 9 2 2 ok 1 0 - -",
                 "seen 9 3 3 ok 6 5 r0 b");
}
END_TEST

START_TEST(a_listing_that_is_no_state_is_found)
{
    ASSERT_FAULT("the listing of 7 has r0 as of 5", "write 1 1 2 ok 5 0 r0 a",
                 "write 1 3 4 ok 6 0 r0 b", "listing 9 5 5 ok 0 0 - -",
                 "listed 9 5 5 more 5 0 r0 a", "place 9 6 6 ok 7 0 - -");
    ASSERT_FAULT("the listing of 7 has r0 as of 0", "write 1 1 2 ok 5 0 r0 a",
                 "listing 9 5 5 ok 0 0 - -", "place 9 6 6 ok 7 0 - -");
}
END_TEST

START_TEST(a_cut_line_is_no_record)
{
    struct chaos_record record;
    ck_assert(!history_parse("write 1 10 20 ok 5 0 r0", &record));
    ck_assert(!history_parse("write 1 10 20 ok 5 0 r0 val", &record));
    ck_assert(!history_parse("write 1 10 20 perhaps 5 0 r0 a\n", &record));
    ck_assert(history_parse("write 1 10 20 ok 5 0 r0 a\n", &record));
}
END_TEST

/* ---- VMs ---- */

static unsigned vm_faults(const char *one, const char *other, int64_t offset_ns)
{
    struct temp_dir dir;
    struct vm_runs runs = {0};
    size_t size;
    free(said);
    struct chaos_report report = {.stream = open_memstream(&said, &size)};
    temp_dir_init(&dir);
    temp_dir_write(&dir, "h1", one);
    temp_dir_write(&dir, "h2", other);
    char *h1 = temp_dir_path(&dir, "h1");
    char *h2 = temp_dir_path(&dir, "h2");
    vm_runs_read(&runs, h1, "h1", 0);
    vm_runs_read(&runs, h2, "h2", offset_ns);
    vm_runs_check(&runs, &report);
    (void)fclose(report.stream);
    vm_runs_fini(&runs);
    free(h1);
    free(h2);
    temp_dir_fini(&dir);
    return report.faults;
}

START_TEST(one_run_after_another_is_fine_whatever_the_hosts_clocks_say)
{
    ck_assert_uint_eq(vm_faults("start 7 1 10 100\nbeat 7 1 10 200\n",
                                "start 7 2 10 1201\nstop 7 2 10 1300\n", 1000),
                      0);
    ck_assert_uint_eq(vm_faults("start 7 1 10 100\nbeat 7 1 10 200\nstart 8 1 11 100\n",
                                "start 7 2 10 201\nbe", 0),
                      0);
}
END_TEST

START_TEST(a_vm_that_runs_twice_is_found)
{
    ck_assert_uint_eq(vm_faults("start 7 1 10 100\nbeat 7 1 10 300\n",
                                "start 7 2 10 250\nbeat 7 2 10 260\n", 0),
                      1);
    ck_assert_ptr_nonnull(strstr(said, "ran twice at a time"));
    /* also when a third ran between, and the first goes on after a pause */
    ck_assert_uint_ge(vm_faults("start 7 1 10 100\nbeat 7 1 10 900\n",
                                "start 7 2 10 250\nstart 7 3 12 500\n", 0),
                      2);
}
END_TEST

START_TEST(an_epoch_that_does_not_rise_is_found)
{
    ck_assert_uint_eq(vm_faults("start 7 2 10 100\n", "start 7 1 10 250\n", 0), 1);
    ck_assert_ptr_nonnull(strstr(said, "did not get a higher epoch"));
    ck_assert_uint_eq(vm_faults("start 7 2 10 100\n", "start 7 2 10 250\n", 0), 1);
}
END_TEST

static unsigned matter_faults(const char *lines, const char *vm_lines)
{
    struct temp_dir dir;
    struct history history = {0};
    struct vm_runs runs = {0};
    size_t size;
    free(said);
    struct chaos_report report = {.stream = open_memstream(&said, &size)};
    temp_dir_init(&dir);
    temp_dir_write(&dir, "history", lines);
    temp_dir_write(&dir, "vms", vm_lines);
    char *path = temp_dir_path(&dir, "history");
    char *vms = temp_dir_path(&dir, "vms");
    history_read(&history, path);
    vm_runs_read(&runs, vms, "h1", 0);
    chaos_check_matter(&history, &runs, &report);
    (void)fclose(report.stream);
    history_fini(&history);
    vm_runs_fini(&runs);
    free(path);
    free(vms);
    temp_dir_fini(&dir);
    return report.faults;
}

#define WRITE_LINE "write 1 10 20 ok 5 0 r0 a\n"
#define READ_LINE  "read 2 41 50 ok 5 5 r0 a\n"
#define SEEN_LINE  "seen 9 3 3 ok 5 5 r0 a\n"
#define VM_LINES   "start 7 1 10 100\nbeat 7 1 10 200\n"

START_TEST(a_run_of_which_nothing_was_noted_is_a_fault)
{
    const char *all = WRITE_LINE READ_LINE SEEN_LINE;
    ck_assert_uint_eq(matter_faults(WRITE_LINE READ_LINE SEEN_LINE "see", VM_LINES "be"),
                      0);
    ck_assert_uint_eq(matter_faults(READ_LINE SEEN_LINE, VM_LINES), 1);
    ck_assert_uint_eq(matter_faults(WRITE_LINE SEEN_LINE, VM_LINES), 1);
    ck_assert_uint_eq(matter_faults(WRITE_LINE READ_LINE, VM_LINES), 1);
    ck_assert_uint_eq(matter_faults(all, "start 7 1 10 100\n"), 1);
    ck_assert_uint_eq(matter_faults(all, ""), 2);
}
END_TEST

START_TEST(a_line_that_cannot_be_read_before_others_is_a_fault)
{
    const char *all = WRITE_LINE READ_LINE SEEN_LINE;
    ck_assert_uint_eq(matter_faults("bad\n" WRITE_LINE READ_LINE SEEN_LINE, VM_LINES), 1);
    ck_assert_ptr_nonnull(strstr(said, "1 lines of the history and 0 of VMs"));
    ck_assert_uint_eq(matter_faults(all, "bad\n" VM_LINES), 1);
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("chaos_check");
    TCase *tests = tcase_create("histories");
    tcase_add_test(tests, an_honest_history_has_no_fault);
    tcase_add_test(tests, an_acknowledged_write_that_is_lost_is_found);
    tcase_add_test(tests,
                   an_acknowledged_write_that_another_took_the_revision_of_is_found);
    tcase_add_test(tests, a_write_that_was_done_twice_is_found);
    tcase_add_test(tests, a_refused_write_that_happened_is_found);
    tcase_add_test(tests, a_stale_read_is_found);
    tcase_add_test(tests, a_read_that_skips_a_change_is_found);
    tcase_add_test(tests, a_write_that_goes_back_in_time_is_found);
    tcase_add_test(tests, a_watch_with_a_gap_or_twice_or_in_disorder_is_found);
    tcase_add_test(tests, an_event_with_the_id_of_another_revision_is_found);
    tcase_add_test(tests, a_listing_that_is_no_state_is_found);
    tcase_add_test(tests, a_cut_line_is_no_record);
    tcase_add_test(tests, one_run_after_another_is_fine_whatever_the_hosts_clocks_say);
    tcase_add_test(tests, a_vm_that_runs_twice_is_found);
    tcase_add_test(tests, an_epoch_that_does_not_rise_is_found);
    tcase_add_test(tests, a_run_of_which_nothing_was_noted_is_a_fault);
    tcase_add_test(tests, a_line_that_cannot_be_read_before_others_is_a_fault);
    suite_add_tcase(suite, tests);
    return suite;
}

int main(void)
{
    int status = test_main_run(suite());
    free(said);
    return status;
}
