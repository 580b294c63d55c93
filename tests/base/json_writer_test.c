/* Goal: what is written is what jansson would print of the same tree.
 * Method: values one by one and nested, and every byte in a text. */
#include "base/cleanup.h"
#include "base/err.h"
#include "base/json_writer.h"
#include "support/test_main.h"

#include <errno.h>
#include <string.h>

static char *taken(struct bytes_writer *out)
{
    char *text = NULL;
    ck_assert_int_eq(bytes_writer_take_text(out, &text), 0);
    return text;
}

START_TEST(commas_and_colons_come_by_themselves)
{
    struct bytes_writer out;
    struct json_writer writer;
    json_t *tree = json_pack("{s:[i,n], s:{}}", "x", 1, "y");
    bytes_writer_init(&out, 4096);
    json_writer_init(&writer, &out);
    json_write_begin(&writer, '{');
    json_write_key(&writer, "a");
    json_write_begin(&writer, '[');
    json_write_u64(&writer, 0);
    json_write_u64(&writer, UINT64_MAX);
    json_write_bool(&writer, true);
    json_write_bool(&writer, false);
    json_write_null(&writer);
    json_write_end(&writer, ']');
    json_write_key(&writer, "b");
    json_write_begin(&writer, '{');
    json_write_end(&writer, '}');
    json_write_key(&writer, "c");
    json_write_tree(&writer, tree);
    json_write_key(&writer, "d");
    json_write_quote(&writer);
    bytes_write_format(&out, "%dMiB", 64);
    json_write_unquote(&writer);
    json_write_key(&writer, "e");
    json_write_text(&writer, NULL);
    json_write_end(&writer, '}');
    CLEANUP_FREE char *text = taken(&out);
    ck_assert_str_eq(text, "{\"a\":[0,18446744073709551615,true,false,null],\"b\":{},"
                           "\"c\":{\"x\":[1,null],\"y\":{}},\"d\":\"64MiB\",\"e\":\"\"}");
    json_decref(tree);
}
END_TEST

START_TEST(every_character_is_written_as_jansson_does)
{
    struct bytes_writer out;
    struct json_writer writer;
    char text[3] = {'a', (char)_i, 'z'};
    json_t *object = json_object();
    json_t *value = json_stringn(text, sizeof(text));
    bytes_writer_init(&out, 4096);
    json_writer_init(&writer, &out);
    json_write_begin(&writer, '{');
    if (_i > 0) { /* a key is a C string */
        char key[2] = {(char)_i, '\0'};
        json_write_key(&writer, key);
        json_object_set_new(object, key, json_string("of it"));
        json_write_text(&writer, "of it");
    }
    json_write_key(&writer, "value");
    json_write_bytes(&writer, text, sizeof(text));
    json_write_end(&writer, '}');
    json_object_set_new(object, "value", value);
    CLEANUP_FREE char *written = taken(&out);
    CLEANUP_FREE char *printed = json_text(object);
    ck_assert_str_eq(written, printed);
    json_decref(object);
}
END_TEST

START_TEST(what_is_no_utf8_is_a_question_mark)
{
    struct bytes_writer out;
    struct json_writer writer;
    bytes_writer_init(&out, 4096);
    json_writer_init(&writer, &out);
    json_write_bytes(&writer, "\xc3\xa4\xff\xe2\x82", 5);
    CLEANUP_FREE char *text = taken(&out);
    ck_assert_str_eq(text, "\"\xc3\xa4???\"");
}
END_TEST

START_TEST(a_tree_that_is_missing_is_a_lack_of_memory)
{
    struct bytes_writer out;
    struct json_writer writer;
    char *text = NULL;
    bytes_writer_init(&out, 4096);
    json_writer_init(&writer, &out);
    json_write_tree(&writer, NULL);
    ck_assert_int_eq(bytes_writer_take_text(&out, &text), -ENOMEM);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("json_writer");
    TCase *tcase = tcase_create("json_writer");
    tcase_add_test(tcase, commas_and_colons_come_by_themselves);
    tcase_add_loop_test(tcase, every_character_is_written_as_jansson_does, 0, 128);
    tcase_add_test(tcase, what_is_no_utf8_is_a_question_mark);
    tcase_add_test(tcase, a_tree_that_is_missing_is_a_lack_of_memory);
    suite_add_tcase(suite, tcase);
    return test_main_run(suite);
}
