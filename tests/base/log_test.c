/* Each test sends stderr to a file and reads the lines back. */
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/log.h"
#include "support/temp_dir.h"
#include "support/test_main.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct temp_dir dir;
static int saved_stderr = -1;
static char *logged;

static void setup(void)
{
    temp_dir_init(&dir);
    CLEANUP_FREE char *path = temp_dir_path(&dir, "log");
    saved_stderr = dup(STDERR_FILENO);
    CLEANUP_FD int fd =
        fd_open_at(AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND, 0600, NULL);
    ck_assert_int_ge(dup2(fd, STDERR_FILENO), 0);
    log_setup(LOG_LEVEL_INFO, false);
}

static void teardown(void)
{
    (void)dup2(saved_stderr, STDERR_FILENO);
    fd_close(&saved_stderr);
    free(logged);
    temp_dir_fini(&dir);
}

/* What was logged so far, without the time of the first line. */
static const char *log_text(void)
{
    free(logged);
    logged = temp_dir_read(&dir, "log");
    ck_assert_ptr_nonnull(logged);
    const char *space = strchr(logged, ' ');
    return space != NULL ? space + 1 : logged;
}

/* The one line that was logged, as JSON. */
static json_t *log_document(void)
{
    struct err err = {0};
    json_t *document = NULL;
    (void)log_text();
    ck_assert_ptr_eq(strchr(logged, '\n'), logged + strlen(logged) - 1);
    ck_assert_msg(json_parse(logged, strlen(logged), &document, &err) == 0, "%s in %s",
                  err.text, logged);
    return document;
}

START_TEST(a_line_has_level_room_sentence_and_values)
{
    log_info("agent", "vm started", KV_STR("vm", "web-3"), KV_U64("boot_ms", 5),
             KV_I64("delta", -7), KV_BOOL("warm", true), KV_HEX("flags", 255));
    ck_assert_str_eq(log_text(),
                     "info agent: vm started vm=web-3 boot_ms=5 delta=-7 warm=true "
                     "flags=0xff\n");
}
END_TEST

START_TEST(a_line_may_have_no_values)
{
    log_warn("agent", "alone");
    ck_assert_str_eq(log_text(), "warn agent: alone\n");
    ck_assert_uint_eq(strcspn(logged, " "), 24); /* the time */
}
END_TEST

START_TEST(lines_below_the_level_are_dropped)
{
    log_setup(LOG_LEVEL_ERROR, false);
    log_warn("agent", "not this");
    log_error("agent", "this");
    ck_assert_str_eq(log_text(), "error agent: this\n");
    ck_assert(!log_enabled(LOG_LEVEL_WARN));
    ck_assert(log_enabled(LOG_LEVEL_ERROR));
}
END_TEST

START_TEST(the_host_is_on_every_line)
{
    log_set_host("host-1");
    log_info("agent", "a", KV_U64("n", 1));
    ck_assert_str_eq(log_text(), "info agent: a host=host-1 n=1\n");
}
END_TEST

struct escape_row {
    const char *value;
    const char *text;
};

static const struct escape_row escape_rows[] = {
    {NULL, "-"},
    {"", "\"\""},
    {"plain-/:.@x", "plain-/:.@x"},
    {"two words", "\"two words\""},
    {"a=b", "\"a=b\""},
    {"say \"hi\" \\", "\"say \\\"hi\\\" \\\\\""},
    {"x\ninfo agent: forged", "\"x\\ninfo agent: forged\""},
    {"\x1b[31m", "\"\\x1b[31m\""},
    {"\r\x7f", "\"\\x0d\\x7f\""},
    {"gr\xc3\xbc\xc3\x9f", "\"gr\xc3\xbc\xc3\x9f\""},
    {"\xf0\x9f\x98\x80", "\"\xf0\x9f\x98\x80\""},
    {"\xff", "\"\\xff\""},
    {"cut\xe2\x82", "\"cut\\xe2\\x82\""},
    {"\xc2\x9b", "\"\\xc2\\x9b\""},          /* C1: a terminal's escape */
    {"\xe2\x80\xae", "\"\\xe2\\x80\\xae\""}, /* turns the writing direction */
    {"\xe2\x80\xa8", "\"\\xe2\\x80\\xa8\""}, /* line separator */
    {"\xc0\xaf", "\"\\xc0\\xaf\""},          /* overlong */
    {"\xed\xa0\x80", "\"\\xed\\xa0\\x80\""}, /* surrogate */
    {"\xf4\x90\x80\x80", "\"\\xf4\\x90\\x80\\x80\""},
};

START_TEST(foreign_text_cannot_forge_a_line)
{
    log_info("agent", "s", KV_STR("v", escape_rows[_i].value));
    ck_assert_ptr_nonnull(strstr(log_text(), " v="));
    CLEANUP_FREE char *expected = NULL;
    ck_assert_int_gt(asprintf(&expected, "info agent: s v=%s\n", escape_rows[_i].text),
                     0);
    ck_assert_str_eq(log_text(), expected);
}
END_TEST

START_TEST(json_lines_are_valid_whatever_the_value)
{
    log_setup(LOG_LEVEL_INFO, true);
    log_info("agent", "s", KV_STR("v", escape_rows[_i].value), KV_U64("n", 3));
    json_t *document = log_document();
    ck_assert_str_eq(json_member_text(document, "level", ""), "info");
    ck_assert_str_eq(json_member_text(document, "room", ""), "agent");
    ck_assert_str_eq(json_member_text(document, "message", ""), "s");
    ck_assert_uint_eq(json_member_u64(document, "n", 0), 3);
    ck_assert_ptr_nonnull(json_member_text(document, "v", NULL));
    ck_assert_uint_eq(strlen(json_member_text(document, "time", "")), 24);
    json_decref(document);
}
END_TEST

START_TEST(json_keeps_the_kinds_of_values)
{
    log_setup(LOG_LEVEL_INFO, true);
    log_set_host("h");
    log_info("agent", "s", KV_BOOL("b", true), KV_I64("i", -1), KV_HEX("x", 16));
    json_t *document = log_document();
    ck_assert(json_is_true(json_object_get(document, "b")));
    ck_assert_int_eq(json_integer_value(json_object_get(document, "i")), -1);
    ck_assert_str_eq(json_member_text(document, "x", ""), "0x10");
    ck_assert_str_eq(json_member_text(document, "host", ""), "h");
    json_decref(document);
}
END_TEST

/* Every length of value around the limit, so that each place where a line can break is
 * met. */
START_TEST(a_long_line_is_cut_marked_and_still_one_line)
{
    bool is_json = _i != 0;
    char value[LOG_LINE_MAX + 100];
    log_setup(LOG_LEVEL_INFO, is_json);
    for (size_t size = LOG_LINE_MAX - 160; size < sizeof(value) - 1; size++) {
        memset(value, size % 2 == 0 ? 'x' : '\n', size);
        value[size] = '\0';
        CLEANUP_FREE char *path = temp_dir_path(&dir, "log");
        ck_assert_int_eq(truncate(path, 0), 0);
        log_info("agent", "s", KV_STR("v", value), KV_U64("after", 12345),
                 KV_BOOL("b", true));
        (void)log_text();
        size_t length = strlen(logged);
        ck_assert_uint_le(length, LOG_LINE_MAX);
        ck_assert_ptr_eq(strchr(logged, '\n'), logged + length - 1);
        bool is_cut = strstr(logged, is_json ? "\"cut\":true}\n" : " cut=true\n") != NULL;
        bool is_whole =
            strstr(logged, is_json ? "12345,\"b\":true}\n" : "12345 b=true\n") != NULL;
        ck_assert_int_ne(is_cut, is_whole);
        if (is_json) {
            json_decref(log_document());
        }
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("log");
    TCase *tcase = tcase_create("log");
    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, a_line_has_level_room_sentence_and_values);
    tcase_add_test(tcase, a_line_may_have_no_values);
    tcase_add_test(tcase, lines_below_the_level_are_dropped);
    tcase_add_test(tcase, the_host_is_on_every_line);
    tcase_add_loop_test(tcase, foreign_text_cannot_forge_a_line, 0,
                        ARRAY_COUNT(escape_rows));
    tcase_add_loop_test(tcase, json_lines_are_valid_whatever_the_value, 0,
                        ARRAY_COUNT(escape_rows));
    tcase_add_test(tcase, json_keeps_the_kinds_of_values);
    tcase_add_loop_test(tcase, a_long_line_is_cut_marked_and_still_one_line, 0, 2);
    suite_add_tcase(suite, tcase);
    return test_main_run(suite);
}
