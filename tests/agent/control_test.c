/* Goal: what was answered is in the state, is told to who watches, and is there after a
 * restart. Method: the real log with one voter, in a folder of the test's own. */
#include "agent/control.h"
#include "agent/identity.h"
#include "agent/members.h"
#include "consensus/raft_offline.h"
#include "support/own_loopback.h"
#include "support/temp_dir.h"
#include "support/test_main.h"

#include <glob.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct temp_dir dir;
static uv_loop_t loop;
static struct identity identity;
static struct members members;
static struct control *control;
static bool leads;
static unsigned changes;
static char changed[64];   /* name of the last object that did */
static uint32_t level_max; /* that it takes part in; 0: all */
static bool fatal_wanted;
static bool fatal_seen;
static struct err fatal;

static struct {
    unsigned count;
    int code;
    struct apply_result result;
} answer;

static void on_leadership(void *context, bool is_leader, uint64_t term)
{
    (void)context;
    ck_assert(!is_leader || term > 0);
    leads = is_leader;
}

static void on_change(void *context, const struct change *change)
{
    (void)context;
    changes++;
    (void)snprintf(changed, sizeof(changed), "%s", change->name);
}

static void on_restored(void *context)
{
    (void)context;
}

static void on_fatal(void *context, const struct err *why)
{
    (void)context;
    if (fatal_wanted) {
        fatal = fatal_seen ? fatal : *why;
        fatal_seen = true;
        return;
    }
    ck_abort_msg("the log stopped: %s", why->text);
}

#define LOG_PORT 17442

static int open_control(bool bootstrap, struct err *err)
{
    char *folder = temp_dir_path(&dir, "raft");
    char address[OWN_LOOPBACK_TEXT_SIZE];
    const struct control_events events = {.on_leadership = on_leadership,
                                          .on_change = on_change,
                                          .on_restored = on_restored,
                                          .on_fatal = on_fatal};
    const struct control_config config = {
        .loop = &loop,
        .clock = clock_system(),
        .folder = folder,
        .raft_id = identity_raft_id(&identity.key),
        .cluster_id = 7,
        .address = own_loopback_text(1, LOG_PORT, address),
        .secret_key = identity.secret.bytes,
        .levels = level_range_up_to(level_max),
        .members = &members,
    };
    int r = control_open(&config, &events, bootstrap, &control, err);
    free(folder);
    return r;
}

static void turn_until(const bool *flag)
{
    while (!*flag) {
        (void)uv_run(&loop, UV_RUN_ONCE);
    }
}

static void lead(bool bootstrap)
{
    struct err err = {0};
    int r = open_control(bootstrap, &err);
    ck_assert_msg(r == 0, "%s", err.text);
    turn_until(&leads);
}

static void note_closed(void *context)
{
    *(bool *)context = true;
}

static void close_control(void)
{
    bool closed = false;
    control_close(control, true, note_closed, &closed);
    turn_until(&closed);
    control = NULL;
    leads = false;
}

static void setup(void)
{
    struct err err = {0};
    (void)signal(SIGPIPE, SIG_IGN);
    memset(&answer, 0, sizeof(answer));
    changes = 0;
    level_max = 0;
    fatal_wanted = false;
    fatal_seen = false;
    temp_dir_init(&dir);
    ck_assert_int_eq(uv_loop_init(&loop), 0);
    int r = identity_open(dir.path, &identity, &err);
    r = r < 0 ? r : members_open(dir.path, &members, &err);
    ck_assert_msg(r == 0, "%s", err.text);
}

static void teardown(void)
{
    if (control != NULL) {
        close_control();
    }
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(uv_loop_close(&loop), 0);
    members_fini(&members);
    identity_fini(&identity);
    temp_dir_fini(&dir);
}

static void take_answer(void *context, int code, const struct apply_result *result)
{
    (void)context;
    answer.count++;
    answer.code = code;
    answer.result = result != NULL ? *result : (struct apply_result){0};
}

/* Proposes and waits for the answer; frees the command. */
static void propose(struct command *command)
{
    unsigned before = answer.count;
    (void)snprintf(command->subject, sizeof(command->subject), "system");
    ck_assert_int_eq(control_propose(control, command, take_answer, NULL), 0);
    command_fini(command);
    ck_assert_uint_eq(answer.count, before); /* never inside the call */
    while (answer.count == before) {
        (void)uv_run(&loop, UV_RUN_ONCE);
    }
    ck_assert_int_eq(answer.code, 0);
}

/* A host joins; the answer is waited for. */
static void join(const char *name, uint8_t key)
{
    struct command command;
    command_init(&command, COMMAND_HOST_JOIN);
    command.request_id[0] = key;
    (void)snprintf(command.body.host_join.name, NAME_SIZE, "%s", name);
    memset(command.body.host_join.status.public_key.bytes, key, DIGEST_SIZE);
    command.body.host_join.status.cpu_mcpu = 1000;
    command.body.host_join.status.memory_bytes = GIB;
    propose(&command);
}

static void put_tenant(const char *name)
{
    struct command command;
    struct tenant *tenant = object_new(KIND_TENANT);
    ck_assert_ptr_nonnull(tenant);
    (void)snprintf(tenant->meta.name, NAME_SIZE, "%s", name);
    command_init(&command, COMMAND_PUT);
    ck_assert_int_eq(command_set_put(&command, KIND_TENANT, tenant, REVISION_ANY), 0);
    object_free(KIND_TENANT, tenant);
    propose(&command);
    ck_assert_int_eq(answer.result.code, 0);
}

static void raise_level(uint32_t level)
{
    struct command command;
    command_init(&command, COMMAND_SET_LEVEL);
    command.body.set_level.level = level;
    propose(&command);
    ck_assert_int_eq(answer.result.code, 0);
}

static void note_read(void *context, int code)
{
    ck_assert_int_eq(code, 0);
    *(bool *)context = true;
}

START_TEST(what_was_answered_is_applied_and_told)
{
    bool read = false;
    lead(true);

    join("h1", 1);

    ck_assert_int_eq(answer.code, 0);
    ck_assert_int_eq(answer.result.code, 0);
    ck_assert_ptr_nonnull(state_get(control_state(control), KIND_HOST, "", "h1"));
    ck_assert_uint_eq(answer.result.revision, state_revision(control_state(control)));
    ck_assert_uint_gt(changes, 0);
    ck_assert_str_eq(changed, "h1");
    ck_assert_int_eq(control_read(control, note_read, &read), 0);
    turn_until(&read);
}
END_TEST

START_TEST(a_refusal_by_the_state_is_an_answer_too)
{
    lead(true);
    join("h1", 1);

    join("h2", 2); /* the second host needs a token */

    ck_assert_int_eq(answer.code, 0);
    ck_assert_int_lt(answer.result.code, 0);
    ck_assert_str_ne(answer.result.text, "");
    ck_assert_ptr_null(state_get(control_state(control), KIND_HOST, "", "h2"));
}
END_TEST

START_TEST(what_was_answered_is_there_after_a_restart)
{
    lead(true);
    join("h1", 1);
    uint64_t revision = state_revision(control_state(control));
    close_control();

    lead(false);

    ck_assert_ptr_nonnull(state_get(control_state(control), KIND_HOST, "", "h1"));
    ck_assert_uint_eq(state_revision(control_state(control)), revision);
}
END_TEST

START_TEST(a_log_that_is_there_is_not_founded_again)
{
    struct err err = {0};
    lead(true);
    close_control();

    ck_assert_int_lt(open_control(true, &err), 0);

    ck_assert_str_ne(err.text, "");
    control = NULL;
    lead(false);
}
END_TEST

static unsigned snapshot_files(bool remove_them)
{
    glob_t found = {0};
    char *pattern = temp_dir_path(&dir, "raft/snapshot-*");
    int r = glob(pattern, 0, NULL, &found);
    ck_assert(r == 0 || r == GLOB_NOMATCH);
    for (size_t i = 0; remove_them && i < found.gl_pathc; i++) {
        ck_assert_int_eq(unlink(found.gl_pathv[i]), 0);
    }
    unsigned count = (unsigned)found.gl_pathc;
    globfree(&found);
    free(pattern);
    return count;
}

/* A release that does not know the level before never reads an entry of it. */
START_TEST(a_raised_level_is_in_a_snapshot_at_once)
{
    lead(true);
    join("h1", 1);
    ck_assert_uint_eq(snapshot_files(false), 0);

    raise_level(2);

    while (snapshot_files(false) < 2) { /* content and metadata */
        (void)uv_run(&loop, UV_RUN_ONCE);
    }
    close_control();
    lead(false);
    ck_assert_uint_eq(state_level(control_state(control)), 2);
}
END_TEST

/* Its snapshot may not have been written. */
START_TEST(a_member_that_does_not_know_the_level_ends_at_its_entry)
{
    struct err err = {0};
    lead(true);
    join("h1", 1);
    raise_level(2);
    put_tenant("shop"); /* what follows is not applied either */
    uint64_t revision = state_revision(control_state(control));
    close_control();
    (void)snapshot_files(true);

    level_max = 1;
    fatal_wanted = true;
    ck_assert_msg(open_control(false, &err) == 0, "%s", err.text);
    turn_until(&fatal_seen);
    ck_assert_int_eq(fatal.code, BERTH_ELEVEL);
    ck_assert_ptr_nonnull(strstr(fatal.text, "at level 2, this berthd takes part up to"));
    ck_assert_uint_eq(state_level(control_state(control)), 1);
    ck_assert_uint_lt(state_revision(control_state(control)), revision);
    ck_assert_ptr_null(state_get(control_state(control), KIND_TENANT, "", "shop"));
    close_control();

    level_max = 0;
    fatal_wanted = false;
    lead(false);
    ck_assert_uint_eq(state_level(control_state(control)), 2);
    ck_assert_uint_eq(state_revision(control_state(control)), revision);
}
END_TEST

/* A log that begins with a snapshot at level 2, of a member that votes alone. */
static void make_log_with_snapshot(void)
{
    struct err err = {0};
    struct command command;
    struct apply_result result;
    uint8_t *data = NULL;
    size_t size = 0;
    char address[OWN_LOOPBACK_TEXT_SIZE];
    char *folder = temp_dir_path(&dir, "raft");
    struct state *state = state_new(NULL, NULL);
    ck_assert_ptr_nonnull(state);
    command_init(&command, COMMAND_SET_LEVEL);
    command.body.set_level.level = 2;
    state_apply(state, &command, &result);
    ck_assert_int_eq(result.code, 0);
    ck_assert_int_eq(state_encode(state, &data, &size), 0);
    const struct log_offline log = {.folder = folder,
                                    .id = identity_raft_id(&identity.key),
                                    .cluster_id = 7,
                                    .address = own_loopback_text(1, LOG_PORT, address)};
    ck_assert_int_eq(mkdir(folder, 0700), 0);
    int r = log_offline_make(&log, 3, 10, data, size, &err);
    ck_assert_msg(r == 0, "%s", err.text);
    state_free(state);
    free(data);
    free(folder);
}

START_TEST(a_snapshot_of_a_level_that_is_not_known_is_left_as_it_is)
{
    struct err err = {0};
    make_log_with_snapshot();

    level_max = 1;
    fatal_wanted = true;
    int r = open_control(false, &err);
    ck_assert(fatal_seen);
    ck_assert_int_eq(fatal.code, BERTH_ELEVEL);
    ck_assert_ptr_nonnull(strstr(fatal.text, "at level 2, this berthd takes part up to"));
    if (r == 0) {
        close_control();
    }
    control = NULL;

    level_max = 0;
    fatal_wanted = false;
    lead(false);
    ck_assert_uint_eq(state_level(control_state(control)), 2);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("control");
    TCase *tests = tcase_create("control");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, what_was_answered_is_applied_and_told);
    tcase_add_test(tests, a_refusal_by_the_state_is_an_answer_too);
    tcase_add_test(tests, what_was_answered_is_there_after_a_restart);
    tcase_add_test(tests, a_log_that_is_there_is_not_founded_again);
    tcase_add_test(tests, a_raised_level_is_in_a_snapshot_at_once);
    tcase_add_test(tests, a_member_that_does_not_know_the_level_ends_at_its_entry);
    tcase_add_test(tests, a_snapshot_of_a_level_that_is_not_known_is_left_as_it_is);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
