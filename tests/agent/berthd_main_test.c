/* Goal: a berthd that cannot serve ends before it has begun, with the reason. Method: the
 * real program, in a folder of its own. */
#include "base/cleanup.h"
#include "support/temp_dir.h"
#include "support/test_main.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

static struct temp_dir dir;

static void start(void)
{
    temp_dir_init(&dir);
}

static void stop(void)
{
    temp_dir_fini(&dir);
}

static const struct {
    const char *settings;
    const char *says;
    int code;
} rows[] = {
    {"--reserve-memory 100000TiB", "--reserve-memory 97.7PiB is all", 1},
    {"--reserve-memory 4096TiB", "nothing would be left for VMs", 1},
    {"--reserve-disk 100000TiB", "--reserve-disk 97.7PiB is all", 1},
    {"--reserve-memory much", "--reserve-memory", 2},
};

START_TEST(a_reserve_that_leaves_nothing_is_refused_at_the_start)
{
    char line[1024];
    char said[65536];
    (void)snprintf(line, sizeof(line),
                   BERTH_BINARY_DIR "/berthd --bootstrap --name h1 --no-https --state %s "
                                    "%s 2>&1",
                   dir.path, rows[_i].settings);
    FILE *output = popen(line, "re"); /* NOLINT(cert-env33-c): our own words */
    ck_assert_ptr_nonnull(output);
    said[fread(said, 1, sizeof(said) - 1, output)] = '\0';
    int status = pclose(output);
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == rows[_i].code, "%s", said);
    ck_assert_msg(strstr(said, rows[_i].says) != NULL, "%s", said);
    char *log = temp_dir_path(&dir, "raft");
    ck_assert_int_ne(access(log, F_OK), 0); /* nothing was founded */
    free(log);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("berthd_main");
    TCase *tests = tcase_create("berthd_main");
    tcase_add_checked_fixture(tests, start, stop);
    tcase_add_loop_test(tests, a_reserve_that_leaves_nothing_is_refused_at_the_start, 0,
                        ARRAY_COUNT(rows));
    tcase_set_timeout(tests, 100);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
