/* Goal: docs/yaml.md says what the tables say. BERTH_WRITE_DOCS=1 writes it anew. */
#include "config_fixture.h"
#include "support/test_main.h"

#include <stdio.h>

static char *reference(void)
{
    char *text = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&text, &size);
    config_reference(stream);
    ck_assert_int_eq(fclose(stream), 0);
    return text;
}

START_TEST(the_page_is_up_to_date)
{
    CLEANUP_FREE char *text = reference();
    fixture_check_golden(BERTH_SOURCE_DIR "/docs/yaml.md", text);
}
END_TEST

START_TEST(fields_have_their_type_default_and_meaning)
{
    static const char *const rows[] = {
        "\n| `spec.cpu.count` | number, 1 to 64 | `1` | virtual CPUs |\n",
        "\n| `spec.memory.size` | size, 32MiB to 4TiB | required | guest memory |\n",
        "\n| `spec.engine` | `auto`, `qemu`, `kvm`, `fake` | `auto` | who runs it |\n",
        "\n| `spec.nics[].name` | name | required | name inside the VM |\n",
        "\n| `spec.quota.cpu` | CPUs | `unlimited` | virtual CPUs |\n",
        "\n| `metadata.labels` | mapping of texts, at most 64 |  | key/values to select "
        "by "
        "|\n",
    };
    CLEANUP_FREE char *text = reference();
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        ck_assert_msg(strstr(text, rows[i]) != NULL, "missing: %s", rows[i]);
    }
}
END_TEST

START_TEST(what_only_the_server_writes_is_not_there)
{
    CLEANUP_FREE char *text = reference();
    ck_assert_ptr_null(strstr(text, "| `status"));
    ck_assert_ptr_null(strstr(text, "| `metadata.uid"));
    ck_assert_ptr_null(strstr(text, "\n## Host"));
    ck_assert_ptr_null(strstr(text, "\n## Token"));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("yaml_reference");
    TCase *tests = tcase_create("yaml_reference");
    tcase_add_test(tests, the_page_is_up_to_date);
    tcase_add_test(tests, fields_have_their_type_default_and_meaning);
    tcase_add_test(tests, what_only_the_server_writes_is_not_there);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
