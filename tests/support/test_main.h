/* The last lines of every test binary.
 *
 * `int main(void) { return test_main_run(suite); }` runs the suite in Check's fork mode
 * (CK_FORK=no for the debugger; ctest sets it, too, for the pure rooms' tests, where a
 * fork for each costs more than the test: tests/CMakeLists.txt), prints a summary and the
 * failures (CK_VERBOSITY=verbose: all) and frees it. A binary that cannot run on this
 * machine returns test_main_skip("why") instead; one that runs a program of the build
 * asks test_main_finds first, so that a missing one is said and not waited for.
 */
#pragma once

#include <check.h>

#include <stdbool.h>

#define TEST_MAIN_SKIPPED 77 /* what CTest's SKIP_RETURN_CODE expects */

/* Runs and frees the suite; 0 when every test passed, else 1, also when there was no test
 * at all. */
int test_main_run(Suite *suite);
/* Prints the reason and returns TEST_MAIN_SKIPPED. */
int test_main_skip(const char *reason);
/* Is the program there? False after saying that it has to be built: main returns 1. */
bool test_main_finds(const char *program);
