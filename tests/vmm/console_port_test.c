/* Goal: a console can be watched and typed at, and nobody who watches badly can hold the
 * guest up or make the VMM grow. Method: a real serial port, a UNIX socket pair of ours
 * as the client, the poller stepped by hand. */
#include "support/temp_dir.h"
#include "support/test_main.h"
#include "vmm/console_port.h"

#include <check.h>

#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static struct temp_dir dir;
static struct sockaddr_un address;
static struct poller *poller;
static struct serial_port *serial;
static struct console_port *console;

static void setup(void)
{
    temp_dir_init(&dir);
    address.sun_family = AF_UNIX;
    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%.80s/console", dir.path);
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    ck_assert_int_eq(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
    ck_assert_int_eq(listen(listener, 1), 0);
    ck_assert_int_eq(poller_new(&poller, NULL), 0);
    ck_assert_int_eq(serial_port_new(&serial), 0);
    ck_assert_int_eq(console_port_listen(poller, serial, listener, &console, NULL), 0);
}

static void teardown(void)
{
    console = console_port_close(console);
    device_free(&serial->device);
    poller_free(poller);
    temp_dir_fini(&dir);
}

/* Everything that can happen now has happened afterwards. */
static void settle(void)
{
    while (poller_step(poller, 0) > 0) {
    }
}

static int client_open(void)
{
    int client = socket(AF_UNIX, SOCK_STREAM, 0);
    ck_assert_int_eq(connect(client, (struct sockaddr *)&address, sizeof(address)), 0);
    settle();
    return client;
}

static void guest_says(const char *text)
{
    for (; *text != '\0'; text++) {
        device_write(&serial->device, 0, 0, text, 1);
    }
}

static void client_reads(int client, const char *expected)
{
    char text[256] = {0};
    ssize_t got = recv(client, text, sizeof(text) - 1, MSG_DONTWAIT);
    ck_assert_int_ge(got, 0);
    ck_assert_str_eq(text, expected);
}

START_TEST(a_client_sees_what_was_said_before_it_came_and_after)
{
    guest_says("before ");
    int client = client_open();
    guest_says("after");
    settle();

    client_reads(client, "before after");
    (void)close(client);
}
END_TEST

START_TEST(what_is_typed_reaches_the_guest_whole_however_slowly_it_reads)
{
    char typed[1000];
    uint8_t byte;
    for (unsigned i = 0; i < sizeof(typed); i++) {
        typed[i] = (char)('a' + i % 26);
    }
    int client = client_open();
    ck_assert_int_eq(write(client, typed, sizeof(typed)), sizeof(typed));
    settle();

    for (unsigned i = 0; i < sizeof(typed); i++) {
        device_read(&serial->device, 0, 5, &byte, 1);
        ck_assert_msg((byte & 1) != 0, "nothing to read after %u bytes", i);
        device_read(&serial->device, 0, 0, &byte, 1);
        ck_assert_int_eq(byte, typed[i]);
        settle();
    }
    (void)close(client);
}
END_TEST

START_TEST(without_a_reader_the_last_bytes_are_kept_and_no_more)
{
    static char text[CONSOLE_KEEP_MAX + 1];
    for (unsigned i = 0; i < 4; i++) {
        memset(text, 'a' + (int)i, CONSOLE_KEEP_MAX);
        guest_says(text);
        settle();
    }
    guest_says("end");

    int client = client_open();
    size_t total = 0;
    for (ssize_t got = 1; got > 0; total += got > 0 ? (size_t)got : 0) {
        got = recv(client, text, sizeof(text), MSG_DONTWAIT);
        ck_assert(got <= 0 || text[0] == 'd');
        settle();
    }

    ck_assert_uint_eq(total, CONSOLE_KEEP_MAX);
    (void)close(client);
}
END_TEST

START_TEST(a_client_that_goes_is_forgotten_and_another_is_served)
{
    int client = client_open();
    (void)close(client);
    guest_says("one");
    settle();
    guest_says(" two");
    settle();

    client = client_open();

    client_reads(client, "one two");
    (void)close(client);
}
END_TEST

START_TEST(a_second_client_replaces_the_first)
{
    int first = client_open();
    int second = client_open();
    guest_says("hello");
    settle();

    client_reads(second, "hello");
    client_reads(first, ""); /* closed */
    (void)close(first);
    (void)close(second);
}
END_TEST

START_TEST(a_client_that_comes_back_is_told_all_again)
{
    int client = client_open();
    guest_says("read, ");
    settle();
    client_reads(client, "read, ");
    (void)close(client);
    settle();
    guest_says("unread, ");

    client = client_open();
    guest_says("new");
    settle();

    client_reads(client, "read, unread, new");
    (void)close(client);
}
END_TEST

/* ---- standard output, which blocks ---- */

static int output_ends[2]; /* what is read, what the console writes to */

static void setup_pipe(void)
{
    (void)signal(SIGPIPE, SIG_IGN); /* as the program does */
    ck_assert_int_eq(pipe(output_ends), 0);
    ck_assert_int_eq(poller_new(&poller, NULL), 0);
    ck_assert_int_eq(serial_port_new(&serial), 0);
    ck_assert_int_eq(
        console_port_connect(poller, serial, -1, output_ends[1], &console, NULL), 0);
}

static void teardown_pipe(void)
{
    console = console_port_close(console);
    device_free(&serial->device);
    poller_free(poller);
    for (unsigned i = 0; i < 2; i++) {
        if (output_ends[i] >= 0) {
            (void)close(output_ends[i]);
        }
    }
}

/* What is in the pipe now, and what comes while it is read. */
static size_t pipe_drain(char *ret_last)
{
    static char text[PIPE_BUF];
    struct pollfd wait = {.fd = output_ends[0], .events = POLLIN};
    size_t total = 0;
    settle();
    while (poll(&wait, 1, 0) > 0) {
        const ssize_t got = read(output_ends[0], text, sizeof(text));
        ck_assert_int_gt(got, 0);
        *ret_last = text[got - 1];
        total += (size_t)got;
        settle();
    }
    return total;
}

/* More than the pipe and the ring hold: a write that blocked would be the end of all
 * devices. What is still kept arrives when it is read. */
START_TEST(standard_output_that_nobody_reads_holds_nobody_up)
{
    static char text[CONSOLE_KEEP_MAX + 1];
    char last = 0;
    for (unsigned i = 0; i < 8; i++) {
        memset(text, 'a' + (int)i, CONSOLE_KEEP_MAX);
        guest_says(text);
        settle();
    }
    guest_says("!");

    ck_assert_uint_ge(pipe_drain(&last), CONSOLE_KEEP_MAX);
    ck_assert_int_eq(last, '!');
    guest_says("more");
    ck_assert_uint_eq(pipe_drain(&last), 4);
}
END_TEST

START_TEST(the_last_words_are_written_at_the_end)
{
    char text[8] = {0};
    guest_says("bye");

    console = console_port_close(console);

    ck_assert_int_eq(read(output_ends[0], text, sizeof(text)), 3);
    ck_assert_str_eq(text, "bye");
}
END_TEST

static size_t read_total;
static char read_last;

static void *reader(void *context)
{
    static char text[PIPE_BUF];
    ssize_t got;
    (void)context;
    while ((got = read(output_ends[0], text, sizeof(text))) > 0) {
        read_total += (size_t)got;
        read_last = text[got - 1];
    }
    return NULL;
}

/* The pipe and the ring are full when the end comes; who reads has all of both. */
START_TEST(the_last_words_reach_a_reader_that_is_behind)
{
    static char text[CONSOLE_KEEP_MAX];
    pthread_t thread;
    memset(text, 'x', sizeof(text) - 1);
    for (unsigned i = 0; i < 4; i++) {
        guest_says(text);
        settle();
    }
    guest_says("!");
    read_total = 0;
    ck_assert_int_eq(pthread_create(&thread, NULL, reader, NULL), 0);

    console = console_port_close(console);

    (void)close(output_ends[1]);
    output_ends[1] = -1;
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    ck_assert_uint_gt(read_total, CONSOLE_KEEP_MAX);
    ck_assert_int_eq(read_last, '!');
}
END_TEST

START_TEST(an_end_does_not_wait_for_who_does_not_read)
{
    static char text[CONSOLE_KEEP_MAX + 1];
    memset(text, 'x', CONSOLE_KEEP_MAX);
    for (unsigned i = 0; i < 4; i++) {
        guest_says(text);
        settle();
    }

    console = console_port_close(console);

    (void)close(output_ends[1]);
    output_ends[1] = -1;
    size_t total = 0;
    for (ssize_t got = 1; got > 0; total += (size_t)got) {
        got = read(output_ends[0], text, sizeof(text));
    }
    ck_assert_uint_gt(total, 0);
}
END_TEST

START_TEST(standard_output_that_is_closed_is_forgotten)
{
    (void)close(output_ends[0]);
    output_ends[0] = -1;
    guest_says("one");
    settle();
    guest_says("two");
    settle();
}
END_TEST

/* What cannot be waited for has always room. */
START_TEST(standard_output_may_be_a_file)
{
    char text[8] = {0};
    console = console_port_close(console);
    FILE *file = tmpfile();
    ck_assert_ptr_nonnull(file);
    ck_assert_int_eq(
        console_port_connect(poller, serial, -1, fileno(file), &console, NULL), 0);

    guest_says("abc");
    settle();

    ck_assert_int_eq(pread(fileno(file), text, sizeof(text), 0), 3);
    ck_assert_str_eq(text, "abc");
    console = console_port_close(console);
    (void)fclose(file);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("console_port");
    TCase *tests = tcase_create("console_port");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, a_client_sees_what_was_said_before_it_came_and_after);
    tcase_add_test(tests, what_is_typed_reaches_the_guest_whole_however_slowly_it_reads);
    tcase_add_test(tests, without_a_reader_the_last_bytes_are_kept_and_no_more);
    tcase_add_test(tests, a_client_that_goes_is_forgotten_and_another_is_served);
    tcase_add_test(tests, a_second_client_replaces_the_first);
    tcase_add_test(tests, a_client_that_comes_back_is_told_all_again);
    suite_add_tcase(suite, tests);
    TCase *output = tcase_create("standard_output");
    tcase_add_checked_fixture(output, setup_pipe, teardown_pipe);
    tcase_add_test(output, standard_output_that_nobody_reads_holds_nobody_up);
    tcase_add_test(output, the_last_words_are_written_at_the_end);
    tcase_add_test(output, the_last_words_reach_a_reader_that_is_behind);
    tcase_add_test(output, an_end_does_not_wait_for_who_does_not_read);
    tcase_add_test(output, standard_output_that_is_closed_is_forgotten);
    tcase_add_test(output, standard_output_may_be_a_file);
    suite_add_tcase(suite, output);
    return test_main_run(suite);
}
