/* Goal: what a host cannot be started with is said before anything is there. */
#include "cli/host_flags.h"
#include "cli_fixture.h"
#include "support/temp_dir.h"

#include <sys/stat.h>

static const struct {
    const char *flag;
    const char *wrong;
    const char *right; /* NULL: none that a test can give */
} rows[] = {
    {"name", "Bad_Name", "r1u04"},
    {"name", "h-", "h"},
    {"address", "10.0.0.400", "127.0.0.2"},
    {"address", "192.0.2.9", "127.0.0.1"}, /* RFC 5737: nobody has it */
    {"mesh-port", "65535", "65534"},
    {"raft-port", "0", "1"},
    {"api-port", "https", "7443"},
    {"reserve-memory", "12", "12MiB"},
    {"reserve-disk", "a", "1GiB"},
    {"cpu-overcommit", "0", "256"},
    {"disk-overcommit", "257", "1"},
    {"image-cache", "20", "20GiB"},
    {"backup-every", "6", "6h"},
    {"backup-keep", "1001", "1000"},
    {"backup-folder", "backups", "/backups"},
    {"backup-passphrase-file", "secret", NULL},
    {"backup-passphrase-file", "/no/such/file", NULL},
    {"timeout", "soon", "60s"},
    {"vm-uids", "4294967295", "0"},
    {"vm-uids", "99999", "100000"},
    {"vm-uids", "root", "1000000"},
    {"reserve-memory", "999999GiB", "64MiB"},
    {"label", "rack", "rack=r1"},
    {"label", "=r1", "rack="},
    {"label", "ra$ck=r1", "berth.dev/rack=r1"},
};

START_TEST(a_wrong_value_is_said_with_its_flag)
{
    char line[256];
    char wanted[64];
    snprintf(line, sizeof(line), "up --name h1 --%s %s", rows[_i].flag, rows[_i].wrong);
    ck_assert_int_eq(cli_given(line), EXIT_OK);
    ck_assert_int_eq(host_flags_check(&cli), EXIT_USAGE);
    snprintf(wanted, sizeof(wanted), "berth: --%s: ", rows[_i].flag);
    ck_assert_contains(cli_err(), wanted);
    if (rows[_i].right != NULL) {
        snprintf(line, sizeof(line), "up --name h1 --%s %s", rows[_i].flag,
                 rows[_i].right);
        ck_assert_int_eq(cli_given(line), EXIT_OK);
        ck_assert_int_eq(host_flags_check(&cli), EXIT_OK);
        ck_assert_str_eq(cli_err(), "");
    }
}
END_TEST

/* Its vote and the lease of its VMs stand on it: it starts, and berthd says the rest. */
START_TEST(a_member_may_have_less_memory_than_it_keeps)
{
    char line[TEMP_DIR_PATH_SIZE + 64];
    struct temp_dir dir;
    temp_dir_init(&dir);
    (void)snprintf(line, sizeof(line), "up --state %s --reserve-memory 999999GiB",
                   dir.path);
    temp_dir_write(&dir, "host.json", "{\"name\":\"h1\"}");
    ck_assert_int_eq(cli_given(line), EXIT_OK);
    ck_assert_int_eq(host_flags_check(&cli), EXIT_USAGE); /* not let in yet */

    temp_dir_write(&dir, "host.json", "{\"name\":\"h1\",\"uid\":7}");
    ck_assert_int_eq(cli_given(line), EXIT_OK);
    ck_assert_int_eq(host_flags_check(&cli), EXIT_OK);
    ck_assert_str_eq(cli_err(), "");
    temp_dir_fini(&dir);
}
END_TEST

START_TEST(all_of_them_are_said_at_once_and_nothing_is_made)
{
    static char program[] = "berth";
    static char *lines[][9] = {
        {program, "up", "--state", NULL, "--name", "Bad", "--api-port", "x", NULL},
        {program, "join", "berth-join-AQpjAAsd", "--state", NULL, "--name", "h1", NULL},
        {program, "join", "nonsense", "--state", NULL, NULL},
    };
    struct temp_dir dir;
    struct stat status;
    temp_dir_init(&dir);
    char *state = temp_dir_path(&dir, "new");
    for (size_t i = 0; i < 3; i++) {
        char *argv[10] = {0};
        int argc = 0;
        for (bool placed = false; argc < 8 && (lines[i][argc] != NULL || !placed);
             argc++) {
            placed = placed || lines[i][argc] == NULL;
            argv[argc] = lines[i][argc] != NULL ? lines[i][argc] : state;
        }
        cli_fresh();
        ck_assert_int_eq(cli_main(&cli, argc, argv), EXIT_USAGE);
        ck_assert_contains(cli_err(), i == 0   ? "--api-port: "
                                      : i == 1 ? "the join token is cut or mistyped"
                                               : "that is no join token");
        ck_assert(i > 0 || strstr(cli_err(), "--name: \"Bad\"") != NULL);
        ck_assert_int_lt(stat(state, &status), 0);
    }
    free(state);
    temp_dir_fini(&dir);
}
END_TEST

START_TEST(a_token_has_its_form)
{
    char token[] = "berth-join-AQpjAAsdEA"
                   "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    ck_assert_int_eq(host_flags_check_token(&cli, token), EXIT_OK);
    token[11] = 'B'; /* version 4 */
    ck_assert_int_eq(host_flags_check_token(&cli, token), EXIT_USAGE);
    ck_assert_contains(cli_err(), "another version");
    token[11] = 'A';
    token[sizeof(token) - 2] = '\0';
    ck_assert_int_eq(host_flags_check_token(&cli, token), EXIT_USAGE);
    ck_assert_int_eq(host_flags_check_token(&cli, "berth-join-"), EXIT_USAGE);
    ck_assert_int_eq(host_flags_check_token(&cli, ""), EXIT_USAGE);
}
END_TEST

int main(void)
{
    TCase *tests;
    Suite *suite = cli_suite("host_flags", &tests);
    tcase_add_loop_test(tests, a_wrong_value_is_said_with_its_flag, 0,
                        (int)(sizeof(rows) / sizeof(rows[0])));
    tcase_add_test(tests, a_member_may_have_less_memory_than_it_keeps);
    tcase_add_test(tests, all_of_them_are_said_at_once_and_nothing_is_made);
    tcase_add_test(tests, a_token_has_its_form);
    return test_main_run(suite);
}
