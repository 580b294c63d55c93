/* Goal: documents come one by one, whatever stands around them; codes are explained.
 * Method: texts and the documents they hold; the tables against docs/errors.md. */
#include "config/yaml_reader.h"
#include "config_fixture.h"
#include "support/test_main.h"

#include <stdio.h>

#define ERRORS_PAGE BERTH_SOURCE_DIR "/docs/errors.md"

struct parts_row {
    const char *text;
    const char *documents; /* first scalar of each that can be walked, and its line */
    unsigned errors;
};

static const struct parts_row parts_rows[] = {
    {"", "", 0},
    {"a", "a@1 ", 0},
    {"---\na\n---\nb\n", "a@2 b@4 ", 0},
    {"# c\n\n---\na\n", "a@4 ", 0},
    {"--- a\n--- b", "a@1 b@2 ", 0},
    {"a\r\n---\r\nb\r\n", "a@1 b@3 ", 0},
    {"a\r---\rb\r", "a@1 b@3 ", 0},
    {"a\n...\n# c\nb\n", "a@1 b@4 ", 0},
    {"a\n...\n...\n---\nb\n", "a@1 b@5 ", 0},
    {"a\n... # end\nb\n", "a@1 b@3 ", 0},
    {"a\n... b\n---\nc\n", "c@4 ", 1},
    {"%YAML 1.2\n---\na\n", "a@3 ", 0},
    {"a\n...\n%YAML 1.2\n---\nb\n", "a@1 b@5 ", 0},
    {"a\n---\n%YAML 1.2\n---\nb\n", "a@1 b@5 ", 1},
    {"---\n---\n", "@2 @3 ", 0},
    {"a---b\n ---\n", "a---b ---@1 ", 0},
    {"----\n---x\n", "---- ---x@1 ", 0},
    {"\"a\n---\nb\n", "b@3 ", 1},
    {"[\n---\n]\n---\nc\n", "c@5 ", 2},
    {"a\n---\n*b\n---\nc\n", "a@1 c@5 ", 1},
    {"&a b\n---\n!t c\n", "b@1 c@3 ", 2},
    {"a: \"\xff\"\n---\nb\n", "b@3 ", 1},
    {"a\xc2\x85---\xe2\x80\xa8"
     "b\n",
     "a@1 b@3 ", 0},
};

START_TEST(documents_come_one_by_one)
{
    const struct parts_row *row = &parts_rows[_i];
    struct config_fault kept[CONFIG_FAULTS_MAX];
    struct fault_list faults = {.faults = kept};
    struct yaml_reader reader;
    yaml_document_t document;
    char *found = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&found, &size);
    int r;
    /* without the NUL behind it, so that a sanitizer sees a byte too many */
    CLEANUP_FREE char *exact = malloc(strlen(row->text) + 1);
    memcpy(exact, row->text, strlen(row->text));
    exact = realloc(exact, strlen(row->text) > 0 ? strlen(row->text) : 1);

    yaml_reader_init(&reader, exact, strlen(row->text));
    while ((r = yaml_reader_next(&reader, &faults, &document)) > 0) {
        const yaml_node_t *root = yaml_document_get_root_node(&document);
        ck_assert_int_eq(root->type, YAML_SCALAR_NODE);
        (void)fprintf(stream, "%s@%lu ", (const char *)root->data.scalar.value,
                      faults.first_line + root->start_mark.line + 1);
        yaml_document_delete(&document);
    }
    ck_assert_int_eq(fclose(stream), 0);

    ck_assert_int_eq(r, 0);
    ck_assert_str_eq(found, row->documents);
    ck_assert_uint_eq(faults.error_count, row->errors);
    free(found);
}
END_TEST

static const char *const printable_rows[][2] = {
    {"plain text", "plain text"},
    {"tab\tand\nline", "tab?and?line"},
    {"\x1b[31mred", "?[31mred"},
    {"\x7f", "?"},
    {"Gr\xc3\xb6\xc3\x9f"
     "e",
     "Gr\xc3\xb6\xc3\x9f"
     "e"},
    {"c1 \xc2\x9b|", "c1 ?|"},
    {"nbsp\xc2\xa0|", "nbsp\xc2\xa0|"},
    {"turn \xe2\x80\xae|", "turn ?|"},
    {"turn \xe2\x81\xa6|", "turn ?|"},
    {"dash \xe2\x80\x93|", "dash \xe2\x80\x93|"},
    {"bad \xff|", "bad ?|"},
    {"bad \xf6\xdf|", "bad ??|"},
    {"stray \x80\x80|", "stray ?|"},
    {"cut \xe6\x9d", "cut "},
    {"cut \xf0\x9f\x98", "cut "},
    {"whole \xf0\x9f\x98\x80", "whole \xf0\x9f\x98\x80"},
};

START_TEST(foreign_text_is_made_printable)
{
    char text[64];
    (void)snprintf(text, sizeof(text), "%s", printable_rows[_i][0]);
    text_make_printable(text, '?');
    ck_assert_str_eq(text, printable_rows[_i][1]);
}
END_TEST

START_TEST(a_fault_says_where_in_the_file_it_is)
{
    struct config_fault kept[CONFIG_FAULTS_MAX];
    struct fault_list faults = {.faults = kept, .first_line = 10};
    fault_add(&faults, CONFIG_VALUE, (yaml_mark_t){.line = 2, .column = 4}, 0, "hint",
              "%s is wrong", "size");
    ck_assert_uint_eq(faults.count, 1);
    ck_assert_uint_eq(kept[0].line, 13);
    ck_assert_uint_eq(kept[0].column, 5);
    ck_assert_uint_eq(kept[0].width, 1);
    ck_assert_str_eq(kept[0].code, "BE1107");
    ck_assert_str_eq(kept[0].message, "size is wrong");
    ck_assert_str_eq(kept[0].hint, "hint");
}
END_TEST

START_TEST(what_does_not_fit_is_counted)
{
    struct config_fault kept[CONFIG_FAULTS_MAX];
    struct fault_list faults = {.faults = kept};
    for (unsigned i = 0; i < CONFIG_FAULTS_MAX + 3; i++) {
        fault_add(&faults, CONFIG_UNKNOWN, (yaml_mark_t){0}, 1, NULL, "%u", i);
    }
    ck_assert_uint_eq(faults.count, CONFIG_FAULTS_MAX);
    ck_assert_uint_eq(faults.error_count, CONFIG_FAULTS_MAX + 3);
    ck_assert_str_eq(kept[CONFIG_FAULTS_MAX - 1].message, "49");
}
END_TEST

/* "| `CODE` | sentence |" begins the code's row. */
static bool explains(const char *page, const char *code, const char *sentence)
{
    char row[256];
    (void)snprintf(row, sizeof(row), "\n| `%s` | %s |", code, sentence);
    return strstr(page, row) != NULL;
}

static unsigned rows_of(const char *page, const char *start)
{
    unsigned count = 0;
    while ((page = strstr(page, start)) != NULL) {
        count++;
        page++;
    }
    return count;
}

START_TEST(every_code_is_explained)
{
    static const struct {
        const char *name;
        const char *sentence;
    } rows[] = {
#define ERROR_ROW(code, number, class, sentence) {#code, sentence},
        BERTH_ERRORS(ERROR_ROW)
#undef ERROR_ROW
    };
    size_t size = 0;
    CLEANUP_FREE char *page = fixture_file(ERRORS_PAGE, &size);
    ck_assert_ptr_nonnull(page);
    for (int code = 0; code < CONFIG_CODE_COUNT; code++) {
        const char *text = config_code_text((enum config_code)code);
        const char *sentence = config_code_sentence((enum config_code)code);
        ck_assert_msg(explains(page, text, sentence), "docs/errors.md: %s, \"%s\"", text,
                      sentence);
    }
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        ck_assert_msg(explains(page, rows[i].name, rows[i].sentence),
                      "docs/errors.md: %s, \"%s\"", rows[i].name, rows[i].sentence);
    }
    ck_assert_uint_eq(rows_of(page, "\n| `BE1"), CONFIG_CODE_COUNT);
    ck_assert_uint_eq(rows_of(page, "\n| `BERTH_E"), ARRAY_COUNT(rows));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("yaml_reader");
    TCase *tests = tcase_create("yaml_reader");
    tcase_add_loop_test(tests, documents_come_one_by_one, 0, ARRAY_COUNT(parts_rows));
    tcase_add_loop_test(tests, foreign_text_is_made_printable, 0,
                        ARRAY_COUNT(printable_rows));
    tcase_add_test(tests, a_fault_says_where_in_the_file_it_is);
    tcase_add_test(tests, what_does_not_fit_is_counted);
    tcase_add_test(tests, every_code_is_explained);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
