/* Goal: a watch prints a line per change, goes on after the server was away, and ends by
 * a signal. */
#include "answers.h"

static struct child child;
static char *text;
static size_t size;

static void watch(const char *line)
{
    child = berth_start(line);
    free(text);
    text = calloc(1, 1);
    size = 0;
}

static void expect(const char *part)
{
    struct pollfd wait = {.fd = child.out, .events = POLLIN};
    while (strstr(text, part) == NULL) {
        ck_assert_msg(poll(&wait, 1, RAN_MS) > 0 && gather(child.out, &text, &size),
                      "no \"%s\" in \"%s\"", part, text);
    }
}

static void leave(int number, int code)
{
    ck_assert_int_eq(kill(child.pid, number), 0);
    child_wait(&child);
    ck_assert_int_eq(ran.code, code);
    free(text);
    text = NULL;
}

START_TEST(it_begins_with_what_is_there_and_tells_each_change)
{
    watch("watch vm host");
    expect("host/h3 ");
    serve("vms vm 1");
    expect("default/vm/vm-00000      ready     h");
    assert_ran("rm vm/vm-00000", 0);
    expect("default/vm/vm-00000      gone\n");
    leave(SIGINT, 128 + SIGINT);
}
END_TEST

START_TEST(a_group_that_was_scaled_says_since_when_in_local_time)
{
    static const char object[] =
        "{\"kind\":\"Group\",\"metadata\":{\"name\":\"web\",\"tenant\":\"default\"},"
        "\"status\":{\"desired\":3,\"scaleReason\":\"scaled by root\","
        "\"scaled\":\"2026-11-27T23:53:39.123Z\"}}";
    static char answer[1024];
    const char *const all[] = {ANSWER_JSON("{\"role\":\"voter\"}"), answer, NULL};
    (void)snprintf(answer, sizeof(answer), ANSWER("text/event-stream", "%s%s\n\n"),
                   "id: 7\nevent: put\ndata: ", object);
    served_end(0);
    ck_assert_int_eq(setenv("TZ", "XXX-2", 1), 0); /* two hours before UTC */
    answers_start(all, NULL);
    watch("watch group");
    expect("desired 3  since 2026-11-28 01:53:39: scaled by root\n");
    leave(SIGINT, 128 + SIGINT);
    answers_stop();
}
END_TEST

#define HOST_AS(spec, status)                                                     \
    "id: 7\nevent: put\ndata: {\"kind\":\"Host\",\"metadata\":{\"name\":\"h1\"}," \
    "\"spec\":{" spec "},\"status\":{" status "}}\n\n"

START_TEST(a_host_says_that_it_is_drained_and_why_it_is_not_ready_and_nothing_of_before)
{
    static char answer[2048];
    const char *const all[] = {answer, NULL};
    (void)snprintf(
        answer, sizeof(answer), ANSWER("text/event-stream", "%s"),
        HOST_AS("\"drain\":true", "\"phase\":\"ready\",\"reason\":\"it is back\"")
            HOST_AS("\"drain\":true,\"drainReason\":\"PSU\"",
                    "\"phase\":\"suspect\",\"reason\":\"no heartbeat\"")
                HOST_AS("", "\"phase\":\"ready\",\"reason\":\"it is back\""));
    served_end(0);
    answers_start(all, NULL);
    watch("watch host");
    expect("  ready     drained\n");
    expect("  suspect   drained: PSU; no heartbeat\n");
    expect("  ready\n");
    leave(SIGINT, 128 + SIGINT);
    answers_stop();
}
END_TEST

START_TEST(a_list_goes_on_as_a_watch)
{
    watch("ls vm -w -t default -o name");
    serve("vms vm 1");
    expect("vm/vm-00000\n");
    leave(SIGTERM, 128 + SIGTERM);
}
END_TEST

START_TEST(json_is_one_document_a_line)
{
    watch("watch tenant -o json");
    expect("\n");
    json_t *document = NULL;
    ck_assert_int_eq(json_parse(text, strcspn(text, "\n"), &document, NULL), 0);
    ck_assert_str_eq(json_member_text(document, "event", ""), "put");
    ck_assert_str_eq(json_member_text(json_object_get(document, "object"), "kind", ""),
                     "Tenant");
    json_decref(document);
    leave(SIGINT, 128 + SIGINT);
}
END_TEST

START_TEST(a_server_that_comes_back_is_watched_on)
{
    watch("watch tenant");
    expect("tenant/default");
    served_end(SIGKILL);
    fixture_start_with("");
    ck_assert_int_eq(berth_fed("apply -",
                               "apiVersion: berth/v1\nkind: Tenant\nmetadata: {name: "
                               "shop}\n"),
                     0);
    expect("tenant/shop");
    leave(SIGINT, 128 + SIGINT);
}
END_TEST

START_TEST(a_reset_is_told_and_the_objects_follow)
{
    watch("watch tenant --since 1");
    serve("reset");
    expect("tenant/default");
    leave(SIGINT, 128 + SIGINT);
    ck_assert_contains(ran.err, "the server no longer has all changes since then");
}
END_TEST

START_TEST(a_watch_that_cannot_be_says_why)
{
    assert_ran("watch ships", 2);
    ck_assert_contains(ran.err, "there is no kind \"ships\"");
    assert_ran("watch vm --since soon", 2);
    ck_assert_contains(ran.err, "--since: ");
    assert_ran("watch vm --token wrong --server 127.0.0.1:1", 9);
    served_end(0);
    assert_ran("watch vm", 9);
}
END_TEST

int main(void)
{
    TCase *tests;
    Suite *suite = berth_suite("watching", &tests);
    tcase_add_test(tests, it_begins_with_what_is_there_and_tells_each_change);
    tcase_add_test(tests, a_group_that_was_scaled_says_since_when_in_local_time);
    tcase_add_test(tests, a_list_goes_on_as_a_watch);
    tcase_add_test(
        tests,
        a_host_says_that_it_is_drained_and_why_it_is_not_ready_and_nothing_of_before);
    tcase_add_test(tests, json_is_one_document_a_line);
    tcase_add_test(tests, a_server_that_comes_back_is_watched_on);
    tcase_add_test(tests, a_reset_is_told_and_the_objects_follow);
    tcase_add_test(tests, a_watch_that_cannot_be_says_why);
    return test_main_run(suite);
}
