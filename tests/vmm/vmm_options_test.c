/* Goal: what is typed is what is meant; a mistake is named; --help shows every option. */
#include "support/test_main.h"
#include "vmm/vmm_options.h"

#include <check.h>

#include <stdlib.h>
#include <string.h>

#define WORDS_MAX 8

static int
parse(const char *const *words, struct vmm_options *ret_options, struct err *err)
{
    char *argv[WORDS_MAX + 2] = {(char *)(uintptr_t) "berth-vmm"};
    int argc = 1;
    for (; words[argc - 1] != NULL; argc++) {
        argv[argc] = (char *)(uintptr_t)words[argc - 1];
    }
    return vmm_options_parse(argc, argv, ret_options, err);
}

START_TEST(what_is_typed_is_taken)
{
    static const char *const words[] = {"--kernel", "k",         "--memory", "1GiB",
                                        "--cpu",    "x86-64-v3", "--hold",   NULL};
    struct vmm_options options;

    ck_assert_int_eq(parse(words, &options, NULL), 0);

    ck_assert_str_eq(options.kernel, "k");
    ck_assert_uint_eq(options.memory_bytes, UINT64_C(1) << 30);
    ck_assert_int_eq(options.cpu_level, CPU_V3);
    ck_assert(options.is_held);
    ck_assert(!options.keeps_end);
    ck_assert_uint_eq(options.cpu_count, 1); /* not typed */
    ck_assert_ptr_null(options.initrd);
}
END_TEST

struct mistake_row {
    const char *words[WORDS_MAX];
    const char *text;
};

static const struct mistake_row mistakes[] = {
    {{"--kernel", "k", "--bogus"}, "--bogus: no such option; see --help"},
    {{"kernel"}, "kernel: no such option; see --help"},
    {{"--kernel"}, "--kernel: FILE is missing"},
    {{"--kernel", "k", "--memory", "many"}, "--memory: "},
    {{"--kernel", "k", "--cpus", "-1"}, "--cpus: "},
    {{"--kernel", "k", "--cpu", "z80"}, "--cpu: CPU z80: not host"},
    {{"--hold"}, "--kernel is missing; see --help"},
};

START_TEST(a_mistake_is_named)
{
    struct vmm_options options = {.cpu_count = 77};
    struct err err = {0};

    ck_assert_int_eq(parse(mistakes[_i].words, &options, &err), BERTH_EINVALID);

    ck_assert_msg(strncmp(err.text, mistakes[_i].text, strlen(mistakes[_i].text)) == 0,
                  "%s", err.text);
    ck_assert_uint_eq(options.cpu_count, 77);
}
END_TEST

START_TEST(help_needs_no_kernel_and_lists_the_options)
{
    static const char *const words[] = {"--help", NULL};
    struct vmm_options options;
    char *text = NULL;
    size_t size = 0;
    ck_assert_int_eq(parse(words, &options, NULL), 0);
    ck_assert(options.wants_help);
    FILE *out = open_memstream(&text, &size);
    ck_assert_ptr_nonnull(out);

    vmm_options_help(out);

    ck_assert_int_eq(fclose(out), 0);
    ck_assert_ptr_nonnull(strstr(text, "--kernel FILE"));
    ck_assert_ptr_nonnull(strstr(text, "--keep-end"));
    free(text);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("vmm_options");
    TCase *tests = tcase_create("vmm_options");
    tcase_add_test(tests, what_is_typed_is_taken);
    tcase_add_loop_test(tests, a_mistake_is_named, 0,
                        sizeof(mistakes) / sizeof(mistakes[0]));
    tcase_add_test(tests, help_needs_no_kernel_and_lists_the_options);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
