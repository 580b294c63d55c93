/* Goal: what happened is told in order, narrowed as asked, and followed. */
#include "berth_fixture.h"

static void events_start(void)
{
    fixture_start();
    serve("vms vm 2");
    await("ls vm", "ready");
    await("show vm/vm-00000", "PHASE      ready");
    await("show vm/vm-00001", "PHASE      ready");
}

static unsigned lines(const char *text)
{
    unsigned count = 0;
    for (; *text != '\0'; text++) {
        count += *text == '\n' ? 1 : 0;
    }
    return count;
}

START_TEST(events_are_lines_in_order)
{
    assert_ran("events --name vm/vm-00000", 0);
    assert_like(ran.out,
                "*default/vm/vm-00000    created*\n*placed*\n*starting*\n*running*\n"
                "*ready*\n");
    assert_ran("events -n 2", 0);
    ck_assert_uint_eq(lines(ran.out), 2);
    assert_ran("events -t shop --name vm/vm-00000", 3);
    ck_assert_contains(ran.err, "tenant shop does not exist");
    assert_ran("events --name vm/vm-0000", 3);
    ck_assert_contains(ran.err, "vm/vm-0000 is not there; did you mean \"vm-0000");
    assert_ran("rm vm/vm-00001 --wait", 0);
    assert_ran("events --name vm/vm-00001", 0); /* it is gone, what happened is told */
    ck_assert_contains(ran.out, "vm/vm-00001");
    assert_ran("events --kind template --name template/plain", 0);
    assert_like(ran.out, "*default/template/plain *created*\n");
    assert_ran("events --kind vms", 0);
    ck_assert_contains(ran.out, "vm/vm-00000");
    ck_assert_ptr_null(strstr(ran.out, "template/"));
    assert_ran("events -o wide -n 1", 0);
    assert_like(ran.out, "20*-*-* *:*:*.* *\n");
}
END_TEST

START_TEST(documents_have_the_revision_to_go_on_from)
{
    json_t *document = NULL;
    char line[64];
    assert_ran("events -o json", 0);
    ck_assert_int_eq(json_parse(ran.out, strlen(ran.out), &document, NULL), 0);
    uint64_t revision = json_member_u64(document, "revision", 0);
    ck_assert_uint_gt(json_array_size(json_object_get(document, "items")), 10);
    json_decref(document);
    snprintf(line, sizeof(line), "events --since %llu", (unsigned long long)revision);
    assert_ran(line, 0);
    ck_assert_str_eq(ran.out, "");
    serve("vms zz 1");
    await(line, "zz-00000");
    ck_assert_ptr_null(strstr(ran.out, "vm-0000"));
}
END_TEST

START_TEST(following_tells_what_comes)
{
    struct child child = berth_start("events -f -n 1");
    char *text = calloc(1, 1);
    size_t size = 0;
    while (strstr(text, "\n") == NULL && gather(child.out, &text, &size)) {
    }
    serve("vms zz 1");
    while (strstr(text, "zz-00000") == NULL && gather(child.out, &text, &size)) {
    }
    ck_assert_contains(text, "zz-00000");
    free(text);
    ck_assert_int_eq(kill(child.pid, SIGINT), 0);
    child_wait(&child);
    ck_assert_int_eq(ran.code, 128 + SIGINT);
}
END_TEST

START_TEST(following_goes_on_after_the_server_was_away)
{
    struct child child = berth_start("events -f -n 1");
    char *text = calloc(1, 1);
    char *said = calloc(1, 1);
    size_t size = 0;
    size_t said_size = 0;
    while (strstr(text, "\n") == NULL && gather(child.out, &text, &size)) {
    }
    served_end(SIGKILL);
    while (strstr(said, "waiting") == NULL && gather(child.err, &said, &said_size)) {
    }
    ck_assert_contains(said, "no answer; waiting for one");
    fixture_start();
    serve("vms zz 30"); /* it counts anew: what comes after the revision that was told */
    while (strstr(text, "zz-000") == NULL && gather(child.out, &text, &size)) {
    }
    ck_assert_contains(text, "zz-000");
    free(text);
    free(said);
    ck_assert_int_eq(kill(child.pid, SIGINT), 0);
    child_wait(&child);
    ck_assert_int_eq(ran.code, 128 + SIGINT);
}
END_TEST

static const char *const bads[] = {
    "events --since soon",
    "events -n 0",
    "events -n many",
    "events --name vm-00000",
    "events --name ship/x",
    "events -o name",
    "events --kind vm --kind host",
    "events --kind ship",
    "events --kind group --name vm/vm-00000",
};

static void what_makes_no_sense_is_refused_row(size_t i)
{
    assert_ran(bads[i], 2);
    ck_assert_int_eq(strncmp(ran.err, "berth: ", 7), 0);
}

START_TEST(what_makes_no_sense_is_refused)
{
    for (size_t i = 0; i < sizeof(bads) / sizeof(bads[0]); i++) {
        what_makes_no_sense_is_refused_row(i);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("run_events");
    TCase *tests = tcase_create("run_events");
    tcase_add_checked_fixture(tests, events_start, fixture_stop);
    tcase_add_test(tests, events_are_lines_in_order);
    tcase_add_test(tests, documents_have_the_revision_to_go_on_from);
    tcase_add_test(tests, following_tells_what_comes);
    tcase_add_test(tests, following_goes_on_after_the_server_was_away);
    tcase_add_test(tests, what_makes_no_sense_is_refused);
    tcase_set_timeout(tests, 300);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
