/* What the library's disk and the channels do for it is tested by raft_node_test.c and
 * raft_channel_test.c; here, what they refuse and how they are let go unused. */
#include "consensus/raft_backing.h"
#include "support/temp_dir.h"
#include "support/test_main.h"

#include <errno.h>
#include <string.h>

static uv_loop_t loop;
static struct temp_dir dir;
static const uint8_t key[CONSENSUS_KEY_SIZE] = {7};

static void setup(void)
{
    ck_assert_int_eq(uv_loop_init(&loop), 0);
    temp_dir_init(&dir);
}

static void teardown(void)
{
    uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(uv_loop_close(&loop), 0);
    temp_dir_fini(&dir);
}

static int open_in(const char *folder, struct raft_backing **ret_backing, struct err *err)
{
    struct consensus_config config = {.id = 1,
                                      .cluster_id = 2,
                                      .address = "127.0.0.1:1",
                                      .folder = folder,
                                      .secret_key = key,
                                      .election_ms = 300};
    return raft_backing_open(&config, &loop, NULL, ret_backing, err);
}

static void let_go(void *context)
{
    (void)raft_backing_free(context);
}

START_TEST(a_folder_that_is_not_there_is_refused_by_name)
{
    struct raft_backing *backing = NULL;
    struct err err = {0};
    ck_assert_int_eq(open_in("/nowhere/at/all", &backing, &err), -ENOENT);
    ck_assert_ptr_nonnull(strstr(err.text, "/nowhere/at/all"));
}
END_TEST

START_TEST(a_backing_that_the_library_never_got_is_let_go_of)
{
    struct raft_backing *backing = NULL;
    struct err err = {0};
    ck_assert_msg(open_in(dir.path, &backing, &err) == 0, "%s", err.text);
    ck_assert_ptr_nonnull(raft_backing_io(backing));
    ck_assert_uint_gt(raft_backing_free_bytes(backing), 0);
    ck_assert_uint_eq(raft_backing_channels(backing)->called, 0);

    raft_backing_abandon(backing, let_go, backing);
}
END_TEST

static Suite *suite(void)
{
    Suite *made = suite_create("raft_backing");
    TCase *tcase = tcase_create("raft_backing");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, a_folder_that_is_not_there_is_refused_by_name);
    tcase_add_test(tcase, a_backing_that_the_library_never_got_is_let_go_of);
    suite_add_tcase(made, tcase);
    return made;
}

int main(void)
{
    return test_main_run(suite());
}
