/* Goal: what -o json is given to, by any command: one document on stdout, or a refusal.
 * Method: a line for each row of the command table, run by the real program against a
 * real API, and each output parsed. */
#include "berth_fixture.h"
#include "cli/cli.h"

#define OBJECTS                                                                          \
    "apiVersion: berth/v1\nkind: Group\nmetadata: {name: web}\nspec: {template: {name: " \
    "plain}, replicas: 1}\n---\napiVersion: berth/v1\nkind: VM\nmetadata: {name: "       \
    "jump}\n"                                                                            \
    "spec: {template: {name: plain}}\n"

/* Run in the folder. In this order: what one needs, one above has made. */
static const struct row {
    const char *command;
    const char *line;
    int code;          /* EXIT_USAGE: refused, and nothing was done */
    const char *holds; /* what the document is about */
} rows[] = {
    {"apply", "apply objects.yaml --wait", 0, "results"},
    {"plan", "plan objects.yaml", 0, "results"},
    {"validate", "validate objects.yaml", 0, "errors"},
    {"schema", "schema", 0, "definitions"},
    {"ls", "ls vm", 0, "items"},
    {"show", "show vm/jump", 0, "spec"},
    {"explain", "explain vm/jump", 0, "summary"},
    {"events", "events", 0, "items"},
    {"scale", "scale web 2 --wait", 0, "spec"},
    {"stop", "stop jump", 0, "items"},
    {"stop", "stop none jump", 3, "items"}, /* of what was done */
    {"start", "start jump --wait", 0, "items"},
    {"snapshot make", "snapshot make jump saved --wait", 0, "metadata"},
    {"snapshot ls", "snapshot ls", 0, "items"},
    {"restore", "restore jump saved --yes --wait", 0, "metadata"},
    {"snapshot rm", "snapshot rm saved --yes", 0, "items"},
    {"pause", "pause jump --wait", 0, "items"},
    {"resume", "resume jump --wait", 0, "items"},
    {"restart", "restart jump", 0, "items"},
    {"host ls", "host ls", 0, "items"},
    {"host show", "host show h1", 0, "status"},
    {"host label", "host label h1 rack=r1", 0, "metadata"},
    {"drain", "drain h3 --wait", 0, "spec"},
    {"undrain", "undrain h3", 0, "status"},
    {"token create", "token create ci", 0, "token"},
    {"token join", "token join", 0, "token"},
    {"token ls", "token ls", 0, "items"},
    {"rm", "rm vm/jump group/web --wait", 0, "items"},
    {"backup save", "backup save rack.backup", 0, "revision"},
    {"backup verify", "backup verify rack.backup", 0, "revision"},
    {"version", "version", 0, "berth"},
    {"up", "up", 0, "status"}, /* the one that runs */
    {"join", "join nonsense", EXIT_USAGE, NULL},
    {"recover", "recover --show", EXIT_CONFLICT, NULL}, /* not while it runs */
    {"watch", "watch nonsense", EXIT_USAGE, NULL},      /* a document for each change */
    {"down", "down", EXIT_USAGE, NULL},
    {"login", "login h1", EXIT_USAGE, NULL},
    {"console", "console jump", EXIT_USAGE, NULL},
    {"completion", "completion bash", EXIT_USAGE, NULL},
    {"help", "help output", EXIT_USAGE, NULL},
};
#define ROW_COUNT (sizeof(rows) / sizeof(rows[0]))

static void run_row(const struct row *row, const char *format)
{
    char line[512];
    (void)snprintf(line, sizeof(line), "%s -o %s", row->line, format);
    assert_ran(line, row->code);
}

static void check_document(const struct row *row)
{
    json_t *document = NULL;
    ck_assert_msg(json_parse(ran.out, strlen(ran.out), &document, NULL) == 0,
                  "berth %s -o json is no document: %s", row->line, ran.out);
    ck_assert_msg(json_object_get(document, row->holds) != NULL, "%s: %s", row->line,
                  ran.out);
    json_decref(document);
}

START_TEST(every_command_gives_a_document_or_refuses)
{
    temp_dir_write(&folder, "objects.yaml", OBJECTS);
    member_write(served_pid);
    ck_assert_int_eq(chdir(folder.path), 0);
    for (size_t i = 0; i < ROW_COUNT; i++) {
        run_row(&rows[i], "json");
        if (rows[i].holds != NULL) {
            check_document(&rows[i]);
        } else {
            ck_assert_msg(ran.out[0] == '\0' && ran.err[0] != '\0', "%s: %s",
                          rows[i].line, ran.out);
        }
    }
}
END_TEST

START_TEST(no_command_is_left_out)
{
    for (const struct cli_command *row = cli_commands; row->name != NULL; row++) {
        bool found = false;
        for (size_t i = 0; i < ROW_COUNT; i++) {
            found = found || strcmp(rows[i].command, row->name) == 0;
        }
        ck_assert_msg(found, "no row for berth %s", row->name);
    }
}
END_TEST

START_TEST(what_is_said_goes_to_stderr_beside_a_document)
{
    ck_assert_int_eq(berth_fed("apply - --wait -o json", OBJECTS), 0);
    ck_assert_contains(ran.err, " ready after");
    assert_ran("scale web 2 --wait -o json", 0);
    assert_like(ran.err, "group/web: 2 VMs wanted\n*web-2 *ready after*");
    ck_assert_contains(ran.out, "\"desired\": 2");
    assert_ran("scale web 2 -o yaml -q", 0);
    ck_assert_str_eq(ran.err, "");
    assert_ran("stop web-1 web-2 -o name", 0);
    ck_assert_str_eq(ran.out, "default/vm/web-1\ndefault/vm/web-2\n");
    assert_ran("rm vm/jump -o name", 0);
    ck_assert_str_eq(ran.out, "default/vm/jump\n");
    assert_ran("rm vm/none -o json", 3);
    ck_assert_str_eq(ran.out, "");
    assert_ran("down -o yaml", 2);
    ck_assert_contains(ran.err, "berth down gives no document: -o yaml is not for it");
    assert_ran("version -o name", 2);
    ck_assert_contains(ran.err, "has no name: -o json or yaml");
}
END_TEST

/* The search for leaks at each end costs more than all the rest; the tests of each
 * command have it. */
int main(void)
{
    (void)setenv("ASAN_OPTIONS", "detect_leaks=0", 1);
    TCase *tests;
    Suite *suite = berth_suite("documents", &tests);
    tcase_add_test(tests, every_command_gives_a_document_or_refuses);
    tcase_add_test(tests, no_command_is_left_out);
    tcase_add_test(tests, what_is_said_goes_to_stderr_beside_a_document);
    return test_main_run(suite);
}
