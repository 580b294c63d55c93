/* Goal: a founder that was killed while it made its log makes it anew, and no log is put
 * aside in which something is. Method: a real log's beginning, of which the files go that
 * would not be there yet; the killed founder's whole way is in berthd_main_test.c. */
#include "agent/founding_log.h"
#include "agent/log_mark.h"
#include "consensus/consensus.h"
#include "support/own_loopback.h"
#include "support/temp_dir.h"
#include "support/test_main.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct temp_dir dir;
static struct identity identity;
static struct err err;

static void apply(void *context,
                  uint64_t index,
                  const void *data,
                  size_t size,
                  struct consensus_result *ret_result)
{
    (void)context;
    (void)index;
    (void)data;
    (void)size;
    (void)ret_result;
}

static int snapshot(void *context, uint8_t **ret_data, size_t *ret_size)
{
    (void)context;
    *ret_data = calloc(1, 1);
    *ret_size = 1;
    return *ret_data != NULL ? 0 : -1;
}

static int restore(void *context, const void *data, size_t size)
{
    (void)context;
    (void)data;
    (void)size;
    return 0;
}

static bool nobody(void *context, const uint8_t key[32], uint64_t *ret_id)
{
    (void)context;
    (void)key;
    (void)ret_id;
    return false;
}

static bool no_key(void *context, uint64_t id, uint8_t ret_key[32])
{
    (void)context;
    (void)id;
    (void)ret_key;
    return false;
}

static void on_fatal(void *context, const struct err *why)
{
    (void)context;
    ck_abort_msg("the log stopped: %s", why->text);
}

static void on_closed(void *context)
{
    *(bool *)context = true;
}

/* As far as a founder gets before it is killed, or on to where it leads. */
static void make_log(bool start)
{
    uv_loop_t loop;
    bool closed = false;
    struct consensus *consensus = NULL;
    char address[MESH_ADDRESS_SIZE];
    char *folder = temp_dir_path(&dir, LOG_MARK_FOLDER);
    identity_address_text(identity.address, identity.raft_port, address);
    const struct consensus_config config = {.id = identity_raft_id(&identity.key),
                                            .cluster_id = identity.cluster_id,
                                            .address = address,
                                            .folder = folder,
                                            .secret_key = identity.secret.bytes,
                                            .peer_of = nobody,
                                            .key_of = no_key};
    const struct consensus_fsm fsm = {
        .apply = apply, .snapshot = snapshot, .restore = restore};
    const struct consensus_events events = {.on_fatal = on_fatal};
    ck_assert_int_eq(uv_loop_init(&loop), 0);
    ck_assert_msg(log_mark_begin(dir.path, "h1", &err) == 0, "%s", err.text);
    int r = consensus_open(&loop, &config, &fsm, &events, &consensus, &err);
    r = r == 0 ? consensus_bootstrap(consensus, &err) : r;
    r = r == 0 && start ? consensus_start(consensus, &err) : r;
    ck_assert_msg(r == 0, "%s", err.text);
    consensus_close(consensus, false, on_closed, &closed);
    while (!closed) {
        (void)uv_run(&loop, UV_RUN_ONCE);
    }
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(uv_loop_close(&loop), 0);
    temp_dir_write(&dir, LOG_MARK_FILE, LOG_MARK_SEALED); /* by a start that gave up */
    free(folder);
}

/* Those whose names begin so: files of the log that are not there yet. */
static unsigned lose(const char *beginning)
{
    unsigned lost = 0;
    const struct dirent *entry;
    char *folder = temp_dir_path(&dir, LOG_MARK_FOLDER);
    DIR *stream = opendir(folder);
    ck_assert_ptr_nonnull(stream);
    while ((entry = readdir(stream)) != NULL) { // NOLINT(concurrency-mt-unsafe): ours
        if (strncmp(entry->d_name, beginning, strlen(beginning)) == 0) {
            ck_assert_int_eq(unlinkat(dirfd(stream), entry->d_name, 0), 0);
            lost++;
        }
    }
    (void)closedir(stream);
    free(folder);
    return lost;
}

static bool has(const char *name)
{
    char *path = temp_dir_path(&dir, name);
    bool there = access(path, F_OK) == 0;
    free(path);
    return there;
}

static unsigned put_aside(void)
{
    unsigned count = 0;
    const struct dirent *entry;
    DIR *stream = opendir(dir.path);
    ck_assert_ptr_nonnull(stream);
    while ((entry = readdir(stream)) != NULL) { // NOLINT(concurrency-mt-unsafe): ours
        count += strncmp(entry->d_name, LOG_MARK_FOLDER ".before-", 12) == 0 ? 1U : 0U;
    }
    (void)closedir(stream);
    return count;
}

static void look(void)
{
    ck_assert_msg(founding_log_put_aside(&identity, clock_system(), &err) == 0, "%s",
                  err.text);
}

static void setup(void)
{
    temp_dir_init(&dir);
    ck_assert_msg(identity_open(dir.path, &identity, &err) == 0, "%s", err.text);
    (void)snprintf(identity.name, sizeof(identity.name), "h1");
    identity.founder = true;
    identity.cluster_id = 9;
    identity.address = own_loopback(1);
    identity.raft_port = 17442;
}

static void teardown(void)
{
    identity_fini(&identity);
    temp_dir_fini(&dir);
}

/* Killed behind the seal, or behind the term. */
START_TEST(a_log_without_its_first_entry_is_put_aside)
{
    make_log(false);
    ck_assert_uint_eq(lose("0000"), 1);
    if (_i == 0) {
        ck_assert_uint_gt(lose("metadata"), 0);
    }

    look();

    ck_assert(!has(LOG_MARK_FOLDER) && !has(LOG_MARK_FILE));
    ck_assert_uint_eq(put_aside(), 1);
    make_log(true); /* nothing is in its way */
}
END_TEST

START_TEST(a_log_with_a_member_is_left_alone)
{
    make_log(_i == 1);

    look();

    ck_assert(has(LOG_MARK_FOLDER) && has(LOG_MARK_FILE));
    ck_assert_uint_eq(put_aside(), 0);
}
END_TEST

/* It has led, and may have told somebody: its seal knows. */
START_TEST(a_log_that_has_lost_its_entries_is_left_to_who_opens_it)
{
    make_log(true);
    ck_assert_uint_gt(lose("0000") + lose("open-"), 0);

    look();

    ck_assert(has(LOG_MARK_FOLDER) && has(LOG_MARK_FILE));
    ck_assert_uint_eq(put_aside(), 0);
}
END_TEST

START_TEST(a_folder_without_a_log_is_left_alone)
{
    look();
    ck_assert_msg(log_mark_begin(dir.path, "h1", &err) == 0, "%s", err.text);

    look();

    ck_assert(has(LOG_MARK_FOLDER) && has(LOG_MARK_FILE));
    ck_assert_uint_eq(put_aside(), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("founding_log");
    TCase *tests = tcase_create("founding_log");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_loop_test(tests, a_log_without_its_first_entry_is_put_aside, 0, 2);
    tcase_add_loop_test(tests, a_log_with_a_member_is_left_alone, 0, 2);
    tcase_add_test(tests, a_log_that_has_lost_its_entries_is_left_to_who_opens_it);
    tcase_add_test(tests, a_folder_without_a_log_is_left_alone);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
