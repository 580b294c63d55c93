/* Goal: a VM's boot is told step by step from the instants it has, whatever is missing.
 */
#include "cli/timeline.h"
#include "cli_fixture.h"

#include <time.h>

#define T "2026-11-23T09:15:0"

static const struct boot {
    const char *status;
    const char *text;
} boots[] = {
    {"", "pending"},
    {"'pendingAt':'" T "4.000Z'", "pending"},
    {"'pendingAt':'" T "4.000Z','placedAt':'" T "4.002Z'",
     "pending 2 ms: placed after 2 ms"},
    {"'pendingAt':'" T "4.000Z','placedAt':'" T "4.002Z','startingAt':'" T
     "4.010Z','runningAt':'" T "4.220Z','readyAt':'" T "6.120Z'",
     "pending 2 ms, placed 8 ms, starting 210 ms, running 1.9 s: ready after 2.1 s"},
    /* a step nobody saw */
    {"'pendingAt':'" T "4.000Z','placedAt':'" T "4.002Z','runningAt':'" T "5.002Z'",
     "pending 2 ms, placed 1.0 s: running after 1.0 s"},
    /* what is older than this boot's start is of the boot before */
    {"'pendingAt':'" T "8.000Z','placedAt':'" T "8.010Z','startingAt':'" T "4.010Z'",
     "pending 10 ms: placed after 10 ms"},
    {"'pendingAt':'yesterday','placedAt':'" T "4.002Z'", "placed"},
};

START_TEST(a_boot_is_told_as_far_as_it_came)
{
    char text[TIMELINE_SIZE];
    char vm[1024];
    snprintf(vm, sizeof(vm), "{'status':{%s}}", boots[_i].status);
    json_t *document = doc(vm);
    timeline_format(document, text);
    ck_assert_str_eq(text, boots[_i].text);
    json_decref(document);
}
END_TEST

START_TEST(a_phase_counts_from_its_own_instant)
{
    json_t *vm = doc("{'status':{'phase':'placed','placedAt':'" T "4.250Z'}}");
    ck_assert_uint_eq(timeline_phase_since(vm) % 1000, 250);
    json_decref(vm);
    vm = doc("{'status':{'phase':'failed','readyAt':'" T "4.250Z'}}");
    ck_assert_uint_eq(timeline_phase_since(vm), 0);
    json_decref(vm);
}
END_TEST

static const struct line {
    const char *format; /* of -o */
    const char *event;
    const char *text;
} lines[] = {
    {"table",
     "{'time':'2026-11-23T09:15:04.123Z','kind':'VM','tenant':'shop','name':'web-1','"
     "verb':"
     "'ready','reason':'probe passed'}",
     "09:15:04.123  shop/vm/web-1          ready      probe passed"},
    {"wide",
     "{'time':'2026-11-23T09:15:04.123Z','kind':'Host','tenant':'','name':'h1','verb':'"
     "lost'}",
     "2026-11-23 09:15:04.123  host/h1                lost"},
    {"table",
     "{'time':'2026-11-23T09:15:04.123Z','kind':'VM','name':'x','verb':'failed','reason':"
     "'two\\nlines\\u001b[31m'}",
     "09:15:04.123  vm/x                   failed     two lines"},
    {"table",
     "{'time':'2026-11-23T09:15:04.123Z','kind':'Spaceship','tenant':'a','name':'b','"
     "verb':'c'}",
     "09:15:04.123  a/Spaceship/b          c"}, /* of a newer server */
};

START_TEST(an_event_is_one_line)
{
    char text[EVENT_LINE_SIZE];
    char given[32];
    (void)setenv("TZ", "UTC", 1);
    tzset();
    snprintf(given, sizeof(given), "events -o %s", lines[_i].format);
    ck_assert_int_eq(cli_given(given), EXIT_OK);
    json_t *event = doc(lines[_i].event);
    event_format(&cli, event, text);
    ck_assert_str_eq(text, lines[_i].text);
    json_decref(event);
}
END_TEST

START_TEST(a_very_long_reason_is_cut_not_overrun)
{
    static char reason[EVENT_LINE_SIZE * 2];
    char text[EVENT_LINE_SIZE];
    memset(reason, 'x', sizeof(reason) - 1);
    json_t *event = json_pack("{s:s, s:s}", "kind", "VM", "reason", reason);
    event_format(&cli, event, text);
    ck_assert_uint_eq(strlen(text), EVENT_LINE_SIZE - 1);
    json_decref(event);
}
END_TEST

int main(void)
{
    TCase *tests;
    Suite *suite = cli_suite("timeline", &tests);
    tcase_add_loop_test(tests, a_boot_is_told_as_far_as_it_came, 0,
                        sizeof(boots) / sizeof(boots[0]));
    tcase_add_test(tests, a_phase_counts_from_its_own_instant);
    tcase_add_loop_test(tests, an_event_is_one_line, 0, sizeof(lines) / sizeof(lines[0]));
    tcase_add_test(tests, a_very_long_reason_is_cut_not_overrun);
    return test_main_run(suite);
}
