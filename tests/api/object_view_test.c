/* Goal: whoever asks for some fields gets those alone, and a list of many VMs that wait
 * says why without looking at every host for each. */
#include "api/object_view.h"
#include "http_fixture.h"

#define TEMPLATE_TOO_LARGE                                                               \
    "{\"apiVersion\":\"berth/v1\",\"kind\":\"Template\",\"metadata\":{\"name\":\"t%u\"}" \
    ",\"spec\":{\"image\":\"linux\",\"memory\":{\"size\":\"%uMiB\"}}}"
#define VM_OF                                                     \
    "{\"apiVersion\":\"berth/"                                    \
    "v1\",\"kind\":\"VM\",\"metadata\":{\"name\":\"vm-%03u-%u\"}" \
    ",\"spec\":{\"template\":{\"name\":\"t%u\"}}}"

static void apply(const char *objects)
{
    char body[65536];
    snprintf(body, sizeof(body), "{\"objects\":[%s]}", objects);
    ck_assert_msg(ask("POST", "/v1/apply", "", body) == 200, "%s", reply.body);
}

/* VMs of that many kinds that no host has room for, `each` of a kind. */
static void make_waiting(unsigned kinds, unsigned each)
{
    for (unsigned kind = 0; kind < kinds; kind++) {
        char text[4096];
        size_t used =
            (size_t)snprintf(text, sizeof(text), TEMPLATE_TOO_LARGE, kind, 5000 + kind);
        for (unsigned i = 0; i < each; i++) {
            used += (size_t)snprintf(text + used, sizeof(text) - used, "," VM_OF, kind, i,
                                     kind);
            ck_assert_uint_lt(used, sizeof(text));
        }
        apply(text);
    }
}

static const json_t *item_at(size_t index)
{
    return json_array_get(json_object_get(reply.document, "items"), index);
}

static void assert_item(size_t index, const char *text)
{
    char *said = json_text(item_at(index));
    ck_assert_str_eq(said, text);
    free(said);
}

/* Items whose reason begins like that. */
static unsigned reasons_like(const char *text)
{
    unsigned count = 0;
    for (size_t i = 0; i < item_count(); i++) {
        const json_t *status = json_object_get(item_at(i), "status");
        count += strncmp(json_member_text(status, "reason", ""), text, strlen(text)) == 0
                     ? 1U
                     : 0U;
    }
    return count;
}

#define HEAD "{\"apiVersion\":\"berth/v1\",\"kind\":\"VM\""

START_TEST(what_is_asked_for_is_shown_alone)
{
    make_waiting(1, 2);
    ck_assert_int_eq(get("/v1/vms?fields=metadata.name"), 200);
    assert_item(0, HEAD ",\"metadata\":{\"name\":\"vm-000-0\"}}");
    assert_item(1, HEAD ",\"metadata\":{\"name\":\"vm-000-1\"}}");
    ck_assert_int_eq(get("/v1/vms?fields=metadata.name,spec.template,status.phase"), 200);
    assert_item(0, HEAD ",\"metadata\":{\"name\":\"vm-000-0\"},\"spec\":{\"template\":{"
                        "\"name\":\"t0\"}},\"status\":{\"phase\":\"pending\"}}");
    ck_assert_int_eq(get("/v1/vms?fields=status.host,status.live"), 200);
    assert_item(0, HEAD "}"); /* it has none */
    ck_assert_int_eq(get("/v1/vms?fields=status.reason"), 200);
    ck_assert_uint_eq(reasons_like("no host: 3 of 3 lack memory"), 2);
    ck_assert_int_eq(get("/v1/vms?fields=status.waits"), 200); /* without "admitted" */
    assert_item(0, HEAD ",\"status\":{\"waits\":\"no host: 3 of 3 lack memory\"}}");
    ck_assert_int_eq(get("/v1/tenants/default/vms/vm-000-1?fields=spec.power&full=true"),
                     200);
    ck_assert_contains(reply.body, HEAD ",\"spec\":{\"power\":\"on\"}}");
}
END_TEST

START_TEST(a_whole_part_is_as_in_the_whole_document)
{
    static const char *const lists[] = {"/v1/vms", "/v1/templates", "/v1/tenants",
                                        "/v1/images"};
    make_waiting(1, 1);
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        char path[128];
        ck_assert_int_eq(get(lists[i]), 200);
        ck_assert_uint_gt(item_count(), 0);
        json_t *whole = json_incref(json_object_get(reply.document, "items"));
        snprintf(path, sizeof(path), "%s?fields=metadata,spec,status", lists[i]);
        ck_assert_int_eq(get(path), 200);
        ck_assert_msg(json_equal(whole, json_object_get(reply.document, "items")),
                      "%s: %s", lists[i], reply.body);
        json_decref(whole);
    }
}
END_TEST

static const char *const bads[] = {
    "fields=",
    "fields=metadata,",
    "fields=,spec",
    "fields=size",
    "fields=status.voter",
    "fields=metadata.name.x",
    "fields=metadata.",
    "fields=spec.template.name",
    "fields=metadata."
    "nameeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee"
    "eeeeeeeeeeeeeeeeeee",
};

START_TEST(fields_that_are_not_there_are_refused)
{
    for (size_t i = 0; i < sizeof(bads) / sizeof(bads[0]); i++) {
        char path[256];
        snprintf(path, sizeof(path), "/v1/vms?%s", bads[i]);
        (void)get(path);
        assert_problem(422, "BERTH_EINVALID");
        ck_assert_contains(said("detail"), "fields: ");
    }
}
END_TEST

START_TEST(many_of_one_kind_that_wait_all_say_why)
{
    make_waiting(1, 20);
    served_vms(served, "ready", 1);
    ck_assert_int_eq(get("/v1/vms?limit=1000"), 200);
    ck_assert_uint_eq(reasons_like("no host: 3 of 3 lack memory"), 20);
}
END_TEST

START_TEST(an_answer_looks_at_the_hosts_for_few_kinds)
{
    const unsigned kinds = OBJECT_REASONS_MAX + 10;
    make_waiting(kinds, 1);
    ck_assert_int_eq(get("/v1/vms?limit=1000"), 200);
    ck_assert_uint_eq(item_count(), kinds);
    unsigned told = reasons_like("no host: 3 of 3 lack memory");
    unsigned sent_on = reasons_like("berth explain vm/");
    ck_assert_uint_eq(told + sent_on, kinds);
    ck_assert_uint_ge(told, OBJECT_REASONS_MAX); /* some were known from before */
    ck_assert_uint_le(told, OBJECT_REASONS_MAX + 8);
    ck_assert_uint_gt(sent_on, 0);
    ck_assert_int_eq(get("/v1/vms?limit=1000&fields=status.phase"), 200);
    ck_assert_ptr_null(strstr(reply.body, "reason"));
}
END_TEST

int main(void)
{
    TCase *tests;
    Suite *suite = http_suite("object_view", &tests);
    tcase_add_test(tests, what_is_asked_for_is_shown_alone);
    tcase_add_test(tests, a_whole_part_is_as_in_the_whole_document);
    tcase_add_test(tests, fields_that_are_not_there_are_refused);
    tcase_add_test(tests, many_of_one_kind_that_wait_all_say_why);
    tcase_add_test(tests, an_answer_looks_at_the_hosts_for_few_kinds);
    return test_main_run(suite);
}
