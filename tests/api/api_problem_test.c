/* Goal: whatever is refused, the client gets a whole problem document with the status it
 * can act on. */
#include "api/api_problem.h"
#include "base/cleanup.h"
#include "support/test_main.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const int codes[] = {
#define CODE(code, number, class, sentence) code,
    BERTH_ERRORS(CODE)
#undef CODE
};

START_TEST(each_code_has_a_status_of_its_class)
{
    int code = codes[_i];
    int status = problem_status(code);

    ck_assert_int_ge(status, 400);
    ck_assert_int_lt(status, 600);
    if (code == BERTH_EBUG) {
        ck_assert_int_eq(status, 500);
    } else {
        ck_assert_msg(status != 500, "%s has no row", err_name(code));
    }
    if (err_class(code) == ERR_CLASS_USER) {
        ck_assert_int_lt(status, 500);
    }
}
END_TEST

static const struct expected {
    int code;
    int status;
} table[] = {
    {BERTH_ENOTFOUND, 404},   {BERTH_EAUTH, 401},    {BERTH_EFORBIDDEN, 403},
    {BERTH_ECONFLICT, 409},   {BERTH_EINVALID, 422}, {BERTH_ENOLEADER, 503},
    {BERTH_EUNKNOWN, 504},    {BERTH_EFULL, 429},    {BERTH_ETOOLARGE, 413},
    {BERTH_EPROTO, 400},      {-ENOMEM, 503},        {-ENOSPC, 507},
    {-EIO, 500} /* no row */,
};

START_TEST(clients_find_the_status_that_http_means)
{
    ck_assert_int_eq(problem_status(table[_i].code), table[_i].status);
}
END_TEST

START_TEST(a_document_says_what_why_and_what_next)
{
    json_t *document = problem_document(
        &(struct problem){.code = BERTH_ECONFLICT, .detail = "web is at 7"}, "r-1");

    ck_assert_str_eq(json_member_text(document, "type", ""), "about:blank");
    ck_assert_str_eq(json_member_text(document, "code", ""), "BERTH_ECONFLICT");
    ck_assert_uint_eq(json_member_u64(document, "status", 0), 409);
    ck_assert_str_eq(json_member_text(document, "detail", ""), "web is at 7");
    ck_assert_str_eq(json_member_text(document, "requestId", ""), "r-1");
    ck_assert_str_eq(json_member_text(document, "hint", ""), "get it again, then decide");
    ck_assert_ptr_null(json_object_get(document, "errors"));
    json_decref(document);
}
END_TEST

START_TEST(a_status_of_its_own_has_its_title_and_not_the_codes_hint)
{
    json_t *document =
        problem_document(&(struct problem){.code = BERTH_ECONFLICT, .status = 412}, NULL);

    ck_assert_uint_eq(json_member_u64(document, "status", 0), 412);
    ck_assert_str_eq(json_member_text(document, "title", ""), "Precondition not met");
    ck_assert_str_eq(json_member_text(document, "detail", ""),
                     err_sentence(BERTH_ECONFLICT));
    ck_assert_ptr_null(json_object_get(document, "hint"));
    ck_assert_ptr_null(json_object_get(document, "requestId"));
    json_decref(document);
}
END_TEST

START_TEST(errors_and_extra_members_are_taken_but_replace_nothing)
{
    json_t *extra = json_pack("{s:i, s:s}", "status", 200, "more", "yes");
    struct problem problem = {.code = BERTH_EINVALID,
                              .errors = json_pack("[{s:s}]", "pointer", "/spec"),
                              .extra = extra,
                              .hint = "see above"};
    json_t *document = problem_document(&problem, NULL);

    ck_assert_uint_eq(json_member_u64(document, "status", 0), 422);
    ck_assert_str_eq(json_member_text(document, "more", ""), "yes");
    ck_assert_str_eq(json_member_text(document, "hint", ""), "see above");
    ck_assert_uint_eq(json_array_size(json_object_get(document, "errors")), 1);
    json_decref(document);
}
END_TEST

START_TEST(foreign_bytes_do_not_cost_the_detail_its_place)
{
    json_t *document = problem_document(
        &(struct problem){.code = BERTH_EINVALID, .detail = "\xff\xfe"}, "\xc3");

    ck_assert_str_eq(json_member_text(document, "detail", ""), "(not printable)");
    ck_assert_str_eq(json_member_text(document, "requestId", ""), "(not printable)");
    json_decref(document);
}
END_TEST

/* ---- the answer ---- */

static char head[512]; /* "status type|Name: value|..." */
static char body[1024];
static size_t body_size;
static int ends;

static void take_head(void *sink,
                      int status,
                      const char *type,
                      const struct exchange_header *headers,
                      unsigned count)
{
    (void)sink;
    int used = snprintf(head, sizeof(head), "%d %s|", status, type);
    for (unsigned i = 0; i < count; i++) {
        used += snprintf(head + used, sizeof(head) - (size_t)used, "%s: %s|",
                         headers[i].name, headers[i].value);
    }
}

static int take_data(void *sink, const void *data, size_t size)
{
    (void)sink;
    size_t used = strlen(body);
    body_size += size;
    snprintf(body + used, sizeof(body) - used, "%.*s", (int)size, (const char *)data);
    return 0;
}

static void take_end(void *sink)
{
    (void)sink;
    ends++;
}

static void take_released(void *sink)
{
    (void)sink;
}

static const struct exchange_sink ops = {.head = take_head,
                                         .data = take_data,
                                         .end = take_end,
                                         .released = take_released};

static const struct answer {
    struct problem problem;
    const char *request_id;
    const char *head;
} answers[] = {
    {{.code = BERTH_EAUTH}, NULL, "401 |Berth-Revision: 9|WWW-Authenticate: Bearer|"},
    {{.code = BERTH_ENOLEADER}, NULL, "503 |Berth-Revision: 9|Retry-After: 1|"},
    {{.code = BERTH_EFULL},
     "r",
     "429 |Berth-Revision: 9|X-Request-Id: r|Retry-After: 1|"},
    {{.code = BERTH_EUNSUPPORTED, .status = 405, .allow = "GET, PUT"},
     "r",
     "405 |Berth-Revision: 9|X-Request-Id: r|Allow: GET, PUT|"},
    {{.code = BERTH_ENOTFOUND}, NULL, "404 |Berth-Revision: 9|"},
};

START_TEST(an_answer_has_the_headers_of_its_status_and_ends)
{
    const struct answer *row = &answers[_i];
    struct exchange_request request = {.method = "GET", .path = strdup("/v1/vms")};
    request.request_id = row->request_id != NULL ? strdup(row->request_id) : NULL;
    struct exchange *exchange = exchange_new(&request, &ops, NULL);
    char wanted[512];

    problem_answer(exchange, &row->problem, 9);
    snprintf(wanted, sizeof(wanted),
             "%.3s application/problem+json|Content-Length: %zu%s", row->head,
             strlen(body), row->head + 4);
    ck_assert_str_eq(head, wanted);
    ck_assert_int_eq(ends, 1);
    json_t *document = NULL;
    ck_assert_int_eq(json_parse(body, strlen(body), &document, NULL), 0);
    snprintf(wanted, sizeof(wanted), "%d", (int)json_member_u64(document, "status", 0));
    ck_assert_int_eq(strncmp(wanted, row->head, 3), 0);
    ck_assert_int_eq(body[strlen(body) - 1], '\n');
    json_decref(document);
    exchange_unref(exchange);
}
END_TEST

/* Of a refusal that repeats so many times 64 KiB; the body's size. */
static size_t answer_with(unsigned times)
{
    struct exchange_request request = {.method = "POST", .path = strdup("/v1/apply")};
    struct exchange *exchange = exchange_new(&request, &ops, NULL);
    static char text[(64u << 10) - 2]; /* two quotes, a comma, the NUL */
    memset(text, 'x', sizeof(text) - 1);
    json_t *piece = json_string(text);
    json_t *results = json_array();
    for (unsigned i = 0; i < times; i++) {
        json_array_append(results, piece);
    }
    json_decref(piece);
    json_t *extra = json_pack("{s:o}", "results", results);
    body[0] = '\0';
    body_size = 0;
    ends = 0;
    problem_answer(
        exchange,
        &(struct problem){.code = BERTH_EQUOTA, .detail = "too many", .extra = extra}, 9);
    ck_assert_int_eq(ends, 1);
    exchange_unref(exchange);
    return body_size;
}

/* Else a refusal that repeats large objects would end the daemon. */
START_TEST(what_is_too_large_for_an_answer_is_said_in_short)
{
    const unsigned limit = EXCHANGE_ANSWER_MAX / (64u << 10);
    ck_assert_uint_gt(answer_with(1), 64u << 10);
    ck_assert_int_eq(strncmp(head, "409 ", 4), 0);

    ck_assert_uint_lt(answer_with(limit), sizeof(body)); /* the rest of it is too much */
    ck_assert_int_eq(strncmp(head, "413 ", 4), 0);
    json_t *document = NULL;
    ck_assert_int_eq(json_parse(body, body_size, &document, NULL), 0);
    ck_assert_str_eq(json_member_text(document, "code", ""), "BERTH_ETOOLARGE");
    ck_assert_ptr_nonnull(strstr(json_member_text(document, "detail", ""), "too many"));
    ck_assert_ptr_null(json_object_get(document, "results"));
    json_decref(document);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("api_problem");
    TCase *tests = tcase_create("api_problem");
    tcase_add_loop_test(tests, each_code_has_a_status_of_its_class, 0,
                        ARRAY_COUNT(codes));
    tcase_add_loop_test(tests, clients_find_the_status_that_http_means, 0,
                        ARRAY_COUNT(table));
    tcase_add_test(tests, a_document_says_what_why_and_what_next);
    tcase_add_test(tests, a_status_of_its_own_has_its_title_and_not_the_codes_hint);
    tcase_add_test(tests, errors_and_extra_members_are_taken_but_replace_nothing);
    tcase_add_test(tests, foreign_bytes_do_not_cost_the_detail_its_place);
    tcase_add_loop_test(tests, an_answer_has_the_headers_of_its_status_and_ends, 0,
                        ARRAY_COUNT(answers));
    tcase_add_test(tests, what_is_too_large_for_an_answer_is_said_in_short);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
