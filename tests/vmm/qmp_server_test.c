/* Goal: a stock QMP client is understood however it cuts its messages, is told what is
 * wrong with them, and cannot hold up or outgrow the VMM. Method: a UNIX socket of ours
 * as the client, two commands of the test's own, the poller stepped by hand. */
#include "support/temp_dir.h"
#include "support/test_main.h"
#include "vmm/qmp_server.h"

#include <check.h>

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static struct temp_dir dir;
static struct sockaddr_un address;
static struct poller *poller;
static struct qmp_server *server;
static int client;
static char answers[4096];

static int
echo(void *context, const json_t *arguments, json_t **ret_result, struct err *err)
{
    (void)context;
    (void)err;
    *ret_result = json_incref((json_t *)(uintptr_t)arguments);
    return 0;
}

static int
refuse_it(void *context, const json_t *arguments, json_t **ret_result, struct err *err)
{
    (void)context;
    (void)arguments;
    (void)ret_result;
    return err_set(err, BERTH_EBUSY, "not today");
}

static int
silent(void *context, const json_t *arguments, json_t **ret_result, struct err *err)
{
    (void)context;
    (void)arguments;
    (void)ret_result;
    (void)err;
    return 0;
}

static int
slow(void *context, const json_t *arguments, json_t **ret_result, struct err *err)
{
    (void)context;
    (void)arguments;
    (void)ret_result;
    return qmp_server_owes(server) ? err_set(err, BERTH_EBUSY, "one after the other")
                                   : QMP_LATER;
}

static const struct qmp_command commands[] = {{"echo", echo},
                                              {"fail", refuse_it},
                                              {"silent", silent},
                                              {"slow", slow}};

static void settle(void)
{
    while (poller_step(poller, 0) > 0) {
    }
}

static int client_open(void)
{
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    settle();
    return fd;
}

static void say(const char *text)
{
    ck_assert_int_eq(send(client, text, strlen(text), MSG_NOSIGNAL), (int)strlen(text));
    settle();
}

/* All that came since the last call. */
static const char *hear(void)
{
    ssize_t got = recv(client, answers, sizeof(answers) - 1, MSG_DONTWAIT);
    answers[got > 0 ? got : 0] = '\0';
    return answers;
}

static bool is_closed(void)
{
    char byte;
    const ssize_t got = recv(client, &byte, 1, MSG_DONTWAIT);
    return got == 0 || (got < 0 && errno == ECONNRESET); /* with something unread */
}

static void setup(void)
{
    temp_dir_init(&dir);
    address.sun_family = AF_UNIX;
    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%.80s/qmp", dir.path);
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    ck_assert_int_eq(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
    ck_assert_int_eq(listen(listener, 4), 0);
    ck_assert_int_eq(poller_new(&poller, NULL), 0);
    ck_assert_int_eq(qmp_server_new(poller, listener, commands, 4, NULL, &server, NULL),
                     0);
    client = client_open();
}

static void setup_agreed(void)
{
    setup();
    say("{\"execute\":\"qmp_capabilities\"}");
    (void)hear();
}

static void teardown(void)
{
    (void)close(client);
    server = qmp_server_close(server);
    poller_free(poller);
    temp_dir_fini(&dir);
}

START_TEST(it_greets_and_wants_capabilities_agreed_first)
{
    ck_assert_ptr_nonnull(strstr(hear(), "{\"QMP\":{\"version\":"));

    say("{\"execute\":\"silent\",\"id\":1}");
    ck_assert_ptr_nonnull(strstr(hear(), "\"class\":\"CommandNotFound\""));
    qmp_server_event(server, "TOO_EARLY", NULL);
    ck_assert_str_eq(hear(), "");

    say("{\"execute\":\"qmp_capabilities\",\"id\":2}");
    ck_assert_str_eq(hear(), "{\"return\":{},\"id\":2}\r\n");
    say("{\"execute\":\"silent\",\"id\":\"three\"}");
    ck_assert_str_eq(hear(), "{\"return\":{},\"id\":\"three\"}\r\n");
}
END_TEST

START_TEST(all_commands_are_listed_its_own_as_well)
{
    say("{\"execute\":\"query-commands\"}");

    const char *said = hear();
    ck_assert_ptr_nonnull(strstr(said, "{\"name\":\"qmp_capabilities\"}"));
    ck_assert_ptr_nonnull(strstr(said, "{\"name\":\"query-commands\"}"));
    for (unsigned i = 0; i < 4; i++) {
        ck_assert_ptr_nonnull(strstr(said, commands[i].name));
    }
}
END_TEST

struct word_row {
    const char *words;
    const char *answer;
};

static const struct word_row words[] = {
    {"{\"execute\":\"echo\",\"arguments\":{\"a\":[1,{}],\"b\":\"}{\\\"\"}}",
     "{\"return\":{\"a\":[1,{}],\"b\":\"}{\\\"\"}}\r\n"},
    {"{\"execute\":\"fail\",\"id\":7}",
     "{\"error\":{\"class\":\"GenericError\",\"desc\":\"not today\"},\"id\":7}\r\n"},
    {"{\"execute\":\"nothing\"}",
     "{\"error\":{\"class\":\"CommandNotFound\",\"desc\":\"The "
     "command has not been found\"}}\r\n"},
    {"{}", "{\"error\":{\"class\":\"GenericError\",\"desc\":\"QMP input lacks member "
           "'execute'\"}}\r\n"},
    {"{\"execute\":1}",
     "{\"error\":{\"class\":\"GenericError\",\"desc\":\"QMP input lacks "
     "member 'execute'\"}}\r\n"},
    {" \r\n{\"execute\":\"silent\"}\r\n {\"execute\":\"silent\"}",
     "{\"return\":{}}\r\n{\"return\":{}}\r\n"},
};

START_TEST(each_message_has_its_answer)
{
    say(words[_i].words);

    ck_assert_str_eq(hear(), words[_i].answer);
}
END_TEST

START_TEST(a_message_may_come_byte_by_byte)
{
    char piece[2] = "";
    for (const char *c = words[0].words; *c != '\0'; c++) {
        piece[0] = *c;
        say(piece);
    }

    ck_assert_str_eq(hear(), words[0].answer);
}
END_TEST

START_TEST(what_is_no_json_is_refused_or_ends_the_connection)
{
    say("{\"execute\": nonsense}");
    ck_assert_ptr_nonnull(strstr(hear(), "GenericError"));

    say("hello");
    ck_assert(is_closed());
}
END_TEST

START_TEST(a_message_without_end_ends_the_connection)
{
    static char text[QMP_INPUT_MAX];
    memset(text, 'a', sizeof(text));
    memcpy(text, "{\"", 2);

    for (size_t sent = 0; sent < sizeof(text); sent += 4096) {
        ck_assert_int_eq(send(client, text + sent, 4096, MSG_NOSIGNAL), 4096);
        settle();
    }

    ck_assert(is_closed());
}
END_TEST

START_TEST(events_are_told_with_the_time)
{
    qmp_server_event(server, "STOP", NULL);
    qmp_server_event(server, "SHUTDOWN", json_pack("{s:b}", "guest", 1));

    const char *text = hear();
    ck_assert_ptr_nonnull(strstr(text, "{\"timestamp\":{\"seconds\":"));
    ck_assert_ptr_nonnull(strstr(text, "\"event\":\"STOP\"}\r\n"));
    ck_assert_ptr_nonnull(
        strstr(text, "\"event\":\"SHUTDOWN\",\"data\":{\"guest\":true}}"));
}
END_TEST

START_TEST(a_client_that_does_not_read_is_dropped_not_waited_for)
{
    char *long_text = malloc(QMP_INPUT_MAX / 2);
    memset(long_text, 'e', QMP_INPUT_MAX / 2);
    long_text[QMP_INPUT_MAX / 2 - 1] = '\0';

    for (unsigned i = 0; i < 2 * QMP_OUTPUT_MAX / (QMP_INPUT_MAX / 2); i++) {
        qmp_server_event(server, "BIG", json_pack("{s:s}", "text", long_text));
    }
    free(long_text);

    int next = client_open(); /* and the next one is served */
    (void)close(client);
    client = next;
    settle();
    ck_assert_ptr_nonnull(strstr(hear(), "{\"QMP\""));
}
END_TEST

START_TEST(the_next_client_is_served_when_the_first_has_gone)
{
    int second = client_open();
    (void)close(client);
    client = second;
    settle();

    ck_assert_ptr_nonnull(strstr(hear(), "{\"QMP\""));
    say("{\"execute\":\"silent\"}"); /* it has not agreed, whatever the first did */
    ck_assert_ptr_nonnull(strstr(hear(), "CommandNotFound"));
}
END_TEST

static unsigned gone_count;

static void on_gone(void *context)
{
    (void)context;
    gone_count++;
}

START_TEST(its_owner_hears_of_each_client_that_goes)
{
    qmp_server_listen_gone(server, on_gone);
    (void)close(client);
    settle();
    ck_assert_uint_eq(gone_count, 1);

    client = client_open();
    say("no JSON");
    ck_assert_uint_eq(gone_count, 2);

    (void)close(client);
    client = client_open();
    server = qmp_server_close(server);
    ck_assert_uint_eq(gone_count, 3);
}
END_TEST

START_TEST(descriptors_come_along_with_messages)
{
    int pipes[2];
    char text[] = "{\"execute\":\"silent\"}";
    union {
        struct cmsghdr part;
        char room[CMSG_SPACE(sizeof(int))];
    } control = {.part = {.cmsg_len = CMSG_LEN(sizeof(int)),
                          .cmsg_level = SOL_SOCKET,
                          .cmsg_type = SCM_RIGHTS}};
    struct iovec piece = {text, strlen(text)};
    const struct msghdr header = {.msg_iov = &piece,
                                  .msg_iovlen = 1,
                                  .msg_control = &control,
                                  .msg_controllen = sizeof(control)};
    ck_assert_int_eq(pipe(pipes), 0);
    memcpy(CMSG_DATA(&control.part), &pipes[1], sizeof(int));

    ck_assert_int_gt(sendmsg(client, &header, 0), 0);
    settle();

    int fd = qmp_server_take_fd(server);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, "x", 1), 1);
    ck_assert_int_eq(read(pipes[0], text, 1), 1);
    ck_assert_int_eq(qmp_server_take_fd(server), -1);
    (void)close(fd);
    (void)close(pipes[0]);
    (void)close(pipes[1]);
}
END_TEST

/* ---- answers that come later ---- */

START_TEST(who_can_tell_answers_apart_is_answered_before_what_is_owed)
{
    say("{\"execute\":\"slow\",\"id\":1}");
    ck_assert_str_eq(hear(), "");

    say("{\"execute\":\"silent\",\"id\":2}{\"execute\":\"slow\",\"id\":3}");
    ck_assert_str_eq(hear(), "{\"return\":{},\"id\":2}\r\n"
                             "{\"error\":{\"class\":\"GenericError\",\"desc\":"
                             "\"one after the other\"},\"id\":3}\r\n");
    qmp_server_answer(server, 0, NULL);

    ck_assert_str_eq(hear(), "{\"return\":{},\"id\":1}\r\n");
    say("{\"execute\":\"slow\",\"id\":4}");
    const struct err why = {.text = "it cannot"};
    qmp_server_answer(server, BERTH_ECLOSED, &why);
    ck_assert_str_eq(hear(), "{\"error\":{\"class\":\"GenericError\",\"desc\":"
                             "\"it cannot\"},\"id\":4}\r\n");
}
END_TEST

/* What waits is answered in its order, and by the poller: not within the answer. */
START_TEST(who_cannot_is_answered_in_order)
{
    say("{\"execute\":\"slow\"}{\"execute\":\"fail\"} {\"execute\": nonsense}");
    say("{\"execute\":\"silent\",\"id\":7}");
    say("{\"execute\":\"slow\"}{\"execute\":\"silent\"}");
    ck_assert_str_eq(hear(), "");

    qmp_server_answer(server, 0, NULL);
    ck_assert_str_eq(hear(), "{\"return\":{}}\r\n");
    settle();

    const char *said = hear();
    const char *first = strstr(said, "not today");
    ck_assert_ptr_nonnull(first);
    const char *second = strstr(first, "{\"error\":");
    ck_assert_ptr_nonnull(second);
    ck_assert_str_eq(strstr(second, "\r\n"), "\r\n{\"return\":{},\"id\":7}\r\n");
    qmp_server_answer(server, 0, NULL); /* of the second slow one */
    settle();
    ck_assert_str_eq(hear(), "{\"return\":{}}\r\n{\"return\":{}}\r\n");
}
END_TEST

START_TEST(what_is_owed_goes_with_its_client)
{
    say("{\"execute\":\"slow\",\"id\":1}{\"execute\":\"silent\"}");
    (void)close(client);
    client = client_open();
    (void)hear();
    say("{\"execute\":\"qmp_capabilities\"}");
    ck_assert_str_eq(hear(), "{\"return\":{}}\r\n");
    ck_assert(!qmp_server_owes(server));

    qmp_server_answer(server, 0, NULL);
    settle();

    ck_assert_str_eq(hear(), "");
    say("{\"execute\":\"slow\"}");
    ck_assert(qmp_server_owes(server)); /* and its end is the server's own */
}
END_TEST

/* As of one that sends what it has in a row, and then waits for the answers. _i: nothing
 * is behind what is owed, or something, or another that is. */
START_TEST(who_has_said_all_is_answered_all_the_same)
{
    static const char *const behind[] = {"", "{\"execute\":\"silent\"}",
                                         "{\"execute\":\"silent\"}"
                                         "{\"execute\":\"slow\"}"
                                         "{\"execute\":\"fail\"}"};
    say("{\"execute\":\"slow\"}");
    say(behind[_i]);
    ck_assert_int_eq(shutdown(client, SHUT_WR), 0);
    settle(); /* which it does: nobody turns over what does not come */
    ck_assert_str_eq(hear(), "");
    ck_assert(qmp_server_owes(server));

    qmp_server_answer(server, 0, NULL);
    settle();

    ck_assert_str_eq(hear(), _i == 0 ? "{\"return\":{}}\r\n"
                                     : "{\"return\":{}}\r\n{\"return\":{}}\r\n");
    if (_i == 2) {
        ck_assert(qmp_server_owes(server));
        qmp_server_answer(server, 0, NULL);
        settle();
        ck_assert_ptr_nonnull(strstr(hear(), "{\"return\":{}}\r\n{\"error\":"));
    }
    ck_assert(is_closed());
}
END_TEST

START_TEST(who_has_said_all_and_goes_is_owed_nothing)
{
    say("{\"execute\":\"slow\"}{\"execute\":\"silent\"}");
    ck_assert_int_eq(shutdown(client, SHUT_WR), 0);
    settle();
    ck_assert(qmp_server_owes(server));

    (void)close(client);
    settle();

    ck_assert(!qmp_server_owes(server));
    client = client_open();
    ck_assert_ptr_nonnull(strstr(hear(), "{\"QMP\":"));
}
END_TEST

/* _i: one byte more comes. */
START_TEST(what_waits_is_bounded)
{
    static const char word[] = "{\"execute\":\"silent\"}";
    static char text[QMP_INPUT_MAX / 4 + 1];
    memset(text, ' ', sizeof(text) - 1);
    memcpy(text, word, strlen(word));
    say("{\"execute\":\"slow\"}{\"execute\":\"fail\"}"); /* the second is taken */
    for (unsigned i = 0; i < 4; i++) {
        say(text);
        ck_assert_str_eq(hear(), "");
    }
    ck_assert(qmp_server_owes(server));

    if (_i == 1) {
        say(" ");
        ck_assert(is_closed());
        ck_assert(!qmp_server_owes(server));
        return;
    }
    qmp_server_answer(server, 0, NULL);
    settle();

    const char *said = hear();
    for (unsigned i = 0; i < 5; i++) {
        said = strstr(said, "{\"return\":{}}\r\n");
        ck_assert_ptr_nonnull(said);
        said++;
    }
    ck_assert(!is_closed());
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("qmp_server");
    TCase *first = tcase_create("greeting");
    TCase *tests = tcase_create("qmp_server");
    tcase_add_checked_fixture(first, setup, teardown);
    tcase_add_checked_fixture(tests, setup_agreed, teardown);
    tcase_add_test(first, it_greets_and_wants_capabilities_agreed_first);
    tcase_add_loop_test(tests, each_message_has_its_answer, 0,
                        sizeof(words) / sizeof(words[0]));
    tcase_add_test(tests, all_commands_are_listed_its_own_as_well);
    tcase_add_test(tests, a_message_may_come_byte_by_byte);
    tcase_add_test(tests, what_is_no_json_is_refused_or_ends_the_connection);
    tcase_add_test(tests, a_message_without_end_ends_the_connection);
    tcase_add_test(tests, events_are_told_with_the_time);
    tcase_add_test(tests, a_client_that_does_not_read_is_dropped_not_waited_for);
    tcase_add_test(tests, the_next_client_is_served_when_the_first_has_gone);
    tcase_add_test(tests, its_owner_hears_of_each_client_that_goes);
    tcase_add_test(tests, descriptors_come_along_with_messages);
    tcase_add_test(tests, who_can_tell_answers_apart_is_answered_before_what_is_owed);
    tcase_add_test(tests, who_cannot_is_answered_in_order);
    tcase_add_test(tests, what_is_owed_goes_with_its_client);
    tcase_add_loop_test(tests, who_has_said_all_is_answered_all_the_same, 0, 3);
    tcase_add_test(tests, who_has_said_all_and_goes_is_owed_nothing);
    tcase_add_loop_test(tests, what_waits_is_bounded, 0, 2);
    suite_add_tcase(suite, first);
    suite_add_tcase(suite, tests);
    return test_main_run(suite);
}
