#include "support/test_main.h"

#include <check.h>

#include <stdio.h>
#include <unistd.h>

int test_main_run(Suite *suite)
{
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int run = srunner_ntests_run(runner);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    if (run == 0) {
        fprintf(stderr, "no test was run\n");
    }
    return run > 0 && failed == 0 ? 0 : 1;
}

int test_main_skip(const char *reason)
{
    printf("skipped: %s\n", reason);
    return TEST_MAIN_SKIPPED;
}

bool test_main_finds(const char *program)
{
    if (access(program, X_OK) == 0) {
        return true;
    }
    fprintf(stderr, "%s is not there: build it first, these tests run it\n", program);
    return false;
}
