/* What becomes of a vote whose channel has ended: an io that notes what it is given, and
 * says that it was sent, or was not, when the test does. */
#include "consensus/raft_resends.h"
#include "support/test_main.h"

#include <raft.h>

#include <stdio.h>
#include <string.h>

static struct raft_resends votes;
static struct {
    struct raft_io_send *request; /* under way; NULL: none */
    raft_io_send_cb done;
    struct raft_message message;
    char address[32];
    unsigned count;
    int status; /* of the call itself */
} given;
static struct {
    struct raft_io_send *request;
    int status;
    unsigned count;
} told;

static int note_send(struct raft_io *io,
                     struct raft_io_send *request,
                     const struct raft_message *message,
                     raft_io_send_cb done)
{
    (void)io;
    given.count++;
    if (given.status != 0) {
        return given.status;
    }
    given.request = request;
    given.done = done;
    given.message = *message;
    (void)snprintf(given.address, sizeof(given.address), "%s", message->server_address);
    return 0;
}

static void sent(int status)
{
    struct raft_io_send *request = given.request;
    ck_assert_ptr_nonnull(request);
    given.request = NULL;
    given.done(request, status);
}

static void note_told(struct raft_io_send *request, int status)
{
    told.request = request;
    told.status = status;
    told.count++;
}

static struct raft_io io = {.send = note_send};
static struct raft_io_send request;

/* Sends a vote, whose address is no more when the call returns. */
static int send_vote(void)
{
    char address[] = "10.0.0.2:7442";
    const struct raft_message message = {
        .type = RAFT_IO_REQUEST_VOTE_RESULT,
        .server_id = 2,
        .server_address = address,
        .request_vote_result = {.term = 9, .vote_granted = true}};
    int r = raft_resends_send(&votes, &request, &message, note_told);
    memset(address, 'x', sizeof(address) - 1);
    return r;
}

START_TEST(a_vote_that_is_sent_is_sent_once)
{
    ck_assert_int_eq(send_vote(), 0);
    ck_assert_uint_eq(told.count, 0);

    sent(0);

    ck_assert_uint_eq(given.count, 1);
    ck_assert_uint_eq(told.count, 1);
    ck_assert_ptr_eq(told.request, &request);
    ck_assert_int_eq(told.status, 0);
}
END_TEST

START_TEST(a_vote_whose_channel_has_ended_is_sent_once_more)
{
    ck_assert_int_eq(send_vote(), 0);
    sent(RAFT_IOERR);

    ck_assert_uint_eq(given.count, 2);
    ck_assert_uint_eq(told.count, 0);
    ck_assert_uint_eq(given.message.type, RAFT_IO_REQUEST_VOTE_RESULT);
    ck_assert_uint_eq(given.message.server_id, 2);
    ck_assert_str_eq(given.address, "10.0.0.2:7442");
    ck_assert_uint_eq(given.message.request_vote_result.term, 9);
    ck_assert(given.message.request_vote_result.vote_granted);

    sent(RAFT_IOERR);

    ck_assert_uint_eq(given.count, 2); /* no third time */
    ck_assert_uint_eq(told.count, 1);
    ck_assert_int_eq(told.status, RAFT_IOERR);
}
END_TEST

/* Given up by the library: there is nobody there, or it closes. */
START_TEST(a_vote_that_was_given_up_is_not_sent_again)
{
    static const int statuses[] = {RAFT_CANCELED, RAFT_NOCONNECTION};
    ck_assert_int_eq(send_vote(), 0);
    sent(statuses[_i]);
    ck_assert_uint_eq(given.count, 1);
    ck_assert_int_eq(told.status, statuses[_i]);
}
END_TEST

START_TEST(when_nothing_may_be_sent_any_more_nothing_is)
{
    ck_assert_int_eq(send_vote(), 0);
    votes.ended = true;
    sent(RAFT_IOERR);
    ck_assert_uint_eq(given.count, 1);
    ck_assert_int_eq(told.status, RAFT_IOERR);
}
END_TEST

/* Row 0: at the first call, which says so; row 1: at the second, which nobody sees. */
START_TEST(a_vote_that_the_library_refuses_is_not_sent)
{
    if (_i == 0) {
        given.status = RAFT_NOMEM;
        ck_assert_int_eq(send_vote(), RAFT_NOMEM);
        ck_assert_uint_eq(told.count, 0);
        return;
    }
    ck_assert_int_eq(send_vote(), 0);
    given.status = RAFT_NOMEM;
    sent(RAFT_IOERR);
    ck_assert_uint_eq(given.count, 2);
    ck_assert_int_eq(told.status, RAFT_NOMEM);
}
END_TEST

static void setup(void)
{
    votes = (struct raft_resends){.io = &io};
    memset(&given, 0, sizeof(given));
    memset(&told, 0, sizeof(told));
}

int main(void)
{
    Suite *suite = suite_create("raft_resends");
    TCase *tcase = tcase_create("raft_resends");
    tcase_add_checked_fixture(tcase, setup, NULL);
    tcase_add_test(tcase, a_vote_that_is_sent_is_sent_once);
    tcase_add_test(tcase, a_vote_whose_channel_has_ended_is_sent_once_more);
    tcase_add_loop_test(tcase, a_vote_that_was_given_up_is_not_sent_again, 0, 2);
    tcase_add_test(tcase, when_nothing_may_be_sent_any_more_nothing_is);
    tcase_add_loop_test(tcase, a_vote_that_the_library_refuses_is_not_sent, 0, 2);
    suite_add_tcase(suite, tcase);
    return test_main_run(suite);
}
