/* Goal: the leader makes backups by itself, when they are due and no others, keeps the
 * newest, and touches nobody else's files. Method: the state is the test's, the barrier
 * is passed when the test says so; the files are looked at. */
#include "agent/backup_keeper.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/secret_box.h"
#include "model/backup_file.h"
#include "support/temp_dir.h"
#include "support/test_main.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static struct temp_dir dir;
static char *folder;
static uv_loop_t loop;
static struct state *state;
static struct backup_keeper *keeper;
static bool leading;
static unsigned reads;
static uint64_t wall_ms;
static void (*passed)(void *context, int code);
static void *passed_context;

static uint64_t now_wall_ms(void *context)
{
    (void)context;
    return wall_ms;
}

static const struct clock test_clock = {.wall_ms = now_wall_ms};

static bool leads(void *context)
{
    (void)context;
    return leading;
}

static int read_barrier(void *context,
                        void (*done)(void *done_context, int code),
                        void *done_context)
{
    (void)context;
    reads++;
    passed = done;
    passed_context = done_context;
    return 0;
}

static const struct state *state_now(void *context)
{
    (void)context;
    return state;
}

static void open_keeper(uint64_t every_ms, uint32_t keep, const char *passphrase)
{
    const struct backup_keeper_config config = {
        .loop = &loop,
        .clock = &test_clock,
        .folder = folder,
        .every_ms = every_ms,
        .keep = keep,
        .passphrase = passphrase,
        .host = "h1",
        .leads = leads,
        .read = read_barrier,
        .state = state_now,
    };
    keeper = backup_keeper_new(&config);
    ck_assert_ptr_nonnull(keeper);
}

static void setup(void)
{
    temp_dir_init(&dir);
    folder = temp_dir_path(&dir, "backups");
    ck_assert_int_eq(uv_loop_init(&loop), 0);
    state = state_new(NULL, NULL);
    leading = true;
    reads = 0;
    passed = NULL;
    wall_ms = clock_wall_ms(clock_system());
}

static void teardown(void)
{
    keeper = backup_keeper_close(keeper);
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(uv_loop_close(&loop), 0);
    state_free(state);
    free(folder);
    temp_dir_fini(&dir);
}

/* Turns until the keeper asks for a barrier. */
static void turn_to_read(void)
{
    while (passed == NULL) {
        (void)uv_run(&loop, UV_RUN_ONCE);
    }
}

/* Passes the barrier and turns until that backup is made or has failed. */
static struct backup_keeper_stats pass(int code)
{
    struct backup_keeper_stats before;
    struct backup_keeper_stats after;
    backup_keeper_stats(keeper, &before);
    after = before;
    void (*done)(void *context, int code) = passed;
    passed = NULL;
    done(passed_context, code);
    while (code == 0 && after.made + after.failed == before.made + before.failed) {
        (void)uv_run(&loop, UV_RUN_ONCE);
        backup_keeper_stats(keeper, &after);
    }
    return after;
}

static unsigned file_count(char ret_newest[256])
{
    unsigned count = 0;
    DIR *stream = opendir(folder);
    const struct dirent *entry;
    ret_newest[0] = '\0';
    while (stream != NULL && (entry = readdir(stream)) != NULL) {
        if (entry->d_name[0] != '.') {
            count++;
            if (strcmp(entry->d_name, ret_newest) > 0) {
                snprintf(ret_newest, 256, "%.255s", entry->d_name);
            }
        }
    }
    if (stream != NULL) {
        (void)closedir(stream);
    }
    return count;
}

static int load(const char *name, const char *passphrase)
{
    CLEANUP_FREE uint8_t *bytes = NULL;
    CLEANUP_FREE uint8_t *plain = NULL;
    size_t size = 0;
    uint32_t level = 0;
    struct backup_info info = {0};
    struct err err;
    char path[1024];
    struct state *copy = state_new(NULL, NULL);
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    ck_assert_int_eq(fd_read_file(AT_FDCWD, path, 1 << 20, &bytes, &size, &err), 0);
    ck_assert_int_eq(secret_box_is(bytes, size), passphrase != NULL);
    int r = passphrase != NULL
                ? secret_box_open(passphrase, bytes, size, &plain, &size, &err)
                : 0;
    r = r == 0
            ? backup_load(plain != NULL ? plain : bytes, size, &info, &level, copy, &err)
            : r;
    ck_assert(r < 0 || state_hash(copy) == state_hash(state));
    record_fini(&backup_info_record, &info);
    state_free(copy);
    return r;
}

START_TEST(a_leader_makes_one_when_none_is_there_and_it_can_be_loaded)
{
    char name[256];
    struct stat info;
    char path[1024];
    open_keeper(10, 3, NULL);
    turn_to_read();
    ck_assert_uint_eq(pass(0).made, 1);
    ck_assert_uint_eq(file_count(name), 1);
    ck_assert_int_eq(load(name, NULL), 0);
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    ck_assert_int_eq(stat(path, &info), 0);
    ck_assert_uint_eq(info.st_mode & 07777, 0600);
}
END_TEST

START_TEST(only_the_newest_are_kept_and_foreign_files_stay)
{
    char name[256];
    ck_assert_int_eq(mkdir(folder, 0700), 0);
    temp_dir_write(&dir, "backups/notes.txt", "mine");
    temp_dir_write(&dir, "backups/before-upgrade.backup", "mine, too");
    temp_dir_write(&dir, "backups/20200101T000000Z-r1.backup", "old");
    open_keeper(10, 2, NULL);
    for (unsigned i = 0; i < 4; i++) {
        wall_ms += UINT64_C(1000000); /* later than the file that was just written */
        turn_to_read();
        ck_assert_uint_eq(pass(0).made, i + 1);
    }
    ck_assert_uint_eq(file_count(name), 4);
    char *kept = temp_dir_read(&dir, "backups/before-upgrade.backup");
    ck_assert_str_eq(kept, "mine, too");
    free(kept);
    ck_assert_ptr_null(temp_dir_read(&dir, "backups/20200101T000000Z-r1.backup"));
}
END_TEST

static void stop_loop(uv_timer_t *timer)
{
    uv_stop(timer->loop);
}

/* Some looks later. */
static void turn_a_while(void)
{
    uv_timer_t timer;
    uv_timer_init(&loop, &timer);
    uv_timer_start(&timer, stop_loop, 100, 0);
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    uv_close((uv_handle_t *)&timer, NULL);
    (void)uv_run(&loop, UV_RUN_NOWAIT);
}

START_TEST(none_is_made_before_it_is_due_or_by_one_who_does_not_lead)
{
    char name[256];
    open_keeper(5, 3, NULL);
    leading = false;
    turn_a_while();
    ck_assert_uint_eq(reads, 0);
    leading = true;
    turn_to_read();
    (void)pass(0);
    unsigned before = reads;
    wall_ms -= 3600000; /* the newest is from the future by now: not due */
    turn_a_while();
    ck_assert_uint_eq(reads, before);
    ck_assert_uint_eq(file_count(name), 1);
}
END_TEST

START_TEST(a_barrier_that_is_not_passed_makes_nothing)
{
    char name[256];
    open_keeper(10, 3, NULL);
    turn_to_read();
    (void)pass(BERTH_ENOTLEADER);
    ck_assert_uint_eq(file_count(name), 0);
    turn_to_read();
    ck_assert_uint_eq(pass(0).made, 1);
}
END_TEST

START_TEST(with_a_passphrase_it_is_encrypted)
{
    char name[256];
    open_keeper(10, 3, "correct horse");
    turn_to_read();
    ck_assert_uint_eq(pass(0).made, 1);
    (void)file_count(name);
    ck_assert_int_eq(load(name, "correct horse"), 0);
    ck_assert_int_eq(load(name, "wrong"), BERTH_EAUTH);
}
END_TEST

START_TEST(a_folder_that_cannot_be_written_is_a_failure_that_is_counted)
{
    temp_dir_write(&dir, "backups", "a file stands in the way");
    open_keeper(10, 3, NULL);
    turn_to_read();
    ck_assert_uint_eq(pass(0).failed, 1);
}
END_TEST

/* The daemon ends while a file is written, or a barrier waits: nothing is leaked or
 * touched after. */
START_TEST(closing_in_between_lets_it_end)
{
    char name[256];
    open_keeper(10, 3, NULL);
    turn_to_read();
    void (*done)(void *context, int code) = passed;
    passed = NULL;
    done(passed_context, 0);
    keeper = backup_keeper_close(keeper);
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert_uint_eq(file_count(name), 1);
    wall_ms += 100000;
    open_keeper(10, 3, NULL);
    turn_to_read();
    keeper = backup_keeper_close(keeper);
    passed(passed_context, 0);
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert_uint_eq(file_count(name), 1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("backup_keeper");
    TCase *tests = tcase_create("backup_keeper");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, a_leader_makes_one_when_none_is_there_and_it_can_be_loaded);
    tcase_add_test(tests, only_the_newest_are_kept_and_foreign_files_stay);
    tcase_add_test(tests, none_is_made_before_it_is_due_or_by_one_who_does_not_lead);
    tcase_add_test(tests, a_barrier_that_is_not_passed_makes_nothing);
    tcase_add_test(tests, with_a_passphrase_it_is_encrypted);
    tcase_add_test(tests, a_folder_that_cannot_be_written_is_a_failure_that_is_counted);
    tcase_add_test(tests, closing_in_between_lets_it_end);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
