/* What the library's disk and the channels do for it is tested by raft_node_test.c and
 * raft_channel_test.c; here, what they refuse, how they are let go unused, and who is
 * told of time: the library's io is started by nobody, and the ticker is the test's. */
#include "consensus/raft_backing.h"
#include "consensus/raft_pace.h"
#include "support/temp_dir.h"
#include "support/test_main.h"

#include <raft.h>
#include <raft/uv.h>

#include <dlfcn.h>
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

/* ---- the library's start and end, noted ---- */

static struct {
    unsigned interval_ms;
    raft_io_tick_cb tick;
    raft_io_recv_cb recv;
} library;

static int note_start(struct raft_io *io,
                      unsigned interval_ms,
                      raft_io_tick_cb tick,
                      raft_io_recv_cb recv)
{
    (void)io;
    library.interval_ms = interval_ms;
    library.tick = tick;
    library.recv = recv;
    return 0;
}

static void close_at_once(struct raft_io *io, raft_io_close_cb done)
{
    done(io);
}

/* In place of the library's, which it calls. */
int raft_uv_init(struct raft_io *io,
                 struct uv_loop_s *on,
                 const char *folder,
                 struct raft_uv_transport *transport)
{
    int (*real)(struct raft_io *, struct uv_loop_s *, const char *,
                struct raft_uv_transport *) = NULL;
    *(void **)&real = dlsym(RTLD_NEXT, "raft_uv_init");
    int r = real(io, on, folder, transport);
    io->start = note_start;
    io->close = close_at_once;
    return r;
}

/* ---- the ticker, noted: consensus/raft_pace.h is tested by raft_pace_test.c ---- */

struct raft_ticker {
    bool open;
    uint64_t interval_ms;
    uint64_t own_ms;
    unsigned heard;
    struct raft_pace_state (*state)(void *context);
    void (*tick)(void *context);
    void *context;
};

static struct raft_ticker ticker;

struct raft_ticker *raft_ticker_open(uv_loop_t *on,
                                     uint64_t interval_ms,
                                     uint64_t own_ms,
                                     struct raft_pace_state (*state)(void *context),
                                     void (*tick)(void *context),
                                     void *context)
{
    (void)on;
    ticker = (struct raft_ticker){.open = true,
                                  .interval_ms = interval_ms,
                                  .own_ms = own_ms,
                                  .state = state,
                                  .tick = tick,
                                  .context = context};
    return &ticker;
}

void raft_ticker_heard(struct raft_ticker *told)
{
    told->heard++;
}

struct raft_ticker *raft_ticker_close(struct raft_ticker *told)
{
    if (told != NULL) {
        told->open = false;
    }
    return NULL;
}

/* ---- who is told ---- */

static struct raft raft;
static unsigned ticks;
static unsigned received;

static void count_tick(struct raft_io *io)
{
    (void)io;
    ticks++;
}

static void count_received(struct raft_io *io, struct raft_message *message)
{
    (void)io;
    (void)message;
    received++;
}

static int open_in(const char *folder, struct raft_backing **ret_backing, struct err *err)
{
    struct consensus_config config = {.id = 1,
                                      .cluster_id = 2,
                                      .address = "127.0.0.1:1",
                                      .folder = folder,
                                      .secret_key = key,
                                      .election_ms = 300};
    return raft_backing_open(&config, &loop, &raft, ret_backing, err);
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

static struct raft_backing *backing_started(void)
{
    struct raft_backing *backing = NULL;
    struct err err = {0};
    ck_assert_msg(open_in(dir.path, &backing, &err) == 0, "%s", err.text);
    struct raft_io *io = raft_backing_io(backing);
    ck_assert_int_eq(io->start(io, 100, count_tick, count_received), 0);
    return backing;
}

static void note_closed(struct raft_io *io)
{
    io->data = io;
}

static void backing_end(struct raft_backing *backing)
{
    struct raft_io *io = raft_backing_io(backing);
    io->close(io, note_closed);
    ck_assert(!ticker.open);
    while (io->data == NULL) {
        (void)uv_run(&loop, UV_RUN_ONCE);
    }
    raft_backing_abandon(backing, let_go, backing);
}

START_TEST(the_library_is_told_of_time_by_the_ticker_alone)
{
    struct raft_backing *backing = backing_started();
    struct raft_io *io = raft_backing_io(backing);
    ck_assert_uint_eq(ticker.interval_ms, 100);
    ck_assert_uint_lt(ticker.own_ms, 100);

    library.tick(io);
    ck_assert_uint_eq(ticks, 0);
    ticker.tick(ticker.context);
    ck_assert_uint_eq(ticks, 1);

    ck_assert_uint_gt(library.interval_ms, 1000 * 3600); /* it hardly wakes for nothing */
    backing_end(backing);
}
END_TEST

START_TEST(the_ticker_hears_of_heartbeats_and_of_nothing_else)
{
    struct raft_backing *backing = backing_started();
    for (int type = RAFT_IO_APPEND_ENTRIES; type <= RAFT_IO_TIMEOUT_NOW; type++) {
        struct raft_message message = {.type = (unsigned short)type};
        unsigned before = ticker.heard;

        library.recv(raft_backing_io(backing), &message);

        ck_assert_uint_eq(ticker.heard - before, type == RAFT_IO_APPEND_ENTRIES);
        ck_assert_uint_eq(received, (unsigned)(type - RAFT_IO_APPEND_ENTRIES) + 1);
    }
    backing_end(backing);
}
END_TEST

START_TEST(the_ticker_knows_who_leads_and_when_a_follower_stands_for_it)
{
    struct raft_backing *backing = backing_started();
    raft.election_timer_start = 1000;
    for (unsigned short state = 0; state <= RAFT_LEADER; state++) {
        raft.state = state;
        if (state == RAFT_FOLLOWER) {
            raft.follower_state.randomized_election_timeout = 444;
        } else if (state == RAFT_CANDIDATE) {
            raft.candidate_state.randomized_election_timeout = 555;
        }
        const struct raft_pace_state told = ticker.state(ticker.context);
        ck_assert(told.leads == (state == RAFT_LEADER));
        ck_assert_uint_eq(told.due_ms, state == RAFT_FOLLOWER    ? 1444
                                       : state == RAFT_CANDIDATE ? 1555
                                                                 : 0);
    }
    backing_end(backing);
}
END_TEST

static Suite *suite(void)
{
    Suite *made = suite_create("raft_backing");
    TCase *tcase = tcase_create("raft_backing");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, a_folder_that_is_not_there_is_refused_by_name);
    tcase_add_test(tcase, a_backing_that_the_library_never_got_is_let_go_of);
    tcase_add_test(tcase, the_library_is_told_of_time_by_the_ticker_alone);
    tcase_add_test(tcase, the_ticker_hears_of_heartbeats_and_of_nothing_else);
    tcase_add_test(tcase, the_ticker_knows_who_leads_and_when_a_follower_stands_for_it);
    suite_add_tcase(made, tcase);
    return made;
}

int main(void)
{
    return test_main_run(suite());
}
