/* Goal: absolute offsets survive wrapping, slow readers see a gap, input reaches a real
 * socket. */
#include "agent/console_ring.h"
#include "base/loop.h"
#include "support/temp_dir.h"
#include "support/test_main.h"

#include <check.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static char reply[8192];

static const char *read_all(const struct console_ring *ring, uint64_t *offset)
{
    size_t count = console_ring_read(ring, offset, reply, sizeof(reply) - 1);
    reply[count] = '\0';
    return reply;
}

/* Of this process, in mappings that get no huge pages ("nh"). */
static size_t small_paged_kib(void)
{
    char line[512];
    size_t mapping = 0;
    size_t sum = 0;
    FILE *file = fopen("/proc/self/smaps", "re");
    ck_assert_ptr_nonnull(file);
    while (fgets(line, sizeof(line), file) != NULL) {
        (void)sscanf(line, "Size: %zu kB", &mapping);
        sum += strncmp(line, "VmFlags:", 8) == 0 && strstr(line, " nh") != NULL ? mapping
                                                                                : 0;
    }
    (void)fclose(file);
    return sum;
}

/* Where the system gives them always, a line of text would take 2 MiB. */
START_TEST(a_ring_gets_no_huge_pages)
{
    if (access("/sys/kernel/mm/transparent_hugepage", F_OK) != 0) {
        return; /* nobody gets any */
    }
    const size_t before = small_paged_kib();
    struct console_ring *ring = console_ring_new();

    ck_assert_uint_ge(small_paged_kib(), before + CONSOLE_RING_SIZE / 1024);

    console_ring_free(ring);
}
END_TEST

START_TEST(what_was_appended_is_read_from_any_offset)
{
    struct console_ring *ring = console_ring_new();
    console_ring_append(ring, "hello ", 6);
    console_ring_append(ring, "world", 5);
    uint64_t offset = 0;
    uint64_t middle = 6;
    uint64_t beyond = 1000;

    ck_assert_str_eq(read_all(ring, &offset), "hello world");
    ck_assert_uint_eq(offset, 11);
    ck_assert_str_eq(read_all(ring, &middle), "world");
    ck_assert_str_eq(read_all(ring, &beyond), "");
    ck_assert_uint_eq(beyond, 11);
    console_ring_free(ring);
}
END_TEST

#define RINGS 64

static size_t resident_bytes(void)
{
    FILE *file = fopen("/proc/self/statm", "r");
    size_t pages = 0;
    ck_assert(file != NULL && fscanf(file, "%*u %zu", &pages) == 1);
    (void)fclose(file);
    return pages * (size_t)sysconf(_SC_PAGESIZE);
}

/* Also where noisy VMs have been: of theirs nothing is left. */
START_TEST(a_vm_that_says_little_takes_little)
{
    static char noise[CONSOLE_RING_SIZE];
    struct console_ring *rings[RINGS];
    memset(noise, 'x', sizeof(noise));
    const size_t before = resident_bytes();
    for (unsigned i = 0; i < RINGS; i++) {
        rings[i] = console_ring_new();
        console_ring_append(rings[i], noise, sizeof(noise));
    }
    ck_assert_uint_gt(resident_bytes(), before + RINGS * sizeof(noise) / 2);
    for (unsigned i = 0; i < RINGS; i++) {
        console_ring_free(rings[i]);
    }
    for (unsigned i = 0; i < RINGS; i++) {
        rings[i] = console_ring_new();
        console_ring_append(rings[i], "hello", 5);
    }
    ck_assert_uint_lt(resident_bytes(), before + RINGS * sizeof(noise) / 4);
    for (unsigned i = 0; i < RINGS; i++) {
        console_ring_free(rings[i]);
    }
}
END_TEST

/* Byte n is always n % 251, whatever sizes it came in. */
START_TEST(a_slow_reader_is_told_of_the_gap)
{
    static const size_t sizes[] = {1, 7, 4096, 65535, 65536, 65537, 200000};
    struct console_ring *ring = console_ring_new();
    uint64_t written = 0;
    for (unsigned round = 0; round < 3 * (sizeof(sizes) / sizeof(sizes[0])); round++) {
        size_t size = sizes[round % (sizeof(sizes) / sizeof(sizes[0]))];
        uint8_t *data = malloc(size);
        for (size_t i = 0; i < size; i++) {
            data[i] = (uint8_t)((written + i) % 251);
        }
        console_ring_append(ring, data, size);
        free(data);
        written += size;

        uint64_t offset = 0;
        uint64_t first = written > CONSOLE_RING_SIZE ? written - CONSOLE_RING_SIZE : 0;
        uint8_t piece[1000];
        uint64_t expect = first;
        size_t count;
        ck_assert_uint_eq(console_ring_begin(ring), first);
        while ((count = console_ring_read(ring, &offset, piece, sizeof(piece))) > 0) {
            ck_assert_uint_eq(offset, expect + count);
            bool same = true;
            for (size_t i = 0; i < count; i++) {
                same = same && piece[i] == (expect + i) % 251;
            }
            ck_assert(same);
            expect += count;
        }
        ck_assert_uint_eq(expect, written);
    }
    console_ring_free(ring);
}
END_TEST

struct last_line_row {
    const char *text;
    const char *want;
};

static const struct last_line_row last_lines[] = {
    {"", ""},
    {"\r\n\r\n", ""},
    {"one\r\ntwo\r\n", "two"},
    {"one\r\n   \r\n\r\n", "one"},
    {"Kernel panic\n\x1b[2J\x1b[1;1H\n", "Kernel panic"},
    {"\x1b[31mred\x1b[0m alert\x07\n", "red alert"},
    {"cut \x1b[", "cut "},
    {"  indented\n", "indented"},
};

START_TEST(the_last_line_is_fit_for_people)
{
    struct console_ring *ring = console_ring_new();
    char line[64];

    console_ring_append(ring, last_lines[_i].text, strlen(last_lines[_i].text));
    console_ring_last_line(ring, line, sizeof(line));

    ck_assert_str_eq(line, last_lines[_i].want);
    console_ring_last_line(ring, line, 3);
    ck_assert_uint_le(strlen(line), 2);
    console_ring_free(ring);
}
END_TEST

struct watcher {
    struct console_reader *reader;
    struct console_reader **victim;
    unsigned calls;
};

static void watcher_more(void *context)
{
    struct watcher *watcher = context;
    watcher->calls++;
    if (watcher->victim != NULL) {
        *watcher->victim = console_reader_close(*watcher->victim);
    }
}

START_TEST(a_reader_may_close_itself_and_others_when_told)
{
    struct console_ring *ring = console_ring_new();
    struct watcher a = {0};
    struct watcher b = {0};
    struct watcher c = {0};
    a.reader = console_reader_open(ring, watcher_more, &a, NULL);
    b.reader = console_reader_open(ring, watcher_more, &b, NULL);
    c.reader = console_reader_open(ring, watcher_more, &c, NULL);
    a.victim = &b.reader;
    c.victim = &c.reader;

    console_ring_append(ring, "x", 1);
    a.victim = NULL;
    console_ring_append(ring, "y", 1);

    ck_assert_uint_eq(a.calls, 2);
    ck_assert_uint_eq(b.calls, 0);
    ck_assert_uint_eq(c.calls, 1);
    console_reader_close(a.reader);
    console_ring_free(ring);
}
END_TEST

START_TEST(too_many_readers_are_refused)
{
    struct console_ring *ring = console_ring_new();
    struct console_reader *readers[CONSOLE_READERS_MAX];
    struct watcher watcher = {0};
    struct err err = {0};
    for (unsigned i = 0; i < CONSOLE_READERS_MAX; i++) {
        readers[i] = console_reader_open(ring, watcher_more, &watcher, NULL);
        ck_assert_ptr_nonnull(readers[i]);
    }

    ck_assert_ptr_null(console_reader_open(ring, watcher_more, &watcher, &err));
    ck_assert_int_eq(err.code, BERTH_EFULL);

    for (unsigned i = 0; i < CONSOLE_READERS_MAX; i++) {
        console_reader_close(readers[i]);
    }
    console_ring_free(ring);
}
END_TEST

START_TEST(a_ring_lives_as_long_as_its_readers)
{
    struct console_ring *ring = console_ring_new();
    struct watcher watcher = {0};
    console_ring_append(ring, "last words", 10);
    watcher.reader = console_reader_open(ring, watcher_more, &watcher, NULL);

    console_ring_free(ring);

    uint64_t offset = 0;
    ck_assert_str_eq(read_all(ring, &offset), "last words");
    console_reader_close(watcher.reader); /* ASan would tell of a leak */
}
END_TEST

/* ---- the link, against a peer in this very loop ---- */

struct peer {
    struct temp_dir dir;
    char *path;
    uv_loop_t loop;
    struct console_ring *ring;
    int listener;
    int fd;
};

static void on_deadline(void *context)
{
    (void)context;
    ck_abort_msg("the loop waited too long");
}

static struct loop_timer *deadline;

static void peer_listen(struct peer *peer)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memcpy(address.sun_path, peer->path, strlen(peer->path) + 1);
    peer->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(
        bind(peer->listener, (struct sockaddr *)(void *)&address, sizeof(address)), 0);
    ck_assert_int_eq(listen(peer->listener, 1), 0);
}

static void peer_init(struct peer *peer)
{
    temp_dir_init(&peer->dir);
    peer->path = temp_dir_path(&peer->dir, "console.sock");
    ck_assert_int_eq(uv_loop_init(&peer->loop), 0);
    peer->ring = console_ring_new();
    peer->listener = -1;
    peer->fd = -1;
    deadline = loop_timer_new(&peer->loop, 30000, 0, on_deadline, NULL);
}

static void peer_fini(struct peer *peer)
{
    deadline = loop_timer_close(deadline);
    uv_run(&peer->loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(uv_loop_close(&peer->loop), 0);
    console_ring_free(peer->ring);
    if (peer->listener >= 0) {
        close(peer->listener);
    }
    if (peer->fd >= 0) {
        close(peer->fd);
    }
    free(peer->path);
    temp_dir_fini(&peer->dir);
}

START_TEST(output_reaches_the_ring_and_input_the_vm)
{
    struct peer peer;
    peer_init(&peer);
    struct err err = {0};
    struct console_link *link = console_link_open(&peer.loop, peer.path, peer.ring, &err);
    ck_assert_int_eq(console_link_write(link, "early\n", 6), 0);
    for (unsigned i = 0; i < 3; i++) { /* nobody listens yet */
        uv_run(&peer.loop, UV_RUN_ONCE);
    }
    ck_assert(!console_link_connected(link));

    peer_listen(&peer);
    while (!console_link_connected(link)) {
        uv_run(&peer.loop, UV_RUN_ONCE);
    }
    ck_assert_int_eq(console_link_write(link, "late\n", 5), 0);
    peer.fd = accept(peer.listener, NULL, NULL);
    ck_assert_int_eq((int)write(peer.fd, "login: ", 7), 7);
    while (console_ring_end(peer.ring) < 7) {
        uv_run(&peer.loop, UV_RUN_ONCE);
    }

    char text[12] = {0};
    size_t got = 0;
    while (got < 11) {
        ssize_t count = read(peer.fd, text + got, 11 - got);
        ck_assert_int_gt((int)count, 0);
        got += (size_t)count;
    }
    ck_assert_str_eq(text, "early\nlate\n");
    uint64_t offset = 0;
    ck_assert_str_eq(read_all(peer.ring, &offset), "login: ");
    console_link_close(link);
    peer_fini(&peer);
}
END_TEST

START_TEST(input_has_a_limit_and_ends_with_the_peer)
{
    struct peer peer;
    peer_init(&peer);
    struct console_link *link = console_link_open(&peer.loop, peer.path, peer.ring, NULL);
    static const uint8_t typed[CONSOLE_INPUT_MAX];

    ck_assert_int_eq(console_link_write(link, typed, sizeof(typed)), 0);
    ck_assert_int_eq(console_link_write(link, "x", 1), BERTH_EFULL);

    peer_listen(&peer);
    while (!console_link_connected(link)) {
        uv_run(&peer.loop, UV_RUN_ONCE);
    }
    peer.fd = accept(peer.listener, NULL, NULL);
    close(peer.fd);
    peer.fd = -1;
    while (console_link_connected(link)) {
        uv_run(&peer.loop, UV_RUN_ONCE);
    }
    ck_assert_int_eq(console_link_write(link, "x", 1), BERTH_ECLOSED);
    console_link_close(link);
    peer_fini(&peer);
}
END_TEST

START_TEST(a_link_can_be_closed_at_any_step)
{
    struct peer peer;
    peer_init(&peer);
    peer_listen(&peer);
    struct console_link *link = console_link_open(&peer.loop, peer.path, peer.ring, NULL);
    for (int step = 0; step < _i; step++) {
        uv_run(&peer.loop, UV_RUN_NOWAIT);
    }

    console_link_close(link);

    peer_fini(&peer); /* nothing is left on the loop */
}
END_TEST

/* The log grows to `gained` when the first bytes, `chunk`, have come over the socket. */
static const struct {
    const char *before, *gained, *chunk, *want;
} gaps[] = {
    {"one ", "one ", "two", "one two"},             /* nothing was missed */
    {"one ", "one two ", "three", "one two three"}, /* not in the log yet */
    {"one ", "one two three", "three", "one two three"},
    {"one ", "one two thr", "three", "one two three"}, /* in it by half */
    {"", "two", "two", "two"},
    {"one ", "", "two", "one two"}, /* trimmed meanwhile */
};

START_TEST(a_refilled_console_has_everything_once)
{
    struct peer peer;
    uint64_t offset = 0;
    size_t size = strlen(gaps[_i].want);
    peer_init(&peer);
    peer_listen(&peer);
    temp_dir_write(&peer.dir, "serial.log", gaps[_i].before);
    char *log = temp_dir_path(&peer.dir, "serial.log");
    struct console_link *link = console_link_open(&peer.loop, peer.path, peer.ring, NULL);

    console_link_refill(link, log);
    ck_assert_str_eq(read_all(peer.ring, &offset), gaps[_i].before);
    while (!console_link_connected(link)) {
        uv_run(&peer.loop, UV_RUN_ONCE);
    }
    peer.fd = accept(peer.listener, NULL, NULL);
    ck_assert_int_eq(write(peer.fd, gaps[_i].chunk, strlen(gaps[_i].chunk)),
                     (ssize_t)strlen(gaps[_i].chunk));
    temp_dir_write(&peer.dir, "serial.log", gaps[_i].gained);
    while (console_ring_end(peer.ring) < size) {
        uv_run(&peer.loop, UV_RUN_ONCE);
    }

    offset = 0;
    ck_assert_str_eq(read_all(peer.ring, &offset), gaps[_i].want);
    ck_assert_int_eq(write(peer.fd, "!", 1), 1); /* from now on the socket is all */
    while (console_ring_end(peer.ring) == size) {
        uv_run(&peer.loop, UV_RUN_ONCE);
    }
    ck_assert_str_eq(read_all(peer.ring, &offset), "!");
    console_link_close(link);
    free(log);
    peer_fini(&peer);
}
END_TEST

static void wait_ring(struct peer *peer, const char *want)
{
    uint64_t offset = 0;
    while (console_ring_end(peer->ring) < strlen(want)) {
        uv_run(&peer->loop, UV_RUN_ONCE);
    }
    ck_assert_str_eq(read_all(peer->ring, &offset), want);
}

/* A prompt, of which the log had a part when it was read. Row 0: nobody listens on the
 * socket; 1: who listens there has not taken the connection; 2: it has. */
START_TEST(what_the_log_gains_is_there_though_the_guest_is_silent)
{
    struct peer peer;
    peer_init(&peer);
    temp_dir_write(&peer.dir, "serial.log", "lo");
    char *log = temp_dir_path(&peer.dir, "serial.log");
    struct console_link *link = console_link_open(&peer.loop, peer.path, peer.ring, NULL);
    console_link_refill(link, log);
    wait_ring(&peer, "lo");
    if (_i > 0) {
        peer_listen(&peer);
        while (!console_link_connected(link)) {
            uv_run(&peer.loop, UV_RUN_ONCE);
        }
    }
    peer.fd = _i > 1 ? accept(peer.listener, NULL, NULL) : -1;

    temp_dir_write(&peer.dir, "serial.log", "login");
    wait_ring(&peer, "login");
    temp_dir_write(&peer.dir, "serial.log", "login:");
    wait_ring(&peer, "login:");

    if (_i > 0) { /* no end of the log is taken for what comes now */
        peer.fd = peer.fd < 0 ? accept(peer.listener, NULL, NULL) : peer.fd;
        ck_assert_int_eq(write(peer.fd, ":-)", 3), 3);
        temp_dir_write(&peer.dir, "serial.log", "login::-)");
        wait_ring(&peer, "login::-)");
    }
    console_link_close(link);
    free(log);
    peer_fini(&peer);
}
END_TEST

/* More at once than one read takes, byte by byte as a serial port has it and in one. */
START_TEST(what_a_guest_says_in_one_breath_is_there_once)
{
    static char log_text[20000];
    static char said[sizeof(log_text)];
    const size_t burst = _i == 0 ? 150 : 15000;
    const size_t piece = _i == 0 ? 1 : burst;
    struct peer peer;
    uint64_t offset = 0;
    peer_init(&peer);
    peer_listen(&peer);
    temp_dir_write(&peer.dir, "serial.log", "");
    char *log = temp_dir_path(&peer.dir, "serial.log");
    struct console_link *link = console_link_open(&peer.loop, peer.path, peer.ring, NULL);
    console_link_refill(link, log);
    while (!console_link_connected(link)) {
        uv_run(&peer.loop, UV_RUN_ONCE);
    }
    peer.fd = accept(peer.listener, NULL, NULL);
    memcpy(log_text, "missed ", 7);
    for (size_t i = 0; i < burst; i++) {
        log_text[7 + i] = (char)('A' + (i + i / 26) % 26);
    }
    log_text[7 + burst] = '\0';

    for (size_t at = 0; at < burst; at += piece) {
        ck_assert_int_eq(write(peer.fd, log_text + 7 + at, piece), (ssize_t)piece);
    }
    temp_dir_write(&peer.dir, "serial.log", log_text);
    ck_assert_int_eq(write(peer.fd, "!", 1), 1);
    do {
        uv_run(&peer.loop, UV_RUN_ONCE);
        offset = console_ring_end(peer.ring) - (console_ring_end(peer.ring) > 0);
    } while (strcmp(read_all(peer.ring, &offset), "!") != 0);

    offset = 0;
    said[console_ring_read(peer.ring, &offset, said, sizeof(said) - 1)] = '\0';
    ck_assert_uint_eq(console_ring_end(peer.ring), 7 + burst + 1);
    ck_assert(strcmp(said, strcat(log_text, "!")) == 0); /* long for a message */
    console_link_close(link);
    free(log);
    peer_fini(&peer);
}
END_TEST

START_TEST(a_path_too_long_for_a_socket_is_refused)
{
    struct peer peer;
    peer_init(&peer);
    char path[200];
    struct err err = {0};
    memset(path, 'x', sizeof(path) - 1);
    path[sizeof(path) - 1] = '\0';

    ck_assert_ptr_null(console_link_open(&peer.loop, path, peer.ring, &err));
    ck_assert_int_eq(err.code, -ENAMETOOLONG);
    peer_fini(&peer);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("console_ring");
    TCase *ring = tcase_create("ring");
    tcase_add_test(ring, a_vm_that_says_little_takes_little);
    tcase_add_test(ring, a_ring_gets_no_huge_pages);
    tcase_add_test(ring, what_was_appended_is_read_from_any_offset);
    tcase_add_test(ring, a_slow_reader_is_told_of_the_gap);
    tcase_add_loop_test(ring, the_last_line_is_fit_for_people, 0,
                        sizeof(last_lines) / sizeof(last_lines[0]));
    tcase_add_test(ring, a_reader_may_close_itself_and_others_when_told);
    tcase_add_test(ring, too_many_readers_are_refused);
    tcase_add_test(ring, a_ring_lives_as_long_as_its_readers);
    suite_add_tcase(suite, ring);
    TCase *link = tcase_create("link");
    tcase_set_timeout(link, 60);
    tcase_add_test(link, output_reaches_the_ring_and_input_the_vm);
    tcase_add_test(link, input_has_a_limit_and_ends_with_the_peer);
    tcase_add_loop_test(link, a_link_can_be_closed_at_any_step, 0, 5);
    tcase_add_loop_test(link, a_refilled_console_has_everything_once, 0,
                        sizeof(gaps) / sizeof(gaps[0]));
    tcase_add_loop_test(link, what_the_log_gains_is_there_though_the_guest_is_silent, 0,
                        3);
    tcase_add_loop_test(link, what_a_guest_says_in_one_breath_is_there_once, 0, 2);
    tcase_add_test(link, a_path_too_long_for_a_socket_is_refused);
    suite_add_tcase(suite, link);
    return test_main_run(suite);
}
