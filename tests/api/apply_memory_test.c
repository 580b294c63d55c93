/* Goal: a machine is not given less memory than its image says it boots with, whichever
 * of the two comes first. Method: requests over HTTP, what is there already and what is
 * new in every order. */
#include "http_fixture.h"

#define OBJECT(kind, meta, spec) \
    "{\"apiVersion\":\"berth/v1\",\"kind\":\"" kind "\",\"metadata\":{" meta "}" spec "}"
#define TEMPLATE(size)                       \
    OBJECT("Template", "\"name\":\"small\"", \
           ",\"spec\":{\"image\":\"big\",\"memory\":{\"size\":\"" size "\"}}")
#define IMAGE_OF(meta, memory)                                                          \
    OBJECT("Image", "\"name\":\"big\"" meta,                                            \
           ",\"spec\":{\"minMemory\":\"" memory                                         \
           "\",\"artifacts\":[{\"role\":\"kernel\",\"url\":\"https://x/k\",\"sha256\":" \
           "\"1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a\"}]}")
#define IMAGE(memory) IMAGE_OF("", memory)

static int apply(const char *query, const char *objects)
{
    char path[64];
    char body[4096];
    snprintf(path, sizeof(path), "/v1/apply%s", query);
    snprintf(body, sizeof(body), "{\"objects\":[%s]}", objects);
    return ask("POST", path, "", body);
}

static void assert_refused(const char *pointer, const char *message, const char *hint)
{
    assert_problem(422, "BERTH_EINVALID");
    json_t *errors = json_object_get(reply.document, "errors");
    json_t *error = json_array_get(errors, 0);
    ck_assert_uint_eq(json_array_size(errors), 1);
    ck_assert_str_eq(json_member_text(error, "pointer", ""), pointer);
    ck_assert_str_eq(json_member_text(error, "message", ""), message);
    ck_assert_contains(json_member_text(error, "hint", ""), hint);
}

#define TOO_LITTLE                                                       \
    "spec.memory.size: 64MiB is less than image big needs to boot: its " \
    "spec.minMemory is 96MiB"

START_TEST(both_in_one_request_are_refused_at_the_template_and_nothing_is_written)
{
    static const char *const queries[] = {"?dryRun=validate", "?dryRun=plan", ""};
    for (size_t i = 0; i < sizeof(queries) / sizeof(queries[0]); i++) {
        (void)apply(queries[i], IMAGE("96MiB") "," TEMPLATE("64MiB"));
        assert_refused("/objects/1/spec/memory/size", TOO_LITTLE, "96MiB or more");
        ck_assert_int_eq(get("/v1/images/big"), 404);
    }
    ck_assert_int_eq(apply("", IMAGE("96MiB") "," TEMPLATE("96MiB")), 200);
}
END_TEST

START_TEST(a_template_meets_the_image_that_is_there)
{
    ck_assert_int_eq(apply("", IMAGE("96MiB")), 200);

    (void)apply("", TEMPLATE("64MiB"));
    assert_refused("/objects/0/spec/memory/size", TOO_LITTLE, "96MiB or more");
    (void)ask("PUT", "/v1/tenants/default/templates/small", "", TEMPLATE("64MiB"));
    assert_problem(422, "BERTH_EINVALID");
    ck_assert_contains(said("detail"), TOO_LITTLE);
    ck_assert_int_eq(get("/v1/tenants/default/templates/small"), 404);
}
END_TEST

START_TEST(an_image_meets_the_templates_that_are_there)
{
    ck_assert_int_eq(apply("", IMAGE("64MiB") "," TEMPLATE("64MiB")), 200);

    (void)apply("", IMAGE("96MiB"));
    assert_refused("/objects/0/spec/minMemory",
                   "spec.minMemory: template small of tenant default boots this image "
                   "with 64MiB, less than 96MiB",
                   "apply the template");
    ck_assert_int_eq(apply("", IMAGE("96MiB") "," TEMPLATE("128MiB")), 200);
}
END_TEST

START_TEST(the_image_of_the_tenant_itself_counts)
{
    ck_assert_int_eq(
        apply("", IMAGE("96MiB") "," IMAGE_OF(",\"tenant\":\"default\"", "64MiB")), 200);
    ck_assert_int_eq(apply("", TEMPLATE("64MiB")), 200);
    ck_assert_int_eq(apply("", IMAGE("128MiB")), 200); /* not what it boots */
    (void)apply("", IMAGE_OF(",\"tenant\":\"default\"", "96MiB"));
    assert_problem(422, "BERTH_EINVALID");
}
END_TEST

/* As a release did that does not ask. */
static void image_wants_more(struct served *server, void *context)
{
    struct state *state = served_state(server);
    struct image *image = object_new(KIND_IMAGE);
    struct command command;
    struct apply_result result;
    (void)context;
    ck_assert_int_eq(record_copy(kind_info(KIND_IMAGE)->record,
                                 state_get(state, KIND_IMAGE, "", "big"), image),
                     0);
    image->spec.memory_bytes = UINT64_C(96) << 20;
    command_init(&command, COMMAND_PUT);
    (void)snprintf(command.subject, sizeof(command.subject), "system");
    ck_assert_int_eq(command_set_put(&command, KIND_IMAGE, image, REVISION_ANY), 0);
    object_free(KIND_IMAGE, image);
    state_apply(state, &command, &result);
    ck_assert_msg(result.code == 0, "%s", result.text);
    command_fini(&command);
}

/* As after a release that did not ask: nobody's other changes wait for it. */
START_TEST(a_template_that_lacks_already_is_in_nobodys_way)
{
    ck_assert_int_eq(apply("", IMAGE("32MiB") "," TEMPLATE("64MiB")), 200);
    served_do(served, image_wants_more, NULL);

    ck_assert_int_eq(apply("", TEMPLATE("64MiB")), 200);
    ck_assert_int_eq(apply("", TEMPLATE("80MiB")), 200);
    (void)apply("", TEMPLATE("64MiB"));
    assert_problem(422, "BERTH_EINVALID");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("apply_memory");
    TCase *tests = tcase_create("apply_memory");
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, fixture_start, fixture_stop);
    tcase_add_test(
        tests, both_in_one_request_are_refused_at_the_template_and_nothing_is_written);
    tcase_add_test(tests, a_template_meets_the_image_that_is_there);
    tcase_add_test(tests, an_image_meets_the_templates_that_are_there);
    tcase_add_test(tests, the_image_of_the_tenant_itself_counts);
    tcase_add_test(tests, a_template_that_lacks_already_is_in_nobodys_way);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
